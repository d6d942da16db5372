//! The fold against a table that is filled row by row: every shape of batch, every kind of key, full panes, snapshots
//! under way.

use corefold_aggregator::key;
use corefold_aggregator::layout::StateKind;
use corefold_aggregator::partial::{OTHER_SLOT, Partial};
use corefold_aggregator::sketch::exact_sum::SuperSum;
use corefold_aggregator::spec::{AggregateSpec, Field, FieldType, Function, Overflow, StreamSpec, ViewSpec};
use corefold_aggregator::time::{Duration, EventTime, PaneId, WindowSpec};
use corefold_aggregator::view::ViewPlan;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::wire::{Stamp, UnverifiedBatch, encode};
use corefold_shards::fold::pane::PaneCursor;
use corefold_shards::fold::view_fold::{ShardView, ViewFold};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

const PANE: i64 = 10;

/// Time, key, integer, double.
type Event = (i64, Option<i64>, Option<i64>, Option<f64>);

/// What a group has in a pane: events, integers with their sum and ends, doubles with theirs.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    events: u64,
    ints: (u64, i128, i64, i64),
    doubles: (u64, SuperSum, f64, f64),
}

impl Group {
    fn new() -> Group {
        let doubles = (0, SuperSum::new(), f64::INFINITY, f64::NEG_INFINITY);
        Group { events: 0, ints: (0, 0, i64::MAX, i64::MIN), doubles }
    }

    fn add(&mut self, (_, _, int, double): &Event) {
        self.events += 1;
        if let Some(int) = *int {
            let (count, sum, min, max) = self.ints;
            self.ints = (count + 1, sum + i128::from(int), min.min(int), max.max(int));
        }
        if let Some(double) = *double {
            let (count, sum, min, max) = &mut self.doubles;
            *count += 1;
            sum.add(double);
            (*min, *max) = (min.min(double), max.max(double));
        }
    }

    fn merge(&mut self, other: &Group) {
        self.events += other.events;
        let ((a, b, c, d), (e, f, g, h)) = (self.ints, other.ints);
        self.ints = (a + e, b + f, c.min(g), d.max(h));
        let (count, sum, min, max) = &mut self.doubles;
        *count += other.doubles.0;
        sum.merge(&other.doubles.1);
        (*min, *max) = (min.min(other.doubles.2), max.max(other.doubles.3));
    }
}

/// Pane and encoded key, `None` for "other", to what is there.
type Table = BTreeMap<(i64, Option<Vec<u8>>), Group>;

/// Which groups `Overflow::Fold` keeps: those with the smallest hashes of each pane.
fn kept(table: &Table, groups_max: usize) -> Table {
    let mut hashes: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
    for (pane, encoded) in table.keys() {
        hashes.entry(*pane).or_default().push(key::hash(encoded.as_ref().expect("a group")));
    }
    hashes.values_mut().for_each(|hashes| hashes.sort_unstable());
    let mut kept = Table::new();
    for ((pane, encoded), group) in table {
        let is_kept =
            hashes[pane].iter().take(groups_max).any(|hash| Some(*hash) == encoded.as_ref().map(|k| key::hash(k)));
        let place = (*pane, encoded.clone().filter(|_| is_kept));
        kept.entry(place).or_insert_with(Group::new).merge(group);
    }
    kept
}

fn micros(value: i64) -> Duration {
    Duration::from_micros(value).expect("a length of time")
}

fn stream() -> StreamSpec {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    let kinds = [("key", FieldType::I64), ("text", FieldType::String), ("i", FieldType::I64), ("x", FieldType::F64)];
    let fields = kinds.map(|(name, kind)| field(name, kind)).into();
    StreamSpec { name: "s".to_owned(), time: "t".to_owned(), delay_max: micros(1_000_000), fields }
}

/// A view by `by`, whose states lie as they mostly do, or in another order.
/// In which order a view asks for what.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Shape {
    /// Doubles alone, as most views do.
    Common,
    DoublesFirst,
    IntsFirst,
}

