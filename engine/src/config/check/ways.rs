//! Rules of ways in for programs that do not speak our own protocol: addresses and limits.
//!
//! Which part of a metric goes to which field is decided in `mappings`.

use std::net::{SocketAddr, ToSocketAddrs};

use corefold_aggregator::time::Duration;
use corefold_shards::session::Level;
use toml::Spanned;

use super::Checker;
use super::mappings::{influx_map, statsd_map};
use super::streams::{Stream, stream_index};
use crate::config::choices::OnError;
use crate::config::error::not_among;
use crate::config::file::{DurationText, FileConfig, SizeText, SourceTable};
use crate::config::ways::{Transport, WayConfig, WayLimits, WayProtocol};
use crate::config::{ReadOptions, micros};
use crate::units;

/// The keys that all tables have.
macro_rules! given_of {
    ($typed:expr) => {
        Given {
            connections_max: $typed.connections_max.as_ref(),
            connections_per_address_max: $typed.connections_per_address_max.as_ref(),
            silence_timeout: $typed.silence_timeout.as_ref(),
            inbox_max: $typed.inbox_max.as_ref(),
            batch_age: $typed.batch_age.as_ref(),
            ..Given::none()
        }
    };
}

/// Those of tables with requests.
macro_rules! given_of_http {
    ($typed:expr) => {
        Given {
            byte_rate_min: $typed.byte_rate_min.as_ref(),
            body_size_max: $typed.body_size_max.as_ref(),
            header_timeout: $typed.header_timeout.as_ref(),
            full_timeout: $typed.full_timeout.as_ref(),
            answer_timeout: $typed.answer_timeout.as_ref(),
            acknowledge: $typed.acknowledge.as_ref(),
            token_file: $typed.token_file.as_ref(),
            ..given_of!($typed)
        }
    };
}

/// Names of the tables, in the order in which a source is looked at.
pub(super) const NAMES: [&str; 7] = ["file", "tcp", "statsd", "influx", "ndjson", "arrow", "http"];

/// Which of the tables a source has, with where each begins.
pub(super) fn tables(source: &SourceTable) -> Vec<(&'static str, usize)> {
    let starts = [
        source.file.as_ref().map(|table| table.span().start),
        source.tcp.as_ref().map(|table| table.span().start),
        source.statsd.as_ref().map(|table| table.span().start),
        source.influx.as_ref().map(|table| table.span().start),
        source.ndjson.as_ref().map(|table| table.span().start),
        source.arrow.as_ref().map(|table| table.span().start),
        source.http.as_ref().map(|table| table.span().start),
    ];
    NAMES.into_iter().zip(starts).filter_map(|(name, start)| Some((name, start?))).collect()
}

/// Ways in, in the order of the file.
pub(super) fn ways(checker: &mut Checker<'_>, typed: &FileConfig, streams: &[Stream]) -> Vec<WayConfig> {
    let mut ways: Vec<WayConfig> = Vec::new();
    for (index, table) in typed.sources.iter().enumerate() {
        let source = table.get_ref();
        let Some((name, start)) = tables(source).into_iter().find(|(name, _)| !matches!(*name, "file" | "tcp")) else {
            continue;
        };
        let key = format!("sources[{index}]");
        let Some(stream) = stream_index(checker, &source.stream, &format!("{key}.stream"), streams) else { continue };
        let faults_before = checker.faults.count();
        let Some(way) = way(checker, source, &format!("{key}.{name}"), (stream, &streams[stream])) else { continue };
        if checker.faults.count() == faults_before {
            refuse_clashes(checker, &ways, &way, start, &format!("{key}.{name}"));
        }
        ways.push(way);
    }
    ways
}

