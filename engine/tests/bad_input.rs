//! What goes wrong outside the engine ends the run with the right exit code, one clear sentence and nothing left behind.
//!
//! Wrong configurations are tried key by key in `config`; here only that the command says so and how it exits.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use support::confine::{self, SmallDisk};
use support::process::{Feed, bytes_of, corefold, run_fed};
use support::scene::{BAD_CONFIG, BAD_DATA, BEFORE, DONE, FAILURE, GOOD, IO, Scene, USAGE, expect_failure};
use support::{gzip, listing, skip, text, zstd_pack};

/// The scene itself is sound: the job of every test below runs when nothing is wrong.
#[test]
fn the_good_job_runs() {
    let scene = Scene::new();
    let (output, _) = scene.answers(&mut scene.sum("good.csv"), Feed::Nothing);
    let window = "2024-01-01T00:00:00Z,2024-01-01T01:00:00Z";
    assert_eq!(output, format!("window_start,window_end,key,count,sum_value\n{window},a,1,1\n{window},b,1,2\n"));
    let left: Vec<PathBuf> = listing(scene.path()).into_iter().collect();
    assert_eq!(left, ["good.csv", "late.csv", "out.csv"].map(PathBuf::from));
}

#[test]
fn missing_columns() {
    let scene = Scene::new().file("good.ndjson", "{\"time\":\"2024-01-01T00:00:00Z\",\"key\":\"a\"}\n");
    let cases: [(&str, &[&str], &str); 5] = [
        ("good.csv", &["--by", "kee", "--agg", "count()"], "`kee` (did you mean `key`?)"),
        ("good.csv", &["--agg", "sum(vlaue)"], "`vlaue` (did you mean `value`?)"),
        ("good.csv", &["--agg", "count()", "--where", "valu > 1"], "`valu` (did you mean `value`?)"),
        ("good.ndjson", &["--agg", "sum(value)"], "`value`"),
        ("good.csv", &["--agg", "count()", "--by", "zzz"], "there are: time, key, value"),
    ];
    for (input, arguments, words) in cases {
        scene.refuses(scene.job(input).args(arguments), BAD_DATA, &[input, words]);
    }
    let mut command =
        scene.corefold(&["aggregate", "good.csv", "--time", "tiem", "--window", "1h", "--agg", "count()"]);
    scene.refuses(command.args(["--output", "out.csv"]), BAD_DATA, &["good.csv: no column called `tiem`", "`time`"]);
}

/// A value of another type than the column's, far behind what inference looks at.
#[test]
fn values_of_the_wrong_type() {
    let mut long = String::from(GOOD);
    (0..120_000).for_each(|_| long.push_str("2024-01-01T00:00:02Z,c,3\n"));
    let far = format!("{long}2024-01-01T00:00:03Z,d,three\n{GOOD}");
    let scene = Scene::new()
        .file("bad.csv", format!("{GOOD}2024-01-01T00:00:02Z,c,x3\n"))
        .file("bad.ndjson", "{\"time\":\"2024-01-01T00:00:00Z\",\"key\":\"a\",\"value\":[1]}\n")
        .file("far.csv", far);
    scene.refuses(&mut scene.sum("bad.csv"), BAD_DATA, &["bad.csv:4: column value: expected f64, found \"x3\"; `--"]);
    scene.refuses(&mut scene.sum("bad.ndjson"), BAD_DATA, &["bad.ndjson:1: column value: expected f64, found"]);
    let mut inferred = scene.job("far.csv");
    let words = ["far.csv:120004: column value: expected i64, found \"three\"; `--"];
    scene.refuses(inferred.args(["--agg", "sum(value)", "--batch-rows", "1000"]), BAD_DATA, &words);
    // Where inference sees the value it takes the column for text; the message must name the value all the same.
    let mut sampled = scene.job("bad.csv");
    let words = ["bad.csv:4: column value: expected a number, found \"x3\"", "--null"];
    scene.refuses(sampled.args(["--agg", "sum(value)"]), BAD_DATA, &words);
}

