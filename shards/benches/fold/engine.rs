//! The engine's ways to fold the events: the fold alone, with partials, and whole steps of a shard.

use super::Total;
use super::data::{Columns, PANE};
use corefold_aggregator::key::unorder_i64;
use corefold_aggregator::partial::Partial;
use corefold_aggregator::spec::{AggregateSpec, Field, FieldType, Function, Overflow, StreamSpec, ViewSpec};
use corefold_aggregator::time::{Duration, EventTime, WindowSpec};
use corefold_aggregator::view::ViewPlan;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::batch::columns::{ColumnData, ColumnSet};
use corefold_shards::batch::wire::{Encoder, Stamp, UnverifiedBatch};
use corefold_shards::fold::pane::PaneCursor;
use corefold_shards::fold::view_fold::{ShardView, ViewFold};
use corefold_shards::shard::{Arrival, Inbox, Outbox, PARTIAL_ROWS, Shard, ShardPlan, ShardStream};
use corefold_shards::wal::{
    Appender, AppenderConfig, DiskCompletion, DiskRequest, Durability, LogIdentity, ResumePoint,
};

/// Rows of a batch, as file inputs make them.
const BATCH_ROWS: usize = 8_192;

fn micros(value: i64) -> Duration {
    Duration::from_micros(value).expect("a length of time")
}

fn stream() -> StreamSpec {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    StreamSpec {
        name: "s".to_owned(),
        time: "ts".to_owned(),
        delay_max: micros(0),
        fields: vec![field("key", FieldType::I64), field("value", FieldType::F64)],
    }
}

fn view() -> ShardView {
    let stream = stream();
    let functions = [Function::Count, Function::Sum, Function::Min, Function::Max];
    let aggregates = functions.iter().map(|&function| AggregateSpec {
        name: format!("{function:?}"),
        function,
        field: Some(1).filter(|_| function != Function::Count),
    });
    let spec = ViewSpec {
        name: "v".to_owned(),
        by: vec![0],
        window: WindowSpec::new(micros(10 * PANE), micros(PANE), micros(0)).expect("a window"),
        aggregates: aggregates.collect(),
        groups_max: 2_000_000,
        overflow: Overflow::Fold,
    };
    let plan = ViewPlan::new(&stream, spec).expect("a view");
    ShardView { plan, filter: None, delay_max: stream.delay_max, group_ttl: micros(3600 * PANE) }
}

/// The events as batches of one lane, each with the watermark before it.
pub fn batches(columns: &Columns) -> Vec<AlignedBytes> {
    let fingerprint = stream().fingerprint();
    let mut encoder = Encoder::new();
    let mut set = ColumnSet::new(&[FieldType::I64, FieldType::F64]);
    let chunk = |start: usize| {
        let rows = start..columns.times.len().min(start + BATCH_ROWS);
        set.times = columns.times[rows.clone()].to_vec().into();
        set.columns = vec![
            ColumnData::I64 { values: columns.keys[rows.clone()].to_vec().into(), validity: None },
            ColumnData::F64 { values: columns.values[rows].to_vec().into() },
        ];
        let watermark = if start == 0 { EventTime::MIN } else { EventTime(columns.times[start - 1]) };
        let stamp = Stamp {
            first_row: start as u64,
            watermark,
            frontier: watermark,
            ..Stamp::of_lane(0, 0, (start / BATCH_ROWS) as u64)
        };
        let mut bytes = AlignedBytes::new();
        encoder.encode(&set, fingerprint, &stamp, &mut bytes).expect("a batch");
        bytes
    };
    (0..columns.times.len()).step_by(BATCH_ROWS).map(chunk).collect()
}

/// Folds verified batches; panes are released as they close, after being copied if `partials`.
pub fn fold(batches: &[AlignedBytes], partials: bool, look: bool) -> Option<Total> {
    let (stream, mut fold) = (stream(), ViewFold::new(view()));
    let (mut late, mut partial, mut looker) = (Vec::new(), Partial::default(), look.then(Looker::default));
    let mut aggregated = 0;
    for bytes in batches {
        let batch = UnverifiedBatch::new(bytes.as_slice());
        let batch = batch.verify(stream.fingerprint(), &stream.fields).expect("a batch");
        let frontier = batch.stamp().frontier;
        give_out(&mut fold, frontier, partials, &mut partial, &mut looker);
        aggregated += fold.fold(&batch, &mut late).expect("in order").aggregated;
    }
    give_out(&mut fold, EventTime::MAX, partials, &mut partial, &mut looker);
    assert!(late.is_empty());
    assert!(aggregated > 0);
    looker.map(|looker| looker.total)
}

