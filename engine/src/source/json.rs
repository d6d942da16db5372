//! A strict walk over one JSON text (RFC 8259) that finds values without building them.
//!
//! serde_json would parse every number, and not exactly; here a number stays text until its column's type is
//! known, and most values are only stepped over. serde_json is the oracle in the tests. Which keys are needed is
//! not here.

use super::tokens::{Kind, Span};

/// Arrays and objects inside each other; as in serde_json.
const DEPTH_MAX: usize = 127;

/// What is wrong, and at which byte.
pub(super) type JsonFault = (&'static str, usize);

/// A position in a text.
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    pub at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor { text, at }
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    pub(super) fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    fn fault<T>(&self, what: &'static str) -> Result<T, JsonFault> {
        Err((what, self.at))
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), JsonFault> {
        if self.peek() != Some(byte) {
            return self.fault(what);
        }
        self.at += 1;
        Ok(())
    }

    /// After a value in an object or array: `true` if another follows.
    #[inline]
    pub(super) fn comma_or(&mut self, close: u8, what: &'static str) -> Result<bool, JsonFault> {
        self.skip_space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.skip_space();
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => self.fault(what),
        }
    }

    /// A string; the inside of its quotes, and whether it has escapes.
    #[inline]
    pub(super) fn string(&mut self) -> Result<(&'a [u8], bool), JsonFault> {
        self.expect(b'"', "expected a string in double quotes")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at = find_special(self.text, self.at);
            match self.peek() {
                Some(b'"') => {
                    let inside = &self.text[start..self.at];
                    self.at += 1;
                    return Ok((inside, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.fault("a control character inside a string"),
                None => return self.fault("the line ends inside a string"),
            }
        }
    }

    /// Steps over an escape and returns its character; halves of surrogate pairs must stand together.
    fn escape(&mut self) -> Result<char, JsonFault> {
        self.at += 1;
        let Some(byte) = self.peek() else { return self.fault("the line ends inside a string") };
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                let code = match first {
                    0xD800..=0xDBFF if self.text[self.at..].starts_with(b"\\u") => {
                        self.at += 2;
                        let second = self.hex()?;
                        if !(0xDC00..=0xDFFF).contains(&second) {
                            return self.fault("half a surrogate pair");
                        }
                        0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                    }
                    _ => first,
                };
                match char::from_u32(code) {
                    Some(character) => character,
                    None => return self.fault("half a surrogate pair"),
                }
            }
            _ => {
                self.at -= 1;
                return self.fault("an unknown escape");
            }
        })
    }

    fn hex(&mut self) -> Result<u32, JsonFault> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return self.fault("expected four hexadecimal digits");
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    /// Steps over a value of any kind and returns where it stands, with escapes resolved into `arena`.
    #[inline]
    pub(super) fn value(&mut self, arena: &mut Vec<u8>) -> Result<Span, JsonFault> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                let (inside, escaped) = self.string()?;
                if !escaped {
                    return Ok(Span::new(Kind::Quoted, start + 1, start + 1 + inside.len()));
                }
                let arena_start = arena.len();
                unescape(inside, arena);
                Ok(Span::new(Kind::Unescaped, arena_start, arena.len()))
            }
            Some(b'{' | b'[') => {
                self.skip_value(0)?;
                Ok(Span::new(Kind::Nested, start, self.at))
            }
            Some(b'n') => self.literal(b"null").map(|()| Span::NULL),
            _ => {
                self.skip_value(0)?;
                Ok(Span::new(Kind::Plain, start, self.at))
            }
        }
    }

    /// Steps over a value.
    pub(super) fn skip_value(&mut self, depth: usize) -> Result<(), JsonFault> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'[') => self.skip_array(depth + 1),
            Some(b'{') => self.skip_object(depth + 1),
            Some(_) => self.fault("expected a value"),
            None => self.fault("the line ends where a value is expected"),
        }
    }

    fn skip_array(&mut self, depth: usize) -> Result<(), JsonFault> {
        if depth > DEPTH_MAX {
            return self.fault("nested too deeply");
        }
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_value(depth)?;
            if !self.comma_or(b']', "expected `,` or `]`")? {
                return Ok(());
            }
        }
    }

    fn skip_object(&mut self, depth: usize) -> Result<(), JsonFault> {
        if depth > DEPTH_MAX {
            return self.fault("nested too deeply");
        }
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.string()?;
            self.skip_space();
            self.expect(b':', "expected `:`")?;
            self.skip_space();
            self.skip_value(depth)?;
            if !self.comma_or(b'}', "expected `,` or `}`")? {
                return Ok(());
            }
        }
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), JsonFault> {
        if !self.text[self.at..].starts_with(word) {
            return self.fault("expected a value");
        }
        self.at += word.len();
        Ok(())
    }

    #[inline]
    fn number(&mut self) -> Result<(), JsonFault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return self.fault("a number with leading zeros");
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Result<(), JsonFault> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.fault("expected a digit") } else { Ok(()) }
    }
}

