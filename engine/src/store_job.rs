//! Which job a data directory belongs to: its query and its inputs, as a text that a later run is held against.
//!
//! What lies in the directory besides is [`crate::disk`]'s and [`crate::recover`]'s.

use crate::background::Background;
use crate::cli::job::AggregateJob;
use crate::config::{Durability, EngineConfig, ViewConfig};
use crate::disk::{SegmentKeeper, SnapshotKeeper, Store};
use crate::launch_store::{SnapshotPlan, StorePlan};
use crate::recover::{RecoverError, recover};
use crate::source::error::SourceError;
use crate::source::input::Input;
use crate::units;
use corefold_aggregator::spec::StreamSpec;
use corefold_aggregator::time::Duration;
use corefold_shards::wal::{self, AppenderConfig, LogIdentity};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Key of the number of parts: fixed by the first run, taken over by later ones.
const PARTS: &str = "parts";

/// A job as a list of named facts.
#[derive(Clone, PartialEq, Debug)]
pub struct JobText(Map<String, Value>);

impl JobText {
    /// The facts of an `aggregate` command that decide its result or how its inputs are cut into batches. Shards,
    /// routing and outputs are not among them.
    pub fn of(job: &AggregateJob, stream: &StreamSpec, inputs: &[Input]) -> Result<JobText, SourceError> {
        let fields: Vec<String> =
            stream.fields.iter().map(|field| format!("{}:{}", field.name, field.kind.name())).collect();
        let micros = |micros: i64| Duration::from_micros(micros).map(units::format_duration);
        let mut facts = Map::new();
        facts.insert("command".into(), json!("aggregate"));
        facts.insert("--time".into(), json!(job.time));
        facts.insert("--time-unit".into(), json!(job.time_unit.map(|unit| format!("{unit:?}"))));
        facts.insert("columns".into(), json!(fields));
        facts.insert("--by".into(), json!(job.by));
        facts.insert("--window".into(), json!(micros(job.window.size())));
        facts.insert("--slide".into(), json!(micros(job.window.slide())));
        facts.insert("--offset".into(), json!(micros(job.window.offset())));
        facts.insert("--agg".into(), json!(job.aggregates));
        facts.insert("--where".into(), json!(job.filter));
        facts.insert("--max-delay".into(), json!(units::format_duration(job.max_delay)));
        facts.insert("--max-groups".into(), json!(job.groups_max));
        facts.insert("--overflow".into(), json!(format!("{:?}", job.overflow)));
        facts.insert("--null".into(), json!(job.read.nulls));
        facts.insert("--on-error".into(), json!(format!("{:?}", job.read.on_error)));
        facts.insert("--delimiter".into(), json!(job.read.delimiter.map(char::from)));
        facts.insert("--batch-rows".into(), json!(job.batch_rows));
        let inputs = inputs.iter().map(input_facts).collect::<Result<Vec<Value>, SourceError>>()?;
        facts.insert("inputs".into(), json!(inputs));
        Ok(JobText(facts))
    }

    /// The facts of a `run` command that decide its results or how its inputs are cut into batches.
    pub fn of_config<'a>(
        config: &EngineConfig,
        inputs: impl Iterator<Item = &'a Input>,
    ) -> Result<JobText, SourceError> {
        let mut facts = Map::new();
        facts.insert("command".into(), json!("run"));
        facts.insert("streams".into(), json!(config.streams.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>()));
        // Where results go is free to change, and so is where things stand in the file.
        let views = config.views.iter().map(|view| {
            let aggregates: Vec<&str> = view.aggregates.iter().map(|text| text.value.as_str()).collect();
            let filter = view.filter.as_ref().map(|text| text.value.as_str());
            let ViewConfig { name, stream, by, window, groups_max, overflow, .. } = view;
            format!("{name} {stream} {by:?} {window:?} {aggregates:?} {filter:?} {groups_max} {overflow:?}")
        });
        facts.insert("views".into(), json!(views.collect::<Vec<_>>()));
        let read = config.sources.iter().map(|source| format!("{:?}", source.read));
        facts.insert("sources".into(), json!(read.collect::<Vec<_>>()));
        facts.insert("batch_rows".into(), json!(config.batch_rows));
        let inputs = inputs.map(input_facts).collect::<Result<Vec<Value>, SourceError>>()?;
        facts.insert("inputs".into(), json!(inputs));
        Ok(JobText(facts))
    }

    fn parse(text: &str) -> Option<JobText> {
        match serde_json::from_str(text) {
            Ok(Value::Object(facts)) => Some(JobText(facts)),
            _ => None,
        }
    }

    /// The first fact in which another job differs, in words; parts aside.
    fn difference(&self, other: &JobText) -> Option<String> {
        let keys = self.0.keys().chain(other.0.keys()).filter(|key| *key != PARTS);
        for key in keys {
            let (theirs, ours) = (self.0.get(key), other.0.get(key));
            if theirs == ours {
                continue;
            }
            let (Some(Value::Array(theirs)), Some(Value::Array(ours))) = (theirs, ours) else {
                return Some(format!("{key} was {} and is now {}", show(theirs), show(ours)));
            };
            let length = theirs.len().max(ours.len());
            let at = (0..length).find(|&at| theirs.get(at) != ours.get(at)).unwrap_or(0);
            return Some(format!(
                "{key}: number {} was {} and is now {}",
                at + 1,
                show(theirs.get(at)),
                show(ours.get(at))
            ));
        }
        None
    }
}

