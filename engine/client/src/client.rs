//! Several lanes to one server, for any number of callers, blocking or not.
//!
//! How a lane travels is in [`crate::lane_thread`], how the number of lanes is kept in [`crate::plan`]. Each blocking call has a
//! twin that ends in `_async` and needs no executor in particular: the lanes' threads wake whoever waits.

use crate::batch::{Batch, BatchBuilder, Value};
use crate::bell::Bell;
use crate::config::ClientConfig;
use crate::error::SendError;
use crate::metrics::Metrics;
use crate::plan::{self, Plan};
use crate::routing::{Lanes, Resume, Routing, lane_of_key};
use crate::state::{Greeting, Kind, LaneState, State, To};
use crate::ticket::Ticket;
use crate::waiting::{Watched, block_on, block_until};
use corefold_aggregator::spec::Field;
use corefold_shards::batch::AlignedBytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// See the module. All calls take `&self`, so that many threads or tasks may share one. What is under way and not durable
/// when it is dropped without [`Client::close`] may be lost.
pub struct Client {
    inner: Arc<Inner>,
}

/// What became of [`Client::try_send`].
#[must_use = "a batch that was not accepted comes back"]
pub enum Tried {
    /// The batch was accepted.
    Accepted(Ticket),
    /// There is no room now; here it is again.
    Full(Batch),
}

/// What the client's handle and its threads share.
pub(crate) struct Inner {
    pub(crate) config: ClientConfig,
    pub(crate) state: Watched<State>,
    pub(crate) bells: Vec<Bell>,
    /// Where each lane is tried first.
    pub(crate) doors: Vec<Option<String>>,
    fields: Vec<Field>,
    /// Rows that are no batch yet: for each lane if keys decide, else once.
    fillings: Vec<Mutex<Filling>>,
    is_closed: AtomicBool,
    has_failed: AtomicBool,
}

struct Filling {
    rows: BatchBuilder,
    /// When the first of them came.
    began: Option<Instant>,
}

impl Client {
    /// Connects all lanes of a stream with these fields, and waits until the server knows each of them.
    pub fn connect(config: ClientConfig, fields: &[Field]) -> Result<Client, SendError> {
        block_on(Client::connect_async(config, fields))
    }

    /// See [`Client::connect`].
    pub async fn connect_async(config: ClientConfig, fields: &[Field]) -> Result<Client, SendError> {
        config.check(fields.len())?;
        let Plan { doors } = match config.lanes {
            Lanes::Of(count) => Plan::of(count),
            Lanes::PerShard => plan::learn(&config, fields).await?,
        };
        let client = Client::start(config, fields, doors)?;
        client.open().await?;
        Ok(client)
    }

    /// Starts the threads.
    pub(crate) fn start(
        config: ClientConfig,
        fields: &[Field],
        doors: Vec<Option<String>>,
    ) -> Result<Client, SendError> {
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
        let inner = Inner {
            fillings: (0..fillings).map(filling).collect(),
            state: Watched::new(state),
            bells: (0..count).map(|_| Bell::new()).collect::<Result<_, _>>()?,
            doors,
            fields: fields.to_vec(),
            is_closed: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            config,
        };
        let client = Client { inner: Arc::new(inner) };
        for at in 0..count {
            let inner = Arc::clone(&client.inner);
            let thread = std::thread::Builder::new().name(format!("corefold-lane-{at}"));
            thread.spawn(move || crate::lane_thread::serve(&inner, at))?;
        }
        Ok(client)
    }

    /// Waits until the server has let every lane in, and knows it over restarts: before anything else is sent, so that no
    /// lane is late because others have moved time on without it.
    async fn open(&self) -> Result<(), SendError> {
        for lane in 0..self.lanes() {
            self.inner.greeted(lane).await?;
        }
        for lane in 0..self.lanes() {
            let is_new = self.inner.state.look(|state| {
                let lane = &mut state.lanes[lane];
                let is_first = lane.next == 0;
                if is_first && lane.is_known() {
                    lane.pass(Kind::Opening);
                }
                is_first && lane.next == 0
            });
            if is_new {
                self.inner.send_empty(lane, Kind::Opening).await?;
            }
        }
        self.inner.flush_lanes().await
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.inner.bells.len()
    }

    /// What has happened so far, in all lanes.
    pub fn metrics(&self) -> Metrics {
        self.inner.state.look(|state| state.lanes.iter().map(LaneState::metrics).sum())
    }

    /// The same, of one lane.
    pub fn lane_metrics(&self, lane: usize) -> Metrics {
        self.inner.state.look(|state| state.lanes[lane].metrics())
    }