/// The way of a source; `None` if it is a file or our own protocol.
fn way(checker: &mut Checker<'_>, source: &SourceTable, key: &str, at: (usize, &Stream)) -> Option<WayConfig> {
    let (stream, fields) = (at.0, &at.1.config.fields);
    let (protocol, listens, limits) = if let Some(table) = &source.statsd {
        let typed = table.get_ref();
        let at = [(Transport::Udp, "udp", typed.udp.as_ref()), (Transport::Tcp, "tcp", typed.tcp.as_ref())];
        let listens = addresses(checker, table, &at, typed.insecure, key);
        let given = Given {
            line_size_max: typed.line_size_max.as_ref(),
            receive_buffer: typed.receive_buffer.as_ref(),
            ..given_of!(typed)
        };
        (WayProtocol::Statsd(statsd_map(checker, table, fields, key)), listens, limits(checker, &given, key))
    } else if let Some(table) = &source.influx {
        let typed = table.get_ref();
        let at = [(Transport::Tcp, "tcp", typed.tcp.as_ref()), (Transport::Http, "http", typed.http.as_ref())];
        let listens = addresses(checker, table, &at, typed.insecure, key);
        let given = Given { line_size_max: typed.line_size_max.as_ref(), ..given_of_http!(typed) };
        (WayProtocol::Influx(influx_map(checker, table, fields, key)), listens, limits(checker, &given, key))
    } else if let Some(table) = &source.ndjson {
        let typed = table.get_ref();
        let listens = addresses(checker, table, &[(Transport::Tcp, "tcp", Some(&typed.tcp))], typed.insecure, key);
        let read = read_options(checker, &typed.null, typed.on_error.as_ref(), key);
        let given = Given {
            line_size_max: typed.line_size_max.as_ref(),
            acknowledge: typed.acknowledge.as_ref(),
            ..given_of!(typed)
        };
        (WayProtocol::Ndjson(read), listens, limits(checker, &given, key))
    } else if let Some(table) = &source.arrow {
        let typed = table.get_ref();
        let listens = addresses(checker, table, &[(Transport::Tcp, "tcp", Some(&typed.tcp))], typed.insecure, key);
        let read = read_options(checker, &typed.null, typed.on_error.as_ref(), key);
        let given = Given {
            body_size_max: typed.body_size_max.as_ref(),
            acknowledge: typed.acknowledge.as_ref(),
            // Each has a thread of its own.
            connections_default: 64,
            ..given_of!(typed)
        };
        (WayProtocol::Arrow(read), listens, limits(checker, &given, key))
    } else {
        let table = source.http.as_ref()?;
        let typed = table.get_ref();
        let at = [(Transport::Http, "listen", Some(&typed.listen))];
        let listens = addresses(checker, table, &at, typed.insecure, key);
        let read = read_options(checker, &typed.null, typed.on_error.as_ref(), key);
        let given = Given { line_size_max: typed.line_size_max.as_ref(), ..given_of_http!(typed) };
        (WayProtocol::Http(read), listens, limits(checker, &given, key))
    };
    Some(WayConfig { stream, protocol, listens, limits })
}

fn read_options(
    checker: &mut Checker<'_>,
    nulls: &Option<Vec<String>>,
    on_error: Option<&Spanned<String>>,
    key: &str,
) -> ReadOptions {
    let on_error: Option<OnError> = checker.choice(on_error, &format!("{key}.on_error"), "policy");
    ReadOptions {
        nulls: nulls.clone().unwrap_or_default(),
        on_error: on_error.unwrap_or_default(),
        ..ReadOptions::default()
    }
}

/// What would make two ways compete for the same bytes, or give one address two sets of limits.
fn refuse_clashes(checker: &mut Checker<'_>, ways: &[WayConfig], way: &WayConfig, start: usize, key: &str) {
    let fault = |checker: &mut Checker<'_>, message: String| {
        checker.faults.add(checker.document.error(start, key, message));
    };
    for (transport, address) in &way.listens {
        let here = |other: &&WayConfig| other.listens.contains(&(*transport, *address));
        for other in ways.iter().filter(here) {
            let is_http = *transport == Transport::Http;
            let is_same = other.stream == way.stream && other.protocol.name() == way.protocol.name();
            if !is_http && address.port() == 0 && !is_same {
                // Each gets a port of its own from the system.
                continue;
            }
            if !is_http {
                let transport = transport.name();
                fault(checker, format!("{transport} {address} is taken by another source; one address has one use"));
            } else if other.limits != way.limits {
                fault(
                    checker,
                    format!("{address} was given before with other limits; one address has one set of them"),
                );
            } else if is_same {
                fault(checker, format!("the stream is taken at {address} in this way already"));
            } else if let (WayProtocol::Influx(ours), WayProtocol::Influx(theirs)) = (&way.protocol, &other.protocol) {
                if let Some(twice) = ours.measurements.iter().find(|name| theirs.measurements.contains(name)) {
                    fault(checker, format!("the measurement `{twice}` is given to another stream at {address}"));
                } else if ours.measurements.is_empty() && theirs.measurements.is_empty() {
                    let message = "another stream takes all measurements at this address; name some for one of them \
                                   with `measurements`";
                    fault(checker, message.to_owned());
                }
            }
        }
    }
}

fn addresses<T>(
    checker: &mut Checker<'_>,
    table: &Spanned<T>,
    given: &[(Transport, &str, Option<&Spanned<String>>)],
    insecure: Option<bool>,
    key: &str,
) -> Vec<(Transport, SocketAddr)> {
    if given.iter().all(|(_, _, text)| text.is_none()) {
        let names: Vec<String> = given.iter().map(|(_, name, _)| format!("`{name}`")).collect();
        checker.fault(table, key, format!("where it listens is missing: {}", names.join(", ")));
    }
    let mut found = Vec::new();
    for (transport, name, text) in given {
        let Some(text) = text else { continue };
        let key = format!("{key}.{name}");
        let named = text.get_ref();
        let Some(address) = named.to_socket_addrs().ok().and_then(|mut found| found.next()) else {
            let message = format!("`{named}` is not an address with a port, such as \"127.0.0.1:8125\"");
            checker.fault(text, &key, message);
            continue;
        };
        if !address.ip().is_loopback() && insecure != Some(true) {
            let message = format!(
                "at {address} everyone who reaches this machine could send events, and they travel unencrypted; \
                 listen on a loopback address, or set `insecure = true` if the network itself keeps others out"
            );
            checker.fault(text, &key, message);
        }
        found.push((*transport, address));
    }
    found
}

