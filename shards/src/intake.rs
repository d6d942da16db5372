//! What becomes of one batch in a shard: looked up in the ledger, appended, folded, noted and counted.
//!
//! When that happens is in [`crate::shard`].

use crate::batch::VerifiedBatch;
use crate::batch::wire::{AlignedBytes, BatchView, UnverifiedBatch};
use crate::lane_notes::LaneNote;
use crate::late::LateRows;
use crate::ledger::LaneKey;
use crate::live_lanes::LaneId;
use crate::shard::{Arrival, Inbox, Outbox, Pending, Shard, ShardError};
use crate::wal::RecordKind;
use corefold_aggregator::time::EventTime;

impl Shard {
    /// Knows all batches of a lane below `next` as seen: those that other shards have, from earlier runs, among them.
    pub fn know_lane(&mut self, id: LaneId, next: u64) {
        let key = LaneKey { producer: id.producer, lane: id.lane, part: 0 };
        self.ledger.insert_range(key, 0, next);
    }

    /// Appends a batch that has come alone while nothing is being written, before it is folded: the disk writes it meanwhile,
    /// if the caller carries out what is asked for before the step, which folds it. With more to do than that, writes are the
    /// fewer and larger the later they are begun, and this does nothing.
    pub fn append_first(&mut self, now_ns: u64, inbox: &Inbox, outbox: &mut Outbox) -> Result<(), ShardError> {
        if self.appended_first.is_some() || inbox.arrivals.len() != 1 || !inbox.completions.is_empty() {
            return Ok(());
        }
        if self.log.as_ref().is_none_or(|log| !log.is_drained()) {
            return Ok(());
        }
        let (stamp, bytes) = match inbox.arrivals.front() {
            Some(Arrival::Batch(bytes)) => (self.verify(bytes.as_slice())?.1.stamp(), bytes.as_slice()),
            Some(Arrival::Verified(batch)) => (batch.view().stamp(), batch.as_slice()),
            Some(Arrival::Frontier(_)) | None => return Ok(()),
        };
        if !self.ledger.contains(&stamp)
            && let Some(log) = &mut self.log
        {
            self.appended_first = log.try_append(RecordKind::BATCH, bytes);
            log.poll(now_ns, &mut outbox.requests);
        }
        Ok(())
    }

    /// Appends and folds one batch; false if the log has no room for it now.
    pub(crate) fn take_batch(&mut self, bytes: &AlignedBytes, outbox: &mut Outbox) -> Result<bool, ShardError> {
        let (stream, batch) = self.verify(bytes.as_slice())?;
        self.take(stream, &batch, bytes.as_slice(), outbox)
    }

    /// The same for a batch that was verified when it came.
    pub(crate) fn take_verified(&mut self, batch: &VerifiedBatch, outbox: &mut Outbox) -> Result<bool, ShardError> {
        let view = batch.view();
        let found = view.fingerprint();
        let stream = self.streams.iter().position(|stream| stream.fingerprint == found);
        let stream = stream.ok_or(ShardError::UnknownStream { found })?;
        self.take(stream, &view, batch.as_slice(), outbox)
    }

    fn take(
        &mut self,
        stream: usize,
        batch: &BatchView<'_>,
        bytes: &[u8],
        outbox: &mut Outbox,
    ) -> Result<bool, ShardError> {
        let stamp = batch.stamp();
        if self.ledger.contains(&stamp) {
            self.count_duplicate(stream, batch);
            self.pending.push_back(Pending {
                record: self.last_record,
                frontier: stamp.frontier,
                acknowledge: Some(stamp),
            });
            return Ok(true);
        }
        if let Some(log) = &mut self.log {
            let record = self.appended_first.take().or_else(|| log.try_append(RecordKind::BATCH, bytes));
            let Some(record) = record else { return Ok(false) };
            self.last_record = Some(record);
        }
        self.ledger.insert(&stamp);
        self.fold(stream, batch, outbox)?;
        self.note(batch, bytes.len());
        self.pending.push_back(Pending {
            record: self.last_record,
            frontier: stamp.frontier,
            acknowledge: Some(stamp),
        });
        Ok(true)
    }

    pub(crate) fn verify<'a>(&self, bytes: &'a [u8]) -> Result<(usize, BatchView<'a>), ShardError> {
        let unverified = UnverifiedBatch::new(bytes);
        let found = unverified.fingerprint();
        let stream = self
            .streams
            .iter()
            .position(|stream| Some(stream.fingerprint) == found)
            .ok_or(ShardError::UnknownStream { found: found.unwrap_or(0) })?;
        let stamp = unverified.stamp();
        let schema = &self.streams[stream];
        let batch = unverified.verify(schema.fingerprint, &schema.fields).map_err(|error| {
            let (producer, lane, sequence) = stamp.map_or((0, 0, 0), |s| (s.producer, s.lane, s.sequence));
            ShardError::Batch { producer, lane, sequence, error }
        })?;
        Ok((stream, batch))
    }

    pub(crate) fn fold(&mut self, stream: usize, batch: &BatchView<'_>, outbox: &mut Outbox) -> Result<(), ShardError> {
        let rows = batch.rows() as u64;
        let rejected = u64::from(batch.stamp().rejected);
        let counts = &mut self.counts.streams[stream];
        counts.batches += 1;
        counts.received += rows + rejected;
        // What stands for a batch that was shed has no rows, and a deadline before all time.
        if batch.stamp().deadline == EventTime::MIN {
            counts.shed += rejected;
        } else {
            counts.rejected += rejected;
        }
        for &view in &self.streams[stream].views {
            self.late_rows.clear();
            let folded = self.views[view].fold(batch, &mut self.late_rows)?;
            self.counts.views[view] += folded;
            if self.late_wanted && !self.late_rows.is_empty() {
                outbox.late.push((view, LateRows::of(batch, &self.late_rows)));
            }
        }
        self.counts.streams[stream].accepted += rows;
        Ok(())
    }

    /// Keeps what a snapshot will have to say of a batch.
    pub(crate) fn note(&mut self, batch: &BatchView<'_>, bytes: usize) {
        let Some(snapshots) = &mut self.snapshots else { return };
        snapshots.count(bytes);
        let time_max = (batch.rows() > 0).then(|| batch.time_max());
        self.notes.add(LaneNote { stamp: batch.stamp(), rows: batch.rows() as u64, time_max });
    }

    pub(crate) fn count_duplicate(&mut self, stream: usize, batch: &BatchView<'_>) {
        let rows = batch.rows() as u64 + u64::from(batch.stamp().rejected);
        self.counts.streams[stream].received += rows;
        self.counts.streams[stream].duplicate += rows;
    }
}
