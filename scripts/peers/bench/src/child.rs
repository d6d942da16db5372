//! Runs one command of the plan and tells what it took.
//!
//! What the figures mean is not decided here.

use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, Error};
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What a process took, with all its children.
#[derive(Clone, Debug)]
pub struct Taken {
    /// From start to end.
    pub wall_s: f64,
    /// Processor time outside of the kernel.
    pub user_s: f64,
    /// Processor time in the kernel.
    pub system_s: f64,
    /// Most memory at once, of the largest process.
    pub memory_bytes: u64,
    /// Last line of output that is a JSON object.
    pub report: Option<Value>,
}

/// How commands are run.
pub struct Bounds<'a> {
    /// Cores, as taskset writes them; empty for all.
    pub cores: &'a str,
    /// After this a command is ended.
    pub limit_s: u64,
    /// Folder for what commands print.
    pub folder: &'a Path,
}

/// Runs `command` by the shell; anything but success is an error that shows the end of what it printed.
pub fn run(command: &str, bounds: &Bounds<'_>) -> Result<Taken, String> {
    let (output, errors) = (bounds.folder.join("stdout.tmp"), bounds.folder.join("stderr.tmp"));
    let taken = measured(command, bounds, &output, &errors).map_err(|error| format!("{command}: {error}"))?;
    let text = fs::read_to_string(&output).map_err(|error| format!("{}: {error}", output.display()))?;
    let (mut taken, status) = taken;
    if status != 0 {
        let said = fs::read_to_string(&errors).unwrap_or_default();
        let end: Vec<&str> = said.lines().rev().take(8).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        let how = if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 124 {
            format!("ended after {} s", bounds.limit_s)
        } else if libc::WIFEXITED(status) {
            format!("exit code {}", libc::WEXITSTATUS(status))
        } else {
            format!("signal {}", libc::WTERMSIG(status))
        };
        return Err(format!("{how}\n  {command}\n  {}", end.join("\n  ")));
    }
    taken.report = text.lines().rev().filter(|line| line.starts_with('{')).find_map(|l| serde_json::from_str(l).ok());
    Ok(taken)
}

fn measured(command: &str, bounds: &Bounds<'_>, output: &Path, errors: &Path) -> io::Result<(Taken, i32)> {
    let limit = format!("{}", bounds.limit_s);
    let mut words = vec!["timeout", "-k", "10", &limit];
    if !bounds.cores.is_empty() {
        words.extend(["taskset", "-c", bounds.cores]);
    }
    words.extend(["sh", "-c", command]);
    let mut process = Command::new(words[0]);
    process.args(&words[1..]).stdin(Stdio::null()).stdout(File::create(output)?).stderr(File::create(errors)?);
    let start = Instant::now();
    let child = process.spawn()?;
    let (status, usage) = wait(child.id() as libc::pid_t)?;
    let wall_s = start.elapsed().as_secs_f64();
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let taken = Taken {
        wall_s,
        user_s: seconds(usage.ru_utime),
        system_s: seconds(usage.ru_stime),
        memory_bytes: usage.ru_maxrss as u64 * 1_024,
        report: None,
    };
    Ok((taken, status))
}

/// Waits for the child, which nothing else waits for, and for what it used.
fn wait(process: libc::pid_t) -> io::Result<(i32, libc::rusage)> {
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
    loop {
        // SAFETY: both places are valid for writes; a rusage of zeros is a value, so it is initialized in any case.
        let (waited, usage) = unsafe {
            let waited = libc::wait4(process, &mut status, 0, usage.as_mut_ptr());
            (waited, usage.assume_init())
        };
        if waited == process {
            return Ok((status, usage));
        }
        let error = Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
