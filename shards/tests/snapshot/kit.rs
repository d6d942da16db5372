//! A stream with two views, batches of it from a seed, and an engine of some shards without threads.

use corefold_aggregator::coordinator::{Coordinator, CoordinatorError};
use corefold_aggregator::result::ResultBatch;
use corefold_aggregator::spec::{AggregateSpec, Field, FieldType, Function, Overflow, StreamSpec, ViewSpec};
use corefold_aggregator::time::{Duration, EventTime, WindowSpec};
use corefold_aggregator::view::ViewPlan;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::wire::{Stamp, encode};
use corefold_shards::fold::view_fold::ShardView;
use corefold_shards::shard::{Arrival, Inbox, Outbox, Shard, ShardPlan, ShardStream};
use corefold_shards::snapshot::{SnapshotCompletion, SnapshotConfig, SnapshotRequest, SnapshotWriter};
use corefold_shards::wal::LogIdentity;
use rand_like::Dice;
use std::collections::BTreeMap;

/// Numbers from a seed, without a crate.
pub mod rand_like {
    /// xorshift64*.
    #[derive(Clone)]
    pub struct Dice(u64);

    impl Dice {
        /// Dice that fall as `seed` says.
        pub fn new(seed: u64) -> Dice {
            Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
        }

        /// A number below `limit`.
        pub fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
        }
    }
}

pub const IDENTITY: LogIdentity = LogIdentity { store: [7; 16], shard: 3 };

fn micros(value: i64) -> Duration {
    Duration::from_micros(value).expect("a length of time")
}

fn stream() -> StreamSpec {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    StreamSpec {
        name: "s".to_owned(),
        time: "t".to_owned(),
        delay_max: micros(1_000_000),
        fields: vec![field("key", FieldType::String), field("number", FieldType::I64), field("value", FieldType::F64)],
    }
}

/// What every shard computes: one view by text with sketches, one by an integer whose windows
/// take several panes at a time.
pub fn plan(groups_max: u32) -> ShardPlan {
    let stream = stream();
    let all = [
        (Function::Count, None),
        (Function::Sum, Some(2)),
        (Function::Variance, Some(2)),
        (Function::Max, Some(0)),
        (Function::First, Some(1)),
        (Function::Quantile(0.9), Some(2)),
        (Function::Distinct, Some(0)),
        (Function::Top(2), Some(1)),
    ];
    let view = |name: &str, by: Vec<usize>, slide: i64, functions: &[(Function, Option<usize>)]| {
        let aggregates = functions.iter().enumerate().map(|(index, &(function, field))| AggregateSpec {
            name: format!("a{index}"),
            function,
            field,
        });
        let spec = ViewSpec {
            name: name.to_owned(),
            by,
            window: WindowSpec::new(micros(30), micros(slide), micros(0)).expect("a window"),
            aggregates: aggregates.collect(),
            groups_max,
            overflow: Overflow::Fold,
        };
        let plan = ViewPlan::new(&stream, spec).expect("a view");
        ShardView { plan, filter: None, delay_max: stream.delay_max, group_ttl: micros(0) }
    };
    let views = vec![view("text", vec![0], 10, &all), view("integer", vec![1], 20, &all[..5])];
    let streams =
        vec![ShardStream { fingerprint: stream.fingerprint(), fields: stream.fields.clone(), views: vec![0, 1] }];
    ShardPlan { streams, views, late_wanted: false }
}

/// Batch `sequence` of a lane: some rows around a time that moves on.
pub fn batch(sequence: u64, dice: &mut Dice) -> AlignedBytes {
    let stream = stream();
    let kinds: Vec<FieldType> = stream.fields.iter().map(|field| field.kind).collect();
    let mut columns = ColumnSet::new(&kinds);
    for _ in 0..1 + dice.below(40) {
        columns.times.push(sequence as i64 * 4 + dice.below(20) as i64);
        let key = format!("k{}", dice.below(12));
        columns.columns[0].push_str(Some(key.as_bytes()).filter(|_| dice.below(9) > 0)).expect("a short text");
        columns.columns[1].push_i64(Some(dice.below(8) as i64 - 4).filter(|_| dice.below(9) > 0));
        // Sums of very different sizes spill.
        let scale = [1.0, 1e-30, 1e30, -1e30][dice.below(4) as usize];
        columns.columns[2].push_f64(Some(dice.below(1000) as f64 * scale));
    }
    let mut bytes = AlignedBytes::new();
    let stamp = Stamp { first_row: sequence * 1000, ..Stamp::of_lane(0, 0, sequence) };
    encode(&columns, stream.fingerprint(), &stamp, &mut bytes).expect("a batch");
    bytes
}

