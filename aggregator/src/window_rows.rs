//! The rows of one finished window, in the order of keys: totals, a few at a time, and their values while they are in the
//! nearest cache.
//!
//! Groups are numbered in key order as they come, so rows that lie by slot are read in few runs. Which groups are in a window
//! is the view's.

use crate::aggregate::{self, Totals};
use crate::groups::Groups;
use crate::partial::OTHER_SLOT;
use crate::result::{OutputColumn, ResultBatch};
use crate::rows::Rows;
use crate::slide::Slide;
use crate::time::{EventTime, WindowSpec};
use crate::view::{ViewError, ViewPlan};

/// Rows given out at a time.
const BLOCK_ROWS: usize = 4096;
/// Rows totalled at a time: they stay in the cache until they are values.
const TOTAL_ROWS: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub struct WindowRows {
    /// Slots of the window in the order of output.
    slots: Vec<u32>,
    /// Memory of totals, where they are taken by column and where by row.
    totals: Totals,
    total_rows: Rows,
    output: ResultBatch,
}

impl WindowRows {
    /// Begins a window of those of `slots`, which stand in the order of output, that are in it.
    pub fn begin(&mut self, slots: &[u32], is_in: impl Fn(u32) -> bool) -> &mut Vec<u32> {
        // Without branches: which groups are in a window is as good as random.
        self.slots.resize(slots.len(), 0);
        let mut count = 0;
        for &slot in slots {
            self.slots[count] = slot;
            count += usize::from(is_in(slot));
        }
        self.slots.truncate(count);
        &mut self.slots
    }

    /// Gives the rows of window `number` to `sink`. Groups in `folded` are added to "other".
    pub fn give<E: From<ViewError>>(
        &mut self,
        plan: &ViewPlan,
        (groups, slide): (&Groups, &Slide),
        number: i64,
        folded: &[u32],
        sink: &mut impl FnMut(&mut ResultBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let by = plan.schema.by.clone();
        for start in (0..self.slots.len()).step_by(BLOCK_ROWS) {
            let end = self.slots.len().min(start + BLOCK_ROWS);
            self.begin_block(plan, number, end - start);
            let (slots, output) = (&self.slots[start..end], &mut self.output);
            groups.push_values(slots, &mut output.columns[by.clone()]);
            output.other_rows.extend(slots.iter().position(|&slot| slot == OTHER_SLOT));
            let columns = &mut output.columns[by.end..];
            for slots in slots.chunks(TOTAL_ROWS) {
                if folded.is_empty() && slide.take_totals(&plan.layout, slots, &mut self.totals) {
                    let outputs = plan.layout.outputs.iter().zip(&mut *columns);
                    outputs.for_each(|(output, column)| self.totals.finalize(output, column));
                    continue;
                }
                total(plan, slide, slots, folded, &mut self.total_rows);
                finalize(plan, number, &self.total_rows, columns)?;
            }
            sink(output)?;
        }
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
