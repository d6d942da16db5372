//! Rows that came too late for their pane, with all their columns, as they are given to the late file.
//!
//! How they are ordered and written is not here.

use crate::batch::columns::bit;
use crate::batch::wire::{BatchView, Column};
use crate::fold::sketches::{LanePosition, text_index};
use corefold_aggregator::result::OutputColumn;
use corefold_aggregator::spec::OutputType;

/// Late rows of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct LateRows {
    /// Lane of the rows.
    pub lane: u32,
    /// Ordinal of each row in its lane.
    pub row_numbers: Vec<u64>,
    /// Event time of each row, microseconds.
    pub times: Vec<i64>,
    /// The stream's fields.
    pub columns: Vec<OutputColumn>,
}

impl LateRows {
    /// The rows `events` of `batch`.
    pub fn of(batch: &BatchView<'_>, events: &[u32]) -> LateRows {
        let (position, times) = (LanePosition::of(batch), batch.times());
        LateRows {
            lane: position.lane,
            row_numbers: events.iter().map(|&event| position.row(event)).collect(),
            times: events.iter().map(|&event| times.get(event as usize)).collect(),
            columns: (0..batch.columns()).map(|index| take(&batch.column(index), events)).collect(),
        }
    }
}

fn take(column: &Column<'_>, events: &[u32]) -> OutputColumn {
    let events = events.iter().map(|&event| event as usize);
    match column {
        Column::I64 { values, validity } => OutputColumn::I64 {
            values: events.clone().map(|event| values.get(event)).collect(),
            valid: events.map(|event| validity.is_none_or(|bits| bit(bits, event))).collect(),
        },
        Column::F64(values) => OutputColumn::F64 {
            values: events.clone().map(|event| values[event]).collect(),
            valid: events.map(|event| !values[event].is_nan()).collect(),
        },
        Column::Bool(values) => OutputColumn::Bool {
            values: events.clone().map(|event| values[event] == 1).collect(),
            valid: events.map(|event| values[event] < 2).collect(),
        },
        Column::Str { dictionary, indices } => {
            let mut column = OutputColumn::new(OutputType::String);
            if let OutputColumn::String { offsets, bytes, valid } = &mut column {
                for event in events {
                    let index = text_index(indices, event) as usize;
                    let some = index < dictionary.len();
                    if some {
                        bytes.extend_from_slice(dictionary.get(index).as_bytes());
                    }
                    offsets.push(bytes.len() as u32);
                    valid.push(some);
                }
            }
            column
        }
    }
}
