//! One open pane of one view: rows of accumulators, one after the other.
//!
//! They begin in the order of their first events: close together, however many groups there are elsewhere. Once a pane
//! has rows for a good part of all slots, each slot gets the row of its number, with events or not, and nothing has to be
//! looked up. Rows are reached by pointer from the hot loops, so this file owns their memory. Which event goes to which
//! group is not decided here.

use corefold_aggregator::layout::RowLayout;
use corefold_aggregator::partial::{OTHER_SLOT, Partial};
use corefold_aggregator::rows::{MergeScope, Rows, Side, Sides, copy_row};
use corefold_aggregator::time::{EventTime, PaneId};
use std::collections::BinaryHeap;
use std::ops::Range;

use super::block::prefetch;
use super::frozen::Frozen;
use super::group_table::GroupTable;
use super::page_pool::{PAGE_ROWS, PagePool};
use super::row_index::RowIndex;

/// Rows whose index the second-level cache holds as a rule: beyond, it is fetched ahead.
const NEAR_ROWS: usize = 1 << 16;

/// A pane with rows for more than one in so many of all slots keeps them by slot, up to so many slots.
const BY_SLOT_SHARE: usize = 4;
const BY_SLOT_MAX: usize = 1 << 17;

/// Words of a row with count, sum, minimum and maximum of one column.
const COMMON_STRIDE: usize = 6;

/// Where in the panes of a view the next partial begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PaneCursor {
    /// The pane, or the next one that there is.
    pub pane: PaneId,
    /// Rows of it that have gone. They stay where they are: no event comes to a closed pane.
    pub row: usize,
}

impl PaneCursor {
    /// The beginning of a pane.
    pub const fn at(pane: PaneId) -> PaneCursor {
        PaneCursor { pane, row: 0 }
    }

    /// Before all panes.
    pub const START: PaneCursor = PaneCursor::at(PaneId(i64::MIN));
}

/// An open (or closed, not yet released) pane.
#[derive(Debug)]
pub struct Pane {
    /// Its number.
    pub id: PaneId,
    /// First instant.
    pub start: EventTime,
    /// First instant after it.
    pub end: EventTime,
    /// Rows by slot, unless they lie by slot.
    index: RowIndex,
    /// Whether the row of a slot is that of its number.
    is_by_slot: bool,
    /// The rows, and behind them some without events.
    words: Vec<u64>,
    /// The pane as it was when a snapshot began.
    frozen: Option<Box<Frozen>>,
    stride: usize,
    /// Slot of each row. The row of a group that was moved to "other" stays, without events; by slot there are many such.
    slots: Vec<u32>,
    /// What does not fit into rows; spills by slot.
    pub sides: Sides,
    /// Groups with events, "other" aside; not known by slot.
    groups: u32,
    /// Whether there are rows without events.
    has_gaps: bool,
    /// Hash and slot of every group, largest first; filled once the pane is full.
    ranked: BinaryHeap<(u64, u32)>,
}

impl Pane {
    /// A pane with no rows.
    pub fn new(id: PaneId, start: EventTime, end: EventTime, pool: &mut PagePool) -> Pane {
        Pane {
            id,
            start,
            end,
            index: RowIndex::new(&mut pool.chunks),
            is_by_slot: false,
            words: pool.take_rows(),
            frozen: None,
            stride: pool.stride,
            slots: pool.lists.pop().unwrap_or_default(),
            sides: Sides::default(),
            groups: 0,
            has_gaps: false,
            ranked: BinaryHeap::new(),
        }
    }

    /// Words of the pages that its rows lie in: memory of a larger pane that went before does not count.
    pub fn size(&self) -> usize {
        self.slots.len().max(1).next_multiple_of(PAGE_ROWS) * self.stride
    }

    /// Whether it has no room for another group when it may have `groups_max`.
    pub fn is_full(&self, groups_max: u32) -> bool {
        // By slot there are never more slots than that.
        !self.is_by_slot && self.groups >= groups_max
    }

    /// Whether `slot` has events in the pane.
    pub fn holds(&self, slot: u32) -> bool {
        self.words(slot).is_some_and(|words| words[0] != 0)
    }

