//! Producers elsewhere in the simulator: the engine's own client lanes over a network that delays, cuts and loses, with
//! clients that forget all and begin again. They outlive the servers.
//!
//! Within one connection bytes stay in order, as with TCP; between connections they do not. The other end is in
//! [`super::elsewhere`].

use super::Failure;
use super::faults::{Fault, Faults};
use crate::entropy::Entropy;
use crate::local::feed::Cutter;
use corefold_aggregator::time::EventTime;
use corefold_shards::session::{
    ClientEvent, ClientLane, ClientLimits, LANE_END, LaneName, Level, Now, ServerSession, SessionLimits, producer_of,
};
use std::collections::{BTreeMap, VecDeque};

/// Of all lanes.
const PRODUCER: &str = "simulated";

/// No time-out strikes by itself: connections are cut, and clients turn away, where the seed says so.
const NEVER_NS: u64 = u64::MAX / 4;

/// One connection, and what is under way on it.
pub struct Link {
    /// The server's end.
    pub session: ServerSession,
    /// The lane that is sent over it.
    pub lane: u32,
    /// The shard that serves it, once the hello has been heard.
    pub site: Option<usize>,
    /// Bytes under way to the server.
    pub to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// Nothing is sent to the server any more; what is under way arrives.
    pub is_cut: bool,
}

/// One lane and its producer.
struct Client {
    lane: ClientLane,
    /// The row from which the next batch is made.
    row: usize,
    link: Option<u64>,
    /// Batches that any life of it was told are durable.
    told: u64,
    has_all: bool,
}

/// How it goes: all of it drawn, none of it seen in results.
#[derive(Clone, Copy, Debug)]
struct Weather {
    piece_max: u64,
    credit: u64,
    cut: f64,
    turn_away: f64,
    forget: f64,
}

/// See the module.
pub struct Network {
    clients: Vec<Client>,
    /// Connections by number, in the order in which they were made.
    pub links: BTreeMap<u64, Link>,
    links_made: u64,
    now_ns: u64,
    fingerprint: u64,
    weather: Weather,
}

fn new_lane(lane: u32, fingerprint: u64) -> ClientLane {
    let name =
        LaneName { producer: PRODUCER.to_owned(), lane, fingerprint, credentials: Vec::new(), level: Level::Durable };
    ClientLane::new(name, ClientLimits { batches_max: 4, bytes_max: 1 << 20, answer_max_ns: NEVER_NS })
}

impl Network {
    /// Producers of `lanes` lanes.
    pub fn new(lanes: usize, fingerprint: u64, entropy: &mut Entropy) -> Network {
        let client = |lane| Client { lane: new_lane(lane, fingerprint), row: 0, link: None, told: 0, has_all: false };
        let sometimes =
            |entropy: &mut Entropy, rates: &[f64]| if entropy.chance(0.7) { *entropy.pick(rates) } else { 0.0 };
        Network {
            clients: (0..lanes as u32).map(client).collect(),
            links: BTreeMap::new(),
            links_made: 0,
            now_ns: 0,
            fingerprint,
            weather: Weather {
                piece_max: *entropy.pick(&[40, 1_000, 100_000]),
                credit: *entropy.pick(&[1, 10_000, 1 << 20]),
                cut: sometimes(entropy, &[0.002, 0.02, 0.1]),
                turn_away: sometimes(entropy, &[0.002, 0.02, 0.1]),
                forget: sometimes(entropy, &[0.001, 0.01]),
            },
        }
    }

    /// The number of the producer.
    pub fn producer(&self) -> u64 {
        producer_of(PRODUCER, self.fingerprint)
    }

    /// Numbers of the lanes.
    pub fn lanes(&self) -> std::ops::Range<u32> {
        0..self.clients.len() as u32
    }

    /// Batches of a lane that its producer was told are durable.
    pub fn told(&self, lane: u32) -> u64 {
        self.clients[lane as usize].told
    }

