//! What is read from every input of a stream: columns, types, nulls, and what happens to bad rows.
//!
//! Which inputs there are is not here.

use corefold_aggregator::spec::Field;

use super::times::TimeUnit;

/// Rows of a batch unless told otherwise, and the most there may be.
pub const BATCH_ROWS_MAX: usize = 65_536;

/// What happens to a row that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnError {
    /// The run ends with an error that names it.
    #[default]
    Fail,
    /// It is left out and counted as rejected.
    Skip,
}

/// What is read from every input of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadPlan {
    /// The time column.
    pub time: String,
    /// What integer times count; typed timestamps and text need none.
    pub time_unit: Option<TimeUnit>,
    /// The needed fields in batch column order; one may be the time column again.
    pub fields: Vec<Field>,
    /// Texts that stand for null, quoted or not, in every column. The empty text is null without being named here:
    /// unquoted in every column, quoted (`""` in CSV and JSON) in all but string columns.
    pub nulls: Vec<String>,
    /// What happens to a row that cannot be read.
    pub on_error: OnError,
    /// Field delimiter of CSV; a comma (a tab in `.tsv` files) if not given.
    pub delimiter: Option<u8>,
    /// Most rows of a batch, 1 to [`BATCH_ROWS_MAX`].
    pub batch_rows: usize,
}

impl ReadPlan {
    /// A plan with no fields, nulls or options: times in `time` only.
    pub fn new(time: &str) -> ReadPlan {
        ReadPlan {
            time: time.to_owned(),
            time_unit: None,
            fields: Vec::new(),
            nulls: Vec::new(),
            on_error: OnError::Fail,
            delimiter: None,
            batch_rows: BATCH_ROWS_MAX,
        }
    }

    /// The different columns needed, time first, and for each field its index among them.
    pub(super) fn columns(&self) -> (Vec<String>, Vec<usize>) {
        distinct(&self.time, self.fields.iter().map(|field| field.name.as_str()))
    }

    /// Rows per batch, within bounds.
    pub(super) fn rows_max(&self) -> usize {
        self.batch_rows.clamp(1, BATCH_ROWS_MAX)
    }
}

/// The different names of `time` and `fields`, time first, and for each field its index among them.
pub(super) fn distinct<'a>(time: &str, fields: impl Iterator<Item = &'a str>) -> (Vec<String>, Vec<usize>) {
    let mut names = vec![time.to_owned()];
    let slots = fields
        .map(|field| {
            names.iter().position(|name| name == field).unwrap_or_else(|| {
                names.push(field.to_owned());
                names.len() - 1
            })
        })
        .collect();
    (names, slots)
}

/// The texts that stand for null, ready for a look-up per value.
#[derive(Clone, Default)]
pub(super) struct Nulls {
    texts: Vec<Box<[u8]>>,
    /// Bit `n`: some text is `n` bytes long (63: or longer).
    lengths: u64,
}

impl Nulls {
    pub(super) fn new(texts: &[String]) -> Nulls {
        let lengths = texts.iter().fold(0, |bits, text| bits | 1 << text.len().min(63));
        Nulls { texts: texts.iter().map(|text| text.as_bytes().into()).collect(), lengths }
    }

    #[inline]
    pub(super) fn contains(&self, value: &[u8]) -> bool {
        self.lengths >> value.len().min(63) & 1 == 1 && self.texts.iter().any(|text| **text == *value)
    }
}
