//! Group keys of one batch as small numbers: rows with the same `by` values get the same number.
//!
//! A text column brings its dictionary, so its keys are looked up once per entry and not once per row; columns
//! are combined pair by pair. Slots of groups are not known here.

use super::sketches::text_index;
use crate::batch::columns::bit;
use crate::batch::wire::{BatchView, Column};
use corefold_aggregator::key;

/// Local keys of the rows of one batch, reused from batch to batch.
#[derive(Debug, Default)]
pub struct LocalKeys {
    /// Local key of each row.
    pub ids: Vec<u32>,
    /// One past the highest local key.
    pub count: usize,
    column: Vec<u32>,
    codes: Codes,
}

impl LocalKeys {
    /// Computes the local keys of `batch` by the fields `by`, of which there is at least one.
    pub fn compute(&mut self, batch: &BatchView<'_>, by: &[usize]) {
        let rows = batch.rows();
        self.count = self.codes.encode(&batch.column(by[0]), rows, &mut self.ids);
        for &field in &by[1..] {
            let mut column = std::mem::take(&mut self.column);
            let width = self.codes.encode(&batch.column(field), rows, &mut column);
            self.combine(&column, width);
            self.column = column;
        }
    }

    fn combine(&mut self, column: &[u32], width: usize) {
        // A table as large as a few batches is cheaper than hashing every row.
        if self.count * width <= 1024.max(4 * column.len()) {
            for (id, &code) in self.ids.iter_mut().zip(column) {
                *id = *id * width as u32 + code;
            }
            self.count *= width;
        } else {
            self.codes.start(column.len());
            for (id, &code) in self.ids.iter_mut().zip(column) {
                *id = self.codes.code((u64::from(*id) << 32) | u64::from(code));
            }
            self.count = self.codes.next as usize;
        }
    }
}

/// Appends the encoded key of row `event`.
pub fn encode_key(batch: &BatchView<'_>, by: &[usize], event: usize, key: &mut Vec<u8>) {
    for &field in by {
        match batch.column(field) {
            Column::I64 { values, validity } => {
                if validity.is_none_or(|bits| bit(bits, event)) {
                    key::push_i64(key, values.get(event));
                } else {
                    key::push_null(key);
                }
            }
            Column::F64(values) => key::push_f64(key, values[event]),
            Column::Bool(values) if values[event] < 2 => key::push_bool(key, values[event] == 1),
            Column::Bool(_) => key::push_null(key),
            Column::Str { dictionary, indices } => {
                let index = text_index(&indices, event) as usize;
                if index < dictionary.len() {
                    key::push_text(key, dictionary.get(index).as_bytes());
                } else {
                    key::push_null(key);
                }
            }
        }
    }
}

/// Numbers for 64-bit values, by open addressing; an entry counts only in the round that wrote it.
#[derive(Debug, Default)]
struct Codes {
    places: Vec<(u64, u32, u32)>,
    round: u32,
    next: u32,
}

impl Codes {
    /// Codes of one column's rows into `into`; returns one past the highest.
    fn encode(&mut self, column: &Column<'_>, rows: usize, into: &mut Vec<u32>) -> usize {
        into.clear();
        match column {
            Column::Str { dictionary, indices } => {
                into.extend((0..rows).map(|event| text_index(indices, event)));
                dictionary.len() + 1
            }
            Column::Bool(values) => {
                into.extend(values.iter().map(|&value| u32::from(value)));
                3
            }
            Column::F64(values) => {
                self.start(rows);
                // All nulls are one key, whatever their bits.
                let null = f64::NAN.to_bits();
                into.extend(
                    values.iter().map(|value| self.code(if value.is_nan() { null } else { (value + 0.0).to_bits() })),
                );
                self.next as usize
            }
            Column::I64 { values, validity } => {
                self.start(rows);
                // Code 0 is null.
                self.next = 1;
                into.extend((0..rows).map(|event| {
                    if validity.is_none_or(|bits| bit(bits, event)) { self.code(values.get(event) as u64) } else { 0 }
                }));
                self.next as usize
            }
        }
    }

    fn start(&mut self, rows: usize) {
        let size = (2 * rows.max(32)).next_power_of_two();
        if self.places.len() < size || self.round == u32::MAX {
            self.places.clear();
            self.places.resize(size, (0, 0, 0));
            self.round = 0;
        }
        self.round += 1;
        self.next = 0;
    }

    #[inline(always)]
    fn code(&mut self, value: u64) -> u32 {
        let mask = self.places.len() - 1;
        let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut at = (mixed ^ (mixed >> 32)) as usize & mask;
        loop {
            let (known, round, code) = self.places[at];
            if round != self.round {
                let code = self.next;
                self.places[at] = (value, self.round, code);
                self.next += 1;
                return code;
            }
            if known == value {
                return code;
            }
            at = (at + 1) & mask;
        }
    }
}
