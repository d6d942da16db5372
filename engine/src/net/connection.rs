//! One connection on the core of its shard: bytes between its socket and its session, as long as there is room.
//!
//! What events of the session lead to is in [`super::feed`].

use super::counts::Permit;
use super::feed::NetFeed;
use corefold_shards::live_lanes::LaneId;
use corefold_shards::session::{Now, Overdue, ServerSession, credit_cost};
use futures_lite::future::poll_fn;
use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use std::cell::RefCell;
use std::net::{IpAddr, Shutdown};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bytes read before others get their turn.
const READ_BUDGET: usize = 1 << 20;

/// How long a connection that is refused is still read from, so that the reason arrives and is not swept away.
const LINGER: Duration = Duration::from_millis(500);

/// How long a session that is over may have something left to say.
const FAREWELL_MAX_NS: u64 = 5_000_000_000;

/// What a connection is to its feed.
#[derive(Debug)]
pub struct Connection {
    /// Its session.
    pub session: ServerSession,
    /// Its lane.
    pub lane: LaneId,
    /// Index of its stream.
    pub stream: usize,
    /// Room that is held for the batch that is being read.
    pub held: u64,
    /// Whether it waits for room.
    pub is_blocked: bool,
    /// Whether the socket is gone.
    pub is_gone: bool,
    /// Since when its session has been over.
    over_since_ns: Option<u64>,
    /// Nobody waits for its last words to be taken any more.
    is_given_up: bool,
    waker: Option<Waker>,
    permit: Permit,
}

impl Connection {
    /// A connection that was let in.
    pub fn new(session: ServerSession, lane: LaneId, stream: usize, permit: Permit) -> Connection {
        let (held, is_blocked, is_gone, over_since_ns, is_given_up, waker) = (0, false, false, None, false, None);
        Connection { session, lane, stream, held, is_blocked, is_gone, over_since_ns, is_given_up, waker, permit }
    }

    /// Of the client.
    pub fn address(&self) -> IpAddr {
        self.permit.address()
    }

    /// Holds it against the clock. `is_room_wanted` if others wait for room.
    pub fn check_time(&mut self, now: Now, is_room_wanted: bool) -> Result<(), Overdue> {
        let mut checked = self.session.check_time(now);
        if checked.is_ok() && is_room_wanted && self.held > 0 {
            checked = self.session.check_haste(now);
        }
        if self.session.is_closed() {
            // Whoever does not even take the reason does not keep the connection.
            let since = *self.over_since_ns.get_or_insert(now.steady_ns);
            self.is_given_up = now.steady_ns - since > FAREWELL_MAX_NS;
        }
        if !self.session.output().is_empty() {
            self.wake();
        }
        checked
    }

    /// Has the connection look again: there is something to say, or room.
    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Serves a connection until it is over.
pub async fn serve(socket: std::net::TcpStream, connection: Rc<RefCell<Connection>>, feed: Rc<RefCell<NetFeed>>) {
    let mut stream = TcpStream::from(socket2::Socket::from(socket));
    let mut serving = Serving { stream: &mut stream, connection: &connection, feed: &feed };
    poll_fn(|context| serving.poll(context)).await;
    feed.borrow_mut().close(&connection);
    // Nothing depends on the other end from here on.
    if stream.shutdown(Shutdown::Write).await.is_ok() {
        let timer = glommio::timer::sleep(LINGER);
        futures_lite::future::race(timer, discard(&mut stream)).await;
    }
}

/// Reads until the other end closes too: closing with bytes unread would take back what was said last.
async fn discard(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    let read = |context: &mut Context<'_>| Pin::new(&mut *stream).poll_read(context, &mut bytes);
    let mut read = read;
    while poll_fn(&mut read).await.is_ok_and(|count| count > 0) {
        futures_lite::future::yield_now().await;
    }
}

struct Serving<'a> {
    stream: &'a mut TcpStream,
    connection: &'a Rc<RefCell<Connection>>,
    feed: &'a Rc<RefCell<NetFeed>>,
}

/// What came of a look at one half of the connection.
enum Look {
    Goes,
    Waits,
    Over,
}

impl Serving<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut budget = READ_BUDGET;
        loop {
            if matches!(self.write(context), Look::Over) {
                return Poll::Ready(());
            }
            match self.read(context, &mut budget) {
                Look::Over => return Poll::Ready(()),
                Look::Goes if budget > 0 => {}
                Look::Goes => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Look::Waits => {
                    self.connection.borrow_mut().waker = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }

    fn write(&mut self, context: &mut Context<'_>) -> Look {
        let mut connection = self.connection.borrow_mut();
        loop {
            let is_given_up = connection.is_given_up;
            let output = connection.session.output();
            if output.is_empty() {
                return if connection.session.is_done() { Look::Over } else { Look::Waits };
            }
            match Pin::new(&mut *self.stream).poll_write(context, output) {
                Poll::Ready(Ok(count)) if count > 0 => connection.session.sent(count),
                Poll::Ready(_) => return Look::Over,
                Poll::Pending if is_given_up => return Look::Over,
                Poll::Pending => return Look::Waits,
            }
        }
    }

    fn read(&mut self, context: &mut Context<'_>, budget: &mut usize) -> Look {
        let mut connection = self.connection.borrow_mut();
        let mut feed = self.feed.borrow_mut();
        if feed.is_stopping() {
            return Look::Waits;
        }
        if let Some(size) = connection.session.batch_ahead().filter(|_| connection.held == 0) {
            let cost = credit_cost(size);
            connection.is_blocked = !feed.hold(cost);
            if connection.is_blocked {
                return Look::Waits;
            }
            connection.held = cost;
            let memory = feed.spare();
            connection.session.lend(memory);
        }
        let Some(space) = connection.session.space() else { return Look::Waits };
        match Pin::new(&mut *self.stream).poll_read(context, space) {
            Poll::Pending => Look::Waits,
            Poll::Ready(Ok(count)) if count > 0 => {
                *budget = budget.saturating_sub(count);
                let filled = connection.session.filled(count, feed.now());
                match filled {
                    Ok(None) => {}
                    Ok(Some(event)) => feed.on_event(self.connection, &mut connection, event),
                    Err(refusal) => feed.count_refusal(&connection, &refusal),
                }
                Look::Goes
            }
            Poll::Ready(_) => Look::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenLimits;
    use crate::net::counts::Gate;
    use crate::net::session_limits;
    use corefold_aggregator::time::EventTime;
    use corefold_shards::session::{Code, Refusal};

    /// It takes none of what is said to it: the place is another one's after a while.
    #[test]
    fn who_does_not_read_why_it_is_refused_does_not_keep_its_place() {
        let at = |seconds: u64| Now { steady_ns: seconds * 1_000_000_000, wall: EventTime(0) };
        let permit = Gate::new(1, 1).enter(IpAddr::from([127, 0, 0, 1])).expect("room");
        let session = ServerSession::new(session_limits(&ListenLimits::default()), at(0));
        let mut connection = Connection::new(session, LaneId { producer: 1, lane: 0 }, 0, permit);
        connection.session.refuse(&Refusal::new(Code::Protocol, "garbage"));
        for seconds in 10..=15 {
            assert_eq!(connection.check_time(at(seconds), false), Ok(()));
            assert!(!connection.is_given_up && !connection.session.output().is_empty());
        }
        assert_eq!(connection.check_time(at(16), false), Ok(()));
        assert!(connection.is_given_up);
    }
}
