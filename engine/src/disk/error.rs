//! What can go wrong with the data directory and the ring. A failed write of the log is no error of this kind: it is
//! reported to the appender, which latches.

use std::io;
use std::path::{Path, PathBuf};

use corefold_shards::wal::RecoveryError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A call on a file or directory failed.
    #[error("cannot {operation} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has the directory.
    #[error(
        "the data directory `{}` is in use by another process (or by one that was just killed and whose writes are still under way); stop it, or choose another directory",
        path.display()
    )]
    InUse {
        /// Which directory.
        path: PathBuf,
    },
    /// The directory is not what it should be.
    #[error("`{}` is no usable data directory: {reason}", path.display())]
    NotAStore {
        /// Which directory.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The file system or the kernel cannot keep the promise that was asked for.
    #[error("{reason}")]
    Unsuitable {
        /// What is missing and what to do.
        reason: String,
    },
    /// The ring refused a call.
    #[error("io_uring: cannot {operation}: {source}")]
    Ring {
        /// What was tried, as a verb.
        operation: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The log cannot be read back.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

impl DiskError {
    /// For `map_err`: an I/O error with what was tried and on what.
    pub fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
        let path = path.to_path_buf();
        move |source| DiskError::Io { operation, path, source }
    }

    /// For `map_err`: a refused call of the ring.
    pub fn ring(operation: &'static str) -> impl FnOnce(io::Error) -> DiskError {
        move |source| DiskError::Ring { operation, source }
    }
}
