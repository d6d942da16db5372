//! From the syntax tree of a filter to the typed tree that shards evaluate.
//!
//! Names are resolved, types checked and constants folded here, so that nothing can go wrong per row. Operands that
//! do not go together are an error with their place; there are no casts but integer to double.

use super::error::{Position, SqlError};
use super::text::{bare, chain, excerpt, parse, position_of, unsupported};
use super::{ParseTime, StreamColumns};
use corefold_aggregator::spec::FieldType;
use corefold_shards::fold::filter::like::LikePattern;
use corefold_shards::fold::filter::number::{Comparison, FloatOperator, IntegerOperator};
use corefold_shards::fold::filter::plan::{DEPTH_MAX, Float, Integer, TextPredicate, Truth};
use corefold_shards::fold::filter::sets::{NumberSet, TextSet};
use corefold_shards::fold::filter::{Filter, FilterError};
use sqlparser::ast::{BinaryOperator, DataType, Expr, UnaryOperator, Value as SqlValue};

/// Plans the filter `text` over a stream's columns. `parse_time` reads the literals that the time column meets.
pub fn plan_filter(text: &str, columns: &StreamColumns<'_>, parse_time: ParseTime) -> Result<Filter, SqlError> {
    let expression = parse(text)?;
    let mut planner = Planner { columns, parse_time, depth: 0 };
    let root = planner.truth(&expression)?;
    Ok(Filter::new(root)?)
}

struct Planner<'c> {
    columns: &'c StreamColumns<'c>,
    parse_time: ParseTime,
    depth: usize,
}

/// A planned expression, by type.
#[derive(Clone)]
enum Value {
    Null,
    Truth(Truth),
    Integer(Integer),
    Float(Float),
    Time(Integer),
    Text(usize),
    Literal(String),
}

impl Value {
    fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Truth(_) => "bool",
            Value::Integer(_) => "i64",
            Value::Float(_) => "f64",
            Value::Time(_) => "time",
            Value::Text(_) | Value::Literal(_) => "string",
        }
    }
}

/// An expression beside what it was planned to, for errors that name both.
struct Operand<'e> {
    source: &'e Expr,
    value: Value,
}

impl Operand<'_> {
    fn at(&self) -> Position {
        position_of(self.source)
    }

    fn describe(&self) -> String {
        let kind = self.value.type_name();
        match bare(self.source) {
            Expr::Identifier(name) => format!("`{}` ({kind})", excerpt(&name.value)),
            literal @ (Expr::Value(_) | Expr::TypedString(_)) => format!("{} ({kind})", excerpt(&literal.to_string())),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } if matches!(**expr, Expr::Value(_)) => {
                format!("-{} ({kind})", excerpt(&expr.to_string()))
            }
            _ => format!("the expression at {} ({kind})", self.at()),
        }
    }
}

