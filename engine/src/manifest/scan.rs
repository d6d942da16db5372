//! Going through a manifest line by line, and judging it as a whole: sound, torn at its end, or damaged.
//!
//! Reads only; cutting and compacting is [`super::log`]'s.

use super::line::{FILE_LINE_START, LINE_SIZE_MAX, Line, LineFault, MANIFEST_FORMAT, decode};
use std::io::{self, BufRead};

/// A line as it was met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenLine {
    /// From 1.
    pub number: u64,
    /// Where it starts.
    pub offset: u64,
    /// Where the next one starts.
    pub end: u64,
    /// What it says.
    pub line: Result<Line, LineFault>,
}

/// Reads lines one after the other, in bounded memory, damaged or not.
#[derive(Debug)]
pub struct Scanner<R> {
    from: R,
    number: u64,
    offset: u64,
    bytes: Vec<u8>,
    /// What the next line about a file must be numbered: at least, or exactly.
    next_seq: u64,
    kept_left: u64,
    kept_below: u64,
    has_header: bool,
    /// Numbers cannot be told right after a line that cannot be read.
    lost: bool,
}

impl<R: BufRead> Scanner<R> {
    /// A scanner at the beginning of a file.
    pub fn new(from: R) -> Scanner<R> {
        Scanner {
            from,
            number: 0,
            offset: 0,
            bytes: Vec::new(),
            next_seq: 0,
            kept_left: 0,
            kept_below: 0,
            has_header: false,
            lost: false,
        }
    }

    /// The next line; `None` at the end.
    pub fn next_line(&mut self) -> io::Result<Option<SeenLine>> {
        let Some((size, has_end)) = self.read_line()? else { return Ok(None) };
        self.number += 1;
        let offset = self.offset;
        self.offset += size;
        let broken = |reason: String| Err(LineFault { reason, is_sealed: false });
        let decoded = if self.bytes.len() > LINE_SIZE_MAX {
            broken(format!("it is longer than {LINE_SIZE_MAX} bytes"))
        } else if !has_end {
            broken(String::from("it has no line feed: writing it was interrupted"))
        } else {
            decode(&self.bytes)
        };
        let line = decoded.and_then(|line| self.in_order(line));
        self.lost = line.is_err();
        Ok(Some(SeenLine { number: self.number, offset, end: self.offset, line }))
    }

    /// Lines that the compaction kept and that have not come yet.
    pub fn kept_left(&self) -> u64 {
        self.kept_left
    }

    /// Whether a sound line hides in the last line's bytes, as if the line feed before it were damaged.
    fn hides_a_line(&self) -> bool {
        let starts = self.bytes.windows(FILE_LINE_START.len()).enumerate().skip(1);
        let mut starts = starts.filter(|(_, bytes)| *bytes == FILE_LINE_START);
        starts.any(|(at, _)| decode(&self.bytes[at..]).is_ok())
    }

