//! Exports from the outside: what stands in the files, and what is left when something goes wrong.
//!
//! Forms of single values and rotation are tested beside the code.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use corefold_aggregator::result::{OutputColumn, OutputField, OutputSchema, ResultBatch};
use corefold_aggregator::spec::{Field, FieldType, OutputType, StreamSpec};
use corefold_aggregator::time::Duration;
use corefold_engine::export::{ExportError, Exporter, Format, LateRows, LateWriter, Target, open};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const HOUR: i64 = 3_600_000_000;

/// One row of the test schema: window end, group, count, mean, flag.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    end: i64,
    origin: Option<String>,
    count: Option<i64>,
    mean: Option<f64>,
    flag: Option<bool>,
}

fn row(end: i64, origin: Option<&str>, count: Option<i64>, mean: Option<f64>, flag: Option<bool>) -> Row {
    Row { end, origin: origin.map(str::to_owned), count, mean, flag }
}

fn schema() -> OutputSchema {
    let field = |name: &str, kind, nullable| OutputField { name: name.to_owned(), kind, nullable };
    let columns = vec![
        field("window_start", OutputType::Time, false),
        field("window_end", OutputType::Time, false),
        field("origin", OutputType::String, true),
        field("count", OutputType::I64, true),
        field("mean, of delay", OutputType::F64, true),
        field("flag", OutputType::Bool, true),
    ];
    OutputSchema { columns, by: 2..4 }
}

fn strings<'a>(values: impl Iterator<Item = Option<&'a str>>) -> OutputColumn {
    let (mut offsets, mut bytes, mut valid) = (vec![0], Vec::new(), Vec::new());
    for value in values {
        bytes.extend_from_slice(value.unwrap_or_default().as_bytes());
        offsets.push(bytes.len() as u32);
        valid.push(value.is_some());
    }
    OutputColumn::String { offsets, bytes, valid }
}

fn batch(rows: &[Row]) -> ResultBatch {
    let columns = vec![
        OutputColumn::Time(rows.iter().map(|row| row.end - HOUR).collect()),
        OutputColumn::Time(rows.iter().map(|row| row.end).collect()),
        strings(rows.iter().map(|row| row.origin.as_deref())),
        OutputColumn::I64 {
            values: rows.iter().map(|row| row.count.unwrap_or(-7)).collect(),
            valid: rows.iter().map(|row| row.count.is_some()).collect(),
        },
        OutputColumn::F64 {
            values: rows.iter().map(|row| row.mean.unwrap_or(f64::NAN)).collect(),
            valid: rows.iter().map(|row| row.mean.is_some()).collect(),
        },
        OutputColumn::Bool {
            values: rows.iter().map(|row| row.flag.unwrap_or(true)).collect(),
            valid: rows.iter().map(|row| row.flag.is_some()).collect(),
        },
    ];
    ResultBatch { rows: rows.len(), columns, other_rows: Vec::new() }
}

fn sample() -> ResultBatch {
    let mut sample = batch(&[
        row(HOUR, None, Some(3), Some(2.0), Some(true)),
        row(HOUR, Some(""), None, Some(-0.0), Some(false)),
        row(HOUR, Some("a \"b\", c\nd"), Some(-1), None, None),
        row(2 * HOUR + 500_000, Some("Zürich"), Some(i64::MIN), Some(f64::NEG_INFINITY), Some(true)),
        row(2 * HOUR + 500_000, Some("__other__"), None, Some(0.1), Some(true)),
    ]);
    sample.other_rows = vec![4];
    sample
}

/// Bytes of an export into memory.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn exported(format: Format, batches: &[ResultBatch]) -> Vec<u8> {
    let shared = Shared::default();
    let mut exporter = open(Target::Writer(Box::new(shared.clone())), format, &schema()).unwrap();
    for batch in batches {
        exporter.write(batch).unwrap();
    }
    let summary = exporter.finish().unwrap();
    let bytes = shared.0.lock().unwrap().clone();
    assert_eq!(summary.rows, batches.iter().map(|batch| batch.rows as u64).sum::<u64>());
    assert_eq!((summary.files, summary.bytes), (1, bytes.len() as u64));
    bytes
}

