//! The line of JSON that every peer's program ends with.

use crate::summary::Summary;
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;

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
