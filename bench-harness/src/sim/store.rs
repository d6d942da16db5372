//! What a simulated machine keeps over a crash: its files, and what the simulator knows of its logs. Recovery, and the
//! plan of the next start.
//!
//! Reading logs back and joining what they say is the engine's own code; the order of its repairs is mirrored here.

use super::disk::LogDisk;
use super::faults::{Fault, Faults};
use super::files::{Directory, Down, Files, Name, Path};
use super::history::LogHistory;
use super::panes::PaneSite;
use super::reading::LogSource;
use super::site::{BatchKey, Beginning, Site};
use super::snapshots::{
    SnapshotDisk, open_snapshot, read_snapshots, remove_leftovers, remove_snapshots, snapshot_error, witness_of,
};
use super::trace::{Trace, describe};
use super::{Failure, Refusal};
use crate::entropy::Entropy;
use crate::local::plan::LocalPlan;
use crate::local::store::Survival;
use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::time::{Duration, EventTime};
use corefold_engine::feed::lanes::LaneStart;
use corefold_engine::recover::{
    AllSnapshots, FirstPass, RecoverError, RecoveredLane, RecoveredPanes, RecoveredShard, RecoveredStore, ShardStart,
    read_all, take_start_of,
};
use corefold_shards::batch::AlignedBytes;
use corefold_shards::ledger::SequenceSet;
use corefold_shards::live_lanes::LaneId;
use corefold_shards::pane_log::{HeldPiece, PaneLog};
use corefold_shards::shard::{PARTIAL_ROWS, Shard};
use corefold_shards::snapshot::{Adopted, SnapshotConfig, SnapshotError, SnapshotWriter};
use corefold_shards::wal::supply::SupplyConfig;
use corefold_shards::wal::{
    Appender, AppenderConfig, Durability, LogIdentity, Lsn, RecordKind, RecoveryError, ResumePoint, ScanOptions,
    SegmentId, replay,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Identity of the store.
const STORE: [u8; 16] = *b"simulated-store!";

/// The pane log.
const PANES: Directory = Directory::Log(u32::MAX);

/// Bytes that recovery reads at once: less than most logs, so that its window moves.
const PIECE_SIZE: usize = 8 << 10;

/// See the module.
#[derive(Debug)]
pub struct Store {
    /// The file system.
    pub files: Files,
    /// Whether shards take snapshots and the coordinator keeps a log of panes.
    pub keeps_panes: bool,
    pane_retention: Duration,
    histories: BTreeMap<Directory, LogHistory>,
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
    /// The same for lanes of producers elsewhere.
    pub network: BTreeMap<LaneId, RecoveredLane>,
    /// The shards.
    pub sites: Vec<Site>,
    /// The coordinator, with the windows that its log holds.
    pub coordinator: Coordinator,
    /// Everything below this time is in its log.
    pub resumed: EventTime,
    /// Its log.
    pub panes: Option<PaneSite>,
}

/// A shard that has read all but not begun.
struct Begun {
    shard: Shard,
    resume: ResumePoint,
    replays: Replays,
    orphans: Vec<Adopted>,
    inherited: Vec<Adopted>,
}

impl Store {
    /// An empty store.
    pub fn new(is_rot: bool, keeps_panes: bool, slide: i64, entropy: &mut Entropy) -> Store {
        let block_size = *entropy.pick(&[4_096, 4_096, 8_192, 16_384]);
        // Without syncs nothing is promised after a power cut but by jobs that read their whole input again.
        let unsynced = !is_rot && !keeps_panes && entropy.chance(0.3);
        let durability = if !unsynced { Durability::Sync } else { Durability::Os };
        let retention = *entropy.pick(&[0, 0, slide, slide.saturating_mul(5)]);
        Store {
            files: Files::default(),
            keeps_panes,
            pane_retention: Duration::from_micros(retention).unwrap_or(Duration::ZERO),
            histories: BTreeMap::new(),
            block_size,
            durability,
            acknowledged: BTreeSet::new(),
            powerless: false,
            hidden: 0,
        }
    }

    /// The process has gone, and the power with it if `power` says so.
    pub fn crash(
        &mut self,
        sites: Vec<Site>,
        panes: Option<PaneSite>,
        power: bool,
        faults: &mut Faults,
        entropy: &mut Entropy,
    ) {
        let survival = *entropy.pick(&Survival::ALL);
        for (shard, site) in (0..).zip(sites) {
            self.acknowledged.extend(site.acknowledged);
            let history = site.disk.crash(survival, &mut self.files, faults, entropy);
            self.histories.insert(Directory::Log(shard), history);
        }
        if let Some(panes) = panes {
            let history = panes.disk.crash(survival, &mut self.files, faults, entropy);
            self.histories.insert(PANES, history);
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

    /// The process ends before it has done anything.
    pub fn put_back(&mut self, sites: Vec<Site>, panes: Option<PaneSite>) {
        let logs = (0..).map(Directory::Log).zip(sites.into_iter().map(|site| site.disk.history));
        self.histories.extend(logs.chain(panes.map(|panes| (PANES, panes.disk.history))));
    }

    /// Reads all that is there and starts `count` shards.
    pub fn start(
        &mut self,
        count: usize,
        lanes: usize,
        plan: &LocalPlan,
        faults: &mut Faults,
        entropy: &mut Entropy,
        trace: &mut Trace,
    ) -> Result<Started, Failure> {
        let mut recovered = self.recover(count, lanes, plan.delay_max, faults, entropy)?;
        trace.event(|| describe(&recovered));
        let hidden = self.hidden;
        self.check_recovered(&recovered)?;
        faults.is_hidden |= self.hidden > hidden;
        for from in &recovered.shards {
            remove_snapshots(&mut self.files, from.shard, &from.snapshots.passed_over)?;
        }
        for (_, adopted) in recovered.adopted.extract_if(.., |(_, adopted)| (adopted.shard as usize) < count) {
            self.files.retire_shard(adopted.shard)?;
            self.files.sync_directory(Directory::Root)?;
        }
        let lane_starts: BTreeMap<u32, u64> =
            recovered.lanes.iter().map(|(lane, start)| (*lane, start.sequence)).collect();
        let shape = self.log_shape(entropy);
        let snapshots = self.snapshot_plan(plan, entropy);
        let mut begun = Vec::with_capacity(count);
        for index in 0..count {
            let start = take_start_of(&mut recovered, index, count);
            begun.push(self.begin_shard(index as u32, start, snapshots, recovered.released, plan, faults, entropy)?);
        }
        let views: Vec<_> = plan.shards.views.iter().map(|view| view.plan.clone()).collect();
        let mut coordinator = Coordinator::new(views, count);
        let panes = match recovered.panes.take() {
            Some(panes) => Some(self.begin_panes(&panes, shape, plan, &mut coordinator, faults, entropy)?),
            None => None,
        };
        // From here on nothing can fail.
        self.powerless = false;
        let mut histories = |directory: Directory, next: Lsn| {
            let mut history = self.histories.remove(&directory).unwrap_or_else(|| LogHistory::new(directory));
            history.begin_session(next, shape.durability == Durability::Sync);
            history
        };
        let panes = panes.map(|(log, next)| {
            let history = histories(PANES, next);
            PaneSite::new(log, LogDisk::new(identity(u32::MAX), PANES, history))
        });
        let sites = (0..).zip(begun).map(|(shard, begun)| {
            let directory = Directory::Log(shard);
            let history = histories(directory, begun.resume.next_lsn);
            let log = Appender::start(AppenderConfig { identity: identity(shard), ..shape }, begun.resume);
            let disk = LogDisk::new(identity(shard), directory, history);
            let mut shard_itself = begun.shard;
            shard_itself.attach_log(log);
            let site = Site::new(shard_itself, disk, begun.replays, shape.writes_inflight_max);
            match snapshots {
                None => site,
                Some(_) => {
                    let (orphans, inherited) = (begun.orphans, begun.inherited);
                    let beginning = Beginning { lane_starts: lane_starts.clone(), orphans, inherited };
                    site.with_snapshots(SnapshotDisk::new(identity(shard)), beginning)
                }
            }
        });
        let sites = sites.collect();
        let (network, resumed) = (std::mem::take(&mut recovered.network), recovered.released);
        let mut lanes = recovered.lanes;
        lanes.extend(network.iter().map(|(id, lane)| (id.lane, start_of(lane))));
        Ok(Started { lanes, network, sites, coordinator, resumed, panes })
    }

    /// The first pass, in the engine's order.
    fn recover(
        &mut self,
        count: usize,
        lanes: usize,
        delay: Duration,
        faults: &mut Faults,
        entropy: &mut Entropy,
    ) -> Result<RecoveredStore, Failure> {
        let panes = if self.keeps_panes {
            make_ready(&mut self.files, PANES)?;
            let mut source = LogSource::new(&self.files, PANES, faults, entropy);
            let read = RecoveredPanes::read_from(&mut source, identity(u32::MAX));
            Some(read.map_err(|error| self.refused(&error, faults))?)
        } else {
            None
        };
        let released = panes.as_ref().map_or(EventTime::MIN, |panes| panes.history.released());
        let numbers = self.files.shards();
        for &shard in &numbers {
            remove_leftovers(&mut self.files, shard)?;
        }
        let read = |shard, below| read_snapshots(&self.files, &identity(shard), below, faults, entropy);
        let read = read_all(&numbers, count, read, |shard| Ok(witness_of(&self.files, shard)));
        let AllSnapshots { found, adopted } = read.map_err(|error: RecoverError| self.refused(&error, faults))?;
        let mut pass = FirstPass::default();
        for (shard, snapshots) in found {
            if adopted.iter().any(|(_, adopted)| adopted.shard == shard) {
                continue;
            }
            make_ready(&mut self.files, Directory::Log(shard))?;
            let options = ScanOptions { from: snapshots.lsn(), ..options(shard) };
            let mut source = LogSource::new(&self.files, Directory::Log(shard), faults, entropy);
            let read = pass.read_shard(shard, snapshots, released, &mut source, &options, "simulated");
            read.map_err(|error| self.refused(&error, faults))?;
        }
        let mut recovered = pass.finish(lanes, |_| delay);
        (recovered.adopted, recovered.panes, recovered.released) = (adopted, panes, released);
        Ok(recovered)
    }

    /// What the engine does on a shard's core before its first step: repairs the log, takes snapshots in, reads what is
    /// to be folded again.
    #[expect(clippy::too_many_arguments, reason = "all that a start depends on")]
    fn begin_shard(
        &mut self,
        shard: u32,
        start: ShardStart,
        snapshots: Option<SnapshotConfig>,
        released: EventTime,
        plan: &LocalPlan,
        faults: &mut Faults,
        entropy: &mut Entropy,
    ) -> Result<Begun, Failure> {
        if self.files.make_shard(shard, || entropy.bits())? {
            self.histories.remove(&Directory::Log(shard));
        }
        let own = start.shards.iter().find(|from| from.shard == shard);
        for &segment in own.map_or(&[][..], |own| &own.log.discard) {
            self.discard(Directory::Log(shard), segment)?;
        }
        let mut itself = Shard::new(plan.shards.clone(), None);
        itself.set_partial_rows(*entropy.pick(&[1, 3, PARTIAL_ROWS]));
        if let Some(config) = snapshots {
            let (kept, stale) =
                own.map(|own| (own.snapshots.kept.clone(), own.snapshots.stale.clone())).unwrap_or_default();
            let config = SnapshotConfig { identity: identity(shard), ..config };
            itself.keep_snapshots(SnapshotWriter::new(config, kept, stale));
            itself.start_at(released);
            for from in &start.shards {
                let Some(kept) = from.snapshot() else { continue };
                let file = open_snapshot(&self.files, &identity(from.shard), kept.generation, faults, entropy);
                let adopted = file.and_then(|mut file| itself.adopt(&mut file));
                adopted.map_err(|error| self.refused(&snapshot_error(error), faults))?;
            }
            itself.publish(start.frontier);
        }
        let mut replays = VecDeque::new();
        for from in &start.shards {
            let mut source = LogSource::new(&self.files, Directory::Log(from.shard), faults, entropy);
            let read = read_again(&mut source, from, &mut replays);
            read.map_err(|error| self.refused(&RecoverError::Log(error), faults))?;
        }
        let orphans = start.shards.iter().filter(|from| from.shard != shard);
        let orphans = orphans.map(|orphan| witness_of(&self.files, orphan.shard)).collect();
        let resume = own.map_or_else(ResumePoint::fresh, |own| own.log.resume.clone());
        Ok(Begun { shard: itself, resume, replays, orphans, inherited: start.adopted })
    }

    /// What the engine does on the coordinator's core before its first turn.
    fn begin_panes(
        &mut self,
        recovered: &RecoveredPanes,
        shape: AppenderConfig,
        plan: &LocalPlan,
        coordinator: &mut Coordinator,
        faults: &mut Faults,
        entropy: &mut Entropy,
    ) -> Result<(PaneLog, Lsn), Failure> {
        coordinator.keep_log();
        let mut held = Vec::new();
        let last = recovered.history.last();
        if let Some((_, pulled)) = last {
            let mut source = LogSource::new(&self.files, PANES, faults, entropy);
            let options = ScanOptions { piece_size: PIECE_SIZE, ..RecoveredPanes::options(identity(u32::MAX)) };
            let (mut broken, mut first) = (None, Lsn::ZERO);
            let read = replay::<_, RecoveryError, _>(&mut source, &options, &recovered.log, |record| {
                if record.kind == RecordKind::PANE && recovered.history.counts(record.lsn) {
                    match coordinator.restore(record.payload, pulled) {
                        Ok((view, pane)) => held.push(HeldPiece { view, pane, first }),
                        Err(error) => broken = Some(error),
                    }
                }
                first = record.lsn.next();
                Ok(())
            });
            read.map_err(|error| self.refused(&RecoverError::Log(error), faults))?;
            broken
                .map_or_else(|| coordinator.resume(pulled), Err)
                .map_err(|error| Failure::Broken(error.to_string()))?;
        }
        for &segment in &recovered.log.discard {
            self.discard(PANES, segment)?;
        }
        let resume = recovered.log.resume.clone();
        let next = resume.next_lsn;
        let log = Appender::start(AppenderConfig { identity: identity(u32::MAX), ..shape }, resume);
        let windows = plan.shards.views.iter().map(|view| view.plan.spec.window);
        Ok((PaneLog::new(log, windows.collect(), self.pane_retention, held), next))
    }

    /// When snapshots are taken: all the time, or hardly ever.
    fn snapshot_plan(&self, plan: &LocalPlan, entropy: &mut Entropy) -> Option<SnapshotConfig> {
        self.keeps_panes.then(|| SnapshotConfig {
            identity: identity(0),
            plan: plan.shards.fingerprint(),
            wal_bytes: *entropy.pick(&[1_000, 10_000, 1 << 40]),
            batches: *entropy.pick(&[1, 3, 10, 1 << 40]),
        })
    }

    fn discard(&mut self, directory: Directory, segment: SegmentId) -> Result<(), Failure> {
        self.files.remove(Path { directory, name: Name::Segment(segment) })?;
        self.files.sync_directory(directory)?;
        Ok(())
    }

    /// What was acknowledged is found again, but for what rot may hide.
    fn check_recovered(&mut self, recovered: &RecoveredStore) -> Result<(), Failure> {
        let mut lossy = self.powerless && self.durability == Durability::Os;
        let panes = recovered.panes.as_ref().map(|panes| (PANES, &panes.log));
        let logs = recovered.shards.iter().map(|shard| (Directory::Log(shard.shard), &shard.log));
        for (directory, log) in logs.chain(panes) {
            let history = self.histories.entry(directory).or_insert_with(|| LogHistory::new(directory));
            let end = log.resume.next_lsn;
            let hidden = history.check_end(end, self.powerless, &self.files).map_err(|reason| {
                Failure::Broken(format!("{directory:?}: {reason}; last blocks {}", history.last_blocks()))
            })?;
            lossy |= hidden;
            self.hidden += u64::from(hidden);
            // All that was read was synced before.
            history.begin_session(end, true);
            history.forget_passed_over(hidden, &mut self.files);
        }
        let elsewhere: BTreeMap<u32, u64> =
            recovered.network.iter().map(|(id, lane)| (id.lane, lane.origin.next)).collect();
        let is_found = |(lane, sequence, part): &BatchKey| {
            let sequences = recovered.lanes.get(lane).and_then(|start| start.parts.get(part));
            let is_elsewhere = elsewhere.get(lane).is_some_and(|next| sequence < next);
            is_elsewhere || sequences.is_some_and(|set| set.contains(*sequence))
        };
        match self.acknowledged.iter().find(|batch| !is_found(batch)) {
            Some((lane, sequence, part)) if !lossy => Err(Failure::Broken(format!(
                "batch {sequence} of lane {lane}, part {part}, was acknowledged and is in no log or snapshot"
            ))),
            _ => {
                self.acknowledged.retain(is_found);
                Ok(())
            }
        }
    }

    /// A start was refused: as it must be over damage, and never without.
    fn refused(&self, error: &RecoverError, faults: &Faults) -> Failure {
        let unreadable = faults.counts_of_life.get(Fault::ReadErrorLasting) > 0;
        let is_damaged = self.files.is_damaged();
        let is_log = matches!(error, RecoverError::Log(_));
        if is_log && !unreadable && self.hidden == 0 && self.files.is_one_snapshot_damaged() {
            return Failure::Broken(format!("one bad snapshot must not end a start: {error}"));
        }
        let refusal = match error {
            RecoverError::Log(RecoveryError::Refused { reason, .. }) if is_damaged => Refusal::of(reason),
            RecoverError::Log(RecoveryError::Read { .. }) if unreadable => Refusal::Unreadable,
            RecoverError::Snapshot { error: SnapshotError::Read { .. }, .. } if unreadable => Refusal::Unreadable,
            RecoverError::Snapshot { .. } | RecoverError::SnapshotsDamaged { .. } if is_damaged => Refusal::Snapshot,
            RecoverError::PanesBehind { .. } | RecoverError::Panes(_) if is_damaged => Refusal::Panes,
            _ if self.hidden > 0 => Refusal::Hidden,
            _ => return Failure::Broken(format!("the start was refused without a reason: {error}")),
        };
        Failure::Refused(refusal, error.to_string())
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

/// What is known of a lane from elsewhere, as of one of the engine's own.
fn start_of(lane: &RecoveredLane) -> LaneStart {
    let mut sequences = SequenceSet::default();
    sequences.insert_range(0, lane.origin.next);
    let parts = BTreeMap::from([(0, sequences)]);
    LaneStart { sequence: lane.origin.next, parts, ..LaneStart::default() }
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
fn read_again(source: &mut LogSource<'_>, from: &RecoveredShard, replays: &mut Replays) -> Result<(), RecoveryError> {
    let mut frontiers = from.frontiers.iter().copied();
    let options = ScanOptions { from: from.snapshots.lsn(), ..options(from.shard) };
    replay::<_, RecoveryError, _>(source, &options, &from.log, |record| {
        if record.kind == RecordKind::BATCH {
            replays.push_back((AlignedBytes::from(record.payload), frontiers.next().unwrap_or(EventTime::MIN)));
        }
        Ok(())
    })
}
