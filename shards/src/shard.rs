//! One shard: the order of its verbs.
//!
//! [`Shard::step`] takes completions, advances cursors, releases acknowledgements, folds and appends arrivals,
//! answers a pull and emits requests, in this order. It touches no file, clock or thread: production, recovery
//! and simulation call the same function. What becomes of one batch is in [`crate::intake`], how it is folded in
//! [`crate::fold`], how it is logged in [`crate::wal`].

use crate::answering::Answering;
pub use crate::answering::{PARTIAL_ROWS, PARTIALS_MAX};
use crate::batch::VerifiedBatch;
use crate::batch::wire::{AlignedBytes, LOCAL_PRODUCER, Stamp};
use crate::counters::ShardCounts;
use crate::fold::view_fold::{FoldError, ShardView, ViewFold};
use crate::lane_notes::LaneNotes;
use crate::late::LateRows;
use crate::ledger::ProducerLedger;
use crate::snapshot::{Adopted, SnapshotCompletion, SnapshotRequest, SnapshotWriter};
use crate::wal::{Appender, DiskCompletion, DiskRequest, Lsn, WalError};
use corefold_aggregator::partial::{Partial, PartialError};
use corefold_aggregator::spec::Field;
use corefold_aggregator::time::EventTime;
use rkyv::util::AlignedVec;
use std::collections::VecDeque;

/// Batches folded in one step, so that completions and pulls never wait long.
pub const BATCHES_PER_STEP_MAX: usize = 8;

/// Words of closed panes that a shard holds before it takes no more batches until panes are released: 6 MiB. What waits
/// longer has left the caches, and first touches of more memory cost more than a coordinator that is ahead at times gains.
const CLOSED_WORDS_MAX: usize = 3 << 18;

/// A stream as a shard sees it.
#[derive(Clone, Debug)]
pub struct ShardStream {
    /// What batches of it carry.
    pub fingerprint: u64,
    /// Its columns.
    pub fields: Vec<Field>,
    /// The views over it, by index.
    pub views: Vec<usize>,
}

/// What a shard computes.
#[derive(Clone, Debug)]
pub struct ShardPlan {
    /// Streams it takes batches of.
    pub streams: Vec<ShardStream>,
    /// Views, each over one stream.
    pub views: Vec<ShardView>,
    /// Whether rows that come too late are given out.
    pub late_wanted: bool,
}

impl ShardPlan {
    /// Tells apart plans whose states do not fit each other: other streams, keys, windows or rows.
    pub fn fingerprint(&self) -> u64 {
        let mut words: Vec<u64> = self.streams.iter().map(|stream| stream.fingerprint).collect();
        for view in &self.views {
            let window = view.plan.spec.window;
            words.extend([window.size() as u64, window.slide() as u64, window.offset() as u64]);
            words.push(view.plan.by.len() as u64);
            words.extend(view.plan.spec.by.iter().map(|&field| field as u64));
            let states = &view.plan.layout.states;
            words.extend(states.iter().flat_map(|state| [state.kind as u64, state.field as u64, state.offset as u64]));
        }
        xxhash_rust::xxh3::xxh3_64(bytemuck::cast_slice(&words))
    }
}

/// Something that came in.
#[derive(Debug)]
pub enum Arrival {
    /// A stamped batch.
    Batch(AlignedBytes),
    /// A stamped batch that has passed all checks already.
    Verified(VerifiedBatch),
    /// The dealer's word that no batch with an event below this time will follow.
    Frontier(EventTime),
}

/// What goes into one step.
#[derive(Debug, Default)]
pub struct Inbox {
    /// In order. What does not fit into the log stays in here.
    pub arrivals: VecDeque<Arrival>,
    /// What the disk reports.
    pub completions: Vec<DiskCompletion>,
    /// What it reports of snapshots.
    pub snapshot_completions: Vec<SnapshotCompletion>,
    /// A new pull: every pane below this time is asked for.
    pub pull: Option<EventTime>,
    /// Panes below this time are safe at the coordinator.
    pub release: Option<EventTime>,
    /// Buffers of partials that were merged.
    pub spent_partials: Vec<AlignedVec>,
}

/// What comes out of one step. The caller empties it.
#[derive(Debug, Default)]
pub struct Outbox {
    /// For the disk.
    pub requests: Vec<DiskRequest>,
    /// For the disk, about snapshots.
    pub snapshot_requests: Vec<SnapshotRequest>,
    /// Batches that are as durable as was asked for, duplicates included.
    pub acknowledged: Vec<Stamp>,
    /// Batches of producers elsewhere that are written, and will be durable later.
    pub written: Vec<Stamp>,
    /// Archived partial aggregates.
    pub partials: Vec<AlignedVec>,
    /// Every pane below this time has been given out.
    pub pulled: Option<EventTime>,
    /// Rows that came too late, with their view.
    pub late: Vec<(usize, LateRows)>,
    /// Buffers of batches that were folded and logged.
    pub spent_batches: Vec<AlignedBytes>,
    /// Those of batches that came verified, in order.
    pub spent_verified: Vec<AlignedBytes>,
}

