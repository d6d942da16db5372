//! The writing half of the log: fills blocks, decides when they go out, keeps the cursors.
//!
//! A group commit needs no timer: whenever the device has room and there is data, the block goes out, so load makes
//! groups grow by itself. After the first failed or short write the log is latched. Reading is not here.

use std::collections::VecDeque;

use super::block::{BlockPool, BlockShare};
use super::config::{AppenderConfig, Durability};
use super::error::WalError;
use super::io::{BufferIndex, DiskCompletion, DiskRequest};
use super::layout::{
    ALIGNMENT, BLOCK_FLAG_IDLE, BLOCK_FLAG_SEAL, BLOCK_HEADER_SIZE, ChecksumSeed, FRAGMENT_HEADER_SIZE,
    OPENING_FLAG_UNSYNCED, RECORD_LENGTH_MAX, SEGMENT_HEADER_SIZE, pad_to_block,
};
use super::lsn::{Lsn, SegmentId};
use super::outgoing::{Filling, Outgoing, Place, WriteState};
use super::record::{Fragment, RecordKind};
use super::repair::ResumePoint;
use super::segment::{Opening, SegmentSpan};
use super::supply::{Stall, Supply};

/// The writing half of one shard's log. See the module.
#[derive(Debug)]
pub struct Appender {
    config: AppenderConfig,
    pool: BlockPool,
    free: Vec<BufferIndex>,
    filling: Option<Filling>,
    outgoing: VecDeque<Outgoing>,
    inflight: usize,
    supply: Supply,
    current: Option<Place>,
    closing: VecDeque<SegmentId>,
    partial: Option<Partial>,
    resume: ResumePoint,
    chain: u32,
    appended: Lsn,
    written: Lsn,
    durable: Lsn,
    quiet_since_ns: u64,
    last_is_quiet: bool,
    seal: Seal,
    latched: Option<WalError>,
}

#[derive(Clone, Copy, Debug)]
struct Partial {
    kind: RecordKind,
    length: usize,
    done: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seal {
    Open,
    Asked,
    Written,
}

impl Appender {
    /// Starts a session behind what recovery found. A new segment is begun with the first record.
    ///
    /// Panics if the config does not pass [`AppenderConfig::check`].
    pub fn start(config: AppenderConfig, resume: ResumePoint) -> Appender {
        if let Err(reason) = config.check() {
            panic!("{reason}");
        }
        let pool = BlockPool::new(config.buffers, config.block_size);
        let (spans, spares) = (resume.spans.clone(), resume.spares.clone());
        let size_min = (SEGMENT_HEADER_SIZE + config.block_size) as u64;
        Appender {
            free: (0..config.buffers as u16).rev().map(BufferIndex).collect(),
            filling: None,
            outgoing: VecDeque::with_capacity(config.buffers),
            inflight: 0,
            supply: Supply::new(config.supply, spans, spares, resume.next_segment, size_min),
            current: None,
            closing: VecDeque::with_capacity(8),
            partial: None,
            chain: resume.previous_crc,
            appended: resume.next_lsn,
            written: resume.next_lsn,
            durable: resume.next_lsn,
            quiet_since_ns: 0,
            last_is_quiet: true,
            seal: Seal::Open,
            latched: None,
            pool,
            config,
            resume,
        }
    }

    /// One past the last entry that was taken.
    pub fn appended(&self) -> Lsn {
        self.appended
    }

    /// One past the last entry that was handed to the device.
    pub fn written(&self) -> Lsn {
        self.written
    }

    /// One past the last entry of the longest finished prefix: what may be acknowledged.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Why nothing more is acknowledged, if so.
    pub fn latched(&self) -> Option<&WalError> {
        self.latched.as_ref()
    }

    /// Set while no new segment can be had (for example because the disk is full) and none is left: entries are
    /// pushed back, and the caller decides how long to bear it.
    pub fn stalled(&self) -> Option<&Stall> {
        self.supply.stall()
    }

    /// Whether a segment is being prepared or removed.
    pub fn is_preparing(&self) -> bool {
        self.supply.is_busy()
    }

    /// Whether nothing is waiting to be written or in flight; after [`Appender::seal`] also that the SEAL block is
    /// down. A latched log is drained once no write is in flight. A segment may still be in preparation.
    pub fn is_drained(&self) -> bool {
        if self.latched.is_some() {
            return self.inflight == 0;
        }
        self.is_quiet() && self.seal != Seal::Asked
    }

    /// The buffers, for the side that carries writes out.
    pub fn share(&self) -> BlockShare {
        self.pool.share()
    }

