//! One line of a manifest: what it says and how it is spelled. Writer and reader side by side.
//!
//! How lines follow each other is in [`super::scan`]; `docs/manifest-format.md` describes both.

use crate::summary::Ledger;
use serde::{Deserialize, Serialize};

/// Version of the format.
pub const MANIFEST_FORMAT: u32 = 1;

/// Longest line, its line feed left out.
pub const LINE_SIZE_MAX: usize = 1 << 17;

/// What stands between the facts of a line and its checksum.
const SEAL: &str = ",\"line_crc32c\":\"";

/// Bytes from the seal to the end of the line: the seal, eight digits, quote and brace.
const SEAL_SIZE: usize = SEAL.len() + 10;

/// How every line about a file begins.
pub(super) const FILE_LINE_START: &[u8] = b"{\"seq\":";

/// The first line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`MANIFEST_FORMAT`].
    pub manifest: u32,
    /// UUID of the data directory.
    pub store: String,
    /// Lines that a compaction kept; they follow at once, and are as durable as this line.
    pub kept: u64,
    /// Number of the first line behind those; from there on numbers have no gaps.
    pub next_seq: u64,
}

/// How far a file has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// No file yet: the export had no rows so far.
    Empty,
    /// Growing, aside; `bytes` of it are committed.
    Open,
    /// All its bytes are durable; it may or may not have its name yet.
    Closing,
    /// It has its name.
    Complete,
}

impl FileState {
    /// As it is spelled.
    pub const fn name(self) -> &'static str {
        match self {
            FileState::Empty => "empty",
            FileState::Open => "open",
            FileState::Closing => "closing",
            FileState::Complete => "complete",
        }
    }
}

/// Which part of an export a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartStart {
    /// End of the window of its first row.
    pub first_window_end_us: i64,
    /// Number among the parts whose first rows are of that window.
    pub number: u32,
}

/// What an export has committed over all its files and runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Rows.
    pub rows: u64,
    /// Windows that have a row.
    pub windows: u64,
    /// Files, one that is open included.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A commit: how far one file of one export has come.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileLine {
    /// Number of the line.
    pub seq: u64,
    /// Name of the view.
    pub view: String,
    /// What the export writes: a file, or a directory with a slash at the end.
    pub export: String,
    /// Its format.
    pub format: String,
    /// How far the file has come.
    pub state: FileState,
    /// The file, under the name that it has or will have; none if there is none yet.
    pub file: Option<String>,
    /// The file while it has no name yet: where it grows.
    pub aside: Option<String>,
    /// Which part it is.
    pub part: Option<PartStart>,
    /// Committed bytes.
    pub bytes: u64,
    /// Committed rows.
    pub rows: u64,
    /// CRC-32C of the committed bytes.
    #[serde(with = "hex")]
    pub crc32c: u32,
    /// End of the window of the export's last committed row.
    pub window_end_us: Option<i64>,
    /// How many rows of that window are committed, counted from its first.
    pub window_rows: u64,
    /// Every window that ends here or before is committed as a whole, also if it has no rows.
    pub through_us: i64,
    /// The export's sums.
    pub total: Totals,
    /// What became of the events of the view, when it was last known.
    pub ledger: Option<Ledger>,
}

/// A checksum as eight lower-case hexadecimal digits.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{value:08x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        let text = String::deserialize(from)?;
        super::parse_hex(text.as_bytes()).ok_or_else(|| D::Error::custom("a checksum is eight hexadecimal digits"))
    }
}

fn parse_hex(digits: &[u8]) -> Option<u32> {
    let canonical = digits.len() == 8 && digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    canonical.then(|| std::str::from_utf8(digits).ok().and_then(|text| u32::from_str_radix(text, 16).ok())).flatten()
}

/// A line that is whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// The first one.
    Header(Header),
    /// Any other.
    File(Box<FileLine>),
}

/// Spells a line, with its checksum and its line feed.
pub fn encode(facts: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(facts)?;
    assert_eq!(line.pop(), Some(b'}'), "facts are an object");
    let crc = crc32c::crc32c(&line);
    line.extend_from_slice(format!("{SEAL}{crc:08x}\"}}\n").as_bytes());
    Ok(line)
}

