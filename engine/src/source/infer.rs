//! Which types the needed columns have: typed files say it, of text files a sample is looked at.
//!
//! Parsing values into columns is not here. A value behind the sample that contradicts it is an error there.

use corefold_aggregator::spec::{Field, FieldType};

use super::error::{Place, SourceError, quoted};
use super::input::{Format, Input};
use super::plan::{Nulls, OnError, ReadPlan, distinct};
use super::text_chunks::Limits;
use super::times::{self, TimeFault, TimeUnit};
use super::tokens::{Kind, Span, Tokens, place_of, row_error};
use super::values::{TIME_EXPECTED, ValueFault, parse_bool, parse_f64, parse_i64};
use super::{Layout, arrow, csv, ndjson, open_text, parquet, schema};

/// Rows of text looked at.
const SAMPLE_ROWS_MAX: usize = 100_000;

/// Bytes of text looked at, but for the last chunk.
const SAMPLE_SIZE_MAX: u64 = 16 << 20;

/// A column that somebody needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WantedColumn {
    /// Its name.
    pub name: String,
    /// Its type, if the user said it.
    pub declared: Option<FieldType>,
    /// Its type if all of the sample is null.
    pub hint: FieldType,
}

/// What the time column holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeKind {
    /// RFC 3339 text.
    Text,
    /// Integers that count this.
    Integer(TimeUnit),
    /// Timestamps or dates of a typed file.
    Typed,
    /// There was no row to look at.
    Unknown,
}

/// What was found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inferred {
    /// The wanted columns with their types, in their order.
    pub fields: Vec<Field>,
    /// What the time column holds in the first input that has rows.
    pub time: TimeKind,
    /// Per field: the first value that is no number, where others of the sample are. It made the column text.
    pub not_numbers: Vec<Option<NotANumber>>,
}

/// A value that is no number, in a column where others are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotANumber {
    /// The input.
    pub path: String,
    /// Where in it.
    pub place: Place,
    /// The value, shortened and quoted.
    pub found: String,
}

impl NotANumber {
    /// The error for whoever needs numbers in `column`.
    pub fn into_error(self, column: &str) -> SourceError {
        SourceError::Value {
            path: self.path,
            place: self.place,
            column: column.to_owned(),
            expected: "a number",
            found: self.found.into(),
            advice: format!(
                "`--null` takes texts that mean null, `--field {column}:f64 --on-error skip` leaves such rows out"
            )
            .into(),
        }
    }
}

/// Finds the types of `wanted`, undeclared ones by looking at `inputs`.
///
/// Of `plan` all but the fields counts. Text columns get the first of i64, f64, bool and string that all non-null
/// values of the sample fit; integers beyond i64 make a column string, since a double would merge neighbours.
/// Leading zeros do not: such codes are to be declared.
/// Missing columns, and integer times without a unit, are errors already here. What is read from a pipe is kept
/// and read again when the input is opened.
pub fn infer(inputs: &[Input], wanted: &[WantedColumn], plan: &ReadPlan) -> Result<Inferred, SourceError> {
    let mut guesses: Vec<Option<FieldType>> = vec![None; wanted.len()];
    let mut time = TimeKind::Unknown;
    let mut sample = Sample::new(plan, wanted);
    for input in inputs {
        let kind = match input.format {
            Format::Csv | Format::Ndjson if sample.is_full() => continue,
            Format::Csv | Format::Ndjson => sample.look_at(input)?,
            Format::Arrow => typed(input, arrow::schema(input)?.as_ref(), wanted, plan, &mut guesses)?,
            Format::Parquet => typed(input, parquet::schema(input)?.as_ref(), wanted, plan, &mut guesses)?,
        };
        if time == TimeKind::Unknown {
            time = kind;
        }
    }
    let fields = wanted
        .iter()
        .zip(guesses.iter().zip(&sample.slots))
        .map(|(column, (typed, slot))| {
            let kind = column.declared.or(join(*typed, sample.guesses[*slot].kind())).unwrap_or(column.hint);
            Field { name: column.name.clone(), kind }
        })
        .collect();
    let not_numbers = wanted.iter().zip(&sample.slots).map(|(column, slot)| {
        let mixed = column.declared.is_none() && sample.guesses[*slot].numbers;
        sample.not_numbers[*slot].clone().filter(|_| mixed)
    });
    let not_numbers = not_numbers.collect();
    Ok(Inferred { fields, time, not_numbers })
}

