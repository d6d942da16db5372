//! The older panes of a slide: per pane and group, the total from that pane to the newest of them.
//!
//! Where most groups have events in most panes, a pane keeps a total for every slot, found by its number. Where they do
//! not, a group takes space only in panes where it has events, and each of its totals tells where the next one lies. When
//! panes come here and go is the slide's.

use crate::layout::RowLayout;
use crate::rows::{MergeScope, Rows, copy_row};
use crate::slide::{Pane, number};
use crate::time::PaneId;
use std::collections::VecDeque;

/// Panes keep a total for every slot if at least one in so many has events there.
const BY_SLOT_SHARE: usize = 2;

/// Rows copied and summed up at a time: source and target stay in the first-level cache.
const CHUNK_ROWS: usize = 256;

/// Panes, oldest first, with their totals.
#[derive(Debug, Default)]
pub struct Front {
    panes: VecDeque<FrontPane>,
    /// Whether a total lies where its slot says.
    is_by_slot: bool,
    /// By slot, where totals do not lie by slot: its oldest one.
    at: Vec<Place>,
    /// Panes taken since the front was filled.
    popped: u32,
    /// The sum of what was seen of the panes while they come in, by slot; unless their totals lie by slot.
    running: Rows,
    /// Memory of totals.
    spare: Rows,
    /// Memory of a merge.
    numbers: Vec<u32>,
}

#[derive(Debug)]
struct FrontPane {
    id: PaneId,
    /// Slots with events in the pane.
    slots: Vec<u32>,
    totals: Rows,
    /// Per row: where the same group's next total lies; empty where they lie by slot.
    next: Vec<Place>,
}

/// A total: pane, counted since the front was filled, and row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    pane: u32,
    row: u32,
}

const NOWHERE: Place = Place { pane: u32::MAX, row: u32::MAX };

impl Front {
    /// Whether there are no panes.
    pub fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    /// The oldest pane.
    pub fn oldest(&self) -> Option<PaneId> {
        self.panes.front().map(|pane| pane.id)
    }

    /// Takes all of `panes`, which are in order and whose slots lie below `slots_end`. There were none.
    pub fn fill(&mut self, layout: &RowLayout, panes: &mut Vec<(PaneId, Pane)>, slots_end: usize) {
        assert!(self.is_empty(), "the front is filled once it is used up");
        let rows: usize = panes.iter().map(|(_, pane)| pane.slots.len()).sum();
        // What handles name would have to be copied for groups without events too.
        self.is_by_slot = layout.handles.is_empty() && rows * BY_SLOT_SHARE >= panes.len() * slots_end;
        self.popped = 0;
        self.at.clear();
        if !self.is_by_slot {
            self.at.resize(slots_end, NOWHERE);
            self.running.grow(layout, slots_end);
        }
        for (index, (id, pane)) in panes.drain(..).enumerate().rev() {
            number(&mut self.numbers, pane.slots.len());
            let pane = match self.is_by_slot {
                true => self.by_slot(layout, slots_end, id, pane),
                false => self.linked(layout, index, id, pane),
            };
            self.panes.push_front(pane);
        }
        self.running.clear();
    }

    /// The totals of the pane after it, copied, and its own rows added: some at a time, while they are in the nearest cache.
    fn by_slot(&mut self, layout: &RowLayout, slots_end: usize, id: PaneId, pane: Pane) -> FrontPane {
        let Pane { slots, mut rows, .. } = pane;
        let mut totals = std::mem::take(&mut self.spare);
        match self.panes.front() {
            None => totals.grow(layout, slots_end),
            Some(after) => totals.sides.clone_from(&after.totals.sides),
        }
        let is_sorted = slots.is_sorted();
        let copy = |totals: &mut Rows, end: usize| {
            if let Some(after) = self.panes.front() {
                totals.words.extend_from_slice(&after.totals.words[totals.words.len()..end * layout.stride]);
            }
        };
        for (slots, numbers) in slots.chunks(CHUNK_ROWS).zip(self.numbers.chunks(CHUNK_ROWS)) {
            copy(&mut totals, slots.last().filter(|_| is_sorted).map_or(slots_end, |&slot| slot as usize + 1));
            totals.merge(layout, slots, &rows, numbers, MergeScope::AcrossPanes);
        }
        copy(&mut totals, slots_end);
        rows.clear();
        self.spare = rows;
        FrontPane { id, slots, totals, next: Vec::new() }
    }

    fn linked(
        &mut self,
        layout: &RowLayout,
        index: usize,
        id: PaneId,
        Pane { slots, rows: mut totals, .. }: Pane,
    ) -> FrontPane {
        self.running.merge(layout, &slots, &totals, &self.numbers, MergeScope::AcrossPanes);
        totals.clear();
        for &slot in &slots {
            totals.push_row(layout, self.running.row(layout, slot as usize), &self.running.sides, slot);
        }
        let next = slots
            .iter()
            .zip(0..)
            .map(|(&slot, row)| std::mem::replace(&mut self.at[slot as usize], Place { pane: index as u32, row }));
        let next = next.collect();
        FrontPane { id, slots, totals, next }
    }

    /// Takes the oldest pane: its slots, and rows that mean nothing any more.
    pub fn pop(&mut self) -> Option<Pane> {
        let FrontPane { slots, totals, next, .. } = self.panes.pop_front()?;
        self.popped += 1;
        for (&slot, &next) in slots.iter().zip(&next) {
            self.at[slot as usize] = next;
        }
        Some(Pane { slots, rows: totals, is_by_slot: false })
    }

    /// Where the total of `slot` over all panes lies, if it has events in one.
    pub fn total(&self, layout: &RowLayout, slot: u32) -> Option<(&Rows, u32)> {
        if self.is_by_slot {
            let totals = &self.panes.front()?.totals;
            let first = totals.words.get(slot as usize * layout.stride)?;
            return (*first != 0).then_some((totals, slot));
        }
        let place = self.at.get(slot as usize).filter(|place| **place != NOWHERE)?;
        Some((&self.panes[(place.pane - self.popped) as usize].totals, place.row))
    }

    /// Appends the totals of `slots` over all panes to `window`, one row each.
    pub fn append_totals(&self, layout: &RowLayout, slots: &[u32], window: &mut Rows) {
        window.words.reserve(slots.len() * layout.stride);
        let by_slot = self.panes.front().filter(|pane| self.is_by_slot && pane.totals.sides.is_empty());
        if let Some(pane) = by_slot {
            let held = pane.totals.count(layout);
            for run in slots.chunk_by(|&slot, &next| slot + 1 == next) {
                let (first, end) = (held.min(run[0] as usize), held.min(run[0] as usize + run.len()));
                window.words.extend_from_slice(&pane.totals.words[first * layout.stride..end * layout.stride]);
                (end - first..run.len()).for_each(|_| window.words.extend_from_slice(&layout.template));
            }
            return;
        }
        let first = window.count(layout) as u32;
        for (&slot, row) in slots.iter().zip(first..) {
            match self.total(layout, slot) {
                Some((totals, at)) => {
                    let source = totals.row(layout, at as usize);
                    window.words.extend_from_slice(source);
                    if !totals.sides.is_empty() {
                        let target = &mut window.words[row as usize * layout.stride..];
                        copy_row(layout, (target, &mut window.sides, row), (source, &totals.sides, at));
                    }
                }
                None => window.words.extend_from_slice(&layout.template),
            }
        }
    }
}
