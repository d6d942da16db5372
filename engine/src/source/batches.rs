//! Chunks of typed files: record batches of any size in, chunks of a batch's rows out.
//!
//! A chunk ends after a fixed number of rows from its start, however the file groups them, so a run that resumes
//! cuts as the first run did. Positions are rows. Reading record batches is not here.

use std::sync::Arc;

use arrow_array::RecordBatch;

use super::error::{Place, SourceError};
use super::{Chunk, Lane, LaneReader, Payload};

/// Hands out the record batches of one file in order.
pub(super) trait BatchSource: Send {
    /// Goes forward by at most `rows` without decoding where that is possible; returns how many it left out.
    fn skip(&mut self, rows: u64) -> Result<u64, SourceError>;

    /// The next record batch.
    fn next(&mut self) -> Result<Option<RecordBatch>, SourceError>;

    /// Bytes read so far, as stored.
    fn bytes_read(&self) -> u64;
}

/// A lane of Arrow or Parquet.
pub(super) struct BatchReader {
    lane: Arc<Lane>,
    source: Box<dyn BatchSource>,
    pending: Option<RecordBatch>,
    /// Rows handed out.
    position: u64,
    rows_max: usize,
    bytes_total: Option<u64>,
}

impl BatchReader {
    /// Starts at row `position`.
    pub(super) fn open(
        lane: Lane,
        mut source: Box<dyn BatchSource>,
        position: u64,
        rows_max: usize,
        bytes_total: Option<u64>,
    ) -> Result<BatchReader, SourceError> {
        let mut left = position - source.skip(position)?;
        let mut pending = None;
        while left > 0 {
            let Some(batch) = source.next()? else {
                return Err(SourceError::Position { path: lane.name, position });
            };
            let rows = batch.num_rows() as u64;
            if rows > left {
                pending = Some(batch.slice(left as usize, (rows - left) as usize));
            }
            left = left.saturating_sub(rows);
        }
        Ok(BatchReader { lane: Arc::new(lane), source, pending, position, rows_max, bytes_total })
    }
}

impl LaneReader for BatchReader {
    fn next(&mut self, _spare: Vec<u8>) -> Result<Option<Chunk>, SourceError> {
        let start = Place::Row(self.position + 1);
        let mut batches = Vec::new();
        let mut rows = 0;
        while rows < self.rows_max {
            let batch = match self.pending.take() {
                Some(batch) => batch,
                None => match self.source.next()? {
                    Some(batch) => batch,
                    None => break,
                },
            };
            let room = self.rows_max - rows;
            let taken = if batch.num_rows() > room {
                self.pending = Some(batch.slice(room, batch.num_rows() - room));
                batch.slice(0, room)
            } else {
                batch
            };
            rows += taken.num_rows();
            if taken.num_rows() > 0 {
                batches.push(taken);
            }
        }
        if rows == 0 {
            return Ok(None);
        }
        self.position += rows as u64;
        let payload = Payload::Arrow(batches);
        Ok(Some(Chunk { lane: self.lane.clone(), start, position_end: self.position, payload }))
    }

    fn bytes_read(&self) -> u64 {
        self.source.bytes_read()
    }

    fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }
}
