//! Which cores a measurement runs on: whole physical cores first, all of one NUMA node, and not core 0 if there is another.
//!
//! The order is made from `/sys`; the pin holds for the calling thread and what it starts. How the engine places its own
//! threads is not here.

use super::BenchError;
use corefold_engine::background::Background;
use corefold_engine::topology::Topology;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::path::Path;

/// A core as the kernel shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Core {
    /// Its number.
    pub id: usize,
    /// Its NUMA node.
    pub node: usize,
    /// The lowest thread of the same physical core.
    pub first_thread: usize,
}

/// Cores that may be used, the best first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cores {
    /// In the order of use.
    pub order: Vec<Core>,
    /// Whether measurements are pinned at all.
    pub pins: bool,
}

impl Cores {
    /// Those that this process may use.
    pub fn of_this_machine(pins: bool) -> Cores {
        let allowed = sched_getaffinity(None).map(|set| members(&set)).unwrap_or_default();
        let root = Path::new("/sys/devices/system");
        Cores { order: ordered(allowed.into_iter().map(|id| look(root, id)).collect()), pins }
    }

    /// How many physical cores there are.
    pub fn physical(&self) -> usize {
        self.order.iter().filter(|core| core.first_thread == core.id).count().max(1)
    }

    /// Off the core at `place` of the order, as the engine has it for the threads beside its shards.
    pub fn beside(&self, place: usize) -> Background {
        let Some(core) = self.order.get(place).filter(|_| self.pins) else { return Background::default() };
        let allowed: Vec<usize> = self.order.iter().map(|core| core.id).collect();
        Background::beside(&Topology { coordinator: core.id, shards: vec![core.id], allowed, warnings: Vec::new() })
    }

    /// Pins the calling thread to the core at `place` of the order, until the pin is dropped.
    pub fn pin(&self, place: usize) -> Result<Pin, BenchError> {
        self.pin_to(place..place + 1)
    }

    /// Pins the calling thread, and what it starts, to so many of the best cores.
    pub fn pin_to(&self, places: std::ops::Range<usize>) -> Result<Pin, BenchError> {
        if !self.pins || self.order.is_empty() {
            return Ok(Pin { before: None });
        }
        let before = sched_getaffinity(None).ok();
        let mut set = CpuSet::new();
        places.for_each(|place| set.set(self.order[place % self.order.len()].id));
        sched_setaffinity(None, &set).map_err(|error| BenchError::Io {
            what: "cannot pin the thread to a core; --no-pin measures without".to_owned(),
            error: error.into(),
        })?;
        Ok(Pin { before })
    }
}

/// Holds a thread on its cores; dropped, the thread may run where it could before. Drop it in the thread that made it.
pub struct Pin {
    before: Option<CpuSet>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The cores were allowed a moment ago; if they are not any more there is nothing to go back to.
            let _ = sched_setaffinity(None, before);
        }
    }
}

fn members(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

/// First threads of physical cores before second ones, the node with the most cores before others, core 0 last of its kind:
/// the kernel's own work tends to be there.
fn ordered(mut cores: Vec<Core>) -> Vec<Core> {
    let sizes: Vec<usize> =
        cores.iter().map(|core| cores.iter().filter(|other| other.node == core.node).count()).collect();
    let size_of = |core: &Core, all: &[Core]| all.iter().position(|other| other == core).map_or(0, |at| sizes[at]);
    let all = cores.clone();
    let first_allowed =
        |core: &Core| all.iter().filter(|other| other.first_thread == core.first_thread).map(|o| o.id).min();
    cores.sort_by_key(|core| {
        let is_second = first_allowed(core) != Some(core.id);
        (std::cmp::Reverse(size_of(core, &all)), core.node, is_second, core.id == 0, core.id)
    });
    cores
}

fn look(root: &Path, id: usize) -> Core {
    let siblings = fs::read_to_string(root.join(format!("cpu/cpu{id}/topology/thread_siblings_list")));
    let first_thread = siblings.ok().and_then(|text| core_list(text.trim()).first().copied()).unwrap_or(id);
    let nodes = fs::read_dir(root.join(format!("cpu/cpu{id}"))).into_iter().flatten().flatten();
    let names = nodes.filter_map(|entry| entry.file_name().into_string().ok());
    let node = names.filter_map(|name| name.strip_prefix("node")?.parse().ok()).min().unwrap_or(0);
    Core { id, node, first_thread }
}

/// Numbers of a list such as `0-3,8`.
fn core_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse::<usize>().ok()?..=to.parse::<usize>().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_cores_of_one_node_come_first() {
        let core = |id, node, first_thread| Core { id, node, first_thread };
        let ids = |cores: Vec<Core>| ordered(cores).iter().map(|core| core.id).collect::<Vec<_>>();
        let two_nodes = vec![
            core(0, 0, 0),
            core(1, 0, 1),
            core(2, 1, 2),
            core(3, 1, 3),
            core(4, 0, 0),
            core(5, 0, 1),
            core(6, 1, 2),
        ];
        assert_eq!(ids(two_nodes), [1, 0, 4, 5, 2, 3, 6]);
        assert_eq!(ids(vec![core(0, 0, 0)]), [0]);
        // Only the second thread of a core is allowed: it is as good as a first one.
        assert_eq!(ids(vec![core(2, 0, 2), core(5, 0, 1), core(6, 0, 2)]), [2, 5, 6]);
    }

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(core_list("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(core_list("5"), [5]);
        assert!(core_list("").is_empty());
    }

    #[test]
    fn a_pin_is_taken_back() {
        let before = sched_getaffinity(None).map(|set| members(&set)).unwrap();
        let cores = Cores::of_this_machine(true);
        let pin = cores.pin(0).unwrap();
        assert_eq!(sched_getaffinity(None).map(|set| members(&set)).unwrap(), [cores.order[0].id]);
        drop(pin);
        assert_eq!(sched_getaffinity(None).map(|set| members(&set)).unwrap(), before);
    }
}
