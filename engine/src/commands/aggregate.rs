//! `corefold aggregate`: finite inputs, one view, one result.
//!
//! The order of things: expressions, inputs and their types, the data directory, outputs, then the engine.

use super::signals::StopSignal;
use super::{CommandError, Console, check_machine};
use crate::assemble::{self, ViewRequest};
use crate::background::Background;
use crate::cli::job::{AggregateJob, OutputTarget};
use crate::config::SEGMENT_SIZE_DEFAULT;
use crate::error::EngineError;
use crate::export::late::LATE_MEMORY_MAX;
use crate::export::{self, LateWriter, Table, Target};
use crate::export_core::ViewOutputs;
use crate::feed::lanes::{LaneSource, LaneStart};
use crate::guard::catch;
use crate::launch::{EnginePlan, EngineSummary, launch};
use crate::launch_store::StorePlan;
use crate::lifecycle::Lifecycle;
use crate::links::Shared;
use crate::progress::ProgressDisplay;
use crate::source::error::SourceError;
use crate::source::infer::{Inferred, WantedColumn, infer};
use crate::source::input::{Input, resolve};
use crate::source::plan::ReadPlan;
use crate::source::times;
use crate::sql::{self, ParsedAggregate, SqlError, StreamColumns};
use crate::store_job::{JobText, LogPlan, open_store};
use crate::summary::{self, ViewLine};
use crate::topology::Topology;
use corefold_aggregator::spec::{FieldType, StreamSpec, ViewSpec};
use corefold_aggregator::time::Duration;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Name of the one view and stream of this command.
const NAME: &str = "aggregate";

/// Rows that the table shows from each end of the result.
const TABLE_ROWS_EACH: usize = 5;

/// How long a group's slot is kept after its last pane: long enough that a group that comes and goes keeps it.
const GROUP_TTL: Option<Duration> = Duration::from_micros(3_600_000_000);

/// Runs the job to its end and shows what came of it.
pub fn aggregate(job: &AggregateJob) -> Result<(), CommandError> {
    let signal = StopSignal::listen()?;
    let console = Console::new(job.progress, job.quiet);
    let mut display = ProgressDisplay::new(console.progress);
    // Looking at a pipe that is silent takes as long as it is.
    let looked = signal.unless_set({
        let job = job.clone();
        move || Asked::read(&job)
    });
    let asked = match looked {
        Err(EngineError::Stopped) => return Err(interrupted(job).into()),
        looked => looked??,
    };
    check_machine()?;
    let routing = assemble::routing(job.routing);
    let topology = Topology::of_this_machine(assemble::shards_wanted(job.shards), None)?;
    for warning in &topology.warnings {
        console.say(&format!("warning: {warning}"));
    }
    let shared: Arc<Shared<EngineError>> = Arc::default();
    let bytes_total = asked.inputs.iter().map(|input| input.bytes_total()).sum::<Option<u64>>();
    shared.progress.bytes_total.store(bytes_total.unwrap_or(0), Ordering::Relaxed);

    let parts = assemble::parts(routing, topology.shards.len());
    let (store, parts) = match &job.data_dir {
        None => (None, parts),
        Some(directory) => {
            let (store, parts) = open_job_store(job, &asked, directory, parts)?;
            (Some(store), parts)
        }
    };
    let starts: Vec<LaneStart> = (0..asked.inputs.len() as u32)
        .map(|lane| store.as_ref().and_then(|store| store.recovered.lanes.get(&lane).cloned()).unwrap_or_default())
        .collect();
    let rows_resumed = store.as_ref().map_or(0, |store| store.recovered.rows);
    if rows_resumed > 0 {
        let rows = crate::progress::thousands(rows_resumed);
        console.say(&format!("resuming: {rows} rows are durable already and are not read again"));
    }

    let view = ViewRequest {
        stream: 0,
        spec: asked.view.clone(),
        filter: asked.filter.clone(),
        group_ttl: GROUP_TTL.unwrap_or(Duration::MAX),
    };
    let streams = std::slice::from_ref(&asked.stream);
    let shards = assemble::shard_plan(streams, vec![view], job.late_output.is_some())?;
    let outputs = open_outputs(job, &asked, &shards.views[0].plan.schema)?;
    let batches = assemble::batch_plan(&asked.stream, asked.read, &asked.view.by, parts);
    let lanes = asked.inputs.into_iter().zip(starts).map(|(input, start)| LaneSource { input, plan: 0, start });
    let plan = EnginePlan {
        topology,
        shards,
        outputs: vec![outputs],
        keeps_unfinished: false,
        plans: vec![batches],
        lanes: lanes.collect(),
        routing,
        pull_interval: job.pull_interval,
        store,
        net: None,
        background: Background::default(),
    };
    let launched = launch(plan, &shared, &mut |shared| {
        display.show(&shared.progress);
        if signal.is_set() && shared.lifecycle.advance(Lifecycle::Stopped).is_ok() {
            display.clear();
        }
    });
    display.clear();
    let summary = match launched {
        Err(EngineError::Stopped) if signal.is_set() => return Err(interrupted(job).into()),
        launched => launched?,
    };
    show(job, &console, summary, rows_resumed, &display)
}

