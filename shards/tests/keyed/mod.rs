//! A stream of an integer key and a double, for tests of whole shards.

use corefold_aggregator::spec::{Field, FieldType, StreamSpec};
use corefold_aggregator::time::Duration;

/// In microseconds.
pub const SECOND: i64 = 1_000_000;

pub fn micros(value: i64) -> Duration {
    Duration::from_micros(value).expect("a length of time")
}

pub fn stream() -> StreamSpec {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    let fields = vec![field("key", FieldType::I64), field("value", FieldType::F64)];
    StreamSpec { name: "s".to_owned(), time: "t".to_owned(), delay_max: micros(0), fields }
}
