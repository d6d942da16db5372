//! One thread per file system that files of a store lie on: a disk that stands still holds up no work on another.
//!
//! What a thread does with its jobs is its owner's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::error::DiskError;
use crate::background::Background;

/// Jobs that may wait for one disk; each shard has at most a few under way.
const JOBS_MAX: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct DiskThreads<J> {
    name: &'static str,
    background: Background,
    threads: Mutex<Vec<DiskThread<J>>>,
}

#[derive(Debug)]
struct DiskThread<J> {
    /// The file system's device number.
    device: u64,
    jobs: Sender<J>,
    thread: JoinHandle<()>,
}

impl<J: Send + 'static> DiskThreads<J> {
    /// No threads yet. They will be called `name` and run where `background` says.
    pub fn new(name: &'static str, background: Background) -> DiskThreads<J> {
        DiskThreads { name, background, threads: Mutex::default() }
    }

    /// The queue of the thread for the disk of `directory`, which must exist. Where there is none, one begins to `run`.
    pub fn queue_of(
        &self,
        directory: &Path,
        run: impl FnOnce(&Receiver<J>) + Send + 'static,
    ) -> Result<Sender<J>, DiskError> {
        let device = fs::metadata(directory).map_err(DiskError::io("look at", directory))?.dev();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = threads.iter().find(|thread| thread.device == device) {
            return Ok(known.jobs.clone());
        }
        let (jobs, queue) = crossbeam_channel::bounded(JOBS_MAX);
        let background = self.background.clone();
        let work = move || {
            background.enter();
            run(&queue);
        };
        let started = std::thread::Builder::new().name(self.name.to_owned()).spawn(work);
        let thread = started.map_err(DiskError::ring("start a thread for work on files"))?;
        threads.push(DiskThread { device, jobs: jobs.clone(), thread });
        Ok(jobs)
    }

    /// Waits for the ends of all threads, after `last_word` to each. A thread ends when it is told to, or when nobody is
    /// left who could send to it.
    pub fn end(&self, last_word: impl Fn(&Sender<J>)) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for DiskThread { jobs, thread, .. } in threads {
            last_word(&jobs);
            drop(jobs);
            // A panic was told where it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Duration;

    #[test]
    fn a_disk_that_stands_still_holds_up_no_other() {
        let here = tempfile::tempdir().unwrap();
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        let there = tempfile::tempdir_in("/dev/shm").ok().filter(|there| device(there.path()) != device(here.path()));
        let Some(there) = there else {
            // Past the runner, which hides what tests that pass print.
            let _ = writeln!(std::io::stderr(), "SKIP: /dev/shm is no file system of its own here");
            return;
        };
        let threads = DiskThreads::new("test", Background::default());
        let (told, heard) = crossbeam_channel::unbounded();
        let queue_of = |directory: &Path| {
            let told = told.clone();
            let run = move |jobs: &Receiver<Option<Receiver<()>>>| {
                while let Ok(Some(gate)) = jobs.recv() {
                    let _ = gate.recv();
                    told.send(()).unwrap();
                }
            };
            threads.queue_of(directory, run).unwrap()
        };
        let (stuck, same, other) = (queue_of(here.path()), queue_of(here.path()), queue_of(there.path()));
        let (release, gate) = crossbeam_channel::bounded(1);
        let open = || Some(crossbeam_channel::bounded(0).1);
        stuck.send(Some(gate)).unwrap();
        same.send(open()).unwrap();
        other.send(open()).unwrap();
        heard.recv_timeout(Duration::from_secs(60)).expect("the other disk's job");
        assert!(heard.is_empty(), "both jobs of the disk that stands still wait");
        release.send(()).unwrap();
        (0..2).for_each(|_| heard.recv_timeout(Duration::from_secs(60)).expect("they were only late"));
        threads.end(|jobs| jobs.send(None).unwrap());
        assert!(other.send(None).is_err(), "all have ended");
    }
}
