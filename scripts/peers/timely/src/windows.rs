//! The state of the Timely operator: a hash map per pane, and two stacks that merge panes into windows.
//!
//! Nothing of Timely is here; `main.rs` has the dataflow.

use corefold_peers::rows::Row;
use corefold_peers::slide::Shape;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Rows by key.
pub type Map = FxHashMap<u64, Row>;

/// Open panes and the panes of the open windows.
pub struct Windows {
    shape: Shape,
    /// Panes that still take events.
    open: BTreeMap<i64, Map>,
    /// Merges of older panes up to the turn; the last covers all of them that are still in the window.
    front: Vec<Map>,
    /// Panes since the turn.
    back: Vec<Map>,
    /// All of `back` merged.
    back_merged: Map,
    /// Empty maps that keep their memory.
    spare: Vec<Map>,
    /// The next pane to close, once one has been.
    next: Option<i64>,
}

impl Windows {
    /// Nothing yet.
    pub fn new(shape: Shape) -> Windows {
        let (open, front, back) = (BTreeMap::new(), Vec::new(), Vec::new());
        Windows { shape, open, front, back, back_merged: Map::default(), spare: Vec::new(), next: None }
    }

    /// Folds events; those of one pane mostly follow each other.
    pub fn fold(&mut self, events: &[(i64, u64, f64)]) {
        let mut at = 0;
        while at < events.len() {
            let pane = events[at].0.div_euclid(self.shape.slide_ms);
            let end_ms = (pane + 1) * self.shape.slide_ms;
            let map = self.open.entry(pane).or_insert_with(|| self.spare.pop().unwrap_or_default());
            while let Some(&(time_ms, key, value)) = events.get(at) {
                if !(time_ms < end_ms && time_ms >= end_ms - self.shape.slide_ms) {
                    break;
                }
                map.entry(key).or_insert(Row::EMPTY).fold(value);
                at += 1;
            }
        }
    }

    /// The next pane that will be closed, if any event has come.
    pub fn next(&self) -> Option<i64> {
        self.next.or_else(|| self.open.keys().next().copied())
    }

    /// Whether a window is still to come.
    pub fn is_done(&self) -> bool {
        self.open.is_empty() && self.front.iter().chain(&self.back).all(Map::is_empty)
    }

    /// Closes the next pane and puts out the window that ends with it, row by row.
    pub fn close(&mut self, mut put: impl FnMut(i64, u64, Row)) {
        let pane = self.next().expect("only called when there is one");
        self.next = Some(pane + 1);
        let rows = self.open.remove(&pane).unwrap_or_else(|| self.spare.pop().unwrap_or_default());
        let window_ms = (pane + 1 - self.shape.panes as i64) * self.shape.slide_ms;
        if self.shape.panes == 1 {
            rows.iter().for_each(|(&key, &row)| put(window_ms, key, row));
            self.keep(rows);
            return;
        }
        merge(&mut self.back_merged, &rows);
        self.back.push(rows);
        if self.front.len() + self.back.len() > self.shape.panes {
            self.forget_oldest();
        }
        let older = self.front.last();
        for (&key, row) in &self.back_merged {
            let mut row = *row;
            if let Some(older) = older.and_then(|older| older.get(&key)) {
                row.merge(older);
            }
            put(window_ms, key, row);
        }
        for (&key, row) in older.into_iter().flatten() {
            if !self.back_merged.contains_key(&key) {
                put(window_ms, key, *row);
            }
        }
    }

    fn forget_oldest(&mut self) {
        if self.front.is_empty() {
            while let Some(mut rows) = self.back.pop() {
                if let Some(newer) = self.front.last() {
                    merge(&mut rows, newer);
                }
                self.front.push(rows);
            }
            self.back_merged.clear();
        }
        let oldest = self.front.pop().expect("a window has at least one pane");
        self.keep(oldest);
    }

    fn keep(&mut self, mut map: Map) {
        map.clear();
        self.spare.push(map);
    }
}

fn merge(into: &mut Map, from: &Map) {
    for (&key, row) in from {
        into.entry(key).or_insert(Row::EMPTY).merge(row);
    }
}
