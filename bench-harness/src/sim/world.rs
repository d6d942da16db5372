//! One life of a simulated engine, from its start to its end, its failure or its crash: who moves next is decided by
//! the seed alone.
//!
//! What each actor does is the engine's code or a mirror of its core loops; what survives is in [`super::store`].

use super::checks::EmissionCheck;
use super::faults::{Fault, Faults};
use super::incoming::Incoming;
use super::life::{ACTORS, Ending, Habits, Life, Machine, Output};
use super::site::{BatchKey, Site, SiteError};
use super::trace::Trace;
use super::{Failure, Refusal};
use crate::entropy::Entropy;
use corefold_aggregator::coordinator::{Coordinator, CoordinatorError};
use corefold_aggregator::time::EventTime;
use corefold_engine::feed::lanes::LaneStart;
use corefold_engine::links::{FromShard, ToShard};
use corefold_shards::counters::ShardCounts;
use corefold_shards::fold::view_fold::FoldError;
use corefold_shards::shard::ShardError;
use std::collections::BTreeMap;

/// Turns after which a life that has not ended never will.
const TURNS_MAX: u64 = 200_000;

/// Turns for which a log may be without a segment before the engine gives up.
const STALL_TURNS: u64 = 500;

/// See the module.
pub struct World<'a> {
    sites: Vec<Site>,
    incoming: Incoming<'a>,
    known: &'a BTreeMap<u32, LaneStart>,
    habits: Habits,
    coordinator: Coordinator,
    output: Output,
    emissions: EmissionCheck,
    late_rows: u64,
    now_ns: u64,
    stalled_turns: u64,
    /// Everything below this time is in the log of panes since the start.
    resumed: EventTime,
    /// Turn at which the engine is asked to stop.
    stop_at: u64,
    stopping: bool,
    /// Whether the coordinator has told all to end.
    finishing: bool,
}

