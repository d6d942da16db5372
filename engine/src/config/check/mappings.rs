//! Rules of which part of a metric goes to which field of the stream.
//!
//! Addresses and limits are in `ways`.

use corefold_aggregator::spec::{Field, FieldType};
use toml::Spanned;

use super::Checker;
use crate::config::choices::OnError;
use crate::config::error::not_among;
use crate::config::file::FieldsTable;
use crate::config::file_ways::{InfluxTable, StatsdTable};
use crate::config::ways::{InfluxMap, Precision, StatsdMap};

/// Parts of a statsd metric, and the type that the field of each must have.
const PARTS: [(&str, FieldType); 5] = [
    ("name", FieldType::String),
    ("kind", FieldType::String),
    ("value", FieldType::F64),
    ("text", FieldType::String),
    ("rate", FieldType::F64),
];

/// A part goes to the field that `columns` names, or else to the field of its own name; every field that is left gets
/// the tag that `tags` names for it, or else the tag of its own name.
pub(super) fn statsd_map(
    checker: &mut Checker<'_>,
    table: &Spanned<StatsdTable>,
    fields: &[Field],
    key: &str,
) -> StatsdMap {
    let typed = table.get_ref();
    let mut parts = [None; PARTS.len()];
    let mut is_taken = vec![false; fields.len()];
    for (part, given) in typed.columns.iter().flat_map(|columns| &columns.0) {
        let key = format!("{key}.columns.{part}");
        let Some(at) = PARTS.iter().position(|(name, _)| name == part) else {
            checker.fault(given, &key, not_among("part of a metric", part, PARTS.iter().map(|(name, _)| *name)));
            continue;
        };
        parts[at] = field_of(checker, given, &key, fields, &mut is_taken);
    }
    for (at, (name, _)) in PARTS.iter().enumerate() {
        if parts[at].is_none() {
            parts[at] = fields.iter().position(|field| field.name == *name).filter(|&field| !is_taken[field]);
        }
        is_taken.iter_mut().enumerate().for_each(|(field, taken)| *taken |= parts[at] == Some(field));
    }
    for ((name, wanted), field) in PARTS.iter().zip(parts) {
        if let Some(field) = field.map(|field| &fields[field])
            && field.kind != *wanted
        {
            let message = format!(
                "the {name} of a metric goes to the field `{}`, which is of type {}; expected {}",
                field.name,
                field.kind.name(),
                wanted.name()
            );
            checker.fault(table, key, message);
        }
    }
    if parts[2].is_none() && parts[3].is_none() {
        let message = "the stream has no field for the number of a metric; add `value = \"f64\"` to its fields, or \
                       name one with `columns = { value = \"FIELD\" }`";
        checker.fault(table, key, message);
    }
    let tags = rest(checker, typed.tags.as_ref(), &format!("{key}.tags"), fields, &mut is_taken);
    let [name, kind, value, text, rate] = parts;
    StatsdMap { name, kind, value, text, rate, tags }
}

/// The measurement goes to the field that is named for it; every other field gets the tag or field of its own name, or of
/// the name that `columns` has for it.
pub(super) fn influx_map(
    checker: &mut Checker<'_>,
    table: &Spanned<InfluxTable>,
    fields: &[Field],
    key: &str,
) -> InfluxMap {
    let typed = table.get_ref();
    let mut is_taken = vec![false; fields.len()];
    let measurement = typed.measurement.as_ref().and_then(|given| {
        let key = format!("{key}.measurement");
        let field = field_of(checker, given, &key, fields, &mut is_taken)?;
        if fields[field].kind != FieldType::String {
            let message = format!("a measurement is a text, and the field is of type {}", fields[field].kind.name());
            checker.fault(given, &key, message);
        }
        Some(field)
    });
    let precision = typed.precision.as_ref().map(|given| {
        Precision::by_name(given.get_ref()).unwrap_or_else(|| {
            let message = not_among("precision", given.get_ref(), Precision::NAMES[..6].iter().copied());
            checker.fault(given, &format!("{key}.precision"), message);
            Precision::default()
        })
    });
    let on_error: Option<OnError> = checker.choice(typed.on_error.as_ref(), &format!("{key}.on_error"), "policy");
    let measurements = typed.measurements.iter().flatten().map(|name| name.get_ref().clone()).collect();
    InfluxMap {
        measurement,
        measurements,
        columns: rest(checker, typed.columns.as_ref(), &format!("{key}.columns"), fields, &mut is_taken),
        precision: precision.unwrap_or_default(),
        http_skips: on_error == Some(OnError::Skip),
        tcp_skips: on_error != Some(OnError::Fail),
    }
}

/// The field that is named, unless another part has it.
fn field_of(
    checker: &mut Checker<'_>,
    given: &Spanned<String>,
    key: &str,
    fields: &[Field],
    is_taken: &mut [bool],
) -> Option<usize> {
    let name = given.get_ref();
    let Some(field) = fields.iter().position(|field| field.name == *name) else {
        checker.fault(given, key, not_among("field of the stream", name, fields.iter().map(|f| f.name.as_str())));
        return None;
    };
    if is_taken[field] {
        checker.fault(given, key, format!("the field `{name}` gets another part already"));
        return None;
    }
    is_taken[field] = true;
    Some(field)
}

/// Names from outside with their fields: those that are given, then the fields that are left under their own names.
fn rest(
    checker: &mut Checker<'_>,
    given: Option<&FieldsTable>,
    key: &str,
    fields: &[Field],
    is_taken: &mut [bool],
) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (outside, field) in given.iter().flat_map(|table| &table.0) {
        let key = format!("{key}.{outside}");
        if let Some(field) = field_of(checker, field, &key, fields, is_taken) {
            found.push((outside.clone(), field));
        }
    }
    let left = fields.iter().enumerate().filter(|(field, _)| !is_taken[*field]);
    found.extend(left.map(|(index, field)| (field.name.clone(), index)));
    found.sort();
    found
}
