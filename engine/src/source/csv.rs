//! CSV as RFC 4180 has it: header row, quotes, doubled quotes, newlines inside quotes, CRLF or LF.
//!
//! Blank lines are skipped. A quote opens a quoted field only at the field's start; elsewhere it is an ordinary
//! character. Types and nulls are not here.

use super::error::{SourceError, quoted};
use super::tokens::{Kind, RowFault, Span, Tokens};

/// Marks a column that is not needed.
const UNUSED: u16 = u16::MAX;

/// How one file's columns map to the needed ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct CsvLayout {
    delimiter: u8,
    /// For each column of the file its index among the needed ones, or [`UNUSED`].
    slots: Vec<u16>,
}

impl CsvLayout {
    /// Finds the needed columns in a header record.
    pub(super) fn new(path: &str, header: &[u8], delimiter: u8, needed: &[String]) -> Result<CsvLayout, SourceError> {
        let names = names(path, header, delimiter)?;
        let mut slots = vec![UNUSED; names.len()];
        for (slot, column) in needed.iter().enumerate() {
            let mut found = names.iter().enumerate().filter(|(_, name)| *name == column);
            let Some((index, _)) = found.next() else {
                return Err(SourceError::missing(path, column, &names));
            };
            if found.next().is_some() {
                return Err(SourceError::DuplicateColumn { path: path.to_owned(), column: column.clone() });
            }
            slots[index] = slot as u16;
        }
        Ok(CsvLayout { delimiter, slots })
    }

    /// Columns of the file.
    pub(super) fn width(&self) -> usize {
        self.slots.len()
    }
}

/// The names in a header record.
fn names(path: &str, header: &[u8], delimiter: u8) -> Result<Vec<String>, SourceError> {
    let mut names = Vec::new();
    let mut unescaped = Vec::new();
    let mut at = 0;
    loop {
        let field = field_at(header, at, delimiter, &mut unescaped);
        let bytes = match field.span {
            Some(span) if span.kind() == Kind::Unescaped => &unescaped[..],
            _ => &header[field.start..field.end],
        };
        let name = std::str::from_utf8(bytes).map_err(|_| SourceError::Utf8 {
            path: path.to_owned(),
            place: super::Place::Line(1),
            column: "header".to_owned(),
            found: quoted(bytes),
        })?;
        names.push(name.to_owned());
        unescaped.clear();
        at = field.next;
        if field.last {
            return Ok(names);
        }
    }
}

/// Adds the rows of `text`, whole records, to `tokens`. In a row with a fault nothing is added but the fault;
/// with `stop` nothing behind it either.
pub(super) fn tokenize(layout: &CsvLayout, text: &[u8], stop: bool, tokens: &mut Tokens) {
    let (delimiter, width) = (layout.delimiter, layout.slots.len());
    let mut at = 0;
    while at < text.len() {
        if let Some(next) = blank_line(text, at) {
            at = next;
            continue;
        }
        let base = tokens.begin_row(at);
        let mut column = 0;
        let mut after_quote = None;
        loop {
            if text.get(at) == Some(&b'"') {
                let field = field_at(text, at, delimiter, &mut tokens.arena);
                match field.span {
                    Some(span) => place(layout, tokens, base, column, span),
                    None => after_quote = after_quote.or(Some(column)),
                }
                column += 1;
                at = field.next;
                if field.last {
                    break;
                }
                continue;
            }
            let end = find_end(text, at, delimiter);
            let last = text.get(end) != Some(&delimiter);
            let content = if last { trim_return(text, at, end) } else { end };
            place(layout, tokens, base, column, Span::new(Kind::Plain, at, content));
            column += 1;
            at = end + 1;
            if last {
                break;
            }
        }
        if column != width || after_quote.is_some() {
            tokens.reject_row(after_quote.map_or(RowFault::FieldCount(column), RowFault::AfterQuote));
            if stop {
                return;
            }
        }
    }
}

#[inline]
fn place(layout: &CsvLayout, tokens: &mut Tokens, base: usize, column: usize, span: Span) {
    if let Some(&slot) = layout.slots.get(column)
        && slot != UNUSED
    {
        tokens.spans[base + usize::from(slot)] = span;
    }
}

