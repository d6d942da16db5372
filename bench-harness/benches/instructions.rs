//! The hot loops as they are counted by callgrind: each is prepared, run once to warm up, and run once more within
//! `counted_loop`, which is what `scripts/instructions.sh` tells callgrind to look at.
//!
//! `instructions LOOP` runs one of them, `--list` names them, without a name each runs at a smoke size, as the tests do it.
//! Time is not measured here; `hot_loops.rs` does that.

use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::partial::Partial;
use corefold_aggregator::partial_ref::PartialRef;
use corefold_aggregator::result::ResultBatch;
use corefold_aggregator::time::EventTime;
use corefold_bench::local::plan::LocalPlan;
use corefold_bench::scenario::events::{Events, START_US};
use corefold_bench::scenario::folding::emit_to;
use corefold_bench::scenario::reference::Windows;
use corefold_bench::scenario::{files, params, question};
use corefold_engine::links::{ARRIVALS_MAX, Dealt, link};
use corefold_engine::source::input::{Format, Input};
use corefold_engine::source::parser::Parser;
use corefold_engine::source::{Chunk, open};
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::wire::encode;
use corefold_shards::batch::{AlignedBytes, UnverifiedBatch};
use corefold_shards::fold::group_table::{GroupTable, NO_SLOT};
use corefold_shards::fold::pane::PaneCursor;
use corefold_shards::fold::view_fold::ViewFold;
use corefold_shards::shard::PARTIAL_ROWS;
use corefold_shards::wal::{
    Appender, AppenderConfig, DiskCompletion, DiskRequest, Durability, LogIdentity, RecordKind, ResumePoint,
};
use rkyv::util::AlignedVec;
use std::hint::black_box;
use std::io::{self, Write};

/// A loop that is ready to be run.
struct Loop {
    /// What the instructions are divided by.
    items: u64,
    /// The first call warms up, the second is counted.
    work: Box<dyn FnMut()>,
}

/// How a loop is prepared, over so many events.
type Prepare = fn(usize) -> Loop;

const LOOPS: &[(&str, &str, Prepare)] = &[
    ("fold-integers", "event", |events| fold(events, "key=i64", "zipf")),
    ("fold-texts", "event", |events| fold(events, "key=string", "zipf")),
    ("fold-one-key", "event", |events| fold(events, "key=i64", "hot")),
    ("find-groups", "event", find_groups),
    ("verify", "event", verify),
    ("encode", "event", encode_one),
    ("log", "event", log),
    ("merge", "row", |events| panes(events, true)),
    ("slide-and-emit", "row", |events| panes(events, false)),
    ("parse-csv", "event", parse_csv),
    ("hand-off", "item", hand_off),
];

const WINDOWS: Windows = Windows { size: 10_000_000, slide: 1_000_000 };

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// What callgrind counts.
#[inline(never)]
fn counted_loop(work: &mut dyn FnMut()) {
    work();
    black_box(());
}

struct Scene {
    events: Events,
    plan: LocalPlan,
    batches: Vec<AlignedBytes>,
}

fn scene(events: usize, asked: &[&str]) -> Scene {
    let size = [format!("events={events}"), "cardinality=2000".to_owned(), "span=5s".to_owned()];
    let asked: Vec<String> = size.into_iter().chain(asked.iter().map(|&text| text.to_owned())).collect();
    let points = params::points(&question::params(), &asked, false).expect("good parameters");
    let events = Events::make(&points[0]).expect("events");
    let plan = question::plan(question::words(events.stream(), WINDOWS)).expect("a plan");
    let batches = question::batches(&plan, &events, BATCH_ROWS).expect("batches");
    Scene { events, plan, batches }
}

fn fold_all(plan: &LocalPlan, view: &mut ViewFold, batches: &[AlignedBytes]) {
    let stream = &plan.shards.streams[0];
    let mut late = Vec::new();
    for bytes in batches {
        let batch = UnverifiedBatch::new(bytes.as_slice()).verify(stream.fingerprint, &stream.fields).expect("a batch");
        black_box(view.fold(&batch, &mut late).expect("a fold"));
    }
}

/// Checks and folds; groups and their rows are there after the first time.
fn fold(events: usize, key: &str, keys: &str) -> Loop {
    let Scene { plan, batches, .. } = scene(events, &[key, &format!("keys={keys}")]);
    let mut view = ViewFold::new(plan.shards.views[0].clone());
    Loop { items: events as u64, work: Box::new(move || fold_all(&plan, &mut view, &batches)) }
}

