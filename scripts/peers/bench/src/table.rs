//! The figures of a run: medians and spread, as JSON and as a table in Markdown.
//!
//! No process is started here.

use crate::child::Taken;
use crate::plan::Entry;
use serde_json::{Value, json};
use std::fmt::Write;

/// An entry of the plan with its measured rounds.
pub struct Line {
    /// From the plan.
    pub entry: Entry,
    /// One per round.
    pub taken: Vec<Taken>,
    /// Why it has fewer rounds than wanted, if so.
    pub failure: Option<String>,
}

/// Middle, least and greatest of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// `None` if there are no figures.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median =
            if figures.len() % 2 == 1 { figures[middle] } else { (figures[middle - 1] + figures[middle]) / 2.0 };
        Some(Spread { median, min, max })
    }

    fn to_json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

impl Line {
    /// Wall time of the whole process.
    pub fn wall_s(&self) -> Option<Spread> {
        Spread::of(self.taken.iter().map(|taken| taken.wall_s))
    }

    /// Processor time of the whole process.
    pub fn cpu_s(&self) -> Option<Spread> {
        Spread::of(self.taken.iter().map(|taken| taken.user_s + taken.system_s))
    }

    /// The time that the peer itself measured for its query; the whole process where it measures nothing.
    pub fn query_s(&self) -> Option<Spread> {
        Spread::of(self.taken.iter().map(|taken| self.own(taken, "query_s").unwrap_or(taken.wall_s)))
    }

    /// Processor time of the query, measured by the peer itself; of the whole process where it measures nothing.
    pub fn query_cpu_s(&self) -> Option<Spread> {
        let own = |taken: &Taken| self.own(taken, "query_cpu_s").unwrap_or(taken.user_s + taken.system_s);
        Spread::of(self.taken.iter().map(own))
    }

    /// The time that the peer itself measured for bringing the events into its memory.
    pub fn load_s(&self) -> Option<Spread> {
        Spread::of(self.taken.iter().filter_map(|taken| self.own(taken, "load_s")))
    }

    /// Another number of events than the run's, where a peer was given fewer.
    fn own_events(&self) -> Option<u64> {
        self.taken.iter().find_map(|taken| taken.report.as_ref()?["measured_events"].as_u64())
    }

    fn own(&self, taken: &Taken, name: &str) -> Option<f64> {
        taken.report.as_ref()?[name].as_f64()
    }

    fn memory_mib(&self) -> Option<Spread> {
        Spread::of(self.taken.iter().map(|taken| taken.memory_bytes as f64 / f64::from(1 << 20)))
    }

    fn version(&self) -> Option<&str> {
        self.taken.iter().find_map(|taken| taken.report.as_ref()?["version"].as_str())
    }

    /// For `run.json`.
    pub fn to_json(&self) -> Value {
        let spread = |spread: Option<Spread>| spread.map_or(Value::Null, Spread::to_json);
        let rounds: Vec<Value> = self
            .taken
            .iter()
            .map(|taken| {
                json!({
                    "wall_s": taken.wall_s, "user_s": taken.user_s, "system_s": taken.system_s,
                    "memory_bytes": taken.memory_bytes, "report": taken.report,
                })
            })
            .collect();
        json!({
            "name": self.entry.name, "what": self.entry.what, "cores": self.entry.cores,
            "prepare": self.entry.prepare, "check": self.entry.check, "command": self.entry.command,
            "skipped": self.entry.skip, "failed": self.failure, "version": self.version(),
            "wall_s": spread(self.wall_s()), "cpu_s": spread(self.cpu_s()), "query_s": spread(self.query_s()),
            "query_cpu_s": spread(self.query_cpu_s()),
            "load_s": spread(self.load_s()), "memory_mib": spread(self.memory_mib()), "rounds": rounds,
        })
    }
}

/// The table; ratios are against the lines named `base` and `confined`, if they were measured.
pub fn markdown(lines: &[Line], events: u64, base: &str, confined: &str) -> String {
    let median_of = |name: &str, figure: fn(&Line) -> Option<Spread>| {
        lines.iter().find(|line| line.entry.name == name).and_then(figure).map(|spread| spread.median)
    };
    let bases = [median_of(base, Line::wall_s), median_of(confined, Line::wall_s), median_of(base, Line::cpu_s)];
    let mut text = format!(
        "| name | query s (min to max) | ns/event | query CPU s | process s | process CPU s | peak MiB | query / {base} \
         | query / {confined} | query CPU / {base} |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for line in lines {
        let row = figures(line, events, bases)
            .unwrap_or_else(|| format!("| {} | {} | | | | | | | | |", line.entry.name, reason(line)));
        text.push_str(&row);
        text.push('\n');
    }
    text.push_str("\n| name | what | version |\n|---|---|---|\n");
    for line in lines {
        let version = line.version().unwrap_or_default();
        // Writing to a text cannot fail.
        let _ = writeln!(text, "| {} | {} | {version} |", line.entry.name, line.entry.what);
    }
    text
}

/// One row, if the line was measured. Times for other numbers of events than the run's are not compared.
fn figures(line: &Line, events: u64, [base_s, confined_s, base_cpu_s]: [Option<f64>; 3]) -> Option<String> {
    let (query, query_cpu) = (line.query_s()?, line.query_cpu_s()?.median);
    let (wall, cpu, memory) = (line.wall_s()?.median, line.cpu_s()?.median, line.memory_mib()?.median);
    let over = |figure: f64, base: Option<f64>| match (base, line.own_events()) {
        (Some(base), None) => format!("{:.2}", figure / base),
        _ => String::new(),
    };
    let Spread { median, min, max } = query;
    Some(format!(
        "| {} | {median:.3} ({min:.3} to {max:.3}) | {:.1} | {query_cpu:.3} | {wall:.3} | {cpu:.3} | {memory:.0} | {} | {} \
         | {} |",
        line.entry.name,
        median * 1e9 / line.own_events().unwrap_or(events) as f64,
        over(median, base_s),
        over(median, confined_s),
        over(query_cpu, base_cpu_s),
    ))
}

fn reason(line: &Line) -> String {
    match &line.failure {
        Some(failure) => format!("FAILED: {}", failure.lines().next().unwrap_or_default()),
        None => format!("SKIP: {}", line.entry.skip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_of_odd_even_and_no_figures() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of([]), None);
    }
}
