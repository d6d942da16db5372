//! An `aggregate` command of which every argument is known to fit the others.
//!
//! Expressions stay text here, and the types of columns that were not declared are found when the input is opened.

use std::path::{Path, PathBuf};

use corefold_aggregator::limits::BY_COLUMNS_MAX;
use corefold_aggregator::spec::{Field, FieldType, Overflow};
use corefold_aggregator::time::{Duration, WindowSpec};

use super::UsageError;
use super::args::{AggregateArgs, ProgressMode};
use crate::config::{
    AutoOr, Durability, InputFormat, InputPath, OutputFormat, ReadOptions, Routing, TimeUnit, choices,
};
use crate::units;

/// Everything that `corefold aggregate` was asked to do.
#[derive(Clone, PartialEq, Debug)]
pub struct AggregateJob {
    /// What to read; at least one, standard input at most once.
    pub inputs: Vec<InputPath>,
    /// How to read it.
    pub read: ReadOptions,
    /// Time column.
    pub time: String,
    /// Unit of whole-number times.
    pub time_unit: Option<TimeUnit>,
    /// How far a lane's watermark stays behind its highest time.
    pub max_delay: Duration,
    /// Columns whose type was declared; no name twice.
    pub declared: Vec<Field>,
    /// Group columns; no name twice.
    pub by: Vec<String>,
    /// Window shape.
    pub window: WindowSpec,
    /// Aggregate expressions, one text per `--agg`.
    pub aggregates: Vec<String>,
    /// Filter expression.
    pub filter: Option<String>,
    /// Most groups per pane and per window.
    pub groups_max: u32,
    /// What happens past it.
    pub overflow: Overflow,
    /// Where the result goes.
    pub output: OutputTarget,
    /// Its format.
    pub output_format: OutputFormat,
    /// Where late events go, and in which format.
    pub late_output: Option<(PathBuf, OutputFormat)>,
    /// How many shards.
    pub shards: AutoOr,
    /// How batches are spread over them.
    pub routing: Routing,
    /// Directory of everything durable.
    pub data_dir: Option<PathBuf>,
    /// When an event counts as safe; `None` whenever there is no data directory.
    pub durability: Durability,
    /// Most rows per batch.
    pub batch_rows: u32,
    /// How often closed panes are pulled.
    pub pull_interval: std::time::Duration,
    /// When to draw a progress bar; `Never` with `--quiet`.
    pub progress: ProgressMode,
    /// No summary.
    pub quiet: bool,
}

/// Standard output or a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OutputTarget {
    /// Standard output.
    Stdout,
    /// A file, replaced at once when the result is complete.
    File(PathBuf),
}

impl TryFrom<AggregateArgs> for AggregateJob {
    type Error = UsageError;

    fn try_from(args: AggregateArgs) -> Result<AggregateJob, UsageError> {
        let slide = args.slide.unwrap_or(args.window);
        let window = WindowSpec::new(args.window, slide, args.offset).map_err(|error| {
            let flag = if args.slide.is_some() && args.window != Duration::ZERO { "--slide" } else { "--window" };
            fault(format!("{flag}: {error}"))
        })?;
        if args.time.is_empty() {
            return Err(fault("--time: the column name is empty"));
        }
        check_expressions(&args)?;
        check_columns(&args)?;
        let inputs = inputs(&args)?;
        let (output, output_format) = output(&args)?;
        let late_output = late_output(&args, &inputs)?;
        let durability = durability(&args)?;
        let field = |(name, kind): (String, choices::TypeChoice)| Field { name, kind: FieldType::from(kind) };
        Ok(AggregateJob {
            inputs,
            read: ReadOptions {
                format: args.format,
                nulls: args.nulls,
                on_error: args.on_error,
                delimiter: args.delimiter,
            },
            time: args.time,
            time_unit: args.time_unit,
            max_delay: args.max_delay,
            declared: args.fields.into_iter().map(field).collect(),
            by: args.by,
            window,
            aggregates: args.aggregates,
            filter: args.filter,
            groups_max: args.max_groups,
            overflow: args.overflow.into(),
            output,
            output_format,
            late_output,
            shards: args.shards,
            routing: args.routing,
            data_dir: args.data_dir,
            durability,
            batch_rows: args.batch_rows,
            pull_interval: units::wait(args.pull_interval),
            progress: if args.report.quiet { ProgressMode::Never } else { args.report.progress },
            quiet: args.report.quiet,
        })
    }
}

fn fault(message: impl Into<String>) -> UsageError {
    UsageError(message.into())
}

