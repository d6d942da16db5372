//! Arguments of every command as they may be typed, with their help texts and defaults.
//!
//! Rules that concern more than one argument are not here; see `job`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use corefold_aggregator::limits::{GROUPS_MAX_DEFAULT, GROUPS_MAX_LIMIT};
use corefold_aggregator::time::Duration;

use super::profile::ProfileArgs;
use crate::config::choices::{OverflowChoice, TypeChoice, by_name, names};
use crate::config::{
    self, AutoOr, BATCH_ROWS_DEFAULT, BATCH_ROWS_MAX, Durability, InputFormat, OnError, OutputFormat,
    PULL_INTERVAL_MAX, PULL_INTERVAL_MIN, Routing, SHARDS_MAX, TimeUnit,
};
use crate::units;

const AGGREGATE_EXAMPLES: &str = "\
Aggregates:
  count()  count(x)  sum(x)  min(x)  max(x)  mean(x)  stddev(x)  variance(x)  first(x)  last(x)
  quantile(x, 0.99)  distinct(x)  top(x, 5)
  Output columns are called count, sum_x, p99_x and so on; `name = expression` renames them.

Examples:
  Flights per airport in overlapping windows; `NA` means null, and events may come a day late:
    corefold aggregate flights.csv.zst --time time --by origin --window 6h --slide 1h \\
        --agg 'count(), mean(dep_delay), p99 = quantile(dep_delay, 0.99)' --null NA --max-delay 24h

  Only late starts, as Parquet, from many files:
    corefold aggregate 'logs/*.csv' --time time --by carrier --window 1d --agg 'count()' \\
        --where \"dep_delay > 15 and origin in ('JFK', 'LGA')\" --output late.parquet

  From a pipe, with integer times in milliseconds:
    zcat events.gz | corefold aggregate - --format ndjson --time ts --time-unit ms \\
        --window 10s --agg 'sum(value)'

  Durable: killed at any point and run again, it goes on where it was:
    corefold aggregate big.parquet --time ts --by key --window 1m --agg 'count()' \\
        --data-dir state/ --output counts.csv";

const INSPECT_WAL_EXAMPLES: &str = "\
Nothing is changed or locked, so it may be used while an engine runs. At the end stands what recovery would decide.

Exit codes: 0 if recovery would accept it (a torn tail that a crash explains included), 1 if it would refuse,
74 if something cannot be read.

Examples:
  Is everything sound, and how do the logs end?
    corefold inspect wal /var/lib/corefold --detail segments

  The batches of one shard's log:
    corefold inspect wal /var/lib/corefold --shard 0 --detail records

  Damaged blocks, for a program:
    corefold inspect wal 00000000000000000001.wal --json | grep '\"state\":\"bad'";

const INSPECT_SNAPSHOT_EXAMPLES: &str = "\
Nothing is changed or locked, so it may be used while an engine runs. Every checksum is checked again. After the snapshots
of a shard stands with which one recovery would begin.

Exit codes: 0 if all are sound, 1 if one is not (recovery may still do with an older one), 74 if one cannot be read.

Examples:
  What is in the snapshots of shard 0?
    corefold inspect snapshot /var/lib/corefold --shard 0

  Damaged chunks, for a program:
    corefold inspect snapshot /var/lib/corefold --json | grep '\"state\":\"bad'";

const INSPECT_PANES_EXAMPLES: &str = "\
Nothing is changed or locked, so it may be used while an engine runs. Every checksum is checked again. Behind damage
nothing is shown; `corefold inspect wal DIR/panes/wal` goes on there.

Exit codes: 0 if recovery would accept the log, 1 if it would refuse it, 74 if it cannot be read.

Examples:
  Up to which time has every pane been merged?
    corefold inspect panes /var/lib/corefold | tail -1

  The pulls, for a program:
    corefold inspect panes /var/lib/corefold --json | jq 'select(.type == \"pulled\")'";

const INSPECT_MANIFEST_EXAMPLES: &str = "\
Nothing is changed or locked, so it may be used while an engine runs. At the end stands what a start would decide.

Exit codes: 0 if a start would accept it (a torn last line included), 1 if it would refuse, 74 if it cannot be read.

Examples:
  What is committed, and how far has each file come?
    corefold inspect manifest /var/lib/corefold

  Files that are complete, for a program:
    corefold inspect manifest /var/lib/corefold --json | jq -r 'select(.facts.state == \"complete\") | .facts.file'";

