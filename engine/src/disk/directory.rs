//! The data directory: who owns it, which store it is, which shards it holds.
//!
//! ```text
//! <data_dir>/store.lock                       held (flock) by the one process that uses the directory
//! <data_dir>/store.json                       format, UUID, and a text of the owner's choice (`meta`)
//! <data_dir>/shard-NNNN/wal/<sequence>.wal    the log of a shard
//! <data_dir>/shard-NNNN/birth                 a random number: the next directory of that name has another
//! <data_dir>/**/*.damaged                     what a salvage has set aside; nothing reads it
//! <data_dir>/salvaged.ndjson                  what salvages have given up, a line for each log
//! <data_dir>/salvage.pending                  a salvage is under way, or was interrupted
//! ```
//!
//! What a log's files hold is [`super::files`]'.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::DiskError;
use super::files::LogDirectory;
use corefold_shards::wal::LogIdentity;

const LOCK_FILE: &str = "store.lock";
const IDENTITY_FILE: &str = "store.json";
const BIRTH_FILE: &str = "birth";
const STORE_FORMAT: u32 = 1;

/// Names the logs whose repair was begun and not ended.
pub const SALVAGE_FILE: &str = "salvage.pending";

/// Says what salvages have given up.
pub const SALVAGED_FILE: &str = "salvaged.ndjson";

/// How long a lock is waited for: after a kill the kernel may still be finishing the dead process's writes.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// A data directory that this process owns.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    uuid: [u8; 16],
    meta: Option<String>,
    lock: Arc<StoreLock>,
}

/// The lock on a data directory. Rings register it too, so that it outlives the process's last write.
#[derive(Debug)]
pub struct StoreLock {
    file: File,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u32,
    uuid: String,
    meta: Option<String>,
    /// Of all before it: not every flipped bit makes the file unreadable or the job another one.
    crc32c: u32,
}

impl IdentityFile {
    fn new(uuid: &[u8; 16], meta: Option<&str>) -> IdentityFile {
        let mut file =
            IdentityFile { format: STORE_FORMAT, uuid: format_uuid(uuid), meta: meta.map(str::to_owned), crc32c: 0 };
        file.crc32c = file.checksum();
        file
    }

    fn checksum(&self) -> u32 {
        let IdentityFile { format, uuid, meta, crc32c: _ } = self;
        let seed = crc32c::crc32c(format!("{format} {uuid} {}", u8::from(meta.is_some())).as_bytes());
        crc32c::crc32c_append(seed, meta.as_deref().unwrap_or_default().as_bytes())
    }
}

impl Store {
    /// Opens the store in `root`, or makes one if the directory is missing or empty.
    pub fn open(root: &Path) -> Result<Store, DiskError> {
        Store::open_patiently(root, LOCK_PATIENCE)
    }

    /// As [`Store::open`], with another patience for the lock.
    pub fn open_patiently(root: &Path, patience: Duration) -> Result<Store, DiskError> {
        fs::create_dir_all(root).map_err(DiskError::io("create", root))?;
        let identity_path = root.join(IDENTITY_FILE);
        if !identity_path.exists() {
            refuse_strangers(root)?;
        }
        let lock = StoreLock::take(root, patience)?;
        refuse_half_salvaged(root)?;
        remove_temporary_files(root)?;
        // Looked at again: another process may have made the store while this one waited.
        let identity = if identity_path.exists() {
            read_identity(&identity_path)?
        } else {
            refuse_strangers(root)?;
            let identity = IdentityFile::new(&random_bytes()?, None);
            write_identity(root, &identity)?;
            sync_parent(root)?;
            identity
        };
        Store::of(root, identity, lock)
    }

    fn of(root: &Path, identity: IdentityFile, lock: StoreLock) -> Result<Store, DiskError> {
        let uuid = parse_uuid(&identity.uuid).ok_or_else(|| DiskError::NotAStore {
            path: root.to_path_buf(),
            reason: format!("`{IDENTITY_FILE}` has the UUID `{}`, which is none", identity.uuid),
        })?;
        if identity.crc32c != identity.checksum() {
            let reason = format!("the checksum in `{IDENTITY_FILE}` is wrong; restore the file");
            return Err(DiskError::NotAStore { path: root.to_path_buf(), reason });
        }
        Ok(Store { root: root.to_path_buf(), uuid, meta: identity.meta, lock: Arc::new(lock) })
    }

