//! Evaluation of a filter over a verified batch: column by column, in blocks that stay in cache.
//!
//! Truths are bytes as in bool columns: 0 false, 1 true, 2 null. Blocks come from a pool that grows to what the
//! filter needs and stays, so the steady state allocates nothing. What the nodes mean is not decided here.

use super::number::{Comparison, FloatOperator, IntegerOperator, compare_exactly};
use super::plan::{Filter, Float, Integer, TextTest, Truth, truth_index};
use crate::batch::{BatchView, Column, Indices, Integers as Numbers, StrDictionary};

/// Rows evaluated at a time. A multiple of 8, so that blocks start on a byte of validity bitmaps.
#[cfg(not(test))]
const BLOCK_ROWS: usize = 1024;
#[cfg(test)]
const BLOCK_ROWS: usize = 16;

const _: () = assert!(BLOCK_ROWS.is_multiple_of(8));

const FALSE: u8 = 0;
const TRUE: u8 = 1;
const NULL: u8 = 2;

/// Reusable memory of [`Filter::evaluate`]. One serves any number of filters, one after the other.
#[derive(Debug, Default)]
pub struct FilterScratch {
    integers: Vec<IntegerBlock>,
    floats: Vec<Box<[f64]>>,
    truths: Vec<Box<[u8]>>,
    answers: Vec<Answers>,
}

/// Values and, for each, 1 when it is not null.
#[derive(Debug)]
struct IntegerBlock {
    values: Box<[i64]>,
    valid: Box<[u8]>,
}

/// What a text test says of each dictionary entry, then of null. Filled when a block first asks.
#[derive(Debug, Default)]
struct Answers {
    ready: bool,
    table: Vec<u8>,
}

/// Evaluated integers. `valid` as in [`IntegerBlock`]; `None` when no value is null.
#[derive(Clone, Copy)]
struct Integers<'s> {
    values: &'s [i64],
    valid: Option<&'s [u8]>,
}

impl Filter {
    /// Writes one byte per row of `batch` to `selection`: 1 for a row that passes, else 0.
    ///
    /// # Panics
    /// When the filter was planned for columns of other types than the batch has: verification against the stream's
    /// fields comes first.
    pub fn evaluate(&self, batch: &BatchView<'_>, scratch: &mut FilterScratch, selection: &mut Vec<u8>) {
        if scratch.answers.len() < self.text_tests() {
            scratch.answers.resize_with(self.text_tests(), Answers::default);
        }
        for answers in &mut scratch.answers {
            answers.ready = false;
        }
        selection.clear();
        selection.resize(batch.rows(), FALSE);
        for (block, out) in selection.chunks_mut(BLOCK_ROWS).enumerate() {
            let walk = Walk { batch, start: block * BLOCK_ROWS, rows: out.len() };
            walk.truth(&self.root, scratch, out);
            for truth in out {
                *truth = u8::from(*truth == TRUE);
            }
        }
    }
}

/// One block of one batch.
#[derive(Clone, Copy)]
struct Walk<'w, 'b> {
    batch: &'w BatchView<'b>,
    start: usize,
    rows: usize,
}

