//! The server's end of a session as a value: bytes and times in, events and bytes out.
//!
//! Who may come in, what becomes of a batch and when it is durable is the owner's business. Nothing here waits, and
//! nothing grows: at most one frame is read at a time, and what is to be said is kept as numbers until there is room.

use super::frame::{FrameError, FrameKind, FrameReader};
use super::limits::{Now, Overdue, SessionLimits};
use super::message::{self, Code, Hello, Level, MessageError, Place, Progress, Refusal, Welcome};
use super::{LANE_END, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, credit_cost, producer_of};
use crate::batch::wire::Stamp;
use crate::batch::{AlignedBytes, UnverifiedBatch};
use corefold_aggregator::time::EventTime;

/// How often a client without news gets a sign of life.
const SIGN_OF_LIFE_NS: u64 = 5_000_000_000;

/// Something for the owner of a session.
#[derive(Debug)]
pub enum ServerEvent {
    /// A client wants in: answer with [`ServerSession::welcome`] or [`ServerSession::refuse`].
    Hello(Hello),
    /// A batch to fold, or to acknowledge once more.
    Batch(Received),
    /// A batch whose deadline has passed; it is to be counted as shed. The client has been told.
    Expired(Received),
    /// The client will send nothing more.
    Goodbye,
}

/// Pings that a client may send within a second. It needs one in many.
const PINGS_MAX: u32 = 64;

/// A batch as it came. Its columns are not verified.
#[derive(Debug)]
pub struct Received {
    /// Its bytes.
    pub bytes: AlignedBytes,
    /// Its stamp: producer, lane, sequence and parts are those of the session.
    pub stamp: Stamp,
    /// What it has taken of the credit.
    pub cost: u64,
    /// Whether a batch of this sequence has come before.
    pub is_duplicate: bool,
}

/// What a client is told that is let in.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// The sequence that is expected.
    pub next: u64,
    /// Every sequence below is durable.
    pub durable: u64,
    /// Events of panes that end at or before it are late.
    pub watermark: EventTime,
    /// Whether nothing more is taken.
    pub has_ended: bool,
    /// Room for batches, in bytes.
    pub room: u64,
    /// Where the lane lives.
    pub place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    AwaitHello,
    Deciding,
    Open,
    /// The client has said goodbye: what it sent becomes durable, then the session ends.
    Leaving,
    Closed,
}

/// One session.
#[derive(Debug)]
pub struct ServerSession {
    limits: SessionLimits,
    state: State,
    reader: FrameReader,
    out: Vec<u8>,
    out_at: usize,
    lane: (u64, u32),
    fingerprint: u64,
    /// Version that the client asked for.
    version: u32,
    level: Level,
    /// How far the lane is, and what has been said of it.
    now: Progress,
    told: Progress,
    has_ended: bool,
    /// Credit that batches have taken, and how much of that is free again.
    taken: u64,
    freed: u64,
    began_ns: u64,
    heard_ns: u64,
    spoke_ns: u64,
    /// When the frame that is being read began, and how many bytes of it came.
    frame: Option<(u64, u64)>,
    /// When the second began in which pings are counted, and how many came.
    pings: (u64, u32),
}

impl ServerSession {
    /// A session that begins now.
    ///
    /// Panics if the limits make no sense.
    pub fn new(limits: SessionLimits, now: Now) -> ServerSession {
        assert_eq!(limits.check(), Ok(()), "the limits of a session make sense");
        ServerSession {
            limits,
            state: State::AwaitHello,
            reader: FrameReader::new(limits.batch_size_max),
            out: Vec::new(),
            out_at: 0,
            lane: (0, 0),
            fingerprint: 0,
            version: PROTOCOL_VERSION,
            level: Level::Durable,
            now: Progress::default(),
            told: Progress::default(),
            has_ended: false,
            taken: 0,
            freed: 0,
            began_ns: now.steady_ns,
            heard_ns: now.steady_ns,
            spoke_ns: now.steady_ns,
            frame: None,
            pings: (now.steady_ns, 0),
        }
    }

    /// Where the next bytes are to be read to; `None` while nothing is to be read.
    pub fn space(&mut self) -> Option<&mut [u8]> {
        matches!(self.state, State::AwaitHello | State::Open).then(|| self.reader.space())
    }

