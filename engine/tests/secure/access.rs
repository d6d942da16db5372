//! Tokens, names in certificates, permissions, quotas and the ports of shards.
//!
//! Whether certificates are good is in `tls`.

use crate::children::{Ended, start};
use crate::job::pki::{Authority, HERE};
use crate::job::{DURABLE, Job, PATIENCE};
use crate::stream;
use crate::support::scene::{DONE, FAILURE};
use crate::support::text;
use corefold_aggregator::time::EventTime;
use corefold_shards::session::{ClientEvent, ClientLane, ClientLimits, LaneName, Level, Now, Place};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const WEB: &str = "a token that nobody guesses";
const EDGE: &str = "edge-token-edge-token";
/// `printf %s edge-token-edge-token | sha256sum`
const EDGE_SHA256: &str = "bf855acfce7308303fdbd2e62e59e1b5441f66220963751fcea99a5536fef42b";

fn end(job: &Job, more: &[&str]) -> Ended {
    start(&mut job.send(more)).end(PATIENCE)
}

#[test]
fn tokens_decide_who_may_send_what() {
    let tables = format!(
        r#"
[[streams]]
name = "others"
time = {{ column = "time" }}
fields = {{ x = "i64" }}
[[sources]]
stream = "others"
tcp = {{ listen = "ADDRESS" }}
[[producers]]
name = "web"
token_file = "web.token"
streams = ["events"]
[[producers]]
name = "edge-*"
token_sha256 = "{EDGE_SHA256}"
"#
    );
    let job = Job::with(&[8_000], DURABLE, "", &tables);
    let token = job.path("web.token");
    let write = |text: &str| fs::write(&token, text).expect("a file");
    write(&format!("{WEB}\n"));
    let expected = job.expected();
    let mut server = job.server();
    let token = text(&token);
    let end = |more: &[&str]| end(&job, &[more, &["--stream", "events"]].concat());
    let refused = |more: &[&str], words: &str| {
        let ended = end(more).with_code(FAILURE);
        assert!(ended.stderr.contains(words), "no `{words}` in: {}", ended.stderr);
    };
    refused(&["--producer", "web"], "credentials are needed here");
    refused(&["--producer", "edge-7", "--token-file", token], "no producer \"edge-7\" with these credentials");
    refused(&["--producer", "nobody", "--token-file", token], "no producer \"nobody\" with these credentials");
    let mut other = crate::support::process::corefold(&["send", text(&job.inputs[0]), "--to", &job.address]);
    other.args([
        "--stream",
        "others",
        "--time",
        "time",
        "--field",
        "x:i64",
        "--producer",
        "web",
        "--token-file",
        token,
    ]);
    let ended = start(&mut other).end(PATIENCE).with_code(FAILURE);
    assert!(ended.stderr.contains("the producer \"web\" may not send this stream"), "{}", ended.stderr);
    end(&["--producer", "web", "--end", "--token-file", token]).with_code(DONE);
    // By the environment; and a token that is read again counts from then on.
    let ended = start(
        job.send(&["--producer", "edge-7", "--deadline", "0s", "--stream", "events"]).env("COREFOLD_TOKEN", EDGE),
    )
    .end(PATIENCE);
    assert_eq!(ended.with_code(DONE).number_after("shed "), Some(16));
    write("another token that nobody guesses");
    server.signal(libc::SIGHUP);
    server.until(PATIENCE, "it is read", |server| server.said().contains("the tokens that were read now"));
    let old = job.path("old.token");
    fs::write(&old, WEB).expect("a file");
    refused(&["--producer", "web", "--token-file", text(&old)], "no producer \"web\" with these credentials");
    end(&["--producer", "web", "--token-file", token]).with_code(DONE);
    write("short");
    server.signal(libc::SIGHUP);
    server.until(PATIENCE, "it is refused", |server| server.said().contains("stay in use"));
    assert!(server.said().contains("web.token: the token cannot be read: it has 5 bytes"), "{}", server.said());
    server.signal(libc::SIGTERM);
    let ended = server.end(PATIENCE).with_code(DONE);
    assert_eq!(ended.number_after("sessions, "), Some(5), "{}", ended.stderr);
    job.same(&expected);
}

