//! Arrow IPC, as a file with a footer or as a stream. A file that comes through a pipe or compressed is read as the
//! stream it contains.
//!
//! What the arrays mean is not here.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, StreamReader, read_footer_length};
use arrow_ipc::{Block, root_as_footer, root_as_message};
use arrow_schema::{ArrowError, SchemaRef};

use super::batches::{BatchReader, BatchSource};
use super::error::SourceError;
use super::input::{Bytes, Compression, Input, Meter};
use super::plan::ReadPlan;
use super::schema::ArrowLayout;
use super::{Lane, LaneReader, Layout};

const MAGIC: &[u8; 6] = b"ARROW1";

/// Footer length and magic at the end of a file.
const TRAILER_SIZE: u64 = 10;

/// Opens an Arrow lane at row `position`.
pub(super) fn open(input: &Input, plan: &ReadPlan, position: u64) -> Result<Box<dyn LaneReader>, SourceError> {
    let path = &input.name;
    let (layout, source): (_, Box<dyn BatchSource>) = match file_with_footer(input)? {
        Some(file) => {
            let file = IpcFile::open(path, file)?;
            let layout = ArrowLayout::new(path, &file.schema, plan)?;
            let source = file.read_columns(layout.projection.clone())?;
            (layout, Box::new(source))
        }
        None => {
            let head = StreamHead::read(path, input.open_bytes()?)?;
            let layout = ArrowLayout::new(path, &head.schema, plan)?;
            let source = head.read_columns(layout.projection.clone())?;
            (layout, Box::new(source))
        }
    };
    let lane = Lane { name: path.clone(), layout: Layout::Arrow(layout) };
    Ok(Box::new(BatchReader::open(lane, source, position, plan.rows_max(), input.bytes_total())?))
}

/// The schema of an Arrow input, which can be opened afterwards.
pub(super) fn schema(input: &Input) -> Result<SchemaRef, SourceError> {
    match file_with_footer(input)? {
        Some(file) => Ok(IpcFile::open(&input.name, file)?.schema),
        None => Ok(StreamHead::read(&input.name, input.peek_bytes()?)?.schema),
    }
}

/// The file, if it can be read at any place and has a footer.
fn file_with_footer(input: &Input) -> Result<Option<File>, SourceError> {
    if input.is_pipe() || input.compression != Compression::None {
        return Ok(None);
    }
    let file = input.open_file()?;
    let mut head = [0; MAGIC.len()];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) => Ok((head == *MAGIC).then_some(file)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(SourceError::io(&input.name, "read", error)),
    }
}

fn corrupt(path: &str, what: impl Into<String>) -> SourceError {
    SourceError::Corrupt { path: path.to_owned(), format: "Arrow IPC", what: what.into() }
}

/// What an error of the Arrow library means: bad data, unless a read below it failed.
fn explain(path: &str, error: ArrowError) -> SourceError {
    match error {
        ArrowError::IoError(_, error) => match error.downcast::<SourceError>() {
            Ok(error) => error,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                corrupt(path, "the data ends in the middle of a message")
            }
            Err(error) => SourceError::io(path, "read", error),
        },
        error => corrupt(path, error.to_string()),
    }
}

fn explain_io(path: &str, error: io::Error) -> SourceError {
    explain(path, ArrowError::from(error))
}

/// A file with a footer whose blocks all lie inside it.
struct IpcFile {
    path: String,
    file: File,
    schema: SchemaRef,
    decoder: FileDecoder,
    dictionaries: Vec<Block>,
    blocks: Vec<Block>,
    next: usize,
    bytes_read: u64,
}

