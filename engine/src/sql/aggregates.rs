//! Lists of aggregates: `count(), mean(dep_delay), p99 = quantile(dep_delay, 0.99)`.
//!
//! The grammar is a name, a call with literal arguments and a comma, so it is read from `sqlparser`'s tokens and not
//! from its expressions. What the functions compute is not here.

use super::StreamColumns;
use super::error::{Clause, Position, SqlError, nearest};
use super::text::{excerpt, position, tokenize};
use corefold_aggregator::limits::AGGREGATES_MAX;
use corefold_aggregator::spec::{AggregateSpec, FieldType, Function, SpecError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use std::iter::Peekable;
use std::vec::IntoIter;

/// Most values that `top` lists.
pub const TOP_MAX: u32 = 1000;

/// Column names that every result has besides its groups and aggregates.
const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];

/// The functions, for errors.
const SIGNATURES: [&str; 12] = [
    "count()",
    "sum(x)",
    "min(x)",
    "max(x)",
    "mean(x)",
    "stddev(x)",
    "variance(x)",
    "first(x)",
    "last(x)",
    "quantile(x, q)",
    "distinct(x)",
    "top(x, k)",
];

/// What other systems call them.
const ALIASES: [(&str, &str); 14] = [
    ("avg", "mean"),
    ("average", "mean"),
    ("median", "quantile(x, 0.5)"),
    ("percentile", "quantile"),
    ("percentile_cont", "quantile"),
    ("std", "stddev"),
    ("stdev", "stddev"),
    ("stddev_samp", "stddev"),
    ("var", "variance"),
    ("var_samp", "variance"),
    ("nunique", "distinct"),
    ("uniq", "distinct"),
    ("approx_count_distinct", "distinct"),
    ("mode", "top(x, 1)"),
];

/// One aggregate as written, before the columns are known.
#[derive(Clone, PartialEq, Debug)]
pub struct ParsedAggregate {
    /// Output column.
    pub name: String,
    /// What is computed.
    pub function: Function,
    /// The column it reads; `None` only for `count()`.
    pub column: Option<String>,
    /// The type the function suggests for a column of unknown type: `F64` stands for any number.
    pub hint: Option<FieldType>,
    /// Where the function stands.
    pub at: Position,
    /// Where the column stands.
    pub column_at: Position,
}

/// Parses lists of aggregates, one after the other.
pub fn parse_aggregates(texts: &[String]) -> Result<Vec<ParsedAggregate>, SqlError> {
    let mut parsed = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let number = if texts.len() > 1 { index + 1 } else { 0 };
        Reader::new(text, number)?.list(&mut parsed)?;
    }
    match parsed.len() {
        0 => Err(SqlError::Aggregates(SpecError::NoAggregates)),
        1..=AGGREGATES_MAX => Ok(parsed),
        count => Err(SqlError::Aggregates(SpecError::TooMany { what: "aggregates", count, max: AGGREGATES_MAX })),
    }
}

/// Finds the columns and checks types and names. Names of `by` columns are the caller's to compare.
pub fn resolve(parsed: &[ParsedAggregate], columns: &StreamColumns<'_>) -> Result<Vec<AggregateSpec>, SqlError> {
    let mut specs: Vec<AggregateSpec> = Vec::with_capacity(parsed.len());
    for aggregate in parsed {
        if WINDOW_COLUMNS.contains(&aggregate.name.as_str()) || specs.iter().any(|spec| spec.name == aggregate.name) {
            return Err(SqlError::Spec { at: aggregate.at, error: SpecError::DuplicateName(aggregate.name.clone()) });
        }
        let field = aggregate.column.as_deref().map(|name| field_of(aggregate, name, columns)).transpose()?;
        specs.push(AggregateSpec { name: aggregate.name.clone(), function: aggregate.function, field });
    }
    Ok(specs)
}