impl Planner<'_> {
    /// Plans what must be true or false.
    fn truth(&mut self, source: &Expr) -> Result<Truth, SqlError> {
        let operand = self.operand(source)?;
        match operand.value {
            Value::Truth(truth) => Ok(truth),
            Value::Null => Ok(Truth::Constant(None)),
            _ => {
                let what = format!("expected a condition, but {} is neither true nor false", operand.describe());
                Err(SqlError::Type { at: operand.at(), what })
            }
        }
    }

    fn operand<'e>(&mut self, source: &'e Expr) -> Result<Operand<'e>, SqlError> {
        if self.depth == DEPTH_MAX {
            return Err(FilterError::TooDeep.into());
        }
        self.depth += 1;
        let value = self.value(bare(source))?;
        self.depth -= 1;
        Ok(Operand { source, value })
    }

    fn value(&mut self, source: &Expr) -> Result<Value, SqlError> {
        use BinaryOperator as Op;
        let truth = match source {
            Expr::Identifier(name) => return self.column(source, &name.value),
            Expr::Value(literal) => return literal_value(source, &literal.value, ""),
            Expr::TypedString(literal) => {
                return match (&literal.data_type, &literal.value.value) {
                    (
                        DataType::Timestamp(..) | DataType::Datetime(_) | DataType::Date,
                        SqlValue::SingleQuotedString(text),
                    ) => Ok(Value::Time(self.time_literal(source, text)?)),
                    _ => Err(unsupported(source)),
                };
            }
            Expr::UnaryOp { op, expr } => match op {
                UnaryOperator::Not => self.truth(expr)?.negate(),
                UnaryOperator::Minus => return self.signed(expr, true),
                UnaryOperator::Plus => return self.signed(expr, false),
                _ => return Err(unsupported(source)),
            },
            Expr::BinaryOp { left, op, right } => {
                if let Some(comparison) = comparison(op) {
                    let (left, right) = (self.operand(left)?, self.operand(right)?);
                    self.compare(comparison, &left, &right)?
                } else if let Some(arithmetic) = arithmetic(op) {
                    let (left, right) = (self.operand(left)?, self.operand(right)?);
                    return combine(arithmetic, op, left, right);
                } else {
                    let terms = || chain(source, op);
                    match op {
                        Op::And => {
                            Truth::And(terms().into_iter().map(|term| self.truth(term)).collect::<Result<_, _>>()?)
                        }
                        Op::Or => {
                            Truth::Or(terms().into_iter().map(|term| self.truth(term)).collect::<Result<_, _>>()?)
                        }
                        _ => return Err(unsupported(source)),
                    }
                }
            }
            Expr::IsTrue(of) => self.truth(of)?.map([Some(false), Some(true), Some(false)]),
            Expr::IsNotTrue(of) => self.truth(of)?.map([Some(true), Some(false), Some(true)]),
            Expr::IsFalse(of) => self.truth(of)?.map([Some(true), Some(false), Some(false)]),
            Expr::IsNotFalse(of) => self.truth(of)?.map([Some(false), Some(true), Some(true)]),
            Expr::IsUnknown(of) => self.truth(of)?.map([Some(false), Some(false), Some(true)]),
            Expr::IsNotUnknown(of) => self.truth(of)?.map([Some(true), Some(true), Some(false)]),
            Expr::IsNull(of) => is_null(self.operand(of)?.value),
            Expr::IsNotNull(of) => is_null(self.operand(of)?.value).negate(),
            Expr::Between { expr, negated, low, high } => {
                let truth = self.between(expr, low, high)?;
                if *negated { truth.negate() } else { truth }
            }
            Expr::InList { expr, list, negated } => {
                let truth = self.in_list(expr, list)?;
                if *negated { truth.negate() } else { truth }
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                let truth = self.like(expr, pattern, escape_char.as_deref(), false)?;
                if *negated { truth.negate() } else { truth }
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
                let truth = self.like(expr, pattern, escape_char.as_deref(), true)?;
                if *negated { truth.negate() } else { truth }
            }
            _ => return Err(unsupported(source)),
        };
        Ok(Value::Truth(truth))
    }

    fn column(&self, source: &Expr, name: &str) -> Result<Value, SqlError> {
        if name == self.columns.time {
            return Ok(Value::Time(Integer::Time));
        }
        let index = self.columns.index(name).ok_or_else(|| self.columns.unknown(name, position_of(source)))?;
        Ok(match self.columns.fields[index].kind {
            FieldType::String => Value::Text(index),
            FieldType::I64 => Value::Integer(Integer::Column(index)),
            FieldType::F64 => Value::Float(Float::Column(index)),
            FieldType::Bool => Value::Truth(Truth::Column(index)),
        })
    }

    /// `-x` or `+x`. The sign belongs to a literal: `-9223372036854775808` is an integer.
    fn signed(&mut self, source: &Expr, negative: bool) -> Result<Value, SqlError> {
        if let Expr::Value(literal) = source {
            return match literal.value {
                SqlValue::Number(..) if negative => literal_value(source, &literal.value, "-"),
                SqlValue::Number(..) | SqlValue::Null => literal_value(source, &literal.value, ""),
                _ => Err(not_a_number(&self.operand(source)?)),
            };
        }
        let operand = self.operand(source)?;
        match operand.value {
            Value::Integer(of) => Ok(Value::Integer(if negative { of.negate() } else { of })),
            Value::Float(of) => Ok(Value::Float(if negative { of.negate() } else { of })),
            Value::Null => Ok(Value::Null),
            _ => Err(not_a_number(&operand)),
        }
    }

    fn time_literal(&self, source: &Expr, text: &str) -> Result<Integer, SqlError> {
        (self.parse_time)(text).map(|time| Integer::Constant(Some(time))).ok_or_else(|| SqlError::Literal {
            at: position_of(source),
            what: format!(
                "'{}' is not a time; expected RFC 3339, such as '2013-01-01T00:00:00Z', or a date",
                excerpt(text)
            ),
        })
    }

    fn compare(&self, op: Comparison, left: &Operand<'_>, right: &Operand<'_>) -> Result<Truth, SqlError> {
        Ok(match (left.value.clone(), right.value.clone()) {
            (Value::Null, _) | (_, Value::Null) => Truth::Constant(None),
            (Value::Truth(left), Value::Truth(right)) => Truth::compare_truths(op, left, right),
            (Value::Integer(left), Value::Integer(right)) => Truth::compare_integers(op, left, right),
            (Value::Float(left), Value::Float(right)) => Truth::compare_floats(op, left, right),
            (Value::Integer(left), Value::Float(right)) => Truth::compare_mixed(op, left, right),
            (Value::Float(left), Value::Integer(right)) => Truth::compare_mixed(op.swapped(), right, left),
            (Value::Time(left), Value::Time(right)) => Truth::compare_integers(op, left, right),
            (Value::Time(time), Value::Literal(text)) => {
                Truth::compare_integers(op, time, self.time_literal(right.source, &text)?)
            }
            (Value::Literal(text), Value::Time(time)) => {
                Truth::compare_integers(op, self.time_literal(left.source, &text)?, time)
            }
            (Value::Text(left), Value::Text(right)) => Truth::CompareTexts(op, left, right),
            (Value::Text(column), Value::Literal(text)) => Truth::text(column, TextPredicate::Compare(op, text)),
            (Value::Literal(text), Value::Text(column)) => {
                Truth::text(column, TextPredicate::Compare(op.swapped(), text))
            }
            (Value::Literal(left), Value::Literal(right)) => {
                Truth::Constant(Some(op.holds(left.as_bytes().cmp(right.as_bytes()))))
            }
            _ => return Err(incomparable(left, right)),
        })
    }

    fn between(&mut self, of: &Expr, low: &Expr, high: &Expr) -> Result<Truth, SqlError> {
        let (of, low, high) = (self.operand(of)?, self.operand(low)?, self.operand(high)?);
        if let Value::Truth(_) = of.value {
            // The operand is planned twice below, which nested conditions would double over and over.
            let what = format!("BETWEEN compares numbers, strings and times, not {}", of.describe());
            return Err(SqlError::Type { at: of.at(), what });
        }
        Ok(Truth::And(vec![
            self.compare(Comparison::GreaterOrEqual, &of, &low)?,
            self.compare(Comparison::LessOrEqual, &of, &high)?,
        ]))
    }

    fn in_list(&mut self, of: &Expr, list: &[Expr]) -> Result<Truth, SqlError> {
        let of = self.operand(of)?;
        let mut items = Items::default();
        for source in list {
            let item = self.operand(source)?;
            // Only for its errors: an item must be comparable.
            self.compare(Comparison::Equal, &Operand { source: of.source, value: example(&of.value) }, &item)?;
            match item.value {
                Value::Null | Value::Truth(Truth::Constant(None)) => items.with_null = true,
                Value::Integer(Integer::Constant(None)) | Value::Float(Float::Constant(None)) => items.with_null = true,
                Value::Integer(Integer::Constant(Some(value))) => items.integers.push(value),
                Value::Time(Integer::Constant(Some(value))) => items.integers.push(value),
                Value::Float(Float::Constant(Some(value))) => items.floats.push(value),
                Value::Truth(Truth::Constant(Some(value))) => items.truths[usize::from(value)] = true,
                Value::Literal(text) if matches!(of.value, Value::Time(_)) => {
                    if let Integer::Constant(Some(value)) = self.time_literal(source, &text)? {
                        items.integers.push(value);
                    }
                }
                Value::Literal(text) => items.texts.push(text),
                _ => {
                    return Err(SqlError::Unsupported {
                        at: position_of(source),
                        what: "columns in an IN list are".to_owned(),
                        clause: super::Clause::Where,
                        hint: "; write x = a OR x = b",
                    });
                }
            }
        }
        Ok(items.look_for(of.value))
    }

    fn like(&mut self, of: &Expr, pattern: &Expr, escape: Option<&Expr>, case_folded: bool) -> Result<Truth, SqlError> {
        let (of, pattern) = (self.operand(of)?, self.operand(pattern)?);
        let escape = match escape {
            Some(escape) => self.escape(escape)?,
            None => None,
        };
        let not_text = |operand: &Operand<'_>, what: &str| {
            let what = format!("{what}, but {} is not one", operand.describe());
            Err(SqlError::Type { at: operand.at(), what })
        };
        if !matches!(of.value, Value::Null | Value::Text(_) | Value::Literal(_)) {
            return not_text(&of, "LIKE takes a string on its left");
        }
        let predicate = match &pattern.value {
            Value::Null => return Ok(Truth::Constant(None)),
            Value::Literal(text) => LikePattern::new(text, escape, case_folded)
                .map_err(|error| SqlError::Like { at: pattern.at(), error })
                .map(TextPredicate::Like)?,
            _ => return not_text(&pattern, "the pattern of LIKE must be a string literal"),
        };
        Ok(match of.value {
            Value::Text(column) => Truth::text(column, predicate),
            Value::Literal(text) => Truth::Constant(predicate.answer(Some(&text))),
            _ => Truth::Constant(None),
        })
    }

    /// One character, or none for `''`.
    fn escape(&mut self, source: &Expr) -> Result<Option<char>, SqlError> {
        if let Value::Literal(text) = self.operand(source)?.value {
            let mut characters = text.chars();
            if let (escape, None) = (characters.next(), characters.next()) {
                return Ok(escape);
            }
        }
        Err(SqlError::Literal { at: position_of(source), what: "ESCAPE takes a single character in quotes".to_owned() })
    }
}

