//! Late rows in a file of their own, in input order whatever shard they come from.
//!
//! Rows are kept encoded in memory up to a limit; past it, sorted runs go to an unnamed temporary file and are
//! merged at the end. What is late is not decided here.

use super::error::ExportError;
use super::target::Target;
use super::{ExportSummary, Exporter, Format, check_shape, open};
pub use corefold_shards::late::LateRows;

use corefold_aggregator::result::{OutputColumn, OutputField, OutputSchema, ResultBatch};
use corefold_aggregator::spec::{OutputType, StreamSpec};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory for late rows before sorted runs go to disk, unless told otherwise.
pub const LATE_MEMORY_MAX: usize = 256 << 20;

/// Bytes read ahead from a run; less when there are very many runs.
const READ_SIZE_MAX: usize = 1 << 20;

/// Bytes read ahead from a run at least.
const READ_SIZE_MIN: usize = 4 << 10;

/// Rows handed to the exporter at once, and the bytes of text that end a batch early.
const BATCH_ROWS: usize = 8192;
const BATCH_SIZE: usize = 8 << 20;

/// `lane u32, row u64, payload length u32` before every encoded row.
const HEAD_SIZE: usize = 16;

/// Columns of a late output: the time, then the stream's fields.
pub fn late_schema(stream: &StreamSpec) -> OutputSchema {
    let mut columns = vec![OutputField { name: stream.time.clone(), kind: OutputType::Time, nullable: false }];
    columns.extend(stream.fields.iter().map(|field| OutputField {
        name: field.name.clone(),
        kind: field.kind.into(),
        nullable: true,
    }));
    OutputSchema { columns, by: 0..0 }
}

/// Collects late rows and writes them sorted by lane and row number. A row that is reported twice is written once.
pub struct LateWriter {
    exporter: Box<dyn Exporter>,
    schema: OutputSchema,
    directory: PathBuf,
    memory_max: usize,
    /// Encoded rows, one after the other, and where each is.
    encoded: Vec<u8>,
    index: Vec<Entry>,
    spill: Option<Spill>,
    rows: u64,
    prepared: bool,
    /// Holds the values of a [`LateRows`] while it is checked.
    scratch: ResultBatch,
}

#[derive(Clone, Copy)]
struct Entry {
    key: (u32, u64),
    start: usize,
    end: usize,
}

struct Spill {
    file: File,
    size: u64,
    /// Start and end of each sorted run in the file.
    runs: Vec<(u64, u64)>,
}

impl LateWriter {
    /// Opens the output; rows past `memory_max` bytes are kept aside on the output's disk.
    pub fn open(
        target: Target,
        format: Format,
        stream: &StreamSpec,
        memory_max: usize,
    ) -> Result<LateWriter, ExportError> {
        let schema = late_schema(stream);
        let directory = target.spill_directory();
        let exporter = open(target, format, &schema)?;
        Ok(LateWriter {
            exporter,
            schema,
            directory,
            memory_max,
            encoded: Vec::new(),
            index: Vec::new(),
            spill: None,
            rows: 0,
            prepared: false,
            scratch: ResultBatch::default(),
        })
    }

    /// Rows added so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds rows; the order of calls does not matter.
    pub fn add(&mut self, rows: LateRows) -> Result<(), ExportError> {
        let count = rows.row_numbers.len();
        self.scratch.rows = count;
        self.scratch.columns.clear();
        self.scratch.columns.push(OutputColumn::Time(rows.times));
        self.scratch.columns.extend(rows.columns);
        check_shape(&self.schema, &self.scratch)?;
        for (row, &number) in rows.row_numbers.iter().enumerate() {
            let start = self.encoded.len();
            for column in &self.scratch.columns {
                encode(column, row, &mut self.encoded);
            }
            let end = self.encoded.len();
            if u32::try_from(end - start).is_err() {
                return Err(ExportError::Shape { reason: String::from("a late row is longer than 4 GiB") });
            }
            self.index.push(Entry { key: (rows.lane, number), start, end });
            self.rows += 1;
            if self.encoded.len() + self.index.len() * size_of::<Entry>() >= self.memory_max {
                self.spill_run()?;
            }
        }
        Ok(())
    }

    /// Writes all rows in order; like [`Exporter::prepare`], it gives the file no name yet.
    pub fn prepare(&mut self) -> Result<(), ExportError> {
        if std::mem::replace(&mut self.prepared, true) {
            return Ok(());
        }
        self.index.sort_unstable_by_key(|entry| entry.key);
        let mut runs = vec![Run::Memory { encoded: &self.encoded, index: &self.index, next: 0 }];
        if let Some(spill) = &self.spill {
            let ahead = (self.memory_max / spill.runs.len().max(1)).clamp(READ_SIZE_MIN, READ_SIZE_MAX);
            for &(start, end) in &spill.runs {
                runs.push(Run::File {
                    file: &spill.file,
                    next: start,
                    end,
                    ahead,
                    buffer: Vec::new(),
                    at: 0,
                    row: None,
                });
            }
        }
        let read_error = spill_error(&self.directory, "read back");
        let mut rows = RowsOut::new(&self.schema, self.exporter.as_mut());
        merge(runs, &read_error, &mut rows)?;
        rows.pass_on()?;
        self.exporter.prepare()
    }

