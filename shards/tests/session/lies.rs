//! Clients and servers that do not keep to the protocol: each lie meets its sentence, and ends the session.

use crate::kit::{FINGERPRINT, LIMITS, SECOND, at, batch_of, client, drain_client, drain_server, feed_server, name};
use crate::kit::{admission, hear, open_server, stamp, welcome};
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::wire::patch_stamp;
use corefold_shards::batch::{AlignedBytes, Stamp};
use corefold_shards::session::client::{ClientError, OfferError};
use corefold_shards::session::frame::write;
use corefold_shards::session::message::{MAGIC, write_goodbye, write_ping};
use corefold_shards::session::{
    Admission, ClientEvent, Code, FrameKind, Hello, LANE_END, Overdue, Place, Progress, Refusal, ServerEvent,
    ServerSession, Welcome,
};

fn frame(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(kind, payload, &mut bytes);
    bytes
}

/// Code and text that bytes meet at an open server, or what became of them.
fn refused(server: &mut ServerSession, bytes: &[u8]) -> (Code, String) {
    let refusal = feed_server(server, bytes, at(0)).expect_err("a lie");
    assert!(!server.is_open());
    // The client is told the same.
    let told = drain_server(server);
    // Before it, what has come so far may be told once more: a frame of kind 6, of 16 and 32 bytes.
    let told = if told[4] == FrameKind::Progress as u8 { &told[48..] } else { &told[..] };
    assert_eq!(Refusal::read(&told[16..]).as_ref(), Ok(&refusal));
    assert!(server.is_done());
    (refusal.code, refusal.text)
}

fn batch_frame(lie: impl FnOnce(&mut Stamp)) -> Vec<u8> {
    let mut lying = stamp(0);
    lie(&mut lying);
    let mut bytes = batch_of(1, 2, &stamp(0));
    patch_stamp(bytes.as_mut_slice(), &lying).expect("a batch");
    frame(FrameKind::Batch, bytes.as_slice())
}

#[test]
fn each_lie_of_a_batch_is_named() {
    let lie = |lie: fn(&mut Stamp)| refused(&mut open_server(0), &batch_frame(lie));
    let other = "the batch is stamped with another producer or lane";
    assert_eq!(lie(|stamp| stamp.producer += 1), (Code::Batch, other.to_owned()));
    assert_eq!(lie(|stamp| stamp.producer = 0), (Code::Batch, other.to_owned()));
    assert_eq!(lie(|stamp| stamp.lane = 4), (Code::Batch, other.to_owned()));
    assert_eq!(lie(|stamp| stamp.parts = 2).1, "the batch is a part of another one");
    assert_eq!(lie(|stamp| stamp.parts = 0).0, Code::Batch);
    assert_eq!(lie(|stamp| stamp.sequence = u64::MAX).0, Code::Batch);
    assert_eq!(lie(|stamp| stamp.first_row = u64::MAX).0, Code::Batch);
    assert_eq!(lie(|stamp| stamp.sequence = 1), (Code::Gap, "sequence 0 was expected, 1 came".to_owned()));
    assert_eq!(
        refused(&mut open_server(0), &frame(FrameKind::Batch, &[0; 64])).1,
        "the payload of a batch frame is no batch"
    );
}

