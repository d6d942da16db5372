//! The hand-written loop that also keeps its events: checksummed blocks of 256 KiB, each written past the page cache and
//! synced, into a file that is there already. And the disk's own synced write, alone.
//!
//! The loop goes on while blocks are in flight, and waits for a free one. It could not recover: there is no format.

use super::digest::Digest;
use super::events::{Events, Values};
use super::hand::{Outcome, Panes, Value};
use super::params::{ParamSpec, Params};
use super::program::Place;
use super::question;
use super::reference::{self, Windows};
use super::slots::{Hashed, Slots};
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use hdrhistogram::Histogram;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// What direct writes are multiples of.
pub const ALIGNMENT: usize = 4_096;

/// Size of a block.
const BLOCK_SIZE: usize = 256 << 10;

/// A block begins with the checksum and the size of its content.
const HEADER_SIZE: usize = 16;

/// Events that fit into a block.
const BLOCK_EVENTS: usize = (BLOCK_SIZE - HEADER_SIZE) / 24;

/// Size of the file, which is written again and again.
const FILE_SIZE: usize = 64 << 20;

/// Synced writes that are measured of a disk.
const DEVICE_WRITES: usize = 200;

/// See the module.
pub struct HandSynced;

impl Scenario for HandSynced {
    fn name(&self) -> &'static str {
        "hand-synced"
    }

    fn about(&self) -> &'static str {
        "the hand-written loop that also writes its events as checksummed, synced blocks of 256 KiB"
    }

    fn params(&self) -> Vec<ParamSpec> {
        let own = [ParamSpec::count("inflight", ["4", "2"], [1, 64], "writes in flight")];
        question::params().into_iter().chain(own).collect()
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let (events, windows) = (Events::make(params)?, question::windows(params)?);
        check(&events, windows)?;
        Ok(Box::new(PreparedSynced {
            expected: reference::answer(&events, windows)?,
            inflight: params.size("inflight")?,
            place: Place::new(setting.scratch.join("hand-synced"))?,
            setting: setting.clone(),
            events,
            windows,
        }))
    }
}

/// Whether the loop can answer the question: its blocks have 24 bytes for an event.
pub fn check(events: &Events, windows: Windows) -> Result<(), BenchError> {
    super::hand::check(events, windows)?;
    if events.texts.is_some() {
        let what = "the blocks of the hand-written loop have no room for texts".to_owned();
        return Err(BenchError::Param { name: "key".to_owned(), what });
    }
    Ok(())
}

struct PreparedSynced {
    events: Events,
    windows: Windows,
    inflight: usize,
    place: Place,
    setting: Setting,
    expected: Digest,
}

impl Prepared for PreparedSynced {
    fn expected(&self) -> Digest {
        self.expected
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let _pin = self.setting.cores.pin(0)?;
        let outcome = run(&self.events, self.windows, &self.place.0, self.inflight)?;
        let events = self.events.len() as f64;
        let seconds = outcome.total.as_secs_f64();
        let metrics = vec![
            Metric::cost("total", "ns/event", seconds * 1e9 / events),
            Metric::rate("throughput", "M events/s", events / seconds / 1e6),
        ];
        Ok(Round { metrics, digest: outcome.digest, latency: None })
    }
}

/// Answers the question over `events` and keeps them in a file in `directory`; done when the last block is durable.
pub fn run(events: &Events, windows: Windows, directory: &Path, inflight: usize) -> Result<Outcome, BenchError> {
    let file = open(&directory.join("blocks"), FILE_SIZE).map_err(BenchError::io("cannot make the file of blocks"))?;
    match &events.values {
        Values::F64(values) => fold(events, values, windows, &file, inflight),
        Values::I64(values) => fold(events, values, windows, &file, inflight),
    }
}

