//! The threads that write snapshots, so that no shard core waits for a sync of megabytes. One per disk, see
//! [`super::threads`].
//!
//! What is written and when is `corefold_shards::snapshot`'s. The log's writes do not pass here.

use super::directory::sync_directory;
use super::doorbell::Doorbell;
use super::error::DiskError;
use super::probe::forget_cached;
use super::threads::DiskThreads;
use crate::background::Background;
use corefold_shards::snapshot::format::{HEADER_SIZE, file_name, parse_file_name};
use corefold_shards::snapshot::{SnapshotCompletion, SnapshotRequest, SnapshotSource, verify};
use corefold_shards::wal::LogIdentity;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a snapshot after which the device gets what was written: a sync of all at the end would hold up the log's
/// own writes.
const SYNC_EVERY: u64 = 4 << 20;

/// The threads' owner: dropping it waits until all shards have gone and what they asked for is done.
#[derive(Debug)]
pub struct SnapshotKeeper {
    threads: DiskThreads<Job>,
}

/// One shard's access to the thread of its disk.
#[derive(Debug)]
pub struct SnapshotClient {
    jobs: Sender<Job>,
    reply: Sender<SnapshotCompletion>,
    answers: Receiver<SnapshotCompletion>,
    place: Arc<Place>,
}

/// Whose snapshots, and where.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
    identity: LogIdentity,
    bell: Arc<Doorbell>,
}

#[derive(Debug)]
struct Job {
    request: SnapshotRequest,
    place: Arc<Place>,
    reply: Sender<SnapshotCompletion>,
}

/// A snapshot that is being written.
#[derive(Debug)]
struct Open {
    shard: u32,
    generation: u64,
    file: File,
    unsynced: u64,
}

impl SnapshotKeeper {
    /// A keeper whose threads will run where `background` says.
    pub fn new(background: Background) -> SnapshotKeeper {
        SnapshotKeeper { threads: DiskThreads::new("corefold-snapshots", background) }
    }

    /// Access for the shard whose files lie in `directory`, which is there.
    pub fn client(
        &self,
        directory: PathBuf,
        identity: LogIdentity,
        bell: Arc<Doorbell>,
    ) -> Result<SnapshotClient, DiskError> {
        let (reply, answers) = crossbeam_channel::unbounded();
        let jobs = self.threads.queue_of(&directory, run)?;
        Ok(SnapshotClient { jobs, reply, answers, place: Arc::new(Place { directory, identity, bell }) })
    }
}

impl Drop for SnapshotKeeper {
    fn drop(&mut self) {
        self.threads.end(|_| ());
    }
}

impl SnapshotClient {
    /// Hands requests over.
    pub fn submit(&self, requests: impl Iterator<Item = SnapshotRequest>) {
        for request in requests {
            let job = Job { request, place: Arc::clone(&self.place), reply: self.reply.clone() };
            // Full or gone: a failure like any other, and the shard tries again later.
            if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.jobs.try_send(job) {
                let _ = failure(job.request, libc::EAGAIN).map(|answer| self.reply.send(answer));
            }
        }
    }

    /// Takes what is done; true if there was anything.
    pub fn reap(&self, into: &mut Vec<SnapshotCompletion>) -> bool {
        let before = into.len();
        into.extend(self.answers.try_iter());
        into.len() > before
    }
}

fn run(queue: &Receiver<Job>) {
    let mut open: Vec<Open> = Vec::new();
    for Job { request, place, reply } in queue {
        if let Some(answer) = carry(request, &place, &mut open) {
            // The shard may be gone; then nobody needs the answer.
            let _ = reply.send(answer);
            place.bell.ring();
        }
    }
}

fn carry(request: SnapshotRequest, place: &Place, open: &mut Vec<Open>) -> Option<SnapshotCompletion> {
    let shard = place.identity.shard;
    match request {
        SnapshotRequest::Write { generation, offset, bytes } => {
            let written = write(place, open, generation, offset, &bytes);
            let result = written.map_err(|error| errno(&error));
            Some(SnapshotCompletion::Written { generation, bytes, result })
        }
        SnapshotRequest::Install { generation, header } => {
            let at = open.iter().position(|open| open.shard == shard && open.generation == generation);
            let installed = match at {
                Some(at) => install(place, &open.swap_remove(at), &header),
                None => Err(io::ErrorKind::NotFound.into()),
            };
            if installed.is_err() {
                let _ = fs::remove_file(aside(place, generation));
            }
            Some(SnapshotCompletion::Installed { generation, result: installed.map_err(|error| errno(&error)) })
        }
        SnapshotRequest::Abandon { generation } => {
            open.retain(|open| open.shard != shard || open.generation != generation);
            // A leftover is deleted at the next start.
            let _ = fs::remove_file(aside(place, generation));
            None
        }
        SnapshotRequest::Remove { generation } => {
            let removed = match fs::remove_file(place.directory.join(file_name(generation))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            };
            let result = removed.map_err(|error| errno(&error));
            Some(SnapshotCompletion::Removed { generation, result })
        }
    }
}

