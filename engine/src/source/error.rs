//! What can go wrong while inputs are found, opened, read and parsed, said so that a user can act on it.
//!
//! Bad data, bad usage and failed reads are different roads ([`SourceError::road`]). Turning them into exit
//! codes is not here; that is the command line's.

use std::fmt;
use std::io;

/// Longest piece of a bad value that an error quotes, in characters.
const QUOTED_CHARS_MAX: usize = 80;

/// Most column names that an error lists.
const LISTED_NAMES_MAX: usize = 40;

/// Which road an error belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Road {
    /// The request itself cannot be met: a glob without matches, an unknown format.
    Usage,
    /// The input's content is not what was expected.
    Data,
    /// The operating system refused to open or read.
    Io,
}

/// Where in an input something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Line of a text file, from 1.
    Line(u64),
    /// Byte of the uncompressed text, from 0; after a resume, when the lines before are not counted again.
    Byte(u64),
    /// Row of a columnar file, from 1.
    Row(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(line) => write!(f, "{line}"),
            Place::Byte(byte) => write!(f, "byte {byte}"),
            Place::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// Why an input cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A glob matches no file.
    #[error("no file matches `{pattern}`")]
    NoMatch {
        /// The glob as given.
        pattern: String,
    },
    /// A glob is malformed.
    #[error("`{pattern}` is not a valid glob: {what}")]
    BadGlob {
        /// The glob as given.
        pattern: String,
        /// What is wrong with it.
        what: String,
    },
    /// A directory was given as input.
    #[error("{path} is a directory; name the files in it with a glob, such as '{path}/*.csv'")]
    Directory {
        /// The directory.
        path: String,
    },
    /// The same input appears twice, so its rows would count twice.
    #[error("{path} is given twice, so its rows would be counted twice; name each input once")]
    GivenTwice {
        /// The input.
        path: String,
    },
    /// The format cannot be told from the name.
    #[error(
        "{path}: cannot tell the format from the name; known are {known}, each also with .gz or .zst; say it with \
         --format csv|ndjson|parquet|arrow"
    )]
    UnknownFormat {
        /// The input.
        path: String,
        /// The known extensions.
        known: &'static str,
    },
    /// A character that cannot delimit fields.
    #[error(
        "{delimiter:?} cannot be the CSV delimiter; take one ASCII character that is no quote or line end, such as ',' or ';'"
    )]
    Delimiter {
        /// The character.
        delimiter: char,
    },
    /// The format needs random access, which this input does not give.
    #[error("{path}: a Parquet file is read from its end, which {why} does not allow; {advice}")]
    NotSeekable {
        /// The input.
        path: String,
        /// What the input is.
        why: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A pipe was opened for the second time.
    #[error("{path} is a pipe and can be read only once")]
    ReadOnce {
        /// The input.
        path: String,
    },
    /// The operating system refused.
    #[error("{path}: cannot {operation}: {source}")]
    Io {
        /// The input.
        path: String,
        /// What was tried.
        operation: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// A compressed stream is cut off.
    #[error("{path}: the file ends in the middle of a {compression} stream; it was probably not copied in full")]
    Torn {
        /// The input.
        path: String,
        /// gzip or zstd.
        compression: &'static str,
    },
    /// A file's structure is damaged.
    #[error("{path}: damaged, or no {format} file: {what}")]
    Corrupt {
        /// The input.
        path: String,
        /// The format that was expected.
        format: &'static str,
        /// What the decoder says.
        what: String,
    },
    /// A CSV file without a header row.
    #[error("{path}: no header row; the first row of a CSV file names its columns")]
    NoHeader {
        /// The input.
        path: String,
    },
    /// A needed column is not there.
    #[error("{path}: no column called `{column}`{}; there are: {}", hint(.nearest), list(.present))]
    MissingColumn {
        /// The input.
        path: String,
        /// The column asked for.
        column: String,
        /// The columns there are.
        present: Vec<String>,
        /// The name most like it.
        nearest: Option<String>,
    },
    /// Two columns share a needed name.
    #[error("{path}: two columns are called `{column}`; rename one")]
    DuplicateColumn {
        /// The input.
        path: String,
        /// The name.
        column: String,
    },
    /// A typed file's column cannot be read as the declared type.
    #[error("{path}: column {column}: expected {expected}, but the file's type is {found}")]
    ColumnType {
        /// The input.
        path: String,
        /// The column.
        column: String,
        /// What was asked for.
        expected: &'static str,
        /// What the file has.
        found: String,
    },
    /// One value is not what its column should hold.
    #[error("{path}:{place}: column {column}: expected {expected}, found {found}{}", after_semicolon(.advice))]
    Value {
        /// The input.
        path: String,
        /// Where.
        place: Place,
        /// The column.
        column: String,
        /// What was expected.
        expected: &'static str,
        /// The value, shortened and quoted.
        found: Box<str>,
        /// What to do; may be empty.
        advice: Box<str>,
    },
    /// A text value is not UTF-8.
    #[error(
        "{path}:{place}: column {column}: invalid UTF-8 in {found}; convert the file to UTF-8 (for example with iconv)"
    )]
    Utf8 {
        /// The input.
        path: String,
        /// Where.
        place: Place,
        /// The column, or `header`.
        column: String,
        /// The value, with the bad bytes replaced.
        found: String,
    },
    /// An integer time, and nothing says what it counts.
    #[error(
        "{path}:{place}: column {column}: the time {found} is an integer; say what it counts with --time-unit s|ms|us|ns"
    )]
    TimeUnit {
        /// The input.
        path: String,
        /// Where.
        place: Place,
        /// The time column.
        column: String,
        /// The value.
        found: String,
    },
    /// A row has no time.
    #[error(
        "{path}:{place}: column {column}: the time is missing; every event needs one (`--on-error skip` leaves such rows out)"
    )]
    NullTime {
        /// The input.
        path: String,
        /// Where.
        place: Place,
        /// The time column.
        column: String,
    },
    /// A CSV row has more or fewer fields than the header.
    #[error(
        "{path}:{place}: expected {expected} fields as in the header, found {found} (`--on-error skip` leaves such rows out)"
    )]
    FieldCount {
        /// The input.
        path: String,
        /// Where.
        place: Place,
        /// Columns of the header.
        expected: usize,
        /// Fields of the row.
        found: usize,
    },
    /// Text between a closing quote and the next delimiter.
    #[error(
        "{path}:{place}: field {field}: text after the closing quote; a quote inside a quoted field is written twice \
         (`--on-error skip` leaves such rows out)"
    )]
    AfterQuote {
        /// The input.
        path: String,
        /// Where.
        place: Place,
        /// Number of the field, from 1.
        field: usize,
    },
    /// A line is not a JSON object.
    #[error(
        "{path}:{place}: not a JSON object on one line: {what} at byte {at} of the line (`--on-error skip` leaves such rows out)"
    )]
    Json {
        /// The input.
        path: String,
        /// Where.
        place: Place,
        /// What is wrong.
        what: &'static str,
        /// Byte of the line, from 1.
        at: usize,
    },
    /// A quoted field never ends.
    #[error("{path}:{place}: a quoted field of this row is not closed before the end of the file")]
    UnclosedQuote {
        /// The input.
        path: String,
        /// Where the row starts.
        place: Place,
    },
    /// A line or record exceeds the limit.
    #[error("{path}: {} is longer than {mib} MiB{}", start_of(.place), if *.quoted { "; is a quote not closed?" } else { "" })]
    LineTooLong {
        /// The input.
        path: String,
        /// Where it starts.
        place: Place,
        /// The limit.
        mib: usize,
        /// Whether the limit was met inside a quoted field.
        quoted: bool,
    },
    /// A library that reads typed files gave up on this one.
    #[error("{path}: the file is damaged: {what}")]
    Damaged {
        /// The input.
        path: String,
        /// The library's words.
        what: String,
    },
    /// Rows that do not fit into one batch.
    #[error("{what}; choose a smaller --batch-rows")]
    Encode {
        /// What is wrong with the batch.
        what: String,
    },
    /// A position of an earlier run does not fit the file.
    #[error(
        "{path}: an earlier run stopped at {position}, which is not a row's start in this file; it has been changed since"
    )]
    Position {
        /// The input.
        path: String,
        /// The position.
        position: u64,
    },
}