/// Integer keys to slots, all of them known.
fn find_groups(events: usize) -> Loop {
    let Scene { events, .. } = scene(events, &[]);
    let mut table = GroupTable::new();
    for &key in &events.keys {
        if table.find_int(key) == NO_SLOT {
            let mut encoded = Vec::new();
            corefold_aggregator::key::push_i64(&mut encoded, key);
            table.insert(&encoded, Some(key));
        }
    }
    // As batches have them.
    let offsets: Vec<u16> = events.keys.iter().map(|&key| u16::try_from(key).expect("a small key")).collect();
    let mut slots = vec![0; offsets.len()];
    let items = offsets.len() as u64;
    let work = move || assert_eq!(table.find_ints(&offsets, i64::from, black_box(&mut slots)), offsets.len());
    Loop { items, work: Box::new(work) }
}

fn verify(events: usize) -> Loop {
    let Scene { plan, batches, .. } = scene(events, &[]);
    let work = move || {
        let stream = &plan.shards.streams[0];
        for bytes in &batches {
            let batch = UnverifiedBatch::new(bytes.as_slice()).verify(stream.fingerprint, &stream.fields);
            black_box(batch.expect("a batch").rows());
        }
    };
    Loop { items: events as u64, work: Box::new(work) }
}

/// One batch of columns, as a parser leaves them, into bytes.
fn encode_one(events: usize) -> Loop {
    let Scene { events, plan, .. } = scene(events.min(BATCH_ROWS), &[]);
    let kinds: Vec<_> = plan.batches.read.fields.iter().map(|field| field.kind).collect();
    let mut columns = ColumnSet::new(&kinds);
    question::push_rows(&events, 0..events.len(), &mut columns).expect("columns");
    let mut bytes = AlignedBytes::new();
    let items = events.len() as u64;
    let work = move || {
        bytes.clear();
        let stamp = corefold_shards::batch::Stamp::of_lane(0, 0, 0);
        encode(&columns, plan.batches.fingerprint, &stamp, &mut bytes).expect("a batch");
        black_box(bytes.as_slice());
    };
    Loop { items, work: Box::new(work) }
}

/// Batches into blocks with their checksums, for a disk that is done at once.
fn log(events: usize) -> Loop {
    let Scene { batches, .. } = scene(events, &[]);
    let config = AppenderConfig::new(LogIdentity { store: [7; 16], shard: 0 }, Durability::Sync);
    let mut log = Appender::start(config, ResumePoint::fresh());
    let mut requests = Vec::new();
    let work = move || {
        for bytes in &batches {
            while log.try_append(RecordKind::BATCH, bytes.as_slice()).is_none() {
                turn(&mut log, &mut requests);
            }
        }
        turn(&mut log, &mut requests);
    };
    Loop { items: events as u64, work: Box::new(work) }
}

fn turn(log: &mut Appender, requests: &mut Vec<DiskRequest>) {
    log.poll(0, requests);
    for request in requests.drain(..) {
        let answer = match request {
            DiskRequest::Write { segment, offset, buffer, length, .. } => {
                DiskCompletion::Write { segment, offset, buffer, result: Ok(length) }
            }
            DiskRequest::Prepare { segment, size } | DiskRequest::Recycle { segment, size, .. } => {
                DiskCompletion::Prepared { segment, salt: segment.0, size }
            }
            DiskRequest::Remove { segment } => DiskCompletion::Removed { segment, result: Ok(()) },
            DiskRequest::Close { .. } => continue,
        };
        log.complete(answer, 0);
    }
    log.release(log.durable());
}

/// Shards of the coordinator's loops.
const SHARDS: usize = 2;

/// The panes of two shards, pane by pane; `is_merge`: the third of them is merged within the loop, otherwise given out.
fn panes(events: usize, is_merge: bool) -> Loop {
    let shards: Vec<(Vec<AlignedVec>, LocalPlan)> = (0..SHARDS).map(|shard| partials(events, shard)).collect();
    let plan = shards[0].1.shards.views[0].plan.clone();
    let rows = |bytes: &AlignedVec| {
        let partial = PartialRef::open_sent(bytes, |_| Some(plan.layout.stride)).expect("a partial");
        partial.slots.len() as u64
    };
    let items: u64 = shards.iter().map(|(partials, _)| rows(&partials[COUNTED_PANE])).sum();
    let items = if is_merge { items } else { GROUPS };
    let mut coordinator = Coordinator::new(vec![plan.clone()], SHARDS);
    let mut pane = 0;
    let merge = move |coordinator: &mut Coordinator, pane: usize| {
        let end = EventTime(START_US + (pane as i64 + 1) * WINDOWS.slide);
        (0..SHARDS).for_each(|shard| coordinator.on_frontier(shard, end));
        let time = coordinator.start_pull().expect("a pull");
        for (shard, (partials, _)) in shards.iter().enumerate() {
            coordinator.on_partial(shard, &partials[pane]).expect("a partial");
            coordinator.on_pulled(shard, time);
        }
    };
    let give_out = |coordinator: &mut Coordinator| {
        let sink = |rows: &mut ResultBatch| {
            black_box(rows);
            Ok(())
        };
        emit_to(coordinator, sink).expect("windows");
    };
    for earlier in 0..COUNTED_PANE - 1 {
        merge(&mut coordinator, earlier);
        give_out(&mut coordinator);
        pane = earlier + 1;
    }
    // Whichever half is not looked at is done between two calls: `work` is called in turn for one and the other.
    let mut is_merged = false;
    let work = move || {
        if is_merge {
            if is_merged {
                merge(&mut coordinator, pane);
                return;
            }
            merge(&mut coordinator, pane);
            give_out(&mut coordinator);
        } else if is_merged {
            give_out(&mut coordinator);
            return;
        } else {
            merge(&mut coordinator, pane);
            give_out(&mut coordinator);
            merge(&mut coordinator, pane + 1);
        }
        (pane, is_merged) = (pane + 1, true);
    };
    Loop { items, work: Box::new(work) }
}

