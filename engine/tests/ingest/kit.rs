//! An engine with ways in, what reading a file gives instead, and a client of HTTP that knows no better.
//!
//! No test is here.

use crate::children::{Ended, Running, start};
use crate::support::process::corefold;
use crate::support::scene::DONE;
use crate::support::text;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// Nothing of this size takes that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with configs: one of an engine with ways in, one of an engine that reads a file.
pub struct Job {
    directory: tempfile::TempDir,
    body: String,
}

/// An engine that runs.
pub struct Server {
    pub running: Running,
    addresses: BTreeMap<String, SocketAddr>,
}

impl Job {
    /// `body` is all of the config but the sources; `OUT` in it is where results go.
    pub fn new(body: &str) -> Job {
        Job { directory: tempfile::tempdir().expect("a directory"), body: body.to_owned() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts an engine with these sources and, in `[engine]`, these keys besides.
    pub fn start(&self, engine: &str, sources: &str) -> Server {
        let config = self.path("ways.toml");
        let head = format!("[engine]\nshards = 2\npull_interval = \"10ms\"\n{engine}\n");
        fs::write(&config, head + &self.body.replace("OUT", "out") + sources).expect("a new file");
        let mut command = corefold(&["run", text(&config), "--progress", "never"]);
        let mut running = start(command.stdin(Stdio::null()).stdout(Stdio::null()));
        let mut ways = 0;
        for line in sources.lines().filter(|line| !line.starts_with('#')) {
            ways += line.matches(":0\"").count();
        }
        // Several sources of one address of requests stand on one line of what it says. Ports that are given are not counted,
        // but one line there is: before it, a signal would find nobody who heeds it.
        let lines = ways.max(1);
        running.until(PATIENCE, "it listens", |running| running.said().matches("listening on").count() >= lines);
        let mut addresses = BTreeMap::new();
        for line in running.said().lines() {
            let Some(rest) = line.strip_prefix("listening on ") else { continue };
            let (address, rest) = rest.split_once(' ').expect("an address");
            let name = rest.rsplit_once('(').map_or("own", |(_, name)| name.trim_end_matches(')'));
            addresses.insert(name.to_owned(), address.parse().expect("an address"));
        }
        Server { running, addresses }
    }

    /// Results of the engine with ways in.
    pub fn found(&self) -> String {
        fs::read_to_string(self.path("out.csv")).expect("results")
    }

    /// What reading these rows gives.
    pub fn expected(&self, stream: &str, csv: &str) -> String {
        fs::write(self.path("rows.csv"), csv).expect("a new file");
        let source = format!("\n[[sources]]\nstream = {stream:?}\nfile = {{ path = \"rows.csv\" }}\n");
        let config = self.path("file.toml");
        fs::write(&config, self.body.replace("OUT", "file") + &source).expect("a new file");
        let mut command = corefold(&["run", text(&config), "--progress", "never"]);
        start(command.stdin(Stdio::null()).stdout(Stdio::null())).end(PATIENCE).with_code(DONE);
        fs::read_to_string(self.path("file.csv")).expect("results")
    }
}

impl Server {
    /// Where something is listened for, such as `statsd udp`.
    #[track_caller]
    pub fn at(&self, name: &str) -> SocketAddr {
        *self.addresses.get(name).unwrap_or_else(|| panic!("{name} is none of {:?}", self.addresses))
    }

    /// Connects.
    pub fn connect(&self, name: &str) -> TcpStream {
        let socket = TcpStream::connect(self.at(name)).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        socket
    }

    /// Sends all of `bytes` over a connection, ends it, and returns what is said back.
    pub fn tell(&self, name: &str, bytes: &[u8]) -> String {
        let mut socket = self.connect(name);
        socket.write_all(bytes).expect("sent");
        socket.shutdown(std::net::Shutdown::Write).expect("ended");
        let mut said = String::new();
        socket.read_to_string(&mut said).expect("an end");
        said
    }

    /// Sends a request and returns its answer.
    pub fn ask(&self, what: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut socket = self.connect("http");
        ask(&mut socket, what, headers, body)
    }

    /// Has it stop by itself.
    #[track_caller]
    pub fn stop(self) -> Ended {
        self.running.signal(libc::SIGTERM);
        self.running.end(PATIENCE).with_code(DONE)
    }
}

/// What a request was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn with(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// One request on a connection of its own.
pub fn ask(socket: &mut TcpStream, what: &str, headers: &[&str], body: &[u8]) -> Answer {
    try_ask(socket, what, headers, body).expect("an answer")
}

/// The same; `None` if the other end is gone before it has answered.
pub fn try_ask(socket: &mut TcpStream, what: &str, headers: &[&str], body: &[u8]) -> Option<Answer> {
    let mut head = format!("{what} HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|header| head.push_str(&format!("{header}\r\n")));
    head.push_str("\r\n");
    // One that is refused early may be answered before all is written.
    let _ = socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body));
    let mut said = Vec::new();
    let _ = socket.read_to_end(&mut said);
    let said = String::from_utf8(said).ok()?;
    let (head, body) = said.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}
