//! The supply of segments: keeps spares ready, reuses or deletes what is no longer needed, one step at a time.
//!
//! Segments appear and vanish strictly in the order of their numbers, so that the numbers on disk never have a hole
//! that a crash could explain. What is written into a segment is not here.

use std::collections::VecDeque;

use super::io::{DiskCompletion, DiskRequest};
use super::lsn::{Lsn, SegmentId};
use super::retention::removable_count;
use super::segment::{SegmentSpan, Spare};

/// Sizes and numbers of segments to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupplyConfig {
    /// Size of a segment in the long run.
    pub segment_size: u64,
    /// Size of a session's first segment; each further one doubles up to `segment_size`, so that a small job does
    /// not begin by writing much more than its data.
    pub segment_size_first: u64,
    /// Segments kept ready.
    pub spares_kept: usize,
    /// How long to wait after a failure before asking again.
    pub retry_after_ns: u64,
}

/// Segments cannot be had at present; those at hand go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Which one is missing.
    pub segment: SegmentId,
    /// Why (the last failure).
    pub errno: i32,
    /// When the first of the failures in a row was noticed.
    pub since_ns: u64,
    /// How many there were in a row.
    pub attempts: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Supply {
    config: SupplyConfig,
    spares: VecDeque<Spare>,
    spans: VecDeque<SegmentSpan>,
    next: SegmentId,
    size_next: u64,
    floor: Lsn,
    pending: Option<DiskRequest>,
    failure: Option<Stall>,
    failed_unseen: bool,
    retry_at_ns: u64,
    /// A segment has been made although one in the way could have gone: the next step is that one's, or a log that never
    /// has a spare would never delete nor reuse anything.
    has_passed_over: bool,
}

impl Supply {
    /// Starts with what recovery found. From the first spare on that is smaller than `size_min`, and so might not hold a
    /// block, spares are made anew under the same names.
    pub fn new(
        config: SupplyConfig,
        spans: Vec<SegmentSpan>,
        mut spares: Vec<Spare>,
        next: SegmentId,
        size_min: u64,
    ) -> Supply {
        let usable = spares.iter().position(|spare| spare.size < size_min).unwrap_or(spares.len());
        let next = spares.get(usable).map_or(next, |spare| spare.segment);
        spares.truncate(usable);
        let mut spans = VecDeque::from(spans);
        spans.reserve(1024);
        Supply {
            size_next: config.segment_size_first.min(config.segment_size),
            config,
            spares: spares.into(),
            spans,
            next,
            floor: Lsn::ZERO,
            pending: None,
            failure: None,
            failed_unseen: false,
            retry_at_ns: 0,
            has_passed_over: false,
        }
    }

    /// Spares at hand, the next one to be used first.
    pub fn spares(&self) -> impl Iterator<Item = &Spare> {
        self.spares.iter()
    }

    /// Segments in use, oldest first.
    pub fn spans(&self) -> impl Iterator<Item = &SegmentSpan> {
        self.spans.iter()
    }

    /// Takes a spare into use, with its first entry at `first_lsn`.
    pub fn take(&mut self, first_lsn: Lsn) -> Option<Spare> {
        let spare = self.spares.pop_front()?;
        self.spans.push_back(SegmentSpan { segment: spare.segment, size: spare.size, first_lsn, end_lsn: first_lsn });
        Some(spare)
    }

    /// The newest segment in use now ends at `end_lsn`.
    pub fn extend(&mut self, end_lsn: Lsn) {
        let newest = self.spans.back_mut().expect("a block was begun, so there is a segment");
        assert!(newest.end_lsn <= end_lsn);
        newest.end_lsn = end_lsn;
    }

    /// Everything below `floor` is safe elsewhere.
    pub fn release(&mut self, floor: Lsn) {
        self.floor = self.floor.max(floor);
    }

    /// Why no segment can be had, if none is left and the last attempt failed.
    pub fn stall(&self) -> Option<&Stall> {
        self.failure.as_ref().filter(|_| self.spares.is_empty())
    }

    /// Whether a request is under way.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// When `poll` wants to be called again although nothing completes.
    pub fn due_ns(&self) -> Option<u64> {
        (self.pending.is_none() && self.failure.is_some()).then_some(self.retry_at_ns)
    }

