//! The report of a run of the suite, as lines and as Markdown.
//!
//! What the rows do is in [`super::rows`].

use super::rows::Row;
use super::{Checked, Setting, Stop};
use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

/// What became of one row.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The row's number.
    pub number: &'static str,
    /// The fault.
    pub fault: &'static str,
    /// What was seen, or why not.
    pub result: Checked<String>,
    /// How long it took.
    pub took: Duration,
}

/// Tries a row.
pub fn attempt(row: &Row, setting: &Setting) -> Outcome {
    let started = Instant::now();
    let result = fs::create_dir_all(&setting.scratch).map_err(Stop::from).and_then(|()| (row.run)(setting));
    Outcome { number: row.number, fault: row.fault, result, took: started.elapsed() }
}

impl Outcome {
    /// PASS, FAIL or SKIP.
    pub fn word(&self) -> &'static str {
        match self.result {
            Ok(_) => "PASS",
            Err(Stop::Fail(_)) => "FAIL",
            Err(Stop::Skip(_)) => "SKIP",
        }
    }

    /// What was seen, or why not.
    pub fn observed(&self) -> &str {
        match &self.result {
            Ok(text) | Err(Stop::Fail(text) | Stop::Skip(text)) => text,
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let Outcome { number, fault, took, .. } = self;
        format!("{} {number:>2} {fault}: {} ({:.1} s)", self.word(), self.observed(), took.as_secs_f64())
    }
}

/// All of it as Markdown. `command` is how it was started.
pub fn markdown(outcomes: &[Outcome], command: &str, seed: u64) -> String {
    let mut text = String::from("# Faults on the real program\n\n");
    let _ = writeln!(text, "Command: `{command}`, seed {seed}. {}\n", machine());
    text.push_str("| row | fault | result | what was seen | seconds |\n|---|---|---|---|---|\n");
    for outcome in outcomes {
        let Outcome { number, fault, took, .. } = outcome;
        let observed = outcome.observed().replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(text, "| {number} | {fault} | {} | {observed} | {:.1} |", outcome.word(), took.as_secs_f64());
    }
    text
}

/// Kernel, processor, cores and memory.
fn machine() -> String {
    let first = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or(line)
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (model, memory) = (first("/proc/cpuinfo", "model name"), first("/proc/meminfo", "MemTotal"));
    format!("Machine: {cores} cores, {model}, {memory} of memory, Linux {}.", kernel.trim())
}
