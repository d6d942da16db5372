//! The writing half: decides when a snapshot is due, hands its pieces out one by one, keeps the two newest.
//!
//! A snapshot is of the moment at which it began; ingestion goes on beside it. It is installed only once every record
//! that is in it is durable in the log: otherwise a crash would leave an image that knows more than the log. Where the
//! pieces come from is [`crate::fold::image`].

use super::format::{ChunkEntry, ChunkKind, ENTRY_SIZE, HEADER_SIZE, SnapshotHeader, pad};
use super::head::SnapshotHead;
use super::io::{SnapshotCompletion, SnapshotRequest};
use crate::fold::view_fold::ViewFold;
use crate::wal::{LogIdentity, Lsn};
use corefold_aggregator::partial::{Partial, PartialError};
use corefold_aggregator::time::{EventTime, PaneId};
use rkyv::util::AlignedVec;
use std::collections::VecDeque;

/// Snapshots that are kept.
pub const SNAPSHOTS_KEPT: usize = 2;

/// Pieces that may be on their way to the disk.
const WRITES_MAX: usize = 2;

/// When a snapshot is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// Whose image.
    pub identity: LogIdentity,
    /// Fingerprint of the views and streams.
    pub plan: u64,
    /// Bytes of records since the last one at which one is due.
    pub wal_bytes: u64,
    /// Batches since the last one at which one is due.
    pub batches: u64,
}

/// An installed snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotKept {
    /// Which one.
    pub generation: u64,
    /// All records below are in it.
    pub lsn: Lsn,
    /// Bytes of its file.
    pub size: u64,
}

/// See the module.
#[derive(Debug)]
pub struct SnapshotWriter {
    config: SnapshotConfig,
    kept: VecDeque<SnapshotKept>,
    /// Snapshots that are not sound or no longer needed, to be deleted one by one.
    removing: VecDeque<u64>,
    is_removing: bool,
    generation_next: u64,
    /// Bytes and batches since the last snapshot began.
    bytes: u64,
    batches: u64,
    /// How much more than usual must come before another attempt, after failures.
    patience: u32,
    /// Snapshots that are due whatever the counts say.
    wanted: u32,
    under_way: Option<UnderWay>,
    /// The last failure, until one succeeds.
    failure: Option<i32>,
    /// Buffers that came back.
    spare: Vec<AlignedVec>,
}

#[derive(Debug)]
struct UnderWay {
    generation: u64,
    lsn: Lsn,
    at: Place,
    offset: u64,
    table: Vec<ChunkEntry>,
    table_at: u64,
    table_crc: u32,
    /// What was released when the last piece was taken.
    released: EventTime,
    writes: usize,
    failed: Option<i32>,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Place {
    Groups { view: usize, slot: u32 },
    Panes { view: usize, pane: PaneId, row: usize },
    Table,
    Header,
    Installing,
}

impl SnapshotWriter {
    /// Goes on behind the snapshots that recovery found sound, oldest first; `stale` ones are deleted when a new one is
    /// there.
    pub fn new(config: SnapshotConfig, kept: Vec<SnapshotKept>, stale: Vec<u64>) -> SnapshotWriter {
        let newest = kept.iter().map(|kept| kept.generation).chain(stale.iter().copied()).max();
        SnapshotWriter {
            config,
            kept: kept.into(),
            removing: stale.into(),
            is_removing: false,
            generation_next: newest.map_or(1, |newest| newest + 1),
            bytes: 0,
            batches: 0,
            patience: 1,
            wanted: 0,
            under_way: None,
            failure: None,
            spare: Vec::new(),
        }
    }

    /// Counts a record.
    pub fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.batches += 1;
    }

    /// Asks for `count` snapshots as soon as possible.
    pub fn want(&mut self, count: u32) {
        self.wanted = self.wanted.max(count);
    }

    /// Asks for one if there are batches that the newest does not hold. A shard that never had any has none: so a log
    /// without entries beside a snapshot has lost them.
    pub fn want_newest(&mut self) {
        if self.batches > 0 {
            self.want(1);
        }
    }

    /// The generation of the next snapshot that begins.
    pub fn generation_next(&self) -> u64 {
        self.generation_next
    }