#[test]
fn bad_rows() {
    let head = "time,key,value\n";
    let cases: [(&str, String, &[&str]); 8] = [
        ("short.csv", format!("{GOOD}2024-01-01T00:00:02Z,c\n"), &[":4:", "expected 3 fields", "found 2", "skip"]),
        ("time.csv", format!("{head}2024-02-30T00:00:00Z,a,1\n"), &[":2: column time:", "2024-02-30", "skip"]),
        ("unit.csv", format!("{head}1700000000,a,1\n"), &[":2: column time:", "--time-unit"]),
        ("no-time.csv", format!("{head},a,1\n"), &[":2: column time:", "missing", "skip"]),
        ("open.csv", format!("{head}2024-01-01T00:00:00Z,\"a,1\n"), &[":2:", "not closed"]),
        ("torn.ndjson", String::from("{\"time\":\"2024-01-01T00:00:00Z\",\"key\":"), &[":1:", "JSON", "skip"]),
        ("list.ndjson", String::from("[1, 2]\n"), &[":1:", "JSON object", "byte 1"]),
        ("twice.csv", String::from("time,key,value,key\n2024-01-01T00:00:00Z,a,1,b\n"), &["two columns", "`key`"]),
    ];
    for (name, text, words) in cases {
        let scene = Scene::new().file(name, text);
        scene.refuses(&mut scene.sum(name), BAD_DATA, &[&[name], words].concat());
    }
}

#[test]
fn invalid_utf8() {
    let json = b"{\"time\":\"2024-01-01T00:00:00Z\",\"key\":\"a\xff\",\"value\":1}\n";
    let scene = Scene::new()
        .file("bad.csv", b"time,key,value\n2024-01-01T00:00:00Z,a\xff,1\n")
        .file("head.csv", b"time,key,val\xc3\n2024-01-01T00:00:00Z,a,1\n")
        .file("bad.ndjson", json);
    scene.refuses(&mut scene.sum("bad.csv"), BAD_DATA, &["bad.csv:2: column key: invalid UTF-8", "convert"]);
    scene.refuses(&mut scene.sum("bad.ndjson"), BAD_DATA, &["bad.ndjson:1: column key: invalid UTF-8", "convert"]);
    scene.refuses(&mut scene.sum("head.csv"), BAD_DATA, &["head.csv:1:", "invalid UTF-8", "convert"]);
}

/// Enough rows that compressed files are torn in the middle.
fn many_rows() -> String {
    let mut text = String::from("time,key,value\n");
    for row in 0..60_000u64 {
        let key = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        text.push_str(&format!("2024-01-01T00:00:00Z,k{key},{row}\n"));
    }
    text
}

/// Torn behind what inference looks at or before, flipped in the middle, or without an end: never a result.
#[test]
fn torn_and_damaged_compression() {
    let rows = many_rows();
    for (extension, packed) in [("gz", gzip(rows.as_bytes())), ("zst", zstd_pack(rows.as_bytes()))] {
        let name = format!("torn.csv.{extension}");
        let kind = if extension == "gz" { "gzip" } else { "zstd" };
        let half = packed.len() / 2;
        for length in [0, 3, 20, half, packed.len() - 5, packed.len() - 1] {
            let scene = Scene::new().file(&name, &packed[..length]);
            let words = [name.as_str(), kind, "ends in the middle", "copied"];
            scene.refuses(&mut scene.sum(&name), BAD_DATA, &words);
            if length > 3 {
                let mut command = scene.sum("-");
                let feed = Feed::Bytes(packed[..length].to_vec());
                scene.refuses_fed(command.args(["--format", "csv"]), feed, BAD_DATA, &["standard input", words[2]]);
            }
        }
        let mut flipped = packed.clone();
        flipped[half] ^= 0x10;
        let scene = Scene::new().file(&name, flipped);
        scene.refuses(&mut scene.sum(&name), BAD_DATA, &[&name]);
        let whole = name.replace("torn", "whole");
        let scene = Scene::new().file(&whole, packed);
        let (output, _) = scene.answers(&mut scene.sum(&whole), Feed::Nothing);
        assert!(output.lines().count() > 1_000);
    }
}

