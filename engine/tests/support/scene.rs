//! A directory with an input and an output from before, in which runs of the binary fail and must change nothing.
//!
//! What is wrong with each run is not here.

use super::listing;
use super::process::{Feed, Finished, corefold, run_fed};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Done.
pub const DONE: i32 = 0;
/// The engine could not run.
pub const FAILURE: i32 = 1;
/// Wrong command line.
pub const USAGE: i32 = 2;
/// Bad input data.
pub const BAD_DATA: i32 = 65;
/// Reading or writing failed.
pub const IO: i32 = 74;
/// Bad configuration.
pub const BAD_CONFIG: i32 = 78;

/// Two good rows.
pub const GOOD: &str = "time,key,value\n2024-01-01T00:00:00Z,a,1\n2024-01-01T00:00:01Z,b,2\n";

/// What the output held before the run, and must hold after one that failed.
pub const BEFORE: &str = "the result of yesterday\n";

/// A directory with inputs, and an output from before.
pub struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Scene {
        let scene = Scene { directory: tempfile::tempdir().expect("a directory") };
        scene.file("out.csv", BEFORE).file("good.csv", GOOD)
    }

    pub fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Scene {
        fs::write(self.path().join(name), bytes).expect("a new file");
        self
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `corefold` in this directory, so that messages name short paths.
    pub fn corefold(&self, arguments: &[&str]) -> Command {
        let mut command = corefold(arguments);
        command.current_dir(self.path());
        command
    }

    /// A whole job over `input`, to `out.csv` and `late.csv`.
    pub fn job(&self, input: &str) -> Command {
        let mut command = self.corefold(&["aggregate", input, "--output", "out.csv", "--late-output", "late.csv"]);
        command.args(["--time", "time", "--window", "1h", "--shards", "2", "--progress", "never"]);
        command
    }

    /// The job with a sum over `value` by `key`.
    pub fn sum(&self, input: &str) -> Command {
        let mut command = self.job(input);
        command.args(["--by", "key", "--field", "value:f64", "--agg", "count(), sum(value)"]);
        command
    }

    /// Runs what must fail: the exit code, one sentence with all of `words`, and the directory as it was.
    #[track_caller]
    pub fn refuses(&self, command: &mut Command, code: i32, words: &[&str]) {
        self.refuses_fed(command, Feed::Nothing, code, words);
    }

    #[track_caller]
    pub fn refuses_fed(&self, command: &mut Command, feed: Feed, code: i32, words: &[&str]) {
        let before = self.state();
        let finished = run_fed(command, feed);
        expect_failure(&finished, code, words);
        assert_eq!(self.state(), before, "{}: left something behind", finished.line);
    }

    /// What is in the directory, and in the output.
    fn state(&self) -> (BTreeSet<PathBuf>, String) {
        let output = fs::read_to_string(self.path().join("out.csv")).unwrap_or_default();
        (listing(self.path()), output.chars().take(80).collect())
    }

    /// Runs what must succeed, and returns the output.
    #[track_caller]
    pub fn answers(&self, command: &mut Command, feed: Feed) -> (String, Finished) {
        let finished = run_fed(command, feed).succeeded();
        (fs::read_to_string(self.path().join("out.csv")).expect("an output"), finished)
    }
}

/// One sentence on standard error, and nothing on standard output. Wrong command lines may add how to call it.
#[track_caller]
pub fn expect_failure(finished: &Finished, code: i32, words: &[&str]) {
    let Finished { stderr, line, .. } = finished;
    assert_eq!(finished.code, Some(code), "{line}\n{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{line}\nno `{word}` in: {stderr}");
    }
    assert!(finished.stdout.is_empty(), "{line}: {}", String::from_utf8_lossy(&finished.stdout));
    let sentences: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("warning: ")).collect();
    let by_clap = code == USAGE && sentences.first().is_some_and(|line| line.starts_with("error: "));
    if !by_clap {
        assert_eq!(sentences.len(), 1, "{line}\n{stderr}");
        assert!(sentences[0].starts_with("corefold: "), "{line}\n{stderr}");
        assert!(sentences[0].len() < 1_000, "{line}\n{stderr}");
    }
}
