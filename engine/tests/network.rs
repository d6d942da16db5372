//! `corefold send` to `corefold run`: what comes over the network gives the bytes that the same files give when they are
//! read, exactly once, whoever is killed in between.
//!
//! Both ends of the protocol over a network that does worse are tested in `corefold_shards`.

mod children;
mod support;

use children::{Running, start};
use corefold_aggregator::spec::{Field, FieldType, StreamSpec};
use corefold_client::{ClientConfig, RowSender, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::events::{Random, disordered};
use support::process::{Feed, corefold, run_fed};
use support::scene::DONE;
use support::text;

/// Nothing of this size takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

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
struct Job {
    directory: tempfile::TempDir,
    inputs: Vec<PathBuf>,
    address: String,
}

impl Job {
    fn new(rows: &[usize], engine: &str) -> Job {
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
        let listens = format!("tcp = {{ listen = \"{address}\" }}");
        // Between lanes of several producers, ties are decided by the producers' numbers.
        let config = CONFIG.replace("TIES", if rows.len() == 1 { ", first(value), last(value)" } else { "" });
        let plain = config.replace("ENGINE", "").replace("SOURCE", &reads).replace("OUT", "plain");
        fs::write(path("plain.toml"), plain).expect("a new file");
        let listening = config.replace("ENGINE", engine).replace("SOURCE", &listens).replace("OUT", "out");
        fs::write(path("net.toml"), listening).expect("a new file");
        Job { directory, inputs, address }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, config: &str) -> Command {
        let mut command = corefold(&["run", text(&self.path(config)), "--progress", "never"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn send(&self, more: &[&str]) -> Command {
        let inputs: Vec<&str> = self.inputs.iter().map(|path| text(path)).collect();
        let config = self.path("net.toml");
        let fixed = ["--to", &self.address, "--config", text(&config), "--progress", "never", "--batch-rows", "500"];
        let mut command = corefold(&[&["send"], &inputs[..], &fixed, more].concat());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// A producer of the config's stream.
    fn sender(&self, name: &str) -> RowSender {
        let field = |name: &str, kind| Field { name: name.to_owned(), kind };
        let fields = vec![
            field("key", FieldType::String),
            field("flag", FieldType::Bool),
            field("number", FieldType::I64),
            field("value", FieldType::F64),
        ];
        let delay_max = corefold_aggregator::time::Duration::ZERO;
        let stream = StreamSpec { name: "events".to_owned(), time: "time".to_owned(), delay_max, fields };
        let config = ClientConfig::new(&self.address, name, stream.fingerprint());
        RowSender::connect(config, &stream.fields).expect("a connection")
    }

    /// What reading the files gives.
    fn expected(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        start(&mut self.run("plain.toml")).end(PATIENCE).with_code(DONE);
        files(&self.path("plain"))
    }

    fn server(&self) -> Running {
        let mut server = start(&mut self.run("net.toml"));
        server.until(PATIENCE, "it listens", |server| server.said().contains("listening on"));
        server
    }

    #[track_caller]
    fn same(&self, expected: &BTreeMap<PathBuf, Vec<u8>>) {
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

const DURABLE: &str = "data_dir = \"store\"\nstop = \"drain\"\n[wal]\nsegment_size = \"1MiB\"\n[snapshot]\n\
                       wal_bytes = \"1MiB\"\nbatches = 20";

#[test]
fn what_is_sent_gives_what_is_read() {
    for engine in ["", DURABLE] {
        let job = Job::new(&[30_000, 20_000], engine);
        let expected = job.expected();
        let server = job.server();
        let sent = start(&mut job.send(&[])).end(PATIENCE).with_code(DONE);
        assert_eq!(sent.number_after("sent      "), Some(50_000), "{}", sent.stderr);
        // Once more: the server has it all.
        let again = start(&mut job.send(&[])).end(PATIENCE).with_code(DONE);
        assert_eq!(again.number_after("inputs    "), Some(2), "{}", again.stderr);
        server.signal(libc::SIGTERM);
        let ended = server.end(PATIENCE).with_code(DONE);
        assert!(ended.line_of("ledger").contains("received 50000 = aggregated"), "{}", ended.stderr);
        assert!(ended.line_of("ledger").contains("duplicate 0 + rejected 0 + shed 0"), "{}", ended.stderr);
        job.same(&expected);
        if !engine.is_empty() {
            start(corefold(&["verify", text(&job.path("store"))]).stdout(Stdio::null())).end(PATIENCE).with_code(DONE);
            let refused = start(&mut job.run("net.toml")).end(PATIENCE);
            assert!(refused.stderr.contains("its last run was drained"), "{}", refused.stderr);
        }
    }
}

#[test]
fn open_windows_are_kept_over_a_stop() {
    let job = Job::new(&[8_000], "data_dir = \"store\"");
    let expected = job.expected();
    let server = job.server();
    // Half of it under a name that lasts; then a stop; then all of it under the same name.
    let half = disordered(1, 8_000).lines().take(4_001).collect::<Vec<_>>().join("\n");
    let whole = fs::read(&job.inputs[0]).expect("an input");
    fs::write(&job.inputs[0], half).expect("an input");
    start(&mut job.send(&["--producer", "p"])).end(PATIENCE).with_code(DONE);
    server.signal(libc::SIGTERM);
    let ended = server.end(PATIENCE).with_code(DONE);
    assert!(ended.stderr.contains("read      4,000 rows"), "{}", ended.stderr);
    fs::write(&job.inputs[0], whole).expect("an input");
    let config = fs::read_to_string(job.path("net.toml")).expect("a config");
    fs::write(job.path("net.toml"), config.replace("\"store\"", "\"store\"\nstop = \"drain\"")).expect("a config");
    let server = job.server();
    let sent = start(&mut job.send(&["--producer", "p", "--end"])).end(PATIENCE).with_code(DONE);
    assert_eq!(sent.number_after("known before "), Some(8), "{}", sent.stderr);
    server.signal(libc::SIGTERM);
    server.end(PATIENCE).with_code(DONE);
    job.same(&expected);
}

/// What comes through a pipe does not come again: under the same name each run goes on behind the one before.
#[test]
fn a_pipe_goes_on_under_its_name() {
    let job = Job::new(&[6_000], DURABLE);
    let expected = job.expected();
    let server = job.server();
    let whole = fs::read_to_string(&job.inputs[0]).expect("an input");
    let lines: Vec<&str> = whole.lines().collect();
    let config = job.path("net.toml");
    for half in [&lines[1..2_500], &lines[2_500..]] {
        let bytes = [&lines[..1], half].concat().join("\n").into_bytes();
        let mut command = corefold(&["send", "-", "--format", "csv", "--to", &job.address, "--config", text(&config)]);
        command.args(["--producer", "pipe", "--batch-rows", "300"]);
        assert_eq!(run_fed(&mut command, Feed::Bytes(bytes)).code, Some(DONE));
    }
    server.signal(libc::SIGTERM);
    server.end(PATIENCE).with_code(DONE);
    job.same(&expected);
}

#[test]
fn exactly_once_whoever_is_killed() {
    let job = Job::new(&[400_000, 300_000], DURABLE);
    let expected = job.expected();
    let mut random = Random::new(5);
    let (mut servers, mut clients) = (0, 0);
    let mut life = 60;
    let mut server = job.server();
    let sent = 'sent: loop {
        let mut client = start(&mut job.send(&[]));
        loop {
            // Ever longer lives, so that the end is reached.
            life += 10;
            std::thread::sleep(Duration::from_millis(random.below(life)));
            match random.below(3) {
                0 => {
                    server.kill_after(Duration::ZERO);
                    servers += 1;
                    server = job.server();
                }
                1 => {
                    let ended = client.kill_after(Duration::ZERO);
                    if !ended.was_killed() {
                        break 'sent ended;
                    }
                    clients += 1;
                    continue 'sent;
                }
                _ => {}
            }
            if life > 1500 {
                break 'sent client.end(PATIENCE);
            }
            if client.has_ended() {
                break 'sent client.end(PATIENCE);
            }
        }
    };
    sent.with_code(DONE);
    assert!(servers >= 2 && clients >= 2, "{servers} servers, {clients} clients");
    server.signal(libc::SIGTERM);
    server.end(PATIENCE).with_code(DONE);
    job.same(&expected);
    start(corefold(&["verify", text(&job.path("store"))]).stdout(Stdio::null())).end(PATIENCE).with_code(DONE);
}

/// What is sent to a server that is halted for longer than `idle_timeout` is not taken for silence when it goes on.
#[test]
fn a_server_that_was_halted_takes_nobody_for_silent() {
    let job = Job::new(&[10], DURABLE);
    let config = fs::read_to_string(job.path("net.toml")).expect("a config");
    let hasty = config.replace("max_delay = \"5m\"", "max_delay = \"5m\", idle_timeout = \"1s\"");
    assert_ne!(config, hasty);
    fs::write(job.path("net.toml"), hasty).expect("a config");
    let server = job.server();
    let mut slow = job.sender("slow");
    let mut fast = job.sender("fast");
    let minutes = |sender: &mut RowSender, minutes: std::ops::Range<i64>| {
        for minute in minutes {
            let values = [Value::Text("key"), Value::Bool(true), Value::I64(minute), Value::F64(0.5)];
            sender.row(minute * 60_000_000, &values).expect("sent");
        }
        sender.send()
    };
    minutes(&mut slow, 0..30).and_then(|()| slow.flush()).expect("durable");
    minutes(&mut fast, 0..600).and_then(|()| fast.flush()).expect("durable");
    server.signal(libc::SIGSTOP);
    minutes(&mut slow, 30..600).expect("sent");
    // Into the buffers of the system, from which nobody reads.
    for _ in 0..50 {
        slow.send().expect("a turn");
    }
    std::thread::sleep(Duration::from_secs(3));
    server.signal(libc::SIGCONT);
    slow.flush().expect("durable");
    server.signal(libc::SIGTERM);
    let ended = server.end(PATIENCE).with_code(DONE);
    let ledger = ended.line_of("ledger");
    assert!(ledger.contains("received 1200 = aggregated 1200 + late 0"), "{}", ended.stderr);
}

#[test]
fn strangers_do_no_harm() {
    let job = Job::new(&[20_000], DURABLE);
    let expected = job.expected();
    let mut server = job.server();
    let connect = || TcpStream::connect(&job.address).expect("a connection");
    let silent = connect();
    for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 64], &[0xFF; 4096]] {
        let mut stranger = connect();
        // It may be sent away before all is written.
        let _ = stranger.write_all(garbage);
        stranger.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut said = Vec::new();
        let _ = stranger.read_to_end(&mut said);
    }
    let mut wrong =
        corefold(&["send", text(&job.inputs[0]), "--to", &job.address, "--stream", "other", "--time", "time"]);
    let refused = start(wrong.stdin(Stdio::null()).stdout(Stdio::null())).end(PATIENCE).with_code(1);
    assert!(refused.stderr.contains("no stream that is taken here has the fingerprint"), "{}", refused.stderr);
    let late = start(&mut job.send(&["--deadline", "0s", "--producer", "late"])).end(PATIENCE).with_code(DONE);
    assert_eq!(late.number_after("shed "), Some(40), "{}", late.stderr);
    start(&mut job.send(&[])).end(PATIENCE).with_code(DONE);
    server.until(PATIENCE, "the silent one is sent away", |_| {
        silent.set_read_timeout(Some(PATIENCE)).is_ok() && (&silent).read(&mut [0; 1]).is_ok()
    });
    server.signal(libc::SIGTERM);
    let ended = server.end(PATIENCE).with_code(DONE);
    assert!(ended.line_of("ledger").contains("shed 20000"), "{}", ended.stderr);
    assert!(ended.number_after("sessions, ") >= Some(4), "{}", ended.stderr);
    job.same(&expected);
}