#[test]
fn a_line_of_100_megabytes() {
    let scene = Scene::new();
    let length = 100_000_000;
    let line = |start: &str, end: &str| Feed::Long(start.into(), b'x', length, end.into());
    let csv = line(GOOD, "\n2024-01-01T00:00:02Z,c,3\n");
    let words = ["standard input: line 4 is longer than 64 MiB"];
    scene.refuses_fed(scene.sum("-").args(["--format", "csv"]), csv, BAD_DATA, &words);
    let quoted = line(&format!("{GOOD}2024-01-01T00:00:02Z,\""), "\",3\n");
    let words = ["standard input: line 4 is longer than 64 MiB", "is a quote not closed?"];
    scene.refuses_fed(scene.sum("-").args(["--format", "csv"]), quoted, BAD_DATA, &words);
    let json = line("{\"time\":\"2024-01-01T00:00:00Z\",\"value\":1,\"key\":\"", "\"}\n");
    let words = ["standard input: line 1 is longer than 64 MiB"];
    scene.refuses_fed(scene.sum("-").args(["--format", "ndjson"]), json, BAD_DATA, &words);
}

#[test]
fn empty_inputs() {
    let scene = Scene::new()
        .file("empty.csv", "")
        .file("empty.ndjson", "")
        .file("empty.arrow", "")
        .file("empty.parquet", "")
        .file("header.csv", "time,key,value\n")
        .file("header-alone.csv", "time,key,value");
    scene.refuses(&mut scene.sum("empty.csv"), BAD_DATA, &["empty.csv", "no header row"]);
    scene.refuses(&mut scene.sum("empty.arrow"), BAD_DATA, &["empty.arrow", "no Arrow IPC file", "empty"]);
    scene.refuses(&mut scene.sum("empty.parquet"), BAD_DATA, &["empty.parquet", "no Parquet file"]);
    scene.refuses(scene.sum("-").args(["--format", "csv"]), BAD_DATA, &["standard input", "no header row"]);
    for input in ["empty.ndjson", "header.csv", "header-alone.csv", "-"] {
        let scene = Scene::new().file("empty.ndjson", "").file("header.csv", "time,key,value\n");
        let scene = scene.file("header-alone.csv", "time,key,value");
        let mut command = scene.sum(input);
        if input == "-" {
            command.args(["--format", "ndjson"]);
        }
        let (output, finished) = scene.answers(&mut command, Feed::Nothing);
        assert_eq!(output, "window_start,window_end,key,count,sum_value\n", "{input}");
        assert_eq!(finished.ledger()["received"], 0, "{input}");
        assert_eq!(fs::read_to_string(scene.path().join("late.csv")).expect("a file"), "time,key,value\n");
    }
}

#[test]
fn inputs_that_are_no_files() {
    let scene = Scene::new();
    fs::create_dir(scene.path().join("logs")).expect("a directory");
    scene.refuses(&mut scene.sum("logs"), USAGE, &["logs is a directory", "'logs/*.csv'"]);
    scene.refuses(&mut scene.sum("nowhere.csv"), IO, &["nowhere.csv", "No such file"]);
    scene.refuses(&mut scene.sum("nowhere-*.csv"), USAGE, &["no file matches `nowhere-*.csv`"]);
    scene.refuses(&mut scene.sum("good.csv/inner.csv"), IO, &["good.csv/inner.csv", "Not a directory"]);
    scene.refuses(scene.sum("-").args(["--format", "parquet"]), USAGE, &["standard input", "write it to a file"]);
    scene.refuses(&mut scene.sum("-"), USAGE, &["standard input", "--format"]);
    let scene = scene.file("good.txt", GOOD);
    scene.refuses(&mut scene.sum("good.txt"), USAGE, &["good.txt: cannot tell the format", "--format"]);
    let mut twice = scene.sum("good.csv");
    scene.refuses(twice.arg("./good.csv"), USAGE, &["good.csv", "given twice"]);
    let locked = scene.path().join("locked.csv");
    fs::write(&locked, GOOD).expect("a new file");
    fs::set_permissions(&locked, std::os::unix::fs::PermissionsExt::from_mode(0o000)).expect("own file");
    let mut command = scene.sum("locked.csv");
    confine::with_permissions(&mut command);
    scene.refuses(&mut command, IO, &["locked.csv", "Permission denied"]);
}

