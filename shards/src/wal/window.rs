//! A piece of one segment in memory: reads ahead in large steps, so that recovery needs little memory and few calls.
//!
//! What the bytes mean is not here.

use super::error::RecoveryError;
use super::io::SegmentSource;
use super::lsn::SegmentId;

/// See the module. Requests start on multiples of 8, so what is returned is 8-aligned.
#[derive(Debug)]
pub(super) struct Window {
    words: Vec<u64>,
    segment: SegmentId,
    start: u64,
    filled: usize,
}

impl Window {
    pub(super) fn new(piece_size: usize) -> Window {
        Window { words: vec![0; piece_size.div_ceil(8).max(512)], segment: SegmentId::NONE, start: 0, filled: 0 }
    }

    /// `length` bytes of `segment` at `offset`; fewer if the file ends before.
    pub(super) fn bytes<S: SegmentSource + ?Sized>(
        &mut self,
        source: &mut S,
        segment: SegmentId,
        offset: u64,
        length: usize,
    ) -> Result<&[u8], RecoveryError> {
        assert!(offset.is_multiple_of(8));
        let end = self.start + self.filled as u64;
        if self.segment != segment || offset < self.start || offset > end {
            (self.segment, self.start, self.filled) = (segment, offset, 0);
        } else if offset + length as u64 > end {
            let behind = (offset - self.start) as usize;
            bytemuck::cast_slice_mut::<u64, u8>(&mut self.words).copy_within(behind..self.filled, 0);
            (self.start, self.filled) = (offset, self.filled - behind);
        }
        let at = (offset - self.start) as usize;
        if at + length > self.filled {
            self.fill(source, length)?;
        }
        let bytes: &[u8] = bytemuck::cast_slice(&self.words);
        Ok(&bytes[at..self.filled.min(at + length)])
    }

    /// Reads on until the window is full or the file ends. The window begins with the bytes asked for.
    fn fill<S: SegmentSource + ?Sized>(&mut self, source: &mut S, length: usize) -> Result<(), RecoveryError> {
        if self.words.len() * 8 < length {
            self.words.resize(length.div_ceil(8), 0);
        }
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        let mut failures = 0;
        while self.filled < bytes.len() {
            let offset = self.start + self.filled as u64;
            match source.read_at(self.segment, offset, &mut bytes[self.filled..]) {
                Ok(0) => break,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // One retry, then refuse: a failed read is never taken for the end of the log.
                Err(_) if failures == 0 => failures += 1,
                Err(error) => {
                    let file = source.name(self.segment);
                    return Err(RecoveryError::Read { file, offset, source: error });
                }
            }
        }
        Ok(())
    }
}
