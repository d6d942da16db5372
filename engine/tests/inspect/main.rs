//! `corefold inspect wal` on logs that the real appender wrote, and on those of a whole engine.

mod damage;
mod rig;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use corefold_engine::cli::args::InspectDetail;
use corefold_engine::disk::Store;
use corefold_engine::exit::ExitCode;
use corefold_engine::inspect::{self, InspectError, InspectOptions};
use corefold_shards::wal::RecordKind;
use serde_json::Value;

use rig::{Rig, UUID, assert_has, batch, filled, look, look_json, of_type, segment_path, try_look};

#[test]
fn a_whole_log_reads_like_this() {
    let mut rig = filled();
    rig.now_ns = 1_357_020_000_123_456_789;
    rig.seal();
    let root = rig.store();
    let options = InspectOptions { detail: InspectDetail::Records, ..InspectOptions::default() };
    let (text, seen) = try_look(root.path(), options).expect("readable");
    let text = text.replace(&root.path().display().to_string(), "ROOT");
    let size = batch(0).as_slice().len();
    let payload = |entries: usize| entries * (16 + size.next_multiple_of(8));
    let (first, one) = (payload(1) + 16 + 40, payload(1));
    let salts: Vec<String> = (1..=2)
        .map(|segment| u64::from_le_bytes(rig.file(segment)[40..48].try_into().expect("eight bytes")))
        .map(|salt| format!("{salt:016x}"))
        .collect();
    let expected = format!(
        "\
data directory ROOT: store {UUID}

log ROOT/shard-0000/wal: store {UUID}, shard 0, 3 segments

segment 1  ROOT/shard-0000/wal/00000000000000000001.wal
  header   ok: store {UUID}, shard 0, salt {}, 16384 bytes (16.0 KiB)
  opening  LSN 0, durable to 0: a session begins, no segment before
      offset    first LSN entries   payload   durable to  flags     time               checksum
        4096            0       2 {first:>9}            0  -         +1.500000s         ok
                        0 opening, 40 bytes
                        1 batch, {size} bytes: lane 5, sequence 0, 2 rows from row 0, watermark -infinity, frontier 2013-01-01T00:00:00.5Z, position 100
        8192            2       1 {one:>9}            2  -         +1.500000s         ok
                        2 batch, {size} bytes: lane 5, sequence 1, 2 rows from row 2, watermark 2013-01-01T00:00:00Z, frontier 2013-01-01T00:00:00.5Z, position 200
       12288            3       1 {one:>9}            3  -         +1.500000s         ok
                        3 batch, {size} bytes: lane 5, sequence 2, 2 rows from row 4, 1 rejected, watermark 2013-01-01T00:00:00Z, frontier 2013-01-01T00:00:00.5Z, position 300
  in all   3 sound blocks, 4 entries (LSN 0 to 3), 12.0 KiB

segment 2  ROOT/shard-0000/wal/00000000000000000002.wal
  header   ok: store {UUID}, shard 0, salt {}, 16384 bytes (16.0 KiB)
  opening  LSN 4, durable to 4: goes on, segment 1 ends at byte 16384
      offset    first LSN entries   payload   durable to  flags     time               checksum
        4096            4       2 {first:>9}            4  -         +1.500000s         ok
                        4 opening, 40 bytes
                        5 batch, {size} bytes: lane 5, sequence 3, 2 rows from row 6, watermark 2013-01-01T00:00:00Z, frontier infinity, the lane ends
        8192            6       1        16            6  SEAL      2013-01-01T06:00:00.123456Z ok
                        6 seal, 0 bytes
       12288         4096 bytes of zeros
  in all   2 sound blocks, 3 entries (LSN 4 to 6), 8.0 KiB, 4.0 KiB of zeros
",
        salts[0], salts[1]
    );
    let (listed, rest) = text.split_at(expected.len().min(text.len()));
    assert_eq!(listed, expected);
    assert_has(
        rest,
        &[
            "\nsegment 3  ",
            "  opening  none: no sound first block\n",
            "\nend: sealed, the engine was shut down in order\n\
             at ROOT/shard-0000/wal/00000000000000000002.wal, byte 12288; the next LSN is 7\n\
             4 records in 20.0 KiB of sound blocks\n",
        ],
    );
    assert_eq!((seen.logs, seen.segments, seen.blocks, seen.damaged), (1, 3, 5, 0));
    assert_eq!(seen.exit_code(), ExitCode::Done);
}

