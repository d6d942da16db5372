//! Both ends over a network that cuts, delays and loses connections, with a client that is killed and begins again, and a
//! server that is killed and forgets what was not durable: every batch is durable exactly once, in order, and nothing that was acknowledged is missing.

use crate::kit::{LIMITS, SECOND, admission, at, batch_of, client, hear, stamp, welcome};
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::{AlignedBytes, UnverifiedBatch};
use corefold_shards::session::client::ClientError;
use corefold_shards::session::{ClientEvent, ClientLane, Code, Now, Progress, Refusal, ServerEvent, ServerSession};
use proptest::prelude::*;
use std::collections::VecDeque;

/// A generator of the test's own, from a seed: decisions are many, and a list of them would be long.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Bytes under way in one direction.
type Pipe = VecDeque<u8>;

/// One connection: the server's session with it, and what is under way.
struct Link {
    session: ServerSession,
    to_server: Pipe,
    to_client: Pipe,
    /// The client has turned to another one; what is under way still arrives.
    is_stale: bool,
}

/// The server's side of the lane: what a shard does.
#[derive(Default)]
struct Server {
    /// Values by sequence, durable ones first.
    taken: Vec<(i64, u64)>,
    written: usize,
    durable: usize,
    duplicates: u64,
    /// Of the newest hello.
    attempt: u64,
}

struct World {
    dice: Dice,
    now_ns: u64,
    server: Server,
    links: Vec<Link>,
    client: ClientLane,
    offered: i64,
    acknowledged: u64,
    total: i64,
}

fn value_of(bytes: &AlignedBytes) -> i64 {
    UnverifiedBatch::new(bytes.as_slice()).stamp().map_or(-1, |stamp| stamp.position as i64)
}

impl World {
    fn new(seed: u64, total: i64) -> World {
        World {
            dice: Dice(seed),
            now_ns: 0,
            server: Server::default(),
            links: Vec::new(),
            client: client(),
            offered: 0,
            acknowledged: 0,
            total,
        }
    }

    fn is_done(&self) -> bool {
        self.acknowledged == self.total as u64
    }

    fn turn(&mut self, calm: bool) {
        self.now_ns += self.dice.below(SECOND / 1000);
        match self.dice.below(100) {
            0..=9 if self.offered < self.total && self.client.has_room() => self.offer(),
            10..=39 => self.client_writes(),
            40..=59 => self.bytes_arrive(true),
            60..=79 => self.bytes_arrive(false),
            80..=89 => self.disk(),
            90..=95 => self.time(),
            96 if !calm => self.kill_server(),
            97 if !calm => self.cut(),
            98 if !calm => self.turn_away(),
            99 if !calm => self.kill_client(),
            _ => {}
        }
    }

    fn offer(&mut self) {
        let bytes = batch_of(self.offered, 1 + self.dice.below(40) as usize, &stamp(0));
        self.client.offer(bytes, 0, EventTime::MAX, self.offered as u64).expect("room was seen");
        self.offered += 1;
        // The server may have said so before.
        self.acknowledged = self.client.durable();
    }

    fn connect(&mut self) {
        // By the wall clock a client that begins again is known to be newer.
        let Now { steady_ns, wall } = at(self.now_ns);
        let now = Now { steady_ns, wall: EventTime(wall.0 + (self.now_ns / 1000) as i64) };
        self.client.connect(now);
        self.links.iter_mut().for_each(|link| link.is_stale = true);
        let session = ServerSession::new(LIMITS, now);
        self.links.push(Link { session, to_server: Pipe::new(), to_client: Pipe::new(), is_stale: false });
    }

    fn client_writes(&mut self) {
        let Some(link) = self.links.iter_mut().find(|link| !link.is_stale) else { return self.connect() };
        let output = self.client.output();
        let count = output.len().min(1 + self.dice.below(3000) as usize);
        link.to_server.extend(&output[..count]);
        if count > 0 {
            self.client.sent(count, at(self.now_ns));
        }
    }

    fn bytes_arrive(&mut self, to_server: bool) {
        if self.links.is_empty() {
            return;
        }
        let index = self.dice.below(self.links.len() as u64) as usize;
        let count = 1 + self.dice.below(2000) as usize;
        if to_server { self.server_reads(index, count) } else { self.client_reads(index, count) }
    }

