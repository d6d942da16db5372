//! The threads that create, recycle and delete segments, so that no shard core waits for megabytes of zeros or a directory
//! sync. One per disk, see [`super::threads`].
//!
//! When a segment is wanted is the appender's decision and not made here.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corefold_shards::wal::layout::SEGMENT_HEADER_SIZE;
use corefold_shards::wal::{BlockPool, BufferIndex, DiskCompletion, DiskRequest, SegmentHeader, SegmentId};
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

use super::directory::random_bytes;
use super::doorbell::Doorbell;
use super::error::DiskError;
use super::files::{LogDirectory, open_for_blocks};
use super::threads::DiskThreads;
use crate::background::Background;

/// Zeros written at once where there is no time to lose, and where there is: what the log writes meanwhile waits for a piece.
const PIECE_SIZE: usize = 256 << 10;
const PIECE_SIZE_CALM: usize = 128 << 10;
/// A new segment takes as long as the log takes to fill one, but no longer than this because of pauses, and neither where
/// others wait for theirs nor where the log has none left.
const PACE_MAX: Duration = Duration::from_secs(1);
/// Longest pause between pieces.
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// A segment that is deleted shrinks by so much at once, and then there is a pause unless there is other work.
const SHRINK_STEP: u64 = 1 << 20;
const SHRINK_PAUSE: Duration = Duration::from_millis(2);

/// The threads' owner: dropping it ends each after the job at hand.
#[derive(Debug)]
pub struct SegmentKeeper {
    threads: DiskThreads<Job>,
    stop: Arc<AtomicBool>,
}

/// One shard's access to the thread of its disk.
#[derive(Debug)]
pub struct KeeperClient {
    jobs: Sender<Job>,
    answers: Receiver<Answer>,
    reply: Sender<Answer>,
    cancelled: Arc<AtomicBool>,
    log: Arc<LogDirectory>,
    direct: bool,
    bell: Arc<Doorbell>,
    under_way: usize,
    /// When a new segment was asked for last, and of which size.
    asked: Option<(Instant, u64)>,
    /// Whether the log writes to its last segment, and will wait for the next.
    is_urgent: Arc<AtomicBool>,
}

/// What came of a job.
#[derive(Debug)]
pub struct Answer {
    /// For the appender.
    pub completion: DiskCompletion,
    /// A new segment, open for writing.
    pub file: Option<File>,
}

#[derive(Debug)]
enum Job {
    Carry {
        request: DiskRequest,
        log: Arc<LogDirectory>,
        direct: bool,
        /// How long it may take.
        time: Duration,
        /// No longer than it must, after all.
        is_urgent: Arc<AtomicBool>,
        reply: Sender<Answer>,
        bell: Arc<Doorbell>,
        cancelled: Arc<AtomicBool>,
    },
    Stop,
}

impl SegmentKeeper {
    /// A keeper whose threads will run where `background` says.
    pub fn new(background: Background) -> SegmentKeeper {
        SegmentKeeper { threads: DiskThreads::new("corefold-segments", background), stop: Arc::default() }
    }

    /// Access for one shard, whose directory is there.
    pub fn client(&self, log: LogDirectory, direct: bool, bell: Arc<Doorbell>) -> Result<KeeperClient, DiskError> {
        let stop = Arc::clone(&self.stop);
        let (reply, answers) = crossbeam_channel::bounded(4);
        Ok(KeeperClient {
            jobs: self.threads.queue_of(log.path(), move |queue| run(queue, &stop))?,
            answers,
            reply,
            cancelled: Arc::new(AtomicBool::new(false)),
            log: Arc::new(log),
            direct,
            bell,
            under_way: 0,
            asked: None,
            is_urgent: Arc::new(AtomicBool::new(false)),
        })
    }
}

impl Drop for SegmentKeeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // If the queue is full the thread sees the flag before it can run dry.
        self.threads.end(|jobs| drop(jobs.try_send(Job::Stop)));
    }
}