    /// Reads up to the next line feed into `bytes`; of too long a line no more than shows that it is too long.
    fn read_line(&mut self) -> io::Result<Option<(u64, bool)>> {
        self.bytes.clear();
        let mut size = 0;
        loop {
            let some = match self.from.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                some => some?,
            };
            if some.is_empty() {
                return Ok((size > 0).then_some((size, false)));
            }
            let end = memchr::memchr(b'\n', some);
            let part = &some[..end.unwrap_or(some.len())];
            let room = (LINE_SIZE_MAX + 1).saturating_sub(self.bytes.len());
            self.bytes.extend_from_slice(&part[..part.len().min(room)]);
            let used = part.len() + usize::from(end.is_some());
            self.from.consume(used);
            size += used as u64;
            if end.is_some() {
                return Ok(Some((size, true)));
            }
        }
    }

    fn in_order(&mut self, line: Line) -> Result<Line, LineFault> {
        let sealed = |reason: String| Err(LineFault { reason, is_sealed: true });
        match &line {
            Line::Header(header) => {
                if self.number != 1 {
                    return sealed(String::from("it is a first line, but not the first"));
                }
                if header.manifest != MANIFEST_FORMAT {
                    let found = header.manifest;
                    return sealed(format!("it has format {found}; this program reads format {MANIFEST_FORMAT}"));
                }
                self.has_header = true;
                (self.kept_left, self.kept_below) = (header.kept, header.next_seq);
                if self.kept_left == 0 {
                    self.next_seq = header.next_seq;
                }
            }
            Line::File(file) if file.seq == u64::MAX => {
                return sealed(String::from("its number leaves none for the next line"));
            }
            Line::File(file) if self.lost || !self.has_header => {
                self.kept_left = self.kept_left.saturating_sub(1);
                self.next_seq = file.seq + 1;
            }
            Line::File(file) if self.kept_left > 0 => {
                self.kept_left -= 1;
                if file.seq < self.next_seq || file.seq >= self.kept_below {
                    let (least, below) = (self.next_seq, self.kept_below);
                    return sealed(format!("it is number {}, but one from {least} to below {below} is due", file.seq));
                }
                self.next_seq = if self.kept_left == 0 { self.kept_below } else { file.seq + 1 };
            }
            Line::File(file) => {
                if file.seq != self.next_seq {
                    return sealed(format!("it is number {}, but number {} is due", file.seq, self.next_seq));
                }
                self.next_seq += 1;
            }
        }
        Ok(line)
    }
}

/// What a whole manifest is worth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every line is sound.
    Sound,
    /// All but the last bytes are sound; those are what a crash leaves of the line that was being written.
    Torn(Spot),
    /// Something is wrong that no crash explains.
    Damaged(Spot),
}

/// A place in a manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spot {
    /// Number of the line, from 1.
    pub line: u64,
    /// Where it starts.
    pub offset: u64,
    /// What is wrong with it.
    pub fault: String,
}

/// Goes through a whole manifest, tells every line, and judges.
pub fn walk<R: BufRead, E: From<io::Error>>(
    from: R,
    mut tell: impl FnMut(SeenLine) -> Result<(), E>,
) -> Result<Verdict, E> {
    let mut scanner = Scanner::new(from);
    let mut first_broken: Option<Spot> = None;
    let mut damaged: Option<Spot> = None;
    let mut end = (1, 0);
    while let Some(seen) = scanner.next_line()? {
        end = (seen.number + 1, seen.end);
        match &seen.line {
            Ok(_) => damaged = damaged.or_else(|| first_broken.clone()),
            Err(fault) => {
                let spot = Spot { line: seen.number, offset: seen.offset, fault: fault.reason.clone() };
                // The first line and those that were kept were durable before they had their name.
                let is_torn = !fault.is_sealed && scanner.has_header && scanner.kept_left == 0;
                if !is_torn || scanner.hides_a_line() {
                    damaged = damaged.or_else(|| first_broken.clone()).or_else(|| Some(spot.clone()));
                }
                first_broken = first_broken.or(Some(spot));
            }
        }
        tell(seen)?;
    }
    if damaged.is_none() && (!scanner.has_header || scanner.kept_left > 0) {
        let fault = match scanner.has_header {
            true => format!("the file ends, but {} more lines are due that were kept before", scanner.kept_left),
            false => String::from("the file is empty; its first line is missing"),
        };
        damaged = Some(Spot { line: end.0, offset: end.1, fault });
    }
    Ok(match (damaged, first_broken) {
        (Some(spot), _) => Verdict::Damaged(spot),
        (None, Some(spot)) => Verdict::Torn(spot),
        (None, None) => Verdict::Sound,
    })
}

#[cfg(test)]
mod tests {
    use super::super::line::{Header, encode, tests::sample};
    use super::*;

    fn manifest(kept: &[u64], next_seq: u64, more: u64) -> Vec<Vec<u8>> {
        let header = Header { manifest: 1, store: String::from("s"), kept: kept.len() as u64, next_seq };
        let seqs = kept.iter().copied().chain(next_seq..next_seq + more);
        std::iter::once(encode(&header).unwrap()).chain(seqs.map(|seq| encode(&sample(seq)).unwrap())).collect()
    }