/// `corefold aggregate`.
#[derive(Args, Clone, PartialEq, Debug)]
#[command(after_help = AGGREGATE_EXAMPLES)]
pub struct AggregateArgs {
    /// Files to read: paths, patterns such as 'logs/*.csv', or `-` for standard input. Files ending in `.gz` and
    /// `.zst` are unpacked
    #[arg(required = true, value_name = "INPUT", help_heading = "Input")]
    pub inputs: Vec<String>,

    /// Column that holds the event time: RFC 3339 text (UTC unless it names a zone), a timestamp, or a whole number
    #[arg(long, value_name = "COLUMN", help_heading = "Input")]
    pub time: String,

    /// Unit of whole-number times since 1970-01-01 UTC; needed for such columns [default: none]
    #[arg(long, value_name = "UNIT", help_heading = "Input")]
    pub time_unit: Option<TimeUnit>,

    /// How late events may come: the watermark stays this far behind the highest time seen in a file. Later events
    /// are counted as late and left out
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = units::parse_duration,
          help_heading = "Input")]
    pub max_delay: Duration,

    /// Shape of the input; needed for standard input [default: by the file's extension]
    #[arg(long, value_name = "FORMAT", help_heading = "Input")]
    pub format: Option<InputFormat>,

    /// Type of a column, as NAME:TYPE with TYPE string, i64, f64 or bool; may be repeated [default: inferred]
    #[arg(long = "field", value_name = "NAME:TYPE", value_parser = parse_field, help_heading = "Input")]
    pub fields: Vec<(String, TypeChoice)>,

    /// Texts that mean null besides the empty CSV field, comma-separated; may be repeated [default: none]
    #[arg(long = "null", value_name = "TEXTS", value_delimiter = ',', help_heading = "Input")]
    pub nulls: Vec<String>,

    /// Character between CSV fields; `\t` is a tab [default: a comma, a tab in .tsv files]
    #[arg(long, value_name = "CHARACTER", value_parser = config::parse_delimiter, help_heading = "Input")]
    pub delimiter: Option<u8>,

    /// What a row that cannot be read does: end the run, or be skipped and counted as rejected
    #[arg(long, value_name = "POLICY", value_enum, default_value_t, help_heading = "Input")]
    pub on_error: OnError,

    /// Columns to group by, comma-separated; may be repeated [default: none, one group for all rows]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', help_heading = "Query")]
    pub by: Vec<String>,

    /// Length of a window
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, help_heading = "Query")]
    pub window: Duration,

    /// Distance between the starts of windows; shorter than the window makes windows overlap [default: the window]
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, help_heading = "Query")]
    pub slide: Option<Duration>,

    /// Moves all window starts by this much against 1970-01-01T00:00:00Z
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = units::parse_duration,
          help_heading = "Query")]
    pub offset: Duration,

    /// What to compute per group and window, comma-separated; may be repeated
    #[arg(long = "agg", value_name = "EXPRESSIONS", required = true, help_heading = "Query")]
    pub aggregates: Vec<String>,

    /// Keep only rows for which this SQL expression is true [default: all rows]
    #[arg(long = "where", value_name = "EXPRESSION", help_heading = "Query")]
    pub filter: Option<String>,

    /// Most groups per pane and per window, from 1 to 1073741824
    #[arg(long, value_name = "COUNT", default_value_t = GROUPS_MAX_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=GROUPS_MAX_LIMIT as i64), help_heading = "Query")]
    pub max_groups: u32,

    /// What happens to groups past --max-groups: be folded into one group `__other__`, or end the run
    #[arg(long, value_name = "POLICY", value_enum, default_value_t, help_heading = "Query")]
    pub overflow: OverflowChoice,

    /// File for the result, written aside and renamed when complete; `-` is standard output
    #[arg(long, short, value_name = "PATH", default_value = "-", help_heading = "Output")]
    pub output: PathBuf,

    /// Shape of the result [default: by the file's extension; csv without one and on standard output]
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    pub output_format: Option<OutputFormat>,

    /// File for the events that came too late; its format is told by the extension [default: none, they are only
    /// counted]
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    pub late_output: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: ReportArgs,

    /// How many shards share the work, from 1 to 1024; `auto` is every allowed core but one
    #[arg(long, value_name = "COUNT", default_value = "auto", value_parser = parse_shards, help_heading = "Execution")]
    pub shards: AutoOr,

    /// How batches of rows are spread over the shards; never changes the result
    #[arg(long, value_name = "POLICY", value_enum, default_value_t, help_heading = "Execution")]
    pub routing: Routing,

    /// Directory that makes the run durable: the same command can go on there after a crash [default: none]
    #[arg(long, value_name = "DIR", help_heading = "Execution")]
    pub data_dir: Option<PathBuf>,

    /// When an event counts as safe: on stable storage, written to the operating system, or at once without a log
    /// [default: sync with --data-dir, otherwise none]
    #[arg(long, value_name = "MODE", help_heading = "Execution")]
    pub durability: Option<Durability>,

    /// Most rows per batch, from 1 to 65536; never changes the result
    #[arg(long, value_name = "ROWS", default_value_t = BATCH_ROWS_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=BATCH_ROWS_MAX as i64), help_heading = "Execution")]
    pub batch_rows: u32,

    /// How often finished slices of time are collected from the shards, from 1ms to 1h
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = parse_pull_interval,
          help_heading = "Execution")]
    pub pull_interval: Duration,
}

