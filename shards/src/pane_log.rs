//! The coordinator's log of merged panes: entries in, the word that shards may forget out.
//!
//! The log itself is the same as a shard's ([`crate::wal`]); what an entry says is in `corefold_aggregator::pane_log`.
//! When windows are given out is not decided here.

use crate::wal::{Appender, DiskCompletion, DiskRequest, Lsn, Record, RecordKind, WalError};
use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::pane_log::{PaneEntry, Pulled};
use corefold_aggregator::partial::PartialError;
use corefold_aggregator::time::{Duration, EventTime, PaneId, WindowSpec};
use rkyv::util::AlignedVec;
use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub struct PaneLog {
    log: Appender,
    windows: Vec<WindowSpec>,
    /// Panes stay at least this long behind the last pull, needed or not.
    retention: Duration,
    /// An entry that found no room, and where the log stood when it was first tried: a long one may be in it in part.
    waiting: Option<(PaneEntry, Lsn)>,
    /// Pieces in the log, oldest first.
    held: VecDeque<HeldPiece>,
    /// Pulls that are not durable yet.
    pulls: VecDeque<Pull>,
    released: Option<EventTime>,
    buffer: AlignedVec,
}

/// A piece of a pane in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldPiece {
    /// Index of the view.
    pub view: usize,
    /// The pane.
    pub pane: PaneId,
    /// Where its record begins, or earlier: a record may lie in several blocks.
    pub first: Lsn,
}

#[derive(Debug)]
struct Pull {
    /// Where its record begins, and where it ends.
    first: Lsn,
    lsn: Lsn,
    time: EventTime,
    needed: Vec<PaneId>,
}

impl PaneLog {
    /// Goes on with a log that holds `held`. `windows` has one entry per view.
    pub fn new(log: Appender, windows: Vec<WindowSpec>, retention: Duration, held: Vec<HeldPiece>) -> PaneLog {
        PaneLog {
            log,
            windows,
            retention,
            waiting: None,
            held: held.into(),
            pulls: VecDeque::new(),
            released: None,
            buffer: AlignedVec::new(),
        }
    }

    /// Writes what the coordinator has for the log, as far as there is room now. Returns whether that was all.
    pub fn take(
        &mut self,
        coordinator: &mut Coordinator,
        committed: impl Fn(usize) -> EventTime,
    ) -> Result<bool, PartialError> {
        loop {
            let (entry, first) = match self.waiting.take() {
                Some(waiting) => waiting,
                None => match coordinator.next_entry(&committed, std::mem::take(&mut self.buffer))? {
                    Some(entry) => (entry, self.log.appended()),
                    None => return Ok(true),
                },
            };
            let (kind, bytes) = match &entry {
                PaneEntry::Piece { bytes, .. } => (RecordKind::PANE, bytes),
                PaneEntry::Pulled { bytes, .. } => (RecordKind::PULLED, bytes),
            };
            let Some(lsn) = self.log.try_append(kind, bytes) else {
                self.waiting = Some((entry, first));
                return Ok(false);
            };
            self.buffer = match entry {
                PaneEntry::Piece { view, pane, bytes } => {
                    self.held.push_back(HeldPiece { view, pane, first });
                    bytes
                }
                PaneEntry::Pulled { time, needed, bytes } => {
                    self.pulls.push_back(Pull { first, lsn, time, needed });
                    bytes
                }
            };
        }
    }

