//! Cuts the bytes of a text input into chunks of whole records.
//!
//! Where a chunk ends depends on its start and the bytes that follow, never on how reads come back, so a run that
//! resumes cuts as the first run did. What stands inside a record is not here.

use std::sync::Arc;

use memchr::{memchr, memchr_iter, memchr2};

use super::error::{Place, SourceError};
use super::input::{Bytes, Input};
use super::tokens::CHUNK_SIZE_MAX;
use super::{Chunk, Lane, LaneReader, Payload};

/// Sizes that bound a chunk. Smaller under test, so that every border is met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most records.
    pub records: usize,
    /// Most bytes, unless the first record alone is longer.
    pub chunk: usize,
    /// Longest record.
    pub record: usize,
    /// Bytes asked for at once.
    pub read: usize,
}

impl Limits {
    pub(super) const fn new(records: usize) -> Limits {
        Limits { records, chunk: 4 << 20, record: 64 << 20, read: 256 << 10 }
    }
}

// A chunk is at most one longest record, found at the end of what one growth of the buffer brought.
const _: () = assert!(Limits::new(1).record + Limits::new(1).chunk < CHUNK_SIZE_MAX);

/// How records end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Records {
    /// At every newline.
    Lines,
    /// At newlines outside quoted fields, with this delimiter.
    Quoted(u8),
}

/// The scan for the next cut. Offsets count from the chunk's start.
#[derive(Clone, Copy, Default, Debug)]
struct Scan {
    /// Bytes looked at.
    at: usize,
    /// End of the last whole record that belongs to the chunk.
    cut: usize,
    records: usize,
    /// Newlines before `cut`, and before `at`.
    lines: u64,
    lines_seen: u64,
    quoted: bool,
}

/// Reads an input and cuts it.
pub(super) struct TextChunks {
    name: String,
    bytes: Bytes,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    finished: bool,
    records: Records,
    limits: Limits,
    position: u64,
    /// Number of the line at `position`; `None` after a resume.
    line: Option<u64>,
}

impl TextChunks {
    /// Starts at the first byte, behind a byte order mark.
    pub(super) fn start(name: &str, bytes: Bytes, records: Records, limits: Limits) -> Result<TextChunks, SourceError> {
        let mut chunks = TextChunks {
            name: name.to_owned(),
            bytes,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            finished: false,
            records,
            limits,
            position: 0,
            line: Some(1),
        };
        while chunks.end < 3 && !chunks.finished {
            chunks.fill()?;
        }
        if chunks.buffer[..chunks.end].starts_with(b"\xEF\xBB\xBF") {
            chunks.start = 3;
            chunks.position = 3;
        }
        Ok(chunks)
    }

    /// Goes on at `position`, where an earlier chunk ended.
    pub(super) fn resume(&mut self, position: u64) -> Result<(), SourceError> {
        let stale = SourceError::Position { path: self.name.clone(), position };
        if position < self.position {
            return Err(stale);
        }
        if position == self.position {
            return Ok(());
        }
        // One byte before, to see that a record ends there.
        let before = position - 1;
        let have = self.position + (self.end - self.start) as u64;
        if before < have {
            self.start += (before - self.position) as usize;
        } else {
            (self.start, self.end) = (0, 0);
            if !self.bytes.skip(have, before)? {
                return Err(stale);
            }
        }
        self.position = position;
        self.line = None;
        while self.end - self.start < 2 && !self.finished {
            self.fill()?;
        }
        let ends_record = match self.end - self.start {
            0 => false,
            // The last record needs no newline.
            1 => true,
            _ => self.buffer[self.start] == b'\n',
        };
        if !ends_record {
            return Err(stale);
        }
        self.start += 1;
        Ok(())
    }

    /// Where the next chunk starts.
    pub(super) fn place(&self) -> Place {
        self.line.map_or(Place::Byte(self.position), Place::Line)
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes.meter.get()
    }

