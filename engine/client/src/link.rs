//! One TCP connection of a lane: what can be read and written now is, and nothing waits longer than it is told.
//!
//! What the bytes mean is the lane's business.

use crate::bell::{self, Bell};
use corefold_shards::session::client::ClientError;
use corefold_shards::session::{ClientEvent, ClientLane, Now};
use rustix::event::{PollFd, PollFlags};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// An open connection.
#[derive(Debug)]
pub struct Link {
    socket: TcpStream,
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub enum LinkError {
    /// The network.
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
    /// Connects to the first address of `server` that answers.
    pub fn open(server: &str, connect_max: Duration) -> io::Result<Link> {
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in server.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, connect_max) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    socket.set_nonblocking(true)?;
                    return Ok(Link { socket });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Takes a socket that is connected already, whatever is at its other end.
    pub fn over(socket: TcpStream) -> io::Result<Link> {
        socket.set_nonblocking(true)?;
        Ok(Link { socket })
    }

    /// Writes and reads what can be, without waiting. True if any byte moved.
    pub fn turn(&mut self, lane: &mut ClientLane, now: Now, events: &mut Vec<ClientEvent>) -> Result<bool, LinkError> {
        let mut any = false;
        loop {
            let output = lane.output();
            if output.is_empty() {
                break;
            }
            match self.socket.write(output) {
                Ok(count) => {
                    lane.sent(count, now);
                    any |= count > 0;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What the server said last tells more than that it is gone.
                Err(error) => {
                    self.read(lane, now, events)?;
                    return Err(error.into());
                }
            }
        }
        Ok(self.read(lane, now, events)? || any)
    }

    fn read(&mut self, lane: &mut ClientLane, now: Now, events: &mut Vec<ClientEvent>) -> Result<bool, LinkError> {
        let mut any = false;
        while let Some(space) = lane.space() {
            match self.socket.read(space) {
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

    /// Waits until something can be read, or written if `wants_write`, or the bell rings, or for `max`.
    pub fn wait(&self, wants_write: bool, max: Duration, bell: Option<&Bell>) -> io::Result<()> {
        let flags = if wants_write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let socket = PollFd::new(&self.socket, flags);
        match bell {
            None => bell::wait(&mut [socket], max),
            Some(bell) => bell::wait(&mut [socket, PollFd::from_borrowed_fd(bell.descriptor(), PollFlags::IN)], max),
        }
    }
}
