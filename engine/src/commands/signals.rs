//! SIGINT and SIGTERM: the first asks the engine to stop, a second ends the process at once. SIGHUP: read again what a
//! running engine reads from files to prove things by.
//!
//! What stopping means is each command's.

use crate::error::EngineError;
use crossbeam_channel::RecvTimeoutError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a wait looks whether a signal has come.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether the process was asked to stop.
#[derive(Clone, Debug)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Listens from now on. A second signal ends the process with the exit code of a runtime failure.
    pub fn listen() -> io::Result<StopSignal> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // In this order: the first signal finds the flag unset.
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&asked))?;
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
        }
        Ok(StopSignal(asked))
    }

    /// Whether a signal has come.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What `body` returns, or that the engine has stopped if a signal comes first: `body` may wait for a pipe that
    /// stays silent. It goes on then, on a thread of its own, until the process ends.
    pub fn unless_set<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> Result<T, EngineError> {
        let what = "inspector";
        let (done_in, done) = crossbeam_channel::bounded(1);
        let thread = std::thread::Builder::new().name(what.to_owned()).spawn(move || done_in.send(body()));
        thread.map_err(|error| EngineError::Thread { what, error })?;
        loop {
            match done.recv_timeout(LOOK_EVERY) {
                Ok(value) => return Ok(value),
                Err(RecvTimeoutError::Timeout) if self.is_set() => return Err(EngineError::Stopped),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(EngineError::Bug("the thread that looks at the inputs panicked (see above)"));
                }
            }
        }
    }
}

/// Whether files are to be read again.
#[derive(Clone, Debug)]
pub struct ReloadSignal(Arc<AtomicBool>);

impl ReloadSignal {
    /// Listens from now on. Before, the signal ends the process.
    pub fn listen() -> io::Result<ReloadSignal> {
        let asked = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&asked))?;
        Ok(ReloadSignal(asked))
    }

    /// Whether a signal has come since the last look.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}
