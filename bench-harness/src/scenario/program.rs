//! The whole engine: the program `corefold` as a user starts it, from an input file to a result file.
//!
//! Time is wall clock from the start of the process to its end. The input is in the page cache after the warm-up, or in
//! `/dev/shm` with `place=memory`. What the file formats look like is in [`super::files`].

use super::cores::{Cores, Pin};
use super::digest::Digest;
use super::events::{Events, ValueKind};
use super::files;
use super::folding::{AGAINST, Rival};
use super::params::{ParamSpec, Params};
use super::question;
use super::reference;
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// See the module.
pub struct Program;

/// Between two looks at the most that the program has had in memory so far; what it takes on top in its last moments is
/// not seen. The kernel's figure for a child that has ended is no use: it begins with the memory of the parent.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);

/// `USER_HZ`: what the kernel counts processor time in for `/proc`.
const TICKS_PER_S: f64 = 100.0;

impl Scenario for Program {
    fn name(&self) -> &'static str {
        "engine"
    }

    fn about(&self) -> &'static str {
        "the corefold program from an input file to a result file, as a user runs it"
    }

    fn params(&self) -> Vec<ParamSpec> {
        let own = [
            question::BATCH,
            ParamSpec::choice("format", "arrow", files::FORMATS, "of the input"),
            ParamSpec::choice("output", "arrow", files::FORMATS, "format of the results"),
            ParamSpec::choice("place", "disk", &["disk", "memory"], "where the input lies; memory is /dev/shm"),
            ParamSpec::count("shards", ["1", "2"], [1, 1_024], "shards"),
            ParamSpec::choice("durability", "none", &["none", "os", "sync"], "none: without a data directory"),
            ParamSpec::choice("routing", "load", &["load", "round-robin", "hash"], "how batches find their shard"),
            ParamSpec::count("cores", ["0", "0"], [0, 1_024], "the program may use so many cores; 0: all"),
            AGAINST,
        ];
        question::params().into_iter().chain(own).collect()
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let (events, windows) = (Events::make(params)?, question::windows(params)?);
        let expected = reference::answer(&events, windows)?;
        let (format, output) = (params.text("format")?.to_owned(), params.text("output")?.to_owned());
        let shm = Path::new("/dev/shm").join(format!("corefold-bench-{}", std::process::id()));
        let place = if params.text("place")? == "memory" { shm } else { setting.scratch.clone() };
        let place = Place::new(place.join("engine"))?;
        let input = place.0.join(format!("events.{format}"));
        let input_size = files::write(&events, &format, &input)?;
        let scratch = Place::new(setting.scratch.join("engine-run"))?;
        let result = scratch.0.join(format!("results.{output}"));
        let durability = params.text("durability")?;
        let data_dir = (durability != "none").then(|| scratch.0.join("data"));
        let mut arguments = vec!["aggregate".to_owned(), input.display().to_string()];
        arguments.extend(question::words(events.stream(), windows));
        let mut flag = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
        flag("format", &format);
        flag("shards", params.text("shards")?);
        flag("routing", params.text("routing")?);
        flag("batch-rows", params.text("batch")?);
        flag("output", &result.display().to_string());
        flag("output-format", &output);
        flag("progress", "never");
        if let Some(directory) = &data_dir {
            flag("data-dir", &directory.display().to_string());
            flag("durability", durability);
        }
        let cores = params.size("cores")?;
        let pin = if cores == 0 { None } else { Some(setting.cores.pin_to(0..cores)?) };
        Ok(Box::new(PreparedProgram {
            corefold: setting.corefold.clone(),
            arguments,
            count: events.len() as f64,
            groups: events.groups() as f64,
            input_size,
            kind: events.kind,
            format: output,
            result,
            data_dir,
            expected,
            rival: Rival::of(params, events, windows)?,
            cores: setting.cores.clone(),
            places: [place, scratch],
            _pin: pin,
        }))
    }
}

/// A directory that goes with its owner.
pub struct Place(pub PathBuf);

