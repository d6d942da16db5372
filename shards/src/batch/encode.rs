//! From columns to the bytes of a batch. Reading them is not here; `verify` and `view` mirror this file.
//!
//! A FlatBuffer is usually built from its end, in the builder's own buffer, element by element. Here the builder makes
//! the tables alone, with references that point at the end of them. The tables go to the front of the output, then
//! each vector is appended, once and as a whole, and its reference is set. The result is an ordinary FlatBuffer.

use corefold_aggregator::time::EventTime;
use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::aligned::AlignedBytes;
use super::batch_generated::corefold::batch as fb;
use super::columns::{Bitmap, ColumnData, ColumnSet, Dictionary, NULL_INDEX};
use super::error::EncodeError;
use super::integers::Form;
use super::split::Part;
use super::vectors::{Rows, TimeRange, Vectors, each};
use super::wire::Stamp;
use super::{BATCH_ALIGNMENT, BATCH_COLUMNS_MAX, BATCH_ROWS_MAX};

/// Longest dictionary whose indices, null included, fit into 16 bits.
pub(super) const DICTIONARY_16_MAX: usize = u16::MAX as usize;

/// Makes batches; keeps its memory from one to the next.
#[derive(Default)]
pub struct Encoder {
    builder: FlatBufferBuilder<'static>,
    columns: Vec<WIPOffset<fb::Column<'static>>>,
    /// For each column, where the table of its data starts, counted from the end of the tables.
    data: Vec<u32>,
    /// For each column of integers, the form it is written in.
    forms: Vec<Form>,
    subsets: Vec<Subset>,
    time_max: Option<EventTime>,
}

/// The entries of a dictionary that a part of its rows use.
#[derive(Default)]
struct Subset {
    /// New number of each entry, or [`NULL_INDEX`] when no row uses it.
    numbers: Vec<u32>,
    /// Old numbers of the used entries, in the order of their first use.
    used: Vec<u32>,
    /// Where their texts start, and where the last one ends.
    offsets: Vec<u32>,
}

/// [`Encoder::encode`] for a single batch.
pub fn encode(columns: &ColumnSet, fingerprint: u64, stamp: &Stamp, out: &mut AlignedBytes) -> Result<(), EncodeError> {
    Encoder::new().encode(columns, fingerprint, stamp, out)
}

impl Encoder {
    /// An encoder without memory.
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// Replaces `out` by the batch of all rows of `columns`; after an error `out` is empty.
    ///
    /// Panics when the columns differ in length.
    pub fn encode(
        &mut self,
        columns: &ColumnSet,
        fingerprint: u64,
        stamp: &Stamp,
        out: &mut AlignedBytes,
    ) -> Result<(), EncodeError> {
        let rows = Rows { count: columns.rows(), only: None };
        self.encode_rows(columns, rows, None, fingerprint, stamp, out)
    }

    /// The latest time of the batch that was made last; `None` if it had no rows.
    pub fn time_max(&self) -> Option<EventTime> {
        self.time_max
    }

    /// Replaces `out` by the batch of one part of the rows of `columns`; after an error `out` is empty.
    ///
    /// Dictionaries shrink to what the part uses. Panics when the columns differ in length, or a row number is too high.
    pub fn encode_part(
        &mut self,
        columns: &ColumnSet,
        part: Part<'_>,
        fingerprint: u64,
        stamp: &Stamp,
        out: &mut AlignedBytes,
    ) -> Result<(), EncodeError> {
        let rows = Rows { count: part.rows.len(), only: Some(part.rows) };
        self.encode_rows(columns, rows, part.high_waters, fingerprint, stamp, out)
    }

