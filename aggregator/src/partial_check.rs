//! The one check of partial aggregates that come from a disk: after it, merging, sliding and finalizing take them for
//! what a shard would have sent.
//!
//! Partials that never left the process are not put to it. Whether the numbers are right cannot be seen here.

use crate::key;
use crate::layout::StateKind;
use crate::partial::{ArchivedPartial, OTHER_SLOT, Partial, PartialError};
use crate::rows::{Side, Sides};
use crate::spec::FieldType;
use crate::time::EventTime;
use crate::view::ViewPlan;

/// Most events that one row can stand for: far beyond what a pane can hold, so that adding up never overflows.
const EVENTS_MAX: u64 = 1 << 48;

impl Partial {
    /// Checks everything that [`Partial::read`] leaves open.
    pub fn verify(&self, plan: &ViewPlan) -> Result<(), PartialError> {
        let window = plan.spec.window;
        let panes = window.pane_of(EventTime::EARLIEST).0..=window.pane_of(EventTime::LATEST).0;
        holds(panes.contains(&self.pane), "a pane of the years 1 to 9999")?;
        self.verify_slots()?;
        for (_, key) in self.announcements() {
            holds(key::is_sound(key, &plan.by), "keys of the view's groups")?;
        }
        holds(self.has_distinct_keys(), "each key once")?;
        holds(self.sides.items.iter().all(is_sound), "sketches and texts in order")?;
        let stride = plan.layout.stride;
        for row in self.words.chunks_exact(stride) {
            self.verify_row(plan, row)?;
        }
        for (&(row, state), spill) in &self.sides.spills {
            let kind = plan.layout.states.get(usize::from(state)).map(|state| state.kind);
            let is_sum = matches!(kind, Some(StateKind::SumF64 | StateKind::SquareF64));
            holds((row as usize) < self.slots.len() && is_sum, "spills of sums that exist")?;
            holds(spill.is_consistent(), "spills in order")?;
        }
        Ok(())
    }

    fn verify_slots(&self) -> Result<(), PartialError> {
        for slots in [&self.announced, &self.retired, &self.slots] {
            let mut sorted = slots.clone();
            sorted.sort_unstable();
            holds(sorted.windows(2).all(|pair| pair[0] != pair[1]), "each slot once")?;
            holds(sorted.last() != Some(&u32::MAX), "slots with a number after them")?;
        }
        let names_other = self.announced.contains(&OTHER_SLOT) || self.retired.contains(&OTHER_SLOT);
        holds(!names_other, "no word about the slot of all others")
    }

    /// Two slots with one key would be two rows of one group.
    fn has_distinct_keys(&self) -> bool {
        let mut hashes: Vec<(u64, &[u8])> = self.announcements().map(|(_, key)| (key::hash(key), key)).collect();
        hashes.sort_unstable();
        hashes.windows(2).all(|pair| pair[0] != pair[1])
    }

    fn verify_row(&self, plan: &ViewPlan, row: &[u64]) -> Result<(), PartialError> {
        for state in &plan.layout.states {
            let words = &row[state.offset..][..state.kind.words()];
            let (sides, is_text) = (&self.sides, state.field_type == FieldType::String);
            let fits = match state.kind {
                StateKind::Rows | StateKind::Values => words[0] <= EVENTS_MAX,
                // `EVENTS_MAX` values of 63 bits.
                StateKind::SumI64 => matches!(words[1] as i64 >> 47, 0 | -1),
                StateKind::SquareI64 => words[2] <= EVENTS_MAX,
                StateKind::MinText | StateKind::MaxText => {
                    is_named(sides, words[0], |side| matches!(side, Side::Text(_)))
                }
                StateKind::First | StateKind::Last if is_text => {
                    is_named(sides, words[4], |side| matches!(side, Side::Text(_)))
                }
                StateKind::Quantile => is_named(sides, words[0], |side| matches!(side, Side::Quantile(_))),
                StateKind::Distinct => is_named(sides, words[0], |side| matches!(side, Side::Distinct(_))),
                StateKind::Top => is_named(sides, words[0], |side| match side {
                    Side::Top(sketch) => is_text || sketch.iter().all(|(value, _)| value.len() == 8),
                    _ => false,
                }),
                _ => true,
            };
            holds(fits, "states that events could have made")?;
        }
        Ok(())
    }
}

fn holds(fact: bool, expected: &'static str) -> Result<(), PartialError> {
    if fact { Ok(()) } else { Err(PartialError::Shape(expected)) }
}

/// Whether a handle names nothing, or something of the right kind.
fn is_named(sides: &Sides, handle: u64, is_right: impl Fn(&Side) -> bool) -> bool {
    handle == 0 || sides.get(handle).is_some_and(is_right)
}

fn is_sound(side: &Side) -> bool {
    match side {
        Side::Quantile(sketch) => sketch.is_consistent(),
        Side::Distinct(sketch) => sketch.is_consistent(),
        Side::Top(sketch) => sketch.is_consistent(),
        Side::Text(text) => std::str::from_utf8(text).is_ok(),
    }
}

/// What an archived partial aggregate says of itself, whatever view it is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartialOutline {
    /// Index of the view.
    pub view: u32,
    /// The pane.
    pub pane: i64,
    /// Groups that it announces.
    pub groups: u64,
    /// Rows.
    pub rows: u64,
    /// Words of all rows.
    pub words: u64,
    /// Sketches and texts.
    pub sides: u64,
    /// Sums with a spill.
    pub spills: u64,
}

impl PartialOutline {
    /// Looks at an archive without taking it apart.
    pub fn of(bytes: &[u8]) -> Result<PartialOutline, PartialError> {
        let archived = rkyv::access::<ArchivedPartial, rkyv::rancor::Error>(bytes)
            .map_err(|error| PartialError::Archive(error.to_string()))?;
        Ok(PartialOutline {
            view: archived.view.to_native(),
            pane: archived.pane.to_native(),
            groups: archived.announced.len() as u64,
            rows: archived.slots.len() as u64,
            words: archived.words.len() as u64,
            sides: archived.sides.items.len() as u64,
            spills: archived.sides.spills.len() as u64,
        })
    }
}
