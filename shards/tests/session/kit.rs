//! Small batches, limits and clocks for sessions.

use corefold_aggregator::spec::FieldType;
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::{AlignedBytes, ColumnSet, Stamp, encode};
use corefold_shards::session::client::ClientError;
use corefold_shards::session::{
    Admission, ClientEvent, ClientLane, ClientLimits, LaneName, Level, Now, Place, ServerEvent, ServerSession,
    SessionLimits, Welcome, producer_of,
};

pub const FINGERPRINT: u64 = 0xC0FE;
pub const PRODUCER: &str = "sensor-7";
pub const SECOND: u64 = 1_000_000_000;

pub const LIMITS: SessionLimits = SessionLimits {
    batch_size_max: 4096,
    credit_max: 32_768,
    hello_max_ns: 5 * SECOND,
    idle_max_ns: 60 * SECOND,
    rate_min: 1000,
    slow_grace_ns: SECOND,
};

pub fn at(steady_ns: u64) -> Now {
    Now { steady_ns, wall: EventTime(1_000_000) }
}

pub fn name() -> LaneName {
    LaneName {
        producer: PRODUCER.to_owned(),
        lane: 3,
        fingerprint: FINGERPRINT,
        credentials: b"secret".to_vec(),
        level: Level::Durable,
    }
}

pub fn client() -> ClientLane {
    let limits = ClientLimits { batches_max: 6, bytes_max: 1 << 20, answer_max_ns: 10 * SECOND };
    ClientLane::new(name(), limits)
}

/// A batch of `rows` rows whose only column holds `value`.
pub fn batch_of(value: i64, rows: usize, stamp: &Stamp) -> AlignedBytes {
    let mut columns = ColumnSet::new(&[FieldType::I64]);
    for row in 0..rows {
        columns.times.push(1_000 + row as i64);
        columns.columns[0].push_i64(Some(value));
    }
    let mut bytes = AlignedBytes::new();
    encode(&columns, FINGERPRINT, stamp, &mut bytes).expect("a small batch");
    bytes.pad(8, 0);
    bytes
}

/// Lets a client in that goes on with `next`.
pub fn admission(next: u64, durable: u64) -> Admission {
    let place = Place { shards: 1, ..Place::default() };
    Admission { next, durable, watermark: EventTime::MIN, has_ended: false, room: LIMITS.credit_max, place }
}

pub fn stamp(sequence: u64) -> Stamp {
    Stamp::of_lane(producer_of(PRODUCER, FINGERPRINT), 3, sequence)
}

/// All bytes that the client wants to send.
pub fn drain_client(client: &mut ClientLane, now: Now) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let output = client.output().to_vec();
        if output.is_empty() {
            return all;
        }
        client.sent(output.len(), now);
        all.extend(output);
    }
}

/// All bytes that the server wants to send.
pub fn drain_server(server: &mut ServerSession) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let output = server.output().to_vec();
        if output.is_empty() {
            return all;
        }
        server.sent(output.len());
        all.extend(output);
    }
}

/// Gives bytes to the server until it takes no more; stops at a refusal.
pub fn feed_server(
    server: &mut ServerSession,
    mut bytes: &[u8],
    now: Now,
) -> Result<Vec<ServerEvent>, corefold_shards::session::Refusal> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let Some(space) = server.space() else { return Ok(events) };
        let count = space.len().min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        events.extend(server.filled(count, now)?);
    }
    Ok(events)
}

/// A server that has let the client in.
pub fn open_server(next: u64) -> ServerSession {
    let mut server = ServerSession::new(LIMITS, at(0));
    let mut client = client();
    client.connect(at(0));
    let hello = drain_client(&mut client, at(0));
    let events = feed_server(&mut server, &hello, at(0)).expect("a good hello");
    assert!(matches!(events[..], [ServerEvent::Hello(_)]));
    server.welcome(&admission(next, next));
    drain_server(&mut server);
    server
}

/// What a server says that lets a client in.
pub fn welcome(next: u64, durable: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let welcome = Welcome {
        version: 3,
        batch_size_max: 4096,
        next,
        durable,
        credit: 8192,
        watermark: EventTime::MIN,
        idle_max_ms: 60_000,
        has_ended: false,
        place: Place { shards: 1, ..Place::default() },
    };
    welcome.write(&mut bytes);
    bytes
}

/// What a client makes, in the end, of what a server says.
pub fn hear(client: &mut ClientLane, mut said: &[u8]) -> Result<Option<ClientEvent>, ClientError> {
    let mut last = None;
    while !said.is_empty() {
        let space = client.space().expect("connected");
        let count = space.len().min(said.len());
        space[..count].copy_from_slice(&said[..count]);
        said = &said[count..];
        last = client.filled(count, at(0))?;
    }
    Ok(last)
}
