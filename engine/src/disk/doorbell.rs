//! The doorbell of a parked core: an eventfd that is signalled when something has finished.
//!
//! A busy core reads the completion queue from memory and has the kernel signal nothing, which costs nothing. Before it
//! parks it arms the bell ([`super::uring`]'s), and waits for it among its sockets.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use super::error::DiskError;

/// See the module.
#[derive(Debug)]
pub struct Doorbell {
    eventfd: File,
}

impl Doorbell {
    /// A new bell, not rung.
    pub fn new() -> Result<Doorbell, DiskError> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let eventfd = rustix::event::eventfd(0, flags);
        let eventfd = eventfd.map_err(|error| DiskError::ring("create an eventfd")(error.into()))?;
        Ok(Doorbell { eventfd: File::from(eventfd) })
    }

    /// Rings, from any thread.
    pub fn ring(&self) {
        // Fails only if the counter is full, and then it rings anyway.
        let _ = (&self.eventfd).write(&1_u64.to_ne_bytes());
    }

    /// Forgets rings so far.
    pub(super) fn clear(&self) {
        let mut count = [0; 8];
        // Fails if there was none, which is as well.
        let _ = (&self.eventfd).read(&mut count);
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
