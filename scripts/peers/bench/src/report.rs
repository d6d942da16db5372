//! The line of JSON that every peer's program ends with.

use crate::summary::Summary;
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

/// Reads the clock and the processor time of the whole process, and later tells what has passed.
pub struct Stopwatch {
    start: Instant,
    start_cpu_s: f64,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Stopwatch {
        Stopwatch { start: Instant::now(), start_cpu_s: cpu_s() }
    }

    /// Puts what has passed into `report` under `name` (`query`: `query_s` and `query_cpu_s`).
    pub fn put(&self, report: &mut Value, name: &str) {
        report[format!("{name}_s")] = json!(self.start.elapsed().as_secs_f64());
        report[format!("{name}_cpu_s")] = json!(cpu_s() - self.start_cpu_s);
    }
}

/// Processor time of all threads so far.
fn cpu_s() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is valid for writes.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0, "Linux has this clock");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Puts the summary into `report`: in full if results were hashed, otherwise what was counted.
pub fn put_summary(report: &mut Value, summary: &Summary, checked: bool) {
    let whole = summary.to_json();
    if checked {
        report["answer"] = whole;
    } else {
        report["answer"] = json!({ "rows": whole["rows"], "events": whole["events"] });
    }
}

/// Writes the line.
pub fn print(report: &Value) -> Result<(), String> {
    writeln!(std::io::stdout(), "{report}").map_err(|error| error.to_string())
}

/// The program's end: an error is told by name.
pub fn finish(program: &str, result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            // Without standard error there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{program}: {what}");
            ExitCode::FAILURE
        }
    }
}
