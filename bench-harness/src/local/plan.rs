//! What the engine plans for a job, from the very texts of its command line. Nothing is run here.

use super::broken;
use crate::agree::RunError;
use crate::workload::Job;
use crate::workload::arguments::{Shape, aggregate_arguments};
use clap::Parser;
use corefold_aggregator::result::OutputSchema;
use corefold_aggregator::spec::{StreamSpec, ViewSpec};
use corefold_aggregator::time::Duration;
use corefold_engine::assemble::{ViewRequest, batch_plan, read_plan, shard_plan};
use corefold_engine::cli::job::AggregateJob;
use corefold_engine::cli::{Cli, Command};
use corefold_engine::feed::parsers::BatchPlan;
use corefold_engine::source::times;
use corefold_engine::sql::{self, StreamColumns};
use corefold_shards::shard::ShardPlan;
use std::path::PathBuf;

/// Name of the one stream and view, as in the command.
const NAME: &str = "aggregate";

/// What shards, feed and coordinator work by.
#[derive(Clone, Debug)]
pub struct LocalPlan {
    /// What every shard computes.
    pub shards: ShardPlan,
    /// How batches are made.
    pub batches: BatchPlan,
    /// Disorder that the stream allows.
    pub delay_max: Duration,
}

impl LocalPlan {
    /// Plans `job` as the command would. `parts` is the number of parts of a batch, `group_ttl` how long a group keeps
    /// its slot.
    pub fn new(job: &Job, shape: &Shape, parts: u16, group_ttl: Duration) -> Result<LocalPlan, RunError> {
        let files: Vec<PathBuf> = (0..job.lanes.len()).map(|lane| format!("lane-{lane}").into()).collect();
        LocalPlan::of_arguments(aggregate_arguments(job, &files, shape), parts, group_ttl)
    }

    /// Plans what these words of a command line ask for.
    pub fn of_arguments(
        arguments: impl IntoIterator<Item = String>,
        parts: u16,
        group_ttl: Duration,
    ) -> Result<LocalPlan, RunError> {
        let line = std::iter::once(NAME.to_owned()).chain(arguments);
        let cli = Cli::try_parse_from(line).map_err(broken("command line"))?;
        let Command::Aggregate(arguments) = cli.command else {
            return Err(RunError::Broken("the command line is not an aggregate command".to_owned()));
        };
        let asked = AggregateJob::try_from(*arguments).map_err(broken("command line"))?;
        let stream = StreamSpec {
            name: NAME.to_owned(),
            time: asked.time.clone(),
            delay_max: asked.max_delay,
            fields: asked.declared.clone(),
        };
        let columns = StreamColumns { time: &asked.time, fields: &stream.fields };
        let parsed = sql::parse_aggregates(&asked.aggregates).map_err(broken("--agg"))?;
        let aggregates = sql::resolve(&parsed, &columns).map_err(broken("--agg"))?;
        let parse_time = |text: &str| times::parse(text.as_bytes(), None).ok();
        let filter = asked.filter.as_deref().map(|text| sql::plan_filter(text, &columns, parse_time)).transpose();
        let spec = ViewSpec {
            name: NAME.to_owned(),
            by: asked.by.iter().filter_map(|name| stream.field_index(name)).collect(),
            window: asked.window,
            aggregates,
            groups_max: asked.groups_max,
            overflow: asked.overflow,
        };
        let read = read_plan(&asked.time, asked.time_unit, stream.fields.clone(), &asked.read, asked.batch_rows);
        let batches = batch_plan(&stream, read, &spec.by, parts);
        let view = ViewRequest { stream: 0, spec, filter: filter.map_err(broken("--where"))?, group_ttl };
        let shards = shard_plan(std::slice::from_ref(&stream), vec![view], true).map_err(broken("view"))?;
        Ok(LocalPlan { shards, batches, delay_max: stream.delay_max })
    }

    /// Output columns.
    pub fn schema(&self) -> &OutputSchema {
        &self.shards.views[0].plan.schema
    }
}