    /// Slots that have events.
    pub fn held(&self) -> impl Iterator<Item = u32> {
        self.held_in(0..self.slots.len())
    }

    fn held_in(&self, rows: Range<usize>) -> impl Iterator<Item = u32> {
        let words = self.words[rows.start * self.stride..rows.end * self.stride].chunks_exact(self.stride);
        self.slots[rows].iter().zip(words).filter(|(_, words)| words[0] != 0).map(|(&slot, _)| slot)
    }

    /// Whether so many more groups, of those in `table`, find room without the rows being moved.
    #[inline]
    pub fn has_space(&self, groups: usize, table: &GroupTable) -> bool {
        if self.is_by_slot {
            return self.slots.len() >= table.slots_end();
        }
        // Memory that another pane has left says nothing about how the rows of a new one are to lie: `reserve` does.
        !self.slots.is_empty() && self.words.len() >= (self.slots.len() + groups) * self.stride
    }

    /// Makes room for so many more groups of those in `table`. Rows may move.
    pub fn reserve(&mut self, groups: usize, groups_max: u32, table: &GroupTable, pool: &mut PagePool) {
        let slots_end = table.slots_end();
        let may_be = slots_end <= BY_SLOT_MAX.min(groups_max as usize) && self.ranked.is_empty();
        if self.is_by_slot && !may_be {
            self.order_by_first_event(pool);
        } else if !self.is_by_slot && may_be && self.frozen.is_none() && self.belongs_by_slot(slots_end, pool) {
            self.order_by_slot(slots_end, pool);
        }
        let rows = if self.is_by_slot { slots_end } else { self.slots.len() + groups };
        self.extend_to(rows, pool);
        if self.is_by_slot {
            self.slots.extend(self.slots.len() as u32..slots_end as u32);
        }
    }

    fn belongs_by_slot(&self, slots_end: usize, pool: &PagePool) -> bool {
        match self.slots.len() {
            0 => pool.starts_by_slot,
            rows => rows >= PAGE_ROWS && rows * BY_SLOT_SHARE > slots_end,
        }
    }

    /// Makes rows until there are so many, and up to a whole page.
    fn extend_to(&mut self, rows: usize, pool: &PagePool) {
        pool.extend(&mut self.words, rows);
    }

    /// Moves each row to the place of its slot, of which there are `slots_end`.
    #[cold]
    fn order_by_slot(&mut self, slots_end: usize, pool: &mut PagePool) {
        let mut words = pool.take_rows();
        pool.extend(&mut words, slots_end);
        for (&slot, row) in self.slots.iter().zip(self.words.chunks_exact(self.stride)) {
            words[slot as usize * self.stride..][..self.stride].copy_from_slice(row);
        }
        std::mem::take(&mut self.index).recycle(&mut pool.chunks);
        self.slots.clear();
        self.slots.extend(0..slots_end as u32);
        self.give_back(words, pool);
        (self.is_by_slot, self.has_gaps) = (true, true);
    }

    /// Closes the gaps between rows that lie by slot.
    #[cold]
    fn order_by_first_event(&mut self, pool: &mut PagePool) {
        if let Some(frozen) = &mut self.frozen {
            (0..self.slots.len()).step_by(PAGE_ROWS).for_each(|row| frozen.keep(row, &self.words, pool));
        }
        let mut words = pool.take_rows();
        words.clear();
        let slots = std::mem::take(&mut self.slots);
        for (slot, row) in slots.into_iter().zip(self.words.chunks_exact(self.stride)).filter(|(_, row)| row[0] != 0) {
            self.index.set(slot, self.slots.len() as u32, &mut pool.chunks);
            self.slots.push(slot);
            words.extend_from_slice(row);
        }
        let page = pool.template.len();
        words.extend_from_slice(&pool.template[words.len() % page..]);
        self.groups = self.slots.iter().filter(|&&slot| slot != OTHER_SLOT).count() as u32;
        self.give_back(words, pool);
        (self.is_by_slot, self.has_gaps) = (false, false);
    }

