//! What the programs of this crate share: the events, the answer in brief, the hand-written loop, the measuring.
//!
//! No other engine belongs here; each peer has a folder of its own.

pub mod child;
pub mod events;
pub mod facts;
pub mod fold;
pub mod log;
pub mod plan;
pub mod report;
pub mod rows;
pub mod slide;
pub mod summary;
pub mod table;
