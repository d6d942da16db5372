//! Frames: whole whatever the cuts, and no flipped bit goes unnoticed.

use corefold_shards::session::frame::{FrameReader, HEADER_SIZE, write};
use corefold_shards::session::{FrameError, FrameKind};
use proptest::prelude::*;

const BATCH_MAX: usize = 1 << 16;

type Frames = Vec<(FrameKind, Vec<u8>)>;

fn read_all(bytes: &[u8], cuts: &[usize]) -> Result<Frames, FrameError> {
    let mut reader = FrameReader::new(BATCH_MAX);
    let (mut frames, mut at, mut cut) = (Vec::new(), 0, cuts.iter().copied().cycle());
    while at < bytes.len() {
        let piece = cut.next().unwrap_or(usize::MAX).max(1);
        let space = reader.space();
        let count = space.len().min(bytes.len() - at).min(piece);
        assert!(count > 0, "a reader always has space");
        space[..count].copy_from_slice(&bytes[at..at + count]);
        at += count;
        let Some(kind) = reader.filled(count)? else { continue };
        let payload = match kind {
            FrameKind::Batch => reader.take_batch().as_slice().to_vec(),
            _ => reader.control().to_vec(),
        };
        frames.push((kind, payload));
    }
    Ok(frames)
}

fn frames() -> impl Strategy<Value = Frames> {
    let kinds = prop::sample::select(vec![FrameKind::Batch, FrameKind::Ping, FrameKind::Hello, FrameKind::Refusal]);
    let payload = prop::collection::vec(any::<u64>(), 1..40);
    let frame = (kinds, payload).prop_map(|(kind, words)| (kind, words.iter().flat_map(|w| w.to_le_bytes()).collect()));
    prop::collection::vec(frame, 0..8)
}

fn bytes_of(frames: &Frames) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|(kind, payload)| write(*kind, payload, &mut bytes));
    bytes
}

proptest! {
    #[test]
    fn frames_are_the_same_however_they_are_cut(
        frames in frames(),
        cuts in prop::collection::vec(1..200_usize, 1..20),
    ) {
        prop_assert_eq!(read_all(&bytes_of(&frames), &cuts).unwrap(), frames);
    }

    #[test]
    fn noise_is_refused_or_waits(noise in prop::collection::vec(any::<u8>(), 0..400), cut in 1..50_usize) {
        if let Ok(frames) = read_all(&noise, &[cut]) {
            prop_assert!(frames.is_empty());
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let mut bytes = Vec::new();
    write(FrameKind::Batch, &[7; 64], &mut bytes);
    write(FrameKind::Ping, &[0; 8], &mut bytes);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let of_header = bit / 8 < HEADER_SIZE || (HEADER_SIZE + 64..2 * HEADER_SIZE + 64).contains(&(bit / 8));
        let expected = if of_header { FrameError::Header } else { FrameError::Payload };
        assert_eq!(read_all(&damaged, &[11]), Err(expected), "bit {bit}");
    }
}

/// A header with a right checksum over wrong fields.
fn lying(size: u32, kind: u8, reserved: u8) -> Vec<u8> {
    let mut header = vec![0; HEADER_SIZE];
    header[..4].copy_from_slice(&size.to_le_bytes());
    (header[4], header[6]) = (kind, reserved);
    let check = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&check.to_le_bytes());
    header
}

#[test]
fn each_lie_of_a_header_is_named_before_memory_is_taken() {
    let batch = FrameKind::Batch as u8;
    assert_eq!(read_all(&lying(64, 0, 0), &[16]), Err(FrameError::Kind { kind: 0 }));
    assert_eq!(read_all(&lying(64, 8, 0), &[16]), Err(FrameError::Kind { kind: 8 }));
    assert_eq!(read_all(&lying(64, batch, 1), &[16]), Err(FrameError::Reserved));
    for size in [0, 4, 12, BATCH_MAX as u32 + 8, u32::MAX] {
        let error = FrameError::Size { size: size as usize, max: BATCH_MAX };
        assert_eq!(read_all(&lying(size, batch, 0), &[16]), Err(error));
    }
    let ping = FrameError::Size { size: 4104, max: 4096 };
    assert_eq!(read_all(&lying(4104, FrameKind::Ping as u8, 0), &[16]), Err(ping));
    assert_eq!(read_all(&lying(64, batch, 0), &[16]), Ok(Vec::new()));
}

#[test]
fn lent_memory_is_used_and_comes_back_with_the_batch() {
    let mut bytes = Vec::new();
    write(FrameKind::Batch, &[7; 64], &mut bytes);
    let mut reader = FrameReader::new(BATCH_MAX);
    reader.space().copy_from_slice(&bytes[..HEADER_SIZE]);
    assert_eq!(reader.batch_ahead(), None);
    assert_eq!(reader.filled(HEADER_SIZE), Ok(None));
    assert_eq!(reader.batch_ahead(), Some(64));
    let memory = corefold_shards::batch::AlignedBytes::from(&[9; 200][..]);
    let place = memory.as_slice().as_ptr();
    reader.lend(memory);
    reader.space().copy_from_slice(&bytes[HEADER_SIZE..]);
    assert_eq!(reader.filled(64), Ok(Some(FrameKind::Batch)));
    let batch = reader.take_batch();
    assert_eq!(batch.as_slice(), [7; 64]);
    assert_eq!(batch.as_slice().as_ptr(), place);
}
