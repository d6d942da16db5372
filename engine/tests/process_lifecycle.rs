//! How the process lives and ends: signals, pipes that are silent, slow, long or closed early, progress, memory.
//!
//! Kills are in `kill`; what the process answers is in `answers`.

mod children;
mod support;

use children::{Running, make_fifo, start};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::events::disordered;
use support::process::{bytes_of, corefold};
use support::scene::{DONE, FAILURE};
use support::{first_difference, listing, text};

/// Nothing here takes that long, on a machine that does a lot besides.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon a process that is asked to end has to be gone.
const PROMPT: Duration = Duration::from_secs(5);

const HEADER: &str = "time,key,value,note\n";

/// What makes rows long and is not asked for.
const NOTE: &str = "the sea is high again today with a thrilling flush of wind in the midst of winter you can feel";

/// A count and a sum per minute and key.
fn job(input: &str, directory: &Path) -> Command {
    let query = ["--time", "time", "--time-unit", "s", "--by", "key", "--window", "1m", "--field", "value:f64"];
    let mut command = corefold(&["aggregate", input, "--format", "csv", "--agg", "count(), sum(value)"]);
    command.args(query).current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The job over standard input.
fn piped(directory: &Path) -> Command {
    let mut command = job("-", directory);
    command.stdin(Stdio::piped());
    command
}

/// Row number `row` of an endless, ordered stream: a second passes every thousand rows.
fn push_row(row: u64, text: &mut String) {
    use std::fmt::Write;
    let _ = writeln!(text, "{},key-{},{},{NOTE}", 1_700_000_000 + row / 1000, row % 7, row % 1009);
}

/// `rows` rows from row `from` on.
fn rows(from: u64, rows: u64) -> String {
    let mut text = String::new();
    (from..from + rows).for_each(|row| push_row(row, &mut text));
    text
}

/// Writes the endless stream until the child closes its end or `bytes_max` are written; returns bytes and rows.
fn pour(mut pipe: ChildStdin, bytes_max: u64) -> JoinHandle<(u64, u64)> {
    std::thread::spawn(move || {
        let (mut bytes, mut row) = (HEADER.len() as u64, 0);
        if pipe.write_all(HEADER.as_bytes()).is_err() {
            return (0, 0);
        }
        while bytes < bytes_max {
            let text = rows(row, 5_000);
            if pipe.write_all(text.as_bytes()).is_err() {
                break;
            }
            bytes += text.len() as u64;
            row += 5_000;
        }
        (bytes, row)
    })
}

/// Waits until the child has read `text`, with some left in the pipe at most.
fn feed(pipe: &mut ChildStdin, text: &str) {
    pipe.write_all(text.as_bytes()).expect("a child that reads");
}

/// That nothing but `names` is in the directory.
#[track_caller]
fn only(directory: &Path, names: &[&str]) {
    let found: Vec<String> = listing(directory).iter().map(|path| text(path).to_owned()).collect();
    assert_eq!(found, names);
}

/// Asks to end, and waits for it.
#[track_caller]
fn ask(running: Running, signal: i32) -> children::Ended {
    let asked = Instant::now();
    running.signal(signal);
    let ended = running.end(PATIENCE).with_code(FAILURE);
    assert!(asked.elapsed() < PROMPT, "{:?} until the end\n{}", asked.elapsed(), ended.stderr);
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("corefold: interrupted; "), "{}", ended.stderr);
    ended
}

#[test]
fn a_signal_ends_a_job_and_leaves_no_output() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("out.csv"), "the result of yesterday").expect("a file");
        let outputs = ["--output", "out.csv", "--late-output", "late.csv"];
        let mut running = start(piped(directory.path()).args(outputs));
        let pourer = pour(running.stdin(), u64::MAX);
        running.until(PATIENCE, "temporary files", |_| listing(directory.path()).len() > 2);
        std::thread::sleep(Duration::from_millis(300));
        let ended = ask(running, signal);
        assert!(ended.stderr.contains("no output was written"), "{}", ended.stderr);
        pourer.join().expect("the pourer");
        only(directory.path(), &["out.csv"]);
        assert_eq!(bytes_of(&directory.path().join("out.csv")), b"the result of yesterday");
    }
}

