//! The decision table of recovery, exhaustively, and one scripted log for each thing that can be found at a start.
//! Random histories are in `wal_crash_points.rs`.

mod wal_rig;

use corefold_shards::wal::layout::{BLOCK_HEADER_SIZE, BlockHeader, SEGMENT_HEADER_SIZE};
use corefold_shards::wal::recovery::{Action, Behind, Facts, Found, Link, TABLE, decide, matching_rows};
use corefold_shards::wal::{
    LogEnd, LogIdentity, Lsn, RecordKind, RecoveryError, RefusalReason, ResumePoint, ScanOptions, ScanPolicy,
    SegmentHeader, SegmentId, replay,
};
use wal_rig::{Dice, IDENTITY, Kept, Rig, options, read, tiny};

const BATCH: RecordKind = RecordKind::BATCH;

#[test]
fn exactly_one_row_matches_whatever_is_found() {
    let mut used = vec![0; TABLE.len()];
    let mut combinations = 0;
    for link in [Link::Silent, Link::Ahead, Link::Here, Link::Broken] {
        for found in [Found::Next, Found::Stranger, Found::Bad, Found::SegmentEnd] {
            for behind in [Behind::NotLookedAt, Behind::Nothing, Behind::Unclaimed, Behind::Claimed] {
                for sealed in [false, true] {
                    for short in [false, true] {
                        let facts = Facts { link, found, behind, sealed, short };
                        if facts.needs_behind() == (behind == Behind::NotLookedAt) {
                            continue;
                        }
                        combinations += 1;
                        assert_eq!(matching_rows(&facts).count(), 1, "{facts:?}");
                        decide(&facts);
                        for (index, row) in TABLE.iter().enumerate() {
                            used[index] +=
                                usize::from(matching_rows(&facts).any(|matching| std::ptr::eq(matching, row)));
                        }
                    }
                }
            }
        }
    }
    assert_eq!(combinations, 88);
    for (row, uses) in TABLE.iter().zip(used) {
        assert!(uses > 0, "the row `{}` is never used", row.name);
    }
}

#[test]
fn nothing_that_was_claimed_durable_is_ever_cut() {
    for link in [Link::Silent, Link::Ahead] {
        for found in [Found::Bad, Found::SegmentEnd] {
            for sealed in [false, true] {
                for short in [false, true] {
                    let facts = Facts { link, found, behind: Behind::Claimed, sealed, short };
                    if facts.needs_behind() {
                        assert_eq!(decide(&facts), Action::RefuseInterior, "{facts:?}");
                    }
                }
            }
        }
    }
}

/// Six records over three segments, the last of them durable as the log itself says.
fn log() -> Rig {
    let mut rig = Rig::new(tiny());
    for index in 0..6_u8 {
        rig.append_settled(BATCH, &vec![index; 1500 + 400 * usize::from(index)]);
        rig.settle();
    }
    rig.idle();
    assert_eq!(rig.appender.spans().count(), 4);
    rig
}

fn refusal(rig: &mut Rig) -> (String, u64, RefusalReason) {
    refusal_of(read(&mut rig.disk, &options()))
}

