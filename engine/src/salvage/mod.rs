//! `corefold salvage`: what of a data directory recovery refuses, what giving that up would cost, and, on an explicit
//! order, giving it up.
//!
//! Nothing is deleted: what is given up is set aside under the name `….damaged`. Whether a log is sound is recovery's
//! judgement and not made here.

mod carry;
mod text;

use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

use corefold_shards::wal::{
    LogEnd, LogIdentity, Recovered, RecoveryError, RefusalReason, ScanOptions, ScanPolicy, scan,
};

use crate::disk::{DiskError, LogDirectory, Store};
use crate::exit::ExitCode;

/// Why a salvage ends before its work is done.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The directory cannot be read or written, or is in use.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A log cannot be read.
    #[error(transparent)]
    Log(#[from] RecoveryError),
    /// A repair did not do what it should: the log is refused as before.
    #[error("{name} is refused even after its repair: {error}; the files that were set aside hold all that was there")]
    NotRepaired {
        /// Which log.
        name: String,
        /// What recovery says.
        error: RecoveryError,
    },
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
            SalvageError::NotRepaired { .. } => ExitCode::Failure,
            SalvageError::Disk(_) | SalvageError::Log(_) | SalvageError::Output(_) => ExitCode::Io,
        }
    }
}

/// One log of the directory.
#[derive(Debug)]
struct LogPlace {
    /// What people call it: `shard 3`.
    name: String,
    directory: LogDirectory,
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
    /// Nothing of it can be read in order: only giving it all up helps.
    Empty {
        /// Why it is refused.
        refusal: RecoveryError,
        /// What stands in the way of cutting it; nothing where nothing is left.
        also: Option<RefusalReason>,
    },
    /// It is not this store's, or of another version: nothing that a salvage may touch.
    Foreign(RecoveryError),
}

impl Finding {
    fn is_sound(&self) -> bool {
        matches!(self, Finding::Sound(_))
    }
}

/// Looks through the data directory in `root`, tells what of it would be lost, and with `yes` gives that up.
///
/// 0 if there is nothing to do or all is done, 1 if something is refused.
pub fn salvage(root: &Path, yes: bool, out: &mut dyn Write) -> Result<ExitCode, SalvageError> {
    let store = Store::open_for_looking(root)?;
    let pending = carry::pending(root)?;
    let mut logs = Vec::new();
    for log in places(&store)? {
        let finding = examine(&log, pending.contains(&log.name))?;
        text::log(out, &log, &finding).map_err(SalvageError::Output)?;
        logs.push((log, finding));
    }
    let foreign = logs.iter().any(|(_, finding)| matches!(finding, Finding::Foreign(_)));
    let damaged: Vec<(LogPlace, Finding)> = logs.into_iter().filter(|(_, finding)| !finding.is_sound()).collect();
    let ending = match (damaged.is_empty() && pending.is_empty(), foreign, yes) {
        (true, ..) => text::Ending::Nothing,
        (false, true, _) => text::Ending::Foreign,
        (false, false, false) => text::Ending::Asked,
        (false, false, true) => {
            carry::give_up(&store, &damaged)?;
            text::Ending::Done
        }
    };
    text::ending(out, root, ending).map_err(SalvageError::Output)?;
    Ok(match ending {
        text::Ending::Nothing | text::Ending::Done => ExitCode::Done,
        text::Ending::Asked | text::Ending::Foreign => ExitCode::Failure,
    })
}

/// Every log of the store.
fn places(store: &Store) -> Result<Vec<LogPlace>, DiskError> {
    let place = |name: String, path: PathBuf, shard| {
        let directory = LogDirectory::new(path.join("wal"), LogIdentity { store: store.uuid(), shard });
        LogPlace { name, directory }
    };
    let mut places: Vec<LogPlace> = store
        .shards()?
        .into_iter()
        .map(|shard| place(format!("shard {shard}"), store.shard_path(shard), shard))
        .collect();
    places.retain(|log| log.directory.path().is_dir());
    Ok(places)
}

/// Asks recovery, first as a start would, then with the leave to cut.
fn examine(log: &LogPlace, is_pending: bool) -> Result<Finding, SalvageError> {
    let mut files = log.directory.files_as_they_are()?;
    let options = ScanOptions::new(log.directory.identity());
    let refusal = match scan::<_, RecoveryError, _>(&mut files, &options, |_| Ok(())) {
        Ok(recovered) if is_pending => return Ok(Finding::Unrecorded(Box::new(recovered))),
        Ok(recovered) => return Ok(Finding::Sound(Box::new(recovered))),
        Err(refusal @ RecoveryError::Refused { .. }) => refusal,
        Err(error) => return Err(error.into()),
    };
    let options = ScanOptions { policy: ScanPolicy::Salvage, ..options };
    match scan::<_, RecoveryError, _>(&mut files, &options, |_| Ok(())) {
        Ok(kept) if kept.end == LogEnd::Salvaged => Ok(Finding::Cut { refusal, kept: Box::new(kept) }),
        // Spares without the log that they were made for.
        Ok(_) => Ok(Finding::Empty { refusal, also: None }),
        Err(error @ RecoveryError::Refused { reason, .. }) => Ok(match reason {
            RefusalReason::OtherStore
            | RefusalReason::OtherShard { .. }
            | RefusalReason::OtherSegment { .. }
            | RefusalReason::OtherVersion { .. } => Finding::Foreign(error),
            also => Finding::Empty { refusal, also: Some(also) },
        }),
        Err(error) => Err(error.into()),
    }
}
