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
            "load_s": spread(self.load_s()), "memory_mib": spread(self.memory_mib()), "rounds": rounds,
        })
    }
}

/// The table; ratios are against the lines named `base` and `confined`, if they were measured.
pub fn markdown(lines: &[Line], events: u64, base: &str, confined: &str) -> String {
    let wall = |name: &str| {
        lines.iter().find(|line| line.entry.name == name).and_then(Line::wall_s).map(|spread| spread.median)
    };
    let (base_s, confined_s) = (wall(base), wall(confined));
    let mut text = String::from(
        "| name | query s (min to max) | ns/event | process s | CPU s | peak MiB | query / corefold | query / corefold on one core |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for line in lines {
        let name = &line.entry.name;
        let row = (|| {
            let (query, wall, cpu, memory) = (line.query_s()?, line.wall_s()?, line.cpu_s()?, line.memory_mib()?);
            // Times for other numbers of events are not compared.
            let over = |base_s: Option<f64>| match (base_s, line.own_events()) {
                (Some(base_s), None) => format!("{:.2}", query.median / base_s),
                _ => String::new(),
            };
            let Spread { median, min, max } = query;
            Some(format!(
                "| {name} | {median:.3} ({min:.3} to {max:.3}) | {:.1} | {:.3} | {:.3} | {:.0} | {} | {} |",
                median * 1e9 / line.own_events().unwrap_or(events) as f64,
                wall.median,
                cpu.median,
                memory.median,
                over(base_s),
                over(confined_s),
            ))
        })();
        let row = row.unwrap_or_else(|| format!("| {name} | {} | | | | | | |", reason(line)));
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
