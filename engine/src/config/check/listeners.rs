//! Rules of `sources.tcp`: where producers connect, and what they may cost.
//!
//! Whether an address can be had is found when it is bound, not here.

use std::net::{SocketAddr, ToSocketAddrs};

use corefold_aggregator::time::Duration;
use corefold_shards::session::credit_cost;
use toml::Spanned;

use super::streams::{Stream, stream_index};
use super::{Checker, producers};
use crate::config::file::{FileConfig, ProducerTable, SourceTcpTable};
use crate::config::{AutoOr, ListenConfig, ListenLimits, SHARDS_MAX, micros};
use crate::units;

/// Addresses in the order of the file; one that several sources name stands there once.
pub(super) fn listeners(checker: &mut Checker<'_>, typed: &FileConfig, streams: &[Stream]) -> Vec<ListenConfig> {
    let mut listeners: Vec<ListenConfig> = Vec::new();
    for (index, table) in typed.sources.iter().enumerate() {
        let source = table.get_ref();
        let Some(tcp) = &source.tcp else { continue };
        let key = format!("sources[{index}]");
        let stream = stream_index(checker, &source.stream, &format!("{key}.stream"), streams);
        let limits = limits(checker, tcp, &format!("{key}.tcp"));
        let tls = tcp.get_ref().tls.as_ref().map(|table| producers::tls(checker, table.get_ref()));
        let shard_ports = shard_ports(checker, typed, tcp.get_ref(), &format!("{key}.tcp.shard_ports"));
        let Some(address) = address(checker, tcp.get_ref(), &format!("{key}.tcp")) else { continue };
        let Some(stream) = stream else { continue };
        match listeners.iter_mut().find(|listener| listener.address == address) {
            None => {
                open_doors(checker, typed, tcp, &format!("{key}.tcp"), address);
                listeners.push(ListenConfig { address, tls, shard_ports, limits, streams: vec![stream] });
            }
            Some(other) if (other.limits, &other.tls, other.shard_ports) != (limits, &tls, shard_ports) => {
                let message = format!(
                    "{address} was given before with other limits, certificates or ports; one address has one set of \
                     them"
                );
                checker.fault(tcp, &format!("{key}.tcp"), message);
            }
            Some(other) if other.streams.contains(&stream) => {
                let message = format!("the stream is taken at {address} already");
                checker.fault(&source.stream, &format!("{key}.stream"), message);
            }
            Some(other) => other.streams.push(stream),
        }
    }
    listeners
}

fn address(checker: &mut Checker<'_>, tcp: &SourceTcpTable, key: &str) -> Option<SocketAddr> {
    let key = format!("{key}.listen");
    let text = tcp.listen.get_ref();
    let found = text.to_socket_addrs().ok().and_then(|mut found| found.next());
    let Some(address) = found else {
        let message = format!("`{text}` is not an address with a port, such as \"127.0.0.1:7600\"");
        checker.fault(&tcp.listen, &key, message);
        return None;
    };
    let is_insecure = tcp.insecure.as_ref().is_some_and(|insecure| *insecure.get_ref());
    if !address.ip().is_loopback() && tcp.tls.is_none() && !is_insecure {
        let message = format!(
            "at {address} everyone who reaches this machine could send events, and they travel unencrypted; give it \
             `tls`, listen on a loopback address, or set `insecure = true` if the network itself keeps others out"
        );
        checker.fault(&tcp.listen, &key, message);
        return None;
    }
    Some(address)
}

/// Ports of shards must be ports, all of them.
fn shard_ports(checker: &mut Checker<'_>, typed: &FileConfig, tcp: &SourceTcpTable, key: &str) -> Option<u16> {
    let given = tcp.shard_ports.as_ref()?;
    let shards = match typed.engine.shards.as_ref().map(|shards| *shards.get_ref()) {
        Some(AutoOr::Fixed(shards)) => shards.clamp(1, SHARDS_MAX) as u16,
        Some(AutoOr::Auto) | None => 1,
    };
    Some(checker.number(Some(given), key, 1, 1..=u16::MAX - (shards - 1)))
}

/// What is allowed and should be known: doors that are open to all, and secrets that travel in the open.
fn open_doors(
    checker: &mut Checker<'_>,
    typed: &FileConfig,
    tcp: &Spanned<SourceTcpTable>,
    key: &str,
    address: SocketAddr,
) {
    let has_token = |producer: &ProducerTable| producer.token_file.is_some() || producer.token_sha256.is_some();
    let has_tokens = typed.producers.iter().any(|producer| has_token(producer.get_ref()));
    let table = tcp.get_ref();
    match &table.tls {
        None if has_tokens && !address.ip().is_loopback() => {
            let message = format!("tokens travel unencrypted to {address}, and who reads one can use it");
            checker.note(tcp, key, message);
        }
        Some(tls) if tls.get_ref().client_ca.is_none() && typed.producers.is_empty() => {
            let message = format!(
                "everybody who can reach {address} may send, under any name; `client_ca` asks for certificates, and \
                 [[producers]] for tokens"
            );
            checker.note(tls, &format!("{key}.tls"), message);
        }
        _ => {}
    }
    if let (Some(insecure), Some(_)) = (&table.insecure, &table.tls) {
        checker.note(insecure, &format!("{key}.insecure"), "with `tls` nothing is insecure: no effect");
    }
}

fn limits(checker: &mut Checker<'_>, table: &Spanned<SourceTcpTable>, key: &str) -> ListenLimits {
    let typed = table.get_ref();
    let default = ListenLimits::default();
    let key = |name: &str| format!("{key}.{name}");
    let second = |seconds: i64| micros(seconds * 1_000_000);
    let wait = |checker: &mut Checker<'_>, given, name: &str, default: std::time::Duration| {
        let default = second(default.as_secs().cast_signed());
        let bounds = second(1)..=second(3600);
        let waited: Duration = checker.duration(given, &key(name), default, bounds);
        units::wait(waited)
    };
    let size = checker.size(
        typed.batch_size_max.as_ref(),
        &key("batch_size_max"),
        default.batch_size_max,
        4 << 10..=256 << 20,
    );
    let limits = ListenLimits {
        batch_size_max: size / 8 * 8,
        inbox_max: checker.size(typed.inbox_max.as_ref(), &key("inbox_max"), default.inbox_max, 8 << 10..=64 << 30),
        connections_max: checker.number(
            typed.connections_max.as_ref(),
            &key("connections_max"),
            default.connections_max,
            1..=65_536,
        ),
        connections_per_address_max: checker.number(
            typed.connections_per_address_max.as_ref(),
            &key("connections_per_address_max"),
            default.connections_per_address_max,
            1..=65_536,
        ),
        lanes_max: checker.number(typed.lanes_max.as_ref(), &key("lanes_max"), default.lanes_max, 1..=16_777_216),
        hello_timeout: wait(checker, typed.hello_timeout.as_ref(), "hello_timeout", default.hello_timeout),
        silence_timeout: wait(checker, typed.silence_timeout.as_ref(), "silence_timeout", default.silence_timeout),
        byte_rate_min: checker.size(
            typed.byte_rate_min.as_ref(),
            &key("byte_rate_min"),
            default.byte_rate_min,
            1..=1 << 30,
        ),
    };
    let least = credit_cost(limits.batch_size_max as usize);
    if limits.inbox_max < least {
        let (have, need) = (units::format_size(limits.inbox_max), units::format_size(least));
        let message = format!("an inbox of {have} has no room for one batch of the largest size, which takes {need}");
        checker.fault(table, &key("inbox_max"), message);
    }
    limits
}
