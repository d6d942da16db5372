//! A batch that comes alone is on its way to the disk before it is folded, and becomes durable as any other.

mod keyed;

use corefold_aggregator::spec::{AggregateSpec, FieldType, Function, Overflow, ViewSpec};
use corefold_aggregator::time::{EventTime, WindowSpec};
use corefold_aggregator::view::ViewPlan;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::wire::{Stamp, encode};
use corefold_shards::fold::view_fold::ShardView;
use corefold_shards::shard::{Arrival, Inbox, Outbox, Shard, ShardPlan, ShardStream};
use corefold_shards::wal::{
    Appender, AppenderConfig, DiskCompletion, DiskRequest, Durability, LogIdentity, ResumePoint,
};
use keyed::{SECOND, micros, stream};

/// Rows of a batch: few of them fill what a shard may hold of closed panes.
const GROUPS: i64 = 50_000;

fn plan() -> ShardPlan {
    let stream = stream();
    let function = Function::Sum;
    let spec = ViewSpec {
        name: "v".to_owned(),
        by: vec![0],
        window: WindowSpec::new(micros(SECOND), micros(SECOND), micros(0)).expect("a window"),
        aggregates: vec![AggregateSpec { name: "sum".to_owned(), field: Some(1), function }],
        groups_max: 1_000_000,
        overflow: Overflow::Fold,
    };
    let plan = ViewPlan::new(&stream, spec).expect("a view");
    let view = ShardView { plan, filter: None, delay_max: micros(0), group_ttl: micros(3_600 * SECOND) };
    let streams =
        vec![ShardStream { fingerprint: stream.fingerprint(), fields: stream.fields.clone(), views: vec![0] }];
    ShardPlan { streams, views: vec![view], late_wanted: false }
}

/// `groups` events in second `sequence`.
fn batch(sequence: u64, groups: i64) -> Arrival {
    let stream = stream();
    let kinds: Vec<FieldType> = stream.fields.iter().map(|field| field.kind).collect();
    let mut columns = ColumnSet::new(&kinds);
    let start = sequence as i64 * SECOND;
    for group in 0..groups {
        columns.times.push(start);
        columns.columns[0].push_i64(Some(group));
        columns.columns[1].push_f64(Some(0.5));
    }
    let stamp = Stamp { frontier: EventTime(start), ..Stamp::of_lane(0, 0, sequence) };
    let mut bytes = AlignedBytes::new();
    encode(&columns, stream.fingerprint(), &stamp, &mut bytes).expect("a batch");
    Arrival::Batch(bytes)
}

/// A shard and a disk that has done everything by the next step, but writes where they are held back.
struct Scene {
    shard: Shard,
    inbox: Inbox,
    outbox: Outbox,
    writes: Vec<DiskCompletion>,
    records: usize,
}

impl Scene {
    fn new() -> Scene {
        let config = AppenderConfig::new(LogIdentity { store: [7; 16], shard: 0 }, Durability::Sync);
        let log = Appender::start(config, ResumePoint::fresh());
        let (inbox, outbox) = (Inbox::default(), Outbox::default());
        let mut scene = Scene { shard: Shard::new(plan(), Some(log)), inbox, outbox, writes: Vec::new(), records: 0 };
        // Segments are asked for and made.
        (0..4).for_each(|_| scene.step());
        scene
    }

    fn carry_out(&mut self) {
        for request in self.outbox.requests.drain(..) {
            match request {
                DiskRequest::Write { segment, offset, buffer, length, .. } => {
                    let result = Ok(length);
                    self.writes.push(DiskCompletion::Write { segment, offset, buffer, result });
                }
                DiskRequest::Prepare { segment, size } | DiskRequest::Recycle { segment, size, .. } => {
                    self.inbox.completions.push(DiskCompletion::Prepared { segment, salt: segment.0, size });
                }
                DiskRequest::Remove { segment } => {
                    self.inbox.completions.push(DiskCompletion::Removed { segment, result: Ok(()) });
                }
                DiskRequest::Close { .. } => {}
            }
        }
    }

    fn append_first(&mut self) {
        self.shard.append_first(0, &self.inbox, &mut self.outbox).expect("a sound batch");
        self.carry_out();
    }

    fn step(&mut self) {
        self.shard.step(0, &mut self.inbox, &mut self.outbox).expect("a healthy shard");
        self.records += self.outbox.acknowledged.drain(..).len();
        self.outbox.spent_batches.clear();
        self.carry_out();
    }

    fn finish_writes(&mut self) {
        self.inbox.completions.append(&mut self.writes);
        self.step();
    }

    fn accepted(&self) -> u64 {
        self.shard.counts().streams[0].accepted
    }
}

#[test]
fn its_write_is_asked_for_before_it_is_folded_and_only_once() {
    let mut scene = Scene::new();
    scene.inbox.arrivals.push_back(batch(0, 100));
    scene.append_first();
    assert_eq!((scene.writes.len(), scene.accepted()), (1, 0), "written, not folded");
    // Asked again before the step, nothing more comes of it.
    scene.append_first();
    // The disk may be done before the fold is.
    scene.inbox.completions.append(&mut scene.writes);
    scene.step();
    assert_eq!(
        (scene.writes.len(), scene.accepted(), scene.records),
        (0, 100, 1),
        "folded, acknowledged, not written twice"
    );
    // The same batch again is known.
    scene.inbox.arrivals.push_back(batch(0, 100));
    scene.append_first();
    scene.step();
    assert_eq!((scene.writes.len(), scene.accepted(), scene.records), (0, 100, 2));
    assert_eq!(scene.shard.counts().streams[0].duplicate, 100);
}

#[test]
fn what_comes_together_is_written_together() {
    let mut scene = Scene::new();
    scene.inbox.arrivals.extend([batch(0, 10), batch(1, 10)]);
    scene.append_first();
    assert_eq!(scene.writes.len(), 0);
    scene.step();
    assert_eq!((scene.writes.len(), scene.accepted(), scene.records), (1, 20, 0));
    scene.step();
    assert!(scene.inbox.completions.is_empty(), "nothing but the write is under way");
    // One write is under way: the next batch goes with what else has come by its end.
    scene.inbox.arrivals.push_back(batch(2, 10));
    scene.append_first();
    assert_eq!(scene.writes.len(), 1);
    scene.step();
    scene.finish_writes();
    scene.finish_writes();
    assert_eq!((scene.accepted(), scene.records), (30, 3));
}

#[test]
fn a_shard_that_becomes_full_meanwhile_folds_what_it_has_in_its_log() {
    let mut scene = Scene::new();
    let mut sequence = 0;
    // Up to the batch whose acknowledgement closes the pane that is one too many.
    loop {
        scene.inbox.arrivals.push_back(batch(sequence, GROUPS));
        scene.append_first();
        let accepted = scene.accepted();
        scene.step();
        assert_eq!(scene.accepted(), accepted + GROUPS as u64, "batch {sequence} is in the log");
        scene.finish_writes();
        sequence += 1;
        scene.inbox.arrivals.push_back(batch(sequence, GROUPS));
        let before = scene.accepted();
        scene.step();
        if scene.accepted() == before {
            break;
        }
        scene.finish_writes();
        sequence += 1;
    }
    // It is full now, and what waits is not in the log. What is put there all the same is folded.
    scene.append_first();
    scene.step();
    assert_eq!(scene.accepted(), (sequence + 1) * GROUPS as u64);
    scene.finish_writes();
    assert_eq!(scene.records as u64, sequence + 1);
}