#[test]
fn an_interrupted_durable_job_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let input = directory.path().join("in.csv");
    fs::write(&input, disordered(21, 300_000)).expect("a new file");
    let command = |outputs: &[&str]| {
        let query = ["--time", "time", "--by", "key", "--window", "1h", "--slide", "5m", "--max-delay", "5m"];
        let mut command =
            corefold(&[&["aggregate", "in.csv", "--agg", "count(), sum(value)"], &query[..], outputs].concat());
        command.args(["--field", "value:f64", "--batch-rows", "2000"]);
        command.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    let undisturbed = start(&mut command(&["--output", "whole.csv"])).end(PATIENCE).with_code(DONE);
    let durable = ["--output", "out.csv", "--data-dir", "store"];
    let mut life = undisturbed.took / 3;
    let mut interrupted = 0;
    let ended = loop {
        let running = start(&mut command(&durable));
        // Not before it listens; from then on at any moment.
        std::thread::sleep(life);
        running.signal(if interrupted % 2 == 0 { libc::SIGINT } else { libc::SIGTERM });
        let ended = running.end(PATIENCE);
        match ended.code {
            Some(DONE) if interrupted > 0 => break ended,
            Some(DONE) => {
                // The machine has become faster: once more, and sooner.
                fs::remove_dir_all(directory.path().join("store")).expect("the store");
                fs::remove_file(directory.path().join("out.csv")).expect("the output");
                life /= 2;
            }
            Some(FAILURE) => {
                assert!(ended.stderr.contains("run the same command again to go on"), "{}", ended.stderr);
                interrupted += 1;
                life = if interrupted < 4 { life } else { PATIENCE / 30 };
            }
            // Not even listening yet.
            _ => life += life / 4,
        }
        assert!(!directory.path().join("out.csv").exists());
    };
    let whole = bytes_of(&directory.path().join("whole.csv"));
    assert_eq!(first_difference(&bytes_of(&directory.path().join("out.csv")), &whole), None);
    assert_eq!(ended.line_of("ledger"), undisturbed.line_of("ledger"));
    assert!(!listing(directory.path()).iter().any(|path| text(path).contains("tmp")));
}

/// Whatever it waits for: rows, more rows, or the other end of a named pipe.
#[test]
fn a_signal_ends_a_job_that_waits_for_input() {
    let directory = tempfile::tempdir().expect("a directory");
    make_fifo(&directory.path().join("silent"));
    for (input, begin) in [("-", ""), ("-", HEADER), ("-", "many"), ("silent", "")] {
        let mut command = job(input, directory.path());
        let mut running = start(command.args(["--output", "out.csv"]).stdin(Stdio::piped()));
        let mut pipe = running.stdin();
        match begin {
            "many" => feed(&mut pipe, &(HEADER.to_owned() + &rows(0, 300_000))),
            begin => feed(&mut pipe, begin),
        }
        std::thread::sleep(Duration::from_millis(700));
        let ended = ask(running, libc::SIGTERM);
        assert!(ended.stderr.contains("no output was written"), "{}", ended.stderr);
        only(directory.path(), &["silent"]);
    }
}

/// A result that nobody takes does not hold up the end, and a second signal does not even wait for a deadline.
#[test]
fn a_signal_ends_a_job_whose_result_nobody_takes() {
    let directory = tempfile::tempdir().expect("a directory");
    make_fifo(&directory.path().join("full"));
    let reader = OpenOptions::new().read(true).write(true).open(directory.path().join("full")).expect("a pipe");
    for signals in [1, 2] {
        let options = ["--output", "full", "--output-format", "csv", "--window", "1s"];
        let query = ["--time", "time", "--time-unit", "s", "--by", "key", "--agg", "count()"];
        let mut command = corefold(&[&["aggregate", "-", "--format", "csv"], &query[..], &options].concat());
        let mut running = start(command.current_dir(directory.path()).stdin(Stdio::piped()).stdout(Stdio::null()));
        let pourer = pour(running.stdin(), u64::MAX);
        std::thread::sleep(Duration::from_secs(2));
        if signals == 1 {
            ask(running, libc::SIGINT);
        } else {
            running.signal(libc::SIGINT);
            std::thread::sleep(Duration::from_millis(200));
            let asked = Instant::now();
            running.signal(libc::SIGINT);
            running.end(PATIENCE).with_code(FAILURE);
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        }
        pourer.join().expect("the pourer");
    }
    drop(reader);
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_job_quietly() {
    let directory = tempfile::tempdir().expect("a directory");
    // An endless input: the job has to notice while it runs.
    let mut running = start(piped(directory.path()).args(["--quiet", "--shards", "2"]).stdout(Stdio::piped()));
    let pourer = pour(running.stdin(), u64::MAX);
    let mut lines = BufReader::new(running.stdout()).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "window_start,window_end,key,count,sum_value");
    drop(lines);
    let ended = running.end(PATIENCE).with_code(DONE);
    assert_eq!(ended.stderr.lines().filter(|line| !line.starts_with("warning: ")).count(), 0, "{}", ended.stderr);
    pourer.join().expect("the pourer");
}

