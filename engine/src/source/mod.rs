//! Reading inputs: files, globs and pipes of CSV, NDJSON, Arrow IPC and Parquet, as columns of typed events.
//!
//! [`input::resolve`] finds the inputs, [`infer::infer`] the types, [`open`] gives a [`LaneReader`] that cuts an
//! input into chunks, and a [`parser::Parser`], on any thread, turns a chunk into the columns of one batch. Which
//! lane is read next and where batches go is not here.

mod arrays;
mod arrow;
mod arrow_stream;
mod batches;
mod block_memory;
mod columnar;
mod csv;
pub mod error;
pub mod infer;
pub mod input;
mod json;
mod ndjson;
mod parquet;
pub mod parser;
pub mod plan;
mod schema;
mod text_chunks;
pub mod times;
mod tokens;
mod values;

use std::sync::Arc;

use arrow_array::RecordBatch;

use self::csv::CsvLayout;
use self::error::{Place, SourceError};
use self::input::{Format, Input};
use self::plan::ReadPlan;
use self::schema::ArrowLayout;
use self::text_chunks::{Limits, Records, TextChunks, TextReader};

pub use self::arrow_stream::ArrowStream;
pub use self::block_memory::BlockMemory;

/// `[+-]digits` as an integer of 64 bits.
pub fn read_i64(text: &[u8]) -> Option<i64> {
    values::parse_i64(text).ok()
}

/// A decimal number, `inf` or `nan`, correctly rounded.
pub fn read_f64(text: &[u8]) -> Option<f64> {
    values::parse_f64(text).ok()
}

/// `true` or `false` in any case, `1` or `0`.
pub fn read_bool(text: &[u8]) -> Option<bool> {
    values::parse_bool(text).ok()
}

/// One input, being cut into chunks in its order.
pub trait LaneReader: Send {
    /// The next chunk, or `None` at the end. `spare` is memory of an earlier chunk, to be used again.
    ///
    /// After an error the reader is of no use.
    fn next(&mut self, spare: Vec<u8>) -> Result<Option<Chunk>, SourceError>;

    /// Bytes of the input read so far, as stored (compressed if it is).
    fn bytes_read(&self) -> u64;

    /// Size of the input in the same bytes, if it is known.
    fn bytes_total(&self) -> Option<u64>;
}

/// A piece of one lane: the rows of one batch, not parsed yet.
#[derive(Clone, Debug)]
pub struct Chunk {
    lane: Arc<Lane>,
    start: Place,
    /// Where a reader opened anew goes on behind this chunk.
    pub position_end: u64,
    /// Its content.
    pub payload: Payload,
}

impl Chunk {
    /// How messages call the input.
    pub fn name(&self) -> &str {
        &self.lane.name
    }

    /// Lines of JSON from anywhere; the first one has the number `line`. `name` is what messages call it.
    pub fn of_json_lines(name: &str, line: u64, text: Vec<u8>) -> Chunk {
        let lane = Arc::new(Lane { name: name.to_owned(), layout: Layout::Ndjson });
        Chunk { lane, start: Place::Line(line), position_end: 0, payload: Payload::Text(text) }
    }

    /// Gives the chunk's memory back, for [`LaneReader::next`].
    pub fn into_spare(self) -> Vec<u8> {
        match self.payload {
            Payload::Text(bytes) => bytes,
            Payload::Arrow(_) => Vec::new(),
        }
    }
}

/// Content of a chunk.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Whole records of a text format.
    Text(Vec<u8>),
    /// Typed columns, at most a batch's rows in all.
    Arrow(Vec<RecordBatch>),
}

/// What the chunks of one input share.
#[derive(Debug)]
struct Lane {
    name: String,
    layout: Layout,
}

/// How an input's records map to the needed columns.
#[derive(Debug)]
enum Layout {
    Csv(CsvLayout),
    Ndjson,
    Arrow(ArrowLayout),
}

/// Opens an input at its start (`position` 0) or where a chunk of an earlier reading ended.
///
/// Text positions are bytes of the uncompressed text: a plain file is read from there, a compressed one or a pipe
/// is read up to there first. Parquet and Arrow positions say a row and are to be taken from chunks only.
pub fn open(input: &Input, plan: &Arc<ReadPlan>, position: u64) -> Result<Box<dyn LaneReader>, SourceError> {
    open_with(input, plan, position, &BlockMemory::default())
}

/// As [`open`], for one of several inputs that share the memory of what is read.
pub fn open_with(
    input: &Input,
    plan: &Arc<ReadPlan>,
    position: u64,
    memory: &BlockMemory,
) -> Result<Box<dyn LaneReader>, SourceError> {
    match input.format {
        Format::Csv | Format::Ndjson => {
            let limits = Limits::new(plan.rows_max());
            let (lane, mut chunks) = open_text(input, plan, input.open_bytes()?, limits)?;
            if position > 0 {
                chunks.resume(position)?;
            }
            Ok(Box::new(TextReader::new(lane, chunks, input)))
        }
        Format::Arrow => arrow::open(input, plan, position, memory),
        Format::Parquet => parquet::open(input, plan, position),
    }
}

/// Starts reading a text input and, in a CSV file, takes its header.
fn open_text(
    input: &Input,
    plan: &ReadPlan,
    bytes: input::Bytes,
    limits: Limits,
) -> Result<(Arc<Lane>, TextChunks), SourceError> {
    let name = &input.name;
    if input.format == Format::Ndjson {
        let chunks = TextChunks::start(name, bytes, Records::Lines, limits)?;
        return Ok((Arc::new(Lane { name: name.clone(), layout: Layout::Ndjson }), chunks));
    }
    let delimiter = plan.delimiter.unwrap_or_else(|| input.default_delimiter());
    if !delimiter.is_ascii() || matches!(delimiter, b'"' | b'\n' | b'\r') {
        return Err(SourceError::Delimiter { delimiter: char::from(delimiter) });
    }
    let mut chunks = TextChunks::start(name, bytes, Records::Quoted(delimiter), limits)?;
    let mut header = Vec::new();
    loop {
        if !chunks.next(1, &mut header)? {
            return Err(SourceError::NoHeader { path: name.clone() });
        }
        if !header.trim_ascii().is_empty() {
            break;
        }
    }
    let (needed, _) = plan.columns();
    let layout = Layout::Csv(CsvLayout::new(name, &header, delimiter, &needed)?);
    Ok((Arc::new(Lane { name: name.clone(), layout }), chunks))
}
