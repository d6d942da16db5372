//! Event times as they stand in inputs: RFC 3339 text and integers with a unit, to and from microseconds.
//!
//! The text path is written by hand because it runs once per event; jiff is its oracle in the tests. Where the
//! times come from is not here.

use std::fmt::Write;

use corefold_aggregator::time::EventTime;

/// What an integer time counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TimeUnit {
    /// Seconds.
    Second,
    /// Milliseconds.
    Milli,
    /// Microseconds.
    Micro,
    /// Nanoseconds, rounded down to microseconds.
    Nano,
}

impl TimeUnit {
    /// The unit called `s`, `ms`, `us` or `ns`.
    pub fn from_name(name: &str) -> Option<TimeUnit> {
        match name {
            "s" => Some(TimeUnit::Second),
            "ms" => Some(TimeUnit::Milli),
            "us" => Some(TimeUnit::Micro),
            "ns" => Some(TimeUnit::Nano),
            _ => None,
        }
    }

    /// `s`, `ms`, `us` or `ns`.
    pub const fn name(self) -> &'static str {
        match self {
            TimeUnit::Second => "s",
            TimeUnit::Milli => "ms",
            TimeUnit::Micro => "us",
            TimeUnit::Nano => "ns",
        }
    }

    /// `count` units after the epoch in microseconds; `None` outside the years 1 to 9999.
    #[inline]
    pub fn micros(self, count: i64) -> Option<i64> {
        let micros = match self {
            TimeUnit::Second => count.checked_mul(1_000_000)?,
            TimeUnit::Milli => count.checked_mul(1_000)?,
            TimeUnit::Micro => count,
            TimeUnit::Nano => count.div_euclid(1_000),
        };
        EventTime(micros).is_valid().then_some(micros)
    }
}

/// Why a text is not an event time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeFault {
    /// Neither RFC 3339 nor an integer.
    NotTime,
    /// An integer, but no unit was given.
    NeedsUnit,
    /// Outside the years 1 to 9999.
    OutOfRange,
}

const DAY_SECONDS: i64 = 86_400;

/// The event time in `text`, in microseconds since the epoch.
///
/// `YYYY-MM-DDTHH:MM:SS[.fraction][Z|±hh:mm|±hhmm|±hh]`, also with a space or `t` for `T`; without a zone it is
/// UTC; `YYYY-MM-DD` alone is midnight. A fraction beyond microseconds is cut off. Leap seconds (`:60`) are
/// refused. A number needs `unit`; its decimals, if any, are fractions of it.
#[inline]
pub fn parse(text: &[u8], unit: Option<TimeUnit>) -> Result<i64, TimeFault> {
    if let Some((head, rest)) = text.split_first_chunk::<19>()
        && let Some(seconds) = date_and_time(head)
    {
        if rest == b"Z" {
            return checked(seconds * 1_000_000);
        }
        let (fraction, offset) = fraction_and_zone(rest).ok_or(TimeFault::NotTime)?;
        return checked((seconds - offset) * 1_000_000 + fraction);
    }
    if let Some((day, b"")) = text.split_first_chunk::<10>()
        && let Some(days) = date(day)
    {
        return checked(days * DAY_SECONDS * 1_000_000);
    }
    if let (Some(unit), Some(count)) = (unit, short_integer(text)) {
        return unit.micros(count).ok_or(TimeFault::OutOfRange);
    }
    number(text, unit)
}

/// `[-]digits`, at most 18 of them, which cannot overflow.
#[inline]
fn short_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = if let [b'-', digits @ ..] = text { (true, digits) } else { (false, text) };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut count = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        count = count * 10 + i64::from(digit);
    }
    Some(if negative { -count } else { count })
}

#[inline]
fn checked(micros: i64) -> Result<i64, TimeFault> {
    if EventTime(micros).is_valid() { Ok(micros) } else { Err(TimeFault::OutOfRange) }
}

/// `actual ^ pattern` leaves digits where the pattern has `0` and zero where it has a separator; adding `slack`
/// then carries into a byte's top bit exactly if it is no digit or not the separator.
#[inline]
fn digits_of(actual: [u8; 8], pattern: &[u8; 8], slack: [u8; 8]) -> Option<[u8; 8]> {
    let value = u64::from_le_bytes(actual) ^ u64::from_le_bytes(*pattern);
    let carried = value.wrapping_add(u64::from_le_bytes(slack));
    ((value | carried) & 0x8080_8080_8080_8080 == 0).then(|| value.to_le_bytes())
}

/// Slack of a digit: 9 + 0x76 stays below 0x80.
const D: u8 = 0x76;
/// Slack of a separator: only 0 stays below 0x80.
const S: u8 = 0x7f;

