//! Checks every entry of a plan for the same answer, then measures all in turn, round by round.
//!
//!   referee --plan FILE --events N --rounds R --output DIR --title TEXT [--limit-s S] [--slow-s S] [--input FILE]...
//!
//! The first entry with a check gives the answer that the others must have. With any other answer nothing is measured. An
//! entry whose check fails in another way, by taking too long or too much memory, is left out, with the entries of the same
//! peer. An entry that takes longer than `--slow-s` is measured once. Before each run the inputs are read once, so that
//! they are in the page cache: one that memory was too short for, or that was not read for a minute, need not be. Any
//! failure ends in exit code 1. Writes `summary.md` and `run.json`.

use corefold_peers::child::{self, Bounds};
use corefold_peers::facts;
use corefold_peers::plan::{self, Entry};
use corefold_peers::report;
use corefold_peers::summary::Summary;
use corefold_peers::table::{self, Line};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// The lines of Corefold that others are compared with.
const BASE: &str = "corefold";
const CONFINED: &str = "corefold-one-core";

struct Arguments {
    plan: PathBuf,
    events: u64,
    rounds: usize,
    output: PathBuf,
    title: String,
    limit_s: u64,
    slow_s: f64,
    inputs: Vec<PathBuf>,
}

/// What the checks came to.
struct Checked {
    /// The answer on which all agree.
    answer: Summary,
    /// Entries whose check failed, and why.
    failed: Vec<(String, String)>,
}

fn main() -> ExitCode {
    report::finish("referee", run())
}

