//! Durations and sizes as people write them: `6h`, `1h30m`, `1.5h`, `64MiB`, `128MB`.
//!
//! Exact both ways: a text that is no whole number of microseconds or bytes is refused, never rounded.
//! Times of day and dates are not here.

use std::fmt;
use std::ops::RangeInclusive;

use corefold_aggregator::time::Duration;

/// Microseconds per unit, longest first: the order that parts of a compound duration must have.
const TIME_UNITS: [(&str, u64); 7] = [
    ("w", 7 * 86_400_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Bytes per unit.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// What people write instead of an accepted unit, lower case.
const TIME_SYNONYMS: [(&str, &str); 22] = [
    ("µs", "us"),
    ("μs", "us"),
    ("usec", "us"),
    ("micros", "us"),
    ("msec", "ms"),
    ("millis", "ms"),
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("min", "m"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("hr", "h"),
    ("hrs", "h"),
    ("hour", "h"),
    ("hours", "h"),
    ("day", "d"),
    ("days", "d"),
    ("week", "w"),
    ("weeks", "w"),
];

/// What people write instead of an accepted size unit, lower case.
const SIZE_SYNONYMS: [(&str, &str); 6] =
    [("k", "KiB"), ("m", "MiB"), ("g", "GiB"), ("t", "TiB"), ("byte", "B"), ("bytes", "B")];

/// Which of the two a text was meant to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quantity {
    /// A length of time.
    Duration,
    /// A number of bytes.
    Size,
}

/// What is wrong with a text that should be a duration or a size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// Nothing but white space.
    Empty,
    /// A minus sign.
    Negative,
    /// This is where a number should be.
    NoNumber(String),
    /// A number without a unit.
    NoUnit(String),
    /// No such unit; perhaps the second one was meant.
    UnknownUnit(String, Option<&'static str>),
    /// Parts of a compound duration are not in falling order.
    Order(&'static str, &'static str),
    /// Text after a complete size.
    Trailing(String),
    /// Not a whole number of the smallest unit.
    TooFine,
    /// Beyond the largest accepted value.
    TooLarge,
}

/// A text that is not a duration or size: what was found, what is wrong with it and what is accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitError {
    /// The text as it was given.
    pub found: String,
    /// What it should have been.
    pub quantity: Quantity,
    /// What is wrong with it.
    pub problem: Problem,
}

impl std::error::Error for UnitError {}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantity = match self.quantity {
            Quantity::Duration => "duration",
            Quantity::Size => "size",
        };
        write!(f, "`{}` is not a {quantity}: ", self.found)?;
        match &self.problem {
            Problem::Empty => write!(f, "it is empty")?,
            Problem::Negative => write!(f, "it is negative")?,
            Problem::NoNumber(rest) => write!(f, "a number should stand where `{rest}` stands")?,
            Problem::NoUnit(number) => write!(f, "`{number}` has no unit")?,
            Problem::UnknownUnit(unit, None) => write!(f, "there is no unit `{unit}`")?,
            Problem::UnknownUnit(unit, Some(near)) => {
                write!(f, "there is no unit `{unit}` (did you mean `{near}`?)")?;
            }
            Problem::Order(before, after) => write!(f, "`{after}` may not follow `{before}`")?,
            Problem::Trailing(rest) => write!(f, "`{rest}` follows it")?,
            Problem::TooFine if self.quantity == Quantity::Duration => write!(f, "it is finer than 1us")?,
            Problem::TooFine => write!(f, "it is no whole number of bytes")?,
            Problem::TooLarge if self.quantity == Quantity::Duration => write!(f, "it is longer than 10,000 years")?,
            Problem::TooLarge => write!(f, "it is 2^63 bytes or more")?,
        }
        match self.quantity {
            Quantity::Duration => f.write_str(
                "; expected numbers with the units w, d, h, m, s, ms or us, such as 100ms, 6h, 1.5h or 1h30m",
            ),
            Quantity::Size => f.write_str(
                "; expected bytes or a number with one of KiB, MiB, GiB, TiB, kB, MB, GB, TB, such as 4096, 64MiB or 128MB",
            ),
        }
    }
}

