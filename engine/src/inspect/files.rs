//! Segment files as they are, opened for reading only. Which files those are is [`super::place`]'s.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use corefold_shards::wal::{SegmentId, SegmentSource};

/// The segments of one log, or one file that stands for a log.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    paths: BTreeMap<SegmentId, PathBuf>,
    open: Option<(SegmentId, File)>,
}

impl Files {
    pub(super) fn new(directory: &Path, paths: BTreeMap<SegmentId, PathBuf>) -> Files {
        Files { directory: directory.to_path_buf(), paths, open: None }
    }

    /// Numbers of the segments, ascending.
    pub(super) fn segments(&self) -> Vec<SegmentId> {
        self.paths.keys().copied().collect()
    }

    /// Path of a segment; of a missing one the path it would have.
    pub(super) fn path(&self, segment: SegmentId) -> PathBuf {
        self.paths.get(&segment).cloned().unwrap_or_else(|| self.directory.join(segment.file_name()))
    }

    fn file(&mut self, segment: SegmentId) -> io::Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != segment) {
            let path = self.path(segment);
            // Opening a pipe would wait for a writer.
            if !fs::metadata(&path)?.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
            }
            self.open = Some((segment, File::open(path)?));
        }
        self.open.as_ref().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl SegmentSource for Files {
    fn list(&mut self) -> io::Result<Vec<SegmentId>> {
        Ok(self.segments())
    }

    fn length(&mut self, segment: SegmentId) -> io::Result<u64> {
        Ok(self.file(segment)?.metadata()?.len())
    }

    fn read_at(&mut self, segment: SegmentId, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file(segment)?.read_at(into, offset)
    }

    fn name(&self, segment: SegmentId) -> String {
        self.path(segment).display().to_string()
    }
}
