//! One shard's groups of one view: keys to slots.
//!
//! A slot is the index under which panes keep the group's row. Rows and panes are not here.

use corefold_aggregator::key;
use corefold_aggregator::partial::OTHER_SLOT;
use corefold_aggregator::time::EventTime;
use hashbrown::HashTable;

/// No slot: the key has none yet.
pub const NO_SLOT: u32 = u32::MAX;

/// Keys to slots, both ways.
#[derive(Debug)]
pub struct GroupTable {
    /// Slots by encoded key; unused when `ints` is.
    table: HashTable<u32>,
    /// Slots of a single integer column.
    ints: IntTable,
    slots: Vec<Slot>,
    /// By slot: open panes that hold a row of the group. Apart from the rest, since every new row touches it.
    panes: Vec<u32>,
    free: Vec<u32>,
    /// Slots in no open pane, with the frontier at which their last pane went.
    idle: std::collections::VecDeque<(u32, EventTime)>,
    /// Slots to be told as retired with the next partial.
    retired: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    key: Box<[u8]>,
    hash: u64,
    /// Whether it stands for a key.
    in_use: bool,
    /// Whether the coordinator knows the key.
    announced: bool,
    /// Frontier at which the last pane went; tells stale entries of `idle` from valid ones.
    idle_since: Option<EventTime>,
}

impl Default for GroupTable {
    fn default() -> GroupTable {
        GroupTable::new()
    }
}

impl GroupTable {
    /// Only "other", which the coordinator knows by itself.
    pub fn new() -> GroupTable {
        let other = Slot { key: Box::default(), hash: 0, in_use: true, announced: true, idle_since: None };
        GroupTable {
            table: HashTable::new(),
            ints: IntTable::new(),
            slots: vec![other],
            panes: vec![1],
            free: Vec::new(),
            idle: std::collections::VecDeque::new(),
            retired: Vec::new(),
        }
    }

    /// One past the highest slot.
    pub fn slots_end(&self) -> usize {
        self.slots.len()
    }

    /// Slot of an encoded key.
    pub fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = key::hash(key);
        self.table.find(hash, |&slot| *self.slots[slot as usize].key == *key).copied()
    }

    /// Slot of an integer key of a view by one integer column.
    #[inline(always)]
    pub fn find_int(&self, value: i64) -> u32 {
        self.ints.find(value)
    }

    /// A slot for an encoded key that has none; `int` is the value of a single integer column.
    pub fn insert(&mut self, key: &[u8], int: Option<i64>) -> u32 {
        let hash = key::hash(key);
        let entry = Slot { key: key.into(), hash, in_use: true, announced: false, idle_since: None };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = entry;
                slot
            }
            None => {
                self.slots.push(entry);
                self.panes.push(0);
                self.slots.len() as u32 - 1
            }
        };
        match int {
            Some(value) => self.ints.insert(value, slot),
            None => {
                let slots = &self.slots;
                self.table.insert_unique(hash, slot, |&slot| slots[slot as usize].hash);
            }
        }
        slot
    }

    /// The slot of a key that was kept elsewhere, made if there is none. `is_int`: keys are one integer column.
    pub fn intern(&mut self, key: &[u8], is_int: bool) -> u32 {
        let int = int_of(key).filter(|_| is_int);
        let found = match int {
            Some(value) => Some(self.find_int(value)).filter(|&slot| slot != NO_SLOT),
            None => self.find(key),
        };
        found.unwrap_or_else(|| self.insert(key, int))
    }

    /// Lets slots go in time that no pane holds although they were interned.
    pub fn settle(&mut self, frontier: EventTime) {
        for (slot, entry) in self.slots.iter_mut().enumerate().skip(1) {
            if entry.in_use && self.panes[slot] == 0 && entry.idle_since.is_none() {
                entry.idle_since = Some(frontier);
                self.idle.push_back((slot as u32, frontier));
            }
        }
    }

    /// The first slot from `from` on that stands for a key.
    pub fn next_used(&self, from: u32) -> Option<u32> {
        let rest = self.slots.get(from as usize..)?;
        rest.iter().position(|slot| slot.in_use).map(|at| from + at as u32)
    }

    /// Encoded key of `slot`.
    pub fn key(&self, slot: u32) -> &[u8] {
        &self.slots[slot as usize].key
    }

    /// Hash of the key of `slot`.
    pub fn hash(&self, slot: u32) -> u64 {
        self.slots[slot as usize].hash
    }

    /// Notes a row of `slot` in one more pane.
    #[inline]
    pub fn hold(&mut self, slot: u32) {
        let panes = &mut self.panes[slot as usize];
        if *panes == 0 {
            self.slots[slot as usize].idle_since = None;
        }
        *panes += 1;
    }

    /// Notes that a pane with a row of `slot` is gone.
    pub fn release(&mut self, slot: u32, frontier: EventTime) {
        let panes = &mut self.panes[slot as usize];
        *panes -= 1;
        if *panes == 0 && slot != OTHER_SLOT {
            self.slots[slot as usize].idle_since = Some(frontier);
            self.idle.push_back((slot, frontier));
        }
    }

    /// Frees slots whose last pane went before `limit`.
    pub fn expire(&mut self, limit: EventTime) {
        while let Some(&(slot, since)) = self.idle.front() {
            if since >= limit {
                return;
            }
            self.idle.pop_front();
            if self.slots[slot as usize].idle_since == Some(since) {
                self.remove(slot);
            }
        }
    }

    fn remove(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        (entry.in_use, entry.idle_since) = (false, None);
        let key = std::mem::take(&mut entry.key);
        if entry.announced {
            self.retired.push(slot);
        }
        match self.table.find_entry(entry.hash, |&other| other == slot) {
            Ok(found) => {
                found.remove();
            }
            Err(_) => {
                if let Some(value) = int_of(&key) {
                    self.ints.remove(value);
                }
            }
        }
        self.free.push(slot);
    }

    /// The key of `slot` if the coordinator does not know it yet; from now on it does.
    pub fn announce(&mut self, slot: u32) -> Option<&[u8]> {
        let entry = &mut self.slots[slot as usize];
        if std::mem::replace(&mut entry.announced, true) { None } else { Some(&entry.key) }
    }

    /// Takes the slots to be told as retired.
    pub fn take_retired(&mut self, into: &mut Vec<u32>) {
        into.append(&mut self.retired);
    }
}

