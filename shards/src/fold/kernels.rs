//! The hot loops: values of one column into rows of accumulators.
//!
//! Which states a column feeds is resolved per batch; the loops are compiled per combination. Which row an
//! event belongs to was decided before, see [`super::view_fold`].

use super::block::{Block, Runs};
use super::field_states::{FieldStates, Offsets, Place};
use super::pane_ring::PaneRing;
use crate::batch::columns::bit;
use corefold_aggregator::layout::StateKind;
use corefold_aggregator::sketch::exact_sum::{self, SuperSum};

/// Calls `$function` compiled for the sum, minimum and maximum that `$states` has.
macro_rules! per_combination {
    ($states:expr, $function:ident, $($argument:expr),*) => {
        match ($states.sum.is_some(), $states.min.is_some(), $states.max.is_some()) {
            (false, false, false) => $function::<false, false, false>($($argument),*),
            (true, false, false) => $function::<true, false, false>($($argument),*),
            (false, true, false) => $function::<false, true, false>($($argument),*),
            (true, true, false) => $function::<true, true, false>($($argument),*),
            (false, false, true) => $function::<false, false, true>($($argument),*),
            (true, false, true) => $function::<true, false, true>($($argument),*),
            (false, true, true) => $function::<false, true, true>($($argument),*),
            (true, true, true) => $function::<true, true, true>($($argument),*),
        }
    };
}

/// Counts the pending events in their rows, where no column's kernel does.
pub fn count_rows(block: &Block) {
    let mut runs = block.runs(usize::MAX);
    while let Some(row) = runs.row() {
        let start = runs.at;
        while runs.next_of(row).is_some() {}
        // SAFETY: `row` points to a whole row, whose first word counts its events.
        unsafe { *row += (runs.at - start) as u64 };
    }
}

/// Folds a column of doubles into the numeric states of `states`.
pub fn fold_f64(block: &mut Block, states: &FieldStates, values: &[f64], ring: &mut PaneRing) {
    let at = Offsets::of(states);
    if at.is_common() {
        common_f64(block, at, values, ring);
    } else {
        per_combination!(states, spread_f64, block, at, values, ring);
    }
    if let Some(place) = states.squares {
        squares_f64(block, place, values, ring);
    }
}

/// The numbers of a column with the common states, four rows side by side where the processor can.
fn common_f64(block: &Block, at: Offsets, values: &[f64], ring: &mut PaneRing) {
    #[cfg(target_arch = "x86_64")]
    if let Some(token) = fearless_simd::Level::new().as_avx2() {
        return super::four_rows::fold(token, block, at.sum_state, values, ring);
    }
    numbers_f64::<true, true, true, true>(block, at, values, ring);
}

fn spread_f64<const SUM: bool, const MIN: bool, const MAX: bool>(
    block: &Block,
    at: Offsets,
    values: &[f64],
    ring: &mut PaneRing,
) {
    numbers_f64::<SUM, MIN, MAX, false>(block, at, values, ring);
}

#[inline(always)]
fn numbers_f64<const SUM: bool, const MIN: bool, const MAX: bool, const COMMON: bool>(
    block: &Block,
    at: Offsets,
    values: &[f64],
    ring: &mut PaneRing,
) {
    let mut runs = block.runs(values.len());
    while run_f64::<SUM, MIN, MAX, COMMON>(block, &mut runs, at, values, ring) {}
}

