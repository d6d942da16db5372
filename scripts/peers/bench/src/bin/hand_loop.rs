//! Runs the hand-written loop over a file and tells what it took, as one line of JSON.
//!
//!   hand_loop --data FILE.arrow --window hop|tumble [--slots dense|hash] [--log-dir DIR --inflight N] [--check]

use corefold_peers::events::{Columns, Events};
use corefold_peers::fold::{Dense, Fold, Hashed, Slots};
use corefold_peers::log::{BLOCK_EVENTS, Log};
use corefold_peers::report::{self, Stopwatch};
use corefold_peers::slide::{Shape, Sink};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

struct Arguments {
    data: PathBuf,
    shape: Shape,
    dense: bool,
    log_dir: Option<PathBuf>,
    inflight_max: usize,
    check: bool,
}

fn main() -> ExitCode {
    report::finish("hand_loop", run())
}

fn run() -> Result<(), String> {
    let arguments = arguments()?;
    let mut report = json!({ "version": env!("CARGO_PKG_VERSION") });
    let watch = Stopwatch::start();
    let events = Events::map(&arguments.data)?;
    let log = match &arguments.log_dir {
        Some(folder) => Some(Log::create(folder, arguments.inflight_max).map_err(|error| error.to_string())?),
        None => None,
    };
    watch.put(&mut report, "load");
    let watch = Stopwatch::start();
    let sink = Sink::new(arguments.check);
    let sink = if arguments.dense {
        go(Fold::new(Dense, arguments.shape, sink), &events, log)?
    } else {
        go(Fold::new(Hashed::new(), arguments.shape, sink), &events, log)?
    };
    watch.put(&mut report, "query");
    report::put_summary(&mut report, &sink.summary, arguments.check);
    report::print(&report)
}

fn go<S: Slots>(mut fold: Fold<S>, events: &Events, mut log: Option<Log>) -> Result<Sink, String> {
    for columns in events.iter() {
        match &mut log {
            None => fold.fold(columns),
            Some(log) => {
                for at in (0..columns.times_ms.len()).step_by(BLOCK_EVENTS) {
                    let part = part(columns, at);
                    log.append(part).map_err(|error| format!("log: {error}"))?;
                    fold.fold(part);
                }
            }
        }
    }
    if let Some(log) = &mut log {
        log.finish().map_err(|error| format!("log: {error}"))?;
    }
    Ok(fold.finish())
}

/// The events from `at` that fit into one block.
fn part(columns: Columns<'_>, at: usize) -> Columns<'_> {
    let range = at..columns.times_ms.len().min(at + BLOCK_EVENTS);
    Columns {
        times_ms: &columns.times_ms[range.clone()],
        keys: &columns.keys[range.clone()],
        values: &columns.values[range],
    }
}

fn arguments() -> Result<Arguments, String> {
    let (mut data, mut shape, mut dense, mut log_dir, mut inflight_max, mut check) = (None, None, true, None, 1, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--data" => data = Some(PathBuf::from(value()?)),
            "--window" => {
                let name = value()?;
                shape = Some(Shape::parse(&name).ok_or(format!("no window is called {name}"))?);
            }
            "--slots" => {
                dense = match value()?.as_str() {
                    "dense" => true,
                    "hash" => false,
                    other => return Err(format!("no slots are called {other}")),
                };
            }
            "--log-dir" => log_dir = Some(PathBuf::from(value()?)),
            "--inflight" => {
                let count: usize = value()?.parse().map_err(|_| "--inflight wants a number")?;
                inflight_max = if (1..=8).contains(&count) { count } else { return Err("1 to 8".to_owned()) };
            }
            "--check" => check = true,
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    let data = data.ok_or("--data is missing")?;
    let shape = shape.ok_or("--window is missing")?;
    Ok(Arguments { data, shape, dense, log_dir, inflight_max, check })
}
