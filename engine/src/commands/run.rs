//! `corefold run` and `corefold check`: an engine as a configuration file describes it.
//!
//! What the file may say is in [`crate::config`].

use super::profiling::ProfileWatch;
use super::signals::{ReloadSignal, StopSignal};
use super::{CommandError, Console, check_machine};
use crate::assemble::{self, ViewRequest};
use crate::background::Background;
use crate::cli::profile::ProfileArgs;
use crate::config::SourceConfig;
use crate::config::error::Faults;
use crate::config::{self, AtStop, ConfigError, ConfigErrors, EngineConfig, ExportConfig, ExportTarget};
use crate::error::EngineError;
use crate::export::text::time_text;
use crate::export::{self, Booking, ExportError, Exporter, PartsExporter, Rotation, Target};
use crate::export_core::ViewOutputs;
use crate::feed::lanes::{LaneSource, LaneStart};
use crate::feed::parsers::BatchPlan;
use crate::ingest::{Ingest, IngestPlan, WayPlan};
use crate::launch::{EnginePlan, launch};
use crate::launch_store::StorePlan;
use crate::lifecycle::Lifecycle;
use crate::links::Shared;
use crate::manifest::{MANIFEST_FILE, Manifest, ManifestError, SharedManifest};
use crate::net::keys::Keys;
use crate::net::log::NetLog;
use crate::net::{Listener, NetPlan, NetStream};
use crate::progress::ProgressDisplay;
use crate::source::input::{Input, resolve};
use crate::source::times;
use crate::sql::{self, StreamColumns};
use crate::store_job::{JobText, LogPlan, SnapshotsWanted, open_store};
use crate::summary::{self, ViewLine};
use crate::topology::Topology;
use corefold_aggregator::result::OutputSchema;
use corefold_aggregator::spec::{StreamSpec, ViewSpec};
use corefold_aggregator::time::{Duration, EventTime};
use corefold_shards::live_lanes::LivePlan;
use corefold_shards::shard::ShardPlan;
use crossbeam_channel::{Receiver, Sender};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Connections from within that wait for the door.
const DOOR_MAX: usize = 256;

/// Checks the file, form and meaning; returns what the user should know besides.
pub fn check(file: &Path) -> Result<Vec<ConfigError>, CommandError> {
    let config = config::load(file)?;
    Meaning::of(&config)?;
    Ok(config.notes)
}