    /// Bytes of the batch that comes next: see [`FrameReader::batch_ahead`].
    pub fn batch_ahead(&self) -> Option<usize> {
        self.reader.batch_ahead()
    }

    /// Memory for it.
    pub fn lend(&mut self, memory: AlignedBytes) {
        self.reader.lend(memory);
    }

    /// Takes note of `count` bytes read into [`ServerSession::space`]. After an error the session has ended; what is
    /// left to be written says why.
    pub fn filled(&mut self, count: usize, now: Now) -> Result<Option<ServerEvent>, Refusal> {
        self.heard_ns = now.steady_ns;
        let (began, bytes) = self.frame.unwrap_or((now.steady_ns, 0));
        self.frame = Some((began, bytes + count as u64));
        let event = self.take(count, now);
        if let Err(refusal) = &event {
            self.refuse(refusal);
        }
        event
    }

    /// From here on somebody with another clock looks after the session.
    pub fn hand_over(&mut self, now: Now) {
        (self.began_ns, self.heard_ns, self.spoke_ns) = (now.steady_ns, now.steady_ns, now.steady_ns);
        self.frame = self.frame.map(|(_, bytes)| (now.steady_ns, bytes));
    }

    /// Lets the client in.
    pub fn welcome(&mut self, admission: &Admission) {
        let Admission { next, durable, watermark, has_ended, room, place } = *admission;
        assert_eq!(self.state, State::Deciding, "a hello is answered once");
        assert!(durable <= next, "only what has come can be durable");
        self.state = State::Open;
        self.has_ended = has_ended;
        self.now = Progress { received: next, written: durable, durable, credit: 0 };
        self.grant(room);
        self.told = self.now;
        let welcome = Welcome {
            version: self.version,
            batch_size_max: self.limits.batch_size_max as u32,
            next,
            durable,
            credit: self.now.credit,
            watermark,
            idle_max_ms: u32::try_from(self.limits.idle_max_ns / 1_000_000).unwrap_or(u32::MAX),
            has_ended,
            place,
        };
        welcome.write(&mut self.out);
    }

    /// Ends the session with a reason, or only tells it if it is none that ends sessions.
    pub fn refuse(&mut self, refusal: &Refusal) {
        if self.state != State::Closed {
            let is_open = matches!(self.state, State::Open | State::Leaving);
            if is_open && refusal.code.ends_session() && self.now != self.told {
                // The last word on what has come so far.
                self.told = self.now;
                self.now.write(&mut self.out);
            }
            refusal.write(&mut self.out);
            if refusal.code.ends_session() {
                self.state = State::Closed;
            }
        }
    }

    /// Every batch below `written` is written, and every one below `durable` is durable.
    pub fn advance(&mut self, written: u64, durable: u64) {
        self.now.durable = self.now.durable.max(durable);
        self.now.written = self.now.written.max(written).max(self.now.durable);
        // Of a lane that was taken over in the middle, more may become durable than came in this session.
        self.now.received = self.now.received.max(self.now.written);
    }

    /// A batch that took `cost` of the credit takes no room any more.
    pub fn free(&mut self, cost: u64) {
        self.freed += cost;
        assert!(self.freed <= self.taken, "no more is freed than was taken");
    }

    /// Gives credit for `room` bytes beyond what has been freed, within the limits. Credit is never taken back.
    pub fn grant(&mut self, room: u64) {
        let room = room.clamp(self.limits.credit_min(), self.limits.credit_max);
        self.now.credit = self.now.credit.max(self.freed + room);
    }

