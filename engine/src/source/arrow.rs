//! Arrow IPC, as a file with a footer or as a stream. A file that comes through a pipe or compressed is read as the
//! stream it contains.
//!
//! What the arrays mean is not here.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::{Block, Message, MessageHeader, MetadataVersion, root_as_footer, root_as_message};
use arrow_schema::{ArrowError, SchemaRef};

use super::batches::{BatchReader, BatchSource};
use super::block_memory::BlockMemory;
use super::error::SourceError;
use super::input::{Bytes, Compression, Input, Meter};
use super::plan::ReadPlan;
use super::schema::ArrowLayout;
use super::{Lane, LaneReader, Layout};

const MAGIC: &[u8; 6] = b"ARROW1";

/// Footer length and magic at the end of a file.
const TRAILER_SIZE: u64 = 10;

/// Opens an Arrow lane at row `position`.
pub(super) fn open(
    input: &Input,
    plan: &ReadPlan,
    position: u64,
    memory: &BlockMemory,
) -> Result<Box<dyn LaneReader>, SourceError> {
    let path = &input.name;
    let (layout, source): (_, Box<dyn BatchSource>) = match file_with_footer(input)? {
        Some(file) => {
            let file = IpcFile::open(path, file, memory)?;
            let layout = ArrowLayout::new(path, &file.schema, plan)?;
            let source = file.read_columns(layout.projection.clone())?;
            (layout, Box::new(source))
        }
        None => {
            let head = StreamHead::read(path, input.open_bytes()?)?;
            let layout = ArrowLayout::new(path, &head.schema, plan)?;
            let source = head.read_columns(layout.projection.clone());
            (layout, Box::new(source))
        }
    };
    let lane = Lane { name: path.clone(), layout: Layout::Arrow(layout) };
    Ok(Box::new(BatchReader::open(lane, source, position, plan.rows_max(), input.bytes_total())?))
}

