//! Where the slots of a batch's rows come from: straight from an integer column, or by local keys.
//!
//! How a group without a slot gets one is not here.

use super::block::Events;
use super::group_table::{GroupTable, NO_SLOT};
use crate::batch::Integers;
use crate::batch::columns::bit;

/// Where the slot of a row's group comes from.
pub trait SlotSource {
    /// Slot of row `event`, or `NO_SLOT` if it has to be looked up by its key.
    fn slot(&self, table: &GroupTable, event: usize) -> u32;
    /// Finds the slots of `events`, up to the first that has to be looked up by its key; returns how many.
    #[inline(always)]
    fn find(&self, table: &GroupTable, events: Events<'_>, slots: &mut [u32]) -> usize {
        match events {
            Events::Run(events) => find_each(events.map(|event| self.slot(table, event)), slots),
            Events::List(events) => find_each(events.iter().map(|&event| self.slot(table, event as usize)), slots),
        }
    }

    /// Hears the slot found for row `event`.
    fn learn(&mut self, event: usize, slot: u32);
    /// Value of a single integer column; `None` for null and for other keys.
    fn int(&self, event: usize) -> Option<i64>;
}

/// Takes slots up to the first that is none; returns how many.
#[inline(always)]
fn find_each(found: impl Iterator<Item = u32>, slots: &mut [u32]) -> usize {
    let count = slots.len();
    let unknown = found.zip(slots).position(|(slot, place)| {
        *place = slot;
        slot == NO_SLOT
    });
    unknown.unwrap_or(count)
}

/// By one integer column: straight to the table.
pub struct IntSlots<'a> {
    /// The column.
    pub values: Integers<'a>,
    /// Its validity.
    pub validity: Option<&'a [u8]>,
    /// Slot of the null key, or `NO_SLOT`.
    pub null: u32,
}

impl SlotSource for IntSlots<'_> {
    #[inline(always)]
    fn slot(&self, table: &GroupTable, event: usize) -> u32 {
        if self.validity.is_some_and(|bits| !bit(bits, event)) {
            return self.null;
        }
        table.find_int(self.values.get(event))
    }

    #[inline(always)]
    fn find(&self, table: &GroupTable, events: Events<'_>, slots: &mut [u32]) -> usize {
        match (events, self.validity) {
            (Events::Run(events), None) => match self.values {
                Integers::Whole(keys) => table.find_ints(&keys[events], |key| key, slots),
                Integers::Offsets16 { base, offsets } => {
                    table.find_ints(&offsets[events], |offset| base.wrapping_add(offset.into()), slots)
                }
                Integers::Offsets32 { base, offsets } => {
                    table.find_ints(&offsets[events], |offset| base.wrapping_add(offset.into()), slots)
                }
            },
            (Events::Run(events), _) => find_each(events.map(|event| self.slot(table, event)), slots),
            // The table sees the rows as keys, and looks where they stand no further ahead than it fetches.
            (Events::List(events), None) => match self.values {
                Integers::Whole(keys) => table.find_ints(events, |event| keys[event as usize], slots),
                Integers::Offsets16 { base, offsets } => {
                    table.find_ints(events, |event| base.wrapping_add(offsets[event as usize].into()), slots)
                }
                Integers::Offsets32 { base, offsets } => {
                    table.find_ints(events, |event| base.wrapping_add(offsets[event as usize].into()), slots)
                }
            },
            (Events::List(events), _) => find_each(events.iter().map(|&event| self.slot(table, event as usize)), slots),
        }
    }

    fn learn(&mut self, event: usize, slot: u32) {
        if self.int(event).is_none() {
            self.null = slot;
        }
    }

    fn int(&self, event: usize) -> Option<i64> {
        self.validity.is_none_or(|bits| bit(bits, event)).then(|| self.values.get(event))
    }
}

/// By local keys: one look-up per distinct key of the batch. Without `by` columns there is one key.
pub struct LocalSlots {
    /// Local key of each row; empty if there is one key.
    pub ids: Vec<u32>,
    /// By local key: slot, or `NO_SLOT`.
    pub slots: Vec<u32>,
}

impl SlotSource for LocalSlots {
    #[inline(always)]
    fn slot(&self, _: &GroupTable, event: usize) -> u32 {
        self.slots[self.ids.get(event).map_or(0, |&id| id as usize)]
    }

    fn learn(&mut self, event: usize, slot: u32) {
        let id = self.ids.get(event).map_or(0, |&id| id as usize);
        self.slots[id] = slot;
    }

    fn int(&self, _: usize) -> Option<i64> {
        None
    }
}