#[test]
fn binary_garbage() {
    let mut random = support::events::Random::new(5);
    let garbage: Vec<u8> = (0..20_000).flat_map(|_| random.next().to_le_bytes()).collect();
    for extension in ["csv", "ndjson", "parquet", "arrow", "csv.gz", "csv.zst", "ndjson.zst"] {
        let name = format!("garbage.{extension}");
        let scene = Scene::new().file(&name, &garbage);
        scene.refuses(&mut scene.sum(&name), BAD_DATA, &[&name]);
    }
    // A good beginning, then garbage.
    for extension in ["csv", "ndjson", "arrow", "parquet"] {
        let name = format!("spoilt.{extension}");
        let mut bytes = match extension {
            "csv" => GOOD.as_bytes().to_vec(),
            "ndjson" => b"{\"time\":\"2024-01-01T00:00:00Z\",\"key\":\"a\",\"value\":1}\n".to_vec(),
            "arrow" => b"ARROW1\0\0".to_vec(),
            _ => b"PAR1".to_vec(),
        };
        bytes.extend(&garbage);
        if extension == "parquet" {
            bytes.extend(b"\x10\0\0\0PAR1");
        }
        let scene = Scene::new().file(&name, &bytes);
        scene.refuses(&mut scene.sum(&name), BAD_DATA, &[&name]);
    }
}

#[test]
fn wrong_command_lines() {
    let scene = Scene::new();
    let common = ["aggregate", "good.csv", "--time", "time", "--output", "out.csv"];
    let cases: [(&[&str], &[&str]); 16] = [
        (&["--window", "1x", "--agg", "count()"], &["--window", "no unit `x`", "6h"]),
        (&["--window", "6", "--agg", "count()"], &["--window", "`6`", "6h"]),
        (&["--window", "0s", "--agg", "count()"], &["--window", "at least 1us"]),
        (&["--window", "1h", "--slide", "2h", "--agg", "count()"], &["--slide", "slide <= size"]),
        (&["--window", "1h", "--max-delay", "soon", "--agg", "count()"], &["--max-delay", "soon"]),
        (&["--window", "1h", "--agg", "count()", "--windw", "1h"], &["--windw", "--window"]),
        (&["--window", "1h"], &["--agg"]),
        (&["--window", "1h", "--agg", "cuont()"], &["--agg", "column 1", "`cuont`", "`count`"]),
        (&["--window", "1h", "--agg", "sum(value"], &["--agg", "column 10", "expected `)`"]),
        (&["--window", "1h", "--agg", "quantile(value, 7)"], &["--agg", "column 17", "0 to 1", "found 7"]),
        (&["--window", "1h", "--agg", "count(), count()"], &["--agg", "column 10", "`count`", "rename"]),
        (&["--window", "1h", "--agg", "sum(key)"], &["--agg", "sum(key)", "key", "string"]),
        (&["--window", "1h", "--agg", "count()", "--where", "value >"], &["--where", "expression"]),
        (&["--window", "1h", "--agg", "count()", "--where", "value > 'x'"], &["--where", "`value`", "quotes"]),
        (&["--window", "1h", "--agg", "count()", "--shards", "0"], &["--shards", "1 to 1024"]),
        (&["--window", "1h", "--agg", "count()", "--batch-rows", "65537"], &["--batch-rows", "65536"]),
    ];
    for (arguments, words) in cases {
        scene.refuses(scene.corefold(&common).args(arguments), USAGE, words);
    }
    let over_input = ["aggregate", "good.csv", "--time", "time", "--window", "1h", "--agg", "count()"];
    let words = ["--output", "good.csv", "input"];
    scene.refuses(scene.corefold(&over_input).args(["--output", "good.csv"]), USAGE, &words);
}

