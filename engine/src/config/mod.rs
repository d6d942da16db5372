//! The configuration of a long-running engine: from a TOML file to values that are known to make sense.
//!
//! Two stages: `file` is what was typed, [`EngineConfig`] is what is true. Aggregate and filter expressions stay
//! text with their place here; parsing them is the business of `sql`.

pub mod check;
pub mod choices;
pub mod error;
pub mod file;
pub mod producers;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use corefold_aggregator::spec::{Field, Overflow};
use corefold_aggregator::time::{Duration, WindowSpec};

pub use choices::{AtStop, AutoOr, Durability, InputFormat, OnError, OutputFormat, Routing, TimeUnit};
pub use error::{ConfigError, ConfigErrors, Located};
pub use producers::{NamePattern, ProducerConfig, ProofConfig, TlsFiles};

/// Most shards.
pub const SHARDS_MAX: u32 = 1024;
/// Rows per batch unless told otherwise.
pub const BATCH_ROWS_DEFAULT: u32 = 8192;
/// Most rows per batch.
pub const BATCH_ROWS_MAX: u32 = 65_536;
/// Pause between pulls unless told otherwise.
pub const PULL_INTERVAL_DEFAULT: Duration = micros(100_000);
/// Shortest pause between pulls.
pub const PULL_INTERVAL_MIN: Duration = micros(1_000);
/// Longest pause between pulls.
pub const PULL_INTERVAL_MAX: Duration = micros(3_600_000_000);
/// Size of a log segment unless told otherwise.
pub const SEGMENT_SIZE_DEFAULT: u64 = 64 << 20;
/// Smallest log segment.
pub const SEGMENT_SIZE_MIN: u64 = 1 << 20;
/// Largest log segment.
pub const SEGMENT_SIZE_MAX: u64 = 1 << 30;
/// Segment sizes are multiples of this.
pub const SEGMENT_SIZE_STEP: u64 = 4096;
/// Longest name of a stream or view, in bytes.
pub const NAME_LENGTH_MAX: usize = 128;

/// How far ahead of the wall clock events of a live source may lie unless told otherwise.
pub const MAX_FUTURE_DEFAULT: Duration = micros(300_000_000);
/// Silence after which a lane of a live source is left out unless told otherwise.
pub const IDLE_TIMEOUT_DEFAULT: Duration = micros(30_000_000);

/// A whole configuration, checked: every index is in range, every value in its bounds.
#[derive(Clone, PartialEq, Debug)]
pub struct EngineConfig {
    /// The file that it came from, for errors about its expressions.
    pub file: PathBuf,
    /// Directory of everything durable; `None`: nothing is kept.
    pub data_dir: Option<PathBuf>,
    /// How many shards; `Auto`: every allowed core but the coordinator's.
    pub shards: AutoOr,
    /// The coordinator's core; `Auto`: the first allowed one.
    pub coordinator_core: AutoOr,
    /// How often closed panes are pulled.
    pub pull_interval: std::time::Duration,
    /// How long merged panes are kept although no window needs them any more.
    pub pane_retention: Duration,
    /// How batches are spread over the shards.
    pub routing: Routing,
    /// Most rows per batch.
    pub batch_rows: u32,
    /// When an event counts as safe; `None` whenever there is no data directory.
    pub durability: Durability,
    /// Bytes of one log segment.
    pub segment_size: u64,
    /// When to take snapshots.
    pub snapshot: SnapshotConfig,
    /// Streams, in the order of the file.
    pub streams: Vec<StreamConfig>,
    /// Sources that are files, in the order of the file.
    pub sources: Vec<SourceConfig>,
    /// Addresses at which producers connect, in the order of the file.
    pub listeners: Vec<ListenConfig>,
    /// Who may send, in the order of the file; empty: everybody.
    pub producers: Vec<ProducerConfig>,
    /// What a stop does with open windows, if there are listeners.
    pub stop: AtStop,
    /// Views, in the order of the file.
    pub views: Vec<ViewConfig>,
    /// What is allowed but probably not what was meant, or has no effect. One sentence each, with its place.
    pub notes: Vec<ConfigError>,
}

