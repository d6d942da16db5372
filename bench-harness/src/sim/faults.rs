//! Which faults a seed injects, how often, and how many there were.
//!
//! A sync that says Ok over lost bytes is in no seed: against a lying disk nothing is promised. How each fault is
//! carried out is in [`super::disk`], [`super::files`] and [`super::store`].

use crate::entropy::Entropy;
use std::fmt;

/// What may go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Fault {
    /// The process dies.
    Kill,
    /// The machine loses its power.
    PowerCut,
    /// Either, within a change of the files: in the middle of making a segment, of a recovery, and so on.
    CrashWithin,
    /// Either, while a start reads back and repairs.
    CrashInRecovery,
    /// Some sectors of a write in flight reached the disk, others did not.
    TornWrite,
    /// A write in flight vanished in a crash.
    VanishedWrite,
    /// A write finished before one that was submitted earlier.
    ReorderedWrite,
    /// Sectors that were not synced fell back.
    SectorsFellBack,
    /// Names that were not synced vanished or came back.
    NamesFellBack,
    /// A write failed.
    WriteError,
    /// A write stopped short.
    ShortWrite,
    /// A sync failed; the next one says Ok.
    SyncError,
    /// No room for a segment, for a while or until the end of the session.
    DiskFull,
    /// A disk that does nothing for a while.
    StuckDisk,
    /// A read failed once.
    ReadErrorOnce,
    /// A sector cannot be read.
    ReadErrorLasting,
    /// Another number of shards than before.
    OtherShards,
    /// The engine is asked to stop before its input has ended.
    Stop,
    /// A piece of a snapshot cannot be written, or reads back wrong.
    SnapshotError,
    /// A bit changed at rest.
    BitRot,
    /// A write was reported done and never carried out.
    LostWrite,
    /// A write went to another place and was reported done.
    MisdirectedWrite,
    /// A connection broke, and what was under way is lost.
    ConnectionCut,
    /// A producer gave a connection up, and what was under way arrives behind what it sends over the next one.
    ClientGone,
    /// A producer died, and begins again without memory.
    ClientKilled,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 25] = [
        Fault::Kill,
        Fault::PowerCut,
        Fault::CrashWithin,
        Fault::CrashInRecovery,
        Fault::TornWrite,
        Fault::VanishedWrite,
        Fault::ReorderedWrite,
        Fault::SectorsFellBack,
        Fault::NamesFellBack,
        Fault::WriteError,
        Fault::ShortWrite,
        Fault::SyncError,
        Fault::DiskFull,
        Fault::StuckDisk,
        Fault::ReadErrorOnce,
        Fault::ReadErrorLasting,
        Fault::OtherShards,
        Fault::Stop,
        Fault::SnapshotError,
        Fault::BitRot,
        Fault::LostWrite,
        Fault::MisdirectedWrite,
        Fault::ConnectionCut,
        Fault::ClientGone,
        Fault::ClientKilled,
    ];
}

/// How many faults of each kind there were.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl FaultCounts {
    /// One more, or several.
    pub fn add(&mut self, fault: Fault, count: u64) {
        self.0[fault as usize] += count;
    }

    /// How many there were.
    pub fn get(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Adds those of another seed.
    pub fn unite(&mut self, other: &FaultCounts) {
        self.0.iter_mut().zip(other.0).for_each(|(ours, theirs)| *ours += theirs);
    }
}

/// What is promised under the faults of a seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultClass {
    /// Whatever a crash or a failing disk may do to what was not acknowledged: the answer is exact.
    CrashOnly,
    /// Acknowledged bytes are damaged: the answer is exact or the start is refused.
    Rot,
}

/// How often what goes wrong, per occasion.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    /// What is promised.
    pub class: FaultClass,
    /// Lives that end before their time, at most.
    pub crashes_max: u32,
    /// Chance that a crash is a power cut.
    pub power_cut: f64,
    /// Chance that a crash comes within a change of the files.
    pub crash_within: f64,
    /// Chance that a start is cut short.
    pub crash_in_recovery: f64,
    /// Per write.
    pub write_error: f64,
    /// Per write.
    pub short_write: f64,
    /// Per write.
    pub lost_write: f64,
    /// Per write.
    pub misdirected_write: f64,
    /// Per turn of a disk.
    pub stuck: f64,
    /// Per segment that is made, each of its syncs.
    pub sync_error: f64,
    /// Per segment that is made.
    pub disk_full: f64,
    /// Per log that is read.
    pub read_error_once: f64,
    /// Per log that is read.
    pub read_error_lasting: f64,
    /// Per turn of a disk, and per log at each crash.
    pub rot: f64,
    /// Per start after the first.
    pub other_shards: f64,
    /// Chance that a life ends in order before its input does.
    pub stop: f64,
    /// Per piece of a snapshot.
    pub snapshot_error: f64,
    /// Damages that are still to be done.
    pub damages_left: u32,
}