/// Which pane is looked at: groups have been met, windows are not full yet.
const COUNTED_PANE: usize = 3;

/// Groups of every scene: all of them are in every window, as a rule.
const GROUPS: u64 = 2_000;

fn partials(events: usize, shard: usize) -> (Vec<AlignedVec>, LocalPlan) {
    let Scene { plan, batches, .. } = scene(events, &["keys=uniform", &format!("seed={}", shard + 1)]);
    let mut view = ViewFold::new(plan.shards.views[0].clone());
    fold_all(&plan, &mut view, &batches);
    let (mut partial, mut found, mut from) = (Partial::default(), Vec::new(), PaneCursor::START);
    while let Some(next) = view.write_partial(0, from, EventTime::MAX, PARTIAL_ROWS, &mut partial) {
        found.push(partial.send(AlignedVec::new()).expect("an archive"));
        view.return_sides(&mut partial);
        from = next;
    }
    (found, plan)
}

fn parse_csv(events: usize) -> Loop {
    let Scene { events, plan, .. } = scene(events, &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("events.csv");
    files::write(&events, "csv", &path).expect("a file");
    let input = Input::from_path(&path, Some(Format::Csv)).expect("an input");
    let mut reader = open(&input, &plan.batches.read, 0).expect("a reader");
    let chunks: Vec<Chunk> = std::iter::from_fn(|| reader.next(Vec::new()).expect("a chunk")).collect();
    let mut parser = Parser::new(plan.batches.read.clone());
    let mut columns = ColumnSet::new(&parser.kinds());
    let work = move || {
        for chunk in &chunks {
            columns.clear();
            parser.parse(chunk, &mut columns).expect("good rows");
            black_box(columns.rows());
        }
    };
    Loop { items: events.len() as u64, work: Box::new(work) }
}

/// Both ends on one core: what the ring costs without anybody waiting.
fn hand_off(items: usize) -> Loop {
    let (mut shard, mut dealer, coordinator) = link();
    let rounds = items / ARRIVALS_MAX;
    let work = move || {
        let _others = &coordinator;
        for round in 0..rounds {
            for at in 0..ARRIVALS_MAX {
                let time = EventTime((round * ARRIVALS_MAX + at) as i64);
                dealer.arrivals.push(Dealt::Frontier(time)).expect("room");
            }
            for _ in 0..ARRIVALS_MAX {
                black_box(shard.arrivals.pop().expect("an item"));
            }
        }
    };
    Loop { items: (rounds * ARRIVALS_MAX) as u64, work: Box::new(work) }
}

/// Instruction sets that code here chooses among, as the program sees them: valgrind hides some.
fn paths() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let has = |name: &str, found: bool| format!("{name} {}", if found { "yes" } else { "no" });
        [
            has("sse4.2", std::arch::is_x86_feature_detected!("sse4.2")),
            has("avx2", std::arch::is_x86_feature_detected!("avx2")),
            has("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ]
        .join(", ")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH.to_owned()
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut out = io::stdout().lock();
    if arguments.iter().any(|word| word == "--list") {
        return LOOPS.iter().try_for_each(|(name, ..)| writeln!(out, "{name}"));
    }
    if arguments.iter().any(|word| word == "--paths") {
        return writeln!(out, "{}", paths());
    }
    let wanted = arguments.iter().find(|word| !word.starts_with("--"));
    let size = if wanted.is_some() { 32_768 } else { 8_192 };
    for (name, unit, prepare) in LOOPS.iter().filter(|(name, ..)| wanted.is_none_or(|wanted| wanted == name)) {
        let mut ready = prepare(size);
        (ready.work)();
        counted_loop(&mut ready.work);
        writeln!(out, "{name} {} {unit}", ready.items)?;
    }
    Ok(())
}
