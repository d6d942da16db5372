//! The binary under test as a child process that is never waited for without end.
//!
//! What a child may not do is in [`super::confine`].

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a child may take before it counts as hung.
const TIME_MAX: Duration = Duration::from_secs(60);

/// How often the watchdog looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What a child came to.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// The command line, for messages.
    pub line: String,
}

/// What is fed to a child.
pub enum Feed {
    /// Nothing: standard input is empty.
    Nothing,
    /// These bytes.
    Bytes(Vec<u8>),
    /// A prefix, a byte so many times, and a suffix: what is too large to keep.
    Long(Vec<u8>, u8, usize, Vec<u8>),
}

/// `corefold` with arguments, in a directory of its own choice.
pub fn corefold(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corefold"));
    command.args(arguments).env_remove("COLUMNS").env_remove("RUST_BACKTRACE");
    command
}

/// Runs a child to its end with nothing on standard input.
pub fn run(command: &mut Command) -> Finished {
    run_fed(command, Feed::Nothing)
}

/// Runs a child to its end. One that hangs is killed and fails the test; so does one that panics.
pub fn run_fed(command: &mut Command, feed: Feed) -> Finished {
    let line = format!("{command:?}");
    let stdin = if matches!(feed, Feed::Nothing) { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
    let pipe = child.stdin.take();
    let feeder = std::thread::spawn(move || {
        if let Some(mut pipe) = pipe {
            // A child that has seen enough closes its end; that is its right.
            let _ = feed.write_to(&mut pipe);
        }
    });
    let stdout = gather(child.stdout.take().expect("piped"));
    let stderr = gather(child.stderr.take().expect("piped"));
    let code = watch(&mut child);
    // A killed child has closed its pipes as well, so these end.
    feeder.join().expect("the feeder");
    let stdout = stdout.join().expect("standard output");
    let stderr = String::from_utf8_lossy(&stderr.join().expect("standard error")).into_owned();
    let Ok(code) = code else { panic!("{line}: still running after {TIME_MAX:?}\n{stderr}") };
    assert!(!stderr.contains("panicked"), "{line}\n{stderr}");
    Finished { code, stdout, stderr, line }
}

fn gather(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe from the child");
        bytes
    })
}

/// The exit code, or an error for a child that had to be killed.
fn watch(child: &mut Child) -> Result<Option<i32>, ()> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child of this process") {
            return Ok(status.code());
        }
        if started.elapsed() > TIME_MAX {
            child.kill().expect("a child of this process");
            child.wait().expect("a child of this process");
            return Err(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Feed {
    fn write_to(&self, pipe: &mut impl Write) -> std::io::Result<()> {
        match self {
            Feed::Nothing => Ok(()),
            Feed::Bytes(bytes) => pipe.write_all(bytes),
            Feed::Long(start, byte, count, end) => {
                pipe.write_all(start)?;
                let piece = vec![*byte; 1 << 16];
                let mut left = *count;
                while left > 0 {
                    let now = left.min(piece.len());
                    pipe.write_all(&piece[..now])?;
                    left -= now;
                }
                pipe.write_all(end)
            }
        }
    }
}

impl Finished {
    /// Itself, if the run was a success.
    #[track_caller]
    pub fn succeeded(self) -> Finished {
        assert_eq!(self.code, Some(0), "{}\n{}", self.line, self.stderr);
        self
    }

    /// The counts of the summary's ledger by name. It must add up.
    #[track_caller]
    pub fn ledger(&self) -> BTreeMap<String, u64> {
        let line = self.stderr.lines().find_map(|line| line.strip_prefix("ledger"));
        let line = line.unwrap_or_else(|| panic!("no ledger: {}", self.stderr));
        let words: Vec<&str> = line.split([' ', '=', '+', ';']).filter(|word| !word.is_empty()).collect();
        let counts: BTreeMap<String, u64> =
            words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].parse().expect(line))).collect();
        let parts = ["aggregated", "late", "duplicate", "rejected", "shed"];
        assert_eq!(parts.iter().map(|part| counts[*part]).sum::<u64>(), counts["received"], "{line}");
        counts
    }
}

/// The bytes of a file that a run should have made.
#[track_caller]
pub fn bytes_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
