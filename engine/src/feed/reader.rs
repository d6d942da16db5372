//! The reading thread: cuts inputs into chunks, the lane with the lowest watermark first.
//!
//! Files that follow each other and files that overlap in time both work this way, with as many chunks in memory as
//! there are permits. Parsing is not done here.

use super::lanes::{LaneGauge, LaneSource};
use super::places::FeedPlace;
use super::{Parsed, Task, Work};
use crate::error::EngineError;
use crate::guard::{PanicGuard, catch};
use crate::links::Shared;
use crate::profile::timeline::Stage;
use crate::source::error::SourceError;
use crate::source::plan::ReadPlan;
use crate::source::{BlockMemory, LaneReader, open_with};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a waiting reader looks whether the engine has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The reader's ends and lanes.
pub struct Reader {
    /// All inputs, in order.
    pub lanes: Vec<LaneSource>,
    /// How each is read.
    pub plans: Vec<Arc<ReadPlan>>,
    /// One per lane, shared with the dealer.
    pub gauges: Arc<Vec<LaneGauge>>,
    /// To the parsers.
    pub work: Sender<Work>,
    /// Straight to the dealer: what could not be read.
    pub failures: Sender<Parsed>,
    /// One per chunk that may be under way; the dealer gives them back.
    pub permits: Receiver<()>,
    /// Memory of parsed chunks.
    pub spares: Receiver<Vec<u8>>,
    /// Where this thread runs.
    pub place: FeedPlace,
    /// Shared by all threads.
    pub shared: Arc<Shared<EngineError>>,
}

/// Calls into the readers of file formats, whose libraries may panic on damaged files.
fn guarded<T>(path: &str, body: impl FnOnce() -> Result<T, SourceError>) -> Result<T, SourceError> {
    catch(body).unwrap_or_else(|what| Err(SourceError::Damaged { path: path.to_owned(), what }))
}

/// A lane that is being read.
struct OpenLane {
    index: usize,
    reader: Box<dyn LaneReader>,
    sequence: u64,
    bytes: u64,
}

impl Reader {
    /// Reads until all lanes have ended or the engine stops.
    pub fn run(mut self) {
        let _guard = PanicGuard::new(&self.shared);
        let mut ticket = 0;
        let mut lane = 0;
        if let Err(error) = self.read(&mut ticket, &mut lane) {
            // The dealer meets the error where the chunk would have stood: rows before it count.
            let _ = self.failures.send(Parsed { ticket, lane, result: Err(error) });
        }
    }

    fn read(&mut self, ticket: &mut u64, lane: &mut usize) -> Result<(), SourceError> {
        let track = self.shared.timeline.track("reader");
        let mut open_lanes = self.open_all(lane)?;
        while !open_lanes.is_empty() {
            track.enter(Stage::WaitRoom);
            if !self.take_permit() {
                return Ok(());
            }
            track.enter(Stage::Read);
            self.place.take();
            let rank = |lane: &OpenLane| (self.gauges[lane.index].rank(), lane.index);
            let Some(next) = (0..open_lanes.len()).min_by_key(|&at| rank(&open_lanes[at])) else { return Ok(()) };
            let current = &mut open_lanes[next];
            *lane = current.index;
            let name = &self.lanes[current.index].input.name;
            let chunk = guarded(name, || current.reader.next(self.spares.try_recv().unwrap_or_default()))?;
            let bytes = current.reader.bytes_read();
            self.shared.progress.bytes.fetch_add(bytes - current.bytes, Ordering::Relaxed);
            current.bytes = bytes;
            let ended = chunk.is_none();
            let known = self.lanes[current.index].start.known.contains_key(&current.sequence);
            let task = match chunk {
                None => Task::End,
                Some(_) if known => Task::Known,
                Some(chunk) => Task::Parse(chunk),
            };
            current.sequence += 1;
            self.gauges[current.index].send();
            let work = Work { ticket: *ticket, lane: current.index, task };
            if ended {
                open_lanes.swap_remove(next);
            }
            track.enter(Stage::WaitRoom);
            if self.work.send(work).is_err() {
                return Ok(());
            }
            *ticket += 1;
        }
        Ok(())
    }

    fn open_all(&self, lane: &mut usize) -> Result<Vec<OpenLane>, SourceError> {
        let mut open_lanes = Vec::with_capacity(self.lanes.len());
        let memory = BlockMemory::default();
        for (index, source) in self.lanes.iter().enumerate() {
            if source.start.ended {
                continue;
            }
            *lane = index;
            let name = &source.input.name;
            let reader =
                guarded(name, || open_with(&source.input, &self.plans[source.plan], source.start.position, &memory))?;
            let bytes = reader.bytes_read();
            self.shared.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
            open_lanes.push(OpenLane { index, reader, sequence: source.start.sequence, bytes });
        }
        Ok(open_lanes)
    }

    /// False when the engine stops.
    fn take_permit(&self) -> bool {
        loop {
            if self.shared.lifecycle.is_stopped() {
                return false;
            }
            match self.permits.recv_timeout(LOOK_EVERY) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}
