//! `quantile`, `distinct` and `top`: states that are sketches beside the row.

use super::{MergeContext, StateView, push_f64, push_text};
use crate::key;
use crate::result::OutputColumn;
use crate::rows::{MergeScope, Rows, RowsRef, Side};
use crate::spec::FieldType;
use std::fmt::Write;

/// Hash of a value for `distinct`: xxh3 over its canonical bytes (text as it is, numbers as 8 bytes).
pub fn hash_value(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// Canonical bytes of an integer, truth value or double for `distinct` and `top`: they sort as the values do.
pub fn top_key(field_type: FieldType, bits: u64) -> [u8; 8] {
    match field_type {
        FieldType::F64 => key::order_f64(f64::from_bits(bits)),
        _ => key::order_i64(bits as i64),
    }
}

pub(super) fn merge(context: &MergeContext, target: &mut Rows, into: &[u32], source: RowsRef<'_>, from: &[u32]) {
    let offset = context.state.offset;
    for (&into, &from) in into.iter().zip(from) {
        let handle = source.words[from as usize * context.stride + offset];
        let Some(theirs) = source.sides.get(handle) else { continue };
        let word = &mut target.words[into as usize * context.stride + offset];
        match (target.sides.get_mut(*word), theirs) {
            (None, _) => *word = target.sides.add(theirs.clone()),
            (Some(Side::Quantile(ours)), Side::Quantile(theirs)) => ours.merge(theirs),
            (Some(Side::Distinct(ours)), Side::Distinct(theirs)) => ours.merge(theirs),
            (Some(Side::Top(ours)), Side::Top(theirs)) => match context.scope {
                MergeScope::SamePane => ours.merge_shard(theirs),
                MergeScope::AcrossPanes => ours.merge_panes(theirs),
            },
            (Some(_), _) => unreachable!("a state keeps one kind of sketch"),
        }
    }
}

pub(super) fn quantiles(view: &StateView<'_>, column: &mut OutputColumn, q: f64) {
    for position in view.positions() {
        let value = match view.rows.sides.get(view.words(position)[0]) {
            Some(Side::Quantile(sketch)) => sketch.quantile(q),
            _ => None,
        };
        push_f64(column, value);
    }
}

pub(super) fn distincts(view: &StateView<'_>, column: &mut OutputColumn) {
    let OutputColumn::I64 { values, valid } = column else { unreachable!("distinct counts are integers") };
    for position in view.positions() {
        let estimate = match view.rows.sides.get(view.words(position)[0]) {
            Some(Side::Distinct(sketch)) => sketch.estimate(),
            _ => 0,
        };
        values.push(estimate as i64);
        valid.push(view.values(position) > 0);
    }
}

/// `value:count` pairs joined by commas, most frequent first, ties by value.
pub(super) fn tops(view: &StateView<'_>, column: &mut OutputColumn, k: u32) {
    let mut text = String::new();
    for position in view.positions() {
        let Some(Side::Top(sketch)) = view.rows.sides.get(view.words(position)[0]) else {
            push_text(column, None);
            continue;
        };
        text.clear();
        for (value, count) in sketch.top(k as usize) {
            if !text.is_empty() {
                text.push(',');
            }
            write_value(&mut text, view.output.field_type, value);
            // Writing to a string does not fail.
            let _ = write!(text, ":{count}");
        }
        push_text(column, Some(text.as_bytes()));
    }
}

fn write_value(text: &mut String, field_type: FieldType, bytes: &[u8]) {
    let word = || bytes.try_into().unwrap_or([0; 8]);
    let _ = match field_type {
        FieldType::String => {
            text.push_str(&String::from_utf8_lossy(bytes));
            Ok(())
        }
        FieldType::I64 => write!(text, "{}", key::unorder_i64(word())),
        FieldType::Bool => write!(text, "{}", key::unorder_i64(word()) != 0),
        FieldType::F64 => {
            text.push_str(key::f64_text(&mut zmij::Buffer::new(), key::unorder_f64(word())));
            Ok(())
        }
    };
}
