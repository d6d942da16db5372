//! The hot loops: values of one column into rows of accumulators.
//!
//! Which states a column feeds is resolved per batch; the loops are compiled per combination. Which row an
//! event belongs to was decided before, see [`super::view_fold`].

use super::pane_ring::PaneRing;
use crate::batch::columns::bit;
use corefold_aggregator::layout::{RowLayout, StateKind};
use corefold_aggregator::sketch::exact_sum::{self, SuperSum};
use corefold_aggregator::spec::FieldType;

/// Events folded at a time: what they touch stays in the first-level cache from one step to the next.
pub const BLOCK_EVENTS: usize = 256;

/// Up to [`BLOCK_EVENTS`] events on their way to their rows.
#[derive(Debug)]
pub struct Block {
    /// Row of the batch.
    events: [u32; BLOCK_EVENTS],
    /// Index of the pane in its ring.
    panes: [u32; BLOCK_EVENTS],
    /// Slot of the group, of the events below `known`.
    slots: [u32; BLOCK_EVENTS],
    /// Row of accumulators, of the events below `placed`; valid while no pane is recycled, and no two rows overlap but
    /// by being the same. Behind them lies null, which ends the last run.
    rows: [*mut u64; BLOCK_EVENTS + 1],
    len: usize,
    known: usize,
    placed: usize,
    /// Events below have their values in their rows too: kernels go from here to `placed`.
    folded: usize,
    /// One past the highest event.
    events_end: usize,
    /// Whether the events are one run of the batch's rows, all of one pane.
    is_run: bool,
}

/// Rows of a batch.
#[derive(Debug)]
pub enum Events<'a> {
    /// One after the other.
    Run(std::ops::Range<usize>),
    /// Some of them.
    List(&'a [u32]),
}

impl Default for Block {
    fn default() -> Block {
        Block {
            events: [0; BLOCK_EVENTS],
            panes: [0; BLOCK_EVENTS],
            slots: [0; BLOCK_EVENTS],
            rows: [std::ptr::null_mut(); BLOCK_EVENTS + 1],
            len: 0,
            known: 0,
            placed: 0,
            folded: 0,
            events_end: 0,
            is_run: false,
        }
    }
}

impl Block {
    /// Forgets the events.
    pub fn clear(&mut self) {
        (self.len, self.known, self.placed, self.folded, self.events_end) = (0, 0, 0, 0, 0);
        self.is_run = false;
    }

    /// Replaces the events by a run of them that belong to one pane.
    pub fn fill(&mut self, events: std::ops::Range<usize>, pane: u32) {
        self.clear();
        (self.len, self.events_end, self.is_run) = (events.len(), events.end, true);
        for (place, event) in self.events[..events.len()].iter_mut().zip(events) {
            *place = event as u32;
        }
        self.panes[..self.len].fill(pane);
    }

    /// Adds an event.
    #[inline(always)]
    pub fn push(&mut self, event: usize, pane: u32) {
        self.events[self.len] = event as u32;
        self.panes[self.len] = pane;
        self.len += 1;
        self.events_end = self.events_end.max(event + 1);
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Row of the batch of event `index`.
    pub fn event(&self, index: usize) -> u32 {
        self.events[index]
    }

    /// Pane of event `index`.
    pub fn pane(&self, index: usize) -> u32 {
        self.panes[index]
    }

    /// The events without a slot, and where their slots go.
    pub fn unknown(&mut self) -> (Events<'_>, &mut [u32]) {
        let (list, slots) = (&self.events[self.known..self.len], &mut self.slots[self.known..self.len]);
        let events =
            if self.is_run { Events::Run(self.events_end - list.len()..self.events_end) } else { Events::List(list) };
        (events, slots)
    }

    /// Notes that the next `count` events have got their slots. Returns the first without one.
    pub fn note_known(&mut self, count: usize) -> Option<usize> {
        self.known += count;
        (self.known < self.len).then_some(self.known)
    }

    /// Gives the first event without a slot its slot.
    pub fn know(&mut self, slot: u32) {
        self.slots[self.known] = slot;
        self.known += 1;
    }

    /// The next events that have slots but no rows, as many as belong to one pane: pane, slots, and where rows go.
    pub fn unplaced(&mut self) -> Option<(u32, &[u32], &mut [*mut u64])> {
        let panes = &self.panes[self.placed..self.known];
        let pane = *panes.first()?;
        let other = if self.is_run { None } else { panes.iter().position(|&other| other != pane) };
        let count = other.unwrap_or(panes.len());
        let range = self.placed..self.placed + count;
        Some((pane, &self.slots[range.clone()], &mut self.rows[range]))
    }

    /// Notes that the next `count` events have got their rows.
    ///
    /// # Safety
    ///
    /// Each row is a whole one of the layout whose states the block is folded into, and stays valid until the block is
    /// cleared; meanwhile rows are reached through the block alone.
    pub unsafe fn note_placed(&mut self, count: usize) {
        self.placed += count;
        assert!(self.placed <= self.known);
        self.rows[self.placed] = std::ptr::null_mut();
    }

    /// Slot of the next event without a row.
    pub fn next_unplaced(&self) -> Option<u32> {
        (self.placed < self.known).then(|| self.slots[self.placed])
    }

    /// Puts the next event without a row into the row of `slot`, where it belongs after all.
    ///
    /// # Safety
    ///
    /// As for [`Block::note_placed`].
    pub unsafe fn place(&mut self, slot: u32, row: *mut u64) {
        self.slots[self.placed] = slot;
        self.rows[self.placed] = row;
        // SAFETY: the caller's promise.
        unsafe { self.note_placed(1) };
    }

    /// The events that have rows but are not folded.
    pub fn pending(&self) -> std::ops::Range<usize> {
        self.folded..self.placed
    }

    /// Notes that all columns of the pending events have been folded.
    pub fn note_folded(&mut self) {
        self.folded = self.placed;
    }

    /// The pending events for a kernel over a column of `values` values.
    fn runs(&self, values: usize) -> Runs<'_> {
        assert!(self.events_end <= values);
        let (events, rows) = (&self.events[..self.placed], &self.rows[..=self.placed]);
        assert!(rows[self.placed].is_null());
        Runs { events, rows, at: self.folded }
    }
}

