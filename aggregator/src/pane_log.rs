//! What the coordinator writes to its log and reads back: merged closed panes, and the word that a pull is complete.
//!
//! A pane is written as self-contained pieces, so that the front of the log may go without harm to the rest. A pull
//! counts only once its [`Pulled`] is durable; the pieces before it are then all there. Blocks and files are not here.

use crate::coordinator::Coordinator;
use crate::partial::{OTHER_SLOT, Partial, PartialError};
use crate::time::{EventTime, PaneId, WindowSpec};
use crate::view::View;
use rkyv::rancor;
use rkyv::util::AlignedVec;

/// Rows of one piece of a pane.
pub const PIECE_ROWS: usize = 4096;

/// More windows and rows than any job gives out.
const COUNT_MAX: u64 = 1 << 60;

/// The word that every pane of every view below a time has been written.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Pulled {
    /// The time, in microseconds.
    pub time: i64,
    /// Pieces of panes that belong to this pull: the last ones before it.
    pub pieces: u64,
    /// One per view.
    pub views: Vec<PulledView>,
}

/// How far the results of a view have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct PulledView {
    /// The first window that may have to be given out again; `i64::MIN` for all there ever were. Panes that only
    /// earlier windows hold may be gone.
    pub window_floor: i64,
    /// Windows with rows below it.
    pub windows: u64,
    /// Rows in them.
    pub rows: u64,
}

impl Pulled {
    /// Archives it into `buffer`, whose memory is used again.
    pub fn archive(&self, mut buffer: AlignedVec) -> Result<AlignedVec, PartialError> {
        buffer.clear();
        rkyv::api::high::to_bytes_in::<_, rancor::Error>(self, buffer).map_err(|e| PartialError::Archive(e.to_string()))
    }

    /// Reads an archive after checking it.
    pub fn read(bytes: &[u8]) -> Result<Pulled, PartialError> {
        rkyv::from_bytes::<Pulled, rancor::Error>(bytes).map_err(|e| PartialError::Archive(e.to_string()))
    }
}

impl PulledView {
    /// Windows that end here or before may be gone: an output that lacks one of them cannot be completed.
    pub fn given_through(&self, window: &WindowSpec) -> EventTime {
        end_before(window, self.window_floor)
    }

    /// Checks that windows can be counted on from here.
    fn verify(&self, window: &WindowSpec) -> Result<(), PartialError> {
        // One window of slack for a floor behind the last window there is.
        let first = window.first_window_of(window.pane_of(EventTime::EARLIEST));
        let last = window.last_window_of(window.pane_of(EventTime::LATEST)) + 1;
        if self.window_floor != i64::MIN && !(first..=last).contains(&self.window_floor) {
            return Err(PartialError::Shape("windows of the years 1 to 9999"));
        }
        if self.windows > COUNT_MAX || self.rows > COUNT_MAX {
            return Err(PartialError::Shape("counts that windows could have made"));
        }
        Ok(())
    }
}

/// Something to be written next.
#[derive(Debug)]
pub enum PaneEntry {
    /// A piece of a pane: an archived [`Partial`].
    Piece {
        /// Index of the view.
        view: usize,
        /// The pane.
        pane: PaneId,
        /// The archive.
        bytes: AlignedVec,
    },
    /// The pull is complete: an archived [`Pulled`].
    Pulled {
        /// Every pane below it is written.
        time: EventTime,
        /// Per view, the first pane that is still needed.
        needed: Vec<PaneId>,
        /// The archive.
        bytes: AlignedVec,
    },
}

/// What is written next of a pull that all shards have answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogCursor {
    /// Panes below this time are written.
    logged: EventTime,
    view: usize,
    /// The pane that is being written, and its next row.
    pane: PaneId,
    row: usize,
    pieces: u64,
}

impl LogCursor {
    const fn at(logged: EventTime) -> LogCursor {
        LogCursor { logged, view: 0, pane: PaneId(i64::MIN), row: 0, pieces: 0 }
    }

    /// Whether every pane below `time` is written.
    pub(crate) fn has_logged(&self, time: EventTime) -> bool {
        self.logged >= time
    }
}

