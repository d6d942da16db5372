//! Why a data directory cannot be used. What can be done about it is in each sentence.

use crate::disk::{DiskError, LogDirectory, Store};
use crate::exit::ExitCode;
use corefold_shards::pane_log::PaneLogError;
use corefold_shards::snapshot::SnapshotError;
use corefold_shards::wal::{RecoveryError, RefusalReason};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log is damaged in a way that a crash does not explain, or cannot be read.
    #[error(transparent)]
    Log(#[from] RecoveryError),
    /// The directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The directory is of another job.
    #[error(
        "{path} belongs to another job: {difference}; give that job's arguments to go on with it, or another --data-dir"
    )]
    OtherJob {
        /// The directory.
        path: String,
        /// The first difference.
        difference: String,
    },
    /// The directory is of another kind of job.
    #[error("{path} is the data directory of something else than this command; choose another --data-dir")]
    ForeignStore {
        /// The directory.
        path: String,
    },
    /// A record is no batch that this engine wrote.
    #[error(
        "{directory}: log record {lsn} is not a batch of this job: {what}; restore the directory from a copy, or begin anew with another data directory"
    )]
    Record {
        /// Directory of the shard.
        directory: String,
        /// Its last entry.
        lsn: u64,
        /// What is wrong.
        what: String,
    },
    /// A snapshot that was sound a moment ago, or one that must not be passed over.
    #[error("{file}: {error}; restore the file as it was, or move it elsewhere to begin without it")]
    Snapshot {
        /// Its path.
        file: String,
        /// What is wrong.
        error: SnapshotError,
    },
    /// No snapshot can be used and the log does not reach back to its beginning, or is empty.
    #[error(
        "{newest}; no older snapshot of the shard can be used, and its log alone does not tell all: {why}; restore a \
         snapshot, or give up what is lost with `corefold salvage`"
    )]
    NoSnapshot {
        /// What is wrong with the newest one.
        newest: String,
        /// What the log lacks.
        why: String,
    },
    /// The same, before anybody has looked what is wrong with the newest one.
    #[error("{directory}: all snapshots are damaged, and they may hold what shards of earlier runs have left")]
    SnapshotsDamaged {
        /// Directory of the shard's log.
        directory: String,
    },
    /// A snapshot is of a time that the pane log has not reached.
    #[error(
        "{directory}: the snapshot says that panes below {released} are in the pane log, which ends at {reached}; \
         restore the pane log (with durability \"os\" a power cut may lose its end)"
    )]
    PanesBehind {
        /// Directory of the shard.
        directory: String,
        /// Time in the snapshot.
        released: String,
        /// Time in the pane log.
        reached: String,
    },
    /// The pane log says something that it cannot.
    #[error(transparent)]
    Panes(#[from] PaneLogError),
}

impl RecoverError {
    /// The exit code it stands for.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            RecoverError::OtherJob { .. } | RecoverError::ForeignStore { .. } => ExitCode::Usage,
            _ => ExitCode::Io,
        }
    }

    /// Says more where the log of a shard begins too late: what is wrong with the snapshots that should cover its front.
    pub(super) fn of_shard(self, directory: &LogDirectory, shard: u32, store: &Store) -> RecoverError {
        let why = match self {
            RecoverError::SnapshotsDamaged { .. } => {
                "snapshots may hold what shards of earlier runs have left".to_owned()
            }
            RecoverError::Log(
                log @ RecoveryError::Refused { reason: RefusalReason::StartsLate { .. } | RefusalReason::Gone, .. },
            ) => log.to_string(),
            other => return other,
        };
        let newest = match super::snapshots::newest_fault(store, shard) {
            Ok(Some(fault)) => fault,
            _ => format!("{}: there is no snapshot", directory.path().display()),
        };
        RecoverError::NoSnapshot { newest, why }
    }
}
