//! The log target: segments that are read back, whatever is in them, and go on afterwards.
//!
//! An input is two bytes of choices and patches: which segment, where, how many bytes, and the bytes, written over
//! zeros. A patch without bytes shortens its file. Checksums can be put right before reading, so that what they guard
//! is doubted, too.

use crate::entropy::Entropy;
use corefold_shards::batch::UnverifiedBatch;
use corefold_shards::wal::layout::{
    ALIGNMENT, BLOCK_HEADER_SIZE, BLOCK_MAGIC, BlockHeader, SEGMENT_CRC_AT, SEGMENT_HEADER_SIZE, SEGMENT_SALT_AT,
    read_u32, read_u64, write_u32,
};
use corefold_shards::wal::memory::MemoryDisk;
use corefold_shards::wal::segment::SegmentHeader;
use corefold_shards::wal::supply::SupplyConfig;
use corefold_shards::wal::survey::Surveyor;
use corefold_shards::wal::{
    Appender, AppenderConfig, Durability, LogIdentity, Lsn, RecordKind, Recovered, RecoveryError, ResumePoint,
    ScanOptions, ScanPolicy, SegmentId, replay, scan,
};
use xxhash_rust::xxh3::Xxh3;

const IDENTITY: LogIdentity = LogIdentity { store: *b"a store to doubt", shard: 3 };
const SEGMENT_SIZE: usize = 10 * ALIGNMENT;
/// Segments that patches can name.
const SEGMENTS: u8 = 4;

/// Choice: checksums of segment headers are put right.
const MEND_SEGMENTS: u8 = 1;
/// Choice: checksums of blocks are put right.
const MEND_BLOCKS: u8 = 2;
/// Choice: blocks name their segment, and its salt, as they should.
const MEND_PLACES: u8 = 4;
/// Choice: each block carries the checksum of the one before.
const MEND_CHAIN: u8 = 8;

/// See the module.
pub fn body(input: &[u8]) -> u64 {
    let [choices, from, patches @ ..] = input else { return 0 };
    let mut disk = MemoryDisk::new(IDENTITY, 99);
    apply(patches, &mut disk);
    mend(*choices, &mut disk);
    let mut hash = Xxh3::new();
    for policy in [ScanPolicy::Refuse, ScanPolicy::Salvage] {
        let piece_size = if choices & 128 == 0 { ALIGNMENT } else { 1 << 20 };
        let options =
            ScanOptions { policy, from: Lsn(u64::from(*from & 15)), piece_size, ..ScanOptions::new(IDENTITY) };
        let (told, recovered) = read(&mut disk, &options);
        let other = ScanOptions { piece_size: 3 * ALIGNMENT, ..options };
        assert_eq!(told, read(&mut disk, &other).0, "what is found depends on how much is read at once");
        hash.update(told.as_bytes());
        if let Some(recovered) = recovered {
            go_on(disk.clone(), &options, recovered);
        }
    }
    survey(&mut disk, &mut hash);
    hash.digest()
}

/// Scans and, if that goes well, replays; both as one text.
fn read(disk: &mut MemoryDisk, options: &ScanOptions) -> (String, Option<Recovered>) {
    let mut records = Xxh3::new();
    let found = scan::<_, RecoveryError, _>(disk, options, |record| {
        let batch = UnverifiedBatch::new(record.payload);
        let claims = format!("{:?} {:?} {:?} {:?}", record.lsn, batch.stamp(), batch.extent(), batch.fingerprint());
        records.update(claims.as_bytes());
        records.update(record.payload);
        assert!(record.payload.as_ptr().align_offset(8) == 0, "records are aligned");
        Ok(())
    });
    let recovered = match found {
        Ok(recovered) => recovered,
        Err(error) => return (format!("{error} {}", records.digest()), None),
    };
    let mut again = 0;
    let replayed = replay::<_, RecoveryError, _>(disk, options, &recovered, |_| {
        again += 1;
        Ok(())
    });
    // What salvage has cut is refused when it is read once more before it is repaired.
    if options.policy == ScanPolicy::Refuse {
        replayed.expect("a second look at the same bytes");
        assert_eq!(again, recovered.records, "both passes find the same records");
    }
    (format!("{recovered:?} {}", records.digest()), Some(recovered))
}

