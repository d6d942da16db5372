//! Children that are watched while they run: killed, sent signals, measured, and never waited for without end.
//!
//! Children that just run to their end are [`super::support::process`]'s.
#![allow(dead_code, reason = "every test binary uses a part of this")]

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the watchdog looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A child under watch. One that is dropped is killed.
pub struct Running {
    child: Child,
    line: String,
    stderr: Arc<Mutex<Vec<u8>>>,
    listener: Option<JoinHandle<()>>,
    started: Instant,
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard error.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
}

/// Starts a child. Standard error is gathered; the other streams are as the command says, or nothing.
pub fn start(command: &mut Command) -> Running {
    let line = format!("{command:?}");
    let started = Instant::now();
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
    let stderr: Arc<Mutex<Vec<u8>>> = Arc::default();
    let gathered = Arc::clone(&stderr);
    let mut pipe = child.stderr.take().expect("piped");
    let listener = std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut piece) {
            gathered.lock().expect("whole").extend_from_slice(&piece[..length]);
        }
    });
    Running { child, line, stderr, listener: Some(listener), started }
}

impl Running {
    /// The child's standard input, if it is a pipe.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("a pipe, taken once")
    }

    /// The child's standard output, if it is a pipe.
    pub fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("a pipe, taken once")
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().expect("whole")).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: a plain system call; the child is not reaped before `self` is gone, so the number is its own.
        let sent = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(sent, 0, "{}: {}", self.line, std::io::Error::last_os_error());
    }

    /// Asks it to stop, as soon as it listens: a signal that comes before would only kill it. Nothing if it has ended.
    #[track_caller]
    pub fn ask_to_stop(&mut self, patience: Duration) {
        let begun = Instant::now();
        while !self.has_ended() {
            if self.catches(libc::SIGTERM) {
                return self.signal(libc::SIGTERM);
            }
            assert!(begun.elapsed() < patience, "{}\ndoes not listen to signals: {}", self.line, self.said());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether a handler of its own waits for the signal.
    fn catches(&self, signal: libc::c_int) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
        caught.unwrap_or(0) & 1 << (signal - 1) != 0
    }

    /// Most memory that was ever resident, in bytes; 0 when it has ended.
    pub fn memory_peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: Option<u64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        kib.unwrap_or(0) * 1024
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of this process").is_some()
    }

    /// Waits until `happened`; a child that ends before, or takes too long, fails the test.
    #[track_caller]
    pub fn until(&mut self, patience: Duration, what: &str, mut happened: impl FnMut(&Running) -> bool) {
        let begun = Instant::now();
        while !happened(self) {
            let ended = self.child.try_wait().expect("a child of this process");
            assert!(ended.is_none(), "{}\nended with {ended:?} before {what}: {}", self.line, self.said());
            assert!(begun.elapsed() < patience, "{}\nnot within {patience:?}: {what}\n{}", self.line, self.said());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits for its end, but not longer than `patience`.
    #[track_caller]
    pub fn end(mut self, patience: Duration) -> Ended {
        match self.end_within(patience) {
            Some(status) => self.ended(status),
            None => {
                let _ = self.child.kill();
                panic!("{}\nstill running after {patience:?}\n{}", self.line, self.said());
            }
        }
    }

    /// Waits for its end, and kills it after `life` if it has not come.
    #[track_caller]
    pub fn kill_after(mut self, life: Duration) -> Ended {
        let status = self.end_within(life).unwrap_or_else(|| {
            self.child.kill().expect("a child of this process");
            self.child.wait().expect("a child of this process")
        });
        self.ended(status)
    }

    fn end_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of this process") {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    #[track_caller]
    fn ended(&mut self, status: ExitStatus) -> Ended {
        let took = self.started.elapsed();
        self.listener.take().expect("it ends once").join().expect("standard error");
        let stderr = self.said();
        assert!(!stderr.contains("panicked"), "{}\n{stderr}", self.line);
        Ended { code: status.code(), signal: status.signal(), stderr, took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Itself, if it ended with this exit code.
    #[track_caller]
    pub fn with_code(self, code: i32) -> Ended {
        assert_eq!((self.code, self.signal), (Some(code), None), "{}", self.stderr);
        self
    }

    /// Whether it was killed.
    pub fn was_killed(&self) -> bool {
        self.signal == Some(libc::SIGKILL)
    }

    /// The number behind `words` in what it said: `1,234` in `read      1,234 rows`.
    pub fn number_after(&self, words: &str) -> Option<u64> {
        let rest = &self.stderr[self.stderr.find(words)? + words.len()..];
        let digits: String = rest.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
        digits.replace(',', "").parse().ok()
    }

    /// The line of the summary that begins with `word`.
    #[track_caller]
    pub fn line_of(&self, word: &str) -> String {
        let line = self.stderr.lines().find(|line| line.starts_with(word));
        line.unwrap_or_else(|| panic!("no line of `{word}`: {}", self.stderr)).to_owned()
    }
}

/// Makes a named pipe.
pub fn make_fifo(path: &Path) {
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("no zero byte");
    // SAFETY: the text ends with a zero byte and lives over the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0, "{}", std::io::Error::last_os_error());
}
