//! Every scenario at smoke size: it must run, check its answer, and leave files that are whole. Nothing here is about speed.

#![allow(clippy::print_stdout)]

use corefold_bench::scenario::command::{self, CompareArguments, ReportArguments, RunArguments};
use corefold_bench::scenario::cores::Cores;
use corefold_bench::scenario::digest::Digest;
use corefold_bench::scenario::host::Host;
use corefold_bench::scenario::params::{self, ParamSpec, Params};
use corefold_bench::scenario::record::RunRecord;
use corefold_bench::scenario::run::{self, Order};
use corefold_bench::scenario::{BenchError, Metric, Prepared, Round, SCENARIOS, Scenario, Setting};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory that direct writes work in.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// The corefold program, where the tests of the whole workspace have built it; without it the scenario of the whole engine
/// is passed over.
fn corefold() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_bench-harness")).with_file_name("corefold");
    beside.exists().then_some(beside)
}

fn arguments(scenario: &str, params: &[&str], root: &Path) -> RunArguments {
    RunArguments {
        scenario: scenario.to_owned(),
        params: params.iter().map(|text| (*text).to_owned()).collect(),
        smoke: true,
        repeats: Some(3),
        warmups: Some(0),
        label: Some(format!("smoke of {scenario}")),
        output: root.join("results"),
        scratch: root.join("scratch"),
        corefold: corefold(),
        no_pin: false,
    }
}

/// Runs a scenario and returns its result directory; `None` where this machine cannot run it.
fn run_one(scenario: &str, params: &[&str], root: &Path) -> Option<PathBuf> {
    let said = match command::run(&arguments(scenario, params, root), |_| {}) {
        Ok(said) => said,
        Err(BenchError::Unsuitable { reason }) => {
            println!("SKIP {scenario}: {reason}");
            return None;
        }
        Err(error) => panic!("{scenario} {params:?}: {error}"),
    };
    let directory = said.lines().find_map(|line| line.strip_prefix("written to ")).expect("a directory");
    Some(PathBuf::from(directory))
}

fn check_files(scenario: &str, directory: &Path) {
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    for name in ["command.txt", "host.txt", "summary.md"] {
        assert!(!read(name).is_empty(), "{scenario}: {name}");
    }
    assert!(read("host.txt").contains("memlock: "));
    let record = RunRecord::read(directory).expect("a record");
    assert_eq!(record.scenario, scenario);
    assert!(record.smoke);
    for point in &record.points {
        assert!(!point.metrics.is_empty());
        assert!(point.metrics.iter().all(|series| series.values.len() == 3), "{scenario}: {point:?}");
    }
    let names = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let charts: Vec<PathBuf> = names.filter(|path| path.extension().is_some_and(|found| found == "svg")).collect();
    assert!(!charts.is_empty(), "{scenario}: no chart");
    for chart in charts {
        let svg = fs::read_to_string(&chart).expect("a chart");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{}", chart.display());
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", chart.display());
    }
    let has_latency = record.points.iter().any(|point| point.latency.is_some());
    assert_eq!(directory.join("latency.hgrm").exists(), has_latency, "{scenario}");
}

#[test]
fn every_scenario_runs_and_leaves_whole_files() {
    let root = scratch();
    let mut directories = Vec::new();
    for scenario in SCENARIOS.iter().map(|scenario| scenario.name()) {
        if ["engine", "network"].contains(&scenario) && corefold().is_none() {
            println!("SKIP {scenario}: the corefold program is not built");
            continue;
        }
        let Some(directory) = run_one(scenario, &[], root.path()) else { continue };
        check_files(scenario, &directory);
        directories.push(directory);
    }
    let page = root.path().join("report.html");
    command::report(&ReportArguments { directories: directories.clone(), output: page.clone() }).expect("a report");
    let html = fs::read_to_string(page).expect("a page");
    assert!(html.ends_with("</html>\n"));
    assert!(!html.contains("<script") && !html.contains("src="), "the page must need nothing else");
    assert_eq!(html.matches("<h2 ").count(), directories.len());
}