    /// Whether all lanes were ended in an earlier life of this producer: all of them is durable.
    pub fn has_ended(&self) -> bool {
        self.inner.state.look(|state| state.lanes.iter().all(LaneState::has_ended))
    }

    /// What the server said when it let the first lane in.
    pub(crate) async fn greeting(&self) -> Result<Greeting, SendError> {
        self.inner.greeted(0).await
    }

    /// Sends an empty batch by the first lane.
    pub(crate) async fn send_empty(&self, kind: Kind) -> Result<(), SendError> {
        self.inner.send_empty(0, kind).await
    }

    // ---- batches

    /// Sends a batch by the lane whose turn it is, waiting for room. An error means that it was not accepted.
    pub fn send(&self, batch: Batch) -> Result<Ticket, SendError> {
        block_on(self.send_async(batch))
    }

    /// See [`Client::send`]. Dropped before it is ready, the batch was not accepted, and is gone: to keep it, wait for
    /// [`Client::room_async`] and use [`Client::try_send`].
    pub async fn send_async(&self, batch: Batch) -> Result<Ticket, SendError> {
        Inner::send(&self.inner, self.inner.to_any(), batch).await
    }

    /// Sends a batch by this lane, waiting for room.
    pub fn send_to(&self, lane: usize, batch: Batch) -> Result<Ticket, SendError> {
        block_on(self.send_to_async(lane, batch))
    }

    /// See [`Client::send_to`] and [`Client::send_async`].
    pub async fn send_to_async(&self, lane: usize, batch: Batch) -> Result<Ticket, SendError> {
        Inner::send(&self.inner, To::Lane(lane), batch).await
    }

    /// Sends a batch if there is room for it now.
    pub fn try_send(&self, batch: Batch) -> Result<Tried, SendError> {
        batch.check(self.inner.config.lane.fingerprint)?;
        let mut batch = Some(batch.with_default_deadline(self.inner.config.deadline(SystemTime::now())));
        match Inner::try_send(&self.inner, self.inner.to_any(), &mut batch) {
            Some(sent) => Ok(Tried::Accepted(sent?)),
            None => batch.map(Tried::Full).ok_or(SendError::Closed),
        }
    }

    /// Waits until a batch would be accepted. Somebody else's may come first.
    pub async fn room_async(&self) -> Result<(), SendError> {
        self.inner.room(self.inner.to_any(), false).await
    }

    /// Memory of a batch that is durable, to make another one in.
    pub fn spare(&self) -> AlignedBytes {
        self.inner.state.look(|state| {
            let turn = state.turn;
            state.lanes[turn].spare()
        })
    }

    /// Passes over the next batch of a lane if the server has it, so that it need not be made; false if it does not.
    pub fn pass(&self, lane: usize) -> bool {
        self.inner.state.look(|state| {
            let is_known = state.lanes[lane].is_known();
            if is_known {
                state.lanes[lane].pass(Kind::Rows);
            }
            is_known
        })
    }

    // ---- rows

