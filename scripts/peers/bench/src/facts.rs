//! What machine this is and what runs on it, as text and JSON.
//!
//! Nothing is changed here: no governor, no limits.

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Facts that figures depend on.
pub fn facts(folder: &Path) -> Value {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = line_value(&processors, "model name").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    json!({
        "time": said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "host": said("uname", &["-n"]),
        "kernel": said("uname", &["-sr"]),
        "processor": model,
        "cores": std::thread::available_parallelism().map_or(0, |count| count.get()),
        "memory": line_value(&memory, "MemTotal").unwrap_or_default(),
        "governor": trimmed("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "huge_pages": trimmed("/sys/kernel/mm/transparent_hugepage/enabled"),
        "file_system": said("stat", &["-f", "-c", "%T", &folder.display().to_string()]),
        "load_before": trimmed("/proc/loadavg"),
    })
}

/// Load averages, as the kernel gives them.
pub fn load() -> String {
    trimmed("/proc/loadavg")
}

fn trimmed(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn line_value(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// What a command prints, or nothing if it is not there.
fn said(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
