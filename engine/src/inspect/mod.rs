//! `corefold inspect`: what the engine's files hold, as text for people or JSON for programs.
//!
//! Looks without touching: nothing is created, locked, repaired or deleted, and a running engine is not disturbed.
//! Judging a log is recovery's; its table is only asked here.

mod entries;
mod event;
mod files;
mod json;
mod manifest;
mod panes;
mod place;
mod report;
mod snapshot;
mod text;
mod verdict;
mod wal;

pub use manifest::manifest;
pub use panes::panes;
pub use snapshot::snapshot;
pub use wal::wal;

use std::io;
use std::path::PathBuf;

use crate::cli::args::{InspectDetail, InspectPath};
use crate::exit::ExitCode;

/// How much is told, and in which form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InspectOptions {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// Only this shard of a data directory.
    pub shard: Option<u32>,
    /// How far into the segments to go.
    pub detail: InspectDetail,
}

impl From<&InspectPath> for InspectOptions {
    fn from(args: &InspectPath) -> InspectOptions {
        InspectOptions { json: args.json, shard: args.shard, detail: args.detail }
    }
}

/// What was looked at and how it was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Inspected {
    /// Logs.
    pub logs: u64,
    /// Segments.
    pub segments: u64,
    /// Sound blocks.
    pub blocks: u64,
    /// Blocks of which something is wrong, whether or not a crash explains it.
    pub damaged: u64,
    /// Logs and stores that recovery would refuse.
    pub refused: u64,
    /// Files and directories that could not be read.
    pub unreadable: u64,
}

impl Inspected {
    /// 0 if recovery would accept it all, 74 if something could not be read, otherwise 1.
    pub fn exit_code(&self) -> ExitCode {
        match (self.unreadable, self.refused) {
            (0, 0) => ExitCode::Done,
            (0, _) => ExitCode::Failure,
            _ => ExitCode::Io,
        }
    }
}

/// Why nothing, or no more, can be told. Damage to a log is no error here: it is what is told.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The path cannot be read.
    #[error("cannot {operation} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no log at the path.
    #[error(
        "`{}` holds no log: it is neither a data directory (`store.json`, `shard-0000/wal`) nor a log directory \
         (`*.wal`); name one of these, or one segment file",
        path.display()
    )]
    NoLog {
        /// The path.
        path: PathBuf,
    },
    /// There is no pane log.
    #[error(
        "`{}` holds no pane log: a data directory has one (`panes/wal`) once `corefold run` has used it",
        path.display()
    )]
    NoPanes {
        /// The path.
        path: PathBuf,
    },
    /// There is no manifest in the directory.
    #[error(
        "`{}` holds no manifest: a data directory has one (`manifest.ndjson`) once `corefold run` has used it",
        path.display()
    )]
    NoManifest {
        /// The path.
        path: PathBuf,
    },
    /// `--shard` for something that is no data directory.
    #[error("--shard chooses among the shards of a data directory, but `{}` is none; leave --shard out", path.display())]
    NoShards {
        /// The path.
        path: PathBuf,
    },
    /// A shard that is not there.
    #[error("`{}` has no shard {shard}; it has {present}", path.display())]
    NoSuchShard {
        /// The data directory.
        path: PathBuf,
        /// What was asked for.
        shard: u32,
        /// What there is.
        present: String,
    },
    /// What was found cannot be written down.
    #[error("cannot write what was found: {0}")]
    Output(#[source] io::Error),
}

impl InspectError {
    /// The exit code it stands for.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            InspectError::Io { .. }
            | InspectError::NoLog { .. }
            | InspectError::NoPanes { .. }
            | InspectError::NoManifest { .. }
            | InspectError::Output(_) => ExitCode::Io,
            InspectError::NoShards { .. } | InspectError::NoSuchShard { .. } => ExitCode::Usage,
        }
    }

    /// Whether nobody reads the output any more: a quiet end, not a failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, InspectError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
