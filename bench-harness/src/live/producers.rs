//! A job whose events come over the network: files, what reading them gives, a server that listens, and clients that send
//! them to it.
//!
//! What disturbs them is in [`super::rows`]; a job that reads its files itself is in [`super::job`].

use super::child::{Ended, Running};
use super::job::{Files, PATIENCE, gather};
use super::{Checked, Setting, ensure, fail};
use crate::generate::{DataSet, Order, generate};
use crate::workload::Format;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(60);

const STREAM: &str = r#"
[[streams]]
name = "flights"
time = { column = "time", max_delay = "1h", idle_timeout = "IDLE" }
fields = { carrier = "string", origin = "string", tailnum = "string", dep_delay = "f64", distance = "f64", flight = "i64" }

[[sources]]
stream = "flights"
SOURCE

[[views]]
name = "hourly"
stream = "flights"
by = ["carrier", "origin"]
window = { size = "1h" }
aggregates = ["count()", "mean(dep_delay)", "sum(distance)", "max(flight)"]
[[views.exports]]
file = { path = "out/hourly/", format = "csv", rotate = { every = "6h" } }

[[views]]
name = "sliding"
stream = "flights"
by = ["tailnum"]
window = { size = "6h", slide = "1h" }
aggregates = ["count()", "quantile(dep_delay, 0.9)", "distinct(origin)"]
[[views.exports]]
file = { path = "out/sliding.csv" }
"#;

/// Files, and what reading them gives.
#[derive(Debug)]
pub struct SentJob {
    program: PathBuf,
    directory: PathBuf,
    inputs: Vec<PathBuf>,
    /// Rows of all files.
    pub rows: u64,
    expected: Files,
}

/// What a server is told besides its job.
#[derive(Clone, Debug)]
pub struct ServerPlan {
    /// Where it listens.
    pub address: SocketAddr,
    /// Shards.
    pub shards: u32,
    /// Keys of `sources.tcp`, each behind a comma.
    pub limits: String,
    /// `streams.time.idle_timeout`.
    pub idle: &'static str,
    /// The program runs below this command.
    pub wrapper: Vec<String>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
}

impl ServerPlan {
    /// A server with defaults on a port of the loopback that was free a moment ago; it stays the same over restarts.
    pub fn local() -> Checked<ServerPlan> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (limits, wrapper, environment) = (String::new(), Vec::new(), Vec::new());
        Ok(ServerPlan { address, shards: 2, limits, idle: "1h", wrapper, environment })
    }
}

/// A directory where a server runs.
#[derive(Debug)]
pub struct Served<'a> {
    job: &'a SentJob,
    /// The directory.
    pub root: PathBuf,
    plan: ServerPlan,
}

impl SentJob {
    /// Makes `lanes` files of `rows` rows and reads them once.
    pub fn new(setting: &Setting, directory: &Path, lanes: u64, rows: u64) -> Checked<SentJob> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
        let directory = fs::canonicalize(directory)?;
        let mut inputs = Vec::new();
        for lane in 0..lanes {
            let order = Order {
                data_set: DataSet::FlightsLike,
                rows,
                keys: 50,
                zipf: 1.0,
                span_ms: 48 * 3_600_000,
                disorder_ms: 1_800_000,
                seed: setting.seed.wrapping_add(lane),
                format: Format::Csv,
            };
            inputs.push(directory.join(format!("in-{lane}.csv")));
            generate(&order, &inputs[lane as usize])?;
        }
        let program = fs::canonicalize(&setting.corefold)?;
        let mut job = SentJob { program, directory, inputs, rows: rows * lanes, expected: Files::new() };
        let place = job.directory.join("plain");
        fs::create_dir_all(&place)?;
        let names: Vec<String> = job.inputs.iter().map(|path| format!("{:?}", path.display().to_string())).collect();
        let source = format!("file = {{ path = [{}], null = [\"NA\"] }}", names.join(", "));
        fs::write(place.join("job.toml"), STREAM.replace("SOURCE", &source).replace("IDLE", "1h"))?;
        let mut command = Command::new(&job.program);
        command.arg("run").arg(place.join("job.toml")).args(["--progress", "never"]);
        Running::start(&mut command, &place.join("stderr"))?.end(PATIENCE)?.with_code(0)?;
        gather(&place.join("out"), &place.join("out"), &mut job.expected)?;
        ensure(job.expected.len() > 2, || "too little came out".to_owned())?;
        Ok(job)
    }

    /// An empty place for a server.
    pub fn place(&self, root: &Path, plan: ServerPlan) -> Checked<Served<'_>> {
        if root.exists() {
            fs::remove_dir_all(root)?;
        }
        fs::create_dir_all(root)?;
        Ok(Served { job: self, root: fs::canonicalize(root)?, plan })
    }

    /// The same files sent by `corefold send`, to wherever `to` is. `more` are other arguments.
    pub fn send(&self, served: &Served<'_>, to: SocketAddr, more: &[&str]) -> Checked<Running> {
        let inputs: Vec<&Path> = self.inputs.iter().map(PathBuf::as_path).collect();
        served.send_files(&inputs, to, more)
    }

    /// One of the files.
    pub fn input(&self, lane: usize) -> &Path {
        &self.inputs[lane]
    }
}

