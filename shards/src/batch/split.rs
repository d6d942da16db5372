//! Cuts the rows of a batch into parts by the hash of their key, one part for each shard.
//!
//! Which shard gets which part is the dealer's business. The hash decides cost alone, never results.

use corefold_aggregator::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

use super::columns::{ColumnData, ColumnSet, NULL_INDEX};

/// Some rows of a batch, and what the batch's other rows mean to them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part<'a> {
    /// Places of the rows in the whole batch, strictly increasing.
    pub rows: &'a [u32],
    /// For each row of the *whole* batch: the latest time of the rows before it, `i64::MIN` for the first. `None`
    /// when no row can be late because of its own batch.
    pub high_waters: Option<&'a [i64]>,
}

/// Splits batches; keeps its memory from one to the next.
#[derive(Debug, Default)]
pub struct Splitter {
    parts: Vec<Vec<u32>>,
    hashes: Vec<u64>,
    entries: Vec<u64>,
    high_waters: Vec<i64>,
    may_be_late: bool,
}

/// Stands for null in place of a value's hash.
const NULL_HASH: u64 = 0x9E37_79B9_7F4A_7C15;

impl Splitter {
    /// A splitter into `parts` parts.
    ///
    /// Panics when `parts` is 0.
    pub fn new(parts: u16) -> Splitter {
        assert!(parts > 0, "a batch has at least one part");
        Splitter { parts: vec![Vec::new(); usize::from(parts)], ..Splitter::default() }
    }

    /// Assigns each row to a part by the values of the columns `by`.
    ///
    /// Rows with equal values, whatever batch they are in, get the same part. Panics when `by` names no column.
    pub fn split(&mut self, columns: &ColumnSet, by: &[usize], delay_max: Duration) {
        self.hashes.clear();
        self.hashes.resize(columns.rows(), 0);
        for &column in by {
            self.add_column(&columns.columns[column]);
        }
        self.parts.iter_mut().for_each(Vec::clear);
        let parts = self.parts.len() as u128;
        for (row, &hash) in self.hashes.iter().enumerate() {
            // The high half of the product spreads the hashes evenly over 0..parts.
            let part = (u128::from(finish(hash)) * parts) >> 64;
            self.parts[part as usize].push(row as u32);
        }
        self.may_be_late = high_waters(&columns.times, delay_max, &mut self.high_waters);
    }

    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Part number `part` of the batch that was split last; it may have no rows.
    pub fn part(&self, part: usize) -> Part<'_> {
        Part { rows: &self.parts[part], high_waters: self.may_be_late.then_some(&self.high_waters[..]) }
    }

    fn add_column(&mut self, column: &ColumnData) {
        let hashes = &mut self.hashes;
        match column {
            ColumnData::I64 { values, validity } => {
                for (row, (hash, &value)) in hashes.iter_mut().zip(values).enumerate() {
                    let valid = validity.as_ref().is_none_or(|bits| bits.get(row));
                    *hash = combine(*hash, if valid { value.cast_unsigned() } else { NULL_HASH });
                }
            }
            ColumnData::F64 { values } => {
                for (hash, &value) in hashes.iter_mut().zip(values) {
                    // Adding zero turns the negative zero into the other one.
                    *hash = combine(*hash, if value.is_nan() { NULL_HASH } else { (value + 0.0).to_bits() });
                }
            }
            ColumnData::Bool { values } => {
                for (hash, &value) in hashes.iter_mut().zip(values) {
                    *hash = combine(*hash, u64::from(value));
                }
            }
            ColumnData::Str { dictionary, indices } => {
                self.entries.clear();
                let entries = (0..dictionary.len() as u32).map(|entry| xxh3_64(dictionary.get(entry).as_bytes()));
                self.entries.extend(entries);
                for (hash, &index) in hashes.iter_mut().zip(indices) {
                    let value = if index == NULL_INDEX { NULL_HASH } else { self.entries[index as usize] };
                    *hash = combine(*hash, value);
                }
            }
        }
    }
}

/// For each row the latest time before it; returns whether any row could be late because of that.
///
/// An event is late when its pane, which ends after it, ends at or before the watermark; so one that is not below
/// the watermark cannot be late.
fn high_waters(times: &[i64], delay_max: Duration, out: &mut Vec<i64>) -> bool {
    out.clear();
    let mut high = i64::MIN;
    let mut may_be_late = false;
    for &time in times {
        out.push(high);
        may_be_late |= time < high.saturating_sub(delay_max.micros());
        high = high.max(time);
    }
    may_be_late
}

#[inline]
fn combine(hash: u64, value: u64) -> u64 {
    (hash.rotate_left(23) ^ value).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

#[inline]
fn finish(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    hash ^ (hash >> 29)
}
