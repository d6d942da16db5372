//! Appends the vectors of a batch behind its tables. The tables themselves are `encode`'s.

use bytemuck::Pod;
use corefold_aggregator::time::EventTime;

use super::aligned::AlignedBytes;
use super::batch_generated::corefold::batch as fb;
use super::columns::{ColumnSet, bit};
use super::error::EncodeError;
use super::integers::Form;
use super::loops::{close_ends, offsets16, offsets32};
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

/// Values that are changed at a time, in the nearest cache.
const BLOCK: usize = 512;

impl Rows<'_> {
    /// Appends what `change` makes of the values of each row: it is given some of them, and as many places.
    fn append<S: Pod, T: Pod>(self, source: &[S], out: &mut AlignedBytes, change: impl Fn(&[S], &mut [T])) {
        let mut changed = [T::zeroed(); BLOCK];
        let mut append = |values: &[S]| {
            let changed = &mut changed[..values.len()];
            change(values, changed);
            out.extend(bytemuck::cast_slice(changed));
        };
        let Some(rows) = self.only else { return source.chunks(BLOCK).for_each(append) };
        let mut values = [S::zeroed(); BLOCK];
        for rows in rows.chunks(BLOCK) {
            values.iter_mut().zip(rows).for_each(|(value, &row)| *value = source[row as usize]);
            append(&values[..rows.len()]);
        }
    }
}

/// One by one.
pub(super) fn each<S: Copy, T>(change: impl Fn(S) -> T) -> impl Fn(&[S], &mut [T]) {
    move |values, into| into.iter_mut().zip(values).for_each(|(into, &value)| *into = change(value))
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
            // Only invalid times are too far apart for it, and then one of the two ends is.
            None => match close_ends(times) {
                Some((min, max)) => TimeRange { min, max },
                None => times.iter().fold(nothing, |range, &time| widen(range, time)),
            },
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

    /// Appends a vector by copying it.
    pub fn append_slice<T: Pod>(&mut self, table: usize, entry: u16, values: &[T]) -> Result<(), EncodeError> {
        self.start(table, entry, values.len(), size_of_val(values))?;
        self.out.extend(bytemuck::cast_slice(values));
        Ok(())
    }

    /// Appends what `change` makes of the values of some rows, see [`Rows`].
    pub fn append_changed<S: Pod, T: Pod>(
        &mut self,
        (table, entry): (usize, u16),
        values: &[S],
        rows: Rows<'_>,
        change: impl Fn(&[S], &mut [T]),
    ) -> Result<(), EncodeError> {
        self.start(table, entry, rows.count, rows.count * size_of::<T>())?;
        rows.append(values, self.out, change);
        Ok(())
    }

    /// Appends the values of some rows.
    pub fn append_chosen<T: Pod>(
        &mut self,
        place: (usize, u16),
        values: &[T],
        rows: Rows<'_>,
    ) -> Result<(), EncodeError> {
        match rows.only {
            None => self.append_slice(place.0, place.1, values),
            Some(_) => self.append_changed(place, values, rows, |values, into: &mut [T]| into.copy_from_slice(values)),
        }
    }

    /// Appends the doubles of some rows: one NaN and one zero.
    pub fn append_doubles(&mut self, place: (usize, u16), values: &[f64], rows: Rows<'_>) -> Result<(), EncodeError> {
        // Adding zero turns the negative zero into the other one.
        let clean = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
        self.append_changed(place, values, rows, each(clean))
    }

    /// Appends the bits of some rows.
    pub fn append_bits(&mut self, table: usize, entry: u16, bits: &[u8], rows: Rows<'_>) -> Result<(), EncodeError> {
        let Some(only) = rows.only else { return self.append_slice(table, entry, bits) };
        let size = rows.count.div_ceil(8);
        self.start(table, entry, size, size)?;
        let byte = |rows: &[u32]| rows.iter().rev().fold(0, |byte, &row| byte << 1 | u8::from(bit(bits, row as usize)));
        only.chunks(8).for_each(|rows| self.out.extend(&[byte(rows)]));
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

    /// Appends integers of some rows in `form`.
    pub fn append_integers(
        &mut self,
        place: (usize, u16),
        values: &[i64],
        rows: Rows<'_>,
        form: Form,
    ) -> Result<(), EncodeError> {
        // The offset of a row that is not null is below two to the power of its bits: nothing of it is cut.
        match form {
            Form::Whole => self.append_chosen(place, values, rows),
            Form::Offsets16(base) => {
                self.append_changed(place, values, rows, |numbers, into| offsets16(numbers, base, into))
            }
            Form::Offsets32(base) => {
                self.append_changed(place, values, rows, |numbers, into| offsets32(numbers, base, into))
            }
        }
    }

    /// Appends what only a part of a batch has.
    pub fn append_part(&mut self, rows: Rows<'_>, high_waters: Option<&[i64]>) -> Result<(), EncodeError> {
        let Some(only) = rows.only else { return Ok(()) };
        self.append_slice(self.root, fb::Batch::VT_ROW_NUMBERS, only)?;
        match high_waters {
            Some(high_waters) => self.append_chosen((self.root, fb::Batch::VT_HIGH_WATERS), high_waters, rows),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(times: &[i64]) -> Option<(i64, i64)> {
        let range = TimeRange::of(times, Rows { count: times.len(), only: None });
        range.ok().map(|range| (range.min, range.max))
    }

    proptest! {
        #[test]
        fn the_range_is_that_of_the_times_however_far_apart(
            base in prop_oneof![
                Just(EventTime::EARLIEST.0),
                Just(EventTime::LATEST.0),
                Just(0),
                Just(i64::MIN),
                Just(i64::MAX),
                any::<i64>(),
            ],
            steps in proptest::collection::vec(
                prop_oneof![-3..3_i64, i64::from(i32::MIN) - 1..=i64::from(i32::MAX) + 1, any::<i64>()],
                1..20,
            ),
        ) {
            let times: Vec<i64> = steps.iter().map(|step| base.wrapping_add(*step)).collect();
            let ends = (times.iter().copied().min().unwrap_or(0), times.iter().copied().max().unwrap_or(0));
            let valid = times.iter().all(|&time| EventTime(time).is_valid());
            prop_assert_eq!(range(&times), valid.then_some(ends));
        }
    }

    #[test]
    fn a_range_of_32_bits_and_one_of_more() {
        let (low, high) = (i64::from(i32::MIN), i64::from(i32::MAX));
        for times in [&[0, low, high][..], &[0, low - 1, high], &[0, low, high + 1], &[low - 1, high + 1]] {
            let ends = (times.iter().copied().min().unwrap_or(0), times.iter().copied().max().unwrap_or(0));
            assert_eq!(range(times), Some(ends));
        }
    }
}
