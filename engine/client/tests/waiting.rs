//! What waits for a server, and what is given up while it waits: by threads, and by futures under executors of other
//! people.
//!
//! That each row comes once is in `lanes.rs`.

mod server;

use corefold_client::{Batch, BatchBuilder, Client, ClientConfig, Lanes, Outcome, SendError, Tried, Value};
use futures_lite::future::{block_on, poll_once, zip};
use server::{PATIENCE, Server, config, stream};
use std::net::TcpListener;
use std::pin::pin;
use std::time::{Duration, Instant};

/// A batch of one row.
fn batch(row: i64) -> Batch {
    let mut builder = BatchBuilder::new(stream().fingerprint(), &stream().fields);
    builder.row(row, &[Value::I64(row)]).expect("a row");
    builder.finish(Default::default()).expect("a batch")
}

fn connect(server: &Server, change: impl FnOnce(&mut ClientConfig)) -> Client {
    let mut config = config(server);
    change(&mut config);
    block_on(Client::connect_async(config, &stream().fields)).expect("a connection")
}

/// Two lanes with room for two batches each.
fn narrow(config: &mut ClientConfig) {
    (config.lanes, config.limits.batches_max) = (Lanes::Of(2), 4);
}

fn times(server: &Server) -> Vec<i64> {
    let mut times: Vec<i64> = server.world().rows().into_iter().map(|(time, _)| time).collect();
    times.sort_unstable();
    times
}

/// Otherwise a lane could be unknown after a crash of the server, and its rows late because others had moved time on.
#[test]
fn nothing_is_sent_before_every_lane_is_known_for_good() {
    let server = Server::start();
    server.world().is_frozen = true;
    let mut config = config(&server);
    config.lanes = Lanes::Of(3);
    let fields = stream().fields;
    let mut connecting = pin!(Client::connect_async(config, &fields));
    block_on(async {
        let first_only = [vec![Vec::new()], vec![Vec::new()], vec![Vec::new()]];
        let began = Instant::now();
        let come = |server: &Server| server.world().lanes.values().map(|lane| lane.rows()).collect::<Vec<_>>();
        while come(&server) != first_only {
            assert!(poll_once(&mut connecting).await.is_none());
            assert!(began.elapsed() < PATIENCE, "each lane has an empty batch");
            std::thread::sleep(Duration::from_millis(1));
        }
        for _ in 0..20 {
            assert!(poll_once(&mut connecting).await.is_none(), "they may still be lost");
        }
        server.world().is_frozen = false;
        let client = connecting.await.expect("a connection");
        assert_eq!(client.metrics().batches_offered, 0);
        client.close_async().await.expect("an end");
    });
}

#[test]
fn a_batch_is_sent_when_it_is_old_enough_though_no_row_comes() {
    let server = Server::start();
    let client = connect(&server, |config| {
        (config.lanes, config.batch_age) = (Lanes::Of(2), Duration::from_millis(20));
    });
    for row in 0..3 {
        client.row(row, &[Value::I64(row)]).expect("a row");
        // Nothing else is called.
        server.until("the row is there", |world| world.rows().len() as i64 == row + 1);
    }
    // One batch each, besides the first of each lane.
    let batches: usize = server.world().lanes.values().map(|lane| lane.batches.len()).sum();
    assert_eq!(batches, 2 + 3);
    client.close().expect("an end");
}

