//! A file system of memory that a power cut treats as badly as real ones may: bytes that were not synced fall back by
//! sectors, names that were not synced vanish or come back.
//!
//! Which faults are injected is decided in [`super::faults`]; what the files mean is not known here. An `fsync` that
//! lies is not modelled: nothing is promised then.

use corefold_shards::wal::SegmentId;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a disk writes as a whole.
pub const SECTOR: usize = 512;

/// Directories. They are durable once made; only shards' directories go, as a whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Directory {
    /// Segments of a shard's log; `u32::MAX` is the pane log.
    Log(u32),
    /// A shard's own directory: its snapshots.
    Shard(u32),
    /// The data directory.
    Root,
}

impl Directory {
    fn is_of(self, shard: u32) -> bool {
        self == Directory::Log(shard) || self == Directory::Shard(shard)
    }
}

/// Names within a directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Name {
    /// A segment of a log.
    Segment(SegmentId),
    /// A segment that is being made.
    SegmentAside(SegmentId),
    /// A snapshot, by generation.
    Snapshot(u64),
    /// A snapshot that is being made.
    SnapshotAside(u64),
    /// What outputs have committed.
    Manifest,
    /// The output.
    Output,
}

/// Where a name stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Path {
    /// The directory.
    pub directory: Directory,
    /// The name in it.
    pub name: Name,
}

/// Number of a file, whatever its names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub(super) usize);

/// Why an operation was not carried out: the machine is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Down;

/// See the module.
#[derive(Debug)]
pub struct Files {
    pub(super) files: Vec<File>,
    pub(super) names: BTreeMap<Path, FileId>,
    pub(super) durable_names: BTreeMap<Path, FileId>,
    /// Shards that have a directory, with the number that it was made with.
    pub(super) shards: BTreeMap<u32, u64>,
    pub(super) durable_shards: BTreeMap<u32, u64>,
    /// Changes of names that no sync of their directory has followed, oldest first.
    pub(super) name_changes: Vec<NameChange>,
    pub(super) damages: Vec<Damage>,
    /// Changes until the machine stops in the middle of things.
    fuse: u64,
    down: bool,
    /// Changes carried out.
    pub changes: u64,
}

#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    /// Bytes that a power cut leaves for sure, as a length.
    pub(super) length_synced: usize,
    /// What was there before each write that no sync has followed, oldest first.
    pub(super) undo: Vec<Undo>,
}

#[derive(Debug)]
pub(super) struct Undo {
    pub(super) offset: usize,
    pub(super) before: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum NameChange {
    Create(Path, FileId),
    Rename(Path, Path, FileId),
    Remove(Path),
    Retire(u32),
}

impl NameChange {
    fn directory(self) -> Directory {
        match self {
            NameChange::Retire(_) => Directory::Root,
            NameChange::Create(path, _) | NameChange::Rename(path, _, _) | NameChange::Remove(path) => path.directory,
        }
    }
}

/// Bytes that are not what was written, and what they should be.
#[derive(Debug)]
pub(super) struct Damage {
    pub(super) file: FileId,
    pub(super) offset: usize,
    pub(super) good: Vec<u8>,
}

impl Default for Files {
    fn default() -> Files {
        Files {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            shards: BTreeMap::new(),
            durable_shards: BTreeMap::new(),
            name_changes: Vec::new(),
            damages: Vec::new(),
            fuse: u64::MAX,
            down: false,
            changes: 0,
        }
    }
}

impl Files {
    /// Stops the machine in the middle of the change after `changes` more; `u64::MAX` never.
    pub fn light_fuse(&mut self, changes: u64) {
        self.fuse = changes;
        self.down = false;
    }

    /// Whether the machine has stopped.
    pub fn is_down(&self) -> bool {
        self.down
    }

    fn change(&mut self) -> Result<(), Down> {
        if self.down {
            return Err(Down);
        }
        if self.fuse == 0 {
            self.down = true;
            return Err(Down);
        }
        if self.fuse != u64::MAX {
            self.fuse -= 1;
        }
        self.changes += 1;
        Ok(())
    }

    // ---- names ------------------------------------------------------------------------------------------------

    /// The file under a name.
    pub fn find(&self, path: Path) -> Option<FileId> {
        self.names.get(&path).copied()
    }

    /// Names in a directory, in order.
    pub fn list(&self, directory: Directory) -> Vec<Name> {
        self.names.keys().filter(|path| path.directory == directory).map(|path| path.name).collect()
    }

    /// Files that are segments of logs.
    pub fn segments(&self) -> Vec<FileId> {
        let is_segment = |path: &Path| matches!(path.name, Name::Segment(_));
        self.names.iter().filter(|(path, _)| is_segment(path)).map(|(_, file)| *file).collect()
    }

    /// Segments of one log.
    pub fn segments_of(&self, directory: Directory) -> Vec<(SegmentId, FileId)> {
        let of = |(path, file): (&Path, &FileId)| match path.name {
            Name::Segment(segment) if path.directory == directory => Some((segment, *file)),
            _ => None,
        };
        self.names.iter().filter_map(of).collect()
    }

