//! Profiles of a running engine: from the start if asked, and whenever SIGUSR2 comes.
//!
//! What a profile holds is [`crate::profile`]'s.

use super::Console;
use crate::cli::profile::ProfileArgs;
use crate::error::EngineError;
use crate::links::Shared;
use crate::profile::{ProfileError, Profiler};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Waits to be asked for a profile, and takes it.
pub struct ProfileWatch {
    profiler: Profiler,
    asked: Arc<AtomicBool>,
}

impl ProfileWatch {
    /// Listens from now on.
    pub fn listen(args: &ProfileArgs) -> io::Result<ProfileWatch> {
        let asked = Arc::new(AtomicBool::new(args.profile));
        signal_hook::flag::register(signal_hook::consts::SIGUSR2, Arc::clone(&asked))?;
        let length = Duration::from_micros(args.profile_for.micros().unsigned_abs());
        Ok(ProfileWatch { profiler: Profiler::new(args.profile_dir.clone(), length), asked })
    }

    /// To be called some times a second. Trouble with a profile is said, and the engine goes on.
    pub fn turn(&mut self, shared: &Shared<EngineError>, console: &Console) {
        let (timeline, progress) = (&shared.timeline, &shared.progress);
        if self.asked.swap(false, Ordering::Relaxed)
            && let Err(error) = self.profiler.start(timeline, progress)
        {
            console.say(&format!("warning: no profile: {error}"));
        }
        let taken = self.profiler.turn(timeline, progress);
        tell(taken, console);
    }

    /// Ends a profile that is being taken, with what there is.
    pub fn finish(mut self, shared: &Shared<EngineError>, console: &Console) {
        tell(self.profiler.finish(&shared.timeline, &shared.progress), console);
    }
}

fn tell(taken: Result<Option<PathBuf>, ProfileError>, console: &Console) {
    match taken {
        Ok(None) => {}
        Ok(Some(directory)) => console.say(&format!(
            "profile   {}: open cpu-*.svg in a browser, timeline.json in https://ui.perfetto.dev",
            directory.display()
        )),
        Err(error) => console.say(&format!("warning: the profile is incomplete: {error}")),
    }
}
