//! `corefold send` to `corefold run`: what comes over the network gives the bytes that the same files give when they are
//! read, exactly once, whoever is killed in between.
//!
//! Both ends of the protocol over a network that does worse are tested in `corefold_shards`.

mod children;
mod job;
mod support;

use children::start;
use corefold_client::{Client, ClientConfig, FieldType, Value, stream};
use job::{DURABLE, Job, PATIENCE};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;
use support::events::{Random, disordered};
use support::process::{Feed, corefold, run_fed};
use support::scene::DONE;
use support::text;

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

/// What a drain gave out last may not have reached the outputs when it ended; the next run sees to it, and lets nobody in.
#[test]
fn a_drain_that_was_cut_short_is_completed() {
    let job = Job::new(&[20_000], DURABLE);
    let expected = job.expected();
    let server = job.server();
    start(&mut job.send(&[])).end(PATIENCE).with_code(DONE);
    // No name can be had, so the run fails behind its last pull.
    let output = job.path("out/quarters.csv");
    fs::create_dir(&output).expect("a directory in the way");
    server.signal(libc::SIGTERM);
    server.end(PATIENCE).with_code(74);
    fs::remove_dir(&output).expect("a way that is free");
    let ended = start(&mut job.run("net.toml")).end(PATIENCE);
    assert!(ended.stderr.contains("its last run was drained"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("listening on"), "{}", ended.stderr);
    job.same(&expected);
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
            // Two of each at first, soon enough on any machine.
            let what = match (servers, clients) {
                (0..2, _) => 0,
                (_, 0..2) => 1,
                _ => random.below(3),
            };
            let soon = if clients < 2 { 30 } else { life };
            std::thread::sleep(Duration::from_millis(random.below(soon)));
            match what {
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
    let sender = |name: &str| {
        let kinds = [FieldType::String, FieldType::Bool, FieldType::I64, FieldType::F64];
        let named = ["key", "flag", "number", "value"].into_iter().zip(kinds).collect::<Vec<_>>();
        let stream = stream("events", "time", &named);
        let config = ClientConfig::new(&job.address, name, stream.fingerprint());
        Client::connect(config, &stream.fields).expect("a connection")
    };
    let (slow, fast) = (sender("slow"), sender("fast"));
    let minutes = |sender: &Client, minutes: std::ops::Range<i64>| {
        for minute in minutes {
            let values = [Value::Text("key"), Value::Bool(true), Value::I64(minute), Value::F64(0.5)];
            sender.row(minute * 60_000_000, &values).expect("sent");
        }
    };
    minutes(&slow, 0..30);
    slow.flush().expect("durable");
    minutes(&fast, 0..600);
    fast.flush().expect("durable");
    server.signal(libc::SIGSTOP);
    // Into the buffers of the system, from which nobody reads.
    minutes(&slow, 30..600);
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
