//! Every fuzz target at smoke size: the committed inputs, then seeds. Long runs are `scripts/fuzz.sh`.
//!
//! What a target promises stands in `bench-harness/src/fuzz/mod.rs`; that broken promises are noticed is tested here.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "findings and digests are told")]

use corefold_bench::fuzz::drive::{Run, Tally, Watch};
use corefold_bench::fuzz::{TARGETS, Target};
use std::fs;
use std::path::{Path, PathBuf};

/// Seeds of each target.
const SEEDS: u64 = 3_000;

/// Bytes of memory that the whole of this may take at once.
const MEMORY_MAX: u64 = 1 << 30;

fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
}

fn assert_kept(target: &Target, tally: &Tally) {
    for finding in &tally.findings {
        eprintln!("{}, {}: {}", target.name, finding.input, finding.what);
    }
    assert!(tally.findings.is_empty(), "the target `{}` has broken its promise", target.name);
}

/// Runs a target, with a watch that ends the process when an input does not.
fn run(name: &'static str) {
    let target = Target::named(name).expect("a target");
    let watch = Watch::start(move |input| {
        eprintln!("{name}, {input}: no end");
        std::process::abort();
    });
    let mut run = Run::default();
    watch.begin("the corpus".to_owned());
    run.corpus(target, &corpus(target)).expect("a readable corpus");
    let replayed = run.tally().executions;
    assert!(replayed > 0, "the corpus of `{name}` is empty");
    for seed in 0..SEEDS {
        watch.begin(format!("seed {seed}"));
        run.seed(target, seed);
    }
    let tally = run.tally();
    println!("{name}: {replayed} committed inputs, {SEEDS} seeds, digest {:016x}", tally.digest);
    assert_kept(target, &tally);
    assert!(memory_peak() < MEMORY_MAX, "{} bytes", memory_peak());
}

fn memory_peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells the peak");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib * 1024
}

macro_rules! smoke {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                run($name);
            }
        )*

        #[test]
        fn every_target_has_a_test_and_a_libfuzzer_target() {
            let tested = [$($name),*];
            let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml"));
            let manifest = manifest.expect("the crate for cargo-fuzz");
            for target in &TARGETS {
                assert!(tested.contains(&target.name), "{}", target.name);
                assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
            }
            assert_eq!(tested.len(), TARGETS.len());
        }
    };
}

smoke! {
    batch: "batch",
    wal: "wal",
    partial: "partial",
    snapshot: "snapshot",
    panes: "panes",
    manifest: "manifest",
    config: "config",
    filter: "where",
    aggregates: "agg",
    csv: "csv",
    ndjson: "ndjson",
    packed: "packed",
    wire: "wire",
    ways: "ways",
}

/// The same seeds give the same inputs and answers, and a sound input is not refused at the door.
#[test]
fn runs_repeat() {
    for target in &TARGETS {
        let digest = |seeds: std::ops::Range<u64>| {
            let mut run = Run::default();
            seeds.for_each(|seed| run.seed(target, seed));
            run.tally().digest
        };
        assert_eq!(digest(0..40), digest(0..40), "{}", target.name);
        assert_ne!(digest(0..40), digest(40..80), "{}", target.name);
    }
}

#[test]
fn a_broken_promise_is_a_finding() {
    let fragile = Target {
        name: "fragile",
        about: "panics over every byte above 100",
        body: |input| {
            assert!(input.iter().all(|byte| *byte <= 100), "a byte above 100");
            0
        },
        sound: |_| vec![1, 2, 3],
        words: &[],
    };
    let mut run = Run::default();
    (0..200).for_each(|seed| run.seed(&fragile, seed));
    let tally = run.tally();
    assert_eq!(tally.executions, 200);
    assert!(tally.findings.len() > 10, "{}", tally.findings.len());
    assert!(tally.findings.iter().all(|finding| finding.what == "a byte above 100"));
    assert!(tally.findings.iter().all(|finding| finding.bytes.iter().any(|byte| *byte > 100)));
}
