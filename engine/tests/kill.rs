//! A job with a data directory is killed at random moments and started again until it ends: the bytes and the ledger
//! are those of a run that nobody disturbed, and what is durable is not read again.
//!
//! Power cuts and damaged logs are not here; a kill takes nothing away that was written.

mod children;
mod support;

use children::{Ended, Running, make_fifo, start};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::events::{Random, disordered};
use support::process::{bytes_of, corefold};
use support::scene::{DONE, IO, USAGE};
use support::{first_difference, listing, text, zstd_pack};

/// No run of this size takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A query that asks for order, exact sums and groups of two columns.
const QUERY: [&str; 16] = [
    "--time",
    "time",
    "--by",
    "key,flag",
    "--window",
    "1h",
    "--slide",
    "15m",
    "--max-delay",
    "5m",
    "--field",
    "value:f64",
    "--agg",
    "count(), mean(number), sum(value), min(value), first(key), last(number), p90 = quantile(value, 0.9)",
    "--progress",
    "never",
];

/// A directory with inputs, the query over them, and what an undisturbed run makes of it.
struct Job {
    directory: tempfile::TempDir,
    inputs: Vec<PathBuf>,
    rows: u64,
    result: Vec<u8>,
    late: Vec<u8>,
    ledger: String,
    took: Duration,
}

