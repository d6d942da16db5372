//! A durable `corefold run` job that turns everything over often, and what an undisturbed run makes of it.
//!
//! What disturbs it is in [`super::rows`].

use super::child::{Ended, Running};
use super::{Checked, Setting, ensure, fail};
use crate::generate::{DataSet, Order, generate};
use crate::workload::Format;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// No run of such a job takes that long, on a machine that does a lot besides.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How large a job is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Rows of each input file.
    pub rows: u64,
    /// Input files.
    pub lanes: u64,
    /// Rows of a batch.
    pub batch_rows: u64,
    /// Event time that the rows span.
    pub hours: u32,
    /// Distinct keys of the view with the most.
    pub keys: u64,
}

/// Some megabytes of log: several segments, snapshots and parts.
pub const MEDIUM: Size = Size { rows: 150_000, lanes: 2, batch_rows: 1_000, hours: 240, keys: 200 };

/// For the tests: one or two snapshots of each shard.
pub const BRISK: Size = Size { rows: 25_000, lanes: 2, batch_rows: 500, hours: 48, keys: 50 };

/// Little more than nothing: a few batches, snapshots and parts.
pub const TINY: Size = Size { rows: 500, lanes: 2, batch_rows: 40, hours: 12, keys: 3 };

/// Some tens of kilobytes.
pub const SMALL: Size = Size { rows: 1_500, lanes: 2, batch_rows: 75, hours: 48, keys: 5 };

impl Size {
    /// The size for jobs that are disturbed at random moments.
    pub fn of(setting: &Setting) -> Size {
        if setting.quick { BRISK } else { MEDIUM }
    }
}

/// What may differ from start to start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// Shards.
    pub shards: u32,
    /// Routing of batches.
    pub routing: &'static str,
    /// Durability.
    pub durability: &'static str,
}

impl Default for Start {
    fn default() -> Start {
        Start { shards: 2, routing: "load", durability: "sync" }
    }
}

/// All files below a directory by their path within it.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Inputs, and what an undisturbed run without a log makes of them.
#[derive(Clone, Debug)]
pub struct Job {
    program: PathBuf,
    directory: PathBuf,
    inputs: Vec<PathBuf>,
    size: Size,
    /// The outputs.
    pub expected: Files,
    /// The lines of the ledger.
    pub ledger: Vec<String>,
    /// How long an undisturbed durable run takes.
    pub took: Duration,
}

/// A directory where runs of a job are disturbed: configuration, data directory and outputs.
#[derive(Debug)]
pub struct Place<'a> {
    job: &'a Job,
    /// The directory.
    pub root: PathBuf,
}

impl Job {
    /// Makes inputs in `directory` and runs the job once.
    pub fn new(setting: &Setting, directory: &Path, size: Size) -> Checked<Job> {
        fs::create_dir_all(directory)?;
        let mut inputs = Vec::new();
        for lane in 0..size.lanes {
            let order = Order {
                data_set: DataSet::FlightsLike,
                rows: size.rows,
                keys: size.keys,
                zipf: 1.0,
                span_ms: i64::from(size.hours) * 3_600_000,
                disorder_ms: 7_200_000,
                seed: setting.seed.wrapping_add(lane),
                format: Format::Csv,
            };
            let path = directory.join(format!("in-{lane}.csv"));
            generate(&order, &path)?;
            inputs.push(fs::canonicalize(path)?);
        }
        let program = fs::canonicalize(&setting.corefold)
            .map_err(|error| io::Error::other(format!("{}: {error}", setting.corefold.display())))?;
        let (expected, ledger, took) = (Files::new(), Vec::new(), Duration::ZERO);
        let directory = fs::canonicalize(directory)?;
        let mut job = Job { program, directory: directory.clone(), inputs, size, expected, ledger, took };
        let plain = job.place(directory.join("undisturbed"))?;
        let ended = plain.start_plain()?.end(PATIENCE)?.with_code(0)?;
        let expected = plain.outputs()?;
        plain.remove()?;
        (job.expected, job.ledger) = (expected, ended.lines_of("ledger"));
        let rows = size.rows * size.lanes;
        ensure(job.expected.len() > 4 && job.ledger.len() == 3, || format!("{}: too little came out", ended.stderr))?;
        let received = format!("received {rows} = ");
        ensure(job.ledger[0].contains(&received), || format!("no `{received}`: {}", ended.stderr))?;
        let durable = job.place(directory.join("timed"))?;
        let took = durable.finish(Start::default())?.took;
        durable.remove()?;
        job.took = took;
        Ok(job)
    }

