//! The pane log of a simulated coordinator: its disk, windows put together again from it at a start, and the check that
//! nothing is released before it is durable there.
//!
//! A mirror of the engine's `pane_core`. What is written and when it may go is `corefold_shards::pane_log`'s.

use super::disk::LogDisk;
use super::faults::Faults;
use super::files::Files;
use super::site::SiteError;
use crate::entropy::Entropy;
use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::time::EventTime;
use corefold_shards::pane_log::PaneLog;
use corefold_shards::shard::ShardError;
use corefold_shards::wal::{DiskCompletion, DiskRequest};

/// See the module.
pub struct PaneSite {
    log: PaneLog,
    /// The log's disk.
    pub disk: LogDisk,
    completions: Vec<DiskCompletion>,
    requests: Vec<DiskRequest>,
}

impl PaneSite {
    /// A log on its disk.
    pub fn new(log: PaneLog, disk: LogDisk) -> PaneSite {
        PaneSite { log, disk, completions: Vec::new(), requests: Vec::new() }
    }

    /// Writes what the coordinator has for the log, as far as there is room.
    pub fn turn(
        &mut self,
        now_ns: u64,
        coordinator: &mut Coordinator,
        committed: EventTime,
        files: &Files,
        entropy: &mut Entropy,
    ) -> Result<(), SiteError> {
        for completion in self.completions.drain(..) {
            self.log.complete(completion, now_ns).map_err(ShardError::Wal)?;
        }
        self.disk.history.acknowledge(self.log.log().durable())?;
        self.log.take(coordinator, |_| committed).map_err(ShardError::Partial)?;
        self.log.poll(now_ns, &mut self.requests);
        self.disk.submit(&self.requests, self.log.log(), files, || entropy.bits())?;
        self.requests.clear();
        Ok(())
    }

    /// The disk's turn.
    pub fn disk_turn(
        &mut self,
        now_ns: u64,
        files: &mut Files,
        faults: &mut Faults,
        entropy: &mut Entropy,
    ) -> Result<(), SiteError> {
        if !self.disk.is_busy() {
            return Ok(());
        }
        Ok(self.disk.turn(now_ns, Some(self.log.log()), files, faults, entropy, &mut self.completions)?)
    }

    /// The time below which shards may forget their panes, if it has moved.
    pub fn take_release(&mut self) -> Result<Option<EventTime>, SiteError> {
        let Some(time) = self.log.take_release() else { return Ok(None) };
        let durable = self.disk.history.pulled_durable();
        if time.0 > durable {
            let text = format!("panes below {time} are released, those below {} are durable", EventTime(durable));
            return Err(SiteError::Check(text));
        }
        Ok(Some(time))
    }

    /// Whether every pull is durable.
    pub fn has_settled(&self) -> bool {
        self.log.has_settled()
    }

    /// Ends the log in order.
    pub fn seal(&mut self) {
        self.log.log_mut().seal();
    }

    /// Whether all is written and nothing in flight.
    pub fn is_drained(&self) -> bool {
        self.log.log().is_drained() && !self.disk.is_busy()
    }

    /// Whether the log cannot get a segment.
    pub fn is_stalled(&self) -> bool {
        self.log.log().stalled().is_some()
    }
}
