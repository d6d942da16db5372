//! The quick half of the fault suite: a few disturbances of each kind on the real program, in the tests.
//!
//! All of it, at full length and on broken disks, is `scripts/faults.sh`. What must hold is in `src/live/rows`.

use corefold_bench::live::report::attempt;
use corefold_bench::live::rows::ROWS;
use corefold_bench::live::{Setting, Stop};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The program beside the harness. It belongs to another package, so the whole workspace's test command builds it, and
/// this package's alone does not.
fn corefold() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_bench-harness")).with_file_name("corefold");
    let built = fs::metadata(&program).and_then(|metadata| metadata.modified());
    let built = built.unwrap_or_else(|error| panic!("{}: {error}; run `cargo build` first", program.display()));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for folder in ["aggregator/src", "shards/src", "engine/src"] {
        let newest = newest_below(&root.join(folder));
        assert!(newest <= built, "{} is older than {folder}; run `cargo build` first", program.display());
    }
    program
}

fn newest_below(folder: &Path) -> SystemTime {
    let entries = fs::read_dir(folder).expect("a readable folder").map(|entry| entry.expect("an entry").path());
    let times = entries.map(|path| match path.is_dir() {
        true => newest_below(&path),
        false => fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time"),
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Tries a row; it must pass, or say what this machine lacks.
fn row(number: &str, times: Option<u64>) {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{number}"));
    let setting = Setting { corefold: corefold(), scratch: scratch.clone(), times, quick: true, seed: 1 };
    let row = ROWS.iter().find(|row| row.number == number).expect("a row of the matrix");
    let outcome = attempt(row, &setting);
    match &outcome.result {
        Ok(_) => {}
        // Past the runner, which hides what tests that pass print.
        Err(Stop::Skip(_)) => writeln!(std::io::stderr(), "{}", outcome.line()).expect("standard error"),
        Err(Stop::Fail(_)) => panic!("{}", outcome.line()),
    }
    // Kept after a failure, to be looked at.
    let _ = fs::remove_dir_all(scratch);
}

#[test]
fn killed_at_random_moments() {
    row("1", Some(6));
}

#[test]
fn killed_while_a_log_is_read_back() {
    row("2", Some(4));
}

#[test]
fn killed_before_named_steps() {
    row("3", None);
}

#[test]
fn the_power_fails() {
    row("4", Some(1));
}

#[test]
fn segments_are_torn() {
    row("5", None);
}

#[test]
fn bits_flip() {
    row("7", None);
}

#[test]
fn files_are_missing_exchanged_or_stale() {
    row("8", None);
}

#[test]
fn snapshots_are_damaged() {
    row("9", None);
}

#[test]
fn the_process_is_halted_or_starved() {
    row("15", Some(1));
}

#[test]
fn connections_are_reset_and_cut() {
    row("17", Some(1));
}

#[test]
fn clients_are_hostile() {
    row("18", Some(1_500));
}

#[test]
fn producers_and_servers_are_killed() {
    row("N", Some(3));
}

#[test]
fn inputs_are_garbage() {
    row("21", Some(12));
}

#[test]
fn shards_come_and_go() {
    row("S", Some(1));
}
