//! Two runs held against each other: ratios with their spread, and whether the noise leaves anything to say.
//!
//! The ratio is that of the medians. Its spread is told twice: over every pair of rounds (smallest, median, largest), and as
//! an interval that holds 95 % of the ratios of medians of rounds drawn anew (bootstrap). Rounds of one run share the mood
//! of the machine at that time, so runs that are to be compared should be taken in turn.

use super::record::{Point, RunRecord, Series, median};
use super::{BenchError, Better};
use crate::entropy::Entropy;
use std::fmt::Write;

/// Rounds of each run below which nothing is said.
pub const ROUNDS_MIN: usize = 3;

/// An interval that holds 1 and is narrower than this says "the same"; a wider one says nothing.
pub const SAME_WITHIN: f64 = 0.05;

/// Draws of the bootstrap.
const DRAWS: usize = 2_000;

/// What two series say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The second is better.
    Better,
    /// The second is worse.
    Worse,
    /// The same, but for [`SAME_WITHIN`].
    Same,
    /// The interval holds 1 and is wide.
    TooNoisy,
    /// Fewer rounds than [`ROUNDS_MIN`].
    TooFew,
}

impl Verdict {
    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Verdict::Better => "B is better",
            Verdict::Worse => "B is worse",
            Verdict::Same => "the same within 5 %",
            Verdict::TooNoisy => "too noisy to tell",
            Verdict::TooFew => "too few rounds to tell",
        }
    }
}

/// The ratio second / first of two series.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ratio {
    /// Of the medians.
    pub median: f64,
    /// Smallest, median and largest over all pairs of rounds.
    pub pairs: [f64; 3],
    /// Holds 95 % of the ratios of medians.
    pub interval: [f64; 2],
    /// What that says.
    pub verdict: Verdict,
}

/// Holds `second` against `first`. Both have values above 0; otherwise there is no ratio.
pub fn ratio(first: &[f64], second: &[f64], better: Better) -> Option<Ratio> {
    if first.iter().chain(second).any(|&value| value <= 0.0) || first.is_empty() || second.is_empty() {
        return None;
    }
    let mut pairs: Vec<f64> = first.iter().flat_map(|a| second.iter().map(move |b| b / a)).collect();
    pairs.sort_by(f64::total_cmp);
    let mut entropy = Entropy::new(1);
    let mut drawn: Vec<f64> =
        (0..DRAWS).map(|_| median(&redrawn(second, &mut entropy)) / median(&redrawn(first, &mut entropy))).collect();
    drawn.sort_by(f64::total_cmp);
    let interval @ [low, high] = [drawn[DRAWS / 40], drawn[DRAWS - 1 - DRAWS / 40]];
    let verdict = if first.len().min(second.len()) < ROUNDS_MIN {
        Verdict::TooFew
    } else if low > 1.0 || high < 1.0 {
        // Far apart only by chance is unlikely; close together is not worth a word.
        let is_small = (1.0 - SAME_WITHIN / 5.0..=1.0 + SAME_WITHIN / 5.0).contains(&(median(second) / median(first)));
        match (is_small, (low > 1.0) == (better == Better::Higher)) {
            (true, _) => Verdict::Same,
            (false, true) => Verdict::Better,
            (false, false) => Verdict::Worse,
        }
    } else if high - low <= SAME_WITHIN {
        Verdict::Same
    } else {
        Verdict::TooNoisy
    };
    let pairs = [pairs[0], median(&pairs), pairs[pairs.len() - 1]];
    Some(Ratio { median: median(second) / median(first), pairs, interval, verdict })
}

fn redrawn(values: &[f64], entropy: &mut Entropy) -> Vec<f64> {
    (0..values.len()).map(|_| *entropy.pick(values)).collect()
}

