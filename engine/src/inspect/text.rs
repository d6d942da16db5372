//! What was seen as text for people: a heading for each segment, a table of its blocks, one sentence about the end.

use std::fmt::Write as _;
use std::io::{self, Write};

use corefold_aggregator::time::EventTime;
use corefold_shards::wal::layout::{
    BLOCK_FLAG_IDLE, BLOCK_FLAG_SEAL, OPENING_FLAG_SALVAGED, OPENING_FLAG_SESSION, OPENING_FLAG_TRUNCATED,
    OPENING_FLAG_UNSYNCED,
};
use corefold_shards::wal::record::Part;
use corefold_shards::wal::segment::Opening;
use corefold_shards::wal::survey::{BlockSeen, BlockState, Gap, GapKind, HeaderState};
use corefold_shards::wal::{LogEnd, LogIdentity, RecordKind, SegmentId};

use super::Inspected;
use super::entries::{BatchSeen, EntrySeen};
use super::event::{BlockRemarks, Event, LogSeen, SegmentSeen, Totals};
use super::place::{StorePlace, uuid_text};
use super::verdict::{Accepted, Refusal, Verdict};
pub(super) use crate::export::text::time_text;
use crate::feed::lanes::LANE_ENDED;
use crate::units::format_size_rounded;

/// Nanoseconds since 1970 in the year 2001: a block's time below is counted from the start of its session.
const WALL_CLOCK_MIN_NS: u64 = 1_000_000_000_000_000_000;

/// Writes one fact.
pub(super) fn write(event: &Event<'_>, out: &mut dyn Write) -> io::Result<()> {
    match *event {
        Event::Store(store) => write_store(store, out),
        Event::Log(log) => write_log(log, out),
        Event::Segment(segment) => write_segment(segment, out),
        Event::BlocksBegin => writeln!(
            out,
            "{:>12} {:>12} {:>7} {:>9} {:>12}  {:<9} {:<18} checksum",
            "offset", "first LSN", "entries", "payload", "durable to", "flags", "time"
        ),
        Event::Block(block, remarks) => write_block(block, remarks, out),
        Event::Entry(entry) => writeln!(out, "{:>25} {}", entry.lsn.0, entry_text(entry)),
        Event::Gap(gap) => write_gap(gap, out),
        Event::SegmentEnd(totals) => writeln!(out, "  in all   {}", totals_text(totals)),
        Event::Note(text) => writeln!(out, "note: {text}"),
        Event::Unreadable(text) => writeln!(out, "NOT READABLE: {text}"),
        Event::End(verdict) => writeln!(out, "\n{}", verdict_text(verdict)),
        Event::Total(seen) => writeln!(out, "\n{}", seen_text(&seen)),
    }
}

fn write_store(store: &StorePlace, out: &mut dyn Write) -> io::Result<()> {
    let root = store.root.display();
    match &store.uuid {
        Ok(uuid) => writeln!(out, "data directory {root}: store {}", uuid_text(uuid))?,
        Err(fault) => writeln!(out, "data directory {root}: REFUSED: {fault}")?,
    }
    if let Some(owner) = store.owner {
        writeln!(out, "note: process {owner} is using it, so what is being written may look unfinished here")?;
    }
    Ok(())
}

fn write_log(log: &LogSeen<'_>, out: &mut dyn Write) -> io::Result<()> {
    let kind = if log.is_lone_file { "segment file" } else { "log" };
    write!(out, "\n{kind} {}: ", log.path.display())?;
    match &log.identity {
        Some(identity) => write!(out, "{}", identity_text(identity))?,
        None => write!(out, "nothing tells whose it is")?,
    }
    match log.segments {
        _ if log.is_lone_file => writeln!(out),
        1 => writeln!(out, ", 1 segment"),
        count => writeln!(out, ", {count} segments"),
    }
}

fn identity_text(identity: &LogIdentity) -> String {
    format!("store {}, {}", uuid_text(&identity.store), shard_text(identity.shard))
}

fn shard_text(shard: u32) -> String {
    if shard == u32::MAX { "no shard's".to_owned() } else { format!("shard {shard}") }
}