impl IpcFile {
    fn open(path: &str, file: File) -> Result<IpcFile, SourceError> {
        let size = file.metadata().map_err(|error| SourceError::io(path, "read", error))?.len();
        let mut trailer = [0; TRAILER_SIZE as usize];
        let trailer_start = size.checked_sub(TRAILER_SIZE).ok_or_else(|| corrupt(path, "it has no footer"))?;
        file.read_exact_at(&mut trailer, trailer_start).map_err(|error| explain_io(path, error))?;
        let footer_size = read_footer_length(trailer).map_err(|_| {
            corrupt(path, "it does not end with a footer; it was probably not written or copied in full")
        })?;
        let footer_start = trailer_start
            .checked_sub(footer_size as u64)
            .ok_or_else(|| corrupt(path, "its footer is longer than the file"))?;
        let mut footer = vec![0; footer_size];
        file.read_exact_at(&mut footer, footer_start).map_err(|error| explain_io(path, error))?;
        let footer = root_as_footer(&footer).map_err(|error| corrupt(path, format!("bad footer: {error}")))?;

        let schema = footer.schema().ok_or_else(|| corrupt(path, "the footer has no schema"))?;
        if !schema.endianness().equals_to_target_endianness() {
            return Err(corrupt(path, "its byte order is not this machine's"));
        }
        let schema = Arc::new(try_fb_to_schema(schema).map_err(|error| explain(path, error))?);
        let checked = |blocks: Vec<Block>| {
            if blocks.iter().all(|block| lies_within(block, footer_start)) {
                Ok(blocks)
            } else {
                Err(corrupt(path, "the footer names blocks outside the file"))
            }
        };
        let dictionaries =
            checked(footer.dictionaries().map(|blocks| blocks.iter().copied().collect()).unwrap_or_default())?;
        let blocks =
            checked(footer.recordBatches().map(|blocks| blocks.iter().copied().collect()).unwrap_or_default())?;
        let decoder = FileDecoder::new(schema.clone(), footer.version());
        Ok(IpcFile { path: path.to_owned(), file, schema, decoder, dictionaries, blocks, next: 0, bytes_read: 0 })
    }

    /// Reads the dictionaries and prepares to read these columns.
    fn read_columns(mut self, projection: Vec<usize>) -> Result<IpcFile, SourceError> {
        let mut decoder = self.decoder.with_projection(projection);
        for block in &self.dictionaries {
            let bytes = read_block(&self.path, &self.file, block)?;
            let message =
                root_as_message(message_of(&bytes)).map_err(|error| corrupt(&self.path, error.to_string()))?;
            if message.header_as_dictionary_batch().is_none() {
                return Err(corrupt(&self.path, "a dictionary block holds no dictionary"));
            }
            decoder.read_dictionary(block, &bytes).map_err(|error| explain(&self.path, error))?;
            self.bytes_read += bytes.len() as u64;
        }
        self.decoder = decoder;
        Ok(self)
    }
}

/// Whether a block is well formed and ends before `end`.
fn lies_within(block: &Block, end: u64) -> bool {
    let (Ok(offset), Ok(metadata), Ok(body)) =
        (u64::try_from(block.offset()), u64::try_from(block.metaDataLength()), u64::try_from(block.bodyLength()))
    else {
        return false;
    };
    metadata >= 8 && offset.checked_add(metadata).and_then(|at| at.checked_add(body)).is_some_and(|at| at <= end)
}

fn read_block(path: &str, file: &File, block: &Block) -> Result<Buffer, SourceError> {
    // `lies_within` has checked the numbers; the size is bounded by the file's.
    let size = block.metaDataLength() as usize + block.bodyLength() as usize;
    let mut bytes = MutableBuffer::try_from_len_zeroed(size).map_err(|error| corrupt(path, error.to_string()))?;
    file.read_exact_at(bytes.as_slice_mut(), block.offset() as u64).map_err(|error| explain_io(path, error))?;
    Ok(bytes.into())
}

/// A message behind its length, with or without the continuation marker before it.
fn message_of(block: &[u8]) -> &[u8] {
    let start = if block.starts_with(&[0xff; 4]) { 8 } else { 4 };
    block.get(start..).unwrap_or_default()
}

