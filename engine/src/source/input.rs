//! Which files are read and how their bytes arrive: paths, globs, pipes, compression, format by name.
//!
//! What the bytes mean is not here; formats have their own files.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::SourceError;

/// What the rows of an input look like.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    /// Delimited text with a header row.
    Csv,
    /// One JSON object per line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, file or stream.
    Arrow,
}

impl Format {
    /// The format called `csv`, `ndjson`, `parquet` or `arrow`.
    pub fn from_name(name: &str) -> Option<Format> {
        match name {
            "csv" => Some(Format::Csv),
            "ndjson" => Some(Format::Ndjson),
            "parquet" => Some(Format::Parquet),
            "arrow" => Some(Format::Arrow),
            _ => None,
        }
    }

    /// The name used in flags, config and errors.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
        }
    }

    fn from_extension(extension: &str) -> Option<Format> {
        match extension {
            "csv" | "tsv" => Some(Format::Csv),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            "parquet" | "pq" => Some(Format::Parquet),
            "arrow" | "arrows" | "ipc" | "feather" => Some(Format::Arrow),
            _ => None,
        }
    }
}

const KNOWN_EXTENSIONS: &str = ".csv .tsv .ndjson .jsonl .parquet .pq .arrow .arrows .ipc .feather";

/// How the bytes of an input are packed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Compression {
    /// Not at all.
    None,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
}

impl Compression {
    const fn name(self) -> &'static str {
        match self {
            Compression::None => "plain",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }
}

/// One input, found but not opened: a lane-to-be.
#[derive(Clone, Debug)]
pub struct Input {
    /// How messages call it: the path as given, or `standard input`.
    pub name: String,
    /// The file; `None` for standard input and other readers without a name.
    pub path: Option<PathBuf>,
    /// What its rows look like.
    pub format: Format,
    /// How its bytes are packed.
    pub compression: Compression,
    pub(super) tape: Option<Arc<Tape>>,
}

impl Input {
    /// The input of a path on disk, or of a pipe with a name in the file system.
    pub fn from_path(path: &Path, forced: Option<Format>) -> Result<Input, SourceError> {
        let name = path.display().to_string();
        let kind = std::fs::metadata(path).map_err(|error| SourceError::io(&name, "open", error))?.file_type();
        if kind.is_dir() {
            return Err(SourceError::Directory { path: name });
        }
        let (compression, by_name) = read_name(path);
        let format = forced
            .or(by_name)
            .ok_or_else(|| SourceError::UnknownFormat { path: name.clone(), known: KNOWN_EXTENSIONS })?;
        let tape = if kind.is_fifo() || kind.is_char_device() || kind.is_socket() {
            let file = File::open(path).map_err(|error| SourceError::io(&name, "open", error))?;
            Some(Arc::new(Tape::new(Box::new(file))))
        } else {
            None
        };
        Ok(Input { name, path: Some(path.to_owned()), format, compression, tape })
    }

    /// An input that is any reader. It can be opened once, after inference has looked at its first bytes.
    pub fn from_reader(name: &str, format: Format, compression: Compression, reader: Box<dyn Read + Send>) -> Input {
        Input { name: name.to_owned(), path: None, format, compression, tape: Some(Arc::new(Tape::new(reader))) }
    }

    /// Whether the bytes come once and in order.
    pub fn is_pipe(&self) -> bool {
        self.tape.is_some()
    }

    /// The default CSV delimiter of this input: a tab for `.tsv`, else a comma.
    pub(super) fn default_delimiter(&self) -> u8 {
        let tab = self.path.as_deref().is_some_and(|path| {
            let name = path.to_string_lossy().to_ascii_lowercase();
            [".tsv", ".tsv.gz", ".tsv.zst"].iter().any(|extension| name.ends_with(extension))
        });
        if tab { b'\t' } else { b',' }
    }

    /// Size of the file in bytes, as stored; `None` for pipes.
    pub fn bytes_total(&self) -> Option<u64> {
        match (&self.path, &self.tape) {
            (Some(path), None) => std::fs::metadata(path).ok().map(|metadata| metadata.len()),
            _ => None,
        }
    }

    /// Opens the file itself, for formats that need random access.
    pub(super) fn open_file(&self) -> Result<File, SourceError> {
        let (why, advice) = match (&self.path, self.compression) {
            (_, Compression::Gzip | Compression::Zstd) => {
                ("compression of the whole file", "decompress it first (Parquet compresses its pages itself)")
            }
            (Some(path), _) if self.tape.is_none() => {
                return File::open(path).map_err(|error| SourceError::io(&self.name, "open", error));
            }
            _ => ("a pipe", "write it to a file first"),
        };
        Err(SourceError::NotSeekable { path: self.name.clone(), why, advice })
    }

