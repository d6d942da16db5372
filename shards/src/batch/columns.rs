//! The columns of one batch while they are being filled, before they become bytes.
//!
//! Parsing is not here, nor the byte layout: `wire` encodes what stands here.

use corefold_aggregator::spec::FieldType;

pub use super::dictionary::{DICTIONARY_TEXT_MAX, Dictionary, DictionaryError};
pub use super::values::{SharedValues, Values};

/// Marks a null among the indices of a string column that is being filled.
pub const NULL_INDEX: u32 = u32::MAX;

/// A null among the values of a bool column.
pub const NULL_BOOL: u8 = 2;

/// Times and columns of one batch; reusable, since [`ColumnSet::clear`] keeps the memory.
#[derive(Clone, Debug)]
pub struct ColumnSet {
    /// Event time of each row, microseconds since the epoch; only valid times may enter.
    pub times: Values<i64>,
    /// One column for each field of the stream, in its order, each as long as `times`.
    pub columns: Vec<ColumnData>,
    /// Rows that were skipped as bad input. Whoever makes the batch's stamp copies the count into it.
    pub rejected: u32,
}

impl ColumnSet {
    /// Empty columns of these types.
    pub fn new(kinds: &[FieldType]) -> ColumnSet {
        ColumnSet {
            times: Values::new(),
            columns: kinds.iter().map(|&kind| ColumnData::new(kind)).collect(),
            rejected: 0,
        }
    }

    /// Forgets all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.columns.iter_mut().for_each(ColumnData::clear);
        self.rejected = 0;
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// Takes back the rows from `rows` on, also where a column is already longer than the times. Texts that only
    /// those rows used stay in their dictionaries.
    pub fn truncate(&mut self, rows: usize) {
        self.times.truncate(rows);
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
    }
}

/// Values of one field, one for each row.
#[derive(Clone, Debug)]
pub enum ColumnData {
    /// 64-bit integers.
    I64 {
        /// A null row holds any value; it is written as 0.
        values: Values<i64>,
        /// Which rows have a value; `None` when all have.
        validity: Option<Bitmap>,
    },
    /// Doubles.
    F64 {
        /// NaN is null, any of them; it is written as one, and the negative zero as the other.
        values: Values<f64>,
    },
    /// Truth values.
    Bool {
        /// 0, 1, or [`NULL_BOOL`].
        values: Vec<u8>,
    },
    /// Text.
    Str {
        /// The distinct texts.
        dictionary: Dictionary,
        /// A number in the dictionary, or [`NULL_INDEX`].
        indices: Vec<u32>,
    },
}

impl ColumnData {
    /// An empty column.
    pub fn new(kind: FieldType) -> ColumnData {
        match kind {
            FieldType::I64 => ColumnData::I64 { values: Values::new(), validity: None },
            FieldType::F64 => ColumnData::F64 { values: Values::new() },
            FieldType::Bool => ColumnData::Bool { values: Vec::new() },
            FieldType::String => ColumnData::Str { dictionary: Dictionary::new(), indices: Vec::new() },
        }
    }