    fn encode_rows(
        &mut self,
        columns: &ColumnSet,
        rows: Rows<'_>,
        high_waters: Option<&[i64]>,
        fingerprint: u64,
        stamp: &Stamp,
        out: &mut AlignedBytes,
    ) -> Result<(), EncodeError> {
        out.clear();
        check_shape(columns, rows)?;
        let times = TimeRange::of(&columns.times, rows)?;
        self.time_max = (rows.count > 0).then_some(EventTime(times.max));
        self.choose_entries(columns, rows);
        self.choose_forms(columns, rows);
        self.build_tables(columns, rows, times, high_waters.is_some(), fingerprint, stamp);

        let mut vectors = Vectors::behind(self.builder.finished_data(), out);
        let written = vectors
            .append_times(columns, rows, times.form())
            .and_then(|()| self.append_columns(columns, rows, &mut vectors))
            .and_then(|()| vectors.append_part(rows, high_waters));
        match written {
            Ok(()) => out.pad(BATCH_ALIGNMENT, 0),
            Err(_) => out.clear(),
        }
        written
    }

    /// Finds, for a part, the dictionary entries that its rows use.
    fn choose_entries(&mut self, columns: &ColumnSet, rows: Rows<'_>) {
        self.subsets.resize_with(columns.columns.len(), Subset::default);
        let Some(rows) = rows.only else { return };
        for (column, subset) in columns.columns.iter().zip(&mut self.subsets) {
            if let ColumnData::Str { dictionary, indices } = column {
                subset.choose(dictionary, indices, rows);
            }
        }
    }

    fn choose_forms(&mut self, columns: &ColumnSet, rows: Rows<'_>) {
        self.forms.clear();
        self.forms.extend(columns.columns.iter().map(|column| match column {
            ColumnData::I64 { values, validity } => Form::of(values, nulls(validity), rows),
            _ => Form::Whole,
        }));
    }

    fn build_tables(
        &mut self,
        columns: &ColumnSet,
        rows: Rows<'_>,
        times: TimeRange,
        high_waters: bool,
        fingerprint: u64,
        stamp: &Stamp,
    ) {
        self.builder.reset();
        self.columns.clear();
        self.data.clear();
        for ((column, subset), form) in columns.columns.iter().zip(&self.subsets).zip(&self.forms) {
            let entries = match (column, rows.only) {
                (ColumnData::Str { dictionary, .. }, None) => dictionary.len(),
                _ => subset.used.len(),
            };
            let (kind, data) = build_column(&mut self.builder, column, *form, entries);
            self.data.push(data);
            let mut table = fb::ColumnBuilder::new(&mut self.builder);
            table.add_data(WIPOffset::new(data));
            table.add_data_type(kind);
            self.columns.push(table.finish());
        }
        let vector = self.builder.create_vector(&self.columns);
        let mut table = fb::BatchBuilder::new(&mut self.builder);
        table.add_fingerprint(fingerprint);
        table.add_time_min(times.min);
        table.add_time_max(times.max);
        table.add_stamp(&stamp.to_wire());
        table.add_rows(rows.count as u32);
        table.add_columns(vector);
        match times.form() {
            Form::Whole => table.add_times(unset()),
            Form::Offsets16(_) => table.add_time_offsets16(unset()),
            Form::Offsets32(_) => table.add_time_offsets(unset()),
        }
        if rows.only.is_some() {
            table.add_row_numbers(unset());
        }
        if high_waters {
            table.add_high_waters(unset());
        }
        let root = table.finish();
        fb::finish_batch_buffer(&mut self.builder, root);
    }

