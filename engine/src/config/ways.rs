//! Ways in for programs that do not speak our own protocol, as they are known to make sense.
//!
//! How they are typed is in `file_ways`, what must hold of them in `check::ways`; what they do is `ingest`'s.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::ReadOptions;
use corefold_shards::session::Level;

/// A way in to one stream, over one or more addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WayConfig {
    /// Index into the streams.
    pub stream: usize,
    /// What is spoken.
    pub protocol: WayProtocol,
    /// Where.
    pub listens: Vec<(Transport, SocketAddr)>,
    /// What it may cost.
    pub limits: WayLimits,
}

/// What carries a protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
    /// Requests. One address serves all ways that name it.
    Http,
}

impl Transport {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Http => "http",
        }
    }
}

/// What is spoken, and how it becomes rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WayProtocol {
    /// statsd and DogStatsD.
    Statsd(StatsdMap),
    /// InfluxDB line protocol.
    Influx(InfluxMap),
    /// Lines of JSON.
    Ndjson(ReadOptions),
    /// An Arrow IPC stream per connection.
    Arrow(ReadOptions),
    /// `POST /streams/NAME`.
    Http(ReadOptions),
}

impl WayProtocol {
    /// The word for it, as it stands in the config.
    pub fn name(&self) -> &'static str {
        match self {
            WayProtocol::Statsd(_) => "statsd",
            WayProtocol::Influx(_) => "influx",
            WayProtocol::Ndjson(_) => "ndjson",
            WayProtocol::Arrow(_) => "arrow",
            WayProtocol::Http(_) => "http",
        }
    }
}

/// Where the parts of a statsd metric go. All are indices of fields; a part that has none is left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatsdMap {
    /// The metric's name.
    pub name: Option<usize>,
    /// Its type: `c`, `g`, `g+`, `ms`, `h`, `d`, `s`.
    pub kind: Option<usize>,
    /// Its number.
    pub value: Option<usize>,
    /// The text of a set.
    pub text: Option<usize>,
    /// The sample rate.
    pub rate: Option<usize>,
    /// Tags by name.
    pub tags: Vec<(String, usize)>,
}

/// Where the parts of a line of InfluxDB's protocol go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InfluxMap {
    /// Index of the field that gets the measurement.
    pub measurement: Option<usize>,
    /// The measurements that are for this stream; empty: all that no other way at the address names.
    pub measurements: Vec<String>,
    /// Tags and fields by name, with the index of their field.
    pub columns: Vec<(String, usize)>,
    /// Unit of times over TCP, and over HTTP if the request does not say.
    pub precision: Precision,
    /// Whether lines that cannot be read are left out over HTTP, instead of refusing the request.
    pub http_skips: bool,
    /// Whether they are over TCP, instead of ending the connection.
    pub tcp_skips: bool,
}

/// Unit of times in InfluxDB's protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Precision {
    /// Nanoseconds.
    #[default]
    Nanos,
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
}

impl Precision {
    /// Names in config and requests: those of InfluxDB 1 and 2.
    pub const NAMES: [&'static str; 8] = ["ns", "us", "ms", "s", "m", "h", "n", "u"];

    /// By one of its names.
    pub fn by_name(name: &str) -> Option<Precision> {
        Some(match name {
            "ns" | "n" => Precision::Nanos,
            "us" | "u" | "µ" => Precision::Micros,
            "ms" => Precision::Millis,
            "s" => Precision::Seconds,
            "m" => Precision::Minutes,
            "h" => Precision::Hours,
            _ => return None,
        })
    }

    /// So many of this unit in microseconds; nanoseconds are cut off towards the past. `None` outside of 64 bits.
    pub fn micros(self, count: i64) -> Option<i64> {
        match self {
            Precision::Nanos => Some(count.div_euclid(1_000)),
            Precision::Micros => Some(count),
            Precision::Millis => count.checked_mul(1_000),
            Precision::Seconds => count.checked_mul(1_000_000),
            Precision::Minutes => count.checked_mul(60_000_000),
            Precision::Hours => count.checked_mul(3_600_000_000),
        }
    }
}

/// Limits of a way in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WayLimits {
    /// Most connections to one address.
    pub connections_max: u32,
    /// Most of them from one address.
    pub connections_per_address_max: u32,
    /// How long a connection may be silent.
    pub silence_timeout: Duration,
    /// Least bytes a second of a body that is on its way.
    pub byte_rate_min: u64,
    /// Most bytes of a line.
    pub line_size_max: u64,
    /// Most bytes of a body, packed and unpacked; of a message of Arrow.
    pub body_size_max: u64,
    /// Most bytes that wait for one lane.
    pub inbox_max: u64,
    /// Age of its first row after which a batch is sent, however small.
    pub batch_age: Duration,
    /// How long the head of a request may take.
    pub header_timeout: Duration,
    /// How long a request waits for room.
    pub full_timeout: Duration,
    /// How long a request waits until its rows have come as far as `acknowledge` says.
    pub answer_timeout: Duration,
    /// How far rows must have come before they are acknowledged.
    pub acknowledge: Level,
    /// A file with the tokens one of which a request must show; `None`: none is asked for.
    pub token_file: Option<PathBuf>,
    /// Bytes of datagrams that the system keeps until they are read.
    pub receive_buffer: u64,
}

impl Default for WayLimits {
    fn default() -> WayLimits {
        WayLimits {
            connections_max: 1024,
            connections_per_address_max: 256,
            silence_timeout: Duration::from_secs(300),
            byte_rate_min: 1024,
            line_size_max: 64 << 10,
            body_size_max: 16 << 20,
            inbox_max: 32 << 20,
            batch_age: Duration::from_millis(50),
            header_timeout: Duration::from_secs(5),
            full_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            acknowledge: Level::Durable,
            token_file: None,
            receive_buffer: 4 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_precision_has_its_micros() {
        let micros: Vec<Option<i64>> =
            Precision::NAMES.iter().map(|name| Precision::by_name(name).and_then(|unit| unit.micros(1_001))).collect();
        let wanted = [1, 1_001, 1_001_000, 1_001_000_000, 60_060_000_000, 3_603_600_000_000, 1, 1_001];
        assert_eq!(micros, wanted.map(Some));
        assert_eq!(Precision::Nanos.micros(-1), Some(-1));
        assert_eq!(Precision::Hours.micros(i64::MAX), None);
        assert_eq!(Precision::by_name("d"), None);
    }
}
