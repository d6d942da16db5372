//! Crashes of an export with a manifest: after every step that it takes in the file system, by a kill (the system
//! lives on with all that was written) and by a power cut (what was not synced is lost, or not).
//!
//! Crashes of the whole program are in the tests of the binary.

use super::parts::tests::{HOUR, batch, files, hours, schema};
use super::{Booking, CommitNote, ExportError, Exporter, Format, PartsExporter, Rotation};
use crate::manifest::steps::{Step, listen};
use crate::manifest::{FileLine, FileState, Manifest};
use crate::summary::Ledger;
use corefold_aggregator::time::EventTime;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

const STORE: &str = "0011aabb-0000-4000-8000-000000000000";

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Crash {
    /// All of it.
    Kill,
    /// Nothing of it.
    Cut,
    /// Names, but no bytes.
    CutKeepsNames,
    /// Bytes, up to some place behind those that were synced, but no names.
    CutKeepsSome(u64),
}

const CRASHES: [Crash; 4] = [Crash::Kill, Crash::Cut, Crash::CutKeepsNames, Crash::CutKeepsSome(7)];

/// Files by path.
type Image = BTreeMap<PathBuf, Vec<u8>>;

/// What of a directory tree is durable.
#[derive(Default)]
struct Disk {
    root: PathBuf,
    /// Inode by path.
    names: BTreeMap<PathBuf, u64>,
    bytes: HashMap<u64, Vec<u8>>,
    steps: u64,
    crash: Option<(u64, Crash)>,
    /// What the crash leaves, once it has happened.
    left: Option<Image>,
}

impl Disk {
    fn directories(&self) -> [PathBuf; 2] {
        [self.root.join("data"), self.root.join("out")]
    }

    fn names_now(&self) -> BTreeMap<PathBuf, u64> {
        let entries = self.directories().into_iter().flat_map(|directory| fs::read_dir(directory).unwrap());
        entries
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::metadata(&path).unwrap().ino()))
            .collect()
    }

    fn on_step(&mut self, step: Step<'_>) {
        match step {
            Step::Changed(_) => {}
            Step::Synced(path) => {
                self.bytes.insert(fs::metadata(path).unwrap().ino(), fs::read(path).unwrap());
            }
            Step::NamesSynced(directory) => {
                self.names.retain(|path, _| path.parent() != Some(directory));
                self.names.extend(self.names_now().into_iter().filter(|(path, _)| path.parent() == Some(directory)));
            }
        }
        self.steps += 1;
        if let Some((_, crash)) = self.crash.filter(|(at, _)| *at == self.steps) {
            self.left = Some(self.image(crash));
        }
    }

    fn image(&self, crash: Crash) -> Image {
        let now = self.names_now();
        let by_inode: HashMap<u64, &PathBuf> = now.iter().map(|(path, inode)| (*inode, path)).collect();
        let names = match crash {
            Crash::Kill | Crash::CutKeepsNames => &now,
            Crash::Cut | Crash::CutKeepsSome(_) => &self.names,
        };
        let bytes = |inode: u64| {
            let durable = self.bytes.get(&inode).cloned().unwrap_or_default();
            let written = by_inode.get(&inode).map(|path| fs::read(path).unwrap()).unwrap_or_default();
            match crash {
                Crash::Kill => written,
                Crash::Cut | Crash::CutKeepsNames => durable,
                Crash::CutKeepsSome(some) if written.starts_with(&durable) => {
                    written[..written.len().min(durable.len() + some as usize)].to_vec()
                }
                Crash::CutKeepsSome(_) => durable,
            }
        };
        names.iter().map(|(path, inode)| (path.clone(), bytes(*inode))).collect()
    }

    /// Puts the files of an image in place of all others. They are durable from now on.
    fn restore(&mut self, image: &Image) {
        for path in self.names_now().keys() {
            fs::remove_file(path).unwrap();
        }
        for (path, bytes) in image {
            fs::write(path, bytes).unwrap();
        }
        self.names = self.names_now();
        self.bytes = self.names.iter().map(|(path, inode)| (*inode, fs::read(path).unwrap())).collect();
        (self.steps, self.crash, self.left) = (0, None, None);
    }
}

/// An export and all rows that will ever come.
#[derive(Clone, Debug)]
struct Job {
    format: Format,
    rotation: Rotation,
    /// A single file instead of parts.
    is_file: bool,
    /// Window end of every row.
    ends: Vec<i64>,
    /// Rows to a batch.
    batch: usize,
    /// Windows from one commit to the next.
    commit_every: usize,
}

