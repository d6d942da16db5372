//! Why an export fails, in sentences for the person who asked for it.
//!
//! Exit codes are not chosen here; the binary maps these reasons to them.

use crate::manifest::ManifestError;
use std::io;
use std::path::{Path, PathBuf};

/// Why an export could not be opened, written or finished. Nothing is left behind after any of them but what is
/// committed in a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The output path names a directory.
    #[error("cannot write to {path}: it is a directory; name a file in it, such as {}", path.join("out.csv").display())]
    IsDirectory {
        /// The path asked for.
        path: PathBuf,
    },
    /// Parts go into a directory, but the path names something else.
    #[error("cannot write parts into {path}: it is not a directory; name a new or an existing directory")]
    NotDirectory {
        /// The path asked for.
        path: PathBuf,
    },
    /// A directory above the output is missing and cannot be made.
    #[error("cannot create the directory {path} for the output: {cause}")]
    CreateDirectory {
        /// The directory that could not be made.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The output cannot be opened.
    #[error("cannot write {path}: {cause}{}", open_hint(path, cause))]
    Open {
        /// The path asked for.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// This process already writes that file.
    #[error("{path} is already being written by this run; give every output a file of its own")]
    Busy {
        /// The path asked for.
        path: PathBuf,
    },
    /// Another process writes that file.
    #[error("{path} is being written by another process; wait for it to end, or choose another path")]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// The disk, the quota or the file size limit is exhausted.
    #[error("no space left for {path}: {cause}; {}, free some space and run again", rest(*is_committed))]
    DiskFull {
        /// The output.
        path: PathBuf,
        /// Whether what was committed of it is still there.
        is_committed: bool,
        /// What the system said.
        cause: io::Error,
    },
    /// A write failed.
    #[error("writing {path} failed: {cause}; {}", rest(*is_committed))]
    Write {
        /// The output.
        path: PathBuf,
        /// Whether what was committed of it is still there.
        is_committed: bool,
        /// What the system said.
        cause: io::Error,
    },
    /// The manifest cannot be read or written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file of which a beginning is committed is not there.
    #[error(
        "the unfinished output {aside} is missing, though {bytes} bytes of it are committed; restore it from a copy, \
         or give the export another path, where it goes on with the windows that are not committed yet"
    )]
    Missing {
        /// Where it was growing.
        aside: PathBuf,
        /// Committed bytes.
        bytes: u64,
    },
    /// A file of which a beginning is committed is not what it was.
    #[error(
        "the unfinished output {path} was changed since it was committed: {reason}; restore it from a copy, or give \
         the export another path, where it goes on with the windows that are not committed yet"
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The manifest knows the output under another view or format.
    #[error(
        "{export} was written {was} by this data directory and would now be written {now}; choose another path for it"
    )]
    OtherUse {
        /// The export.
        export: String,
        /// View and format as the manifest has them.
        was: String,
        /// View and format as they are asked for.
        now: String,
    },
    /// An unfinished file lies elsewhere than the manifest says.
    #[error("{found} is an unfinished output that belongs at {known}; move it back, or delete it if it is a copy")]
    Moved {
        /// Where it is.
        found: PathBuf,
        /// Where the manifest has it.
        known: String,
    },
    /// Names in a manifest are text.
    #[error("the path {path} is not UTF-8, so that the manifest cannot name it; choose another path")]
    NotText {
        /// The path asked for.
        path: PathBuf,
    },
    /// Rows that were committed came again otherwise, or rows that were not committed did not come.
    #[error(
        "{export} cannot be continued: {reason}; the outputs and this data directory do not belong together: restore both as they were at one time, or give the export another path"
    )]
    Discontinuous {
        /// The export.
        export: String,
        /// What was expected, and what came.
        reason: String,
    },
    /// The last steps failed: syncing, renaming or syncing the directory.
    #[error("{path} could not be {step}: {cause}")]
    Commit {
        /// The output.
        path: PathBuf,
        /// What was being done to it, as a participle.
        step: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// The reader of a pipe went away, as `| head` does. Not worth a message.
    #[error("the reader of the output is gone")]
    BrokenPipe,
    /// The file name does not tell the format.
    #[error("cannot tell the format of {path} from its name; {hint}")]
    UnknownFormat {
        /// The output.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// Sorted late rows could not be kept aside or read back.
    #[error("late rows kept aside in {directory} could not be {step}: {cause}")]
    Spill {
        /// Where the unnamed temporary file lives.
        directory: PathBuf,
        /// What was being done to them, as a participle.
        step: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// Values cannot be represented in the output format.
    #[error("rows for {path} do not fit its format: {reason}")]
    Encode {
        /// The output.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A batch does not have the columns of its schema: a fault of this program.
    #[error("internal error: exported rows do not match their schema: {reason}")]
    Shape {
        /// The first difference.
        reason: String,
    },
}

impl ExportError {
    /// Whether the reader simply went away, so the run may end without a message.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, ExportError::BrokenPipe)
    }

    /// What a failed write to `path` means.
    pub(super) fn from_write(path: &Path, cause: io::Error) -> ExportError {
        let (path, is_committed) = (path.to_path_buf(), false);
        match cause.kind() {
            io::ErrorKind::BrokenPipe => ExportError::BrokenPipe,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                ExportError::DiskFull { path, is_committed, cause }
            }
            _ => ExportError::Write { path, is_committed, cause },
        }
    }

    /// The same failure of an output that stays as it is committed.
    pub(super) fn of_committed(self) -> ExportError {
        match self {
            ExportError::DiskFull { path, cause, .. } => ExportError::DiskFull { path, is_committed: true, cause },
            ExportError::Write { path, cause, .. } => ExportError::Write { path, is_committed: true, cause },
            other => other,
        }
    }

    /// What a failed step of the commit of `path` means.
    pub(super) fn from_commit(path: &Path, step: &'static str, cause: io::Error) -> ExportError {
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ExportError::from_write(path, cause),
            _ => ExportError::Commit { path: path.to_path_buf(), step, cause },
        }
    }
}

fn rest(is_committed: bool) -> &'static str {
    match is_committed {
        true => "what was committed of it is kept",
        false => "the incomplete output was removed",
    }
}

fn open_hint(path: &Path, cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            format!("; make the directory {} writable or choose another output", directory.display())
        }
        io::ErrorKind::ReadOnlyFilesystem => String::from("; choose an output on a writable file system"),
        io::ErrorKind::InvalidFilename => String::from("; choose a shorter file name"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_errors_are_told_apart() {
        let path = Path::new("/data/out.csv");
        let of = |code| ExportError::from_write(path, io::Error::from_raw_os_error(code));
        assert!(of(libc::EPIPE).is_broken_pipe());
        assert!(matches!(of(libc::ENOSPC), ExportError::DiskFull { .. }));
        assert!(matches!(of(libc::EDQUOT), ExportError::DiskFull { .. }));
        assert!(matches!(of(libc::EIO), ExportError::Write { .. }));
        assert!(of(libc::ENOSPC).to_string().starts_with("no space left for /data/out.csv: "));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let denied =
            ExportError::Open { path: PathBuf::from("out.csv"), cause: io::Error::from_raw_os_error(libc::EACCES) };
        assert!(denied.to_string().ends_with("; make the directory . writable or choose another output"), "{denied}");
        let directory = ExportError::IsDirectory { path: PathBuf::from("results") };
        assert!(directory.to_string().contains("such as results/out.csv"), "{directory}");
    }
}
