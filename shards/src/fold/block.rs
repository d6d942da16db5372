//! Some events on their way to their rows: slots first, then rows, then the kernels. How each step is done is not here.

/// Events folded at a time: what they touch stays in the first-level cache from one step to the next.
pub const BLOCK_EVENTS: usize = 256;

/// Up to [`BLOCK_EVENTS`] events on their way to their rows.
#[derive(Debug)]
pub struct Block {
    /// Row of the batch.
    events: [u32; BLOCK_EVENTS],
    /// Index of the pane in its ring.
    panes: [u32; BLOCK_EVENTS],
    /// Slot of the group, of the events below `known`.
    slots: [u32; BLOCK_EVENTS],
    /// Row of accumulators, of the events below `placed`; valid while no pane is recycled, and no two rows overlap but
    /// by being the same. Behind them lies null, which ends the last run.
    rows: [*mut u64; BLOCK_EVENTS + 1],
    len: usize,
    known: usize,
    placed: usize,
    /// Events below have their values in their rows too: kernels go from here to `placed`.
    folded: usize,
    /// One past the highest event.
    events_end: usize,
    /// Whether the events are one run of the batch's rows, all of one pane.
    is_run: bool,
}

/// Rows of a batch.
#[derive(Debug)]
pub enum Events<'a> {
    /// One after the other.
    Run(std::ops::Range<usize>),
    /// Some of them.
    List(&'a [u32]),
}

impl Default for Block {
    fn default() -> Block {
        Block {
            events: [0; BLOCK_EVENTS],
            panes: [0; BLOCK_EVENTS],
            slots: [0; BLOCK_EVENTS],
            rows: [std::ptr::null_mut(); BLOCK_EVENTS + 1],
            len: 0,
            known: 0,
            placed: 0,
            folded: 0,
            events_end: 0,
            is_run: false,
        }
    }
}

impl Block {
    /// Forgets the events.
    pub fn clear(&mut self) {
        (self.len, self.known, self.placed, self.folded, self.events_end) = (0, 0, 0, 0, 0);
        self.is_run = false;
    }

    /// Replaces the events by a run of them that belong to one pane.
    pub fn fill(&mut self, events: std::ops::Range<usize>, pane: u32) {
        self.clear();
        (self.len, self.events_end, self.is_run) = (events.len(), events.end, true);
        for (place, event) in self.events[..events.len()].iter_mut().zip(events) {
            *place = event as u32;
        }
        self.panes[..self.len].fill(pane);
    }

