//! How a log ends as recovery would decide: it is asked, with a source that can only be read.
//!
//! The log may be in use. Then a place can be empty when it is read and written a moment later, which looks like
//! damage; so only a refusal that is the same twice counts.

use std::fs::File;
use std::mem::discriminant;
use std::path::{Path, PathBuf};

use corefold_shards::snapshot::SnapshotFile;
use corefold_shards::snapshot::format::file_name;
use corefold_shards::wal::survey::{BlockState, GapKind, Piece, Surveyor};
use corefold_shards::wal::{
    LogEnd, LogIdentity, LostRange, Lsn, RecordKind, Recovered, RecoveryError, RefusalReason, ScanOptions, ScanPolicy,
    SegmentId, SegmentSource, scan,
};

use super::InspectError;
use super::entries::BatchSeen;
use super::files::Files;
use super::place::{LogPlace, NO_SHARD};
use super::wal::PIECE_SIZE;
use crate::disk::SnapshotReader;
use crate::disk::snapshots::list;

/// How often a log that changes is looked at.
const LOOKS_MAX: u32 = 5;

/// What recovery would say.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It would go on.
    Accepted(Box<Accepted>),
    /// There is no segment.
    Empty,
    /// A lone file that does not begin with a sound block, and nothing in it says that there was a durable one.
    NoBlocks {
        /// Whether at least the file's header is sound.
        has_header: bool,
    },
    /// It would stop.
    Refused(Refusal),
    /// A file cannot be read.
    Unreadable(String),
    /// The log changes faster than it can be read.
    Moving(String),
}

/// What a verdict means for the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Soundness {
    /// Recovery would go on.
    Sound,
    /// It would not, or nobody can tell.
    Refused,
    /// Reading failed.
    Unreadable,
}

impl Verdict {
    /// Files without one sound header, and no directory tells whose they are.
    pub(super) fn nobodys(path: &Path) -> Verdict {
        let reason = "nothing here has a sound segment header: these are no segments, or all headers are damaged";
        let file = path.display().to_string();
        Verdict::Refused(Refusal { file, offset: 0, reason: reason.to_owned(), lost: None })
    }

    pub(super) fn soundness(&self) -> Soundness {
        match self {
            Verdict::Accepted(_) | Verdict::Empty | Verdict::NoBlocks { has_header: true } => Soundness::Sound,
            Verdict::NoBlocks { has_header: false } | Verdict::Refused(_) | Verdict::Moving(_) => Soundness::Refused,
            Verdict::Unreadable(_) => Soundness::Unreadable,
        }
    }
}

/// A log that recovery would accept.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) recovered: Recovered,
    /// The file it ends in; `None` without entries.
    pub(super) path: Option<PathBuf>,
    /// Bytes behind the end that are neither zeros nor sound blocks.
    pub(super) ruins: u64,
}

/// A log that recovery would refuse.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) file: String,
    pub(super) offset: u64,
    pub(super) reason: String,
    /// What a salvage would give up.
    pub(super) lost: Option<LostRange>,
}

/// What is known of a lone file after its blocks were seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LoneFile {
    /// Where reading can begin without the segments before: at the first record that begins in this file. Without a
    /// sound first block, the last LSN before the first block that is left.
    pub(super) from: Lsn,
    /// Whether the first block is sound.
    pub(super) has_beginning: bool,
    /// Whether the file's header is sound.
    pub(super) has_header: bool,
}

enum Stop {
    Log(RecoveryError),
    Record(Lsn),
}

impl Stop {
    fn is_of_predecessors(&self) -> bool {
        let Stop::Log(RecoveryError::Refused { reason, .. }) = self else { return false };
        matches!(reason, RefusalReason::MissingSegment | RefusalReason::EndsEarly { .. })
    }
}

impl From<RecoveryError> for Stop {
    fn from(error: RecoveryError) -> Stop {
        Stop::Log(error)
    }
}

/// Where recovery begins with the log of a shard: at the newest snapshot beside it that is sound, if there is one.
fn snapshot_lsn(log: &LogPlace, identity: LogIdentity) -> Lsn {
    let Some(shard) = log.directory().parent() else { return Lsn::ZERO };
    let begin = list(shard).unwrap_or_default().into_iter().find_map(|generation| {
        let file = File::open(shard.join(file_name(generation))).ok()?;
        let mut snapshot = SnapshotFile::open(SnapshotReader(file), &identity, generation).ok()?;
        while snapshot.next_chunk().ok()?.is_some() {}
        Some(snapshot.header().lsn)
    });
    begin.unwrap_or(Lsn::ZERO)
}

