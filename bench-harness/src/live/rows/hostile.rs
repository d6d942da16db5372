//! Row 18: hostile clients. Limits hold, nobody panics, memory stays bounded, and others go on.
//!
//! What they send is in [`crate::live::strangers`]. TLS that is done badly belongs here too, once the server speaks it.

use super::slow::memory_peak;
use crate::live::job::PATIENCE;
use crate::live::producers::{SentJob, Served, ServerPlan};
use crate::live::strangers::{Attack, Target};
use crate::live::{Checked, Setting, Stop, ensure};
use corefold_aggregator::spec::{Field, FieldType, StreamSpec};
use corefold_client::{Client, ClientConfig, SendError, Value};
use std::time::{Duration, Instant};

/// What an attack may add to the memory of a server with the limits below: inboxes and spare buffers of two shards, and
/// what connections have.
const GROWTH_MAX: u64 = 64 << 20;

const LIMITS: &str =
    ", inbox_max = \"8MiB\", batch_size_max = \"1MiB\", hello_timeout = \"1s\", byte_rate_grace = \"1s\"";

/// The stream of every [`SentJob`].
pub(super) fn stream() -> StreamSpec {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    let fields = vec![
        field("carrier", FieldType::String),
        field("origin", FieldType::String),
        field("tailnum", FieldType::String),
        field("dep_delay", FieldType::F64),
        field("distance", FieldType::F64),
        field("flight", FieldType::I64),
    ];
    let delay_max = corefold_aggregator::time::Duration::ZERO;
    StreamSpec { name: "flights".to_owned(), time: "time".to_owned(), delay_max, fields }
}

impl From<SendError> for Stop {
    fn from(error: SendError) -> Stop {
        Stop::Fail(format!("an honest client: {error}"))
    }
}

/// An honest client.
pub(super) fn sender(served: &Served<'_>, name: &str) -> Checked<Client> {
    let stream = stream();
    let config = ClientConfig::new(&served.address().to_string(), name, stream.fingerprint());
    Ok(Client::connect(config, &stream.fields)?)
}

/// Sends a small batch and waits until it is durable.
pub(super) fn send_some(sender: &Client, rows: u64, at: &mut i64) -> Checked<Duration> {
    for _ in 0..rows {
        *at += 1_000;
        let texts = [Value::Text("AA"), Value::Text("JFK"), Value::Text("N1")];
        let numbers = [Value::F64(1.0), Value::F64(300.0), Value::I64(1)];
        sender.row(*at, &[&texts[..], &numbers].concat())?;
    }
    let began = Instant::now();
    sender.flush()?;
    Ok(began.elapsed())
}

/// Row 18.
pub fn hostile_clients(setting: &Setting) -> Checked<String> {
    let base = setting.scratch.join("row-18");
    let job = SentJob::new(setting, &base.join("job"), 1, 2_000)?;
    let plan = ServerPlan { limits: LIMITS.to_owned(), ..ServerPlan::local()? };
    let served = job.place(&base.join("place"), plan)?;
    let server = served.start()?;
    let honest = sender(&served, "honest")?;
    let (mut sent, mut at) = (0, 0);
    let mut times = [Vec::new(), Vec::new()];
    let calm_batches = if setting.quick { 50 } else { 2_000 };
    for _ in 0..calm_batches {
        times[0].push(send_some(&honest, 100, &mut at)?);
        sent += 100;
    }
    let before = memory_peak(server.process());
    let frames = setting.times(1_500, 1_000_000);
    let target = Target { address: served.address(), fingerprint: stream().fingerprint(), frames };
    let attack = Attack::start(target, 3, 12, setting.seed ^ 18);
    while !attack.is_done() || times[1].len() < 50 {
        times[1].push(send_some(&honest, 100, &mut at)?);
        sent += 100;
        ensure(times[1].len() < 10_000_000, || "the attack does not end".to_owned())?;
    }
    let [bad, slow, told] = attack.counts();
    drop(attack);
    let growth = memory_peak(server.process()).saturating_sub(before);
    honest.close()?;
    let ended = served.stop(server)?;
    ensure(growth < GROWTH_MAX, || format!("memory grew by {} KiB", growth >> 10))?;
    let count = format!("received {sent} = aggregated {sent} + late 0");
    let ledger = ended.lines_of("ledger");
    ensure(ledger.iter().all(|line| line.contains(&count)), || format!("not `{count}`: {}", ended.stderr))?;
    let summary = ended.lines_of("network").join(" ");
    for reason in ["hello timeout", "frame size", "protocol", "bad batch", "byte rate"] {
        ensure(summary.contains(reason) || bad < 1_000, || format!("nobody was refused for {reason}: {summary}"))?;
    }
    let lines = ended.stderr.lines().filter(|line| line.starts_with("refused ")).count() as u64;
    // For each of twenty reasons a line at the beginning and one every five seconds.
    let lines_max = 20 * (2 + ended.took.as_secs() / 5);
    ensure(lines <= lines_max, || format!("{lines} lines of refusals, at most {lines_max} expected"))?;
    let [calm, attacked] = times.map(|times| p99(times).as_micros());
    Ok(format!(
        "{bad} bad frames ({slow} slow, {told} told why): {growth} KiB more memory at most, {lines} lines of log, nothing \
         lost; send to durable of an honest client, p99: {calm} us before, {attacked} us meanwhile; {summary}",
        growth = growth >> 10
    ))
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().unwrap_or(PATIENCE)
}
