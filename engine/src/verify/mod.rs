//! `corefold verify`: every checksum of a data directory once more, and its ledger added up again.
//!
//! Reads only, in bounded memory; no engine may run on the directory meanwhile. What is damaged is told and not repaired:
//! see [`crate::salvage`].

mod report;
mod shards;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use corefold_aggregator::pane_log::Pulled;
use corefold_aggregator::partial_check::PartialOutline;
use corefold_aggregator::time::EventTime;
use corefold_shards::pane_log::PaneHistory;
use corefold_shards::wal::{Record, RecordKind, RecoveryError, scan};
use serde_json::json;

use self::report::Report;
use crate::disk::directory::{SALVAGE_FILE, SALVAGED_FILE};
use crate::disk::{DiskError, LogDirectory, Store};
use crate::exit::ExitCode;
use crate::manifest::verify::{Severity, Verified};
use crate::manifest::{self, MANIFEST_FILE, ManifestError};
use crate::recover::{PANES, RecoveredPanes};

/// Why nothing, or no more, can be told. What is damaged is no error: it is what is told.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The directory cannot be read, is none, or is in use.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What was found cannot be told.
    #[error("cannot write what was found: {0}")]
    Output(#[from] io::Error),
}

impl VerifyError {
    /// Whether nobody reads the output any more: a quiet end, not a failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, VerifyError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code it stands for.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::Io
    }
}

/// Checks the data directory in `root` and tells what it finds, as text or as one JSON object a line.
///
/// 0 if all is sound, 1 if something is not, 74 if something cannot be read.
pub fn verify(root: &Path, json: bool, out: &mut dyn Write) -> Result<ExitCode, VerifyError> {
    let mut report = Report::new(out, json);
    let store = match Store::open_for_looking(root) {
        Ok(store) => store,
        // It is there, and it is damaged.
        Err(error @ DiskError::NotAStore { .. }) if root.join("store.json").is_file() => {
            report.finding("store", &error.to_string())?;
            return report.end();
        }
        Err(error) => return Err(error.into()),
    };
    report.fact(
        &format!("data directory {}", root.display()),
        &json!({ "type": "store", "path": root.display().to_string() }),
    )?;
    traces(&store, &mut report)?;
    let released = panes(&store, &mut report)?;
    shards::verify(&store, released, &mut report)?;
    outputs(&store, released, &mut report)?;
    report.end()
}

/// Checks the outputs that the manifest names.
fn outputs(store: &Store, released: EventTime, report: &mut Report<'_>) -> Result<(), VerifyError> {
    let path = store.root().join(MANIFEST_FILE);
    if released != EventTime::MIN && !path.exists() {
        report.finding("manifest", &ManifestError::Missing { path: path.clone() }.to_string())?;
    }
    let mut told = Ok(());
    let verified = manifest::verify::outputs(&path, &store.uuid_text(), |finding| {
        let text = finding.to_string();
        let result = match (finding.severity(), &finding) {
            (_, manifest::verify::Finding::Unreadable { .. }) => report.unreadable("output", &text),
            (Severity::Grave, _) => report.finding("output", &text),
            (Severity::Mild, _) => report.fact(&format!("note: {text}"), &json!({ "type": "note", "text": text })),
            (Severity::Fine, _) => report.fact(&format!("output {text}"), &json!({ "type": "output", "text": text })),
        };
        if told.is_ok() {
            told = result;
        }
    });
    told?;
    match verified {
        Ok(seen) if seen.lines == 0 => {}
        Ok(seen) => {
            let Verified { lines, ledgers, files, bytes } = seen;
            let text =
                format!("outputs: {files} files, {bytes} committed bytes, {lines} lines, {ledgers} ledgers add up");
            let value =
                json!({ "type": "outputs", "files": files, "bytes": bytes, "lines": lines, "ledgers": ledgers });
            report.fact(&text, &value)?;
        }
        Err(error @ ManifestError::Io { .. }) => report.unreadable("manifest", &error.to_string())?,
        Err(error) => report.finding("manifest", &error.to_string())?,
    }
    Ok(())
}

/// What salvages have left.
fn traces(store: &Store, report: &mut Report<'_>) -> Result<(), VerifyError> {
    let pending = store.root().join(SALVAGE_FILE);
    if fs::exists(&pending).map_err(DiskError::io("read", &pending))? {
        report.finding("store", "a salvage was interrupted; run `corefold salvage` with --yes again")?;
    }
    if store.was_salvaged()? {
        let path = store.root().join(SALVAGED_FILE);
        let text = format!("something was given up here before, see {}", path.display());
        report.fact(&text, &json!({ "type": "note", "text": text }))?;
    }
    Ok(())
}

/// Why a walk over a log stops.
enum Stop {
    Log(RecoveryError),
    Record(String),
}

impl From<RecoveryError> for Stop {
    fn from(error: RecoveryError) -> Stop {
        Stop::Log(error)
    }
}

impl Stop {
    /// Tells why a log is not sound.
    fn tell(self, place: &str, report: &mut Report<'_>) -> Result<(), VerifyError> {
        match self {
            Stop::Record(what) => Ok(report.finding(place, &what)?),
            Stop::Log(error @ RecoveryError::Refused { .. }) => Ok(report.finding(place, &error.to_string())?),
            Stop::Log(error) => Ok(report.unreadable(place, &error.to_string())?),
        }
    }
}

/// Checks the pane log; the time below which every pane is in it.
fn panes(store: &Store, report: &mut Report<'_>) -> Result<EventTime, VerifyError> {
    let directory = LogDirectory::new(store.root().join(PANES).join("wal"), store.log_identity(u32::MAX));
    if !directory.path().is_dir() {
        return Ok(EventTime::MIN);
    }
    let (mut history, mut last) = (PaneHistory::default(), i64::MIN);
    let options = RecoveredPanes::options(directory.identity());
    let read = scan::<_, Stop, _>(&mut directory.files_as_they_are()?, &options, |record| {
        let what = |text: String| Stop::Record(format!("LSN {}: {text}", record.lsn));
        pane_record(&record, &mut last).map_err(what)?;
        history.on_record(&record).map_err(|error| Stop::Record(error.to_string()))
    });
    match read {
        Ok(recovered) => {
            let (records, pieces, released) = (recovered.records, history.pieces(), history.released());
            let text = format!(
                "pane log: sound, {records} records, {} bytes; every pane below {released} is in it, {pieces} pieces count",
                recovered.bytes
            );
            let value = json!({ "type": "pane log", "records": records, "bytes": recovered.bytes, "pieces": pieces,
                                "released_us": released.0 });
            report.fact(&text, &value)?;
            Ok(released)
        }
        Err(stop) => {
            stop.tell("pane log", report)?;
            Ok(history.released())
        }
    }
}

fn pane_record(record: &Record<'_>, last: &mut i64) -> Result<(), String> {
    match record.kind {
        RecordKind::PANE => PartialOutline::of(record.payload).map(|_| ()).map_err(|error| error.to_string()),
        RecordKind::PULLED => {
            let pulled = Pulled::read(record.payload).map_err(|error| error.to_string())?;
            if pulled.time < *last {
                return Err("this pull is of an earlier time than the one before".to_owned());
            }
            *last = pulled.time;
            Ok(())
        }
        RecordKind(kind) => Err(format!("a record of kind {kind} does not belong here")),
    }
}
