//! What the small frames say: hello, welcome, progress, refusal, goodbye, ping. Each with writer and reader.
//!
//! When they are sent is in [`super::server`] and [`super::client`].

use super::frame::{CONTROL_SIZE_MAX, FrameKind, write};
use super::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
use corefold_aggregator::time::EventTime;

/// First bytes of every session.
pub const MAGIC: [u8; 8] = *b"COREFOLD";

/// Longest name of a producer, and longest credentials, in bytes.
pub const NAME_SIZE_MAX: usize = 256;
/// See [`NAME_SIZE_MAX`].
pub const CREDENTIALS_SIZE_MAX: usize = 2048;
/// Longest text of a refusal; longer ones are cut.
pub const TEXT_SIZE_MAX: usize = 1024;

const HELLO_SIZE: usize = 48;
const WELCOME_SIZE: usize = 64;
const PROGRESS_SIZE: usize = 32;
const REFUSAL_SIZE: usize = 24;

const _: () = assert!(HELLO_SIZE + NAME_SIZE_MAX + CREDENTIALS_SIZE_MAX <= CONTROL_SIZE_MAX);
const _: () = assert!(REFUSAL_SIZE + TEXT_SIZE_MAX + 8 <= CONTROL_SIZE_MAX);

/// How far a batch must have come before its sender is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub enum Level {
    /// Taken over by the server. Lost if it dies.
    Received = 0,
    /// Written to the operating system. Lost with the machine.
    Written = 1,
    /// As durable as the server's configuration promises.
    #[default]
    Durable = 2,
}

/// What a client says first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Version of the protocol.
    pub version: u32,
    /// Sub-stream of the producer.
    pub lane: u32,
    /// The stream's schema.
    pub fingerprint: u64,
    /// When it wants to be told.
    pub level: Level,
    /// Grows with every connection of the lane: a hello that was long under way does not supersede a newer one.
    pub attempt: u64,
    /// The producer's name.
    pub producer: String,
    /// What it proves itself by.
    pub credentials: Vec<u8>,
}

/// What a server answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// Version of the protocol.
    pub version: u32,
    /// Most bytes of a batch.
    pub batch_size_max: u32,
    /// The sequence that is expected next.
    pub next: u64,
    /// Every sequence below this is durable.
    pub durable: u64,
    /// What all batches of this session together may cost, until more is given.
    pub credit: u64,
    /// Events of panes that end at or before this time are late.
    pub watermark: EventTime,
    /// How long the session may be silent.
    pub idle_max_ms: u32,
    /// Whether the lane has ended: nothing more is taken.
    pub has_ended: bool,
    /// Where the lane lives; zeros in version 1.
    pub place: Place,
}

/// Where a lane lives, and where others may: for clients that spread their lanes over the shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// How many shards the server has.
    pub shards: u32,
    /// Which of them the lane lives on.
    pub shard: u32,
    /// Port of shard 0 at the address of this connection; those of the others follow. 0: no shard has a port.
    pub port_first: u16,
    /// Most lanes of those who may use these credentials; 0: no such limit.
    pub lanes_max: u32,
}

/// How far batches have come. Each number is one past the highest sequence below which none is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Taken over.
    pub received: u64,
    /// Written.
    pub written: u64,
    /// Durable.
    pub durable: u64,
    /// What all batches of this session together may cost.
    pub credit: u64,
}

/// What a refusal is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Code {
    /// The bytes are not what the protocol asks for.
    Protocol = 1,
    /// A version that the server does not speak.
    Version = 2,
    /// Credentials are missing, wrong, or not enough.
    Denied = 3,
    /// No stream of the server has this fingerprint.
    UnknownStream = 4,
    /// A newer connection has taken the lane over.
    Superseded = 5,
    /// A sequence was left out.
    Gap = 6,
    /// A batch is not what its schema asks for.
    Batch = 7,
    /// A batch was past its deadline: it is counted as shed. The session goes on.
    Expired = 8,
    /// More was sent than there was credit for.
    Credit = 9,
    /// Too slow, or silent for too long.
    TooSlow = 10,
    /// No room for another session now.
    Busy = 11,
    /// The server stops.
    Stopping = 12,
    /// The lane has ended.
    LaneEnded = 13,
    /// A batch would exceed a limit of the server, such as the groups of a view.
    Limit = 14,
}

impl Code {
    const ALL: [Code; 14] = [
        Code::Protocol,
        Code::Version,
        Code::Denied,
        Code::UnknownStream,
        Code::Superseded,
        Code::Gap,
        Code::Batch,
        Code::Expired,
        Code::Credit,
        Code::TooSlow,
        Code::Busy,
        Code::Stopping,
        Code::LaneEnded,
        Code::Limit,
    ];

    /// Whether the same may succeed later, on a new connection.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Code::Gap | Code::TooSlow | Code::Busy | Code::Stopping)
    }

    /// Whether the session ends by it.
    pub const fn ends_session(self) -> bool {
        !matches!(self, Code::Expired)
    }
}