impl Served<'_> {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.plan.address
    }

    /// Its data directory.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Starts the server and waits until it listens.
    pub fn start(&self) -> Checked<Running> {
        let ServerPlan { address, shards, limits, idle, wrapper, environment } = &self.plan;
        let source = format!("tcp = {{ listen = \"{address}\"{limits} }}");
        let engine = format!(
            "[engine]\nshards = {shards}\npull_interval = \"5ms\"\ndata_dir = \"store\"\nstop = \"drain\"\n\
             [wal]\nsegment_size = \"1MiB\"\n[snapshot]\nwal_bytes = \"1MiB\"\nbatches = 50\n"
        );
        let config = self.root.join("job.toml");
        fs::write(&config, engine + &STREAM.replace("SOURCE", &source).replace("IDLE", idle))?;
        let mut command = match wrapper.split_first() {
            None => Command::new(&self.job.program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.job.program);
                command
            }
        };
        command.arg("run").arg(&config).args(["--progress", "never"]);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut running = Running::start(&mut command, &self.root.join("server"))?;
        let deadline = Instant::now() + START_MAX;
        while !running.said().contains("listening on") {
            if running.has_ended()? || Instant::now() > deadline {
                return fail(format!("the server does not listen: {}", running.said()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(running)
    }

    /// Sends files with `corefold send`.
    pub fn send_files(&self, inputs: &[&Path], to: SocketAddr, more: &[&str]) -> Checked<Running> {
        let mut command = Command::new(&self.job.program);
        command.arg("send").args(inputs).args(["--to", &to.to_string(), "--config"]).arg(self.root.join("job.toml"));
        command.args(["--progress", "never", "--null", "NA", "--batch-rows", "500", "--give-up-after", "10m"]);
        Ok(Running::start(command.args(more), &self.root.join("client"))?)
    }

    /// Stops the server in order.
    pub fn stop(&self, server: Running) -> Checked<Ended> {
        server.signal(libc::SIGTERM)?;
        let ended = server.end(PATIENCE)?.with_code(0)?;
        ensure(!ended.stderr.contains("DOES NOT ADD UP"), || ended.stderr.clone())?;
        Ok(ended)
    }

    /// Stops the server in order, and checks that its outputs are what reading the files gives.
    pub fn finish(&self, server: Running) -> Checked<Ended> {
        let ended = self.stop(server)?;
        let mut found = Files::new();
        gather(&self.root.join("out"), &self.root.join("out"), &mut found)?;
        for (path, bytes) in &self.job.expected {
            match found.get(path) {
                Some(other) if other == bytes => {}
                Some(_) => return fail(format!("{} has other bytes\n{}", path.display(), ended.stderr)),
                None => return fail(format!("{} is missing\n{}", path.display(), ended.stderr)),
            }
        }
        ensure(found.len() == self.job.expected.len(), || "there are more outputs than there should be".to_owned())?;
        let verified = Command::new(&self.job.program).arg("verify").arg(self.store()).output()?;
        ensure(verified.status.success(), || String::from_utf8_lossy(&verified.stdout).into_owned())?;
        Ok(ended)
    }
}