/// One run of events of the same row. False at the end of the events.
#[inline(always)]
pub(super) fn run_f64<const SUM: bool, const MIN: bool, const MAX: bool, const COMMON: bool>(
    block: &Block,
    runs: &mut Runs<'_>,
    at: Offsets,
    values: &[f64],
    ring: &mut PaneRing,
) -> bool {
    let at = if COMMON { Offsets { sum_state: at.sum_state, ..Offsets::COMMON } } else { at };
    let Some(row) = runs.row() else { return false };
    // SAFETY: `row` points to a whole row of the layout that gave the offsets, in a page that lives while
    // the block does; nothing else refers to it meanwhile.
    let word = |offset: usize| unsafe { &mut *row.add(offset) };
    // Volatile, that is each by itself: as one vector, which compilers like, they would be taken apart at every event.
    // SAFETY: as above; a double is as large as a word.
    let read = |offset: usize| unsafe { row.add(offset).cast::<f64>().read_volatile() };
    // SAFETY: as above.
    let write = |offset: usize, value: f64| unsafe { row.add(offset).cast::<f64>().write_volatile(value) };
    let (mut high, mut low) = if SUM { (read(at.sum), read(at.sum + 1)) } else { (0.0, 0.0) };
    let mut min = if MIN { read(at.min) } else { 0.0 };
    let mut max = if MAX { read(at.max) } else { 0.0 };
    let start = runs.at;
    while let Some(event) = runs.next_of(row) {
        // SAFETY: `runs` has seen to it that all events are below the length.
        let value = unsafe { *values.get_unchecked(event) };
        if value.is_nan() {
            take_null(word(at.values));
            continue;
        }
        if SUM {
            (high, low) = match exact_sum::add(high, low, value) {
                Some(pair) => pair,
                None => exact_sum::settle(high, low, value, spill(block, runs.at - 1, at.sum_state, ring)),
            };
        }
        if MIN {
            min = smaller(value, min);
        }
        if MAX {
            max = larger(value, max);
        }
    }
    let count = (runs.at - start) as u64;
    if at.counts_rows {
        *word(0) += count;
    }
    *word(at.values) = word(at.values).wrapping_add(count);
    if SUM {
        write(at.sum, high);
        write(at.sum + 1, low);
    }
    if MIN {
        write(at.min, min);
    }
    if MAX {
        write(at.max, max);
    }
    true
}

/// Takes a null out of a count of values that its whole run is going to be added to.
#[cold]
fn take_null(values: &mut u64) {
    *values = values.wrapping_sub(1);
}

/// `value` if it is smaller than `than`, which is else the result: one instruction, which the compiler does not find by
/// itself where it could do minimum and maximum in several at once.
#[inline(always)]
fn smaller(value: f64, than: f64) -> f64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has these instructions.
    unsafe {
        use std::arch::x86_64::{_mm_cvtsd_f64, _mm_min_sd, _mm_set_sd};
        _mm_cvtsd_f64(_mm_min_sd(_mm_set_sd(value), _mm_set_sd(than)))
    }
    #[cfg(not(target_arch = "x86_64"))]
    if value < than { value } else { than }
}

/// `value` if it is larger than `than`, which is else the result; see [`smaller`].
#[inline(always)]
fn larger(value: f64, than: f64) -> f64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has these instructions.
    unsafe {
        use std::arch::x86_64::{_mm_cvtsd_f64, _mm_max_sd, _mm_set_sd};
        _mm_cvtsd_f64(_mm_max_sd(_mm_set_sd(value), _mm_set_sd(than)))
    }
    #[cfg(not(target_arch = "x86_64"))]
    if value > than { value } else { than }
}

fn squares_f64(block: &Block, place: Place, values: &[f64], ring: &mut PaneRing) {
    for index in block.pending() {
        let (event, row) = (block.event(index), block.row(index));
        let value = values[event as usize];
        if value.is_nan() {
            continue;
        }
        // SAFETY: as in `numbers_f64`; the state is three words.
        let words = unsafe { std::slice::from_raw_parts_mut(row.add(place.offset), 3) };
        let triple = (f64::from_bits(words[0]), f64::from_bits(words[1]), f64::from_bits(words[2]));
        let (high, middle, low) = match exact_sum::add_square(triple, value) {
            Some(triple) => triple,
            None => exact_sum::settle_square(triple, value, spill(block, index, place.state, ring)),
        };
        words.copy_from_slice(&[high, middle, low].map(f64::to_bits));
    }
}

/// The spill of a sum in the row of event `index` of the block.
#[cold]
fn spill<'a>(block: &Block, index: usize, state: usize, ring: &'a mut PaneRing) -> &'a mut SuperSum {
    ring.pane(block.pane(index)).sides.spill(block.slot(index), state)
}

