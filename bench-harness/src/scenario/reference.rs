//! The right answer at full size, by plain loops over the same events.
//!
//! One table of cells per pane, and every window is added up from its panes anew: no sliding, no merging, no doubles (sums
//! are integers, rounded once at the end). It shares nothing with the engine or the hand-written loop, and is itself held
//! against the oracle at small size, in the tests below.

use super::BenchError;
use super::digest::{Digest, ResultRow};
use super::events::{Events, ValueKind};
use std::collections::BTreeMap;

/// Length and distance of windows, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Windows {
    /// Length.
    pub size: i64,
    /// Distance between starts.
    pub slide: i64,
}

impl Windows {
    /// Length of a pane: the greatest common divisor.
    pub fn pane(self) -> i64 {
        let (mut a, mut b) = (self.size, self.slide);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    }
}

/// What events of one group and pane come to.
#[derive(Clone, Copy)]
struct Cell {
    count: u64,
    sum: i64,
    min: i64,
    max: i64,
}

const EMPTY: Cell = Cell { count: 0, sum: 0, min: i64::MAX, max: i64::MIN };

/// See the module.
pub struct Reference {
    windows: Windows,
    pane: i64,
    kind: ValueKind,
    cardinality: usize,
    delay: i64,
    time_max: i64,
    /// By start.
    panes: BTreeMap<i64, Vec<Cell>>,
    /// Windows that end here or before are out.
    out: i64,
    digest: Digest,
}

/// The digest of the right answer over `events`.
pub fn answer(events: &Events, windows: Windows) -> Result<Digest, BenchError> {
    let mut reference = Reference::new(windows, events.kind, events.cardinality, events.disorder_us);
    for event in 0..events.len() {
        reference.add(events.times[event], events.keys[event], events.units(event))?;
    }
    reference.finish()
}

impl Reference {
    /// No events yet. Events may lie up to `delay` behind the latest.
    pub fn new(windows: Windows, kind: ValueKind, cardinality: usize, delay: i64) -> Reference {
        Reference {
            windows,
            pane: windows.pane(),
            kind,
            cardinality,
            delay,
            time_max: i64::MIN,
            panes: BTreeMap::new(),
            out: i64::MIN,
            digest: Digest::default(),
        }
    }

    /// Takes an event with a value of `units` steps.
    pub fn add(&mut self, time: i64, key: i64, units: i64) -> Result<(), BenchError> {
        let start = time.div_euclid(self.pane) * self.pane;
        let cardinality = self.cardinality;
        let pane = self.panes.entry(start).or_insert_with(|| vec![EMPTY; cardinality]);
        let cell = &mut pane[key as usize];
        cell.count += 1;
        cell.sum = cell.sum.checked_add(units).ok_or_else(too_large)?;
        cell.min = cell.min.min(units);
        cell.max = cell.max.max(units);
        if time > self.time_max {
            let before = (self.time_max.saturating_sub(self.delay)).div_euclid(self.pane);
            self.time_max = time;
            if (time - self.delay).div_euclid(self.pane) > before {
                self.give_out(time - self.delay)?;
            }
        }
        Ok(())
    }

    /// The digest over all windows.
    pub fn finish(mut self) -> Result<Digest, BenchError> {
        self.give_out(i64::MAX)?;
        Ok(self.digest)
    }

    /// Gives out the windows that end at or before `limit`, and forgets panes that no later window has.
    fn give_out(&mut self, limit: i64) -> Result<(), BenchError> {
        let Windows { size, slide } = self.windows;
        while let Some((&oldest, _)) = self.panes.first_key_value() {
            // The first window that holds the oldest pane and is not out yet.
            let first_end = ((oldest - size).div_euclid(slide) + 1) * slide + size;
            let end = first_end.max(self.out.saturating_add(slide));
            if end > limit {
                return Ok(());
            }
            self.one_window(end)?;
            self.out = end;
            let next_start = end - size + slide;
            while let Some(entry) = self.panes.first_entry() {
                if entry.key() + self.pane > next_start {
                    break;
                }
                entry.remove();
            }
        }
        Ok(())
    }

