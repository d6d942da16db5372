//! From text to tokens and syntax trees, by `sqlparser`, within limits that keep every later recursion shallow.
//!
//! What the trees mean is not decided here.

use super::error::{Clause, Position, SqlError};
use sqlparser::ast::{BinaryOperator, Expr, Spanned, Value};
use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// Longest accepted text, in bytes: room for an `IN` list of a hundred thousand names.
pub(super) const TEXT_SIZE_MAX: usize = 1 << 20;

/// Most operators, words and parentheses. Literals and commas are free. A chain `a + b + …` becomes a tree as deep as
/// it is long without any nesting in the text, so nesting alone does not bound the stack.
pub(super) const OPERATORS_MAX: usize = 4096;

/// Deepest nesting that the parser follows.
pub(super) const NESTING_MAX: usize = 64;

/// Words that start a construct of their own, so that a column of that name needs quotes.
const RESERVED: [Keyword; 8] = [
    Keyword::CASE,
    Keyword::CAST,
    Keyword::EXISTS,
    Keyword::EXTRACT,
    Keyword::INTERVAL,
    Keyword::NOT,
    Keyword::SUBSTRING,
    Keyword::TRIM,
];

/// Standard expressions, without the extensions of any product: identifiers are quoted by `"` or `` ` ``.
#[derive(Debug)]
struct Expressions;

impl Dialect for Expressions {
    fn is_delimited_identifier_start(&self, character: char) -> bool {
        character == '"' || character == '`'
    }

    fn is_identifier_start(&self, character: char) -> bool {
        character.is_alphabetic() || character == '_'
    }

    fn is_identifier_part(&self, character: char) -> bool {
        character.is_alphanumeric() || character == '_' || character == '$'
    }

    fn is_reserved_for_identifier(&self, word: Keyword) -> bool {
        RESERVED.contains(&word)
    }
}

/// The tokens of `text`.
pub(super) fn tokenize(text: &str, text_number: usize) -> Result<Vec<TokenWithSpan>, SqlError> {
    if text.len() > TEXT_SIZE_MAX {
        return Err(SqlError::TooLarge { what: format!("has {} bytes", text.len()), max: TEXT_SIZE_MAX });
    }
    let tokens = Tokenizer::new(&Expressions, text).tokenize_with_location().map_err(|error| SqlError::Syntax {
        at: position(error.location, text_number),
        what: lower_first(&error.message),
    })?;
    let operators = tokens.iter().filter(|token| !is_free(&token.token)).count();
    if operators > OPERATORS_MAX {
        let what = format!("has {operators} operators, words and parentheses");
        return Err(SqlError::TooLarge { what, max: OPERATORS_MAX });
    }
    Ok(tokens)
}

fn is_free(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_))
}

/// The single expression that `text` is.
pub(super) fn parse(text: &str) -> Result<Expr, SqlError> {
    let tokens = tokenize(text, 0)?;
    if tokens.iter().all(|token| matches!(token.token, Token::Whitespace(_) | Token::EOF)) {
        return Err(SqlError::Empty(Clause::Where.name()));
    }
    let end = tokens.last().map_or(Location { line: 1, column: 1 }, |token| token.span.end);
    let reserved = tokens.iter().find_map(|token| match &token.token {
        Token::Word(word) if word.keyword != Keyword::NOT && RESERVED.contains(&word.keyword) => {
            Some(word.value.clone())
        }
        _ => None,
    });
    let mut parser = Parser::new(&Expressions).with_recursion_limit(NESTING_MAX).with_tokens_with_locations(tokens);
    let expression = parser.parse_expr().map_err(|error| syntax(error, end, reserved))?;
    let next = parser.next_token();
    if next.token == Token::EOF {
        return Ok(expression);
    }
    let what = format!("unexpected `{}` after the end of the expression", excerpt(&next.token.to_string()));
    Err(SqlError::Syntax { at: position(next.span.start, 0), what })
}

/// The parser's message, with its place taken out of the end of the sentence. Without one it is about the `end`.
/// A `reserved` word in the text may be the reason.
fn syntax(error: ParserError, end: Location, reserved: Option<String>) -> SqlError {
    let message = match error {
        ParserError::RecursionLimitExceeded => {
            return SqlError::TooLarge { what: "is nested too deeply".to_owned(), max: NESTING_MAX };
        }
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
    };
    let (what, location) = match message.rsplit_once(" at Line: ") {
        Some((what, place)) => {
            let (line, column) = place.split_once(", Column: ").unwrap_or((place, ""));
            let number = |text: &str| text.trim().parse().unwrap_or(1);
            (what, Location { line: number(line), column: number(column) })
        }
        None => (message.as_str(), end),
    };
    let mut what = what.replace("EOF", "the end of the expression");
    if let Some(word) = reserved {
        what.push_str(&format!("; if {word} is a column, write it in double quotes"));
    }
    SqlError::Syntax { at: position(location, 0), what: lower_first(&what) }
}

