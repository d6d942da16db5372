//! `corefold inspect manifest`: every line of a manifest, damaged or not, and what a start would make of it.
//!
//! The outputs themselves are not looked at; `corefold verify` does that.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use corefold_aggregator::time::EventTime;
use serde_json::json;

use super::text::time_text;
use super::{InspectError, Inspected};
use crate::manifest::line::Line;
use crate::manifest::scan::{self, SeenLine, Verdict};
use crate::manifest::{FileLine, MANIFEST_FILE};

/// Shows the manifest of a data directory, or one file that is a manifest. Writes while it reads, in bounded memory.
///
/// May be called while an engine uses the directory.
pub fn manifest(path: &Path, json: bool, out: &mut dyn Write) -> Result<Inspected, InspectError> {
    let file = if path.is_dir() { path.join(MANIFEST_FILE) } else { path.to_path_buf() };
    let opened = File::open(&file).and_then(|opened| {
        // Reading a directory or waiting for a pipe's writer would tell nothing.
        let is_file = opened.metadata()?.is_file();
        if is_file { Ok(opened) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")) }
    });
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_dir() => {
            return Err(InspectError::NoManifest { path: path.to_path_buf() });
        }
        Err(source) => return Err(InspectError::Io { operation: "open", path: file, source }),
    };
    let mut report = Report { out: BufWriter::new(out), json, seen: Inspected::default() };
    report.write(|report| report.begin(&file))?;
    let walked =
        scan::walk(BufReader::new(opened), |seen| report.write(|report| report.line(&seen)).map_err(Stop::Output));
    match walked {
        Ok(verdict) => {
            report.seen.refused += u64::from(matches!(verdict, Verdict::Damaged(_)));
            report.write(|report| report.end(&verdict))?;
        }
        Err(Stop::Output(error)) => return Err(error),
        Err(Stop::Read(error)) => {
            report.seen.unreadable += 1;
            report.write(|report| report.unreadable(&error))?;
        }
    }
    report.out.flush().map_err(InspectError::Output)?;
    Ok(report.seen)
}

enum Stop {
    Read(io::Error),
    Output(InspectError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Read(error)
    }
}

struct Report<'o> {
    out: BufWriter<&'o mut dyn Write>,
    json: bool,
    seen: Inspected,
}

