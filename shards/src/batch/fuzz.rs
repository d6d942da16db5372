//! Bodies for fuzzers: whatever the bytes are, checking and reading them must not panic.
//!
//! Where the bytes come from is not here. Tests run these at smoke size, so that they stay right.

use corefold_aggregator::spec::Field;
use corefold_aggregator::time::EventTime;
use xxhash_rust::xxh3::Xxh3;

use super::columns::bit;
use super::{AlignedBytes, BatchError, BatchView, Column, UnverifiedBatch};

/// Verifies any bytes and, if they pass, reads all of them; the digest of what was read.
pub fn verify_and_read(bytes: &[u8], fingerprint: u64, fields: &[Field]) -> Result<u64, BatchError> {
    let aligned = AlignedBytes::from(bytes);
    let view = UnverifiedBatch::new(aligned.as_slice()).verify(fingerprint, fields)?;
    Ok(digest(&view))
}

/// Reads everything that a view offers; equal for batches of equal content and equal stamps.
pub fn digest(view: &BatchView<'_>) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(format!("{:?} {} {}", view.stamp(), view.rows(), view.columns()).as_bytes());
    let times = view.times();
    assert_eq!(times.len(), view.rows());
    for row in 0..view.rows() {
        let time = EventTime(times.get(row));
        assert!(view.time_min() <= time);
        assert!(time <= view.time_max());
        hash.update(&time.0.to_le_bytes());
    }
    for index in 0..view.columns() {
        digest_column(&view.column(index), view.rows(), &mut hash);
    }
    for row in view.row_numbers().unwrap_or_default() {
        hash.update(&row.to_le_bytes());
    }
    for high in view.high_waters().unwrap_or_default() {
        hash.update(&high.to_le_bytes());
    }
    hash.digest()
}

fn digest_column(column: &Column<'_>, rows: usize, hash: &mut Xxh3) {
    for row in 0..rows {
        match column {
            Column::I64 { values, validity } => match validity {
                Some(validity) if !bit(validity, row) => hash.update(b"null"),
                _ => hash.update(&values.get(row).to_le_bytes()),
            },
            Column::F64(values) => hash.update(&values[row].to_bits().to_le_bytes()),
            Column::Bool(values) => {
                assert!(values[row] <= 2);
                hash.update(&[values[row]]);
            }
            Column::Str { dictionary, indices } => match indices.get(row) {
                null if null == dictionary.len() => hash.update(b"null"),
                index => hash.update(dictionary.get(index).as_bytes()),
            },
        }
    }
    if let Column::Str { dictionary, .. } = column {
        // Also the texts that no row uses.
        let size: usize = dictionary.iter().map(|text| text.chars().map(char::len_utf8).sum::<usize>()).sum();
        hash.update(&size.to_le_bytes());
    }
}