fn check_expressions(args: &AggregateArgs) -> Result<(), UsageError> {
    if args.aggregates.iter().any(|text| text.trim().is_empty()) {
        return Err(fault("--agg: the expression is empty; ask for at least one aggregate, such as 'count()'"));
    }
    if args.filter.as_ref().is_some_and(|text| text.trim().is_empty()) {
        return Err(fault("--where: the expression is empty"));
    }
    Ok(())
}

fn check_columns(args: &AggregateArgs) -> Result<(), UsageError> {
    for (index, name) in args.by.iter().enumerate() {
        if name.is_empty() {
            return Err(fault("--by: a column name is empty"));
        }
        if matches!(name.as_str(), "window_start" | "window_end") {
            return Err(fault(format!("--by: the output has a column `{name}` of its own")));
        }
        if args.by[..index].contains(name) {
            return Err(fault(format!("--by: the column `{name}` is given twice")));
        }
    }
    if args.by.len() > BY_COLUMNS_MAX {
        return Err(fault(format!("--by: {} columns are too many; at most {BY_COLUMNS_MAX}", args.by.len())));
    }
    for (index, (name, _)) in args.fields.iter().enumerate() {
        if args.fields[..index].iter().any(|(other, _)| other == name) {
            return Err(fault(format!("--field: the column `{name}` is declared twice")));
        }
    }
    Ok(())
}

fn inputs(args: &AggregateArgs) -> Result<Vec<InputPath>, UsageError> {
    let mut inputs = Vec::with_capacity(args.inputs.len());
    for text in &args.inputs {
        if text.is_empty() {
            return Err(fault("INPUT: a path is empty"));
        }
        let input = InputPath::new(Path::new(""), text);
        if inputs.contains(&input) {
            return Err(fault(format!("INPUT: `{text}` is given twice; its events would count twice")));
        }
        if input == InputPath::File(args.output.clone()) {
            return Err(fault(format!("--output: `{text}` is an input too and would be overwritten")));
        }
        inputs.push(input);
    }
    if args.delimiter.is_some() && args.format.is_some_and(|format| format != InputFormat::Csv) {
        return Err(fault("--delimiter is for CSV input only"));
    }
    Ok(inputs)
}

fn output(args: &AggregateArgs) -> Result<(OutputTarget, OutputFormat), UsageError> {
    if args.output.as_os_str().is_empty() {
        return Err(fault("--output: the path is empty"));
    }
    if args.output == Path::new("-") {
        return Ok((OutputTarget::Stdout, args.output_format.unwrap_or(OutputFormat::Csv)));
    }
    let format = match args.output_format {
        Some(format) => format,
        None => format_of("--output", &args.output, "; add --output-format")?,
    };
    Ok((OutputTarget::File(args.output.clone()), format))
}

fn late_output(args: &AggregateArgs, inputs: &[InputPath]) -> Result<Option<(PathBuf, OutputFormat)>, UsageError> {
    let Some(path) = &args.late_output else { return Ok(None) };
    if *path == args.output {
        return Err(fault("--late-output and --output name the same file"));
    }
    if inputs.contains(&InputPath::File(path.clone())) {
        return Err(fault(format!("--late-output: `{}` is an input too and would be overwritten", path.display())));
    }
    let format = format_of("--late-output", path, "")?;
    Ok(Some((path.clone(), format)))
}

fn format_of(flag: &str, path: &Path, advice: &str) -> Result<OutputFormat, UsageError> {
    OutputFormat::of_path(path).ok_or_else(|| {
        fault(format!(
            "{flag}: the extension of `{}` does not tell the format; expected .csv, .ndjson, .parquet or .arrow{advice}",
            path.display()
        ))
    })
}

