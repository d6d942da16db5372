//! Where an export goes: standard output, a pipe or device, or a file that appears whole or not at all.
//!
//! What the bytes mean is not here; the formats write through a [`Sink`].

use super::aside::{Aside, Extent};
use super::error::ExportError;
use crate::disk::uncached::UncachedFile;
use crate::disk::writeback::Writeback;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes gathered before they go to the system.
const BUFFER_SIZE: usize = if cfg!(test) { 512 } else { 256 * 1024 };

/// Most symbolic links followed to find the file behind an output path, as in the kernel.
const LINKS_MAX: usize = 40;

/// Attempts to make a temporary file before it counts as held by this process.
const ATTEMPTS_MAX: usize = 20;

/// Where an export goes.
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, written aside and renamed when complete; pipes and devices are written directly.
    File(PathBuf),
    /// Anything that takes bytes; nothing is synced or renamed.
    Writer(Box<dyn Write + Send>),
}

impl Target {
    /// What `--output ARGUMENT` names: `-` and `/dev/stdout` are standard output.
    pub fn from_argument(argument: impl Into<PathBuf>) -> Target {
        let path = argument.into();
        if path == Path::new("-") || path == Path::new("/dev/stdout") { Target::Stdout } else { Target::File(path) }
    }

    /// Name for messages.
    pub fn name(&self) -> PathBuf {
        match self {
            Target::Stdout => PathBuf::from("standard output"),
            Target::File(path) => path.clone(),
            Target::Writer(_) => PathBuf::from("the output"),
        }
    }

    /// A directory on whose disk there should be room for about as much as the output itself.
    pub(super) fn spill_directory(&self) -> PathBuf {
        match self {
            Target::File(path) if !is_direct(path) => match follow_links(path) {
                Ok(path) => parent_of(&path),
                Err(_) => parent_of(path),
            },
            _ => std::env::temp_dir(),
        }
    }
}

/// Takes the bytes of one export. A failed write latches: later writes and the finish repeat the failure.
/// Dropped without [`Sink::finish`], it removes what it made.
pub(super) struct Sink {
    name: PathBuf,
    out: Out,
    buffer: Vec<u8>,
    passed_on: u64,
    /// CRC-32C of what was passed on to a file aside.
    crc: u32,
    writeback: Writeback,
    prepared: bool,
    failure: Option<io::Error>,
}

enum Out {
    Direct(Box<dyn Write + Send>),
    Staged(Staged),
    Aside(Aside),
}

/// Whether temporaries of dead runs are looked for when a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sweep {
    /// Look for those of the same output and remove them.
    Yes,
    /// The directory was swept before.
    No,
}

impl Sink {
    /// Opens `target`, so that most reasons to fail show before any work is done.
    pub(super) fn open(target: Target) -> Result<Sink, ExportError> {
        let name = target.name();
        let out = match target {
            Target::Stdout => Out::Direct(Box::new(stdout().map_err(|cause| open_error(&name, cause))?)),
            Target::Writer(writer) => Out::Direct(writer),
            Target::File(path) => open_path(&path, Sweep::Yes)?,
        };
        Ok(Sink::new(name, out))
    }

    /// Opens one file of many in a directory that the caller has swept.
    pub(super) fn open_part(path: PathBuf) -> Result<Sink, ExportError> {
        let out = open_path(&path, Sweep::No)?;
        Ok(Sink::new(path, out))
    }

    /// Continues a file aside behind the `extent` that it has.
    pub(super) fn aside(aside: Aside, extent: Extent) -> Sink {
        let sink = Sink::new(aside.path().to_path_buf(), Out::Aside(aside));
        Sink { passed_on: extent.bytes, crc: extent.crc, ..sink }
    }

    /// Makes all bytes taken so far durable; more may follow. Returns how many they are. Only for files aside.
    pub(super) fn sync(&mut self) -> Result<Extent, ExportError> {
        self.drain().map_err(|cause| self.write_error(cause))?;
        if let Out::Aside(aside) = &mut self.out {
            aside.sync()?;
        }
        Ok(self.extent())
    }

    /// What was passed on so far.
    pub(super) fn extent(&self) -> Extent {
        Extent { bytes: self.passed_on, crc: self.crc }
    }

    /// The file aside that this writes, if it does.
    pub(super) fn aside_mut(&mut self) -> Option<&mut Aside> {
        match &mut self.out {
            Out::Aside(aside) => Some(aside),
            Out::Direct(_) | Out::Staged(_) => None,
        }
    }

    fn write_error(&self, cause: io::Error) -> ExportError {
        let error = ExportError::from_write(&self.name, cause);
        match &self.out {
            Out::Aside(aside) if aside.is_committed() => error.of_committed(),
            _ => error,
        }
    }

    fn new(name: PathBuf, out: Out) -> Sink {
        Sink {
            name,
            out,
            buffer: Vec::with_capacity(BUFFER_SIZE + BUFFER_SIZE / 4),
            passed_on: 0,
            crc: 0,
            writeback: Writeback::default(),
            prepared: false,
            failure: None,
        }
    }

