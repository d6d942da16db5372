//! One open pane of one view: rows of accumulators in the order of their first events, in pages.
//!
//! Rows are reached by pointer from the hot loops, so this file owns their memory. They lie close together however many
//! groups there are elsewhere, and leave as they lie. Which event goes to which group is not decided here.

use corefold_aggregator::layout::RowLayout;
use corefold_aggregator::partial::{OTHER_SLOT, Partial};
use corefold_aggregator::rows::{MergeScope, Rows, Side, Sides, copy_row};
use corefold_aggregator::time::{EventTime, PaneId};
use std::collections::BinaryHeap;

use super::group_table::GroupTable;
use super::kernels::prefetch;
use super::row_index::{ChunkPool, RowIndex};

/// Rows per page, the unit of memory and of what is copied for a snapshot.
const PAGE_ROWS: usize = 128;

/// Pages of one view that no pane uses, and how to make one.
#[derive(Debug)]
pub struct PagePool {
    template: Box<[u64]>,
    stride: usize,
    free: Vec<Box<[u64]>>,
    chunks: ChunkPool,
}

impl PagePool {
    /// Pages for rows of `layout`.
    pub fn new(layout: &RowLayout) -> PagePool {
        let template = layout.template.repeat(PAGE_ROWS).into();
        PagePool { template, stride: layout.stride, free: Vec::new(), chunks: ChunkPool::default() }
    }

