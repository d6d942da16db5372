//! One shard's part of one view: which row each event belongs to, and the order of the fold.
//!
//! Per block of events: filter, lateness, pane, group, row; then column by column into the rows. The loops that
//! add values are in [`super::kernels`] and [`super::sketches`].

use super::filter::{Filter, FilterScratch};
use super::group_table::{GroupTable, NO_SLOT};
use super::kernels::{BLOCK_EVENTS, Block, FieldStates, count_text, fold_bool, fold_f64, fold_i64};
use super::local_keys::{LocalKeys, encode_key};
use super::pane::{PagePool, Pane};
use super::pane_ring::PaneRing;
use super::sketches::{CellReader, LanePosition, fold_others, text_index};
use super::slot_source::{IntSlots, LocalSlots, SlotSource};
use super::watermark::Watermark;
use crate::batch::wire::{BatchView, Column, Times};
use corefold_aggregator::partial::{OTHER_SLOT, Partial};
use corefold_aggregator::spec::{FieldType, Overflow};
use corefold_aggregator::time::{Duration, EventTime, PaneId};
use corefold_aggregator::view::ViewPlan;

/// A view as a shard computes it.
#[derive(Clone, Debug)]
pub struct ShardView {
    /// What is computed.
    pub plan: ViewPlan,
    /// Which events take part; all without one.
    pub filter: Option<Filter>,
    /// Disorder that the stream allows.
    pub delay_max: Duration,
    /// How long a group's slot is kept after its last pane.
    pub group_ttl: Duration,
}

/// What became of the events of a batch in one view.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct FoldCounts {
    /// Folded into a pane.
    pub aggregated: u64,
    /// Too late for their pane.
    pub late: u64,
    /// Not asked for by the view's filter.
    pub filtered: u64,
}

impl std::ops::AddAssign for FoldCounts {
    fn add_assign(&mut self, other: FoldCounts) {
        self.aggregated += other.aggregated;
        self.late += other.late;
        self.filtered += other.filtered;
    }
}

/// Why a batch cannot be folded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FoldError {
    /// More groups in a pane than `max_groups`, with `overflow = "reject"`.
    #[error(
        "view `{view}`: the pane starting at {pane} would have more than max_groups = {max} groups, and overflow is \
         \"reject\"; raise max_groups or set overflow to \"fold\""
    )]
    TooManyGroups {
        /// View name.
        view: String,
        /// Pane start.
        pane: EventTime,
        /// The limit.
        max: u32,
    },
    /// An event that is not late belongs to a released pane: a broken invariant.
    #[error("view `{view}`: an event at {time} belongs to a pane that was released before; this is a bug")]
    BelowRelease {
        /// View name.
        view: String,
        /// Time of the event.
        time: EventTime,
    },
}

/// State of one view in one shard.
#[derive(Debug)]
pub struct ViewFold {
    pub(super) view: ShardView,
    fields: Vec<FieldStates>,
    pub(super) table: GroupTable,
    pub(super) pool: PagePool,
    pub(super) ring: PaneRing,
    /// Whether events of released panes are expected: while batches are folded again, whose panes the pane log has.
    pub(crate) passes_released: bool,
    /// Whether slots must stay what they are: while frozen panes refer to them.
    pub(super) keeps_groups: bool,
    scratch: Scratch,
}

/// Memory used again from batch to batch.
#[derive(Debug, Default)]
struct Scratch {
    block: Block,
    times: Vec<i64>,
    keys: LocalKeys,
    /// By local key: slot, or `NO_SLOT` until an event asks.
    slots: Vec<u32>,
    key: Vec<u8>,
    selection: Vec<u8>,
    filter: FilterScratch,
    readers: Vec<CellReader>,
}

impl ViewFold {
    /// A view with no panes.
    pub fn new(view: ShardView) -> ViewFold {
        let fields = FieldStates::of(&view.plan.layout);
        let readers = fields.iter().map(|_| CellReader::default()).collect();
        ViewFold {
            pool: PagePool::new(&view.plan.layout),
            ring: PaneRing::new(view.plan.spec.window),
            table: GroupTable::new(),
            passes_released: false,
            keeps_groups: false,
            scratch: Scratch { readers, ..Scratch::default() },
            fields,
            view,
        }
    }

