//! The program `bench-harness`: data files, random jobs and their right answers.
//!
//! Only the command line is here; the work is in the library.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use clap::{Args, Parser, Subcommand, ValueEnum};
use corefold_bench::agree::{CorefoldProgram, EngineUnderTest, check_seed};
use corefold_bench::fuzz::drive::{self, Run, Watch};
use corefold_bench::fuzz::{TARGETS, Target};
use corefold_bench::generate::{DataSet, Order, generate};
use corefold_bench::latency::{self, LatencyArguments};
use corefold_bench::live::Setting;
use corefold_bench::live::report::{attempt, markdown};
use corefold_bench::live::rows::ROWS;
use corefold_bench::local::LocalEngine;
use corefold_bench::oracle;
use corefold_bench::scenario::command::{self, CompareArguments, ReportArguments, RunArguments};
use corefold_bench::sim::faults::Fault;
use corefold_bench::sim::report::simulate_many;
use corefold_bench::sim::simulate_into;
use corefold_bench::sim::trace::Trace;
use corefold_bench::text;
use corefold_bench::workload::arguments::{Shape, aggregate_arguments, shell_line};
use corefold_bench::workload::random::random_job;
use corefold_bench::workload::text_files::write_lanes;
use corefold_bench::workload::{Format, Job};
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Seconds between two lines of progress.
const PROGRESS_EVERY_S: u64 = 10;

/// Load, oracle and checks for Corefold.
#[derive(Parser)]
#[command(name = "bench-harness", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a large synthetic data file
    Generate(Generate),
    /// Print the random job of a seed and its right answer
    Oracle(Oracle),
    /// Run random jobs through the engine and compare with the oracle
    Agree(Agree),
    /// Put damaged inputs to everything that reads bytes from outside
    Fuzz(Fuzz),
    /// Try faults on the corefold program
    Faults(Faults),
    /// Run the engine's code through simulated crashes, failing disks and rot, one run per seed
    Simulate(Simulate),
    /// Measure how long a batch waits until it is durable, with and without snapshots
    Latency(LatencyArguments),
    /// Measure a scenario, check its answer and keep what was found
    Run(RunArguments),
    /// Hold two runs against each other: ratios with their spread
    Compare(CompareArguments),
    /// Write an HTML page of runs
    Report(ReportArguments),
    /// List scenarios, data sets, formats and checks
    List,
}

#[derive(Args)]
struct Generate {
    /// Data set
    data_set: DataSetName,
    /// Number of rows
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Number of distinct keys (zipf: key; flights-like: tailnum) [default: 50000 or 4000]
    #[arg(long)]
    keys: Option<u64>,
    /// Zipf exponent of the keys; 0 is uniform
    #[arg(long, default_value_t = 1.0)]
    zipf: f64,
    /// Event time that the rows span, in seconds [default: 60 or one year]
    #[arg(long)]
    span_s: Option<u32>,
    /// How far rows are put out of order at most, in milliseconds [default: 0 or one day]
    #[arg(long)]
    disorder_ms: Option<u32>,
    /// Seed; the same arguments give the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File format
    #[arg(long, default_value = "arrow")]
    format: FormatName,
    /// File to write
    #[arg(long)]
    output: PathBuf,
}

