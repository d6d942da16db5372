//! Text values to typed columns, one column at a time.
//!
//! Surrounding spaces are allowed around numbers, truth values and times. Where values stand in a chunk is not
//! here.

use corefold_aggregator::spec::FieldType;
use corefold_shards::batch::columns::{ColumnData, DictionaryError, Values};

use super::error::{Place, SourceError, quoted};
use super::plan::Nulls;
use super::times::{self, TimeFault, TimeUnit};
use super::tokens::{Kind, Span, Tokens, shown};

/// Why a value does not fit its column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ValueFault {
    /// Not of the column's type.
    NotType,
    /// Of the type, but outside its range.
    OutOfRange,
    /// Not UTF-8.
    Utf8,
    /// A time is missing.
    NullTime,
    /// An integer time without a unit.
    NeedsUnit,
    /// The distinct texts of the batch take too much memory.
    TooMuchText,
}

impl From<DictionaryError> for ValueFault {
    fn from(error: DictionaryError) -> ValueFault {
        match error {
            DictionaryError::InvalidUtf8 { .. } => ValueFault::Utf8,
            DictionaryError::TooMuchText { .. } => ValueFault::TooMuchText,
        }
    }
}

impl From<TimeFault> for ValueFault {
    fn from(fault: TimeFault) -> ValueFault {
        match fault {
            TimeFault::NotTime => ValueFault::NotType,
            TimeFault::NeedsUnit => ValueFault::NeedsUnit,
            TimeFault::OutOfRange => ValueFault::OutOfRange,
        }
    }
}

/// Rows whose values do not fit, gathered over the columns of a batch.
#[derive(Default)]
pub(super) struct Faults {
    /// The fault in the earliest row, with its column: `None` is the time.
    pub first: Option<(u32, Option<usize>, ValueFault)>,
    /// All of them, in no order, some twice.
    pub rows: Vec<u32>,
}

impl Faults {
    pub(super) fn clear(&mut self) {
        self.first = None;
        self.rows.clear();
    }

    #[cold]
    pub(super) fn note(&mut self, row: usize, column: Option<usize>, fault: ValueFault) {
        let row = row as u32;
        self.rows.push(row);
        if self.first.is_none_or(|(earliest, ..)| row < earliest) {
            self.first = Some((row, column, fault));
        }
    }

    /// The rows, ascending and once each.
    pub(super) fn sorted(&mut self) -> &[u32] {
        self.rows.sort_unstable();
        self.rows.dedup();
        &self.rows
    }
}

/// The values at `slot` of all rows, by row.
#[inline]
fn spans(tokens: &Tokens, slot: usize) -> impl Iterator<Item = Span> {
    tokens.spans[slot.min(tokens.spans.len())..].iter().step_by(tokens.width).copied()
}

/// Appends the times at slot 0 to `out`.
pub(super) fn decode_times(
    tokens: &Tokens,
    chunk: &[u8],
    unit: Option<TimeUnit>,
    nulls: &Nulls,
    out: &mut Values<i64>,
    faults: &mut Faults,
) {
    let out = out.own();
    out.reserve(tokens.rows());
    for (row, span) in spans(tokens, 0).enumerate() {
        let text = tokens.text(chunk, span);
        out.push(match parse_time(span.kind(), text, unit, nulls) {
            Ok(micros) => micros,
            Err(fault) => {
                faults.note(row, None, fault);
                0
            }
        });
    }
}

#[inline]
fn parse_time(kind: Kind, text: &[u8], unit: Option<TimeUnit>, nulls: &Nulls) -> Result<i64, ValueFault> {
    if kind == Kind::Nested {
        return Err(ValueFault::NotType);
    }
    if kind == Kind::Null || text.is_empty() || nulls.contains(text) {
        return Err(ValueFault::NullTime);
    }
    Ok(times::parse(text, unit).or_else(|fault| retry(text, fault, |text| times::parse(text, unit)))?)
}

