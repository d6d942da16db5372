//! Results of a long run: a directory of part files, each complete when it gets its name.
//!
//! Where one part ends and the next begins depends only on the rows and the place where the first part began, so
//! a restart writes the same files again, byte for byte. Retention of old parts is not here.

use super::error::ExportError;
use super::target::{self, Sink};
use super::text::{civil, push_time};
use super::{ExportSummary, Exporter, Format, check_shape, open_in};
use corefold_aggregator::result::{OutputColumn, OutputSchema, ResultBatch};
use corefold_aggregator::time::Duration;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Rows of a part between two looks at its size.
const SIZE_CHECK_ROWS: u64 = 1024;

/// The column of window ends; outputs begin with window start and window end.
const WINDOW_END_COLUMN: usize = 1;

/// When a part ends. With neither, there is one part per run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rotation {
    /// A part holds windows that end within one such span, counted from the epoch: with a day, those that end
    /// after midnight and no later than the next midnight.
    pub every: Option<Duration>,
    /// A part ends soon after it reaches this size (looked at every 1,024 rows; Parquet and Arrow: estimated).
    pub bytes: Option<u64>,
}

/// How far complete parts reach: all rows of windows that end before `window_end`, and `rows` rows of the window
/// that ends there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartPosition {
    /// End of the last window with rows in a complete part, in microseconds.
    pub window_end: i64,
    /// How many of that window's rows are in complete parts.
    pub rows: u64,
    /// Number of the next part, if its first row is of that window.
    pub number: u32,
}

/// Writes part files named `part-20130101T050000Z-0000.csv` after the window end of their first row.
pub struct PartsExporter {
    directory: PathBuf,
    format: Format,
    schema: OutputSchema,
    rotation: Rotation,
    /// Rows up to here are in complete parts already and are skipped.
    resume: Option<PartPosition>,
    part: Option<Part>,
    /// Behind the last row taken or skipped.
    window_end: Option<i64>,
    window_rows: u64,
    committed: Option<PartPosition>,
    summary: ExportSummary,
    /// Set while rows are being written: stays set after a failure, so that no later part hides the gap.
    unsettled: bool,
}

struct Part {
    exporter: Box<dyn Exporter>,
    first_window_end: i64,
    number: u32,
    rows: u64,
}

impl PartsExporter {
    /// Opens `directory`, making it if needed and removing temporaries of dead runs. With `resume`, rows that
    /// complete parts hold are skipped when they come again, and the next part continues from there.
    pub fn open(
        directory: &Path,
        format: Format,
        schema: &OutputSchema,
        rotation: Rotation,
        resume: Option<PartPosition>,
    ) -> Result<PartsExporter, ExportError> {
        if fs::metadata(directory).is_ok_and(|metadata| !metadata.is_dir()) {
            return Err(ExportError::NotDirectory { path: directory.to_path_buf() });
        }
        fs::create_dir_all(directory)
            .map_err(|cause| ExportError::CreateDirectory { path: directory.to_path_buf(), cause })?;
        target::sweep(directory, |name| name.starts_with(b"part-"));
        // Made and dropped: a directory that cannot be written is refused now, not after the first window.
        drop(Sink::open_part(directory.join("part-probe"))?);
        Ok(PartsExporter {
            directory: directory.to_path_buf(),
            format,
            schema: schema.clone(),
            rotation,
            resume,
            part: None,
            window_end: None,
            window_rows: 0,
            committed: resume,
            summary: ExportSummary::default(),
            unsettled: false,
        })
    }

    /// How far complete parts reach; `None` before the first is complete.
    pub fn committed(&self) -> Option<PartPosition> {
        self.committed
    }

    /// Completes the part being written, so that [`PartsExporter::committed`] covers all rows written.
    fn complete_part(&mut self) -> Result<(), ExportError> {
        let Some(part) = self.part.take() else { return Ok(()) };
        let written = part.exporter.finish()?;
        self.summary.rows += written.rows;
        self.summary.bytes += written.bytes;
        self.summary.files += 1;
        if let Some(window_end) = self.window_end {
            let number = if part.first_window_end == window_end { part.number + 1 } else { 0 };
            self.committed = Some(PartPosition { window_end, rows: self.window_rows, number });
        }
        Ok(())
    }

    fn open_part(&self, first_window_end: i64) -> Result<Part, ExportError> {
        let number = match self.committed {
            Some(position) if position.window_end == first_window_end => position.number,
            _ => 0,
        };
        let name = part_name(first_window_end, number, self.format);
        let sink = Sink::open_part(self.directory.join(name))?;
        Ok(Part { exporter: open_in(sink, self.format, &self.schema)?, first_window_end, number, rows: 0 })
    }

    fn check_settled(&self) -> Result<(), ExportError> {
        if self.unsettled {
            return Err(ExportError::Shape { reason: String::from("parts go on after a failure") });
        }
        Ok(())
    }

