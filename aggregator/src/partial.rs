//! A partial aggregate: one shard's accumulators of one closed pane of one view, archived by rkyv.
//!
//! Rows go by the shard's own slots; a slot's key is announced with the first partial that names it. On a disk the archive is
//! all there is; within the process the rows lie ahead of it, where they were written. Where a partial is kept and how often it is
//! asked for is not here.

use crate::layout::RowLayout;
use crate::partial_ref::announcements;
use crate::rows::{Sides, copy_row};
use crate::words::Words;
use rkyv::rancor;
use rkyv::util::AlignedVec;

/// Slot of the group that takes what does not fit under `max_groups`, in every shard and at the coordinator.
pub const OTHER_SLOT: u32 = 0;

/// Rows that are told apart at a time: they stay in the nearest cache.
const BLOCK_ROWS: usize = 64;

/// One shard's accumulators of one pane. Flat vectors; see the fields for their shapes.
#[derive(Clone, Debug, Default, PartialEq, rkyv::Archive, rkyv::Serialize)]
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
    pub words: Words,
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

    /// Adds copies of those of the rows that have events, each with its slot: without branches, since which of them have is as
    /// good as random. What they hold lies in the rows alone, or is added by the caller.
    pub fn push_held<const STRIDE: usize>(&mut self, slots: &[u32], rows: &[[u64; STRIDE]]) {
        for (slots, rows) in slots.chunks(BLOCK_ROWS).zip(rows.chunks(BLOCK_ROWS)) {
            let (mut held_slots, mut held_rows, mut held) = ([0; BLOCK_ROWS], [[0; STRIDE]; BLOCK_ROWS], 0);
            for (slot, row) in slots.iter().zip(rows) {
                (held_slots[held], held_rows[held]) = (*slot, *row);
                held += usize::from(row[0] != 0);
            }
            self.slots.extend_from_slice(&held_slots[..held]);
            self.words.extend_from_slice(held_rows[..held].as_flattened());
        }
    }

    /// Archives into `buffer`, whose memory is used again, as it goes to a disk.
    pub fn archive(&self, mut buffer: AlignedVec) -> Result<AlignedVec, PartialError> {
        buffer.clear();
        self.archive_behind(buffer)
    }

    /// As it goes to another core: the rows, which are not copied, and behind them the archive of all else. The next rows are
    /// written to the memory of `spare`.
    pub fn send(&mut self, spare: AlignedVec) -> Result<AlignedVec, PartialError> {
        let rows = self.words.take(spare);
        self.archive_behind(rows)
    }

    fn archive_behind(&self, buffer: AlignedVec) -> Result<AlignedVec, PartialError> {
        rkyv::api::high::to_bytes_in::<_, rancor::Error>(self, buffer).map_err(|e| PartialError::Archive(e.to_string()))
    }

    /// The announced slots with their keys.
    pub fn announcements(&self) -> impl Iterator<Item = (u32, &[u8])> {
        announcements(&self.announced, &self.key_ends, &self.keys)
    }
}
