//! A hash over everything that happens in a simulated run, and its text if somebody wants to read it: the same seed
//! must give the same.

use crate::local::trace::Trace as Hash;
use corefold_engine::recover::RecoveredStore;

/// See the module.
#[derive(Debug, Default)]
pub struct Trace {
    hash: Hash,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps its text.
    pub fn with_text() -> Trace {
        Trace { lines: Some(Vec::new()), ..Trace::default() }
    }

    /// Adds a number to the hash.
    pub fn note(&mut self, value: u64) {
        self.hash.note(value);
    }

    /// Adds bytes to the hash.
    pub fn note_bytes(&mut self, bytes: &[u8]) {
        self.hash.note_bytes(bytes);
    }

    /// Adds a line to the text, which is only made if it is kept.
    pub fn event(&mut self, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(text());
        }
    }

    /// The hash.
    pub fn value(&self) -> u64 {
        self.hash.value()
    }

    /// The text.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// What a first pass has found, for people.
pub fn describe(recovered: &RecoveredStore) -> String {
    let mut text =
        format!("released {}, limit {}, adopted {:?}", recovered.released, recovered.limit, recovered.adopted);
    for shard in &recovered.shards {
        let (kept, end) = (&shard.snapshots.kept, shard.log.resume.next_lsn);
        let kept: Vec<_> = kept.iter().map(|kept| (kept.generation, kept.lsn.0)).collect();
        let stale = &shard.snapshots.stale;
        let adopted = shard.snapshots.head.as_ref().map(|head| head.adopted.as_slice()).unwrap_or_default();
        let records = shard.log.records;
        text += &format!(
            "\n  shard {}: snapshots {kept:?}, stale {stale:?}, adopted in it {adopted:?}, {records} records, log ends at {end}",
            shard.shard
        );
    }
    for (lane, start) in &recovered.lanes {
        text += &format!("\n  lane {lane}: goes on at batch {}, known {:?}", start.sequence, start.known.keys());
    }
    text
}
