//! One lane to a server: offered batches become durable there, whatever happens to connections in between.
//!
//! Bytes and time-outs of a session are the lane's (`corefold_shards::session::client`); here it is decided when to
//! connect, to wait and to give up.

use crate::backoff::Backoff;
use crate::batch::event_time;
use crate::bell::{Bell, pause};
use crate::config::ClientConfig;
use crate::error::SendError;
use crate::link::{Link, LinkError};
use crate::metrics::Metrics;
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::session::client::ClientError;
use corefold_shards::session::{ClientEvent, ClientLane, LANE_END, Level, Now, Place};
use std::collections::BTreeSet;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

/// Longest wait between looks at the clock.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Makes connections other than by name and port: to a server in the same process, for example.
pub type Connector = Box<dyn FnMut() -> io::Result<TcpStream> + Send>;

struct Way(Option<Connector>);

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "by a connector" } else { "by name" })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Producer {
    config: ClientConfig,
    way: Way,
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
    /// What it was last heard to have received, and to have written.
    heard: (u64, u64),
    batch_size_max: usize,
    place: Place,
    /// Where the lane's shard can be found, and whether to try there. After a restart it may be gone; so they take
    /// turns.
    door: Option<String>,
    is_door_next: bool,
    /// Batches that the server has shed and that are not known to be durable: after a crash it sheds them again.
    shed: BTreeSet<u64>,
    /// The last batch that was offered is the end of the lane.
    ends_lane: bool,
    /// It has done so before.
    was_welcome: bool,
}

impl Producer {
    /// Connects, and waits until the server has said where to go on.
    pub fn connect(config: ClientConfig) -> Result<Producer, SendError> {
        Producer::begin(config, None).welcomed()
    }

    /// The same over connections that `connector` makes; the server in the config is only a name in messages then.
    pub fn connect_by(config: ClientConfig, connector: Connector) -> Result<Producer, SendError> {
        Producer { way: Way(Some(connector)), ..Producer::begin(config, None) }.welcomed()
    }

    fn welcomed(mut self) -> Result<Producer, SendError> {
        while !self.lane.is_welcome() {
            self.turn(LOOK_EVERY)?;
        }
        Ok(self)
    }

    /// A producer that has not said anything. `door` is tried before the server's common address.
    pub(crate) fn begin(config: ClientConfig, door: Option<String>) -> Producer {
        let started = Instant::now();
        let seed = wall().0.cast_unsigned() ^ u64::from(std::process::id()) << 32 ^ u64::from(config.lane.lane);
        Producer {
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
            heard: (0, 0),
            way: Way(None),
            batch_size_max: usize::MAX,
            place: Place::default(),
            door,
            is_door_next: true,
            shed: BTreeSet::new(),
            ends_lane: false,
            was_welcome: false,
            config,
        }
    }

    /// Whether the server has let us in.
    pub fn is_welcome(&self) -> bool {
        self.lane.is_welcome()
    }

    /// Most bytes of a batch that the server takes.
    pub fn batch_size_max(&self) -> usize {
        self.batch_size_max
    }

