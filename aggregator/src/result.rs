//! Rows as they leave the engine: typed columns of finished windows.
//!
//! How they are written to files is not here; exporters take these as they are.

use crate::spec::OutputType;
use std::ops::Range;

/// Name and type of one output column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputField {
    /// Column name.
    pub name: String,
    /// Column type.
    pub kind: OutputType,
    /// Whether a value may be null.
    pub nullable: bool,
}

/// Columns of a view's output: `window_start`, `window_end`, the `by` columns, the aggregates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputSchema {
    /// All columns, in order.
    pub columns: Vec<OutputField>,
    /// Which of them are the `by` columns.
    pub by: Range<usize>,
}

/// Rows of one or more windows, sorted by window end and then by group.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ResultBatch {
    /// Number of rows; every column has as many values.
    pub rows: usize,
    /// One entry per column of the schema.
    pub columns: Vec<OutputColumn>,
    /// Rows that hold the `__other__` group. Its `by` values are `__other__` in string columns and null in
    /// others; text outputs print `__other__` in all of them.
    pub other_rows: Vec<usize>,
}

/// Values of one output column.
#[derive(Clone, PartialEq, Debug)]
pub enum OutputColumn {
    /// Microseconds since the epoch, never null.
    Time(Vec<i64>),
    /// Integers.
    I64 {
        /// One value per row; meaningless where not valid.
        values: Vec<i64>,
        /// False where null.
        valid: Vec<bool>,
    },
    /// Doubles, never NaN where valid.
    F64 {
        /// One value per row; meaningless where not valid.
        values: Vec<f64>,
        /// False where null.
        valid: Vec<bool>,
    },
    /// Truth values.
    Bool {
        /// One value per row; meaningless where not valid.
        values: Vec<bool>,
        /// False where null.
        valid: Vec<bool>,
    },
    /// Text: value `i` is `bytes[offsets[i]..offsets[i + 1]]`, UTF-8.
    String {
        /// One more than there are rows, starting at 0.
        offsets: Vec<u32>,
        /// All values, one after the other.
        bytes: Vec<u8>,
        /// False where null.
        valid: Vec<bool>,
    },
}

impl OutputColumn {
    /// An empty column of type `kind`.
    pub fn new(kind: OutputType) -> OutputColumn {
        match kind {
            OutputType::Time => OutputColumn::Time(Vec::new()),
            OutputType::I64 => OutputColumn::I64 { values: Vec::new(), valid: Vec::new() },
            OutputType::F64 => OutputColumn::F64 { values: Vec::new(), valid: Vec::new() },
            OutputType::Bool => OutputColumn::Bool { values: Vec::new(), valid: Vec::new() },
            OutputType::String => OutputColumn::String { offsets: vec![0], bytes: Vec::new(), valid: Vec::new() },
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            OutputColumn::Time(values) => values.len(),
            OutputColumn::I64 { values, .. } => values.len(),
            OutputColumn::F64 { values, .. } => values.len(),
            OutputColumn::Bool { values, .. } => values.len(),
            OutputColumn::String { valid, .. } => valid.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for `rows` more values, text aside.
    pub fn reserve(&mut self, rows: usize) {
        match self {
            OutputColumn::Time(values) => values.reserve(rows),
            OutputColumn::I64 { values, valid } => {
                values.reserve(rows);
                valid.reserve(rows);
            }
            OutputColumn::F64 { values, valid } => {
                values.reserve(rows);
                valid.reserve(rows);
            }
            OutputColumn::Bool { values, valid } => {
                values.reserve(rows);
                valid.reserve(rows);
            }
            OutputColumn::String { offsets, valid, .. } => {
                offsets.reserve(rows);
                valid.reserve(rows);
            }
        }
    }

    /// Forgets all values, keeps the memory.
    pub fn clear(&mut self) {
        match self {
            OutputColumn::Time(values) => values.clear(),
            OutputColumn::I64 { values, valid } => {
                values.clear();
                valid.clear();
            }
            OutputColumn::F64 { values, valid } => {
                values.clear();
                valid.clear();
            }
            OutputColumn::Bool { values, valid } => {
                values.clear();
                valid.clear();
            }
            OutputColumn::String { offsets, bytes, valid } => {
                offsets.truncate(1);
                bytes.clear();
                valid.clear();
            }
        }
    }

    /// Whether a value is null.
    pub fn has_nulls(&self) -> bool {
        self.valid().is_some_and(|valid| !valid.iter().all(|&valid| valid))
    }

    /// Appends the values of `from`, which has the same type, at `rows`. `has_nulls` is what `from` says of itself: asked
    /// once, not for every gathering.
    pub fn gather(&mut self, from: &OutputColumn, has_nulls: bool, rows: &[u32]) {
        let take_valid = |to: &mut Vec<bool>, from: &[bool]| match has_nulls {
            true => take(to, from, rows),
            false => to.resize(to.len() + rows.len(), true),
        };
        use OutputColumn::{Bool, F64, I64, String, Time};
        match (self, from) {
            (Time(to), Time(from)) => take(to, from, rows),
            (I64 { values: to, valid: to_valid }, I64 { values, valid }) => {
                take(to, values, rows);
                take_valid(to_valid, valid);
            }
            (F64 { values: to, valid: to_valid }, F64 { values, valid }) => {
                take(to, values, rows);
                take_valid(to_valid, valid);
            }
            (Bool { values: to, valid: to_valid }, Bool { values, valid }) => {
                take(to, values, rows);
                take_valid(to_valid, valid);
            }
            (String { offsets: to, bytes: to_bytes, valid: to_valid }, String { offsets, bytes, valid }) => {
                for &row in rows {
                    let row = row as usize;
                    to_bytes.extend_from_slice(&bytes[offsets[row] as usize..offsets[row + 1] as usize]);
                    to.push(to_bytes.len() as u32);
                }
                take_valid(to_valid, valid);
            }
            (to, from) => unreachable!("{from:?} gathered into {to:?}"),
        }
    }

    /// Which values are there; all of a column of times.
    pub fn valid(&self) -> Option<&[bool]> {
        match self {
            OutputColumn::Time(_) => None,
            OutputColumn::I64 { valid, .. }
            | OutputColumn::F64 { valid, .. }
            | OutputColumn::Bool { valid, .. }
            | OutputColumn::String { valid, .. } => Some(valid),
        }
    }

    /// Text of row `row`, `None` where null. Only for string columns; others have no text.
    pub fn text(&self, row: usize) -> Option<&str> {
        match self {
            OutputColumn::String { offsets, bytes, valid } if valid[row] => {
                std::str::from_utf8(&bytes[offsets[row] as usize..offsets[row + 1] as usize]).ok()
            }
            _ => None,
        }
    }
}

fn take<T: Copy>(to: &mut Vec<T>, from: &[T], rows: &[u32]) {
    to.extend(rows.iter().map(|&row| from[row as usize]));
}
