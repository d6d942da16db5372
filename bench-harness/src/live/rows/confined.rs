//! Rows 12, 16 and 20: limits on the process: file size, memory, locked memory, open files, io_uring, one owner.
//!
//! Full and broken disks are in [`super::full`] and [`super::broken`].

use crate::live::child::{Ended, Running};
use crate::live::job::{Job, PATIENCE, Place, Size, Start};
use crate::live::system::{Limit, confine};
use crate::live::{Checked, Setting, ensure, fail, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SIZE: Size = Size { rows: 60_000, lanes: 2, batch_rows: 500, hours: 96, keys: 100 };

/// That a run ended by itself with one of these codes and one sentence with one of `words`.
pub fn refused(ended: &Ended, codes: &[i32], words: &[&str]) -> Checked {
    let last = ended.last_line();
    let code = ended.code.unwrap_or(-1);
    ensure(codes.contains(&code), || format!("code {:?}, signal {:?}: {}", ended.code, ended.signal, ended.stderr))?;
    ensure(last.starts_with("corefold: "), || format!("no sentence: {}", ended.stderr))?;
    ensure(words.iter().any(|word| last.contains(word)), || format!("none of {words:?} in: {last}"))
}

/// Runs the job under a limit. Tells whether it was refused; one that was not must have come to the right end.
fn run_limited(place: &Place<'_>, limit: Limit, codes: &[i32], words: &[&str]) -> Checked<bool> {
    let mut command = place.command(Start::default())?;
    confine(&mut command, limit);
    let ended = Running::start(&mut command, &place.stderr())?.end(PATIENCE)?;
    if ended.code == Some(0) {
        place.check(&ended)?;
        return Ok(false);
    }
    refused(&ended, codes, words).or_else(|stop| fail(format!("{limit:?}: {stop}")))?;
    place.check_parts()?;
    Ok(true)
}

/// Row 12: no file may grow past a limit, so that writes fail or fall short.
pub fn file_size(setting: &Setting) -> Checked<String> {
    let job = Job::new(setting, &setting.scratch.join("row-12"), SIZE)?;
    let place = job.place(setting.scratch.join("row-12/place"))?;
    // What it says goes to a file as well, so not from zero; to just below, at and above a segment. Multiples of a
    // block: where a limit cuts one, the kernel calls the direct write invalid instead of too large.
    let sizes: &[u64] = &[5 << 12, 12 << 12, 100 << 12, (1 << 20) - 4_096, 1 << 20, 3 << 20];
    let mut refusals = 0;
    for &bytes in sizes {
        // A failed segment is asked for again for ten seconds.
        refusals += u64::from(run_limited(&place, Limit::FileSize(bytes), &[74], &["File too large", "os error 27"])?);
        place.finish(Start::default())?;
        place.clear()?;
        if setting.quick && refusals == 2 {
            break;
        }
    }
    ensure(refusals >= 2, || format!("only {refusals} limits were felt"))?;
    place.remove()?;
    Ok(format!("{refusals} runs refused with code 74 and the reason; each went on without the limit to the same bytes"))
}

/// A memory control group of one's own.
struct MemoryGroup {
    path: PathBuf,
}

impl MemoryGroup {
    fn new(bytes: u64) -> Checked<MemoryGroup> {
        let parent = Path::new("/sys/fs/cgroup/memory");
        if !parent.join("memory.limit_in_bytes").exists() {
            return skip("no control group (version 1) for memory");
        }
        let path = parent.join(format!("corefold-faults-{}", std::process::id()));
        if let Err(error) = fs::create_dir_all(&path) {
            return skip(format!("no control group can be made: {error}"));
        }
        let group = MemoryGroup { path };
        fs::write(group.path.join("memory.limit_in_bytes"), bytes.to_string())?;
        Ok(group)
    }

    fn take(&self, process: u32) -> Checked {
        Ok(fs::write(self.path.join("cgroup.procs"), process.to_string())?)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Its processes have been waited for; a group that stays is empty and harmless.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Row 16: too little memory, locked memory, addresses and open files.
pub fn too_little(setting: &Setting) -> Checked<String> {
    let job = Job::new(setting, &setting.scratch.join("row-16"), SIZE)?;
    let place = job.place(setting.scratch.join("row-16/place"))?;
    let mut seen = Vec::new();
    let locked = [0, 64 << 10, 600 << 10];
    let mut refusals = 0;
    for bytes in locked {
        refusals += u32::from(run_limited(&place, Limit::LockedMemory(bytes), &[1, 74], &["locked", "memlock"])?);
        place.finish(Start::default())?;
        place.clear()?;
    }
    ensure(refusals > 0, || "no limit of locked memory was felt".to_owned())?;
    seen.push(format!("{refusals} of {} limits of locked memory refused", locked.len()));
    let files: &[u64] = if setting.quick { &[12, 30] } else { &[8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 64] };
    let mut refusals = 0;
    for &count in files {
        let words = ["open files", "Too many", "os error 24"];
        refusals += u32::from(run_limited(&place, Limit::OpenFiles(count), &[1, 74], &words)?);
        place.finish(Start::default())?;
        place.clear()?;
    }
    ensure(refusals > 0, || "no limit of open files was felt".to_owned())?;
    seen.push(format!("{refusals} of {} limits of open files refused", files.len()));
    match out_of_memory(&place, setting) {
        Ok(text) => seen.push(text),
        Err(crate::live::Stop::Skip(why)) => seen.push(format!("SKIP memory: {why}")),
        Err(stop) => return Err(stop),
    }
    place.remove()?;
    Ok(format!("{}; each went on without the limit to the same bytes", seen.join("; ")))
}

/// The kernel kills a process that needs more than its group may have; that is a crash like any other.
fn out_of_memory(place: &Place<'_>, setting: &Setting) -> Checked<String> {
    let sizes: &[u64] = if setting.quick { &[12] } else { &[6, 8, 10, 12, 14, 16, 20, 24, 32, 48] };
    let (mut killed, mut ended_well) = (0, 0);
    for &mebibytes in sizes {
        let group = MemoryGroup::new(mebibytes << 20)?;
        let running = place.start(Start::default())?;
        group.take(running.process())?;
        // Page cache counts as well, so a small group may be slow instead of dead.
        let ended = running.kill_after(Duration::from_secs(20))?;
        if ended.was_killed() {
            killed += 1;
            place.check_parts()?;
        } else if ended.code == Some(0) {
            ended_well += 1;
            place.check(&ended)?;
        } else {
            refused(&ended, &[1, 74], &["memory", "os error 12"])?;
        }
        drop(group);
        place.finish(Start::default())?;
        place.clear()?;
    }
    Ok(format!("of {} memory groups {killed} killed the process and {ended_well} did not", sizes.len()))
}

/// Row 20: io_uring forbidden; a second process on the directory.
pub fn forbidden(setting: &Setting) -> Checked<String> {
    let job = Job::new(setting, &setting.scratch.join("row-20"), Size::of(setting))?;
    let place = job.place(setting.scratch.join("row-20/place"))?;
    for (errno, word) in [(libc::EPERM, "forbidden"), (libc::EACCES, "forbidden"), (libc::ENOSYS, "kernel")] {
        let was_refused = run_limited(&place, Limit::NoRing(errno), &[1], &[word])?;
        ensure(was_refused, || format!("errno {errno}: it ran without io_uring"))?;
        ensure(place.outputs()?.is_empty(), || "something was written".to_owned())?;
    }
    let rounds = setting.times(1, 10);
    for _ in 0..rounds {
        let first = place.start(Start::default())?;
        wait_for_owner(&place)?;
        // Halted, so that it holds the directory for as long as the second one has patience.
        first.signal(libc::SIGSTOP)?;
        let mut command = place.command(Start::default())?;
        let second = Running::start(&mut command, &place.root.with_extension("second"))?.end(PATIENCE)?;
        refused(&second, &[74], &["in use by another process"])?;
        first.signal(libc::SIGCONT)?;
        place.check(&first.end(PATIENCE)?.with_code(0)?)?;
        // The owner dies while the next one waits.
        place.clear()?;
        let first = place.start(Start::default())?;
        wait_for_owner(&place)?;
        first.signal(libc::SIGSTOP)?;
        let mut command = place.command(Start::default())?;
        let second = Running::start(&mut command, &place.root.with_extension("second"))?;
        std::thread::sleep(Duration::from_millis(300));
        ensure(first.kill_after(Duration::ZERO)?.was_killed(), || "the owner had ended".to_owned())?;
        let ended = second.end(PATIENCE)?.with_code(0)?;
        place.check(&ended)?;
        place.clear()?;
    }
    let _ = fs::remove_file(place.root.with_extension("second"));
    place.remove()?;
    Ok(format!(
        "refused with code 1 and the reason for EPERM, EACCES and ENOSYS (by seccomp; the sysctl is the whole \
         machine's); {rounds} times a second process was refused with code 74, and {rounds} times one took over from \
         an owner that died"
    ))
}

/// Waits until the directory has been made, so that its owner is known.
fn wait_for_owner(place: &Place<'_>) -> Checked {
    for _ in 0..10_000 {
        if place.store().join("shard-0000/wal").exists() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    fail("no data directory appeared")
}
