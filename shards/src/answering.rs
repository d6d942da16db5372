//! How a shard answers a pull: partial by partial, between batches.
//!
//! What a partial holds is in [`crate::fold`]; who asks is the coordinator.

use crate::fold::pane::PaneCursor;
use crate::shard::{Inbox, Outbox, Shard, ShardError};
use corefold_aggregator::time::EventTime;
use rkyv::util::AlignedVec;
use std::collections::VecDeque;

/// Partials under way to the coordinator: answering stops until some are given back.
pub const PARTIALS_MAX: usize = 16;

/// Rows of a partial: what both sides copy it from and to stays in a core's own cache, and batches do not wait for the rest
/// of its pane.
pub const PARTIAL_ROWS: usize = 4096;

/// Events that are folded, one step after the other, before rows of partials are made as well.
const ROWS_OWED_MAX: usize = 8 * PARTIAL_ROWS;

/// Bytes of partials under way.
const PARTIAL_BYTES_MAX: usize = 8 << 20;

/// The pull that is being answered, and what is under way.
#[derive(Debug)]
pub(crate) struct Answering {
    pull: Option<PullState>,
    partial_rows: usize,
    /// Events folded since rows were made last.
    rows_owed: usize,
    buffers: Vec<AlignedVec>,
    /// Sizes of partials under way, which come back in the order in which they went.
    out: VecDeque<usize>,
    bytes_out: usize,
}

#[derive(Clone, Copy, Debug)]
struct PullState {
    up_to: EventTime,
    view: usize,
    from: PaneCursor,
}

impl Default for Answering {
    fn default() -> Answering {
        Answering {
            pull: None,
            partial_rows: PARTIAL_ROWS,
            rows_owed: 0,
            buffers: Vec::new(),
            out: VecDeque::new(),
            bytes_out: 0,
        }
    }
}

impl Answering {
    /// Whether a pull is not answered yet.
    pub(crate) fn is_asked(&self) -> bool {
        self.pull.is_some()
    }

    /// Whether that waits for partials to be given back.
    pub(crate) fn is_held_up(&self) -> bool {
        self.is_asked() && self.has_many_out()
    }

    fn has_many_out(&self) -> bool {
        self.out.len() >= PARTIALS_MAX || self.bytes_out >= PARTIAL_BYTES_MAX
    }

    fn take_back(&mut self, spent: &mut Vec<AlignedVec>) {
        self.bytes_out -= self.out.drain(..spent.len()).sum::<usize>();
        self.buffers.append(spent);
    }

    /// How many rows a step may make that has folded so many events. What is to be written goes first: then there are none,
    /// and the next step makes some if nothing has come. A shard without such moments makes as many as it has folded events:
    /// a closed pane has no more rows than it had events.
    fn rows_due(&mut self, events: usize) -> usize {
        if self.pull.is_none() {
            self.rows_owed = 0;
        }
        self.rows_owed += events;
        match events {
            0 => self.partial_rows,
            _ if self.rows_owed >= ROWS_OWED_MAX => std::mem::take(&mut self.rows_owed),
            _ => 0,
        }
    }
}

impl Shard {
    /// Makes partials of so many rows: for tests and simulations of few groups.
    pub fn set_partial_rows(&mut self, rows: usize) {
        self.answering.partial_rows = rows.max(1);
    }

    /// Takes what the coordinator says and goes on answering, after a step has folded `events` events. With nothing else to
    /// do, memory for the next pane is made ready.
    pub(crate) fn answer_pull(
        &mut self,
        events: usize,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
    ) -> Result<(), ShardError> {
        self.answering.take_back(&mut inbox.spent_partials);
        if let Some(release) = inbox.release.take() {
            self.views.iter_mut().for_each(|view| view.release(release));
            self.notes.release(release);
            self.released = self.released.max(release);
        }
        let mut rows = self.answering.rows_due(events);
        if let Some(up_to) = inbox.pull.take() {
            debug_assert!(!self.answering.is_asked(), "a pull is answered before the next one: partials go once");
            debug_assert!(up_to <= self.frontier, "nobody pulls beyond what this shard has published");
            self.answering.pull = Some(PullState { up_to, view: 0, from: self.unanswered(0) });
        } else if events == 0 && !self.answering.is_asked() {
            self.views.iter_mut().any(|view| view.tidy(rows));
        }
        while let Some(pull) = self.answering.pull {
            if pull.view == self.views.len() {
                outbox.pulled = Some(pull.up_to);
                self.answered = self.answered.max(pull.up_to);
                self.answering.pull = None;
                return Ok(());
            }
            if self.answering.has_many_out() || rows == 0 {
                return Ok(());
            }
            self.answering.pull = Some(self.write_partial(pull, &mut rows, outbox)?);
        }
        Ok(())
    }

    /// Gives out one partial, if there is one of this view. Returns what is next.
    fn write_partial(
        &mut self,
        pull: PullState,
        rows: &mut usize,
        outbox: &mut Outbox,
    ) -> Result<PullState, ShardError> {
        let rows_max = self.answering.partial_rows;
        let view = &mut self.views[pull.view];
        let Some(from) = view.write_partial(pull.view as u32, pull.from, pull.up_to, rows_max, &mut self.partial)
        else {
            return Ok(PullState { view: pull.view + 1, from: self.unanswered(pull.view + 1), ..pull });
        };
        *rows = rows.saturating_sub(self.partial.slots.len());
        let archived = self.partial.send(self.answering.buffers.pop().unwrap_or_default());
        view.return_sides(&mut self.partial);
        let archived = archived?;
        self.answering.out.push_back(archived.len());
        self.answering.bytes_out += archived.len();
        outbox.partials.push(archived);
        Ok(PullState { from, ..pull })
    }

    /// The first pane of a view that was not given out: a pull may come before the release of the one before it.
    fn unanswered(&self, view: usize) -> PaneCursor {
        let view = self.views.get(view);
        view.map_or(PaneCursor::START, |view| PaneCursor::at(view.view().plan.spec.window.open_from(self.answered)))
    }
}
