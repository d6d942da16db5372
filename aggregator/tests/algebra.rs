//! The algebra that every promise about sharding rests on: for every aggregate over every type, merging has an
//! identity, commutes, associates, and splits of the input merge to the whole; and windows built from panes of
//! several shards are the windows built from their events at once.
//!
//! Rows of single events are written here by hand, state by state; how a shard folds batches is tested there.

use corefold_aggregator::aggregate::{Position, finalize, hash_value, output_type, top_key};
use corefold_aggregator::coordinator::{Coordinator, CoordinatorError};
use corefold_aggregator::key;
use corefold_aggregator::layout::{RowLayout, StateKind};
use corefold_aggregator::partial::Partial;
use corefold_aggregator::result::{OutputColumn, ResultBatch};
use corefold_aggregator::rows::{MergeScope, Rows, Side};
use corefold_aggregator::sketch::exact_sum;
use corefold_aggregator::sketch::{distinct::DistinctSketch, quantile::QuantileSketch, top::TopSketch};
use corefold_aggregator::spec::{AggregateSpec, Field, FieldType, Function, Overflow, StreamSpec, ViewSpec};
use corefold_aggregator::time::{Duration, EventTime, PaneId, WindowSpec};
use corefold_aggregator::view::ViewPlan;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A value of one event, by its bits, or null.
#[derive(Clone, Debug)]
enum Cell {
    Null,
    Bits(u64),
    Text(String),
}

#[derive(Clone, Debug)]
struct Event {
    time: i64,
    group: i64,
    /// One value per field of `stream()`: i64, f64, bool, string.
    cells: [Cell; 4],
}

const KINDS: [FieldType; 4] = [FieldType::I64, FieldType::F64, FieldType::Bool, FieldType::String];

fn stream() -> StreamSpec {
    let field = |kind: &FieldType| Field { name: kind.name().to_owned(), kind: *kind };
    let mut fields: Vec<Field> = KINDS.iter().map(field).collect();
    fields.push(Field { name: "group".into(), kind: FieldType::I64 });
    StreamSpec { name: "s".into(), time: "t".into(), delay_max: Duration::ZERO, fields }
}

/// Every aggregate over every type that it takes.
fn aggregates() -> Vec<AggregateSpec> {
    let functions = [
        Function::Count,
        Function::Sum,
        Function::Min,
        Function::Max,
        Function::Mean,
        Function::Stddev,
        Function::Variance,
        Function::First,
        Function::Last,
        Function::Quantile(0.5),
        Function::Quantile(0.99),
        Function::Distinct,
        Function::Top(3),
    ];
    let mut specs = vec![AggregateSpec { name: "rows".into(), function: Function::Count, field: None }];
    for (field, kind) in KINDS.iter().enumerate() {
        for (index, &function) in functions.iter().enumerate() {
            let numbers_only = matches!(
                function,
                Function::Sum | Function::Mean | Function::Stddev | Function::Variance | Function::Quantile(_)
            );
            if !numbers_only || matches!(kind, FieldType::I64 | FieldType::F64) {
                specs.push(AggregateSpec { name: format!("{index}_{}", kind.name()), function, field: Some(field) });
            }
        }
    }
    specs
}

/// What a view keeps of a group: everything, or only what fits into its row. Panes are merged in another way then.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kept {
    All,
    Words,
}

fn view(window: WindowSpec, kept: Kept) -> ViewPlan {
    let is_word = |spec: &AggregateSpec| {
        let is_sketch = matches!(spec.function, Function::Quantile(_) | Function::Distinct | Function::Top(_));
        !is_sketch && spec.field.is_none_or(|field| KINDS[field] != FieldType::String)
    };
    let spec = ViewSpec {
        name: "v".into(),
        by: vec![4],
        window,
        aggregates: aggregates().into_iter().filter(|spec| kept == Kept::All || is_word(spec)).collect(),
        groups_max: 1000,
        overflow: Overflow::Fold,
    };
    ViewPlan::new(&stream(), spec).unwrap()
}

