//! The digest of results: the same rows give the same digest, in whatever order they come.
//!
//! It costs a few multiplications per row, so that it can be taken within the measured time, of the engine and of the
//! hand-written loop alike. Which rows are right is in [`super::reference`].

use super::BenchError;
use super::keys::keys_of;
use corefold_aggregator::result::{OutputColumn, ResultBatch};
use std::fmt;

/// Rows, and a sum of their hashes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Digest {
    /// How many rows there are.
    pub rows: u64,
    /// Sum of their hashes.
    pub hash: u64,
}

/// One result row: the values of one group in one window. Doubles by their bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ResultRow {
    /// End of the window in microseconds.
    pub end: i64,
    /// The group.
    pub key: i64,
    /// Events.
    pub count: u64,
    /// Bits of their sum.
    pub sum: u64,
    /// Bits of the smallest.
    pub min: u64,
    /// Bits of the largest.
    pub max: u64,
}

const ODD: [u64; 7] = [
    0x9e37_79b9_7f4a_7c15,
    0xd1b5_4a32_d192_ed03,
    0x2545_f491_4f6c_dd1d,
    0x8cb9_2ba7_2f3d_8dd7,
    0xaef1_7502_108e_f2d9,
    0xf135_7aea_2e62_a9c5,
    0xbf58_476d_1ce4_e5b9,
];

impl Digest {
    /// Adds a row.
    #[inline(always)]
    pub fn add(&mut self, row: &ResultRow) {
        let place = folded(row.end as u64 ^ ODD[0], row.key as u64 ^ ODD[1]);
        let sum = folded(row.count ^ ODD[2], row.sum ^ ODD[3]);
        let range = folded(row.min ^ ODD[4], row.max ^ ODD[5]);
        let hash = folded(place.wrapping_add(sum.rotate_left(20)) ^ ODD[6], range ^ place.rotate_left(41));
        self.rows += 1;
        self.hash = self.hash.wrapping_add(hash);
    }

    /// Adds all rows of a batch with the columns `window_start`, `window_end`, a key, count, sum, min, max.
    pub fn add_batch(&mut self, batch: &ResultBatch) -> Result<(), BenchError> {
        let shape = || BenchError::Failed("the results have other columns than were asked for".to_owned());
        let [_, OutputColumn::Time(ends), key, count, sum, min, max] = &batch.columns[..] else { return Err(shape()) };
        let keys: &[i64] = &keys_of(key, batch.rows).ok_or_else(shape)?;
        let OutputColumn::I64 { values: counts, .. } = count else { return Err(shape()) };
        match (sum, min, max) {
            (
                OutputColumn::F64 { values: sums, .. },
                OutputColumn::F64 { values: mins, .. },
                OutputColumn::F64 { values: maxs, .. },
            ) => self.add_columns(batch.rows, ends, [keys, counts], [sums, mins, maxs], |value| value.to_bits()),
            (
                OutputColumn::I64 { values: sums, .. },
                OutputColumn::I64 { values: mins, .. },
                OutputColumn::I64 { values: maxs, .. },
            ) => self.add_columns(batch.rows, ends, [keys, counts], [sums, mins, maxs], |value| value as u64),
            _ => return Err(shape()),
        }
        Ok(())
    }

    /// Adds rows that stand in columns.
    pub fn add_columns<V: Copy>(
        &mut self,
        rows: usize,
        ends: &[i64],
        [keys, counts]: [&[i64]; 2],
        [sums, mins, maxs]: [&[V]; 3],
        bits: impl Fn(V) -> u64,
    ) {
        for row in 0..rows {
            self.add(&ResultRow {
                end: ends[row],
                key: keys[row],
                count: counts[row] as u64,
                sum: bits(sums[row]),
                min: bits(mins[row]),
                max: bits(maxs[row]),
            });
        }
    }

    /// Adds what another digest has.
    pub fn join(&mut self, other: Digest) {
        self.rows += other.rows;
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, digest {:016x}", self.rows, self.hash)
    }
}

#[inline(always)]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_counts_and_the_order_does_not() {
        let row = ResultRow { end: 1, key: 2, count: 3, sum: 4, min: 5, max: 6 };
        let of = |rows: &[ResultRow]| {
            let mut digest = Digest::default();
            rows.iter().for_each(|row| digest.add(row));
            digest
        };
        let other = ResultRow { key: 7, ..row };
        assert_eq!(of(&[row, other]), of(&[other, row]));
        let changed = [
            ResultRow { end: 2, ..row },
            ResultRow { key: 3, ..row },
            ResultRow { count: 4, ..row },
            ResultRow { sum: 5, ..row },
            ResultRow { min: 6, ..row },
            ResultRow { max: 7, ..row },
            // Values that change places.
            ResultRow { count: 4, sum: 3, ..row },
            ResultRow { min: 6, max: 5, ..row },
            ResultRow { end: 2, key: 1, ..row },
        ];
        for changed in changed {
            assert_ne!(of(&[changed]), of(&[row]), "{changed:?}");
        }
        assert_ne!(of(&[row, row]), of(&[row]));
    }
}
