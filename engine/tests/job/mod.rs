//! A job whose files are sent to an engine that listens, and read by one that does not: both must give the same.
//!
//! What is done to the two ends in between is each test's.
#![allow(dead_code, reason = "every test binary uses a part of this")]

pub mod pki;

use crate::children::{Running, start};
use crate::support::events::disordered;
use crate::support::process::corefold;
use crate::support::scene::DONE;
use crate::support::text;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Nothing of this size takes that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"
[engine]
shards = 2
pull_interval = "10ms"
ENGINE

[[streams]]
name = "events"
time = { column = "time", max_delay = "5m" }
fields = { key = "string", flag = "bool", number = "i64", value = "f64" }

[[sources]]
stream = "events"
SOURCE

[[views]]
name = "quarters"
stream = "events"
by = ["key", "flag"]
window = { size = "1h", slide = "15m" }
aggregates = ["count(), sum(value), min(number), quantile(value, 0.9)TIES"]
[[views.exports]]
file = { path = "OUT/quarters.csv" }
[[views.exports]]
file = { path = "OUT/parts/", format = "ndjson", rotate = { every = "6h" } }
"#;

/// Files to send, a config that reads them, and one that listens.
pub struct Job {
    directory: tempfile::TempDir,
    pub inputs: Vec<PathBuf>,
    pub address: String,
}

impl Job {
    pub fn new(rows: &[usize], engine: &str) -> Job {
        Job::with(rows, engine, "", "")
    }

    /// The same with more keys of the listening source, and more tables at the end of its config.
    pub fn with(rows: &[usize], engine: &str, tcp: &str, tables: &str) -> Job {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let mut inputs = Vec::new();
        for (number, rows) in rows.iter().enumerate() {
            inputs.push(path(&format!("in-{number}.csv")));
            fs::write(&inputs[number], disordered(number as u64 + 1, *rows)).expect("a new file");
        }
        // A port that was free a moment ago; it stays the same over restarts.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let address = free.to_string();
        let names: Vec<&str> = inputs.iter().map(|path| text(path)).collect();
        let reads = format!("file = {{ path = {names:?} }}");
        let listens = format!("tcp = {{ listen = \"{address}\"{tcp} }}");
        // Between lanes of several producers, ties are decided by the producers' numbers.
        let config = CONFIG.replace("TIES", if rows.len() == 1 { ", first(value), last(value)" } else { "" });
        let plain = config.replace("ENGINE", "").replace("SOURCE", &reads).replace("OUT", "plain");
        fs::write(path("plain.toml"), plain).expect("a new file");
        let listening = config.replace("ENGINE", engine).replace("SOURCE", &listens).replace("OUT", "out");
        fs::write(path("net.toml"), listening + &tables.replace("ADDRESS", &address)).expect("a new file");
        Job { directory, inputs, address }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn run(&self, config: &str) -> Command {
        let mut command = corefold(&["run", text(&self.path(config)), "--progress", "never"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    pub fn send(&self, more: &[&str]) -> Command {
        self.send_to(&self.address, more)
    }

    pub fn send_to(&self, address: &str, more: &[&str]) -> Command {
        let inputs: Vec<&str> = self.inputs.iter().map(|path| text(path)).collect();
        let config = self.path("net.toml");
        let fixed = ["--to", address, "--config", text(&config), "--progress", "never", "--batch-rows", "500"];
        let mut command = corefold(&[&["send"], &inputs[..], &fixed, more].concat());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// What reading the files gives.
    pub fn expected(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        start(&mut self.run("plain.toml")).end(PATIENCE).with_code(DONE);
        files(&self.path("plain"))
    }

    pub fn server(&self) -> Running {
        let mut server = start(&mut self.run("net.toml"));
        server.until(PATIENCE, "it listens", |server| server.said().contains("listening on"));
        server
    }

    #[track_caller]
    pub fn same(&self, expected: &BTreeMap<PathBuf, Vec<u8>>) {
        let found = files(&self.path("out"));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        let differs: Vec<&PathBuf> = found.keys().filter(|name| found[*name] != expected[*name]).collect();
        assert!(differs.is_empty(), "{differs:?}");
    }
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

pub const DURABLE: &str = "data_dir = \"store\"\nstop = \"drain\"\n[wal]\nsegment_size = \"1MiB\"\n[snapshot]\n\
                       wal_bytes = \"1MiB\"\nbatches = 20";