    /// The view.
    pub fn view(&self) -> &ShardView {
        &self.view
    }

    /// Folds a batch. Rows that came too late are pushed to `late`.
    pub fn fold(&mut self, batch: &BatchView<'_>, late: &mut Vec<u32>) -> Result<FoldCounts, FoldError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let counts = self.fold_with(batch, &mut scratch, late);
        self.scratch = scratch;
        counts
    }

    /// Panes that close at or before `frontier` and are not released.
    pub fn panes_closed(&self, frontier: EventTime) -> usize {
        self.ring.closed(frontier)
    }

    /// Writes the oldest pane at or above `from` that closes at or before `frontier` into `partial` and returns
    /// the next pane to ask for; `None` when there is no such pane.
    pub fn write_partial(
        &mut self,
        index: u32,
        from: PaneId,
        frontier: EventTime,
        partial: &mut Partial,
    ) -> Option<PaneId> {
        let limit = self.view.plan.spec.window.open_from(frontier);
        let pane = self.ring.next_in(from, limit)?;
        pane.write_partial(index, &mut self.table, &self.view.plan.layout, partial);
        // The sketches are lent to the partial for archiving, see `return_sides`.
        partial.sides.items = std::mem::take(&mut pane.sides.items);
        Some(PaneId(pane.id.0 + 1))
    }

    /// Takes back what `write_partial` lent.
    pub fn return_sides(&mut self, partial: &mut Partial) {
        let id = PaneId(partial.pane);
        if let Some(pane) = self.ring.next_in(id, PaneId(id.0 + 1)) {
            pane.sides.items = std::mem::take(&mut partial.sides.items);
        }
    }

    /// Forgets panes that close at or before `frontier`: the coordinator has them.
    pub fn release(&mut self, frontier: EventTime) {
        let limit = self.view.plan.spec.window.open_from(frontier);
        while let Some(pane) = self.ring.release_one(limit) {
            pane.recycle(&mut self.table, &mut self.pool, frontier);
        }
        if !self.keeps_groups {
            self.table.expire(frontier.minus(self.view.group_ttl));
        }
    }

    fn fold_with(
        &mut self,
        batch: &BatchView<'_>,
        scratch: &mut Scratch,
        late: &mut Vec<u32>,
    ) -> Result<FoldCounts, FoldError> {
        if batch.rows() == 0 {
            return Ok(FoldCounts::default());
        }
        let Scratch { keys, slots, selection, filter, readers, .. } = scratch;
        selection.clear();
        if let Some(wanted) = &self.view.filter {
            wanted.evaluate(batch, filter, selection);
        }
        for (states, reader) in self.fields.iter().zip(readers) {
            reader.start(&batch.column(states.field), states);
        }
        let by = &self.view.plan.spec.by;
        let [FieldType::I64] = self.view.plan.by[..] else {
            if by.is_empty() {
                keys.ids.clear();
                keys.count = 1;
            } else {
                keys.compute(batch, by);
            }
            slots.clear();
            slots.resize(keys.count, NO_SLOT);
            let (ids, slots) = (std::mem::take(&mut keys.ids), std::mem::take(slots));
            let mut source = LocalSlots { ids, slots };
            let counts = self.fold_rows(batch, scratch, &mut source, late);
            (scratch.keys.ids, scratch.slots) = (source.ids, source.slots);
            return counts;
        };
        match batch.column(by[0]) {
            Column::I64 { values, validity } => {
                self.fold_rows(batch, scratch, &mut IntSlots { values, validity, null: NO_SLOT }, late)
            }
            _ => unreachable!("a verified batch has the columns of its stream"),
        }
    }

