//! What many seeds came to: sums, and a report for people. Running seeds in parallel is here; one seed is
//! [`super::simulate`]'s.

use super::faults::{Fault, FaultCounts};
use super::{Refusal, SeedReport, simulate};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Failures that are kept in full; more are only counted.
const FAILURES_KEPT: usize = 20;

/// Seeds that a thread takes at once.
const PORTION: u64 = 32;

/// The sum over seeds.
#[derive(Clone, Default, Debug)]
pub struct Totals {
    /// Seeds run.
    pub seeds: u64,
    /// Starts, refused ones included.
    pub lives: u64,
    /// Turns of all actors.
    pub turns: u64,
    /// Logs whose last acknowledged blocks rot has made look like a torn tail.
    pub hidden: u64,
    /// Faults by kind.
    pub faults: FaultCounts,
    /// Refused starts, by reason.
    pub refusals: BTreeMap<Refusal, u64>,
    /// Seeds that failed.
    pub failed: u64,
    /// What the first of them say, by seed.
    pub failures: BTreeMap<u64, String>,
    /// All seeds' trace hashes, combined in a way that does not depend on their order.
    pub trace: u64,
}

impl Totals {
    fn add(&mut self, seed: u64, result: Result<SeedReport, String>) {
        self.seeds += 1;
        match result {
            Ok(report) => {
                self.lives += report.lives;
                self.turns += report.turns;
                self.hidden += report.hidden;
                self.faults.unite(&report.faults);
                for (refusal, count) in report.refusals {
                    *self.refusals.entry(refusal).or_default() += count;
                }
                self.trace = self.trace.wrapping_add(report.trace.rotate_left(seed as u32 % 64));
            }
            Err(failure) => {
                self.failed += 1;
                self.failures.insert(seed, failure);
                if self.failures.len() > FAILURES_KEPT {
                    self.failures.pop_last();
                }
            }
        }
    }

    fn unite(&mut self, other: Totals) {
        self.seeds += other.seeds;
        self.lives += other.lives;
        self.turns += other.turns;
        self.hidden += other.hidden;
        self.faults.unite(&other.faults);
        for (refusal, count) in other.refusals {
            *self.refusals.entry(refusal).or_default() += count;
        }
        self.failed += other.failed;
        self.failures.extend(other.failures);
        while self.failures.len() > FAILURES_KEPT {
            self.failures.pop_last();
        }
        self.trace = self.trace.wrapping_add(other.trace);
    }

    /// The sums as Markdown tables.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| what | count |\n|---|---:|");
        let crashes = self.faults.get(Fault::Kill) + self.faults.get(Fault::PowerCut);
        let refused: u64 = self.refusals.values().sum();
        for (what, count) in [
            ("seeds", self.seeds),
            ("failed seeds", self.failed),
            ("starts of an engine", self.lives),
            ("ends by crash, failure or completion", crashes),
            ("starts refused, as they must be", refused),
            ("logs whose rotten end looked like a torn tail (the known residue)", self.hidden),
            ("turns of actors", self.turns),
        ] {
            let _ = writeln!(text, "| {what} | {count} |");
        }
        let _ = writeln!(text, "| combined trace hash | `{:016x}` |", self.trace);
        let _ = writeln!(text, "\n| fault | injected |\n|---|---:|");
        for fault in Fault::ALL {
            let _ = writeln!(text, "| {fault} | {} |", self.faults.get(fault));
        }
        let _ = writeln!(text, "\n| start refused because | times |\n|---|---:|");
        for (refusal, count) in &self.refusals {
            let _ = writeln!(text, "| {refusal} | {count} |");
        }
        text
    }
}

/// Runs seeds on `threads` threads. `progress` is told the sums so far now and then, by one thread at a time.
pub fn simulate_many(seeds: Range<u64>, threads: usize, progress: impl Fn(&Totals) + Sync) -> Totals {
    let next = AtomicU64::new(seeds.start);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(PORTION, Ordering::Relaxed);
                    if first >= seeds.end {
                        return;
                    }
                    let mut portion = Totals::default();
                    for seed in first..seeds.end.min(first.saturating_add(PORTION)) {
                        portion.add(seed, simulate(seed));
                    }
                    if let Ok(mut totals) = totals.lock() {
                        totals.unite(portion);
                        progress(&totals);
                    }
                }
            });
        }
    });
    totals.into_inner().unwrap_or_default()
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refusal::Interior => "a durable block is damaged",
            Refusal::Chain => "a block does not continue the log",
            Refusal::Link => "two segments disagree",
            Refusal::Header => "a segment's header is damaged",
            Refusal::Foreign => "the bytes are another file's or make no sense",
            Refusal::Missing => "something that must be there is not",
            Refusal::Snapshot => "no snapshot can be used that would be needed",
            Refusal::Panes => "the pane log has not reached what a snapshot relies on",
            Refusal::Output => "the output is not what its manifest says",
            Refusal::Hidden => "events of released panes come again (after a rotten end that looked like a torn tail)",
            Refusal::Unreadable => "a sector cannot be read",
        })
    }
}
