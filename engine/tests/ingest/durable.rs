//! What was answered is safe, whenever the engine is killed.

use crate::children::start;
use crate::kit::{Job, PATIENCE, try_ask};
use crate::support::events::Random;
use crate::support::process::corefold;
use crate::support::scene::DONE;
use crate::support::text;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

const BODY: &str = r#"
[wal]
segment_size = "1MiB"
[snapshot]
batches = 20

[[streams]]
name = "events"
time = { column = "time", unit = "s", max_delay = "1d", max_future = "1d" }
fields = { key = "string", value = "i64" }

[[views]]
name = "all"
stream = "events"
by = ["key"]
window = { size = "1d" }
aggregates = ["count(), sum(value)"]
[[views.exports]]
file = { path = "OUT.csv" }
"#;

const ROWS: usize = 20;

/// Sends until it is answered; how many times it had to.
fn send(address: SocketAddr, path: &str, body: &str) -> u32 {
    let mut tries = 0;
    loop {
        tries += 1;
        let answer = TcpStream::connect(address).ok().and_then(|mut socket| {
            socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            try_ask(&mut socket, path, &[], body.as_bytes())
        });
        match answer {
            Some(answer) if answer.status == 200 || answer.status == 204 => return tries,
            Some(answer) => assert_eq!(answer.status, 503, "{}", answer.body),
            None => {}
        }
        assert!(tries < 10_000, "never answered");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_was_answered_survives_a_kill() {
    let job = Job::new(BODY);
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let ways = format!(
        "[[sources]]\nstream = \"events\"\nhttp = {{ listen = \"{free}\" }}\n\
         [[sources]]\nstream = \"events\"\ninflux = {{ http = \"{free}\" }}\n"
    );
    let engine = "data_dir = \"store\"\nstop = \"drain\"";
    let mut server = job.start(engine, &ways);
    let senders: Vec<_> = (0..3)
        .map(|sender| {
            std::thread::spawn(move || {
                let mut tries = BTreeMap::new();
                for number in 0..60 {
                    let key = format!("s{sender}-{number}");
                    let (path, body) = if number % 2 == 0 {
                        let line = format!("{{\"time\":1704067200,\"key\":\"{key}\",\"value\":{number}}}\n");
                        ("POST /streams/events", line.repeat(ROWS))
                    } else {
                        let line = format!("m,key={key} value={number}i 1704067200\n");
                        ("POST /write?precision=s", line.repeat(ROWS))
                    };
                    tries.insert(key, send(free, path, &body));
                }
                tries
            })
        })
        .collect();
    let mut random = Random::new(11);
    let mut kills = 0;
    while !senders.iter().all(std::thread::JoinHandle::is_finished) {
        std::thread::sleep(Duration::from_millis(40 + random.below(120 + 20 * kills)));
        if kills < 8 {
            server.running.kill_after(Duration::ZERO);
            kills += 1;
            server = job.start(engine, &ways);
        }
    }
    let tries: BTreeMap<String, u32> = senders.into_iter().flat_map(|sender| sender.join().expect("sent")).collect();
    assert!(kills >= 2, "{kills} kills");
    server.stop();
    let found = job.found();
    let counts: BTreeMap<&str, usize> = found
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect::<Vec<_>>())
        .map(|cells| (cells[2], cells[3].parse().expect("a count")))
        .collect();
    for (key, tries) in &tries {
        let count = counts.get(key.as_str()).copied().unwrap_or(0);
        // Answered: there. Answered at once: there once. Sent again: whole requests, no parts.
        assert!((ROWS..=ROWS * *tries as usize).contains(&count), "{key}: {count} rows after {tries} tries");
        assert_eq!(count % ROWS, 0, "{key}: part of a request");
    }
    assert_eq!(counts.len(), tries.len());
    start(corefold(&["verify", text(&job.path("store"))]).stdout(Stdio::null())).end(PATIENCE).with_code(DONE);
}
