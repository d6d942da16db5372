//! Which rows of a batch a view takes: a typed expression, evaluated column by column.
//!
//! [`plan`] holds the tree and its meaning, [`eval`] the loops over columns. No text is parsed here; the engine
//! turns SQL into the tree.

pub mod eval;
pub mod like;
pub mod number;
pub mod plan;
pub mod sets;

pub use eval::FilterScratch;
pub use plan::{Filter, FilterError};

#[cfg(test)]
mod oracle;
