//! What a child may not do: system calls and limits taken away between fork and exec, small disks.
//!
//! Nothing here changes the machine or this process; a mounted disk goes away with its guard.

use std::ffi::CString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `linux/capability.h`.
const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
const CAP_DAC_READ_SEARCH: libc::c_ulong = 2;
const CAP_IPC_LOCK: libc::c_ulong = 14;

/// Whether this process may mount and is not held back by file permissions.
pub fn is_root() -> bool {
    // SAFETY: has no preconditions and touches no memory.
    unsafe { libc::geteuid() == 0 }
}

/// Lets `io_uring_setup` fail with `errno` in the child and all it starts, as container runtimes do.
pub fn without_io_uring(command: &mut Command, errno: i32) {
    let filter = [
        // Load the number of the system call; return the errno for this one, allow all others.
        libc::sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: 0 },
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: libc::SYS_io_uring_setup as u32,
        },
        libc::sock_filter {
            code: (libc::BPF_RET | libc::BPF_K) as u16,
            jt: 0,
            jf: 0,
            k: libc::SECCOMP_RET_ERRNO | errno as u32,
        },
        libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
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

/// Lets the child lock no more memory than this, even if it is root.
pub fn with_locked_memory(command: &mut Command, bytes: u64) {
    before_exec(command, move || {
        limit(libc::RLIMIT_MEMLOCK, bytes)?;
        drop_capability(CAP_IPC_LOCK);
        Ok(())
    });
}

/// Lets the child's files grow no larger than this; a write past it fails with `EFBIG`.
pub fn with_file_size(command: &mut Command, bytes: u64) {
    before_exec(command, move || {
        // SAFETY: ignoring a signal touches no memory; ignored signals stay ignored over exec.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        limit(libc::RLIMIT_FSIZE, bytes)
    });
}

/// Lets file permissions count for the child even if it is root.
pub fn with_permissions(command: &mut Command) {
    before_exec(command, || {
        drop_capability(CAP_DAC_OVERRIDE);
        drop_capability(CAP_DAC_READ_SEARCH);
        Ok(())
    });
}

fn before_exec(command: &mut Command, action: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: the actions above make system calls only; they take no locks and allocate nothing.
    unsafe { command.pre_exec(action) };
}

fn limit(resource: libc::__rlimit_resource_t, bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `limit` lives over the call.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// Without it in the bounding set, root does not get it at exec. Other users have it neither before nor after, and
/// may not do this.
fn drop_capability(capability: libc::c_ulong) {
    // SAFETY: a plain system call.
    let _ = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A small disk in memory, mounted until it is dropped.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk of so many bytes on an existing directory; an error if this process may not.
    pub fn mount(path: &Path, bytes: u64) -> io::Result<SmallDisk> {
        let place = c_text(path);
        let options = CString::new(format!("size={bytes}")).expect("no zero byte");
        // SAFETY: all texts end with a zero byte and live over the call.
        check(unsafe {
            libc::mount(c"tmpfs".as_ptr(), place.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast())
        })?;
        Ok(SmallDisk { path: path.to_path_buf() })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let place = c_text(&self.path);
        // SAFETY: the text ends with a zero byte and lives over the call.
        let _ = unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) };
    }
}

fn c_text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_encoded_bytes()).expect("no zero byte")
}