impl<'a> World<'a> {
    /// A life with these shards, to which batches come from `incoming`; `known` is what their logs hold, `resumed` the time below which the log
    /// of panes holds all, `stop_at` the turn at which the engine is asked to stop.
    #[expect(clippy::too_many_arguments, reason = "all that a life depends on")]
    pub fn new(
        coordinator: Coordinator,
        resumed: EventTime,
        sites: Vec<Site>,
        output: Output,
        incoming: Incoming<'a>,
        known: &'a BTreeMap<u32, LaneStart>,
        stop_at: u64,
        entropy: &mut Entropy,
    ) -> World<'a> {
        World {
            coordinator,
            incoming,
            sites,
            known,
            habits: Habits::random(matches!(output, Output::Running(_)), entropy),
            output,
            emissions: EmissionCheck::default(),
            late_rows: 0,
            now_ns: 0,
            stalled_turns: 0,
            resumed,
            stop_at,
            stopping: false,
            finishing: false,
        }
    }

    /// Lives until everything is out, until it fails, or for `turns` turns.
    pub fn live(mut self, turns: u64, machine: &mut Machine<'_>) -> Result<Life, Failure> {
        for turn in 0..TURNS_MAX {
            if turn == turns || machine.files.is_down() {
                return Ok(self.end(Ending::Crashed, turn));
            }
            if turn == self.stop_at && !self.incoming.has_dealt() {
                machine.faults.note(Fault::Stop, 1);
                machine.trace.event(|| "asked to stop".to_owned());
                self.stopping = true;
                self.incoming.stop();
            }
            match self.turn(machine) {
                Ok(false) => {}
                Ok(true) => {
                    let ending = self.finish(machine)?;
                    return Ok(self.end(ending, turn));
                }
                Err(Failure::Down) => return Ok(self.end(Ending::Crashed, turn)),
                Err(Failure::GaveUp(reason)) => {
                    machine.trace.event(|| format!("gave up: {reason}"));
                    return Ok(self.end(Ending::GaveUp(reason), turn));
                }
                Err(failure) => return Err(failure),
            }
        }
        let stands: Vec<String> = self.sites.iter_mut().map(Site::describe).collect();
        let stands = stands.join("\n  ");
        let rest = match &self.output {
            Output::Once(_) => String::new(),
            Output::Running(running) => format!(
                "panes settled {} drained {}, rows settled {}; ",
                running.panes.has_settled(),
                running.panes.is_drained(),
                running.rows.has_settled()
            ),
        };
        let rest = format!("{rest}finishing {}, stopping {}", self.finishing, self.stopping);
        Err(Failure::Broken(format!("nothing has ended after {TURNS_MAX} turns; {rest}; shards stand at\n  {stands}")))
    }

    fn end(self, ending: Ending, turns: u64) -> Life {
        Life { ending, sites: self.sites, output: self.output, turns }
    }

    /// Somebody moves; true when everything is out.
    fn turn(&mut self, machine: &mut Machine<'_>) -> Result<bool, Failure> {
        self.now_ns += machine.entropy.below(10_000);
        let actor = machine.entropy.weighted(&self.habits.weights);
        let index = machine.entropy.index(self.sites.len());
        let (now_ns, site) = (self.now_ns, &mut self.sites[index]);
        let Machine { files, faults, entropy, .. } = machine;
        let mut ended = false;
        match (actor, &mut self.output) {
            (0, _) => self.incoming.turn(&mut self.sites, faults, entropy)?,
            (1, _) => {
                let known = self.known;
                let turned = site.turn(now_ns, files, entropy, |key| is_known(known, key));
                turned.map_err(|error| failure_of(index, error, faults))?;
                self.check_stall(index, machine)?;
            }
            (2, _) => {
                let turned = site.disk_turn(now_ns, files, faults, entropy);
                turned.map_err(|error| failure_of(index, error, faults))?;
                let rate = faults.plan.rot;
                if rate > 0.0 && faults.plan.damages_left > 0 && entropy.chance(rate) {
                    self.rot(index, machine);
                }
            }
            (4, Output::Running(_)) => {
                let turned = site.snapshot_turn(files, faults, entropy);
                turned.map_err(|error| failure_of(index, error, faults))?;
            }
            (5, Output::Running(running)) => {
                let turned = running.panes.disk_turn(now_ns, files, faults, entropy);
                turned.map_err(|error| failure_of(usize::MAX, error, faults))?;
            }
            (6, Output::Running(running)) => running.rows.turn(files)?,
            _ => ended = self.coordinate(machine)?,
        }
        let site = &self.sites[index];
        machine.trace.note(actor as u64 ^ (site.waiting() as u64) << 8 ^ (site.answers.len() as u64) << 24);
        machine.trace.note(site.frontier.0 as u64);
        machine.trace.event(|| {
            let (waiting, writes, frontier) = (site.waiting(), site.disk.writes(), site.frontier);
            format!("{} {index}: {waiting} arrivals, {writes} writes in flight, frontier {frontier}", ACTORS[actor])
        });
        Ok(ended)
    }

    fn rot(&mut self, index: usize, machine: &mut Machine<'_>) {
        if self.sites[index].disk.rot(machine.files, machine.entropy) {
            machine.faults.note(Fault::BitRot, 1);
            machine.faults.plan.damages_left -= 1;
            machine.trace.event(|| format!("a bit rots in a log, chosen by shard {index}"));
        }
    }

    /// An engine bears a log without a segment for a while.
    fn check_stall(&mut self, index: usize, machine: &mut Machine<'_>) -> Result<(), Failure> {
        let panes = matches!(&self.output, Output::Running(running) if running.panes.is_stalled());
        if !panes && !self.sites[index].is_stalled() {
            return Ok(());
        }
        self.stalled_turns += 1;
        if self.stalled_turns < STALL_TURNS {
            return Ok(());
        }
        let counts = &machine.faults.counts_of_life;
        if counts.get(Fault::DiskFull) + counts.get(Fault::SyncError) == 0 {
            return Err(Failure::Broken(format!("shard {index} or the pane log cannot get a segment on a good disk")));
        }
        Err(Failure::GaveUp("a log has been without a segment for long".to_owned()))
    }

    // ---- the coordinator --------------------------------------------------------------------------------------

    /// The coordinator's turn; true when all has ended.
    fn coordinate(&mut self, machine: &mut Machine<'_>) -> Result<bool, Failure> {
        let called = self.take_answers(machine.entropy)?;
        self.write_panes(machine)?;
        if self.finishing {
            return self.end_all();
        }
        self.emit(machine.trace)?;
        let drained = self.incoming.has_ended() && self.sites.iter().all(Site::has_settled);
        let stopped = self.stopping && drained;
        if (drained && self.coordinator.is_finished()) || (stopped && self.coordinator.has_settled()) {
            self.finishing = true;
            return self.end_all();
        }
        let ended = self.coordinator.frontier() == EventTime::MAX;
        if (called || stopped || ended || machine.entropy.chance(self.habits.pull_chance))
            && let Some(time) = self.coordinator.start_pull()
        {
            self.order(|| ToShard::Pull(time));
        }
        Ok(false)
    }

    fn take_answers(&mut self, entropy: &mut Entropy) -> Result<bool, Failure> {
        let mut called = false;
        for index in 0..self.sites.len() {
            let site = &mut self.sites[index];
            called |= std::mem::take(&mut site.calls);
            self.coordinator.on_frontier(index, site.frontier);
            let count = if entropy.chance(0.5) { site.answers.len() } else { entropy.index(site.answers.len() + 1) };
            for answer in site.answers.drain(..count) {
                match answer {
                    FromShard::Partial(bytes) => {
                        self.coordinator.on_partial(index, &bytes).map_err(|error| coordinator_failure(&error))?;
                        site.orders.push_back(ToShard::Spent(bytes));
                    }
                    FromShard::Pulled(time) => self.coordinator.on_pulled(index, time),
                    FromShard::Late(_, rows) => self.late_rows += rows.times.len() as u64,
                }
            }
        }
        Ok(called)
    }

    /// Writes merged panes to their log, and tells the shards what they may forget.
    fn write_panes(&mut self, machine: &mut Machine<'_>) -> Result<(), Failure> {
        let Output::Running(running) = &mut self.output else { return Ok(()) };
        let committed = running.rows.committed();
        let (files, entropy) = (&*machine.files, &mut *machine.entropy);
        let turned = running.panes.turn(self.now_ns, &mut self.coordinator, committed, files, entropy);
        turned.map_err(|error| failure_of(usize::MAX, error, machine.faults))?;
        let release = running.panes.take_release();
        if let Some(time) = release.map_err(|error| failure_of(usize::MAX, error, machine.faults))? {
            self.order(|| ToShard::Release(time));
        }
        Ok(())
    }

    /// Gives out what became final.
    fn emit(&mut self, trace: &mut Trace) -> Result<(), Failure> {
        let Self { coordinator, output, emissions, resumed, .. } = self;
        emissions.begin(coordinator.frontier().max(*resumed));
        let release = coordinator.emit(|_, batch| {
            emissions.check(batch).map_err(Failure::Broken)?;
            trace.event(|| format!("{} rows of {:?}", batch.rows, batch.columns[1]));
            match output {
                Output::Once(view) => view.write(batch),
                Output::Running(running) => running.rows.write(batch),
            }
        });
        let release = release?;
        if let Some(time) = release {
            trace.event(|| format!("windows up to {time} are out"));
        }
        match (release, output) {
            (Some(time), Output::Once(_)) => self.order(|| ToShard::Release(time)),
            (Some(time), Output::Running(running)) => running.rows.emitted(time),
            (None, _) => {}
        }
        Ok(())
    }

    fn order(&mut self, order: impl Fn() -> ToShard) {
        self.sites.iter_mut().for_each(|site| site.orders.push_back(order()));
    }

    /// Tells all to end, in the engine's order; true when they have.
    fn end_all(&mut self) -> Result<bool, Failure> {
        let Output::Running(running) = &mut self.output else { return Ok(true) };
        if !running.panes.has_settled() {
            return Ok(false);
        }
        running.panes.seal();
        let is_out = running.panes.is_drained() && running.rows.has_settled();
        let mut ended = true;
        for site in &mut self.sites {
            if !site.finishing && !site.orders.iter().any(|order| matches!(order, ToShard::Finish)) {
                site.orders.push_back(ToShard::Finish);
            }
            ended &= site.has_ended();
        }
        Ok(is_out && ended)
    }

    /// Everything is out: the last looks, and a seal of the logs now and then where a job ends without.
    fn finish(&mut self, machine: &mut Machine<'_>) -> Result<Ending, Failure> {
        let mut counts = ShardCounts::default();
        for index in 0..self.sites.len() {
            counts.add(self.sites[index].shard.counts());
            self.sites[index].check_ledger().map_err(Failure::Broken)?;
            if matches!(self.output, Output::Once(_)) && machine.entropy.chance(0.5) {
                self.seal(index, machine)?;
            }
        }
        let is_all = self.coordinator.is_finished() && !self.stopping;
        Ok(if is_all { Ending::Finished(counts, self.late_rows) } else { Ending::Stopped })
    }

    fn seal(&mut self, index: usize, machine: &mut Machine<'_>) -> Result<(), Failure> {
        let site = &mut self.sites[index];
        if let Some(log) = site.shard.log_mut() {
            log.seal();
        }
        for _ in 0..STALL_TURNS {
            if site.is_down() || machine.files.is_down() {
                break;
            }
            self.now_ns += 5_000;
            let known = self.known;
            let entropy = &mut *machine.entropy;
            let turned = site
                .turn(self.now_ns, machine.files, entropy, |key| is_known(known, key))
                .and_then(|()| site.disk_turn(self.now_ns, machine.files, machine.faults, entropy));
            match turned.map_err(|error| failure_of(index, error, machine.faults)) {
                // What is out is out.
                Err(Failure::GaveUp(_) | Failure::Down) => break,
                other => other?,
            }
        }
        Ok(())
    }
}

