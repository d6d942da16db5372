//! System calls that no safe wrapper offers: signals, priorities, limits between fork and exec, the file system's emergency stop.
//!
//! Every `unsafe` of the fault suite but that of [`super::calls`] is here. What to do with them is not.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// `linux/capability.h`.
const CAP_IPC_LOCK: libc::c_ulong = 14;
/// `linux/capability.h`.
const CAP_SYS_RESOURCE: libc::c_ulong = 24;

/// `EXT4_IOC_SHUTDOWN`: from now on the file system writes nothing.
const SHUTDOWN: libc::c_ulong = 0x8004_587D;

/// What a child may not do or have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Files may not grow past so many bytes; writes beyond fail with `EFBIG`.
    FileSize(u64),
    /// So many bytes may be locked, also by root.
    LockedMemory(u64),
    /// So many files may be open.
    OpenFiles(u64),
    /// `io_uring_setup` fails with this number.
    NoRing(i32),
}

/// Whether this process may mount and is not held back by file permissions.
pub fn is_root() -> bool {
    // SAFETY: has no preconditions and touches no memory.
    unsafe { libc::geteuid() == 0 }
}

/// Sends a signal to a process that the caller has started and not yet waited for.
pub fn signal(process: u32, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: a plain system call.
    check(unsafe { libc::kill(process as libc::pid_t, signal) })
}

/// From now on closing the socket resets its connection instead of ending it: what was under way is gone.
pub fn reset_on_close(socket: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let (size, value) = (size_of::<libc::linger>() as libc::socklen_t, (&raw const linger).cast());
    // SAFETY: the descriptor is open, and `linger` lives over the call, which reads `size` bytes of it.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size) })
}

/// From now on the calling thread runs while a core has nothing else to do, and makes way at once.
pub fn lower_priority() {
    let idle = libc::sched_param { sched_priority: 0 };
    // SAFETY: a plain system call that reads one integer; 0 is the calling thread.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const idle) };
}

/// Lets the child die with the thread that starts it, so that a check that is stopped leaves nothing running.
pub fn dies_with_parent(command: &mut Command) {
    before_exec(command, || {
        // SAFETY: a plain system call.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })
    });
}

/// Puts a limit on the child.
pub fn confine(command: &mut Command, limit: Limit) {
    match limit {
        Limit::NoRing(errno) => without_io_uring(command, errno),
        Limit::FileSize(bytes) => before_exec(command, move || {
            // SAFETY: ignoring a signal touches no memory; ignored signals stay ignored over exec.
            unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
            set_limit(libc::RLIMIT_FSIZE, bytes)
        }),
        Limit::LockedMemory(bytes) => before_exec(command, move || {
            set_limit(libc::RLIMIT_MEMLOCK, bytes)?;
            drop_capability(CAP_IPC_LOCK);
            Ok(())
        }),
        Limit::OpenFiles(files) => before_exec(command, move || {
            set_limit(libc::RLIMIT_NOFILE, files)?;
            drop_capability(CAP_SYS_RESOURCE);
            Ok(())
        }),
    }
}

fn without_io_uring(command: &mut Command, errno: i32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let filter = [
        // Load the number of the system call; return the errno for this one, allow all others.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: libc::SYS_io_uring_setup as u32,
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    before_exec(command, move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: plain system calls; the program outlives the second, which copies it and does not write to it.
        unsafe {
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))
        }
    });
}

/// Runs `action` in the child; it may make system calls only.
pub(super) fn before_exec(command: &mut Command, action: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: the actions of this module and of `calls` make system calls only; they take no locks and allocate
    // nothing.
    unsafe { command.pre_exec(action) };
}

fn set_limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` lives over the call.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// Without it in the bounding set, root does not get it at exec. Other users have it neither before nor after, and
/// may not do this.
fn drop_capability(capability: libc::c_ulong) {
    // SAFETY: a plain system call.
    let _ = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
}

/// Stops the file system of `path` as a power cut would: nothing more reaches its device, not even its journal.
pub fn cut_power(path: &Path) -> io::Result<()> {
    let no_log_flush: u32 = 2;
    let directory = File::open(path)?;
    // SAFETY: the descriptor is open, and the call reads one integer that lives over it.
    check(unsafe { libc::ioctl(directory.as_raw_fd(), SHUTDOWN as _, &raw const no_log_flush) })
}

/// Detaches whatever is mounted at `path`, used or not.
pub fn unmount(path: &Path) -> io::Result<()> {
    let place = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: the text ends with a zero byte and lives over the call.
    check(unsafe { libc::umount2(place.as_ptr(), 0) })
}

pub(super) fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
