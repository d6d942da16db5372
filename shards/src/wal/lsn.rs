//! Positions in the log: the ordinal of an entry and the number of a segment. Byte offsets are plain `u64`s and
//! not here.

use std::fmt;

/// Ordinal of a log entry (one fragment of a record, or a control entry), from 0.
///
/// As a cursor it is "one past": `durable() == Lsn(7)` says that entries 0 to 6 are durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The first entry of a log.
    pub const ZERO: Lsn = Lsn(0);

    /// The position right after this entry.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }

    /// The position `count` entries further on; saturates, since `count` may come from a disk.
    #[must_use]
    pub fn advance(self, count: u64) -> Lsn {
        Lsn(self.0.saturating_add(count))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a segment: consecutive from 1 within one shard. It is also the file's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// "No segment": what the first one names as its predecessor.
    pub const NONE: SegmentId = SegmentId(0);

    /// The first segment of a log.
    pub const FIRST: SegmentId = SegmentId(1);

    /// The segment after this one.
    #[must_use]
    pub fn next(self) -> SegmentId {
        SegmentId(self.0 + 1)
    }

    /// The file's name: twenty digits, so that names sort like numbers.
    pub fn file_name(self) -> String {
        format!("{:020}.wal", self.0)
    }

    /// The mirror of [`SegmentId::file_name`]: `None` for any other spelling, so that no number has two names.
    pub fn parse_file_name(name: &str) -> Option<SegmentId> {
        let id = SegmentId(name.strip_suffix(".wal")?.parse().ok()?);
        (id != SegmentId::NONE && id.file_name() == name).then_some(id)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_have_one_spelling() {
        for number in [1, 9, 10, 4_294_967_296, u64::MAX] {
            let id = SegmentId(number);
            assert_eq!(SegmentId::parse_file_name(&id.file_name()), Some(id));
        }
        for name in ["1.wal", "00000000000000000000.wal", "+0000000000000000001.wal", "00000000000000000001.tmp", ""] {
            assert_eq!(SegmentId::parse_file_name(name), None, "{name}");
        }
    }
}
