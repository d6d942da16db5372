//! Which core runs what: the allowed cores, the coordinator's, the shards'.
//!
//! Pinning itself is done by the executors, and by the threads beside them; the map is made here.

use rustix::thread::CpuSet;

/// Which core the coordinator and each shard are pinned to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// The coordinator's core.
    pub coordinator: usize,
    /// The core of each shard.
    pub shards: Vec<usize>,
    /// All cores that the process may use.
    pub allowed: Vec<usize>,
    /// What the user should know, such as cores that are shared.
    pub warnings: Vec<String>,
}

/// How many shards are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ShardsWanted {
    /// One per allowed core but the coordinator's.
    #[default]
    Auto,
    /// So many, on shared cores if there are not enough.
    Count(usize),
}

/// Most shards of one engine.
pub const SHARDS_MAX: usize = 1024;

/// Why no map can be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TopologyError {
    /// The machine told no cores.
    #[error("cannot tell which cores this process may use; check the CPU affinity (taskset -p $$)")]
    NoCores,
    /// The coordinator's core is not allowed.
    #[error("core {core} was asked for the coordinator, but this process may only use cores {allowed:?}")]
    CoordinatorCore {
        /// The core asked for.
        core: usize,
        /// Cores that are allowed.
        allowed: Vec<usize>,
    },
    /// Too many shards or none.
    #[error("{found} shards were asked for; expected 1 to {SHARDS_MAX}")]
    ShardCount {
        /// How many were asked for.
        found: usize,
    },
}

impl Topology {
    /// The map for this process.
    pub fn of_this_machine(wanted: ShardsWanted, coordinator: Option<usize>) -> Result<Topology, TopologyError> {
        let allowed = core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
        Topology::new(allowed, wanted, coordinator)
    }

    /// The map for the `allowed` cores: the coordinator on the first (or the one asked for), shards on the others in
    /// turn. With a single core, or more shards than cores, cores are shared and a warning says so.
    pub fn new(
        allowed: Vec<usize>,
        wanted: ShardsWanted,
        coordinator: Option<usize>,
    ) -> Result<Topology, TopologyError> {
        let first = *allowed.first().ok_or(TopologyError::NoCores)?;
        let coordinator = coordinator.unwrap_or(first);
        if !allowed.contains(&coordinator) {
            return Err(TopologyError::CoordinatorCore { core: coordinator, allowed });
        }
        let mut free: Vec<usize> = allowed.iter().copied().filter(|&core| core != coordinator).collect();
        let mut warnings = Vec::new();
        if free.is_empty() {
            free.push(coordinator);
        }
        let count = match wanted {
            ShardsWanted::Auto => free.len(),
            ShardsWanted::Count(count) if (1..=SHARDS_MAX).contains(&count) => count,
            ShardsWanted::Count(found) => return Err(TopologyError::ShardCount { found }),
        };
        if count > free.len() || allowed.len() == 1 {
            warnings.push(format!(
                "{count} shard(s) and the coordinator share {} core(s); results are the same, speed is not",
                allowed.len()
            ));
            // The coordinator has little to do: its core takes shards too once the others have one.
            if !free.contains(&coordinator) {
                free.push(coordinator);
            }
        }
        let shards = (0..count).map(|shard| free[shard % free.len()]).collect();
        Ok(Topology { coordinator, shards, allowed, warnings })
    }

    /// Cores that no shard has; none where each has one.
    pub fn without_shards(&self) -> Vec<usize> {
        self.allowed.iter().copied().filter(|core| !self.shards.contains(core)).collect()
    }
}

/// The cores as the kernel takes them; those that it has no number for are left out.
pub(crate) fn cpu_set(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    cores.iter().filter(|&&core| core < CpuSet::MAX_CPU).for_each(|&core| set.set(core));
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_take_the_cores_that_the_coordinator_leaves() {
        let map = |allowed: &[usize], wanted| Topology::new(allowed.to_vec(), wanted, None).unwrap();
        assert_eq!(map(&[0, 1, 2, 3], ShardsWanted::Auto).shards, [1, 2, 3]);
        assert_eq!(
            map(&[4, 6], ShardsWanted::Count(1)),
            Topology { coordinator: 4, shards: vec![6], allowed: vec![4, 6], warnings: vec![] }
        );
        let crowded = map(&[0, 1], ShardsWanted::Count(3));
        assert_eq!(crowded.shards, [1, 0, 1]);
        assert_eq!(crowded.warnings.len(), 1);
        let single = map(&[5], ShardsWanted::Auto);
        assert_eq!((single.shards, single.warnings.len()), (vec![5], 1));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(Topology::new(vec![], ShardsWanted::Auto, None), Err(TopologyError::NoCores));
        assert!(matches!(
            Topology::new(vec![0], ShardsWanted::Auto, Some(3)),
            Err(TopologyError::CoordinatorCore { core: 3, .. })
        ));
        assert_eq!(Topology::new(vec![0], ShardsWanted::Count(0), None), Err(TopologyError::ShardCount { found: 0 }));
    }
}
