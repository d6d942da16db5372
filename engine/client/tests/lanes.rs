//! A client with several lanes against a server that cuts, crashes and stalls: each row once, in its lane, in order.
//!
//! What waits and what is given up is in `waiting.rs`; a real engine is in `corefold-engine`'s tests.

mod server;

use corefold_client::{
    BatchBuilder, Client, ClientConfig, Lanes, Metrics, Outcome, Place, Resume, Routing, SendError, Value, lane_of_key,
};
use server::{PATIENCE, Server, config, stream};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

const ROWS: i64 = 6_000;

fn key(row: i64) -> i64 {
    (row * row + row / 7) % 41
}

fn connect(config: ClientConfig) -> Client {
    Client::connect(config, &stream().fields).expect("a connection")
}

/// A generator that is good enough to disturb.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Sends rows until it is stopped; true if all are durable.
fn send_all(server: &Server, lanes: u32, routing: Routing, stop_at: i64) -> bool {
    let mut config = config(server);
    (config.lanes, config.routing, config.resume) = (Lanes::Of(lanes), routing, Resume::FromStart);
    (config.batch_rows, config.limits.batches_max) = (50, 12);
    let client = connect(config);
    for row in 0..ROWS.min(stop_at) {
        client.row(row, &[Value::I64(key(row))]).expect("a row");
    }
    if stop_at < ROWS {
        // As if the program were killed.
        return false;
    }
    let metrics = client.close().expect("an end");
    assert_eq!(metrics.batches_offered, metrics.batches_known + metrics.batches_durable);
    true
}

