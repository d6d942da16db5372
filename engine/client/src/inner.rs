//! What the handle of a client and the threads of its lanes share: rows that are no batch yet, where a batch goes,
//! waiting for room and for lanes.
//!
//! What callers see is in [`crate::client`], how far each lane is in [`crate::state`].

use crate::batch::{Batch, BatchBuilder, Value};
use crate::bell::Bell;
use crate::config::ClientConfig;
use crate::error::SendError;
use crate::routing::{Resume, Routing, lane_of_key};
use crate::state::{Greeting, Kind, LaneState, State, To};
use crate::ticket::Ticket;
use crate::waiting::Watched;
use corefold_aggregator::spec::Field;
use corefold_shards::batch::AlignedBytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// What the client's handle and its threads share.
pub struct Inner {
    /// What the client was told.
    pub config: ClientConfig,
    /// How far each lane is.
    pub state: Watched<State>,
    /// Each wakes a lane's thread.
    pub bells: Vec<Bell>,
    /// Where each lane is tried first.
    pub doors: Vec<Option<String>>,
    fields: Vec<Field>,
    /// Rows that are no batch yet: for each lane if keys decide, else once.
    fillings: Vec<Mutex<Filling>>,
    /// Nothing is accepted any more.
    pub is_closed: AtomicBool,
    has_failed: AtomicBool,
}

struct Filling {
    rows: BatchBuilder,
    /// When the first of them came.
    began: Option<Instant>,
}

impl Inner {
    /// Lanes that have said nothing.
    pub fn new(config: ClientConfig, fields: &[Field], doors: Vec<Option<String>>) -> Result<Inner, SendError> {
        let count = doors.len();
        let lane = |at| {
            let own = config.of_lane(at as u32, count as u32);
            LaneState::new(own.lane.lane, own.limits)
        };
        let lanes = (0..count).map(lane).collect();
        let state = State { lanes, turn: 0, is_closed: false, is_leaving: false, is_dropped: false };
        let fillings = if matches!(config.routing, Routing::ByKey(_)) { count } else { 1 };
        let fingerprint = config.lane.fingerprint;
        let filling = |_| Mutex::new(Filling { rows: BatchBuilder::new(fingerprint, fields), began: None });
        Ok(Inner {
            fillings: (0..fillings).map(filling).collect(),
            state: Watched::new(state),
            bells: (0..count).map(|_| Bell::new()).collect::<Result<_, _>>()?,
            doors,
            fields: fields.to_vec(),
            is_closed: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            config,
        })
    }

    /// Where a batch goes that its caller gives no lane.
    pub fn to_any(&self) -> To {
        match self.config.resume {
            Resume::GoOn => To::Any,
            // The same batches must take the same lanes again.
            Resume::FromStart => To::Turn,
        }
    }

    fn to_of(&self, filling: usize) -> To {
        if self.fillings.len() == 1 && !matches!(self.config.routing, Routing::ByKey(_)) {
            return self.to_any();
        }
        To::Lane(filling)
    }

