//! Shards: their snapshots to the last chunk, their logs to the last block, and the ledger over all of them.
//!
//! The ledger is added up twice: what each snapshot counted, and which batches there are; no batch may be in two shards.

use std::fs::File;

use corefold_aggregator::partial_check::PartialOutline;
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::UnverifiedBatch;
use corefold_shards::counters::{ShardCounts, StreamCounts};
use corefold_shards::ledger::ProducerLedger;
use corefold_shards::snapshot::format::file_name;
use corefold_shards::snapshot::{ChunkKind, SnapshotError, SnapshotFile, SnapshotHead};
use corefold_shards::wal::{Lsn, Record, RecordKind, ScanOptions, scan};
use serde_json::json;

use super::report::Report;
use super::{Stop, VerifyError};
use crate::disk::snapshots::list;
use crate::disk::{DiskError, LogDirectory, SnapshotReader, Store};
use crate::recover::{open_snapshot, witness_of};

/// What the log holds behind the snapshot.
#[derive(Clone, Copy, Default)]
struct Behind {
    batches: u64,
    rows: u64,
    rejected: u64,
    duplicates: u64,
}

/// Checks every shard of the store. `released` is the time that the pane log reaches.
pub(super) fn verify(store: &Store, released: EventTime, report: &mut Report<'_>) -> Result<(), VerifyError> {
    let mut begins: Vec<(u32, Option<(Lsn, SnapshotHead)>)> = Vec::new();
    for shard in store.shards()? {
        match store.birth(shard) {
            Ok(Some(_)) => {}
            Ok(None) => report.finding(&format!("shard {shard}"), "its file `birth` is missing")?,
            Err(error @ DiskError::NotAStore { .. }) => {
                report.finding(&format!("shard {shard}"), &error.to_string())?
            }
            Err(error) => report.unreadable(&format!("shard {shard}"), &error.to_string())?,
        }
        begins.push((shard, snapshots(store, shard, released, report)?));
    }
    let mut all = ProducerLedger::default();
    let (mut seen, mut total, mut behind) = (0, StreamCounts::default(), Behind::default());
    for (shard, begin) in &begins {
        if let Some(adopter) = adopter_of(store, *shard, &begins) {
            let text = format!("shard {shard}: its whole state is in a snapshot of shard {adopter}");
            report.fact(&text, &json!({ "type": "adopted", "shard": shard, "adopter": adopter }))?;
            continue;
        }
        let mut ledger = ProducerLedger::default();
        let mut from = Lsn::ZERO;
        if let Some((lsn, head)) = begin {
            (from, ledger) = (*lsn, head.ledger());
            head.shard_counts().streams.iter().for_each(|stream| total += *stream);
        }
        let found = log(store, *shard, from, &mut ledger, report)?;
        behind = Behind {
            batches: behind.batches + found.batches,
            rows: behind.rows + found.rows,
            rejected: behind.rejected + found.rejected,
            duplicates: behind.duplicates + found.duplicates,
        };
        seen += count(&ledger);
        all.unite(&ledger);
    }
    if count(&all) != seen {
        let what = format!("{} batches are in more than one shard, so their events count twice", seen - count(&all));
        report.finding("ledger", &what)?;
    }
    let StreamCounts { accepted, rejected, duplicate, shed, .. } = total;
    let (accepted, rejected) = (accepted + behind.rows, rejected + behind.rejected);
    let received = accepted + rejected + duplicate + shed;
    let text = format!(
        "ledger: received {received} = accepted {accepted} + duplicate {duplicate} + rejected {rejected} + shed {shed}; {seen} \
         batches, {} of them in logs behind snapshots",
        behind.batches
    );
    let value = json!({ "type": "ledger", "received": received, "accepted": accepted, "duplicate": duplicate,
                        "rejected": rejected, "shed": shed, "batches": seen, "batches_in_logs": behind.batches });
    Ok(report.fact(&text, &value)?)
}

fn count(ledger: &ProducerLedger) -> u64 {
    ledger.lanes().flat_map(|(_, sequences)| sequences.ranges()).map(|(start, end)| end - start).sum()
}

/// The shard whose snapshot holds all of `shard`, if there is one.
fn adopter_of(store: &Store, shard: u32, begins: &[(u32, Option<(Lsn, SnapshotHead)>)]) -> Option<u32> {
    for (adopter, begin) in begins {
        let Some((_, head)) = begin else { continue };
        // A directory that cannot be told from another one was found wanting above.
        if let Some(orphan) = head.adopted.iter().find(|orphan| orphan.shard == shard)
            && witness_of(store, shard).is_ok_and(|found| found == *orphan)
        {
            return Some(*adopter);
        }
    }
    None
}

