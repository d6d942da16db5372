//! The hand-written loop: events in time order into the rows of one open pane, panes into windows.
//!
//! No engine is here: no late events, no nulls, one thread, one query written out.

use crate::events::Columns;
use crate::rows::Row;
use crate::slide::{Shape, Sink, Slider};

/// How a key becomes a slot.
pub trait Slots {
    /// The slot of `key`; new ones count up from 0.
    fn slot(&mut self, key: u64) -> usize;
    /// Keys by slot, or `None` where the slot is the key.
    fn keys(&self) -> Option<&[u64]>;
}

/// The slot is the key: right only for small whole numbers, and the least work there is.
pub struct Dense;

impl Slots for Dense {
    #[inline(always)]
    fn slot(&mut self, key: u64) -> usize {
        key as usize
    }

    fn keys(&self) -> Option<&[u64]> {
        None
    }
}

/// A hash table with open addresses, as one writes for keys that may be any number.
pub struct Hashed {
    /// Key and slot + 1; 0 means that the place is free. A power of two of places.
    places: Vec<(u64, u64)>,
    shift: u32,
    keys: Vec<u64>,
}

impl Hashed {
    /// An empty table.
    pub fn new() -> Hashed {
        Hashed { places: vec![(0, 0); 1 << 16], shift: 64 - 16, keys: Vec::new() }
    }

    #[inline(always)]
    fn home(&self, key: u64) -> usize {
        (key.wrapping_mul(crate::summary::GOLDEN) >> self.shift) as usize
    }

    /// Adds a key that is not there.
    #[cold]
    fn insert(&mut self, key: u64) -> usize {
        if (self.keys.len() + 1) * 2 > self.places.len() {
            self.grow();
        }
        self.keys.push(key);
        self.place(key, self.keys.len() as u64);
        self.keys.len() - 1
    }

    fn place(&mut self, key: u64, slot_plus_1: u64) {
        let mut at = self.home(key);
        while self.places[at].1 != 0 {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.places[at] = (key, slot_plus_1);
    }

    fn grow(&mut self) {
        let size = self.places.len() * 2;
        self.places.clear();
        self.places.resize(size, (0, 0));
        self.shift -= 1;
        for slot in 0..self.keys.len() {
            self.place(self.keys[slot], slot as u64 + 1);
        }
    }
}

impl Default for Hashed {
    fn default() -> Hashed {
        Hashed::new()
    }
}

impl Slots for Hashed {
    #[inline(always)]
    fn slot(&mut self, key: u64) -> usize {
        let mask = self.places.len() - 1;
        let mut at = self.home(key);
        loop {
            let (found, slot_plus_1) = self.places[at & mask];
            if slot_plus_1 == 0 {
                return self.insert(key);
            }
            if found == key {
                return slot_plus_1 as usize - 1;
            }
            at += 1;
        }
    }

    fn keys(&self) -> Option<&[u64]> {
        Some(&self.keys)
    }
}

/// The open pane and all behind it.
pub struct Fold<S> {
    slots: S,
    shape: Shape,
    slider: Slider,
    /// Where results went.
    pub sink: Sink,
    /// Number of the open pane; `None` before the first event.
    pane: Option<i64>,
    rows: Vec<Row>,
}

impl<S: Slots> Fold<S> {
    /// Nothing folded yet.
    pub fn new(slots: S, shape: Shape, sink: Sink) -> Fold<S> {
        Fold { slots, shape, slider: Slider::new(shape), sink, pane: None, rows: Vec::new() }
    }

    /// Folds events, which must come in the order of their times.
    pub fn fold(&mut self, columns: Columns<'_>) {
        let mut rest = columns;
        while let Some(&first_ms) = rest.times_ms.first() {
            self.go_to(first_ms.div_euclid(self.shape.slide_ms));
            let pane = self.pane.expect("the pane was opened just now");
            let (start_ms, end_ms) = (pane * self.shape.slide_ms, (pane + 1) * self.shape.slide_ms);
            let count = self.fold_pane(rest, start_ms, end_ms);
            rest =
                Columns { times_ms: &rest.times_ms[count..], keys: &rest.keys[count..], values: &rest.values[count..] };
        }
    }

