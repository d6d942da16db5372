//! What a path leads to: a data directory, the log of one shard, or one segment file; and whose it should be.
//!
//! What the files hold is not looked at here, but for the name that a lone file's header gives.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use corefold_shards::wal::layout::SEGMENT_HEADER_SIZE;
use corefold_shards::wal::{SegmentHeader, SegmentId};

use super::InspectError;

const IDENTITY_FILE: &str = "store.json";
const LOCK_FILE: &str = "store.lock";
/// Format of [`IDENTITY_FILE`] that recovery accepts.
const STORE_FORMAT: u64 = 1;
/// Logs that are no shard's carry this number.
pub(super) const NO_SHARD: u32 = u32::MAX;

/// Everything that a path leads to.
#[derive(Debug)]
pub(super) struct Place {
    /// The data directory, if there is one around.
    pub(super) store: Option<StorePlace>,
    /// In the order of their names.
    pub(super) logs: Vec<LogPlace>,
}

/// A data directory.
#[derive(Debug)]
pub(super) struct StorePlace {
    pub(super) root: PathBuf,
    /// From `store.json`, or what is wrong with that.
    pub(super) uuid: Result<[u8; 16], String>,
    /// The process that holds the lock.
    pub(super) owner: Option<u32>,
}

/// One log.
#[derive(Debug)]
pub(super) struct LogPlace {
    /// Its directory, or the lone file.
    pub(super) path: PathBuf,
    /// Whose it should be, as far as directories tell.
    pub(super) store: Option<[u8; 16]>,
    pub(super) shard: Option<u32>,
    pub(super) is_lone_file: bool,
}

/// What a log's directory holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) segments: BTreeMap<SegmentId, PathBuf>,
    /// Files that were being made; recovery deletes them.
    pub(super) temporary: u64,
    /// The first file that is no segment but is called like one.
    pub(super) stranger: Option<PathBuf>,
}

/// Follows the path.
pub(super) fn find(path: &Path, shard: Option<u32>) -> Result<Place, InspectError> {
    let metadata = fs::metadata(path).map_err(failed("read", path))?;
    let is_directory = metadata.is_dir();
    if !is_directory && !metadata.is_file() {
        let what = "it is neither a directory nor a regular file";
        return Err(failed("read", path)(io::Error::new(io::ErrorKind::InvalidInput, what)));
    }
    if is_directory && is_data_directory(path)? {
        return data_directory(path, shard);
    }
    if shard.is_some() {
        return Err(InspectError::NoShards { path: path.to_path_buf() });
    }
    let log = match is_directory {
        false => path.to_path_buf(),
        true if path.join("wal").is_dir() => path.join("wal"),
        true if is_log_directory(path)? => path.to_path_buf(),
        true => return Err(InspectError::NoLog { path: path.to_path_buf() }),
    };
    // <root>/shard-0000/wal/00000000000000000001.wal
    let absolute = fs::canonicalize(&log).map_err(failed("find", &log))?;
    let directory = if is_directory { Some(absolute.as_path()) } else { absolute.parent() };
    let owner = directory.filter(|directory| directory.ends_with("wal")).and_then(Path::parent);
    let root = owner.and_then(Path::parent).filter(|root| root.join(IDENTITY_FILE).exists());
    let store = root.map(StorePlace::read);
    let shard = owner.and_then(|owner| shard_of(owner, store.is_some()));
    let uuid = store.as_ref().and_then(|store| store.uuid.as_ref().ok().copied());
    let log = LogPlace { path: log, store: uuid, shard, is_lone_file: !is_directory };
    Ok(Place { store, logs: vec![log] })
}

fn data_directory(root: &Path, wanted: Option<u32>) -> Result<Place, InspectError> {
    let store = StorePlace::read(root);
    let mut logs = Vec::new();
    for directory in directories(root)? {
        let path = directory.join("wal");
        // `shard-0000.tmp` is being deleted.
        if path.is_dir() && directory.extension().is_none_or(|extension| extension != "tmp") {
            let uuid = store.uuid.as_ref().ok().copied();
            logs.push(LogPlace { path, store: uuid, shard: shard_of(&directory, true), is_lone_file: false });
        }
    }
    if let Some(shard) = wanted {
        let numbers = logs.iter().filter_map(|log| log.shard).filter(|number| *number != NO_SHARD);
        let present: Vec<String> = numbers.map(|number| number.to_string()).collect();
        logs.retain(|log| log.shard == wanted);
        if logs.is_empty() {
            let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
            return Err(InspectError::NoSuchShard { path: root.to_path_buf(), shard, present });
        }
    }
    Ok(Place { store: Some(store), logs })
}

fn is_data_directory(path: &Path) -> Result<bool, InspectError> {
    if path.join(IDENTITY_FILE).exists() {
        return Ok(true);
    }
    let is_log = |directory: &PathBuf| shard_of(directory, false).is_some() && directory.join("wal").is_dir();
    Ok(directories(path)?.iter().any(is_log))
}

