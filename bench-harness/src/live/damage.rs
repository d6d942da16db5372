//! A data directory that was left by a killed run, damaged in every way, and what becomes of each damage.
//!
//! Most damage is judged in this process, by the engine's own recovery on a copy in memory: hundreds of thousands of
//! flipped bits would take days through the program. What recovery does not refuse and does not see as the same is
//! then put to the program itself. Which damage is done is in [`super::rows::damaged`].

use super::child::Ended;
use super::job::{Files, PATIENCE, Place, Start, gather, spread};
use super::rows::confined::refused;
use super::{Checked, Stop, ensure, fail};
use corefold_aggregator::time::Duration;
use corefold_engine::disk::Store;
use corefold_engine::manifest::MANIFEST_FILE;
use corefold_engine::manifest::scan::{self as manifest, walk};
use corefold_engine::recover::{PANES, RecoveredPanes, RecoveredStore, Snapshots, open_snapshot, recover};
use corefold_shards::snapshot::format::parse_file_name;
use corefold_shards::snapshot::{SnapshotError, SnapshotFile, SnapshotSource};
use corefold_shards::wal::{LogIdentity, RecoveryError, ScanOptions, SegmentId, SegmentSource, replay, scan};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// How late events may come in the jobs of this suite; see [`super::job`].
const DELAY_MICROS: i64 = 3_600_000_000;

/// What recovery makes of a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// This state, as a hash of all that the engine goes on with.
    State(u64),
    /// Refused, with these words.
    Refused(String),
    /// A panic, which is never right.
    Panic,
}

/// What a killed run has left: its data directory and its outputs.
#[derive(Clone, Debug)]
pub struct Remains {
    /// The data directory.
    pub store: Files,
    /// The outputs.
    pub outputs: Files,
}

impl Remains {
    /// Of a place whose run was killed.
    pub fn of(place: &Place<'_>) -> Checked<Remains> {
        let mut store = Files::new();
        gather(&place.store(), &place.store(), &mut store)?;
        // Files that were being made are deleted unread by the next start.
        store.retain(|name, _| name.extension().is_none_or(|extension| extension != "tmp"));
        Ok(Remains { store, outputs: place.outputs()? })
    }

    /// Puts them into a place, with another data directory.
    pub fn spread(&self, place: &Place<'_>, store: &Files) -> Checked {
        spread(store, &place.store())?;
        Ok(spread(&self.outputs, &place.root.join("out"))?)
    }

    /// Files of the data directory whose path holds `part`, in order.
    pub fn names(&self, part: &str) -> Vec<PathBuf> {
        self.store.keys().filter(|path| path.to_string_lossy().contains(part)).cloned().collect()
    }
}

/// A data directory in memory, to be damaged and looked at again and again.
#[derive(Debug)]
pub struct Bench {
    root: PathBuf,
    lanes: usize,
}

impl Bench {
    /// A copy of `store` in `root`.
    pub fn new(root: &Path, store: &Files, lanes: usize) -> Checked<Bench> {
        spread(store, root)?;
        Ok(Bench { root: root.to_owned(), lanes })
    }

    /// Puts other content into a file.
    pub fn replace(&self, name: &Path, bytes: &[u8]) -> Checked {
        Ok(fs::write(self.root.join(name), bytes)?)
    }

