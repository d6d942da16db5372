//! The manifest target: any bytes as `manifest.ndjson`, line checksums put right on demand.
//!
//! An input is one byte of choices and the file. The outputs that lines name are not looked for.

use crate::entropy::Entropy;
use corefold_engine::manifest::line::{FileLine, FileState, Header, Totals, encode};
use corefold_engine::manifest::scan::walk;
use corefold_engine::summary::Ledger;
use std::io;
use xxhash_rust::xxh3::Xxh3;

/// Keys and numbers of lines.
pub const WORDS: &[&[u8]] = &[
    b"{\"seq\":",
    b"\"manifest\":1",
    b"\"kept\":",
    b"\"next_seq\":",
    b"18446744073709551615",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"1e400",
    b"null",
    b"\"open\"",
    b"\"complete\"",
    b",\"line_crc32c\":\"",
    b"\"}\n",
    b"\n",
];

/// Choice: the checksum of each line is put right.
const MEND: u8 = 1;

/// Bytes of a line behind its facts: `,"line_crc32c":"`, eight digits, `"}`.
const SEAL: &[u8] = b",\"line_crc32c\":\"";

/// See the module.
pub fn body(input: &[u8]) -> u64 {
    let Some((&choices, file)) = input.split_first() else { return 0 };
    let file = if choices & MEND == 0 { file.to_vec() } else { mend(file) };
    let mut hash = Xxh3::new();
    let verdict = walk(&file[..], |seen| {
        hash.update(format!("{seen:?}").as_bytes());
        Ok::<(), io::Error>(())
    });
    hash.update(format!("{:?}", verdict.expect("memory can be read")).as_bytes());
    hash.digest()
}

fn mend(file: &[u8]) -> Vec<u8> {
    let mut mended = Vec::with_capacity(file.len());
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        let whole = line.strip_suffix(b"\"}\n").and_then(|line| line.len().checked_sub(8).map(|at| &line[..at]));
        match whole.and_then(|line| line.strip_suffix(SEAL)) {
            Some(facts) => {
                mended.extend_from_slice(facts);
                mended.extend_from_slice(SEAL);
                mended.extend_from_slice(format!("{:08x}\"}}\n", crc32c::crc32c(facts)).as_bytes());
            }
            None => mended.extend_from_slice(line),
        }
    }
    mended
}

/// A choice and a manifest of a few commits.
pub fn sound(entropy: &mut Entropy) -> Vec<u8> {
    let kept = entropy.below(3);
    let first = entropy.below(100);
    let mut input = vec![entropy.below(4) as u8];
    let store = "30313233-3435-3637-3839-616263646566".to_owned();
    let header = Header { manifest: 1, store, kept, next_seq: first + kept };
    input.extend(encode(&header).expect("a small object"));
    for seq in first..first + kept + entropy.below(5) {
        let count = entropy.below(1_000);
        let line = FileLine {
            seq,
            view: "v".to_owned(),
            export: "out/".to_owned(),
            format: "csv".to_owned(),
            state: *entropy.pick(&[FileState::Empty, FileState::Open, FileState::Closing, FileState::Complete]),
            file: entropy.chance(0.8).then(|| "/out/part-1.csv".to_owned()),
            aside: entropy.chance(0.5).then(|| "/out/.part-1.csv.tmp".to_owned()),
            part: None,
            bytes: count * 10,
            rows: count,
            crc32c: entropy.bits() as u32,
            window_end_us: entropy.chance(0.8).then(|| entropy.between(0, 1 << 50)),
            window_rows: 3,
            through_us: entropy.between(i64::MIN, i64::MAX),
            total: Totals { rows: count, windows: 2, files: 1, bytes: count * 10 },
            ledger: entropy.chance(0.5).then(|| Ledger { received: count, aggregated: count, ..Ledger::default() }),
        };
        input.extend(encode(&line).expect("a small object"));
    }
    input
}
