//! The one check of received bytes. What passes is read without further checks, so all that readers rely on is here.
//!
//! That the values make sense is not checked, only that they are values.

use corefold_aggregator::spec::{Field, FieldType};
use corefold_aggregator::time::EventTime;
use flatbuffers::{InvalidFlatbuffer, VerifierOptions};

use super::batch_generated::corefold::batch as fb;
use super::columns::NULL_BOOL;
use super::encode::DICTIONARY_16_MAX;
use super::error::BatchError;
use super::view::{BatchView, slice};
use super::wire::{Stamp, field_position};
use super::{BATCH_ALIGNMENT, BATCH_COLUMNS_MAX, BATCH_ROWS_MAX, BATCH_SIZE_MAX};

/// How many rows a batch has, and up to when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchExtent {
    /// Rows.
    pub rows: u64,
    /// Highest event time; `None` without rows.
    pub time_max: Option<EventTime>,
}

/// Bytes that may be anything.
#[derive(Clone, Copy, Debug)]
pub struct UnverifiedBatch<'a> {
    bytes: &'a [u8],
}

impl<'a> UnverifiedBatch<'a> {
    /// These bytes, not looked at yet.
    pub fn new(bytes: &'a [u8]) -> UnverifiedBatch<'a> {
        UnverifiedBatch { bytes }
    }

    /// The stream fingerprint that the bytes claim; `None` if they cannot be a batch. Not checked in any way.
    pub fn fingerprint(&self) -> Option<u64> {
        let at = self.field(fb::Batch::VT_FINGERPRINT)?;
        self.bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// The stamp that the bytes claim; `None` if they cannot be a batch. Not checked in any way.
    pub fn stamp(&self) -> Option<Stamp> {
        let at = self.field(fb::Batch::VT_STAMP)?;
        let bytes: [u8; size_of::<fb::Stamp>()] = *self.bytes.get(at..)?.first_chunk()?;
        Some(Stamp::from_wire(&fb::Stamp(bytes)))
    }

    /// Rows and highest event time that the bytes claim; `None` if they cannot be a batch. Not checked in any way.
    pub fn extent(&self) -> Option<BatchExtent> {
        let word = |entry| {
            let at = self.field(entry)?;
            self.bytes.get(at..)?.first_chunk().map(|bytes| i64::from_le_bytes(*bytes))
        };
        let rows = match self.field(fb::Batch::VT_ROWS) {
            // FlatBuffers leave out a field that has its default.
            None => 0,
            Some(at) => u32::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?),
        };
        let time_max = if rows == 0 { None } else { Some(EventTime(word(fb::Batch::VT_TIME_MAX).unwrap_or(0))) };
        Some(BatchExtent { rows: u64::from(rows), time_max })
    }

    fn field(&self, entry: u16) -> Option<usize> {
        let root: [u8; 4] = *self.bytes.first_chunk()?;
        field_position(self.bytes, u32::from_le_bytes(root) as usize, entry)
    }

    /// Checks that the bytes are a batch of the stream with this fingerprint and these fields.
    pub fn verify(self, fingerprint: u64, fields: &[Field]) -> Result<BatchView<'a>, BatchError> {
        let batch = self.read_tables()?;
        if batch.fingerprint() != fingerprint {
            return Err(BatchError::Fingerprint { expected: fingerprint, found: batch.fingerprint() });
        }
        let rows = batch.rows() as usize;
        if rows > BATCH_ROWS_MAX {
            return Err(BatchError::TooManyRows { rows, max: BATCH_ROWS_MAX });
        }
        check_stamp(&batch)?;
        check_times(&batch, rows)?;
        let columns = batch.columns();
        if columns.len() != fields.len() {
            return Err(BatchError::ColumnCount { expected: fields.len(), found: columns.len() });
        }
        for (field, column) in fields.iter().zip(columns) {
            ColumnCheck { field, rows }.check(&column)?;
        }
        check_part(&batch, rows)?;
        Ok(BatchView { batch })
    }

