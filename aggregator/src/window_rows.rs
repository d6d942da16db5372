//! The rows of one finished window: totals taken in the order of slots, given out in the order of keys.
//!
//! Rows of accumulators lie by slot, so totals are read where they lie, one after the other; only their finished
//! values, a word each, are then put into the order of output. Which groups are in a window is the view's.

use crate::aggregate;
use crate::groups::Groups;
use crate::partial::OTHER_SLOT;
use crate::result::{OutputColumn, ResultBatch};
use crate::rows::Rows;
use crate::slide::Slide;
use crate::spec::OutputType;
use crate::time::{EventTime, WindowSpec};
use crate::view::{ViewError, ViewPlan};

/// Rows given out at a time.
const BLOCK_ROWS: usize = 4096;
/// Rows totalled at a time: they stay in the cache until they are values.
const TOTAL_ROWS: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub struct WindowRows {
    /// Slots of the window in the order of output.
    slots: Vec<u32>,
    /// The same in ascending order.
    ascending: Vec<u32>,
    /// By slot: where its values lie in `values`, if it is in the window.
    position_of: Vec<u32>,
    /// `position_of` for a run of slots.
    positions: Vec<u32>,
    /// Values of every group in the order of `ascending`, one column per aggregate. Groups are numbered in key order as they
    /// come, so what is taken of them lies in few runs.
    values: Vec<OutputColumn>,
    /// Per aggregate: whether any value is null.
    has_nulls: Vec<bool>,
    totals: Rows,
    output: ResultBatch,
}

impl WindowRows {
    /// Begins a window of the groups in `slots`, which stand in the order of output.
    pub fn begin(&mut self, slots: impl Iterator<Item = u32>) -> &mut Vec<u32> {
        self.slots.clear();
        self.slots.extend(slots);
        &mut self.slots
    }

    /// Gives the rows of window `number` to `sink`. Groups in `folded` are added to "other".
    pub fn give<E: From<ViewError>>(
        &mut self,
        plan: &ViewPlan,
        state: (&Groups, &Slide),
        number: i64,
        folded: &[u32],
        sink: &mut impl FnMut(&mut ResultBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let (groups, slide) = state;
        let columns = &plan.schema.columns;
        let aggregates = plan.schema.by.end;
        // Text of a whole window may be more than a column can hold: its rows are totalled block by block.
        let has_text = columns[aggregates..].iter().any(|column| column.kind == OutputType::String);
        if !has_text {
            self.total_all(plan, state, number, folded)?;
        }
        for start in (0..self.slots.len()).step_by(BLOCK_ROWS) {
            let end = self.slots.len().min(start + BLOCK_ROWS);
            self.begin_block(plan, number, end - start);
            let (slots, output) = (&self.slots[start..end], &mut self.output);
            groups.push_values(slots, &mut output.columns[plan.schema.by.clone()]);
            output.other_rows.extend(slots.iter().position(|&slot| slot == OTHER_SLOT));
            let to = &mut output.columns[aggregates..];
            if has_text {
                total(plan, slide, slots, folded, &mut self.totals);
                finalize(plan, number, &self.totals, to)?;
            } else {
                self.positions.clear();
                self.positions.extend(slots.iter().map(|&slot| self.position_of[slot as usize]));
                for ((from, &has_nulls), to) in self.values.iter().zip(&self.has_nulls).zip(to) {
                    to.gather(from, has_nulls, &self.positions);
                }
            }
            sink(output)?;
        }
        Ok(())
    }

    /// Fills `values`, `has_nulls` and `position_of`.
    fn total_all(
        &mut self,
        plan: &ViewPlan,
        (groups, slide): (&Groups, &Slide),
        number: i64,
        folded: &[u32],
    ) -> Result<(), ViewError> {
        const ABSENT: u32 = u32::MAX;
        self.position_of.clear();
        self.position_of.resize(groups.slots_end(), ABSENT);
        for &slot in &self.slots {
            self.position_of[slot as usize] = 0;
        }
        self.ascending.clear();
        for (slot, position) in self.position_of.iter_mut().enumerate().filter(|(_, position)| **position != ABSENT) {
            *position = self.ascending.len() as u32;
            self.ascending.push(slot as u32);
        }
        let columns = &plan.schema.columns[plan.schema.by.end..];
        self.values.extend(columns.iter().skip(self.values.len()).map(|column| OutputColumn::new(column.kind)));
        self.values.iter_mut().for_each(OutputColumn::clear);
        for slots in self.ascending.chunks(TOTAL_ROWS) {
            total(plan, slide, slots, folded, &mut self.totals);
            finalize(plan, number, &self.totals, &mut self.values)?;
        }
        self.has_nulls.clear();
        self.has_nulls.extend(self.values.iter().map(OutputColumn::has_nulls));
        Ok(())
    }

    /// Empties the output but for the times of `rows` rows.
    fn begin_block(&mut self, plan: &ViewPlan, number: i64, rows: usize) {
        let (start, end) = bounds(&plan.spec.window, number);
        let output = &mut self.output;
        if output.columns.is_empty() {
            output.columns = plan.schema.columns.iter().map(|column| OutputColumn::new(column.kind)).collect();
        }
        output.rows = rows;
        output.other_rows.clear();
        output.columns.iter_mut().for_each(OutputColumn::clear);
        for (column, time) in output.columns.iter_mut().zip([start, end]) {
            if let OutputColumn::Time(values) = column {
                values.resize(rows, time.0);
            }
        }
    }
}

/// Totals of `slots`, one row each; "other" with the totals of `folded`.
fn total(plan: &ViewPlan, slide: &Slide, slots: &[u32], folded: &[u32], totals: &mut Rows) {
    totals.clear();
    slide.append_totals(&plan.layout, slots, totals);
    if !folded.is_empty()
        && let Some(row) = slots.iter().position(|&slot| slot == OTHER_SLOT)
    {
        slide.merge_totals(&plan.layout, folded, totals, row as u32);
    }
}

/// Appends the values of `totals` to `columns`, one per aggregate.
fn finalize(plan: &ViewPlan, number: i64, totals: &Rows, columns: &mut [OutputColumn]) -> Result<(), ViewError> {
    for (index, (output, column)) in plan.layout.outputs.iter().zip(columns).enumerate() {
        aggregate::finalize(&plan.layout, output, totals, column).map_err(|overflow| ViewError::SumOverflow {
            view: plan.spec.name.clone(),
            column: plan.schema.columns[plan.schema.by.end + index].name.clone(),
            window: bounds(&plan.spec.window, number).0,
            sum: overflow.sum,
        })?;
    }
    Ok(())
}

/// Start and end of window `number`.
fn bounds(window: &WindowSpec, number: i64) -> (EventTime, EventTime) {
    (window.pane_start(window.window_first_pane(number)), window.pane_start(window.window_end_pane(number)))
}
