//! A disk of plain bytes behind the port: for tests and for simulation. Writes are held until someone decides which
//! of them finish, in which order, and what a crash leaves of the others.
//!
//! Choosing (randomness) is the caller's; nothing here is used in production.

use std::collections::BTreeMap;
use std::io;

use super::appender::Appender;
use super::io::{BufferIndex, DiskCompletion, DiskRequest, SegmentSource};
use super::layout::SEGMENT_HEADER_SIZE;
use super::lsn::SegmentId;
use super::segment::{LogIdentity, SegmentHeader};

/// See the module.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    identity: LogIdentity,
    files: BTreeMap<SegmentId, Vec<u8>>,
    pending: Vec<PendingWrite>,
    answers: Vec<DiskCompletion>,
    salt: u64,
    space_left: u64,
}

/// A write that is neither done nor lost.
#[derive(Clone, Debug)]
pub struct PendingWrite {
    /// Where to.
    pub segment: SegmentId,
    /// Where in it.
    pub offset: u64,
    /// From which buffer.
    pub buffer: BufferIndex,
    /// What.
    pub bytes: Vec<u8>,
}

impl MemoryDisk {
    /// An empty disk; `salt` starts the sequence of salts.
    pub fn new(identity: LogIdentity, salt: u64) -> MemoryDisk {
        MemoryDisk {
            identity,
            files: BTreeMap::new(),
            pending: Vec::new(),
            answers: Vec::new(),
            salt,
            space_left: u64::MAX,
        }
    }

    /// Bytes that new segments may still take; then `Prepare` fails with ENOSPC.
    pub fn set_space_left(&mut self, bytes: u64) {
        self.space_left = bytes;
    }

    /// Takes requests over. Segment requests are carried out at once, in order, as a disk with a journal would make
    /// them appear; their answers wait in `take_answers`.
    pub fn submit(&mut self, requests: &[DiskRequest], appender: &Appender) {
        for request in requests {
            match *request {
                DiskRequest::Write { segment, offset, buffer, length, .. } => {
                    let bytes = appender.block(buffer)[..length as usize].to_vec();
                    let file = self.files.get(&segment).expect("writes go to segments that are ready");
                    assert!(offset as usize + bytes.len() <= file.len());
                    self.pending.push(PendingWrite { segment, offset, buffer, bytes });
                }
                DiskRequest::Prepare { segment, size } => {
                    let answer = if self.space_left < size {
                        DiskCompletion::PrepareFailed { segment, errno: 28, source_gone: false }
                    } else {
                        self.space_left -= size;
                        self.name(segment, vec![0; size as usize])
                    };
                    self.answers.push(answer);
                }
                DiskRequest::Recycle { from, segment, size } => {
                    let file = self.files.remove(&from).expect("the old segment exists");
                    assert_eq!(file.len() as u64, size);
                    let answer = self.name(segment, file);
                    self.answers.push(answer);
                }
                DiskRequest::Remove { segment } => {
                    let file = self.files.remove(&segment).expect("the old segment exists");
                    self.space_left = self.space_left.saturating_add(file.len() as u64);
                    self.answers.push(DiskCompletion::Removed { segment, result: Ok(()) });
                }
                DiskRequest::Close { segment } => {
                    assert!(self.pending.iter().all(|write| write.segment != segment));
                }
            }
        }
    }

    fn name(&mut self, segment: SegmentId, mut file: Vec<u8>) -> DiskCompletion {
        self.salt = self.salt.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = file.len() as u64;
        let header = SegmentHeader { identity: self.identity, segment, salt: self.salt, size };
        let block = file.first_chunk_mut::<SEGMENT_HEADER_SIZE>().expect("a segment is longer than its header");
        header.encode(block);
        self.files.insert(segment, file);
        DiskCompletion::Prepared { segment, salt: self.salt, size }
    }

    /// Answers to segment requests, in order.
    pub fn take_answers(&mut self) -> Vec<DiskCompletion> {
        std::mem::take(&mut self.answers)
    }

    /// Writes in flight, in the order of their submission.
    pub fn pending(&self) -> &[PendingWrite] {
        &self.pending
    }

    /// Lets the write at `index` of [`MemoryDisk::pending`] finish.
    pub fn finish(&mut self, index: usize) -> DiskCompletion {
        let write = self.pending.remove(index);
        self.put(&write, 0..write.bytes.len());
        let PendingWrite { segment, offset, buffer, bytes } = write;
        DiskCompletion::Write { segment, offset, buffer, result: Ok(bytes.len() as u32) }
    }

    /// Lets the write at `index` fail: nothing, or only its beginning, reaches the disk.
    pub fn fail(&mut self, index: usize, result: Result<u32, i32>) -> DiskCompletion {
        let write = self.pending.remove(index);
        self.put(&write, 0..result.unwrap_or(0) as usize);
        let PendingWrite { segment, offset, buffer, .. } = write;
        DiskCompletion::Write { segment, offset, buffer, result }
    }

    /// The power goes: of each write in flight `survives(write, sector)` tells which 512-byte sectors are on disk.
    pub fn crash(&mut self, mut survives: impl FnMut(&PendingWrite, usize) -> bool) {
        for write in std::mem::take(&mut self.pending) {
            for sector in 0..write.bytes.len() / 512 {
                if survives(&write, sector) {
                    self.put(&write, sector * 512..(sector + 1) * 512);
                }
            }
        }
        self.answers.clear();
    }

    fn put(&mut self, write: &PendingWrite, part: std::ops::Range<usize>) {
        let file = self.files.get_mut(&write.segment).expect("checked when it was submitted");
        let at = write.offset as usize;
        file[at + part.start..at + part.end].copy_from_slice(&write.bytes[part]);
    }

    /// Deletes what recovery says must go.
    pub fn discard(&mut self, segments: &[SegmentId]) {
        for segment in segments {
            self.files.remove(segment);
        }
    }

    /// The files, to be damaged.
    pub fn files_mut(&mut self) -> &mut BTreeMap<SegmentId, Vec<u8>> {
        &mut self.files
    }

    /// The files.
    pub fn files(&self) -> &BTreeMap<SegmentId, Vec<u8>> {
        &self.files
    }
}

impl SegmentSource for MemoryDisk {
    fn list(&mut self) -> io::Result<Vec<SegmentId>> {
        Ok(self.files.keys().copied().collect())
    }

    fn length(&mut self, segment: SegmentId) -> io::Result<u64> {
        Ok(self.file(segment)?.len() as u64)
    }

    fn read_at(&mut self, segment: SegmentId, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let file = self.file(segment)?;
        let rest = file.get(offset.min(file.len() as u64) as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl MemoryDisk {
    fn file(&self, segment: SegmentId) -> io::Result<&Vec<u8>> {
        self.files.get(&segment).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
