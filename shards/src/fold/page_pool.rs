//! Memory of rows that goes from pane to pane. What lies in it is theirs.

use super::row_index::ChunkPool;
use corefold_aggregator::layout::RowLayout;

/// Rows per page: so many are made at a time, and copied at a time for a snapshot.
pub const PAGE_ROWS: usize = 128;

/// Memory of one view that no pane uses, and how rows begin.
#[derive(Debug)]
pub struct PagePool {
    /// A page of rows without events.
    pub template: Box<[u64]>,
    /// Words of a row.
    pub stride: usize,
    /// What rows lay in.
    pub free: Vec<Vec<u64>>,
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
        let (free, lists, pages) = (Vec::new(), Vec::new(), Vec::new());
        PagePool {
            template,
            stride: layout.stride,
            free,
            lists,
            pages,
            chunks: ChunkPool::default(),
            starts_by_slot: false,
        }
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