    /// Bytes of one buffer, for a disk that copies.
    pub fn block(&self, buffer: BufferIndex) -> &[u8] {
        self.pool.bytes(buffer)
    }

    /// Segments in use, oldest first.
    pub fn spans(&self) -> impl Iterator<Item = &SegmentSpan> {
        self.supply.spans()
    }

    /// The length of the longest record that `try_append` would take whole right now.
    pub fn room(&self) -> usize {
        if !self.takes_entries() || self.partial.is_some() {
            return 0;
        }
        let space =
            self.filling.as_ref().filter(|filling| filling.count < u16::MAX).map_or(0, |filling| {
                (self.config.block_size - filling.filled).saturating_sub(FRAGMENT_HEADER_SIZE) & !7
            });
        // What is longer than a piece is cut, even if a block without an OPENING could hold it whole.
        let piece_max = self.config.piece_max();
        space.min(piece_max).max(self.blocks_available() * piece_max).min(RECORD_LENGTH_MAX)
    }

    /// Takes a record and returns the LSN of its last fragment: it is durable once `durable()` is greater. `None`:
    /// no room, push back.
    ///
    /// A record that is larger than the whole pool is taken in steps, between which blocks must be written: after
    /// `None` come again with the same record; until it is complete no other record is taken.
    pub fn try_append(&mut self, kind: RecordKind, payload: &[u8]) -> Option<Lsn> {
        assert!(!kind.is_control(), "control entries are the log's own");
        assert!(payload.len() <= RECORD_LENGTH_MAX, "a record has at most {RECORD_LENGTH_MAX} bytes");
        if !self.takes_entries() {
            return None;
        }
        let piece_max = self.config.piece_max();
        if payload.len() > piece_max {
            return self.append_pieces(kind, payload, piece_max);
        }
        if self.partial.is_some() {
            return None;
        }
        let fragment = Fragment::cut(kind, payload, 0, payload.len());
        if self.filling.as_ref().is_none_or(|filling| {
            filling.filled + fragment.size() > self.config.block_size || filling.count == u16::MAX
        }) && !self.turn_block()
        {
            return None;
        }
        Some(self.push(&fragment))
    }

    /// Hands out what is to be done now. `now_ns` is any clock that rarely goes back.
    pub fn poll(&mut self, now_ns: u64, out: &mut Vec<DiskRequest>) {
        self.poll_writes(now_ns, out);
        if self.latched.is_none() {
            self.poll_quiet(now_ns, out);
            // A log that is being shut down asks for a segment only if the SEAL block needs one.
            if self.seal == Seal::Open || (self.seal == Seal::Asked && !self.can_begin(ALIGNMENT)) {
                self.supply.poll(now_ns, self.durable, out);
            }
        }
        while let Some(&segment) = self.closing.front() {
            if self.outgoing.iter().any(|write| write.place.segment == segment) {
                break;
            }
            self.closing.pop_front();
            out.push(DiskRequest::Close { segment });
        }
        self.assert_invariants();
    }

    /// When `poll` wants to be called again although nothing completes and nothing is appended.
    pub fn due_ns(&self) -> Option<u64> {
        if self.latched.is_some() {
            return None;
        }
        let idle = (!self.last_is_quiet && self.is_quiet() && self.can_begin(ALIGNMENT))
            .then(|| self.quiet_since_ns.saturating_add(self.config.idle_after_ns));
        [idle, self.supply.due_ns()].into_iter().flatten().min()
    }

    /// Takes a completion. Anything but a full write latches the log.
    pub fn complete(&mut self, completion: DiskCompletion, now_ns: u64) {
        let DiskCompletion::Write { segment, offset, buffer, result } = completion else {
            self.supply.complete(&completion);
            return;
        };
        let write = self
            .outgoing
            .iter_mut()
            .find(|write| write.buffer == buffer && write.state == WriteState::Submitted)
            .expect("a completion answers a write in flight");
        assert_eq!((write.place.segment, write.place.offset), (segment, offset));
        self.inflight -= 1;
        self.quiet_since_ns = now_ns;
        match result {
            Ok(written) if written == write.length => write.state = WriteState::Done,
            Ok(written) => {
                let expected = write.length;
                self.latch(WalError::ShortWrite { segment, offset, written, expected });
            }
            Err(errno) => self.latch(WalError::WriteFailed { segment, offset, errno }),
        }
        if self.latched.is_none() {
            while let Some(write) = self.outgoing.front().filter(|write| write.state == WriteState::Done) {
                self.durable = write.header.end_lsn();
                if write.header.flags & BLOCK_FLAG_SEAL != 0 {
                    self.seal = Seal::Written;
                }
                self.free.push(write.buffer);
                self.outgoing.pop_front();
            }
        }
        self.assert_invariants();
    }

