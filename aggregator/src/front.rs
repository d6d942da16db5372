//! The older panes of a slide: per pane and group, the total from that pane to the newest of them.
//!
//! Where most groups have events in most panes, a pane keeps a total for every slot, found by its number. Where they do
//! not, a group takes space only in panes where it has events, and each of its totals tells where the next one lies. When
//! panes come here and go is the slide's.

use crate::layout::RowLayout;
use crate::pane::{Pane, gaps};
use crate::rows::{MergeScope, Rows, copy_row};
use crate::slide::number;
use crate::time::PaneId;
use std::collections::VecDeque;

/// Panes keep a total for every slot if at least one in so many has events there.
const BY_SLOT_SHARE: usize = 2;

/// Rows summed up at a time.
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
    /// Memory of rows that are moved to where their slots say.
    spare: Rows,
    /// Memory of a merge.
    numbers: Vec<u32>,
}

#[derive(Debug)]
struct FrontPane {
    id: PaneId,
    /// Slots with events in the pane; the rows are totals.
    pane: Pane,
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
            let pane = match self.is_by_slot {
                true => self.summed(layout, slots_end, id, pane),
                false => self.linked(layout, index, id, pane),
            };
            self.panes.push_front(pane);
        }
        self.running.clear();
    }

    /// Adds the totals of the pane after it to its own rows, and copies them where it has none: some at a time, in the order
    /// of slots.
    fn summed(&mut self, layout: &RowLayout, slots_end: usize, id: PaneId, mut pane: Pane) -> FrontPane {
        let stride = layout.stride;
        if !pane.is_by_slot {
            pane.spread(layout, slots_end, &mut self.spare);
        }
        pane.make_room(layout, slots_end);
        let Pane { slots, rows: totals, .. } = &mut pane;
        // Of slots that are beyond, nothing is known here.
        totals.words.truncate(slots_end * stride);
        let after = self.panes.front().map(|after| &after.pane.rows);
        let mut start = 0;
        loop {
            let range = start..slots.len().min(start + CHUNK_ROWS);
            for gap in gaps(slots, range.clone(), slots_end) {
                let gap = gap.start * stride..gap.end * stride;
                match after {
                    Some(after) => totals.words[gap.clone()].copy_from_slice(&after.words[gap]),
                    None => {
                        totals.words[gap].chunks_exact_mut(stride).for_each(|row| row.copy_from_slice(&layout.template))
                    }
                }
            }
            if let Some(after) = after {
                totals.merge(layout, &slots[range.clone()], after, &slots[range.clone()], MergeScope::AcrossPanes);
            }
            start = range.end;
            if start == slots.len() {
                break;
            }
        }
        for (&(slot, state), spill) in after.iter().flat_map(|after| &after.sides.spills) {
            if slots.binary_search(&slot).is_err() {
                totals.sides.spills.insert((slot, state), spill.clone());
            }
        }
        FrontPane { id, pane, next: Vec::new() }
    }

    fn linked(&mut self, layout: &RowLayout, index: usize, id: PaneId, mut pane: Pane) -> FrontPane {
        number(&mut self.numbers, pane.slots.len());
        let from = pane.positions(&self.numbers);
        self.running.merge(layout, &pane.slots, &pane.rows, from, MergeScope::AcrossPanes);
        pane.rows.clear();
        pane.is_by_slot = false;
        for &slot in &pane.slots {
            pane.rows.push_row(layout, self.running.row(layout, slot as usize), &self.running.sides, slot);
        }
        let next = pane
            .slots
            .iter()
            .zip(0..)
            .map(|(&slot, row)| std::mem::replace(&mut self.at[slot as usize], Place { pane: index as u32, row }));
        let next = next.collect();
        FrontPane { id, pane, next }
    }

    /// Takes the oldest pane: its slots, and rows that mean nothing any more.
    pub fn pop(&mut self) -> Option<Pane> {
        let FrontPane { pane, next, .. } = self.panes.pop_front()?;
        self.popped += 1;
        for (&slot, &next) in pane.slots.iter().zip(&next) {
            self.at[slot as usize] = next;
        }
        Some(pane)
    }

    /// The words of the totals over all panes, if these lie where their slots say and nothing lies beside them.
    pub fn by_slot(&self) -> Option<&[u64]> {
        match self.panes.front() {
            None => Some(&[]),
            Some(FrontPane { pane, .. }) => (self.is_by_slot && pane.rows.sides.is_empty()).then_some(&pane.rows.words),
        }
    }

    /// Where the total of `slot` over all panes lies, if it has events in one.
    pub fn total(&self, layout: &RowLayout, slot: u32) -> Option<(&Rows, u32)> {
        if self.is_by_slot {
            let totals = &self.panes.front()?.pane.rows;
            let first = totals.words.get(slot as usize * layout.stride)?;
            return (*first != 0).then_some((totals, slot));
        }
        let place = self.at.get(slot as usize).filter(|place| **place != NOWHERE)?;
        Some((&self.panes[(place.pane - self.popped) as usize].pane.rows, place.row))
    }

    /// Appends the totals of `slots` over all panes to `window`, one row each.
    pub fn append_totals(&self, layout: &RowLayout, slots: &[u32], window: &mut Rows) {
        window.words.reserve(slots.len() * layout.stride);
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