    /// Replaces the memory of the rows.
    fn give_back(&mut self, words: Vec<u64>, pool: &mut PagePool) {
        pool.give_back(std::mem::replace(&mut self.words, words));
    }

    /// Finds the rows of `slots`, made where there is none, up to the first for which `groups_max` leaves no room;
    /// returns how many. There is space for all of them. Rows are valid until [`Pane::reserve`] or the pane is recycled.
    pub fn find_rows(&mut self, slots: &[u32], rows: &mut [*mut u64], groups_max: u32, pool: &mut PagePool) -> usize {
        if self.is_by_slot {
            self.rows_by_slot(slots, rows, pool);
            return slots.len();
        }
        assert!(self.words.len() >= (self.slots.len() + slots.len()) * self.stride);
        if self.slots.len() > NEAR_ROWS {
            slots.iter().filter_map(|&slot| self.index.place(slot)).for_each(|place| prefetch(place));
        }
        let (start, stride) = (self.words.as_mut_ptr(), self.stride);
        for (at, (&slot, found)) in slots.iter().zip(rows).enumerate() {
            let row = match self.index.get(slot) {
                Some(row) => row,
                None if self.has_room(slot, groups_max) => self.admit(slot, pool),
                None => return at,
            };
            if let Some(frozen) = &mut self.frozen {
                frozen.keep(row as usize, &self.words, pool);
            }
            *found = start.wrapping_add(row as usize * stride);
            // Its first and its last cache line.
            prefetch(*found);
            prefetch(found.wrapping_add(stride - 1));
        }
        slots.len()
    }

    fn rows_by_slot(&mut self, slots: &[u32], rows: &mut [*mut u64], pool: &mut PagePool) {
        let highest = slots.iter().fold(0, |highest, &slot| slot.max(highest));
        assert!((highest as usize) < self.slots.len(), "there is a row for every slot");
        if let Some(frozen) = &mut self.frozen {
            slots.iter().for_each(|&slot| frozen.keep(slot as usize, &self.words, pool));
        }
        let (start, stride) = (self.words.as_mut_ptr(), self.stride);
        for (&slot, found) in slots.iter().zip(rows) {
            *found = start.wrapping_add(slot as usize * stride);
            // Its first and its last cache line.
            prefetch(*found);
            prefetch(found.wrapping_add(stride - 1));
        }
    }

    /// The row of `slot`, made if there is none.
    pub fn row_of(&mut self, slot: u32, pool: &mut PagePool) -> *mut u64 {
        self.words_of(slot, pool).as_mut_ptr()
    }

    fn words_of(&mut self, slot: u32, pool: &mut PagePool) -> &mut [u64] {
        let row = match self.find(slot) {
            Some(row) => row,
            None if self.is_by_slot => {
                self.extend_to(slot as usize + 1, pool);
                self.slots.extend(self.slots.len() as u32..=slot);
                slot
            }
            None => {
                self.extend_to(self.slots.len() + 1, pool);
                self.admit(slot, pool)
            }
        };
        if let Some(frozen) = &mut self.frozen {
            frozen.keep(row as usize, &self.words, pool);
        }
        &mut self.words[row as usize * self.stride..][..self.stride]
    }

    #[inline(always)]
    fn has_room(&self, slot: u32, groups_max: u32) -> bool {
        slot == OTHER_SLOT || (self.groups < groups_max && self.ranked.is_empty())
    }

    /// Gives `slot` a row, for which there is space.
    fn admit(&mut self, slot: u32, pool: &mut PagePool) -> u32 {
        let row = self.slots.len() as u32;
        self.slots.push(slot);
        self.index.set(slot, row, &mut pool.chunks);
        self.groups += u32::from(slot != OTHER_SLOT);
        row
    }

    fn find(&self, slot: u32) -> Option<u32> {
        match self.is_by_slot {
            true => Some(slot).filter(|&slot| (slot as usize) < self.slots.len()),
            false => self.index.get(slot),
        }
    }

    fn words(&self, slot: u32) -> Option<&[u64]> {
        let row = self.find(slot)? as usize;
        Some(&self.words[row * self.stride..][..self.stride])
    }

