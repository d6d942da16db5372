//! How much the users of one entry of `[[producers]]` may send: rates that slow them down.
//!
//! Nothing is refused here and nobody waits: a rate says how long to wait, and what was sent is charged to it.

use std::sync::atomic::{AtomicU64, Ordering};

/// What may be sent at once after a pause: as much as in one second.
const BURST_NS: u64 = 1_000_000_000;

/// See the module. One for all connections of an entry, on all shards.
#[derive(Debug, Default)]
pub struct Quota {
    bytes: Option<Rate>,
    rows: Option<Rate>,
}

impl Quota {
    /// A quota of so much a second.
    pub fn new(bytes_per_second: Option<u64>, rows_per_second: Option<u64>) -> Quota {
        Quota { bytes: bytes_per_second.map(Rate::new), rows: rows_per_second.map(Rate::new) }
    }

    /// How long the next batch has to wait, if it has.
    pub fn wait_ns(&self, now_ns: u64) -> Option<u64> {
        let waits = [&self.bytes, &self.rows].into_iter().flatten().map(|rate| rate.wait_ns(now_ns));
        waits.max().filter(|wait| *wait > 0)
    }

    /// So many bytes are taken.
    pub fn charge_bytes(&self, bytes: u64, now_ns: u64) {
        if let Some(rate) = &self.bytes {
            rate.charge(bytes, now_ns);
        }
    }

    /// So many rows are taken.
    pub fn charge_rows(&self, rows: u64, now_ns: u64) {
        if let Some(rate) = &self.rows {
            rate.charge(rows, now_ns);
        }
    }
}

/// A rate, as the moment at which all that was charged is paid off. Shards that look at the same moment may both take
/// a batch; the debt is paid off all the same.
#[derive(Debug)]
struct Rate {
    per_second: u64,
    paid_ns: AtomicU64,
}

impl Rate {
    fn new(per_second: u64) -> Rate {
        Rate { per_second: per_second.max(1), paid_ns: AtomicU64::new(0) }
    }

    fn wait_ns(&self, now_ns: u64) -> u64 {
        self.paid_ns.load(Ordering::Relaxed).saturating_sub(now_ns.saturating_add(BURST_NS))
    }

    fn charge(&self, amount: u64, now_ns: u64) {
        let cost = u128::from(amount) * 1_000_000_000 / u128::from(self.per_second);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let charged = |paid: u64| Some(paid.max(now_ns).saturating_add(cost));
        // The function always gives a value.
        let _ = self.paid_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_rate_holds_over_time_and_forgives_no_debt() {
        let quota = Quota::new(Some(1000), None);
        let (mut now, mut sent) = (50 * SECOND, 0);
        let end = now + 100 * SECOND;
        while now < end {
            match quota.wait_ns(now) {
                Some(wait) => now += wait,
                None => {
                    quota.charge_bytes(300, now);
                    sent += 300;
                }
            }
        }
        // A second's worth at once, and one batch that goes beyond it.
        assert!((100_000..=101_300).contains(&sent), "{sent}");
        // After a long pause there is a second's worth again, and no more.
        now += 1000 * SECOND;
        quota.charge_bytes(5000, now);
        assert_eq!(quota.wait_ns(now), Some(4 * SECOND));
        assert_eq!(quota.wait_ns(now + 4 * SECOND), None);
    }

    #[test]
    fn the_slower_of_two_rates_decides() {
        let quota = Quota::new(Some(1_000_000), Some(10));
        quota.charge_bytes(1000, 0);
        quota.charge_rows(30, 0);
        assert_eq!(quota.wait_ns(0), Some(2 * SECOND));
        assert_eq!(Quota::default().wait_ns(0), None);
    }
}
