//! Giving up what cannot be read: files aside, then a session that records the loss, then a last look.
//!
//! A crash in between must not pass for a sound directory: a file names the logs under repair until all are done, and
//! no engine starts while it is there. What is given up was decided before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use corefold_aggregator::time::Duration;
use corefold_shards::wal::{Lsn, ResumePoint, SegmentId};
use serde_json::json;

use super::{Case, Finding, SalvageError};
use crate::disk::directory::{SALVAGE_FILE, SALVAGED_FILE, sync_directory, write_atomically};
use crate::disk::offline::write_session;
use crate::disk::{DiskError, LogDirectory, Store};
use crate::recover::{PANES, recover};

/// What names the evidence.
const ASIDE: &str = "damaged";

/// Names of the logs whose salvage was begun and not ended.
pub(super) fn pending(root: &Path) -> Result<Vec<String>, DiskError> {
    let path = root.join(SALVAGE_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(DiskError::io("read", &path)(error)),
    }
}

/// Gives up what the cases name.
pub(super) fn give_up(store: &Store, damaged: &[Case]) -> Result<(), SalvageError> {
    let marker = store.root().join(SALVAGE_FILE);
    let names: String = damaged.iter().map(|case| format!("{}\n", case.name)).collect();
    write_atomically(&marker, names.as_bytes())?;
    for case in damaged {
        for (path, _) in &case.aside {
            fs::rename(path, aside(path)).map_err(DiskError::io("rename", path))?;
            path.parent().map_or(Ok(()), sync_directory)?;
        }
        repair(case)?;
    }
    record(store, damaged)?;
    let keeps_panes = store.root().join(PANES).is_dir();
    recover(store, 0, 0, |_| Duration::ZERO, keeps_panes).map_err(SalvageError::NotRepaired)?;
    fs::remove_file(&marker).map_err(DiskError::io("delete", &marker))?;
    sync_directory(store.root())?;
    Ok(())
}

fn repair(case: &Case) -> Result<(), DiskError> {
    let log = &case.directory;
    match &case.finding {
        Finding::Sound(_) | Finding::Hopeless { .. } => Ok(()),
        Finding::Unrecorded(recovered) => {
            log.discard(&recovered.discard)?;
            let resume = ResumePoint { is_salvaged: true, is_sealed: false, ..recovered.resume.clone() };
            write_session(log, resume)
        }
        Finding::Cut { kept, .. } => {
            // The segment in which the log now ends stays in its place, and may be used again some day.
            if kept.resume.previous != SegmentId::NONE {
                copy_aside(log, kept.resume.previous)?;
            }
            set_aside(log, &kept.discard)?;
            write_session(log, kept.resume.clone())
        }
        Finding::Anew { .. } => {
            let mut segments = log.files_as_they_are()?.into_segments();
            segments.sort_unstable_by(|a, b| b.cmp(a));
            set_aside(log, &segments)?;
            let resume = ResumePoint {
                next_lsn: case.begin.as_ref().map_or(Lsn::ZERO, |(_, lsn)| *lsn),
                next_segment: segments.first().map_or(SegmentId::FIRST, |newest| newest.next()),
                is_salvaged: true,
                is_sealed: false,
                ..ResumePoint::fresh()
            };
            write_session(log, resume)
        }
    }
}

/// Takes segments out of the log in the order given, newest first: each durably before the next.
fn set_aside(log: &LogDirectory, segments: &[SegmentId]) -> Result<(), DiskError> {
    for &segment in segments {
        let path = log.segment_path(segment);
        fs::rename(&path, aside(&path)).map_err(DiskError::io("rename", &path))?;
        sync_directory(log.path())?;
    }
    Ok(())
}

fn copy_aside(log: &LogDirectory, segment: SegmentId) -> Result<(), DiskError> {
    let path = log.segment_path(segment);
    let evidence = aside(&path);
    let copied = fs::copy(&path, &evidence).and_then(|_| File::open(&evidence)?.sync_all());
    copied.map_err(DiskError::io("copy", &path))?;
    sync_directory(log.path())
}

/// The first free name for the evidence of a file.
fn aside(path: &Path) -> PathBuf {
    let named = |name: &str| PathBuf::from(format!("{}.{name}", path.display()));
    let names = std::iter::once(ASIDE.to_owned()).chain((2..).map(|number: u64| format!("{ASIDE}-{number}")));
    let mut paths = names.map(|name| named(&name));
    paths.find(|path| !path.exists()).unwrap_or_else(|| named(ASIDE))
}

/// Writes down what was given up, a line for each log.
fn record(store: &Store, damaged: &[Case]) -> Result<(), DiskError> {
    let path = store.root().join(SALVAGED_FILE);
    let mut lines = String::new();
    for case in damaged {
        let (reason, lost) = match &case.finding {
            Finding::Sound(_) => (None, None),
            Finding::Unrecorded(_) => (Some("an interrupted salvage was ended".to_owned()), None),
            Finding::Cut { refusal, kept } => (Some(refusal.to_string()), kept.lost),
            Finding::Anew { refusal, .. } | Finding::Hopeless { refusal, .. } => (Some(refusal.clone()), None),
        };
        let snapshots: Vec<String> =
            case.aside.iter().map(|(path, reason)| format!("{}: {reason}", path.display())).collect();
        let line = json!({
            "time": jiff::Timestamp::now().to_string(),
            "log": case.name,
            "reason": reason,
            "all": matches!(case.finding, Finding::Anew { .. }),
            "lost_from_lsn": lost.map(|range| range.from.0),
            "lost_to_lsn": lost.map(|range| range.to.0),
            "snapshots": snapshots,
        });
        lines.push_str(&format!("{line}\n"));
    }
    let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(DiskError::io("open", &path))?;
    file.write_all(lines.as_bytes()).and_then(|()| file.sync_all()).map_err(DiskError::io("write", &path))?;
    sync_directory(store.root())
}