    /// Keeps the pane as it is for a snapshot. Costs nothing per row: a page is copied before it changes.
    pub fn freeze(&mut self) {
        assert!(self.frozen.is_none(), "what is frozen twice is lost");
        self.frozen = Some(Box::new(Frozen::new(self.slots.len(), self.is_by_slot, self.sides.clone())));
    }

    /// Ends what `freeze` began.
    pub fn thaw(&mut self, pool: &mut PagePool) {
        if let Some(frozen) = self.frozen.take() {
            frozen.recycle(pool);
        }
    }

    /// Copies rows into `partial` as they were when the pane was frozen: about `rows_max`, from the `from`-th on, below
    /// which nothing is asked for again. Returns where to go on; `None` when that was all, or nothing was kept of this
    /// pane.
    pub fn write_frozen(
        &mut self,
        from: usize,
        rows_max: usize,
        layout: &RowLayout,
        partial: &mut Partial,
    ) -> Option<usize> {
        self.frozen.as_mut()?.write((&self.slots, &self.words), from..from + rows_max, layout, partial)
    }

    /// Gives a group that [`Pane::make_room`] made room for its row.
    pub fn admit_ranked(&mut self, slot: u32, table: &GroupTable, pool: &mut PagePool) -> *mut u64 {
        if slot != OTHER_SLOT && !self.ranked.is_empty() {
            self.ranked.push((table.hash(slot), slot));
        }
        self.row_of(slot, pool)
    }

    /// In a full pane: whether a new group with `hash` belongs to the kept ones. If so, the group with the
    /// largest hash has been moved to "other" and there is room.
    pub fn make_room(&mut self, hash: u64, layout: &RowLayout, table: &GroupTable, pool: &mut PagePool) -> bool {
        if self.ranked.is_empty() {
            let held = self.held().filter(|&slot| slot != OTHER_SLOT);
            self.ranked = held.map(|slot| (table.hash(slot), slot)).collect();
        }
        // Equal hashes of different keys are as good as impossible, and then the coordinator decides by key.
        if self.ranked.peek().is_none_or(|(largest, _)| hash >= *largest) {
            return false;
        }
        if let Some((_, evicted)) = self.ranked.pop() {
            self.move_to_other(evicted, layout, pool);
        }
        true
    }

    fn move_to_other(&mut self, slot: u32, layout: &RowLayout, pool: &mut PagePool) {
        let mut evicted = self.take_row(slot, layout, pool);
        evicted.grow(layout, 1);
        self.merge_row(OTHER_SLOT, &evicted, layout, pool);
        self.index.remove(slot);
        self.groups -= 1;
        self.has_gaps = true;
    }

    /// Adds a row that was kept elsewhere: the first of its slot here, or one to be merged with it.
    pub fn adopt_row(
        &mut self,
        slot: u32,
        (words, sides, row): (&[u64], &Sides, u32),
        layout: &RowLayout,
        table: &GroupTable,
        pool: &mut PagePool,
    ) {
        if self.words(slot).is_some_and(|words| words[0] != 0) {
            let mut source = Rows::default();
            source.push_row(layout, words, sides, row);
            return self.merge_row(slot, &source, layout, pool);
        }
        self.admit_ranked(slot, table, pool);
        let mut own = std::mem::take(&mut self.sides);
        copy_row(layout, (self.words_of(slot, pool), &mut own, slot), (words, sides, row));
        self.sides = own;
    }

    /// Merges row 0 of `source` into the row of `slot`.
    fn merge_row(&mut self, slot: u32, source: &Rows, layout: &RowLayout, pool: &mut PagePool) {
        let mut target = Rows::default();
        target.words.extend_from_slice(self.words(slot).unwrap_or(&layout.template));
        target.sides.items = std::mem::take(&mut self.sides.items);
        for state in 0..layout.states.len() {
            if let Some(spill) = self.sides.spills.remove(&(slot, state as u16)) {
                target.sides.spills.insert((0, state as u16), spill);
            }
        }
        target.merge(layout, &[0], source, &[0], MergeScope::SamePane);
        self.sides.items = target.sides.items;
        for ((_, state), spill) in target.sides.spills {
            self.sides.spills.insert((slot, state), spill);
        }
        self.words_of(slot, pool).copy_from_slice(&target.words);
    }