fn write_segment(segment: &SegmentSeen<'_>, out: &mut dyn Write) -> io::Result<()> {
    let facts = segment.facts;
    writeln!(out, "\nsegment {}  {}", facts.segment, segment.path.display())?;
    let length = facts.length;
    match facts.header {
        HeaderState::Sound(header) => {
            let (identity, salt, size) = (identity_text(&header.identity), header.salt, header.size);
            let rounded = format_size_rounded(size);
            writeln!(out, "  header   ok: {identity}, salt {salt:016x}, {size} bytes ({rounded})")?;
            if header.segment != facts.segment {
                let own = header.segment;
                writeln!(out, "           NOT THIS FILE'S: it is of segment {own}, so the file was renamed")?;
            }
            if length < size {
                writeln!(out, "           SHORT: the file has only {length} bytes")?;
            } else if length > size {
                writeln!(out, "           the file has {length} bytes; what lies behind its size is not shown")?;
            }
        }
        HeaderState::OtherVersion { found } => writeln!(out, "  header   format version {found}, unknown here")?,
        HeaderState::Damaged(_) => writeln!(out, "  header   DAMAGED: wrong checksum; the file has {length} bytes")?,
        HeaderState::Foreign => writeln!(out, "  header   NONE: this is not how a segment begins; {length} bytes")?,
        HeaderState::Cut if length == 0 => writeln!(out, "  header   NONE: the file is empty")?,
        HeaderState::Cut => writeln!(out, "  header   CUT: the file has only {length} bytes")?,
    }
    match segment.opening {
        Some((first, opening)) => {
            let (lsn, durable) = (first.first_lsn, first.durable);
            writeln!(out, "  opening  LSN {lsn}, durable to {durable}: {}", opening_text(&opening))
        }
        None => writeln!(out, "  opening  none: no sound first block"),
    }
}

fn opening_text(opening: &Opening) -> String {
    let mut text = match opening.flags & OPENING_FLAG_SESSION {
        0 => String::from("goes on"),
        _ => String::from("a session begins"),
    };
    let (previous, end) = (opening.previous, opening.previous_end);
    let _ = match previous {
        SegmentId::NONE => write!(text, ", no segment before"),
        _ => write!(text, ", segment {previous} ends at byte {end}"),
    };
    let cut = counted(opening.dropped_blocks, "sound block");
    if opening.flags & OPENING_FLAG_TRUNCATED != 0 {
        let _ = write!(text, "; a torn tail was cut there ({cut}, {} bytes)", opening.dropped_bytes);
    }
    if opening.flags & OPENING_FLAG_SALVAGED != 0 {
        text.push_str("; DURABLE ENTRIES WERE GIVEN UP there by a salvage");
    }
    if opening.flags & OPENING_FLAG_UNSYNCED != 0 {
        text.push_str("; durability os");
    }
    text
}

fn write_block(block: &BlockSeen<'_>, remarks: BlockRemarks, out: &mut dyn Write) -> io::Result<()> {
    let header = &block.header;
    let flags = match header.flags {
        0 => "-".to_owned(),
        BLOCK_FLAG_SEAL => "SEAL".to_owned(),
        BLOCK_FLAG_IDLE => "IDLE".to_owned(),
        other => format!("{other:#06x}"),
    };
    let (offset, lsn, count) = (block.offset, header.first_lsn.0, header.count);
    let (payload, durable, time) = (header.payload_length, header.durable.0, block_time_text(header.time_ns));
    write!(out, "{offset:>12} {lsn:>12} {count:>7} {payload:>9} {durable:>12}  {flags:<9} {time:<18} ")?;
    out.write_all(match block.state {
        BlockState::Sound => b"ok".as_slice(),
        BlockState::BadPayload => b"PAYLOAD BAD",
        BlockState::BadHeader => b"HEADER BAD",
        BlockState::Unchecked => b"not checkable",
    })?;
    if remarks.is_void {
        out.write_all(b", void: cut by the next session")?;
    }
    if remarks.is_stranger {
        out.write_all(b", DOES NOT FOLLOW the block before")?;
    }
    if remarks.is_malformed {
        out.write_all(b", ENTRIES MAKE NO SENSE")?;
    }
    writeln!(out)
}