    /// Asks for the next step, at most one at a time.
    pub fn poll(&mut self, now_ns: u64, durable: Lsn, out: &mut Vec<DiskRequest>) {
        if std::mem::take(&mut self.failed_unseen) {
            self.retry_at_ns = now_ns.saturating_add(self.config.retry_after_ns);
            if let Some(failure) = self.failure.as_mut().filter(|failure| failure.attempts == 1) {
                failure.since_ns = now_ns;
            }
        }
        if self.pending.is_some() || (self.failure.is_some() && now_ns < self.retry_at_ns) {
            return;
        }
        let removable = removable_count(&self.spans, self.floor.min(durable), durable);
        // Before one that is to go has gone, none behind it can be reused; but a log without a spare comes first, once, unless
        // none could be made: what goes makes room.
        let is_in_the_way = removable > 0 && self.front_is_odd();
        let wants_spare = self.spares.len() < self.config.spares_kept;
        let has_no_room = self.failure.is_some_and(|failure| failure.segment == self.next);
        let comes_first = self.spares.is_empty() && !has_no_room && !self.has_passed_over;
        self.pending = if wants_spare && (comes_first || !is_in_the_way) {
            self.has_passed_over = is_in_the_way;
            let oldest = self.spans.front().filter(|span| removable > 0 && span.size == self.config.segment_size);
            Some(match oldest {
                Some(oldest) => DiskRequest::Recycle { from: oldest.segment, segment: self.next, size: oldest.size },
                None => DiskRequest::Prepare { segment: self.next, size: self.size_next },
            })
        } else if removable > self.config.spares_kept || is_in_the_way {
            self.has_passed_over = false;
            self.spans.front().map(|oldest| DiskRequest::Remove { segment: oldest.segment })
        } else {
            None
        };
        out.extend(self.pending);
    }

    /// Takes the answer to the request under way.
    pub fn complete(&mut self, completion: &DiskCompletion) {
        let pending = self.pending.take().expect("one completion for each request");
        match (pending, *completion) {
            (DiskRequest::Prepare { segment, size }, DiskCompletion::Prepared { segment: done, salt, size: got }) => {
                assert_eq!((segment, size), (done, got));
                self.size_next = self.config.segment_size.min(size.saturating_mul(2));
                self.add(Spare { segment, salt, size });
            }
            (
                DiskRequest::Recycle { segment, size, .. },
                DiskCompletion::Prepared { segment: done, salt, size: got },
            ) => {
                assert_eq!((segment, size), (done, got));
                self.spans.pop_front();
                self.add(Spare { segment, salt, size });
            }
            (DiskRequest::Prepare { segment, .. }, DiskCompletion::PrepareFailed { errno, .. }) => {
                self.fail(segment, errno);
            }
            (DiskRequest::Recycle { segment, .. }, DiskCompletion::PrepareFailed { errno, source_gone, .. }) => {
                if source_gone {
                    self.spans.pop_front();
                }
                self.fail(segment, errno);
            }
            (DiskRequest::Remove { segment }, DiskCompletion::Removed { result, .. }) => match result {
                Ok(()) => {
                    self.spans.pop_front();
                    self.failure = None;
                }
                Err(errno) => self.fail(segment, errno),
            },
            (request, completion) => panic!("{completion:?} does not answer {request:?}"),
        }
    }

    /// A segment that will not be recycled, since it is smaller than new ones.
    fn front_is_odd(&self) -> bool {
        self.spans.front().is_some_and(|oldest| oldest.size != self.config.segment_size)
    }

    fn add(&mut self, spare: Spare) {
        assert_eq!(spare.segment, self.next);
        self.next = self.next.next();
        self.spares.push_back(spare);
        self.failure = None;
    }

