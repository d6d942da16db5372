//! InfluxDB's line protocol, `measurement,tag=v field=1i,other="text" time`, taken apart.
//!
//! Which field of a stream a part goes to is not here, nor how lines come.

use std::borrow::Cow;

use crate::source::{read_f64, read_i64};

/// A line; reused from one to the next.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Point<'a> {
    /// What was measured.
    pub measurement: Cow<'a, str>,
    /// Tags, in their order.
    pub tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Fields, in their order; at least one.
    pub fields: Vec<(Cow<'a, str>, FieldValue<'a>)>,
    /// When it was, in the unit of whoever sent it.
    pub time: Option<i64>,
}

/// A value of a field.
#[derive(Clone, PartialEq, Debug)]
pub enum FieldValue<'a> {
    /// `1`, `1.5`, `-2e3`
    Float(f64),
    /// `1i`
    Integer(i64),
    /// `1u`
    Unsigned(u64),
    /// `t`, `true`, `f`, `false`
    Bool(bool),
    /// `"text"`
    Text(Cow<'a, str>),
}

/// What is wrong with a line, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} at column {column}")]
pub struct InfluxFault {
    /// Byte of the line, from 1.
    pub column: usize,
    /// What was expected.
    pub what: &'static str,
}

/// Finds the end of the next line in a text that may still grow, each byte looked at once. A line end within a quoted
/// value does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LineScan {
    at: usize,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    #[default]
    Indent,
    Comment,
    Name,
    Fields,
    Quoted,
}

impl LineScan {
    /// Length of the first line of `text` without its line end, and begins anew behind it; `None` if it does not end in
    /// there. Between calls `text` may only grow.
    pub fn line_length(&mut self, text: &[u8]) -> Option<usize> {
        while let Some(&byte) = text.get(self.at) {
            match (self.stage, byte) {
                (Stage::Quoted, b'\n') => {}
                (_, b'\n') => return Some(std::mem::take(self).at),
                (Stage::Indent, b' ') => {}
                (Stage::Indent, b'#') => self.stage = Stage::Comment,
                (Stage::Comment, _) => {}
                // What is escaped is passed over with its backslash, once it is there; a line end cannot be.
                (stage, b'\\') => match text.get(self.at + 1) {
                    None => return None,
                    Some(b'\n') if stage != Stage::Quoted => {}
                    Some(_) => self.at += 1,
                },
                (Stage::Name, b' ') => self.stage = Stage::Fields,
                (Stage::Quoted, b'"') => self.stage = Stage::Fields,
                (Stage::Fields, b'"') if self.at > 0 && text[self.at - 1] == b'=' => self.stage = Stage::Quoted,
                (Stage::Indent, _) => self.stage = Stage::Name,
                _ => {}
            }
            self.at += 1;
        }
        None
    }
}

/// Takes a line apart, without its line end. False for one that says nothing: blank, or a comment.
///
/// After an error `point` is of no use.
pub fn parse<'a>(line: &'a [u8], point: &mut Point<'a>) -> Result<bool, InfluxFault> {
    point.tags.clear();
    point.fields.clear();
    point.time = None;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line)
        .map_err(|error| InfluxFault { column: error.valid_up_to() + 1, what: "invalid UTF-8" })?;
    let mut walk = Walk { text, at: text.len() - text.trim_start_matches(' ').len() };
    if matches!(walk.peek(), None | Some(b'#')) {
        return Ok(false);
    }
    point.measurement = walk.name(b", ", "expected a measurement")?;
    while walk.takes(b',') {
        let name = walk.name(b"=, ", "expected the name of a tag")?;
        walk.expect(b'=', "expected `=` and the value of the tag")?;
        let value = walk.name(b", ", "expected the value of the tag")?;
        point.tags.push((name, value));
    }
    walk.expect(b' ', "expected a space and fields")?;
    walk.skip_spaces();
    loop {
        let name = walk.name(b"=, ", "expected the name of a field")?;
        walk.expect(b'=', "expected `=` and the value of the field")?;
        let value = walk.value()?;
        point.fields.push((name, value));
        if !walk.takes(b',') {
            break;
        }
    }
    if walk.peek().is_some() {
        walk.expect(b' ', "expected `,` and another field, or a space and the time")?;
        walk.skip_spaces();
        point.time = walk.time()?;
    }
    Ok(true)
}