    /// Whether one should begin now. After a failure it takes more to try again, but for one that was asked for.
    pub fn is_due(&self) -> bool {
        let last = self.kept.back().map_or(0, |kept| kept.size);
        let config = &self.config;
        let grown = self.bytes >= config.wal_bytes || self.batches >= config.batches;
        let is_grown = grown && self.bytes >= last.saturating_mul(4).saturating_mul(u64::from(self.patience));
        self.under_way.is_none() && (is_grown || self.wanted > 0)
    }

    /// Whether one is under way.
    pub fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether nothing is under way nor asked for.
    pub fn is_settled(&self) -> bool {
        let removes = self.is_removing || (self.kept.len() == SNAPSHOTS_KEPT && !self.removing.is_empty());
        self.under_way.is_none() && self.wanted == 0 && !removes
    }

    /// Snapshots that are installed, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &SnapshotKept> {
        self.kept.iter()
    }

    /// Why the last attempt failed (an errno), if it did.
    pub fn failure(&self) -> Option<i32> {
        self.failure
    }

    /// Records below this are in every snapshot that may be needed.
    pub fn floor(&self) -> Lsn {
        if self.kept.len() < SNAPSHOTS_KEPT { Lsn::ZERO } else { self.kept[0].lsn }
    }

    /// Begins a snapshot of all records below `lsn`; the views are frozen by the caller.
    pub fn begin(&mut self, lsn: Lsn, head: &SnapshotHead, out: &mut Vec<SnapshotRequest>) -> Result<(), PartialError> {
        assert!(self.under_way.is_none(), "one at a time");
        let mut under_way = UnderWay {
            generation: self.generation_next,
            lsn,
            at: Place::Groups { view: 0, slot: 0 },
            offset: HEADER_SIZE as u64,
            table: Vec::new(),
            table_at: 0,
            table_crc: 0,
            released: EventTime::MIN,
            writes: 0,
            failed: None,
        };
        under_way.push(&self.config.identity, ChunkKind::Head, head.archive(AlignedVec::new())?, out);
        self.generation_next += 1;
        (self.bytes, self.batches) = (0, 0);
        self.wanted = self.wanted.saturating_sub(1);
        self.under_way = Some(under_way);
        Ok(())
    }

    /// Hands out what can be written now; at most one piece. `durable` is the log's cursor; panes below `released` are no
    /// more in the views. Returns whether the views may be thawed: all pieces have been taken from them.
    pub fn advance(
        &mut self,
        views: &mut [ViewFold],
        (durable, released): (Lsn, EventTime),
        partial: &mut Partial,
        out: &mut Vec<SnapshotRequest>,
    ) -> Result<bool, PartialError> {
        self.remove_one(out);
        let Some(under_way) = &mut self.under_way else { return Ok(false) };
        if under_way.failed.is_some() || under_way.writes >= WRITES_MAX {
            return Ok(false);
        }
        let identity = &self.config.identity;
        match under_way.at {
            Place::Groups { view, .. } if view == views.len() => {
                under_way.at = Place::Panes { view: 0, pane: PaneId(i64::MIN), row: 0 };
            }
            Place::Groups { view, slot } => {
                partial.clear();
                partial.view = view as u32;
                let next = views[view].write_groups(slot, partial);
                if !partial.announced.is_empty() {
                    under_way.push(
                        identity,
                        ChunkKind::Groups,
                        partial.archive(self.spare.pop().unwrap_or_default())?,
                        out,
                    );
                }
                under_way.at = match next {
                    Some(slot) => Place::Groups { view, slot },
                    None => Place::Groups { view: view + 1, slot: 0 },
                };
            }
            Place::Panes { view, .. } if view == views.len() => {
                under_way.released = released;
                under_way.at = Place::Table;
                return Ok(true);
            }
            Place::Panes { view, pane, row } => {
                partial.clear();
                partial.view = view as u32;
                let next = views[view].write_image((pane, row), partial);
                if !partial.slots.is_empty() {
                    under_way.push(
                        identity,
                        ChunkKind::Pane,
                        partial.archive(self.spare.pop().unwrap_or_default())?,
                        out,
                    );
                }
                under_way.at = match next {
                    Some((pane, row)) => Place::Panes { view, pane, row },
                    None => Place::Panes { view: view + 1, pane: PaneId(i64::MIN), row: 0 },
                };
            }
            Place::Table => {
                under_way.push_table(identity, out);
                under_way.at = Place::Header;
            }
            Place::Header if under_way.writes == 0 && durable >= under_way.lsn => {
                let header = SnapshotHeader {
                    identity: *identity,
                    generation: under_way.generation,
                    plan: self.config.plan,
                    lsn: under_way.lsn,
                    table_at: under_way.table_at,
                    chunks: under_way.table.len() as u64,
                    table_crc: under_way.table_crc,
                    released: under_way.released,
                };
                out.push(SnapshotRequest::Install { generation: under_way.generation, header: header.encode() });
                under_way.at = Place::Installing;
            }
            Place::Header | Place::Installing => {}
        }
        Ok(false)
    }

    /// Takes a completion. Returns whether the views may be thawed: the snapshot is given up.
    pub fn complete(&mut self, completion: SnapshotCompletion, out: &mut Vec<SnapshotRequest>) -> bool {
        match completion {
            SnapshotCompletion::Written { generation, bytes, result } => {
                self.spare.push(bytes);
                let under_way = self.under_way.as_mut().filter(|under_way| under_way.generation == generation);
                let under_way = under_way.expect("a completion answers a write in flight");
                under_way.writes -= 1;
                if let Err(errno) = result {
                    under_way.failed.get_or_insert(errno);
                }
                match under_way.failed {
                    Some(errno) if under_way.writes == 0 => {
                        out.push(SnapshotRequest::Abandon { generation });
                        self.give_up(errno);
                        true
                    }
                    _ => false,
                }
            }
            SnapshotCompletion::Installed { generation, result: Ok(()) } => {
                let under_way = self.under_way.take().filter(|under_way| under_way.generation == generation);
                let under_way = under_way.expect("a completion answers a request");
                self.spare.clear();
                self.kept.push_back(SnapshotKept { generation, lsn: under_way.lsn, size: under_way.offset });
                while self.kept.len() > SNAPSHOTS_KEPT {
                    self.removing.extend(self.kept.pop_front().map(|kept| kept.generation));
                }
                (self.patience, self.failure) = (1, None);
                false
            }
            SnapshotCompletion::Installed { result: Err(errno), .. } => {
                self.give_up(errno);
                true
            }
            SnapshotCompletion::Removed { result, .. } => {
                self.is_removing = false;
                // A file that cannot be deleted now is found at the next start.
                self.failure = self.failure.or(result.err());
                false
            }
        }
    }

    fn give_up(&mut self, errno: i32) {
        self.under_way = None;
        self.failure = Some(errno);
        self.patience = self.patience.saturating_mul(2).min(64);
    }

    /// Old snapshots go once two newer ones are there.
    fn remove_one(&mut self, out: &mut Vec<SnapshotRequest>) {
        if self.is_removing || self.kept.len() < SNAPSHOTS_KEPT {
            return;
        }
        if let Some(generation) = self.removing.pop_front() {
            self.is_removing = true;
            out.push(SnapshotRequest::Remove { generation });
        }
    }
}