    /// What recovery makes of it.
    pub fn look(&self) -> Outcome {
        match catch_unwind(AssertUnwindSafe(|| state_of(&self.root, self.lanes))) {
            Ok(Ok(state)) => Outcome::State(state),
            Ok(Err(why)) => Outcome::Refused(why.replace(&*self.root.to_string_lossy(), "store")),
            Err(_) => Outcome::Panic,
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// A hash of all that a start would go on with: what recovery says, and every byte of the records, panes and snapshots
/// that it would read. How the log's end came about is left out.
fn state_of(root: &Path, lanes: usize) -> Result<u64, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let store = Store::open(root).map_err(|error| text(&error))?;
    let delay = Duration::from_micros(DELAY_MICROS).unwrap_or(Duration::ZERO);
    let recovered = recover(&store, 0, lanes, |_| delay, true).map_err(|error| text(&error))?;
    let mut hash = Xxh3::new();
    let RecoveredStore { shards, adopted, lanes, network, rows, limit, panes, released, is_salvaged } = &recovered;
    let mut said =
        format!("{:?} {adopted:?} {lanes:?} {network:?} {rows} {limit:?} {released:?} {is_salvaged} ", store.meta());
    for shard in shards {
        let _ = write!(said, "{} {:?} {:?}", shard.shard, shard.snapshot(), shard.frontiers);
        if let Some(snapshot) = shard.snapshot() {
            let mut content = |hash: &mut Xxh3| -> Result<(), SnapshotError> {
                let mut file = open_snapshot(&store, shard.shard, snapshot.generation)?;
                let _ = write!(said, "{:?}", file.head());
                while let Some(chunk) = file.next_chunk()? {
                    hash.update(chunk.bytes);
                }
                Ok(())
            };
            content(&mut hash).map_err(|error| text(&error))?;
        }
        let directory = store.log_directory(shard.shard).map_err(|error| text(&error))?;
        let options = ScanOptions { from: shard.snapshots.lsn(), ..ScanOptions::new(directory.identity()) };
        let mut files = directory.files().map_err(|error| text(&error))?;
        let records = replay::<_, RecoveryError, _>(&mut files, &options, &shard.log, |record| {
            hash.update(&record.lsn.0.to_le_bytes());
            hash.update(record.payload);
            Ok(())
        });
        records.map_err(|error| text(&error))?;
    }
    if let Some(RecoveredPanes { log, history }) = panes {
        let _ = write!(said, "{history:?}");
        let directory = store.named_log_directory(PANES).map_err(|error| text(&error))?;
        let mut files = directory.files().map_err(|error| text(&error))?;
        let options = RecoveredPanes::options(directory.identity());
        let records = replay::<_, RecoveryError, _>(&mut files, &options, log, |record| {
            hash.update(&record.lsn.0.to_le_bytes());
            hash.update(record.payload);
            Ok(())
        });
        records.map_err(|error| text(&error))?;
    }
    hash.update(said.as_bytes());
    Ok(hash.digest())
}

/// One file of a data directory in memory, with what is needed to judge it after damage.
#[derive(Debug)]
pub enum Image {
    /// A log and which of its segments is damaged.
    Log {
        /// All segments.
        segments: Vec<(SegmentId, Vec<u8>)>,
        /// Index of the one to damage.
        damaged: usize,
        /// How it is read.
        options: ScanOptions,
        /// Its directory within the data directory, for messages.
        directory: PathBuf,
    },
    /// The manifest of the outputs.
    Manifest(Vec<u8>),
    /// The identity of the data directory, in a directory of its own.
    Identity {
        /// The directory.
        root: PathBuf,
        /// The file.
        bytes: Vec<u8>,
    },
    /// A snapshot.
    Snapshot {
        /// Its bytes.
        bytes: Vec<u8>,
        /// Whose it is.
        identity: LogIdentity,
        /// Which one it claims to be.
        generation: u64,
        /// Its path within the data directory, for messages.
        name: PathBuf,
    },
}

impl Bench {
    /// The file `name`, in memory, ready to be damaged and judged alone: a log is read as recovery reads it, from its
    /// shard's snapshot on, and a snapshot as recovery looks for one.
    pub fn image(&self, name: &Path, store: &Files) -> Checked<Image> {
        let said = |error: &dyn std::fmt::Display| Stop::Fail(error.to_string());
        let opened = Store::open(&self.root).map_err(|error| said(&error))?;
        let top = name.iter().next().map(|top| top.to_string_lossy().into_owned()).unwrap_or_default();
        let shard: Option<u32> = top.strip_prefix("shard-").and_then(|digits| digits.parse().ok());
        let file = name.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let (Some(shard), Some(generation)) = (shard, parse_file_name(&file)) {
            let identity = opened.log_identity(shard);
            return Ok(Image::Snapshot { bytes: store[name].clone(), identity, generation, name: name.to_owned() });
        }
        if file == MANIFEST_FILE {
            return Ok(Image::Manifest(store[name].clone()));
        }
        if file == "store.json" {
            let root = self.root.with_extension(format!("identity-{:?}", std::thread::current().id()));
            fs::create_dir_all(&root)?;
            return Ok(Image::Identity { root, bytes: store[name].clone() });
        }
        let directory = name.parent().unwrap_or(Path::new("")).to_owned();
        let mut segments = Vec::new();
        for (path, bytes) in store.iter().filter(|(path, _)| path.parent() == Some(&directory)) {
            let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let segment = SegmentId::parse_file_name(file);
            segments.push((segment.ok_or_else(|| Stop::Fail(format!("{file} is no segment")))?, bytes.clone()));
        }
        let options = match shard {
            None => RecoveredPanes::options(LogIdentity { store: opened.uuid(), shard: u32::MAX }),
            Some(shard) => {
                let from = Snapshots::read(&opened, shard, None).map_err(|error| said(&error))?.lsn();
                ScanOptions { from, ..ScanOptions::new(opened.log_identity(shard)) }
            }
        };
        let damaged = segments.iter().position(|(segment, _)| segment.file_name() == file).unwrap_or(0);
        Ok(Image::Log { segments, damaged, options, directory })
    }
}

impl Image {
    /// Flips one bit of each of these bytes; a second time undoes it.
    pub fn flip(&mut self, at: &[u64], bit: u8) {
        let bytes = match self {
            Image::Log { segments, damaged, .. } => &mut segments[*damaged].1,
            Image::Snapshot { bytes, .. } | Image::Manifest(bytes) | Image::Identity { bytes, .. } => bytes,
        };
        at.iter().for_each(|&at| bytes[at as usize] ^= 1 << bit);
    }

    /// What recovery makes of it.
    pub fn look(&mut self) -> Outcome {
        match catch_unwind(AssertUnwindSafe(|| self.state())) {
            Ok(Ok(state)) => Outcome::State(state),
            Ok(Err(why)) => Outcome::Refused(why),
            Err(_) => Outcome::Panic,
        }
    }

    fn state(&mut self) -> Result<u64, String> {
        let mut hash = Xxh3::new();
        match self {
            Image::Log { segments, options, directory, .. } => {
                let mut source = Segments { segments, directory };
                let recovered = scan::<_, RecoveryError, _>(&mut source, options, |record| {
                    hash.update(&record.lsn.0.to_le_bytes());
                    hash.update(&[record.kind.0]);
                    hash.update(record.payload);
                    Ok(())
                });
                let recovered = recovered.map_err(|error| error.to_string())?;
                hash.update(&recovered.resume.next_lsn.0.to_le_bytes());
            }
            Image::Manifest(bytes) => {
                let verdict = walk::<_, io::Error>(&bytes[..], |seen| {
                    // What a crash has torn is cut.
                    if let Ok(line) = &seen.line {
                        hash.update(format!("{line:?}").as_bytes());
                    }
                    Ok(())
                });
                match verdict.map_err(|error| error.to_string())? {
                    manifest::Verdict::Sound | manifest::Verdict::Torn(_) => {}
                    manifest::Verdict::Damaged(spot) => {
                        return Err(format!("{MANIFEST_FILE}:{}: {}", spot.line, spot.fault));
                    }
                }
            }
            Image::Identity { root, bytes } => {
                fs::write(root.join("store.json"), &bytes[..]).map_err(|error| error.to_string())?;
                let store = Store::open(root).map_err(|error| error.to_string())?;
                hash.update(format!("{:?} {:?}", store.uuid(), store.meta()).as_bytes());
            }
            Image::Snapshot { bytes, identity, generation, name } => {
                // One that cannot be used is passed over for an older one: a state of its own, not a refusal.
                let Ok(mut file) = SnapshotFile::open(Bytes(bytes), identity, *generation) else { return Ok(0) };
                hash.update(format!("{:?} {:?}", file.header(), file.head()).as_bytes());
                loop {
                    match file.next_chunk() {
                        Ok(Some(chunk)) => hash.update(chunk.bytes),
                        Ok(None) => break,
                        Err(SnapshotError::Read { .. }) => return Err(format!("{}: cannot be read", name.display())),
                        Err(_) => return Ok(0),
                    }
                }
            }
        }
        Ok(hash.digest())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Image::Identity { root, .. } = self {
            let _ = fs::remove_dir_all(root);
        }
    }
}

/// Segments in memory.
struct Segments<'a> {
    segments: &'a [(SegmentId, Vec<u8>)],
    directory: &'a Path,
}

impl Segments<'_> {
    fn bytes(&self, wanted: SegmentId) -> io::Result<&[u8]> {
        let found = self.segments.iter().find(|(segment, _)| *segment == wanted);
        found.map(|(_, bytes)| &bytes[..]).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl SegmentSource for Segments<'_> {
    fn list(&mut self) -> io::Result<Vec<SegmentId>> {
        Ok(self.segments.iter().map(|(segment, _)| *segment).collect())
    }

    fn length(&mut self, segment: SegmentId) -> io::Result<u64> {
        Ok(self.bytes(segment)?.len() as u64)
    }

    fn read_at(&mut self, segment: SegmentId, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        Ok(copy(self.bytes(segment)?, offset, into))
    }

    fn name(&self, segment: SegmentId) -> String {
        self.directory.join(segment.file_name()).display().to_string()
    }
}

/// A snapshot in memory.
struct Bytes<'a>(&'a [u8]);

