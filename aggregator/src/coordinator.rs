//! The coordinator as a pure state machine: frontiers and partials in; pulls, windows and releases out.
//!
//! Timers, channels and files are not here. A pull asks every shard for the panes of every view below one
//! time; a second pull starts when all have answered the first, so at most one set of panes is under way.

use crate::pane_log::LogCursor;
use crate::partial::{Partial, PartialError};
use crate::partial_ref::PartialRef;
use crate::result::ResultBatch;
use crate::time::EventTime;
use crate::view::{View, ViewError, ViewPlan};

/// The merged state of all shards.
#[derive(Debug)]
pub struct Coordinator {
    pub(crate) views: Vec<View>,
    pub(crate) shards: Vec<ShardLink>,
    /// Time of the pull under way or done last.
    pub(crate) pulled: EventTime,
    /// Windows up to this time are out.
    emitted: EventTime,
    /// What is written to the log; `None` without one.
    pub(crate) log: Option<LogCursor>,
    /// Reused for everything that is written to the log or read back from it.
    pub(crate) partial: Partial,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardLink {
    frontier: EventTime,
    /// Every pane below this time has been received from the shard.
    pub(crate) answered: EventTime,
}

/// Why the coordinator cannot go on.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// A view cannot go on.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A shard sent bytes that are no partial aggregate.
    #[error("shard {shard}: {error}; this is a bug")]
    Partial {
        /// The shard.
        shard: usize,
        /// What is wrong.
        error: PartialError,
    },
}

impl Coordinator {
    /// A coordinator of `shards` shards, all of whose frontiers promise nothing yet.
    pub fn new(views: Vec<ViewPlan>, shards: usize) -> Coordinator {
        let link = ShardLink { frontier: EventTime::MIN, answered: EventTime::MIN };
        Coordinator {
            views: views.into_iter().map(|plan| View::new(plan, shards)).collect(),
            shards: vec![link; shards],
            pulled: EventTime::MIN,
            emitted: EventTime::MIN,
            log: None,
            partial: Partial::default(),
        }
    }

    /// Takes a shard's published frontier. A frontier never goes back; an older one changes nothing.
    pub fn on_frontier(&mut self, shard: usize, frontier: EventTime) {
        let link = &mut self.shards[shard];
        link.frontier = link.frontier.max(frontier);
    }

    /// What the whole engine promises: the minimum over shards.
    pub fn frontier(&self) -> EventTime {
        self.shards.iter().map(|link| link.frontier).min().unwrap_or(EventTime::MAX)
    }

    /// The time of a new pull, if one is due: every shard is to be asked for its panes below it.
    pub fn start_pull(&mut self) -> Option<EventTime> {
        let frontier = self.frontier();
        // What was pulled last is given out before more is pulled.
        if self.is_pulling() || self.emitted < self.pulled || frontier <= self.pulled || !self.closes_a_pane(frontier) {
            return None;
        }
        self.pulled = frontier;
        Some(frontier)
    }

    /// Whether a shard still owes an answer.
    pub fn is_pulling(&self) -> bool {
        self.shards.iter().any(|link| link.answered < self.pulled)
    }

    /// Takes one partial aggregate of `shard`, as it has sent it.
    pub fn on_partial(&mut self, shard: usize, bytes: &[u8]) -> Result<(), CoordinatorError> {
        let failed = |error| CoordinatorError::Partial { shard, error };
        let views = &self.views;
        let stride = |view: u32| views.get(view as usize).map(|view| view.plan().layout.stride);
        let mut partial = PartialRef::open_sent(bytes, stride).map_err(failed)?;
        Ok(self.views[partial.view as usize].merge(shard, &mut partial)?)
    }

    /// Takes a shard's word that all its panes below `pulled` have been sent.
    pub fn on_pulled(&mut self, shard: usize, pulled: EventTime) {
        let link = &mut self.shards[shard];
        link.answered = link.answered.max(pulled);
        if !self.is_pulling() {
            self.views.iter_mut().for_each(View::close_panes);
        }
    }

    /// The time below which every pane is merged and windows are still to be given out, if there is one: shards that keep no
    /// log may forget their panes already.
    pub fn merged(&self) -> Option<EventTime> {
        (!self.is_pulling() && self.emitted < self.pulled).then_some(self.pulled)
    }

    /// Gives every window that became final to `sink(view, rows)`, which may keep the rows if it leaves an older batch of
    /// the view or an empty one in their place, and returns the time up to which windows are out; `None` while a pull is
    /// under way or not wholly written to the log, or if nothing is new.
    pub fn emit<E: From<CoordinatorError>>(
        &mut self,
        mut sink: impl FnMut(usize, &mut ResultBatch) -> Result<(), E>,
    ) -> Result<Option<EventTime>, E> {
        let is_logged = self.log.as_ref().is_none_or(|log| log.has_logged(self.pulled));
        if self.merged().is_none() || !is_logged {
            return Ok(None);
        }
        for (index, view) in self.views.iter_mut().enumerate() {
            view.emit(self.pulled, &mut |batch: &mut ResultBatch| sink(index, batch).map_err(Stop::Sink)).map_err(
                |stop| match stop {
                    Stop::Sink(error) => error,
                    Stop::View(error) => E::from(CoordinatorError::View(error)),
                },
            )?;
        }
        self.emitted = self.pulled;
        Ok(Some(self.emitted))
    }

    /// Whether all that was pulled is merged and given out.
    pub fn has_settled(&self) -> bool {
        !self.is_pulling() && self.emitted >= self.pulled
    }

    /// Whether every window of a finished input is out.
    pub fn is_finished(&self) -> bool {
        self.emitted == EventTime::MAX
    }

    /// The views, in the order they were given.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// Whether the move from the last pull to `frontier` passes the end of a pane of some view.
    fn closes_a_pane(&self, frontier: EventTime) -> bool {
        self.views.iter().any(|view| {
            let window = view.plan().spec.window;
            window.open_from(self.pulled) < window.open_from(frontier)
        })
    }
}

/// Why an emission stopped: the sink's error or the view's.
enum Stop<E> {
    Sink(E),
    View(ViewError),
}

impl<E> From<ViewError> for Stop<E> {
    fn from(error: ViewError) -> Stop<E> {
        Stop::View(error)
    }
}
