//! One lane to a server: offered batches become durable there, whatever happens to connections in between.
//!
//! Bytes and time-outs of a session are the lane's (`corefold_shards::session::client`); here it is decided when to
//! connect, to wait and to give up.

use crate::backoff::Backoff;
use crate::config::ClientConfig;
use crate::link::{Link, LinkError};
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::session::client::{ClientError, OfferError};
use corefold_shards::session::{ClientEvent, ClientLane, LANE_END, Now, Refusal};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest wait between looks at the clock.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why a producer cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The server refuses for good.
    #[error("{server} refuses: {refusal}")]
    Refused {
        /// Which server.
        server: String,
        /// What it says.
        refusal: Refusal,
    },
    /// No progress for as long as the caller had patience.
    #[error("{server}: no progress for {seconds} s; the last reason: {reason}")]
    GaveUp {
        /// Which server.
        server: String,
        /// How long.
        seconds: u64,
        /// What went wrong last.
        reason: String,
    },
    /// The server has lost what it had acknowledged.
    #[error("{server}: {error}")]
    Lost {
        /// Which server.
        server: String,
        /// What is lost.
        error: ClientError,
    },
    /// TLS has not come about: whom to trust, or what to show, has to be mended first.
    #[error("{server}: {reason}")]
    Tls {
        /// Which server.
        server: String,
        /// What is wrong.
        reason: String,
    },
    /// A batch cannot be sent.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// Rows cannot become a batch.
    #[error("a batch cannot be made: {0}")]
    Encode(#[from] corefold_shards::batch::EncodeError),
    /// A row does not have the fields of the stream.
    #[error("a row does not fit the stream: {0}")]
    Row(&'static str),
}

/// What has happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Metrics {
    /// Batches that were offered, those passed over among them.
    pub batches_offered: u64,
    /// Batches that the server had before.
    pub batches_known: u64,
    /// Batches that are durable.
    pub batches_durable: u64,
    /// Batches that the server has shed because their deadline had passed.
    pub batches_shed: u64,
    /// Rows that were offered, but for those of batches that were passed over.
    pub rows_offered: u64,
    /// Bytes of offered batches.
    pub bytes_offered: u64,
    /// Connections that were opened.
    pub connections: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Producer {
    config: ClientConfig,
    lane: ClientLane,
    link: Option<Link>,
    backoff: Backoff,
    /// When to try to connect again.
    try_at: Instant,
    started: Instant,
    progressed: Instant,
    reason: String,
    metrics: Metrics,
    events: Vec<ClientEvent>,
    /// The server has said goodbye to ours.
    is_over: bool,
    has_ended: bool,
    /// What the server had received when it let us in.
    received: u64,
    /// It has done so before.
    was_welcome: bool,
}

impl Producer {
    /// Connects, and waits until the server has said where to go on.
    pub fn connect(config: ClientConfig) -> Result<Producer, SendError> {
        let started = Instant::now();
        let seed = wall().0.cast_unsigned() ^ u64::from(std::process::id()) << 32;
        let mut producer = Producer {
            lane: ClientLane::new(config.lane.clone(), config.limits),
            link: None,
            backoff: Backoff::new(config.backoff_min, config.backoff_max, seed),
            try_at: started,
            started,
            progressed: started,
            reason: String::new(),
            metrics: Metrics::default(),
            events: Vec::new(),
            is_over: false,
            has_ended: false,
            received: 0,
            was_welcome: false,
            config,
        };
        while !producer.lane.is_welcome() {
            producer.turn(LOOK_EVERY)?;
        }
        Ok(producer)
    }

    /// Batches below this number are durable from an earlier life of this producer. While the next one is below it,
    /// [`Producer::pass`] is enough.
    pub fn known(&self) -> u64 {
        self.lane.known()
    }

    /// Number of the next batch.
    pub fn next_sequence(&self) -> u64 {
        self.lane.next_sequence()
    }

    /// What has happened so far.
    pub fn metrics(&self) -> Metrics {
        Metrics { batches_durable: self.lane.durable(), ..self.metrics }
    }

    /// What the config says.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Memory for a batch.
    pub fn spare(&mut self) -> AlignedBytes {
        let mut spare = self.lane.spare();
        spare.clear();
        spare
    }

    /// Counts a batch that the server has, without sending it. It must be the same as it was then.
    pub fn pass(&mut self) {
        self.lane.pass();
        self.metrics.batches_offered += 1;
        self.metrics.batches_known += 1;
    }

    /// Goes on behind everything that the server has of this lane, for a producer that has nothing of it any more: what is
    /// sent from now on is new. Without this, or [`Producer::pass`], a producer begins with batch 0 again, and what the
    /// server has counts as sent.
    ///
    /// Panics if something was offered already.
    pub fn go_on(&mut self) -> Result<(), SendError> {
        assert_eq!(self.lane.underway(), 0, "a producer goes on before it sends");
        // What was received and is not durable yet has no other copy: it is waited for.
        while !self.lane.is_welcome() || self.lane.known() < self.received {
            if self.lane.is_welcome() {
                self.drop_link("batches of an earlier life are not durable yet".to_owned());
            }
            self.turn(LOOK_EVERY)?;
        }
        while self.lane.next_sequence() < self.lane.known() {
            self.lane.pass();
        }
        Ok(())
    }

    /// Whether the lane was ended in an earlier life of this producer: all of it is durable.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Offers a batch, waiting while as much is under way as may be. Returns its number.
    pub fn send(&mut self, bytes: AlignedBytes, rows: u64, rejected: u32) -> Result<u64, SendError> {
        let deadline = match self.config.batch_life {
            Some(life) => EventTime(wall().0.saturating_add(life.as_micros() as i64)),
            None => EventTime::MAX,
        };
        self.offer(bytes, rows, rejected, deadline, 0)
    }

    fn offer(
        &mut self,
        bytes: AlignedBytes,
        rows: u64,
        rejected: u32,
        deadline: EventTime,
        position: u64,
    ) -> Result<u64, SendError> {
        while !self.lane.has_room() {
            self.turn(LOOK_EVERY)?;
        }
        let size = bytes.len() as u64;
        let sequence = self.lane.offer(bytes, rejected, deadline, position)?;
        // The end of a lane is no batch to its owner.
        self.metrics.batches_offered += u64::from(position != LANE_END);
        self.metrics.rows_offered += rows;
        self.metrics.bytes_offered += size;
        self.turn(Duration::ZERO)?;
        Ok(sequence)
    }

    /// Waits until everything that was offered is durable.
    pub fn flush(&mut self) -> Result<(), SendError> {
        while self.lane.underway() > 0 {
            self.turn(LOOK_EVERY)?;
        }
        Ok(())
    }

    /// Ends the lane for good with `bytes`, a batch without rows: nothing will ever be sent in it again.
    pub fn end(&mut self, bytes: AlignedBytes) -> Result<(), SendError> {
        self.offer(bytes, 0, 0, EventTime::MAX, LANE_END)?;
        self.flush()
    }

    /// Waits until everything is durable, and says goodbye.
    pub fn close(mut self) -> Result<Metrics, SendError> {
        self.flush()?;
        // Everything is safe: a connection that breaks now need not be mended.
        self.lane.leave();
        while self.link.is_some() && !self.is_over {
            self.turn(LOOK_EVERY)?;
        }
        Ok(self.metrics())
    }

    /// Moves on: connects if it is time, writes, reads, and waits for at most `max` if nothing can be done.
    pub fn turn(&mut self, max: Duration) -> Result<(), SendError> {
        if self.link.is_none() && !self.try_connect(max)? {
            return Ok(());
        }
        let now = self.now();
        let Some(link) = &mut self.link else { return Ok(()) };
        let turned = link.turn(&mut self.lane, now, &mut self.events);
        // What was said before a connection broke counts.
        self.take_events()?;
        let moved = match turned {
            Ok(moved) => moved,
            Err(error) => return self.lose(error),
        };
        if let Err(error) = self.lane.check_time(now) {
            return self.lose(LinkError::Session(error));
        }
        if moved || max.is_zero() {
            return Ok(());
        }
        let wants_write = !self.lane.output().is_empty();
        if let Some(link) = &self.link
            && let Err(error) = link.wait(wants_write, max.min(LOOK_EVERY))
        {
            return self.lose(error.into());
        }
        self.check_patience()
    }

    fn try_connect(&mut self, max: Duration) -> Result<bool, SendError> {
        let now = Instant::now();
        if now < self.try_at {
            std::thread::sleep((self.try_at - now).min(max));
            self.check_patience()?;
            return Ok(false);
        }
        match Link::open(&self.config.server, self.config.connect_max, self.config.tls.as_ref()) {
            Ok(link) => {
                self.metrics.connections += 1;
                self.link = Some(link);
                self.lane.connect(self.now());
                Ok(true)
            }
            Err(error) => {
                self.lose(error.into())?;
                Ok(false)
            }
        }
    }

    fn take_events(&mut self) -> Result<(), SendError> {
        for event in std::mem::take(&mut self.events) {
            if let ClientEvent::Welcome(welcome) = &event {
                self.received = welcome.next;
                self.was_welcome = true;
                self.has_ended = welcome.has_ended && welcome.durable == welcome.next;
            }
            match event {
                ClientEvent::Welcome(_) | ClientEvent::Progress(_) => {
                    self.progressed = Instant::now();
                    self.backoff.reset();
                }
                ClientEvent::Goodbye => {
                    self.is_over = true;
                    self.link = None;
                    self.lane.disconnect();
                }
                ClientEvent::Refused(refusal) if !refusal.code.ends_session() => self.metrics.batches_shed += 1,
                ClientEvent::Refused(refusal) if refusal.code.is_retryable() => {
                    self.drop_link(refusal.text);
                }
                ClientEvent::Refused(refusal) => {
                    return Err(SendError::Refused { server: self.config.server.clone(), refusal });
                }
            }
        }
        Ok(())
    }

    /// The connection is gone; another one is tried after a pause.
    fn lose(&mut self, error: LinkError) -> Result<(), SendError> {
        match error {
            LinkError::Session(error @ ClientError::Lost { .. }) => {
                return Err(SendError::Lost { server: self.config.server.clone(), error });
            }
            LinkError::Session(error) => self.drop_link(error.to_string()),
            // A wrong certificate does not get better by waiting. Later it may be a server in the middle of a change.
            LinkError::Io(error) if error.kind() == std::io::ErrorKind::InvalidData && !self.was_welcome => {
                return Err(SendError::Tls { server: self.config.server.clone(), reason: error.to_string() });
            }
            // After a refusal that may be tried again, the pause is set already.
            LinkError::Io(error) => self.drop_link(error.to_string()),
        }
        self.check_patience()
    }

    fn drop_link(&mut self, reason: String) {
        self.link = None;
        self.lane.disconnect();
        self.reason = reason;
        self.try_at = Instant::now() + self.backoff.pause();
    }

    fn check_patience(&self) -> Result<(), SendError> {
        let Some(patience) = self.config.give_up_after else { return Ok(()) };
        let waited = self.progressed.elapsed();
        // A server that is there and full is no reason to give up: it lets nobody down.
        if waited <= patience || self.lane.is_welcome() {
            return Ok(());
        }
        let reason = if self.reason.is_empty() { "no answer".to_owned() } else { self.reason.clone() };
        Err(SendError::GaveUp { server: self.config.server.clone(), seconds: waited.as_secs(), reason })
    }

    fn now(&self) -> Now {
        Now { steady_ns: self.started.elapsed().as_nanos() as u64, wall: wall() }
    }
}

/// The wall clock.
fn wall() -> EventTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    EventTime(since.map_or(0, |since| since.as_micros() as i64))
}