impl<'b> Walk<'_, 'b> {
    fn truth(self, node: &Truth, scratch: &mut FilterScratch, out: &mut [u8]) {
        match node {
            Truth::Constant(value) => out.fill(truth_index(*value)),
            Truth::Column(column) => match self.batch.column(*column) {
                Column::Bool(values) => out.copy_from_slice(self.block(values)),
                _ => mismatch(*column, "bool"),
            },
            Truth::Map { of, table } => {
                self.truth(of, scratch, out);
                map(out, table.map(truth_index));
            }
            Truth::And(terms) => self.fold(terms, scratch, out, FALSE),
            Truth::Or(terms) => self.fold(terms, scratch, out, TRUE),
            Truth::IntegerIsNull(of) => self.with_integers(of, scratch, |operand, _| match operand.valid {
                None => out.fill(FALSE),
                Some(valid) => out.iter_mut().zip(valid).for_each(|(out, valid)| *out = valid ^ 1),
            }),
            Truth::FloatIsNull(of) => self.with_floats(of, scratch, |values, _| {
                out.iter_mut().zip(values).for_each(|(out, value)| *out = u8::from(value.is_nan()));
            }),
            Truth::IntegerWithin(of, range) => self.with_integers(of, scratch, |operand, _| {
                integers_to_truth(operand, out, |value| u8::from(range.contains(value)));
            }),
            Truth::IntegerIn(of, set) => self.with_integers(of, scratch, |operand, _| {
                integers_to_truth(operand, out, |value| truth_index(set.answer(value)));
            }),
            Truth::FloatIn(of, set) => self.with_floats(of, scratch, |values, _| {
                for (out, value) in out.iter_mut().zip(values) {
                    *out = if value.is_nan() { NULL } else { truth_index(set.answer(*value)) };
                }
            }),
            Truth::CompareIntegers(op, left, right) => self.with_integers(left, scratch, |left, scratch| {
                self.with_integers(right, scratch, |right, _| compare_integers(*op, left, right, out));
            }),
            Truth::CompareFloats(op, left, Float::Constant(Some(bound))) => {
                self.with_floats(left, scratch, |left, _| compare_floats(*op, left, Repeat(*bound), out));
            }
            Truth::CompareFloats(op, left, right) => self.with_floats(left, scratch, |left, scratch| {
                self.with_floats(right, scratch, |right, _| compare_floats(*op, left, Each(right), out));
            }),
            Truth::CompareMixed(op, left, right) => self.with_integers(left, scratch, |left, scratch| {
                self.with_floats(right, scratch, |right, _| compare_mixed(*op, left, right, out));
            }),
            Truth::CompareTruths(op, left, right) => {
                self.truth(left, scratch, out);
                self.with_truths(right, scratch, |right| compare_truths(*op, out, right));
            }
            Truth::CompareTexts(op, left, right) => self.compare_texts(*op, *left, *right, out),
            Truth::Text(test) => self.text(test, scratch, out),
        }
    }

    /// `AND` (`decisive` is false) or `OR` (true): a decisive term decides, a null one makes null, in any order.
    fn fold(self, terms: &[Truth], scratch: &mut FilterScratch, out: &mut [u8], decisive: u8) {
        let neutral = decisive ^ 1;
        let Some((first, others)) = terms.split_first() else { return out.fill(neutral) };
        self.truth(first, scratch, out);
        for term in others {
            if out.iter().all(|truth| *truth == decisive) {
                return;
            }
            self.with_truths(term, scratch, |term| {
                for (out, term) in out.iter_mut().zip(term) {
                    let decided = (*out == decisive) | (*term == decisive);
                    let open = (*out == NULL) | (*term == NULL);
                    *out = if decided {
                        decisive
                    } else if open {
                        NULL
                    } else {
                        neutral
                    };
                }
            });
        }
    }

    fn with_truths(self, node: &Truth, scratch: &mut FilterScratch, then: impl FnOnce(&[u8])) {
        let mut block = scratch.truths.pop().unwrap_or_else(|| vec![FALSE; BLOCK_ROWS].into());
        self.truth(node, scratch, &mut block[..self.rows]);
        then(&block[..self.rows]);
        scratch.truths.push(block);
    }

    fn with_integers(
        self,
        node: &Integer,
        scratch: &mut FilterScratch,
        then: impl FnOnce(Integers<'_>, &mut FilterScratch),
    ) {
        let mut block = scratch
            .integers
            .pop()
            .unwrap_or_else(|| IntegerBlock { values: vec![0; BLOCK_ROWS].into(), valid: vec![0; BLOCK_ROWS].into() });
        then(self.integers(node, scratch, &mut block), scratch);
        scratch.integers.push(block);
    }

    fn with_floats(self, node: &Float, scratch: &mut FilterScratch, then: impl FnOnce(&[f64], &mut FilterScratch)) {
        let mut block = scratch.floats.pop().unwrap_or_else(|| vec![0.0; BLOCK_ROWS].into());
        then(self.floats(node, scratch, &mut block), scratch);
        scratch.floats.push(block);
    }

    /// The values of `node`: in the batch itself where they stand there already, else in `block`.
    fn integers<'s>(self, node: &Integer, scratch: &mut FilterScratch, block: &'s mut IntegerBlock) -> Integers<'s>
    where
        'b: 's,
    {
        let IntegerBlock { values, valid } = block;
        let (values, valid) = (&mut values[..self.rows], &mut valid[..self.rows]);
        match node {
            Integer::Constant(constant) => {
                values.fill(constant.unwrap_or(0));
                valid.fill(u8::from(constant.is_some()));
            }
            Integer::Time => return Integers { values: self.numbers(self.batch.times(), values), valid: None },
            Integer::Column(column) => match self.batch.column(*column) {
                Column::I64 { values: numbers, validity } => {
                    let valid = validity.map(|bits| {
                        expand(&bits[self.start / 8..], valid);
                        &*valid
                    });
                    return Integers { values: self.numbers(numbers, values), valid };
                }
                _ => mismatch(*column, "i64"),
            },
            Integer::Negate(of) => self.with_integers(of, scratch, |operand, _| {
                let (values, valid) = (&mut *values, &mut *valid);
                fill_valid(valid, operand.valid);
                for ((value, valid), operand) in values.iter_mut().zip(valid).zip(operand.values) {
                    let (negative, overflow) = operand.overflowing_neg();
                    *value = negative;
                    *valid &= u8::from(!overflow);
                }
            }),
            Integer::Binary(op, left, right) => self.with_integers(left, scratch, |left, scratch| {
                let (values, valid) = (&mut *values, &mut *valid);
                self.with_integers(right, scratch, |right, _| combine_integers(*op, left, right, values, valid));
            }),
        }
        Integers { values, valid: Some(valid) }
    }

    /// As [`Walk::integers`]; null is NaN.
    fn floats<'s>(self, node: &Float, scratch: &mut FilterScratch, block: &'s mut [f64]) -> &'s [f64]
    where
        'b: 's,
    {
        let values = &mut block[..self.rows];
        match node {
            Float::Constant(constant) => values.fill(constant.unwrap_or(f64::NAN)),
            Float::Column(column) => match self.batch.column(*column) {
                Column::F64(values) => return self.block(values),
                _ => mismatch(*column, "f64"),
            },
            Float::FromInteger(of) => self.with_integers(of, scratch, |operand, _| {
                for (value, integer) in values.iter_mut().zip(operand.values) {
                    *value = *integer as f64;
                }
                for (value, valid) in values.iter_mut().zip(operand.valid.unwrap_or_default()) {
                    *value = if *valid == 0 { f64::NAN } else { *value };
                }
            }),
            Float::Negate(of) => self.with_floats(of, scratch, |operand, _| {
                values.iter_mut().zip(operand).for_each(|(value, operand)| *value = -operand);
            }),
            Float::Binary(op, left, right) => self.with_floats(left, scratch, |left, scratch| {
                self.with_floats(right, scratch, |right, _| combine_floats(*op, left, right, values));
            }),
        }
        values
    }

    fn text(self, test: &TextTest, scratch: &mut FilterScratch, out: &mut [u8]) {
        let (dictionary, indices) = self.strings(test.column);
        let answers = &mut scratch.answers[test.slot];
        if !answers.ready {
            answers.table.clear();
            answers.table.extend(dictionary.iter().map(|text| truth_index(test.predicate.answer(Some(text)))));
            answers.table.push(truth_index(test.predicate.answer(None)));
            answers.ready = true;
        }
        let table = answers.table.as_slice();
        match indices {
            Indices::U16(indices) => {
                out.iter_mut().zip(self.block(indices)).for_each(|(out, index)| *out = table[usize::from(*index)]);
            }
            Indices::U32(indices) => {
                out.iter_mut().zip(self.block(indices)).for_each(|(out, index)| *out = table[*index as usize]);
            }
        }
    }

    fn compare_texts(self, op: Comparison, left: usize, right: usize, out: &mut [u8]) {
        let (left_texts, left) = self.strings(left);
        let (right_texts, right) = self.strings(right);
        for (row, out) in out.iter_mut().enumerate() {
            let (left, right) = (left.get(self.start + row), right.get(self.start + row));
            *out = if left == left_texts.len() || right == right_texts.len() {
                NULL
            } else {
                u8::from(op.holds(left_texts.get(left).as_bytes().cmp(right_texts.get(right).as_bytes())))
            };
        }
    }

    /// Dictionary of a string column, and the batch's indices into it. The dictionary's length as index is null.
    fn strings(self, column: usize) -> (StrDictionary<'b>, Indices<'b>) {
        match self.batch.column(column) {
            Column::Str { dictionary, indices } => (dictionary, indices),
            _ => mismatch(column, "string"),
        }
    }

    /// The numbers of these rows: where they stand, or in `block`.
    fn numbers<'s>(self, numbers: Numbers<'b>, block: &'s mut [i64]) -> &'s [i64]
    where
        'b: 's,
    {
        if let Numbers::Whole(values) = numbers {
            return self.block(values);
        }
        numbers.read(self.start..self.start + self.rows, block);
        block
    }

    fn block<T>(self, column: &[T]) -> &[T] {
        &column[self.start..self.start + self.rows]
    }
}

