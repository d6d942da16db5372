//! The segment files of one log: their names, how they are opened, read back and deleted. Creating them is
//! [`super::keeper`]'s.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use corefold_shards::wal::{LogIdentity, SegmentId, SegmentSource};

use super::directory::sync_directory;
use super::error::DiskError;

/// A directory with the segments of one log.
#[derive(Clone, Debug)]
pub struct LogDirectory {
    path: PathBuf,
    identity: LogIdentity,
}

/// The segments of a log, ready to be read back: leftovers are gone and everything is on stable storage, so that
/// nothing is believed that a power cut could still take away.
#[derive(Debug)]
pub struct LogFiles {
    path: PathBuf,
    segments: Vec<SegmentId>,
    open: Option<(SegmentId, File)>,
}

impl LogDirectory {
    /// A log in `path`, which exists. For a shard of a store see [`super::Store::log_directory`].
    pub fn new(path: PathBuf, identity: LogIdentity) -> LogDirectory {
        LogDirectory { path, identity }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose log it is.
    pub fn identity(&self) -> LogIdentity {
        self.identity
    }

    /// Path of a segment.
    pub fn segment_path(&self, segment: SegmentId) -> PathBuf {
        self.path.join(segment.file_name())
    }

    /// Path under which a segment is made.
    pub fn temporary_path(&self, segment: SegmentId) -> PathBuf {
        self.path.join(format!("{}.tmp", segment.file_name()))
    }

    /// Gets the segments ready to be read back. Only the owner of the store may do that.
    pub fn files(&self) -> Result<LogFiles, DiskError> {
        let files = self.files_as_they_are()?;
        for entry in fs::read_dir(&self.path).map_err(DiskError::io("list", &self.path))? {
            let path = entry.map_err(DiskError::io("list", &self.path))?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(&path).map_err(DiskError::io("delete", &path))?;
            }
        }
        for &segment in &files.segments {
            let path = self.segment_path(segment);
            File::open(&path).and_then(|file| file.sync_data()).map_err(DiskError::io("sync", &path))?;
        }
        sync_directory(&self.path)?;
        Ok(files)
    }

    /// The segments as they are, for looking without touching.
    pub fn files_as_they_are(&self) -> Result<LogFiles, DiskError> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(DiskError::io("list", &self.path))? {
            let path = entry.map_err(DiskError::io("list", &self.path))?.path();
            if path.extension().is_none_or(|extension| extension != "wal") {
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str());
            let segment = name.and_then(SegmentId::parse_file_name).ok_or_else(|| DiskError::NotAStore {
                path: self.path.clone(),
                reason: format!("`{}` is not how a segment is called (twenty digits and `.wal`)", path.display()),
            })?;
            segments.push(segment);
        }
        segments.sort_unstable();
        Ok(LogFiles { path: self.path.clone(), segments, open: None })
    }

    /// Deletes segments in the order given, each durably before the next.
    pub fn discard(&self, segments: &[SegmentId]) -> Result<(), DiskError> {
        for &segment in segments {
            let path = self.segment_path(segment);
            fs::remove_file(&path).map_err(DiskError::io("delete", &path))?;
            sync_directory(&self.path)?;
        }
        Ok(())
    }

    /// Opens a segment for writing; without O_DIRECT if the file system does not know it. Tells whether it is direct.
    pub fn open_segment(&self, segment: SegmentId, direct: bool) -> io::Result<(File, bool)> {
        open_for_blocks(&self.segment_path(segment), direct, false)
    }
}

/// Opens a file for whole blocks; see [`LogDirectory::open_segment`].
pub(super) fn open_for_blocks(path: &Path, direct: bool, create: bool) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(create).mode(0o644);
    if direct {
        match options.clone().custom_flags(libc::O_DIRECT).open(path) {
            Ok(file) => return Ok((file, true)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                // The failed call may have made the file.
                if create {
                    let _ = fs::remove_file(path);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok((options.open(path)?, false))
}

impl LogFiles {
    fn file(&mut self, segment: SegmentId) -> io::Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != segment) {
            self.open = Some((segment, File::open(self.path.join(segment.file_name()))?));
        }
        self.open.as_ref().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl LogFiles {
    /// Numbers of the segments, ascending.
    pub fn into_segments(self) -> Vec<SegmentId> {
        self.segments
    }
}

impl SegmentSource for LogFiles {
    fn list(&mut self) -> io::Result<Vec<SegmentId>> {
        Ok(self.segments.clone())
    }

    fn length(&mut self, segment: SegmentId) -> io::Result<u64> {
        Ok(self.file(segment)?.metadata()?.len())
    }

    fn read_at(&mut self, segment: SegmentId, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file(segment)?.read_at(into, offset)
    }

    fn name(&self, segment: SegmentId) -> String {
        self.path.join(segment.file_name()).display().to_string()
    }
}
