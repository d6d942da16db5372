//! An engine's CSV against the oracle's answer: equal within each column's tolerance, or a short diff.
//!
//! Running the engine is not here.

use crate::oracle::{Answer, Tolerance, Value};
use crate::text;
use crate::workload::Cell;
use std::fmt::Write as _;

/// Differing cells that a diff shows before it only counts.
const SHOWN_MAX: usize = 5;

/// Checks `csv`, with its header line, against `answer`. The error is a diff for people.
pub fn compare(csv: &str, answer: &Answer) -> Result<(), String> {
    let mut records = text::parse_csv(csv).map_err(|reason| format!("the output is not CSV: {reason}"))?.into_iter();
    let header = records.next().ok_or("the output is empty; expected at least a header line")?;
    if header != answer.header {
        return Err(format!("the header is {header:?}, expected {:?}", answer.header));
    }
    let records: Vec<Vec<String>> = records.collect();
    let mut diff = String::new();
    let mut count = 0;
    for (index, (record, row)) in records.iter().zip(&answer.rows).enumerate() {
        let found = row_difference(index, record, row, answer);
        if let Some(line) = found {
            count += 1;
            if count <= SHOWN_MAX {
                diff.push_str(&line);
            }
        }
    }
    if count > SHOWN_MAX {
        // Writing to a String cannot fail.
        let _ = writeln!(diff, "… and {} more rows differ", count - SHOWN_MAX);
    }
    if records.len() != answer.rows.len() {
        let _ = writeln!(diff, "{} rows, expected {}", records.len(), answer.rows.len());
        let common = records.len().min(answer.rows.len());
        if let Some(extra) = records.get(common) {
            let _ = writeln!(diff, "first row too many: {}", extra.join(" | "));
        }
        if let Some(missing) = answer.rows.get(common) {
            let _ = writeln!(diff, "first row missing: {}", row_text(missing));
        }
    }
    if diff.is_empty() { Ok(()) } else { Err(diff) }
}

fn row_difference(index: usize, record: &[String], row: &[Value], answer: &Answer) -> Option<String> {
    let number = index + 1;
    if record.len() != row.len() {
        return Some(format!(
            "row {number}: {} fields, expected {}: {}\n",
            record.len(),
            row.len(),
            record.join(" | ")
        ));
    }
    let columns = record.iter().zip(row).zip(&answer.tolerances).zip(&answer.header);
    let differing: Vec<String> = columns
        .filter(|(((found, expected), tolerance), _)| !agrees(found, expected, **tolerance))
        .map(|(((found, expected), _), name)| format!("{name} is {found:?}, expected {:?}", expected.text()))
        .collect();
    if differing.is_empty() {
        return None;
    }
    Some(format!(
        "row {number}: {}\n  expected {}\n  found    {}\n",
        differing.join("; "),
        row_text(row),
        record.join(" | ")
    ))
}

fn row_text(row: &[Value]) -> String {
    row.iter().map(Value::text).collect::<Vec<_>>().join(" | ")
}

/// Whether the text `found` stands for `expected`.
pub fn agrees(found: &str, expected: &Value, tolerance: Tolerance) -> bool {
    match expected {
        // Numbers are compared as numbers: how many zeros 1e21 is written with is not the oracle's to say.
        Value::Float(value) => number(found).is_some_and(|found| close(found, *value, tolerance)),
        Value::Quantile { value, or } => {
            number(found).is_some_and(|found| close(found, *value, tolerance) || close(found, *or, tolerance))
        }
        Value::Int(value) => found.parse::<i64>().is_ok_and(|found| match tolerance {
            Tolerance::ExactBelow(limit, relative) if *value >= limit => {
                (found - value).abs() as f64 <= relative * *value as f64
            }
            _ => found == *value,
        }),
        Value::Time(micros) => text::parse_utc_time(found) == Some(*micros),
        Value::Top(list) => found == expected.text() || top_of_floats(found, list),
        Value::Null | Value::Text(_) | Value::Bool(_) | Value::Other => found == expected.text(),
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| !value.is_nan())
}

/// Relative closeness; subnormal numbers have few digits, so below the smallest normal one all are alike unless exact.
fn close(found: f64, expected: f64, tolerance: Tolerance) -> bool {
    match tolerance {
        // Nothing but itself is close to infinity.
        Tolerance::Relative(relative) if expected.is_finite() => {
            found == expected || (found - expected).abs() <= (relative * expected.abs()).max(f64::MIN_POSITIVE)
        }
        Tolerance::Relative(_) | Tolerance::Exact | Tolerance::ExactBelow(..) => found == expected,
    }
}

