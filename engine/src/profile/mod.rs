//! Profiles of a running engine: a flame graph per thread and a timeline of stages, over the same seconds, so that
//! *when* and *why* can be read together.
//!
//! A profile is taken on demand and costs nothing before and after. What the stages are is [`timeline`]'s.

pub mod flames;
pub mod timeline;
pub mod trace;

use crate::links::Progress;
use flames::Flames;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use timeline::Timeline;
use trace::Sample;

/// Time between samples of the counters.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// Why a profile could not be taken. The engine goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The sampler could not be started, or has failed.
    #[error("processor time cannot be sampled: {reason}")]
    Sampler {
        /// What it said.
        reason: String,
    },
    /// A flame graph could not be drawn: no samples, or the file could not be written.
    #[error("{}: the flame graph could not be drawn: {reason}", path.display())]
    Draw {
        /// The file.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A file or the directory could not be written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl ProfileError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> ProfileError + use<> {
        let path = path.to_owned();
        move |error| ProfileError::File { path, error }
    }
}

/// Takes profiles into directories below one.
pub struct Profiler {
    directory: PathBuf,
    length: Duration,
    taken: usize,
    running: Option<Running>,
}

struct Running {
    flames: Flames,
    since: Instant,
    samples: Vec<Sample>,
    sampled_at: Instant,
}

impl Profiler {
    /// Profiles of `length` each, in directories `profile-N` below `directory`.
    pub fn new(directory: PathBuf, length: Duration) -> Profiler {
        Profiler { directory, length, taken: 0, running: None }
    }

    /// Begins a profile, unless one is being taken.
    pub fn start(&mut self, timeline: &Timeline, progress: &Progress) -> Result<(), ProfileError> {
        if self.running.is_some() {
            return Ok(());
        }
        let flames = Flames::start()?;
        timeline.start();
        let now = Instant::now();
        self.running = Some(Running { flames, since: now, samples: vec![sample(timeline, progress)], sampled_at: now });
        Ok(())
    }

    /// Samples the counters. When the time is over, writes the profile and returns its directory.
    pub fn turn(&mut self, timeline: &Timeline, progress: &Progress) -> Result<Option<PathBuf>, ProfileError> {
        let Some(running) = &mut self.running else { return Ok(None) };
        if running.since.elapsed() >= self.length {
            return self.finish(timeline, progress);
        }
        if running.sampled_at.elapsed() >= SAMPLE_EVERY {
            running.sampled_at = Instant::now();
            running.samples.push(sample(timeline, progress));
        }
        Ok(None)
    }

    /// Ends a profile before its time, if one is being taken; as [`Profiler::turn`].
    pub fn finish(&mut self, timeline: &Timeline, progress: &Progress) -> Result<Option<PathBuf>, ProfileError> {
        let Some(mut running) = self.running.take() else { return Ok(None) };
        let tracks = timeline.stop();
        running.samples.push(sample(timeline, progress));
        let directory = self.next_directory()?;
        let path = directory.join("timeline.json");
        let file = File::create(&path).map_err(ProfileError::file(&path))?;
        let mut out = BufWriter::new(file);
        trace::write(&tracks, &running.samples, &mut out)
            .and_then(|()| out.flush())
            .map_err(ProfileError::file(&path))?;
        running.flames.write(&directory)?;
        Ok(Some(directory))
    }

    /// Makes the first directory that is not there yet: earlier profiles stay.
    fn next_directory(&mut self) -> Result<PathBuf, ProfileError> {
        fs::create_dir_all(&self.directory).map_err(ProfileError::file(&self.directory))?;
        loop {
            self.taken += 1;
            let path = self.directory.join(format!("profile-{}", self.taken));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ProfileError::File { path, error }),
            }
        }
    }
}

fn sample(timeline: &Timeline, progress: &Progress) -> Sample {
    Sample {
        at_ns: timeline.now_ns(),
        rows: progress.rows.load(Ordering::Relaxed),
        rows_out: progress.rows_out.load(Ordering::Relaxed),
        windows: progress.windows.load(Ordering::Relaxed),
    }
}
