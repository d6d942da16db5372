//! Integers of a batch, one for each row, in one of three forms: times and columns.
//!
//! The numbers of one batch are often close together: sensors have small numbers, and times follow each other. Then the rows
//! have offsets of 16 or 32 bits. (Frame of reference: Goldstein et al., "Compressing relations and indexes", ICDE 1998. The
//! form of a column is chosen without comparisons, which is quick and not always the shortest.) How they are written is
//! `vectors`'.

use std::ops::Range;

use super::columns::{Bitmap, bit};
use super::loops::differing_bits;
use super::vectors::Rows;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Integers<'a> {
    /// As they are.
    Whole(&'a [i64]),
    /// Row `i` has `base + offsets[i]`, which is an `i64` whatever the offset.
    Offsets16 {
        /// What is common to all.
        base: i64,
        /// One for each row.
        offsets: &'a [u16],
    },
    /// As [`Integers::Offsets16`].
    Offsets32 {
        /// What is common to all.
        base: i64,
        /// One for each row.
        offsets: &'a [u32],
    },
}

impl Integers<'_> {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        match self {
            Integers::Whole(values) => values.len(),
            Integers::Offsets16 { offsets, .. } => offsets.len(),
            Integers::Offsets32 { offsets, .. } => offsets.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number in row `row`.
    #[inline(always)]
    pub fn get(&self, row: usize) -> i64 {
        match self {
            Integers::Whole(values) => values[row],
            Integers::Offsets16 { base, offsets } => base.wrapping_add(i64::from(offsets[row])),
            Integers::Offsets32 { base, offsets } => base.wrapping_add(i64::from(offsets[row])),
        }
    }

    /// Copies the numbers of `rows`, of which there are as many as `into` has places.
    pub fn read(&self, rows: Range<usize>, into: &mut [i64]) {
        match self {
            Integers::Whole(values) => into.copy_from_slice(&values[rows]),
            Integers::Offsets16 { base, offsets } => widen(*base, &offsets[rows], into),
            Integers::Offsets32 { base, offsets } => widen(*base, &offsets[rows], into),
        }
    }
}

/// `base` and each of the offsets.
fn widen<T: Copy + Into<i64>>(base: i64, offsets: &[T], into: &mut [i64]) {
    assert_eq!(offsets.len(), into.len());
    into.iter_mut().zip(offsets).for_each(|(into, &offset)| *into = base.wrapping_add(offset.into()));
}

/// The form that integers are written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// As they are.
    Whole,
    /// As offsets of 16 bits from the number given.
    Offsets16(i64),
    /// As offsets of 32 bits.
    Offsets32(i64),
}

impl Form {
    /// The form of times, which lie between these two; the latest is before the earliest if there are none.
    pub fn of_range(min: i64, max: i64) -> Form {
        match max.saturating_sub(min) {
            span if span <= i64::from(u16::MAX) => Form::Offsets16(min),
            span if span <= i64::from(u32::MAX) => Form::Offsets32(min),
            _ => Form::Whole,
        }
    }

    /// The form of the values of some rows, those that are null aside.
    pub fn of(values: &[i64], nulls: Option<&Bitmap>, rows: Rows<'_>) -> Form {
        let value = |&row: &u32| values[row as usize];
        match (nulls.map(Bitmap::as_bytes), rows.only) {
            (None, None) => Form::of_all(values),
            (None, Some(only)) => Form::of_numbers(only.iter().map(value)),
            (Some(valid), None) => {
                let is_there = |&(row, _): &(usize, &i64)| bit(valid, row);
                Form::of_numbers(values.iter().enumerate().filter(is_there).map(|(_, &value)| value))
            }
            (Some(valid), Some(only)) => {
                Form::of_numbers(only.iter().filter(|row| bit(valid, **row as usize)).map(value))
            }
        }
    }

    fn of_all(values: &[i64]) -> Form {
        let spread = || values.iter().fold(0, |bits, number| bits | (number ^ (number >> 63)));
        Form::of_bits(values.first().copied().unwrap_or(0), differing_bits(values), spread)
    }

    fn of_numbers(numbers: impl Iterator<Item = i64> + Clone) -> Form {
        let first = numbers.clone().next().unwrap_or(0);
        let differing = numbers.clone().fold(0, |bits, number| bits | (number ^ first));
        Form::of_bits(first, differing, || numbers.fold(0, |bits, number| bits | (number ^ (number >> 63))))
    }

