//! What the kernel's scheduler is told of the thread of a shard with a log: that it works in short turns.
//!
//! A synced write ends in two steps: the bytes are down, then a thread of the kernel on the same core flushes the disk. That
//! thread waits until the turn of the one that runs is over, which is 3 ms by default; a shard that folds meanwhile would hear
//! of its write that much later. A thread that asks for short turns lets others in sooner, and takes its own sooner when it
//! wakes; its share of the core stays the same.

use std::io;

/// A turn, in nanoseconds: the shortest that the kernel grants.
const SLICE_NS: u64 = 100_000;

/// Asks for short turns for this thread. Kernels before 6.12 take no notice. A thread that was given another policy than
/// the usual one keeps it as it is.
pub fn shorten() -> io::Result<()> {
    let mut attributes = attributes()?;
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    attributes.sched_runtime = SLICE_NS;
    // SAFETY: thread 0 is this one; the kernel reads as many bytes as the structure says that it has.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the scheduler knows of this thread.
fn attributes() -> io::Result<libc::sched_attr> {
    let size = size_of::<libc::sched_attr>() as u32;
    let mut attributes = libc::sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: thread 0 is this one; the kernel writes at most `size` bytes, which is what there is.
    let read = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if read == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// The thread of a test is as good as any.
    #[test]
    fn turns_become_short_and_nothing_else() {
        let before = attributes().expect("what the kernel knows");
        shorten().expect("what any thread may ask for");
        let after = attributes().expect("what the kernel knows");
        assert_eq!((after.sched_policy, after.sched_nice), (before.sched_policy, before.sched_nice));
        if before.sched_runtime == 0 {
            let _ = writeln!(std::io::stderr(), "SKIP: this kernel knows no turns of a thread's own");
            return;
        }
        assert!(before.sched_runtime > SLICE_NS);
        assert_eq!(after.sched_runtime, SLICE_NS);
    }
}
