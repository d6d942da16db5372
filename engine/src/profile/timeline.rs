//! What each thread does at each moment, while somebody asks: stages, one after the other, on one track per thread.
//!
//! A stage lasts for a batch, a pull or a file, never for one event; entering one costs a relaxed load while nobody
//! asks. How a recording is written is [`super::trace`]'s.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Spans kept per track; more are counted and left out.
const SPANS_MAX: usize = 1 << 20;

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Bytes or columns from an input.
    Read,
    /// Rows to batches.
    Parse,
    /// Stamps batches and hands them to shards.
    Deal,
    /// A shard takes what came in from others.
    Gather,
    /// A shard verifies, logs and folds batches.
    Step,
    /// A shard submits writes and sends answers.
    CarryOut,
    /// A shard folds its log again after a start.
    Replay,
    /// The coordinator merges partial aggregates.
    Merge,
    /// The coordinator writes merged panes to their log.
    LogPanes,
    /// The coordinator slides and gives windows out.
    Emit,
    /// Result rows to files.
    Export,
    /// Outputs are synced and committed.
    Commit,
    /// Nothing has come in.
    WaitInput,
    /// Writes are under way, and nothing else can be done.
    WaitDisk,
    /// The next one in line takes no more for now.
    WaitRoom,
}

impl Stage {
    /// Name in a recording.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Parse => "parse",
            Stage::Deal => "deal",
            Stage::Gather => "gather",
            Stage::Step => "verify, log, fold",
            Stage::CarryOut => "submit, answer",
            Stage::Replay => "replay",
            Stage::Merge => "merge",
            Stage::LogPanes => "log panes",
            Stage::Emit => "emit windows",
            Stage::Export => "write results",
            Stage::Commit => "commit outputs",
            Stage::WaitInput => "wait for input",
            Stage::WaitDisk => "wait for disk",
            Stage::WaitRoom => "wait for room",
        }
    }

    /// Whether the thread stands still.
    pub const fn is_wait(self) -> bool {
        matches!(self, Stage::WaitInput | Stage::WaitDisk | Stage::WaitRoom)
    }
}

/// One stage of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What it did.
    pub stage: Stage,
    /// Nanoseconds since the engine's start.
    pub start_ns: u64,
    /// Nanoseconds since the engine's start.
    pub end_ns: u64,
}

/// Spans of one thread; none overlaps another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackRecording {
    /// Name of the thread.
    pub name: String,
    /// Oldest first.
    pub spans: Vec<Span>,
    /// Spans that found no room.
    pub dropped: u64,
}

/// All tracks of an engine.
#[derive(Debug)]
pub struct Timeline {
    clock: Arc<Clock>,
    tracks: Mutex<Vec<Arc<Mutex<TrackState>>>>,
}

#[derive(Debug)]
struct Clock {
    recording: AtomicBool,
    epoch: Instant,
}

#[derive(Debug)]
struct TrackState {
    recorded: TrackRecording,
    /// The stage the thread is in, and since when it is recorded.
    current: Option<(Stage, u64)>,
}

/// One thread's end of its track.
#[derive(Debug)]
pub struct Track {
    clock: Arc<Clock>,
    state: Arc<Mutex<TrackState>>,
}

impl Default for Timeline {
    fn default() -> Timeline {
        let clock = Clock { recording: AtomicBool::new(false), epoch: Instant::now() };
        Timeline { clock: Arc::new(clock), tracks: Mutex::default() }
    }
}

impl Timeline {
    /// A track for the calling thread.
    pub fn track(&self, name: impl Into<String>) -> Track {
        let recorded = TrackRecording { name: name.into(), spans: Vec::new(), dropped: 0 };
        let state = Arc::new(Mutex::new(TrackState { recorded, current: None }));
        if let Ok(mut tracks) = self.tracks.lock() {
            tracks.push(Arc::clone(&state));
        }
        Track { clock: Arc::clone(&self.clock), state }
    }

    /// Nanoseconds since the engine's start.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Records from now on.
    pub fn start(&self) {
        self.clock.recording.store(true, Ordering::Relaxed);
    }

    /// Stops, and returns what was recorded, one entry per thread in the order of their starts.
    pub fn stop(&self) -> Vec<TrackRecording> {
        self.clock.recording.store(false, Ordering::Relaxed);
        let now = self.now_ns();
        let tracks = self.tracks.lock().map(|tracks| tracks.clone()).unwrap_or_default();
        let stop = |track: &Arc<Mutex<TrackState>>| {
            let mut state = track.lock().ok()?;
            state.close(now);
            let empty = TrackRecording { name: state.recorded.name.clone(), spans: Vec::new(), dropped: 0 };
            Some(std::mem::replace(&mut state.recorded, empty))
        };
        tracks.iter().filter_map(stop).collect()
    }
}

impl Track {
    /// The thread does this from now on.
    pub fn enter(&self, stage: Stage) {
        if !self.clock.recording.load(Ordering::Relaxed) {
            return;
        }
        // Uncontended but for the end of a recording.
        if let Ok(mut state) = self.state.lock()
            && state.current.is_none_or(|(current, _)| current != stage)
        {
            let now = self.clock.now_ns();
            state.close(now);
            state.current = Some((stage, now));
        }
    }
}

impl TrackState {
    fn close(&mut self, end_ns: u64) {
        let Some((stage, start_ns)) = self.current.take() else { return };
        if self.recorded.spans.len() < SPANS_MAX {
            self.recorded.spans.push(Span { stage, start_ns, end_ns });
        } else {
            self.recorded.dropped += 1;
        }
    }
}

impl Clock {
    fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other_without_gap_or_overlap() {
        let timeline = Timeline::default();
        let track = timeline.track("t");
        track.enter(Stage::Read);
        timeline.start();
        for stage in [Stage::Step, Stage::Step, Stage::WaitDisk, Stage::Step] {
            track.enter(stage);
        }
        let recorded = timeline.stop().remove(0);
        let stages: Vec<Stage> = recorded.spans.iter().map(|span| span.stage).collect();
        assert_eq!(stages, [Stage::Step, Stage::WaitDisk, Stage::Step], "the same stage again goes on");
        assert!(recorded.spans.windows(2).all(|pair| pair[0].end_ns == pair[1].start_ns));
        track.enter(Stage::Read);
        timeline.start();
        assert_eq!(timeline.stop()[0].spans, [], "a second recording begins empty");
    }
}
