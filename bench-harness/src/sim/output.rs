//! The output of a long-running engine on a simulated disk: rows behind each other in one file, and a manifest that
//! says up to where they count.
//!
//! A model of the engine's exporter thread: the rows are written by the engine's own CSV exporter, the order of the
//! steps is mirrored. What rows are is not known here.

use super::Failure;
use super::checks::ViewOutput;
use super::faults::Faults;
use super::files::{Directory, Down, FileId, Files, Name, Path};
use crate::local::plan::LocalPlan;
use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::result::{OutputColumn, ResultBatch};
use corefold_aggregator::time::EventTime;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a line of the manifest: offset, window end, checksum of the rows, checksum of the line.
const LINE: usize = 32;

const MANIFEST: Path = Path { directory: Directory::Root, name: Name::Manifest };
const OUTPUT: Path = Path { directory: Directory::Root, name: Name::Output };

/// See the module.
pub struct RunOutput {
    rows: FileId,
    manifest: FileId,
    /// What was committed before this life.
    base: String,
    /// Rows of this life, behind a header line.
    view: ViewOutput,
    /// Bytes of this life's rows that are in the file.
    written: usize,
    /// All windows that end at or before this are committed.
    committed: EventTime,
    /// All windows that end at or before this were given to the exporter.
    emitted: EventTime,
    /// The commit under way.
    commit: Option<Commit>,
}

#[derive(Clone, Copy, Debug)]
struct Commit {
    step: usize,
    time: EventTime,
    length: usize,
}

/// What a commit does, one by one.
#[derive(Clone, Copy, Debug)]
enum Step {
    Write,
    Sync,
    Line,
    SyncManifest,
}

const COMMIT: [Step; 4] = [Step::Write, Step::Sync, Step::Line, Step::SyncManifest];

impl RunOutput {
    /// Opens the output behind what the manifest says is committed; what lies behind that is cut off.
    pub fn open(
        plan: &LocalPlan,
        coordinator: &Coordinator,
        files: &mut Files,
        faults: &Faults,
    ) -> Result<RunOutput, Failure> {
        let rows = find_or_make(files, OUTPUT)?;
        let manifest = find_or_make(files, MANIFEST)?;
        files.sync_directory(Directory::Root)?;
        let lines = files.bytes(manifest);
        let sound = lines.chunks_exact(LINE).take_while(|line| xxh3_64(&line[..LINE - 8]) == word(line, 3)).count();
        // A torn line is the last one; anything else was damaged.
        let torn = lines.len() - sound * LINE;
        let last = sound.checked_sub(1).map(|last| &lines[last * LINE..(last + 1) * LINE]);
        let (offset, time, crc) = last
            .map_or((0, i64::MIN, xxh3_64(&[])), |line| (word(line, 0) as usize, word(line, 1) as i64, word(line, 2)));
        let given = coordinator.given_through(0);
        // There are no outputs that were added later.
        let lost = time < given.0;
        if lost || torn > LINE || files.bytes(rows).get(..offset).is_none_or(|rows| xxh3_64(rows) != crc) {
            let time = EventTime(time);
            let reason =
                format!("the output or its manifest is damaged: committed {time}, given {given}, {torn} bytes");
            let is_damaged = files.is_damaged() && faults.plan.class == super::FaultClass::Rot;
            return Err(if is_damaged {
                Failure::Refused(super::Refusal::Output, reason)
            } else {
                Failure::Broken(reason)
            });
        }
        let base = String::from_utf8_lossy(&files.bytes(rows)[..offset]).into_owned();
        files.set_length(manifest, sound * LINE)?;
        files.sync(manifest)?;
        files.set_length(rows, offset)?;
        files.sync(rows)?;
        let view = ViewOutput::new(plan)?;
        Ok(RunOutput {
            rows,
            manifest,
            base,
            view,
            written: 0,
            committed: EventTime(time),
            emitted: EventTime(time),
            commit: None,
        })
    }

    /// All windows that end at or before this are committed.
    pub fn committed(&self) -> EventTime {
        self.committed
    }

    /// Takes rows, but for those that are committed.
    pub fn write(&mut self, batch: &ResultBatch) -> Result<(), Failure> {
        let Some(OutputColumn::Time(ends)) = batch.columns.get(1) else {
            return Err(Failure::Broken("rows without the end of their window".to_owned()));
        };
        match ends.first() {
            // A batch is of one window.
            Some(&end) if end <= self.committed.0 => Ok(()),
            _ => self.view.write(batch),
        }
    }

    /// All windows that end at or before `time` have been given.
    pub fn emitted(&mut self, time: EventTime) {
        self.emitted = self.emitted.max(time);
    }

    /// Rows of this life as they stand behind `base`.
    fn text(&self) -> &str {
        if self.base.is_empty() { self.view.text() } else { self.view.rows() }
    }

    /// One step of a commit; a new one is begun if there is something to commit.
    pub fn turn(&mut self, files: &mut Files) -> Result<(), Down> {
        let Some(commit) = self.commit else {
            if self.emitted > self.committed {
                self.commit = Some(Commit { step: 0, time: self.emitted, length: self.text().len() });
            }
            return Ok(());
        };
        let offset = self.base.len();
        match COMMIT[commit.step] {
            Step::Write => {
                let rows = &self.text().as_bytes()[self.written..commit.length];
                files.write(self.rows, offset + self.written, rows)?;
                self.written = commit.length;
            }
            Step::Sync => files.sync(self.rows)?,
            Step::Line => {
                let end = offset + commit.length;
                let mut all = self.base.clone().into_bytes();
                all.extend_from_slice(&self.text().as_bytes()[..commit.length]);
                let mut line = [0; LINE];
                for (into, value) in line.chunks_exact_mut(8).zip([end as u64, commit.time.0 as u64, xxh3_64(&all)]) {
                    into.copy_from_slice(&value.to_le_bytes());
                }
                let crc = xxh3_64(&line[..LINE - 8]);
                line[LINE - 8..].copy_from_slice(&crc.to_le_bytes());
                let at = files.bytes(self.manifest).len();
                files.write(self.manifest, at, &line)?;
            }
            Step::SyncManifest => {
                files.sync(self.manifest)?;
                self.committed = commit.time;
            }
        }
        self.commit = (commit.step + 1 < COMMIT.len()).then_some(Commit { step: commit.step + 1, ..commit });
        Ok(())
    }

    /// Whether all that was given is committed.
    pub fn has_settled(&self) -> bool {
        self.commit.is_none() && self.emitted <= self.committed
    }

    /// All that was ever given out.
    pub fn all_text(&self) -> String {
        self.base.clone() + self.text()
    }

    /// What is in the file.
    pub fn file_text(&self, files: &Files) -> String {
        String::from_utf8_lossy(files.bytes(self.rows)).into_owned()
    }
}

fn find_or_make(files: &mut Files, path: Path) -> Result<FileId, Down> {
    match files.find(path) {
        Some(file) => Ok(file),
        None => files.create(path),
    }
}

fn word(line: &[u8], index: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&line[index * 8..index * 8 + 8]);
    u64::from_le_bytes(bytes)
}
