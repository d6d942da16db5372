//! Times and numbers as text, and the exporter that writes rows of text one after the other.
//!
//! How values are set apart from each other is not here; that is [`super::csv`] and [`super::ndjson`].

use super::error::ExportError;
use super::target::Sink;
use super::{ExportSummary, Exporter, FileExporter, check_shape};
use corefold_aggregator::key::f64_text;
use corefold_aggregator::result::{OutputSchema, ResultBatch};
use corefold_aggregator::time::EventTime;
use std::ops::Range;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Whole numbers below this are exact in an f64 and print as integers.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// An event time as RFC 3339; the ends of time as `-infinity` and `infinity`.
pub fn time_text(time: EventTime) -> String {
    match time {
        EventTime::MIN => "-infinity".to_owned(),
        EventTime::MAX => "infinity".to_owned(),
        EventTime(micros) => {
            let mut text = Vec::new();
            push_time(&mut text, micros);
            String::from_utf8_lossy(&text).into_owned()
        }
    }
}

/// Appends a time as RFC 3339 in UTC: `2013-01-01T05:00:00Z`, with as many digits of a second as it needs.
/// Years outside 0..=9999 get a sign and six digits, as in ISO 8601 and ECMAScript.
pub fn push_time(out: &mut Vec<u8>, micros: i64) {
    let (year, month, day) = civil(micros.div_euclid(MICROS_PER_DAY));
    let in_day = micros.rem_euclid(MICROS_PER_DAY);
    let (seconds, fraction) = (in_day / 1_000_000, in_day % 1_000_000);
    if (0..=9999).contains(&year) {
        push_digits(out, year, 4);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        push_digits(out, year.abs(), 6);
    }
    out.push(b'-');
    push_digits(out, month, 2);
    out.push(b'-');
    push_digits(out, day, 2);
    out.push(b'T');
    push_digits(out, seconds / 3600, 2);
    out.push(b':');
    push_digits(out, seconds / 60 % 60, 2);
    out.push(b':');
    push_digits(out, seconds % 60, 2);
    if fraction != 0 {
        out.push(b'.');
        push_digits(out, fraction, 6);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

/// Year, month and day of a day counted from 1970-01-01, by the proleptic Gregorian calendar.
/// (Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.)
pub(super) fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Appends `value`, which is not negative, with `width` digits.
fn push_digits(out: &mut Vec<u8>, mut value: i64, width: usize) {
    let mut digits = [b'0'; 8];
    for digit in digits[..width].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[..width]);
}

/// Appends an integer.
pub fn push_i64(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        start -= 1;
        digits[start] = b'-';
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends a double in the shortest form that reads back as the same number: `2`, `0.1`, `1e+300`, `inf`.
/// Negative zero is `0`. NaN is null everywhere and does not get here.
pub fn push_f64(out: &mut Vec<u8>, value: f64) {
    if value.abs() < WHOLE_MAX && value.trunc() == value {
        push_i64(out, value as i64);
    } else {
        out.extend_from_slice(f64_text(&mut zmij::Buffer::new(), value).as_bytes());
    }
}

/// The last time printed in a column: all rows of a window share their borders.
#[derive(Default)]
pub(super) struct TimeText {
    micros: Option<i64>,
    text: Vec<u8>,
}

impl TimeText {
    /// Appends `micros` as [`push_time`] does.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, micros: i64) {
        if self.micros != Some(micros) {
            self.micros = Some(micros);
            self.text.clear();
            push_time(&mut self.text, micros);
        }
        out.extend_from_slice(&self.text);
    }
}

/// A way to write rows as text.
pub(super) trait RowForm: Send {
    /// Appends what comes before all rows.
    fn header(&mut self, out: &mut Vec<u8>);

    /// Appends one row; `other` says that it holds the `__other__` group.
    fn row(&mut self, batch: &ResultBatch, row: usize, other: bool, out: &mut Vec<u8>);
}

/// Writes rows of text through one reusable buffer.
pub(super) struct TextExporter<F> {
    sink: Sink,
    form: F,
    schema: OutputSchema,
    rows: u64,
}

impl<F: RowForm> TextExporter<F> {
    pub(super) fn new(mut sink: Sink, mut form: F, schema: &OutputSchema) -> TextExporter<F> {
        // What is continued has its header.
        if sink.size() == 0 {
            form.header(sink.buffer());
        }
        TextExporter { sink, form, schema: schema.clone(), rows: 0 }
    }
}

impl<F: RowForm> Exporter for TextExporter<F> {
    fn write_rows(&mut self, batch: &ResultBatch, rows: Range<usize>) -> Result<(), ExportError> {
        check_shape(&self.schema, batch)?;
        self.rows += rows.len() as u64;
        let mut others = batch.other_rows.iter().copied().filter(|row| rows.contains(row)).collect::<Vec<usize>>();
        others.sort_unstable();
        let mut others = others.into_iter().peekable();
        for row in rows {
            let other = others.next_if_eq(&row).is_some();
            self.form.row(batch, row, other, self.sink.buffer());
            self.sink.relieve()?;
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        self.sink.size()
    }

    fn prepare(&mut self) -> Result<(), ExportError> {
        self.sink.prepare()
    }

    fn finish(mut self: Box<Self>) -> Result<ExportSummary, ExportError> {
        Ok(ExportSummary { rows: self.rows, files: 1, bytes: self.sink.finish()? })
    }
}

impl<F: RowForm> FileExporter for TextExporter<F> {
    fn sink(&mut self) -> &mut Sink {
        &mut self.sink
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(micros: i64) -> String {
        let mut out = Vec::new();
        push_time(&mut out, micros);
        String::from_utf8(out).unwrap()
    }

    fn double(value: f64) -> String {
        let mut out = Vec::new();
        push_f64(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_print_as_rfc_3339() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (1_357_016_400_000_000, "2013-01-01T05:00:00Z"),
            (1_357_016_400_500_000, "2013-01-01T05:00:00.5Z"),
            (1_357_016_400_120_300, "2013-01-01T05:00:00.1203Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00Z"),
            (-62_135_596_800_000_000, "0001-01-01T00:00:00Z"),
            (-62_135_596_800_000_001, "0000-12-31T23:59:59.999999Z"),
            (-62_167_219_200_000_000, "0000-01-01T00:00:00Z"),
            (-62_167_219_200_000_001, "-000001-12-31T23:59:59.999999Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
            (253_402_300_800_000_000, "+010000-01-01T00:00:00Z"),
            (i64::MAX, "+294247-01-10T04:00:54.775807Z"),
            (i64::MIN, "-290308-12-21T19:59:05.224192Z"),
        ];
        for (micros, text) in table {
            assert_eq!(time(micros), text);
        }
    }

    #[test]
    fn doubles_print_in_their_shortest_form() {
        let table = [
            (2.0, "2"),
            (-0.0, "0"),
            (0.1, "0.1"),
            (-12.5, "-12.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1e15, "1000000000000000"),
            (1e16, "1e+16"),
            (1e300, "1e+300"),
            (0.0001, "0.0001"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            // Two forms of 17 digits are equally near: the even one, as Python and ECMAScript have it.
            (-257_434_154_456_742.63, "-257434154456742.62"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in table {
            assert_eq!(double(value), text);
        }
    }

    proptest! {
        #[test]
        fn times_agree_with_another_calendar(micros in -62_135_596_800_000_000i64..=253_402_207_200_999_999) {
            prop_assert_eq!(time(micros), jiff::Timestamp::from_microsecond(micros).unwrap().to_string());
        }

        #[test]
        fn integers_agree_with_the_library(value in any::<i64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            push_i64(&mut out, value);
            prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }

        #[test]
        fn doubles_read_back_and_none_is_longer_than_the_library_makes_it(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            let text = double(value);
            prop_assert_eq!(text.parse::<f64>().unwrap(), value);
            // The exponent's plus sign, and 0.00001 for 1e-5, are the only differences to the library's shortest form.
            prop_assert!(text.len() <= format!("{value:?}").len() + 3, "{} {:?}", text, value);
        }

        #[test]
        fn small_decimals_read_back(units in -1_000_000_000i64..1_000_000_000, places in 0..9) {
            let value = units as f64 / 10f64.powi(places);
            prop_assert_eq!(double(value).parse::<f64>().unwrap(), value);
        }

        /// Whole numbers take a way of their own, to the same text.
        #[test]
        fn whole_doubles_are_written_as_all_others(value in -(1i64 << 53)..1 << 53, shift in 0u32..53) {
            let value = (value >> shift) as f64;
            let mut buffer = zmij::Buffer::new();
            prop_assert_eq!(double(value), f64_text(&mut buffer, value));
        }
    }
}
