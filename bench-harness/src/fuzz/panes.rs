//! The pane log target: records with the right checksums and any content, put back into windows.
//!
//! An input is a list of records: a kind, a length of two bytes, and the bytes.

use super::stage::{self, PLAN};
use crate::entropy::Entropy;
use corefold_aggregator::coordinator::{Coordinator, CoordinatorError};
use corefold_aggregator::pane_log::{PaneEntry, Pulled};
use corefold_aggregator::time::EventTime;
use corefold_shards::pane_log::PaneHistory;
use corefold_shards::wal::{Lsn, Record, RecordKind};
use rkyv::util::AlignedVec;
use xxhash_rust::xxh3::Xxh3;

/// See the module.
pub fn body(mut input: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    let mut history = PaneHistory::default();
    let mut pieces: Vec<(Lsn, AlignedVec)> = Vec::new();
    let mut lsn = Lsn(1);
    while let [kind, low, high, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let mut payload = AlignedVec::new();
        payload.extend_from_slice(&rest[..length]);
        input = &rest[length..];
        let kind = if kind & 1 == 0 { RecordKind::PANE } else { RecordKind::PULLED };
        if history.on_record(&Record { lsn, kind, payload: &payload }).is_err() {
            return 1;
        }
        if kind == RecordKind::PANE {
            pieces.push((lsn, payload));
        }
        lsn = lsn.next();
    }
    let Some((_, last)) = history.last() else { return 2 };
    let mut coordinator = coordinator();
    for (lsn, piece) in &pieces {
        if history.counts(*lsn) && coordinator.restore(piece, last).is_err() {
            return 3;
        }
    }
    if coordinator.resume(last).is_err() {
        return 4;
    }
    hash.update(format!("{last:?}").as_bytes());
    finish(&mut coordinator, &mut hash);
    hash.digest()
}

fn coordinator() -> Coordinator {
    let plans = PLAN.views.iter().map(|view| view.plan.clone()).collect();
    let mut coordinator = Coordinator::new(plans, 1);
    coordinator.keep_log();
    coordinator
}

/// Emits all there is, with a last pull that brings nothing new.
fn finish(coordinator: &mut Coordinator, hash: &mut Xxh3) {
    coordinator.on_frontier(0, EventTime::MAX);
    for _ in 0..2 {
        while let Ok(Some(_)) = coordinator.next_entry(|_| EventTime::MIN, AlignedVec::new()) {}
        let emitted = coordinator.emit::<CoordinatorError>(|view, rows| {
            hash.update(&view.to_le_bytes());
            stage::digest(rows, hash);
            Ok(())
        });
        if let Err(error) = emitted {
            hash.update(error.to_string().as_bytes());
            return;
        }
        if let Some(time) = coordinator.start_pull() {
            coordinator.on_pulled(0, time);
        }
    }
}

/// The log of one or two pulls over a few rows.
pub fn sound(entropy: &mut Entropy) -> Vec<u8> {
    let mut coordinator = coordinator();
    let partials = stage::partials([stage::encode(&stage::rows(entropy), 0)]);
    coordinator.on_frontier(0, EventTime::LATEST);
    let time = coordinator.start_pull().expect("panes to close");
    for partial in &partials {
        // More groups than a view takes are refused, as in a run.
        if coordinator.on_partial(0, partial).is_err() {
            break;
        }
    }
    coordinator.on_pulled(0, time);
    let committed = *entropy.pick(&[EventTime::MIN, EventTime::MAX, EventTime(1_356_998_401_000_000)]);
    let mut input = Vec::new();
    while let Ok(Some(entry)) = coordinator.next_entry(|_| committed, AlignedVec::new()) {
        let (kind, bytes) = match entry {
            PaneEntry::Piece { bytes, .. } => (0, bytes),
            PaneEntry::Pulled { bytes, .. } => (1, bytes),
        };
        push(&mut input, kind, &bytes);
    }
    if entropy.chance(0.3) {
        let last = Pulled { time: EventTime::MAX.0, pieces: 0, views: Vec::new() };
        push(&mut input, 1, &last.archive(AlignedVec::new()).expect("a small archive"));
    }
    input
}

fn push(input: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    input.push(kind);
    input.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    input.extend_from_slice(bytes);
}
