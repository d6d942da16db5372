//! Panes to windows by two stacks: a slide costs in the order of its groups, whatever size/slide is.
//!
//! The back takes new panes and keeps one running total per group. When the front is used up, the back is
//! turned over: each of its panes then holds, per group, the total from that pane to the newest. A window is
//! the front's oldest total plus the back's. (Two-stack sliding: Tangwongsan et al., "General incremental
//! sliding-window aggregation", VLDB 2015.) How the front keeps its totals is in [`crate::front`]; which windows are due
//! is not decided here.

use crate::front::Front;
use crate::layout::RowLayout;
use crate::rows::{MergeScope, Rows};
use crate::time::PaneId;

/// A merged pane: one row per group that has events in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pane {
    /// Coordinator slot of each row, each at most once.
    pub slots: Vec<u32>,
    /// The rows.
    pub rows: Rows,
    /// Whether rows lie by slot while shards are still adding to them: then no row is looked up. Those without events have
    /// none in `slots`, which are in no order.
    pub(crate) is_by_slot: bool,
}

impl Pane {
    /// Closes the gaps between rows that lie by slot, of which `slots` is then the list, in order.
    pub(crate) fn compact(&mut self, layout: &RowLayout) {
        if !std::mem::take(&mut self.is_by_slot) {
            return;
        }
        let (stride, words) = (layout.stride, &mut self.rows.words);
        let (end, mut slot, mut kept) = (words.len() / stride, 0, 0);
        self.slots.clear();
        while slot < end {
            let first = slot;
            while slot < end && words[slot * stride] != 0 {
                slot += 1;
            }
            if kept < first {
                words.copy_within(first * stride..slot * stride, kept * stride);
            }
            self.slots.extend(first as u32..slot as u32);
            (kept, slot) = (kept + slot - first, slot + 1);
        }
        words.truncate(kept * stride);
        let spills = &mut self.rows.sides.spills;
        if !spills.is_empty() {
            // Whatever has spilled has events, so its slot is in the list.
            let row = |slot: u32| self.slots.binary_search(&slot).unwrap_or(0) as u32;
            *spills =
                std::mem::take(spills).into_iter().map(|((slot, state), sum)| ((row(slot), state), sum)).collect();
        }
    }

    /// Takes the rows whose slots it has been told, into the order of their slots, so that all later passes go through
    /// memory in one direction. `row_of` lends its memory; spills, which go by row, stay as they are, and so does the order
    /// then. `all` is how many slots there are: the memory has room for totals of all of them, which the pane may become.
    pub(crate) fn take_words(&mut self, layout: &RowLayout, words: &[u64], all: usize, row_of: &mut Vec<u32>) {
        let stride = layout.stride;
        let rows = if all > SPREAD_MAX * self.slots.len() { self.slots.len() } else { all + all / 8 };
        // In steps of an eighth: groups that come one by one do not make each pane ask for memory of another size.
        let rows = rows.next_multiple_of((rows.next_power_of_two() / 8).max(1));
        if self.rows.words.capacity() < rows * stride {
            // New memory: growing would copy what nobody wants.
            self.rows.words = Vec::with_capacity(rows * stride);
        }
        let target = &mut self.rows.words;
        target.clear();
        if self.slots.is_sorted() || !self.rows.sides.spills.is_empty() {
            target.extend_from_slice(words);
            return;
        }
        let slots_end = self.slots.iter().max().map_or(0, |&slot| slot as usize + 1);
        row_of.clear();
        if slots_end > SPREAD_MAX * self.slots.len() {
            row_of.extend(0..self.slots.len() as u32);
            row_of.sort_unstable_by_key(|&row| self.slots[row as usize]);
            row_of.iter().for_each(|&row| target.extend_from_slice(&words[row as usize * stride..][..stride]));
            self.slots.sort_unstable();
        } else {
            // There is a place for every slot: no comparisons.
            row_of.resize(slots_end, NO_ROW);
            self.slots.iter().zip(0..).for_each(|(&slot, row)| row_of[slot as usize] = row);
            self.slots.clear();
            for (slot, &row) in row_of.iter().enumerate().filter(|(_, row)| **row != NO_ROW) {
                self.slots.push(slot as u32);
                target.extend_from_slice(&words[row as usize * stride..][..stride]);
            }
        }
    }
}

const NO_ROW: u32 = u32::MAX;

/// Slots are put in order by a list of all of them if there are at most so many for each that is there.
const SPREAD_MAX: usize = 16;

/// The panes of the current window of one view.
#[derive(Debug)]
pub struct Slide {
    /// Older panes.
    front: Front,
    /// Oldest first, rows as merged.
    back: Vec<(PaneId, Pane)>,
    /// By slot: total over the back.
    back_total: Rows,
    /// By slot: panes held in which it has a row.
    panes_of: Vec<u32>,
    /// Memory of panes that were dropped.
    spent: Vec<Pane>,
    /// Memory of a merge.
    numbers: Vec<u32>,
}

/// Panes whose memory is kept: as many as one pull may bring.
const SPENT_MAX: usize = 16;

impl Default for Slide {
    fn default() -> Slide {
        Slide::new()
    }
}

impl Slide {
    /// No panes.
    pub fn new() -> Slide {
        Slide {
            front: Front::default(),
            back: Vec::new(),
            back_total: Rows::default(),
            panes_of: Vec::new(),
            spent: Vec::new(),
            numbers: Vec::new(),
        }
    }

