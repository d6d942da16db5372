//! The server's end of TLS over one socket: the handshake by rustls, then records opened in the place they are read to.
//!
//! Nothing here waits: reading and writing are given as calls, and whether the socket is the door's or a shard's does
//! not matter. Certificates are [`super::certificates`]'.

use super::certificates::names_in;
use super::records::{Opened, RECORD_SIZE_MAX, RecordError, Records};
use rustls::AlertDescription;
use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

/// Bytes read at a time once the handshake is done: some records, so that reads are few.
const BUFFER_SIZE: usize = 1 << 16;

/// Bytes of the buffer in which a handshake begins, and most that it may take: a chain of certificates.
const HANDSHAKE_BUFFER: usize = 1 << 12;
const HANDSHAKE_MAX: usize = 1 << 16;

const _: () = assert!(BUFFER_SIZE >= 2 * RECORD_SIZE_MAX);
const _: () = assert!(HANDSHAKE_MAX <= BUFFER_SIZE);

/// First byte of every record of a handshake.
pub const HANDSHAKE: u8 = 22;

/// See the module.
pub struct TlsStream {
    state: State,
    /// What was read and is not used: whole records, then the beginning of one.
    buffer: Vec<u8>,
    filled: Range<usize>,
    /// Data of the record that was opened last, in the buffer.
    data: Range<usize>,
    /// Data that came with the end of the handshake.
    early: Vec<u8>,
    early_at: usize,
    out: Vec<u8>,
    out_at: usize,
    names: Vec<String>,
    /// The first byte of all.
    first: Option<u8>,
    /// The other end will send nothing more.
    is_over: bool,
}

enum State {
    Handshake(Box<UnbufferedServerConnection>),
    Open(Box<Records>),
    Failed,
}

/// What a step of the handshake has led to.
enum Step {
    Again,
    Blocked,
    Done,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("is_open", &self.is_open())
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl TlsStream {
    /// A stream that awaits a client.
    pub fn new(config: Arc<ServerConfig>) -> Result<TlsStream, rustls::Error> {
        Ok(TlsStream {
            state: State::Handshake(Box::new(UnbufferedServerConnection::new(config)?)),
            buffer: vec![0; HANDSHAKE_BUFFER],
            filled: 0..0,
            data: 0..0,
            early: Vec::new(),
            early_at: 0,
            out: Vec::new(),
            out_at: 0,
            names: Vec::new(),
            first: None,
            is_over: false,
        })
    }

    /// Whether the handshake is done.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether the other end has turned out to speak no TLS at all.
    pub fn heard_no_tls(&self) -> bool {
        self.first.is_some_and(|first| first != HANDSHAKE)
    }

    /// Common name and DNS names of the client's certificate, if it has shown one.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads data to `space`; 0 at the end. What has to be said for it is written by [`TlsStream::flush`].
    pub fn read(
        &mut self,
        space: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            if self.early_at < self.early.len() {
                let count = copy(&self.early[self.early_at..], space);
                self.early_at += count;
                return Ok(count);
            }
            if !self.data.is_empty() {
                let count = copy(&self.buffer[self.data.clone()], space);
                self.data.start += count;
                return Ok(count);
            }
            if self.is_over {
                return Ok(0);
            }
            let has_moved = match self.state {
                State::Handshake(_) => self.shake()?,
                State::Open(_) => self.open_next()?,
                State::Failed => return Err(ErrorKind::ConnectionAborted.into()),
            };
            if !has_moved {
                self.make_room()?;
                let count = read(&mut self.buffer[self.filled.end..])?;
                if count == 0 {
                    self.is_over = true;
                }
                if let Some(&first) = self.buffer[self.filled.end..].first().filter(|_| count > 0) {
                    self.first.get_or_insert(first);
                }
                self.filled.end += count;
                if self.heard_no_tls() {
                    self.state = State::Failed;
                    return Err(invalid("the client speaks no TLS, and this address takes nothing else"));
                }
            }
        }
    }

