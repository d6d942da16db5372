//! Runs targets over seeds and files, notices panics, and keeps count.
//!
//! What the inputs are is not known here. A hang cannot be caught, only told: a watch prints which input it is and ends
//! the process.

use super::Target;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// An input that takes longer than this hangs.
pub const INPUT_TIME_MAX: Duration = Duration::from_secs(30);

/// What a run has seen.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Inputs.
    pub executions: u64,
    /// Digest of all digests, in order: the same for the same inputs and the same code.
    pub digest: u64,
    /// What went wrong.
    pub findings: Vec<Finding>,
    /// The input that took longest, and how long.
    pub slowest: Option<(String, Duration)>,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Finding {
    /// `seed N` or a path.
    pub input: String,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What the panic said.
    pub what: String,
}

impl Finding {
    /// Of the bytes: the same input has the same.
    pub fn digest(&self) -> u64 {
        xxh3_64(&self.bytes)
    }
}

/// Runs one input.
pub fn execute(target: &Target, bytes: &[u8]) -> Result<u64, String> {
    caught(|| (target.body)(bytes))
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
    })
}

/// Collects what happens to inputs, one after the other.
#[derive(Default)]
pub struct Run {
    tally: Tally,
    hash: Xxh3,
}

impl Run {
    /// Runs one input called `name`.
    pub fn input(&mut self, target: &Target, name: impl FnOnce() -> String, bytes: Vec<u8>) {
        let begun = Instant::now();
        let result = execute(target, &bytes);
        let took = begun.elapsed();
        self.tally.executions += 1;
        let slow = self.tally.slowest.as_ref().is_none_or(|(_, longest)| took > *longest);
        let name = if slow || result.is_err() { name() } else { String::new() };
        match result {
            Ok(digest) => self.hash.update(&digest.to_le_bytes()),
            Err(what) => self.tally.findings.push(Finding { input: name.clone(), bytes, what }),
        }
        if slow {
            self.tally.slowest = Some((name, took));
        }
    }

    /// Runs the input of a seed.
    pub fn seed(&mut self, target: &Target, seed: u64) {
        let name = || format!("seed {seed}");
        match caught(|| target.input(seed)) {
            Ok(bytes) => self.input(target, name, bytes),
            // Sound inputs come from the writing half of the same code.
            Err(what) => self.tally.findings.push(Finding { input: name(), bytes: Vec::new(), what }),
        }
    }

    /// Runs every file of a directory, in the order of names. Without the directory there is nothing to run.
    pub fn corpus(&mut self, target: &Target, directory: &Path) -> io::Result<()> {
        for path in files(directory)? {
            let bytes = fs::read(&path)?;
            self.input(target, || path.display().to_string(), bytes);
        }
        Ok(())
    }

    /// What has been seen so far.
    pub fn tally(&self) -> Tally {
        Tally { digest: self.hash.digest(), ..self.tally.clone() }
    }
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

/// Tells when an input hangs.
pub struct Watch {
    count: Arc<AtomicU64>,
    current: Arc<RwLock<String>>,
    ended: Arc<AtomicBool>,
}

impl Watch {
    /// Watches from a thread of its own; `hung` is called with the name of an input that does not end.
    pub fn start(hung: impl Fn(&str) + Send + 'static) -> Watch {
        let watch = Watch { count: Arc::default(), current: Arc::default(), ended: Arc::default() };
        let (count, current, ended) = (watch.count.clone(), watch.current.clone(), watch.ended.clone());
        std::thread::spawn(move || {
            let (mut seen, mut since) = (0, Instant::now());
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(200));
                let now = count.load(Ordering::Relaxed);
                if now != seen {
                    (seen, since) = (now, Instant::now());
                } else if since.elapsed() > INPUT_TIME_MAX {
                    hung(&current.read().unwrap_or_else(PoisonError::into_inner));
                    since = Instant::now();
                }
            }
        });
        watch
    }

    /// The next input begins.
    pub fn begin(&self, name: String) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = name;
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
