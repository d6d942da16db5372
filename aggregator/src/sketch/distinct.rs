//! `DistinctSketch`: how many different values, exact while they are few.
//!
//! Up to 1,024 hashes are kept; past that HyperLogLog (P. Flajolet et al., 2007) with 4,096 registers and the improved
//! estimator of O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), which needs no
//! tables and no switch between ranges. Its standard error is 1.04 / sqrt(4096) = 1.6 %. Hashing values is not here:
//! callers pass hashes of 64 well-mixed bits.

use rkyv::{Archive, Deserialize, Serialize};

/// Most values that are counted exactly.
pub const EXACT_MAX: usize = 1024;

/// Bits of the hash that choose a register.
const INDEX_BITS: u32 = 12;
const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of the hash that are left; a register is at most one more.
const VALUE_BITS: u32 = 64 - INDEX_BITS;
const REGISTER_MAX: u8 = VALUE_BITS as u8 + 1;

/// Slots of the smallest hash table.
const SLOTS_MIN: usize = 4;

/// A set of 64-bit hashes. The state of two sketches is equal if the sets are, whatever the order of additions and
/// merges.
#[derive(Archive, Serialize, Deserialize, Clone, Debug)]
pub struct DistinctSketch {
    state: State,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug)]
enum State {
    /// At most `EXACT_MAX` hashes in a table with linear probing; 0 marks a free slot.
    Exact { len: u32, slots: Vec<u64> },
    /// More than that: one byte per register.
    Registers(Vec<u8>),
}

impl Default for DistinctSketch {
    fn default() -> DistinctSketch {
        DistinctSketch { state: State::Exact { len: 0, slots: Vec::new() } }
    }
}

impl PartialEq for DistinctSketch {
    fn eq(&self, other: &DistinctSketch) -> bool {
        match (&self.state, &other.state) {
            (State::Exact { len: own, slots }, State::Exact { len, slots: others }) => {
                own == len && slots.iter().all(|&hash| hash == 0 || matches!(probe(others, hash), Probe::Found))
            }
            (State::Registers(own), State::Registers(others)) => own == others,
            _ => false,
        }
    }
}

enum Probe {
    Found,
    Free(usize),
    /// The table has no slots.
    NoTable,
}

impl DistinctSketch {
    /// An empty sketch; it has no heap memory.
    pub fn new() -> DistinctSketch {
        DistinctSketch::default()
    }

    /// Adds the value with this hash. The hash 0 counts as the hash 1.
    #[inline]
    pub fn add_hash(&mut self, hash: u64) {
        let hash = hash.max(1);
        match &mut self.state {
            State::Exact { len, slots } => match probe(slots, hash) {
                Probe::Found => {}
                Probe::Free(slot) if (*len as usize + 1) * 8 <= slots.len() * 7 && (*len as usize) < EXACT_MAX => {
                    slots[slot] = hash;
                    *len += 1;
                }
                Probe::Free(_) | Probe::NoTable => self.grow_and_add(hash),
            },
            State::Registers(registers) => raise(registers, hash),
        }
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &DistinctSketch) {
        match (&mut self.state, &other.state) {
            (_, State::Exact { slots, .. }) => {
                slots.iter().filter(|&&hash| hash != 0).for_each(|&hash| self.add_hash(hash));
            }
            (State::Exact { slots, .. }, State::Registers(others)) => {
                let mut registers = others.clone();
                slots.iter().filter(|&&hash| hash != 0).for_each(|&hash| raise(&mut registers, hash));
                self.state = State::Registers(registers);
            }
            (State::Registers(registers), State::Registers(others)) => {
                for (own, &register) in registers.iter_mut().zip(others) {
                    *own = register.max(*own);
                }
            }
        }
    }

    /// Number of different values: exact up to [`EXACT_MAX`], an estimate past that.
    pub fn estimate(&self) -> u64 {
        match &self.state {
            State::Exact { len, .. } => u64::from(*len),
            // The estimate may fall below what is known from having left the exact state.
            State::Registers(registers) => (ertl(registers).round() as u64).max(EXACT_MAX as u64 + 1),
        }
    }

