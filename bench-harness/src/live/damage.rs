//! A data directory that was left by a killed run, damaged in every way, and what becomes of each damage.
//!
//! Most damage is judged in this process, by the engine's own recovery on a copy in memory: hundreds of thousands of
//! flipped bits would take days through the program. What recovery does not refuse and does not see as the same is
//! then put to the program itself. Which damage is done is in [`super::rows::damaged`].

use super::child::Ended;
use super::job::{Files, Job, PATIENCE, Place, Start, gather, spread};
use super::rows::confined::refused;
use super::{Checked, ensure, fail};
use corefold_aggregator::time::Duration;
use corefold_engine::disk::Store;
use corefold_engine::recover::{PANES, RecoveredPanes, RecoveredStore, open_snapshot, recover};
use corefold_shards::snapshot::SnapshotError;
use corefold_shards::wal::{RecoveryError, ScanOptions, replay};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// How late events may come in the jobs of this suite; see [`Job`].
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

    /// Flips one bit of each of these bytes of a file; a second time undoes it.
    pub fn flip(&self, name: &Path, bytes: &[u64], bit: u8) -> Checked {
        let file = self.open(name)?;
        for &at in bytes {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at)?;
            byte[0] ^= 1 << bit;
            file.write_all_at(&byte, at)?;
        }
        Ok(())
    }

    /// Puts other content into a file.
    pub fn replace(&self, name: &Path, bytes: &[u8]) -> Checked {
        Ok(fs::write(self.root.join(name), bytes)?)
    }

    fn open(&self, name: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.root.join(name))
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
    let recovered = recover(&store, lanes, |_| delay, true).map_err(|error| text(&error))?;
    let mut hash = Xxh3::new();
    let RecoveredStore { shards, adopted, lanes, rows, limit, panes, released, is_salvaged } = &recovered;
    let mut said = format!("{:?} {adopted:?} {lanes:?} {rows} {limit:?} {released:?} {is_salvaged} ", store.meta());
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
    refused(ended, &[2, 74], &["store", "belongs to another job"])?;
    // A refusal comes before anything is written.
    let after = place.outputs()?;
    let changed = before.iter().find(|(path, bytes)| is_part(path) && after.get(*path) != Some(*bytes));
    ensure(changed.is_none(), || format!("{:?} changed: {}", changed.map(|(path, _)| path), ended.stderr))?;
    Ok(Answer::Refused)
}

fn is_part(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("part-"))
}

/// A directory in memory if there is one, otherwise below `scratch`.
pub fn memory_directory(scratch: &Path, name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory } else { scratch };
    base.join(format!("corefold-faults-{}-{name}", std::process::id()))
}

/// Runs a job until it has left something of everything: snapshots, several segments, a pane log.
pub fn remains_of_a_run(place: &Place<'_>, job: &Job, way: f64) -> Checked<Remains> {
    let _ = job;
    place.half_done(Start::default(), way)?;
    let remains = Remains::of(place)?;
    ensure(!remains.names(".wal").is_empty(), || "it left no log".to_owned())?;
    Ok(remains)
}