/// A position in a line.
struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn takes(&mut self, byte: u8) -> bool {
        let takes = self.peek() == Some(byte);
        self.at += usize::from(takes);
        takes
    }

    fn fault<T>(&self, what: &'static str) -> Result<T, InfluxFault> {
        Err(InfluxFault { column: self.at + 1, what })
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), InfluxFault> {
        if self.takes(byte) { Ok(()) } else { self.fault(what) }
    }

    fn skip_spaces(&mut self) {
        while self.takes(b' ') {}
    }

    /// What stands before the next of `ends` that has no backslash before it; a backslash before anything else is one.
    fn name(&mut self, ends: &[u8], what: &'static str) -> Result<Cow<'a, str>, InfluxFault> {
        let (start, bytes) = (self.at, self.text.as_bytes());
        let mut is_escaped = false;
        while let Some(byte) = self.peek().filter(|byte| !ends.contains(byte)) {
            let escapes = byte == b'\\' && matches!(bytes.get(self.at + 1), Some(b',' | b'=' | b' '));
            is_escaped |= escapes;
            self.at += 1 + usize::from(escapes);
        }
        if self.at == start {
            return self.fault(what);
        }
        let name = &self.text[start..self.at];
        Ok(if is_escaped { Cow::Owned(unescape(name, |byte| matches!(byte, b',' | b'=' | b' '))) } else { name.into() })
    }

    fn value(&mut self) -> Result<FieldValue<'a>, InfluxFault> {
        if self.takes(b'"') {
            return self.quoted();
        }
        let start = self.at;
        while self.peek().is_some_and(|byte| !matches!(byte, b',' | b' ')) {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        let value = match text.as_bytes() {
            [] => None,
            b"t" | b"T" | b"true" | b"True" | b"TRUE" => Some(FieldValue::Bool(true)),
            b"f" | b"F" | b"false" | b"False" | b"FALSE" => Some(FieldValue::Bool(false)),
            [digits @ .., b'i'] => read_i64(digits).map(FieldValue::Integer),
            [digits @ .., b'u'] => {
                std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).map(FieldValue::Unsigned)
            }
            number => read_f64(number).filter(|number| number.is_finite()).map(FieldValue::Float),
        };
        value.ok_or(InfluxFault { column: start + 1, what: "expected a number, true, false, or a text in quotes" })
    }

    fn quoted(&mut self) -> Result<FieldValue<'a>, InfluxFault> {
        let start = self.at;
        let mut is_escaped = false;
        loop {
            match self.peek() {
                None => return Err(InfluxFault { column: start, what: "a text in quotes does not end" }),
                Some(b'"') => break,
                Some(b'\\') if matches!(self.text.as_bytes().get(self.at + 1), Some(b'"' | b'\\')) => {
                    is_escaped = true;
                    self.at += 2;
                }
                Some(_) => self.at += 1,
            }
        }
        let inside = &self.text[start..self.at];
        self.at += 1;
        let text =
            if is_escaped { Cow::Owned(unescape(inside, |byte| matches!(byte, b'"' | b'\\'))) } else { inside.into() };
        Ok(FieldValue::Text(text))
    }

    fn time(&mut self) -> Result<Option<i64>, InfluxFault> {
        let digits = self.text[self.at..].trim_end_matches(' ');
        if digits.is_empty() {
            return Ok(None);
        }
        match digits.parse() {
            Ok(time) => Ok(Some(time)),
            Err(_) => self.fault("expected a whole number as the time"),
        }
    }
}