/// What was accepted can be continued: a new session writes, and everything is found again.
fn go_on(mut disk: MemoryDisk, options: &ScanOptions, recovered: Recovered) {
    disk.discard(&recovered.discard);
    let supply = SupplyConfig {
        segment_size: SEGMENT_SIZE as u64,
        segment_size_first: SEGMENT_SIZE as u64,
        spares_kept: 1,
        retry_after_ns: 1,
    };
    // No log lives long enough to run out of numbers.
    let numbers = [recovered.resume.next_lsn.0, recovered.resume.next_segment.0, recovered.resume.previous.0];
    if numbers.iter().any(|number| *number > 1 << 62) {
        return;
    }
    let mut config = AppenderConfig::new(IDENTITY, Durability::Sync);
    (config.block_size, config.supply) = (2 * ALIGNMENT, supply);
    let records = recovered.records;
    let mut appender = Appender::start(config, recovered.resume);
    // The first poll asks for a segment where there is no spare.
    drain(&mut appender, &mut disk);
    let appended = appender.try_append(RecordKind::BATCH, b"the next session").expect("room for one record");
    drain(&mut appender, &mut disk);
    let strict = ScanOptions { policy: ScanPolicy::Refuse, ..*options };
    let mut last = None;
    let found = scan::<_, RecoveryError, _>(&mut disk, &strict, |record| {
        last = Some(record.lsn);
        Ok(())
    });
    let found = found.unwrap_or_else(|error| panic!("what was accepted and continued is refused: {error}"));
    assert_eq!((found.records, last), (records + 1, Some(appended)), "the records before, and the new one");
}

fn drain(appender: &mut Appender, disk: &mut MemoryDisk) {
    let mut requests = Vec::new();
    for _ in 0..8 {
        requests.clear();
        appender.poll(0, &mut requests);
        disk.submit(&requests, appender);
        disk.take_answers().into_iter().for_each(|answer| appender.complete(answer, 0));
        while !disk.pending().is_empty() {
            let answer = disk.finish(0);
            appender.complete(answer, 0);
        }
    }
}

fn survey(disk: &mut MemoryDisk, hash: &mut Xxh3) {
    let segments: Vec<SegmentId> = disk.files().keys().copied().collect();
    for segment in segments {
        for identity in [None, Some(IDENTITY)] {
            let mut surveyor = Surveyor::new(disk, ALIGNMENT);
            let facts = surveyor.segment(segment, identity).expect("memory can be read");
            let opening = surveyor.opening(&facts).expect("memory can be read");
            hash.update(format!("{facts:?} {opening:?}").as_bytes());
            let walked = surveyor.walk::<RecoveryError>(&facts, 0, |piece| {
                hash.update(format!("{piece:?}").as_bytes());
                Ok(())
            });
            walked.expect("memory can be read");
        }
    }
}

/// Writes the patches into files.
fn apply(mut patches: &[u8], disk: &mut MemoryDisk) {
    while let [segment, low, high, length_low, length_high, rest @ ..] = patches {
        let segment = SegmentId(1 + u64::from(segment % SEGMENTS));
        let at = usize::from(u16::from_le_bytes([*low, *high])) * 8;
        let length = usize::from(u16::from_le_bytes([*length_low, *length_high])).min(rest.len());
        let file = disk.files_mut().entry(segment).or_insert_with(|| vec![0; SEGMENT_SIZE]);
        if length == 0 {
            file.truncate(at);
        }
        for (to, from) in file.iter_mut().skip(at).zip(&rest[..length]) {
            *to = *from;
        }
        patches = &rest[length..];
    }
}

/// The mirror of [`apply`]: all that is not zero.
fn patches_of(disk: &MemoryDisk) -> Vec<u8> {
    let mut patches = Vec::new();
    for (segment, file) in disk.files() {
        let mut words = file.chunks_exact(8).enumerate().peekable();
        while let Some((start, word)) = words.next() {
            if word == [0; 8] {
                continue;
            }
            let mut bytes = word.to_vec();
            while let Some((_, word)) = words.next_if(|(_, word)| **word != [0; 8] && bytes.len() < 60_000) {
                bytes.extend_from_slice(word);
            }
            patches.push(segment.0 as u8 - 1);
            patches.extend_from_slice(&(start as u16).to_le_bytes());
            patches.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
            patches.append(&mut bytes);
        }
    }
    patches
}