    fn fold_rows(
        &mut self,
        batch: &BatchView<'_>,
        scratch: &mut Scratch,
        source: &mut impl SlotSource,
        late: &mut Vec<u32>,
    ) -> Result<FoldCounts, FoldError> {
        let window = self.view.plan.spec.window;
        let mut counts = FoldCounts::default();
        let mut watermark = Watermark::of(batch, self.view.delay_max);
        let may_be_late = window.pane_end(window.pane_of(batch.time_min())) <= watermark.at_end(batch);
        let selection = std::mem::take(&mut scratch.selection);
        // The pane of the event before, by its borders.
        let (mut pane_index, mut pane_start, mut pane_end) = (0, i64::MAX, i64::MIN);
        for start in (0..batch.rows()).step_by(BLOCK_EVENTS) {
            let end = batch.rows().min(start + BLOCK_EVENTS);
            read_times(&batch.times(), start, end, &mut scratch.times);
            for event in start..end {
                let time = scratch.times[event - start];
                let watermark = if may_be_late { watermark.before(event, time) } else { EventTime::MIN };
                if !selection.is_empty() && selection[event] == 0 {
                    counts.filtered += 1;
                    continue;
                }
                if time < pane_start || time >= pane_end {
                    let id = window.pane_of(EventTime(time));
                    if may_be_late && window.pane_end(id) <= watermark {
                        counts.late += 1;
                        late.push(event as u32);
                        continue;
                    }
                    let Some(index) = self.ring.index_of(id, &self.pool) else {
                        self.pass_released(time)?;
                        counts.aggregated += 1;
                        continue;
                    };
                    pane_index = index;
                    let pane = self.ring.pane(pane_index);
                    (pane_start, pane_end) = (pane.start.0, pane.end.0);
                } else if may_be_late && EventTime(pane_end) <= watermark {
                    counts.late += 1;
                    late.push(event as u32);
                    continue;
                }
                let mut slot = source.slot(&self.table, event);
                if slot == NO_SLOT {
                    slot = self.new_group(batch, scratch, source, event, pane_index)?;
                }
                // Rows are touched in a second loop: by then what is fetched here has arrived.
                let row = self.ring.pane(pane_index).row(slot, &mut self.pool);
                prefetch(row);
                // SAFETY: `row` lies in a page of a pane of this view. Pages move or go only when a pane is recycled,
                // which `release` does, between batches.
                unsafe { scratch.block.push(event as u32, row, pane_index, slot) };
            }
            counts.aggregated += scratch.block.events.len() as u64;
            self.settle(batch, scratch)?;
            scratch.block.clear();
        }
        scratch.selection = selection;
        Ok(counts)
    }

    /// An event of a pane that is released: the pane log has it already, or something is wrong.
    #[cold]
    fn pass_released(&self, time: i64) -> Result<(), FoldError> {
        if self.passes_released {
            return Ok(());
        }
        Err(FoldError::BelowRelease { view: self.view.plan.spec.name.clone(), time: EventTime(time) })
    }

    /// Counts the events of the block in their rows and adds their values.
    fn settle(&mut self, batch: &BatchView<'_>, scratch: &mut Scratch) -> Result<(), FoldError> {
        while let Some(counted) = scratch.block.count_next() {
            if !counted {
                let (slot, pane) = scratch.block.next_uncounted();
                let slot = self.new_row(batch, scratch, slot, pane)?;
                let row = self.ring.pane(pane).row(slot, &mut self.pool);
                // SAFETY: as for `push` in `fold_rows`.
                unsafe { scratch.block.count_in(slot, row) };
            }
        }
        self.fold_columns(batch, scratch);
        Ok(())
    }

    /// A slot for a group that has none; "other" if the pane is full and does not want the group.
    #[cold]
    fn new_group(
        &mut self,
        batch: &BatchView<'_>,
        scratch: &mut Scratch,
        source: &mut impl SlotSource,
        event: usize,
        pane: u32,
    ) -> Result<u32, FoldError> {
        scratch.key.clear();
        encode_key(batch, &self.view.plan.spec.by, event, &mut scratch.key);
        if let Some(slot) = self.table.find(&scratch.key) {
            source.learn(event, slot);
            return Ok(slot);
        }
        if self.ring.pane(pane).groups() >= self.view.plan.spec.groups_max {
            // The events before this one decide which groups the pane keeps.
            let hash = corefold_aggregator::key::hash(&scratch.key);
            self.settle(batch, scratch)?;
            if !self.make_room(batch, scratch, hash, pane)? {
                // Not learned: a later pane may have room for the group.
                return Ok(OTHER_SLOT);
            }
        }
        let slot = self.table.insert(&scratch.key, source.int(event));
        source.learn(event, slot);
        Ok(slot)
    }

