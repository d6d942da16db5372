//! How fast one core folds, beside a hand-written loop over the same columns in the same process.
//!
//! `cargo bench -p corefold-shards --bench fold [-- EVENTS ROUNDS [WORKLOAD [WAY]]]` prints, per workload, the median time
//! per event of each way and its speed in parts of the hand-written loop's. The ways take turns, so that a noisy
//! machine is noisy for all. Without `--bench`, as the tests run it, the size is a smoke size and only results matter.

mod data;
mod engine;
mod hand;

use data::{Columns, Keys};
use std::io::Write;

/// What one way did with all events.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Total {
    /// Events counted over all panes and groups.
    pub events: u64,
    /// Rows: a group in a pane.
    pub rows: u64,
    /// Order-free hash of key, pane, count, minimum and maximum of every row.
    pub hash: u64,
    /// Sum of the sums.
    pub sum: f64,
}

impl Total {
    /// Adds one row.
    pub fn add(&mut self, (pane, key): (i64, i64), count: u64, sum: f64, (min, max): (f64, f64)) {
        let words = [pane as u64, key as u64, count, min.to_bits(), max.to_bits()];
        let mixed = words.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |hash, word| {
            (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29)
        });
        self.events += count;
        self.rows += 1;
        self.hash = self.hash.wrapping_add(mixed);
        self.sum += sum;
    }

    fn agrees_with(&self, other: &Total) -> bool {
        let close = (self.sum - other.sum).abs() <= 1e-9 * self.sum.abs().max(1.0);
        (self.events, self.rows, self.hash) == (other.events, other.rows, other.hash) && close
    }
}

/// One way to fold the columns, run once; with `true` it says what came out, which takes time.
type Way<'a> = (&'static str, Box<dyn FnMut(bool) -> Option<Total> + 'a>);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let number = |at: usize, otherwise| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(otherwise);
    let (events, rounds) = if is_bench { (number(0, 20_000_000), number(1, 5)) } else { (200_000, 1) };
    let wanted = |at: usize, name: &str| !is_bench || words.get(at).is_none_or(|word| *word == name);
    let workloads = [
        ("zipf-50k", Keys::Zipf(50_000)),
        ("uniform-50k", Keys::Uniform(50_000)),
        ("uniform-1m", Keys::Uniform(1_000_000)),
        ("one-key", Keys::Uniform(1)),
    ];
    for (name, keys) in workloads.into_iter().filter(|(name, _)| wanted(2, name)) {
        measure(name, &Columns::new(events, keys), rounds, |way| way == "hand" || wanted(3, way));
    }
}

/// Nanoseconds that this thread has had a core, so that others on the machine count less; elsewhere the time of day.
fn on_core_ns() -> u64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let on_core = told.and_then(|text| text.split(' ').next()?.parse().ok());
    on_core.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64))
}

fn measure(name: &str, columns: &Columns, rounds: usize, wanted: impl Fn(&str) -> bool) {
    let batches = engine::batches(columns);
    let expected = hand::fold(columns, true).expect("asked for");
    let mut ways: Vec<Way<'_>> = vec![
        ("hand", Box::new(|look| hand::fold(columns, look))),
        ("hand-exact", Box::new(|look| hand::fold_exact(columns, look))),
        ("fold", Box::new(|_| engine::fold(&batches, false, false))),
        ("fold+partials", Box::new(|look| engine::fold(&batches, true, look))),
        ("step", Box::new(|_| engine::step(&batches, false))),
        ("step+log", Box::new(|_| engine::step(&batches, true))),
    ];
    ways.retain(|way| wanted(way.0));
    let mut times = vec![Vec::new(); ways.len()];
    for round in 0..=rounds {
        for (way, times) in ways.iter_mut().zip(&mut times) {
            let start = on_core_ns();
            let total = (way.1)(round == 0);
            let nanos = (on_core_ns() - start) as f64 / columns.times.len() as f64;
            if let Some(total) = total {
                assert!(total.agrees_with(&expected), "{name}, {}: {total:?} instead of {expected:?}", way.0);
            }
            // The first round warms up.
            if round > 0 {
                times.push(nanos);
            }
        }
    }
    let mut out = std::io::stdout().lock();
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let medians: Vec<f64> = times.iter().map(|times| times[times.len() / 2]).collect();
    for (((way, _), nanos), times) in ways.iter().zip(&medians).zip(&times) {
        let (best, ratio) = (times[0], medians[0] / nanos);
        writeln!(out, "{name:12} {way:14} {nanos:7.2} ns/event, best {best:7.2}, {ratio:6.3} of hand")
            .expect("standard output");
    }
    writeln!(out, "{name:12} {} rows, hash {:016x}", expected.rows, expected.hash).expect("standard output");
}
