//! Sends made-up readings of some sensors, from ordinary code. To try it:
//!
//! ```text
//! corefold run engine.toml        # with the stream below, and tcp = { listen = "127.0.0.1:7600" }
//! cargo run -p corefold-client --example blocking -- 127.0.0.1:7600
//! ```
//!
//! The same without blocking is in `futures.rs`.

use corefold_client::{Client, ClientConfig, FieldType, Lanes, Resume, Routing, StreamSpec, Value, stream};
use std::time::{SystemTime, UNIX_EPOCH};

/// As in the configuration of the engine:
///
/// ```toml
/// [[streams]]
/// name = "readings"
/// time = { column = "time", max_delay = "10s" }
/// fields = { sensor = "string", celsius = "f64" }
/// ```
fn readings() -> StreamSpec {
    stream("readings", "time", &[("sensor", FieldType::String), ("celsius", FieldType::F64)])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).ok_or("say where the engine is: HOST:PORT")?;
    let stream = readings();
    // The name under which the server counts: the same after a restart, and nobody else's.
    let mut config = ClientConfig::new(&server, "example-blocking", stream.fingerprint());
    config.lanes = Lanes::PerShard;
    // All rows of a sensor take the same lane.
    config.routing = Routing::ByKey(vec![0]);
    // Readings do not come again: begin behind what the server has.
    config.resume = Resume::GoOn;
    let client = Client::connect(config, &stream.fields)?;
    for number in 0..100_000_i32 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as i64;
        let sensor = format!("sensor-{}", number % 16);
        // Waits if the server is slower; a batch goes when it has enough rows, or is old enough.
        client.row(now, &[Value::Text(&sensor), Value::F64(20.0 + f64::from(number % 100) / 10.0)])?;
    }
    // Waits until all of it is durable.
    let metrics = client.close()?;
    say(&format!("{} rows in {} batches are durable", metrics.rows_offered, metrics.batches_durable));
    Ok(())
}

/// Says something to people.
fn say(text: &str) {
    use std::io::Write;
    // Nobody is left to hear that standard error is gone.
    let _ = writeln!(std::io::stderr(), "{text}");
}
