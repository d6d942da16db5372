//! A pane as it was when a snapshot began, while its rows go on changing. When snapshots are taken is not decided here.

use super::page_pool::{PAGE_ROWS, PagePool};
use corefold_aggregator::layout::RowLayout;
use corefold_aggregator::partial::Partial;
use corefold_aggregator::rows::Sides;
use std::ops::Range;

/// What a snapshot sees of a pane.
#[derive(Debug)]
pub struct Frozen {
    /// Pages as they were, of those that have changed since and were not written yet.
    pages: Vec<Option<Box<[u64]>>>,
    sides: Sides,
    /// How many rows there were.
    rows: usize,
    /// Whether they lay by slot: they may lie elsewhere since.
    was_by_slot: bool,
    /// Rows below have been written.
    written: usize,
}

impl Frozen {
    /// A pane of so many rows. Nothing is copied but what lies beside them.
    pub fn new(rows: usize, is_by_slot: bool, sides: Sides) -> Frozen {
        let pages = (0..rows.div_ceil(PAGE_ROWS)).map(|_| None).collect();
        Frozen { pages, sides, rows, was_by_slot: is_by_slot, written: 0 }
    }

    /// Keeps the page of `row` as it is in `words`, if that is not done yet: it is about to change.
    pub fn keep(&mut self, row: usize, words: &[u64], pool: &mut PagePool) {
        let page = row / PAGE_ROWS;
        let size = PAGE_ROWS * pool.stride;
        if let Some(kept @ None) = self.pages.get_mut(page)
            && self.written < (page + 1) * PAGE_ROWS
        {
            *kept = Some(pool.copy_of(&words[page * size..][..size]));
        }
    }

    /// Copies `wanted` rows into `partial`, those that there were; `slots` and `words` are those of the pane now. Nothing
    /// below is asked for again. Returns where to go on, if anywhere.
    pub fn write(
        &mut self,
        (slots, words): (&[u32], &[u64]),
        wanted: Range<usize>,
        layout: &RowLayout,
        partial: &mut Partial,
    ) -> Option<usize> {
        assert!(wanted.start >= self.written, "what was written is not kept");
        let end = self.rows.min(wanted.end);
        let has_sides = !self.sides.is_empty();
        let mut row = wanted.start;
        while row < end {
            let (page, rows) = (row / PAGE_ROWS, row..end.min((row / PAGE_ROWS + 1) * PAGE_ROWS));
            let live = || &words[page * PAGE_ROWS * layout.stride..];
            let words = self.pages[page].as_deref().unwrap_or_else(live);
            let words = words[row % PAGE_ROWS * layout.stride..].chunks_exact(layout.stride);
            for (row, words) in rows.clone().zip(words).filter(|(_, words)| words[0] != 0) {
                let slot = if self.was_by_slot { row as u32 } else { slots[row] };
                if has_sides {
                    partial.push_row(layout, slot, words, &self.sides, slot);
                } else {
                    partial.slots.push(slot);
                    partial.words.extend_from_slice(words);
                }
            }
            row = rows.end;
        }
        self.written = end;
        (end < self.rows).then_some(end)
    }

    /// Gives the memory back.
    pub fn recycle(self, pool: &mut PagePool) {
        pool.pages.extend(self.pages.into_iter().flatten());
    }
}
