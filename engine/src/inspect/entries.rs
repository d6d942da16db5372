//! The entries of a block one by one, with what a batch says of itself. Rows are not read here.

use corefold_shards::batch::UnverifiedBatch;
use corefold_shards::batch::wire::Stamp;
use corefold_shards::wal::record::{Fragment, Part};
use corefold_shards::wal::{Lsn, RecordKind};

/// Bytes kept of a record that is cut over blocks: the tables of a batch, with its stamp, are at its beginning.
const BEGINNING_MAX: usize = 64 << 10;

/// One entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntrySeen {
    pub(super) lsn: Lsn,
    pub(super) kind: RecordKind,
    pub(super) part: Part,
    /// Bytes of this fragment.
    pub(super) size: usize,
    /// Bytes of the whole record.
    pub(super) record_size: u32,
    /// At the end of a batch.
    pub(super) batch: Option<BatchSeen>,
}

/// What a batch says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchSeen {
    pub(super) stamp: Stamp,
    pub(super) rows: u64,
}

impl BatchSeen {
    /// `None` if the bytes are no batch.
    pub(super) fn read(bytes: &[u8]) -> Option<BatchSeen> {
        let batch = UnverifiedBatch::new(bytes);
        Some(BatchSeen { stamp: batch.stamp()?, rows: batch.extent()?.rows })
    }
}

/// Reads entries over block boundaries.
#[derive(Debug, Default)]
pub(super) struct EntryReader {
    beginning: Vec<u8>,
    is_open: bool,
}

impl EntryReader {
    /// Hands out the entries of one block; `false` if the bytes are not `count` whole entries.
    pub(super) fn read<E>(
        &mut self,
        first: Lsn,
        count: u16,
        payload: &[u8],
        mut on_entry: impl FnMut(&EntrySeen) -> Result<(), E>,
    ) -> Result<bool, E> {
        let (mut rest, mut lsn) = (payload, first);
        while let Some((fragment, size)) = Fragment::decode(rest) {
            rest = &rest[size..];
            on_entry(&self.take(lsn, &fragment))?;
            lsn = lsn.advance(1);
        }
        Ok(rest.is_empty() && lsn == first.advance(u64::from(count)))
    }

    /// Gives up the record that is not complete: what follows does not continue it.
    pub(super) fn abandon(&mut self) {
        self.is_open = false;
    }

    fn take(&mut self, lsn: Lsn, fragment: &Fragment<'_>) -> EntrySeen {
        // Openings may lie between the fragments of a record.
        if !fragment.kind.is_control() {
            match fragment.part {
                Part::Full => self.is_open = false,
                Part::First => {
                    self.is_open = true;
                    self.beginning.clear();
                    self.keep(fragment.payload);
                }
                Part::Middle | Part::Last => self.keep(fragment.payload),
            }
        }
        let bytes = match fragment.part {
            Part::Full => Some(fragment.payload),
            Part::Last if self.is_open => Some(self.beginning.as_slice()),
            _ => None,
        };
        let batch = bytes.filter(|_| fragment.kind == RecordKind::BATCH).and_then(BatchSeen::read);
        if !fragment.kind.is_control() && fragment.part == Part::Last {
            self.is_open = false;
        }
        let (size, record_size) = (fragment.payload.len(), fragment.record_length);
        EntrySeen { lsn, kind: fragment.kind, part: fragment.part, size, record_size, batch }
    }

    fn keep(&mut self, payload: &[u8]) {
        let room = BEGINNING_MAX - self.beginning.len();
        self.beginning.extend_from_slice(&payload[..payload.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corefold_shards::batch::columns::ColumnSet;
    use corefold_shards::batch::wire::{AlignedBytes, encode};

    #[test]
    fn the_stamp_of_a_cut_batch_is_found() {
        let mut batch = AlignedBytes::new();
        let mut columns = ColumnSet::new(&[]);
        columns.times.extend(0..50_000);
        encode(&columns, 1, &Stamp::of_lane(9, 3, 17), &mut batch).expect("small enough");
        let record = batch.as_slice();
        assert!(record.len() > BEGINNING_MAX);
        for piece in [40, 1000, 100_000] {
            let (mut reader, mut offset, mut last) = (EntryReader::default(), 0, None);
            while offset < record.len() {
                let fragment = Fragment::cut(RecordKind::BATCH, record, offset, piece);
                let mut bytes = vec![0; fragment.size()];
                fragment.encode(&mut bytes);
                offset += fragment.payload.len();
                let is_whole = reader.read::<()>(Lsn(5), 1, &bytes, |entry| {
                    last = Some(*entry);
                    Ok(())
                });
                assert_eq!(is_whole, Ok(true));
                assert!(reader.beginning.len() <= BEGINNING_MAX);
            }
            let seen = last.and_then(|entry| entry.batch).expect("the last fragment brings it");
            assert_eq!((seen.stamp.lane, seen.stamp.sequence, seen.rows), (3, 17, 50_000));
        }
    }
}