    /// Copies the next records into `out`, at most `records_max` and what [`Limits`] says; `false` at the end.
    pub(super) fn next(&mut self, records_max: usize, out: &mut Vec<u8>) -> Result<bool, SourceError> {
        out.clear();
        let mut scan = Scan::default();
        while !self.scan(&mut scan, records_max) {
            if scan.at - scan.cut > self.limits.record {
                return Err(self.too_long(&scan));
            }
            if self.finished {
                self.take_last(&mut scan)?;
                break;
            }
            self.fill()?;
        }
        // Records end in the order they start, so only the first can have been accepted unseen.
        if scan.records == 1 && scan.cut > self.limits.record {
            return Err(self.too_long(&scan));
        }
        if scan.cut == 0 {
            return Ok(false);
        }
        out.extend_from_slice(&self.buffer[self.start..self.start + scan.cut]);
        self.start += scan.cut;
        self.position += scan.cut as u64;
        self.line = self.line.map(|line| line + scan.lines);
        Ok(true)
    }

    /// Looks at the bytes there are; `true` when the chunk is full.
    fn scan(&self, scan: &mut Scan, records_max: usize) -> bool {
        let text = &self.buffer[self.start..self.end];
        loop {
            if scan.quoted && !self.leave_quotes(text, scan) {
                return false;
            }
            let rest = &text[scan.at..];
            let found = match self.records {
                Records::Lines => memchr(b'\n', rest),
                Records::Quoted(_) => memchr2(b'\n', b'"', rest),
            };
            let Some(found) = found else {
                scan.at = text.len();
                return scan.records > 0 && scan.at > self.limits.chunk;
            };
            let at = scan.at + found;
            scan.at = at + 1;
            if text[at] == b'"' {
                // A quote inside an unquoted field is an ordinary character.
                let Records::Quoted(delimiter) = self.records else { continue };
                scan.quoted = at == scan.cut || text[at - 1] == delimiter;
                continue;
            }
            if scan.records > 0 && scan.at > self.limits.chunk {
                return true;
            }
            scan.records += 1;
            scan.cut = scan.at;
            scan.lines_seen += 1;
            scan.lines = scan.lines_seen;
            if scan.records == records_max || scan.cut >= self.limits.chunk {
                return true;
            }
        }
    }

    /// Moves behind the closing quote; `false` when it is not among the bytes there are.
    fn leave_quotes(&self, text: &[u8], scan: &mut Scan) -> bool {
        loop {
            let from = scan.at;
            let close = memchr(b'"', &text[from..]).map(|found| from + found);
            let seen = close.unwrap_or(text.len());
            scan.lines_seen += memchr_iter(b'\n', &text[from..seen]).count() as u64;
            scan.at = seen;
            let Some(close) = close else { return false };
            match text.get(close + 1) {
                Some(b'"') => scan.at = close + 2,
                // Whether it closes depends on the next byte.
                None if !self.finished => return false,
                _ => {
                    scan.at = close + 1;
                    scan.quoted = false;
                    return true;
                }
            }
        }
    }

    /// At the end of the input: the last record may lack its newline.
    fn take_last(&self, scan: &mut Scan) -> Result<(), SourceError> {
        let length = self.end - self.start;
        if scan.cut == length || (scan.records > 0 && length > self.limits.chunk) {
            return Ok(());
        }
        if scan.quoted {
            return Err(SourceError::UnclosedQuote { path: self.name.clone(), place: self.record_place(scan) });
        }
        scan.records += 1;
        scan.cut = length;
        scan.lines = scan.lines_seen;
        Ok(())
    }

    fn fill(&mut self) -> Result<(), SourceError> {
        if self.buffer.len() - self.end < self.limits.read {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            // Doubling keeps the copying of a long record linear.
            let wanted = (self.end + self.limits.read).max((2 * self.end).min(self.end + self.limits.chunk));
            if self.buffer.len() < wanted {
                // Exactly, since a vector of its own accord would grow far past the longest record.
                self.buffer.reserve_exact(wanted - self.buffer.len());
                self.buffer.resize(wanted, 0);
            }
        }
        let space = &mut self.buffer[self.end..];
        let wanted = space.len().min(self.limits.read);
        let count = self.bytes.read(&mut space[..wanted])?;
        self.end += count;
        self.finished = count == 0;
        Ok(())
    }

