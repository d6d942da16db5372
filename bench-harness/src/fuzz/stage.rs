//! One stream with fields of every type and views with every aggregate: what accepted inputs are put through.
//!
//! Where inputs come from is not here.

use crate::entropy::Entropy;
use corefold_aggregator::partial::{Partial, PartialError};
use corefold_aggregator::partial_ref::PartialRef;
use corefold_aggregator::result::{OutputColumn, ResultBatch};
use corefold_aggregator::spec::{Field, FieldType, Overflow, StreamSpec, ViewSpec};
use corefold_aggregator::time::{Duration, EventTime, WindowSpec};
use corefold_aggregator::view::{View, ViewError};
use corefold_engine::assemble::{ViewRequest, shard_plan};
use corefold_engine::source::times;
use corefold_engine::sql::{self, StreamColumns};
use corefold_shards::batch::{AlignedBytes, ColumnSet, Encoder, Stamp};
use corefold_shards::shard::{Arrival, Inbox, Outbox, PARTIALS_MAX, Shard, ShardPlan};
use rkyv::util::AlignedVec;
use std::sync::LazyLock;
use xxhash_rust::xxh3::Xxh3;

/// Name of the time column.
pub const TIME: &str = "ts";

/// What every shard computes.
pub static PLAN: LazyLock<ShardPlan> = LazyLock::new(|| plan(&stream()));

/// Every function of every type it takes.
const AGGREGATES: [&str; 4] = [
    "count(), n = count(i), sum(i), sum(f), mean(i), mean(f), min(i), max(f), min(s), max(s), min(b)",
    "first(i), last(f), first(s), last(s), first(b), stddev(f), variance(i), distinct(s), distinct(f)",
    "top(s, 3), top(i, 1), top(f, 2), top(b, 2), quantile(f, 0.5), quantile(i, 0.99)",
    "count(), sum(f), top(s, 1), distinct(i)",
];

/// Groups that a sound partial of the stage has less of. The coordinator keeps a table by slot, and trusts its shards.
const SLOTS_END: u32 = 1 << 17;

const FILTER: &str = "f > 0 or s like 'a%' or b is null or i in (1, 2, 3)";

/// The stream.
pub fn stream() -> StreamSpec {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    StreamSpec {
        name: "fuzz".to_owned(),
        time: TIME.to_owned(),
        delay_max: Duration::from_micros(1_000_000).unwrap_or(Duration::ZERO),
        fields: vec![
            field("s", FieldType::String),
            field("i", FieldType::I64),
            field("f", FieldType::F64),
            field("b", FieldType::Bool),
        ],
    }
}

/// What `--where` and `--agg` may name.
pub fn columns(stream: &StreamSpec) -> StreamColumns<'_> {
    StreamColumns { time: &stream.time, fields: &stream.fields }
}

/// How the engine reads times in literals.
pub fn parse_time(text: &str) -> Option<i64> {
    times::parse(text.as_bytes(), None).ok()
}

/// A tumbling or hopping window of these microseconds.
pub fn window(size: i64, slide: i64) -> WindowSpec {
    let duration = |micros| Duration::from_micros(micros).expect("a sane duration");
    WindowSpec::new(duration(size), duration(slide), Duration::ZERO).expect("a sane window")
}

