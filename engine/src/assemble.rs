//! From what was asked for to what is launched: the choices of command line and config in the engine's own types,
//! views and streams as shards and coordinator take them.
//!
//! Nothing is opened here.

use crate::config::{self, AutoOr};
use crate::export;
use crate::feed::Routing;
use crate::feed::parsers::BatchPlan;
use crate::source::input::Format;
use crate::source::plan::{OnError, ReadPlan};
use crate::source::times::TimeUnit;
use crate::topology::ShardsWanted;
use corefold_aggregator::spec::{Field, SpecError, StreamSpec, ViewSpec};
use corefold_aggregator::time::Duration;
use corefold_aggregator::view::ViewPlan;
use corefold_shards::fold::filter::Filter;
use corefold_shards::fold::view_fold::ShardView;
use corefold_shards::shard::{ShardPlan, ShardStream};
use std::sync::Arc;

/// A view over one of the streams.
#[derive(Clone, Debug)]
pub struct ViewRequest {
    /// Index of the stream.
    pub stream: usize,
    /// What is computed.
    pub spec: ViewSpec,
    /// Which events take part.
    pub filter: Option<Filter>,
    /// How long a group's slot is kept after its last pane.
    pub group_ttl: Duration,
}

/// What every shard computes.
pub fn shard_plan(streams: &[StreamSpec], views: Vec<ViewRequest>, late_wanted: bool) -> Result<ShardPlan, SpecError> {
    let mut shard_streams: Vec<ShardStream> = streams
        .iter()
        .map(|stream| ShardStream {
            fingerprint: stream.fingerprint(),
            fields: stream.fields.clone(),
            views: Vec::new(),
        })
        .collect();
    let mut shard_views = Vec::with_capacity(views.len());
    for (index, view) in views.into_iter().enumerate() {
        let stream = &streams[view.stream];
        shard_streams[view.stream].views.push(index);
        shard_views.push(ShardView {
            plan: ViewPlan::new(stream, view.spec)?,
            filter: view.filter,
            delay_max: stream.delay_max,
            group_ttl: view.group_ttl,
        });
    }
    Ok(ShardPlan { streams: shard_streams, views: shard_views, late_wanted })
}

/// Parts that batches are cut into by a job that begins now. A data directory keeps the number: a batch of which
/// some parts are durable can only be completed by the same parts, whatever the routing is by then.
pub fn parts(routing: Routing, shards: usize) -> u16 {
    if routing == Routing::Hash { shards as u16 } else { 1 }
}

/// How batches of a stream are made; `by` are the group columns by which they are cut into `parts` parts.
pub fn batch_plan(stream: &StreamSpec, read: ReadPlan, by: &[usize], parts: u16) -> BatchPlan {
    let parts = if by.is_empty() { 1 } else { parts };
    BatchPlan {
        read: Arc::new(read),
        fingerprint: stream.fingerprint(),
        delay_max: stream.delay_max,
        by: by.to_vec(),
        parts,
    }
}

/// What is read of a stream's inputs.
pub fn read_plan(
    time: &str,
    unit: Option<config::TimeUnit>,
    fields: Vec<Field>,
    options: &config::ReadOptions,
    batch_rows: u32,
) -> ReadPlan {
    ReadPlan {
        time_unit: unit.map(|unit| match unit {
            config::TimeUnit::Seconds => TimeUnit::Second,
            config::TimeUnit::Millis => TimeUnit::Milli,
            config::TimeUnit::Micros => TimeUnit::Micro,
            config::TimeUnit::Nanos => TimeUnit::Nano,
        }),
        fields,
        nulls: options.nulls.clone(),
        on_error: match options.on_error {
            config::OnError::Fail => OnError::Fail,
            config::OnError::Skip => OnError::Skip,
        },
        delimiter: options.delimiter,
        batch_rows: batch_rows as usize,
        ..ReadPlan::new(time)
    }
}

/// The reader's word for an input format.
pub fn input_format(format: config::InputFormat) -> Format {
    match format {
        config::InputFormat::Csv => Format::Csv,
        config::InputFormat::Ndjson => Format::Ndjson,
        config::InputFormat::Parquet => Format::Parquet,
        config::InputFormat::Arrow => Format::Arrow,
    }
}

/// The exporter's word for an output format.
pub fn output_format(format: config::OutputFormat) -> export::Format {
    match format {
        config::OutputFormat::Csv => export::Format::Csv,
        config::OutputFormat::Ndjson => export::Format::Ndjson,
        config::OutputFormat::Parquet => export::Format::Parquet,
        config::OutputFormat::Arrow => export::Format::Arrow,
    }
}

/// The dealer's word for a routing.
pub fn routing(routing: config::Routing) -> Routing {
    match routing {
        config::Routing::Load => Routing::Load,
        config::Routing::RoundRobin => Routing::RoundRobin,
        config::Routing::Hash => Routing::Hash,
    }
}

/// The topology's word for a number of shards.
pub fn shards_wanted(shards: AutoOr) -> ShardsWanted {
    match shards {
        AutoOr::Auto => ShardsWanted::Auto,
        AutoOr::Fixed(count) => ShardsWanted::Count(count as usize),
    }
}
