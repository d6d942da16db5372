//! Where a shard's core waits: for its sockets, for the bell of its log, and no longer than it is told.
//!
//! One epoll, edge-triggered: the kernel tells once that something can be read or written, and what is ready is remembered
//! by those that read and write. A wait takes no memory, which the executor's own would; so the core waits here, in one
//! system call, and not in its executor. Nothing else lives on that.

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Most that one wait tells of; the rest is told by the next.
const EVENTS_MAX: usize = 256;

/// How much later than asked the kernel may end a wait, in nanoseconds; usually it takes 50 microseconds.
const TIMER_SLACK: NonZeroU64 = NonZeroU64::MIN;

/// See the module.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

/// What has become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What was said of it when it began to be watched.
    pub token: u64,
    /// There is something to read, or an end.
    pub is_readable: bool,
    /// The other end will send nothing more: what is still to be read ends with an end, or with an error.
    pub is_ending: bool,
}

impl Poller {
    /// Watches nothing yet. To be made by the thread that will wait: its waits become exact.
    pub fn new() -> io::Result<Poller> {
        wait_exactly();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Poller { epoll, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Tells from now on when `source` becomes ready, under `token`. What is ready already is told too.
    pub fn watch(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        let edges = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        Ok(epoll::add(&self.epoll, source, epoll::EventData::new_u64(token), edges)?)
    }

    /// Tells nothing of `source` any more.
    pub fn forget(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Waits until something is ready, but no longer than `timeout`. A signal ends the wait too, and so may the kernel's
    /// work for a ring of this thread.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<impl Iterator<Item = Ready> + '_> {
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let over = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        Ok(self.events.iter().map(move |event| {
            // The kernel packs events; fields are copied out.
            let (flags, data) = (event.flags, event.data);
            let is_ending = flags.intersects(over);
            Ready { token: data.u64(), is_readable: is_ending || flags.contains(epoll::EventFlags::IN), is_ending }
        }))
    }
}

/// From now on, waits and sleeps of this thread end when they should.
pub fn wait_exactly() {
    // A kernel that refuses ends them a little later, that is all.
    let _ = rustix::thread::set_current_timer_slack(Some(TIMER_SLACK));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(20);

    fn pair() -> (UnixStream, UnixStream) {
        let (near, far) = UnixStream::pair().expect("a pair of sockets");
        far.set_nonblocking(true).expect("a socket that does not block");
        (near, far)
    }

    fn seen(poller: &mut Poller, timeout: Duration) -> Vec<Ready> {
        poller.wait(timeout).expect("a wait").collect()
    }

    #[test]
    fn what_becomes_ready_is_told_once() {
        let (mut near, mut far) = pair();
        let mut poller = Poller::new().expect("an epoll");
        poller.watch(&far, 7).expect("a watch");
        assert_eq!(seen(&mut poller, LONG), [Ready { token: 7, is_readable: false, is_ending: false }]);
        assert_eq!(seen(&mut poller, Duration::ZERO), []);
        near.write_all(b"ab").expect("room");
        let readable = Ready { token: 7, is_readable: true, is_ending: false };
        assert_eq!(seen(&mut poller, LONG), [readable]);
        // Not read, and not told again until more comes.
        assert_eq!(seen(&mut poller, Duration::ZERO), []);
        near.write_all(b"c").expect("room");
        assert_eq!(seen(&mut poller, LONG), [readable]);
        let mut bytes = [0; 8];
        assert_eq!(far.read(&mut bytes).expect("bytes"), 3);
        drop(near);
        assert_eq!(seen(&mut poller, LONG), [Ready { is_ending: true, ..readable }]);
        poller.forget(&far).expect("it was watched");
        assert!(poller.forget(&far).is_err());
    }

    #[test]
    fn a_wait_for_nothing_ends() {
        let mut poller = Poller::new().expect("an epoll");
        let (begun, time) = (Instant::now(), Duration::from_micros(300));
        assert_eq!(seen(&mut poller, time), []);
        assert!(begun.elapsed() >= time);
    }

    /// More than one wait has room for: each is told all the same.
    #[test]
    fn nothing_is_lost_for_want_of_room() {
        let pairs: Vec<_> = (0..EVENTS_MAX + 10).map(|_| pair()).collect();
        let mut poller = Poller::new().expect("an epoll");
        for (token, (_, far)) in pairs.iter().enumerate() {
            poller.watch(far, token as u64).expect("a watch");
        }
        let mut tokens: Vec<u64> = Vec::new();
        while tokens.len() < pairs.len() {
            let ready = seen(&mut poller, LONG);
            assert!(!ready.is_empty(), "{} of {}", tokens.len(), pairs.len());
            tokens.extend(ready.iter().map(|ready| ready.token));
        }
        tokens.sort_unstable();
        assert!(tokens.iter().copied().eq(0..pairs.len() as u64));
    }
}