/// Runs the engine to the end of its sources, or until it is asked to stop.
pub fn run(file: &Path, profile: &ProfileArgs, console: &Console) -> Result<(), CommandError> {
    let signal = StopSignal::listen()?;
    let mut watch = ProfileWatch::listen(profile)?;
    let config = config::load(file)?;
    let meaning = Meaning::of(&config)?;
    config.notes.iter().for_each(|text| console.say(&format!("note: {text}")));
    check_machine()?;
    let mut display = ProgressDisplay::new(console.progress);
    let coordinator = match config.coordinator_core {
        config::AutoOr::Auto => None,
        config::AutoOr::Fixed(core) => Some(core as usize),
    };
    let topology = Topology::of_this_machine(assemble::shards_wanted(config.shards), coordinator)?;
    topology.warnings.iter().for_each(|text| console.say(&format!("warning: {text}")));
    let background = Background::beside(&topology);
    let routing = assemble::routing(config.routing);

    let inputs = find_inputs(&config)?;
    let shared: Arc<Shared<EngineError>> = Arc::default();
    let bytes_total = inputs.iter().map(|(_, input)| input.bytes_total()).sum::<Option<u64>>();
    shared.progress.bytes_total.store(bytes_total.unwrap_or(0), Ordering::Relaxed);
    let parts = assemble::parts(routing, topology.shards.len());
    let (store, parts) = match &config.data_dir {
        None => (None, parts),
        Some(directory) => {
            let delays = inputs.iter().map(|(source, _)| config.streams[config.sources[*source].stream].time.max_delay);
            let delays: Vec<Duration> = delays.collect();
            let job = JobText::of_config(&config, inputs.iter().map(|(_, input)| input))?;
            let lanes = inputs.len();
            let delay_of = move |lane: u32| delays.get(lane as usize).copied().unwrap_or(Duration::ZERO);
            let snapshots = SnapshotsWanted {
                shards: topology.shards.len(),
                wal_bytes: config.snapshot.wal_bytes,
                batches: config.snapshot.batches,
                pane_retention: config.pane_retention,
            };
            let (durability, segment_size) = (config.durability, config.segment_size);
            let log = LogPlan { durability, segment_size, snapshots: Some(snapshots), background: background.clone() };
            let (store, parts) = open_store(directory, job, parts, log, lanes, delay_of)?;
            (Some(store), parts)
        }
    };
    if let Some(store) = store.as_ref().filter(|store| store.recovered.limit < store.recovered.released) {
        console.say(&format!(
            "note: {}: some of a log that was durable is gone; its events are read again, and those of windows that are \
             already given out are counted and not added to them",
            store.directory.root().display()
        ));
    }
    let (door, inside) = crossbeam_channel::bounded(DOOR_MAX);
    let mut keys = Keys::load(&config.producers).map_err(EngineError::Keys)?;
    // A drain that was cut short still owes its outputs what it gave out last; after it nobody is let in.
    let is_drained = listens(&config) && store.as_ref().is_some_and(|store| store.recovered.released == EventTime::MAX);
    let net = match is_drained {
        true => None,
        false => open_net(&config, &meaning, store.as_ref(), (topology.shards.len(), &mut keys, inside), console)?,
    };
    let reload = if keys.has_files() { Some(ReloadSignal::listen()?) } else { None };
    let mut ingest = if is_drained { None } else { open_ways(&config, &meaning, door, &shared, console)? };
    let net_counts = net.as_ref().map(|net| Arc::clone(&net.counts));
    let rows_resumed = store.as_ref().map_or(0, |store| store.recovered.rows);
    let lanes = inputs.into_iter().enumerate().map(|(lane, (plan, input))| {
        let starts = store.as_ref().map(|store| &store.recovered.lanes);
        let start: LaneStart = starts.and_then(|starts| starts.get(&(lane as u32)).cloned()).unwrap_or_default();
        LaneSource { input, plan, start }
    });
    let lanes = lanes.collect();
    let plan = EnginePlan {
        outputs: open_outputs(&config, &meaning.plan, store.as_ref(), console)?,
        keeps_unfinished: true,
        plans: batch_plans(&config, &meaning, parts),
        shards: meaning.plan,
        lanes,
        routing,
        pull_interval: config.pull_interval,
        topology,
        store,
        net,
        background,
    };
    let mut net_log = NetLog::default();
    let launched = launch(plan, &shared, &mut |shared| {
        display.show(&shared.progress);
        if let Some(counts) = &net_counts {
            net_log.turn(display.elapsed(), counts, |line| display.aside(|| console.say(line)));
        }
        watch.turn(shared, console);
        if reload.as_ref().is_some_and(ReloadSignal::take) {
            keys.reload().iter().for_each(|text| console.say(text));
        }
        for news in ingest.iter_mut().flat_map(Ingest::news) {
            display.clear();
            console.say(&format!("warning: {news}"));
        }
        // Ways in first: what has come over them is still taken in.
        let may_stop = signal.is_set() && ingest.as_mut().is_none_or(Ingest::stop);
        if may_stop && shared.lifecycle.advance(Lifecycle::Stopped).is_ok() {
            display.clear();
            console.say("stopping: what was taken is made durable, finished windows are written");
        }
    });
    display.clear();
    if let Some(counts) = &net_counts {
        net_log.turn(std::time::Duration::MAX, counts, |line| console.say(line));
    }
    watch.finish(&shared, console);
    let done = launched?;
    let views: Vec<ViewLine<'_>> = config
        .views
        .iter()
        .map(|view| ViewLine { name: &view.name, stream: view.stream, output: targets(&view.exports) })
        .collect();
    if let Some(rejection) = &done.first_rejection {
        console.say(&format!("warning: rows were skipped as bad input; the first: {rejection}"));
    }
    let text = summary::render(&done.counts, &views, &done.views, rows_resumed, display.elapsed());
    console.say(text.trim_end());
    if let Some(counts) = net_counts {
        console.say(&format!("network   {}", counts.text()));
    }
    ingest.iter().flat_map(Ingest::texts).for_each(|text| console.say(&format!("way in    {text}")));
    match config.data_dir {
        Some(directory) if is_drained => Err(EngineError::Drained { directory }.into()),
        _ => Ok(()),
    }
}