fn is_known(known: &BTreeMap<u32, LaneStart>, (lane, sequence, part): &BatchKey) -> bool {
    let sequences = known.get(lane).and_then(|start| start.parts.get(part));
    sequences.is_some_and(|set| set.contains(*sequence))
}

fn coordinator_failure(error: &CoordinatorError) -> Failure {
    Failure::Broken(format!("coordinator: {error}"))
}

impl From<CoordinatorError> for Failure {
    fn from(error: CoordinatorError) -> Failure {
        coordinator_failure(&error)
    }
}

/// A log that has failed ends the engine, if its disk has failed; everything else is a mistake. `usize::MAX` is the
/// pane log.
fn failure_of(shard: usize, error: SiteError, faults: &Faults) -> Failure {
    let whose = if shard == usize::MAX { "pane log".to_owned() } else { format!("shard {shard}") };
    match error {
        SiteError::Down => Failure::Down,
        SiteError::Shard(ShardError::Wal(error)) => {
            let counts = &faults.counts_of_life;
            if counts.get(Fault::WriteError) + counts.get(Fault::ShortWrite) == 0 {
                return Failure::Broken(format!("{whose}: {error}, though no write failed"));
            }
            Failure::GaveUp(format!("{whose}: {error}"))
        }
        // The end of the shard's log rotted unseen, that of the pane log did not: events of panes that are released come
        // again. That is noticed, and nothing goes out.
        SiteError::Shard(ShardError::Fold(error @ FoldError::BelowRelease { .. })) if faults.is_hidden => {
            Failure::Refused(Refusal::Hidden, format!("{whose}: {error}"))
        }
        SiteError::Shard(error) => Failure::Broken(format!("{whose}: {error}")),
        SiteError::Check(reason) => Failure::Broken(format!("{whose}: {reason}")),
    }
}
