//! `corefold send`: files or standard input to a running engine, with the readers of `aggregate`.
//!
//! How batches travel is `corefold_client`'s. Here inputs become batches, and each input a producer that can be
//! interrupted and run again.

use super::identity::Identity;
use super::signals::StopSignal;
use super::{CommandError, Console};
use crate::assemble;
use crate::cli::UsageError;
use crate::cli::send::SendArgs;
use crate::config::{self, ReadOptions};
use crate::error::EngineError;
use crate::guard::catch;
use crate::links::Progress;
use crate::progress::{ProgressDisplay, thousands};
use crate::source::error::SourceError;
use crate::source::input::{Input, resolve};
use crate::source::parser::Parser;
use crate::source::plan::ReadPlan;
use crate::source::{LaneReader, open};
use crate::units;
use corefold_aggregator::spec::{Field, FieldType, StreamSpec};
use corefold_aggregator::time::Duration;
use corefold_client::{ClientConfig, Metrics, Producer, SendError};
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::{Encoder, Stamp};
use std::fmt::Write;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// Sends every input to its end and waits until all of it is durable.
pub fn send(args: &SendArgs) -> Result<(), CommandError> {
    let signal = StopSignal::listen()?;
    let console = Console::from(&args.report);
    let (stream, plan) = stream_of(args)?;
    let plan = Arc::new(plan);
    let inputs = resolve(&args.inputs, args.format.map(assemble::input_format))?;
    let identity = Identity::of(&args.security)?;
    if identity.is_exposed() && !is_loopback(&args.to) {
        console.say(&format!("warning: the token travels unencrypted to {}; use --tls-ca", args.to));
    }
    let progress = Progress::default();
    let bytes_total = inputs.iter().map(Input::bytes_total).sum::<Option<u64>>();
    progress.bytes_total.store(bytes_total.unwrap_or(0), Ordering::Relaxed);
    let mut display = ProgressDisplay::new(console.progress);
    let mut total = Total::default();
    // All say hello before the first one sends, so that none is late because of another.
    let mut lanes = Vec::with_capacity(inputs.len());
    for (number, input) in inputs.iter().enumerate() {
        let producer = Producer::connect(client_config(args, &stream, &identity, input, number)?)?;
        if producer.has_ended() && !input.is_pipe() {
            console.say(&format!("{}: the server has all of it already", input.name));
            progress.bytes.fetch_add(input.bytes_total().unwrap_or(0), Ordering::Relaxed);
            total.inputs_known += 1;
            producer.close()?;
            continue;
        }
        let mut producer = producer;
        if input.is_pipe() {
            // What came through it before does not come again.
            producer.go_on()?;
        }
        lanes.push(Lane::open(input, &plan, producer)?);
    }
    let mut maker = Maker::new(&plan, stream.fingerprint());
    while let Some(at) = (0..lanes.len()).min_by_key(|&at| (lanes[at].highest, at)) {
        if signal.is_set() {
            display.clear();
            let advice = "run the same command again: it goes on where the server is";
            return Err(EngineError::Interrupted { advice }.into());
        }
        if !lanes[at].send_next(&plan, &mut maker, &progress)? {
            total.add(lanes.swap_remove(at).finish(args, &mut maker)?);
        }
        display.show(&progress);
    }
    display.clear();
    if let Some(rejection) = maker.parser.take_first_rejection() {
        console.say(&format!("warning: rows were skipped as bad input; the first: {rejection}"));
    }
    console.say(total.text(args, maker.rejected, display.elapsed()).trim_end());
    Ok(())
}

