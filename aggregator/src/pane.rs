//! A merged pane: one row per group that has events in it, from all shards.
//!
//! Where many groups have events, the row of a group lies where its slot says: shards' rows find it without a look-up,
//! and whoever goes through several panes goes through each of them in one direction. Where few have, rows lie one after
//! the other. How a pane becomes part of a window is the slide's.

use crate::layout::RowLayout;
use crate::rows::{MergeScope, Rows, RowsRef};
use std::ops::Range;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pane {
    /// Coordinator slot of each row, each at most once; of a pane by slot in order, and empty until it is whole.
    pub slots: Vec<u32>,
    /// The rows. Of a pane by slot, those of slots that it does not have mean nothing.
    pub rows: Rows,
    /// Whether a row lies where its slot says, and not where the slot stands in `slots`.
    pub(crate) is_by_slot: bool,
    /// A bit per slot of a pane by slot: whether it has a row.
    present: Vec<u64>,
    /// How many it has.
    groups: usize,
}

/// A pane is by slot if at least one in so many slots has a row, or is expected to.
pub(crate) const BY_SLOT_SHARE: usize = 2;

/// Slots are put in order by a list of all of them if there are at most so many for each that is there.
const SPREAD_MAX: usize = 16;

const NO_ROW: u32 = u32::MAX;

/// Rows of a partial that are looked at together.
const BLOCK_ROWS: usize = 128;

impl Pane {
    /// Whether no shard has given it a row.
    pub fn is_empty(&self) -> bool {
        self.groups() == 0
    }

    /// How many groups have a row.
    pub fn groups(&self) -> usize {
        if self.is_by_slot { self.groups } else { self.slots.len() }
    }

    /// Where the row of each of `slots` lies; `numbers` are the numbers from 0 on.
    pub(crate) fn positions<'a>(&'a self, numbers: &'a [u32]) -> &'a [u32] {
        if self.is_by_slot { &self.slots } else { &numbers[..self.slots.len()] }
    }

    /// Position of the row of `slots[index]`.
    pub(crate) fn position(&self, index: usize) -> usize {
        if self.is_by_slot { self.slots[index] as usize } else { index }
    }