impl Job {
    /// Opens the export as a run does.
    fn open(&self, root: &Path) -> Result<Box<dyn Exporter>, ExportError> {
        let manifest = Manifest::open(&root.join("data"), STORE)?;
        let booking = Booking { manifest: Arc::new(Mutex::new(manifest)), view: String::from("v") };
        let out = root.join("out");
        if self.is_file {
            let path = out.join(format!("all.{}", self.format.extension()));
            return PartsExporter::open_file_booked(&path, self.format, &schema(), &booking);
        }
        Ok(Box::new(PartsExporter::open_booked(&out, self.format, &schema(), self.rotation, &booking)?))
    }

    /// Rows come from a window that is not committed, or from one up to `earlier` windows before it, and all that
    /// follow, with commits now and then, until `says` is told how far is committed and says that it is over.
    fn live(&self, root: &Path, earlier: usize, says: &mut dyn FnMut(i64) -> bool) -> Result<(), ExportError> {
        let mut exporter = self.open(root)?;
        let through = exporter.committed_through().0;
        says(through);
        let first = self.ends.iter().position(|&end| end > through).unwrap_or(self.ends.len());
        let windows: Vec<&[i64]> = self.ends.chunk_by(|a, b| a == b).collect();
        let mut starts: Vec<usize> =
            windows.iter().scan(0, |at, window| Some(std::mem::replace(at, *at + window.len()))).collect();
        starts.push(self.ends.len());
        let window = starts.iter().position(|&start| start >= first).unwrap_or(0).saturating_sub(earlier);
        for (index, &start) in starts[..windows.len()].iter().enumerate().skip(window) {
            let rows = start..start + windows[index].len();
            for at in rows.clone().step_by(self.batch) {
                let end = rows.end.min(at + self.batch);
                exporter.write(&batch(&self.ends[at..end], at))?;
                if says(exporter.committed_through().0) {
                    return Ok(());
                }
            }
            if (index + 1).is_multiple_of(self.commit_every) {
                let ledger = Ledger { received: start as u64, aggregated: start as u64, ..Ledger::default() };
                exporter.commit(CommitNote { ledger, through: EventTime(self.ends[start]) })?;
                says(exporter.committed_through().0);
            }
        }
        exporter.prepare()?;
        exporter.finish()?;
        Ok(())
    }

    /// What a run without any manifest writes.
    fn expected(&self) -> BTreeMap<String, Vec<u8>> {
        let root = tempfile::tempdir().unwrap();
        let mut exporter: Box<dyn Exporter> = if self.is_file {
            let path = root.path().join(format!("all.{}", self.format.extension()));
            super::open(super::Target::File(path), self.format, &schema()).unwrap()
        } else {
            Box::new(PartsExporter::open(root.path(), self.format, &schema(), self.rotation).unwrap())
        };
        exporter.write(&batch(&self.ends, 0)).unwrap();
        exporter.finish().unwrap();
        files(root.path())
    }
}

