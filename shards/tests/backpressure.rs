//! A shard whose closed panes nobody pulls takes no more batches after a while, and goes on once they are released.

mod keyed;

use corefold_aggregator::spec::{AggregateSpec, FieldType, Function, Overflow, ViewSpec};
use corefold_aggregator::time::{EventTime, WindowSpec};
use corefold_aggregator::view::ViewPlan;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::wire::{Stamp, encode};
use corefold_shards::fold::view_fold::ShardView;
use corefold_shards::shard::{Arrival, Inbox, Outbox, Shard, ShardPlan, ShardStream};
use keyed::{SECOND, micros, stream};

/// Groups, every one of them in every pane.
const GROUPS: i64 = 20_000;

/// Panes, one batch each: their rows take more than three times what a shard holds.
const PANES: u64 = 240;

/// Words of a row: events, values, sum, minimum and maximum.
const ROW_WORDS: i64 = 6;

/// What a shard may hold of closed panes, in words, and what it may go beyond that: two panes, and those of a step.
const HELD_MAX: i64 = (8 << 20) + 11 * GROUPS * ROW_WORDS;

fn shard() -> Shard {
    let stream = stream();
    let functions = [Function::Count, Function::Sum, Function::Min, Function::Max];
    let aggregates = functions.into_iter().map(|function| AggregateSpec {
        name: format!("{function:?}"),
        field: (function != Function::Count).then_some(1),
        function,
    });
    let spec = ViewSpec {
        name: "v".to_owned(),
        by: vec![0],
        window: WindowSpec::new(micros(SECOND), micros(SECOND), micros(0)).expect("a window"),
        aggregates: aggregates.collect(),
        groups_max: 1_000_000,
        overflow: Overflow::Fold,
    };
    let plan = ViewPlan::new(&stream, spec).expect("a view");
    assert_eq!(plan.layout.stride as i64, ROW_WORDS);
    let view = ShardView { plan, filter: None, delay_max: micros(0), group_ttl: micros(3_600 * SECOND) };
    let streams =
        vec![ShardStream { fingerprint: stream.fingerprint(), fields: stream.fields.clone(), views: vec![0] }];
    Shard::new(ShardPlan { streams, views: vec![view], late_wanted: false }, None)
}

/// One event of every group in second `sequence`, below which nothing comes later.
fn batch(sequence: u64) -> AlignedBytes {
    let stream = stream();
    let kinds: Vec<FieldType> = stream.fields.iter().map(|field| field.kind).collect();
    let mut columns = ColumnSet::new(&kinds);
    let start = sequence as i64 * SECOND;
    for group in 0..GROUPS {
        columns.times.push(start);
        columns.columns[0].push_i64(Some(group));
        columns.columns[1].push_f64(Some(0.5));
    }
    let stamp = Stamp { frontier: EventTime(start), ..Stamp::of_lane(0, 0, sequence) };
    let mut bytes = AlignedBytes::new();
    encode(&columns, stream.fingerprint(), &stamp, &mut bytes).expect("a batch");
    bytes
}

#[test]
fn closed_panes_push_back_until_they_are_released() {
    let (mut shard, mut inbox, mut outbox) = (shard(), Inbox::default(), Outbox::default());
    let mut step = |shard: &mut Shard, inbox: &mut Inbox| {
        shard.step(0, inbox, &mut outbox).expect("a healthy shard");
        inbox.spent_partials.append(&mut outbox.partials);
        outbox.spent_batches.clear();
        outbox.acknowledged.clear();
        outbox.pulled.take()
    };
    let aggregated = |shard: &Shard| shard.counts().views[0].aggregated as i64;
    let (mut sequence, mut released, mut pushed_back) = (0, EventTime::MIN, 0);
    while sequence < PANES || !inbox.arrivals.is_empty() {
        while sequence < PANES && inbox.arrivals.len() < 8 {
            inbox.arrivals.push_back(Arrival::Batch(batch(sequence)));
            sequence += 1;
        }
        let before = aggregated(&shard);
        step(&mut shard, &mut inbox);
        let held = (shard.frontier().0 - released.0.max(0)) / SECOND * GROUPS * ROW_WORDS;
        assert!(held <= HELD_MAX, "{held} words of closed panes");
        if aggregated(&shard) > before {
            continue;
        }
        // It takes nothing more: the coordinator comes at last.
        pushed_back += 1;
        released = shard.frontier();
        inbox.pull = Some(released);
        while step(&mut shard, &mut inbox).is_none() {}
        inbox.release = Some(released);
        step(&mut shard, &mut inbox);
    }
    assert!(pushed_back >= 2, "it was full {pushed_back} times");
    assert_eq!(aggregated(&shard), PANES as i64 * GROUPS);
}
