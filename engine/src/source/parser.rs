//! Turns chunks into columns; one parser for each thread that parses.
//!
//! Cutting chunks is not here, nor the decision which thread parses what.

use std::sync::Arc;

use corefold_aggregator::spec::FieldType;
use corefold_shards::batch::columns::ColumnSet;

use super::error::SourceError;
use super::plan::{Nulls, OnError, ReadPlan};
use super::tokens::{Tokens, place_of, row_error};
use super::values::{Faults, ValueFault, decode_column, decode_times, text_error};
use super::{Chunk, Layout, Payload, columnar, csv, ndjson};

/// Turns chunks of any lane of one plan into columns.
pub struct Parser {
    plan: Arc<ReadPlan>,
    names: Vec<String>,
    slots: Vec<usize>,
    nulls: Nulls,
    tokens: Tokens,
    faults: Faults,
    first_rejection: Option<SourceError>,
}

impl Parser {
    /// A parser for the chunks of inputs opened with `plan`.
    pub fn new(plan: Arc<ReadPlan>) -> Parser {
        let (names, slots) = plan.columns();
        let nulls = Nulls::new(&plan.nulls);
        Parser {
            plan,
            names,
            slots,
            nulls,
            tokens: Tokens::default(),
            faults: Faults::default(),
            first_rejection: None,
        }
    }

    /// The types of the columns to parse into.
    pub fn kinds(&self) -> Vec<FieldType> {
        self.plan.fields.iter().map(|field| field.kind).collect()
    }

    /// Replaces what is in `out`, which has a column for each field of the plan, by the rows of `chunk`.
    ///
    /// Bad rows are an error, or with [`OnError::Skip`] left out and counted in `out.rejected`. After an error
    /// `out` is of no use.
    pub fn parse(&mut self, chunk: &Chunk, out: &mut ColumnSet) -> Result<(), SourceError> {
        out.clear();
        match &chunk.payload {
            Payload::Text(bytes) => self.parse_text(chunk, bytes, out)?,
            Payload::Arrow(batches) => {
                let rejection = columnar::convert(&self.plan, chunk, batches, &self.nulls, out)?;
                self.first_rejection = self.first_rejection.take().or(rejection);
            }
        }
        debug_assert!(out.columns.iter().all(|column| column.len() == out.rows()));
        Ok(())
    }

    /// The first row that was left out since the last call, as the error it would have been.
    pub fn take_first_rejection(&mut self) -> Option<SourceError> {
        self.first_rejection.take()
    }

    fn parse_text(&mut self, chunk: &Chunk, text: &[u8], out: &mut ColumnSet) -> Result<(), SourceError> {
        let stop = self.plan.on_error == OnError::Fail;
        self.tokens.clear(self.names.len());
        match &chunk.lane.layout {
            Layout::Csv(layout) => csv::tokenize(layout, text, stop, &mut self.tokens),
            Layout::Ndjson => ndjson::tokenize(&self.names, text, stop, &mut self.tokens),
            Layout::Arrow(_) => debug_assert!(false, "a columnar lane hands out no text"),
        }
        self.decode(text, out);
        let earliest = self.earliest_error(chunk, text);
        match (self.plan.on_error, self.faults.first) {
            (OnError::Fail, _) => return earliest.map_or(Ok(()), Err),
            // Not the row's fault.
            (OnError::Skip, Some((_, _, ValueFault::TooMuchText))) => return earliest.map_or(Ok(()), Err),
            _ => {}
        }
        if self.first_rejection.is_none() {
            self.first_rejection = earliest;
        }
        let mut rejected = self.tokens.rejected;
        if self.faults.first.is_some() {
            // Once more without the bad rows, so that they leave nothing behind, not even in a dictionary.
            let rows = self.faults.sorted();
            rejected += rows.len() as u32;
            self.tokens.remove_rows(rows);
            out.clear();
            self.decode(text, out);
            debug_assert!(self.faults.first.is_none());
        }
        out.rejected = rejected;
        Ok(())
    }

    /// Fills `out` from the tokens.
    fn decode(&mut self, text: &[u8], out: &mut ColumnSet) {
        let Parser { plan, slots, nulls, tokens, faults, .. } = self;
        faults.clear();
        decode_times(tokens, text, plan.time_unit, nulls, &mut out.times, faults);
        for (column, (slot, data)) in slots.iter().zip(&mut out.columns).enumerate() {
            decode_column(tokens, text, (*slot, column), nulls, data, faults);
        }
    }

    /// The error of the first bad row of a chunk, be it bad in form or in a value.
    fn earliest_error(&self, chunk: &Chunk, text: &[u8]) -> Option<SourceError> {
        let Parser { plan, tokens, faults, .. } = self;
        let lane = &chunk.lane;
        let by_value = faults.first.map(|(row, column, fault)| (tokens.row_starts[row as usize], row, column, fault));
        if let Some((start, fault)) = tokens.first_fault
            && by_value.is_none_or(|(other, ..)| start < other)
        {
            let fields = if let Layout::Csv(layout) = &lane.layout { layout.width() } else { 0 };
            return Some(row_error(&lane.name, place_of(chunk.start, text, start as usize), fault, fields));
        }
        let (start, row, column, fault) = by_value?;
        let (slot, name, kind) = match column {
            None => (0, &plan.time, None),
            Some(column) => (self.slots[column], &plan.fields[column].name, Some(plan.fields[column].kind)),
        };
        let span = tokens.spans[row as usize * tokens.width + slot];
        let place = place_of(chunk.start, text, start as usize);
        Some(text_error(&lane.name, place, name, kind, (tokens, text, span), fault))
    }
}
