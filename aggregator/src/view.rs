//! One view at the coordinator: shards' partials in, finished windows out.
//!
//! When a pane is closed and who is asked for it is the coordinator's.

use crate::aggregate;
use crate::groups::Groups;
use crate::layout::RowLayout;
use crate::pane::{BY_SLOT_SHARE, Pane};
use crate::partial::OTHER_SLOT;
use crate::partial_ref::PartialRef;
use crate::result::{OutputField, OutputSchema, ResultBatch};
use crate::rows::MergeScope;
use crate::slide::{Slide, number};
use crate::spec::{Field, FieldType, OutputType, Overflow, SpecError, StreamSpec, ViewSpec};
use crate::stored_key;
use crate::time::{EventTime, PaneId};
use crate::window_rows::WindowRows;
use std::collections::{BTreeMap, VecDeque};

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
    /// By slot: row in the pane that was merged last, unless that lies by slot.
    row_of: Vec<u32>,
    /// That pane; `None` if nothing is known of it any more.
    row_of_pane: Option<PaneId>,
    /// Rows of the pane that was whole last: the next one will have about as many.
    rows_last: usize,
    /// By row of a partial: our slot, or its row in the pane.
    into: Vec<u32>,
    numbers: Vec<u32>,
    /// Memory of sorting rows and keys.
    order: Vec<u32>,
    announced: Vec<(u128, u32)>,
    rows: WindowRows,
    /// Finished windows that had rows, and those rows.
    pub windows_out: u64,
    /// Rows given out.
    pub rows_out: u64,
}

const NO_ROW: u32 = u32::MAX;

