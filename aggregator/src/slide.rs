//! Panes to windows by two stacks: a slide costs in the order of its groups, whatever size/slide is.
//!
//! The back takes new panes and keeps one running total per group. When the front is used up, the back is
//! turned over: each of its panes then holds, per group, the total from that pane to the newest. A window is
//! the front's oldest total plus the back's. (Two-stack sliding: Tangwongsan et al., "General incremental
//! sliding-window aggregation", VLDB 2015.) How the front keeps its totals is in [`crate::front`]; which windows are due
//! is not decided here.

use crate::aggregate::Totals;
use crate::front::Front;
use crate::layout::RowLayout;
use crate::pane::Pane;
use crate::partial::OTHER_SLOT;
use crate::rows::{MergeScope, Rows};
use crate::time::PaneId;

/// The panes of the current window of one view.
#[derive(Debug)]
pub struct Slide {
    /// Older panes.
    front: Front,
    /// Oldest first, rows as merged.
    back: Vec<(PaneId, Pane)>,
    /// By slot: total over the first `merged` panes of the back.
    back_total: Rows,
    /// All of them, but for the only pane of a slide, if it lies by slot: it is its own total.
    merged: usize,
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
            merged: 0,
            panes_of: Vec::new(),
            spent: Vec::new(),
            numbers: Vec::new(),
        }
    }

    /// An empty pane, in the memory of one that was dropped.
    pub fn take_spent(&mut self) -> Pane {
        self.spent.pop().unwrap_or_default()
    }

    /// Puts rows that lie one after the other and came in several pieces into the order of their slots, see
    /// [`Pane::take_words`].
    pub(crate) fn put_in_order(&mut self, layout: &RowLayout, pane: &mut Pane, order: &mut Vec<u32>) {
        if pane.is_by_slot || pane.slots.is_sorted() || !pane.rows.sides.spills.is_empty() {
            return;
        }
        let mut sorted = self.take_spent();
        std::mem::swap(&mut sorted.slots, &mut pane.slots);
        std::mem::swap(&mut sorted.rows.sides, &mut pane.rows.sides);
        sorted.take_words(layout, &pane.rows.words, order);
        std::mem::swap(&mut sorted, pane);
        self.recycle(sorted);
    }

    /// The oldest pane held.
    pub fn oldest(&self) -> Option<PaneId> {
        self.front.oldest().or_else(|| self.back.first().map(|(id, _)| *id))
    }

    /// Adds a pane newer than all before; `slots_end` is one past the highest slot.
    pub fn push(&mut self, layout: &RowLayout, id: PaneId, mut pane: Pane, slots_end: usize) {
        assert!(self.back.last().is_none_or(|(newest, _)| *newest < id), "panes come in order");
        self.panes_of.resize(slots_end.max(self.panes_of.len()), 0);
        for &slot in &pane.slots {
            self.panes_of[slot as usize] += 1;
        }
        let is_total = self.oldest().is_none() && pane.is_by_slot && !pane.slots.is_empty();
        if is_total && pane.slots.first() != Some(&OTHER_SLOT) {
            // Which is asked for without events too, when groups are folded into it.
            pane.rows.reset(layout, OTHER_SLOT as usize);
        }
        self.back.push((id, pane));
        if is_total {
            return;
        }
        self.back_total.grow(layout, self.panes_of.len());
        for (_, pane) in &self.back[self.merged..] {
            number(&mut self.numbers, pane.slots.len());
            let from = pane.positions(&self.numbers);
            self.back_total.merge(layout, &pane.slots, &pane.rows, from, MergeScope::AcrossPanes);
        }
        self.merged = self.back.len();
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
                let merged = std::mem::take(&mut self.merged);
                for (index, (_, pane)) in std::mem::take(&mut self.back).into_iter().enumerate() {
                    for &slot in &pane.slots {
                        if index < merged {
                            self.back_total.reset(layout, slot as usize);
                        }
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

    /// Takes the totals of `slots`, all of which are held or "other", over all panes by column; `false`, and nothing taken, where that
    /// does not go and [`Slide::append_totals`] has to.
    pub fn take_totals(&self, layout: &RowLayout, slots: &[u32], totals: &mut Totals) -> bool {
        let back = self.back_rows();
        match self.front.by_slot() {
            Some(front) if back.sides.is_empty() => totals.take(layout, (front, &back.words), slots),
            _ => false,
        }
    }

    /// Appends the totals of `slots`, all of which are held or "other", over all panes to `window`, one row each.
    pub fn append_totals(&self, layout: &RowLayout, slots: &[u32], window: &mut Rows) {
        let first = window.count(layout) as u32;
        self.front.append_totals(layout, slots, window);
        let into: Vec<u32> = (first..first + slots.len() as u32).collect();
        self.merge_back(layout, slots, window, &into);
    }

    /// Merges the totals of `slots`, all of which are held, over all panes into the row `into` of `window`.
    pub fn merge_totals(&self, layout: &RowLayout, slots: &[u32], window: &mut Rows, into: u32) {
        for &slot in slots {
            if let Some((rows, at)) = self.front.total(layout, slot) {
                window.merge(layout, &[into], rows, &[at], MergeScope::AcrossPanes);
            }
        }
        self.merge_back(layout, slots, window, &vec![into; slots.len()]);
    }

    fn merge_back(&self, layout: &RowLayout, slots: &[u32], window: &mut Rows, into: &[u32]) {
        let back = self.back_rows();
        let count = back.count(layout);
        if slots.iter().all(|&slot| (slot as usize) < count) {
            window.merge(layout, into, back, slots, MergeScope::AcrossPanes);
        } else {
            let held = slots.iter().zip(into).filter(|(slot, _)| (**slot as usize) < count);
            let (slots, into): (Vec<u32>, Vec<u32>) = held.map(|(&slot, &into)| (slot, into)).unzip();
            window.merge(layout, &into, back, &slots, MergeScope::AcrossPanes);
        }
    }

    /// Totals over the back by slot.
    fn back_rows(&self) -> &Rows {
        match &self.back[..] {
            // The only pane of all: whatever is held has a row in it.
            [(_, pane)] if self.merged == 0 => &pane.rows,
            _ => &self.back_total,
        }
    }

    fn recycle(&mut self, mut pane: Pane) {
        if self.spent.len() < SPENT_MAX {
            pane.clear();
            self.spent.push(pane);
        }
    }

    /// Moves the back to the empty front, its rows becoming totals.
    fn turn(&mut self, layout: &RowLayout) {
        self.front.fill(layout, &mut self.back, self.panes_of.len());
        self.back_total.clear();
        self.merged = 0;
    }
}

/// The numbers below `count`.
pub(crate) fn number(numbers: &mut Vec<u32>, count: usize) {
    let known = numbers.len().min(count);
    numbers.truncate(known);
    numbers.extend(known as u32..count as u32);
}