    /// Where text is appended; [`Sink::relieve`] must be called now and then.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Passes the buffer on if it is full.
    pub(super) fn relieve(&mut self) -> Result<(), ExportError> {
        if self.buffer.len() < BUFFER_SIZE {
            return Ok(());
        }
        self.drain().map_err(|cause| self.write_error(cause))
    }

    /// Bytes taken so far.
    pub(super) fn size(&self) -> u64 {
        self.passed_on + self.buffer.len() as u64
    }

    /// The error behind a failure that a format library reports as `reason`.
    pub(super) fn explain(&self, reason: &dyn std::fmt::Display) -> ExportError {
        match &self.failure {
            Some(cause) => self.write_error(repeat(cause)),
            None => ExportError::Encode { path: self.name.clone(), reason: reason.to_string() },
        }
    }

    /// Name for messages.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// Passes on the rest; the bytes of a file are durable then, but without their name. Nothing may follow.
    pub(super) fn prepare(&mut self) -> Result<(), ExportError> {
        if self.prepared {
            return Ok(());
        }
        self.drain().map_err(|cause| self.write_error(cause))?;
        let flushed = match &mut self.out {
            Out::Direct(writer) => writer.flush(),
            Out::Staged(staged) => staged.file.flush(),
            Out::Aside(_) => Ok(()),
        };
        flushed.inspect_err(|cause| self.failure = Some(repeat(cause))).map_err(|cause| self.write_error(cause))?;
        match &mut self.out {
            Out::Direct(_) => {}
            Out::Staged(staged) => staged.sync()?,
            Out::Aside(aside) => aside.sync()?,
        }
        self.prepared = true;
        Ok(())
    }

    /// Whether everything has been passed on.
    pub(super) fn is_prepared(&self) -> bool {
        self.prepared
    }

    /// Prepares what is not, and makes a file durable under its name. Returns the size in bytes.
    pub(super) fn finish(&mut self) -> Result<u64, ExportError> {
        self.prepare()?;
        match &mut self.out {
            Out::Direct(_) => {}
            Out::Staged(staged) => staged.commit()?,
            Out::Aside(aside) => aside.install()?,
        }
        Ok(self.passed_on)
    }

    fn drain(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.pass_on(&buffer);
        buffer.clear();
        self.buffer = buffer;
        result
    }

    fn pass_on(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(cause) = &self.failure {
            return Err(repeat(cause));
        }
        let result = match &mut self.out {
            Out::Direct(writer) => writer.write_all(bytes),
            Out::Staged(staged) => staged.file.write(bytes),
            Out::Aside(aside) => aside.write(bytes),
        };
        result.inspect_err(|cause| self.failure = Some(repeat(cause)))?;
        self.passed_on += bytes.len() as u64;
        if let Out::Aside(aside) = &self.out {
            self.writeback.advance(aside.file(), self.passed_on);
            self.crc = crc32c::crc32c_append(self.crc, bytes);
        }
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() >= BUFFER_SIZE {
            // Not copied once more.
            self.drain()?;
            self.pass_on(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
            if self.buffer.len() >= BUFFER_SIZE {
                self.drain()?;
            }
        }
        Ok(bytes.len())
    }

    /// Does nothing: the sink itself decides when bytes go out, so that few large writes are made.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file being written beside its final place.
struct Staged {
    file: UncachedFile,
    temporary: PathBuf,
    path: PathBuf,
    made: MadeDirectories,
    committed: bool,
}

impl Staged {
    fn create(path: PathBuf, sweep_first: Sweep) -> Result<Staged, ExportError> {
        let directory = parent_of(&path);
        let made = MadeDirectories::make(&directory)?;
        let name = path.file_name().unwrap_or_default();
        if sweep_first == Sweep::Yes {
            sweep(&directory, |output| output == name.as_bytes());
        }
        let mut temporary_name = OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{}.tmp", std::process::id()));
        let temporary = directory.join(temporary_name);
        // A run that is sweeping may take the new file for a stale one before it is locked. Then it has no name
        // any more, and a later attempt makes another.
        for _ in 0..ATTEMPTS_MAX {
            let file = match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => file,
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                    if !remove_if_stale(&temporary) {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    continue;
                }
                Err(cause) => return Err(open_error(&path, cause)),
            };
            // The lock tells a living run from a dead one even where process numbers are reused or belong to
            // another container. File systems without locks go without sweeping.
            if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
                continue;
            }
            if file.metadata().is_ok_and(|metadata| metadata.nlink() == 0) {
                continue;
            }
            return Ok(Staged { file: UncachedFile::new(file), temporary, path, made, committed: false });
        }
        Err(ExportError::Busy { path })
    }

    /// Data first.
    fn sync(&mut self) -> Result<(), ExportError> {
        if let Ok(replaced) = fs::metadata(&self.path) {
            // Best effort: whoever could read the old output can read the new one.
            let _ = self.file.file().set_permissions(replaced.permissions());
        }
        self.file.file().sync_all().map_err(|cause| ExportError::from_commit(&self.path, "synced", cause))
    }

