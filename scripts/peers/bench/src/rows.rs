//! Accumulators of one pane: a row per slot, in one array.
//!
//! How a key becomes a slot is not here but in [`crate::fold`].

/// Count, sum, minimum and maximum of one slot: half a cache line.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(32))]
pub struct Row {
    /// Events; 0 means that the rest is at its start values.
    pub count: u64,
    /// Sum of values.
    pub sum: f64,
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
}

impl Row {
    /// No events.
    pub const EMPTY: Row = Row { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// Takes in one value.
    #[inline(always)]
    pub fn fold(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.min = if value < self.min { value } else { self.min };
        self.max = if value > self.max { value } else { self.max };
    }

    /// Takes in another row.
    #[inline(always)]
    pub fn merge(&mut self, other: &Row) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = if other.min < self.min { other.min } else { self.min };
        self.max = if other.max > self.max { other.max } else { self.max };
    }
}

/// Merges `from` into `into` slot by slot.
pub fn merge_rows(into: &mut Vec<Row>, from: &[Row]) {
    if into.len() < from.len() {
        into.resize(from.len(), Row::EMPTY);
    }
    for (into, from) in into.iter_mut().zip(from) {
        into.merge(from);
    }
}