    /// Adds a row, `time` in microseconds since 1970. It waits for others, at most until `batch_age`, and then for room.
    pub fn row(&self, time: i64, values: &[Value<'_>]) -> Result<(), SendError> {
        while let Some(to) = self.inner.try_row(time, values)? {
            block_on(self.inner.room(to, false))?;
        }
        Ok(())
    }

    /// See [`Client::row`]. Dropped before it is ready, the row was not added.
    pub async fn row_async(&self, time: i64, values: &[Value<'_>]) -> Result<(), SendError> {
        while let Some(to) = self.inner.try_row(time, values)? {
            self.inner.room(to, false).await?;
        }
        Ok(())
    }

    /// The lane that a row with these values takes; `None` if its batch decides.
    pub fn lane_of(&self, values: &[Value<'_>]) -> Option<usize> {
        self.inner.lane_of(values)
    }

    // ---- the end

    /// Waits until every row and batch that was accepted before is durable. If a lane cannot go on, the others are
    /// waited for all the same.
    pub fn flush(&self) -> Result<(), SendError> {
        block_on(self.flush_async())
    }

    /// See [`Client::flush`].
    pub async fn flush_async(&self) -> Result<(), SendError> {
        let cut = self.inner.cut_all().await;
        self.inner.flush_lanes().await.and(cut)
    }

    /// The same for no longer than `patience`; false if something is not durable then.
    pub fn flush_within(&self, patience: Duration) -> Result<bool, SendError> {
        let end = Instant::now() + patience;
        block_until(self.flush_async(), end).map_or(Ok(false), |flushed| flushed.map(|()| true))
    }

    /// Ends all lanes for good: nothing will ever be sent under this name and these lanes again, and results need not wait
    /// for them. Does not wait until the ends are durable; [`Client::close`] does.
    pub fn end(&self) -> Result<(), SendError> {
        block_on(self.end_async())
    }

    /// See [`Client::end`].
    pub async fn end_async(&self) -> Result<(), SendError> {
        self.inner.cut_all().await?;
        for lane in 0..self.lanes() {
            self.end_lane_async(lane).await?;
        }
        Ok(())
    }

    /// Ends one lane for good. Rows that are no batch yet are not waited for.
    pub async fn end_lane_async(&self, lane: usize) -> Result<(), SendError> {
        // The server may have more than was offered again, its end among it.
        if self.inner.state.look(|state| state.lanes[lane].has_ended()) {
            return Ok(());
        }
        self.inner.send_empty(lane, Kind::End).await
    }

    /// See [`Client::end_lane_async`].
    pub fn end_lane(&self, lane: usize) -> Result<(), SendError> {
        block_on(self.end_lane_async(lane))
    }

    /// Takes nothing more, waits until everything is durable, and says goodbye. The lanes may go on later.
    pub fn close(&self) -> Result<Metrics, SendError> {
        block_on(self.close_async())
    }

    /// See [`Client::close`]. Dropped before it is ready, the client is closed for new batches, and may be closed again.
    pub async fn close_async(&self) -> Result<Metrics, SendError> {
        self.inner.is_closed.store(true, Ordering::SeqCst);
        self.inner.state.change(|state| state.is_closed = true);
        let flushed = self.flush_async().await;
        self.inner.state.change(|state| state.is_leaving = true);
        self.inner.bells.iter().for_each(Bell::ring);
        self.inner.state.until(|state| state.lanes.iter().all(|lane| lane.is_over).then_some(())).await;
        flushed?;
        Ok(self.metrics())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.inner.is_closed.store(true, Ordering::SeqCst);
        self.inner.state.change(|state| (state.is_closed, state.is_dropped) = (true, true));
        self.inner.bells.iter().for_each(Bell::ring);
    }
}

impl Inner {
    /// Where a batch goes that its caller gives no lane.
    fn to_any(&self) -> To {
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

    fn lane_of(&self, values: &[Value<'_>]) -> Option<usize> {
        let Routing::ByKey(key) = &self.config.routing else { return None };
        let key = key.iter().map(|field| values.get(*field).copied().unwrap_or(Value::Null));
        Some(lane_of_key(key, self.bells.len() as u32) as usize)
    }

    fn filling(&self, at: usize) -> MutexGuard<'_, Filling> {
        self.fillings[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a row; if there is no room, the row is not added, and where room is needed comes back.
    fn try_row(&self, time: i64, values: &[Value<'_>]) -> Result<Option<To>, SendError> {
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
    async fn cut_all(&self) -> Result<(), SendError> {
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

    async fn flush_lanes(&self) -> Result<(), SendError> {
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
    async fn room(&self, to: To, is_closing: bool) -> Result<(), SendError> {
        let look = move |state: &mut State| match state.place(to) {
            _ if state.is_closed && !is_closing => Some(Err(SendError::Closed)),
            placed => placed.map(|placed| placed.map(|_| ())),
        };
        self.state.until(look).await
    }

    /// Waits until the server has let a lane in.
    async fn greeted(&self, lane: usize) -> Result<Greeting, SendError> {
        let look = move |state: &mut State| match state.lanes[lane].greeting {
            Some(greeting) => Some(Ok(greeting)),
            None => state.lanes[lane].check().err().map(Err),
        };
        self.state.until(look).await
    }

    async fn send(inner: &Arc<Inner>, to: To, batch: Batch) -> Result<Ticket, SendError> {
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
    fn try_send(inner: &Arc<Inner>, to: To, batch: &mut Option<Batch>) -> Option<Result<Ticket, SendError>> {
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
    async fn send_empty(&self, lane: usize, kind: Kind) -> Result<(), SendError> {
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

    /// Makes a batch of rows that have waited long enough, or that are enough and had no room. Returns when to look again.
    pub(crate) fn cut_aged(&self, at: usize) -> Duration {
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
    pub(crate) fn over(&self, at: usize, failure: Option<SendError>) {
        self.has_failed.fetch_or(failure.is_some(), Ordering::Relaxed);
        self.state.change(|state| {
            state.lanes[at].is_over = true;
            if let Some(failure) = failure {
                state.lanes[at].fail(failure);
            }
        });
    }
}
