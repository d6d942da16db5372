//! How bytes of a session go over its socket: as they are, or through TLS.
//!
//! Both have the same verbs, and neither waits: a call that would is told so by [`ErrorKind::WouldBlock`]. The socket
//! itself is the caller's.

use super::tls::TlsStream;
use std::io::{self, ErrorKind};

/// See the module.
#[derive(Debug)]
pub enum Transport {
    /// As they are.
    Plain,
    /// Through TLS.
    Tls(Box<TlsStream>),
}

impl Transport {
    /// Reads to `space` by `read`; 0 at the end. [`ErrorKind::InvalidData`]: the other end does not keep to TLS, and
    /// what it is told of it can be flushed.
    pub fn read(&mut self, space: &mut [u8], read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        let mut read = read;
        match self {
            Transport::Plain => read(space),
            Transport::Tls(tls) => tls.read(space, read),
        }
    }

    /// Writes some of `data` by `write`. What stays here is written by [`Transport::flush`].
    pub fn write(&mut self, data: &[u8], write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        let mut write = write;
        match self {
            Transport::Plain => write(data),
            Transport::Tls(tls) => tls.write(data, write),
        }
    }

    /// Writes what stays here.
    pub fn flush(&mut self, write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        match self {
            Transport::Plain => Ok(()),
            Transport::Tls(tls) => tls.flush(write),
        }
    }

    /// Says that nothing more will be written, as far as there is a way to say it.
    pub fn close(&mut self) {
        if let Transport::Tls(tls) = self {
            tls.close();
        }
    }

    /// Names in the certificate that the other end has shown.
    pub fn names(&self) -> &[String] {
        match self {
            Transport::Plain => &[],
            Transport::Tls(tls) => tls.names(),
        }
    }

    /// Whether the other end has turned out to speak no TLS at all: it can be told so as it understands it.
    pub fn heard_no_tls(&self) -> bool {
        matches!(self, Transport::Tls(tls) if tls.heard_no_tls())
    }
}

/// Calls `io` again while it is interrupted.
pub fn uninterrupted<T>(mut io: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match io() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
