//! Holding a manifest against the outputs that it names: lengths, checksums, ledgers. For `corefold verify`.
//!
//! Reads only, in bounded memory per file. To be used while no engine runs on the data directory. How findings are
//! shown is not here.

use super::error::ManifestError;
use super::line::{FileLine, FileState, Line};
use super::scan::{self, Spot, Verdict};
use crate::export::aside::{Extent, begins_with};
use crate::summary::Ledger;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

/// How much a finding means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Explained by a crash, or by somebody who moved a complete file away.
    Mild,
    /// Neither the engine nor a crash does this.
    Grave,
}

/// Something that was found.
#[derive(Debug, thiserror::Error)]
pub enum Finding {
    /// An output is what the manifest says.
    #[error("{}: {bytes} bytes, {rows} rows, {}", path.display(), state.name())]
    Sound {
        /// The file.
        path: PathBuf,
        /// How far it has come.
        state: FileState,
        /// Committed bytes.
        bytes: u64,
        /// Committed rows.
        rows: u64,
    },
    /// An output is not there.
    #[error(
        "{}: missing; {}",
        path.display(),
        if *is_complete { "it was complete, so it may have been moved away" } else { "its committed rows are lost" }
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// Whether it was complete, and may be elsewhere.
        is_complete: bool,
    },
    /// An output is not what it was.
    #[error("{}: changed since it was committed: {reason}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// An output cannot be read.
    #[error("{}: cannot be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// A ledger does not add up.
    #[error("manifest line {line}, view `{view}`: the ledger does not add up: {ledger:?}")]
    Unbalanced {
        /// Number of the line, from 1.
        line: u64,
        /// The view.
        view: String,
        /// The ledger.
        ledger: Ledger,
    },
    /// The manifest is another data directory's.
    #[error("the manifest belongs to the data directory {found}, and this one is {expected}; restore this one's")]
    Foreign {
        /// UUID in the manifest.
        found: String,
        /// UUID of the directory.
        expected: String,
    },
    /// The last line is torn.
    #[error("manifest line {} (byte {}): {}; the next start cuts it", spot.line, spot.offset, spot.fault)]
    Torn {
        /// Where.
        spot: Spot,
    },
    /// A line is damaged.
    #[error("manifest line {} (byte {}): {}", spot.line, spot.offset, spot.fault)]
    Damaged {
        /// Where.
        spot: Spot,
    },
}

impl Finding {
    /// How much it means.
    pub const fn severity(&self) -> Severity {
        match self {
            Finding::Sound { .. } => Severity::Fine,
            Finding::Missing { is_complete: true, .. } | Finding::Torn { .. } => Severity::Mild,
            Finding::Missing { is_complete: false, .. }
            | Finding::Changed { .. }
            | Finding::Unreadable { .. }
            | Finding::Unbalanced { .. }
            | Finding::Foreign { .. }
            | Finding::Damaged { .. } => Severity::Grave,
        }
    }
}

/// How much was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verified {
    /// Lines that could be read.
    pub lines: u64,
    /// Ledgers that were added up again.
    pub ledgers: u64,
    /// Files.
    pub files: u64,
    /// Committed bytes of files that are what they were.
    pub bytes: u64,
}

/// Checks the manifest at `path` and every output that it names, and tells what it finds. A data directory without a
/// manifest has no outputs to check. `store` is the directory's UUID.
pub fn outputs(path: &Path, store: &str, mut tell: impl FnMut(Finding)) -> Result<Verified, ManifestError> {
    let mut verified = Verified::default();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(verified),
        Err(error) => return Err(ManifestError::io("open", path)(error)),
    };
    let mut newest: BTreeMap<(String, String), FileLine> = BTreeMap::new();
    let verdict = scan::walk(BufReader::new(file), |seen| {
        verified.lines += u64::from(seen.line.is_ok());
        if let Ok(Line::Header(header)) = &seen.line
            && header.store != store
        {
            tell(Finding::Foreign { found: header.store.clone(), expected: store.to_owned() });
        }
        if let Ok(Line::File(line)) = seen.line {
            if let Some(ledger) = line.ledger {
                verified.ledgers += 1;
                if !ledger.balances() {
                    tell(Finding::Unbalanced { line: seen.number, view: line.view.clone(), ledger });
                }
            }
            if let Some(file) = &line.file {
                newest.insert((line.export.clone(), file.clone()), *line);
            }
        }
        Ok::<(), io::Error>(())
    });
    match verdict.map_err(ManifestError::io("read", path))? {
        Verdict::Sound => {}
        Verdict::Torn(spot) => tell(Finding::Torn { spot }),
        Verdict::Damaged(spot) => tell(Finding::Damaged { spot }),
    }
    for line in newest.values() {
        let finding = look(line);
        verified.files += 1;
        if let Finding::Sound { bytes, .. } = finding {
            verified.bytes += bytes;
        }
        tell(finding);
    }
    Ok(verified)
}