    /// An empty pane, in the memory of one that was dropped.
    pub fn take_spent(&mut self) -> Pane {
        self.spent.pop().unwrap_or_default()
    }

    /// Puts the rows of a pane that came in several pieces into the order of their slots, see [`Pane::take_words`].
    pub(crate) fn put_in_order(&mut self, layout: &RowLayout, pane: &mut Pane, all: usize, order: &mut Vec<u32>) {
        if pane.slots.is_sorted() || !pane.rows.sides.spills.is_empty() {
            return;
        }
        let mut sorted = self.take_spent();
        std::mem::swap(&mut sorted.slots, &mut pane.slots);
        std::mem::swap(&mut sorted.rows.sides, &mut pane.rows.sides);
        sorted.take_words(layout, &pane.rows.words, all, order);
        std::mem::swap(&mut sorted, pane);
        self.recycle(sorted);
    }

    /// The oldest pane held.
    pub fn oldest(&self) -> Option<PaneId> {
        self.front.oldest().or_else(|| self.back.first().map(|(id, _)| *id))
    }

    /// Adds a pane newer than all before; `slots_end` is one past the highest slot.
    pub fn push(&mut self, layout: &RowLayout, id: PaneId, pane: Pane, slots_end: usize) {
        assert!(self.back.last().is_none_or(|(newest, _)| *newest < id), "panes come in order");
        assert!(!pane.is_by_slot, "a pane is whole before it becomes part of a window");
        self.back_total.grow(layout, slots_end);
        self.panes_of.resize(slots_end.max(self.panes_of.len()), 0);
        for &slot in &pane.slots {
            self.panes_of[slot as usize] += 1;
        }
        number(&mut self.numbers, pane.slots.len());
        self.back_total.merge(layout, &pane.slots, &pane.rows, &self.numbers, MergeScope::AcrossPanes);
        self.back.push((id, pane));
    }

    /// Drops panes below `limit`; `forget` hears the slot of each dropped row.
    pub fn pop_before(&mut self, layout: &RowLayout, limit: PaneId, mut forget: impl FnMut(u32)) {
        loop {
            while self.front.oldest().is_some_and(|id| id < limit) {
                let Some(popped) = self.front.pop() else { break };
                for &slot in &popped.slots {
                    self.panes_of[slot as usize] -= 1;
                    forget(slot);
                }
                self.recycle(popped);
            }
            if !self.front.is_empty() || self.back.first().is_none_or(|(id, _)| *id >= limit) {
                return;
            }
            if self.back.last().is_some_and(|(id, _)| *id < limit) {
                // Nothing of the back stays: no need to turn it over.
                for (_, pane) in std::mem::take(&mut self.back) {
                    for &slot in &pane.slots {
                        self.back_total.reset(layout, slot as usize);
                        self.panes_of[slot as usize] -= 1;
                        forget(slot);
                    }
                    self.recycle(pane);
                }
                self.back_total.sides.clear();
                return;
            }
            self.turn(layout);
        }
    }

    /// Whether the group in `slot` has events in a pane held.
    pub fn holds(&self, slot: u32) -> bool {
        self.panes_of.get(slot as usize).is_some_and(|&panes| panes > 0)
    }

    /// Appends the totals of `slots` over all panes held to `window`, one row each.
    pub fn append_totals(&self, layout: &RowLayout, slots: &[u32], window: &mut Rows) {
        let first = window.count(layout) as u32;
        self.front.append_totals(layout, slots, window);
        let into: Vec<u32> = (first..first + slots.len() as u32).collect();
        self.merge_back(layout, slots, window, &into);
    }

    /// Merges the totals of `slots` over all panes held into the row `into` of `window`.
    pub fn merge_totals(&self, layout: &RowLayout, slots: &[u32], window: &mut Rows, into: u32) {
        for &slot in slots {
            if let Some((rows, at)) = self.front.total(layout, slot) {
                window.merge(layout, &[into], rows, &[at], MergeScope::AcrossPanes);
            }
        }
        self.merge_back(layout, slots, window, &vec![into; slots.len()]);
    }

    fn merge_back(&self, layout: &RowLayout, slots: &[u32], window: &mut Rows, into: &[u32]) {
        let count = self.back_total.count(layout);
        if self.back.is_empty() {
            return;
        }
        if slots.iter().all(|&slot| (slot as usize) < count) {
            window.merge(layout, into, &self.back_total, slots, MergeScope::AcrossPanes);
        } else {
            let held = slots.iter().zip(into).filter(|(slot, _)| (**slot as usize) < count);
            let (slots, into): (Vec<u32>, Vec<u32>) = held.map(|(&slot, &into)| (slot, into)).unzip();
            window.merge(layout, &into, &self.back_total, &slots, MergeScope::AcrossPanes);
        }
    }

    fn recycle(&mut self, mut pane: Pane) {
        if self.spent.len() < SPENT_MAX {
            pane.slots.clear();
            pane.rows.clear();
            self.spent.push(pane);
        }
    }

    /// Moves the back to the empty front, its rows becoming totals.
    fn turn(&mut self, layout: &RowLayout) {
        let slots_end = self.back_total.count(layout);
        self.front.fill(layout, &mut self.back, slots_end);
        self.back_total.clear();
    }
}

/// The numbers below `count`.
pub(crate) fn number(numbers: &mut Vec<u32>, count: usize) {
    let known = numbers.len().min(count);
    numbers.truncate(known);
    numbers.extend(known as u32..count as u32);
}