/// Days since the epoch of `YYYY-MM-DD`.
#[inline]
fn date(text: &[u8; 10]) -> Option<i64> {
    let [y0, y1, y2, y3, d0, m0, m1, d1, a, b] = *text;
    let v = digits_of([y0, y1, y2, y3, d0, m0, m1, d1], b"0000-00-", [D, D, D, D, S, D, D, S])?;
    let (a, b) = (a ^ b'0', b ^ b'0');
    if a > 9 || b > 9 {
        return None;
    }
    let year = i64::from(v[0]) * 1000 + i64::from(v[1]) * 100 + i64::from(v[2]) * 10 + i64::from(v[3]);
    let month = i64::from(v[5]) * 10 + i64::from(v[6]);
    let day = i64::from(a) * 10 + i64::from(b);
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    Some(days_from_civil(year, month, day))
}

/// Seconds since the epoch of `YYYY-MM-DDTHH:MM:SS`.
#[inline]
fn date_and_time(text: &[u8; 19]) -> Option<i64> {
    let (day, time) = text.split_first_chunk::<10>()?;
    let days = date(day)?;
    let (separator, clock) = time.split_first()?;
    if !matches!(separator, b'T' | b' ' | b't') {
        return None;
    }
    let v = digits_of(*clock.first_chunk::<8>()?, b"00:00:00", [D, D, S, D, D, S, D, D])?;
    let hour = i64::from(v[0]) * 10 + i64::from(v[1]);
    let minute = i64::from(v[3]) * 10 + i64::from(v[4]);
    let second = i64::from(v[6]) * 10 + i64::from(v[7]);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(days * DAY_SECONDS + hour * 3600 + minute * 60 + second)
}

/// Microseconds of the fraction and seconds east of UTC in `[.digits][zone]`.
fn fraction_and_zone(mut rest: &[u8]) -> Option<(i64, i64)> {
    let mut fraction = 0;
    if let [b'.', digits @ ..] = rest {
        let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        fraction = fraction_micros(&digits[..count]);
        rest = &digits[count..];
    }
    let two = |a: u8, b: u8| {
        (a.is_ascii_digit() && b.is_ascii_digit()).then(|| i64::from(a - b'0') * 10 + i64::from(b - b'0'))
    };
    let (sign, hour, minute) = match *rest {
        [] | [b'Z' | b'z'] => return Some((fraction, 0)),
        [sign @ (b'+' | b'-'), a, b] => (sign, two(a, b)?, 0),
        [sign @ (b'+' | b'-'), a, b, c, d] => (sign, two(a, b)?, two(c, d)?),
        [sign @ (b'+' | b'-'), a, b, b':', c, d] => (sign, two(a, b)?, two(c, d)?),
        _ => return None,
    };
    if hour > 23 || minute > 59 {
        return None;
    }
    let offset = hour * 3600 + minute * 60;
    Some((fraction, if sign == b'-' { -offset } else { offset }))
}

/// The first six digits of a decimal fraction as millionths.
fn fraction_micros(digits: &[u8]) -> i64 {
    (0..6).fold(0, |micros, index| micros * 10 + digits.get(index).map_or(0, |digit| i64::from(digit - b'0')))
}

/// A count of units: `[+-]digits[.digits]`, exactly.
fn number(text: &[u8], unit: Option<TimeUnit>) -> Result<i64, TimeFault> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let whole_len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (whole, rest) = digits.split_at(whole_len);
    let decimals = match rest {
        [] => &[][..],
        [b'.', decimals @ ..] if !decimals.is_empty() && decimals.iter().all(u8::is_ascii_digit) => decimals,
        _ => return Err(TimeFault::NotTime),
    };
    if whole.is_empty() {
        return Err(TimeFault::NotTime);
    }
    let unit = unit.ok_or(TimeFault::NeedsUnit)?;
    let mut count = 0i64;
    for digit in whole {
        count = count
            .checked_mul(10)
            .and_then(|count| count.checked_add(i64::from(digit - b'0')))
            .ok_or(TimeFault::OutOfRange)?;
    }
    // In nanoseconds, exactly, so that rounding down works for negative numbers with decimals too.
    let (unit_nanos, digits_kept) = match unit {
        TimeUnit::Second => (1_000_000_000, 9),
        TimeUnit::Milli => (1_000_000, 6),
        TimeUnit::Micro => (1_000, 3),
        TimeUnit::Nano => (1, 0),
    };
    let mut nanos = i128::from(count) * unit_nanos;
    let mut place = unit_nanos;
    for digit in decimals.iter().take(digits_kept) {
        place /= 10;
        nanos += i128::from(digit - b'0') * place;
    }
    // What lies beyond nanoseconds still pushes a negative time below a whole microsecond.
    let beyond = decimals.iter().skip(digits_kept).any(|digit| *digit != b'0');
    let nanos = if negative { -nanos - i128::from(beyond) } else { nanos };
    let micros = i64::try_from(nanos.div_euclid(1_000)).map_err(|_| TimeFault::OutOfRange)?;
    checked(micros)
}

