//! `corefold inspect snapshot`: every chunk of every snapshot, damaged or not, and with which one recovery would begin.
//!
//! Whether the log behind a snapshot is sound is `inspect wal`'s.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use corefold_aggregator::partial::PartialError;
use corefold_aggregator::partial_check::PartialOutline;
use corefold_aggregator::time::EventTime;
use corefold_shards::snapshot::format::{ChunkEntry, HEADER_SIZE, file_name};
use corefold_shards::snapshot::writer::SNAPSHOTS_KEPT as KEPT;
use corefold_shards::snapshot::{ChunkKind, SnapshotError, SnapshotFile, SnapshotHead, SnapshotHeader};
use serde_json::{Value, json};

use super::place::{StorePlace, uuid_text};
use super::report::Report;
use super::text::time_text;
use super::{InspectError, Inspected};
use crate::disk::SnapshotReader;
use crate::disk::snapshots::list;

/// Shows the snapshots that `path` leads to: of a data directory, of a shard's directory, or one file. Writes while it
/// reads, a chunk at a time.
///
/// May be called while an engine uses the directory.
pub fn snapshot(path: &Path, shard: Option<u32>, json: bool, out: &mut dyn Write) -> Result<Inspected, InspectError> {
    let mut report = Report::new(out, json);
    if path.is_file() {
        report.snapshot(path, None)?;
    } else {
        let (store, directories) = directories(path, shard)?;
        let mut found = 0;
        for (directory, shard) in directories {
            let generations = list(&directory).map_err(|error| unlisted(&directory, error))?;
            found += generations.len();
            report.shard(&directory, shard, store, &generations)?;
        }
        if found == 0 {
            report.tell("there is no snapshot", &json!({ "type": "note", "text": "there is no snapshot" }))?;
        }
    }
    report.out.flush().map_err(InspectError::Output)?;
    Ok(report.seen)
}

/// Directories of shards, each with its number if its name tells, and the store around them.
type Directories = (Option<[u8; 16]>, Vec<(PathBuf, Option<u32>)>);

fn directories(path: &Path, wanted: Option<u32>) -> Result<Directories, InspectError> {
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix("shard-")?.parse::<u32>().ok();
    let unread = |source| InspectError::Io { operation: "read", path: path.to_path_buf(), source };
    let mut shards = Vec::new();
    for entry in fs::read_dir(path).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        if let Some(shard) = number(&path).filter(|_| path.is_dir()) {
            shards.push((path, Some(shard)));
        }
    }
    shards.sort();
    let absolute = fs::canonicalize(path).map_err(unread)?;
    let root = if shards.is_empty() { absolute.parent().unwrap_or(&absolute) } else { &absolute };
    let store = root.join("store.json").exists().then(|| StorePlace::read(root).uuid.ok()).flatten();
    if shards.is_empty() {
        if wanted.is_some() {
            return Err(InspectError::NoShards { path: path.to_path_buf() });
        }
        return Ok((store, vec![(path.to_path_buf(), number(&absolute))]));
    }
    if let Some(shard) = wanted {
        let present: Vec<String> = shards.iter().filter_map(|(_, shard)| *shard).map(|n| n.to_string()).collect();
        shards.retain(|(_, found)| *found == wanted);
        if shards.is_empty() {
            let present = present.join(", ");
            return Err(InspectError::NoSuchShard { path: path.to_path_buf(), shard, present });
        }
    }
    Ok((store, shards))
}

fn unlisted(directory: &Path, error: crate::disk::DiskError) -> InspectError {
    InspectError::Io { operation: "list", path: directory.to_path_buf(), source: io::Error::other(error) }
}

