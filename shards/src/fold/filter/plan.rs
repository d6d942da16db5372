//! The typed tree of a filter and what its nodes mean.
//!
//! Three-valued logic: a truth is true, false or null, and a row passes when the root is true. Every node's operands
//! have the types it needs, so evaluation cannot fail. How columns are walked is not here.

use super::like::LikePattern;
use super::number::{Comparison, FloatOperator, IntegerOperator, IntegerRange, compare_exactly, float_comparison};
use super::sets::{NumberSet, TextSet};

/// Deepest accepted tree: evaluation recurses, and keeps a few blocks per level.
pub const DEPTH_MAX: usize = 128;

/// A checked filter: what [`Filter::evaluate`] runs over batches.
#[derive(Clone, PartialEq, Debug)]
pub struct Filter {
    pub(super) root: Truth,
    columns: Vec<usize>,
    text_tests: usize,
}

/// Why a tree is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FilterError {
    /// Too many levels.
    #[error("the expression is nested more than {DEPTH_MAX} levels deep; split it or remove parentheses")]
    TooDeep,
}

/// An expression that is true, false or null.
#[derive(Clone, PartialEq, Debug)]
pub enum Truth {
    /// The same for every row; `None` is null.
    Constant(Option<bool>),
    /// A bool column.
    Column(usize),
    /// Each of the three values of `of`, replaced: `NOT`, `IS TRUE`, `= false` and the like.
    Map {
        /// What is looked at.
        of: Box<Truth>,
        /// What false, true and null become.
        table: [Option<bool>; 3],
    },
    /// True when all are, false when one is false, else null.
    And(Vec<Truth>),
    /// True when one is, false when all are false, else null.
    Or(Vec<Truth>),
    /// Whether an integer is null.
    IntegerIsNull(Integer),
    /// Whether a double is null.
    FloatIsNull(Float),
    /// Whether an integer lies in a range.
    IntegerWithin(Integer, IntegerRange),
    /// Whether an integer is in a set.
    IntegerIn(Integer, NumberSet<i64>),
    /// Whether a double is in a set.
    FloatIn(Float, NumberSet<f64>),
    /// Compares two integers.
    CompareIntegers(Comparison, Integer, Integer),
    /// Compares two doubles; negative zero equals zero.
    CompareFloats(Comparison, Float, Float),
    /// Compares an integer with a double by exact value.
    CompareMixed(Comparison, Integer, Float),
    /// Compares two truths; false is less than true.
    CompareTruths(Comparison, Box<Truth>, Box<Truth>),
    /// Compares two string columns bytewise.
    CompareTexts(Comparison, usize, usize),
    /// Asks a string column something that depends on nothing else.
    Text(TextTest),
}

/// An expression with an `i64` value or null. Event times are integers here.
#[derive(Clone, PartialEq, Debug)]
pub enum Integer {
    /// The same for every row.
    Constant(Option<i64>),
    /// The event time in microseconds.
    Time,
    /// An i64 column.
    Column(usize),
    /// The operand with the other sign; null for `i64::MIN`.
    Negate(Box<Integer>),
    /// Null when an operand is, or when there is no result in `i64`.
    Binary(IntegerOperator, Box<Integer>, Box<Integer>),
}

/// An expression with an `f64` value or null, where null is NaN.
#[derive(Clone, PartialEq, Debug)]
pub enum Float {
    /// The same for every row; never NaN.
    Constant(Option<f64>),
    /// An f64 column.
    Column(usize),
    /// The double nearest to an integer.
    FromInteger(Box<Integer>),
    /// The operand with the other sign.
    Negate(Box<Float>),
    /// Null when an operand is, or when the result is NaN.
    Binary(FloatOperator, Box<Float>, Box<Float>),
}

/// A question to one string column. Answered once per dictionary entry of a batch.
#[derive(Clone, PartialEq, Debug)]
pub struct TextTest {
    /// The string column.
    pub column: usize,
    /// The question.
    pub predicate: TextPredicate,
    /// Which of the scratch's answer tables is this test's.
    pub(super) slot: usize,
}

/// What can be asked of a string.
#[derive(Clone, PartialEq, Debug)]
pub enum TextPredicate {
    /// Whether it is null.
    IsNull,
    /// How it compares with a literal, bytewise.
    Compare(Comparison, String),
    /// Whether it is one of these.
    In(TextSet),
    /// Whether it matches a pattern.
    Like(LikePattern),
}