/// Pending events as runs: events one after the other that go to the same row, which is read and written once for all
/// of them.
#[derive(Clone, Copy)]
struct Runs<'a> {
    events: &'a [u32],
    /// One more than events; the last is null.
    rows: &'a [*mut u64],
    at: usize,
}

impl Runs<'_> {
    /// The row of the run that begins here, unless this is the end.
    #[inline(always)]
    fn row(&self) -> Option<*mut u64> {
        // SAFETY: `at` is at most the number of events, and `rows` is longer.
        let row = unsafe { *self.rows.get_unchecked(self.at) };
        (!row.is_null()).then_some(row)
    }

    /// The event here, whose run is that of `row`, which is not null; then moves on. `None` at the end of the run.
    #[inline(always)]
    fn next_of(&mut self, row: *mut u64) -> Option<usize> {
        // SAFETY: as above; and where the row is not null there is an event.
        unsafe {
            if *self.rows.get_unchecked(self.at) != row {
                return None;
            }
            let event = *self.events.get_unchecked(self.at);
            self.at += 1;
            Some(event as usize)
        }
    }
}

/// Asks for the cache lines of a row or a place in a table.
#[inline(always)]
pub fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that shows, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
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
    /// Whether its kernel counts the events of each row too: that of one column does.
    pub counts_rows: bool,
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
                    counts_rows: false,
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
        if let Some(field) = fields.iter_mut().find(|f| matches!(f.kind, FieldType::F64 | FieldType::I64)) {
            field.counts_rows = true;
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
#[derive(Clone, Copy, PartialEq, Eq)]
struct Offsets {
    counts_rows: bool,
    values: usize,
    sum: usize,
    min: usize,
    max: usize,
    sum_state: usize,
}

impl Offsets {
    /// Those of a view with sum, minimum and maximum of one column: known when the loop is compiled.
    const COMMON: Offsets = Offsets { counts_rows: true, values: 1, sum: 2, min: 4, max: 5, sum_state: 0 };

    fn is_common(self) -> bool {
        self == Offsets { sum_state: self.sum_state, ..Offsets::COMMON }
    }

    fn of(states: &FieldStates) -> Offsets {
        Offsets {
            counts_rows: states.counts_rows,
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

/// The numbers of a column with the common states, with AVX where there is one: it needs no copies of registers.
fn common_f64(block: &Block, at: Offsets, values: &[f64], ring: &mut PaneRing) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx")]
        fn with_avx(block: &Block, at: Offsets, values: &[f64], ring: &mut PaneRing) {
            numbers_f64::<true, true, true, true>(block, at, values, ring);
        }
        if std::arch::is_x86_feature_detected!("avx") {
            // SAFETY: just looked at.
            return unsafe { with_avx(block, at, values, ring) };
        }
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
    let at = if COMMON { Offsets { sum_state: at.sum_state, ..Offsets::COMMON } } else { at };
    let mut runs = block.runs(values.len());
    while let Some(row) = runs.row() {
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
    }
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
