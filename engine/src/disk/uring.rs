//! The ring of one shard: carries out what the log asks for and reports what came of it.
//!
//! Owns the ring, the open segments and a claim on the buffers; lives on the core that made it. Fixed buffers, fixed
//! files and `RWF_DSYNC` where the machine has them, otherwise the next best, said in a report. Nothing is retried and
//! nothing is decided here: a failed write is a completion like any other, and the appender latches.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corefold_shards::wal::{BlockShare, BufferIndex, DiskCompletion, DiskRequest, Durability, ResumePoint, SegmentId};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::directory::StoreLock;
use super::doorbell::Doorbell;
use super::error::DiskError;
use super::files::{LogDirectory, open_for_blocks};
use super::keeper::{KeeperClient, SegmentKeeper};
use super::options::{DiskOptions, DiskReport};
use super::probe::{Filesystem, LockedMemory, build_ring};

const TAG_WRITE: u64 = 1 << 32;
const TAG_SYNC: u64 = 2 << 32;
const TAG_PROBE: u64 = 3 << 32;
const TAG_MASK: u64 = !0xFFFF_FFFF;

/// Slots for fixed files: the lock, the current segment, spares, and segments whose last writes are under way.
const FIXED_FILES: u32 = 16;
/// `IORING_ENTER_GETEVENTS`.
const ENTER_GETEVENTS: u32 = 1;
/// How long a dropped disk waits for its writes.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub struct ShardDisk {
    ring: IoUring,
    log: LogDirectory,
    segments: Vec<OpenSegment>,
    slots: Vec<u32>,
    writes: Vec<Option<InflightWrite>>,
    inflight: usize,
    refused: Vec<DiskCompletion>,
    keeper: KeeperClient,
    waiting: VecDeque<DiskRequest>,
    bell: Arc<Doorbell>,
    report: DiskReport,
    share: BlockShare,
    _lock: Arc<StoreLock>,
    /// The ring belongs to the thread that made it (`SINGLE_ISSUER`).
    _not_send: PhantomData<*const ()>,
}

#[derive(Debug)]
struct OpenSegment {
    segment: SegmentId,
    file: File,
    slot: Option<u32>,
}

/// A write that the kernel has, and perhaps the sync behind it.
#[derive(Clone, Copy, Debug)]
struct InflightWrite {
    segment: SegmentId,
    offset: u64,
    length: u32,
    is_linked: bool,
    wrote: Option<i32>,
}

impl ShardDisk {
    /// Gets ready to write the log of `log`; to be called on the core that will use it.
    pub fn open(
        log: LogDirectory,
        resume: &ResumePoint,
        share: BlockShare,
        keeper: &SegmentKeeper,
        lock: &Arc<StoreLock>,
        options: DiskOptions,
    ) -> Result<ShardDisk, DiskError> {
        let is_sync = options.durability == Durability::Sync;
        if is_sync {
            let suits = Filesystem::of(log.path())?.suits_sync(log.path());
            suits.map_err(|reason| DiskError::Unsuitable { reason })?;
        }
        let entries = (2 * share.count() + 8).next_power_of_two() as u32;
        let ring = build_ring(entries)?;
        let bell = Arc::new(Doorbell::new()?);
        ring.submitter().register_eventfd(bell.descriptor()).map_err(DiskError::ring("register an eventfd"))?;
        let direct = options.direct && is_sync;
        let client = keeper.client(log.clone(), direct, Arc::clone(&bell))?;
        let mut disk = ShardDisk {
            writes: vec![None; share.count()],
            ring,
            log,
            segments: Vec::with_capacity(FIXED_FILES as usize),
            slots: Vec::new(),
            inflight: 0,
            refused: Vec::new(),
            keeper: client,
            waiting: VecDeque::new(),
            bell,
            report: DiskReport { direct, fixed_buffers: false, fixed_files: false, dsync: false, notes: Vec::new() },
            share,
            _lock: Arc::clone(lock),
            _not_send: PhantomData,
        };
        disk.ring.completion().disable_eventfd();
        disk.register_buffers(options.fixed_buffers);
        disk.register_files(options.fixed_files, lock);
        if is_sync {
            disk.probe_sync(options.dsync)?;
        }
        for spare in &resume.spares {
            let path = disk.log.segment_path(spare.segment);
            let (file, _) = disk.log.open_segment(spare.segment, direct).map_err(DiskError::io("open", &path))?;
            disk.add_segment(spare.segment, file);
        }
        Ok(disk)
    }

