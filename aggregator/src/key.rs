//! Group keys: one byte string per group that sorts as its `by` columns do.
//!
//! Per column: `0x00` for null; `0x01` and the value; `0x02` for "other" in a column that is no text. Integers
//! and doubles are 8 bytes, big endian, with the sign turned so that bytes sort as numbers; a truth value is
//! one byte; text is its bytes with `0x00` written `0x00 0xff`, closed by `0x00 0x00`. The hash that decides
//! which groups stay under `max_groups` is xxh3 (seed 0) over these bytes. How keys become slots is not here.

use crate::limits::OTHER_GROUP;
use crate::result::OutputColumn;
use crate::spec::FieldType;

/// Hash of an encoded key.
pub fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// Appends a null.
pub fn push_null(key: &mut Vec<u8>) {
    key.push(0);
}

/// Appends an integer.
pub fn push_i64(key: &mut Vec<u8>, value: i64) {
    key.push(1);
    key.extend_from_slice(&order_i64(value));
}

/// Appends a double; NaN is null, negative zero is zero.
pub fn push_f64(key: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return push_null(key);
    }
    key.push(1);
    key.extend_from_slice(&order_f64(value));
}

/// Appends a truth value.
pub fn push_bool(key: &mut Vec<u8>, value: bool) {
    key.extend_from_slice(&[1, u8::from(value)]);
}

/// Appends a text.
pub fn push_text(key: &mut Vec<u8>, value: &[u8]) {
    key.push(1);
    if value.contains(&0) {
        for &byte in value {
            key.push(byte);
            if byte == 0 {
                key.push(0xff);
            }
        }
    } else {
        key.extend_from_slice(value);
    }
    key.extend_from_slice(&[0, 0]);
}

/// The key of the group that takes what does not fit under `max_groups`.
pub fn other(by: &[FieldType]) -> Vec<u8> {
    let mut key = Vec::new();
    for kind in by {
        match kind {
            FieldType::String => push_text(&mut key, OTHER_GROUP.as_bytes()),
            _ => key.push(2),
        }
    }
    key
}

/// Appends the values of an encoded key to the output columns of the `by` fields.
///
/// Keys come from the functions above; bytes that do not are a broken invariant and panic.
pub fn decode(mut key: &[u8], by: &[FieldType], columns: &mut [OutputColumn]) {
    for (kind, column) in by.iter().zip(columns) {
        let (tag, rest) = key.split_first().expect("a key has a tag per column");
        key = rest;
        let some = *tag == 1;
        match column {
            OutputColumn::I64 { values, valid } => {
                values.push(if some { unorder_i64(take_word(&mut key)) } else { 0 });
                valid.push(some);
            }
            OutputColumn::F64 { values, valid } => {
                values.push(if some { unorder_f64(take_word(&mut key)) } else { 0.0 });
                valid.push(some);
            }
            OutputColumn::Bool { values, valid } => {
                let mut value = false;
                if some {
                    value = key[0] != 0;
                    key = &key[1..];
                }
                values.push(value);
                valid.push(some);
            }
            OutputColumn::String { offsets, bytes, valid } => {
                if some {
                    key = take_text(key, bytes);
                }
                offsets.push(bytes.len() as u32);
                valid.push(some);
            }
            OutputColumn::Time(_) => unreachable!("no {} key in a time column", kind.name()),
        }
    }
    assert!(key.is_empty(), "a key ends with its last column");
}

/// Whether [`decode`] takes the bytes: false for a damaged key.
pub fn is_sound(mut key: &[u8], by: &[FieldType]) -> bool {
    by.iter().all(|kind| {
        let Some((tag, rest)) = key.split_first() else { return false };
        key = rest;
        match (tag, kind) {
            (0, _) => true,
            (1, FieldType::String) => skip_text(&mut key),
            (1, FieldType::Bool) => key.split_off_first().is_some_and(|value| *value <= 1),
            (1, FieldType::I64 | FieldType::F64) => key.split_off(..8).is_some(),
            (2, FieldType::I64 | FieldType::F64 | FieldType::Bool) => true,
            _ => false,
        }
    }) && key.is_empty()
}

/// Passes a closed text of whole characters.
fn skip_text(key: &mut &[u8]) -> bool {
    let mut text = Vec::new();
    loop {
        let Some(zero) = key.iter().position(|&b| b == 0) else { return false };
        text.extend_from_slice(&key[..zero]);
        let mark = key.get(zero + 1);
        let closed = mark == Some(&0);
        if !closed && mark != Some(&0xff) {
            return false;
        }
        *key = &key[zero + 2..];
        if closed {
            return std::str::from_utf8(&text).is_ok();
        }
        text.push(0);
    }
}