/// The type that holds values of both.
fn join(one: Option<FieldType>, other: Option<FieldType>) -> Option<FieldType> {
    match (one, other) {
        (None, kind) | (kind, None) => kind,
        (Some(one), Some(other)) if one == other => Some(one),
        (Some(FieldType::I64 | FieldType::F64), Some(FieldType::I64 | FieldType::F64)) => Some(FieldType::F64),
        _ => Some(FieldType::String),
    }
}

/// Takes the types from a typed file's schema.
fn typed(
    input: &Input,
    found: &arrow_schema::Schema,
    wanted: &[WantedColumn],
    plan: &ReadPlan,
    guesses: &mut [Option<FieldType>],
) -> Result<TimeKind, SourceError> {
    let path = &input.name;
    let time = found.field(schema::find(path, found, &plan.time)?).data_type();
    schema::check_time(path, time, plan)?;
    for (column, guess) in wanted.iter().zip(guesses) {
        let data_type = found.field(schema::find(path, found, &column.name)?).data_type();
        let natural = schema::natural_type(data_type).map_err(|()| SourceError::ColumnType {
            path: path.clone(),
            column: column.name.clone(),
            expected: "text, a number, a truth value or a time",
            found: data_type.to_string(),
        })?;
        *guess = join(*guess, natural);
    }
    Ok(match plan.time_unit {
        Some(unit) if time.is_integer() => TimeKind::Integer(unit),
        _ if super::arrays::is_text(time) => TimeKind::Text,
        _ => TimeKind::Typed,
    })
}

/// The types that all values of a column so far fit.
#[derive(Clone, Copy)]
struct Guess {
    seen: bool,
    present: bool,
    /// Whether any value is a number.
    numbers: bool,
    i64: bool,
    f64: bool,
    bool: bool,
}

impl Guess {
    fn kind(self) -> Option<FieldType> {
        if !self.seen {
            return None;
        }
        Some(match self {
            Guess { i64: true, .. } => FieldType::I64,
            Guess { f64: true, .. } => FieldType::F64,
            Guess { bool: true, .. } => FieldType::Bool,
            _ => FieldType::String,
        })
    }

    fn look_at(&mut self, kind: Kind, text: &[u8], format: Format) {
        self.seen = true;
        // Quotes make a JSON value text; in CSV they mean nothing.
        if kind == Kind::Nested || (format == Format::Ndjson && kind != Kind::Plain) {
            (self.i64, self.f64, self.bool) = (false, false, false);
            return;
        }
        let text = text.trim_ascii();
        if self.i64 || self.f64 {
            match parse_i64(text) {
                Ok(_) => {}
                Err(ValueFault::OutOfRange) => (self.i64, self.f64) = (false, false),
                Err(_) => {
                    self.i64 = false;
                    self.f64 &= parse_f64(text).is_ok();
                }
            }
        }
        self.numbers = self.numbers || parse_f64(text).is_ok();
        self.bool = self.bool && parse_bool(text).is_ok();
    }

    const fn is_numeric(self) -> bool {
        self.i64 || self.f64
    }
}

/// What has been seen of the text inputs.
struct Sample<'a> {
    plan: &'a ReadPlan,
    names: Vec<String>,
    slots: Vec<usize>,
    /// Columns that NDJSON rows may lack without a typing error being likely.
    declared: Vec<bool>,
    guesses: Vec<Guess>,
    /// Per column, the value for which it is not one of numbers.
    not_numbers: Vec<Option<NotANumber>>,
    nulls: Nulls,
    rows: usize,
    bytes: u64,
}