impl SnapshotSource for Bytes<'_> {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        Ok(copy(self.0, offset, into))
    }
}

fn copy(from: &[u8], offset: u64, into: &mut [u8]) -> usize {
    let rest = from.get(offset as usize..).unwrap_or_default();
    let length = rest.len().min(into.len());
    into[..length].copy_from_slice(&rest[..length]);
    length
}

/// What the program made of a damaged directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It went on to the same bytes and ledger.
    Same,
    /// It refused, with a code and a sentence that names a place in the directory.
    Refused,
}

/// Puts a damaged data directory to the program. Anything but [`Answer`] is a failure.
pub fn ask(place: &Place<'_>, remains: &Remains, store: &Files, what: &str) -> Checked<Answer> {
    remains.spread(place, store)?;
    let ended = place.start(Start::default())?.end(PATIENCE)?;
    judge(place, &remains.outputs, &ended).or_else(|stop| fail(format!("{what}: {stop}")))
}

fn judge(place: &Place<'_>, before: &Files, ended: &Ended) -> Checked<Answer> {
    if ended.code == Some(0) {
        place.check(ended)?;
        return Ok(Answer::Same);
    }
    // It names a place in the directory, or the output that cannot be continued from what is left of it.
    let outputs = place.root.join("out");
    refused(
        ended,
        &[2, 74],
        &[&place.store().to_string_lossy(), &outputs.to_string_lossy(), "belongs to another job"],
    )?;
    // A refusal comes before anything is written.
    let after = place.outputs()?;
    let changed = before.iter().find(|(path, bytes)| after.get(*path) != Some(*bytes));
    ensure(changed.is_none(), || format!("{:?} changed: {}", changed.map(|(path, _)| path), ended.stderr))?;
    Ok(Answer::Refused)
}

/// A directory in memory if there is one, otherwise below `scratch`.
pub fn memory_directory(scratch: &Path, name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory } else { scratch };
    base.join(format!("corefold-faults-{}-{name}", std::process::id()))
}

/// Runs a job about so far on its way, kills it, and takes what it has left.
pub fn remains_of_a_run(place: &Place<'_>, way: f64) -> Checked<Remains> {
    // On a busy machine the kill may come before the log has its first segment.
    for _ in 0..RUNS_MAX {
        place.half_done(Start::default(), way)?;
        let remains = Remains::of(place)?;
        if !remains.names(".wal").is_empty() {
            return Ok(remains);
        }
        place.clear()?;
    }
    Err(Stop::Fail(format!("{RUNS_MAX} runs left no log")))
}

/// Runs that may be killed too early.
const RUNS_MAX: u32 = 10;
