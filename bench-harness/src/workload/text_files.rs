//! Lanes as CSV and NDJSON files, in the many ways people write them.
//!
//! Column order, quoting and line ends vary with the job's seed, the values never. Arrow and Parquet are not here.

use super::{Cell, Format, Job, Row, TimeForm, Zone, columnar};
use crate::entropy::Entropy;
use crate::text;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A column that no job asks for, in some files.
pub const STRAY_COLUMN: &str = "stray";

/// Writes each lane of `job` into a file of its own in `directory`; the files in command-line order.
pub fn write_lanes(job: &Job, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for (index, rows) in job.lanes.iter().enumerate() {
        let path = directory.join(format!("lane-{index}.{}", job.format.name()));
        let entropy = &mut Entropy::new(job.seed ^ (0xF11E + index as u64));
        match job.format {
            Format::Csv => fs::write(&path, csv(job, rows, entropy))?,
            Format::Ndjson => fs::write(&path, ndjson(job, rows, entropy)?)?,
            Format::Arrow => columnar::write_arrow(job, rows, &path, entropy)?,
            Format::Parquet => columnar::write_parquet(job, rows, &path, entropy)?,
        }
        files.push(path);
    }
    Ok(files)
}

/// One column of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The time.
    Time,
    /// A field.
    Field(usize),
    /// [`STRAY_COLUMN`].
    Stray,
}

/// Columns of a file in random order.
pub fn places(job: &Job, entropy: &mut Entropy) -> Vec<Place> {
    let mut places: Vec<Place> = (0..job.fields.len()).map(Place::Field).collect();
    places.push(Place::Time);
    if entropy.chance(0.25) {
        places.push(Place::Stray);
    }
    entropy.shuffle(&mut places);
    places
}

/// The name of a column.
pub fn place_name(job: &Job, place: Place) -> &str {
    match place {
        Place::Time => &job.time,
        Place::Field(field) => &job.fields[field].name,
        Place::Stray => STRAY_COLUMN,
    }
}

