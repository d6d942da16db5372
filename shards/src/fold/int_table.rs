//! Slots by integer keys: an array where the keys lie close together, a hash table where they do not.
//!
//! Numbers that somebody gave out one after the other are the common keys; by them a slot is one load away. Which form
//! the table has is decided when it grows, from the keys alone. Slot 0 ("other") has no key, so it marks an empty place.

use super::block::prefetch;
use super::group_table::NO_SLOT;

/// An array may be so many times longer than it has keys: less memory than the hash table takes.
const SPREAD_MAX: usize = 8;

/// An array of so many places is fine for any number of keys.
const SMALL_ARRAY: usize = 1 << 14;

/// Places that the second-level cache holds as a rule, in bytes: beyond, they are fetched ahead.
const NEAR_BYTES: usize = 1 << 19;

/// Look-ups at a time.
const LOOK_UPS: usize = 16;

/// How many look-ups ahead.
const AHEAD: usize = 24;

/// See the module.
#[derive(Debug)]
pub struct IntTable {
    form: Form,
    count: usize,
}

#[derive(Debug)]
enum Form {
    Array(Array),
    Hashed(Hashed),
}

impl Default for IntTable {
    fn default() -> IntTable {
        IntTable { form: Form::Array(Array::default()), count: 0 }
    }
}

impl IntTable {
    /// The slot of `key`, or `NO_SLOT`.
    #[inline(always)]
    pub fn find(&self, key: i64) -> u32 {
        let slot = match &self.form {
            Form::Array(array) => array.get(key),
            Form::Hashed(hashed) => hashed.get(key),
        };
        if slot == 0 { NO_SLOT } else { slot }
    }

    /// Finds the slots of `keys`, each as `wide` makes it, up to the first that has none; returns how many.
    pub fn find_all<K: Copy>(&self, keys: &[K], wide: impl Fn(K) -> i64, slots: &mut [u32]) -> usize {
        assert_eq!(keys.len(), slots.len());
        match &self.form {
            Form::Array(array) if array.slots.len() * size_of::<u32>() > NEAR_BYTES => {
                find_each(keys, slots, |key| array.get(wide(key)), |key| prefetch(array.place(wide(key))))
            }
            Form::Array(array) => find_each(keys, slots, |key| array.get(wide(key)), |_| ()),
            Form::Hashed(hashed) if hashed.places.len() * size_of::<(i64, u32)>() > NEAR_BYTES => {
                find_each(keys, slots, |key| hashed.get(wide(key)), |key| prefetch(hashed.place(wide(key))))
            }
            Form::Hashed(hashed) => find_each(keys, slots, |key| hashed.get(wide(key)), |_| ()),
        }
    }

    /// Gives `key`, which has none, a slot.
    pub fn insert(&mut self, key: i64, slot: u32) {
        let has_place = match &self.form {
            Form::Array(array) => array.index(key) < array.slots.len(),
            Form::Hashed(hashed) => (self.count + 1) * 2 <= hashed.places.len(),
        };
        if !has_place {
            self.grow(key);
        }
        self.count += 1;
        self.form.put(key, slot);
    }

    /// Takes the slot of `key` away.
    pub fn remove(&mut self, key: i64) {
        let had_it = match &mut self.form {
            Form::Array(array) => array.remove(key),
            Form::Hashed(hashed) => hashed.remove(key),
        };
        self.count -= usize::from(had_it);
    }

    /// Makes a place for `key`.
    #[cold]
    fn grow(&mut self, key: i64) {
        let (mut low, mut high) = (key, key);
        self.form.each(|key, _| (low, high) = (low.min(key), high.max(key)));
        let limit = (SPREAD_MAX * (self.count + 1)).max(SMALL_ARRAY) as u64;
        let span = high.abs_diff(low).saturating_add(1);
        let mut grown = if span <= limit {
            Form::Array(Array::of(low, span, limit))
        } else {
            Form::Hashed(Hashed::new(((self.count + 1) * 4).next_power_of_two().max(64)))
        };
        self.form.each(|key, slot| grown.put(key, slot));
        self.form = grown;
    }
}

