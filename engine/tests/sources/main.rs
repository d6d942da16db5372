//! Inputs of every format through the public way: resolve, infer, open, cut, parse.
//!
//! `kit` reads an input to plain rows and makes one table in every form; the others are tests.

mod forms;
mod kit;
mod text;
mod typed;
mod types;
