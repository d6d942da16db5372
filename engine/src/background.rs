//! Threads beside the cores: what a running engine has them do, such as writing results, snapshots and zeros, may wait; what
//! the cores do may not.
//!
//! Cores are pinned by their executors. Reader, parsers and ways in are not in the background: they feed the cores.

use crate::topology::{Topology, cpu_set};
use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::sched_setaffinity;

/// How much nicer than the coordinator such a thread is on its core: that gets it at once when it wakes, and a quarter is left.
const NICER_BY: i32 = 5;

/// The largest niceness that Linux knows.
const NICEST: i32 = 19;

/// Where and how urgently the threads beside the cores run; by default anywhere and as urgently as all others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Background {
    cores: Vec<usize>,
    is_apart: bool,
}

impl Background {
    /// Off the cores of shards, and behind the coordinator on its own. Where shards have all cores they run as others do: with
    /// little processor time, cores that look for work would leave them none.
    pub fn beside(topology: &Topology) -> Background {
        Background { cores: topology.without_shards(), is_apart: true }
    }

    /// Lets others that wait for this core have it, for the coordinator: it shares its core with these threads and with
    /// producers on the same machine, and a slide of many groups takes milliseconds, which the scheduler would let it have.
    pub fn give_way(&self) {
        if self.is_apart {
            std::thread::yield_now();
        }
    }

    /// To be called by the thread itself, before its work. What the system refuses is left as it was: that may cost time, and
    /// nothing else.
    pub fn enter(&self) {
        if !self.cores.is_empty() {
            let _ = sched_setaffinity(None, &cpu_set(&self.cores));
            if let Ok(niceness) = getpriority_process(None) {
                // Linux keeps a niceness for each thread; 0 is the one that asks.
                let _ = setpriority_process(None, niceness.saturating_add(NICER_BY).min(NICEST));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::ShardsWanted;
    use rustix::thread::{CpuSet, sched_getaffinity};

    /// What a thread finds of itself after it entered.
    fn entered(background: Background) -> (Vec<usize>, i32) {
        let thread = std::thread::spawn(move || {
            background.enter();
            let set = sched_getaffinity(None).expect("a mask");
            let cores = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
            (cores, getpriority_process(None).expect("a niceness"))
        });
        thread.join().expect("no panic")
    }

    #[test]
    fn a_thread_leaves_the_cores_of_shards_and_gives_way_to_them() {
        let topology = Topology::of_this_machine(ShardsWanted::Count(1), None).expect("a core");
        let niceness = getpriority_process(None).expect("a niceness");
        let (all, same) = entered(Background::default());
        assert_eq!(same, niceness);
        let (cores, nicer) = entered(Background::beside(&topology));
        assert_eq!(
            nicer,
            if topology.without_shards().is_empty() { niceness } else { (niceness + NICER_BY).min(NICEST) }
        );
        let is_alone = all.len() == 1;
        let expected: Vec<_> = all.into_iter().filter(|core| is_alone || !topology.shards.contains(core)).collect();
        assert_eq!(cores, expected);
        assert_eq!(getpriority_process(None).expect("a niceness"), niceness, "the thread that asked is as it was");
    }
}
