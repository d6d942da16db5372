//! The snapshot target: images of a shard with the right checksums and any content, adopted by a shard that then goes on.
//!
//! An input is one byte of choices and the file.

use super::stage::{self, PLAN};
use crate::entropy::Entropy;
use corefold_aggregator::time::{Duration, EventTime};
use corefold_engine::recover::{FirstPass, Snapshots};
use corefold_shards::shard::{Arrival, Inbox, Outbox, Shard};
use corefold_shards::snapshot::format::{ChunkEntry, ENTRY_SIZE, HEADER_SIZE};
use corefold_shards::snapshot::{
    SnapshotCompletion, SnapshotConfig, SnapshotFile, SnapshotHeader, SnapshotRequest, SnapshotWriter, verify,
};
use corefold_shards::wal::layout::{read_u64, write_u32};
use corefold_shards::wal::memory::MemoryDisk;
use corefold_shards::wal::{LogIdentity, ScanOptions};
use xxhash_rust::xxh3::Xxh3;

const IDENTITY: LogIdentity = LogIdentity { store: *b"a store to doubt", shard: 3 };

/// Choice: checksums are put right.
const MEND: u8 = 1;
/// Choice: the shard has folded something before.
const BESIDE: u8 = 2;
/// Choice: panes below a time are released.
const RELEASED: u8 = 4;
/// Choice: events below it may still come.
const PASSES: u8 = 8;

/// See the module.
pub fn body(input: &[u8]) -> u64 {
    let Some((&choices, file)) = input.split_first() else { return 0 };
    let chosen = |choice: u8| choices & choice != 0;
    let mut file = file.to_vec();
    if chosen(MEND) {
        mend(&mut file);
    }
    let verified = verify(&file[..], &IDENTITY, 1);
    let mut opened = match SnapshotFile::open_any(&file[..]) {
        Ok(opened) => opened,
        Err(_) => return 1,
    };
    let told = verified.map(|header| header.lsn.0);
    let head = opened.head().clone();
    let mut hash = Xxh3::new();
    hash.update(format!("{:?} {head:?}", told.is_ok()).as_bytes());
    first_pass(head, &mut hash);

    let mut shard = Shard::new(PLAN.clone(), None);
    let released = if chosen(RELEASED) { EventTime(1_356_998_400_000_000) } else { EventTime::MIN };
    if released != EventTime::MIN {
        shard.start_at(released);
    }
    if chosen(BESIDE) {
        let batch = stage::encode(&stage::rows(&mut Entropy::new(5)), 1 << 41);
        // Rows below what is released are passed over; nothing else can be wrong with it.
        shard.replay(batch.as_slice(), EventTime::MIN, &mut Outbox::default()).expect("a sound batch");
    }
    if shard.adopt(&mut opened).is_err() {
        return hash.digest();
    }
    shard.end_replay(|lane| u64::from(lane % 3), chosen(PASSES));
    let mut views = stage::views(&PLAN, 1);
    let batch = stage::encode(&stage::rows(&mut Entropy::new(u64::from(choices))), 1 << 42);
    stage::fold(&mut shard, [batch], &mut hash, |bytes, hash| {
        stage::merge(&PLAN, &mut views, 0, &stage::as_on_disk(&PLAN, bytes), hash);
    });
    stage::finish(&mut views, &mut hash);
    hash.digest()
}

/// What recovery makes of the head: where lanes go on.
fn first_pass(head: corefold_shards::snapshot::SnapshotHead, hash: &mut Xxh3) {
    let snapshots = Snapshots { head: Some(head), ..Snapshots::default() };
    let mut pass = FirstPass::default();
    let disk = &mut MemoryDisk::new(IDENTITY, 1);
    let options = ScanOptions::new(IDENTITY);
    let read = pass.read_shard(3, snapshots, EventTime::MAX, disk, &options, "memory");
    if read.is_ok() {
        let store = pass.finish(1, |_| Duration::ZERO);
        hash.update(format!("{:?} {} {:?}", store.lanes, store.rows, store.limit).as_bytes());
    }
}

/// Puts every checksum right, as far as the file has a shape.
fn mend(file: &mut [u8]) {
    let Some(header) = file.first_chunk_mut::<HEADER_SIZE>() else { return };
    let generation = read_u64(&header[..], 32);
    let (table_at, chunks) = (read_u64(&header[..], 56), read_u64(&header[..], 64));
    let mut identity = IDENTITY;
    identity.store.copy_from_slice(&header[16..32]);
    identity.shard = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    let seed = |offset| SnapshotHeader::seed(&identity, generation, offset);
    let size = chunks.checked_mul(ENTRY_SIZE as u64);
    let table = size.and_then(|size| Some(table_at as usize..usize::try_from(table_at.checked_add(size)?).ok()?));
    let Some(table) = table.filter(|table| table.end <= file.len()) else { return mend_header(file) };
    for at in table.clone().step_by(ENTRY_SIZE) {
        let Some(mut entry) = ChunkEntry::decode(&file[at..at + ENTRY_SIZE]) else { continue };
        if let Some(chunk) = file.get(entry.offset as usize..entry.end() as usize) {
            entry.crc = crc32c::crc32c_append(seed(entry.offset), chunk);
            entry.encode(&mut file[at..at + ENTRY_SIZE]);
        }
    }
    let crc = crc32c::crc32c_append(seed(table_at), &file[table]);
    write_u32(file, 72, crc);
    mend_header(file);
}

fn mend_header(file: &mut [u8]) {
    let crc = crc32c::crc32c(&file[..HEADER_SIZE - 4]);
    write_u32(file, HEADER_SIZE - 4, crc);
}

/// A choice and the snapshot of a shard that has folded a few batches.
pub fn sound(entropy: &mut Entropy) -> Vec<u8> {
    let mut shard = Shard::new(PLAN.clone(), None);
    let config =
        SnapshotConfig { identity: IDENTITY, plan: PLAN.fingerprint(), wal_bytes: u64::MAX, batches: u64::MAX };
    shard.keep_snapshots(SnapshotWriter::new(config, Vec::new(), Vec::new()));
    let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
    for sequence in 0..1 + entropy.below(3) {
        inbox.arrivals.push_back(Arrival::Batch(stage::encode(&stage::rows(entropy), sequence)));
    }
    shard.step(0, &mut inbox, &mut outbox).expect("sound batches");
    shard.want_snapshot();
    let choices = if entropy.chance(0.8) { MEND } else { 0 } | (entropy.bits() as u8 & !MEND);
    let mut file = Vec::new();
    for _ in 0..1_000 {
        shard.step(0, &mut inbox, &mut outbox).expect("nothing new");
        for request in outbox.snapshot_requests.drain(..) {
            match request {
                SnapshotRequest::Write { generation, offset, bytes } => {
                    let end = offset as usize + bytes.len();
                    file.resize(file.len().max(end), 0);
                    file[offset as usize..end].copy_from_slice(&bytes);
                    inbox.snapshot_completions.push(SnapshotCompletion::Written { generation, bytes, result: Ok(()) });
                }
                SnapshotRequest::Install { header, .. } => {
                    file[..HEADER_SIZE].copy_from_slice(&header[..]);
                    return [vec![choices], file].concat();
                }
                SnapshotRequest::Abandon { .. } | SnapshotRequest::Remove { .. } => {}
            }
        }
    }
    unreachable!("a snapshot of a few batches is done in a few steps")
}