/// The job with its expressions understood and its inputs looked at.
struct Asked {
    inputs: Vec<Input>,
    stream: StreamSpec,
    view: ViewSpec,
    filter: Option<corefold_shards::fold::filter::Filter>,
    read: ReadPlan,
}

impl Asked {
    fn read(job: &AggregateJob) -> Result<Asked, CommandError> {
        let agg = |error| CommandError::Expression { option: "--agg", error };
        let filter = |error| CommandError::Expression { option: "--where", error };
        let parsed = sql::parse_aggregates(&job.aggregates).map_err(agg)?;
        let wanted = wanted_columns(job, &parsed).map_err(filter)?;
        let arguments: Vec<String> = job.inputs.iter().map(ToString::to_string).collect();
        let inputs = resolve(&arguments, job.read.format.map(assemble::input_format))?;
        let read = assemble::read_plan(&job.time, job.time_unit, Vec::new(), &job.read, job.batch_rows);
        let inferred = catch(|| infer(&inputs, &wanted, &read)).unwrap_or_else(|what| {
            let path = inputs.first().map(|input| input.name.clone()).unwrap_or_default();
            Err(SourceError::Damaged { path, what })
        })?;
        let stream = StreamSpec {
            name: NAME.to_owned(),
            time: job.time.clone(),
            delay_max: job.max_delay,
            fields: inferred.fields.clone(),
        };
        let columns = StreamColumns { time: &job.time, fields: &stream.fields };
        let spoilt = || not_numbers(job, &parsed, &wanted, &inferred);
        let aggregates = sql::resolve(&parsed, &columns).map_err(|error| spoilt().unwrap_or_else(|| agg(error)))?;
        let parse_time = |text: &str| times::parse(text.as_bytes(), None).ok();
        let planned = job.filter.as_deref().map(|text| sql::plan_filter(text, &columns, parse_time)).transpose();
        let view = ViewSpec {
            name: NAME.to_owned(),
            by: job.by.iter().filter_map(|name| stream.field_index(name)).collect(),
            window: job.window,
            aggregates,
            groups_max: job.groups_max,
            overflow: job.overflow,
        };
        let filter = planned.map_err(|error| spoilt().unwrap_or_else(|| filter(error)))?;
        let read = ReadPlan { fields: inferred.fields, ..read };
        Ok(Asked { inputs, stream, view, filter, read })
    }
}

/// The columns that the job reads besides the time, each once, with the type that its use suggests.
fn wanted_columns(job: &AggregateJob, aggregates: &[ParsedAggregate]) -> Result<Vec<WantedColumn>, SqlError> {
    let mut wanted: Vec<WantedColumn> = Vec::new();
    let mut want = |name: &str, hint: FieldType| {
        if !wanted.iter().any(|column| column.name == name) {
            let declared = job.declared.iter().find(|field| field.name == name).map(|field| field.kind);
            wanted.push(WantedColumn { name: name.to_owned(), declared, hint });
        }
    };
    for name in &job.by {
        want(name, FieldType::String);
    }
    let filtered = job.filter.as_deref().map(sql::columns_of).transpose()?.unwrap_or_default();
    // The time column is there anyway.
    let filtered = || filtered.iter().filter(|column| column.name != job.time);
    // The uses that tell the most about a column come first.
    let numeric = aggregates.iter().filter_map(|aggregate| aggregate.column.as_deref().zip(aggregate.hint));
    let compared = filtered().filter_map(|column| Some((column.name.as_str(), column.hint?)));
    numeric.chain(compared).for_each(|(name, hint)| want(name, hint));
    aggregates.iter().filter_map(|aggregate| aggregate.column.as_deref()).for_each(|name| want(name, FieldType::F64));
    filtered().for_each(|column| want(&column.name, FieldType::String));
    Ok(wanted)
}