    /// Opens the store in `root`, which must be there, for a look: nothing is made, deleted or changed.
    pub fn open_for_looking(root: &Path) -> Result<Store, DiskError> {
        let identity_path = root.join(IDENTITY_FILE);
        if !fs::exists(&identity_path).map_err(DiskError::io("read", &identity_path))? {
            let reason = format!("it holds no `{IDENTITY_FILE}`");
            return Err(DiskError::NotAStore { path: root.to_path_buf(), reason });
        }
        let lock = StoreLock::take_for_looking(root)?;
        Store::of(root, read_identity(&identity_path)?, lock)
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The store's UUID: random, made with the store.
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// The UUID as text.
    pub fn uuid_text(&self) -> String {
        format_uuid(&self.uuid)
    }

    /// The lock, for rings.
    pub fn lock(&self) -> &Arc<StoreLock> {
        &self.lock
    }

    /// Whether anything durable was ever given up here.
    pub fn was_salvaged(&self) -> Result<bool, DiskError> {
        let path = self.root.join(SALVAGED_FILE);
        fs::exists(&path).map_err(DiskError::io("read", &path))
    }

    /// The text that the owner has stored.
    pub fn meta(&self) -> Option<&str> {
        self.meta.as_deref()
    }

    /// Stores a text, atomically and durably.
    pub fn set_meta(&mut self, meta: &str) -> Result<(), DiskError> {
        let identity = IdentityFile::new(&self.uuid, Some(meta));
        write_identity(&self.root, &identity)?;
        self.meta = identity.meta;
        Ok(())
    }

    /// Numbers of all shards that have a directory, ascending, wanted or orphaned.
    pub fn shards(&self) -> Result<Vec<u32>, DiskError> {
        let mut shards = Vec::new();
        for name in names(&self.root)? {
            if let Some(shard) = name.strip_prefix("shard-").and_then(|digits| digits.parse().ok()) {
                if shard_name(shard) != name {
                    return Err(DiskError::NotAStore {
                        path: self.root.clone(),
                        reason: format!("`{name}` is not how shard {shard} is spelled (`{}`)", shard_name(shard)),
                    });
                }
                shards.push(shard);
            }
        }
        shards.sort_unstable();
        Ok(shards)
    }

    /// The directory of a shard's own files beside the log.
    pub fn shard_path(&self, shard: u32) -> PathBuf {
        self.root.join(shard_name(shard))
    }

    /// Whose a shard's files are.
    pub fn log_identity(&self, shard: u32) -> LogIdentity {
        LogIdentity { store: self.uuid, shard }
    }

    /// The random number that a shard's directory was made with; `None` if it has none.
    pub fn birth(&self, shard: u32) -> Result<Option<u64>, DiskError> {
        let path = self.shard_path(shard).join(BIRTH_FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(DiskError::io("read", &path))?,
        };
        let digits = text.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        match digits.filter(|&birth| birth_text(birth) == text) {
            Some(birth) => Ok(Some(birth)),
            None => Err(DiskError::NotAStore { path, reason: "it is damaged; restore it".to_owned() }),
        }
    }

    /// The log directory of a shard; made durably if it is not there.
    pub fn log_directory(&self, shard: u32) -> Result<LogDirectory, DiskError> {
        self.make_log_directory(&shard_name(shard), shard)
    }

    /// The directory of a log that is no shard's: `<data_dir>/<name>/wal`. Its identity has the shard number
    /// `u32::MAX`, so that no shard's segment passes for one of its own.
    pub fn named_log_directory(&self, name: &str) -> Result<LogDirectory, DiskError> {
        assert!(!name.starts_with("shard-"), "shards have numbers");
        self.make_log_directory(name, u32::MAX)
    }

    fn make_log_directory(&self, name: &str, shard: u32) -> Result<LogDirectory, DiskError> {
        let parent = self.root.join(name);
        let path = parent.join("wal");
        if shard != u32::MAX && !parent.join(BIRTH_FILE).exists() {
            fs::create_dir_all(&parent).map_err(DiskError::io("create", &parent))?;
            sync_directory(&self.root)?;
            let birth = u64::from_le_bytes(random_bytes()?);
            write_atomically(&parent.join(BIRTH_FILE), birth_text(birth).as_bytes())?;
        }
        if !path.is_dir() {
            fs::create_dir_all(&path).map_err(DiskError::io("create", &path))?;
            sync_directory(&path)?;
            sync_directory(&parent)?;
            sync_directory(&self.root)?;
        }
        Ok(LogDirectory::new(path, LogIdentity { store: self.uuid, shard }))
    }

    /// Deletes an orphaned shard whose content has been taken over. First the name goes, durably, so that a crash
    /// leaves either the whole shard or none.
    pub fn retire_shard(&self, shard: u32) -> Result<(), DiskError> {
        let path = self.shard_path(shard);
        let aside = self.root.join(format!("{}.tmp", shard_name(shard)));
        fs::rename(&path, &aside).map_err(DiskError::io("rename", &path))?;
        sync_directory(&self.root)?;
        fs::remove_dir_all(&aside).map_err(DiskError::io("delete", &aside))
    }
}

impl StoreLock {
    fn take(root: &Path, patience: Duration) -> Result<StoreLock, DiskError> {
        let path = root.join(LOCK_FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .map_err(DiskError::io("open", &path))?;
        StoreLock::lock(file, root, patience)
    }

    fn lock(file: File, root: &Path, patience: Duration) -> Result<StoreLock, DiskError> {
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(StoreLock { file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Err(DiskError::InUse { path: root.to_path_buf() }),
                Err(TryLockError::Error(source)) => {
                    return Err(DiskError::Io { operation: "lock", path: root.join(LOCK_FILE), source });
                }
            }
        }
    }

    /// Takes the lock through a file that need not be writable. Where there is none, as in a copy, nobody holds it.
    fn take_for_looking(root: &Path) -> Result<StoreLock, DiskError> {
        let path = root.join(LOCK_FILE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let identity = root.join(IDENTITY_FILE);
                return Ok(StoreLock { file: File::open(&identity).map_err(DiskError::io("open", &identity))? });
            }
            opened => opened.map_err(DiskError::io("open", &path))?,
        };
        StoreLock::lock(file, root, LOCK_PATIENCE)
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Random bytes of the kernel.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], DiskError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; N];
    File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).map_err(DiskError::io("read", path))?;
    Ok(bytes)
}