/// Reads a length of event time: `100ms`, `6h`, `1.5h`, `1h30m`; `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let fail = |problem| UnitError { found: text.to_owned(), quantity: Quantity::Duration, problem };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total: u128 = 0;
    let mut before: Option<usize> = None;
    loop {
        let number = Number::take(&mut rest).map_err(fail)?;
        let unit = take_unit(&mut rest);
        if unit.is_empty() {
            return Err(fail(Problem::NoUnit(number.text.to_owned())));
        }
        let Some(index) = TIME_UNITS.iter().position(|(name, _)| *name == unit) else {
            let near = nearest_unit(unit, &TIME_UNITS, &TIME_SYNONYMS);
            return Err(fail(Problem::UnknownUnit(unit.to_owned(), near)));
        };
        if let Some(before) = before.filter(|before| *before >= index) {
            return Err(fail(Problem::Order(TIME_UNITS[before].0, TIME_UNITS[index].0)));
        }
        before = Some(index);
        total += number.times(TIME_UNITS[index].1).map_err(fail)?;
        if rest.is_empty() {
            break;
        }
    }
    i64::try_from(total).ok().and_then(Duration::from_micros).ok_or_else(|| fail(Problem::TooLarge))
}

/// Reads a duration that must lie within bounds. The error is a whole sentence.
pub fn parse_duration_within(text: &str, bounds: RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if bounds.contains(&duration) {
        return Ok(duration);
    }
    let [found, from, to] = [&duration, bounds.start(), bounds.end()].map(|duration| format_duration(*duration));
    if *bounds.end() == Duration::MAX {
        return Err(format!("`{found}` is too short; expected {from} or longer"));
    }
    Err(format!("`{found}` is out of range; expected {from} to {to}"))
}

/// Reads a size that must lie within bounds. The error is a whole sentence.
pub fn parse_size_within(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let size = parse_size(text).map_err(|error| error.to_string())?;
    if bounds.contains(&size) {
        return Ok(size);
    }
    let [found, from, to] = [&size, bounds.start(), bounds.end()].map(|size| format_size(*size));
    Err(format!("`{found}` is out of range; expected {from} to {to}"))
}

/// The same length as wall-clock time.
pub fn wait(duration: Duration) -> std::time::Duration {
    std::time::Duration::from_micros(duration.micros().unsigned_abs())
}

/// Reads a number of bytes: `4096`, `64MiB`, `128MB`, `1.5GiB`.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let fail = |problem| UnitError { found: text.to_owned(), quantity: Quantity::Size, problem };
    let mut rest = text.trim();
    let number = Number::take(&mut rest).map_err(fail)?;
    rest = rest.trim_start();
    let unit = take_unit(&mut rest);
    let factor = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => 1,
        None if unit == "KB" => 1_000,
        None => {
            let near = nearest_unit(unit, &SIZE_UNITS, &SIZE_SYNONYMS);
            return Err(fail(Problem::UnknownUnit(unit.to_owned(), near)));
        }
    };
    if !rest.is_empty() {
        return Err(fail(Problem::Trailing(rest.to_owned())));
    }
    let bytes = number.times(factor).map_err(fail)?;
    i64::try_from(bytes).map(i64::unsigned_abs).map_err(|_| fail(Problem::TooLarge))
}

/// Writes a duration so that [`parse_duration`] reads the same one back: `1h30m`, `7d`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let mut left = duration.micros().unsigned_abs();
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    // Weeks are only read: `30d` says more than `4w2d`.
    for (name, micros) in &TIME_UNITS[1..] {
        if left >= *micros {
            text.push_str(&format!("{}{name}", left / micros));
            left %= micros;
        }
    }
    text
}

/// Writes a wall-clock time in the form of [`format_duration`]; what is finer than 1us is cut off.
pub fn format_wait(wait: std::time::Duration) -> String {
    let micros = i64::try_from(wait.as_micros()).ok().and_then(Duration::from_micros).unwrap_or(Duration::MAX);
    format_duration(micros)
}

