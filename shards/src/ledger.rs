//! The producer ledger: which batches of which lane have been seen, so that none counts twice.
//!
//! How many events became what is counted in [`crate::counters`], not here.

use crate::batch::wire::Stamp;
use std::collections::BTreeMap;

/// One part of one lane of one producer: what a sequence counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneKey {
    /// Who sends.
    pub producer: u64,
    /// Sub-stream of the producer.
    pub lane: u32,
    /// Part of a batch split by key; 0 when not split.
    pub part: u16,
}

impl LaneKey {
    /// The lane part that a batch belongs to.
    pub fn of(stamp: &Stamp) -> LaneKey {
        LaneKey { producer: stamp.producer, lane: stamp.lane, part: stamp.part }
    }
}

/// Sequences seen, per lane part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerLedger {
    lanes: BTreeMap<LaneKey, SequenceSet>,
}

impl ProducerLedger {
    /// Whether the batch has been seen.
    pub fn contains(&self, stamp: &Stamp) -> bool {
        self.lanes.get(&LaneKey::of(stamp)).is_some_and(|set| set.contains(stamp.sequence))
    }

    /// Notes the batch as seen; false if it was already.
    pub fn insert(&mut self, stamp: &Stamp) -> bool {
        self.lanes.entry(LaneKey::of(stamp)).or_default().insert(stamp.sequence)
    }

    /// Notes all of `start..end` of a lane part as seen.
    pub fn insert_range(&mut self, key: LaneKey, start: u64, end: u64) {
        self.lanes.entry(key).or_default().insert_range(start, end);
    }

    /// Adds all that `other` has seen.
    pub fn unite(&mut self, other: &ProducerLedger) {
        for (key, set) in &other.lanes {
            let ours = self.lanes.entry(*key).or_default();
            set.ranges().for_each(|(start, end)| ours.insert_range(start, end));
        }
    }

    /// What has been seen of a lane part.
    pub fn lane(&self, key: LaneKey) -> Option<&SequenceSet> {
        self.lanes.get(&key)
    }

    /// All lane parts, in order.
    pub fn lanes(&self) -> impl Iterator<Item = (&LaneKey, &SequenceSet)> {
        self.lanes.iter()
    }
}

/// A set of sequence numbers as half-open ranges: one range while nothing is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceSet {
    /// Sorted, disjoint and not touching.
    ranges: Vec<(u64, u64)>,
}

impl SequenceSet {
    /// Whether `sequence` is in the set.
    pub fn contains(&self, sequence: u64) -> bool {
        let at = self.ranges.partition_point(|&(start, _)| start <= sequence);
        at > 0 && sequence < self.ranges[at - 1].1
    }

    /// Adds `sequence`; false if it was in the set.
    pub fn insert(&mut self, sequence: u64) -> bool {
        // Sequences mostly come in order: try the end before searching.
        if let Some(last) = self.ranges.last_mut()
            && sequence == last.1
        {
            last.1 += 1;
            return true;
        }
        if self.contains(sequence) {
            return false;
        }
        self.insert_range(sequence, sequence + 1);
        true
    }

    /// Adds all of `start..end`.
    pub fn insert_range(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let first = self.ranges.partition_point(|&(_, e)| e < start);
        let last = self.ranges.partition_point(|&(s, _)| s <= end);
        let merged = self.ranges[first..last].iter().fold((start, end), |(s, e), r| (s.min(r.0), e.max(r.1)));
        self.ranges.splice(first..last, [merged]);
    }

    /// The smallest number that is not in the set.
    pub fn first_missing(&self) -> u64 {
        self.ranges.first().filter(|(start, _)| *start == 0).map_or(0, |(_, end)| *end)
    }

    /// One past the largest number in the set; 0 when empty.
    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |(_, end)| *end)
    }

    /// Half-open ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_sequence_set_is_a_set(steps in prop::collection::vec((0..40u64, 1..5u64), 0..60)) {
            let mut set = SequenceSet::default();
            let mut model = BTreeSet::new();
            for (start, length) in steps {
                if length == 1 {
                    prop_assert_eq!(set.insert(start), model.insert(start));
                } else {
                    set.insert_range(start, start + length);
                    model.extend(start..start + length);
                }
                for n in 0..50 {
                    prop_assert_eq!(set.contains(n), model.contains(&n));
                }
                prop_assert_eq!(set.first_missing(), (0..).find(|n| !model.contains(n)).unwrap());
                prop_assert_eq!(set.end(), model.last().map_or(0, |n| n + 1));
                prop_assert!(set.ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
        }
    }
}
