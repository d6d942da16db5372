//! What each command does, from its arguments to its exit code.
//!
//! What may be typed is in [`crate::cli`]; the engine itself is launched by [`crate::launch`].

pub mod aggregate;
mod dealing;
pub mod identity;
pub mod profiling;
pub mod run;
pub mod send;
pub mod signals;

use crate::cli::UsageError;
use crate::cli::args::{ProgressMode, ReportArgs};
use crate::config::ConfigErrors;
use crate::disk::probe::{self, LockedMemory};
use crate::doctor::LOCKED_MEMORY_PER_EXECUTOR;
use crate::error::EngineError;
use crate::exit::ExitCode;
use crate::guard::catch;
use crate::inspect::InspectError;
use crate::launch::IO_MEMORY;
use crate::progress::ProgressStyleWanted;
use crate::salvage::SalvageError;
use crate::sql::SqlError;
use crate::verify::VerifyError;
use corefold_aggregator::spec::SpecError;
use corefold_client::SendError;
use glommio::{LocalExecutorBuilder, Placement};
use std::io::{IsTerminal, Write};

/// How a command speaks to the user: on standard error, or not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Console {
    /// Neither progress nor summary.
    pub quiet: bool,
    /// How progress is shown.
    pub progress: ProgressStyleWanted,
}

impl Console {
    /// As the arguments ask.
    pub fn new(progress: ProgressMode, quiet: bool) -> Console {
        let progress = match progress {
            _ if quiet => ProgressStyleWanted::Nothing,
            ProgressMode::Never => ProgressStyleWanted::Nothing,
            ProgressMode::Always => ProgressStyleWanted::Bar,
            ProgressMode::Auto if std::io::stderr().is_terminal() => ProgressStyleWanted::Bar,
            ProgressMode::Auto => ProgressStyleWanted::Lines,
        };
        Console { quiet, progress }
    }

    /// Says something, unless the user wants silence.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            // Nobody is left to hear that standard error is gone.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}

impl From<&ReportArgs> for Console {
    fn from(args: &ReportArgs) -> Console {
        Console::new(args.progress, args.quiet)
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The engine stopped.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An argument.
    #[error("{option}: {error}")]
    Expression {
        /// Which option.
        option: &'static str,
        /// What is wrong with it.
        error: SqlError,
    },
    /// A view that cannot be computed.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Arguments that do not fit each other.
    #[error("{}", .0.0)]
    Usage(UsageError),
    /// A config file.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A look into a log.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// A look at all checksums.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A server.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A salvage.
    #[error(transparent)]
    Salvage(#[from] SalvageError),
    /// Standard output.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl CommandError {
    /// Whether nobody reads standard output any more: a quiet end, not a failure.
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            CommandError::Engine(EngineError::Export(error)) => error.is_broken_pipe(),
            CommandError::Inspect(error) => error.is_broken_pipe(),
            CommandError::Salvage(error) => error.is_broken_pipe(),
            CommandError::Verify(error) => error.is_broken_pipe(),
            CommandError::Output(error) => error.kind() == std::io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }

    /// The exit code it stands for.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            CommandError::Engine(error) => error.exit_code(),
            CommandError::Expression { .. } | CommandError::Spec(_) | CommandError::Usage(_) => ExitCode::Usage,
            CommandError::Config(errors) => errors.exit_code(),
            CommandError::Inspect(error) => error.exit_code(),
            CommandError::Salvage(error) => error.exit_code(),
            CommandError::Send(error) => match error.root() {
                SendError::GaveUp { .. } | SendError::System(_) => ExitCode::Io,
                SendError::Encode(_) | SendError::Row(_) => ExitCode::BadData,
                SendError::Settings(_) => ExitCode::Usage,
                _ => ExitCode::Failure,
            },
            CommandError::Verify(error) => error.exit_code(),
            CommandError::Output(_) => ExitCode::Io,
        }
    }
}

impl<E> From<E> for CommandError
where
    E: IntoEngineError,
{
    fn from(error: E) -> CommandError {
        CommandError::Engine(error.into_engine_error())
    }
}

/// Refuses to launch where an executor could not start. The first one of a process panics if it cannot, so it is made
/// and dropped here, where that becomes a sentence.
fn check_machine() -> Result<(), EngineError> {
    // Executors ask for this much whoever runs them, exempt or not.
    let memory = LockedMemory { is_exempt: false, ..LockedMemory::look(LOCKED_MEMORY_PER_EXECUTOR) };
    let made = || match catch(|| LocalExecutorBuilder::new(Placement::Unbound).io_memory(IO_MEMORY).make().map(drop)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{error}; most likely too little locked memory is left (`ulimit -l`)")),
        Err(_) => {
            Err("the kernel refuses a ring; most likely too little locked memory is left (`ulimit -l`)".to_owned())
        }
    };
    memory.suffices().and_then(|()| probe::io_uring()).and_then(|()| made()).map_err(|reason| EngineError::Executor {
        what: "the engine".to_owned(),
        reason,
        advice: "`corefold doctor` tells all that this machine lacks",
    })
}

/// Errors that reach a command through the engine's own.
pub trait IntoEngineError {
    /// As the engine's error.
    fn into_engine_error(self) -> EngineError;
}

macro_rules! into_engine_error {
    ($($error:ty),*) => {
        $(impl IntoEngineError for $error {
            fn into_engine_error(self) -> EngineError {
                self.into()
            }
        })*
    };
}

into_engine_error!(
    crate::source::error::SourceError,
    crate::export::ExportError,
    crate::disk::DiskError,
    crate::recover::RecoverError,
    crate::topology::TopologyError
);
