//! Ways in for programs that do not speak our own protocol: statsd, InfluxDB's protocol, lines of JSON, Arrow, HTTP.
//!
//! All of it runs on threads that are pinned to no core: one that waits for sockets, one for each lane, one for each
//! socket of datagrams. Each lane is a client of the engine's own door, within the process, so that credit,
//! acknowledgement, the ledger and going on after a restart are those of any producer. What a shard does with batches is
//! not here.

pub mod answers;
mod arrow;
mod body;
pub mod cells;
pub mod counts;
mod http;
pub mod influx;
pub mod lane;
pub mod lines;
pub mod metrics;
pub mod points;
mod requests;
pub mod rows;
pub mod start;
pub mod statsd;
mod tcp;
mod udp;
mod worker;

pub use start::{Ingest, IngestPlan, WayPlan};

use corefold_aggregator::time::EventTime;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// The word that the engine is asked to stop.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    async fn wait(mut self) {
        // Whoever would have said it is gone: that is as good.
        let _ = self.0.wait_for(|stops| *stops).await;
    }
}

/// The wall clock.
fn wall() -> EventTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    EventTime(since.map_or(0, |since| since.as_micros() as i64))
}
