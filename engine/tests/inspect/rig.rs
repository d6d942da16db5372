//! Logs that the real appender wrote to a disk in memory, put into files, and looks at them. No expectations here.

use std::fs;
use std::path::{Path, PathBuf};

use corefold_aggregator::spec::FieldType;
use corefold_aggregator::time::EventTime;
use corefold_engine::cli::args::InspectDetail;
use corefold_engine::exit::ExitCode;
use corefold_engine::feed::lanes::LANE_ENDED;
use corefold_engine::inspect::{self, InspectError, InspectOptions, Inspected};
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::wire::{AlignedBytes, Stamp, encode};
use corefold_shards::wal::memory::MemoryDisk;
use corefold_shards::wal::supply::SupplyConfig;
use corefold_shards::wal::{Appender, AppenderConfig, Durability, LogIdentity, RecordKind, ResumePoint, SegmentId};
use serde_json::Value;
use tempfile::TempDir;

pub const IDENTITY: LogIdentity = LogIdentity { store: *b"0123456789abcdef", shard: 0 };

pub const UUID: &str = "30313233-3435-3637-3839-616263646566";

pub const SEGMENT_SIZE: usize = 16_384;

/// A log in memory that is written block by block.
pub struct Rig {
    pub appender: Appender,
    pub disk: MemoryDisk,
    pub now_ns: u64,
}

impl Rig {
    pub fn new() -> Rig {
        Rig::resume(MemoryDisk::new(IDENTITY, 1), ResumePoint::fresh())
    }

    pub fn resume(disk: MemoryDisk, resume: ResumePoint) -> Rig {
        let supply = SupplyConfig {
            segment_size: SEGMENT_SIZE as u64,
            segment_size_first: SEGMENT_SIZE as u64,
            spares_kept: 1,
            retry_after_ns: 1_000,
        };
        let config = AppenderConfig {
            block_size: 4096,
            buffers: 3,
            writes_inflight_max: 2,
            supply,
            ..AppenderConfig::new(IDENTITY, Durability::Sync)
        };
        Rig { appender: Appender::start(config, resume), disk, now_ns: 1_500_000_000 }
    }

    pub fn turn(&mut self) {
        let mut requests = Vec::new();
        self.appender.poll(self.now_ns, &mut requests);
        self.disk.submit(&requests, &self.appender);
        for answer in self.disk.take_answers() {
            self.appender.complete(answer, self.now_ns);
        }
    }

    pub fn settle(&mut self) {
        for _ in 0..2 {
            self.turn();
            while !self.disk.pending().is_empty() {
                let completion = self.disk.finish(0);
                self.appender.complete(completion, self.now_ns);
                self.turn();
            }
        }
    }

    /// Appends a record and makes it durable: one block each.
    pub fn append(&mut self, kind: RecordKind, payload: &[u8]) {
        while self.appender.try_append(kind, payload).is_none() {
            self.settle();
        }
        self.settle();
    }

    pub fn seal(&mut self) {
        self.appender.seal();
        self.settle();
    }

    pub fn file(&mut self, segment: u64) -> &mut Vec<u8> {
        self.disk.files_mut().get_mut(&SegmentId(segment)).expect("a segment")
    }

    /// A data directory with this log.
    pub fn store(&self) -> TempDir {
        let root = tempfile::tempdir().expect("a temporary directory");
        let crc = crc32c::crc32c(format!("1 {UUID} 0").as_bytes());
        let text = format!("{{\"format\": 1, \"uuid\": \"{UUID}\", \"meta\": null, \"crc32c\": {crc}}}");
        fs::write(root.path().join("store.json"), text).expect("writable");
        fs::create_dir_all(root.path().join("shard-0000/wal")).expect("writable");
        for (segment, bytes) in self.disk.files() {
            fs::write(segment_path(root.path(), segment.0), bytes).expect("writable");
        }
        root
    }
}

/// Four batches: three blocks fill segment 1, segment 2 has one, segment 3 is a spare.
pub fn filled() -> Rig {
    let mut rig = Rig::new();
    for sequence in 0..4 {
        rig.append(RecordKind::BATCH, batch(sequence).as_slice());
    }
    rig
}

pub fn batch(sequence: u64) -> AlignedBytes {
    let mut columns = ColumnSet::new(&[] as &[FieldType]);
    columns.times.extend([1_357_020_000_000_000, 1_357_020_060_000_000]);
    let stamp = Stamp {
        first_row: sequence * 2,
        position: if sequence == 3 { LANE_ENDED } else { 100 * (sequence + 1) },
        watermark: if sequence == 0 { EventTime::MIN } else { EventTime(1_356_998_400_000_000) },
        frontier: if sequence == 3 { EventTime::MAX } else { EventTime(1_356_998_400_500_000) },
        rejected: u32::from(sequence == 2),
        ..Stamp::of_lane(0, 5, sequence)
    };
    let mut bytes = AlignedBytes::new();
    encode(&columns, 7, &stamp, &mut bytes).expect("small enough");
    bytes
}

pub fn segment_path(root: &Path, segment: u64) -> PathBuf {
    root.join("shard-0000/wal").join(SegmentId(segment).file_name())
}

pub fn try_look(path: &Path, options: InspectOptions) -> Result<(String, Inspected), InspectError> {
    let mut out = Vec::new();
    let seen = inspect::wal(path, options, &mut out)?;
    Ok((String::from_utf8(out).expect("text"), seen))
}

pub fn look(path: &Path) -> (String, ExitCode) {
    let (text, seen) = try_look(path, InspectOptions::default()).expect("readable");
    (text, seen.exit_code())
}

pub fn look_json(path: &Path, detail: InspectDetail) -> (Vec<Value>, ExitCode) {
    let options = InspectOptions { json: true, detail, ..InspectOptions::default() };
    let (text, seen) = try_look(path, options).expect("readable");
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    (lines.collect(), seen.exit_code())
}

pub fn of_type<'v>(values: &'v [Value], name: &'static str) -> impl Iterator<Item = &'v Value> {
    values.iter().filter(move |value| value["type"] == name)
}

#[track_caller]
pub fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}