/// Why a shard cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// A batch is not what its sender should have sent.
    #[error("a batch of {producer}/{lane}, sequence {sequence}, is refused: {error}")]
    Batch {
        /// Producer as stamped.
        producer: u64,
        /// Lane as stamped.
        lane: u32,
        /// Sequence as stamped.
        sequence: u64,
        /// What is wrong.
        error: crate::batch::BatchError,
    },
    /// No stream has the schema of the batch.
    #[error("a batch has the stream fingerprint {found:016x}, which no stream of this engine has")]
    UnknownStream {
        /// What the batch carries.
        found: u64,
    },
    /// A view refuses the batch.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The log has failed and is latched.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// A partial aggregate cannot be archived.
    #[error(transparent)]
    Partial(#[from] PartialError),
}

/// The state of one shard.
#[derive(Debug)]
pub struct Shard {
    pub(crate) streams: Vec<ShardStream>,
    pub(crate) views: Vec<ViewFold>,
    pub(crate) late_wanted: bool,
    pub(crate) log: Option<Appender>,
    pub(crate) snapshots: Option<SnapshotWriter>,
    pub(crate) ledger: ProducerLedger,
    /// Kept for snapshots only: without them the log tells all.
    pub(crate) notes: LaneNotes,
    pub(crate) counts: ShardCounts,
    /// Appended and not durable yet, in order of their records.
    pub(crate) pending: VecDeque<Pending>,
    /// So many of them, from the front, are known to be written.
    pending_written: usize,
    /// The record of the first arrival, if it is in the log but not folded: between [`Shard::append_first`] and the step.
    pub(crate) appended_first: Option<Lsn>,
    /// The last record whose batch is folded.
    pub(crate) last_record: Option<Lsn>,
    /// Where the log went on when it was attached.
    pub(crate) log_start: Lsn,
    pub(crate) frontier: EventTime,
    /// Panes below this time are safe at the coordinator and forgotten here.
    pub(crate) released: EventTime,
    /// Panes below this time have been given out.
    pub(crate) answered: EventTime,
    /// Whether logs are being folded again: until that is done, no snapshot would be of any one moment.
    pub(crate) is_replaying: bool,
    /// Shards of earlier runs whose state is part of this one's.
    pub(crate) adopted: Vec<Adopted>,
    /// The first snapshot that names all of `adopted`.
    pub(crate) adopted_since: u64,
    /// What the log is still to say about them.
    pub(crate) adopted_record: Vec<u8>,
    pub(crate) answering: Answering,
    pub(crate) partial: Partial,
    pub(crate) late_rows: Vec<u32>,
}

/// Something that may leave once a record is durable.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) record: Option<Lsn>,
    pub(crate) frontier: EventTime,
    pub(crate) acknowledge: Option<Stamp>,
}

impl Shard {
    /// A shard with nothing in it; without a log everything is durable at once.
    pub fn new(plan: ShardPlan, log: Option<Appender>) -> Shard {
        let counts = ShardCounts {
            streams: vec![Default::default(); plan.streams.len()],
            views: vec![Default::default(); plan.views.len()],
        };
        Shard {
            streams: plan.streams,
            views: plan.views.into_iter().map(ViewFold::new).collect(),
            late_wanted: plan.late_wanted,
            log_start: log.as_ref().map_or(Lsn::ZERO, Appender::appended),
            log,
            snapshots: None,
            ledger: ProducerLedger::default(),
            notes: LaneNotes::default(),
            counts,
            pending: VecDeque::new(),
            pending_written: 0,
            appended_first: None,
            last_record: None,
            frontier: EventTime::MIN,
            released: EventTime::MIN,
            answered: EventTime::MIN,
            is_replaying: false,
            adopted: Vec::new(),
            adopted_since: 0,
            adopted_record: Vec::new(),
            answering: Answering::default(),
            partial: Partial::default(),
            late_rows: Vec::new(),
        }
    }