fn field_of(aggregate: &ParsedAggregate, name: &str, columns: &StreamColumns<'_>) -> Result<usize, SqlError> {
    let Some(index) = columns.index(name) else {
        if name == columns.time {
            let what = format!("{}({name}): the time column cannot be aggregated", aggregate.function.name());
            return Err(SqlError::Type { at: aggregate.column_at, what });
        }
        return Err(columns.unknown(name, aggregate.column_at));
    };
    let kind = columns.fields[index].kind;
    let numeric = matches!(kind, FieldType::I64 | FieldType::F64);
    if takes_numbers_only(aggregate.function) && !numeric {
        let error = SpecError::WrongType {
            function: aggregate.function.name(),
            column: name.to_owned(),
            kind: kind.name(),
            hint: "; count, min, max, first, last, distinct and top do",
        };
        return Err(SqlError::Spec { at: aggregate.column_at, error });
    }
    Ok(index)
}

const fn takes_numbers_only(function: Function) -> bool {
    match function {
        Function::Sum | Function::Mean | Function::Stddev | Function::Variance | Function::Quantile(_) => true,
        Function::Count
        | Function::Min
        | Function::Max
        | Function::First
        | Function::Last
        | Function::Distinct
        | Function::Top(_) => false,
    }
}

/// `count`, `sum_x`, `p99_9_x`: the name of an output column that was given none.
fn default_name(function: Function, column: Option<&str>) -> String {
    let prefix = match function {
        Function::Quantile(q) => format!("p{}", percent(q).replace('.', "_")),
        other => other.name().to_owned(),
    };
    match column {
        Some(column) => format!("{prefix}_{column}"),
        None => prefix,
    }
}

/// `100 * q` in decimal, exactly: the digits of the shortest form of `q`, moved by two places.
fn percent(q: f64) -> String {
    let shortest = q.abs().to_string();
    let (whole, fraction) = shortest.split_once('.').unwrap_or((&shortest, ""));
    let fraction = format!("{fraction:0<2}");
    let (moved, rest) = fraction.split_at(2);
    let digits = format!("{whole}{moved}");
    let digits = digits.trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    if rest.is_empty() { digits.to_owned() } else { format!("{digits}.{rest}") }
}

/// The tokens of one text that are not space.
struct Reader {
    tokens: Peekable<IntoIter<TokenWithSpan>>,
    text: usize,
    end: Position,
}

/// One argument of a call.
enum Argument {
    Column(String),
    Star,
    Number(String),
}

impl Reader {
    fn new(text: &str, number: usize) -> Result<Reader, SqlError> {
        let tokens = tokenize(text, number)?;
        let end = tokens.last().map(|token| position(token.span.end, number)).unwrap_or_default();
        let tokens: Vec<TokenWithSpan> =
            tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect();
        Ok(Reader { tokens: tokens.into_iter().peekable(), text: number, end })
    }

    fn list(mut self, parsed: &mut Vec<ParsedAggregate>) -> Result<(), SqlError> {
        if self.tokens.peek().is_none() {
            return Err(SqlError::Empty(Clause::Aggregates.name()));
        }
        loop {
            parsed.push(self.aggregate()?);
            match self.tokens.next() {
                None => return Ok(()),
                Some(token) if token.token == Token::Comma => {}
                Some(token) => {
                    return Err(self.unexpected(Some(&token), "a comma between aggregates"));
                }
            }
        }
    }

    /// `[name =] function(arguments) [AS name]`
    fn aggregate(&mut self) -> Result<ParsedAggregate, SqlError> {
        let mut at = self.at();
        let mut word = self.word("an aggregate, such as count()")?;
        let mut name = None;
        if self.take(&Token::Eq) {
            name = Some(word.value);
            at = self.at();
            word = self.word("an aggregate, such as count()")?;
        }
        let (function, column, column_at) = self.call(at, &word)?;
        if matches!(self.peek(), Some(Token::Word(word)) if is_keyword(word, "as")) {
            let as_at = self.at();
            self.tokens.next();
            let alias = self.word("a name")?.value;
            if name.is_some() {
                return Err(SqlError::Syntax {
                    at: as_at,
                    what: "the aggregate is named twice, by = and by AS".to_owned(),
                });
            }
            name = Some(alias);
        }
        if let Some(Token::Word(word)) = self.peek()
            && (is_keyword(word, "over") || is_keyword(word, "filter") || is_keyword(word, "within"))
        {
            let what = format!("{} is", word.value.to_uppercase());
            return Err(self.unsupported(what, "; a view has one window and one filter"));
        }
        let name = match name {
            Some(name) if name.is_empty() => {
                return Err(SqlError::Syntax { at, what: "the name of an aggregate is empty".to_owned() });
            }
            Some(name) => name,
            None => default_name(function, column.as_deref()),
        };
        let hint = takes_numbers_only(function).then_some(FieldType::F64);
        Ok(ParsedAggregate { name, function, column, hint, at, column_at })
    }