#[test]
fn a_slow_pipe_shows_progress_in_lines_unless_told_not_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let command = |more: &[&str]| start(piped(directory.path()).args(["--batch-rows", "1000"]).args(more));
    let (mut loud, mut quiet) = (command(&[]), command(&["--quiet"]));
    let mut pipes = [loud.stdin(), quiet.stdin()];
    pipes.iter_mut().for_each(|pipe| feed(pipe, HEADER));
    for second in 0..26 {
        let text = rows(second * 7_000, 7_000);
        pipes.iter_mut().for_each(|pipe| feed(pipe, &text));
        std::thread::sleep(Duration::from_millis(250));
    }
    let line = loud.said().lines().find(|line| line.contains("rows/s")).map(str::to_owned);
    let line = line.unwrap_or_else(|| panic!("no progress: {}", loud.said()));
    assert!(line.contains(" rows, ") && line.contains("watermark 2023-11-14T"), "{line}");
    assert!(!line.contains('\u{1b}'), "{line:?}");
    drop(pipes);
    let loud = loud.end(PATIENCE).with_code(DONE);
    assert!(loud.stderr.contains("received 182000 = aggregated 182000"), "{}", loud.stderr);
    let quiet = quiet.end(PATIENCE).with_code(DONE);
    assert!(!quiet.stderr.contains("rows"), "{}", quiet.stderr);
}

#[test]
fn a_bar_that_is_asked_for_is_drawn_anywhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut running = start(piped(directory.path()).args(["--progress", "always"]));
    let mut pipe = running.stdin();
    feed(&mut pipe, HEADER);
    feed(&mut pipe, &rows(0, 200_000));
    running.until(PROMPT, "a bar", |running| running.said().contains("rows/s") && running.said().contains('\r'));
    drop(pipe);
    let ended = running.end(PATIENCE).with_code(DONE);
    // The summary begins on a clean line.
    let after = ended.stderr.rsplit("\r\u{1b}[2K").next().expect("text");
    assert!(after.starts_with("read      200,000 rows in "), "{:?}", ended.stderr);
}

#[test]
fn many_shards_share_few_cores() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("in.csv"), HEADER.to_owned() + &rows(0, 200_000)).expect("a new file");
    let run = |shards: &str, output: &str, more: &[&str]| {
        let options = ["--shards", shards, "--output", output, "--batch-rows", "1000"];
        start(job("in.csv", directory.path()).args(options).args(more)).end(PATIENCE).with_code(DONE)
    };
    run("1", "one.csv", &[]);
    let one = bytes_of(&directory.path().join("one.csv"));
    for (output, more) in [("many.csv", &[][..]), ("durable.csv", &["--data-dir", "store"])] {
        let ended = run("8", output, more);
        assert_eq!(first_difference(&bytes_of(&directory.path().join(output)), &one), None);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(ended.stderr.contains("share"), cores <= 8, "{cores} cores: {}", ended.stderr);
    }
}

/// Bytes of the long pipe: many times what the process may hold.
const LONG: u64 = 1_500 << 20;

#[test]
fn a_long_pipe_fits_into_little_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = ["--shards", "2", "--output", "out.csv", "--progress", "never"];
    let mut running = start(piped(directory.path()).args(options));
    let pourer = pour(running.stdin(), LONG);
    let mut peak = 0;
    running.until(2 * PATIENCE, "the end of the input", |running| {
        peak = peak.max(running.memory_peak());
        pourer.is_finished()
    });
    let (bytes, rows) = pourer.join().expect("the pourer");
    peak = peak.max(running.memory_peak());
    let ended = running.end(PATIENCE).with_code(DONE);
    assert!(bytes >= LONG && peak > 0, "{bytes} bytes, a peak of {peak}");
    assert!(ended.stderr.contains(&format!("received {rows} = aggregated {rows} ")), "{}", ended.stderr);
    assert!(peak < 300 << 20, "{} MiB were resident", peak >> 20);
}