    /// Adds an event.
    #[inline(always)]
    pub fn push(&mut self, event: usize, pane: u32) {
        self.events[self.len] = event as u32;
        self.panes[self.len] = pane;
        self.len += 1;
        self.events_end = self.events_end.max(event + 1);
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Row of the batch of event `index`.
    pub fn event(&self, index: usize) -> u32 {
        self.events[index]
    }

    /// Pane of event `index`.
    pub fn pane(&self, index: usize) -> u32 {
        self.panes[index]
    }

    /// Slot of event `index`, which has one.
    pub fn slot(&self, index: usize) -> u32 {
        self.slots[index]
    }

    /// Row of event `index`, which has one.
    pub fn row(&self, index: usize) -> *mut u64 {
        self.rows[index]
    }

    /// The events without a slot, and where their slots go.
    pub fn unknown(&mut self) -> (Events<'_>, &mut [u32]) {
        let (list, slots) = (&self.events[self.known..self.len], &mut self.slots[self.known..self.len]);
        let events =
            if self.is_run { Events::Run(self.events_end - list.len()..self.events_end) } else { Events::List(list) };
        (events, slots)
    }

    /// Notes that the next `count` events have got their slots. Returns the first without one.
    pub fn note_known(&mut self, count: usize) -> Option<usize> {
        self.known += count;
        (self.known < self.len).then_some(self.known)
    }

    /// Gives the first event without a slot its slot.
    pub fn know(&mut self, slot: u32) {
        self.slots[self.known] = slot;
        self.known += 1;
    }

    /// The next events that have slots but no rows, as many as belong to one pane: pane, slots, and where rows go.
    pub fn unplaced(&mut self) -> Option<(u32, &[u32], &mut [*mut u64])> {
        let panes = &self.panes[self.placed..self.known];
        let pane = *panes.first()?;
        let other = if self.is_run { None } else { panes.iter().position(|&other| other != pane) };
        let count = other.unwrap_or(panes.len());
        let range = self.placed..self.placed + count;
        Some((pane, &self.slots[range.clone()], &mut self.rows[range]))
    }

    /// Notes that the next `count` events have got their rows.
    ///
    /// # Safety
    ///
    /// Each row is a whole one of the layout whose states the block is folded into, and stays valid until the block is
    /// cleared; meanwhile rows are reached through the block alone.
    pub unsafe fn note_placed(&mut self, count: usize) {
        self.placed += count;
        assert!(self.placed <= self.known);
        self.rows[self.placed] = std::ptr::null_mut();
    }

    /// Slot of the next event without a row.
    pub fn next_unplaced(&self) -> Option<u32> {
        (self.placed < self.known).then(|| self.slots[self.placed])
    }

    /// Puts the next event without a row into the row of `slot`, where it belongs after all.
    ///
    /// # Safety
    ///
    /// As for [`Block::note_placed`].
    pub unsafe fn place(&mut self, slot: u32, row: *mut u64) {
        self.slots[self.placed] = slot;
        self.rows[self.placed] = row;
        // SAFETY: the caller's promise.
        unsafe { self.note_placed(1) };
    }

    /// The events that have rows but are not folded.
    pub fn pending(&self) -> std::ops::Range<usize> {
        self.folded..self.placed
    }

    /// The pending events with their rows.
    pub fn pending_rows(&self) -> impl Iterator<Item = (&u32, &*mut u64)> {
        self.events[self.pending()].iter().zip(&self.rows[self.pending()])
    }

    /// Notes that all columns of the pending events have been folded.
    pub fn note_folded(&mut self) {
        self.folded = self.placed;
    }

    /// The pending events for a kernel over a column of `values` values.
    pub(super) fn runs(&self, values: usize) -> Runs<'_> {
        assert!(self.events_end <= values);
        let (events, rows) = (&self.events[..self.placed], &self.rows[..=self.placed]);
        assert!(rows[self.placed].is_null());
        Runs { events, rows, at: self.folded }
    }
}

/// Pending events as runs: events one after the other that go to the same row, which is read and written once for all
/// of them.
#[derive(Clone, Copy)]
pub(super) struct Runs<'a> {
    events: &'a [u32],
    /// One more than events; the last is null.
    rows: &'a [*mut u64],
    pub at: usize,
}

impl Runs<'_> {
    /// The row of the run that begins here, unless this is the end.
    #[inline(always)]
    pub fn row(&self) -> Option<*mut u64> {
        // SAFETY: `at` is at most the number of events, and `rows` is longer.
        let row = unsafe { *self.rows.get_unchecked(self.at) };
        (!row.is_null()).then_some(row)
    }

    /// The next so many events and their rows, if there are so many.
    #[inline(always)]
    pub fn next<const COUNT: usize>(&self) -> Option<(&[u32; COUNT], &[*mut u64; COUNT])> {
        Some((self.events.get(self.at..)?.first_chunk()?, self.rows.get(self.at..)?.first_chunk()?))
    }

    /// The event here, whose run is that of `row`, which is not null; then moves on. `None` at the end of the run.
    #[inline(always)]
    pub fn next_of(&mut self, row: *mut u64) -> Option<usize> {
        // SAFETY: as above; and where the row is not null there is an event.
        unsafe {
            if *self.rows.get_unchecked(self.at) != row {
                return None;
            }
            let event = *self.events.get_unchecked(self.at);
            self.at += 1;
            Some(event as usize)
        }
    }
}

/// Asks for the cache lines of a row or a place in a table.
#[inline(always)]
pub fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that shows, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
