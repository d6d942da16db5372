//! Rows as CSV (RFC 4180): a header, commas, line feeds, quotes only where they are needed.
//!
//! Null is an empty field and the empty string is `""`, so both survive. Reading CSV is not here.

use super::text::{RowForm, TimeText, push_f64, push_i64};
use corefold_aggregator::limits::OTHER_GROUP;
use corefold_aggregator::result::{OutputColumn, OutputSchema, ResultBatch};
use std::ops::Range;

/// Writes rows as CSV.
pub(super) struct CsvForm {
    header: Vec<u8>,
    by: Range<usize>,
    times: Vec<TimeText>,
}

impl CsvForm {
    pub(super) fn new(schema: &OutputSchema) -> CsvForm {
        let mut header = Vec::new();
        for (index, field) in schema.columns.iter().enumerate() {
            if index > 0 {
                header.push(b',');
            }
            push_text(&mut header, field.name.as_bytes());
        }
        header.push(b'\n');
        let times = schema.columns.iter().map(|_| TimeText::default()).collect();
        CsvForm { header, by: schema.by.clone(), times }
    }
}

impl RowForm for CsvForm {
    fn header(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
    }

    fn row(&mut self, batch: &ResultBatch, row: usize, other: bool, out: &mut Vec<u8>) {
        for (index, column) in batch.columns.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            if other && self.by.contains(&index) {
                out.extend_from_slice(OTHER_GROUP.as_bytes());
                continue;
            }
            match column {
                OutputColumn::Time(values) => self.times[index].push(out, values[row]),
                OutputColumn::I64 { values, valid } if valid[row] => push_i64(out, values[row]),
                OutputColumn::F64 { values, valid } if valid[row] && !values[row].is_nan() => {
                    push_f64(out, values[row]);
                }
                OutputColumn::Bool { values, valid } if valid[row] => {
                    out.extend_from_slice(if values[row] { b"true" } else { b"false" });
                }
                OutputColumn::String { offsets, bytes, valid } if valid[row] => {
                    push_text(out, &bytes[offsets[row] as usize..offsets[row + 1] as usize]);
                }
                _ => {}
            }
        }
        out.push(b'\n');
    }
}

/// Appends a text field.
fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
    if !text.is_empty() && !text.iter().any(special) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for piece in text.split_inclusive(|&byte| byte == b'"') {
        out.extend_from_slice(piece);
        if piece.ends_with(b"\"") {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_quotes_gets_them() {
        let table = [
            ("EWR", "EWR"),
            ("", "\"\""),
            (" a b ", " a b "),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("\"", "\"\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("carriage\r", "\"carriage\r\""),
            ("Zürich;Genf", "Zürich;Genf"),
        ];
        for (text, written) in table {
            let mut out = Vec::new();
            push_text(&mut out, text.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), written);
        }
    }
}
