//! One shard's part of one view: which row each event belongs to, and the order of the fold.
//!
//! Per block of events: filter, lateness, pane, group, row; then column by column into the rows. The loops that
//! add values are in [`super::kernels`] and [`super::sketches`].

use super::block::{BLOCK_EVENTS, Block};
use super::field_states::FieldStates;
use super::filter::{Filter, FilterScratch};
use super::group_table::{GroupTable, NO_SLOT};
use super::kernels::{count_rows, count_text, fold_bool, fold_f64, fold_i64};
use super::leaving::Leaving;
use super::local_keys::{LocalKeys, encode_key};
use super::page_pool::PagePool;
use super::pane::{Pane, PaneCursor};
use super::pane_ring::PaneRing;
use super::sketches::{CellReader, LanePosition, fold_others, text_index};
use super::slot_source::{IntSlots, LocalSlots, SlotSource};
use super::watermark::Watermark;
use crate::batch::wire::{BatchView, Column};
use corefold_aggregator::partial::{OTHER_SLOT, Partial};
use corefold_aggregator::spec::{FieldType, Overflow};
use corefold_aggregator::time::{Duration, EventTime, PaneId};
use corefold_aggregator::view::ViewPlan;

/// How often groups are looked through within their time to live.
const EXPIRY_STEPS: i64 = 8;

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
    leaving: Leaving,
    /// Groups unseen since before this time have been let go.
    expired: EventTime,
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
            leaving: Leaving::default(),
            table: GroupTable::new(),
            expired: EventTime::MIN,
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

    /// Words that the rows of each pane lie in that closes at or before `frontier` and is not released, oldest first.
    pub fn closed_sizes(&self, frontier: EventTime) -> impl Iterator<Item = usize> {
        self.ring.closed(frontier).map(Pane::size)
    }

    /// Writes about `rows_max` rows of the oldest pane at or above `from` that closes at or before `frontier` into
    /// `partial` and returns where to go on; `None` when there is no such pane.
    pub fn write_partial(
        &mut self,
        index: u32,
        from: PaneCursor,
        frontier: EventTime,
        rows_max: usize,
        partial: &mut Partial,
    ) -> Option<PaneCursor> {
        let limit = self.view.plan.spec.window.open_from(frontier);
        let pane = self.ring.next_in(from.pane, limit)?;
        let row = if pane.id == from.pane { from.row } else { 0 };
        let wanted = row..row.saturating_add(rows_max);
        let next = pane.write_partial(index, wanted, &mut self.table, &self.view.plan.layout, partial);
        // The sketches are lent to the partial for archiving, see `return_sides`.
        partial.sides.items = std::mem::take(&mut pane.sides.items);
        Some(match next {
            Some(row) => PaneCursor { pane: pane.id, row },
            None => PaneCursor::at(PaneId(pane.id.0 + 1)),
        })
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
        // At most the panes of one release are on their way.
        self.leaving.finish(&mut self.table, &mut self.pool);
        while let Some(pane) = self.ring.release_one(limit) {
            self.leaving.push(pane, frontier);
        }
        if !self.keeps_groups {
            self.expire(frontier);
        }
    }

    /// Takes leave of about `rows_max` rows of released panes, or makes memory of as many ready for new ones. False: all done.
    pub fn tidy(&mut self, rows_max: usize) -> bool {
        self.leaving.turn(rows_max, &mut self.table, &mut self.pool) || self.pool.tidy(rows_max)
    }

    /// Lets groups go that were in no pane for their time to live. All groups are looked at, so not at every release.
    fn expire(&mut self, frontier: EventTime) {
        let limit = frontier.minus(self.view.group_ttl);
        let pause = Duration::from_micros(self.view.group_ttl.micros() / EXPIRY_STEPS).unwrap_or_default();
        if limit.minus(pause) <= self.expired {
            return;
        }
        self.expired = limit;
        self.leaving.finish(&mut self.table, &mut self.pool);
        self.table.expire(limit, self.ring.all().flat_map(Pane::held));
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
        let (first, last) = (window.pane_of(batch.time_min()), window.pane_of(batch.time_max()));
        let may_be_late = window.pane_end(first) <= watermark.at_end(batch);
        let selection = std::mem::take(&mut scratch.selection);
        let wants_all = selection.is_empty() && !may_be_late && first == last;
        let only_pane = if wants_all { self.ring.index_of(first, &mut self.pool) } else { None };
        // The pane of the event before, by its borders.
        let mut near = NearPane { index: 0, start: i64::MAX, end: i64::MIN };
        for start in (0..batch.rows()).step_by(BLOCK_EVENTS) {
            let events = start..batch.rows().min(start + BLOCK_EVENTS);
            if let Some(pane) = only_pane {
                scratch.block.fill(events, pane);
                counts.aggregated += scratch.block.len() as u64;
                self.settle(batch, scratch, source)?;
                continue;
            }
            scratch.times.resize(events.len(), 0);
            batch.times().read(events.clone(), &mut scratch.times);
            scratch.block.clear();
            for event in events {
                let time = scratch.times[event - start];
                let watermark = if may_be_late { watermark.before(event, time) } else { EventTime::MIN };
                if !selection.is_empty() && selection[event] == 0 {
                    counts.filtered += 1;
                    continue;
                }
                if time < near.start || time >= near.end {
                    let id = window.pane_of(EventTime(time));
                    if may_be_late && window.pane_end(id) <= watermark {
                        counts.late += 1;
                        late.push(event as u32);
                        continue;
                    }
                    let Some(index) = self.ring.index_of(id, &mut self.pool) else {
                        self.pass_released(time)?;
                        counts.aggregated += 1;
                        continue;
                    };
                    let pane = self.ring.pane(index);
                    near = NearPane { index, start: pane.start.0, end: pane.end.0 };
                } else if may_be_late && EventTime(near.end) <= watermark {
                    counts.late += 1;
                    late.push(event as u32);
                    continue;
                }
                scratch.block.push(event, near.index);
            }
            counts.aggregated += scratch.block.len() as u64;
            self.settle(batch, scratch, source)?;
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

    /// Brings the events of the block to their slots and rows and adds their values.
    fn settle(
        &mut self,
        batch: &BatchView<'_>,
        scratch: &mut Scratch,
        source: &mut impl SlotSource,
    ) -> Result<(), FoldError> {
        loop {
            let (events, slots) = scratch.block.unknown();
            let known = source.find(&self.table, events, slots);
            let Some(index) = scratch.block.note_known(known) else { break };
            let slot = self.new_group(batch, scratch, source, index)?;
            scratch.block.know(slot);
        }
        self.fold_known(batch, scratch)
    }

    /// Brings the events of the block that have slots to their rows and adds their values.
    fn fold_known(&mut self, batch: &BatchView<'_>, scratch: &mut Scratch) -> Result<(), FoldError> {
        let groups_max = self.view.plan.spec.groups_max;
        while let Some((pane, slots, _)) = scratch.block.unplaced() {
            // Each of them may be new, and so may be "other".
            let groups = slots.len() + 1;
            if !self.ring.pane(pane).has_space(groups, &self.table) {
                // Rows may move: what is to be added to them goes first.
                self.fold_columns(batch, scratch);
                self.ring.pane(pane).reserve(groups, groups_max, &self.table, &mut self.pool);
            }
            let Some((_, slots, rows)) = scratch.block.unplaced() else { break };
            let placed = self.ring.pane(pane).find_rows(slots, rows, groups_max, &mut self.pool);
            let is_full = placed < slots.len();
            // SAFETY: the rows lie in the memory of a pane of this view, and are whole. They move or go only when rows are
            // reserved, above, with nothing pending, or when the pane is recycled, which happens between batches.
            unsafe { scratch.block.note_placed(placed) };
            if is_full && let Some(slot) = scratch.block.next_unplaced() {
                let (slot, row) = self.new_row(batch, scratch, slot, pane)?;
                // SAFETY: as above; there is space for one group more than there were events.
                unsafe { scratch.block.place(slot, row) };
            }
        }
        self.fold_columns(batch, scratch);
        Ok(())
    }

    /// A slot for the group of event `index` of the block, which has none; "other" if the pane is full and does not want
    /// the group.
    #[cold]
    fn new_group(
        &mut self,
        batch: &BatchView<'_>,
        scratch: &mut Scratch,
        source: &mut impl SlotSource,
        index: usize,
    ) -> Result<u32, FoldError> {
        let (event, pane) = (scratch.block.event(index) as usize, scratch.block.pane(index));
        scratch.key.clear();
        encode_key(batch, &self.view.plan.spec.by, event, &mut scratch.key);
        let int = source.int(event);
        // That an integer is unknown is known.
        if int.is_none()
            && let Some(slot) = self.table.find(&scratch.key)
        {
            source.learn(event, slot);
            return Ok(slot);
        }
        if self.ring.pane(pane).is_full(self.view.plan.spec.groups_max) {
            // The events before this one decide which groups the pane keeps.
            let hash = corefold_aggregator::key::hash(&scratch.key);
            self.fold_known(batch, scratch)?;
            if !self.make_room(batch, scratch, hash, pane)? {
                // Not learned: a later pane may have room for the group.
                return Ok(OTHER_SLOT);
            }
        }
        let slot = self.table.insert(&scratch.key, int);
        source.learn(event, slot);
        Ok(slot)
    }

    /// In a full pane: gives `slot` its first event, or "other" if the pane does not want the group.
    #[cold]
    fn new_row(
        &mut self,
        batch: &BatchView<'_>,
        scratch: &mut Scratch,
        slot: u32,
        pane: u32,
    ) -> Result<(u32, *mut u64), FoldError> {
        let full = self.ring.pane(pane).is_full(self.view.plan.spec.groups_max);
        let is_wanted = !full || self.make_room(batch, scratch, self.table.hash(slot), pane)?;
        let slot = if is_wanted { slot } else { OTHER_SLOT };
        Ok((slot, self.ring.pane(pane).admit_ranked(slot, &self.table, &mut self.pool)))
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
        Ok(self.ring.pane(pane).make_room(hash, layout, &self.table, &mut self.pool))
    }

    /// Adds the values of the events in the block to their rows and empties the block.
    fn fold_columns(&mut self, batch: &BatchView<'_>, scratch: &mut Scratch) {
        let Scratch { block, readers, .. } = scratch;
        if block.pending().is_empty() {
            return;
        }
        if !self.fields.iter().any(|states| states.counts_rows) {
            count_rows(block);
        }
        for (states, reader) in self.fields.iter().zip(readers.iter()) {
            let column = batch.column(states.field);
            match &column {
                Column::F64(values) => fold_f64(block, states, values, &mut self.ring),
                Column::I64 { values, validity } => fold_i64(block, states, reader.whole(values), *validity),
                Column::Bool(values) => fold_bool(block, states, values),
                Column::Str { dictionary, indices } => {
                    count_text(block, states.values, dictionary.len() as u32, |event| text_index(indices, event));
                }
            }
            if !states.others.is_empty() {
                let (position, times) = (LanePosition::of(batch), batch.times());
                let time_of = |event: u32| times.get(event as usize);
                fold_others(block, states, &column, reader, &position, time_of, &mut self.ring);
            }
        }
        block.note_folded();
    }
}

/// The pane of the event before, by its borders.
struct NearPane {
    index: u32,
    start: i64,
    end: i64,
}
