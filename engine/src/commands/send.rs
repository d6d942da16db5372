//! `corefold send`: files or standard input to a running engine, with the readers of `aggregate`.
//!
//! How batches travel is `corefold_client`'s, how chunks become batches is in [`super::dealing`]. Here each input
//! becomes lanes of a producer that can be interrupted and run again.

use super::dealing::{Dealing, Work, guarded};
use super::identity::Identity;
use super::signals::StopSignal;
use super::{CommandError, Console};
use crate::assemble;
use crate::cli::UsageError;
use crate::cli::send::{LanesChoice, SendArgs};
use crate::config::{self, ReadOptions};
use crate::error::EngineError;
use crate::links::Progress;
use crate::progress::{ProgressDisplay, thousands};
use crate::source::error::SourceError;
use crate::source::input::{Input, resolve};
use crate::source::plan::ReadPlan;
use crate::source::{Chunk, LaneReader, open};
use crate::units;
use corefold_aggregator::spec::{Field, FieldType, StreamSpec};
use corefold_aggregator::time::Duration;
use corefold_client::{Client, ClientConfig, Metrics, Resume};
use std::fmt::Write;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest wait between looks at signals and progress.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(50);

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
    let progress = Arc::new(Progress::default());
    let bytes_total = inputs.iter().map(Input::bytes_total).sum::<Option<u64>>();
    progress.bytes_total.store(bytes_total.unwrap_or(0), Ordering::Relaxed);
    let mut display = ProgressDisplay::new(console.progress);
    let mut total = Total { inputs: inputs.len() as u64, ..Total::default() };
    // All say hello before the first one sends, so that none is late because of another.
    let mut sending = Vec::with_capacity(inputs.len());
    for (number, input) in inputs.iter().enumerate() {
        let mut config = client_config(args, &stream, &identity, input, number)?;
        config.lane_step = inputs.len() as u32;
        let client = Client::connect(config, &stream.fields)?;
        if client.has_ended() && !input.is_pipe() {
            console.say(&format!("{}: the server has all of it already", input.name));
            progress.bytes.fetch_add(input.bytes_total().unwrap_or(0), Ordering::Relaxed);
            total.inputs_known += 1;
            client.close()?;
            continue;
        }
        sending.push(Sending::open(input, &plan, Arc::new(client))?);
    }
    let clients: Vec<Arc<Client>> = sending.iter().map(|one| Arc::clone(&one.client)).collect();
    let mut dealing = Dealing::start(&clients, &plan, stream.fingerprint(), &progress)?;
    let mut watch = || {
        display.show(&progress);
        let advice = "run the same command again: it goes on where the server is";
        if signal.is_set() { Err(CommandError::from(EngineError::Interrupted { advice })) } else { Ok(()) }
    };
    let sent = deal_all(args, sending, &mut dealing, &progress, &mut watch)
        .and_then(|()| dealing.finish(&mut watch))
        .and_then(|tally| total.wait_for(&clients, &mut watch).map(|()| tally));
    display.clear();
    let tally = sent?;
    if let Some(rejection) = tally.first_rejection {
        console.say(&format!("warning: rows were skipped as bad input; the first: {rejection}"));
    }
    console.say(total.text(args, tally.rejected, display.elapsed()).trim_end());
    Ok(())
}

