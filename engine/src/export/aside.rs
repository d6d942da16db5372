//! A file that grows aside under a name of its own and stays there between runs, until it is complete and gets its
//! name.
//!
//! Which of its bytes are committed is noted elsewhere, in [`crate::manifest`]; files that do not outlive their run
//! are [`super::target`]'s.

use super::error::ExportError;
use super::target::{open_error, parent_of, sync_directory};
use crate::manifest::steps::{Step, taken};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a file that another process holds is waited for: one that is being killed lets go of it last.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Bytes read at once to check what is committed.
const READ_SIZE: usize = 1 << 20;

/// A beginning of a file: how long it is, and its CRC-32C.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Extent {
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
}

/// The name under which the output `path` of the data directory with the UUID `store` grows: hidden from patterns such
/// as `*` and `*.csv`, and from those who read whole directories.
pub(super) fn aside_of(path: &Path, store: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent_of(path).join(format!(".{name}.{}.open", tag(store)))
}

/// The output that the file called `name` grows for, if it is one of the data directory's.
pub(super) fn output_of_aside<'a>(name: &'a str, store: &str) -> Option<&'a str> {
    name.strip_prefix('.')?.strip_suffix(".open")?.strip_suffix(tag(store))?.strip_suffix('.')
}

/// The first digits of a UUID: enough to tell whose an unfinished file is.
fn tag(store: &str) -> &str {
    store.get(..8).unwrap_or(store)
}

/// A growing file, held by this process. Dropped before anything of it is committed, it is removed.
pub(super) struct Aside {
    file: File,
    aside: PathBuf,
    path: PathBuf,
    /// Whether its name aside is durable.
    is_named: bool,
    is_committed: bool,
}

impl Aside {
    /// Begins the file that will be `path`. What lies at `aside` is overwritten: it was never committed.
    pub(super) fn create(path: PathBuf, aside: PathBuf) -> Result<Aside, ExportError> {
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&aside);
        let file = opened.map_err(|cause| open_error(&path, cause))?;
        hold(&file, &path)?;
        file.set_len(0).map_err(|cause| open_error(&path, cause))?;
        taken(Step::Changed(&aside));
        Ok(Aside { file, aside, path, is_named: false, is_committed: false })
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Goes on behind the committed `extent`. Bytes behind it are cut; those before must be what they were.
    pub(super) fn reopen(path: PathBuf, aside: PathBuf, extent: Extent) -> Result<Aside, ExportError> {
        let mut file = match OpenOptions::new().read(true).write(true).open(&aside) {
            Ok(file) => file,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return Err(ExportError::Missing { aside, bytes: extent.bytes });
            }
            Err(cause) => return Err(open_error(&aside, cause)),
        };
        hold(&file, &aside)?;
        check(&mut file, &aside, extent)?;
        let cut = file.set_len(extent.bytes).and_then(|()| file.seek(SeekFrom::Start(extent.bytes)));
        cut.map_err(|cause| open_error(&aside, cause))?;
        taken(Step::Changed(&aside));
        Ok(Aside { file, aside, path, is_named: true, is_committed: true })
    }

    /// The name that it will have.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it grows.
    pub(super) fn aside(&self) -> &Path {
        &self.aside
    }

    /// Whether some of it is committed, so that it must stay.
    pub(super) fn is_committed(&self) -> bool {
        self.is_committed
    }

    /// Notes that some of it is, or may be, committed.
    pub(super) fn keep(&mut self) {
        self.is_committed = true;
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        taken(Step::Changed(&self.aside));
        Ok(())
    }

    /// Makes its bytes durable, and its name the first time.
    pub(super) fn sync(&mut self) -> Result<(), ExportError> {
        let failed = |cause| ExportError::from_commit(&self.path, "synced", cause);
        self.file.sync_data().map_err(failed)?;
        taken(Step::Synced(&self.aside));
        if !self.is_named {
            sync_names(&self.aside).map_err(failed)?;
            self.is_named = true;
        }
        Ok(())
    }

    /// Gives it its name; its bytes are durable already.
    pub(super) fn install(&mut self) -> Result<(), ExportError> {
        if let Ok(replaced) = fs::metadata(&self.path) {
            // Best effort: whoever could read the old output can read the new one.
            let _ = self.file.set_permissions(replaced.permissions());
        }
        // It stays where it is if it cannot get its name: all of it is committed.
        self.is_committed = true;
        install(&self.aside, &self.path)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.is_committed {
            // Nobody is left to tell if this fails; the next run of the same output sweeps.
            let _ = fs::remove_file(&self.aside);
        }
    }
}

/// Moves a complete file from `aside` to its name, durably.
pub(super) fn install(aside: &Path, path: &Path) -> Result<(), ExportError> {
    fs::rename(aside, path).map_err(|cause| ExportError::from_commit(path, "renamed into place", cause))?;
    taken(Step::Changed(path));
    sync_names(path).map_err(|cause| ExportError::from_commit(path, "made durable (it is complete, though)", cause))
}