    /// What is in use, and what is missing.
    pub fn report(&self) -> &DiskReport {
        &self.report
    }

    /// What rings when something has finished, if it is armed.
    pub fn bell(&self) -> &Arc<Doorbell> {
        &self.bell
    }

    /// Takes requests over; one system call for all writes together.
    pub fn submit(&mut self, requests: &[DiskRequest]) -> Result<(), DiskError> {
        let mut has_writes = false;
        for request in requests {
            match *request {
                DiskRequest::Write { segment, offset, buffer, length, sync } => {
                    has_writes = true;
                    self.push_write(segment, offset, buffer, length, sync)?;
                }
                DiskRequest::Prepare { .. } | DiskRequest::Recycle { .. } | DiskRequest::Remove { .. } => {
                    if let DiskRequest::Recycle { from, .. } = *request {
                        self.close_segment(from);
                    }
                    if !self.keeper.try_send(*request) {
                        self.waiting.push_back(*request);
                    }
                }
                DiskRequest::Close { segment } => self.close_segment(segment),
            }
        }
        if has_writes { self.enter() } else { Ok(()) }
    }

    /// Takes what has finished, in any order. No system call unless the kernel asks for one.
    pub fn reap(&mut self, out: &mut Vec<DiskCompletion>) -> Result<(), DiskError> {
        out.append(&mut self.refused);
        let (is_left, has_work) = {
            let queue = self.ring.submission();
            (!queue.is_empty(), queue.taskrun() || queue.cq_overflow())
        };
        if is_left {
            self.enter()?;
        }
        if has_work {
            // SAFETY: no argument is passed, so the kernel reads and writes nothing but the queues.
            let entered = unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 0, ENTER_GETEVENTS, None) };
            tolerate_busy(entered.map(drop), "fetch completions")?;
        }
        loop {
            let entry = self.ring.completion().next();
            let Some(entry) = entry else { break };
            self.take_entry(entry.user_data(), entry.result(), out);
        }
        while let Some(answer) = self.keeper.try_receive() {
            if let (DiskCompletion::Prepared { segment, .. }, Some(file)) = (answer.completion, answer.file) {
                self.add_segment(segment, file);
            }
            out.push(answer.completion);
        }
        while let Some(request) = self.waiting.front() {
            if !self.keeper.try_send(*request) {
                break;
            }
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// Arms the doorbell before the core parks: whatever finishes rings it. `false`: something has finished already, so
    /// reap instead of parking. The bell may also ring once for what was reaped long ago.
    pub fn arm(&mut self) -> bool {
        // The order matters: what finishes after this rings, what finished before it is seen by the look.
        self.ring.completion().enable_eventfd();
        let can_park = !self.has_completions();
        if !can_park {
            self.disarm();
        }
        can_park
    }

    /// Has the kernel ring no more. The core is awake.
    pub fn disarm(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    /// Whether writes are under way that go past the page cache.
    pub fn is_writing(&self) -> bool {
        self.inflight > 0 && self.report.direct
    }

    /// Whether writes or work on segments are under way.
    pub fn is_busy(&self) -> bool {
        self.inflight > 0 || self.keeper.under_way() > 0 || !self.waiting.is_empty()
    }

    /// Blocks the thread until something has finished or the time is over. For tools and tests; a core arms the bell.
    pub fn wait(&mut self, timeout: Duration, out: &mut Vec<DiskCompletion>) -> Result<(), DiskError> {
        let deadline = Instant::now() + timeout;
        let before = out.len();
        loop {
            self.reap(out)?;
            if out.len() > before || !self.is_busy() || Instant::now() >= deadline {
                return Ok(());
            }
            self.bell.clear();
            if self.arm() {
                let left = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
                let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
                // Interrupted or not: the loop looks again.
                let _ = poll(&mut [PollFd::new(&*self.bell, PollFlags::IN)], Some(&left));
                self.disarm();
            }
        }
    }

    /// Blocks until no write is in flight; `false` if that takes too long. Work on segments is not waited for.
    pub fn drain(&mut self, timeout: Duration, out: &mut Vec<DiskCompletion>) -> Result<bool, DiskError> {
        let deadline = Instant::now() + timeout;
        self.reap(out)?;
        while self.inflight > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.wait(left, out)?;
        }
        Ok(true)
    }

    fn has_completions(&mut self) -> bool {
        let has_work = {
            let queue = self.ring.submission();
            queue.taskrun() || queue.cq_overflow()
        };
        has_work || !self.ring.completion().is_empty() || self.keeper.has_answer() || !self.refused.is_empty()
    }

    fn register_buffers(&mut self, wanted: bool) {
        if !wanted {
            return;
        }
        let size = self.share.block_size();
        let buffers: Vec<libc::iovec> = (0..self.share.count() as u16)
            .map(|index| libc::iovec {
                iov_base: self.share.start_of(BufferIndex(index)).cast_mut().cast(),
                iov_len: size,
            })
            .collect();
        // SAFETY: the memory stays allocated as long as `share`, which is dropped after the ring (see `drop`), and
        // the kernel only reads from it.
        match unsafe { self.ring.submitter().register_buffers(&buffers) } {
            Ok(()) => self.report.fixed_buffers = true,
            Err(error) => {
                let locked = LockedMemory::look((size * buffers.len()) as u64).suffices();
                let reason = locked.err().unwrap_or_else(|| error.to_string());
                self.report.notes.push(format!("the log's buffers cannot be registered, writes cost more: {reason}"));
            }
        }
    }

    fn register_files(&mut self, wanted: bool, lock: &StoreLock) {
        if !wanted {
            return;
        }
        let submitter = self.ring.submitter();
        // The ring holds the lock too: while the kernel still writes for a killed process, nobody else gets it.
        let registered = submitter
            .register_files_sparse(FIXED_FILES)
            .and_then(|()| submitter.register_files_update(0, &[lock.file().as_raw_fd()]));
        match registered {
            Ok(_) => {
                self.report.fixed_files = true;
                self.slots = (1..FIXED_FILES).rev().collect();
            }
            Err(error) => self.report.notes.push(format!("the log's files cannot be registered: {error}")),
        }
    }

    /// Tries one synced write in the log's directory, in the way that the log will write.
    fn probe_sync(&mut self, dsync_wanted: bool) -> Result<(), DiskError> {
        let path = self.log.path().join("probe.tmp");
        let failed = |source| DiskError::Io { operation: "write", path: path.clone(), source };
        let _ = std::fs::remove_file(&path);
        let (file, direct) = open_for_blocks(&path, self.report.direct, true).map_err(failed)?;
        if self.report.direct && !direct {
            self.report
                .notes
                .push("the file system does not know O_DIRECT; the log goes through the page cache".into());
        }
        self.report.direct = direct;
        let mut result = 0;
        if dsync_wanted {
            let target = types::Fd(file.as_raw_fd());
            let start = self.share.start_of(BufferIndex(0));
            let write = opcode::Write::new(target, start, 4096).rw_flags(libc::RWF_DSYNC).build().user_data(TAG_PROBE);
            self.push(&[write])?;
            while result == 0 {
                let waited = self.ring.submit_and_wait(1).map(drop);
                tolerate_busy(waited, "write a probe")?;
                if let Some(entry) = self.ring.completion().next() {
                    assert_eq!(entry.user_data(), TAG_PROBE);
                    result = entry.result();
                }
            }
        }
        std::fs::remove_file(&path).map_err(failed)?;
        self.report.dsync = dsync_wanted && result != -libc::EOPNOTSUPP && result != -libc::EINVAL;
        if dsync_wanted && !self.report.dsync {
            self.report
                .notes
                .push("the kernel does not know RWF_DSYNC here; each write is followed by an fsync".into());
        }
        Ok(())
    }

    fn add_segment(&mut self, segment: SegmentId, file: File) {
        let slot = self.slots.pop();
        let registered =
            slot.filter(|slot| self.ring.submitter().register_files_update(*slot, &[file.as_raw_fd()]).is_ok());
        self.segments.push(OpenSegment { segment, file, slot: registered });
    }

    /// Closes a segment to which nothing is in flight.
    fn close_segment(&mut self, segment: SegmentId) {
        assert!(self.writes.iter().flatten().all(|write| write.segment != segment), "writes are in flight");
        if let Some(index) = self.segments.iter().position(|open| open.segment == segment) {
            let open = self.segments.swap_remove(index);
            if let Some(slot) = open.slot {
                // If this fails the ring keeps the file open a little longer, and the slot is lost.
                if self.ring.submitter().register_files_update(slot, &[-1]).is_ok() {
                    self.slots.push(slot);
                }
            }
        }
    }

    fn push_write(
        &mut self,
        segment: SegmentId,
        offset: u64,
        buffer: BufferIndex,
        length: u32,
        sync: bool,
    ) -> Result<(), DiskError> {
        assert!(length as usize <= self.share.block_size());
        let slot = usize::from(buffer.0);
        assert!(self.writes[slot].is_none(), "buffer {slot} is in flight");
        let Some(open) = self.segments.iter().find(|open| open.segment == segment) else {
            self.refused.push(DiskCompletion::Write { segment, offset, buffer, result: Err(libc::EBADF) });
            return Ok(());
        };
        if self.segments.iter().all(|other| other.segment <= segment) {
            self.keeper.hurry();
        }
        let start = self.share.start_of(buffer);
        let flags = if sync && self.report.dsync { libc::RWF_DSYNC } else { 0 };
        let (by_slot, by_file) = (open.slot.map(types::Fixed), types::Fd(open.file.as_raw_fd()));
        let write = match (by_slot, self.report.fixed_buffers) {
            (Some(file), true) => {
                opcode::WriteFixed::new(file, start, length, buffer.0).offset(offset).rw_flags(flags).build()
            }
            (None, true) => {
                opcode::WriteFixed::new(by_file, start, length, buffer.0).offset(offset).rw_flags(flags).build()
            }
            (Some(file), false) => opcode::Write::new(file, start, length).offset(offset).rw_flags(flags).build(),
            (None, false) => opcode::Write::new(by_file, start, length).offset(offset).rw_flags(flags).build(),
        };
        let write = write.user_data(TAG_WRITE | u64::from(buffer.0));
        let is_linked = sync && !self.report.dsync;
        if is_linked {
            // A soft link: a failed or short write cancels the sync, and the write's own result is what counts.
            let kind = types::FsyncFlags::DATASYNC;
            let fsync = match by_slot {
                Some(file) => opcode::Fsync::new(file).flags(kind).build(),
                None => opcode::Fsync::new(by_file).flags(kind).build(),
            };
            self.push(&[write.flags(squeue::Flags::IO_LINK), fsync.user_data(TAG_SYNC | u64::from(buffer.0))])?;
        } else {
            self.push(&[write])?;
        }
        self.writes[slot] = Some(InflightWrite { segment, offset, length, is_linked, wrote: None });
        self.inflight += 1;
        Ok(())
    }

    /// Puts entries into the queue, all or none, making room if need be.
    fn push(&mut self, entries: &[squeue::Entry]) -> Result<(), DiskError> {
        for _ in 0..2 {
            // SAFETY: what the entries point to outlives them: buffers belong to `share`, files and descriptors to
            // `segments` or the caller that waits, and none of these goes before its completion was taken.
            if unsafe { self.ring.submission().push_multiple(entries) }.is_ok() {
                return Ok(());
            }
            self.enter()?;
        }
        Err(DiskError::ring("queue a request")(io::ErrorKind::WouldBlock.into()))
    }

    fn enter(&mut self) -> Result<(), DiskError> {
        loop {
            match self.ring.submit() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return tolerate_busy(result.map(drop), "submit"),
            }
        }
    }

    fn take_entry(&mut self, user_data: u64, result: i32, out: &mut Vec<DiskCompletion>) {
        if !matches!(user_data & TAG_MASK, TAG_WRITE | TAG_SYNC) {
            return;
        }
        let index = (user_data & !TAG_MASK) as usize;
        let is_write = user_data & TAG_MASK == TAG_WRITE;
        let Some(write) = self.writes.get_mut(index).and_then(Option::as_mut) else { return };
        if is_write {
            write.wrote = Some(result);
            if write.is_linked {
                return;
            }
        }
        let wrote = write.wrote.unwrap_or(-libc::EIO);
        // The write's own failure or shortness first, then the sync's: success is only "all of it, and synced".
        let outcome = match wrote {
            count if count < 0 => Err(-count),
            count if !is_write && count as u32 == write.length && result < 0 => Err(-result),
            count => Ok(count as u32),
        };
        let InflightWrite { segment, offset, .. } = *write;
        self.writes[index] = None;
        self.inflight -= 1;
        out.push(DiskCompletion::Write { segment, offset, buffer: BufferIndex(index as u16), result: outcome });
    }
}

impl Drop for ShardDisk {
    fn drop(&mut self) {
        let drained = self.drain(DRAIN_PATIENCE, &mut Vec::new());
        if !matches!(drained, Ok(true)) {
            // The kernel may still read the buffers: better to lose the memory than to write another's bytes.
            std::mem::forget(self.share.clone());
        }
    }
}

/// A busy kernel has taken nothing; entries stay queued and the next call tries again.
fn tolerate_busy(result: io::Result<()>, operation: &'static str) -> Result<(), DiskError> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::EINTR)) => Ok(()),
        other => other.map_err(DiskError::ring(operation)),
    }
}