    fn too_long(&self, scan: &Scan) -> SourceError {
        let start = if scan.records == 1 && scan.cut > self.limits.record { Scan::default() } else { *scan };
        SourceError::LineTooLong {
            path: self.name.clone(),
            place: self.record_place(&start),
            mib: self.limits.record >> 20,
            quoted: scan.quoted,
        }
    }

    /// Where the record behind `scan.cut` starts.
    fn record_place(&self, scan: &Scan) -> Place {
        match self.line {
            Some(line) => Place::Line(line + scan.lines),
            None => Place::Byte(self.position + scan.cut as u64),
        }
    }
}

/// A lane of CSV or NDJSON.
pub(super) struct TextReader {
    lane: Arc<Lane>,
    chunks: TextChunks,
    bytes_total: Option<u64>,
}

impl TextReader {
    pub(super) fn new(lane: Arc<Lane>, chunks: TextChunks, input: &Input) -> TextReader {
        TextReader { lane, chunks, bytes_total: input.bytes_total() }
    }
}

impl LaneReader for TextReader {
    fn next(&mut self, spare: Vec<u8>) -> Result<Option<Chunk>, SourceError> {
        let mut bytes = spare;
        let start = self.chunks.place();
        if !self.chunks.next(self.chunks.limits.records, &mut bytes)? {
            return Ok(None);
        }
        let position_end = self.chunks.position();
        Ok(Some(Chunk { lane: self.lane.clone(), start, position_end, payload: Payload::Text(bytes) }))
    }

    fn bytes_read(&self) -> u64 {
        self.chunks.bytes_read()
    }

    fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::input::{Compression, Format};
    use proptest::prelude::*;
    use std::io::{self, Cursor, Read};

    /// Gives at most `most` bytes for each read.
    struct Dribble(Cursor<Vec<u8>>, usize);