impl Filter {
    /// Checks the depth of `root` and prepares it.
    pub fn new(mut root: Truth) -> Result<Filter, FilterError> {
        let mut survey = Survey::default();
        survey.truth(&mut root, 0)?;
        survey.columns.sort_unstable();
        survey.columns.dedup();
        Ok(Filter { root, columns: survey.columns, text_tests: survey.text_tests })
    }

    /// Indices of the fields it reads, ascending. The time column is not among them.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The tree.
    pub fn root(&self) -> &Truth {
        &self.root
    }

    pub(super) fn text_tests(&self) -> usize {
        self.text_tests
    }
}

/// One walk over a tree: depth, columns and slots.
#[derive(Default)]
struct Survey {
    columns: Vec<usize>,
    text_tests: usize,
}

impl Survey {
    fn truth(&mut self, node: &mut Truth, depth: usize) -> Result<(), FilterError> {
        check_depth(depth)?;
        let below = depth + 1;
        match node {
            Truth::Constant(_) => {}
            Truth::Column(column) => self.columns.push(*column),
            Truth::Map { of, .. } => self.truth(of, below)?,
            Truth::And(terms) | Truth::Or(terms) => {
                for term in terms {
                    self.truth(term, below)?;
                }
            }
            Truth::IntegerIsNull(of) | Truth::IntegerWithin(of, _) | Truth::IntegerIn(of, _) => {
                self.integer(of, below)?;
            }
            Truth::FloatIsNull(of) | Truth::FloatIn(of, _) => self.float(of, below)?,
            Truth::CompareIntegers(_, left, right) => {
                self.integer(left, below)?;
                self.integer(right, below)?;
            }
            Truth::CompareFloats(_, left, right) => {
                self.float(left, below)?;
                self.float(right, below)?;
            }
            Truth::CompareMixed(_, left, right) => {
                self.integer(left, below)?;
                self.float(right, below)?;
            }
            Truth::CompareTruths(_, left, right) => {
                self.truth(left, below)?;
                self.truth(right, below)?;
            }
            Truth::CompareTexts(_, left, right) => self.columns.extend([*left, *right]),
            Truth::Text(test) => {
                self.columns.push(test.column);
                test.slot = self.text_tests;
                self.text_tests += 1;
            }
        }
        Ok(())
    }

    fn integer(&mut self, node: &Integer, depth: usize) -> Result<(), FilterError> {
        check_depth(depth)?;
        match node {
            Integer::Constant(_) | Integer::Time => {}
            Integer::Column(column) => self.columns.push(*column),
            Integer::Negate(of) => self.integer(of, depth + 1)?,
            Integer::Binary(_, left, right) => {
                self.integer(left, depth + 1)?;
                self.integer(right, depth + 1)?;
            }
        }
        Ok(())
    }

