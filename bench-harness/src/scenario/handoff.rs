//! Hand-off between two cores: the ring that carries batches from the dealer to a shard, with nothing in them.
//!
//! Items are frontiers in rising order; the taking side checks that none is lost, doubled or out of order. What a shard does
//! with them is not here. A run in which nothing arrives for a second has failed.

use super::digest::{Digest, ResultRow};
use super::params::{ParamSpec, Params};
use super::record::median;
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use corefold_aggregator::time::EventTime;
use corefold_engine::links::{ARRIVALS_MAX, DealerEnds, Dealt, ShardEnds, link};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// See the module.
pub struct Handoff;

/// Nothing has arrived for so long: a stall.
const GAP_MAX: Duration = Duration::from_secs(1);

/// Places that are free again before a side that found the ring full goes on.
const ROOM: usize = ARRIVALS_MAX / 2;

/// Looks at a ring that is full or empty before the core is given away.
const LOOKS_MAX: u32 = 20_000;

impl Scenario for Handoff {
    fn name(&self) -> &'static str {
        "hand-off"
    }

    fn about(&self) -> &'static str {
        "items between two cores through the engine's single-producer ring"
    }

    fn params(&self) -> Vec<ParamSpec> {
        vec![
            ParamSpec::count("items", ["50M", "50k"], [1, 10_000_000_000], "items handed over"),
            ParamSpec::count("chunk", ["1", "1"], [1, ARRIVALS_MAX as u64], "items handed over at a time"),
            ParamSpec::count("runs", ["1", "2"], [1, 10_000], "runs in a round, each with a ring of its own"),
            ParamSpec::count("load", ["0", "1"], [0, 1_024], "threads that do nothing but keep cores busy"),
        ]
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        Ok(Box::new(PreparedHandoff {
            items: params.count("items")?,
            chunk: params.size("chunk")?,
            runs: params.size("runs")?,
            load: params.size("load")?,
            setting: setting.clone(),
        }))
    }
}

struct PreparedHandoff {
    items: u64,
    chunk: usize,
    runs: usize,
    load: usize,
    setting: Setting,
}

impl Prepared for PreparedHandoff {
    fn expected(&self) -> Digest {
        // The sum of all numbers, as the taking side makes it.
        let items = u128::from(self.items);
        let mut digest = Digest::default();
        let sum = (items * (items - 1) / 2) as u64;
        (0..self.runs).for_each(|_| digest.join(row(self.items, sum, 0)));
        digest
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..self.load {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let found = self.all_runs();
            is_over.store(true, Ordering::Relaxed);
            found
        })
    }
}

impl PreparedHandoff {
    fn all_runs(&self) -> Result<Round, BenchError> {
        let (mut digest, mut costs, mut gap) = (Digest::default(), Vec::new(), Duration::ZERO);
        for run in 1..=self.runs {
            let (taken, total) = self.one_run()?;
            if taken.gap > GAP_MAX {
                return Err(BenchError::Failed(format!(
                    "the hand-off has stalled: in run {run} nothing arrived for {:.1} s, after {} items",
                    taken.gap.as_secs_f64(),
                    taken.count
                )));
            }
            digest.join(row(taken.count, taken.sum, taken.out_of_order));
            costs.push(total.as_secs_f64() * 1e9 / self.items as f64);
            gap = gap.max(taken.gap);
        }
        let cost = median(&costs);
        let worst = costs.iter().copied().fold(0.0, f64::max);
        let metrics = vec![
            Metric::cost("hand-off", "ns/item", cost),
            Metric::cost("slowest run", "ns/item", worst),
            Metric::rate("throughput", "M items/s", 1e3 / cost),
            Metric::cost("longest gap", "us", gap.as_secs_f64() * 1e6),
        ];
        Ok(Round { metrics, digest, latency: None })
    }

    fn one_run(&self) -> Result<(Taken, Duration), BenchError> {
        let (shard, dealer, _coordinator) = link();
        let (items, chunk, cores) = (self.items, self.chunk, &self.setting.cores);
        std::thread::scope(|scope| {
            let taking = scope.spawn(move || -> Result<Taken, BenchError> {
                let _pin = cores.pin(1)?;
                Ok(take_all(shard, items, chunk, GAP_MAX))
            });
            let pin = cores.pin(0);
            let began = Instant::now();
            // Without its pin nothing is sent, and the taking side sees the ring abandoned.
            let sent = pin.map(|_pin| send_all(dealer, items, chunk));
            let taken =
                taking.join().map_err(|_| BenchError::Failed("the taking thread has panicked".to_owned()))??;
            let total = began.elapsed();
            sent?;
            Ok((taken, total))
        })
    }
}