/// Appends the values at `slot` to `out`; `column` is its number for messages.
pub(super) fn decode_column(
    tokens: &Tokens,
    chunk: &[u8],
    (slot, column): (usize, usize),
    nulls: &Nulls,
    out: &mut ColumnData,
    faults: &mut Faults,
) {
    let texts = spans(tokens, slot).map(|span| (span.kind(), tokens.text(chunk, span))).enumerate();
    // One loop for each type, so that nothing but the value is decided per row.
    match out.kind() {
        FieldType::I64 => {
            for (row, (kind, text)) in texts {
                let value = parse_value(kind, text, nulls, parse_i64);
                out.push_i64(value.unwrap_or_else(|fault| note_null(faults, row, column, fault)));
            }
        }
        FieldType::F64 => {
            for (row, (kind, text)) in texts {
                let value = parse_value(kind, text, nulls, parse_f64);
                out.push_f64(value.unwrap_or_else(|fault| note_null(faults, row, column, fault)));
            }
        }
        FieldType::Bool => {
            for (row, (kind, text)) in texts {
                let value = parse_value(kind, text, nulls, parse_bool);
                out.push_bool(value.unwrap_or_else(|fault| note_null(faults, row, column, fault)));
            }
        }
        FieldType::String => {
            for (row, (kind, text)) in texts {
                let result = match kind {
                    Kind::Nested => Err(ValueFault::NotType),
                    Kind::Null => out.push_str(None).map_err(ValueFault::from),
                    Kind::Plain if text.is_empty() => out.push_str(None).map_err(ValueFault::from),
                    _ if nulls.contains(text) => out.push_str(None).map_err(ValueFault::from),
                    _ => out.push_str(Some(text)).map_err(ValueFault::from),
                };
                if let Err(fault) = result {
                    faults.note(row, Some(column), fault);
                }
            }
        }
    }
}

#[cold]
fn note_null<T>(faults: &mut Faults, row: usize, column: usize, fault: ValueFault) -> Option<T> {
    faults.note(row, Some(column), fault);
    None
}

#[inline]
fn parse_value<T>(
    kind: Kind,
    text: &[u8],
    nulls: &Nulls,
    parse: impl Fn(&[u8]) -> Result<T, ValueFault>,
) -> Result<Option<T>, ValueFault> {
    if kind == Kind::Nested {
        return Err(ValueFault::NotType);
    }
    if kind == Kind::Null || text.is_empty() || nulls.contains(text) {
        return Ok(None);
    }
    match parse(text) {
        Ok(value) => Ok(Some(value)),
        Err(fault) => retry(text, fault, parse).map(Some),
    }
}

/// Tries again without surrounding spaces, if there are any.
#[cold]
fn retry<T, F>(text: &[u8], fault: F, parse: impl Fn(&[u8]) -> Result<T, F>) -> Result<T, F> {
    let trimmed = text.trim_ascii();
    if trimmed.len() == text.len() { Err(fault) } else { parse(trimmed) }
}

/// `[+-]digits` as i64.
#[inline]
pub(super) fn parse_i64(text: &[u8]) -> Result<i64, ValueFault> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        _ => (false, text),
    };
    if digits.is_empty() {
        return Err(ValueFault::NotType);
    }
    let mut value = 0u64;
    if digits.len() > 18 {
        return parse_long(negative, digits);
    }
    // 18 digits cannot overflow.
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(ValueFault::NotType);
        }
        value = value * 10 + u64::from(digit);
    }
    Ok(if negative { -(value as i64) } else { value as i64 })
}

#[cold]
fn parse_long(negative: bool, digits: &[u8]) -> Result<i64, ValueFault> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(ValueFault::NotType);
    }
    digits
        .iter()
        .try_fold(0i64, |value, byte| {
            let digit = i64::from(byte - b'0');
            value.checked_mul(10)?.checked_add(if negative { -digit } else { digit })
        })
        .ok_or(ValueFault::OutOfRange)
}

/// A decimal number, `inf` or `nan` in any case; NaN comes back as NaN, zero without a sign.
#[inline]
pub(super) fn parse_f64(text: &[u8]) -> Result<f64, ValueFault> {
    let value: f64 = fast_float2::parse(text).map_err(|_| ValueFault::NotType)?;
    if value.is_infinite() && !text.iter().any(|byte| byte.eq_ignore_ascii_case(&b'i')) {
        return Err(ValueFault::OutOfRange);
    }
    if value.is_nan() {
        return Ok(f64::NAN);
    }
    // Adding zero turns -0.0 into 0.0 and leaves all else.
    Ok(value + 0.0)
}

/// `true` or `false` in any case, `1` or `0`.
#[inline]
pub(super) fn parse_bool(text: &[u8]) -> Result<bool, ValueFault> {
    match text {
        b"1" => Ok(true),
        b"0" => Ok(false),
        _ if text.eq_ignore_ascii_case(b"true") => Ok(true),
        _ if text.eq_ignore_ascii_case(b"false") => Ok(false),
        _ => Err(ValueFault::NotType),
    }
}

