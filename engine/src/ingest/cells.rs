//! Single values on their way into the columns of a batch, and rows of one set of columns behind those of another.
//!
//! Where values come from is not here.

use crate::source::{read_bool, read_f64, read_i64};
use corefold_aggregator::spec::FieldType;
use corefold_shards::batch::columns::{ColumnData, DictionaryError, NULL_BOOL, NULL_INDEX};
use corefold_shards::batch::{BATCH_ROWS_MAX, ColumnSet};

/// A value of one field.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Cell<'a> {
    /// None.
    Null,
    /// Of an i64 field.
    I64(i64),
    /// Of an f64 field.
    F64(f64),
    /// Of a bool field.
    Bool(bool),
    /// Of a string field.
    Text(&'a str),
}

impl<'a> Cell<'a> {
    /// What `text` stands for in a field of type `kind`; `None` if it is nothing of that type.
    pub fn of_text(kind: FieldType, text: &'a str) -> Option<Cell<'a>> {
        Some(match kind {
            FieldType::String => Cell::Text(text),
            _ if text.is_empty() => Cell::Null,
            FieldType::I64 => Cell::I64(read_i64(text.as_bytes())?),
            FieldType::F64 => Cell::F64(read_f64(text.as_bytes())?),
            FieldType::Bool => Cell::Bool(read_bool(text.as_bytes())?),
        })
    }
}

/// Appends a row; after an error the columns are as before. Panics if a cell is of another type than its column.
pub fn push_row(columns: &mut ColumnSet, time: i64, cells: &[Cell<'_>]) -> Result<(), DictionaryError> {
    let rows = columns.rows();
    let pushed = columns.columns.iter_mut().zip(cells).try_for_each(|(column, cell)| push(column, *cell));
    match pushed {
        Ok(()) => columns.times.push(time),
        Err(_) => columns.truncate(rows),
    }
    pushed
}

fn push(column: &mut ColumnData, cell: Cell<'_>) -> Result<(), DictionaryError> {
    match (column.kind(), cell) {
        (FieldType::I64, Cell::Null) => column.push_i64(None),
        (FieldType::F64, Cell::Null) => column.push_f64(None),
        (FieldType::Bool, Cell::Null) => column.push_bool(None),
        (FieldType::String, Cell::Null) => column.push_str(None)?,
        (_, Cell::I64(value)) => column.push_i64(Some(value)),
        (_, Cell::F64(value)) => column.push_f64(Some(value)),
        (_, Cell::Bool(value)) => column.push_bool(Some(value)),
        (_, Cell::Text(text)) => column.push_str(Some(text.as_bytes()))?,
    }
    Ok(())
}

/// Why rows do not go behind others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

/// Appends all rows of `from`, and its count of rejected ones. If rows or texts would be more than one batch may have,
/// `to` stays as it was.
///
/// Panics if the columns differ in number or types.
pub fn append(to: &mut ColumnSet, from: &ColumnSet) -> Result<(), NoRoom> {
    let rows = to.rows();
    if rows + from.rows() > BATCH_ROWS_MAX {
        return Err(NoRoom);
    }
    assert_eq!(to.columns.len(), from.columns.len(), "columns of one stream");
    for (to_column, from_column) in to.columns.iter_mut().zip(&from.columns) {
        if append_column(to_column, from_column).is_err() {
            to.truncate(rows);
            return Err(NoRoom);
        }
    }
    to.times.own().extend_from_slice(&from.times);
    to.rejected += from.rejected;
    Ok(())
}

fn append_column(to: &mut ColumnData, from: &ColumnData) -> Result<(), DictionaryError> {
    match from {
        ColumnData::I64 { values, validity } => {
            for (row, value) in values.iter().enumerate() {
                to.push_i64(validity.as_ref().is_none_or(|bits| bits.get(row)).then_some(*value));
            }
        }
        ColumnData::F64 { values } => values.iter().for_each(|value| to.push_f64(Some(*value))),
        ColumnData::Bool { values } => {
            values.iter().for_each(|value| to.push_bool((*value != NULL_BOOL).then_some(*value == 1)));
        }
        ColumnData::Str { dictionary, indices } => {
            for index in indices {
                let text = (*index != NULL_INDEX).then(|| dictionary.get(*index).as_bytes());
                to.push_str(text)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [FieldType; 4] = [FieldType::String, FieldType::I64, FieldType::F64, FieldType::Bool];

    #[test]
    fn texts_become_what_their_field_holds() {
        for (kind, text, wanted) in [
            (FieldType::String, "", Some(Cell::Text(""))),
            (FieldType::I64, "", Some(Cell::Null)),
            (FieldType::I64, "7", Some(Cell::I64(7))),
            (FieldType::I64, "7.5", None),
            (FieldType::F64, "7.5", Some(Cell::F64(7.5))),
            (FieldType::F64, "x", None),
            (FieldType::Bool, "TRUE", Some(Cell::Bool(true))),
            (FieldType::Bool, "yes", None),
        ] {
            assert_eq!(Cell::of_text(kind, text), wanted, "{text:?}");
        }
    }

    type Row = (Option<String>, Option<i64>, Option<u8>, Option<bool>);

    fn cells(row: &Row) -> [Cell<'_>; 4] {
        [
            row.0.as_deref().map_or(Cell::Null, Cell::Text),
            row.1.map_or(Cell::Null, Cell::I64),
            row.2.map_or(Cell::Null, |value| Cell::F64(f64::from(value))),
            row.3.map_or(Cell::Null, Cell::Bool),
        ]
    }

    fn set(rows: &[Row]) -> ColumnSet {
        let mut columns = ColumnSet::new(&KINDS);
        for (time, row) in rows.iter().enumerate() {
            push_row(&mut columns, time as i64, &cells(row)).expect("room");
        }
        columns
    }

    proptest! {
        #[test]
        fn appended_rows_are_as_if_pushed(
            rows in proptest::collection::vec(any::<(Option<String>, Option<i64>, Option<u8>, Option<bool>)>(), 0..20),
            cut in 0_usize..20,
        ) {
            let cut = cut.min(rows.len());
            let (mut whole, mut split, mut rest) = (set(&rows), set(&rows[..cut]), set(&rows[cut..]));
            rest.rejected = 3;
            prop_assert_eq!(append(&mut split, &rest), Ok(()));
            prop_assert_eq!((split.rows(), split.rejected), (rows.len(), 3));
            split.times.clone_from(&whole.times);
            whole.rejected = 3;
            // The same numbers in the same dictionaries: texts come in the same order.
            prop_assert_eq!(format!("{:?}", encoded(&split)), format!("{:?}", encoded(&whole)));
        }
    }

    fn encoded(columns: &ColumnSet) -> Vec<u8> {
        let mut bytes = corefold_shards::batch::AlignedBytes::new();
        let stamp = corefold_shards::batch::Stamp::of_lane(0, 0, 0);
        corefold_shards::batch::encode(columns, 1, &stamp, &mut bytes).expect("a batch");
        bytes.as_slice().to_vec()
    }

    #[test]
    fn too_many_rows_leave_all_as_it_was() {
        let mut to = set(&[(Some("a".to_owned()), None, None, None)]);
        let mut from = ColumnSet::new(&KINDS);
        for time in 0..BATCH_ROWS_MAX {
            push_row(&mut from, time as i64, &[Cell::Null; 4]).expect("room");
        }
        assert_eq!(append(&mut to, &from), Err(NoRoom));
        assert_eq!(to.rows(), 1);
        assert!(to.columns.iter().all(|column| column.len() == 1));
    }
}