    /// Takes a completion of the disk.
    pub fn complete(&mut self, completion: DiskCompletion, now_ns: u64) -> Result<(), WalError> {
        self.log.complete(completion, now_ns);
        if let Some(error) = self.log.latched() {
            return Err(error.clone());
        }
        while let Some(pull) = self.pulls.front().filter(|pull| pull.lsn < self.log.durable()) {
            let (first, time) = (pull.first, pull.time);
            let kept = time.minus(self.retention);
            let needed = &pull.needed;
            let is_needed = |piece: &HeldPiece| {
                let retained = self.windows.get(piece.view).map_or(PaneId(i64::MIN), |window| window.open_from(kept));
                needed.get(piece.view).is_none_or(|&needed| piece.pane >= needed.min(retained))
            };
            while self.held.front().is_some_and(|piece| !is_needed(piece)) {
                self.held.pop_front();
            }
            self.released = Some(time);
            let floor = self.held.front().map_or(first, |piece| piece.first.min(first));
            self.log.release(floor);
            self.pulls.pop_front();
        }
        Ok(())
    }

    /// Hands out what is to be done now.
    pub fn poll(&mut self, now_ns: u64, out: &mut Vec<DiskRequest>) {
        self.log.poll(now_ns, out);
    }

    /// The time below which shards may forget their panes, if it has moved.
    pub fn take_release(&mut self) -> Option<EventTime> {
        self.released.take()
    }

    /// Whether every pull is durable.
    pub fn has_settled(&self) -> bool {
        self.waiting.is_none() && self.pulls.is_empty()
    }

    /// The log.
    pub fn log(&self) -> &Appender {
        &self.log
    }

    /// The log, to seal it.
    pub fn log_mut(&mut self) -> &mut Appender {
        &mut self.log
    }
}

/// Why the pane log cannot be believed although every checksum is right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaneLogError {
    /// An archive that cannot be read.
    #[error("the pane log, LSN {}: {error}", .lsn.0)]
    Content {
        /// Which entry.
        lsn: Lsn,
        /// What is wrong.
        error: PartialError,
    },
    /// A pull names pieces that are not there.
    #[error("the pane log, LSN {}: a pull of {expected} pieces follows only {found}; restore the log", .lsn.0)]
    Missing {
        /// Which entry.
        lsn: Lsn,
        /// Pieces that it names.
        expected: u64,
        /// Pieces before it.
        found: u64,
    },
}

/// What a first pass over the log finds: the last pull, and which pieces count.
#[derive(Debug, Default)]
pub struct PaneHistory {
    last: Option<(Lsn, Pulled)>,
    /// Pieces of pulls that are complete.
    pieces: Vec<Lsn>,
    /// Pieces since the last pull.
    open: Vec<Lsn>,
}

impl PaneHistory {
    /// Takes the next record.
    pub fn on_record(&mut self, record: &Record<'_>) -> Result<(), PaneLogError> {
        match record.kind {
            RecordKind::PANE => self.open.push(record.lsn),
            RecordKind::PULLED => {
                let lsn = record.lsn;
                let pulled = Pulled::read(record.payload).map_err(|error| PaneLogError::Content { lsn, error })?;
                let found = self.open.len() as u64;
                // The front of the log may have gone, and with it the first pieces of the first pull that is left.
                if pulled.pieces > found && self.last.is_some() {
                    return Err(PaneLogError::Missing { lsn, expected: pulled.pieces, found });
                }
                // Pieces before those that the pull names are of a pull that a crash has cut short.
                let cut = found.saturating_sub(pulled.pieces) as usize;
                self.pieces.extend(self.open.drain(..).skip(cut));
                self.last = Some((lsn, pulled));
            }
            _ => {}
        }
        Ok(())
    }

    /// The last pull, and where it lies.
    pub fn last(&self) -> Option<(Lsn, &Pulled)> {
        self.last.as_ref().map(|(lsn, pulled)| (*lsn, pulled))
    }

    /// The time below which every pane is in the log.
    pub fn released(&self) -> EventTime {
        self.last.as_ref().map_or(EventTime::MIN, |(_, pulled)| EventTime(pulled.time))
    }

    /// Whether the piece at `lsn` belongs to a complete pull.
    pub fn counts(&self, lsn: Lsn) -> bool {
        self.pieces.binary_search(&lsn).is_ok()
    }

    /// Pieces that count.
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }
}
