//! What recovery reads of a log on a simulated disk: its files, with the read errors that the seed wants.
//!
//! Writing them is [`super::disk`]'s.

use super::faults::{Fault, Faults};
use super::files::{Directory, Files, Name, Path};
use crate::entropy::Entropy;
use corefold_shards::wal::{SegmentId, SegmentSource};
use std::io;

const EIO: i32 = 5;

/// Segments of a log, in order.
pub fn segments_of(files: &Files, directory: Directory) -> Vec<SegmentId> {
    let names = files.list(directory).into_iter();
    names.filter_map(|name| if let Name::Segment(segment) = name { Some(segment) } else { None }).collect()
}

/// What recovery reads of a log: its files, with the read errors that the seed wants.
pub struct LogSource<'a> {
    files: &'a Files,
    directory: Directory,
    /// Reads until one fails, once.
    fails_once_in: Option<u64>,
    /// A place that cannot be read: how far into the segment whose turn it is.
    lasting: Option<(SegmentId, u64)>,
}

impl<'a> LogSource<'a> {
    /// The log in `directory`.
    pub fn new(files: &'a Files, directory: Directory, faults: &mut Faults, entropy: &mut Entropy) -> LogSource<'a> {
        let (once, lasting) = (faults.plan.read_error_once, faults.plan.read_error_lasting);
        let mut source = LogSource { files, directory, fails_once_in: None, lasting: None };
        if faults.strikes(Fault::ReadErrorOnce, once, entropy) {
            source.fails_once_in = Some(entropy.below(4));
        }
        if lasting > 0.0 && entropy.chance(lasting) {
            let segments = source.segments();
            if !segments.is_empty() {
                let segment = *entropy.pick(&segments);
                let length = source.bytes(segment).map_or(1, <[u8]>::len) as u64;
                source.lasting = Some((segment, entropy.below(length.max(1))));
                faults.note(Fault::ReadErrorLasting, 1);
            }
        }
        source
    }

    fn segments(&self) -> Vec<SegmentId> {
        segments_of(self.files, self.directory)
    }

    fn bytes(&self, segment: SegmentId) -> io::Result<&'a [u8]> {
        let path = Path { directory: self.directory, name: Name::Segment(segment) };
        self.files.find(path).map(|file| self.files.bytes(file)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl SegmentSource for LogSource<'_> {
    fn list(&mut self) -> io::Result<Vec<SegmentId>> {
        Ok(self.segments())
    }

    fn length(&mut self, segment: SegmentId) -> io::Result<u64> {
        Ok(self.bytes(segment)?.len() as u64)
    }

    fn read_at(&mut self, segment: SegmentId, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        match self.fails_once_in {
            Some(0) => {
                self.fails_once_in = None;
                return Err(io::Error::from_raw_os_error(EIO));
            }
            Some(left) => self.fails_once_in = Some(left - 1),
            None => {}
        }
        let bytes = self.bytes(segment)?;
        let rest = bytes.get(offset.min(bytes.len() as u64) as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let Some((damaged, at)) = self.lasting
            && damaged == segment
            && (offset..offset + count as u64).contains(&at)
        {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}
