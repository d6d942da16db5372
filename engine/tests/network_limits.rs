//! Limits of the door and of sessions on the real program: whoever exceeds one is told which, it is counted by its reason
//! and logged at a bounded rate, and others go on.
//!
//! What comes through in order is tested in `network.rs`.

mod children;
mod support;

use children::{Ended, Running, start};
use corefold_shards::session::frame::write;
use corefold_shards::session::{Code, FrameKind, FrameReader, Hello, Level, Refusal};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::events::disordered;
use support::process::corefold;
use support::scene::DONE;
use support::text;

/// Nothing here takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"
[engine]
shards = 1
data_dir = "store"

[[streams]]
name = "events"
time = { column = "time", max_delay = "5m" }
fields = { key = "string", flag = "bool", number = "i64", value = "f64" }

[[sources]]
stream = "events"
tcp = { listen = "ADDRESS", LIMITS }

[[views]]
name = "hours"
stream = "events"
window = { size = "1h" }
aggregates = ["count()"]
"#;

/// A server with limits.
struct Served {
    directory: tempfile::TempDir,
    address: String,
    fingerprint: u64,
    server: Running,
}

impl Served {
    fn new(limits: &str) -> Served {
        let directory = tempfile::tempdir().expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let address = free.to_string();
        let config = directory.path().join("net.toml");
        let limited = CONFIG.replace("ADDRESS", &address).replace("LIMITS", limits);
        fs::write(&config, limited).expect("a new file");
        let mut command = corefold(&["run", text(&config), "--progress", "never"]);
        let mut server = start(command.stdin(Stdio::null()).stdout(Stdio::null()));
        server.until(PATIENCE, "it listens", |server| server.said().contains("listening on"));
        let fingerprint = fingerprint();
        Served { directory, address, fingerprint, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn stranger(&self) -> Stranger {
        let socket = TcpStream::connect(&self.address).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Stranger { socket, reader: FrameReader::new(1 << 20) }
    }

    /// One who has said hello and was let in.
    fn guest(&self, lane: u32) -> Stranger {
        let mut guest = self.stranger();
        guest.hello(self.fingerprint, lane);
        assert_eq!(guest.hear(), Some(FrameKind::Welcome));
        guest
    }

    fn send(&self, rows: usize) -> Command {
        let input = self.path("in.csv");
        fs::write(&input, disordered(1, rows)).expect("a new file");
        let config = self.path("net.toml");
        let to = ["--to", &self.address, "--config", text(&config), "--progress", "never", "--batch-rows", "500"];
        let mut command = corefold(&[&["send", text(&input)], &to[..]].concat());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn stop(self) -> Ended {
        self.server.signal(libc::SIGTERM);
        self.server.end(PATIENCE).with_code(DONE)
    }
}

/// Of the stream in the config.
fn fingerprint() -> u64 {
    use corefold_aggregator::spec::{Field, FieldType, StreamSpec};
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    let fields = vec![
        field("key", FieldType::String),
        field("flag", FieldType::Bool),
        field("number", FieldType::I64),
        field("value", FieldType::F64),
    ];
    let delay_max = corefold_aggregator::time::Duration::ZERO;
    StreamSpec { name: "events".to_owned(), time: "time".to_owned(), delay_max, fields }.fingerprint()
}

/// A client that does as it likes.
struct Stranger {
    socket: TcpStream,
    reader: FrameReader,
}

impl Stranger {
    fn say(&mut self, bytes: &[u8]) {
        // It may be sent away before all is written.
        let _ = self.socket.write_all(bytes);
    }

    fn hello(&mut self, fingerprint: u64, lane: u32) {
        self.hello_of("stranger", 1, fingerprint, lane);
    }

    fn hello_of(&mut self, producer: &str, attempt: u64, fingerprint: u64, lane: u32) {
        let mut bytes = Vec::new();
        let (producer, level) = (producer.to_owned(), Level::Durable);
        Hello { version: 1, lane, fingerprint, level, attempt, producer, credentials: Vec::new() }.write(&mut bytes);
        self.say(&bytes);
    }

    /// The next frame, but for signs of life; `None` at the end.
    fn hear(&mut self) -> Option<FrameKind> {
        loop {
            let count = self.socket.read(self.reader.space()).ok().filter(|count| *count > 0)?;
            match self.reader.filled(count).expect("an honest server") {
                None | Some(FrameKind::Ping) => {}
                kind => return kind,
            }
        }
    }

    /// Why it is sent away.
    #[track_caller]
    fn refusal(&mut self) -> (Code, String) {
        while let Some(kind) = self.hear() {
            if kind == FrameKind::Refusal {
                let refusal = Refusal::read(self.reader.control()).expect("a refusal");
                return (refusal.code, refusal.text);
            }
        }
        panic!("the connection has ended without a reason");
    }
}

/// The header of a frame that announces so many bytes.
fn header(kind: FrameKind, size: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    write(kind, &vec![0; size], &mut frame);
    frame.truncate(16);
    frame
}

#[test]
fn each_limit_is_told_and_counted_by_its_reason() {
    let served = Served::new(
        r#"batch_size_max = "64KiB", hello_timeout = "1s", silence_timeout = "2s", byte_rate_min = "1MiB",
        byte_rate_grace = "1s", connections_per_shard_max = 2, lanes_max = 3, connections_per_address_max = 4"#,
    );
    let says = |mut stranger: Stranger, bytes: &[u8]| {
        stranger.say(bytes);
        stranger.refusal()
    };
    let said = says(served.stranger(), b"");
    assert_eq!(said, (Code::TooSlow, "the hello took too long".to_owned()));
    let said = says(served.stranger(), &header(FrameKind::Batch, (64 << 10) + 8));
    assert_eq!((said.0, said.1.contains("announces a payload of 65544 bytes")), (Code::Limit, true), "{said:?}");
    assert_eq!(says(served.stranger(), &[b'x'; 16]).0, Code::Protocol);
    // A quarter of a frame, and no more of it.
    let slow = [header(FrameKind::Batch, 1024), vec![0; 256]].concat();
    assert_eq!(says(served.guest(1), &slow), (Code::TooSlow, "a frame came too slowly".to_owned()));
    let said = says(served.guest(1), b"");
    assert_eq!((said.0, said.1.contains("nothing came for too long")), (Code::TooSlow, true), "{said:?}");

    let two = [served.guest(1), served.guest(2)];
    let mut third = served.stranger();
    third.hello(served.fingerprint, 3);
    assert_eq!(third.refusal().0, Code::Busy);
    // More than one address may have, whether they say anything or not.
    let mut many: Vec<Stranger> = (0..4).map(|_| served.stranger()).collect();
    let said = many.pop().expect("four").refusal();
    assert_eq!((said.0, said.1.contains("from this address")), (Code::Busy, true), "{said:?}");
    drop((two, many));
    served.server_lets_in(4);
    // Lanes 1, 2 and 4 are known.
    let mut fifth = served.stranger();
    fifth.hello(served.fingerprint, 5);
    let said = fifth.refusal();
    assert_eq!((said.0, said.1.contains("there are 3 lanes")), (Code::Limit, true), "{said:?}");

    let ended = served.stop();
    let summary = ended.line_of("network");
    for reason in [
        "hello timeout ",
        "frame size 1",
        "protocol 1",
        "byte rate 1",
        "silence timeout ",
        "connections of a shard ",
        "connections of an address ",
        "lanes 1",
    ] {
        assert!(summary.contains(reason), "{reason}: {summary}");
    }
    for line in ["the hello took too long", "a frame came too slowly", "there are 3 lanes", "announces a payload"] {
        let logged = ended.stderr.lines().filter(|said| said.starts_with("refused ") && said.contains(line));
        assert!(logged.count() >= 1, "{line}: {}", ended.stderr);
    }
}

impl Served {
    /// Waits until those that were sent away are gone and a guest finds room.
    fn server_lets_in(&self, lane: u32) {
        loop {
            let mut guest = self.stranger();
            guest.hello(self.fingerprint, lane);
            match guest.hear() {
                Some(FrameKind::Welcome) => return,
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

#[test]
fn a_flood_of_refusals_is_a_few_lines_of_the_log() {
    let served = Served::new("batch_size_max = \"64KiB\"");
    let flood = 400;
    for _ in 0..flood {
        let mut stranger = served.stranger();
        stranger.say(&[0x55; 64]);
        while stranger.hear().is_some() {}
    }
    let ended = served.stop();
    let took = ended.took;
    assert!(ended.line_of("network").contains(&format!("protocol {flood}")), "{}", ended.stderr);
    let lines = ended.stderr.lines().filter(|line| line.starts_with("refused ")).count() as u64;
    assert!((1..=2 + took.as_secs() / 5).contains(&lines), "{lines} lines in {took:?}: {}", ended.stderr);
    // The last line tells of all that had none.
    let more =
        ended.stderr.lines().filter_map(|line| line.split("; and ").nth(1)?.split(' ').next()?.parse::<u64>().ok());
    assert_eq!(lines + more.sum::<u64>(), flood, "{}", ended.stderr);
}

/// Attempts are counted by the clock of the client. One that was never let in counts on from the highest that was heard.
#[test]
fn a_producer_whose_clock_was_set_back_is_let_in() {
    let served = Served::new("batch_size_max = \"64KiB\"");
    let mut earlier = served.stranger();
    earlier.hello_of("p", u64::MAX / 2, served.fingerprint, 0);
    assert_eq!(earlier.hear(), Some(FrameKind::Welcome));
    let sent = start(served.send(2_000).args(["--producer", "p"])).end(PATIENCE).with_code(DONE);
    assert_eq!(sent.number_after("sent      "), Some(2_000), "{}", sent.stderr);
    assert_eq!(earlier.refusal().0, Code::Superseded);
    let ended = served.stop();
    assert!(ended.line_of("ledger").contains("received 2000"), "{}", ended.stderr);
}

/// Batches that are announced and do not come hold the whole inbox, and lose it to somebody who sends.
#[test]
fn who_holds_room_and_sends_nothing_makes_way() {
    let served =
        Served::new(r#"batch_size_max = "64KiB", inbox_max = "128KiB", byte_rate_min = "1B", byte_rate_grace = "1s""#);
    let mut holders: Vec<Stranger> = (0..6)
        .map(|lane| {
            let mut holder = served.guest(lane);
            holder.say(&header(FrameKind::Batch, 64 << 10));
            holder.say(&[0; 1000]);
            holder
        })
        .collect();
    start(&mut served.send(20_000)).end(PATIENCE).with_code(DONE);
    let said = holders[0].refusal();
    assert_eq!((said.0, said.1.contains("while others waited")), (Code::TooSlow, true), "{said:?}");
    let ended = served.stop();
    assert!(ended.line_of("network").contains("room held too long"), "{}", ended.stderr);
    assert!(ended.line_of("ledger").contains("received 20000"), "{}", ended.stderr);
}