fn take_word(key: &mut &[u8]) -> [u8; 8] {
    let (word, rest) = key.split_first_chunk::<8>().expect("a number takes 8 bytes");
    *key = rest;
    *word
}

/// Copies the text at the front of `key` to `bytes` and returns what follows it.
fn take_text<'a>(mut key: &'a [u8], bytes: &mut Vec<u8>) -> &'a [u8] {
    loop {
        let zero = key.iter().position(|&b| b == 0).expect("a text is closed");
        bytes.extend_from_slice(&key[..zero]);
        let closed = key[zero + 1] == 0;
        key = &key[zero + 2..];
        if closed {
            return key;
        }
        bytes.push(0);
    }
}

/// Eight bytes that sort as the integer does.
pub fn order_i64(value: i64) -> [u8; 8] {
    ((value as u64) ^ (1 << 63)).to_be_bytes()
}

/// The inverse of [`order_i64`].
pub fn unorder_i64(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

/// Eight bytes that sort as the double does; both zeros give the same.
pub fn order_f64(value: f64) -> [u8; 8] {
    let bits = (value + 0.0).to_bits();
    (if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }).to_be_bytes()
}

/// The inverse of [`order_f64`].
pub fn unorder_f64(bytes: [u8; 8]) -> f64 {
    let bits = u64::from_be_bytes(bytes);
    f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
}

/// A double as outputs show it, in the shortest form that reads back as the same number: `2`, `0.1`, `1e+300`, `inf`.
/// Negative zero is `0`. Of two shortest forms that are equally near, the one with the even last digit.
pub fn f64_text(buffer: &mut zmij::Buffer, value: f64) -> &str {
    let text = buffer.format(value + 0.0);
    text.strip_suffix(".0").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::OutputType;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq, PartialOrd)]
    enum Cell {
        Null,
        I64(i64),
        F64(f64),
        Text(Vec<u8>),
    }

    fn encode(cells: &[Cell]) -> Vec<u8> {
        let mut key = Vec::new();
        for cell in cells {
            match cell {
                Cell::Null => push_null(&mut key),
                Cell::I64(v) => push_i64(&mut key, *v),
                Cell::F64(v) => push_f64(&mut key, *v),
                Cell::Text(v) => push_text(&mut key, v),
            }
        }
        key
    }

    fn row() -> impl Strategy<Value = Vec<Cell>> {
        let int = prop_oneof![Just(Cell::Null), any::<i64>().prop_map(Cell::I64), (-3..3i64).prop_map(Cell::I64)];
        let double = prop_oneof![Just(Cell::Null), (-2.0..2.0f64).prop_map(Cell::F64), Just(Cell::F64(f64::INFINITY))];
        let byte = prop_oneof![Just(0u8), Just(1), Just(0x7f), 0..0x7fu8];
        let text = prop_oneof![Just(Cell::Null), prop::collection::vec(byte, 0..4).prop_map(Cell::Text)];
        (text, int, double).prop_map(|(a, b, c)| vec![a, b, c])
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_columns_and_decode_to_them(a in row(), b in row()) {
            prop_assert_eq!(encode(&a).cmp(&encode(&b)), a.partial_cmp(&b).unwrap());
            let by = [FieldType::String, FieldType::I64, FieldType::F64];
            let mut columns = [OutputType::String, OutputType::I64, OutputType::F64].map(OutputColumn::new);
            decode(&encode(&a), &by, &mut columns);
            decode(&other(&by), &by, &mut columns);
            let cell = match &a[0] { Cell::Text(t) => Some(String::from_utf8(t.clone()).unwrap()), _ => None };
            prop_assert_eq!(columns[0].text(0), cell.as_deref());
            prop_assert_eq!(columns[0].text(1), Some(OTHER_GROUP));
            let OutputColumn::I64 { values, valid } = &columns[1] else { unreachable!() };
            prop_assert_eq!(valid[0].then_some(values[0]), match a[1] { Cell::I64(v) => Some(v), _ => None });
        }
    }

    #[test]
    fn doubles_print_in_shortest_form() {
        let print = |v| f64_text(&mut zmij::Buffer::new(), v).to_owned();
        assert_eq!(print(2.0), "2");
        assert_eq!(print(-0.0), "0");
        assert_eq!(print(0.1), "0.1");
        assert_eq!(print(1e300), "1e+300");
        assert_eq!(print(1e15), "1000000000000000");
        assert_eq!(print(1.5e-6), "1.5e-6");
        assert_eq!(print(f64::NEG_INFINITY), "-inf");
    }
}
