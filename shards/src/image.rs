//! A shard and its snapshots: when one begins, and how a shard begins with some.
//!
//! How a snapshot is written piece by piece is in [`crate::snapshot`]; the order of a step in [`crate::shard`].

use crate::lane_notes::LaneNote;
use crate::shard::{Inbox, Outbox, Shard, ShardError};
use crate::snapshot::{Adopted, ChunkKind, SnapshotError, SnapshotFile, SnapshotHead, SnapshotSource, SnapshotWriter};
use crate::wal::{Appender, Lsn, RecordKind};
use corefold_aggregator::partial::PartialError;
use corefold_aggregator::time::EventTime;

impl Shard {
    /// Has snapshots taken from now on. Call before anything is adopted or folded again.
    pub fn keep_snapshots(&mut self, snapshots: SnapshotWriter) {
        self.snapshots = Some(snapshots);
    }

    /// Goes on where the pane log ends: panes below `released` are in it. What is folded again from logs passes them
    /// over, until [`Shard::end_replay`].
    pub fn start_at(&mut self, released: EventTime) {
        self.views.iter_mut().for_each(|view| {
            view.start_at(released);
            view.passes_released = true;
        });
        self.is_replaying = true;
        self.released = released;
        self.answered = released;
        self.publish(released);
    }

    /// Promises not to go below `frontier` again.
    pub fn publish(&mut self, frontier: EventTime) {
        self.frontier = self.frontier.max(frontier);
    }

    /// Takes the whole state of a snapshot in, beside what is here already: its own one of the last run first, then
    /// those of shards that are no more. What the shard publishes is not touched.
    pub fn adopt<S: SnapshotSource>(&mut self, file: &mut SnapshotFile<S>) -> Result<(), SnapshotError> {
        let head = file.head();
        let counts = head.shard_counts();
        if counts.streams.len() > self.counts.streams.len() || counts.views.len() > self.counts.views.len() {
            return Err(SnapshotError::OtherPlan);
        }
        self.counts.add(&counts);
        self.ledger.unite(&head.ledger());
        let notes: Vec<LaneNote> = head.lane_notes().collect();
        notes.into_iter().for_each(|note| self.notes.add(note));
        let strides: Vec<usize> = self.views.iter().map(|view| view.view().plan.layout.stride).collect();
        let mut maps: Vec<_> = self.views.iter().map(|_| Default::default()).collect();
        while let Some(chunk) = file.next_chunk()? {
            let offset = chunk.entry.offset;
            let content = |error| SnapshotError::Content { offset, error };
            self.partial.read(chunk.bytes, |view| strides.get(view as usize).copied()).map_err(content)?;
            let view = self.partial.view as usize;
            self.partial.verify(&self.views[view].view().plan).map_err(content)?;
            match chunk.entry.kind {
                ChunkKind::Head => return Err(content(PartialError::Shape("one head"))),
                ChunkKind::Groups => self.views[view].adopt_groups(&self.partial, &mut maps[view]),
                ChunkKind::Pane => self.views[view].adopt_rows(&self.partial, &maps[view]).map_err(content)?,
            }
        }
        Ok(())
    }

    /// Ends what [`Shard::start_at`] began: all snapshots are adopted and all logs folded again. `start_of` tells the
    /// first batch of a lane that is not durable. With `keeps_passing` events of released panes stay expected: after a
    /// salvage, batches that were lost come again.
    pub fn end_replay(&mut self, start_of: impl Fn(u32) -> u64, keeps_passing: bool) {
        let released = self.released;
        self.views.iter_mut().for_each(|view| {
            view.end_adoption(released);
            view.passes_released = keeps_passing;
        });
        self.notes.settle(start_of);
        self.is_replaying = false;
    }

    /// Notes that the state of `orphans` is in here now, and has that made safe. The state of `inherited` shards came with
    /// the snapshots of those, or with this shard's own.
    pub fn note_adopted(&mut self, orphans: &[Adopted], inherited: Vec<Adopted>) {
        self.adopted = inherited;
        self.adopted.extend_from_slice(orphans);
        if let Some(snapshots) = &mut self.snapshots
            && !self.adopted.is_empty()
        {
            self.adopted_since = snapshots.generation_next();
            // Where there are snapshots there is a log: one without entries has lost them. What was inherited came with
            // a snapshot, and so with a log.
            self.adopted_record = orphans.iter().flat_map(Adopted::to_bytes).collect();
            // The older of two must hold it too: the newest may turn out damaged.
            snapshots.want(2);
        }
    }

    /// Takes the shards that may be deleted: every snapshot that may be needed holds what they held.
    pub fn take_retirable(&mut self) -> Vec<Adopted> {
        let Some(snapshots) = &self.snapshots else { return Vec::new() };
        let mut kept = snapshots.kept();
        let oldest = kept.next().map(|kept| kept.generation);
        let is_safe = kept.next().is_some() && oldest.is_some_and(|oldest| oldest >= self.adopted_since);
        if is_safe { std::mem::take(&mut self.adopted) } else { Vec::new() }
    }

    /// Asks for a snapshot of the state as it is, unless there is one: before an orderly end.
    pub fn want_snapshot(&mut self) {
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.want_newest();
        }
    }

    /// The snapshots, if they are taken.
    pub fn snapshots(&self) -> Option<&SnapshotWriter> {
        self.snapshots.as_ref()
    }

    /// Moves a snapshot on by one piece, or begins one that is due.
    pub(crate) fn take_snapshot(&mut self, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<(), ShardError> {
        let Some(snapshots) = self.snapshots.as_mut().filter(|_| !self.is_replaying) else { return Ok(()) };
        for completion in inbox.snapshot_completions.drain(..) {
            if snapshots.complete(completion, &mut outbox.snapshot_requests) {
                // At once: another one may begin below, and what is frozen twice is lost.
                self.views.iter_mut().for_each(|view| view.thaw());
            }
        }
        if let Some(log) = &mut self.log {
            log.release(snapshots.floor());
        }
        if let (Some(log), false) = (&mut self.log, self.adopted_record.is_empty()) {
            let Some(lsn) = log.try_append(RecordKind::ADOPTED, &self.adopted_record) else { return Ok(()) };
            self.last_record = Some(lsn);
            self.adopted_record.clear();
        }
        let durable = self.log.as_ref().map_or(Lsn(u64::MAX), Appender::durable);
        if snapshots.is_due() {
            let lsn = self.last_record.map_or(self.log_start, Lsn::next);
            // By the time the snapshot is installed, everything up to its LSN is durable.
            let frontier = self.pending.iter().fold(self.frontier, |frontier, next| frontier.max(next.frontier));
            let mut head = SnapshotHead::new(frontier, self.released, &self.counts, &self.ledger, &self.notes);
            head.adopted.clone_from(&self.adopted);
            self.views.iter_mut().for_each(|view| view.freeze());
            snapshots.begin(lsn, &head, &mut outbox.snapshot_requests)?;
        } else {
            // Also while none is under way: an old snapshot may be left to delete.
            let (partial, requests) = (&mut self.partial, &mut outbox.snapshot_requests);
            if snapshots.advance(&mut self.views, (durable, self.released), partial, requests)? {
                self.views.iter_mut().for_each(|view| view.thaw());
            }
        }
        Ok(())
    }
}
