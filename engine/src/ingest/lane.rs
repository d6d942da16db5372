//! A lane from within the process: rows in, batches through the engine's own door, and word when they have come far
//! enough.
//!
//! Credit, order, what is durable and where to go on are the protocol's, as for any producer elsewhere. Threads and
//! queues are in `worker` and `udp`.

use super::cells::append;
use super::counts::WayCounts;
use super::rows::{SET_BYTES_MAX, bytes_of, rows_max};
use crate::error::EngineError;
use crate::lifecycle::Lifecycle;
use crate::links::Shared;
use corefold_aggregator::spec::{Field, FieldType};
use corefold_client::{ClientConfig, Connector, Level, Producer, SendError};
use corefold_shards::batch::{ColumnSet, Encoder, Stamp};
use corefold_shards::session::client::OfferError;
use crossbeam_channel::Sender;
use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long to wait for the door before looking whether the engine still runs.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Pause between looks while the engine is starting.
const PAUSE: Duration = Duration::from_millis(5);

/// How long to wait for room, or for word, before looking again.
const TURN: Duration = Duration::from_millis(1);

/// Told when rows have come as far as asked for; dropped without a word if that is not known.
pub type Receipt = oneshot::Sender<Result<(), String>>;

/// What a lane is.
#[derive(Debug)]
pub struct LanePlan {
    /// Its producer's name: the same over all restarts.
    pub name: String,
    /// Of its stream.
    pub fingerprint: u64,
    /// Columns of its stream.
    pub fields: Vec<Field>,
    /// Most rows of a batch.
    pub batch_rows: u32,
    /// Age after which a small batch is sent.
    pub batch_age: Duration,
    /// How far rows must have come before receipts are given out.
    pub level: Level,
    /// To the door.
    pub door: Sender<TcpStream>,
    /// What became of what came.
    pub counts: Arc<WayCounts>,
    /// The engine.
    pub shared: Arc<Shared<EngineError>>,
}

impl LanePlan {
    /// Whether the engine has stopped, and nothing sent will be taken.
    pub fn is_over(&self) -> bool {
        self.shared.lifecycle.is_stopped()
    }

    /// A connection to the door: one end of a pair of sockets, the other one is taken in as if it had been accepted.
    fn connector(&self) -> Connector {
        let door = self.door.clone();
        Box::new(move || {
            let (ours, theirs) = UnixStream::pair()?;
            theirs.set_nonblocking(true)?;
            let gone = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the door is closed");
            door.try_send(TcpStream::from(OwnedFd::from(theirs))).map_err(gone)?;
            Ok(TcpStream::from(OwnedFd::from(ours)))
        })
    }
}

/// Why rows do not go on.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Over,
    /// The engine refuses.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// See the module.
pub struct Lane {
    plan: Arc<LanePlan>,
    producer: Producer,
    columns: ColumnSet,
    encoder: Encoder,
    rows_max: usize,
    began: Option<Instant>,
    /// Of rows in the open batch.
    open: Vec<Receipt>,
    /// Of batches under way, each with the number below which all must have come.
    waiting: VecDeque<(u64, Vec<Receipt>)>,
}

