//! The rows of the fault matrix that are tried on the real program.
//!
//! The other rows belong to the simulator (6) and to the network (17, 18).

pub mod crash;
pub mod steps;
pub mod power;

use super::{Checked, Setting};

/// A row: its number, what is done, and the check, which tells what it saw.
pub struct Row {
    /// As in the matrix; `S` is the change of the shard count.
    pub number: &'static str,
    /// The fault.
    pub fault: &'static str,
    /// The check.
    pub run: fn(&Setting) -> Checked<String>,
}

/// All of them, in the order of the matrix.
pub const ROWS: &[Row] = &[
    Row { number: "1", fault: "SIGKILL at random moments", run: crash::killed_at_random },
    Row { number: "2", fault: "SIGKILL while a log is read back", run: crash::killed_in_recovery },
    Row { number: "3", fault: "SIGKILL before every named step", run: steps::killed_at_every_step },
    Row { number: "4", fault: "power cut", run: power::power_cuts },
    Row { number: "S", fault: "shards 1, 4, 2, 3 over restarts", run: crash::shards_change },
];
