//! Row 18: hostile clients. Limits hold, nobody panics, memory stays bounded, and others go on.
//!
//! What they send is in [`crate::live::strangers`] and, to a server that takes TLS only, in
//! [`crate::live::tls_strangers`].

use super::slow::memory_peak;
use crate::live::attack::{Attack, Malice, Order, Toll};
use crate::live::job::PATIENCE;
use crate::live::producers::{SentJob, Served, ServerPlan};
use crate::live::strangers::Strangers;
use crate::live::tls_strangers::TlsStrangers;
use crate::live::{Checked, Setting, Stop, ensure, fail};
use crate::scenario::network::server::TlsPair;
use corefold_aggregator::spec::{Field, FieldType, StreamSpec};
use corefold_client::{Client, ClientConfig, SendError, TlsConfig, TlsFiles, Value};
use corefold_engine::net::reasons::Reason;
use std::path::Path;
use std::time::{Duration, Instant};

/// What an attack may add to the memory of a server with the limits below: inboxes and spare buffers of two shards, and
/// what connections have.
const GROWTH_MAX: u64 = 64 << 20;

/// As in the limits.
const BATCH_SIZE_MAX: usize = 1 << 20;

const LIMITS: &str =
    ", inbox_max = \"8MiB\", batch_size_max = \"1MiB\", hello_timeout = \"1s\", byte_rate_grace = \"1s\"";

/// Longest attack: one that goes on for longer does not come to its end.
const ATTACK_MAX: Duration = Duration::from_secs(1_200);

/// Bad frames that a second brings at most, without TLS and with it. At such a rate the attackers, which have no machine
/// of their own here, leave the server what it needs; see [`Order::rate`].
const RATE: u64 = 2_500;
const TLS_RATE: u64 = 2_000;

/// Attackers. With what the server has not let go of yet they stay below the connections of one address.
const FAST: u64 = 32;
const SLOW: u64 = 64;

/// Of bad frames one in so many is bad TLS. It comes on top of the others.
const TLS_SHARE: u64 = 10;

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
    sender_by(served, name, None)
}