    /// An empty place for runs of this job.
    pub fn place(&self, root: PathBuf) -> Checked<Place<'_>> {
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fs::create_dir_all(&root)?;
        Ok(Place { job: self, root: fs::canonicalize(root)? })
    }

    /// Rows of all inputs.
    pub fn rows(&self) -> u64 {
        self.size.rows * self.size.lanes
    }

    /// Two streams' worth of views over one stream, in all formats, rotated by time, by size, and not at all.
    fn config(&self, start: Option<Start>) -> String {
        let mut text = String::new();
        let start_or_default = start.unwrap_or_default();
        let _ = writeln!(text, "[engine]\nshards = {}", start_or_default.shards);
        let _ = writeln!(text, "routing = \"{}\"", start_or_default.routing);
        let _ = writeln!(text, "batch_rows = {}\npull_interval = \"5ms\"", self.size.batch_rows);
        if start.is_some() {
            text.push_str("data_dir = \"store\"\n\n");
            let _ = writeln!(text, "[wal]\ndurability = \"{}\"", start_or_default.durability);
            text.push_str("segment_size = \"1MiB\"\n\n[snapshot]\nwal_bytes = \"64KiB\"\nbatches = 10\n");
        }
        text.push_str(
            r#"
[[streams]]
name = "flights"
time = { column = "time", max_delay = "1h" }
fields = { carrier = "string", origin = "string", tailnum = "string", dep_delay = "f64", distance = "f64", flight = "i64" }
"#,
        );
        for input in &self.inputs {
            let path = input.display();
            let _ =
                writeln!(text, "\n[[sources]]\nstream = \"flights\"\nfile = {{ path = \"{path}\", null = [\"NA\"] }}");
        }
        text.push_str(VIEWS);
        text
    }
}

const VIEWS: &str = r#"
[[views]]
name = "hourly"
stream = "flights"
by = ["carrier", "origin"]
window = { size = "1h" }
aggregates = ["count()", "mean(dep_delay)", "sum(distance)", "max(flight)", "first(tailnum)", "last(dep_delay)"]

[[views.exports]]
file = { path = "out/hourly-csv/", format = "csv", rotate = { every = "6h" } }

[[views.exports]]
file = { path = "out/hourly-parquet/", format = "parquet", rotate = { every = "12h" } }

[[views]]
name = "sliding"
stream = "flights"
by = ["tailnum"]
window = { size = "6h", slide = "1h" }
aggregates = ["count()", "p90 = quantile(dep_delay, 0.9)", "distinct(origin)", "stddev(distance)"]
where = "distance > 200"

[[views.exports]]
file = { path = "out/sliding.csv" }

[[views.exports]]
file = { path = "out/sliding-ndjson/", format = "ndjson", rotate = { bytes = "256KiB" } }

[[views]]
name = "all"
stream = "flights"
window = { size = "30m" }
aggregates = ["count()", "sum(dep_delay)", "top(origin, 3)"]

[[views.exports]]
file = { path = "out/all.ndjson" }

[[views.exports]]
file = { path = "out/all-arrow/", format = "arrow", rotate = { every = "1d" } }
"#;