fn fold<V: Value + bytemuck::NoUninit>(
    events: &Events,
    values: &[V],
    windows: Windows,
    file: &File,
    inflight: usize,
) -> Result<Outcome, BenchError> {
    std::thread::scope(|scope| {
        let (done, free) = channel();
        let mut writers = Vec::new();
        for writer in 0..inflight {
            let (send, receive) = channel();
            let done = done.clone();
            scope.spawn(move || write_blocks(file, writer, &receive, &done));
            writers.push(send);
        }
        // Two buffers per writer: one is filled while the other is on its way.
        let mut spare: Vec<Aligned> = (0..=inflight).map(|_| Aligned::new(BLOCK_SIZE)).collect();
        let mut idle: Vec<usize> = (0..inflight).collect();
        let began = Instant::now();
        let (mut panes, mut slots) = (Panes::<V>::new(windows, events.disorder_us), Hashed::new());
        let mut offset = 0;
        for start in (0..events.len()).step_by(BLOCK_EVENTS) {
            let range = start..events.len().min(start + BLOCK_EVENTS);
            let mut block = match spare.pop() {
                Some(block) => block,
                None => take_back(&free, &mut idle)?,
            };
            fill(block.bytes(), &events.times[range.clone()], &events.keys[range.clone()], &values[range.clone()]);
            let writer = match idle.pop() {
                Some(writer) => writer,
                None => {
                    spare.push(take_back(&free, &mut idle)?);
                    idle.pop().unwrap_or(0)
                }
            };
            // A writer that has gone says why below.
            let _ = writers[writer].send((block, offset));
            offset = (offset + BLOCK_SIZE as u64) % FILE_SIZE as u64;
            for event in range {
                let slot = slots.slot(events.keys[event]);
                panes.add(events.times[event], slot, values[event], &slots);
            }
        }
        panes.finish(&slots);
        while idle.len() < inflight {
            take_back(&free, &mut idle)?;
        }
        Ok(Outcome { digest: panes.digest, total: began.elapsed(), emission: panes.emission })
    })
}

/// Waits for a write to end.
fn take_back(done: &Receiver<Written>, idle: &mut Vec<usize>) -> Result<Aligned, BenchError> {
    let written = done.recv().map_err(|_| BenchError::Failed("the writers of blocks have gone".to_owned()))?;
    written.result.map_err(BenchError::io("cannot write a block"))?;
    idle.push(written.writer);
    Ok(written.block)
}

struct Written {
    writer: usize,
    block: Aligned,
    result: io::Result<()>,
}

fn write_blocks(file: &File, writer: usize, blocks: &Receiver<(Aligned, u64)>, done: &Sender<Written>) {
    for (mut block, offset) in blocks {
        let result = file.write_all_at(block.bytes(), offset);
        // The loop may have ended with an error of its own.
        let _ = done.send(Written { writer, block, result });
    }
}

fn fill<V: bytemuck::NoUninit>(block: &mut [u8], times: &[i64], keys: &[i64], values: &[V]) {
    let mut at = HEADER_SIZE;
    for column in [bytemuck::cast_slice::<i64, u8>(times), bytemuck::cast_slice(keys), bytemuck::cast_slice(values)] {
        block[at..at + column.len()].copy_from_slice(column);
        at += column.len();
    }
    let checksum = crc32c::crc32c(&block[HEADER_SIZE..at]);
    block[..4].copy_from_slice(&checksum.to_le_bytes());
    block[8..16].copy_from_slice(&(at as u64).to_le_bytes());
}

/// Nanoseconds of synced writes of `size` bytes, one at a time.
pub fn device(directory: &Path, size: usize) -> Result<Histogram<u64>, BenchError> {
    let failed = "cannot measure the disk's synced writes";
    let file_size = FILE_SIZE.max(size);
    let file = open(&directory.join("device"), file_size).map_err(BenchError::io(failed))?;
    let mut block = Aligned::new(size);
    block.bytes().fill(7);
    let mut histogram = Histogram::new(3).map_err(BenchError::failed("a histogram"))?;
    for write in 0..DEVICE_WRITES {
        let offset = (write * size) % (file_size / size * size);
        let began = Instant::now();
        file.write_all_at(block.bytes(), offset as u64).map_err(BenchError::io(failed))?;
        let took: Duration = began.elapsed();
        histogram.record(took.as_nanos() as u64).map_err(BenchError::failed("a latency"))?;
    }
    Ok(histogram)
}

/// A file full of zeros, opened for direct writes that are durable when they return.
fn open(path: &Path, size: usize) -> io::Result<File> {
    if path.metadata().map_or(0, |found| found.len()) < size as u64 {
        let mut file = File::create(path)?;
        let zeros = vec![0; 1 << 20];
        for start in (0..size).step_by(zeros.len()) {
            file.write_all(&zeros[..zeros.len().min(size - start)])?;
        }
        file.sync_all()?;
    }
    let mut options = OpenOptions::new();
    options.write(true);
    match options.custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(path) {
        // Memory file systems have no direct writes.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => options.custom_flags(libc::O_DSYNC).open(path),
        other => other,
    }
}

/// Bytes that begin at a multiple of [`ALIGNMENT`].
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    size: usize,
}

impl Aligned {
    fn new(size: usize) -> Aligned {
        let memory = vec![0; size + ALIGNMENT];
        let start = memory.as_ptr().addr().next_multiple_of(ALIGNMENT) - memory.as_ptr().addr();
        Aligned { memory, start, size }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.size]
    }
}
