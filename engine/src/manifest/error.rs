//! Why a manifest is refused, in sentences for the person who runs the engine.
//!
//! What is wrong with an output that a manifest names is said elsewhere, in [`crate::export`].

use std::io;
use std::path::PathBuf;

/// Why a manifest cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file system refused.
    #[error("cannot {operation} the manifest {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line in the middle is damaged.
    #[error(
        "the manifest {} is damaged: line {line} (byte {offset}): {fault}; a crash can only damage the last line, so \
         restore the file from a copy, or begin anew with another data directory and other outputs (`corefold \
         inspect manifest` shows every line)",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// Where it starts.
        offset: u64,
        /// What is wrong with it.
        fault: String,
    },
    /// The manifest of another data directory.
    #[error(
        "the manifest {} belongs to the data directory with UUID {found}, but this one has {expected}; put the right \
         file in its place",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The UUID of the directory that it is in.
        expected: String,
        /// The UUID that it names.
        found: String,
    },
    /// There is none, though there was one.
    #[error(
        "the manifest {} is missing, so that it is not known how far the outputs are written; restore it from a copy, \
         or begin anew with another data directory and other outputs",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A write or a sync has failed before.
    #[error("the manifest {} takes no more lines since a write to it failed", path.display())]
    Latched {
        /// The file.
        path: PathBuf,
    },
}

impl ManifestError {
    /// Puts an I/O error into words.
    pub(crate) fn io(operation: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> ManifestError {
        let path = path.to_path_buf();
        move |source| ManifestError::Io { operation, path, source }
    }
}
