//! The reading half of the log: walks it block by block, hands out its records, and finds where it ends.
//!
//! Two passes are possible: [`scan`] checks everything and tells the end, [`replay`] walks to that end again. Memory
//! is one window and one record. What is decided where the walk stops stands in [`super::recovery`].

use std::cmp::Ordering;

use super::error::{RecoveryError, RefusalReason};
use super::headers::{Headers, read_headers};
use super::io::SegmentSource;
use super::layout::{
    ALIGNMENT, BLOCK_FLAG_SEAL, BLOCK_HEADER_SIZE, BlockHeader, OPENING_FLAG_SESSION, OPENING_FLAG_UNSYNCED,
    SEGMENT_HEADER_SIZE,
};
use super::look::{Block, Reader, Segment};
use super::lsn::{Lsn, SegmentId};
use super::record::{Assembled, Assembler, Fragment, Record};
use super::recovery::{Action, Behind, Facts, Found, Link, decide};
use super::repair::{LogEnd, LostRange, Recovered, ResumePoint, TailReport};
use super::segment::{LogIdentity, Opening, SegmentHeader, SegmentSpan, Spare};
use super::sweep::{Findings, Salt};

/// Whether recovery may give up what had been durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanPolicy {
    /// Cut torn tails, refuse all else.
    Refuse,
    /// Cut at the first damage, whatever follows. Only on an explicit order.
    Salvage,
}

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// Whose log.
    pub identity: LogIdentity,
    /// Records below are covered elsewhere (by a snapshot) and not handed out; all from here on must be there.
    pub from: Lsn,
    /// Whether the log may begin later than `from`: it is its owner's business what is still needed of it.
    pub from_anywhere: bool,
    /// What may be given up.
    pub policy: ScanPolicy,
    /// Bytes read at once.
    pub piece_size: usize,
}

impl ScanOptions {
    /// Everything of a log, refusing damage.
    pub fn new(identity: LogIdentity) -> ScanOptions {
        ScanOptions { identity, from: Lsn::ZERO, from_anywhere: false, policy: ScanPolicy::Refuse, piece_size: 1 << 20 }
    }
}

