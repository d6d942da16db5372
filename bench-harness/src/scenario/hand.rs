//! The hand-written single-thread loop: what the same question costs with no engine around it.
//!
//! A hash table from key to slot, an array of rows per open pane, two stacks for sliding, and the digest of every result
//! row. Sums are plain doubles. It knows one question and one thread, checks nothing and keeps nothing on disk. The same
//! loop with synced blocks is in [`super::synced`].

use super::cores::Pin;
use super::digest::{Digest, ResultRow};
use super::events::{Events, Values};
use super::params::{ParamSpec, Params};
use super::question;
use super::reference::{self, Windows};
use super::slots::{Dense, Hashed, HashedTexts, Keys, Slots};
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use std::time::{Duration, Instant};

/// See the module.
pub struct Hand;

impl Scenario for Hand {
    fn name(&self) -> &'static str {
        "hand"
    }

    fn about(&self) -> &'static str {
        "a hand-written single-thread loop with the same answer, and no engine: the speed of light"
    }

    fn params(&self) -> Vec<ParamSpec> {
        let own = [ParamSpec::choice("table", "hash", &["hash", "dense"], "keys by a hash table, or as indices")];
        question::params().into_iter().chain(own).collect()
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let (events, windows) = (Events::make(params)?, question::windows(params)?);
        check(&events, windows)?;
        if events.texts.is_some() && params.text("table")? == "dense" {
            let what = "texts are no indices; say table=hash".to_owned();
            return Err(BenchError::Param { name: "table".to_owned(), what });
        }
        let expected = reference::answer(&events, windows)?;
        let is_hashed = params.text("table")? == "hash";
        Ok(Box::new(PreparedHand { events, windows, is_hashed, expected, _pin: setting.cores.pin(0)? }))
    }
}

struct PreparedHand {
    events: Events,
    windows: Windows,
    is_hashed: bool,
    expected: Digest,
    _pin: Pin,
}

impl Prepared for PreparedHand {
    fn expected(&self) -> Digest {
        self.expected
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let outcome = run(&self.events, self.windows, self.is_hashed);
        let events = self.events.len() as f64;
        let ns = |duration: Duration| duration.as_secs_f64() * 1e9 / events;
        Ok(Round {
            metrics: vec![
                Metric::cost("total", "ns/event", ns(outcome.total)),
                Metric::cost("fold", "ns/event", ns(outcome.total - outcome.emission)),
                Metric::rate("throughput", "M events/s", events / outcome.total.as_secs_f64() / 1e6),
            ],
            digest: outcome.digest,
            latency: None,
        })
    }
}

/// What the loop found, and how long it took.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Digest of its results.
    pub digest: Digest,
    /// From the first event to the last result.
    pub total: Duration,
    /// Of that, sliding and giving out.
    pub emission: Duration,
}

/// Whether the loop can answer the question: its sums are plain doubles, and its panes are as long as the slide.
pub fn check(events: &Events, windows: Windows) -> Result<(), BenchError> {
    let wrong = |name: &str, what: &str| Err(BenchError::Param { name: name.to_owned(), what: what.to_owned() });
    if windows.size % windows.slide != 0 {
        return wrong("slide", "the hand-written loop needs windows that are a multiple of their slide");
    }
    if matches!(events.kind, super::events::ValueKind::F64 { bits: 32 }) {
        return wrong("value", "sums of f64-fine do not fit a double, and the hand-written loop has nothing else");
    }
    Ok(())
}

/// Answers the question over `events`; [`check`] says whether it can.
pub fn run(events: &Events, windows: Windows, is_hashed: bool) -> Outcome {
    let began = Instant::now();
    let (digest, emission) = match &events.values {
        Values::F64(values) => fold_by(events, values, windows, is_hashed),
        Values::I64(values) => fold_by(events, values, windows, is_hashed),
    };
    Outcome { digest, total: began.elapsed(), emission }
}

fn fold_by<V: Value>(events: &Events, values: &[V], windows: Windows, is_hashed: bool) -> (Digest, Duration) {
    let ints = events.keys.iter().copied();
    match &events.texts {
        Some(texts) => fold(events, texts.iter(), values, windows, HashedTexts::new()),
        None if is_hashed => fold(events, ints, values, windows, Hashed::new()),
        None => fold(events, ints, values, windows, Dense(events.cardinality)),
    }
}

