//! `corefold inspect wal`: goes through logs, segments, blocks and entries in the order of the files and hands out
//! what it sees. How that is written down is not here.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use corefold_shards::wal::record::Part;
use corefold_shards::wal::survey::{BlockSeen, BlockState, GapKind, HeaderState, Piece, SegmentFacts, Surveyor};
use corefold_shards::wal::{LogIdentity, Lsn, RecoveryError, SegmentId};

use super::entries::EntryReader;
use super::event::{BlockRemarks, Event, LogSeen, SegmentSeen, Totals};
use super::files::Files;
use super::place::{self, Listing, LogPlace};
use super::verdict::{LoneFile, Soundness, Verdict, judge};
use super::{InspectError, InspectOptions, Inspected, json, text};
use crate::cli::args::InspectDetail;

/// Bytes of a segment in memory at once; a larger block is held as a whole.
pub(super) const PIECE_SIZE: usize = 1 << 20;

/// Shows the logs that `path` leads to: a data directory, a shard's log directory or one segment file.
///
/// Writes while it reads, in bounded memory. May be called while an engine uses the directory.
pub fn wal(path: &Path, options: InspectOptions, out: &mut dyn Write) -> Result<Inspected, InspectError> {
    let place = place::find(path, options.shard)?;
    let mut report = Report { out: BufWriter::new(out), options, seen: Inspected::default() };
    if let Some(store) = &place.store {
        report.tell(&Event::Store(store))?;
        report.seen.refused += u64::from(store.uuid.is_err());
    }
    for log in &place.logs {
        inspect(log, &mut report)?;
    }
    if place.logs.len() != 1 {
        report.tell(&Event::Total(report.seen))?;
    }
    report.out.flush().map_err(InspectError::Output)?;
    Ok(report.seen)
}

struct Report<'o> {
    out: BufWriter<&'o mut dyn Write>,
    options: InspectOptions,
    seen: Inspected,
}

impl Report<'_> {
    fn tell(&mut self, event: &Event<'_>) -> Result<(), InspectError> {
        self.write(event).map_err(InspectError::Output)
    }

    fn write(&mut self, event: &Event<'_>) -> io::Result<()> {
        if self.options.json { json::write(event, &mut self.out) } else { text::write(event, &mut self.out) }
    }

    fn unreadable(&mut self, what: &str) -> Result<(), InspectError> {
        self.seen.unreadable += 1;
        self.tell(&Event::Unreadable(what))
    }

    fn shows(&self, detail: InspectDetail) -> bool {
        self.options.detail >= detail
    }
}

fn inspect(log: &LogPlace, report: &mut Report<'_>) -> Result<(), InspectError> {
    report.seen.logs += 1;
    let unreadable_before = report.seen.unreadable;
    let listing = match log.list() {
        Ok(listing) => listing,
        Err(error) => {
            report.seen.unreadable += 1;
            return report.tell(&Event::End(&Verdict::Unreadable(error.to_string())));
        }
    };
    let mut files = Files::new(log.directory(), listing.segments.clone());
    let identity = identity_of(log, &mut files);
    let (path, segments, is_lone_file) = (log.path.as_path(), listing.segments.len(), log.is_lone_file);
    report.tell(&Event::Log(&LogSeen { path, identity, segments, is_lone_file }))?;
    tell_leftovers(&listing, report)?;
    let mut walk = Walk { entries: EntryReader::default(), lone: LoneFile::default(), at_beginning: true };
    let mut surveyor = Surveyor::new(&mut files, PIECE_SIZE);
    for (segment, path) in &listing.segments {
        let shown = match surveyor.segment(*segment, identity) {
            Ok(facts) => walk.segment(&mut surveyor, &facts, path, identity, report),
            Err(error) => Err(Stop::Log(error)),
        };
        match shown {
            Ok(()) => {}
            Err(Stop::Output(error)) => return Err(error),
            Err(Stop::Log(error)) if is_gone(&error) => {
                report.tell(&Event::Note(&format!("{} went away while the log was read", path.display())))?;
            }
            Err(Stop::Log(error)) => report.unreadable(&error.to_string())?,
        }
    }
    let verdict = match identity {
        Some(identity) => judge(log, identity, is_lone_file.then_some(walk.lone)),
        None if segments == 0 => Ok(Verdict::Empty),
        None => Ok(Verdict::nobodys(&log.path)),
    };
    let verdict = verdict.unwrap_or_else(|error| Verdict::Unreadable(error.to_string()));
    match verdict.soundness() {
        Soundness::Sound => {}
        Soundness::Refused => report.seen.refused += 1,
        // The file that stopped the judge has mostly been counted above.
        Soundness::Unreadable => report.seen.unreadable = report.seen.unreadable.max(unreadable_before + 1),
    }
    report.tell(&Event::End(&verdict))
}

