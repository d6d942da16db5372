//! Reads Arrow files for those that cannot: a result of Corefold in brief, or events as plain columns.
//!
//!   answer summary RESULT.arrow           prints the canonical summary, as one line of JSON
//!   answer columns EVENTS.arrow OUTPUT    writes all times, then all keys, then all values, 8 bytes each

use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType, UInt64Type};
use arrow_array::{Array, RecordBatch, cast::AsArray};
use corefold_peers::events::{Events, batches_of, map_file};
use corefold_peers::report;
use corefold_peers::summary::{ResultRow, Summary};
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["summary", path] => summarize(Path::new(path)),
        ["columns", from, to] => write_columns(Path::new(from), Path::new(to)),
        _ => Err("wanted: summary RESULT.arrow, or columns EVENTS.arrow OUTPUT".to_owned()),
    };
    report::finish("answer", result)
}

fn summarize(path: &Path) -> Result<(), String> {
    let fail = |what: String| format!("{}: {what}", path.display());
    let buffer = map_file(path).map_err(|error| fail(error.to_string()))?;
    let mut summary = Summary::default();
    for batch in batches_of(&buffer).map_err(fail)? {
        add(&mut summary, &batch).map_err(fail)?;
    }
    report::print(&json!({ "answer": summary.to_json() }))
}

fn add(summary: &mut Summary, batch: &RecordBatch) -> Result<(), String> {
    let column = |name: &str| batch.column_by_name(name).ok_or(format!("no column {name}"));
    let starts_us = column("window_start")?.as_primitive_opt::<TimestampMicrosecondType>().ok_or("window_start")?;
    let keys = unsigned(column("key")?.as_ref())?;
    let counts = unsigned(column("count")?.as_ref())?;
    let numbers = ["sum_value", "min_value", "max_value"]
        .map(|name| Ok::<_, String>(column(name)?.as_primitive_opt::<Float64Type>().ok_or(name)?.values()));
    let [sums, mins, maxs] = numbers;
    let (sums, mins, maxs) = (sums?, mins?, maxs?);
    for index in 0..batch.num_rows() {
        let start_us = starts_us.value(index);
        if start_us % 1_000 != 0 {
            return Err(format!("row {index}: a window starts within a millisecond"));
        }
        summary.add(&ResultRow {
            window_ms: start_us / 1_000,
            key: keys[index],
            count: counts[index],
            sum: sums[index],
            min: mins[index],
            max: maxs[index],
        });
    }
    Ok(())
}

/// Whole numbers of either sign; none may be below 0.
fn unsigned(array: &dyn Array) -> Result<Vec<u64>, String> {
    if array.null_count() > 0 {
        return Err("a null where none may be".to_owned());
    }
    if let Some(values) = array.as_primitive_opt::<UInt64Type>() {
        return Ok(values.values().to_vec());
    }
    let values = array.as_primitive_opt::<Int64Type>().ok_or("a column that is neither i64 nor u64")?;
    values.values().iter().map(|&value| u64::try_from(value).map_err(|_| format!("{value} is below 0"))).collect()
}

fn write_columns(from: &Path, to: &Path) -> Result<(), String> {
    let events = Events::map(from)?;
    let fail = |error: std::io::Error| format!("{}: {error}", to.display());
    let mut file = BufWriter::with_capacity(1 << 20, File::create(to).map_err(fail)?);
    for column in 0..3 {
        for columns in events.iter() {
            let bits = |index: usize| match column {
                0 => columns.times_ms[index] as u64,
                1 => columns.keys[index],
                _ => columns.values[index].to_bits(),
            };
            for index in 0..columns.times_ms.len() {
                file.write_all(&bits(index).to_le_bytes()).map_err(fail)?;
            }
        }
    }
    file.flush().map_err(fail)
}