/// The literals of an `IN` list, by type.
#[derive(Default)]
struct Items {
    integers: Vec<i64>,
    floats: Vec<f64>,
    texts: Vec<String>,
    truths: [bool; 2],
    with_null: bool,
}

impl Items {
    /// The items were checked to be comparable with `of`.
    fn look_for(self, of: Value) -> Truth {
        let Items { integers, floats, texts, truths, with_null } = self;
        match of {
            Value::Null => Truth::Constant(None),
            Value::Integer(of) | Value::Time(of) => {
                Truth::integer_in(of, NumberSet::of_integers(integers, &floats, with_null))
            }
            Value::Float(of) => Truth::float_in(of, NumberSet::of_floats(floats, &integers, with_null)),
            Value::Text(column) => Truth::text(column, TextPredicate::In(TextSet::new(texts, with_null))),
            Value::Literal(text) => {
                Truth::Constant(TextPredicate::In(TextSet::new(texts, with_null)).answer(Some(&text)))
            }
            Value::Truth(of) => {
                let answer = |found: bool| if found || !with_null { Some(found) } else { None };
                of.map([answer(truths[0]), answer(truths[1]), None])
            }
        }
    }
}

/// A cheap value of the same type.
fn example(value: &Value) -> Value {
    match value {
        Value::Truth(_) => Value::Truth(Truth::Constant(None)),
        Value::Integer(_) => Value::Integer(Integer::Constant(None)),
        Value::Float(_) => Value::Float(Float::Constant(None)),
        Value::Time(_) => Value::Time(Integer::Time),
        Value::Literal(_) => Value::Literal(String::new()),
        Value::Null => Value::Null,
        Value::Text(column) => Value::Text(*column),
    }
}