/// A shard that takes snapshots when it is told to.
pub fn shard(plan: &ShardPlan) -> Shard {
    let mut shard = Shard::new(plan.clone(), None);
    let config =
        SnapshotConfig { identity: IDENTITY, plan: plan.fingerprint(), wal_bytes: u64::MAX, batches: u64::MAX };
    shard.keep_snapshots(SnapshotWriter::new(config, Vec::new(), Vec::new()));
    shard
}

/// The disk of one shard's snapshots: whole files by generation.
#[derive(Default)]
pub struct Shelf {
    aside: BTreeMap<u64, Vec<u8>>,
    pub installed: BTreeMap<u64, Vec<u8>>,
}

impl Shelf {
    /// Whether nothing was ever written.
    pub fn is_untouched(&self) -> bool {
        self.aside.is_empty() && self.installed.is_empty()
    }

    fn carry(&mut self, request: SnapshotRequest) -> Option<SnapshotCompletion> {
        match request {
            SnapshotRequest::Write { generation, offset, bytes } => {
                let file = self.aside.entry(generation).or_insert_with(|| vec![0; 4096]);
                assert_eq!(file.len() as u64, offset, "writes come in order");
                file.extend_from_slice(&bytes);
                Some(SnapshotCompletion::Written { generation, bytes, result: Ok(()) })
            }
            SnapshotRequest::Install { generation, header } => {
                let mut file = self.aside.remove(&generation).expect("a snapshot that was begun");
                file[..4096].copy_from_slice(&header[..]);
                self.installed.insert(generation, file);
                Some(SnapshotCompletion::Installed { generation, result: Ok(()) })
            }
            SnapshotRequest::Abandon { generation } => {
                self.aside.remove(&generation);
                None
            }
            SnapshotRequest::Remove { generation } => {
                self.installed.remove(&generation).expect("a snapshot that is there");
                Some(SnapshotCompletion::Removed { generation, result: Ok(()) })
            }
        }
    }
}

/// One step of a shard with what arrives; snapshots go to `shelf`.
pub fn step(shard: &mut Shard, arrivals: Vec<AlignedBytes>, inbox: &mut Inbox, shelf: &mut Shelf) -> Outbox {
    inbox.arrivals.extend(arrivals.into_iter().map(Arrival::Batch));
    let mut outbox = Outbox::default();
    shard.step(0, inbox, &mut outbox).expect("a step");
    let answers = outbox.snapshot_requests.drain(..).filter_map(|request| shelf.carry(request));
    inbox.snapshot_completions.extend(answers);
    outbox
}

/// All windows of some shards, in words: their panes pulled up to `time`.
pub fn windows(shards: &mut [Shard], plan: &ShardPlan, time: EventTime) -> Vec<String> {
    let views = plan.views.iter().map(|view| view.plan.clone()).collect();
    let mut coordinator = Coordinator::new(views, shards.len());
    pull(&mut coordinator, shards, time);
    emit(&mut coordinator)
}

/// Brings panes below `time` of all shards to the coordinator.
pub fn pull(coordinator: &mut Coordinator, shards: &mut [Shard], time: EventTime) {
    for (index, shard) in shards.iter_mut().enumerate() {
        shard.publish(time);
        coordinator.on_frontier(index, shard.frontier());
    }
    let Some(up_to) = coordinator.start_pull() else { return };
    for (index, shard) in shards.iter_mut().enumerate() {
        let mut inbox = Inbox { pull: Some(up_to), ..Inbox::default() };
        loop {
            let mut outbox = Outbox::default();
            shard.step(0, &mut inbox, &mut outbox).expect("a step");
            for bytes in outbox.partials.drain(..) {
                coordinator.on_partial(index, &bytes).expect("a partial");
                inbox.spent_partials.push(bytes);
            }
            if let Some(time) = outbox.pulled {
                coordinator.on_pulled(index, time);
                break;
            }
        }
    }
}

/// Everything that is final, in words.
pub fn emit(coordinator: &mut Coordinator) -> Vec<String> {
    let mut rows = Vec::new();
    let sink = |view: usize, batch: &mut ResultBatch| -> Result<(), CoordinatorError> {
        rows.push(format!("{view}: {batch:?}"));
        Ok(())
    };
    coordinator.emit(sink).expect("no sum overflows");
    rows
}
