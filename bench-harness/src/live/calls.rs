//! A child whose every call that changes files is held up until it has been decided: let go, failed, or killed there.
//!
//! So a process dies, or is refused, exactly before a named step: the rename of a snapshot, the sync of a directory.
//! The kernel does the holding up (seccomp user notification), the program under test is the unchanged one. Writes
//! through io_uring do not come by here; kills at random moments and broken disks are for those.

use super::child::Running;
use super::system::{before_exec, check};
use super::{Checked, fail, skip};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Where the child keeps the other end; high enough to be free.
const LISTENER: libc::c_int = 250;

/// How long one look at the listener takes at most.
const LOOK_EVERY_MS: libc::c_int = 20;

/// How a call names the files it changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Names {
    /// An open file.
    File,
    /// A path.
    Path,
    /// Two paths.
    Paths,
    /// A path below a directory.
    At,
    /// Two paths, each below a directory.
    AtTwice,
    /// As `At`, and only if the file may be made or cut.
    Open,
}

/// Calls that change files, with what they name; and those that read, which are held up if asked for.
const CALLS: &[(i64, &str, Names)] = &[
    (libc::SYS_write, "write", Names::File),
    (libc::SYS_writev, "write", Names::File),
    (libc::SYS_pwrite64, "write", Names::File),
    (libc::SYS_pwritev, "write", Names::File),
    (libc::SYS_fsync, "sync", Names::File),
    (libc::SYS_fdatasync, "sync", Names::File),
    (libc::SYS_ftruncate, "truncate", Names::File),
    (libc::SYS_fallocate, "allocate", Names::File),
    (libc::SYS_renameat2, "rename", Names::AtTwice),
    (libc::SYS_linkat, "link", Names::AtTwice),
    (libc::SYS_unlinkat, "remove", Names::At),
    (libc::SYS_mkdirat, "make directory", Names::At),
    (libc::SYS_openat, "make", Names::Open),
    (libc::SYS_read, "read", Names::File),
    (libc::SYS_pread64, "read", Names::File),
    (libc::SYS_preadv, "read", Names::File),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "rename", Names::Paths),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_renameat, "rename", Names::AtTwice),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_link, "link", Names::Paths),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "remove", Names::Path),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, "remove", Names::Path),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, "make directory", Names::Path),
];

/// What a child is about to do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Step {
    /// In a word.
    pub call: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// Its new name, for a rename.
    pub to: Option<PathBuf>,
}

/// What is to happen to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is done.
    Go,
    /// It is not done and fails with this number.
    Refuse(i32),
    /// It is not done, and the process is no more.
    Kill,
}

impl Step {
    /// The kind of step: call and paths below `root`, with digits left out; `None` if it is elsewhere.
    pub fn kind(&self, root: &Path) -> Option<String> {
        let from = shape(self.path.strip_prefix(root).ok()?);
        let to = self.to.as_ref().and_then(|to| to.strip_prefix(root).ok()).map(shape);
        Some(match to {
            Some(to) => format!("{} {from} to {to}", self.call),
            None => format!("{} {from}", self.call),
        })
    }
}

/// A path with `#` for every run of digits, and for what names a store in eight hexadecimal digits.
fn shape(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_mark = |word: &str| word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words: Vec<&str> = text.split('.').map(|word| if is_mark(word) { "0" } else { word }).collect();
    let mut shape = String::new();
    for character in words.join(".").chars() {
        match character {
            '0'..='9' if shape.ends_with('#') => {}
            '0'..='9' => shape.push('#'),
            other => shape.push(other),
        }
    }
    // The part names hold times whose fractions and signs vary.
    shape.replace("#.#Z", "#Z").replace("#T#Z", "#")
}

/// A child under supervision.
#[derive(Debug)]
pub struct Supervised {
    /// The child.
    pub running: Running,
    listener: OwnedFd,
}

impl Supervised {
    /// Starts a child whose calls are held up.
    pub fn start(command: &mut Command, stderr: &Path) -> Checked<Supervised> {
        Supervised::start_filtered(command, stderr, filter(|call| call != "read"))
    }

    /// As [`Supervised::start`], and calls that read are held up too.
    pub fn start_with_reads(command: &mut Command, stderr: &Path) -> Checked<Supervised> {
        Supervised::start_filtered(command, stderr, filter(|_| true))
    }

    fn start_filtered(command: &mut Command, stderr: &Path, filter: Vec<libc::sock_filter>) -> Checked<Supervised> {
        before_exec(command, move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            // SAFETY: plain system calls; the program outlives the second, which copies it and does not write to it.
            unsafe {
                check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
                let operation = libc::SECCOMP_SET_MODE_FILTER;
                let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
                let listener = libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program) as libc::c_int;
                if listener < 0 || libc::dup2(listener, LISTENER) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
        let running = match Running::start(command, stderr) {
            Ok(running) => running,
            Err(error) => return skip(format!("calls cannot be held up here (seccomp user notification): {error}")),
        };
        match listener_of(running.process()) {
            Ok(listener) => Ok(Supervised { running, listener }),
            Err(error) => skip(format!("calls cannot be held up here (pidfd_getfd): {error}")),
        }
    }

    /// Lets it run to its end, or to where `decide` kills it.
    pub fn watch(mut self, patience: Duration, mut decide: impl FnMut(&Step) -> Verdict) -> Checked<Running> {
        let deadline = Instant::now() + patience;
        while !self.running.has_ended()? {
            if Instant::now() > deadline {
                return fail(format!("still running after {patience:?}: {}", self.running.said()));
            }
            if !self.has_news()? {
                continue;
            }
            let Some(held) = self.receive()? else { continue };
            let verdict = match self.step(&held) {
                Some(step) if self.is_valid(held.id) => decide(&step),
                _ => Verdict::Go,
            };
            match verdict {
                Verdict::Go => self.answer(held.id, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32)?,
                Verdict::Refuse(errno) => self.answer(held.id, -errno, 0)?,
                Verdict::Kill => {
                    self.running.signal(libc::SIGKILL)?;
                    return Ok(self.running);
                }
            }
        }
        Ok(self.running)
    }

    fn has_news(&self) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd: self.listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure that lives over the call.
        let count = unsafe { libc::poll(&raw mut poll, 1, LOOK_EVERY_MS) };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        if poll.revents & libc::POLLHUP != 0 {
            // The process is going away; its end is about to show.
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(poll.revents & libc::POLLIN != 0)
    }

    /// The next call; `None` if its caller has died meanwhile.
    fn receive(&self) -> io::Result<Option<libc::seccomp_notif>> {
        // SAFETY: all zeros are a value of this type, and what the call demands.
        let mut held: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open, and `held` is room for what the call writes.
        let result =
            unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut held) };
        match check(result) {
            Ok(()) => Ok(Some(held)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_valid(&self, id: u64) -> bool {
        // SAFETY: the descriptor is open, and the call reads one integer that lives over it.
        unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _, &raw const id) == 0 }
    }

