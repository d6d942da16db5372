//! Whoever sends garbage, too much or too slowly is sent away, and others do not notice.

use crate::kit::{Job, PATIENCE};
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

const BODY: &str = r#"
[[streams]]
name = "events"
time = { column = "time", unit = "s", max_delay = "1d", max_future = "1d" }
fields = { name = "string", value = "f64" }

[[views]]
name = "all"
stream = "events"
by = ["name"]
window = { size = "1d" }
aggregates = ["count()"]
[[views.exports]]
file = { path = "OUT.csv" }
"#;

const WAYS: &str = r#"
[[sources]]
stream = "events"
statsd = { udp = "127.0.0.1:0", tcp = "127.0.0.1:0", line_size_max = 100, silence_timeout = "1s" }
[[sources]]
stream = "events"
influx = { tcp = "127.0.0.1:0", line_size_max = 100, silence_timeout = "1s" }
[[sources]]
stream = "events"
ndjson = { tcp = "127.0.0.1:0", line_size_max = 100, connections_per_address_max = 2 }
[[sources]]
stream = "events"
arrow = { tcp = "127.0.0.1:0", silence_timeout = "1s", body_size_max = "4KiB" }
[[sources]]
stream = "events"
http = { listen = "127.0.0.1:0", header_timeout = "300ms" }
"#;

#[test]
fn strangers_do_no_harm() {
    let job = Job::new(BODY);
    let server = job.start("", WAYS);
    let names = ["statsd tcp", "influx tcp", "ndjson tcp", "arrow tcp", "http"];
    // Those who say nothing, or half a word.
    let silent: Vec<_> = ["statsd tcp", "influx tcp", "arrow tcp", "http"]
        .iter()
        .map(|name| {
            let mut socket = server.connect(name);
            socket.write_all(if *name == "http" { b"POST /streams/ev" } else { b"x" }).expect("sent");
            socket
        })
        .collect();
    for name in names {
        for garbage in [&[0_u8; 300][..], &[0xff; 5000], b"GET / HTTP/1.1\r\n\r\n", &[b'"'; 20_000], b"\n\n\n"] {
            let mut socket = server.connect(name);
            // It may be sent away before all is written.
            let _ = socket.write_all(garbage);
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let _ = socket.read_to_end(&mut Vec::new());
        }
    }
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for garbage in [&[0_u8; 300][..], &[0xff; 5000], &[b'\n'; 60_000], b""] {
        socket.send_to(garbage, server.at("statsd udp")).expect("sent");
    }
    // As many as one address may have; the next one is sent away.
    let held = [server.connect("ndjson tcp"), server.connect("ndjson tcp")];
    let began = Instant::now();
    let mut third = server.connect("ndjson tcp");
    assert_eq!(third.read(&mut [0; 1]).unwrap_or(0), 0);
    assert!(began.elapsed() < PATIENCE);
    drop(held);
    // The good ones.
    socket.send_to(b"udp:1|c|T1704067200", server.at("statsd udp")).expect("sent");
    server.tell("statsd tcp", b"statsd:1|c|T1704067200\n");
    let influx = server.tell("influx tcp", b"m,name=influx value=1 1704067200000000000");
    assert_eq!(influx, "{\"rejected\":0,\"rows\":1}\n");
    let post = "POST /streams/events";
    server.ask(post, &[], b"{\"time\":1704067200,\"name\":\"http\"}").with(200);
    for mut socket in silent {
        let mut said = Vec::new();
        assert!(socket.read_to_end(&mut said).is_ok(), "it is sent away");
    }
    let ended = server.stop();
    let found = job.found();
    for name in ["http", "influx", "statsd", "udp"] {
        assert!(found.contains(&format!(",{name},1")), "{name}: {found}\n{}", ended.stderr);
    }
    assert_eq!(found.lines().count(), 5, "{found}");
    assert!(ended.stderr.contains("as many connections from this address as there may be"), "{}", ended.stderr);
}

/// Room that one request holds, however slowly it comes, is not there for another: that one is told to come again.
#[test]
fn a_request_that_finds_no_room_is_told_to_come_again() {
    let job = Job::new(BODY);
    let way = "[[sources]]\nstream = \"events\"\nhttp = { listen = \"127.0.0.1:0\", body_size_max = \"64KiB\", \
               inbox_max = \"64KiB\", full_timeout = \"200ms\" }\n";
    let server = job.start("", way);
    let line = "{\"time\":1704067200,\"name\":\"a\",\"value\":1}\n";
    let body = line.repeat((60 << 10) / line.len());
    let head = format!(
        "POST /streams/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (began, mut start) = (Instant::now(), Duration::ZERO);
    let refused = loop {
        assert!(began.elapsed() < PATIENCE, "there is always room");
        let mut slow = server.connect("http");
        slow.write_all(head.as_bytes()).expect("sent");
        slow.write_all(&body.as_bytes()[..body.len() - 5]).expect("sent");
        // It has the room once all that it has sent is read, which nobody tells: those who come at the same time may hold
        // half of it each until one is refused. So the first one gets an ever longer start.
        start += Duration::from_millis(20);
        std::thread::sleep(start);
        let answers: Vec<_> = (0..3).map(|_| server.ask("POST /streams/events", &[], body.as_bytes())).collect();
        let _ = slow.write_all(&body.as_bytes()[body.len() - 5..]);
        let mut said = String::new();
        slow.read_to_string(&mut said).expect("an answer");
        assert!(said.starts_with("HTTP/1.1 200") || said.starts_with("HTTP/1.1 503"), "{said}");
        let refused = answers.into_iter().find(|answer| answer.status == 503);
        if let Some(refused) = refused.filter(|_| said.starts_with("HTTP/1.1 200")) {
            break refused;
        }
    };
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    assert!(refused.body.contains("no room now"), "{}", refused.body);
    server.ask("POST /streams/events", &[], body.as_bytes()).with(200);
    server.stop();
}
