//! `corefold salvage`: what of a data directory recovery refuses, what giving that up would cost, and, on an explicit
//! order, giving it up.
//!
//! Nothing is deleted: what is given up is set aside under the name `….damaged`. Whether a file is sound is recovery's
//! judgement and not made here.

mod carry;
mod examine;
mod text;

use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

use corefold_shards::wal::{Lsn, Recovered, RecoveryError};

use crate::disk::{DiskError, LogDirectory, Store};
use crate::exit::ExitCode;
use crate::recover::RecoverError;

/// Why a salvage ends before its work is done.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The directory cannot be read or written, or is in use.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A log cannot be read.
    #[error(transparent)]
    Log(#[from] RecoveryError),
    /// A repair did not do what it should: recovery refuses as before.
    #[error(
        "the directory is refused even after its repair: {0}; the files that were set aside hold all that was there"
    )]
    NotRepaired(RecoverError),
    /// What was found cannot be told.
    #[error("cannot write what was found: {0}")]
    Output(#[source] io::Error),
}

impl SalvageError {
    /// Whether nobody reads the output any more: a quiet end, not a failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, SalvageError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code it stands for.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            SalvageError::NotRepaired(_) => ExitCode::Failure,
            SalvageError::Disk(_) | SalvageError::Log(_) | SalvageError::Output(_) => ExitCode::Io,
        }
    }
}

/// One log of the directory, with the snapshots before it.
#[derive(Debug)]
struct Case {
    /// What people call it: `shard 3`.
    name: String,
    directory: LogDirectory,
    finding: Finding,
    /// The snapshot that recovery would begin with: its file, and the LSN it reaches.
    begin: Option<(PathBuf, Lsn)>,
    /// Snapshots that must go, each with the reason.
    aside: Vec<(PathBuf, String)>,
}

impl Case {
    fn is_sound(&self) -> bool {
        matches!(self.finding, Finding::Sound(_)) && self.aside.is_empty()
    }
}

/// What recovery says of a log, and what salvage can do about it.
#[derive(Debug)]
enum Finding {
    /// It would be accepted.
    Sound(Box<Recovered>),
    /// A salvage was begun and not ended: only the record of it is missing.
    Unrecorded(Box<Recovered>),
    /// It can be cut at the damage.
    Cut {
        /// Why it is refused.
        refusal: RecoveryError,
        /// What is left.
        kept: Box<Recovered>,
    },
    /// Nothing of it is of use behind the snapshot, if there is one: it begins anew.
    Anew {
        /// Why it is refused.
        refusal: String,
        /// What stands in the way of cutting it; nothing where nothing is left.
        also: Option<String>,
    },
    /// Nothing that a salvage may touch, or can make good: why, and what to do.
    Hopeless {
        /// Why it is refused.
        refusal: String,
        /// What to do.
        advice: &'static str,
    },
}

/// Looks through the data directory in `root`, tells what of it would be lost, and with `yes` gives that up.
///
/// 0 if there is nothing to do or all is done, 1 if something is refused.
pub fn salvage(root: &Path, yes: bool, out: &mut dyn Write) -> Result<ExitCode, SalvageError> {
    let store = Store::open_for_looking(root)?;
    let pending = carry::pending(root)?;
    let cases = examine::directory(&store, &pending)?;
    for case in &cases {
        text::case(out, case).map_err(SalvageError::Output)?;
    }
    let is_hopeless = cases.iter().any(|case| matches!(case.finding, Finding::Hopeless { .. }));
    let damaged: Vec<Case> = cases.into_iter().filter(|case| !case.is_sound()).collect();
    let ending = match (damaged.is_empty() && pending.is_empty(), is_hopeless, yes) {
        (true, ..) => text::Ending::Nothing,
        (false, true, _) => text::Ending::Hopeless,
        (false, false, false) => text::Ending::Asked,
        (false, false, true) => {
            carry::give_up(&store, &damaged)?;
            text::Ending::Done
        }
    };
    text::ending(out, root, ending).map_err(SalvageError::Output)?;
    Ok(match ending {
        text::Ending::Nothing | text::Ending::Done => ExitCode::Done,
        text::Ending::Asked | text::Ending::Hopeless => ExitCode::Failure,
    })
}
