//! The snapshots of one shard directory: which can be used, and whose state is in them.
//!
//! What is in a snapshot is `corefold_shards::snapshot`'s.

use super::error::RecoverError;
use crate::disk::snapshots::{list, remove_leftovers};
use crate::disk::{DiskError, SnapshotReader, Store};
use corefold_shards::snapshot::format::file_name;
use corefold_shards::snapshot::{Adopted, SnapshotError, SnapshotFile, SnapshotHead, SnapshotKept, SnapshotSource};
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
    /// How many of them are damaged.
    pub damaged: usize,
    /// Sound, but to be deleted before anything is written: see [`read_all`].
    pub passed_over: Vec<u64>,
    /// Head of the last of `kept`.
    pub head: Option<SnapshotHead>,
}

impl Snapshots {
    /// Looks at snapshots of a shard, newest first; `open` opens one. The newest that is sound to its last byte is the
    /// one to begin with.
    pub fn look<S: SnapshotSource>(
        generations: impl IntoIterator<Item = u64>,
        mut open: impl FnMut(u64) -> Result<SnapshotFile<S>, SnapshotError>,
    ) -> Result<Snapshots, (u64, SnapshotError)> {
        let mut found = Snapshots::default();
        for generation in generations {
            if found.kept.len() == KEPT {
                found.stale.push(generation);
                continue;
            }
            let is_first = found.kept.is_empty();
            let looked = open(generation).and_then(|mut file| {
                while is_first && file.next_chunk()?.is_some() {}
                Ok(file)
            });
            match looked {
                Ok(file) => {
                    let (lsn, size) = (file.header().lsn, file.size());
                    found.kept.push(SnapshotKept { generation, lsn, size });
                    found.head.get_or_insert_with(|| file.head().clone());
                }
                // Nobody knows what a disk that cannot be read would say, or another version of this program.
                Err(
                    error @ (SnapshotError::Read { .. } | SnapshotError::Foreign | SnapshotError::OtherVersion { .. }),
                ) => return Err((generation, error)),
                Err(_) => {
                    found.stale.push(generation);
                    found.damaged += 1;
                }
            }
        }
        found.kept.reverse();
        Ok(found)
    }

    /// Those of a directory, below generation `below` if one is given.
    pub fn read(store: &Store, shard: u32, below: Option<u64>) -> Result<Snapshots, RecoverError> {
        remove_leftovers(&store.shard_path(shard))?;
        let generations = list(&store.shard_path(shard))?.into_iter();
        let generations = generations.filter(|generation| below.is_none_or(|below| *generation < below));
        Snapshots::look(generations, |generation| open_snapshot(store, shard, generation))
            .map_err(|(generation, error)| RecoverError::Snapshot { file: path_of(store, shard, generation), error })
    }

