//! The verbs `list`, `run`, `compare` and `report`: from arguments to text. Printing is the program's.

use super::cores::Cores;
use super::params::{self, ParamKind};
use super::record::RunRecord;
use super::run::{self, Order};
use super::{BenchError, SCENARIOS, Setting, host, named, place, ratio, report as page};
use crate::text;
use crate::workload::arguments::shell_line;
use clap::Args;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// Scenario; `bench-harness list` names them
    pub scenario: String,
    /// Sets a parameter; a list `k=a,b,c` measures every value
    #[arg(long = "param", value_name = "K=V", num_args = 1..)]
    pub params: Vec<String>,
    /// The size of the tests: seconds, and figures that mean nothing
    #[arg(long)]
    pub smoke: bool,
    /// Measured rounds of each point [default: 5, or 1 with --smoke]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub repeats: Option<u16>,
    /// Rounds before them that are thrown away [default: 1, or 0 with --smoke]
    #[arg(long)]
    pub warmups: Option<u16>,
    /// Last part of the name of the result directory [default: the scenario]
    #[arg(long)]
    pub label: Option<String>,
    /// Directory in which the result directory is made
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub output: PathBuf,
    /// Directory for inputs, logs and outputs of the run, on the disk to be measured
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub scratch: PathBuf,
    /// The corefold program [default: beside this program]
    #[arg(long, value_name = "PATH")]
    pub corefold: Option<PathBuf>,
    /// Leave threads where the system puts them
    #[arg(long)]
    pub no_pin: bool,
}

/// Arguments of `compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareArguments {
    /// Result directory or run.json
    pub a: PathBuf,
    /// Result directory or run.json that is held against it
    pub b: PathBuf,
}

/// Arguments of `report`.
#[derive(Args, Clone, Debug)]
pub struct ReportArguments {
    /// Result directories [default: all that `results` has a run.json of]
    pub directories: Vec<PathBuf>,
    /// Page to write
    #[arg(long, value_name = "FILE", default_value = "results/report.html")]
    pub output: PathBuf,
}

/// All scenarios with their parameters.
pub fn list() -> String {
    let mut text = String::from("scenarios (bench-harness run):\n");
    for scenario in SCENARIOS {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {}: {}", scenario.name(), scenario.about());
        for spec in scenario.params() {
            let values = match spec.kind {
                ParamKind::Choice(choices) => format!(": {}", choices.join(", ")),
                _ => String::new(),
            };
            let (name, default, smoke) = (spec.name, spec.default, spec.smoke);
            let _ = writeln!(text, "    {name:<12} {default:<8} (smoke {smoke}) {}{values}", spec.about);
        }
    }
    text
}

/// Runs a scenario and writes its result directory; `tell` hears what goes on.
pub fn run(arguments: &RunArguments, tell: impl FnMut(String)) -> Result<String, BenchError> {
    let scenario = named(&arguments.scenario)?;
    let points = params::points(&scenario.params(), &arguments.params, arguments.smoke)?;
    let scratch = &arguments.scratch;
    fs::create_dir_all(scratch).map_err(BenchError::io(format!("cannot make {}", scratch.display())))?;
    let scratch = fs::canonicalize(scratch).map_err(BenchError::io(format!("cannot find {}", scratch.display())))?;
    let setting = Setting {
        corefold: arguments.corefold.clone().unwrap_or_else(beside_this_program),
        cores: Cores::of_this_machine(!arguments.no_pin),
        scratch,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let order = Order {
        points,
        repeats: usize::from(arguments.repeats.unwrap_or(if arguments.smoke { 1 } else { 5 })),
        warmups: usize::from(arguments.warmups.unwrap_or(if arguments.smoke { 0 } else { 1 })),
        smoke: arguments.smoke,
        label: arguments.label.clone().unwrap_or_else(|| scenario.name().to_owned()),
        command: shell_line("bench-harness", &std::env::args().skip(1).collect::<Vec<_>>()),
        began: text::utc_time(now as i64 * 1_000_000),
    };
    let machine = host::gather(&setting.scratch, &setting.cores);
    let finding = run::run(scenario, &order, &setting, machine, tell)?;
    let directory = place::write(&finding, &arguments.output)?;
    Ok(format!("{}\nwritten to {}\n", figures(&finding.record), directory.display()))
}

/// The medians of a run, for a terminal.
fn figures(record: &RunRecord) -> String {
    let mut text = String::new();
    for point in &record.points {
        let _ = writeln!(text, "{} {}", record.scenario, point.name(&record.swept));
        for series in &point.metrics {
            let [median, min, max] = [series.median(), series.min(), series.max()].map(super::plot::short);
            let _ = writeln!(text, "  {:<40} {median:>12} {:<11} ({min} to {max})", series.name, series.unit);
        }
    }
    text
}

fn beside_this_program() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(|folder| folder.join("corefold")));
    beside.unwrap_or_else(|| PathBuf::from("target/release/corefold"))
}

/// Holds two runs against each other.
pub fn compare(arguments: &CompareArguments) -> Result<String, BenchError> {
    ratio::compare(&RunRecord::read(&arguments.a)?, &RunRecord::read(&arguments.b)?)
}

/// Writes a page of runs.
pub fn report(arguments: &ReportArguments) -> Result<String, BenchError> {
    let found =
        if arguments.directories.is_empty() { all_runs(Path::new("results"))? } else { arguments.directories.clone() };
    if found.is_empty() {
        let what = "no result directory has a run.json; run a scenario first, or name the directories";
        return Err(BenchError::Failed(what.to_owned()));
    }
    let records = found.iter().map(|path| RunRecord::read(path)).collect::<Result<Vec<_>, _>>()?;
    let output = &arguments.output;
    fs::write(output, page::page(&records)).map_err(BenchError::io(format!("cannot write {}", output.display())))?;
    Ok(format!("{} runs in {}\n", records.len(), output.display()))
}

fn all_runs(results: &Path) -> Result<Vec<PathBuf>, BenchError> {
    let entries = fs::read_dir(results).map_err(BenchError::io(format!("cannot read {}", results.display())))?;
    let folders = entries.flatten().map(|entry| entry.path());
    // Peers leave a `run.json` of another kind.
    let is_ours = |path: &PathBuf| {
        let text = fs::read(path.join("run.json")).unwrap_or_default();
        serde_json::from_slice(&text).is_ok_and(|value: serde_json::Value| value.get("scenario").is_some())
    };
    let mut found: Vec<PathBuf> = folders.filter(is_ours).collect();
    found.sort();
    Ok(found)
}