impl UnderWay {
    fn push(&mut self, identity: &LogIdentity, kind: ChunkKind, mut bytes: AlignedVec, out: &mut Vec<SnapshotRequest>) {
        let (offset, length) = (self.offset, bytes.len() as u64);
        bytes.resize((pad(offset + length) - offset) as usize, 0);
        let seed = SnapshotHeader::seed(identity, self.generation, offset);
        let entry = ChunkEntry { offset, length, kind, crc: crc32c::crc32c_append(seed, &bytes) };
        self.table.push(entry);
        self.write(bytes, out);
    }

    fn push_table(&mut self, identity: &LogIdentity, out: &mut Vec<SnapshotRequest>) {
        self.table_at = self.offset;
        let mut bytes = AlignedVec::new();
        bytes.resize(self.table.len() * ENTRY_SIZE, 0);
        for (entry, into) in self.table.iter().zip(bytes.chunks_exact_mut(ENTRY_SIZE)) {
            entry.encode(into);
        }
        let seed = SnapshotHeader::seed(identity, self.generation, self.table_at);
        self.table_crc = crc32c::crc32c_append(seed, &bytes);
        self.write(bytes, out);
    }

    fn write(&mut self, bytes: AlignedVec, out: &mut Vec<SnapshotRequest>) {
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        self.writes += 1;
        out.push(SnapshotRequest::Write { generation: self.generation, offset, bytes });
    }
}
