//! The rows of the fault matrix that are tried on the real program.
//!
//! The other row (6) belongs to the simulator.

pub mod broken;
pub mod choked;
pub mod clock;
pub mod confined;
pub mod crash;
pub mod damaged;
pub mod full;
pub mod garbage;
pub mod hostile;
pub mod network;
pub mod power;
pub mod slow;
pub mod steps;

use super::{Checked, Setting};

/// A row: its number, what is done, and the check, which tells what it saw.
pub struct Row {
    /// As in the matrix; `S` is the change of the shard count, `N` and `D` are producers elsewhere with everybody killed and
    /// with slow disks.
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
    Row { number: "5", fault: "torn and shortened segments", run: damaged::torn_segments },
    Row { number: "7", fault: "every flipped bit", run: damaged::flipped_bits },
    Row { number: "8", fault: "stale, missing, exchanged files", run: damaged::misplaced_files },
    Row { number: "9", fault: "damaged snapshots", run: damaged::damaged_snapshots },
    Row { number: "10", fault: "disk full", run: full::full_disk },
    Row { number: "11", fault: "write and sync errors", run: full::write_errors },
    Row { number: "12", fault: "limit of file size", run: confined::file_size },
    Row { number: "13", fault: "read errors", run: broken::read_errors },
    Row { number: "14", fault: "slow and frozen disk", run: slow::slow_disk },
    Row { number: "15", fault: "stopped process, starved shard", run: slow::stalled },
    Row { number: "16", fault: "too little memory, locked memory, open files", run: confined::too_little },
    Row { number: "17", fault: "resets, partitions, little bandwidth", run: network::bad_network },
    Row { number: "18", fault: "hostile clients", run: hostile::hostile_clients },
    Row { number: "19", fault: "clock jumps, starvation", run: slow::clocks },
    Row { number: "20", fault: "io_uring forbidden, second process", run: confined::forbidden },
    Row { number: "21", fault: "garbage inputs", run: garbage::garbage },
    Row { number: "D", fault: "producers faster than the disk; one frozen shard", run: choked::choked_disks },
    Row { number: "N", fault: "producers, connections and server killed", run: network::all_killed },
    Row { number: "S", fault: "shards 1, 4, 2, 3 over restarts", run: crash::shards_change },
];