#[test]
fn each_lie_of_a_hello_is_named() {
    let mut bytes = Vec::new();
    let hello = Hello {
        version: 3,
        lane: 3,
        fingerprint: FINGERPRINT,
        level: name().level,
        attempt: 0,
        producer: name().producer,
        credentials: Vec::new(),
    };
    hello.write(&mut bytes);
    let honest = bytes[16..].to_vec();
    let lie = |at: usize, value: u8| {
        let mut payload = honest.clone();
        payload[at] = value;
        refused(&mut ServerSession::new(LIMITS, crate::kit::at(0)), &frame(FrameKind::Hello, &payload))
    };
    assert_eq!(&honest[..8], &MAGIC);
    assert_eq!(lie(0, b'X').1, "the hello does not begin with COREFOLD");
    assert_eq!(lie(8, 4), (Code::Version, "protocol version 4 is not spoken here, only 1 to 3".to_owned()));
    assert_eq!(lie(24, 3).1, "the hello asks for an unknown level");
    assert_eq!(lie(25, 1).1, "bytes that must be zero are not");
    assert_eq!(lie(32, 0).1, "the producer's name must have 1 to 256 bytes");
    assert_eq!(lie(33, 2).1, "the producer's name must have 1 to 256 bytes");
    assert_eq!(lie(37, 9).1, "the credentials have more than 2048 bytes");
    assert_eq!(lie(32, 200).1, "the message is too short");
    assert_eq!(lie(48, 0xFF).1, "the producer's name is not UTF-8");
    let mut long = honest.clone();
    long.extend([0; 8]);
    let said = refused(&mut ServerSession::new(LIMITS, at(0)), &frame(FrameKind::Hello, &long));
    assert_eq!(said.1, "the message is too long");
    let said = refused(&mut ServerSession::new(LIMITS, at(0)), &frame(FrameKind::Ping, &[0; 8]));
    assert_eq!(said.1, "the first frame is no hello");
    assert_eq!(refused(&mut open_server(0), &frame(FrameKind::Hello, &honest)).0, Code::Protocol);
    assert_eq!(refused(&mut open_server(0), &frame(FrameKind::Welcome, &[0; 48])).0, Code::Protocol);
    assert_eq!(refused(&mut open_server(0), &frame(FrameKind::Goodbye, &[1; 8])).0, Code::Protocol);
}

/// Its header is enough: no memory is taken for what it announces.
#[test]
fn a_batch_before_the_hello_is_refused_before_any_of_it_is_read() {
    let mut server = ServerSession::new(LIMITS, at(0));
    let header = &batch_frame(|_| {})[..16];
    let said = refused(&mut server, header);
    assert_eq!(said, (Code::Protocol, "the first frame is no hello".to_owned()));
    assert!(server.space().is_none());
}

#[test]
fn more_than_the_credit_is_refused_and_the_largest_batch_always_fits() {
    let mut server = open_server(0);
    let bytes = batch_frame(|_| {});
    // Each takes one step of 4,096.
    for sequence in 0..8 {
        let bytes = batch_frame(|stamp| stamp.sequence = sequence);
        let events = feed_server(&mut server, &bytes, at(0)).expect("there is credit");
        assert!(matches!(&events[..], [ServerEvent::Batch(received)] if received.cost == 4096));
    }
    assert_eq!(refused(&mut server, &bytes).0, Code::Credit);

    let mut server = open_server(0);
    for sequence in 0..40 {
        let bytes = batch_frame(|stamp| stamp.sequence = sequence);
        feed_server(&mut server, &bytes, at(0)).expect("there is credit");
        server.free(4096);
        // Without any room, one batch of the largest size may come.
        server.grant(0);
        drain_server(&mut server);
    }
}

#[test]
fn an_expired_batch_keeps_its_sequence_and_the_session() {
    let mut server = open_server(0);
    let late = batch_frame(|stamp| stamp.deadline = EventTime(999_999));
    let events = feed_server(&mut server, &late, at(0)).expect("goes on");
    assert!(matches!(&events[..], [ServerEvent::Expired(received)] if received.stamp.sequence == 0));
    assert!(server.is_open());
    let told = drain_server(&mut server);
    let refusal = Refusal::read(&told[16..]).expect("a refusal");
    assert_eq!((refusal.code, refusal.sequence), (Code::Expired, Some(0)));
    let in_time = batch_frame(|stamp| (stamp.sequence, stamp.deadline) = (1, EventTime(1_000_000)));
    let events = feed_server(&mut server, &in_time, at(0)).expect("goes on");
    assert!(matches!(&events[..], [ServerEvent::Batch(received)] if !received.is_duplicate));
}