    /// What is to be written next; call [`ServerSession::sent`] for what was.
    pub fn output(&mut self) -> &[u8] {
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out_at = 0;
            self.tell();
        }
        &self.out[self.out_at..]
    }

    /// `count` bytes of [`ServerSession::output`] were written.
    pub fn sent(&mut self, count: usize) {
        self.out_at += count;
        assert!(self.out_at <= self.out.len(), "no more is sent than there is");
    }

    /// Whether the session is over and all is said.
    pub fn is_done(&self) -> bool {
        self.state == State::Closed && self.out_at == self.out.len()
    }

    /// Whether nothing is taken any more; something may be left to say.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether batches are taken.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Ends the session if it has taken too long. A client that waits for news is given a sign of life.
    pub fn check_time(&mut self, now: Now) -> Result<(), Overdue> {
        let is_open = matches!(self.state, State::Open | State::Leaving);
        if is_open && now.steady_ns.saturating_sub(self.spoke_ns) > SIGN_OF_LIFE_NS {
            self.spoke_ns = now.steady_ns;
            if self.out_at == self.out.len() {
                message::write_ping(&mut self.out);
            }
        }
        if self.is_open() && self.reader.batch_ahead().is_some() {
            // A batch that waits for room here is not the client's fault, however long that takes.
            self.heard_ns = now.steady_ns;
            self.frame = Some((now.steady_ns, 0));
        }
        self.end_overdue(self.overdue(now))
    }

    /// Others wait for the room that is held for the batch which is being read: it has the grace and no more.
    pub fn check_haste(&mut self, now: Now) -> Result<(), Overdue> {
        let began = self.frame.filter(|_| self.is_open() && self.reader.batch_ahead().is_none());
        let lasted = began.map_or(0, |(began, _)| now.steady_ns.saturating_sub(began));
        self.end_overdue((lasted > self.limits.slow_grace_ns).then_some(Overdue::Room))
    }

    fn end_overdue(&mut self, overdue: Option<Overdue>) -> Result<(), Overdue> {
        let Some(overdue) = overdue else { return Ok(()) };
        self.refuse(&Refusal::new(Code::TooSlow, overdue.to_string()));
        Err(overdue)
    }

    fn overdue(&self, now: Now) -> Option<Overdue> {
        let since = |then: u64| now.steady_ns.saturating_sub(then);
        match self.state {
            State::AwaitHello if since(self.began_ns) > self.limits.hello_max_ns => Some(Overdue::Hello),
            State::AwaitHello | State::Open => {
                if since(self.heard_ns) > self.limits.idle_max_ns {
                    return Some(Overdue::Silence);
                }
                let (began, bytes) = self.frame?;
                let lasted = since(began);
                let due = u128::from(self.limits.rate_min) * u128::from(lasted) / 1_000_000_000;
                let is_slow = lasted > self.limits.slow_grace_ns && u128::from(bytes) < due;
                is_slow.then_some(Overdue::Rate)
            }
            State::Deciding | State::Leaving | State::Closed => None,
        }
    }

    fn take(&mut self, count: usize, now: Now) -> Result<Option<ServerEvent>, Refusal> {
        let kind = self.reader.filled(count).map_err(|error| {
            let is_large = matches!(error, FrameError::Size { size, max } if size > max);
            Refusal::new(if is_large { Code::Limit } else { Code::Protocol }, error.to_string())
        })?;
        let no_hello = || Refusal::new(Code::Protocol, "the first frame is no hello");
        let Some(kind) = kind else {
            // Before anything of it is read: of whoever has not said hello nobody counts the memory.
            let is_batch = self.state == State::AwaitHello && self.reader.batch_ahead().is_some();
            return if is_batch { Err(no_hello()) } else { Ok(None) };
        };
        self.frame = None;
        let wrong = |error: MessageError| Refusal::new(Code::Protocol, error.to_string());
        match (self.state, kind) {
            (State::AwaitHello, FrameKind::Hello) => {
                let hello = Hello::read(self.reader.control()).map_err(wrong)?;
                self.version = hello.version;
                if !(PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION).contains(&hello.version) {
                    let text = format!(
                        "protocol version {} is not spoken here, only {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}",
                        hello.version
                    );
                    return Err(Refusal::new(Code::Version, text));
                }
                self.lane = (producer_of(&hello.producer, hello.fingerprint), hello.lane);
                (self.fingerprint, self.level) = (hello.fingerprint, hello.level);
                self.state = State::Deciding;
                Ok(Some(ServerEvent::Hello(hello)))
            }
            (State::Open, FrameKind::Batch) => self.take_batch(now).map(Some),
            (State::Open, FrameKind::Goodbye) => {
                message::read_bare(self.reader.control()).map_err(wrong)?;
                self.state = State::Leaving;
                Ok(Some(ServerEvent::Goodbye))
            }
            (State::Open, FrameKind::Ping) => {
                message::read_bare(self.reader.control()).map_err(wrong)?;
                self.count_ping(now)?;
                // One answer for all that came since the last one was written.
                if self.out_at == self.out.len() {
                    message::write_ping(&mut self.out);
                }
                Ok(None)
            }
            (State::AwaitHello, _) => Err(no_hello()),
            (_, kind) => Err(Refusal::new(Code::Protocol, format!("a client sends no {kind:?} here"))),
        }
    }

    /// Pings take no credit, so they have a limit of their own.
    fn count_ping(&mut self, now: Now) -> Result<(), Refusal> {
        let (since_ns, count) = self.pings;
        let is_over = now.steady_ns.saturating_sub(since_ns) >= 1_000_000_000;
        self.pings = if is_over { (now.steady_ns, 1) } else { (since_ns, count + 1) };
        if self.pings.1 > PINGS_MAX {
            return Err(Refusal::new(Code::Protocol, format!("more than {PINGS_MAX} pings came within a second")));
        }
        Ok(())
    }

    fn take_batch(&mut self, now: Now) -> Result<ServerEvent, Refusal> {
        let bytes = self.reader.take_batch();
        let cost = credit_cost(bytes.len());
        let batch = UnverifiedBatch::new(bytes.as_slice());
        let (Some(stamp), Some(fingerprint)) = (batch.stamp(), batch.fingerprint()) else {
            return Err(Refusal::new(Code::Batch, "the payload of a batch frame is no batch"));
        };
        let refuse =
            |code, text: String| Refusal { code, sequence: Some(stamp.sequence).filter(|at| *at != u64::MAX), text };
        if let Some(fault) = stamp.fault() {
            return Err(refuse(Code::Batch, format!("the stamp is wrong: {fault}")));
        }
        if (stamp.producer, stamp.lane) != self.lane {
            return Err(refuse(Code::Batch, "the batch is stamped with another producer or lane".to_owned()));
        }
        if stamp.parts != 1 {
            return Err(refuse(Code::Batch, "the batch is a part of another one".to_owned()));
        }
        if fingerprint != self.fingerprint {
            return Err(refuse(Code::Batch, "the batch is of another stream than the hello".to_owned()));
        }
        if self.taken + cost > self.now.credit {
            let text = format!("{} bytes of credit were given, and this batch would exceed them", self.now.credit);
            return Err(refuse(Code::Credit, text));
        }
        let expected = self.now.received;
        if stamp.sequence > expected {
            return Err(refuse(Code::Gap, format!("sequence {expected} was expected, {} came", stamp.sequence)));
        }
        let is_duplicate = stamp.sequence < expected;
        if self.has_ended && !is_duplicate {
            return Err(refuse(Code::LaneEnded, "the lane has ended".to_owned()));
        }
        self.taken += cost;
        self.now.received += u64::from(!is_duplicate);
        self.has_ended |= stamp.position == LANE_END;
        let received = Received { bytes, stamp, cost, is_duplicate };
        if stamp.deadline < now.wall && !is_duplicate && stamp.position != LANE_END {
            let text = format!("its deadline was {}", stamp.deadline);
            refuse(Code::Expired, text).write(&mut self.out);
            return Ok(ServerEvent::Expired(received));
        }
        Ok(ServerEvent::Batch(received))
    }

    /// Says what is worth saying.
    fn tell(&mut self) {
        if !matches!(self.state, State::Open | State::Leaving) {
            return;
        }
        let asked = |progress: &Progress| match self.level {
            Level::Received => progress.received,
            Level::Written => progress.written,
            Level::Durable => progress.durable,
        };
        let is_news = asked(&self.now) > asked(&self.told) || self.now.durable > self.told.durable;
        // Credit alone is told when it has grown by a good part, or before a client that has used it up stops.
        let more = self.now.credit - self.told.credit;
        let left = self.told.credit - self.taken;
        if is_news || more > self.limits.credit_max / 4 || (more > 0 && left < self.limits.credit_min()) {
            self.told = self.now;
            self.now.write(&mut self.out);
        }
        if self.state == State::Leaving && self.now.durable == self.now.received {
            message::write_goodbye(&mut self.out);
            self.state = State::Closed;
        }
    }
}
