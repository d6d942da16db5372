//! One view at the coordinator: shards' partials in, finished windows out.
//!
//! When a pane is closed and who is asked for it is the coordinator's.

use crate::aggregate;
use crate::groups::Groups;
use crate::key;
use crate::layout::RowLayout;
use crate::partial::{OTHER_SLOT, Partial};
use crate::result::{OutputColumn, OutputField, OutputSchema, ResultBatch};
use crate::rows::{MergeScope, Rows};
use crate::slide::{Pane, Slide};
use crate::spec::{Field, FieldType, OutputType, Overflow, SpecError, StreamSpec, ViewSpec};
use crate::time::{EventTime, PaneId};
use std::collections::{BTreeMap, VecDeque};

/// Rows finalized at a time.
const BLOCK_ROWS: usize = 4096;

/// A view with everything derived from it once.
#[derive(Clone, Debug)]
pub struct ViewPlan {
    /// What was asked for.
    pub spec: ViewSpec,
    /// Types of the `by` columns.
    pub by: Vec<FieldType>,
    /// Rows of accumulators.
    pub layout: RowLayout,
    /// Output columns.
    pub schema: OutputSchema,
}

impl ViewPlan {
    /// Checks `spec` against its stream and derives layout and output columns.
    pub fn new(stream: &StreamSpec, spec: ViewSpec) -> Result<ViewPlan, SpecError> {
        let layout = RowLayout::new(stream, &spec)?;
        let by: Vec<FieldType> = spec.by.iter().map(|&field| stream.fields[field].kind).collect();
        let field = |name: &str, kind, nullable| OutputField { name: name.to_owned(), kind, nullable };
        let mut columns =
            vec![field("window_start", OutputType::Time, false), field("window_end", OutputType::Time, false)];
        columns.extend(spec.by.iter().map(|&index| {
            let Field { name, kind } = &stream.fields[index];
            field(name, (*kind).into(), true)
        }));
        columns.extend(spec.aggregates.iter().zip(&layout.outputs).map(|(aggregate, output)| {
            let nullable = !matches!(aggregate.function, crate::spec::Function::Count);
            field(&aggregate.name, aggregate::output_type(output), nullable)
        }));
        for (index, column) in columns.iter().enumerate() {
            if columns[..index].iter().any(|other| other.name == column.name) {
                return Err(SpecError::DuplicateName(column.name.clone()));
            }
        }
        let schema = OutputSchema { columns, by: 2..2 + by.len() };
        Ok(ViewPlan { spec, by, layout, schema })
    }
}

/// Why a view cannot go on.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ViewError {
    /// An integer sum left the range of its output type.
    #[error(
        "view `{view}`: {column} of the window starting at {window} is {sum}, which does not fit a 64-bit integer; \
         sum a smaller unit or declare the column as f64"
    )]
    SumOverflow {
        /// View name.
        view: String,
        /// Output column.
        column: String,
        /// Window start.
        window: EventTime,
        /// The exact sum.
        sum: i128,
    },
    /// More groups in a pane than `max_groups`, with `overflow = "reject"`.
    #[error(
        "view `{view}`: the pane starting at {pane} has more than max_groups = {max} groups, and overflow is \
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
    /// A partial names a slot that its shard never announced: a broken invariant, not bad input.
    #[error("view `{view}`: shard {shard} sent slot {slot} without announcing its group; this is a bug")]
    UnknownSlot {
        /// View name.
        view: String,
        /// Shard that sent it.
        shard: usize,
        /// The slot.
        slot: u32,
    },
}

/// State of one view at the coordinator.
#[derive(Debug)]
pub struct View {
    plan: ViewPlan,
    pub(crate) groups: Groups,
    /// Panes that some shards have answered, none of them in a window yet.
    pub(crate) collecting: BTreeMap<PaneId, Pane>,
    slide: Slide,
    /// Windows below this number are out or were empty.
    pub(crate) window_next: i64,
    /// Windows below this number need not be given out again after a restart.
    pub(crate) window_floor: i64,
    /// Windows that were given out and may have to be given out again after a restart, with their rows.
    pub(crate) recent: VecDeque<(i64, u64)>,
    /// Whether `recent` is kept.
    pub(crate) keeps_recent: bool,
    /// By slot: row in the pane being merged; kept to save its memory.
    row_of: Vec<u32>,
    block: Rows,
    output: ResultBatch,
    /// Finished windows that had rows, and those rows.
    pub windows_out: u64,
    /// Rows given out.
    pub rows_out: u64,
}

