//! The batch target: bytes that claim to be a batch are verified, read, folded and finalized.
//!
//! An input is one byte of choices and the batch.

use super::stage;
use crate::entropy::Entropy;
use corefold_aggregator::time::Duration;
use corefold_shards::batch::fuzz::verify_and_read;
use corefold_shards::batch::split::Splitter;
use corefold_shards::batch::{AlignedBytes, Encoder, Stamp};

/// Choice: a sound batch goes before.
const AFTER_SOUND: u8 = 1;
/// Choice: a sound batch follows.
const BEFORE_SOUND: u8 = 2;
/// Choice: the batch comes twice.
const TWICE: u8 = 4;

/// See the module.
pub fn body(input: &[u8]) -> u64 {
    let Some((&choices, bytes)) = input.split_first() else { return 0 };
    let stream = stage::stream();
    let Ok(read) = verify_and_read(bytes, stream.fingerprint(), &stream.fields) else { return 1 };
    let chosen = |choice: u8| choices & choice != 0;
    let sound = || stage::encode(&stage::rows(&mut Entropy::new(u64::from(choices))), 1 << 40);
    let mut batches = vec![AlignedBytes::from(bytes)];
    if chosen(TWICE) {
        batches.push(AlignedBytes::from(bytes));
    }
    if chosen(AFTER_SOUND) {
        batches.insert(0, sound());
    }
    if chosen(BEFORE_SOUND) {
        batches.push(sound());
    }
    read ^ stage::run(&stage::PLAN, batches)
}

/// A choice and the batch of a few rows, whole or a part.
pub fn sound(entropy: &mut Entropy) -> Vec<u8> {
    let rows = stage::rows(entropy);
    let mut input = vec![entropy.below(8) as u8];
    if entropy.chance(0.6) {
        input.extend_from_slice(stage::encode(&rows, entropy.below(3)).as_slice());
        return input;
    }
    let parts = 2 + entropy.below(3) as u16;
    let mut splitter = Splitter::new(parts);
    let delay_max = *entropy.pick(&[Duration::ZERO, stage::stream().delay_max]);
    splitter.split(&rows, &[0], delay_max);
    let part = entropy.below(u64::from(parts)) as u16;
    let stamp = Stamp { part, parts, ..Stamp::of_lane(1, 0, 0) };
    let mut bytes = AlignedBytes::new();
    let fingerprint = stage::stream().fingerprint();
    let piece = splitter.part(usize::from(part));
    Encoder::new().encode_part(&rows, piece, fingerprint, &stamp, &mut bytes).expect("a small batch");
    input.extend_from_slice(bytes.as_slice());
    input
}
