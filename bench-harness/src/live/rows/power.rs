//! Row 4: the power fails. The file system stops as it is, its journal unwritten, and what was only in memory is gone.
//!
//! A disk that loses what it had promised is the simulator's.

use super::crash::resumed;
use crate::entropy::Entropy;
use crate::live::disk::LoopDisk;
use crate::live::job::{Job, Size, Start};
use crate::live::{Checked, Setting, ensure, fail, skip, system};
use std::fs;
use std::time::Duration;

/// Room for data directory and outputs.
const DISK_BYTES: u64 = 512 << 20;

/// Row 4.
pub fn power_cuts(setting: &Setting) -> Checked<String> {
    let times = setting.times(3, 100);
    let base = setting.scratch.join("row-4");
    fs::create_dir_all(&base)?;
    let mut disk = LoopDisk::new(&base.join("disk"), &base.join("mount"), DISK_BYTES)?;
    let job = Job::new(setting, &base.join("job"), Size::of(setting))?;
    let place = job.place(disk.path().join("place"))?;
    let mut entropy = Entropy::new(setting.seed ^ 4);
    let (mut cuts, mut ends, mut resumed_ends) = (0, 0, 0);
    while cuts < times {
        let start = Start { shards: *entropy.pick(&[1, 2, 2, 3]), ..Start::default() };
        // The configuration is there before the power fails.
        place.command(start)?;
        tool_sync(&disk)?;
        let in_round = (1 + entropy.below(4)).min(times - cuts);
        for _ in 0..in_round {
            let mut running = place.start(start)?;
            // A loop device is slower than the disk it is on.
            std::thread::sleep(Duration::from_micros(entropy.below(job.took.as_micros() as u64 * 3 / 2)));
            let was_running = !running.has_ended()?;
            if let Err(error) = system::cut_power(disk.path()) {
                return skip(format!("the file system cannot be stopped (ioctl): {error}"));
            }
            running.kill_after(Duration::ZERO)?;
            disk.unmount()?;
            disk.mount()?;
            cuts += u64::from(was_running);
            place.check_parts()?;
        }
        let ended = match place.finish(start) {
            Ok(ended) => ended,
            Err(stop) => return fail(format!("after {cuts} cuts: {stop}")),
        };
        ends += 1;
        resumed_ends += u64::from(resumed(&ended) > 0);
        place.clear()?;
    }
    // A few cuts may all have come before anything was durable.
    ensure(resumed_ends > 0 || cuts < 10, || format!("nothing was durable at any of {cuts} cuts"))?;
    Ok(format!(
        "{cuts} power cuts, {ends} jobs finished with the same bytes and ledger, {resumed_ends} of them resumed"
    ))
}

fn tool_sync(disk: &LoopDisk) -> Checked {
    crate::live::disk::tool("sync", &["--file-system", disk.path().to_str().unwrap_or_default()])?;
    Ok(())
}
