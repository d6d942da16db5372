//! `results/<date>-<host>-<label>/`: the files of a run, written once.
//!
//! What is in `run.json` is told in [`super::record`].

use super::BenchError;
use super::plot;
use super::record::RunRecord;
use super::run::Finding;
use hdrhistogram::Histogram;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Steps of the percentiles per halving of the distance to 100 %, as HdrHistogram's plotter expects them.
const TICKS_PER_HALF: u32 = 5;

/// Writes a run into a new directory under `results` and returns it.
pub fn write(finding: &Finding, results: &Path) -> Result<PathBuf, BenchError> {
    let record = &finding.record;
    let directory = new_directory(record, results)?;
    let keep = |name: &str, content: &str| {
        let path = directory.join(name);
        fs::write(&path, content).map_err(BenchError::io(format!("cannot write {}", path.display())))
    };
    keep("command.txt", &format!("{}\n", record.command))?;
    keep("host.txt", &record.host.text())?;
    let json = serde_json::to_string_pretty(record).map_err(BenchError::failed("run.json"))?;
    keep("run.json", &format!("{json}\n"))?;
    keep("summary.md", &summary(record))?;
    for (index, (point, histogram)) in finding.latencies.iter().enumerate() {
        let content = percentiles(histogram);
        if index == 0 {
            keep("latency.hgrm", &content)?;
        }
        if finding.latencies.len() > 1 {
            keep(&format!("latency-{}.hgrm", plain(point)), &content)?;
        }
    }
    for chart in plot::charts(record) {
        keep(&format!("{}.svg", chart.name), &chart.svg)?;
    }
    Ok(directory)
}

fn new_directory(record: &RunRecord, results: &Path) -> Result<PathBuf, BenchError> {
    let date = record.began.get(..10).unwrap_or("undated");
    let name = format!("{date}-{}-{}", plain(&record.host.name), plain(&record.label));
    fs::create_dir_all(results).map_err(BenchError::io(format!("cannot make {}", results.display())))?;
    let mut number = 1;
    loop {
        let path = results.join(if number == 1 { name.clone() } else { format!("{name}-{number}") });
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(BenchError::Io { what: format!("cannot make {}", path.display()), error }),
        }
    }
}

/// A text as part of a file name.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.=".contains(c) { c } else { '-' }).collect()
}

/// The figures of a run as Markdown.
pub fn summary(record: &RunRecord) -> String {
    let mut text = format!("# {}\n\nScenario `{}`: {}.\n\n", record.label, record.scenario, record.about);
    if record.smoke {
        text.push_str("**Smoke size: these figures mean nothing.**\n\n");
    }
    // Writing to a string does not fail, here and below.
    let rounds = record.points.first().and_then(|p| p.metrics.first()).map_or(0, |series| series.values.len());
    let _ = writeln!(
        text,
        "{}; {rounds} rounds after {} to warm up. Every round's answer was that of the reference.\n\n    {}\n",
        record.began, record.warmups, record.command
    );
    for point in &record.points {
        if !record.swept.is_empty() {
            let _ = writeln!(text, "## {}\n", point.name(&record.swept));
        }
        text.push_str("| figure | unit | median | least | most |\n|---|---|---:|---:|---:|\n");
        for series in &point.metrics {
            let (name, unit) = (&series.name, &series.unit);
            let [median, min, max] = [series.median(), series.min(), series.max()].map(plot::short);
            let _ = writeln!(text, "| {name} | {unit} | {median} | {min} | {max} |");
        }
        if let Some(found) = &point.latency {
            let us = |ns: u64| plot::short(ns as f64 / 1e3);
            let quantiles = [found.p50, found.p90, found.p99, found.p99_9, found.max].map(us).join(", ");
            let _ = writeln!(text, "\nLatency in us over all rounds: p50, p90, p99, p99.9, most: {quantiles}.");
        }
        let params = point.params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "\nResult: {} rows, digest {}. Parameters: {params}\n", point.rows, point.digest);
    }
    text.push_str("## Machine\n\n");
    for (name, value) in &record.host.facts {
        let _ = writeln!(text, "- {name}: {value}");
    }
    text
}

/// The distribution in the format of HdrHistogram's tools, in microseconds.
pub fn percentiles(histogram: &Histogram<u64>) -> String {
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut seen = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        seen += step.count_since_last_iteration();
        let (value, share) = (step.value_iterated_to() as f64 / 1e3, step.quantile_iterated_to());
        let _ = if share < 1.0 {
            writeln!(text, "{value:12.3} {share:2.12} {seen:10} {:14.2}", 1.0 / (1.0 - share))
        } else {
            writeln!(text, "{value:12.3} {share:2.12} {seen:10}")
        };
    }
    let (mean, deviation) = (histogram.mean() / 1e3, histogram.stdev() / 1e3);
    let most = histogram.max() as f64 / 1e3;
    let _ = writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let _ = writeln!(text, "#[Max     = {most:12.3}, Total count    = {:12}]", histogram.len());
    let _ =
        writeln!(text, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), histogram.distinct_values());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_go_up_and_end_at_the_largest() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=1_000_u64).for_each(|value| histogram.record(value * 1_000).unwrap());
        let text = percentiles(&histogram);
        let values: Vec<f64> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
            .collect();
        assert!(values.is_sorted());
        assert!((values.last().unwrap() - 1_000.0).abs() < 1.0, "{text}");
        assert!(text.contains("Total count    =         1000"), "{text}");
    }

    #[test]
    fn names_are_fit_for_files() {
        assert_eq!(plain("a b/c:rate=5M.x"), "a-b-c-rate=5M.x");
    }
}