    fn fail(&mut self, segment: SegmentId, errno: i32) {
        let (since_ns, attempts) = self.failure.map_or((0, 0), |failure| (failure.since_ns, failure.attempts));
        self.failure = Some(Stall { segment, errno, since_ns, attempts: attempts + 1 });
        self.failed_unseen = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: u64 = 4096;
    const LARGE: u64 = 2 * SMALL;

    /// A log whose segments have these sizes, each with one entry, of which all but the last are safe elsewhere.
    fn supply(sizes: &[u64], spares: usize) -> Supply {
        let config =
            SupplyConfig { segment_size: LARGE, segment_size_first: SMALL, spares_kept: 2, retry_after_ns: 10 };
        let number = |at: usize| SegmentId(1 + at as u64);
        let span = |(at, &size): (usize, &u64)| {
            let (first_lsn, end_lsn) = (Lsn(at as u64), Lsn(at as u64 + 1));
            SegmentSpan { segment: number(at), size, first_lsn, end_lsn }
        };
        let spare = |at| Spare { segment: number(sizes.len() + at), salt: 0, size: LARGE };
        let spans = sizes.iter().enumerate().map(span).collect();
        let next = number(sizes.len() + spares);
        let mut supply = Supply::new(config, spans, (0..spares).map(spare).collect(), next, SMALL);
        supply.release(Lsn(sizes.len() as u64));
        supply
    }

    fn asked(supply: &mut Supply, now_ns: u64) -> Option<DiskRequest> {
        let mut out = Vec::new();
        supply.poll(now_ns, Lsn(u64::MAX), &mut out);
        out.pop()
    }

    #[test]
    fn what_is_in_the_way_goes_before_a_second_spare_is_made() {
        let remove = DiskRequest::Remove { segment: SegmentId(1) };
        let recycle = |next| DiskRequest::Recycle { from: SegmentId(1), segment: SegmentId(next), size: LARGE };
        let prepare = DiskRequest::Prepare { segment: SegmentId(4), size: SMALL };
        assert_eq!(asked(&mut supply(&[SMALL, LARGE, LARGE], 2), 0), Some(remove));
        assert_eq!(asked(&mut supply(&[SMALL, LARGE, LARGE], 1), 0), Some(remove));
        assert_eq!(
            asked(&mut supply(&[SMALL, LARGE, LARGE], 0), 0),
            Some(prepare),
            "without a spare the log would wait"
        );
        assert_eq!(asked(&mut supply(&[LARGE, LARGE], 1), 0), Some(recycle(4)));
        assert_eq!(asked(&mut supply(&[LARGE, LARGE], 2), 0), None);
    }

    #[test]
    fn a_log_that_never_has_a_spare_reuses_its_segments_all_the_same() {
        let config =
            SupplyConfig { segment_size: 4 * SMALL, segment_size_first: SMALL, spares_kept: 2, retry_after_ns: 10 };
        let mut supply = Supply::new(config, Vec::new(), Vec::new(), SegmentId(1), SMALL);
        let mut recycled = 0;
        for lsn in 0..100 {
            let answer = match asked(&mut supply, 0) {
                Some(DiskRequest::Prepare { segment, size }) => DiskCompletion::Prepared { segment, salt: 0, size },
                Some(DiskRequest::Recycle { segment, size, .. }) => {
                    recycled += 1;
                    DiskCompletion::Prepared { segment, salt: 0, size }
                }
                Some(DiskRequest::Remove { segment }) => DiskCompletion::Removed { segment, result: Ok(()) },
                other => panic!("{other:?}"),
            };
            supply.complete(&answer);
            // Full as soon as it is there, and safe elsewhere as soon as it is full.
            if supply.take(Lsn(lsn)).is_some() {
                supply.extend(Lsn(lsn + 1));
            }
            supply.release(Lsn(lsn));
            let in_use = supply.spans().count();
            assert!(in_use <= 4, "{in_use} segments at step {lsn}");
        }
        assert!(recycled > 80, "{recycled} of 100");
    }

    #[test]
    fn what_is_in_the_way_makes_room_where_no_segment_can_be_made() {
        let mut supply = supply(&[SMALL, LARGE, LARGE], 0);
        let next = SegmentId(4);
        assert_eq!(asked(&mut supply, 0), Some(DiskRequest::Prepare { segment: next, size: SMALL }));
        supply.complete(&DiskCompletion::PrepareFailed { segment: next, errno: 28, source_gone: false });
        assert_eq!(asked(&mut supply, 0), None, "not at once");
        let oldest = SegmentId(1);
        assert_eq!(asked(&mut supply, 10), Some(DiskRequest::Remove { segment: oldest }));
        supply.complete(&DiskCompletion::Removed { segment: oldest, result: Err(5) });
        assert_eq!(asked(&mut supply, 10), None);
        assert_eq!(asked(&mut supply, 20), Some(DiskRequest::Prepare { segment: next, size: SMALL }), "in turn");
    }
}
