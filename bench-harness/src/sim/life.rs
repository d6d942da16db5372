//! What a life of a simulated engine is made of: the machine that it runs on, how it goes, how it ends.
//!
//! Who moves when is in [`super::world`].

use super::checks::ViewOutput;
use super::faults::Faults;
use super::files::Files;
use super::output::RunOutput;
use super::panes::PaneSite;
use super::site::Site;
use super::trace::Trace;
use crate::entropy::Entropy;
use corefold_shards::counters::ShardCounts;

/// How a life ended.
pub enum Ending {
    /// Everything is out.
    Finished(ShardCounts, u64),
    /// The engine was asked to stop, and did in order.
    Stopped,
    /// It was cut short.
    Crashed,
    /// The engine gave up and said why.
    GaveUp(String),
}

/// What a job writes.
pub enum Output {
    /// All at its end.
    Once(ViewOutput),
    /// As it goes, with a log of panes and a manifest.
    Running(Box<Running>),
}

/// What a long-running engine has besides.
pub struct Running {
    /// The log of panes.
    pub panes: PaneSite,
    /// Rows and manifest.
    pub rows: RunOutput,
}

impl Output {
    /// All rows that were ever given out.
    pub fn text(&self) -> String {
        match self {
            Output::Once(view) => view.text().to_owned(),
            Output::Running(running) => running.rows.all_text(),
        }
    }
}

/// How a life ended, its shards, its output so far, and its turns.
pub struct Life {
    /// How it ended.
    pub ending: Ending,
    /// The shards.
    pub sites: Vec<Site>,
    /// The output.
    pub output: Output,
    /// Turns of all actors.
    pub turns: u64,
}

/// What every actor of a life is given.
pub struct Machine<'m> {
    /// The file system.
    pub files: &'m mut Files,
    /// What goes wrong.
    pub faults: &'m mut Faults,
    /// Chance.
    pub entropy: &'m mut Entropy,
    /// What has happened.
    pub trace: &'m mut Trace,
}

/// Who may move.
pub(super) const ACTORS: [&str; 7] =
    ["dealer", "shard", "disk of the log", "coordinator", "disk of snapshots", "disk of panes", "exporter"];

/// How a life goes besides its faults: all of it drawn, none of it seen in results.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    /// How often each actor moves, see [`ACTORS`].
    pub(super) weights: [u32; 7],
    /// Chance that the coordinator's timer has run out when it moves.
    pub(super) pull_chance: f64,
}

impl Habits {
    pub(super) fn random(is_run: bool, entropy: &mut Entropy) -> Habits {
        Habits { weights: weights(is_run, entropy), pull_chance: *entropy.pick(&[0.05, 0.3, 1.0]) }
    }
}

/// A long-running job has more actors. Now and then a log's disk is far behind that of the snapshots.
fn weights(is_run: bool, entropy: &mut Entropy) -> [u32; 7] {
    let mut weights = std::array::from_fn(|_| *entropy.pick(&[2, 4, 4, 10]));
    if !is_run {
        weights[4..].fill(0);
    } else if entropy.chance(0.2) {
        (weights[2], weights[4]) = (1, 60);
    }
    weights
}
