//! From inputs to shards: one thread reads, some parse, one deals.
//!
//! The reader cuts inputs into chunks and numbers them; parsers turn chunks into batches, in any order; the dealer
//! takes the batches in the reader's order, stamps them and hands them to shards. All that decides results (the
//! stamp) happens in the dealer, in input order, so the number of parsers never shows. What a file format looks
//! like is in [`crate::source`].

pub mod dealer;
pub mod lanes;
pub mod parsers;
pub mod places;
pub mod reader;
pub mod stamps;

use crate::source::error::SourceError;
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::AlignedBytes;

/// How batches are spread over shards. Decides cost, never results.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Routing {
    /// Each batch to the next shard.
    #[default]
    RoundRobin,
    /// Each batch to the shard with the shortest queue.
    Load,
    /// Each batch split by the hash of the group key.
    Hash,
}

/// A piece of work from the reader.
#[derive(Debug)]
pub struct Work {
    /// Place in the reader's order, from 0 without gaps.
    pub ticket: u64,
    /// Index of the lane.
    pub lane: usize,
    /// What to do.
    pub task: Task,
}

/// What a parser is to do, or to pass on.
#[derive(Debug)]
pub enum Task {
    /// Parse this chunk.
    Parse(crate::source::Chunk),
    /// A batch that was durable before this start.
    Known,
    /// The lane has ended.
    End,
}

/// A piece of work done.
#[derive(Debug)]
pub struct Parsed {
    /// As given.
    pub ticket: u64,
    /// As given.
    pub lane: usize,
    /// What became of it.
    pub result: Result<ParsedTask, SourceError>,
}

/// What the dealer gets.
#[derive(Debug)]
pub enum ParsedTask {
    /// A batch, encoded but not stamped.
    Batch(ParsedBatch),
    /// As given.
    Known,
    /// As given.
    End,
}

/// A batch, encoded in one or more parts and not stamped.
#[derive(Debug)]
pub struct ParsedBatch {
    /// Encoded parts; one unless the work was begun with routing by hash.
    pub parts: Vec<AlignedBytes>,
    /// Rows in all parts.
    pub rows: u64,
    /// Rows skipped as bad input.
    pub rejected: u32,
    /// Highest event time; `None` without rows.
    pub time_max: Option<EventTime>,
    /// Where the source goes on behind the batch.
    pub position_end: u64,
}