    /// Seals some of `data`, and writes it if nothing else waits. A part may stay here, see [`TlsStream::flush`].
    pub fn write(&mut self, data: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        self.flush(&mut write)?;
        let State::Open(records) = &mut self.state else { return Err(ErrorKind::WouldBlock.into()) };
        let count = records.seal(data, &mut self.out).map_err(invalid)?;
        match self.flush(&mut write) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    /// Writes what waits to be written.
    pub fn flush(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while self.out_at < self.out.len() {
            match write(&self.out[self.out_at..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.out_at += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.out_at = 0;
        Ok(())
    }

    /// Says that nothing more will be written; [`TlsStream::flush`] writes it.
    pub fn close(&mut self) {
        if let State::Open(records) = &mut self.state {
            // Who cannot be told will see the end of the connection.
            let _ = records.say(AlertDescription::CloseNotify, &mut self.out);
        }
    }

    /// Opens the next record, if it is there as a whole; false if not.
    fn open_next(&mut self) -> io::Result<bool> {
        let State::Open(records) = &mut self.state else { return Ok(false) };
        let there = &mut self.buffer[self.filled.clone()];
        let opened = match Records::size_of(there) {
            Ok(Some(size)) if size <= there.len() => {
                let start = self.filled.start;
                self.filled.start += size;
                records.open(&mut there[..size], &mut self.out).map(|opened| (start, opened))
            }
            Ok(_) => return Ok(false),
            Err(error) => Err(error),
        };
        match opened {
            Ok((start, Opened::Data { at, size })) => self.data = start + at..start + at + size,
            Ok((_, Opened::Nothing)) => {}
            Ok((_, Opened::End)) => self.is_over = true,
            Err(error) => {
                let _ = records.say(error.alert(), &mut self.out);
                self.state = State::Failed;
                return Err(invalid(error));
            }
        }
        Ok(true)
    }

    /// Goes on with the handshake; false if it needs more bytes.
    fn shake(&mut self) -> io::Result<bool> {
        loop {
            let stepped = self.step();
            match stepped {
                Ok(Step::Again) => {}
                Ok(Step::Blocked) => return Ok(false),
                Ok(Step::Done) => {
                    self.open()?;
                    return Ok(true);
                }
                Err(error) => {
                    // What the client is told of it is still to be encoded.
                    while matches!(self.step(), Ok(Step::Again)) {}
                    self.state = State::Failed;
                    return Err(invalid(format!("the TLS handshake failed: {error}")));
                }
            }
        }
    }

    fn step(&mut self) -> Result<Step, rustls::Error> {
        let State::Handshake(connection) = &mut self.state else { return Ok(Step::Blocked) };
        let UnbufferedStatus { mut discard, state } =
            connection.process_tls_records(&mut self.buffer[self.filled.clone()]);
        let stepped = match state {
            Err(error) => Err(error),
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                let at = self.out.len();
                if let Err(EncodeError::InsufficientSize(size)) = message.encode(&mut []) {
                    self.out.resize(at + size.required_size, 0);
                    let encoded = message.encode(&mut self.out[at..]);
                    encoded.map(|_| Step::Again).map_err(|error| rustls::Error::General(error.to_string()))
                } else {
                    Ok(Step::Again)
                }
            }
            // It is in `out`, which is written before anything else.
            Ok(ConnectionState::TransmitTlsData(message)) => {
                message.done();
                Ok(Step::Again)
            }
            Ok(ConnectionState::ReadTraffic(mut data)) => {
                while let Some(record) = data.next_record() {
                    let record = record?;
                    self.early.extend_from_slice(record.payload);
                    discard += record.discard;
                }
                Ok(Step::Again)
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
            Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Done),
            Ok(_) => Err(rustls::Error::General("the client closed within the handshake".to_owned())),
        };
        self.filled.start += discard;
        stepped
    }

    /// The handshake is done: the keys are taken over.
    fn open(&mut self) -> io::Result<()> {
        let State::Handshake(connection) = std::mem::replace(&mut self.state, State::Failed) else { return Ok(()) };
        let shown = connection.peer_certificates().and_then(|chain| chain.first());
        self.names = shown.map(|certificate| names_in(certificate)).unwrap_or_default();
        let (secrets, keys) = connection.dangerous_into_kernel_connection().map_err(invalid)?;
        self.state = State::Open(Box::new(Records::new(secrets, keys).map_err(invalid)?));
        self.buffer.resize(BUFFER_SIZE, 0);
        Ok(())
    }

    /// Moves what is there to the front of the buffer if nothing more fits behind it.
    fn make_room(&mut self) -> io::Result<()> {
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
        if self.buffer.len() - self.filled.end >= RECORD_SIZE_MAX.min(self.buffer.len()) {
            return Ok(());
        }
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        if self.filled.end == self.buffer.len() {
            if self.is_open() || self.buffer.len() >= HANDSHAKE_MAX {
                self.state = State::Failed;
                return Err(invalid("a TLS handshake takes more bytes than it may"));
            }
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        Ok(())
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    to[..count].copy_from_slice(&from[..count]);
    count
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

impl From<RecordError> for io::Error {
    fn from(error: RecordError) -> io::Error {
        invalid(error)
    }
}
