//! The client of the network scenario: one producer that sends ready batches, as fast as they are taken or by a clock, and
//! notes when each has become durable.
//!
//! What it sends is in [`super::templates`].

use super::server::{Server, TlsPair};
use super::templates::{Templates, stream};
use crate::scenario::BenchError;
use crate::scenario::events::START_US;
use crate::scenario::program::processor_time;
use corefold_client::{ClientConfig, Producer, SendError, TlsConfig, TlsFiles};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::{Duration, Instant};

/// Event time of a closed loop: so many events make a second of it, however long they take.
const CLOSED_RATE: f64 = 20e6;

/// Share of the time that warms up and is not counted: one part in so many.
const WARM_SHARE: u32 = 10;

/// How long everything may take to become durable once nothing more is sent.
const PATIENCE: Duration = Duration::from_secs(120);

/// How batches are sent.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Events due per second; `None`: as many as are taken.
    pub rate: Option<f64>,
    /// For how long.
    pub length: Duration,
    /// Most batches that are sent and not durable.
    pub inflight: usize,
}

/// What was found. Rates, processor times and latencies are of the time after the warm-up.
pub struct Sent {
    /// Batches that were sent, all of them durable.
    pub batches: u64,
    /// Durable events per second.
    pub rate: f64,
    /// Events that were durable within the measured time.
    pub events: f64,
    /// Processor seconds of the server in that time.
    pub server_cpu_s: f64,
    /// Those of the client's thread.
    pub client_cpu_s: f64,
    /// Nanoseconds from due to durable.
    pub latency: Histogram<u64>,
}

impl Pace {
    /// Event time of the first event of batch `number`: the clock's where there is one.
    pub fn start_of(&self, number: u64, rows: usize) -> i64 {
        START_US + (number as f64 * rows as f64 * 1e6 / self.rate.unwrap_or(CLOSED_RATE)) as i64
    }
}

/// Sends at that pace until the time is over and everything is durable.
pub fn drive(server: &Server, templates: &Templates, pace: Pace, tls: Option<&TlsPair>) -> Result<Sent, BenchError> {
    // By default a sleep may last 50 us longer than it was told, which would be taken for latency.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let mut config = ClientConfig::new(&server.address, "bench", stream(templates.has_values).fingerprint());
    (config.limits.batches_max, config.limits.bytes_max) = (pace.inflight, u64::MAX);
    config.give_up_after = Some(PATIENCE);
    if let Some(TlsPair { cert, .. }) = tls {
        let files = TlsFiles { ca: cert.clone(), name: Some(TlsPair::NAME.to_owned()), identity: None };
        config.tls = Some(TlsConfig::load(&files).map_err(BenchError::failed("TLS"))?);
    }
    let mut sender = Sender {
        producer: Producer::connect(config).map_err(|error| lost(server, &error))?,
        server,
        templates,
        pace,
        began: Instant::now(),
        due: VecDeque::with_capacity(pace.inflight + 1),
        sent: 0,
        durable: 0,
        latency: Histogram::new(3).map_err(BenchError::failed("a histogram"))?,
    };
    let (warm, end) = sender.send_all()?;
    let Sender { producer, sent, latency, .. } = sender;
    let metrics = producer.close().map_err(|error| lost(server, &error))?;
    if (metrics.batches_durable, metrics.batches_shed, metrics.connections) != (sent, 0, 1) {
        return Err(server.failed(&format!("{sent} batches were sent, and this came of it: {metrics:?}")));
    }
    let events = (end.durable - warm.durable) as f64 * templates.rows as f64;
    Ok(Sent {
        batches: sent,
        rate: events / (end.at - warm.at).as_secs_f64(),
        events,
        server_cpu_s: end.server_cpu_s - warm.server_cpu_s,
        client_cpu_s: end.client_cpu_s - warm.client_cpu_s,
        latency,
    })
}

fn lost(server: &Server, error: &SendError) -> BenchError {
    server.failed(&error.to_string())
}

/// How far things were at a moment.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    durable: u64,
    server_cpu_s: f64,
    client_cpu_s: f64,
}

