//! What the pane log holds is enough to give every window out again that may be missing, and no other.

use super::kit::rand_like::Dice;
use super::kit::{Shelf, batch, emit, plan, pull, shard, step};
use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::pane_log::{PaneEntry, Pulled};
use corefold_aggregator::time::EventTime;
use corefold_shards::pane_log::PaneHistory;
use corefold_shards::shard::{Inbox, Shard, ShardPlan};
use corefold_shards::wal::{Lsn, Record, RecordKind};

fn coordinator(plan: &ShardPlan, shards: usize) -> Coordinator {
    let mut coordinator = Coordinator::new(plan.views.iter().map(|view| view.plan.clone()).collect(), shards);
    coordinator.keep_log();
    coordinator
}

/// Everything that the coordinator has for its log, as records.
fn log(coordinator: &mut Coordinator, committed: EventTime, records: &mut Vec<(RecordKind, Vec<u8>)>) {
    while let Some(entry) = coordinator.next_entry(|_| committed, Default::default()).expect("an entry") {
        records.push(match entry {
            PaneEntry::Piece { bytes, .. } => (RecordKind::PANE, bytes.to_vec()),
            PaneEntry::Pulled { bytes, .. } => (RecordKind::PULLED, bytes.to_vec()),
        });
    }
}

/// Puts a coordinator together from a log.
fn restored(plan: &ShardPlan, records: &[(RecordKind, Vec<u8>)]) -> (Coordinator, EventTime) {
    let mut history = PaneHistory::default();
    let aligned = |bytes: &[u8]| {
        let mut aligned = rkyv::util::AlignedVec::<16>::new();
        aligned.extend_from_slice(bytes);
        aligned
    };
    for (lsn, (kind, payload)) in records.iter().enumerate() {
        let payload = aligned(payload);
        history.on_record(&Record { lsn: Lsn(lsn as u64), kind: *kind, payload: &payload }).expect("a record");
    }
    let mut again = coordinator(plan, 1);
    if let Some((_, last)) = history.last() {
        for (lsn, (_, payload)) in records.iter().enumerate().filter(|(lsn, _)| history.counts(Lsn(*lsn as u64))) {
            again.restore(&aligned(payload), last).unwrap_or_else(|error| panic!("record {lsn}: {error}"));
        }
        again.resume(last).expect("the same views");
    }
    (again, history.released())
}

fn end_of(line: &str) -> i64 {
    let ends = line.split("Time([").nth(2).expect("a column of window ends");
    ends.split([',', ']']).next().and_then(|end| end.trim().parse().ok()).expect("a time")
}

#[test]
fn windows_come_again_from_the_log_as_they_were() {
    for seed in 0..60_u64 {
        let plan = plan(if seed % 4 == 0 { 5 } else { 1000 });
        let mut dice = Dice::new(seed);
        let mut shards: Vec<Shard> = (0..1 + seed % 3).map(|_| shard(&plan)).collect();
        let mut live = coordinator(&plan, shards.len());
        let mut shelf = Shelf::default();
        let (mut given, mut records) = (Vec::new(), Vec::new());
        // What outputs had committed when the last pull was written.
        let mut committed = EventTime::MIN;
        for sequence in 0..24 {
            let at = dice.below(shards.len() as u64) as usize;
            let bytes = batch(sequence, &mut dice);
            step(&mut shards[at], vec![bytes], &mut Inbox::default(), &mut shelf);
            if dice.below(3) == 0 {
                pull(&mut live, &mut shards, EventTime(sequence as i64 * 4));
                let before = records.len();
                log(&mut live, committed, &mut records);
                given.extend(emit(&mut live));
                if dice.below(4) == 0 && records.len() > before + 1 {
                    // A pull that a crash has cut short, and that was begun again.
                    let again: Vec<_> = records[before..].to_vec();
                    let cut = before + 1 + dice.below((again.len() - 1) as u64) as usize;
                    records.truncate(cut);
                    records.extend(again);
                }
                if dice.below(2) == 0 {
                    committed = EventTime(sequence as i64 * 4 - dice.below(40) as i64);
                }
            }
        }
        let (mut again, released) = restored(&plan, &records);
        let last = records.iter().rev().find(|(kind, _)| *kind == RecordKind::PULLED);
        let floors = last.map(|(_, bytes)| {
            let mut aligned = rkyv::util::AlignedVec::<16>::new();
            aligned.extend_from_slice(bytes);
            Pulled::read(&aligned).expect("a pull").views
        });
        let came = emit(&mut again);
        let expected: Vec<&String> = given
            .iter()
            .filter(|line| {
                let view: usize = line[..1].parse().expect("a view");
                let floor = floors.as_ref().expect("rows come of a pull")[view].window_floor;
                let window = plan.views[view].plan.spec.window;
                end_of(line) >= floor.saturating_mul(window.slide()).saturating_add(window.size())
            })
            .collect();
        let mut came_by_view: Vec<&String> = came.iter().collect();
        let mut expected_by_view = expected.clone();
        // Views take turns at each pull; within a view the order is the same.
        came_by_view.sort_by_key(|line| (line.as_bytes()[0], end_of(line)));
        expected_by_view.sort_by_key(|line| (line.as_bytes()[0], end_of(line)));
        assert_eq!(came_by_view, expected_by_view, "seed {seed}, released {released:?}");
        let totals = |coordinator: &Coordinator| -> Vec<(u64, u64)> {
            coordinator.views().iter().map(|view| (view.windows_out, view.rows_out)).collect()
        };
        assert_eq!(totals(&again), totals(&live), "seed {seed}");
    }
}

#[test]
fn a_pull_without_its_last_word_does_not_count() {
    let plan = plan(1000);
    let mut dice = Dice::new(5);
    let mut shards = vec![shard(&plan)];
    let mut live = coordinator(&plan, 1);
    step(&mut shards[0], vec![batch(0, &mut dice)], &mut Inbox::default(), &mut Shelf::default());
    pull(&mut live, &mut shards, EventTime(20));
    let mut records = Vec::new();
    log(&mut live, EventTime::MIN, &mut records);
    assert!(records.len() > 1);
    assert_eq!(restored(&plan, &records).1, EventTime(20));
    records.pop();
    let (mut again, released) = restored(&plan, &records);
    assert_eq!(released, EventTime::MIN);
    assert!(emit(&mut again).is_empty());
}
