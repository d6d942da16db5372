//! Parts of a batch hold together what the whole holds. Which shard gets them is not here.

use std::collections::HashMap;

use corefold_aggregator::spec::FieldType;
use corefold_aggregator::time::Duration;
use corefold_shards::batch::split::Splitter;
use corefold_shards::batch::{AlignedBytes, Column, ColumnSet, Encoder, Stamp, UnverifiedBatch};
use proptest::prelude::*;

use crate::model::{Table, Value, rows, tables};

const FINGERPRINT: u64 = 0x0123_4567_89AB_CDEF;

/// The high water before each row, by looking at all rows before it.
fn high_waters(times: &[i64]) -> Vec<i64> {
    (0..times.len()).map(|row| times[..row].iter().copied().max().unwrap_or(i64::MIN)).collect()
}

/// Keys are equal when their values are, and the zeros are.
fn key(table: &Table, by: &[usize], row: usize) -> Vec<Value> {
    let plain = |value: &Value| match value {
        Value::F64(bits) if f64::from_bits(*bits) == 0.0 => Value::F64(0),
        value => value.clone(),
    };
    by.iter().map(|&column| plain(&table.columns[column][row])).collect()
}

proptest! {
    #[test]
    fn parts_hold_the_rows_of_the_whole(
        table in tables(0..60),
        parts in 1_u16..5,
        by in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
        delay in prop_oneof![Just(0), Just(300), Just(86_400_000_000_i64)],
    ) {
        let by: Vec<usize> = match table.kinds.len() {
            0 => vec![],
            columns => by.iter().map(|index| index.index(columns)).collect(),
        };
        let set = table.column_set();
        let delay_max = Duration::from_micros(delay).unwrap();
        let mut splitter = Splitter::new(parts);
        splitter.split(&set, &by, delay_max);
        let expected_high = high_waters(&table.times);
        let may_be_late = (0..table.rows()).any(|row| table.times[row] < expected_high[row].saturating_sub(delay));

        let (mut encoder, mut bytes) = (Encoder::new(), AlignedBytes::new());
        let mut seen = vec![false; table.rows()];
        let mut part_of_key = HashMap::new();
        for part in 0..parts {
            let stamp = Stamp { part, parts, ..Stamp::of_lane(4, 5, 6) };
            encoder
                .encode_part(&set, splitter.part(usize::from(part)), FINGERPRINT, &stamp, &mut bytes)
                .unwrap();
            let view = UnverifiedBatch::new(bytes.as_slice()).verify(FINGERPRINT, &table.fields()).unwrap();
            prop_assert_eq!(view.stamp(), stamp);
            let numbers = view.row_numbers().unwrap();
            prop_assert_eq!(view.high_waters().is_some(), may_be_late);
            for (place, row) in rows(&view).into_iter().enumerate() {
                let number = numbers[place] as usize;
                prop_assert!(!std::mem::replace(&mut seen[number], true), "row {} is in two parts", number);
                prop_assert_eq!(row, table.row(number));
                let same_key = part_of_key.entry(key(&table, &by, number)).or_insert(part);
                prop_assert_eq!(*same_key, part);
                if let Some(high) = view.high_waters() {
                    prop_assert_eq!(high[place], expected_high[number]);
                }
            }
        }
        prop_assert!(seen.into_iter().all(|seen| seen));
    }
}

/// Dictionaries of parts hold what the part uses and nothing else.
#[test]
fn dictionaries_shrink_with_their_part() {
    let mut set = ColumnSet::new(&[FieldType::String]);
    for row in 0..1_000_u32 {
        set.times.push(i64::from(row));
        set.columns[0].push_str(Some((row % 100).to_string().as_bytes())).unwrap();
    }
    let table = Table { kinds: vec![FieldType::String], times: vec![], columns: vec![] };
    let mut splitter = Splitter::new(4);
    splitter.split(&set, &[0], Duration::ZERO);
    let (mut bytes, mut entries) = (AlignedBytes::new(), 0);
    for part in 0..4 {
        let stamp = Stamp { part, parts: 4, ..Stamp::of_lane(1, 2, 3) };
        let rows = splitter.part(usize::from(part));
        assert!(!rows.rows.is_empty(), "100 keys leave no part of 4 empty");
        assert_eq!(rows.high_waters, None, "sorted times are never late");
        Encoder::new().encode_part(&set, rows, FINGERPRINT, &stamp, &mut bytes).unwrap();
        let view = UnverifiedBatch::new(bytes.as_slice()).verify(FINGERPRINT, &table.fields()).unwrap();
        let Column::Str { dictionary, .. } = view.column(0) else { panic!("a string column") };
        entries += dictionary.len();
    }
    assert_eq!(entries, 100);
}

/// Many keys spread evenly: no part gets more than a tenth above its share.
#[test]
fn keys_spread_over_the_parts() {
    for kind in [FieldType::I64, FieldType::F64, FieldType::String] {
        let mut set = ColumnSet::new(&[kind]);
        for row in 0..60_000_u32 {
            set.times.push(0);
            match kind {
                FieldType::I64 => set.columns[0].push_i64(Some(i64::from(row))),
                FieldType::F64 => set.columns[0].push_f64(Some(f64::from(row))),
                _ => set.columns[0].push_str(Some(row.to_string().as_bytes())).unwrap(),
            }
        }
        for parts in [2, 3, 8] {
            let mut splitter = Splitter::new(parts);
            splitter.split(&set, &[0], Duration::ZERO);
            let share = 60_000 / usize::from(parts);
            for part in 0..splitter.parts() {
                let count = splitter.part(part).rows.len();
                assert!(count.abs_diff(share) < share / 10, "{kind:?}: part {part} of {parts} has {count} rows");
            }
        }
    }
}
