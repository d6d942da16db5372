//! Damaged logs: every damage is told, and the verdict is recovery's own.

use std::fs;

use corefold_engine::cli::args::InspectDetail;
use corefold_engine::exit::ExitCode;
use corefold_shards::wal::{RecordKind, RecoveryError, ScanOptions, SegmentId, scan};
use serde_json::Value;

use crate::rig::{
    IDENTITY, Rig, SEGMENT_SIZE, UUID, assert_has, batch, filled, look, look_json, of_type, segment_path,
};

#[test]
fn a_torn_tail_is_explained() {
    let mut rig = filled();
    // Two writes in flight; the second one reaches the disk, the first only in part.
    for record in [[3; 2000].as_slice(), batch(9).as_slice()] {
        rig.appender.try_append(RecordKind::PANE, record).expect("room");
        rig.turn();
    }
    let first = rig.disk.pending()[0].offset;
    rig.disk.crash(|write, sector| write.offset != first || sector > 0);
    let root = rig.store();
    let (text, code) = look(root.path());
    assert_eq!(code, ExitCode::Done, "{text}");
    assert_has(&text, &["8192         4096 bytes that are NO BLOCK", "end: torn", "byte 8192; the next LSN is 6"]);
    assert_has(
        &text,
        &["\ncut: 1 sound block (4096 bytes) behind a missing one\ncut: 4096 bytes of unfinished or damaged blocks\n"],
    );
    let (values, _) = look_json(root.path(), InspectDetail::Blocks);
    let end = of_type(&values, "end").next().expect("an end");
    assert_eq!(
        (&end["outcome"], &end["cut_blocks"], &end["unfinished_bytes"]),
        (&"torn".into(), &1.into(), &4096.into())
    );

    // The next session says so, and what it has cut is void.
    let options = ScanOptions::new(IDENTITY);
    let recovered = scan::<_, RecoveryError, _>(&mut rig.disk, &options, |_| Ok(())).expect("a torn tail");
    let mut disk = rig.disk;
    disk.discard(&recovered.discard);
    let mut rig = Rig::resume(disk, recovered.resume);
    rig.append(RecordKind::BATCH, batch(9).as_slice());
    let (text, code) = look(rig.store().path());
    assert_eq!(code, ExitCode::Done, "{text}");
    assert_has(&text, &["a session begins, segment 2 ends at byte 8192; a torn tail was cut there (1 sound block"]);
    assert_has(&text, &["ok, void: cut by the next session", "1 of them void"]);
}

#[test]
fn interior_damage_is_refused_with_what_is_lost() {
    let mut rig = filled();
    rig.file(1)[8192 + 100] ^= 1;
    let root = rig.store();
    let (text, code) = look(root.path());
    assert_eq!(code, ExitCode::Failure);
    let path = segment_path(root.path(), 1);
    assert_has(&text, &["PAYLOAD BAD", "end: REFUSED", &format!("{}, byte 8192: the block for LSN 2", path.display())]);
    assert_has(&text, &["lost: LSN 2 to 5 (4 entries)", "segment 2  ", "1 DAMAGED"]);
    let (values, _) = look_json(root.path(), InspectDetail::Blocks);
    let end = of_type(&values, "end").next().expect("an end");
    assert_eq!((&end["lost_from_lsn"], &end["lost_to_lsn"], &end["sound"]), (&2.into(), &6.into(), &false.into()));
    assert_eq!(of_type(&values, "block").filter(|block| block["state"] == "bad payload").count(), 1);
    // Alone it is as bad.
    assert_eq!(look(&path).1, ExitCode::Failure);
    assert_eq!(look(&segment_path(root.path(), 2)).1, ExitCode::Done);
}

/// What is done to a file, and what must then be said of it in its directory and alone.
struct Damage {
    name: &'static str,
    segment: u64,
    apply: fn(&mut Vec<u8>),
    says: &'static [&'static str],
    code: ExitCode,
    code_alone: ExitCode,
}

