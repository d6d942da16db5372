//! Panes to windows by two stacks: a slide costs in the order of its groups, whatever size/slide is.
//!
//! The back takes new panes and keeps one running total per group. When the front is used up, the back is
//! turned over: each of its panes then holds, per group, the total from that pane to the newest. A window is
//! the front's oldest total plus the back's. Totals replace the pane's rows in place, and a group takes space
//! only in panes where it has events. (Two-stack sliding: Tangwongsan et al., "General incremental
//! sliding-window aggregation", VLDB 2015.) Which windows are due is not decided here.

use crate::layout::RowLayout;
use crate::rows::{MergeScope, Rows, copy_row};
use crate::time::PaneId;
use std::collections::VecDeque;

/// A merged pane: one row per group that has events in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pane {
    /// Coordinator slot of each row, each at most once.
    pub slots: Vec<u32>,
    /// The rows.
    pub rows: Rows,
}

impl Pane {
    /// Puts the rows into the order of their slots, so that all later passes go through memory in one direction.
    /// `order` and `words` lend their memory; spills, which go by row, stay as they are, and so does the order then.
    pub(crate) fn sort(&mut self, layout: &RowLayout, order: &mut Vec<u64>, words: &mut Vec<u64>) {
        if self.slots.is_sorted() || !self.rows.sides.spills.is_empty() {
            return;
        }
        order.clear();
        order.extend(self.slots.iter().zip(0_u64..).map(|(&slot, row)| u64::from(slot) << 32 | row));
        order.sort_unstable();
        words.clear();
        words.reserve(self.rows.words.len());
        for (slot, &entry) in self.slots.iter_mut().zip(order.iter()) {
            *slot = (entry >> 32) as u32;
            words.extend_from_slice(self.rows.row(layout, entry as u32 as usize));
        }
        std::mem::swap(&mut self.rows.words, words);
        words.clear();
    }
}

/// The panes of the current window of one view.
#[derive(Debug)]
pub struct Slide {
    /// Oldest first. Rows are totals from this pane to the newest pane of the front.
    front: VecDeque<FrontPane>,
    /// By slot: where its oldest total in the front lies.
    front_at: Vec<Place>,
    /// Panes taken from the front since it was last turned over.
    front_popped: u32,
    /// Oldest first, rows as merged.
    back: Vec<(PaneId, Pane)>,
    /// By slot: total over the back.
    back_total: Rows,
    /// By slot: panes held in which it has a row.
    panes_of: Vec<u32>,
    /// Memory for a turn.
    running: Rows,
    /// Memory of panes that were dropped.
    spent: Vec<Pane>,
}

/// Panes whose memory is kept.
const SPENT_MAX: usize = 4;

#[derive(Debug)]
struct FrontPane {
    id: PaneId,
    pane: Pane,
    /// Per row: where the same group's next total lies.
    next: Vec<Place>,
}

/// A row of the front: pane, counted from the last turn, and row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    pane: u32,
    row: u32,
}

const NOWHERE: Place = Place { pane: u32::MAX, row: u32::MAX };

impl Default for Slide {
    fn default() -> Slide {
        Slide::new()
    }
}

impl Slide {
    /// No panes.
    pub fn new() -> Slide {
        Slide {
            front: VecDeque::new(),
            front_at: Vec::new(),
            front_popped: 0,
            back: Vec::new(),
            back_total: Rows::default(),
            panes_of: Vec::new(),
            running: Rows::default(),
            spent: Vec::new(),
        }
    }

    /// An empty pane, in the memory of one that was dropped.
    pub fn take_spent(&mut self) -> Pane {
        self.spent.pop().unwrap_or_default()
    }

    /// The oldest pane held.
    pub fn oldest(&self) -> Option<PaneId> {
        self.front.front().map(|f| f.id).or_else(|| self.back.first().map(|(id, _)| *id))
    }