/// Reads the log, hands out its records in order, and finds where it ends. Records are handed out before it is known
/// whether reading will be refused further on.
pub fn scan<S, E, F>(source: &mut S, options: &ScanOptions, on_record: F) -> Result<Recovered, E>
where
    S: SegmentSource + ?Sized,
    E: From<RecoveryError>,
    F: FnMut(Record<'_>) -> Result<(), E>,
{
    let mut walk = Walk::new(source, options, on_record);
    let headers = read_headers(&mut walk.reader, options)?;
    walk.run(headers, None)
}

/// Walks a log again to the end that [`scan`] has found, and hands out the same records.
pub fn replay<S, E, F>(source: &mut S, options: &ScanOptions, recovered: &Recovered, on_record: F) -> Result<(), E>
where
    S: SegmentSource + ?Sized,
    E: From<RecoveryError>,
    F: FnMut(Record<'_>) -> Result<(), E>,
{
    let stop = Stop { segment: recovered.resume.previous, offset: recovered.resume.previous_end };
    if stop.segment == SegmentId::NONE {
        return Ok(());
    }
    let mut walk = Walk::new(source, options, on_record);
    let mut headers = read_headers(&mut walk.reader, options)?;
    headers.segments.retain(|segment| segment.header.segment <= stop.segment);
    let again = walk.run(headers, Some(stop))?;
    if again.resume.next_lsn != recovered.resume.next_lsn || again.records != recovered.records {
        return Err(walk.reader.refusal(stop.segment, stop.offset, RefusalReason::Changed).into());
    }
    Ok(())
}

/// A place at which to stop without asking why.
#[derive(Clone, Copy, Debug)]
struct Stop {
    segment: SegmentId,
    offset: u64,
}

/// Where the walk is.
#[derive(Clone, Copy, Debug)]
struct Place {
    index: usize,
    offset: u64,
    /// LSN that is due.
    lsn: Lsn,
    /// Header checksum of the last block.
    crc: u32,
    sealed: bool,
    /// Whether anything was read at all.
    begun: bool,
}

struct Walk<'s, S: ?Sized, F> {
    reader: Reader<'s, S>,
    options: &'s ScanOptions,
    on_record: F,
    assembler: Assembler,
    spans: Vec<SegmentSpan>,
    records: u64,
    bytes: u64,
    last_time_ns: u64,
    unsynced_segments: u64,
}

impl<'s, S, F> Walk<'s, S, F>
where
    S: SegmentSource + ?Sized,
{
    fn new(source: &'s mut S, options: &'s ScanOptions, on_record: F) -> Self {
        Walk {
            reader: Reader::new(source, options.piece_size),
            options,
            on_record,
            assembler: Assembler::default(),
            spans: Vec::new(),
            records: 0,
            bytes: 0,
            last_time_ns: 0,
            unsynced_segments: 0,
        }
    }

    fn is_salvage(&self) -> bool {
        self.options.policy == ScanPolicy::Salvage
    }

    /// What the successor of a segment says about where it ends.
    fn link(&mut self, successor: Option<&Segment>) -> Result<Option<(BlockHeader, Opening)>, RecoveryError> {
        let Some(successor) = successor else { return Ok(None) };
        match self.reader.look(successor, SEGMENT_HEADER_SIZE as u64)? {
            Block::Sound(header, Some(opening)) => Ok(Some((header, opening))),
            Block::Sound(_, None) | Block::Bad { .. } => Ok(None),
        }
    }

    fn run<E>(&mut self, headers: Headers, stop: Option<Stop>) -> Result<Recovered, E>
    where
        E: From<RecoveryError>,
        F: FnMut(Record<'_>) -> Result<(), E>,
    {
        let segments = &headers.segments;
        if segments.is_empty() {
            return Ok(self.finish_empty(&headers)?);
        }
        let mut place = Place {
            index: 0,
            offset: SEGMENT_HEADER_SIZE as u64,
            lsn: self.options.from,
            crc: 0,
            sealed: false,
            begun: false,
        };
        let mut link = self.link(segments.get(1))?;
        loop {
            let segment = segments[place.index];
            let id = segment.header.segment;
            if stop.is_some_and(|stop| stop.segment == id && stop.offset == place.offset) {
                return Ok(self.finish(&headers, place, Findings::default(), LogEnd::Clean, None)?);
            }
            let (facts, block, findings) = self.facts(&headers, place, link.as_ref())?;
            let action = decide(&facts);
            match action {
                Action::TakeBlock => {
                    let Block::Sound(header, opening) = block else { unreachable!("only sound blocks are taken") };
                    self.take(&segment, &mut place, &header, opening.as_ref())?;
                }
                Action::NextSegment => {
                    place =
                        Place { index: place.index + 1, offset: SEGMENT_HEADER_SIZE as u64, sealed: false, ..place };
                    link = self.link(segments.get(place.index + 1))?;
                }
                Action::EndSealed | Action::CutTail => {
                    let blank = matches!(block, Block::Bad { is_blank: true });
                    let end = if action == Action::EndSealed {
                        LogEnd::Sealed
                    } else if blank && findings.blocks == 0 {
                        LogEnd::Clean
                    } else {
                        LogEnd::Torn
                    };
                    return Ok(self.finish(&headers, place, findings, end, None)?);
                }
                refusal => {
                    let reason = self.reason(refusal, &headers, place, &block, findings);
                    if !self.is_salvage() || stop.is_some() {
                        // What is due at the unused rest of a segment is the beginning of the next one.
                        let unused = !matches!(block, Block::Bad { is_blank: false } | Block::Sound(..));
                        let next =
                            segments.get(place.index + 1).filter(|_| unused && refusal == Action::RefuseInterior);
                        let (at, offset) =
                            next.map_or((id, place.offset), |next| (next.header.segment, SEGMENT_HEADER_SIZE as u64));
                        return Err(self.reader.refusal(at, offset, reason).into());
                    }
                    let findings = self.behind(segments, place)?;
                    return Ok(self.finish(&headers, place, findings, LogEnd::Salvaged, Some(reason))?);
                }
            }
        }
    }

    /// Gathers what the decision depends on.
    fn facts(
        &mut self,
        headers: &Headers,
        place: Place,
        link: Option<&(BlockHeader, Opening)>,
    ) -> Result<(Facts, Block, Findings), RecoveryError> {
        let segment = headers.segments[place.index];
        let at_end = place.offset + ALIGNMENT as u64 > segment.header.size;
        let block = if at_end { Block::Bad { is_blank: true } } else { self.reader.look(&segment, place.offset)? };
        let found = match &block {
            _ if at_end => Found::SegmentEnd,
            Block::Bad { .. } => Found::Bad,
            // The very first block of what is left tells where the log begins.
            Block::Sound(..) if !place.begun => Found::Next,
            Block::Sound(header, _) if (header.first_lsn, header.previous_crc) == (place.lsn, place.crc) => Found::Next,
            Block::Sound(..) => Found::Stranger,
        };
        let link = match link {
            None => Link::Silent,
            Some((header, opening)) => {
                let is_same = (header.first_lsn, header.previous_crc) == (place.lsn, place.crc);
                match opening.previous_end.cmp(&place.offset) {
                    _ if opening.previous != segment.header.segment => Link::Broken,
                    Ordering::Greater => Link::Ahead,
                    Ordering::Equal if place.begun && is_same => Link::Here,
                    Ordering::Equal | Ordering::Less => Link::Broken,
                }
            }
        };
        let from = place.index + usize::from(place.sealed);
        let short = headers.segments[from..].iter().any(|segment| segment.length < segment.header.size);
        let mut facts = Facts { link, found, behind: Behind::NotLookedAt, sealed: place.sealed, short };
        let mut findings = Findings::default();
        if facts.needs_behind() {
            findings = self.behind(&headers.segments, place)?;
            facts.behind = if findings.blocks == 0 {
                Behind::Nothing
            } else if findings.durable > place.lsn {
                Behind::Claimed
            } else {
                Behind::Unclaimed
            };
        }
        Ok((facts, block, findings))
    }

    /// Looks for sound blocks behind `place`.
    fn behind(&mut self, segments: &[Segment], place: Place) -> Result<Findings, RecoveryError> {
        let mut findings = Findings::default();
        for (index, segment) in segments.iter().enumerate().skip(place.index) {
            let from = match index == place.index {
                true => place.offset + ALIGNMENT as u64,
                false => SEGMENT_HEADER_SIZE as u64,
            };
            let salt = Salt::Known(segment.header.seed());
            self.reader.sweep(segment.header.segment, from, salt, &mut findings)?;
        }
        Ok(findings)
    }

    /// Reads the entries of the block that the last `look` has put into the window.
    fn take<E>(
        &mut self,
        segment: &Segment,
        place: &mut Place,
        header: &BlockHeader,
        opening: Option<&Opening>,
    ) -> Result<(), E>
    where
        E: From<RecoveryError>,
        F: FnMut(Record<'_>) -> Result<(), E>,
    {
        let id = segment.header.segment;
        let from = self.options.from;
        let from_anywhere = self.options.from_anywhere;
        if !place.begun && header.first_lsn > from && !from_anywhere {
            let reason = RefusalReason::StartsLate { first: header.first_lsn, needed: from };
            return Err(self.reader.refusal(id, place.offset, reason).into());
        }
        if let Some(opening) = opening {
            if opening.flags & OPENING_FLAG_SESSION != 0 {
                self.assembler.abandon();
            }
            self.unsynced_segments += u64::from(opening.flags & OPENING_FLAG_UNSYNCED != 0);
            self.spans.push(SegmentSpan {
                segment: id,
                size: segment.header.size,
                first_lsn: header.first_lsn,
                end_lsn: header.first_lsn,
            });
        }
        let bytes = self.reader.bytes(id, place.offset, header.length())?;
        let mut rest = &bytes[BLOCK_HEADER_SIZE..BLOCK_HEADER_SIZE + header.payload_length as usize];
        let mut lsn = header.first_lsn;
        let mut fault = None;
        while let Some((fragment, size)) = Fragment::decode(rest) {
            rest = &rest[size..];
            if !fragment.kind.is_control() {
                match self.assembler.take(fragment) {
                    Assembled::Whole(payload) if lsn >= from => {
                        self.records += 1;
                        (self.on_record)(Record { lsn, kind: fragment.kind, payload })?;
                    }
                    Assembled::Whole(_) | Assembled::Open => {}
                    Assembled::Orphan if lsn < from || from_anywhere => {}
                    Assembled::Orphan => {
                        fault = Some(RefusalReason::StartsLate { first: lsn, needed: from });
                        break;
                    }
                    Assembled::OutOfPlace => {
                        fault = Some(RefusalReason::Malformed);
                        break;
                    }
                }
            }
            lsn = lsn.next();
        }
        if fault.is_none() && (!rest.is_empty() || lsn != header.end_lsn()) {
            fault = Some(RefusalReason::Malformed);
        }
        if let Some(reason) = fault {
            return Err(self.reader.refusal(id, place.offset, reason).into());
        }
        if let Some(span) = self.spans.last_mut() {
            span.end_lsn = lsn;
        }
        self.bytes += header.length() as u64;
        self.last_time_ns = header.time_ns;
        *place = Place {
            index: place.index,
            offset: place.offset + header.length() as u64,
            lsn,
            crc: header.header_crc,
            sealed: header.flags & BLOCK_FLAG_SEAL != 0,
            begun: true,
        };
        Ok(())
    }

    fn reason(
        &self,
        action: Action,
        headers: &Headers,
        place: Place,
        block: &Block,
        findings: Findings,
    ) -> RefusalReason {
        let found = match block {
            Block::Sound(header, _) => header.first_lsn,
            Block::Bad { .. } => place.lsn,
        };
        let short = headers.segments[place.index..].iter().find(|segment| segment.length < segment.header.size);
        match (action, short) {
            (Action::RefuseLink, _) => RefusalReason::LinkMismatch { reached: place.lsn },
            (Action::RefuseChain, _) => RefusalReason::ChainBroken { expected: place.lsn, found },
            (Action::RefuseShort, Some(segment)) => {
                RefusalReason::ShortFile { length: segment.length, expected: segment.header.size }
            }
            _ => RefusalReason::Interior { expected: place.lsn, durable: findings.durable },
        }
    }

    /// A directory without usable segments.
    fn finish_empty(&mut self, headers: &Headers) -> Result<Recovered, RecoveryError> {
        let place = Place { index: 0, offset: 0, lsn: Lsn::ZERO, crc: 0, sealed: false, begun: false };
        self.finish(headers, place, Findings::default(), LogEnd::Empty, None)
    }

    /// Puts together what was found.
    fn finish(
        &mut self,
        headers: &Headers,
        place: Place,
        behind: Findings,
        end: LogEnd,
        salvaged: Option<RefusalReason>,
    ) -> Result<Recovered, RecoveryError> {
        let from = self.options.from;
        let segments = &headers.segments;
        let newest = segments.last().map_or(SegmentId::FIRST, |segment| segment.header.segment);
        if !place.begun && from > Lsn::ZERO || place.lsn < from {
            let end = if place.begun { place.lsn } else { Lsn::ZERO };
            return Err(self.reader.refusal(newest, place.offset, RefusalReason::EndsEarly { end, needed: from }));
        }
        let is_salvaged = salvaged.is_some() || headers.is_salvaged;
        // Segments go only once their successor holds something, so a log that begins later is never empty.
        if !place.begun && headers.first().is_some_and(|first| first != SegmentId::FIRST) && !self.is_salvage() {
            return Err(self.reader.refusal(SegmentId::FIRST, 0, RefusalReason::MissingSegment));
        }
        let kept = place.index + usize::from(place.begun);
        // A segment may serve as a spare only if nothing of its life can come back.
        let reusable = behind.blocks == 0 && (place.begun || end == LogEnd::Clean) && !is_salvaged;
        let mut discard = headers.discard.clone();
        let mut spares = Vec::new();
        for segment in segments.iter().skip(kept) {
            let SegmentHeader { segment: id, salt, size, .. } = segment.header;
            if reusable {
                spares.push(Spare { segment: id, salt, size });
            } else {
                discard.push(id);
            }
        }
        discard.sort_unstable_by(|a, b| b.cmp(a));
        let previous = if place.begun { segments[place.index].header.segment } else { SegmentId::NONE };
        let next_segment = match spares.last() {
            Some(spare) => spare.segment.next(),
            None if place.begun => previous.next(),
            None => segments.first().map_or(SegmentId::FIRST, |segment| segment.header.segment),
        };
        let known = behind.end.max(headers.findings.end).max(place.lsn);
        let lost = is_salvaged.then_some(LostRange { from: place.lsn, to: known });
        let end = match end {
            _ if is_salvaged => LogEnd::Salvaged,
            LogEnd::Clean if !place.begun => LogEnd::Empty,
            other => other,
        };
        let previous_end = if place.begun { place.offset } else { 0 };
        let dropped_blocks = behind.blocks + headers.findings.blocks;
        let dropped_bytes = behind.bytes + headers.findings.bytes;
        Ok(Recovered {
            end,
            resume: ResumePoint {
                next_lsn: if place.begun { place.lsn } else { Lsn::ZERO },
                next_segment,
                previous,
                previous_end,
                previous_crc: place.crc,
                spans: std::mem::take(&mut self.spans),
                spares,
                is_sealed: matches!(end, LogEnd::Sealed | LogEnd::Empty),
                is_truncated: end == LogEnd::Torn || dropped_blocks > 0,
                is_salvaged,
                dropped_blocks,
                dropped_bytes,
            },
            tail: TailReport { segment: previous, offset: previous_end, dropped_blocks, dropped_bytes },
            discard,
            lost,
            records: self.records,
            bytes: self.bytes,
            last_time_ns: self.last_time_ns,
            unsynced_segments: self.unsynced_segments,
        })
    }
}