#[test]
fn no_more_is_under_way_than_may_be_and_whoever_sends_waits() {
    let server = Server::start();
    let client = connect(&server, narrow);
    server.world().is_frozen = true;
    let mut tickets = Vec::new();
    let back = loop {
        match client.try_send(batch(tickets.len() as i64)).expect("a lane") {
            Tried::Accepted(ticket) => tickets.push(ticket),
            Tried::Full(batch) => break batch,
        }
    };
    assert_eq!((tickets.len(), client.metrics().batches_underway), (4, 4));
    assert!(tickets.iter().all(|ticket| ticket.outcome().is_none()));
    assert!(!client.flush_within(Duration::from_millis(5)).expect("a lane"), "nothing is durable");
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| client.send(back).expect("room").wait());
        let rows = scope.spawn(|| (10..20).try_for_each(|row| client.row(row, &[Value::I64(row)])));
        server.until("all have come that may", |world| world.rows().len() == 4);
        assert_eq!(client.metrics().batches_underway, 4);
        server.world().is_frozen = false;
        assert_eq!(blocked.join().expect("no panic").expect("a lane"), Outcome::Durable);
        rows.join().expect("no panic").expect("a lane");
    });
    for ticket in tickets {
        assert_eq!(ticket.wait().expect("a lane"), Outcome::Durable);
    }
    client.close().expect("an end");
    assert_eq!(times(&server), [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
}

#[test]
fn rows_wait_too_when_nothing_more_may_be_under_way() {
    let server = Server::start();
    let client = connect(&server, |config| {
        narrow(config);
        config.batch_rows = 2;
    });
    server.world().is_frozen = true;
    // Two rows in each of four batches, and two that wait to be a batch.
    for row in 0..10 {
        client.row(row, &[Value::I64(row)]).expect("a row");
    }
    block_on(async {
        for _ in 0..20 {
            assert!(poll_once(pin!(client.row_async(99, &[Value::I64(99)]))).await.is_none(), "there is no room");
        }
        server.world().is_frozen = false;
        client.row_async(10, &[Value::I64(10)]).await.expect("room");
        client.close_async().await.expect("an end");
    });
    assert_eq!(times(&server), (0..=10).collect::<Vec<_>>());
}

#[test]
fn what_is_dropped_while_it_waits_was_not_accepted_and_all_else_was() {
    let server = Server::start();
    let client = connect(&server, narrow);
    let mut sent = Vec::new();
    block_on(async {
        for number in 0..200 {
            server.world().is_frozen = number % 5 == 4;
            // Looked at once or twice, then given up.
            let mut sending = pin!(client.send_async(batch(number)));
            let mut accepted = poll_once(&mut sending).await;
            if accepted.is_none() && number % 3 == 0 {
                accepted = poll_once(&mut sending).await;
            }
            if let Some(ticket) = accepted {
                let ticket = ticket.expect("a lane");
                sent.push(number);
                // A ticket that is dropped, at once or while it is awaited, takes nothing back.
                if number % 2 == 0 {
                    poll_once(ticket).await;
                }
            }
            // Neither do these.
            poll_once(pin!(client.flush_async())).await;
            poll_once(pin!(client.room_async())).await;
        }
        server.world().is_frozen = false;
        // Closing that is given up may be done again; nothing is accepted from then on.
        poll_once(pin!(client.close_async())).await;
        assert!(matches!(client.send_async(batch(1000)).await, Err(SendError::Closed)));
        client.close_async().await.expect("an end");
    });
    assert!((4..=200).contains(&sent.len()), "{sent:?}");
    assert_eq!(times(&server), sent);
}

/// Futures may move between threads, as executors with several of them do.
#[test]
fn futures_go_from_thread_to_thread() {
    fn movable<F: Future + Send>(future: F) -> F {
        future
    }
    let server = Server::start();
    let client = connect(&server, narrow);
    let mut work = Box::pin(movable(async {
        for number in 0..50 {
            client.send_async(batch(number)).await.expect("room").await.expect("a lane");
        }
        client.flush_async().await
    }));
    let mut polls = 0;
    let done = loop {
        let found =
            std::thread::scope(|scope| scope.spawn(|| block_on(poll_once(&mut work))).join().expect("no panic"));
        polls += 1;
        if let Some(done) = found {
            break done;
        }
        std::thread::sleep(Duration::from_micros(200));
    };
    done.expect("a lane");
    assert!(polls > 1);
    drop(work);
    assert_eq!(times(&server), (0..50).collect::<Vec<_>>());
}

#[test]
fn blocking_and_async_callers_share_a_client() {
    let server = Server::start();
    let client = connect(&server, narrow);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..100).for_each(|row| drop(client.send(batch(row)).expect("room"))));
        let send = |from: i64| {
            let client = &client;
            async move {
                for row in from..from + 100 {
                    client.send_async(batch(row)).await.expect("room").await.expect("a lane");
                }
            }
        };
        block_on(zip(send(100), send(200)));
    });
    client.close().expect("an end");
    assert_eq!(times(&server), (0..300).collect::<Vec<_>>());
}

#[test]
fn who_waits_for_a_lane_that_cannot_go_on_is_told_why() {
    let server = Server::start();
    let client = connect(&server, |config| {
        narrow(config);
        config.give_up_after = Some(Duration::from_millis(300));
    });
    server.world().is_frozen = true;
    let ticket = client.send(batch(1)).expect("room");
    let address = server.address.clone();
    drop(server);
    let gave_up = |error: &SendError| matches!(error.root(), SendError::GaveUp { .. });
    let error = ticket.wait().expect_err("nobody is there");
    assert!(gave_up(&error) && error.to_string().contains(&address), "{error}");
    assert!(client.flush().is_err_and(|error| gave_up(&error)));
    assert!(client.close().is_err_and(|error| gave_up(&error)));
}

#[test]
fn nobody_is_waited_for_without_end() {
    // A port at which nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let mut config = ClientConfig::new(&free.to_string(), "tester", stream().fingerprint());
    config.give_up_after = Some(Duration::from_millis(50));
    for lanes in [Lanes::Of(2), Lanes::PerShard] {
        config.lanes = lanes;
        let error = Client::connect(config.clone(), &stream().fields).err().expect("nobody is there");
        assert!(matches!(error.root(), SendError::GaveUp { .. }), "{error}");
    }
    // A connection that is given up before it is there.
    config.give_up_after = None;
    block_on(async {
        assert!(poll_once(pin!(Client::connect_async(config, &stream().fields))).await.is_none());
    });
}

#[test]
fn a_batch_that_cannot_be_sent_harms_no_other() {
    let server = Server::start();
    let client = connect(&server, |_| {});
    let strange = BatchBuilder::new(7, &stream().fields).finish(Default::default()).expect("a batch");
    assert!(matches!(client.send(strange), Err(SendError::Offer(_))));
    assert!(matches!(client.send(Batch::from_bytes(Default::default())), Err(SendError::Offer(_))));
    let mut large = BatchBuilder::new(stream().fingerprint(), &stream().fields);
    for row in 0..65_536 {
        large.row(row << 34, &[Value::I64(row << 34)]).expect("a row");
    }
    assert!(matches!(large.row(0, &[Value::I64(0)]), Err(SendError::Row(_))));
    let large = large.finish(Default::default()).expect("a batch");
    assert!(matches!(client.send(large).map(drop), Err(SendError::Offer(_))), "larger than the server takes");
    client.send(batch(5)).expect("room").wait().expect("a lane");
    assert!(client.flush_within(PATIENCE).expect("a lane"));
    client.close().expect("an end");
    assert_eq!(times(&server), [5]);
}