    impl Read for Dribble {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(self.1);
            self.0.read(&mut buffer[..most])
        }
    }

    fn chunks_of(reader: Box<dyn Read + Send>, records: Records, limits: Limits) -> Result<TextChunks, SourceError> {
        let input = Input::from_reader("x", Format::Csv, Compression::None, reader);
        TextChunks::start("x", input.open_bytes()?, records, limits)
    }

    /// All chunks with where they end, from `position`.
    fn cut(
        text: &[u8],
        most: usize,
        records: Records,
        limits: Limits,
        position: u64,
    ) -> Result<Vec<(Vec<u8>, u64, Place)>, SourceError> {
        let mut chunks = chunks_of(Box::new(Dribble(Cursor::new(text.to_vec()), most)), records, limits)?;
        if position > 0 {
            chunks.resume(position)?;
        }
        let mut all = Vec::new();
        let mut out = Vec::new();
        loop {
            let place = chunks.place();
            if !chunks.next(limits.records, &mut out)? {
                return Ok(all);
            }
            all.push((out.clone(), chunks.position(), place));
        }
    }

    /// Records by the plain rule: a quote at a field's start opens, the next single quote closes.
    fn plain_records(text: &[u8], records: Records) -> Option<Vec<Vec<u8>>> {
        let (mut all, mut record) = (Vec::new(), Vec::new());
        let mut quoted = false;
        let mut at_start = true;
        let mut at = 0;
        while at < text.len() {
            let byte = text[at];
            record.push(byte);
            at += 1;
            if quoted {
                if byte == b'"' && text.get(at) == Some(&b'"') {
                    record.push(b'"');
                    at += 1;
                } else if byte == b'"' {
                    quoted = false;
                }
                continue;
            }
            if byte == b'\n' {
                all.push(std::mem::take(&mut record));
            }
            quoted = matches!(records, Records::Quoted(_)) && byte == b'"' && at_start;
            at_start = byte == b'\n' || matches!(records, Records::Quoted(delimiter) if byte == delimiter);
        }
        if !record.is_empty() {
            all.push(record);
        }
        (!quoted).then_some(all)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_500))]

        #[test]
        fn cuts_depend_on_the_text_alone(
            text in "([ab,]|\"|\"\"|\n|\r\n){0,60}", rows in 1usize..5, chunk in 1usize..30, read in 1usize..9, most in 1usize..9, lines in any::<bool>(),
        ) {
            let records = if lines { Records::Lines } else { Records::Quoted(b',') };
            let limits = Limits { records: rows, chunk, record: 1 << 20, read };
            let text = text.into_bytes();
            let found = cut(&text, most, records, limits, 0);
            let Some(plain) = plain_records(&text, records) else {
                let unclosed = matches!(found, Err(SourceError::UnclosedQuote { .. }));
                prop_assert!(unclosed);
                return Ok(());
            };
            let found = found.unwrap();
            // The plain cut: as many records as fit, at least one.
            let mut wanted: Vec<Vec<u8>> = Vec::new();
            let mut count = rows;
            for record in plain {
                match wanted.last_mut() {
                    Some(last) if count < rows && last.len() + record.len() <= chunk && last.len() < chunk => {
                        last.extend(record);
                        count += 1;
                    }
                    _ => {
                        wanted.push(record);
                        count = 1;
                    }
                }
            }
            prop_assert_eq!(found.iter().map(|(bytes, ..)| bytes.clone()).collect::<Vec<_>>(), wanted);
            // Positions and line numbers are sums.
            let (mut position, mut line) = (0, 1);
            for (bytes, end, place) in &found {
                prop_assert_eq!(*place, Place::Line(line));
                position += bytes.len() as u64;
                line += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
                prop_assert_eq!(*end, position);
            }
            // A reader that goes on after any chunk cuts the same.
            for (index, (_, end, _)) in found.iter().enumerate() {
                let rest = cut(&text, most, records, limits, *end).unwrap();
                prop_assert_eq!(
                    rest.iter().map(|(bytes, end, _)| (bytes, end)).collect::<Vec<_>>(),
                    found[index + 1..].iter().map(|(bytes, end, _)| (bytes, end)).collect::<Vec<_>>()
                );
            }
        }
    }

    #[test]
    fn a_position_inside_a_line_or_behind_the_end_is_refused() {
        let limits = Limits::new(10);
        for (position, good) in [(1, false), (2, false), (3, true), (5, false), (6, true), (7, false), (99, false)] {
            let result = cut(b"ab\ncd\n", 100, Records::Lines, limits, position);
            assert_eq!(result.is_ok(), good, "{position}");
        }
        assert!(cut(b"ab\ncd", 100, Records::Lines, limits, 5).unwrap().is_empty());
    }

    /// 100 MB without a newline, and a giant quoted field: refused, with little memory.
    #[test]
    fn an_endless_line_is_refused() {
        for (start, records) in [(&b"1\n2\n"[..], Records::Lines), (b"1\n2\n\"", Records::Quoted(b','))] {
            let endless = Cursor::new(start.to_vec()).chain(io::repeat(b'x').take(100 << 20));
            let mut chunks = chunks_of(Box::new(endless), records, Limits::new(1)).unwrap();
            let mut out = Vec::new();
            assert!(chunks.next(1, &mut out).unwrap());
            assert!(chunks.next(1, &mut out).unwrap());
            let error = chunks.next(1, &mut out).unwrap_err();
            let hint = if records == Records::Lines { "" } else { "; is a quote not closed?" };
            assert_eq!(error.to_string(), format!("x: line 3 is longer than 64 MiB{hint}"));
            assert!(chunks.buffer.capacity() < 80 << 20);
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let limits = Limits::new(10);
        assert_eq!(
            cut(b"\xEF\xBB\xBFa\n", 1, Records::Lines, limits, 0).unwrap(),
            vec![(b"a\n".to_vec(), 5, Place::Line(1))]
        );
        assert_eq!(cut(b"\xEF\xBBa\n", 1, Records::Lines, limits, 0).unwrap().len(), 1);
        assert!(cut(b"\xEF\xBB\xBF", 1, Records::Lines, limits, 0).unwrap().is_empty());
        assert!(cut(b"", 1, Records::Lines, limits, 0).unwrap().is_empty());
    }
}