    /// Files in a directory.
    pub fn files_of(&self, directory: Directory) -> Vec<FileId> {
        self.names.iter().filter(|(path, _)| path.directory == directory).map(|(_, file)| *file).collect()
    }

    /// Files that carry a name for good: segments, snapshots, manifest, output.
    pub fn installed(&self) -> Vec<FileId> {
        let is_aside = |path: &Path| matches!(path.name, Name::SegmentAside(_) | Name::SnapshotAside(_));
        self.names.iter().filter(|(path, _)| !is_aside(path)).map(|(_, file)| *file).collect()
    }

    /// Whether a power cut leaves this file under this name.
    pub fn is_name_durable(&self, path: Path, file: FileId) -> bool {
        self.durable_names.get(&path) == Some(&file)
            && !self.name_changes.iter().any(|change| match *change {
                NameChange::Create(to, _) | NameChange::Remove(to) => to == path,
                NameChange::Rename(from, to, _) => from == path || to == path,
                NameChange::Retire(shard) => path.directory.is_of(shard),
            })
    }

    /// Makes an empty file.
    pub fn create(&mut self, path: Path) -> Result<FileId, Down> {
        self.change()?;
        let file = FileId(self.files.len());
        self.files.push(File::default());
        self.names.insert(path, file);
        self.name_changes.push(NameChange::Create(path, file));
        Ok(file)
    }

    /// Renames; whatever had the new name loses it. False if there is no such file.
    pub fn rename(&mut self, from: Path, to: Path) -> Result<bool, Down> {
        self.change()?;
        let Some(file) = self.names.remove(&from) else { return Ok(false) };
        self.names.insert(to, file);
        self.name_changes.push(NameChange::Rename(from, to, file));
        Ok(true)
    }

    /// Takes a name away. False if there is no such file.
    pub fn remove(&mut self, path: Path) -> Result<bool, Down> {
        self.change()?;
        let found = self.names.remove(&path).is_some();
        if found {
            self.name_changes.push(NameChange::Remove(path));
        }
        Ok(found)
    }