/// Makes names that were created, renamed or deleted in a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(DiskError::io("sync", path))
}

/// Writes a file so that, whatever happens, either the old or the new content is there.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    let aside = PathBuf::from(aside);
    let written = File::create(&aside).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(DiskError::io("write", &aside))?;
    fs::rename(&aside, path).map_err(DiskError::io("rename", &aside))?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn sync_parent(path: &Path) -> Result<(), DiskError> {
    let absolute = fs::canonicalize(path).map_err(DiskError::io("find", path))?;
    absolute.parent().map_or(Ok(()), sync_directory)
}

/// Sixteen digits, their checksum, a line end.
fn birth_text(birth: u64) -> String {
    let digits = format!("{birth:016x}");
    format!("{digits} {:08x}\n", crc32c::crc32c(digits.as_bytes()))
}

fn shard_name(shard: u32) -> String {
    format!("shard-{shard:04}")
}

fn names(directory: &Path) -> Result<Vec<String>, DiskError> {
    let entries = fs::read_dir(directory).map_err(DiskError::io("list", directory))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(DiskError::io("list", directory))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// A new store is made only where nothing else is.
fn refuse_strangers(root: &Path) -> Result<(), DiskError> {
    let is_ours = |name: &String| name == LOCK_FILE || name.starts_with(IDENTITY_FILE) || name == "lost+found";
    let strangers = names(root)?.into_iter().find(|name| !is_ours(name));
    let Some(stranger) = strangers else { return Ok(()) };
    let reason = if stranger.starts_with("shard-") {
        format!("`{IDENTITY_FILE}` is missing beside `{stranger}`; restore it")
    } else {
        format!("it holds `{stranger}` but no `{IDENTITY_FILE}`; choose an empty or a new directory")
    };
    Err(DiskError::NotAStore { path: root.to_path_buf(), reason })
}

/// Between the steps of a salvage a log may look sound and lack what it was to say of its loss.
fn refuse_half_salvaged(root: &Path) -> Result<(), DiskError> {
    let path = root.join(SALVAGE_FILE);
    if !fs::exists(&path).map_err(DiskError::io("read", &path))? {
        return Ok(());
    }
    let reason = "a salvage of it was interrupted; run `corefold salvage` with --yes again".to_owned();
    Err(DiskError::NotAStore { path: root.to_path_buf(), reason })
}

/// What was being made or deleted when the process died.
fn remove_temporary_files(root: &Path) -> Result<(), DiskError> {
    for name in names(root)?.iter().filter(|name| name.ends_with(".tmp")) {
        let path = root.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(DiskError::io("delete", &path))?;
    }
    Ok(())
}

fn read_identity(path: &Path) -> Result<IdentityFile, DiskError> {
    let text = fs::read_to_string(path).map_err(DiskError::io("read", path))?;
    let unreadable = |reason| DiskError::NotAStore { path: path.to_path_buf(), reason };
    let identity: IdentityFile =
        serde_json::from_str(&text).map_err(|error| unreadable(format!("it cannot be read: {error}")))?;
    if identity.format != STORE_FORMAT {
        return Err(unreadable(format!("it has format {}; this program reads format {STORE_FORMAT}", identity.format)));
    }
    Ok(identity)
}

fn write_identity(root: &Path, identity: &IdentityFile) -> Result<(), DiskError> {
    let path = root.join(IDENTITY_FILE);
    let mut text = serde_json::to_vec_pretty(identity)
        .map_err(|error| DiskError::io("encode", &path)(std::io::Error::other(error)))?;
    text.push(b'\n');
    write_atomically(&path, &text)
}

fn format_uuid(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    if digits.len() != 32 {
        return None;
    }
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    (format_uuid(&uuid) == text).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_come_back_and_have_one_spelling() {
        let uuid = random_bytes().unwrap();
        let text = format_uuid(&uuid);
        assert_eq!(parse_uuid(&text), Some(uuid));
        assert_eq!(parse_uuid(&text.replace('-', "")), None);
        assert_eq!(parse_uuid(&text[1..]), None);
        assert_eq!(parse_uuid(&"+f".repeat(16)), None);
    }
}
