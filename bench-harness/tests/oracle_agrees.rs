//! The oracle against the engine: thousands of random jobs in process, under seeded schedules with crashes, and some
//! through the program itself.
//!
//! `COREFOLD_AGREE_FROM` and `COREFOLD_AGREE_SEEDS` choose other seeds, `COREFOLD_AGREE_SCHEDULE` moves them in other
//! ways. What an answer must be is not decided here.

use corefold_bench::agree::{CorefoldProgram, EngineUnderTest, check_seed, random_shape};
use corefold_bench::local::LocalEngine;
use corefold_bench::workload::Format;
use corefold_bench::workload::random::random_job;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

/// Jobs run in process.
const SEEDS_IN_PROCESS: u64 = 5_000;

/// Of those, runs that must have crashed at least once on the way.
const CRASHED_MIN: u64 = 1_000;

/// Jobs run through the program.
const SEEDS_OF_PROGRAM: u64 = 60;

/// Reports that are shown before the rest is only counted.
const REPORTS_SHOWN: usize = 3;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; expected a number")),
        Err(_) => default,
    }
}

/// Checks the seeds on every core and fails with the first reports.
fn check_seeds(from: u64, count: u64, engine: &(dyn EngineUnderTest + Sync)) {
    let next = AtomicU64::new(from);
    let reports = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    if let Err(report) = check_seed(seed, engine) {
                        reports.lock().expect("no thread panics with the lock").push((seed, report));
                    }
                }
            });
        }
    });
    let mut reports = reports.into_inner().expect("all threads have ended");
    reports.sort();
    let shown: Vec<&str> = reports.iter().take(REPORTS_SHOWN).map(|(_, report)| report.as_str()).collect();
    assert!(reports.is_empty(), "{} of {count} jobs differ; the first:\n\n{}", reports.len(), shown.join("\n\n"));
}

#[test]
fn thousands_of_random_jobs_in_process() {
    let engine = LocalEngine::new(setting("COREFOLD_AGREE_SCHEDULE", 0));
    let from = setting("COREFOLD_AGREE_FROM", 0);
    let count = setting("COREFOLD_AGREE_SEEDS", SEEDS_IN_PROCESS);
    check_seeds(from, count, &engine);
    let (runs, crashed) = engine.runs();
    assert!(runs > count, "{runs} runs over {count} jobs");
    assert!(count < SEEDS_IN_PROCESS || crashed >= CRASHED_MIN, "only {crashed} of {runs} runs crashed");
    assert!(engine.crashes() >= crashed);
}

/// What a simulator stands on.
#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..60 {
        let (job, shape) = (random_job(seed), random_shape(seed));
        let first = LocalEngine::new(1).trace(&job, &shape);
        assert_eq!(first, LocalEngine::new(1).trace(&job, &shape), "seed {seed}");
        let other = LocalEngine::new(2).trace(&job, &shape);
        if let (Ok(first), Ok(other)) = (first, other) {
            assert_ne!(first.trace, other.trace, "seed {seed}: another schedule moves in the same way");
            assert_eq!(first.output, other.output, "seed {seed}: another schedule gives another answer");
        }
    }
}

#[test]
fn random_jobs_through_the_program() {
    let seeds = 0..SEEDS_OF_PROGRAM;
    for format in Format::ALL {
        for logged in [false, true] {
            let is_such =
                |&seed: &u64| random_job(seed).format == format && random_shape(seed).data_dir.is_some() == logged;
            assert!(seeds.clone().any(|seed| is_such(&seed)), "no job with {format:?} and a log: {logged}");
        }
    }
    let scratch = tempfile::tempdir().expect("a directory");
    check_seeds(seeds.start, SEEDS_OF_PROGRAM, &CorefoldProgram::new(program(), scratch.path()));
}

/// The program `corefold` of this build: named by `COREFOLD_PROGRAM`, or beside this test, built if it is not there.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os("COREFOLD_PROGRAM") {
            return path.into();
        }
        let this = std::env::current_exe().expect("a test has a path");
        // target/<profile>/deps/<this test>
        let profile = this.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
        let program = profile.join("corefold");
        if !program.exists() {
            let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            build.args(["build", "--quiet", "-p", "corefold-engine", "--bin", "corefold"]);
            if profile.ends_with("release") {
                build.arg("--release");
            }
            build.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", profile.join(".."));
            assert!(build.status().is_ok_and(|status| status.success()), "cannot build the program corefold");
        }
        program
    })
}
