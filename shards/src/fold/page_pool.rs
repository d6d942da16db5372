//! Memory of rows that goes from pane to pane. What lies in it is theirs.

use super::row_index::ChunkPool;
use corefold_aggregator::layout::RowLayout;
use std::collections::VecDeque;

/// Rows per page: so many are made at a time, and copied at a time for a snapshot.
pub const PAGE_ROWS: usize = 128;

/// Memory of one view that no pane uses, and how rows begin.
#[derive(Debug)]
pub struct PagePool {
    /// A page of rows without events.
    pub template: Box<[u64]>,
    /// Words of a row.
    pub stride: usize,
    /// What rows lay in, as they left it; the first is being made ready, so many of its words are.
    spent: VecDeque<Vec<u64>>,
    cleaned: usize,
    /// Rows without events.
    ready: Vec<Vec<u64>>,
    /// Lists of slots, empty.
    pub lists: Vec<Vec<u32>>,
    /// Copies of pages.
    pub pages: Vec<Box<[u64]>>,
    /// Parts of indices.
    pub chunks: ChunkPool,
    /// Whether the pane that went last was right to lie by slot: the next one begins so.
    pub starts_by_slot: bool,
}

impl PagePool {
    /// Memory for rows of `layout`.
    pub fn new(layout: &RowLayout) -> PagePool {
        let template = layout.template.repeat(PAGE_ROWS).into();
        let (ready, lists, pages) = (Vec::new(), Vec::new(), Vec::new());
        PagePool {
            template,
            stride: layout.stride,
            spent: VecDeque::new(),
            cleaned: 0,
            ready,
            lists,
            pages,
            chunks: ChunkPool::default(),
            starts_by_slot: false,
        }
    }

    /// Memory with some rows without events in it, or none.
    pub fn take_rows(&mut self) -> Vec<u64> {
        self.ready.pop().unwrap_or_else(|| self.take_spent())
    }

    /// Takes memory of rows back.
    pub fn give_back(&mut self, words: Vec<u64>) {
        self.spent.push_back(words);
    }

    /// Empties about `rows_max` of the rows that were given back, so that a new pane does not have to. False if there are
    /// none.
    pub fn tidy(&mut self, rows_max: usize) -> bool {
        let Some(words) = self.spent.front_mut() else { return false };
        let pages = words[self.cleaned..].chunks_exact_mut(self.template.len()).take(rows_max.div_ceil(PAGE_ROWS));
        pages.for_each(|page| {
            page.copy_from_slice(&self.template);
            self.cleaned += page.len();
        });
        if words.len() - self.cleaned < self.template.len() {
            let words = self.take_spent();
            self.ready.push(words);
        }
        true
    }

    /// The first memory that was given back, with the rows that are ready.
    fn take_spent(&mut self) -> Vec<u64> {
        let mut words = self.spent.pop_front().unwrap_or_default();
        words.truncate(std::mem::take(&mut self.cleaned));
        words
    }

    /// Adds rows without events until there are `rows`, and up to a whole page.
    pub fn extend(&self, words: &mut Vec<u64>, rows: usize) {
        let missing = (rows * self.stride).saturating_sub(words.len());
        words.reserve(missing.next_multiple_of(self.template.len()));
        while words.len() < rows * self.stride {
            words.extend_from_slice(&self.template);
        }
    }

    /// A page that holds the same rows as `page`.
    pub fn copy_of(&mut self, page: &[u64]) -> Box<[u64]> {
        match self.pages.pop() {
            Some(mut copy) => {
                copy.copy_from_slice(page);
                copy
            }
            None => page.into(),
        }
    }
}