    fn one_window(&mut self, end: i64) -> Result<(), BenchError> {
        let panes: Vec<&Vec<Cell>> = self.panes.range(end - self.windows.size..end).map(|(_, pane)| pane).collect();
        for key in 0..self.cardinality {
            let mut total = EMPTY;
            for cell in panes.iter().map(|pane| pane[key]).filter(|cell| cell.count > 0) {
                total.count += cell.count;
                total.sum = total.sum.checked_add(cell.sum).ok_or_else(too_large)?;
                total.min = total.min.min(cell.min);
                total.max = total.max.max(cell.max);
            }
            if total.count > 0 {
                let [sum, min, max] = [total.sum, total.min, total.max].map(|units| self.kind.bits_of(units));
                self.digest.add(&ResultRow { end, key: key as i64, count: total.count, sum, min, max });
            }
        }
        Ok(())
    }
}

fn too_large() -> BenchError {
    BenchError::Param {
        name: "events".to_owned(),
        what: "sums leave 64 bits; ask for fewer events per window".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use crate::oracle::{self, Value};
    use crate::scenario::events::{self, Values};
    use crate::scenario::params;
    use crate::workload::random::random_job;
    use crate::workload::{Aggregate, Cell, Field, Function, Job, Kind, Overflow, Row, View};

    /// The same question as a job for the oracle.
    fn job(events: &Events, windows: Windows) -> Job {
        let value_kind = if events.kind == ValueKind::I64 { Kind::Int } else { Kind::Float };
        let row = |event: usize| {
            let value = match &events.values {
                Values::F64(values) => Cell::Float(values[event]),
                Values::I64(values) => Cell::Int(values[event]),
            };
            Row { time: events.times[event], cells: vec![Cell::Int(events.keys[event]), value] }
        };
        let aggregate = |function, field| Aggregate { rename: None, function, field };
        Job {
            fields: vec![
                Field { name: "key".to_owned(), kind: Kind::Int },
                Field { name: "value".to_owned(), kind: value_kind },
            ],
            lanes: vec![(0..events.len()).map(row).collect()],
            max_delay: events.disorder_us,
            view: View {
                by: vec![0],
                size: windows.size,
                slide: windows.slide,
                offset: 0,
                aggregates: vec![
                    aggregate(Function::Count, None),
                    aggregate(Function::Sum, Some(1)),
                    aggregate(Function::Min, Some(1)),
                    aggregate(Function::Max, Some(1)),
                ],
                filter: None,
                max_groups: None,
                overflow: Overflow::Fold,
            },
            ..random_job(0)
        }
    }

    fn digest_of(answer: &oracle::Answer) -> Digest {
        let int = |value: &Value| match value {
            Value::Int(value) | Value::Time(value) => *value,
            other => panic!("{other:?}"),
        };
        let bits = |value: &Value| match value {
            Value::Float(value) => value.to_bits(),
            other => int(other) as u64,
        };
        let mut digest = Digest::default();
        for row in &answer.rows {
            let [sum, min, max] = [&row[4], &row[5], &row[6]].map(bits);
            digest.add(&ResultRow { end: int(&row[1]), key: int(&row[2]), count: int(&row[3]) as u64, sum, min, max });
        }
        digest
    }

    #[test]
    fn the_reference_says_what_the_oracle_says() {
        let mut entropy = Entropy::new(7);
        for round in 0..60 {
            let pick = |choices: &[&str], entropy: &mut Entropy| (*entropy.pick(choices)).to_owned();
            let (size, slide) = *entropy.pick(&[(10, 10), (10, 1), (7, 2), (2, 7), (3, 2), (1, 1)]);
            let asked = [
                format!("events={}", pick(&["1", "50", "1000"], &mut entropy)),
                format!("keys={}", pick(&["zipf", "uniform", "hot"], &mut entropy)),
                format!("cardinality={}", pick(&["1", "5", "300"], &mut entropy)),
                format!("disorder={}", pick(&["0s", "100ms", "5s"], &mut entropy)),
                format!("value={}", pick(&["f64", "f64-fine", "i64"], &mut entropy)),
                format!("span={}", pick(&["3s", "40s", "300s"], &mut entropy)),
                format!("seed={round}"),
            ];
            let points = params::points(&events::PARAMS, &asked, true).unwrap();
            let events = Events::make(&points[0]).unwrap();
            let windows = Windows { size: size * 1_000_000, slide: slide * 1_000_000 };
            let oracle = oracle::answer(&job(&events, windows)).unwrap();
            assert_eq!(oracle.ledger.late, 0);
            assert_eq!(answer(&events, windows).unwrap(), digest_of(&oracle), "{asked:?} {windows:?}");
        }
    }
}
