//! `corefold run` with a data directory is killed, and asked to stop, at random moments and started again until its
//! input ends: every output file has the bytes of a run that nobody disturbed.
//!
//! Crashes between two steps in the file system are tested beside the exporters.

mod children;
mod support;

use children::{Ended, start};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::events::{Random, disordered};
use support::process::corefold;
use support::scene::{BAD_CONFIG, DONE, IO};
use support::text;

/// No run of this size takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two views with outputs of every kind.
const CONFIG: &str = r#"
[engine]
shards = 2
pull_interval = "10ms"
batch_rows = 2000

DATA_DIR

[[streams]]
name = "events"
time = { column = "time", max_delay = "5m" }
fields = { key = "string", flag = "bool", number = "i64", value = "f64" }

[[sources]]
stream = "events"
file = { path = ["in.csv"] }

[[views]]
name = "quarters"
stream = "events"
by = ["key", "flag"]
window = { size = "1h", slide = "15m" }
aggregates = ["count(), sum(value), min(number)"]
EXPORTS

[[views]]
name = "minutes"
stream = "events"
by = ["flag"]
window = { size = "1m" }
aggregates = ["count(), max(number)"]
[[views.exports]]
file = { path = "OUT/minutes.csv" }
[[views.exports]]
file = { path = "OUT/minutes.parquet" }
"#;

struct Job {
    directory: tempfile::TempDir,
}

