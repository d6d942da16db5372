//! Rules of the tables `[engine]`, `[wal]` and `[snapshot]`.
//!
//! Whether the machine can do what is asked (cores, memory, file system) is not checked here.

use std::path::PathBuf;

use super::Checker;
use crate::config::choices::{AtStop, AutoOr, Durability, Routing, name};
use crate::config::file::FileConfig;
use crate::config::{
    BATCH_ROWS_DEFAULT, BATCH_ROWS_MAX, PULL_INTERVAL_DEFAULT, PULL_INTERVAL_MAX, PULL_INTERVAL_MIN,
    SEGMENT_SIZE_DEFAULT, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN, SEGMENT_SIZE_STEP, SHARDS_MAX, SnapshotConfig,
};
use crate::units;
use corefold_aggregator::time::Duration;

/// The part of the configuration that is about the machine.
pub(super) struct Engine {
    pub data_dir: Option<PathBuf>,
    pub shards: AutoOr,
    pub coordinator_core: AutoOr,
    pub pull_interval: std::time::Duration,
    pub pane_retention: Duration,
    pub routing: Routing,
    pub batch_rows: u32,
    pub durability: Durability,
    pub segment_size: u64,
    pub snapshot: SnapshotConfig,
}

pub(super) fn check(checker: &mut Checker<'_>, typed: &FileConfig) -> Engine {
    let table = &typed.engine;
    if let Some(shards) = &table.shards
        && let AutoOr::Fixed(count) = shards.get_ref()
        && !(1..=SHARDS_MAX).contains(count)
    {
        let message = format!("`{count}` is out of range; expected \"auto\" or 1 to {SHARDS_MAX}");
        checker.fault(shards, "engine.shards", message);
    }
    if let Some(data_dir) = table.data_dir.as_ref().filter(|path| path.get_ref().is_empty()) {
        checker.fault(data_dir, "engine.data_dir", "the path is empty; expected a directory");
    }
    let data_dir = table.data_dir.as_ref().map(|path| checker.base().join(path.get_ref()));
    let durability = durability(checker, typed, data_dir.is_some());
    Engine {
        shards: table.shards.as_ref().map(|shards| *shards.get_ref()).unwrap_or_default(),
        coordinator_core: table.coordinator_core.as_ref().map(|core| *core.get_ref()).unwrap_or_default(),
        pull_interval: units::wait(checker.duration(
            table.pull_interval.as_ref(),
            "engine.pull_interval",
            PULL_INTERVAL_DEFAULT,
            PULL_INTERVAL_MIN..=PULL_INTERVAL_MAX,
        )),
        pane_retention: checker.duration(
            table.pane_retention.as_ref(),
            "engine.pane_retention",
            Duration::ZERO,
            Duration::ZERO..=Duration::MAX,
        ),
        routing: checker.choice(table.routing.as_ref(), "engine.routing", "routing").unwrap_or_default(),
        batch_rows: checker.number(
            table.batch_rows.as_ref(),
            "engine.batch_rows",
            BATCH_ROWS_DEFAULT,
            1..=BATCH_ROWS_MAX,
        ),
        durability,
        segment_size: segment_size(checker, typed),
        snapshot: snapshot(checker, typed, data_dir.is_some()),
        data_dir,
    }
}

/// Without a data directory there is nowhere to keep open windows.
pub(super) fn stop(checker: &mut Checker<'_>, typed: &FileConfig, has_listeners: bool) -> AtStop {
    let has_data_dir = typed.engine.data_dir.is_some();
    let given = typed.engine.stop.as_ref();
    let choice: Option<AtStop> = checker.choice(given, "engine.stop", "choice");
    match (choice, given) {
        (Some(AtStop::Keep), Some(given)) if !has_data_dir => {
            checker.fault(given, "engine.stop", "open windows are kept in a directory; set `data_dir` in [engine]");
        }
        (Some(_), Some(given)) if !has_listeners => {
            checker.note(given, "engine.stop", "all sources are files, which end by themselves: no effect");
        }
        _ => {}
    }
    choice.unwrap_or(if has_data_dir { AtStop::Keep } else { AtStop::Drain })
}

/// Without a data directory there is nowhere to keep a log; asking for one anyway is a fault.
fn durability(checker: &mut Checker<'_>, typed: &FileConfig, has_data_dir: bool) -> Durability {
    let given = typed.wal.durability.as_ref();
    let choice: Option<Durability> = checker.choice(given, "wal.durability", "durability");
    match (choice, given) {
        (Some(choice), Some(given)) if choice != Durability::None && !has_data_dir => {
            let message =
                format!("durability \"{}\" needs a directory for the log; set `data_dir` in [engine]", name(&choice));
            checker.fault(given, "wal.durability", message);
            Durability::None
        }
        (Some(choice), _) => choice,
        (None, _) if has_data_dir => Durability::default(),
        (None, _) => {
            let message = "there is no `data_dir`, so no log is kept and a restart begins anew";
            checker.notes.push(checker.document.error(0, "engine", message));
            Durability::None
        }
    }
}

fn segment_size(checker: &mut Checker<'_>, typed: &FileConfig) -> u64 {
    let given = typed.wal.segment_size.as_ref();
    let size = checker.size(given, "wal.segment_size", SEGMENT_SIZE_DEFAULT, SEGMENT_SIZE_MIN..=SEGMENT_SIZE_MAX);
    if let Some(given) = given.filter(|_| !size.is_multiple_of(SEGMENT_SIZE_STEP)) {
        let message = format!("`{size}` is not a multiple of {}", units::format_size(SEGMENT_SIZE_STEP));
        checker.fault(given, "wal.segment_size", message);
    }
    size
}

fn snapshot(checker: &mut Checker<'_>, typed: &FileConfig, has_data_dir: bool) -> SnapshotConfig {
    let default = SnapshotConfig::default();
    let Some(table) = &typed.snapshot else { return default };
    if !has_data_dir {
        checker.note(table, "snapshot", "there is no `data_dir`, so no snapshots are taken");
    }
    let typed = table.get_ref();
    SnapshotConfig {
        wal_bytes: checker.size(typed.wal_bytes.as_ref(), "snapshot.wal_bytes", default.wal_bytes, 64 << 10..=1 << 40),
        batches: checker.number(typed.batches.as_ref(), "snapshot.batches", default.batches, 1..=1_000_000_000_000),
    }
}
