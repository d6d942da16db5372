//! The hot loops: values of one column into rows of accumulators.
//!
//! Which states a column feeds is resolved per batch; the loops are compiled per combination. Which row an
//! event belongs to was decided before, see [`super::view_fold`].

use super::pane_ring::PaneRing;
use crate::batch::columns::bit;
use corefold_aggregator::layout::{RowLayout, StateKind};
use corefold_aggregator::sketch::exact_sum::{self, SuperSum};
use corefold_aggregator::spec::FieldType;

/// Events folded at a time: their rows stay in the first-level cache from one column to the next.
pub const BLOCK_EVENTS: usize = 1024;

/// Up to [`BLOCK_EVENTS`] events that found their rows. All vectors have the same length.
#[derive(Debug, Default)]
pub struct Block {
    /// Row of the batch.
    pub events: Vec<u32>,
    /// Row of accumulators; valid while no pane is recycled, and no two rows overlap but by being the same.
    pub rows: Vec<*mut u64>,
    /// Index of the pane in its ring.
    pub panes: Vec<u32>,
    /// Slot of the group.
    pub slots: Vec<u32>,
    /// Events below have been counted in their rows.
    counted: usize,
    /// Events below have their values in their rows too: kernels go from here to `counted`.
    folded: usize,
}

impl Block {
    /// Forgets the events, keeps the memory.
    pub fn clear(&mut self) {
        self.events.clear();
        self.rows.clear();
        self.panes.clear();
        self.slots.clear();
        (self.counted, self.folded) = (0, 0);
    }

    /// Counts the next event in its row; `None` if all are counted, `Some(false)` if its group has none in this pane
    /// yet: then the event is not counted, and its row is to be settled first.
    #[inline(always)]
    pub fn count_next(&mut self) -> Option<bool> {
        let row = *self.rows.get(self.counted)?;
        // SAFETY: `row` points to a whole row, whose first word counts its events.
        unsafe {
            if *row == 0 {
                return Some(false);
            }
            *row += 1;
        }
        self.counted += 1;
        Some(true)
    }

    /// Counts the next event in the row of `slot`, where it belongs after all.
    ///
    /// # Safety
    ///
    /// As for [`Block::push`].
    pub unsafe fn count_in(&mut self, slot: u32, row: *mut u64) {
        self.slots[self.counted] = slot;
        self.rows[self.counted] = row;
        // SAFETY: the caller's promise.
        unsafe { *row += 1 };
        self.counted += 1;
    }

    /// Slot and pane of the next event to be counted.
    pub fn next_uncounted(&self) -> (u32, u32) {
        (self.slots[self.counted], self.panes[self.counted])
    }

    /// The events that are counted but not folded.
    pub fn pending(&self) -> std::ops::Range<usize> {
        self.folded..self.counted
    }

    /// Notes that all columns of the pending events have been folded.
    pub fn note_folded(&mut self) {
        self.folded = self.counted;
    }

    /// Whether no event is counted but not folded.
    pub fn is_folded(&self) -> bool {
        self.folded == self.counted
    }

    /// Adds an event.
    ///
    /// # Safety
    ///
    /// `row` points to a whole row of the layout whose states the block is folded into, and stays valid until the
    /// block is cleared; meanwhile rows are reached through the block alone.
    #[inline(always)]
    pub unsafe fn push(&mut self, event: u32, row: *mut u64, pane: u32, slot: u32) {
        self.events.push(event);
        self.rows.push(row);
        self.panes.push(pane);
        self.slots.push(slot);
    }
}

/// A state of a column: word within the row, and index in the layout.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// First word within the row.
    pub offset: usize,
    /// Index of the state.
    pub state: usize,
}

/// What one column feeds.
#[derive(Clone, Debug)]
pub struct FieldStates {
    /// Index of the field.
    pub field: usize,
    /// Its type.
    pub kind: FieldType,
    /// Word that counts non-null values.
    pub values: usize,
    sum: Option<Place>,
    squares: Option<Place>,
    min: Option<Place>,
    max: Option<Place>,
    /// The states that are not numbers in a row, with their kinds.
    pub others: Vec<(StateKind, Place)>,
}

impl FieldStates {
    /// Per field that `layout` keeps states of.
    pub fn of(layout: &RowLayout) -> Vec<FieldStates> {
        let mut fields: Vec<FieldStates> = Vec::new();
        for (index, state) in layout.states.iter().enumerate().skip(1) {
            let place = Place { offset: state.offset, state: index };
            let at = fields.iter().position(|f| f.field == state.field).unwrap_or_else(|| {
                fields.push(FieldStates {
                    field: state.field,
                    kind: state.field_type,
                    values: state.offset,
                    sum: None,
                    squares: None,
                    min: None,
                    max: None,
                    others: Vec::new(),
                });
                fields.len() - 1
            });
            let field = &mut fields[at];
            match state.kind {
                StateKind::Rows => {}
                StateKind::Values => field.values = state.offset,
                StateKind::SumI64 | StateKind::SumF64 => field.sum = Some(place),
                StateKind::SquareI64 | StateKind::SquareF64 => field.squares = Some(place),
                StateKind::MinI64 | StateKind::MinF64 => field.min = Some(place),
                StateKind::MaxI64 | StateKind::MaxF64 => field.max = Some(place),
                kind => field.others.push((kind, place)),
            }
        }
        fields
    }