    pub fn lane_of(&self, values: &[Value<'_>]) -> Option<usize> {
        let Routing::ByKey(key) = &self.config.routing else { return None };
        let key = key.iter().map(|field| values.get(*field).copied().unwrap_or(Value::Null));
        Some(lane_of_key(key, self.bells.len() as u32) as usize)
    }

    fn filling(&self, at: usize) -> MutexGuard<'_, Filling> {
        self.fillings[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a row; if there is no room, the row is not added, and where room is needed comes back.
    pub fn try_row(&self, time: i64, values: &[Value<'_>]) -> Result<Option<To>, SendError> {
        let at = self.lane_of(values).unwrap_or(0);
        let to = self.to_of(at);
        let mut filling = self.filling(at);
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(SendError::Closed);
        }
        if self.has_failed.load(Ordering::Relaxed)
            && let Some(Err(error)) = self.state.look(|state| state.place(to))
        {
            return Err(error);
        }
        let rows_max = self.config.batch_rows;
        if filling.rows.rows() >= rows_max && !self.cut(at, &mut filling)? {
            return Ok(Some(to));
        }
        filling.rows.row(time, values)?;
        if filling.rows.rows() >= rows_max {
            self.cut(at, &mut filling)?;
        } else if filling.began.is_none() {
            filling.began = Some(Instant::now());
            // So that the lane's thread wakes when the batch is old enough.
            self.bells[at].ring();
        }
        Ok(None)
    }

    /// Makes a batch of the rows that there are; false if there is no room for it.
    fn cut(&self, at: usize, filling: &mut Filling) -> Result<bool, SendError> {
        if filling.rows.rows() == 0 {
            return Ok(true);
        }
        let to = self.to_of(at);
        let placed = self.state.look(|state| {
            let placed = state.place(to)?;
            Some(placed.map(|lane| (lane, state.lanes[lane].reserve())))
        });
        let Some(placed) = placed else { return Ok(false) };
        let (lane, memory) = placed?;
        let made = filling.rows.finish(memory);
        filling.began = None;
        let deadline = self.config.deadline(SystemTime::now());
        self.state.change(|state| {
            let own = &mut state.lanes[lane];
            own.unreserve();
            if let Err(error) = made.and_then(|batch| own.offer(batch.with_default_deadline(deadline), Kind::Rows)) {
                // The rows were accepted: whoever calls is told from now on that they do not come.
                own.fail(error);
                self.has_failed.store(true, Ordering::Relaxed);
                return own.check();
            }
            state.took(to, lane);
            Ok(())
        })?;
        self.bells[lane].ring();
        Ok(true)
    }

    /// Makes batches of all rows, waiting for room.
    pub async fn cut_all(&self) -> Result<(), SendError> {
        let mut first = Ok(());
        for at in 0..self.fillings.len() {
            loop {
                let cut = self.cut(at, &mut self.filling(at));
                let result = match cut {
                    Ok(true) => break,
                    Ok(false) => self.room(self.to_of(at), true).await,
                    Err(error) => Err(error),
                };
                if result.is_err() {
                    first = first.and(result);
                    break;
                }
            }
        }
        first
    }

    pub async fn flush_lanes(&self) -> Result<(), SendError> {
        let ends = self.state.look(|state| state.lanes.iter().map(|lane| lane.next).collect::<Vec<_>>());
        let mut first = Ok(());
        for (lane, end) in ends.into_iter().enumerate() {
            let flushed = self.state.until(move |state| {
                let lane = &state.lanes[lane];
                if lane.durable() >= end { Some(Ok(())) } else { lane.check().err().map(Err) }
            });
            first = first.and(flushed.await);
        }
        first
    }

    /// Waits until there is room.
    pub async fn room(&self, to: To, is_closing: bool) -> Result<(), SendError> {
        let look = move |state: &mut State| match state.place(to) {
            _ if state.is_closed && !is_closing => Some(Err(SendError::Closed)),
            placed => placed.map(|placed| placed.map(|_| ())),
        };
        self.state.until(look).await
    }

    /// Waits until the server has let a lane in.
    pub async fn greeted(&self, lane: usize) -> Result<Greeting, SendError> {
        let look = move |state: &mut State| match state.lanes[lane].greeting {
            Some(greeting) => Some(Ok(greeting)),
            None => state.lanes[lane].check().err().map(Err),
        };
        self.state.until(look).await
    }

    pub async fn send(inner: &Arc<Inner>, to: To, batch: Batch) -> Result<Ticket, SendError> {
        batch.check(inner.config.lane.fingerprint)?;
        let mut batch = Some(batch.with_default_deadline(inner.config.deadline(SystemTime::now())));
        loop {
            // Accepted without a wait in between, so that a batch is accepted or dropped, and never both.
            if let Some(sent) = Inner::try_send(inner, to, &mut batch) {
                return sent;
            }
            inner.room(to, false).await?;
        }
    }

    /// Takes the batch if there is room.
    pub fn try_send(inner: &Arc<Inner>, to: To, batch: &mut Option<Batch>) -> Option<Result<Ticket, SendError>> {
        let sent = inner.state.look(|state| {
            if state.is_closed {
                return Some(Err(SendError::Closed));
            }
            let lane = match state.place(to)? {
                Ok(lane) => lane,
                Err(error) => return Some(Err(error)),
            };
            let sent = state.lanes[lane].offer(batch.take()?, Kind::Rows);
            Some(sent.map(|(sequence, mark)| {
                state.took(to, lane);
                (lane, sequence, mark)
            }))
        });
        Some(sent?.map(|(lane, sequence, mark)| {
            inner.bells[lane].ring();
            Ticket { inner: Arc::clone(inner), lane, sequence, mark, key: None }
        }))
    }

    /// Sends a batch without rows, waiting for room.
    pub async fn send_empty(&self, lane: usize, kind: Kind) -> Result<(), SendError> {
        let mut batch =
            Some(BatchBuilder::new(self.config.lane.fingerprint, &self.fields).finish(AlignedBytes::new())?);
        let look = move |state: &mut State| {
            let placed = state.place(To::Lane(lane))?;
            Some(placed.and_then(|lane| match batch.take() {
                Some(batch) => state.lanes[lane].offer(batch, kind).map(|_| ()),
                None => Ok(()),
            }))
        };
        self.state.until(look).await?;
        self.bells[lane].ring();
        Ok(())
    }

    // ---- for the lanes' threads

    /// Makes a batch of rows that have waited long enough, or that are enough and had no room. Returns when to look
    /// again.
    pub fn cut_aged(&self, at: usize) -> Duration {
        if at >= self.fillings.len() {
            return Duration::MAX;
        }
        let mut filling = self.filling(at);
        let left = match (filling.began, self.config.resume) {
            (Some(began), Resume::GoOn) => self.config.batch_age.saturating_sub(began.elapsed()),
            _ => Duration::MAX,
        };
        if !left.is_zero() && filling.rows.rows() < self.config.batch_rows {
            return left;
        }
        // Whoever calls next is told why, if it cannot be.
        let _ = self.cut(at, &mut filling);
        Duration::MAX
    }

    /// A lane's thread has ended.
    pub fn over(&self, at: usize, failure: Option<SendError>) {
        self.has_failed.fetch_or(failure.is_some(), Ordering::Relaxed);
        self.state.change(|state| {
            state.lanes[at].is_over = true;
            if let Some(failure) = failure {
                state.lanes[at].fail(failure);
            }
        });
    }
}
