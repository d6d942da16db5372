//! An Arrow IPC stream from a connection: each record batch as it comes, with limits on what it may cost.
//!
//! Files, whose chunks must not depend on how the file groups its rows, are read by `arrow` and `batches`.

use std::io::Read;
use std::sync::Arc;

use arrow_array::RecordBatch;

use super::arrow::{IpcStream, StreamHead};
use super::batches::BatchSource;
use super::error::{Place, SourceError};
use super::input::{Compression, Format, Input};
use super::plan::ReadPlan;
use super::schema::ArrowLayout;
use super::{Chunk, Lane, Layout, Payload};

/// See the module.
pub struct ArrowStream {
    lane: Arc<Lane>,
    source: IpcStream,
    pending: Option<RecordBatch>,
    position: u64,
    rows_max: usize,
}

impl ArrowStream {
    /// Reads the schema. `name` is what messages call the stream; no message of it may have more than `size_max` bytes.
    pub fn open(
        name: &str,
        reader: Box<dyn Read + Send>,
        plan: &ReadPlan,
        size_max: usize,
    ) -> Result<ArrowStream, SourceError> {
        let bytes = Input::from_reader(name, Format::Arrow, Compression::None, reader).open_bytes()?;
        let head = StreamHead::read_limited(name, bytes, size_max)?;
        let layout = ArrowLayout::new(name, &head.schema, plan)?;
        let source = head.read_columns(layout.projection.clone());
        let lane = Arc::new(Lane { name: name.to_owned(), layout: Layout::Arrow(layout) });
        Ok(ArrowStream { lane, source, pending: None, position: 0, rows_max: plan.rows_max() })
    }

    /// The rows of the next record batch, or as many of them as a batch may have; `None` at the end of the stream.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, SourceError> {
        loop {
            let batch = match self.pending.take() {
                Some(batch) => batch,
                None => match self.source.next()? {
                    Some(batch) => batch,
                    None => return Ok(None),
                },
            };
            let rows = batch.num_rows().min(self.rows_max);
            if rows == 0 {
                continue;
            }
            if rows < batch.num_rows() {
                self.pending = Some(batch.slice(rows, batch.num_rows() - rows));
            }
            let start = Place::Row(self.position + 1);
            self.position += rows as u64;
            let payload = Payload::Arrow(vec![batch.slice(0, rows)]);
            return Ok(Some(Chunk { lane: Arc::clone(&self.lane), start, position_end: self.position, payload }));
        }
    }
}
