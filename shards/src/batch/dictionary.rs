//! The distinct texts of one string column while a batch is being built.
//!
//! The dictionary of a received batch is not here; it is a plain slice of the batch's bytes.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Most bytes of text in one dictionary; offsets into it are `u32`.
pub const DICTIONARY_TEXT_MAX: usize = 128 << 20;

const NONE: u32 = u32::MAX;

/// Why a value cannot enter a dictionary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DictionaryError {
    /// The value is not UTF-8.
    #[error("the value is not valid UTF-8 from its byte {valid_up_to} on; expected UTF-8 text")]
    InvalidUtf8 {
        /// Bytes before the first bad one.
        valid_up_to: usize,
    },
    /// The batch holds too much distinct text.
    #[error("the distinct values of a string column exceed {max} bytes in one batch; make batches smaller")]
    TooMuchText {
        /// The limit, [`DICTIONARY_TEXT_MAX`].
        max: usize,
    },
}

/// Distinct texts, numbered from 0 in the order of their first use.
///
/// Numbers depend on the sequence of values alone. Clearing keeps the memory.
#[derive(Clone, Debug)]
pub struct Dictionary {
    text: String,
    /// Entry `i` is `text[offsets[i]..offsets[i + 1]]`; the first offset is 0.
    offsets: Vec<u32>,
    table: HashTable<u32>,
    last: u32,
}

impl Default for Dictionary {
    fn default() -> Dictionary {
        Dictionary { text: String::new(), offsets: vec![0], table: HashTable::new(), last: NONE }
    }
}

impl Dictionary {
    /// An empty dictionary.
    pub fn new() -> Dictionary {
        Dictionary::default()
    }

    /// The number of `value`, which is entered when new. UTF-8 is checked only then.
    #[inline]
    pub fn intern(&mut self, value: &[u8]) -> Result<u32, DictionaryError> {
        if self.last != NONE && self.bytes(self.last) == value {
            return Ok(self.last);
        }
        self.look_up(value)
    }

    fn look_up(&mut self, value: &[u8]) -> Result<u32, DictionaryError> {
        let hash = xxh3_64(value);
        if let Some(&index) = self.table.find(hash, |&index| self.bytes(index) == value) {
            self.last = index;
            return Ok(index);
        }
        let value = std::str::from_utf8(value)
            .map_err(|error| DictionaryError::InvalidUtf8 { valid_up_to: error.valid_up_to() })?;
        let end = self.text.len() + value.len();
        if end > DICTIONARY_TEXT_MAX {
            return Err(DictionaryError::TooMuchText { max: DICTIONARY_TEXT_MAX });
        }
        // Below the limit above, so neither number is cut.
        let index = self.len() as u32;
        self.text.push_str(value);
        self.offsets.push(end as u32);
        let Dictionary { text, offsets, table, .. } = self;
        table.insert_unique(hash, index, |&index| xxh3_64(entry(text, offsets, index)));
        self.last = index;
        Ok(index)
    }

    /// How many distinct texts there are.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Text number `index`, below [`Dictionary::len`].
    pub fn get(&self, index: u32) -> &str {
        let index = index as usize;
        &self.text[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    /// All texts one after the other.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where each text starts in [`Dictionary::text`], and the end: one more than [`Dictionary::len`].
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// Forgets all texts and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.offsets.truncate(1);
        self.table.clear();
        self.last = NONE;
    }

    #[inline]
    fn bytes(&self, index: u32) -> &[u8] {
        entry(&self.text, &self.offsets, index)
    }
}

#[inline]
fn entry<'a>(text: &'a str, offsets: &[u32], index: u32) -> &'a [u8] {
    let index = index as usize;
    &text.as_bytes()[offsets[index] as usize..offsets[index + 1] as usize]
}

// Entries are numbered by u32, and even empty dictionaries of distinct texts outgrow the text first.
const _: () = assert!(DICTIONARY_TEXT_MAX < u32::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain list searched from the front.
        #[test]
        fn numbers_are_those_of_first_use(values in proptest::collection::vec("[a-c]{0,3}|é+", 0..200)) {
            let mut dictionary = Dictionary::new();
            for _ in 0..2 {
                let mut plain: Vec<&str> = Vec::new();
                for value in &values {
                    let expected = plain.iter().position(|seen| seen == value).unwrap_or_else(|| {
                        plain.push(value);
                        plain.len() - 1
                    });
                    prop_assert_eq!(dictionary.intern(value.as_bytes()), Ok(expected as u32));
                }
                prop_assert_eq!(dictionary.len(), plain.len());
                prop_assert_eq!(dictionary.text(), plain.concat());
                for (index, value) in plain.iter().enumerate() {
                    prop_assert_eq!(dictionary.get(index as u32), *value);
                }
                dictionary.clear();
                prop_assert!(dictionary.is_empty());
            }
        }
    }

    #[test]
    fn bad_text_is_refused_and_leaves_no_trace() {
        let mut dictionary = Dictionary::new();
        assert_eq!(dictionary.intern(b"ok"), Ok(0));
        assert_eq!(dictionary.intern(b"ab\xFFc"), Err(DictionaryError::InvalidUtf8 { valid_up_to: 2 }));
        // The halves of a character must not become a whole one by standing side by side.
        assert!(dictionary.intern(b"\xC3").is_err());
        assert!(dictionary.intern(b"\xA9").is_err());
        assert_eq!(dictionary.len(), 1);
        assert_eq!(dictionary.intern(b"ok"), Ok(0));
        assert_eq!(dictionary.intern(b"new"), Ok(1));
    }

    #[test]
    fn clearing_keeps_the_memory() {
        let mut dictionary = Dictionary::new();
        let fill = |dictionary: &mut Dictionary| {
            for value in 0..1_000_u32 {
                dictionary.intern(value.to_string().as_bytes()).unwrap();
            }
        };
        fill(&mut dictionary);
        let capacities = |d: &Dictionary| (d.text.capacity(), d.offsets.capacity(), d.table.capacity());
        let before = capacities(&dictionary);
        dictionary.clear();
        fill(&mut dictionary);
        assert_eq!(capacities(&dictionary), before);
    }
}
