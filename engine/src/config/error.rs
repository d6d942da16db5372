//! Where something stands in a config file, and how errors about it read.
//!
//! What is wrong is found by `file` (form) and `check` (meaning), not here.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::choices::nearest;

/// Line and column, both from 1; columns count characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// A value together with where it stands and what its key is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it starts.
    pub place: Place,
    /// Its key from the root, such as `views[0].aggregates[1]`.
    pub key: String,
}

/// One fault of a config file. Reads `FILE:LINE:COLUMN: KEY: MESSAGE`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Where in it; `None` when the file could not be read at all.
    pub place: Option<Place>,
    /// The key from the root, or empty.
    pub key: String,
    /// What is wrong, what was expected and what to do.
    pub message: String,
}

impl ConfigError {
    /// An error about a located value, for those who find faults in its text later (such as expressions).
    pub fn about<T>(file: &Path, located: &Located<T>, message: impl fmt::Display) -> ConfigError {
        ConfigError {
            file: file.to_owned(),
            place: Some(located.place),
            key: located.key.clone(),
            message: message.to_string(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(place) = self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Every fault found in a config file, in the order of the file; never empty. One line each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    /// Whether the file could not even be read.
    unreadable: bool,
}

impl ConfigErrors {
    /// The file could not be read, or is no text.
    pub fn unreadable(file: &Path, error: &std::io::Error) -> ConfigErrors {
        let not_text = error.kind() == std::io::ErrorKind::InvalidData;
        let message = match not_text {
            true => "the configuration is not UTF-8 text".to_owned(),
            false => format!("cannot read the configuration: {error}"),
        };
        let error = ConfigError { file: file.to_owned(), place: None, key: String::new(), message };
        ConfigErrors { errors: vec![error], unreadable: !not_text }
    }

    /// The faults, in the order of the file.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// 74 when the file could not be read, otherwise 78.
    pub fn exit_code(&self) -> crate::exit::ExitCode {
        if self.unreadable { crate::exit::ExitCode::Io } else { crate::exit::ExitCode::BadConfig }
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> ConfigErrors {
        ConfigErrors { errors: vec![error], unreadable: false }
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

/// A config file's name and text: turns byte spans into places, keys and errors.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// File name for errors.
    pub file: &'a Path,
    /// The whole text.
    pub text: &'a str,
}

impl<'a> Document<'a> {
    /// Line and column of a byte offset.
    pub fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// A value with its place and key.
    pub fn locate<T>(&self, span: Range<usize>, key: &str, value: T) -> Located<T> {
        Located { value, place: self.place(span.start), key: key.to_owned() }
    }

    /// An error about what stands at `offset`.
    pub fn error(&self, offset: usize, key: &str, message: impl fmt::Display) -> ConfigError {
        ConfigError {
            file: self.file.to_owned(),
            place: Some(self.place(offset)),
            key: key.to_owned(),
            message: message.to_string(),
        }
    }

    /// Rewrites an error of the TOML reader: adds place and key, and the nearest known name to an unknown one.
    pub fn form_error(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let key = DeTable::parse(self.text).ok().and_then(|root| key_at(root.get_ref(), &span)).unwrap_or_default();
        let message = error.message();
        let message = unknown_key(message)
            .or_else(|| missing_key(message))
            .or_else(|| message.strip_prefix("duplicate key").map(|_| "this key was given before".to_owned()))
            .or_else(|| wrong_value(message))
            .unwrap_or_else(|| message.to_owned());
        self.error(span.start, &key, message)
    }
}

/// Faults of one file while they are being collected.
#[derive(Debug, Default)]
pub struct Faults {
    errors: Vec<ConfigError>,
}

impl Faults {
    /// Adds a fault and goes on.
    pub fn add(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    /// How many faults were added.
    pub fn count(&self) -> usize {
        self.errors.len()
    }

    /// `value`, unless a fault was added.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, ConfigErrors> {
        self.errors.sort_by_key(|error| error.place);
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => {
                // Whoever returns no value has said why; the assertion guards an empty list of errors.
                assert!(!self.errors.is_empty(), "a config was refused without a reason");
                Err(ConfigErrors { errors: self.errors, unreadable: false })
            }
        }
    }
}

/// `found` is not one of `known`: the sentence with the nearest of them, and all of them.
pub fn not_among<'a>(what: &str, found: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let all: Vec<String> = known.clone().into_iter().map(|name| format!("`{name}`")).collect();
    let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
    match nearest(found, known) {
        Some(near) => format!("unknown {what} `{found}`; did you mean `{near}`? (known: {all})"),
        None => format!("unknown {what} `{found}` (known: {all})"),
    }
}

/// serde: ``unknown field `nul`, expected one of `path`, `null` `` or ``…, expected `size` ``.
fn unknown_key(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field ")?;
    let found = rest.split('`').nth(1)?;
    let known: Vec<&str> = rest.split('`').skip(3).step_by(2).collect();
    Some(not_among("key", found, known))
}

fn missing_key(message: &str) -> Option<String> {
    let name = message.strip_prefix("missing field ")?;
    Some(format!("the key {name} is missing"))
}

/// serde: `invalid type: integer `3`, expected a string`.
fn wrong_value(message: &str) -> Option<String> {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let expected = match expected {
        "a sequence" => "a list",
        "a borrowed string" => "a string",
        other => other.strip_prefix("struct ").map_or(other, |_| "a table"),
    };
    let found = match found {
        "map" => "a table".to_owned(),
        "sequence" => "a list".to_owned(),
        other => other.to_owned(),
    };
    Some(format!("expected {expected}, found {found}"))
}

/// The key of the innermost name or value that has exactly this span.
fn key_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    table.iter().find_map(|(name, value)| {
        let name_matches = name.span() == *span;
        let inner = match value.get_ref() {
            DeValue::Table(inner) => key_at(inner, span).map(|rest| format!("{}.{rest}", name.get_ref())),
            DeValue::Array(items) => key_in(items.iter(), span).map(|rest| format!("{}{rest}", name.get_ref())),
            _ => None,
        };
        inner.or_else(|| (name_matches || value.span() == *span).then(|| name.get_ref().to_string()))
    })
}

fn key_in<'a, 'i: 'a>(
    items: impl Iterator<Item = &'a toml::Spanned<DeValue<'i>>>,
    span: &Range<usize>,
) -> Option<String> {
    items.enumerate().find_map(|(index, item)| {
        let inner = match item.get_ref() {
            DeValue::Table(inner) => key_at(inner, span).map(|rest| format!("[{index}].{rest}")),
            DeValue::Array(items) => key_in(items.iter(), span).map(|rest| format!("[{index}]{rest}")),
            _ => None,
        };
        inner.or_else(|| (item.span() == *span).then(|| format!("[{index}]")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document<'_> {
        Document { file: Path::new("c.toml"), text }
    }

    #[test]
    fn places_count_lines_and_characters() {
        let text = "a = 1\nbé = 2\n";
        let places = [(0, 1, 1), (4, 1, 5), (5, 1, 6), (6, 2, 1), (10, 2, 4), (14, 3, 1), (99, 3, 1)];
        for (offset, line, column) in places {
            assert_eq!(document(text).place(offset), Place { line, column }, "{offset}");
        }
    }

    #[test]
    fn keys_are_found_by_their_span() {
        let text = "[[a]]\nb = 1\n[[a]]\nc = { d = [1, { e = 22 }] }\n";
        let root = DeTable::parse(text).expect("valid");
        for (needle, expected) in [("22", "a[1].c.d[1].e"), ("e", "a[1].c.d[1].e"), ("c", "a[1].c"), ("b", "a[0].b")] {
            let at = text.find(needle).expect("present");
            assert_eq!(key_at(root.get_ref(), &(at..at + needle.len())).as_deref(), Some(expected));
        }
        assert_eq!(key_at(root.get_ref(), &(1..2)), None);
    }

    #[test]
    fn names_are_suggested() {
        assert_eq!(
            not_among("field", "orgin", ["origin", "dest"]),
            "unknown field `orgin`; did you mean `origin`? (known: `origin`, `dest`)"
        );
        assert_eq!(not_among("stream", "x", []), "unknown stream `x` (known: none)");
    }

    #[test]
    fn errors_read_like_a_compiler() {
        let text = "[engine]\nshards = [\n";
        let error = toml::from_str::<toml::Table>(text).expect_err("torn");
        let error = document(text).form_error(&error);
        assert_eq!(error.to_string(), "c.toml:2:11: unclosed array, expected `]`");
    }
}