#[test]
fn certificates_name_their_producers() {
    let tcp = ", tls = { cert = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\" }";
    let tables = r#"
[[producers]]
name = "edge-*"
certificate = "edge-*.plant"
[[producers]]
name = "hub"
certificate = "the hub"
"#;
    let job = Job::with(&[5_000], DURABLE, tcp, tables);
    let directory = job.path("");
    let authority = Authority::new("test");
    authority.publish(&directory, "ca").sign(&directory, "server", "server", &HERE);
    authority.sign(&directory, "edge", "somebody", &["x.plant", "edge-1.plant"]).sign(
        &directory,
        "hub",
        "the hub",
        &[],
    );
    let expected = job.expected();
    let server = job.server();
    let ca = job.path("ca.pem");
    let send = |producer: &str, name: &str| {
        let (cert, key) = (job.path(&format!("{name}.pem")), job.path(&format!("{name}.key")));
        let shown = ["--tls-ca", text(&ca), "--tls-cert", text(&cert), "--tls-key", text(&key), "--producer", producer];
        end(&job, &shown)
    };
    for (producer, name) in [("edge-2", "edge"), ("hub", "edge"), ("edge-1", "hub"), ("web", "hub")] {
        let ended = send(producer, name).with_code(FAILURE);
        assert!(ended.stderr.contains("with these credentials may send here"), "{}", ended.stderr);
    }
    send("edge-1", "edge").with_code(DONE);
    server.signal(libc::SIGTERM);
    server.end(PATIENCE).with_code(DONE);
    job.same(&expected);
    // The other kind of name, in another life: all is known there.
    fs::remove_dir_all(job.path("store")).expect("a store");
    fs::remove_dir_all(job.path("out")).expect("outputs");
    let server = job.server();
    send("hub", "hub").with_code(DONE);
    server.signal(libc::SIGTERM);
    server.end(PATIENCE).with_code(DONE);
    job.same(&expected);
}

/// A rate is a lower bound of time: a slow machine changes nothing.
#[test]
fn quotas_slow_down_and_lose_nothing() {
    for (quota, least) in [("rows_per_second = 5000", 1.5), ("bytes_per_second = \"200KiB\"", 1.0)] {
        let tables = format!("[[producers]]\nname = \"*\"\ntoken_sha256 = \"{EDGE_SHA256}\"\n{quota}");
        let job = Job::with(&[10_000, 5_000], DURABLE, "", &tables);
        let expected = job.expected();
        let server = job.server();
        let sent = start(job.send(&[]).env("COREFOLD_TOKEN", EDGE)).end(PATIENCE).with_code(DONE);
        assert!(sent.took > Duration::from_secs_f64(least), "{quota}: {:?}", sent.took);
        server.signal(libc::SIGTERM);
        let ended = server.end(PATIENCE).with_code(DONE);
        assert!(ended.line_of("ledger").contains("received 15000 = aggregated"), "{}", ended.stderr);
        job.same(&expected);
    }
}

/// What a server says to a hello.
fn knock(address: &str, producer: &str, lane: u32, token: &str) -> ClientEvent {
    let name = LaneName {
        producer: producer.to_owned(),
        lane,
        fingerprint: stream().fingerprint(),
        credentials: token.as_bytes().to_vec(),
        level: Level::Durable,
    };
    let limits = ClientLimits { batches_max: 1, bytes_max: 1, answer_max_ns: u64::MAX };
    let mut client = ClientLane::new(name, limits);
    let now = Now { steady_ns: 1, wall: EventTime(1) };
    client.connect(now);
    let mut socket = TcpStream::connect(address).expect("a connection");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let hello = client.output().to_vec();
    socket.write_all(&hello).expect("a server that reads");
    client.sent(hello.len(), now);
    loop {
        let space = client.space().expect("connected");
        let count = socket.read(space).expect("an answer");
        assert!(count > 0, "closed without an answer");
        if let Some(event) = client.filled(count, now).expect("a server that keeps to the protocol") {
            return event;
        }
    }
}

