//! Random trees over random batches, evaluated twice: column by column, and row by row as the tree reads.
//!
//! Only for tests. Sets, patterns and single numbers have their own tables beside their code.

use super::like::LikePattern;
use super::number::{Comparison, FloatOperator, IntegerOperator, IntegerRange, compare_exactly};
use super::plan::{Float, Integer, TextPredicate, Truth};
use super::sets::{NumberSet, TextSet};
use super::{Filter, FilterScratch};
use crate::batch::{AlignedBytes, BatchView, ColumnSet, Stamp, UnverifiedBatch, encode};
use corefold_aggregator::spec::{Field, FieldType};
use proptest::prelude::*;

const KINDS: [FieldType; 7] = [
    FieldType::I64,
    FieldType::I64,
    FieldType::F64,
    FieldType::F64,
    FieldType::Bool,
    FieldType::String,
    FieldType::String,
];

/// One row of a batch with columns of the types above. The second integer is never null.
#[derive(Clone, Debug)]
struct Row {
    time: i64,
    integers: [Option<i64>; 2],
    floats: [Option<f64>; 2],
    truth: Option<bool>,
    texts: [Option<&'static str>; 2],
}

impl Row {
    fn truth(&self, node: &Truth) -> Option<bool> {
        match node {
            Truth::Constant(value) => *value,
            Truth::Column(_) => self.truth,
            Truth::Map { of, table: [when_false, when_true, when_null] } => match self.truth(of) {
                Some(false) => *when_false,
                Some(true) => *when_true,
                None => *when_null,
            },
            Truth::And(terms) => {
                let values: Vec<_> = terms.iter().map(|term| self.truth(term)).collect();
                if values.contains(&Some(false)) {
                    Some(false)
                } else if values.contains(&None) {
                    None
                } else {
                    Some(true)
                }
            }
            Truth::Or(terms) => {
                let values: Vec<_> = terms.iter().map(|term| self.truth(term)).collect();
                if values.contains(&Some(true)) {
                    Some(true)
                } else if values.contains(&None) {
                    None
                } else {
                    Some(false)
                }
            }
            Truth::IntegerIsNull(of) => Some(self.integer(of).is_none()),
            Truth::FloatIsNull(of) => Some(self.float(of).is_none()),
            Truth::IntegerWithin(of, range) => self.integer(of).map(|value| range.contains(value)),
            Truth::IntegerIn(of, set) => self.integer(of).and_then(|value| set.answer(value)),
            Truth::FloatIn(of, set) => self.float(of).and_then(|value| set.answer(value)),
            Truth::CompareIntegers(op, left, right) => Some(op.holds(self.integer(left)?.cmp(&self.integer(right)?))),
            Truth::CompareFloats(op, left, right) => {
                Some(op.holds(self.float(left)?.partial_cmp(&self.float(right)?)?))
            }
            Truth::CompareMixed(op, left, right) => {
                Some(op.holds(compare_exactly(self.integer(left)?, self.float(right)?)))
            }
            Truth::CompareTruths(op, left, right) => Some(op.holds(self.truth(left)?.cmp(&self.truth(right)?))),
            Truth::CompareTexts(op, left, right) => Some(op.holds(self.texts[left - 5]?.cmp(self.texts[right - 5]?))),
            Truth::Text(test) => test.predicate.answer(self.texts[test.column - 5]),
        }
    }

    fn integer(&self, node: &Integer) -> Option<i64> {
        match node {
            Integer::Constant(value) => *value,
            Integer::Time => Some(self.time),
            Integer::Column(column) => self.integers[*column],
            Integer::Negate(of) => self.integer(of)?.checked_neg(),
            Integer::Binary(op, left, right) => op.apply(self.integer(left)?, self.integer(right)?),
        }
    }

