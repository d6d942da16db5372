//! Panes that are released, on their way out: the table hears of each group, then their memory is free.
//!
//! That goes through all their rows, which left the caches long ago, so it is done piece by piece where there is time. Nothing
//! looks for a group in them any more.

use super::group_table::GroupTable;
use super::page_pool::PagePool;
use super::pane::Pane;
use corefold_aggregator::time::EventTime;
use std::collections::VecDeque;

/// See the module.
#[derive(Debug, Default)]
pub struct Leaving {
    /// With the frontier that released them.
    panes: VecDeque<(Pane, EventTime)>,
    /// Rows of the first one that the table has heard of, and how many of them have events.
    told: usize,
    held: usize,
}

impl Leaving {
    /// Takes a pane.
    pub fn push(&mut self, pane: Pane, frontier: EventTime) {
        self.panes.push_back((pane, frontier));
    }

    /// About `rows_max` rows more. False if there were none.
    pub fn turn(&mut self, rows_max: usize, table: &mut GroupTable, pool: &mut PagePool) -> bool {
        let Some((pane, frontier)) = self.panes.front() else { return false };
        if let Some(slots) = pane.held_from(self.told, rows_max) {
            self.held += table.release(slots, *frontier);
            self.told = self.told.saturating_add(rows_max);
        } else if let Some((pane, _)) = self.panes.pop_front() {
            pane.recycle(self.held, table, pool);
            (self.told, self.held) = (0, 0);
        }
        true
    }

    /// All of them.
    pub fn finish(&mut self, table: &mut GroupTable, pool: &mut PagePool) {
        while self.turn(usize::MAX, table, pool) {}
    }
}