/// The same by TLS, if a certificate is given to trust.
fn sender_by(served: &Served<'_>, name: &str, certificate: Option<&Path>) -> Checked<Client> {
    let stream = stream();
    let mut config = ClientConfig::new(&served.address().to_string(), name, stream.fingerprint());
    if let Some(certificate) = certificate {
        let files = TlsFiles { ca: certificate.to_owned(), name: Some(TlsPair::NAME.to_owned()), identity: None };
        let tls = TlsConfig::load(&files);
        config.tls = Some(tls.map_err(|error| Stop::Fail(format!("an honest client: {error}")))?);
    }
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

/// Row 18. Counted is every bad frame that the server was seen to have read, each on a connection of its own: after one the
/// server listens to no other. At full size the attackers make way for all others, and they have a rate, so that the honest
/// client's times tell of the server under attack and not of how many cores the machine has. They are told and not judged.
pub fn hostile_clients(setting: &Setting) -> Checked<String> {
    let base = setting.scratch.join("row-18");
    let job = SentJob::new(setting, &base.join("job"), 1, 2_000)?;
    let frames = setting.times(1_500, 1_000_000);
    let order =
        Order { frames, rate: RATE, fast: FAST, slow: SLOW, gives_way: !setting.quick, seed: setting.seed ^ 18 };

    let plan = ServerPlan { limits: LIMITS.to_owned(), ..ServerPlan::local()? };
    let served = job.place(&base.join("place"), plan)?;
    let malice = Strangers::new(served.address(), stream().fingerprint(), BATCH_SIZE_MAX);
    let (plain, toll, ended) = besiege(setting, &served, order, malice, None)?;
    for (kinds, reasons) in [
        (
            &["garbage", "batches without a hello", "damaged batches", "floods of 1,000 pings"][..],
            // Garbage may begin as TLS does.
            &[Reason::Protocol, Reason::Tls][..],
        ),
        (&["giant"], &[Reason::FrameSize]),
        (&["hellos for an unknown stream"], &[Reason::Stream]),
        (&["lying batches"], &[Reason::Batch]),
        (&["slow hellos"], &[Reason::HelloTimeout]),
        (&["slow batches"], &[Reason::ByteRate, Reason::Room]),
    ] {
        counted(&toll, kinds, &ended, reasons)?;
    }

    let limits = format!("{LIMITS}, tls = {{ cert = \"cert.pem\", key = \"key.pem\" }}");
    let served = job.place(&base.join("tls"), ServerPlan { limits, ..ServerPlan::local()? })?;
    let pair = TlsPair::make(&served.root).map_err(|error| Stop::Fail(error.to_string()))?;
    let order = Order { frames: frames.div_ceil(TLS_SHARE), rate: TLS_RATE, seed: setting.seed ^ 0x18, ..order };
    let malice = TlsStrangers::new(served.address(), stream().fingerprint(), &pair.cert)?;
    let (tls, toll, ended) = besiege(setting, &served, order, malice, Some(&pair.cert))?;
    let told = ["hellos without TLS", "TLS 1.2", "damaged records before the hello"];
    counted(&toll, &told, &ended, &[Reason::Tls])?;
    counted(&toll, &["damaged records behind the welcome"], &ended, &[Reason::Protocol])?;
    counted(&toll, &["slow ClientHellos", "handshakes that stop half way"], &ended, &[Reason::HelloTimeout])?;
    Ok(format!("{plain}; bad TLS: {tls}"))
}

/// Attacks a server while an honest client goes on, and checks what must hold. Tells what was seen, what the server has
/// read, and the server's summary.
fn besiege(
    setting: &Setting,
    served: &Served<'_>,
    order: Order,
    malice: impl Malice,
    certificate: Option<&Path>,
) -> Checked<(String, Toll, String)> {
    let server = served.start()?;
    let honest = sender_by(served, "honest", certificate)?;
    let (mut sent, mut at) = (0, 0);
    let mut times = [Vec::new(), Vec::new()];
    let calm_batches = if setting.quick { 50 } else { 20_000 };
    for _ in 0..calm_batches {
        times[0].push(send_some(&honest, 100, &mut at)?);
        sent += 100;
    }
    let before = memory_peak(server.process());
    let (attack, began) = (Attack::start(order, malice), Instant::now());
    while !attack.is_done() || times[1].len() < 50 {
        times[1].push(send_some(&honest, 100, &mut at)?);
        sent += 100;
        ensure(began.elapsed() < ATTACK_MAX, || "the attack does not end".to_owned())?;
    }
    let toll = attack.end();
    let growth = memory_peak(server.process()).saturating_sub(before);
    honest.close()?;
    let ended = served.stop(server)?;
    ensure(growth < GROWTH_MAX, || format!("memory grew by {} KiB", growth >> 10))?;
    ensure(!toll.is_in_doubt(), || format!("not answered as they should be: {}", toll.text()))?;
    let count = format!("received {sent} = aggregated {sent} + late 0");
    let ledger = ended.lines_of("ledger");
    ensure(ledger.iter().all(|line| line.contains(&count)), || format!("not `{count}`: {}", ended.stderr))?;
    let lines = ended.stderr.lines().filter(|line| line.starts_with("refused ")).count() as u64;
    // For each reason a line at the beginning and one every five seconds.
    let lines_max = Reason::ALL.len() as u64 * (2 + ended.took.as_secs() / 5);
    ensure(lines <= lines_max, || format!("{lines} lines of refusals, at most {lines_max} expected"))?;
    let summary = ended.lines_of("network").join(" ");
    let [calm, attacked] = times.map(|times| p99(times).as_micros());
    let seen = format!(
        "{} bad frames in {:.0} s ({}): {} KiB more memory at most, {lines} lines of log, \
         nothing lost; send to durable of an honest client, p99 x{:.1}: {calm} us before, {attacked} us meanwhile; {summary}",
        toll.all(),
        toll.took.as_secs_f64(),
        toll.text(),
        growth >> 10,
        attacked as f64 / calm.max(1) as f64
    );
    Ok((seen, toll, summary))
}

/// The server itself has counted at least as many under these reasons as the attackers saw it refuse.
fn counted(toll: &Toll, kinds: &[&str], summary: &str, reasons: &[Reason]) -> Checked {
    let words = summary.split([',', ':']).map(str::trim);
    let count = |reason: &Reason| {
        let number = words.clone().find_map(|words| words.strip_prefix(reason.name())?.strip_prefix(' '));
        number.and_then(|number| number.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let (seen, counted) = (toll.of(kinds), reasons.iter().map(count).sum::<u64>());
    if seen == 0 && toll.all() >= 1_000 {
        return fail(format!("none of {kinds:?} were sent"));
    }
    ensure(counted >= seen, || format!("{seen} of {kinds:?} were refused, and {counted} counted: {summary}"))
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().unwrap_or(PATIENCE)
}