    /// Gives `slot` its first event in the pane, or "other" if the pane is full and does not want the group.
    #[cold]
    fn new_row(
        &mut self,
        batch: &BatchView<'_>,
        scratch: &mut Scratch,
        slot: u32,
        pane: u32,
    ) -> Result<u32, FoldError> {
        let full = self.ring.pane(pane).groups() >= self.view.plan.spec.groups_max;
        if slot != OTHER_SLOT && full && !self.make_room(batch, scratch, self.table.hash(slot), pane)? {
            let row = self.ring.pane(pane).row(OTHER_SLOT, &mut self.pool);
            // SAFETY: `row` points to the words of one row.
            if unsafe { *row } != 0 {
                return Ok(OTHER_SLOT);
            }
            self.ring.pane(pane).admit(OTHER_SLOT, &mut self.table);
            return Ok(OTHER_SLOT);
        }
        self.ring.pane(pane).admit(slot, &mut self.table);
        Ok(slot)
    }

    /// Whether a full pane takes a new group with `hash`, after making room for it.
    fn make_room(
        &mut self,
        batch: &BatchView<'_>,
        scratch: &mut Scratch,
        hash: u64,
        pane: u32,
    ) -> Result<bool, FoldError> {
        let spec = &self.view.plan.spec;
        if spec.overflow == Overflow::Reject {
            let pane = self.ring.pane(pane).start;
            return Err(FoldError::TooManyGroups { view: spec.name.clone(), pane, max: spec.groups_max });
        }
        // Counted events may belong to the group that has to go: their values first.
        self.fold_columns(batch, scratch);
        let layout = &self.view.plan.layout;
        Ok(self.ring.pane(pane).make_room(hash, layout, &mut self.table, &mut self.pool))
    }

    /// Adds the values of the events in the block to their rows and empties the block.
    fn fold_columns(&mut self, batch: &BatchView<'_>, scratch: &mut Scratch) {
        let Scratch { block, readers, .. } = scratch;
        if block.is_folded() {
            return;
        }
        let stamp = batch.stamp();
        let position = LanePosition {
            producer: stamp.producer,
            lane: stamp.lane,
            first_row: stamp.first_row,
            row_numbers: batch.row_numbers(),
        };
        let times = batch.times();
        for (states, reader) in self.fields.iter().zip(readers.iter()) {
            let column = batch.column(states.field);
            match &column {
                Column::F64(values) => fold_f64(block, states, values, &mut self.ring),
                Column::I64 { values, validity } => fold_i64(block, states, values, *validity),
                Column::Bool(values) => fold_bool(block, states, values),
                Column::Str { dictionary, indices } => {
                    count_text(block, states.values, dictionary.len() as u32, |event| text_index(indices, event));
                }
            }
            if !states.others.is_empty() {
                let time_of = |event: u32| time_at(&times, event as usize);
                fold_others(block, states, &column, reader, &position, time_of, &mut self.ring);
            }
        }
        block.note_folded();
    }

    /// The panes held, for assertions and counters.
    pub fn panes(&self) -> usize {
        self.ring.len()
    }

    /// Slots in use and free, for counters.
    pub fn slots(&self) -> usize {
        self.table.slots_end()
    }

    /// Looks at one pane; for tests.
    pub fn pane_groups(&mut self, id: PaneId) -> Option<u32> {
        self.ring.next_in(id, PaneId(id.0 + 1)).map(|pane: &mut Pane| pane.groups())
    }
}

/// Asks for the cache line of a row, and for the next one, which long rows reach into.
#[inline(always)]
fn prefetch(row: *const u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that shows, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(row.cast());
        _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(5).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

fn read_times(times: &Times<'_>, start: usize, end: usize, into: &mut Vec<i64>) {
    into.clear();
    match times {
        Times::Offsets { base, offsets } => {
            into.extend(offsets[start..end].iter().map(|&offset| base + i64::from(offset)));
        }
        Times::Absolute(values) => into.extend_from_slice(&values[start..end]),
    }
}

/// Event time of one row.
pub fn time_at(times: &Times<'_>, event: usize) -> i64 {
    match times {
        Times::Offsets { base, offsets } => base + i64::from(offsets[event]),
        Times::Absolute(values) => values[event],
    }
}