impl Place<'_> {
    /// The data directory.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The durable job as a command.
    pub fn command(&self, start: Start) -> Checked<Command> {
        self.command_of(Some(start))
    }

    fn command_of(&self, start: Option<Start>) -> Checked<Command> {
        let config = self.job.config(start);
        let file = self.config_path();
        // The file may lie on a disk that takes no more writes.
        if fs::read_to_string(&file).map_or(true, |known| known != config) {
            fs::write(&file, config)?;
        }
        let mut command = Command::new(&self.job.program);
        command.arg("run").arg(&file).args(["--progress", "never"]);
        Ok(command)
    }

    fn config_path(&self) -> PathBuf {
        self.root.join("job.toml")
    }

    /// Where the next child's standard error goes: beside the inputs, since the place may be on a disk that fails.
    pub fn stderr(&self) -> PathBuf {
        self.job.directory.join("stderr")
    }

    fn start_plain(&self) -> Checked<Running> {
        Ok(Running::start(&mut self.command_of(None)?, &self.stderr())?)
    }

    /// Starts the durable job.
    pub fn start(&self, start: Start) -> Checked<Running> {
        Ok(Running::start(&mut self.command(start)?, &self.stderr())?)
    }

    /// Runs the durable job to its end, and checks what it made.
    pub fn finish(&self, start: Start) -> Checked<Ended> {
        let ended = self.start(start)?.end(PATIENCE)?.with_code(0)?;
        if !self.job.expected.is_empty() {
            self.check(&ended)?;
            self.check_tidy()?;
        }
        Ok(ended)
    }

    /// The exit code of `corefold verify`.
    pub fn verify(&self) -> Checked<Option<i32>> {
        Ok(Command::new(&self.job.program).arg("verify").arg(self.store()).output()?.status.code())
    }

    /// Kills a new run about so far on its way, and leaves what it has made.
    pub fn half_done(&self, start: Start, way: f64) -> Checked {
        let mut life = self.job.took.mul_f64(way);
        for _ in 0..20 {
            self.clear()?;
            if self.start(start)?.kill_after(life)?.was_killed() {
                return Ok(());
            }
            life = life.mul_f64(0.8);
        }
        fail("every run had ended before it was killed")
    }

    /// All outputs as they are.
    pub fn outputs(&self) -> Checked<Files> {
        let mut files = Files::new();
        let top = self.root.join("out");
        if top.exists() {
            gather(&top, &top, &mut files)?;
        }
        Ok(files)
    }

    /// That a run that has ended well left the bytes and the ledger of an undisturbed one, and nothing else but
    /// temporary files that could not be removed.
    pub fn check(&self, ended: &Ended) -> Checked {
        let ledger = ended.lines_of("ledger");
        ensure(ledger == self.job.ledger, || {
            format!("the ledger is\n{}\nand not\n{}", ledger.join("\n"), self.job.ledger.join("\n"))
        })?;
        ensure(!ended.stderr.contains("DOES NOT ADD UP"), || ended.stderr.clone())?;
        let mut outputs = self.outputs()?;
        outputs.retain(|path, _| !is_temporary(path));
        if let Some(difference) = difference(&outputs, &self.job.expected) {
            return fail(format!("{difference}\n{}", ended.stderr));
        }
        Ok(())
    }

    /// That nothing is left that was being made or removed.
    pub fn check_tidy(&self) -> Checked {
        let mut names = Vec::new();
        gather_names(&self.root, &mut names)?;
        names.retain(|path| is_temporary(path));
        ensure(names.is_empty(), || format!("left behind: {names:?}"))
    }

    /// That whatever has a final name in a directory of parts has its final bytes, after a run that did not end.
    pub fn check_parts(&self) -> Checked {
        for (path, bytes) in self.outputs()? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if !name.starts_with("part-") {
                continue;
            }
            match self.job.expected.get(&path) {
                Some(expected) if *expected == bytes => {}
                Some(_) => return fail(format!("{} has its name but not its bytes", path.display())),
                None => return fail(format!("{} is no part of the undisturbed run", path.display())),
            }
        }
        Ok(())
    }

    /// Removes all of it.
    pub fn remove(self) -> Checked {
        Ok(fs::remove_dir_all(&self.root)?)
    }

    /// Removes data directory and outputs, and keeps the place.
    pub fn clear(&self) -> Checked {
        for path in [self.store(), self.root.join("out")] {
            if path.exists() {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }
}

fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains("tmp"))
}

/// The first file that differs, and how.
fn difference(found: &Files, expected: &Files) -> Option<String> {
    for path in expected.keys().chain(found.keys()) {
        match (found.get(path), expected.get(path)) {
            (Some(found), Some(expected)) if found == expected => {}
            (Some(found), Some(expected)) => {
                let at =
                    found.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(found.len().min(expected.len()));
                let (has, wants) = (found.len(), expected.len());
                return Some(format!("{}: {has} bytes, expected {wants}; the first other one at {at}", path.display()));
            }
            (None, _) => return Some(format!("{} is missing", path.display())),
            (_, None) => return Some(format!("{} should not be there", path.display())),
        }
    }
    None
}

/// Every file below `directory`, named from `top` on.
pub fn gather(top: &Path, directory: &Path, files: &mut Files) -> io::Result<()> {
    let mut names = Vec::new();
    gather_names(directory, &mut names)?;
    for path in names {
        files.insert(path.strip_prefix(top).map_err(io::Error::other)?.to_owned(), fs::read(&path)?);
    }
    Ok(())
}

/// Paths of all files below `directory`.
pub fn gather_names(directory: &Path, names: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            gather_names(&path, names)?;
        } else {
            names.push(path);
        }
    }
    Ok(())
}

/// Makes `files` the whole content of `directory`.
pub fn spread(files: &Files, directory: &Path) -> io::Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    for (name, bytes) in files {
        let path = directory.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)?;
    }
    Ok(())
}
