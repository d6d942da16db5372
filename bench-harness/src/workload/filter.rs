//! A small filter language: a tree that can be printed as SQL and evaluated on plain cells.
//!
//! Three-valued as in SQL. Only what has one meaning everywhere is in it: no division, no casts, no functions.

use super::{Cell, Field};
use crate::text;
use std::cmp::Ordering;

/// A condition; rows where it is true are kept.
#[derive(Clone, PartialEq, Debug)]
pub enum Filter {
    /// A boolean column by itself.
    Column(usize),
    /// `left op right`.
    Compare(Operand, Comparison, Operand),
    /// `column [not] in (…)`.
    In {
        /// Field index.
        column: usize,
        /// Literals of the column's type.
        choices: Vec<Cell>,
        /// `not in`.
        negated: bool,
    },
    /// `column [not] between low and high`.
    Between {
        /// Field index.
        column: usize,
        /// Literal.
        low: Cell,
        /// Literal.
        high: Cell,
        /// `not between`.
        negated: bool,
    },
    /// `column is [not] null`.
    IsNull {
        /// Field index.
        column: usize,
        /// `is not null`.
        negated: bool,
    },
    /// `column [not] like pattern`.
    Like {
        /// Field index.
        column: usize,
        /// `%` any run, `_` any one character.
        pattern: String,
        /// `not like`.
        negated: bool,
    },
    /// Both.
    And(Box<Filter>, Box<Filter>),
    /// Either.
    Or(Box<Filter>, Box<Filter>),
    /// The opposite.
    Not(Box<Filter>),
}

/// A value inside a comparison.
#[derive(Clone, PartialEq, Debug)]
pub enum Operand {
    /// A field.
    Column(usize),
    /// A constant.
    Literal(Cell),
    /// Arithmetic on two numbers of one type.
    Arithmetic(Box<Operand>, Arithmetic, Box<Operand>),
}

/// `+`, `-` and `*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "well-known names")]
pub enum Arithmetic {
    Plus,
    Minus,
    Times,
}

