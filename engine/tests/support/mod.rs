//! What the end-to-end tests share: the binary run under a watchdog, directories, data in every format.
//!
//! No test is here, and no expectation of what the engine answers.
#![allow(dead_code, reason = "every test binary uses a part of this")]

pub mod confine;
pub mod events;
pub mod flights;
pub mod process;
pub mod scene;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every file and directory below `directory`, hidden ones too, as paths within it.
pub fn listing(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(&place).expect("a directory that the test made") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path.clone());
            }
            found.insert(path.strip_prefix(directory).expect("below").to_path_buf());
        }
    }
    found
}

/// `path` as text; the tests make no others.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// Says that a test could not be tried here, past the runner, which hides what tests that pass print.
pub fn skip(what: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIP {what}");
}

/// Packs `bytes` with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

/// Packs `bytes` with zstd and a checksum, as the command does.
pub fn zstd_pack(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("into memory");
    encoder.include_checksum(true).expect("a known parameter");
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

/// The smallest difference between two texts, for a message a person can read: the first line that differs.
pub fn first_difference(one: &[u8], other: &[u8]) -> Option<String> {
    if one == other {
        return None;
    }
    let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    let (mut left, mut right) = (one.lines(), other.lines());
    for number in 1.. {
        match (left.next(), right.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => return Some(format!("line {number}: {} against {}", short(a), short(b))),
        }
    }
    Some(String::from("the same lines, but not the same bytes"))
}

fn short(line: Option<&str>) -> String {
    line.map_or_else(|| String::from("nothing"), |line| format!("{:?}", line.chars().take(160).collect::<String>()))
}
