//! Rows of accumulators and the one way to merge them.
//!
//! Used for partial aggregates, merged panes, both stacks of the slide and the windows themselves. Which group
//! a row belongs to is not known here: callers pair row positions.

use crate::aggregate;
use crate::layout::RowLayout;
use crate::sketch::distinct::DistinctSketch;
use crate::sketch::exact_sum::SuperSum;
use crate::sketch::quantile::QuantileSketch;
use crate::sketch::top::TopSketch;
use std::collections::BTreeMap;

/// Rows that are merged state by state before the next ones: both sides together fit the first cache.
const MERGE_ROWS: usize = 128;

/// Something that belongs to a state but does not fit into its words.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Side {
    /// Of `quantile`.
    Quantile(QuantileSketch),
    /// Of `distinct`.
    Distinct(DistinctSketch),
    /// Of `top`.
    Top(TopSketch),
    /// Value of a text `min`, `max`, `first` or `last`.
    Text(Vec<u8>),
}

/// What lies beside rows: things named by handle words, and the spilled bits of exact sums.
#[derive(Clone, Debug, Default, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Sides {
    /// Handle `h` names `items[h - 1]`; handle 0 names nothing.
    pub items: Vec<Side>,
    /// By (row position, state index); few rows have any.
    pub spills: BTreeMap<(u32, u16), SuperSum>,
}

impl Sides {
    /// Keeps `side` and returns its handle.
    pub fn add(&mut self, side: Side) -> u64 {
        self.items.push(side);
        self.items.len() as u64
    }

    /// What `handle` names; `None` for handle 0.
    pub fn get(&self, handle: u64) -> Option<&Side> {
        self.items.get((handle as usize).checked_sub(1)?)
    }

    /// As [`Sides::get`], to change it.
    pub fn get_mut(&mut self, handle: u64) -> Option<&mut Side> {
        self.items.get_mut((handle as usize).checked_sub(1)?)
    }

    /// The spill of a sum, made if there is none.
    pub fn spill(&mut self, row: u32, state: usize) -> &mut SuperSum {
        self.spills.entry((row, state as u16)).or_default()
    }

    /// The spill of a sum, if there is one.
    pub fn spilled(&self, row: u32, state: usize) -> Option<&SuperSum> {
        if self.spills.is_empty() { None } else { self.spills.get(&(row, state as u16)) }
    }

    /// Whether nothing lies here.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.spills.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.items.clear();
        self.spills.clear();
    }
}

/// Rows of one layout, one after the other, with their sides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// `stride` words per row.
    pub words: Vec<u64>,
    /// What does not fit into words.
    pub sides: Sides,
}

/// Rows that lie elsewhere, for reading.
#[derive(Clone, Copy, Debug)]
pub struct RowsRef<'a> {
    /// `stride` words per row.
    pub words: &'a [u64],
    /// What does not fit into words.
    pub sides: &'a Sides,
}

impl<'a> From<&'a Rows> for RowsRef<'a> {
    fn from(rows: &'a Rows) -> RowsRef<'a> {
        RowsRef { words: &rows.words, sides: &rows.sides }
    }
}

/// Copies one row into `target`, which then belongs to row `row` of `sides`: what lies beside the source is copied and
/// named anew. `target` must be empty before, so that nothing lies beside it yet.
pub fn copy_row(
    layout: &RowLayout,
    (target, sides, row): (&mut [u64], &mut Sides, u32),
    (source, source_sides, source_row): (&[u64], &Sides, u32),
) {
    target.copy_from_slice(source);
    for &word in &layout.handles {
        if let Some(side) = source_sides.get(source[word]) {
            target[word] = sides.add(side.clone());
        }
    }
    if !source_sides.spills.is_empty() {
        for state in 0..layout.states.len() {
            if let Some(spill) = source_sides.spilled(source_row, state) {
                sides.spills.insert((row, state as u16), spill.clone());
            }
        }
    }
}

/// Whether merged rows describe the same pane (seen by several shards) or different panes of a window.
/// Only `top` cares: past its exact size it may reduce within a pane, never across.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MergeScope {
    /// Partial aggregates of one pane.
    SamePane,
    /// Panes of one window, or groups folded into `__other__`.
    AcrossPanes,
}

impl Rows {
    /// Number of rows.
    pub fn count(&self, layout: &RowLayout) -> usize {
        self.words.len() / layout.stride
    }

    /// Makes rows empty up to position `count - 1`.
    pub fn grow(&mut self, layout: &RowLayout, count: usize) {
        let missing = (count * layout.stride).saturating_sub(self.words.len()) / layout.stride;
        self.words.reserve(missing * layout.stride);
        for _ in 0..missing {
            self.words.extend_from_slice(&layout.template);
        }
    }

    /// Appends a copy of a row that lies elsewhere.
    pub fn push_row(&mut self, layout: &RowLayout, source: &[u64], source_sides: &Sides, source_row: u32) {
        let at = self.words.len();
        self.words.extend_from_slice(source);
        if !source_sides.is_empty() {
            let row = (at / layout.stride) as u32;
            copy_row(layout, (&mut self.words[at..], &mut self.sides, row), (source, source_sides, source_row));
        }
    }

    /// Forgets all rows, keeps the memory.
    pub fn clear(&mut self) {
        self.words.clear();
        self.sides.clear();
    }

    /// Empties one row. Its sides stay until [`Rows::clear`].
    pub fn reset(&mut self, layout: &RowLayout, row: usize) {
        self.words[row * layout.stride..][..layout.stride].copy_from_slice(&layout.template);
        if !self.sides.spills.is_empty() {
            for state in 0..layout.states.len() {
                self.sides.spills.remove(&(row as u32, state as u16));
            }
        }
    }

    /// The words of one row.
    pub fn row(&self, layout: &RowLayout, row: usize) -> &[u64] {
        &self.words[row * layout.stride..][..layout.stride]
    }

    /// Merges row `from[i]` of `source` into row `into[i]` of `self`, for every `i`.
    ///
    /// State by state, so that the kind is resolved once per state and not once per row, in runs of rows that stay in
    /// the cache meanwhile. Commutative and associative in every state. Rows must exist; a row may be named several
    /// times in `into`.
    pub fn merge<'a>(
        &mut self,
        layout: &RowLayout,
        into: &[u32],
        source: impl Into<RowsRef<'a>>,
        from: &[u32],
        scope: MergeScope,
    ) {
        let source = source.into();
        assert_eq!(into.len(), from.len());
        if !aggregate::merge_fused(layout, self, into, source, from) {
            for (into, from) in into.chunks(MERGE_ROWS).zip(from.chunks(MERGE_ROWS)) {
                for (index, state) in layout.states.iter().enumerate() {
                    let context = aggregate::MergeContext { state: *state, index, stride: layout.stride, scope };
                    aggregate::merge(&context, self, into, source, from);
                }
            }
        }
        if !source.sides.spills.is_empty() {
            self.merge_spills(layout, into, source, from);
        }
    }

    /// Adds what has spilled of the sums of the rows `from`.
    pub(crate) fn merge_spills(&mut self, layout: &RowLayout, into: &[u32], source: RowsRef<'_>, from: &[u32]) {
        for (&target, &origin) in into.iter().zip(from) {
            for state in 0..layout.states.len() {
                if let Some(spill) = source.sides.spilled(origin, state) {
                    self.sides.spill(target, state).merge(spill);
                }
            }
        }
    }
}
