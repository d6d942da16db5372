//! What the kernel says about this machine: `/proc`, `/sys`, a trial ring and a trial file.
//!
//! Every fact may be missing. What it means is not said here.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use io_uring::{IoUring, Probe, opcode};

/// A resource limit; `None` is unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// What applies now.
    pub soft: Option<u64>,
    /// What the process may raise it to.
    pub hard: Option<u64>,
}

/// What is known about this machine.
#[derive(Clone, PartialEq, Debug)]
pub struct Facts {
    /// Kernel release, such as `6.1.0-18-amd64`.
    pub kernel: Option<String>,
    /// `kernel.io_uring_disabled`; absent in kernels before 6.6.
    pub io_uring_disabled: Option<u64>,
    /// Outcome of setting up a ring: the names of missing operations, or the error of the set-up.
    pub ring: Result<Vec<&'static str>, String>,
    /// `RLIMIT_MEMLOCK`.
    pub locked_memory: Option<Limit>,
    /// Whether the process may lock memory without limit (`CAP_IPC_LOCK`).
    pub locks_freely: bool,
    /// `RLIMIT_NOFILE`.
    pub open_files: Option<Limit>,
    /// Cores that the process may run on.
    pub cores: Vec<u32>,
    /// For each of these cores, the threads of the same physical core, itself included.
    pub siblings: Vec<Vec<u32>>,
    /// Limit of a control group, in cores.
    pub cpu_quota: Option<f64>,
    /// Frequency governors of these cores, each once.
    pub governors: Vec<String>,
    /// Setting of transparent huge pages.
    pub huge_pages: Option<String>,
    /// Clock source of the kernel.
    pub clock_source: Option<String>,
    /// The directory that was asked about.
    pub directory: Option<DirectoryFacts>,
}

/// What is known about a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectoryFacts {
    /// The directory, as asked for.
    pub path: PathBuf,
    /// Type of its file system, such as `ext4`.
    pub kind: Option<String>,
    /// Bytes free for this user.
    pub free: Option<u64>,
    /// Whether a file can be created there.
    pub write: Result<(), String>,
    /// Whether a file there can be opened past the page cache.
    pub direct: Result<(), String>,
}

impl Facts {
    /// Reads everything. Takes a few milliseconds.
    pub fn gather(data_dir: Option<&Path>) -> Facts {
        let status = read("/proc/self/status").unwrap_or_default();
        let limits = read("/proc/self/limits").unwrap_or_default();
        let cores = field(&status, "Cpus_allowed_list").map(core_list).unwrap_or_default();
        Facts {
            kernel: read("/proc/sys/kernel/osrelease"),
            io_uring_disabled: read("/proc/sys/kernel/io_uring_disabled").and_then(|text| text.parse().ok()),
            ring: try_ring().map_err(|error| error.to_string()),
            locked_memory: limit(&limits, "Max locked memory"),
            locks_freely: field(&status, "CapEff").is_some_and(may_lock),
            open_files: limit(&limits, "Max open files"),
            siblings: cores.iter().map(|core| siblings(*core)).collect(),
            cpu_quota: cpu_quota(),
            governors: governors(&cores),
            huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| chosen(&text)),
            clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            directory: data_dir.map(directory),
            cores,
        }
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Sets up a ring and asks for the operations that the engine and its executors use.
fn try_ring() -> io::Result<Vec<&'static str>> {
    let ring = IoUring::new(8)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        ("READ", opcode::Read::CODE),
        ("WRITE_FIXED", opcode::WriteFixed::CODE),
        ("FSYNC", opcode::Fsync::CODE),
        ("SEND", opcode::Send::CODE),
        ("RECV", opcode::Recv::CODE),
        ("ACCEPT", opcode::Accept::CODE),
        ("OPENAT", opcode::OpenAt::CODE),
        ("CLOSE", opcode::Close::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("TIMEOUT", opcode::Timeout::CODE),
    ];
    Ok(needed.into_iter().filter(|(_, code)| !probe.is_supported(*code)).map(|(name, _)| name).collect())
}

/// The value of `Name:\tvalue` in a status file.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// A line of `/proc/self/limits`.
fn limit(text: &str, name: &str) -> Option<Limit> {
    let mut words = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
    let mut number = || match words.next()? {
        "unlimited" => Some(None),
        digits => digits.parse().ok().map(Some),
    };
    Some(Limit { soft: number()?, hard: number()? })
}

/// `CAP_IPC_LOCK` is bit 14 of the effective capabilities.
fn may_lock(capabilities: &str) -> bool {
    u64::from_str_radix(capabilities, 16).is_ok_and(|bits| bits >> 14 & 1 == 1)
}

/// Reads `0-3,8,10-11`.
fn core_list(text: &str) -> Vec<u32> {
    let mut cores = Vec::new();
    for part in text.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<u32>(), to.parse::<u32>()) {
            cores.extend((from..=to).take(1 << 16));
        }
    }
    cores
}

fn siblings(core: u32) -> Vec<u32> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    read(path).map(|text| core_list(&text)).unwrap_or_else(|| vec![core])
}

