//! Rows 1 and 2: the process is killed, while it runs and while it recovers; and the number of shards changes.
//!
//! Kills at a given step are in [`super::steps`].

use crate::entropy::Entropy;
use crate::live::child::Ended;
use crate::live::job::{Job, PATIENCE, Place, Size, Start};
use crate::live::{Checked, Setting, ensure};
use std::time::Duration;

/// Numbers of shards that restarts choose from.
const SHARDS: [u32; 4] = [1, 2, 3, 4];

/// What a series of disturbed runs came to.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Runs that were ended by force.
    pub disturbed: u64,
    /// Times a job came to its end, and was checked.
    pub ends: u64,
    /// Ends by a run that found rows of killed ones.
    pub resumed_ends: u64,
}

/// Rows that a finished run took over from earlier ones.
pub fn resumed(ended: &Ended) -> u64 {
    let line = ended.stderr.lines().find_map(|line| line.strip_prefix("resumed   "));
    let digits: String = line.unwrap_or_default().chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    digits.replace(',', "").parse().unwrap_or(0)
}

/// Row 1.
pub fn killed_at_random(setting: &Setting) -> Checked<String> {
    let times = setting.times(25, 1_000);
    let job = Job::new(setting, &setting.scratch.join("row-1"), Size::of(setting))?;
    let place = job.place(setting.scratch.join("row-1/place"))?;
    let mut entropy = Entropy::new(setting.seed);
    let mut tally = Tally::default();
    // Kills of one round hit the same job; a round ends with the job's end.
    while tally.disturbed < times {
        let kills = (1 + entropy.below(8)).min(times - tally.disturbed);
        let start = random_start(&mut entropy);
        kill_round(&place, &job, &mut entropy, kills, start, &mut tally)?;
        place.clear()?;
    }
    ensure(tally.resumed_ends * 2 >= tally.ends, || format!("most kills came too early: {tally:?}"))?;
    place.remove()?;
    let Tally { disturbed, ends, resumed_ends, .. } = tally;
    Ok(format!(
        "{disturbed} kills, {ends} jobs finished with the same bytes and ledger, {resumed_ends} of them with rows of killed runs"
    ))
}

/// Routing and durability stay over a round, shards may change from start to start in some.
fn random_start(entropy: &mut Entropy) -> Start {
    let durability = if entropy.chance(0.15) { "os" } else { "sync" };
    Start {
        shards: *entropy.pick(&[1, 2, 2, 2, 3]),
        routing: entropy.pick::<&str>(&["load", "load", "round-robin", "hash"]),
        durability,
    }
}

fn kill_round(
    place: &Place<'_>,
    job: &Job,
    entropy: &mut Entropy,
    kills: u64,
    start: Start,
    tally: &mut Tally,
) -> Checked {
    let changes_shards = entropy.chance(0.25);
    let mut rows_found = 0;
    for kill in 0.. {
        let start = if changes_shards { Start { shards: *entropy.pick(&SHARDS), ..start } } else { start };
        let disturbed = kill < kills;
        let life = if disturbed { random_life(entropy, job.took) } else { PATIENCE };
        let ended = place.start(start)?.kill_after(life)?;
        if !ended.was_killed() {
            let ended = ended.with_code(0)?;
            place.check(&ended)?;
            rows_found = resumed(&ended);
            break;
        }
        ensure(disturbed, || format!("still running after {PATIENCE:?}: {}", ended.stderr))?;
        tally.disturbed += 1;
        place.check_parts()?;
    }
    tally.ends += 1;
    tally.resumed_ends += u64::from(rows_found > 0);
    // A finished job that is started again has nothing to do, and takes nothing back.
    let again = resumed(&place.finish(start)?);
    ensure(again == job.rows(), || format!("a finished job resumed {again} rows of {}", job.rows()))?;
    Ok(())
}

/// Some die before they have done anything, some while they read their log back, most somewhere on the way.
fn random_life(entropy: &mut Entropy, took: Duration) -> Duration {
    let longest = if entropy.chance(0.25) { took / 6 } else { took };
    Duration::from_micros(entropy.below(longest.as_micros().max(1) as u64))
}

/// Row 2: a log that is nearly whole is read back, again and again, and never to the end.
pub fn killed_in_recovery(setting: &Setting) -> Checked<String> {
    let times = setting.times(15, 200);
    let job = Job::new(setting, &setting.scratch.join("row-2"), Size::of(setting))?;
    let place = job.place(setting.scratch.join("row-2/place"))?;
    let mut entropy = Entropy::new(setting.seed ^ 2);
    let (mut kills, mut ends) = (0, 0);
    let start = Start::default();
    while kills < times {
        place.half_done(start, 0.6 + 0.3 * entropy.unit())?;
        for _ in 0..10.min(times - kills) {
            // Starting takes some milliseconds, and reading back a fraction of what the run took.
            let life = Duration::from_millis(5) + job.took.mul_f64(0.4 * entropy.unit());
            let ended = place.start(start)?.kill_after(life)?;
            if !ended.was_killed() {
                break;
            }
            kills += 1;
            place.check_parts()?;
        }
        place.finish(start)?;
        ends += 1;
        place.clear()?;
    }
    place.remove()?;
    Ok(format!("{kills} kills of a recovery, {ends} jobs finished with the same bytes and ledger"))
}

/// One job over restarts with 1, 4, 2 and 3 shards, each routing, each stopped in order or killed.
pub fn shards_change(setting: &Setting) -> Checked<String> {
    let rounds = setting.times(2, 24);
    let job = Job::new(setting, &setting.scratch.join("row-s"), Size::of(setting))?;
    let place = job.place(setting.scratch.join("row-s/place"))?;
    let mut entropy = Entropy::new(setting.seed ^ 3);
    let (mut stops, mut kills) = (0, 0);
    for round in 0..rounds {
        let routing = ["load", "hash", "round-robin"][round as usize % 3];
        for shards in [1, 4, 2] {
            let start = Start { shards, routing, ..Start::default() };
            let running = place.start(start)?;
            std::thread::sleep(job.took.mul_f64(0.15 + 0.2 * entropy.unit()));
            let by_force = entropy.chance(0.5);
            running.signal(if by_force { libc::SIGKILL } else { libc::SIGTERM })?;
            let ended = running.kill_after(PATIENCE)?;
            if ended.was_killed() {
                kills += 1;
            } else {
                stops += 1;
            }
            place.check_parts()?;
        }
        place.finish(Start { shards: 3, routing, ..Start::default() })?;
        place.clear()?;
    }
    place.remove()?;
    Ok(format!("{rounds} jobs over 1, 4, 2, 3 shards ({kills} kills, {stops} orderly ends): same bytes and ledger"))
}
