//! What a producer is told: where, who, and how much patience.
//!
//! What it sends is not here.

use crate::tls::TlsConfig;
use corefold_shards::session::{ClientLimits, LaneName, Level};
use std::time::Duration;

/// See the module. [`ClientConfig::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Host and port of the server.
    pub server: String,
    /// Whom to trust; `None`: nothing is encrypted.
    pub tls: Option<TlsConfig>,
    /// Who sends what.
    pub lane: LaneName,
    /// How much may be under way; and how long the server may be silent.
    pub limits: ClientLimits,
    /// How long one attempt to connect may take.
    pub connect_max: Duration,
    /// Shortest and longest pause between attempts; each is drawn between zero and a bound that doubles.
    pub backoff_min: Duration,
    /// See `backoff_min`.
    pub backoff_max: Duration,
    /// How long to go on without any progress before giving up; `None`: for ever.
    pub give_up_after: Option<Duration>,
    /// Rows after which a [`crate::RowSender`] sends a batch.
    pub batch_rows: usize,
    /// Age of its first row after which it does so anyway, at the next call.
    pub batch_age: Duration,
    /// How long a batch is worth anything, from the moment it is sent; `None`: for ever.
    pub batch_life: Option<Duration>,
}

impl ClientConfig {
    /// A producer of lane 0 with patience without end.
    pub fn new(server: &str, producer: &str, fingerprint: u64) -> ClientConfig {
        ClientConfig {
            server: server.to_owned(),
            tls: None,
            lane: LaneName {
                producer: producer.to_owned(),
                lane: 0,
                fingerprint,
                credentials: Vec::new(),
                level: Level::Durable,
            },
            limits: ClientLimits { batches_max: 64, bytes_max: 32 << 20, answer_max_ns: 30_000_000_000 },
            connect_max: Duration::from_secs(5),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            give_up_after: None,
            batch_rows: 8192,
            batch_age: Duration::from_millis(50),
            batch_life: None,
        }
    }
}
