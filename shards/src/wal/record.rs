//! Records and their fragments: how one record is cut to fit blocks, and how the pieces become one again.
//!
//! What a record of a kind says is not here.

use super::layout::{
    FRAGMENT_HEADER_SIZE, FRAGMENT_KIND_AT, FRAGMENT_PART_AT, FRAGMENT_RECORD_LENGTH_AT, FRAGMENT_RECORD_OFFSET_AT,
    FRAGMENT_ZERO_AT, RECORD_LENGTH_MAX, pad_to_fragment, read_u16, read_u32, write_u32,
};
use super::lsn::Lsn;

/// What a record is. Values below `0xF0` belong to the log's users, the others to the log itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordKind(pub u8);

impl RecordKind {
    /// A batch as received.
    pub const BATCH: RecordKind = RecordKind(1);
    /// A piece of a merged pane, in the pane log.
    pub const PANE: RecordKind = RecordKind(2);
    /// The word that a pull is complete, in the pane log.
    pub const PULLED: RecordKind = RecordKind(3);
    /// Shards of earlier runs whose state is in this one's from here on.
    pub const ADOPTED: RecordKind = RecordKind(4);
    /// Control: the first entry of a segment.
    pub const OPENING: RecordKind = RecordKind(0xF0);
    /// Control: nothing happened for a while; tells what is durable.
    pub const IDLE: RecordKind = RecordKind(0xF1);
    /// Control: shut down in order.
    pub const SEAL: RecordKind = RecordKind(0xF2);

    /// Whether the log itself writes and reads this kind.
    pub fn is_control(self) -> bool {
        self.0 >= 0xF0
    }
}

/// A whole record as recovery hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// LSN of its last fragment: what `append` returned.
    pub lsn: Lsn,
    /// Its kind; never a control kind.
    pub kind: RecordKind,
    /// Its bytes, 8-aligned.
    pub payload: &'a [u8],
}

/// Which part of a record a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The whole record.
    Full,
    /// The beginning.
    First,
    /// Neither beginning nor end.
    Middle,
    /// The end.
    Last,
}

impl Part {
    fn code(self) -> u8 {
        match self {
            Part::Full => 1,
            Part::First => 2,
            Part::Middle => 3,
            Part::Last => 4,
        }
    }

    fn from_code(code: u8) -> Option<Part> {
        match code {
            1 => Some(Part::Full),
            2 => Some(Part::First),
            3 => Some(Part::Middle),
            4 => Some(Part::Last),
            _ => None,
        }
    }
}

/// One fragment: a piece of a record inside one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Kind of the record.
    pub kind: RecordKind,
    /// Which part of it.
    pub part: Part,
    /// Length of the whole record.
    pub record_length: u32,
    /// Where in the record this piece starts.
    pub record_offset: u32,
    /// The piece.
    pub payload: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The piece of `record` from `offset` on that has at most `length_max` bytes.
    pub fn cut(kind: RecordKind, record: &'a [u8], offset: usize, length_max: usize) -> Fragment<'a> {
        assert!(record.len() <= RECORD_LENGTH_MAX);
        assert!(offset <= record.len());
        let end = record.len().min(offset + length_max);
        let part = match (offset == 0, end == record.len()) {
            (true, true) => Part::Full,
            (true, false) => Part::First,
            (false, false) => Part::Middle,
            (false, true) => Part::Last,
        };
        Fragment {
            kind,
            part,
            record_length: record.len() as u32,
            record_offset: offset as u32,
            payload: &record[offset..end],
        }
    }

    /// Bytes in a block, header and padding included.
    pub fn size(&self) -> usize {
        pad_to_fragment(FRAGMENT_HEADER_SIZE + self.payload.len())
    }

    /// Writes header, payload and padding; returns how many bytes that took.
    pub fn encode(&self, into: &mut [u8]) -> usize {
        let size = self.size();
        write_u32(into, 0, self.payload.len() as u32);
        into[FRAGMENT_KIND_AT] = self.kind.0;
        into[FRAGMENT_PART_AT] = self.part.code();
        into[FRAGMENT_ZERO_AT..FRAGMENT_ZERO_AT + 2].fill(0);
        write_u32(into, FRAGMENT_RECORD_LENGTH_AT, self.record_length);
        write_u32(into, FRAGMENT_RECORD_OFFSET_AT, self.record_offset);
        let end = FRAGMENT_HEADER_SIZE + self.payload.len();
        into[FRAGMENT_HEADER_SIZE..end].copy_from_slice(self.payload);
        into[end..size].fill(0);
        size
    }

    /// Reads the fragment that `bytes` start with, and how many bytes it takes: the mirror of `encode`. `None` if
    /// these bytes are no fragment.
    pub fn decode(bytes: &'a [u8]) -> Option<(Fragment<'a>, usize)> {
        if bytes.len() < FRAGMENT_HEADER_SIZE || read_u16(bytes, FRAGMENT_ZERO_AT) != 0 {
            return None;
        }
        let end = FRAGMENT_HEADER_SIZE.checked_add(read_u32(bytes, 0) as usize)?;
        let fragment = Fragment {
            kind: RecordKind(bytes[FRAGMENT_KIND_AT]),
            part: Part::from_code(bytes[FRAGMENT_PART_AT])?,
            record_length: read_u32(bytes, FRAGMENT_RECORD_LENGTH_AT),
            record_offset: read_u32(bytes, FRAGMENT_RECORD_OFFSET_AT),
            payload: bytes.get(FRAGMENT_HEADER_SIZE..end)?,
        };
        let size = pad_to_fragment(end);
        (size <= bytes.len()).then_some((fragment, size))
    }
}

