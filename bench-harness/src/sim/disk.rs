//! The disk of one log: takes the log's requests, carries them out on [`Files`] step by step and in any order, and
//! fails as the seed wants.
//!
//! The steps by which segments are made, reused and deleted are those of the engine's segment keeper. What is checked
//! about the log is in [`super::history`].

use super::faults::{Fault, Faults};
use super::files::{Directory, Down, FileId, Files, Name, Path, SECTOR};
use super::history::LogHistory;
use crate::entropy::Entropy;
use crate::local::store::Survival;
use corefold_shards::wal::layout::SEGMENT_HEADER_SIZE;
use corefold_shards::wal::{Appender, BufferIndex, DiskCompletion, DiskRequest, LogIdentity, SegmentHeader, SegmentId};

const EIO: i32 = 5;
const ENOENT: i32 = 2;
const ENOSPC: i32 = 28;

/// See the module.
#[derive(Debug)]
pub struct LogDisk {
    identity: LogIdentity,
    directory: Directory,
    writes: Vec<Write>,
    job: Option<Job>,
    stuck_until_ns: u64,
    /// Set once a disk stays full until the end of the session.
    full: bool,
    /// What the simulator knows of the log.
    pub history: LogHistory,
}

/// A write that is neither done nor lost.
#[derive(Debug)]
struct Write {
    segment: SegmentId,
    file: FileId,
    offset: u64,
    buffer: BufferIndex,
    bytes: Vec<u8>,
    sync: bool,
}

/// A change of segments under way.
#[derive(Debug)]
struct Job {
    request: DiskRequest,
    steps: &'static [Step],
    at: usize,
    salt: u64,
}

/// What the segment keeper does, one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Deletes what an earlier attempt left.
    ClearAside,
    /// Takes the old segment's name away.
    TakeName,
    Create,
    Zeros,
    Header,
    Sync,
    Name,
    SyncNames,
    Delete,
}

const PREPARE: &[Step] =
    &[Step::ClearAside, Step::Create, Step::Zeros, Step::Header, Step::Sync, Step::Name, Step::SyncNames];
const RECYCLE: &[Step] = &[Step::TakeName, Step::SyncNames, Step::Header, Step::Sync, Step::Name, Step::SyncNames];
const REMOVE: &[Step] = &[Step::TakeName, Step::SyncNames, Step::Delete];

/// How a step ended.
enum Stepped {
    Done,
    Failed(i32),
}

impl From<Down> for String {
    fn from(_: Down) -> String {
        "the machine is down".to_owned()
    }
}

impl LogDisk {
    /// The disk of the log in `directory`.
    pub fn new(identity: LogIdentity, directory: Directory, history: LogHistory) -> LogDisk {
        LogDisk { identity, directory, writes: Vec::new(), job: None, stuck_until_ns: 0, full: false, history }
    }

    fn path(&self, segment: SegmentId) -> Path {
        Path { directory: self.directory, name: Name::Segment(segment) }
    }

    fn aside(&self, segment: SegmentId) -> Path {
        Path { directory: self.directory, name: Name::SegmentAside(segment) }
    }

    /// Takes requests over. The error is a mistake of the log's.
    pub fn submit(
        &mut self,
        requests: &[DiskRequest],
        log: &Appender,
        files: &Files,
        salt: impl FnOnce() -> u64,
    ) -> Result<(), String> {
        let mut salt = Some(salt);
        for &request in requests {
            let steps = match request {
                DiskRequest::Write { segment, offset, buffer, length, sync } => {
                    let bytes = log.block(buffer)[..length as usize].to_vec();
                    self.history.check_segment(segment, files)?;
                    self.history.submitted(segment, offset, &bytes)?;
                    let file = files.find(self.path(segment)).ok_or("a write to no segment")?;
                    if offset as usize + bytes.len() > files.bytes(file).len() || offset < SEGMENT_HEADER_SIZE as u64 {
                        return Err(format!("a write outside of segment {segment}"));
                    }
                    self.writes.push(Write { segment, file, offset, buffer, bytes, sync });
                    continue;
                }
                DiskRequest::Close { segment } => {
                    if self.writes.iter().any(|write| write.segment == segment) {
                        return Err(format!("segment {segment} is closed with a write in flight"));
                    }
                    continue;
                }
                DiskRequest::Prepare { .. } => PREPARE,
                DiskRequest::Recycle { .. } => RECYCLE,
                DiskRequest::Remove { .. } => REMOVE,
            };
            if self.job.is_some() {
                return Err("two changes of segments at once".to_owned());
            }
            self.job = Some(Job { request, steps, at: 0, salt: salt.take().map_or(0, |salt| salt()) });
        }
        Ok(())
    }