/// Writes a size exactly, in the largest binary unit that divides it: `64MiB`, `1000`.
pub fn format_size(bytes: u64) -> String {
    match SIZE_UNITS[..4].iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor)) {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// Writes a size for reading only, to one decimal: `1.5 GiB`, `17 B`.
pub fn format_size_rounded(bytes: u64) -> String {
    match SIZE_UNITS[..4].iter().find(|(_, factor)| bytes >= *factor) {
        Some((name, factor)) => format!("{:.1} {name}", bytes as f64 / *factor as f64),
        None => format!("{bytes} B"),
    }
}

/// A decimal number, taken apart so that it can be multiplied exactly.
struct Number<'a> {
    text: &'a str,
    whole: u128,
    fraction: u128,
    /// 10 to the number of fraction digits.
    scale: u128,
}

impl<'a> Number<'a> {
    /// Takes digits with at most one point from the front of `rest`.
    fn take(rest: &mut &'a str) -> Result<Number<'a>, Problem> {
        if rest.is_empty() {
            return Err(Problem::Empty);
        }
        if rest.starts_with('-') {
            return Err(Problem::Negative);
        }
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (text, after) = rest.split_at(end);
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err(Problem::NoNumber((*rest).to_owned()));
        }
        // 24 and 18 digits times the largest unit stay below u128; more digits are no sensible quantity.
        if whole.trim_start_matches('0').len() > 24 {
            return Err(Problem::TooLarge);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 18 {
            return Err(Problem::TooFine);
        }
        *rest = after;
        Ok(Number {
            text,
            whole: digits(whole),
            fraction: digits(fraction),
            scale: 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0)),
        })
    }

    /// The number times `factor`, if that is whole.
    fn times(&self, factor: u64) -> Result<u128, Problem> {
        let fraction = self.fraction * u128::from(factor);
        if !fraction.is_multiple_of(self.scale) {
            return Err(Problem::TooFine);
        }
        Ok(self.whole * u128::from(factor) + fraction / self.scale)
    }
}

/// The value of a run of ASCII digits short enough for `u128`.
fn digits(text: &str) -> u128 {
    text.bytes().fold(0, |value, digit| value * 10 + u128::from(digit - b'0'))
}

/// Takes everything up to the next digit, point, sign or white space.
fn take_unit<'a>(rest: &mut &'a str) -> &'a str {
    let stops = |c: char| c.is_ascii_digit() || c.is_whitespace() || c == '.' || c == '-';
    let (unit, after) = rest.split_at(rest.find(stops).unwrap_or(rest.len()));
    *rest = after;
    unit
}