fn read_back(format: Format, bytes: Vec<u8>) -> Vec<RecordBatch> {
    if format == Format::Arrow {
        arrow_ipc::reader::FileReader::try_new(io::Cursor::new(bytes), None).unwrap().map(Result::unwrap).collect()
    } else {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        reader.build().unwrap().map(Result::unwrap).collect()
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Says why a test proves nothing on this machine.
#[allow(clippy::print_stderr)]
fn skip(reason: &str) {
    eprintln!("SKIP: {reason}");
}

#[test]
fn csv_text() {
    let expected = "window_start,window_end,origin,count,\"mean, of delay\",flag
1970-01-01T00:00:00Z,1970-01-01T01:00:00Z,,3,2,true
1970-01-01T00:00:00Z,1970-01-01T01:00:00Z,\"\",,0,false
1970-01-01T00:00:00Z,1970-01-01T01:00:00Z,\"a \"\"b\"\", c\nd\",-1,,
1970-01-01T01:00:00.5Z,1970-01-01T02:00:00.5Z,Zürich,-9223372036854775808,-inf,true
1970-01-01T01:00:00.5Z,1970-01-01T02:00:00.5Z,__other__,__other__,0.1,true
";
    assert_eq!(String::from_utf8(exported(Format::Csv, &[sample()])).unwrap(), expected);
    let empty = String::from_utf8(exported(Format::Csv, &[])).unwrap();
    assert_eq!(empty, "window_start,window_end,origin,count,\"mean, of delay\",flag\n");
}

#[test]
fn ndjson_text() {
    let start = r#"{"window_start":"1970-01-01T00:00:00Z","window_end":"1970-01-01T01:00:00Z","origin":"#;
    let later = r#"{"window_start":"1970-01-01T01:00:00.5Z","window_end":"1970-01-01T02:00:00.5Z","origin":"#;
    let expected = [
        format!(r#"{start}null,"count":3,"mean, of delay":2,"flag":true}}"#),
        format!(r#"{start}"","count":null,"mean, of delay":0,"flag":false}}"#),
        format!(r#"{start}"a \"b\", c\nd","count":-1,"mean, of delay":null,"flag":null}}"#),
        format!(r#"{later}"Zürich","count":-9223372036854775808,"mean, of delay":"-inf","flag":true}}"#),
        format!(r#"{later}"__other__","count":"__other__","mean, of delay":0.1,"flag":true}}"#),
    ];
    let text = String::from_utf8(exported(Format::Ndjson, &[sample()])).unwrap();
    assert_eq!(text, expected.map(|line| line + "\n").concat());
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert_eq!(exported(Format::Ndjson, &[]), b"");
}

#[test]
fn typed_files_read_back() {
    for format in [Format::Arrow, Format::Parquet] {
        let batches = read_back(format, exported(format, &[sample()]));
        let [batch] = batches.as_slice() else { panic!("one batch, not {}", batches.len()) };
        let schema = batch.schema();
        let types: Vec<String> = schema.fields().iter().map(|field| field.data_type().to_string()).collect();
        assert_eq!(types[0], "Timestamp(µs, \"UTC\")", "{format:?}");
        assert_eq!(types[2..], ["Utf8", "Int64", "Float64", "Boolean"]);
        assert!(!schema.field(1).is_nullable());
        let ends = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(ends.values()[3], 2 * HOUR + 500_000);
        let origins: Vec<Option<&str>> = batch.column(2).as_string::<i32>().iter().collect();
        assert_eq!(origins, [None, Some(""), Some("a \"b\", c\nd"), Some("Zürich"), Some("__other__")]);
        let counts: Vec<Option<i64>> = batch.column(3).as_primitive::<Int64Type>().iter().collect();
        assert_eq!(counts, [Some(3), None, Some(-1), Some(i64::MIN), None]);
        let means: Vec<Option<f64>> = batch.column(4).as_primitive::<Float64Type>().iter().collect();
        assert_eq!(means, [Some(2.0), Some(0.0), None, Some(f64::NEG_INFINITY), Some(0.1)]);
        assert!(means[1].unwrap().is_sign_positive());
        let flags: Vec<Option<bool>> = batch.column(5).as_boolean().iter().collect();
        assert_eq!(flags, [Some(true), Some(false), None, Some(true), Some(true)]);
        let empty = read_back(format, exported(format, &[]));
        assert_eq!(empty.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    }
}

fn many(count: usize) -> Vec<Row> {
    (0..count)
        .map(|i| {
            let origin = (i % 7 != 0).then(|| format!("group {}", i % 1000));
            let count = (i % 11 != 0).then_some(i as i64);
            Row { end: (1 + i as i64 / 5000) * HOUR, origin, count, mean: Some(i as f64 / 3.0), flag: Some(i % 2 == 0) }
        })
        .collect()
}

/// More rows than a record batch and a row group hold, in batches of several sizes.
#[test]
fn bytes_do_not_depend_on_batches() {
    let rows = many(300_000);
    for format in Format::ALL {
        let whole = exported(format, &[batch(&rows)]);
        for size in [4_999, 65_536, 120_000] {
            let batches: Vec<ResultBatch> = rows.chunks(size).map(batch).collect();
            assert!(exported(format, &batches) == whole, "{format:?} in batches of {size}");
        }
        if matches!(format, Format::Arrow | Format::Parquet) {
            let counts = read_back(format, whole)
                .into_iter()
                .flat_map(|batch| batch.column(3).as_primitive::<Int64Type>().iter().collect::<Vec<Option<i64>>>());
            assert!(counts.eq(rows.iter().map(|row| row.count)), "{format:?}");
        }
    }
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    for format in Format::ALL {
        let path = directory.path().join(format!("out.{}", format.extension()));
        fs::write(&path, "old").unwrap();
        let mut exporter = open(Target::File(path.clone()), format, &schema()).unwrap();
        exporter.write(&sample()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        drop(exporter);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names_in(directory.path()), [format!("out.{}", format.extension())]);

        let mut exporter = open(Target::File(path.clone()), format, &schema()).unwrap();
        exporter.write(&sample()).unwrap();
        let summary = exporter.finish().unwrap();
        let written = fs::read(&path).unwrap();
        assert_eq!(summary.bytes, written.len() as u64);
        assert!(written == exported(format, &[sample()]));
        assert_eq!(names_in(directory.path()).len(), 1);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn missing_directories_are_made_and_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/out.csv");
    drop(open(Target::File(path.clone()), Format::Csv, &schema()).unwrap());
    assert_eq!(names_in(directory.path()), Vec::<String>::new());
    open(Target::File(path.clone()), Format::Csv, &schema()).unwrap().finish().unwrap();
    assert!(path.exists());
}

#[test]
fn temporaries_of_dead_runs_are_swept_and_those_of_living_ones_stay() {
    let directory = tempfile::tempdir().unwrap();
    // The last one has the number of this very process: numbers are reused, above all in containers.
    let own = format!(".out.csv.{}.tmp", std::process::id());
    for name in [".out.csv.1.tmp", ".out.csv.99999999.tmp", &own, ".other.csv.1.tmp", ".out.csv.x.tmp", "out.csv.1.tmp"]
    {
        fs::write(directory.path().join(name), "left").unwrap();
    }
    let living = fs::File::create(directory.path().join(".out.csv.77.tmp")).unwrap();
    living.lock().unwrap();
    let path = directory.path().join("out.csv");
    let exporter = open(Target::File(path.clone()), Format::Csv, &schema()).unwrap();
    let busy = open(Target::File(path.clone()), Format::Csv, &schema()).err().unwrap();
    assert!(matches!(busy, ExportError::Busy { .. }), "{busy}");
    exporter.finish().unwrap();
    let left = [".other.csv.1.tmp", ".out.csv.77.tmp", ".out.csv.x.tmp", "out.csv", "out.csv.1.tmp"];
    assert_eq!(names_in(directory.path()), left);
}

#[test]
fn a_link_is_followed_and_stays_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("latest.csv");
    fs::create_dir(directory.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real/out.csv", &link).unwrap();
    open(Target::File(link.clone()), Format::Csv, &schema()).unwrap().finish().unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(names_in(&directory.path().join("real")), ["out.csv"]);
    let ring = directory.path().join("ring");
    std::os::unix::fs::symlink("ring", &ring).unwrap();
    assert!(matches!(open(Target::File(ring), Format::Csv, &schema()), Err(ExportError::Open { .. })));
}

#[test]
fn wrong_places_are_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |path: PathBuf| open(Target::File(path), Format::Csv, &schema()).err().unwrap();
    let text = refused(directory.path().to_path_buf()).to_string();
    assert!(text.contains("it is a directory; name a file in it"), "{text}");
    assert!(matches!(refused(directory.path().join("new/")), ExportError::IsDirectory { .. }));
    assert!(matches!(refused(directory.path().join("..")), ExportError::IsDirectory { .. }));
    fs::write(directory.path().join("file"), "").unwrap();
    let text = refused(directory.path().join("file/sub/out.csv")).to_string();
    assert!(text.contains("cannot create the directory") && text.contains("file/sub"), "{text}");
    let text = refused(directory.path().join("x".repeat(250))).to_string();
    assert!(text.contains("choose a shorter file name"), "{text}");
    let text = refused(PathBuf::from("/proc/out.csv")).to_string();
    assert!(text.starts_with("cannot write /proc/out.csv: "), "{text}");
    assert_eq!(names_in(directory.path()), ["file"]);
}

#[test]
fn an_unwritable_directory_is_refused_at_once() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let result = open(Target::File(directory.path().join("out.csv")), Format::Csv, &schema());
    match result.err() {
        Some(error) => assert!(error.to_string().contains("writable or choose another output"), "{error}"),
        None => skip("this user may write to read-only directories"),
    }
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(names_in(directory.path()), Vec::<String>::new());
}

/// Writes until it fails.
fn write_until_full(mut exporter: Box<dyn Exporter>) -> ExportError {
    let rows = batch(&many(20_000));
    for _ in 0..100 {
        if let Err(error) = exporter.write(&rows) {
            return error;
        }
    }
    exporter.finish().unwrap_err()
}

#[test]
fn a_full_disk_is_said_and_nothing_is_left() {
    let full = write_until_full(open(Target::File(PathBuf::from("/dev/full")), Format::Csv, &schema()).unwrap());
    assert!(full.to_string().starts_with("no space left for /dev/full: "), "{full}");

    let directory = tempfile::tempdir().unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(directory.path())
        .stderr(std::process::Stdio::null())
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        return skip("a small tmpfs cannot be mounted here");
    }
    for format in Format::ALL {
        let path = directory.path().join("made/out");
        let error = write_until_full(open(Target::File(path.clone()), format, &schema()).unwrap());
        assert!(matches!(error, ExportError::DiskFull { .. }), "{format:?}: {error}");
        assert!(error.to_string().contains("made/out"), "{error}");
        assert_eq!(names_in(directory.path()), Vec::<String>::new(), "{format:?}");
    }
    let mut late = LateWriter::open(Target::File(directory.path().join("late")), Format::Csv, &stream(), 4096).unwrap();
    let error = (0..)
        .find_map(|number| late.add(late_rows(0, &(number * 1000..number * 1000 + 1000).collect::<Vec<u64>>())).err());
    assert!(matches!(error, Some(ExportError::Spill { .. })));
    drop(late);
    let left = names_in(directory.path());
    let _ = std::process::Command::new("umount").arg("-l").arg(directory.path()).status();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn devices_and_pipes_are_written_in_place() {
    let mut exporter = open(Target::File(PathBuf::from("/dev/null")), Format::Parquet, &schema()).unwrap();
    exporter.write(&sample()).unwrap();
    exporter.finish().unwrap();

    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    if !std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()) {
        return skip("mkfifo is not here");
    }
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    let mut exporter = open(Target::File(pipe.clone()), Format::Csv, &schema()).unwrap();
    exporter.write(&sample()).unwrap();
    exporter.finish().unwrap();
    assert!(reader.join().unwrap() == exported(Format::Csv, &[sample()]));
    assert_eq!(names_in(directory.path()), ["pipe"]);

    // The reader leaves at once: a quiet end, in every format.
    for format in Format::ALL {
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || drop(fs::File::open(pipe).unwrap())
        });
        let exporter = open(Target::File(pipe.clone()), format, &schema()).unwrap();
        reader.join().unwrap();
        assert!(write_until_full(exporter).is_broken_pipe(), "{format:?}");
    }
}

fn stream() -> StreamSpec {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    let fields = vec![
        field("carrier", FieldType::String),
        field("delay", FieldType::F64),
        field("flight", FieldType::I64),
        field("night", FieldType::Bool),
    ];
    StreamSpec { name: String::from("flights"), time: String::from("time"), delay_max: Duration::ZERO, fields }
}

/// Rows of `lane` whose values follow from their numbers.
fn late_rows(lane: u32, numbers: &[u64]) -> LateRows {
    let texts: Vec<Option<String>> =
        numbers.iter().map(|n| (n % 5 != 0).then(|| "x".repeat((n % 13) as usize))).collect();
    let columns = vec![
        strings(texts.iter().map(Option::as_deref)),
        OutputColumn::F64 {
            values: numbers.iter().map(|n| *n as f64 / 4.0).collect(),
            valid: numbers.iter().map(|n| n % 3 != 0).collect(),
        },
        OutputColumn::I64 { values: numbers.iter().map(|n| *n as i64).collect(), valid: vec![true; numbers.len()] },
        OutputColumn::Bool {
            values: numbers.iter().map(|n| n % 2 == 0).collect(),
            valid: numbers.iter().map(|n| n % 7 != 0).collect(),
        },
    ];
    let times = numbers.iter().map(|n| i64::from(lane) * HOUR - *n as i64 * 1_000_000).collect();
    LateRows { lane, row_numbers: numbers.to_vec(), times, columns }
}

fn late_file(format: Format, memory_max: usize, calls: &[(u32, Vec<u64>)]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("late");
    let mut writer = LateWriter::open(Target::File(path.clone()), format, &stream(), memory_max).unwrap();
    for (lane, numbers) in calls {
        writer.add(late_rows(*lane, numbers)).unwrap();
        // Spilled rows have no name: only the output's own temporary is to be seen.
        assert_eq!(names_in(directory.path()).len(), 1);
    }
    assert_eq!(writer.rows(), calls.iter().map(|call| call.1.len() as u64).sum::<u64>());
    writer.finish().unwrap();
    assert_eq!(names_in(directory.path()), ["late"]);
    fs::read(path).unwrap()
}

#[test]
fn late_rows_are_sorted_whatever_the_order_and_the_memory() {
    // Rows of three lanes, dealt to shards in turn, reported in pieces and shuffled by a multiplier.
    let rows: Vec<(u32, u64)> = (0..3).flat_map(|lane| (0..4000).map(move |n| (lane, n * 3))).collect();
    let calls = |pieces: usize, step: usize| -> Vec<(u32, Vec<u64>)> {
        let mut calls: BTreeMap<(usize, u32), Vec<u64>> = BTreeMap::new();
        for i in 0..rows.len() {
            let (lane, number) = rows[i * step % rows.len()];
            calls.entry((i % pieces, lane)).or_default().push(number);
        }
        calls.into_iter().map(|((_, lane), numbers)| (lane, numbers)).collect()
    };
    for format in Format::ALL {
        let expected = late_file(format, usize::MAX, &calls(1, 1));
        for (pieces, step, memory_max) in
            [(1, 7919, usize::MAX), (1, 1, 20_000), (50, 7919, 30_000), (7, 4999, 600), (9, 11, 1)]
        {
            let got = late_file(format, memory_max, &calls(pieces, step));
            assert!(got == expected, "{format:?} {pieces} {step} {memory_max}");
        }
    }
    let text = String::from_utf8(late_file(Format::Csv, 1, &[(1, vec![9, 2]), (0, vec![15]), (1, vec![2])])).unwrap();
    let expected = "time,carrier,delay,flight,night
1969-12-31T23:59:45Z,,,15,false
1970-01-01T00:59:58Z,xx,0.5,2,true
1970-01-01T00:59:51Z,xxxxxxxxx,,9,false
";
    assert_eq!(text, expected);
}