    /// Writes in flight.
    pub fn writes(&self) -> usize {
        self.writes.len()
    }

    /// Whether anything is under way.
    pub fn is_busy(&self) -> bool {
        !self.writes.is_empty() || self.job.is_some()
    }

    /// One turn: a write finishes, or a change of segments goes one step further.
    pub fn turn(
        &mut self,
        now_ns: u64,
        log: Option<&Appender>,
        files: &mut Files,
        faults: &mut Faults,
        entropy: &mut Entropy,
        completions: &mut Vec<DiskCompletion>,
    ) -> Result<(), String> {
        if now_ns < self.stuck_until_ns {
            return Ok(());
        }
        let stuck = faults.plan.stuck;
        if faults.strikes(Fault::StuckDisk, stuck, entropy) {
            self.stuck_until_ns = now_ns + entropy.below(1_000_000);
            return Ok(());
        }
        if !self.writes.is_empty() && (self.job.is_none() || entropy.chance(0.6)) {
            // The oldest finishes first more often than not.
            let index = if entropy.chance(0.5) { 0 } else { entropy.index(self.writes.len()) };
            faults.note(Fault::ReorderedWrite, u64::from(index > 0));
            return self.finish(index, log, files, faults, entropy, completions);
        }
        if self.job.is_some() {
            // The machine may stop within; then nobody asks for the answer.
            let _ = self.step_job(files, faults, entropy, completions);
        }
        Ok(())
    }

    fn finish(
        &mut self,
        index: usize,
        log: Option<&Appender>,
        files: &mut Files,
        faults: &mut Faults,
        entropy: &mut Entropy,
        completions: &mut Vec<DiskCompletion>,
    ) -> Result<(), String> {
        let write = self.writes.remove(index);
        let Write { segment, file, offset, buffer, ref bytes, sync } = write;
        if log.is_some_and(|log| log.block(buffer)[..bytes.len()] != bytes[..]) {
            return Err(format!("the buffer of a write in flight was changed: segment {segment}, byte {offset}"));
        }
        let rates = (faults.plan.write_error, faults.plan.short_write);
        let damage = (faults.plan.lost_write, faults.plan.misdirected_write);
        let result = if faults.strikes(Fault::WriteError, rates.0, entropy) {
            let reach = *entropy.pick(&[0.0, 0.5, 1.0]);
            files.tear(file, offset as usize, bytes, |_| entropy.chance(reach));
            Err(*entropy.pick(&[EIO, ENOSPC]))
        } else if faults.strikes(Fault::ShortWrite, rates.1, entropy) {
            let sectors = entropy.index(bytes.len() / SECTOR);
            files.tear(file, offset as usize, bytes, |sector| sector < sectors);
            Ok((sectors * SECTOR) as u32)
        } else if faults.damages(Fault::LostWrite, damage.0, entropy) {
            files.lose(file, offset as usize, bytes);
            Ok(bytes.len() as u32)
        } else if let Some((victim, at)) = self.misdirect(&write, files, faults, damage.1, entropy) {
            files.damage(victim, at, bytes);
            files.lose(file, offset as usize, bytes);
            Ok(bytes.len() as u32)
        } else {
            let written = if sync {
                files.write_through(file, offset as usize, bytes)
            } else {
                files.write(file, offset as usize, bytes)
            };
            if written.is_err() {
                // The machine stopped within this write: it is still in flight.
                self.writes.insert(index, write);
                return Ok(());
            }
            Ok(bytes.len() as u32)
        };
        if result == Ok(bytes.len() as u32) {
            self.history.completed(segment, offset);
        }
        completions.push(DiskCompletion::Write { segment, offset, buffer, result });
        Ok(())
    }

