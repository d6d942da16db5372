//! Which columns an expression uses, and as what, before the stream's types are known.
//!
//! Readers must know which columns to read, and inference what to call a column of nulls. Whether the expression
//! makes sense for the real types is the planner's question.

use super::error::{Position, SqlError};
use super::text::{bare, chain, parse, position, unsupported};
use corefold_aggregator::spec::FieldType;
use corefold_shards::fold::filter::FilterError;
use corefold_shards::fold::filter::plan::DEPTH_MAX;
use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};

/// A column that an expression names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColumnUse {
    /// Its name.
    pub name: String,
    /// The type that the use suggests: `F64` stands for any number. The time column's is of no meaning.
    pub hint: Option<FieldType>,
    /// Where it stands first.
    pub at: Position,
}

/// The columns that the filter `text` uses, each once, in order of appearance.
pub fn columns_of(text: &str) -> Result<Vec<ColumnUse>, SqlError> {
    let expression = parse(text)?;
    let mut uses = Uses { found: Vec::new(), depth: 0 };
    uses.visit(&expression, Some(FieldType::Bool))?;
    Ok(uses.found)
}

struct Uses {
    found: Vec<ColumnUse>,
    depth: usize,
}

impl Uses {
    fn visit(&mut self, expression: &Expr, hint: Option<FieldType>) -> Result<(), SqlError> {
        if self.depth == DEPTH_MAX {
            return Err(FilterError::TooDeep.into());
        }
        self.depth += 1;
        self.visit_inner(bare(expression), hint)?;
        self.depth -= 1;
        Ok(())
    }

    fn visit_inner(&mut self, expression: &Expr, hint: Option<FieldType>) -> Result<(), SqlError> {
        use BinaryOperator as Op;
        match expression {
            Expr::Value(_) | Expr::TypedString(_) => Ok(()),
            Expr::Identifier(name) => {
                self.note(&name.value, hint, position(name.span.start, 0));
                Ok(())
            }
            Expr::BinaryOp { op: op @ (Op::And | Op::Or), .. } => {
                chain(expression, op).into_iter().try_for_each(|term| self.visit(term, Some(FieldType::Bool)))
            }
            Expr::BinaryOp { left, op, right } => match op {
                Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq => self.visit_alike(&[left, right]),
                Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo => {
                    self.visit(left, Some(FieldType::F64))?;
                    self.visit(right, Some(FieldType::F64))
                }
                _ => Err(unsupported(expression)),
            },
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => self.visit(expr, Some(FieldType::Bool)),
            Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => {
                self.visit(expr, Some(FieldType::F64))
            }
            Expr::IsTrue(of)
            | Expr::IsNotTrue(of)
            | Expr::IsFalse(of)
            | Expr::IsNotFalse(of)
            | Expr::IsUnknown(of)
            | Expr::IsNotUnknown(of) => self.visit(of, Some(FieldType::Bool)),
            Expr::IsNull(of) | Expr::IsNotNull(of) => self.visit(of, None),
            Expr::InList { expr, list, .. } => {
                let alike: Vec<&Expr> = std::iter::once(&**expr).chain(list).collect();
                self.visit_alike(&alike)
            }
            Expr::Between { expr, low, high, .. } => self.visit_alike(&[expr, low, high]),
            Expr::Like { expr, pattern, any: false, .. } | Expr::ILike { expr, pattern, any: false, .. } => {
                self.visit(expr, Some(FieldType::String))?;
                self.visit(pattern, Some(FieldType::String))
            }
            other => Err(unsupported(other)),
        }
    }

    /// Operands that must have one type: the first that shows it speaks for all.
    fn visit_alike(&mut self, operands: &[&Expr]) -> Result<(), SqlError> {
        let hint = operands.iter().find_map(|operand| evident_type(operand));
        operands.iter().try_for_each(|operand| self.visit(operand, hint))
    }

    fn note(&mut self, name: &str, hint: Option<FieldType>, at: Position) {
        match self.found.iter_mut().find(|known| known.name == name) {
            Some(known) => known.hint = known.hint.or(hint),
            None => self.found.push(ColumnUse { name: name.to_owned(), hint, at }),
        }
    }
}

/// The type that an expression has whatever its columns are.
fn evident_type(expression: &Expr) -> Option<FieldType> {
    use BinaryOperator as Op;
    match bare(expression) {
        Expr::Value(value) => match &value.value {
            Value::Number(..) => Some(FieldType::F64),
            Value::SingleQuotedString(_) => Some(FieldType::String),
            Value::Boolean(_) => Some(FieldType::Bool),
            _ => None,
        },
        Expr::Identifier(_) | Expr::TypedString(_) => None,
        Expr::BinaryOp { op: Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo, .. }
        | Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, .. } => Some(FieldType::F64),
        _ => Some(FieldType::Bool),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(text: &str) -> Vec<(String, Option<FieldType>)> {
        columns_of(text).unwrap().into_iter().map(|column| (column.name, column.hint)).collect()
    }

    #[test]
    fn uses_tell_types() {
        type Hints<'a> = &'a [(&'a str, Option<FieldType>)];
        let table: [(&str, Hints<'_>); 12] = [
            ("a > 5", &[("a", Some(FieldType::F64))]),
            ("'x' <= a", &[("a", Some(FieldType::String))]),
            ("a = b", &[("a", None), ("b", None)]),
            ("a = b + 1", &[("a", Some(FieldType::F64)), ("b", Some(FieldType::F64))]),
            (
                "not a or b and c = true",
                &[("a", Some(FieldType::Bool)), ("b", Some(FieldType::Bool)), ("c", Some(FieldType::Bool))],
            ),
            ("a is null and a like 'x%'", &[("a", Some(FieldType::String))]),
            ("a in (null, -3)", &[("a", Some(FieldType::F64))]),
            ("a between 'm' and b", &[("a", Some(FieldType::String)), ("b", Some(FieldType::String))]),
            ("(\"a b\") = ('x')", &[("a b", Some(FieldType::String))]),
            ("a = (b > c)", &[("a", Some(FieldType::Bool)), ("b", None), ("c", None)]),
            ("a is not true", &[("a", Some(FieldType::Bool))]),
            ("1 = 1", &[]),
        ];
        for (text, expected) in table {
            let expected: Vec<_> = expected.iter().map(|(name, hint)| ((*name).to_owned(), *hint)).collect();
            assert_eq!(hints(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_planned_is_refused_here_already() {
        for text in ["lower(a) = 'x'", "a in (select 1)", "a || b = 'x'", "a + ", ""] {
            assert!(columns_of(text).is_err(), "{text}");
        }
    }
}