    /// Where the lane lives, as the server said last.
    pub fn place(&self) -> Place {
        self.place
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

    /// Batches below this number are durable.
    pub fn durable(&self) -> u64 {
        self.lane.durable()
    }

    /// What has happened so far.
    pub fn metrics(&self) -> Metrics {
        let ends = u64::from(self.lane.underway() > 0 && self.ends_lane);
        let underway = self.lane.underway() as u64 - ends - self.shed.range(self.lane.durable()..).count() as u64;
        let Metrics { batches_offered, batches_known, batches_shed, .. } = self.metrics;
        Metrics {
            batches_durable: batches_offered - batches_known - batches_shed - underway,
            batches_underway: underway,
            bytes_underway: self.lane.underway_bytes(),
            ..self.metrics
        }
    }

    /// What the config says.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Every batch below this number has come as far as `level` at the server.
    pub fn reached(&self, level: Level) -> u64 {
        let durable = self.lane.durable();
        match level {
            Level::Received => durable.max(self.heard.0),
            Level::Written => durable.max(self.heard.1),
            Level::Durable => durable,
        }
    }

    /// Batches that are under way.
    pub fn underway(&self) -> usize {
        self.lane.underway()
    }

    /// Whether a batch would be taken without waiting.
    pub fn has_room(&self) -> bool {
        self.lane.has_room()
    }

    /// How long to go on without any progress from now on; `None`: for ever.
    pub fn set_patience(&mut self, patience: Option<Duration>) {
        self.config.give_up_after = patience;
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

    /// Goes on behind everything that the server has of this lane, for a producer that has nothing of it any more:
    /// what is sent from now on is new. Without this, or [`Producer::pass`], a producer begins with batch 0 again,
    /// and what the server has counts as sent.
    ///
    /// Panics if something was offered already.
    pub fn go_on(&mut self) -> Result<(), SendError> {
        assert_eq!(self.lane.underway(), 0, "a producer goes on before it sends");
        while !self.has_gone_on() {
            self.turn(LOOK_EVERY)?;
        }
        Ok(())
    }

    /// Goes on behind what the server has, if all of that is durable.
    pub(crate) fn has_gone_on(&mut self) -> bool {
        if !self.lane.is_welcome() {
            return false;
        }
        // What was received and is not durable yet has no other copy: it is waited for.
        if self.lane.known() < self.received {
            self.drop_link("batches of an earlier life are not durable yet".to_owned());
            return false;
        }
        while self.lane.next_sequence() < self.lane.known() {
            self.lane.pass();
        }
        true
    }

    /// Passes over what the server has below `sequence`, without counting it.
    pub(crate) fn pass_to(&mut self, sequence: u64) -> Result<(), SendError> {
        while self.lane.next_sequence() < sequence {
            if self.lane.next_sequence() >= self.lane.known() {
                let error = ClientError::Lost { from: self.lane.known(), to: sequence - 1 };
                return Err(SendError::Lost { server: self.config.server.clone(), error });
            }
            self.lane.pass();
        }
        Ok(())
    }

    /// The batches below `sequence` that were shed; they are forgotten.
    pub(crate) fn take_shed(&mut self, sequence: u64) -> BTreeSet<u64> {
        let later = self.shed.split_off(&sequence);
        std::mem::replace(&mut self.shed, later)
    }

    /// Whether the lane was ended in an earlier life of this producer: all of it is durable.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Offers a batch, waiting while as much is under way as may be. Returns its number.
    pub fn send(&mut self, bytes: AlignedBytes, rows: u64, rejected: u32) -> Result<u64, SendError> {
        let deadline = self.config.deadline(SystemTime::now());
        self.offer(bytes, rows, rejected, deadline, 0)
    }

    /// The same with all that the stamp may hold.
    pub(crate) fn offer(
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
        // Those that are durable by now were of use to nobody.
        while self.shed.len() > self.config.limits.batches_max.saturating_mul(4) {
            self.shed.pop_first();
        }
        self.ends_lane = position == LANE_END;
        self.metrics.batches_offered += u64::from(!self.ends_lane);
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
        self.leave()?;
        Ok(self.metrics())
    }

    /// Says goodbye. Everything is durable: a connection that breaks now need not be mended.
    pub(crate) fn leave(&mut self) -> Result<(), SendError> {
        self.lane.leave();
        while self.link.is_some() && !self.is_over {
            self.turn(LOOK_EVERY)?;
        }
        Ok(())
    }

    /// Moves on: connects if it is time, writes, reads, and waits for at most `max` if nothing can be done.
    pub fn turn(&mut self, max: Duration) -> Result<(), SendError> {
        self.turn_or_hear(max, None)
    }

    /// The same; a bell ends the wait too.
    pub(crate) fn turn_or_hear(&mut self, max: Duration, bell: Option<&Bell>) -> Result<(), SendError> {
        if self.link.is_none() && !self.try_connect(max, bell)? {
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
            && let Err(error) = link.wait(wants_write, max.min(LOOK_EVERY), bell)
        {
            return self.lose(error.into());
        }
        self.check_patience()
    }

    fn try_connect(&mut self, max: Duration, bell: Option<&Bell>) -> Result<bool, SendError> {
        let now = Instant::now();
        if now < self.try_at {
            pause(bell, (self.try_at - now).min(max))?;
            self.check_patience()?;
            return Ok(false);
        }
        let door = self.door.as_ref().filter(|_| self.is_door_next);
        let (server, tls) = (door.unwrap_or(&self.config.server), self.config.tls.as_ref());
        let opened = match &mut self.way.0 {
            None => Link::open(server, self.config.connect_max, tls),
            Some(connector) => connector().and_then(Link::over),
        };
        match opened {
            Ok(link) => {
                self.metrics.connections += 1;
                self.link = Some(link);
                self.lane.connect(self.now());
                Ok(true)
            }
            Err(error) => {
                self.is_door_next = !self.is_door_next;
                self.lose(error.into())?;
                Ok(false)
            }
        }
    }

    fn take_events(&mut self) -> Result<(), SendError> {
        for event in std::mem::take(&mut self.events) {
            if let ClientEvent::Welcome(welcome) = &event {
                self.received = welcome.next;
                self.heard = (welcome.durable, welcome.durable);
                self.batch_size_max = welcome.batch_size_max as usize;
                self.place = welcome.place;
                self.was_welcome = true;
                self.has_ended = welcome.has_ended && welcome.durable == welcome.next;
            }
            if let ClientEvent::Progress(progress) = &event {
                self.heard = (progress.received, progress.written);
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
                ClientEvent::Refused(refusal) if !refusal.code.ends_session() => {
                    let is_new = refusal.sequence.is_some_and(|sequence| self.shed.insert(sequence));
                    self.metrics.batches_shed += u64::from(is_new);
                }
                ClientEvent::Refused(refusal) if refusal.code.is_retryable() || self.lane.may_insist(&refusal) => {
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
    event_time(SystemTime::now())
}
