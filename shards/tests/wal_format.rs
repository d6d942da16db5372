//! The log's bytes against `docs/wal-format.md`: read here with the offsets of the document written out, not with the
//! code's own readers.

mod wal_rig;

use corefold_shards::wal::layout::BlockHeader;
use corefold_shards::wal::{RecordKind, SegmentHeader, SegmentId};
use wal_rig::{IDENTITY, Rig, tiny};

const LAYOUT: &[u8] = include_bytes!("../src/wal/layout.rs");
const DOCUMENT: &str = include_str!("../../docs/wal-format.md");

#[test]
fn the_document_is_of_this_layout() {
    let line = format!("crc32c of `shards/src/wal/layout.rs`: `{:08x}`", crc32c::crc32c(LAYOUT));
    assert!(
        DOCUMENT.contains(&line),
        "the layout has changed: bring docs/wal-format.md up to date, then let it say: {line}"
    );
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Start value of a block's checksums as the document has it.
fn seed(segment: u64, salt: u64, offset: u64) -> u32 {
    let mut bytes = IDENTITY.store.to_vec();
    bytes.extend(IDENTITY.shard.to_le_bytes());
    for number in [segment, salt, offset] {
        bytes.extend(number.to_le_bytes());
    }
    crc32c::crc32c(&bytes)
}

#[test]
fn every_flipped_bit_of_a_block_header_is_noticed() {
    let mut rig = Rig::new(tiny());
    rig.append_settled(RecordKind::BATCH, b"a record");
    rig.settle();
    let file = &rig.disk.files()[&SegmentId(1)];
    let seed = SegmentHeader::decode(file.first_chunk().unwrap()).unwrap().unwrap().seed();
    let mut bytes = *file[4096..].first_chunk::<64>().unwrap();
    let is_sound = |bytes: &[u8; 64], segment, offset| {
        BlockHeader::decode(bytes).is_some_and(|header| header.is_sound(bytes, seed, segment, offset))
    };
    assert!(is_sound(&bytes, SegmentId(1), 4096));
    assert!(!is_sound(&bytes, SegmentId(1), 8192), "another place");
    assert!(!is_sound(&bytes, SegmentId(2), 4096), "another segment");
    for bit in 0..64 * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_sound(&bytes, SegmentId(1), 4096), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn the_bytes_are_as_documented() {
    let mut rig = Rig::new(tiny());
    rig.now_ns = 0x1122_3344;
    rig.append_settled(RecordKind::BATCH, b"eleven byte");
    rig.append(RecordKind::PANE, &[7; 24]).expect("room");
    rig.settle();
    rig.append(RecordKind::BATCH, &[9; 3000]).expect("room");
    rig.seal();

    let file = &rig.disk.files()[&SegmentId(1)];
    assert_eq!(&file[0..8], b"CFWALSEG");
    assert_eq!((u32_at(file, 8), u32_at(file, 12)), (1, 7), "version, shard");
    assert_eq!(&file[16..32], &IDENTITY.store);
    assert_eq!((u64_at(file, 32), u64_at(file, 48)), (1, 12_288), "sequence, size");
    let salt = u64_at(file, 40);
    assert!(file[56..4092].iter().all(|byte| *byte == 0));
    assert_eq!(u32_at(file, 4092), crc32c::crc32c(&file[0..4092]));

    let first = &file[4096..8192];
    assert_eq!(&first[0..4], b"CFWB");
    assert_eq!(u32_at(first, 4), crc32c::crc32c_append(seed(1, salt, 4096), &first[8..64]));
    assert_eq!((u64_at(first, 8), u64_at(first, 16)), (1, 0), "sequence, first LSN");
    let payload_length = (16 + 40) + (16 + 16) + (16 + 24);
    assert_eq!((u32_at(first, 24), u16_at(first, 28), u16_at(first, 30)), (payload_length, 3, 0));
    assert_eq!(u32_at(first, 32), crc32c::crc32c_append(seed(1, salt, 4096), &first[64..4096]));
    assert_eq!((u32_at(first, 36), u64_at(first, 40)), (0, 0), "nothing before, nothing durable");
    assert_eq!((u64_at(first, 48), u64_at(first, 56)), (0x1122_3344, salt));

    let opening = &first[64..120];
    assert_eq!((u32_at(opening, 0), opening[4], opening[5]), (40, 0xF0, 1), "length, kind, part");
    assert_eq!((u16_at(opening, 6), u32_at(opening, 8), u32_at(opening, 12)), (0, 40, 0));
    assert_eq!((u64_at(opening, 16), u64_at(opening, 24), u32_at(opening, 32)), (0, 0, 1), "no predecessor, session");
    let batch = &first[120..152];
    assert_eq!((u32_at(batch, 0), batch[4], batch[5]), (11, 1, 1));
    assert_eq!(&batch[16..32], b"eleven byte\0\0\0\0\0");
    let release = &first[152..192];
    assert_eq!((u32_at(release, 0), release[4], release[5], u32_at(release, 8)), (24, 2, 1, 24));
    assert!(first[192..].iter().all(|byte| *byte == 0), "padding");

    let second = &file[8192..12_288];
    assert_eq!((u64_at(second, 16), u16_at(second, 28)), (3, 1), "first LSN, entries");
    assert_eq!(u32_at(second, 36), u32_at(first, 4), "chained to the block before");
    assert_eq!(u64_at(second, 40), 3, "all of the first block was durable");

    let next = &rig.disk.files()[&SegmentId(2)];
    let sealed = &next[4096..8192];
    assert_eq!(u32_at(sealed, 36), u32_at(second, 4), "chained across segments");
    assert_eq!((u64_at(sealed, 16), u64_at(sealed, 40)), (4, 4), "first LSN, durable");
    assert_eq!((u16_at(sealed, 28), u16_at(sealed, 30)), (2, 1), "opening and seal, SEAL flag");
    assert_eq!((u64_at(sealed, 80), u64_at(sealed, 88), u32_at(sealed, 96)), (1, 12_288, 0), "the predecessor's end");
    assert_eq!((u32_at(sealed, 120), sealed[124]), (0, 0xF2), "the seal");
}
