//! Rows 10 and 11: the disk is full, refuses writes, or fails one call.
//!
//! Disks that cannot be read are in [`super::broken`].

use super::confined::refused;
use super::steps;
use crate::entropy::Entropy;
use crate::live::calls::Verdict;
use crate::live::disk::{LoopDisk, MemoryDisk, needs_root, tool, unmount};
use crate::live::job::{BRISK, Job, MEDIUM, PATIENCE, Size, Start};
use crate::live::{Checked, Setting, Stop, ensure, fail, skip};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SIZE: Size = Size { rows: 30_000, lanes: 2, batch_rows: 500, hours: 60, keys: 100 };

/// What a full or failing disk is called in a message.
const WORDS: &[&str] =
    &["No space left", "os error 28", "Input/output error", "os error 5", "Read-only", "os error 30"];

/// Row 10.
pub fn full_disk(setting: &Setting) -> Checked<String> {
    let base = setting.scratch.join("row-10");
    fs::create_dir_all(&base)?;
    needs_root()?;
    let job = Job::new(setting, &base.join("job"), BRISK)?;
    let small = small_disk(setting, &base, &job)?;
    let memory = full_memory(setting, &base, &job)?;
    Ok(format!("{small}; {memory}"))
}

/// A disk of 64 MiB with less and less room on it.
fn small_disk(setting: &Setting, base: &Path, job: &Job) -> Checked<String> {
    let disk = LoopDisk::new(&base.join("disk"), &base.join("mount"), 64 << 20)?;
    let mut entropy = Entropy::new(setting.seed ^ 10);
    let (mut refusals, mut waits) = (0, 0);
    let rounds = setting.times(2, 12);
    for round in 0..rounds {
        let place = job.place(disk.path().join("place"))?;
        place.command(Start::default())?;
        let room = (1 + entropy.below(5)) << 20;
        let ballast = fill(disk.path(), room)?;
        if round % 2 == 0 {
            // Everything on the small disk: whoever needs room first says so.
            let ended = place.start(Start::default())?.end(PATIENCE)?;
            refused(&ended, &[74], WORDS)?;
            refusals += 1;
            place.check_parts()?;
            fs::remove_file(ballast)?;
            place.finish(Start::default())?;
        } else {
            // Outputs elsewhere: a log alone waits, and goes on when there is room again. The manifest does not wait.
            let elsewhere = base.join("elsewhere");
            fs::create_dir_all(&elsewhere)?;
            symlink(fs::canonicalize(&elsewhere)?, place.root.join("out"))?;
            let running = place.start(Start::default())?;
            std::thread::sleep(Duration::from_secs(3));
            fs::remove_file(ballast)?;
            let ended = running.end(PATIENCE)?;
            if ended.code == Some(0) {
                place.check(&ended)?;
                waits += 1;
            } else {
                refused(&ended, &[74], WORDS)?;
                place.finish(Start::default())?;
                refusals += 1;
            }
            fs::remove_file(place.root.join("out"))?;
            fs::remove_dir_all(elsewhere)?;
        }
        place.remove()?;
    }
    Ok(format!(
        "64 MiB: {refusals} runs refused with code 74 and finished when there was room, {waits} waited and went on"
    ))
}

/// Takes all room on a disk but `room` bytes.
fn fill(directory: &Path, room: u64) -> Checked<PathBuf> {
    let path = directory.join("ballast");
    let mut file = File::create(&path)?;
    let piece = vec![7; 1 << 20];
    while file.write_all(&piece).is_ok() {}
    file.sync_all()?;
    let length = file.metadata()?.len();
    file.set_len(length.saturating_sub(room))?;
    file.sync_all()?;
    Ok(path)
}