/// The unit that was probably meant: another spelling, or another case.
fn nearest_unit(
    unit: &str,
    units: &'static [(&'static str, u64)],
    synonyms: &[(&'static str, &'static str)],
) -> Option<&'static str> {
    let lower = unit.to_lowercase();
    let other_case = units.iter().find(|(name, _)| name.to_lowercase() == lower).map(|(name, _)| *name);
    other_case.or_else(|| synonyms.iter().find(|(name, _)| *name == lower).map(|(_, meant)| *meant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(text: &str) -> i64 {
        parse_duration(text).unwrap_or_else(|error| panic!("{error}")).micros()
    }

    #[test]
    fn durations_read_as_documented() {
        for (text, expected) in [
            ("0", 0),
            ("0s", 0),
            ("1us", 1),
            ("100ms", 100_000),
            ("30s", 30_000_000),
            ("5m", 300_000_000),
            ("6h", 21_600_000_000),
            ("7d", 604_800_000_000),
            ("2w", 1_209_600_000_000),
            ("1h30m", 5_400_000_000),
            ("1.5h", 5_400_000_000),
            ("1d0.5h", 88_200_000_000),
            ("0.001ms", 1),
            (" 6h ", 21_600_000_000),
            ("1w1d1h1m1s1ms1us", 694_861_001_001),
        ] {
            assert_eq!(micros(text), expected, "{text}");
        }
    }

    #[test]
    fn bad_durations_say_what_is_wrong() {
        let unknown = |unit: &str, near| Problem::UnknownUnit(unit.to_owned(), near);
        for (text, expected) in [
            ("", Problem::Empty),
            ("  ", Problem::Empty),
            ("-5s", Problem::Negative),
            ("h", Problem::NoNumber("h".into())),
            (".5h", Problem::NoNumber(".5h".into())),
            ("1.h", Problem::NoNumber("1.h".into())),
            ("1.2.3h", Problem::NoNumber("1.2.3h".into())),
            ("1h 30m", Problem::NoNumber(" 30m".into())),
            ("90", Problem::NoUnit("90".into())),
            ("1h30", Problem::NoUnit("30".into())),
            ("5min", unknown("min", Some("m"))),
            ("5H", unknown("H", Some("h"))),
            ("5µs", unknown("µs", Some("us"))),
            ("5 h", Problem::NoUnit("5".into())),
            ("5ns", unknown("ns", None)),
            ("30m1h", Problem::Order("m", "h")),
            ("1h1h", Problem::Order("h", "h")),
            ("0.5us", Problem::TooFine),
            ("0.0000000000000000001w", Problem::TooFine),
            ("600000w", Problem::TooLarge),
            ("99999999999999999999s", Problem::TooLarge),
        ] {
            let error = parse_duration(text).expect_err(text);
            assert_eq!(error.problem, expected, "{text}");
            assert!(error.to_string().contains("expected"), "{error}");
        }
        assert_eq!(
            parse_duration("5min").unwrap_err().to_string(),
            "`5min` is not a duration: there is no unit `min` (did you mean `m`?); expected numbers with the units \
             w, d, h, m, s, ms or us, such as 100ms, 6h, 1.5h or 1h30m"
        );
    }

    #[test]
    fn sizes_read_as_documented() {
        for (text, expected) in [
            ("0", 0),
            ("4096", 4096),
            ("17B", 17),
            ("4KiB", 4096),
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("2TiB", 2 << 40),
            ("1kB", 1000),
            ("1KB", 1000),
            ("128MB", 128_000_000),
            ("1.5GiB", 3 << 29),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("", Problem::Empty),
            ("MiB", Problem::NoNumber("MiB".into())),
            ("-1", Problem::Negative),
            ("64M", Problem::UnknownUnit("M".into(), Some("MiB"))),
            ("64mib", Problem::UnknownUnit("mib".into(), Some("MiB"))),
            ("64XB", Problem::UnknownUnit("XB".into(), None)),
            ("1MiB2", Problem::Trailing("2".into())),
            ("0.3B", Problem::TooFine),
            ("9223372036854775808", Problem::TooLarge),
            ("9000000TiB", Problem::TooLarge),
        ] {
            assert_eq!(parse_size(text).expect_err(text).problem, expected, "{text}");
        }
    }

    #[test]
    fn writing_is_plain() {
        for (text, expected) in [("90m", "1h30m"), ("14d", "14d"), ("0", "0s"), ("1500us", "1ms500us")] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), expected);
        }
        assert_eq!(format_wait(std::time::Duration::from_millis(100)), "100ms");
        let minute = parse_duration("1m").unwrap();
        assert_eq!(parse_duration_within("1m", Duration::ZERO..=minute), Ok(minute));
        assert_eq!(
            parse_duration_within("61s", Duration::ZERO..=minute).unwrap_err(),
            "`1m1s` is out of range; expected 0s to 1m"
        );
        assert_eq!(
            parse_duration_within("59s", minute..=Duration::MAX).unwrap_err(),
            "`59s` is too short; expected 1m or longer"
        );
        assert_eq!(parse_size_within("1KiB", 0..=1024), Ok(1024));
        assert_eq!(parse_size_within("2KiB", 0..=1024).unwrap_err(), "`2KiB` is out of range; expected 0 to 1KiB");
        assert_eq!(format_size(64 << 20), "64MiB");
        assert_eq!(format_size(1000), "1000");
        assert_eq!(format_size(0), "0");
        assert_eq!(format_size_rounded(3 << 29), "1.5 GiB");
        assert_eq!(format_size_rounded(17), "17 B");
    }

    proptest! {
        #[test]
        fn durations_survive_writing(micros in 0..=Duration::MAX.micros()) {
            let duration = Duration::from_micros(micros).unwrap();
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn sizes_survive_writing(bytes in 0..1_u64 << 59, shift in 0..40_u32) {
            let bytes = bytes >> shift << (shift / 2);
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        /// Any text is read or refused, never a panic.
        #[test]
        fn any_text_is_answered(text in "[0-9.]{0,25}[a-zµ ]{0,3}[0-9.-]{0,3}\\PC{0,3}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