impl View {
    /// A view fed by `shards` shards.
    pub fn new(plan: ViewPlan, shards: usize) -> View {
        View {
            groups: Groups::new(shards, &plan.by),
            collecting: BTreeMap::new(),
            slide: Slide::new(),
            window_next: i64::MIN,
            window_floor: i64::MIN,
            recent: VecDeque::new(),
            keeps_recent: false,
            row_of: Vec::new(),
            row_of_pane: None,
            rows_last: 0,
            into: Vec::new(),
            numbers: Vec::new(),
            order: Vec::new(),
            announced: Vec::new(),
            rows: WindowRows::default(),
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
    pub fn merge(&mut self, shard: usize, partial: &mut PartialRef<'_>) -> Result<(), ViewError> {
        for &slot in partial.retired {
            self.groups.retire(shard, slot);
        }
        // In the order of their keys, which is that of output: so the groups of a window lie in few runs.
        self.announced.clear();
        self.announced.extend(partial.announcements().zip(0..).map(|((_, key), at)| (stored_key::prefix(key), at)));
        self.announced.sort_unstable();
        for &(_, at) in &self.announced {
            let (slot, key) = partial.announcement(at as usize);
            self.groups.announce(shard, slot, key);
        }
        let id = PaneId(partial.pane);
        let mut pane = self.collecting.remove(&id).unwrap_or_else(|| self.slide.take_spent());
        if pane.is_empty() {
            // This may be the first of several pieces; the first one of all has announced every group of its pane.
            let expected = partial.slots.len().max(partial.announced.len()).max(self.rows_last);
            let is_dense = expected * BY_SLOT_SHARE >= self.groups.slots_end();
            // What handles name moves with the first partial.
            pane.is_by_slot = is_dense && self.plan.layout.handles.is_empty();
        }
        let merged = if pane.is_by_slot {
            self.merge_by_slot(shard, partial, &mut pane)
        } else {
            self.merge_rows(shard, partial, &mut pane)
        };
        self.collecting.insert(id, pane);
        merged?;
        self.check_groups(id)
    }

    /// Adds each row to that of its slot.
    fn merge_by_slot(&mut self, shard: usize, partial: &PartialRef<'_>, pane: &mut Pane) -> Result<(), ViewError> {
        self.into.clear();
        if let Err(slot) = self.groups.slots_of(shard, partial.slots, &mut self.into) {
            return Err(self.unknown_slot(shard, slot));
        }
        let Self { plan, groups, into, .. } = self;
        pane.make_room(&plan.layout, groups.slots_end());
        pane.merge_by_slot(&plan.layout, into, partial.rows(), |slot| groups.hold(slot));
        Ok(())
    }

    fn merge_rows(&mut self, shard: usize, partial: &mut PartialRef<'_>, pane: &mut Pane) -> Result<(), ViewError> {
        // All or nothing: a pane never has slots without rows.
        self.into.clear();
        if let Err(slot) = self.groups.slots_of(shard, partial.slots, &mut self.into) {
            return Err(self.unknown_slot(shard, slot));
        }
        let is_first = pane.slots.is_empty();
        if !is_first {
            self.find_rows(PaneId(partial.pane), pane);
        }
        for into in &mut self.into {
            let ours = *into;
            // A shard names each group once.
            let known = if is_first { NO_ROW } else { self.row_of[ours as usize] };
            let row = if known == NO_ROW { pane.slots.len() as u32 } else { known };
            if known == NO_ROW {
                pane.slots.push(ours);
                self.groups.hold(ours);
                if !is_first {
                    self.row_of[ours as usize] = row;
                }
            }
            *into = row;
        }
        if is_first {
            // The first partial of a pane becomes the pane.
            pane.rows.sides = std::mem::take(&mut partial.sides).into_owned();
            pane.take_words(&self.plan.layout, partial.words, &mut self.order);
        } else {
            pane.rows.grow(&self.plan.layout, pane.slots.len());
            number(&mut self.numbers, self.into.len());
            pane.rows.merge(&self.plan.layout, &self.into, partial.rows(), &self.numbers, MergeScope::SamePane);
        }
        Ok(())
    }

    /// Brings `row_of` to where it tells the rows of `pane`. Pieces of one pane follow each other, as a rule.
    fn find_rows(&mut self, id: PaneId, pane: &Pane) {
        if self.row_of_pane != Some(id) {
            self.row_of.clear();
            self.row_of_pane = Some(id);
            self.row_of.resize(self.groups.slots_end(), NO_ROW);
            pane.slots.iter().zip(0..).for_each(|(&slot, row)| self.row_of[slot as usize] = row);
        }
        self.row_of.resize(self.groups.slots_end(), NO_ROW);
    }

    /// All partials of the panes that are collected are there.
    pub(crate) fn close_panes(&mut self) {
        let (all, is_single) = (self.groups.slots_end(), self.groups.shards() == 1);
        for pane in self.collecting.values_mut() {
            pane.finish(&self.plan.layout, all);
            if is_single {
                self.slide.put_in_order(&self.plan.layout, pane, &mut self.order);
            }
            self.rows_last = pane.groups();
        }
        self.row_of_pane = None;
    }

    fn unknown_slot(&self, shard: usize, slot: u32) -> ViewError {
        ViewError::UnknownSlot { view: self.plan.spec.name.clone(), shard, slot }
    }

    fn check_groups(&self, id: PaneId) -> Result<(), ViewError> {
        let spec = &self.plan.spec;
        let over = self.collecting.get(&id).is_some_and(|pane| pane.groups() > spec.groups_max as usize);
        if over && spec.overflow == Overflow::Reject {
            let pane = spec.window.pane_start(id);
            return Err(ViewError::TooManyGroups { view: spec.name.clone(), pane, max: spec.groups_max });
        }
        Ok(())
    }

    /// Gives every window that ends at or before `frontier` and has events to `sink`, in order. The sink may keep the
    /// rows and leave an older batch of this view in their place, or an empty one, whose memory is used next.
    ///
    /// All partials of panes below the frontier must have been merged.
    pub fn emit<E: From<ViewError>>(
        &mut self,
        frontier: EventTime,
        sink: &mut impl FnMut(&mut ResultBatch) -> Result<(), E>,
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
        sink: &mut impl FnMut(&mut ResultBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { plan, groups, slide, rows: window, .. } = self;
        let slots = window.begin(groups.sorted(), |slot| slide.holds(slot));
        if slots.is_empty() {
            return Ok(());
        }
        let folded = fold_overflow(&plan.spec, groups, slots);
        let count = slots.len() as u64;
        window.give(plan, (groups, slide), number, &folded, sink)?;
        self.windows_out += 1;
        self.rows_out += count;
        if self.keeps_recent {
            self.recent.push_back((number, count));
        }
        Ok(())
    }
}

/// Keeps the `max_groups` groups with the smallest hashes in `slots` and returns the others, which then belong to
/// "other". A kept group is complete: wherever it has events it was among the smallest too.
fn fold_overflow(spec: &ViewSpec, groups: &Groups, slots: &mut Vec<u32>) -> Vec<u32> {
    let max = spec.groups_max as usize;
    // A limit that refuses is held against panes, where it is refused.
    if slots.len() <= max || spec.overflow == Overflow::Reject {
        return Vec::new();
    }
    let rank = |slot: u32| (groups.hash(slot), groups.key(slot));
    let mut ranked: Vec<u32> = slots.iter().copied().filter(|&slot| slot != OTHER_SLOT).collect();
    if ranked.len() <= max {
        return Vec::new();
    }
    ranked.sort_unstable_by(|&a, &b| rank(a).cmp(&rank(b)));
    let mut folded = ranked.split_off(max);
    folded.sort_unstable();
    slots.retain(|slot| folded.binary_search(slot).is_err());
    if !slots.contains(&OTHER_SLOT) {
        let key = groups.key(OTHER_SLOT);
        let at = slots.partition_point(|&slot| groups.key(slot) <= key);
        slots.insert(at, OTHER_SLOT);
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partial::Partial;
    use crate::result::OutputColumn;
    use crate::spec::{AggregateSpec, Function};
    use crate::time::{Duration, WindowSpec};

    fn view() -> View {
        let fields = vec![Field { name: "k".into(), kind: FieldType::I64 }];
        let stream = StreamSpec { name: "s".into(), time: "t".into(), delay_max: Duration::ZERO, fields };
        let second = Duration::from_micros(1_000_000).expect("a second");
        let spec = ViewSpec {
            name: "v".into(),
            by: vec![0],
            window: WindowSpec::new(second, second, Duration::ZERO).expect("a window"),
            aggregates: vec![AggregateSpec { name: "count".into(), function: Function::Count, field: None }],
            groups_max: 1000,
            overflow: Overflow::Fold,
        };
        View::new(ViewPlan::new(&stream, spec).expect("a plan"), 1)
    }

    /// One event for each of `slots` in `pane`; those below `announced` are announced, each with its number as key.
    fn partial(view: &View, pane: i64, slots: &[u32], announced: u32) -> Partial {
        let mut partial = Partial { pane, ..Partial::default() };
        for slot in 1..announced {
            let mut key = Vec::new();
            crate::key::push_i64(&mut key, slot.into());
            partial.announce(slot, &key);
        }
        let mut row = view.plan.layout.template.clone();
        row[0] = 1;
        slots.iter().for_each(|&slot| partial.push_row(&view.plan.layout, slot, &row, &Default::default(), 0));
        partial
    }

    #[test]
    fn a_partial_with_an_unknown_slot_changes_nothing() {
        for (few, is_followed) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut view = view();
            let all: Vec<u32> = (1..100).collect();
            let known = partial(&view, 0, &all, 100);
            view.merge(0, &mut known.by_ref()).expect("announced slots");
            // Rows of few groups lie one after the other, those of many by slot.
            let some = if few { &all[..3] } else { &all[..] };
            let lie = partial(&view, 1, &[some, &[500]].concat(), 0);
            let unknown = ViewError::UnknownSlot { view: "v".into(), shard: 0, slot: 500 };
            assert_eq!(view.merge(0, &mut lie.by_ref()), Err(unknown));
            let truth = partial(&view, 1, some, 0);
            if is_followed {
                view.merge(0, &mut truth.by_ref()).expect("announced slots");
            }
            view.close_panes();
            let mut counts = Vec::new();
            let emitted = view.emit::<ViewError>(EventTime::MAX, &mut |rows| {
                let OutputColumn::I64 { values, .. } = &rows.columns[3] else { panic!("counts are integers") };
                counts.push(values.clone());
                Ok(())
            });
            assert_eq!(emitted, Ok(()));
            let rows = [all.len(), some.len()];
            assert_eq!(counts, rows.map(|rows| vec![1; rows])[..1 + usize::from(is_followed)]);
        }
    }
}
