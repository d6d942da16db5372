//! Arguments of `corefold send`.
//!
//! What they lead to is in [`crate::commands::send`].

use super::args::{ReportArgs, parse_field};
use super::security::SecurityArgs;
use crate::config::choices::TypeChoice;
use crate::config::{self, BATCH_ROWS_DEFAULT, InputFormat, OnError, TimeUnit};
use crate::units;
use clap::Args;
use corefold_aggregator::time::Duration;
use corefold_client::{LANES_MAX, Lanes};
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

const EXAMPLES: &str = "\
A file is sent once: interrupted and run again, or run twice, the same command goes on where the server is. It is known by
its path, size and time of change, and by how it is read; --producer gives it another name.

Examples:
  To an engine on this machine, which has this configuration:
    corefold send flights.csv.zst --to 127.0.0.1:7600 --config engine.toml --null NA

  To one whose stream is described here; the fields in the order of its configuration:
    corefold send logs/*.ndjson --to collector:7600 --stream logs --time ts --time-unit ms --field level:string

  Over several connections, one for each shard of the server, where the order within the file does not matter:
    corefold send big.parquet --to collector:7600 --config engine.toml --lanes shards

  From a pipe, under a name that lasts; each run goes on behind the one before:
    tail -F events.ndjson | corefold send - --format ndjson --to 127.0.0.1:7600 --config engine.toml --producer web-1

  By TLS, with a token:
    corefold send flights.csv --to collector.example:7600 --config engine.toml --producer web-1 --tls-ca ca.pem \\
        --token-file web-1.token

Exit codes: 0 when the server has made everything durable, 1 if it refuses, 65 for bad input data, 74 for I/O errors and if
the server could not be reached for --give-up-after.";

/// How many lanes each input has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LanesChoice(Lanes);

impl LanesChoice {
    /// One: the order of an input is kept.
    pub const ONE: LanesChoice = LanesChoice(Lanes::Of(1));
}

impl From<LanesChoice> for Lanes {
    fn from(choice: LanesChoice) -> Lanes {
        choice.0
    }
}

impl Display for LanesChoice {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Lanes::Of(count) => write!(out, "{count}"),
            Lanes::PerShard => out.write_str("shards"),
        }
    }
}

fn parse_lanes(text: &str) -> Result<LanesChoice, String> {
    let lanes = match text {
        "shards" => Some(Lanes::PerShard),
        number => number.parse().ok().filter(|count| (1..=LANES_MAX).contains(count)).map(Lanes::Of),
    };
    lanes.map(LanesChoice).ok_or_else(|| format!("expected a number from 1 to {LANES_MAX}, or shards"))
}

/// `corefold send`.
#[derive(Args, Clone, PartialEq, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SendArgs {
    /// Files to read: paths, patterns such as 'logs/*.csv', or `-` for standard input. Files ending in `.gz` and
    /// `.zst` are unpacked. Each is sent in a lane of its own
    #[arg(required = true, value_name = "INPUT", help_heading = "Input")]
    pub inputs: Vec<String>,

    /// Host and port of the engine, as its configuration says under `sources.tcp.listen`
    #[arg(long, value_name = "ADDRESS", help_heading = "Server")]
    pub to: String,

    /// Name under which the server counts what it has seen; no other producer may use it [default: made of the file and
    /// of how it is read]
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    pub producer: Option<String>,

    /// Lanes per input, from 1 to 1024, or `shards` for as many as the server has shards: connections side by side
    /// that take the input's batches in turn, each with a watermark of its own. With `shards` the server remembers
    /// the number
    #[arg(long, value_name = "LANES", default_value_t = LanesChoice::ONE, value_parser = parse_lanes,
          help_heading = "Server")]
    pub lanes: LanesChoice,

    /// Nothing more will come under this name: results need not wait for it. Always so without --producer
    #[arg(long, help_heading = "Server")]
    pub end: bool,

    /// How long a batch is worth anything from when it is read; later the server counts it as shed [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, help_heading = "Server")]
    pub deadline: Option<Duration>,

    /// How long to go on without reaching the server
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = units::parse_duration,
          help_heading = "Server")]
    pub give_up_after: Duration,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub security: SecurityArgs,

    /// Configuration file that describes the stream
    #[arg(long, value_name = "CONFIG", conflicts_with_all = ["time", "time_unit", "fields"], help_heading = "Stream")]
    pub config: Option<PathBuf>,

    /// Name of the stream; needed unless the configuration has only one
    #[arg(long, value_name = "NAME", help_heading = "Stream")]
    pub stream: Option<String>,

    /// Column that holds the event time; needed without --config
    #[arg(long, value_name = "COLUMN", required_unless_present = "config", help_heading = "Stream")]
    pub time: Option<String>,

    /// Unit of whole-number times since 1970-01-01 UTC; needed for such columns [default: none]
    #[arg(long, value_name = "UNIT", help_heading = "Stream")]
    pub time_unit: Option<TimeUnit>,

    /// A field of the stream, as NAME:TYPE with TYPE string, i64, f64 or bool; repeated in the order of the stream
    #[arg(long = "field", value_name = "NAME:TYPE", value_parser = parse_field, help_heading = "Stream")]
    pub fields: Vec<(String, TypeChoice)>,

    /// Shape of the input; needed for standard input [default: by the file's extension]
    #[arg(long, value_name = "FORMAT", help_heading = "Input")]
    pub format: Option<InputFormat>,

    /// Texts that mean null besides the empty CSV field, comma-separated; may be repeated [default: none]
    #[arg(long = "null", value_name = "TEXTS", value_delimiter = ',', help_heading = "Input")]
    pub nulls: Vec<String>,

    /// Character between CSV fields; `\t` is a tab [default: a comma, a tab in .tsv files]
    #[arg(long, value_name = "CHARACTER", value_parser = config::parse_delimiter, help_heading = "Input")]
    pub delimiter: Option<u8>,

    /// What a row that cannot be read does: end the command, or be skipped and counted as rejected
    #[arg(long, value_name = "POLICY", value_enum, default_value_t, help_heading = "Input")]
    pub on_error: OnError,

    /// Most rows per batch, from 1 to 65536
    #[arg(long, value_name = "ROWS", default_value_t = BATCH_ROWS_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=65_536), help_heading = "Input")]
    pub batch_rows: u32,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: ReportArgs,
}