fn row(count: u64, sum: u64, out_of_order: u64) -> Digest {
    let mut digest = Digest::default();
    digest.add(&ResultRow { end: 0, key: 0, count, sum, min: out_of_order, max: 0 });
    digest
}

/// Waits a little; gives the core away once it has waited for long, and says so.
fn pause(looks: &mut u32) -> bool {
    *looks += 1;
    if *looks < LOOKS_MAX {
        std::hint::spin_loop();
        return false;
    }
    *looks = 0;
    std::thread::yield_now();
    true
}

fn send_all(mut dealer: DealerEnds, items: u64, chunk: usize) {
    let (mut next, mut looks) = (0, 0);
    while next < items {
        if dealer.arrivals.is_abandoned() {
            return;
        }
        let count = chunk.min((items - next) as usize);
        let is_full = if chunk == 1 {
            dealer.arrivals.push(Dealt::Frontier(EventTime(next as i64))).is_err()
        } else {
            let first = next as i64;
            let room = dealer.arrivals.write_chunk_uninit(count);
            room.map(|room| room.fill_from_iter((first..).map(|number| Dealt::Frontier(EventTime(number))))).is_err()
        };
        if !is_full {
            next += count as u64;
            continue;
        }
        // Right behind the other side both would fetch the same lines: whoever finds no room waits for room for many.
        while dealer.arrivals.slots() < ROOM.max(count) && !dealer.arrivals.is_abandoned() {
            pause(&mut looks);
        }
    }
}

struct Taken {
    count: u64,
    sum: u64,
    out_of_order: u64,
    gap: Duration,
}

/// Items between two looks at the clock.
const CLOCK_EVERY: u64 = 4_096;

fn take_all(mut shard: ShardEnds, items: u64, chunk: usize, gap_max: Duration) -> Taken {
    let mut taken = Taken { count: 0, sum: 0, out_of_order: 0, gap: Duration::ZERO };
    let (mut looks, mut looked_at) = (0, Instant::now());
    let take = |taken: &mut Taken, dealt: Dealt| {
        let number = match dealt {
            Dealt::Frontier(time) => time.0 as u64,
            Dealt::Batch(_) => u64::MAX,
        };
        taken.out_of_order += u64::from(number != taken.count);
        taken.sum = taken.sum.wrapping_add(number);
        taken.count += 1;
    };
    while taken.count < items {
        let before = taken.count;
        let mut has_waited = false;
        if chunk == 1 {
            match shard.arrivals.pop() {
                Ok(dealt) => take(&mut taken, dealt),
                Err(_) if shard.arrivals.is_abandoned() && shard.arrivals.is_empty() => return taken,
                Err(_) => has_waited = pause(&mut looks),
            }
        } else if let Ok(found) = shard.arrivals.read_chunk(chunk) {
            // Where the other side stands is looked at only when less than a chunk is known to be there, as `pop` does.
            found.into_iter().for_each(|dealt| take(&mut taken, dealt));
        } else {
            match shard.arrivals.slots().min(chunk) {
                0 if shard.arrivals.is_abandoned() && shard.arrivals.is_empty() => return taken,
                0 => has_waited = pause(&mut looks),
                count => {
                    if let Ok(found) = shard.arrivals.read_chunk(count) {
                        found.into_iter().for_each(|dealt| take(&mut taken, dealt));
                    }
                }
            }
        }
        if has_waited || before / CLOCK_EVERY != taken.count / CLOCK_EVERY {
            let now = Instant::now();
            taken.gap = taken.gap.max(now - looked_at);
            if taken.gap > gap_max {
                // A stall: the other side sees that nobody takes any more.
                return taken;
            }
            if !has_waited {
                looked_at = now;
            }
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_ends_the_run() {
        let (shard, dealer, _coordinator) = link();
        // Nobody sends.
        let taken = take_all(shard, 10, 1, Duration::from_millis(5));
        assert_eq!(taken.count, 0);
        assert!(taken.gap > Duration::from_millis(5));
        assert!(dealer.arrivals.is_abandoned());
    }
}