    /// Prepares what is not, and completes the output.
    pub fn finish(mut self) -> Result<ExportSummary, ExportError> {
        self.prepare()?;
        self.exporter.finish()
    }

    fn spill_run(&mut self) -> Result<(), ExportError> {
        let write_error = spill_error(&self.directory, "written");
        self.index.sort_unstable_by_key(|entry| entry.key);
        let spill = match &mut self.spill {
            Some(spill) => spill,
            None => {
                let file = unnamed_file(&self.directory).map_err(&write_error)?;
                self.spill.insert(Spill { file, size: 0, runs: Vec::new() })
            }
        };
        let start = spill.size;
        let mut out = BufWriter::with_capacity(256 << 10, &spill.file);
        for entry in &self.index {
            let row = &self.encoded[entry.start..entry.end];
            let mut head = [0; HEAD_SIZE];
            head[..4].copy_from_slice(&entry.key.0.to_le_bytes());
            head[4..12].copy_from_slice(&entry.key.1.to_le_bytes());
            head[12..].copy_from_slice(&(row.len() as u32).to_le_bytes());
            out.write_all(&head).and_then(|()| out.write_all(row)).map_err(&write_error)?;
            spill.size += (HEAD_SIZE + row.len()) as u64;
        }
        out.flush().map_err(&write_error)?;
        spill.runs.push((start, spill.size));
        self.encoded.clear();
        self.index.clear();
        Ok(())
    }
}

/// Appends one value: for nullable columns a byte that says whether there is one, then the value.
fn encode(column: &OutputColumn, row: usize, out: &mut Vec<u8>) {
    match column {
        OutputColumn::Time(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        OutputColumn::I64 { values, valid } => {
            out.push(u8::from(valid[row]));
            out.extend_from_slice(&values[row].to_le_bytes());
        }
        OutputColumn::F64 { values, valid } => {
            out.push(u8::from(valid[row]));
            out.extend_from_slice(&values[row].to_le_bytes());
        }
        OutputColumn::Bool { values, valid } => out.extend_from_slice(&[u8::from(valid[row]), u8::from(values[row])]),
        OutputColumn::String { offsets, bytes, valid } => {
            let text = &bytes[offsets[row] as usize..offsets[row + 1] as usize];
            out.push(u8::from(valid[row]));
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text);
        }
    }
}

/// The mirror image of [`encode`]; `None` if `from` is too short or the column would overflow.
fn decode(column: &mut OutputColumn, from: &mut &[u8]) -> Option<()> {
    match column {
        OutputColumn::Time(values) => values.push(i64::from_le_bytes(take(from)?)),
        OutputColumn::I64 { values, valid } => {
            valid.push(take::<1>(from)? != [0]);
            values.push(i64::from_le_bytes(take(from)?));
        }
        OutputColumn::F64 { values, valid } => {
            valid.push(take::<1>(from)? != [0]);
            values.push(f64::from_le_bytes(take(from)?));
        }
        OutputColumn::Bool { values, valid } => {
            valid.push(take::<1>(from)? != [0]);
            values.push(take::<1>(from)? != [0]);
        }
        OutputColumn::String { offsets, bytes, valid } => {
            valid.push(take::<1>(from)? != [0]);
            let length = u32::from_le_bytes(take(from)?) as usize;
            let (text, rest) = from.split_at_checked(length)?;
            *from = rest;
            bytes.extend_from_slice(text);
            offsets.push(u32::try_from(bytes.len()).ok()?);
        }
    }
    Some(())
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*taken)
}

/// Sorted rows, read one after the other.
enum Run<'a> {
    Memory { encoded: &'a [u8], index: &'a [Entry], next: usize },
    File { file: &'a File, next: u64, end: u64, ahead: usize, buffer: Vec<u8>, at: usize, row: Option<(usize, usize)> },
}

