//! A run of the program under watch: killed, signalled, and never waited for without end.
//!
//! What a run must come to is not decided here.

use super::{Checked, ensure, fail, system};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often the watchdog looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A child. One that is dropped is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
    stderr: PathBuf,
    started: Instant,
}

/// How a child ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard error.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
    /// The command line, for messages.
    pub line: String,
}

impl Running {
    /// Starts a child; what it says goes to the file `stderr`. It dies with the calling thread.
    pub fn start(command: &mut Command, stderr: &Path) -> io::Result<Running> {
        system::dies_with_parent(command);
        let line = format!("{command:?}");
        command.env_remove("RUST_BACKTRACE").env_remove("COLUMNS");
        let said = File::create(stderr)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn()?;
        Ok(Running { child, line, stderr: stderr.to_owned(), started: Instant::now() })
    }

    /// Its process number.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        system::signal(self.child.id(), signal)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for its end; one that takes longer than `patience` is killed, and that is a failure.
    pub fn end(mut self, patience: Duration) -> Checked<Ended> {
        match self.end_within(patience)? {
            Some(status) => self.ended(status),
            None => fail(format!("{}: still running after {patience:?}: {}", self.line, self.said())),
        }
    }

    /// Waits for its end, and kills it after `life` if it has not come.
    pub fn kill_after(mut self, life: Duration) -> Checked<Ended> {
        let status = match self.end_within(life)? {
            Some(status) => status,
            None => {
                self.child.kill()?;
                self.child.wait()?
            }
        };
        self.ended(status)
    }

    fn end_within(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(LOOK_EVERY.min(left));
        }
    }

    /// A panic is a failure however the process ended.
    fn ended(&mut self, status: ExitStatus) -> Checked<Ended> {
        let (took, stderr) = (self.started.elapsed(), self.said());
        ensure(!stderr.contains("panicked"), || format!("{}: {stderr}", self.line))?;
        let crash = status.signal().filter(|signal| *signal != libc::SIGKILL);
        ensure(crash.is_none(), || format!("{}: ended by signal {crash:?}: {stderr}", self.line))?;
        Ok(Ended { code: status.code(), signal: status.signal(), stderr, took, line: self.line.clone() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, or nobody waits for it any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Itself, if it ended with this exit code.
    pub fn with_code(self, code: i32) -> Checked<Ended> {
        match self.code {
            Some(found) if found == code => Ok(self),
            _ => fail(format!("{}: code {:?}, signal {:?}: {}", self.line, self.code, self.signal, self.stderr)),
        }
    }

    /// Whether it was killed.
    pub fn was_killed(&self) -> bool {
        self.signal == Some(libc::SIGKILL)
    }

    /// The last line it said, without what makes it differ from run to run.
    pub fn last_line(&self) -> &str {
        self.stderr.lines().last().unwrap_or_default()
    }

    /// Lines of the summary that begin with `word`.
    pub fn lines_of(&self, word: &str) -> Vec<String> {
        self.stderr.lines().filter(|line| line.starts_with(word)).map(str::to_owned).collect()
    }
}
