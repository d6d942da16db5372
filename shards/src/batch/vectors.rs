//! Appends the vectors of a batch behind its tables. The tables themselves are `encode`'s.

use bytemuck::Pod;
use corefold_aggregator::time::EventTime;

use super::aligned::AlignedBytes;
use super::batch_generated::corefold::batch as fb;
use super::columns::{ColumnSet, bit};
use super::error::EncodeError;
use super::integers::Form;
use super::wire::{field_position, root_position};
use super::{BATCH_ALIGNMENT, BATCH_SIZE_MAX};

/// All rows of a column set, or some.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// How many rows.
    pub count: usize,
    /// Which; `None` for all.
    pub only: Option<&'a [u32]>,
}

impl Rows<'_> {
    /// Writes `change(source[row])` for each row.
    fn gather<S: Copy, T>(self, source: &[S], out: &mut [T], change: impl Fn(S) -> T) {
        match self.only {
            None => out.iter_mut().zip(source).for_each(|(out, &value)| *out = change(value)),
            Some(rows) => out.iter_mut().zip(rows).for_each(|(out, &row)| *out = change(source[row as usize])),
        }
    }
}

/// Earliest and latest time of some rows.
#[derive(Clone, Copy)]
pub(super) struct TimeRange {
    /// The earliest; [`EventTime::MAX`] without rows.
    pub min: i64,
    /// The latest; [`EventTime::MIN`] without rows.
    pub max: i64,
}

impl TimeRange {
    /// The range of the rows' times, all of them valid.
    pub fn of(times: &[i64], rows: Rows<'_>) -> Result<TimeRange, EncodeError> {
        let widen = |range: TimeRange, time: i64| TimeRange { min: range.min.min(time), max: range.max.max(time) };
        let nothing = TimeRange { min: EventTime::MAX.0, max: EventTime::MIN.0 };
        let range = match rows.only {
            None => times.iter().fold(nothing, |range, &time| widen(range, time)),
            Some(only) => only.iter().fold(nothing, |range, &row| widen(range, times[row as usize])),
        };
        for micros in [range.min, range.max] {
            if rows.count > 0 && !EventTime(micros).is_valid() {
                return Err(EncodeError::InvalidTime { micros });
            }
        }
        Ok(range)
    }

    /// The form that holds every time.
    pub fn form(self) -> Form {
        Form::of_range(self.min, self.max)
    }
}

/// The output, with the tables at its front.
pub(super) struct Vectors<'a> {
    out: &'a mut AlignedBytes,
    tables_size: usize,
    root: usize,
}