/// The value in the key of a single integer column; `None` for null.
fn int_of(key: &[u8]) -> Option<i64> {
    let (_, value) = key.split_first_chunk::<1>()?;
    value.try_into().ok().map(key::unorder_i64)
}

/// Open addressing with linear probing: one cache line per look-up as a rule. Slot 0 ("other") has no key, so
/// it marks an empty place.
#[derive(Debug)]
struct IntTable {
    places: Vec<(i64, u32)>,
    mask: usize,
    count: usize,
}

impl IntTable {
    fn new() -> IntTable {
        IntTable { places: vec![(0, 0); 64], mask: 63, count: 0 }
    }

    #[inline(always)]
    fn home(&self, value: i64) -> usize {
        // Fibonacci hashing; the high bits are the mixed ones.
        let mixed = (value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 32)) as usize & self.mask
    }

    #[inline(always)]
    fn find(&self, value: i64) -> u32 {
        let mut at = self.home(value);
        loop {
            let (key, slot) = self.places[at & self.mask];
            if slot == 0 {
                return NO_SLOT;
            }
            if key == value {
                return slot;
            }
            at += 1;
        }
    }

    fn insert(&mut self, value: i64, slot: u32) {
        if (self.count + 1) * 2 > self.places.len() {
            // Written at once: `vec![0; n]` would map the kernel's page of zeros, and looking before writing would fault
            // twice for each page, the second time with a message to every core.
            let mut grown = Vec::with_capacity(self.places.len() * 2);
            grown.resize_with(self.places.len() * 2, Default::default);
            let old = std::mem::replace(&mut self.places, grown);
            self.mask = self.places.len() - 1;
            for (value, slot) in old.into_iter().filter(|(_, slot)| *slot != 0) {
                self.place(value, slot);
            }
        }
        self.count += 1;
        self.place(value, slot);
    }

    fn place(&mut self, value: i64, slot: u32) {
        let mut at = self.home(value);
        while self.places[at].1 != 0 {
            at = (at + 1) & self.mask;
        }
        self.places[at] = (value, slot);
    }

    /// Removes a key and closes the gap, so that no tombstones pile up.
    fn remove(&mut self, value: i64) {
        let mut at = self.home(value);
        loop {
            match self.places[at] {
                (_, 0) => return,
                (key, _) if key == value => break,
                _ => at = (at + 1) & self.mask,
            }
        }
        self.count -= 1;
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn the_integer_table_is_a_map(steps in prop::collection::vec((any::<bool>(), -40..40i64), 0..400)) {
            let mut table = IntTable::new();
            let mut model = HashMap::new();
            for (index, (insert, value)) in steps.into_iter().enumerate() {
                if insert && !model.contains_key(&value) {
                    table.insert(value, index as u32 + 1);
                    model.insert(value, index as u32 + 1);
                } else if !insert {
                    table.remove(value);
                    model.remove(&value);
                }
                for value in -40..40 {
                    prop_assert_eq!(table.find(value), model.get(&value).copied().unwrap_or(NO_SLOT));
                }
            }
        }
    }

    #[test]
    fn slots_in_no_pane_are_freed_after_a_while_and_told() {
        let mut table = GroupTable::new();
        let mut encoded = Vec::new();
        key::push_i64(&mut encoded, 7);
        let slot = table.insert(&encoded, Some(7));
        table.hold(slot);
        assert_eq!(table.announce(slot), Some(&encoded[..]));
        assert_eq!(table.announce(slot), None);
        table.release(slot, EventTime(10));
        table.expire(EventTime(10));
        assert_eq!(table.find_int(7), slot);
        table.expire(EventTime(11));
        assert_eq!(table.find_int(7), NO_SLOT);
        let mut retired = Vec::new();
        table.take_retired(&mut retired);
        assert_eq!(retired, [slot]);
        // A free slot is not freed once more.
        table.settle(EventTime(20));
        table.expire(EventTime(30));
        assert_eq!(table.next_used(1), None);
        assert_eq!(table.insert(b"x", None), slot);
        assert_eq!(table.find(b"x"), Some(slot));
        assert_ne!(table.insert(b"y", None), slot);
        assert_eq!(table.next_used(1), Some(slot));
    }
}