fn plan(stream: &StreamSpec) -> ShardPlan {
    let request = |name: &str, by: &[usize], window, aggregates: &[&str], groups_max, filter: Option<&str>| {
        let texts: Vec<String> = aggregates.iter().map(|text| (*text).to_owned()).collect();
        let parsed = sql::parse_aggregates(&texts).expect("the stage's own aggregates");
        let aggregates = sql::resolve(&parsed, &columns(stream)).expect("the stage's own aggregates");
        let overflow = if groups_max == 5 { Overflow::Reject } else { Overflow::Fold };
        let spec = ViewSpec { name: name.to_owned(), by: by.to_vec(), window, aggregates, groups_max, overflow };
        let filter =
            filter.map(|text| sql::plan_filter(text, &columns(stream), parse_time).expect("the stage's own filter"));
        ViewRequest { stream: 0, spec, filter, group_ttl: Duration::ZERO }
    };
    let views = vec![
        request("grouped", &[0, 3], window(1_000_000, 1_000_000), &AGGREGATES[..2], 1 << 20, None),
        request("hopping", &[1, 2], window(60_000_000, 10_000_000), &AGGREGATES[2..3], 3, Some(FILTER)),
        request("whole", &[], window(86_400_000_000, 3_600_000_000), &AGGREGATES[..3], 1 << 20, None),
        request("few", &[3], window(7, 3), &AGGREGATES[3..], 5, None),
    ];
    shard_plan(std::slice::from_ref(stream), views, true).expect("the stage's own views")
}

/// Random rows of the stream; small, with the values that make trouble.
pub fn rows(entropy: &mut Entropy) -> ColumnSet {
    let mut set = ColumnSet::new(&stream().fields.iter().map(|field| field.kind).collect::<Vec<_>>());
    let base = *entropy.pick(&[0, 1_356_998_400_000_000, -1, EventTime::EARLIEST.0, EventTime::LATEST.0 - 90_000_000]);
    let span = *entropy.pick(&[0, 10, 3_000_000, 90_000_000]);
    let integers =
        *entropy.pick(&[&[0, 1, -1, 7, i64::MAX, i64::MIN][..], &[0, 7, -9], &[70_000, -70_000], &[9 << 40]]);
    for _ in 0..entropy.index(40) {
        set.times.push(base + entropy.between(0, span));
        let text = *entropy.pick(&["", "a", "abc", "é", "__other__", "a longer text than fits", "\u{10ffff}"]);
        let full = entropy.chance(0.8);
        // A dictionary of a few texts has room.
        let _ = set.columns[0].push_str(full.then_some(text.as_bytes()));
        set.columns[1].push_i64(entropy.chance(0.8).then(|| *entropy.pick(integers)));
        let floats = [0.0, -0.0, 1.5, -2.25, 1e300, -1e300, 5e-324, 0.1, f64::INFINITY, f64::NEG_INFINITY];
        set.columns[2].push_f64(entropy.chance(0.8).then(|| *entropy.pick(&floats)));
        set.columns[3].push_bool(entropy.chance(0.8).then(|| entropy.chance(0.5)));
    }
    set
}

/// The bytes of a batch of these rows.
pub fn encode(set: &ColumnSet, sequence: u64) -> AlignedBytes {
    let mut bytes = AlignedBytes::new();
    let stamp = Stamp::of_lane(1, 0, sequence);
    Encoder::new().encode(set, stream().fingerprint(), &stamp, &mut bytes).expect("a small batch");
    bytes
}

/// Puts batches through a shard and its partial aggregates through views, to the last window. Returns the digest of
/// the results; refusals are part of it.
pub fn run(plan: &ShardPlan, batches: impl IntoIterator<Item = AlignedBytes>) -> u64 {
    let mut hash = Xxh3::new();
    let mut views = views(plan, 1);
    fold(&mut Shard::new(plan.clone(), None), batches, &mut hash, |bytes, hash| {
        merge(plan, &mut views, 0, &as_on_disk(plan, bytes), hash);
    });
    finish(&mut views, &mut hash);
    hash.digest()
}

/// The partial aggregates of sound batches, archived as on a disk.
pub fn partials(batches: impl IntoIterator<Item = AlignedBytes>) -> Vec<AlignedVec> {
    let mut partials = Vec::new();
    let take = |bytes: &AlignedVec, _: &mut Xxh3| partials.push(as_on_disk(&PLAN, bytes));
    fold(&mut Shard::new(PLAN.clone(), None), batches, &mut Xxh3::new(), take);
    partials
}

