//! What goes in comes out. Damaged bytes are not here.

use corefold_aggregator::spec::FieldType;
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::{
    AlignedBytes, BATCH_ALIGNMENT, Column, ColumnSet, EncodeError, Encoder, Indices, Integers, Stamp, UnverifiedBatch,
    encode, patch_stamp,
};
use proptest::prelude::*;

use crate::model::{Table, rows, stamps, tables};

const FINGERPRINT: u64 = 0x0123_4567_89AB_CDEF;

proptest! {
    #[test]
    fn every_value_comes_back(table in tables(0..70), stamp in stamps()) {
        let mut bytes = AlignedBytes::new();
        encode(&table.column_set(), FINGERPRINT, &stamp, &mut bytes).unwrap();
        prop_assert_eq!(bytes.len() % BATCH_ALIGNMENT, 0);

        let view = UnverifiedBatch::new(bytes.as_slice()).verify(FINGERPRINT, &table.fields()).unwrap();
        prop_assert_eq!(view.stamp(), stamp);
        prop_assert_eq!(view.rows(), table.rows());
        prop_assert_eq!(view.columns(), table.kinds.len());
        prop_assert_eq!(view.time_min().0, table.times.iter().copied().min().unwrap_or(i64::MAX));
        prop_assert_eq!(view.time_max().0, table.times.iter().copied().max().unwrap_or(i64::MIN));
        prop_assert_eq!(view.row_numbers(), None);
        prop_assert_eq!(view.high_waters(), None);
        let expected: Vec<_> = (0..table.rows()).map(|row| table.row(row)).collect();
        prop_assert_eq!(rows(&view), expected);

        let span = if view.rows() == 0 { 0 } else { view.time_max().0 - view.time_min().0 };
        let bits = match view.times() {
            Integers::Offsets16 { .. } => 16,
            Integers::Offsets32 { .. } => 32,
            Integers::Whole(_) => 64,
        };
        prop_assert_eq!(bits, if span >> 16 == 0 { 16 } else if span >> 32 == 0 { 32 } else { 64 });
    }

    /// Nothing of one batch shows in the next, not even in the padding.
    #[test]
    fn used_memory_makes_the_same_bytes_as_new(first in tables(0..40), second in tables(0..40), stamp in stamps()) {
        let mut fresh = AlignedBytes::new();
        encode(&second.column_set(), FINGERPRINT, &stamp, &mut fresh).unwrap();

        let (mut encoder, mut used) = (Encoder::new(), AlignedBytes::from(&[0xFF; 9_000][..]));
        encoder.encode(&first.column_set(), 1, &Stamp::of_lane(9, 9, 9), &mut used).unwrap();
        let mut set = second.column_set();
        set.clear();
        second.fill(&mut set);
        encoder.encode(&set, FINGERPRINT, &stamp, &mut used).unwrap();
        prop_assert_eq!(used.as_slice(), fresh.as_slice());
    }

    #[test]
    fn a_patched_stamp_is_the_stamp(table in tables(0..10), first in stamps(), second in stamps()) {
        let set = table.column_set();
        let (mut patched, mut expected) = (AlignedBytes::new(), AlignedBytes::new());
        encode(&set, FINGERPRINT, &first, &mut patched).unwrap();
        encode(&set, FINGERPRINT, &second, &mut expected).unwrap();
        patch_stamp(patched.as_mut_slice(), &second).unwrap();
        prop_assert_eq!(patched.as_slice(), expected.as_slice());
    }

    /// Rows taken back leave what was there before them.
    #[test]
    fn truncated_columns_are_shorter_columns(table in tables(1..40), keep in 0_usize..40) {
        let mut set = table.column_set();
        set.truncate(keep);
        let mut bytes = AlignedBytes::new();
        encode(&set, FINGERPRINT, &Stamp::of_lane(1, 2, 3), &mut bytes).unwrap();
        let view = UnverifiedBatch::new(bytes.as_slice()).verify(FINGERPRINT, &table.fields()).unwrap();
        let expected: Vec<_> = (0..keep.min(table.rows())).map(|row| table.row(row)).collect();
        prop_assert_eq!(rows(&view), expected);
    }
}

#[test]
fn a_batch_without_rows_still_carries_its_stamp() {
    let table = Table { kinds: vec![FieldType::String, FieldType::I64], times: vec![], columns: vec![vec![], vec![]] };
    let stamp = Stamp { rejected: 12, position: 99, ..Stamp::of_lane(1, 2, 3) };
    let mut bytes = AlignedBytes::new();
    encode(&table.column_set(), FINGERPRINT, &stamp, &mut bytes).unwrap();
    let view = UnverifiedBatch::new(bytes.as_slice()).verify(FINGERPRINT, &table.fields()).unwrap();
    assert_eq!(view.stamp(), stamp);
    assert_eq!(view.rows(), 0);
    assert_eq!((view.time_min(), view.time_max()), (EventTime::MAX, EventTime::MIN));
    assert!(view.times().is_empty());
}

