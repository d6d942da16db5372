//! Which states of a row one column feeds, and where they lie. How values get there is in [`super::kernels`].

use corefold_aggregator::layout::{RowLayout, StateKind};
use corefold_aggregator::spec::FieldType;

/// A state of a column: word within the row, and index in the layout.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// First word within the row.
    pub offset: usize,
    /// Index of the state.
    pub state: usize,
}

/// What one column feeds.
#[derive(Clone, Debug)]
pub struct FieldStates {
    /// Index of the field.
    pub field: usize,
    /// Its type.
    pub kind: FieldType,
    /// Word that counts non-null values.
    pub values: usize,
    /// Whether its kernel counts the events of each row too: that of one column does.
    pub counts_rows: bool,
    pub(super) sum: Option<Place>,
    pub(super) squares: Option<Place>,
    pub(super) min: Option<Place>,
    pub(super) max: Option<Place>,
    /// The states that are not numbers in a row, with their kinds.
    pub others: Vec<(StateKind, Place)>,
}

impl FieldStates {
    /// Per field that `layout` keeps states of.
    pub fn of(layout: &RowLayout) -> Vec<FieldStates> {
        let mut fields: Vec<FieldStates> = Vec::new();
        for (index, state) in layout.states.iter().enumerate().skip(1) {
            let place = Place { offset: state.offset, state: index };
            let at = fields.iter().position(|f| f.field == state.field).unwrap_or_else(|| {
                fields.push(FieldStates {
                    field: state.field,
                    kind: state.field_type,
                    values: state.offset,
                    counts_rows: false,
                    sum: None,
                    squares: None,
                    min: None,
                    max: None,
                    others: Vec::new(),
                });
                fields.len() - 1
            });
            let field = &mut fields[at];
            match state.kind {
                StateKind::Rows => {}
                StateKind::Values => field.values = state.offset,
                StateKind::SumI64 | StateKind::SumF64 => field.sum = Some(place),
                StateKind::SquareI64 | StateKind::SquareF64 => field.squares = Some(place),
                StateKind::MinI64 | StateKind::MinF64 => field.min = Some(place),
                StateKind::MaxI64 | StateKind::MaxF64 => field.max = Some(place),
                kind => field.others.push((kind, place)),
            }
        }
        if let Some(field) = fields.iter_mut().find(|f| matches!(f.kind, FieldType::F64 | FieldType::I64)) {
            field.counts_rows = true;
        }
        fields
    }

    const fn offset(place: Option<Place>) -> usize {
        match place {
            Some(place) => place.offset,
            None => usize::MAX,
        }
    }
}

/// Word offsets of a column's numeric states; those not compiled in are not read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Offsets {
    pub counts_rows: bool,
    pub values: usize,
    pub sum: usize,
    pub min: usize,
    pub max: usize,
    pub sum_state: usize,
}

impl Offsets {
    /// Those of a view with sum, minimum and maximum of one column: known when the loop is compiled.
    pub const COMMON: Offsets = Offsets { counts_rows: true, values: 1, sum: 2, min: 4, max: 5, sum_state: 0 };

    pub fn is_common(self) -> bool {
        self == Offsets { sum_state: self.sum_state, ..Offsets::COMMON }
    }

    pub fn of(states: &FieldStates) -> Offsets {
        Offsets {
            counts_rows: states.counts_rows,
            values: states.values,
            sum: FieldStates::offset(states.sum),
            min: FieldStates::offset(states.min),
            max: FieldStates::offset(states.max),
            sum_state: states.sum.map_or(0, |place| place.state),
        }
    }
}