fn is_null(value: Value) -> Truth {
    match value {
        Value::Null => Truth::Constant(Some(true)),
        Value::Literal(_) | Value::Time(_) => Truth::Constant(Some(false)),
        Value::Truth(of) => of.map([Some(false), Some(false), Some(true)]),
        Value::Integer(Integer::Constant(value)) => Truth::Constant(Some(value.is_none())),
        Value::Float(Float::Constant(value)) => Truth::Constant(Some(value.is_none())),
        Value::Integer(of) => Truth::IntegerIsNull(of),
        Value::Float(of) => Truth::FloatIsNull(of),
        Value::Text(column) => Truth::text(column, TextPredicate::IsNull),
    }
}

fn literal_value(source: &Expr, literal: &SqlValue, sign: &str) -> Result<Value, SqlError> {
    match literal {
        SqlValue::Null => Ok(Value::Null),
        SqlValue::Boolean(value) => Ok(Value::Truth(Truth::Constant(Some(*value)))),
        SqlValue::SingleQuotedString(text) => Ok(Value::Literal(text.clone())),
        SqlValue::Number(digits, _) => {
            let text = format!("{sign}{digits}");
            if let Ok(integer) = text.parse() {
                return Ok(Value::Integer(Integer::Constant(Some(integer))));
            }
            match text.parse::<f64>() {
                Ok(float) if float.is_finite() => Ok(Value::Float(Float::constant(float))),
                _ => Err(SqlError::Literal {
                    at: position_of(source),
                    what: format!("{} is not a number that fits f64", excerpt(&text)),
                }),
            }
        }
        _ => Err(unsupported(source)),
    }
}