fn mend(choices: u8, disk: &mut MemoryDisk) {
    let mut previous = 0;
    for (segment, file) in disk.files_mut() {
        let Some(header) = file.first_chunk_mut::<SEGMENT_HEADER_SIZE>() else { continue };
        if choices & MEND_SEGMENTS != 0 {
            let crc = crc32c::crc32c(&header[..SEGMENT_CRC_AT]);
            write_u32(header, SEGMENT_CRC_AT, crc);
        }
        let salt = read_u64(header, SEGMENT_SALT_AT);
        let mut at = SEGMENT_HEADER_SIZE;
        while choices & MEND_BLOCKS != 0 && at + ALIGNMENT <= file.len() {
            let end = mend_block(choices, (*segment, salt), at, file, &mut previous);
            at = end.unwrap_or(at + ALIGNMENT);
        }
    }
}

/// Puts a block's checksums right; where it ends, if there is one and it lies within the file.
fn mend_block(choices: u8, place: (SegmentId, u64), at: usize, file: &mut [u8], previous: &mut u32) -> Option<usize> {
    if read_u32(file, at) != BLOCK_MAGIC {
        return None;
    }
    let mut header = BlockHeader::decode(file[at..].first_chunk()?)?;
    let end = at.checked_add(header.length()).filter(|end| *end <= file.len())?;
    if choices & MEND_PLACES != 0 {
        (header.segment, header.salt) = place;
    }
    if choices & MEND_CHAIN != 0 {
        header.previous_crc = *previous;
    }
    let owner = SegmentHeader { identity: IDENTITY, segment: header.segment, salt: header.salt, size: 0 };
    header.payload_crc = owner.seed().checksum(at as u64, &file[at + BLOCK_HEADER_SIZE..end]);
    *previous = header.encode(owner.seed(), at as u64, file[at..].first_chunk_mut()?);
    Some(end)
}

/// Choices and a log of up to three sessions.
pub fn sound(entropy: &mut Entropy) -> Vec<u8> {
    let mut disk = MemoryDisk::new(IDENTITY, entropy.bits());
    let mut resume = ResumePoint::fresh();
    for _ in 0..1 + entropy.index(3) {
        let size = SEGMENT_SIZE as u64;
        let supply = SupplyConfig {
            segment_size: size,
            segment_size_first: size,
            spares_kept: 1 + entropy.index(2),
            retry_after_ns: 1,
        };
        let durability = if entropy.chance(0.8) { Durability::Sync } else { Durability::Os };
        let config = AppenderConfig { block_size: 2 * ALIGNMENT, supply, ..AppenderConfig::new(IDENTITY, durability) };
        let mut appender = Appender::start(config, resume);
        drain(&mut appender, &mut disk);
        for _ in 0..entropy.index(5) {
            let length = *entropy.pick(&[0, 1, 16, 100, 5_000, 12_000]);
            let payload = vec![entropy.bits() as u8; length];
            // A long record fills the buffers; what does not fit is left out.
            let _ = appender.try_append(RecordKind::BATCH, &payload);
            if entropy.chance(0.7) {
                drain(&mut appender, &mut disk);
            }
        }
        if entropy.chance(0.5) {
            appender.seal();
        }
        drain(&mut appender, &mut disk);
        let Ok(found) = scan::<_, RecoveryError, _>(&mut disk, &ScanOptions::new(IDENTITY), |_| Ok(())) else { break };
        disk.discard(&found.discard);
        resume = found.resume;
        if disk.files().keys().any(|segment| segment.0 >= u64::from(SEGMENTS)) {
            break;
        }
    }
    disk.files_mut().retain(|segment, _| segment.0 <= u64::from(SEGMENTS));
    // As they are, or with everything put right after the damage, or some of it.
    let some = entropy.bits() as u8;
    let mended = *entropy.pick(&[0, MEND_SEGMENTS | MEND_BLOCKS, 15, 15, some]);
    let from = if entropy.chance(0.8) { 0 } else { entropy.below(16) as u8 };
    [vec![mended, from], patches_of(&disk)].concat()
}
