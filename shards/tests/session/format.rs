//! The protocol's bytes against `docs/wire-format.md`: built here with the offsets of the document written out.

use corefold_aggregator::time::EventTime;
use corefold_shards::session::message::{Hello, Level, Progress, Refusal, Welcome};
use corefold_shards::session::{Code, Place, producer_of};

const SOURCES: [(&str, &[u8]); 2] = [
    ("shards/src/session/frame.rs", include_bytes!("../../src/session/frame.rs")),
    ("shards/src/session/message.rs", include_bytes!("../../src/session/message.rs")),
];
const DOCUMENT: &str = include_str!("../../../docs/wire-format.md");

#[test]
fn the_document_is_of_this_protocol() {
    for (path, source) in SOURCES {
        let line = format!("crc32c of `{path}`: `{:08x}`", crc32c::crc32c(source));
        assert!(
            DOCUMENT.contains(&line),
            "the protocol's code has changed: bring docs/wire-format.md up to date, then let it say: {line}"
        );
    }
}

/// A frame as the document has it.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend([kind, 0, 0, 0]);
    bytes.extend(crc32c::crc32c(payload).to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend(payload);
    bytes
}

#[test]
fn a_hello_is_as_written() {
    let mut payload = b"COREFOLD".to_vec();
    payload.extend(3_u32.to_le_bytes());
    payload.extend(9_u32.to_le_bytes());
    payload.extend(0x1122_u64.to_le_bytes());
    payload.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend(4_u32.to_le_bytes());
    payload.extend(3_u32.to_le_bytes());
    payload.extend(77_u64.to_le_bytes());
    payload.extend(b"nameabc\0");
    let hello = Hello {
        version: 3,
        lane: 9,
        fingerprint: 0x1122,
        level: Level::Written,
        attempt: 77,
        producer: "name".to_owned(),
        credentials: b"abc".to_vec(),
    };
    let mut bytes = Vec::new();
    hello.write(&mut bytes);
    assert_eq!(bytes, frame(1, &payload));
    assert_eq!(Hello::read(&payload), Ok(hello));
    assert_eq!(producer_of("name", 0x1122), xxhash_rust::xxh3::xxh3_64_with_seed(b"name", 0x1122));
}

#[test]
fn a_welcome_is_as_written() {
    let mut payload = 3_u32.to_le_bytes().to_vec();
    payload.extend(4096_u32.to_le_bytes());
    payload.extend([7_u64, 5, 8192, (-1_i64).cast_unsigned()].into_iter().flat_map(u64::to_le_bytes));
    payload.extend(60_000_u32.to_le_bytes());
    payload.extend([1, 0, 0, 0]);
    payload.extend([3_u32, 2].into_iter().flat_map(u32::to_le_bytes));
    payload.extend(7610_u16.to_le_bytes());
    payload.extend([0; 2]);
    payload.extend(5_u32.to_le_bytes());
    let welcome = Welcome {
        version: 3,
        batch_size_max: 4096,
        next: 7,
        durable: 5,
        credit: 8192,
        watermark: EventTime(-1),
        idle_max_ms: 60_000,
        has_ended: true,
        place: Place { shards: 3, shard: 2, port_first: 7610, lanes_max: 5 },
    };
    let mut bytes = Vec::new();
    welcome.write(&mut bytes);
    assert_eq!(bytes, frame(5, &payload));
    assert_eq!(Welcome::read(&payload), Ok(welcome));
    // A shard that there is not.
    payload[52] = 3;
    assert!(Welcome::read(&payload).is_err());
    // Version 1 ends before the place.
    payload.truncate(48);
    payload[0] = 1;
    let welcome = Welcome { version: 1, place: Place::default(), ..welcome };
    let mut bytes = Vec::new();
    welcome.write(&mut bytes);
    assert_eq!(bytes, frame(5, &payload));
    assert_eq!(Welcome::read(&payload), Ok(welcome));
}

#[test]
fn progress_and_refusals_are_as_written() {
    let payload: Vec<u8> = [9_u64, 8, 7, 65_536].into_iter().flat_map(u64::to_le_bytes).collect();
    let progress = Progress { received: 9, written: 8, durable: 7, credit: 65_536 };
    let mut bytes = Vec::new();
    progress.write(&mut bytes);
    assert_eq!(bytes, frame(6, &payload));
    assert_eq!(Progress::read(&payload), Ok(progress));

    let mut payload = vec![8, 0, 0, 0, 0, 0, 0, 0];
    payload.extend(12_u64.to_le_bytes());
    payload.extend(5_u32.to_le_bytes());
    payload.extend([0; 4]);
    payload.extend(b"late.\0\0\0");
    let refusal = Refusal { code: Code::Expired, sequence: Some(12), text: "late.".to_owned() };
    let mut bytes = Vec::new();
    refusal.write(&mut bytes);
    assert_eq!(bytes, frame(7, &payload));
    assert_eq!(Refusal::read(&payload), Ok(refusal));
    // Busy: may be tried again, and ends the session.
    let mut bytes = Vec::new();
    Refusal::new(Code::Busy, "").write(&mut bytes);
    assert_eq!(bytes[16..24], [11, 0, 1, 1, 0, 0, 0, 0]);
}
