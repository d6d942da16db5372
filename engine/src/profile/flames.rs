//! Where the processor's time goes: stacks sampled over all threads, drawn as one flame graph per thread.
//!
//! Sampling is the crate `pprof`'s (a timer signal per slice of processor time), drawing is `inferno`'s.

use super::ProfileError;
use pprof::{ProfilerGuard, ProfilerGuardBuilder};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// Samples per second of processor time; not a divisor of common timers.
const FREQUENCY: i32 = 499;
/// A signal that comes while these walk the stack themselves must not walk it again.
const NOT_WALKED: [&str; 3] = ["libgcc", "vdso", "ld-linux"];

/// Samples while it lives.
pub struct Flames(ProfilerGuard<'static>);

impl Flames {
    /// Samples from now on.
    pub fn start() -> Result<Flames, ProfileError> {
        let guard = ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(&NOT_WALKED).build();
        guard.map(Flames).map_err(|error| ProfileError::Sampler { reason: error.to_string() })
    }

    /// Stops, and writes `cpu-THREAD.svg` per thread into `directory`, threads of the same name in one.
    pub fn write(self, directory: &Path) -> Result<Vec<PathBuf>, ProfileError> {
        let report = self.0.report().build();
        let report = report.map_err(|error| ProfileError::Sampler { reason: error.to_string() })?;
        let mut threads: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (stack, count) in &report.data {
            let symbols = stack.frames.iter().rev().flat_map(|frame| frame.iter().rev());
            let names: Vec<String> = symbols.map(|symbol| symbol.name()).collect();
            // How a thread and an executor start is the same for all and says nothing.
            let start = names.iter().rposition(|name| is_start(name)).map_or(0, |at| at + 1);
            let mut line = String::new();
            for name in &names[start..] {
                let _ = write!(line, "{};", short(name));
            }
            line.pop();
            let _ = write!(line, " {count}");
            threads.entry(stack.thread_name_or_id()).or_default().push(line);
        }
        let mut files = Vec::with_capacity(threads.len());
        for (name, lines) in &mut threads {
            lines.sort_unstable();
            let path = directory.join(format!("cpu-{}.svg", file_part(name)));
            let file = File::create(&path).map_err(ProfileError::file(&path))?;
            let mut options = inferno::flamegraph::Options::default();
            options.title = format!("corefold: {name}");
            options.subtitle = Some(format!("processor time, {FREQUENCY} samples per second of it"));
            let lines = lines.iter().map(String::as_str);
            inferno::flamegraph::from_lines(&mut options, lines, BufWriter::new(file))
                .map_err(|error| ProfileError::Draw { path: path.clone(), reason: error.to_string() })?;
            files.push(path);
        }
        Ok(files)
    }
}

/// Whether a function only starts what runs on a thread.
fn is_start(name: &str) -> bool {
    ["glommio::", "::start_core", "__rust_begin_short_backtrace"].iter().any(|start| name.contains(start))
}

/// A name without its type parameters, which are longer than a graph is wide; and without semicolons, which part frames.
fn short(name: &str) -> String {
    let end = name.find('<').filter(|&at| at > 0).unwrap_or(name.len());
    name[..end].replace(';', ",")
}

/// The name of a thread as part of a file name.
fn file_part(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect()
}
