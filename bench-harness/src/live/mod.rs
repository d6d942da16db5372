//! Faults on the real program: each row of the fault matrix as a check that is run and says what it saw.
//!
//! A row gets a job whose undisturbed result is known, disturbs runs of it, and holds the outputs and the ledger
//! against that result. What can be simulated in one thread is not here but in [`crate::local`].

pub mod attack;
pub mod calls;
pub mod child;
pub mod damage;
pub mod disk;
pub mod job;
pub mod namespace;
pub mod producers;
pub mod proxy;
pub mod report;
pub mod rows;
pub mod strangers;
pub mod system;
pub mod tls_strangers;

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a check did not pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// What must hold did not.
    Fail(String),
    /// This machine lacks what the check needs.
    Skip(String),
}

/// The result of a check, or of a step of one.
pub type Checked<T = ()> = Result<T, Stop>;

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Fail(format!("the check itself failed: {error}"))
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Fail(what) => write!(f, "FAIL {what}"),
            Stop::Skip(why) => write!(f, "SKIP {why}"),
        }
    }
}

/// Fails with a text.
pub fn fail<T>(what: impl Into<String>) -> Checked<T> {
    Err(Stop::Fail(what.into()))
}

/// Skips with a reason.
pub fn skip<T>(why: impl Into<String>) -> Checked<T> {
    Err(Stop::Skip(why.into()))
}

/// Fails unless `holds`.
pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { fail(what()) }
}

/// What to run, where, and how much of it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The program `corefold`.
    pub corefold: PathBuf,
    /// A directory for everything that is made here; on a file system that suits a durable log.
    pub scratch: PathBuf,
    /// How often to disturb, where a row can do it any number of times; each row has a default.
    pub times: Option<u64>,
    /// The small half of each row, for the tests.
    pub quick: bool,
    /// Seed of everything random; the moments of kills depend on the machine besides.
    pub seed: u64,
}

impl Setting {
    /// How often to disturb: as asked, or `quick` or `full` times.
    pub fn times(&self, quick: u64, full: u64) -> u64 {
        self.times.unwrap_or(if self.quick { quick } else { full })
    }
}