struct Sender<'a> {
    producer: Producer,
    server: &'a Server,
    templates: &'a Templates,
    pace: Pace,
    began: Instant,
    /// When the batches were due that are not durable.
    due: VecDeque<Instant>,
    sent: u64,
    durable: u64,
    latency: Histogram<u64>,
}

impl Sender<'_> {
    /// Returns how far things were after the warm-up, and when nothing more was sent.
    fn send_all(&mut self) -> Result<(Mark, Mark), BenchError> {
        let (warm_at, end_at) = (self.pace.length / WARM_SHARE, self.pace.length);
        let (mut warm, mut end) = (None, None);
        loop {
            let elapsed = self.began.elapsed();
            if warm.is_none() && elapsed >= warm_at {
                warm = Some(self.mark());
            }
            let is_over = self.is_over(elapsed);
            if end.is_none() && is_over && elapsed >= end_at {
                end = Some(self.mark());
            }
            while !self.is_over(self.began.elapsed()) && self.has_room() && self.rest().is_zero() {
                self.send_one()?;
            }
            if let (Some(warm), Some(end)) = (warm, end)
                && self.due.is_empty()
            {
                return Ok((warm, end));
            }
            if elapsed > end_at + PATIENCE {
                let waiting = self.due.len();
                return Err(self.server.failed(&format!("{waiting} batches did not become durable in time")));
            }
            let rest = if self.has_room() { self.rest() } else { Duration::from_millis(1) };
            self.turn(rest.clamp(Duration::from_micros(1), Duration::from_millis(1)))?;
        }
    }

    /// Whether no more batches are to be sent. Of an open loop each batch is, however late it has become.
    fn is_over(&self, elapsed: Duration) -> bool {
        match self.pace.rate {
            None => elapsed >= self.pace.length,
            Some(_) => self.due_at(self.sent) >= self.began + self.pace.length,
        }
    }

    fn has_room(&self) -> bool {
        self.due.len() < self.pace.inflight
    }

    /// When batch `number` is due; now where there is no clock.
    fn due_at(&self, number: u64) -> Instant {
        match self.pace.rate {
            None => Instant::now(),
            Some(rate) => self.began + Duration::from_secs_f64(number as f64 * self.templates.rows as f64 / rate),
        }
    }

    /// Until the next batch is due.
    fn rest(&self) -> Duration {
        match self.pace.rate {
            None => Duration::ZERO,
            Some(_) => self.due_at(self.sent).saturating_duration_since(Instant::now()),
        }
    }

    fn send_one(&mut self) -> Result<(), BenchError> {
        let due = self.due_at(self.sent);
        let mut memory = self.producer.spare();
        let rows = self.templates.rows;
        self.templates.copy(self.sent, self.pace.start_of(self.sent, rows), &mut memory);
        self.due.push_back(due);
        self.sent += 1;
        let offered = self.producer.send(memory, rows as u64, 0);
        offered.map_err(|error| lost(self.server, &error))?;
        self.note_durable()
    }

    fn turn(&mut self, rest: Duration) -> Result<(), BenchError> {
        self.producer.turn(rest).map_err(|error| lost(self.server, &error))?;
        self.note_durable()
    }

    fn note_durable(&mut self) -> Result<(), BenchError> {
        let durable = self.producer.metrics().batches_durable;
        if durable == self.durable {
            return Ok(());
        }
        let (now, warm) = (Instant::now(), self.began + self.pace.length / WARM_SHARE);
        for _ in self.durable..durable {
            let due = self.due.pop_front();
            let due = due.ok_or_else(|| BenchError::Failed("more became durable than was sent".to_owned()))?;
            if due >= warm {
                let waited = now.saturating_duration_since(due).as_nanos() as u64;
                self.latency.record(waited).map_err(BenchError::failed("a latency"))?;
            }
        }
        self.durable = durable;
        Ok(())
    }

    fn mark(&self) -> Mark {
        Mark {
            at: Instant::now(),
            durable: self.durable,
            server_cpu_s: self.server.cpu_s(),
            client_cpu_s: processor_time(Path::new("/proc/thread-self")).unwrap_or(0.0),
        }
    }
}