    /// Checks what FlatBuffers know of: that all references stay within the bytes, and that text is UTF-8.
    pub(super) fn read_tables(self) -> Result<fb::Batch<'a>, BatchError> {
        let size = self.bytes.len();
        if size > BATCH_SIZE_MAX {
            return Err(BatchError::TooLarge { size, max: BATCH_SIZE_MAX });
        }
        if size < BATCH_ALIGNMENT || !fb::batch_buffer_has_identifier(self.bytes) {
            return Err(BatchError::NotABatch { size });
        }
        if self.bytes.as_ptr().align_offset(BATCH_ALIGNMENT) != 0 {
            return Err(BatchError::Misaligned { alignment: BATCH_ALIGNMENT });
        }
        let limits = VerifierOptions {
            // Batch, column, data.
            max_depth: 3,
            // Not the stream's own number, or a batch of another stream would seem broken instead of foreign.
            max_tables: 1 + 2 * BATCH_COLUMNS_MAX,
            // A little more than every byte once: tables of one shape share a description of theirs.
            max_apparent_size: 2 * size + 4096,
            ignore_missing_null_terminator: true,
        };
        fb::root_as_batch_with_opts(&limits, self.bytes).map_err(malformed)
    }
}

fn malformed(error: InvalidFlatbuffer) -> BatchError {
    match error {
        InvalidFlatbuffer::Utf8Error { error, range, .. } => {
            BatchError::InvalidUtf8 { start: range.start, end: range.end, what: error }
        }
        InvalidFlatbuffer::TooManyTables => {
            BatchError::Malformed { what: format!("it has more than {BATCH_COLUMNS_MAX} columns") }
        }
        error => {
            let text = error.to_string();
            let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            BatchError::Malformed { what: lines.join(" ") }
        }
    }
}

fn check_stamp(batch: &fb::Batch<'_>) -> Result<(), BatchError> {
    let stamp = Stamp::from_wire(batch.stamp());
    if let Some(what) = stamp.fault() {
        return Err(BatchError::Stamp { what });
    }
    if stamp.parts > 1 && batch.row_numbers().is_none() {
        return Err(BatchError::Stamp { what: "it says that the batch is a part, but there are no row numbers" });
    }
    Ok(())
}

fn check_times(batch: &fb::Batch<'_>, rows: usize) -> Result<(), BatchError> {
    let (announced_min, announced_max) = (batch.time_min(), batch.time_max());
    let base = i128::from(announced_min);
    let (found, min, max) = match (batch.time_offsets16(), batch.time_offsets(), batch.times()) {
        (Some(offsets), None, None) => {
            let (min, max) = min_max(slice(offsets), (u16::MAX, u16::MIN));
            (offsets.len(), base + i128::from(min), base + i128::from(max))
        }
        (None, Some(offsets), None) => {
            let (min, max) = min_max(slice(offsets), (u32::MAX, u32::MIN));
            (offsets.len(), base + i128::from(min), base + i128::from(max))
        }
        (None, None, Some(times)) => {
            let (min, max) = min_max(slice(times), (i64::MAX, i64::MIN));
            (times.len(), i128::from(min), i128::from(max))
        }
        (None, None, None) => return Err(BatchError::TimeForm { found: "none" }),
        _ => return Err(BatchError::TimeForm { found: "several" }),
    };
    check_length(rows, found, || "times".to_owned())?;
    let (min, max) = match rows {
        0 => (i128::from(EventTime::MAX.0), i128::from(EventTime::MIN.0)),
        _ => (min, max),
    };
    if (i128::from(announced_min), i128::from(announced_max)) != (min, max) {
        return Err(BatchError::TimeRange { announced_min, announced_max, min, max });
    }
    for micros in [announced_min, announced_max] {
        if rows > 0 && !EventTime(micros).is_valid() {
            return Err(BatchError::InvalidTime { micros });
        }
    }
    Ok(())
}

fn check_part(batch: &fb::Batch<'_>, rows: usize) -> Result<(), BatchError> {
    let Some(numbers) = batch.row_numbers() else {
        return match batch.high_waters() {
            Some(_) => Err(BatchError::Part { what: "it has high waters without row numbers" }),
            None => Ok(()),
        };
    };
    let numbers: &[u32] = slice(numbers);
    check_length(rows, numbers.len(), || "row numbers".to_owned())?;
    if !is_sorted(numbers, |lower, upper| lower < upper) {
        return Err(BatchError::Part { what: "its row numbers do not increase" });
    }
    if numbers.last().is_some_and(|&last| last as usize >= BATCH_ROWS_MAX) {
        return Err(BatchError::Part { what: "its last row number is beyond the rows that a batch may have" });
    }
    let Some(high_waters) = batch.high_waters() else { return Ok(()) };
    let high_waters: &[i64] = slice(high_waters);
    check_length(rows, high_waters.len(), || "high waters".to_owned())?;
    if !is_sorted(high_waters, |lower, upper| lower <= upper) {
        return Err(BatchError::Part { what: "its high waters fall" });
    }
    // Sorted: behind those that stand for nothing, the first and the last bound all others.
    let first = high_waters.iter().find(|&&high| high != i64::MIN);
    if ![first, high_waters.last()].into_iter().flatten().all(|&high| high == i64::MIN || EventTime(high).is_valid()) {
        return Err(BatchError::Part { what: "it has a high water outside the years 1 to 9999" });
    }
    Ok(())
}

