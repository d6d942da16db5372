//! The client's end of one lane as a value: batches, bytes and times in, bytes and events out. It outlives connections.
//!
//! Batches are kept until the server says that they are durable, so that a server that has lost them gets them again.
//! How many may be kept is a limit. When to connect again is the owner's business.

use super::frame::{self, FrameKind, FrameReader, HEADER_SIZE};
use super::limits::Now;
use super::message::{
    self, CREDENTIALS_SIZE_MAX, Code, Hello, Level, MessageError, NAME_SIZE_MAX, Progress, Refusal, Welcome,
};
use super::{PROTOCOL_VERSION, credit_cost, producer_of};
use crate::batch::wire::{Stamp, patch_stamp};
use crate::batch::{AlignedBytes, BATCH_ROWS_MAX, UnverifiedBatch};
use corefold_aggregator::time::EventTime;
use std::collections::VecDeque;

/// Who sends what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneName {
    /// The producer's name; the same for every lane of it and over all restarts.
    pub producer: String,
    /// Sub-stream of the producer.
    pub lane: u32,
    /// The stream's schema.
    pub fingerprint: u64,
    /// What the producer proves itself by.
    pub credentials: Vec<u8>,
    /// When it wants to be told.
    pub level: Level,
}

/// Limits of a lane at its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientLimits {
    /// Most batches that are kept until they are durable.
    pub batches_max: usize,
    /// Most bytes of them; one batch may always be kept.
    pub bytes_max: u64,
    /// How long the server may take to answer a hello, and to answer a ping.
    pub answer_max_ns: u64,
}

/// Something for the owner of a lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientEvent {
    /// The server let us in. Batches below `durable` need not be made again.
    Welcome(Welcome),
    /// Batches below these numbers have come so far.
    Progress(Progress),
    /// Something is refused; see [`Refusal`] for whether the session goes on.
    Refused(Refusal),
    /// The server has all, and says goodbye.
    Goodbye,
}

/// Why a lane cannot go on with its server.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's bytes are not what the protocol asks for.
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(String),
    /// The server was silent for too long.
    #[error("the server does not answer")]
    Silent,
    /// What was acknowledged as durable is gone.
    #[error("the server has lost batches {from} to {to}, which it had acknowledged as durable")]
    Lost {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
}

/// Why a batch is not taken.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// As many as may be kept are under way; the batch comes back.
    #[error("as many batches as may be under way wait for the server")]
    Full(AlignedBytes),
    /// Larger than the server takes.
    #[error("a batch of {size} bytes is larger than the {max} that the server takes")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// The server's limit.
        max: usize,
    },
    /// No batch.
    #[error("the bytes are no batch")]
    NotABatch,
    /// The lane has ended.
    #[error("the lane has ended")]
    Ended,
}

#[derive(Debug)]
struct Kept {
    bytes: AlignedBytes,
    header: [u8; HEADER_SIZE],
}

#[derive(Debug)]
struct Connection {
    reader: FrameReader,
    /// Small frames that go before the next batch.
    control: Vec<u8>,
    control_at: usize,
    is_welcome: bool,
    is_leaving: bool,
    batch_size_max: usize,
    /// The batch that goes out next, and how much of its frame has gone.
    next: u64,
    sent: usize,
    credit: u64,
    taken: u64,
    heard_ns: u64,
    spoke_ns: u64,
    /// When the server was asked something that it has not answered.
    asked_ns: Option<u64>,
    idle_max_ns: u64,
}

/// One lane.
#[derive(Debug)]
pub struct ClientLane {
    name: LaneName,
    limits: ClientLimits,
    /// Batches from `first` on.
    kept: VecDeque<Kept>,
    kept_bytes: u64,
    first: u64,
    /// What the server said last to be durable, from an earlier life of ours too: batches below are only counted.
    known: u64,
    has_ended: bool,
    attempt: u64,
    /// Whether a server has ever let us in.
    was_welcome: bool,
    connection: Option<Connection>,
    spares: Vec<AlignedBytes>,
}

