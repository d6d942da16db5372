//! `corefold verify`, `inspect snapshot` and `inspect panes` on the data directory of a job with snapshots, a pane log and
//! outputs: what is sound, what is damaged, and `salvage` where snapshots or the pane log are.
//!
//! Logs without snapshots are in `salvage.rs`.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::events::disordered;
use support::process::{bytes_of, corefold, run};
use support::scene::{DONE, FAILURE, IO};
use support::{listing, text};

const CONFIG: &str = r#"
[engine]
data_dir = "state"
shards = 2
routing = "round-robin"
batch_rows = 100
[snapshot]
wal_bytes = "64KiB"
batches = 4
[[streams]]
name = "s"
time = { column = "time", max_delay = "5m" }
fields = { key = "string", number = "i64", value = "f64" }
[[sources]]
stream = "s"
file = { path = "in.csv" }
[[views]]
name = "v"
stream = "s"
by = ["key"]
window = { size = "1h", slide = "15m" }
aggregates = ["count()", "sum(number)", "top(key, 2)"]
[[views.exports]]
file = { path = "out/", format = "csv" }
"#;

const ROWS: usize = 3_000;

/// A finished job.
struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("in.csv"), disordered(11, ROWS)).expect("a new file");
        fs::write(directory.path().join("engine.toml"), CONFIG).expect("a new file");
        let scene = Scene { directory };
        let ended = scene.corefold(&["run", text(&scene.path("engine.toml")), "--progress", "never"]);
        assert_eq!(ended.0, Some(DONE), "{}", ended.1);
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Exit code, and all that was said.
    fn corefold(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let ended = run(&mut corefold(arguments));
        (ended.code, String::from_utf8_lossy(&ended.stdout).into_owned() + &ended.stderr)
    }

    fn on_state(&self, command: &[&str], options: &[&str]) -> (Option<i32>, String) {
        let state = self.state();
        self.corefold(&[command, &[text(&state)], options].concat())
    }

    fn again(&self) -> (Option<i32>, String) {
        self.corefold(&["run", text(&self.path("engine.toml")), "--progress", "never"])
    }

    /// Every file below, by its path within.
    fn content(&self, of: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = listing(of).into_iter().filter(|path| of.join(path).is_file());
        files.map(|path| (path.clone(), bytes_of(&of.join(path)))).collect()
    }

    fn snapshots(&self, shard: u32) -> Vec<PathBuf> {
        let directory = self.state().join(format!("shard-{shard:04}"));
        let names = listing(&directory).into_iter().filter(|path| path.extension().is_some_and(|e| e == "snap"));
        names.map(|name| directory.join(name)).collect()
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = bytes_of(path);
    bytes[at] ^= 4;
    fs::write(path, bytes).expect("a file");
}

