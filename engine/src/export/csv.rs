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
    use corefold_aggregator::result::OutputField;
    use corefold_aggregator::spec::OutputType;
    use proptest::prelude::*;

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

    /// Fields of RFC 4180 text; a field is null if it is empty and was not quoted.
    fn parse(text: &str) -> Vec<Vec<Option<String>>> {
        let (mut records, mut record, mut chars) = (Vec::new(), Vec::new(), text.chars().peekable());
        while chars.peek().is_some() {
            let mut field = String::new();
            let quoted = chars.next_if_eq(&'"').is_some();
            if quoted {
                while let Some(c) = chars.next() {
                    match c {
                        '"' if chars.next_if_eq(&'"').is_some() => field.push('"'),
                        '"' => break,
                        c => field.push(c),
                    }
                }
            } else {
                while let Some(c) = chars.next_if(|c| !",\n".contains(*c)) {
                    assert!(c != '"' && c != '\r', "bare {c:?} in {field:?}");
                    field.push(c);
                }
            }
            record.push((quoted || !field.is_empty()).then_some(field));
            match chars.next() {
                Some(',') => {}
                Some('\n') => records.push(std::mem::take(&mut record)),
                other => panic!("{other:?} after a field"),
            }
        }
        assert!(record.is_empty(), "the last line is not ended");
        records
    }

    type Row = (i64, Option<String>, Option<i64>, Option<f64>, Option<bool>);

    fn batch(rows: &[Row]) -> ResultBatch {
        let mut texts = OutputColumn::new(OutputType::String);
        if let OutputColumn::String { offsets, bytes, valid } = &mut texts {
            for row in rows {
                bytes.extend_from_slice(row.1.as_deref().unwrap_or_default().as_bytes());
                offsets.push(bytes.len() as u32);
                valid.push(row.1.is_some());
            }
        }
        let integers = rows.iter().map(|row| row.2.unwrap_or(5)).collect();
        let doubles = rows.iter().map(|row| row.3.unwrap_or(5.0)).collect();
        let truths = rows.iter().map(|row| row.4.unwrap_or(true)).collect();
        let columns = vec![
            OutputColumn::Time(rows.iter().map(|row| row.0).collect()),
            texts,
            OutputColumn::I64 { values: integers, valid: rows.iter().map(|row| row.2.is_some()).collect() },
            OutputColumn::F64 { values: doubles, valid: rows.iter().map(|row| row.3.is_some()).collect() },
            OutputColumn::Bool { values: truths, valid: rows.iter().map(|row| row.4.is_some()).collect() },
        ];
        ResultBatch { rows: rows.len(), columns, other_rows: Vec::new() }
    }

    fn any_row() -> impl Strategy<Value = Row> {
        let text = prop_oneof!["[a-c]{0,3}", "[,\"\r\n a]{0,6}", any::<String>()];
        let double = prop_oneof![any::<f64>(), (-50i32..50).prop_map(f64::from)].prop_filter("null", |x| !x.is_nan());
        (
            -3i64..3,
            proptest::option::of(text),
            proptest::option::of(any::<i64>()),
            proptest::option::of(double),
            proptest::option::of(any::<bool>()),
        )
    }

    proptest! {
        #[test]
        fn a_plain_parser_reads_the_values_back(rows in proptest::collection::vec(any_row(), 0..20), name in any::<String>()) {
            let kinds = [OutputType::Time, OutputType::String, OutputType::I64, OutputType::F64, OutputType::Bool];
            let field = |kind| OutputField { name: name.clone(), kind, nullable: true };
            let schema = OutputSchema { columns: kinds.map(field).into(), by: 0..0 };
            let (mut form, mut out, batch) = (CsvForm::new(&schema), Vec::new(), batch(&rows));
            form.header(&mut out);
            (0..rows.len()).for_each(|row| form.row(&batch, row, false, &mut out));
            let records = parse(std::str::from_utf8(&out).unwrap());
            prop_assert_eq!(&records[0], &vec![Some(name); 5]);
            prop_assert_eq!(records.len(), rows.len() + 1);
            for (record, row) in records[1..].iter().zip(&rows) {
                let time = jiff::Timestamp::from_microsecond(row.0).unwrap().to_string();
                prop_assert_eq!(record[0].as_deref(), Some(time.as_str()));
                prop_assert_eq!(&record[1], &row.1);
                prop_assert_eq!(record[2].as_ref().map(|text| text.parse::<i64>().unwrap()), row.2);
                prop_assert_eq!(record[3].as_ref().map(|text| text.parse::<f64>().unwrap()), row.3);
                prop_assert_eq!(record[4].as_ref().map(|text| text.parse::<bool>().unwrap()), row.4);
            }
        }
    }
}