/// Whether producers may come.
fn listens(config: &EngineConfig) -> bool {
    !config.listeners.is_empty() || !config.ways.is_empty()
}

/// Binds the addresses at which producers connect, and says where: a port may have been left to the system.
fn open_net(
    config: &EngineConfig,
    meaning: &Meaning,
    store: Option<&StorePlan>,
    (shards, keys, inside): (usize, &mut Keys, Receiver<TcpStream>),
    console: &Console,
) -> Result<Option<NetPlan>, EngineError> {
    if !listens(config) {
        return Ok(None);
    }
    let mut listeners = Vec::with_capacity(config.listeners.len());
    for listen in &config.listeners {
        let listener = Listener::bind(listen, shards, keys)?;
        let address = listener.socket.local_addr().unwrap_or(listen.address);
        let names: Vec<&str> = listen.streams.iter().map(|&stream| config.streams[stream].name.as_str()).collect();
        let with_tls = if listener.certificates.is_some() { " with TLS" } else { "" };
        console.say(&format!("listening on {address}{with_tls} for {}", names.join(", ")));
        listeners.push(listener);
    }
    let streams = config.streams.iter().zip(&meaning.streams).map(|(stream, spec)| NetStream {
        fingerprint: spec.fingerprint(),
        fields: spec.fields.clone(),
        live: LivePlan {
            delay_max: stream.time.max_delay,
            future_max: stream.time.max_future,
            idle_max_ns: u64::try_from(stream.time.idle_timeout.as_nanos()).unwrap_or(u64::MAX),
        },
    });
    Ok(Some(NetPlan {
        listeners,
        inside: (!config.ways.is_empty()).then_some(inside),
        access: keys.access(),
        streams: Arc::new(streams.collect()),
        has_files: !config.sources.is_empty(),
        drains: config.stop == AtStop::Drain,
        lanes: store.map(|store| store.recovered.network.clone()).unwrap_or_default(),
        counts: Arc::default(),
    }))
}

/// Binds the addresses of all ways in and starts them; they wait until the engine's door is open.
fn open_ways(
    config: &EngineConfig,
    meaning: &Meaning,
    door: Sender<TcpStream>,
    shared: &Arc<Shared<EngineError>>,
    console: &Console,
) -> Result<Option<Ingest>, EngineError> {
    if config.ways.is_empty() {
        return Ok(None);
    }
    let ways = config.ways.iter().map(|way| WayPlan {
        way: way.clone(),
        stream: config.streams[way.stream].clone(),
        fingerprint: meaning.streams[way.stream].fingerprint(),
    });
    let (ways, batch_rows, shared) = (ways.collect(), config.batch_rows, Arc::clone(shared));
    Ingest::start(IngestPlan { ways, batch_rows, door, shared }, &mut |text| console.say(text)).map(Some)
}

/// The expressions of a config, understood.
struct Meaning {
    streams: Vec<StreamSpec>,
    plan: ShardPlan,
}

