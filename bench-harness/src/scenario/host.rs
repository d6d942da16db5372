//! What a reader has to know of the machine to believe a figure: processor, kernel, governor, memory, limits, disk.
//!
//! Every fact may be missing; then it says so. What facts mean for the engine is `corefold doctor`'s.

use super::cores::Cores;
use corefold_engine::doctor::{Facts, Limit};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Facts by name, in the order of [`gather`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Host {
    /// Name of the machine.
    pub name: String,
    /// Name and value.
    pub facts: Vec<(String, String)>,
}

/// Facts that differ from run to run on one machine.
const PASSING: [&str; 2] = ["load before the run", "directory"];

impl Host {
    /// Whether another run was on a machine of the same kind, in the same state.
    pub fn is_like(&self, other: &Host) -> bool {
        let lasting = |host: &Host| -> Vec<(String, String)> {
            let facts = host.facts.iter().filter(|(name, _)| !PASSING.contains(&name.as_str()));
            facts.cloned().collect()
        };
        self.name == other.name && lasting(self) == lasting(other)
    }

    /// The facts as text, one a line.
    pub fn text(&self) -> String {
        let mut text = format!("host: {}\n", self.name);
        for (name, value) in &self.facts {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}: {value}");
        }
        text
    }
}

/// Looks at this machine and the disk of `directory`.
pub fn gather(directory: &Path, cores: &Cores) -> Host {
    let facts = Facts::gather(Some(directory));
    let known = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let meminfo = read("/proc/meminfo").unwrap_or_default();
    let memory = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).map(|rest| rest.trim().to_owned());
    let order: Vec<String> = cores
        .order
        .iter()
        .map(|core| format!("{} (node {}, core {})", core.id, core.node, core.first_thread))
        .collect();
    let governors = if facts.governors.is_empty() { None } else { Some(facts.governors.join(", ")) };
    let (file_system, device) = disk_of(directory, facts.directory.as_ref().and_then(|found| found.kind.clone()));
    let list = [
        ("processor", known(model.map(str::to_owned))),
        ("cores in order of use", order.join(", ")),
        ("pinned", if cores.pins { "yes".to_owned() } else { "no".to_owned() }),
        ("governor", known(governors)),
        ("turbo off", known(read("/sys/devices/system/cpu/intel_pstate/no_turbo"))),
        ("hypervisor", if cpuinfo.contains(" hypervisor") { "yes".to_owned() } else { "no".to_owned() }),
        ("quota of processor time", facts.cpu_quota.map_or("none".to_owned(), |quota| format!("{quota} cores"))),
        ("load before the run", known(read("/proc/loadavg"))),
        ("memory", known(memory)),
        ("huge pages", known(facts.huge_pages)),
        ("clock source", known(facts.clock_source)),
        ("kernel", known(facts.kernel)),
        ("memlock", known(facts.locked_memory.map(limit))),
        ("io_uring", facts.ring.map_or_else(|error| format!("refused: {error}"), |_| "yes".to_owned())),
        ("directory", directory.display().to_string()),
        ("file system", file_system),
        ("disk", device),
        ("harness", format!("bench-harness {}, {}", env!("CARGO_PKG_VERSION"), profile())),
    ];
    let name = read("/proc/sys/kernel/hostname").unwrap_or_else(|| "unknown".to_owned());
    Host { name, facts: list.map(|(name, value)| (name.to_owned(), value)).to_vec() }
}

/// Whether the figures of this build mean anything.
const fn profile() -> &'static str {
    if cfg!(debug_assertions) { "debug build: its figures mean nothing" } else { "release build" }
}

fn limit(limit: Limit) -> String {
    let text = |bytes: Option<u64>| bytes.map_or("unlimited".to_owned(), |bytes| format!("{bytes} bytes"));
    format!("{} (may be raised to {})", text(limit.soft), text(limit.hard))
}

/// File system and block device under a directory.
fn disk_of(directory: &Path, kind: Option<String>) -> (String, String) {
    let Ok(device) = directory.metadata().map(|found| found.dev()) else {
        return (kind.unwrap_or_else(|| "unknown".to_owned()), "unknown".to_owned());
    };
    // As glibc's `major` and `minor` for all numbers below 2^12 and 2^20.
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    let link = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let disk = fs::canonicalize(&link).ok();
    let whole = disk.as_ref().map(|path| if path.join("queue").exists() { path.clone() } else { path.join("..") });
    let name = disk.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    let queue = |file: &str| whole.as_ref().and_then(|path| read(path.join("queue").join(file)));
    let of = |file: &str| whole.as_ref().and_then(|path| read(path.join("device").join(file)));
    let parts = [
        name,
        of("model"),
        queue("rotational").map(|text| if text == "1" { "rotating".to_owned() } else { "not rotating".to_owned() }),
        queue("scheduler").map(|text| format!("scheduler {text}")),
        queue("write_cache").map(|text| format!("cache {text}")),
    ];
    let device = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let device = if device.is_empty() { format!("no block device ({major}:{minor})") } else { device };
    (kind.unwrap_or_else(|| "unknown".to_owned()), device)
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}