fn tell_leftovers(listing: &Listing, report: &mut Report<'_>) -> Result<(), InspectError> {
    if listing.temporary > 0 {
        let text = format!("{} unfinished files (.tmp): recovery deletes them", listing.temporary);
        report.tell(&Event::Note(&text))?;
    }
    Ok(())
}

/// Whose log it is: by the directories around, otherwise by the first sound header.
fn identity_of(log: &LogPlace, files: &mut Files) -> Option<LogIdentity> {
    let mut found = None;
    if log.store.is_none() || log.shard.is_none() {
        for segment in files.segments() {
            let facts = Surveyor::new(files, PIECE_SIZE).segment(segment, None);
            found = match facts.map(|facts| facts.header) {
                Ok(HeaderState::Sound(header)) => Some(header.identity),
                // A lone file with a damaged header still says whose it was, which its blocks may prove.
                Ok(HeaderState::Damaged(identity)) if log.is_lone_file => Some(identity),
                _ => continue,
            };
            break;
        }
    }
    let store = log.store.or(found.map(|identity| identity.store))?;
    let shard = log.shard.or(found.map(|identity| identity.shard))?;
    Some(LogIdentity { store, shard })
}

fn is_gone(error: &RecoveryError) -> bool {
    matches!(error, RecoveryError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

enum Stop {
    Log(RecoveryError),
    Output(InspectError),
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

/// What is carried from one block to the next.
struct Walk {
    entries: EntryReader,
    lone: LoneFile,
    /// Whether all blocks so far follow each other and hold no record's beginning.
    at_beginning: bool,
}

/// What is carried from one block of a segment to the next.
#[derive(Default)]
struct Chain {
    totals: Totals,
    /// Due LSN and checksum after the sound block right before.
    due: Option<(Lsn, u32)>,
    /// Where the next segment says that this one ends.
    end: Option<u64>,
}

impl Walk {
    fn segment(
        &mut self,
        surveyor: &mut Surveyor<'_, Files>,
        facts: &SegmentFacts,
        path: &Path,
        identity: Option<LogIdentity>,
        report: &mut Report<'_>,
    ) -> Result<(), Stop> {
        report.seen.segments += 1;
        self.lone.has_header = matches!(facts.header, HeaderState::Sound(_));
        let opening = surveyor.opening(facts)?;
        report.tell(&Event::Segment(&SegmentSeen { path, facts, opening }))?;
        if report.shows(InspectDetail::Blocks) && facts.end() > 0 {
            report.tell(&Event::BlocksBegin)?;
        }
        let end = end_by_successor(surveyor, facts.segment, identity);
        let mut chain = Chain { end, ..Chain::default() };
        let walked = surveyor.walk::<Stop>(facts, 0, |piece| match piece {
            Piece::Block(block) => self.block(&block, &mut chain, report),
            Piece::Gap(gap) => {
                chain.due = None;
                self.at_beginning = false;
                *match gap.kind {
                    GapKind::Zeros => &mut chain.totals.zeros,
                    GapKind::Earlier => &mut chain.totals.earlier,
                    GapKind::Ruins => &mut chain.totals.ruins,
                } += gap.length;
                if report.shows(InspectDetail::Blocks) {
                    report.tell(&Event::Gap(gap))?;
                }
                Ok(())
            }
        });
        report.seen.blocks += chain.totals.blocks;
        report.seen.damaged += chain.totals.damaged;
        report.tell(&Event::SegmentEnd(&chain.totals))?;
        walked
    }

    fn block(&mut self, block: &BlockSeen<'_>, chain: &mut Chain, report: &mut Report<'_>) -> Result<(), Stop> {
        let header = &block.header;
        let remarks = BlockRemarks {
            is_void: chain.end.is_some_and(|end| block.offset >= end),
            is_stranger: chain.due.is_some_and(|due| due != (header.first_lsn, header.previous_crc)),
            // The opening is the first entry of each segment, and only there.
            is_malformed: (block.offset == FIRST_BLOCK) != block.opening.is_some(),
        };
        if block.state != BlockState::Sound {
            let totals = &mut chain.totals;
            *if block.state == BlockState::Unchecked { &mut totals.unchecked } else { &mut totals.damaged } += 1;
            chain.due = None;
            if block.state == BlockState::BadPayload {
                self.note_beginning(block);
            }
            self.at_beginning = false;
            self.entries.abandon();
            if report.shows(InspectDetail::Blocks) {
                let remarks = BlockRemarks { is_void: remarks.is_void, ..BlockRemarks::default() };
                report.tell(&Event::Block(block, remarks))?;
            }
            return Ok(());
        }
        if remarks.is_stranger {
            self.entries.abandon();
            self.at_beginning = false;
        }
        let is_whole = self.count(block);
        let remarks = BlockRemarks { is_malformed: remarks.is_malformed || !is_whole, ..remarks };
        chain.totals.add(block, remarks);
        chain.due = Some((header.end_lsn(), header.header_crc));
        if report.shows(InspectDetail::Blocks) {
            report.tell(&Event::Block(block, remarks))?;
        }
        if report.shows(InspectDetail::Records) {
            self.entries
                .read(header.first_lsn, header.count, block.payload, |entry| report.tell(&Event::Entry(entry)))?;
        }
        Ok(())
    }

    /// Whether the block's entries are whole; notes where reading a lone file can begin.
    fn count(&mut self, block: &BlockSeen<'_>) -> bool {
        let header = &block.header;
        self.note_beginning(block);
        let mut begins = None;
        let is_whole = EntryReader::default().read::<()>(header.first_lsn, header.count, block.payload, |entry| {
            if begins.is_none() && !entry.kind.is_control() && matches!(entry.part, Part::Full | Part::First) {
                begins = Some(entry.lsn);
            }
            Ok(())
        });
        if self.at_beginning && self.lone.has_beginning {
            self.lone.from = begins.unwrap_or(header.end_lsn());
            self.at_beginning = begins.is_none();
        }
        is_whole == Ok(true)
    }
}

impl Walk {
    /// Takes in a block whose header is sound: without a sound first block, the one due there is a predecessor of it.
    fn note_beginning(&mut self, block: &BlockSeen<'_>) {
        let lone = &mut self.lone;
        if block.offset == FIRST_BLOCK {
            lone.has_beginning = block.state == BlockState::Sound;
        } else if !lone.has_beginning && lone.from == Lsn::ZERO {
            lone.from = Lsn(block.header.first_lsn.0.saturating_sub(1));
        }
    }
}

const FIRST_BLOCK: u64 = corefold_shards::wal::layout::SEGMENT_HEADER_SIZE as u64;

/// Where a segment ends according to its successor, if that has a sound beginning.
fn end_by_successor(
    surveyor: &mut Surveyor<'_, Files>,
    segment: SegmentId,
    identity: Option<LogIdentity>,
) -> Option<u64> {
    // A number too high to have a successor was made up; a missing successor is no news here.
    let next = SegmentId(segment.0.checked_add(1)?);
    let facts = surveyor.segment(next, identity).ok()?;
    let (_, opening) = surveyor.opening(&facts).ok()??;
    (opening.previous == segment).then_some(opening.previous_end)
}

impl Totals {
    fn add(&mut self, block: &BlockSeen<'_>, remarks: BlockRemarks) {
        let header = &block.header;
        self.blocks += 1;
        self.entries += u64::from(header.count);
        self.bytes += header.length() as u64;
        self.void_blocks += u64::from(remarks.is_void);
        self.damaged += u64::from(remarks.is_malformed || (remarks.is_stranger && !remarks.is_void));
        let first = self.lsns.map_or(header.first_lsn, |(first, _)| first);
        self.lsns = Some((first, header.end_lsn()));
    }
}