/// Where an expression was refused: the value for which a column that it needs numbers of is text. That value is
/// more to the point than the type.
fn not_numbers(
    job: &AggregateJob,
    aggregates: &[ParsedAggregate],
    wanted: &[WantedColumn],
    inferred: &Inferred,
) -> Option<CommandError> {
    let uses = job.filter.as_deref().and_then(|text| sql::columns_of(text).ok()).unwrap_or_default();
    let of_aggregates = aggregates.iter().map(|aggregate| (aggregate.column.as_ref(), aggregate.hint));
    let of_filter = uses.iter().map(|column| (Some(&column.name), column.hint));
    let numeric =
        of_aggregates.chain(of_filter).filter(|(_, hint)| matches!(hint, Some(FieldType::I64 | FieldType::F64)));
    let mut columns = numeric.filter_map(|(name, _)| wanted.iter().position(|column| Some(&column.name) == name));
    let spoilt = columns.find_map(|at| Some((at, inferred.not_numbers[at].clone()?)));
    spoilt.map(|(at, value)| value.into_error(&wanted[at].name).into())
}

fn open_job_store(
    job: &AggregateJob,
    asked: &Asked,
    directory: &Path,
    parts: u16,
) -> Result<(StorePlan, u16), CommandError> {
    let text = JobText::of(job, &asked.stream, &asked.inputs)?;
    let delay = asked.stream.delay_max;
    let lanes = asked.inputs.len();
    // Results appear at the end of the input, so all of it is kept until then: the log alone tells everything.
    let background = Background::default();
    let log = LogPlan { durability: job.durability, segment_size: SEGMENT_SIZE_DEFAULT, snapshots: None, background };
    Ok(open_store(directory, text, parts, log, lanes, move |_| delay)?)
}

fn open_outputs(
    job: &AggregateJob,
    asked: &Asked,
    schema: &corefold_aggregator::result::OutputSchema,
) -> Result<ViewOutputs, CommandError> {
    let target = match &job.output {
        OutputTarget::Stdout => Target::Stdout,
        OutputTarget::File(path) => Target::from_argument(path),
    };
    let shows_table = matches!(target, Target::File(_)) && !job.quiet;
    let exporter = export::open(target, assemble::output_format(job.output_format), schema)?;
    let late = match &job.late_output {
        None => None,
        Some((path, format)) => Some(LateWriter::open(
            Target::from_argument(path),
            assemble::output_format(*format),
            &asked.stream,
            LATE_MEMORY_MAX,
        )?),
    };
    let table = shows_table.then(|| Table::new(schema, TABLE_ROWS_EACH));
    Ok(ViewOutputs { stream: 0, exporters: vec![exporter], late, table })
}

fn show(
    job: &AggregateJob,
    console: &Console,
    mut summary: EngineSummary,
    rows_resumed: u64,
    display: &ProgressDisplay,
) -> Result<(), CommandError> {
    if job.quiet {
        return Ok(());
    }
    if let Some(table) = summary.views.first_mut().and_then(|view| view.table.take()) {
        let mut out = std::io::stdout().lock();
        let printed = writeln!(out, "{}\n", table.render(terminal_width()).trim_end()).and_then(|()| out.flush());
        if let Err(error) = printed
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            return Err(error.into());
        }
    }
    if let Some(rejection) = &summary.first_rejection {
        console.say(&format!("warning: rows were skipped as bad input; the first: {rejection}"));
    }
    let output = match &job.output {
        OutputTarget::Stdout => "standard output".to_owned(),
        OutputTarget::File(path) => path.display().to_string(),
    };
    let views = [ViewLine { name: "", stream: 0, output }];
    let text = summary::render(&summary.counts, &views, &summary.views, rows_resumed, display.elapsed());
    console.say(text.trim_end());
    Ok(())
}

fn interrupted(job: &AggregateJob) -> EngineError {
    EngineError::Interrupted {
        advice: if job.data_dir.is_some() {
            "what is durable stays in the data directory: run the same command again to go on"
        } else {
            "no output was written"
        },
    }
}

/// Columns of the terminal, or a width that most files are read with.
fn terminal_width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(120)
}
