//! What can be wrong with an expression a user wrote, and where in it.
//!
//! Errors of single rows do not exist: what has no value is null. Exit codes are not here either.

use corefold_aggregator::spec::SpecError;
use corefold_shards::fold::filter::FilterError;
use corefold_shards::fold::filter::like::LikeError;
use std::fmt;

/// A place in the text of an expression. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Position {
    /// Which of several texts, from 1; 0 when there is only one.
    pub text: usize,
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text > 0 {
            write!(f, "expression {}, ", self.text)?;
        }
        if self.line > 1 {
            write!(f, "line {}, ", self.line)?;
        }
        write!(f, "column {}", self.column)
    }
}

/// Why an expression is refused.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum SqlError {
    /// Not an expression at all.
    #[error("{at}: {what}")]
    Syntax {
        /// Where.
        at: Position,
        /// What was found and what was expected.
        what: String,
    },
    /// SQL that Corefold does not know.
    #[error("{at}: {what} not supported in {clause}{hint}", clause = clause.name())]
    Unsupported {
        /// Where.
        at: Position,
        /// The construct, with its verb: `sub-queries are`.
        what: String,
        /// Where it was used.
        clause: Clause,
        /// What to do instead, starting with a separator, or empty.
        hint: &'static str,
    },
    /// A name that the stream does not have.
    #[error("{at}: unknown column `{name}`{}; the stream has {}", did_you_mean(nearest.as_deref()), columns.join(", "))]
    UnknownColumn {
        /// Where.
        at: Position,
        /// The name as written.
        name: String,
        /// The column most like it.
        nearest: Option<String>,
        /// All columns, the time column first.
        columns: Vec<String>,
    },
    /// Operands that do not go together.
    #[error("{at}: {what}")]
    Type {
        /// Where.
        at: Position,
        /// Both sides with their types, and what to do.
        what: String,
    },
    /// A literal without a value.
    #[error("{at}: {what}")]
    Literal {
        /// Where.
        at: Position,
        /// The literal and what was expected.
        what: String,
    },
    /// A pattern of `LIKE`.
    #[error("{at}: {error}")]
    Like {
        /// Where.
        at: Position,
        /// What is wrong with it.
        error: LikeError,
    },
    /// More than the planner takes.
    #[error("{0}")]
    Filter(#[from] FilterError),
    /// Too long or too deep to be parsed.
    #[error("the expression {what}; the limit is {max}")]
    TooLarge {
        /// What it has too much of, with the amount.
        what: String,
        /// The limit.
        max: usize,
    },
    /// No such aggregate function.
    #[error("{at}: unknown aggregate `{name}`{}; there are {}", did_you_mean(nearest.as_deref()), functions.join(", "))]
    UnknownFunction {
        /// Where.
        at: Position,
        /// The name as written.
        name: String,
        /// What was probably meant.
        nearest: Option<String>,
        /// All functions, with their arguments.
        functions: &'static [&'static str],
    },
    /// Arguments that a function does not take.
    #[error("{at}: {what}")]
    Argument {
        /// Where.
        at: Position,
        /// The function, what it takes and what it got.
        what: String,
    },
    /// An aggregate that its column or its neighbours forbid.
    #[error("{at}: {error}")]
    Spec {
        /// Where.
        at: Position,
        /// The reason.
        error: SpecError,
    },
    /// An expression without anything in it.
    #[error("the {0} expression is empty")]
    Empty(&'static str),
    /// A list of aggregates that is empty or too long as a whole.
    #[error(transparent)]
    Aggregates(SpecError),
}

impl SqlError {
    /// Where the error is, when it has a place.
    pub fn position(&self) -> Option<Position> {
        match self {
            SqlError::Syntax { at, .. }
            | SqlError::Unsupported { at, .. }
            | SqlError::UnknownColumn { at, .. }
            | SqlError::Type { at, .. }
            | SqlError::Literal { at, .. }
            | SqlError::Like { at, .. }
            | SqlError::UnknownFunction { at, .. }
            | SqlError::Argument { at, .. }
            | SqlError::Spec { at, .. } => Some(*at),
            SqlError::Filter(_) | SqlError::TooLarge { .. } | SqlError::Empty(_) | SqlError::Aggregates(_) => None,
        }
    }
}

/// The two places where expressions are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clause {
    /// `--where`, or `where` in config.
    Where,
    /// `--agg`, or `aggregates` in config.
    Aggregates,
}

impl Clause {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Clause::Where => "--where",
            Clause::Aggregates => "--agg",
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default()
}

/// The candidate most like `name`, if one is like it at all. Case counts less than any other difference.
pub(super) fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| {
            let length = wanted.chars().count().max(candidate.chars().count());
            *distance <= (length / 3).max(1) && *distance < length
        })
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        let columns = ["dep_delay", "arr_delay", "origin", "x"];
        for (name, expected) in [
            ("dep_dely", Some("dep_delay")),
            ("Dep_Delay", Some("dep_delay")),
            ("orgin", Some("origin")),
            ("X", Some("x")),
            ("y", None),
            ("carrier", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, columns), expected, "{name}");
        }
    }

    #[test]
    fn positions_say_no_more_than_needed() {
        let at = |text, line, column| Position { text, line, column }.to_string();
        assert_eq!(at(0, 1, 7), "column 7");
        assert_eq!(at(0, 2, 7), "line 2, column 7");
        assert_eq!(at(3, 1, 7), "expression 3, column 7");
    }
}