fn view(by: Vec<usize>, shape: Shape, groups_max: u32) -> ShardView {
    let (count, of_ints) =
        ((Function::Count, None), [(Function::Max, Some(2)), (Function::Sum, Some(2)), (Function::Min, Some(2))]);
    let of_doubles = [(Function::Sum, Some(3)), (Function::Min, Some(3)), (Function::Max, Some(3))];
    let mut all = vec![count];
    match shape {
        Shape::Common => all.extend(of_doubles),
        Shape::DoublesFirst => all.extend(of_doubles.into_iter().chain(of_ints)),
        Shape::IntsFirst => all.extend(of_ints.into_iter().chain(of_doubles.into_iter().rev())),
    }
    let name = |index| format!("a{index}");
    let aggregates =
        all.into_iter().enumerate().map(|(at, (function, field))| AggregateSpec { name: name(at), function, field });
    let spec = ViewSpec {
        name: "v".to_owned(),
        by,
        window: WindowSpec::new(micros(PANE), micros(PANE), micros(0)).expect("a window"),
        aggregates: aggregates.collect(),
        groups_max,
        overflow: Overflow::Fold,
    };
    let plan = ViewPlan::new(&stream(), spec).expect("a view");
    ShardView { plan, filter: None, delay_max: stream().delay_max, group_ttl: micros(0) }
}

fn encoded(by: &[usize], key: Option<i64>) -> Vec<u8> {
    let mut encoded = Vec::new();
    for &field in by {
        match (field, key) {
            (_, None) => key::push_null(&mut encoded),
            (0, Some(value)) => key::push_i64(&mut encoded, value),
            (_, Some(value)) => key::push_text(&mut encoded, format!("k{value}").as_bytes()),
        }
    }
    encoded
}

fn bytes(events: &[Event], sequence: u64) -> AlignedBytes {
    let stream = stream();
    let kinds: Vec<FieldType> = stream.fields.iter().map(|field| field.kind).collect();
    let mut columns = ColumnSet::new(&kinds);
    for &(time, key, int, double) in events {
        columns.times.push(time);
        columns.columns[0].push_i64(key);
        let text = key.map(|key| format!("k{key}"));
        columns.columns[1].push_str(text.as_ref().map(|text| text.as_bytes())).expect("a short text");
        columns.columns[2].push_i64(int);
        columns.columns[3].push_f64(double);
    }
    let mut bytes = AlignedBytes::new();
    encode(&columns, stream.fingerprint(), &Stamp::of_lane(0, 0, sequence), &mut bytes).expect("a batch");
    bytes
}

/// Adds the rows of a partial to `table`, with the keys that have been announced.
fn take(partial: &Partial, view: &ShardView, keys: &HashMap<u32, Vec<u8>>, table: &mut Table) {
    let layout = &view.plan.layout;
    for (row, (&slot, words)) in partial.slots.iter().zip(partial.words.chunks(layout.stride)).enumerate() {
        let mut group = Group::new();
        for (index, state) in layout.states.iter().enumerate() {
            let word = words[state.offset];
            let double = f64::from_bits(word);
            match state.kind {
                StateKind::Rows => group.events = word,
                StateKind::Values if state.field == 2 => group.ints.0 = word,
                StateKind::Values => group.doubles.0 = word,
                StateKind::SumI64 => group.ints.1 = i128::from(words[state.offset + 1]) << 64 | i128::from(word),
                StateKind::MinI64 => group.ints.2 = word as i64,
                StateKind::MaxI64 => group.ints.3 = word as i64,
                StateKind::SumF64 => {
                    let pair = [double, f64::from_bits(words[state.offset + 1])];
                    group.doubles.1 = SuperSum::of(&pair, partial.sides.spilled(row as u32, index));
                }
                StateKind::MinF64 => group.doubles.2 = double,
                StateKind::MaxF64 => group.doubles.3 = double,
                kind => unreachable!("no view here keeps {kind:?}"),
            }
        }
        let key = (slot != OTHER_SLOT).then(|| keys[&slot].clone());
        assert_eq!(table.insert((partial.pane, key), group), None, "one row for a group");
    }
}