    /// Whether the estimate is exact.
    pub fn is_exact(&self) -> bool {
        matches!(self.state, State::Exact { .. })
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.state {
            State::Exact { slots, .. } => slots.capacity() * size_of::<u64>(),
            State::Registers(registers) => registers.capacity(),
        }
    }

    /// Whether the table is in order; false for a damaged image.
    pub fn is_consistent(&self) -> bool {
        match &self.state {
            State::Exact { len, slots } => {
                let used = slots.iter().filter(|&&hash| hash != 0).count();
                let has_room = slots.is_empty() || slots.len().is_power_of_two() && used * 8 <= slots.len() * 7;
                used == *len as usize
                    && used <= EXACT_MAX
                    && has_room
                    && slots.len() != 1
                    && slots.iter().all(|&hash| hash == 0 || matches!(probe(slots, hash), Probe::Found))
            }
            State::Registers(registers) => {
                registers.len() == REGISTERS && registers.iter().all(|&register| register <= REGISTER_MAX)
            }
        }
    }

    #[cold]
    fn grow_and_add(&mut self, hash: u64) {
        let State::Exact { len, slots } = &mut self.state else { return };
        let hashes = slots.iter().copied().filter(|&hash| hash != 0).chain([hash]);
        if *len as usize == EXACT_MAX {
            let mut registers = vec![0; REGISTERS];
            hashes.for_each(|hash| raise(&mut registers, hash));
            self.state = State::Registers(registers);
            return;
        }
        let mut larger = vec![0; (slots.len() * 2).max(SLOTS_MIN)];
        for hash in hashes {
            if let Probe::Free(slot) = probe(&larger, hash) {
                larger[slot] = hash;
            }
        }
        *len += 1;
        *slots = larger;
    }
}

/// Where `hash` is or should be. A table always has a free slot.
#[inline]
fn probe(slots: &[u64], hash: u64) -> Probe {
    if slots.is_empty() {
        return Probe::NoTable;
    }
    let mask = slots.len() - 1;
    let mut slot = (hash >> (64 - slots.len().trailing_zeros())) as usize;
    loop {
        match slots[slot & mask] {
            0 => return Probe::Free(slot & mask),
            found if found == hash => return Probe::Found,
            _ => slot += 1,
        }
    }
}

#[inline]
fn raise(registers: &mut [u8], hash: u64) {
    let index = (hash >> VALUE_BITS) as usize;
    // The guard bit stops the count of leading zeros at VALUE_BITS.
    let value = (hash << INDEX_BITS | 1 << (INDEX_BITS - 1)).leading_zeros() as u8 + 1;
    registers[index] = registers[index].max(value);
}

/// Algorithm 6 of Ertl's paper.
fn ertl(registers: &[u8]) -> f64 {
    let mut histogram = [0_u32; REGISTER_MAX as usize + 1];
    for &register in registers {
        histogram[usize::from(register.min(REGISTER_MAX))] += 1;
    }
    let count = REGISTERS as f64;
    let mut sum = count * tau(1.0 - f64::from(histogram[usize::from(REGISTER_MAX)]) / count);
    for &registers_with_value in histogram[1..usize::from(REGISTER_MAX)].iter().rev() {
        sum = 0.5 * (sum + f64::from(registers_with_value));
    }
    sum += count * sigma(f64::from(histogram[0]) / count);
    count * count / (2.0 * std::f64::consts::LN_2 * sum)
}

/// `x + sum of x^(2^k) * 2^(k - 1)` over all `k >= 1`.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut factor, mut sum) = (1.0, x);
    loop {
        x *= x;
        let previous = sum;
        sum += x * factor;
        factor += factor;
        if sum == previous {
            return sum;
        }
    }
}