/// An empty directory with the right name is a log, too.
fn is_log_directory(path: &Path) -> Result<bool, InspectError> {
    let listing = LogPlace::list_directory(path)?;
    Ok(path.ends_with("wal") || !listing.segments.is_empty() || listing.stranger.is_some())
}

fn directories(path: &Path) -> Result<Vec<PathBuf>, InspectError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed("list", path))? {
        let path = entry.map_err(failed("list", path))?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The shard that a directory's name tells. In a store, other directories hold logs that are no shard's.
fn shard_of(directory: &Path, is_in_store: bool) -> Option<u32> {
    let name = directory.file_name()?.to_str()?;
    match name.strip_prefix("shard-") {
        Some(digits) => digits.parse().ok(),
        None => is_in_store.then_some(NO_SHARD),
    }
}

impl StorePlace {
    pub(super) fn read(root: &Path) -> StorePlace {
        let uuid = read_uuid(&root.join(IDENTITY_FILE));
        StorePlace { root: root.to_path_buf(), uuid, owner: lock_owner(&root.join(LOCK_FILE)) }
    }
}

fn read_uuid(path: &Path) -> Result<[u8; 16], String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let file: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    if file["format"].as_u64() != Some(STORE_FORMAT) {
        let found = &file["format"];
        return Err(format!("`{}` has format {found}; this program reads format {STORE_FORMAT}", path.display()));
    }
    let uuid = file["uuid"].as_str().and_then(parse_uuid);
    uuid.ok_or_else(|| format!("`{}` has the UUID {}, which is none", path.display(), file["uuid"]))
}

/// Who holds a lock on the file, as the kernel tells; asking does not touch the lock.
fn lock_owner(path: &Path) -> Option<u32> {
    let metadata = fs::metadata(path).ok()?;
    let (major, minor) = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    find_owner(&fs::read_to_string("/proc/locks").ok()?, &file)
}

fn find_owner(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // A line with an arrow is one who waits.
        let is_held = words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&file);
        is_held.then(|| words[4].parse().ok()).flatten()
    })
}

impl LogPlace {
    /// The log's files at this moment.
    pub(super) fn list(&self) -> Result<Listing, InspectError> {
        if !self.is_lone_file {
            return LogPlace::list_directory(&self.path);
        }
        let name = self.path.file_name().and_then(|name| name.to_str());
        let segment = match name.and_then(SegmentId::parse_file_name) {
            Some(segment) => segment,
            None => header_of(&self.path)?.map_or(SegmentId::FIRST, |header| header.segment),
        };
        Ok(Listing { segments: [(segment, self.path.clone())].into(), ..Listing::default() })
    }

    fn list_directory(directory: &Path) -> Result<Listing, InspectError> {
        let mut listing = Listing::default();
        for entry in fs::read_dir(directory).map_err(failed("list", directory))? {
            let path = entry.map_err(failed("list", directory))?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            let segment = path.file_name().and_then(|name| name.to_str()).and_then(SegmentId::parse_file_name);
            match (extension, segment) {
                (Some("tmp"), _) => listing.temporary += 1,
                (Some("wal"), Some(segment)) => {
                    listing.segments.insert(segment, path);
                }
                (Some("wal"), None) if listing.stranger.as_ref().is_none_or(|other| path < *other) => {
                    listing.stranger = Some(path);
                }
                _ => {}
            }
        }
        Ok(listing)
    }

    /// The directory that errors name missing files in.
    pub(super) fn directory(&self) -> &Path {
        match self.is_lone_file {
            true => self.path.parent().unwrap_or(&self.path),
            false => &self.path,
        }
    }
}

/// The header of a file that is not called like a segment, if it is sound.
fn header_of(path: &Path) -> Result<Option<SegmentHeader>, InspectError> {
    let mut bytes = [0; SEGMENT_HEADER_SIZE];
    match File::open(path).and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => Ok(SegmentHeader::decode(&bytes).ok().flatten()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InspectError {
    let path = path.to_path_buf();
    move |source| InspectError::Io { operation, path, source }
}

/// A UUID as `store.json` has it.
pub(super) fn uuid_text(uuid: &[u8; 16]) -> String {
    let digits: Vec<String> = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..4], &digits[4..6], &digits[6..8], &digits[8..10], &digits[10..]].map(|part| part.concat()).join("-")
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(&text.replace('-', ""), 16).ok()?.to_be_bytes();
    (uuid_text(&number) == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_one_spelling() {
        let text = "00112233-4455-6677-8899-aabbccddeeff";
        let uuid = parse_uuid(text).expect("a UUID");
        assert_eq!((uuid[1], uuid[15], uuid_text(&uuid).as_str()), (0x11, 0xff, text));
        for wrong in ["", "0011", &text.to_uppercase(), &text.replace('-', ""), &format!("{text}0")] {
            assert_eq!(parse_uuid(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 fe:00:11 0 EOF\n2: FLOCK  ADVISORY  WRITE 4711 fe:00:11 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 8 fe:00:12 0 EOF\n";
        assert_eq!(find_owner(locks, "fe:00:11"), Some(4711));
        assert_eq!(find_owner(locks, "fe:00:12"), None);
        assert_eq!(find_owner("", "fe:00:11"), None);
    }
}
