//! The plan of a run: which commands are measured, how each is checked, what is left out and why.
//!
//! `run.sh` writes the file; how a command is run is not here.

use std::fs;
use std::path::Path;

/// A line of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Name, unique in the plan.
    pub name: String,
    /// What the entry is measured as, in words.
    pub what: String,
    /// Cores it is confined to, as taskset writes them.
    pub cores: String,
    /// Shell command that is run before each measured one, outside of the clock; may be empty.
    pub prepare: String,
    /// Shell command that prints the canonical summary; empty if another entry's check covers this one.
    pub check: String,
    /// Shell command that is measured.
    pub command: String,
    /// Reason to leave the entry out; empty if it runs.
    pub skip: String,
}

/// Reads the plan: lines of `name, what, cores, prepare, check, command` or `name, what, SKIP, reason`, split by tabs.
pub fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    let mut entries = Vec::new();
    for (index, line) in lines {
        entries.push(parse(line).ok_or(format!("{}: line {}: not an entry", path.display(), index + 1))?);
    }
    if entries.is_empty() { Err(format!("{}: nothing to measure", path.display())) } else { Ok(entries) }
}

fn parse(line: &str) -> Option<Entry> {
    let words: Vec<String> = line.split('\t').map(str::to_owned).collect();
    let (empty, words) = (String::new, words.as_slice());
    match words {
        [name, what, skip, reason] if skip == "SKIP" => Some(Entry {
            name: name.clone(),
            what: what.clone(),
            cores: empty(),
            prepare: empty(),
            check: empty(),
            command: empty(),
            skip: reason.clone(),
        }),
        [name, what, cores, prepare, check, command] if !command.is_empty() => Some(Entry {
            name: name.clone(),
            what: what.clone(),
            cores: cores.clone(),
            prepare: prepare.clone(),
            check: check.clone(),
            command: command.clone(),
            skip: empty(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_entry_or_a_reason() {
        let entry = parse("loop\tby hand\t1\t\tloop --check\tloop").unwrap();
        assert_eq!((entry.cores.as_str(), entry.command.as_str(), entry.skip.as_str()), ("1", "loop", ""));
        assert_eq!(parse("flink\tSQL\tSKIP\tno Java").unwrap().skip, "no Java");
        assert_eq!(parse("flink\tSQL\t1\t\t\t"), None);
        assert_eq!(parse("flink"), None);
    }
}