impl Job {
    fn new(seed: u64, rows: usize) -> Job {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("in.csv"), disordered(seed, rows)).expect("a new file");
        let exports = ["csv", "ndjson", "parquet", "arrow"].map(|format| {
            let rotate = "rotate = { every = \"6h\", bytes = \"40KB\" }";
            format!("[[views.exports]]\nfile = {{ path = \"OUT/{format}/\", format = \"{format}\", {rotate} }}\n")
        });
        let config = CONFIG.replace("EXPORTS", &exports.concat());
        let write = |name: &str, config: String| fs::write(directory.path().join(name), config).expect("a new file");
        write("plain.toml", config.replace("DATA_DIR", "").replace("OUT", "plain"));
        // Snapshots and trimmed logs on the way.
        let durable = "[snapshot]\nwal_bytes = \"1MiB\"\nbatches = 20\n[wal]\nsegment_size = \"1MiB\"";
        let durable = config.replace("DATA_DIR", durable).replace("OUT", "out");
        write("durable.toml", durable.replace("[engine]", "[engine]\ndata_dir = \"store\""));
        Job { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, config: &str) -> Command {
        let mut command = corefold(&["run", text(&self.path(config)), "--progress", "never"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// What an undisturbed run without a data directory writes, and its ledgers.
    fn expected(&self) -> (BTreeMap<PathBuf, Vec<u8>>, Vec<String>, Duration) {
        let ended = start(&mut self.command("plain.toml")).end(PATIENCE).with_code(DONE);
        (files(&self.path("plain")), ledgers(&ended), ended.took)
    }
}

fn ledgers(ended: &Ended) -> Vec<String> {
    ended.stderr.lines().filter(|line| line.starts_with("ledger")).map(str::to_owned).collect()
}

/// All files below a directory.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below").to_path_buf();
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

/// Files that have their names.
fn complete(files: &BTreeMap<PathBuf, Vec<u8>>) -> impl Iterator<Item = (&PathBuf, &Vec<u8>)> {
    files.iter().filter(|(path, _)| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
}

#[track_caller]
fn same(found: &BTreeMap<PathBuf, Vec<u8>>, expected: &BTreeMap<PathBuf, Vec<u8>>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let differs: Vec<&PathBuf> = found.keys().filter(|name| found[*name] != expected[*name]).collect();
    assert!(differs.is_empty(), "{differs:?}");
}

#[test]
fn killed_and_stopped_again_and_again() {
    let job = Job::new(1, 150_000);
    let (expected, ledger, took) = job.expected();
    for format in ["csv", "ndjson", "parquet", "arrow"] {
        assert!(expected.keys().filter(|path| path.starts_with(format)).count() > 5, "{format}");
    }
    let mut random = Random::new(7);
    let (mut kills, mut stops) = (0, 0);
    for round in 0..2 {
        let mut longest = took / 3;
        for attempt in 0.. {
            let life = Duration::from_micros(random.below(longest.as_micros() as u64));
            // Ever longer lives, so that each round ends.
            longest = longest * 5 / 4;
            let mut running = start(&mut job.command("durable.toml"));
            let ended = if attempt % 3 == 1 {
                std::thread::sleep(life);
                running.ask_to_stop(PATIENCE);
                stops += 1;
                running.end(PATIENCE)
            } else {
                kills += 1;
                running.kill_after(life)
            };
            if !ended.was_killed() {
                let ended = ended.with_code(DONE);
                if complete(&files(&job.path("out"))).count() == expected.len() {
                    assert_eq!(ledgers(&ended), ledger, "{}", ended.stderr);
                    break;
                }
            }
            if job.path("out").exists() {
                for (path, bytes) in complete(&files(&job.path("out"))) {
                    assert!(expected.get(path) == Some(bytes), "{} in round {round}", path.display());
                }
            }
        }
        same(&files(&job.path("out")), &expected);
        // Its logs have lost their first segments, and are as they should be.
        for shown in [&["inspect", "wal"][..], &["verify"]] {
            let mut command = corefold(&[shown, &[text(&job.path("store"))]].concat());
            start(command.stdout(Stdio::null())).end(PATIENCE).with_code(DONE);
        }
        // Without its manifest or a log no start would go on, and it says so.
        for part in ["manifest.ndjson", "shard-0000/wal"] {
            let (place, away) = (job.path("store").join(part), job.path("away"));
            fs::rename(&place, &away).expect("a part of the store");
            start(corefold(&["verify", text(&job.path("store"))]).stdout(Stdio::null())).end(PATIENCE).with_code(1);
            fs::rename(&away, &place).expect("a part of the store");
        }
        // Once more: nothing is left to do, and nothing that was taken away comes back.
        fs::remove_file(job.path("out/minutes.csv")).expect("an output");
        start(&mut job.command("durable.toml")).end(PATIENCE).with_code(DONE);
        assert_eq!(files(&job.path("out")).len() + 1, expected.len());
        fs::remove_dir_all(job.path("out")).expect("outputs");
        fs::remove_dir_all(job.path("store")).expect("a store");
    }
    assert!(kills >= 2 && stops >= 2, "{kills} kills, {stops} stops");
}

/// Where the file grows that the newest line about an export says is open, if it has some bytes.
fn open_part(manifest: &Path, export: &str) -> Option<PathBuf> {
    let lines = fs::read_to_string(manifest).ok()?;
    let newest = lines.lines().rev().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let newest = newest.into_iter().find(|line| line["export"].as_str().is_some_and(|path| path.ends_with(export)))?;
    let is_open = newest["state"] == "open" && newest["bytes"].as_u64() > Some(20);
    newest["aside"].as_str().filter(|_| is_open).map(PathBuf::from)
}

/// The manifest of a run that was killed, and outputs that somebody has touched meanwhile.
#[test]
fn unfinished_outputs_that_were_touched_are_refused() {
    let job = Job::new(2, 150_000);
    let (expected, _, took) = job.expected();
    let manifest = job.path("store/manifest.ndjson");
    let mut life = took / 4;
    let part = loop {
        let was_killed = start(&mut job.command("durable.toml")).kill_after(life).was_killed();
        life = if was_killed { life * 5 / 4 } else { took / 4 };
        if let Some(part) = open_part(&manifest, "/out/csv/").filter(|_| was_killed) {
            break part;
        }
        if !was_killed {
            fs::remove_dir_all(job.path("out")).expect("outputs");
            fs::remove_dir_all(job.path("store")).expect("a store");
        }
    };
    let refuse = |words: &[&str]| {
        let ended = start(&mut job.command("durable.toml")).end(PATIENCE).with_code(IO);
        for word in words {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
    };
    let bytes = fs::read(&part).expect("a part");
    let mut changed = bytes.clone();
    changed[10] ^= 1;
    fs::write(&part, &changed).expect("a part");
    refuse(&[text(&part), "was changed since it was committed", "restore it from a copy"]);
    fs::write(&part, &bytes[..20]).expect("a part");
    refuse(&[text(&part), "it has 20 bytes, and "]);
    fs::remove_file(&part).expect("a part");
    refuse(&[text(&part), "is missing, though "]);
    fs::write(&part, &bytes).expect("a part");
    // Without its manifest a directory does not know what is written.
    let text_of_manifest = fs::read(&manifest).expect("a manifest");
    fs::remove_file(&manifest).expect("a manifest");
    refuse(&["manifest.ndjson is missing", "restore it from a copy"]);
    let mut damaged = text_of_manifest.clone();
    damaged[30] ^= 1;
    fs::write(&manifest, &damaged).expect("a manifest");
    refuse(&["is damaged: line 1 (byte 0)", "inspect manifest"]);
    let shown = start(corefold(&["inspect", "manifest", text(&job.path("store"))]).stdout(Stdio::null())).end(PATIENCE);
    shown.with_code(1);
    fs::write(&manifest, &text_of_manifest).expect("a manifest");
    // All as it was: it goes on to the end.
    start(&mut job.command("durable.toml")).end(PATIENCE).with_code(DONE);
    same(&files(&job.path("out")), &expected);
}

/// A manifest from a copy, older than the panes: the start is refused before it touches anything, and the right manifest
/// still goes on.
#[test]
fn an_older_manifest_is_refused_and_harms_nothing() {
    let job = Job::new(4, 600_000);
    // The single Parquet file is committed at the very end and keeps all windows until then.
    let config = fs::read_to_string(job.path("durable.toml")).expect("a config");
    let (parquet, parts) = ("[[views.exports]]\nfile = { path = \"out/minutes.parquet\" }\n", "out/parquet/");
    assert!(config.contains(parquet) && config.contains(parts));
    let config = config.replace(parquet, "").replace(parts, "out/more-csv/").replace("\"parquet\"", "\"csv\"");
    let config = config.replace("out/arrow/", "out/more-ndjson/").replace("\"arrow\"", "\"ndjson\"");
    fs::write(job.path("durable.toml"), &config).expect("a config");
    let plain = config.replace("data_dir = \"store\"", "").replace("out/", "plain/");
    fs::write(job.path("plain.toml"), plain).expect("a config");
    let (expected, _, took) = job.expected();
    let manifest = job.path("store/manifest.ndjson");
    let another = "\n[[views.exports]]\nfile = { path = \"out/new.csv\" }\n";
    fs::write(job.path("another.toml"), format!("{config}{another}")).expect("a config");
    // How far a run comes, and when windows are given up, depends on the machine: many lives are tried.
    let mut life = took / 16;
    for _ in 0..80 {
        let copies: Vec<Vec<u8>> = (0..3).map_while(|_| stopped_early(&job, life, &manifest)).collect();
        let before = files(&job.path("out"));
        if copies.len() == 3 && is_refused(&job, &manifest, &copies[0]) {
            assert_eq!(files(&job.path("out")).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
            same(&files(&job.path("out")), &before);
            fs::write(&manifest, &copies[2]).expect("a manifest");
            start(&mut job.command("durable.toml")).end(PATIENCE).with_code(DONE);
            return same(&files(&job.path("out")), &expected);
        }
        life = if copies.len() < 3 { life * 2 / 3 } else { life * 3 / 2 };
        fs::remove_dir_all(job.path("out")).expect("outputs");
        fs::remove_dir_all(job.path("store")).expect("a store");
    }
    panic!("no run was stopped at a moment at which its windows were given up");
}

/// A run that is asked to stop before its end; its manifest, if it was.
fn stopped_early(job: &Job, life: Duration, manifest: &Path) -> Option<Vec<u8>> {
    let mut running = start(&mut job.command("durable.toml"));
    std::thread::sleep(life);
    running.ask_to_stop(PATIENCE);
    running.end(PATIENCE).with_code(DONE);
    open_part(manifest, "/out/csv/")?;
    fs::read(manifest).ok()
}

/// Whether the start with an older manifest is refused, also with an export that is new; `false` if no window has gone
/// since the copy was made.
fn is_refused(job: &Job, manifest: &Path, older: &[u8]) -> bool {
    fs::write(manifest, older).expect("a manifest");
    ["durable.toml", "another.toml"].into_iter().all(|config| {
        let ended = start(&mut job.command(config)).end(PATIENCE);
        if ended.code == Some(DONE) {
            return false;
        }
        let ended = ended.with_code(IO);
        assert!(ended.stderr.contains("the manifest is older than the panes"), "{}", ended.stderr);
        assert!(ended.stderr.contains(text(manifest)), "{}", ended.stderr);
        true
    })
}

#[test]
fn two_exports_to_one_place_are_refused() {
    let job = Job::new(3, 10);
    let config = fs::read_to_string(job.path("durable.toml")).expect("a config");
    fs::create_dir_all(job.path("out/csv")).expect("a directory");
    std::os::unix::fs::symlink(job.path("out"), job.path("link")).expect("a link");
    for other in ["out/./csv/", "out/minutes/../csv/", "link/csv/", "out//csv/"] {
        let twice = config.replace("out/ndjson/", other).replace("format = \"ndjson\"", "format = \"csv\"");
        fs::write(job.path("twice.toml"), twice).expect("a config");
        let ended = start(&mut corefold(&["check", text(&job.path("twice.toml"))])).end(PATIENCE).with_code(BAD_CONFIG);
        assert!(ended.stderr.contains("another export writes there already, on line "), "{other}: {}", ended.stderr);
    }
}