/// When a shard writes a snapshot: whichever comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotConfig {
    /// After this many bytes of log.
    pub wal_bytes: u64,
    /// After this many batches.
    pub batches: u64,
}

impl Default for SnapshotConfig {
    fn default() -> SnapshotConfig {
        SnapshotConfig { wal_bytes: 64 << 20, batches: 10_000 }
    }
}

/// A named schema.
#[derive(Clone, PartialEq, Debug)]
pub struct StreamConfig {
    /// Its name, unique among streams.
    pub name: String,
    /// Its time column.
    pub time: TimeConfig,
    /// Its fields besides the time, in the order of the file.
    pub fields: Vec<Field>,
}

/// Where a stream's event time comes from and how it advances.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimeConfig {
    /// Column name.
    pub column: String,
    /// Unit of integer times; `None`: the column must hold texts or typed timestamps.
    pub unit: Option<TimeUnit>,
    /// How far the watermark stays behind the highest time.
    pub max_delay: Duration,
    /// How far ahead of the wall clock an event of a live source may lie.
    pub max_future: Duration,
    /// Silence after which a lane of a live source no longer holds up results.
    pub idle_timeout: std::time::Duration,
}

/// Files that feed a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceConfig {
    /// Index into the streams.
    pub stream: usize,
    /// What to read; at least one.
    pub inputs: Vec<Located<InputPath>>,
    /// How to read it.
    pub read: ReadOptions,
}

/// An address at which producers connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenConfig {
    /// Where.
    pub address: SocketAddr,
    /// What is proven; `None`: nothing is, and nothing is encrypted.
    pub tls: Option<TlsFiles>,
    /// Port of the first shard, at the same address; those of the others follow.
    pub shard_ports: Option<u16>,
    /// What they may cost.
    pub limits: ListenLimits,
    /// Indices of the streams that they may send.
    pub streams: Vec<usize>,
}

/// Limits of what comes over one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenLimits {
    /// Most bytes of a batch; a multiple of 8.
    pub batch_size_max: u64,
    /// Most bytes that wait for a shard, and their overhead.
    pub inbox_max: u64,
    /// Most connections.
    pub connections_max: u32,
    /// Most connections from one address.
    pub connections_per_address_max: u32,
    /// Most lanes of one shard, connected or not.
    pub lanes_max: u32,
    /// How long a hello may take.
    pub hello_timeout: std::time::Duration,
    /// How long a connection may be silent.
    pub silence_timeout: std::time::Duration,
    /// Least bytes a second within a batch.
    pub byte_rate_min: u64,
}

impl Default for ListenLimits {
    fn default() -> ListenLimits {
        ListenLimits {
            batch_size_max: 16 << 20,
            inbox_max: 64 << 20,
            connections_max: 1024,
            connections_per_address_max: 256,
            lanes_max: 65_536,
            hello_timeout: std::time::Duration::from_secs(5),
            silence_timeout: std::time::Duration::from_secs(60),
            byte_rate_min: 1024,
        }
    }
}

/// How files are read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadOptions {
    /// Format; `None`: by extension.
    pub format: Option<InputFormat>,
    /// Texts that mean null.
    pub nulls: Vec<String>,
    /// What a bad row does.
    pub on_error: OnError,
    /// CSV field separator; `None`: a comma, a tab in `.tsv` files.
    pub delimiter: Option<u8>,
}

/// One input as named by the user.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum InputPath {
    /// `-`: standard input.
    Stdin,
    /// A path without wildcards.
    File(PathBuf),
    /// A pattern with `*`, `?` or `[…]`, for the crate `glob`. Only if no file has exactly the name `literal`.
    Glob {
        /// The pattern; directories that do not come from the user's text are escaped in it.
        pattern: String,
        /// The same text as a plain path.
        literal: PathBuf,
    },
}

