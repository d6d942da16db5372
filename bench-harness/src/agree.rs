//! Asks an engine for a random job's answer and compares it with the oracle's.
//!
//! The engine is behind a trait: the `corefold` program here, an in-process one elsewhere.

use crate::compare::compare;
use crate::entropy::Entropy;
use crate::oracle::{self, Ledger};
use crate::workload::Job;
use crate::workload::arguments::{Routing, Shape, aggregate_arguments, shell_line};
use crate::workload::random::random_job;
use crate::workload::text_files::write_lanes;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Jobs are small; an engine that works on one for longer hangs.
const RUN_TIME_MAX: Duration = Duration::from_secs(60);

/// Something that runs jobs.
pub trait EngineUnderTest {
    /// Runs `job` in the given shape, to the end.
    fn run(&self, job: &Job, shape: &Shape) -> Result<RunOutput, RunError>;

    /// The command that checks `seed` again with this engine.
    fn again(&self, seed: u64) -> String;
}

/// What a successful run gives.
#[derive(Clone, PartialEq, Debug)]
pub struct RunOutput {
    /// Header and rows.
    pub csv: String,
    /// The run's own account of the events, where the engine under test can tell.
    pub ledger: Option<Ledger>,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RunError {
    /// The engine said no, in a proper way; right when the oracle refuses too.
    Refused(String),
    /// It crashed, hung, could not be started or did something else that is never right.
    Broken(String),
}

/// The `corefold` program, started once per run on files written for it.
#[derive(Debug)]
pub struct CorefoldProgram {
    program: PathBuf,
    scratch: PathBuf,
    runs: AtomicU64,
}

impl CorefoldProgram {
    /// Runs `program`; input files live for the length of a run in a new directory under `scratch`.
    pub fn new(program: &Path, scratch: &Path) -> CorefoldProgram {
        CorefoldProgram { program: program.to_owned(), scratch: scratch.to_owned(), runs: AtomicU64::new(0) }
    }
}

impl EngineUnderTest for CorefoldProgram {
    fn run(&self, job: &Job, shape: &Shape) -> Result<RunOutput, RunError> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let directory = self.scratch.join(format!("run-{}-{number}", std::process::id()));
        let broken = |what: &str, error: io::Error| RunError::Broken(format!("{what}: {error}"));
        fs::create_dir_all(&directory).map_err(|error| broken("cannot make the scratch directory", error))?;
        let files = write_lanes(job, &directory).map_err(|error| broken("cannot write the lanes", error));
        let output = files.and_then(|files| {
            let data_dir = shape.data_dir.as_ref().map(|name| directory.join(name));
            let arguments = aggregate_arguments(job, &files, &Shape { data_dir, ..shape.clone() });
            run_to_end(Command::new(&self.program).args(&arguments), &directory)
        });
        fs::remove_dir_all(&directory).map_err(|error| broken("cannot clear the scratch directory", error))?;
        let (status, csv, says) = output?;
        match status.code() {
            Some(0) => Ok(RunOutput { csv, ledger: None }),
            // Runtime failure and bad input are answers; usage (2) and configuration (78) errors are not, since
            // every job is a valid question.
            Some(1 | 65) => Err(RunError::Refused(says)),
            _ => Err(RunError::Broken(format!("{status}: {says}"))),
        }
    }

    fn again(&self, seed: u64) -> String {
        format!("bench-harness agree --corefold {} --from {seed} --count 1", self.program.display())
    }
}