/// What a table says of its limits.
pub(super) struct Given<'a> {
    pub connections_default: u32,
    pub connections_max: Option<&'a Spanned<i64>>,
    pub connections_per_address_max: Option<&'a Spanned<i64>>,
    pub silence_timeout: Option<&'a Spanned<DurationText>>,
    pub inbox_max: Option<&'a Spanned<SizeText>>,
    pub batch_age: Option<&'a Spanned<DurationText>>,
    pub byte_rate_min: Option<&'a Spanned<SizeText>>,
    pub line_size_max: Option<&'a Spanned<SizeText>>,
    pub body_size_max: Option<&'a Spanned<SizeText>>,
    pub header_timeout: Option<&'a Spanned<DurationText>>,
    pub full_timeout: Option<&'a Spanned<DurationText>>,
    pub answer_timeout: Option<&'a Spanned<DurationText>>,
    pub acknowledge: Option<&'a Spanned<String>>,
    pub token_file: Option<&'a Spanned<String>>,
    pub receive_buffer: Option<&'a Spanned<SizeText>>,
}

impl Given<'_> {
    fn none() -> Self {
        Given {
            connections_default: WayLimits::default().connections_max,
            connections_max: None,
            connections_per_address_max: None,
            silence_timeout: None,
            inbox_max: None,
            batch_age: None,
            byte_rate_min: None,
            line_size_max: None,
            body_size_max: None,
            header_timeout: None,
            full_timeout: None,
            answer_timeout: None,
            acknowledge: None,
            token_file: None,
            receive_buffer: None,
        }
    }
}

fn limits(checker: &mut Checker<'_>, given: &Given<'_>, key: &str) -> WayLimits {
    let default = WayLimits { connections_max: given.connections_default, ..WayLimits::default() };
    let key = |name: &str| format!("{key}.{name}");
    let wait = |checker: &mut Checker<'_>, given, name: &str, default: std::time::Duration, least_us: i64| {
        let default = micros(default.as_micros() as i64);
        let waited: Duration = checker.duration(given, &key(name), default, micros(least_us)..=micros(86_400_000_000));
        units::wait(waited)
    };
    let limits = WayLimits {
        connections_max: checker.number(
            given.connections_max,
            &key("connections_max"),
            default.connections_max,
            1..=65_536,
        ),
        connections_per_address_max: checker.number(
            given.connections_per_address_max,
            &key("connections_per_address_max"),
            default.connections_per_address_max,
            1..=65_536,
        ),
        silence_timeout: wait(checker, given.silence_timeout, "silence_timeout", default.silence_timeout, 1_000_000),
        byte_rate_min: checker.size(given.byte_rate_min, &key("byte_rate_min"), default.byte_rate_min, 1..=1 << 30),
        line_size_max: checker.size(given.line_size_max, &key("line_size_max"), default.line_size_max, 64..=4 << 20),
        body_size_max: checker.size(
            given.body_size_max,
            &key("body_size_max"),
            default.body_size_max,
            1024..=256 << 20,
        ),
        inbox_max: checker.size(given.inbox_max, &key("inbox_max"), default.inbox_max, 64 << 10..=64 << 30),
        batch_age: wait(checker, given.batch_age, "batch_age", default.batch_age, 1_000),
        header_timeout: wait(checker, given.header_timeout, "header_timeout", default.header_timeout, 100_000),
        full_timeout: wait(checker, given.full_timeout, "full_timeout", default.full_timeout, 1_000),
        answer_timeout: wait(checker, given.answer_timeout, "answer_timeout", default.answer_timeout, 1_000),
        acknowledge: given.acknowledge.map_or(default.acknowledge, |text| level(checker, text, &key("acknowledge"))),
        token_file: given.token_file.map(|text| checker.base().join(text.get_ref())),
        receive_buffer: checker.size(
            given.receive_buffer,
            &key("receive_buffer"),
            default.receive_buffer,
            4 << 10..=1 << 30,
        ),
    };
    if let Some(inbox) = given.inbox_max.or(given.body_size_max).filter(|_| limits.inbox_max < limits.body_size_max) {
        let (have, need) = (units::format_size(limits.inbox_max), units::format_size(limits.body_size_max));
        let message = format!("an inbox of {have} has no room for one body of the largest size, which is {need}");
        checker.fault(inbox, &key("inbox_max"), message);
    }
    if let Some(text) = given.token_file.filter(|text| text.get_ref().is_empty()) {
        checker.fault(text, &key("token_file"), "the path is empty");
    }
    limits
}

fn level(checker: &mut Checker<'_>, given: &Spanned<String>, key: &str) -> Level {
    match given.get_ref().as_str() {
        "durable" => Level::Durable,
        "written" => Level::Written,
        "received" => Level::Received,
        other => {
            checker.fault(given, key, not_among("level", other, ["durable", "written", "received"]));
            Level::Durable
        }
    }
}