fn governors(cores: &[u32]) -> Vec<String> {
    let path = |core: &u32| format!("/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor");
    let mut names: Vec<String> = cores.iter().filter_map(|core| read(path(core))).collect();
    names.sort();
    names.dedup();
    names
}

/// The tightest quota of this control group and those above it, version 2 or 1.
fn cpu_quota() -> Option<f64> {
    let groups = read("/proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let unified = own.into_iter().flat_map(|group| {
        Path::new("/sys/fs/cgroup")
            .join(group.trim_start_matches('/'))
            .ancestors()
            .map(Path::to_owned)
            .collect::<Vec<_>>()
    });
    let unified = unified.filter_map(|group| quota(&read(group.join("cpu.max"))?));
    let legacy = || {
        let [quota_us, period_us] =
            ["quota", "period"].map(|name| read(format!("/sys/fs/cgroup/cpu/cpu.cfs_{name}_us")));
        quota(&format!("{} {}", quota_us?, period_us?))
    };
    unified.chain(legacy()).reduce(f64::min)
}

/// Reads `quota period` in microseconds; `max` or `-1` is no quota.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}

/// The bracketed word of `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word.to_owned())
}

fn directory(path: &Path) -> DirectoryFacts {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let existing = existing.canonicalize().unwrap_or_else(|_| existing.to_owned());
    let mounts = read("/proc/self/mountinfo").unwrap_or_default();
    let (write, direct) = try_files(&existing);
    DirectoryFacts {
        path: path.to_owned(),
        kind: mount_kind(&mounts, &existing),
        free: free_space(&existing),
        write,
        direct,
    }
}

/// Creates a file, opens it for direct I/O, and removes it whatever happens.
fn try_files(directory: &Path) -> (Result<(), String>, Result<(), String>) {
    if !directory.is_dir() {
        let message = format!("`{}` is not a directory", directory.display());
        return (Err(message.clone()), Err(message));
    }
    let path = directory.join(format!(".corefold-doctor-{}", std::process::id()));
    let write = OpenOptions::new().write(true).create_new(true).open(&path).map(drop);
    let direct = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&path).map(drop);
    if write.is_ok() {
        // A file that cannot be removed again is left behind empty; its name says whose it is.
        let _ = fs::remove_file(&path);
    }
    (write.map_err(|error| error.to_string()), direct.map_err(|error| error.to_string()))
}

/// The type of the file system that `path` is on: of the longest mount point above it, the last one mounted.
fn mount_kind(mounts: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next()) else { continue };
        let point = unescape(point);
        let length = point.as_os_str().len();
        if path.starts_with(&point) && best.is_none_or(|(longest, _)| length >= longest) {
            best = Some((length, kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

/// Undoes `\040` and the like in a mount point.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))
}

/// Bytes free for this user on the file system of `path`.
fn free_space(path: &Path) -> Option<u64> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` ends with a NUL and `answer` is writable memory of the right type; both live past the call.
    let result = unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: the call succeeded, and all bytes were zero before it, which is a valid value of this plain struct.
    let answer = unsafe { answer.assume_init() };
    Some(answer.f_bavail.saturating_mul(answer.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_texts_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n\
                      Max locked memory         8388608              unlimited            bytes     \n";
        assert_eq!(limit(limits, "Max open files"), Some(Limit { soft: Some(1024), hard: Some(524_288) }));
        assert_eq!(limit(limits, "Max locked memory"), Some(Limit { soft: Some(8 << 20), hard: None }));
        assert_eq!(limit(limits, "Max cpu"), None);
        let status = "CapEff:\t0000000000004000\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1,4\n";
        assert_eq!(field(status, "Cpus_allowed_list").map(core_list), Some(vec![0, 1, 4]));
        assert_eq!(field(status, "CapEff").map(may_lock), Some(true));
        assert!(!may_lock("3fff") && !may_lock("x"));
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!((quota("150000 100000"), quota("max 100000"), quota("-1 100000")), (Some(1.5), None, None));
        assert_eq!((core_list(""), core_list("7")), (vec![], vec![7]));
    }

    #[test]
    fn the_longest_mount_point_counts() {
        let mounts = "1 0 254:0 / / rw - ext4 /dev/vda rw\n\
                      2 1 0:21 / /data rw shared:1 - xfs /dev/vdb rw\n\
                      3 2 0:22 / /data/a\\040b rw - tmpfs tmpfs rw\n\
                      4 1 0:23 / /data rw - btrfs /dev/vdc rw\n";
        for (path, kind) in [
            ("/home/x", "ext4"),
            ("/database", "ext4"),
            ("/data", "btrfs"),
            ("/data/c", "btrfs"),
            ("/data/a b/c", "tmpfs"),
        ] {
            assert_eq!(mount_kind(mounts, Path::new(path)).as_deref(), Some(kind), "{path}");
        }
        assert_eq!(mount_kind("", Path::new("/")), None);
    }

    #[test]
    fn directories_are_tried() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let facts = super::directory(directory.path());
        assert_eq!(facts.write, Ok(()));
        assert!(facts.free.is_some_and(|free| free > 0));
        let file = directory.path().join("file");
        fs::write(&file, "").expect("writable");
        assert!(super::directory(&file.join("below")).write.unwrap_err().contains("is not a directory"));
    }
}