/// What is told on standard error while a command works.
#[derive(Args, Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReportArgs {
    /// Progress on standard error: `auto` draws a bar on a terminal and writes plain lines otherwise, `always` draws
    /// the bar anyway, `never` shows none
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, help_heading = "Output")]
    pub progress: ProgressMode,

    /// Neither progress nor summary, only warnings and errors
    #[arg(long, short, help_heading = "Output")]
    pub quiet: bool,
}

/// When to draw a progress bar.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum ProgressMode {
    /// A bar on a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// A bar.
    Always,
    /// Nothing.
    Never,
}

/// `corefold run`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Example:\n  corefold run engine.toml\n\nStop it with Ctrl-C or SIGTERM: it finishes what \
                        it has accepted and ends with exit code 0.")]
pub struct RunArgs {
    /// Configuration file (TOML); every key is described in docs/config.md
    #[arg(value_name = "CONFIG")]
    pub config: PathBuf,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: ReportArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub profile: ProfileArgs,
}

/// `corefold check`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Example:\n  corefold check engine.toml\n\nEvery fault is named with its line and column. \
                        Exit code 0 if there is none, 78 otherwise.")]
pub struct CheckArgs {
    /// Configuration file (TOML) to check, form and meaning
    #[arg(value_name = "CONFIG")]
    pub config: PathBuf,
}

/// `corefold inspect`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub struct InspectArgs {
    /// What to look into.
    #[command(subcommand)]
    pub what: InspectWhat,
}

/// What can be looked into.
#[derive(Subcommand, Clone, PartialEq, Eq, Debug)]
pub enum InspectWhat {
    /// List the blocks and records of a write-ahead log
    #[command(after_help = INSPECT_WAL_EXAMPLES)]
    Wal(InspectPath),
    /// List the chunks of shards' snapshots
    #[command(after_help = INSPECT_SNAPSHOT_EXAMPLES)]
    Snapshot(InspectSnapshot),
    /// List the merged panes and the pulls of the pane log
    #[command(after_help = INSPECT_PANES_EXAMPLES)]
    Panes(InspectPanes),
    /// List what is committed in the output files of `corefold run`
    #[command(after_help = INSPECT_MANIFEST_EXAMPLES)]
    Manifest(InspectManifest),
}

/// Snapshots to look into.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub struct InspectSnapshot {
    /// A data directory, the directory of one shard, or one snapshot file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    /// Only this shard of a data directory [default: all]
    #[arg(long, value_name = "NUMBER")]
    pub shard: Option<u32>,

    /// Print one JSON object a line instead of text
    #[arg(long)]
    pub json: bool,
}

/// A pane log to look into.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub struct InspectPanes {
    /// A data directory, or its directory `panes`
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    /// Print one JSON object a line instead of text
    #[arg(long)]
    pub json: bool,
}

/// A manifest to look into.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub struct InspectManifest {
    /// A data directory, or the file `manifest.ndjson`
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    /// Print one JSON object a line instead of text
    #[arg(long)]
    pub json: bool,
}

/// A path to look into.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub struct InspectPath {
    /// A data directory, the log directory of one shard, or one segment file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    /// How far to go into the segments
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t)]
    pub detail: InspectDetail,

    /// Only this shard of a data directory [default: all]
    #[arg(long, value_name = "NUMBER")]
    pub shard: Option<u32>,

    /// Print one JSON object a line instead of text
    #[arg(long)]
    pub json: bool,
}