/// What became of a fragment that was given to the [`Assembler`].
#[derive(Debug, PartialEq, Eq)]
pub enum Assembled<'a> {
    /// A record is whole.
    Whole(&'a [u8]),
    /// More must come.
    Open,
    /// The end of a record whose beginning lies before the log's first segment.
    Orphan,
    /// The fragment does not continue what came before.
    OutOfPlace,
}

/// Puts fragments together. Memory is bounded by the longest record.
#[derive(Debug, Default)]
pub struct Assembler {
    words: Vec<u64>,
    filled: usize,
    open: Option<(RecordKind, u32)>,
    started: bool,
}

impl Assembler {
    /// Gives up an unfinished record: the session that wrote it ended there.
    pub fn abandon(&mut self) {
        self.open = None;
    }

    /// Takes the next fragment of the log.
    pub fn take<'a>(&'a mut self, fragment: Fragment<'a>) -> Assembled<'a> {
        let length = fragment.payload.len();
        let (total, offset) = (fragment.record_length as usize, fragment.record_offset as usize);
        match (fragment.part, self.open) {
            (Part::Full, None) if offset == 0 && length == total => {
                self.started = true;
                Assembled::Whole(fragment.payload)
            }
            (Part::First, None) if offset == 0 && length < total && total <= RECORD_LENGTH_MAX => {
                self.started = true;
                self.open = Some((fragment.kind, fragment.record_length));
                self.filled = 0;
                self.push(fragment.payload);
                Assembled::Open
            }
            (Part::Middle | Part::Last, None) if !self.started => Assembled::Orphan,
            (Part::Middle | Part::Last, Some(open))
                if open == (fragment.kind, fragment.record_length) && offset == self.filled =>
            {
                let whole = fragment.part == Part::Last;
                if (offset + length == total) != whole || offset + length > total {
                    return Assembled::OutOfPlace;
                }
                self.push(fragment.payload);
                if !whole {
                    return Assembled::Open;
                }
                self.open = None;
                Assembled::Whole(&bytemuck::cast_slice(&self.words)[..self.filled])
            }
            _ => Assembled::OutOfPlace,
        }
    }

    fn push(&mut self, payload: &[u8]) {
        let end = self.filled + payload.len();
        if self.words.len() * 8 < end {
            self.words.resize(end.div_ceil(8), 0);
        }
        bytemuck::cast_slice_mut::<u64, u8>(&mut self.words)[self.filled..end].copy_from_slice(payload);
        self.filled = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_every_record_comes_back_aligned() {
        for length in 0..64_usize {
            let record: Vec<u8> = (0..length as u8).collect();
            for piece in 1..=length.max(1) {
                let mut log = vec![0; 4096];
                let (mut end, mut offset) = (0, 0);
                loop {
                    let fragment = Fragment::cut(RecordKind::BATCH, &record, offset, piece);
                    end += fragment.encode(&mut log[end..]);
                    offset += fragment.payload.len();
                    if offset == length {
                        break;
                    }
                }
                let mut assembler = Assembler::default();
                let mut at = 0;
                let mut whole = None;
                while at < end {
                    let (fragment, size) = Fragment::decode(&log[at..end]).expect("a fragment");
                    at += size;
                    match assembler.take(fragment) {
                        Assembled::Whole(bytes) => whole = Some(bytes.to_vec()),
                        Assembled::Open => {}
                        other => panic!("length {length}, piece {piece}: {other:?}"),
                    }
                }
                assert_eq!(whole.as_deref(), Some(&record[..]));
            }
        }
    }

    #[test]
    fn fragments_out_of_place_are_refused() {
        let record = [1, 2, 3, 4, 5, 6];
        let first = Fragment::cut(RecordKind::BATCH, &record, 0, 2);
        let middle = Fragment::cut(RecordKind::BATCH, &record, 2, 2);
        let last = Fragment::cut(RecordKind::BATCH, &record, 4, 2);
        let full = Fragment::cut(RecordKind::BATCH, &record, 0, 6);
        let other = Fragment { kind: RecordKind::PANE, ..middle };
        let mut assembler = Assembler::default();
        assert_eq!(assembler.take(middle), Assembled::Orphan);
        assert_eq!(assembler.take(last), Assembled::Orphan);
        assert_eq!(assembler.take(full), Assembled::Whole(&record));
        assert_eq!(assembler.take(last), Assembled::OutOfPlace);
        assert_eq!(assembler.take(first), Assembled::Open);
        for wrong in [first, last, full, other] {
            assert_eq!(assembler.take(wrong), Assembled::OutOfPlace);
        }
        assert_eq!(assembler.take(middle), Assembled::Open);
        assembler.abandon();
        assert_eq!(assembler.take(full), Assembled::Whole(&record));
    }
}
