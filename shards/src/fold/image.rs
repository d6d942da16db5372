//! A view's groups and open panes as a snapshot keeps them, and back.
//!
//! The image is of one moment and is written in pieces while folding goes on: [`ViewFold::freeze`] marks the moment. In
//! which order pieces go to a disk is in [`crate::snapshot`].

use super::view_fold::ViewFold;
use corefold_aggregator::partial::{OTHER_SLOT, Partial, PartialError};
use corefold_aggregator::spec::{FieldType, Overflow};
use corefold_aggregator::time::{EventTime, PaneId};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Bytes of rows and keys that a piece should have.
const PIECE_BYTES: usize = 256 << 10;

/// Where slots of an image lie here, by slot there. In pages, so that a high slot asks for no more memory than a low
/// one.
#[derive(Debug, Default)]
pub struct SlotMap {
    pages: HashMap<u32, Box<[u32; PAGE_SLOTS]>, BuildHasherDefault<PageHasher>>,
}

const PAGE_SLOTS: usize = 256;

const UNMAPPED: u32 = u32::MAX;

impl SlotMap {
    fn set(&mut self, theirs: u32, ours: u32) {
        let page = self.pages.entry(theirs / PAGE_SLOTS as u32).or_insert_with(|| Box::new([UNMAPPED; PAGE_SLOTS]));
        page[theirs as usize % PAGE_SLOTS] = ours;
    }

    fn get(&self, theirs: u32) -> u32 {
        let page = self.pages.get(&(theirs / PAGE_SLOTS as u32));
        page.map_or(UNMAPPED, |page| page[theirs as usize % PAGE_SLOTS])
    }
}

/// Spreads page numbers, which are few and close together.
#[derive(Default, Debug)]
struct PageHasher(u64);

impl Hasher for PageHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(byte.into()));
    }

    fn write_u32(&mut self, page: u32) {
        self.0 = (self.0 ^ u64::from(page)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(32)
    }
}

impl ViewFold {
    /// Keeps groups and panes as they are, for the pieces of a snapshot.
    pub fn freeze(&mut self) {
        self.keeps_groups = true;
        self.ring.all_mut().for_each(|pane| pane.freeze());
    }

    /// Ends what `freeze` began.
    pub fn thaw(&mut self) {
        self.keeps_groups = false;
        let pool = &mut self.pool;
        self.ring.all_mut().for_each(|pane| pane.thaw(pool));
    }

    /// Announces all groups to `partial`, from slot `from` on; returns where to go on, if anywhere. A frozen pane may hold a
    /// group that no pane holds any more.
    pub fn write_groups(&self, from: u32, partial: &mut Partial) -> Option<u32> {
        let mut next = self.table.next_used(from.max(OTHER_SLOT + 1));
        while let Some(slot) = next {
            if partial.keys.len() + 4 * partial.announced.len() >= PIECE_BYTES {
                return Some(slot);
            }
            partial.announce(slot, self.table.key(slot));
            next = self.table.next_used(slot + 1);
        }
        None
    }

    /// Writes rows of the oldest frozen pane from (`pane`, `row`) on to `partial`; returns where to go on. `None` when
    /// there is no such pane. Panes that were released meanwhile are missing: the pane log has them, and the header says so.
    pub fn write_image(&mut self, (pane, row): (PaneId, usize), partial: &mut Partial) -> Option<(PaneId, usize)> {
        let layout = &self.view.plan.layout;
        let found = self.ring.next_in(pane, PaneId(i64::MAX))?;
        let rows_max = (PIECE_BYTES / (layout.stride * 8)).max(64);
        partial.pane = found.id.0;
        let start = if found.id == pane { row } else { 0 };
        let next = found.write_frozen(start, rows_max, layout, partial);
        Some(next.map_or((PaneId(found.id.0 + 1), 0), |row| (found.id, row)))
    }

    /// Panes that close at or before `time` are in the pane log: their events are not folded again.
    pub fn start_at(&mut self, time: EventTime) {
        self.ring.start_at(self.view.plan.spec.window.open_from(time));
    }

    /// Takes groups from an image.
    pub fn adopt_groups(&mut self, groups: &Partial, map: &mut SlotMap) {
        let is_int = matches!(self.view.plan.by[..], [FieldType::I64]);
        for (slot, key) in groups.announcements() {
            map.set(slot, self.table.intern(key, is_int));
        }
    }

    /// Takes rows from an image, unless their pane is released. Groups come first.
    pub fn adopt_rows(&mut self, rows: &Partial, map: &SlotMap) -> Result<(), PartialError> {
        let Some(index) = self.ring.index_of(PaneId(rows.pane), &mut self.pool) else { return Ok(()) };
        let spec = &self.view.plan.spec;
        let (layout, folds) = (&self.view.plan.layout, spec.overflow == Overflow::Fold);
        let pane = self.ring.pane(index);
        for (row, &theirs) in rows.slots.iter().enumerate() {
            let mut slot = match theirs {
                OTHER_SLOT => OTHER_SLOT,
                _ => map.get(theirs),
            };
            if slot == UNMAPPED {
                return Err(PartialError::Shape("a group for every row"));
            }
            // Two shards' panes may hold more groups together than one may.
            let is_full = slot != OTHER_SLOT && pane.is_full(spec.groups_max) && !pane.holds(slot);
            if is_full && folds && !pane.make_room(self.table.hash(slot), layout, &self.table, &mut self.pool) {
                slot = OTHER_SLOT;
            }
            let words = &rows.words[row * layout.stride..][..layout.stride];
            pane.adopt_row(slot, (words, &rows.sides, row as u32), layout, &self.table, &mut self.pool);
        }
        Ok(())
    }

    /// To be called when all images are taken: groups without rows are let go in time.
    pub fn end_adoption(&mut self, frontier: EventTime) {
        self.table.settle(frontier);
    }
}