    fn call(&mut self, at: Position, word: &Word) -> Result<(Function, Option<String>, Position), SqlError> {
        let name = word.value.to_lowercase();
        if self.peek() != Some(&Token::LParen) {
            let what =
                format!("`{}` is no aggregate; write a function of a column, such as mean({0})", excerpt(&word.value));
            return Err(SqlError::Syntax { at, what });
        }
        let Some(signature) = SIGNATURES.iter().find(|signature| signature.split('(').next() == Some(&name)) else {
            return Err(unknown_function(at, &word.value));
        };
        self.tokens.next();
        let column_at = self.at();
        let arguments = self.arguments(&name)?;
        let count = arguments.len();
        let wrong_arity = || {
            let takes = if name == "count" { "count(), count(*) or count(x)" } else { *signature };
            let given =
                if count == 1 { "1 argument was given".to_owned() } else { format!("{count} arguments were given") };
            SqlError::Argument { at, what: format!("{name}: expected {takes}, but {given}") }
        };
        let mut arguments = arguments.into_iter();
        let column = match (arguments.next(), name.as_str()) {
            (None | Some((Argument::Star, _)), "count") => None,
            (Some((Argument::Column(column), _)), _) => Some(column),
            (None, _) => return Err(wrong_arity()),
            (Some((Argument::Star, at)), _) => {
                return Err(SqlError::Argument { at, what: format!("{name}(*): only count takes `*`; name a column") });
            }
            (Some((Argument::Number(number), at)), _) => {
                let what = format!("{name}: expected a column, found the number {}", excerpt(&number));
                return Err(SqlError::Argument { at, what });
            }
        };
        let parameter = arguments.next();
        if arguments.next().is_some() {
            return Err(wrong_arity());
        }
        let function = match (name.as_str(), parameter) {
            ("quantile", Some((argument, at))) => Function::Quantile(quantile_rank(&argument, at)?),
            ("top", Some((argument, at))) => Function::Top(top_count(&argument, at)?),
            ("count", None) => Function::Count,
            ("sum", None) => Function::Sum,
            ("min", None) => Function::Min,
            ("max", None) => Function::Max,
            ("mean", None) => Function::Mean,
            ("stddev", None) => Function::Stddev,
            ("variance", None) => Function::Variance,
            ("first", None) => Function::First,
            ("last", None) => Function::Last,
            ("distinct", None) => Function::Distinct,
            _ => return Err(wrong_arity()),
        };
        Ok((function, column, column_at))
    }