/// What is sent, and how inputs are read.
fn stream_of(args: &SendArgs) -> Result<(StreamSpec, ReadPlan), CommandError> {
    let usage = |text: String| CommandError::Usage(UsageError(text));
    let (name, time, unit, fields) = match (&args.config, &args.time) {
        (Some(path), _) => {
            let config = config::load(path)?;
            let named = args.stream.as_ref();
            let stream = match named {
                None if config.streams.len() > 1 => {
                    return Err(usage(format!("{} has several streams; say which with --stream", path.display())));
                }
                None => config.streams.first(),
                Some(name) => config.streams.iter().find(|stream| stream.name == *name),
            };
            let Some(stream) = stream else {
                let name = named.map_or("", String::as_str);
                return Err(usage(format!("{} has no stream `{name}`", path.display())));
            };
            (stream.name.clone(), stream.time.column.clone(), stream.time.unit, stream.fields.clone())
        }
        (None, Some(time)) => {
            let name = args.stream.clone().ok_or_else(|| usage("--stream is needed without --config".to_owned()))?;
            let field = |(name, kind): &(String, _)| Field { name: name.clone(), kind: FieldType::from(*kind) };
            (name, time.clone(), args.time_unit, args.fields.iter().map(field).collect())
        }
        (None, None) => return Err(usage("--time is needed without --config".to_owned())),
    };
    let options = ReadOptions {
        format: args.format,
        nulls: args.nulls.clone(),
        on_error: args.on_error,
        delimiter: args.delimiter,
    };
    let plan = assemble::read_plan(&time, unit, fields.clone(), &options, args.batch_rows);
    Ok((StreamSpec { name, time, delay_max: Duration::ZERO, fields }, plan))
}

fn client_config(
    args: &SendArgs,
    stream: &StreamSpec,
    identity: &Identity,
    input: &Input,
    number: usize,
) -> Result<ClientConfig, CommandError> {
    let name = match &args.producer {
        Some(name) if (1..=256).contains(&name.len()) => name.clone(),
        Some(_) => {
            return Err(CommandError::Usage(UsageError("a producer's name has 1 to 256 bytes".to_owned())));
        }
        None => name_of(args, input)?,
    };
    let mut config = ClientConfig::new(&args.to, &name, stream.fingerprint());
    config.lane.lane = number as u32;
    identity.put_in(&mut config);
    config.give_up_after = Some(units::wait(args.give_up_after));
    config.batch_life = args.deadline.map(units::wait);
    Ok(config)
}

/// Whether what is sent there stays on this machine.
fn is_loopback(server: &str) -> bool {
    server.to_socket_addrs().is_ok_and(|mut found| found.all(|address| address.ip().is_loopback()))
}

/// A name for what is in a file as it is read now: sent again it is known, and changed it is another one. What comes
/// through a pipe is new each time.
fn name_of(args: &SendArgs, input: &Input) -> Result<String, SourceError> {
    let SendArgs { nulls, delimiter, on_error, batch_rows, time_unit, .. } = args;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let read = format!("{nulls:?} {delimiter:?} {on_error:?} {batch_rows} {time_unit:?}");
    let is_file = input.path.as_ref().filter(|_| !input.is_pipe());
    let facts = match is_file {
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
            format!("{} {now}", std::process::id())
        }
        Some(path) => {
            let failed = |operation| {
                let path = input.name.clone();
                move |source| SourceError::Io { path, operation, source }
            };
            let metadata = std::fs::metadata(path).map_err(failed("look at"))?;
            let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let whole = std::fs::canonicalize(path).map_err(failed("find"))?;
            format!("{} {} {changed:?}", whole.display(), metadata.len())
        }
    };
    let text = format!("{} {read} {facts}", host.trim());
    let hash = xxhash_rust::xxh3::xxh3_128(text.as_bytes());
    let short = &input.name[input.name.ceil_char_boundary(input.name.len().saturating_sub(200))..];
    Ok(format!("{short}#{hash:032x}"))
}

/// From chunks to batches; keeps its memory.
struct Maker {
    parser: Parser,
    columns: ColumnSet,
    encoder: Encoder,
    fingerprint: u64,
    rejected: u64,
}

impl Maker {
    fn new(plan: &Arc<ReadPlan>, fingerprint: u64) -> Maker {
        let parser = Parser::new(Arc::clone(plan));
        let columns = ColumnSet::new(&parser.kinds());
        Maker { parser, columns, encoder: Encoder::new(), fingerprint, rejected: 0 }
    }
}

/// An input on its way.
struct Lane {
    name: String,
    reader: Box<dyn LaneReader>,
    producer: Producer,
    spare: Vec<u8>,
    bytes: u64,
    /// The highest time that was sent: the lane that is behind goes first.
    highest: i64,
}

impl Lane {
    fn open(input: &Input, plan: &Arc<ReadPlan>, producer: Producer) -> Result<Lane, SourceError> {
        let name = input.name.clone();
        let reader = guarded(&name, || open(input, plan, 0))?;
        Ok(Lane { name, reader, producer, spare: Vec::new(), bytes: 0, highest: i64::MIN })
    }

