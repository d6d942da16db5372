//! Arithmetic and comparison of single numbers, as filters define them.
//!
//! The rules that surprise people live here: overflow and division by zero give null, and `i64` with `f64`
//! compares by exact value. Loops over columns are not here.

use std::cmp::Ordering;

/// A comparison operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// Whether it holds between operands ordered so.
    #[inline(always)]
    pub const fn holds(self, ordering: Ordering) -> bool {
        match self {
            Comparison::Equal => ordering.is_eq(),
            Comparison::NotEqual => ordering.is_ne(),
            Comparison::Less => ordering.is_lt(),
            Comparison::LessOrEqual => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterOrEqual => ordering.is_ge(),
        }
    }

    /// The operator that says the same with its operands exchanged.
    pub const fn swapped(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
            Comparison::Equal | Comparison::NotEqual => self,
        }
    }
}

/// An operator whose operands and result are integers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntegerOperator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `%`, with the sign of the dividend.
    Remainder,
}

impl IntegerOperator {
    /// The result; `None` (null) when it does not fit `i64` or the divisor is zero.
    pub const fn apply(self, left: i64, right: i64) -> Option<i64> {
        match self {
            IntegerOperator::Add => left.checked_add(right),
            IntegerOperator::Subtract => left.checked_sub(right),
            IntegerOperator::Multiply => left.checked_mul(right),
            // i64::MIN % -1 is 0; only its quotient would overflow.
            IntegerOperator::Remainder if right == 0 => None,
            IntegerOperator::Remainder => Some(left.wrapping_rem(right)),
        }
    }
}

/// An operator whose operands and result are doubles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FloatOperator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`, with the sign of the dividend.
    Remainder,
}

impl FloatOperator {
    /// The result, where NaN is null: of a null operand, of a division by zero, of `inf - inf`.
    #[inline(always)]
    pub fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            FloatOperator::Add => left + right,
            FloatOperator::Subtract => left - right,
            FloatOperator::Multiply => left * right,
            FloatOperator::Divide if right == 0.0 => f64::NAN,
            FloatOperator::Divide => left / right,
            FloatOperator::Remainder => left % right,
        }
    }
}

/// 2^63, the smallest double above every `i64`.
const ABOVE_I64: f64 = 9_223_372_036_854_775_808.0;

/// Compares by exact value. `float` is not NaN.
///
/// `as f64` would round the integer: 2^53 + 1 would equal 2^53.
pub fn compare_exactly(integer: i64, float: f64) -> Ordering {
    debug_assert!(!float.is_nan());
    if float >= ABOVE_I64 {
        return Ordering::Less;
    }
    if float < -ABOVE_I64 {
        return Ordering::Greater;
    }
    // Now the truncated value fits, and the fraction is exact.
    let whole = float.trunc();
    integer.cmp(&(whole as i64)).then_with(|| whole.total_cmp(&float))
}

/// A set of integers `low..=high`, or all the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IntegerRange {
    /// Smallest member of the interval.
    pub low: i64,
    /// Largest member of the interval; below `low` when the interval is empty.
    pub high: i64,
    /// Whether the members are those outside the interval.
    pub negated: bool,
}

impl IntegerRange {
    const EMPTY: IntegerRange = IntegerRange { low: i64::MAX, high: i64::MIN, negated: false };
    const ALL: IntegerRange = IntegerRange { low: i64::MIN, high: i64::MAX, negated: false };

    /// Whether `value` is a member.
    #[inline(always)]
    pub const fn contains(self, value: i64) -> bool {
        (self.low <= value && value <= self.high) != self.negated
    }

    /// The integers `x` for which `x op bound` holds.
    pub fn of_integer(op: Comparison, bound: i64) -> IntegerRange {
        match op {
            Comparison::Equal => IntegerRange { low: bound, high: bound, negated: false },
            Comparison::NotEqual => IntegerRange { low: bound, high: bound, negated: true },
            Comparison::LessOrEqual => IntegerRange { high: bound, ..Self::ALL },
            Comparison::GreaterOrEqual => IntegerRange { low: bound, ..Self::ALL },
            Comparison::Less => match bound.checked_sub(1) {
                Some(high) => IntegerRange { high, ..Self::ALL },
                None => Self::EMPTY,
            },
            Comparison::Greater => match bound.checked_add(1) {
                Some(low) => IntegerRange { low, ..Self::ALL },
                None => Self::EMPTY,
            },
        }
    }

    /// The integers `x` for which `x op bound` holds exactly. `bound` is not NaN.
    pub fn of_float(op: Comparison, bound: f64) -> IntegerRange {
        if !(-ABOVE_I64..ABOVE_I64).contains(&bound) {
            // Every integer lies on the same side.
            let side = if bound > 0.0 { Ordering::Less } else { Ordering::Greater };
            return if op.holds(side) { Self::ALL } else { Self::EMPTY };
        }
        let below = bound.floor() as i64;
        if bound.floor() == bound {
            return Self::of_integer(op, below);
        }
        match op {
            Comparison::Equal => Self::EMPTY,
            Comparison::NotEqual => Self::ALL,
            Comparison::Less | Comparison::LessOrEqual => IntegerRange { high: below, ..Self::ALL },
            // A fraction means |bound| < 2^52, so this cannot overflow.
            Comparison::Greater | Comparison::GreaterOrEqual => IntegerRange { low: below + 1, ..Self::ALL },
        }
    }
}