/// A batch that was verified against other fields than the filter was planned for: a mistake in this program.
#[cold]
fn mismatch(column: usize, expected: &str) -> ! {
    panic!("the filter reads column {column} as {expected}, which the batch has as another type");
}

fn map(truths: &mut [u8], [when_false, when_true, when_null]: [u8; 3]) {
    for truth in truths {
        *truth = match *truth {
            FALSE => when_false,
            TRUE => when_true,
            _ => when_null,
        };
    }
}

/// Bits, lowest first, as bytes.
fn expand(bits: &[u8], valid: &mut [u8]) {
    for (valid, bits) in valid.chunks_mut(8).zip(bits) {
        for (at, valid) in valid.iter_mut().enumerate() {
            *valid = (bits >> at) & 1;
        }
    }
}

fn fill_valid(valid: &mut [u8], operand: Option<&[u8]>) {
    match operand {
        Some(operand) => valid.copy_from_slice(operand),
        None => valid.fill(1),
    }
}

fn integers_to_truth(operand: Integers<'_>, out: &mut [u8], truth: impl Fn(i64) -> u8) {
    for (out, value) in out.iter_mut().zip(operand.values) {
        *out = truth(*value);
    }
    for (out, valid) in out.iter_mut().zip(operand.valid.unwrap_or_default()) {
        *out = if *valid == 0 { NULL } else { *out };
    }
}