    /// By the bits in which numbers differ from the first, or, where some are negative, by how far they are from zero (`spread`).
    /// That takes exclusive and inclusive ors alone, which are vector instructions everywhere; comparisons of 64-bit numbers are
    /// not.
    fn of_bits(first: i64, differing: i64, spread: impl FnOnce() -> i64) -> Form {
        let size = |bits: i64| u64::BITS - bits.cast_unsigned().leading_zeros();
        if size(differing) <= 16 {
            return Form::Offsets16(first >> 16 << 16);
        }
        match (size(differing), size(spread())) {
            (_, ..=15) => Form::Offsets16(i16::MIN.into()),
            (..=32, _) => Form::Offsets32(first >> 32 << 32),
            (_, ..=31) => Form::Offsets32(i32::MIN.into()),
            _ => Form::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(values: &[i64]) -> Form {
        Form::of(values, None, Rows { count: values.len(), only: None })
    }

    #[test]
    fn the_form_is_short_if_high_bits_are_common_or_numbers_are_small() {
        assert_eq!(form(&[]), Form::Offsets16(0));
        assert_eq!(form(&[0, 65_535]), Form::Offsets16(0));
        assert_eq!(form(&[0, 65_536]), Form::Offsets32(0));
        assert_eq!(form(&[-1, -65_536]), Form::Offsets16(-65_536));
        assert_eq!(form(&[7 << 40, (7 << 40) + 9]), Form::Offsets16(7 << 40));
        assert_eq!(form(&[1 << 31, u32::MAX.into()]), Form::Offsets32(0));
        assert_eq!(form(&[0, 1 << 32]), Form::Whole);
        assert_eq!(form(&[i64::MIN, i64::MIN]), Form::Offsets16(i64::MIN));
        assert_eq!(form(&[i64::MAX, i64::MAX - 65_535]), Form::Offsets16(i64::MAX - 65_535));
        assert_eq!(form(&[i64::MIN, i64::MAX]), Form::Whole);
        // On both sides of zero.
        assert_eq!(form(&[-32_768, 0, 32_767]), Form::Offsets16(-32_768));
        assert_eq!(form(&[-32_769, 0]), Form::Offsets32(i32::MIN.into()));
        assert_eq!(form(&[-1, 32_768]), Form::Offsets32(i32::MIN.into()));
        assert_eq!(form(&[i32::MIN.into(), i32::MAX.into()]), Form::Offsets32(i32::MIN.into()));
        assert_eq!(form(&[-1, 1 << 31]), Form::Whole);
    }

    #[test]
    fn only_rows_that_are_there_decide() {
        let chosen = |only| Rows { count: 2, only: Some(only) };
        assert_eq!(Form::of(&[i64::MIN, 5, 6], None, chosen(&[1, 2])), Form::Offsets16(0));
        assert_eq!(Form::of(&[5, i64::MIN, 70_000], None, chosen(&[0, 2])), Form::Offsets32(0));
        let mut valid = Bitmap::new();
        [true, false, true].into_iter().for_each(|bit| valid.push(bit));
        let far = [7 << 40, 0, (7 << 40) + 9];
        assert_eq!(Form::of(&far, Some(&valid), Rows { count: 3, only: None }), Form::Offsets16(7 << 40));
        assert_eq!(Form::of(&far, Some(&valid), chosen(&[1, 2])), Form::Offsets16(7 << 40));
        assert_eq!(Form::of(&far, None, chosen(&[1, 2])), Form::Whole);
    }

    #[test]
    fn the_form_of_a_range_is_by_its_length() {
        assert_eq!(Form::of_range(70_000, 70_000 + 65_535), Form::Offsets16(70_000));
        assert_eq!(Form::of_range(70_000, 70_000 + 65_536), Form::Offsets32(70_000));
        assert_eq!(Form::of_range(-1, i64::from(u32::MAX)), Form::Whole);
        assert_eq!(Form::of_range(i64::MIN, i64::MAX), Form::Whole);
        assert_eq!(Form::of_range(i64::MAX, i64::MIN), Form::Offsets16(i64::MAX), "no rows");
    }

    #[test]
    fn every_form_is_read_alike() {
        let (base, rows) = (-70_000, 0..5);
        let (short, long) = ([0, 65_535, 1, 2, 3_u16], [0, 65_535, 1, 2, 3_u32]);
        let whole: Vec<i64> = short.iter().map(|&offset| base + i64::from(offset)).collect();
        let forms = [
            Integers::Whole(&whole),
            Integers::Offsets16 { base, offsets: &short },
            Integers::Offsets32 { base, offsets: &long },
        ];
        for integers in forms {
            assert_eq!((integers.len(), integers.is_empty()), (5, false));
            assert_eq!(rows.clone().map(|row| integers.get(row)).collect::<Vec<_>>(), whole);
            let mut some = [0; 3];
            integers.read(1..4, &mut some);
            assert_eq!(some, whole[1..4]);
        }
    }
}