#[test]
fn nothing_comes_behind_the_end_of_a_lane() {
    let mut server = open_server(0);
    let end = batch_frame(|stamp| stamp.position = LANE_END);
    feed_server(&mut server, &end, at(0)).expect("an end");
    let again = feed_server(&mut server, &end, at(0)).expect("a duplicate");
    assert!(matches!(&again[..], [ServerEvent::Batch(received)] if received.is_duplicate));
    assert_eq!(refused(&mut server, &batch_frame(|stamp| stamp.sequence = 1)).0, Code::LaneEnded);
}

#[test]
fn slow_silent_and_endless_clients_are_sent_away() {
    let mut server = ServerSession::new(LIMITS, at(0));
    assert_eq!(server.check_time(at(5 * SECOND)), Ok(()));
    assert_eq!(server.check_time(at(5 * SECOND + 1)), Err(Overdue::Hello));
    assert_eq!(server.check_time(at(99 * SECOND)), Ok(()), "an ended session is not late");

    let mut server = open_server(0);
    assert_eq!(server.check_time(at(60 * SECOND)), Ok(()));
    assert_eq!(server.check_time(at(60 * SECOND + 1)), Err(Overdue::Silence));

    // A byte now and then keeps a session from being idle, but not from being slow.
    let mut server = open_server(0);
    let bytes = batch_frame(|_| {});
    for (second, byte) in bytes.iter().enumerate().take(2) {
        feed_server(&mut server, &[*byte], at(second as u64 * SECOND)).expect("one byte");
    }
    assert_eq!(server.check_time(at(SECOND)), Ok(()));
    assert_eq!(server.check_time(at(2 * SECOND)), Err(Overdue::Rate));

    // Pings keep it alive, and a server without news gives signs of life.
    let mut server = open_server(0);
    let mut ping = Vec::new();
    write_ping(&mut ping);
    feed_server(&mut server, &ping, at(50 * SECOND)).expect("a ping");
    assert_eq!(drain_server(&mut server), ping);
    assert_eq!(server.check_time(at(100 * SECOND)), Ok(()));
    assert_eq!(drain_server(&mut server), ping);
}

/// The server reads no more of it, so its silence says nothing.
#[test]
fn a_client_whose_batch_waits_for_room_is_neither_slow_nor_silent() {
    let mut server = open_server(0);
    let bytes = batch_frame(|_| {});
    feed_server(&mut server, &bytes[..16], at(0)).expect("a header");
    for second in 1..=300 {
        assert_eq!(server.check_time(at(second * SECOND)), Ok(()));
        assert_eq!(server.check_haste(at(second * SECOND)), Ok(()));
    }
    // From the first byte that is read again, it is.
    feed_server(&mut server, &bytes[16..20], at(300 * SECOND)).expect("some bytes");
    assert_eq!(server.check_time(at(300 * SECOND + SECOND / 2)), Ok(()));
    assert_eq!(server.check_time(at(302 * SECOND)), Err(Overdue::Rate));
}

#[test]
fn a_batch_that_holds_room_for_which_others_wait_has_little_time() {
    let mut server = open_server(0);
    let bytes = batch_frame(|_| {});
    assert_eq!(server.check_haste(at(50 * SECOND)), Ok(()), "it holds none");
    feed_server(&mut server, &bytes[..16], at(50 * SECOND)).expect("a header");
    // Fast enough for its rate, but not done.
    feed_server(&mut server, &bytes[16..bytes.len() - 1], at(50 * SECOND)).expect("nearly all");
    assert_eq!(server.check_haste(at(51 * SECOND)), Ok(()));
    assert_eq!(server.check_haste(at(51 * SECOND + 1)), Err(Overdue::Room));
    assert!(server.is_closed());
}