impl<'a> Vectors<'a> {
    /// Copies the tables to the front of the empty `out`.
    pub fn behind(tables: &[u8], out: &'a mut AlignedBytes) -> Vectors<'a> {
        assert!(out.is_empty(), "references count from the front of the batch");
        out.extend(tables);
        Vectors { out, tables_size: tables.len(), root: root_position(tables).expect("a finished buffer has a root") }
    }

    /// Where the table lies that starts `from_end` bytes before the end of the tables.
    pub fn table(&self, from_end: u32) -> usize {
        self.tables_size - from_end as usize
    }

    /// Starts a vector that is the field with vtable entry `entry` of the table at `table`.
    fn start(&mut self, table: usize, entry: u16, count: usize, size: usize) -> Result<(), EncodeError> {
        let count_size = size_of::<u32>();
        self.out.pad(BATCH_ALIGNMENT, BATCH_ALIGNMENT - count_size);
        let position = self.out.len();
        if position + count_size + size + BATCH_ALIGNMENT > BATCH_SIZE_MAX {
            return Err(EncodeError::TooLarge { max: BATCH_SIZE_MAX });
        }
        let bytes = self.out.as_mut_slice();
        let field = field_position(bytes, table, entry).expect("the table was made with this field");
        // References count from where they stand. Below the limit above, so neither number is cut.
        bytes[field..field + size_of::<u32>()].copy_from_slice(&((position - field) as u32).to_le_bytes());
        self.out.extend(&(count as u32).to_le_bytes());
        Ok(())
    }

    /// Appends a vector of `count` zeros and returns it for writing.
    pub fn append<T: Pod>(&mut self, table: usize, entry: u16, count: usize) -> Result<&mut [T], EncodeError> {
        self.start(table, entry, count, count * size_of::<T>())?;
        Ok(self.out.extend_zeroed(count))
    }

    /// Appends a vector by copying it.
    pub fn append_slice<T: Pod>(&mut self, table: usize, entry: u16, values: &[T]) -> Result<(), EncodeError> {
        self.start(table, entry, values.len(), size_of_val(values))?;
        self.out.extend(bytemuck::cast_slice(values));
        Ok(())
    }

    /// Appends the values of some rows.
    pub fn append_chosen<T: Pod>(
        &mut self,
        table: usize,
        entry: u16,
        values: &[T],
        rows: Rows<'_>,
    ) -> Result<(), EncodeError> {
        if rows.only.is_none() {
            return self.append_slice(table, entry, values);
        }
        rows.gather(values, self.append(table, entry, rows.count)?, |value| value);
        Ok(())
    }

    /// Appends the bits of some rows.
    pub fn append_bits(&mut self, table: usize, entry: u16, bits: &[u8], rows: Rows<'_>) -> Result<(), EncodeError> {
        let Some(only) = rows.only else { return self.append_slice(table, entry, bits) };
        let out: &mut [u8] = self.append(table, entry, rows.count.div_ceil(8))?;
        for (out, rows) in out.iter_mut().zip(only.chunks(8)) {
            *out = rows.iter().rev().fold(0, |byte, &row| byte << 1 | u8::from(bit(bits, row as usize)));
        }
        Ok(())
    }

    /// Appends texts of `size` bytes in all as one; FlatBuffers ends texts with a zero byte that does not count.
    pub fn append_text<'t>(
        &mut self,
        table: usize,
        entry: u16,
        size: usize,
        texts: impl Iterator<Item = &'t str>,
    ) -> Result<(), EncodeError> {
        self.start(table, entry, size, size + 1)?;
        let start = self.out.len();
        texts.for_each(|text| self.out.extend(text.as_bytes()));
        debug_assert_eq!(self.out.len(), start + size);
        self.out.extend(&[0]);
        Ok(())
    }

    /// Appends the times of some rows in `form`.
    pub fn append_times(&mut self, columns: &ColumnSet, rows: Rows<'_>, form: Form) -> Result<(), EncodeError> {
        let entry = match form {
            Form::Whole => fb::Batch::VT_TIMES,
            Form::Offsets16(_) => fb::Batch::VT_TIME_OFFSETS16,
            Form::Offsets32(_) => fb::Batch::VT_TIME_OFFSETS,
        };
        self.append_integers((self.root, entry), &columns.times, rows, form)
    }

    /// Appends integers of some rows in `form` as the field `entry` of the table at `table`.
    pub fn append_integers(
        &mut self,
        (table, entry): (usize, u16),
        values: &[i64],
        rows: Rows<'_>,
        form: Form,
    ) -> Result<(), EncodeError> {
        // The offset of a row that is not null is below two to the power of its bits: nothing of it is cut.
        match form {
            Form::Whole => return self.append_chosen(table, entry, values, rows),
            Form::Offsets16(base) => {
                rows.gather(values, self.append(table, entry, rows.count)?, |value| value.wrapping_sub(base) as u16);
            }
            Form::Offsets32(base) => {
                rows.gather(values, self.append(table, entry, rows.count)?, |value| value.wrapping_sub(base) as u32);
            }
        }
        Ok(())
    }

    /// Appends what only a part of a batch has.
    pub fn append_part(&mut self, rows: Rows<'_>, high_waters: Option<&[i64]>) -> Result<(), EncodeError> {
        let Some(only) = rows.only else { return Ok(()) };
        self.append_slice(self.root, fb::Batch::VT_ROW_NUMBERS, only)?;
        match high_waters {
            Some(high_waters) => self.append_chosen(self.root, fb::Batch::VT_HIGH_WATERS, high_waters, rows),
            None => Ok(()),
        }
    }
}
