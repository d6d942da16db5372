//! The answer in brief: what every peer tells about its result, so that results are compared without being kept.
//!
//! `scripts/peers/python/answer.py` and the Java peer compute the same, step by step.

use serde_json::{Value, json};

/// Starts and separates the hash's steps; the golden ratio in 64 bits.
pub const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Sums may differ by this much of their size: the order of additions differs between engines.
pub const SUM_TOLERANCE: f64 = 1e-9;

/// Count, sum, minimum and maximum of one key in one window.
#[derive(Clone, Copy, Debug)]
pub struct ResultRow {
    /// Start of the window in milliseconds since the Unix epoch.
    pub window_ms: i64,
    /// Key.
    pub key: u64,
    /// Events.
    pub count: u64,
    /// Sum of values.
    pub sum: f64,
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
}

/// What is compared.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Summary {
    /// Result rows.
    pub rows: u64,
    /// Sum of all counts.
    pub events: u64,
    /// Wrapping sum of all rows' hashes over window, key, count, min and max: the order of rows does not matter.
    pub hash: u64,
    /// Sum of all sums.
    pub sum: f64,
    /// Sum of all sums, each weighted by its row's hash: sums that changed places show.
    pub weighted: f64,
}

impl Summary {
    /// Takes in one row.
    pub fn add(&mut self, row: &ResultRow) {
        let fields = [row.window_ms as u64, row.key, row.count, row.min.to_bits(), row.max.to_bits()];
        let hash = fields.iter().fold(GOLDEN, |hash, field| mix(hash.wrapping_add(GOLDEN) ^ field));
        self.rows += 1;
        self.events += row.count;
        self.hash = self.hash.wrapping_add(hash);
        self.sum += row.sum;
        self.weighted += row.sum * ((hash >> 11) as f64 / (1u64 << 53) as f64);
    }

    /// As JSON; the hash in hexadecimal digits, since JSON's numbers are doubles.
    pub fn to_json(self) -> Value {
        json!({
            "rows": self.rows,
            "events": self.events,
            "hash": format!("{:016x}", self.hash),
            "sum": self.sum,
            "weighted": self.weighted,
        })
    }

    /// What `to_json` wrote.
    pub fn from_json(value: &Value) -> Option<Summary> {
        Some(Summary {
            rows: value["rows"].as_u64()?,
            events: value["events"].as_u64()?,
            hash: u64::from_str_radix(value["hash"].as_str()?, 16).ok()?,
            sum: value["sum"].as_f64()?,
            weighted: value["weighted"].as_f64()?,
        })
    }

    /// What differs from `right`, if anything does.
    pub fn differs(&self, right: &Summary) -> Option<String> {
        let close = |a: f64, b: f64| (a - b).abs() <= SUM_TOLERANCE * b.abs().max(f64::MIN_POSITIVE);
        if self.rows != right.rows {
            Some(format!("{} rows instead of {}", self.rows, right.rows))
        } else if self.events != right.events {
            Some(format!("counts add up to {} instead of {}", self.events, right.events))
        } else if self.hash != right.hash {
            Some("windows, keys, counts, minima or maxima differ".to_owned())
        } else if !close(self.sum, right.sum) || !close(self.weighted, right.weighted) {
            Some(format!("sums differ: {} instead of {}", self.sum, right.sum))
        } else {
            None
        }
    }
}

/// The finalizer of splitmix64.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: u64, sum: f64) -> ResultRow {
        ResultRow { window_ms: 1_000, key, count: 2, sum, min: 0.5, max: 9.0 }
    }

    fn summary(rows: &[ResultRow]) -> Summary {
        rows.iter().fold(Summary::default(), |mut all, row| {
            all.add(row);
            all
        })
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_swapped_sums_show() {
        let right = summary(&[row(1, 3.0), row(2, 8.0)]);
        assert_eq!(summary(&[row(2, 8.0), row(1, 3.0)]).differs(&right), None);
        assert!(summary(&[row(1, 8.0), row(2, 3.0)]).differs(&right).is_some_and(|what| what.contains("sums")));
        assert!(summary(&[row(1, 3.0), row(3, 8.0)]).differs(&right).is_some_and(|what| what.contains("keys")));
        assert!(summary(&[row(1, 3.0)]).differs(&right).is_some_and(|what| what.contains("1 rows")));
        assert_eq!(Summary::from_json(&right.to_json()), Some(right));
    }
}
