//! Panes to windows by two stacks: a slide costs in the order of its groups, whatever size/slide is.
//!
//! The back takes new panes and keeps one running total per group. When the front is used up, the back is
//! turned over: each of its panes then holds, per group, the total from that pane to the newest. A window is
//! the front's oldest total plus the back's. Totals replace the pane's rows in place, and a group takes space
//! only in panes where it has events. (Two-stack sliding: Tangwongsan et al., "General incremental
//! sliding-window aggregation", VLDB 2015.) Which windows are due is not decided here.

use crate::layout::RowLayout;
use crate::rows::{MergeScope, Rows};
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
}

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
        }
    }

    /// The oldest pane held.
    pub fn oldest(&self) -> Option<PaneId> {
        self.front.front().map(|f| f.id).or_else(|| self.back.first().map(|(id, _)| *id))
    }

    /// Adds a pane newer than all before; `slots_end` is one past the highest slot.
    pub fn push(&mut self, layout: &RowLayout, id: PaneId, pane: Pane, slots_end: usize) {
        assert!(self.back.last().is_none_or(|(newest, _)| *newest < id), "panes come in order");
        self.back_total.grow(layout, slots_end);
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
                    forget(slot);
                }
            }
            if !self.front.is_empty() || self.back.first().is_none_or(|(id, _)| *id >= limit) {
                return;
            }
            if self.back.last().is_some_and(|(id, _)| *id < limit) {
                // Nothing of the back stays: no need to turn it over.
                for (_, pane) in self.back.drain(..) {
                    for &slot in &pane.slots {
                        self.back_total.reset(layout, slot as usize);
                        forget(slot);
                    }
                }
                self.back_total.sides.clear();
                return;
            }
            self.turn(layout);
        }
    }

    /// Whether the group in `slot` has events in a pane held.
    pub fn holds(&self, layout: &RowLayout, slot: u32) -> bool {
        let slot = slot as usize;
        self.front_at.get(slot).is_some_and(|place| *place != NOWHERE)
            || (slot < self.back_total.count(layout) && self.back_total.events(layout, slot) > 0)
    }

    /// Merges the totals of `slots` over all panes held into the rows `into` of `window`.
    pub fn total(&self, layout: &RowLayout, slots: &[u32], window: &mut Rows, into: &[u32]) {
        for (&slot, &into) in slots.iter().zip(into) {
            let place = self.front_at.get(slot as usize).copied().unwrap_or(NOWHERE);
            if place == NOWHERE {
                continue;
            }
            let rows = &self.front[(place.pane - self.front_popped) as usize].pane.rows;
            if rows.sides.is_empty() && window.events(layout, into as usize) == 0 {
                let target = into as usize * layout.stride;
                window.words[target..target + layout.stride].copy_from_slice(rows.row(layout, place.row as usize));
            } else {
                window.merge(layout, &[into], rows, &[place.row], MergeScope::AcrossPanes);
            }
        }
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

    /// Moves the back to the empty front, its rows becoming totals.
    fn turn(&mut self, layout: &RowLayout) {
        assert!(self.front.is_empty(), "the back is turned over once the front is used up");
        let mut running = Rows::default();
        running.grow(layout, self.back_total.count(layout));
        self.front_at.clear();
        self.front_at.resize(self.back_total.count(layout), NOWHERE);
        self.front_popped = 0;
        for (index, (id, mut pane)) in self.back.drain(..).enumerate().rev() {
            let rows: Vec<u32> = (0..pane.slots.len() as u32).collect();
            running.merge(layout, &pane.slots, &pane.rows, &rows, MergeScope::AcrossPanes);
            pane.rows.clear();
            pane.rows.grow(layout, rows.len());
            pane.rows.merge(layout, &rows, &running, &pane.slots, MergeScope::AcrossPanes);
            let next = pane.slots.iter().zip(rows).map(|(&slot, row)| {
                std::mem::replace(&mut self.front_at[slot as usize], Place { pane: index as u32, row })
            });
            let next = next.collect();
            self.front.push_front(FrontPane { id, pane, next });
        }
        self.back_total.clear();
    }
}
