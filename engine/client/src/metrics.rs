//! What has happened to what was offered, of one lane or of several.
//!
//! `batches_offered` is always the sum of the known, durable, shed and those that are under way.

use std::iter::Sum;
use std::ops::Add;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Metrics {
    /// Batches that were offered, those passed over among them.
    pub batches_offered: u64,
    /// Batches that the server had before.
    pub batches_known: u64,
    /// Batches that were offered and are durable.
    pub batches_durable: u64,
    /// Batches that the server has shed because their deadline had passed.
    pub batches_shed: u64,
    /// Batches that are kept because they are not known to be durable.
    pub batches_underway: u64,
    /// Bytes of those.
    pub bytes_underway: u64,
    /// Rows that were offered, but for those of batches that were passed over.
    pub rows_offered: u64,
    /// Bytes of offered batches.
    pub bytes_offered: u64,
    /// Connections that were opened.
    pub connections: u64,
}

impl Add for Metrics {
    type Output = Metrics;

    fn add(self, other: Metrics) -> Metrics {
        Metrics {
            batches_offered: self.batches_offered + other.batches_offered,
            batches_known: self.batches_known + other.batches_known,
            batches_durable: self.batches_durable + other.batches_durable,
            batches_shed: self.batches_shed + other.batches_shed,
            batches_underway: self.batches_underway + other.batches_underway,
            bytes_underway: self.bytes_underway + other.bytes_underway,
            rows_offered: self.rows_offered + other.rows_offered,
            bytes_offered: self.bytes_offered + other.bytes_offered,
            connections: self.connections + other.connections,
        }
    }
}

impl Sum for Metrics {
    fn sum<I: Iterator<Item = Metrics>>(each: I) -> Metrics {
        each.fold(Metrics::default(), Add::add)
    }
}
