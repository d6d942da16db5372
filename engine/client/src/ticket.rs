//! What a caller holds of a batch that was accepted: a future of what becomes of it.
//!
//! Dropping it changes nothing about the batch.

use crate::error::SendError;
use crate::inner::Inner;
use crate::state::{Mark, Outcome};
use crate::waiting::block_on;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// See the module. Ready once the batch is durable, or was shed; or once its lane cannot go on, and then the batch may
/// be durable or not.
pub struct Ticket {
    pub(crate) inner: Arc<Inner>,
    pub(crate) lane: usize,
    pub(crate) sequence: u64,
    pub(crate) mark: Arc<Mark>,
    pub(crate) key: Option<u64>,
}

impl Ticket {
    /// Index of the lane that the batch goes by.
    pub fn lane(&self) -> usize {
        self.lane
    }

    /// Its number in that lane.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What became of it, if that is known.
    pub fn outcome(&self) -> Option<Outcome> {
        self.mark.outcome()
    }

    /// Waits for it in this thread.
    pub fn wait(self) -> Result<Outcome, SendError> {
        block_on(self)
    }
}

impl Future for Ticket {
    type Output = Result<Outcome, SendError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (mark, lane) = (&this.mark, this.lane);
        this.inner.state.poll(&mut this.key, context, |state| match mark.outcome() {
            Some(outcome) => Some(Ok(outcome)),
            None => state.lanes[lane].check().err().map(Err),
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.inner.state.forget(self.key);
    }
}
