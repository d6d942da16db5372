//! Damaged batches: refused, or read without a panic. Purposeful lies are in `src/batch/hostile.rs`.
//!
//! Damage that leaves a batch possible cannot be seen here; the log's and the wire's checksums are for that.

use corefold_aggregator::spec::Field;
use corefold_aggregator::time::Duration;
use corefold_shards::batch::fuzz::verify_and_read;
use corefold_shards::batch::split::Splitter;
use corefold_shards::batch::{AlignedBytes, Encoder, Stamp, encode, patch_stamp};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::model::{Table, tables};

const FINGERPRINT: u64 = 0x0123_4567_89AB_CDEF;

/// A few batches of every shape, parts with high waters among them.
fn samples() -> Vec<(Vec<Field>, Vec<u8>)> {
    let mut runner = TestRunner::deterministic();
    let mut samples = Vec::new();
    for rows in [0, 1, 3, 9] {
        for _ in 0..3 {
            let table: Table = tables(rows..rows + 1).new_tree(&mut runner).unwrap().current();
            let set = table.column_set();
            let mut bytes = AlignedBytes::new();
            encode(&set, FINGERPRINT, &Stamp::of_lane(1, 2, 3), &mut bytes).unwrap();
            samples.push((table.fields(), bytes.as_slice().to_vec()));

            let mut splitter = Splitter::new(2);
            splitter.split(&set, &[], Duration::ZERO);
            for part in 0..2 {
                let stamp = Stamp { part, parts: 2, ..Stamp::of_lane(1, 2, 3) };
                let part = splitter.part(usize::from(part));
                Encoder::new().encode_part(&set, part, FINGERPRINT, &stamp, &mut bytes).unwrap();
                samples.push((table.fields(), bytes.as_slice().to_vec()));
            }
        }
    }
    samples
}

#[test]
fn every_flipped_bit_is_refused_or_harmless() {
    let (mut refused, mut read) = (0, 0);
    for (fields, honest) in samples() {
        assert!(verify_and_read(&honest, FINGERPRINT, &fields).is_ok());
        for at in 0..honest.len() {
            for mask in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut bytes = honest.clone();
                bytes[at] ^= mask;
                match verify_and_read(&bytes, FINGERPRINT, &fields) {
                    Ok(_) => read += 1,
                    Err(error) => {
                        assert!(!error.to_string().is_empty());
                        refused += 1;
                    }
                }
            }
        }
    }
    // Both happen, or the test looks at nothing.
    assert!(refused > 1_000, "{refused} refused");
    assert!(read > 1_000, "{read} read");
}

#[test]
fn every_truncation_is_refused_or_harmless() {
    for (fields, honest) in samples() {
        let whole = verify_and_read(&honest, FINGERPRINT, &fields);
        for length in 0..honest.len() {
            if let Ok(digest) = verify_and_read(&honest[..length], FINGERPRINT, &fields) {
                // Only padding at the end may go unnoticed.
                assert!(honest.len() - length < 8, "{length} of {} bytes", honest.len());
                assert_eq!(Ok(digest), whole);
            }
        }
    }
}

#[test]
fn a_stamp_is_patched_or_refused_in_anything() {
    let stamp = Stamp::of_lane(u64::MAX, u32::MAX, u64::MAX);
    for (_, honest) in samples() {
        for at in 0..honest.len().min(120) {
            for byte in [0, 0x7F, 0x80, 0xFF] {
                let mut bytes = honest.clone();
                bytes[at] = byte;
                let _ = patch_stamp(&mut bytes, &stamp);
                let _ = patch_stamp(&mut bytes[..at], &stamp);
            }
        }
    }
    assert!(patch_stamp(&mut [], &stamp).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Several numbers replaced at once by those that most often break something.
    #[test]
    fn damage_in_many_places_is_refused_or_harmless(
        sample in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<u32>()), 1..6),
    ) {
        thread_local! {
            static SAMPLES: Vec<(Vec<Field>, Vec<u8>)> = samples();
        }
        SAMPLES.with(|samples| {
            let (fields, honest) = sample.get(samples);
            let mut bytes = honest.clone();
            for (place, kind, number) in damage {
                let at = place.index(bytes.len() / 4) * 4;
                let number = match kind % 6 {
                    0 => 0,
                    1 => u32::MAX,
                    2 => 1 << 31,
                    3 => number % 64,
                    4 => bytes.len() as u32 - at as u32,
                    _ => number,
                };
                bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
            let _ = verify_and_read(&bytes, FINGERPRINT, fields);
        });
    }

    #[test]
    fn noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(verify_and_read(&noise, FINGERPRINT, &[]).is_err());
        let mut named = noise;
        if named.len() >= 8 {
            named[4..8].copy_from_slice(b"CFB1");
            let _ = verify_and_read(&named, FINGERPRINT, &[]);
        }
    }
}