impl InputPath {
    /// Reads an input name; relative ones start at `base` (empty: the current directory).
    pub fn new(base: &Path, text: &str) -> InputPath {
        if text == "-" {
            return InputPath::Stdin;
        }
        let literal = base.join(text);
        if !text.contains(['*', '?', '[']) {
            return InputPath::File(literal);
        }
        let escaped = PathBuf::from(glob::Pattern::escape(&base.to_string_lossy()));
        InputPath::Glob { pattern: escaped.join(text).to_string_lossy().into_owned(), literal }
    }
}

impl fmt::Display for InputPath {
    /// The argument that stands for this input in `source::resolve`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputPath::Stdin => f.write_str("-"),
            InputPath::File(path) => path.display().fmt(f),
            InputPath::Glob { literal, .. } if literal.exists() => literal.display().fmt(f),
            InputPath::Glob { pattern, .. } => f.write_str(pattern),
        }
    }
}

/// A windowed, keyed aggregation over one stream.
#[derive(Clone, PartialEq, Debug)]
pub struct ViewConfig {
    /// Its name, unique among views.
    pub name: String,
    /// Index into the streams.
    pub stream: usize,
    /// Indices of the group columns among the stream's fields.
    pub by: Vec<usize>,
    /// Window shape.
    pub window: WindowSpec,
    /// Aggregate expressions as text; at least one. Each may hold several, separated by commas.
    pub aggregates: Vec<Located<String>>,
    /// Filter expression as text.
    pub filter: Option<Located<String>>,
    /// Most groups per pane and per window.
    pub groups_max: u32,
    /// What happens past it.
    pub overflow: Overflow,
    /// Silence after which a group's slot may be reused; `None`: never.
    pub group_ttl: Option<Duration>,
    /// Where results go.
    pub exports: Vec<ExportConfig>,
}

/// Where and how results of a view are written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportConfig {
    /// File or directory.
    pub target: ExportTarget,
    /// Format.
    pub format: OutputFormat,
}

/// One file, or a directory of files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExportTarget {
    /// One file, complete when the input has ended.
    File(PathBuf),
    /// A directory that receives finished files.
    Directory {
        /// The directory.
        path: PathBuf,
        /// When a file is finished and the next one begun.
        rotate: Rotate,
    },
}

/// When to begin a new file: whichever comes first; with neither, there is one file per run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rotate {
    /// One file holds windows that end within one such span of event time, counted from the epoch.
    pub every: Option<Duration>,
    /// After this many bytes.
    pub bytes: Option<u64>,
}

/// A constant duration; the constants above are all in range, which the compiler checks.
pub(crate) const fn micros(micros: i64) -> Duration {
    match Duration::from_micros(micros) {
        Some(duration) => duration,
        None => panic!("a constant duration is out of range"),
    }
}

/// Reads a CSV field separator: one ASCII character, or `\t`.
pub fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r' | 0) => Ok(*byte),
        _ => Err(format!(
            "`{}` is not a delimiter; expected one ASCII character such as `;`, or `\\t`",
            text.escape_debug()
        )),
    }
}

/// Reads and checks a config file. Relative paths in it start at its directory.
pub fn load(file: &Path) -> Result<EngineConfig, ConfigErrors> {
    let text = std::fs::read_to_string(file).map_err(|error| ConfigErrors::unreadable(file, &error))?;
    parse(file, &text)
}

/// Checks the text of a config file; `file` is used for errors and relative paths only.
pub fn parse(file: &Path, text: &str) -> Result<EngineConfig, ConfigErrors> {
    let document = error::Document { file, text };
    let typed: file::FileConfig = toml::from_str(text).map_err(|error| document.form_error(&error))?;
    check::check(document, &typed)
}
