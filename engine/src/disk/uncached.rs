//! A new file whose bytes go to the disk in large pieces past the page cache: nobody copies them there, and the sync at the
//! end finds nothing to do.
//!
//! Nothing is durable by this: that is the sync's. Files that are read again, or continued, go through the page cache.

use rkyv::util::AlignedVec;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::fs::File;
use std::io::{self, ErrorKind, Write};

/// What memory, offsets and lengths of direct writes are multiples of: no disk asks for more.
const ALIGNMENT: usize = 4096;

/// Bytes that are written together.
const PIECE: usize = if cfg!(test) { 2 * ALIGNMENT } else { 1 << 20 };

/// Writes a file from its beginning; see the module.
#[derive(Debug)]
pub struct UncachedFile {
    file: File,
    /// What has come of the next piece.
    piece: AlignedVec<ALIGNMENT>,
    /// How pieces are written.
    way: Way,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Nothing has been written yet: small files never go direct.
    Untried,
    /// Past the page cache.
    Direct,
    /// Through it: the file system can do nothing else, or the rest of the file is no whole piece.
    Cached,
}

impl UncachedFile {
    /// A writer of `file`, which is empty.
    pub fn new(file: File) -> UncachedFile {
        UncachedFile { file, piece: AlignedVec::new(), way: Way::Untried }
    }

    /// The file. What is still to be written is not in it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes what no longer fits the piece under way. After a failure nobody knows what the file holds.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while self.piece.len() + bytes.len() >= PIECE {
            let (now, later) = bytes.split_at(PIECE - self.piece.len());
            self.piece.extend_from_slice(now);
            bytes = later;
            self.write_piece()?;
        }
        self.piece.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes the rest. More may follow.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.piece.is_empty() {
            // From here on nothing is aligned any more.
            self.be_cached()?;
            self.file.write_all(&self.piece)?;
            self.piece.clear();
        }
        Ok(())
    }

    fn write_piece(&mut self) -> io::Result<()> {
        if self.way == Way::Untried {
            let is_direct = fcntl_getfl(&self.file).and_then(|flags| fcntl_setfl(&self.file, flags | OFlags::DIRECT));
            self.way = if is_direct.is_ok() { Way::Direct } else { Way::Cached };
        }
        let mut written = 0;
        while written < PIECE {
            match self.file.write(&self.piece[written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                // The file system said that it can, and cannot, or has left off where it cannot go on.
                Err(cause) if cause.kind() == ErrorKind::InvalidInput && self.way == Way::Direct => self.be_cached()?,
                Err(cause) => return Err(cause),
            }
        }
        self.piece.clear();
        Ok(())
    }

    fn be_cached(&mut self) -> io::Result<()> {
        if self.way == Way::Direct {
            let flags = fcntl_getfl(&self.file)?;
            fcntl_setfl(&self.file, flags - OFlags::DIRECT)?;
        }
        self.way = Way::Cached;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Writes 100 KiB in steps of `step` bytes, and says how it was done.
    fn write(directory: &Path, step: usize, way: Way) -> Way {
        let bytes: Vec<u8> = (0..100 << 10).map(|at: u32| (at % 251) as u8).collect();
        let path = directory.join("file");
        let mut out = UncachedFile::new(File::create(&path).unwrap());
        out.way = way;
        for (index, part) in bytes.chunks(step).enumerate() {
            out.write(part).unwrap();
            if step == 7_001 && index == 9 {
                out.flush().unwrap();
            }
        }
        let way = out.way;
        out.flush().unwrap();
        assert!(fs::read(&path).unwrap() == bytes, "steps of {step}");
        assert!(!fcntl_getfl(out.file()).unwrap().contains(OFlags::DIRECT) || out.way == Way::Direct);
        way
    }

    #[test]
    fn a_file_holds_the_same_bytes_however_they_come_and_go() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        for step in [1, 100, ALIGNMENT, 7_000, 7_001, PIECE, PIECE + 1, 5 * PIECE, 100 << 10] {
            let tried = write(directory.path(), step, Way::Untried);
            assert!(tried != Way::Untried, "steps of {step}");
            assert_eq!(write(directory.path(), step, Way::Cached), Way::Cached);
        }
    }

    #[test]
    fn what_does_not_fill_a_piece_goes_through_the_page_cache() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let mut out = UncachedFile::new(File::create(directory.path().join("file")).unwrap());
        out.write(&[1; PIECE - 1]).unwrap();
        assert_eq!(out.file().metadata().unwrap().len(), 0);
        out.flush().unwrap();
        assert_eq!((out.file().metadata().unwrap().len(), out.way), (PIECE as u64 - 1, Way::Cached));
    }

    #[test]
    fn a_full_disk_is_told() {
        let mut out = UncachedFile::new(File::options().write(true).open("/dev/full").unwrap());
        let cause = out.write(&[0; PIECE]).unwrap_err();
        assert_eq!(cause.kind(), ErrorKind::StorageFull);
    }
}
