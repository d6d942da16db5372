//! The log under crashes and damage: every truncation, every flipped bit, and random histories of appends, reordered
//! completions, crashes and restarts against a plain model.
//!
//! The scripted cases are in `wal_recovery_table.rs`.

mod wal_rig;

use corefold_shards::wal::memory::MemoryDisk;
use corefold_shards::wal::supply::SupplyConfig;
use corefold_shards::wal::{AppenderConfig, Lsn, RecordKind, RecoveryError, ScanOptions, SegmentId};
use proptest::prelude::*;
use wal_rig::{Dice, Kept, Rig, options, read, tiny};

const BATCH: RecordKind = RecordKind::BATCH;

/// Records over a few blocks and segments, one of them recycled with old blocks in it; returns the LSN from which
/// records are still there.
fn log(ending: impl Fn(&mut Rig)) -> (Rig, Lsn) {
    let mut rig = Rig::new(tiny());
    let mut dice = Dice(4);
    for length in [3000, 500, 3900] {
        let payload = dice.payload(length);
        rig.append_settled(BATCH, &payload);
        rig.settle();
    }
    let floor = rig.model[1].lsn.next();
    rig.appender.release(floor);
    rig.settle();
    for length in [100, 5000, 20] {
        let payload = dice.payload(length);
        rig.append_settled(BATCH, &payload);
        rig.settle();
    }
    ending(&mut rig);
    rig.model.retain(|record| record.lsn >= floor);
    (rig, floor)
}

