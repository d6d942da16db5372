//! A partial aggregate: one shard's accumulators of one closed pane of one view, archived by rkyv.
//!
//! Rows go by the shard's own slots; a slot's key is announced with the first partial that names it. Where a
//! partial is kept and how often it is asked for is not here.

use crate::layout::RowLayout;
use crate::rows::{Rows, Sides, copy_row};
use rkyv::rancor;
use rkyv::util::AlignedVec;

/// Slot of the group that takes what does not fit under `max_groups`, in every shard and at the coordinator.
pub const OTHER_SLOT: u32 = 0;

/// One shard's accumulators of one pane. Flat vectors; see the fields for their shapes.
#[derive(Clone, Debug, Default, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Partial {
    /// Index of the view.
    pub view: u32,
    /// The pane.
    pub pane: i64,
    /// Slots whose key follows; each once until it is retired.
    pub announced: Vec<u32>,
    /// End of each announced key within `keys`.
    pub key_ends: Vec<u32>,
    /// Encoded keys, one after the other.
    pub keys: Vec<u8>,
    /// Slots that name no group any more; they may be announced again with another key. Retired before announced.
    pub retired: Vec<u32>,
    /// Slot of each row.
    pub slots: Vec<u32>,
    /// The rows, `stride` words each.
    pub words: Vec<u64>,
    /// What does not fit into words; spills by row position in this partial.
    pub sides: Sides,
}

/// Why bytes are no partial aggregate of this engine.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PartialError {
    /// The archive is damaged.
    #[error("a partial aggregate is damaged: {0}")]
    Archive(String),
    /// The lengths within do not belong together.
    #[error("a partial aggregate is inconsistent: {0}")]
    Shape(&'static str),
}

impl Partial {
    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.announced.clear();
        self.key_ends.clear();
        self.keys.clear();
        self.retired.clear();
        self.slots.clear();
        self.words.clear();
        self.sides.clear();
    }

    /// Announces `slot` as the group `key`.
    pub fn announce(&mut self, slot: u32, key: &[u8]) {
        self.announced.push(slot);
        self.keys.extend_from_slice(key);
        self.key_ends.push(self.keys.len() as u32);
    }

    /// Adds a copy of the row of `slot`, which is row `source_row` where it lies.
    pub fn push_row(&mut self, layout: &RowLayout, slot: u32, source: &[u64], source_sides: &Sides, source_row: u32) {
        let (row, at) = (self.slots.len() as u32, self.words.len());
        self.slots.push(slot);
        self.words.extend_from_slice(source);
        if !source_sides.is_empty() {
            copy_row(layout, (&mut self.words[at..], &mut self.sides, row), (source, source_sides, source_row));
        }
    }

    /// Archives into `buffer`, whose memory is used again.
    pub fn archive(&self, mut buffer: AlignedVec) -> Result<AlignedVec, PartialError> {
        buffer.clear();
        rkyv::api::high::to_bytes_in::<_, rancor::Error>(self, buffer).map_err(|e| PartialError::Archive(e.to_string()))
    }

    /// Reads an archive after checking it, into `self`, whose memory is used again. Rows are as wide as
    /// `stride` says of the view.
    pub fn read(&mut self, bytes: &[u8], stride: impl Fn(u32) -> Option<usize>) -> Result<(), PartialError> {
        let damaged = |e: rancor::Error| PartialError::Archive(e.to_string());
        let archived = rkyv::access::<ArchivedPartial, rancor::Error>(bytes).map_err(damaged)?;
        self.clear();
        self.view = archived.view.to_native();
        self.pane = archived.pane.to_native();
        self.announced.extend(archived.announced.iter().map(|v| v.to_native()));
        self.key_ends.extend(archived.key_ends.iter().map(|v| v.to_native()));
        self.keys.extend_from_slice(&archived.keys);
        self.retired.extend(archived.retired.iter().map(|v| v.to_native()));
        self.slots.extend(archived.slots.iter().map(|v| v.to_native()));
        self.words.extend(archived.words.iter().map(|v| v.to_native()));
        if !archived.sides.items.is_empty() || !archived.sides.spills.is_empty() {
            self.sides = rkyv::deserialize::<Sides, rancor::Error>(&archived.sides).map_err(damaged)?;
        }
        self.check(stride(self.view).ok_or(PartialError::Shape("a view that exists"))?)
    }

    /// The announced slots with their keys.
    pub fn announcements(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (0..self.announced.len()).map(|index| self.announcement(index))
    }

    /// Announced slot `index` with its key.
    pub fn announcement(&self, index: usize) -> (u32, &[u8]) {
        let start = if index == 0 { 0 } else { self.key_ends[index - 1] as usize };
        (self.announced[index], &self.keys[start..self.key_ends[index] as usize])
    }

    /// The rows, taken out.
    pub fn take_rows(&mut self) -> Rows {
        Rows { words: std::mem::take(&mut self.words), sides: std::mem::take(&mut self.sides) }
    }

    /// Gives its rows for `rows`, whose memory it keeps for others.
    pub fn swap_rows(&mut self, rows: &mut Rows) {
        std::mem::swap(&mut self.words, &mut rows.words);
        std::mem::swap(&mut self.sides, &mut rows.sides);
        self.words.clear();
        self.sides.clear();
    }

    fn check(&self, stride: usize) -> Result<(), PartialError> {
        if self.announced.len() != self.key_ends.len() {
            return Err(PartialError::Shape("as many keys as announced slots"));
        }
        if self.words.len() != self.slots.len() * stride {
            return Err(PartialError::Shape("one row per slot"));
        }
        if !self.key_ends.is_sorted() || self.key_ends.last().is_some_and(|&end| end as usize != self.keys.len()) {
            return Err(PartialError::Shape("key ends in order, the last at the end of the keys"));
        }
        Ok(())
    }
}