    /// Opens the uncompressed bytes from `position` on, with a meter of stored bytes.
    pub(super) fn open_bytes(&self) -> Result<Bytes, SourceError> {
        let meter = Meter::default();
        let raw: Box<dyn Read + Send> = match (&self.tape, &self.path) {
            (Some(tape), _) => tape.play().ok_or_else(|| SourceError::ReadOnce { path: self.name.clone() })?,
            (None, Some(path)) => {
                let file = File::open(path).map_err(|error| SourceError::io(&self.name, "open", error))?;
                if self.compression == Compression::None {
                    return Ok(Bytes {
                        name: self.name.clone(),
                        compression: self.compression,
                        meter,
                        way: Way::File(file),
                    });
                }
                Box::new(file)
            }
            (None, None) => return Err(SourceError::ReadOnce { path: self.name.clone() }),
        };
        self.unpack(raw, meter)
    }

    /// Like [`Input::open_bytes`], but what is read from a pipe stays on its tape for the next opening.
    pub(super) fn peek_bytes(&self) -> Result<Bytes, SourceError> {
        match &self.tape {
            Some(tape) => self.unpack(Box::new(Recorder { tape: tape.clone(), at: 0 }), Meter::default()),
            None => self.open_bytes(),
        }
    }

    fn unpack(&self, raw: Box<dyn Read + Send>, meter: Meter) -> Result<Bytes, SourceError> {
        let counted = Counted { inner: raw, meter: meter.clone() };
        let reader: Box<dyn Read + Send> = match self.compression {
            Compression::None => Box::new(counted),
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(counted)),
            Compression::Zstd => Box::new(
                zstd::stream::read::Decoder::new(counted)
                    .map_err(|error| SourceError::io(&self.name, "read", error))?,
            ),
        };
        Ok(Bytes { name: self.name.clone(), compression: self.compression, meter, way: Way::Stream(reader) })
    }
}

/// The inputs that `arguments` stand for, in their order, globs sorted by name: paths, globs, and `-` for
/// standard input. `forced` is the format of all of them if their names do not say it.
pub fn resolve(arguments: &[String], forced: Option<Format>) -> Result<Vec<Input>, SourceError> {
    let mut inputs = Vec::new();
    let mut seen = HashSet::new();
    for argument in arguments {
        if argument == "-" {
            if !seen.insert(PathBuf::from("-")) {
                return Err(SourceError::GivenTwice { path: "standard input".to_owned() });
            }
            inputs.push(standard_input(forced)?);
            continue;
        }
        for path in expand(argument)? {
            let input = Input::from_path(&path, forced)?;
            if !seen.insert(path.canonicalize().unwrap_or(path)) {
                return Err(SourceError::GivenTwice { path: input.name });
            }
            inputs.push(input);
        }
    }
    Ok(inputs)
}

fn standard_input(forced: Option<Format>) -> Result<Input, SourceError> {
    let name = "standard input";
    let format = forced.ok_or_else(|| SourceError::UnknownFormat { path: name.to_owned(), known: KNOWN_EXTENSIONS })?;
    let mut head = Vec::new();
    io::stdin().take(4).read_to_end(&mut head).map_err(|error| SourceError::io(name, "read", error))?;
    // There is no name to go by, and no text starts with these bytes.
    let compression = match head[..] {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
        _ => Compression::None,
    };
    Ok(Input::from_reader(name, format, compression, Box::new(Cursor::new(head).chain(io::stdin()))))
}

/// The files of one argument. A path that exists is itself, even with glob characters in its name.
fn expand(argument: &str) -> Result<Vec<PathBuf>, SourceError> {
    let literal = PathBuf::from(argument);
    if !argument.contains(['*', '?', '[']) || literal.exists() {
        return Ok(vec![literal]);
    }
    let bad = |what: String| SourceError::BadGlob { pattern: argument.to_owned(), what };
    let mut files = Vec::new();
    for entry in glob::glob(argument).map_err(|error| bad(error.msg.to_owned()))? {
        let path = entry.map_err(|error| SourceError::Io {
            path: error.path().display().to_string(),
            operation: "list",
            source: error.into(),
        })?;
        if !path.is_dir() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(SourceError::NoMatch { pattern: argument.to_owned() });
    }
    files.sort();
    Ok(files)
}