    /// Whether a row of the window that ends at `window_end` starts a new part.
    fn must_rotate(&self, part: &Part, window_end: i64) -> bool {
        if let Some(every) = self.rotation.every.filter(|every| every.micros() > 0) {
            let span = |end: i64| end.saturating_sub(1).div_euclid(every.micros());
            if span(part.first_window_end) != span(window_end) {
                return true;
            }
        }
        match self.rotation.bytes {
            Some(bytes) => part.rows > 0 && part.rows.is_multiple_of(SIZE_CHECK_ROWS) && part.exporter.size() >= bytes,
            None => false,
        }
    }

    /// Counts a row of the window that ends at `window_end`. Returns whether a complete part holds it already.
    fn count_row(&mut self, window_end: i64) -> bool {
        if self.window_end == Some(window_end) {
            self.window_rows += 1;
        } else {
            self.window_end = Some(window_end);
            self.window_rows = 1;
        }
        self.resume.is_some_and(|done| {
            window_end < done.window_end || (window_end == done.window_end && self.window_rows <= done.rows)
        })
    }

    /// Writes rows that belong to one part, none of which ends it.
    fn write_run(&mut self, batch: &ResultBatch, run: Range<usize>) -> Result<(), ExportError> {
        if run.is_empty() {
            return Ok(());
        }
        match &mut self.part {
            Some(part) => part.exporter.write_rows(batch, run),
            None => Err(ExportError::Shape { reason: String::from("rows without a part") }),
        }
    }
}

impl Exporter for PartsExporter {
    fn write_rows(&mut self, batch: &ResultBatch, rows: Range<usize>) -> Result<(), ExportError> {
        self.check_settled()?;
        check_shape(&self.schema, batch)?;
        let Some(OutputColumn::Time(window_ends)) = batch.columns.get(WINDOW_END_COLUMN) else {
            return Err(ExportError::Shape { reason: String::from("parts need window_end as second column") });
        };
        self.unsettled = true;
        // Rows not yet handed to the part: `pending..row`. They are handed over before its size is looked at.
        let mut pending = rows.start;
        for row in rows.clone() {
            let window_end = window_ends[row];
            if self.part.as_ref().is_some_and(|part| part.rows.is_multiple_of(SIZE_CHECK_ROWS)) {
                self.write_run(batch, pending..row)?;
                pending = row;
            }
            if self.part.as_ref().is_some_and(|part| self.must_rotate(part, window_end)) {
                self.write_run(batch, pending..row)?;
                pending = row;
                self.complete_part()?;
            }
            if self.count_row(window_end) {
                pending = row + 1;
                continue;
            }
            let part = match self.part.take() {
                Some(part) => part,
                None => self.open_part(window_end)?,
            };
            let part = self.part.insert(part);
            part.rows += 1;
        }
        self.write_run(batch, pending..rows.end)?;
        self.unsettled = false;
        Ok(())
    }

    fn size(&self) -> u64 {
        self.summary.bytes + self.part.as_ref().map_or(0, |part| part.exporter.size())
    }

    /// Parts are outputs of their own: those that are full have their names already.
    fn prepare(&mut self) -> Result<(), ExportError> {
        self.check_settled()?;
        self.part.as_mut().map_or(Ok(()), |part| part.exporter.prepare())
    }

    fn finish(mut self: Box<Self>) -> Result<ExportSummary, ExportError> {
        self.check_settled()?;
        self.complete_part()?;
        Ok(self.summary)
    }
}