    /// Sends the next chunk; false at the end.
    fn send_next(
        &mut self,
        plan: &Arc<ReadPlan>,
        maker: &mut Maker,
        progress: &Progress,
    ) -> Result<bool, CommandError> {
        let spare = std::mem::take(&mut self.spare);
        let chunk = guarded(&self.name, || self.reader.next(spare))?;
        let bytes = self.reader.bytes_read();
        progress.bytes.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
        let Some(chunk) = chunk else { return Ok(false) };
        if self.producer.next_sequence() < self.producer.known() {
            // The server has it; how many rows it has need not be known.
            self.producer.pass();
            self.spare = chunk.into_spare();
            return Ok(true);
        }
        let parsed = catch(|| maker.parser.parse(&chunk, &mut maker.columns));
        let damaged = |what| Err(SourceError::Damaged { path: self.name.clone(), what });
        if let Err(error) = parsed.unwrap_or_else(damaged) {
            // A panic of a library may have left anything in there.
            maker.parser = Parser::new(Arc::clone(plan));
            return Err(error.into());
        }
        self.spare = chunk.into_spare();
        let (rows, rejected) = (maker.columns.rows() as u64, maker.columns.rejected);
        maker.rejected += u64::from(rejected);
        self.highest = maker.columns.times.iter().copied().fold(self.highest, i64::max);
        let mut batch = self.producer.spare();
        let encoded = maker.encoder.encode(&maker.columns, maker.fingerprint, &Stamp::of_lane(0, 0, 0), &mut batch);
        encoded.map_err(SendError::Encode)?;
        self.producer.send(batch, rows, rejected)?;
        progress.rows.fetch_add(rows + u64::from(rejected), Ordering::Relaxed);
        Ok(true)
    }

    /// Waits until all is durable.
    fn finish(mut self, args: &SendArgs, maker: &mut Maker) -> Result<Metrics, SendError> {
        if args.end || args.producer.is_none() {
            let mut last = self.producer.spare();
            maker.columns.clear();
            maker.encoder.encode(&maker.columns, maker.fingerprint, &Stamp::of_lane(0, 0, 0), &mut last)?;
            self.producer.end(last)?;
        }
        self.producer.close()
    }
}

/// Calls into the readers of file formats, whose libraries may panic on damaged files.
fn guarded<T>(path: &str, body: impl FnOnce() -> Result<T, SourceError>) -> Result<T, SourceError> {
    catch(body).unwrap_or_else(|what| Err(SourceError::Damaged { path: path.to_owned(), what }))
}

/// Over all inputs.
#[derive(Default)]
struct Total {
    metrics: Metrics,
    inputs_known: u64,
}

impl Total {
    fn add(&mut self, metrics: Metrics) {
        let all = &mut self.metrics;
        all.batches_offered += metrics.batches_offered;
        all.batches_known += metrics.batches_known;
        all.batches_durable += metrics.batches_durable;
        all.batches_shed += metrics.batches_shed;
        all.rows_offered += metrics.rows_offered;
        all.bytes_offered += metrics.bytes_offered;
        all.connections += metrics.connections;
    }

    fn text(&self, args: &SendArgs, rejected: u64, elapsed: std::time::Duration) -> String {
        let Metrics { batches_offered, batches_known, batches_shed, rows_offered, bytes_offered, .. } = self.metrics;
        let seconds = elapsed.as_secs_f64();
        let rate = thousands((rows_offered as f64 / seconds.max(1e-9)) as u64);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "sent      {} rows to {} in {seconds:.2} s ({rate} rows/s, {})",
            thousands(rows_offered),
            args.to,
            units::format_size_rounded(bytes_offered)
        );
        let _ = writeln!(
            text,
            "batches   {} = durable now {} + known before {} + shed {}",
            thousands(batches_offered),
            thousands(batches_offered - batches_known - batches_shed),
            thousands(batches_known),
            thousands(batches_shed)
        );
        if rejected > 0 {
            let _ = writeln!(text, "rejected  {} rows that could not be read", thousands(rejected));
        }
        if self.inputs_known > 0 {
            let _ = writeln!(text, "inputs    {} were sent before", thousands(self.inputs_known));
        }
        if self.metrics.connections > 1 {
            let _ = writeln!(text, "connected {} times", thousands(self.metrics.connections));
        }
        text
    }
}