/// Asks recovery about a log.
pub(super) fn judge(log: &LogPlace, identity: LogIdentity, lone: Option<LoneFile>) -> Result<Verdict, InspectError> {
    let mut options = ScanOptions { piece_size: PIECE_SIZE, ..ScanOptions::new(identity) };
    options.from = match lone {
        Some(lone) => lone.from,
        None => snapshot_lsn(log, identity),
    };
    // The pane log is read from wherever it begins.
    options.from_anywhere = lone.is_none() && identity.shard == NO_SHARD;
    let beginless = lone.filter(|lone| !lone.has_beginning);
    let mut before = None;
    let mut last = String::new();
    for _ in 0..LOOKS_MAX {
        let listing = log.list()?;
        let mut files = Files::new(log.directory(), listing.segments);
        if let Some(stranger) = listing.stranger {
            let reason = "this is not how a segment is called (twenty digits and `.wal`); move it elsewhere".to_owned();
            let file = stranger.display().to_string();
            return Ok(Verdict::Refused(Refusal { file, offset: 0, reason, lost: None }));
        }
        if let Some(last) = files.segments().pop().filter(|last| last.0 == u64::MAX) {
            let (file, reason) =
                (files.name(last), "no segment can follow this number; the file was renamed".to_owned());
            return Ok(Verdict::Refused(Refusal { file, offset: 0, reason, lost: None }));
        }
        let stop = match (read(&mut files, &options), beginless) {
            (Ok(_), Some(lone)) => return Ok(Verdict::NoBlocks { has_header: lone.has_header }),
            (Ok(recovered), None) => return Ok(accept(&mut files, identity, recovered)),
            // What is missing here may well be in the segments before.
            (Err(stop), Some(lone)) if stop.is_of_predecessors() => {
                return Ok(Verdict::NoBlocks { has_header: lone.has_header });
            }
            (Err(stop), _) => stop,
        };
        let (place, text) = describe(&stop);
        if before.as_ref() == Some(&place) {
            return Ok(refuse(&mut files, &options, stop));
        }
        before = Some(place);
        last = text;
    }
    Ok(Verdict::Moving(last))
}

fn read(files: &mut Files, options: &ScanOptions) -> Result<Recovered, Stop> {
    scan(files, options, |record| {
        let is_unknown = record.kind == RecordKind::BATCH && BatchSeen::read(record.payload).is_none();
        if is_unknown { Err(Stop::Record(record.lsn)) } else { Ok(()) }
    })
}

/// What must come back for a refusal to count, and what it says.
fn describe(stop: &Stop) -> (String, String) {
    match stop {
        Stop::Log(error @ RecoveryError::Refused { file, offset, reason }) => {
            (format!("{file} {offset} {:?}", discriminant(reason)), error.to_string())
        }
        Stop::Log(error) => (error.to_string(), error.to_string()),
        Stop::Record(lsn) => (lsn.to_string(), no_batch(*lsn)),
    }
}

fn no_batch(lsn: Lsn) -> String {
    format!("the record at LSN {lsn} calls itself a batch but has no stamp")
}

fn accept(files: &mut Files, identity: LogIdentity, recovered: Recovered) -> Verdict {
    let tail = recovered.tail;
    let path = (tail.segment != SegmentId::NONE).then(|| files.path(tail.segment));
    let mut ruins = 0;
    if recovered.end != LogEnd::Sealed {
        for segment in files.segments().into_iter().filter(|segment| *segment >= tail.segment) {
            let from = if segment == tail.segment { tail.offset } else { 0 };
            // What cannot be read any more is not counted: recovery has just read it.
            ruins += count_ruins(files, segment, identity, from).unwrap_or(0);
        }
    }
    Verdict::Accepted(Box::new(Accepted { recovered, path, ruins }))
}

fn count_ruins(files: &mut Files, segment: SegmentId, identity: LogIdentity, from: u64) -> Result<u64, RecoveryError> {
    let mut surveyor = Surveyor::new(files, PIECE_SIZE);
    let facts = surveyor.segment(segment, Some(identity))?;
    let (mut ruins, mut begun) = (0, None);
    surveyor.walk::<RecoveryError>(&facts, from, |piece| {
        let (offset, is_ruin) = match piece {
            Piece::Gap(gap) => (gap.offset, gap.kind == GapKind::Ruins),
            Piece::Block(block) => (block.offset, block.state != BlockState::Sound),
        };
        if let Some(since) = begun.take() {
            ruins += offset - since;
        }
        begun = is_ruin.then_some(offset);
        Ok(())
    })?;
    Ok(ruins + begun.map_or(0, |since| facts.end().saturating_sub(since)))
}

fn refuse(files: &mut Files, options: &ScanOptions, stop: Stop) -> Verdict {
    let (file, offset, reason) = match stop {
        Stop::Log(RecoveryError::Refused { file, offset, reason }) => (file, offset, reason.to_string()),
        Stop::Log(error) => return Verdict::Unreadable(error.to_string()),
        Stop::Record(lsn) => (files.name(SegmentId::FIRST), 0, no_batch(lsn)),
    };
    let options = ScanOptions { policy: ScanPolicy::Salvage, ..*options };
    // Some refusals stand for salvage, too: then nothing is known to be lost.
    let salvaged = scan::<_, RecoveryError, _>(files, &options, |_| Ok(()));
    let lost = salvaged.ok().and_then(|recovered| recovered.lost);
    Verdict::Refused(Refusal { file, offset, reason, lost })
}