#[test]
fn wrong_configurations() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/flights.toml");
    let good = fs::read_to_string(&shipped).expect("the example");
    let finished = run_fed(&mut corefold(&["check", text(&shipped)]), Feed::Nothing);
    assert_eq!(finished.code, Some(DONE), "{}", finished.stderr);
    let cases = [
        ("[engine]\n", "[engine]\nshrads = 2\n", ":1: engine.shrads: unknown key `shrads`; did you mean `shards`?"),
        ("\"6h\"", "\"6x\"", "window.size: `6x` is not a duration"),
        ("stream = \"flights\"", "stream = \"fligths\"", "did you mean `flights`?"),
        ("mean(dep_delay)", "maen(dep_delay)", "unknown aggregate `maen`"),
        ("mean(dep_delay)", "mean(dep_dealy)", "`dep_dealy`"),
        ("dep_delay > 0", "dep_delay >", "where"),
    ];
    for (from, to, words) in cases {
        assert!(good.contains(from), "{from}");
        let scene = Scene::new().file("engine.toml", good.replacen(from, to, 1));
        scene.refuses(&mut scene.corefold(&["check", "engine.toml"]), BAD_CONFIG, &["engine.toml:", words]);
    }
    let scene = Scene::new().file("latin.toml", b"[engine]\n# \xe9\n");
    scene.refuses(&mut scene.corefold(&["check", "latin.toml"]), BAD_CONFIG, &["latin.toml: ", "UTF-8"]);
    scene.refuses(&mut scene.corefold(&["check", "nowhere.toml"]), IO, &["nowhere.toml: ", "No such file"]);
}

#[test]
fn outputs_that_cannot_be_written() {
    let scene = Scene::new();
    fs::create_dir(scene.path().join("place")).expect("a directory");
    let to = |output: &str| {
        let mut command = scene.corefold(&["aggregate", "good.csv", "--time", "time", "--window", "1h", "--agg"]);
        command.args(["count()", "--output-format", "csv", "--output", output]);
        command
    };
    scene.refuses(&mut to("place"), IO, &["place: it is a directory", "place/out.csv"]);
    scene.refuses(&mut to("place/"), IO, &["place/: it is a directory"]);
    scene.refuses(&mut to("good.csv/out.csv"), IO, &["good.csv/out.csv", "Not a directory"]);
    scene.refuses(&mut to("/proc/corefold/out.csv"), IO, &["cannot create the directory /proc/corefold"]);
    scene.refuses(&mut to("/dev/full"), IO, &["/dev/full", "No space left on device"]);
    scene.refuses(to("new/deep/out.csv").args(["--late-output", "place"]), IO, &["place: it is a directory"]);
    scene.refuses(&mut scene.sum("nowhere.csv"), IO, &["nowhere.csv"]);
    // Made directories go away with the output that needed them.
    let scene_of_rows = Scene::new().file("bad.csv", format!("{GOOD}2024-01-01T00:00:02Z,c,x\n"));
    let mut command = scene_of_rows.corefold(&["aggregate", "bad.csv", "--time", "time", "--window", "1h"]);
    command.args(["--field", "value:f64", "--agg", "sum(value)", "--output", "new/deep/out.csv"]);
    scene_of_rows.refuses(&mut command, BAD_DATA, &["bad.csv:4: column value"]);

    let locked = scene.path().join("place");
    fs::set_permissions(&locked, std::os::unix::fs::PermissionsExt::from_mode(0o555)).expect("own directory");
    let mut command = to("place/out.csv");
    confine::with_permissions(&mut command);
    scene.refuses(&mut command, IO, &["place/out.csv: Permission denied", "make the directory place writable"]);
}

/// A job whose output is larger than a small disk, and that has late rows.
fn large_scene() -> Scene {
    let mut rows = String::from("time,key,value\n");
    // Values that no format makes much smaller.
    let value = |row: i32| f64::from(row).sqrt();
    for row in 0..20_000 {
        rows.push_str(&format!("2024-01-{:02}T00:00:00Z,key-{row},{}\n", 1 + row / 1_000, value(row)));
    }
    for row in 0..20_000 {
        rows.push_str(&format!("2023-01-01T00:00:00Z,late-{row},{}\n", value(row)));
    }
    Scene::new().file("large.csv", rows)
}