    fn answer(&self, id: u64, error: i32, flags: u32) -> io::Result<()> {
        let answer = libc::seccomp_notif_resp { id, val: 0, error, flags };
        // SAFETY: the descriptor is open, and `answer` lives over the call.
        let result =
            unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw const answer) };
        match check(result) {
            // The caller has died meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// What a held call is about to do; `None` if it changes no file.
    fn step(&self, held: &libc::seccomp_notif) -> Option<Step> {
        let (_, call, names) = CALLS.iter().find(|known| known.0 == i64::from(held.data.nr))?;
        let process = Path::new("/proc").join(held.pid.to_string());
        let memory = File::open(process.join("mem")).ok()?;
        let argument = |index: usize| held.data.args[index];
        let below = |directory: u64, name: PathBuf| {
            let link = match directory as i32 {
                libc::AT_FDCWD => process.join("cwd"),
                open => process.join("fd").join(open.to_string()),
            };
            if name.is_absolute() { Some(name) } else { Some(fs::read_link(link).ok()?.join(name)) }
        };
        let here = libc::AT_FDCWD as u32 as u64;
        let text = |index: usize| read_text(&memory, argument(index));
        let (path, to) = match names {
            Names::File => (fs::read_link(process.join("fd").join(argument(0).to_string())).ok()?, None),
            Names::Path => (below(here, text(0)?)?, None),
            Names::Paths => (below(here, text(0)?)?, below(here, text(1)?)),
            Names::At => (below(argument(0), text(1)?)?, None),
            Names::AtTwice => (below(argument(0), text(1)?)?, below(argument(2), text(3)?)),
            Names::Open => {
                let flags = argument(2) as i32;
                if flags & (libc::O_CREAT | libc::O_TRUNC) == 0 {
                    return None;
                }
                (below(argument(0), text(1)?)?, None)
            }
        };
        Some(Step { call, path, to })
    }
}

/// A text in the memory of another process.
fn read_text(memory: &File, address: u64) -> Option<PathBuf> {
    let mut bytes = vec![0; 4096];
    // A text may end just before memory that is not there.
    let first = 4096 - (address % 4096) as usize;
    let mut length = memory.read_at(&mut bytes[..first], address).ok()?;
    if !bytes[..length].contains(&0) {
        length += memory.read_at(&mut bytes[length..], address + length as u64).ok()?;
    }
    let end = bytes[..length].iter().position(|byte| *byte == 0)?;
    Some(PathBuf::from(String::from_utf8_lossy(&bytes[..end]).into_owned()))
}

/// Holds up the wanted calls of the list and lets all others pass.
fn filter(is_wanted: impl Fn(&str) -> bool) -> Vec<libc::sock_filter> {
    let wanted: Vec<u32> = CALLS.iter().filter(|call| is_wanted(call.1)).map(|call| call.0 as u32).collect();
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (index, &number) in wanted.iter().enumerate() {
        // Past the comparisons left and the statement that lets pass.
        let jump = (wanted.len() - index) as u8;
        filter.push(libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: jump,
            jf: 0,
            k: number,
        });
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF));
    filter
}

/// This process's own descriptor of the child's listener.
fn listener_of(process: u32) -> io::Result<OwnedFd> {
    let take = |number: i64| {
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(number as libc::c_int) })
    };
    // SAFETY: a plain system call.
    let handle = take(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })?;
    // SAFETY: a plain system call.
    take(unsafe { libc::syscall(libc::SYS_pidfd_getfd, handle.as_raw_fd(), LISTENER, 0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_steps_have_no_numbers() {
        let root = Path::new("/place");
        let step = |call, path: &str, to: Option<&str>| Step { call, path: path.into(), to: to.map(PathBuf::from) };
        let made =
            step("rename", "/place/store/shard-0001/wal/0007.wal.tmp", Some("/place/store/shard-0001/wal/0007.wal"));
        let expected = "rename store/shard-#/wal/#.wal.tmp to store/shard-#/wal/#.wal";
        assert_eq!(made.kind(root).as_deref(), Some(expected));
        let part = step("write", "/place/out/.part-20130101T050000.5Z-0000.csv.12.tmp", None);
        assert_eq!(part.kind(root).as_deref(), Some("write out/.part-#-#.csv.#.tmp"));
        let open = step("write", "/place/out/.all.ndjson.661c40fd.open", None);
        assert_eq!(open.kind(root).as_deref(), Some("write out/.all.ndjson.#.open"));
        assert_eq!(step("write", "/elsewhere/7", None).kind(root), None);
    }
}