    fn append_columns(
        &self,
        columns: &ColumnSet,
        rows: Rows<'_>,
        vectors: &mut Vectors<'_>,
    ) -> Result<(), EncodeError> {
        for (((column, &data), subset), &form) in
            columns.columns.iter().zip(&self.data).zip(&self.subsets).zip(&self.forms)
        {
            let table = vectors.table(data);
            match column {
                ColumnData::I64 { values, validity } => {
                    let (entry, validity_entry) = integer_entries(form);
                    vectors.append_integers((table, entry), values, rows, form)?;
                    if let Some(validity) = nulls(validity) {
                        vectors.append_bits(table, validity_entry, validity.as_bytes(), rows)?;
                    }
                }
                ColumnData::F64 { values } => {
                    vectors.append_doubles((table, fb::F64Column::VT_VALUES), values, rows)?;
                }
                ColumnData::Bool { values } => {
                    vectors.append_chosen((table, fb::BoolColumn::VT_VALUES), values, rows)?;
                }
                ColumnData::Str { dictionary, indices } => match rows.only {
                    None => append_whole(dictionary, indices, table, vectors)?,
                    Some(_) => subset.append(dictionary, indices, rows, table, vectors)?,
                },
            }
        }
        Ok(())
    }
}

/// The table of a column's data: its kind and where it starts, counted from the end.
fn build_column(
    builder: &mut FlatBufferBuilder<'static>,
    column: &ColumnData,
    form: Form,
    entries: usize,
) -> (fb::ColumnData, u32) {
    match column {
        ColumnData::I64 { validity, .. } => build_integers(builder, form, nulls(validity).is_some()),
        ColumnData::F64 { .. } => {
            let mut table = fb::F64ColumnBuilder::new(builder);
            table.add_values(unset());
            (fb::ColumnData::F64Column, table.finish().value())
        }
        ColumnData::Bool { .. } => {
            let mut table = fb::BoolColumnBuilder::new(builder);
            table.add_values(unset());
            (fb::ColumnData::BoolColumn, table.finish().value())
        }
        ColumnData::Str { .. } => {
            let mut table = fb::StringColumnBuilder::new(builder);
            table.add_offsets(unset());
            table.add_text(unset());
            if entries <= DICTIONARY_16_MAX {
                table.add_indices16(unset());
            } else {
                table.add_indices32(unset());
            }
            (fb::ColumnData::StringColumn, table.finish().value())
        }
    }
}

fn build_integers(builder: &mut FlatBufferBuilder<'static>, form: Form, has_nulls: bool) -> (fb::ColumnData, u32) {
    let (base, is_short) = match form {
        Form::Offsets16(base) => (base, true),
        Form::Offsets32(base) => (base, false),
        Form::Whole => {
            let mut table = fb::I64ColumnBuilder::new(builder);
            table.add_values(unset());
            if has_nulls {
                table.add_validity(unset());
            }
            return (fb::ColumnData::I64Column, table.finish().value());
        }
    };
    let mut table = fb::I64OffsetsColumnBuilder::new(builder);
    table.add_base(base);
    if is_short {
        table.add_offsets16(unset());
    } else {
        table.add_offsets32(unset());
    }
    if has_nulls {
        table.add_validity(unset());
    }
    (fb::ColumnData::I64OffsetsColumn, table.finish().value())
}

/// The fields of an integer column that take its numbers and its validity.
fn integer_entries(form: Form) -> (u16, u16) {
    match form {
        Form::Whole => (fb::I64Column::VT_VALUES, fb::I64Column::VT_VALIDITY),
        Form::Offsets16(_) => (fb::I64OffsetsColumn::VT_OFFSETS16, fb::I64OffsetsColumn::VT_VALIDITY),
        Form::Offsets32(_) => (fb::I64OffsetsColumn::VT_OFFSETS32, fb::I64OffsetsColumn::VT_VALIDITY),
    }
}

/// A reference to a vector that is yet to be appended: it points at the end of the tables.
fn unset<T>() -> WIPOffset<T> {
    WIPOffset::new(0)
}

/// The bitmap of a column that has nulls.
fn nulls(validity: &Option<Bitmap>) -> Option<&Bitmap> {
    validity.as_ref().filter(|bitmap| bitmap.count_clear() > 0)
}