    /// Another place of any log where a block may land by mistake.
    fn misdirect(
        &self,
        write: &Write,
        files: &Files,
        faults: &mut Faults,
        rate: f64,
        entropy: &mut Entropy,
    ) -> Option<(FileId, usize)> {
        if !faults.damages(Fault::MisdirectedWrite, rate, entropy) {
            return None;
        }
        let segments = files.segments();
        let file = if entropy.chance(0.7) { write.file } else { *entropy.pick(&segments) };
        let places = (files.bytes(file).len().checked_sub(write.bytes.len())?) / SEGMENT_HEADER_SIZE;
        let at = entropy.index(places + 1) * SEGMENT_HEADER_SIZE;
        // Where it should have gone after all is no mistake.
        ((file, at) != (write.file, write.offset as usize)).then_some((file, at))
    }

    // ---- segments ---------------------------------------------------------------------------------------------

    fn step_job(
        &mut self,
        files: &mut Files,
        faults: &mut Faults,
        entropy: &mut Entropy,
        completions: &mut Vec<DiskCompletion>,
    ) -> Result<(), Down> {
        let Some(mut job) = self.job.take() else { return Ok(()) };
        let step = job.steps[job.at];
        match self.step(&job, step, files, faults, entropy) {
            Err(Down) => self.job = Some(job),
            Ok(Stepped::Done) => {
                job.at += 1;
                if job.at == job.steps.len() {
                    completions.push(success(&job));
                } else {
                    self.job = Some(job);
                }
            }
            Ok(Stepped::Failed(errno)) => {
                self.clean_up(&job, files)?;
                completions.push(failure(&job, errno));
            }
        }
        Ok(())
    }