/// Cuts and crashes while clients come and go; returns how often.
fn disturb(server: &Server, routing: &Routing, seed: u64) {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(seed);
            let mut disturbances = 0;
            while !is_done.load(Ordering::Relaxed) {
                // Ever rarer, so that the end is reached.
                disturbances += 1;
                std::thread::sleep(Duration::from_millis(1 + random.below(4 + disturbances)));
                match random.below(4) {
                    0 => server.crash(),
                    1 => server.cut(),
                    2 => server.world().is_frozen = true,
                    _ => server.world().is_frozen = false,
                }
            }
        });
        let mut random = Random(seed + 1);
        for life in 1.. {
            let stop_at = random.below(life * 2_000) as i64;
            if send_all(server, 3, routing.clone(), if life == 6 { ROWS } else { stop_at }) {
                break;
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn each_row_comes_once_and_by_the_lane_of_its_key_whoever_is_killed() {
    let server = Server::start();
    disturb(&server, &Routing::ByKey(vec![0]), 1);
    let world = server.world();
    let mut rows = world.rows();
    rows.sort_unstable();
    assert_eq!(rows, (0..ROWS).map(|row| (row, key(row))).collect::<Vec<_>>());
    for (number, lane) in &world.lanes {
        let rows: Vec<(i64, i64)> = lane.rows().into_iter().flatten().collect();
        assert!(rows.is_sorted(), "the order of a lane is kept");
        assert!(rows.iter().all(|(_, key)| lane_of_key([Value::I64(*key)], 3) == *number));
    }
    assert_eq!(world.lanes.len(), 3);
}

#[test]
fn each_row_comes_once_when_batches_take_lanes_in_turn() {
    let server = Server::start();
    disturb(&server, &Routing::RoundRobin, 2);
    let world = server.world();
    for (number, lane) in &world.lanes {
        for (at, batch) in lane.rows().into_iter().skip(1).enumerate() {
            let first = (at as i64 * 3 + i64::from(*number)) * 50;
            assert_eq!(batch, (first..first + 50).map(|row| (row, key(row))).collect::<Vec<_>>());
        }
    }
    assert_eq!(world.rows().len() as i64, ROWS);
}

#[test]
fn a_client_that_goes_on_sends_behind_what_the_server_has() {
    let server = Server::start();
    for life in 0..3 {
        let mut config = config(&server);
        (config.lanes, config.routing) = (Lanes::Of(4), Routing::ByKey(vec![0]));
        let client = connect(config);
        for row in 0..100 {
            client.row(life * 100 + row, &[Value::I64(row)]).expect("a row");
        }
        let metrics = client.close().expect("an end");
        assert_eq!((metrics.rows_offered, metrics.batches_known), (100, 0));
    }
    let mut times: Vec<i64> = server.world().rows().into_iter().map(|(time, _)| time).collect();
    times.sort_unstable();
    assert_eq!(times, (0..300).collect::<Vec<_>>());
}

#[test]
fn metrics_of_lanes_add_up_at_any_moment() {
    let server = Server::start();
    let mut config = config(&server);
    (config.lanes, config.limits.batches_max) = (Lanes::Of(3), 30);
    let client = connect(config);
    let fields = stream().fields;
    let mut builder = BatchBuilder::new(stream().fingerprint(), &fields);
    let past = SystemTime::now() - Duration::from_secs(3600);
    let mut tickets = Vec::new();
    let check = |client: &Client| {
        let all = client.metrics();
        let Metrics { batches_offered, batches_known, batches_durable, batches_shed, batches_underway, .. } = all;
        assert_eq!(batches_offered, batches_known + batches_durable + batches_shed + batches_underway, "{all:?}");
    };
    for number in 0..60 {
        builder.row(number, &[Value::I64(number)]).expect("a row");
        let batch = builder.finish(client.spare()).expect("a batch");
        let batch = if number % 4 == 3 { batch.with_deadline(past) } else { batch };
        tickets.push(client.send(batch).expect("room"));
        check(&client);
        if number == 30 {
            server.cut();
        }
    }
    for (number, ticket) in tickets.into_iter().enumerate() {
        let expected = if number % 4 == 3 { Outcome::Shed } else { Outcome::Durable };
        let outcome = ticket.wait().expect("an outcome");
        // What was shed and not told before a connection broke counts as durable.
        assert!(outcome == expected || outcome == Outcome::Durable);
        check(&client);
    }
    let all = client.metrics();
    assert_eq!(all, (0..3).map(|lane| client.lane_metrics(lane)).sum());
    assert_eq!((all.batches_offered, all.rows_offered, all.batches_underway, all.bytes_underway), (60, 60, 0, 0));
    assert!(all.connections >= 6, "{all:?}");
    assert_eq!(client.close().expect("an end").batches_offered, 60);
    let shed: usize = server.world().lanes.values().map(|lane| lane.shed.len()).sum();
    assert_eq!(shed, 15);
}

/// The server's shards may become more or fewer; the lanes of a producer do not.
#[test]
fn as_many_lanes_as_shards_there_were_at_first() {
    let server = Server::start();
    let per_shard = |server: &Server| {
        let mut config = config(server);
        (config.lanes, config.resume, config.batch_rows) = (Lanes::PerShard, Resume::FromStart, 1);
        connect(config)
    };
    for (shards, lanes_max, lanes) in [(3, 0, 3), (7, 0, 3), (2, 0, 3)] {
        server.world().place = Place { shards, lanes_max, ..Place::default() };
        let client = per_shard(&server);
        assert_eq!(client.lanes(), lanes);
        for row in 0..10 {
            client.row(row, &[Value::I64(row)]).expect("a row");
        }
        client.close().expect("an end");
        assert_eq!(server.world().rows().len(), 10);
        server.crash();
    }
}

#[test]
fn lanes_find_the_doors_of_their_shards_and_do_without() {
    let server = Server::start();
    let port: u16 = server.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
    // Lane 0 has the only door that there is; nobody answers at those of the others.
    server.world().place = Place { shards: 2, port_first: port, ..Place::default() };
    let mut config = config(&server);
    config.lanes = Lanes::PerShard;
    let client = connect(config);
    assert_eq!(client.lanes(), 2);
    client.close().expect("an end");
}

#[test]
fn lanes_that_were_ended_take_nothing_more() {
    let server = Server::start();
    let ended = |resume| {
        let mut config = config(&server);
        (config.lanes, config.resume, config.batch_rows) = (Lanes::Of(2), resume, 1);
        connect(config)
    };
    let client = ended(Resume::FromStart);
    client.row(1, &[Value::I64(1)]).expect("a row");
    assert!(!client.has_ended());
    client.end().expect("room");
    client.close().expect("an end");
    assert!(server.world().lanes.values().all(|lane| lane.has_ended));
    let again = ended(Resume::FromStart);
    assert!(again.has_ended());
    again.row(1, &[Value::I64(1)]).expect("what the server has may come again");
    again.end().expect("it is ended already");
    assert_eq!(again.close().expect("an end").batches_known, 1);
    let on = ended(Resume::GoOn);
    on.row(1, &[Value::I64(1)]).expect_err("the lane has ended");
    assert_eq!(server.world().rows().len(), 1);
}

#[test]
fn senseless_settings_and_rows_are_refused_with_words() {
    let server = Server::start();
    let refused = |change: &dyn Fn(&mut ClientConfig)| {
        let mut config = config(&server);
        change(&mut config);
        match Client::connect(config, &stream().fields) {
            Err(SendError::Settings(text)) => text,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("it connects"),
        }
    };
    assert!(refused(&|config| config.lanes = Lanes::Of(0)).contains("lanes"));
    assert!(refused(&|config| config.lanes = Lanes::Of(5000)).contains("lanes"));
    assert!(refused(&|config| config.lane_step = 0).contains("numbers"));
    assert!(refused(&|config| config.lane.lane = u32::MAX).contains("numbers"));
    assert!(refused(&|config| config.batch_rows = 0).contains("rows"));
    assert!(refused(&|config| config.routing = Routing::ByKey(Vec::new())).contains("key"));
    assert!(refused(&|config| config.routing = Routing::ByKey(vec![1])).contains("fields"));
    assert!(refused(&|config| config.lane.producer.clear()).contains("name"));
    let client = connect(config(&server));
    for (time, values) in [(0, &[][..]), (0, &[Value::Bool(true)]), (i64::MAX, &[Value::I64(0)])] {
        assert!(matches!(client.row(time, values), Err(SendError::Row(_))));
    }
    assert!(client.flush_within(PATIENCE).expect("nothing to flush"));
    assert_eq!(client.close().expect("an end").rows_offered, 0);
    assert!(matches!(client.row(0, &[Value::I64(0)]), Err(SendError::Closed)));
}

/// Lanes of a key do not depend on when its rows come.
#[test]
fn a_key_has_one_lane() {
    let server = Server::start();
    let mut config = config(&server);
    (config.lanes, config.routing) = (Lanes::Of(5), Routing::ByKey(vec![0]));
    let client = connect(config);
    let mut lanes = BTreeMap::new();
    for row in 0..1000 {
        let values = [Value::I64(key(row))];
        let lane = client.lane_of(&values).expect("keys decide");
        assert_eq!(*lanes.entry(key(row)).or_insert(lane), lane);
        assert_eq!(lane, lane_of_key(values, 5) as usize);
        client.row(row, &values).expect("a row");
    }
    client.close().expect("an end");
    for (number, lane) in &server.world().lanes {
        assert!(lane.rows().concat().iter().all(|(_, key)| lanes[key] == *number as usize));
    }
}