/// Reads a damaged log: either a prefix of the model with at least `kept_min` records, or a refusal that names a
/// file. Returns whether it was read.
fn prefix_or_refusal(disk: &mut MemoryDisk, from: Lsn, model: &[Kept], kept_min: usize, what: &str) -> bool {
    match read(disk, &ScanOptions { from, ..options() }) {
        Ok((_, records)) => {
            assert!(records.len() <= model.len(), "{what}: invented records");
            assert_eq!(records, model[..records.len()], "{what}: not a prefix");
            assert!(records.len() >= kept_min, "{what}: {} of {kept_min} acknowledged records", records.len());
            true
        }
        Err(RecoveryError::Refused { file, .. }) => {
            assert!(file.ends_with(".wal"), "{what}");
            false
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
fn every_truncation_of_every_segment() {
    for ending in [Rig::idle, Rig::seal, Rig::settle] {
        let (mut rig, from) = log(ending);
        let acknowledged = rig.acknowledged();
        assert_eq!(acknowledged, rig.model.len());
        let (mut read_count, mut refused_count) = (0, 0);
        let ids: Vec<SegmentId> = rig.disk.files().keys().copied().collect();
        assert!(ids.len() >= 4);
        for id in ids {
            let whole = rig.disk.files()[&id].clone();
            for length in (0..whole.len()).step_by(512) {
                rig.disk.files_mut().get_mut(&id).unwrap().truncate(length);
                let what = format!("segment {id} cut to {length}");
                // No crash shortens a file, so not even unacknowledged blocks excuse it.
                match prefix_or_refusal(&mut rig.disk, from, &rig.model, acknowledged, &what) {
                    true => read_count += 1,
                    false => refused_count += 1,
                }
                rig.disk.files_mut().insert(id, whole.clone());
            }
        }
        assert!(refused_count > 20, "{read_count} read, {refused_count} refused");
    }
}

/// Flips every bit that means something and one of eight in each byte of padding and unused space.
fn flip_everywhere(rig: &mut Rig, from: Lsn, kept_min: usize) -> (usize, usize) {
    let (mut read_count, mut refused_count) = (0, 0);
    let ids: Vec<SegmentId> = rig.disk.files().keys().copied().collect();
    for id in ids {
        for byte in 0..rig.disk.files()[&id].len() {
            let is_padding = rig.disk.files()[&id][byte] == 0;
            for bit in 0..8 {
                if is_padding && bit != byte % 8 {
                    continue;
                }
                rig.disk.files_mut().get_mut(&id).unwrap()[byte] ^= 1 << bit;
                let what = format!("segment {id}, byte {byte}, bit {bit}");
                match prefix_or_refusal(&mut rig.disk, from, &rig.model, kept_min, &what) {
                    true => read_count += 1,
                    false => refused_count += 1,
                }
                rig.disk.files_mut().get_mut(&id).unwrap()[byte] ^= 1 << bit;
            }
        }
    }
    (read_count, refused_count)
}

#[test]
fn every_flipped_bit_behind_which_the_log_was_idle() {
    let (mut rig, from) = log(Rig::idle);
    let all = rig.model.len();
    let (read_count, refused_count) = flip_everywhere(&mut rig, from, all);
    assert!(read_count > 1000, "{read_count}");
    assert!(refused_count > 1000, "{refused_count}");
}

#[test]
fn the_known_residue_is_the_last_block_and_no_more() {
    // The last write of this log has no successor, so its rot looks like a torn tail: exactly one record may go.
    let (mut rig, from) = log(Rig::settle);
    let last = rig.model.len() - 1;
    flip_everywhere(&mut rig, from, last);
    let (recovered, _) = read(&mut rig.disk, &ScanOptions { from, ..options() }).unwrap();
    let end = recovered.tail.offset as usize - 4096 + 64;
    rig.disk.files_mut().get_mut(&recovered.tail.segment).unwrap()[end] ^= 1;
    let (_, records) = read(&mut rig.disk, &ScanOptions { from, ..options() }).unwrap();
    assert_eq!(records.len(), last, "if this fails the residue is gone: change the documentation");
}

/// One random life of a log: appends, out-of-order completions, crashes with torn and reordered writes, restarts
/// that are themselves cut short. Checks after every restart that nothing acknowledged is lost and nothing invented.
fn history(seed: u64, config: AppenderConfig, steps: usize) {
    let mut dice = Dice(seed);
    let mut rig = Rig::new(config);
    let mut floor = Lsn::ZERO;
    let mut retry: Option<Vec<u8>> = None;
    for _ in 0..steps {
        rig.now_ns += 1_000_000;
        match dice.below(100) {
            0..35 => {
                let payload = retry.take().unwrap_or_else(|| {
                    let length = match dice.below(12) {
                        0 => 0,
                        1 => dice.below(30_000),
                        2 => dice.below(5_000),
                        _ => dice.below(900),
                    };
                    dice.payload(length)
                });
                let room = rig.appender.room();
                let taken = rig.append(BATCH, &payload).is_some();
                assert!(
                    taken || payload.len() > room || room == 0,
                    "{} bytes refused with room for {room}",
                    payload.len()
                );
                if !taken {
                    retry = Some(payload);
                }
            }
            35..65 => rig.turn(),
            65..85 => {
                if !rig.disk.pending().is_empty() {
                    let index = dice.below(rig.disk.pending().len());
                    rig.finish(index);
                }
            }
            85..88 => rig.now_ns += 20_000_000,
            88..92 => {
                let acknowledged = rig.acknowledged();
                if acknowledged > 0 {
                    floor = floor.max(rig.model[dice.below(acknowledged)].lsn.next());
                    rig.appender.release(floor);
                }
            }
            92..94 => rig.disk.set_space_left(if dice.below(2) == 0 { 0 } else { u64::MAX }),
            94..95 => rig.seal_if_possible(),
            _ => {
                rig = crash_and_restart(rig, config, &mut dice, floor);
                retry = None;
            }
        }
    }
}

trait SealIfPossible {
    fn seal_if_possible(&mut self);
}

impl SealIfPossible for Rig {
    /// Asks for the seal; a crash may come before it is written.
    fn seal_if_possible(&mut self) {
        self.appender.seal();
        self.turn();
    }
}

fn crash_and_restart(rig: Rig, config: AppenderConfig, dice: &mut Dice, floor: Lsn) -> Rig {
    let acknowledged = rig.acknowledged();
    let Rig { mut disk, model, .. } = rig;
    let mood = dice.below(4);
    let mut roll = Dice(dice.roll());
    disk.crash(|_, _| match mood {
        0 => false,
        1 => true,
        _ => roll.below(4) != 0,
    });
    disk.set_space_left(u64::MAX);
    let from = ScanOptions { from: floor, ..options() };
    let (recovered, records) =
        read(&mut disk, &from).unwrap_or_else(|error| panic!("a crash alone is never refused: {error}"));
    let covered = model.iter().filter(|record| record.lsn < floor).count();
    assert!(covered + records.len() >= acknowledged, "acknowledged records are lost");
    assert!(covered + records.len() <= model.len(), "records were invented");
    assert_eq!(records, model[covered..covered + records.len()]);
    // A crash while discarding: any number of the newest are gone already.
    let done = dice.below(recovered.discard.len() + 1);
    disk.discard(&recovered.discard[..done]);
    let (again, records_again) = read(&mut disk, &from).expect("still readable");
    assert_eq!(records_again, records);
    assert_eq!(again.resume.next_lsn, recovered.resume.next_lsn);
    disk.discard(&again.discard);
    let model = model[..covered + records.len()].to_vec();
    Rig::resume(config, disk, again.resume, model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_ever_lost(
        seed in any::<u64>(),
        blocks in 1_usize..4,
        buffers in 2_usize..6,
        inflight in 1_usize..5,
        segment_blocks in 1_u64..5,
        spares in 1_usize..3,
    ) {
        let mut config = tiny();
        config.block_size = blocks * 4096;
        config.buffers = buffers;
        config.writes_inflight_max = inflight;
        config.supply.segment_size = 4096 + segment_blocks * config.block_size as u64;
        config.supply.segment_size_first = 4096 + config.block_size as u64;
        config.supply.spares_kept = spares;
        history(seed, config, 400);
    }
}

/// A block whose only entry is shorter than an OPENING has a few bytes more than a piece.
#[test]
fn room_is_what_is_taken() {
    let config = AppenderConfig {
        block_size: 4096,
        buffers: 3,
        writes_inflight_max: 1,
        supply: SupplyConfig { segment_size: 12288, segment_size_first: 8192, ..tiny().supply },
        ..tiny()
    };
    history(1538057744228136619, config, 400);
}