    /// The type of its values.
    pub fn kind(&self) -> FieldType {
        match self {
            ColumnData::I64 { .. } => FieldType::I64,
            ColumnData::F64 { .. } => FieldType::F64,
            ColumnData::Bool { .. } => FieldType::Bool,
            ColumnData::Str { .. } => FieldType::String,
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        match self {
            ColumnData::I64 { values, .. } => values.len(),
            ColumnData::F64 { values } => values.len(),
            ColumnData::Bool { values } => values.len(),
            ColumnData::Str { indices, .. } => indices.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all rows and keeps the memory.
    pub fn clear(&mut self) {
        match self {
            ColumnData::I64 { values, validity } => {
                values.clear();
                if let Some(validity) = validity {
                    validity.clear();
                }
            }
            ColumnData::F64 { values } => values.clear(),
            ColumnData::Bool { values } => values.clear(),
            ColumnData::Str { dictionary, indices } => {
                dictionary.clear();
                indices.clear();
            }
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            ColumnData::I64 { values, validity } => {
                values.truncate(rows);
                if let Some(validity) = validity {
                    validity.truncate(rows);
                }
            }
            ColumnData::F64 { values } => values.truncate(rows),
            ColumnData::Bool { values } => values.truncate(rows),
            ColumnData::Str { indices, .. } => indices.truncate(rows),
        }
    }

    /// Appends to an i64 column. Panics on a column of another type.
    #[inline]
    pub fn push_i64(&mut self, value: Option<i64>) {
        let ColumnData::I64 { values, validity } = self else { self.refuse("i64") };
        match (&mut *validity, value) {
            (None, Some(_)) => {}
            (None, None) => {
                let mut bitmap = Bitmap::all_set(values.len());
                bitmap.push(false);
                *validity = Some(bitmap);
            }
            (Some(bitmap), value) => bitmap.push(value.is_some()),
        }
        values.push(value.unwrap_or(0));
    }

    /// Appends to an f64 column. Panics on a column of another type.
    #[inline]
    pub fn push_f64(&mut self, value: Option<f64>) {
        let ColumnData::F64 { values } = self else { self.refuse("f64") };
        values.push(value.unwrap_or(f64::NAN));
    }

    /// Appends to a bool column. Panics on a column of another type.
    #[inline]
    pub fn push_bool(&mut self, value: Option<bool>) {
        let ColumnData::Bool { values } = self else { self.refuse("bool") };
        values.push(value.map_or(NULL_BOOL, u8::from));
    }

    /// Appends to a string column; after an error the column is as before. Panics on a column of another type.
    #[inline]
    pub fn push_str(&mut self, value: Option<&[u8]>) -> Result<(), DictionaryError> {
        let ColumnData::Str { dictionary, indices } = self else { self.refuse("string") };
        indices.push(match value {
            None => NULL_INDEX,
            Some(value) => dictionary.intern(value)?,
        });
        Ok(())
    }

    #[cold]
    fn refuse(&self, wanted: &str) -> ! {
        panic!("a value of type {wanted} was pushed into a column of type {}", self.kind().name())
    }
}

/// Growable bits, least significant first, that knows how many are clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap {
    bytes: Vec<u8>,
    len: usize,
    clear: usize,
}

impl Bitmap {
    /// No bits.
    pub fn new() -> Bitmap {
        Bitmap::default()
    }

    /// `len` set bits.
    pub fn all_set(len: usize) -> Bitmap {
        let mut bytes = vec![0xFF; len.div_ceil(8)];
        if !len.is_multiple_of(8)
            && let Some(last) = bytes.last_mut()
        {
            *last = (1 << (len % 8)) - 1;
        }
        Bitmap { bytes, len, clear: 0 }
    }

    /// Appends a bit.
    #[inline]
    pub fn push(&mut self, bit: bool) {
        let shift = self.len % 8;
        if shift == 0 {
            self.bytes.push(u8::from(bit));
        } else if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << shift;
        }
        self.len += 1;
        self.clear += usize::from(!bit);
    }

    /// Bit number `index`, below [`Bitmap::len`].
    #[inline]
    pub fn get(&self, index: usize) -> bool {
        debug_assert!(index < self.len);
        bit(&self.bytes, index)
    }

    /// How many bits there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bits are clear.
    pub fn count_clear(&self) -> usize {
        self.clear
    }

    /// The bits; those behind the last one are clear.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets the bits from `len` on.
    pub fn truncate(&mut self, len: usize) {
        while self.len > len {
            self.len -= 1;
            self.clear -= usize::from(!bit(&self.bytes, self.len));
            match self.len % 8 {
                0 => self.bytes.truncate(self.len / 8),
                shift => self.bytes[self.len / 8] &= !(1 << shift),
            }
        }
    }

    /// Forgets all bits and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.len = 0;
        self.clear = 0;
    }
}

/// Bit number `index` of a validity bitmap.
#[inline]
pub fn bit(bytes: &[u8], index: usize) -> bool {
    bytes[index / 8] >> (index % 8) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bitmap_is_a_list_of_bools(
            start in 0_usize..40,
            pushed in proptest::collection::vec(any::<bool>(), 0..100),
            kept in 0_usize..150,
        ) {
            let mut bitmap = Bitmap::all_set(start);
            let mut plain = vec![true; start];
            for &bit in &pushed {
                bitmap.push(bit);
                plain.push(bit);
            }
            bitmap.truncate(kept);
            plain.truncate(kept);
            prop_assert_eq!(bitmap.len(), plain.len());
            prop_assert_eq!(bitmap.count_clear(), plain.iter().filter(|bit| !**bit).count());
            prop_assert_eq!((0..plain.len()).map(|index| bitmap.get(index)).collect::<Vec<_>>(), plain);
            // One size and no garbage behind the end.
            prop_assert_eq!(bitmap.as_bytes().len(), bitmap.len().div_ceil(8));
            let ones: u32 = bitmap.as_bytes().iter().map(|byte| byte.count_ones()).sum();
            prop_assert_eq!(ones as usize, bitmap.len() - bitmap.count_clear());
        }

        #[test]
        fn pushed_integers_and_their_nulls_come_back(
            values in proptest::collection::vec(proptest::option::of(any::<i64>()), 0..50),
        ) {
            let mut column = ColumnData::new(FieldType::I64);
            for _ in 0..2 {
                values.iter().for_each(|&value| column.push_i64(value));
                let ColumnData::I64 { values: stored, validity } = &column else { unreachable!() };
                let back: Vec<Option<i64>> = (0..stored.len())
                    .map(|row| validity.as_ref().is_none_or(|bits| bits.get(row)).then_some(stored[row]))
                    .collect();
                prop_assert_eq!(&back, &values);
                column.clear();
                prop_assert!(column.is_empty());
            }
        }
    }

    #[test]
    fn a_refused_text_leaves_the_column_as_it_was() {
        let mut column = ColumnData::new(FieldType::String);
        column.push_str(Some(b"a")).unwrap();
        assert!(column.push_str(Some(b"\xFF")).is_err());
        column.push_str(None).unwrap();
        let ColumnData::Str { dictionary, indices } = &column else { unreachable!() };
        assert_eq!(indices, &[0, NULL_INDEX]);
        assert_eq!(dictionary.len(), 1);
    }

    #[test]
    #[should_panic(expected = "a value of type f64 was pushed into a column of type bool")]
    fn a_value_of_the_wrong_type_is_a_programming_error() {
        ColumnData::new(FieldType::Bool).push_f64(Some(1.0));
    }
}