    /// As the keeper does: nothing is left under the new name.
    fn clean_up(&self, job: &Job, files: &mut Files) -> Result<(), Down> {
        let (DiskRequest::Prepare { segment, .. } | DiskRequest::Recycle { segment, .. }) = job.request else {
            return Ok(());
        };
        let named = job.steps[..job.at].contains(&Step::Name);
        if let (DiskRequest::Recycle { from, .. }, false) = (job.request, is_source_gone(job)) {
            files.rename(self.aside(segment), self.path(from))?;
        } else if named {
            files.remove(self.path(segment))?;
        } else if job.at > 0 {
            files.remove(self.aside(segment))?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        job: &Job,
        step: Step,
        files: &mut Files,
        faults: &mut Faults,
        entropy: &mut Entropy,
    ) -> Result<Stepped, Down> {
        let (segment, size) = match job.request {
            DiskRequest::Prepare { segment, size } | DiskRequest::Recycle { segment, size, .. } => (segment, size),
            DiskRequest::Remove { segment } => (segment, 0),
            _ => (SegmentId::NONE, 0),
        };
        let aside = self.aside(segment);
        let found = files.find(aside);
        match (step, job.request, found) {
            (Step::ClearAside, _, Some(_)) => files.remove(aside).map(|_| Stepped::Done),
            (Step::ClearAside, _, None) => Ok(Stepped::Done),
            (Step::TakeName, DiskRequest::Recycle { from, .. }, _) => {
                let renamed = files.rename(self.path(from), aside)?;
                Ok(if renamed { Stepped::Done } else { Stepped::Failed(ENOENT) })
            }
            (Step::Create, ..) => files.create(aside).map(|_| Stepped::Done),
            (Step::Zeros, _, Some(file)) => {
                let rate = faults.plan.disk_full;
                if self.full || faults.strikes(Fault::DiskFull, rate, entropy) {
                    // Now and then for good, as far as this session is concerned.
                    self.full |= entropy.chance(0.2);
                    return Ok(Stepped::Failed(ENOSPC));
                }
                files.write(file, 0, &vec![0; size as usize]).map(|()| Stepped::Done)
            }
            (Step::Header, _, Some(file)) => {
                let mut header = [0; SEGMENT_HEADER_SIZE];
                SegmentHeader { identity: self.identity, segment, salt: job.salt, size }.encode(&mut header);
                files.write(file, 0, &header).map(|()| Stepped::Done)
            }
            (Step::Sync, _, Some(file)) => self.unless_it_fails(faults, entropy, || files.sync(file)),
            (Step::Name, ..) => files.rename(aside, self.path(segment)).map(|_| Stepped::Done),
            (Step::SyncNames, ..) => self.unless_it_fails(faults, entropy, || files.sync_directory(self.directory)),
            // The name may have gone with an attempt that failed later.
            (Step::TakeName, DiskRequest::Remove { .. }, _) => {
                files.rename(self.path(segment), aside).map(|_| Stepped::Done)
            }
            (Step::Delete, ..) => files.remove(aside).map(|_| Stepped::Done),
            _ => Ok(Stepped::Failed(ENOENT)),
        }
    }

    fn unless_it_fails(
        &self,
        faults: &mut Faults,
        entropy: &mut Entropy,
        sync: impl FnOnce() -> Result<(), Down>,
    ) -> Result<Stepped, Down> {
        let rate = faults.plan.sync_error;
        if faults.strikes(Fault::SyncError, rate, entropy) {
            return Ok(Stepped::Failed(EIO));
        }
        sync().map(|()| Stepped::Done)
    }

    // ---- crashes ----------------------------------------------------------------------------------------------

    /// The process is gone. Of writes in flight, `survives` decides what is on the disk; returns the history.
    pub fn crash(
        self,
        survival: Survival,
        files: &mut Files,
        faults: &mut Faults,
        entropy: &mut Entropy,
    ) -> LogHistory {
        for write in &self.writes {
            let all = entropy.chance(0.5);
            let sectors = write.bytes.len() / SECTOR;
            let written = files.tear(write.file, write.offset as usize, &write.bytes, |_| match survival {
                Survival::Nothing => false,
                Survival::Everything => true,
                Survival::Writes => all,
                Survival::Sectors => entropy.chance(0.5),
            });
            faults.note(Fault::VanishedWrite, u64::from(written == 0));
            faults.note(Fault::TornWrite, u64::from(written > 0 && written < sectors));
        }
        self.history
    }

    /// Flips a bit of a block that is not being written, or of any segment.
    pub fn rot(&self, files: &mut Files, entropy: &mut Entropy) -> bool {
        let in_flight: Vec<_> = self.writes.iter().map(|write| (write.segment, write.offset)).collect();
        self.history.rot(&in_flight, files, entropy)
    }
}

/// Whether the old name of a recycled segment is durably gone.
fn is_source_gone(job: &Job) -> bool {
    job.steps[..job.at].contains(&Step::SyncNames)
}

fn success(job: &Job) -> DiskCompletion {
    match job.request {
        DiskRequest::Prepare { segment, size } | DiskRequest::Recycle { segment, size, .. } => {
            DiskCompletion::Prepared { segment, salt: job.salt, size }
        }
        DiskRequest::Remove { segment } => DiskCompletion::Removed { segment, result: Ok(()) },
        DiskRequest::Write { .. } | DiskRequest::Close { .. } => unreachable!("no change of segments"),
    }
}

fn failure(job: &Job, errno: i32) -> DiskCompletion {
    match job.request {
        DiskRequest::Prepare { segment, .. } => DiskCompletion::PrepareFailed { segment, errno, source_gone: false },
        DiskRequest::Recycle { segment, .. } => {
            DiskCompletion::PrepareFailed { segment, errno, source_gone: is_source_gone(job) }
        }
        DiskRequest::Remove { segment } => DiskCompletion::Removed { segment, result: Err(errno) },
        DiskRequest::Write { .. } | DiskRequest::Close { .. } => unreachable!("no change of segments"),
    }
}
