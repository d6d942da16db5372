//! The events of a file, as arrays in memory: an Arrow IPC file is mapped and its columns are used where they lie.
//!
//! Other formats are not read here: the loop is to cost nothing but folding.

use arrow_array::types::{Float64Type, TimestampMillisecondType, UInt64Type};
use arrow_array::{Array, RecordBatch, cast::AsArray};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::root_as_footer;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

/// Length of what ends an Arrow file: the footer's length and a magic word.
const TRAILER_SIZE: usize = 10;

/// The record batches of a mapped file.
pub struct Events {
    batches: Vec<RecordBatch>,
}

/// Columns of one batch; all of one length, without nulls.
#[derive(Clone, Copy)]
pub struct Columns<'a> {
    /// Event times in milliseconds since the Unix epoch.
    pub times_ms: &'a [i64],
    /// Keys.
    pub keys: &'a [u64],
    /// Values.
    pub values: &'a [f64],
}

impl Events {
    /// Maps the Arrow IPC file at `path` with all its pages.
    pub fn map(path: &Path) -> Result<Events, String> {
        let fail = |what: String| format!("{}: {what}", path.display());
        let buffer = map_file(path).map_err(|error| fail(error.to_string()))?;
        let batches = batches_of(&buffer).map_err(fail)?;
        for batch in &batches {
            check(batch).map_err(fail)?;
        }
        Ok(Events { batches })
    }

    /// How many events there are.
    pub fn count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The batches in order.
    pub fn iter(&self) -> impl Iterator<Item = Columns<'_>> {
        self.batches.iter().map(|batch| Columns {
            times_ms: batch.column(0).as_primitive::<TimestampMillisecondType>().values(),
            keys: batch.column(1).as_primitive::<UInt64Type>().values(),
            values: batch.column(2).as_primitive::<Float64Type>().values(),
        })
    }
}

/// The record batches in the bytes of an Arrow IPC file, without copies.
pub fn batches_of(buffer: &Buffer) -> Result<Vec<RecordBatch>, String> {
    let trailer_at = buffer.len().checked_sub(TRAILER_SIZE).ok_or("too short for an Arrow file")?;
    let trailer: [u8; TRAILER_SIZE] = buffer[trailer_at..].try_into().map_err(|_| "no trailer")?;
    let footer_size = read_footer_length(trailer).map_err(|error| error.to_string())?;
    let footer_at = trailer_at.checked_sub(footer_size).ok_or("the footer is longer than the file")?;
    let footer = root_as_footer(&buffer[footer_at..trailer_at]).map_err(|error| error.to_string())?;
    let schema = try_fb_to_schema(footer.schema().ok_or("no schema")?).map_err(|error| error.to_string())?;
    let decoder = FileDecoder::new(Arc::new(schema), footer.version());
    let mut batches = Vec::new();
    for block in footer.recordBatches().ok_or("no record batches")?.iter() {
        let size = block.bodyLength() as usize + block.metaDataLength() as usize;
        let data = buffer.slice_with_length(block.offset() as usize, size);
        batches.extend(decoder.read_record_batch(block, &data).map_err(|error| error.to_string())?);
    }
    Ok(batches)
}

/// Refuses what the loop does not read: other columns, nulls.
fn check(batch: &RecordBatch) -> Result<(), String> {
    let as_wanted = batch.num_columns() == 3
        && batch.column(0).as_primitive_opt::<TimestampMillisecondType>().is_some()
        && batch.column(1).as_primitive_opt::<UInt64Type>().is_some()
        && batch.column(2).as_primitive_opt::<Float64Type>().is_some()
        && batch.columns().iter().all(|column| column.null_count() == 0);
    if as_wanted { Ok(()) } else { Err("wanted ts timestamp(ms), key u64, value f64, without nulls".to_owned()) }
}

/// A file in memory, unmapped when the last array that uses it is gone.
struct Mapping {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping is private and never written.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}
impl std::panic::RefUnwindSafe for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `size` are those that mmap gave.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
    }
}

/// The bytes of the file at `path`, mapped and paged in.
pub fn map_file(path: &Path) -> std::io::Result<Buffer> {
    let file = File::open(path)?;
    let size = file.metadata()?.len() as usize;
    // SAFETY: a new private mapping of an open file; the result is checked.
    let start = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_POPULATE;
        libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ, flags, file.as_raw_fd(), 0)
    };
    if start == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    let start = NonNull::new(start.cast::<u8>()).expect("mmap never gives null");
    // SAFETY: `size` bytes from `start` stay mapped as long as the owner lives.
    Ok(unsafe { Buffer::from_custom_allocation(start, size, Arc::new(Mapping { start, size })) })
}
