//! From a verified batch to rows of open panes. The log is not here.

pub mod filter;
