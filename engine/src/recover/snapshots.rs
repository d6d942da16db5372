//! The snapshots of one shard directory: which can be used, and whose state is in them.
//!
//! What is in a snapshot is `corefold_shards::snapshot`'s.

use super::error::RecoverError;
use crate::disk::snapshots::{list, remove_leftovers};
use crate::disk::{DiskError, SnapshotReader, Store};
use corefold_shards::snapshot::format::file_name;
use corefold_shards::snapshot::{Adopted, SnapshotError, SnapshotFile, SnapshotHead, SnapshotKept};
use corefold_shards::wal::Lsn;
use std::fs::File;

/// Snapshots of which the newest that is sound, and the one before it, are kept.
const KEPT: usize = corefold_shards::snapshot::writer::SNAPSHOTS_KEPT;

/// See the module.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// Oldest first. The last one was read to its end and is sound; of the other only the header is known.
    pub kept: Vec<SnapshotKept>,
    /// Not to be used, to be deleted when there is a better one.
    pub stale: Vec<u64>,
    /// Head of the last of `kept`.
    pub head: Option<SnapshotHead>,
}

impl Snapshots {
    /// Looks at all snapshots of a shard. The newest that is sound to its last byte is the one to begin with.
    pub fn read(store: &Store, shard: u32) -> Result<Snapshots, RecoverError> {
        remove_leftovers(&store.shard_path(shard))?;
        let mut found = Snapshots::default();
        for generation in list(&store.shard_path(shard))? {
            if found.kept.len() == KEPT {
                found.stale.push(generation);
                continue;
            }
            let is_first = found.kept.is_empty();
            let looked = open_snapshot(store, shard, generation).and_then(|mut file| {
                while is_first && file.next_chunk()?.is_some() {}
                Ok(file)
            });
            match looked {
                Ok(file) => {
                    let (lsn, size) = (file.header().lsn, file.size());
                    found.kept.push(SnapshotKept { generation, lsn, size });
                    found.head.get_or_insert_with(|| file.head().clone());
                }
                // Nobody knows what a disk that cannot be read would say.
                Err(error @ (SnapshotError::Read { .. } | SnapshotError::Foreign)) => {
                    return Err(RecoverError::Snapshot { file: path_of(store, shard, generation), error });
                }
                Err(_) => found.stale.push(generation),
            }
        }
        found.kept.reverse();
        Ok(found)
    }

    /// Records below this are in the snapshot to begin with.
    pub fn lsn(&self) -> Lsn {
        self.kept.last().map_or(Lsn::ZERO, |kept| kept.lsn)
    }
}

/// Opens a snapshot of a shard.
pub fn open_snapshot(
    store: &Store,
    shard: u32,
    generation: u64,
) -> Result<SnapshotFile<SnapshotReader<File>>, SnapshotError> {
    let path = store.shard_path(shard).join(file_name(generation));
    let file = File::open(path).map_err(|error| SnapshotError::Read { offset: 0, error })?;
    SnapshotFile::open(SnapshotReader(file), &store.log_identity(shard), generation)
}

/// What is wrong with the newest snapshot of a shard, if there is one and something is.
pub(super) fn newest_fault(store: &Store, shard: u32) -> Result<Option<String>, DiskError> {
    let Some(&generation) = list(&store.shard_path(shard))?.first() else { return Ok(None) };
    let looked = open_snapshot(store, shard, generation).and_then(|mut file| {
        while file.next_chunk()?.is_some() {}
        Ok(())
    });
    Ok(looked.err().map(|error| format!("{}: {error}", path_of(store, shard, generation))))
}

fn path_of(store: &Store, shard: u32, generation: u64) -> String {
    store.shard_path(shard).join(file_name(generation)).display().to_string()
}

/// What tells a shard directory from a later one with the same number.
pub fn witness_of(store: &Store, shard: u32) -> Result<Adopted, DiskError> {
    match store.birth(shard)? {
        Some(birth) => Ok(Adopted { shard, birth }),
        None => Err(DiskError::NotAStore {
            path: store.shard_path(shard),
            reason: "its file `birth` is missing; restore it".to_owned(),
        }),
    }
}

/// Directories whose whole state is in the snapshot with which another shard begins, with that shard's number.
pub(super) fn adopted_by(store: &Store, found: &[(u32, Snapshots)]) -> Result<Vec<(u32, Adopted)>, DiskError> {
    let mut adopted = Vec::new();
    for (adopter, snapshots) in found {
        for orphan in snapshots.head.iter().flat_map(|head| &head.adopted) {
            let is_there = found.iter().any(|(shard, _)| *shard == orphan.shard);
            let is_known = adopted.iter().any(|(_, known): &(u32, Adopted)| known.shard == orphan.shard);
            if is_there && !is_known && witness_of(store, orphan.shard)? == *orphan {
                adopted.push((*adopter, *orphan));
            }
        }
    }
    Ok(adopted)
}