/// Looks keys up one after the other; `fetch` hears of those that come later.
#[inline(always)]
fn find_each<K: Copy>(keys: &[K], slots: &mut [u32], get: impl Fn(K) -> u32, fetch: impl Fn(K)) -> usize {
    let mut start = 0;
    for (some, found) in keys.chunks(LOOK_UPS).zip(slots.chunks_mut(LOOK_UPS)) {
        keys.iter().skip(start + AHEAD).take(LOOK_UPS).for_each(|&ahead| fetch(ahead));
        // Asked once for all of them, so that no look-up waits for the one before it.
        let mut are_known = true;
        for (&key, slot) in some.iter().zip(&mut *found) {
            *slot = get(key);
            are_known &= *slot != 0;
        }
        if !are_known {
            return start + found.iter().position(|&slot| slot == 0).unwrap_or(found.len());
        }
        start += some.len();
    }
    start
}

impl Form {
    /// Calls `visit` with every key and its slot.
    fn each(&self, mut visit: impl FnMut(i64, u32)) {
        match self {
            Form::Array(array) => {
                let keys = (0_i64..).map(|index| array.low.wrapping_add(index));
                keys.zip(&array.slots).filter(|(_, slot)| **slot != 0).for_each(|(key, &slot)| visit(key, slot));
            }
            Form::Hashed(hashed) => {
                hashed.places.iter().filter(|(_, slot)| *slot != 0).for_each(|&(key, slot)| visit(key, slot));
            }
        }
    }

    /// There is a place for `key`.
    fn put(&mut self, key: i64, slot: u32) {
        match self {
            Form::Array(array) => {
                let index = array.index(key);
                array.slots[index] = slot;
            }
            Form::Hashed(hashed) => hashed.put(key, slot),
        }
    }
}

/// Slots of the keys from `low` on.
#[derive(Debug, Default)]
struct Array {
    low: i64,
    slots: Vec<u32>,
}

impl Array {
    /// An array for `span` keys from `low` on, with room for as many more, up to `limit`: half of it on each side, or keys
    /// that come from both ends in turn would have it made anew each time.
    fn of(low: i64, span: u64, limit: u64) -> Array {
        let length = (span * 2).next_power_of_two().clamp(64, limit.next_power_of_two());
        let below = ((length - span) / 2).min(low.abs_diff(i64::MIN));
        // Written at once: `vec![0; n]` would map the kernel's page of zeros, and looking before writing would fault twice
        // for each page, the second time with a message to every core.
        let mut slots = Vec::with_capacity(length as usize);
        slots.resize_with(length as usize, Default::default);
        Array { low: low.wrapping_sub_unsigned(below), slots }
    }

    /// Where the slot of `key` lies, if there.
    #[inline(always)]
    fn index(&self, key: i64) -> usize {
        key.wrapping_sub(self.low) as u64 as usize
    }

    #[inline(always)]
    fn get(&self, key: i64) -> u32 {
        self.slots.get(self.index(key)).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn place(&self, key: i64) -> *const u32 {
        self.slots.as_ptr().wrapping_add(self.index(key))
    }

    fn remove(&mut self, key: i64) -> bool {
        let index = self.index(key);
        self.slots.get_mut(index).is_some_and(|slot| std::mem::take(slot) != 0)
    }
}

/// Open addressing with linear probing: one cache line per look-up as a rule.
#[derive(Debug)]
struct Hashed {
    places: Vec<(i64, u32)>,
    mask: usize,
    /// From a hash to a place.
    shift: u32,
}

impl Hashed {
    /// An empty table of `length` places, a power of two.
    fn new(length: usize) -> Hashed {
        // Written at once, as in `Array::of`.
        let mut places = Vec::with_capacity(length);
        places.resize_with(length, Default::default);
        Hashed { places, mask: length - 1, shift: 64 - length.ilog2() }
    }