/// `part-20130101T050000Z-0000.csv`; windows that end within a second add its digits.
fn part_name(window_end: i64, number: u32, format: Format) -> String {
    let mut text = Vec::new();
    push_time(&mut text, window_end);
    let mut name = String::from("part-");
    // Dashes and colons go, as in ISO 8601's basic form; only the sign of a far year stays.
    let sign = (!(0..=9999).contains(&civil(window_end.div_euclid(86_400_000_000)).0)).then_some(0);
    for (index, &byte) in text.iter().enumerate() {
        if sign == Some(index) || !matches!(byte, b'-' | b':') {
            name.push(char::from(byte));
        }
    }
    name.push_str(&format!("-{number:04}.{}", format.extension()));
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use corefold_aggregator::result::OutputField;
    use corefold_aggregator::spec::OutputType;
    use std::collections::BTreeMap;

    const HOUR: i64 = 3_600_000_000;

    fn schema() -> OutputSchema {
        let field = |name: &str, kind, nullable| OutputField { name: name.to_owned(), kind, nullable };
        let columns = vec![
            field("window_start", OutputType::Time, false),
            field("window_end", OutputType::Time, false),
            field("count", OutputType::I64, true),
        ];
        OutputSchema { columns, by: 2..2 }
    }

    /// One row per window end, counted from `first`.
    fn batch(window_ends: &[i64], first: usize) -> ResultBatch {
        let columns = vec![
            OutputColumn::Time(window_ends.iter().map(|end| end - HOUR).collect()),
            OutputColumn::Time(window_ends.to_vec()),
            OutputColumn::I64 {
                values: (0..window_ends.len()).map(|row| ((first + row) as i64).pow(3)).collect(),
                valid: (0..window_ends.len()).map(|row| !(first + row).is_multiple_of(5)).collect(),
            },
        ];
        ResultBatch { rows: window_ends.len(), columns, other_rows: Vec::new() }
    }

    fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
    }

    fn hours(hours: i64) -> Option<Duration> {
        Duration::from_micros(hours * HOUR)
    }

    #[test]
    fn parts_end_with_their_span_of_window_ends() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("out");
        let rotation = Rotation { every: hours(24), bytes: None };
        let mut parts = PartsExporter::open(&target, Format::Csv, &schema(), rotation, None).unwrap();
        let ends = [1, 23, 24, 25, 48, 49].map(|end| end * HOUR);
        parts.write(&batch(&ends[..3], 0)).unwrap();
        assert_eq!(parts.committed(), None);
        parts.write(&batch(&ends[3..], 3)).unwrap();
        assert_eq!(parts.committed(), Some(PartPosition { window_end: 48 * HOUR, rows: 1, number: 0 }));
        let complete = files(&target);
        assert_eq!(complete.keys().filter(|name| !name.starts_with('.')).count(), 2);
        let summary = Box::new(parts).finish().unwrap();
        assert_eq!((summary.rows, summary.files), (6, 3));
        let files = files(&target);
        let lines = |(name, bytes): (&String, &Vec<u8>)| (name.clone(), String::from_utf8_lossy(bytes).lines().count());
        let expected = [("19700101", 4), ("19700102", 3), ("19700103", 2)];
        let expected = expected.map(|(day, lines)| (format!("part-{day}T010000Z-0000.csv"), lines));
        assert_eq!(files.iter().map(lines).collect::<Vec<(String, usize)>>(), expected);
    }

    #[test]
    fn parts_are_the_same_whatever_the_batches_and_wherever_a_run_died() {
        let ends: Vec<i64> = (0..15_000).map(|row| (1 + row / 2500) * HOUR).collect();
        for format in Format::ALL {
            let rotation = Rotation { every: hours(3), bytes: Some(40_000) };
            let run = |directory: &Path, size: usize, until: usize, resume: Option<PartPosition>| {
                let mut parts = PartsExporter::open(directory, format, &schema(), rotation, resume).unwrap();
                for first in (0..until).step_by(size) {
                    parts.write(&batch(&ends[first..until.min(first + size)], first)).unwrap();
                }
                Box::new(parts)
            };
            let whole = tempfile::tempdir().unwrap();
            let summary = run(whole.path(), ends.len(), ends.len(), None).finish().unwrap();
            let expected = files(whole.path());
            assert_eq!((summary.rows, summary.files), (ends.len() as u64, expected.len() as u64));
            assert!(expected.keys().any(|name| name.contains("-0001.")), "{format:?}");
            for (size, until) in [(100, 11_111), (4999, 6_000), (14_999, 14_999)] {
                // A run that dies, one that goes on where complete parts end, and one that starts over.
                let directory = tempfile::tempdir().unwrap();
                let died = run(directory.path(), size, until, None);
                let position = died.committed();
                drop(died);
                let complete = files(directory.path());
                assert!(!complete.is_empty());
                assert!(complete.iter().all(|(name, bytes)| expected.get(name) == Some(bytes)), "{format:?} {size}");
                run(directory.path(), size + 7, ends.len(), position).finish().unwrap();
                assert!(files(directory.path()) == expected, "{format:?} {size} resumed");
                run(directory.path(), size, ends.len(), None).finish().unwrap();
                assert!(files(directory.path()) == expected, "{format:?} {size} replayed");
            }
        }
    }

    #[test]
    fn a_file_is_no_directory_and_what_died_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let open = |path: &Path| PartsExporter::open(path, Format::Csv, &schema(), Rotation::default(), None);
        assert!(matches!(open(&file), Err(ExportError::NotDirectory { .. })));
        fs::remove_file(&file).unwrap();
        fs::write(directory.path().join(".part-19700101T010000Z-0000.csv.12.tmp"), "").unwrap();
        let mut parts = open(directory.path()).unwrap();
        assert!(files(directory.path()).is_empty());
        parts.write(&batch(&[HOUR], 0)).unwrap();
        assert_eq!(files(directory.path()).len(), 1);
        drop(parts);
        assert!(files(directory.path()).is_empty());
    }

    #[test]
    fn parts_are_named_after_their_first_window() {
        let table = [
            (1_357_016_400_000_000, 0, "part-20130101T050000Z-0000.csv"),
            (1_357_016_400_500_000, 12, "part-20130101T050000.5Z-0012.csv"),
            (0, 12_345, "part-19700101T000000Z-12345.csv"),
            (253_402_300_800_000_000, 0, "part-+0100000101T000000Z-0000.csv"),
            (-62_167_219_200_000_001, 0, "part--0000011231T235959.999999Z-0000.csv"),
        ];
        for (window_end, number, name) in table {
            assert_eq!(part_name(window_end, number, Format::Csv), name);
        }
    }
}
