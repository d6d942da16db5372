//! What was seen as JSON for programs: one object a line, each with its `type`. The text form is [`super::text`].

use std::io::{self, Write};

use corefold_shards::wal::layout::{
    BLOCK_FLAG_IDLE, BLOCK_FLAG_SEAL, OPENING_FLAG_SALVAGED, OPENING_FLAG_SESSION, OPENING_FLAG_TRUNCATED,
    OPENING_FLAG_UNSYNCED,
};
use corefold_shards::wal::survey::{BlockSeen, BlockState, Gap, GapKind, HeaderState};
use corefold_shards::wal::{LogEnd, LogIdentity, SegmentId};
use serde_json::{Value, json};

use super::Inspected;
use super::entries::{BatchSeen, EntrySeen};
use super::event::{BlockRemarks, Event, LogSeen, SegmentSeen, Totals};
use super::place::{StorePlace, uuid_text};
use super::text::{kind_text, part_text, time_text, wall_time_text};
use super::verdict::{Accepted, Refusal, Verdict};
use crate::feed::lanes::LANE_ENDED;

/// Writes one fact as one line; headings of tables are none.
pub(super) fn write(event: &Event<'_>, out: &mut dyn Write) -> io::Result<()> {
    let value = match *event {
        Event::BlocksBegin => return Ok(()),
        Event::Store(store) => store_json(store),
        Event::Log(log) => log_json(log),
        Event::Segment(segment) => segment_json(segment),
        Event::Block(block, remarks) => block_json(block, remarks),
        Event::Entry(entry) => entry_json(entry),
        Event::Gap(gap) => gap_json(gap),
        Event::SegmentEnd(totals) => totals_json(totals),
        Event::Note(text) => json!({ "type": "note", "text": text }),
        Event::Unreadable(text) => json!({ "type": "unreadable", "reason": text }),
        Event::End(verdict) => verdict_json(verdict),
        Event::Total(seen) => seen_json(&seen),
    };
    serde_json::to_writer(&mut *out, &value)?;
    out.write_all(b"\n")
}

fn store_json(store: &StorePlace) -> Value {
    json!({
        "type": "store",
        "path": store.root.display().to_string(),
        "store": store.uuid.as_ref().ok().map(uuid_text),
        "refused": store.uuid.as_ref().err(),
        "used_by_process": store.owner,
    })
}

fn log_json(log: &LogSeen<'_>) -> Value {
    json!({
        "type": "log",
        "path": log.path.display().to_string(),
        "store": log.identity.map(|identity| uuid_text(&identity.store)),
        "shard": log.identity.and_then(shard_json),
        "segments": log.segments,
        "lone_file": log.is_lone_file,
    })
}

/// Null for logs that are no shard's.
fn shard_json(identity: LogIdentity) -> Option<u32> {
    (identity.shard != u32::MAX).then_some(identity.shard)
}

fn segment_json(segment: &SegmentSeen<'_>) -> Value {
    let facts = segment.facts;
    let state = match facts.header {
        HeaderState::Sound(_) => "ok",
        HeaderState::OtherVersion { .. } => "other version",
        HeaderState::Damaged(_) => "damaged",
        HeaderState::Foreign => "foreign",
        HeaderState::Cut => "cut",
    };
    let header = match facts.header {
        HeaderState::Sound(header) => json!({
            "store": uuid_text(&header.identity.store),
            "shard": shard_json(header.identity),
            "sequence": header.segment.0,
            "salt": hex(header.salt),
            "size": header.size,
        }),
        _ => Value::Null,
    };
    let opening = segment.opening.map(|(first, opening)| {
        json!({
            "first_lsn": first.first_lsn.0,
            "durable_lsn": first.durable.0,
            "previous_sequence": (opening.previous != SegmentId::NONE).then_some(opening.previous.0),
            "previous_end": opening.previous_end,
            "session": opening.flags & OPENING_FLAG_SESSION != 0,
            "truncated": opening.flags & OPENING_FLAG_TRUNCATED != 0,
            "salvaged": opening.flags & OPENING_FLAG_SALVAGED != 0,
            "unsynced": opening.flags & OPENING_FLAG_UNSYNCED != 0,
            "dropped_blocks": opening.dropped_blocks,
            "dropped_bytes": opening.dropped_bytes,
        })
    });
    json!({
        "type": "segment",
        "path": segment.path.display().to_string(),
        "sequence": facts.segment.0,
        "file_size": facts.length,
        "header_state": state,
        "header": header,
        "opening": opening,
    })
}

/// Salts and producers as text: they are too long for programs that read numbers as doubles.
fn hex(value: u64) -> String {
    format!("{value:016x}")
}

