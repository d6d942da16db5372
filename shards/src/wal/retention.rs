//! Which segments are no longer needed: a pure function of what each holds. Doing something about it is
//! [`super::supply`]'s.

use super::lsn::Lsn;
use super::segment::SegmentSpan;

/// How many of the oldest segments may go when everything below `floor` is safe elsewhere.
///
/// A segment stays as long as its successor's first entry is not durable: until then it is the only witness of where
/// the log ends. So the newest one always stays.
pub fn removable_count<'a>(spans: impl IntoIterator<Item = &'a SegmentSpan>, floor: Lsn, durable: Lsn) -> usize {
    let mut spans = spans.into_iter().peekable();
    let mut count = 0;
    while let (Some(span), Some(next)) = (spans.next(), spans.peek()) {
        if span.end_lsn > floor || next.first_lsn >= durable {
            break;
        }
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::lsn::SegmentId;

    #[test]
    fn exactly_what_lies_below_the_floor_may_go() {
        let spans: Vec<SegmentSpan> = (0..4_u64)
            .map(|index| SegmentSpan {
                segment: SegmentId(index + 1),
                size: 8192,
                first_lsn: Lsn(index * 10),
                end_lsn: Lsn(index * 10 + 10),
            })
            .collect();
        for floor in 0..=40 {
            for durable in floor..=40 {
                let naive = (0..4_u64)
                    .take_while(|index| index * 10 + 10 <= floor && *index < 3 && index * 10 + 10 < durable)
                    .count();
                assert_eq!(removable_count(&spans, Lsn(floor), Lsn(durable)), naive, "{floor} {durable}");
            }
        }
        assert_eq!(removable_count(&[], Lsn(9), Lsn(9)), 0);
    }
}