impl Place {
    /// A new, empty directory.
    pub fn new(path: PathBuf) -> Result<Place, BenchError> {
        remove(&path)?;
        fs::create_dir_all(&path).map_err(BenchError::io(format!("cannot make {}", path.display())))?;
        Ok(Place(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left is found and removed by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes a directory that may be there.
pub fn remove(path: &Path) -> Result<(), BenchError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(BenchError::Io { what: format!("cannot remove {}", path.display()), error })
        }
        _ => Ok(()),
    }
}

struct PreparedProgram {
    corefold: PathBuf,
    arguments: Vec<String>,
    count: f64,
    groups: f64,
    input_size: u64,
    kind: ValueKind,
    format: String,
    result: PathBuf,
    data_dir: Option<PathBuf>,
    expected: Digest,
    rival: Rival,
    cores: Cores,
    places: [Place; 2],
    _pin: Option<Pin>,
}

impl PreparedProgram {
    /// What the round before has left goes, and the disk has its blocks back before the clock starts: a file system may free
    /// them when their name is taken by another file, or within the next sync.
    fn clear(&self) -> Result<(), BenchError> {
        if let Some(directory) = &self.data_dir {
            remove(directory)?;
        }
        let failed = |error| BenchError::Io { what: format!("cannot clear {}", self.result.display()), error };
        match fs::remove_file(&self.result) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let directory = fs::File::open(&self.places[1].0).map_err(failed)?;
        rustix::fs::syncfs(directory).map_err(|error| failed(error.into()))
    }
}

impl Prepared for PreparedProgram {
    fn expected(&self) -> Digest {
        self.expected
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let rival = {
            let _pin = self.cores.pin(0)?;
            self.rival.measure(self.expected)?
        };
        self.clear()?;
        let mut command = Command::new(&self.corefold);
        let usage = run(command.args(&self.arguments), &self.places[1].0.join("stderr"))?;
        let seconds = usage.wall.as_secs_f64();
        let total = seconds * 1e9 / self.count;
        let mut metrics = vec![
            Metric::cost("total", "ns/event", total),
            Metric::rate("throughput", "M events/s", self.count / seconds / 1e6),
            Metric::rate("input read", "MB/s", self.input_size as f64 / seconds / 1e6),
            Metric::cost("wall clock", "s", seconds),
            Metric::cost("processor time", "s", usage.cpu_s),
            Metric::cost("peak memory", "MB", usage.memory_peak as f64 / 1e6),
            Metric::cost("peak memory per group", "bytes", usage.memory_peak as f64 / self.groups),
        ];
        if let Some([hand, _]) = rival {
            metrics.push(Metric::cost("hand total", "ns/event", hand));
            metrics.push(Metric::rate("speed against hand", "ratio", hand / total));
        }
        let digest = files::digest(&self.format, &self.result, self.kind)?;
        Ok(Round { metrics, digest, latency: None })
    }
}

/// What a process took.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// From start to end.
    pub wall: Duration,
    /// User and system time.
    pub cpu_s: f64,
    /// Largest resident set, in bytes, as far as it was seen.
    pub memory_peak: u64,
}

/// Runs `command` to its end; what it writes to standard error goes to `log`, and into the error if it fails.
pub fn run(command: &mut Command, log: &Path) -> Result<Usage, BenchError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let says = fs::File::create(log).map_err(BenchError::io(format!("cannot write {}", log.display())))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(says);
    let began = Instant::now();
    let mut child = command.spawn().map_err(BenchError::io(format!(
        "cannot start {name}; build it with `cargo build --release`, or name it with --corefold"
    )))?;
    let (wall, cpu_s, memory_peak) = watch(&child, began)?;
    let status = child.wait().map_err(BenchError::io(format!("cannot wait for {name}")))?;
    if !status.success() {
        let said = fs::read_to_string(log).unwrap_or_default();
        return Err(BenchError::Failed(format!("{name} ended with {status}: {}", said.trim())));
    }
    Ok(Usage { wall, cpu_s, memory_peak })
}

/// Waits until the child has ended, but leaves it to be waited for: its processor time is there until then.
fn watch(child: &Child, began: Instant) -> Result<(Duration, f64, u64), BenchError> {
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut peak = 0;
            while !has_ended.load(Ordering::Relaxed) {
                peak = memory_of(&proc).unwrap_or(0).max(peak);
                std::thread::park_timeout(SAMPLE_EVERY);
            }
            peak
        });
        let pid =
            Pid::from_raw(child.id() as i32).ok_or_else(|| BenchError::Failed("a process without id".to_owned()))?;
        let waited = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let wall = began.elapsed();
        has_ended.store(true, Ordering::Relaxed);
        sampler.thread().unpark();
        let peak = sampler.join().unwrap_or(0);
        waited
            .map_err(|error| BenchError::Io { what: "cannot wait for the program".to_owned(), error: error.into() })?;
        Ok((wall, processor_time(&proc).unwrap_or(0.0), peak))
    })
}

/// Largest resident set of a process so far, in bytes, by its folder in `/proc`.
pub fn memory_of(proc: &Path) -> Option<u64> {
    let status = fs::read_to_string(proc.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// User and system time of a process or thread so far, by its folder in `/proc`.
pub fn processor_time(proc: &Path) -> Option<f64> {
    let stat = fs::read_to_string(proc.join("stat")).ok()?;
    // The name may hold spaces; user and system time are fields 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_S)
}