#[track_caller]
fn place(event: &ClientEvent) -> Place {
    match event {
        ClientEvent::Welcome(welcome) => welcome.place,
        event => panic!("{event:?}"),
    }
}

#[test]
fn entries_have_so_many_lanes_and_no_more() {
    let entry = |lanes_max| {
        let [web, edge] = [("web", "web.token"), ("edge-*", "edge.token")];
        let entry = |(name, file)| {
            format!("[[producers]]\nname = \"{name}\"\ntoken_file = \"{file}\"\nlanes_max = {lanes_max}\n")
        };
        entry(web) + &entry(edge)
    };
    let job = Job::with(&[10], DURABLE, "", &entry(2));
    fs::write(job.path("web.token"), WEB).expect("a file");
    fs::write(job.path("edge.token"), EDGE).expect("a file");
    let server = job.server();
    let knock = |producer: &str, lane, token: &str| knock(&job.address, producer, lane, token);
    let is_refused = |event: &ClientEvent| match event {
        ClientEvent::Refused(refusal) => {
            assert!(refusal.text.contains("there are 2 lanes, as many as there may be"), "{refusal}");
            assert!(!refusal.code.is_retryable());
            true
        }
        _ => false,
    };
    assert_eq!(place(&knock("web", 0, WEB)).lanes_max, 2);
    assert_eq!(place(&knock("web", 7, WEB)).lanes_max, 2);
    assert!(is_refused(&knock("web", 1, WEB)));
    // One that is there comes again.
    place(&knock("web", 7, WEB));
    // Names under one entry share it.
    place(&knock("edge-1", 0, EDGE));
    place(&knock("edge-2", 0, EDGE));
    assert!(is_refused(&knock("edge-3", 0, EDGE)));
    assert!(is_refused(&knock("edge-1", 1, EDGE)));
    server.signal(libc::SIGTERM);
    server.end(PATIENCE).with_code(DONE);
}

/// The first of some ports in a row that are free.
fn free_ports(count: u16) -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = first.local_addr().expect("an address").port();
        let others = (1..count).map(|more| port.checked_add(more).ok_or(()));
        if others.map(|port| TcpListener::bind(("127.0.0.1", port?)).map_err(drop)).all(|bound| bound.is_ok()) {
            return port;
        }
    }
}

#[test]
fn a_lane_lives_where_it_came_first() {
    let first = free_ports(2);
    let job = Job::with(&[20_000], DURABLE, &format!(", shard_ports = {first}"), "");
    let expected = job.expected();
    let server = job.server();
    let at = |shard: u16| format!("127.0.0.1:{}", first + shard);
    let shard = |address: &str, lane| {
        let place = place(&knock(address, "p", lane, ""));
        assert_eq!((place.shards, place.port_first, place.lanes_max), (2, first, 0));
        place.shard
    };
    assert_eq!([shard(&at(1), 0), shard(&at(0), 1), shard(&at(1), 2)], [1, 0, 1]);
    // Whatever port they come by later.
    assert_eq!([shard(&at(0), 0), shard(&job.address, 0), shard(&job.address, 1), shard(&at(1), 1)], [1, 1, 0, 0]);
    // By the common port new ones are spread.
    let spread: Vec<u32> = (10..14).map(|lane| shard(&job.address, lane)).collect();
    assert!(spread.contains(&0) && spread.contains(&1), "{spread:?}");
    start(&mut job.send_to(&at(1), &[])).end(PATIENCE).with_code(DONE);
    server.signal(libc::SIGTERM);
    server.end(PATIENCE).with_code(DONE);
    job.same(&expected);
}