/// Compression and format as the extensions say.
fn read_name(path: &Path) -> (Compression, Option<Format>) {
    let lower = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let (compression, stem) = match lower.rsplit_once('.') {
        Some((stem, "gz")) => (Compression::Gzip, stem),
        Some((stem, "zst")) => (Compression::Zstd, stem),
        _ => (Compression::None, lower.as_str()),
    };
    (compression, stem.rsplit_once('.').and_then(|(_, extension)| Format::from_extension(extension)))
}

/// Stored bytes read so far; shared between the reader deep inside a decoder and the one who asks.
#[derive(Clone, Default)]
pub(super) struct Meter(Arc<AtomicU64>);

impl Meter {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

struct Counted {
    inner: Box<dyn Read + Send>,
    meter: Meter,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.meter.add(count);
        Ok(count)
    }
}

/// The uncompressed bytes of an open input.
pub(super) struct Bytes {
    name: String,
    compression: Compression,
    pub(super) meter: Meter,
    way: Way,
}

enum Way {
    File(File),
    Stream(Box<dyn Read + Send>),
}

impl Bytes {
    /// Reads up to `buffer.len()` bytes; zero only at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        loop {
            let result = match &mut self.way {
                Way::File(file) => file.read(buffer).inspect(|count| self.meter.add(*count)),
                Way::Stream(reader) => reader.read(buffer),
            };
            match result {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    /// Goes forward from uncompressed byte `from` to byte `to`; `false` if the end comes before.
    pub(super) fn skip(&mut self, from: u64, to: u64) -> Result<bool, SourceError> {
        if let Way::File(file) = &mut self.way {
            let size = file.metadata().map_err(|error| SourceError::io(&self.name, "read", error))?.len();
            file.seek(SeekFrom::Start(to)).map_err(|error| SourceError::io(&self.name, "seek in", error))?;
            self.meter.set(to);
            return Ok(to <= size);
        }
        let mut left = to - from;
        let mut scratch = vec![0; 64 * 1024];
        while left > 0 {
            let wanted = left.min(scratch.len() as u64) as usize;
            let count = self.read(&mut scratch[..wanted])?;
            if count == 0 {
                return Ok(false);
            }
            left -= count as u64;
        }
        Ok(true)
    }

    /// What a failed read means: a cut or damaged compressed stream is bad data, all else the system's refusal.
    fn explain(&self, error: io::Error) -> SourceError {
        let path = self.name.clone();
        let compression = self.compression.name();
        match (self.compression, error.kind()) {
            (Compression::None, _) => SourceError::io(&path, "read", error),
            (_, io::ErrorKind::UnexpectedEof) => SourceError::Torn { path, compression },
            // Decoders have no operating system error number; failed reads below them do.
            _ if error.raw_os_error().is_none() => {
                SourceError::Corrupt { path, format: compression, what: error.to_string() }
            }
            _ => SourceError::io(&path, "read", error),
        }
    }
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Bytes::read(self, buffer).map_err(io::Error::other)
    }
}

/// A pipe whose first bytes are kept while inference looks at them, and played again for the real reader.
pub(super) struct Tape(Mutex<TapeState>);

struct TapeState {
    kept: Vec<u8>,
    rest: Option<Box<dyn Read + Send>>,
}

impl Tape {
    fn new(rest: Box<dyn Read + Send>) -> Tape {
        Tape(Mutex::new(TapeState { kept: Vec::new(), rest: Some(rest) }))
    }

    /// The whole pipe from its first byte; `None` when it was taken before.
    fn play(&self) -> Option<Box<dyn Read + Send>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = state.rest.take()?;
        let kept = std::mem::take(&mut state.kept);
        Some(Box::new(Cursor::new(kept).chain(rest)))
    }
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tape")
    }
}

struct Recorder {
    tape: Arc<Tape>,
    at: usize,
}

impl Read for Recorder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.tape.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if self.at == state.kept.len() {
            let Some(rest) = &mut state.rest else {
                return Err(io::Error::other("the pipe was taken by another reader"));
            };
            let count = rest.read(buffer)?;
            state.kept.extend_from_slice(&buffer[..count]);
            self.at += count;
            return Ok(count);
        }
        let kept = &state.kept[self.at..];
        let count = kept.len().min(buffer.len());
        buffer[..count].copy_from_slice(&kept[..count]);
        self.at += count;
        Ok(count)
    }
}