#[test]
fn a_goodbye_is_answered_when_all_is_durable() {
    let mut server = open_server(0);
    feed_server(&mut server, &batch_frame(|_| {}), at(0)).expect("a batch");
    let mut goodbye = Vec::new();
    write_goodbye(&mut goodbye);
    let events = feed_server(&mut server, &goodbye, at(0)).expect("a goodbye");
    assert!(matches!(events[..], [ServerEvent::Goodbye]));
    assert!(drain_server(&mut server).is_empty());
    assert!(!server.is_done());
    server.advance(1, 1);
    assert!(drain_server(&mut server).ends_with(&goodbye));
    assert!(server.is_done());
}

/// What a client makes of what a server says after letting it in.
fn told(lie: &[u8]) -> Result<Option<ClientEvent>, ClientError> {
    let mut client = client();
    client.connect(at(0));
    drain_client(&mut client, at(0));
    hear(&mut client, &welcome(0, 0))?;
    hear(&mut client, lie)
}

#[test]
fn pings_take_no_credit_and_have_a_limit() {
    let (mut ping, mut server) = (Vec::new(), open_server(0));
    write_ping(&mut ping);
    let many = |count: usize| ping.repeat(count);
    feed_server(&mut server, &many(64), at(SECOND)).expect("as many as a second may bring");
    feed_server(&mut server, &many(64), at(2 * SECOND)).expect("in the next one as many again");
    feed_server(&mut server, &many(1), at(3 * SECOND - 1)).expect_err("one more before it is over");
    assert!(server.is_closed());
    let refusal = feed_server(&mut open_server(0), &many(65), at(0)).expect_err("too many");
    assert_eq!((refusal.code, refusal.text.as_str()), (Code::Protocol, "more than 64 pings came within a second"));
}

#[test]
fn servers_that_lie_are_named() {
    let progress = |received, written, durable| {
        let mut bytes = Vec::new();
        Progress { received, written, durable, credit: 0 }.write(&mut bytes);
        bytes
    };
    assert!(matches!(told(&progress(0, 0, 0)), Ok(Some(ClientEvent::Progress(_)))));
    for lie in [progress(1, 1, 1), progress(0, 1, 0), progress(0, 0, 1), frame(FrameKind::Batch, &[0; 64])] {
        assert!(matches!(told(&lie), Err(ClientError::Protocol(_))));
    }
    let mut client = client();
    client.connect(at(0));
    assert_eq!(client.check_time(at(10 * SECOND)), Ok(()));
    assert_eq!(client.check_time(at(10 * SECOND + 1)), Err(ClientError::Silent));
}

#[test]
fn a_client_takes_what_it_can_keep() {
    let mut client = client();
    for value in 0..6 {
        let bytes = batch_of(value, 2, &stamp(0));
        let sequence = client.offer(bytes, 0, EventTime::MAX, 0).expect("room");
        assert_eq!(sequence, value as u64);
    }
    let full = client.offer(batch_of(6, 2, &stamp(0)), 0, EventTime::MAX, 0);
    assert!(matches!(full, Err(OfferError::Full(_))));
    let mut other = crate::kit::client();
    let none = other.offer(AlignedBytes::from(&[0; 64][..]), 0, EventTime::MAX, 0);
    assert!(matches!(none, Err(OfferError::NotABatch)));
}

#[test]
fn a_client_of_an_older_version_is_answered_in_it() {
    for version in [1, 2, 3] {
        let mut server = ServerSession::new(LIMITS, at(0));
        let (producer, credentials) = (name().producer, Vec::new());
        let mut hello = Vec::new();
        Hello { version, lane: 3, fingerprint: FINGERPRINT, level: name().level, attempt: 1, producer, credentials }
            .write(&mut hello);
        feed_server(&mut server, &hello, at(0)).expect("a hello");
        let place = Place { shards: 4, shard: 3, port_first: 7610, lanes_max: 0 };
        server.welcome(&Admission { place, ..admission(0, 0) });
        let said = drain_server(&mut server);
        let welcome = Welcome::read(&said[16..]).expect("a welcome");
        assert_eq!((said.len(), welcome.version), (if version == 1 { 64 } else { 80 }, version));
        assert_eq!(welcome.place, if version == 1 { Place::default() } else { place });
    }
}
