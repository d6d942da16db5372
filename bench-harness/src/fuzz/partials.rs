//! The partial target: archives that claim to be partial aggregates, with or without sound ones before and after.
//!
//! An input is one byte of choices and the archive. Checksums have been passed by then: only what the archive says of
//! itself can be doubted.

use super::stage::{self, PLAN};
use crate::entropy::Entropy;
use rkyv::util::AlignedVec;
use std::sync::LazyLock;
use xxhash_rust::xxh3::Xxh3;

/// Choice: sound partials are merged before.
const AFTER_SOUND: u8 = 1;
/// Choice: sound partials are merged afterwards.
const BEFORE_SOUND: u8 = 2;
/// Choice: the archive comes once more, from another shard.
const TWICE: u8 = 4;

static SOUND: LazyLock<Vec<AlignedVec>> =
    LazyLock::new(|| stage::partials([stage::encode(&stage::rows(&mut Entropy::new(5)), 0)]));

/// See the module.
pub fn body(input: &[u8]) -> u64 {
    let Some((&choices, bytes)) = input.split_first() else { return 0 };
    let chosen = |choice: u8| choices & choice != 0;
    let mut archive = AlignedVec::new();
    archive.extend_from_slice(bytes);
    let mut hash = Xxh3::new();
    let mut views = stage::views(&PLAN, 3);
    if chosen(AFTER_SOUND) {
        SOUND.iter().for_each(|sound| assert!(stage::merge(&PLAN, &mut views, 0, sound, &mut hash)));
    }
    // A coordinator that has refused a partial stops.
    if !stage::merge(&PLAN, &mut views, 1, &archive, &mut hash) {
        return hash.digest();
    }
    if chosen(TWICE) && !stage::merge(&PLAN, &mut views, 2, &archive, &mut hash) {
        return hash.digest();
    }
    if chosen(BEFORE_SOUND) && !chosen(AFTER_SOUND) {
        for sound in SOUND.iter() {
            if !stage::merge(&PLAN, &mut views, 0, sound, &mut hash) {
                return hash.digest();
            }
        }
    }
    stage::finish(&mut views, &mut hash);
    hash.digest()
}

/// A choice and a partial of random rows.
pub fn sound(entropy: &mut Entropy) -> Vec<u8> {
    let seed = if entropy.chance(0.5) { 5 } else { entropy.below(1_000) };
    let partials = stage::partials([stage::encode(&stage::rows(&mut Entropy::new(seed)), 0)]);
    let mut input = vec![entropy.below(8) as u8];
    if !partials.is_empty() {
        let chosen = entropy.index(partials.len());
        input.extend_from_slice(&partials[chosen]);
    }
    input
}