    /// Then the name, then the directories that hold the names.
    fn commit(&mut self) -> Result<(), ExportError> {
        let path = &self.path;
        fs::rename(&self.temporary, path)
            .map_err(|cause| ExportError::from_commit(path, "renamed into place", cause))?;
        self.committed = true;
        let made = std::mem::take(&mut self.made.0);
        let synced = std::iter::once(parent_of(path)).chain(made.iter().map(|directory| parent_of(directory)));
        for directory in synced {
            sync_directory(&directory)
                .map_err(|cause| ExportError::from_commit(path, "made durable (it is complete, though)", cause))?;
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            // Nobody is left to tell if this fails; the next run of the same output sweeps.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Directories made for an output, outermost first. Those that are still empty are removed on drop.
struct MadeDirectories(Vec<PathBuf>);

impl MadeDirectories {
    fn make(directory: &Path) -> Result<MadeDirectories, ExportError> {
        let mut missing = Vec::new();
        let mut place = directory.to_path_buf();
        while !place.exists() && !missing.contains(&place) {
            let parent = parent_of(&place);
            missing.push(place);
            place = parent;
        }
        let mut made = MadeDirectories(Vec::new());
        for place in missing.into_iter().rev() {
            match fs::create_dir(&place) {
                Ok(()) => made.0.push(place),
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(ExportError::CreateDirectory { path: place, cause }),
            }
        }
        Ok(made)
    }
}

impl Drop for MadeDirectories {
    fn drop(&mut self) {
        for directory in self.0.iter().rev() {
            // Fails when something else was put there, and then it must stay.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Removes temporaries of runs that died while writing an output whose name satisfies `ours`.
pub(super) fn sweep(directory: &Path, ours: impl Fn(&[u8]) -> bool) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let regular = entry.file_type().is_ok_and(|kind| kind.is_file());
        if regular && output_of_temporary(&name).is_some_and(&ours) {
            remove_if_stale(&directory.join(name));
        }
    }
}

/// The output name within `.NAME.<pid>.tmp`.
fn output_of_temporary(name: &OsStr) -> Option<&[u8]> {
    let inner = name.as_bytes().strip_prefix(b".")?.strip_suffix(b".tmp")?;
    let dot = inner.iter().rposition(|&byte| byte == b'.')?;
    let (output, pid) = (&inner[..dot], &inner[dot + 1..]);
    (!pid.is_empty() && pid.iter().all(u8::is_ascii_digit)).then_some(output)
}

/// Removes `temporary` if no living run holds it, and says whether it is gone.
fn remove_if_stale(temporary: &Path) -> bool {
    match File::open(temporary) {
        // Held while removing, so that a run that just made it notices.
        Ok(file) if file.try_lock().is_ok() => fs::remove_file(temporary).is_ok(),
        Ok(_) => false,
        Err(cause) => cause.kind() == io::ErrorKind::NotFound,
    }
}

fn open_path(path: &Path, sweep_first: Sweep) -> Result<Out, ExportError> {
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(ExportError::IsDirectory { path: path.to_path_buf() });
    }
    let resolved = follow_links(path).map_err(|cause| open_error(path, cause))?;
    let existing = fs::metadata(path).ok();
    if existing.as_ref().is_some_and(fs::Metadata::is_dir) || resolved.file_name().is_none() {
        return Err(ExportError::IsDirectory { path: path.to_path_buf() });
    }
    if is_direct(path) {
        // Appending keeps what `>>` found in the file behind a descriptor; pipes and devices do not mind.
        let file = OpenOptions::new().append(true).open(path).map_err(|cause| open_error(path, cause))?;
        return Ok(Out::Direct(Box::new(file)));
    }
    Ok(Out::Staged(Staged::create(resolved, sweep_first)?))
}

/// Whether `path` must be written where it is: pipes, devices and open descriptors of this process.
pub(super) fn is_direct(path: &Path) -> bool {
    let descriptor = path.starts_with("/dev/fd")
        || path.starts_with("/proc/self/fd")
        || path == Path::new("/dev/stderr")
        || path == Path::new("/dev/stdout");
    descriptor || fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// The path behind symbolic links, so that the rename replaces the file and not the link.
pub(super) fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(behind) => path = parent_of(&path).join(behind),
            // Not a link, or not there yet.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// The directory of `path`, never empty.
pub(super) fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        Some(_) => PathBuf::from("."),
        None => path.to_path_buf(),
    }
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // Some network and user-space file systems have no such call.
        Err(cause) if cause.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

/// A file over descriptor 1: `std::io::Stdout` would search every buffer for line ends.
fn stdout() -> io::Result<File> {
    let mut stdout = io::stdout();
    stdout.flush()?;
    Ok(File::from(stdout.as_fd().try_clone_to_owned()?))
}

pub(super) fn open_error(path: &Path, cause: io::Error) -> ExportError {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ExportError::from_write(path, cause),
        _ => ExportError::Open { path: path.to_path_buf(), cause },
    }
}

fn repeat(cause: &io::Error) -> io::Error {
    match cause.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(cause.kind(), cause.to_string()),
    }
}
