//! The latency benchmark at a size that takes seconds: it must run, not be fast.

#![allow(clippy::print_stdout)]

use corefold_bench::latency::{LatencyArguments, measure};
use corefold_engine::disk::DiskError;

#[test]
fn every_round_ends_and_snapshots_are_taken() {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let arguments = LatencyArguments {
        dir: scratch.path().to_path_buf(),
        rate: 200_000,
        seconds: 1,
        rounds: 1,
        keys: 100,
        batch_rows: 1_000,
        wal_bytes: 64 << 10,
    };
    let table = match measure(&arguments) {
        Ok(table) => table,
        Err(error) => match error.downcast_ref::<DiskError>() {
            Some(DiskError::Unsuitable { reason }) => return println!("SKIP: {reason}"),
            _ => panic!("{error}"),
        },
    };
    let snapshots = |round: usize| {
        let row = table.lines().nth(1 + round).expect("a row for the round");
        row.split('|').nth(2).and_then(|cell| cell.trim().parse::<u64>().ok()).expect("a count")
    };
    assert_eq!(snapshots(1), 0, "{table}");
    assert!(snapshots(2) > 0, "{table}");
}
