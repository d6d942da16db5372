//! What crashes and rot do to files: writes torn in flight, bytes and names that fall back, bits that flip.
//!
//! Orderly changes of files are in [`super::files`].

use super::files::{Damage, File, FileId, Files, Name, SECTOR, overlap};
use crate::entropy::Entropy;

impl Files {
    /// A write in flight when the machine stops: any of its sectors may be on the disk. Returns how many are.
    pub fn tear(
        &mut self,
        file: FileId,
        offset: usize,
        bytes: &[u8],
        mut survives: impl FnMut(usize) -> bool,
    ) -> usize {
        let mut written = 0;
        for (index, sector) in bytes.chunks(SECTOR).enumerate() {
            if survives(index) {
                self.put(file, offset + index * SECTOR, sector);
                written += 1;
            }
        }
        written
    }

    /// The power goes: what was not synced may fall back, each sector and each name for itself. Returns how many
    /// sectors fell back and how many changes of names were undone.
    pub fn cut_power(&mut self, entropy: &mut Entropy) -> (u64, u64) {
        let mut sectors = 0;
        let keep = *entropy.pick(&[0.0, 0.5, 0.9, 1.0]);
        for file in &mut self.files {
            sectors += file.fall_back(keep, entropy);
        }
        let changes = std::mem::take(&mut self.name_changes);
        let mut lost = 0;
        // A journal keeps the order; without one, any of the changes may be there.
        let ordered = entropy.chance(0.5);
        let prefix = entropy.index(changes.len() + 1);
        for (index, change) in changes.into_iter().enumerate() {
            if if ordered { index < prefix } else { entropy.chance(0.5) } {
                self.settle(change);
            } else {
                lost += 1;
            }
        }
        self.names = self.durable_names.clone();
        self.shards = self.durable_shards.clone();
        (sectors, lost)
    }

    // ---- damage -----------------------------------------------------------------------------------------------

    /// Puts other bytes where these were, without anybody's knowing.
    pub fn damage(&mut self, file: FileId, offset: usize, bytes: &[u8]) {
        let content = &mut self.files[file.0].bytes[offset..offset + bytes.len()];
        let good = content.to_vec();
        content.copy_from_slice(bytes);
        self.damages.push(Damage { file, offset, good });
    }

    /// A write that was reported done and never was: these bytes should be there.
    pub fn lose(&mut self, file: FileId, offset: usize, bytes: &[u8]) {
        self.heal_over(file, offset, bytes.len());
        self.damages.push(Damage { file, offset, good: bytes.to_vec() });
    }

    /// Whether any bytes are not what they should be.
    pub fn is_damaged(&self) -> bool {
        !self.damages.is_empty()
    }

    /// Whether all damage is in one file, and that is a snapshot.
    pub fn is_one_snapshot_damaged(&self) -> bool {
        let snapshot = |file: FileId| {
            self.names.iter().any(|(path, named)| *named == file && matches!(path.name, Name::Snapshot(_)))
        };
        let first = self.damages.first().map(|damage| damage.file);
        first.is_some_and(|first| snapshot(first) && self.damages.iter().all(|damage| damage.file == first))
    }

    /// Puts right all that was damaged, as from a backup.
    pub fn repair(&mut self) {
        for damage in std::mem::take(&mut self.damages).into_iter().rev() {
            let file = &mut self.files[damage.file.0].bytes;
            if let Some(bytes) = file.get_mut(damage.offset..damage.offset + damage.good.len()) {
                bytes.copy_from_slice(&damage.good);
            }
        }
    }

    /// Damage of a file that touches none of these ranges is how the file is from now on.
    pub fn forget_damage_but(&mut self, file: FileId, ranges: &[std::ops::Range<usize>]) {
        self.damages.retain(|damage| {
            let touches =
                |range: &std::ops::Range<usize>| overlap(damage.offset, damage.good.len(), range.start, range.len());
            damage.file != file || ranges.iter().any(touches)
        });
    }

    /// A good write over damaged bytes makes them good.
    pub(super) fn heal_over(&mut self, file: FileId, offset: usize, length: usize) {
        if self.damages.is_empty() {
            return;
        }
        let mut rests = Vec::new();
        self.damages.retain(|damage| {
            let hit = damage.file == file && overlap(damage.offset, damage.good.len(), offset, length);
            if hit {
                let end = damage.offset + damage.good.len();
                for rest in [damage.offset..offset.max(damage.offset), (offset + length).min(end)..end] {
                    if !rest.is_empty() {
                        let good = damage.good[rest.start - damage.offset..rest.end - damage.offset].to_vec();
                        rests.push(Damage { file, offset: rest.start, good });
                    }
                }
            }
            !hit
        });
        self.damages.append(&mut rests);
    }
}

impl File {
    fn fall_back(&mut self, keep: f64, entropy: &mut Entropy) -> u64 {
        let mut sectors = 0;
        if self.bytes.len() > self.length_synced {
            let grown = self.bytes.len() - self.length_synced;
            let kept = if entropy.chance(keep) { grown } else { entropy.index(grown + 1) };
            self.bytes.truncate(self.length_synced + kept);
            // Lengths become durable apart from the bytes: where those are missing there are zeros.
            for sector in self.bytes[self.length_synced..].chunks_mut(SECTOR) {
                if !entropy.chance(keep) {
                    sector.fill(0);
                    sectors += 1;
                }
            }
            self.length_synced = self.bytes.len();
        }
        // Newest first: where a newer write has survived, older ones cannot be undone.
        let mut settled: Vec<usize> = Vec::new();
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            let mut at = undo.offset;
            while at < undo.offset + undo.before.len() {
                let sector = at / SECTOR;
                let end = ((sector + 1) * SECTOR).min(undo.offset + undo.before.len());
                if !settled.contains(&sector) {
                    if entropy.chance(keep) {
                        settled.push(sector);
                    } else {
                        self.bytes[at..end].copy_from_slice(&undo.before[at - undo.offset..end - undo.offset]);
                        sectors += 1;
                    }
                }
                at = end;
            }
        }
        sectors
    }
}
