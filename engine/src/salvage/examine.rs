//! Asks recovery about every log of a directory: first as a start would, then with the leave to cut.
//!
//! The pane log comes first: a shard's snapshot is of use only if the pane log has reached what that snapshot has let
//! go. Nothing is changed here.

use std::path::PathBuf;

use corefold_aggregator::time::EventTime;
use corefold_shards::pane_log::{PaneHistory, PaneLogError};
use corefold_shards::snapshot::SnapshotError;
use corefold_shards::snapshot::format::file_name;
use corefold_shards::snapshot::writer::SNAPSHOTS_KEPT;
use corefold_shards::wal::{LogEnd, Lsn, RecoveryError, RefusalReason, ScanOptions, ScanPolicy, scan};

use super::{Case, Finding, SalvageError};
use crate::disk::snapshots::list;
use crate::disk::{LogDirectory, Store};
use crate::recover::{PANES, RecoveredPanes, open_snapshot};

const ELSEWHERE: &str = "move the file back to where it belongs";
const START_ANEW: &str = "panes that the shards have let go are lost, and with them windows; restore the pane log, or begin anew in another \
     directory";

/// Every log of the store: the pane log, if there is one, then the shards'.
pub(super) fn directory(store: &Store, pending: &[String]) -> Result<Vec<Case>, SalvageError> {
    let mut cases = Vec::new();
    let mut released = EventTime::MIN;
    let panes = LogDirectory::new(store.root().join(PANES).join("wal"), store.log_identity(u32::MAX));
    if panes.path().is_dir() {
        let (case, reached) = pane_log(panes, pending)?;
        cases.push(case);
        released = reached;
    }
    for shard in store.shards()? {
        let log = LogDirectory::new(store.shard_path(shard).join("wal"), store.log_identity(shard));
        if log.path().is_dir() {
            cases.push(shard_log(store, shard, log, released, pending)?);
        }
    }
    Ok(cases)
}

/// Why a walk over a log stops.
enum Stop {
    Log(RecoveryError),
    Other(String),
}

impl From<RecoveryError> for Stop {
    fn from(error: RecoveryError) -> Stop {
        Stop::Log(error)
    }
}

impl From<PaneLogError> for Stop {
    fn from(error: PaneLogError) -> Stop {
        Stop::Other(error.to_string())
    }
}

/// The pane log, and the time that it reaches or would reach.
fn pane_log(directory: LogDirectory, pending: &[String]) -> Result<(Case, EventTime), SalvageError> {
    let name = "pane log".to_owned();
    let options = RecoveredPanes::options(directory.identity());
    let mut released = EventTime::MIN;
    let finding = log(&directory, &options, pending.contains(&name), |policy| {
        let mut history = PaneHistory::default();
        let options = ScanOptions { policy, ..options };
        let read =
            scan::<_, Stop, _>(&mut directory.files_as_they_are()?, &options, |record| Ok(history.on_record(&record)?));
        released = if read.is_ok() { history.released() } else { EventTime::MIN };
        Ok(read)
    })?;
    Ok((Case { name, directory, finding, begin: None, aside: Vec::new() }, released))
}