fn show(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "not given".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(value) => value.to_string(),
    }
}

/// Name, size and time of last change of an input: enough to see that it is not the file that was read before.
fn input_facts(input: &Input) -> Result<Value, SourceError> {
    let Some(path) = input.path.as_ref().filter(|_| !input.is_pipe()) else {
        return Ok(json!({ "name": input.name }));
    };
    let metadata = std::fs::metadata(path).map_err(|source| SourceError::Io {
        path: input.name.clone(),
        operation: "look at",
        source,
    })?;
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(json!({
        "name": input.name,
        "bytes": metadata.len(),
        "changed_ns": changed.map(|time| time.as_nanos().to_string()),
    }))
}

/// How the logs of a job are kept.
#[derive(Clone, Debug)]
pub struct LogPlan {
    /// What durable means.
    pub durability: Durability,
    /// Size of a segment in the long run.
    pub segment_size: u64,
    /// When snapshots are taken; `None` for a job that keeps its whole log and no pane log.
    pub snapshots: Option<SnapshotsWanted>,
    /// Where the threads run that write segments and snapshots.
    pub background: Background,
}

/// When snapshots are taken, and how long merged panes are kept.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotsWanted {
    /// Shards that are to work.
    pub shards: usize,
    /// Bytes of the log after which one is due.
    pub wal_bytes: u64,
    /// Batches after which one is due.
    pub batches: u64,
    /// How long merged panes stay although no window needs them.
    pub pane_retention: Duration,
}

/// Opens the data directory of a job, or makes it, and reads what it holds. Returns it with the number of parts that
/// batches are cut into: `parts` for a new directory, what it began with for an old one.
pub fn open_store(
    path: &Path,
    job: JobText,
    parts: u16,
    log: LogPlan,
    lanes: usize,
    delay_of: impl Fn(u32) -> Duration,
) -> Result<(StorePlan, u16), RecoverError> {
    let LogPlan { durability, segment_size, snapshots, background } = log;
    let mut facts = job;
    facts.0.insert(PARTS.into(), json!(parts));
    let text = Value::Object(facts.0.clone()).to_string();
    let mut directory = Store::open(path)?;
    let known = match directory.meta() {
        Some(known) => JobText::parse(known),
        None => {
            directory.set_meta(&text)?;
            Some(facts.clone())
        }
    };
    let known = known.ok_or_else(|| RecoverError::ForeignStore { path: path.display().to_string() })?;
    if let Some(difference) = known.difference(&facts) {
        return Err(RecoverError::OtherJob { path: path.display().to_string(), difference });
    }
    let parts = known.0.get(PARTS).and_then(Value::as_u64).map_or(parts, |parts| parts as u16);
    let recovered =
        recover(&directory, snapshots.map_or(0, |snapshots| snapshots.shards), lanes, delay_of, snapshots.is_some())?;
    let directory = Arc::new(directory);
    let uuid = directory.uuid();
    let durability = match durability {
        Durability::Os => wal::Durability::Os,
        Durability::Sync | Durability::None => wal::Durability::Sync,
    };
    let log = Arc::new(move |shard| {
        let mut config = AppenderConfig::new(LogIdentity { store: uuid, shard }, durability);
        config.supply.segment_size = segment_size;
        config.supply.segment_size_first = config.supply.segment_size_first.min(segment_size);
        config
    });
    let keeper = Arc::new(SegmentKeeper::new(background.clone()));
    let plan_of = |SnapshotsWanted { wal_bytes, batches, pane_retention, .. }| {
        let keeper = Arc::new(SnapshotKeeper::new(background));
        SnapshotPlan { keeper, wal_bytes, batches, pane_retention }
    };
    let snapshots = snapshots.map(plan_of);
    Ok((StorePlan { directory, keeper, recovered, log, snapshots }, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of which some parts are durable is completed by the same parts, also under another routing.
    #[test]
    fn a_directory_keeps_its_number_of_parts() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("store");
        let open = |parts| {
            let background = Background::default();
            let log = LogPlan { durability: Durability::Os, segment_size: 64 << 20, snapshots: None, background };
            open_store(&path, JobText(Map::new()), parts, log, 1, |_| Duration::ZERO).expect("opens").1
        };
        assert_eq!(open(4), 4);
        assert_eq!(open(1), 4);
        assert_eq!(open(8), 4);
    }
}