/// Checks all snapshots of a shard; LSN and head of the one to begin with.
fn snapshots(
    store: &Store,
    shard: u32,
    released: EventTime,
    report: &mut Report<'_>,
) -> Result<Option<(Lsn, SnapshotHead)>, VerifyError> {
    let mut begin = None;
    for generation in list(&store.shard_path(shard))? {
        let path = store.shard_path(shard).join(file_name(generation)).display().to_string();
        match open_snapshot(store, shard, generation).and_then(|mut file| {
            let chunks = chunks(&mut file)?;
            Ok((file.header().lsn, file.size(), chunks, file.head().clone()))
        }) {
            Ok((lsn, bytes, chunks, head)) => {
                let text = format!("{path}: sound, records below LSN {lsn}, {chunks} chunks, {bytes} bytes");
                let value = json!({ "type": "snapshot", "path": path, "shard": shard, "generation": generation,
                                    "lsn": lsn.0, "chunks": chunks, "bytes": bytes });
                report.fact(&text, &value)?;
                if let Some(what) = imbalance(&head.shard_counts()) {
                    report.finding(&path, &what)?;
                }
                let reaches = EventTime(head.released);
                if reaches > released {
                    let what = format!("it has let go panes below {reaches}, but the pane log ends at {released}");
                    report.finding(&path, &what)?;
                }
                begin.get_or_insert((lsn, head));
            }
            Err(error @ SnapshotError::Read { .. }) => report.unreadable(&path, &error.to_string())?,
            Err(error) => report.finding(&path, &error.to_string())?,
        }
    }
    Ok(begin)
}

/// Reads every chunk; how many there are.
fn chunks(file: &mut SnapshotFile<SnapshotReader<File>>) -> Result<u64, SnapshotError> {
    let mut chunks = 1;
    while let Some(chunk) = file.next_chunk()? {
        let offset = chunk.entry.offset;
        if chunk.entry.kind == ChunkKind::Head {
            return Err(SnapshotError::Damaged { offset, what: "a second head" });
        }
        PartialOutline::of(chunk.bytes).map_err(|error| SnapshotError::Content { offset, error })?;
        chunks += 1;
    }
    Ok(chunks)
}

/// Which count does not add up, if one does not.
fn imbalance(counts: &ShardCounts) -> Option<String> {
    if let Some((index, stream)) = counts.streams.iter().enumerate().find(|(_, stream)| !stream.balances()) {
        return Some(format!("the ledger of stream {index} does not add up: {stream:?}"));
    }
    let is_of_a_stream = |events: u64| counts.streams.iter().any(|stream| stream.accepted == events);
    let (index, view) = counts
        .views
        .iter()
        .enumerate()
        .find(|(_, view)| !is_of_a_stream(view.aggregated + view.late + view.filtered))?;
    Some(format!("the events of view {index} are not those of a stream: {view:?}, {:?}", counts.streams))
}

/// Checks the log of a shard and adds its batches from `from` on to `ledger`.
fn log(
    store: &Store,
    shard: u32,
    from: Lsn,
    ledger: &mut ProducerLedger,
    report: &mut Report<'_>,
) -> Result<Behind, VerifyError> {
    let directory = LogDirectory::new(store.shard_path(shard).join("wal"), store.log_identity(shard));
    let place = format!("shard {shard}");
    let mut behind = Behind::default();
    if !directory.path().is_dir() {
        if from > Lsn::ZERO {
            let what = format!("{} is missing, and its snapshot begins with LSN {from}", directory.path().display());
            report.finding(&place, &what)?;
        }
        return Ok(behind);
    }
    let options = ScanOptions { from, ..ScanOptions::new(directory.identity()) };
    let read = scan::<_, Stop, _>(&mut directory.files_as_they_are()?, &options, |record| {
        batch(&record, ledger, &mut behind).map_err(|what| Stop::Record(format!("LSN {}: {what}", record.lsn)))
    });
    match read {
        Ok(recovered) => {
            let Behind { batches, rows, rejected, duplicates } = behind;
            let (bytes, end, tail) = (recovered.bytes, recovered.resume.next_lsn, recovered.tail.dropped_blocks);
            let text = format!(
                "{place}: log sound to LSN {end}, {bytes} bytes; {batches} batches from LSN {from} on: {rows} rows, {rejected} \
                 rejected, {duplicates} batches twice; {tail} blocks in a torn tail"
            );
            let value = json!({ "type": "log", "shard": shard, "bytes": bytes, "next_lsn": end.0, "from_lsn": from.0,
                                "batches": batches, "rows": rows, "rejected": rejected, "duplicates": duplicates,
                                "torn_blocks": tail });
            report.fact(&text, &value)?;
        }
        Err(stop) => stop.tell(&place, report)?,
    }
    Ok(behind)
}

/// Adds one record.
fn batch(record: &Record<'_>, ledger: &mut ProducerLedger, behind: &mut Behind) -> Result<(), String> {
    match record.kind {
        RecordKind::BATCH => {}
        RecordKind::ADOPTED => return Ok(()),
        RecordKind(kind) => return Err(format!("a record of kind {kind} does not belong here")),
    }
    let batch = UnverifiedBatch::new(record.payload);
    let (Some(stamp), Some(extent)) = (batch.stamp(), batch.extent()) else {
        return Err("it calls itself a batch but has no stamp".to_owned());
    };
    if let Some(fault) = stamp.fault() {
        return Err(format!("the batch's stamp is wrong: {fault}"));
    }
    behind.batches += 1;
    if ledger.insert(&stamp) {
        behind.rows += extent.rows;
        behind.rejected += u64::from(stamp.rejected);
    } else {
        behind.duplicates += 1;
    }
    Ok(())
}
