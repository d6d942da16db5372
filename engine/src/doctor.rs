//! `corefold doctor`: what this machine can and cannot do for the engine.
//!
//! Two stages: `facts` reads the machine, `judge` says what the facts mean. Nothing is changed or printed here.

mod facts;
mod judge;

use std::fmt;
use std::path::Path;

use crate::config::AutoOr;
use crate::exit::ExitCode;

pub use facts::{DirectoryFacts, Facts, Limit};
pub use judge::judge;

/// Locked memory that one glommio executor needs for its rings and buffers.
pub const LOCKED_MEMORY_PER_EXECUTOR: u64 = 512 << 10;

/// Locked memory that the registered log blocks of one shard take, if they can be registered.
pub const LOCKED_MEMORY_PER_LOG: u64 = 5 * (512 << 10);

/// How a finding bears on running the engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It runs, but slower or with limits.
    Warn,
    /// It cannot run like this.
    Fail,
}

impl Verdict {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }
}

/// One line of the report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What was looked at.
    pub topic: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do, or what to know.
    pub advice: Option<String>,
}

/// Everything that was found, in a fixed order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether the engine can run.
    pub fn can_run(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Verdict::Fail)
    }

    /// 0 if the engine can run, 1 if not.
    pub fn exit_code(&self) -> ExitCode {
        if self.can_run() { ExitCode::Done } else { ExitCode::Failure }
    }

    /// One JSON object: `can_run` and the list of findings.
    pub fn to_json(&self) -> serde_json::Value {
        let finding = |finding: &Finding| {
            serde_json::json!({
                "topic": finding.topic,
                "verdict": finding.verdict.name(),
                "found": finding.found,
                "advice": finding.advice,
            })
        };
        serde_json::json!({
            "can_run": self.can_run(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

impl fmt::Display for Report {
    /// The text for people; ends with a line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { topic, verdict, found, advice } in &self.findings {
            let mark = if *verdict == Verdict::Fail { "FAIL" } else { verdict.name() };
            writeln!(f, "{mark:<5} {topic:<18} {found}")?;
            if let Some(advice) = advice {
                writeln!(f, "{:<24} -> {advice}", "")?;
            }
        }
        let warnings = match self.count(Verdict::Warn) {
            0 => "no warnings".to_owned(),
            1 => "1 warning".to_owned(),
            count => format!("{count} warnings"),
        };
        match self.count(Verdict::Fail) {
            0 => writeln!(f, "\nThe engine can run here; {warnings}."),
            count => writeln!(f, "\nThe engine cannot run here: {count} of the above must be changed; {warnings}."),
        }
    }
}

/// Looks at this machine. `data_dir` need not exist yet; a file is written beside it and removed again.
pub fn examine(data_dir: Option<&Path>, shards: AutoOr) -> Report {
    judge(&Facts::gather(data_dir), shards)
}

/// How many shards `shards` means with this many allowed cores: all but the coordinator's, at least one.
pub fn shard_count(shards: AutoOr, cores: usize) -> u32 {
    match shards {
        AutoOr::Fixed(count) => count,
        AutoOr::Auto => u32::try_from(cores.saturating_sub(1)).unwrap_or(u32::MAX).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[Verdict]) -> Report {
        let finding = |verdict: &Verdict| Finding {
            topic: "topic",
            verdict: *verdict,
            found: "found".into(),
            advice: (*verdict != Verdict::Ok).then(|| "advice".into()),
        };
        Report { findings: verdicts.iter().map(finding).collect() }
    }

    #[test]
    fn one_failure_is_enough() {
        assert_eq!(report(&[Verdict::Ok, Verdict::Warn]).exit_code(), ExitCode::Done);
        assert_eq!(report(&[Verdict::Ok, Verdict::Fail]).exit_code(), ExitCode::Failure);
    }

    #[test]
    fn text_and_json_say_the_same() {
        let report = report(&[Verdict::Ok, Verdict::Fail]);
        let text = report.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ok    topic              found");
        assert_eq!(lines[1], "FAIL  topic              found");
        assert_eq!(lines[2], format!("{:<24} -> advice", ""));
        assert!(lines[4].starts_with("The engine cannot run here: 1 of"), "{text}");
        let json = report.to_json();
        assert_eq!((&json["can_run"], &json["findings"][1]["verdict"]), (&false.into(), &"fail".into()));
        assert!(json["findings"][0]["advice"].is_null());
    }

    #[test]
    fn this_machine_is_examined() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let report = examine(Some(&directory.path().join("not/yet/there")), AutoOr::Auto);
        let topics: Vec<&str> = report.findings.iter().map(|finding| finding.topic).collect();
        for topic in ["kernel", "io_uring", "locked memory", "cores", "file system", "open files", "clock source"] {
            assert!(topics.contains(&topic), "{topic}: {report}");
        }
        assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 0, "nothing is left behind");
    }

    #[test]
    fn auto_leaves_a_core_to_the_coordinator() {
        let table = [(AutoOr::Auto, 1, 1), (AutoOr::Auto, 2, 1), (AutoOr::Auto, 8, 7), (AutoOr::Fixed(9), 2, 9)];
        for (shards, cores, expected) in table {
            assert_eq!(shard_count(shards, cores), expected);
        }
    }
}
