//! A batch that owns its bytes and has passed every check, so that it may wait and be stamped before it is read.
//!
//! What is checked is in `verify`.

use super::aligned::AlignedBytes;
use super::error::BatchError;
use super::verify::UnverifiedBatch;
use super::view::BatchView;
use super::wire::{Stamp, patch_stamp};
use corefold_aggregator::spec::Field;

/// See the module.
#[derive(Debug)]
pub struct VerifiedBatch {
    bytes: AlignedBytes,
}

impl VerifiedBatch {
    /// Checks that the bytes are a whole batch of the stream with this fingerprint and these fields; gives them back if
    /// they are not.
    pub fn verify(
        bytes: AlignedBytes,
        fingerprint: u64,
        fields: &[Field],
    ) -> Result<VerifiedBatch, (BatchError, AlignedBytes)> {
        let verified = UnverifiedBatch::new(bytes.as_slice()).verify(fingerprint, fields);
        let refused = match verified {
            Ok(batch) if batch.stamp().parts == 1 && batch.row_numbers().is_none() => None,
            Ok(_) => Some(BatchError::Part { what: "it is a part, and a whole batch was expected" }),
            Err(error) => Some(error),
        };
        match refused {
            None => Ok(VerifiedBatch { bytes }),
            Some(error) => Err((error, bytes)),
        }
    }

    /// Replaces the stamp.
    ///
    /// Panics if no whole batch can have it.
    pub fn restamp(&mut self, stamp: &Stamp) {
        assert_eq!(stamp.fault(), None, "a stamp that a batch can carry");
        assert_eq!(stamp.parts, 1, "the batch is whole");
        patch_stamp(self.bytes.as_mut_slice(), stamp).expect("a batch that was verified has a stamp");
    }

    /// The batch. Only references are looked at again, not values: that costs nothing that grows with rows.
    pub fn view(&self) -> BatchView<'_> {
        let batch = UnverifiedBatch::new(self.bytes.as_slice()).read_tables().expect("it was verified");
        BatchView { batch }
    }

    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Its memory.
    pub fn into_bytes(self) -> AlignedBytes {
        self.bytes
    }
}