fn fold<V: Value, K>(
    events: &Events,
    keys: impl Iterator<Item = K>,
    values: &[V],
    windows: Windows,
    mut slots: impl Slots<K>,
) -> (Digest, Duration) {
    let mut panes = Panes::new(windows, events.disorder_us);
    for ((&time, key), &value) in events.times.iter().zip(keys).zip(values) {
        let slot = slots.slot(key);
        panes.add(time, slot, value, &slots);
    }
    panes.finish(&slots);
    (panes.digest, panes.emission)
}

/// A type of values.
pub trait Value: Copy {
    /// Nothing added yet.
    const ZERO: Self;
    /// Larger than all.
    const HIGH: Self;
    /// Smaller than all.
    const LOW: Self;
    /// The sum.
    fn plus(self, other: Self) -> Self;
    /// The smaller one.
    fn low(self, other: Self) -> Self;
    /// The larger one.
    fn high(self, other: Self) -> Self;
    /// For the digest.
    fn bits(self) -> u64;
}

impl Value for f64 {
    const ZERO: f64 = 0.0;
    const HIGH: f64 = f64::INFINITY;
    const LOW: f64 = f64::NEG_INFINITY;

    #[inline(always)]
    fn plus(self, other: f64) -> f64 {
        self + other
    }

    #[inline(always)]
    fn low(self, other: f64) -> f64 {
        if other < self { other } else { self }
    }

    #[inline(always)]
    fn high(self, other: f64) -> f64 {
        if other > self { other } else { self }
    }

    fn bits(self) -> u64 {
        self.to_bits()
    }
}

impl Value for i64 {
    const ZERO: i64 = 0;
    const HIGH: i64 = i64::MAX;
    const LOW: i64 = i64::MIN;

    #[inline(always)]
    fn plus(self, other: i64) -> i64 {
        self.wrapping_add(other)
    }

    #[inline(always)]
    fn low(self, other: i64) -> i64 {
        self.min(other)
    }

    #[inline(always)]
    fn high(self, other: i64) -> i64 {
        self.max(other)
    }

    fn bits(self) -> u64 {
        self as u64
    }
}

#[derive(Clone, Copy)]
struct Row<V> {
    count: u64,
    sum: V,
    min: V,
    max: V,
}

impl<V: Value> Row<V> {
    const EMPTY: Row<V> = Row { count: 0, sum: V::ZERO, min: V::HIGH, max: V::LOW };

    #[inline(always)]
    fn merge(&mut self, other: &Row<V>) {
        self.count += other.count;
        self.sum = self.sum.plus(other.sum);
        self.min = self.min.low(other.min);
        self.max = self.max.high(other.max);
    }
}

/// Open panes and the two stacks behind them.
pub struct Panes<V> {
    windows: Windows,
    delay: i64,
    /// Open panes, the oldest first, by slot; `open_start` is the start of the oldest.
    open: Vec<Vec<Row<V>>>,
    open_start: i64,
    /// The oldest pane closes at this event time.
    close_at: i64,
    /// Totals from each pane to the newest of the front; the last one is the oldest pane's.
    front: Vec<Vec<Row<V>>>,
    back: Vec<Vec<Row<V>>>,
    back_total: Vec<Row<V>>,
    spare: Vec<Vec<Row<V>>>,
    /// The results.
    pub digest: Digest,
    /// Time spent on closing panes.
    pub emission: Duration,
}

impl<V: Value> Panes<V> {
    /// Nothing yet.
    pub fn new(windows: Windows, delay: i64) -> Panes<V> {
        Panes {
            windows,
            delay,
            open: Vec::new(),
            open_start: i64::MIN,
            close_at: i64::MIN,
            front: Vec::new(),
            back: Vec::new(),
            back_total: Vec::new(),
            spare: Vec::new(),
            digest: Digest::default(),
            emission: Duration::ZERO,
        }
    }

    /// Takes one event.
    #[inline(always)]
    pub fn add(&mut self, time: i64, slot: usize, value: V, slots: &impl Keys) {
        if time >= self.close_at {
            self.advance(time, slots);
        }
        // Panes are few: counting up to the right one is cheaper than a division.
        let (mut pane, mut end) = (0, self.open_start + self.windows.slide);
        while time >= end {
            pane += 1;
            end += self.windows.slide;
        }
        if pane >= self.open.len() || slot >= self.open[pane].len() {
            self.grow(pane, slots.count().max(slot + 1));
        }
        let row = &mut self.open[pane][slot];
        row.count += 1;
        row.sum = row.sum.plus(value);
        row.min = row.min.low(value);
        row.max = row.max.high(value);
    }

    #[cold]
    fn grow(&mut self, pane: usize, count: usize) {
        while self.open.len() <= pane {
            let rows = self.spare.pop().unwrap_or_default();
            self.open.push(rows);
        }
        self.open[pane].resize(count.next_power_of_two(), Row::EMPTY);
    }