    /// Whether all batches of all lanes are, and their producers know.
    pub fn is_done(&self) -> bool {
        self.clients.iter().all(|client| client.has_all)
    }

    /// What time it is.
    pub fn now(&self) -> Now {
        Now { steady_ns: self.now_ns, wall: EventTime((self.now_ns / 1_000).cast_signed()) }
    }

    /// Room that is given to a session.
    pub fn credit(&self, entropy: &mut Entropy) -> u64 {
        entropy.below(self.weather.credit)
    }

    /// The server has gone, and all connections with it.
    pub fn lose_server(&mut self) {
        self.links.clear();
        for client in &mut self.clients {
            client.lane.disconnect();
            client.link = None;
        }
    }

    /// Some producer does something, or the network does something to it.
    pub fn turn(&mut self, cutter: &mut Cutter<'_>, faults: &mut Faults, entropy: &mut Entropy) -> Result<(), Failure> {
        self.now_ns += 1 + entropy.below(5_000);
        let lane = entropy.index(self.clients.len());
        if faults.strikes(Fault::ConnectionCut, self.weather.cut, entropy) {
            self.cut(lane);
        } else if faults.strikes(Fault::ClientGone, self.weather.turn_away, entropy) {
            self.turn_away(lane);
        } else if faults.strikes(Fault::ClientKilled, self.weather.forget, entropy) {
            self.turn_away(lane);
            let client = &mut self.clients[lane];
            client.lane = new_lane(lane as u32, self.fingerprint);
            client.row = 0;
        }
        if entropy.chance(0.5) {
            self.produce(lane, cutter)?;
            self.write(lane, entropy);
        } else {
            self.read(lane, entropy)?;
        }
        Ok(())
    }

    /// Nothing goes wrong any more.
    pub fn calm(&mut self) {
        (self.weather.cut, self.weather.turn_away, self.weather.forget) = (0.0, 0.0, 0.0);
    }

    /// The connection breaks: what is under way is lost from some point on, in both directions.
    fn cut(&mut self, lane: usize) {
        let client = &mut self.clients[lane];
        client.lane.disconnect();
        if let Some(link) = client.link.take() {
            self.links.remove(&link);
        }
    }

    /// The producer gives the connection up; what it has sent still arrives, whenever that is.
    fn turn_away(&mut self, lane: usize) {
        let client = &mut self.clients[lane];
        client.lane.disconnect();
        if let Some(link) = client.link.take().and_then(|link| self.links.get_mut(&link)) {
            link.is_cut = true;
            link.to_client.clear();
        }
    }

    /// Makes the next batch, if there is room for it and it is known which one that is.
    fn produce(&mut self, lane: usize, cutter: &mut Cutter<'_>) -> Result<(), Failure> {
        let client = &mut self.clients[lane];
        if client.has_all {
            return Ok(());
        }
        if client.link.is_none() {
            // No two connections begin within one microsecond, not even of two lives of a client: their attempts are told
            // apart by its clock alone, and of two equal ones the server takes the one that it hears last.
            self.now_ns += 1_000;
            let now = Now { steady_ns: self.now_ns, wall: EventTime((self.now_ns / 1_000).cast_signed()) };
            client.lane.connect(now);
            let session = ServerSession::new(self.weather.limits(), now);
            let (to_server, to_client) = (VecDeque::new(), VecDeque::new());
            let link = Link { session, lane: lane as u32, site: None, to_server, to_client, is_cut: false };
            client.link = Some(self.links_made);
            self.links.insert(self.links_made, link);
            self.links_made += 1;
        }
        if !client.lane.is_welcome() {
            return Ok(());
        }
        while client.lane.next_sequence() < client.lane.known() && client.lane.underway() == 0 {
            // A producer that has forgotten all reads its input again.
            client.lane.pass();
            client.row = cutter.end_of(lane, client.row);
            client.told = client.told.max(client.lane.durable());
        }
        client.has_all = client.lane.durable() == cutter.batches_of(lane);
        if !client.lane.has_room() || client.lane.next_sequence() == cutter.batches_of(lane) {
            return Ok(());
        }
        let (bytes, rejected, position) = match cutter.make(lane, client.row)? {
            Some(mut batch) => {
                client.row = batch.position_end as usize;
                (batch.parts.swap_remove(0), batch.rejected, batch.position_end)
            }
            None => (cutter.make_end()?, 0, LANE_END),
        };
        let offered = client.lane.offer(bytes, rejected, EventTime::MAX, position);
        offered.map(drop).map_err(|error| Failure::Broken(format!("lane {lane}: {error}")))
    }

