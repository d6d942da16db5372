//! What became of all that came over one address, for the summary; and news for people while the engine runs.
//!
//! What became of rows once they are in a lane is counted by the shards.

use crate::progress::thousands;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of one address.
#[derive(Debug, Default)]
pub struct WayCounts {
    /// What it is called.
    name: String,
    /// Connections, or datagrams.
    pub arrivals: Count,
    /// Requests that were answered with success.
    pub answered: Count,
    /// Connections and requests that were refused or cut off.
    pub refused: Count,
    /// Rows that were handed to a lane.
    pub rows: Count,
    /// Rows that could not be read.
    pub rejected: Count,
    /// Rows that were dropped for want of room.
    pub shed: Count,
    /// Datagrams that the system dropped before they were read.
    pub lost: Count,
    last: Mutex<Option<String>>,
    news: Mutex<Option<String>>,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Makes it at least `least`.
    pub fn raise(&self, least: u64) {
        self.0.fetch_max(least, Ordering::Relaxed);
    }
}

impl WayCounts {
    /// Nothing yet.
    pub fn new(name: String) -> WayCounts {
        WayCounts { name, ..WayCounts::default() }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts something that was refused as a whole.
    pub fn refuse(&self, reason: &str) {
        self.refused.add(1);
        self.note(reason);
    }

    /// Counts rows that cannot be read.
    pub fn reject(&self, rows: u64, reason: &str) {
        self.rejected.add(rows);
        self.note(reason);
    }

    /// Counts rows that were dropped.
    pub fn shed(&self, rows: u64, reason: &str) {
        self.shed.add(rows);
        self.note(reason);
    }

    fn note(&self, reason: &str) {
        for place in [&self.last, &self.news] {
            if let Ok(mut place) = place.lock() {
                *place = Some(reason.to_owned());
            }
        }
    }

    /// The last reason since this was asked last: for those who tell it no more often than people want to read it.
    pub fn take_news(&self) -> Option<String> {
        let news = self.news.lock().ok()?.take()?;
        Some(format!("{}: {news}", self.name))
    }

    /// A sentence for the summary.
    pub fn text(&self) -> String {
        let arrivals = if self.name.contains(" udp ") { "datagrams" } else { "connections" };
        let mut text = format!("{}: {} {arrivals}", self.name, thousands(self.arrivals.get()));
        let more = [
            (&self.answered, "requests answered"),
            (&self.refused, "refused"),
            (&self.rejected, "rows rejected"),
            (&self.shed, "rows shed"),
            (&self.lost, "datagrams lost by the system"),
        ];
        text.push_str(&format!(", {} rows", thousands(self.rows.get())));
        for (count, what) in more {
            if count.get() > 0 {
                text.push_str(&format!(", {} {what}", thousands(count.get())));
            }
        }
        if let Some(last) = self.last.lock().ok().and_then(|mut last| last.take()) {
            text.push_str(&format!("; the last: {last}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_there_is_to_say() {
        let counts = WayCounts::new("statsd udp 127.0.0.1:8125".to_owned());
        counts.arrivals.add(1200);
        counts.rows.add(3);
        counts.lost.raise(2);
        counts.lost.raise(1);
        assert_eq!(counts.text(), "statsd udp 127.0.0.1:8125: 1,200 datagrams, 3 rows, 2 datagrams lost by the system");
        counts.reject(1, "bad");
        counts.refuse("worse");
        assert_eq!(counts.take_news().as_deref(), Some("statsd udp 127.0.0.1:8125: worse"));
        assert_eq!(counts.take_news(), None);
        assert!(counts.text().ends_with("1 refused, 1 rows rejected, 2 datagrams lost by the system; the last: worse"));
    }
}
