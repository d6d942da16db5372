//! Row 3: the process dies before every kind of step that changes a file: made, written, synced, renamed, removed.
//!
//! Which kinds there are is not a list here but what a run is seen to do.

use crate::live::calls::{Step, Supervised, Verdict};
use crate::live::child::Ended;
use crate::live::job::{Job, PATIENCE, Place, Size, Start};
use crate::live::{Checked, Setting, ensure};
use std::collections::BTreeMap;

/// Enough for snapshots, recycled segments and several parts, and few enough steps to die at each.
const SIZE: Size = Size { rows: 30_000, lanes: 2, batch_rows: 500, hours: 60, keys: 100 };

/// How often each kind of step happens in a run that is only watched.
pub fn count_kinds(place: &Place<'_>, start: Start) -> Checked<BTreeMap<String, u64>> {
    let mut kinds = BTreeMap::new();
    let supervised = Supervised::start(&mut place.command(start)?, &place.stderr())?;
    let running = supervised.watch(PATIENCE, |step| {
        if let Some(kind) = step.kind(&place.root) {
            *kinds.entry(kind).or_default() += 1;
        }
        Verdict::Go
    })?;
    let ended = running.end(PATIENCE)?.with_code(0)?;
    place.check(&ended)?;
    Ok(kinds)
}

/// Runs until the given occurrence of a kind of step, and answers that one so; `None` if it did not come.
pub fn until(place: &Place<'_>, start: Start, kind: &str, which: u64, verdict: Verdict) -> Checked<Option<Ended>> {
    let mut seen = 0;
    let mut decide = |step: &Step| {
        if seen <= which && step.kind(&place.root).is_some_and(|found| found == kind) {
            seen += 1;
            if seen == which + 1 {
                return verdict;
            }
        }
        Verdict::Go
    };
    let supervised = Supervised::start(&mut place.command(start)?, &place.stderr())?;
    let ended = supervised.watch(PATIENCE, &mut decide)?.end(PATIENCE)?;
    let came = seen > which;
    if verdict == Verdict::Kill {
        ensure(ended.was_killed() == came, || format!("{kind} {which}: {}", ended.stderr))?;
    }
    Ok(came.then_some(ended))
}

/// Row 3.
pub fn killed_at_every_step(setting: &Setting) -> Checked<String> {
    let each = setting.times(1, 6);
    let job = Job::new(setting, &setting.scratch.join("row-3"), SIZE)?;
    let place = job.place(setting.scratch.join("row-3/place"))?;
    let start = Start::default();
    let kinds = count_kinds(&place, start)?;
    place.clear()?;
    // The quick half is for some of the kinds, once each.
    let (mut kills, mut missed) = (0u64, 0u64);
    let enough = if setting.quick { 6 } else { u64::MAX };
    // Every fourth kind first, so that the quick half meets all parts of the engine.
    let order = (0..4).flat_map(|offset| kinds.iter().skip(offset).step_by(4));
    for (kind, &count) in order {
        if kills >= enough {
            break;
        }
        for which in occurrences(count, each) {
            // How often a kind of step comes depends on the moment; the first of its kind comes more surely.
            let came = until(&place, start, kind, which, Verdict::Kill)?.is_some() || {
                place.clear()?;
                until(&place, start, kind, 0, Verdict::Kill)?.is_some()
            };
            (kills, missed) = (kills + u64::from(came), missed + u64::from(!came));
            place.check_parts()?;
            // A second death, in what the restart does, at the same kind of step if it comes by there.
            if !setting.quick && until(&place, start, kind, which / 2, Verdict::Kill)?.is_some() {
                kills += 1;
                place.check_parts()?;
            }
            place.finish(start)?;
            place.clear()?;
        }
    }
    let suffices = if setting.quick { kills >= enough } else { missed <= kills / 2 };
    ensure(suffices, || format!("{missed} steps did not come, {kills} did"))?;
    place.remove()?;
    let steps: u64 = kinds.values().sum();
    Ok(format!(
        "{} kinds among {steps} steps of a run; {kills} kills before a step ({missed} did not come again); same bytes \
         and ledger every time",
        kinds.len()
    ))
}

/// The first, the last, and some between.
fn occurrences(count: u64, each: u64) -> Vec<u64> {
    let mut chosen: Vec<u64> =
        (0..each).map(|at| if each == 1 { count / 3 } else { at * (count - 1) / (each - 1) }).collect();
    chosen.dedup();
    chosen
}
