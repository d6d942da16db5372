//! The two stacks against adding up every pane of every window, with panes that most groups are in, and panes that few
//! are in.

use corefold_aggregator::aggregate::{Totals, finalize, output_type};
use corefold_aggregator::layout::{Output, RowLayout};
use corefold_aggregator::pane::Pane;
use corefold_aggregator::partial::OTHER_SLOT;
use corefold_aggregator::result::OutputColumn;
use corefold_aggregator::rows::{MergeScope, Rows};
use corefold_aggregator::slide::Slide;
use corefold_aggregator::spec::{AggregateSpec, Field, FieldType, Function, Overflow, StreamSpec, ViewSpec};
use corefold_aggregator::time::{Duration, PaneId, WindowSpec};
use proptest::collection::vec;
use proptest::prelude::*;

const SLOTS: u32 = 40;

fn layout() -> RowLayout {
    let micros = |value| Duration::from_micros(value).expect("a length of time");
    let fields = vec![Field { name: "x".to_owned(), kind: FieldType::F64 }];
    let stream = StreamSpec { name: "s".to_owned(), time: "t".to_owned(), delay_max: micros(0), fields };
    let functions =
        [Function::Count, Function::Sum, Function::Min, Function::Max, Function::Mean].into_iter().enumerate();
    let aggregates = functions.map(|(at, function)| AggregateSpec {
        name: format!("a{at}"),
        field: (function != Function::Count).then_some(0),
        function,
    });
    let spec = ViewSpec {
        name: "v".to_owned(),
        by: vec![],
        window: WindowSpec::new(micros(10), micros(1), micros(0)).expect("a window"),
        aggregates: aggregates.collect(),
        groups_max: 1000,
        overflow: Overflow::Fold,
    };
    RowLayout::new(&stream, &spec).expect("a layout")
}

/// A pane with one event in each of `slots`; its values need exact sums, and some of them more than two doubles.
fn pane(layout: &RowLayout, slots: &[(u32, f64)]) -> Pane {
    let mut pane = Pane::default();
    for &(slot, value) in slots {
        let mut row = layout.template.clone();
        (row[0], row[1]) = (1, 1);
        row[2] = value.to_bits();
        (row[4], row[5]) = (value.to_bits(), value.to_bits());
        pane.slots.push(slot);
        pane.rows.words.extend_from_slice(&row);
    }
    pane
}

fn totals(layout: &RowLayout, panes: &[Pane], slot: u32) -> Rows {
    let mut rows = Rows::default();
    rows.grow(layout, 1);
    for pane in panes {
        if let Some(row) = pane.slots.iter().position(|&other| other == slot) {
            rows.merge(layout, &[0], &pane.rows, &[row as u32], MergeScope::AcrossPanes);
        }
    }
    rows
}

/// What two rows say, however their sums are kept.
fn value(layout: &RowLayout, rows: &Rows, row: u32) -> (Vec<u64>, f64) {
    let words = rows.row(layout, row as usize);
    let pair = [f64::from_bits(words[2]), f64::from_bits(words[3])];
    let sum = corefold_aggregator::sketch::exact_sum::round(pair[0], pair[1], rows.sides.spilled(row, 2));
    (vec![words[0], words[1], words[4], words[5]], sum)
}

/// What `finalize` makes of each output.
fn values(layout: &RowLayout, finalize: impl Fn(&Output, &mut OutputColumn)) -> Vec<OutputColumn> {
    let column = |output: &Output| {
        let mut column = OutputColumn::new(output_type(output));
        finalize(output, &mut column);
        column
    };
    layout.outputs.iter().map(column).collect()
}

fn slots() -> impl Strategy<Value = Vec<(u32, f64)>> {
    let value = prop::sample::select(vec![1.0, -2.5, 1e300, -1e300, 1e-300, 3e10]);
    let slots = prop_oneof![vec(0..SLOTS, 0..6), vec(0..SLOTS, 60..90)];
    (slots, vec(value, 90)).prop_map(|(mut slots, values)| {
        slots.sort_unstable();
        slots.dedup();
        slots.into_iter().zip(values).collect()
    })
}

proptest! {
    #[test]
    fn a_window_is_the_sum_of_its_panes(
        panes in vec((slots(), any::<bool>()), 1..30),
        size in 1..12_usize,
        spare in vec(any::<u64>(), 0..400),
    ) {
        let layout = layout();
        let mut slide = Slide::new();
        let by_slot: Vec<bool> = panes.iter().map(|(_, by_slot)| *by_slot).collect();
        // New groups come as time goes on.
        let until = |index: usize| SLOTS.min(3 + 2 * index as u32);
        let known = |index: usize, slots: &[(u32, f64)]| -> Vec<(u32, f64)> {
            slots.iter().copied().filter(|&(slot, _)| slot < until(index)).collect()
        };
        let panes: Vec<Pane> =
            panes.iter().enumerate().map(|(index, (slots, _))| pane(&layout, &known(index, slots))).collect();
        for newest in 0..panes.len() {
            let seen = panes[..=newest].iter().flat_map(|pane| &pane.slots).max().map_or(0, |&slot| slot as usize + 1);
            let mut pane = panes[newest].clone();
            if by_slot[newest] {
                // What the memory held before means nothing.
                pane.spread(&layout, seen, &mut Rows { words: spare.clone(), ..Rows::default() });
            }
            slide.push(&layout, PaneId(newest as i64), pane, seen);
            let oldest = (newest + 1).saturating_sub(size);
            let mut dropped = Vec::new();
            slide.pop_before(&layout, PaneId(oldest as i64), |slot| dropped.push(slot));
            let expected = oldest.checked_sub(1).map_or(&[][..], |gone| &panes[gone].slots);
            prop_assert_eq!(&dropped[..], expected);
            // "Other" may be asked for without events.
            let held: Vec<u32> = (0..SLOTS).filter(|&slot| slot == OTHER_SLOT || slide.holds(slot)).collect();
            let mut window = Rows::default();
            slide.append_totals(&layout, &held, &mut window);
            let mut columns = Totals::default();
            if slide.take_totals(&layout, &held, &mut columns) {
                prop_assert_eq!(values(&layout, |output, column| columns.finalize(output, column)), values(&layout, |output, column| {
                    finalize(&layout, output, &window, column).expect("sums of doubles fit");
                }));
            }
            for slot in 0..SLOTS {
                let expected = totals(&layout, &panes[oldest..=newest], slot);
                let row = held.iter().position(|&other| other == slot);
                prop_assert_eq!(row.is_some(), slot == OTHER_SLOT || expected.words[0] > 0);
                if let Some(row) = row {
                    prop_assert_eq!(value(&layout, &window, row as u32), value(&layout, &expected, 0));
                    let mut merged = Rows::default();
                    merged.grow(&layout, 1);
                    slide.merge_totals(&layout, &[slot], &mut merged, 0);
                    prop_assert_eq!(value(&layout, &merged, 0), value(&layout, &expected, 0));
                }
            }
        }
    }
}
