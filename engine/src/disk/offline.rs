//! A log that is written without a ring and without an engine: what repairs need to end a log properly.
//!
//! What is repaired, and why, is not here.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use corefold_shards::wal::{Appender, AppenderConfig, DiskCompletion, DiskRequest, Durability, ResumePoint, SegmentId};

use super::error::DiskError;
use super::files::LogDirectory;
use super::keeper::carry_now;

/// Size of the segment that a repair makes: only its opening and its end are written.
const SEGMENT_SIZE: u64 = 1 << 20;

/// Begins a session behind `resume` and ends it at once, in order: the log then holds the opening of that session, with
/// all that it says of what was given up.
pub fn write_session(log: &LogDirectory, resume: ResumePoint) -> Result<(), DiskError> {
    let mut config = AppenderConfig::new(log.identity(), Durability::Sync);
    config.supply.segment_size_first = SEGMENT_SIZE;
    config.supply.spares_kept = 1;
    let mut files = HashMap::new();
    // Spares of the log are used as the engine would.
    for spare in &resume.spares {
        let path = log.segment_path(spare.segment);
        let (file, _) = log.open_segment(spare.segment, false).map_err(DiskError::io("open", &path))?;
        files.insert(spare.segment, file);
    }
    let mut appender = Appender::start(config, resume);
    appender.seal();
    let mut requests = Vec::new();
    while !appender.is_drained() {
        appender.poll(0, &mut requests);
        if requests.is_empty() && appender.stalled().is_none() {
            return Err(failed(log, "end", io::Error::other("the log asks for nothing and does not end")));
        }
        for request in requests.drain(..) {
            if let Some(answer) = carry(log, &mut appender, &mut files, request)? {
                appender.complete(answer, 0);
            }
        }
        if let Some(error) = appender.latched() {
            return Err(failed(log, "write", io::Error::other(error.clone())));
        }
    }
    Ok(())
}

/// Carries out one request; an error of making a segment is told, not answered, since nobody waits for another try.
fn carry(
    log: &LogDirectory,
    appender: &mut Appender,
    files: &mut HashMap<SegmentId, File>,
    request: DiskRequest,
) -> Result<Option<DiskCompletion>, DiskError> {
    match request {
        DiskRequest::Write { segment, offset, buffer, length, .. } => {
            let file = files
                .get(&segment)
                .ok_or_else(|| failed(log, "write", io::Error::other(format!("segment {segment} is not open"))))?;
            let written = file.write_all_at(&appender.block(buffer)[..length as usize], offset);
            let result = written.and_then(|()| file.sync_all()).map(|()| length);
            let result = result.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO));
            Ok(Some(DiskCompletion::Write { segment, offset, buffer, result }))
        }
        DiskRequest::Close { segment } => {
            files.remove(&segment);
            Ok(None)
        }
        DiskRequest::Prepare { .. } | DiskRequest::Recycle { .. } | DiskRequest::Remove { .. } => {
            let answer = carry_now(&request, log);
            if let DiskCompletion::PrepareFailed { errno, .. } = answer.completion {
                return Err(failed(log, "make a segment in", io::Error::from_raw_os_error(errno)));
            }
            if let (DiskCompletion::Prepared { segment, .. }, Some(file)) = (answer.completion, answer.file) {
                files.insert(segment, file);
            }
            Ok(Some(answer.completion))
        }
    }
}

fn failed(log: &LogDirectory, operation: &'static str, source: io::Error) -> DiskError {
    DiskError::Io { operation, path: log.path().to_path_buf(), source }
}
