//! Why a batch cannot be written or is refused. Deciding it is not here.

/// Why columns cannot become a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// Too many rows.
    #[error("a batch of {rows} rows exceeds the limit of {max}; make batches smaller")]
    TooManyRows {
        /// Rows given.
        rows: usize,
        /// The limit, [`super::BATCH_ROWS_MAX`].
        max: usize,
    },
    /// Too many columns.
    #[error("a batch of {columns} columns exceeds the limit of {max}")]
    TooManyColumns {
        /// Columns given.
        columns: usize,
        /// The limit, [`super::BATCH_COLUMNS_MAX`].
        max: usize,
    },
    /// Too many distinct texts in one column, which happens only when rows were taken back.
    #[error("column {column} of the batch has {entries} distinct texts, more than the {max} rows a batch may have")]
    TooManyEntries {
        /// Which column, from 0.
        column: usize,
        /// Entries of its dictionary.
        entries: usize,
        /// The limit, [`super::BATCH_ROWS_MAX`].
        max: usize,
    },
    /// Too many bytes.
    #[error("a batch of more than {max} bytes cannot be encoded; make batches smaller")]
    TooLarge {
        /// The limit, [`super::BATCH_SIZE_MAX`].
        max: usize,
    },
    /// A time that no event may have.
    #[error("an event time of {micros}us since the epoch is outside the years 1 to 9999")]
    InvalidTime {
        /// The earliest or latest time of the batch.
        micros: i64,
    },
}

/// Why received bytes are not a batch of the expected stream.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchError {
    /// The bytes do not start at a multiple of [`super::BATCH_ALIGNMENT`].
    #[error("the batch does not start at a multiple of {alignment} bytes in memory; copy it into aligned bytes first")]
    Misaligned {
        /// The multiple.
        alignment: usize,
    },
    /// Too many bytes.
    #[error("the batch has {size} bytes; the limit is {max}")]
    TooLarge {
        /// Bytes given.
        size: usize,
        /// The limit, [`super::BATCH_SIZE_MAX`].
        max: usize,
    },
    /// The file identifier is missing.
    #[error("these {size} bytes are not a batch: the identifier `CFB1` is missing at byte 4")]
    NotABatch {
        /// Bytes given.
        size: usize,
    },
    /// The FlatBuffer is broken.
    #[error("the batch is malformed: {what}")]
    Malformed {
        /// What the verifier found.
        what: String,
    },
    /// A dictionary is not UTF-8.
    #[error("the batch has a dictionary whose text, bytes {start}..{end} of the batch, is not valid UTF-8: {what}")]
    InvalidUtf8 {
        /// Where the text starts in the batch.
        start: usize,
        /// Where it ends.
        end: usize,
        /// What is wrong.
        what: std::str::Utf8Error,
    },
    /// The batch was made for another schema.
    #[error(
        "the batch carries fingerprint {found:#018x}, but the stream's is {expected:#018x}; \
         producer and engine must use the same stream name, time column and fields"
    )]
    Fingerprint {
        /// The stream's.
        expected: u64,
        /// The batch's.
        found: u64,
    },
    /// Too many rows.
    #[error("the batch has {rows} rows; the limit is {max}")]
    TooManyRows {
        /// Rows announced.
        rows: usize,
        /// The limit, [`super::BATCH_ROWS_MAX`].
        max: usize,
    },
    /// A field of the stamp contradicts another.
    #[error("the batch's stamp is wrong: {what}")]
    Stamp {
        /// What was expected.
        what: &'static str,
    },
    /// Other than one form of times.
    #[error("the batch must carry its times in one form, as offsets of 16 or 32 bits or in full, and carries {found}")]
    TimeForm {
        /// `several` or `none`.
        found: &'static str,
    },
    /// Announced and real time range differ.
    #[error(
        "the batch announces times from {announced_min}us to {announced_max}us, but its rows lie \
         between {min}us and {max}us"
    )]
    TimeRange {
        /// Announced earliest time.
        announced_min: i64,
        /// Announced latest time.
        announced_max: i64,
        /// Earliest time of the rows.
        min: i128,
        /// Latest time of the rows.
        max: i128,
    },
    /// A time that no event may have.
    #[error("the batch has an event time of {micros}us since the epoch, outside the years 1 to 9999")]
    InvalidTime {
        /// The earliest or latest time of the batch.
        micros: i64,
    },
    /// Other than one column for each field.
    #[error("the batch has {found} columns, but the stream has {expected} fields")]
    ColumnCount {
        /// Fields of the stream.
        expected: usize,
        /// Columns of the batch.
        found: usize,
    },
    /// A column of another type.
    #[error("column `{column}` of the batch is of type {found}; the stream's field is of type {expected}")]
    ColumnType {
        /// Name of the field.
        column: String,
        /// The field's type.
        expected: &'static str,
        /// The column's.
        found: &'static str,
    },
    /// A vector of another length than announced.
    #[error("{what} of the batch: {found} elements instead of the expected {expected}")]
    Length {
        /// Which vector.
        what: String,
        /// Length that follows from the number of rows.
        expected: usize,
        /// Length found.
        found: usize,
    },
    /// A value that its column's type does not have.
    #[error("column `{column}` of the batch, row {row}: {what}")]
    Value {
        /// Name of the field.
        column: String,
        /// Row in the batch, from 0.
        row: usize,
        /// What is wrong.
        what: String,
    },
    /// Offsets of a dictionary that are no partition of its text.
    #[error("the dictionary of column `{column}` of the batch, entry {entry}: {what}")]
    Dictionary {
        /// Name of the field.
        column: String,
        /// Entry, from 0.
        entry: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A column with bits where no rows are, or a string column with other than one form of indices.
    #[error("column `{column}` of the batch: {what}")]
    Form {
        /// Name of the field.
        column: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Row numbers or high waters contradict the rows.
    #[error("the batch is part of another, but {what}")]
    Part {
        /// What is wrong.
        what: &'static str,
    },
}
