//! Frames: a checked header of 16 bytes, then a payload that starts and ends on multiples of 8.
//!
//! What a payload means is in [`super::message`]; nothing is decided here but whether bytes are whole.

use crate::batch::{AlignedBytes, BATCH_ALIGNMENT};

/// Bytes of a frame's header.
pub const HEADER_SIZE: usize = 16;

/// Most bytes of the payload of a frame that is no batch.
pub const CONTROL_SIZE_MAX: usize = 4096;

/// Least bytes of any payload.
pub const PAYLOAD_SIZE_MIN: usize = 8;

const _: () = assert!(HEADER_SIZE.is_multiple_of(BATCH_ALIGNMENT));
const _: () = assert!(CONTROL_SIZE_MAX.is_multiple_of(BATCH_ALIGNMENT));

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// Client: who sends what. The first frame.
    Hello = 1,
    /// Client: a batch, as it is logged.
    Batch = 2,
    /// Both: nothing more will be sent.
    Goodbye = 3,
    /// Client: still here. Server: heard.
    Ping = 4,
    /// Server: the answer to a hello.
    Welcome = 5,
    /// Server: how far batches have come, and how much more may be sent.
    Progress = 6,
    /// Server: something is refused.
    Refusal = 7,
}

impl FrameKind {
    fn of(byte: u8) -> Option<FrameKind> {
        use FrameKind::{Batch, Goodbye, Hello, Ping, Progress, Refusal, Welcome};
        [Hello, Batch, Goodbye, Ping, Welcome, Progress, Refusal].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Why bytes are no frame. After any of these nothing behind them can be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// The header's checksum.
    #[error("the header of a frame is damaged, or this is another protocol")]
    Header,
    /// The payload's checksum.
    #[error("the payload of a frame is damaged")]
    Payload,
    /// No such kind.
    #[error("there is no frame of kind {kind}")]
    Kind {
        /// What was found.
        kind: u8,
    },
    /// Bytes that must be zero are not.
    #[error("bytes of a frame's header that must be zero are not")]
    Reserved,
    /// Payload too long, too short, or not a multiple of 8.
    #[error("a frame announces a payload of {size} bytes; expected a multiple of 8 from 8 to {max}")]
    Size {
        /// What was announced.
        size: usize,
        /// The limit.
        max: usize,
    },
}

/// The header of a frame with this payload.
///
/// Panics if the payload's size is none that a frame may have.
pub fn header(kind: FrameKind, payload: &[u8]) -> [u8; HEADER_SIZE] {
    assert!(payload.len() >= PAYLOAD_SIZE_MIN, "payloads are not empty");
    assert!(payload.len().is_multiple_of(BATCH_ALIGNMENT), "payloads end on multiples of 8");
    let size = u32::try_from(payload.len()).expect("payloads are shorter than 4 GiB");
    let mut header = [0; HEADER_SIZE];
    header[0..4].copy_from_slice(&size.to_le_bytes());
    header[4] = kind as u8;
    header[8..12].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    let check = crc32c::crc32c(&header[..12]);
    header[12..16].copy_from_slice(&check.to_le_bytes());
    header
}

/// Appends a whole frame to `out`.
pub fn write(kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&header(kind, payload));
    out.extend_from_slice(payload);
}

#[derive(Clone, Copy, Debug)]
struct Header {
    kind: FrameKind,
    size: usize,
    checksum: u32,
}

impl Header {
    fn read(bytes: &[u8; HEADER_SIZE], batch_size_max: usize) -> Result<Header, FrameError> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if word(12) != crc32c::crc32c(&bytes[..12]) {
            return Err(FrameError::Header);
        }
        let kind = FrameKind::of(bytes[4]).ok_or(FrameError::Kind { kind: bytes[4] })?;
        if bytes[5..8] != [0; 3] {
            return Err(FrameError::Reserved);
        }
        let max = if kind == FrameKind::Batch { batch_size_max } else { CONTROL_SIZE_MAX };
        let size = word(0) as usize;
        if size < PAYLOAD_SIZE_MIN || size > max || !size.is_multiple_of(BATCH_ALIGNMENT) {
            return Err(FrameError::Size { size, max });
        }
        Ok(Header { kind, size, checksum: word(8) })
    }
}

/// Bytes to frames, however they are cut. The payload of a batch is read to the place where it stays.
///
/// Use: read into [`FrameReader::space`], say how much with [`FrameReader::filled`]. No memory is taken for a payload
/// before its header has passed all checks.
#[derive(Debug)]
pub struct FrameReader {
    batch_size_max: usize,
    header: [u8; HEADER_SIZE],
    /// Bytes of the header, then of the payload, that are there.
    have: usize,
    frame: Option<Header>,
    control: AlignedBytes,
    batch: AlignedBytes,
}

impl FrameReader {
    /// A reader of frames whose batches have at most `batch_size_max` bytes.
    pub fn new(batch_size_max: usize) -> FrameReader {
        FrameReader {
            batch_size_max,
            header: [0; HEADER_SIZE],
            have: 0,
            frame: None,
            control: AlignedBytes::new(),
            batch: AlignedBytes::new(),
        }
    }

    /// Where the next bytes belong; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        let Some(frame) = self.frame else { return &mut self.header[self.have..] };
        let payload = if frame.kind == FrameKind::Batch { &mut self.batch } else { &mut self.control };
        if self.have == 0 {
            payload.resize(frame.size);
        }
        &mut payload.as_mut_slice()[self.have..]
    }

    /// Bytes of the batch that comes next, if its header is there and nothing else of it: the moment to wait for room
    /// or to [lend](FrameReader::lend) memory.
    pub fn batch_ahead(&self) -> Option<usize> {
        self.frame.filter(|frame| frame.kind == FrameKind::Batch && self.have == 0).map(|frame| frame.size)
    }

    /// Gives memory for the batch that comes next.
    pub fn lend(&mut self, memory: AlignedBytes) {
        debug_assert!(self.batch_ahead().is_some(), "memory is lent for a batch that comes next");
        self.batch = memory;
    }

    /// Whether no part of a frame has come.
    pub fn is_between_frames(&self) -> bool {
        self.frame.is_none() && self.have == 0
    }

    /// Takes note of `count` bytes written to the front of [`FrameReader::space`]; tells the frame that they complete.
    pub fn filled(&mut self, count: usize) -> Result<Option<FrameKind>, FrameError> {
        self.have += count;
        let Some(frame) = self.frame else {
            assert!(self.have <= HEADER_SIZE, "no more is read than there is space");
            if self.have == HEADER_SIZE {
                self.frame = Some(Header::read(&self.header, self.batch_size_max)?);
                self.have = 0;
            }
            return Ok(None);
        };
        assert!(self.have <= frame.size, "no more is read than there is space");
        if self.have < frame.size {
            return Ok(None);
        }
        let payload = if frame.kind == FrameKind::Batch { &self.batch } else { &self.control };
        if crc32c::crc32c(payload.as_slice()) != frame.checksum {
            return Err(FrameError::Payload);
        }
        (self.frame, self.have) = (None, 0);
        Ok(Some(frame.kind))
    }

    /// The payload of the frame that was completed last, if it was no batch.
    pub fn control(&self) -> &[u8] {
        self.control.as_slice()
    }

    /// Takes the payload of the batch that was completed last.
    pub fn take_batch(&mut self) -> AlignedBytes {
        std::mem::take(&mut self.batch)
    }
}
