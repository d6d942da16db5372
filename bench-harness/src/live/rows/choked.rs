//! Row D: a producer that is faster than the disk, and a shard whose disk stands still while others go on.
//!
//! Disks under a job that reads files are in [`super::slow`].

use super::hostile::{send_some, sender};
use super::slow::memory_peak;
use crate::live::disk::{LoopDisk, tool, unmount};
use crate::live::producers::{SentJob, ServerPlan};
use crate::live::{Checked, Setting, Stop, ensure, skip};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LIMITS: &str = ", inbox_max = \"4MiB\", batch_size_max = \"1MiB\"";

/// How long a client may take to a disk that is slow.
const SENT_MAX: Duration = Duration::from_secs(600);

/// Row D.
pub fn choked_disks(setting: &Setting) -> Checked<String> {
    let base = setting.scratch.join("row-d");
    fs::create_dir_all(&base)?;
    let mut disk = LoopDisk::new(&base.join("disk"), &base.join("mount"), 256 << 20)?;
    let mut seen = vec![frozen_shard(setting, &mut disk, &base)?];
    match slow_disk(setting, &disk, &base) {
        Ok(text) => seen.push(text),
        Err(Stop::Skip(why)) => seen.push(format!("SKIP the slow disk: {why}")),
        Err(stop) => return Err(stop),
    }
    Ok(seen.join("; "))
}

/// A directory that is seen in a second place, until this is dropped.
struct Bound<'a>(&'a Path);

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        if unmount(self.0).is_err() {
            let _ = tool("umount", &["--lazy", self.0.to_str().unwrap_or_default()]);
        }
    }
}

/// One shard's log is on a disk of its own, which is frozen: its producer waits, the other shard's does not.
fn frozen_shard(setting: &Setting, disk: &mut LoopDisk, base: &Path) -> Checked<String> {
    let job = SentJob::new(setting, &base.join("job"), 1, 2_000)?;
    let served = job.place(&base.join("frozen"), ServerPlan { limits: LIMITS.to_owned(), ..ServerPlan::local()? })?;
    // The first start makes the directories.
    served.start()?.kill_after(Duration::from_millis(200))?;
    let (shard, elsewhere) = (served.store().join("shard-0001"), disk.path().join("shard-0001"));
    let text = |path: &Path| path.to_str().unwrap_or_default().to_owned();
    tool("cp", &["-a", &text(&shard), &text(&elsewhere)])?;
    tool("mount", &["--bind", &text(&elsewhere), &text(&shard)])?;
    let bound = Bound(&shard);
    let server = served.start()?;
    // New lanes go to the shard with the fewest connections: the first to shard 0, the second to shard 1.
    let (first, second) = (sender(&served, "first")?, sender(&served, "second")?);
    let (mut at, mut other_at) = (0, 0);
    send_some(&first, 100, &mut at)?;
    send_some(&second, 100, &mut other_at)?;
    disk.freeze()?;
    let has_ended = AtomicBool::new(false);
    let rounds = 50;
    let result = std::thread::scope(|scope| -> Checked<bool> {
        let waiting = scope.spawn(|| -> Checked {
            send_some(&second, 100, &mut other_at)?;
            has_ended.store(true, Ordering::Relaxed);
            Ok(())
        });
        let mut went_on = Ok(());
        for _ in 0..rounds {
            went_on = went_on.and_then(|()| send_some(&first, 100, &mut at).map(|_| ()));
        }
        let waited = !has_ended.load(Ordering::Relaxed);
        // Always thawed, whatever came of it.
        disk.thaw()?;
        went_on?;
        waiting.join().map_err(|_| Stop::Fail("a client panicked".to_owned()))??;
        Ok(waited)
    });
    ensure(result?, || "the producer of the frozen shard was told that its batch is durable".to_owned())?;
    first.close()?;
    second.close()?;
    let ended = served.stop(server)?;
    drop(bound);
    let count = format!("received {} = aggregated", 100 * (rounds + 3));
    ensure(ended.lines_of("ledger").iter().all(|line| line.contains(&count)), || ended.stderr.clone())?;
    Ok(format!(
        "one shard's disk frozen: {rounds} batches became durable in the other one meanwhile, its own after that"
    ))
}

/// One connection sends as fast as it may to a disk that takes little.
fn slow_disk(setting: &Setting, disk: &LoopDisk, base: &Path) -> Checked<String> {
    let throttle = Path::new("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device");
    let numbers = tool("lsblk", &["--noheadings", "--nodeps", "--output", "MAJ:MIN", disk.device()])?;
    let job = SentJob::new(setting, &base.join("job"), 1, if setting.quick { 60_000 } else { 1_000_000 })?;
    let rate = if setting.quick { 4 << 20 } else { 2 << 20 };
    if let Err(error) = fs::write(throttle, format!("{numbers} {rate}")) {
        return skip(format!("no control group (version 1) for block devices: {error}"));
    }
    let run = || -> Checked<(Duration, u64, u64)> {
        let plan = ServerPlan { limits: LIMITS.to_owned(), shards: 1, ..ServerPlan::local()? };
        let served = job.place(&disk.path().join("place"), plan)?;
        let server = served.start()?;
        let mut client = job.send(&served, served.address(), &[])?;
        // The first inbox is full soon; from there on memory is flat.
        std::thread::sleep(Duration::from_secs(if setting.quick { 1 } else { 10 }));
        let early = memory_peak(server.process());
        let mut peak = early;
        while !client.has_ended()? {
            peak = peak.max(memory_peak(server.process()));
            std::thread::sleep(Duration::from_millis(20));
        }
        let sent = client.end(SENT_MAX)?.with_code(0)?;
        served.finish(server)?;
        Ok((sent.took, early, peak))
    };
    let result = run();
    fs::write(throttle, format!("{numbers} 0"))?;
    let (took, early, peak) = result?;
    ensure(peak < early + (32 << 20), || format!("{} MiB were resident, {} at first", peak >> 20, early >> 20))?;
    Ok(format!(
        "at {} MiB/s of disk one producer took {:.1} s, at most {} MiB resident ({} after it had begun), each row once",
        rate >> 20,
        took.as_secs_f64(),
        peak >> 20,
        early >> 20
    ))
}
