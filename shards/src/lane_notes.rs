//! What a shard remembers of the batches it has seen lately, so that their sources know where to go on after a restart.
//!
//! A note is kept until every batch that was dealt before it is known to be durable in all shards, and the last one of
//! each lane for good: a lane goes on behind the note of its longest durable prefix. Which batches were seen at all is in
//! [`crate::ledger`]. A note that is missing costs reading its lane again, never an event.

use crate::batch::wire::{LOCAL_PRODUCER, Stamp};
use crate::ledger::LaneKey;
use corefold_aggregator::time::EventTime;
use std::collections::{BTreeMap, VecDeque};

/// One batch, or one part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneNote {
    /// Its stamp.
    pub stamp: Stamp,
    /// Rows in it.
    pub rows: u64,
    /// Highest event time; `None` without rows.
    pub time_max: Option<EventTime>,
}

/// The notes of one shard, by lane part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneNotes {
    lanes: BTreeMap<LaneKey, VecDeque<LaneNote>>,
}

impl LaneNotes {
    /// Notes a batch.
    pub fn add(&mut self, note: LaneNote) {
        let notes = self.lanes.entry(LaneKey::of(&note.stamp)).or_default();
        // Lanes of producers elsewhere come in order and without gaps: the last one tells all.
        if note.stamp.producer != LOCAL_PRODUCER {
            let last = notes.pop_back().filter(|last| last.stamp.sequence > note.stamp.sequence);
            return notes.push_back(last.unwrap_or(note));
        }
        notes.push_back(note);
    }

    /// Forgets what is not needed once panes below `release` are safe at the coordinator.
    ///
    /// That time is at most what every shard has published, so all that was dealt with a lower frontier than that, and
    /// all before it, is durable everywhere.
    pub fn release(&mut self, release: EventTime) {
        for notes in self.lanes.values_mut() {
            while notes.len() > 1 && notes[1].stamp.frontier < release {
                notes.pop_front();
            }
        }
    }

    /// Forgets what a restart has made needless: `start_of` tells the first batch of a lane of the engine's own inputs
    /// that is not durable.
    ///
    /// Later batches that are durable stay until the next restart, since those before them are dealt only now.
    pub fn settle(&mut self, start_of: impl Fn(u32) -> u64) {
        for (key, notes) in self.lanes.iter_mut().filter(|(key, _)| key.producer == LOCAL_PRODUCER) {
            let start = start_of(key.lane);
            notes.make_contiguous().sort_unstable_by_key(|note| note.stamp.sequence);
            let needless = notes.partition_point(|note| note.stamp.sequence < start).saturating_sub(1);
            notes.drain(..needless);
            for note in notes.iter_mut().filter(|note| note.stamp.sequence >= start) {
                note.stamp.frontier = EventTime::MAX;
            }
        }
    }

    /// All notes.
    pub fn iter(&self) -> impl Iterator<Item = &LaneNote> {
        self.lanes.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(sequence: u64, frontier: i64) -> LaneNote {
        let stamp = Stamp { frontier: EventTime(frontier), ..Stamp::of_lane(0, 3, sequence) };
        LaneNote { stamp, rows: 1, time_max: None }
    }

    fn sequences(notes: &LaneNotes) -> Vec<u64> {
        notes.iter().map(|note| note.stamp.sequence).collect()
    }

    #[test]
    fn the_last_note_below_the_release_stays_and_all_after_it() {
        let mut notes = LaneNotes::default();
        (0..6).for_each(|sequence| notes.add(note(sequence, sequence as i64 * 10)));
        notes.release(EventTime(30));
        assert_eq!(sequences(&notes), [2, 3, 4, 5]);
        notes.release(EventTime(1000));
        assert_eq!(sequences(&notes), [5]);
    }

    #[test]
    fn of_producers_elsewhere_the_last_note_is_enough() {
        let mut notes = LaneNotes::default();
        for sequence in [0, 1, 3, 2] {
            let stamp = Stamp::of_lane(77, 3, sequence);
            notes.add(LaneNote { stamp, rows: 1, time_max: None });
        }
        assert_eq!(sequences(&notes), [3]);
        notes.settle(|_| 9);
        assert_eq!(sequences(&notes), [3]);
    }

    #[test]
    fn what_came_before_its_turn_stays_until_a_restart_finds_the_gap_closed() {
        let mut notes = LaneNotes::default();
        [0, 1, 2, 5, 4].into_iter().for_each(|sequence| notes.add(note(sequence, 0)));
        notes.settle(|_| 3);
        assert_eq!(sequences(&notes), [2, 4, 5]);
        notes.add(note(3, 7));
        notes.release(EventTime(8));
        assert_eq!(sequences(&notes), [2, 4, 5, 3]);
        notes.settle(|_| 6);
        assert_eq!(sequences(&notes), [5]);
    }
}
