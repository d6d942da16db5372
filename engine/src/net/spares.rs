//! Buffers of batches that go round: connection, inbox, log, connection.
//!
//! How much may be under way besides is the feed's business.

use corefold_shards::batch::AlignedBytes;

/// Most buffers that are kept. A client may have so many small batches under way, and without a buffer for each of them
/// every batch would cost memory.
const SPARES_MAX: usize = if cfg!(test) { 32 } else { 1024 };

/// Buffers for batches to come.
#[derive(Debug)]
pub struct Spares {
    bytes_max: u64,
    kept: Vec<AlignedBytes>,
    bytes: u64,
}

impl Spares {
    /// Keeps at most so many bytes.
    pub fn new(bytes_max: u64) -> Spares {
        Spares { bytes_max, kept: Vec::new(), bytes: 0 }
    }

    /// Memory for a batch.
    pub fn take(&mut self) -> AlignedBytes {
        let spare = self.kept.pop().unwrap_or_default();
        self.bytes -= spare.capacity() as u64;
        spare
    }

    /// Takes memory back. One batch that was large makes no buffer large for good if there are many.
    pub fn keep(&mut self, spare: AlignedBytes) {
        let bytes = self.bytes + spare.capacity() as u64;
        if self.kept.len() < SPARES_MAX && bytes <= self.bytes_max {
            self.bytes = bytes;
            self.kept.push(spare);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spares_are_bounded_by_number_and_by_size() {
        let mut spares = Spares::new(1000);
        (0..3).for_each(|_| spares.keep(AlignedBytes::with_capacity(400)));
        assert_eq!((spares.take().capacity(), spares.take().capacity(), spares.take().capacity()), (400, 400, 0));
        (0..40).for_each(|_| spares.keep(AlignedBytes::with_capacity(8)));
        assert_eq!((spares.kept.len(), spares.bytes), (32, 256));
    }
}