    const fn offset(place: Option<Place>) -> usize {
        match place {
            Some(place) => place.offset,
            None => usize::MAX,
        }
    }
}

/// Word offsets of a column's numeric states; those not compiled in are not read.
#[derive(Clone, Copy)]
struct Offsets {
    values: usize,
    sum: usize,
    min: usize,
    max: usize,
    sum_state: usize,
}

impl Offsets {
    fn of(states: &FieldStates) -> Offsets {
        Offsets {
            values: states.values,
            sum: FieldStates::offset(states.sum),
            min: FieldStates::offset(states.min),
            max: FieldStates::offset(states.max),
            sum_state: states.sum.map_or(0, |place| place.state),
        }
    }
}

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

/// Folds a column of doubles into the numeric states of `states`.
pub fn fold_f64(block: &mut Block, states: &FieldStates, values: &[f64], ring: &mut PaneRing) {
    per_combination!(states, numbers_f64, block, Offsets::of(states), values, ring);
    if let Some(place) = states.squares {
        squares_f64(block, place, values, ring);
    }
}

fn numbers_f64<const SUM: bool, const MIN: bool, const MAX: bool>(
    block: &Block,
    at: Offsets,
    values: &[f64],
    ring: &mut PaneRing,
) {
    for index in block.pending() {
        let (event, row) = (block.events[index], block.rows[index]);
        let value = values[event as usize];
        if value.is_nan() {
            continue;
        }
        // SAFETY: `row` points to a whole row of the layout that gave the offsets, in a page that lives while
        // the block does; nothing else refers to it meanwhile.
        unsafe {
            *row.add(at.values) += 1;
            if SUM {
                let high = row.add(at.sum);
                let low = row.add(at.sum + 1);
                let pair = (f64::from_bits(*high), f64::from_bits(*low));
                let (new_high, new_low) = match exact_sum::add(pair.0, pair.1, value) {
                    Some(pair) => pair,
                    None => exact_sum::settle(pair.0, pair.1, value, spill(block, index, at.sum_state, ring)),
                };
                *high = new_high.to_bits();
                *low = new_low.to_bits();
            }
            if MIN {
                let min = row.add(at.min);
                if value < f64::from_bits(*min) {
                    *min = value.to_bits();
                }
            }
            if MAX {
                let max = row.add(at.max);
                if value > f64::from_bits(*max) {
                    *max = value.to_bits();
                }
            }
        }
    }
}

fn squares_f64(block: &Block, place: Place, values: &[f64], ring: &mut PaneRing) {
    for index in block.pending() {
        let (event, row) = (block.events[index], block.rows[index]);
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
    ring.pane(block.panes[index]).sides.spill(block.slots[index], state)
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
    for (&event, &row) in block.events[block.pending()].iter().zip(&block.rows[block.pending()]) {
        let value = values[event as usize];
        if !valid(event as usize) {
            continue;
        }
        // SAFETY: as in `numbers_f64`.
        unsafe {
            *row.add(at.values) += 1;
            if SUM {
                let low = row.add(at.sum);
                let high = row.add(at.sum + 1);
                let (sum, carry) = (*low).overflowing_add(value as u64);
                *low = sum;
                *high = (*high).wrapping_add((value >> 63) as u64).wrapping_add(u64::from(carry));
            }
            if MIN {
                let min = row.add(at.min);
                *min = (*min as i64).min(value) as u64;
            }
            if MAX {
                let max = row.add(at.max);
                *max = (*max as i64).max(value) as u64;
            }
        }
    }
}

fn squares_i64(block: &Block, place: Place, values: &[i64], validity: Option<&[u8]>) {
    for (&event, &row) in block.events[block.pending()].iter().zip(&block.rows[block.pending()]) {
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
    for (&event, &row) in block.events[block.pending()].iter().zip(&block.rows[block.pending()]) {
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
    for (&event, &row) in block.events[block.pending()].iter().zip(&block.rows[block.pending()]) {
        if index(event as usize) != null {
            // SAFETY: as in `numbers_f64`.
            unsafe { *row.add(values) += 1 };
        }
    }
}

/// The words of a state in the row of event `index` of the block.
pub fn state_words(block: &mut Block, index: usize, place: Place, kind: StateKind) -> &mut [u64] {
    let row = block.rows[index];
    // SAFETY: as in `numbers_f64`; the borrow of the block keeps a second reference out.
    unsafe { std::slice::from_raw_parts_mut(row.add(place.offset), kind.words()) }
}
