//! What joins the cores: bounded single-producer rings, and a few words that one core writes and others read.
//!
//! No locks on the way of an event. What the cores do with messages is not here.

use crate::lifecycle::{Lifecycle, LifecycleWord};
use crate::profile::timeline::Timeline;
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::counters::ShardCounts;
use corefold_shards::late::LateRows;
use corefold_shards::shard::Arrival;
use rkyv::util::AlignedVec;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Batches and frontiers that wait for one shard: so many that both ends seldom have to look at the other's place, and that
/// they are on different cache lines as a rule. Far fewer batches wait, see the dealer.
pub const ARRIVALS_MAX: usize = 1024;

/// Messages that wait between the coordinator and one shard, each way. More than there are partials, so that
/// a release or an end never waits behind them.
pub const MESSAGES_MAX: usize = 64;

/// Closed panes of one shard at which it calls the coordinator before its time.
pub const PANES_CLOSED_MAX: usize = 1;

/// From the dealer to a shard.
#[derive(Debug)]
pub enum Dealt {
    /// A stamped batch.
    Batch(AlignedBytes),
    /// The dealer's word that no batch with an event below this time will follow.
    Frontier(EventTime),
}

// What crosses is paid by cache lines: eight items take three. An `Arrival`, which knows verified batches too, has 32 bytes.
const _: () = assert!(size_of::<Dealt>() == 24);

impl From<Dealt> for Arrival {
    fn from(dealt: Dealt) -> Arrival {
        match dealt {
            Dealt::Batch(bytes) => Arrival::Batch(bytes),
            Dealt::Frontier(time) => Arrival::Frontier(time),
        }
    }
}

/// From the coordinator to a shard.
#[derive(Debug)]
pub enum ToShard {
    /// Send every pane below this time.
    Pull(EventTime),
    /// Forget every pane below this time.
    Release(EventTime),
    /// The buffer of a partial that was merged.
    Spent(AlignedVec),
    /// Everything is out: seal the log and end.
    Finish,
}

/// From a shard to the coordinator.
#[derive(Debug)]
pub enum FromShard {
    /// An archived partial aggregate.
    Partial(AlignedVec),
    /// Every pane below this time was sent.
    Pulled(EventTime),
    /// Rows that came too late in a view.
    Late(usize, LateRows),
}

/// A shard's ends.
pub struct ShardEnds {
    /// Batches and frontiers from the dealer.
    pub arrivals: rtrb::Consumer<Dealt>,
    /// Emptied batch buffers back to the dealer.
    pub spent: rtrb::Producer<AlignedBytes>,
    /// From the coordinator.
    pub orders: rtrb::Consumer<ToShard>,
    /// To the coordinator.
    pub answers: rtrb::Producer<FromShard>,
    /// What others see of the shard.
    pub board: Arc<ShardBoard>,
}

/// The dealer's ends of one shard.
pub struct DealerEnds {
    /// Batches and frontiers.
    pub arrivals: rtrb::Producer<Dealt>,
    /// Emptied batch buffers.
    pub spent: rtrb::Consumer<AlignedBytes>,
}

/// The coordinator's ends of one shard.
pub struct CoordinatorEnds {
    /// To the shard.
    pub orders: rtrb::Producer<ToShard>,
    /// From the shard.
    pub answers: rtrb::Consumer<FromShard>,
    /// What the shard shows.
    pub board: Arc<ShardBoard>,
}

/// All ends of one shard.
pub fn link() -> (ShardEnds, DealerEnds, CoordinatorEnds) {
    let (arrivals_in, arrivals_out) = rtrb::RingBuffer::new(ARRIVALS_MAX);
    let (spent_in, spent_out) = rtrb::RingBuffer::new(ARRIVALS_MAX);
    let (orders_in, orders_out) = rtrb::RingBuffer::new(MESSAGES_MAX);
    let (answers_in, answers_out) = rtrb::RingBuffer::new(MESSAGES_MAX);
    let board = Arc::new(ShardBoard::default());
    (
        ShardEnds {
            arrivals: arrivals_out,
            spent: spent_in,
            orders: orders_out,
            answers: answers_in,
            board: Arc::clone(&board),
        },
        DealerEnds { arrivals: arrivals_in, spent: spent_out },
        CoordinatorEnds { orders: orders_in, answers: answers_out, board },
    )
}