fn compare_integers(op: Comparison, left: Integers<'_>, right: Integers<'_>, out: &mut [u8]) {
    for ((out, left), right) in out.iter_mut().zip(left.values).zip(right.values) {
        *out = u8::from(op.holds(left.cmp(right)));
    }
    for valid in [left.valid, right.valid] {
        for (out, valid) in out.iter_mut().zip(valid.unwrap_or_default()) {
            *out = if *valid == 0 { NULL } else { *out };
        }
    }
}

/// The right side of a comparison: one value for all rows, or one for each.
trait Operand: Copy {
    fn at(self, row: usize) -> f64;
}

#[derive(Clone, Copy)]
struct Repeat(f64);

#[derive(Clone, Copy)]
struct Each<'s>(&'s [f64]);

impl Operand for Repeat {
    #[inline(always)]
    fn at(self, _: usize) -> f64 {
        self.0
    }
}

impl Operand for Each<'_> {
    #[inline(always)]
    fn at(self, row: usize) -> f64 {
        self.0[row]
    }
}

fn compare_floats(op: Comparison, left: &[f64], right: impl Operand, out: &mut [u8]) {
    // One loop per operator, so that each is a vector comparison.
    match op {
        Comparison::Equal => float_truths(left, right, out, |left, right| left == right),
        Comparison::NotEqual => float_truths(left, right, out, |left, right| left != right),
        Comparison::Less => float_truths(left, right, out, |left, right| left < right),
        Comparison::LessOrEqual => float_truths(left, right, out, |left, right| left <= right),
        Comparison::Greater => float_truths(left, right, out, |left, right| left > right),
        Comparison::GreaterOrEqual => float_truths(left, right, out, |left, right| left >= right),
    }
}

#[inline(always)]
fn float_truths(left: &[f64], right: impl Operand, out: &mut [u8], holds: impl Fn(f64, f64) -> bool) {
    for (row, (out, left)) in out.iter_mut().zip(left).enumerate() {
        let right = right.at(row);
        *out = if left.is_nan() | right.is_nan() { NULL } else { u8::from(holds(*left, right)) };
    }
}

fn compare_mixed(op: Comparison, left: Integers<'_>, right: &[f64], out: &mut [u8]) {
    for ((out, left), right) in out.iter_mut().zip(left.values).zip(right) {
        *out = if right.is_nan() { NULL } else { u8::from(op.holds(compare_exactly(*left, *right))) };
    }
    for (out, valid) in out.iter_mut().zip(left.valid.unwrap_or_default()) {
        *out = if *valid == 0 { NULL } else { *out };
    }
}

fn compare_truths(op: Comparison, out: &mut [u8], right: &[u8]) {
    for (out, right) in out.iter_mut().zip(right) {
        *out = if (*out == NULL) | (*right == NULL) { NULL } else { u8::from(op.holds((*out).cmp(right))) };
    }
}

fn combine_integers(
    op: IntegerOperator,
    left: Integers<'_>,
    right: Integers<'_>,
    values: &mut [i64],
    valid: &mut [u8],
) {
    fill_valid(valid, left.valid);
    for (valid, right) in valid.iter_mut().zip(right.valid.unwrap_or_default()) {
        *valid &= right;
    }
    // The value beside a null is arbitrary; whatever it gives is null too.
    let operands = left.values.iter().zip(right.values);
    for ((value, valid), (left, right)) in values.iter_mut().zip(valid).zip(operands) {
        let result = op.apply(*left, *right);
        *value = result.unwrap_or(0);
        *valid &= u8::from(result.is_some());
    }
}

fn combine_floats(op: FloatOperator, left: &[f64], right: &[f64], values: &mut [f64]) {
    for (value, (left, right)) in values.iter_mut().zip(left.iter().zip(right)) {
        *value = op.apply(*left, *right);
    }
}