/// Index of the first quote, backslash or control character at or after `at`, or the text's length.
#[inline]
fn find_special(text: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    while let Some(word) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        // A borrow can mark a byte above a true one falsely, never one below: the lowest mark is exact.
        let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & TOPS;
        let found = below(word, 0x20) | below(word ^ (ONES * 0x22), 1) | below(word ^ (ONES * 0x5c), 1);
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < text.len() && text[at] >= 0x20 && text[at] != b'"' && text[at] != b'\\' {
        at += 1;
    }
    at
}

/// Appends the inside of a string that [`Cursor::string`] accepted, with its escapes resolved.
pub(super) fn unescape(inside: &[u8], out: &mut Vec<u8>) {
    let mut cursor = Cursor::new(inside, 0);
    while cursor.at < inside.len() {
        let plain = memchr::memchr(b'\\', &inside[cursor.at..]).unwrap_or(inside.len() - cursor.at);
        out.extend_from_slice(&inside[cursor.at..cursor.at + plain]);
        cursor.at += plain;
        if cursor.at < inside.len()
            && let Ok(character) = cursor.escape()
        {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    fn accepts(text: &[u8]) -> bool {
        let mut cursor = Cursor::new(text, 0);
        cursor.skip_space();
        let accepted = cursor.skip_value(0).is_ok();
        cursor.skip_space();
        accepted && cursor.at == text.len()
    }

    fn serde_accepts(text: &[u8]) -> bool {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        serde::de::IgnoredAny::deserialize(&mut deserializer).is_ok() && deserializer.end().is_ok()
    }

    #[test]
    fn depth_is_bounded_as_in_serde_json() {
        for depth in [1, 126, 127, 128, 129, 100_000] {
            let text = "[".repeat(depth) + &"]".repeat(depth);
            let mut cursor = Cursor::new(text.as_bytes(), 0);
            assert_eq!(cursor.skip_value(0).is_ok(), depth <= DEPTH_MAX, "{depth}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), depth <= DEPTH_MAX, "{depth}");
        }
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("false".to_owned()),
            "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?",
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
            "\"(\\\\u[0-9a-fA-F]{4}|\\\\[\"\\\\/bfnrt]|[a-z])*\"",
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[ {}]", items.join(" ,"))),
                proptest::collection::vec(inner, 0..4).prop_map(|items| format!(
                    "{{{}}}",
                    items.iter().map(|item| format!("\"k\" :{item}")).collect::<Vec<_>>().join(", ")
                )),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Good texts, and good texts with one byte changed, removed or doubled: accepted by both or by neither.
        #[test]
        fn accepts_what_serde_json_accepts(text in json(), at in any::<prop::sample::Index>(), byte in "[\\]\\[{}:,\"\\\\0-9eE+.tfnu \\x00-]", how in 0..4) {
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte.as_bytes()[0],
                1 => { bytes.remove(at); }
                2 => bytes.insert(at, byte.as_bytes()[0]),
                _ => {}
            }
            // serde_json does not look at surrogates in strings it skips; as values it does.
            let as_value = serde_json::from_slice::<serde_json::Value>(&bytes);
            let huge = as_value.as_ref().is_err_and(|error| error.to_string().starts_with("number out of range"));
            let wanted = if huge { serde_accepts(&bytes) } else { as_value.is_ok() };
            if std::str::from_utf8(&bytes).is_ok() && !huge {
                prop_assert_eq!(accepts(&bytes), wanted, "{}", String::from_utf8_lossy(&bytes));
            }
        }

        #[test]
        fn strings_mean_what_serde_json_says(text in prop_oneof![any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()), "\"(\\\\u[0-9a-fA-F]{4}|\\\\[\"\\\\/bfnrt]|[a-zé])*\""]) {
            let mut arena = Vec::new();
            let mut cursor = Cursor::new(text.as_bytes(), 0);
            match (cursor.value(&mut arena), serde_json::from_str::<String>(&text)) {
                (Ok(span), Ok(wanted)) => {
                    let found = if span.kind() == Kind::Unescaped { &arena[..] } else { &text.as_bytes()[1..text.len() - 1] };
                    prop_assert_eq!(found, wanted.as_bytes());
                }
                (found, wanted) => prop_assert!(found.is_err() && wanted.is_err(), "{text} {found:?} {wanted:?}"),
            }
        }
    }
}