/// Exit status, standard output and standard error of `command`, which is killed when it runs for too long.
fn run_to_end(command: &mut Command, directory: &Path) -> Result<(ExitStatus, String, String), RunError> {
    let broken = |error: io::Error| RunError::Broken(format!("cannot run the program: {error}"));
    let (out, err) = (directory.join("stdout"), directory.join("stderr"));
    command.stdin(Stdio::null()).stdout(File::create(&out).map_err(broken)?);
    let mut child = command.stderr(File::create(&err).map_err(broken)?).spawn().map_err(broken)?;
    let started = Instant::now();
    let mut pause = Duration::from_micros(200);
    let status = loop {
        if let Some(status) = child.try_wait().map_err(broken)? {
            break status;
        }
        if started.elapsed() > RUN_TIME_MAX {
            child.kill().and_then(|()| child.wait()).map_err(broken)?;
            return Err(RunError::Broken(format!("it did not end within {} s", RUN_TIME_MAX.as_secs())));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    };
    let read = |path: &Path| fs::read_to_string(path).map_err(broken);
    Ok((status, read(&out)?, read(&err)?.trim().to_owned()))
}

/// Runs the job of `seed` in a plain and in a random shape: the plain answer must be the oracle's, the other the same
/// bytes. The error says what differs and how to see it again.
pub fn check_seed(seed: u64, engine: &dyn EngineUnderTest) -> Result<(), String> {
    let job = random_job(seed);
    check_job(&job, &[Shape::plain(), random_shape(seed)], engine)
}

/// [`check_seed`] for a job from elsewhere: the first shape's answer must be the oracle's, the others the same bytes.
pub fn check_job(job: &Job, shapes: &[Shape], engine: &dyn EngineUnderTest) -> Result<(), String> {
    let expected = oracle::answer(job);
    let mut first: Option<String> = None;
    for shape in shapes {
        let fail = |reason: String| Err(report(job, shape, &reason, &engine.again(job.seed)));
        match (&expected, engine.run(job, shape)) {
            (_, Err(RunError::Broken(reason))) => return fail(format!("the engine broke: {reason}")),
            (Err(_), Err(RunError::Refused(_))) => {}
            (Ok(_), Err(RunError::Refused(reason))) => return fail(format!("the engine refused a good job: {reason}")),
            (Err(refusal), Ok(_)) => return fail(format!("the engine gave an answer, but must refuse: {refusal}")),
            (Ok(answer), Ok(output)) => {
                if let Some(ledger) = output.ledger.filter(|ledger| *ledger != answer.ledger) {
                    return fail(format!("the ledger is {ledger:?}, expected {:?}", answer.ledger));
                }
                match &first {
                    Some(first) if *first != output.csv => {
                        return fail(
                            "other bytes than in the first shape".to_owned() + &first_difference(first, &output.csv),
                        );
                    }
                    Some(_) => {}
                    None => {
                        compare(&output.csv, answer).or_else(fail)?;
                        first = Some(output.csv);
                    }
                }
            }
        }
    }
    Ok(())
}

/// A shape that depends on the seed alone; some keep a log, in a directory of the run's own.
pub fn random_shape(seed: u64) -> Shape {
    let entropy = &mut Entropy::new(seed ^ 0x5A4E);
    Shape {
        shards: *entropy.pick(&[1, 2, 3, 8]),
        routing: *entropy.pick(&Routing::ALL),
        batch_rows: *entropy.pick(&[1, 2, 7, 64, 1_000, 65_536]),
        data_dir: entropy.chance(0.4).then(|| "data".into()),
    }
}

fn first_difference(first: &str, second: &str) -> String {
    let mut lines = first.lines().zip(second.lines()).enumerate();
    match lines.find(|(_, (a, b))| a != b) {
        Some((index, (a, b))) => format!(", line {}:\n  first {a}\n  now   {b}", index + 1),
        None => format!(": {} lines first, now {}", first.lines().count(), second.lines().count()),
    }
}

fn report(job: &Job, shape: &Shape, reason: &str, again: &str) -> String {
    let files: Vec<PathBuf> =
        (0..job.lanes.len()).map(|lane| format!("job/lane-{lane}.{}", job.format.name()).into()).collect();
    let command = shell_line("corefold", &aggregate_arguments(job, &files, shape));
    format!(
        "seed {seed}: {reason}\nto see the job:   bench-harness oracle {seed} --write job\nto check it:      \
         {again}\nto run it alone:  {command}",
        seed = job.seed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The oracle dressed as an engine, with a mistake to order.
    struct Mirror(Mistake);

    type Mistake = fn(&Shape, String) -> Result<String, RunError>;

    impl EngineUnderTest for Mirror {
        fn run(&self, job: &Job, shape: &Shape) -> Result<RunOutput, RunError> {
            let answer = oracle::answer(job).map_err(|refusal| RunError::Refused(refusal.to_string()))?;
            let csv = (self.0)(shape, answer.csv())?;
            Ok(RunOutput { csv, ledger: Some(answer.ledger) })
        }

        fn again(&self, seed: u64) -> String {
            format!("mirror {seed}")
        }
    }

    /// The first seed whose job has an answer with rows.
    fn answered() -> u64 {
        (0..).find(|&seed| oracle::answer(&random_job(seed)).is_ok_and(|answer| !answer.rows.is_empty())).unwrap()
    }

    #[test]
    fn an_engine_that_is_right_passes() {
        for seed in 0..60 {
            check_seed(seed, &Mirror(|_, csv| Ok(csv))).unwrap();
        }
    }

    #[test]
    fn engines_that_are_wrong_fail_with_a_way_to_see_it() {
        let wrong: [(Mistake, &str); 4] = [
            (|_, csv| Ok(csv.lines().next().unwrap_or("").to_owned() + "\n"), "first row missing"),
            (|_, _| Err(RunError::Refused("no".into())), "refused a good job: no"),
            (|_, _| Err(RunError::Broken("signal 11".into())), "broke: signal 11"),
            (|shape, csv| Ok(if *shape == Shape::plain() { csv } else { csv + "x" }), "other bytes"),
        ];
        let seed = answered();
        for (mistake, says) in wrong {
            let report = check_seed(seed, &Mirror(mistake)).unwrap_err();
            assert!(report.contains(says), "{report}");
            assert!(report.contains(&format!("seed {seed}:")) && report.contains("corefold aggregate"), "{report}");
        }
    }

    #[test]
    fn a_program_that_cannot_start_is_broken() {
        let scratch = tempfile::tempdir().unwrap();
        let program = CorefoldProgram::new(Path::new("/no/such/program"), scratch.path());
        let result = program.run(&random_job(answered()), &Shape::plain());
        assert!(matches!(result, Err(RunError::Broken(_))), "{result:?}");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "files stay behind");
    }
}
