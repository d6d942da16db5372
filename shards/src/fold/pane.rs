//! One open pane of one view: rows of accumulators by slot, in pages.
//!
//! Rows are reached by pointer from the hot loops, so this file owns their memory. Which event goes to which
//! row is not decided here.

use corefold_aggregator::layout::RowLayout;
use corefold_aggregator::partial::{OTHER_SLOT, Partial};
use corefold_aggregator::rows::{MergeScope, Rows, Side, Sides};
use corefold_aggregator::time::{EventTime, PaneId};
use std::collections::BinaryHeap;

use super::group_table::GroupTable;

/// Rows per page: a page is taken when the first of its slots has an event in the pane.
const PAGE_ROWS: usize = 64;

/// Pages of one view that no pane uses, and how to make one.
#[derive(Debug)]
pub struct PagePool {
    template: Box<[u64]>,
    stride: usize,
    free: Vec<Box<[u64]>>,
}

impl PagePool {
    /// Pages for rows of `layout`.
    pub fn new(layout: &RowLayout) -> PagePool {
        let template = layout.template.repeat(PAGE_ROWS).into();
        PagePool { template, stride: layout.stride, free: Vec::new() }
    }

    fn take(&mut self) -> Box<[u64]> {
        match self.free.pop() {
            Some(mut page) => {
                page.copy_from_slice(&self.template);
                page
            }
            None => self.template.clone(),
        }
    }
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
    pages: Vec<Option<Box<[u64]>>>,
    stride: usize,
    /// Slots that got a row, in order of their first event. A group moved to "other" later has no events.
    slots: Vec<u32>,
    /// What does not fit into rows; spills by slot.
    pub sides: Sides,
    /// Groups with events, "other" aside.
    groups: u32,
    /// Hash and slot of every group, largest first; filled once the pane is full.
    ranked: BinaryHeap<(u64, u32)>,
}

impl Pane {
    /// A pane with no rows.
    pub fn new(id: PaneId, start: EventTime, end: EventTime, pool: &PagePool) -> Pane {
        Pane {
            id,
            start,
            end,
            pages: Vec::new(),
            stride: pool.stride,
            slots: Vec::new(),
            sides: Sides::default(),
            groups: 0,
            ranked: BinaryHeap::new(),
        }
    }

    /// Groups with events in the pane, "other" aside.
    pub fn groups(&self) -> u32 {
        self.groups
    }

    /// The row of `slot`, made if its page is missing. Valid until the pane is recycled.
    #[inline(always)]
    pub fn row(&mut self, slot: u32, pool: &mut PagePool) -> *mut u64 {
        let page = slot as usize / PAGE_ROWS;
        let offset = slot as usize % PAGE_ROWS * self.stride;
        match self.pages.get_mut(page) {
            // In bounds: a page holds PAGE_ROWS rows of `stride` words.
            Some(Some(rows)) => rows[offset..].as_mut_ptr(),
            _ => self.add_page(page, pool)[offset..].as_mut_ptr(),
        }
    }

    #[cold]
    fn add_page(&mut self, page: usize, pool: &mut PagePool) -> &mut [u64] {
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        self.pages[page].get_or_insert_with(|| pool.take())
    }

    fn words(&self, slot: u32) -> Option<&[u64]> {
        let page = self.pages.get(slot as usize / PAGE_ROWS)?.as_ref()?;
        Some(&page[slot as usize % PAGE_ROWS * self.stride..][..self.stride])
    }

    fn words_mut(&mut self, slot: u32) -> Option<&mut [u64]> {
        let page = self.pages.get_mut(slot as usize / PAGE_ROWS)?.as_mut()?;
        Some(&mut page[slot as usize % PAGE_ROWS * self.stride..][..self.stride])
    }

    /// Notes that `slot` gets its first event in this pane.
    pub fn admit(&mut self, slot: u32, table: &mut GroupTable) {
        self.slots.push(slot);
        table.hold(slot);
        if slot != OTHER_SLOT {
            self.groups += 1;
            if !self.ranked.is_empty() {
                self.ranked.push((table.hash(slot), slot));
            }
        }
    }

