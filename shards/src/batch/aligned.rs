//! A growable byte buffer whose start lies on a cache line. What the bytes mean is not known here.

use bytemuck::Pod;
use rkyv::util::AlignedVec;

/// Alignment of the first byte of [`AlignedBytes`].
pub const BYTES_ALIGNMENT: usize = 64;

/// Growable bytes, aligned to [`BYTES_ALIGNMENT`]; clearing keeps the memory.
#[derive(Clone, Debug, Default)]
pub struct AlignedBytes {
    bytes: AlignedVec<BYTES_ALIGNMENT>,
}

impl AlignedBytes {
    /// An empty buffer without memory.
    pub fn new() -> AlignedBytes {
        AlignedBytes::default()
    }

    /// An empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> AlignedBytes {
        AlignedBytes { bytes: AlignedVec::with_capacity(capacity) }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The bytes, writable.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes.as_mut_slice()
    }

    /// How many bytes are held.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no bytes are held.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes fit without growing.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Forgets the bytes and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Makes room for `additional` more bytes.
    pub fn reserve(&mut self, additional: usize) {
        self.bytes.reserve(additional);
    }

    /// Makes it `len` bytes: cuts off the rest, or appends zeros.
    pub fn resize(&mut self, len: usize) {
        self.bytes.resize(len, 0);
    }

    /// Appends `bytes`.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends zeros until the length is a multiple of `alignment` plus `rest`.
    pub fn pad(&mut self, alignment: usize, rest: usize) {
        debug_assert!(rest < alignment);
        let zeros = (alignment + rest - self.len() % alignment) % alignment;
        self.bytes.resize(self.len() + zeros, 0);
    }

    /// Appends `count` zeroed values and returns them for writing; the length must be a multiple of their alignment.
    pub fn extend_zeroed<T: Pod>(&mut self, count: usize) -> &mut [T] {
        if count == 0 {
            // Without memory there is not even an aligned place.
            return &mut [];
        }
        let start = self.len();
        self.bytes.resize(start + count * size_of::<T>(), 0);
        bytemuck::cast_slice_mut(&mut self.bytes.as_mut_slice()[start..])
    }
}

impl From<&[u8]> for AlignedBytes {
    fn from(bytes: &[u8]) -> AlignedBytes {
        let mut aligned = AlignedBytes::with_capacity(bytes.len());
        aligned.extend(bytes);
        aligned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_aligned_at_every_size() {
        let mut bytes = AlignedBytes::new();
        for round in 0..2_000_usize {
            bytes.extend(&[round as u8; 7]);
            assert_eq!(bytes.as_slice().as_ptr().align_offset(BYTES_ALIGNMENT), 0);
        }
        assert_eq!(bytes.len(), 14_000);
        let capacity = bytes.capacity();
        bytes.clear();
        assert!(bytes.is_empty());
        assert_eq!(bytes.capacity(), capacity);
    }

    #[test]
    fn padding_reaches_the_asked_rest_with_zeros() {
        for length in 0..40 {
            for rest in 0..8 {
                let mut bytes = AlignedBytes::from(&vec![0xFF; length][..]);
                bytes.pad(8, rest);
                assert_eq!(bytes.len() % 8, rest);
                assert!(bytes.len() < length + 8);
                assert!(bytes.as_slice()[length..].iter().all(|&byte| byte == 0));
            }
        }
    }

    #[test]
    fn typed_space_is_zeroed_even_where_old_bytes_lay() {
        let mut bytes = AlignedBytes::new();
        assert!(bytes.extend_zeroed::<i64>(0).is_empty());

        bytes = AlignedBytes::from(&[0xFF; 64][..]);
        bytes.clear();
        let values: &mut [i64] = bytes.extend_zeroed(3);
        assert_eq!(values, [0, 0, 0]);
        values[2] = 5;
        assert_eq!(bytes.len(), 24);
        assert_eq!(bytes.as_slice()[16], 5);
    }
}
