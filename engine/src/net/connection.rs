//! One connection on the core of its shard: bytes between its socket and its session, as long as there is room.
//!
//! What events of the session lead to is in [`super::feed`].

use super::counts::Permit;
use super::feed::NetFeed;
use corefold_shards::live_lanes::LaneId;
use corefold_shards::session::{Place, ServerSession, credit_cost};
use futures_lite::future::poll_fn;
use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use std::cell::RefCell;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bytes read before others get their turn.
const READ_BUDGET: usize = 1 << 20;

/// How long a connection that is refused is still read from, so that the reason arrives and is not swept away.
const LINGER: Duration = Duration::from_millis(500);

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
    /// Room that is held for the batch that is being read.
    pub held: u64,
    /// Whether it waits for room.
    pub is_blocked: bool,
    /// Whether the socket is gone.
    pub is_gone: bool,
    waker: Option<Waker>,
    _permit: Permit,
}

impl Connection {
    /// A connection that was let in.
    pub fn new(session: ServerSession, lane: LaneId, stream: usize, place: Place, permit: Permit) -> Connection {
        let (held, is_blocked, is_gone, waker) = (0, false, false, None);
        Connection { session, lane, stream, place, held, is_blocked, is_gone, waker, _permit: permit }
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
            let output = connection.session.output();
            if output.is_empty() {
                return if connection.session.is_done() { Look::Over } else { Look::Waits };
            }
            match Pin::new(&mut *self.stream).poll_write(context, output) {
                Poll::Ready(Ok(count)) if count > 0 => connection.session.sent(count),
                Poll::Ready(_) => return Look::Over,
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
                    Err(refusal) => feed.count_refusal(&refusal),
                }
                Look::Goes
            }
            Poll::Ready(_) => Look::Over,
        }
    }
}
