//! NDJSON: one JSON object per line, of which the needed top-level keys are read.
//!
//! Blank lines are skipped; a key that is not there is null; of a key given twice the last value counts. The JSON
//! grammar is in `json`, types and nulls are not here.

use super::json::{Cursor, JsonFault, unescape};
use super::tokens::{RowFault, Tokens};

/// Adds the rows of `text`, whole lines, to `tokens`. In a row with a fault nothing is added but the fault;
/// with `stop` nothing behind it either.
pub(super) fn tokenize(needed: &[String], text: &[u8], stop: bool, tokens: &mut Tokens) {
    let mut at = 0;
    while at < text.len() {
        let end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |found| at + found);
        let mut cursor = Cursor::new(&text[..end], at);
        cursor.skip_space();
        if cursor.at < end {
            let base = tokens.begin_row(at);
            if let Err((what, byte)) = object(needed, &mut cursor, base, tokens) {
                tokens.reject_row(RowFault::Json(what, byte - at));
                if stop {
                    return;
                }
            }
        }
        at = end + 1;
    }
}

fn object(needed: &[String], cursor: &mut Cursor, base: usize, tokens: &mut Tokens) -> Result<(), JsonFault> {
    cursor.expect(b'{', "expected `{`")?;
    cursor.skip_space();
    if cursor.peek() == Some(b'}') {
        cursor.at += 1;
    } else {
        loop {
            let (key, escaped) = cursor.string()?;
            let slot = if escaped {
                let mut plain = Vec::new();
                unescape(key, &mut plain);
                slot_of(needed, &plain)
            } else {
                slot_of(needed, key)
            };
            cursor.skip_space();
            cursor.expect(b':', "expected `:`")?;
            cursor.skip_space();
            match slot {
                Some(slot) => tokens.spans[base + slot] = cursor.value(&mut tokens.arena)?,
                None => cursor.skip_value(1)?,
            }
            if !cursor.comma_or(b'}', "expected `,` or `}`")? {
                break;
            }
        }
    }
    cursor.skip_space();
    if cursor.peek().is_some() { Err(("text after the object", cursor.at)) } else { Ok(()) }
}

#[inline]
fn slot_of(needed: &[String], key: &[u8]) -> Option<usize> {
    needed.iter().position(|name| name.as_bytes() == key)
}

/// Adds the top-level keys of the objects in `text` that `keys` does not have yet, up to a limit.
pub(super) fn collect_keys(text: &[u8], keys: &mut Vec<String>) {
    const KEYS_MAX: usize = 1_000;
    for line in text.split(|byte| *byte == b'\n') {
        let mut cursor = Cursor::new(line, 0);
        cursor.skip_space();
        // A line that is no object adds what stands before its fault.
        let _ = keys_of(&mut cursor, keys);
        if keys.len() >= KEYS_MAX {
            return;
        }
    }
}

fn keys_of(cursor: &mut Cursor, keys: &mut Vec<String>) -> Result<(), JsonFault> {
    cursor.expect(b'{', "expected `{`")?;
    cursor.skip_space();
    let mut plain = Vec::new();
    loop {
        let (key, _) = cursor.string()?;
        plain.clear();
        unescape(key, &mut plain);
        let key = String::from_utf8_lossy(&plain);
        if !keys.iter().any(|known| *known == key) {
            keys.push(key.into_owned());
        }
        cursor.skip_space();
        cursor.expect(b':', "expected `:`")?;
        cursor.skip_space();
        cursor.skip_value(1)?;
        if !cursor.comma_or(b'}', "expected `,` or `}`")? {
            return Ok(());
        }
    }
}