/// A time as text, or as the digits of an integer.
pub fn time_text(form: TimeForm, time: i64) -> String {
    match form {
        TimeForm::Text { separator, zone: Zone::Utc } => text::local_time(time, separator) + "Z",
        TimeForm::Text { separator, zone: Zone::Absent } => text::local_time(time, separator),
        TimeForm::Text { separator, zone: Zone::Minutes(minutes) } => {
            let local = text::local_time(time + i64::from(minutes) * 60_000_000, separator);
            let sign = if minutes < 0 { '-' } else { '+' };
            format!("{local}{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
        }
        TimeForm::Integer(unit) | TimeForm::Typed(unit) => {
            // A random job has a unit that can say its times; a hand-written one must.
            unit.from_micros(time).map_or_else(String::new, |value| value.to_string())
        }
    }
}

fn csv(job: &Job, rows: &[Row], entropy: &mut Entropy) -> String {
    let places = places(job, entropy);
    let line_end = if entropy.chance(0.2) { "\r\n" } else { "\n" };
    let quote_all = entropy.chance(0.2);
    let quote = |value: &str| {
        if quote_all { format!("\"{}\"", value.replace('"', "\"\"")) } else { text::csv_field(value) }
    };
    let null = job.null_text.as_deref().unwrap_or("");
    let header: Vec<String> = places.iter().map(|&place| quote(place_name(job, place))).collect();
    let mut lines = vec![header.join(",")];
    for row in rows {
        let fields: Vec<String> = places
            .iter()
            .map(|&place| match place {
                Place::Time => quote(&time_text(job.time_form, row.time)),
                Place::Stray => "not asked for".to_owned(),
                Place::Field(field) => match &row.cells[field] {
                    Cell::Null => null.to_owned(),
                    Cell::Text(value) => quote(value),
                    Cell::Int(value) => value.to_string(),
                    Cell::Float(value) if value.is_nan() => "NaN".to_owned(),
                    Cell::Float(value) => float(*value, entropy),
                    Cell::Bool(value) => value.to_string(),
                },
            })
            .collect();
        lines.push(fields.join(","));
    }
    let mut content = lines.join(line_end);
    if entropy.chance(0.8) {
        content.push_str(line_end);
    }
    content
}

fn ndjson(job: &Job, rows: &[Row], entropy: &mut Entropy) -> io::Result<String> {
    let places = places(job, entropy);
    let omit_nulls = entropy.chance(0.5);
    let mut content = String::new();
    for row in rows {
        let mut members = Vec::new();
        for &place in &places {
            let value = match place {
                Place::Time => match job.time_form {
                    TimeForm::Text { .. } => quoted(&time_text(job.time_form, row.time))?,
                    _ => time_text(job.time_form, row.time),
                },
                Place::Stray => "{\"nested\": [1, \"two\", null]}".to_owned(),
                Place::Field(field) => match &row.cells[field] {
                    Cell::Null if omit_nulls => continue,
                    Cell::Null => "null".to_owned(),
                    Cell::Text(value) => quoted(value)?,
                    Cell::Int(value) => value.to_string(),
                    Cell::Float(value) if value.is_nan() => "null".to_owned(),
                    Cell::Float(value) => float(*value, entropy),
                    Cell::Bool(value) => value.to_string(),
                },
            };
            members.push(format!("{}:{value}", quoted(place_name(job, place))?));
        }
        content.push_str(&format!("{{{}}}\n", members.join(if entropy.chance(0.1) { " , " } else { "," })));
    }
    if entropy.chance(0.2) {
        content.pop();
    }
    Ok(content)
}

fn quoted(value: &str) -> io::Result<String> {
    serde_json::to_string(value).map_err(io::Error::other)
}

/// Digits that read back as `value`, short or long.
fn float(value: f64, entropy: &mut Entropy) -> String {
    match entropy.index(4) {
        0 if value.is_finite() => format!("{value:?}"),
        1 if value.is_finite() => format!("{value:e}"),
        _ => text::float(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::random::random_job;

    #[test]
    fn times_in_every_form() {
        let text = |separator, zone| TimeForm::Text { separator, zone };
        for (form, expected) in [
            (text('T', Zone::Utc), "1970-01-01T00:00:01.5Z"),
            (text(' ', Zone::Absent), "1970-01-01 00:00:01.5"),
            (text('T', Zone::Minutes(330)), "1970-01-01T05:30:01.5+05:30"),
            (text('T', Zone::Minutes(-90)), "1969-12-31T22:30:01.5-01:30"),
            (TimeForm::Integer(crate::workload::Unit::Millis), "1500"),
        ] {
            assert_eq!(time_text(form, 1_500_000), expected);
        }
    }

    /// What is written as CSV reads back, by the names in its header, as the job's cells.
    #[test]
    fn csv_says_what_the_job_holds() {
        let mut checked = 0;
        for job in (0..200).map(random_job).filter(|job| job.format == Format::Csv) {
            let null = job.null_text.clone().unwrap_or_default();
            let content = csv(&job, &job.lanes[0], &mut Entropy::new(job.seed));
            let records = text::parse_csv(&content).unwrap();
            assert_eq!(records.len(), job.lanes[0].len() + 1);
            for (record, row) in records[1..].iter().zip(&job.lanes[0]) {
                for (name, value) in records[0].iter().zip(record) {
                    let Some(field) = job.fields.iter().position(|field| field.name == *name) else { continue };
                    match &row.cells[field] {
                        Cell::Null => assert_eq!(*value, null),
                        Cell::Text(text) => assert_eq!(value, text),
                        Cell::Int(number) => assert_eq!(value.parse(), Ok(*number)),
                        Cell::Float(number) => assert!(value.parse::<f64>().unwrap().total_cmp(number).is_eq()),
                        Cell::Bool(truth) => assert_eq!(value.parse(), Ok(*truth)),
                    }
                    checked += 1;
                }
            }
        }
        assert!(checked > 1_000, "{checked}");
    }

    /// The same for NDJSON; a missing member is null.
    #[test]
    fn ndjson_says_what_the_job_holds() {
        for job in (0..200).map(random_job).filter(|job| job.format == Format::Ndjson) {
            let content = ndjson(&job, &job.lanes[0], &mut Entropy::new(job.seed)).unwrap();
            assert_eq!(content.lines().count(), job.lanes[0].len());
            for (line, row) in content.lines().zip(&job.lanes[0]) {
                let object: serde_json::Value = serde_json::from_str(line).unwrap();
                for (field, cell) in job.fields.iter().zip(&row.cells) {
                    let value = object.get(&field.name).unwrap_or(&serde_json::Value::Null);
                    match cell {
                        Cell::Null => assert!(value.is_null()),
                        Cell::Text(text) => assert_eq!(value.as_str(), Some(text.as_str())),
                        Cell::Int(number) => assert_eq!(value.as_i64(), Some(*number)),
                        Cell::Float(number) if number.is_nan() => assert!(value.is_null()),
                        // serde_json's fast path may miss the last bit of long digits.
                        Cell::Float(number) => {
                            let found = value.as_f64().unwrap();
                            assert!((found - number).abs() <= number.abs() * 1e-15, "{found:e} {number:e}");
                        }
                        Cell::Bool(truth) => assert_eq!(value.as_bool(), Some(*truth)),
                    }
                }
            }
        }
    }
}
