//! Hand-off between two cores: the ring that carries batches from the dealer to a shard, with nothing in them.
//!
//! Items are frontiers in rising order; the taking side checks that none is lost, doubled or out of order. What a shard does
//! with them is not here.

use super::digest::{Digest, ResultRow};
use super::params::{ParamSpec, Params};
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use corefold_aggregator::time::EventTime;
use corefold_engine::links::{ARRIVALS_MAX, DealerEnds, ShardEnds, link};
use corefold_shards::shard::Arrival;
use std::time::{Duration, Instant};

/// See the module.
pub struct Handoff;

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
        ]
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let (items, chunk) = (params.count("items")?, params.size("chunk")?);
        Ok(Box::new(PreparedHandoff { items, chunk, setting: setting.clone() }))
    }
}

struct PreparedHandoff {
    items: u64,
    chunk: usize,
    setting: Setting,
}

impl Prepared for PreparedHandoff {
    fn expected(&self) -> Digest {
        // The sum of all numbers, as the taking side makes it.
        let items = u128::from(self.items);
        row(self.items, (items * (items - 1) / 2) as u64, 0)
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let (shard, dealer, _coordinator) = link();
        let (items, chunk, cores) = (self.items, self.chunk, &self.setting.cores);
        std::thread::scope(|scope| {
            let taking = scope.spawn(move || -> Result<Taken, BenchError> {
                let _pin = cores.pin(1)?;
                Ok(take_all(shard, items, chunk))
            });
            let pin = cores.pin(0);
            let began = Instant::now();
            // Without its pin nothing is sent, and the taking side sees the ring abandoned.
            let sent = pin.map(|_pin| send_all(dealer, items, chunk));
            let taken =
                taking.join().map_err(|_| BenchError::Failed("the taking thread has panicked".to_owned()))??;
            let total = began.elapsed();
            sent?;
            let metrics = vec![
                Metric::cost("hand-off", "ns/item", total.as_secs_f64() * 1e9 / items as f64),
                Metric::rate("throughput", "M items/s", items as f64 / total.as_secs_f64() / 1e6),
                Metric::cost("longest gap", "us", taken.gap.as_secs_f64() * 1e6),
            ];
            Ok(Round { metrics, digest: row(taken.count, taken.sum, taken.out_of_order), latency: None })
        })
    }
}

fn row(count: u64, sum: u64, out_of_order: u64) -> Digest {
    let mut digest = Digest::default();
    digest.add(&ResultRow { end: 0, key: 0, count, sum, min: out_of_order, max: 0 });
    digest
}

/// Waits a little; gives the core away once it has waited for long.
fn pause(looks: &mut u32) {
    *looks += 1;
    if *looks < LOOKS_MAX {
        std::hint::spin_loop();
    } else {
        *looks = 0;
        std::thread::yield_now();
    }
}

fn send_all(mut dealer: DealerEnds, items: u64, chunk: usize) {
    let (mut next, mut looks) = (0, 0);
    while next < items {
        if dealer.arrivals.is_abandoned() {
            return;
        }
        if chunk == 1 {
            match dealer.arrivals.push(Arrival::Frontier(EventTime(next as i64))) {
                Ok(()) => next += 1,
                Err(_) => pause(&mut looks),
            }
            continue;
        }
        let count = chunk.min((items - next) as usize);
        match dealer.arrivals.write_chunk_uninit(count) {
            Ok(room) => {
                let first = next as i64;
                room.fill_from_iter((first..).map(|number| Arrival::Frontier(EventTime(number))));
                next += count as u64;
            }
            Err(_) => pause(&mut looks),
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

fn take_all(mut shard: ShardEnds, items: u64, chunk: usize) -> Taken {
    let mut taken = Taken { count: 0, sum: 0, out_of_order: 0, gap: Duration::ZERO };
    let (mut looks, mut looked_at) = (0, Instant::now());
    let take = |taken: &mut Taken, arrival: Arrival| {
        let number = match arrival {
            Arrival::Frontier(time) => time.0 as u64,
            Arrival::Batch(_) | Arrival::Verified(_) => u64::MAX,
        };
        taken.out_of_order += u64::from(number != taken.count);
        taken.sum = taken.sum.wrapping_add(number);
        taken.count += 1;
    };
    while taken.count < items {
        let before = taken.count;
        if chunk == 1 {
            match shard.arrivals.pop() {
                Ok(arrival) => take(&mut taken, arrival),
                Err(_) if shard.arrivals.is_abandoned() && shard.arrivals.is_empty() => return taken,
                Err(_) => pause(&mut looks),
            }
        } else {
            match shard.arrivals.slots().min(chunk) {
                0 if shard.arrivals.is_abandoned() && shard.arrivals.is_empty() => return taken,
                0 => pause(&mut looks),
                count => {
                    if let Ok(found) = shard.arrivals.read_chunk(count) {
                        found.into_iter().for_each(|arrival| take(&mut taken, arrival));
                    }
                }
            }
        }
        if before / CLOCK_EVERY != taken.count / CLOCK_EVERY {
            let now = Instant::now();
            taken.gap = taken.gap.max(now - looked_at);
            looked_at = now;
        }
    }
    taken
}
