//! What this machine can do for durable logs, said in sentences: file system, io_uring, locked memory.
//!
//! Nothing is changed here; what to do about a lack is up to the caller.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use io_uring::IoUring;

use super::error::DiskError;

/// Kinds of file systems that the log knows by name.
const FILESYSTEMS: &[(u32, &str, Suitability)] = &[
    (0xEF53, "ext4", Suitability::Sync),
    (0x5846_5342, "XFS", Suitability::Sync),
    (0x0102_1994, "tmpfs", Suitability::Refuse("it keeps files in memory only, so nothing on it survives a power cut")),
    (0x8584_58F6, "ramfs", Suitability::Refuse("it keeps files in memory only, so nothing on it survives a power cut")),
    (
        0x794C_7630,
        "overlayfs",
        Suitability::Refuse("what a sync on it reaches depends on the layers below; mount a volume instead"),
    ),
    (
        0x9123_683E,
        "btrfs",
        Suitability::Refuse(
            "it never overwrites in place, so each synced block commits metadata and may run out of space",
        ),
    ),
    (0x6969, "NFS", Suitability::Refuse("a sync on it is a promise of another machine")),
    (0x6573_5546, "FUSE", Suitability::Refuse("what a sync on it means is up to a program")),
    (0x2FC1_2FC1, "ZFS", Suitability::Refuse("it has not been tried with this log")),
];

#[derive(Clone, Copy, Debug)]
enum Suitability {
    Sync,
    Refuse(&'static str),
}

/// The kind of file system that a path is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// The number that the kernel gives; its type differs between machines but its value fits.
    pub magic: u32,
    /// Its name, if known.
    pub name: Option<&'static str>,
}

impl Filesystem {
    /// Looks at the file system of an existing path.
    pub fn of(path: &Path) -> Result<Filesystem, DiskError> {
        let failed =
            |source| DiskError::Io { operation: "ask for the file system of", path: path.to_path_buf(), source };
        let text = CString::new(path.as_os_str().as_bytes()).map_err(|error| failed(io::Error::other(error)))?;
        let mut answer = std::mem::MaybeUninit::<libc::statfs>::zeroed();
        // SAFETY: `text` is a string with a final zero and `answer` is room for what the call writes.
        let result = unsafe { libc::statfs(text.as_ptr(), answer.as_mut_ptr()) };
        if result != 0 {
            return Err(failed(io::Error::last_os_error()));
        }
        // SAFETY: plain integers that were zeroed before, so initialised whatever the call has written.
        let magic = unsafe { answer.assume_init() }.f_type as u32;
        let name = FILESYSTEMS.iter().find(|known| known.0 == magic).map(|known| known.1);
        Ok(Filesystem { magic, name })
    }

    /// Whether `durability = "sync"` can be promised here; if not, a sentence that says why.
    pub fn suits_sync(&self, path: &Path) -> Result<(), String> {
        let known = FILESYSTEMS.iter().find(|known| known.0 == self.magic);
        match known {
            Some((_, _, Suitability::Sync)) => Ok(()),
            Some((_, name, Suitability::Refuse(why))) => Err(format!(
                "`{}` is on {name}, which cannot keep durability = \"sync\": {why}; use ext4 or XFS, or durability = \"os\"",
                path.display()
            )),
            None => Err(format!(
                "`{}` is on an unknown file system (type {:#x}), which has not been tried with durability = \"sync\"; use ext4 or XFS, or durability = \"os\"",
                path.display(),
                self.magic
            )),
        }
    }
}

/// Whether this process may use io_uring; if not, a sentence that says why.
pub fn io_uring() -> Result<(), String> {
    match IoUring::new(4) {
        Ok(_) => Ok(()),
        Err(error) => Err(explain_ring_failure(&error)),
    }
}

