//! Rows that are merged side by side come to what they come to one by one: the same bits, the same spills.
//!
//! That merging is an algebra at all is in `algebra.rs`.

use corefold_aggregator::aggregate::{Totals, finalize, output_type};
use corefold_aggregator::layout::{RowLayout, StateKind};
use corefold_aggregator::result::OutputColumn;
use corefold_aggregator::rows::{MergeScope, Rows};
use corefold_aggregator::spec::{AggregateSpec, Field, FieldType, Function, Overflow, StreamSpec, ViewSpec};
use corefold_aggregator::time::{Duration, WindowSpec};
use proptest::prelude::*;

/// Count, sum, minimum and maximum of one column of doubles: the layout that has a merge of its own.
fn layout() -> RowLayout {
    let fields = vec![Field { name: "x".into(), kind: FieldType::F64 }];
    let stream = StreamSpec { name: "s".into(), time: "t".into(), delay_max: Duration::ZERO, fields };
    let of = |name: &str, function, field| AggregateSpec { name: name.into(), function, field };
    let aggregates = vec![
        of("sum", Function::Sum, Some(0)),
        of("min", Function::Min, Some(0)),
        of("max", Function::Max, Some(0)),
        of("mean", Function::Mean, Some(0)),
        of("rows", Function::Count, None),
        of("values", Function::Count, Some(0)),
    ];
    let second = Duration::from_micros(1_000_000).expect("a second");
    let spec = ViewSpec {
        name: "v".into(),
        by: vec![],
        window: WindowSpec::new(second, second, Duration::ZERO).expect("a window"),
        aggregates,
        groups_max: 1_000_000,
        overflow: Overflow::Fold,
    };
    let layout = RowLayout::new(&stream, &spec).expect("a view");
    let kinds: Vec<StateKind> = layout.states.iter().map(|state| state.kind).collect();
    use StateKind::{MaxF64, MinF64, Rows, SumF64, Values};
    assert_eq!(kinds, [Rows, Values, SumF64, MinF64, MaxF64]);
    layout
}

/// Doubles whose sums fit, and some whose do not: far apart, near the largest, without end.
fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (-1_000_000i64..1_000_000).prop_map(|units| units as f64 / 64.0),
        1 => any::<i64>().prop_map(|value| value as f64),
        1 => prop::sample::select(vec![1e300, -1e300, 1e-300, f64::MAX, f64::MIN, f64::INFINITY, 5e-324]),
    ]
}

/// A row by its sum's two parts and two values that it has seen.
fn row() -> impl Strategy<Value = [u64; 6]> {
    (1u64..9, double(), -64i64..64, double(), double()).prop_map(|(count, high, low, a, b)| {
        let high = if high.is_finite() { high } else { 1.0 };
        let bits = f64::to_bits;
        [count, count, bits(high + 0.0), bits(low as f64 / 4096.0 + 0.0), bits(a.min(b) + 0.0), bits(a.max(b) + 0.0)]
    })
}

fn rows(list: &[[u64; 6]]) -> Rows {
    Rows { words: list.concat(), ..Rows::default() }
}

proptest! {
    #[test]
    fn side_by_side_is_one_by_one(
        targets in prop::collection::vec(row(), 1..40),
        sources in prop::collection::vec(row(), 1..40),
        pairs in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..200),
        in_order in any::<bool>(),
    ) {
        let layout = layout();
        let mut into: Vec<u32> = pairs.iter().map(|(into, _)| into.index(targets.len()) as u32).collect();
        let from: Vec<u32> = pairs.iter().map(|(_, from)| from.index(sources.len()) as u32).collect();
        if in_order {
            // Rows that differ from their neighbours, as those of panes do.
            into = (0..pairs.len()).map(|at| (at % targets.len()) as u32).collect();
        }
        let source = rows(&sources);
        let mut together = rows(&targets);
        together.merge(&layout, &into, &source, &from, MergeScope::SamePane);
        let mut singly = rows(&targets);
        for (into, from) in into.iter().zip(&from) {
            singly.merge(&layout, &[*into], &source, &[*from], MergeScope::SamePane);
        }
        prop_assert_eq!(together, singly);
    }

    /// Totals by column are those of rows that are merged and then evaluated; they are refused only for want of room in a sum.
    #[test]
    fn by_column_is_by_row(
        front in prop::collection::vec(row(), 0..40),
        back in prop::collection::vec(row(), 0..40),
        slots in prop::collection::vec(0u32..45, 0..30),
    ) {
        let layout = layout();
        let template = layout.template.as_chunks::<6>().0[0];
        let part = |part: &[[u64; 6]]| rows(&slots.iter().map(|&slot| *part.get(slot as usize).unwrap_or(&template)).collect::<Vec<_>>());
        let numbers: Vec<u32> = (0..slots.len() as u32).collect();
        let mut merged = part(&front);
        merged.merge(&layout, &numbers, &part(&back), &numbers, MergeScope::AcrossPanes);
        let mut totals = Totals::default();
        let fits = totals.take(&layout, (&front.concat(), &back.concat()), &slots);
        let has_vectors = cfg!(target_arch = "x86_64") && std::arch::is_x86_feature_detected!("avx2");
        prop_assert_eq!(fits, has_vectors && merged.sides.is_empty());
        if fits {
            for output in &layout.outputs {
                let mut by_row = OutputColumn::new(output_type(output));
                let mut by_column = by_row.clone();
                finalize(&layout, output, &merged, &mut by_row).expect("sums of doubles fit");
                totals.finalize(output, &mut by_column);
                prop_assert_eq!(by_column, by_row);
            }
        }
    }
}