/// `(1 - x - sum of (1 - x^(2^-k))^2 * 2^-k) / 3` over all `k >= 1`.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut factor, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let previous = sum;
        factor *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * factor;
        if sum == previous {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64: a permutation of u64, so different inputs give different hashes.
    fn hash(value: u64) -> u64 {
        let mut z = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    #[test]
    fn exact_up_to_the_limit() {
        let mut sketch = DistinctSketch::new();
        assert_eq!(sketch.heap_bytes(), 0);
        for value in 1..=EXACT_MAX as u64 {
            sketch.add_hash(hash(value));
            sketch.add_hash(hash(value / 2 + 1));
            assert_eq!(sketch.estimate(), value.max(value / 2 + 1));
            assert!(sketch.is_consistent());
        }
        assert!(sketch.is_exact());
        sketch.add_hash(hash(7));
        assert!(sketch.is_exact());
        sketch.add_hash(hash(u64::MAX));
        assert!(!sketch.is_exact());
        assert!(sketch.estimate() > EXACT_MAX as u64);
        assert!(sketch.is_consistent());
        assert_eq!(sketch.heap_bytes(), REGISTERS);
    }

    #[test]
    fn few_values_take_little_memory() {
        let mut sketch = DistinctSketch::new();
        for value in 0..3 {
            sketch.add_hash(hash(value + 1));
        }
        assert!(sketch.heap_bytes() <= 32);
    }

    #[test]
    fn the_standard_error_is_below_two_percent() {
        for (count, seeds) in
            [(2_000_u64, 300_u64), (5_000, 200), (10_000, 150), (30_000, 100), (100_000, 60), (1_000_000, 24)]
        {
            let (mut squares, mut bias) = (0.0, 0.0);
            for seed in 0..seeds {
                let mut sketch = DistinctSketch::new();
                for value in 0..count {
                    sketch.add_hash(hash(hash(seed + 1) ^ value));
                }
                let error = sketch.estimate() as f64 / count as f64 - 1.0;
                squares += error * error;
                bias += error;
            }
            let (rms, bias) = ((squares / seeds as f64).sqrt(), bias / seeds as f64);
            assert!(rms <= 0.02, "{count}: {rms}");
            assert!(bias.abs() <= 4.0 * 0.0163 / (seeds as f64).sqrt(), "{count}: bias {bias}");
        }
    }

    #[test]
    fn registers_at_their_ends() {
        let mut registers = vec![0; REGISTERS];
        raise(&mut registers, 0);
        assert_eq!(registers[0], REGISTER_MAX);
        raise(&mut registers, u64::MAX);
        assert_eq!(registers[REGISTERS - 1], 1);
        raise(&mut registers, 1 << VALUE_BITS | 1);
        assert_eq!(registers[1], REGISTER_MAX - 1);
        // All registers full: the series for both ends still stop.
        assert!(ertl(&[REGISTER_MAX; REGISTERS]).is_infinite());
        assert_eq!(ertl(&[0; REGISTERS]), 0.0);
        assert_eq!(DistinctSketch { state: State::Registers(vec![REGISTER_MAX; REGISTERS]) }.estimate(), u64::MAX);
    }

    #[test]
    fn damaged_images_are_told() {
        let exact = |len, slots| DistinctSketch { state: State::Exact { len, slots } };
        assert!(exact(1, vec![5, 0, 0, 0]).is_consistent());
        assert!(!exact(2, vec![5, 0, 0, 0]).is_consistent(), "wrong length");
        assert!(!exact(1, vec![0, 5, 0, 0]).is_consistent(), "out of reach");
        assert!(!exact(1, vec![5, 0, 0]).is_consistent(), "odd table");
        assert!(!exact(4, vec![1, 2, 3, 4]).is_consistent(), "full table");
        let registers = |registers| DistinctSketch { state: State::Registers(registers) };
        assert!(registers(vec![REGISTER_MAX; REGISTERS]).is_consistent());
        assert!(!registers(vec![REGISTER_MAX + 1; REGISTERS]).is_consistent());
        assert!(!registers(vec![0; REGISTERS - 1]).is_consistent());
    }
}
