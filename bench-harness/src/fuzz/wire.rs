//! The wire target: any bytes at both ends of the front door's protocol, checksums put right on demand.
//!
//! An input is one byte of choices and what a peer sends. Batches that a session lets through are verified, and what
//! those hold is the batch target's.

use super::stage;
use crate::entropy::Entropy;
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::wire::patch_stamp;
use corefold_shards::batch::{Stamp, VerifiedBatch};
use corefold_shards::session::frame::{HEADER_SIZE, write};
use corefold_shards::session::message::{write_goodbye, write_ping};
use corefold_shards::session::{
    Admission, ClientLane, ClientLimits, FrameKind, Hello, LaneName, Level, Now, Place, Progress, ServerEvent,
    ServerSession, SessionLimits, Welcome, producer_of,
};
use xxhash_rust::xxh3::Xxh3;

/// Choice: the checksums of frames are put right.
const MEND: u8 = 1;
/// Choice: the bytes are a server's, read by a client.
const TO_CLIENT: u8 = 2;

const NAME: &str = "fuzz";
const PLACE: Place = Place { shards: 2, shard: 1, port_first: 7610, lanes_max: 9 };

/// See the module.
pub fn body(input: &[u8]) -> u64 {
    let Some((&choices, bytes)) = input.split_first() else { return 0 };
    let mut bytes = bytes.to_vec();
    if choices & MEND != 0 {
        mend(&mut bytes);
    }
    // Cuts of 1 to 64 bytes, by the same byte.
    let cut = 1 + usize::from(choices >> 2);
    let mut hash = Xxh3::new();
    let now = Now { steady_ns: 1, wall: EventTime(0) };
    if choices & TO_CLIENT == 0 {
        serve(&bytes, cut, now, &mut hash)
    } else {
        listen(&bytes, cut, now, &mut hash)
    }
    hash.digest()
}

fn serve(bytes: &[u8], cut: usize, now: Now, hash: &mut Xxh3) {
    let session_limits = SessionLimits {
        batch_size_max: 1 << 16,
        credit_max: 1 << 20,
        hello_max_ns: 10,
        idle_max_ns: 10,
        rate_min: 1,
        slow_grace_ns: 10,
    };
    let stream = stage::stream();
    let mut session = ServerSession::new(session_limits, now);
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(space) = session.space() else { break };
        let count = space.len().min(rest.len()).min(cut);
        space[..count].copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        let event = session.filled(count, now);
        match &event {
            Ok(None) => continue,
            Ok(Some(ServerEvent::Hello(_))) => {
                let (next, durable, watermark, room) = (0, 0, EventTime::MIN, 1 << 20);
                session.welcome(&Admission { next, durable, watermark, has_ended: false, room, place: PLACE });
            }
            Ok(Some(ServerEvent::Batch(received) | ServerEvent::Expired(received))) => {
                session.free(received.cost);
                session.grant(1 << 20);
                session.advance(received.stamp.sequence, received.stamp.sequence);
                let bytes = received.bytes.as_slice().into();
                hash.update(&[u8::from(VerifiedBatch::verify(bytes, stream.fingerprint(), &stream.fields).is_ok())]);
            }
            Ok(Some(ServerEvent::Goodbye)) | Err(_) => {}
        }
        hash.update(format!("{event:?}").as_bytes());
        let said = session.output().len();
        hash.update(session.output());
        session.sent(said);
    }
    hash.update(&[u8::from(session.is_done()), u8::from(session.check_time(Now { steady_ns: 99, ..now }).is_ok())]);
}

fn listen(bytes: &[u8], cut: usize, now: Now, hash: &mut Xxh3) {
    let stream = stage::stream();
    let name = LaneName {
        producer: NAME.to_owned(),
        lane: 0,
        fingerprint: stream.fingerprint(),
        credentials: Vec::new(),
        level: Level::Durable,
    };
    let mut lane = ClientLane::new(name, ClientLimits { batches_max: 4, bytes_max: 1 << 20, answer_max_ns: 10 });
    for sequence in 0..3 {
        let batch = stage::encode(&stage::rows(&mut Entropy::new(sequence)), sequence);
        hash.update(format!("{:?}", lane.offer(batch, 0, EventTime::MAX, 0).is_ok()).as_bytes());
    }
    lane.connect(now);
    let mut rest = bytes;
    while !rest.is_empty() {
        let sent = lane.output().len();
        hash.update(&sent.to_le_bytes());
        if sent > 0 {
            lane.sent(sent, now);
        }
        let Some(space) = lane.space() else { break };
        let count = space.len().min(rest.len()).min(cut);
        space[..count].copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        let event = lane.filled(count, now);
        hash.update(format!("{event:?} {}", lane.durable()).as_bytes());
        if event.is_err() {
            return;
        }
    }
    hash.update(format!("{:?}", lane.check_time(Now { steady_ns: 99, ..now })).as_bytes());
}

/// Puts the checksums of all frames right whose sizes are.
fn mend(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= HEADER_SIZE {
        let size = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let (header, payload) = rest.split_at_mut(HEADER_SIZE);
        let size = size.min(payload.len());
        let (payload, behind) = payload.split_at_mut(size);
        header[8..12].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        let check = crc32c::crc32c(&header[..12]);
        header[12..16].copy_from_slice(&check.to_le_bytes());
        rest = behind;
    }
}

/// A session as an honest peer would have it.
pub fn sound(entropy: &mut Entropy) -> Vec<u8> {
    let to_client = entropy.chance(0.4);
    let mut input = vec![(entropy.below(256) as u8) & !TO_CLIENT | if to_client { TO_CLIENT } else { 0 } | MEND];
    let fingerprint = stage::stream().fingerprint();
    if to_client {
        let (next, durable) = (entropy.below(3), 0);
        let welcome = Welcome {
            version: 1 + entropy.below(2) as u32,
            batch_size_max: 1 << 16,
            next,
            durable,
            credit: 1 << 20,
            watermark: EventTime::MIN,
            idle_max_ms: 1000,
            has_ended: entropy.chance(0.1),
            place: PLACE,
        };
        welcome.write(&mut input);
        for received in next..=3 {
            let written = entropy.below(received + 1);
            let durable = entropy.below(written + 1);
            Progress { received, written, durable, credit: 1 << 20 }.write(&mut input);
        }
        return input;
    }
    let (producer, credentials) = (NAME.to_owned(), vec![7; entropy.below(20) as usize]);
    let version = 1 + entropy.below(2) as u32;
    Hello { version, lane: 0, fingerprint, level: Level::Written, attempt: 1, producer, credentials }.write(&mut input);
    for sequence in 0..entropy.below(4) {
        let mut batch = stage::encode(&stage::rows(entropy), sequence);
        let stamp = Stamp::of_lane(producer_of(NAME, fingerprint), 0, sequence);
        // What an encoder made has a stamp.
        let _ = patch_stamp(batch.as_mut_slice(), &stamp);
        batch.pad(8, 0);
        write(FrameKind::Batch, batch.as_slice(), &mut input);
        if entropy.chance(0.3) {
            write_ping(&mut input);
        }
    }
    write_goodbye(&mut input);
    input
}
