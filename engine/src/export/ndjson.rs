//! Rows as JSON objects, one per line, keys in column order.
//!
//! JSON has no infinity, so those are the strings `"inf"` and `"-inf"`. Reading JSON is not here.

use super::text::{RowForm, TimeText, push_f64, push_i64};
use corefold_aggregator::limits::OTHER_GROUP;
use corefold_aggregator::result::{OutputColumn, OutputSchema, ResultBatch};
use std::ops::Range;

/// Writes rows as JSON objects.
pub(super) struct NdjsonForm {
    /// `{"first":`, `,"second":` and so on.
    keys: Vec<Vec<u8>>,
    by: Range<usize>,
    times: Vec<TimeText>,
}

impl NdjsonForm {
    pub(super) fn new(schema: &OutputSchema) -> NdjsonForm {
        let key = |(index, name): (usize, &str)| {
            let mut key = vec![if index == 0 { b'{' } else { b',' }];
            push_text(&mut key, name.as_bytes());
            key.push(b':');
            key
        };
        let names = schema.columns.iter().map(|field| field.name.as_str());
        let times = schema.columns.iter().map(|_| TimeText::default()).collect();
        NdjsonForm { keys: names.enumerate().map(key).collect(), by: schema.by.clone(), times }
    }
}

impl RowForm for NdjsonForm {
    fn header(&mut self, _out: &mut Vec<u8>) {}

    fn row(&mut self, batch: &ResultBatch, row: usize, other: bool, out: &mut Vec<u8>) {
        for (index, column) in batch.columns.iter().enumerate() {
            out.extend_from_slice(&self.keys[index]);
            if other && self.by.contains(&index) {
                push_text(out, OTHER_GROUP.as_bytes());
                continue;
            }
            match column {
                OutputColumn::Time(values) => {
                    out.push(b'"');
                    self.times[index].push(out, values[row]);
                    out.push(b'"');
                }
                OutputColumn::I64 { values, valid } if valid[row] => push_i64(out, values[row]),
                OutputColumn::F64 { values, valid } if valid[row] && !values[row].is_nan() => {
                    push_number(out, values[row]);
                }
                OutputColumn::Bool { values, valid } if valid[row] => {
                    out.extend_from_slice(if values[row] { b"true" } else { b"false" });
                }
                OutputColumn::String { offsets, bytes, valid } if valid[row] => {
                    push_text(out, &bytes[offsets[row] as usize..offsets[row + 1] as usize]);
                }
                _ => out.extend_from_slice(b"null"),
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

fn push_number(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        push_f64(out, value);
    } else {
        out.push(b'"');
        push_f64(out, value);
        out.push(b'"');
    }
}

/// Appends a JSON string: quotes, backslashes and control characters escaped, all else as it is (RFC 8259).
fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| !plain(byte)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            byte => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        push_text(&mut out, text.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_short_character_is_escaped_as_the_library_does() {
        for code in 0..0x300u32 {
            let text: String = char::from_u32(code).into_iter().chain(['x']).collect();
            assert_eq!(written(&text), serde_json::to_string(&text).unwrap());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_escaped_as_the_library_does(text in any::<String>()) {
            prop_assert_eq!(written(&text), serde_json::to_string(&text).unwrap());
        }
    }
}