fn give_out(
    fold: &mut ViewFold,
    frontier: EventTime,
    partials: bool,
    partial: &mut Partial,
    looker: &mut Option<Looker>,
) {
    if fold.closed_sizes(frontier).next().is_none() {
        return;
    }
    let mut from = PaneCursor::START;
    while partials && let Some(next) = fold.write_partial(0, from, frontier, PARTIAL_ROWS, partial) {
        if let Some(looker) = looker {
            looker.look(partial, fold.view().plan.layout.stride);
        }
        fold.return_sides(partial);
        from = next;
    }
    fold.release(frontier);
}

/// Takes whole steps of a shard, which is pulled whenever a pane has closed.
pub fn step(batches: &[AlignedBytes], with_log: bool) -> Option<Total> {
    let stream = stream();
    let streams = vec![ShardStream { fingerprint: stream.fingerprint(), fields: stream.fields, views: vec![0] }];
    let mut shard = Shard::new(ShardPlan { streams, views: vec![view()], late_wanted: false }, with_log.then(log));
    let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
    let (mut spare, mut is_pulling) = (AlignedBytes::new(), false);
    for bytes in batches.iter().map(Some).chain([None]) {
        match bytes {
            Some(bytes) => {
                // The copy stands for whatever brought the batch to the core's cache.
                spare.clear();
                spare.extend(bytes.as_slice());
                inbox.arrivals.push_back(Arrival::Batch(std::mem::take(&mut spare)));
            }
            None => inbox.arrivals.push_back(Arrival::Frontier(EventTime::MAX)),
        }
        loop {
            if !is_pulling && shard.has_closed(0) {
                inbox.pull = Some(shard.frontier());
                is_pulling = true;
            }
            shard.step(0, &mut inbox, &mut outbox).expect("a step");
            answer(&mut inbox, &mut outbox, &mut spare);
            is_pulling &= inbox.release.is_none();
            if inbox.arrivals.is_empty() && inbox.completions.is_empty() && inbox.release.is_none() {
                break;
            }
        }
    }
    while is_pulling {
        shard.step(0, &mut inbox, &mut outbox).expect("a step");
        answer(&mut inbox, &mut outbox, &mut spare);
        is_pulling = inbox.release.is_none();
    }
    let counts = &shard.counts().streams[0];
    assert_eq!(counts.received, counts.accepted);
    None
}

/// What the world around a shard does, at once and without doing it.
fn answer(inbox: &mut Inbox, outbox: &mut Outbox, spare: &mut AlignedBytes) {
    inbox.spent_partials.append(&mut outbox.partials);
    inbox.release = outbox.pulled.take();
    outbox.acknowledged.clear();
    if let Some(bytes) = outbox.spent_batches.pop() {
        *spare = bytes;
    }
    for request in outbox.requests.drain(..) {
        match request {
            DiskRequest::Write { segment, offset, buffer, length, .. } => {
                inbox.completions.push(DiskCompletion::Write { segment, offset, buffer, result: Ok(length) });
            }
            other => inbox.completions.extend(completed(other)),
        }
    }
}

/// The answer to a request about segments; the log is never trimmed, so none is recycled.
fn completed(request: DiskRequest) -> Option<DiskCompletion> {
    match request {
        DiskRequest::Prepare { segment, size } => Some(DiskCompletion::Prepared { segment, salt: 1, size }),
        DiskRequest::Remove { segment } => Some(DiskCompletion::Removed { segment, result: Ok(()) }),
        _ => None,
    }
}

fn log() -> Appender {
    let identity = LogIdentity { store: [7; 16], shard: 0 };
    Appender::start(AppenderConfig::new(identity, Durability::Sync), ResumePoint::fresh())
}

/// Adds up what partials hold; keys are announced once.
#[derive(Default)]
struct Looker {
    keys: Vec<i64>,
    total: Total,
}

impl Looker {
    fn look(&mut self, partial: &Partial, stride: usize) {
        for (slot, key) in partial.announcements() {
            let key: [u8; 8] = key[1..].try_into().expect("an integer key");
            self.keys.resize(self.keys.len().max(slot as usize + 1), 0);
            self.keys[slot as usize] = unorder_i64(key);
        }
        for (&slot, words) in partial.slots.iter().zip(partial.words.chunks(stride)) {
            // Rows, values, both parts of the sum, minimum, maximum.
            let double = |at: usize| f64::from_bits(words[at]);
            let place = (partial.pane, self.keys[slot as usize]);
            self.total.add(place, words[0], double(2) + double(3), (double(4), double(5)));
        }
    }
}