/// A disk that has promised more than what is behind it can hold. Its file system may lose blocks for which it had
/// answered every sync with success (Linux 6.18: ext4 on a loop device): then `corefold verify` must say so.
fn full_memory(setting: &Setting, base: &Path, job: &Job) -> Checked<String> {
    let rounds = setting.times(1, 6).min(20);
    let (mut refusals, mut lies) = (0, 0);
    for round in 0..rounds {
        let memory = MemoryDisk::new(&base.join("memory"), (14 + round) << 20)?;
        let mut disk = LoopDisk::new(&memory.path().join("disk"), &base.join("mount"), 256 << 20)?;
        let place = job.place(disk.path().join("place"))?;
        place.command(Start::default())?;
        tool("sync", &[])?;
        let ended = place.start(Start::default())?.kill_after(PATIENCE)?;
        ensure(!ended.was_killed(), || format!("it hung on a disk that fails: {}", ended.stderr))?;
        if ended.code != Some(0) {
            refused(&ended, &[74], WORDS)?;
            refusals += 1;
        }
        place.check_parts()?;
        // More memory, and the disk works again.
        tool("mount", &["-o", "remount,size=512m", memory.path().to_str().unwrap_or_default()])?;
        recover_disk(&mut disk)?;
        if place.check_parts().is_err() && place.verify()? != Some(0) {
            lies += 1;
        } else {
            place.finish(Start::default())?;
        }
        place.remove()?;
        drop(disk);
        drop(memory);
    }
    ensure(refusals > 0, || "every run had room enough".to_owned())?;
    Ok(format!(
        "a disk on full memory: {refusals} of {rounds} runs refused with code 74; {lies} times synced bytes were gone when \
         it was mounted again, and `verify` said so; the others finished when there was more"
    ))
}

/// Mounts a disk again whose file system may have stopped over an error.
fn recover_disk(disk: &mut LoopDisk) -> Checked {
    disk.unmount()?;
    // Exit codes 1 and 2 say that it repaired something.
    let _ = tool("fsck.ext4", &["-p", disk.device()]);
    disk.mount()
}

/// Row 11.
pub fn write_errors(setting: &Setting) -> Checked<String> {
    let calls = failing_calls(setting)?;
    match failing_device(setting) {
        Ok(device) => Ok(format!("{calls}; {device}")),
        Err(Stop::Skip(why)) => Ok(format!("{calls}; SKIP the failing device: {why}")),
        Err(stop) => Err(stop),
    }
}

/// Every kind of call that changes a file fails once, with each of two reasons.
fn failing_calls(setting: &Setting) -> Checked<String> {
    let job = Job::new(setting, &setting.scratch.join("row-11"), SIZE)?;
    let place = job.place(setting.scratch.join("row-11/place"))?;
    let start = Start::default();
    let kinds = steps::count_kinds(&place, start)?;
    place.clear()?;
    let (mut refusals, mut borne, mut missed): (BTreeMap<i32, u64>, u64, u64) = (BTreeMap::new(), 0, 0);
    let errors: &[i32] = if setting.quick { &[libc::EIO] } else { &[libc::EIO, libc::ENOSPC] };
    for (kind, count) in &kinds {
        for &errno in errors {
            // How often a kind comes differs from run to run; its first time comes in nearly all.
            let mut ended = steps::until(&place, start, kind, count / 2, Verdict::Refuse(errno))?;
            if ended.is_none() {
                place.clear()?;
                ended = steps::until(&place, start, kind, 0, Verdict::Refuse(errno))?;
            }
            let Some(ended) = ended else {
                missed += 1;
                place.clear()?;
                continue;
            };
            if ended.code == Some(0) {
                borne += 1;
                place.check(&ended).or_else(|stop| fail(format!("{kind}, errno {errno}: {stop}")))?;
            } else {
                refused(&ended, &[74], WORDS).or_else(|stop| fail(format!("{kind}, errno {errno}: {stop}")))?;
                *refusals.entry(errno).or_default() += 1;
                place.check_parts()?;
            }
            place.finish(start).or_else(|stop| fail(format!("after {kind}, errno {errno}: {stop}")))?;
            place.clear()?;
        }
    }
    place.remove()?;
    let refusals: u64 = refusals.values().sum();
    let tried = (kinds.len() * errors.len()) as u64;
    ensure(missed * 4 <= tried, || format!("of {tried} calls that were to fail {missed} did not come"))?;
    Ok(format!(
        "{} of {tried} calls of {} kinds failed: {refusals} runs refused with code 74 and finished when started again, \
         {borne} went on",
        tried - missed,
        kinds.len()
    ))
}

