//! Damages a sound input: the hands of a fuzzer without feedback.
//!
//! What a sound input is, and which checksums are put right afterwards, is each target's own.

use crate::entropy::Entropy;

/// Longest input that comes out.
pub const INPUT_SIZE_MAX: usize = 256 << 10;

/// Numbers at the edges of what programs expect.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Applies one to some twenty random changes to `input`. `words` are what the target's inputs are made of.
pub fn mutate(input: &mut Vec<u8>, words: &[&[u8]], entropy: &mut Entropy) {
    let changes = match entropy.weighted(&[10, 6, 3, 1]) {
        0 => 1,
        1 => 2 + entropy.index(3),
        2 => 5 + entropy.index(6),
        _ => 10 + entropy.index(12),
    };
    for _ in 0..changes {
        change(input, words, entropy);
    }
    input.truncate(INPUT_SIZE_MAX);
}

fn change(input: &mut Vec<u8>, words: &[&[u8]], entropy: &mut Entropy) {
    if input.is_empty() {
        input.extend((0..1 + entropy.index(8)).map(|_| 0));
    }
    let at = entropy.index(input.len());
    match entropy.weighted(&[6, 5, 5, 4, 4, 4, 4, 2, 1]) {
        0 => input[at] ^= 1 << entropy.index(8),
        1 => input[at] = entropy.bits() as u8,
        2 => put_number(input, at, entropy),
        3 => {
            // A word in place of something, or between.
            let Some(word) = words.get(entropy.index(words.len().max(1))).copied() else { return };
            let end = if entropy.chance(0.5) { at } else { (at + word.len()).min(input.len()) };
            input.splice(at..end, word.iter().copied());
        }
        4 => {
            input.drain(at..(at + stretch(input.len() - at, entropy)).min(input.len()));
        }
        5 => {
            // A piece of the input once more, somewhere.
            let piece = input[at..at + stretch(input.len() - at, entropy)].to_vec();
            let to = entropy.index(input.len() + 1);
            input.splice(to..to, piece);
        }
        6 => {
            // A piece of the input over another one.
            let piece = input[at..at + stretch(input.len() - at, entropy)].to_vec();
            let to = entropy.index(input.len());
            let length = piece.len().min(input.len() - to);
            input[to..to + length].copy_from_slice(&piece[..length]);
        }
        7 => input.truncate(at),
        _ => {
            let some = entropy.bits() as u8;
            let byte = *entropy.pick(&[0, 0xff, b' ', b'"', b'(', b'\n', some]);
            let length = stretch(4096, entropy);
            input.splice(at..at, std::iter::repeat_n(byte, length));
        }
    }
}

/// Mostly short, seldom as long as there is room; at least 1 where there is any.
fn stretch(room: usize, entropy: &mut Entropy) -> usize {
    let most = *entropy.pick(&[1, 4, 8, 16, 64, 512, 4096]);
    (1 + entropy.index(most)).min(room)
}

/// Overwrites 1 to 8 bytes by an edge, or adds a little to what they say.
fn put_number(input: &mut [u8], at: usize, entropy: &mut Entropy) {
    let width = *entropy.pick(&[1, 2, 4, 8]);
    // Fields of binary formats are aligned.
    let at = if entropy.chance(0.8) { at / width * width } else { at };
    let width = width.min(input.len() - at);
    let mut old = [0; 8];
    old[..width].copy_from_slice(&input[at..at + width]);
    let old = u64::from_le_bytes(old);
    let new = match entropy.weighted(&[3, 3, 1]) {
        0 => *entropy.pick(&EDGES),
        1 => old.wrapping_add_signed(entropy.between(-16, 16)),
        _ => old << entropy.index(16),
    };
    input[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_damage_and_every_kind_of_it() {
        let (mut longer, mut shorter, mut equal) = (0, 0, 0);
        for seed in 0..500 {
            let damaged = |seed| {
                let mut input: Vec<u8> = (0..200).map(|byte| byte as u8).collect();
                mutate(&mut input, &[b"word"], &mut Entropy::new(seed));
                input
            };
            let input = damaged(seed);
            assert_eq!(input, damaged(seed));
            match input.len() {
                length if length > 200 => longer += 1,
                length if length < 200 => shorter += 1,
                _ => equal += 1,
            }
        }
        assert!(longer > 50 && shorter > 50 && equal > 50, "{longer} {shorter} {equal}");
        let mut empty = Vec::new();
        mutate(&mut empty, &[], &mut Entropy::new(1));
    }
}