#[derive(Args)]
struct Oracle {
    /// Seed of the job
    seed: u64,
    /// Also write the job's input files into this directory, which is made if need be
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

#[derive(Args)]
struct Agree {
    /// The corefold program
    #[arg(long, default_value = "target/release/corefold")]
    corefold: PathBuf,
    /// Run the engine's code in this process instead, under a seeded schedule with crashes
    #[arg(long, conflicts_with = "corefold")]
    in_process: bool,
    /// Which schedule; each moves the same jobs in other ways
    #[arg(long, default_value_t = 0, requires = "in_process")]
    schedule: u64,
    /// First seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Number of seeds
    #[arg(long, default_value_t = 1_000)]
    count: u64,
}

#[derive(Args)]
struct Fuzz {
    /// Target; `bench-harness list` names them
    target: String,
    /// Go on for so many minutes, from the first seed upwards
    #[arg(long, conflicts_with = "seeds")]
    minutes: Option<f64>,
    /// First seed, and one past the last: A..B
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<Range<u64>>,
    /// First seed of a run by minutes
    #[arg(long, default_value_t = 0, conflicts_with = "seeds")]
    from: u64,
    /// Run these files, or those of these directories, instead
    #[arg(long, conflicts_with_all = ["minutes", "seeds"], num_args = 1..)]
    files: Vec<PathBuf>,
    /// Where inputs that break a promise are kept [default: they are only told]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Write the inputs of --seeds into this directory, as a start for a fuzzer with feedback
    #[arg(long, value_name = "DIR", requires = "seeds")]
    write: Option<PathBuf>,
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.filter(|range| !range.is_empty()).ok_or_else(|| format!("`{text}` is no range such as 0..1000"))
}

#[derive(Args)]
struct Faults {
    /// Rows of the fault matrix; all if none is named
    rows: Vec<String>,
    /// The corefold program
    #[arg(long, default_value = "target/release/corefold")]
    corefold: PathBuf,
    /// Directory for everything that is made; on ext4 or XFS
    #[arg(long, default_value = "target/faults")]
    scratch: PathBuf,
    /// How often to disturb, instead of each row's own number
    #[arg(long)]
    times: Option<u64>,
    /// The small half of each row
    #[arg(long)]
    quick: bool,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also write a report in Markdown to this file
    #[arg(long)]
    report: Option<PathBuf>,
}

#[derive(Args)]
struct Simulate {
    /// First seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Number of seeds
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// Threads [default: one per allowed core]
    #[arg(long)]
    threads: Option<usize>,
    /// Also write the sums into this file, as Markdown tables
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Run only this seed
    #[arg(long, value_name = "SEED", conflicts_with_all = ["from", "count", "threads", "report"])]
    replay: Option<u64>,
    /// Print every turn of the seed
    #[arg(long, requires = "replay")]
    trace: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DataSetName {
    FlightsLike,
    Zipf,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    Arrow,
    Csv,
    Ndjson,
    Parquet,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Generate(arguments) => run_generate(&arguments),
        Command::Oracle(arguments) => run_oracle(&arguments),
        Command::Agree(arguments) => run_agree(&arguments),
        Command::Fuzz(arguments) => run_fuzz(&arguments).unwrap_or_else(|error| fail(&error)),
        Command::Faults(arguments) => run_faults(&arguments),
        Command::Simulate(arguments) => run_simulate(&arguments),
        Command::Latency(arguments) => show(latency::measure(&arguments)),
        Command::Run(arguments) => show(command::run(&arguments, |line| eprintln!("{line}"))),
        Command::Compare(arguments) => show(command::compare(&arguments)),
        Command::Report(arguments) => show(command::report(&arguments)),
        Command::List => {
            run_list();
            ExitCode::SUCCESS
        }
    }
}

fn run_generate(arguments: &Generate) -> ExitCode {
    let (data_set, keys, span_s, disorder_ms) = match arguments.data_set {
        DataSetName::Zipf => (DataSet::Zipf, 50_000, 60, 0),
        DataSetName::FlightsLike => (DataSet::FlightsLike, 4_000, 365 * 86_400, 86_400_000),
    };
    let order = Order {
        data_set,
        rows: arguments.rows,
        keys: arguments.keys.unwrap_or(keys),
        zipf: arguments.zipf,
        span_ms: i64::from(arguments.span_s.unwrap_or(span_s)) * 1_000,
        disorder_ms: i64::from(arguments.disorder_ms.unwrap_or(disorder_ms)),
        seed: arguments.seed,
        format: match arguments.format {
            FormatName::Arrow => Format::Arrow,
            FormatName::Csv => Format::Csv,
            FormatName::Ndjson => Format::Ndjson,
            FormatName::Parquet => Format::Parquet,
        },
    };
    match generate(&order, &arguments.output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot write {}: {error}", arguments.output.display())),
    }
}

fn run_oracle(arguments: &Oracle) -> ExitCode {
    let job = random_job(arguments.seed);
    let mut files: Vec<PathBuf> =
        (0..job.lanes.len()).map(|lane| format!("lane-{lane}.{}", job.format.name()).into()).collect();
    if let Some(directory) = &arguments.write {
        match fs::create_dir_all(directory).and_then(|()| write_lanes(&job, directory)) {
            Ok(written) => files = written,
            Err(error) => return fail(&format!("cannot write into {}: {error}", directory.display())),
        }
    }
    println!("# {}", shell_line("corefold", &aggregate_arguments(&job, &files, &Shape::plain())));
    print_lanes(&job);
    match oracle::answer(&job) {
        Ok(answer) => {
            println!("# {:?}", answer.ledger);
            print!("{}", answer.csv());
        }
        Err(refusal) => println!("# the run must fail: {refusal}"),
    }
    ExitCode::SUCCESS
}

fn print_lanes(job: &Job) {
    for (lane, rows) in job.lanes.iter().enumerate() {
        println!("# lane {lane}: {} rows", rows.len());
        for (index, row) in rows.iter().enumerate() {
            println!("#   {index}: {} {:?}", text::utc_time(row.time), row.cells);
        }
    }
}

fn run_agree(arguments: &Agree) -> ExitCode {
    let scratch = std::env::temp_dir().join(format!("corefold-agree-{}", std::process::id()));
    let engine: Box<dyn EngineUnderTest> = if arguments.in_process {
        Box::new(LocalEngine::new(arguments.schedule))
    } else {
        Box::new(CorefoldProgram::new(&arguments.corefold, &scratch))
    };
    let mut differing = 0u64;
    for seed in arguments.from..arguments.from.saturating_add(arguments.count) {
        if let Err(report) = check_seed(seed, &*engine) {
            differing += 1;
            println!("{report}\n");
        }
    }
    // Only an empty directory is left; nothing is lost when it cannot be removed.
    let _ = fs::remove_dir(&scratch);
    println!("{} of {} jobs agree", arguments.count - differing, arguments.count);
    if differing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_fuzz(arguments: &Fuzz) -> Result<ExitCode, String> {
    let target = Target::named(&arguments.target).ok_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        format!("there is no target `{}`; the targets are {}", arguments.target, names.join(", "))
    })?;
    // What panics is told below, with its input.
    std::panic::set_hook(Box::new(|_| {}));
    let name = target.name;
    let watch = Watch::start(move |input| {
        eprintln!("bench-harness: {name}, {input}: no end after {} s", drive::INPUT_TIME_MAX.as_secs());
        std::process::exit(3);
    });
    let begun = Instant::now();
    let mut run = Run::default();
    if arguments.files.is_empty() {
        let seeds = arguments.seeds.clone().unwrap_or(arguments.from..u64::MAX);
        let patience = match (&arguments.seeds, arguments.minutes) {
            (Some(_), _) => Duration::MAX,
            (None, minutes) => Duration::try_from_secs_f64(minutes.unwrap_or(1.0) * 60.0)
                .map_err(|error| format!("--minutes: {error}"))?,
        };
        for seed in seeds.take_while(|_| begun.elapsed() < patience) {
            watch.begin(format!("seed {seed}"));
            run.seed(target, seed);
            if let Some(directory) = &arguments.write {
                let path = directory.join(format!("seed-{seed}"));
                let written = fs::create_dir_all(directory).and_then(|()| fs::write(&path, target.input(seed)));
                written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            }
        }
    }
    for path in &arguments.files {
        watch.begin(path.display().to_string());
        let cannot_read = |error| format!("cannot read {}: {error}", path.display());
        if path.is_dir() {
            run.corpus(target, path).map_err(cannot_read)?;
        } else {
            let bytes = fs::read(path).map_err(cannot_read)?;
            run.input(target, || path.display().to_string(), bytes);
        }
    }
    let tally = run.tally();
    for finding in &tally.findings {
        println!("{name}, {}: {}", finding.input, finding.what);
        if let Some(directory) = &arguments.keep {
            let path = directory.join(format!("{name}-{:016x}", finding.digest()));
            let kept = fs::create_dir_all(directory).and_then(|()| fs::write(&path, &finding.bytes));
            kept.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            println!("  kept as {}", path.display());
        }
    }
    let slowest = tally
        .slowest
        .as_ref()
        .map_or(String::new(), |(input, took)| format!(", slowest {input} with {:.1} ms", took.as_secs_f64() * 1e3));
    let (executions, findings, digest) = (tally.executions, tally.findings.len(), tally.digest);
    let seconds = begun.elapsed().as_secs();
    println!("{name}: {executions} inputs in {seconds} s, {findings} findings, digest {digest:016x}{slowest}");
    Ok(if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_faults(arguments: &Faults) -> ExitCode {
    if let Some(unknown) = arguments.rows.iter().find(|name| !ROWS.iter().any(|row| row.number == **name)) {
        return fail(&format!(
            "there is no row {unknown}; known: {}",
            ROWS.iter().map(|row| row.number).collect::<Vec<_>>().join(" ")
        ));
    }
    let Faults { corefold, scratch, times, quick, seed, .. } = arguments;
    let setting =
        Setting { corefold: corefold.clone(), scratch: scratch.clone(), times: *times, quick: *quick, seed: *seed };
    let mut outcomes = Vec::new();
    for row in
        ROWS.iter().filter(|row| arguments.rows.is_empty() || arguments.rows.iter().any(|name| name == row.number))
    {
        let outcome = attempt(row, &setting);
        println!("{}", outcome.line());
        outcomes.push(outcome);
    }
    if let Some(path) = &arguments.report {
        let command = format!("scripts/faults.sh {}", arguments.rows.join(" "));
        if let Err(error) = fs::write(path, markdown(&outcomes, command.trim_end(), *seed)) {
            return fail(&format!("cannot write {}: {error}", path.display()));
        }
    }
    if outcomes.iter().any(|outcome| outcome.word() == "FAIL") { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run_simulate(arguments: &Simulate) -> ExitCode {
    if let Some(seed) = arguments.replay {
        return replay(seed, arguments.trace);
    }
    let threads =
        arguments.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |cores| cores.get()));
    let started = Instant::now();
    let shown_s = AtomicU64::new(0);
    let seeds = arguments.from..arguments.from.saturating_add(arguments.count);
    let totals = simulate_many(seeds, threads, |totals| {
        let elapsed = started.elapsed();
        if elapsed.as_secs() >= shown_s.load(Ordering::Relaxed) + PROGRESS_EVERY_S {
            shown_s.store(elapsed.as_secs(), Ordering::Relaxed);
            let rate = totals.seeds as f64 / elapsed.as_secs_f64();
            let (seeds, count, failed) = (totals.seeds, arguments.count, totals.failed);
            eprintln!("{seeds} of {count} seeds, {rate:.0} per second, {failed} failed");
        }
    });
    for failure in totals.failures.values() {
        println!("{failure}\n");
    }
    let elapsed_s = started.elapsed().as_secs_f64();
    let rate = totals.seeds as f64 / elapsed_s;
    println!("{}\n{threads} threads, {elapsed_s:.1} s, {rate:.0} seeds per second", totals.markdown());
    if let Some(path) = &arguments.report
        && let Err(error) = fs::write(path, totals.markdown())
    {
        return fail(&format!("cannot write {}: {error}", path.display()));
    }
    if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64, shown: bool) -> ExitCode {
    let mut trace = if shown { Trace::with_text() } else { Trace::default() };
    let result = simulate_into(seed, &mut trace);
    for line in trace.into_lines() {
        println!("{line}");
    }
    match result {
        Ok(report) => {
            println!("seed {seed}: good after {} starts, trace hash {:016x}", report.lives, report.trace);
            for fault in Fault::ALL.into_iter().filter(|&fault| report.faults.get(fault) > 0) {
                println!("  {fault}: {}", report.faults.get(fault));
            }
            for (refusal, count) in &report.refusals {
                println!("  start refused because {refusal}: {count}");
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run_list() {
    print!("{}", command::list());
    println!("data sets (bench-harness generate):");
    println!("  zipf          ts timestamp(ms), key u64 by Zipf, value f64");
    println!("  flights-like  the columns of the flights example, invented");
    println!("formats: {}", Format::ALL.map(Format::name).join(", "));
    println!("checks:");
    println!("  oracle SEED   a random job and its right answer");
    println!("  faults        rows of the fault matrix on the corefold program");
    println!("  simulate      crashes, failing disks and rot, from seeds");
    println!("  agree         random jobs through the corefold program, or in process with crashes");
    println!("  fuzz TARGET   damaged inputs; the targets:");
    for Target { name, about, .. } in &TARGETS {
        println!("    {name:<11} {about}");
    }
}

fn show(result: Result<String, impl ToString>) -> ExitCode {
    match result {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("bench-harness: {message}");
    ExitCode::FAILURE
}
