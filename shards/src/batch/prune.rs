//! A batch without the rows that may not be folded, or with none at all. Rare: the ordinary batch is taken as it came.
//!
//! Which rows those are is decided by [`crate::live_lanes`].

use super::aligned::AlignedBytes;
use super::columns::{ColumnSet, bit};
use super::encode::encode;
use super::error::EncodeError;
use super::view::{BatchView, Column, Indices};
use super::wire::Stamp;
use corefold_aggregator::spec::FieldType;
use corefold_aggregator::time::EventTime;

/// A batch of the rows of `batch` whose time is at most `latest`; its stamp counts the others as rejected.
pub fn without_later(
    batch: &BatchView<'_>,
    latest: EventTime,
    kinds: &[FieldType],
    fingerprint: u64,
) -> Result<AlignedBytes, EncodeError> {
    let times = batch.times();
    let kept: Vec<usize> = (0..batch.rows()).filter(|&row| times.get(row) <= latest.0).collect();
    let mut columns = ColumnSet::new(kinds);
    columns.times.extend(kept.iter().map(|&row| times.get(row)));
    for (index, column) in columns.columns.iter_mut().enumerate() {
        let source = batch.column(index);
        for &row in &kept {
            match &source {
                Column::I64 { values, validity } => {
                    let is_valid = validity.is_none_or(|bits| bit(bits, row));
                    column.push_i64(is_valid.then(|| values.get(row)));
                }
                Column::F64(values) => column.push_f64(Some(values[row])),
                Column::Bool(values) => column.push_bool((values[row] < 2).then(|| values[row] == 1)),
                Column::Str { dictionary, indices } => {
                    let entry = match indices {
                        Indices::U16(indices) => usize::from(indices[row]),
                        Indices::U32(indices) => indices[row] as usize,
                    };
                    let text = (entry < dictionary.len()).then(|| dictionary.get(entry).as_bytes());
                    // A subset of what one batch held fits into one again.
                    column.push_str(text).map_err(|_| EncodeError::TooLarge { max: super::BATCH_SIZE_MAX })?;
                }
            }
        }
    }
    let stamp = batch.stamp();
    let gone = (batch.rows() - kept.len()) as u32;
    let stamp = Stamp { rejected: stamp.rejected.saturating_add(gone), ..stamp };
    let mut bytes = AlignedBytes::new();
    encode(&columns, fingerprint, &stamp, &mut bytes)?;
    Ok(bytes)
}

/// What stands in the log for a batch of `rows` rows that was shed: no rows, a deadline before all time, and the number.
pub fn shed(stamp: &Stamp, rows: u32, kinds: &[FieldType], fingerprint: u64) -> Result<AlignedBytes, EncodeError> {
    let rejected = stamp.rejected.saturating_add(rows);
    let stamp = Stamp { deadline: EventTime::MIN, rejected, ..*stamp };
    let mut bytes = AlignedBytes::new();
    encode(&ColumnSet::new(kinds), fingerprint, &stamp, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::UnverifiedBatch;
    use corefold_aggregator::spec::Field;

    const KINDS: [FieldType; 4] = [FieldType::I64, FieldType::F64, FieldType::Bool, FieldType::String];

    fn fields() -> Vec<Field> {
        KINDS.iter().map(|kind| Field { name: kind.name().to_owned(), kind: *kind }).collect()
    }

    fn columns(rows: impl Iterator<Item = i64>) -> ColumnSet {
        let mut columns = ColumnSet::new(&KINDS);
        for row in rows {
            columns.times.push(row);
            columns.columns[0].push_i64((row % 3 != 0).then_some(row));
            columns.columns[1].push_f64((row % 4 != 0).then_some(row as f64 / 2.0));
            columns.columns[2].push_bool((row % 5 != 0).then_some(row % 2 == 0));
            let text = format!("t{}", row % 7);
            columns.columns[3].push_str((row % 6 != 0).then_some(text.as_bytes())).expect("a short text");
        }
        columns
    }

    #[test]
    fn what_is_left_is_as_if_the_others_had_never_been() {
        let stamp = Stamp { rejected: 2, ..Stamp::of_lane(9, 1, 5) };
        let times = || (0..60).map(|row| (row * 37) % 60);
        let mut whole = AlignedBytes::new();
        encode(&columns(times()), 77, &stamp, &mut whole).expect("a batch");
        let view = UnverifiedBatch::new(whole.as_slice()).verify(77, &fields()).expect("sound");
        let pruned = without_later(&view, EventTime(41), &KINDS, 77).expect("a batch");
        let mut expected = AlignedBytes::new();
        let stamp = Stamp { rejected: 2 + 18, ..stamp };
        encode(&columns(times().filter(|&time| time <= 41)), 77, &stamp, &mut expected).expect("a batch");
        assert_eq!(pruned.as_slice(), expected.as_slice());
        let none = without_later(&view, EventTime(-1), &KINDS, 77).expect("a batch");
        assert!(UnverifiedBatch::new(none.as_slice()).verify(77, &fields()).is_ok_and(|batch| batch.rows() == 0));
    }
}
