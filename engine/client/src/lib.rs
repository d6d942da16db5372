//! Sends batches to a running `corefold run`, exactly once.
//!
//! A [`Client`] has one lane or several, each with a connection and a thread of its own. It connects again by itself,
//! after pauses drawn at random below a bound that doubles; goes on where the server is; keeps what is not durable;
//! and makes callers wait when as much is under way as may be. Rows become batches by number and by age, whether more
//! rows come or not, and find their lanes by the hash of a key or in turn. The protocol is
//! `corefold_shards::session`; what other languages need to know is in `docs/wire-format.md` and `docs/clients.md`.
//!
//! Rows, from ordinary code:
//!
//! ```no_run
//! use corefold_client::{Client, ClientConfig, FieldType, Lanes, Routing, Value, stream};
//!
//! // The stream as the server's configuration describes it.
//! let stream = stream("readings", "time", &[("sensor", FieldType::String), ("celsius", FieldType::F64)]);
//! let mut config = ClientConfig::new("127.0.0.1:7600", "building-7", stream.fingerprint());
//! config.lanes = Lanes::PerShard;
//! config.routing = Routing::ByKey(vec![0]);
//! let client = Client::connect(config, &stream.fields)?;
//! client.row(1_700_000_000_000_000, &[Value::Text("door"), Value::F64(21.5)])?;
//! // Returns when everything is durable.
//! let metrics = client.close()?;
//! assert_eq!(metrics.batches_durable, 1);
//! # Ok::<(), corefold_client::SendError>(())
//! ```
//!
//! Batches, from async code under any executor; a batch is accepted first and durable later:
//!
//! ```no_run
//! use corefold_client::{BatchBuilder, Client, ClientConfig, Field, Outcome, SendError, Value};
//!
//! # async fn send(config: ClientConfig, fields: Vec<Field>) -> Result<(), SendError> {
//! let mut builder = BatchBuilder::new(config.lane.fingerprint, &fields);
//! let client = Client::connect_async(config, &fields).await?;
//! for second in 0..60 {
//!     builder.row(second * 1_000_000, &[Value::Text("door"), Value::F64(20.0)])?;
//! }
//! let batch = builder.finish(client.spare())?;
//! let ticket = client.send_async(batch).await?;
//! assert_eq!(ticket.await?, Outcome::Durable);
//! client.close_async().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is accepted is neither lost nor doubled
//!
//! A future that is dropped while it waits has done nothing: its row or batch was not accepted. One that was accepted
//! is kept until the server says that it is durable, and sent again after every loss of the connection or of the
//! server. Tickets may be dropped at any time. What ends this is the end of the program, or of the [`Client`], before
//! [`Client::close`].
//!
//! # Beginning again
//!
//! After a restart of the program, either go on ([`Resume::GoOn`]): the server keeps what it has, rows that were on
//! their way may or may not be among it, and everything sent from then on is new. Or offer everything again
//! ([`Resume::FromStart`]), and nothing counts twice, if these are the same as before: the producer's name, the rows
//! and their order, the calls that cut batches (`batch_rows`, [`Client::flush`]), the routing, and the number of
//! lanes. [`Lanes::PerShard`] keeps the number of lanes itself. Rows must then come from one thread, or each lane's
//! from one.
//!
//! # Lanes and time
//!
//! Each lane has a watermark of its own. What is late is decided lane by lane; results wait for the slowest lane that
//! is live, so a lane without rows holds them back until it has been silent for the stream's `idle_timeout`. Few
//! lanes with many rows each are better than many with few.

mod backoff;
mod batch;
mod bell;
mod client;
mod config;
mod error;
mod inner;
mod lane_thread;
mod link;
mod metrics;
mod plan;
mod producer;
mod routing;
mod state;
mod ticket;
mod tls;
mod waiting;

pub use backoff::Backoff;
pub use batch::{Batch, BatchBuilder, Value};
pub use client::{Client, Tried};
pub use config::{ClientConfig, LANES_MAX, stream};
pub use error::SendError;
pub use metrics::Metrics;
pub use producer::Producer;
pub use routing::{Lanes, Resume, Routing, lane_of_key};
pub use state::Outcome;
pub use ticket::Ticket;
pub use tls::{TlsConfig, TlsError, TlsFiles};

pub use corefold_aggregator::spec::{Field, FieldType, StreamSpec};
pub use corefold_aggregator::time::EventTime;
pub use corefold_shards::batch::AlignedBytes;
pub use corefold_shards::session::{ClientLimits, Code, LaneName, Level, Place, Refusal};
