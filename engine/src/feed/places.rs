//! Where the threads of the feed run: off the cores of shards while batches wait for these, anywhere while shards wait.
//!
//! A shard that has batches never leaves its core, and the scheduler lets a thread that waits behind it wait for
//! milliseconds: the coordinator's core is idle in between, but too shortly to fetch it. When there is too little for a shard
//! to do, its core is as good as any, and so it is when a shard stands still because its log or the coordinator does not keep
//! up. So the feed moves between the two as the rings fill and drain. Who deals is the dealer's.

use super::dealer::BATCHES_WAITING_MAX;
use crate::topology::{Topology, cpu_set};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Batches that wait for a shard when the feed leaves the cores of shards.
const PLENTY: usize = BATCHES_WAITING_MAX / 2;

/// Where they all run.
#[derive(Debug, Default)]
pub struct FeedPlaces {
    /// All cores, and those without a shard; `None` where each has one.
    cores: Option<[CpuSet; 2]>,
    is_apart: AtomicBool,
}

impl FeedPlaces {
    /// Anywhere, at first.
    pub fn new(topology: &Topology) -> FeedPlaces {
        let apart = topology.without_shards();
        let cores = (!apart.is_empty()).then(|| [cpu_set(&topology.allowed), cpu_set(&apart)]);
        FeedPlaces { cores, is_apart: AtomicBool::new(false) }
    }
}

/// One thread's place.
#[derive(Debug)]
pub struct FeedPlace {
    places: Arc<FeedPlaces>,
    is_apart: bool,
    /// Of the dealer: a shard has stood still since a ring was last empty.
    has_stood: bool,
}

impl FeedPlace {
    /// Of a thread that may run anywhere yet.
    pub fn new(places: &Arc<FeedPlaces>) -> FeedPlace {
        FeedPlace { places: Arc::clone(places), is_apart: false, has_stood: false }
    }

    /// Hears from the dealer how many places of a ring were taken when the next batch came to it.
    pub fn hear(&mut self, waiting: usize) {
        if waiting == 0 {
            self.has_stood = false;
            self.go(false);
        } else if waiting >= PLENTY && !self.has_stood {
            self.go(true);
        }
    }

    /// Hears from the dealer that a shard has taken nothing for much longer than a batch takes.
    pub fn hear_of_a_stop(&mut self) {
        self.has_stood = true;
        self.go(false);
    }

    fn go(&self, is_apart: bool) {
        // Read first: all of the feed reads it for each batch, and it seldom changes. A hint, so that no order matters.
        if self.places.is_apart.load(Ordering::Relaxed) != is_apart {
            self.places.is_apart.store(is_apart, Ordering::Relaxed);
        }
    }

    /// Moves the calling thread to where the feed is to run now. What the system refuses is left as it was: that costs time, and
    /// nothing else.
    pub fn take(&mut self) {
        let Some(cores) = &self.places.cores else { return };
        let is_apart = self.places.is_apart.load(Ordering::Relaxed);
        if is_apart != self.is_apart {
            let _ = sched_setaffinity(None, &cores[usize::from(is_apart)]);
            self.is_apart = is_apart;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::ShardsWanted;
    use rustix::thread::sched_getaffinity;

    fn cores_of_this_thread() -> Vec<usize> {
        let set = sched_getaffinity(None).expect("a mask");
        (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
    }

    /// The cores after each of `waiting` was heard; `None`: that a shard stands still.
    fn moves(topology: &Topology, waiting: &[Option<usize>]) -> Vec<Vec<usize>> {
        let places = Arc::new(FeedPlaces::new(topology));
        let waiting = waiting.to_vec();
        let thread = std::thread::spawn(move || {
            let mut place = FeedPlace::new(&places);
            let found = waiting.into_iter().map(|waiting| {
                match waiting {
                    Some(waiting) => place.hear(waiting),
                    None => place.hear_of_a_stop(),
                }
                place.take();
                cores_of_this_thread()
            });
            found.collect()
        });
        thread.join().expect("no panic")
    }

    #[test]
    fn the_feed_leaves_shards_that_have_plenty_and_comes_back_to_those_that_have_nothing() {
        let topology = Topology::of_this_machine(ShardsWanted::Count(1), None).expect("a core");
        let all = cores_of_this_thread();
        let apart = if all.len() == 1 { all.clone() } else { topology.without_shards() };
        let found = moves(&topology, &[0, PLENTY - 1, PLENTY, 1, PLENTY, 0, 1].map(Some));
        assert_eq!(found, [&all, &all, &apart, &apart, &apart, &all, &all].map(Clone::clone));
    }

    #[test]
    fn the_feed_comes_back_to_a_shard_that_stands_still_and_stays_until_that_has_taken_all() {
        let topology = Topology::of_this_machine(ShardsWanted::Count(1), None).expect("a core");
        let all = cores_of_this_thread();
        let apart = if all.len() == 1 { all.clone() } else { topology.without_shards() };
        let found = moves(&topology, &[Some(PLENTY), None, Some(PLENTY), Some(1), Some(PLENTY), Some(0), Some(PLENTY)]);
        assert_eq!(found, [&apart, &all, &all, &all, &all, &all, &apart].map(Clone::clone));
    }

    #[test]
    fn where_every_core_has_a_shard_the_feed_runs_anywhere() {
        let all = cores_of_this_thread();
        let shards = ShardsWanted::Count(all.len() + 1);
        let topology = Topology::of_this_machine(shards, None).expect("a core");
        assert!(topology.without_shards().is_empty());
        assert_eq!(moves(&topology, &[Some(PLENTY), Some(0)]), [all.clone(), all]);
    }
}