impl Coordinator {
    /// Has every pull written to a log before its windows are given out. Call before the first pull.
    pub fn keep_log(&mut self) {
        self.log = Some(LogCursor::at(EventTime::MIN));
        self.views.iter_mut().for_each(|view| view.keeps_recent = true);
    }

    /// The next entry for the log; `None` when all of the last pull is written, or a pull is under way. `committed`
    /// tells per view up to which time its windows are safe in every output, so that they need not be rebuilt.
    pub fn next_entry(
        &mut self,
        committed: impl Fn(usize) -> EventTime,
        buffer: AlignedVec,
    ) -> Result<Option<PaneEntry>, PartialError> {
        let Some(cursor) = self.log else { return Ok(None) };
        if self.is_pulling() || cursor.has_logged(self.pulled) {
            return Ok(None);
        }
        let mut at = cursor;
        while let Some(view) = self.views.get(at.view) {
            let window = view.plan().spec.window;
            // Panes of earlier pulls that no window has taken yet are in the log already.
            let from = at.pane.max(window.open_from(cursor.logged));
            let limit = window.open_from(self.pulled);
            let Some((next, pane)) = view.write_piece((from, at.row), limit, at.view, &mut self.partial) else {
                at = LogCursor { view: at.view + 1, pane: PaneId(i64::MIN), row: 0, ..at };
                continue;
            };
            let entry = PaneEntry::Piece { view: at.view, pane, bytes: self.partial.archive(buffer)? };
            self.log = Some(LogCursor { pane: next.0, row: next.1, pieces: at.pieces + 1, ..at });
            return Ok(Some(entry));
        }
        let views: Vec<PulledView> =
            self.views.iter_mut().enumerate().map(|(index, view)| view.settle(committed(index))).collect();
        let windows = self.views.iter().zip(&views);
        let needed = windows.map(|(view, word)| first_pane(&view.plan().spec.window, word.window_floor)).collect();
        let pulled = Pulled { time: self.pulled.0, pieces: at.pieces, views };
        let entry = PaneEntry::Pulled { time: self.pulled, needed, bytes: pulled.archive(buffer)? };
        self.log = Some(LogCursor::at(self.pulled));
        Ok(Some(entry))
    }

    /// Takes back a piece from the log and returns its view and pane. `last` is the last pull that the log holds, see
    /// [`Coordinator::resume`].
    pub fn restore(&mut self, bytes: &[u8], last: &Pulled) -> Result<(usize, PaneId), PartialError> {
        let views = &self.views;
        let stride = |view: u32| views.get(view as usize).map(|view| view.plan().layout.stride);
        self.partial.read(bytes, stride)?;
        let index = self.partial.view as usize;
        self.partial.verify(self.views[index].plan())?;
        let word = last.views.get(index).copied().ok_or(PartialError::Shape("as many views as before"))?;
        self.views[index].restore(&self.partial, word.window_floor)?;
        Ok((index, PaneId(self.partial.pane)))
    }

    /// Windows of a view that end here or before are not given out any more, or never again.
    pub fn given_through(&self, view: usize) -> EventTime {
        end_before(&self.views[view].plan().spec.window, self.views[view].window_next)
    }

    /// Goes on behind `last`, the last pull in the log, after all that belongs to it has been restored: windows that
    /// may not be in every output are given out again by the next emission.
    pub fn resume(&mut self, last: &Pulled) -> Result<(), PartialError> {
        if last.views.len() != self.views.len() {
            return Err(PartialError::Shape("as many views as before"));
        }
        for (view, word) in self.views.iter().zip(&last.views) {
            word.verify(&view.plan().spec.window)?;
        }
        for (view, word) in self.views.iter_mut().zip(&last.views) {
            (view.window_next, view.window_floor) = (word.window_floor, word.window_floor);
            (view.windows_out, view.rows_out) = (word.windows, word.rows);
        }
        let time = EventTime(last.time);
        self.pulled = time;
        self.shards.iter_mut().for_each(|link| link.answered = link.answered.max(time));
        self.log = Some(LogCursor::at(time));
        Ok(())
    }
}