/// Parameters that take other ways through the scenarios than the defaults.
#[test]
fn other_parameters_give_right_answers_too() {
    let root = scratch();
    for (scenario, params) in [
        ("hand", &["table=dense", "keys=uniform", "window=1s"][..]),
        ("hand", &["key=u64,string"]),
        ("fold", &["keys=hot", "value=i64"]),
        ("fold", &["key=u64,string", "disorder=300ms"]),
        ("fold-shards", &["shards=1,3", "routing=hash,round-robin", "disorder=300ms", "key=string"]),
        ("fold-wal", &["key=string", "against=none"]),
        ("sketches", &["key=string"]),
        ("fold", &["value=f64-fine", "against=none", "window=3s", "slide=2s"]),
        ("fold", &["window=2s", "slide=2s", "disorder=0s", "batch=1,4096"]),
        ("fold-wal", &["durability=os", "value=i64"]),
        ("latency", &["rate=100k,200k"]),
        ("coordinator", &["shards=1,64", "groups=50", "order=same"]),
        ("hand-off", &["chunk=16", "runs=3"]),
        ("result-latency", &["window=40ms", "slide=20ms", "disorder=10ms", "shards=2", "key=string"]),
        ("recovery", &["cache=cold"]),
        ("export", &["format=arrow,parquet,ndjson"]),
        ("sketches", &["sketch=distinct,top,variance"]),
        ("sketches", &["sketch=quantile,top", "value=i64"]),
    ] {
        let Some(directory) = run_one(scenario, params, root.path()) else { continue };
        check_files(scenario, &directory);
    }
}

#[test]
fn the_whole_engine_reads_and_writes_every_format() {
    if corefold().is_none() {
        return println!("SKIP: the corefold program is not built");
    }
    let root = scratch();
    for params in [
        &["format=parquet,csv,ndjson", "shards=1"][..],
        &["output=parquet,csv,ndjson", "routing=hash", "value=i64"],
        &["durability=sync,os", "place=memory", "against=none"],
        &["key=u64,string", "format=arrow,parquet,csv,ndjson", "output=csv"],
        &["key=string", "output=arrow,parquet,ndjson"],
    ] {
        if let Some(directory) = run_one("engine", params, root.path()) {
            check_files("engine", &directory);
        }
    }
}

#[test]
fn the_network_is_measured_in_closed_and_open_loops() {
    if corefold().is_none() {
        return println!("SKIP: the corefold program is not built");
    }
    let root = scratch();
    for params in [
        &["load=100,50", "batch=2000", "durability=os"][..],
        &["transport=tls", "durability=none"],
        &["rate=200k", "event=24", "durability=none,sync", "window=200ms", "slide=100ms"],
    ] {
        let Some(directory) = run_one("network", params, root.path()) else { continue };
        check_files("network", &directory);
        let record = RunRecord::read(&directory).expect("a record");
        for point in &record.points {
            let latency = point.latency.expect("latencies");
            assert!(latency.count > 0 && latency.p50 <= latency.p99_9 && point.rows > 0, "{point:?}");
        }
    }
}

/// A scenario whose results are wrong in one row of many.
struct Wrong;

struct PreparedWrong;

impl Scenario for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn about(&self) -> &'static str {
        "fast, and wrong"
    }

    fn params(&self) -> Vec<ParamSpec> {
        Vec::new()
    }

    fn prepare(&self, _: &Params, _: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        Ok(Box::new(PreparedWrong))
    }
}

impl Prepared for PreparedWrong {
    fn expected(&self) -> Digest {
        Digest { rows: 1_000, hash: 1 }
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let metrics = vec![Metric::cost("total", "ns/event", 0.1)];
        Ok(Round { metrics, digest: Digest { rows: 1_000, hash: 2 }, latency: None })
    }
}

