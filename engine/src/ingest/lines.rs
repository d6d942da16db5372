//! Lines of JSON to rows of a stream, whether they come in a body or over a connection.
//!
//! How a line is read is the business of `source`.

use super::rows::{Rows, SET_BYTES_MAX};
use crate::source::Chunk;
use crate::source::error::{Place, SourceError};
use crate::source::parser::Parser;
use crate::source::plan::{OnError, ReadPlan};
use std::sync::Arc;

/// Why lines are not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}")]
pub struct TextFault {
    /// Line or row that it is about, from 1, if it is about one.
    pub line: Option<u64>,
    /// What is wrong, with its place.
    pub what: String,
}

impl TextFault {
    /// What a reader says, in words for those who have a config and no command line.
    pub fn of(error: &SourceError) -> TextFault {
        let line = match error.place() {
            Some(Place::Line(line) | Place::Row(line)) => Some(line),
            _ => None,
        };
        let what = error.to_string();
        let what = what.replace("`--on-error skip`", "`on_error = \"skip\"`").replace("`--null`", "`null`");
        TextFault { line, what: what.replace("--time-unit s|ms|us|ns", "`unit` of the stream's time") }
    }
}

/// Reads lines of JSON of one stream.
pub struct JsonLines {
    name: String,
    plan: Arc<ReadPlan>,
    parser: Parser,
    line_size_max: usize,
    spare: Vec<u8>,
}

impl JsonLines {
    /// Lines of what messages call `name`.
    pub fn new(name: &str, plan: &Arc<ReadPlan>, line_size_max: usize) -> JsonLines {
        let parser = Parser::new(Arc::clone(plan));
        JsonLines { name: name.to_owned(), plan: Arc::clone(plan), parser, line_size_max, spare: Vec::new() }
    }

    /// Adds the rows of `text`, of which the last line may lack its end. Returns the first fault of a line that was left
    /// out. On a fault that ends it all, the rows before that line are there.
    pub fn add(&mut self, text: &[u8], first_line: u64, rows: &mut Rows) -> Result<Option<TextFault>, TextFault> {
        let (mut at, mut line, mut first) = (0, first_line, None);
        while at < text.len() {
            let (length, lines, is_long) = self.piece(&text[at..]);
            let piece = &text[at..at + length];
            if is_long {
                let what = format!("{}:{line}: the line is longer than {} bytes", self.name, self.line_size_max);
                let fault = TextFault { line: Some(line), what };
                if self.plan.on_error == OnError::Fail {
                    return Err(fault);
                }
                rows.reject();
                first.get_or_insert(fault);
            } else if let Err(fault) = self.parse(piece, line, rows) {
                let before = fault.line.map_or(0, |bad| bad.saturating_sub(line));
                let kept = memchr::memchr_iter(b'\n', piece).take(before as usize).last().map_or(0, |end| end + 1);
                // These were read without a fault just now.
                let _ = self.parse(&piece[..kept], line, rows);
                return Err(fault);
            }
            if let Some(rejection) = self.parser.take_first_rejection() {
                first.get_or_insert_with(|| TextFault::of(&rejection));
            }
            at += length;
            line += lines;
        }
        Ok(first)
    }

    fn parse(&mut self, piece: &[u8], line: u64, rows: &mut Rows) -> Result<(), TextFault> {
        if piece.is_empty() {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        bytes.extend_from_slice(piece);
        let chunk = Chunk::of_json_lines(&self.name, line, bytes);
        let mut columns = rows.empty();
        let parsed = self.parser.parse(&chunk, &mut columns);
        self.spare = chunk.into_spare();
        parsed.map_err(|error| TextFault::of(&error))?;
        rows.add(columns);
        Ok(())
    }

    /// Bytes and lines of the next piece: as many lines as a batch may have, or a single one that is too long.
    fn piece(&self, text: &[u8]) -> (usize, u64, bool) {
        let (mut end, mut lines) = (0, 0);
        while end < text.len() && lines < self.plan.batch_rows as u64 && end < SET_BYTES_MAX {
            let length = memchr::memchr(b'\n', &text[end..]).map_or(text.len() - end, |found| found + 1);
            if length > self.line_size_max + 1 {
                return if end > 0 { (end, lines, false) } else { (length, 1, true) };
            }
            end += length;
            lines += 1;
        }
        (end, lines, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::times::TimeUnit;
    use corefold_aggregator::spec::{Field, FieldType};

    fn read(text: &str, on_error: OnError, batch_rows: usize) -> (Result<Option<u64>, u64>, u64, u64) {
        let fields = vec![Field { name: "v".to_owned(), kind: FieldType::I64 }];
        let plan = ReadPlan { fields: fields.clone(), on_error, batch_rows, ..ReadPlan::new("t") };
        let plan = Arc::new(ReadPlan { time_unit: Some(TimeUnit::Second), ..plan });
        let mut rows = Rows::new(&fields, batch_rows as u32);
        let result = JsonLines::new("x", &plan, 40).add(text.as_bytes(), 11, &mut rows);
        let line = |fault: TextFault| fault.line.unwrap_or(0);
        let (count, rejected) = rows.counts();
        (result.map(|first| first.map(line)).map_err(line), count, rejected)
    }

    #[test]
    fn lines_up_to_a_bad_one_are_there() {
        let long = format!("{{\"t\":1,\"v\":1,\"w\":\"{}\"}}\n", "x".repeat(40));
        let good = "{\"t\":1,\"v\":1}\n";
        for batch_rows in [1, 2, 3, 100] {
            let bad = format!("{good}{good}\n{{\"t\":1,\"v\":\"x\"}}\n{good}");
            assert_eq!(read(&bad, OnError::Fail, batch_rows), (Err(14), 2, 0));
            assert_eq!(read(&bad, OnError::Skip, batch_rows), (Ok(Some(14)), 3, 1));
            let bad = format!("{good}{long}{}", good.trim_end());
            assert_eq!(read(&bad, OnError::Fail, batch_rows), (Err(12), 1, 0));
            assert_eq!(read(&bad, OnError::Skip, batch_rows), (Ok(Some(12)), 2, 1));
            assert_eq!(read(&good.repeat(5), OnError::Fail, batch_rows), (Ok(None), 5, 0));
            assert_eq!(read("", OnError::Fail, batch_rows), (Ok(None), 0, 0));
        }
    }
}