impl KeeperClient {
    /// Hands a job over; `false` if the queue is full: try again later.
    pub fn try_send(&mut self, request: DiskRequest) -> bool {
        self.is_urgent.store(false, Ordering::Relaxed);
        let job = Job::Carry {
            request,
            log: Arc::clone(&self.log),
            direct: self.direct,
            time: self.pace_of(&request),
            is_urgent: Arc::clone(&self.is_urgent),
            reply: self.reply.clone(),
            bell: Arc::clone(&self.bell),
            cancelled: Arc::clone(&self.cancelled),
        };
        match self.jobs.try_send(job) {
            Ok(()) => {
                self.under_way += 1;
                if let DiskRequest::Prepare { size, .. } = request {
                    self.asked = Some((Instant::now(), size));
                }
                true
            }
            Err(TrySendError::Full(_)) => false,
            Err(TrySendError::Disconnected(_)) => {
                // The thread is gone: answer in its stead, so that the appender sees a failure, not silence.
                self.under_way += 1;
                self.reply
                    .try_send(Answer { completion: failure(&request, libc::ECANCELED, false), file: None })
                    .is_ok()
            }
        }
    }

    /// A segment is asked for whenever one is full, so the time between two is what the log takes for one; longer for a larger.
    fn pace_of(&self, request: &DiskRequest) -> Duration {
        match (*request, self.asked) {
            (DiskRequest::Prepare { size, .. }, Some((asked, size_then))) => {
                asked.elapsed().mul_f64(size as f64 / size_then.max(1) as f64).min(PACE_MAX)
            }
            _ => Duration::ZERO,
        }
    }

    /// The log has begun its last segment: the job under way is to take no more time than it must.
    pub fn hurry(&self) {
        self.is_urgent.store(true, Ordering::Relaxed);
    }