    /// A page that holds the same rows as `page`.
    fn copy_of(&mut self, page: &[u64]) -> Box<[u64]> {
        match self.free.pop() {
            Some(mut copy) => {
                copy.copy_from_slice(page);
                copy
            }
            None => page.into(),
        }
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
    /// Rows by slot.
    index: RowIndex,
    pages: Vec<Option<Box<[u64]>>>,
    /// The pane as it was when a snapshot began. Its pages are not in `pages` until they are needed there.
    frozen: Option<Box<Frozen>>,
    stride: usize,
    /// Slot of each row. The row of a group that was moved to "other" stays, without events.
    slots: Vec<u32>,
    /// What does not fit into rows; spills by slot.
    pub sides: Sides,
    /// Groups with events, "other" aside.
    groups: u32,
    /// Hash and slot of every group, largest first; filled once the pane is full.
    ranked: BinaryHeap<(u64, u32)>,
}

/// What a snapshot sees of a pane.
#[derive(Debug)]
struct Frozen {
    pages: Vec<Option<Box<[u64]>>>,
    sides: Sides,
    /// How many rows there were.
    rows: usize,
}

impl Pane {
    /// A pane with no rows.
    pub fn new(id: PaneId, start: EventTime, end: EventTime, pool: &PagePool) -> Pane {
        Pane {
            id,
            start,
            end,
            index: RowIndex::default(),
            pages: Vec::new(),
            frozen: None,
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

    /// Whether `slot` has events in the pane.
    pub fn holds(&self, slot: u32) -> bool {
        self.words(slot).is_some_and(|words| words[0] != 0)
    }

    /// Slot of each row, those without events included.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// Finds the rows of `slots`, made where there is none, up to the first for which `groups_max` leaves no room;
    /// returns how many. Rows are valid until the pane is recycled.
    pub fn find_rows(&mut self, slots: &[u32], rows: &mut [*mut u64], groups_max: u32, pool: &mut PagePool) -> usize {
        for (at, (&slot, found)) in slots.iter().zip(rows).enumerate() {
            let row = match self.index.get(slot) {
                Some(row) => row,
                None if self.has_room(slot, groups_max) => self.admit(slot, pool),
                None => return at,
            };
            *found = self.row(row, pool);
            // Its first and its last cache line.
            prefetch(*found);
            prefetch(found.wrapping_add(self.stride - 1));
        }
        slots.len()
    }

    /// The row of `slot`, made if there is none.
    pub fn row_of(&mut self, slot: u32, pool: &mut PagePool) -> *mut u64 {
        let row = self.index.get(slot).unwrap_or_else(|| self.admit(slot, pool));
        self.row(row, pool)
    }

    #[inline(always)]
    fn has_room(&self, slot: u32, groups_max: u32) -> bool {
        slot == OTHER_SLOT || (self.groups < groups_max && self.ranked.is_empty())
    }

    /// Gives `slot` a row.
    fn admit(&mut self, slot: u32, pool: &mut PagePool) -> u32 {
        let row = self.slots.len() as u32;
        self.slots.push(slot);
        self.index.set(slot, row, &mut pool.chunks);
        self.groups += u32::from(slot != OTHER_SLOT);
        row
    }

    #[inline(always)]
    fn row(&mut self, row: u32, pool: &mut PagePool) -> *mut u64 {
        let page = row as usize / PAGE_ROWS;
        let offset = row as usize % PAGE_ROWS * self.stride;
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
        let frozen = self.frozen.as_ref().and_then(|frozen| frozen.pages.get(page)?.as_deref());
        self.pages[page].get_or_insert_with(|| match frozen {
            // The snapshot keeps the page as it was; from here on the fold has one of its own.
            Some(rows) => pool.copy_of(rows),
            None => pool.take(),
        })
    }

    /// A page as the fold sees it.
    fn page(&self, index: usize) -> Option<&[u64]> {
        let frozen = || self.frozen.as_ref()?.pages.get(index)?.as_ref();
        self.pages.get(index).and_then(Option::as_ref).or_else(frozen).map(|page| &**page)
    }

    fn words(&self, slot: u32) -> Option<&[u64]> {
        let row = self.index.get(slot)? as usize;
        Some(&self.page(row / PAGE_ROWS)?[row % PAGE_ROWS * self.stride..][..self.stride])
    }

    /// Keeps the pane as it is for a snapshot. Costs nothing per row: a page is copied when the fold next needs it.
    pub fn freeze(&mut self) {
        assert!(self.frozen.is_none(), "what is frozen twice is lost");
        let pages = std::mem::take(&mut self.pages);
        self.frozen = Some(Box::new(Frozen { pages, sides: self.sides.clone(), rows: self.slots.len() }));
    }

    /// Ends what `freeze` began.
    pub fn thaw(&mut self, pool: &mut PagePool) {
        let Some(frozen) = self.frozen.take() else { return };
        if self.pages.len() < frozen.pages.len() {
            self.pages.resize_with(frozen.pages.len(), || None);
        }
        for (page, before) in self.pages.iter_mut().zip(frozen.pages) {
            match page {
                None => *page = before,
                Some(_) => pool.free.extend(before),
            }
        }
    }

    /// Copies rows into `partial` as they were when the pane was frozen: about `rows_max`, from the `from`-th on.
    /// Returns where to go on; `None` when that was all, or nothing was kept of this pane.
    pub fn write_frozen(
        &self,
        from: usize,
        rows_max: usize,
        layout: &RowLayout,
        partial: &mut Partial,
    ) -> Option<usize> {
        let frozen = self.frozen.as_ref()?;
        let end = frozen.rows.min(from + rows_max);
        for (row, &slot) in self.slots[..end].iter().enumerate().skip(from) {
            let Some(Some(page)) = frozen.pages.get(row / PAGE_ROWS) else { continue };
            let words = &page[row % PAGE_ROWS * self.stride..][..self.stride];
            if words[0] != 0 {
                partial.push_row(layout, slot, words, &frozen.sides, slot);
            }
        }
        (end < frozen.rows).then_some(end)
    }

    fn words_mut(&mut self, slot: u32) -> Option<&mut [u64]> {
        let row = self.index.get(slot)? as usize;
        let page = self.pages.get_mut(row / PAGE_ROWS)?.as_mut()?;
        Some(&mut page[row % PAGE_ROWS * self.stride..][..self.stride])
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
            self.move_to_other(evicted, layout, pool);
        }
        true
    }

    fn move_to_other(&mut self, slot: u32, layout: &RowLayout, pool: &mut PagePool) {
        self.row_of(OTHER_SLOT, pool);
        self.row_of(slot, pool);
        let mut evicted = self.take_row(slot, layout);
        evicted.grow(layout, 1);
        self.merge_row(OTHER_SLOT, &evicted, layout);
        self.index.remove(slot);
        self.groups -= 1;
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
            self.row_of(slot, pool);
            return self.merge_row(slot, &source, layout);
        }
        self.admit_ranked(slot, table, pool);
        let mut own = std::mem::take(&mut self.sides);
        if let Some(target) = self.words_mut(slot) {
            copy_row(layout, (target, &mut own, slot), (words, sides, row));
        }
        self.sides = own;
    }

    /// Merges row 0 of `source` into the row of `slot`, whose page is there.
    fn merge_row(&mut self, slot: u32, source: &Rows, layout: &RowLayout) {
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
        if let Some(words) = self.words_mut(slot) {
            words.copy_from_slice(&target.words);
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
        for (rows, slots) in self.slots.chunks(PAGE_ROWS).enumerate() {
            let Some(page) = self.page(rows) else { continue };
            for (words, &slot) in page.chunks_exact(self.stride).zip(slots) {
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
    }

    /// Gives the pages back and tells the table that the pane is gone.
    pub fn recycle(mut self, table: &mut GroupTable, pool: &mut PagePool, frontier: EventTime) {
        table.release(&self.slots, frontier);
        self.index.recycle(&mut pool.chunks);
        pool.free.extend(self.pages.drain(..).flatten());
        if let Some(frozen) = self.frozen {
            // What a snapshot has not written yet of this pane is in the pane log by now.
            pool.free.extend(frozen.pages.into_iter().flatten());
        }
    }
}