impl View {
    /// Copies rows of the oldest collected pane from `from` on and below `limit` into `partial`. Returns where the
    /// next piece begins, and the pane.
    fn write_piece(
        &self,
        (from, row): (PaneId, usize),
        limit: PaneId,
        index: usize,
        partial: &mut Partial,
    ) -> Option<((PaneId, usize), PaneId)> {
        if from >= limit {
            return None;
        }
        let (&id, pane) = self.collecting.range(from..limit).next()?;
        let start = if id == from { row } else { 0 };
        let end = pane.slots.len().min(start + PIECE_ROWS);
        partial.clear();
        partial.view = index as u32;
        partial.pane = id.0;
        let layout = &self.plan().layout;
        for &slot in &pane.slots[start..end] {
            if slot != OTHER_SLOT {
                partial.announce(slot, self.groups.key(slot));
            }
        }
        if pane.rows.sides.is_empty() && !pane.is_by_slot {
            partial.slots.extend_from_slice(&pane.slots[start..end]);
            partial.words.extend_from_slice(&pane.rows.words[start * layout.stride..end * layout.stride]);
        } else {
            for index in start..end {
                let row = pane.position(index);
                let words = pane.rows.row(layout, row);
                partial.push_row(layout, pane.slots[index], words, &pane.rows.sides, row as u32);
            }
        }
        let next = if end == pane.slots.len() { (PaneId(id.0 + 1), 0) } else { (id, end) };
        Some((next, id))
    }

    /// The first window that may have to be given out again when all that end at or before `committed` are safe, and
    /// what lies before it.
    fn settle(&mut self, committed: EventTime) -> PulledView {
        let window = self.plan().spec.window;
        let safe = match committed {
            // A frontier that lags behind the first events, by the disorder that is allowed.
            time if time < EventTime::EARLIEST => i64::MIN,
            EventTime::MAX => i64::MAX,
            time => window.first_window_of(window.open_from(time)),
        };
        // What was once given up is gone, whatever is said later.
        let window_floor = self.window_next.min(safe).max(self.window_floor);
        self.window_floor = window_floor;
        while self.recent.front().is_some_and(|&(number, _)| number < window_floor) {
            self.recent.pop_front();
        }
        let rows: u64 = self.recent.iter().map(|(_, rows)| rows).sum();
        PulledView { window_floor, windows: self.windows_out - self.recent.len() as u64, rows: self.rows_out - rows }
    }

    /// Takes back a piece of a pane, unless no window from `window_floor` on holds it.
    fn restore(&mut self, partial: &Partial, window_floor: i64) -> Result<(), PartialError> {
        let id = PaneId(partial.pane);
        if id < first_pane(&self.plan().spec.window, window_floor) {
            return Ok(());
        }
        let mut announced = partial.announcements();
        let mut pane = self.collecting.remove(&id).unwrap_or_default();
        for (row, &slot) in partial.slots.iter().enumerate() {
            let ours = match slot {
                OTHER_SLOT => OTHER_SLOT,
                slot => match announced.next() {
                    Some((announced, key)) if announced == slot => self.groups.intern(key),
                    _ => return Err(PartialError::Shape("a key for every row")),
                },
            };
            self.groups.hold(ours);
            pane.slots.push(ours);
            let layout = &self.plan().layout;
            let source = &partial.words[row * layout.stride..][..layout.stride];
            pane.rows.push_row(layout, source, &partial.sides, row as u32);
        }
        self.collecting.insert(id, pane);
        Ok(())
    }
}

/// End of the window before number `next`; the earliest time if there is none.
fn end_before(window: &WindowSpec, next: i64) -> EventTime {
    if next == i64::MIN { EventTime::MIN } else { window.pane_start(window.window_end_pane(next - 1)) }
}

/// The first pane that window `floor` or a later one holds.
fn first_pane(window: &WindowSpec, floor: i64) -> PaneId {
    PaneId(floor.saturating_mul(window.panes_per_slide()))
}
