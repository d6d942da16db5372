//! The right answer where every group has events in every pane: group by group over all windows at once, by running sums and
//! running extremes, so that long windows cost no more than short ones.
//!
//! A way of its own: no panes are merged, and no two stacks slide. Some windows are added up from their events besides and must
//! come to the same. Answers where groups come and go are in [`super::reference`], against which the tests hold this.

use super::BenchError;
use super::digest::{Digest, ResultRow};
use super::events::ValueKind;
use std::collections::VecDeque;

/// Events that are added up for windows that are held against the running answer, at most; but always two windows.
const SAMPLE_EVENTS: u64 = 400_000_000;

/// Windows that are held against it, at most.
const SAMPLE_MAX: u64 = 16;

/// Events: one of each group, pane and source.
pub struct Shape<F> {
    /// Start of the first pane, a multiple of `pane_us`.
    pub start: i64,
    /// Length of a pane, and distance of windows.
    pub pane_us: i64,
    /// Panes with events.
    pub panes: u64,
    /// Panes in a window.
    pub ratio: u64,
    /// Groups.
    pub groups: i64,
    /// Events of a group in a pane.
    pub sources: usize,
    /// Grid of values.
    pub kind: ValueKind,
    /// The value of an event of a source, a pane and a group, in steps of its grid.
    pub units: F,
}

/// What events come to.
#[derive(Clone, Copy)]
struct Total {
    count: u64,
    sum: i64,
    min: i64,
    max: i64,
}

const NOTHING: Total = Total { count: 0, sum: 0, min: i64::MAX, max: i64::MIN };

impl<F: Fn(usize, u64, i64) -> i64> Shape<F> {
    /// The digest over all windows.
    pub fn answer(&self) -> Result<Digest, BenchError> {
        let sample = self.sample();
        let mut digests = vec![Digest::default(); sample.len()];
        let mut digest = Digest::default();
        let (mut panes, mut totals) = (Vec::new(), Vec::new());
        for group in 0..self.groups {
            panes.clear();
            panes.extend((0..self.panes).map(|pane| self.pane(pane, group)));
            self.run_over(&panes, &mut totals);
            for (window, total) in (0..).zip(&totals) {
                digest.add(&self.row(window, group, *total));
            }
            for (window, digest) in sample.iter().zip(&mut digests) {
                digest.add(&self.row(*window, group, totals[*window as usize]));
            }
        }
        for (window, found) in sample.into_iter().zip(digests) {
            let expected = self.one_window(window);
            if expected != found {
                return Err(BenchError::Failed(format!(
                    "window {window} comes to {expected} by adding up and to {found} by running; this is a bug of the harness"
                )));
            }
        }
        Ok(digest)
    }

    /// How many windows there are: from the one that ends with the first pane to the one that starts with the last.
    fn windows(&self) -> u64 {
        self.panes + self.ratio - 1
    }

    /// Panes of a window that have events.
    fn panes_of(&self, window: u64) -> std::ops::Range<u64> {
        (window + 1).saturating_sub(self.ratio)..(window + 1).min(self.panes)
    }

    fn sample(&self) -> Vec<u64> {
        let cost = (self.groups as u64).saturating_mul(self.sources as u64).saturating_mul(self.ratio).max(1);
        let count = (SAMPLE_EVENTS / cost).clamp(2, SAMPLE_MAX).min(self.windows());
        let last = self.windows() - 1;
        // The first, the last, and as far apart as they can be.
        let mut sample: Vec<u64> = (0..count).map(|at| at * last / (count - 1).max(1)).collect();
        sample.dedup();
        sample
    }

    fn pane(&self, pane: u64, group: i64) -> Total {
        let mut total = NOTHING;
        for source in 0..self.sources {
            let units = (self.units)(source, pane, group);
            total.count += 1;
            total.sum += units;
            total.min = total.min.min(units);
            total.max = total.max.max(units);
        }
        total
    }