impl Run<'_> {
    /// Moves to the next row and returns its key; `None` at the end.
    fn advance(&mut self) -> io::Result<Option<(u32, u64)>> {
        match self {
            Run::Memory { index, next, .. } => {
                *next += 1;
                Ok(index.get(*next - 1).map(|entry| entry.key))
            }
            Run::File { .. } => self.advance_in_file(),
        }
    }

    fn advance_in_file(&mut self) -> io::Result<Option<(u32, u64)>> {
        if !self.ensure(HEAD_SIZE)? {
            return Ok(None);
        }
        let Run::File { buffer, at, .. } = self else { return Ok(None) };
        let mut head = &buffer[*at..];
        let parsed = (take(&mut head), take(&mut head), take(&mut head));
        let (Some(lane), Some(number), Some(length)) = parsed else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        let length = u32::from_le_bytes(length) as usize;
        *at += HEAD_SIZE;
        if !self.ensure(length)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Run::File { at, row, .. } = self {
            *row = Some((*at, *at + length));
            *at += length;
        }
        Ok(Some((u32::from_le_bytes(lane), u64::from_le_bytes(number))))
    }

    /// Makes `length` unread bytes available; false at the end of the run.
    fn ensure(&mut self, length: usize) -> io::Result<bool> {
        let Run::File { file, next, end, ahead, buffer, at, .. } = self else { return Ok(false) };
        if buffer.len() - *at >= length {
            return Ok(true);
        }
        buffer.drain(..*at);
        *at = 0;
        let wanted = (*ahead).max(length - buffer.len()) as u64;
        let more = wanted.min(*end - *next) as usize;
        let old = buffer.len();
        buffer.resize(old + more, 0);
        file.read_exact_at(&mut buffer[old..], *next)?;
        *next += more as u64;
        Ok(buffer.len() >= length)
    }

    /// The row that [`Run::advance`] moved to.
    fn row(&self) -> &[u8] {
        match self {
            Run::Memory { encoded, index, next } => {
                let entry = &index[*next - 1];
                &encoded[entry.start..entry.end]
            }
            Run::File { buffer, row, .. } => row.map_or(&[], |(start, end)| &buffer[start..end]),
        }
    }
}

/// Merges sorted runs; of rows with the same key one is kept.
fn merge(
    mut runs: Vec<Run<'_>>,
    read_error: &dyn Fn(io::Error) -> ExportError,
    out: &mut RowsOut<'_>,
) -> Result<(), ExportError> {
    let mut heap = BinaryHeap::with_capacity(runs.len());
    for (number, run) in runs.iter_mut().enumerate() {
        if let Some(key) = run.advance().map_err(read_error)? {
            heap.push(Reverse((key, number)));
        }
    }
    let mut last = None;
    while let Some(Reverse((key, number))) = heap.pop() {
        let run = &mut runs[number];
        if last != Some(key) {
            last = Some(key);
            out.push(run.row())?;
        }
        if let Some(key) = run.advance().map_err(read_error)? {
            heap.push(Reverse((key, number)));
        }
    }
    Ok(())
}

/// Decodes rows into batches for the exporter.
struct RowsOut<'a> {
    exporter: &'a mut dyn Exporter,
    batch: ResultBatch,
    size: usize,
}

impl RowsOut<'_> {
    fn new<'a>(schema: &OutputSchema, exporter: &'a mut dyn Exporter) -> RowsOut<'a> {
        let columns = schema.columns.iter().map(|field| OutputColumn::new(field.kind)).collect();
        RowsOut { exporter, batch: ResultBatch { rows: 0, columns, other_rows: Vec::new() }, size: 0 }
    }

    fn push(&mut self, row: &[u8]) -> Result<(), ExportError> {
        // A row is below 4 GiB, so passing on before a huge one keeps the offsets of text columns in range.
        if self.batch.rows >= BATCH_ROWS || self.size + row.len() >= BATCH_SIZE {
            self.pass_on()?;
        }
        let mut rest = row;
        let columns = &mut self.batch.columns;
        if columns.iter_mut().any(|column| decode(column, &mut rest).is_none()) || !rest.is_empty() {
            return Err(ExportError::Shape {
                reason: String::from("a late row came back damaged from its spill file"),
            });
        }
        self.batch.rows += 1;
        self.size += row.len();
        Ok(())
    }

    fn pass_on(&mut self) -> Result<(), ExportError> {
        if self.batch.rows > 0 {
            self.exporter.write(&self.batch)?;
        }
        self.batch.rows = 0;
        self.batch.columns.iter_mut().for_each(OutputColumn::clear);
        self.size = 0;
        Ok(())
    }
}

/// A temporary file without a name: it is gone when the process is, however that ends.
fn unnamed_file(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().custom_flags(libc::O_TMPFILE).open(directory) {
        Ok(file) => Ok(file),
        Err(cause) if cause.kind() == io::ErrorKind::StorageFull => Err(cause),
        // Not every file system can do that; then the name goes at once.
        Err(_) => {
            static NUMBER: AtomicU64 = AtomicU64::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!(".corefold-late-{number}.{}.tmp", std::process::id()));
            let file = options.create(true).truncate(true).open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        }
    }
}

fn spill_error(directory: &Path, step: &'static str) -> impl Fn(io::Error) -> ExportError + use<> {
    let directory = directory.to_path_buf();
    move |cause| ExportError::Spill { directory: directory.clone(), step, cause }
}
