//! `TopSketch`: the most frequent values of a column, exact while the distinct ones are few.
//!
//! A summary of J. Misra and D. Gries, "Finding repeated elements" (1982), merged and reduced as in P. K. Agarwal et
//! al., "Mergeable summaries" (2012): too many counters are reduced by taking the count of the first one too many
//! from all of them. How values become bytes is not here.

use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Counters that a reduction leaves at most; as many distinct values are always counted exactly.
pub const COUNTERS_KEPT: usize = 1024;

/// Counters that make a reduction due: each one then pays for as many additions as it has counters to drop.
const COUNTERS_MAX: usize = 2 * COUNTERS_KEPT;
/// Up to so many values are looked up one after the other, without an index.
const LINEAR_MAX: usize = 8;

/// One value's counter; the value is in `bytes` from `start` to the start of the next counter.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug)]
struct Counter {
    start: u64,
    count: u64,
}

/// Counts of byte strings. A count is never more than the true one, and less by at most [`TopSketch::error`].
///
/// The error is at most (additions - counts) / (`COUNTERS_KEPT` + 1), and 0 if no more than `COUNTERS_KEPT` distinct
/// values were added or merged.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default)]
pub struct TopSketch {
    error: u64,
    counters: Vec<Counter>,
    bytes: Vec<u8>,
    /// Hash table with linear probing: upper half of the hash, then position + 1; 0 is free. Absent while a linear
    /// search does, and in images.
    #[rkyv(with = rkyv::with::Skip)]
    index: Vec<u64>,
}

impl PartialEq for TopSketch {
    /// Equal counts and errors, in whatever order the values came.
    fn eq(&self, other: &TopSketch) -> bool {
        let sorted = |sketch: &TopSketch| -> Vec<(Vec<u8>, u64)> {
            let mut pairs: Vec<_> = sketch.iter().map(|(value, count)| (value.to_vec(), count)).collect();
            pairs.sort_unstable();
            pairs
        };
        self.error == other.error && self.len() == other.len() && sorted(self) == sorted(other)
    }
}

impl TopSketch {
    /// An empty sketch; it has no heap memory.
    pub fn new() -> TopSketch {
        TopSketch::default()
    }

    /// Adds `n` to the count of `value`.
    pub fn add(&mut self, value: &[u8], n: u64) {
        self.count(value, n);
        if self.counters.len() > COUNTERS_MAX {
            self.reduce();
        }
    }

    /// Adds another shard's sketch of the same pane; may reduce.
    pub fn merge_shard(&mut self, other: &TopSketch) {
        self.merge_panes(other);
        if self.counters.len() > COUNTERS_MAX {
            self.reduce();
        }
    }

    /// Adds the sketch of another pane; never reduces, so a window has no error but that of its panes. Such a sketch
    /// is for reading and for more panes: [`TopSketch::add`] and [`TopSketch::merge_shard`] may reduce it.
    pub fn merge_panes(&mut self, other: &TopSketch) {
        self.error = self.error.saturating_add(other.error);
        for (value, count) in other.iter() {
            self.count(value, count);
        }
    }

