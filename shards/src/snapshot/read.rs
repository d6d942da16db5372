//! Reading a snapshot back: checksum first, then checked access, chunk by chunk in bounded memory.
//!
//! What becomes of groups and panes is the shard's business, see [`crate::fold::view_fold`].

use super::format::{
    CHUNK_ALIGNMENT, ChunkEntry, ChunkKind, ENTRY_SIZE, HEADER_SIZE, SnapshotError, SnapshotHeader, pad,
};
use super::head::SnapshotHead;
use super::io::SnapshotSource;
use crate::wal::LogIdentity;
use rkyv::util::AlignedVec;

/// Bytes of a table that is believed without looking: 16 million chunks.
const TABLE_MAX: u64 = 16_000_000 * ENTRY_SIZE as u64;

/// A snapshot whose header, table and head are sound. Its other chunks are checked as they are read.
#[derive(Debug)]
pub struct SnapshotFile<S> {
    source: S,
    header: SnapshotHeader,
    table: Vec<ChunkEntry>,
    head: SnapshotHead,
    buffer: AlignedVec,
    next: usize,
}

/// A chunk, its checksum checked.
#[derive(Debug)]
pub struct SnapshotChunk<'a> {
    /// Where it lies and what it is.
    pub entry: ChunkEntry,
    /// The archive.
    pub bytes: &'a [u8],
}

impl<S: SnapshotSource> SnapshotFile<S> {
    /// Checks header, table and head of a snapshot of `identity`, which must carry `generation`.
    pub fn open(mut source: S, identity: &LogIdentity, generation: u64) -> Result<SnapshotFile<S>, SnapshotError> {
        let header = read_header(&mut source)?;
        if header.identity != *identity || header.generation != generation {
            return Err(SnapshotError::Foreign);
        }
        SnapshotFile::read(source, header)
    }

    /// As [`SnapshotFile::open`], whosever it is: for looking.
    pub fn open_any(mut source: S) -> Result<SnapshotFile<S>, SnapshotError> {
        let header = read_header(&mut source)?;
        SnapshotFile::read(source, header)
    }

    fn read(mut source: S, header: SnapshotHeader) -> Result<SnapshotFile<S>, SnapshotError> {
        let table = read_table(&mut source, &header)?;
        let mut file =
            SnapshotFile { source, header, table, head: SnapshotHead::default(), buffer: AlignedVec::new(), next: 0 };
        let first = file.next_chunk()?.filter(|chunk| chunk.entry.kind == ChunkKind::Head);
        let Some(chunk) = first else {
            return Err(SnapshotError::Damaged { offset: HEADER_SIZE as u64, what: "the first chunk is not a head" });
        };
        let content = |error| SnapshotError::Content { offset: HEADER_SIZE as u64, error };
        let mut head = SnapshotHead::read(chunk.bytes).map_err(content)?;
        head.released = head.released.max(file.header.released.0);
        file.head = head;
        Ok(file)
    }

    /// The header.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// The head. It says of all that may be missing that it is released, also of what was while the image was written.
    pub fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// Where every chunk lies.
    pub fn table(&self) -> &[ChunkEntry] {
        &self.table
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.header.table_at + self.header.chunks * ENTRY_SIZE as u64
    }

    /// The next chunk; after opening, the first one behind the head.
    pub fn next_chunk(&mut self) -> Result<Option<SnapshotChunk<'_>>, SnapshotError> {
        let Some(&entry) = self.table.get(self.next) else { return Ok(None) };
        self.next += 1;
        let padded = (entry.end() - entry.offset) as usize;
        self.buffer.clear();
        self.buffer.resize(padded, 0);
        read_exactly(&mut self.source, entry.offset, &mut self.buffer)?;
        let seed = SnapshotHeader::seed(&self.header.identity, self.header.generation, entry.offset);
        if crc32c::crc32c_append(seed, &self.buffer) != entry.crc {
            return Err(SnapshotError::Damaged { offset: entry.offset, what: "the checksum of a chunk is wrong" });
        }
        Ok(Some(SnapshotChunk { entry, bytes: &self.buffer[..entry.length as usize] }))
    }
}

/// Checks every checksum of a snapshot of `identity`; returns its header.
pub fn verify<S: SnapshotSource>(
    source: S,
    identity: &LogIdentity,
    generation: u64,
) -> Result<SnapshotHeader, SnapshotError> {
    let mut file = SnapshotFile::open(source, identity, generation)?;
    while file.next_chunk()?.is_some() {}
    Ok(*file.header())
}

fn read_header<S: SnapshotSource>(source: &mut S) -> Result<SnapshotHeader, SnapshotError> {
    let mut bytes = [0; HEADER_SIZE];
    read_exactly(source, 0, &mut bytes)?;
    SnapshotHeader::decode(&bytes)
}

fn read_table<S: SnapshotSource>(source: &mut S, header: &SnapshotHeader) -> Result<Vec<ChunkEntry>, SnapshotError> {
    let offset = header.table_at;
    let damaged = |what| SnapshotError::Damaged { offset, what };
    let size = header.chunks.checked_mul(ENTRY_SIZE as u64).filter(|&size| size <= TABLE_MAX);
    let size = size.ok_or_else(|| damaged("the table is larger than any table is"))?;
    let length = source.length().map_err(|error| SnapshotError::Read { offset, error })?;
    if offset.checked_add(size) != Some(length) {
        return Err(damaged("the file does not end where its table does"));
    }
    let mut bytes = vec![0; size as usize];
    read_exactly(source, offset, &mut bytes)?;
    let seed = SnapshotHeader::seed(&header.identity, header.generation, offset);
    if crc32c::crc32c_append(seed, &bytes) != header.table_crc {
        return Err(damaged("the table's checksum is wrong"));
    }
    let entries: Option<Vec<ChunkEntry>> = bytes.chunks_exact(ENTRY_SIZE).map(ChunkEntry::decode).collect();
    let entries = entries.ok_or_else(|| damaged("the table's checksum is right but its entries make no sense"))?;
    let mut at = HEADER_SIZE as u64;
    for entry in &entries {
        if entry.offset != at || entry.length == 0 {
            return Err(damaged("chunks do not follow each other"));
        }
        at = entry.end();
    }
    if at != pad(offset) || !offset.is_multiple_of(CHUNK_ALIGNMENT) {
        return Err(damaged("the table does not follow the last chunk"));
    }
    Ok(entries)
}

/// Fills `into`; one retry, then a failed read is an error and never taken for an end.
fn read_exactly<S: SnapshotSource>(source: &mut S, offset: u64, into: &mut [u8]) -> Result<(), SnapshotError> {
    let (mut filled, mut failures) = (0, 0);
    while filled < into.len() {
        match source.read_at(offset + filled as u64, &mut into[filled..]) {
            Ok(0) => return Err(SnapshotError::Damaged { offset: offset + filled as u64, what: "the file ends here" }),
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) if failures == 0 => failures += 1,
            Err(error) => return Err(SnapshotError::Read { offset: offset + filled as u64, error }),
        }
    }
    Ok(())
}