#[test]
fn a_full_disk() {
    let scene = large_scene();
    let place = scene.path().join("disk");
    fs::create_dir(&place).expect("a directory");
    if !confine::is_root() {
        skip("a_full_disk: only root may mount a small disk");
        return;
    }
    let disk = match SmallDisk::mount(&place, 64 << 10) {
        Ok(disk) => disk,
        Err(error) => {
            skip(&format!("a_full_disk: cannot mount a small disk: {error}"));
            return;
        }
    };
    fs::write(disk.path().join("out.csv"), BEFORE).expect("room for little");
    let job = |output: &str, late: &str| {
        let mut command = scene.corefold(&["aggregate", "large.csv", "--time", "time", "--window", "1h"]);
        command.args(["--by", "key", "--agg", "sum(value)", "--output", output, "--late-output", late]);
        command
    };
    for extension in ["csv", "ndjson", "parquet", "arrow"] {
        let output = format!("disk/out.{extension}");
        let words = ["no space left for", &output, "free some space"];
        scene.refuses(&mut job(&output, "late.csv"), IO, &words);
        let late = format!("disk/late.{extension}");
        let words = ["no space left for", &late, "free some space"];
        scene.refuses(&mut job("out.csv", &late), IO, &words);
    }
    assert_eq!(bytes_of(&disk.path().join("out.csv")), BEFORE.as_bytes());
    // Small enough, it fits: the disk itself is sound.
    let mut small = scene.corefold(&["aggregate", "good.csv", "--time", "time", "--window", "1h", "--agg", "count()"]);
    run_fed(small.args(["--output", "disk/out.csv"]), Feed::Nothing).succeeded();
    assert_ne!(bytes_of(&disk.path().join("out.csv")), BEFORE.as_bytes());
}

/// What a quota does: writes past a size fail, and nobody needs to be root to try it.
#[test]
fn a_file_that_may_not_grow() {
    let scene = large_scene();
    for output in ["out.csv", "big.parquet"] {
        let mut command = scene.corefold(&["aggregate", "large.csv", "--time", "time", "--window", "1h"]);
        command.args(["--by", "key", "--agg", "sum(value)", "--output", output]);
        confine::with_file_size(&mut command, 100_000);
        scene.refuses(&mut command, IO, &["no space left for", output, "File too large", "free some space"]);
    }
}

/// As in many containers: the system call fails for want of permission, or is not there.
#[test]
fn no_io_uring() {
    let scene = Scene::new();
    for errno in [libc::EPERM, libc::ENOSYS] {
        let mut command = scene.sum("good.csv");
        confine::without_io_uring(&mut command, errno);
        scene.refuses(&mut command, FAILURE, &["io_uring", "corefold doctor"]);
        // Nor is a data directory begun.
        let mut command = scene.sum("good.csv");
        confine::without_io_uring(command.args(["--data-dir", "data"]), errno);
        scene.refuses(&mut command, FAILURE, &["io_uring", "corefold doctor"]);
    }
}

/// Below what an executor asks for nothing starts; with little more, logs go without registered memory.
#[test]
fn too_little_locked_memory() {
    for kib in [0, 64, 511] {
        let scene = Scene::new();
        for more in [&[][..], &["--data-dir", "data"]] {
            let mut command = scene.sum("good.csv");
            confine::with_locked_memory(command.args(more), kib << 10);
            let words = ["512 KiB of locked memory", &format!("only {kib} KiB"), "ulimit -l 512", "corefold doctor"];
            scene.refuses(&mut command, FAILURE, &words);
        }
    }
    if !confine::is_root() {
        // What is locked counts per user: other tests that run now would take their part of it.
        skip("the second half of too_little_locked_memory: only root runs the other tests uncounted");
        return;
    }
    for more in [&[][..], &["--data-dir", "data"]] {
        let scene = Scene::new();
        let mut command = scene.sum("good.csv");
        confine::with_locked_memory(command.args(more), 2 << 20);
        let (output, _) = scene.answers(&mut command, Feed::Nothing);
        assert_eq!(output.lines().count(), 3, "{output}");
    }
}

/// Newer kernels count rings as locked memory: then some executors start and some cannot. It ends all the same.
#[test]
fn executors_of_which_some_cannot_start() {
    if !confine::is_root() {
        skip("executors_of_which_some_cannot_start: only root runs the other tests uncounted");
        return;
    }
    for shards in ["8", "16", "32"] {
        let scene = Scene::new();
        let mut command = scene.corefold(&["aggregate", "good.csv", "--time", "time", "--window", "1h", "--quiet"]);
        command.args(["--agg", "count()", "--output", "out.csv", "--shards", shards]);
        confine::with_locked_memory(&mut command, 512 << 10);
        let before = listing(scene.path());
        let finished = run_fed(&mut command, Feed::Nothing);
        if finished.code != Some(DONE) {
            expect_failure(&finished, FAILURE, &["corefold doctor", "locked memory"]);
            assert_eq!(listing(scene.path()), before);
        }
    }
}
