//! The dealer of a simulated engine: gives the batches of a feed to shards, in the engine's routing, some of them twice.

use super::feed::Feed;
use crate::agree::RunError;
use crate::entropy::Entropy;
use crate::workload::arguments::Routing;
use corefold_aggregator::time::EventTime;
use corefold_engine::feed::stamps::StampedBatch;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::shard::Arrival;
use std::collections::VecDeque;

/// How it deals: all of it drawn, none of it seen in results.
#[derive(Clone, Debug)]
struct Habits {
    /// Batches that wait for one shard.
    arrivals_max: usize,
    /// Chance that a shard is told the frontier when the dealer moves.
    tell_chance: f64,
    /// Chance that a batch is delivered twice.
    twice_chance: f64,
}

/// See the module.
pub struct Dealer<'a> {
    feed: Feed<'a>,
    routing: Routing,
    habits: Habits,
    /// What could not be pushed yet.
    outgoing: VecDeque<(Option<u16>, Arrival, EventTime)>,
    told: Vec<EventTime>,
    next_shard: usize,
    dealt: bool,
}

impl<'a> Dealer<'a> {
    /// Deals `feed` to `shards` shards.
    pub fn new(feed: Feed<'a>, routing: Routing, shards: usize, entropy: &mut Entropy) -> Dealer<'a> {
        Dealer {
            feed,
            routing,
            habits: Habits {
                arrivals_max: *entropy.pick(&[1, 2, 8, 32]),
                tell_chance: *entropy.pick(&[0.05, 0.5, 1.0]),
                twice_chance: *entropy.pick(&[0.0, 0.0, 0.1]),
            },
            outgoing: VecDeque::new(),
            told: vec![EventTime::MIN; shards],
            next_shard: 0,
            dealt: false,
        }
    }

    /// Whether all of the feed was taken.
    pub fn has_dealt(&self) -> bool {
        self.dealt
    }

    /// Takes no more from the feed.
    pub fn stop(&mut self) {
        self.dealt = true;
    }

    /// Whether nothing more will come.
    pub fn has_ended(&self) -> bool {
        self.dealt && self.outgoing.is_empty()
    }

    /// One turn. `arrivals_of` is the queue of a shard.
    pub fn turn<S>(
        &mut self,
        shards: &mut [S],
        arrivals_of: impl Fn(&mut S) -> &mut VecDeque<Arrival>,
        entropy: &mut Entropy,
    ) -> Result<(), RunError> {
        let frontier = self.feed.frontier();
        for (shard, told) in shards.iter_mut().zip(&mut self.told) {
            let arrivals = arrivals_of(shard);
            let has_room = arrivals.len() < self.habits.arrivals_max;
            if self.outgoing.is_empty() && *told < frontier && has_room && entropy.chance(self.habits.tell_chance) {
                arrivals.push_back(Arrival::Frontier(frontier));
                *told = frontier;
            }
        }
        if self.has_ended() {
            return Ok(());
        }
        if self.outgoing.is_empty() {
            match self.feed.next(entropy)? {
                Some(StampedBatch { parts, is_split, frontier }) => {
                    let parts = parts.into_iter().map(|(part, bytes)| (is_split.then_some(part), bytes));
                    self.outgoing.extend(parts.map(|(part, bytes)| (part, Arrival::Batch(bytes), frontier)));
                }
                None => self.dealt = true,
            }
        }
        while let Some((part, arrival, frontier)) = self.outgoing.pop_front() {
            let shard = self.choose(part, shards.len(), entropy);
            let arrivals = arrivals_of(&mut shards[shard]);
            if arrivals.len() >= self.habits.arrivals_max {
                self.outgoing.push_front((part, arrival, frontier));
                return Ok(());
            }
            if let Arrival::Batch(bytes) = &arrival
                && entropy.chance(self.habits.twice_chance)
            {
                arrivals.push_back(Arrival::Batch(AlignedBytes::clone(bytes)));
            }
            arrivals.push_back(arrival);
            self.told[shard] = frontier;
        }
        Ok(())
    }

    fn choose(&mut self, part: Option<u16>, count: usize, entropy: &mut Entropy) -> usize {
        match (self.routing, part) {
            (Routing::Hash, Some(part)) => usize::from(part) % count,
            (Routing::Hash | Routing::RoundRobin, _) => {
                self.next_shard = (self.next_shard + 1) % count;
                self.next_shard
            }
            // Loads are whatever they are.
            (Routing::Load, _) => entropy.index(count),
        }
    }
}