impl<'a> Sample<'a> {
    fn new(plan: &'a ReadPlan, wanted: &[WantedColumn]) -> Sample<'a> {
        let (names, slots) = distinct(&plan.time, wanted.iter().map(|column| column.name.as_str()));
        let mut declared = vec![false; names.len()];
        for (column, slot) in wanted.iter().zip(&slots) {
            declared[*slot] |= column.declared.is_some();
        }
        let guess = Guess { seen: false, present: false, numbers: false, i64: true, f64: true, bool: true };
        let guesses = vec![guess; names.len()];
        let not_numbers = vec![None; names.len()];
        let nulls = Nulls::new(&plan.nulls);
        Sample { plan, names, slots, declared, guesses, not_numbers, nulls, rows: 0, bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.rows >= SAMPLE_ROWS_MAX || self.bytes >= SAMPLE_SIZE_MAX
    }

    fn look_at(&mut self, input: &Input) -> Result<TimeKind, SourceError> {
        // The header is matched against all wanted columns, so that a missing one is found at once.
        let mut plan = self.plan.clone();
        plan.fields = self.names.iter().map(|name| Field { name: name.clone(), kind: FieldType::String }).collect();
        let (lane, mut chunks) = open_text(input, &plan, input.peek_bytes()?, Limits::new(plan.rows_max()))?;
        let stop = plan.on_error == OnError::Fail;
        let mut tokens = Tokens::default();
        let mut text = Vec::new();
        let mut time = TimeKind::Unknown;
        let mut rows = 0;
        let mut keys = Vec::new();
        while !self.is_full() {
            let start = chunks.place();
            if !chunks.next(plan.rows_max().min(SAMPLE_ROWS_MAX - self.rows), &mut text)? {
                break;
            }
            tokens.clear(self.names.len());
            let fields = match &lane.layout {
                Layout::Csv(layout) => {
                    csv::tokenize(layout, &text, stop, &mut tokens);
                    layout.width()
                }
                _ => {
                    ndjson::tokenize(&self.names, &text, stop, &mut tokens);
                    0
                }
            };
            if let (true, Some((at, fault))) = (stop, tokens.first_fault) {
                return Err(row_error(&input.name, place_of(start, &text, at as usize), fault, fields));
            }
            rows += tokens.rows();
            self.rows += tokens.rows();
            self.bytes += text.len() as u64;
            self.look_at_values(input, start, &tokens, &text);
            if input.format == Format::Ndjson && self.guesses.iter().any(|guess| !guess.present) {
                self.look_for_keys(&text, &mut keys);
            }
            if time == TimeKind::Unknown {
                time = self.time_kind(input, start, &tokens, &text)?;
            }
        }
        if input.format == Format::Ndjson && rows > 0 {
            let missing =
                self.guesses.iter().zip(&self.declared).position(|(guess, declared)| !guess.present && !declared);
            if let Some(slot) = missing {
                return Err(SourceError::missing(&input.name, &self.names[slot], &keys));
            }
        }
        Ok(time)
    }

    fn is_null(&self, span: Span, text: &[u8]) -> bool {
        span.kind() == Kind::Null || (span.kind() != Kind::Nested && (text.is_empty() || self.nulls.contains(text)))
    }

    fn look_at_values(&mut self, input: &Input, start: Place, tokens: &Tokens, chunk: &[u8]) {
        for (row, at) in tokens.spans.chunks_exact(tokens.width).zip(&tokens.row_starts) {
            for (slot, span) in row.iter().enumerate() {
                let text = tokens.text(chunk, *span);
                if self.is_null(*span, text) {
                    continue;
                }
                let guess = &mut self.guesses[slot];
                let was_numeric = guess.is_numeric();
                guess.present = true;
                guess.look_at(span.kind(), text, input.format);
                if was_numeric && !guess.is_numeric() {
                    let place = place_of(start, chunk, *at as usize);
                    self.not_numbers[slot] = Some(NotANumber { path: input.name.clone(), place, found: quoted(text) });
                }
            }
        }
    }

    /// A key with nothing but nulls is there all the same; a key in no row is probably misspelt.
    fn look_for_keys(&mut self, text: &[u8], keys: &mut Vec<String>) {
        ndjson::collect_keys(text, keys);
        for (name, guess) in self.names.iter().zip(&mut self.guesses) {
            guess.present |= keys.contains(name);
        }
    }

    fn time_kind(&self, input: &Input, start: Place, tokens: &Tokens, chunk: &[u8]) -> Result<TimeKind, SourceError> {
        for (row, span) in tokens.spans.chunks_exact(tokens.width).zip(&tokens.row_starts).map(|(row, at)| (at, row[0]))
        {
            let text = tokens.text(chunk, span);
            if self.is_null(span, text) {
                continue;
            }
            let text = text.trim_ascii();
            let place = || place_of(start, chunk, *row as usize);
            let (path, column) = (input.name.clone(), self.plan.time.clone());
            return match (times::parse(text, None), self.plan.time_unit) {
                (Ok(_), _) => Ok(TimeKind::Text),
                (Err(TimeFault::NeedsUnit), Some(unit)) => Ok(TimeKind::Integer(unit)),
                (Err(TimeFault::NeedsUnit), None) => {
                    Err(SourceError::TimeUnit { path, place: place(), column, found: quoted(text) })
                }
                (Err(_), _) if self.plan.on_error == OnError::Skip => continue,
                (Err(_), _) => Err(SourceError::Value {
                    path,
                    place: place(),
                    column,
                    expected: TIME_EXPECTED,
                    found: quoted(text).into(),
                    advice: "`--on-error skip` leaves such rows out".into(),
                }),
            };
        }
        Ok(TimeKind::Unknown)
    }
}
