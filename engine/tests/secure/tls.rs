//! `corefold send` to `corefold run` by TLS: the same bytes, and whoever is wrong is told so and does no harm.
//!
//! Who may send what is in `access`; the records of TLS are in `records`.

use crate::children::{Ended, start};
use crate::job::pki::{Authority, HERE};
use crate::job::{DURABLE, Job, PATIENCE};
use crate::support::process::{Feed, Finished, corefold, run_fed};
use crate::support::scene::{BAD_CONFIG, DONE, FAILURE, USAGE};
use crate::support::text;
use crate::{batch, stream};
use corefold_client::{ClientConfig, Producer, TlsConfig, TlsFiles};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

const TLS: &str = ", tls = { cert = \"server.pem\", key = \"server.key\" }";
const MUTUAL: &str = ", tls = { cert = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\" }";

/// An authority whose certificates are beside the config: `ca`, `server` and `client`.
fn authority(directory: &Path) -> Authority {
    let authority = Authority::new("test");
    authority.publish(directory, "ca").sign(directory, "server", "server", &HERE);
    authority.sign(directory, "client", "edge-1", &["edge-1.plant"]);
    authority
}

fn arguments(job: &Job, pairs: &[(&str, &str)]) -> Vec<String> {
    let file = |flag: &str, value: &str| match flag {
        "--tls-name" | "--producer" => value.to_owned(),
        _ => text(&job.path(value)).to_owned(),
    };
    pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), file(flag, value)]).collect()
}

fn send(job: &Job, pairs: &[(&str, &str)]) -> Ended {
    let arguments = arguments(job, pairs);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    start(&mut job.send(&arguments)).end(PATIENCE)
}

#[test]
fn what_is_sent_by_tls_gives_what_is_read() {
    for tcp in [TLS, MUTUAL] {
        let job = Job::with(&[30_000, 20_000], DURABLE, tcp, "");
        authority(&job.path(""));
        let expected = job.expected();
        let server = job.server();
        let shown = [("--tls-ca", "ca.pem"), ("--tls-cert", "client.pem"), ("--tls-key", "client.key")];
        let sent = send(&job, if tcp == MUTUAL { &shown } else { &shown[..1] }).with_code(DONE);
        assert_eq!(sent.number_after("sent      "), Some(50_000), "{}", sent.stderr);
        server.signal(libc::SIGTERM);
        let ended = server.end(PATIENCE).with_code(DONE);
        assert!(ended.stderr.contains("listening on 127.0.0.1:"), "{}", ended.stderr);
        let is_open = ended.stderr.contains("everybody who can reach");
        assert_eq!(is_open, tcp == TLS, "{}", ended.stderr);
        assert!(ended.stderr.contains("2 connections, 2 sessions, 0 refused"), "{}", ended.stderr);
        job.same(&expected);
    }
}

