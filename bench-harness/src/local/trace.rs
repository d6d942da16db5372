//! A hash over everything that happens in a local run: the same seed must give the same.
//!
//! What is worth noting is decided where it happens.

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace(u64);

impl Default for Trace {
    fn default() -> Trace {
        Trace(0x9E37_79B9_7F4A_7C15)
    }
}

impl Trace {
    /// Adds a number.
    pub fn note(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        self.0 = mixed ^ (mixed >> 32);
    }

    /// Adds bytes.
    pub fn note_bytes(&mut self, bytes: &[u8]) {
        self.note(xxhash_rust::xxh3::xxh3_64(bytes));
    }

    /// The hash.
    pub fn value(self) -> u64 {
        self.0
    }
}