    fn float(&self, node: &Float) -> Option<f64> {
        let value = match node {
            Float::Constant(value) => (*value)?,
            Float::Column(column) => self.floats[column - 2]?,
            Float::FromInteger(of) => self.integer(of)? as f64,
            Float::Negate(of) => -self.float(of)?,
            Float::Binary(op, left, right) => op.apply(self.float(left)?, self.float(right)?),
        };
        (!value.is_nan()).then_some(value)
    }
}

fn fields() -> Vec<Field> {
    KINDS.iter().enumerate().map(|(index, kind)| Field { name: format!("c{index}"), kind: *kind }).collect()
}

fn encoded(rows: &[Row]) -> AlignedBytes {
    let mut set = ColumnSet::new(&KINDS);
    for row in rows {
        set.times.push(row.time);
        set.columns[0].push_i64(row.integers[0]);
        set.columns[1].push_i64(row.integers[1]);
        set.columns[2].push_f64(row.floats[0]);
        set.columns[3].push_f64(row.floats[1]);
        set.columns[4].push_bool(row.truth);
        set.columns[5].push_str(row.texts[0].map(str::as_bytes)).unwrap();
        set.columns[6].push_str(row.texts[1].map(str::as_bytes)).unwrap();
    }
    let mut bytes = AlignedBytes::new();
    encode(&set, 7, &Stamp::of_lane(1, 0, 0), &mut bytes).unwrap();
    bytes
}

fn view(bytes: &AlignedBytes) -> BatchView<'_> {
    UnverifiedBatch::new(bytes.as_slice()).verify(7, &fields()).unwrap()
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let far = any::<bool>();
    // Small numbers alone are offsets in a batch; the filter takes them in blocks.
    let small = any::<bool>();
    let row = (
        -5i64..5,
        prop::option::of(integer_value()),
        integer_value(),
        [prop::option::of(float_value()), prop::option::of(float_value())],
        any::<Option<bool>>(),
        [prop::option::of(text_value()), prop::option::of(text_value())],
    );
    // Times far apart do not fit 32-bit offsets, which is the other form of the time column.
    (far, small, prop::collection::vec(row, 0..70)).prop_map(|(far, small, rows)| {
        let some = |value: i64| if small { value.clamp(-3, 3) } else { value };
        rows.into_iter()
            .map(|(time, nullable, full, floats, truth, texts)| Row {
                time: if far { time * 1_000_000_000_000 } else { time },
                integers: [nullable.map(some), Some(some(full))],
                floats,
                truth,
                texts,
            })
            .collect()
    })
}

fn integer_value() -> impl Strategy<Value = i64> {
    prop_oneof![-3i64..4, Just(i64::MIN), Just(i64::MAX), Just((1 << 53) + 1), any::<i64>()]
}

fn float_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-6i32..7).prop_map(|half| f64::from(half) / 2.0),
        Just(-0.0),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(9_007_199_254_740_992.0),
        any::<f64>().prop_map(|value| if value.is_nan() { 1.5 } else { value }),
    ]
}

fn text_value() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "a", "A", "ab", "b", "é", "aé"])
}

fn comparison() -> impl Strategy<Value = Comparison> {
    use Comparison::*;
    prop::sample::select(vec![Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual])
}

fn integer() -> BoxedStrategy<Integer> {
    let leaf = prop_oneof![
        prop::option::of(integer_value()).prop_map(Integer::Constant),
        Just(Integer::Time),
        (0usize..2).prop_map(Integer::Column),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        use IntegerOperator::*;
        let op = prop::sample::select(vec![Add, Subtract, Multiply, Remainder]);
        prop_oneof![
            inner.clone().prop_map(|of| Integer::Negate(Box::new(of))),
            (op, inner.clone(), inner).prop_map(|(op, left, right)| Integer::Binary(op, left.into(), right.into())),
        ]
    })
    .boxed()
}

fn float() -> BoxedStrategy<Float> {
    let leaf = prop_oneof![
        prop::option::of(float_value()).prop_map(Float::Constant),
        (2usize..4).prop_map(Float::Column),
        integer().prop_map(|of| Float::FromInteger(Box::new(of))),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        use FloatOperator::*;
        let op = prop::sample::select(vec![Add, Subtract, Multiply, Divide, Remainder]);
        prop_oneof![
            inner.clone().prop_map(|of| Float::Negate(Box::new(of))),
            (op, inner.clone(), inner).prop_map(|(op, left, right)| Float::Binary(op, left.into(), right.into())),
        ]
    })
    .boxed()
}

