//! What a careful programmer writes for this one query: a hash table, rows of a pane, no engine around them.
//!
//! Panes are folded and given up; windows are not made, here as in the ways that are compared.

use super::Total;
use super::data::{Columns, PANE};
use corefold_aggregator::sketch::exact_sum;

/// Keys to numbers by open addressing.
struct Table {
    places: Vec<(i64, u32)>,
    keys: Vec<i64>,
    shift: u32,
}

impl Table {
    fn new() -> Table {
        Table { places: vec![(0, u32::MAX); 1 << 10], keys: Vec::new(), shift: 54 }
    }

    #[inline(always)]
    fn find(&mut self, key: i64) -> usize {
        let mask = self.places.len() - 1;
        let mut at = ((key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        loop {
            let (known, index) = self.places[at & mask];
            if known == key && index != u32::MAX {
                return index as usize;
            }
            if index == u32::MAX {
                return self.insert(key);
            }
            at += 1;
        }
    }

    #[cold]
    fn insert(&mut self, key: i64) -> usize {
        self.keys.push(key);
        if self.keys.len() * 2 > self.places.len() {
            self.places = vec![(0, u32::MAX); self.places.len() * 2];
            self.shift -= 1;
            for index in 0..self.keys.len() {
                self.place(self.keys[index], index as u32);
            }
        } else {
            self.place(key, self.keys.len() as u32 - 1);
        }
        self.keys.len() - 1
    }

    fn place(&mut self, key: i64, index: u32) {
        let mask = self.places.len() - 1;
        let mut at = ((key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        while self.places[at & mask].1 != u32::MAX {
            at += 1;
        }
        self.places[at & mask] = (key, index);
    }
}

/// A group in a pane.
trait Row: Copy {
    const EMPTY: Self;
    fn add(&mut self, value: f64);
    fn parts(&self) -> (u64, f64, (f64, f64));
}

/// With a plain sum.
#[derive(Clone, Copy)]
struct Plain {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Row for Plain {
    const EMPTY: Plain = Plain { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    #[inline(always)]
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.min = if value < self.min { value } else { self.min };
        self.max = if value > self.max { value } else { self.max };
    }

    fn parts(&self) -> (u64, f64, (f64, f64)) {
        (self.count, self.sum, (self.min, self.max))
    }
}

/// With an exact sum, as the engine keeps it.
#[derive(Clone, Copy)]
struct Exact {
    plain: Plain,
    low: f64,
}

impl Row for Exact {
    const EMPTY: Exact = Exact { plain: Plain::EMPTY, low: 0.0 };

    #[inline(always)]
    fn add(&mut self, value: f64) {
        let high = self.plain.sum;
        self.plain.add(value);
        let pair = exact_sum::add(high, self.low, value);
        (self.plain.sum, self.low) = pair.unwrap_or_else(|| unreachable!("values of a workload do not spill"));
    }

    fn parts(&self) -> (u64, f64, (f64, f64)) {
        let (count, high, ends) = self.plain.parts();
        (count, high + self.low, ends)
    }
}

/// Folds with a plain sum.
pub fn fold(columns: &Columns, look: bool) -> Option<Total> {
    run::<Plain>(columns, look)
}

/// Folds with an exact sum.
pub fn fold_exact(columns: &Columns, look: bool) -> Option<Total> {
    run::<Exact>(columns, look)
}

fn run<R: Row>(columns: &Columns, look: bool) -> Option<Total> {
    let mut table = Table::new();
    let mut rows: Vec<R> = Vec::new();
    let mut total = look.then(Total::default);
    let mut events = 0;
    let (mut pane, mut pane_end) = (0, PANE);
    for ((&time, &key), &value) in columns.times.iter().zip(&columns.keys).zip(&columns.values) {
        if time >= pane_end {
            events += close(pane, &table, &mut rows, &mut total);
            pane = time.div_euclid(PANE);
            pane_end = (pane + 1) * PANE;
        }
        let index = table.find(key);
        if index >= rows.len() {
            rows.resize(index + 1, R::EMPTY);
        }
        rows[index].add(value);
    }
    events += close(pane, &table, &mut rows, &mut total);
    assert_eq!(events, columns.times.len() as u64);
    total
}

/// Gives a pane up, counting what it held.
fn close<R: Row>(pane: i64, table: &Table, rows: &mut [R], total: &mut Option<Total>) -> u64 {
    let mut events = 0;
    for (row, &key) in rows.iter_mut().zip(&table.keys) {
        let (count, sum, ends) = row.parts();
        events += count;
        if let Some(total) = total.as_mut().filter(|_| count > 0) {
            total.add((pane, key), count, sum, ends);
        }
        *row = R::EMPTY;
    }
    events
}