    /// Folds events up to the first outside of the pane; tells how many.
    fn fold_pane(&mut self, columns: Columns<'_>, start_ms: i64, end_ms: i64) -> usize {
        let mut count = 0;
        for ((&time_ms, &key), &value) in columns.times_ms.iter().zip(columns.keys).zip(columns.values) {
            if !(time_ms >= start_ms && time_ms < end_ms) {
                break;
            }
            let slot = self.slots.slot(key);
            if slot >= self.rows.len() {
                grow(&mut self.rows, slot);
            }
            self.rows[slot].fold(value);
            count += 1;
        }
        count
    }

    /// Closes panes until `pane` is the open one.
    fn go_to(&mut self, pane: i64) {
        let open = *self.pane.get_or_insert(pane);
        assert!(pane >= open, "the loop wants events in the order of their times");
        for closed in open..pane {
            self.close(closed);
        }
        self.pane = Some(pane);
    }

    fn close(&mut self, pane: i64) {
        let rows = std::mem::take(&mut self.rows);
        self.rows = self.slider.add(pane, rows, self.slots.keys(), &mut self.sink);
    }

    /// Closes what is open; the last windows have fewer panes.
    pub fn finish(mut self) -> Sink {
        if let Some(open) = self.pane {
            for pane in open..open + self.shape.panes as i64 {
                self.close(pane);
            }
        }
        self.sink
    }
}

#[cold]
fn grow(rows: &mut Vec<Row>, slot: usize) {
    rows.resize((slot + 1).next_power_of_two(), Row::EMPTY);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::{ResultRow, Summary};
    use std::collections::BTreeMap;

    /// Every event into every window that holds it.
    fn plainly(times_ms: &[i64], keys: &[u64], values: &[f64], shape: Shape) -> Summary {
        let mut windows: BTreeMap<(i64, u64), Row> = BTreeMap::new();
        for ((time_ms, key), value) in times_ms.iter().zip(keys).zip(values) {
            let pane = time_ms.div_euclid(shape.slide_ms);
            for back in 0..shape.panes as i64 {
                windows.entry(((pane - back) * shape.slide_ms, *key)).or_insert(Row::EMPTY).fold(*value);
            }
        }
        let mut summary = Summary::default();
        for ((window_ms, key), Row { count, sum, min, max }) in windows {
            summary.add(&ResultRow { window_ms, key, count, sum, min, max });
        }
        summary
    }

    #[test]
    fn both_loops_agree_with_every_event_in_every_window() {
        let (mut times_ms, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let mut seed = 1u64;
        for index in 0..5_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // A gap longer than a window, and one of two panes.
            let gap = if index > 3_000 {
                30_000
            } else if index > 1_000 {
                2_500
            } else {
                0
            };
            times_ms.push(-7_300 + index * 9 + gap);
            keys.push((seed >> 33) % (1 + (seed >> 60) * 20));
            values.push((seed >> 20) as f64 / 1e6);
        }
        for name in ["hop", "tumble"] {
            let shape = Shape::parse(name).unwrap();
            let right = plainly(&times_ms, &keys, &values, shape);
            let all = Columns { times_ms: &times_ms, keys: &keys, values: &values };
            let mut dense = Fold::new(Dense, shape, Sink::new(true));
            dense.fold(all);
            assert_eq!(dense.finish().summary.differs(&right), None);
            let mut hashed = Fold::new(Hashed::new(), shape, Sink::new(true));
            hashed.fold(all);
            assert_eq!(hashed.finish().summary.differs(&right), None);
        }
    }

    #[test]
    fn the_table_grows_and_keeps_its_slots() {
        let mut table = Hashed::new();
        let key = |index: u64| index.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        for index in 0..100_000 {
            assert_eq!(table.slot(key(index)), index as usize);
        }
        for index in 0..100_000 {
            assert_eq!(table.slot(key(index)), index as usize);
        }
    }
}