/// Something is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What it is about.
    pub code: Code,
    /// The batch that it is about, if it is about one.
    pub sequence: Option<u64>,
    /// For people.
    pub text: String,
}

impl Refusal {
    /// A refusal that is about no batch.
    pub fn new(code: Code, text: impl Into<String>) -> Refusal {
        Refusal { code, sequence: None, text: text.into() }
    }
}

/// Why a payload is not the message that its frame announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct MessageError(pub &'static str);

struct Writer {
    payload: Vec<u8>,
}

impl Writer {
    fn with(size: usize) -> Writer {
        Writer { payload: Vec::with_capacity(size) }
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Writer {
        self.payload.extend_from_slice(bytes);
        self
    }

    fn finish(&mut self, kind: FrameKind, out: &mut Vec<u8>) {
        self.payload.resize(self.payload.len().next_multiple_of(8), 0);
        write(kind, &self.payload, out);
    }
}

struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn of(payload: &'a [u8]) -> Reader<'a> {
        Reader { payload, at: 0 }
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], MessageError> {
        let bytes = self.payload.get(self.at..).and_then(|rest| rest.get(..count));
        self.at += count;
        bytes.ok_or(MessageError("the message is too short"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let bytes = self.bytes(N)?;
        bytes.try_into().map_err(|_| MessageError("the message is too short"))
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, MessageError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, MessageError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn zeros(&mut self, count: usize) -> Result<(), MessageError> {
        match self.bytes(count)?.iter().all(|&byte| byte == 0) {
            true => Ok(()),
            false => Err(MessageError("bytes that must be zero are not")),
        }
    }

    /// Nothing follows but zeros up to the next multiple of 8.
    fn end(mut self) -> Result<(), MessageError> {
        let padded = self.at.next_multiple_of(8);
        self.zeros(padded - self.at)?;
        if padded == self.payload.len() { Ok(()) } else { Err(MessageError("the message is too long")) }
    }
}

impl Hello {
    /// Appends the frame to `out`.
    ///
    /// Panics if name or credentials are longer than they may be.
    pub fn write(&self, out: &mut Vec<u8>) {
        assert!(self.producer.len() <= NAME_SIZE_MAX, "the producer's name is too long");
        assert!(self.credentials.len() <= CREDENTIALS_SIZE_MAX, "the credentials are too long");
        let mut writer = Writer::with(HELLO_SIZE + self.producer.len() + self.credentials.len() + 8);
        writer.put(&MAGIC).put(&self.version.to_le_bytes()).put(&self.lane.to_le_bytes());
        writer.put(&self.fingerprint.to_le_bytes()).put(&[self.level as u8, 0, 0, 0, 0, 0, 0, 0]);
        writer.put(&(self.producer.len() as u32).to_le_bytes());
        writer.put(&(self.credentials.len() as u32).to_le_bytes()).put(&self.attempt.to_le_bytes());
        writer.put(self.producer.as_bytes()).put(&self.credentials).finish(FrameKind::Hello, out);
    }

    /// Reads it from a payload. A version that is not ours is told before anything else is looked at.
    pub fn read(payload: &[u8]) -> Result<Hello, MessageError> {
        let mut reader = Reader::of(payload);
        if reader.array()? != MAGIC {
            return Err(MessageError("the hello does not begin with COREFOLD"));
        }
        let version = reader.u32()?;
        let lane = reader.u32()?;
        let fingerprint = reader.u64()?;
        let (mut producer, mut credentials) = (String::new(), Vec::new());
        if !(PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION).contains(&version) {
            let level = Level::Durable;
            return Ok(Hello { version, lane, fingerprint, level, attempt: 0, producer, credentials });
        }
        let [level] = reader.array()?;
        let levels = [Level::Received, Level::Written, Level::Durable];
        let level = *levels.get(usize::from(level)).ok_or(MessageError("the hello asks for an unknown level"))?;
        reader.zeros(7)?;
        let (name, proof) = (reader.u32()? as usize, reader.u32()? as usize);
        let attempt = reader.u64()?;
        if name == 0 || name > NAME_SIZE_MAX {
            return Err(MessageError("the producer's name must have 1 to 256 bytes"));
        }
        if proof > CREDENTIALS_SIZE_MAX {
            return Err(MessageError("the credentials have more than 2048 bytes"));
        }
        let text = std::str::from_utf8(reader.bytes(name)?);
        producer.push_str(text.map_err(|_| MessageError("the producer's name is not UTF-8"))?);
        credentials.extend_from_slice(reader.bytes(proof)?);
        reader.end()?;
        Ok(Hello { version, lane, fingerprint, level, attempt, producer, credentials })
    }
}

impl Welcome {
    /// Appends the frame to `out`, in the layout of its version.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::with(WELCOME_SIZE);
        writer.put(&self.version.to_le_bytes()).put(&self.batch_size_max.to_le_bytes());
        writer.put(&self.next.to_le_bytes()).put(&self.durable.to_le_bytes()).put(&self.credit.to_le_bytes());
        writer.put(&self.watermark.0.to_le_bytes()).put(&self.idle_max_ms.to_le_bytes());
        writer.put(&[u8::from(self.has_ended), 0, 0, 0]);
        if self.version > 1 {
            let Place { shards, shard, port_first, lanes_max } = self.place;
            writer.put(&shards.to_le_bytes()).put(&shard.to_le_bytes());
            writer.put(&port_first.to_le_bytes()).put(&[0; 2]).put(&lanes_max.to_le_bytes());
        }
        writer.finish(FrameKind::Welcome, out);
    }

    /// Reads it from a payload.
    pub fn read(payload: &[u8]) -> Result<Welcome, MessageError> {
        let mut reader = Reader::of(payload);
        let (version, batch_size_max) = (reader.u32()?, reader.u32()?);
        let (next, durable, credit) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let watermark = EventTime(reader.u64()?.cast_signed());
        let idle_max_ms = reader.u32()?;
        let [has_ended] = reader.array()?;
        reader.zeros(3)?;
        let mut place = Place::default();
        if version > 1 {
            (place.shards, place.shard) = (reader.u32()?, reader.u32()?);
            place.port_first = reader.u16()?;
            reader.zeros(2)?;
            place.lanes_max = reader.u32()?;
            if place.shard >= place.shards {
                return Err(MessageError("the lane is said to live on a shard that there is not"));
            }
        }
        reader.end()?;
        if has_ended > 1 {
            return Err(MessageError("whether the lane has ended is neither yes nor no"));
        }
        if durable > next {
            return Err(MessageError("more is said to be durable than was received"));
        }
        let has_ended = has_ended == 1;
        Ok(Welcome { version, batch_size_max, next, durable, credit, watermark, idle_max_ms, has_ended, place })
    }
}

impl Progress {
    /// Appends the frame to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut payload = [0; PROGRESS_SIZE];
        let words = [self.received, self.written, self.durable, self.credit];
        for (place, word) in payload.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        write(FrameKind::Progress, &payload, out);
    }

    /// Reads it from a payload.
    pub fn read(payload: &[u8]) -> Result<Progress, MessageError> {
        let mut reader = Reader::of(payload);
        let (received, written, durable, credit) = (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
        reader.end()?;
        if written > received || durable > written {
            return Err(MessageError("more is said to be written or durable than was received"));
        }
        Ok(Progress { received, written, durable, credit })
    }
}

impl Refusal {
    /// Appends the frame to `out`; a long text is cut.
    pub fn write(&self, out: &mut Vec<u8>) {
        let text = &self.text[..self.text.floor_char_boundary(TEXT_SIZE_MAX)];
        let mut writer = Writer::with(REFUSAL_SIZE + text.len() + 8);
        writer.put(&(self.code as u16).to_le_bytes()).put(&[u8::from(self.code.is_retryable())]);
        writer.put(&[u8::from(self.code.ends_session()), 0, 0, 0, 0]);
        writer.put(&self.sequence.unwrap_or(u64::MAX).to_le_bytes());
        writer.put(&(text.len() as u32).to_le_bytes()).put(&[0; 4]).put(text.as_bytes());
        writer.finish(FrameKind::Refusal, out);
    }

    /// Reads it from a payload.
    pub fn read(payload: &[u8]) -> Result<Refusal, MessageError> {
        let mut reader = Reader::of(payload);
        let code = reader.u16()?;
        let code = Code::ALL.into_iter().find(|known| *known as u16 == code);
        let code = code.ok_or(MessageError("the refusal has an unknown code"))?;
        let [retryable, ends] = reader.array()?;
        if (retryable, ends) != (u8::from(code.is_retryable()), u8::from(code.ends_session())) {
            return Err(MessageError("the refusal contradicts its code"));
        }
        reader.zeros(4)?;
        let sequence = Some(reader.u64()?).filter(|sequence| *sequence != u64::MAX);
        let size = reader.u32()? as usize;
        reader.zeros(4)?;
        let text = std::str::from_utf8(reader.bytes(size)?);
        let text = text.map_err(|_| MessageError("the text of a refusal is not UTF-8"))?.to_owned();
        reader.end()?;
        Ok(Refusal { code, sequence, text })
    }
}

/// Appends a goodbye to `out`.
pub fn write_goodbye(out: &mut Vec<u8>) {
    write(FrameKind::Goodbye, &[0; 8], out);
}

/// Appends a ping to `out`.
pub fn write_ping(out: &mut Vec<u8>) {
    write(FrameKind::Ping, &[0; 8], out);
}

/// Checks a goodbye or a ping, which say nothing more than that.
pub fn read_bare(payload: &[u8]) -> Result<(), MessageError> {
    let mut reader = Reader::of(payload);
    reader.zeros(8)?;
    reader.end()
}
