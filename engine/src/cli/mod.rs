//! The command line of `corefold`: what may be typed, and how it is explained.
//!
//! Nothing is carried out here. [`args`] and its neighbours say what was typed, [`job`] what is true about an
//! `aggregate` command; the binary calls what does the work.

pub mod args;
pub mod job;
pub mod manual;
pub mod profile;
pub mod security;
pub mod send;

use clap::{Parser, Subcommand};

use args::{
    AggregateArgs, CheckArgs, CompletionsArgs, DoctorArgs, InspectArgs, ManArgs, RunArgs, SalvageArgs, VerifyArgs,
};
use send::SendArgs;

/// What stands below the list of commands.
const AFTER_HELP: &str = "\
Examples:
  Mean delay per airport, in windows of six hours that begin every hour:
    corefold aggregate flights.csv.zst --time time --by origin --window 6h --slide 1h \\
        --agg 'count(), mean(dep_delay)' --output delays.csv

  Check a configuration, then run it:
    corefold check engine.toml && corefold run engine.toml

  See whether this machine is fit for it:
    corefold doctor --data-dir /var/lib/corefold

Durations are written 100ms, 30s, 5m, 6h, 7d, 1h30m; sizes 64MiB, 128MB.
Exit codes: 0 done, 1 runtime failure, 2 wrong command line, 65 bad input data, 74 I/O error,
78 bad configuration.";

/// Windowed aggregation of event streams, one shard per core.
///
/// Corefold groups timestamped rows by columns and time windows and computes counts, sums, quantiles and more.
/// Results are exact about lateness and do not depend on the number of cores; with a data directory they survive
/// crashes.
#[derive(Parser, Clone, PartialEq, Debug)]
#[command(name = "corefold", version, after_help = AFTER_HELP, arg_required_else_help = true, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Clone, PartialEq, Debug)]
pub enum Command {
    /// Aggregate files (or standard input) with one command
    Aggregate(Box<AggregateArgs>),
    /// Run an engine as a configuration file describes it
    Run(RunArgs),
    /// Send files (or standard input) to a running engine
    Send(Box<SendArgs>),
    /// Check a configuration file without running it
    Check(CheckArgs),
    /// Look into files that the engine wrote
    Inspect(InspectArgs),
    /// Check every checksum of a data directory and add up its ledger
    Verify(VerifyArgs),
    /// Tell what of a damaged data directory would be lost, and give it up on order
    Salvage(SalvageArgs),
    /// Report what this machine can and cannot do for the engine
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print a manual page
    Man(ManArgs),
}

/// A command line whose parts do not fit together. Exit code 2.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl UsageError {
    /// The same error in clap's clothes, so that it is printed (with the usage line) and exits like clap's own.
    pub fn into_clap(self, command: &str) -> clap::Error {
        let mut root = manual::command();
        root.build();
        match root.find_subcommand_mut(command) {
            Some(command) => command.error(clap::error::ErrorKind::ValueValidation, self.0),
            None => root.error(clap::error::ErrorKind::ValueValidation, self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_consistent() {
        manual::command().debug_assert();
    }

    #[test]
    fn wrong_command_lines_exit_with_2() {
        for line in [
            "corefold",
            "corefold agregate",
            "corefold run",
            "corefold inspect wal",
            "corefold inspect snapshot",
            "corefold inspect panes a b",
            "corefold verify",
            "corefold salvage",
            "corefold salvage state --no",
            "corefold aggregate a.csv",
            "corefold aggregate a.csv --time t --window 5x --agg count()",
            "corefold aggregate a.csv --time t --window 5m --agg count() --shards 0",
            "corefold completions tcsh",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
        let error = UsageError("--slide does not fit".into()).into_clap("aggregate");
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains("--slide does not fit"), "{text}");
        assert!(text.contains("Usage: corefold aggregate"), "{text}");
    }

    #[test]
    fn help_is_no_error() {
        for line in ["corefold --help", "corefold help aggregate", "corefold --version", "corefold aggregate --help"] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).expect_err(line).exit_code(), 0, "{line}");
        }
    }
}