    /// Moves the shard on. Never waits; what cannot be done now stays in `inbox`.
    pub fn step(&mut self, now_ns: u64, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<(), ShardError> {
        self.take_completions(now_ns, inbox)?;
        self.release_acknowledgements(outbox);
        let before = self.accepted();
        self.take_arrivals(inbox, outbox)?;
        // Without a log, and for frontiers that wait for nothing, this is the moment.
        self.release_acknowledgements(outbox);
        self.answer_pull(self.accepted() - before, inbox, outbox)?;
        self.take_snapshot(inbox, outbox)?;
        if let Some(log) = &mut self.log {
            log.poll(now_ns, &mut outbox.requests);
        }
        self.assert_invariants();
        Ok(())
    }

    /// Folds a batch read back from the log; it is durable already. `frontier` is what may be published after it.
    pub fn replay(&mut self, payload: &[u8], frontier: EventTime, outbox: &mut Outbox) -> Result<(), ShardError> {
        let (stream, batch) = self.verify(payload)?;
        if self.ledger.insert(&batch.stamp()) {
            self.fold(stream, &batch, outbox)?;
            self.note(&batch, payload.len());
        } else {
            self.count_duplicate(stream, &batch);
        }
        self.frontier = self.frontier.max(frontier);
        Ok(())
    }

    /// What the shard promises not to go below again; everything it says is durable.
    pub fn frontier(&self) -> EventTime {
        self.frontier
    }

    /// What became of every event.
    pub fn counts(&self) -> &ShardCounts {
        &self.counts
    }

    /// Which batches have been seen.
    pub fn ledger(&self) -> &ProducerLedger {
        &self.ledger
    }

    /// The log, if there is one.
    pub fn log_mut(&mut self) -> Option<&mut Appender> {
        self.log.as_mut()
    }

    /// Gives the shard its log after replay, before the first arrival.
    pub fn attach_log(&mut self, log: Appender) {
        assert!(self.pending.is_empty(), "a log is attached before the first arrival");
        self.log_start = log.appended();
        self.log = Some(log);
    }

    /// Whether there are more than `count` closed panes that are not released: then the coordinator should be called early.
    pub fn has_closed(&self, count: usize) -> bool {
        self.views.iter().flat_map(|view| view.closed_sizes(self.frontier)).nth(count).is_some()
    }

    /// Whether closed panes take so much memory that no more batches are taken. The two oldest of each view do not count:
    /// those are always pulled.
    fn is_full(&self) -> bool {
        let mut sizes = self.views.iter().flat_map(|view| view.closed_sizes(self.frontier).skip(2));
        sizes.try_fold(CLOSED_WORDS_MAX, |room, size| room.checked_sub(size)).is_none()
    }

    /// Whether all that came is as durable as it will be, and no pull waits.
    pub fn has_settled(&self) -> bool {
        self.pending.is_empty() && !self.answering.is_asked()
    }

    /// Whether nothing waits: no record to become durable, no pull to answer.
    pub fn is_idle(&self) -> bool {
        let is_settled = self.snapshots.as_ref().is_none_or(SnapshotWriter::is_settled);
        self.has_settled() && is_settled && self.log.as_ref().is_none_or(Appender::is_drained)
    }

    fn take_completions(&mut self, now_ns: u64, inbox: &mut Inbox) -> Result<(), ShardError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        for completion in inbox.completions.drain(..) {
            log.complete(completion, now_ns);
        }
        match log.latched() {
            Some(error) => Err(error.clone().into()),
            None => Ok(()),
        }
    }

    fn release_acknowledgements(&mut self, outbox: &mut Outbox) {
        let durable = self.log.as_ref().map(Appender::durable);
        while let Some(first) = self.pending.front() {
            if let (Some(record), Some(durable)) = (first.record, durable)
                && durable <= record
            {
                return self.tell_written(outbox);
            }
            self.frontier = self.frontier.max(first.frontier);
            outbox.acknowledged.extend(first.acknowledge);
            self.pending.pop_front();
            self.pending_written = self.pending_written.saturating_sub(1);
        }
    }

    fn tell_written(&mut self, outbox: &mut Outbox) {
        let Some(written) = self.log.as_ref().map(Appender::written) else { return };
        while let Some(next) = self.pending.get(self.pending_written)
            && next.record.is_none_or(|record| record < written)
        {
            outbox.written.extend(next.acknowledge.filter(|stamp| stamp.producer != LOCAL_PRODUCER));
            self.pending_written += 1;
        }
    }

    fn take_arrivals(&mut self, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<(), ShardError> {
        // A coordinator that does not keep up slows the shard down, before memory does: with pulls, or with partials. What is
        // in the log has to be in the panes by the time of a snapshot.
        let is_full = self.is_full();
        for _ in 0..BATCHES_PER_STEP_MAX {
            if (is_full || self.answering.is_held_up()) && self.appended_first.is_none() {
                return Ok(());
            }
            match inbox.arrivals.pop_front() {
                None => return Ok(()),
                Some(Arrival::Frontier(frontier)) => {
                    self.pending.push_back(Pending { record: self.last_record, frontier, acknowledge: None });
                }
                Some(Arrival::Batch(bytes)) => {
                    if self.take_batch(&bytes, outbox)? {
                        outbox.spent_batches.push(bytes);
                    } else {
                        inbox.arrivals.push_front(Arrival::Batch(bytes));
                        return Ok(());
                    }
                }
                Some(Arrival::Verified(batch)) => {
                    if self.take_verified(&batch, outbox)? {
                        outbox.spent_verified.push(batch.into_bytes());
                    } else {
                        inbox.arrivals.push_front(Arrival::Verified(batch));
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Events given to the views so far.
    fn accepted(&self) -> usize {
        self.counts.streams.iter().map(|stream| stream.accepted as usize).sum()
    }

    fn assert_invariants(&self) {
        if let Some(log) = &self.log {
            assert!(log.durable() <= log.written(), "only what is written can be durable");
            assert!(log.written() <= log.appended(), "only what is appended can be written");
        }
        assert!(self.pending.iter().all(|pending| pending.record <= self.last_record));
    }
}