#[test]
fn every_damage_is_told() {
    use ExitCode::{Done, Failure};
    let table = [
        Damage {
            name: "bad header",
            segment: 1,
            apply: |file| file[4000] ^= 1,
            says: &[
                "header   DAMAGED",
                "        4096            0       2",
                " ok\n",
                "the segment's header is damaged",
            ],
            code: Failure,
            code_alone: Failure,
        },
        Damage {
            name: "foreign file",
            segment: 1,
            apply: |file| file.fill(b'x'),
            says: &["header   NONE: this is not how a segment begins", "12288 bytes that are NO BLOCK"],
            code: Failure,
            code_alone: Failure,
        },
        Damage {
            name: "damaged header of the unused newest",
            segment: 3,
            apply: |file| file[4000] ^= 1,
            says: &["header   DAMAGED", "segments to be deleted: 3", "end: clean"],
            code: Done,
            code_alone: Failure,
        },
        Damage {
            name: "empty file",
            segment: 2,
            apply: Vec::clear,
            says: &["header   NONE: the file is empty", "the file is 0 bytes long"],
            code: Failure,
            code_alone: Failure,
        },
        Damage {
            name: "cut header",
            segment: 2,
            apply: |file| file.truncate(1000),
            says: &["header   CUT: the file has only 1000 bytes"],
            code: Failure,
            code_alone: Failure,
        },
        Damage {
            name: "cut file",
            segment: 2,
            apply: |file| file.truncate(5000),
            says: &["SHORT: the file has only 5000 bytes", "PAYLOAD BAD", "the file is 5000 bytes long"],
            code: Failure,
            code_alone: Failure,
        },
        Damage {
            name: "longer file",
            segment: 2,
            apply: |file| file.extend([1; 5000]),
            says: &["the file has 21384 bytes; what lies behind its size is not shown", "end: clean"],
            code: Done,
            code_alone: Done,
        },
        Damage {
            name: "zero tail",
            segment: 2,
            apply: |file| file[8192..].fill(0),
            says: &["8192         8192 bytes of zeros", "end: clean"],
            code: Done,
            code_alone: Done,
        },
        Damage {
            name: "garbage in the tail",
            segment: 2,
            apply: |file| file[8192..12_288].fill(7),
            says: &[
                "8192         4096 bytes that are NO BLOCK",
                "end: torn",
                "4096 bytes of unfinished or damaged blocks",
            ],
            code: Done,
            code_alone: Done,
        },
        Damage {
            name: "block header",
            segment: 2,
            apply: |file| file[4096 + 20] ^= 1,
            says: &["HEADER BAD", "opening  none", "the next LSN is 4", "cut: 4096 bytes of unfinished or damaged"],
            code: Done,
            code_alone: Done,
        },
        Damage {
            name: "swapped blocks",
            segment: 1,
            apply: |file| {
                let copy = file[8192..12_288].to_vec();
                file[12_288..].copy_from_slice(&copy);
            },
            says: &["HEADER BAD", "end: REFUSED", "LSN 3"],
            code: Failure,
            code_alone: Done,
        },
        Damage {
            name: "another version",
            segment: 2,
            apply: |file| {
                file[8] = 9;
                let crc = crc32c(&file[..4092]);
                file[4092..4096].copy_from_slice(&crc.to_le_bytes());
            },
            says: &["format version 9", "this program reads version 1"],
            code: Failure,
            code_alone: Failure,
        },
    ];
    for Damage { name, segment, apply, says, code, code_alone } in table {
        let mut rig = filled();
        apply(rig.file(segment));
        let root = rig.store();
        let (text, found) = look(root.path());
        assert_has(&text, says);
        assert_eq!(found, code, "{name}:\n{text}");
        let (alone, found) = look(&segment_path(root.path(), segment));
        assert_eq!(found, code_alone, "{name}, alone:\n{alone}");
    }
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn files_in_the_wrong_place_are_told() {
    let root = filled().store();
    let wal = root.path().join("shard-0000/wal");
    fs::write(wal.join("old.wal"), b"x").expect("writable");
    let (text, code) = look(root.path());
    assert_has(&text, &["segment 1  ", "end: REFUSED", "this is not how a segment is called"]);
    assert_eq!(code, ExitCode::Failure);
    fs::remove_file(wal.join("old.wal")).expect("writable");

    fs::write(wal.join("00000000000000000009.wal.tmp"), b"x").expect("writable");
    assert_has(&look(root.path()).0, &["note: 1 unfinished files (.tmp)", "end: clean"]);

    fs::rename(segment_path(root.path(), 1), segment_path(root.path(), 9)).expect("writable");
    let (text, code) = look(root.path());
    assert_has(&text, &["NOT THIS FILE'S: it is of segment 1", "end: REFUSED"]);
    assert_eq!(code, ExitCode::Failure);
    fs::rename(segment_path(root.path(), 9), segment_path(root.path(), u64::MAX)).expect("writable");
    assert_eq!(look(root.path()).1, ExitCode::Failure);
    assert_eq!(look(&segment_path(root.path(), u64::MAX)).1, ExitCode::Failure);
    fs::rename(segment_path(root.path(), u64::MAX), segment_path(root.path(), 1)).expect("writable");

    fs::create_dir(segment_path(root.path(), 4)).expect("writable");
    let (text, code) = look(root.path());
    assert_has(&text, &["NOT READABLE: ", "not a regular file", "end: NOT READABLE"]);
    assert_eq!(code, ExitCode::Io);
    fs::remove_dir(segment_path(root.path(), 4)).expect("writable");

    fs::write(root.path().join("store.json"), b"{").expect("writable");
    let (text, code) = look(root.path());
    assert_has(&text, &["REFUSED: `", "store.json` cannot be read", "end: clean"]);
    assert_eq!(code, ExitCode::Failure);
}

#[test]
fn another_stores_segments_are_told() {
    let rig = filled();
    let root = rig.store();
    let other = UUID.replace("30313233", "40313233");
    fs::write(root.path().join("store.json"), format!("{{\"format\":1,\"uuid\":\"{other}\"}}")).expect("writable");
    let (text, code) = look(root.path());
    assert_has(&text, &[UUID, &other, " ok\n", "this segment belongs to another data directory"]);
    assert_eq!(code, ExitCode::Failure);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(200))]

    /// Whatever is damaged, the answer is a report with recovery's own verdict, never a panic.
    #[test]
    fn damaged_logs_are_told_as_recovery_sees_them(
        segment in 1..=3_u64,
        damages in proptest::collection::vec((0..SEGMENT_SIZE, 1..600_usize, proptest::num::u8::ANY), 0..4),
        length in proptest::option::weighted(0.2, 0..SEGMENT_SIZE),
    ) {
        let mut rig = filled();
        for (at, count, value) in damages {
            let file = rig.file(segment);
            let end = (at + count).min(file.len());
            file[at..end].fill(value);
        }
        if let Some(length) = length {
            rig.file(segment).truncate(length);
        }
        let root = rig.store();
        let expected = scan::<_, RecoveryError, _>(&mut rig.disk, &ScanOptions::new(IDENTITY), |_| Ok(()));
        let (values, code) = look_json(root.path(), InspectDetail::Records);
        let end = of_type(&values, "end").next().expect("an end");
        match expected {
            Ok(recovered) => {
                proptest::prop_assert_eq!(code, ExitCode::Done);
                proptest::prop_assert_eq!(&end["next_lsn"], &Value::from(recovered.resume.next_lsn.0));
                proptest::prop_assert_eq!(&end["records"], &Value::from(recovered.records));
            }
            Err(error) => {
                proptest::prop_assert_eq!(code, ExitCode::Failure);
                let name = SegmentId(segment).file_name();
                let same = end["reason"].as_str().is_some_and(|reason| error.to_string().ends_with(reason));
                proptest::prop_assert!(same, "{} {} {}", error, end, name);
            }
        }
        // All pieces of the damaged segment together are the file.
        let alone = look_json(&segment_path(root.path(), segment), InspectDetail::Records).0;
        let walked: u64 = of_type(&alone, "gap").filter_map(|gap| gap["bytes"].as_u64()).sum::<u64>()
            + 4096 * of_type(&alone, "block").count() as u64;
        let size = rig.disk.files()[&SegmentId(segment)].len().saturating_sub(4096) as u64;
        proptest::prop_assert!(walked >= size && walked < size + 4096, "{} of {}", walked, size);
        look(&segment_path(root.path(), segment));
    }
}