/// The row of one event, written state by state. `number` tells events apart as a lane would.
fn row_of(layout: &RowLayout, event: &Event, number: u64) -> Rows {
    let mut rows = Rows::default();
    rows.grow(layout, 1);
    for state in &layout.states {
        let at = state.offset;
        if state.kind == StateKind::Rows {
            rows.words[at] = 1;
            continue;
        }
        let cell = &event.cells[state.field];
        let (bits, bytes) = match cell {
            Cell::Null => continue,
            Cell::Bits(bits) => (*bits, top_key(state.field_type, *bits).to_vec()),
            Cell::Text(text) => (0, text.as_bytes().to_vec()),
        };
        let is_text = state.field_type == FieldType::String;
        let side = |rows: &mut Rows, side| rows.sides.add(side);
        match state.kind {
            StateKind::Rows => {}
            StateKind::Values => rows.words[at] = 1,
            StateKind::SumI64 => {
                rows.words[at] = bits;
                rows.words[at + 1] = ((bits as i64) >> 63) as u64;
            }
            StateKind::SumF64 => rows.words[at] = (f64::from_bits(bits) + 0.0).to_bits(),
            StateKind::SquareI64 => {
                let square = (i128::from(bits as i64) * i128::from(bits as i64)) as u128;
                rows.words[at] = square as u64;
                rows.words[at + 1] = (square >> 64) as u64;
            }
            StateKind::SquareF64 => {
                let (high, low) = exact_sum::two_product(f64::from_bits(bits), f64::from_bits(bits));
                rows.words[at] = high.to_bits();
                rows.words[at + 1] = (low + 0.0).to_bits();
            }
            StateKind::MinI64 | StateKind::MaxI64 | StateKind::MinF64 | StateKind::MaxF64 => rows.words[at] = bits,
            StateKind::MinText | StateKind::MaxText => rows.words[at] = side(&mut rows, Side::Text(bytes)),
            StateKind::First | StateKind::Last => {
                let position = Position { time: event.time, producer: 0, lane: 0, row: number };
                rows.words[at..at + 4].copy_from_slice(&position.words());
                rows.words[at + 4] = if is_text { side(&mut rows, Side::Text(bytes)) } else { bits };
            }
            StateKind::Quantile => {
                let mut sketch = QuantileSketch::new();
                match state.field_type {
                    FieldType::F64 => sketch.add(f64::from_bits(bits)),
                    _ => sketch.add_i64(bits as i64),
                }
                rows.words[at] = side(&mut rows, Side::Quantile(sketch));
            }
            StateKind::Distinct => {
                let mut sketch = DistinctSketch::new();
                sketch.add_hash(hash_value(&bytes));
                rows.words[at] = side(&mut rows, Side::Distinct(sketch));
            }
            StateKind::Top => {
                let mut sketch = TopSketch::new();
                sketch.add(&bytes, 1);
                rows.words[at] = side(&mut rows, Side::Top(sketch));
            }
        }
    }
    rows
}

fn merged(layout: &RowLayout, parts: &[&Rows]) -> Rows {
    let mut whole = Rows::default();
    whole.grow(layout, 1);
    for part in parts {
        whole.merge(layout, &[0], *part, &[0], MergeScope::SamePane);
    }
    whole
}

/// All outputs of the one row of `rows`.
fn outputs(layout: &RowLayout, rows: &Rows) -> Vec<OutputColumn> {
    let column = |output| {
        let mut column = OutputColumn::new(output_type(output));
        finalize(layout, output, rows, &mut column).expect("sums of few small integers fit");
        column
    };
    layout.outputs.iter().map(column).collect()
}

