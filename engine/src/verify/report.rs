//! What verification tells, as text for people or one JSON object a line for programs, and what it counts.

use std::io::{self, BufWriter, Write};

use serde_json::{Value, json};

use super::VerifyError;
use crate::exit::ExitCode;

/// See the module.
pub(super) struct Report<'o> {
    out: BufWriter<&'o mut dyn Write>,
    json: bool,
    findings: u64,
    unreadable: u64,
}

impl<'o> Report<'o> {
    pub(super) fn new(out: &'o mut dyn Write, json: bool) -> Report<'o> {
        Report { out: BufWriter::new(out), json, findings: 0, unreadable: 0 }
    }

    /// Something that is as it should be.
    pub(super) fn fact(&mut self, text: &str, value: &Value) -> io::Result<()> {
        if self.json { writeln!(self.out, "{value}") } else { writeln!(self.out, "{text}") }
    }

    /// Something that is not.
    pub(super) fn finding(&mut self, place: &str, what: &str) -> io::Result<()> {
        self.findings += 1;
        self.fact(&format!("FINDING {place}: {what}"), &json!({ "type": "finding", "place": place, "what": what }))
    }

    /// Something that nobody can tell, since it cannot be read.
    pub(super) fn unreadable(&mut self, place: &str, what: &str) -> io::Result<()> {
        self.unreadable += 1;
        self.fact(
            &format!("UNREADABLE {place}: {what}"),
            &json!({ "type": "unreadable", "place": place, "what": what }),
        )
    }

    /// The last word.
    pub(super) fn end(mut self) -> Result<ExitCode, VerifyError> {
        let (findings, unreadable) = (self.findings, self.unreadable);
        let text = match (findings, unreadable) {
            (0, 0) => "sound".to_owned(),
            (_, 0) => format!("{findings} findings"),
            _ => format!("{findings} findings, {unreadable} places cannot be read"),
        };
        self.fact(&text, &json!({ "type": "end", "findings": findings, "unreadable": unreadable }))?;
        self.out.flush()?;
        Ok(match (findings, unreadable) {
            (0, 0) => ExitCode::Done,
            (_, 0) => ExitCode::Failure,
            _ => ExitCode::Io,
        })
    }
}