fn comparison(op: &BinaryOperator) -> Option<Comparison> {
    Some(match op {
        BinaryOperator::Eq => Comparison::Equal,
        BinaryOperator::NotEq => Comparison::NotEqual,
        BinaryOperator::Lt => Comparison::Less,
        BinaryOperator::LtEq => Comparison::LessOrEqual,
        BinaryOperator::Gt => Comparison::Greater,
        BinaryOperator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

/// The operator over doubles, and over integers where it stays among them.
fn arithmetic(op: &BinaryOperator) -> Option<(FloatOperator, Option<IntegerOperator>)> {
    Some(match op {
        BinaryOperator::Plus => (FloatOperator::Add, Some(IntegerOperator::Add)),
        BinaryOperator::Minus => (FloatOperator::Subtract, Some(IntegerOperator::Subtract)),
        BinaryOperator::Multiply => (FloatOperator::Multiply, Some(IntegerOperator::Multiply)),
        BinaryOperator::Divide => (FloatOperator::Divide, None),
        BinaryOperator::Modulo => (FloatOperator::Remainder, Some(IntegerOperator::Remainder)),
        _ => return None,
    })
}

fn combine(
    (over_floats, over_integers): (FloatOperator, Option<IntegerOperator>),
    op: &BinaryOperator,
    left: Operand<'_>,
    right: Operand<'_>,
) -> Result<Value, SqlError> {
    let is_number = |value: &Value| matches!(value, Value::Null | Value::Integer(_) | Value::Float(_));
    if !is_number(&left.value) || !is_number(&right.value) {
        let hint = match (&left.value, &right.value) {
            (Value::Time(_), _) | (_, Value::Time(_)) => "; compare the time column with a time instead",
            _ => "; it takes numbers",
        };
        let what = format!("cannot apply {op} to {} and {}{hint}", left.describe(), right.describe());
        return Err(SqlError::Type { at: left.at(), what });
    }
    let integer = |value: Value| match value {
        Value::Integer(of) => Ok(of),
        Value::Float(of) => Err(of),
        _ => Ok(Integer::Constant(None)),
    };
    Ok(match (integer(left.value), integer(right.value), over_integers) {
        (Ok(left), Ok(right), Some(op)) => Value::Integer(Integer::binary(op, left, right)),
        (left, right, _) => {
            let float = |value: Result<Integer, Float>| value.map_or_else(|float| float, Float::from_integer);
            Value::Float(Float::binary(over_floats, float(left), float(right)))
        }
    })
}

fn not_a_number(operand: &Operand<'_>) -> SqlError {
    SqlError::Type { at: operand.at(), what: format!("a sign needs a number, but {} is none", operand.describe()) }
}

fn incomparable(left: &Operand<'_>, right: &Operand<'_>) -> SqlError {
    let is_number = |value: &Value| matches!(value, Value::Integer(_) | Value::Float(_));
    let hint = match (&left.value, &right.value) {
        (Value::Text(_), other) | (other, Value::Text(_)) if is_number(other) => {
            "; write the number in quotes, or declare the column as a number"
        }
        (Value::Literal(_), other) | (other, Value::Literal(_)) if is_number(other) => {
            "; write the number without quotes"
        }
        (Value::Time(_), _) | (_, Value::Time(_)) => "; write the time in quotes, such as '2013-01-01T00:00:00Z'",
        (Value::Truth(_), _) | (_, Value::Truth(_)) => "; a bool compares with true and false",
        _ => "",
    };
    let what = format!("cannot compare {} with {}{hint}", left.describe(), right.describe());
    SqlError::Type { at: left.at(), what }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