    /// The totals of all windows over the panes of one group.
    fn run_over(&self, panes: &[Total], totals: &mut Vec<Total>) {
        totals.clear();
        let (mut count, mut sum) = (0, 0);
        // Panes whose value no later pane of the window beats, in order.
        let (mut lows, mut highs): (VecDeque<u64>, VecDeque<u64>) = Default::default();
        for window in 0..self.windows() {
            if let Some(pane) = panes.get(window as usize) {
                (count, sum) = (count + pane.count, sum + pane.sum);
                while lows.back().is_some_and(|&at| panes[at as usize].min >= pane.min) {
                    lows.pop_back();
                }
                lows.push_back(window);
                while highs.back().is_some_and(|&at| panes[at as usize].max <= pane.max) {
                    highs.pop_back();
                }
                highs.push_back(window);
            }
            if let Some(left) = window.checked_sub(self.ratio) {
                let pane = panes[left as usize];
                (count, sum) = (count - pane.count, sum - pane.sum);
                for extremes in [&mut lows, &mut highs] {
                    if extremes.front() == Some(&left) {
                        extremes.pop_front();
                    }
                }
            }
            let of = |extremes: &VecDeque<u64>| extremes.front().map_or(NOTHING, |&at| panes[at as usize]);
            totals.push(Total { count, sum, min: of(&lows).min, max: of(&highs).max });
        }
    }

    fn one_window(&self, window: u64) -> Digest {
        let mut digest = Digest::default();
        for group in 0..self.groups {
            let mut total = NOTHING;
            for pane in self.panes_of(window).map(|pane| self.pane(pane, group)) {
                total.count += pane.count;
                total.sum += pane.sum;
                total.min = total.min.min(pane.min);
                total.max = total.max.max(pane.max);
            }
            digest.add(&self.row(window, group, total));
        }
        digest
    }

    fn row(&self, window: u64, key: i64, total: Total) -> ResultRow {
        let [sum, min, max] = [total.sum, total.min, total.max].map(|units| self.kind.bits_of(units));
        ResultRow { end: self.start + (window as i64 + 1) * self.pane_us, key, count: total.count, sum, min, max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use crate::scenario::events::START_US;
    use crate::scenario::reference::{Reference, Windows};

    const SECOND: i64 = 1_000_000;

    #[test]
    fn running_windows_are_those_of_the_reference() {
        let mut entropy = Entropy::new(3);
        for _ in 0..200 {
            let of = |bound: u64, entropy: &mut Entropy| entropy.below(bound) + 1;
            let (panes, ratio, groups) = (of(40, &mut entropy), of(50, &mut entropy), of(6, &mut entropy) as i64);
            let (sources, seed, spread) = (of(4, &mut entropy) as usize, entropy.bits(), of(20, &mut entropy));
            let units = |source: usize, pane: u64, group: i64| {
                let mixed = seed ^ (source as u64) << 40 ^ pane << 20 ^ group as u64;
                (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as i64 % spread as i64 - 5
            };
            let kind = ValueKind::F64 { bits: 6 };
            let windows = Windows { size: ratio as i64 * SECOND, slide: SECOND };
            let mut reference = Reference::new(windows, kind, groups as usize, 0);
            for pane in 0..panes {
                for group in 0..groups {
                    let time = START_US + pane as i64 * SECOND;
                    (0..sources).for_each(|at| reference.add(time, group, units(at, pane, group)).unwrap());
                }
            }
            let shape = Shape { start: START_US, pane_us: SECOND, panes, ratio, groups, sources, kind, units };
            assert_eq!(shape.answer().unwrap(), reference.finish().unwrap(), "{panes} panes, {ratio} of them a window");
        }
    }

    #[test]
    fn the_sample_has_both_ends_and_keeps_within_its_bounds() {
        let of = |panes, ratio, groups| {
            let (start, pane_us, kind, sources) = (0, 1, ValueKind::I64, 8);
            Shape { start, pane_us, panes, ratio, groups, sources, kind, units: |_, _, _| 0 }.sample()
        };
        assert_eq!(of(1, 1, 1), [0]);
        assert_eq!(of(3, 2, 1), [0, 1, 2, 3]);
        let long = of(4_000, 3_600, 500);
        assert_eq!((long.len(), long[0], *long.last().unwrap()), (16, 0, 7_598));
        assert_eq!(of(12, 10, 1_000_000).len(), 5);
        assert_eq!(of(12, 10, 10_000_000), [0, 20]);
    }
}