fn check_shape(columns: &ColumnSet, rows: Rows<'_>) -> Result<(), EncodeError> {
    for (index, column) in columns.columns.iter().enumerate() {
        assert_eq!(column.len(), columns.rows(), "column {index} and the times differ in length");
        if let ColumnData::I64 { validity: Some(validity), .. } = column {
            assert_eq!(validity.len(), columns.rows(), "the validity of column {index} and the times differ in length");
        }
    }
    for (index, column) in columns.columns.iter().enumerate() {
        if let ColumnData::Str { dictionary, .. } = column
            && dictionary.len() > BATCH_ROWS_MAX
        {
            return Err(EncodeError::TooManyEntries { column: index, entries: dictionary.len(), max: BATCH_ROWS_MAX });
        }
    }
    if rows.count > BATCH_ROWS_MAX {
        return Err(EncodeError::TooManyRows { rows: rows.count, max: BATCH_ROWS_MAX });
    }
    if columns.columns.len() > BATCH_COLUMNS_MAX {
        return Err(EncodeError::TooManyColumns { columns: columns.columns.len(), max: BATCH_COLUMNS_MAX });
    }
    Ok(())
}

/// All texts of a dictionary and all indices.
fn append_whole(
    dictionary: &Dictionary,
    indices: &[u32],
    table: usize,
    vectors: &mut Vectors<'_>,
) -> Result<(), EncodeError> {
    vectors.append_slice(table, fb::StringColumn::VT_OFFSETS, dictionary.offsets())?;
    vectors.append_text(table, fb::StringColumn::VT_TEXT, dictionary.text().len(), [dictionary.text()].into_iter())?;
    // The mark of null is the greatest number, so the minimum turns it, and it alone, into the number of null.
    let null = dictionary.len() as u32;
    append_indices((indices, Rows { count: indices.len(), only: None }), table, vectors, null, |index| index.min(null))
}

/// The numbers, in a dictionary of `entries`, of what some rows have.
fn append_indices(
    (indices, rows): (&[u32], Rows<'_>),
    table: usize,
    vectors: &mut Vectors<'_>,
    entries: u32,
    number: impl Fn(u32) -> u32,
) -> Result<(), EncodeError> {
    if entries as usize <= DICTIONARY_16_MAX {
        let place = (table, fb::StringColumn::VT_INDICES16);
        vectors.append_changed(place, indices, rows, each(|index| number(index) as u16))
    } else {
        vectors.append_changed((table, fb::StringColumn::VT_INDICES32), indices, rows, each(number))
    }
}

impl Subset {
    fn choose(&mut self, dictionary: &Dictionary, indices: &[u32], rows: &[u32]) {
        self.numbers.clear();
        self.numbers.resize(dictionary.len(), NULL_INDEX);
        self.used.clear();
        self.offsets.clear();
        self.offsets.push(0);
        let mut end = 0;
        for &row in rows {
            let index = indices[row as usize];
            if index != NULL_INDEX && self.numbers[index as usize] == NULL_INDEX {
                self.numbers[index as usize] = self.used.len() as u32;
                self.used.push(index);
                // Less than the dictionary's own texts together, whose end fits.
                end += dictionary.get(index).len() as u32;
                self.offsets.push(end);
            }
        }
    }

    /// The used texts of a dictionary and the new numbers of some rows.
    fn append(
        &self,
        dictionary: &Dictionary,
        indices: &[u32],
        rows: Rows<'_>,
        table: usize,
        vectors: &mut Vectors<'_>,
    ) -> Result<(), EncodeError> {
        vectors.append_slice(table, fb::StringColumn::VT_OFFSETS, &self.offsets)?;
        let texts = self.used.iter().map(|&entry| dictionary.get(entry));
        let size = self.offsets.last().map_or(0, |&end| end as usize);
        vectors.append_text(table, fb::StringColumn::VT_TEXT, size, texts)?;
        let null = self.used.len() as u32;
        append_indices((indices, rows), table, vectors, null, |index| match index {
            NULL_INDEX => null,
            index => self.numbers[index as usize],
        })
    }
}
