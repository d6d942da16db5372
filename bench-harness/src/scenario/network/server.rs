//! The server of the network scenario: the program `corefold run` with one shard, in a process of its own.
//!
//! What is sent to it is in [`super::client`].

use crate::scenario::program::{memory_of, processor_time};
use crate::scenario::reference::Windows;
use crate::scenario::{BenchError, Setting};
use crate::workload::arguments::duration;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the program may take to listen, and to end once it was asked to.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at what it says.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the program is asked to do.
pub struct Job<'a> {
    /// `sync`, `os`, or `none`: without a data directory.
    pub durability: &'a str,
    /// Windows of the question.
    pub windows: Windows,
    /// Whether events have a value.
    pub has_values: bool,
    /// Most groups.
    pub cardinality: usize,
    /// Certificate and key, where what is sent is encrypted.
    pub tls: Option<&'a TlsPair>,
}

/// A certificate for this machine that vouches for itself, and its key, as files.
pub struct TlsPair {
    /// The certificate; a client trusts it and no other.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl TlsPair {
    /// Name in the certificate.
    pub const NAME: &'static str = "localhost";

    /// A new pair in `place`.
    pub fn make(place: &Path) -> Result<TlsPair, BenchError> {
        let made = rcgen::generate_simple_self_signed([TlsPair::NAME.to_owned()]);
        let made = made.map_err(BenchError::failed("a certificate cannot be made"))?;
        let pair = TlsPair { cert: place.join("cert.pem"), key: place.join("key.pem") };
        fs::write(&pair.cert, made.cert.pem()).map_err(BenchError::io("cannot write cert.pem"))?;
        fs::write(&pair.key, made.signing_key.serialize_pem()).map_err(BenchError::io("cannot write key.pem"))?;
        Ok(pair)
    }
}

/// A running program; it ends with its owner.
pub struct Server {
    child: Child,
    said: PathBuf,
    results: PathBuf,
    proc: PathBuf,
    /// Where it listens.
    pub address: String,
}

impl Server {
    /// Starts the program with everything of its own below `place`, and waits until it listens.
    pub fn start(job: &Job<'_>, setting: &Setting, place: &Path) -> Result<Server, BenchError> {
        let config = place.join("engine.toml");
        fs::write(&config, text(job, setting, place)).map_err(BenchError::io("cannot write engine.toml"))?;
        let said = place.join("stderr");
        let file = File::create(&said).map_err(BenchError::io(format!("cannot write {}", said.display())))?;
        let name = setting.corefold.display();
        // The shard has the best core, all else of the program the next: a client may have what is left.
        let pin = setting.cores.pin_to(0..2)?;
        let mut command = Command::new(&setting.corefold);
        command.arg("run").arg(&config).args(["--progress", "never"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        drop(pin);
        let child = child.map_err(BenchError::io(format!(
            "cannot start {name}; build it with `cargo build --release`, or name it with --corefold"
        )))?;
        let proc = PathBuf::from(format!("/proc/{}", child.id()));
        let results = place.join("results.arrow");
        let mut server = Server { child, said, results, proc, address: String::new() };
        server.address = server.listens()?;
        Ok(server)
    }

    /// Seconds of user and system time so far.
    pub fn cpu_s(&self) -> f64 {
        processor_time(&self.proc).unwrap_or(0.0)
    }

    /// Largest resident set so far, in bytes.
    pub fn memory_peak(&self) -> u64 {
        memory_of(&self.proc).unwrap_or(0)
    }

    /// Asks the program to give out what it has and end. Returns its result file.
    pub fn stop(mut self) -> Result<PathBuf, BenchError> {
        let pid = Pid::from_raw(self.child.id() as i32);
        let pid = pid.ok_or_else(|| BenchError::Failed("a process without id".to_owned()))?;
        kill_process(pid, Signal::TERM)
            .map_err(|error| BenchError::Io { what: "cannot stop the program".to_owned(), error: error.into() })?;
        let began = Instant::now();
        loop {
            if let Some(status) = self.status()? {
                return if status.success() { Ok(self.results.clone()) } else { Err(self.failed(&status.to_string())) };
            }
            if began.elapsed() > PATIENCE {
                return Err(self.failed("no end after it was asked to stop"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// An error about the program, with what it said.
    pub fn failed(&self, what: &str) -> BenchError {
        let said = fs::read_to_string(&self.said).unwrap_or_default();
        BenchError::Failed(format!("corefold run: {what}: {}", said.trim()))
    }

    fn status(&mut self) -> Result<Option<std::process::ExitStatus>, BenchError> {
        self.child.try_wait().map_err(BenchError::io("cannot wait for corefold"))
    }

    fn listens(&mut self) -> Result<String, BenchError> {
        let began = Instant::now();
        loop {
            let said = fs::read_to_string(&self.said).unwrap_or_default();
            let address = said.lines().find_map(|line| line.strip_prefix("listening on ")?.split_whitespace().next());
            if let Some(address) = address {
                return Ok(address.to_owned());
            }
            if let Some(status) = self.status()? {
                return Err(match said.contains("direct") || said.contains("ext4") {
                    // As for shards in this process: a disk that cannot do what is asked.
                    true => BenchError::Unsuitable { reason: said.trim().to_owned() },
                    false => self.failed(&status.to_string()),
                });
            }
            if began.elapsed() > PATIENCE {
                return Err(self.failed("it does not listen"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(job: &Job<'_>, setting: &Setting, place: &Path) -> String {
    let Windows { size, slide } = job.windows;
    let (size, slide, cardinality) = (duration(size), duration(slide), job.cardinality);
    let (store, results) = (place.join("store"), place.join("results.arrow"));
    let log = match job.durability {
        "none" => String::new(),
        durability => format!("data_dir = {store:?}\n[wal]\ndurability = \"{durability}\"\n"),
    };
    let core = match setting.cores.order.len() {
        count if count > 0 && setting.cores.pins => setting.cores.order[1 % count].id.to_string(),
        _ => "\"auto\"".to_owned(),
    };
    let (fields, more) = match job.has_values {
        true => ("key = \"i64\", value = \"f64\"", ", \"sum(value)\", \"min(value)\", \"max(value)\""),
        false => ("key = \"i64\"", ""),
    };
    let tls =
        job.tls.map_or(String::new(), |TlsPair { cert, key }| format!(", tls = {{ cert = {cert:?}, key = {key:?} }}"));
    format!(
        "[engine]\nshards = 1\ncoordinator_core = {core}\nstop = \"drain\"\n{log}\n\
         [[streams]]\nname = \"events\"\ntime = {{ column = \"ts\" }}\nfields = {{ {fields} }}\n\n\
         [[sources]]\nstream = \"events\"\ntcp = {{ listen = \"127.0.0.1:0\"{tls} }}\n\n\
         [[views]]\nname = \"by_key\"\nstream = \"events\"\nby = [\"key\"]\n\
         window = {{ size = \"{size}\", slide = \"{slide}\" }}\naggregates = [\"count()\"{more}]\n\
         max_groups = {cardinality}\n\n[[views.exports]]\nfile = {{ path = {results:?} }}\n"
    )
}
