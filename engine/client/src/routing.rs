//! Which lane a row takes, and where a client goes on after a restart.
//!
//! How lanes are served is not here. Everything is decided by what is sent alone, so that the same input takes the same
//! lanes again.

use crate::batch::Value;
use xxhash_rust::xxh3::Xxh3Default;

/// How many lanes a client has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lanes {
    /// As many as this.
    Of(u32),
    /// One for each shard of the server. The server remembers how many those were when the producer first came, so that
    /// the number stays the same whatever becomes of the shards; see [`crate::client`].
    PerShard,
}

/// How rows and batches find their lanes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Routing {
    /// Batches go to one lane after the other; rows as their batches.
    RoundRobin,
    /// Rows go by the values of these fields, by index: one key always takes the same lane. Batches go to one lane
    /// after the other.
    ByKey(Vec<usize>),
}

/// Where a client goes on that has sent under its producer's name before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resume {
    /// Behind everything that the server has: what is sent from now on is new. For rows that do not come again.
    GoOn,
    /// At the beginning: everything is offered again, in the same order, and what the server has is passed over. For
    /// inputs that can be read again. Batches are then cut by their number of rows and by flushes, never by age, since
    /// they must be the same each time.
    FromStart,
}

/// The lane of a key among `lanes`: the remainder of XXH3-64 over its values, one after the other: a byte for the type
/// (0 null, 1 i64, 2 f64, 3 bool, 4 string), then 8 bytes little-endian of an `i64`; of an `f64` those of its bits,
/// with -0.0 as 0.0 and NaN as null; 1 byte of a `bool`; of a `string` its length as 8 bytes, then its UTF-8.
pub fn lane_of_key<'a>(key: impl IntoIterator<Item = Value<'a>>, lanes: u32) -> u32 {
    let mut hash = Xxh3Default::new();
    for value in key {
        match value {
            Value::F64(value) if value.is_nan() => hash.update(&[0]),
            Value::Null => hash.update(&[0]),
            Value::I64(value) => {
                hash.update(&[1]);
                hash.update(&value.to_le_bytes());
            }
            Value::F64(value) => {
                let value = if value == 0.0 { 0.0 } else { value };
                hash.update(&[2]);
                hash.update(&value.to_bits().to_le_bytes());
            }
            Value::Bool(value) => hash.update(&[3, u8::from(value)]),
            Value::Text(text) => {
                hash.update(&[4]);
                hash.update(&(text.len() as u64).to_le_bytes());
                hash.update(text.as_bytes());
            }
        }
    }
    (hash.digest() % u64::from(lanes.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_lane_whatever_its_form() {
        let lane = |key: &[Value<'_>]| lane_of_key(key.iter().copied(), 1 << 20);
        assert_eq!(lane(&[Value::F64(0.0)]), lane(&[Value::F64(-0.0)]));
        assert_eq!(lane(&[Value::F64(f64::NAN)]), lane(&[Value::Null]));
        assert_ne!(lane(&[Value::Text("ab"), Value::Text("c")]), lane(&[Value::Text("a"), Value::Text("bc")]));
        assert_ne!(lane(&[Value::I64(1)]), lane(&[Value::Bool(true)]));
        assert_ne!(lane(&[Value::Null, Value::I64(1)]), lane(&[Value::I64(1), Value::Null]));
    }

    /// Rows of programs that run now must find the lanes of those that ran before.
    #[test]
    fn lanes_of_keys_stay_what_they_are() {
        let lanes = ["", "a", "key-7", "ü"].map(|text| lane_of_key([Value::Text(text), Value::I64(-3)], 1000));
        assert_eq!(lanes, [539, 848, 979, 182]);
    }

    #[test]
    fn keys_spread_over_all_lanes() {
        let mut counts = [0; 7];
        for key in 0..7000 {
            counts[lane_of_key([Value::I64(key)], 7) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
