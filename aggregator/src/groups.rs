//! The coordinator's groups: keys to slots, slots of each shard to its own, and the order of output.
//!
//! Rows are not here; a slot is only a number under which others keep them.

use crate::key;
use crate::partial::OTHER_SLOT;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Groups of one view.
#[derive(Debug)]
pub struct Groups {
    slots: HashMap<Box<[u8]>, u32, BuildHasherDefault<KeyHasher>>,
    entries: Vec<Entry>,
    /// Slots that may be used again.
    free: Vec<u32>,
    /// Slots freed since `order` was last cleaned; they may still stand in it.
    freed: Vec<u32>,
    /// `maps[shard][slot of the shard]` is our slot, or `UNMAPPED`.
    maps: Vec<Vec<u32>>,
    /// Live slots in key order, but for those added or freed since it was last cleaned.
    order: Vec<u32>,
    added: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    key: Box<[u8]>,
    hash: u64,
    /// Shards that name this group by a slot of theirs, plus panes that hold a row of it.
    uses: u32,
    live: bool,
}

const UNMAPPED: u32 = u32::MAX;

impl Groups {
    /// No groups but "other", whose key is `other_key`.
    pub fn new(shards: usize, other_key: Vec<u8>) -> Groups {
        let other = Entry { hash: 0, key: other_key.into(), uses: 1, live: true };
        Groups {
            slots: HashMap::default(),
            entries: vec![other],
            free: Vec::new(),
            freed: Vec::new(),
            maps: vec![vec![OTHER_SLOT]; shards],
            order: vec![OTHER_SLOT],
            added: Vec::new(),
        }
    }

    /// One past the highest slot.
    pub fn slots_end(&self) -> usize {
        self.entries.len()
    }

    /// Takes a shard's word that its `slot` is the group `key`.
    pub fn announce(&mut self, shard: usize, slot: u32, key: &[u8]) {
        let ours = self.intern(key);
        self.entries[ours as usize].uses += 1;
        let map = &mut self.maps[shard];
        if map.len() <= slot as usize {
            map.resize(slot as usize + 1, UNMAPPED);
        }
        debug_assert_eq!(map[slot as usize], UNMAPPED, "a slot is retired before it is announced again");
        map[slot as usize] = ours;
    }

    /// The slot of the group `key`, made if there is none. The caller holds it at once: until then nothing keeps it.
    pub fn intern(&mut self, key: &[u8]) -> u32 {
        match self.slots.get(key) {
            Some(&slot) => slot,
            None => self.add(key),
        }
    }

    /// Takes a shard's word that its `slot` names no group any more.
    pub fn retire(&mut self, shard: usize, slot: u32) {
        if let Some(mapped) = self.maps[shard].get_mut(slot as usize) {
            let ours = std::mem::replace(mapped, UNMAPPED);
            if ours != UNMAPPED {
                self.release(ours);
            }
        }
    }

    /// Our slot for a shard's slot; `None` if it was never announced.
    pub fn slot_of(&self, shard: usize, slot: u32) -> Option<u32> {
        self.maps[shard].get(slot as usize).copied().filter(|&ours| ours != UNMAPPED)
    }

    /// Notes that one more pane holds a row of `slot`.
    pub fn hold(&mut self, slot: u32) {
        self.entries[slot as usize].uses += 1;
    }

    /// Notes that one pane or shard less uses `slot`; the last one frees it.
    pub fn release(&mut self, slot: u32) {
        let entry = &mut self.entries[slot as usize];
        entry.uses -= 1;
        if entry.uses == 0 {
            entry.live = false;
            let key = std::mem::take(&mut entry.key);
            self.slots.remove(&key);
            self.freed.push(slot);
        }
    }

    /// Encoded key of `slot`.
    pub fn key(&self, slot: u32) -> &[u8] {
        &self.entries[slot as usize].key
    }

    /// Hash that decides whether `slot` stays under `max_groups`.
    pub fn hash(&self, slot: u32) -> u64 {
        self.entries[slot as usize].hash
    }

    /// Live slots in key order; the order of output rows.
    pub fn sorted(&mut self) -> &[u32] {
        let entries = &self.entries;
        if !self.freed.is_empty() {
            self.order.retain(|&slot| entries[slot as usize].live);
            self.added.retain(|&slot| entries[slot as usize].live);
            self.free.append(&mut self.freed);
        }
        if !self.added.is_empty() {
            // "Other" comes after a real group of the same key.
            let rank = |slot: &u32| (&entries[*slot as usize].key, *slot == OTHER_SLOT);
            self.added.sort_unstable_by(|a, b| rank(a).cmp(&rank(b)));
            self.order.append(&mut self.added);
            // Two sorted runs: the stable sort finds and merges them.
            self.order.sort_by(|a, b| rank(a).cmp(&rank(b)));
        }
        &self.order
    }

    fn add(&mut self, key: &[u8]) -> u32 {
        let entry = Entry { key: key.into(), hash: key::hash(key), uses: 0, live: true };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.slots.insert(key.into(), slot);
        self.added.push(slot);
        slot
    }
}

/// xxh3 over the bytes, nothing else: keys are written as one slice with a length prefix.
#[derive(Default, Debug)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_shared_between_shards_and_freed_by_the_last_user() {
        let mut groups = Groups::new(2, b"other".to_vec());
        groups.announce(0, 5, b"b");
        groups.announce(1, 9, b"b");
        groups.announce(1, 7, b"a");
        let b = groups.slot_of(0, 5).unwrap();
        let a = groups.slot_of(1, 7).unwrap();
        assert_eq!(groups.slot_of(1, 9), Some(b));
        assert_eq!(groups.sorted(), [a, b, OTHER_SLOT]);
        groups.hold(b);
        groups.retire(0, 5);
        groups.retire(1, 9);
        assert_eq!(groups.slot_of(0, 5), None);
        assert_eq!(groups.key(b), b"b");
        groups.release(b);
        assert_eq!(groups.sorted(), [a, OTHER_SLOT]);
        groups.announce(0, 5, b"c");
        groups.sorted();
        assert_eq!(groups.slot_of(0, 5), Some(b), "a freed slot is used again");
    }
}