    fn write(&mut self, lane: usize, entropy: &mut Entropy) {
        let now = self.now();
        let client = &mut self.clients[lane];
        let Some(link) = client.link.and_then(|link| self.links.get_mut(&link)) else { return };
        for _ in 0..8 {
            let output = client.lane.output();
            let count = output.len().min(1 + entropy.below(self.weather.piece_max) as usize);
            if count == 0 {
                return;
            }
            link.to_server.extend(&output[..count]);
            client.lane.sent(count, now);
        }
    }

    fn read(&mut self, lane: usize, entropy: &mut Entropy) -> Result<(), Failure> {
        let now = self.now();
        let client = &mut self.clients[lane];
        let Some(link) = client.link.and_then(|link| self.links.get_mut(&link)) else { return Ok(()) };
        let mut budget = 1 + entropy.below(self.weather.piece_max) as usize;
        while let Some(space) = client.lane.space() {
            let count = space.len().min(link.to_client.len()).min(budget);
            if count == 0 {
                break;
            }
            budget -= count;
            space.iter_mut().zip(link.to_client.drain(..count)).for_each(|(place, byte)| *place = byte);
            let event = client.lane.filled(count, now);
            match event.map_err(|error| Failure::Broken(format!("lane {lane}: {error}")))? {
                Some(ClientEvent::Refused(refusal)) => {
                    return Err(Failure::Broken(format!("lane {lane} is refused: {refusal:?}")));
                }
                Some(ClientEvent::Goodbye) => {
                    return Err(Failure::Broken(format!("lane {lane}: a goodbye that nobody asked for")));
                }
                Some(ClientEvent::Welcome(_) | ClientEvent::Progress(_)) | None => {}
            }
            client.told = client.told.max(client.lane.durable());
        }
        Ok(())
    }

    /// The server says what it has to say over a connection.
    pub fn hear(&mut self, number: u64, entropy: &mut Entropy) {
        let Some(link) = self.links.get_mut(&number) else { return };
        for _ in 0..8 {
            let output = link.session.output();
            let count = output.len().min(1 + entropy.below(self.weather.piece_max) as usize);
            if count == 0 {
                break;
            }
            if !link.is_cut {
                link.to_client.extend(&output[..count]);
            }
            link.session.sent(count);
        }
        if link.session.is_done() && link.is_cut {
            self.links.remove(&number);
        }
    }

    /// Some bytes that have arrived, put into the session; how many.
    pub fn arrive(&mut self, number: u64, entropy: &mut Entropy) -> usize {
        let piece = 1 + entropy.below(self.weather.piece_max) as usize;
        let Some(link) = self.links.get_mut(&number) else { return 0 };
        let Some(space) = link.session.space() else { return 0 };
        let count = space.len().min(link.to_server.len()).min(piece);
        space.iter_mut().zip(link.to_server.drain(..count)).for_each(|(place, byte)| *place = byte);
        count
    }
}

impl Weather {
    fn limits(self) -> SessionLimits {
        SessionLimits {
            batch_size_max: 1 << 16,
            credit_max: 1 << 20,
            hello_max_ns: NEVER_NS,
            idle_max_ns: NEVER_NS,
            rate_min: 0,
            slow_grace_ns: NEVER_NS,
        }
    }
}