/// What one column must be.
struct ColumnCheck<'f> {
    field: &'f Field,
    rows: usize,
}

impl ColumnCheck<'_> {
    fn check(&self, column: &fb::Column<'_>) -> Result<(), BatchError> {
        if kind_of(column.data_type()) != Some(self.field.kind) {
            return Err(BatchError::ColumnType {
                column: self.field.name.clone(),
                expected: self.field.kind.name(),
                found: type_name(column.data_type()),
            });
        }
        if let Some(data) = column.data_as_i64_column() {
            self.check_length("values", self.rows, data.values().len())?;
            self.check_validity(data.validity())
        } else if let Some(data) = column.data_as_i64_offsets_column() {
            self.check_offsets_column(&data)
        } else if let Some(data) = column.data_as_f64_column() {
            self.check_length("values", self.rows, data.values().len())
        } else if let Some(data) = column.data_as_bool_column() {
            self.check_bool(slice(data.values()))
        } else if let Some(data) = column.data_as_string_column() {
            self.check_str(&data)
        } else {
            Err(self.form("its data is missing"))
        }
    }

    /// With the base that it demands, no sum leaves the range, whatever the offsets.
    fn check_offsets_column(&self, data: &fb::I64OffsetsColumn<'_>) -> Result<(), BatchError> {
        let (found, highest) = match (data.offsets16(), data.offsets32()) {
            (Some(offsets), None) => (offsets.len(), u16::MAX.into()),
            (None, Some(offsets)) => (offsets.len(), u32::MAX.into()),
            (Some(_), Some(_)) => return Err(self.form("it has both 16-bit and 32-bit offsets")),
            (None, None) => return Err(self.form("it has no offsets")),
        };
        self.check_length("offsets", self.rows, found)?;
        if data.base().checked_add(highest).is_none() {
            return Err(self.form("the sum of its base and the greatest offset is no 64-bit integer"));
        }
        self.check_validity(data.validity())
    }

    fn check_validity(&self, validity: Option<flatbuffers::Vector<'_, u8>>) -> Result<(), BatchError> {
        let Some(validity) = validity else { return Ok(()) };
        let validity: &[u8] = slice(validity);
        self.check_length("validity bytes", self.rows.div_ceil(8), validity.len())?;
        let unused = self.rows.next_multiple_of(8) - self.rows;
        if validity.last().is_some_and(|&last| last.leading_zeros() < unused as u32) {
            return Err(self.form("its validity has bits behind the last row"));
        }
        Ok(())
    }

    fn check_bool(&self, values: &[u8]) -> Result<(), BatchError> {
        self.check_length("values", self.rows, values.len())?;
        let (_, max) = min_max(values, (u8::MAX, u8::MIN));
        if max <= NULL_BOOL {
            return Ok(());
        }
        let (row, value) = first(values, |value| value > NULL_BOOL);
        Err(self.value(row, format!("the value {value} is none of 0 (false), 1 (true) and 2 (null)")))
    }

    fn check_str(&self, data: &fb::StringColumn<'_>) -> Result<(), BatchError> {
        let offsets: &[u32] = slice(data.offsets());
        self.check_offsets(offsets, data.text())?;
        let entries = offsets.len() - 1;
        match (data.indices16(), data.indices32()) {
            (Some(indices), None) => {
                let indices: &[u16] = slice(indices);
                self.check_length("indices", self.rows, indices.len())?;
                // With more entries no 16-bit number could say null.
                if entries > DICTIONARY_16_MAX {
                    return Err(self.form("it has 16-bit indices into a dictionary of more than 65,535 entries"));
                }
                match min_max(indices, (u16::MAX, u16::MIN)) {
                    (_, max) if usize::from(max) <= entries => Ok(()),
                    _ => {
                        let (row, index) = first(indices, |index| usize::from(index) > entries);
                        Err(self.beyond(row, index.into(), entries))
                    }
                }
            }
            (None, Some(indices)) => {
                let indices: &[u32] = slice(indices);
                self.check_length("indices", self.rows, indices.len())?;
                match min_max(indices, (u32::MAX, u32::MIN)) {
                    (_, max) if max as usize <= entries => Ok(()),
                    _ => {
                        let (row, index) = first(indices, |index| index as usize > entries);
                        Err(self.beyond(row, index, entries))
                    }
                }
            }
            (Some(_), Some(_)) => Err(self.form("it has both 16-bit and 32-bit indices")),
            (None, None) => Err(self.form("it has no indices")),
        }
    }

    /// Offsets must start at 0, never fall, end with the text, and cut no character.
    fn check_offsets(&self, offsets: &[u32], text: &str) -> Result<(), BatchError> {
        let refuse = |entry, what| Err(BatchError::Dictionary { column: self.field.name.clone(), entry, what });
        let (Some(&start), Some(&end)) = (offsets.first(), offsets.last()) else {
            return refuse(0, "there are no offsets; a dictionary without entries has one");
        };
        // A batch has no use for more, and numbers of entries must fit u32.
        if offsets.len() - 1 > BATCH_ROWS_MAX {
            return refuse(BATCH_ROWS_MAX, "the dictionary has more entries than a batch may have rows");
        }
        if start != 0 {
            return refuse(0, "the first entry does not start at byte 0 of the text");
        }
        if end as usize != text.len() {
            return refuse(offsets.len() - 1, "the last entry does not end where the text ends");
        }
        if !is_sorted(offsets, |lower, upper| lower <= upper) {
            let entry = offsets.windows(2).position(|pair| pair[0] > pair[1]).unwrap_or(0);
            return refuse(entry, "it ends before it starts");
        }
        // Ascii text has a boundary everywhere; looking costs less than asking at every entry.
        if !text.is_ascii()
            && let Some(entry) = offsets.iter().position(|&offset| !text.is_char_boundary(offset as usize))
        {
            return refuse(entry, "it starts within a character");
        }
        Ok(())
    }

    fn check_length(&self, what: &str, expected: usize, found: usize) -> Result<(), BatchError> {
        check_length(expected, found, || format!("{what} of column `{}`", self.field.name))
    }

    fn beyond(&self, row: usize, index: u32, entries: usize) -> BatchError {
        self.value(row, format!("index {index} is beyond the dictionary, which has {entries} entries"))
    }

    fn value(&self, row: usize, what: String) -> BatchError {
        BatchError::Value { column: self.field.name.clone(), row, what }
    }

    fn form(&self, what: &'static str) -> BatchError {
        BatchError::Form { column: self.field.name.clone(), what }
    }
}

