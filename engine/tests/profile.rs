//! Profiles of a running engine: from the start and on a signal, complete, and without harm to the run.

mod children;
mod support;

use children::{make_fifo, start};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::process::corefold;
use support::scene::{DONE, USAGE};

const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"
[engine]
shards = 1
pull_interval = "10ms"

[[streams]]
name = "events"
time = { column = "time", unit = "s" }
fields = { key = "i64", value = "f64" }

[[sources]]
stream = "events"
file = { path = "in.csv" }

[[views]]
name = "sums"
stream = "events"
by = ["key"]
window = { size = "10s" }
aggregates = ["count()", "sum(value)"]

[[views.exports]]
file = { path = "out.csv", format = "csv" }
"#;

#[test]
fn profiles_are_taken_from_the_start_and_on_a_signal() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    fs::write(root.join("run.toml"), CONFIG).expect("room");
    make_fifo(&root.join("in.csv"));
    let arguments = ["run", "run.toml", "--profile", "--profile-for", "500ms", "--profile-dir", "profiles"];
    let mut command = corefold(&arguments);
    let mut child = start(command.current_dir(root).stdin(Stdio::null()).stdout(Stdio::null()));
    let enough = Arc::new(AtomicBool::new(false));
    let pouring = {
        let (path, enough) = (root.join("in.csv"), Arc::clone(&enough));
        std::thread::spawn(move || pour(&path, &enough))
    };
    child.until(PATIENCE, "the profile of the start", |child| child.said().contains("profiles/profile-1:"));
    child.signal(libc::SIGUSR2);
    child.until(PATIENCE, "the profile of the signal", |child| child.said().contains("profiles/profile-2:"));
    enough.store(true, Ordering::Relaxed);
    let rows = pouring.join().expect("the rows are written");
    let ended = child.end(PATIENCE);
    assert_eq!(ended.code, Some(DONE), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("received {rows} = aggregated {rows} ")), "{}", ended.stderr);
    for profile in ["profiles/profile-1", "profiles/profile-2"] {
        check_timeline(&root.join(profile).join("timeline.json"));
        let graphs = fs::read_dir(root.join(profile)).expect("the directory of a profile");
        let graphs = graphs.map(|entry| entry.expect("an entry").path());
        let graphs: Vec<_> = graphs.filter(|path| path.extension().is_some_and(|end| end == "svg")).collect();
        assert!(!graphs.is_empty(), "processor time was used, so there is a flame graph");
        for graph in graphs {
            let text = fs::read_to_string(&graph).expect("an SVG");
            assert!(text.contains("<svg") && text.trim_end().ends_with("</svg>"), "{}", graph.display());
        }
    }
}

#[test]
fn the_length_of_a_profile_has_bounds() {
    for wrong in ["1ms", "11m", "soon"] {
        let ended = support::process::run(&mut corefold(&["run", "none.toml", "--profile-for", wrong]));
        assert_eq!(ended.code, Some(USAGE), "{}", ended.stderr);
        assert!(ended.stderr.contains("--profile-for"), "{}", ended.stderr);
    }
}

/// Writes rows until it is enough; returns how many.
fn pour(path: &Path, enough: &AtomicBool) -> u64 {
    let mut pipe = OpenOptions::new().write(true).open(path).expect("a reader");
    pipe.write_all(b"time,key,value\n").expect("a reader");
    let mut row = 0;
    while !enough.load(Ordering::Relaxed) {
        let rows: String = (row..row + 1_000).map(|row| format!("{},{},{row}\n", row / 10_000, row % 97)).collect();
        pipe.write_all(rows.as_bytes()).expect("a reader");
        row += 1_000;
    }
    row
}

/// One track per thread, named; stages follow each other without overlap; counters are there.
fn check_timeline(path: &Path) {
    let value: Value = serde_json::from_slice(&fs::read(path).expect("a timeline")).expect("JSON");
    let events = value["traceEvents"].as_array().expect("events");
    let mut names = BTreeMap::new();
    let mut ends: BTreeMap<u64, f64> = BTreeMap::new();
    let mut counters = 0;
    for event in events {
        let thread = event["tid"].as_u64().unwrap_or(0);
        match event["ph"].as_str().expect("a phase") {
            "M" if event["name"] == "thread_name" => {
                names.insert(thread, event["args"]["name"].as_str().expect("a name").to_owned());
            }
            "X" => {
                let (start, length) = (event["ts"].as_f64().expect("a time"), event["dur"].as_f64().expect("a length"));
                let last = ends.entry(thread).or_insert(0.0);
                // Microseconds with three digits behind the point, added as doubles.
                assert!(start >= *last - 0.001, "{event} begins before {last}");
                *last = start + length;
            }
            "C" => counters += 1,
            _ => {}
        }
    }
    let seen: Vec<&str> = ends.keys().map(|thread| names[thread].as_str()).collect();
    for thread in ["reader", "parser", "dealer", "shard 0", "the coordinator", "exporter"] {
        assert!(seen.contains(&thread), "no stages of {thread} in {seen:?}");
    }
    assert!(counters > 0);
}