    /// Moves a row with its sides out of the pane, as row 0 of its own.
    fn take_row(&mut self, slot: u32, layout: &RowLayout, pool: &mut PagePool) -> Rows {
        let mut taken = Rows::default();
        let words = self.words_of(slot, pool);
        taken.words.extend_from_slice(words);
        words.copy_from_slice(&layout.template);
        for &word in &layout.handles {
            if let Some(side) = taken.words.get(word).and_then(|&handle| self.sides.get_mut(handle)) {
                let side = std::mem::replace(side, Side::Text(Vec::new()));
                taken.words[word] = taken.sides.add(side);
            }
        }
        for state in 0..layout.states.len() {
            if let Some(spill) = self.sides.spills.remove(&(slot, state as u16)) {
                taken.sides.spills.insert((0, state as u16), spill);
            }
        }
        taken
    }

    /// Copies `wanted` rows into `partial`. With the first ones, all groups of the pane are announced that the coordinator
    /// does not know yet. The pane stays as it is, so a pull may be answered again. Returns where to go on; `None` when that
    /// was all. What does not fit into rows goes whole: then all rows are copied at once.
    pub fn write_partial(
        &mut self,
        view: u32,
        wanted: Range<usize>,
        table: &mut GroupTable,
        layout: &RowLayout,
        partial: &mut Partial,
    ) -> Option<usize> {
        partial.clear();
        partial.view = view;
        partial.pane = self.id.0;
        table.take_retired(&mut partial.retired);
        if wanted.start == 0 {
            table.announce(|slot| self.holds(slot), |slot, key| partial.announce(slot, key));
        }
        let all = self.slots.len();
        let end = if self.sides.is_empty() { wanted.end.min(all) } else { all };
        self.copy_rows(wanted.start..end, partial);
        if !self.sides.spills.is_empty() {
            for (row, &slot) in partial.slots.iter().enumerate() {
                for state in 0..layout.states.len() {
                    if let Some(spill) = self.sides.spilled(slot, state) {
                        partial.sides.spills.insert((row as u32, state as u16), spill.clone());
                    }
                }
            }
        }
        (end < all).then_some(end)
    }

    /// Appends those of the rows that have events to `partial`.
    fn copy_rows(&self, rows: Range<usize>, partial: &mut Partial) {
        let mut copy = |rows: Range<usize>| {
            partial.slots.extend_from_slice(&self.slots[rows.clone()]);
            partial.words.extend_from_slice(&self.words[rows.start * self.stride..rows.end * self.stride]);
        };
        if !self.has_gaps {
            return copy(rows);
        }
        if self.stride == COMMON_STRIDE {
            let (slots, words) = (&self.slots[rows.clone()], &self.words.as_chunks().0[rows]);
            return partial.push_held::<COMMON_STRIDE>(slots, words);
        }
        let has_events = |row: usize| self.words[row * self.stride] != 0;
        let (mut row, end) = (rows.start, rows.end);
        while row < end {
            let start = row;
            while row < end && has_events(row) {
                row += 1;
            }
            copy(start..row);
            row += 1;
        }
    }

    /// Slots of so many rows that have events, from row `start` on; `None` behind the last row.
    pub fn held_from(&self, start: usize, rows_max: usize) -> Option<impl Iterator<Item = u32>> {
        let end = self.slots.len().min(start.saturating_add(rows_max));
        (start < end).then(|| self.held_in(start..end))
    }

    /// Gives the memory back; `held` groups had events. What a snapshot has not written yet of it is in the pane log by now.
    pub fn recycle(mut self, held: usize, table: &GroupTable, pool: &mut PagePool) {
        self.thaw(pool);
        pool.starts_by_slot = held >= PAGE_ROWS && held * BY_SLOT_SHARE > table.slots_end();
        self.index.recycle(&mut pool.chunks);
        pool.give_back(self.words);
        self.slots.clear();
        pool.lists.push(self.slots);
    }
}
