//! A checked batch, read in place. Nothing is checked here; `verify` makes the only views there are.

use bytemuck::Pod;
use corefold_aggregator::time::EventTime;
use flatbuffers::Vector;

use super::batch_generated::corefold::batch as fb;
use super::integers::Integers;
use super::wire::Stamp;

/// A batch of the expected stream, all of whose numbers are in range.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    pub(super) batch: fb::Batch<'a>,
}

/// Values of one field, one for each row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Column<'a> {
    /// 64-bit integers.
    I64 {
        /// Values; those of null rows mean nothing.
        values: Integers<'a>,
        /// One bit a row, least significant first, set when the row has a value; `None` when all have.
        validity: Option<&'a [u8]>,
    },
    /// Doubles; NaN is null.
    F64(&'a [f64]),
    /// 0, 1, or 2 for null.
    Bool(&'a [u8]),
    /// Text.
    Str {
        /// The texts. One text may stand there twice.
        dictionary: StrDictionary<'a>,
        /// Numbers in the dictionary; its length is null.
        indices: Indices<'a>,
    },
}

/// Numbers in a dictionary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Indices<'a> {
    /// For dictionaries of at most 65,535 entries.
    U16(&'a [u16]),
    /// For longer ones.
    U32(&'a [u32]),
}

/// The distinct texts of one column of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StrDictionary<'a> {
    text: &'a str,
    offsets: &'a [u32],
}

impl<'a> BatchView<'a> {
    /// Identifies the schema.
    pub fn fingerprint(&self) -> u64 {
        self.batch.fingerprint()
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.batch.rows() as usize
    }

    /// What the batch says of itself.
    pub fn stamp(&self) -> Stamp {
        Stamp::from_wire(self.batch.stamp())
    }

    /// The earliest time of the rows; [`EventTime::MAX`] without rows.
    pub fn time_min(&self) -> EventTime {
        EventTime(self.batch.time_min())
    }

    /// The latest time of the rows; [`EventTime::MIN`] without rows.
    pub fn time_max(&self) -> EventTime {
        EventTime(self.batch.time_max())
    }

    /// Times of the rows, in microseconds.
    pub fn times(&self) -> Integers<'a> {
        let base = self.batch.time_min();
        match (self.batch.time_offsets16(), self.batch.time_offsets(), self.batch.times()) {
            (Some(offsets), ..) => Integers::Offsets16 { base, offsets: slice(offsets) },
            (None, Some(offsets), _) => Integers::Offsets32 { base, offsets: slice(offsets) },
            (None, None, times) => Integers::Whole(times.map(slice).unwrap_or_default()),
        }
    }

    /// How many columns there are: one for each field of the stream.
    pub fn columns(&self) -> usize {
        self.batch.columns().len()
    }

    /// Column number `index`, below [`BatchView::columns`].
    pub fn column(&self, index: usize) -> Column<'a> {
        Column::of(&self.batch.columns().get(index))
    }

    /// In a part: the place of each row in the whole batch.
    pub fn row_numbers(&self) -> Option<&'a [u32]> {
        self.batch.row_numbers().map(slice)
    }

    /// In a part: the latest time of the whole batch's rows before this one, `i64::MIN` when there is none.
    ///
    /// `None` when no row can be late because of its own batch, whatever the batches before it made of the lane's
    /// watermark. The lane's watermark before row `i` is the greater of the stamp's and `high_waters[i] - max_delay`.
    pub fn high_waters(&self) -> Option<&'a [i64]> {
        self.batch.high_waters().map(slice)
    }
}

impl<'a> Column<'a> {
    fn of(column: &fb::Column<'a>) -> Column<'a> {
        // The type is asked for once: this is done for every block of events.
        let found = match column.data_type() {
            fb::ColumnData::I64Column => column.data_as_i64_column().map(|data| {
                let values = Integers::Whole(slice(data.values()));
                Column::I64 { values, validity: data.validity().map(slice) }
            }),
            fb::ColumnData::I64OffsetsColumn => column.data_as_i64_offsets_column().map(|data| {
                let base = data.base();
                let values = match (data.offsets16(), data.offsets32()) {
                    (Some(offsets), _) => Integers::Offsets16 { base, offsets: slice(offsets) },
                    (None, offsets) => Integers::Offsets32 { base, offsets: offsets.map(slice).unwrap_or_default() },
                };
                Column::I64 { values, validity: data.validity().map(slice) }
            }),
            fb::ColumnData::F64Column => column.data_as_f64_column().map(|data| Column::F64(slice(data.values()))),
            fb::ColumnData::BoolColumn => column.data_as_bool_column().map(|data| Column::Bool(slice(data.values()))),
            fb::ColumnData::StringColumn => column.data_as_string_column().map(|data| Column::Str {
                dictionary: StrDictionary { text: data.text(), offsets: slice(data.offsets()) },
                indices: match (data.indices16(), data.indices32()) {
                    (Some(indices), _) => Indices::U16(slice(indices)),
                    (None, indices) => Indices::U32(indices.map(slice).unwrap_or_default()),
                },
            }),
            _ => None,
        };
        found.unwrap_or_else(|| unreachable!("verification refuses columns of unknown types"))
    }
}

impl Indices<'_> {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        match self {
            Indices::U16(indices) => indices.len(),
            Indices::U32(indices) => indices.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number in row `row`.
    #[inline]
    pub fn get(&self, row: usize) -> usize {
        match self {
            Indices::U16(indices) => usize::from(indices[row]),
            Indices::U32(indices) => indices[row] as usize,
        }
    }
}

impl<'a> StrDictionary<'a> {
    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Text number `index`, below [`StrDictionary::len`].
    #[inline]
    pub fn get(&self, index: usize) -> &'a str {
        &self.text[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    /// All texts, by number.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        let text = self.text;
        self.offsets.windows(2).map(move |pair| &text[pair[0] as usize..pair[1] as usize])
    }
}

/// The vector's elements where they lie; `verify` has seen to their alignment.
pub(super) fn slice<'a, T: Pod>(vector: Vector<'a, T>) -> &'a [T] {
    bytemuck::cast_slice(vector.bytes())
}