/// Without the backslashes that stand before what `is_special` names.
fn unescape(text: &str, is_special: impl Fn(u8) -> bool) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        if behind.bytes().next().is_some_and(&is_special) {
            // What is special is one byte long.
            plain.push_str(&behind[..1]);
            rest = &behind[1..];
        } else {
            plain.push('\\');
            rest = behind;
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(line: &str) -> String {
        let mut point = Point::default();
        match parse(line.as_bytes(), &mut point) {
            Ok(false) => "nothing".to_owned(),
            Ok(true) => {
                let Point { measurement, tags, fields, time } = &point;
                let tags: Vec<String> = tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
                format!("{measurement} [{}] [{}] {time:?}", tags.join(";"), fields.join(";"))
            }
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn lines_and_what_they_say() {
        for (line, wanted) in [
            ("cpu v=1", "cpu [] [v=Float(1.0)] None"),
            ("cpu,host=a,dc=b v=1i,w=2u 17", "cpu [host=a;dc=b] [v=Integer(1);w=Unsigned(2)] Some(17)"),
            ("cpu v=t,w=FALSE -5  ", "cpu [] [v=Bool(true);w=Bool(false)] Some(-5)"),
            (r#"m s="a \"b\" \\ \n, =c" 1"#, r#"m [] [s=Text("a \"b\" \\ \\n, =c")] Some(1)"#),
            (r"we\ ather,lo\,c\=x=us\ mid t\ e=-8.2e1", "we ather [lo,c=x=us mid] [t e=Float(-82.0)] None"),
            (r"a\b v=1", r"a\b [] [v=Float(1.0)] None"),
            ("m,ö=ü ß=\"日\"", "m [ö=ü] [ß=Text(\"日\")] None"),
            ("# a comment", "nothing"),
            ("   ", "nothing"),
            ("m v=1\r", "m [] [v=Float(1.0)] None"),
            ("m", "expected a space and fields at column 2"),
            ("m ", "expected the name of a field at column 3"),
            (",a=b v=1", "expected a measurement at column 1"),
            ("m,a v=1", "expected `=` and the value of the tag at column 4"),
            ("m,a= v=1", "expected the value of the tag at column 5"),
            ("m,=b v=1", "expected the name of a tag at column 3"),
            ("m v", "expected `=` and the value of the field at column 4"),
            ("m v=", "expected a number, true, false, or a text in quotes at column 5"),
            ("m v=1x", "expected a number, true, false, or a text in quotes at column 5"),
            ("m v=1.5i", "expected a number, true, false, or a text in quotes at column 5"),
            ("m v=-1u", "expected a number, true, false, or a text in quotes at column 5"),
            ("m v=nan", "expected a number, true, false, or a text in quotes at column 5"),
            ("m v=9223372036854775808i", "expected a number, true, false, or a text in quotes at column 5"),
            ("m v=\"abc", "a text in quotes does not end at column 5"),
            ("m v=\"a\"x", "expected `,` and another field, or a space and the time at column 8"),
            ("m v=1,", "expected the name of a field at column 7"),
            ("m v=1 1.5", "expected a whole number as the time at column 7"),
            ("m v=1 1 2", "expected a whole number as the time at column 7"),
        ] {
            assert_eq!(shown(line), wanted, "{line}");
        }
        assert_eq!(parse(b"m v=\xff", &mut Point::default()).map_err(|fault| fault.column), Err(5));
    }

    #[test]
    fn line_ends_within_quotes_do_not_count() {
        for (text, wanted) in [
            ("m v=1\nx", Some(5)),
            ("m v=1", None),
            ("m v=\"a\nb\" 1\n", Some(11)),
            ("m v=\"a\\\"\nb\"\n", Some(11)),
            ("m\"x v=1\n", Some(7)),
            ("m,t=\"x v=1\n", Some(10)),
            ("# it's \"\nm", Some(8)),
            ("m v=1\\\n", Some(6)),
            ("\n", Some(0)),
            (" m,t=\"x v=1\n", Some(11)),
            (" #\"=\"\n", Some(5)),
        ] {
            assert_eq!(LineScan::default().line_length(text.as_bytes()), wanted, "{text:?}");
            let mut scan = LineScan::default();
            let grown = (0..=text.len()).find_map(|end| scan.line_length(&text.as_bytes()[..end]));
            assert_eq!(grown, wanted, "{text:?} byte by byte");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = (parse(&bytes, &mut Point::default()), LineScan::default().line_length(&bytes));
        }

        #[test]
        fn no_text_of_the_right_letters_panics(text in "[mé,= \\\\\"\n#1i.t-]{0,40}") {
            let _ = (parse(text.as_bytes(), &mut Point::default()), LineScan::default().line_length(text.as_bytes()));
        }

        /// What a client escapes comes back.
        #[test]
        fn names_and_texts_come_back(name in "[a-z,= é]{1,8}", text in "[a-z\"\\\\,= \n]{0,10}", number in any::<i64>()) {
            let escaped: String = name.chars().flat_map(|c| {
                if ",= ".contains(c) { vec!['\\', c] } else { vec![c] }
            }).collect();
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            let line = format!("{escaped},{escaped}={escaped} {escaped}=\"{quoted}\",n={number}i {number}");
            let longer = format!("{line}\nrest");
            prop_assert_eq!(LineScan::default().line_length(longer.as_bytes()), Some(line.len()));
            let mut point = Point::default();
            prop_assert_eq!(parse(line.as_bytes(), &mut point), Ok(true));
            prop_assert_eq!(&*point.measurement, &*name);
            prop_assert_eq!(&point.tags, &vec![(name.clone().into(), name.clone().into())]);
            let fields = vec![(name.clone().into(), FieldValue::Text(text.into())), ("n".into(), FieldValue::Integer(number))];
            prop_assert_eq!(&point.fields, &fields);
            prop_assert_eq!(point.time, Some(number));
        }
    }
}
