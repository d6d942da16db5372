//! The pane log of a data directory, read once: where it ends, and up to which time it holds every pane.
//!
//! Putting its panes back into windows is in [`crate::pane_core`].

use super::error::RecoverError;
use crate::disk::Store;
use corefold_shards::pane_log::PaneHistory;
use corefold_shards::wal::{LogIdentity, Recovered, ScanOptions, SegmentSource, scan};

/// Name of the log's directory in a data directory.
pub const PANES: &str = "panes";

/// See the module.
#[derive(Debug)]
pub struct RecoveredPanes {
    /// How the log ends.
    pub log: Recovered,
    /// Which pulls are complete.
    pub history: PaneHistory,
}

impl RecoveredPanes {
    /// Reads the pane log of a store.
    pub fn read(store: &Store) -> Result<RecoveredPanes, RecoverError> {
        let directory = store.named_log_directory(PANES)?;
        RecoveredPanes::read_from(&mut directory.files()?, directory.identity())
    }

    /// Reads a pane log.
    pub fn read_from<S: SegmentSource + ?Sized>(
        source: &mut S,
        identity: LogIdentity,
    ) -> Result<RecoveredPanes, RecoverError> {
        let mut history = PaneHistory::default();
        let log = scan::<_, RecoverError, _>(source, &RecoveredPanes::options(identity), |record| {
            Ok(history.on_record(&record)?)
        })?;
        Ok(RecoveredPanes { log, history })
    }

    /// How a pane log is read: its front goes as windows are done.
    pub fn options(identity: LogIdentity) -> ScanOptions {
        ScanOptions { from_anywhere: true, ..ScanOptions::new(identity) }
    }
}
