//! What a result is.
//!
//! Time and panes, aggregates and sketches, partial aggregates, merge, frontier, sliding, finalize and the
//! coordinator's state machine. Pure: no I/O, no clock, no threads, no `unsafe`. How events reach a pane is
//! not here; that is the crate `corefold-shards`.

#![forbid(unsafe_code)]

pub mod aggregate;
pub mod coordinator;
pub mod front;
pub mod groups;
pub mod key;
pub mod key_values;
pub mod layout;
pub mod limits;
pub mod pane;
pub mod pane_log;
pub mod partial;
pub mod partial_check;
pub mod partial_ref;
pub mod result;
pub mod rows;
pub mod sketch;
pub mod slide;
pub mod spec;
pub mod stored_key;
pub mod time;
pub mod vectors;
pub mod view;
pub mod window_rows;
pub mod words;
