//! Types of keys: the same numbers as integers or as texts.
//!
//! Inside, a key is always its number; what stands in inputs and results is told here. Texts sort as their numbers do.

use corefold_aggregator::result::OutputColumn;
use std::borrow::Cow;

/// Type of the key column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyKind {
    /// Signed integers.
    I64,
    /// Unsigned integers in Arrow and Parquet files. The engine checks that they fit and has them as signed ones; in
    /// CSV, NDJSON and batches there is no difference.
    U64,
    /// Texts of 13 bytes.
    Text,
}

/// What every text begins with.
const PREFIX: &str = "user-";

impl KeyKind {
    /// Words of the parameter.
    pub const NAMES: &[&str] = &["i64", "u64", "string"];

    /// The kind that a parameter names.
    pub fn of(text: &str) -> KeyKind {
        match text {
            "string" => KeyKind::Text,
            "u64" => KeyKind::U64,
            _ => KeyKind::I64,
        }
    }

    /// The word that `--field NAME:TYPE` takes.
    pub const fn field_type(self) -> &'static str {
        match self {
            KeyKind::I64 | KeyKind::U64 => "i64",
            KeyKind::Text => "string",
        }
    }
}

/// The text of a key.
pub fn text_of(key: i64) -> String {
    format!("{PREFIX}{key:08}")
}

/// The key that a text in results stands for, text or number.
pub fn key_of(text: &str) -> Option<i64> {
    text.strip_prefix(PREFIX).unwrap_or(text).parse().ok()
}

/// Texts of events, one after the other, as a column of an input has them.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    bytes: Vec<u8>,
    ends: Vec<u64>,
}

impl Texts {
    /// The texts of `keys`.
    pub fn of(keys: &[i64]) -> Texts {
        let mut texts = Texts::default();
        for &key in keys {
            texts.bytes.extend_from_slice(text_of(key).as_bytes());
            texts.ends.push(texts.bytes.len() as u64);
        }
        texts
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let text = &self.bytes[start..end as usize];
            start = end as usize;
            text
        })
    }
}

/// The keys of a result column.
pub fn keys_of(column: &OutputColumn, rows: usize) -> Option<Cow<'_, [i64]>> {
    match column {
        OutputColumn::I64 { values, .. } => Some(Cow::Borrowed(values)),
        OutputColumn::String { .. } => (0..rows).map(|row| key_of(column.text(row)?)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_their_keys_and_sort_like_them() {
        let keys = [0, 7, 10, 9_999_999];
        let texts: Vec<String> = keys.into_iter().map(text_of).collect();
        assert!(texts.is_sorted());
        assert_eq!(texts.iter().map(|text| key_of(text)).collect::<Option<Vec<_>>>().unwrap(), keys);
        assert!(Texts::of(&keys).iter().eq(texts.iter().map(|text| text.as_bytes())));
        assert_eq!([key_of("12"), key_of("user-"), key_of("x")], [Some(12), None, None]);
    }
}