impl BatchSource for IpcFile {
    fn skip(&mut self, rows: u64) -> Result<u64, SourceError> {
        let mut skipped = 0;
        while let Some(block) = self.blocks.get(self.next) {
            let mut head = vec![0; block.metaDataLength() as usize];
            self.file.read_exact_at(&mut head, block.offset() as u64).map_err(|error| explain_io(&self.path, error))?;
            let message = root_as_message(message_of(&head)).map_err(|error| corrupt(&self.path, error.to_string()))?;
            let length = message.header_as_record_batch().map_or(0, |batch| batch.length().max(0) as u64);
            if skipped + length > rows {
                break;
            }
            skipped += length;
            self.next += 1;
        }
        Ok(skipped)
    }

    fn next(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        while let Some(block) = self.blocks.get(self.next) {
            self.next += 1;
            let bytes = read_block(&self.path, &self.file, block)?;
            self.bytes_read = (block.offset() as u64) + bytes.len() as u64;
            let batch = self.decoder.read_record_batch(block, &bytes).map_err(|error| explain(&self.path, error))?;
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }

    fn bytes_read(&self) -> u64 {
        self.bytes_read
    }
}

/// A stream of which the schema has been read.
struct StreamHead {
    path: String,
    schema: SchemaRef,
    /// The schema message as read, for the reader behind.
    message: Vec<u8>,
    bytes: Bytes,
}

impl StreamHead {
    fn read(path: &str, mut bytes: Bytes) -> Result<StreamHead, SourceError> {
        let mut message = Vec::new();
        read_more(path, &mut bytes, &mut message, 8)?;
        if message.starts_with(MAGIC) {
            // A file: magic and two bytes of padding, then a stream with an end mark.
            message.clear();
            read_more(path, &mut bytes, &mut message, 8)?;
        }
        let Some(head) = message.first_chunk::<8>() else {
            return Err(corrupt(path, "it is empty or too short"));
        };
        let [a, b, c, d, e, f, g, h] = *head;
        // Before the continuation marker was introduced, the length came first; four bytes of message are read then.
        let (length, have) = if [a, b, c, d] == [0xff; 4] {
            (i32::from_le_bytes([e, f, g, h]), 0)
        } else {
            (i32::from_le_bytes([a, b, c, d]), 4)
        };
        let length = u64::try_from(length)
            .ok()
            .filter(|length| *length >= 4)
            .ok_or_else(|| corrupt(path, "no schema message"))?;
        read_more(path, &mut bytes, &mut message, length - have)?;
        let parsed = root_as_message(message_of(&message))
            .map_err(|_| corrupt(path, "it does not start with a schema message"))?;
        let schema =
            parsed.header_as_schema().ok_or_else(|| corrupt(path, "it does not start with a schema message"))?;
        let schema = Arc::new(try_fb_to_schema(schema).map_err(|error| explain(path, error))?);
        Ok(StreamHead { path: path.to_owned(), schema, message, bytes })
    }

    fn read_columns(self, projection: Vec<usize>) -> Result<IpcStream, SourceError> {
        let meter = self.bytes.meter.clone();
        let whole: Box<dyn Read + Send> = Box::new(Cursor::new(self.message).chain(self.bytes));
        let stream = StreamReader::try_new(BufReader::with_capacity(64 << 10, whole), Some(projection))
            .map_err(|error| explain(&self.path, error))?;
        Ok(IpcStream { path: self.path, stream, meter })
    }
}

/// Appends up to `count` bytes; fewer only at the end.
fn read_more(path: &str, bytes: &mut Bytes, out: &mut Vec<u8>, count: u64) -> Result<(), SourceError> {
    Read::take(bytes, count).read_to_end(out).map(|_| ()).map_err(|error| explain_io(path, error))
}

struct IpcStream {
    path: String,
    stream: StreamReader<BufReader<Box<dyn Read + Send>>>,
    meter: Meter,
}

impl BatchSource for IpcStream {
    fn skip(&mut self, _rows: u64) -> Result<u64, SourceError> {
        Ok(0)
    }

    fn next(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        self.stream.next().transpose().map_err(|error| explain(&self.path, error))
    }

    fn bytes_read(&self) -> u64 {
        self.meter.get()
    }
}