/// The type of the fields whose columns have this form, of which there may be several.
fn kind_of(wire: fb::ColumnData) -> Option<FieldType> {
    match wire {
        fb::ColumnData::I64Column | fb::ColumnData::I64OffsetsColumn => Some(FieldType::I64),
        fb::ColumnData::F64Column => Some(FieldType::F64),
        fb::ColumnData::BoolColumn => Some(FieldType::Bool),
        fb::ColumnData::StringColumn => Some(FieldType::String),
        _ => None,
    }
}

fn type_name(wire: fb::ColumnData) -> &'static str {
    kind_of(wire).map_or("that this engine does not know", FieldType::name)
}

fn check_length(expected: usize, found: usize, what: impl Fn() -> String) -> Result<(), BatchError> {
    if expected == found { Ok(()) } else { Err(BatchError::Length { what: what(), expected, found }) }
}

// The passes below have no early exit and no branch, so that they become vector instructions.

fn min_max<T: Copy + Ord>(values: &[T], nothing: (T, T)) -> (T, T) {
    values.iter().fold(nothing, |(min, max), &value| (min.min(value), max.max(value)))
}

fn is_sorted<T: Copy>(values: &[T], ordered: impl Fn(T, T) -> bool) -> bool {
    values.iter().zip(values.iter().skip(1)).fold(true, |all, (&lower, &upper)| all & ordered(lower, upper))
}

/// The first value that is bad, when one is known to be.
fn first<T: Copy>(values: &[T], bad: impl Fn(T) -> bool) -> (usize, T) {
    let row = values.iter().position(|&value| bad(value)).expect("the maximum was bad");
    (row, values[row])
}
