//! Benchmarks whose figures can be believed: scenarios with parameters, each of which checks its answer in every round.
//!
//! A scenario is prepared once per point (a set of parameters) and then run round by round; what a round measures and
//! the digest of its results come back together, so that a fast wrong answer is an error. How runs are repeated is in
//! [`run`], how they are kept in [`record`] and [`place`], how they are shown in [`plot`] and [`report`].

pub mod command;
pub mod cores;
pub mod digest;
pub mod durable;
pub mod events;
pub mod exports;
pub mod files;
pub mod folding;
pub mod hand;
pub mod handoff;
pub mod host;
pub mod keys;
pub mod merging;
pub mod network;
pub mod params;
pub mod place;
pub mod plot;
pub mod program;
pub mod question;
pub mod ratio;
pub mod record;
pub mod recovery;
pub mod reference;
pub mod report;
pub mod run;
pub mod running;
pub mod scaling;
pub mod site;
pub mod sketches;
pub mod slots;
pub mod snapshots;
pub mod synced;
pub mod visible;

use crate::scenario::cores::Cores;
use crate::scenario::digest::Digest;
use crate::scenario::params::{ParamSpec, Params};
use hdrhistogram::Histogram;
use std::io;
use std::path::PathBuf;

/// Something that can be measured.
pub trait Scenario: Sync {
    /// The word on the command line.
    fn name(&self) -> &'static str;

    /// What is measured, in one line.
    fn about(&self) -> &'static str;

    /// What can be set.
    fn params(&self) -> Vec<ParamSpec>;

    /// Makes the inputs of one point and its right answer. Not measured.
    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError>;
}

/// A point that is ready to be measured.
pub trait Prepared {
    /// Digest that every round must come to.
    fn expected(&self) -> Digest;

    /// Measures once.
    fn round(&mut self) -> Result<Round, BenchError>;
}

/// What one round found.
#[derive(Debug, Default)]
pub struct Round {
    /// Figures, the most important first; the same names in every round.
    pub metrics: Vec<Metric>,
    /// Digest of the results.
    pub digest: Digest,
    /// Nanoseconds, where latency is measured.
    pub latency: Option<Histogram<u64>>,
}

/// One figure.
#[derive(Clone, PartialEq, Debug)]
pub struct Metric {
    /// Name, without its unit.
    pub name: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// Which way is good.
    pub better: Better,
    /// The figure.
    pub value: f64,
}

/// Which way of a figure is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// As a time.
    Lower,
    /// As a rate.
    Higher,
}

impl Metric {
    /// A figure that is good when it is small.
    pub const fn cost(name: &'static str, unit: &'static str, value: f64) -> Metric {
        Metric { name, unit, better: Better::Lower, value }
    }

    /// A figure that is good when it is large.
    pub const fn rate(name: &'static str, unit: &'static str, value: f64) -> Metric {
        Metric { name, unit, better: Better::Higher, value }
    }
}

/// What all points of a run share.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Directory for inputs, logs and outputs, on the disk to be measured.
    pub scratch: PathBuf,
    /// The corefold program.
    pub corefold: PathBuf,
    /// Cores, the best first.
    pub cores: Cores,
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A parameter is not what it should be.
    #[error("parameter {name}: {what}")]
    Param {
        /// Its name.
        name: String,
        /// What was found and what is expected.
        what: String,
    },
    /// There is no such scenario.
    #[error("there is no scenario `{name}`; `bench-harness list` shows them: {known}")]
    UnknownScenario {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Something could not be read or written.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What came back.
        error: io::Error,
    },
    /// This machine or its disk cannot run the scenario.
    #[error("this cannot be measured here: {reason}")]
    Unsuitable {
        /// Why, and what to do.
        reason: String,
    },
    /// What is measured has failed.
    #[error("{0}")]
    Failed(String),
    /// The results are not those of the reference.
    #[error(
        "WRONG ANSWER of {scenario} ({point}): the results are {found}, the reference says {expected}; no figures are kept"
    )]
    WrongAnswer {
        /// The scenario.
        scenario: String,
        /// Its parameters.
        point: String,
        /// Digest of the reference.
        expected: Digest,
        /// Digest of the results.
        found: Digest,
    },
}

impl BenchError {
    /// For `map_err` of input and output.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> BenchError {
        let what = what.into();
        move |error| BenchError::Io { what, error }
    }

    /// For `map_err` of everything that is measured.
    pub fn failed<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> BenchError + use<'_, E> {
        move |error| BenchError::Failed(format!("{what}: {error}"))
    }
}

/// All scenarios.
pub const SCENARIOS: &[&dyn Scenario] = &[
    &hand::Hand,
    &synced::HandSynced,
    &folding::Folding,
    &scaling::Scaling,
    &durable::FoldWal,
    &durable::Latency,
    &visible::Visible,
    &program::Program,
    &network::Network,
    &merging::Merging,
    &snapshots::Snapshots,
    &recovery::Recovery,
    &handoff::Handoff,
    &exports::Exports,
    &sketches::Sketches,
];

/// The scenario called `name`.
pub fn named(name: &str) -> Result<&'static dyn Scenario, BenchError> {
    SCENARIOS.iter().copied().find(|scenario| scenario.name() == name).ok_or_else(|| BenchError::UnknownScenario {
        name: name.to_owned(),
        known: SCENARIOS.iter().map(|scenario| scenario.name()).collect::<Vec<_>>().join(", "),
    })
}