#[test]
fn a_wrong_answer_is_an_error_however_fast() {
    let order = Order {
        points: params::points(&[], &[], true).expect("a point"),
        repeats: 1,
        warmups: 0,
        smoke: true,
        label: "wrong".to_owned(),
        command: String::new(),
        began: String::new(),
    };
    let setting = Setting { scratch: PathBuf::new(), corefold: PathBuf::new(), cores: Cores::default() };
    let error = run::run(&Wrong, &order, &setting, Host::default(), |_| {}).expect_err("a wrong answer");
    assert!(matches!(error, BenchError::WrongAnswer { .. }), "{error}");
}

/// An engine that leaves a few events out is found out, and the program ends with a failure and keeps nothing.
#[test]
fn a_planted_wrong_answer_ends_the_program_with_a_failure() {
    let Some(corefold) = corefold() else { return println!("SKIP: the corefold program is not built") };
    let root = scratch();
    let liar = root.path().join("liar");
    let script = format!("#!/bin/sh\nexec '{}' \"$@\" --where 'value > 1'\n", corefold.display());
    fs::write(&liar, script).expect("a script");
    fs::set_permissions(&liar, fs::Permissions::from_mode(0o755)).expect("a script that can be run");
    let results = root.path().join("results");
    let output = Command::new(env!("CARGO_BIN_EXE_bench-harness"))
        .args(["run", "engine", "--smoke", "--param", "against=none", "--corefold"])
        .arg(&liar)
        .arg("--output")
        .arg(&results)
        .arg("--scratch")
        .arg(root.path().join("scratch"))
        .output()
        .expect("a run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("WRONG ANSWER of engine"), "{said}");
    assert!(!results.exists(), "figures of a wrong answer were kept");
}

#[test]
fn compare_says_when_it_cannot_tell() {
    let root = scratch();
    let directory = run_one("hand", &["events=1000"], root.path()).expect("a run");
    let record = RunRecord::read(&directory).expect("a record");
    let keep = |name: &str, values: &[f64]| {
        let mut record = record.clone();
        let point = &mut record.points[0];
        point.metrics.truncate(1);
        point.metrics[0].values = values.to_vec();
        let path = root.path().join(name);
        fs::create_dir(&path).expect("a directory");
        fs::write(path.join("run.json"), serde_json::to_string(&record).expect("text")).expect("a file");
        path
    };
    let noisy = keep("noisy", &[6.0, 19.0, 9.0, 31.0, 12.0]);
    let other = keep("other", &[8.0, 25.0, 7.0, 15.0, 14.0]);
    let calm = keep("calm", &[10.0, 10.1, 9.9, 10.05, 9.95]);
    let slow = keep("slow", &[20.0, 20.1, 19.9, 20.05, 19.95]);
    let compare = |a: &Path, b: &Path| command::compare(&CompareArguments { a: a.to_owned(), b: b.to_owned() });
    assert!(compare(&noisy, &other).expect("a table").contains("too noisy to tell"));
    assert!(compare(&calm, &slow).expect("a table").contains("B is worse"));
    assert!(compare(&slow, &calm).expect("a table").contains("B is better"));
    assert!(compare(&calm, &calm.join("run.json")).expect("a table").contains("the same within 5 %"));
    fs::write(slow.join("run.json"), "{\"format\": 99}").expect("a file");
    let error = compare(&calm, &slow).expect_err("another format").to_string();
    assert!(error.contains("reads 1"), "{error}");
}

#[test]
fn the_list_names_every_scenario_and_parameter() {
    let list = command::list();
    for scenario in SCENARIOS {
        assert!(list.contains(&format!("  {}: ", scenario.name())));
        assert!(scenario.params().iter().all(|spec| list.contains(spec.name)));
        // Defaults and smoke values are values that the command line would take.
        for spec in scenario.params() {
            for value in [spec.default, spec.smoke] {
                params::points(&[spec], &[format!("{}={value}", spec.name)], false).expect("a value that is allowed");
            }
        }
    }
}