impl Lane {
    /// Opens the lane and goes on behind what the engine has of it; waits until the door is open.
    pub fn open(plan: &Arc<LanePlan>) -> Result<Lane, LaneError> {
        let producer = loop {
            match plan.shared.lifecycle.get() {
                Lifecycle::Stopped => return Err(LaneError::Over),
                // The door opens later.
                Lifecycle::Init => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Lifecycle::Running | Lifecycle::Paused => {}
            }
            let mut config = ClientConfig::new("the engine itself", &plan.name, plan.fingerprint);
            config.lane.level = plan.level;
            config.give_up_after = Some(LOOK_EVERY);
            config.backoff_max = config.backoff_min;
            let opened = Producer::connect_by(config, plan.connector()).and_then(|mut producer| {
                producer.go_on()?;
                Ok(producer)
            });
            match opened {
                Ok(mut producer) => {
                    // Whether to wait on is decided here from now on.
                    producer.set_patience(None);
                    break producer;
                }
                Err(SendError::GaveUp { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let kinds: Vec<FieldType> = plan.fields.iter().map(|field| field.kind).collect();
        Ok(Lane {
            plan: Arc::clone(plan),
            producer,
            rows_max: rows_max(plan.batch_rows, kinds.len()),
            columns: ColumnSet::new(&kinds),
            encoder: Encoder::new(),
            began: None,
            open: Vec::new(),
            waiting: VecDeque::new(),
        })
    }

    /// Whether a batch would be taken now.
    pub fn has_room(&self) -> bool {
        self.producer.has_room()
    }

    /// How long to wait for more rows before the next [`Lane::turn`].
    pub fn patience(&self) -> Duration {
        if self.producer.underway() > 0 || !self.waiting.is_empty() {
            return TURN;
        }
        let left = |began: Instant| self.plan.batch_age.saturating_sub(began.elapsed());
        self.began.map_or(Duration::from_millis(20), left)
    }

    /// Takes rows in; [`Lane::turn`] is to follow, now and then. Who has a `receipt` is told once these, and all before, have come far enough.
    pub fn take(&mut self, mut columns: ColumnSet, receipt: Option<Receipt>) -> Result<(), LaneError> {
        if columns.rows() > 0 || columns.rejected > 0 {
            self.plan.counts.rows.add(columns.rows() as u64);
            let is_full = self.columns.rows() + columns.rows() > self.rows_max
                || bytes_of(&self.columns) + bytes_of(&columns) > 2 * SET_BYTES_MAX;
            if is_full || append(&mut self.columns, &columns).is_err() {
                self.send()?;
                std::mem::swap(&mut self.columns, &mut columns);
            }
            self.began.get_or_insert_with(Instant::now);
        }
        match receipt {
            None => {}
            Some(receipt) if self.began.is_some() => self.open.push(receipt),
            Some(receipt) => self.waiting.push_back((self.producer.next_sequence(), vec![receipt])),
        }
        if self.columns.rows() >= self.rows_max { self.send() } else { Ok(()) }
    }

    /// Sends a batch that is due, and hears what has become of others. A batch is due at its age, and at once if someone
    /// waits for it and nothing is under way: then what comes meanwhile goes together.
    pub fn turn(&mut self) -> Result<(), LaneError> {
        let is_due = match self.began {
            None => false,
            Some(began) => {
                began.elapsed() >= self.plan.batch_age || (!self.open.is_empty() && self.producer.underway() == 0)
            }
        };
        // Without room a batch waits and grows; who has more than fits into it waits in `send`.
        if is_due && self.producer.has_room() {
            self.send()?;
        }
        self.producer.turn(Duration::ZERO)?;
        self.settle();
        Ok(())
    }

    /// Sends the open batch, waiting for room as long as the engine runs.
    pub fn send(&mut self) -> Result<(), LaneError> {
        if self.began.take().is_none() {
            return Ok(());
        }
        while !self.producer.has_room() {
            if self.plan.is_over() {
                return Err(LaneError::Over);
            }
            self.producer.turn(TURN)?;
            self.settle();
        }
        let (rows, rejected) = (self.columns.rows() as u64, self.columns.rejected);
        let mut bytes = self.producer.spare();
        let stamp = Stamp::of_lane(0, 0, 0);
        let encoded = self.encoder.encode(&self.columns, self.plan.fingerprint, &stamp, &mut bytes);
        self.columns.clear();
        let receipts = std::mem::take(&mut self.open);
        let sent = encoded.map_err(SendError::from).and_then(|()| self.producer.send(bytes, rows, rejected));
        match sent {
            Ok(sequence) => {
                if !receipts.is_empty() {
                    self.waiting.push_back((sequence + 1, receipts));
                }
                self.settle();
                Ok(())
            }
            // Only these rows are concerned.
            Err(error @ (SendError::Offer(OfferError::TooLarge { .. }) | SendError::Encode(_))) => {
                self.plan.counts.reject(rows, &error.to_string());
                for receipt in receipts {
                    // Who has gone meanwhile does not ask.
                    let _ = receipt.send(Err(error.to_string()));
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn settle(&mut self) {
        let reached = self.producer.reached(self.plan.level);
        while self.waiting.front().is_some_and(|(below, _)| *below <= reached) {
            for receipt in self.waiting.pop_front().into_iter().flat_map(|(_, receipts)| receipts) {
                // Who has gone meanwhile does not ask.
                let _ = receipt.send(Ok(()));
            }
        }
    }

    /// Sends what there is, and waits until all of it is durable or the engine has stopped. The lane goes on at the next
    /// start.
    pub fn close(mut self) -> Result<(), LaneError> {
        self.send()?;
        while self.producer.underway() > 0 || !self.waiting.is_empty() {
            if self.plan.is_over() {
                return Err(LaneError::Over);
            }
            self.producer.turn(TURN)?;
            self.settle();
        }
        Ok(())
    }
}
