//! The packed target: bytes that claim to be gzip or zstd, read as CSV.
//!
//! An input is two bytes of choices, of which one bit says how it is packed, and the packed file.

use super::inputs::{Choices, read, sound_csv};
use crate::entropy::Entropy;
use corefold_engine::source::input::{Compression, Format};
use std::io::Write;

/// Marks of both framings.
pub const WORDS: &[&[u8]] = &[
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"\x50\x2a\x4d\x18",
    b"\x5f\x2a\x4d\x18\xff\xff\xff\xff",
    b"\x01\x00\x00",
    b"\xff\xff",
];

/// Choice in the second byte: zstd, otherwise gzip.
const ZSTD: u8 = 128;

/// Longest packed file: a few of its bytes may stand for very many.
const PACKED_SIZE_MAX: usize = 16 << 10;

/// See the module.
pub fn body(input: &[u8]) -> u64 {
    let [one, other, file @ ..] = input else { return 0 };
    let file = &file[..file.len().min(PACKED_SIZE_MAX)];
    let compression = if other & ZSTD == 0 { Compression::Gzip } else { Compression::Zstd };
    read(Format::Csv, compression, file, Choices::of(one | 3, *other), 4096).digest
}

/// A packed CSV file, of one or two frames.
pub fn sound(entropy: &mut Entropy) -> Vec<u8> {
    let mut input = sound_csv(entropy);
    let text = input.split_off(2);
    let cut = entropy.index(text.len() + 1);
    let frames = if entropy.chance(0.3) { vec![&text[..cut], &text[cut..]] } else { vec![&text[..]] };
    for frame in frames {
        let packed = if input[1] & ZSTD == 0 { gzip(frame) } else { zstd(frame, entropy) };
        input.extend_from_slice(&packed);
    }
    input
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("memory")
}

fn zstd(text: &[u8], entropy: &mut Entropy) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("memory");
    encoder.include_checksum(entropy.chance(0.5)).expect("a plain option");
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("memory")
}