/// How far to go into segments.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, ValueEnum)]
pub enum InspectDetail {
    /// Headers, sums and the end of each log.
    Segments,
    /// Also every block, and what lies where there is none.
    #[default]
    Blocks,
    /// Also every entry of every block, and what batches say of themselves.
    Records,
}

/// `corefold verify`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Example:\n  corefold verify state/\n\nReads the whole directory and the outputs that it names; \
                        no engine may run on it meanwhile. Exit code 0 if\nall is sound, 1 if something is not, 74 if \
                        something cannot be read."
)]
pub struct VerifyArgs {
    /// Data directory to check: snapshots, logs, pane log, outputs
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// Print one JSON object a line instead of text
    #[arg(long)]
    pub json: bool,
}

/// `corefold salvage`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples:\n  See what would be lost:\n    corefold salvage state/\n\n  Give it up:\n    corefold \
                        salvage state/ --yes\n\nNothing is deleted: damaged files stay beside the log as `*.damaged`, and \
                        `salvaged.ndjson` says what was\ngiven up. Exit code 0 if there is nothing to do or all is done, 1 \
                        if something would be lost, 74 if\nthe directory cannot be read."
)]
pub struct SalvageArgs {
    /// Data directory that an engine refuses to start with
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// Give up what cannot be read, after all [default: only tell]
    #[arg(long)]
    pub yes: bool,
}

/// `corefold doctor`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Example:\n  corefold doctor --data-dir /var/lib/corefold --shards 4\n\nEach line begins with \
                        ok, warn or FAIL and says what to do. Exit code 0 if the engine can run, 1 if not.")]
pub struct DoctorArgs {
    /// Directory meant for --data-dir or `data_dir`: its file system is checked too [default: none]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// How many shards the memory limit must suffice for, from 1 to 1024; `auto` is every allowed core but one
    #[arg(long, value_name = "COUNT", default_value = "auto", value_parser = parse_shards)]
    pub shards: AutoOr,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// `corefold completions`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Example:\n  corefold completions bash > ~/.local/share/bash-completion/completions/corefold")]
pub struct CompletionsArgs {
    /// Shell to write the script for
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// `corefold man`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Example:\n  corefold man aggregate | man -l -")]
pub struct ManArgs {
    /// Command to print the page of, such as `aggregate` or `inspect wal` [default: the page of corefold itself]
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Reads `auto` or a number of shards.
fn parse_shards(text: &str) -> Result<AutoOr, String> {
    if text == "auto" {
        return Ok(AutoOr::Auto);
    }
    match text.parse() {
        Ok(count) if (1..=SHARDS_MAX).contains(&count) => Ok(AutoOr::Fixed(count)),
        _ => Err(format!("expected `auto` or a number from 1 to {SHARDS_MAX}")),
    }
}

fn parse_pull_interval(text: &str) -> Result<Duration, String> {
    units::parse_duration_within(text, PULL_INTERVAL_MIN..=PULL_INTERVAL_MAX)
}

/// Reads `NAME:TYPE`. The last colon counts, so names may hold colons.
pub(super) fn parse_field(text: &str) -> Result<(String, TypeChoice), String> {
    let known = || names::<TypeChoice>().join(", ");
    match text.rsplit_once(':') {
        None | Some(("", _)) => Err(format!("expected NAME:TYPE, with TYPE one of {}", known())),
        Some((name, kind)) => match by_name(kind) {
            Some(kind) => Ok((name.to_owned(), kind)),
            None => Err(format!("unknown type `{kind}`; expected one of {}", known())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_declared_with_the_last_colon() {
        assert_eq!(parse_field("a:i64"), Ok(("a".into(), TypeChoice::I64)));
        assert_eq!(parse_field("a:b:string"), Ok(("a:b".into(), TypeChoice::String)));
        for text in ["a", ":i64", "a:", "a:int", "a:I64"] {
            assert!(parse_field(text).unwrap_err().contains("string, i64, f64, bool"), "{text}");
        }
    }

    #[test]
    fn shards_are_counted_or_auto() {
        assert_eq!(parse_shards("auto"), Ok(AutoOr::Auto));
        assert_eq!(parse_shards("1024"), Ok(AutoOr::Fixed(1024)));
        for text in ["0", "1025", "-1", "", "x"] {
            assert!(parse_shards(text).is_err(), "{text}");
        }
    }
}
