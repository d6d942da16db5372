//! The far end of the doorbell: what a parked core awaits.
//!
//! Arming and ringing are in [`super::doorbell`] and [`super::uring`].

use futures_lite::AsyncReadExt;
use glommio::net::UnixStream;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::Duration;

/// An awaitable end.
#[derive(Debug)]
pub struct BellEnd {
    stream: UnixStream,
}

impl BellEnd {
    /// Takes over the far end, on the executor that will await it.
    pub fn new(far: std::os::unix::net::UnixStream) -> io::Result<BellEnd> {
        far.set_nonblocking(true)?;
        // SAFETY: the descriptor is open, a stream socket, and owned by nobody else from here on.
        let stream = unsafe { UnixStream::from_raw_fd(far.into_raw_fd()) };
        Ok(BellEnd { stream })
    }

    /// Waits until the bell rings or `time` is over. Not an error in any case: the caller looks at the completion
    /// queue whatever woke it. A ring that is not awaited to its end is heard the next time.
    pub async fn rung_within(&mut self, time: Duration) {
        let mut rings = [0; 16];
        let heard = async {
            if self.stream.read(&mut rings).await.is_err() {
                // A broken bell never rings; the timer still does.
                std::future::pending::<()>().await;
            }
        };
        futures_lite::future::race(heard, glommio::timer::sleep(time)).await;
    }
}
