//! `corefold inspect panes`: the pieces of panes and the pulls that the pane log holds, in order, up to its end or to the
//! first damage.
//!
//! What lies behind damage is shown by `inspect wal`, which knows nothing of panes.

use std::io::Write;
use std::path::{Path, PathBuf};

use corefold_aggregator::pane_log::Pulled;
use corefold_aggregator::partial_check::PartialOutline;
use corefold_aggregator::time::EventTime;
use corefold_shards::pane_log::PaneHistory;
use corefold_shards::wal::{LogIdentity, Record, RecordKind, RecoveryError, scan};
use serde_json::{Value, json};

use super::place::StorePlace;
use super::report::Report;
use super::text::time_text;
use super::{InspectError, Inspected};
use crate::disk::LogDirectory;
use crate::recover::{PANES, RecoveredPanes};

/// Shows the pane log of a data directory, or of its directory `panes`. Writes while it reads, a record at a time.
///
/// May be called while an engine uses the directory; then the end may look torn.
pub fn panes(path: &Path, json: bool, out: &mut dyn Write) -> Result<Inspected, InspectError> {
    let root = root_of(path).ok_or_else(|| InspectError::NoPanes { path: path.to_path_buf() })?;
    let wal = root.join(PANES).join("wal");
    if !wal.is_dir() {
        return Err(InspectError::NoPanes { path: path.to_path_buf() });
    }
    let mut report = Report::new(out, json);
    report.seen.logs = 1;
    match StorePlace::read(&root).uuid {
        Ok(store) => report.log(&LogDirectory::new(wal, LogIdentity { store, shard: u32::MAX }))?,
        Err(reason) => {
            report.seen.refused += 1;
            report.tell(
                &format!("REFUSED: {reason}"),
                &json!({ "type": "end", "outcome": "refused", "reason": reason }),
            )?;
        }
    }
    report.out.flush().map_err(InspectError::Output)?;
    Ok(report.seen)
}

/// The data directory that a path belongs to.
fn root_of(path: &Path) -> Option<PathBuf> {
    let absolute = path.canonicalize().ok()?;
    absolute.ancestors().take(3).find(|path| path.join("store.json").is_file()).map(Path::to_path_buf)
}

enum Stop {
    Log(RecoveryError),
    Output(InspectError),
    Content(String),
}

impl From<RecoveryError> for Stop {
    fn from(error: RecoveryError) -> Stop {
        Stop::Log(error)
    }
}

impl From<InspectError> for Stop {
    fn from(error: InspectError) -> Stop {
        Stop::Output(error)
    }
}

impl Report<'_> {
    fn log(&mut self, directory: &LogDirectory) -> Result<(), InspectError> {
        let shown = directory.path().display().to_string();
        self.tell(&format!("pane log {shown}"), &json!({ "type": "log", "path": shown }))?;
        let unread = |error| InspectError::Io {
            operation: "list",
            path: directory.path().to_path_buf(),
            source: std::io::Error::other(error),
        };
        let mut files = directory.files_as_they_are().map_err(unread)?;
        let mut history = PaneHistory::default();
        let options = RecoveredPanes::options(directory.identity());
        let read = scan::<_, Stop, _>(&mut files, &options, |record| {
            self.record(&record)?;
            history.on_record(&record).map_err(|error| Stop::Content(error.to_string()))
        });
        let reason = match read {
            Ok(recovered) => {
                let released = time_text(history.released());
                let (pieces, end) = (history.pieces(), recovered.resume.next_lsn);
                let text = format!(
                    "end: {} records up to LSN {end}; every pane below {released} is here, {pieces} pieces count",
                    recovered.records
                );
                let value = json!({ "type": "end", "outcome": "accepted", "records": recovered.records,
                                    "next_lsn": end.0, "released": released, "pieces": pieces });
                return self.tell(&text, &value);
            }
            Err(Stop::Output(error)) => return Err(error),
            Err(Stop::Log(error @ RecoveryError::Refused { .. })) => error.to_string(),
            Err(Stop::Content(reason)) => reason,
            Err(Stop::Log(error)) => {
                self.seen.unreadable += 1;
                let reason = error.to_string();
                let value = json!({ "type": "end", "outcome": "unreadable", "reason": reason });
                return self.tell(&format!("end: {reason}"), &value);
            }
        };
        self.seen.refused += 1;
        self.tell(&format!("end: REFUSED: {reason}"), &json!({ "type": "end", "outcome": "refused", "reason": reason }))
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), InspectError> {
        self.seen.blocks += 1;
        let (lsn, bytes) = (record.lsn, record.payload.len());
        match record.kind {
            RecordKind::PANE => match PartialOutline::of(record.payload) {
                Ok(PartialOutline { view, pane, groups, rows, sides, spills, .. }) => {
                    let text = format!(
                        "{lsn:>12}  pane    view {view}, pane {pane}: {rows} rows of {groups} named groups, {sides} sketches \
                         and texts, {spills} spills, {bytes} bytes"
                    );
                    let value = json!({ "type": "pane", "lsn": lsn.0, "view": view, "pane": pane, "rows": rows,
                                        "groups": groups, "sides": sides, "spills": spills, "bytes": bytes });
                    self.tell(&text, &value)
                }
                Err(error) => self.bad(record, "pane", &error.to_string()),
            },
            RecordKind::PULLED => match Pulled::read(record.payload) {
                Ok(pulled) => {
                    let time = time_text(EventTime(pulled.time));
                    let views: Vec<Value> = pulled
                        .views
                        .iter()
                        .map(|v| json!({ "window_floor": v.window_floor, "windows": v.windows, "rows": v.rows }))
                        .collect();
                    let text = format!(
                        "{lsn:>12}  pulled  below {time}, {} pieces; rows given out before: {:?}",
                        pulled.pieces,
                        pulled.views.iter().map(|view| view.rows).collect::<Vec<u64>>()
                    );
                    let value = json!({ "type": "pulled", "lsn": lsn.0, "time": time, "pieces": pulled.pieces,
                                        "views": views });
                    self.tell(&text, &value)
                }
                Err(error) => self.bad(record, "pulled", &error.to_string()),
            },
            RecordKind(kind) => {
                let text = format!("{lsn:>12}  kind {kind}, {bytes} bytes");
                self.tell(&text, &json!({ "type": "other", "lsn": lsn.0, "kind": kind, "bytes": bytes }))
            }
        }
    }

    fn bad(&mut self, record: &Record<'_>, kind: &str, reason: &str) -> Result<(), InspectError> {
        self.seen.damaged += 1;
        let text = format!("{:>12}  {kind:<7} BAD: {reason}", record.lsn);
        let value = json!({ "type": kind, "lsn": record.lsn.0, "state": "bad", "reason": reason });
        self.tell(&text, &value)
    }
}
