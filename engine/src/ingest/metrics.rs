//! Metrics of statsd to rows of a stream.
//!
//! How a line is taken apart is in `statsd`.

use super::cells::Cell;
use super::rows::Rows;
use super::statsd::{self, Metric, Sample};
use crate::config::ways::StatsdMap;
use corefold_aggregator::spec::{Field, FieldType};
use corefold_aggregator::time::EventTime;

/// Takes lines of one way in.
#[derive(Clone, Debug)]
pub struct Metrics {
    map: StatsdMap,
    kinds: Vec<FieldType>,
}

impl Metrics {
    /// By a map to these fields.
    pub fn new(map: StatsdMap, fields: &[Field]) -> Metrics {
        Metrics { map, kinds: fields.iter().map(|field| field.kind).collect() }
    }

    /// Adds the rows of `lines`, which may end without a line end; `now` is their time where they tell none. Returns the
    /// first fault of a line, all of which are counted.
    pub fn add(&self, lines: &[u8], now: EventTime, rows: &mut Rows) -> Option<String> {
        let mut first = None;
        for line in lines.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let added = statsd::parse(line).map_err(|fault| fault.to_string());
            if let Err(fault) = added.and_then(|metric| self.add_metric(&metric, now, rows)) {
                rows.reject();
                first.get_or_insert_with(|| format!("{}: {fault}", shown(line)));
            }
        }
        first
    }

    fn add_metric(&self, metric: &Metric<'_>, now: EventTime, rows: &mut Rows) -> Result<(), String> {
        let time = match metric.time {
            None => now,
            Some(seconds) => EventTime(seconds.saturating_mul(1_000_000)),
        };
        if !time.is_valid() {
            return Err("the time is outside of the years 1 to 9999".to_owned());
        }
        let mut cells = vec![Cell::Null; self.kinds.len()];
        for (tag, value) in metric.tags() {
            let Ok(at) = self.map.tags.binary_search_by(|(name, _)| name.as_str().cmp(tag)) else { continue };
            let field = self.map.tags[at].1;
            let fault = || format!("the tag `{tag}` is no {}", self.kinds[field].name());
            cells[field] = Cell::of_text(self.kinds[field], value).ok_or_else(fault)?;
        }
        let mut set = |field: Option<usize>, cell| {
            if let Some(field) = field {
                cells[field] = cell;
            }
        };
        set(self.map.name, Cell::Text(metric.name));
        set(self.map.rate, Cell::F64(metric.rate));
        for sample in metric.samples() {
            let mut cells = cells.clone();
            let mut set = |field: Option<usize>, cell| {
                if let Some(field) = field {
                    cells[field] = cell;
                }
            };
            let kind = if matches!(sample, Sample::Change(_)) { "g+" } else { metric.kind.name() };
            set(self.map.kind, Cell::Text(kind));
            match sample {
                Sample::Change(number) | Sample::Number(number) => set(self.map.value, Cell::F64(number)),
                Sample::Text(text) => set(self.map.text, Cell::Text(text)),
            }
            if !rows.push(time.0, &cells) {
                return Err("the line is more than a batch may hold".to_owned());
            }
        }
        Ok(())
    }
}

/// The beginning of a line, for messages.
pub fn shown(line: &[u8]) -> String {
    const SHOWN_MAX: usize = 80;
    let text = String::from_utf8_lossy(&line[..line.len().min(SHOWN_MAX)]);
    format!("`{}{}`", text.escape_debug(), if line.len() > SHOWN_MAX { "…" } else { "" })
}