const NO_ROW: u32 = u32::MAX;

impl View {
    /// A view fed by `shards` shards.
    pub fn new(plan: ViewPlan, shards: usize) -> View {
        let columns = plan.schema.columns.iter().map(|c| OutputColumn::new(c.kind)).collect();
        View {
            groups: Groups::new(shards, key::other(&plan.by)),
            collecting: BTreeMap::new(),
            slide: Slide::new(),
            window_next: i64::MIN,
            window_floor: i64::MIN,
            recent: VecDeque::new(),
            keeps_recent: false,
            row_of: Vec::new(),
            block: Rows::default(),
            output: ResultBatch { rows: 0, columns, other_rows: Vec::new() },
            plan,
            windows_out: 0,
            rows_out: 0,
        }
    }

    /// The plan.
    pub fn plan(&self) -> &ViewPlan {
        &self.plan
    }

    /// Merges one shard's partial into its pane.
    pub fn merge(&mut self, shard: usize, partial: &mut Partial) -> Result<(), ViewError> {
        for &slot in &partial.retired {
            self.groups.retire(shard, slot);
        }
        for (slot, key) in partial.announcements() {
            self.groups.announce(shard, slot, key);
        }
        let layout = &self.plan.layout;
        let id = PaneId(partial.pane);
        let pane = self.collecting.entry(id).or_default();
        self.row_of.resize(self.groups.slots_end(), NO_ROW);
        for (row, &slot) in pane.slots.iter().enumerate() {
            self.row_of[slot as usize] = row as u32;
        }
        let mut into = Vec::with_capacity(partial.slots.len());
        for &slot in &partial.slots {
            let Some(ours) = self.groups.slot_of(shard, slot) else {
                return Err(ViewError::UnknownSlot { view: self.plan.spec.name.clone(), shard, slot });
            };
            let row = &mut self.row_of[ours as usize];
            if *row == NO_ROW {
                *row = pane.slots.len() as u32;
                pane.slots.push(ours);
                self.groups.hold(ours);
            }
            into.push(*row);
        }
        for &slot in &pane.slots {
            self.row_of[slot as usize] = NO_ROW;
        }
        let rows = partial.take_rows();
        if pane.rows.words.is_empty() {
            // The first partial of a pane becomes the pane: its rows stand in order already.
            debug_assert!(into.iter().enumerate().all(|(index, &row)| index as u32 == row));
            pane.rows = rows;
        } else {
            pane.rows.grow(layout, pane.slots.len());
            let from: Vec<u32> = (0..into.len() as u32).collect();
            pane.rows.merge(layout, &into, &rows, &from, MergeScope::SamePane);
            partial.words = rows.words;
        }
        self.check_groups(id)
    }

    fn check_groups(&self, id: PaneId) -> Result<(), ViewError> {
        let spec = &self.plan.spec;
        let over = self.collecting.get(&id).is_some_and(|pane| pane.slots.len() > spec.groups_max as usize);
        if over && spec.overflow == Overflow::Reject {
            let pane = spec.window.pane_start(id);
            return Err(ViewError::TooManyGroups { view: spec.name.clone(), pane, max: spec.groups_max });
        }
        Ok(())
    }