    fn server_reads(&mut self, index: usize, count: usize) {
        let now = at(self.now_ns);
        for _ in 0..count {
            let link = &mut self.links[index];
            let Some(space) = link.session.space() else { break };
            let pieces = space.len().min(link.to_server.len()).min(1 + self.dice.below(500) as usize);
            for place in &mut space[..pieces] {
                *place = link.to_server.pop_front().expect("it was counted");
            }
            if pieces == 0 {
                break;
            }
            match link.session.filled(pieces, now) {
                Ok(Some(event)) => self.on_event(index, event),
                Ok(None) => {}
                Err(refusal) => assert_eq!(refusal.code, Code::Superseded, "{refusal}"),
            }
        }
    }

    fn on_event(&mut self, index: usize, event: ServerEvent) {
        match event {
            ServerEvent::Hello(hello) => {
                let newer = Refusal::new(Code::Superseded, "a newer connection has the lane");
                if hello.attempt < self.server.attempt {
                    return self.links[index].session.refuse(&newer);
                }
                self.server.attempt = hello.attempt;
                for (at, other) in self.links.iter_mut().enumerate() {
                    if at != index && other.session.is_open() {
                        other.session.refuse(&newer);
                    }
                }
                let (next, durable) = (self.server.taken.len() as u64, self.server.durable as u64);
                self.links[index].session.welcome(&admission(next, durable));
            }
            ServerEvent::Batch(received) => {
                if received.is_duplicate {
                    self.server.duplicates += 1;
                } else {
                    assert_eq!(received.stamp.sequence, self.server.taken.len() as u64);
                    self.server.taken.push((value_of(&received.bytes), received.stamp.sequence));
                }
                let session = &mut self.links[index].session;
                session.free(received.cost);
                session.grant(self.dice.below(LIMITS.credit_max));
            }
            ServerEvent::Expired(_) | ServerEvent::Goodbye => panic!("nothing expires, nobody leaves"),
        }
    }

    fn client_reads(&mut self, index: usize, count: usize) {
        for _ in 0..count {
            let link = &mut self.links[index];
            if link.is_stale {
                link.to_client.clear();
                return;
            }
            let Some(space) = self.client.space() else { return };
            let pieces = space.len().min(link.to_client.len()).min(1 + self.dice.below(50) as usize);
            for place in &mut space[..pieces] {
                *place = link.to_client.pop_front().expect("it was counted");
            }
            if pieces == 0 {
                return;
            }
            let event = self.client.filled(pieces, at(self.now_ns)).expect("an honest server");
            if let Some(ClientEvent::Refused(refusal)) = event {
                assert_eq!(refusal.code, Code::TooSlow, "{refusal}");
                self.drop_client_connection();
                return;
            }
            assert!(self.client.durable() >= self.acknowledged);
            self.acknowledged = self.client.durable();
            assert!(self.acknowledged <= self.server.durable as u64, "only what is durable is acknowledged");
        }
    }

    fn drop_client_connection(&mut self) {
        self.client.disconnect();
        self.links.iter_mut().for_each(|link| link.is_stale = true);
    }

    /// Some of what was taken is written, and some of that durable; sessions hear of it and send.
    fn disk(&mut self) {
        let server = &mut self.server;
        server.written += self.dice.below((server.taken.len() - server.written) as u64 + 1) as usize;
        server.durable += self.dice.below((server.written - server.durable) as u64 + 1) as usize;
        self.say();
    }

    fn say(&mut self) {
        let server = &mut self.server;
        for link in &mut self.links {
            if link.session.is_open() {
                link.session.advance(server.written as u64, server.durable as u64);
            }
            let output = link.session.output();
            let count = output.len().min(1 + self.dice.below(200) as usize);
            link.to_client.extend(&output[..count]);
            link.session.sent(count);
        }
        self.links.retain(|link| !(link.session.is_done() && link.is_stale));
    }

    fn time(&mut self) {
        let now = at(self.now_ns);
        for link in &mut self.links {
            // Only stale connections are silent for so long.
            let _ = link.session.check_time(now);
        }
        if self.client.check_time(now) == Err(ClientError::Silent) {
            self.drop_client_connection();
        }
    }

    fn kill_server(&mut self) {
        let server = &mut self.server;
        // What was written may survive, the rest does not.
        let survives = server.durable + self.dice.below((server.written - server.durable) as u64 + 1) as usize;
        server.taken.truncate(survives);
        (server.written, server.durable, server.attempt) = (survives, survives, 0);
        self.links.clear();
        self.client.disconnect();
    }