#[test]
fn wrong_certificates_are_named_on_both_sides() {
    let job = Job::with(&[5_000], DURABLE, MUTUAL, "");
    let directory = job.path("");
    authority(&directory);
    let other = Authority::new("test");
    other.publish(&directory, "other-ca").sign(&directory, "stranger", "edge-1", &["edge-1.plant"]);
    let expected = job.expected();
    let server = job.server();
    let good = [("--tls-ca", "ca.pem"), ("--tls-cert", "client.pem"), ("--tls-key", "client.key")];
    let with = |at: usize, pair| {
        let mut pairs = good.to_vec();
        pairs[at] = pair;
        pairs
    };
    let strange = [good[0], ("--tls-cert", "stranger.pem"), ("--tls-key", "stranger.key")];
    let named = [&good[..], &[("--tls-name", "other.example")]].concat();
    let wrong: [(&[(&str, &str)], &str); 5] = [
        (&with(0, ("--tls-ca", "other-ca.pem")), "is of no authority that is trusted here"),
        (&named, "is for another name"),
        (&good[..1], "asks for a certificate, and none was shown"),
        (&strange, "does not trust the certificate that was shown"),
        (&[], "this address takes TLS only"),
    ];
    for (pairs, words) in wrong {
        let ended = send(&job, pairs).with_code(FAILURE);
        assert!(ended.stderr.contains(words), "no `{words}` in: {}", ended.stderr);
    }
    // A file that is no certificate is found before anybody is called.
    let ended = send(&job, &[("--tls-ca", "net.toml")]).with_code(USAGE);
    assert!(ended.stderr.contains("net.toml: the certificate authority cannot be read"), "{}", ended.stderr);
    let ended = send(&job, &with(2, ("--tls-key", "server.key"))).with_code(USAGE);
    assert!(ended.stderr.contains("cannot be used with the key in"), "{}", ended.stderr);
    send(&job, &good).with_code(DONE);
    server.signal(libc::SIGTERM);
    let ended = server.end(PATIENCE).with_code(DONE);
    assert_eq!(ended.number_after("sessions, "), Some(5), "{}", ended.stderr);
    assert!(ended.stderr.contains("5 refused: TLS 5"), "{}", ended.stderr);
    assert!(ended.stderr.contains("127.0.0.1: the TLS handshake failed"), "{}", ended.stderr);
    job.same(&expected);
}

