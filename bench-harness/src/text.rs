//! How times, doubles and CSV records look as text, and back.
//!
//! Written on its own, on purpose: the engine has its own printers and parsers, and the two are compared. What
//! a cell means is not here.

use std::fmt::Write as _;

/// 0001-01-01T00:00:00Z in microseconds since the epoch.
pub const TIME_EARLIEST: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999Z in microseconds since the epoch.
pub const TIME_LATEST: i64 = 253_402_300_799_999_999;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Year, month and day of a day number since 1970-01-01.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Day number since 1970-01-01; the inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// `2013-01-01T05:15:00` with a fraction only where needed, without a zone, `separator` between date and time.
///
/// Years outside 0..=9999 are written with a sign and six digits.
pub fn local_time(micros: i64, separator: char) -> String {
    let seconds = micros.div_euclid(MICROS_PER_SECOND);
    let fraction = micros.rem_euclid(MICROS_PER_SECOND);
    let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
    let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    let mut text = if (0..=9_999).contains(&year) { format!("{year:04}") } else { format!("{year:+07}") };
    // Writing to a String cannot fail.
    let _ = write!(text, "-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}");
    if fraction != 0 {
        let digits = format!("{fraction:06}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text
}

/// RFC 3339 in UTC: `2013-01-01T05:15:00Z`.
pub fn utc_time(micros: i64) -> String {
    local_time(micros, 'T') + "Z"
}

/// Reads what [`utc_time`] writes, and years of any length with or without a sign. `None` when it is not that.
pub fn parse_utc_time(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (date, clock) = text.split_once(['T', ' '])?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut clock = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if fraction.len() > 6 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || year > 100_000 {
        return None;
    }
    let micros = if fraction.is_empty() { 0 } else { format!("{fraction:0<6}").parse::<i64>().ok()? };
    let days = days_from_civil(if negative { -year } else { year }, month, day);
    Some((days * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second) * MICROS_PER_SECOND + micros)
}

/// The fewest digits that read back as `value`; `2` for 2.0; an exponent only for very large or small ones.
pub fn float(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || !size.is_finite() || (1e-7..1e21).contains(&size) {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

/// `text` as a CSV field, quoted when it has to be.
pub fn csv_field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Splits CSV text into records of unquoted fields (RFC 4180, either line end, a last line end optional).
pub fn parse_csv(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    let mut field = String::new();
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    let mut begun = false;
    while let Some(character) = characters.next() {
        begun = true;
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\r' if !quoted && characters.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
                begun = false;
            }
            other => field.push(other),
        }
    }
    if quoted {
        return Err(format!("CSV record {} ends inside quotes", records.len() + 1));
    }
    if begun {
        record.push(field);
        records.push(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (1_356_998_400_000_000, "2013-01-01T00:00:00Z"),
            (951_782_400_500_000, "2000-02-29T00:00:00.5Z"),
            (TIME_EARLIEST, "0001-01-01T00:00:00Z"),
            (TIME_EARLIEST - 1, "0000-12-31T23:59:59.999999Z"),
            (TIME_LATEST, "9999-12-31T23:59:59.999999Z"),
            (TIME_LATEST + 1, "+010000-01-01T00:00:00Z"),
        ] {
            assert_eq!(utc_time(micros), text);
            assert_eq!(parse_utc_time(text), Some(micros));
        }
        assert_eq!(parse_utc_time("2013-01-01T00:00:00"), None);
        assert_eq!(parse_utc_time("noon"), None);
    }

    /// Every day of 12,000 years goes to text and back.
    #[test]
    fn days_round_trip() {
        let mut previous = (i64::MIN, 0, 0);
        for days in -800_000..3_600_000 {
            let civil = civil_from_days(days);
            assert!(civil > previous);
            assert_eq!(days_from_civil(civil.0, civil.1, civil.2), days);
            previous = civil;
        }
    }

    #[test]
    fn floats_are_short_and_read_back() {
        for (value, text) in
            [(2.0, "2"), (-0.5, "-0.5"), (0.1, "0.1"), (1e300, "1e300"), (5e-324, "5e-324"), (f64::INFINITY, "inf")]
        {
            assert_eq!(float(value), text);
            assert_eq!(text.parse::<f64>().unwrap(), value);
        }
    }

    #[test]
    fn csv_fields_round_trip() {
        let nasty = ["", "a", "a,b", "\"", "line\nbreak", "cr\r\nlf", "ünï", " lead"];
        let line: Vec<String> = nasty.iter().map(|text| csv_field(text)).collect();
        let parsed = parse_csv(&format!("{}\nlast,one", line.join(","))).unwrap();
        assert_eq!(parsed[0], nasty);
        assert_eq!(parsed[1], ["last", "one"]);
        assert_eq!(parse_csv("").unwrap(), Vec::<Vec<String>>::new());
        assert!(parse_csv("\"open").is_err());
    }
}
