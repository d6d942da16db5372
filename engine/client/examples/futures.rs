//! Sends batches from async code. `futures_lite::future::block_on` stands for whatever executor the program has.
//!
//! ```text
//! corefold run engine.toml        # with the stream of `blocking.rs`, and tcp = { listen = "127.0.0.1:7600" }
//! cargo run -p corefold-client --example futures -- 127.0.0.1:7600
//! ```
//!
//! The same with threads is in `blocking.rs`.

use corefold_client::{
    BatchBuilder, Client, ClientConfig, FieldType, Lanes, Outcome, SendError, StreamSpec, Value, stream,
};
use futures_lite::future::{block_on, try_zip};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn readings() -> StreamSpec {
    stream("readings", "time", &[("sensor", FieldType::String), ("celsius", FieldType::F64)])
}

/// One task of the program: sends `batches`, and hears of each what became of it.
async fn send(client: &Client, stream: &StreamSpec, sensor: &str, batches: u32) -> Result<u32, SendError> {
    let mut builder = BatchBuilder::new(stream.fingerprint(), &stream.fields);
    let mut durable = 0;
    for _ in 0..batches {
        let now = SystemTime::now();
        let micros = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        for row in 0..1000 {
            builder.row(micros + row, &[Value::Text(sensor), Value::F64(20.5)])?;
        }
        // Worth nothing in a minute: then the server counts it as shed.
        let batch = builder.finish(client.spare())?.with_deadline(now + Duration::from_secs(60));
        // Ready when the batch is accepted; its ticket when it is durable. Not to wait for each ticket keeps more
        // under way.
        let ticket = client.send_async(batch).await?;
        durable += u32::from(ticket.await? == Outcome::Durable);
    }
    Ok(durable)
}

async fn run(server: &str) -> Result<(), SendError> {
    let stream = readings();
    let mut config = ClientConfig::new(server, "example-futures", stream.fingerprint());
    config.lanes = Lanes::Of(2);
    let client = Client::connect_async(config, &stream.fields).await?;
    let (left, right) = try_zip(send(&client, &stream, "left", 50), send(&client, &stream, "right", 50)).await?;
    client.close_async().await?;
    say(&format!("{left} and {right} batches are durable"));
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).ok_or("say where the engine is: HOST:PORT")?;
    Ok(block_on(run(&server))?)
}

/// Says something to people.
fn say(text: &str) {
    use std::io::Write;
    // Nobody is left to hear that standard error is gone.
    let _ = writeln!(std::io::stderr(), "{text}");
}
