//! One connection of a lane, plain or by TLS: what can be read and written now is, and nothing waits longer than it is
//! told.
//!
//! What the bytes mean is the lane's business; whom TLS trusts is in [`crate::tls`].

use crate::bell::{self, Bell};
use crate::tls::{TlsConfig, explain};
use corefold_shards::session::client::ClientError;
use corefold_shards::session::{ClientEvent, ClientLane, Now};
use rustix::event::{PollFd, PollFlags};
use rustls::ClientConnection;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// An open connection.
#[derive(Debug)]
pub struct Link {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub enum LinkError {
    /// The network, or TLS over it.
    Io(io::Error),
    /// What the server says.
    Session(ClientError),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> LinkError {
        LinkError::Io(error)
    }
}

impl Link {
    /// Connects to the first address of `server` that answers. What is said by TLS is said in the turns that follow.
    pub fn open(server: &str, connect_max: Duration, tls: Option<&TlsConfig>) -> io::Result<Link> {
        let tls = tls.map(|tls| tls.begin(server).map(Box::new)).transpose()?;
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in server.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, connect_max) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    socket.set_nonblocking(true)?;
                    return Ok(Link { socket, tls });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Its socket, to wait for.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether bytes that the lane has given wait to be written.
    pub fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Writes and reads what can be, without waiting. True if any byte moved.
    pub fn turn(&mut self, lane: &mut ClientLane, now: Now, events: &mut Vec<ClientEvent>) -> Result<bool, LinkError> {
        let mut any = false;
        loop {
            let written = self.write(lane.output());
            match written {
                Ok(0) => break,
                Ok(count) => {
                    lane.sent(count, now);
                    any = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What the server said last tells more than that it is gone.
                Err(error) => {
                    self.read_all(lane, now, events)?;
                    return Err(error.into());
                }
            }
        }
        let read = self.read_all(lane, now, events)?;
        // What was read may want an answer by TLS itself.
        self.flush().or_else(|error| if error.kind() == ErrorKind::WouldBlock { Ok(()) } else { Err(error) })?;
        Ok(read || any)
    }

    /// Writes some of `data`; 0 if there is none.
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.flush()?;
        if data.is_empty() {
            return Ok(0);
        }
        let Some(tls) = &mut self.tls else { return self.socket.write(data) };
        if tls.is_handshaking() {
            return Err(ErrorKind::WouldBlock.into());
        }
        // It takes as much as its buffer has room for.
        let count = tls.writer().write(data)?;
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ if count == 0 => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(count),
        }
    }

    /// Writes what TLS has sealed.
    fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_all(&mut self, lane: &mut ClientLane, now: Now, events: &mut Vec<ClientEvent>) -> Result<bool, LinkError> {
        let mut any = false;
        while let Some(space) = lane.space() {
            match self.read(space) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(count) => {
                    any = true;
                    events.extend(lane.filled(count, now).map_err(LinkError::Session)?);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(any)
    }

    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(space) };
        loop {
            match tls.reader().read(space) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            let count = tls.read_tls(&mut self.socket)?;
            if let Err(error) = tls.process_new_packets() {
                // The server is told why, if it still listens.
                let _ = tls.write_tls(&mut self.socket);
                return Err(explain(error));
            }
            if count == 0 && tls.is_handshaking() {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed within the TLS handshake"));
            }
        }
    }

    /// Waits until something can be read, or written if that is wanted, or the bell rings, or for `max`.
    pub fn wait(&self, wants_write: bool, max: Duration, bell: Option<&Bell>) -> io::Result<()> {
        // Before the handshake is done, the lane has to wait whatever it wants to write.
        let may_write = self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking());
        let wants_write = (wants_write && may_write) || self.wants_write();
        let flags = if wants_write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let socket = PollFd::new(self.socket(), flags);
        match bell {
            None => bell::wait(&mut [socket], max),
            Some(bell) => bell::wait(&mut [socket, PollFd::from_borrowed_fd(bell.descriptor(), PollFlags::IN)], max),
        }
    }
}
