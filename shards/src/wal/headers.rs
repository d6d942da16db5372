//! The first step of reading a log back: all segments' headers. What the segments hold is [`super::scan`]'s.

use super::error::{RecoveryError, RefusalReason};
use super::io::SegmentSource;
use super::layout::SEGMENT_HEADER_SIZE;
use super::look::{Reader, Segment};
use super::lsn::SegmentId;
use super::scan::{ScanOptions, ScanPolicy};
use super::segment::{LogIdentity, SegmentHeader};
use super::sweep::{Findings, Salt};

/// Segments with sound headers, in order without a hole, and what must go.
#[derive(Debug, Default)]
pub(super) struct Headers {
    pub(super) segments: Vec<Segment>,
    /// Segments that are given up, newest first.
    pub(super) discard: Vec<SegmentId>,
    /// What was found in those.
    pub(super) findings: Findings,
    /// Whether giving them up is more than a crash explains.
    pub(super) is_salvaged: bool,
}

impl Headers {
    /// The oldest segment, sound or not.
    pub(super) fn first(&self) -> Option<SegmentId> {
        self.segments.first().map(|segment| segment.header.segment).or(self.discard.last().copied())
    }
}

/// Reads all headers: the numbers must have no hole, and every header must be sound and ours. A damaged header is
/// borne only if no block follows it, in its file or a later one: headers are durable before a file gets its name, so
/// no crash damages one.
pub(super) fn read_headers<S: SegmentSource + ?Sized>(
    reader: &mut Reader<'_, S>,
    options: &ScanOptions,
) -> Result<Headers, RecoveryError> {
    let ids = reader.list()?;
    let mut headers = Headers::default();
    let mut expected = ids.first().copied().unwrap_or(SegmentId::FIRST);
    for (index, &id) in ids.iter().enumerate() {
        let read = if id == expected { reader.header(id)? } else { Err(RefusalReason::MissingSegment) };
        let reason = match read {
            Ok(header) => {
                if let Some(reason) = foreign(&header, options.identity, id) {
                    return Err(reader.refusal(id, 0, reason));
                }
                headers.segments.push(Segment { header, length: reader.length(id)? });
                expected = id.next();
                continue;
            }
            Err(reason) => reason,
        };
        for &later in &ids[index..] {
            let salt = Salt::InBlocks(options.identity);
            reader.sweep(later, SEGMENT_HEADER_SIZE as u64, salt, &mut headers.findings)?;
        }
        let is_harmless = reason == RefusalReason::BadHeader && headers.findings.blocks == 0;
        if !is_harmless && options.policy == ScanPolicy::Refuse {
            return Err(reader.refusal(expected, 0, reason));
        }
        headers.is_salvaged = !is_harmless;
        headers.discard = ids[index..].iter().rev().copied().collect();
        break;
    }
    Ok(headers)
}

/// Why a sound header is not that of segment `id` of this log, if so.
fn foreign(header: &SegmentHeader, identity: LogIdentity, id: SegmentId) -> Option<RefusalReason> {
    if header.identity.store != identity.store {
        Some(RefusalReason::OtherStore)
    } else if header.identity.shard != identity.shard {
        Some(RefusalReason::OtherShard { found: header.identity.shard })
    } else if header.segment != id {
        Some(RefusalReason::OtherSegment { found: header.segment })
    } else {
        None
    }
}