fn values(told: &str) -> Vec<Value> {
    told.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[track_caller]
fn has(told: &str, parts: &[&str]) {
    for part in parts {
        assert!(told.contains(part), "`{part}` is missing in:\n{told}");
    }
}

#[test]
fn what_is_sound_is_called_so_and_left_alone() {
    let scene = Scene::new();
    let before = scene.content(scene.directory.path());
    let (code, told) = scene.on_state(&["verify"], &[]);
    assert_eq!(code, Some(DONE), "{told}");
    let ledger = format!("ledger: received {ROWS} = accepted ");
    has(
        &told,
        &[
            "pane log: sound",
            "snapshot-0",
            "shard 0: log sound",
            "shard 1: log sound",
            &ledger,
            "\noutput ",
            "\nsound\n",
        ],
    );
    let (_, told) = scene.on_state(&["verify"], &["--json"]);
    let values = values(&told);
    let of_type = |name: &str| values.iter().filter(|value| value["type"] == name).count();
    assert_eq!((of_type("snapshot"), of_type("log"), of_type("pane log"), of_type("finding")), (4, 2, 1, 0), "{told}");
    assert_eq!(values.last().map(|end| &end["findings"]), Some(&0.into()));

    let (code, told) = scene.on_state(&["inspect", "snapshot"], &[]);
    assert_eq!(code, Some(DONE), "{told}");
    has(
        &told,
        &[
            "header   ok: store ",
            "generation 2",
            "head     frontier ",
            "  end      sound",
            "recovery begins with generation",
        ],
    );
    let (code, told) = scene.on_state(&["inspect", "panes"], &["--json"]);
    assert_eq!(code, Some(DONE), "{told}");
    let (pulled, panes) = (told.matches("\"type\":\"pulled\"").count(), told.matches("\"type\":\"pane\"").count());
    assert!(pulled > 0 && panes > 0, "{told}");
    assert_eq!(scene.on_state(&["salvage"], &[]).0, Some(DONE));
    assert!(scene.content(scene.directory.path()) == before, "a look has changed something");
}

/// One flipped bit in every kind of place: found, with the file named, and nothing else is said to be damaged.
#[test]
fn every_flipped_bit_is_found() {
    let scene = Scene::new();
    let state = scene.state();
    let whole = scene.content(&state);
    let mut places: Vec<(PathBuf, usize)> = vec![
        (state.join("store.json"), 20),
        (state.join("panes/wal/00000000000000000001.wal"), 4096 + 80),
        (state.join("shard-0000/wal/00000000000000000001.wal"), 30),
        (state.join("shard-0001/birth"), 3),
        (state.join("manifest.ndjson"), 40),
    ];
    for path in scene.snapshots(0) {
        let length = bytes_of(&path).len();
        places.extend(
            [5, 100, 4096 + 9, length / 2 / 16 * 16 + 4096.min(length / 4), length - 3].map(|at| (path.clone(), at)),
        );
    }
    let output =
        listing(&scene.path("out")).into_iter().map(|name| scene.path("out").join(name)).find(|path| path.is_file());
    places.push((output.expect("an output"), 50));
    for (path, at) in places {
        let before = bytes_of(&path);
        flip(&path, at.min(before.len() - 1));
        let (code, told) = scene.on_state(&["verify"], &[]);
        assert_eq!(code, Some(FAILURE), "{}, byte {at}: {told}", path.display());
        has(&told, &["FINDING "]);
        if path.extension().is_some_and(|extension| extension == "snap") {
            let (code, told) = scene.corefold(&["inspect", "snapshot", text(&path)]);
            assert_eq!(code, Some(FAILURE), "{told}");
            has(&told, &["REFUSED: "]);
        }
        fs::write(&path, before).expect("a file");
    }
    assert!(scene.content(&state) == whole);
    let (code, told) = scene.corefold(&["inspect", "panes", text(&scene.path("out"))]);
    assert_eq!(code, Some(IO), "{told}");
    has(&told, &["holds no pane log"]);
    assert_eq!(scene.corefold(&["verify", text(&scene.path("out"))]).0, Some(IO));
}

#[test]
fn a_shard_without_a_sound_snapshot_begins_anew_and_the_job_goes_on() {
    let scene = Scene::new();
    let outputs = scene.content(&scene.path("out"));
    for path in scene.snapshots(0) {
        flip(&path, 60);
    }
    // Where the log still reaches back to its beginning, recovery needs no salvage.
    let segment = scene.state().join("shard-0000/wal/00000000000000000001.wal");
    fs::rename(&segment, scene.path("lost")).expect("a segment");
    let (code, told) = scene.again();
    assert_eq!(code, Some(IO), "{told}");
    let before = scene.content(&scene.state());
    let (code, told) = scene.on_state(&["salvage"], &[]);
    assert_eq!(code, Some(FAILURE), "{told}");
    has(&told, &["shard 0: refused", "lost: everything in it", "Nothing was changed"]);
    assert!(scene.content(&scene.state()) == before);
    let (code, told) = scene.on_state(&["salvage"], &["--yes"]);
    assert_eq!(code, Some(DONE), "{told}");
    assert_eq!(scene.snapshots(0), [] as [PathBuf; 0], "damaged snapshots are set aside");
    let (code, told) = scene.again();
    assert_eq!(code, Some(DONE), "{told}");
    assert!(scene.content(&scene.path("out")) == outputs, "windows that were given out are not given out again");
    let (code, told) = scene.on_state(&["verify"], &[]);
    assert_eq!(code, Some(DONE), "{told}");
    has(&told, &["something was given up here before"]);
}

/// What the shards have let go is in the pane log alone; without it there may be nothing to go on with.
#[test]
fn a_damaged_pane_log_is_made_good_or_called_lost() {
    let scene = Scene::new();
    let path = scene.state().join("panes/wal/00000000000000000001.wal");
    flip(&path, 4096 + 200);
    assert_eq!(scene.again().0, Some(IO));
    let before = scene.content(&scene.state());
    let (code, told) = scene.on_state(&["salvage"], &["--yes"]);
    match code {
        Some(DONE) => {
            let (code, told) = scene.again();
            assert_eq!(code, Some(DONE), "{told}");
        }
        Some(FAILURE) => {
            has(&told, &["nothing that a salvage can make good", "pane log", "Nothing was changed"]);
            assert!(scene.content(&scene.state()) == before);
        }
        other => panic!("{other:?}: {told}"),
    }
}
