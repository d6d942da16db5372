//! A recording as Chrome's trace JSON, which Perfetto (ui.perfetto.dev) and chrome://tracing open.
//!
//! One process, one track per thread, one complete event per stage; counters beside them. Times are microseconds since
//! the engine's start.

use super::timeline::TrackRecording;
use serde_json::{Value, json};
use std::io::{self, Write};

/// What the counters were at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Nanoseconds since the engine's start.
    pub at_ns: u64,
    /// Rows read so far.
    pub rows: u64,
    /// Result rows given out so far.
    pub rows_out: u64,
    /// Windows given out so far.
    pub windows: u64,
}

/// Writes `tracks` and `samples`.
pub fn write(tracks: &[TrackRecording], samples: &[Sample], out: &mut impl Write) -> io::Result<()> {
    let mut events = Events { out, any: false };
    events.out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n")?;
    events.add(&json!({"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "corefold"}}))?;
    for (track, tid) in tracks.iter().zip(1..) {
        events.add(&json!({"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": track.name}}))?;
        let order = json!({"ph": "M", "pid": 1, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}});
        events.add(&order)?;
        for span in &track.spans {
            let kind = if span.stage.is_wait() { "stall" } else { "work" };
            let (start, length) = (micros(span.start_ns), micros(span.end_ns.saturating_sub(span.start_ns)));
            let name = span.stage.name();
            let event = json!({"ph": "X", "pid": 1, "tid": tid, "name": name, "cat": kind, "ts": start, "dur": length});
            events.add(&event)?;
        }
        if track.dropped > 0 {
            let name = format!("{} more stages were not kept", track.dropped);
            let at = track.spans.last().map_or(0, |span| span.end_ns);
            events.add(&json!({"ph": "i", "s": "t", "pid": 1, "tid": tid, "name": name, "ts": micros(at)}))?;
        }
    }
    for pair in samples.windows(2) {
        let seconds = (pair[1].at_ns - pair[0].at_ns).max(1) as f64 / 1e9;
        let rates = [
            ("rows in per second", pair[1].rows - pair[0].rows),
            ("result rows per second", pair[1].rows_out - pair[0].rows_out),
            ("windows per second", pair[1].windows - pair[0].windows),
        ];
        for (name, count) in rates {
            let rate = (count as f64 / seconds).round();
            let args = json!({"rate": rate});
            events.add(&json!({"ph": "C", "pid": 1, "name": name, "ts": micros(pair[0].at_ns), "args": args}))?;
        }
    }
    events.out.write_all(b"\n]}\n")
}

struct Events<'a, W> {
    out: &'a mut W,
    any: bool,
}

impl<W: Write> Events<'_, W> {
    fn add(&mut self, event: &Value) -> io::Result<()> {
        if std::mem::replace(&mut self.any, true) {
            self.out.write_all(b",\n")?;
        }
        serde_json::to_writer(&mut *self.out, event).map_err(io::Error::from)
    }
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::super::timeline::{Span, Stage};
    use super::*;

    #[test]
    fn a_recording_is_json_with_an_event_per_stage() {
        let span = |stage, start_ns, end_ns| Span { stage, start_ns, end_ns };
        let spans = vec![span(Stage::Step, 1_000, 3_500), span(Stage::WaitDisk, 3_500, 9_000)];
        let track = TrackRecording { name: "shard \"0\"".to_owned(), spans, dropped: 2 };
        let sample = |at_ns, rows| Sample { at_ns, rows, rows_out: 0, windows: 0 };
        let mut bytes = Vec::new();
        write(&[track], &[sample(0, 0), sample(500_000_000, 1_000)], &mut bytes).unwrap();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let events = value["traceEvents"].as_array().unwrap();
        let of = |phase: &str| events.iter().filter(|event| event["ph"] == phase).collect::<Vec<_>>();
        assert_eq!(of("X").len(), 2);
        assert_eq!((of("X")[1]["ts"].as_f64(), of("X")[1]["dur"].as_f64()), (Some(3.5), Some(5.5)));
        assert_eq!(of("X")[1]["cat"], "stall");
        assert_eq!(of("C")[0]["args"]["rate"].as_f64(), Some(2_000.0));
        assert_eq!(of("i").len(), 1, "what was not kept is said");
    }
}
