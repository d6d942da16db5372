//! Folding into states beside the row: sketches, text extremes, first and last values.
//!
//! The numeric states in the row itself are in [`super::kernels`].

use super::block::Block;
use super::field_states::FieldStates;
use super::kernels::state_words;
use super::pane_ring::PaneRing;
use crate::batch::columns::bit;
use crate::batch::wire::{BatchView, Column, Indices, Integers, StrDictionary};
use corefold_aggregator::aggregate::{MinMaxText, Position, hash_value, top_key};
use corefold_aggregator::layout::StateKind;
use corefold_aggregator::rows::{Side, Sides};
use corefold_aggregator::sketch::distinct::DistinctSketch;
use corefold_aggregator::sketch::quantile::QuantileSketch;
use corefold_aggregator::sketch::top::TopSketch;
use corefold_aggregator::spec::FieldType;

/// Where the events of a batch stand in their lane.
#[derive(Clone, Copy, Debug)]
pub struct LanePosition<'a> {
    /// Producer of the batch.
    pub producer: u64,
    /// Lane of the producer.
    pub lane: u32,
    /// Ordinal of the whole batch's first row.
    pub first_row: u64,
    /// Index in the whole batch of each row of a part.
    pub row_numbers: Option<&'a [u32]>,
}

impl<'a> LanePosition<'a> {
    /// Where the events of `batch` stand.
    pub fn of(batch: &BatchView<'a>) -> LanePosition<'a> {
        let stamp = batch.stamp();
        let row_numbers = batch.row_numbers();
        LanePosition { producer: stamp.producer, lane: stamp.lane, first_row: stamp.first_row, row_numbers }
    }

    /// Ordinal in the lane of row `event` of this batch.
    pub fn row(&self, event: u32) -> u64 {
        self.first_row + u64::from(self.row_numbers.map_or(event, |numbers| numbers[event as usize]))
    }

    fn at(&self, event: u32, time: i64) -> Position {
        Position { time, producer: self.producer, lane: u64::from(self.lane), row: self.row(event) }
    }
}

/// A non-null value of a column.
#[derive(Clone, Copy)]
enum Cell<'a> {
    /// Integer, truth value or double by its bits.
    Bits(u64),
    /// Text, with its hash for `distinct`.
    Text(&'a str, u64),
}

/// Reads cells of one column, hashing each dictionary entry once per batch.
#[derive(Debug, Default)]
pub struct CellReader {
    hashes: Vec<u64>,
    /// Integers that the batch has in a shorter form.
    integers: Vec<i64>,
}

impl CellReader {
    /// Gets ready for the columns of a new batch.
    pub fn start(&mut self, column: &Column<'_>, states: &FieldStates) {
        self.hashes.clear();
        if let Column::Str { dictionary, .. } = column
            && states.others.iter().any(|(kind, _)| *kind == StateKind::Distinct)
        {
            self.hashes.extend((0..dictionary.len()).map(|i| hash_value(dictionary.get(i).as_bytes())));
        }
        if let Column::I64 { values, .. } = column
            && !matches!(values, Integers::Whole(_))
        {
            self.integers.resize(values.len(), 0);
            values.read(0..values.len(), &mut self.integers);
        }
    }

    /// The integers of the column, which are `values`, as they are.
    pub fn whole<'a>(&'a self, values: &Integers<'a>) -> &'a [i64] {
        if let Integers::Whole(values) = *values { values } else { &self.integers }
    }

    fn cell<'a>(&self, column: &Column<'a>, event: usize) -> Option<Cell<'a>> {
        match column {
            Column::I64 { values, validity } => {
                validity.is_none_or(|bits| bit(bits, event)).then(|| Cell::Bits(values.get(event) as u64))
            }
            Column::F64(values) => {
                let value = values[event];
                (!value.is_nan()).then(|| Cell::Bits((value + 0.0).to_bits()))
            }
            Column::Bool(values) => (values[event] < 2).then(|| Cell::Bits(u64::from(values[event]))),
            Column::Str { dictionary, indices } => {
                let index = text_index(indices, event) as usize;
                let hash = self.hashes.get(index).copied().unwrap_or(0);
                (index < dictionary.len()).then(|| Cell::Text(text(dictionary, index), hash))
            }
        }
    }
}