#[test]
fn json_says_the_same() {
    let mut rig = filled();
    rig.seal();
    let root = rig.store();
    let (values, code) = look_json(root.path(), InspectDetail::Records);
    assert_eq!(code, ExitCode::Done);
    let offsets: Vec<u64> = of_type(&values, "block").filter_map(|block| block["offset"].as_u64()).collect();
    assert_eq!(offsets, [4096, 8192, 12_288, 4096, 8192]);
    assert!(of_type(&values, "block").all(|block| block["state"] == "ok"));
    let batches: Vec<&Value> =
        of_type(&values, "entry").map(|entry| &entry["batch"]).filter(|b| b.is_object()).collect();
    assert_eq!(batches.iter().filter_map(|batch| batch["rows"].as_u64()).sum::<u64>(), 8);
    assert_eq!((&batches[1]["position"], &batches[1]["lane_ended"]), (&200.into(), &false.into()));
    assert_eq!((&batches[3]["position"], &batches[3]["lane_ended"]), (&Value::Null, &true.into()));
    assert_eq!((&batches[0]["watermark"], &batches[1]["lane"]), (&"-infinity".into(), &5.into()));
    let end = of_type(&values, "end").next().expect("an end");
    assert_eq!((&end["outcome"], &end["next_lsn"], &end["offset"]), (&"sealed".into(), &7.into(), &12_288.into()));

    let (values, _) = look_json(root.path(), InspectDetail::Segments);
    assert_eq!(
        of_type(&values, "block").count() + of_type(&values, "entry").count() + of_type(&values, "gap").count(),
        0
    );
    let sums: u64 = of_type(&values, "segment end").filter_map(|end| end["blocks"].as_u64()).sum();
    assert_eq!((sums, of_type(&values, "end").count()), (5, 1));
}

#[test]
fn all_ways_to_a_log_lead_to_it() {
    let root = filled().store();
    let shard = root.path().join("shard-0000");
    for path in [root.path(), &shard, &shard.join("wal")] {
        let (text, code) = look(path);
        assert_has(&text, &["segment 1  ", "segment 2  ", "end: clean", "the next LSN is 6", UUID]);
        assert_eq!(code, ExitCode::Done, "{}", path.display());
    }
    // Elsewhere, without the store's UUID, under any name.
    let copy = tempfile::tempdir().expect("a temporary directory");
    for (segment, name) in [(1, "copy.bin"), (2, "00000000000000000002.wal")] {
        let path = copy.path().join(name);
        fs::copy(segment_path(root.path(), segment), &path).expect("readable");
        let (text, code) = look(&path);
        assert_has(&text, &[&format!("segment {segment}  "), "segment file ", "end: clean", UUID]);
        assert_eq!(code, ExitCode::Done, "{text}");
    }
    let (text, code) = look(copy.path());
    // The directory without its first segment is no whole log.
    assert_has(&text, &["end: REFUSED", "the log begins with LSN 4"]);
    assert_eq!(code, ExitCode::Failure);
}

#[test]
fn a_record_that_began_in_the_segment_before_does_not_spoil_a_lone_file() {
    let mut rig = Rig::new();
    rig.append(RecordKind::PANE, &[1; 30_000]);
    rig.append(RecordKind::PANE, &[2; 10]);
    let root = rig.store();
    let segments = rig.disk.files().len() as u64;
    assert!(segments > 3);
    for segment in 1..=segments {
        let (text, code) = look(&segment_path(root.path(), segment));
        assert_eq!(code, ExitCode::Done, "{text}");
    }
}

#[test]
fn shards_are_chosen() {
    let root = filled().store();
    fs::create_dir_all(root.path().join("shard-0003/wal")).expect("writable");
    fs::create_dir_all(root.path().join("panes/wal")).expect("writable");
    let choose =
        |path: &Path, shard| try_look(path, InspectOptions { shard: Some(shard), ..InspectOptions::default() });
    let (text, seen) = choose(root.path(), 3).expect("an empty log");
    assert_has(&text, &["shard-0003/wal: store", "shard 3, 0 segments", "end: empty"]);
    assert_eq!(seen.logs, 1);
    let (text, seen) = try_look(root.path(), InspectOptions::default()).expect("readable");
    assert_has(&text, &["panes/wal: store", "no shard's", "3 logs, 3 segments, 4 sound blocks\n"]);
    assert_eq!(seen.logs, 3);
    let error = choose(root.path(), 7).expect_err("no such shard");
    assert_eq!(error.exit_code(), ExitCode::Usage);
    assert!(error.to_string().ends_with("has no shard 7; it has 0, 3"), "{error}");
    let error = choose(&root.path().join("shard-0000"), 0).expect_err("no data directory");
    assert_eq!(error.exit_code(), ExitCode::Usage);
}

#[test]
fn what_is_no_log_is_an_error() {
    let empty = tempfile::tempdir().expect("a temporary directory");
    let error = try_look(empty.path(), InspectOptions::default()).expect_err("empty");
    assert!(matches!(error, InspectError::NoLog { .. }), "{error}");
    let error = try_look(&empty.path().join("none"), InspectOptions::default()).expect_err("missing");
    assert_eq!(error.exit_code(), ExitCode::Io);
    let foreign = empty.path().join("letter.txt");
    for content in [&b""[..], b"Dear Sir", &[0; 10_000]] {
        fs::write(&foreign, content).expect("writable");
        let (text, code) = look(&foreign);
        assert_has(&text, &["end: REFUSED", "nothing here has a sound segment header"]);
        assert_eq!(code, ExitCode::Failure);
    }
    let error = try_look(Path::new("/dev/null"), InspectOptions::default()).expect_err("a device");
    assert_eq!(error.exit_code(), ExitCode::Io);
}