/// Compressed memory as a device, which fails writes past its limit.
struct FailingDevice {
    number: String,
    mount: PathBuf,
    is_mounted: bool,
}

impl FailingDevice {
    fn new(mount: &Path, bytes: u64) -> Checked<FailingDevice> {
        needs_root()?;
        let Ok(number) = fs::read_to_string("/sys/class/zram-control/hot_add") else {
            return skip("no zram, whose memory can be limited");
        };
        let mut device = FailingDevice { number: number.trim().to_owned(), mount: mount.to_owned(), is_mounted: false };
        device.set("disksize", bytes)?;
        tool("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", &device.path()])?;
        device.mount()?;
        Ok(device)
    }

    fn path(&self) -> String {
        format!("/dev/zram{}", self.number)
    }

    fn set(&self, name: &str, value: u64) -> Checked {
        Ok(fs::write(format!("/sys/block/zram{}/{name}", self.number), value.to_string())?)
    }

    /// Memory in use.
    fn used(&self) -> Checked<u64> {
        let text = fs::read_to_string(format!("/sys/block/zram{}/mm_stat", self.number))?;
        Ok(text.split_whitespace().nth(2).and_then(|word| word.parse().ok()).unwrap_or(0))
    }

    fn mount(&mut self) -> Checked {
        fs::create_dir_all(&self.mount)?;
        tool("mount", &["-t", "ext4", &self.path(), self.mount.to_str().unwrap_or_default()])?;
        self.is_mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Checked {
        unmount(&self.mount)?;
        self.is_mounted = false;
        Ok(())
    }
}

impl Drop for FailingDevice {
    fn drop(&mut self) {
        let _ = self.set("mem_limit", 0);
        if self.is_mounted && self.unmount().is_err() {
            let _ = tool("umount", &["--lazy", self.mount.to_str().unwrap_or_default()]);
        }
        for _ in 0..100 {
            if self.set("reset", 1).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = fs::write("/sys/class/zram-control/hot_remove", &self.number);
    }
}

/// Writes of the log itself fail: zeros take no memory there, batches do.
fn failing_device(setting: &Setting) -> Checked<String> {
    let base = setting.scratch.join("row-11");
    fs::create_dir_all(&base)?;
    let job = Job::new(setting, &base.join("job"), MEDIUM)?;
    let mut device = FailingDevice::new(&base.join("mount"), 256 << 20)?;
    let mut entropy = Entropy::new(setting.seed ^ 11);
    let (mut refusals, rounds) = (0, setting.times(1, 12));
    let mut log_failures = 0;
    for _ in 0..rounds {
        device.set("mem_limit", 0)?;
        let place = job.place(device.mount.join("place"))?;
        place.command(Start::default())?;
        tool("sync", &[])?;
        device.set("mem_limit", device.used()? + ((64 + entropy.below(6_000)) << 10))?;
        let ended = place.start(Start::default())?.kill_after(PATIENCE)?;
        ensure(!ended.was_killed(), || format!("it hung on a disk that fails: {}", ended.stderr))?;
        if ended.code != Some(0) {
            refused(&ended, &[74], &[WORDS, &["os error 12", "Cannot allocate"]].concat())?;
            refusals += 1;
            log_failures += u64::from(ended.last_line().contains("shard"));
        }
        device.set("mem_limit", 0)?;
        device.unmount()?;
        let _ = tool("fsck.ext4", &["-p", &device.path()]);
        device.mount()?;
        place.check_parts()?;
        place.finish(Start::default())?;
        place.remove()?;
    }
    ensure(refusals > 0, || "the device failed no write".to_owned())?;
    Ok(format!(
        "a device that fails writes: {refusals} of {rounds} runs refused with code 74 ({log_failures} over the log), \
         all finished when it worked again"
    ))
}
