//! Sends batches to a running `corefold run`, exactly once.
//!
//! A [`Producer`] is one lane over one connection: it connects again by itself, goes on where the server is, keeps what
//! is not durable, and waits when as much is under way as may be. A [`RowSender`] makes batches of rows for it. Nothing
//! here is asynchronous; one thread per lane, or one that calls [`Producer::turn`] now and then. The protocol is
//! `corefold_shards::session`.
//!
//! ```no_run
//! use corefold_client::{ClientConfig, RowSender, Value};
//! use corefold_aggregator::spec::{Field, FieldType, StreamSpec};
//! use corefold_aggregator::time::Duration;
//!
//! let stream = StreamSpec {
//!     name: "readings".to_owned(),
//!     time: "time".to_owned(),
//!     delay_max: Duration::ZERO,
//!     fields: vec![Field { name: "celsius".to_owned(), kind: FieldType::F64 }],
//! };
//! let config = ClientConfig::new("127.0.0.1:7600", "sensor-7", stream.fingerprint());
//! let mut sender = RowSender::connect(config, &stream.fields)?;
//! sender.row(1_700_000_000_000_000, &[Value::F64(21.5)])?;
//! // Returns when everything is durable.
//! let metrics = sender.close()?;
//! assert_eq!(metrics.batches_durable, 1);
//! # Ok::<(), corefold_client::SendError>(())
//! ```

mod backoff;
mod config;
mod link;
mod producer;
mod rows;
mod tls;

pub use backoff::Backoff;
pub use config::ClientConfig;
pub use producer::{Metrics, Producer, SendError};
pub use rows::{RowSender, Value};
pub use tls::{TlsConfig, TlsError, TlsFiles};

pub use corefold_aggregator::time::EventTime;
pub use corefold_shards::batch::AlignedBytes;
pub use corefold_shards::session::{ClientLimits, Code, LaneName, Level, Refusal};