/// A hello of TLS 1.2: it names a kind of signature, and no newer version.
fn hello_of_1_2() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session; one cipher; no compression.
    body.extend([0, 0, 2, 0xC0, 0x2F, 1, 0]);
    body.extend([0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    let mut record = vec![22, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

#[test]
fn older_versions_garbage_and_silence_are_sent_away() {
    let tcp = format!("{TLS}, hello_timeout = \"1s\"");
    let job = Job::with(&[5_000], DURABLE, &tcp, "");
    authority(&job.path(""));
    let expected = job.expected();
    let server = job.server();
    let said_to = |bytes: &[u8]| {
        let mut stranger = TcpStream::connect(&job.address).expect("a connection");
        stranger.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        // It may be sent away before all is written.
        let _ = stranger.write_all(bytes);
        let mut said = Vec::new();
        let _ = stranger.read_to_end(&mut said);
        said
    };
    // A fatal alert: the version.
    assert_eq!(said_to(&hello_of_1_2()), [21, 3, 3, 0, 2, 2, 70]);
    // A message that only servers send; garbage behind the first byte; a record that is too long; a hello that stops.
    assert_eq!(said_to(&[22, 3, 1, 0, 4, 2, 0, 0, 0])[..1], [21]);
    assert!(said_to(&[22; 64]).len() <= 7);
    assert!(said_to(&[22, 3, 1, 0xFF, 0xFF, 0]).len() <= 7);
    assert!(said_to(&hello_of_1_2()[..20]).is_empty());
    // Silence.
    assert!(said_to(&[]).is_empty());
    send(&job, &[("--tls-ca", "ca.pem")]).with_code(DONE);
    server.signal(libc::SIGTERM);
    let ended = server.end(PATIENCE).with_code(DONE);
    assert_eq!(ended.number_after("sessions, "), Some(6), "{}", ended.stderr);
    assert_eq!(ended.number_after("network "), Some(7), "{}", ended.stderr);
    job.same(&expected);
}

#[test]
fn tls_where_there_is_none_is_named() {
    let job = Job::new(&[1_000], "");
    authority(&job.path(""));
    let server = job.server();
    let ended = send(&job, &[("--tls-ca", "ca.pem")]).with_code(FAILURE);
    assert!(ended.stderr.contains("the server speaks no TLS at this address"), "{}", ended.stderr);
    server.signal(libc::SIGTERM);
    let ended = server.end(PATIENCE).with_code(DONE);
    assert!(ended.stderr.contains("1 refused: TLS 1"), "{}", ended.stderr);
    assert!(ended.stderr.contains("127.0.0.1: the client speaks TLS, and this address takes none"), "{}", ended.stderr);
}

/// Sends nothing, under a name of its own.
fn probe(job: &Job, ca: &str) -> Finished {
    let (ca, config) = (job.path(ca), job.path("net.toml"));
    let mut command = corefold(&["send", "-", "--format", "csv", "--to", &job.address, "--config", text(&config)]);
    command.args(["--producer", "probe", "--progress", "never", "--tls-ca", text(&ca)]);
    run_fed(&mut command, Feed::Bytes(b"time,key,flag,number,value\n".to_vec()))
}

#[test]
fn certificates_are_read_again_while_connections_live() {
    let job = Job::with(&[10], DURABLE, TLS, "");
    let directory = job.path("");
    authority(&directory);
    let mut server = job.server();
    let mut config = ClientConfig::new(&job.address, "living", stream().fingerprint());
    let files = TlsFiles { ca: job.path("ca.pem"), ..TlsFiles::default() };
    config.tls = Some(TlsConfig::load(&files).expect("an authority"));
    let mut living = Producer::connect(config).expect("a server");
    living.send(batch(100), 100, 0).expect("a server");
    living.flush().expect("a server");
    // The same address, with a certificate of an authority that the living connection never heard of.
    let other = Authority::new("other");
    other.publish(&directory, "other-ca").sign(&directory, "server", "server", &HERE);
    server.signal(libc::SIGHUP);
    server.until(PATIENCE, "it is read", |server| server.said().contains("new connections get this certificate now"));
    let refused = probe(&job, "ca.pem");
    assert_eq!(refused.code, Some(FAILURE), "{}", refused.stderr);
    assert!(refused.stderr.contains("no authority that is trusted"), "{}", refused.stderr);
    // What cannot be used leaves everything as it was, and is said in one line.
    fs::write(job.path("server.pem"), "no certificate").expect("a file");
    server.signal(libc::SIGHUP);
    server.until(PATIENCE, "it is refused", |server| server.said().contains("stays in use"));
    let said = server.said();
    let line = said.lines().find(|line| line.contains("stays in use")).expect("a line");
    assert!(line.starts_with("warning: ") && line.contains("server.pem: the certificate cannot be read"), "{line}");
    probe(&job, "other-ca.pem").succeeded();
    // An expired one is one that can be used: the clients refuse it.
    other.sign_until(&directory, "server", "server", &HERE, 2001);
    server.signal(libc::SIGHUP);
    server.until(PATIENCE, "it is read", |server| server.said().matches("new connections get").count() == 2);
    let refused = probe(&job, "other-ca.pem");
    assert_eq!(refused.code, Some(FAILURE), "{}", refused.stderr);
    assert!(refused.stderr.contains("has expired"), "{}", refused.stderr);
    // The one that was there before all that goes on.
    living.send(batch(200), 200, 0).expect("a server");
    living.flush().expect("a server");
    let metrics = living.close().expect("a server");
    assert_eq!((metrics.connections, metrics.rows_offered), (1, 300));
    server.signal(libc::SIGTERM);
    let ended = server.end(PATIENCE).with_code(DONE);
    assert!(ended.stderr.contains("read      300 rows"), "{}", ended.stderr);
}

#[test]
fn an_engine_without_its_key_does_not_start() {
    let job = Job::with(&[10], "", TLS, "");
    authority(&job.path(""));
    for (name, words) in [("server.key", "the private key cannot be read"), ("server.pem", "cannot be read")] {
        let whole = fs::read(job.path(name)).expect("a file");
        fs::write(job.path(name), "").expect("a file");
        let ended = start(&mut job.run("net.toml")).end(PATIENCE).with_code(BAD_CONFIG);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        fs::write(job.path(name), whole).expect("a file");
    }
    // Another's key.
    Authority::new("other").sign(&job.path(""), "other", "other", &HERE);
    fs::copy(job.path("other.key"), job.path("server.key")).expect("a file");
    let ended = start(&mut job.run("net.toml")).end(PATIENCE).with_code(BAD_CONFIG);
    assert!(ended.stderr.contains("cannot be used with the key in"), "{}", ended.stderr);
}
