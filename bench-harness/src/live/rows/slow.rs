//! Rows 14, 15 and 19: a slow or frozen disk, a stopped process, a starved shard, clocks that jump.
//!
//! Nothing fails here; it only takes longer.

use crate::entropy::Entropy;
use crate::live::child::Running;
use crate::live::disk::{LoopDisk, tool};
use crate::live::job::{Job, PATIENCE, Size, Start};
use crate::live::{Checked, Setting, Stop, ensure, fail, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What a job of this size may have resident, whatever it waits for.
const MEMORY_MAX: u64 = 400 << 20;

/// Most memory that was ever resident.
pub(super) fn memory_peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Row 14.
pub fn slow_disk(setting: &Setting) -> Checked<String> {
    let base = setting.scratch.join("row-14");
    fs::create_dir_all(&base)?;
    let mut disk = LoopDisk::new(&base.join("disk"), &base.join("mount"), 256 << 20)?;
    let job = Job::new(setting, &base.join("job"), Size::of(setting))?;
    let mut seen = vec![frozen_disk(setting, &mut disk, &job)?];
    match throttled_disk(setting, &disk, &job) {
        Ok(text) => seen.push(text),
        Err(Stop::Skip(why)) => seen.push(format!("SKIP the slow disk: {why}")),
        Err(stop) => return Err(stop),
    }
    Ok(seen.join("; "))
}

fn frozen_disk(setting: &Setting, disk: &mut LoopDisk, job: &Job) -> Checked<String> {
    let rounds = setting.times(1, 5).min(20);
    let length = Duration::from_secs(if setting.quick { 2 } else { 5 });
    let mut entropy = Entropy::new(setting.seed ^ 14);
    let (mut peak, mut held) = (0, 0);
    for _ in 0..rounds {
        let place = job.place(disk.path().join("place"))?;
        let mut running = place.start(Start::default())?;
        std::thread::sleep(job.took.mul_f64(0.1 + 0.5 * entropy.unit()));
        disk.freeze()?;
        std::thread::sleep(length);
        held += u64::from(!running.has_ended()?);
        peak = peak.max(memory_peak(running.process()));
        disk.thaw()?;
        place.check(&running.end(PATIENCE)?.with_code(0)?)?;
        place.remove()?;
    }
    ensure(held > 0, || "every run had ended before its disk was frozen".to_owned())?;
    ensure(peak < MEMORY_MAX, || format!("{} MiB were resident", peak >> 20))?;
    Ok(format!(
        "frozen for {} s in {held} of {rounds} runs: they waited, at most {} MiB resident, same bytes and ledger",
        length.as_secs(),
        peak >> 20
    ))
}

/// The device takes so few bytes a second that the log is what everything waits for.
fn throttled_disk(setting: &Setting, disk: &LoopDisk, job: &Job) -> Checked<String> {
    let throttle = Path::new("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device");
    let numbers = tool("lsblk", &["--noheadings", "--nodeps", "--output", "MAJ:MIN", disk.device()])?;
    let rate = if setting.quick { 16 << 20 } else { 4 << 20 };
    if let Err(error) = fs::write(throttle, format!("{numbers} {rate}")) {
        return skip(format!("no control group (version 1) for block devices: {error}"));
    }
    let run = || -> Checked<(Duration, u64)> {
        let place = job.place(disk.path().join("place"))?;
        let mut running = place.start(Start::default())?;
        let mut peak = 0;
        while !running.has_ended()? {
            peak = peak.max(memory_peak(running.process()));
            std::thread::sleep(Duration::from_millis(20));
        }
        let ended = running.end(PATIENCE)?.with_code(0)?;
        place.check(&ended)?;
        place.remove()?;
        Ok((ended.took, peak))
    };
    let result = run();
    fs::write(throttle, format!("{numbers} 0"))?;
    let (took, peak) = result?;
    ensure(peak < MEMORY_MAX, || format!("{} MiB were resident", peak >> 20))?;
    let times = took.as_secs_f64() / job.took.as_secs_f64();
    Ok(format!("at {} MiB/s a run took {times:.0} times as long with at most {} MiB resident", rate >> 20, peak >> 20))
}

/// A control group for processor time.
pub(super) struct ProcessorGroup {
    path: PathBuf,
}

impl ProcessorGroup {
    /// Its threads get `percent` of one core.
    pub(super) fn new(percent: u64) -> Checked<ProcessorGroup> {
        let parent = Path::new("/sys/fs/cgroup/cpu");
        if !parent.join("cpu.cfs_quota_us").exists() && !parent.join("tasks").exists() {
            return skip("no control group (version 1) for processor time");
        }
        let path = parent.join(format!("corefold-faults-{}", std::process::id()));
        if let Err(error) = fs::create_dir_all(&path) {
            return skip(format!("no control group can be made: {error}"));
        }
        let group = ProcessorGroup { path };
        fs::write(group.path.join("cpu.cfs_period_us"), "100000")?;
        fs::write(group.path.join("cpu.cfs_quota_us"), (percent * 1_000).to_string())?;
        Ok(group)
    }

    pub(super) fn take(&self, thread: &str) -> Checked {
        Ok(fs::write(self.path.join("tasks"), thread)?)
    }

    /// The whole process gets no more.
    pub(super) fn take_all(&self, process: u32) -> Checked {
        Ok(fs::write(self.path.join("cgroup.procs"), process.to_string())?)
    }

    pub(super) fn release(&self) -> Checked {
        Ok(fs::write(self.path.join("cpu.cfs_quota_us"), "-1")?)
    }
}

impl Drop for ProcessorGroup {
    fn drop(&mut self) {
        let _ = self.release();
        // Its threads have ended; a group that stays is empty and harmless.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Threads of a process whose name begins with `name`.
fn threads_of(process: u32, name: &str) -> Checked<Vec<String>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        let entry = entry?;
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.starts_with(name) {
            threads.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(threads)
}

/// Row 15.
pub fn stalled(setting: &Setting) -> Checked<String> {
    let job = Job::new(setting, &setting.scratch.join("row-15"), Size::of(setting))?;
    let place = job.place(setting.scratch.join("row-15/place"))?;
    let mut entropy = Entropy::new(setting.seed ^ 15);
    let rounds = setting.times(3, 40);
    let (mut halts, mut total) = (0, 0);
    for _ in 0..rounds {
        let mut running = place.start(Start::default())?;
        for _ in 0..4 {
            std::thread::sleep(job.took.mul_f64(0.3 * entropy.unit()));
            if running.has_ended()? {
                break;
            }
            running.signal(libc::SIGSTOP)?;
            std::thread::sleep(Duration::from_millis(20 + entropy.below(400)));
            running.signal(libc::SIGCONT)?;
            halts += 1;
        }
        place.check(&running.end(PATIENCE)?.with_code(0)?)?;
        place.clear()?;
        total += 1;
    }
    let shard = match starved_shard(setting, &job) {
        Ok(text) => text,
        Err(Stop::Skip(why)) => format!("SKIP the starved shard: {why}"),
        Err(stop) => return Err(stop),
    };
    place.remove()?;
    Ok(format!("{halts} halts in {total} runs (SIGSTOP), same bytes and ledger; {shard}"))
}

/// One shard alone gets almost no time: results wait for it.
fn starved_shard(setting: &Setting, job: &Job) -> Checked<String> {
    let place = job.place(setting.scratch.join("row-15/starved"))?;
    let rounds = setting.times(1, 10).min(20);
    let mut starved = 0;
    for _ in 0..rounds {
        let group = ProcessorGroup::new(1)?;
        let mut running = place.start(Start::default())?;
        let mut shards = Vec::new();
        while shards.is_empty() && !running.has_ended()? {
            shards = threads_of(running.process(), "shard 1")?;
        }
        for thread in &shards {
            // It may have ended meanwhile.
            starved += u64::from(group.take(thread).is_ok());
        }
        std::thread::sleep(Duration::from_secs(2));
        group.release()?;
        place.check(&running.end(PATIENCE)?.with_code(0)?)?;
        place.clear()?;
    }
    place.remove()?;
    ensure(starved > 0, || "no shard was caught".to_owned())?;
    Ok(format!("one shard at 1 % of a core for 2 s in {rounds} runs: same bytes and ledger"))
}

/// Row 19.
pub fn clocks(setting: &Setting) -> Checked<String> {
    let job = Job::new(setting, &setting.scratch.join("row-19"), Size::of(setting))?;
    let starved = match starved_process(setting, &job) {
        Ok(text) => text,
        Err(Stop::Skip(why)) => format!("SKIP starvation: {why}"),
        Err(stop) => return Err(stop),
    };
    let jumps = match jumping_clock(setting, &job) {
        Ok(text) => text,
        Err(Stop::Skip(why)) => format!("SKIP jumps of the clock: {why}"),
        Err(stop) => return Err(stop),
    };
    Ok(format!("{starved}; {jumps}; {}", super::clock::network_clocks(setting)?))
}

fn starved_process(setting: &Setting, job: &Job) -> Checked<String> {
    let place = job.place(setting.scratch.join("row-19/starved"))?;
    let percents: &[u64] = if setting.quick { &[20] } else { &[5, 10, 20, 50] };
    for &percent in percents {
        let group = ProcessorGroup::new(percent)?;
        let running = place.start(Start::default())?;
        fs::write(group.path.join("cgroup.procs"), running.process().to_string())?;
        place.check(&running.end(PATIENCE)?.with_code(0)?)?;
        place.clear()?;
    }
    place.remove()?;
    Ok(format!("at {percents:?} % of a core: same bytes and ledger"))
}

/// Each start of a job lives in another time: the clock that orders timers jumps by days, forwards and back.
fn jumping_clock(setting: &Setting, job: &Job) -> Checked<String> {
    let place = job.place(setting.scratch.join("row-19/clock"))?;
    let mut entropy = Entropy::new(setting.seed ^ 19);
    let rounds = setting.times(1, 10).min(30);
    let mut jumps = 0;
    for _ in 0..rounds {
        for start in 0..4 {
            let offset = entropy.between(0, 40_000_000);
            let inner = place.command(Start::default())?;
            let mut command = Command::new("unshare");
            command.args(["--time", "--fork", "--kill-child", &format!("--monotonic={offset}"), "--"]);
            command.arg(inner.get_program()).args(inner.get_args());
            let mut running = match Running::start(&mut command, &place.stderr()) {
                Ok(running) => running,
                Err(error) => return skip(format!("no time namespace: {error}")),
            };
            if start < 3 {
                std::thread::sleep(job.took.mul_f64(0.2 + 0.2 * entropy.unit()));
                let ended = running.has_ended()?;
                let ended = if ended { running.end(PATIENCE)? } else { running.kill_after(Duration::ZERO)? };
                if ended.stderr.contains("unshare") {
                    return skip(format!("no time namespace: {}", ended.stderr.trim()));
                }
            } else {
                let ended = running.end(PATIENCE)?;
                match ended.code {
                    Some(0) => place.check(&ended)?,
                    _ => return fail(ended.stderr),
                }
            }
            jumps += 1;
        }
        place.clear()?;
    }
    place.remove()?;
    Ok(format!("{jumps} starts with other monotonic clocks (the wall clock is the whole machine's and was left alone)"))
}
