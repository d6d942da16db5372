//! Chunks of inputs to batches, by several workers: the batches of a lane are made and handed over by one of them, in
//! order.
//!
//! Which chunk takes which lane is decided in [`super::send`].

use super::CommandError;
use crate::error::EngineError;
use crate::guard::catch;
use crate::links::Progress;
use crate::source::Chunk;
use crate::source::error::SourceError;
use crate::source::parser::Parser;
use crate::source::plan::ReadPlan;
use corefold_client::{Batch, Client, SendError};
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::{Encoder, Stamp};
use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait between looks at signals and progress.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Chunks that wait for one worker.
const WAITING_MAX: usize = 2;

/// Something for the worker of a lane.
pub struct Work {
    /// The lanes of the input.
    pub client: Arc<Client>,
    /// Which of them.
    pub lane: usize,
    /// What to send by it; `None` ends it for good.
    pub chunk: Option<Chunk>,
    /// Number of the chunk in its input.
    pub number: u64,
    /// The highest time of the input that was sent.
    pub highest: Arc<AtomicI64>,
}

/// What came of all of it besides batches.
#[derive(Default)]
pub struct Tally {
    /// Rows that were skipped.
    pub rejected: u64,
    /// The first of them, with the number of its chunk.
    first: Option<(u64, SourceError)>,
    /// Why.
    pub first_rejection: Option<SourceError>,
}

/// A thread, and the way to it.
type Attended = (Sender<Work>, JoinHandle<Result<Tally, CommandError>>);

/// The workers.
pub struct Dealing {
    workers: Vec<Attended>,
    spares: Receiver<Vec<u8>>,
}

impl Dealing {
    /// Starts as many workers as any of `clients` has lanes.
    pub fn start(
        clients: &[Arc<Client>],
        plan: &Arc<ReadPlan>,
        fingerprint: u64,
        progress: &Arc<Progress>,
    ) -> Result<Dealing, CommandError> {
        let count = clients.iter().map(|client| client.lanes()).max().unwrap_or(0);
        let (spares, spare) = bounded(2 * WAITING_MAX * count.max(1));
        let mut workers = Vec::with_capacity(count);
        for at in 0..count {
            let (sender, receiver) = bounded(WAITING_MAX);
            let mut worker = Worker::new(plan, fingerprint, progress, &spares);
            let thread = std::thread::Builder::new().name(format!("send-{at}"));
            workers.push((sender, thread.spawn(move || worker.run(&receiver)).map_err(SendError::System)?));
        }
        Ok(Dealing { workers, spares: spare })
    }

    /// Memory of a chunk that is done.
    pub fn spare(&self) -> Vec<u8> {
        self.spares.try_recv().unwrap_or_default()
    }

    /// Gives work to the worker of its lane, waiting for room.
    pub fn deal(
        &mut self,
        mut work: Work,
        watch: &mut dyn FnMut() -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let at = work.lane % self.workers.len();
        loop {
            match self.workers[at].0.send_timeout(work, LOOK_EVERY) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) => work = back,
                // It ends early only by an error.
                Err(SendTimeoutError::Disconnected(_)) => {
                    let ended = join(self.workers.swap_remove(at).1);
                    return ended.and(Err(EngineError::Bug("a worker ended before its work").into()));
                }
            }
            watch()?;
        }
    }

    /// Waits until everything that was dealt is handed over.
    pub fn finish(self, watch: &mut dyn FnMut() -> Result<(), CommandError>) -> Result<Tally, CommandError> {
        let threads: Vec<_> = self
            .workers
            .into_iter()
            .map(|(sender, thread)| {
                drop(sender);
                thread
            })
            .collect();
        let mut all = Tally::default();
        for thread in threads {
            while !thread.is_finished() {
                watch()?;
                std::thread::sleep(Duration::from_millis(1));
            }
            let Tally { rejected, first, .. } = join(thread)?;
            all.rejected += rejected;
            let is_earlier = |(number, _): &(u64, _)| all.first.as_ref().is_none_or(|(first, _)| number < first);
            if let Some(first) = first.filter(is_earlier) {
                all.first = Some(first);
            }
        }
        all.first_rejection = all.first.take().map(|(_, error)| error);
        Ok(all)
    }
}

fn join(thread: JoinHandle<Result<Tally, CommandError>>) -> Result<Tally, CommandError> {
    let panicked = |_| Err(EngineError::Bug("a thread of the command panicked (see above)").into());
    thread.join().unwrap_or_else(panicked)
}

/// Makes batches; keeps its memory.
struct Worker {
    parser: Parser,
    columns: ColumnSet,
    encoder: Encoder,
    fingerprint: u64,
    progress: Arc<Progress>,
    spares: Sender<Vec<u8>>,
    tally: Tally,
}

impl Worker {
    fn new(plan: &Arc<ReadPlan>, fingerprint: u64, progress: &Arc<Progress>, spares: &Sender<Vec<u8>>) -> Worker {
        let parser = Parser::new(Arc::clone(plan));
        let columns = ColumnSet::new(&parser.kinds());
        let (progress, spares) = (Arc::clone(progress), spares.clone());
        Worker { parser, columns, encoder: Encoder::new(), fingerprint, progress, spares, tally: Tally::default() }
    }

    fn run(&mut self, work: &Receiver<Work>) -> Result<Tally, CommandError> {
        for Work { client, lane, chunk, number, highest } in work {
            let Some(chunk) = chunk else {
                client.end_lane(lane)?;
                continue;
            };
            guarded(chunk.name(), || self.parser.parse(&chunk, &mut self.columns))?;
            // There may be enough of them, or nothing left to read.
            let _ = self.spares.try_send(chunk.into_spare());
            let (rows, rejected) = (self.columns.rows() as u64, self.columns.rejected);
            self.tally.rejected += u64::from(rejected);
            if let Some(error) = self.parser.take_first_rejection() {
                self.tally.first.get_or_insert((number, error));
            }
            let mut bytes = client.spare();
            let encoded = self.encoder.encode(&self.columns, self.fingerprint, &Stamp::of_lane(0, 0, 0), &mut bytes);
            encoded.map_err(SendError::Encode)?;
            // Whether it becomes durable is asked once, at the end.
            client.send_to(lane, Batch::from_bytes(bytes).with_rejected(rejected))?;
            highest.fetch_max(self.columns.times.iter().copied().max().unwrap_or(i64::MIN), Ordering::Relaxed);
            self.progress.rows.fetch_add(rows + u64::from(rejected), Ordering::Relaxed);
        }
        Ok(std::mem::take(&mut self.tally))
    }
}

/// Calls into the readers of file formats, whose libraries may panic on damaged files; what they leave is of no use
/// then.
pub fn guarded<T>(path: &str, body: impl FnOnce() -> Result<T, SourceError>) -> Result<T, SourceError> {
    catch(body).unwrap_or_else(|what| Err(SourceError::Damaged { path: path.to_owned(), what }))
}
