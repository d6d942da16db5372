//! Who may send to `corefold run`, and by which proof: TLS, tokens, quotas, ports of shards.
//!
//! What is sent, and that it counts once, is in `network.rs`.

#[path = "../children/mod.rs"]
mod children;
#[path = "../job/mod.rs"]
mod job;
#[path = "../support/mod.rs"]
mod support;

mod access;
mod records;
mod tls;

use corefold_aggregator::spec::{Field, FieldType, StreamSpec};
use corefold_aggregator::time::Duration;
use corefold_shards::batch::{AlignedBytes, ColumnSet, Stamp, encode};

/// The stream of a job.
fn stream() -> StreamSpec {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    StreamSpec {
        name: "events".to_owned(),
        time: "time".to_owned(),
        delay_max: Duration::ZERO,
        fields: vec![
            field("key", FieldType::String),
            field("flag", FieldType::Bool),
            field("number", FieldType::I64),
            field("value", FieldType::F64),
        ],
    }
}

/// A batch of so many rows of that stream.
fn batch(rows: i64) -> AlignedBytes {
    let kinds: Vec<FieldType> = stream().fields.iter().map(|field| field.kind).collect();
    let mut columns = ColumnSet::new(&kinds);
    for row in 0..rows {
        columns.times.push(1_700_000_000_000_000 + row);
        columns.columns[0].push_str(Some(b"key")).expect("a short text");
        columns.columns[1].push_bool(Some(true));
        columns.columns[2].push_i64(Some(row));
        columns.columns[3].push_f64(None);
    }
    let mut bytes = AlignedBytes::new();
    encode(&columns, stream().fingerprint(), &Stamp::of_lane(0, 0, 0), &mut bytes).expect("a small batch");
    bytes
}
