//! The doorbell of a parked core: one byte on a socket pair when something has finished.
//!
//! The executor of a core can await a socket but not a foreign ring. So, before it parks, the core arms the bell: a
//! poll of an eventfd that every completion signals, hard-linked with a SEND of one byte, both in the log's own ring.
//! A busy core reads the completion queue from memory and never arms it, which costs nothing. The SQEs are
//! [`super::uring`]'s; what the far end does with the byte is the core loop's.

use futures_lite::future::poll_fn;
use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker as TaskWaker};

use super::error::DiskError;

/// Both ends of the bell.
#[derive(Debug)]
pub struct Doorbell {
    waker: Arc<Waker>,
    near: UnixStream,
    far: Option<UnixStream>,
}

/// The far end, on the executor of the core that parks. One task awaits the socket all the time, and cores that park look
/// at what it has heard: an await that is given up costs memory until the executor has next looked at its ring, and a busy
/// core parks and goes on many thousand times before that (until glommio ran out of references).
#[derive(Debug)]
pub struct BellListener {
    heard: Rc<RefCell<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    has_rung: bool,
    failure: Option<DiskError>,
    waker: Option<TaskWaker>,
}

/// The two descriptors of the far end.
struct FarEnd {
    awaited: glommio::net::UnixStream,
    taken: UnixStream,
}

/// What completions signal, from the kernel or from another thread.
#[derive(Debug)]
pub struct Waker {
    eventfd: File,
}

impl Doorbell {
    /// A new bell, not armed.
    pub fn new() -> Result<Doorbell, DiskError> {
        let (near, far) = UnixStream::pair().map_err(DiskError::ring("create a socket pair"))?;
        Ok(Doorbell { waker: Arc::new(Waker::new()?), near, far: Some(far) })
    }

    /// The end to be awaited; can be taken once. Each ring is one byte.
    pub fn take_far_end(&mut self) -> Option<UnixStream> {
        self.far.take()
    }

    /// For others that finish something for this core.
    pub fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    /// The end that the kernel sends the byte into.
    pub(super) fn near_descriptor(&self) -> RawFd {
        self.near.as_raw_fd()
    }
}

impl BellListener {
    /// Begins to listen; to be called inside the executor.
    pub fn new(far: UnixStream) -> Result<BellListener, DiskError> {
        let second = far.try_clone().map_err(DiskError::ring("duplicate a socket"))?;
        // SAFETY: the descriptor was just duplicated and is given up by its only owner.
        let awaited = unsafe { glommio::net::UnixStream::from_raw_fd(second.into_raw_fd()) };
        let heard = Rc::new(RefCell::new(Heard::default()));
        glommio::spawn_local(listen(FarEnd { awaited, taken: far }, Rc::clone(&heard))).detach();
        Ok(BellListener { heard })
    }

    /// Waits until the bell has rung since the last time. May be dropped at any time: a ring stays.
    pub async fn heard(&self) -> Result<(), DiskError> {
        poll_fn(|context| {
            let mut heard = self.heard.borrow_mut();
            if let Some(failure) = heard.failure.take() {
                return Poll::Ready(Err(failure));
            }
            if std::mem::take(&mut heard.has_rung) {
                return Poll::Ready(Ok(()));
            }
            match &mut heard.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }
}

/// Hears every ring until the near end is gone.
async fn listen(far: FarEnd, heard: Rc<RefCell<Heard>>) {
    loop {
        let rung = far.take_rings().await;
        let has_failed = rung.is_err();
        let mut heard = heard.borrow_mut();
        match rung {
            Ok(()) => heard.has_rung = true,
            Err(failure) => heard.failure = Some(failure),
        }
        if let Some(waker) = heard.waker.take() {
            waker.wake();
        }
        if has_failed {
            return;
        }
    }
}

impl FarEnd {
    /// Waits for a ring, and takes all that there are.
    async fn take_rings(&self) -> Result<(), DiskError> {
        let mut rings = [0; 64];
        // Peeked first; then there is something to take and the second call does not block.
        let seen = self.awaited.peek(&mut rings[..1]).await;
        let seen =
            seen.map_err(|error| DiskError::ring("await the doorbell")(std::io::Error::other(error.to_string())))?;
        if seen == 0 {
            return Err(DiskError::ring("await the doorbell")(std::io::ErrorKind::UnexpectedEof.into()));
        }
        (&self.taken).read(&mut rings).map(drop).map_err(DiskError::ring("read the doorbell"))
    }
}

impl Waker {
    fn new() -> Result<Waker, DiskError> {
        // SAFETY: a system call without pointers.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(DiskError::ring("create an eventfd")(std::io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was just created, is valid, and nobody else owns it.
        let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Waker { eventfd: File::from(owned) })
    }

    /// Signals: an armed bell rings.
    pub fn wake(&self) {
        // Fails only if the counter is full, and then it is signalled anyway.
        let _ = (&self.eventfd).write(&1_u64.to_ne_bytes());
    }

    /// Forgets signals so far.
    pub(super) fn clear(&self) {
        let mut count = [0; 8];
        // Fails if there was no signal, which is as well.
        let _ = (&self.eventfd).read(&mut count);
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}
