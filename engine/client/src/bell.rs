//! Wakes a thread that waits for its socket: any thread may ring, one hears.
//!
//! What there is to be done then is not here. A pair of sockets, since every Unix has them.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub struct Bell {
    /// Rung and not heard yet: once more would change nothing.
    is_rung: AtomicBool,
    ringer: UnixStream,
    hearer: UnixStream,
}

impl Bell {
    /// A bell that is still.
    pub fn new() -> io::Result<Bell> {
        let (ringer, hearer) = UnixStream::pair()?;
        ringer.set_nonblocking(true)?;
        hearer.set_nonblocking(true)?;
        Ok(Bell { is_rung: AtomicBool::new(false), ringer, hearer })
    }

    /// Wakes the hearer, or has its next wait end at once.
    pub fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            // A full socket wakes too; and both ends live as long as the bell.
            let _ = (&self.ringer).write(&[1]);
        }
    }

    /// Takes note of everything that was rung; to be called before looking for what there is to do.
    pub fn hear(&self) {
        if self.is_rung.swap(false, Ordering::AcqRel) {
            let mut bytes = [0; 16];
            while (&self.hearer).read(&mut bytes).is_ok_and(|count| count > 0) {}
        }
    }

    /// What becomes readable when it rings.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.hearer.as_fd()
    }
}

/// Waits for the bell, or for `max`.
pub fn pause(bell: Option<&Bell>, max: Duration) -> io::Result<()> {
    let Some(bell) = bell else {
        std::thread::sleep(max);
        return Ok(());
    };
    wait(&mut [PollFd::from_borrowed_fd(bell.descriptor(), PollFlags::IN)], max)
}

/// Waits for any of `descriptors`, or for `max`.
pub fn wait(descriptors: &mut [PollFd<'_>], max: Duration) -> io::Result<()> {
    let timeout = Timespec { tv_sec: max.as_secs().cast_signed(), tv_nsec: max.subsec_nanos().into() };
    match poll(descriptors, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_rung_before_a_wait_ends_it_and_what_was_heard_does_not() {
        let bell = Bell::new().expect("a pair of sockets");
        let began = Instant::now();
        for _ in 0..3 {
            bell.ring();
            bell.ring();
            pause(Some(&bell), LONG).expect("a wait");
            bell.hear();
        }
        assert!(began.elapsed() < LONG);
        // Still again: this one ends by its time.
        pause(Some(&bell), Duration::from_millis(1)).expect("a wait");
        let mut byte = [0];
        assert_eq!((&bell.hearer).read(&mut byte).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn another_thread_is_heard() {
        let bell = Bell::new().expect("a pair of sockets");
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| bell.ring());
            pause(Some(&bell), LONG).expect("a wait");
        });
        assert!(began.elapsed() < LONG);
    }
}