    /// Everything below `floor` is safe elsewhere: segments that hold nothing else may be reused.
    pub fn release(&mut self, floor: Lsn) {
        self.supply.release(floor.min(self.durable));
    }

    /// Takes no more records; once all are durable a SEAL block is written. A record taken only in part is given up.
    pub fn seal(&mut self) {
        if self.seal == Seal::Open {
            let nothing_to_say = self.current.is_none() && self.filling.is_none() && self.resume.is_sealed;
            self.seal = if nothing_to_say { Seal::Written } else { Seal::Asked };
            self.partial = None;
        }
    }

    fn takes_entries(&self) -> bool {
        self.latched.is_none() && self.seal == Seal::Open
    }

    fn latch(&mut self, error: WalError) {
        self.latched.get_or_insert(error);
    }

    /// Appends the pieces of a large record, each to a block of its own.
    fn append_pieces(&mut self, kind: RecordKind, payload: &[u8], piece_max: usize) -> Option<Lsn> {
        let progress = match self.partial {
            Some(partial) if (partial.kind, partial.length) == (kind, payload.len()) => partial,
            Some(_) => return None,
            None => {
                let blocks = payload.len().div_ceil(piece_max);
                if blocks > self.blocks_available() && blocks <= self.blocks_assured() {
                    return None;
                }
                Partial { kind, length: payload.len(), done: 0 }
            }
        };
        let mut done = progress.done;
        let mut last = None;
        while done < payload.len() {
            if !self.turn_block() {
                self.partial = (done > 0).then_some(Partial { done, ..progress });
                return None;
            }
            let fragment = Fragment::cut(kind, payload, done, piece_max);
            last = Some(self.push(&fragment));
            done += fragment.payload.len();
        }
        self.partial = None;
        last
    }

    /// Blocks that could be begun right now, one after the other.
    fn blocks_available(&self) -> usize {
        let block_size = self.config.block_size as u64;
        let filling = self.filling.as_ref().map_or(0, |filling| pad_to_block(filling.filled) as u64);
        let here = self.current.map_or(0, |current| (current.size - current.offset - filling) / block_size);
        let spares: u64 =
            self.supply.spares().map(|spare| (spare.size - SEGMENT_HEADER_SIZE as u64) / block_size).sum();
        self.free.len().min((here + spares) as usize)
    }

    /// Blocks that can be had at once after some waiting. Spares at hand stay as they are, and those of an earlier
    /// session may be smaller than new ones.
    fn blocks_assured(&self) -> usize {
        let supply = &self.config.supply;
        let blocks = |size: u64| (size - SEGMENT_HEADER_SIZE as u64) / self.config.block_size as u64;
        let (at_hand, count) =
            self.supply.spares().fold((0, 0), |(all, count), spare| (all + blocks(spare.size), count + 1));
        let missing = supply.spares_kept.saturating_sub(count) as u64;
        let new = missing * blocks(supply.segment_size_first.min(supply.segment_size));
        // One buffer may be held by a block that only a poll sends off.
        (self.config.buffers - 1).min((at_hand + new) as usize)
    }

    /// Closes the block that fills, if any, and begins the next one. On failure nothing has changed but that.
    fn turn_block(&mut self) -> bool {
        self.close_block();
        self.begin_block(self.config.block_size, 0)
    }

    /// Begins a block that needs up to `size` bytes of a segment; opens the next segment if this one is too full.
    fn begin_block(&mut self, size: usize, flags: u16) -> bool {
        assert!(self.filling.is_none());
        if !self.can_begin(size) {
            return false;
        }
        let opening = (!self.fits_here(size)).then(|| self.open_segment());
        let buffer = self.free.pop().expect("checked above");
        self.filling = Some(Filling { buffer, first_lsn: self.appended, filled: BLOCK_HEADER_SIZE, count: 0, flags });
        if let Some(opening) = opening {
            let payload = opening.encode();
            self.push(&Fragment::cut(RecordKind::OPENING, &payload, 0, payload.len()));
        }
        true
    }

    fn can_begin(&self, size: usize) -> bool {
        !self.free.is_empty() && (self.fits_here(size) || self.supply.spares().next().is_some())
    }

    fn fits_here(&self, size: usize) -> bool {
        self.current.is_some_and(|current| current.offset + size as u64 <= current.size)
    }