    fn cut(&mut self) {
        self.links.retain(|link| link.is_stale);
        self.client.disconnect();
    }

    /// It begins again from its input.
    fn kill_client(&mut self) {
        self.drop_client_connection();
        self.client = client();
        (self.offered, self.acknowledged) = (0, 0);
    }

    /// The client gives a connection up whose bytes are still under way.
    fn turn_away(&mut self) {
        self.drop_client_connection();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_batch_becomes_durable_exactly_once(seed in any::<u64>()) {
        let mut world = World::new(seed, 40);
        for turn in 0..200_000 {
            // After a while the weather clears, so that the end is reached.
            world.turn(turn > 20_000);
            if world.is_done() {
                break;
            }
        }
        prop_assert!(world.is_done(), "{} of 40 are acknowledged", world.acknowledged);
        let expected: Vec<(i64, u64)> = (0..40).map(|value| (value, value as u64)).collect();
        prop_assert_eq!(&world.server.taken[..world.server.durable], &expected[..]);
    }
}

/// A client that was killed itself begins again from its input, and passes over what the server has.
#[test]
fn a_client_without_memory_passes_over_what_is_known() {
    let mut world = World::new(7, 10);
    (0..5).for_each(|_| world.offer());
    while world.server.durable < 3 {
        world.turn(true);
    }
    // More has been received than is durable, and may yet be lost.
    world.server.taken.extend((world.server.taken.len()..5).map(|at| (at as i64, at as u64)));
    world.cut();
    let known = world.server.durable as u64;
    assert!(known < 5);
    world.client = client();
    (world.offered, world.acknowledged) = (0, 0);
    while !world.client.is_welcome() {
        world.client_writes();
        world.say();
        world.bytes_arrive(true);
        world.bytes_arrive(false);
    }
    assert_eq!(world.client.known(), known);
    while world.client.next_sequence() < world.client.known() {
        world.client.pass();
        world.offered += 1;
    }
    world.kill_server();
    while !world.is_done() {
        world.turn(true);
    }
    let values: Vec<i64> = world.server.taken.iter().map(|(value, _)| *value).collect();
    assert_eq!(values, (0..10).collect::<Vec<i64>>());
    assert_eq!(world.server.duplicates, 0);
}

/// What was acknowledged cannot be sent again: a server that has lost it is told on.
#[test]
fn a_server_that_lost_what_it_acknowledged_is_found_out() {
    let mut world = World::new(3, 5);
    while !world.is_done() {
        world.turn(true);
    }
    world.kill_server();
    world.server = Server::default();
    world.connect();
    let found = loop {
        world.client_writes();
        world.server_reads(0, 10);
        world.disk();
        let link = &mut world.links[0];
        let Some(space) = world.client.space() else { panic!("connected") };
        let count = space.len().min(link.to_client.len());
        for place in &mut space[..count] {
            *place = link.to_client.pop_front().expect("it was counted");
        }
        if count > 0
            && let Err(error) = world.client.filled(count, at(0))
        {
            break error;
        }
    };
    assert_eq!(found, ClientError::Lost { from: 0, to: 4 });
}

/// A client that begins again may learn in the middle that the server has more than it has offered so far. Nobody says so
/// again: what it then offers is durable already.
#[test]
fn nobody_waits_for_batches_that_were_known_before_they_are_offered() {
    let offer = |client: &mut ClientLane, value| {
        client.offer(batch_of(value, 1, &stamp(0)), 0, EventTime::MAX, 0).expect("room");
    };
    let mut lane = client();
    lane.connect(at(0));
    hear(&mut lane, &welcome(1, 1)).expect("a welcome");
    lane.pass();
    offer(&mut lane, 1);
    assert_eq!(lane.underway(), 1);
    lane.connect(at(0));
    hear(&mut lane, &welcome(3, 3)).expect("another one");
    assert_eq!((lane.durable(), lane.underway()), (2, 0));
    offer(&mut lane, 2);
    assert_eq!((lane.durable(), lane.underway()), (3, 0), "the server has it");
    // The same by progress: more had come in the life before than was durable.
    let (mut lane, mut said) = (client(), welcome(5, 1));
    lane.connect(at(0));
    Progress { received: 5, written: 5, durable: 4, credit: 8192 }.write(&mut said);
    hear(&mut lane, &said).expect("a welcome and progress");
    (0..5).for_each(|value| offer(&mut lane, value));
    assert_eq!((lane.durable(), lane.underway()), (4, 1), "the last one is not durable yet");
}