    fn float(&mut self, node: &Float, depth: usize) -> Result<(), FilterError> {
        check_depth(depth)?;
        match node {
            Float::Constant(_) => {}
            Float::Column(column) => self.columns.push(*column),
            Float::FromInteger(of) => self.integer(of, depth + 1)?,
            Float::Negate(of) => self.float(of, depth + 1)?,
            Float::Binary(_, left, right) => {
                self.float(left, depth + 1)?;
                self.float(right, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn check_depth(depth: usize) -> Result<(), FilterError> {
    if depth >= DEPTH_MAX { Err(FilterError::TooDeep) } else { Ok(()) }
}

/// Index of a truth in the table of [`Truth::Map`], and its byte in bool columns: false, true, null.
pub(super) const fn truth_index(truth: Option<bool>) -> u8 {
    match truth {
        Some(false) => 0,
        Some(true) => 1,
        None => 2,
    }
}

/// Builders. They fold constants, so that evaluation finds them as the right operand of a comparison.
impl Truth {
    /// Each of the three values replaced by the table's entry for false, true and null.
    pub fn map(self, table: [Option<bool>; 3]) -> Truth {
        match self {
            Truth::Constant(value) => Truth::Constant(table[usize::from(truth_index(value))]),
            of => Truth::Map { of: Box::new(of), table },
        }
    }

    /// `NOT`: null stays null.
    pub fn negate(self) -> Truth {
        self.map([Some(true), Some(false), None])
    }

    /// Asks the string column something.
    pub fn text(column: usize, predicate: TextPredicate) -> Truth {
        Truth::Text(TextTest { column, predicate, slot: 0 })
    }

    /// Compares two integers.
    pub fn compare_integers(op: Comparison, left: Integer, right: Integer) -> Truth {
        match (left, right) {
            (Integer::Constant(None), _) | (_, Integer::Constant(None)) => Truth::Constant(None),
            (Integer::Constant(Some(left)), Integer::Constant(Some(right))) => {
                Truth::Constant(Some(op.holds(left.cmp(&right))))
            }
            (of, Integer::Constant(Some(bound))) => Truth::IntegerWithin(of, IntegerRange::of_integer(op, bound)),
            (Integer::Constant(Some(bound)), of) => {
                Truth::IntegerWithin(of, IntegerRange::of_integer(op.swapped(), bound))
            }
            (left, right) => Truth::CompareIntegers(op, left, right),
        }
    }

    /// Compares two doubles.
    pub fn compare_floats(op: Comparison, left: Float, right: Float) -> Truth {
        match (left, right) {
            (Float::Constant(None), _) | (_, Float::Constant(None)) => Truth::Constant(None),
            (Float::Constant(Some(left)), Float::Constant(Some(right))) => {
                Truth::Constant(left.partial_cmp(&right).map(|order| op.holds(order)))
            }
            (bound @ Float::Constant(_), of) => Truth::CompareFloats(op.swapped(), of, bound),
            (left, right) => Truth::CompareFloats(op, left, right),
        }
    }

    /// Compares an integer with a double by exact value.
    pub fn compare_mixed(op: Comparison, left: Integer, right: Float) -> Truth {
        match (left, right) {
            (Integer::Constant(None), _) | (_, Float::Constant(None)) => Truth::Constant(None),
            (Integer::Constant(Some(left)), Float::Constant(Some(right))) => {
                Truth::Constant(Some(op.holds(compare_exactly(left, right))))
            }
            (of, Float::Constant(Some(bound))) => Truth::IntegerWithin(of, IntegerRange::of_float(op, bound)),
            (Integer::Constant(Some(bound)), of) => {
                let (op, bound) = float_comparison(op.swapped(), bound);
                Truth::CompareFloats(op, of, Float::Constant(Some(bound)))
            }
            (left, right) => Truth::CompareMixed(op, left, right),
        }
    }

    /// Compares two truths; false is less than true.
    pub fn compare_truths(op: Comparison, left: Truth, right: Truth) -> Truth {
        let against =
            |op: Comparison, bound: bool| [Some(op.holds(false.cmp(&bound))), Some(op.holds(true.cmp(&bound))), None];
        match (left, right) {
            (Truth::Constant(None), _) | (_, Truth::Constant(None)) => Truth::Constant(None),
            (of, Truth::Constant(Some(bound))) => of.map(against(op, bound)),
            (Truth::Constant(Some(bound)), of) => of.map(against(op.swapped(), bound)),
            (left, right) => Truth::CompareTruths(op, Box::new(left), Box::new(right)),
        }
    }

    /// `IN` over integers.
    pub fn integer_in(of: Integer, set: NumberSet<i64>) -> Truth {
        match of {
            Integer::Constant(value) => Truth::Constant(value.and_then(|value| set.answer(value))),
            of => Truth::IntegerIn(of, set),
        }
    }

    /// `IN` over doubles.
    pub fn float_in(of: Float, set: NumberSet<f64>) -> Truth {
        match of {
            Float::Constant(value) => Truth::Constant(value.and_then(|value| set.answer(value))),
            of => Truth::FloatIn(of, set),
        }
    }
}

impl Integer {
    /// The operand with the other sign.
    pub fn negate(self) -> Integer {
        match self {
            Integer::Constant(value) => Integer::Constant(value.and_then(i64::checked_neg)),
            of => Integer::Negate(Box::new(of)),
        }
    }

    /// `left op right`.
    pub fn binary(op: IntegerOperator, left: Integer, right: Integer) -> Integer {
        match (left, right) {
            (Integer::Constant(None), _) | (_, Integer::Constant(None)) => Integer::Constant(None),
            (Integer::Constant(Some(left)), Integer::Constant(Some(right))) => Integer::Constant(op.apply(left, right)),
            (left, right) => Integer::Binary(op, Box::new(left), Box::new(right)),
        }
    }
}

impl Float {
    /// A constant; NaN is null.
    pub fn constant(value: f64) -> Float {
        Float::Constant((!value.is_nan()).then_some(value))
    }

    /// The double nearest to an integer.
    pub fn from_integer(of: Integer) -> Float {
        match of {
            Integer::Constant(value) => Float::Constant(value.map(|value| value as f64)),
            of => Float::FromInteger(Box::new(of)),
        }
    }

    /// The operand with the other sign.
    pub fn negate(self) -> Float {
        match self {
            Float::Constant(value) => Float::Constant(value.map(|value| -value)),
            of => Float::Negate(Box::new(of)),
        }
    }

    /// `left op right`.
    pub fn binary(op: FloatOperator, left: Float, right: Float) -> Float {
        match (left, right) {
            (Float::Constant(None), _) | (_, Float::Constant(None)) => Float::Constant(None),
            (Float::Constant(Some(left)), Float::Constant(Some(right))) => Float::constant(op.apply(left, right)),
            (left, right) => Float::Binary(op, Box::new(left), Box::new(right)),
        }
    }
}

impl TextPredicate {
    /// The answer for one string; `None` in is a null string, `None` out a null truth.
    pub fn answer(&self, text: Option<&str>) -> Option<bool> {
        if let TextPredicate::IsNull = self {
            return Some(text.is_none());
        }
        let text = text?;
        match self {
            TextPredicate::IsNull => Some(false),
            TextPredicate::Compare(op, literal) => Some(op.holds(text.as_bytes().cmp(literal.as_bytes()))),
            TextPredicate::In(set) => set.answer(text),
            TextPredicate::Like(pattern) => Some(pattern.matches(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_fold_to_the_same_meaning() {
        use Comparison::*;
        let five = || Integer::Constant(Some(5));
        let half = || Float::Constant(Some(0.5));
        assert_eq!(Truth::compare_integers(Less, five(), five()), Truth::Constant(Some(false)));
        assert_eq!(Truth::compare_integers(Less, five(), Integer::Constant(None)), Truth::Constant(None));
        assert_eq!(Truth::compare_mixed(Greater, five(), half()), Truth::Constant(Some(true)));
        assert_eq!(Truth::compare_floats(Equal, half(), half()), Truth::Constant(Some(true)));
        assert_eq!(
            Truth::compare_integers(Less, five(), Integer::Column(0)),
            Truth::IntegerWithin(Integer::Column(0), IntegerRange::of_integer(Greater, 5))
        );
        assert_eq!(
            Truth::compare_mixed(Less, Integer::Column(0), half()),
            Truth::IntegerWithin(Integer::Column(0), IntegerRange { low: i64::MIN, high: 0, negated: false })
        );
        assert_eq!(
            Truth::compare_truths(Equal, Truth::Constant(Some(false)), Truth::Column(1)),
            Truth::Column(1).negate()
        );
        assert_eq!(
            Integer::binary(IntegerOperator::Multiply, five(), Integer::Constant(Some(i64::MAX))),
            Integer::Constant(None)
        );
        assert_eq!(Float::binary(FloatOperator::Divide, half(), Float::Constant(Some(0.0))), Float::Constant(None));
    }

    #[test]
    fn null_strings_answer_null_except_to_is_null() {
        assert_eq!(TextPredicate::IsNull.answer(None), Some(true));
        assert_eq!(TextPredicate::IsNull.answer(Some("")), Some(false));
        assert_eq!(TextPredicate::Compare(Comparison::Equal, "a".into()).answer(None), None);
        assert_eq!(TextPredicate::In(TextSet::new(Vec::new(), false)).answer(None), None);
    }

    #[test]
    fn columns_are_listed_once_and_depth_is_bounded() {
        let mut root = Truth::And(vec![
            Truth::CompareTexts(Comparison::Equal, 4, 1),
            Truth::text(1, TextPredicate::IsNull),
            Truth::compare_integers(Comparison::Less, Integer::Time, Integer::Column(2)),
        ]);
        assert_eq!(Filter::new(root.clone()).unwrap().columns(), [1, 2, 4]);
        for _ in 0..DEPTH_MAX {
            root = root.negate();
        }
        assert_eq!(Filter::new(root), Err(FilterError::TooDeep));
    }
}
