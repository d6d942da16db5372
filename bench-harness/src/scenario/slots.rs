//! Keys to slots of the hand-written loop: as indices, by a hash table of integers, by one of texts.
//!
//! What lies in the slots is the loop's.

use super::keys::key_of;
use xxhash_rust::xxh3::xxh3_64;

/// What is known of slots.
pub trait Keys {
    /// The number of the key of a slot.
    fn key(&self, slot: usize) -> i64;
    /// How many there are.
    fn count(&self) -> usize;
}

/// Slots by keys as they stand in the input.
pub trait Slots<K>: Keys {
    /// The slot of a key, made if there is none.
    fn slot(&mut self, key: K) -> usize;
}

/// Keys are their slots.
pub struct Dense(pub usize);

impl Keys for Dense {
    fn key(&self, slot: usize) -> i64 {
        slot as i64
    }

    fn count(&self) -> usize {
        self.0
    }
}

impl Slots<i64> for Dense {
    #[inline(always)]
    fn slot(&mut self, key: i64) -> usize {
        key as usize
    }
}

/// Open addressing with linear probing; at most half full.
pub struct Hashed {
    /// Key and slot plus one; 0 is free.
    places: Vec<(i64, usize)>,
    keys: Vec<i64>,
}

impl Hashed {
    /// No keys.
    pub fn new() -> Hashed {
        Hashed { places: vec![(0, 0); 1024], keys: Vec::new() }
    }

    #[cold]
    fn insert(&mut self, key: i64) -> usize {
        self.keys.push(key);
        if self.keys.len() * 2 > self.places.len() {
            self.places = vec![(0, 0); self.places.len() * 2];
            for slot in 0..self.keys.len() {
                self.place(self.keys[slot], slot);
            }
        } else {
            self.place(key, self.keys.len() - 1);
        }
        self.keys.len() - 1
    }

    fn place(&mut self, key: i64, slot: usize) {
        let mask = self.places.len() - 1;
        let mut at = home(key) & mask;
        while self.places[at].1 != 0 {
            at = (at + 1) & mask;
        }
        self.places[at] = (key, slot + 1);
    }
}

impl Default for Hashed {
    fn default() -> Hashed {
        Hashed::new()
    }
}

#[inline(always)]
fn home(key: i64) -> usize {
    let mixed = (key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32)) as usize
}

impl Keys for Hashed {
    fn key(&self, slot: usize) -> i64 {
        self.keys[slot]
    }

    fn count(&self) -> usize {
        self.keys.len()
    }
}

impl Slots<i64> for Hashed {
    #[inline(always)]
    fn slot(&mut self, key: i64) -> usize {
        let mask = self.places.len() - 1;
        let mut at = home(key) & mask;
        loop {
            let (found, slot) = self.places[at];
            if slot != 0 && found == key {
                return slot - 1;
            }
            if slot == 0 {
                return self.insert(key);
            }
            at = (at + 1) & mask;
        }
    }
}

/// The same for texts: places have the hash, and the text is looked at where it is the same.
pub struct HashedTexts {
    /// Hash and slot plus one; 0 is free.
    places: Vec<(u64, usize)>,
    texts: Vec<Box<[u8]>>,
    /// Numbers of the texts, for the digest.
    keys: Vec<i64>,
}

impl HashedTexts {
    /// No keys.
    pub fn new() -> HashedTexts {
        HashedTexts { places: vec![(0, 0); 1024], texts: Vec::new(), keys: Vec::new() }
    }

    #[cold]
    fn insert(&mut self, text: &[u8]) -> usize {
        self.texts.push(text.into());
        // A text that stands for no key gives a wrong digest, which ends the run.
        self.keys.push(std::str::from_utf8(text).ok().and_then(key_of).unwrap_or(i64::MIN));
        if self.texts.len() * 2 > self.places.len() {
            self.places = vec![(0, 0); self.places.len() * 2];
            (0..self.texts.len()).for_each(|slot| self.place(slot));
        } else {
            self.place(self.texts.len() - 1);
        }
        self.texts.len() - 1
    }

    fn place(&mut self, slot: usize) {
        let mask = self.places.len() - 1;
        let hash = xxh3_64(&self.texts[slot]);
        let mut at = hash as usize & mask;
        while self.places[at].1 != 0 {
            at = (at + 1) & mask;
        }
        self.places[at] = (hash, slot + 1);
    }
}

impl Default for HashedTexts {
    fn default() -> HashedTexts {
        HashedTexts::new()
    }
}

impl Keys for HashedTexts {
    fn key(&self, slot: usize) -> i64 {
        self.keys[slot]
    }

    fn count(&self) -> usize {
        self.keys.len()
    }
}

impl Slots<&[u8]> for HashedTexts {
    #[inline(always)]
    fn slot(&mut self, text: &[u8]) -> usize {
        let mask = self.places.len() - 1;
        let hash = xxh3_64(text);
        let mut at = hash as usize & mask;
        loop {
            let (found, slot) = self.places[at];
            if slot == 0 {
                return self.insert(text);
            }
            if found == hash && *self.texts[slot - 1] == *text {
                return slot - 1;
            }
            at = (at + 1) & mask;
        }
    }
}