#[inline]
const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date (Howard Hinnant, "chrono-compatible low-level date
/// algorithms"): years start in March, so the leap day is the last of its year.
#[inline]
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse: year, month and day.
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Appends the date `days` after the epoch as `YYYY-MM-DD`.
pub fn write_date(out: &mut String, days: i64) {
    let (year, month, day) = civil_from_days(days);
    // Writing to a String cannot fail.
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
}

/// Appends `micros` since the epoch as RFC 3339 with `Z`, the fraction only if there is one.
pub fn write_time(out: &mut String, micros: i64) {
    let seconds = micros.div_euclid(1_000_000);
    let fraction = micros.rem_euclid(1_000_000);
    write_date(out, seconds.div_euclid(DAY_SECONDS));
    let clock = seconds.rem_euclid(DAY_SECONDS);
    let _ = write!(out, "T{:02}:{:02}:{:02}", clock / 3600, clock / 60 % 60, clock % 60);
    if fraction != 0 {
        let digits = format!("{fraction:06}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    out.push('Z');
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::Date;
    use proptest::prelude::*;

    fn text(value: &str) -> Result<i64, TimeFault> {
        parse(value.as_bytes(), None)
    }

    /// Every date of the years 1 to 9999, and every impossible one beside them, against jiff.
    #[test]
    fn all_dates_agree_with_jiff() {
        let mut buffer = *b"0000-00-00";
        let two = |value: i16| [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8];
        for year in 0..=9999i16 {
            buffer[..2].copy_from_slice(&two(year / 100));
            buffer[2..4].copy_from_slice(&two(year % 100));
            for month in 0..=13i8 {
                buffer[5..7].copy_from_slice(&two(month.into()));
                // Inside a month days are one apart, so jiff is asked for the first and at the end.
                let first = Date::new(year, month, 1).ok().filter(|_| year > 0);
                let expected = first.map(|date| {
                    (
                        date.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_second() / 86_400,
                        date.days_in_month(),
                    )
                });
                for day in 0..=32i8 {
                    buffer[8..].copy_from_slice(&two(day.into()));
                    let wanted = expected
                        .filter(|(_, length)| (1..=*length).contains(&day))
                        .map(|(start, _)| (start + i64::from(day) - 1) * 86_400_000_000);
                    let found = parse(&buffer, None);
                    assert_eq!(found.ok(), wanted, "{}", String::from_utf8_lossy(&buffer));
                }
            }
        }
    }

    #[test]
    fn accepted_and_refused() {
        let base = "2013-01-01T05:15:00Z".parse::<jiff::Timestamp>().unwrap().as_microsecond();
        for same in [
            "2013-01-01T05:15:00Z",
            "2013-01-01 05:15:00",
            "2013-01-01t05:15:00z",
            "2013-01-01T05:15:00.000Z",
            "2013-01-01T07:15:00+02:00",
            "2013-01-01T00:15:00-0500",
            "2013-01-01 05:15:00+00",
            "2013-01-01T05:15:00.0000009Z",
            "2013-01-01T05:15:00-00:00",
        ] {
            assert_eq!(text(same), Ok(base), "{same}");
        }
        assert_eq!(text("2013-01-01T05:15:00.25"), Ok(base + 250_000));
        assert_eq!(text("2013-01-01T05:15:00.123456789+00:00"), Ok(base + 123_456));
        assert_eq!(text("1969-12-31T23:59:59.999999Z"), Ok(-1));
        for bad in [
            "",
            "x",
            "-",
            "+",
            ".5",
            "2013",
            "2013-02-29",
            "2013-13-01",
            "2013-01-01T24:00:00Z",
            "2013-01-01T00:60:00Z",
            "2016-12-31T23:59:60Z",
            "2013-01-01T05:15:00.Z",
            "2013-01-01T05:15:00+24:00",
            "2013-01-01T05:15:00+1:00",
            "2013-01-01T05:15",
            "2013-01-01T05:15:00 Z",
            "2013-01-01x05:15:00Z",
            "2013/01/01",
            "13-01-01",
            "2013-01-01T05:15:00Zz",
            "2013-01-01T05:15:00+02:60",
            "２013-01-01",
        ] {
            let wanted = if bad == "2013" { TimeFault::NeedsUnit } else { TimeFault::NotTime };
            assert_eq!(text(bad), Err(wanted), "{bad}");
        }
        assert_eq!(text("0000-01-01"), Err(TimeFault::OutOfRange));
        assert_eq!(text("0001-01-01T00:00:00+00:01"), Err(TimeFault::OutOfRange));
        assert_eq!(text("9999-12-31T23:59:59.9999999Z"), Ok(EventTime::LATEST.0));
        assert_eq!(text("9999-12-31T23:59:59-00:01"), Err(TimeFault::OutOfRange));
    }

    #[test]
    fn numbers_need_a_unit() {
        let with = |text: &str, unit| parse(text.as_bytes(), Some(unit));
        assert_eq!(text("1357017300"), Err(TimeFault::NeedsUnit));
        assert_eq!(with("1357017300", TimeUnit::Second), Ok(1_357_017_300_000_000));
        assert_eq!(with("-1", TimeUnit::Milli), Ok(-1_000));
        assert_eq!(with("+7", TimeUnit::Micro), Ok(7));
        assert_eq!(with("1999", TimeUnit::Nano), Ok(1));
        assert_eq!(with("-1", TimeUnit::Nano), Ok(-1));
        assert_eq!(with("-1000", TimeUnit::Nano), Ok(-1));
        assert_eq!(with("1.5", TimeUnit::Second), Ok(1_500_000));
        assert_eq!(with("-1.0000005", TimeUnit::Second), Ok(-1_000_001));
        assert_eq!(with("-0.0000000000001", TimeUnit::Second), Ok(-1));
        assert_eq!(with("0.9999999999999", TimeUnit::Second), Ok(999_999));
        assert_eq!(with("1e3", TimeUnit::Second), Err(TimeFault::NotTime));
        assert_eq!(with("99999999999999999999", TimeUnit::Nano), Err(TimeFault::OutOfRange));
        assert_eq!(with("253402300800", TimeUnit::Second), Err(TimeFault::OutOfRange));
        assert_eq!(with("2013-01-01", TimeUnit::Second), Ok(1_356_998_400_000_000));
    }

    proptest! {
        /// The short way and the exact way agree.
        #[test]
        fn short_integers_are_numbers(value in "-?[0-9]{1,19}", unit in 0usize..4) {
            let unit = [TimeUnit::Second, TimeUnit::Milli, TimeUnit::Micro, TimeUnit::Nano][unit];
            prop_assert_eq!(parse(value.as_bytes(), Some(unit)), number(value.as_bytes(), Some(unit)));
        }

        #[test]
        fn instants_agree_with_jiff(micros in EventTime::EARLIEST.0..=EventTime::LATEST.0, nanos in 0i64..1000, offset in -86_340i32..=86_340) {
            let timestamp = jiff::Timestamp::from_microsecond(micros).unwrap();
            let mut own = String::new();
            write_time(&mut own, micros);
            prop_assert_eq!(own.parse::<jiff::Timestamp>().unwrap(), timestamp);
            prop_assert_eq!(text(&own), Ok(micros));
            prop_assert_eq!(text(&timestamp.to_string()), Ok(micros));
            prop_assert_eq!(TimeUnit::Nano.micros(micros.saturating_mul(1000).saturating_add(nanos)).filter(|_| micros.abs() < i64::MAX / 1000 - 1), Some(micros).filter(|_| micros.abs() < i64::MAX / 1000 - 1));

            // The same instant with an offset of whole minutes.
            let offset = offset / 60 * 60;
            let zone = jiff::tz::Offset::from_seconds(offset).unwrap();
            if let Ok(local) = zone.to_datetime(timestamp).to_string().parse::<jiff::civil::DateTime>()
                && (1..=9999).contains(&local.year())
            {
                let sign = if offset < 0 { '-' } else { '+' };
                let shifted = format!("{local}{sign}{:02}:{:02}", offset.abs() / 3600, offset.abs() / 60 % 60);
                prop_assert_eq!(text(&shifted), Ok(micros), "{}", shifted);
            }
        }

        /// Whatever the bytes: no panic, and what jiff refuses as a timestamp is never taken for one.
        #[test]
        fn garbage_is_refused(mut value in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})", at in 0usize..30, byte in any::<u8>()) {
            if at < value.len() && byte.is_ascii() {
                value.replace_range(at..at + 1, &char::from(byte).to_string());
            }
            if let Ok(micros) = text(&value) {
                let known = value.parse::<jiff::Timestamp>().ok().map(|t| t.as_nanosecond().div_euclid(1000) as i64);
                let civil = value.parse::<jiff::civil::DateTime>().is_ok();
                prop_assert!(known == Some(micros) || (known.is_none() && civil), "{value} {micros} {known:?}");
            }
        }
    }
}