impl Report<'_> {
    fn write(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) -> Result<(), InspectError> {
        write(self).map_err(InspectError::Output)
    }

    fn object(&mut self, value: &serde_json::Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    fn begin(&mut self, path: &Path) -> io::Result<()> {
        if self.json {
            return self.object(&json!({ "type": "manifest", "path": path.display().to_string() }));
        }
        writeln!(self.out, "manifest {}", path.display())
    }

    fn line(&mut self, seen: &SeenLine) -> io::Result<()> {
        let (number, offset) = (seen.number, seen.offset);
        match &seen.line {
            Ok(Line::Header(header)) if self.json => {
                self.object(&json!({ "type": "header", "line": number, "offset": offset, "facts": header }))
            }
            Ok(Line::Header(header)) => {
                writeln!(
                    self.out,
                    "store    {}\n         {} lines kept by a compaction, then from number {} on\n",
                    header.store, header.kept, header.next_seq
                )?;
                let title = ["line", "number", "state", "rows", "bytes", "crc32c"];
                let [line, number, state, rows, bytes, crc] = title;
                writeln!(
                    self.out,
                    "{line:>6} {number:>7}  {state:<8} {rows:>12} {bytes:>14}  {crc:<8}  {:<27}  file",
                    "committed through"
                )
            }
            Ok(Line::File(line)) => {
                self.seen.blocks += 1;
                if self.json {
                    let (through, end) = (EventTime(line.through_us), line.window_end_us.map(EventTime));
                    return self.object(&json!({
                        "type": "line",
                        "line": number,
                        "offset": offset,
                        "facts": line,
                        "through": time_text(through),
                        "window_end": end.map(time_text),
                        "ledger_balances": line.ledger.map(|ledger| ledger.balances()),
                    }));
                }
                self.file_line(number, line)
            }
            Err(fault) => {
                self.seen.damaged += 1;
                if self.json {
                    let value = json!({ "type": "damaged", "line": number, "offset": offset, "reason": fault.reason });
                    return self.object(&value);
                }
                writeln!(self.out, "{number:>6}  DAMAGED at byte {offset}: {}", fault.reason)
            }
        }
    }

    fn file_line(&mut self, number: u64, line: &FileLine) -> io::Result<()> {
        let FileLine { seq, rows, bytes, crc32c, .. } = line;
        let (state, through) = (line.state.name(), time_text(EventTime(line.through_us)));
        let file = line.file.as_deref().unwrap_or("(none yet)");
        let note = if line.ledger.is_some_and(|ledger| !ledger.balances()) { "  LEDGER DOES NOT ADD UP" } else { "" };
        writeln!(
            self.out,
            "{number:>6} {seq:>7}  {state:<8} {rows:>12} {bytes:>14}  {crc32c:08x}  {through:<27}  {file} ({}){note}",
            line.view
        )
    }

    fn end(&mut self, verdict: &Verdict) -> io::Result<()> {
        let (name, spot) = match verdict {
            Verdict::Sound => ("sound", None),
            Verdict::Torn(spot) => ("torn", Some(spot)),
            Verdict::Damaged(spot) => ("refused", Some(spot)),
        };
        let (lines, damaged) = (self.seen.blocks, self.seen.damaged);
        if self.json {
            return self.object(&json!({
                "type": "end",
                "verdict": name,
                "lines": lines,
                "damaged": damaged,
                "line": spot.map(|spot| spot.line),
                "offset": spot.map(|spot| spot.offset),
                "reason": spot.map(|spot| spot.fault.as_str()),
            }));
        }
        let spot = |spot: &scan::Spot| format!("line {} (byte {}): {}", spot.line, spot.offset, spot.fault);
        let end = match verdict {
            Verdict::Sound => String::from("sound"),
            Verdict::Torn(at) => format!("torn at {}; the next start cuts it off and goes on", spot(at)),
            Verdict::Damaged(at) => format!("a start would be refused because of {}", spot(at)),
        };
        writeln!(self.out, "\nend      {lines} lines, {damaged} damaged: {end}")
    }

    fn unreadable(&mut self, error: &io::Error) -> io::Result<()> {
        if self.json {
            return self.object(&json!({ "type": "unreadable", "reason": error.to_string() }));
        }
        writeln!(self.out, "\nend      it cannot be read any further: {error}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitCode;
    use crate::manifest::Manifest;
    use crate::manifest::line::tests::sample;
    use std::fs;

    fn shown(path: &Path, json: bool) -> (String, ExitCode) {
        let mut out = Vec::new();
        let seen = manifest(path, json, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), seen.exit_code())
    }

    #[test]
    fn lines_are_shown_damaged_or_not_and_the_end_is_judged() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(manifest(root.path(), false, &mut Vec::new()), Err(InspectError::NoManifest { .. })));
        let mut written = Manifest::open(root.path(), "s").unwrap();
        for number in 0..3 {
            written.append(FileLine { export: number.to_string(), ..sample(0) }).unwrap();
        }
        drop(written);
        let file = root.path().join(MANIFEST_FILE);
        let (text, code) = shown(root.path(), false);
        assert_eq!(code, ExitCode::Done);
        let row = "     2       0  open               20           1234  00abcdef  1970-01-01T02:00:00Z";
        assert!(text.contains(row), "{text}");
        assert!(text.ends_with("end      3 lines, 0 damaged: sound\n"), "{text}");

        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() - 9]).unwrap();
        let (text, code) = shown(&file, false);
        assert_eq!(code, ExitCode::Done);
        assert!(text.contains("2 lines, 1 damaged: torn at line 4 (byte "), "{text}");

        let mut damaged = whole;
        let at = damaged.iter().position(|&byte| byte == b'\n').unwrap() + 20;
        damaged[at] ^= 1;
        fs::write(&file, &damaged).unwrap();
        let (text, code) = shown(&file, true);
        assert_eq!(code, ExitCode::Failure);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["manifest", "header", "damaged", "line", "line", "end"]);
        assert_eq!((&lines[3]["facts"]["rows"], &lines[3]["through"]), (&json!(20), &json!("1970-01-01T02:00:00Z")));
        assert_eq!((&lines[5]["verdict"], &lines[5]["line"]), (&json!("refused"), &json!(2)));
    }
}
