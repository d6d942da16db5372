//! Row 13: what is on the disk cannot be read any more. It is never taken for the end of a log.
//!
//! Bytes that can be read but are wrong are in [`super::crash`].

use super::confined::refused;
use crate::live::calls::{Step, Supervised, Verdict};
use crate::live::disk::{LoopDisk, tool};
use crate::live::job::{Job, PATIENCE, Size, Start};
use crate::live::{Checked, Setting, Stop, ensure, fail};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};

/// Row 13.
pub fn read_errors(setting: &Setting) -> Checked<String> {
    let calls = failing_reads(setting)?;
    match cut_backing(setting) {
        Ok(device) => Ok(format!("{calls}; {device}")),
        Err(Stop::Skip(why)) => Ok(format!("{calls}; SKIP the broken disk: {why}")),
        Err(stop) => Err(stop),
    }
}

/// Each kind of file of a data directory cannot be read, once or for good.
fn failing_reads(setting: &Setting) -> Checked<String> {
    let job = Job::new(setting, &setting.scratch.join("row-13"), Size::of(setting))?;
    let place = job.place(setting.scratch.join("row-13/place"))?;
    let start = Start::default();
    let broken = |kind: &str, from: u64, to: u64| -> Checked<(u64, crate::live::child::Ended)> {
        let mut seen = 0;
        let decide = |step: &Step| match step.kind(&place.store()) {
            Some(found) if found == kind => {
                seen += 1;
                if (from..to).contains(&(seen - 1)) { Verdict::Refuse(libc::EIO) } else { Verdict::Go }
            }
            _ => Verdict::Go,
        };
        let supervised = Supervised::start_with_reads(&mut place.command(start)?, &place.stderr())?;
        let ended = supervised.watch(PATIENCE, decide)?.end(PATIENCE)?;
        Ok((seen, ended))
    };
    // What a restart reads, and how often.
    place.half_done(start, 0.7)?;
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let supervised = Supervised::start_with_reads(&mut place.command(start)?, &place.stderr())?;
    let running = supervised.watch(PATIENCE, |step| {
        if let Some(kind) = step.kind(&place.store()).filter(|kind| kind.starts_with("read")) {
            *kinds.entry(kind).or_default() += 1;
        }
        Verdict::Go
    })?;
    place.check(&running.end(PATIENCE)?.with_code(0)?)?;
    let (mut borne, mut refusals) = (0u64, 0u64);
    for (kind, &count) in &kinds {
        for which in [0, count / 3] {
            for times in [1, u64::MAX / 2] {
                place.half_done(start, 0.7)?;
                let (seen, ended) = broken(kind, which, which + times)?;
                if seen <= which {
                    continue;
                }
                if ended.code == Some(0) {
                    // One retry of the log's reads, or a snapshot that has an older one behind it.
                    borne += 1;
                    place.check(&ended).or_else(|stop| fail(format!("{kind}: {stop}")))?;
                } else {
                    refused(&ended, &[74], &["Input/output error", "os error 5"])
                        .or_else(|stop| fail(format!("{kind}: {stop}")))?;
                    let named = ended.last_line().contains(&*place.store().to_string_lossy());
                    ensure(named, || format!("{kind}: the file is not named: {}", ended.last_line()))?;
                    refusals += 1;
                    place.check_parts()?;
                }
                place.finish(start).or_else(|stop| fail(format!("after {kind}: {stop}")))?;
            }
        }
    }
    ensure(refusals > 0, || "no failed read was refused".to_owned())?;
    place.remove()?;
    Ok(format!(
        "{} kinds of reads failed once or for good: {refusals} starts refused with code 74 and the file, {borne} went \
         on; same bytes every time",
        kinds.len()
    ))
}

/// The end of the disk is gone, at ever smaller sizes.
fn cut_backing(setting: &Setting) -> Checked<String> {
    let base = setting.scratch.join("row-13");
    fs::create_dir_all(&base)?;
    let mut disk = LoopDisk::new(&base.join("disk"), &base.join("mount"), 256 << 20)?;
    let job = Job::new(setting, &base.join("job"), Size::of(setting))?;
    let (mut refusals, mut unharmed, mut unreadable) = (0, 0, 0);
    let rounds = setting.times(3, 10).min(30);
    let copy = base.join("copy");
    for round in 0..rounds {
        let place = job.place(disk.path().join("place"))?;
        place.command(Start::default())?;
        place.half_done(Start::default(), 0.7)?;
        disk.unmount()?;
        tool(
            "cp",
            &["--sparse=always", disk.backing().to_str().unwrap_or_default(), copy.to_str().unwrap_or_default()],
        )?;
        disk.mount()?;
        // What the file system needs to be mounted at all comes first, and data from about the tenth mebibyte on.
        let length = (8 + 4 * (round % 8)) << 20;
        OpenOptions::new().write(true).open(disk.backing())?.set_len(length)?;
        let running = place.start(Start::default());
        match running {
            Ok(running) => {
                let ended = running.end(PATIENCE)?;
                if ended.code == Some(0) {
                    unharmed += 1;
                } else {
                    refused(
                        &ended,
                        &[74, 78],
                        &["Input/output error", "os error 5", "Structure needs", "os error 117"],
                    )?;
                    refusals += 1;
                }
            }
            // Not even the configuration can be read.
            Err(_) => unreadable += 1,
        }
        disk.unmount()?;
        tool("cp", &[copy.to_str().unwrap_or_default(), disk.backing().to_str().unwrap_or_default()])?;
        tool("blockdev", &["--flushbufs", disk.device()])?;
        disk.mount()?;
        place.finish(Start::default())?;
        place.remove()?;
    }
    fs::remove_file(copy)?;
    ensure(refusals + unreadable > 0, || format!("none of {rounds} cuts was felt"))?;
    Ok(format!(
        "a disk cut short: {refusals} of {rounds} starts refused with code 74, {unharmed} did not touch the lost part, \
         {unreadable} had not even a configuration left to read; all finished when it was whole again"
    ))
}