impl ClientLane {
    /// A lane that has sent nothing.
    ///
    /// Panics if name or credentials are longer than they may be, or the name is empty.
    pub fn new(name: LaneName, limits: ClientLimits) -> ClientLane {
        assert!((1..=NAME_SIZE_MAX).contains(&name.producer.len()), "a producer's name has 1 to 256 bytes");
        assert!(name.credentials.len() <= CREDENTIALS_SIZE_MAX, "credentials have at most 2048 bytes");
        ClientLane {
            name,
            limits,
            kept: VecDeque::new(),
            kept_bytes: 0,
            first: 0,
            known: 0,
            has_ended: false,
            attempt: 0,
            was_welcome: false,
            connection: None,
            spares: Vec::new(),
        }
    }

    /// The number of the next batch that is offered.
    pub fn next_sequence(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Batches below this are durable.
    pub fn durable(&self) -> u64 {
        self.first
    }

    /// Batches below this are durable, from an earlier life of this lane or this one: [`ClientLane::pass`] is enough for them.
    pub fn known(&self) -> u64 {
        self.known
    }

    /// Batches that are not known to be durable.
    pub fn underway(&self) -> usize {
        self.kept.len()
    }

    /// Their bytes.
    pub fn underway_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Whether a batch may be offered now.
    pub fn has_room(&self) -> bool {
        self.kept.is_empty() || (self.kept.len() < self.limits.batches_max && self.kept_bytes < self.limits.bytes_max)
    }

    /// Memory of batches that are durable, to be used again.
    pub fn spare(&mut self) -> AlignedBytes {
        self.spares.pop().unwrap_or_default()
    }

    /// Counts a batch that the server has from an earlier life of this lane, without its bytes.
    ///
    /// Panics unless its sequence is below [`ClientLane::known`] and nothing waits.
    pub fn pass(&mut self) {
        assert!(self.kept.is_empty() && self.first < self.known, "only what the server has may be passed over");
        self.first += 1;
    }

    /// Takes a batch: stamps it with the next sequence and keeps it until it is durable.
    pub fn offer(
        &mut self,
        mut bytes: AlignedBytes,
        rejected: u32,
        deadline: EventTime,
        position: u64,
    ) -> Result<u64, OfferError> {
        if self.has_ended {
            return Err(OfferError::Ended);
        }
        if !self.has_room() {
            return Err(OfferError::Full(bytes));
        }
        let max = self.connection.as_ref().filter(|c| c.is_welcome).map_or(usize::MAX, |c| c.batch_size_max);
        if bytes.len() > max {
            return Err(OfferError::TooLarge { size: bytes.len(), max });
        }
        let sequence = self.next_sequence();
        let stamp = Stamp {
            // Rows are numbered in leaps, so that the number of a row needs no batch before it.
            first_row: sequence * BATCH_ROWS_MAX as u64,
            position,
            deadline,
            rejected,
            ..Stamp::of_lane(producer_of(&self.name.producer, self.name.fingerprint), self.name.lane, sequence)
        };
        patch_stamp(bytes.as_mut_slice(), &stamp).map_err(|_| OfferError::NotABatch)?;
        if UnverifiedBatch::new(bytes.as_slice()).fingerprint() != Some(self.name.fingerprint) {
            return Err(OfferError::NotABatch);
        }
        bytes.pad(8, 0);
        self.has_ended = position == super::LANE_END;
        self.kept_bytes += bytes.len() as u64;
        let header = frame::header(FrameKind::Batch, bytes.as_slice());
        self.kept.push_back(Kept { bytes, header });
        // The server need not say again what it has said before the batch was offered.
        self.forget();
        Ok(sequence)
    }

    /// Begins a connection; one that there was is forgotten.
    pub fn connect(&mut self, now: Now) {
        let mut control = Vec::new();
        let LaneName { producer, lane, fingerprint, credentials, level } = self.name.clone();
        // By the wall clock, so that it grows over restarts too.
        self.attempt = self.attempt.saturating_add(1).max(now.wall.0.max(0).cast_unsigned());
        let attempt = self.attempt;
        let version = PROTOCOL_VERSION;
        Hello { version, lane, fingerprint, level, attempt, producer, credentials }.write(&mut control);
        self.connection = Some(Connection {
            reader: FrameReader::new(frame::CONTROL_SIZE_MAX),
            control,
            control_at: 0,
            is_welcome: false,
            is_leaving: false,
            batch_size_max: usize::MAX,
            next: self.first,
            sent: 0,
            credit: 0,
            taken: 0,
            heard_ns: now.steady_ns,
            spoke_ns: now.steady_ns,
            asked_ns: Some(now.steady_ns),
            idle_max_ns: u64::MAX,
        });
    }

    /// The connection is gone.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Whether the server has let us in.
    pub fn is_welcome(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_welcome)
    }

