//! The thread of one lane: takes what was accepted, keeps the lane's producer going, tells how far it is.
//!
//! One thread for each lane, so that a lane that connects, or encrypts, holds no other one up. What callers see is in
//! [`crate::client`].

use crate::error::SendError;
use crate::inner::Inner;
use crate::producer::Producer;
use crate::routing::Resume;
use crate::state::{Greeting, Handed, Kind};
use corefold_shards::session::LANE_END;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait between looks at the clock.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Serves lane `at` to its end.
pub fn serve(inner: &Arc<Inner>, at: usize) {
    let panicked = std::io::Error::other("its thread has panicked");
    let mut over = Over { inner, at, result: Err(panicked.into()) };
    let config = inner.config.of_lane(at as u32, inner.bells.len() as u32);
    let mut producer = Producer::begin(config, inner.doors[at].clone());
    over.result = drive(inner, at, &mut producer);
}

/// Tells that the thread has ended, also by a panic, so that nobody waits for it.
struct Over<'a> {
    inner: &'a Inner,
    at: usize,
    result: Result<(), SendError>,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let failure = std::mem::replace(&mut self.result, Ok(())).err();
        self.inner.over(self.at, failure);
    }
}

fn drive(inner: &Inner, at: usize, producer: &mut Producer) -> Result<(), SendError> {
    let bell = &inner.bells[at];
    loop {
        bell.hear();
        if inner.state.look(|state| state.is_dropped) {
            return Ok(());
        }
        let is_in = match inner.config.resume {
            Resume::GoOn => producer.has_gone_on(),
            Resume::FromStart => producer.is_welcome(),
        };
        if is_in {
            break;
        }
        producer.turn_or_hear(LOOK_EVERY, Some(bell))?;
    }
    let greeting = Greeting {
        known: producer.known(),
        next: producer.next_sequence(),
        has_ended: producer.has_ended(),
        batch_size_max: producer.batch_size_max(),
        place: producer.place(),
    };
    inner.state.change(|state| state.lanes[at].greet(greeting));
    let mut handed = Vec::new();
    let mut told = (greeting.next, 0);
    loop {
        bell.hear();
        let (is_dropped, is_leaving) = inner.state.look(|state| {
            state.lanes[at].take(&mut handed);
            (state.is_dropped, state.is_leaving)
        });
        if is_dropped {
            return Ok(());
        }
        for batch in handed.drain(..) {
            offer(producer, batch)?;
        }
        let due = inner.cut_aged(at);
        if is_leaving {
            return producer.leave();
        }
        producer.turn_or_hear(due.min(LOOK_EVERY), Some(bell))?;
        told = tell(inner, at, producer, told);
    }
}

fn offer(producer: &mut Producer, batch: Handed) -> Result<(), SendError> {
    producer.pass_to(batch.sequence)?;
    let position = if batch.kind == Kind::End { LANE_END } else { 0 };
    let sequence = producer.offer(batch.bytes, batch.rows, batch.rejected, batch.deadline, position)?;
    assert_eq!(sequence, batch.sequence, "the batches of a lane are offered in the order in which they were accepted");
    Ok(())
}

/// Tells how far the lane is, if that is news.
fn tell(inner: &Inner, at: usize, producer: &mut Producer, told: (u64, u64)) -> (u64, u64) {
    let now = (producer.durable(), producer.metrics().connections);
    if now == told {
        return told;
    }
    let shed = producer.take_shed(now.0);
    inner.state.change(|state| {
        let lane = &mut state.lanes[at];
        lane.count_connections(now.1);
        lane.settle(now.0, &shed);
        for _ in told.0..now.0 {
            lane.keep(producer.spare());
        }
    });
    now
}