/// The coordinator's side of every view.
pub fn views(plan: &ShardPlan, shards: usize) -> Vec<View> {
    plan.views.iter().map(|view| View::new(view.plan.clone(), shards)).collect()
}

/// Folds batches and asks for all panes.
pub fn fold(
    shard: &mut Shard,
    batches: impl IntoIterator<Item = AlignedBytes>,
    hash: &mut Xxh3,
    mut take: impl FnMut(&AlignedVec, &mut Xxh3),
) {
    let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
    for batch in batches {
        inbox.arrivals.push_back(Arrival::Batch(batch));
        if let Err(error) = shard.step(0, &mut inbox, &mut outbox) {
            // A shard that has refused is not asked again.
            hash.update(error.to_string().as_bytes());
            return;
        }
    }
    hash.update(format!("{:?} {:?}", shard.counts(), outbox.late).as_bytes());
    inbox.arrivals.push_back(Arrival::Frontier(EventTime::MAX));
    // The frontier passes first; then everything is asked for.
    let mut stepped = shard.step(0, &mut inbox, &mut outbox);
    inbox.pull = Some(EventTime::MAX);
    while stepped.is_ok() && outbox.pulled.is_none() {
        stepped = shard.step(0, &mut inbox, &mut outbox);
        assert!(outbox.partials.len() <= PARTIALS_MAX, "no more partials than may be under way");
        for bytes in outbox.partials.drain(..) {
            take(&bytes, hash);
            inbox.spent_partials.push(bytes);
        }
    }
}

/// The archive of a partial that a shard has sent.
pub fn as_on_disk(plan: &ShardPlan, sent: &AlignedVec) -> AlignedVec {
    let stride = |view: u32| plan.views.get(view as usize).map(|view| view.plan.layout.stride);
    let mut partial = Partial::default();
    partial.copy(PartialRef::open_sent(sent, stride).expect("what was sent"));
    partial.archive(AlignedVec::new()).expect("an archive")
}

/// Checks one archived partial as if it came from a disk and merges it into its view; whether it was taken.
pub fn merge(plan: &ShardPlan, views: &mut [View], shard: usize, bytes: &AlignedVec, hash: &mut Xxh3) -> bool {
    let mut partial = Partial::default();
    let stride = |view: u32| plan.views.get(view as usize).map(|view| view.plan.layout.stride);
    let verified = partial.read(bytes, stride).and_then(|()| {
        let view = &plan.views[partial.view as usize];
        let fits = partial.announced.iter().all(|&slot| slot < SLOTS_END);
        partial.verify(&view.plan).and(if fits { Ok(()) } else { Err(PartialError::Shape("slots of the stage")) })
    });
    let merged = match verified {
        Ok(()) => views[partial.view as usize].merge(shard, &mut partial.by_ref()).map_err(|error| error.to_string()),
        // What the archive's own check says names addresses.
        Err(PartialError::Archive(_)) => Err("damaged".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = &merged {
        hash.update(error.as_bytes());
    }
    merged.is_ok()
}

/// Emits every window that is left.
pub fn finish(views: &mut [View], hash: &mut Xxh3) {
    for view in views {
        let emitted = view.emit::<ViewError>(EventTime::MAX, &mut |rows| {
            digest(rows, hash);
            Ok(())
        });
        if let Err(error) = emitted {
            hash.update(error.to_string().as_bytes());
        }
    }
}

/// Notes result rows, which must be whole.
pub fn digest(rows: &ResultBatch, hash: &mut Xxh3) {
    hash.update(&(rows.rows as u64).to_le_bytes());
    for column in &rows.columns {
        if let OutputColumn::String { offsets, bytes, valid } = column {
            assert_eq!(offsets.len(), rows.rows + 1);
            assert_eq!(valid.len(), rows.rows);
            assert!(std::str::from_utf8(bytes).is_ok(), "text columns hold text");
        }
        hash.update(format!("{column:?}").as_bytes());
    }
}