    /// Forgets all, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.present.clear();
        self.rows.sides.clear();
        (self.is_by_slot, self.groups) = (false, 0);
    }

    /// Adds each row of a partial to that of its slot. `slots` are ours, each at most once, and there is room for all of them;
    /// `added` hears of those that had no row before.
    pub(crate) fn merge_by_slot(
        &mut self,
        layout: &RowLayout,
        slots: &[u32],
        rows: RowsRef<'_>,
        mut added: impl FnMut(u32),
    ) {
        for (slots, first) in slots.chunks(BLOCK_ROWS).zip((0..).step_by(BLOCK_ROWS)) {
            if slots.iter().all(|&slot| self.has(slot)) {
                // As of all shards but the first, where they have the same groups.
                let from: [u32; BLOCK_ROWS] = std::array::from_fn(|index| first + index as u32);
                self.rows.merge(layout, slots, rows, &from[..slots.len()], MergeScope::SamePane);
                continue;
            }
            // Slots and their rows, of those that are new here and of those that are known. Told apart without branches: of a
            // shard that has half of the groups, either is as likely.
            let (mut into, mut from, mut counts) = ([[0; BLOCK_ROWS]; 2], [[0; BLOCK_ROWS]; 2], [0; 2]);
            for (&slot, at) in slots.iter().zip(first..) {
                let is_known = self.has(slot);
                self.present[slot as usize / 64] |= 1 << (slot % 64);
                for list in 0..2 {
                    (into[list][counts[list]], from[list][counts[list]]) = (slot, at);
                }
                counts[usize::from(is_known)] += 1;
            }
            let [(fresh, from_fresh), (known, from_known)] =
                [0, 1].map(|list| (&into[list][..counts[list]], &from[list][..counts[list]]));
            fresh.iter().for_each(|&slot| added(slot));
            self.take_rows(layout, fresh, rows, from_fresh);
            self.rows.merge(layout, known, rows, from_known, MergeScope::SamePane);
        }
    }

    /// Copies the rows `from`, of slots that had none.
    fn take_rows(&mut self, layout: &RowLayout, slots: &[u32], rows: RowsRef<'_>, from: &[u32]) {
        self.groups += slots.len();
        let stride = layout.stride;
        for (&slot, &at) in slots.iter().zip(from) {
            let row = &rows.words[at as usize * stride..][..stride];
            copy(&mut self.rows.words[slot as usize * stride..][..stride], row);
        }
        if !rows.sides.spills.is_empty() {
            self.rows.merge_spills(layout, slots, rows, from);
        }
    }

    /// Whether `slot` has a row, of a pane by slot with room for it.
    fn has(&self, slot: u32) -> bool {
        self.present[slot as usize / 64] >> (slot % 64) & 1 != 0
    }

    /// All shards have given their rows: lists the slots of a pane by slot, whose rows close up where few of all below
    /// `slots_end` have one.
    pub(crate) fn finish(&mut self, layout: &RowLayout, slots_end: usize) {
        if !self.is_by_slot || !self.slots.is_empty() {
            return;
        }
        self.slots.clear();
        self.slots.reserve(self.groups);
        for (&word, first) in self.present.iter().zip((0..).step_by(64)) {
            let mut bits = word;
            while bits != 0 {
                self.slots.push(first + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
        if self.groups * BY_SLOT_SHARE < slots_end {
            self.compact(layout);
        }
    }

    fn compact(&mut self, layout: &RowLayout) {
        let (stride, words) = (layout.stride, &mut self.rows.words);
        for (&slot, row) in self.slots.iter().zip(0..) {
            words.copy_within(slot as usize * stride..(slot as usize + 1) * stride, row * stride);
        }
        words.truncate(self.slots.len() * stride);
        let spills = &mut self.rows.sides.spills;
        if !spills.is_empty() {
            // Whatever has spilled has events, so its slot is in the list.
            let row = |slot: u32| self.slots.binary_search(&slot).unwrap_or(0) as u32;
            *spills =
                std::mem::take(spills).into_iter().map(|((slot, state), sum)| ((row(slot), state), sum)).collect();
        }
        self.is_by_slot = false;
    }

    /// Moves rows that lie one after the other to where their slots say, all below `slots_end`, in the memory of `target`, which
    /// gets theirs.
    pub fn spread(&mut self, layout: &RowLayout, slots_end: usize, target: &mut Rows) {
        let stride = layout.stride;
        std::mem::swap(&mut self.rows, target);
        self.make_room(layout, slots_end);
        for (&slot, row) in self.slots.iter().zip(target.words.chunks_exact(stride)) {
            self.rows.words[slot as usize * stride..][..stride].copy_from_slice(row);
        }
        let spills = std::mem::take(&mut target.sides.spills);
        self.rows.sides.spills =
            spills.into_iter().map(|((row, state), sum)| ((self.slots[row as usize], state), sum)).collect();
        target.sides.clear();
        self.slots.sort_unstable();
        self.is_by_slot = true;
    }

    /// Makes room for rows by slot, which mean nothing where there were none.
    pub(crate) fn make_room(&mut self, layout: &RowLayout, slots_end: usize) {
        self.present.resize(self.present.len().max(slots_end.div_ceil(64)), 0);
        let (words, end) = (&mut self.rows.words, slots_end * layout.stride);
        if words.len() < end {
            words.reserve_exact((roomy(slots_end) * layout.stride).saturating_sub(words.len()));
            words.resize(end, 0);
        }
    }

    /// Takes the rows whose slots it has been told, into the order of their slots, so that all later passes go through
    /// memory in one direction. `row_of` lends its memory; spills, which go by row, stay as they are, and so does the order
    /// then.
    pub(crate) fn take_words(&mut self, layout: &RowLayout, words: &[u64], row_of: &mut Vec<u32>) {
        let stride = layout.stride;
        let target = &mut self.rows.words;
        target.clear();
        target.reserve_exact(roomy(self.slots.len()) * stride);
        if self.slots.is_sorted() || !self.rows.sides.spills.is_empty() {
            target.extend_from_slice(words);
            return;
        }
        let slots_end = self.slots.iter().max().map_or(0, |&slot| slot as usize + 1);
        row_of.clear();
        if slots_end > SPREAD_MAX * self.slots.len() {
            row_of.extend(0..self.slots.len() as u32);
            row_of.sort_unstable_by_key(|&row| self.slots[row as usize]);
            row_of.iter().for_each(|&row| target.extend_from_slice(&words[row as usize * stride..][..stride]));
            self.slots.sort_unstable();
        } else {
            // There is a place for every slot: no comparisons.
            row_of.resize(slots_end, NO_ROW);
            self.slots.iter().zip(0..).for_each(|(&slot, row)| row_of[slot as usize] = row);
            self.slots.clear();
            for (slot, &row) in row_of.iter().enumerate().filter(|(_, row)| **row != NO_ROW) {
                self.slots.push(slot as u32);
                target.extend_from_slice(&words[row as usize * stride..][..stride]);
            }
        }
    }
}

/// Slots that are not in `slots`, which is sorted, as runs: those before each of `slots[range]` and, at the end of `slots`, those
/// up to `slots_end`.
pub(crate) fn gaps(slots: &[u32], range: Range<usize>, slots_end: usize) -> impl Iterator<Item = Range<usize>> {
    let after = |index: usize| slots[index] as usize + 1;
    let end = range.end;
    let last = (end == slots.len()).then(|| end.checked_sub(1).map_or(0, after)..slots_end);
    let before = range.map(move |index| index.checked_sub(1).map_or(0, after)..slots[index] as usize);
    before.chain(last).filter(|gap| !gap.is_empty())
}

/// Rows for which memory is asked where `rows` are needed: an eighth more, in steps of an eighth. Groups that come one by one do
/// not make each pane ask for memory of another size.
fn roomy(rows: usize) -> usize {
    let rows = rows + rows / 8;
    rows.next_multiple_of((rows.next_power_of_two() / 8).max(1))
}

/// Copies a row; one of the common layout without a call.
#[inline(always)]
fn copy(target: &mut [u64], row: &[u64]) {
    match (<&mut [u64; 6]>::try_from(&mut *target), <&[u64; 6]>::try_from(row)) {
        (Ok(target), Ok(row)) => *target = *row,
        _ => target.copy_from_slice(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Sides;
    use crate::sketch::exact_sum::SuperSum;
    use crate::spec::{AggregateSpec, Field, FieldType, Function, Overflow, StreamSpec, ViewSpec};
    use crate::time::{Duration, WindowSpec};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn layout() -> RowLayout {
        let fields = vec![Field { name: "x".into(), kind: FieldType::F64 }];
        let stream = StreamSpec { name: "s".into(), time: "t".into(), delay_max: Duration::ZERO, fields };
        let second = Duration::from_micros(1_000_000).expect("a second");
        let spec = ViewSpec {
            name: "v".into(),
            by: vec![],
            window: WindowSpec::new(second, second, Duration::ZERO).expect("a window"),
            aggregates: vec![AggregateSpec { name: "sum".into(), function: Function::Sum, field: Some(0) }],
            groups_max: 1000,
            overflow: Overflow::Fold,
        };
        RowLayout::new(&stream, &spec).expect("a layout")
    }

    /// Sums that are whole numbers, with one in a spill where `spills` says so.
    fn partial(rows: &BTreeMap<u32, (u32, bool)>) -> (Vec<u32>, Rows) {
        let (mut slots, mut words, mut sides) = (Vec::new(), Vec::new(), Sides::default());
        for (row, (&slot, &(value, spills))) in rows.iter().rev().enumerate() {
            slots.push(slot);
            words.extend([1, 1, f64::from(value).to_bits(), 0]);
            if spills {
                sides.spills.insert((row as u32, 2), SuperSum::of(&[1.0], None));
            }
        }
        (slots, Rows { words, sides })
    }

    proptest! {
        /// Partials of several shards, slots that come in between, and memory that held something else.
        #[test]
        fn a_pane_by_slot_is_a_map(
            partials in prop::collection::vec(prop::collection::btree_map(0u32..300, (1u32..9, any::<bool>()), 0..200), 1..4),
            slots_end in 300usize..700,
            before in any::<u64>(),
        ) {
            let layout = layout();
            let mut pane = Pane { is_by_slot: true, ..Pane::default() };
            pane.rows.words = vec![before; 50 * layout.stride];
            let (mut expected, mut added) = (BTreeMap::<u32, f64>::new(), Vec::new());
            for rows in &partials {
                let (slots, source) = partial(rows);
                let end = slots.iter().map(|&slot| slot as usize + 1).max().unwrap_or(0);
                pane.make_room(&layout, end);
                pane.merge_by_slot(&layout, &slots, (&source).into(), |slot| added.push(slot));
                for (&slot, &(value, spills)) in rows {
                    *expected.entry(slot).or_default() += f64::from(value) + f64::from(u8::from(spills));
                }
            }
            prop_assert_eq!(pane.groups(), expected.len());
            pane.finish(&layout, slots_end);
            prop_assert_eq!(pane.is_by_slot, !expected.is_empty() && expected.len() * BY_SLOT_SHARE >= slots_end);
            added.sort_unstable();
            prop_assert_eq!(&added, &pane.slots);
            let found = pane.slots.iter().enumerate().map(|(index, &slot)| {
                let row = pane.position(index);
                let words = pane.rows.row(&layout, row);
                let spill = pane.rows.sides.spilled(row as u32, 2);
                (slot, SuperSum::of(&[f64::from_bits(words[2]), f64::from_bits(words[3])], spill).round())
            });
            prop_assert_eq!(found.collect::<BTreeMap<u32, f64>>(), expected);
            let gaps: Vec<usize> = gaps(&pane.slots, 0..pane.slots.len(), slots_end).flatten().collect();
            let absent = (0..slots_end).filter(|&slot| pane.slots.binary_search(&(slot as u32)).is_err());
            prop_assert_eq!(gaps, absent.collect::<Vec<usize>>());
        }
    }
}