    /// Whether the log alone is not the whole story. Another shard's state may be in snapshots only, once two of them
    /// hold it; from then on there are two files.
    pub fn are_lost(&self) -> bool {
        self.kept.is_empty() && self.damaged >= KEPT
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

/// The snapshots of all shards, and the directories whose whole state is in the snapshot with which another shard begins,
/// with that shard's number.
#[derive(Debug, Default)]
pub struct AllSnapshots {
    /// By shard.
    pub found: Vec<(u32, Snapshots)>,
    /// Adopter and orphan.
    pub adopted: Vec<(u32, Adopted)>,
}

/// Reads the snapshots of all `shards`, of which those below `count` are to work again. `read` reads those of one, below
/// a generation if one is given; `witness` tells what a directory is.
///
/// An orphan's directory goes at once if its number is used again. If its state is in the newest snapshot of the adopter
/// only, it would be lost with that one: then the adopter begins without that snapshot, and the orphan is none.
pub fn read_all<E>(
    shards: &[u32],
    count: usize,
    mut read: impl FnMut(u32, Option<u64>) -> Result<Snapshots, E>,
    witness: impl Fn(u32) -> Result<Adopted, E>,
) -> Result<AllSnapshots, E> {
    let mut found = Vec::with_capacity(shards.len());
    for &shard in shards {
        found.push((shard, read(shard, None)?));
    }
    let mut safe = Vec::new();
    loop {
        let adopted = adopted_by(&found, &witness)?;
        let next = adopted.iter().find(|pair| (pair.1.shard as usize) < count && !safe.contains(*pair));
        let Some(&(adopter, orphan)) = next else { return Ok(AllSnapshots { found, adopted }) };
        let (_, now) = found.iter_mut().find(|(shard, _)| *shard == adopter).expect("it has adopted");
        let newest = now.kept.last().expect("the snapshot that says so").generation;
        let mut older = read(adopter, Some(newest))?;
        // Newer than the newest sound one are damaged ones only.
        let newer: Vec<u64> = now.stale.iter().copied().filter(|generation| *generation > newest).collect();
        older.damaged += newer.len();
        let is_held = match &older.head {
            Some(head) => head.adopted.contains(&orphan),
            // The log alone serves if nothing but this snapshot was ever there.
            None => older.damaged > 0,
        };
        if is_held {
            safe.push((adopter, orphan));
            continue;
        }
        older.stale.extend(newer);
        older.passed_over.append(&mut now.passed_over);
        older.passed_over.push(newest);
        *now = older;
    }
}

fn adopted_by<E>(
    found: &[(u32, Snapshots)],
    witness: impl Fn(u32) -> Result<Adopted, E>,
) -> Result<Vec<(u32, Adopted)>, E> {
    let mut adopted = Vec::new();
    for (adopter, snapshots) in found {
        for orphan in snapshots.head.iter().flat_map(|head| &head.adopted) {
            let is_there = found.iter().any(|(shard, _)| *shard == orphan.shard);
            let is_known = adopted.iter().any(|(_, known): &(u32, Adopted)| known.shard == orphan.shard);
            if is_there && !is_known && witness(orphan.shard)? == *orphan {
                adopted.push((*adopter, *orphan));
            }
        }
    }
    Ok(adopted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use corefold_aggregator::time::EventTime;
    use corefold_shards::counters::ShardCounts;
    use corefold_shards::lane_notes::LaneNotes;
    use corefold_shards::ledger::ProducerLedger;

    const ORPHAN: Adopted = Adopted { shard: 3, birth: 33 };

    /// A snapshot file of shard 0.
    #[derive(Clone, Copy, PartialEq)]
    enum Image {
        Missing,
        Damaged,
        /// Without the orphan's state, and with it.
        Older,
        Newer,
    }

    fn read(images: [Image; 2], below: Option<u64>) -> Snapshots {
        let mut found = Snapshots::default();
        for (generation, image) in [(2, images[1]), (1, images[0])] {
            if below.is_some_and(|below| generation >= below) || image == Image::Missing {
                continue;
            }
            if image == Image::Damaged {
                found.stale.push(generation);
                found.damaged += 1;
                continue;
            }
            found.kept.insert(0, SnapshotKept { generation, lsn: Lsn(generation), size: 1 });
            let (counts, ledger) = (ShardCounts::default(), ProducerLedger::default());
            let mut head = SnapshotHead::new(EventTime::MIN, EventTime::MIN, &counts, &ledger, &LaneNotes::default());
            head.adopted.extend((image == Image::Newer).then_some(ORPHAN));
            found.head.get_or_insert(head);
        }
        found
    }

    /// Generations that shard 0 begins with and passes over, and whether the orphan's directory counts no more.
    fn settled(images: [Image; 2], count: usize) -> (Option<u64>, Vec<u64>, bool) {
        let all = read_all::<()>(
            &[0, 3],
            count,
            |shard, below| Ok(if shard == 0 { read(images, below) } else { Snapshots::default() }),
            |shard| Ok(Adopted { shard, birth: 33 }),
        );
        let AllSnapshots { found, adopted } = all.expect("reads");
        let snapshots = &found[0].1;
        assert!(adopted.iter().all(|pair| *pair == (0, ORPHAN)));
        (snapshots.kept.last().map(|kept| kept.generation), snapshots.passed_over.clone(), !adopted.is_empty())
    }

    #[test]
    fn a_number_is_used_again_only_when_no_lost_snapshot_could_take_its_old_state_along() {
        use Image::{Damaged, Missing, Newer, Older};
        for (images, while_orphan, when_used_again) in [
            // Nothing was adopted.
            ([Missing, Older], (Some(2), vec![], false), (Some(2), vec![], false)),
            ([Older, Older], (Some(2), vec![], false), (Some(2), vec![], false)),
            // The log alone, or the older one, would serve without the orphan.
            ([Missing, Newer], (Some(2), vec![], true), (None, vec![2], false)),
            ([Older, Newer], (Some(2), vec![], true), (Some(1), vec![2], false)),
            // Whatever is lost next, a start without the orphan's state is refused.
            ([Damaged, Newer], (Some(2), vec![], true), (Some(2), vec![], true)),
            ([Newer, Newer], (Some(2), vec![], true), (Some(2), vec![], true)),
            ([Newer, Damaged], (Some(1), vec![], true), (Some(1), vec![], true)),
            ([Older, Damaged], (Some(1), vec![], false), (Some(1), vec![], false)),
        ] {
            assert_eq!(settled(images, 3), while_orphan);
            assert_eq!(settled(images, 4), when_used_again);
        }
        assert!(read([Damaged, Damaged], None).are_lost());
        assert!(!read([Missing, Damaged], None).are_lost());
    }
}
