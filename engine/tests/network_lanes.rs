//! Several lanes to a running engine, by `corefold send` and by the client library: what comes over all of them gives
//! what the same rows give when they are read, exactly once, whoever is killed in between.
//!
//! One lane per input is in `network.rs`; a server that does worse than die is in the client's own tests.

mod children;
mod job;
mod support;

use children::{Running, start};
use corefold_client::{Client, ClientConfig, FieldType, Lanes, Resume, Routing, StreamSpec, Value};
use job::{DURABLE, Job, PATIENCE};
use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::events::Random;
use support::process::corefold;
use support::scene::DONE;
use support::text;

/// A job in which no row is late, whichever lane it takes: what is late is decided lane by lane.
fn job(rows: &[usize], engine: &str) -> Job {
    let job = Job::new(rows, engine);
    change(&job, "max_delay = \"5m\"", "max_delay = \"3h\"");
    job
}

fn change(job: &Job, from: &str, to: &str) {
    for config in ["plain.toml", "net.toml"] {
        let config = job.path(config);
        let text = fs::read_to_string(&config).expect("a config");
        fs::write(&config, text.replace(from, to)).expect("a config");
    }
}

fn stop(server: Running) -> children::Ended {
    server.signal(libc::SIGTERM);
    server.end(PATIENCE).with_code(DONE)
}

/// The first of two ports, one behind the other, that were free a moment ago.
fn two_free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = first.local_addr().expect("an address").port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

#[test]
fn what_is_sent_by_several_lanes_gives_what_is_read() {
    // With ports of shards, and without.
    for (lanes, count, has_ports) in [("3", 6, false), ("shards", 4, false), ("shards", 4, true)] {
        let job = job(&[30_000, 20_000], DURABLE);
        if has_ports {
            change(&job, "tcp = {", &format!("tcp = {{ shard_ports = {},", two_free_ports()));
        }
        let expected = job.expected();
        let server = job.server();
        let sent = start(&mut job.send(&["--lanes", lanes])).end(PATIENCE).with_code(DONE);
        assert_eq!(sent.number_after("sent      "), Some(50_000), "{}", sent.stderr);
        assert_eq!(sent.number_after("batches   "), Some(100), "{}", sent.stderr);
        assert_eq!(sent.number_after("durable now "), Some(100), "{}", sent.stderr);
        assert_eq!(sent.number_after("lanes     "), Some(count), "{}", sent.stderr);
        let again = start(&mut job.send(&["--lanes", lanes])).end(PATIENCE).with_code(DONE);
        assert_eq!(again.number_after("inputs    "), Some(2), "{}", again.stderr);
        let ended = stop(server);
        assert!(ended.line_of("ledger").contains("received 50000 = aggregated 50000"), "{}", ended.stderr);
        assert!(ended.line_of("ledger").contains("duplicate 0 + rejected 0 + shed 0"), "{}", ended.stderr);
        job.same(&expected);
    }
}

/// The engine has more shards, or fewer, each time it comes back; the lanes stay as many as there were shards at first.
#[test]
fn exactly_once_over_several_lanes_whoever_is_killed() {
    let job = job(&[150_000, 120_000], DURABLE);
    let expected = job.expected();
    let mut random = Random::new(11);
    let (mut servers, mut clients) = (0, 0);
    let mut life = 60;
    let mut server = job.server();
    let sent = 'sent: loop {
        let mut client = start(&mut job.send(&["--lanes", "shards"]));
        loop {
            // Ever longer lives, so that the end is reached.
            life += 15;
            std::thread::sleep(Duration::from_millis(random.below(life)));
            // Each is killed once before chance decides: all may be sent before that, where it goes fast.
            let whom = match (servers, clients) {
                (0, _) => 0,
                (_, 0) => 1,
                _ => random.below(3),
            };
            match whom {
                _ if life > 1200 => break 'sent client.end(PATIENCE),
                0 => {
                    server.kill_after(Duration::ZERO);
                    servers += 1;
                    let shards = ["shards = 2", "shards = 3"];
                    change(&job, shards[(servers + 1) % 2], shards[servers % 2]);
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
            if client.has_ended() {
                break 'sent client.end(PATIENCE);
            }
        }
    };
    sent.with_code(DONE);
    assert!(servers >= 1 && clients >= 1, "{servers} servers, {clients} clients");
    stop(server);
    job.same(&expected);
    start(corefold(&["verify", text(&job.path("store"))]).stdout(Stdio::null())).end(PATIENCE).with_code(DONE);
}

const ROWS: i64 = 60_000;

/// Row `number`: time, key, number, value.
fn row(number: i64) -> (i64, String, i64, f64) {
    let behind = number * number % 601;
    let time = 1_700_000_000 + 2 * number - behind;
    (time * 1_000_000, format!("key-{}", number * 7 % 23), number % 1000, number as f64 / 8.0)
}

fn stream() -> StreamSpec {
    use FieldType::{Bool, F64, I64, String};
    corefold_client::stream("events", "time", &[("key", String), ("flag", Bool), ("number", I64), ("value", F64)])
}

/// A life of a program that sends all rows, from the start: true if it comes to the end.
fn life(address: &str, rows: i64) -> bool {
    let stream = stream();
    let mut config = ClientConfig::new(address, "library", stream.fingerprint());
    (config.lanes, config.routing) = (Lanes::Of(3), Routing::ByKey(vec![0]));
    (config.resume, config.batch_rows) = (Resume::FromStart, 400);
    config.backoff_max = Duration::from_millis(100);
    let client = Client::connect(config, &stream.fields).expect("a connection");
    for number in 0..rows {
        let (time, key, integer, value) = row(number);
        let values = [Value::Text(&key), Value::Bool(number % 3 == 0), Value::I64(integer), Value::F64(value)];
        client.row(time, &values).expect("a row");
    }
    if rows < ROWS {
        // Dropped, as if the program were killed.
        return false;
    }
    client.end().expect("room");
    client.close().expect("an end");
    true
}

#[test]
fn a_program_that_begins_again_counts_once_while_the_engine_is_killed() {
    let job = job(&[1, 1], DURABLE);
    let mut csv = fs::read_to_string(&job.inputs[0]).expect("an input").lines().take(1).collect::<Vec<_>>().join("");
    csv.push('\n');
    for number in 0..ROWS {
        let (time, key, integer, value) = row(number);
        let time = jiff::Timestamp::from_microsecond(time).expect("a time of this century");
        writeln!(csv, "{time},{key},{},{integer},{value}", number % 3 == 0).expect("a string");
    }
    let header = csv.lines().take(1).collect::<Vec<_>>().join("") + "\n";
    fs::write(&job.inputs[0], csv).expect("an input");
    fs::write(&job.inputs[1], header).expect("an input");
    let expected = job.expected();
    let server = Mutex::new(Some(job.server()));
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(3);
            let mut kills = 0;
            while !is_done.load(Ordering::Relaxed) {
                // Ever rarer, so that the end is reached.
                kills += 1;
                std::thread::sleep(Duration::from_millis(20 + random.below(100 * kills)));
                let mut server = server.lock().expect("no panic");
                server.take().expect("a server").kill_after(Duration::ZERO);
                *server = Some(job.server());
            }
        });
        assert!(!life(&job.address, ROWS / 3));
        assert!(!life(&job.address, ROWS / 2));
        assert!(life(&job.address, ROWS));
        is_done.store(true, Ordering::Relaxed);
    });
    let server = server.into_inner().expect("no panic").expect("a server");
    stop(server);
    job.same(&expected);
}