/// A time on the wall, or since the start of the session that wrote the block.
pub(super) fn block_time_text(time_ns: u64) -> String {
    match wall_time_text(time_ns) {
        Some(text) => text,
        None => format!("+{}.{:06}s", time_ns / 1_000_000_000, time_ns / 1000 % 1_000_000),
    }
}

/// A block's time as RFC 3339, if it is one on the wall.
pub(super) fn wall_time_text(time_ns: u64) -> Option<String> {
    (time_ns >= WALL_CLOCK_MIN_NS).then(|| time_text(EventTime((time_ns / 1000) as i64)))
}

/// The name of a record's kind.
pub(super) fn kind_text(kind: RecordKind) -> String {
    match kind {
        RecordKind::BATCH => "batch".to_owned(),
        RecordKind::PANE => "pane".to_owned(),
        RecordKind::PULLED => "pulled".to_owned(),
        RecordKind::ADOPTED => "adopted".to_owned(),
        RecordKind::OPENING => "opening".to_owned(),
        RecordKind::IDLE => "idle".to_owned(),
        RecordKind::SEAL => "seal".to_owned(),
        RecordKind(other) => format!("kind {other}"),
    }
}

/// The name of a fragment's part.
pub(super) fn part_text(part: Part) -> &'static str {
    match part {
        Part::Full => "full",
        Part::First => "first",
        Part::Middle => "middle",
        Part::Last => "last",
    }
}

fn entry_text(entry: &EntrySeen) -> String {
    let (kind, size) = (kind_text(entry.kind), entry.size);
    let mut text = match entry.part {
        Part::Full => format!("{kind}, {size} bytes"),
        part => format!("{kind}, {} part, {size} of {} bytes", part_text(part), entry.record_size),
    };
    match &entry.batch {
        Some(batch) => text.push_str(&batch_text(batch)),
        None if entry.kind == RecordKind::BATCH && matches!(entry.part, Part::Full) => text.push_str(": NO STAMP"),
        None => {}
    }
    text
}

fn batch_text(batch: &BatchSeen) -> String {
    let stamp = &batch.stamp;
    let mut text = format!(": lane {}, sequence {}", stamp.lane, stamp.sequence);
    if stamp.parts != 1 {
        let _ = write!(text, ", part {} of {}", u32::from(stamp.part) + 1, stamp.parts);
    }
    let _ = write!(text, ", {} from row {}", counted(batch.rows, "row"), stamp.first_row);
    if stamp.rejected > 0 {
        let _ = write!(text, ", {} rejected", stamp.rejected);
    }
    let (watermark, frontier) = (time_text(stamp.watermark), time_text(stamp.frontier));
    let _ = write!(text, ", watermark {watermark}, frontier {frontier}");
    match stamp.position {
        LANE_ENDED => text.push_str(", the lane ends"),
        position => {
            let _ = write!(text, ", position {position}");
        }
    }
    if stamp.producer != 0 {
        let _ = write!(text, ", producer {:016x}", stamp.producer);
    }
    if stamp.deadline != EventTime::MAX {
        let _ = write!(text, ", deadline {}", time_text(stamp.deadline));
    }
    text
}

fn write_gap(gap: Gap, out: &mut dyn Write) -> io::Result<()> {
    let Gap { offset, length, kind } = gap;
    let what = match kind {
        GapKind::Zeros => "of zeros",
        GapKind::Earlier => "of an earlier life of this file",
        GapKind::Ruins => "that are NO BLOCK",
    };
    writeln!(out, "{offset:>12} {length:>12} bytes {what}")
}

