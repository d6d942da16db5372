//! The parsing threads: a chunk in, an encoded batch out. They share nothing but their channels.
//!
//! The order of batches is the dealer's business.

use super::places::FeedPlace;
use super::{Parsed, ParsedBatch, ParsedTask, Task, Work};
use crate::error::EngineError;
use crate::guard::{PanicGuard, catch};
use crate::links::Shared;
use crate::profile::timeline::Stage;
use crate::source::error::SourceError;
use crate::source::parser::Parser;
use crate::source::plan::ReadPlan;
use corefold_aggregator::time::Duration;
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::split::Splitter;
use corefold_shards::batch::wire::{Encoder, Stamp};
use corefold_shards::batch::{AlignedBytes, EncodeError};
use crossbeam_channel::{Receiver, Sender};
use std::sync::{Arc, Mutex};

/// How batches of one read plan are made.
#[derive(Clone, Debug)]
pub struct BatchPlan {
    /// What is read.
    pub read: Arc<ReadPlan>,
    /// The stream's fingerprint.
    pub fingerprint: u64,
    /// Disorder that the stream allows.
    pub delay_max: Duration,
    /// Fields whose hash decides the part, if there are parts.
    pub by: Vec<usize>,
    /// Parts of a batch; 1 unless the work was begun with routing by hash.
    pub parts: u16,
}

/// One parsing thread's ends.
pub struct ParserThread {
    /// How batches of each plan are made.
    pub plans: Vec<BatchPlan>,
    /// Which plan a lane is read by.
    pub lanes: Arc<Vec<usize>>,
    /// From the reader.
    pub work: Receiver<Work>,
    /// To the dealer.
    pub results: Sender<Parsed>,
    /// Memory of chunks back to the reader.
    pub chunk_spares: Sender<Vec<u8>>,
    /// Memory of batches from the dealer.
    pub batch_spares: Receiver<AlignedBytes>,
    /// Where this thread runs.
    pub place: FeedPlace,
    /// Shared by all threads.
    pub shared: Arc<Shared<EngineError>>,
    /// The first row that was skipped as bad input, for the summary.
    pub first_rejection: Arc<Mutex<Option<SourceError>>>,
}

/// What is kept from chunk to chunk for one plan.
struct PlanState {
    parser: Parser,
    columns: ColumnSet,
    maker: BatchMaker,
}

impl ParserThread {
    /// Parses until the reader ends.
    pub fn run(mut self) {
        let _guard = PanicGuard::new(&self.shared);
        let mut states: Vec<PlanState> = self.plans.iter().map(PlanState::new).collect();
        let track = self.shared.timeline.track("parser");
        loop {
            track.enter(Stage::WaitInput);
            let Ok(Work { ticket, lane, task }) = self.work.recv() else { return };
            track.enter(Stage::Parse);
            self.place.take();
            let result = match task {
                Task::Known => Ok(ParsedTask::Known),
                Task::End => Ok(ParsedTask::End),
                Task::Parse(chunk) => {
                    let index = self.lanes[lane];
                    let state = &mut states[index];
                    let parsed = catch(|| state.parser.parse(&chunk, &mut state.columns));
                    let parsed =
                        parsed.unwrap_or_else(|what| Err(SourceError::Damaged { path: chunk.name().to_owned(), what }));
                    let position_end = chunk.position_end;
                    // A full channel only costs the reader an allocation.
                    let _ = self.chunk_spares.try_send(chunk.into_spare());
                    self.note_rejection(&mut state.parser);
                    parsed.and_then(|()| self.encode(index, state, position_end))
                }
            };
            track.enter(Stage::WaitRoom);
            if self.results.send(Parsed { ticket, lane, result }).is_err() {
                return;
            }
        }
    }

    fn encode(&self, index: usize, state: &mut PlanState, position_end: u64) -> Result<ParsedTask, SourceError> {
        let spare = || self.batch_spares.try_recv().unwrap_or_default();
        let encoded = state.maker.make(&self.plans[index], &state.columns, position_end, spare);
        // What they share with a block of a file is the reader's again.
        state.columns.clear();
        encoded.map(ParsedTask::Batch).map_err(|error| SourceError::Encode { what: error.to_string() })
    }

    fn note_rejection(&self, parser: &mut Parser) {
        if let Some(rejection) = parser.take_first_rejection()
            && let Ok(mut first) = self.first_rejection.lock()
        {
            first.get_or_insert(rejection);
        }
    }
}

impl PlanState {
    fn new(plan: &BatchPlan) -> PlanState {
        let parser = Parser::new(Arc::clone(&plan.read));
        let columns = ColumnSet::new(&parser.kinds());
        PlanState { parser, columns, maker: BatchMaker::new(plan.parts) }
    }
}

/// Makes batches of columns, in parts where that was asked for; keeps its memory from one to the next.
pub struct BatchMaker {
    encoder: Encoder,
    splitter: Option<Splitter>,
}

impl BatchMaker {
    /// A maker of batches in `parts` parts.
    pub fn new(parts: u16) -> BatchMaker {
        BatchMaker { encoder: Encoder::new(), splitter: (parts > 1).then(|| Splitter::new(parts)) }
    }

    /// A batch of all rows of `columns`; the dealer writes its stamp. `spare` gives memory to write it to.
    pub fn make(
        &mut self,
        plan: &BatchPlan,
        columns: &ColumnSet,
        position_end: u64,
        mut spare: impl FnMut() -> AlignedBytes,
    ) -> Result<ParsedBatch, EncodeError> {
        let mut spare = || {
            let mut bytes = spare();
            bytes.clear();
            bytes
        };
        let stamp = Stamp::of_lane(0, 0, 0);
        let mut parts = Vec::with_capacity(usize::from(plan.parts));
        let mut time_max = None;
        match &mut self.splitter {
            None => {
                let mut bytes = spare();
                self.encoder.encode(columns, plan.fingerprint, &stamp, &mut bytes)?;
                time_max = self.encoder.time_max();
                parts.push(bytes);
            }
            Some(splitter) => {
                splitter.split(columns, &plan.by, plan.delay_max);
                for part in 0..splitter.parts() {
                    let mut bytes = spare();
                    let stamp = Stamp { part: part as u16, parts: plan.parts, ..stamp };
                    self.encoder.encode_part(columns, splitter.part(part), plan.fingerprint, &stamp, &mut bytes)?;
                    time_max = time_max.max(self.encoder.time_max());
                    parts.push(bytes);
                }
            }
        }
        Ok(ParsedBatch { parts, rows: columns.rows() as u64, rejected: columns.rejected, time_max, position_end })
    }
}