fn run() -> Result<(), String> {
    let arguments = arguments()?;
    fs::create_dir_all(&arguments.output).map_err(|error| format!("{}: {error}", arguments.output.display()))?;
    let entries = plan::read(&arguments.plan)?;
    let machine = facts::facts(&arguments.output);
    let Checked { answer, failed } = check(&entries, &arguments)?;
    let lines = measure(entries, &answer, &failed, &arguments);
    write(&arguments, &lines, &machine, &answer)?;
    let failed: Vec<&str> =
        lines.iter().filter(|line| line.failure.is_some()).map(|line| line.entry.name.as_str()).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

/// The answer on which all agree, and who gave none. The first entry with a check must give one.
fn check(entries: &[Entry], arguments: &Arguments) -> Result<Checked, String> {
    let mut right: Option<(Summary, &str)> = None;
    let (mut wrong, mut failed) = (Vec::new(), Vec::new());
    for entry in entries.iter().filter(|entry| !entry.check.is_empty()) {
        let name = entry.name.as_str();
        match (answer_of(entry, arguments), &right) {
            (Err(what), None) => return Err(format!("nothing was measured:\n{name}: {what}")),
            (Err(what), Some(_)) => {
                say(&format!("check {name}: FAILED: {what}"));
                failed.push((name.to_owned(), format!("its check: {what}")));
            }
            (Ok(answer), None) => {
                say(&format!("check {name}: {} rows, hash {:016x}", answer.rows, answer.hash));
                right = Some((answer, name));
            }
            (Ok(answer), Some((expected, from))) => match answer.differs(expected) {
                None => say(&format!("check {name}: same answer")),
                Some(what) => wrong.push(format!("{name}: WRONG ANSWER (against {from}): {what}")),
            },
        }
    }
    if !wrong.is_empty() {
        return Err(format!("nothing was measured:\n{}", wrong.join("\n")));
    }
    let (answer, _) = right.ok_or("no entry has a check")?;
    Ok(Checked { answer, failed })
}

/// Why an entry is not to be measured: its check failed, or that of the entry which it is a variant of.
fn failure_of(entry: &Entry, failed: &[(String, String)]) -> Option<String> {
    let covers = |name: &str| {
        name == entry.name
            || entry.check.is_empty() && entry.name.strip_prefix(name).is_some_and(|end| end.starts_with('-'))
    };
    failed.iter().find(|(name, _)| covers(name)).map(|(_, what)| what.clone())
}

fn answer_of(entry: &Entry, arguments: &Arguments) -> Result<Summary, String> {
    prepare(entry, arguments)?;
    let taken = child::run(&entry.check, &bounds(entry, arguments))?;
    let report = taken.report.ok_or("printed no line of JSON")?;
    Summary::from_json(&report["answer"]).ok_or(format!("printed no answer: {report}"))
}

fn measure(entries: Vec<Entry>, answer: &Summary, failed: &[(String, String)], arguments: &Arguments) -> Vec<Line> {
    let line = |entry: Entry| Line { failure: failure_of(&entry, failed), entry, taken: Vec::new() };
    let mut lines: Vec<Line> = entries.into_iter().map(line).collect();
    for round in 0..arguments.rounds {
        for line in lines.iter_mut().filter(|line| line.entry.skip.is_empty() && line.failure.is_none()) {
            if line.taken.iter().any(|taken| taken.wall_s > arguments.slow_s) {
                continue;
            }
            let measured = prepare(&line.entry, arguments)
                .and_then(|()| read_inputs(arguments))
                .and_then(|()| child::run(&line.entry.command, &bounds(&line.entry, arguments)))
                .and_then(|taken| counts_agree(&taken, answer).map(|()| taken));
            match measured {
                Ok(taken) => {
                    let query_s = taken.report.as_ref().and_then(|report| report["query_s"].as_f64());
                    say(&format!(
                        "round {}: {}: process {:.3} s, query {:.3} s, CPU {:.3} s",
                        round + 1,
                        line.entry.name,
                        taken.wall_s,
                        query_s.unwrap_or(taken.wall_s),
                        taken.user_s + taken.system_s
                    ));
                    line.taken.push(taken);
                }
                Err(what) => {
                    say(&format!("round {}: {}: FAILED: {what}", round + 1, line.entry.name));
                    line.failure = Some(what);
                }
            }
        }
    }
    lines
}

/// What a measured run counted must be right too; some count nothing.
fn counts_agree(taken: &child::Taken, answer: &Summary) -> Result<(), String> {
    let Some(report) = &taken.report else { return Ok(()) };
    for (name, right) in [("rows", answer.rows), ("events", answer.events)] {
        if report["answer"][name].as_u64().is_some_and(|found| found != right) {
            return Err(format!(
                "WRONG ANSWER in a measured run: {name} {} instead of {right}",
                report["answer"][name]
            ));
        }
    }
    Ok(())
}

fn prepare(entry: &Entry, arguments: &Arguments) -> Result<(), String> {
    if entry.prepare.is_empty() {
        return Ok(());
    }
    child::run(&entry.prepare, &bounds(entry, arguments)).map(drop)
}

fn read_inputs(arguments: &Arguments) -> Result<(), String> {
    let read = |path: &PathBuf| io::copy(&mut fs::File::open(path)?, &mut io::sink());
    arguments
        .inputs
        .iter()
        .try_for_each(|path| read(path).map(drop).map_err(|error| format!("{}: {error}", path.display())))
}

fn bounds<'a>(entry: &'a Entry, arguments: &'a Arguments) -> Bounds<'a> {
    Bounds { cores: &entry.cores, limit_s: arguments.limit_s, folder: &arguments.output }
}

fn write(arguments: &Arguments, lines: &[Line], machine: &Value, answer: &Summary) -> Result<(), String> {
    let whole = json!({
        "title": arguments.title, "events": arguments.events, "rounds": arguments.rounds, "machine": machine,
        "load_after": facts::load(), "answer": answer.to_json(),
        "lines": lines.iter().map(Line::to_json).collect::<Vec<_>>(),
    });
    let mut text =
        format!("# {}\n\n{} events, {} rounds in turn.\n\n", arguments.title, arguments.events, arguments.rounds);
    text.push_str(&table::markdown(lines, arguments.events, BASE, CONFINED));
    let is_slow = |line: &&Line| line.failure.is_none() && (1..arguments.rounds).contains(&line.taken.len());
    let slow: Vec<&str> = lines.iter().filter(is_slow).map(|line| line.entry.name.as_str()).collect();
    if !slow.is_empty() {
        let (names, limit) = (slow.join(", "), arguments.slow_s);
        text.push_str(&format!("\nMeasured fewer times, since a run took longer than {limit} s: {names}.\n"));
    }
    text.push_str("\nMachine:\n\n");
    for (name, value) in machine.as_object().into_iter().flatten() {
        text.push_str(&format!("- {}: {}\n", name.replace('_', " "), value.as_str().unwrap_or(&value.to_string())));
    }
    text.push_str(&format!("- load after: {}\n", facts::load()));
    text.push_str(&format!("\nAnswer: {} rows, hash {:016x}, the same from all.\n", answer.rows, answer.hash));
    let put = |name: &str, content: &str| {
        let path = arguments.output.join(name);
        fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))
    };
    put("run.json", &format!("{whole:#}\n"))?;
    put("summary.md", &text)?;
    for name in ["stdout.tmp", "stderr.tmp"] {
        // Left-overs of the last command; nothing depends on them.
        let _ = fs::remove_file(arguments.output.join(name));
    }
    Ok(())
}

/// Progress, for who watches.
fn say(what: &str) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "{what}");
}

fn arguments() -> Result<Arguments, String> {
    let (mut plan, mut output, mut title, mut inputs) = (None, None, "Peers".to_owned(), Vec::new());
    let (mut events, mut rounds, mut limit_s, mut slow_s) = (0, 1, 3_600, 3_600);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{word} wants a number, not {value}"));
        match word.as_str() {
            "--plan" => plan = Some(PathBuf::from(&value)),
            "--events" => events = number()?,
            "--rounds" => rounds = number()? as usize,
            "--output" => output = Some(PathBuf::from(&value)),
            "--title" => title = value,
            "--limit-s" => limit_s = number()?,
            "--slow-s" => slow_s = number()?,
            "--input" => inputs.push(PathBuf::from(&value)),
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    let plan = plan.ok_or("--plan is missing")?;
    let output = output.ok_or("--output is missing")?;
    Ok(Arguments { plan, events: events.max(1), rounds, output, title, limit_s, slow_s: slow_s as f64, inputs })
}