/// The comparison with a double that holds for exactly the non-null `x` for which `x op bound` holds.
pub fn float_comparison(op: Comparison, bound: i64) -> (Comparison, f64) {
    let nearest = bound as f64;
    match compare_exactly(bound, nearest) {
        Ordering::Equal => (op, nearest),
        // No double lies between the bound and its nearest double, so both sides of it move together.
        side => match (op, side) {
            (Comparison::Equal, _) => (Comparison::Less, f64::NEG_INFINITY),
            (Comparison::NotEqual, _) => (Comparison::GreaterOrEqual, f64::NEG_INFINITY),
            (Comparison::Less | Comparison::LessOrEqual, Ordering::Less) => (Comparison::Less, nearest),
            (Comparison::Less | Comparison::LessOrEqual, _) => (Comparison::LessOrEqual, nearest),
            (Comparison::Greater | Comparison::GreaterOrEqual, Ordering::Less) => (Comparison::GreaterOrEqual, nearest),
            (Comparison::Greater | Comparison::GreaterOrEqual, _) => (Comparison::Greater, nearest),
        },
    }
}

/// `value` as an integer, when it is one exactly.
pub fn exact_integer(value: f64) -> Option<i64> {
    let whole = value.trunc();
    (whole == value && (-ABOVE_I64..ABOVE_I64).contains(&value)).then_some(whole as i64)
}

/// `value` as a double, when it is one exactly.
pub fn exact_float(value: i64) -> Option<f64> {
    let nearest = value as f64;
    compare_exactly(value, nearest).is_eq().then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Comparison; 6] = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];

    fn integers() -> Vec<i64> {
        let mut values = vec![i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1];
        for near in [0, 1 << 52, 1 << 53, 1 << 54, 1 << 60, 1 << 62, -(1 << 53), -(1 << 62)] {
            values.extend((-3..=3).map(|step| near + step));
        }
        values
    }

    fn floats() -> Vec<f64> {
        let mut values = vec![f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 1e300, 5e-324, -0.0];
        for near in integers() {
            let float = near as f64;
            values.extend([float, float.next_up(), float.next_down(), float + 0.5, float - 0.25]);
        }
        values
    }

    /// Every double of the table is a multiple of 2^-1074; comparing whole and fraction in i128 is plain and exact.
    fn by_wide_integers(integer: i64, float: f64) -> Ordering {
        if float.abs() > 1e30 {
            return if float > 0.0 { Ordering::Less } else { Ordering::Greater };
        }
        let floor = float.floor();
        let order = i128::from(integer).cmp(&(floor as i128));
        if order.is_eq() && float != floor { Ordering::Less } else { order }
    }

    #[test]
    fn integers_and_doubles_compare_by_value() {
        assert_eq!(compare_exactly((1 << 53) + 1, 9_007_199_254_740_992.0), Ordering::Greater);
        assert_eq!(compare_exactly(i64::MAX, ABOVE_I64), Ordering::Less);
        assert_eq!(compare_exactly(i64::MIN, -ABOVE_I64), Ordering::Equal);
        for integer in integers() {
            for float in floats() {
                assert_eq!(compare_exactly(integer, float), by_wide_integers(integer, float), "{integer} {float:e}");
            }
        }
    }

    #[test]
    fn bounds_hold_for_what_the_comparison_holds_for() {
        for op in ALL {
            for integer in integers() {
                for float in floats() {
                    let expected = op.holds(compare_exactly(integer, float));
                    assert_eq!(
                        IntegerRange::of_float(op, float).contains(integer),
                        expected,
                        "{integer} {op:?} {float:e}"
                    );
                    let (float_op, bound) = float_comparison(op.swapped(), integer);
                    assert_eq!(float.partial_cmp(&bound).is_some_and(|order| float_op.holds(order)), expected);
                }
                for other in integers() {
                    assert_eq!(IntegerRange::of_integer(op, other).contains(integer), op.holds(integer.cmp(&other)));
                }
            }
        }
    }

    #[test]
    fn what_has_no_result_is_null() {
        assert_eq!(IntegerOperator::Add.apply(i64::MAX, 1), None);
        assert_eq!(IntegerOperator::Multiply.apply(i64::MIN, -1), None);
        assert_eq!(IntegerOperator::Remainder.apply(7, 0), None);
        assert_eq!(IntegerOperator::Remainder.apply(i64::MIN, -1), Some(0));
        assert_eq!(IntegerOperator::Remainder.apply(-7, 3), Some(-1));
        assert!(FloatOperator::Divide.apply(1.0, 0.0).is_nan());
        assert!(FloatOperator::Divide.apply(1.0, -0.0).is_nan());
        assert!(FloatOperator::Remainder.apply(1.0, 0.0).is_nan());
        assert!(FloatOperator::Subtract.apply(f64::INFINITY, f64::INFINITY).is_nan());
        assert_eq!(FloatOperator::Multiply.apply(1e308, 10.0), f64::INFINITY);
    }

    #[test]
    fn exact_conversions_refuse_what_rounds() {
        assert_eq!(exact_integer(2.5), None);
        assert_eq!(exact_integer(-0.0), Some(0));
        assert_eq!(exact_integer(ABOVE_I64), None);
        assert_eq!(exact_integer(f64::NAN), None);
        assert_eq!(exact_integer(-ABOVE_I64), Some(i64::MIN));
        assert_eq!(exact_float((1 << 53) + 1), None);
        assert_eq!(exact_float(i64::MAX), None);
        assert_eq!(exact_float(i64::MIN), Some(-ABOVE_I64));
    }
}