fn event(span: i64) -> impl Strategy<Value = Event> {
    // Sums stay within 64 bits, squares do not.
    let int = prop_oneof![Just(Cell::Null), any::<i32>().prop_map(|v| Cell::Bits((i64::from(v) * 1000) as u64))];
    let wild = (any::<i32>(), -300..300i32).prop_map(|(m, e)| f64::from(m) * 10f64.powi(e));
    let float = prop_oneof![Just(0.1), Just(-0.0), -1e6..1e6f64, wild];
    let float = prop_oneof![1 => Just(Cell::Null), 6 => float.prop_map(|v| Cell::Bits(v.to_bits()))];
    let truth = prop_oneof![Just(Cell::Null), any::<bool>().prop_map(|v| Cell::Bits(u64::from(v)))];
    let text = prop_oneof![Just(Cell::Null), "[a-c]{0,2}".prop_map(Cell::Text)];
    (-span..span, 0..3i64, int, float, truth, text).prop_map(|(time, group, a, b, c, d)| Event {
        time,
        group,
        cells: [a, b, c, d],
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn merging_is_a_commutative_monoid(events in prop::collection::vec(event(50), 0..24), cuts in any::<(u8, u8)>()) {
        let plan = view(WindowSpec::new(micros(1), micros(1), micros(0)).unwrap(), Kept::All);
        let layout = &plan.layout;
        let rows: Vec<Rows> = events.iter().enumerate().map(|(n, e)| row_of(layout, e, n as u64)).collect();
        let all: Vec<&Rows> = rows.iter().collect();
        let whole = merged(layout, &all);
        let expected = outputs(layout, &whole);
        // Identity, from both sides.
        let nothing = merged(layout, &[]);
        prop_assert_eq!(&outputs(layout, &merged(layout, &[&whole, &nothing])), &expected);
        prop_assert_eq!(&outputs(layout, &merged(layout, &[&nothing, &whole])), &expected);
        // Commutativity: backwards.
        let backwards: Vec<&Rows> = rows.iter().rev().collect();
        prop_assert_eq!(&outputs(layout, &merged(layout, &backwards)), &expected);
        // Split, then merge, in both groupings of three parts.
        let first = usize::from(cuts.0) % (all.len() + 1);
        let second = first + usize::from(cuts.1) % (all.len() - first + 1);
        let [a, b, c] = [&all[..first], &all[first..second], &all[second..]].map(|part| merged(layout, part));
        let left = merged(layout, &[&merged(layout, &[&a, &b]), &c]);
        let right = merged(layout, &[&a, &merged(layout, &[&b, &c])]);
        prop_assert_eq!(&outputs(layout, &left), &expected);
        prop_assert_eq!(&outputs(layout, &right), &expected);
    }

}

proptest! {
    // Fewer: a window of 3,600 panes makes each event stand in 3,600 rows.
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn windows_from_panes_are_windows_from_events(
        events in prop::collection::vec((event(60), 0..3usize), 0..16),
        shape in prop_oneof![
            2 => Just((1, 1)), 2 => Just((2, 1)), 3 => Just((10, 1)), 1 => Just((3600, 1)),
            2 => Just((7, 3)), 2 => Just((5, 4)), 2 => Just((12, 4))
        ],
        offset in 0..9i64,
        cuts in prop::collection::vec(-60..60i64, 0..5),
        kept in prop::sample::select(vec![Kept::All, Kept::Words]),
        pieces in (1..=3usize, prop::sample::select(vec![1, 2, 100]), any::<bool>()),
    ) {
        let window = WindowSpec::new(micros(shape.0), micros(shape.1), micros(offset)).unwrap();
        let plan = view(window, kept);
        prop_assert_eq!(plan.layout.handles.is_empty(), kept == Kept::Words);
        let rows: Vec<Rows> = events.iter().enumerate().map(|(n, (e, _))| row_of(&plan.layout, e, n as u64)).collect();
        let mut cuts: Vec<i64> = cuts;
        cuts.sort_unstable();
        let frontiers: Vec<EventTime> = cuts.into_iter().map(EventTime).chain([EventTime::MAX]).collect();
        let found = from_panes(&plan, &events, &rows, &frontiers, pieces);
        prop_assert_eq!(found, from_events(&plan, &events, &rows));
    }
}

type Lines = Vec<(i64, i64, i64, Vec<OutputColumn>)>;

/// Through partials of so many shards and the coordinator, with pulls at `frontiers`. A pane comes in pieces of so many
/// rows, those of all shards one after the other or in turn.
fn from_panes(
    plan: &ViewPlan,
    events: &[(Event, usize)],
    rows: &[Rows],
    frontiers: &[EventTime],
    (shards, piece_rows, in_turn): (usize, usize, bool),
) -> Lines {
    let window = plan.spec.window;
    let mut coordinator = Coordinator::new(vec![plan.clone()], shards);
    let mut lines = Lines::new();
    let mut announced = std::collections::BTreeSet::new();
    let mut below = PaneId(i64::MIN);
    for &frontier in frontiers {
        (0..shards).for_each(|shard| coordinator.on_frontier(shard, frontier));
        let Some(pulled) = coordinator.start_pull() else { continue };
        let limit = window.open_from(pulled);
        let mut pieces = Vec::new();
        for shard in 0..shards {
            let mut turn = 0;
            let mut panes: BTreeMap<PaneId, BTreeMap<i64, Rows>> = BTreeMap::new();
            for ((event, owner), row) in events.iter().zip(rows) {
                let pane = window.pane_of(EventTime(event.time));
                if *owner % shards == shard && pane >= below && pane < limit {
                    let groups = panes.entry(pane).or_default();
                    let total = groups.entry(event.group).or_insert_with(|| merged(&plan.layout, &[]));
                    total.merge(&plan.layout, &[0], row, &[0], MergeScope::SamePane);
                }
            }
            for (pane, groups) in panes {
                let groups: Vec<(i64, Rows)> = groups.into_iter().collect();
                for groups in groups.chunks(piece_rows) {
                    let mut partial = partial(&plan.layout, pane, groups, |slot| announced.insert((shard, slot)));
                    pieces.push((turn, shard, partial.send(Default::default()).unwrap()));
                    turn += 1;
                }
            }
        }
        if in_turn {
            pieces.sort_by_key(|(turn, ..)| *turn);
        }
        pieces.iter().for_each(|(_, shard, bytes)| coordinator.on_partial(*shard, bytes).unwrap());
        (0..shards).for_each(|shard| coordinator.on_pulled(shard, pulled));
        below = limit;
        let emitted = coordinator.emit(|_, batch: &mut ResultBatch| {
            lines.extend((0..batch.rows).map(|row| line(batch, row)));
            Ok::<(), CoordinatorError>(())
        });
        assert_eq!(emitted.unwrap(), Some(pulled));
    }
    lines
}

/// One shard's groups of one pane; slots are the shard's own, one more than the group's number.
fn partial(layout: &RowLayout, pane: PaneId, groups: &[(i64, Rows)], mut is_new: impl FnMut(u32) -> bool) -> Partial {
    let mut partial = Partial { pane: pane.0, ..Partial::default() };
    let mut rows = Rows::default();
    rows.grow(layout, groups.len());
    for (index, (group, row)) in groups.iter().enumerate() {
        let slot = *group as u32 + 1;
        if is_new(slot) {
            let mut encoded = Vec::new();
            key::push_i64(&mut encoded, *group);
            partial.announce(slot, &encoded);
        }
        partial.slots.push(slot);
        rows.merge(layout, &[index as u32], row, &[0], MergeScope::SamePane);
    }
    (partial.words, partial.sides) = (rows.words[..].into(), rows.sides);
    partial
}

/// By brute force: for every window that holds an event, all its events merged one by one.
fn from_events(plan: &ViewPlan, events: &[(Event, usize)], rows: &[Rows]) -> Lines {
    let window = plan.spec.window;
    let mut totals: BTreeMap<(i64, i64), Rows> = BTreeMap::new();
    for ((event, _), row) in events.iter().zip(rows) {
        let pane = window.pane_of(EventTime(event.time));
        for number in window.first_window_of(pane)..=window.last_window_of(pane) {
            let total = totals.entry((number, event.group)).or_insert_with(|| merged(&plan.layout, &[]));
            total.merge(&plan.layout, &[0], row, &[0], MergeScope::AcrossPanes);
        }
    }
    let line = |((number, group), total): (&(i64, i64), &Rows)| {
        let start = number * window.slide() + window.offset();
        (start, start + window.size(), *group, outputs(&plan.layout, total))
    };
    totals.iter().map(line).collect()
}

/// One row of a result, its outputs as columns of one value.
fn line(batch: &ResultBatch, row: usize) -> (i64, i64, i64, Vec<OutputColumn>) {
    let number = |column: &OutputColumn| match column {
        OutputColumn::Time(values) => values[row],
        OutputColumn::I64 { values, .. } => values[row],
        _ => unreachable!("times and group are integers"),
    };
    let one = |column: &OutputColumn| match column {
        OutputColumn::Time(values) => OutputColumn::Time(vec![values[row]]),
        OutputColumn::I64 { values, valid } => OutputColumn::I64 { values: vec![values[row]], valid: vec![valid[row]] },
        OutputColumn::F64 { values, valid } => OutputColumn::F64 { values: vec![values[row]], valid: vec![valid[row]] },
        OutputColumn::Bool { values, valid } => {
            OutputColumn::Bool { values: vec![values[row]], valid: vec![valid[row]] }
        }
        OutputColumn::String { valid, .. } => {
            let bytes = column.text(row).unwrap_or_default().as_bytes().to_vec();
            OutputColumn::String { offsets: vec![0, bytes.len() as u32], bytes, valid: vec![valid[row]] }
        }
    };
    let columns = &batch.columns;
    (number(&columns[0]), number(&columns[1]), number(&columns[2]), columns[3..].iter().map(one).collect())
}

fn micros(count: i64) -> Duration {
    Duration::from_micros(count).unwrap()
}