/// A place for a job whose disk is watched.
struct Site {
    disk: Rc<RefCell<Disk>>,
    directory: tempfile::TempDir,
    /// How far windows were told to be committed: the coordinator may have forgotten them.
    promised: RefCell<i64>,
    /// Complete files that somebody has moved away.
    taken: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Site {
    fn new() -> Site {
        // Syncing costs nothing in memory, and what is durable is kept here.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let root = directory.path().canonicalize().unwrap();
        let disk = Disk { root, ..Disk::default() };
        disk.directories().iter().for_each(|directory| fs::create_dir(directory).unwrap());
        Site {
            disk: Rc::new(RefCell::new(disk)),
            directory,
            promised: RefCell::new(i64::MIN),
            taken: RefCell::default(),
        }
    }

    fn root(&self) -> PathBuf {
        self.disk.borrow().root.clone()
    }

    /// Lets the job live until it crashes at a step; false if it has ended before.
    fn life(&self, job: &Job, earlier: usize, crash: Option<(u64, Crash)>) -> bool {
        self.disk.borrow_mut().crash = crash;
        let listener = Rc::clone(&self.disk);
        listen(Some(Box::new(move |step| listener.borrow_mut().on_step(step))));
        let disk = Rc::clone(&self.disk);
        let mut is_first = true;
        let lived = job.live(&self.root(), earlier, &mut |through| {
            let is_over = disk.borrow().left.is_some();
            let mut promised = self.promised.borrow_mut();
            if std::mem::take(&mut is_first) {
                assert!(through >= *promised, "{through} is committed, and {promised} was promised: {job:?}");
            } else if !is_over {
                *promised = through;
            }
            is_over
        });
        listen(None);
        let left = self.disk.borrow_mut().left.take();
        match &left {
            Some(image) => self.disk.borrow_mut().restore(image),
            None => lived.unwrap(),
        }
        left.is_some()
    }

    /// Steps taken since the last crash.
    fn steps(&self) -> u64 {
        std::mem::take(&mut self.disk.borrow_mut().steps)
    }

    fn out(&self) -> BTreeMap<String, Vec<u8>> {
        let mut out = files(&self.directory.path().join("out"));
        out.extend(self.taken.borrow().clone());
        out
    }

    /// Moves complete files away, as a job does that goes on with them. None comes twice.
    fn take(&self) {
        let out = self.directory.path().join("out");
        for (name, bytes) in files(&out).into_iter().filter(|(name, _)| !name.starts_with('.')) {
            fs::remove_file(out.join(&name)).unwrap();
            self.disk.borrow_mut().names.retain(|path, _| !path.ends_with(&name));
            assert!(self.taken.borrow_mut().insert(name.clone(), bytes).is_none(), "{name} came twice");
        }
    }

    fn manifest(&self) -> Manifest {
        Manifest::open(&self.directory.path().join("data"), STORE).unwrap()
    }

    /// The job has ended: the outputs are those of a run that nobody disturbed, and the manifest says so.
    #[track_caller]
    fn check(&self, job: &Job, expected: &BTreeMap<String, Vec<u8>>, what: &str) {
        let out = self.out();
        assert_eq!(out.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what} {job:?}");
        assert!(out == *expected, "bytes differ: {what} {job:?}");
        let manifest = self.manifest();
        let lines = manifest.files();
        assert_eq!(lines.len(), expected.len(), "{what} {job:?}");
        for line in &lines {
            assert_eq!((line.state, line.aside.as_ref()), (FileState::Complete, None), "{what} {job:?}");
            let name = Path::new(line.file.as_deref().unwrap()).file_name().unwrap().to_str().unwrap();
            let bytes = &expected[name];
            assert_eq!((line.bytes, line.crc32c), (bytes.len() as u64, crc32c::crc32c(bytes)), "{what} {job:?}");
        }
        let total = lines.last().unwrap().total;
        let windows = job.ends.chunk_by(|a, b| a == b).count() as u64;
        let bytes = expected.values().map(|bytes| bytes.len() as u64).sum::<u64>();
        assert_eq!((total.rows, total.windows), (job.ends.len() as u64, windows), "{what} {job:?}");
        assert_eq!((total.files, total.bytes), (expected.len() as u64, bytes), "{what} {job:?}");
        assert_eq!(lines.last().unwrap().through_us, i64::MAX);
    }
}

fn ends(windows: &[usize]) -> Vec<i64> {
    let windows = windows.iter().enumerate();
    windows.flat_map(|(index, &rows)| std::iter::repeat_n((index as i64 + 1) * HOUR, rows)).collect()
}

fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for format in Format::ALL {
        let ends = ends(&[3, 40, 1, 7, 25, 25, 2, 9]);
        let rotation = Rotation { every: hours(3), bytes: Some(600) };
        let job = Job { format, rotation, is_file: false, ends, batch: 9, commit_every: 2 };
        jobs.push(Job { is_file: true, rotation: Rotation::default(), ..job.clone() });
        jobs.push(job);
    }
    jobs
}

#[test]
fn a_crash_after_any_step_changes_nothing() {
    for job in jobs() {
        let expected = job.expected();
        assert_eq!(job.is_file, expected.len() == 1);
        let site = Site::new();
        assert!(!site.life(&job, 0, None));
        site.check(&job, &expected, "undisturbed");
        let steps = site.steps();
        assert!(steps > 10, "{steps} {job:?}");
        for crash in CRASHES {
            for at in 1..=steps {
                let site = Site::new();
                assert!(site.life(&job, 0, Some((at, crash))));
                if at.is_multiple_of(2) {
                    site.take();
                }
                assert!(!site.life(&job, (at % 3) as usize, None));
                site.check(&job, &expected, &format!("{crash:?} after step {at} of {steps}"));
            }
        }
    }
}

