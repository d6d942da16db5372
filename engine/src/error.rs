//! Why a running engine stops, and which exit code that is.
//!
//! Wrong command lines and config files have errors of their own; they never reach a running engine.

use crate::disk::DiskError;
use crate::exit::ExitCode;
use crate::export::ExportError;
use crate::recover::RecoverError;
use crate::source::error::{Road, SourceError};
use crate::topology::TopologyError;
use corefold_aggregator::coordinator::CoordinatorError;
use corefold_aggregator::partial::PartialError;
use corefold_shards::shard::ShardError;
use corefold_shards::wal::WalError;

/// The first thing that went wrong in a running engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An input.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A shard.
    #[error("shard {shard}: {error}")]
    Shard {
        /// Which one.
        shard: usize,
        /// What happened.
        error: ShardError,
    },
    /// The coordinator.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    /// An output.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The data directory or the ring.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The pane log is latched.
    #[error("the pane log: {0}")]
    PaneLog(WalError),
    /// A pane cannot be written to the pane log, or read back.
    #[error("the pane log: {0}; this is a bug")]
    Pane(PartialError),
    /// Reading back what was durable.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// No log segment can be had.
    #[error(
        "the log of {whose} cannot go on: no room for another segment in {directory} ({reason}); free some space and \
         run the same command again, nothing that was accepted is lost"
    )]
    LogStalled {
        /// Whose log.
        whose: String,
        /// Its directory.
        directory: String,
        /// The operating system's word.
        reason: std::io::Error,
    },
    /// Outputs lack windows that are not there any more.
    #[error(
        "{}: by {} this output of the view `{view}` is committed up to {committed}, but the data directory only \
         has windows that end after {given}: the manifest is older than the panes; restore it as it was, or give the \
         export another path (nothing was changed)", output.display(), manifest.display()
    )]
    WindowsLost {
        /// File or directory of the export.
        output: std::path::PathBuf,
        /// The manifest.
        manifest: std::path::PathBuf,
        /// The view.
        view: String,
        /// Up to when the output is committed.
        committed: String,
        /// Up to when windows are gone.
        given: String,
    },
    /// The cores.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// An executor could not start.
    #[error("cannot start {what}: {reason}; {advice}")]
    Executor {
        /// Whose executor.
        what: String,
        /// What the executor said.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// The core of a shard cannot wait for what it has to wait for.
    #[error("shard {shard} cannot {operation}: {error}")]
    Wait {
        /// Number of the shard.
        shard: usize,
        /// What it wanted.
        operation: &'static str,
        /// The operating system's word.
        error: std::io::Error,
    },
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// The operating system's word.
        error: std::io::Error,
    },
    /// No tokens to hold requests against.
    #[error("{}: the tokens cannot be read: {what}", path.display())]
    Tokens {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        what: String,
    },
    /// What a listener proves itself by, or what producers prove themselves by.
    #[error(transparent)]
    Keys(#[from] crate::net::keys::KeyError),
    /// There are not so many ports.
    #[error("there are no ports for {shards} shards from {first} on; set sources.tcp.shard_ports lower")]
    ShardPorts {
        /// That of the first shard.
        first: u16,
        /// How many shards.
        shards: usize,
    },
    /// Everything in the data directory is final, and producers would come for nothing.
    #[error(
        "{}: its last run was drained: every window is final and in its outputs, and later events would all be late; use another data_dir",
        directory.display()
    )]
    Drained {
        /// The data directory.
        directory: std::path::PathBuf,
    },
    /// A thread could not start.
    #[error("cannot start the {what} thread: {error}")]
    Thread {
        /// Which one.
        what: &'static str,
        /// The operating system's word.
        error: std::io::Error,
    },
    /// Another thread has failed and told why.
    #[error("the engine has stopped")]
    Stopped,
    /// A signal asked the job to end before its input did.
    #[error("interrupted; {advice}")]
    Interrupted {
        /// What becomes of the work so far.
        advice: &'static str,
    },
    /// A broken invariant.
    #[error("{0}; this is a bug")]
    Bug(&'static str),
}

impl EngineError {
    /// The exit code it stands for.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            EngineError::Source(error) => match error.road() {
                Road::Data => ExitCode::BadData,
                Road::Io => ExitCode::Io,
                Road::Usage => ExitCode::Usage,
            },
            EngineError::Export(_)
            | EngineError::Disk(_)
            | EngineError::LogStalled { .. }
            | EngineError::Listen { .. }
            | EngineError::Tokens { .. }
            | EngineError::WindowsLost { .. } => ExitCode::Io,
            EngineError::Keys(_) | EngineError::ShardPorts { .. } => ExitCode::BadConfig,
            EngineError::Recover(error) => error.exit_code(),
            EngineError::Shard { error: ShardError::Wal(_), .. } | EngineError::PaneLog(_) => ExitCode::Io,
            EngineError::Pane(_)
            | EngineError::Shard { .. }
            | EngineError::Coordinator(_)
            | EngineError::Topology(_)
            | EngineError::Executor { .. }
            | EngineError::Thread { .. }
            | EngineError::Drained { .. }
            | EngineError::Stopped
            | EngineError::Interrupted { .. }
            | EngineError::Wait { .. }
            | EngineError::Bug(_) => ExitCode::Failure,
        }
    }
}