    /// Adds a pane newer than all before; `slots_end` is one past the highest slot.
    pub fn push(&mut self, layout: &RowLayout, id: PaneId, pane: Pane, slots_end: usize) {
        assert!(self.back.last().is_none_or(|(newest, _)| *newest < id), "panes come in order");
        self.back_total.grow(layout, slots_end);
        self.panes_of.resize(slots_end.max(self.panes_of.len()), 0);
        for &slot in &pane.slots {
            self.panes_of[slot as usize] += 1;
        }
        let from: Vec<u32> = (0..pane.slots.len() as u32).collect();
        self.back_total.merge(layout, &pane.slots, &pane.rows, &from, MergeScope::AcrossPanes);
        self.back.push((id, pane));
    }

    /// Drops panes below `limit`; `forget` hears the slot of each dropped row.
    pub fn pop_before(&mut self, layout: &RowLayout, limit: PaneId, mut forget: impl FnMut(u32)) {
        loop {
            while self.front.front().is_some_and(|f| f.id < limit) {
                let Some(popped) = self.front.pop_front() else { break };
                self.front_popped += 1;
                for (&slot, &next) in popped.pane.slots.iter().zip(&popped.next) {
                    self.front_at[slot as usize] = next;
                    self.panes_of[slot as usize] -= 1;
                    forget(slot);
                }
                self.recycle(popped.pane);
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
        window.words.reserve(slots.len() * layout.stride);
        for (&slot, row) in slots.iter().zip(first..) {
            match self.front_total(slot) {
                Some((rows, at)) => {
                    let source = rows.row(layout, at as usize);
                    window.words.extend_from_slice(source);
                    if !rows.sides.is_empty() {
                        let target = &mut window.words[row as usize * layout.stride..];
                        copy_row(layout, (target, &mut window.sides, row), (source, &rows.sides, at));
                    }
                }
                None => window.words.extend_from_slice(&layout.template),
            }
        }
        let into: Vec<u32> = (first..first + slots.len() as u32).collect();
        self.merge_back(layout, slots, window, &into);
    }

    /// Merges the totals of `slots` over all panes held into the row `into` of `window`.
    pub fn merge_totals(&self, layout: &RowLayout, slots: &[u32], window: &mut Rows, into: u32) {
        for &slot in slots {
            if let Some((rows, at)) = self.front_total(slot) {
                window.merge(layout, &[into], rows, &[at], MergeScope::AcrossPanes);
            }
        }
        self.merge_back(layout, slots, window, &vec![into; slots.len()]);
    }

    /// Where the total of `slot` over the front lies, if it has events there.
    fn front_total(&self, slot: u32) -> Option<(&Rows, u32)> {
        let place = self.front_at.get(slot as usize).filter(|place| **place != NOWHERE)?;
        Some((&self.front[(place.pane - self.front_popped) as usize].pane.rows, place.row))
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
        assert!(self.front.is_empty(), "the back is turned over once the front is used up");
        let mut running = std::mem::take(&mut self.running);
        running.grow(layout, self.back_total.count(layout));
        self.front_at.clear();
        self.front_at.resize(self.back_total.count(layout), NOWHERE);
        self.front_popped = 0;
        for (index, (id, mut pane)) in self.back.drain(..).enumerate().rev() {
            let rows: Vec<u32> = (0..pane.slots.len() as u32).collect();
            running.merge(layout, &pane.slots, &pane.rows, &rows, MergeScope::AcrossPanes);
            pane.rows.clear();
            for &slot in &pane.slots {
                pane.rows.push_row(layout, running.row(layout, slot as usize), &running.sides, slot);
            }
            let next = pane.slots.iter().zip(rows).map(|(&slot, row)| {
                std::mem::replace(&mut self.front_at[slot as usize], Place { pane: index as u32, row })
            });
            let next = next.collect();
            self.front.push_front(FrontPane { id, pane, next });
        }
        self.back_total.clear();
        running.clear();
        self.running = running;
    }
}