    /// Makes all changes of names in a directory durable.
    pub fn sync_directory(&mut self, directory: Directory) -> Result<(), Down> {
        self.change()?;
        let changes = std::mem::take(&mut self.name_changes);
        for change in changes {
            if change.directory() == directory {
                self.settle(change);
            } else {
                self.name_changes.push(change);
            }
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, change: NameChange) {
        match change {
            NameChange::Create(path, file) => {
                self.durable_names.insert(path, file);
            }
            NameChange::Rename(from, to, file) => {
                if self.durable_names.get(&from) == Some(&file) {
                    self.durable_names.remove(&from);
                }
                self.durable_names.insert(to, file);
            }
            NameChange::Remove(path) => {
                self.durable_names.remove(&path);
            }
            NameChange::Retire(shard) => {
                self.durable_names.retain(|path, _| !path.directory.is_of(shard));
                self.durable_shards.remove(&shard);
            }
        }
    }

    /// Shards that have a directory, in order.
    pub fn shards(&self) -> Vec<u32> {
        self.shards.keys().copied().collect()
    }

    /// Makes the directories of a shard, durably, if they are not there. Returns whether that was needed.
    pub fn make_shard(&mut self, shard: u32, birth: impl FnOnce() -> u64) -> Result<bool, Down> {
        if self.shards.contains_key(&shard) {
            return Ok(false);
        }
        self.change()?;
        let birth = birth();
        self.shards.insert(shard, birth);
        self.durable_shards.insert(shard, birth);
        Ok(true)
    }

    /// The number that a shard's directory was made with.
    pub fn birth(&self, shard: u32) -> Option<u64> {
        self.shards.get(&shard).copied()
    }

    /// Takes the name of a shard's directory away, and with it all that is in there.
    pub fn retire_shard(&mut self, shard: u32) -> Result<(), Down> {
        self.change()?;
        self.shards.remove(&shard);
        self.names.retain(|path, _| !path.directory.is_of(shard));
        // What was going on in there no longer matters, unless the directory comes back as it was.
        self.name_changes.retain(|change| !change.directory().is_of(shard));
        self.name_changes.push(NameChange::Retire(shard));
        Ok(())
    }

    // ---- bytes ------------------------------------------------------------------------------------------------

    /// All bytes of a file.
    pub fn bytes(&self, file: FileId) -> &[u8] {
        &self.files[file.0].bytes
    }

    /// Whether a power cut leaves these bytes as they are.
    pub fn is_durable(&self, file: FileId, range: Range<usize>) -> bool {
        let file = &self.files[file.0];
        range.end <= file.length_synced
            && file.undo.iter().all(|undo| !overlap(undo.offset, undo.before.len(), range.start, range.len()))
    }

    /// Whether a power cut leaves the file as long as it is.
    pub fn is_length_durable(&self, file: FileId) -> bool {
        self.files[file.0].length_synced == self.files[file.0].bytes.len()
    }

    /// Writes without a sync; the file grows if need be.
    pub fn write(&mut self, file: FileId, offset: usize, bytes: &[u8]) -> Result<(), Down> {
        self.change()?;
        self.heal_over(file, offset, bytes.len());
        let file = &mut self.files[file.0];
        let end = offset + bytes.len();
        if file.bytes.len() < end {
            file.bytes.resize(end, 0);
        }
        if offset < file.length_synced {
            let known = file.length_synced.min(end);
            file.undo.push(Undo { offset, before: file.bytes[offset..known].to_vec() });
        }
        file.bytes[offset..end].copy_from_slice(bytes);
        Ok(())
    }

    /// Writes durably within a file.
    pub fn write_through(&mut self, file: FileId, offset: usize, bytes: &[u8]) -> Result<(), Down> {
        self.change()?;
        self.put(file, offset, bytes);
        Ok(())
    }

    pub(super) fn put(&mut self, file: FileId, offset: usize, bytes: &[u8]) {
        self.heal_over(file, offset, bytes.len());
        let file = &mut self.files[file.0];
        file.undo.retain(|undo| !overlap(undo.offset, undo.before.len(), offset, bytes.len()));
        file.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Cuts or extends a file with zeros, without a sync.
    pub fn set_length(&mut self, file: FileId, length: usize) -> Result<(), Down> {
        self.change()?;
        let file = &mut self.files[file.0];
        file.bytes.resize(length, 0);
        // What was cut may be back after a power cut; whoever cuts syncs before going on.
        file.length_synced = file.length_synced.min(length);
        file.undo.retain(|undo| undo.offset + undo.before.len() <= length);
        Ok(())
    }

    /// Makes a file's bytes durable, not its name.
    pub fn sync(&mut self, file: FileId) -> Result<(), Down> {
        self.change()?;
        let file = &mut self.files[file.0];
        file.undo.clear();
        file.length_synced = file.bytes.len();
        Ok(())
    }
}

pub(super) fn overlap(a: usize, a_length: usize, b: usize, b_length: usize) -> bool {
    a < b + b_length && b < a + a_length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;

    fn path(generation: u64) -> Path {
        Path { directory: Directory::Shard(0), name: Name::Snapshot(generation) }
    }

    #[test]
    fn what_was_synced_stays() {
        for seed in 0..200 {
            let mut files = Files::default();
            let file = files.create(path(1)).unwrap();
            files.write(file, 0, &[7; 2_000]).unwrap();
            files.sync(file).unwrap();
            files.sync_directory(Directory::Shard(0)).unwrap();
            files.write_through(file, 512, &[9; 512]).unwrap();
            files.cut_power(&mut Entropy::new(seed));
            assert_eq!(files.find(path(1)), Some(file));
            assert_eq!(&files.bytes(file)[..512], &[7; 512]);
            assert_eq!(&files.bytes(file)[512..1_024], &[9; 512]);
        }
    }

    #[test]
    fn what_was_not_synced_may_be_anything_in_between() {
        let (mut names, mut contents, mut lengths) = (0, [0; 4], 0);
        for seed in 0..400 {
            let mut files = Files::default();
            let file = files.create(path(1)).unwrap();
            files.write(file, 0, &[1; 1_024]).unwrap();
            files.sync(file).unwrap();
            files.write(file, 0, &[2; 2_048]).unwrap();
            files.rename(path(1), path(2)).unwrap();
            assert!(!files.is_name_durable(path(2), file));
            assert!(!files.is_durable(file, 0..512) && !files.is_durable(file, 1_024..2_048));
            files.cut_power(&mut Entropy::new(seed));
            names += usize::from(files.find(path(2)) == Some(file));
            let bytes = files.bytes(file);
            contents[usize::from(bytes[0] == 2) + 2 * usize::from(bytes[600] == 2)] += 1;
            lengths += usize::from(bytes.len() == 2_048);
            assert!(bytes.len() >= 1_024 && bytes[..1_024].iter().all(|&byte| byte == 1 || byte == 2));
        }
        assert!((50..350).contains(&names) && (50..350).contains(&lengths), "{names} {lengths}");
        assert!(contents.iter().all(|&count| count > 10), "{contents:?}");
    }

    #[test]
    fn damage_is_repaired_but_not_over_newer_bytes() {
        let mut files = Files::default();
        let file = files.create(path(1)).unwrap();
        files.write(file, 0, &[1; 1_024]).unwrap();
        files.damage(file, 0, &[8; 1_024]);
        files.write(file, 512, &[2; 100]).unwrap();
        assert!(files.is_damaged());
        files.repair();
        assert!(!files.is_damaged());
        assert_eq!(files.bytes(file)[0], 1);
        assert_eq!(files.bytes(file)[512..612], [2; 100]);
        assert_eq!(files.bytes(file)[612], 1);
    }

    #[test]
    fn nothing_happens_once_the_machine_is_down() {
        let mut files = Files::default();
        files.light_fuse(1);
        let file = files.create(path(1)).unwrap();
        assert_eq!(files.write(file, 0, &[1]), Err(Down));
        assert_eq!(files.sync(file), Err(Down));
        assert!(files.is_down() && files.bytes(file).is_empty());
        files.light_fuse(u64::MAX);
        assert_eq!(files.write(file, 0, &[1]), Ok(()));
    }
}