fn text_test() -> impl Strategy<Value = Truth> {
    let predicate = prop_oneof![
        Just(TextPredicate::IsNull),
        (comparison(), text_value()).prop_map(|(op, text)| TextPredicate::Compare(op, text.to_owned())),
        (prop::collection::vec(text_value(), 0..4), any::<bool>()).prop_map(|(texts, with_null)| {
            TextPredicate::In(TextSet::new(texts.into_iter().map(str::to_owned).collect(), with_null))
        }),
        ("[aAé%_]{0,4}", any::<bool>())
            .prop_map(|(pattern, folded)| { TextPredicate::Like(LikePattern::new(&pattern, None, folded).unwrap()) }),
    ];
    (5usize..7, predicate).prop_map(|(column, predicate)| Truth::text(column, predicate))
}

fn truth() -> BoxedStrategy<Truth> {
    let set =
        || (prop::collection::vec(integer_value(), 0..4), prop::collection::vec(float_value(), 0..4), any::<bool>());
    let leaf = prop_oneof![
        any::<Option<bool>>().prop_map(Truth::Constant),
        Just(Truth::Column(4)),
        integer().prop_map(Truth::IntegerIsNull),
        float().prop_map(Truth::FloatIsNull),
        (integer(), integer_value(), integer_value(), any::<bool>())
            .prop_map(|(of, low, high, negated)| Truth::IntegerWithin(of, IntegerRange { low, high, negated })),
        (integer(), set()).prop_map(|(of, (integers, floats, with_null))| {
            Truth::IntegerIn(of, NumberSet::of_integers(integers, &floats, with_null))
        }),
        (float(), set()).prop_map(|(of, (integers, floats, with_null))| {
            Truth::FloatIn(of, NumberSet::of_floats(floats, &integers, with_null))
        }),
        (comparison(), integer(), integer()).prop_map(|(op, left, right)| Truth::CompareIntegers(op, left, right)),
        (comparison(), float(), float()).prop_map(|(op, left, right)| Truth::CompareFloats(op, left, right)),
        (comparison(), integer(), float()).prop_map(|(op, left, right)| Truth::CompareMixed(op, left, right)),
        (comparison(), 5usize..7, 5usize..7).prop_map(|(op, left, right)| Truth::CompareTexts(op, left, right)),
        text_test(),
        text_test(),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), any::<[Option<bool>; 3]>()).prop_map(|(of, table)| Truth::Map { of: of.into(), table }),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Truth::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Truth::Or),
            (comparison(), inner.clone(), inner).prop_map(|(op, left, right)| Truth::CompareTruths(
                op,
                left.into(),
                right.into()
            )),
        ]
    })
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// One scratch serves different filters and batches, so what one left behind must not matter to the next.
    #[test]
    fn columns_and_rows_agree(trees in prop::collection::vec(truth(), 1..4), batches in prop::collection::vec(rows(), 1..3)) {
        let mut scratch = FilterScratch::default();
        let mut selection = vec![9; 3];
        for tree in trees {
            let filter = Filter::new(tree).unwrap();
            for rows in &batches {
                let bytes = encoded(rows);
                filter.evaluate(&view(&bytes), &mut scratch, &mut selection);
                let expected: Vec<u8> = rows.iter().map(|row| u8::from(row.truth(filter.root()) == Some(true))).collect();
                prop_assert_eq!(&selection, &expected);
            }
        }
    }
}

#[test]
#[should_panic(expected = "the filter reads column 0 as f64")]
fn a_filter_for_another_schema_is_a_mistake_of_the_program() {
    let row = Row { time: 0, integers: [None, Some(1)], floats: [None; 2], truth: None, texts: [None; 2] };
    let bytes = encoded(&[row]);
    let filter = Filter::new(Truth::FloatIsNull(Float::Column(0))).unwrap();
    filter.evaluate(&view(&bytes), &mut FilterScratch::default(), &mut Vec::new());
}