    /// The `k` values with the largest counts, by count descending, then by value ascending.
    pub fn top(&self, k: usize) -> Vec<(&[u8], u64)> {
        let mut pairs: Vec<(&[u8], u64)> = self.iter().collect();
        let order = |a: &(&[u8], u64), b: &(&[u8], u64)| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0));
        if k < pairs.len() {
            pairs.select_nth_unstable_by(k, order);
            pairs.truncate(k);
        }
        pairs.sort_unstable_by(order);
        pairs
    }

    /// How much larger than counted any value's true count may be; a value that is not listed may have that many.
    pub fn error(&self) -> u64 {
        self.error
    }

    /// Counters in use.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// Values and counts, in no meaningful order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        (0..self.counters.len()).map(|position| (self.value(position), self.counters[position].count))
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.counters.capacity() * size_of::<Counter>() + self.bytes.capacity() + self.index.capacity() * 8
    }

    /// Whether the counters fit the bytes, and no value has two; false for a damaged image.
    pub fn is_consistent(&self) -> bool {
        let starts = self.counters.iter().map(|counter| counter.start).chain([self.bytes.len() as u64]);
        if !starts.clone().is_sorted() || starts.clone().next() != Some(0) {
            return false;
        }
        let mut values: Vec<&[u8]> = self.iter().map(|(value, _)| value).collect();
        values.sort_unstable();
        values.windows(2).all(|pair| pair[0] != pair[1]) && self.counters.iter().all(|counter| counter.count != 0)
    }

    fn value(&self, position: usize) -> &[u8] {
        let end = self.counters.get(position + 1).map_or(self.bytes.len(), |next| next.start as usize);
        &self.bytes[self.counters[position].start as usize..end]
    }

    fn count(&mut self, value: &[u8], n: u64) {
        if n == 0 {
            return;
        }
        match self.find(value) {
            Ok(position) => {
                let count = &mut self.counters[position].count;
                *count = count.saturating_add(n);
            }
            Err(slot) => {
                self.counters.push(Counter { start: self.bytes.len() as u64, count: n });
                self.bytes.extend_from_slice(value);
                if let Some((slot, tag)) = slot {
                    self.index[slot] = tag | self.counters.len() as u64;
                }
            }
        }
    }

    /// Position of `value`, or the free slot of the index for it and its tag, if there is an index.
    fn find(&mut self, value: &[u8]) -> Result<usize, Option<(usize, u64)>> {
        if self.counters.len() < LINEAR_MAX {
            return (0..self.counters.len()).find(|&position| self.value(position) == value).ok_or(None);
        }
        if !self.has_index() {
            self.build_index();
        }
        let tag = tag(value);
        let mask = self.index.len() - 1;
        let mut slot = home(tag, mask);
        loop {
            let entry = self.index[slot];
            if entry == 0 {
                return Err(Some((slot, tag)));
            }
            let position = (entry & POSITION_MASK) as usize - 1;
            if entry & !POSITION_MASK == tag && self.value(position) == value {
                return Ok(position);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Whether the index has room for one more.
    fn has_index(&self) -> bool {
        (self.counters.len() + 1) * 4 <= self.index.len() * 3
    }

    #[cold]
    fn build_index(&mut self) {
        let len = ((self.counters.len() + 1) * 2).next_power_of_two();
        let mask = len - 1;
        let mut index = vec![0; len];
        for position in 0..self.counters.len() {
            let tag = tag(self.value(position));
            let mut slot = home(tag, mask);
            while index[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            index[slot] = tag | (position as u64 + 1);
        }
        self.index = index;
    }

    /// Keeps at most [`COUNTERS_KEPT`] counters: takes the largest count that is one too many from all, and drops
    /// those that reach zero. As every reduction takes that much from more than `COUNTERS_KEPT` counters, the error
    /// stays within its bound.
    #[cold]
    fn reduce(&mut self) {
        let mut counts: Vec<u64> = self.counters.iter().map(|counter| counter.count).collect();
        let (_, &mut cut, _) = counts.select_nth_unstable_by(COUNTERS_KEPT, |a, b| b.cmp(a));
        let mut reduced = TopSketch { error: self.error.saturating_add(cut), ..TopSketch::default() };
        for (value, count) in self.iter().filter(|&(_, count)| count > cut) {
            reduced.counters.push(Counter { start: reduced.bytes.len() as u64, count: count - cut });
            reduced.bytes.extend_from_slice(value);
        }
        *self = reduced;
    }
}

const POSITION_MASK: u64 = (1 << 32) - 1;

fn tag(value: &[u8]) -> u64 {
    xxh3_64(value) & !POSITION_MASK
}

fn home(tag: u64, mask: usize) -> usize {
    (tag >> 32) as usize & mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn oracle_top(counts: &BTreeMap<Vec<u8>, u64>, k: usize) -> Vec<(Vec<u8>, u64)> {
        let mut pairs: Vec<_> = counts.clone().into_iter().collect();
        pairs.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        pairs.truncate(k);
        pairs
    }

    fn owned(pairs: Vec<(&[u8], u64)>) -> Vec<(Vec<u8>, u64)> {
        pairs.into_iter().map(|(value, count)| (value.to_vec(), count)).collect()
    }

    /// Skewed: small numbers are common, any up to `modulus` occurs.
    fn stream(seed: u64, count: usize, modulus: u64) -> Vec<(Vec<u8>, u64)> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state >> 33
        };
        (0..count)
            .map(|_| {
                let bound = next() % modulus + 1;
                (format!("v{}", next() % bound).into_bytes(), next() % 3 + 1)
            })
            .collect()
    }

    #[test]
    fn exact_while_distinct_values_are_few() {
        for (seed, modulus) in [(1, 1), (2, 7), (3, 9), (4, 100), (5, COUNTERS_KEPT as u64)] {
            let mut counts = BTreeMap::new();
            let mut shards = vec![TopSketch::new(); 5];
            for (index, (value, n)) in stream(seed, 20_000, modulus).into_iter().enumerate() {
                shards[index % 5].add(&value, n);
                *counts.entry(value).or_insert(0) += n;
            }
            let mut turned = TopSketch::new();
            shards.iter().rev().for_each(|shard| turned.merge_shard(shard));
            let mut merged = TopSketch::new();
            shards.iter().for_each(|shard| merged.merge_shard(shard));
            assert!(merged == turned);
            assert!(merged.is_consistent());
            assert_eq!(merged.error(), 0);
            for k in [0, 1, 3, 10, 1000, 5000] {
                assert_eq!(owned(merged.top(k)), oracle_top(&counts, k));
            }
        }
    }

    #[test]
    fn past_the_limit_counts_are_within_the_error() {
        for shard_count in [1, 2, 5] {
            let mut counts: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
            let mut shards = vec![TopSketch::new(); shard_count];
            for (index, (value, n)) in stream(9, 60_000, 30_000).into_iter().enumerate() {
                shards[index % shard_count].add(&value, n);
                *counts.entry(value).or_insert(0) += n;
            }
            let mut merged = TopSketch::new();
            shards.iter().for_each(|shard| merged.merge_shard(shard));
            assert!(merged.is_consistent());
            assert!(merged.len() <= COUNTERS_MAX);
            assert!(merged.error() > 0);
            let total: u64 = counts.values().sum();
            let kept: u64 = merged.iter().map(|(_, count)| count).sum();
            assert!(merged.error() * (COUNTERS_KEPT as u64 + 1) <= total - kept);
            let estimates: BTreeMap<Vec<u8>, u64> = owned(merged.iter().collect()).into_iter().collect();
            for (value, &count) in &counts {
                let estimate = estimates.get(value).copied().unwrap_or(0);
                assert!(estimate <= count);
                assert!(count <= estimate + merged.error());
            }
        }
    }

    #[test]
    fn panes_are_never_reduced() {
        let mut window = TopSketch::new();
        for pane in 0..4_u32 {
            let mut sketch = TopSketch::new();
            for value in 0..COUNTERS_KEPT as u32 {
                sketch.add(&(value + pane * 1_000_000).to_be_bytes(), 1);
            }
            sketch.add(b"", 2);
            window.merge_panes(&sketch);
        }
        assert_eq!(window.len(), 4 * COUNTERS_KEPT + 1);
        assert_eq!(window.error(), 0);
        assert_eq!(window.top(2), [(&b""[..], 8), (&[0, 0, 0, 0][..], 1)]);
        assert!(window.is_consistent());
    }

    #[test]
    fn starts_without_memory_and_ignores_zero() {
        let mut sketch = TopSketch::new();
        sketch.add(b"x", 0);
        assert!(sketch.is_empty());
        assert_eq!(sketch.heap_bytes(), 0);
        sketch.add(b"x", 1);
        assert!(sketch.heap_bytes() <= 128);
    }

    #[test]
    fn damaged_images_are_told() {
        let sketch = |starts: &[u64], bytes: &[u8]| TopSketch {
            counters: starts.iter().map(|&start| Counter { start, count: 1 }).collect(),
            bytes: bytes.to_vec(),
            ..TopSketch::default()
        };
        assert!(sketch(&[0, 1], b"ab").is_consistent());
        assert!(sketch(&[], b"").is_consistent());
        assert!(!sketch(&[0, 3], b"ab").is_consistent(), "past the end");
        assert!(!sketch(&[1, 0], b"ab").is_consistent(), "not in order");
        assert!(!sketch(&[1], b"ab").is_consistent(), "a byte of no value");
        assert!(!sketch(&[0, 1], b"aa").is_consistent(), "the same value twice");
    }
}