/// `value:count` pairs of doubles, whose digits may be written in several ways.
fn top_of_floats(found: &str, list: &[(Cell, u64)]) -> bool {
    let pairs: Vec<&str> = found.split(',').collect();
    pairs.len() == list.len()
        && pairs.iter().zip(list).all(|(pair, (cell, count))| match (pair.rsplit_once(':'), cell) {
            (Some((value, found_count)), Cell::Float(expected)) => {
                number(value) == Some(*expected) && found_count.parse() == Ok(*count)
            }
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Ledger;

    fn answer() -> Answer {
        let row = |start, group: &str, mean, count| {
            vec![Value::Time(start), Value::Text(group.into()), Value::Float(mean), Value::Int(count)]
        };
        Answer {
            header: ["window_start", "g", "mean_x", "count"].map(String::from).to_vec(),
            tolerances: vec![Tolerance::Exact, Tolerance::Exact, Tolerance::Relative(1e-9), Tolerance::Exact],
            rows: vec![row(0, "a,b", 2.0, 3), row(0, "c", 1e300, 1)],
            ledger: Ledger::default(),
        }
    }

    #[test]
    fn its_own_text_agrees() {
        assert_eq!(compare(&answer().csv(), &answer()), Ok(()));
        let loose = "window_start,g,mean_x,count\n1970-01-01T00:00:00Z,\"a,b\",2.0000000001,3\n\
                     1970-01-01T00:00:00Z,c,1.0e+300,1\n";
        assert_eq!(compare(loose, &answer()), Ok(()));
    }

    #[test]
    fn each_kind_of_mistake_is_named() {
        let good = answer().csv();
        for (from, to, says) in [
            ("mean_x", "avg_x", "the header is"),
            ("2,3\n", "2.1,3\n", "row 1: mean_x is \"2.1\", expected \"2\""),
            ("2,3\n", "2,4\n", "row 1: count is \"4\", expected \"3\""),
            ("2,3\n", "2\n", "row 1: 3 fields, expected 4"),
            (",c,", ",d,", "row 2: g is \"d\", expected \"c\""),
            ("2,3\n", ",3\n", "row 1: mean_x is \"\", expected \"2\""),
        ] {
            let diff = compare(&good.replace(from, to), &answer()).unwrap_err();
            assert!(diff.contains(says), "{diff}");
        }
        let missing = good.lines().take(2).map(|line| format!("{line}\n")).collect::<String>();
        let diff = compare(&missing, &answer()).unwrap_err();
        assert!(diff.contains("1 rows, expected 2") && diff.contains("first row missing"), "{diff}");
        let extra = good.clone() + "1970-01-01T00:00:00Z,e,1,1\n";
        assert!(compare(&extra, &answer()).unwrap_err().contains("first row too many"));
        assert!(compare("", &answer()).is_err());
    }

    #[test]
    fn tolerances_have_an_edge() {
        let distinct = Tolerance::ExactBelow(1_000, 0.08);
        assert!(!agrees("998", &Value::Int(999), distinct));
        assert!(agrees("1080", &Value::Int(1_000), distinct));
        assert!(!agrees("1081", &Value::Int(1_000), distinct));
        let quantile = Value::Quantile { value: 100.0, or: 200.0 };
        let percent = Tolerance::Relative(0.01);
        for (text, good) in [("99", true), ("98.9", false), ("201", true), ("150", false), ("", false), ("nan", false)]
        {
            assert_eq!(agrees(text, &quantile, percent), good, "{text}");
        }
        assert!(agrees("inf", &Value::Float(f64::INFINITY), percent));
        assert!(!agrees("1e308", &Value::Float(f64::INFINITY), percent));
        let top = Value::Top(vec![(Cell::Float(2.0), 3), (Cell::Float(1e21), 1)]);
        assert!(agrees("2:3,1e21:1", &top, Tolerance::Exact));
        assert!(agrees("2:3,1000000000000000000000:1", &top, Tolerance::Exact));
        assert!(!agrees("2:3", &top, Tolerance::Exact));
        assert!(!agrees("2:3,1e21:2", &top, Tolerance::Exact));
    }
}