fn durability(args: &AggregateArgs) -> Result<Durability, UsageError> {
    match (args.durability, &args.data_dir) {
        (Some(choice @ (Durability::Sync | Durability::Os)), None) => Err(fault(format!(
            "--durability {} needs a directory for the log; add --data-dir DIR",
            choices::name(&choice)
        ))),
        (Some(choice), _) => Ok(choice),
        (None, Some(_)) => Ok(Durability::Sync),
        (None, None) => Ok(Durability::None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn job(extra: &[&str]) -> Result<AggregateJob, UsageError> {
        let line = ["corefold", "aggregate", "a.csv", "--time", "t", "--window", "6h", "--agg", "count(), sum(x)"];
        let cli = Cli::try_parse_from(line.iter().chain(extra)).unwrap_or_else(|error| panic!("{error}"));
        let Command::Aggregate(args) = cli.command else { panic!("not aggregate") };
        AggregateJob::try_from(*args)
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let job = job(&[]).expect("fits");
        assert_eq!(job.inputs, [InputPath::File("a.csv".into())]);
        assert_eq!(job.read, ReadOptions::default());
        assert_eq!((job.max_delay, job.time_unit), (Duration::ZERO, None));
        assert_eq!((job.window.size(), job.window.slide(), job.window.offset()), (21_600_000_000, 21_600_000_000, 0));
        assert_eq!(job.aggregates, ["count(), sum(x)"]);
        assert_eq!((job.groups_max, job.overflow), (1_000_000, Overflow::Fold));
        assert_eq!((job.output, job.output_format), (OutputTarget::Stdout, OutputFormat::Csv));
        assert_eq!((job.shards, job.routing, job.durability), (AutoOr::Auto, Routing::Load, Durability::None));
        assert_eq!((job.batch_rows, job.pull_interval), (8192, std::time::Duration::from_millis(100)));
        assert_eq!((job.progress, job.quiet), (ProgressMode::Auto, false));
    }

    #[test]
    fn flags_arrive() {
        let job = job(&[
            "b-*.csv",
            "-",
            "--slide",
            "1h",
            "--offset",
            "30m",
            "--by",
            "a,b",
            "--by",
            "c",
            "--agg",
            "min(x)",
            "--null",
            "NA,-",
            "--field",
            "x:f64",
            "--delimiter",
            "\\t",
            "--time-unit",
            "ms",
            "--where",
            "x > 1",
            "--output",
            "o.parquet",
            "--late-output",
            "l.ndjson",
            "--data-dir",
            "d",
            "--shards",
            "3",
            "--routing",
            "round-robin",
            "--on-error",
            "skip",
            "--overflow",
            "reject",
            "--max-groups",
            "7",
            "--pull-interval",
            "1s",
            "--quiet",
        ])
        .expect("fits");
        assert_eq!(job.inputs.len(), 3);
        assert_eq!(job.inputs[2], InputPath::Stdin);
        assert!(matches!(&job.inputs[1], InputPath::Glob { pattern, .. } if pattern == "b-*.csv"));
        assert_eq!((job.window.slide(), job.window.offset()), (3_600_000_000, 1_800_000_000));
        assert_eq!((job.by, job.aggregates.len()), (vec!["a".into(), "b".into(), "c".into()], 2));
        assert_eq!((job.read.nulls, job.read.delimiter), (vec!["NA".into(), "-".into()], Some(b'\t')));
        assert_eq!(job.declared, [Field { name: "x".into(), kind: FieldType::F64 }]);
        assert_eq!(job.output_format, OutputFormat::Parquet);
        assert_eq!(job.late_output, Some(("l.ndjson".into(), OutputFormat::Ndjson)));
        assert_eq!((job.durability, job.shards), (Durability::Sync, AutoOr::Fixed(3)));
        assert_eq!((job.progress, job.quiet), (ProgressMode::Never, true));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let table: [(&[&str], &str); 16] = [
            (&["--slide", "7h"], "--slide: the window slide is longer than its size"),
            (&["--slide", "0"], "slide is zero"),
            (&["--agg", " "], "--agg: the expression is empty"),
            (&["--where", ""], "--where: the expression is empty"),
            (&["--by", "a,,b"], "--by: a column name is empty"),
            (&["--by", "a,a"], "`a` is given twice"),
            (&["--by", "window_end"], "a column `window_end` of its own"),
            (&["--by", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"], "17 columns are too many"),
            (&["--field", "x:i64", "--field", "x:f64"], "`x` is declared twice"),
            (&["a.csv"], "`a.csv` is given twice"),
            (&["--output", "a.csv"], "`a.csv` is an input too"),
            (&["--output", "o.txt"], "add --output-format"),
            (&["--output", "o.csv", "--late-output", "o.csv"], "name the same file"),
            (&["--late-output", "late.txt"], "expected .csv"),
            (&["--format", "parquet", "--delimiter", ";"], "for CSV input only"),
            (&["--durability", "sync"], "add --data-dir"),
        ];
        for (extra, expected) in table {
            let error = job(extra).expect_err(expected).to_string();
            assert!(error.contains(expected), "{extra:?}: {error}");
        }
        assert!(job(&["--durability", "none"]).is_ok());
        assert!(job(&["--output", "o.txt", "--output-format", "csv"]).is_ok());
    }
}
