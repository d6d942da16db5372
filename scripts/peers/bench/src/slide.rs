//! Panes into windows by two stacks: a slide costs one pass over the slots, however many panes a window has.
//!
//! Where results go is not decided here: a [`Sink`] takes them.

use crate::rows::{Row, merge_rows};
use crate::summary::{ResultRow, Summary};
use std::hint::black_box;

/// Shape of the windows, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Length of a pane, and distance between windows.
    pub slide_ms: i64,
    /// Panes per window.
    pub panes: usize,
}

impl Shape {
    /// `hop`: 10 s every 1 s; `tumble`: 1 s.
    pub fn parse(name: &str) -> Option<Shape> {
        match name {
            "hop" => Some(Shape { slide_ms: 1_000, panes: 10 }),
            "tumble" => Some(Shape { slide_ms: 1_000, panes: 1 }),
            _ => None,
        }
    }
}

/// Takes finished windows: their columns are made in full, as a user would get them, then counted or hashed.
pub struct Sink {
    keys: Vec<u64>,
    rows: Vec<Row>,
    /// Rows and events are always filled in; the rest only if `hashes`.
    pub summary: Summary,
    hashes: bool,
}

impl Sink {
    /// A sink that hashes every row if `hashes`, and else only counts.
    pub fn new(hashes: bool) -> Sink {
        Sink { keys: Vec::new(), rows: Vec::new(), summary: Summary::default(), hashes }
    }

    /// Starts a window of at most `slots` rows.
    fn open(&mut self, slots: usize) {
        self.keys.clear();
        self.rows.clear();
        self.keys.reserve(slots);
        self.rows.reserve(slots);
    }

    #[inline(always)]
    fn put(&mut self, key: u64, row: Row) {
        self.keys.push(key);
        self.rows.push(row);
    }

    fn close(&mut self, window_ms: i64) {
        let (keys, rows) = (black_box(&self.keys), black_box(&self.rows));
        if self.hashes {
            for (&key, row) in keys.iter().zip(rows) {
                let Row { count, sum, min, max } = *row;
                self.summary.add(&ResultRow { window_ms, key, count, sum, min, max });
            }
        } else {
            self.summary.rows += rows.len() as u64;
            self.summary.events += rows.iter().map(|row| row.count).sum::<u64>();
        }
    }
}

/// The panes of the open windows: suffixes of the older ones merged, the newer ones merged in one.
pub struct Slider {
    shape: Shape,
    /// Merges of older panes up to the turn; the last covers all of them that are still in the window.
    front: Vec<Vec<Row>>,
    /// Panes since the turn.
    back: Vec<Vec<Row>>,
    /// All of `back` merged.
    back_merged: Vec<Row>,
    /// Arrays to be used again.
    spare: Vec<Vec<Row>>,
}

impl Slider {
    /// No panes yet.
    pub fn new(shape: Shape) -> Slider {
        Slider { shape, front: Vec::new(), back: Vec::new(), back_merged: Vec::new(), spare: Vec::new() }
    }

    /// Takes the pane with number `pane` (time divided by slide), which follows the one before it, and puts out the
    /// window that ends with it. `keys` tells each slot's key; `None` means that the slot is the key. Gives back an
    /// array for the next pane.
    pub fn add(&mut self, pane: i64, rows: Vec<Row>, keys: Option<&[u64]>, sink: &mut Sink) -> Vec<Row> {
        let window_ms = (pane + 1 - self.shape.panes as i64) * self.shape.slide_ms;
        if self.shape.panes == 1 {
            emit(&rows, &[], keys, sink);
            sink.close(window_ms);
            return emptied(rows);
        }
        merge_rows(&mut self.back_merged, &rows);
        self.back.push(rows);
        if self.front.len() + self.back.len() > self.shape.panes {
            self.forget_oldest();
        }
        emit(&self.back_merged, self.front.last().map_or(&[], |rows| rows), keys, sink);
        sink.close(window_ms);
        self.spare.pop().unwrap_or_default()
    }

    fn forget_oldest(&mut self) {
        if self.front.is_empty() {
            // The turn: newest first, each merged with all newer ones.
            while let Some(mut rows) = self.back.pop() {
                if let Some(newer) = self.front.last() {
                    merge_rows(&mut rows, newer);
                }
                self.front.push(rows);
            }
            self.back_merged.fill(Row::EMPTY);
        }
        let oldest = self.front.pop().expect("a window has at least one pane");
        self.spare.push(emptied(oldest));
    }
}

fn emptied(mut rows: Vec<Row>) -> Vec<Row> {
    rows.fill(Row::EMPTY);
    rows
}

/// Puts out the merge of `a` and `b` for all slots that have events.
fn emit(a: &[Row], b: &[Row], keys: Option<&[u64]>, sink: &mut Sink) {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    sink.open(long.len());
    let key_of = |slot: usize| keys.map_or(slot as u64, |keys| keys[slot]);
    for (slot, (long, short)) in long.iter().zip(short).enumerate() {
        let mut row = *long;
        row.merge(short);
        if row.count > 0 {
            sink.put(key_of(slot), row);
        }
    }
    for (slot, row) in long.iter().enumerate().skip(short.len()) {
        if row.count > 0 {
            sink.put(key_of(slot), *row);
        }
    }
}