fn shard_log(
    store: &Store,
    shard: u32,
    directory: LogDirectory,
    released: EventTime,
    pending: &[String],
) -> Result<Case, SalvageError> {
    let name = format!("shard {shard}");
    let (mut begin, mut aside, mut behind) = (None, Vec::new(), None);
    for generation in list(&store.shard_path(shard))? {
        let path = store.shard_path(shard).join(file_name(generation));
        let looked = open_snapshot(store, shard, generation).and_then(|mut file| {
            while file.next_chunk()?.is_some() {}
            Ok((file.header().lsn, EventTime(file.head().released)))
        });
        match looked {
            Ok((_, reaches)) if reaches > released => {
                let reason = format!("it has let go panes below {reaches}, but the pane log ends at {released}");
                behind.get_or_insert_with(|| reason.clone());
                aside.push((path, reason));
            }
            Ok((lsn, _)) => {
                begin = Some((path, lsn));
                break;
            }
            Err(error @ (SnapshotError::Foreign | SnapshotError::OtherVersion { .. })) => {
                let finding = Finding::Hopeless { refusal: format!("{}: {error}", path.display()), advice: ELSEWHERE };
                return Ok(Case { name, directory, finding, begin: None, aside: Vec::new() });
            }
            Err(error) => aside.push((path, error.to_string())),
        }
    }
    let from = begin.as_ref().map_or(Lsn::ZERO, |(_, lsn)| *lsn);
    let options = ScanOptions { from, ..ScanOptions::new(directory.identity()) };
    let finding = log(&directory, &options, pending.contains(&name), |policy| {
        let options = ScanOptions { policy, ..options };
        Ok(scan::<_, Stop, _>(&mut directory.files_as_they_are()?, &options, |_| Ok(())))
    })?;
    let finding = match (finding, behind) {
        // Events that were folded into panes that are nowhere any more cannot come again out of this log.
        (Finding::Anew { .. }, Some(reason)) => Finding::Hopeless { refusal: reason, advice: START_ANEW },
        (finding, _) => finding,
    };
    let finding = match finding {
        // Nothing is there, though there was: recovery refuses that.
        Finding::Sound(log) if log.end == LogEnd::Empty && begin.is_none() && !aside.is_empty() => {
            Finding::Anew { refusal: format!("{}: {}", directory.path().display(), RefusalReason::Gone), also: None }
        }
        finding => finding,
    };
    // Recovery itself passes over a damaged snapshot where the log reaches back to an older one.
    let is_lost = begin.is_none() && aside.len() >= SNAPSHOTS_KEPT;
    if begin.is_some() || (matches!(finding, Finding::Sound(_)) && !is_lost) {
        aside.retain(|(path, _)| is_behind(store, shard, path, released));
    }
    Ok(Case { name, directory, finding, begin, aside })
}

/// Whether a snapshot is sound and all the same of no use.
fn is_behind(store: &Store, shard: u32, path: &PathBuf, released: EventTime) -> bool {
    let generations = list(&store.shard_path(shard)).unwrap_or_default();
    generations.into_iter().filter(|generation| store.shard_path(shard).join(file_name(*generation)) == *path).any(
        |generation| {
            open_snapshot(store, shard, generation).is_ok_and(|file| EventTime(file.head().released) > released)
        },
    )
}

type Read = Result<corefold_shards::wal::Recovered, Stop>;

/// What is to be said of a log that `read` walks over with the given leave.
fn log(
    directory: &LogDirectory,
    options: &ScanOptions,
    is_pending: bool,
    mut read: impl FnMut(ScanPolicy) -> Result<Read, SalvageError>,
) -> Result<Finding, SalvageError> {
    debug_assert_eq!(options.policy, ScanPolicy::Refuse);
    let refusal = match read(ScanPolicy::Refuse)? {
        Ok(recovered) if is_pending => return Ok(Finding::Unrecorded(Box::new(recovered))),
        Ok(recovered) => return Ok(Finding::Sound(Box::new(recovered))),
        Err(Stop::Other(what)) => {
            let refusal = format!("{}: {what}", directory.path().display());
            return Ok(Finding::Anew { refusal, also: None });
        }
        Err(Stop::Log(refusal @ RecoveryError::Refused { .. })) => refusal,
        Err(Stop::Log(error)) => return Err(error.into()),
    };
    Ok(match read(ScanPolicy::Salvage)? {
        Ok(kept) if kept.end == LogEnd::Salvaged => Finding::Cut { refusal, kept: Box::new(kept) },
        // Spares without the log that they were made for.
        Ok(_) => Finding::Anew { refusal: refusal.to_string(), also: None },
        Err(Stop::Other(what)) => Finding::Anew { refusal: refusal.to_string(), also: Some(what) },
        Err(Stop::Log(RecoveryError::Refused { reason, .. })) => match reason {
            RefusalReason::OtherStore
            | RefusalReason::OtherShard { .. }
            | RefusalReason::OtherSegment { .. }
            | RefusalReason::OtherVersion { .. } => {
                Finding::Hopeless { refusal: refusal.to_string(), advice: ELSEWHERE }
            }
            also => Finding::Anew { refusal: refusal.to_string(), also: Some(also.to_string()) },
        },
        Err(Stop::Log(error)) => return Err(error.into()),
    })
}
