//! The summary at the end of a run: what was read, what became of it, what was written. It adds up.
//!
//! Progress on the way is in [`crate::progress`].

use crate::export_core::ViewSummary;
use crate::progress::thousands;
use crate::units;
use corefold_shards::counters::{ShardCounts, StreamCounts};
use corefold_shards::fold::view_fold::FoldCounts;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::time::Duration;

/// A view's part of the summary.
pub struct ViewLine<'a> {
    /// Name of the view; empty for a job of one view.
    pub name: &'a str,
    /// Its stream, as an index into the counts.
    pub stream: usize,
    /// Where its rows went, for people.
    pub output: String,
}

/// The whole summary as text, a line per fact.
pub fn render(
    counts: &ShardCounts,
    views: &[ViewLine<'_>],
    written: &[ViewSummary],
    rows_resumed: u64,
    elapsed: Duration,
) -> String {
    let mut text = String::new();
    let received: u64 = counts.streams.iter().map(|stream| stream.received).sum();
    let read_now = received.saturating_sub(rows_resumed);
    let seconds = elapsed.as_secs_f64();
    let rate = thousands((read_now as f64 / seconds.max(1e-9)) as u64);
    // Writing to a string does not fail.
    let _ = writeln!(text, "read      {} rows in {seconds:.2} s ({rate} rows/s)", thousands(read_now));
    if rows_resumed > 0 {
        let _ = writeln!(text, "resumed   {} rows that were durable before", thousands(rows_resumed));
    }
    for ((view, summary), folded) in views.iter().zip(written).zip(&counts.views) {
        let ledger = Ledger::of(counts.streams.get(view.stream).copied().unwrap_or_default(), *folded);
        let label = if view.name.is_empty() { String::new() } else { format!("{}: ", view.name) };
        let _ = writeln!(text, "ledger    {label}{ledger}");
        let _ = writeln!(
            text,
            "result    {label}{} rows in {} windows -> {} ({})",
            thousands(summary.rows),
            thousands(summary.windows),
            view.output,
            units::format_size_rounded(summary.written.bytes)
        );
    }
    text
}

/// What became of the events of one view. `received = aggregated + late + duplicate + rejected + shed`, where
/// received are the rows read but for those that the view's filter does not ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Rows that the view asks for.
    pub received: u64,
    /// In the result.
    pub aggregated: u64,
    /// Too late.
    pub late: u64,
    /// Seen before.
    pub duplicate: u64,
    /// Bad input, skipped as asked.
    pub rejected: u64,
    /// Refused for want of time or room.
    pub shed: u64,
    /// Not asked for by the filter.
    pub filtered: u64,
}

impl Ledger {
    /// Of a stream's and a view's counts.
    pub fn of(stream: StreamCounts, view: FoldCounts) -> Ledger {
        Ledger {
            received: stream.received - view.filtered,
            aggregated: view.aggregated,
            late: view.late,
            duplicate: stream.duplicate,
            rejected: stream.rejected,
            shed: stream.shed,
            filtered: view.filtered,
        }
    }

    /// Whether nothing vanished.
    pub fn balances(&self) -> bool {
        // Added in a wider type: a ledger may come from a file.
        let parts = [self.aggregated, self.late, self.duplicate, self.rejected, self.shed];
        u128::from(self.received) == parts.into_iter().map(u128::from).sum::<u128>()
    }
}

impl std::fmt::Display for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "received {} = aggregated {} + late {} + duplicate {} + rejected {} + shed {}",
            self.received, self.aggregated, self.late, self.duplicate, self.rejected, self.shed
        )?;
        if self.filtered > 0 {
            write!(f, "; filtered {}", self.filtered)?;
        }
        if !self.balances() {
            write!(f, "  DOES NOT ADD UP; this is a bug")?;
        }
        Ok(())
    }
}