fn block_json(block: &BlockSeen<'_>, remarks: BlockRemarks) -> Value {
    let header = &block.header;
    json!({
        "type": "block",
        "offset": block.offset,
        "first_lsn": header.first_lsn.0,
        "entries": header.count,
        "payload_bytes": header.payload_length,
        "durable_lsn": header.durable.0,
        "seal": header.flags & BLOCK_FLAG_SEAL != 0,
        "idle": header.flags & BLOCK_FLAG_IDLE != 0,
        "time_ns": header.time_ns,
        "time": wall_time_text(header.time_ns),
        "state": match block.state {
            BlockState::Sound => "ok",
            BlockState::BadPayload => "bad payload",
            BlockState::BadHeader => "bad header",
            BlockState::Unchecked => "unchecked",
        },
        "void": remarks.is_void,
        "does_not_follow": remarks.is_stranger,
        "malformed": remarks.is_malformed,
    })
}

fn entry_json(entry: &EntrySeen) -> Value {
    json!({
        "type": "entry",
        "lsn": entry.lsn.0,
        "kind": kind_text(entry.kind),
        "part": part_text(entry.part),
        "bytes": entry.size,
        "record_bytes": entry.record_size,
        "batch": entry.batch.as_ref().map(batch_json),
    })
}

fn batch_json(batch: &BatchSeen) -> Value {
    let stamp = &batch.stamp;
    json!({
        "producer": hex(stamp.producer),
        "lane": stamp.lane,
        "sequence": stamp.sequence,
        "part": stamp.part,
        "parts": stamp.parts,
        "rows": batch.rows,
        "first_row": stamp.first_row,
        "rejected": stamp.rejected,
        "watermark": time_text(stamp.watermark),
        "frontier": time_text(stamp.frontier),
        "deadline": time_text(stamp.deadline),
        "position": (stamp.position != LANE_ENDED).then_some(stamp.position),
        "lane_ended": stamp.position == LANE_ENDED,
    })
}

fn gap_json(gap: Gap) -> Value {
    let kind = match gap.kind {
        GapKind::Zeros => "zeros",
        GapKind::Earlier => "earlier life",
        GapKind::Ruins => "ruins",
    };
    json!({ "type": "gap", "offset": gap.offset, "bytes": gap.length, "kind": kind })
}

fn totals_json(totals: &Totals) -> Value {
    json!({
        "type": "segment end",
        "blocks": totals.blocks,
        "entries": totals.entries,
        "bytes": totals.bytes,
        "first_lsn": totals.lsns.map(|(first, _)| first.0),
        "end_lsn": totals.lsns.map(|(_, end)| end.0),
        "void_blocks": totals.void_blocks,
        "damaged_blocks": totals.damaged,
        "unchecked_blocks": totals.unchecked,
        "zero_bytes": totals.zeros,
        "earlier_bytes": totals.earlier,
        "ruin_bytes": totals.ruins,
    })
}

fn verdict_json(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Accepted(accepted) => accepted_json(accepted),
        Verdict::Empty => json!({ "type": "end", "outcome": "empty", "sound": true }),
        Verdict::NoBlocks { has_header } => json!({ "type": "end", "outcome": "no blocks", "sound": has_header }),
        Verdict::Refused(Refusal { file, offset, reason, lost }) => json!({
            "type": "end",
            "outcome": "refused",
            "sound": false,
            "path": file,
            "offset": offset,
            "reason": reason,
            "lost_from_lsn": lost.map(|lost| lost.from.0),
            "lost_to_lsn": lost.map(|lost| lost.to.0),
        }),
        Verdict::Unreadable(reason) => {
            json!({ "type": "end", "outcome": "unreadable", "sound": false, "reason": reason })
        }
        Verdict::Moving(reason) => json!({ "type": "end", "outcome": "moving", "sound": false, "reason": reason }),
    }
}

fn accepted_json(accepted: &Accepted) -> Value {
    let recovered = &accepted.recovered;
    json!({
        "type": "end",
        "outcome": match recovered.end {
            LogEnd::Empty => "empty",
            LogEnd::Sealed => "sealed",
            LogEnd::Clean => "clean",
            LogEnd::Torn => "torn",
            LogEnd::Salvaged => "salvaged",
        },
        "sound": true,
        "path": accepted.path.as_ref().map(|path| path.display().to_string()),
        "offset": recovered.tail.offset,
        "next_lsn": recovered.resume.next_lsn.0,
        "records": recovered.records,
        "bytes": recovered.bytes,
        "cut_blocks": recovered.tail.dropped_blocks,
        "cut_bytes": recovered.tail.dropped_bytes,
        "unfinished_bytes": accepted.ruins,
        "delete_sequences": recovered.discard.iter().map(|segment| segment.0).collect::<Vec<u64>>(),
        "unsynced_segments": recovered.unsynced_segments,
    })
}

fn seen_json(seen: &Inspected) -> Value {
    json!({
        "type": "total",
        "logs": seen.logs,
        "segments": seen.segments,
        "blocks": seen.blocks,
        "damaged_blocks": seen.damaged,
        "refused": seen.refused,
        "unreadable": seen.unreadable,
    })
}