    fn judge(bytes: &[u8]) -> Verdict {
        walk::<_, io::Error>(bytes, |_| Ok(())).unwrap()
    }

    fn line_of(verdict: &Verdict) -> (char, u64) {
        match verdict {
            Verdict::Sound => ('s', 0),
            Verdict::Torn(spot) => ('t', spot.line),
            Verdict::Damaged(spot) => ('d', spot.line),
        }
    }

    #[test]
    fn a_cut_manifest_is_torn_but_not_where_it_was_written_whole() {
        let lines = manifest(&[2, 5], 9, 3);
        let whole = lines.concat();
        assert_eq!(judge(&whole), Verdict::Sound);
        let starts: Vec<usize> = (0..=lines.len()).map(|count| lines[..count].concat().len()).collect();
        for length in 0..whole.len() {
            let line = starts.iter().rposition(|&start| start <= length).unwrap();
            let is_start = starts[line] == length;
            let expected = match line {
                // Line numbers count from 1; nothing, or not all that was kept.
                0..3 => ('d', line as u64 + 1),
                _ if is_start => ('s', 0),
                _ => ('t', line as u64 + 1),
            };
            assert_eq!(line_of(&judge(&whole[..length])), expected, "{length}");
        }
    }

    #[test]
    fn every_flipped_bit_is_damage_or_in_the_last_line() {
        let lines = manifest(&[2, 5], 9, 3);
        let whole = lines.concat();
        let last = whole.len() - lines[5].len();
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let verdict = judge(&changed);
            // The last line may be torn; a flipped line feed before it is seen by the line that hides behind.
            let expected = if bit / 8 >= last { 't' } else { 'd' };
            assert_eq!(line_of(&verdict).0, expected, "bit {bit}: {verdict:?}");
        }
    }

    #[test]
    fn lines_that_are_missing_doubled_or_swapped_are_damage() {
        let lines = manifest(&[2, 5], 9, 4);
        for line in 0..lines.len() - 1 {
            let mut missing = lines.clone();
            missing.remove(line);
            assert_eq!(line_of(&judge(&missing.concat())).0, 'd', "line {line}");
            let mut doubled = lines.clone();
            doubled.insert(line, lines[line].clone());
            assert_eq!(line_of(&judge(&doubled.concat())).0, 'd', "line {line}");
            let mut swapped = lines.clone();
            swapped.swap(line, line + 1);
            assert_eq!(line_of(&judge(&swapped.concat())).0, 'd', "line {line}");
        }
        // Nothing tells that the last line is missing; the files are only taken back a little.
        assert_eq!(judge(&lines[..lines.len() - 1].concat()), Verdict::Sound);
        let mut newer = manifest(&[], 0, 2);
        newer[0] = encode(&Header { manifest: 2, store: String::from("s"), kept: 0, next_seq: 0 }).unwrap();
        let verdict = judge(&newer.concat());
        assert!(matches!(&verdict, Verdict::Damaged(spot) if spot.fault.contains("format 2")), "{verdict:?}");
    }

    #[test]
    fn garbage_of_any_length_is_told_in_bounded_memory() {
        let mut bytes = manifest(&[], 0, 2).concat();
        bytes.extend(std::iter::repeat_n(b'x', 3 * LINE_SIZE_MAX));
        assert_eq!(line_of(&judge(&bytes)), ('t', 4));
        bytes.push(b'\n');
        bytes.extend(encode(&sample(2)).unwrap());
        let mut numbers = Vec::new();
        let verdict = walk::<_, io::Error>(&bytes[..], |seen| {
            numbers.push((seen.number, seen.line.is_ok()));
            Ok(())
        });
        assert_eq!(line_of(&verdict.unwrap()), ('d', 4));
        assert_eq!(numbers, [(1, true), (2, true), (3, true), (4, false), (5, true)]);
    }
}