fn write(place: &Place, all: &mut Vec<Open>, generation: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let shard = place.identity.shard;
    let at = match all.iter().position(|open| open.shard == shard && open.generation == generation) {
        Some(at) => at,
        None => {
            let file =
                File::options().read(true).write(true).create(true).truncate(true).open(aside(place, generation))?;
            all.push(Open { shard, generation, file, unsynced: 0 });
            all.len() - 1
        }
    };
    let open = &mut all[at];
    open.file.write_all_at(bytes, offset)?;
    open.unsynced += bytes.len() as u64;
    if open.unsynced >= SYNC_EVERY {
        open.file.sync_data()?;
        open.unsynced = 0;
    }
    Ok(())
}

/// Completes a snapshot: header, sync, a look at every byte of it, name, sync of the directory.
fn install(place: &Place, open: &Open, header: &[u8; HEADER_SIZE]) -> io::Result<()> {
    open.file.write_all_at(header, 0)?;
    open.file.sync_all()?;
    forget_cached(&open.file);
    verify(SnapshotReader(&open.file), &place.identity, open.generation).map_err(io::Error::other)?;
    let name = place.directory.join(file_name(open.generation));
    fs::rename(aside(place, open.generation), &name)?;
    let named = sync_directory(&place.directory);
    if let Err(error) = named {
        // Under the name but perhaps not durably so: take it back, since failure means that nothing is there.
        let _ = fs::remove_file(&name);
        return Err(io::Error::other(error));
    }
    Ok(())
}

fn aside(place: &Place, generation: u64) -> PathBuf {
    place.directory.join(format!("{}.tmp", file_name(generation)))
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn failure(request: SnapshotRequest, errno: i32) -> Option<SnapshotCompletion> {
    let result = Err(errno);
    match request {
        SnapshotRequest::Write { generation, bytes, .. } => {
            Some(SnapshotCompletion::Written { generation, bytes, result })
        }
        SnapshotRequest::Install { generation, .. } => Some(SnapshotCompletion::Installed { generation, result }),
        SnapshotRequest::Remove { generation } => Some(SnapshotCompletion::Removed { generation, result }),
        SnapshotRequest::Abandon { .. } => None,
    }
}

/// Reads a snapshot's file.
#[derive(Debug)]
pub struct SnapshotReader<F>(pub F);

impl<F: std::borrow::Borrow<File>> SnapshotSource for SnapshotReader<F> {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.0.borrow().metadata()?.len())
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.borrow().read_at(into, offset)
    }
}

/// Generations of the snapshots in a shard's directory, newest first.
pub fn list(directory: &Path) -> Result<Vec<u64>, DiskError> {
    let mut generations = Vec::new();
    for entry in fs::read_dir(directory).map_err(DiskError::io("list", directory))? {
        let name = entry.map_err(DiskError::io("list", directory))?.file_name();
        generations.extend(name.to_str().and_then(parse_file_name));
    }
    generations.sort_unstable_by(|a, b| b.cmp(a));
    Ok(generations)
}

/// Deletes snapshots of a shard for good.
pub fn remove(directory: &Path, generations: &[u64]) -> Result<(), DiskError> {
    for &generation in generations {
        let path = directory.join(file_name(generation));
        fs::remove_file(&path).map_err(DiskError::io("delete", &path))?;
    }
    if generations.is_empty() { Ok(()) } else { sync_directory(directory) }
}

/// Deletes what was being written when the process died.
pub fn remove_leftovers(directory: &Path) -> Result<(), DiskError> {
    for entry in fs::read_dir(directory).map_err(DiskError::io("list", directory))? {
        let path = entry.map_err(DiskError::io("list", directory))?.path();
        let is_leftover = path.extension().is_some_and(|extension| extension == "tmp") && path.is_file();
        if is_leftover {
            fs::remove_file(&path).map_err(DiskError::io("delete", &path))?;
        }
    }
    Ok(())
}
