//! A log on a disk of memory with a plain model beside it, shared by the tests of the log. No assertions about
//! recovery here.
#![allow(dead_code)]

use corefold_shards::wal::memory::MemoryDisk;
use corefold_shards::wal::supply::SupplyConfig;
use corefold_shards::wal::{
    Appender, AppenderConfig, Durability, LogIdentity, Lsn, RecordKind, Recovered, RecoveryError, ResumePoint,
    ScanOptions, scan,
};

pub const IDENTITY: LogIdentity = LogIdentity { store: *b"0123456789abcdef", shard: 7 };

/// A record as the model keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub lsn: Lsn,
    pub kind: RecordKind,
    pub payload: Vec<u8>,
}

pub struct Rig {
    pub appender: Appender,
    pub disk: MemoryDisk,
    /// Every record that the log took, in order.
    pub model: Vec<Kept>,
    pub now_ns: u64,
    requests: Vec<corefold_shards::wal::DiskRequest>,
}

pub fn tiny() -> AppenderConfig {
    AppenderConfig {
        identity: IDENTITY,
        durability: Durability::Sync,
        block_size: 4096,
        buffers: 3,
        writes_inflight_max: 2,
        idle_after_ns: 10_000_000,
        supply: SupplyConfig {
            segment_size: 12_288,
            segment_size_first: 12_288,
            spares_kept: 1,
            retry_after_ns: 1_000,
        },
    }
}

impl Rig {
    pub fn new(config: AppenderConfig) -> Rig {
        Rig::resume(config, MemoryDisk::new(IDENTITY, 1), ResumePoint::fresh(), Vec::new())
    }

    pub fn resume(config: AppenderConfig, disk: MemoryDisk, resume: ResumePoint, model: Vec<Kept>) -> Rig {
        Rig { appender: Appender::start(config, resume), disk, model, now_ns: 1_000, requests: Vec::new() }
    }

    /// Appends if there is room.
    pub fn append(&mut self, kind: RecordKind, payload: &[u8]) -> Option<Lsn> {
        let lsn = self.appender.try_append(kind, payload)?;
        self.model.push(Kept { lsn, kind, payload: payload.to_vec() });
        Some(lsn)
    }

    /// One turn: requests out, answers about segments in. Writes stay in flight.
    pub fn turn(&mut self) {
        self.requests.clear();
        self.appender.poll(self.now_ns, &mut self.requests);
        self.disk.submit(&self.requests, &self.appender);
        for answer in self.disk.take_answers() {
            self.appender.complete(answer, self.now_ns);
        }
    }

    /// Lets the write at `index` finish.
    pub fn finish(&mut self, index: usize) {
        let completion = self.disk.finish(index);
        self.appender.complete(completion, self.now_ns);
    }

    /// Turns until nothing is in flight.
    pub fn settle(&mut self) {
        loop {
            self.turn();
            if self.disk.pending().is_empty() {
                self.turn();
                if self.disk.pending().is_empty() {
                    return;
                }
            }
            self.finish(0);
        }
    }

    /// Appends, whatever it takes.
    pub fn append_settled(&mut self, kind: RecordKind, payload: &[u8]) -> Lsn {
        for _ in 0..1000 {
            if let Some(lsn) = self.append(kind, payload) {
                return lsn;
            }
            self.settle();
        }
        panic!("no room for {} bytes: {:?}", payload.len(), self.appender.stalled());
    }

    /// A quiet while: writes the IDLE block.
    pub fn idle(&mut self) {
        self.settle();
        self.now_ns += 20_000_000;
        self.settle();
    }

    /// Writes the SEAL block.
    pub fn seal(&mut self) {
        self.settle();
        self.appender.seal();
        self.settle();
        assert!(self.appender.is_drained());
    }

    /// Records of the model that may be acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.model.iter().filter(|record| record.lsn < self.appender.durable()).count()
    }
}

pub fn options() -> ScanOptions {
    ScanOptions { piece_size: 8192, ..ScanOptions::new(IDENTITY) }
}

/// Reads a log back.
pub fn read(disk: &mut MemoryDisk, options: &ScanOptions) -> Result<(Recovered, Vec<Kept>), RecoveryError> {
    let mut records = Vec::new();
    let recovered = scan(disk, options, |record| {
        assert_eq!(record.payload.as_ptr() as usize % 8, 0, "payloads are aligned");
        records.push(Kept { lsn: record.lsn, kind: record.kind, payload: record.payload.to_vec() });
        Ok::<(), RecoveryError>(())
    })?;
    Ok((recovered, records))
}

/// A small generator for tests: SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }

    pub fn payload(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.roll() as u8).collect()
    }
}