impl Report<'_> {
    fn shard(
        &mut self,
        directory: &Path,
        shard: Option<u32>,
        store: Option<[u8; 16]>,
        generations: &[u64],
    ) -> Result<(), InspectError> {
        let mut begin = None;
        for &generation in generations {
            let expected = Expected { generation, store, shard };
            let is_sound = self.snapshot(&directory.join(file_name(generation)), Some(expected))?;
            begin = begin.or(is_sound.then_some(generation));
        }
        let text = match begin {
            Some(generation) => format!("{}: recovery begins with generation {generation}", directory.display()),
            None if generations.len() >= KEPT => {
                format!("{}: no snapshot is sound; recovery refuses to begin with the log alone", directory.display())
            }
            None => format!("{}: recovery begins with the log alone", directory.display()),
        };
        let path = directory.display().to_string();
        self.tell(&text, &json!({ "type": "shard", "path": path, "shard": shard, "begins_with_generation": begin }))
    }

    /// Shows one file; whether it is sound to its last byte.
    fn snapshot(&mut self, path: &Path, expected: Option<Expected>) -> Result<bool, InspectError> {
        self.seen.segments += 1;
        let shown = path.display().to_string();
        self.tell(&format!("snapshot {shown}"), &json!({ "type": "snapshot", "path": shown }))?;
        let opened = File::open(path).map_err(|error| SnapshotError::Read { offset: 0, error });
        let outcome = match opened.and_then(|file| SnapshotFile::open_any(SnapshotReader(file))) {
            Ok(mut file) => self.chunks(&mut file, expected)?,
            Err(error) => Some(error),
        };
        match &outcome {
            None => self.tell("  end      sound", &json!({ "type": "snapshot end", "outcome": "sound" }))?,
            Some(error) => {
                let is_unread = matches!(error, SnapshotError::Read { .. });
                self.seen.refused += u64::from(!is_unread);
                self.seen.unreadable += u64::from(is_unread);
                let reason = error.to_string();
                let value = json!({ "type": "snapshot end", "outcome": "refused", "reason": reason });
                self.tell(&format!("  end      REFUSED: {reason}"), &value)?;
            }
        }
        Ok(outcome.is_none())
    }

    /// Shows what is behind the header; the first thing that is wrong, if anything.
    fn chunks(
        &mut self,
        file: &mut SnapshotFile<SnapshotReader<File>>,
        expected: Option<Expected>,
    ) -> Result<Option<SnapshotError>, InspectError> {
        let header = *file.header();
        self.header(&header, file.size())?;
        self.head(file.head())?;
        let mut fault = expected.filter(|expected| !expected.is_of(&header)).map(|_| SnapshotError::Foreign);
        let table = file.table().to_vec();
        if let Some(entry) = table.first() {
            self.chunk(entry, "", &Value::Null, None)?;
        }
        for entry in table.iter().skip(1) {
            self.seen.blocks += 1;
            let read = file.next_chunk().map(|chunk| chunk.map(|chunk| outline(entry, chunk.bytes)));
            match read {
                Ok(None) => break,
                Ok(Some(Ok((text, value)))) => self.chunk(entry, &text, &value, None)?,
                Ok(Some(Err(error))) => {
                    let error = SnapshotError::Content { offset: entry.offset, error };
                    self.chunk(entry, "", &Value::Null, Some(&error))?;
                    fault.get_or_insert(error);
                }
                Err(error) => {
                    self.chunk(entry, "", &Value::Null, Some(&error))?;
                    fault.get_or_insert(error);
                }
            }
        }
        Ok(fault)
    }

    fn header(&mut self, header: &SnapshotHeader, size: u64) -> Result<(), InspectError> {
        let SnapshotHeader { identity, generation, plan, lsn, chunks, .. } = *header;
        let store = uuid_text(&identity.store);
        let text = format!(
            "  header   ok: store {store}, shard {}, generation {generation}, plan {plan:016x}, records below LSN {lsn}, \
             {chunks} chunks in {size} bytes",
            identity.shard
        );
        let value = json!({
            "type": "snapshot header", "store": store, "shard": identity.shard, "generation": generation,
            "plan": format!("{plan:016x}"), "lsn": lsn.0, "chunks": chunks, "bytes": size,
        });
        self.tell(&text, &value)
    }

    fn head(&mut self, head: &SnapshotHead) -> Result<(), InspectError> {
        let (frontier, released) = (time_text(EventTime(head.frontier)), time_text(EventTime(head.released)));
        let adopted: Vec<u32> = head.adopted.iter().map(|orphan| orphan.shard).collect();
        let text = format!(
            "  head     frontier {frontier}, panes below {released} are in the pane log; {} ranges of batches, {} notes, \
             adopted shards {adopted:?}",
            head.seen.len(),
            head.notes.len()
        );
        let counts = head.shard_counts();
        let streams = counts.streams.iter().map(|s| {
            json!({ "batches": s.batches, "received": s.received, "accepted": s.accepted, "duplicate": s.duplicate,
                    "rejected": s.rejected, "shed": s.shed })
        });
        let views =
            counts.views.iter().map(|v| json!({ "aggregated": v.aggregated, "late": v.late, "filtered": v.filtered }));
        let value = json!({
            "type": "snapshot head", "frontier": frontier, "released": released, "ranges": head.seen.len(),
            "notes": head.notes.len(), "adopted": adopted, "streams": streams.collect::<Vec<Value>>(),
            "views": views.collect::<Vec<Value>>(),
        });
        self.tell(&text, &value)?;
        if self.json {
            return Ok(());
        }
        for (index, s) in counts.streams.iter().enumerate() {
            let text = format!(
                "  stream {index} received {} = accepted {} + duplicate {} + rejected {} + shed {}, {} batches",
                s.received, s.accepted, s.duplicate, s.rejected, s.shed, s.batches
            );
            self.tell(&text, &Value::Null)?;
        }
        for (index, v) in counts.views.iter().enumerate() {
            let text =
                format!("  view {index}   aggregated {}, late {}, filtered {}", v.aggregated, v.late, v.filtered);
            self.tell(&text, &Value::Null)?;
        }
        self.tell("          offset     length  kind    checksum  content", &Value::Null)
    }

    fn chunk(
        &mut self,
        entry: &ChunkEntry,
        content: &str,
        value: &Value,
        fault: Option<&SnapshotError>,
    ) -> Result<(), InspectError> {
        self.seen.damaged += u64::from(fault.is_some());
        let state = if fault.is_some() { "BAD" } else { "ok" };
        let content = fault.map_or(content.to_owned(), ToString::to_string);
        let text =
            format!("  {:>14} {:>10}  {:<7} {state:<9} {content}", entry.offset, entry.length, entry.kind.name());
        let value = json!({
            "type": "chunk", "offset": entry.offset, "length": entry.length, "kind": entry.kind.name(),
            "state": if fault.is_some() { "bad" } else { "ok" }, "content": value,
            "reason": fault.map(ToString::to_string),
        });
        self.tell(text.trim_end(), &value)
    }
}