/// Few bytes are the point of the forms, so which one is written is held, too.
#[test]
fn integers_that_are_close_together_take_few_bytes() {
    let size_of = |base: i64, span: i64, null: bool| {
        let mut set = ColumnSet::new(&[FieldType::I64]);
        for row in 0..1_000 {
            set.times.push(row);
            set.columns[0].push_i64((!null || row != 7).then_some(base + row % 2 * span));
        }
        let mut bytes = AlignedBytes::new();
        encode(&set, FINGERPRINT, &Stamp::of_lane(1, 2, 3), &mut bytes).unwrap();
        (bytes.len() - 2_000) / 1_000
    };
    for null in [false, true] {
        for (base, span, bytes) in [
            (0, 65_535, 2),
            (7 << 40, 65_535, 2),
            (-5, 10, 2),
            (0, 65_536, 4),
            (-40_000, 80_000, 4),
            (7 << 40, 1 << 20, 4),
            (0, 1 << 32, 8),
            (i64::MIN, i64::MAX, 8),
        ] {
            assert_eq!(size_of(base, span, null), bytes, "{base} and {span} more, with a null: {null}");
        }
    }
}

/// 65,536 rows, and dictionaries on both sides of what 16-bit indices hold.
#[test]
fn the_longest_dictionaries_come_back() {
    for (distinct, wide) in [(65_535, false), (65_536, true)] {
        let texts: Vec<String> = (0..65_536).map(|row| (row % distinct).to_string()).collect();
        let mut set = ColumnSet::new(&[FieldType::String]);
        for (row, text) in texts.iter().enumerate() {
            set.times.push(row as i64);
            set.columns[0].push_str(Some(text.as_bytes())).unwrap();
        }
        let mut bytes = AlignedBytes::new();
        encode(&set, FINGERPRINT, &Stamp::of_lane(1, 2, 3), &mut bytes).unwrap();
        let table = Table { kinds: vec![FieldType::String], times: vec![], columns: vec![] };
        let view = UnverifiedBatch::new(bytes.as_slice()).verify(FINGERPRINT, &table.fields()).unwrap();
        let Column::Str { dictionary, indices } = view.column(0) else { panic!("a string column") };
        assert_eq!(matches!(indices, Indices::U32(_)), wide);
        assert_eq!(dictionary.len(), distinct);
        for (row, text) in texts.iter().enumerate() {
            assert_eq!(dictionary.get(indices.get(row)), text);
        }
    }
}

#[test]
fn columns_that_no_batch_may_hold_are_refused() {
    let mut bytes = AlignedBytes::from(&b"old"[..]);
    let mut set = ColumnSet::new(&[]);
    let mut refusal = |set: &ColumnSet| {
        let error = encode(set, FINGERPRINT, &Stamp::of_lane(1, 2, 3), &mut bytes).unwrap_err();
        assert!(bytes.is_empty());
        error
    };
    set.times = vec![0; 65_537].into();
    assert_eq!(refusal(&set), EncodeError::TooManyRows { rows: 65_537, max: 65_536 });
    set.times = vec![0, EventTime::LATEST.0 + 1].into();
    assert_eq!(refusal(&set), EncodeError::InvalidTime { micros: EventTime::LATEST.0 + 1 });
    set.times = vec![EventTime::EARLIEST.0 - 1, 0].into();
    assert_eq!(refusal(&set), EncodeError::InvalidTime { micros: EventTime::EARLIEST.0 - 1 });

    // Three columns of texts that are each within their limit.
    let mut set = ColumnSet::new(&[FieldType::String; 3]);
    let text = vec![b'x'; 100 << 20];
    set.times = vec![0].into();
    for column in &mut set.columns {
        column.push_str(Some(&text)).unwrap();
    }
    assert_eq!(refusal(&set), EncodeError::TooLarge { max: 256 << 20 });

    // Distinct texts of rows that were taken back.
    let mut set = ColumnSet::new(&[FieldType::Bool, FieldType::String]);
    for row in 0..65_537_u32 {
        set.columns[1].push_str(Some(row.to_string().as_bytes())).unwrap();
    }
    set.truncate(0);
    assert_eq!(refusal(&set), EncodeError::TooManyEntries { column: 1, entries: 65_537, max: 65_536 });
}

#[test]
#[should_panic(expected = "column 0 and the times differ in length")]
fn ragged_columns_are_a_programming_error() {
    let mut set = ColumnSet::new(&[FieldType::Bool]);
    set.times.push(0);
    let _ = encode(&set, FINGERPRINT, &Stamp::of_lane(1, 2, 3), &mut AlignedBytes::new());
}
