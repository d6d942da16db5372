//! The coordinator's groups: keys to slots, slots of each shard to its own, and the order of output.
//!
//! Rows are not here; a slot is only a number under which others keep them.

use crate::key;
use crate::key_values::KeyValues;
use crate::partial::OTHER_SLOT;
use crate::result::OutputColumn;
use crate::spec::FieldType;
use crate::stored_key::StoredKey;
use hashbrown::HashTable;
use std::cmp::Ordering;

/// Groups of one view.
#[derive(Debug)]
pub struct Groups {
    /// By hash of the key; the keys themselves lie once, by slot.
    slots: HashTable<u32>,
    /// By slot; empty where the slot is free.
    keys: Vec<StoredKey>,
    hashes: Vec<u64>,
    /// By slot: shards that name the group by a slot of theirs, plus panes that hold a row of it. Apart from the keys,
    /// since every row of every pane counts here.
    uses: Vec<u32>,
    values: KeyValues,
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

const UNMAPPED: u32 = u32::MAX;

impl Groups {
    /// No groups but "other"; keys are those of columns of the types `by`.
    pub fn new(shards: usize, by: &[FieldType]) -> Groups {
        let other = key::other(by);
        let mut values = KeyValues::new(by);
        values.set(OTHER_SLOT, &other);
        Groups {
            slots: HashTable::new(),
            keys: vec![StoredKey::of(&other)],
            hashes: vec![0],
            uses: vec![1],
            values,
            free: Vec::new(),
            freed: Vec::new(),
            maps: vec![vec![OTHER_SLOT]; shards],
            order: vec![OTHER_SLOT],
            added: Vec::new(),
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.maps.len()
    }

    /// One past the highest slot.
    pub fn slots_end(&self) -> usize {
        self.uses.len()
    }

    /// Takes a shard's word that its `slot` is the group `key`.
    pub fn announce(&mut self, shard: usize, slot: u32, key: &[u8]) {
        let ours = self.intern(key);
        self.uses[ours as usize] += 1;
        let map = &mut self.maps[shard];
        if map.len() <= slot as usize {
            map.resize(slot as usize + 1, UNMAPPED);
        }
        debug_assert_eq!(map[slot as usize], UNMAPPED, "a slot is retired before it is announced again");
        map[slot as usize] = ours;
    }

    /// The slot of the group `key`, made if there is none. The caller holds it at once: until then nothing keeps it.
    pub fn intern(&mut self, key: &[u8]) -> u32 {
        let hash = key::hash(key);
        match self.slots.find(hash, |&slot| *self.keys[slot as usize].encoded() == *key) {
            Some(&slot) => slot,
            None => self.add(key, hash),
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
    #[cfg(test)]
    fn slot_of(&self, shard: usize, slot: u32) -> Option<u32> {
        self.maps[shard].get(slot as usize).copied().filter(|&ours| ours != UNMAPPED)
    }

    /// Appends our slots for `slots` of a shard to `ours`; fails with the first that was never announced.
    pub fn slots_of(&self, shard: usize, slots: &[u32], ours: &mut Vec<u32>) -> Result<(), u32> {
        let map = &self.maps[shard];
        let (first, mut any_unknown) = (ours.len(), false);
        ours.extend(slots.iter().map(|&slot| {
            let ours = map.get(slot as usize).copied().unwrap_or(UNMAPPED);
            any_unknown |= ours == UNMAPPED;
            ours
        }));
        match any_unknown {
            false => Ok(()),
            true => {
                Err(ours[first..].iter().zip(slots).find(|(ours, _)| **ours == UNMAPPED).map_or(0, |(_, &slot)| slot))
            }
        }
    }

    /// Notes that one more pane holds a row of `slot`.
    pub fn hold(&mut self, slot: u32) {
        self.uses[slot as usize] += 1;
    }

    /// Notes that one pane or shard less uses `slot`; the last one frees it.
    pub fn release(&mut self, slot: u32) {
        let uses = &mut self.uses[slot as usize];
        *uses -= 1;
        if *uses == 0 {
            self.keys[slot as usize] = StoredKey::of(&[]);
            if let Ok(entry) = self.slots.find_entry(self.hashes[slot as usize], |&other| other == slot) {
                entry.remove();
            }
            self.freed.push(slot);
        }
    }

    /// Encoded key of `slot`.
    pub fn key(&self, slot: u32) -> &[u8] {
        self.keys[slot as usize].encoded()
    }

    /// Hash that decides whether `slot` stays under `max_groups`.
    pub fn hash(&self, slot: u32) -> u64 {
        self.hashes[slot as usize]
    }

    /// Appends the values of the keys of `slots` to the output columns of the `by` fields.
    pub fn push_values(&self, slots: &[u32], columns: &mut [OutputColumn]) {
        self.values.gather(slots, &self.keys, columns);
    }

    /// Live slots in key order; the order of output rows. All that were interned are held by now.
    pub fn sorted(&mut self) -> &[u32] {
        let (keys, uses) = (&self.keys, &self.uses);
        if !self.freed.is_empty() {
            self.order.retain(|&slot| uses[slot as usize] > 0);
            self.added.retain(|&slot| uses[slot as usize] > 0);
            self.free.append(&mut self.freed);
        }
        if !self.added.is_empty() {
            // "Other" comes after a real group of the same key.
            let rest = |slot: &u32| (keys[*slot as usize].encoded(), *slot == OTHER_SLOT);
            let prefix = |slot: &u32| keys[*slot as usize].prefix();
            // The first bytes decide nearly every comparison, where they lie.
            let compare = |a: &u32, b: &u32| prefix(a).cmp(&prefix(b)).then_with(|| rest(a).cmp(&rest(b)));
            self.added.sort_unstable_by(compare);
            insert_sorted(&mut self.order, &self.added, compare);
            self.added.clear();
        }
        &self.order
    }

    fn add(&mut self, key: &[u8], hash: u64) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.keys.push(StoredKey::of(&[]));
            self.hashes.push(0);
            self.uses.push(0);
            self.uses.len() as u32 - 1
        });
        self.keys[slot as usize] = StoredKey::of(key);
        self.hashes[slot as usize] = hash;
        self.values.set(slot, key);
        self.slots.insert_unique(hash, slot, |&slot| self.hashes[slot as usize]);
        self.added.push(slot);
        slot
    }
}

/// Inserts `added`, which is sorted, into `order`, which is too. Every comparison looks at two places anywhere in memory:
/// there are only as many as finding the places takes, and what lies between them moves as it is.
fn insert_sorted(order: &mut Vec<u32>, added: &[u32], compare: impl Fn(&u32, &u32) -> Ordering) {
    let mut end = order.len();
    order.resize(end + added.len(), 0);
    for (before, &slot) in added.iter().enumerate().rev() {
        let at = order[..end].partition_point(|other| compare(other, &slot).is_lt());
        order.copy_within(at..end, at + before + 1);
        order[at + before] = slot;
        end = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_keys_however_long() {
        let long = |end: &[u8]| [b"the same sixteen ".as_slice(), end].concat();
        let keys = [long(b"b"), long(b"a"), long(b""), long(b"\0"), b"t".to_vec(), b"t\0".to_vec(), b"t\0\0u".to_vec()];
        let mut groups = Groups::new(1, &[FieldType::String]);
        for (slot, key) in keys.iter().enumerate() {
            groups.announce(0, slot as u32 + 1, key);
            groups.sorted();
        }
        let order: Vec<u32> = groups.sorted().to_vec();
        let sorted: Vec<&[u8]> = order.iter().map(|&slot| groups.key(slot)).collect();
        assert!(sorted.is_sorted(), "{sorted:?}");
        assert_eq!(sorted.len(), keys.len() + 1);
    }

    #[test]
    fn slots_are_shared_between_shards_and_freed_by_the_last_user() {
        let mut groups = Groups::new(2, &[FieldType::String]);
        groups.announce(0, 5, b"b");
        groups.announce(1, 9, b"b");
        groups.announce(1, 7, b"a");
        let b = groups.slot_of(0, 5).unwrap();
        let a = groups.slot_of(1, 7).unwrap();
        assert_eq!(groups.slot_of(1, 9), Some(b));
        assert_eq!(groups.sorted(), [OTHER_SLOT, a, b]);
        groups.hold(b);
        groups.retire(0, 5);
        groups.retire(1, 9);
        assert_eq!(groups.slot_of(0, 5), None);
        assert_eq!(groups.key(b), b"b");
        groups.release(b);
        assert_eq!(groups.sorted(), [OTHER_SLOT, a]);
        groups.announce(0, 5, b"c");
        groups.sorted();
        assert_eq!(groups.slot_of(0, 5), Some(b), "a freed slot is used again");
    }

    #[test]
    fn a_slot_that_was_never_announced_or_is_retired_is_named() {
        let mut groups = Groups::new(2, &[FieldType::String]);
        groups.announce(0, 5, b"b");
        groups.announce(0, 6, b"a");
        let mut ours = Vec::new();
        assert_eq!(groups.slots_of(0, &[5, 6, OTHER_SLOT], &mut ours), Ok(()));
        assert_eq!(ours, [groups.slot_of(0, 5).unwrap(), groups.slot_of(0, 6).unwrap(), OTHER_SLOT]);
        assert_eq!(groups.slots_of(0, &[5, 4, 6], &mut ours), Err(4));
        assert_eq!(
            groups.slots_of(1, &[OTHER_SLOT, 5], &mut ours),
            Err(5),
            "what one shard says names nothing for another"
        );
        groups.retire(0, 6);
        assert_eq!(groups.slots_of(0, &[6], &mut ours), Err(6));
    }
}