/// Looks at one file where it may be.
fn look(line: &FileLine) -> Finding {
    let path = PathBuf::from(line.file.as_deref().unwrap_or_default());
    let aside = PathBuf::from(line.aside.as_deref().unwrap_or_default());
    let places = match line.state {
        FileState::Open | FileState::Closing => vec![aside, path],
        FileState::Empty | FileState::Complete => vec![path],
    };
    let mut wrong = None;
    for place in &places {
        match begins_with(place, Extent { bytes: line.bytes, crc: line.crc32c }) {
            Ok(None) => {}
            Ok(Some(Ok(()))) => match length(place) {
                Ok(length) if line.state == FileState::Open || length == line.bytes => {
                    let (bytes, rows) = (line.bytes, line.rows);
                    return Finding::Sound { path: place.clone(), state: line.state, bytes, rows };
                }
                Ok(length) => {
                    let reason = format!("it has {length} bytes, and {} are committed", line.bytes);
                    wrong = wrong.or(Some(Finding::Changed { path: place.clone(), reason }));
                }
                Err(cause) => wrong = wrong.or(Some(Finding::Unreadable { path: place.clone(), cause })),
            },
            Ok(Some(Err(reason))) => wrong = wrong.or(Some(Finding::Changed { path: place.clone(), reason })),
            Err(cause) => wrong = wrong.or(Some(Finding::Unreadable { path: place.clone(), cause })),
        }
    }
    let is_complete = line.state != FileState::Open;
    wrong.unwrap_or_else(|| Finding::Missing { path: places[0].clone(), is_complete })
}

fn length(path: &Path) -> io::Result<u64> {
    fs::metadata(path).map(|metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::super::line::tests::sample;
    use super::super::{MANIFEST_FILE, Manifest};
    use super::*;

    #[test]
    fn every_kind_of_finding_is_found() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let mut manifest = Manifest::open(root.path(), "s").unwrap();
        let mut add = |name: &str, state: FileState, bytes: &[u8], ledger: Option<Ledger>| {
            let text = |path: PathBuf| path.to_str().map(str::to_owned);
            let aside = (state != FileState::Complete).then(|| text(at(&format!("{name}.aside")))).flatten();
            let (file, crc32c) = (text(at(name)), crc32c::crc32c(bytes));
            let (export, bytes) = (String::from("e"), bytes.len() as u64);
            manifest.append(FileLine { export, state, file, aside, bytes, crc32c, ledger, ..sample(0) }).unwrap();
        };
        add("whole", FileState::Complete, b"whole", None);
        add("longer", FileState::Complete, b"longer", None);
        add("taken", FileState::Complete, b"taken", None);
        add("open", FileState::Open, b"open", None);
        add("lost", FileState::Open, b"lost", None);
        add("closing", FileState::Closing, b"closing", None);
        add("closing2", FileState::Closing, b"closing", None);
        add("changed", FileState::Complete, b"changed", Some(Ledger { received: 3, late: 2, ..Ledger::default() }));
        drop(manifest);
        for (name, bytes) in [
            ("whole", "whole"),
            ("longer", "longer!"),
            ("open.aside", "open and more"),
            ("closing.aside", "closing"),
            ("closing2", "closing"),
            ("changed", "Changed"),
        ] {
            fs::write(at(name), bytes).unwrap();
        }
        let look = |text: &mut Vec<String>| {
            outputs(&at(MANIFEST_FILE), "s", |finding| {
                text.push(
                    format!("{:?} {finding}", finding.severity()).replace(&format!("{}/", root.path().display()), ""),
                );
            })
        };
        let mut found = Vec::new();
        let verified = look(&mut found).unwrap();
        found.sort();
        let expected = [
            "Fine closing.aside: 7 bytes, 20 rows, closing",
            "Fine closing2: 7 bytes, 20 rows, closing",
            "Fine open.aside: 4 bytes, 20 rows, open",
            "Fine whole: 5 bytes, 20 rows, complete",
            "Grave changed: changed since it was committed: its first 7 bytes have the CRC-32C",
            "Grave longer: changed since it was committed: it has 7 bytes, and 6 are committed",
            "Grave lost.aside: missing; its committed rows are lost",
            "Grave manifest line 9, view `hourly`: the ledger does not add up",
            "Mild taken: missing; it was complete",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        assert!(found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)), "{found:#?}");
        assert_eq!(verified, Verified { lines: 9, ledgers: 1, files: 8, bytes: 23 });

        let whole = fs::read(at(MANIFEST_FILE)).unwrap();
        fs::write(at(MANIFEST_FILE), &whole[..whole.len() - 1]).unwrap();
        let mut found = Vec::new();
        look(&mut found).unwrap();
        assert!(found[0].starts_with("Mild manifest line 9"), "{found:#?}");
        let mut damaged = whole;
        damaged[3] ^= 1;
        fs::write(at(MANIFEST_FILE), &damaged).unwrap();
        let mut found = Vec::new();
        look(&mut found).unwrap();
        assert!(found.iter().any(|text| text.starts_with("Grave manifest line 1 (byte 0)")), "{found:#?}");
        fs::remove_file(at(MANIFEST_FILE)).unwrap();
        assert_eq!(look(&mut Vec::new()).unwrap(), Verified::default());
    }
}