/// Where the next line starts if the line at `at` is empty.
#[inline]
fn blank_line(text: &[u8], at: usize) -> Option<usize> {
    match text[at..] {
        [b'\n', ..] => Some(at + 1),
        [b'\r', b'\n', ..] => Some(at + 2),
        [b'\r'] => Some(at + 1),
        _ => None,
    }
}

/// `end` without the carriage return of a CRLF.
#[inline]
fn trim_return(text: &[u8], start: usize, end: usize) -> usize {
    if end > start && text[end - 1] == b'\r' { end - 1 } else { end }
}

/// Index of the first delimiter or newline at or after `at`, or the text's length.
///
/// Eight bytes at a time: fields are short, so a call into memchr for each would cost more than the search.
#[inline]
fn find_end(text: &[u8], mut at: usize, delimiter: u8) -> usize {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let delimiters = u64::from_ne_bytes([delimiter; 8]);
    let newlines = u64::from_ne_bytes([b'\n'; 8]);
    while let Some(word) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        // Top bit of each byte that is zero after the exclusive or; exact, no carries between bytes.
        let zeros = |word: u64| !(((word & LOW) + LOW) | word | LOW);
        let found = zeros(word ^ delimiters) | zeros(word ^ newlines);
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < text.len() && text[at] != delimiter && text[at] != b'\n' {
        at += 1;
    }
    at
}

/// One field, quoted or not.
struct Field {
    /// `None` if text follows the closing quote.
    span: Option<Span>,
    /// Where its content stands if it has no escapes.
    start: usize,
    end: usize,
    /// Where the next field or record starts.
    next: usize,
    last: bool,
}

