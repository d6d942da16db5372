//! Which columns of a typed file are read, and as what.
//!
//! The values themselves are not here.

use arrow_schema::{DataType, Schema};
use corefold_aggregator::spec::FieldType;

use super::arrays::{is_date, is_text};
use super::error::{Place, SourceError};
use super::plan::ReadPlan;

/// Where the needed columns stand in the batches of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ArrowLayout {
    pub time: usize,
    pub fields: Vec<usize>,
    /// Columns of the file that are read, ascending; the other two index into these.
    pub projection: Vec<usize>,
}

impl ArrowLayout {
    /// Finds the needed columns in a file's schema and checks their types.
    pub(super) fn new(path: &str, schema: &Schema, plan: &ReadPlan) -> Result<ArrowLayout, SourceError> {
        let (names, slots) = plan.columns();
        let mut found = Vec::with_capacity(names.len());
        for name in &names {
            found.push(find(path, schema, name)?);
        }
        check_time(path, schema.field(found[0]).data_type(), plan)?;
        for (field, slot) in plan.fields.iter().zip(&slots) {
            let data_type = schema.field(found[*slot]).data_type();
            if !fits(data_type, field.kind) {
                return Err(SourceError::ColumnType {
                    path: path.to_owned(),
                    column: field.name.clone(),
                    expected: field.kind.name(),
                    found: data_type.to_string(),
                });
            }
        }
        let mut projection = found.clone();
        projection.sort_unstable();
        let read = |slot: usize| projection.partition_point(|index| *index < found[slot]);
        Ok(ArrowLayout { time: read(0), fields: slots.iter().map(|slot| read(*slot)).collect(), projection })
    }
}

/// The index of the only column called `name`.
pub(super) fn find(path: &str, schema: &Schema, name: &str) -> Result<usize, SourceError> {
    let mut found = schema.fields().iter().enumerate().filter(|(_, field)| field.name() == name);
    let Some((index, _)) = found.next() else {
        let present: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        return Err(SourceError::missing(path, name, &present));
    };
    if found.next().is_some() {
        return Err(SourceError::DuplicateColumn { path: path.to_owned(), column: name.to_owned() });
    }
    Ok(index)
}

/// The field type that a column of `data_type` has by itself: `Ok(None)` if it holds nothing but nulls.
pub(super) fn natural_type(data_type: &DataType) -> Result<Option<FieldType>, ()> {
    Ok(Some(match data_type {
        DataType::Null => return Ok(None),
        DataType::Boolean => FieldType::Bool,
        DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => FieldType::F64,
        integer if integer.is_integer() => FieldType::I64,
        text_or_date if fits(text_or_date, FieldType::String) => FieldType::String,
        _ => return Err(()),
    }))
}

/// Whether a column of `data_type` can be read as `kind`.
pub(super) fn fits(data_type: &DataType, kind: FieldType) -> bool {
    if *data_type == DataType::Null {
        return true;
    }
    let integer = data_type.is_integer();
    match kind {
        FieldType::I64 => integer || is_date(data_type),
        FieldType::F64 => {
            integer
                || matches!(
                    data_type,
                    DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Decimal128(..)
                )
        }
        FieldType::Bool => *data_type == DataType::Boolean,
        FieldType::String => integer || is_text(data_type) || is_date(data_type) || *data_type == DataType::Boolean,
    }
}

/// Whether times can be read from a column of `data_type`.
pub(super) fn check_time(path: &str, data_type: &DataType, plan: &ReadPlan) -> Result<(), SourceError> {
    if is_date(data_type) || is_text(data_type) {
        return Ok(());
    }
    let (path, column) = (path.to_owned(), plan.time.clone());
    match (data_type.is_integer(), plan.time_unit) {
        (true, Some(_)) => Ok(()),
        (true, None) => {
            let found = format!("of type {data_type}");
            Err(SourceError::TimeUnit { path, place: Place::Row(1), column, found })
        }
        (false, _) => Err(SourceError::ColumnType {
            path,
            column,
            expected: "a timestamp, date, text or integer time",
            found: data_type.to_string(),
        }),
    }
}
