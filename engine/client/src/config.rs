//! What a producer is told: where, who, and how much patience.
//!
//! What it sends is not here.

use crate::batch::event_time;
use crate::error::SendError;
use crate::routing::{Lanes, Resume, Routing};
use crate::tls::TlsConfig;
use corefold_aggregator::spec::{Field, FieldType, StreamSpec};
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::BATCH_ROWS_MAX;
use corefold_shards::session::message::{CREDENTIALS_SIZE_MAX, NAME_SIZE_MAX};
use corefold_shards::session::{ClientLimits, LaneName, Level};
use std::time::{Duration, SystemTime};

/// Most lanes of one client: each has a connection and a thread.
pub const LANES_MAX: u32 = 1024;

/// A stream as the server's configuration describes it, with its fields in the same order: what its fingerprint is
/// made of. `time` is its column of the event time.
pub fn stream(name: &str, time: &str, fields: &[(&str, FieldType)]) -> StreamSpec {
    let field = |(name, kind): &(&str, FieldType)| Field { name: (*name).to_owned(), kind: *kind };
    StreamSpec {
        name: name.to_owned(),
        time: time.to_owned(),
        // Late is what the server calls late.
        delay_max: corefold_aggregator::time::Duration::ZERO,
        fields: fields.iter().map(field).collect(),
    }
}

/// See the module. [`ClientConfig::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Host and port of the server.
    pub server: String,
    /// Whom to trust; `None`: nothing is encrypted.
    pub tls: Option<TlsConfig>,
    /// Who sends what. Of a client with several lanes, the number is that of the first.
    pub lane: LaneName,
    /// How many lanes a [`crate::Client`] has.
    pub lanes: Lanes,
    /// From the number of one lane of a client to that of the next; more than 1 if others take those in between.
    pub lane_step: u32,
    /// How a client's rows and batches find their lanes.
    pub routing: Routing,
    /// Where a client goes on that has sent before.
    pub resume: Resume,
    /// How much may be under way, of all lanes together; and how long the server may be silent.
    pub limits: ClientLimits,
    /// How long one attempt to connect may take.
    pub connect_max: Duration,
    /// Shortest and longest pause between attempts; each is drawn between zero and a bound that doubles.
    pub backoff_min: Duration,
    /// See `backoff_min`.
    pub backoff_max: Duration,
    /// How long to go on without any progress before giving up; `None`: for ever.
    pub give_up_after: Option<Duration>,
    /// Rows after which a client sends them as a batch, from 1 to 65,536.
    pub batch_rows: usize,
    /// Age of the first of them after which it does so anyway, whether more rows come or not.
    pub batch_age: Duration,
    /// How long a batch is worth anything, from the call that sends it, or from when rows become one; `None`: for ever.
    pub batch_life: Option<Duration>,
}

impl ClientConfig {
    /// One lane, number 0, with patience without end, that goes on behind what the server has.
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
            lanes: Lanes::Of(1),
            lane_step: 1,
            routing: Routing::RoundRobin,
            resume: Resume::GoOn,
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

    /// When a batch that is accepted at `now` is worth nothing any more.
    pub(crate) fn deadline(&self, now: SystemTime) -> EventTime {
        match self.batch_life.and_then(|life| now.checked_add(life)) {
            Some(deadline) => event_time(deadline),
            None => EventTime::MAX,
        }
    }

    /// The settings of one of `count` lanes: its number, and its share of what may be under way.
    pub(crate) fn of_lane(&self, at: u32, count: u32) -> ClientConfig {
        let mut config = self.clone();
        config.lane.lane += at * self.lane_step;
        config.limits.batches_max = (self.limits.batches_max / count as usize).max(1);
        config.limits.bytes_max = self.limits.bytes_max / u64::from(count);
        config
    }

    /// Whether a client can do what it is told here.
    pub(crate) fn check(&self, fields: usize) -> Result<(), SendError> {
        let wrong = |text: &str| Err(SendError::Settings(text.to_owned()));
        let lanes = match self.lanes {
            Lanes::Of(lanes) => lanes,
            Lanes::PerShard => LANES_MAX,
        };
        let last = u64::from(self.lane.lane) + u64::from(lanes) * u64::from(self.lane_step);
        if !(1..=NAME_SIZE_MAX).contains(&self.lane.producer.len()) {
            return wrong("a producer's name has 1 to 256 bytes");
        }
        if self.lane.credentials.len() > CREDENTIALS_SIZE_MAX {
            return wrong("credentials have at most 2048 bytes");
        }
        if !(1..=LANES_MAX).contains(&lanes) {
            return wrong("a client has 1 to 1024 lanes");
        }
        if self.lane_step == 0 || last > u64::from(u32::MAX / 2) {
            return wrong("lanes have different numbers below 2^31");
        }
        if !(1..=BATCH_ROWS_MAX).contains(&self.batch_rows) {
            return wrong("a batch has 1 to 65536 rows");
        }
        match &self.routing {
            Routing::ByKey(key) if key.is_empty() => wrong("a key has at least one field"),
            Routing::ByKey(key) if key.iter().any(|field| *field >= fields) => {
                wrong("a key is made of the stream's fields")
            }
            _ => Ok(()),
        }
    }
}