/// Holds run `b` against run `a`, as a Markdown table. Points belong together when they agree in all parameters that both
/// have; figures, when they agree in name and unit.
pub fn compare(a: &RunRecord, b: &RunRecord) -> Result<String, BenchError> {
    let mut text = format!("A: {}\nB: {}\n\n", title(a), title(b));
    // Writing to a string does not fail, here and below.
    for (record, name) in [(a, "A"), (b, "B")] {
        if record.smoke {
            let _ = writeln!(text, "Note: {name} ran at smoke size; its figures mean nothing.\n");
        }
    }
    if !a.host.is_like(&b.host) {
        text.push_str("Note: the runs differ in their host.txt; compare machines with care.\n\n");
    }
    text.push_str("| point | figure | A, median | B, median | B / A | 95 % | pairs: least, median, most | |\n");
    text.push_str("|---|---|---:|---:|---:|---|---|---|\n");
    let mut rows = 0;
    for (first, second) in pairs(a, b) {
        let name = first.name(&a.swept);
        for series in &first.metrics {
            let same = |other: &&Series| other.name == series.name && other.unit == series.unit;
            let Some(other) = second.metrics.iter().find(same) else { continue };
            let _ = writeln!(text, "{}", row(&name, series, other));
            rows += 1;
        }
    }
    if rows == 0 {
        return Err(BenchError::Failed(format!(
            "{} and {} have no point and figure in common; compare runs with the same parameters",
            a.label, b.label
        )));
    }
    Ok(text)
}

fn row(point: &str, a: &Series, b: &Series) -> String {
    let (name, unit) = (&a.name, &a.unit);
    let medians = format!("| {point} | {name}, {unit} | {:.4} | {:.4} ", a.median(), b.median());
    match ratio(&a.values, &b.values, a.better) {
        None => format!("{medians}| | | | no ratio of such figures |"),
        Some(Ratio { median, pairs: [least, middle, most], interval: [low, high], verdict }) => format!(
            "{medians}| {median:.3} | {low:.3} to {high:.3} | {least:.3}, {middle:.3}, {most:.3} | {} |",
            verdict.words()
        ),
    }
}

fn title(record: &RunRecord) -> String {
    format!("{} ({}), {}, {}", record.label, record.scenario, record.host.name, record.began)
}

fn pairs<'a>(a: &'a RunRecord, b: &'a RunRecord) -> Vec<(&'a Point, &'a Point)> {
    if let ([first], [second]) = (&a.points[..], &b.points[..]) {
        return vec![(first, second)];
    }
    let agree = |first: &Point, second: &Point| {
        first.params.iter().all(|(name, value)| second.params.get(name).is_none_or(|other| other == value))
    };
    let partner = |first: &'a Point| b.points.iter().find(|second| agree(first, second)).map(|second| (first, second));
    a.points.iter().filter_map(partner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_show_and_noise_is_named() {
        let verdict = |a: &[f64], b: &[f64], better| ratio(a, b, better).map(|ratio| ratio.verdict);
        let calm = [10.0, 10.1, 9.9, 10.05, 9.95];
        let slower = calm.map(|value| value * 1.3);
        assert_eq!(verdict(&calm, &slower, Better::Lower), Some(Verdict::Worse));
        assert_eq!(verdict(&calm, &slower, Better::Higher), Some(Verdict::Better));
        assert_eq!(verdict(&slower, &calm, Better::Lower), Some(Verdict::Better));
        assert_eq!(verdict(&calm, &calm, Better::Lower), Some(Verdict::Same));
        let noisy = [6.0, 19.0, 9.0, 31.0, 12.0];
        let other = [8.0, 25.0, 7.0, 15.0, 14.0];
        assert_eq!(verdict(&noisy, &other, Better::Lower), Some(Verdict::TooNoisy));
        assert_eq!(verdict(&calm[..2], &slower[..2], Better::Lower), Some(Verdict::TooFew));
        assert_eq!(verdict(&calm, &[0.0, 1.0, 1.0], Better::Lower), None);
        assert_eq!(verdict(&[], &calm, Better::Lower), None);
    }

    #[test]
    fn the_spread_is_that_of_all_pairs() {
        let found = ratio(&[1.0, 2.0, 4.0], &[2.0, 2.0, 8.0], Better::Lower).unwrap();
        assert_eq!((found.pairs, found.median), ([0.5, 2.0, 8.0], 1.0));
        assert!(found.interval[0] >= 0.5);
        assert!(found.interval[1] <= 8.0);
    }
}
