//! The two small languages users write: filters (`--where`) and aggregates (`--agg`).
//!
//! Text goes in, typed trees and specs come out. Nothing is evaluated here; rows are the shards'.

mod aggregates;
mod error;
mod filter;
mod text;
mod uses;

pub use aggregates::{ParsedAggregate, parse_aggregates, resolve};
pub use error::{Clause, Position, SqlError};
pub use filter::plan_filter;
pub use uses::{ColumnUse, columns_of};

use corefold_aggregator::spec::Field;
use error::nearest;

/// The names an expression may use.
#[derive(Clone, Copy, Debug)]
pub struct StreamColumns<'a> {
    /// Name of the time column.
    pub time: &'a str,
    /// The other columns; indices into them are what plans refer to.
    pub fields: &'a [Field],
}

impl StreamColumns<'_> {
    fn index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    fn unknown(&self, name: &str, at: Position) -> SqlError {
        let names = || std::iter::once(self.time).chain(self.fields.iter().map(|field| field.name.as_str()));
        SqlError::UnknownColumn {
            at,
            name: name.to_owned(),
            nearest: nearest(name, names()).map(str::to_owned),
            columns: names().map(str::to_owned).collect(),
        }
    }
}

/// What reads times in literals: microseconds since the epoch, or `None`.
pub type ParseTime = fn(&str) -> Option<i64>;