    #[inline(always)]
    fn home(&self, key: i64) -> usize {
        // Fibonacci hashing; the high bits are the mixed ones, and numbers in a row do not meet.
        ((key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    #[inline(always)]
    fn place(&self, key: i64) -> *const (i64, u32) {
        self.places.as_ptr().wrapping_add(self.home(key))
    }

    #[inline(always)]
    fn get(&self, key: i64) -> u32 {
        let (places, mask) = (&*self.places, self.mask);
        let mut at = self.home(key);
        loop {
            let (known, slot) = places[at & mask];
            if slot == 0 || known == key {
                return slot;
            }
            at += 1;
        }
    }

    fn put(&mut self, key: i64, slot: u32) {
        let mut at = self.home(key);
        while self.places[at].1 != 0 {
            at = (at + 1) & self.mask;
        }
        self.places[at] = (key, slot);
    }

    /// Removes a key and closes the gap, so that no tombstones pile up. Whether it was there.
    fn remove(&mut self, key: i64) -> bool {
        let mut at = self.home(key);
        loop {
            match self.places[at] {
                (_, 0) => return false,
                (known, _) if known == key => break,
                _ => at = (at + 1) & self.mask,
            }
        }
        let mut next = (at + 1) & self.mask;
        while self.places[next].1 != 0 {
            let home = self.home(self.places[next].0);
            // The entry may move into the gap unless its home lies behind the gap.
            if (next.wrapping_sub(home) & self.mask) >= (next.wrapping_sub(at) & self.mask) {
                self.places[at] = self.places[next];
                at = next;
            }
            next = (next + 1) & self.mask;
        }
        self.places[at] = (0, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Keys that lie close together, far apart, and at both ends of what there is.
    fn keys() -> impl Strategy<Value = i64> {
        prop_oneof![
            8 => -40..40_i64,
            2 => 100_000..100_400_i64,
            1 => any::<i64>(),
            1 => (0..40_i64).prop_map(|less| i64::MAX - less),
            1 => (0..40_i64).prop_map(|more| i64::MIN + more),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map_in_every_form(
            steps in prop::collection::vec((any::<bool>(), keys()), 0..400),
            asked in prop::collection::vec(keys(), 0..60),
        ) {
            let mut table = IntTable::default();
            let mut model = HashMap::new();
            for (index, (insert, key)) in steps.into_iter().enumerate() {
                if insert && !model.contains_key(&key) {
                    table.insert(key, index as u32 + 1);
                    model.insert(key, index as u32 + 1);
                } else if !insert {
                    table.remove(key);
                    model.remove(&key);
                }
                prop_assert_eq!(table.count, model.len());
                for &key in model.keys().chain(&asked).chain(&[i64::MIN, -41, 0, 7, i64::MAX]) {
                    prop_assert_eq!(table.find(key), model.get(&key).copied().unwrap_or(NO_SLOT));
                }
            }
            let mut slots = vec![0; asked.len()];
            let found = table.find_all(&asked, |key| key, &mut slots);
            let expected: Vec<u32> = asked.iter().map_while(|key| model.get(key).copied()).collect();
            prop_assert_eq!(&slots[..found], &expected);
        }
    }

    #[test]
    fn keys_from_both_ends_in_turn_make_it_anew_now_and_then() {
        let (mut table, mut lengths) = (IntTable::default(), Vec::new());
        for index in 0..40_000_u32 {
            let key = i64::from(index / 2 + 1) * if index % 2 == 0 { 1 } else { -1 };
            let is_new = matches!(&table.form, Form::Array(array) if array.index(key) >= array.slots.len());
            table.insert(key, index + 1);
            lengths.extend(is_new.then_some(index));
        }
        assert!(lengths.len() < 40, "made anew at {lengths:?}");
    }

    #[test]
    fn close_keys_get_an_array_and_scattered_ones_do_not() {
        let is_array = |keys: &mut dyn Iterator<Item = i64>| {
            let mut table = IntTable::default();
            keys.zip(1..).for_each(|(key, slot)| table.insert(key, slot));
            matches!(table.form, Form::Array(_))
        };
        assert!(is_array(&mut (0..100_000)));
        assert!(is_array(&mut (-100_000..0).rev()));
        // Known to be close together only after a while.
        assert!(is_array(&mut (0..262_144).map(|index| index * 40_503 % 262_144)));
        assert!(!is_array(&mut (0..100_000).map(|index| index * 1_000)));
        assert!(!is_array(&mut [0, i64::MAX, i64::MIN].into_iter()));
    }
}
