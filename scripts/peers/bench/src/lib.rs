//! What the programs of this crate share: the events, the answer in brief, and the hand-written loop.
//!
//! No other engine belongs here; each peer has a folder of its own.

pub mod events;
pub mod fold;
pub mod log;
pub mod report;
pub mod rows;
pub mod slide;
pub mod summary;
