//! What a simulated machine keeps over a crash: its files, and what the simulator knows of its logs. Recovery, and the
//! plan of the next start.
//!
//! Reading logs back and joining what they say is the engine's own code; the order of its repairs is mirrored here.

use super::disk::{LogDisk, LogSource, Survival};
use super::faults::{Fault, Faults};
use super::files::{Directory, Down, Files, Name, Path};
use super::history::LogHistory;
use super::site::{BatchKey, Site};
use super::{Failure, Refusal};
use crate::entropy::Entropy;
use corefold_aggregator::time::{Duration, EventTime};
use corefold_engine::feed::lanes::LaneStart;
use corefold_engine::recover::{FirstPass, RecoverError, RecoveredLog, RecoveredStore, take_logs_of};
use corefold_shards::batch::AlignedBytes;
use corefold_shards::shard::{Shard, ShardPlan};
use corefold_shards::wal::supply::SupplyConfig;
use corefold_shards::wal::{
    Appender, AppenderConfig, Durability, LogIdentity, RecordKind, RecoveryError, ResumePoint, ScanOptions, SegmentId,
    replay,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Identity of the store.
const STORE: [u8; 16] = *b"simulated-store!";

/// Bytes that recovery reads at once: less than most logs, so that its window moves.
const PIECE_SIZE: usize = 8 << 10;

/// See the module.
#[derive(Debug)]
pub struct Store {
    /// The file system.
    pub files: Files,
    histories: BTreeMap<u32, LogHistory>,
    /// Size of blocks: a constant of the engine, so the same in all lives.
    block_size: usize,
    durability: Durability,
    /// Every batch that was ever acknowledged.
    acknowledged: BTreeSet<BatchKey>,
    /// Whether the power was cut since logs were read.
    powerless: bool,
    /// Logs whose last acknowledged blocks rot has made look like a torn tail: the documented residue.
    pub hidden: u64,
}

/// Batches to fold again, each with what may be published after it.
pub type Replays = VecDeque<(AlignedBytes, EventTime)>;

/// What a start comes to.
pub struct Started {
    /// Where each lane goes on.
    pub lanes: BTreeMap<u32, LaneStart>,
    /// The shards.
    pub sites: Vec<Site>,
}

impl Store {
    /// An empty store.
    pub fn new(is_rot: bool, entropy: &mut Entropy) -> Store {
        let block_size = *entropy.pick(&[4_096, 4_096, 8_192, 16_384]);
        // Without syncs nothing is acknowledged that rot could take away.
        let durability = if is_rot || entropy.chance(0.85) { Durability::Sync } else { Durability::Os };
        Store {
            files: Files::default(),
            histories: BTreeMap::new(),
            block_size,
            durability,
            acknowledged: BTreeSet::new(),
            powerless: false,
            hidden: 0,
        }
    }

    /// The process has gone, and the power with it if `power` says so.
    pub fn crash(&mut self, sites: Vec<Site>, power: bool, faults: &mut Faults, entropy: &mut Entropy) {
        let survival = *entropy.pick(&Survival::ALL);
        for (shard, site) in sites.into_iter().enumerate() {
            self.acknowledged.extend(site.acknowledged);
            let history = site.disk.crash(survival, &mut self.files, faults, entropy);
            self.histories.insert(shard as u32, history);
        }
        if power {
            let (sectors, names) = self.files.cut_power(entropy);
            faults.note(Fault::SectorsFellBack, sectors);
            faults.note(Fault::NamesFellBack, names);
            self.powerless = true;
        }
        faults.note(if power { Fault::PowerCut } else { Fault::Kill }, 1);
        let rate = faults.plan.rot;
        for history in self.histories.values().filter(|_| rate > 0.0) {
            if faults.plan.damages_left > 0 && entropy.chance(0.2) && history.rot(&[], &mut self.files, entropy) {
                faults.note(Fault::BitRot, 1);
                faults.plan.damages_left -= 1;
            }
        }
    }

    /// Reads all logs and starts `count` shards.
    pub fn start(
        &mut self,
        count: usize,
        lanes: usize,
        delay: Duration,
        plan: &ShardPlan,
        faults: &mut Faults,
        entropy: &mut Entropy,
    ) -> Result<Started, Failure> {
        let mut pass = FirstPass::default();
        let shards: Vec<u32> = self.histories.keys().copied().collect();
        for &shard in &shards {
            let directory = Directory::Log(shard);
            make_ready(&mut self.files, directory)?;
            let mut source = LogSource::new(&self.files, directory, faults, entropy);
            let read = pass.read_log(shard, &mut source, &options(shard), "simulated");
            read.map_err(|error| self.refused(&error, faults))?;
        }
        let RecoveredStore { mut logs, lanes: starts, .. } = pass.finish(lanes, |_| delay);
        self.check_recovered(&logs, &starts)?;
        let mut begun = Vec::with_capacity(count);
        for index in 0..count {
            let own_logs = take_logs_of(&mut logs, index, count);
            begun.push(self.repair_and_read(index as u32, &own_logs, faults, entropy)?);
        }
        self.powerless = false;
        let shape = self.log_shape(entropy);
        let sites = (0..).zip(begun).map(|(shard, (resume, replays))| {
            let mut history = self.histories.remove(&shard).unwrap_or_else(|| LogHistory::new(Directory::Log(shard)));
            history.begin_session(resume.next_lsn, shape.durability == Durability::Sync);
            let log = Appender::start(AppenderConfig { identity: identity(shard), ..shape }, resume);
            let disk = LogDisk::new(identity(shard), Directory::Log(shard), history);
            Site::new(Shard::new(plan.clone(), Some(log)), disk, replays, shape.writes_inflight_max)
        });
        let sites = sites.collect();
        Ok(Started { lanes: starts, sites })
    }

    /// Deletes what a shard's log must not keep, and reads again what the shard folds again.
    fn repair_and_read(
        &mut self,
        shard: u32,
        logs: &[RecoveredLog],
        faults: &mut Faults,
        entropy: &mut Entropy,
    ) -> Result<(ResumePoint, Replays), Failure> {
        let own = logs.iter().find(|log| log.shard == shard);
        for &segment in own.map_or(&[][..], |own| &own.log.discard) {
            self.discard(Directory::Log(shard), segment)?;
        }
        let mut replays = VecDeque::new();
        for log in logs {
            let mut source = LogSource::new(&self.files, Directory::Log(log.shard), faults, entropy);
            let read = read_again(&mut source, log, &mut replays);
            read.map_err(|error| self.refused(&RecoverError::Log(error), faults))?;
        }
        Ok((own.map_or_else(ResumePoint::fresh, |own| own.log.resume.clone()), replays))
    }

    fn discard(&mut self, directory: Directory, segment: SegmentId) -> Result<(), Failure> {
        self.files.remove(Path { directory, name: Name::Segment(segment) })?;
        self.files.sync_directory(directory)?;
        Ok(())
    }

    /// What was acknowledged is found again, but for what rot may hide.
    fn check_recovered(&mut self, logs: &[RecoveredLog], starts: &BTreeMap<u32, LaneStart>) -> Result<(), Failure> {
        let mut lossy = self.powerless && self.durability == Durability::Os;
        for log in logs {
            let Some(history) = self.histories.get_mut(&log.shard) else {
                return Err(Failure::Broken(format!("a log of shard {} from nowhere", log.shard)));
            };
            let end = log.log.resume.next_lsn;
            let hidden = history.check_end(end, self.powerless, &self.files).map_err(|reason| {
                Failure::Broken(format!("shard {}: {reason}; last blocks {}", log.shard, history.last_blocks()))
            })?;
            lossy |= hidden;
            self.hidden += u64::from(hidden);
            // All that was read was synced before.
            history.begin_session(end, true);
        }
        let is_found = |(lane, sequence, part): &BatchKey| {
            let sequences = starts.get(lane).and_then(|start| start.parts.get(part));
            sequences.is_some_and(|set| set.contains(*sequence))
        };
        match self.acknowledged.iter().find(|batch| !is_found(batch)) {
            Some((lane, sequence, part)) if !lossy => Err(Failure::Broken(format!(
                "batch {sequence} of lane {lane}, part {part}, was acknowledged and is in no log"
            ))),
            _ => {
                self.acknowledged.retain(is_found);
                Ok(())
            }
        }
    }

    /// A start was refused: as it must be over damage, and never without.
    fn refused(&self, error: &RecoverError, faults: &Faults) -> Failure {
        let damaged = self.files.is_damaged();
        match error {
            RecoverError::Log(RecoveryError::Refused { reason, .. }) if damaged => {
                Failure::Refused(Refusal::of(reason), error.to_string())
            }
            RecoverError::Log(RecoveryError::Read { .. }) if faults.counts_of_life.get(Fault::ReadErrorLasting) > 0 => {
                Failure::Refused(Refusal::Unreadable, error.to_string())
            }
            _ => Failure::Broken(format!("the start was refused without a reason: {error}")),
        }
    }

    /// Sizes so small that blocks, segments and the pool of buffers run out all the time.
    fn log_shape(&self, entropy: &mut Entropy) -> AppenderConfig {
        let segment = |blocks: u64| 4_096 + blocks * self.block_size as u64;
        let segment_size_first = segment(1 + entropy.below(3));
        AppenderConfig {
            identity: identity(0),
            durability: self.durability,
            block_size: self.block_size,
            buffers: 2 + entropy.index(4),
            writes_inflight_max: 1 + entropy.index(4),
            idle_after_ns: 1 << (8 + entropy.below(12)),
            supply: SupplyConfig {
                segment_size: segment(2 + entropy.below(4)),
                segment_size_first,
                spares_kept: 1 + entropy.index(2),
                retry_after_ns: 1_000,
            },
        }
    }
}

/// As the engine gets a log ready to be read: leftovers go, everything is synced.
fn make_ready(files: &mut Files, directory: Directory) -> Result<(), Down> {
    let names = files.list(directory);
    for &name in &names {
        if matches!(name, Name::SegmentAside(_)) {
            files.remove(Path { directory, name })?;
        }
    }
    for &name in &names {
        if let (Name::Segment(_), Some(file)) = (name, files.find(Path { directory, name })) {
            files.sync(file)?;
        }
    }
    files.sync_directory(directory)
}

fn identity(shard: u32) -> LogIdentity {
    LogIdentity { store: STORE, shard }
}

fn options(shard: u32) -> ScanOptions {
    ScanOptions { piece_size: PIECE_SIZE, ..ScanOptions::new(identity(shard)) }
}

/// The second pass: batches with what may be published after each.
fn read_again(source: &mut LogSource<'_>, log: &RecoveredLog, replays: &mut Replays) -> Result<(), RecoveryError> {
    let mut frontiers = log.frontiers.iter().copied();
    replay::<_, RecoveryError, _>(source, &options(log.shard), &log.log, |record| {
        if record.kind == RecordKind::BATCH {
            replays.push_back((AlignedBytes::from(record.payload), frontiers.next().unwrap_or(EventTime::MIN)));
        }
        Ok(())
    })
}