/// Makes the names beside `path` durable.
pub(super) fn sync_names(path: &Path) -> io::Result<()> {
    let directory = parent_of(path);
    sync_directory(&directory)?;
    taken(Step::NamesSynced(&directory));
    Ok(())
}

/// Whether the file at `path` begins with `extent`; an error says how it differs. `None` if there is no such file.
pub(crate) fn begins_with(path: &Path, extent: Extent) -> io::Result<Option<Result<(), String>>> {
    match File::open(path) {
        Ok(mut file) => compare(&mut file, extent).map(Some),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

fn check(file: &mut File, path: &Path, extent: Extent) -> Result<(), ExportError> {
    match compare(file, extent) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(reason)) => Err(ExportError::Changed { path: path.to_path_buf(), reason }),
        Err(cause) => Err(open_error(path, cause)),
    }
}

/// Reads as many bytes as `extent` has, from the start.
fn compare(file: &mut File, extent: Extent) -> io::Result<Result<(), String>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Err(String::from("it is no regular file")));
    }
    if metadata.len() < extent.bytes {
        return Ok(Err(format!("it has {} bytes, and {} are committed", metadata.len(), extent.bytes)));
    }
    let (mut rest, mut crc) = (extent.bytes, 0);
    let mut buffer = vec![0; READ_SIZE.min(usize::try_from(extent.bytes).unwrap_or(READ_SIZE))];
    while rest > 0 {
        let size = buffer.len().min(usize::try_from(rest).unwrap_or(READ_SIZE));
        file.read_exact(&mut buffer[..size])?;
        crc = crc32c::crc32c_append(crc, &buffer[..size]);
        rest -= size as u64;
    }
    if crc == extent.crc {
        return Ok(Ok(()));
    }
    let (bytes, expected) = (extent.bytes, extent.crc);
    Ok(Err(format!("its first {bytes} bytes have the CRC-32C {crc:08x}, and {expected:08x} is committed")))
}

/// Takes the file for this process, so that no other run writes it.
fn hold(file: &File, path: &Path) -> Result<(), ExportError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(ExportError::Held { path: path.to_path_buf() }),
            // File systems without locks do without.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = "0011aabb-0000-0000-0000-000000000000";

    fn extent(bytes: &[u8]) -> Extent {
        Extent { bytes: bytes.len() as u64, crc: crc32c::crc32c(bytes) }
    }

    #[test]
    fn a_name_aside_leads_back_to_the_output() {
        let aside = aside_of(Path::new("/out/a.b.csv"), STORE);
        assert_eq!(aside, Path::new("/out/.a.b.csv.0011aabb.open"));
        let name = aside.file_name().and_then(|name| name.to_str()).unwrap();
        assert_eq!(output_of_aside(name, STORE), Some("a.b.csv"));
        for stranger in [".a.csv.0011aabc.open", ".a.csv.open", "a.csv.0011aabb.open", ".a.csv.0011aabb.tmp"] {
            assert_eq!(output_of_aside(stranger, STORE), None, "{stranger}");
        }
    }

    #[test]
    fn what_is_committed_is_checked_and_what_follows_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        let place = aside_of(&path, STORE);
        let reopen = |extent| Aside::reopen(path.clone(), place.clone(), extent);
        assert!(matches!(reopen(extent(b"")), Err(ExportError::Missing { .. })));
        let mut aside = Aside::create(path.clone(), place.clone()).unwrap();
        aside.write(b"committed").unwrap();
        aside.sync().unwrap();
        aside.keep();
        aside.write(b" and not").unwrap();
        drop(aside);
        let text = |error: Result<Aside, ExportError>| error.err().unwrap().to_string();
        let changed = text(reopen(extent(b"Committed")));
        for word in [place.to_str().unwrap(), "first 9 bytes", "is committed; restore it"] {
            assert!(changed.contains(word), "{word}: {changed}");
        }
        assert!(text(reopen(Extent { bytes: 99, crc: 0 })).contains("it has 17 bytes, and 99 are committed"));
        let mut aside = reopen(extent(b"committed")).unwrap();
        aside.write(b"!").unwrap();
        aside.sync().unwrap();
        aside.install().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"committed!");
        assert!(!place.exists());
    }

    #[test]
    fn what_is_not_committed_goes_when_it_is_dropped_and_one_run_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        let place = aside_of(&path, STORE);
        let first = Aside::create(path.clone(), place.clone()).unwrap();
        assert!(matches!(Aside::create(path.clone(), place.clone()), Err(ExportError::Held { .. })));
        drop(first);
        assert!(!place.exists());
        fs::write(&place, "left over").unwrap();
        let aside = Aside::create(path, place.clone()).unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"");
        drop(aside);
    }
}