fn refusal_of<T: std::fmt::Debug>(result: Result<T, RecoveryError>) -> (String, u64, RefusalReason) {
    match result {
        Err(RecoveryError::Refused { file, offset, reason }) => (file, offset, reason),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn restart(rig: Rig) -> Rig {
    let Rig { mut disk, .. } = rig;
    let (recovered, records) = read(&mut disk, &options()).expect("a readable log");
    disk.discard(&recovered.discard);
    Rig::resume(tiny(), disk, recovered.resume, records)
}

#[test]
fn an_empty_directory_is_an_empty_log() {
    let mut rig = Rig::new(tiny());
    let (recovered, records) = read(&mut rig.disk, &options()).unwrap();
    assert_eq!((recovered.end, records.len()), (LogEnd::Empty, 0));
    assert_eq!(recovered.resume, ResumePoint::fresh());
    rig.settle();
    let (recovered, _) = read(&mut rig.disk, &options()).unwrap();
    assert_eq!((recovered.end, recovered.resume.spares.len()), (LogEnd::Empty, 1), "a spare is no log");
}

#[test]
fn every_way_of_stopping_is_told_apart() {
    let mut rig = log();
    let model = rig.model.clone();
    let (recovered, records) = read(&mut rig.disk, &options()).unwrap();
    assert_eq!((recovered.end, &records), (LogEnd::Clean, &model));
    assert_eq!(recovered.resume.spares.len(), 1);

    rig.append_settled(BATCH, &[9; 1000]);
    rig.turn();
    rig.disk.crash(|_, sector| sector == 0);
    let (recovered, records) = read(&mut rig.disk, &options()).unwrap();
    assert_eq!((recovered.end, &records), (LogEnd::Torn, &model));

    let mut rig = restart(rig);
    rig.seal();
    let (recovered, records) = read(&mut rig.disk, &options()).unwrap();
    assert_eq!((recovered.end, &records), (LogEnd::Sealed, &model));
    assert!(recovered.resume.is_sealed);

    let mut rig = restart(rig);
    rig.seal();
    let (again, _) = read(&mut rig.disk, &options()).unwrap();
    assert_eq!(again.resume.next_lsn, recovered.resume.next_lsn, "a sealed log is not sealed again");
}

#[test]
fn a_cut_tail_is_recorded_and_never_comes_back() {
    let mut rig = Rig::new(tiny());
    rig.append_settled(BATCH, &[1; 3000]);
    rig.settle();
    rig.append(BATCH, &[2; 3000]);
    rig.turn();
    rig.append(BATCH, &[3; 3000]);
    rig.turn();
    // The second write of the two in flight arrives, the first does not.
    let lost = rig.disk.pending()[0].offset;
    rig.disk.crash(|write, _| write.offset != lost);
    let (recovered, records) = read(&mut rig.disk, &options()).unwrap();
    assert_eq!((recovered.end, records.len()), (LogEnd::Torn, 1));
    assert_eq!((recovered.tail.offset, recovered.tail.dropped_blocks), (lost, 1));
    let mut rig = restart(rig);
    rig.append_settled(BATCH, &[4; 10]);
    rig.idle();
    let (recovered, records) = read(&mut rig.disk, &options()).unwrap();
    assert_eq!(records, rig.model);
    assert_eq!(records.last().map(|record| record.payload.clone()), Some(vec![4; 10]));
    assert_eq!(recovered.end, LogEnd::Clean);
    let mut rig = restart(rig);
    rig.append_settled(BATCH, &[5; 10]);
    rig.seal();
    assert_eq!(read(&mut rig.disk, &options()).unwrap().1, rig.model);
}

#[test]
fn interior_damage_is_refused_with_file_and_offset() {
    let mut rig = log();
    let second = SegmentId(2);
    rig.disk.files_mut().get_mut(&second).unwrap()[SEGMENT_HEADER_SIZE + BLOCK_HEADER_SIZE + 500] ^= 1;
    let (file, offset, reason) = refusal(&mut rig);
    assert_eq!((file, offset), (second.file_name(), SEGMENT_HEADER_SIZE as u64));
    assert!(matches!(reason, RefusalReason::Interior { expected, durable } if expected < durable), "{reason}");

    let salvage = ScanOptions { policy: ScanPolicy::Salvage, ..options() };
    let (recovered, records) = read(&mut rig.disk, &salvage).unwrap();
    assert_eq!(recovered.end, LogEnd::Salvaged);
    let lost = recovered.lost.expect("a lost range");
    assert_eq!((lost.from, lost.to), (recovered.resume.next_lsn, rig.appender.appended()));
    assert_eq!(records, rig.model[..records.len()]);
    rig.disk.discard(&recovered.discard);
    let mut rig = Rig::resume(tiny(), rig.disk, recovered.resume, records);
    rig.seal();
    let (recovered, records) = read(&mut rig.disk, &options()).expect("readable again");
    assert_eq!((recovered.end, records), (LogEnd::Sealed, rig.model));
}

#[test]
fn a_block_that_follows_another_one_is_refused() {
    let mut rig = Rig::new(tiny());
    rig.append_settled(BATCH, &[1; 10]);
    rig.settle();
    rig.append(BATCH, &[2; 10]).expect("room");
    rig.idle();
    let file = rig.disk.files_mut().get_mut(&SegmentId::FIRST).unwrap();
    let segment = SegmentHeader::decode(file.first_chunk().unwrap()).unwrap().unwrap();
    let bytes: &mut [u8; BLOCK_HEADER_SIZE] = file[8192..].first_chunk_mut().unwrap();
    let header = BlockHeader::decode(bytes).unwrap();
    let whole = *bytes;
    for other in [
        BlockHeader { previous_crc: !header.previous_crc, ..header },
        BlockHeader { first_lsn: header.first_lsn.next(), ..header },
    ] {
        let bytes = rig.disk.files_mut().get_mut(&SegmentId::FIRST).unwrap()[8192..].first_chunk_mut().unwrap();
        other.encode(segment.seed(), 8192, bytes);
        let (_, offset, reason) = refusal(&mut rig);
        assert_eq!(offset, 8192);
        assert!(matches!(reason, RefusalReason::ChainBroken { .. }), "{reason}");
    }
    rig.disk.files_mut().get_mut(&SegmentId::FIRST).unwrap()[8192..8192 + BLOCK_HEADER_SIZE].copy_from_slice(&whole);
    assert_eq!(read(&mut rig.disk, &options()).unwrap().1, rig.model);
}

#[test]
fn missing_swapped_and_foreign_segments_are_refused() {
    let mut rig = log();
    let second = rig.disk.files_mut().remove(&SegmentId(2)).unwrap();
    let (file, _, reason) = refusal(&mut rig);
    assert_eq!((file, reason), (SegmentId(2).file_name(), RefusalReason::MissingSegment));
    rig.disk.files_mut().insert(SegmentId(2), second);

    let first = rig.disk.files_mut().remove(&SegmentId(1)).unwrap();
    assert!(matches!(refusal(&mut rig).2, RefusalReason::StartsLate { needed: Lsn::ZERO, .. }));
    let second = rig.disk.files_mut().insert(SegmentId(2), first.clone()).unwrap();
    assert!(matches!(refusal(&mut rig).2, RefusalReason::OtherSegment { found: SegmentId::FIRST }));
    rig.disk.files_mut().insert(SegmentId(1), first);
    rig.disk.files_mut().insert(SegmentId(2), second);
    assert!(read(&mut rig.disk, &options()).is_ok());

    let store = ScanOptions { identity: LogIdentity { store: [0; 16], ..IDENTITY }, ..options() };
    assert!(matches!(refusal_of(read(&mut rig.disk, &store)).2, RefusalReason::OtherStore));
    let shard = ScanOptions { identity: LogIdentity { shard: 8, ..IDENTITY }, ..options() };
    assert!(matches!(refusal_of(read(&mut rig.disk, &shard)).2, RefusalReason::OtherShard { found: 7 }));

    for id in [1, 2, 3, 4] {
        rig.disk.files_mut().remove(&SegmentId(id));
    }
    assert_eq!(refusal(&mut rig).2, RefusalReason::MissingSegment, "a spare alone is what is left of a log");
}

#[test]
fn a_bad_header_is_borne_only_where_nothing_follows() {
    let mut rig = log();
    for id in 1..=5 {
        rig.disk.files_mut().get_mut(&SegmentId(id)).unwrap()[40] ^= 1;
        let result = read(&mut rig.disk, &options());
        if id < 5 {
            let (file, _, reason) = refusal_of(result);
            assert_eq!((file, reason), (SegmentId(id).file_name(), RefusalReason::BadHeader));
        } else {
            let (recovered, records) = result.unwrap();
            assert_eq!(records, rig.model);
            assert_eq!(recovered.discard, [SegmentId(5)]);
        }
        rig.disk.files_mut().get_mut(&SegmentId(id)).unwrap()[40] ^= 1;
    }
}

#[test]
fn reading_from_a_snapshot_skips_what_it_covers() {
    let mut rig = log();
    let model = rig.model.clone();
    for (index, record) in model.iter().enumerate() {
        let from = record.lsn.next();
        let (recovered, records) = read(&mut rig.disk, &ScanOptions { from, ..options() }).unwrap();
        assert_eq!(records, model[index + 1..]);
        let mut again = Vec::new();
        replay(&mut rig.disk, &ScanOptions { from, ..options() }, &recovered, |record| {
            again.push(Kept { lsn: record.lsn, kind: record.kind, payload: record.payload.to_vec() });
            Ok::<(), RecoveryError>(())
        })
        .unwrap();
        assert_eq!(again, records, "the second pass is the first");
    }
    let from = rig.appender.appended().next();
    let options = ScanOptions { from, ..options() };
    assert!(matches!(refusal_of(read(&mut rig.disk, &options)).2, RefusalReason::EndsEarly { .. }));
}

#[test]
fn released_segments_are_recycled_and_their_old_blocks_stay_dead() {
    let mut rig = log();
    let floor = rig.model[3].lsn.next();
    rig.appender.release(floor);
    for index in 0..20_u8 {
        rig.append_settled(BATCH, &[index; 3000]);
        rig.settle();
        rig.appender.release(rig.model[rig.model.len() - 3].lsn.next());
        rig.settle();
        let from = rig.model[rig.model.len() - 3].lsn.next();
        let (recovered, records) = read(&mut rig.disk, &ScanOptions { from, ..options() }).unwrap();
        assert_eq!(records, rig.model[rig.model.len() - 2..]);
        assert_eq!(recovered.end, LogEnd::Clean, "old blocks are no torn tail");
    }
    assert!(rig.disk.files().len() <= 6, "{} files", rig.disk.files().len());
    assert!(matches!(refusal(&mut rig).2, RefusalReason::StartsLate { .. }));
}

#[test]
fn a_full_disk_pushes_back_and_goes_on_when_there_is_room() {
    let mut rig = Rig::new(tiny());
    rig.disk.set_space_left(2 * 12_288);
    let mut taken = 0;
    for _ in 0..50 {
        taken += usize::from(rig.append(BATCH, &[1; 3000]).is_some());
        rig.settle();
    }
    assert_eq!(taken, 4, "two segments of two blocks");
    let stall = *rig.appender.stalled().expect("the stall shows");
    assert_eq!((stall.errno, stall.segment), (28, SegmentId(3)));
    assert_eq!(rig.appender.room(), 0);
    assert_eq!(rig.acknowledged(), 4, "existing segments went on");
    rig.disk.set_space_left(u64::MAX);
    rig.now_ns = rig.appender.due_ns().expect("asks again later").max(rig.now_ns + 1_000);
    rig.settle();
    assert!(rig.appender.stalled().is_none());
    rig.append_settled(BATCH, &[2; 10]);
    rig.idle();
    assert_eq!(read(&mut rig.disk, &options()).unwrap().1, rig.model);
}

#[test]
fn a_failed_or_short_write_latches_for_good() {
    for result in [Err(5), Err(28), Ok(0), Ok(4095)] {
        let mut rig = Rig::new(tiny());
        rig.append_settled(BATCH, &[1; 3000]);
        rig.settle();
        rig.append(BATCH, &[2; 3000]);
        rig.turn();
        rig.append(BATCH, &[3; 3000]);
        rig.turn();
        let durable = rig.appender.durable();
        let completion = rig.disk.fail(0, result);
        rig.appender.complete(completion, rig.now_ns);
        assert!(rig.appender.latched().is_some());
        rig.finish(0);
        assert_eq!(rig.appender.durable(), durable, "nothing more is acknowledged");
        assert_eq!((rig.appender.room(), rig.append(BATCH, &[4])), (0, None));
        rig.now_ns += 1_000_000_000;
        rig.turn();
        assert!(rig.disk.pending().is_empty(), "nothing is retried");
        assert!(rig.appender.is_drained());
        let (_, records) = read(&mut rig.disk, &options()).unwrap();
        assert_eq!(records, rig.model[..records.len()]);
        assert!(!records.is_empty());
    }
}

#[test]
fn an_unfinished_large_record_is_given_up() {
    let mut rig = Rig::new(tiny());
    rig.append_settled(BATCH, &[1; 10]);
    let large = vec![2; 30_000];
    while rig.append(BATCH, &large).is_none() && rig.appender.appended() < Lsn(8) {
        assert_eq!(rig.append(BATCH, &[3]), None, "no other record may come between");
        rig.settle();
    }
    rig.disk.crash(|_, _| false);
    let mut rig = restart(rig);
    assert_eq!(rig.model.len(), 1);
    rig.append_settled(BATCH, &large);
    rig.append_settled(BATCH, &[3]);
    rig.seal();
    assert_eq!(read(&mut rig.disk, &options()).unwrap().1, rig.model);
    assert_eq!(rig.model.len(), 3);
}

/// Spares are taken over as they are: after a change of sizes a record may never fit into them at once, and must not
/// wait for that.
#[test]
fn small_spares_of_an_earlier_session_do_not_block_a_large_record() {
    let mut small = tiny();
    small.supply.segment_size = 8_192;
    small.supply.segment_size_first = 8_192;
    let mut rig = Rig::new(small);
    rig.settle();
    let mut disk = rig.disk;
    let (recovered, _) = read(&mut disk, &options()).unwrap();
    assert_eq!(recovered.resume.spares.len(), 1);
    let mut large = tiny();
    large.supply.segment_size = 36_864;
    large.supply.segment_size_first = 16_384;
    let mut rig = Rig::resume(large, disk, recovered.resume, Vec::new());
    let payload = Dice(7).payload(6_600);
    rig.append_settled(BATCH, &payload);
    rig.settle();
    let (_, records) = read(&mut rig.disk, &options()).unwrap();
    assert_eq!(records, rig.model);
}

/// A header can be sound and say that its segment is too small for any block. Nobody writes such a thing; if it is
/// there, it is made anew, not written past its end.
#[test]
fn a_spare_that_holds_no_block_is_made_anew() {
    let mut config = tiny();
    (config.supply.segment_size, config.supply.segment_size_first) = (12_288, 12_288);
    let mut rig = log();
    let newest = rig.disk.files().keys().max().copied().expect("a spare");
    let header = SegmentHeader { identity: IDENTITY, segment: newest, salt: 9, size: 4096 };
    let file = rig.disk.files_mut().get_mut(&newest).expect("the spare");
    header.encode(file.first_chunk_mut().expect("a page"));
    let (recovered, records) = read(&mut rig.disk, &options()).unwrap();
    assert_eq!(recovered.resume.spares.last().map(|spare| (spare.segment, spare.size)), Some((newest, 4096)));
    let mut rig = Rig::resume(config, rig.disk, recovered.resume, records);
    rig.append_settled(BATCH, b"the next session");
    rig.settle();
    let (_, records) = read(&mut rig.disk, &options()).unwrap();
    assert_eq!(records, rig.model);
}