impl Meaning {
    fn of(config: &EngineConfig) -> Result<Meaning, ConfigErrors> {
        let streams: Vec<StreamSpec> = config
            .streams
            .iter()
            .map(|stream| StreamSpec {
                name: stream.name.clone(),
                time: stream.time.column.clone(),
                delay_max: stream.time.max_delay,
                fields: stream.fields.clone(),
            })
            .collect();
        let mut errors = Faults::default();
        let mut requests = Vec::new();
        for view in &config.views {
            let stream = &streams[view.stream];
            let columns = StreamColumns { time: &stream.time, fields: &stream.fields };
            let mut aggregates = Vec::new();
            for text in &view.aggregates {
                let parsed = sql::parse_aggregates(std::slice::from_ref(&text.value));
                match parsed.and_then(|parsed| sql::resolve(&parsed, &columns)) {
                    Ok(specs) => aggregates.extend(specs),
                    Err(error) => errors.add(ConfigError::about(&config.file, text, error)),
                }
            }
            let parse_time = |text: &str| times::parse(text.as_bytes(), None).ok();
            let filter = match &view.filter {
                None => None,
                Some(text) => match sql::plan_filter(&text.value, &columns, parse_time) {
                    Ok(filter) => Some(filter),
                    Err(error) => {
                        errors.add(ConfigError::about(&config.file, text, error));
                        None
                    }
                },
            };
            let spec = ViewSpec {
                name: view.name.clone(),
                by: view.by.clone(),
                window: view.window,
                aggregates,
                groups_max: view.groups_max,
                overflow: view.overflow,
            };
            let group_ttl = view.group_ttl.unwrap_or(Duration::MAX);
            requests.push(ViewRequest { stream: view.stream, spec, filter, group_ttl });
        }
        if errors.count() > 0 {
            return errors.finish(None);
        }
        // What is left to go wrong concerns a view as a whole: names that clash across its expressions.
        for (view, request) in config.views.iter().zip(&requests) {
            if let Err(error) = assemble::shard_plan(&streams, vec![request.clone()], false) {
                let at = view.aggregates.first();
                errors.add(match at {
                    Some(text) => ConfigError::about(&config.file, text, error),
                    None => continue,
                });
            }
        }
        match assemble::shard_plan(&streams, requests, false) {
            Ok(plan) => errors.finish(Some(Meaning { streams, plan })),
            Err(_) => errors.finish(None),
        }
    }
}

/// All inputs of all sources, with the index of their source.
fn find_inputs(config: &EngineConfig) -> Result<Vec<(usize, Input)>, CommandError> {
    let mut inputs = Vec::new();
    for (index, source) in config.sources.iter().enumerate() {
        let arguments: Vec<String> = source.inputs.iter().map(|input| input.value.to_string()).collect();
        let found = resolve(&arguments, source.read.format.map(assemble::input_format))?;
        inputs.extend(found.into_iter().map(|input| (index, input)));
    }
    Ok(inputs)
}

/// One plan per source: sources of one stream may be read differently.
fn batch_plans(config: &EngineConfig, meaning: &Meaning, parts: u16) -> Vec<BatchPlan> {
    let plan = |source: &SourceConfig| {
        let stream = &config.streams[source.stream];
        let read = assemble::read_plan(
            &stream.time.column,
            stream.time.unit,
            stream.fields.clone(),
            &source.read,
            config.batch_rows,
        );
        // Routing by hash follows the first view; the others are as correct, and cost as much as any routing.
        let by = config.views.iter().find(|view| view.stream == source.stream).map_or(&[][..], |view| &view.by);
        assemble::batch_plan(&meaning.streams[source.stream], read, by, parts)
    };
    config.sources.iter().map(plan).collect()
}