impl FaultPlan {
    /// The faults of a seed.
    pub fn random(entropy: &mut Entropy) -> FaultPlan {
        let class = if entropy.chance(0.3) { FaultClass::Rot } else { FaultClass::CrashOnly };
        let is_rot = class == FaultClass::Rot;
        let mut sometimes = |chance: f64, rates: &[f64]| {
            let rate = *entropy.pick(rates);
            if entropy.chance(chance) { rate } else { 0.0 }
        };
        let write_rates = [0.01, 0.05, 0.2];
        let damage_rates = [0.02, 0.1, 0.3];
        let damage_chance = if is_rot { 0.5 } else { 0.0 };
        FaultPlan {
            class,
            power_cut: sometimes(0.8, &[0.5, 1.0]),
            crash_within: sometimes(0.6, &[0.2, 0.7]),
            crash_in_recovery: sometimes(0.5, &[0.1, 0.4]),
            write_error: sometimes(0.15, &write_rates),
            short_write: sometimes(0.15, &write_rates),
            lost_write: sometimes(damage_chance, &damage_rates),
            misdirected_write: sometimes(damage_chance, &damage_rates),
            rot: sometimes(if is_rot { 0.7 } else { 0.0 }, &[0.01, 0.05, 0.2]),
            stuck: sometimes(0.3, &[0.001, 0.02]),
            sync_error: sometimes(0.2, &[0.05, 0.3]),
            disk_full: sometimes(0.2, &[0.1, 0.5]),
            read_error_once: sometimes(0.3, &[0.2, 1.0]),
            read_error_lasting: sometimes(0.1, &[0.1, 0.5]),
            other_shards: sometimes(0.7, &[0.3, 1.0]),
            stop: sometimes(0.4, &[0.2, 0.6]),
            snapshot_error: sometimes(0.3, &[0.02, 0.3]),
            crashes_max: 1 + entropy.below(4) as u32,
            damages_left: if is_rot { 1 + entropy.below(3) as u32 } else { 0 },
        }
    }

    /// No more faults, so that what is under way can end.
    pub fn calm(&mut self) {
        *self = FaultPlan { class: self.class, other_shards: self.other_shards, ..FaultPlan::none() };
    }

    /// Nothing goes wrong.
    pub fn none() -> FaultPlan {
        FaultPlan {
            class: FaultClass::CrashOnly,
            crashes_max: 0,
            power_cut: 0.0,
            crash_within: 0.0,
            crash_in_recovery: 0.0,
            write_error: 0.0,
            short_write: 0.0,
            lost_write: 0.0,
            misdirected_write: 0.0,
            stuck: 0.0,
            sync_error: 0.0,
            disk_full: 0.0,
            read_error_once: 0.0,
            read_error_lasting: 0.0,
            rot: 0.0,
            other_shards: 0.0,
            stop: 0.0,
            snapshot_error: 0.0,
            damages_left: 0,
        }
    }
}

/// The plan, the chance that carries it out, and the count: what every part of a simulated machine is given.
#[derive(Debug)]
pub struct Faults {
    /// How often what goes wrong.
    pub plan: FaultPlan,
    /// What went wrong.
    pub counts: FaultCounts,
    /// The same, since the last start.
    pub counts_of_life: FaultCounts,
    /// Whether rot has ever made the end of a log look like a torn tail.
    pub is_hidden: bool,
}

impl Faults {
    /// None yet.
    pub fn new(plan: FaultPlan) -> Faults {
        Faults { plan, counts: FaultCounts::default(), counts_of_life: FaultCounts::default(), is_hidden: false }
    }

    /// Notes faults.
    pub fn note(&mut self, fault: Fault, count: u64) {
        self.counts.add(fault, count);
        self.counts_of_life.add(fault, count);
    }

    /// Whether a fault of this rate strikes; notes it.
    pub fn strikes(&mut self, fault: Fault, rate: f64, entropy: &mut Entropy) -> bool {
        // No draw where nothing can happen, so that most seeds cost nothing.
        let strikes = rate > 0.0 && entropy.chance(rate);
        if strikes {
            self.note(fault, 1);
        }
        strikes
    }

    /// The same for damage to acknowledged bytes, of which a seed has few.
    pub fn damages(&mut self, fault: Fault, rate: f64, entropy: &mut Entropy) -> bool {
        let strikes = self.plan.damages_left > 0 && self.strikes(fault, rate, entropy);
        self.plan.damages_left -= u32::from(strikes);
        strikes
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Kill => "process killed",
            Fault::PowerCut => "power cut",
            Fault::CrashWithin => "crash within a change of files",
            Fault::CrashInRecovery => "crash in recovery",
            Fault::TornWrite => "torn write",
            Fault::VanishedWrite => "write vanished in a crash",
            Fault::ReorderedWrite => "writes finished out of order",
            Fault::SectorsFellBack => "unsynced sector fell back",
            Fault::NamesFellBack => "unsynced name vanished or came back",
            Fault::WriteError => "write error",
            Fault::ShortWrite => "short write",
            Fault::SyncError => "sync error, then Ok",
            Fault::DiskFull => "disk full",
            Fault::StuckDisk => "disk stuck for a while",
            Fault::ReadErrorOnce => "read error, once",
            Fault::ReadErrorLasting => "read error, lasting",
            Fault::OtherShards => "other number of shards",
            Fault::Stop => "stopped in order before the end",
            Fault::SnapshotError => "snapshot not written, or written wrong",
            Fault::BitRot => "bit flipped at rest",
            Fault::LostWrite => "acknowledged write lost",
            Fault::MisdirectedWrite => "write misdirected",
            Fault::ConnectionCut => "connection cut",
            Fault::ClientGone => "connection given up by its producer",
            Fault::ClientKilled => "producer killed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_by_kind_and_every_kind_has_its_place() {
        let mut counts = FaultCounts::default();
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, index);
            counts.add(fault, index as u64);
        }
        let mut twice = counts;
        twice.unite(&counts);
        assert!(Fault::ALL.iter().all(|&fault| twice.get(fault) == 2 * fault as u64));
    }

    #[test]
    fn damage_comes_only_where_it_was_planned() {
        for seed in 0..500 {
            let plan = FaultPlan::random(&mut Entropy::new(seed));
            let damages = plan.lost_write + plan.misdirected_write + plan.rot;
            assert!(plan.class == FaultClass::Rot || (damages == 0.0 && plan.damages_left == 0));
        }
    }
}
