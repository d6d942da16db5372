//! Micro-benchmarks of the loops that a core spends its time in, one batch or one pane at a time.
//!
//! `cargo bench -p corefold-bench`; in the tests each runs once, so that none of them rots. Whole scenarios, with answers
//! that are checked, are `bench-harness run`.

use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::partial::Partial;
use corefold_aggregator::time::EventTime;
use corefold_bench::local::plan::LocalPlan;
use corefold_bench::scenario::digest::{Digest, ResultRow};
use corefold_bench::scenario::events::Events;
use corefold_bench::scenario::reference::Windows;
use corefold_bench::scenario::{hand, params, question};
use corefold_shards::batch::{AlignedBytes, UnverifiedBatch};
use corefold_shards::fold::pane::PaneCursor;
use corefold_shards::fold::view_fold::ViewFold;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rkyv::util::AlignedVec;
use std::hint::black_box;

/// Events of a benchmark: enough for every group to have been met, few enough for one run in the tests.
const EVENTS: u64 = 65_536;

const WINDOWS: Windows = Windows { size: 10_000_000, slide: 1_000_000 };

/// Events over five seconds, and their batches.
fn scene(keys: &str, batch: usize) -> (Events, LocalPlan, Vec<AlignedBytes>) {
    let asked = [format!("events={EVENTS}"), format!("keys={keys}"), "span=5s".to_owned()];
    let points = params::points(&question::params(), &asked, false).expect("good parameters");
    let events = Events::make(&points[0]).expect("events");
    let plan = question::plan(question::words(events.stream(), WINDOWS)).expect("a plan");
    let batches = question::batches(&plan, &events, batch).expect("batches");
    (events, plan, batches)
}

fn fold_all(plan: &LocalPlan, view: &mut ViewFold, batches: &[AlignedBytes]) {
    let stream = &plan.shards.streams[0];
    let mut late = Vec::new();
    for bytes in batches {
        let batch = UnverifiedBatch::new(bytes.as_slice()).verify(stream.fingerprint, &stream.fields).expect("a batch");
        black_box(view.fold(&batch, &mut late).expect("a fold"));
    }
}

fn fold(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold");
    group.throughput(Throughput::Elements(EVENTS));
    for keys in ["zipf", "uniform", "hot"] {
        let (events, plan, batches) = scene(keys, 8_192);
        // Groups and pages are there after the first time.
        let mut view = ViewFold::new(plan.shards.views[0].clone());
        group.bench_function(format!("batches, {keys}"), |bencher| {
            bencher.iter(|| fold_all(&plan, &mut view, &batches));
        });
        group.bench_function(format!("hand-written loop, {keys}"), |bencher| {
            bencher.iter(|| black_box(hand::run(&events, WINDOWS, true)));
        });
    }
    group.finish();
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(EVENTS));
    let (events, plan, batches) = scene("zipf", 8_192);
    let stream = &plan.shards.streams[0];
    group.bench_function("check", |bencher| {
        bencher.iter(|| {
            for bytes in &batches {
                let batch = UnverifiedBatch::new(bytes.as_slice()).verify(stream.fingerprint, &stream.fields);
                black_box(batch.expect("a batch").rows());
            }
        });
    });
    group.bench_function("encode", |bencher| {
        bencher.iter(|| black_box(question::batches(&plan, &events, 8_192).expect("batches")));
    });
    group.bench_function("checksum", |bencher| {
        bencher.iter(|| batches.iter().fold(0, |sum, bytes| crc32c::crc32c_append(sum, bytes.as_slice())));
    });
    group.finish();
}

fn panes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pane");
    let (_, plan, batches) = scene("uniform", 8_192);
    let view_plan = &plan.shards.views[0];
    let mut view = ViewFold::new(view_plan.clone());
    fold_all(&plan, &mut view, &batches);
    let mut partial = Partial::default();
    view.write_partial(0, PaneCursor::START, EventTime::MAX, usize::MAX, &mut partial).expect("a pane");
    group.throughput(Throughput::Elements(partial.slots.len() as u64));
    let bytes = partial.archive(AlignedVec::new()).expect("an archive");
    let stride = view_plan.plan.layout.stride;
    group.bench_function("archive", |bencher| {
        bencher.iter_batched(
            || AlignedVec::with_capacity(bytes.len()),
            |buffer| partial.archive(buffer).expect("an archive"),
            BatchSize::LargeInput,
        );
    });
    let mut read = Partial::default();
    group.bench_function("read", |bencher| bencher.iter(|| read.read(&bytes, |_| Some(stride)).expect("an archive")));
    group.bench_function("merge and give out, two shards", |bencher| {
        bencher.iter_batched(
            || Coordinator::new(vec![view_plan.plan.clone()], 2),
            |mut coordinator| {
                (0..2).for_each(|shard| coordinator.on_frontier(shard, EventTime::MAX));
                let time = coordinator.start_pull().expect("a pull");
                for shard in 0..2 {
                    coordinator.on_partial(shard, &bytes).expect("a partial");
                    coordinator.on_pulled(shard, time);
                }
                let mut rows = 0;
                let emitted = coordinator.emit::<corefold_aggregator::coordinator::CoordinatorError>(|_, batch| {
                    rows += batch.rows;
                    Ok(())
                });
                emitted.expect("windows");
                rows
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn digests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("harness");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("digest of 1,000 rows", |bencher| {
        bencher.iter(|| {
            let mut digest = Digest::default();
            for key in 0..1_000_i64 {
                digest.add(&ResultRow { end: 1, key, count: 2, sum: black_box(3), min: 4, max: 5 });
            }
            digest
        });
    });
    group.finish();
}

criterion_group!(hot_loops, fold, batches, panes, digests);
criterion_main!(hot_loops);