/// Reads all inputs to their ends, the one that is behind in time first, and deals out what was read.
fn deal_all(
    args: &SendArgs,
    mut sending: Vec<Sending>,
    dealing: &mut Dealing,
    progress: &Progress,
    watch: &mut dyn FnMut() -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    while let Some(at) = (0..sending.len()).min_by_key(|&at| sending[at].turn(at)) {
        watch()?;
        let input = &mut sending[at];
        let chunk = input.read(dealing.spare(), progress)?;
        let lane = (input.chunks % input.client.lanes() as u64) as usize;
        let Some(chunk) = chunk else {
            // Results need not wait for what will not come.
            let input = sending.swap_remove(at);
            if args.end || args.producer.is_none() {
                (0..input.client.lanes()).try_for_each(|lane| dealing.deal(input.work(lane, None), watch))?;
            }
            continue;
        };
        // What the server has is passed over; how many rows it has need not be known.
        if !input.client.pass(lane) {
            dealing.deal(input.work(lane, Some(chunk)), watch)?;
        }
        input.chunks += 1;
    }
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
    config.lanes = args.lanes.into();
    // What came through a pipe before does not come again.
    config.resume = if input.is_pipe() { Resume::GoOn } else { Resume::FromStart };
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
    let mut read = format!("{nulls:?} {delimiter:?} {on_error:?} {batch_rows} {time_unit:?}");
    // Other lanes are other batches.
    if args.lanes != LanesChoice::ONE {
        let _ = write!(read, " lanes {}", args.lanes);
    }
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

/// An input on its way. Its chunks take its lanes in turn, so that each time they take the same ones.
struct Sending {
    name: String,
    reader: Box<dyn LaneReader>,
    client: Arc<Client>,
    chunks: u64,
    bytes: u64,
    /// The highest time that was sent: the input that is behind goes first.
    highest: Arc<AtomicI64>,
}

impl Sending {
    fn open(input: &Input, plan: &Arc<ReadPlan>, client: Arc<Client>) -> Result<Sending, SourceError> {
        let name = input.name.clone();
        let reader = guarded(&name, || open(input, plan, 0))?;
        let highest = Arc::new(AtomicI64::new(i64::MIN));
        Ok(Sending { name, reader, client, chunks: 0, bytes: 0, highest })
    }

    /// What decides whose turn it is.
    fn turn(&self, at: usize) -> (i64, u64, usize) {
        (self.highest.load(Ordering::Relaxed), self.chunks, at)
    }

    /// The next chunk; `None` at the end.
    fn read(&mut self, spare: Vec<u8>, progress: &Progress) -> Result<Option<Chunk>, SourceError> {
        let chunk = guarded(&self.name, || self.reader.next(spare))?;
        let bytes = self.reader.bytes_read();
        progress.bytes.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
        Ok(chunk)
    }

    fn work(&self, lane: usize, chunk: Option<Chunk>) -> Work {
        let (client, highest) = (Arc::clone(&self.client), Arc::clone(&self.highest));
        Work { client, lane, chunk, number: self.chunks, highest }
    }
}

/// Over all inputs.
#[derive(Default)]
struct Total {
    metrics: Metrics,
    inputs: u64,
    inputs_known: u64,
    lanes: u64,
}

impl Total {
    /// Waits until everything is durable, and says goodbye.
    fn wait_for(
        &mut self,
        clients: &[Arc<Client>],
        watch: &mut dyn FnMut() -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        for client in clients {
            while !client.flush_within(LOOK_EVERY)? {
                watch()?;
            }
            self.metrics = self.metrics + client.close()?;
            self.lanes += client.lanes() as u64;
        }
        Ok(())
    }

    fn text(&self, args: &SendArgs, rejected: u64, elapsed: std::time::Duration) -> String {
        let Metrics { batches_offered, batches_known, batches_durable, batches_shed, .. } = self.metrics;
        let Metrics { rows_offered, bytes_offered, connections, .. } = self.metrics;
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
            thousands(batches_durable),
            thousands(batches_known),
            thousands(batches_shed)
        );
        if rejected > 0 {
            let _ = writeln!(text, "rejected  {} rows that could not be read", thousands(rejected));
        }
        if self.inputs_known > 0 {
            let _ = writeln!(text, "inputs    {} were sent before", thousands(self.inputs_known));
        }
        if self.lanes > self.inputs {
            let _ = writeln!(text, "lanes     {} of {} inputs", thousands(self.lanes), thousands(self.inputs));
        }
        if connections > self.lanes {
            let _ = writeln!(text, "connected again {} times", thousands(connections - self.lanes));
        }
        text
    }
}
