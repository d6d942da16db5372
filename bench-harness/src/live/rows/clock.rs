//! The network's part of row 19: servers that are halted and starved, and a wall clock that jumps.
//!
//! Silence of a lane goes by a clock that only goes forward, and counts only while the server looks; the wall clock decides
//! nothing but which events lie in the future.

use super::slow::ProcessorGroup;
use crate::entropy::Entropy;
use crate::live::producers::{SentJob, ServerPlan};
use crate::live::{Checked, Setting, Stop, ensure, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than any run with the load of other tests takes.
const SENT_MAX: Duration = Duration::from_secs(600);

/// Where Debian and others have the library that pretends another time.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// All of it, in one line.
pub(super) fn network_clocks(setting: &Setting) -> Checked<String> {
    let base = setting.scratch.join("row-19-net");
    let job = SentJob::new(setting, &base.join("job"), 2, if setting.quick { 10_000 } else { 100_000 })?;
    let mut seen = Vec::new();
    for (what, run) in [
        ("halts", halted as fn(&Setting, &SentJob, &Path) -> Checked<String>),
        ("starvation of a server", starved),
        ("jumps of the wall clock", jumping),
    ] {
        match run(setting, &job, &base) {
            Ok(text) => seen.push(text),
            Err(Stop::Skip(why)) => seen.push(format!("SKIP {what}: {why}")),
            Err(stop) => return Err(stop),
        }
    }
    Ok(seen.join("; "))
}

/// The server is halted for longer than a lane may be silent.
fn halted(setting: &Setting, job: &SentJob, base: &Path) -> Checked<String> {
    let mut entropy = Entropy::new(setting.seed ^ 0x19);
    let (rounds, mut halts) = (setting.times(1, 10).min(20), 0);
    for _ in 0..rounds {
        let served = job.place(&base.join("place"), ServerPlan { idle: "1s", ..ServerPlan::local()? })?;
        let server = served.start()?;
        let mut client = job.send(&served, served.address(), &[])?;
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(entropy.below(150)));
            if client.has_ended()? {
                break;
            }
            server.signal(libc::SIGSTOP)?;
            std::thread::sleep(Duration::from_millis(1_500));
            server.signal(libc::SIGCONT)?;
            halts += 1;
        }
        client.end(SENT_MAX)?.with_code(0)?;
        served.finish(server)?;
    }
    ensure(halts > 0, || "all was sent before the first halt".to_owned())?;
    Ok(format!("server halted {halts} times for 1.5 s with idle_timeout 1 s: windows as from the files"))
}

fn starved(setting: &Setting, job: &SentJob, base: &Path) -> Checked<String> {
    let percents: &[u64] = if setting.quick { &[20] } else { &[5, 20] };
    for &percent in percents {
        let group = ProcessorGroup::new(percent)?;
        let served = job.place(&base.join("place"), ServerPlan { idle: "30s", ..ServerPlan::local()? })?;
        let server = served.start()?;
        group.take_all(server.process())?;
        job.send(&served, served.address(), &[])?.end(SENT_MAX)?.with_code(0)?;
        group.release()?;
        served.finish(server)?;
    }
    Ok(format!("server at {percents:?} % of a core: windows as from the files"))
}

/// A server in 1990 takes nothing from its future; then the clock is put right, and jumps by a year now and then.
fn jumping(setting: &Setting, job: &SentJob, base: &Path) -> Checked<String> {
    let Some(library) = LIBRARIES.iter().find(|path| Path::new(path).exists()) else {
        return skip("needs libfaketime (Debian: faketime)");
    };
    let clock: PathBuf = base.join("clock");
    fs::write(&clock, "@1990-01-01 00:00:00")?;
    let environment = [
        ("LD_PRELOAD", library.to_string()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let served = job.place(&base.join("place"), ServerPlan { environment, idle: "30s", ..ServerPlan::local()? })?;
    let server = served.start()?;
    let early = served.send_files(&[job.input(0)], served.address(), &["--producer", "early", "--end"])?;
    early.end(SENT_MAX)?.with_code(0)?;
    fs::write(&clock, "+0")?;
    let mut client = job.send(&served, served.address(), &[])?;
    let mut jumps = 1;
    for days in [400, -400, 0].iter().cycle().take(setting.times(3, 30) as usize) {
        std::thread::sleep(Duration::from_millis(20));
        if client.has_ended()? {
            break;
        }
        fs::write(&clock, format!("{days:+}d"))?;
        jumps += 1;
    }
    client.end(SENT_MAX)?.with_code(0)?;
    let ended = served.finish(server)?;
    let (rows, ledger) = (job.rows, ended.lines_of("ledger"));
    let early = rows / 2;
    let parts = [format!("received {} = aggregated {rows} ", rows + early), format!("rejected {early} ")];
    let adds_up = ledger.iter().all(|line| parts.iter().all(|part| line.contains(part)));
    ensure(adds_up, || format!("not {parts:?}: {}", ended.stderr))?;
    Ok(format!("{early} events refused as future while it was 1990, and none over {jumps} jumps of the wall clock"))
}
