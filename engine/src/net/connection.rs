//! One connection on the core of its shard: bytes between its socket and its session, as long as there is room.
//!
//! What events of the session lead to is in [`super::feed`].

use super::Handover;
use super::counts::Permit;
use super::feed::NetFeed;
use super::quota::Quota;
use super::transport::Transport;
use corefold_shards::batch::{BATCH_ROWS_MAX, UnverifiedBatch};
use corefold_shards::live_lanes::LaneId;
use corefold_shards::session::{Code, Now, Overdue, Place, Refusal, ServerEvent, ServerSession, credit_cost};
use futures_lite::future::poll_fn;
use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown, TcpStream as TcpSocket};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bytes read before others get their turn.
const READ_BUDGET: usize = 1 << 20;

/// What a read takes of it at least: whoever sends small frames only makes many of them.
const READ_COST_MIN: usize = 1 << 12;

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
    /// What it is told of ports and lanes.
    pub place: Place,
    /// How much it may send.
    pub quota: Option<Arc<Quota>>,
    /// Room that is held for the batch that is being read.
    pub held: u64,
    /// Whether it waits for room, or until it has sent no more than it may.
    pub is_blocked: bool,
    /// Whether it waits for room.
    pub wants_room: bool,
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
    pub fn new(handover: Handover) -> (TcpSocket, Transport, Connection) {
        let Handover { socket, transport, session, lane, stream, place, quota, permit, .. } = handover;
        let connection = Connection {
            session,
            lane,
            stream,
            place,
            quota,
            held: 0,
            is_blocked: false,
            wants_room: false,
            is_gone: false,
            over_since_ns: None,
            is_given_up: false,
            waker: None,
            permit,
        };
        (socket, transport, connection)
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

    /// Charges the rows that a batch claims to have. They are not checked yet; what claims wrong ones is refused later.
    fn charge_rows(&self, event: &ServerEvent, now_ns: u64) {
        let (Some(quota), ServerEvent::Batch(received) | ServerEvent::Expired(received)) = (&self.quota, event) else {
            return;
        };
        let claimed = UnverifiedBatch::new(received.bytes.as_slice()).extent().map_or(0, |extent| extent.rows);
        quota.charge_rows(claimed.min(BATCH_ROWS_MAX as u64) + u64::from(received.stamp.rejected), now_ns);
    }

    /// Has the connection look again: there is something to say, or room.
    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Serves a connection until it is over.
pub async fn serve(
    socket: TcpSocket,
    mut transport: Transport,
    connection: Rc<RefCell<Connection>>,
    feed: Rc<RefCell<NetFeed>>,
) {
    let mut stream = TcpStream::from(socket2::Socket::from(socket));
    let mut serving = Serving { stream: &mut stream, transport: &mut transport, connection: &connection, feed: &feed };
    poll_fn(|context| serving.poll(context)).await;
    feed.borrow_mut().close(&connection);
    transport.close();
    poll_fn(|context| Poll::Ready(transport.flush(|bytes| write_now(&mut stream, context, bytes)).is_ok())).await;
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

/// What a socket takes without waiting; the task is woken when it takes more.
fn write_now(stream: &mut TcpStream, context: &mut Context<'_>, bytes: &[u8]) -> io::Result<usize> {
    match Pin::new(stream).poll_write(context, bytes) {
        Poll::Ready(written) => written,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

/// What a socket has without waiting; the task is woken when it has more.
fn read_now(stream: &mut TcpStream, context: &mut Context<'_>, space: &mut [u8]) -> io::Result<usize> {
    match Pin::new(stream).poll_read(context, space) {
        Poll::Ready(read) => read,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

struct Serving<'a> {
    stream: &'a mut TcpStream,
    transport: &'a mut Transport,
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
                    // What was read may have wanted an answer by TLS itself.
                    if matches!(self.write(context), Look::Over) {
                        return Poll::Ready(());
                    }
                    self.connection.borrow_mut().waker = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }

    fn write(&mut self, context: &mut Context<'_>) -> Look {
        let mut connection = self.connection.borrow_mut();
        let mut write = |bytes: &[u8]| write_now(self.stream, context, bytes);
        loop {
            let is_given_up = connection.is_given_up;
            let waits = || if is_given_up { Look::Over } else { Look::Waits };
            match self.transport.flush(&mut write) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return waits(),
                Err(_) => return Look::Over,
            }
            let output = connection.session.output();
            if output.is_empty() {
                return if connection.session.is_done() { Look::Over } else { Look::Waits };
            }
            match self.transport.write(output, &mut write) {
                Ok(count) if count > 0 => connection.session.sent(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return waits(),
                Ok(_) | Err(_) => return Look::Over,
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
            let quota = connection.quota.clone();
            let now_ns = feed.now().steady_ns;
            if let Some(wait_ns) = quota.as_ref().and_then(|quota| quota.wait_ns(now_ns)) {
                feed.wake_at(now_ns.saturating_add(wait_ns));
                (connection.is_blocked, connection.wants_room) = (true, false);
                return Look::Waits;
            }
            connection.is_blocked = !feed.hold(cost);
            connection.wants_room = connection.is_blocked;
            if connection.is_blocked {
                return Look::Waits;
            }
            if let Some(quota) = quota {
                quota.charge_bytes(size as u64, now_ns);
            }
            connection.held = cost;
            let memory = feed.spare();
            connection.session.lend(memory);
        }
        let Some(space) = connection.session.space() else { return Look::Waits };
        match self.transport.read(space, |space| read_now(self.stream, context, space)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Look::Waits,
            Ok(count) if count > 0 => {
                *budget = budget.saturating_sub(count.max(READ_COST_MIN));
                let filled = connection.session.filled(count, feed.now());
                match filled {
                    Ok(None) => {}
                    Ok(Some(event)) => {
                        connection.charge_rows(&event, feed.now().steady_ns);
                        feed.on_event(self.connection, &mut connection, event);
                    }
                    Err(refusal) => feed.count_refusal(&connection, &refusal),
                }
                Look::Goes
            }
            Ok(_) => Look::Over,
            Err(error) => {
                if error.kind() == ErrorKind::InvalidData {
                    feed.count_refusal(&connection, &Refusal::new(Code::Protocol, error.to_string()));
                }
                Look::Over
            }
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
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = TcpSocket::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (transport, place, lane) = (Transport::Plain, Place::default(), LaneId { producer: 1, lane: 0 });
        let (stream, attempt, quota) = (0, 0, None);
        let handover = Handover { socket, transport, session, lane, stream, attempt, place, quota, permit };
        let (_, _, mut connection) = Connection::new(handover);
        connection.session.refuse(&Refusal::new(Code::Protocol, "garbage"));
        for seconds in 10..=15 {
            assert_eq!(connection.check_time(at(seconds), false), Ok(()));
            assert!(!connection.is_given_up && !connection.session.output().is_empty());
        }
        assert_eq!(connection.check_time(at(16), false), Ok(()));
        assert!(connection.is_given_up);
    }
}