/// The field at `at`; a quoted one with doubled quotes is resolved into `arena`.
fn field_at(text: &[u8], at: usize, delimiter: u8, arena: &mut Vec<u8>) -> Field {
    if text.get(at) != Some(&b'"') {
        let end = find_end(text, at, delimiter);
        let last = text.get(end) != Some(&delimiter);
        let content = if last { trim_return(text, at, end) } else { end };
        let span = Some(Span::new(Kind::Plain, at, content));
        return Field { span, start: at, end: content, next: end + 1, last };
    }
    let start = at + 1;
    let arena_start = arena.len();
    let mut piece = start;
    // A record ends with its quotes closed; the end of the text stands for a missing one.
    let close = loop {
        let quote = memchr::memchr(b'"', &text[piece..]).map_or(text.len(), |found| piece + found);
        if text.get(quote + 1) != Some(&b'"') {
            break quote;
        }
        arena.extend_from_slice(&text[piece..=quote]);
        piece = quote + 2;
    };
    let span = if piece == start {
        Span::new(Kind::Quoted, start, close)
    } else {
        arena.extend_from_slice(&text[piece..close]);
        Span::new(Kind::Unescaped, arena_start, arena.len())
    };
    let end = find_end(text, (close + 1).min(text.len()), delimiter);
    let last = text.get(end) != Some(&delimiter);
    let content = if last { trim_return(text, close + 1, end) } else { end };
    let clean = content <= close + 1;
    Field { span: clean.then_some(span), start, end: close, next: end + 1, last }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(text: &[u8], width: usize, delimiter: u8) -> (Vec<Vec<Vec<u8>>>, Tokens) {
        let layout = CsvLayout { delimiter, slots: (0..width as u16).collect() };
        let mut tokens = Tokens::default();
        tokens.clear(width);
        tokenize(&layout, text, false, &mut tokens);
        let rows = tokens
            .spans
            .chunks_exact(width)
            .map(|row| row.iter().map(|span| tokens.text(text, *span).to_vec()).collect());
        (rows.collect(), tokens)
    }

    /// What csv-core makes of the text: all records of any width.
    fn csv_core_rows(text: &[u8], delimiter: u8) -> Vec<Vec<Vec<u8>>> {
        let mut reader = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        let (mut input, mut all) = (text, Vec::new());
        let (mut output, mut ends) = (vec![0; text.len() + 8], vec![0; text.len() + 8]);
        loop {
            // After the last byte an empty input tells it that this is the end.
            let (mut out_len, mut end_count) = (0, 0);
            let result = loop {
                let (result, read, written, ended) =
                    reader.read_record(input, &mut output[out_len..], &mut ends[end_count..]);
                input = &input[read..];
                out_len += written;
                end_count += ended;
                if result != csv_core::ReadRecordResult::InputEmpty {
                    break result;
                }
            };
            if result != csv_core::ReadRecordResult::Record {
                return all;
            }
            let mut start = 0;
            all.push(
                ends[..end_count]
                    .iter()
                    .map(|end| output[std::mem::replace(&mut start, *end)..*end].to_vec())
                    .collect(),
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Fields of every kind, rows of several widths, LF and CRLF, with and without a last newline.
        #[test]
        fn agrees_with_csv_core(
            table in proptest::collection::vec(
                (proptest::collection::vec("[a-z0-9]{0,20}|[a-z]\"[a-z\"]{0,3}|\"([a-z,;\n\r]|\"\"){0,12}\"", 1..5), prop_oneof!["\n", "\r\n", "\n\n"]), 0..8),
            cut_last in any::<bool>(), semicolon in any::<bool>(),
        ) {
            let delimiter = if semicolon { b';' } else { b',' };
            let mut text = Vec::new();
            for (fields, end) in &table {
                text.extend(fields.join(if semicolon { ";" } else { "," }).bytes().filter(|b| semicolon || *b != b';'));
                text.extend(end.bytes());
            }
            if cut_last && !text.is_empty() {
                text.truncate(text.trim_ascii_end().len());
            }
            let wanted = csv_core_rows(&text, delimiter);
            for width in 1..5 {
                let (found, tokens) = rows(&text, width, delimiter);
                let fitting: Vec<_> = wanted.iter().filter(|row| row.len() == width).cloned().collect();
                prop_assert_eq!(found, fitting, "{:?}", String::from_utf8_lossy(&text));
                prop_assert_eq!(tokens.rejected as usize, wanted.iter().filter(|row| row.len() != width).count());
                if let Some((at, fault)) = tokens.first_fault {
                    let first = wanted.iter().find(|row| row.len() != width).unwrap();
                    prop_assert_eq!(fault, RowFault::FieldCount(first.len()));
                    prop_assert!((at as usize) < text.len());
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), Just(b'\r'), any::<u8>()], 0..40)) {
            for width in 1..4 {
                rows(&text, width, b',');
            }
            let _ = names("x", &text, b',');
        }

        #[test]
        fn ends_are_found(text in proptest::collection::vec(prop_oneof![Just(b','), Just(b'\n'), any::<u8>(), Just(b'-'), Just(0x8a)], 0..40), at in 0usize..40) {
            let at = at.min(text.len());
            let wanted = text[at..].iter().position(|byte| matches!(byte, b',' | b'\n')).map_or(text.len(), |found| at + found);
            prop_assert_eq!(find_end(&text, at, b','), wanted);
        }
    }

    #[test]
    fn text_after_a_closing_quote_is_a_fault() {
        let (found, tokens) = rows(b"a,\"b\"c\nd,e\n", 2, b',');
        assert_eq!(found, vec![vec![b"d".to_vec(), b"e".to_vec()]]);
        assert_eq!(tokens.first_fault, Some((0, RowFault::AfterQuote(1))));
    }

    #[test]
    fn a_header_maps_needed_columns() {
        let needed = ["t".to_owned(), "a b".to_owned()];
        let layout = CsvLayout::new("x", b"x,\"a b\",t\r\n", b',', &needed).unwrap();
        assert_eq!(layout.slots, [UNUSED, 1, 0]);
        let error = CsvLayout::new("x", b"t,t,a b\n", b',', &needed).unwrap_err();
        assert_eq!(error.to_string(), "x: two columns are called `t`; rename one");
        assert!(matches!(CsvLayout::new("x", b"t,\xff\n", b',', &needed), Err(SourceError::Utf8 { .. })));
    }
}