    /// Whether the next connection will supersede the one for which this is refused: the clock was set back since an earlier
    /// life of ours. Who was let in once stays superseded.
    pub fn may_insist(&self, refusal: &Refusal) -> bool {
        !self.was_welcome && refusal.code == Code::Superseded && refusal.sequence.is_some()
    }

    /// Says goodbye once all that was offered is sent. The server answers when all of it is durable.
    pub fn leave(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.is_leaving = true;
        }
    }

    /// Where bytes of the server are to be read to; `None` without a connection.
    pub fn space(&mut self) -> Option<&mut [u8]> {
        self.connection.as_mut().map(|connection| connection.reader.space())
    }

    /// Takes note of `count` bytes read into [`ClientLane::space`].
    pub fn filled(&mut self, count: usize, now: Now) -> Result<Option<ClientEvent>, ClientError> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        connection.heard_ns = now.steady_ns;
        let kind = connection.reader.filled(count).map_err(|error| ClientError::Protocol(error.to_string()))?;
        let Some(kind) = kind else { return Ok(None) };
        connection.asked_ns = None;
        let payload = connection.reader.control();
        let wrong = |error: MessageError| ClientError::Protocol(error.to_string());
        match (connection.is_welcome, kind) {
            (_, FrameKind::Refusal) => {
                let refusal = Refusal::read(payload).map_err(wrong)?;
                if self.may_insist(&refusal) {
                    self.attempt = self.attempt.max(refusal.sequence.unwrap_or(0));
                }
                Ok(Some(ClientEvent::Refused(refusal)))
            }
            (false, FrameKind::Welcome) => {
                let welcome = Welcome::read(payload).map_err(wrong)?;
                self.on_welcome(&welcome)?;
                Ok(Some(ClientEvent::Welcome(welcome)))
            }
            (true, FrameKind::Progress) => {
                let progress = Progress::read(payload).map_err(wrong)?;
                connection.credit = connection.credit.max(progress.credit);
                if progress.received > connection.next {
                    return Err(ClientError::Protocol("batches were received that were not sent".to_owned()));
                }
                self.known = self.known.max(progress.durable);
                self.forget();
                Ok(Some(ClientEvent::Progress(progress)))
            }
            (true, FrameKind::Ping) => {
                message::read_bare(payload).map_err(wrong)?;
                Ok(None)
            }
            (true, FrameKind::Goodbye) => {
                message::read_bare(payload).map_err(wrong)?;
                Ok(Some(ClientEvent::Goodbye))
            }
            (_, kind) => Err(ClientError::Protocol(format!("a server sends no {kind:?} here"))),
        }
    }

    fn on_welcome(&mut self, welcome: &Welcome) -> Result<(), ClientError> {
        if welcome.version != PROTOCOL_VERSION {
            return Err(ClientError::Protocol(format!("it speaks version {}", welcome.version)));
        }
        if welcome.durable < self.first {
            return Err(ClientError::Lost { from: welcome.durable, to: self.first - 1 });
        }
        // What was received and is not durable may still be lost with the server.
        self.known = welcome.durable;
        self.was_welcome = true;
        self.has_ended |= welcome.has_ended && welcome.next <= self.next_sequence();
        if let Some(connection) = &mut self.connection {
            connection.is_welcome = true;
            connection.next = welcome.next;
            connection.credit = welcome.credit;
            connection.batch_size_max = welcome.batch_size_max as usize;
            connection.idle_max_ns = u64::from(welcome.idle_max_ms) * 1_000_000;
        }
        self.forget();
        Ok(())
    }

    /// Lets batches go that are durable.
    fn forget(&mut self) {
        while self.first < self.known {
            let Some(kept) = self.kept.pop_front() else { return };
            self.first += 1;
            self.kept_bytes -= kept.bytes.len() as u64;
            if self.spares.len() < self.limits.batches_max {
                self.spares.push(kept.bytes);
            }
        }
    }

    /// What is to be written next, empty if nothing is; call [`ClientLane::sent`] for what was.
    pub fn output(&mut self) -> &[u8] {
        let offered = self.next_sequence();
        let Some(connection) = &mut self.connection else { return &[] };
        // A batch that has begun is finished first.
        if connection.sent == 0 {
            if connection.is_welcome && connection.is_leaving && connection.next >= offered {
                connection.is_leaving = false;
                message::write_goodbye(&mut connection.control);
            }
            if connection.control_at < connection.control.len() {
                return &connection.control[connection.control_at..];
            }
            connection.control.clear();
            connection.control_at = 0;
        }
        let at = connection.next.checked_sub(self.first).map(|at| at as usize);
        let Some(kept) = at.and_then(|at| self.kept.get(at)).filter(|_| connection.is_welcome) else { return &[] };
        if connection.sent == 0 && connection.taken + credit_cost(kept.bytes.len()) > connection.credit {
            return &[];
        }
        match connection.sent.checked_sub(HEADER_SIZE) {
            None => &kept.header[connection.sent..],
            Some(at) => &kept.bytes.as_slice()[at..],
        }
    }

    /// `count` bytes of [`ClientLane::output`] were written.
    pub fn sent(&mut self, count: usize, now: Now) {
        let Some(connection) = &mut self.connection else { return };
        connection.spoke_ns = now.steady_ns;
        if connection.sent == 0 && connection.control_at < connection.control.len() {
            connection.control_at += count;
            return;
        }
        connection.sent += count;
        let at = (connection.next - self.first) as usize;
        let size = self.kept[at].bytes.len();
        if connection.sent == HEADER_SIZE + size {
            connection.taken += credit_cost(size);
            connection.next += 1;
            connection.sent = 0;
            connection.asked_ns.get_or_insert(now.steady_ns);
        }
    }

    /// Whether some part of a batch has been written and the rest not.
    pub fn is_mid_batch(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.sent > 0)
    }

    /// Asks for a sign of life where one is due, and gives up on a server that gives none.
    pub fn check_time(&mut self, now: Now) -> Result<(), ClientError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let since = |then: u64| now.steady_ns.saturating_sub(then);
        let waits_since = connection.asked_ns.map(|asked| asked.max(connection.heard_ns));
        if waits_since.is_some_and(|asked| since(asked) > self.limits.answer_max_ns) {
            return Err(ClientError::Silent);
        }
        let pause = (connection.idle_max_ns / 3).min(self.limits.answer_max_ns);
        if connection.is_welcome && since(connection.spoke_ns) > pause && connection.control.is_empty() {
            message::write_ping(&mut connection.control);
            connection.asked_ns.get_or_insert(now.steady_ns);
            connection.spoke_ns = now.steady_ns;
        }
        Ok(())
    }
}
