//! Values of group keys by slot, decoded once: what output rows gather.
//!
//! Only where every column has a fixed width; text is decoded from the key each time, which copies it anyway.

use crate::key;
use crate::partial::OTHER_SLOT;
use crate::result::OutputColumn;
use crate::spec::FieldType;
use crate::stored_key::StoredKey;

/// See the module.
#[derive(Debug)]
pub struct KeyValues {
    by: Vec<FieldType>,
    /// By slot, one entry per `by` column; no slots if a column is text.
    columns: Vec<OutputColumn>,
    /// By column: whether there ever was a null, but for "other".
    has_nulls: Vec<bool>,
    has_text: bool,
}

impl KeyValues {
    /// No slots; keys have columns of the types `by`.
    pub fn new(by: &[FieldType]) -> KeyValues {
        let columns = by.iter().map(|&kind| OutputColumn::new(kind.into())).collect();
        let has_nulls = vec![false; by.len()];
        KeyValues { by: by.to_vec(), columns, has_nulls, has_text: by.contains(&FieldType::String) }
    }

    /// Slot `slot` is now the group `key`. Slots are new by one, or known.
    pub fn set(&mut self, slot: u32, key: &[u8]) {
        if self.has_text {
            return;
        }
        key::decode(key, &self.by, &mut self.columns);
        let slot = slot as usize;
        for (column, has_nulls) in self.columns.iter_mut().zip(&mut self.has_nulls) {
            let is_null = match column {
                OutputColumn::I64 { values, valid } => settle(values, valid, slot),
                OutputColumn::F64 { values, valid } => settle(values, valid, slot),
                OutputColumn::Bool { values, valid } => settle(values, valid, slot),
                OutputColumn::Time(_) | OutputColumn::String { .. } => false,
            };
            *has_nulls |= is_null && slot != OTHER_SLOT as usize;
        }
    }

    /// Appends the values of `slots` to `columns`. `keys` holds the encoded keys by slot.
    pub fn gather(&self, slots: &[u32], keys: &[StoredKey], columns: &mut [OutputColumn]) {
        if self.has_text {
            for &slot in slots {
                key::decode(keys[slot as usize].encoded(), &self.by, columns);
            }
            return;
        }
        let has_other = slots.contains(&OTHER_SLOT);
        for ((from, has_nulls), to) in self.columns.iter().zip(&self.has_nulls).zip(columns) {
            to.gather(from, *has_nulls || has_other, slots);
        }
    }
}

/// Moves what was decoded last to its place; whether it is null.
fn settle<T: Copy>(values: &mut Vec<T>, valid: &mut Vec<bool>, slot: usize) -> bool {
    if slot + 1 < values.len() {
        values.swap_remove(slot);
        valid.swap_remove(slot);
    }
    !valid[slot]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_used_again_has_the_new_values() {
        let by = [FieldType::I64, FieldType::F64];
        let encode = |int: Option<i64>, double: f64| {
            let mut bytes = Vec::new();
            match int {
                Some(int) => key::push_i64(&mut bytes, int),
                None => key::push_null(&mut bytes),
            }
            key::push_f64(&mut bytes, double);
            bytes
        };
        // The first slot is that of "other".
        let keys = [(None, 0.5), (Some(7), 1.5), (Some(-3), 2.5), (Some(9), 3.5)];
        let mut values = KeyValues::new(&by);
        for (slot, (int, double)) in keys.iter().enumerate().take(3) {
            values.set(slot as u32, &encode(*int, *double));
        }
        values.set(1, &encode(keys[3].0, keys[3].1));
        let mut columns = by.map(|kind| OutputColumn::new(kind.into()));
        values.gather(&[2, 1], &[], &mut columns);
        values.gather(&[0], &[], &mut columns);
        values.set(2, &encode(None, 4.5));
        values.gather(&[2], &[], &mut columns);
        let expected = [
            OutputColumn::I64 { values: vec![-3, 9, 0, 0], valid: vec![true, true, false, false] },
            OutputColumn::F64 { values: vec![2.5, 3.5, 0.5, 4.5], valid: vec![true; 4] },
        ];
        assert_eq!(columns, expected);
    }
}
