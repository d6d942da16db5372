//! Where the needed values of a chunk's rows stand in its text: what CSV and NDJSON have in common.
//!
//! What the values mean is not here; `values` converts them column by column.

use super::error::{Place, SourceError, quoted};

/// What kind of text a span points at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Text without quotes: a CSV field or a JSON number, `true` or `false`.
    Plain,
    /// The inside of quotes, as it stands.
    Quoted,
    /// The inside of quotes with its escapes resolved, in the arena.
    Unescaped,
    /// JSON `null`, or a key that is not there.
    Null,
    /// A JSON array or object.
    Nested,
}

/// A value's place in the chunk or the arena. Chunks are shorter than 2^29 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    start: u32,
    length_and_kind: u32,
}

const LENGTH_BITS: u32 = 29;

/// Longest chunk whose values spans can name.
pub(super) const CHUNK_SIZE_MAX: usize = (1 << LENGTH_BITS) - 1;

impl Span {
    pub(super) const NULL: Span = Span { start: 0, length_and_kind: (Kind::Null as u32) << LENGTH_BITS };

    #[inline]
    pub(super) fn new(kind: Kind, start: usize, end: usize) -> Span {
        debug_assert!(start <= end && end <= CHUNK_SIZE_MAX);
        Span { start: start as u32, length_and_kind: (end - start) as u32 | (kind as u32) << LENGTH_BITS }
    }

    #[inline]
    pub(super) fn kind(self) -> Kind {
        match self.length_and_kind >> LENGTH_BITS {
            0 => Kind::Plain,
            1 => Kind::Quoted,
            2 => Kind::Unescaped,
            3 => Kind::Null,
            _ => Kind::Nested,
        }
    }

    #[inline]
    fn within(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        &bytes[start..start + (self.length_and_kind & ((1 << LENGTH_BITS) - 1)) as usize]
    }
}

/// What is wrong with a row as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RowFault {
    /// This many fields instead of the header's.
    FieldCount(usize),
    /// Text behind the closing quote of this field, from 0.
    AfterQuote(usize),
    /// Not a JSON object, and the byte of the line where that shows.
    Json(&'static str, usize),
}

/// The needed values of a chunk's rows.
#[derive(Default)]
pub(super) struct Tokens {
    /// Values per row.
    pub width: usize,
    /// Row after row, `width` each.
    pub spans: Vec<Span>,
    /// Where each row starts in the chunk.
    pub row_starts: Vec<u32>,
    /// Texts whose escapes were resolved.
    pub arena: Vec<u8>,
    /// Rows left out because of their form, and the first one's start and fault.
    pub rejected: u32,
    pub first_fault: Option<(u32, RowFault)>,
}

impl Tokens {
    pub(super) fn clear(&mut self, width: usize) {
        self.width = width;
        self.spans.clear();
        self.row_starts.clear();
        self.arena.clear();
        self.rejected = 0;
        self.first_fault = None;
    }

    pub(super) fn rows(&self) -> usize {
        self.row_starts.len()
    }

    /// Begins a row of nulls and returns where its spans start.
    #[inline]
    pub(super) fn begin_row(&mut self, start: usize) -> usize {
        let base = self.spans.len();
        self.row_starts.push(start as u32);
        self.spans.resize(base + self.width, Span::NULL);
        base
    }

    /// Takes back the row that was begun last.
    #[cold]
    pub(super) fn reject_row(&mut self, fault: RowFault) {
        if let Some(start) = self.row_starts.pop() {
            self.spans.truncate(self.row_starts.len() * self.width);
            self.rejected += 1;
            self.first_fault.get_or_insert((start, fault));
        }
    }

    /// The value's text.
    #[inline]
    pub(super) fn text<'a>(&'a self, chunk: &'a [u8], span: Span) -> &'a [u8] {
        if span.kind() == Kind::Unescaped { span.within(&self.arena) } else { span.within(chunk) }
    }

    /// Removes rows by their ascending numbers.
    pub(super) fn remove_rows(&mut self, rows: &[u32]) {
        let mut removed = rows.iter().copied().peekable();
        let mut kept = 0;
        for row in 0..self.rows() {
            if removed.next_if_eq(&(row as u32)).is_some() {
                continue;
            }
            self.row_starts[kept] = self.row_starts[row];
            self.spans.copy_within(row * self.width..(row + 1) * self.width, kept * self.width);
            kept += 1;
        }
        self.row_starts.truncate(kept);
        self.spans.truncate(kept * self.width);
    }
}

/// The place of byte `at` of a chunk that starts at `start`.
pub(super) fn place_of(start: Place, chunk: &[u8], at: usize) -> Place {
    match start {
        Place::Line(line) => Place::Line(line + memchr::memchr_iter(b'\n', &chunk[..at]).count() as u64),
        Place::Byte(byte) => Place::Byte(byte + at as u64),
        Place::Row(row) => Place::Row(row),
    }
}

/// The error of a row that starts at `place`.
pub(super) fn row_error(path: &str, place: Place, fault: RowFault, fields: usize) -> SourceError {
    let path = path.to_owned();
    match fault {
        RowFault::FieldCount(found) => SourceError::FieldCount { path, place, expected: fields, found },
        RowFault::AfterQuote(field) => SourceError::AfterQuote { path, place, field: field + 1 },
        RowFault::Json(what, at) => SourceError::Json { path, place, what, at: at + 1 },
    }
}

/// A value as errors show it.
pub(super) fn shown(tokens: &Tokens, chunk: &[u8], span: Span) -> String {
    match span.kind() {
        Kind::Null => "null".to_owned(),
        Kind::Nested if span.within(chunk).starts_with(b"[") => "an array".to_owned(),
        Kind::Nested => "an object".to_owned(),
        _ => quoted(tokens.text(chunk, span)),
    }
}