    /// Gives every window that ends at or before `frontier` and has events to `sink`, in order.
    ///
    /// All partials of panes below the frontier must have been merged.
    pub fn emit<E: From<ViewError>>(
        &mut self,
        frontier: EventTime,
        sink: &mut impl FnMut(&ResultBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let window = self.plan.spec.window;
        let open_from = window.open_from(frontier);
        loop {
            let oldest = self.slide.oldest().or_else(|| self.collecting.first_key_value().map(|(id, _)| *id));
            let Some(oldest) = oldest else { return Ok(()) };
            let number = self.window_next.max(window.first_window_of(oldest));
            if window.window_end_pane(number) > open_from {
                return Ok(());
            }
            while let Some(entry) = self.collecting.first_entry() {
                if *entry.key() >= window.window_end_pane(number) {
                    break;
                }
                let (id, pane) = entry.remove_entry();
                self.slide.push(&self.plan.layout, id, pane, self.groups.slots_end());
            }
            self.emit_window(number, sink)?;
            self.window_next = number + 1;
            let limit = window.window_first_pane(number + 1);
            self.slide.pop_before(&self.plan.layout, limit, |slot| {
                self.groups.release(slot);
            });
        }
    }

    fn emit_window<E: From<ViewError>>(
        &mut self,
        number: i64,
        sink: &mut impl FnMut(&ResultBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let layout = &self.plan.layout;
        let order = self.groups.sorted();
        let mut slots: Vec<u32> = order.iter().copied().filter(|&slot| self.slide.holds(layout, slot)).collect();
        if slots.is_empty() {
            return Ok(());
        }
        let folded = self.fold_overflow(&mut slots);
        self.windows_out += 1;
        if self.keeps_recent {
            self.recent.push_back((number, slots.len() as u64));
        }
        for chunk in slots.chunks(BLOCK_ROWS) {
            self.block.clear();
            self.block.grow(layout, chunk.len());
            let positions: Vec<u32> = (0..chunk.len() as u32).collect();
            self.slide.total(layout, chunk, &mut self.block, &positions);
            if let Some(row) = chunk.iter().position(|&slot| slot == OTHER_SLOT) {
                for folded in folded.chunks(BLOCK_ROWS) {
                    self.slide.total(layout, folded, &mut self.block, &vec![row as u32; folded.len()]);
                }
            }
            finalize(&self.plan, &self.groups, number, chunk, &self.block, &mut self.output)?;
            self.rows_out += chunk.len() as u64;
            sink(&self.output)?;
        }
        Ok(())
    }

    /// Keeps the `max_groups` groups with the smallest hashes in `slots` and returns the others, which then
    /// belong to "other". A kept group is complete: wherever it has events it was among the smallest too.
    fn fold_overflow(&self, slots: &mut Vec<u32>) -> Vec<u32> {
        let max = self.plan.spec.groups_max as usize;
        let real = slots.iter().filter(|&&slot| slot != OTHER_SLOT).count();
        // A limit that refuses is held against panes, where it is refused.
        if real <= max || self.plan.spec.overflow == Overflow::Reject {
            return Vec::new();
        }
        let rank = |slot: u32| (self.groups.hash(slot), self.groups.key(slot));
        let mut ranked: Vec<u32> = slots.iter().copied().filter(|&slot| slot != OTHER_SLOT).collect();
        ranked.sort_unstable_by(|&a, &b| rank(a).cmp(&rank(b)));
        let mut folded = ranked.split_off(max);
        folded.sort_unstable();
        slots.retain(|slot| folded.binary_search(slot).is_err());
        if !slots.contains(&OTHER_SLOT) {
            let key = self.groups.key(OTHER_SLOT);
            let at = slots.partition_point(|&slot| self.groups.key(slot) <= key);
            slots.insert(at, OTHER_SLOT);
        }
        folded
    }
}

fn finalize(
    plan: &ViewPlan,
    groups: &Groups,
    number: i64,
    slots: &[u32],
    rows: &Rows,
    output: &mut ResultBatch,
) -> Result<(), ViewError> {
    let window = plan.spec.window;
    let start = window.pane_start(window.window_first_pane(number));
    let end = window.pane_start(window.window_end_pane(number));
    output.rows = slots.len();
    output.other_rows.clear();
    output.columns.iter_mut().for_each(OutputColumn::clear);
    for (column, time) in output.columns.iter_mut().zip([start, end]) {
        if let OutputColumn::Time(values) = column {
            values.resize(slots.len(), time.0);
        }
    }
    for (row, &slot) in slots.iter().enumerate() {
        key::decode(groups.key(slot), &plan.by, &mut output.columns[plan.schema.by.clone()]);
        if slot == OTHER_SLOT {
            output.other_rows.push(row);
        }
    }
    let positions: Vec<u32> = (0..slots.len() as u32).collect();
    for (index, state) in plan.layout.outputs.iter().enumerate() {
        let at = plan.schema.by.end + index;
        aggregate::finalize(&plan.layout, state, rows, &positions, &mut output.columns[at]).map_err(|overflow| {
            ViewError::SumOverflow {
                view: plan.spec.name.clone(),
                column: plan.schema.columns[at].name.clone(),
                window: start,
                sum: overflow.sum,
            }
        })?;
    }
    Ok(())
}