/// Opens all outputs. With a data directory its manifest says where they go on; without one they begin anew.
fn open_outputs(
    config: &EngineConfig,
    plan: &ShardPlan,
    store: Option<&StorePlan>,
    console: &Console,
) -> Result<Vec<ViewOutputs>, CommandError> {
    let manifest = match store {
        None => None,
        Some(store) => Some(open_manifest(store, console)?),
    };
    if let (Some(store), Some(manifest)) = (store, &manifest) {
        check_reach(config, plan, store, manifest)?;
    }
    let mut outputs = Vec::new();
    for (view, shard_view) in config.views.iter().zip(&plan.views) {
        let booking = manifest.clone().map(|manifest| Booking { manifest, view: view.name.clone() });
        let schema = &shard_view.plan.schema;
        let opened = view.exports.iter().map(|export| open_export(export, schema, booking.as_ref()));
        let exporters = opened.collect::<Result<Vec<_>, CommandError>>()?;
        outputs.push(ViewOutputs { stream: view.stream, exporters, ..ViewOutputs::default() });
    }
    Ok(outputs)
}

/// That every window which is not committed in an output will be given out; before anything of the outputs is touched.
/// An export that has nothing committed is new, and gets what there still is.
fn check_reach(
    config: &EngineConfig,
    plan: &ShardPlan,
    store: &StorePlan,
    manifest: &SharedManifest,
) -> Result<(), CommandError> {
    let Some((_, pulled)) = store.recovered.panes.as_ref().and_then(|panes| panes.history.last()) else {
        return Ok(());
    };
    for ((view, shard_view), pulled) in config.views.iter().zip(&plan.views).zip(&pulled.views) {
        let given = pulled.given_through(&shard_view.plan.spec.window);
        for export in &view.exports {
            let (path, is_directory) = match &export.target {
                ExportTarget::File(path) => (path, false),
                ExportTarget::Directory { path, .. } => (path, true),
            };
            let committed = export::committed(manifest, path, is_directory)?.map(EventTime);
            if let Some(committed) = committed.filter(|committed| *committed < given) {
                let (output, view) = (path.clone(), view.name.clone());
                let (committed, given) = (time_text(committed), time_text(given));
                let manifest = store.directory.root().join(MANIFEST_FILE);
                return Err(EngineError::WindowsLost { output, manifest, view, committed, given }.into());
            }
        }
    }
    Ok(())
}

fn open_manifest(store: &StorePlan, console: &Console) -> Result<SharedManifest, ExportError> {
    let has_history = store.recovered.panes.as_ref().is_some_and(|panes| panes.history.last().is_some());
    let store = &store.directory;
    let path = store.root().join(MANIFEST_FILE);
    if has_history && !path.exists() {
        // It was made before the first pane was merged.
        return Err(ManifestError::Missing { path }.into());
    }
    let manifest = Manifest::open(store.root(), &store.uuid_text())?;
    if let Some(bytes) = manifest.cut() {
        let path = manifest.path().display();
        console.say(&format!("note: {path}: {bytes} bytes of a line that a crash has torn were cut off its end"));
    }
    Ok(Arc::new(Mutex::new(manifest)))
}

fn open_export(
    export: &ExportConfig,
    schema: &OutputSchema,
    booking: Option<&Booking>,
) -> Result<Box<dyn Exporter>, CommandError> {
    let format = assemble::output_format(export.format);
    Ok(match (&export.target, booking) {
        (ExportTarget::File(path), None) => export::open(Target::from_argument(path), format, schema)?,
        (ExportTarget::File(path), Some(booking)) => PartsExporter::open_file_booked(path, format, schema, booking)?,
        (ExportTarget::Directory { path, rotate }, booking) => {
            let rotation = Rotation { every: rotate.every, bytes: rotate.bytes };
            Box::new(match booking {
                // Windows come again at the next run and are written to the same parts again, byte for byte.
                None => PartsExporter::open(path, format, schema, rotation)?,
                Some(booking) => PartsExporter::open_booked(path, format, schema, rotation, booking)?,
            })
        }
    })
}

fn targets(exports: &[ExportConfig]) -> String {
    let names = exports.iter().map(|export| match &export.target {
        ExportTarget::File(path) | ExportTarget::Directory { path, .. } => path.display().to_string(),
    });
    let names: Vec<String> = names.collect();
    if names.is_empty() { "nowhere".to_owned() } else { names.join(", ") }
}
