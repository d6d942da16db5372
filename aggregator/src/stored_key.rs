//! An encoded key in a table of groups: most are short, and then there is no memory of their own to be asked for.
//!
//! How keys are encoded is in [`crate::key`].

/// Bytes of a short key: with its length and the tag three words.
const SHORT_MAX: usize = 22;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredKey(Kind);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Kind {
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<[u8]>),
}

const _: () = assert!(size_of::<StoredKey>() == 24);

impl StoredKey {
    /// A copy of `encoded`.
    pub fn of(encoded: &[u8]) -> StoredKey {
        let mut bytes = [0; SHORT_MAX];
        StoredKey(match bytes.get_mut(..encoded.len()) {
            Some(place) => {
                place.copy_from_slice(encoded);
                Kind::Short { length: encoded.len() as u8, bytes }
            }
            None => Kind::Long(encoded.into()),
        })
    }

    /// The encoded key.
    pub fn encoded(&self) -> &[u8] {
        match &self.0 {
            Kind::Short { length, bytes } => &bytes[..usize::from(*length)],
            Kind::Long(bytes) => bytes,
        }
    }

    /// [`prefix`] of the key.
    pub fn prefix(&self) -> u128 {
        match &self.0 {
            // Filled up with zeros.
            Kind::Short { bytes, .. } => prefix(bytes),
            Kind::Long(bytes) => prefix(bytes),
        }
    }
}

/// The first bytes of an encoded key as a number that sorts as keys do. A key that ends sooner is filled up with zeros;
/// whoever differs only there has the same prefix.
pub fn prefix(encoded: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    let length = encoded.len().min(bytes.len());
    bytes[..length].copy_from_slice(&encoded[..length]);
    u128::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_comes_back_and_its_prefix_sorts(a in prop::collection::vec(0u8..3, 0..40), b in prop::collection::vec(0u8..3, 0..40)) {
            let (stored_a, stored_b) = (StoredKey::of(&a), StoredKey::of(&b));
            prop_assert_eq!(stored_a.encoded(), &a[..]);
            prop_assert_eq!(stored_a == stored_b, a == b);
            if stored_a.prefix() != stored_b.prefix() {
                prop_assert_eq!(stored_a.prefix().cmp(&stored_b.prefix()), a.cmp(&b));
            }
            prop_assert_eq!(stored_a.prefix(), prefix(&a));
        }
    }
}