    /// What stands between the parentheses, of which the left one is taken.
    fn arguments(&mut self, name: &str) -> Result<Vec<(Argument, Position)>, SqlError> {
        let mut arguments = Vec::new();
        if self.take(&Token::RParen) {
            return Ok(arguments);
        }
        loop {
            let at = self.at();
            let argument = match self.tokens.next() {
                Some(TokenWithSpan { token: Token::Mul, .. }) => Argument::Star,
                Some(TokenWithSpan { token: Token::Number(number, _), .. }) => Argument::Number(number),
                Some(TokenWithSpan { token: Token::Minus, .. }) => match self.tokens.next() {
                    Some(TokenWithSpan { token: Token::Number(number, _), .. }) => {
                        Argument::Number(format!("-{number}"))
                    }
                    other => return Err(self.unexpected(other.as_ref(), "a number after `-`")),
                },
                Some(TokenWithSpan { token: Token::Word(word), .. }) => {
                    if is_keyword(&word, "distinct") && matches!(self.peek(), Some(Token::Word(_))) {
                        let what = format!("{name}(DISTINCT …): use distinct(x), which counts distinct values");
                        return Err(SqlError::Argument { at, what });
                    }
                    Argument::Column(word.value)
                }
                other => return Err(self.unexpected(other.as_ref(), "a column")),
            };
            arguments.push((argument, at));
            match self.peek() {
                Some(Token::Comma) => {}
                Some(Token::RParen) => {}
                None => return Err(self.unexpected(None, "`)`")),
                Some(_) => {
                    return Err(self.unsupported(
                        "expressions in aggregates are".to_owned(),
                        "; name a column, and quote it if it holds more than letters, digits and _",
                    ));
                }
            }
            if self.take(&Token::RParen) {
                return Ok(arguments);
            }
            self.tokens.next();
        }
    }

    fn word(&mut self, expected: &str) -> Result<Word, SqlError> {
        match self.tokens.next() {
            Some(TokenWithSpan { token: Token::Word(word), .. }) => Ok(word),
            other => Err(self.unexpected(other.as_ref(), expected)),
        }
    }

    fn peek(&mut self) -> Option<&Token> {
        self.tokens.peek().map(|token| &token.token)
    }

    fn take(&mut self, wanted: &Token) -> bool {
        self.tokens.next_if(|token| token.token == *wanted).is_some()
    }

    fn at(&mut self) -> Position {
        let (text, end) = (self.text, self.end);
        self.tokens.peek().map_or(end, |token| position(token.span.start, text))
    }

    fn unexpected(&self, found: Option<&TokenWithSpan>, expected: &str) -> SqlError {
        match found {
            Some(token) => SqlError::Syntax {
                at: position(token.span.start, self.text),
                what: format!("expected {expected}, found `{}`", excerpt(&token.token.to_string())),
            },
            None => SqlError::Syntax { at: self.end, what: format!("expected {expected}, found the end") },
        }
    }

    fn unsupported(&mut self, what: String, hint: &'static str) -> SqlError {
        SqlError::Unsupported { at: self.at(), what, clause: Clause::Aggregates, hint }
    }
}

fn is_keyword(word: &Word, keyword: &str) -> bool {
    word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword)
}

fn unknown_function(at: Position, name: &str) -> SqlError {
    let lower = name.to_lowercase();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == lower).map(|(_, function)| *function);
    let known = SIGNATURES.iter().filter_map(|signature| signature.split('(').next());
    SqlError::UnknownFunction {
        at,
        name: excerpt(name),
        nearest: alias.or_else(|| nearest(name, known)).map(str::to_owned),
        functions: &SIGNATURES,
    }
}

fn quantile_rank(argument: &Argument, at: Position) -> Result<f64, SqlError> {
    if let Argument::Number(text) = argument {
        match text.parse::<f64>() {
            // Adding zero makes -0 plain zero.
            Ok(q) if (0.0..=1.0).contains(&q) => return Ok(q + 0.0),
            _ => {}
        }
    }
    let what = format!("quantile: expected a number from 0 to 1, such as 0.99, found {}", shown(argument));
    Err(SqlError::Argument { at, what })
}

fn top_count(argument: &Argument, at: Position) -> Result<u32, SqlError> {
    if let Argument::Number(text) = argument {
        match text.parse::<u32>() {
            Ok(count) if (1..=TOP_MAX).contains(&count) => return Ok(count),
            _ => {}
        }
    }
    let what = format!("top: expected a whole number from 1 to {TOP_MAX}, found {}", shown(argument));
    Err(SqlError::Argument { at, what })
}

fn shown(argument: &Argument) -> String {
    match argument {
        Argument::Column(name) => format!("`{}`", excerpt(name)),
        Argument::Star => "`*`".to_owned(),
        Argument::Number(number) => excerpt(number),
    }
}

#[cfg(test)]
mod tests;