fn totals_text(totals: &Totals) -> String {
    let mut text = counted(totals.blocks, "sound block");
    if let Some((first, end)) = totals.lsns {
        let (entries, bytes) = (counted(totals.entries, "entry"), format_size_rounded(totals.bytes));
        let _ = write!(text, ", {entries} (LSN {first} to {}), {bytes}", end.0.saturating_sub(1));
    }
    let counts =
        [(totals.void_blocks, "of them void"), (totals.damaged, "DAMAGED"), (totals.unchecked, "not checkable")];
    for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
        let _ = write!(text, ", {count} {what}");
    }
    let sizes =
        [(totals.zeros, "of zeros"), (totals.earlier, "of an earlier life"), (totals.ruins, "that are NO BLOCK")];
    for (bytes, what) in sizes.iter().filter(|(bytes, _)| *bytes > 0) {
        let _ = write!(text, ", {} {what}", format_size_rounded(*bytes));
    }
    text
}

/// How a log ends, in a sentence.
fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accepted(accepted) => accepted_text(accepted),
        Verdict::Empty => "end: empty, there is no segment".to_owned(),
        Verdict::NoBlocks { has_header: true } => {
            "end: the file does not begin with a sound block, and nothing in it says that there was one".to_owned()
        }
        Verdict::NoBlocks { has_header: false } => {
            "end: no sound header and no block; recovery gives up such a file only if it is the newest".to_owned()
        }
        Verdict::Refused(Refusal { file, offset, reason, lost }) => {
            let mut text = format!("end: REFUSED\n{file}, byte {offset}: {reason}");
            if let Some(lost) = lost.filter(|lost| lost.from < lost.to) {
                let count = counted(lost.to.0 - lost.from.0, "entry");
                let _ = write!(text, "\nlost: LSN {} to {} ({count})", lost.from, lost.to.0 - 1);
            }
            text
        }
        Verdict::Unreadable(what) => format!("end: NOT READABLE\n{what}"),
        Verdict::Moving(what) => {
            format!("end: unknown, the log changes while it is read; try again, or stop the engine\nlast seen: {what}")
        }
    }
}

fn accepted_text(accepted: &Accepted) -> String {
    let recovered = &accepted.recovered;
    let how = match recovered.end {
        LogEnd::Empty => "empty, no entries",
        LogEnd::Sealed => "sealed, the engine was shut down in order",
        LogEnd::Clean => "clean, the engine stopped between two writes and no sound block is cut",
        LogEnd::Torn => "torn, a tail that was never acknowledged is cut",
        LogEnd::Salvaged => "salvaged",
    };
    let mut text = format!("end: {how}");
    if let Some(path) = &accepted.path {
        let (offset, lsn) = (recovered.tail.offset, recovered.resume.next_lsn);
        let _ = write!(text, "\nat {}, byte {offset}; the next LSN is {lsn}", path.display());
    }
    let tail = &recovered.tail;
    if tail.dropped_blocks > 0 {
        let blocks = counted(tail.dropped_blocks, "sound block");
        let _ = write!(text, "\ncut: {blocks} ({} bytes) behind a missing one", tail.dropped_bytes);
    }
    if accepted.ruins > 0 {
        let _ = write!(text, "\ncut: {} bytes of unfinished or damaged blocks", accepted.ruins);
    }
    if !recovered.discard.is_empty() {
        let names: Vec<String> = recovered.discard.iter().map(|segment| segment.to_string()).collect();
        let _ = write!(text, "\nsegments to be deleted: {}", names.join(", "));
    }
    let (records, bytes) = (counted(recovered.records, "record"), format_size_rounded(recovered.bytes));
    let _ = write!(text, "\n{records} in {bytes} of sound blocks");
    if recovered.unsynced_segments > 0 {
        let count = counted(recovered.unsynced_segments, "segment");
        let _ = write!(text, "; {count} with durability os, whose end proves nothing after a power cut");
    }
    text
}

fn seen_text(seen: &Inspected) -> String {
    let Inspected { refused, unreadable, .. } = seen;
    let mut text = format!(
        "{}, {}, {}",
        counted(seen.logs, "log"),
        counted(seen.segments, "segment"),
        counted(seen.blocks, "sound block")
    );
    for (count, what) in [(refused, "REFUSED"), (unreadable, "NOT READABLE")].iter().filter(|(count, _)| **count > 0) {
        let _ = write!(text, ", {count} {what}");
    }
    text
}

fn counted(count: u64, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {what}s"),
    }
}
