//! One shard's groups of one view: keys to slots.
//!
//! A slot is the index under which panes keep the group's row. Rows and panes are not here.

use super::int_table::IntTable;
use corefold_aggregator::key;
use corefold_aggregator::partial::OTHER_SLOT;
use corefold_aggregator::stored_key::StoredKey;
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
    /// By slot: whether the coordinator knows the key. Apart from the rest, since every row that is given out asks.
    announced: Vec<bool>,
    /// Slots whose keys it does not know, and some that were let go or have been told since.
    unannounced: Vec<u32>,
    /// By slot: frontier at which the last pane with its group went. Apart from the rest, since every pane writes here.
    last: Vec<EventTime>,
    free: Vec<u32>,
    /// No slot can be let go before this time has passed.
    expires_from: EventTime,
    /// By slot, while slots expire: whether a pane holds it.
    is_held: Vec<bool>,
    /// Slots to be told as retired with the next partial.
    retired: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    key: StoredKey,
    hash: u64,
    /// Whether it stands for a key.
    in_use: bool,
}

impl Default for GroupTable {
    fn default() -> GroupTable {
        GroupTable::new()
    }
}

impl GroupTable {
    /// Only "other", which the coordinator knows by itself.
    pub fn new() -> GroupTable {
        let other = Slot { key: StoredKey::of(&[]), hash: 0, in_use: true };
        GroupTable {
            table: HashTable::new(),
            ints: IntTable::default(),
            slots: vec![other],
            announced: vec![true],
            unannounced: Vec::new(),
            last: vec![EventTime::MIN],
            free: Vec::new(),
            expires_from: EventTime::MIN,
            is_held: Vec::new(),
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
        self.table.find(hash, |&slot| *self.slots[slot as usize].key.encoded() == *key).copied()
    }

    /// Slot of an integer key of a view by one integer column.
    #[inline(always)]
    pub fn find_int(&self, value: i64) -> u32 {
        self.ints.find(value)
    }

    /// Finds the slots of integer keys, each as `wide` makes it, up to the first that has none; returns how many.
    pub fn find_ints<K: Copy>(&self, keys: &[K], wide: impl Fn(K) -> i64, slots: &mut [u32]) -> usize {
        self.ints.find_all(keys, wide, slots)
    }

    /// A slot for an encoded key that has none; `int` is the value of a single integer column. It is let go with the
    /// next that are, unless a pane holds it by then.
    pub fn insert(&mut self, key: &[u8], int: Option<i64>) -> u32 {
        let hash = key::hash(key);
        let entry = Slot { key: StoredKey::of(key), hash, in_use: true };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = entry;
                slot
            }
            None => {
                self.slots.push(entry);
                self.announced.push(false);
                self.last.push(EventTime::MIN);
                self.slots.len() as u32 - 1
            }
        };
        self.announced[slot as usize] = false;
        self.unannounced.push(slot);
        self.last[slot as usize] = EventTime::MIN;
        match int {
            Some(value) => self.ints.insert(value, slot),
            None => {
                let slots = &self.slots;
                self.table.insert_unique(hash, slot, |&slot| slots[slot as usize].hash);
            }
        }
        slot
    }

    /// The slot of a key that was kept elsewhere, made if there is none. `is_int`: keys are one integer column. A new one
    /// stays until [`GroupTable::settle`].
    pub fn intern(&mut self, key: &[u8], is_int: bool) -> u32 {
        let int = int_of(key).filter(|_| is_int);
        let found = match int {
            Some(value) => Some(self.find_int(value)).filter(|&slot| slot != NO_SLOT),
            None => self.find(key),
        };
        found.unwrap_or_else(|| {
            let slot = self.insert(key, int);
            self.last[slot as usize] = EventTime::MAX;
            slot
        })
    }

    /// Lets interned slots go in time if no pane holds them.
    pub fn settle(&mut self, frontier: EventTime) {
        for last in self.last.iter_mut().filter(|last| **last == EventTime::MAX) {
            *last = frontier;
        }
        self.expires_from = EventTime::MIN;
    }

    /// The first slot from `from` on that stands for a key.
    pub fn next_used(&self, from: u32) -> Option<u32> {
        let rest = self.slots.get(from as usize..)?;
        rest.iter().position(|slot| slot.in_use).map(|at| from + at as u32)
    }

    /// Encoded key of `slot`.
    pub fn key(&self, slot: u32) -> &[u8] {
        self.slots[slot as usize].key.encoded()
    }

    /// Hash of the key of `slot`.
    pub fn hash(&self, slot: u32) -> u64 {
        self.slots[slot as usize].hash
    }

    /// Notes that a pane with rows of `slots` is gone; returns how many those are.
    pub fn release(&mut self, slots: impl Iterator<Item = u32>, frontier: EventTime) -> usize {
        slots.map(|slot| self.last[slot as usize] = frontier).count()
    }

    /// Frees slots whose last pane went before `limit`; `held` are the slots that panes have.
    pub fn expire(&mut self, limit: EventTime, held: impl Iterator<Item = u32>) {
        if limit <= self.expires_from {
            return;
        }
        let mut is_held = std::mem::take(&mut self.is_held);
        is_held.clear();
        is_held.resize(self.slots.len(), false);
        is_held[OTHER_SLOT as usize] = true;
        held.for_each(|slot| is_held[slot as usize] = true);
        // Whatever panes hold now will go at a later frontier than `limit`.
        self.expires_from = limit;
        let mut next = EventTime::MAX;
        for (slot, is_held) in is_held.iter().enumerate() {
            if *is_held || !self.slots[slot].in_use {
                continue;
            }
            match self.last[slot] {
                last if last < limit => self.remove(slot as u32),
                last => next = next.min(last),
            }
        }
        if next != EventTime::MAX {
            self.expires_from = next;
        }
        self.is_held = is_held;
    }

    fn remove(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        entry.in_use = false;
        let key = std::mem::replace(&mut entry.key, StoredKey::of(&[]));
        if self.announced[slot as usize] {
            self.retired.push(slot);
        }
        match self.table.find_entry(entry.hash, |&other| other == slot) {
            Ok(found) => {
                found.remove();
            }
            Err(_) => {
                if let Some(value) = int_of(key.encoded()) {
                    self.ints.remove(value);
                }
            }
        }
        self.free.push(slot);
    }

    /// Tells of each key that the coordinator does not know and whose slot `is_held`; from now on it does.
    pub fn announce(&mut self, is_held: impl Fn(u32) -> bool, mut tell: impl FnMut(u32, &[u8])) {
        let GroupTable { unannounced, announced, slots, .. } = self;
        unannounced.retain(|&slot| {
            let (entry, is_known) = (&slots[slot as usize], &mut announced[slot as usize]);
            // A slot that was let go and is used again is in the list twice.
            if *is_known || !entry.in_use {
                return false;
            }
            *is_known = is_held(slot);
            if *is_known {
                tell(slot, entry.key.encoded());
            }
            !*is_known
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_in_no_pane_are_freed_after_a_while_and_told() {
        let none = || [].into_iter();
        let mut table = GroupTable::new();
        let mut encoded = Vec::new();
        key::push_i64(&mut encoded, 7);
        let slot = table.insert(&encoded, Some(7));
        let told = |table: &mut GroupTable, is_held: bool| {
            let mut told = Vec::new();
            table.announce(|_| is_held, |slot, key| told.push((slot, key.to_vec())));
            told
        };
        assert_eq!(told(&mut table, false), []);
        assert_eq!(told(&mut table, true), [(slot, encoded.clone())]);
        assert_eq!(told(&mut table, true), []);
        table.release([slot].into_iter(), EventTime(10));
        table.expire(EventTime(10), none());
        assert_eq!(table.find_int(7), slot);
        table.expire(EventTime(11), [slot].into_iter());
        assert_eq!(table.find_int(7), slot, "a pane holds it");
        table.release([slot].into_iter(), EventTime(11));
        table.expire(EventTime(11), none());
        assert_eq!(table.find_int(7), slot);
        table.expire(EventTime(12), none());
        assert_eq!(table.find_int(7), NO_SLOT);
        let mut retired = Vec::new();
        table.take_retired(&mut retired);
        assert_eq!(retired, [slot]);
        // A free slot is not freed once more.
        table.settle(EventTime(20));
        table.expire(EventTime(30), none());
        assert_eq!(table.next_used(1), None);
        assert_eq!(table.insert(b"x", None), slot);
        assert_eq!(table.find(b"x"), Some(slot));
        assert_ne!(table.insert(b"y", None), slot);
        assert_eq!(table.next_used(1), Some(slot));
    }
}
