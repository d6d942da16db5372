//! Where an inspector's lines go.

use super::{InspectError, Inspected};
use serde_json::Value;
use std::io::{BufWriter, Write};

/// Text or JSON, one line each, and what was seen.
pub(super) struct Report<'o> {
    pub(super) out: BufWriter<&'o mut dyn Write>,
    pub(super) json: bool,
    pub(super) seen: Inspected,
}

impl<'o> Report<'o> {
    pub(super) fn new(out: &'o mut dyn Write, json: bool) -> Report<'o> {
        Report { out: BufWriter::new(out), json, seen: Inspected::default() }
    }

    pub(super) fn tell(&mut self, text: &str, value: &Value) -> Result<(), InspectError> {
        let told = if self.json { writeln!(self.out, "{value}") } else { writeln!(self.out, "{text}") };
        told.map_err(InspectError::Output)
    }
}
