//! The simulator at smoke size: thousands of seeds, each an engine through crashes, failing disks and rot, held
//! against the oracle.
//!
//! `COREFOLD_SIM_FROM` and `COREFOLD_SIM_SEEDS` choose other seeds. `scripts/simulate.sh` runs many more. What is
//! checked of a run is not decided here.

use corefold_bench::sim::faults::Fault;
use corefold_bench::sim::report::simulate_many;
use corefold_bench::sim::simulate;

/// Seeds of a run of the tests.
const SEEDS: u64 = 10_000;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; expected a number")),
        Err(_) => default,
    }
}

#[test]
fn ten_thousand_seeds() {
    let (from, count) = (setting("COREFOLD_SIM_FROM", 0), setting("COREFOLD_SIM_SEEDS", SEEDS));
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let totals = simulate_many(from..from + count, threads, |_| {});
    let failures: Vec<&str> = totals.failures.values().take(3).map(String::as_str).collect();
    assert!(failures.is_empty(), "{} of {count} seeds fail; the first:\n\n{}", totals.failed, failures.join("\n\n"));
    assert_eq!(totals.seeds, count);
    if count >= SEEDS {
        // A fault that no seed injects would go unnoticed.
        for fault in Fault::ALL {
            assert!(totals.faults.get(fault) >= 20, "only {} times: {fault}", totals.faults.get(fault));
        }
        assert!(totals.refusals.values().sum::<u64>() >= 100, "rot must be refused: {:?}", totals.refusals);
        assert!(totals.lives > 2 * count, "{} starts over {count} seeds", totals.lives);
    }
}

/// What a replay stands on.
#[test]
fn the_same_seed_gives_the_same_trace() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let first = simulate(seed).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(Ok(&first), simulate(seed).as_ref(), "seed {seed}");
        hashes.insert(first.trace);
    }
    assert!(hashes.len() > 290, "{} different traces of 300 seeds", hashes.len());
}