impl Job {
    /// Disordered inputs, one per seed, the last one packed if there are several.
    fn new(seeds: &[u64], rows: usize) -> Job {
        let directory = tempfile::tempdir().expect("a directory");
        let mut inputs = Vec::new();
        for (index, seed) in seeds.iter().enumerate() {
            let packed = index > 0 && index + 1 == seeds.len();
            let path = directory.path().join(format!("in-{index}.csv{}", if packed { ".zst" } else { "" }));
            let events = disordered(*seed, rows).into_bytes();
            fs::write(&path, if packed { zstd_pack(&events) } else { events }).expect("a new file");
            inputs.push(path);
        }
        let rows = (rows * seeds.len()) as u64;
        let (result, late, ledger, took) = (Vec::new(), Vec::new(), String::new(), Duration::ZERO);
        let mut job = Job { directory, inputs, rows, result, late, ledger, took };
        let undisturbed = start(&mut job.command(&["--shards", "2"])).end(PATIENCE).with_code(DONE);
        (job.result, job.late) = job.outputs();
        job.ledger = undisturbed.line_of("ledger");
        job.took = undisturbed.took;
        assert!(job.ledger.contains(&format!("received {rows} = ")), "{}", job.ledger);
        assert!(job.late.len() > 10_000 && job.result.len() > 10_000, "{}", job.ledger);
        job.forget_outputs();
        job
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The job without a data directory, with outputs `out.csv` and `late.csv`.
    fn command(&self, options: &[&str]) -> Command {
        let inputs: Vec<&str> = self.inputs.iter().map(|path| text(path)).collect();
        let mut command = corefold(&[&["aggregate"], &inputs[..], &QUERY, options].concat());
        if !options.contains(&"--output") {
            command.arg("--output").arg(self.path("out.csv"));
        }
        command.arg("--late-output").arg(self.path("late.csv")).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// The job in the data directory `store`.
    fn durable(&self, options: &[&str]) -> Command {
        let mut command = self.command(options);
        command.arg("--data-dir").arg(self.path("store"));
        command
    }

    fn outputs(&self) -> (Vec<u8>, Vec<u8>) {
        (bytes_of(&self.path("out.csv")), bytes_of(&self.path("late.csv")))
    }

    fn forget_outputs(&self) {
        for name in ["out.csv", "late.csv"] {
            let _ = fs::remove_file(self.path(name));
        }
    }

    /// That a run has ended well, with the same bytes and ledger as the undisturbed one, and left nothing else.
    #[track_caller]
    fn check(&self, ended: Ended) -> Ended {
        let ended = ended.with_code(DONE);
        let (result, late) = self.outputs();
        assert_eq!(first_difference(&result, &self.result), None, "the result\n{}", ended.stderr);
        assert_eq!(first_difference(&late, &self.late), None, "the late rows\n{}", ended.stderr);
        assert_eq!(ended.line_of("ledger"), self.ledger, "{}", ended.stderr);
        assert!(!ended.stderr.contains("DOES NOT ADD UP"), "{}", ended.stderr);
        let read = ended.number_after("read      ").expect("rows read");
        assert_eq!(read + resumed(&ended), self.rows, "{}", ended.stderr);
        let expected = ["in-", "out.csv", "late.csv", "store", "pipe"];
        for path in listing(self.directory.path()) {
            let name = text(&path);
            assert!(expected.iter().any(|start| name.starts_with(start)), "{name} was left behind");
            assert!(!name.contains("tmp"), "{name} was left behind");
        }
        ended
    }
}

/// Rows that a run did not read again.
fn resumed(ended: &Ended) -> u64 {
    ended.number_after("resuming: ").unwrap_or(0)
}

/// What the kills of one way of working came to.
#[derive(Default, Debug)]
struct Kills {
    count: u64,
    /// Starts that found something durable.
    resumes: u64,
    rounds: u64,
}

/// Kills the job `count` times, a few times in every round; every round ends with the right bytes. `options` are
/// given to every start, and one of `changes`.
fn kill_again_and_again(job: &Job, seed: u64, count: u64, options: &[&str], changes: &[&[&str]]) -> Kills {
    let mut random = Random::new(seed);
    let mut kills = Kills::default();
    // How far a job comes in a given time is the machine's affair: kills that come too early are made up for.
    while kills.count < count || kills.resumes < count / 4 {
        kills.rounds += 1;
        assert!(kills.rounds <= 20 * count, "kills come too early: {kills:?}");
        let until = count.max(kills.count + 2).min(kills.count + 2 + random.below(6));
        let mut durable = 0;
        // Starts in a row that found nothing; on a busy machine a start takes its time.
        let mut barren = 0;
        loop {
            let change = changes[random.below(changes.len() as u64) as usize];
            let longest = job.took * (2 + barren) / 2;
            let life = if kills.count < until { life(&mut random, longest) } else { PATIENCE };
            let ended = start(&mut job.durable(&[options, change].concat())).kill_after(life);
            barren += 1;
            if ended.stderr.contains("resuming: ") {
                barren = 0;
                kills.resumes += 1;
                let rows = resumed(&ended);
                assert!(durable <= rows && rows <= job.rows, "{durable} rows were durable\n{}", ended.stderr);
                durable = rows;
            }
            if !ended.was_killed() {
                assert_eq!(resumed(&ended), durable, "{}", ended.stderr);
                job.check(ended);
                break;
            }
            kills.count += 1;
            // A kill after the last deed finds the outputs complete, and no other kill finds any.
            for (name, whole) in [("out.csv", &job.result), ("late.csv", &job.late)] {
                assert!(fs::read(job.path(name)).is_ok_and(|bytes| bytes == *whole) || !job.path(name).exists());
            }
        }
        // The directory of a finished job is as good as any: nothing is left to read.
        let again = job.check(start(&mut job.durable(options)).end(PATIENCE));
        assert_eq!(resumed(&again), job.rows, "{}", again.stderr);
        job.forget_outputs();
        fs::remove_dir_all(job.path("store")).expect("the store");
    }
    kills
}

/// How long a start may live: some die before they have done anything, some while they read their log back, most
/// somewhere on the way.
fn life(random: &mut Random, longest: Duration) -> Duration {
    let longest = if random.once_in(4) { longest / 8 } else { longest };
    Duration::from_micros(random.below(longest.as_micros() as u64))
}

const SHARD_CHANGES: [&[&str]; 4] = [&["--shards", "2"], &["--shards", "1"], &["--shards", "2"], &["--shards", "3"]];

#[test]
fn killed_over_one_file() {
    let job = Job::new(&[1], 300_000);
    kill_again_and_again(&job, 101, 12, &["--batch-rows", "5000"], &SHARD_CHANGES[..1]);
    kill_again_and_again(&job, 102, 8, &["--durability", "os"], &SHARD_CHANGES);
}

#[test]
fn killed_over_several_files() {
    let job = Job::new(&[2, 3, 4], 100_000);
    kill_again_and_again(&job, 201, 12, &["--batch-rows", "2000"], &SHARD_CHANGES);
    let routings: [&[&str]; 2] = [&["--routing", "round-robin"], &["--routing", "load"]];
    kill_again_and_again(&job, 202, 6, &["--shards", "2"], &routings);
}

#[test]
fn killed_with_hash_routing() {
    let job = Job::new(&[5, 6], 150_000);
    let options = ["--routing", "hash", "--batch-rows", "3000"];
    kill_again_and_again(&job, 301, 10, &options, &SHARD_CHANGES);
    // Parts of a batch may be durable when the next start is routed in another way.
    let routings: [&[&str]; 3] = [&["--routing", "hash"], &["--routing", "load"], &["--routing", "hash"]];
    kill_again_and_again(&job, 302, 10, &["--shards", "3", "--batch-rows", "3000"], &routings);
}

/// A pipe that is read by nobody yet: a job that writes its result there has folded all and made all durable, and
/// waits.
struct Pipe {
    path: PathBuf,
    end: File,
}

impl Pipe {
    fn new(job: &Job) -> Pipe {
        let path = job.path("pipe");
        make_fifo(&path);
        // Open for both, so that opening it waits for nobody and closing it tells nobody.
        let end = OpenOptions::new().read(true).write(true).open(&path).expect("a pipe");
        Pipe { path, end }
    }

    /// Starts the job in its data directory and waits until it gives out its result.
    #[track_caller]
    fn start(&mut self, job: &Job) -> Running {
        // One pull at the end of the input, so that a full pipe holds back nothing before it.
        let options = ["--shards", "2", "--output-format", "csv", "--output", text(&self.path)];
        let mut running = start(&mut job.durable(&[&options[..], &["--pull-interval", "1h"]].concat()));
        let end = &self.end;
        running.until(PATIENCE, "the first bytes of the result", |_| has_bytes(end));
        running
    }

    fn empty(&mut self) {
        let mut bytes = vec![0; 1 << 20];
        while has_bytes(&self.end) {
            let _ = self.end.read(&mut bytes).expect("a pipe");
        }
    }
}

fn has_bytes(file: &File) -> bool {
    use std::os::fd::AsRawFd;
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure that lives over the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

#[test]
fn what_is_durable_is_not_read_again() {
    let job = Job::new(&[7], 60_000);
    let mut pipe = Pipe::new(&job);
    for _ in 0..3 {
        assert!(pipe.start(&job).kill_after(Duration::ZERO).was_killed());
        pipe.empty();
    }
    let ended = job.check(start(&mut job.durable(&["--shards", "1"])).end(PATIENCE));
    assert_eq!(resumed(&ended), job.rows, "{}", ended.stderr);
    assert_eq!(ended.number_after("read      "), Some(0), "{}", ended.stderr);
}

#[test]
fn one_process_at_a_time() {
    let job = Job::new(&[8], 40_000);
    let mut pipe = Pipe::new(&job);
    let first = pipe.start(&job);
    let second = start(&mut job.durable(&[])).end(PATIENCE).with_code(IO);
    let store = job.path("store");
    for word in ["corefold: ", text(&store), "in use by another process", "choose another directory"] {
        assert!(second.stderr.contains(word), "{word}: {}", second.stderr);
    }
    assert!(!job.path("out.csv").exists());
    // One that comes while the owner dies takes over.
    let third = start(&mut job.durable(&[]));
    std::thread::sleep(Duration::from_millis(300));
    assert!(first.kill_after(Duration::ZERO).was_killed());
    let third = job.check(third.end(PATIENCE));
    assert_eq!(resumed(&third), job.rows, "{}", third.stderr);
}

/// Runs that are refused, for what they say about the directory of another job.
#[test]
fn other_inputs_and_other_queries_are_refused() {
    let job = Job::new(&[9, 10], 20_000);
    let mut pipe = Pipe::new(&job);
    assert!(pipe.start(&job).kill_after(Duration::ZERO).was_killed());
    pipe.empty();
    let refused = |command: &mut Command, words: &[&str]| {
        let ended = start(command).end(PATIENCE).with_code(USAGE);
        let store = job.path("store");
        for word in ["corefold: ", text(&store), "belongs to another job"].iter().chain(words) {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
        assert!(!job.path("out.csv").exists() && !job.path("late.csv").exists());
    };
    refused(job.durable(&[]).args(["--agg", "max(value)"]), &["--agg: number 2 was not given and is now `max(value)`"]);
    refused(job.durable(&[]).args(["--where", "number > 0"]), &["--where was not given and is now `number > 0`"]);
    refused(job.durable(&[]).args(["--offset", "5m"]), &["--offset was `0s` and is now `5m`"]);
    refused(job.durable(&[]).args(["--batch-rows", "9"]), &["--batch-rows was 8192 and is now 9"]);

    let input = &job.inputs[0];
    let written = fs::metadata(input).and_then(|metadata| metadata.modified()).expect("a time");
    let length = bytes_of(input).len();
    let mut file = OpenOptions::new().append(true).open(input).expect("an input");
    file.write_all(b"2030-01-01T00:00:00Z,a,true,1,1\n").expect("an input");
    refused(&mut job.durable(&[]), &["inputs: number 1 was ", &format!("\"bytes\":{length}"), text(input)]);
    // The file as it was is the same input again.
    file.set_len(length as u64).expect("an input");
    file.set_modified(written).expect("an input");
    let ended = job.check(start(&mut job.durable(&[])).end(PATIENCE));
    assert_eq!(resumed(&ended), job.rows, "{}", ended.stderr);

    let mut strangers = job.command(&[]);
    strangers.arg("--data-dir").arg(job.directory.path());
    let ended = start(&mut strangers).end(PATIENCE).with_code(IO);
    assert!(ended.stderr.contains("choose an empty or a new directory"), "{}", ended.stderr);
}

#[test]
fn skipped_rows_are_not_read_again_either() {
    let mut job = Job::new(&[11], 20_000);
    let mut events = fs::read(&job.inputs[0]).expect("an input");
    events.extend_from_slice(b"yesterday,a,true,1,1\nnever,b,true,1,1\n");
    fs::write(&job.inputs[0], events).expect("an input");
    job.rows += 2;
    job.ledger = job.ledger.replace("received 20000", "received 20002").replace("rejected 0", "rejected 2");
    for resumes in [0, job.rows] {
        let ended = job.check(start(&mut job.durable(&["--on-error", "skip"])).end(PATIENCE));
        assert_eq!(resumed(&ended), resumes, "{}", ended.stderr);
    }
}