impl SourceError {
    /// Which road the error belongs to.
    pub fn road(&self) -> Road {
        match self {
            SourceError::NoMatch { .. }
            | SourceError::BadGlob { .. }
            | SourceError::Directory { .. }
            | SourceError::GivenTwice { .. }
            | SourceError::UnknownFormat { .. }
            | SourceError::Delimiter { .. }
            | SourceError::NotSeekable { .. }
            | SourceError::ReadOnce { .. } => Road::Usage,
            SourceError::Io { .. } => Road::Io,
            _ => Road::Data,
        }
    }

    /// Where in the input the row is that it is about, if it is about one row.
    pub fn place(&self) -> Option<Place> {
        match self {
            SourceError::Value { place, .. }
            | SourceError::Utf8 { place, .. }
            | SourceError::TimeUnit { place, .. }
            | SourceError::NullTime { place, .. }
            | SourceError::FieldCount { place, .. }
            | SourceError::AfterQuote { place, .. }
            | SourceError::Json { place, .. }
            | SourceError::UnclosedQuote { place, .. }
            | SourceError::LineTooLong { place, .. } => Some(*place),
            _ => None,
        }
    }

    pub(super) fn io(path: &str, operation: &'static str, source: io::Error) -> SourceError {
        SourceError::Io { path: path.to_owned(), operation, source }
    }