pub(super) fn position(location: Location, text: usize) -> Position {
    Position { text, line: location.line.max(1), column: location.column.max(1) }
}

fn lower_first(sentence: &str) -> String {
    let mut characters = sentence.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

/// At most 40 characters of `text`.
pub(super) fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Where `expression` starts, found without walking all of it.
pub(super) fn position_of(expression: &Expr) -> Position {
    let mut at = expression;
    loop {
        at = match at {
            Expr::BinaryOp { left: inner, .. }
            | Expr::Nested(inner)
            | Expr::UnaryOp { expr: inner, .. }
            | Expr::Between { expr: inner, .. }
            | Expr::InList { expr: inner, .. }
            | Expr::Like { expr: inner, .. }
            | Expr::ILike { expr: inner, .. }
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner) => inner,
            leaf => return position(leaf.span().start, 0),
        }
    }
}

/// The operands of a chain `a op b op c`, however long.
pub(super) fn chain<'e>(expression: &'e Expr, wanted: &BinaryOperator) -> Vec<&'e Expr> {
    let mut operands = Vec::new();
    let mut rest = expression;
    while let Expr::BinaryOp { left, op, right } = rest
        && op == wanted
    {
        operands.push(&**right);
        rest = left;
    }
    operands.push(rest);
    operands.reverse();
    operands
}

/// `expression` without the parentheses around it.
pub(super) fn bare(mut expression: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expression {
        expression = inner;
    }
    expression
}

/// The error for syntax that filters do not have.
pub(super) fn unsupported(expression: &Expr) -> SqlError {
    let function = |name: &str| format!("functions such as {}() are", excerpt(&name.to_lowercase()));
    let (what, hint) = match expression {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => ("sub-queries are".to_owned(), ""),
        Expr::Function(call) => (function(&call.name.to_string()), ""),
        Expr::Substring { .. } => (function("substring"), "; LIKE compares parts of strings"),
        Expr::Trim { .. } => (function("trim"), ""),
        Expr::Ceil { .. } => (function("ceil"), ""),
        Expr::Floor { .. } => (function("floor"), ""),
        Expr::Position { .. } => (function("position"), "; LIKE compares parts of strings"),
        Expr::Overlay { .. } => (function("overlay"), ""),
        Expr::Extract { .. } => (function("extract"), ""),
        Expr::Convert { .. } => (function("convert"), ""),
        Expr::Case { .. } => ("CASE is".to_owned(), "; combine conditions with AND and OR"),
        Expr::Cast { .. } => ("CAST is".to_owned(), "; declare the column's type instead"),
        Expr::Interval(_) => ("INTERVAL is".to_owned(), "; compare with a time, such as '2013-01-01T00:00:00Z'"),
        Expr::AtTimeZone { .. } => ("AT TIME ZONE is".to_owned(), "; write the offset in the time"),
        Expr::SimilarTo { .. } => ("SIMILAR TO is".to_owned(), "; use LIKE"),
        Expr::RLike { .. } => ("REGEXP is".to_owned(), "; use LIKE"),
        Expr::AnyOp { .. } | Expr::AllOp { .. } => ("ANY and ALL are".to_owned(), "; use IN"),
        Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => {
            ("IS DISTINCT FROM is".to_owned(), "; combine = with IS NULL")
        }
        Expr::Tuple(_) => ("rows such as (a, b) are".to_owned(), ""),
        Expr::Array(_) => ("arrays are".to_owned(), ""),
        Expr::Collate { .. } => ("COLLATE is".to_owned(), "; strings compare bytewise"),
        Expr::CompoundIdentifier(_) | Expr::CompoundFieldAccess { .. } => {
            ("dotted names and subscripts are".to_owned(), "; quote a column name that holds them, as in \"a.b\"")
        }
        Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => ("`*` is".to_owned(), ""),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(_) => ("placeholders are".to_owned(), "; write the value"),
            _ => ("literals of this kind are".to_owned(), "; write strings in single quotes"),
        },
        Expr::TypedString(literal) => {
            (format!("{} literals are", excerpt(&literal.data_type.to_string())), "; TIMESTAMP and DATE are")
        }
        Expr::BinaryOp { op, .. } => (format!("the operator {} is", excerpt(&op.to_string())), ""),
        Expr::UnaryOp { op, .. } => (format!("the operator {} is", excerpt(&op.to_string())), ""),
        _ => ("this syntax is".to_owned(), ""),
    };
    let at = match expression {
        Expr::InSubquery { subquery, .. } => position(subquery.span().start, 0),
        _ => position_of(expression),
    };
    SqlError::Unsupported { at, what, clause: Clause::Where, hint }
}