/// How messages call what a time column should hold.
pub(super) const TIME_EXPECTED: &str = "a time such as 2013-01-01T05:15:00Z";

/// The error of one text value.
pub(super) fn text_error(
    path: &str,
    place: Place,
    column: &str,
    kind: Option<FieldType>,
    (tokens, chunk, span): (&Tokens, &[u8], Span),
    fault: ValueFault,
) -> SourceError {
    let raw = tokens.text(chunk, span);
    value_error(path, place, column, kind, shown(tokens, chunk, span), raw, fault)
}

/// The error of one value; `kind` is `None` for the time.
pub(super) fn value_error(
    path: &str,
    place: Place,
    column: &str,
    kind: Option<FieldType>,
    found: String,
    raw: &[u8],
    fault: ValueFault,
) -> SourceError {
    let expected = kind.map_or(TIME_EXPECTED, FieldType::name);
    let (path, column) = (path.to_owned(), column.to_owned());
    let advice = match (fault, kind) {
        (ValueFault::NullTime, _) => return SourceError::NullTime { path, place, column },
        (ValueFault::NeedsUnit, _) => return SourceError::TimeUnit { path, place, column, found },
        (ValueFault::Utf8, _) => return SourceError::Utf8 { path, place, column, found: quoted(raw) },
        (ValueFault::TooMuchText, _) => {
            "the texts of one batch of this column take too much memory; use smaller batches".to_owned()
        }
        (ValueFault::OutOfRange, None) => {
            "times lie in the years 1 to 9999; is the time unit right? (`--on-error skip` leaves such rows out)"
                .to_owned()
        }
        (ValueFault::NotType, None) => "`--on-error skip` leaves such rows out".to_owned(),
        (ValueFault::OutOfRange, Some(_)) => format!(
            "the number is out of range; `--field {column}:string` takes any, `--on-error skip` leaves such rows out"
        ),
        (ValueFault::NotType, Some(FieldType::String)) => "`--on-error skip` leaves such rows out".to_owned(),
        (ValueFault::NotType, Some(_)) => format!(
            "`--field {column}:string` declares another type, `--null` takes texts that mean null, `--on-error skip` leaves such rows out"
        ),
    };
    SourceError::Value { path, place, column, expected, found: found.into(), advice: advice.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_at_the_edges() {
        for (text, wanted) in [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("+5", Ok(5)),
            ("007", Ok(7)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(ValueFault::OutOfRange)),
            ("-9223372036854775809", Err(ValueFault::OutOfRange)),
            ("18446744073709551615", Err(ValueFault::OutOfRange)),
            ("0000000000000000000000012", Ok(12)),
            ("999999999999999999", Ok(999_999_999_999_999_999)),
            ("99999999999999999x9", Err(ValueFault::NotType)),
            ("", Err(ValueFault::NotType)),
            ("-", Err(ValueFault::NotType)),
            ("1.0", Err(ValueFault::NotType)),
            ("1e3", Err(ValueFault::NotType)),
            ("--1", Err(ValueFault::NotType)),
            ("1 ", Err(ValueFault::NotType)),
        ] {
            assert_eq!(parse_i64(text.as_bytes()), wanted, "{text}");
        }
    }

    #[test]
    fn doubles_at_the_edges() {
        for (text, wanted) in [
            ("1", 1.0),
            ("+1.5", 1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e308", 1e308),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e-400", 0.0),
            ("0.1", 0.1),
            ("9007199254740993", 9_007_199_254_740_992.0),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), Ok(wanted), "{text}");
        }
        assert!(parse_f64(b"-0").is_ok_and(|value| value.is_sign_positive()));
        assert!(parse_f64(b"NaN").is_ok_and(f64::is_nan));
        assert_eq!(parse_f64(b"1e999"), Err(ValueFault::OutOfRange));
        for bad in ["", "abc", "1,5", "0x10", "1e", "1 "] {
            assert_eq!(parse_f64(bad.as_bytes()), Err(ValueFault::NotType), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn numbers_agree_with_the_standard_library(text in "[+-]?[0-9]{0,21}(\\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?|[-+0-9.eE]{0,6}") {
            prop_assert_eq!(parse_i64(text.as_bytes()).ok(), text.parse::<i64>().ok(), "{}", text);
            let plain = text.parse::<f64>().ok().filter(|value| value.is_finite());
            prop_assert_eq!(parse_f64(text.as_bytes()).ok().map(|value| value + 0.0), plain.map(|value| value + 0.0), "{}", text);
        }
    }
}