/// The schema of an Arrow input, which can be opened afterwards.
pub(super) fn schema(input: &Input) -> Result<SchemaRef, SourceError> {
    match file_with_footer(input)? {
        Some(file) => Ok(IpcFile::open(&input.name, file, &BlockMemory::default())?.schema),
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
    decoder: Decoder,
    dictionaries: Vec<Block>,
    blocks: Vec<Block>,
    memory: BlockMemory,
    next: usize,
    bytes_read: u64,
}

impl IpcFile {
    fn open(path: &str, file: File, memory: &BlockMemory) -> Result<IpcFile, SourceError> {
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
        let decoder = Decoder::new(path, schema.clone(), footer.version());
        let (path, memory) = (path.to_owned(), memory.clone());
        Ok(IpcFile { path, file, schema, decoder, dictionaries, blocks, memory, next: 0, bytes_read: 0 })
    }

    /// Reads the dictionaries and prepares to read these columns.
    fn read_columns(mut self, projection: Vec<usize>) -> Result<IpcFile, SourceError> {
        self.decoder = self.decoder.project(projection);
        for block in &self.dictionaries {
            let bytes = read_block(&self.path, &self.file, block, &self.memory)?;
            if self.decoder.decode(block, &bytes)?.is_some() {
                return Err(corrupt(&self.path, "a dictionary block holds rows"));
            }
            self.bytes_read += bytes.len() as u64;
        }
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

fn read_block(path: &str, file: &File, block: &Block, memory: &BlockMemory) -> Result<Buffer, SourceError> {
    // `lies_within` has checked the numbers; the size is bounded by the file's.
    let size = block.metaDataLength() as usize + block.bodyLength() as usize;
    let mut bytes = memory.take(size).map_err(|error| corrupt(path, error.to_string()))?;
    // Not into zeros, which `read_exact_at` would ask for: they would be written for nothing.
    let mut file = file;
    file.seek(SeekFrom::Start(block.offset() as u64)).map_err(|error| explain_io(path, error))?;
    file.take(size as u64).read_to_end(&mut bytes).map_err(|error| explain_io(path, error))?;
    if bytes.len() < size {
        return Err(explain_io(path, io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(memory.share(bytes))
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
            let bytes = read_block(&self.path, &self.file, block, &self.memory)?;
            self.bytes_read = (block.offset() as u64) + bytes.len() as u64;
            let batch = self.decoder.decode(block, &bytes)?;
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
pub(super) struct StreamHead {
    pub(super) schema: SchemaRef,
    messages: Messages,
}

impl StreamHead {
    fn read(path: &str, bytes: Bytes) -> Result<StreamHead, SourceError> {
        StreamHead::read_limited(path, bytes, usize::MAX)
    }

    /// The same of a stream whose messages have at most `size_max` bytes each, packed and unpacked.
    pub(super) fn read_limited(path: &str, bytes: Bytes, size_max: usize) -> Result<StreamHead, SourceError> {
        let meter = bytes.meter.clone();
        let bytes = BufReader::with_capacity(64 << 10, bytes);
        let (path_owned, prefix) = (path.to_owned(), Vec::new());
        let mut messages = Messages { path: path_owned, bytes, meter, prefix, ended: false, size_max };
        messages.skip_magic()?;
        let none = || corrupt(path, "it does not start with a schema message");
        let (_, message) = messages.next()?.ok_or_else(none)?;
        let message = root_as_message(message_of(&message)).map_err(|_| none())?;
        let schema = message.header_as_schema().ok_or_else(none)?;
        let schema = Arc::new(try_fb_to_schema(schema).map_err(|error| explain(path, error))?);
        Ok(StreamHead { schema, messages })
    }

    pub(super) fn read_columns(self, projection: Vec<usize>) -> IpcStream {
        // V1 stands for "not known": each message says its version itself.
        let decoder = Decoder::new(&self.messages.path, self.schema, MetadataVersion::V1).project(projection);
        IpcStream { messages: self.messages, decoder }
    }
}

/// The messages of a stream, each with its body in one aligned buffer.
struct Messages {
    path: String,
    bytes: BufReader<Bytes>,
    meter: Meter,
    /// Bytes read before it was clear that they begin a message.
    prefix: Vec<u8>,
    /// The end mark was read; in a file other bytes follow.
    ended: bool,
    /// Most bytes of one message.
    size_max: usize,
}

/// Grown by at most this before the bytes have come: a damaged length must not cost its size in memory.
const GROWTH_MAX: usize = 64 << 20;

/// Longest metadata of one message.
const METADATA_SIZE_MAX: usize = 256 << 20;

impl Messages {
    /// A file starts with a magic word and zeros up to some alignment; a stream follows.
    fn skip_magic(&mut self) -> Result<(), SourceError> {
        self.prefix = self.take(8)?;
        if self.prefix.starts_with(MAGIC) {
            for _ in 0..16 {
                self.prefix.clear();
                self.prefix = self.take(8)?;
                if self.prefix != [0; 8] {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Up to `count` bytes; fewer only at the end.
    fn take(&mut self, count: usize) -> Result<Vec<u8>, SourceError> {
        let mut taken = std::mem::take(&mut self.prefix);
        let rest = taken.split_off(count.min(taken.len()));
        self.prefix = rest;
        let missing = (count - taken.len()) as u64;
        let read = (&mut self.bytes).take(missing).read_to_end(&mut taken);
        read.map_err(|error| explain_io(&self.path, error))?;
        Ok(taken)
    }

    fn next(&mut self) -> Result<Option<(Block, Buffer)>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        let path = self.path.clone();
        let cut = corrupt(&path, "the data ends in the middle of a message");
        let mut head = self.take(4)?;
        if head == [0xff; 4] {
            head.extend(self.take(4)?);
        }
        let length = match head[..] {
            [] => {
                self.ended = true;
                return Ok(None);
            }
            [a, b, c, d] | [_, _, _, _, a, b, c, d] => i32::from_le_bytes([a, b, c, d]),
            _ => return Err(cut),
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= METADATA_SIZE_MAX.min(self.size_max));
        let length = length.ok_or_else(|| corrupt(&path, "a message has an impossible length"))?;
        if length == 0 {
            self.ended = true;
            return Ok(None);
        }
        let metadata = self.take(length)?;
        if metadata.len() < length {
            return Err(cut);
        }
        let message = root_as_message(&metadata).map_err(|error| corrupt(&path, format!("bad message: {error}")))?;
        let body = usize::try_from(message.bodyLength()).map_err(|_| corrupt(&path, "a body has a negative length"))?;
        head.extend_from_slice(&metadata);
        let start = head.len();
        let total = start.checked_add(body).ok_or_else(|| corrupt(&path, "a body has an impossible length"))?;
        if total > self.size_max {
            return Err(corrupt(&path, format!("a message of {total} bytes; at most {} are taken", self.size_max)));
        }
        let mut bytes = MutableBuffer::from(head);
        while bytes.len() < total {
            let filled = bytes.len();
            let target = total.min(filled + filled.clamp(1 << 20, GROWTH_MAX));
            bytes.try_resize(target, 0).map_err(|error| corrupt(&path, error.to_string()))?;
            let read = self.bytes.read_exact(&mut bytes.as_slice_mut()[filled..]);
            read.map_err(|error| explain_io(&path, error))?;
        }
        Ok(Some((Block::new(0, start as i32, body as i64), bytes.into())))
    }
}

pub(super) struct IpcStream {
    messages: Messages,
    decoder: Decoder,
}

impl BatchSource for IpcStream {
    fn skip(&mut self, _rows: u64) -> Result<u64, SourceError> {
        Ok(0)
    }

    fn next(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        while let Some((block, bytes)) = self.messages.next()? {
            if self.messages.size_max < usize::MAX {
                check_unpacked(&self.messages.path, &block, &bytes, self.messages.size_max)?;
            }
            let batch = self.decoder.decode(&block, &bytes)?;
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }

    fn bytes_read(&self) -> u64 {
        self.messages.meter.get()
    }
}

/// That a message whose buffers are packed takes no more than `size_max` bytes unpacked, by what it says itself: a
/// decoder would take memory for as much as that.
fn check_unpacked(path: &str, block: &Block, bytes: &[u8], size_max: usize) -> Result<(), SourceError> {
    let message = root_as_message(message_of(bytes)).map_err(|error| corrupt(path, format!("bad message: {error}")))?;
    let batch = match message.header_type() {
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()),
        _ => message.header_as_record_batch(),
    };
    let Some(batch) = batch.filter(|batch| batch.compression().is_some()) else { return Ok(()) };
    let body = bytes.get(block.metaDataLength() as usize..).unwrap_or_default();
    let mut total = 0_u64;
    for buffer in batch.buffers().into_iter().flatten() {
        let said = usize::try_from(buffer.offset()).ok().and_then(|at| body.get(at..)?.first_chunk::<8>());
        // -1: this one is not packed.
        let said = said.map_or(0, |said| i64::from_le_bytes(*said)).max(0);
        total = total.saturating_add(said.cast_unsigned());
    }
    if total > size_max as u64 {
        return Err(corrupt(path, format!("a message of {total} bytes unpacked; at most {size_max} are taken")));
    }
    Ok(())
}

/// Turns messages into record batches, remembering dictionaries.
struct Decoder {
    path: String,
    inner: FileDecoder,
}

impl Decoder {
    fn new(path: &str, schema: SchemaRef, version: MetadataVersion) -> Decoder {
        Decoder { path: path.to_owned(), inner: FileDecoder::new(schema, version) }
    }

    fn project(self, projection: Vec<usize>) -> Decoder {
        Decoder { path: self.path, inner: self.inner.with_projection(projection) }
    }

    /// The rows of a message, or `None` when it is a dictionary.
    fn decode(&mut self, block: &Block, bytes: &Buffer) -> Result<Option<RecordBatch>, SourceError> {
        let bad = |what: &str| corrupt(&self.path, what);
        let message = root_as_message(message_of(bytes)).map_err(|error| bad(&format!("bad message: {error}")))?;
        let body_size = bytes.len() - block.metaDataLength() as usize;
        if block.metaDataLength() % 8 != 0 || !buffers_are_sound(&message, body_size) {
            return Err(bad("a message names bytes outside its body or not at a multiple of 8"));
        }
        if message.header_type() == MessageHeader::DictionaryBatch {
            self.inner.read_dictionary(block, bytes).map_err(|error| explain(&self.path, error))?;
            return Ok(None);
        }
        let batch = self.inner.read_record_batch(block, bytes).map_err(|error| explain(&self.path, error))?;
        batch.ok_or_else(|| bad("a message is empty")).map(Some)
    }
}

/// Whether a message is complete and its buffers are aligned and end inside its body, as the format demands; the
/// decoder takes that for granted.
fn buffers_are_sound(message: &Message, body_size: usize) -> bool {
    let batch = match message.header_type() {
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()),
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        // Nothing else is decoded.
        _ => return true,
    };
    let Some(batch) = batch else { return false };
    let (Some(buffers), Some(nodes)) = (batch.buffers(), batch.nodes()) else { return false };
    let counted = |count: i64| (0..=i64::from(i32::MAX)).contains(&count);
    counted(batch.length())
        && nodes.iter().all(|node| counted(node.length()) && counted(node.null_count()))
        && buffers.iter().all(|buffer| {
            let end = buffer.offset().checked_add(buffer.length());
            buffer.offset() >= 0
                && buffer.offset() % 8 == 0
                && buffer.length() >= 0
                && end.is_some_and(|end| end as u64 <= body_size as u64)
        })
}