fn learn(partial: &Partial, keys: &mut HashMap<u32, Vec<u8>>) {
    partial.retired.iter().for_each(|slot| assert!(keys.remove(slot).is_some(), "what is retired was announced"));
    for (slot, key) in partial.announcements() {
        assert_eq!(keys.insert(slot, key.to_vec()), None, "announced once");
    }
}

/// All rows as a snapshot sees them.
fn image(fold: &mut ViewFold, view: &ShardView) -> Table {
    let (mut keys, mut partial, mut table) = (HashMap::new(), Partial::default(), Table::new());
    let mut from = Some(0);
    while let Some(slot) = from {
        partial.clear();
        from = fold.write_groups(slot, &mut partial);
        learn(&partial, &mut keys);
    }
    let mut at = Some((PaneId(i64::MIN), 0));
    while let Some(place) = at {
        partial.clear();
        at = fold.write_image(place, &mut partial);
        take(&partial, view, &keys, &mut table);
    }
    table
}

fn doubles() -> impl Strategy<Value = Option<f64>> {
    let values = [0.0, -0.0, 1.5, -2.25, 1e-30, 1e30, -1e30, 1e300, 3e-300, 0.1];
    prop::option::weighted(
        0.9,
        prop_oneof![4 => (-1000..1000).prop_map(f64::from), 1 => prop::sample::select(values.to_vec())],
    )
}