/// Comparison operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "well-known names")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// All of them.
    pub const ALL: [Comparison; 6] = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];

    const fn sql(self) -> &'static str {
        match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "<>",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Filter {
    /// The condition as SQL text, every part in parentheses.
    pub fn sql(&self, fields: &[Field]) -> String {
        let name = |column: &usize| fields[*column].name.clone();
        let not = |negated: &bool| if *negated { "not " } else { "" };
        match self {
            Filter::Column(column) => name(column),
            Filter::Compare(left, comparison, right) => {
                format!("{} {} {}", left.sql(fields), comparison.sql(), right.sql(fields))
            }
            Filter::In { column, choices, negated } => {
                let choices: Vec<String> = choices.iter().map(literal).collect();
                format!("{} {}in ({})", name(column), not(negated), choices.join(", "))
            }
            Filter::Between { column, low, high, negated } => {
                format!("{} {}between {} and {}", name(column), not(negated), literal(low), literal(high))
            }
            Filter::IsNull { column, negated } => format!("{} is {}null", name(column), not(negated)),
            Filter::Like { column, pattern, negated } => {
                format!("{} {}like {}", name(column), not(negated), quoted(pattern))
            }
            Filter::And(left, right) => format!("({}) and ({})", left.sql(fields), right.sql(fields)),
            Filter::Or(left, right) => format!("({}) or ({})", left.sql(fields), right.sql(fields)),
            Filter::Not(inner) => format!("not ({})", inner.sql(fields)),
        }
    }

    /// Whether the row is kept: the condition is true, not false and not unknown.
    pub fn keeps(&self, cells: &[Cell]) -> bool {
        self.evaluate(cells) == Some(true)
    }

    /// True, false or unknown.
    fn evaluate(&self, cells: &[Cell]) -> Option<bool> {
        match self {
            Filter::Column(column) => match &cells[*column] {
                Cell::Bool(value) => Some(*value),
                _ => None,
            },
            Filter::Compare(left, comparison, right) => {
                compare(&left.evaluate(cells), &right.evaluate(cells)).map(|order| comparison.holds(order))
            }
            Filter::In { column, choices, negated } => {
                let value = known(&cells[*column])?;
                let found = choices.iter().any(|choice| compare(value, choice) == Some(Ordering::Equal));
                Some(found != *negated)
            }
            Filter::Between { column, low, high, negated } => {
                let value = known(&cells[*column])?;
                let inside = compare(value, low)?.is_ge() && compare(value, high)?.is_le();
                Some(inside != *negated)
            }
            Filter::IsNull { column, negated } => Some(known(&cells[*column]).is_none() != *negated),
            Filter::Like { column, pattern, negated } => match &cells[*column] {
                Cell::Text(text) => {
                    let pattern: Vec<char> = pattern.chars().collect();
                    let text: Vec<char> = text.chars().collect();
                    Some(like(&text, &pattern) != *negated)
                }
                _ => None,
            },
            Filter::And(left, right) => match (left.evaluate(cells), right.evaluate(cells)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Filter::Or(left, right) => match (left.evaluate(cells), right.evaluate(cells)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Filter::Not(inner) => inner.evaluate(cells).map(|value| !value),
        }
    }
}

impl Operand {
    fn sql(&self, fields: &[Field]) -> String {
        match self {
            Operand::Column(column) => fields[*column].name.clone(),
            Operand::Literal(value) => literal(value),
            Operand::Arithmetic(left, operation, right) => {
                let sign = match operation {
                    Arithmetic::Plus => '+',
                    Arithmetic::Minus => '-',
                    Arithmetic::Times => '*',
                };
                format!("({} {sign} {})", left.sql(fields), right.sql(fields))
            }
        }
    }

    fn evaluate(&self, cells: &[Cell]) -> Cell {
        match self {
            Operand::Column(column) => cells[*column].clone(),
            Operand::Literal(value) => value.clone(),
            Operand::Arithmetic(left, operation, right) => match (left.evaluate(cells), right.evaluate(cells)) {
                (Cell::Int(a), Cell::Int(b)) => {
                    // Random jobs keep arithmetic to small numbers; past the type there is no value.
                    let result = match operation {
                        Arithmetic::Plus => a.checked_add(b),
                        Arithmetic::Minus => a.checked_sub(b),
                        Arithmetic::Times => a.checked_mul(b),
                    };
                    result.map_or(Cell::Null, Cell::Int)
                }
                (Cell::Float(a), Cell::Float(b)) => Cell::Float(match operation {
                    Arithmetic::Plus => a + b,
                    Arithmetic::Minus => a - b,
                    Arithmetic::Times => a * b,
                }),
                _ => Cell::Null,
            },
        }
    }
}

/// The cell, unless it is null or NaN.
fn known(cell: &Cell) -> Option<&Cell> {
    match cell {
        Cell::Null => None,
        Cell::Float(value) if value.is_nan() => None,
        other => Some(other),
    }
}

fn compare(left: &Cell, right: &Cell) -> Option<Ordering> {
    match (known(left)?, known(right)?) {
        (Cell::Text(a), Cell::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Cell::Int(a), Cell::Int(b)) => Some(a.cmp(b)),
        (Cell::Float(a), Cell::Float(b)) => a.partial_cmp(b),
        (Cell::Bool(a), Cell::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|skip| like(&text[skip..], rest)),
        Some(('_', rest)) => !text.is_empty() && like(&text[1..], rest),
        Some((wanted, rest)) => text.first() == Some(wanted) && like(&text[1..], rest),
    }
}

fn literal(cell: &Cell) -> String {
    match cell {
        Cell::Null => "null".to_owned(),
        Cell::Text(value) => quoted(value),
        Cell::Int(value) => value.to_string(),
        Cell::Float(value) => {
            let digits = text::float(*value);
            if digits.contains(['.', 'e']) { digits } else { digits + ".0" }
        }
        Cell::Bool(value) => value.to_string(),
    }
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn fields() -> Vec<Field> {
        [("s", Kind::Text), ("i", Kind::Int), ("f", Kind::Float), ("b", Kind::Bool)]
            .map(|(name, kind)| Field { name: name.into(), kind })
            .to_vec()
    }

    fn text(value: &str) -> Cell {
        Cell::Text(value.to_owned())
    }

    /// Unknown stays unknown through `not`, and is swallowed by `or true` and `and false`.
    #[test]
    fn three_valued() {
        let unknown = Filter::Compare(Operand::Column(1), Comparison::Greater, Operand::Literal(Cell::Int(0)));
        let yes = Filter::IsNull { column: 1, negated: false };
        let no = Filter::IsNull { column: 1, negated: true };
        let row = [Cell::Null, Cell::Null, Cell::Float(f64::NAN), Cell::Null];
        let and = |a: &Filter, b: &Filter| Filter::And(Box::new(a.clone()), Box::new(b.clone())).evaluate(&row);
        let or = |a: &Filter, b: &Filter| Filter::Or(Box::new(a.clone()), Box::new(b.clone())).evaluate(&row);
        assert_eq!(unknown.evaluate(&row), None);
        assert_eq!(Filter::Not(Box::new(unknown.clone())).evaluate(&row), None);
        assert_eq!((and(&unknown, &yes), and(&unknown, &no)), (None, Some(false)));
        assert_eq!((or(&unknown, &yes), or(&unknown, &no)), (Some(true), None));
        assert_eq!(Filter::IsNull { column: 2, negated: false }.evaluate(&row), Some(true), "NaN is null");
        assert!(!unknown.keeps(&row));
    }

    #[test]
    fn patterns() {
        for (value, pattern, matches) in [
            ("abc", "abc", true),
            ("abc", "a%", true),
            ("abc", "%b%", true),
            ("abc", "_b_", true),
            ("abc", "_b", false),
            ("", "%", true),
            ("", "_", false),
            ("äöü", "_ö_", true),
            ("ABC", "abc", false),
            ("line\nbreak", "line%break", true),
        ] {
            let filter = Filter::Like { column: 0, pattern: pattern.into(), negated: false };
            assert_eq!(filter.evaluate(&[text(value)]), Some(matches), "{value:?} like {pattern:?}");
        }
    }

    #[test]
    fn prints_as_sql() {
        let sum = Operand::Arithmetic(
            Box::new(Operand::Column(1)),
            Arithmetic::Times,
            Box::new(Operand::Literal(Cell::Int(-2))),
        );
        let filter = Filter::Or(
            Box::new(Filter::Compare(sum, Comparison::NotEqual, Operand::Literal(Cell::Int(3)))),
            Box::new(Filter::In { column: 0, choices: vec![text("it's"), text("")], negated: true }),
        );
        assert_eq!(filter.sql(&fields()), "((i * -2) <> 3) or (s not in ('it''s', ''))");
        let between = Filter::Between { column: 2, low: Cell::Float(-1.0), high: Cell::Float(1e300), negated: false };
        assert_eq!(between.sql(&fields()), "f between -1.0 and 1e300");
        let row = [text("x"), Cell::Int(-1), Cell::Float(0.5), Cell::Bool(true)];
        assert!(filter.keeps(&row));
        assert!(between.keeps(&row));
    }
}