    /// Closes the panes that end at or before the watermark which `time` brings.
    #[cold]
    fn advance(&mut self, time: i64, slots: &impl Keys) {
        let began = Instant::now();
        let slide = self.windows.slide;
        if self.open_start == i64::MIN {
            // Events before the first one may still come.
            self.open_start = (time - self.delay).div_euclid(slide) * slide;
        }
        while self.open_start + slide <= time - self.delay {
            self.close_oldest(slots);
        }
        self.close_at = self.open_start + slide + self.delay;
        self.emission += began.elapsed();
    }

    fn close_oldest(&mut self, slots: &impl Keys) {
        let pane = if self.open.is_empty() { self.spare.pop().unwrap_or_default() } else { self.open.remove(0) };
        self.open_start += self.windows.slide;
        if self.windows.size == self.windows.slide {
            give_out(&mut self.digest, self.open_start, [&pane, &[]], slots);
            self.recycle(pane);
            return;
        }
        if self.back_total.len() < pane.len() {
            self.back_total.resize(pane.len(), Row::EMPTY);
        }
        self.back_total.iter_mut().zip(&pane).for_each(|(total, row)| total.merge(row));
        self.back.push(pane);
        let oldest = self.front.last().map_or(&[][..], Vec::as_slice);
        give_out(&mut self.digest, self.open_start, [&self.back_total, oldest], slots);
        let panes = (self.windows.size / self.windows.slide) as usize;
        if self.front.len() + self.back.len() == panes {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if self.front.is_empty() {
            while let Some(mut pane) = self.back.pop() {
                if let Some(newer) = self.front.last() {
                    if pane.len() < newer.len() {
                        pane.resize(newer.len(), Row::EMPTY);
                    }
                    pane.iter_mut().zip(newer).for_each(|(row, newer)| row.merge(newer));
                }
                self.front.push(pane);
            }
            self.back_total.fill(Row::EMPTY);
        }
        if let Some(oldest) = self.front.pop() {
            self.recycle(oldest);
        }
    }

    fn recycle(&mut self, mut rows: Vec<Row<V>>) {
        rows.fill(Row::EMPTY);
        self.spare.push(rows);
    }

    /// Closes everything and gives out the last windows.
    pub fn finish(&mut self, slots: &impl Keys) {
        let began = Instant::now();
        let ended = self.windows.size / self.windows.slide - 1;
        while !self.open.is_empty() {
            self.close_oldest(slots);
        }
        (0..ended).for_each(|_| self.close_oldest(slots));
        self.emission += began.elapsed();
    }
}

/// Adds one window to the digest: the sum of two stacks.
fn give_out<V: Value>(digest: &mut Digest, end: i64, [some, more]: [&[Row<V>]; 2], slots: &impl Keys) {
    for slot in 0..slots.count() {
        let mut total = some.get(slot).copied().unwrap_or(Row::EMPTY);
        if let Some(row) = more.get(slot) {
            total.merge(row);
        }
        if total.count > 0 {
            let [sum, min, max] = [total.sum, total.min, total.max].map(V::bits);
            digest.add(&ResultRow { end, key: slots.key(slot), count: total.count, sum, min, max });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use crate::scenario::{events, params};

    #[test]
    fn the_loop_says_what_the_reference_says() {
        let mut entropy = Entropy::new(3);
        for round in 0..60 {
            let asked = [
                format!("events={}", entropy.pick(&[1, 100, 5_000])),
                format!("keys={}", entropy.pick(&["zipf", "uniform", "hot"])),
                format!("cardinality={}", entropy.pick(&[1, 7, 3_000])),
                format!("disorder={}", entropy.pick(&["0s", "100ms", "5s"])),
                format!("value={}", entropy.pick(&["f64", "i64"])),
                format!("span={}", entropy.pick(&["3s", "40s", "300s"])),
                format!("key={}", entropy.pick(&["i64", "string"])),
                format!("seed={round}"),
            ];
            let points = params::points(&events::PARAMS, &asked, true).unwrap();
            let events = Events::make(&points[0]).unwrap();
            let (size, slide) = *entropy.pick(&[(10, 10), (10, 1), (6, 2), (1, 1)]);
            let windows = Windows { size: size * 1_000_000, slide: slide * 1_000_000 };
            let expected = reference::answer(&events, windows).unwrap();
            for is_hashed in [false, true] {
                assert_eq!(run(&events, windows, is_hashed).digest, expected, "{asked:?} {windows:?}");
            }
        }
    }
}
