//! The referee on plans whose commands only print: what is right, wrong, broken or left out.
//!
//! No peer runs here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const RIGHT: &str = r#"{"answer": {"rows": 2, "events": 5, "hash": "00000000000000ff", "sum": 10.0, "weighted": 4.0}}"#;
const MEASURED: &str = r#"{"answer": {"rows": 2, "events": 5}, "query_s": 0.25, "query_cpu_s": 0.125, "version": "7"}"#;

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn entry(name: &str, check: &str, command: &str) -> String {
    let printed = |text: &str| if text.is_empty() { String::new() } else { format!("echo '{text}'") };
    format!("{name}\twhat {name} is\t\t\t{}\t{}\n", printed(check), printed(command))
}

fn referee(folder: &Path, plan: &str) -> Output {
    let path = folder.join("plan.tsv");
    fs::write(&path, plan).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_referee"));
    command.arg("--plan").arg(path).arg("--output").arg(folder);
    command.args(["--events", "1000", "--rounds", "2"]).output().unwrap()
}

#[test]
fn what_agrees_is_measured_and_what_is_left_out_says_why() {
    let folder = folder("agrees");
    let near = RIGHT.replace("10.0", "10.000000001");
    let plan =
        entry("corefold", RIGHT, MEASURED) + &entry("near", &near, MEASURED) + "absent\twhat\tSKIP\tno such thing\n";
    let output = referee(&folder, &plan);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary = fs::read_to_string(folder.join("summary.md")).unwrap();
    assert!(summary.contains("| near | 0.250 (0.250 to 0.250) | 250000.0 | 0.125 |"), "{summary}");
    assert!(summary.contains("| absent | SKIP: no such thing |"), "{summary}");
    let whole: serde_json::Value = serde_json::from_str(&fs::read_to_string(folder.join("run.json")).unwrap()).unwrap();
    assert_eq!(whole["lines"][1]["rounds"].as_array().unwrap().len(), 2);
    assert_eq!(whole["lines"][1]["version"], "7");
}

#[test]
fn a_wrong_answer_ends_the_run_before_anything_is_measured() {
    for (name, wrong) in [
        ("hash", RIGHT.replace("ff", "fe")),
        ("rows", RIGHT.replace("\"rows\": 2", "\"rows\": 3")),
        ("sum", RIGHT.replace("10.0", "10.0000001")),
        ("weights", RIGHT.replace("4.0", "4.1")),
    ] {
        let folder = folder(name);
        let output = referee(&folder, &(entry("corefold", RIGHT, MEASURED) + &entry("other", &wrong, MEASURED)));
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("other: "), "{name}");
        assert!(!folder.join("summary.md").exists(), "{name}");
    }
}

#[test]
fn a_measured_run_that_counts_wrong_or_ends_badly_is_a_failure() {
    for (name, command) in
        [("counts", MEASURED.replace("\"events\": 5", "\"events\": 4")), ("ends", "'; exit 3; '".into())]
    {
        let folder = folder(name);
        let output = referee(&folder, &(entry("corefold", RIGHT, MEASURED) + &entry("other", RIGHT, &command)));
        assert_eq!(output.status.code(), Some(1), "{name}");
        let summary = fs::read_to_string(folder.join("summary.md")).unwrap();
        assert!(summary.contains("| other | FAILED: "), "{summary}");
    }
}

#[test]
fn an_entry_whose_check_fails_is_left_out_with_its_variants_and_the_others_are_measured() {
    let folder = folder("left-out");
    let plan = entry("corefold", RIGHT, MEASURED)
        + &entry("flink", "'; exit 124; '", MEASURED)
        + &entry("flink-all-cores", "", MEASURED)
        + &entry("silent", "no answer", MEASURED)
        + &entry("near", RIGHT, MEASURED);
    let output = referee(&folder, &plan);
    assert_eq!(output.status.code(), Some(1));
    let summary = fs::read_to_string(folder.join("summary.md")).unwrap();
    for name in ["flink", "flink-all-cores", "silent"] {
        assert!(summary.contains(&format!("| {name} | FAILED: its check: ")), "{name}: {summary}");
    }
    assert!(summary.contains("| near | 0.250 ") && summary.contains("| corefold | 0.250 "), "{summary}");
}

#[test]
fn without_a_first_answer_nothing_is_measured() {
    let folder = folder("no-first");
    let output = referee(&folder, &(entry("corefold", "no answer", MEASURED) + &entry("other", RIGHT, MEASURED)));
    assert_eq!(output.status.code(), Some(1));
    assert!(!folder.join("summary.md").exists());
}

#[test]
fn what_is_slow_is_measured_once() {
    let folder = folder("slow");
    let path = folder.join("plan.tsv");
    let slow = format!("slow\twhat\t\t\techo '{RIGHT}'\tsleep 1.2; echo '{MEASURED}'\n");
    fs::write(&path, entry("corefold", RIGHT, MEASURED) + &slow).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_referee"));
    command.arg("--plan").arg(path).arg("--output").arg(&folder).args(["--events", "1000", "--rounds", "3"]);
    let output = command.args(["--slow-s", "1"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let whole: serde_json::Value = serde_json::from_str(&fs::read_to_string(folder.join("run.json")).unwrap()).unwrap();
    assert_eq!(whole["lines"][1]["rounds"].as_array().unwrap().len(), 1);
    let summary = fs::read_to_string(folder.join("summary.md")).unwrap();
    assert!(summary.contains("since a run took longer than 1 s: slow."), "{summary}");
}

#[test]
fn inputs_are_read_before_each_run_and_one_that_is_missing_is_named() {
    let folder = folder("inputs");
    let (path, input) = (folder.join("plan.tsv"), folder.join("input"));
    // The check makes the input of the first round, and each run takes it away.
    let there = format!("echo '{RIGHT}'; touch '{0}'\techo '{MEASURED}'; rm '{0}'", input.display());
    fs::write(&path, format!("corefold\twhat\t\t\t{there}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_referee"));
    command.arg("--plan").arg(path).arg("--output").arg(&folder).args(["--events", "1000", "--rounds", "2"]);
    let output = command.arg("--input").arg(&input).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("round 1: corefold: process"), "{said}");
    assert!(said.contains(&format!("round 2: corefold: FAILED: {}", input.display())), "{said}");
}
