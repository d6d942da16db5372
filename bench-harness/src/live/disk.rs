//! A disk of one's own: ext4 on a loop device whose backing file can be taken away, filled or cut off.
//!
//! Guards detach and remove what they made. Running jobs on it is not here.

use super::{Checked, fail, skip, system};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// ext4 on a loop device.
#[derive(Debug)]
pub struct LoopDisk {
    backing: PathBuf,
    device: String,
    mount: PathBuf,
    is_mounted: bool,
    is_frozen: bool,
}

/// A file system in memory.
#[derive(Debug)]
pub struct MemoryDisk {
    mount: PathBuf,
}

/// Why nothing can be mounted here, if so.
pub fn needs_root() -> Checked {
    if !system::is_root() {
        return skip("needs root, to mount");
    }
    for program in ["losetup", "mkfs.ext4", "mount"] {
        if let Err(error) = Command::new(program).arg("--version").output() {
            return skip(format!("needs {program}: {error}"));
        }
    }
    Ok(())
}

/// Runs a program of the system; what it prints is its answer, or the failure.
pub fn tool(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{program} {}: {said}", arguments.join(" "))))
}

/// Unmounts. Processes that used the disk must have ended; the kernel may need a moment after that.
pub fn unmount(mount: &Path) -> Checked {
    for _ in 0..2_000 {
        match system::unmount(mount) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            result => return Ok(result?),
        }
    }
    fail(format!("{} stays in use", mount.display()))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

impl LoopDisk {
    /// Makes a disk of so many bytes in the file `backing` and mounts it on `mount`.
    pub fn new(backing: &Path, mount: &Path, bytes: u64) -> Checked<LoopDisk> {
        needs_root()?;
        File::create(backing)?.set_len(bytes)?;
        let device = match tool("losetup", &["--find", "--show", text(backing)]) {
            Ok(device) => device,
            Err(error) => return skip(format!("no loop device: {error}")),
        };
        let mount = mount.to_owned();
        let mut disk = LoopDisk { backing: backing.to_owned(), device, mount, is_mounted: false, is_frozen: false };
        // Inode tables are written now, so that no thread of the kernel writes them later.
        let options = ["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-N", "4096", "-J", "size=4"];
        tool("mkfs.ext4", &[&options[..], &[&disk.device]].concat())?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// The file behind it.
    pub fn backing(&self) -> &Path {
        &self.backing
    }

    /// The device.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Mounts it again.
    pub fn mount(&mut self) -> Checked {
        fs::create_dir_all(&self.mount)?;
        tool("mount", &["-t", "ext4", &self.device, text(&self.mount)])?;
        self.is_mounted = true;
        Ok(())
    }

    /// Takes it down.
    pub fn unmount(&mut self) -> Checked {
        unmount(&self.mount)?;
        self.is_mounted = false;
        Ok(())
    }

    /// Lets every write wait.
    pub fn freeze(&mut self) -> Checked {
        tool("fsfreeze", &["--freeze", text(&self.mount)])?;
        self.is_frozen = true;
        Ok(())
    }

    /// Lets writes go on.
    pub fn thaw(&mut self) -> Checked {
        tool("fsfreeze", &["--unfreeze", text(&self.mount)])?;
        self.is_frozen = false;
        Ok(())
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // Each step is tried whatever came of the one before: nothing may be left frozen or mounted.
        if self.is_frozen {
            let _ = self.thaw();
        }
        if self.is_mounted && self.unmount().is_err() {
            let _ = tool("umount", &["--lazy", text(&self.mount)]);
        }
        let _ = tool("losetup", &["--detach", &self.device]);
        let _ = fs::remove_file(&self.backing);
    }
}

impl MemoryDisk {
    /// Mounts a file system of so many bytes in memory.
    pub fn new(mount: &Path, bytes: u64) -> Checked<MemoryDisk> {
        needs_root()?;
        fs::create_dir_all(mount)?;
        tool("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs", text(mount)])?;
        Ok(MemoryDisk { mount: mount.to_owned() })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for MemoryDisk {
    fn drop(&mut self) {
        if system::unmount(&self.mount).is_err() {
            let _ = tool("umount", &["--lazy", text(&self.mount)]);
        }
    }
}