fn text<'a>(dictionary: &StrDictionary<'a>, index: usize) -> &'a str {
    dictionary.get(index)
}

/// Dictionary index of a row; the dictionary's length is null.
pub fn text_index(indices: &Indices<'_>, event: usize) -> u32 {
    match indices {
        Indices::U16(values) => u32::from(values[event]),
        Indices::U32(values) => values[event],
    }
}

/// Folds one column of the block into those of its states that are not plain numbers. `times` holds the event
/// time of each event of the block.
pub fn fold_others(
    block: &mut Block,
    states: &FieldStates,
    column: &Column<'_>,
    reader: &CellReader,
    position: &LanePosition<'_>,
    time_of: impl Fn(u32) -> i64,
    ring: &mut PaneRing,
) {
    for &(kind, place) in &states.others {
        for index in block.pending() {
            let event = block.event(index);
            let Some(cell) = reader.cell(column, event as usize) else { continue };
            let sides = &mut ring.pane(block.pane(index)).sides;
            let words = state_words(block, index, place, kind);
            match kind {
                StateKind::First | StateKind::Last => {
                    let new = position.at(event, time_of(event));
                    fold_position(kind, new, words, cell, sides);
                }
                StateKind::MinText | StateKind::MaxText => fold_text(kind, words, cell, sides),
                _ => fold_sketch(kind, states.kind, words, cell, sides),
            }
        }
    }
}

fn fold_position(kind: StateKind, new: Position, words: &mut [u64], cell: Cell<'_>, sides: &mut Sides) {
    let old = Position::read(words);
    if !(if kind == StateKind::First { new < old } else { new > old }) {
        return;
    }
    words[..4].copy_from_slice(&new.words());
    match cell {
        Cell::Bits(bits) => words[4] = bits,
        Cell::Text(text, _) => set_text(&mut words[4], text, sides),
    }
}

fn fold_text(kind: StateKind, words: &mut [u64], cell: Cell<'_>, sides: &mut Sides) {
    let Cell::Text(new, _) = cell else { return };
    let end = if kind == StateKind::MinText { MinMaxText::Min } else { MinMaxText::Max };
    let replaces = match sides.get(words[0]) {
        Some(Side::Text(old)) => end.replaces(new.as_bytes(), old),
        _ => true,
    };
    if replaces {
        set_text(&mut words[0], new, sides);
    }
}

fn set_text(word: &mut u64, text: &str, sides: &mut Sides) {
    match sides.get_mut(*word) {
        Some(Side::Text(kept)) => {
            kept.clear();
            kept.extend_from_slice(text.as_bytes());
        }
        _ => *word = sides.add(Side::Text(text.as_bytes().to_vec())),
    }
}

fn fold_sketch(kind: StateKind, field: FieldType, words: &mut [u64], cell: Cell<'_>, sides: &mut Sides) {
    if words[0] == 0 {
        words[0] = sides.add(match kind {
            StateKind::Quantile => Side::Quantile(QuantileSketch::new()),
            StateKind::Distinct => Side::Distinct(DistinctSketch::new()),
            _ => Side::Top(TopSketch::new()),
        });
    }
    let Some(side) = sides.get_mut(words[0]) else { return };
    match (side, cell) {
        (Side::Quantile(sketch), Cell::Bits(bits)) if field == FieldType::F64 => sketch.add(f64::from_bits(bits)),
        (Side::Quantile(sketch), Cell::Bits(bits)) => sketch.add_i64(bits as i64),
        (Side::Distinct(sketch), Cell::Bits(bits)) => sketch.add_hash(hash_value(&bits.to_le_bytes())),
        (Side::Distinct(sketch), Cell::Text(_, hash)) => sketch.add_hash(hash),
        (Side::Top(sketch), Cell::Bits(bits)) => sketch.add(&top_key(field, bits), 1),
        (Side::Top(sketch), Cell::Text(text, _)) => sketch.add(text.as_bytes(), 1),
        (Side::Quantile(_), Cell::Text(..)) | (Side::Text(_), _) => {
            unreachable!("the layout gives quantiles numbers and each state its own side")
        }
    }
}