/// The second run is disturbed as well: at each step that it takes to find its way back.
#[test]
fn a_crash_while_a_crash_is_settled_changes_nothing() {
    for job in jobs().into_iter().filter(|job| matches!(job.format, Format::Csv | Format::Arrow)) {
        let expected = job.expected();
        let site = Site::new();
        site.life(&job, 0, None);
        let steps = site.steps();
        for first in (1..=steps).step_by(3) {
            for second in 1..=6 {
                let crash = CRASHES[(first + second) as usize % CRASHES.len()];
                let site = Site::new();
                site.life(&job, 0, Some((first, Crash::Kill)));
                site.life(&job, 1, Some((second, crash)));
                site.life(&job, 0, None);
                site.check(&job, &expected, &format!("step {first}, then {crash:?} after step {second}"));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn crashes_change_nothing(
        format in prop::sample::select(&Format::ALL[..]),
        windows in prop::collection::vec(1..60usize, 1..14),
        (every, bytes) in (prop::option::of(1..6i64), prop::option::of(100..3000u64)),
        is_file in prop::bool::weighted(0.2),
        (batch, commit_every) in (1..50usize, 1..5usize),
        lives in prop::collection::vec((1..80u64, 0..4usize, 0..CRASHES.len(), 0..600u64), 0..6),
        takes in any::<bool>(),
    ) {
        let rotation = match is_file {
            true => Rotation::default(),
            false => Rotation { every: every.and_then(hours), bytes },
        };
        let job = Job { format, rotation, is_file, ends: ends(&windows), batch, commit_every };
        let expected = job.expected();
        let site = Site::new();
        for &(at, earlier, crash, some) in &lives {
            let crash = match CRASHES[crash] {
                Crash::CutKeepsSome(_) => Crash::CutKeepsSome(some),
                crash => crash,
            };
            site.life(&job, earlier, Some((at, crash)));
            if takes {
                site.take();
            }
        }
        site.life(&job, 0, None);
        site.check(&job, &expected, &format!("{lives:?}"));
        // Another run has nothing left to do.
        let before = site.out();
        site.life(&job, 3, None);
        prop_assert!(site.out() == before);
    }
}

#[test]
fn outputs_that_do_not_belong_to_the_manifest_are_refused() {
    let job = jobs().into_iter().find(|job| job.format == Format::Csv && !job.is_file).unwrap();
    // A part is open, and whole windows of it are committed.
    let found = (1..).map(|at| {
        let site = Site::new();
        assert!(site.life(&job, 0, Some((at, Crash::Kill))), "no step leaves an open part");
        let newest = site.manifest().files().last().map(|line| (*line).clone());
        (site, newest)
    });
    let is_open = |line: &FileLine| line.state == FileState::Open && Some(line.through_us) >= line.window_end_us;
    let (site, newest) = found.into_iter().find_map(|(site, newest)| Some((site, newest.filter(is_open)?))).unwrap();
    let refused = |result: Result<(), ExportError>, words: &[&str]| {
        let text = result.unwrap_err().to_string();
        words.iter().for_each(|word| assert!(text.contains(word), "{word}: {text}"));
    };
    let root = site.root();
    let other = Job { format: Format::Ndjson, ..job.clone() };
    refused(other.open(&root).map(drop), &["view `v` as csv", "view `v` as ndjson", "choose another path"]);
    // More rows than a whole window had.
    let mut exporter = job.open(&root).unwrap();
    let again = exporter.write(&batch(&[newest.through_us; 100], 0));
    refused(again, &["cannot be continued", "committed as a whole", "do not belong together"]);
    drop(exporter);
    // The directory was moved.
    let aside = PathBuf::from(newest.aside.unwrap());
    fs::rename(root.join("out"), root.join("away")).unwrap();
    fs::create_dir(root.join("out")).unwrap();
    refused(job.open(&root).map(drop), &[aside.to_str().unwrap(), "is missing, though"]);
    let booking = Booking { manifest: Arc::new(Mutex::new(site.manifest())), view: String::from("v") };
    let moved =
        PartsExporter::open_booked(&root.join("away"), Format::Csv, &schema(), Rotation::default(), &booking).map(drop);
    refused(moved, &["away/.part-", aside.to_str().unwrap(), "move it back"]);
}
