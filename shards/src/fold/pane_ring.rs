//! The panes of one view that are not released yet, by pane number.
//!
//! Their rows are not here.

use super::page_pool::PagePool;
use super::pane::Pane;
use corefold_aggregator::time::{EventTime, PaneId, WindowSpec};
use std::collections::BTreeMap;

/// Panes looked up lately, by the low bits of their number: disorder over a few panes stays in here.
const RECENT: usize = 64;

/// Open and closed panes of one view.
#[derive(Debug)]
pub struct PaneRing {
    window: WindowSpec,
    panes: Vec<Option<Pane>>,
    free: Vec<u32>,
    by_id: BTreeMap<PaneId, u32>,
    recent: [(i64, u32); RECENT],
    /// Panes below this are released and must not be met again.
    released: PaneId,
}

impl PaneRing {
    /// No panes.
    pub fn new(window: WindowSpec) -> PaneRing {
        PaneRing {
            window,
            panes: Vec::new(),
            free: Vec::new(),
            by_id: BTreeMap::new(),
            recent: [(i64::MIN, 0); RECENT],
            released: PaneId(i64::MIN),
        }
    }

    /// Index of pane `id`, made if it is not there; `None` if it is released already.
    #[inline]
    pub fn index_of(&mut self, id: PaneId, pool: &mut PagePool) -> Option<u32> {
        let (recent, index) = self.recent[id.0 as usize % RECENT];
        if recent == id.0 {
            return Some(index);
        }
        self.look_up(id, pool)
    }

    #[cold]
    fn look_up(&mut self, id: PaneId, pool: &mut PagePool) -> Option<u32> {
        if id < self.released {
            return None;
        }
        let index = match self.by_id.get(&id) {
            Some(&index) => index,
            None => {
                let pane = Pane::new(id, self.window.pane_start(id), self.window.pane_end(id), pool);
                let index = match self.free.pop() {
                    Some(index) => {
                        self.panes[index as usize] = Some(pane);
                        index
                    }
                    None => {
                        self.panes.push(Some(pane));
                        self.panes.len() as u32 - 1
                    }
                };
                self.by_id.insert(id, index);
                index
            }
        };
        self.recent[id.0 as usize % RECENT] = (id.0, index);
        Some(index)
    }

    /// The pane at an index got from [`PaneRing::index_of`] and not released since.
    #[inline(always)]
    pub fn pane(&mut self, index: u32) -> &mut Pane {
        self.panes[index as usize].as_mut().expect("an index names a pane until its release")
    }

    /// The oldest pane at or above `from` and below `limit`.
    pub fn next_in(&mut self, from: PaneId, limit: PaneId) -> Option<&mut Pane> {
        if from >= limit {
            return None;
        }
        let (_, &index) = self.by_id.range(from..limit).next()?;
        self.panes[index as usize].as_mut()
    }

    /// Takes out the oldest pane below `limit`; call until there is none. Panes below it may not come again.
    pub fn release_one(&mut self, limit: PaneId) -> Option<Pane> {
        self.released = self.released.max(limit);
        let entry = self.by_id.first_entry()?;
        if *entry.key() >= limit {
            return None;
        }
        let (id, index) = entry.remove_entry();
        let recent = &mut self.recent[id.0 as usize % RECENT];
        if recent.0 == id.0 {
            *recent = (i64::MIN, 0);
        }
        self.free.push(index);
        self.panes[index as usize].take()
    }

    /// Marks panes below `limit` as released without ever having been here; they must be empty.
    pub fn start_at(&mut self, limit: PaneId) {
        self.released = self.released.max(limit);
    }

    /// Whether pane `id` is released.
    pub fn is_released(&self, id: PaneId) -> bool {
        id < self.released
    }

    /// All panes held.
    pub fn all(&self) -> impl Iterator<Item = &Pane> {
        self.panes.iter().flatten()
    }

    /// All panes held.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Pane> {
        self.panes.iter_mut().flatten()
    }

    /// Panes that close at or before `frontier` and are not released, oldest first.
    pub fn closed(&self, frontier: EventTime) -> impl Iterator<Item = &Pane> {
        let closed = self.by_id.range(..self.window.open_from(frontier));
        closed.filter_map(|(_, &index)| self.panes[index as usize].as_ref())
    }

    /// Panes held.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no pane is held.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