/// Reads a line, given without its line feed. The error says what is wrong, and whether the checksum held.
pub fn decode(line: &[u8]) -> Result<Line, LineFault> {
    let broken = |reason: &str| Err(LineFault { reason: reason.to_owned(), is_sealed: false });
    let Some((facts, seal)) = line.len().checked_sub(SEAL_SIZE).map(|at| line.split_at(at)) else {
        return broken("it is cut off: it does not end in a checksum");
    };
    let digits = seal.strip_prefix(SEAL.as_bytes()).and_then(|rest| rest.strip_suffix(b"\"}")).and_then(parse_hex);
    let Some(stated) = digits else { return broken("it does not end in a checksum") };
    let found = crc32c::crc32c(facts);
    if found != stated {
        return broken(&format!("its bytes have the checksum {found:08x}, but {stated:08x} was expected"));
    }
    let text = [facts, b"}"].concat();
    let read = if facts.starts_with(FILE_LINE_START) {
        serde_json::from_slice(&text).map(|line| Line::File(Box::new(line)))
    } else {
        serde_json::from_slice(&text).map(Line::Header)
    };
    read.map_err(|error| LineFault { reason: format!("it says what is not understood here: {error}"), is_sealed: true })
}

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineFault {
    /// In words.
    pub reason: String,
    /// Whether the checksum held: then no crash explains it.
    pub is_sealed: bool,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn sample(seq: u64) -> FileLine {
        FileLine {
            seq,
            view: String::from("hourly"),
            export: String::from("/out/"),
            format: String::from("csv"),
            state: FileState::Open,
            file: Some(format!("/out/part-{seq}.csv")),
            aside: Some(format!("/out/.part-{seq}.csv.0011aabb.open")),
            part: Some(PartStart { first_window_end_us: 3_600_000_000, number: 2 }),
            bytes: 1234,
            rows: 20,
            crc32c: 0x00ab_cdef,
            window_end_us: Some(7_200_000_000),
            window_rows: 3,
            through_us: 7_200_000_000,
            total: Totals { rows: 21, windows: 2, files: 3, bytes: 2000 },
            ledger: Some(Ledger { received: 9, aggregated: 7, late: 2, ..Ledger::default() }),
        }
    }

    /// The bytes that the document shows.
    #[test]
    fn lines_are_spelled_like_this() {
        let header = Header { manifest: 1, store: String::from("6f1c"), kept: 0, next_seq: 7 };
        let expected = "{\"manifest\":1,\"store\":\"6f1c\",\"kept\":0,\"next_seq\":7,\"line_crc32c\":\"HEADER\"}\n";
        let bytes = encode(&header).unwrap();
        let crc = crc32c::crc32c(br#"{"manifest":1,"store":"6f1c","kept":0,"next_seq":7"#);
        assert_eq!(String::from_utf8_lossy(&bytes), expected.replace("HEADER", &format!("{crc:08x}")));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), Ok(Line::Header(header)));
        let expected = concat!(
            r#"{"seq":7,"view":"hourly","export":"/out/","format":"csv","state":"open","file":"/out/part-7.csv","#,
            r#""aside":"/out/.part-7.csv.0011aabb.open","part":{"first_window_end_us":3600000000,"number":2},"#,
            r#""bytes":1234,"rows":20,"crc32c":"00abcdef","window_end_us":7200000000,"window_rows":3,"#,
            r#""through_us":7200000000,"total":{"rows":21,"windows":2,"files":3,"bytes":2000},"#,
            r#""ledger":{"received":9,"aggregated":7,"late":2,"duplicate":0,"rejected":0,"shed":0,"filtered":0},"#,
            "\"line_crc32c\":\"fb32c59c\"}\n"
        );
        let bytes = encode(&sample(7)).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
        assert_eq!(decode(&bytes[..bytes.len() - 1]), Ok(Line::File(Box::new(sample(7)))));
    }

    #[test]
    fn the_document_shows_these_bytes() {
        let document = include_str!("../../../docs/manifest-format.md");
        let header = Header { manifest: 1, store: String::from("6f1c"), kept: 0, next_seq: 7 };
        for line in [encode(&header).unwrap(), encode(&sample(7)).unwrap()] {
            let line = String::from_utf8(line).unwrap();
            assert!(document.contains(&line), "{line}");
        }
        let largest = format!("at most {} bytes", crate::progress::thousands(LINE_SIZE_MAX as u64));
        assert!(document.contains(&largest), "{largest}");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let bytes = encode(&sample(3)).unwrap();
        let line = &bytes[..bytes.len() - 1];
        for bit in 0..line.len() * 8 {
            let mut changed = line.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&changed).is_err_and(|fault| !fault.is_sealed), "bit {bit}");
        }
        for length in 0..line.len() {
            assert!(decode(&line[..length]).is_err_and(|fault| !fault.is_sealed), "length {length}");
        }
    }

    #[test]
    fn facts_from_elsewhere_are_refused_though_their_checksum_holds() {
        for facts in [r#"{"seq":1,"colour":"red"}"#, r#"{"manifest":1}"#, r#"{"seq":1}"#, r#"{"seq":"1"}"#] {
            let facts: serde_json::Value = serde_json::from_str(facts).unwrap();
            let bytes = encode(&facts).unwrap();
            assert!(decode(&bytes[..bytes.len() - 1]).is_err_and(|fault| fault.is_sealed), "{facts}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(view in any::<String>(), file in any::<Option<String>>(), through in any::<i64>()) {
            let line = FileLine { view, file, through_us: through, ledger: None, ..sample(0) };
            let bytes = encode(&line).unwrap();
            prop_assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 1);
            prop_assert_eq!(decode(&bytes[..bytes.len() - 1]), Ok(Line::File(Box::new(line))));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