/// Batches over some panes: of one pane or many, with and without nulls, with long runs of a key and without.
fn batches() -> impl Strategy<Value = Vec<Vec<Event>>> {
    let shape = (
        0..4_i64,
        prop_oneof![Just(1_i64), Just(PANE), Just(3 * PANE)],
        prop_oneof![Just(2_i64), Just(400)],
        any::<bool>(),
        // What keys and integers of one batch have in common, and how far they spread: in every form that a batch has for them.
        (prop::sample::select(vec![0, -70_000, 1 << 40, i64::MIN]), prop::sample::select(vec![1_i64, 1 << 9, 1 << 40])),
        prop_oneof![
            Just(any::<i64>().boxed()),
            Just((-5..5_i64).boxed()),
            Just(((7_i64 << 40)..(7_i64 << 40) + 99_999).boxed())
        ],
    );
    let batch = shape.prop_flat_map(|(first, span, keys, with_nulls, (base, step), int)| {
        let key = (0..keys).prop_map(move |key| base + key * step);
        let key = prop::option::weighted(if with_nulls { 0.9 } else { 1.0 - f64::EPSILON }, key);
        let int = prop::option::weighted(if with_nulls { 0.9 } else { 1.0 - f64::EPSILON }, int);
        vec((first * PANE..first * PANE + span, key, int, doubles()), 0..700)
    });
    vec(batch, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_batch_is_folded_as_its_rows_are(
        batches in batches(),
        by in prop::sample::select(vec![vec![], vec![0], vec![1], vec![0, 1]]),
        shape in prop::sample::select(vec![Shape::Common, Shape::DoublesFirst, Shape::IntsFirst]),
        groups_max in prop::sample::select(vec![3, 150, 300, 100_000]),
        freezes in vec(any::<bool>(), 6),
        rows_max in prop::sample::select(vec![1, 7, 100, usize::MAX]),
    ) {
        let view = view(by.clone(), shape, groups_max);
        let stream = stream();
        let (mut fold, mut late) = (ViewFold::new(view.clone()), Vec::new());
        let (mut model, mut keys, mut partial) = (Table::new(), HashMap::new(), Partial::default());
        // The second round and the third are in memory that was used before, with groups that were let go.
        for round in 0..3_i64 {
            let shift = round * 100 * PANE;
            for (at, events) in batches.iter().enumerate() {
                let frozen = freezes[at].then(|| kept(&model, groups_max as usize));
                if frozen.is_some() {
                    fold.freeze();
                }
                let ints = |int: Option<i64>| int.filter(|_| shape != Shape::Common);
                let events = events.iter().map(|event| (event.0 + shift, event.1, ints(event.2), event.3));
                let events: Vec<Event> = events.collect();
                let bytes = bytes(&events, at as u64);
                let batch = UnverifiedBatch::new(bytes.as_slice());
                let batch = batch.verify(stream.fingerprint(), &stream.fields).expect("a batch");
                let counts = fold.fold(&batch, &mut late).expect("no limit is broken");
                prop_assert_eq!(counts.aggregated, events.len() as u64);
                for event in &events {
                    let place = (event.0.div_euclid(PANE), Some(encoded(&by, event.1)));
                    model.entry(place).or_insert_with(Group::new).add(event);
                }
                if let Some(frozen) = frozen {
                    prop_assert_eq!(image(&mut fold, &view), frozen);
                    fold.thaw();
                }
            }
            let (mut given, mut from, end) = (Table::new(), PaneCursor::START, EventTime(shift + 50 * PANE));
            while let Some(next) = fold.write_partial(0, from, end, rows_max, &mut partial) {
                learn(&partial, &mut keys);
                take(&partial, &view, &keys, &mut given);
                fold.return_sides(&mut partial);
                from = next;
            }
            prop_assert_eq!(given, kept(&model, groups_max as usize));
            fold.release(end);
            // With time to spare the panes leave at once, otherwise when the next ones do.
            while freezes[0] && fold.tidy(rows_max.min(100)) {}
            model.clear();
        }
    }
}

/// Memory that another pane has left holds many rows, but it is no reason to look rows up: what lies by slot is found by
/// number, and comes out in the order of slots.
#[test]
fn the_next_pane_of_many_groups_lies_by_slot_in_used_memory_too() {
    let (view, stream) = (view(vec![0], Shape::IntsFirst, 100_000), stream());
    let (mut fold, mut late, mut partial) = (ViewFold::new(view), Vec::new(), Partial::default());
    for pane in 0..4_i64 {
        // In another order each time, and a few groups missing.
        let keys = (0..1_000).map(|number| (number * 7 + pane * 31) % 1_000).filter(|key| key % 5 != pane);
        let events: Vec<Event> = keys.map(|key| (pane * PANE, Some(key), None, Some(1.0))).collect();
        let bytes = bytes(&events, pane as u64);
        let batch = UnverifiedBatch::new(bytes.as_slice());
        let batch = batch.verify(stream.fingerprint(), &stream.fields).expect("a batch");
        fold.fold(&batch, &mut late).expect("no limit is broken");
        let end = EventTime((pane + 1) * PANE);
        fold.write_partial(0, PaneCursor::START, end, usize::MAX, &mut partial).expect("a pane");
        fold.return_sides(&mut partial);
        assert_eq!(partial.slots.len(), events.len());
        assert!(pane == 0 || partial.slots.is_sorted(), "pane {pane}");
        fold.release(end);
        while fold.tidy(64) {}
    }
}

/// A group is known for its time to live after its last pane has gone, whether or not there was time to tell of each group.
#[test]
fn a_group_is_let_go_after_its_time_and_not_before() {
    let stream = stream();
    for has_time in [false, true] {
        let view = ShardView { group_ttl: micros(8 * PANE), ..view(vec![0], Shape::Common, 100_000) };
        let (mut fold, mut late, mut partial) = (ViewFold::new(view), Vec::new(), Partial::default());
        // Pane, its groups, which pane the frontier has come to when it goes; groups that had been let go before.
        for (pane, groups, frontier, gone) in [(0, 200, 9, 0), (9, 100, 16, 0), (16, 100, 18, 0), (18, 1, 19, 100)] {
            let events: Vec<Event> = (0..groups).map(|key| (pane * PANE, Some(key), None, Some(1.0))).collect();
            let bytes = bytes(&events, pane as u64);
            let batch = UnverifiedBatch::new(bytes.as_slice());
            let batch = batch.verify(stream.fingerprint(), &stream.fields).expect("a batch");
            fold.fold(&batch, &mut late).expect("no limit is broken");
            let end = EventTime(frontier * PANE);
            fold.write_partial(0, PaneCursor::START, end, usize::MAX, &mut partial).expect("a pane");
            assert_eq!(partial.retired.len(), gone, "pane {pane}, with time to spare: {has_time}");
            fold.return_sides(&mut partial);
            fold.release(end);
            while has_time && fold.tidy(64) {}
        }
    }
}