/// Folds a column of integers, or of truth values as integers, into the numeric states of `states`.
pub fn fold_i64(block: &mut Block, states: &FieldStates, values: &[i64], validity: Option<&[u8]>) {
    match validity {
        None => per_combination!(states, numbers_i64, block, Offsets::of(states), values, |_| true),
        Some(bits) => {
            per_combination!(states, numbers_i64, block, Offsets::of(states), values, |event| bit(bits, event));
        }
    }
    if let Some(place) = states.squares {
        squares_i64(block, place, values, validity);
    }
}

fn numbers_i64<const SUM: bool, const MIN: bool, const MAX: bool>(
    block: &Block,
    at: Offsets,
    values: &[i64],
    valid: impl Fn(usize) -> bool,
) {
    let mut runs = block.runs(values.len());
    while let Some(row) = runs.row() {
        // SAFETY: as in `numbers_f64`.
        let word = |offset: usize| unsafe { &mut *row.add(offset) };
        let (mut low, mut high) = if SUM { (*word(at.sum), *word(at.sum + 1)) } else { (0, 0) };
        let mut min = if MIN { *word(at.min) as i64 } else { 0 };
        let mut max = if MAX { *word(at.max) as i64 } else { 0 };
        let (start, mut nulls) = (runs.at, 0);
        while let Some(event) = runs.next_of(row) {
            if !valid(event) {
                nulls += 1;
                continue;
            }
            // SAFETY: `runs` has seen to it that all events are below the length.
            let value = unsafe { *values.get_unchecked(event) };
            if SUM {
                let (sum, carry) = low.overflowing_add(value as u64);
                low = sum;
                high = high.wrapping_add((value >> 63) as u64).wrapping_add(u64::from(carry));
            }
            if MIN {
                min = min.min(value);
            }
            if MAX {
                max = max.max(value);
            }
        }
        let count = (runs.at - start) as u64;
        if at.counts_rows {
            *word(0) += count;
        }
        *word(at.values) += count - nulls;
        if SUM {
            *word(at.sum) = low;
            *word(at.sum + 1) = high;
        }
        if MIN {
            *word(at.min) = min as u64;
        }
        if MAX {
            *word(at.max) = max as u64;
        }
    }
}

fn squares_i64(block: &Block, place: Place, values: &[i64], validity: Option<&[u8]>) {
    for (&event, &row) in block.pending_rows() {
        if validity.is_some_and(|bits| !bit(bits, event as usize)) {
            continue;
        }
        let value = i128::from(values[event as usize]);
        let square = (value * value) as u128;
        // SAFETY: as in `numbers_f64`; the state is three words.
        unsafe {
            let words = row.add(place.offset);
            let sum = (u128::from(*words.add(1)) << 64) | u128::from(*words);
            let (sum, carry) = sum.overflowing_add(square);
            *words = sum as u64;
            *words.add(1) = (sum >> 64) as u64;
            *words.add(2) += u64::from(carry);
        }
    }
}

/// Folds a column of truth values (0, 1, 2 for null).
pub fn fold_bool(block: &mut Block, states: &FieldStates, values: &[u8]) {
    for (&event, &row) in block.pending_rows() {
        let value = values[event as usize];
        if value > 1 {
            continue;
        }
        // SAFETY: as in `numbers_f64`.
        unsafe {
            *row.add(states.values) += 1;
            if let Some(place) = states.min {
                let min = row.add(place.offset);
                *min = (*min as i64).min(i64::from(value)) as u64;
            }
            if let Some(place) = states.max {
                let max = row.add(place.offset);
                *max = (*max as i64).max(i64::from(value)) as u64;
            }
        }
    }
}

/// Counts the non-null values of a text column; an index of `null` is a null.
pub fn count_text(block: &Block, values: usize, null: u32, index: impl Fn(usize) -> u32) {
    for (&event, &row) in block.pending_rows() {
        if index(event as usize) != null {
            // SAFETY: as in `numbers_f64`.
            unsafe { *row.add(values) += 1 };
        }
    }
}

/// The words of a state in the row of event `index` of the block.
pub fn state_words(block: &mut Block, index: usize, place: Place, kind: StateKind) -> &mut [u64] {
    let row = block.row(index);
    // SAFETY: as in `numbers_f64`; the borrow of the block keeps a second reference out.
    unsafe { std::slice::from_raw_parts_mut(row.add(place.offset), kind.words()) }
}