/// What a shard shows to others; written by the shard alone. On a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShardBoard {
    frontier: AtomicI64,
    calls: AtomicBool,
    drained: AtomicBool,
    /// Batches that are durable (or folded, without a log).
    pub batches_safe: AtomicU64,
    counts: Mutex<ShardCounts>,
}

impl Default for ShardBoard {
    fn default() -> ShardBoard {
        ShardBoard {
            frontier: AtomicI64::new(i64::MIN),
            calls: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            batches_safe: AtomicU64::new(0),
            counts: Mutex::new(ShardCounts::default()),
        }
    }
}

impl ShardBoard {
    /// Publishes the shard's frontier: a promise about everything folded before.
    pub fn publish(&self, frontier: EventTime) {
        self.frontier.store(frontier.0, Ordering::Release);
    }

    /// The published frontier.
    pub fn frontier(&self) -> EventTime {
        EventTime(self.frontier.load(Ordering::Acquire))
    }

    /// Calls the coordinator before its time.
    pub fn call(&self) {
        self.calls.store(true, Ordering::Release);
    }

    /// Whether the shard has called since the last look.
    pub fn take_call(&self) -> bool {
        self.calls.swap(false, Ordering::AcqRel)
    }

    /// Shows that no more batches will come and that all that came are as durable as they will be.
    pub fn show_drained(&self) {
        self.drained.store(true, Ordering::Release);
    }

    /// Whether the shard has shown that.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    /// Shows the shard's counts; with every answer to a pull, and at its end.
    pub fn show_counts(&self, counts: &ShardCounts) {
        if let Ok(mut shown) = self.counts.lock() {
            // Field by field: a clone of the whole would take new memory with every pull.
            let ShardCounts { streams, views } = counts;
            shown.streams.clone_from(streams);
            shown.views.clone_from(views);
        }
    }

    /// The counts shown.
    pub fn counts(&self) -> ShardCounts {
        self.counts.lock().map(|counts| counts.clone()).unwrap_or_default()
    }
}

/// What all threads of one engine share.
#[derive(Debug)]
pub struct Shared<E> {
    /// The lifecycle word.
    pub lifecycle: LifecycleWord,
    /// For the progress display.
    pub progress: Progress,
    /// What each thread does, for profiles.
    pub timeline: Timeline,
    failure: Mutex<Option<E>>,
    failed: AtomicBool,
}

/// Counters for the progress display; relaxed, since nothing is decided by them.
#[derive(Debug, Default)]
pub struct Progress {
    /// Rows parsed.
    pub rows: AtomicU64,
    /// Rows that were durable before this start and are not read again.
    pub rows_resumed: AtomicU64,
    /// Input bytes read, as they lie in the files.
    pub bytes: AtomicU64,
    /// Input bytes in all; 0 if unknown.
    pub bytes_total: AtomicU64,
    /// The dealer's frontier in microseconds; `i64::MIN` before the first event.
    pub watermark: AtomicI64,
    /// Windows given out.
    pub windows: AtomicU64,
    /// End of the last window given out, to count windows by.
    pub last_window: AtomicI64,
    /// Result rows given out.
    pub rows_out: AtomicU64,
}

impl<E> Default for Shared<E> {
    fn default() -> Shared<E> {
        Shared {
            lifecycle: LifecycleWord::default(),
            progress: Progress::default(),
            timeline: Timeline::default(),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
        }
    }
}

impl<E> Shared<E> {
    /// Keeps the first failure and stops the engine.
    pub fn fail(&self, error: E) {
        if let Ok(mut failure) = self.failure.lock() {
            failure.get_or_insert(error);
        }
        self.failed.store(true, Ordering::Release);
        // Already stopped is as good.
        let _ = self.lifecycle.advance(Lifecycle::Stopped);
    }

    /// Whether some thread has failed: the others end without finishing.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The first failure.
    pub fn take_failure(&self) -> Option<E> {
        self.failure.lock().ok().and_then(|mut failure| failure.take())
    }
}
