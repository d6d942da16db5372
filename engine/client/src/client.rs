//! Several lanes to one server, for any number of callers, blocking or not.
//!
//! How a lane travels is in [`crate::lane_thread`], how the number of lanes is kept in [`crate::plan`]. Each blocking
//! call has a twin that ends in `_async` and needs no executor in particular: the lanes' threads wake whoever waits.

use crate::batch::{Batch, Value};
use crate::bell::Bell;
use crate::config::ClientConfig;
use crate::error::SendError;
use crate::inner::Inner;
use crate::metrics::Metrics;
use crate::plan::{self, Plan};
use crate::routing::Lanes;
use crate::state::{Greeting, Kind, LaneState, To};
use crate::ticket::Ticket;
use crate::waiting::{block_on, block_until};
use corefold_aggregator::spec::Field;
use corefold_shards::batch::AlignedBytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

/// See the module. All calls take `&self`, so that many threads or tasks may share one. What is under way and not
/// durable when it is dropped without [`Client::close`] may be lost.
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
        let inner = Inner::new(config, fields, doors)?;
        let client = Client { inner: Arc::new(inner) };
        for at in 0..count {
            let inner = Arc::clone(&client.inner);
            let thread = std::thread::Builder::new().name(format!("corefold-lane-{at}"));
            thread.spawn(move || crate::lane_thread::serve(&inner, at))?;
        }
        Ok(client)
    }

    /// Waits until the server has let every lane in, and knows it over restarts: before anything else is sent, so
    /// that no lane is late because others have moved time on without it.
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

    /// Adds a row, `time` in microseconds since 1970. It waits for others, at most until `batch_age`, and then for
    /// room.
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

    /// Ends all lanes for good: nothing will ever be sent under this name and these lanes again, and results need not
    /// wait for them. Does not wait until the ends are durable; [`Client::close`] does.
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

    /// See [`Client::close`]. Dropped before it is ready, the client is closed for new batches, and may be closed
    /// again.
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
