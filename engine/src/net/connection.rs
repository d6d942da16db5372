//! One connection on the core of its shard, as its feed sees it: the session, what it holds, and whether it is wanted.
//!
//! Its bytes and its socket are [`super::sockets`]'.

use super::Handover;
use super::counts::Permit;
use super::quota::Quota;
use super::sockets::ReadyMark;
use super::transport::Transport;
use corefold_shards::batch::{BATCH_ROWS_MAX, UnverifiedBatch};
use corefold_shards::live_lanes::LaneId;
use corefold_shards::session::{Now, Overdue, Place, ServerEvent, ServerSession};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;

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
    /// Its place among those that are to be looked at, once it has one.
    pub mark: Option<ReadyMark>,
    permit: Permit,
}

impl Connection {
    /// A connection that was let in.
    pub fn new(handover: Handover) -> (TcpStream, Transport, Connection) {
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
            mark: None,
            permit,
        };
        (socket, transport, connection)
    }

    /// Of the client.
    pub fn address(&self) -> IpAddr {
        self.permit.address()
    }

    /// Whether nobody waits for its last words to be taken any more.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up
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
    pub fn charge_rows(&self, event: &ServerEvent, now_ns: u64) {
        let (Some(quota), ServerEvent::Batch(received) | ServerEvent::Expired(received)) = (&self.quota, event) else {
            return;
        };
        let claimed = UnverifiedBatch::new(received.bytes.as_slice()).extent().map_or(0, |extent| extent.rows);
        quota.charge_rows(claimed.min(BATCH_ROWS_MAX as u64) + u64::from(received.stamp.rejected), now_ns);
    }

    /// Has the connection look again: there is something to say, or room.
    pub fn wake(&mut self) {
        if let Some(mark) = &mut self.mark {
            mark.set();
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
        let socket = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
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
