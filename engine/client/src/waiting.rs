//! Waiting without an executor: futures that wait for a look at shared state to succeed, and threads that wait for
//! futures.
//!
//! What is looked for is not here. Looks and wake-ups happen under one lock, so none is lost.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

/// State that many look at, and those who wait for it to change.
#[derive(Debug)]
pub struct Watched<S> {
    inside: Mutex<Inside<S>>,
}

#[derive(Debug)]
struct Inside<S> {
    state: S,
    next_key: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl<S> Watched<S> {
    /// State that nobody waits for.
    pub fn new(state: S) -> Watched<S> {
        Watched { inside: Mutex::new(Inside { state, next_key: 0, waiting: BTreeMap::new() }) }
    }

    /// A look, or a change that nobody waits for. Not to be called within another one.
    pub fn look<T>(&self, look: impl FnOnce(&mut S) -> T) -> T {
        look(&mut self.lock().state)
    }

    /// A change: all who wait look again.
    pub fn change<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        let mut inside = self.lock();
        let result = change(&mut inside.state);
        let waiting = std::mem::take(&mut inside.waiting);
        drop(inside);
        waiting.into_values().for_each(Waker::wake);
        result
    }

    /// Waits until `look` finds what it looks for. Dropped before that, it has changed nothing that `look` did not.
    pub fn until<T, F: FnMut(&mut S) -> Option<T> + Unpin>(&self, look: F) -> Until<'_, S, F> {
        Until { watched: self, look, key: None }
    }

    /// One look of a future that waits under `key`.
    pub fn poll<T>(
        &self,
        key: &mut Option<u64>,
        context: &Context<'_>,
        look: impl FnOnce(&mut S) -> Option<T>,
    ) -> Poll<T> {
        let mut inside = self.lock();
        match look(&mut inside.state) {
            Some(found) => Poll::Ready(found),
            None => {
                let key = *key.get_or_insert_with(|| {
                    inside.next_key += 1;
                    inside.next_key
                });
                let earlier = inside.waiting.insert(key, context.waker().clone());
                drop(inside);
                // Dropping it may run code of an executor: not under the lock.
                drop(earlier);
                Poll::Pending
            }
        }
    }

    /// Nobody waits under `key` any more.
    pub fn forget(&self, key: Option<u64>) {
        if let Some(key) = key {
            let waker = self.lock().waiting.remove(&key);
            drop(waker);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside<S>> {
        // A panic of one who looks does not concern the others; the lane's thread says what became of it.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Watched::until`].
#[derive(Debug)]
pub struct Until<'a, S, F> {
    watched: &'a Watched<S>,
    look: F,
    key: Option<u64>,
}

impl<T, S, F: FnMut(&mut S) -> Option<T> + Unpin> Future for Until<'_, S, F> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        this.watched.poll(&mut this.key, context, &mut this.look)
    }
}

impl<S, F> Drop for Until<'_, S, F> {
    fn drop(&mut self) {
        self.watched.forget(self.key);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Has this thread wait for a future.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        // Without an end, only the future ends it.
        if let Some(result) = loop_until(future.as_mut(), None) {
            return result;
        }
    }
}

/// The same, but for no longer than until `end`.
pub fn block_until<F: Future>(future: F, end: Instant) -> Option<F::Output> {
    loop_until(pin!(future), Some(end))
}

fn loop_until<F: Future>(mut future: Pin<&mut F>, end: Option<Instant>) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return Some(result);
        }
        match end.map(|end| end.saturating_duration_since(Instant::now())) {
            None => std::thread::park(),
            Some(left) if left.is_zero() => return None,
            Some(left) => std::thread::park_timeout(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_change_wakes_those_who_wait_and_nobody_waits_for_ever() {
        let watched = Watched::new(0);
        std::thread::scope(|scope| {
            let waits = |value| block_on(watched.until(move |state: &mut i32| (*state >= value).then_some(*state)));
            let threads = [1, 2, 3].map(|value| scope.spawn(move || waits(value)));
            for _ in 0..3 {
                watched.change(|state| *state += 1);
            }
            for (thread, least) in threads.into_iter().zip([1, 2, 3]) {
                assert!(thread.join().expect("no panic") >= least);
            }
        });
        assert_eq!(watched.lock().waiting.len(), 0);
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let watched = Watched::new(());
        let end = Instant::now() + Duration::from_millis(5);
        assert_eq!(block_until(watched.until(|()| None::<()>), end), None);
        assert_eq!(watched.lock().waiting.len(), 0);
    }
}