struct Full(io::ErrorKind);

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_output_is_an_error() {
    let root = filled().store();
    for (kind, is_broken) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)] {
        let error = inspect::wal(root.path(), InspectOptions::default(), &mut Full(kind)).expect_err("full");
        assert_eq!((error.is_broken_pipe(), error.exit_code()), (is_broken, ExitCode::Io));
    }
}

/// Names, sizes, bytes and times of everything below a directory.
fn picture(root: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(path) = open.pop() {
        let metadata = fs::metadata(&path).expect("present");
        let bytes = if metadata.is_dir() { Vec::new() } else { fs::read(&path).expect("readable") };
        if metadata.is_dir() {
            open.extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()));
        }
        found.insert(path, (bytes, metadata.modified().expect("known")));
    }
    found
}

#[test]
fn nothing_is_touched() {
    let mut rig = filled();
    rig.file(2)[8192..12_288].fill(7);
    rig.file(3).truncate(10);
    let root = rig.store();
    fs::write(root.path().join("shard-0000/wal/x.tmp"), b"left over").expect("writable");
    let before = picture(root.path());
    for path in [root.path(), &segment_path(root.path(), 2), &segment_path(root.path(), 3)] {
        look(path);
    }
    assert!(before == picture(root.path()), "something has changed");
}

#[test]
fn a_directory_in_use_is_shown() {
    let root = filled().store();
    fs::write(root.path().join("store.lock"), b"").expect("writable");
    assert!(!look(root.path()).0.contains("is using it"));
    let store = Store::open(root.path()).expect("a store");
    let (text, code) = look(root.path());
    assert_has(&text, &[&format!("note: process {} is using it", std::process::id()), "end: clean"]);
    assert_eq!(code, ExitCode::Done);
    drop(store);
}

/// A log that grows while it is looked at is never taken for a damaged one.
#[test]
fn a_growing_log_is_sound() {
    let mut rig = filled();
    let root = rig.store();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) || looks == 0 {
                let (text, code) = look(root.path());
                assert_eq!(code, ExitCode::Done, "{text}");
                looks += 1;
            }
        });
        for sequence in 0..400 {
            rig.append(RecordKind::BATCH, batch(sequence % 3).as_slice());
            for (segment, bytes) in rig.disk.files() {
                write_changes(&segment_path(root.path(), segment.0), bytes);
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().is_ok());
    });
}

/// Brings a file up to date in the order of the log; a new one appears at once.
fn write_changes(path: &Path, bytes: &[u8]) {
    if !path.exists() {
        let aside = path.with_extension("tmp");
        let mut fresh = vec![0; bytes.len()];
        fresh[..4096].copy_from_slice(&bytes[..4096]);
        fs::write(&aside, fresh).expect("writable");
        fs::rename(&aside, path).expect("writable");
    }
    let old = fs::read(path).expect("readable");
    let file = fs::OpenOptions::new().write(true).open(path).expect("writable");
    for (index, page) in bytes.chunks(4096).enumerate().filter(|(index, page)| old[index * 4096..][..4096] != **page) {
        file.write_all_at(page, index as u64 * 4096).expect("writable");
    }
}

/// What `corefold aggregate` leaves behind.
#[test]
fn an_engines_log_is_read() {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let input = root.path().join("events.csv");
    let rows: String = (0..5000).map(|row| format!("{},{}\n", 1_357_000_000 + row * 60, row % 7)).collect();
    fs::write(&input, format!("time,value\n{rows}")).expect("writable");
    let store = root.path().join("state");
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_corefold"))
        .arg("aggregate")
        .arg(&input)
        .args(["--time", "time", "--time-unit", "s", "--window", "1h", "--agg", "sum(value)", "--quiet"])
        .args(["--shards", "1", "--batch-rows", "1000", "--durability", "os", "--output"])
        .arg(root.path().join("out.csv"))
        .arg("--data-dir")
        .arg(&store)
        .output()
        .expect("the program starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let (values, code) = look_json(&store, InspectDetail::Records);
    assert_eq!(code, ExitCode::Done);
    let batches = || of_type(&values, "entry").map(|entry| &entry["batch"]).filter(|batch| batch.is_object());
    assert_eq!(batches().filter_map(|batch| batch["rows"].as_u64()).sum::<u64>(), 5000);
    assert!(batches().any(|batch| batch["lane_ended"] == true));
    let end = of_type(&values, "end").next().expect("an end");
    assert_eq!(end["outcome"], "sealed");
    assert!(end["unsynced_segments"].as_u64() > Some(0));
}