    /// The next finished job.
    pub fn try_receive(&mut self) -> Option<Answer> {
        match self.answers.try_recv() {
            Ok(answer) => {
                self.under_way -= 1;
                Some(answer)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// Whether an answer waits.
    pub fn has_answer(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Jobs that have not been answered yet.
    pub fn under_way(&self) -> usize {
        self.under_way
    }
}

impl Drop for KeeperClient {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

fn run(queue: &Receiver<Job>, stop: &AtomicBool) {
    // One piece of zeros, aligned for direct writes; the header of a segment is built in its first bytes.
    let mut zeros = BlockPool::new(1, PIECE_SIZE);
    while let Ok(Job::Carry { request, log, direct, time, is_urgent, reply, bell, cancelled }) = queue.recv() {
        let is_cancelled = || stop.load(Ordering::Relaxed) || cancelled.load(Ordering::Relaxed);
        let pause = |longest: Duration| {
            if queue.is_empty() && !is_urgent.load(Ordering::Relaxed) {
                std::thread::sleep(longest.min(PAUSE_MAX));
            }
        };
        let pace = Pace { time, pause: &pause, is_cancelled: &is_cancelled };
        let answer = if is_cancelled() {
            Answer { completion: failure(&request, libc::ECANCELED, false), file: None }
        } else {
            carry(&request, &log, direct, &mut zeros, &pace)
        };
        // The shard may be gone; then nobody needs the answer.
        let _ = reply.try_send(answer);
        bell.ring();
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Carries out a request at once, in the caller's thread: for commands that write to a log without an engine.
pub(super) fn carry_now(request: &DiskRequest, log: &LogDirectory) -> Answer {
    let pace = Pace { time: Duration::ZERO, pause: &|_| (), is_cancelled: &|| false };
    carry(request, log, false, &mut BlockPool::new(1, PIECE_SIZE), &pace)
}

/// How fast zeros are written: all at once they would stand before every write of the log in the queue of the disk.
struct Pace<'a> {
    time: Duration,
    pause: &'a dyn Fn(Duration),
    is_cancelled: &'a dyn Fn() -> bool,
}

fn carry(request: &DiskRequest, log: &LogDirectory, direct: bool, zeros: &mut BlockPool, pace: &Pace<'_>) -> Answer {
    let mut source_gone = false;
    let made = match *request {
        DiskRequest::Prepare { segment, size } => prepare(log, segment, size, direct, zeros, pace),
        DiskRequest::Recycle { from, segment, size } => {
            recycle(log, from, segment, size, direct, zeros, &mut source_gone)
        }
        DiskRequest::Remove { segment } => {
            let result = remove(log, segment, pace).map_err(|error| errno(&error));
            return Answer { completion: DiskCompletion::Removed { segment, result }, file: None };
        }
        DiskRequest::Write { .. } | DiskRequest::Close { .. } => unreachable!("the ring's work, not the keeper's"),
    };
    match made {
        Ok((completion, file)) => Answer { completion, file: Some(file) },
        Err(error) => Answer { completion: failure(request, errno(&error), source_gone), file: None },
    }
}

/// Makes a segment: zeros and header aside, sync, name, sync of the directory.
fn prepare(
    log: &LogDirectory,
    segment: SegmentId,
    size: u64,
    direct: bool,
    zeros: &mut BlockPool,
    pace: &Pace<'_>,
) -> io::Result<(DiskCompletion, File)> {
    let aside = log.temporary_path(segment);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let filled = open_for_blocks(&aside, direct, true).and_then(|(file, _)| {
        let bytes = zeros.bytes_mut(BufferIndex(0));
        bytes.fill(0);
        let (started, mut offset, mut is_calm) = (Instant::now(), 0, false);
        while offset < size {
            if (pace.is_cancelled)() {
                return Err(io::Error::from_raw_os_error(libc::ECANCELED));
            }
            let piece = if is_calm { PIECE_SIZE_CALM } else { PIECE_SIZE };
            let length = (size - offset).min(piece as u64) as usize;
            file.write_all_at(&bytes[..length], offset)?;
            offset += length as u64;
            let due = pace.time.mul_f64(offset as f64 / size as f64);
            let early = due.saturating_sub(started.elapsed());
            is_calm = !early.is_zero();
            if is_calm {
                (pace.pause)(early);
            }
        }
        baptise(log, &file, segment, size, zeros)
    });
    if filled.is_err() {
        let _ = fs::remove_file(&aside);
    }
    filled
}

/// Makes a segment of an old one. The old name goes first, durably: never is there a file under a segment's name whose
/// header is not that segment's.
fn recycle(
    log: &LogDirectory,
    from: SegmentId,
    segment: SegmentId,
    size: u64,
    direct: bool,
    zeros: &mut BlockPool,
    source_gone: &mut bool,
) -> io::Result<(DiskCompletion, File)> {
    let (old, aside) = (log.segment_path(from), log.temporary_path(segment));
    fs::rename(&old, &aside)?;
    if let Err(error) = sync(log) {
        // Segments go from the oldest on, each durably before the next: a power cut must not leave a hole.
        *source_gone = fs::rename(&aside, &old).is_err();
        return Err(error);
    }
    *source_gone = true;
    let made = open_for_blocks(&aside, direct, false).and_then(|(file, _)| {
        if file.metadata()?.len() != size {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        baptise(log, &file, segment, size, zeros)
    });
    if made.is_err() {
        let _ = fs::remove_file(&aside);
    }
    made
}

/// Deletes a segment: first its name, durably, then its bytes piece by piece. A file system that tells the disk what has
/// become free (`discard`) would hold up the log for milliseconds if it told all at once.
fn remove(log: &LogDirectory, segment: SegmentId, pace: &Pace<'_>) -> io::Result<()> {
    let aside = log.temporary_path(segment);
    // Where there is none, an attempt before this one has come so far.
    let unless_gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    unless_gone(fs::rename(log.segment_path(segment), &aside))?;
    sync(log)?;
    // A file that does not shrink goes as it is.
    if let Ok(file) = OpenOptions::new().write(true).open(&aside) {
        let mut size = file.metadata().map_or(0, |metadata| metadata.len());
        while size > SHRINK_STEP && !(pace.is_cancelled)() {
            size -= SHRINK_STEP;
            if file.set_len(size).is_err() {
                break;
            }
            (pace.pause)(SHRINK_PAUSE);
        }
    }
    unless_gone(fs::remove_file(&aside))
}

/// Writes the header, makes all of it durable, and gives the file its name.
fn baptise(
    log: &LogDirectory,
    file: &File,
    segment: SegmentId,
    size: u64,
    zeros: &mut BlockPool,
) -> io::Result<(DiskCompletion, File)> {
    let salt = u64::from_le_bytes(random_bytes().map_err(io::Error::other)?);
    let bytes = zeros.bytes_mut(BufferIndex(0));
    if let Some(block) = bytes.first_chunk_mut::<SEGMENT_HEADER_SIZE>() {
        SegmentHeader { identity: log.identity(), segment, salt, size }.encode(block);
    }
    file.write_all_at(&bytes[..SEGMENT_HEADER_SIZE], 0)?;
    file.sync_all()?;
    fs::rename(log.temporary_path(segment), log.segment_path(segment))?;
    let named = sync(log);
    if let Err(error) = named {
        // Under the name but perhaps not durably so: take it back, since failure means that nothing is there.
        let _ = fs::remove_file(log.segment_path(segment));
        return Err(error);
    }
    Ok((DiskCompletion::Prepared { segment, salt, size }, file.try_clone()?))
}

fn sync(log: &LogDirectory) -> io::Result<()> {
    File::open(log.path())?.sync_all()
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn failure(request: &DiskRequest, errno: i32, source_gone: bool) -> DiskCompletion {
    match *request {
        DiskRequest::Prepare { segment, .. } | DiskRequest::Recycle { segment, .. } => {
            DiskCompletion::PrepareFailed { segment, errno, source_gone }
        }
        DiskRequest::Remove { segment } => DiskCompletion::Removed { segment, result: Err(errno) },
        DiskRequest::Write { segment, offset, buffer, .. } => {
            DiskCompletion::Write { segment, offset, buffer, result: Err(errno) }
        }
        DiskRequest::Close { .. } => unreachable!("has no completion"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corefold_shards::wal::LogIdentity;
    use std::cell::RefCell;

    /// Removes a segment of `size` bytes; returns its size at each pause, and how much of it is left in the end.
    fn removed(size: u64, is_cancelled: bool, attempts: usize) -> (Vec<u64>, usize) {
        let directory = tempfile::tempdir().unwrap();
        let log = LogDirectory::new(directory.path().to_owned(), LogIdentity { store: [7; 16], shard: 0 });
        let segment = SegmentId::parse_file_name("00000000000000000003.wal").unwrap();
        File::create(log.segment_path(segment)).unwrap().set_len(size).unwrap();
        let sizes = RefCell::new(Vec::new());
        let pause = |_| {
            assert!(!log.segment_path(segment).exists(), "the name goes first");
            sizes.borrow_mut().push(fs::metadata(log.temporary_path(segment)).unwrap().len());
        };
        let pace = Pace { time: Duration::ZERO, pause: &pause, is_cancelled: &|| is_cancelled };
        for _ in 0..attempts {
            remove(&log, segment, &pace).unwrap();
        }
        (sizes.take(), fs::read_dir(directory.path()).unwrap().count())
    }

    #[test]
    fn a_segment_that_is_deleted_shrinks_first_unless_there_is_no_time() {
        let step = SHRINK_STEP;
        assert_eq!(removed(3 * step + 1, false, 1), (vec![2 * step + 1, step + 1, 1], 0));
        assert_eq!(removed(step, false, 2), (vec![], 0), "what is gone already is no failure");
        assert_eq!(removed(3 * step, true, 1), (vec![], 0));
    }

    #[test]
    fn a_segment_takes_as_long_as_the_log_takes_to_fill_one() {
        let keeper = SegmentKeeper::new(Background::default());
        let directory = tempfile::tempdir().unwrap();
        let log = LogDirectory::new(directory.path().to_owned(), LogIdentity { store: [7; 16], shard: 0 });
        let mut client = keeper.client(log, false, Arc::new(Doorbell::new().unwrap())).unwrap();
        let segment = SegmentId::parse_file_name("00000000000000000003.wal").unwrap();
        let prepare = |size| DiskRequest::Prepare { segment, size };
        assert_eq!(client.pace_of(&prepare(64)), Duration::ZERO, "nothing is known of the log yet");
        let earlier = Instant::now().checked_sub(Duration::from_millis(100)).unwrap();
        client.asked = Some((earlier, 64));
        let (same, double) = (client.pace_of(&prepare(64)), client.pace_of(&prepare(128)));
        assert!(same >= Duration::from_millis(100) && double >= 2 * Duration::from_millis(100), "{same:?} {double:?}");
        client.asked = Some((earlier, 1));
        assert_eq!(client.pace_of(&prepare(64)), PACE_MAX);
        assert_eq!(client.pace_of(&DiskRequest::Remove { segment }), Duration::ZERO);
    }
}