/// Has clean pages of `file` dropped from the cache, so that what is read next comes from the device. Only a wish.
pub(super) fn forget_cached(file: &std::fs::File) {
    // SAFETY: a plain system call on a descriptor that `file` holds open.
    unsafe { libc::posix_fadvise(std::os::fd::AsRawFd::as_raw_fd(file), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// A ring in the best way that this kernel knows. It belongs to the thread that makes it.
pub(super) fn build_ring(entries: u32) -> Result<IoUring, DiskError> {
    let modern = IoUring::builder().setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag().build(entries);
    let ring = match modern {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::new(entries),
        other => other,
    };
    ring.map_err(|error| DiskError::Unsuitable { reason: explain_ring_failure(&error) })
}

/// Why a ring could not be created, and what to do.
pub fn explain_ring_failure(error: &io::Error) -> String {
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match (error.raw_os_error(), sysctl.trim()) {
        (Some(libc::EPERM), "2") => {
            "io_uring is switched off on this machine (sysctl kernel.io_uring_disabled = 2); set it to 0".to_owned()
        }
        (Some(libc::EPERM), "1") => "io_uring is allowed to some users only (sysctl kernel.io_uring_disabled = 1); set it to 0 or join the group of kernel.io_uring_group".to_owned(),
        (Some(libc::EPERM | libc::EACCES), _) => "io_uring is forbidden to this process, most likely by the seccomp filter of a container; allow io_uring_setup, io_uring_enter and io_uring_register".to_owned(),
        (Some(libc::ENOSYS), _) => {
            "this kernel has no io_uring, or a filter hides it; Linux 6.1 or later is needed".to_owned()
        }
        (Some(libc::ENOMEM), _) => "there is not enough locked memory for io_uring; raise `ulimit -l` (RLIMIT_MEMLOCK)".to_owned(),
        (Some(libc::EMFILE | libc::ENFILE), _) => {
            "there are too many open files for io_uring; raise `ulimit -n` (RLIMIT_NOFILE)".to_owned()
        }
        _ => format!("io_uring cannot be used: {error}"),
    }
}

/// Locked memory: what is needed and what may be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedMemory {
    /// Bytes that the caller wants to lock.
    pub needed: u64,
    /// The limit in force; `None` for no limit.
    pub limit: Option<u64>,
    /// Whether this process is exempt (CAP_IPC_LOCK).
    pub is_exempt: bool,
}

impl LockedMemory {
    /// Compares `needed` bytes with the limit of this process.
    pub fn look(needed: u64) -> LockedMemory {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is room for what the call writes.
        let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
        let limit = (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur);
        LockedMemory { needed, limit, is_exempt: has_ipc_lock() }
    }

    /// Whether it is enough; if not, a sentence that says what to do.
    pub fn suffices(&self) -> Result<(), String> {
        match self.limit {
            Some(limit) if !self.is_exempt && limit < self.needed => Err(format!(
                "{} KiB of locked memory are needed but only {} KiB are allowed; raise the limit with `ulimit -l {}` or LimitMEMLOCK= in the service",
                self.needed.div_ceil(1024),
                limit / 1024,
                self.needed.div_ceil(1024)
            )),
            _ => Ok(()),
        }
    }
}

fn has_ipc_lock() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    bits >> CAP_IPC_LOCK & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_told_apart() {
        let path = Path::new("/data");
        let kind = |magic| Filesystem { magic, name: None }.suits_sync(path);
        assert_eq!(kind(0xEF53), Ok(()));
        assert_eq!(kind(0x5846_5342), Ok(()));
        for (magic, word) in [(0x0102_1994, "tmpfs"), (0x794C_7630, "overlayfs"), (0x9123_683E, "btrfs"), (7, "0x7")] {
            let sentence = kind(magic).unwrap_err();
            assert!(sentence.contains(word) && sentence.contains("/data"), "{sentence}");
        }
        assert_eq!(Filesystem::of(Path::new("/proc")).unwrap().name, None);
        assert!(matches!(Filesystem::of(Path::new("/no/such/path")), Err(DiskError::Io { .. })));
    }

    #[test]
    fn too_little_locked_memory_is_said() {
        let short = LockedMemory { needed: 4096, limit: Some(1024), is_exempt: false };
        assert!(short.suffices().unwrap_err().contains("4 KiB"));
        assert_eq!(LockedMemory { is_exempt: true, ..short }.suffices(), Ok(()));
        assert_eq!(LockedMemory { limit: None, ..short }.suffices(), Ok(()));
        assert_eq!(LockedMemory { limit: Some(4096), ..short }.suffices(), Ok(()));
    }

    #[test]
    fn refusals_of_the_ring_are_explained() {
        for (errno, word) in [(libc::ENOSYS, "6.1"), (libc::ENOMEM, "ulimit -l"), (libc::EMFILE, "ulimit -n")] {
            assert!(explain_ring_failure(&io::Error::from_raw_os_error(errno)).contains(word));
        }
        assert!(explain_ring_failure(&io::Error::from_raw_os_error(libc::EPERM)).contains("io_uring"));
    }
}