    /// Makes the next spare the current segment and returns what its first entry says.
    fn open_segment(&mut self) -> Opening {
        let spare = self.supply.take(self.appended).expect("the caller has looked");
        let identity = self.config.identity;
        let unsynced = if self.config.durability == Durability::Os { OPENING_FLAG_UNSYNCED } else { 0 };
        let opening = match self.current {
            Some(current) => {
                self.closing.push_back(current.segment);
                Opening {
                    previous: current.segment,
                    previous_end: current.offset,
                    flags: unsynced,
                    dropped_blocks: 0,
                    dropped_bytes: 0,
                }
            }
            None => {
                let opening = self.resume.opening();
                Opening { flags: opening.flags | unsynced, ..opening }
            }
        };
        self.current = Some(Place {
            segment: spare.segment,
            size: spare.size,
            seed: ChecksumSeed::new(&identity.store, identity.shard, spare.segment, spare.salt),
            salt: spare.salt,
            offset: SEGMENT_HEADER_SIZE as u64,
        });
        opening
    }

    /// Adds an entry to the block that fills; the caller has made sure that it fits.
    fn push(&mut self, fragment: &Fragment<'_>) -> Lsn {
        let filling = self.filling.as_mut().expect("a block was begun");
        let bytes = self.pool.bytes_mut(filling.buffer);
        filling.filled += fragment.encode(&mut bytes[filling.filled..]);
        filling.count += 1;
        let lsn = self.appended;
        self.appended = lsn.next();
        self.supply.extend(self.appended);
        lsn
    }

    /// Puts the block that fills in line.
    fn close_block(&mut self) {
        let Some(filling) = self.filling.take() else { return };
        let current = self.current.as_mut().expect("the block was begun in it");
        let bytes = self.pool.bytes_mut(filling.buffer);
        let closed = filling.close(*current, bytes);
        current.offset += u64::from(closed.length);
        self.outgoing.push_back(closed);
    }

    /// Sends blocks off while the device has room; the one that fills goes too, if none is before it.
    fn poll_writes(&mut self, now_ns: u64, out: &mut Vec<DiskRequest>) {
        while self.latched.is_none() && self.inflight < self.config.writes_inflight_max {
            let ready = self.outgoing.iter().position(|write| write.state == WriteState::Ready);
            let Some(index) = ready else {
                if self.filling.is_none() {
                    break;
                }
                self.close_block();
                continue;
            };
            out.push(self.submit(index, now_ns));
        }
    }

    /// Completes the header of a block and hands it out. Blocks are submitted in the order of their LSNs, so the
    /// chain of checksums is the order on disk.
    fn submit(&mut self, index: usize, now_ns: u64) -> DiskRequest {
        let claim = match self.config.durability {
            Durability::Sync => self.durable,
            Durability::Os => self.resume.next_lsn,
        };
        let write = &mut self.outgoing[index];
        write.submit(self.pool.bytes_mut(write.buffer), self.chain, claim, now_ns);
        assert_eq!(self.written, write.header.first_lsn);
        self.chain = write.header.header_crc;
        self.written = write.header.end_lsn();
        self.last_is_quiet = write.header.flags != 0;
        self.inflight += 1;
        write.request(self.config.durability == Durability::Sync)
    }

    fn is_quiet(&self) -> bool {
        self.outgoing.is_empty() && self.filling.is_none()
    }

    /// Writes the empty blocks: IDLE after a quiet while, SEAL when asked for and all else is down.
    fn poll_quiet(&mut self, now_ns: u64, out: &mut Vec<DiskRequest>) {
        if !self.is_quiet() {
            return;
        }
        let (kind, flags) = match self.seal {
            Seal::Asked => (RecordKind::SEAL, BLOCK_FLAG_SEAL),
            Seal::Open if !self.last_is_quiet && self.idle_is_due(now_ns) => (RecordKind::IDLE, BLOCK_FLAG_IDLE),
            Seal::Open | Seal::Written => return,
        };
        if !self.begin_block(ALIGNMENT, flags) {
            return;
        }
        self.push(&Fragment::cut(kind, &[], 0, 0));
        self.poll_writes(now_ns, out);
    }

    fn idle_is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.quiet_since_ns.saturating_add(self.config.idle_after_ns)
    }

    fn assert_invariants(&self) {
        assert!(self.durable <= self.written);
        assert!(self.written <= self.appended);
        assert!(self.inflight <= self.config.writes_inflight_max);
        let held = self.outgoing.len() + usize::from(self.filling.is_some());
        assert!(self.free.len() + held == self.config.buffers);
    }
}