    /// In a full pane: whether a new group with `hash` belongs to the kept ones. If so, the group with the
    /// largest hash has been moved to "other" and there is room.
    pub fn make_room(&mut self, hash: u64, layout: &RowLayout, table: &mut GroupTable, pool: &mut PagePool) -> bool {
        if self.ranked.is_empty() {
            let slots = std::mem::take(&mut self.slots);
            let held = |slot: u32| slot != OTHER_SLOT && self.words(slot).is_some_and(|words| words[0] != 0);
            let ranked = slots.iter().filter(|&&slot| held(slot)).map(|&slot| (table.hash(slot), slot)).collect();
            self.ranked = ranked;
            self.slots = slots;
        }
        // Equal hashes of different keys are as good as impossible, and then the coordinator decides by key.
        if self.ranked.peek().is_none_or(|(largest, _)| hash >= *largest) {
            return false;
        }
        if let Some((_, evicted)) = self.ranked.pop() {
            self.move_to_other(evicted, layout, table, pool);
        }
        true
    }

    fn move_to_other(&mut self, slot: u32, layout: &RowLayout, table: &mut GroupTable, pool: &mut PagePool) {
        self.row(OTHER_SLOT, pool);
        let mut evicted = self.take_row(slot, layout);
        evicted.grow(layout, 1);
        // "Other" is row 0 of its own, as it is slot 0 of the pane: its spills keep their names.
        const _: () = assert!(OTHER_SLOT == 0);
        let mut other = Rows::default();
        other.words.extend_from_slice(self.words(OTHER_SLOT).unwrap_or(&layout.template));
        other.sides = std::mem::take(&mut self.sides);
        let is_new = other.words[0] == 0;
        other.merge(layout, &[0], &evicted, &[0], MergeScope::SamePane);
        self.sides = other.sides;
        if let Some(words) = self.words_mut(OTHER_SLOT) {
            words.copy_from_slice(&other.words);
        }
        self.groups -= 1;
        if is_new {
            self.slots.push(OTHER_SLOT);
            table.hold(OTHER_SLOT);
        }
    }

    /// Moves a row with its sides out of the pane, as row 0 of its own.
    fn take_row(&mut self, slot: u32, layout: &RowLayout) -> Rows {
        let mut taken = Rows::default();
        if let Some(words) = self.words_mut(slot) {
            taken.words.extend_from_slice(words);
            words.copy_from_slice(&layout.template);
        }
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

    /// Copies the pane into `partial`, announcing groups that the coordinator does not know yet. The pane stays
    /// as it is, so a pull may be answered again.
    pub fn write_partial(&mut self, view: u32, table: &mut GroupTable, layout: &RowLayout, partial: &mut Partial) {
        partial.clear();
        partial.view = view;
        partial.pane = self.id.0;
        table.take_retired(&mut partial.retired);
        for &slot in &self.slots {
            let page = &self.pages[slot as usize / PAGE_ROWS];
            let Some(page) = page else { continue };
            let words = &page[slot as usize % PAGE_ROWS * self.stride..][..self.stride];
            if words[0] == 0 {
                continue;
            }
            if let Some(key) = table.announce(slot) {
                partial.announce(slot, key);
            }
            if !self.sides.spills.is_empty() {
                for state in 0..layout.states.len() {
                    if let Some(spill) = self.sides.spilled(slot, state) {
                        partial.sides.spills.insert((partial.slots.len() as u32, state as u16), spill.clone());
                    }
                }
            }
            partial.slots.push(slot);
            partial.words.extend_from_slice(words);
        }
    }

    /// Gives the pages back and tells the table that the pane is gone.
    pub fn recycle(mut self, table: &mut GroupTable, pool: &mut PagePool, frontier: EventTime) {
        for &slot in &self.slots {
            table.release(slot, frontier);
        }
        pool.free.extend(self.pages.drain(..).flatten());
    }
}
