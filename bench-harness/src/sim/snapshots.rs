//! The disk of one shard's snapshots, and what recovery finds on it.
//!
//! Both mirror the engine's snapshot keeper and its look at a shard's snapshots; what a snapshot says is
//! `corefold_shards::snapshot`'s.

use super::faults::{Fault, Faults};
use super::files::{Directory, Down, FileId, Files, Name, Path};
use crate::entropy::Entropy;
use corefold_engine::recover::{RecoverError, Snapshots};
use corefold_shards::snapshot::format::HEADER_SIZE;
use corefold_shards::snapshot::{
    Adopted, SnapshotCompletion, SnapshotError, SnapshotFile, SnapshotRequest, SnapshotSource, verify,
};
use corefold_shards::wal::LogIdentity;
use std::collections::VecDeque;
use std::io;

const EIO: i32 = 5;

/// Requests in the order in which they came, one step at a time.
#[derive(Debug)]
pub struct SnapshotDisk {
    identity: LogIdentity,
    queue: VecDeque<SnapshotRequest>,
    /// Steps done of the installation at the front.
    installed: usize,
}

/// What an installation does, one by one.
#[derive(Clone, Copy, Debug)]
enum Step {
    Header,
    Sync,
    Verify,
    Name,
    SyncNames,
}

const INSTALL: [Step; 5] = [Step::Header, Step::Sync, Step::Verify, Step::Name, Step::SyncNames];

impl SnapshotDisk {
    /// The snapshots of a shard.
    pub fn new(identity: LogIdentity) -> SnapshotDisk {
        SnapshotDisk { identity, queue: VecDeque::new(), installed: 0 }
    }

    /// Takes requests over.
    pub fn submit(&mut self, requests: impl Iterator<Item = SnapshotRequest>) {
        self.queue.extend(requests);
    }

    /// Whether anything is under way.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    fn path(&self, generation: u64) -> Path {
        Path { directory: Directory::Shard(self.identity.shard), name: Name::Snapshot(generation) }
    }

    fn aside(&self, generation: u64) -> Path {
        Path { directory: Directory::Shard(self.identity.shard), name: Name::SnapshotAside(generation) }
    }

    /// One turn: the next step of the oldest request.
    pub fn turn(
        &mut self,
        files: &mut Files,
        faults: &mut Faults,
        entropy: &mut Entropy,
        completions: &mut Vec<SnapshotCompletion>,
    ) -> Result<(), Down> {
        let Some(request) = self.queue.pop_front() else { return Ok(()) };
        let rate = faults.plan.snapshot_error;
        match request {
            SnapshotRequest::Write { generation, offset, bytes } => {
                let aside = self.aside(generation);
                let file = match files.find(aside) {
                    Some(file) => file,
                    None => files.create(aside)?,
                };
                let result = if faults.strikes(Fault::SnapshotError, rate, entropy) {
                    // Either it is said to have failed, or nothing is said and the bytes are not there.
                    if entropy.chance(0.5) {
                        Err(EIO)
                    } else {
                        files.write(file, offset as usize, &vec![0; bytes.len()]).map(Ok)?
                    }
                } else {
                    files.write(file, offset as usize, &bytes).map(Ok)?
                };
                completions.push(SnapshotCompletion::Written { generation, bytes, result });
            }
            SnapshotRequest::Install { generation, header } => {
                match self.install(generation, &header, files, faults, entropy)? {
                    Ok(()) if self.installed + 1 < INSTALL.len() => {
                        self.installed += 1;
                        self.queue.push_front(SnapshotRequest::Install { generation, header });
                    }
                    result => {
                        self.installed = 0;
                        if result.is_err() {
                            files.remove(self.aside(generation))?;
                        }
                        completions.push(SnapshotCompletion::Installed { generation, result });
                    }
                }
            }
            SnapshotRequest::Abandon { generation } => {
                files.remove(self.aside(generation))?;
            }
            SnapshotRequest::Remove { generation } => {
                files.remove(self.path(generation))?;
                completions.push(SnapshotCompletion::Removed { generation, result: Ok(()) });
            }
        }
        Ok(())
    }

    fn install(
        &self,
        generation: u64,
        header: &[u8; HEADER_SIZE],
        files: &mut Files,
        faults: &mut Faults,
        entropy: &mut Entropy,
    ) -> Result<Result<(), i32>, Down> {
        let (aside, path) = (self.aside(generation), self.path(generation));
        let sync_error = faults.plan.sync_error;
        let Some(file) = files.find(aside).or_else(|| files.find(path)) else { return Ok(Err(EIO)) };
        match INSTALL[self.installed] {
            Step::Header => files.write(file, 0, header)?,
            Step::Sync => {
                if faults.strikes(Fault::SyncError, sync_error, entropy) {
                    return Ok(Err(EIO));
                }
                files.sync(file)?;
            }
            Step::Verify => {
                if verify(files.bytes(file), &self.identity, generation).is_err() {
                    return Ok(Err(EIO));
                }
            }
            Step::Name => {
                files.rename(aside, path)?;
            }
            Step::SyncNames => {
                if faults.strikes(Fault::SyncError, sync_error, entropy) {
                    files.remove(path)?;
                    return Ok(Err(EIO));
                }
                files.sync_directory(path.directory)?;
            }
        }
        Ok(Ok(()))
    }
}