/// What a file's place says of it.
#[derive(Clone, Copy)]
struct Expected {
    generation: u64,
    store: Option<[u8; 16]>,
    shard: Option<u32>,
}

impl Expected {
    fn is_of(&self, header: &SnapshotHeader) -> bool {
        header.generation == self.generation
            && self.store.is_none_or(|store| store == header.identity.store)
            && self.shard.is_none_or(|shard| shard == header.identity.shard)
    }
}

/// What a chunk holds, as text and for programs.
fn outline(entry: &ChunkEntry, bytes: &[u8]) -> Result<(String, Value), PartialError> {
    debug_assert!(entry.offset >= HEADER_SIZE as u64);
    let PartialOutline { view, pane, groups, rows, sides, spills, .. } = PartialOutline::of(bytes)?;
    Ok(match entry.kind {
        ChunkKind::Head => return Err(PartialError::Shape("one head")),
        ChunkKind::Groups => (format!("view {view}: {groups} groups"), json!({ "view": view, "groups": groups })),
        ChunkKind::Pane => {
            let text = format!("view {view}, pane {pane}: {rows} rows, {sides} sketches and texts, {spills} spills");
            (text, json!({ "view": view, "pane": pane, "rows": rows, "sides": sides, "spills": spills }))
        }
    })
}
