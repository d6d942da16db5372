//! The command line that asks `corefold aggregate` for a job's answer.
//!
//! Starting the command is not here.

use super::{Job, Overflow, TimeForm};
use std::path::{Path, PathBuf};

/// How a run is spread and kept; none of it may change the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Shards.
    pub shards: usize,
    /// How batches find their shard.
    pub routing: Routing,
    /// Most rows in a batch.
    pub batch_rows: usize,
    /// Directory of the write-ahead log; `None` runs without one.
    pub data_dir: Option<PathBuf>,
}

/// Values of `--routing`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Routing {
    /// To the least loaded shard.
    Load,
    /// To each in turn.
    RoundRobin,
    /// Split by group.
    Hash,
}

impl Routing {
    /// All of them.
    pub const ALL: [Routing; 3] = [Routing::Load, Routing::RoundRobin, Routing::Hash];

    /// The command-line word.
    pub const fn name(self) -> &'static str {
        match self {
            Routing::Load => "load",
            Routing::RoundRobin => "round-robin",
            Routing::Hash => "hash",
        }
    }
}

impl Shape {
    /// The simplest run: one shard, large batches, no log.
    pub fn plain() -> Shape {
        Shape { shards: 1, routing: Routing::RoundRobin, batch_rows: 65_536, data_dir: None }
    }
}

/// Arguments for the program `corefold`: the job over `files`, CSV on standard output.
pub fn aggregate_arguments(job: &Job, files: &[PathBuf], shape: &Shape) -> Vec<String> {
    let mut arguments = vec!["aggregate".to_owned()];
    arguments.extend(files.iter().map(|file| path_text(file)));
    let mut flag = |name: &str, value: String| arguments.push(format!("--{name}={value}"));
    flag("format", job.format.name().to_owned());
    flag("time", job.time.clone());
    if let TimeForm::Integer(unit) = job.time_form {
        flag("time-unit", unit.name().to_owned());
    }
    for field in &job.fields {
        flag("field", format!("{}:{}", field.name, field.kind.name()));
    }
    let view = &job.view;
    if !view.by.is_empty() {
        let names: Vec<&str> = view.by.iter().map(|&field| job.fields[field].name.as_str()).collect();
        flag("by", names.join(","));
    }
    flag("window", duration(view.size));
    if view.slide != view.size {
        flag("slide", duration(view.slide));
    }
    if view.offset != 0 {
        flag("offset", duration(view.offset));
    }
    // Both ways to ask for several aggregates are used: all in one flag, or one flag each.
    let expressions: Vec<String> = view.aggregates.iter().map(|aggregate| aggregate.expression(&job.fields)).collect();
    if job.seed.is_multiple_of(2) {
        flag("agg", expressions.join(", "));
    } else {
        expressions.into_iter().for_each(|expression| flag("agg", expression));
    }
    if let Some(filter) = &view.filter {
        flag("where", filter.sql(&job.fields));
    }
    flag("max-delay", duration(job.max_delay));
    if let Some(max_groups) = view.max_groups {
        flag("max-groups", max_groups.to_string());
        flag("overflow", if view.overflow == Overflow::Fold { "fold" } else { "reject" }.to_owned());
    }
    if let Some(null_text) = &job.null_text {
        flag("null", null_text.clone());
    }
    flag("on-error", "fail".to_owned());
    flag("shards", shape.shards.to_string());
    flag("routing", shape.routing.name().to_owned());
    flag("batch-rows", shape.batch_rows.to_string());
    if let Some(directory) = &shape.data_dir {
        flag("data-dir", path_text(directory));
    }
    flag("output", "-".to_owned());
    flag("output-format", "csv".to_owned());
    arguments
}

/// The arguments as one line for a shell.
pub fn shell_line(program: &str, arguments: &[String]) -> String {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=./:,".contains(&byte));
    let quoted = arguments.iter().map(|argument| {
        if plain(argument) { argument.clone() } else { format!("'{}'", argument.replace('\'', "'\\''")) }
    });
    std::iter::once(program.to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

/// The shortest exact text of a length of time: `6h`, `1500ms`.
pub fn duration(micros: i64) -> String {
    for (unit, name) in
        [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms")]
    {
        if micros != 0 && micros % unit == 0 {
            return format!("{}{name}", micros / unit);
        }
    }
    format!("{micros}us")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::random::random_job;

    #[test]
    fn durations_are_exact() {
        for (micros, text) in [
            (0, "0us"),
            (21_600_000_000, "6h"),
            (1_500_000, "1500ms"),
            (1_234_567, "1234567us"),
            (90_000_000, "90s"),
            (172_800_000_000, "2d"),
        ] {
            assert_eq!(duration(micros), text);
        }
    }

    #[test]
    fn a_job_becomes_one_line() {
        let job = random_job(1);
        let shape = Shape { shards: 3, routing: Routing::Hash, batch_rows: 7, data_dir: Some("/tmp/x y".into()) };
        let line = shell_line("corefold", &aggregate_arguments(&job, &["a.csv".into(), "b.csv".into()], &shape));
        assert!(line.starts_with("corefold aggregate a.csv b.csv --format="), "{line}");
        for part in ["--shards=3", "--routing=hash", "--batch-rows=7", "'--data-dir=/tmp/x y'", "--window=", "--agg="] {
            assert!(line.contains(part), "{line}");
        }
        assert_eq!(shell_line("p", &["it's".to_owned()]), "p 'it'\\''s'");
    }
}