/// Reads a snapshot, with the read errors that the seed wants.
#[derive(Debug)]
pub struct SnapshotReader<'a> {
    bytes: &'a [u8],
    fails_once: bool,
    lasting: Option<u64>,
}

impl<'a> SnapshotReader<'a> {
    fn new(files: &'a Files, file: FileId, faults: &mut Faults, entropy: &mut Entropy) -> SnapshotReader<'a> {
        let bytes = files.bytes(file);
        let (once, lasting) = (faults.plan.read_error_once, faults.plan.read_error_lasting);
        let fails_once = faults.strikes(Fault::ReadErrorOnce, once, entropy);
        let lasting = (!bytes.is_empty() && faults.strikes(Fault::ReadErrorLasting, lasting, entropy))
            .then(|| entropy.below(bytes.len() as u64));
        SnapshotReader { bytes, fails_once, lasting }
    }
}

impl SnapshotSource for SnapshotReader<'_> {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.fails_once) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let mut bytes = self.bytes;
        let count = SnapshotSource::read_at(&mut bytes, offset, into)?;
        if self.lasting.is_some_and(|at| (offset..offset + count as u64).contains(&at)) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(count)
    }
}

/// Opens a snapshot of a shard.
pub fn open_snapshot<'a>(
    files: &'a Files,
    identity: &LogIdentity,
    generation: u64,
    faults: &mut Faults,
    entropy: &mut Entropy,
) -> Result<SnapshotFile<SnapshotReader<'a>>, SnapshotError> {
    let path = Path { directory: Directory::Shard(identity.shard), name: Name::Snapshot(generation) };
    let missing = || SnapshotError::Read { offset: 0, error: io::ErrorKind::NotFound.into() };
    let file = files.find(path).ok_or_else(missing)?;
    SnapshotFile::open(SnapshotReader::new(files, file, faults, entropy), identity, generation)
}

/// Deletes snapshots of a shard for good.
pub fn remove_snapshots(files: &mut Files, shard: u32, generations: &[u64]) -> Result<(), Down> {
    let directory = Directory::Shard(shard);
    for &generation in generations {
        files.remove(Path { directory, name: Name::Snapshot(generation) })?;
    }
    if generations.is_empty() { Ok(()) } else { files.sync_directory(directory) }
}

/// Deletes what was being written when the process died.
pub fn remove_leftovers(files: &mut Files, shard: u32) -> Result<(), Down> {
    let directory = Directory::Shard(shard);
    for name in files.list(directory).into_iter().filter(|name| matches!(name, Name::SnapshotAside(_))) {
        files.remove(Path { directory, name })?;
    }
    Ok(())
}

/// Looks at the snapshots of a shard, below generation `below` if one is given.
pub fn read_snapshots(
    files: &Files,
    identity: &LogIdentity,
    below: Option<u64>,
    faults: &mut Faults,
    entropy: &mut Entropy,
) -> Result<Snapshots, RecoverError> {
    let names = files.list(Directory::Shard(identity.shard)).into_iter().rev();
    let generations = names.filter_map(|name| match name {
        Name::Snapshot(generation) if below.is_none_or(|below| generation < below) => Some(generation),
        _ => None,
    });
    let found = Snapshots::look(generations, |generation| open_snapshot(files, identity, generation, faults, entropy));
    found.map_err(|(_, error)| snapshot_error(error))
}

/// As the engine's recovery says it.
pub fn snapshot_error(error: SnapshotError) -> RecoverError {
    RecoverError::Snapshot { file: "simulated".to_owned(), error }
}

/// What tells a shard directory from a later one with the same number.
pub fn witness_of(files: &Files, shard: u32) -> Adopted {
    Adopted { shard, birth: files.birth(shard).unwrap_or(0) }
}