    /// The error for a column that is not among `present`.
    pub(super) fn missing(path: &str, column: &str, present: &[String]) -> SourceError {
        SourceError::MissingColumn {
            path: path.to_owned(),
            column: column.to_owned(),
            present: present.to_vec(),
            nearest: nearest(column, present),
        }
    }
}

/// `value` in double quotes, control characters escaped, invalid bytes replaced, shortened to 80 characters.
pub(super) fn quoted(value: &[u8]) -> String {
    // A character takes at most 4 bytes, so the cut loses none that would be shown.
    let shown = &value[..value.len().min(4 * (QUOTED_CHARS_MAX + 1))];
    let text = String::from_utf8_lossy(shown);
    let mut out = String::from("\"");
    for (count, character) in text.chars().enumerate() {
        if count == QUOTED_CHARS_MAX {
            out.push('…');
            break;
        }
        match character {
            '"' => out.push_str("\\\""),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn nearest(name: &str, present: &[String]) -> Option<String> {
    let lower = name.to_lowercase();
    present
        .iter()
        .map(|other| (strsim::jaro_winkler(&lower, &other.to_lowercase()), other))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other.clone())
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

fn after_semicolon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; {text}") }
}

fn list(names: &[String]) -> String {
    let mut text = names.iter().take(LISTED_NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED_NAMES_MAX {
        text.push_str(&format!(" and {} more", names.len() - LISTED_NAMES_MAX));
    }
    if names.is_empty() { "no columns".to_owned() } else { text }
}

fn start_of(place: &Place) -> String {
    match place {
        Place::Line(line) => format!("line {line}"),
        Place::Byte(byte) => format!("the line at byte {byte}"),
        Place::Row(row) => format!("row {row}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_and_shortened() {
        assert_eq!(quoted(b"abc"), "\"abc\"");
        assert_eq!(quoted(b"a\"b\n"), "\"a\\\"b\\n\"");
        assert_eq!(quoted(&[b'a', 0xff]), "\"a\u{fffd}\"");
        let long = "é".repeat(5_000);
        assert_eq!(quoted(long.as_bytes()), format!("\"{}…\"", "é".repeat(80)));
        let exact = "x".repeat(80);
        assert_eq!(quoted(exact.as_bytes()), format!("\"{exact}\""));
    }

    #[test]
    fn a_missing_column_names_the_nearest() {
        let present = vec!["time".to_owned(), "dep_delay".to_owned(), "arr_delay".to_owned()];
        let error = SourceError::missing("a.csv", "Dep_Dellay", &present);
        assert_eq!(
            error.to_string(),
            "a.csv: no column called `Dep_Dellay` (did you mean `dep_delay`?); there are: time, dep_delay, arr_delay"
        );
        let error = SourceError::missing("a.csv", "zzz", &present);
        assert_eq!(error.to_string(), "a.csv: no column called `zzz`; there are: time, dep_delay, arr_delay");
        assert_eq!(error.road(), Road::Data);
    }
}
