//! Results of a long run: a directory of part files, or a single file, each complete when it gets its name.
//!
//! Where one part ends and the next begins depends only on the rows. With a manifest a later run continues where the
//! last one has committed; without one it writes the same files again, byte for byte. Retention of old parts is not
//! here.

use super::aside::{Aside, Extent};
use super::books::{Begun, Booking, Books, FileNote};
use super::error::ExportError;
use super::names::Names;
use super::reach::RowCount;
use super::target::{self, Sink, Target};
use super::{CommitNote, ExportSummary, Exporter, FileExporter, Format, check_shape, open_in};
use crate::manifest::{FileState, PartStart};
use corefold_aggregator::result::{OutputColumn, OutputSchema, ResultBatch};
use corefold_aggregator::time::{Duration, EventTime};
use std::ops::Range;
use std::path::Path;

/// Rows of a part between two looks at its size.
const SIZE_CHECK_ROWS: u64 = if cfg!(test) { 16 } else { 1024 };

/// The column of window ends; outputs begin with window start and window end.
const WINDOW_END_COLUMN: usize = 1;

/// When a part ends. With neither, there is one part per run, or per input if there is a manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rotation {
    /// A part holds windows that end within one such span, counted from the epoch: with a day, those that end
    /// after midnight and no later than the next midnight.
    pub every: Option<Duration>,
    /// A part ends soon after it reaches this size (looked at every 1,024 rows; Parquet and Arrow: estimated).
    pub bytes: Option<u64>,
}

/// Writes part files named `part-20130101T050000Z-0000.csv` after the window end of their first row, or one file.
pub struct PartsExporter {
    names: Names,
    format: Format,
    schema: OutputSchema,
    rotation: Rotation,
    part: Option<Part>,
    count: RowCount,
    /// The part that was completed last, and the window of its last row.
    last: Option<(PartStart, Option<i64>)>,
    /// Of complete parts; where there are books, they know more.
    summary: ExportSummary,
    books: Option<Books>,
    /// Set while rows are being written: stays set after a failure, so that no later part hides the gap.
    unsettled: bool,
    suspended: bool,
}

struct Part {
    exporter: Box<dyn FileExporter>,
    start: PartStart,
    rows: u64,
}

impl PartsExporter {
    /// Opens `directory`, making it if needed and removing temporaries of dead runs.
    pub fn open(
        directory: &Path,
        format: Format,
        schema: &OutputSchema,
        rotation: Rotation,
    ) -> Result<PartsExporter, ExportError> {
        let names = Names::of_directory(directory)?;
        Ok(PartsExporter::new(PartsExporter::at(names, format, rotation)?, schema))
    }

    /// Opens a directory of parts that goes on where the manifest says.
    pub fn open_booked(
        directory: &Path,
        format: Format,
        schema: &OutputSchema,
        rotation: Rotation,
        booking: &Booking,
    ) -> Result<PartsExporter, ExportError> {
        let names = Names::of_directory(directory)?;
        PartsExporter::book(PartsExporter::at(names, format, rotation)?, schema, booking)
    }

    /// Opens a single file that goes on where the manifest says: text behind its last committed row, the other
    /// formats from the beginning. Pipes and devices cannot be continued and are written as they are.
    pub fn open_file_booked(
        path: &Path,
        format: Format,
        schema: &OutputSchema,
        booking: &Booking,
    ) -> Result<Box<dyn Exporter>, ExportError> {
        match Target::from_argument(path) {
            Target::File(path) if !target::is_direct(&path) => {
                let names = Names::of_file(&path)?;
                let opening = PartsExporter::at(names, format, Rotation::default())?;
                Ok(Box::new(PartsExporter::book(opening, schema, booking)?))
            }
            target => super::open(target, format, schema),
        }
    }

    fn at(names: Names, format: Format, rotation: Rotation) -> Result<Opening, ExportError> {
        target::sweep(&names.directory(), |name| std::str::from_utf8(name).is_ok_and(|name| names.is_ours(name)));
        // Made and dropped: a directory that cannot be written is refused now, not after the first window.
        drop(Sink::open_part(names.probe())?);
        Ok(Opening { names, format, rotation })
    }

    fn new(opening: Opening, schema: &OutputSchema) -> PartsExporter {
        let Opening { names, format, rotation } = opening;
        PartsExporter {
            names,
            format,
            schema: schema.clone(),
            rotation,
            part: None,
            count: RowCount::default(),
            last: None,
            summary: ExportSummary::default(),
            books: None,
            unsettled: false,
            suspended: false,
        }
    }

    fn book(opening: Opening, schema: &OutputSchema, booking: &Booking) -> Result<PartsExporter, ExportError> {
        let (books, begun, count) = Books::open(booking, &opening.names, opening.format)?;
        let mut parts = PartsExporter::new(opening, schema);
        (parts.count, parts.last) = (count, books.last_part());
        if let Some(Begun { file, extent, part, rows }) = begun {
            let exporter = open_in(Sink::aside(file, extent), parts.format, schema)?;
            parts.part = Some(Part { exporter, start: part, rows });
        }
        parts.books = Some(books);
        Ok(parts)
    }

    fn discontinuous(&self, reason: String) -> ExportError {
        let export = self.names.export().unwrap_or_else(|_| self.names.directory().display().to_string());
        ExportError::Discontinuous { export, reason }
    }

    /// Begins the part whose first row is of the window that ends at `first_window_end`.
    fn open_part(&self, first_window_end: i64) -> Result<Part, ExportError> {
        let number = match self.last {
            Some((last, Some(window_end)))
                if window_end == first_window_end && last.first_window_end_us == window_end =>
            {
                last.number + 1
            }
            _ => 0,
        };
        let path = self.names.part(first_window_end, number, self.format);
        let sink = match &self.books {
            None => Sink::open_part(path)?,
            Some(books) => {
                let aside = books.aside_of(&path);
                Sink::aside(Aside::create(path, aside)?, Extent::default())
            }
        };
        let exporter = open_in(sink, self.format, &self.schema)?;
        Ok(Part { exporter, start: PartStart { first_window_end_us: first_window_end, number }, rows: 0 })
    }

    /// Completes the part being written; every window that ends at `through` or before has been written by then.
    fn complete_part(&mut self, through: i64) -> Result<(), ExportError> {
        let Some(mut part) = self.part.take() else { return Ok(()) };
        self.last = Some((part.start, self.count.place().0));
        let Some(books) = &mut self.books else {
            let written = part.exporter.finish()?;
            self.summary.rows += written.rows;
            self.summary.bytes += written.bytes;
            self.summary.files += 1;
            return Ok(());
        };
        part.exporter.prepare()?;
        books.through = books.through.max(through);
        let mut note = part.note(FileState::Closing)?;
        // From here on a crash leaves a file that gets its name at the next start.
        books.note(&note, &self.count)?;
        part.exporter.finish()?;
        note.state = FileState::Complete;
        books.note(&note, &self.count)
    }

    fn check_settled(&self) -> Result<(), ExportError> {
        if self.unsettled || self.suspended {
            return Err(ExportError::Shape { reason: String::from("parts go on after a failure or an end") });
        }
        Ok(())
    }

    /// Whether a row of the window that ends at `window_end` starts a new part.
    fn must_rotate(&self, part: &Part, window_end: i64) -> bool {
        if let Some(every) = self.rotation.every.filter(|every| every.micros() > 0) {
            let span = |end: i64| end.saturating_sub(1).div_euclid(every.micros());
            if span(part.start.first_window_end_us) != span(window_end) {
                return true;
            }
        }
        match self.rotation.bytes {
            Some(bytes) => part.rows > 0 && part.rows.is_multiple_of(SIZE_CHECK_ROWS) && part.exporter.size() >= bytes,
            None => false,
        }
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

/// A place that was looked at.
struct Opening {
    names: Names,
    format: Format,
    rotation: Rotation,
}

impl Part {
    /// What is to be noted of it; from then on its file stays.
    fn note(&mut self, state: FileState) -> Result<FileNote, ExportError> {
        let sink = self.exporter.sink();
        let extent = sink.extent();
        let Some(file) = sink.aside_mut() else {
            return Err(ExportError::Shape { reason: String::from("a booked part is no file aside") });
        };
        file.keep();
        let (path, aside) = (file.path().to_path_buf(), file.aside().to_path_buf());
        Ok(FileNote { state, path, aside, part: self.start, rows: self.rows, extent })
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
            let mut after = self.count.clone();
            if !after.count(window_end).map_err(|reason| self.discontinuous(reason))? {
                // It is in a file already, and no row before it in this batch is not.
                self.count = after;
                pending = row + 1;
                continue;
            }
            if self.part.as_ref().is_some_and(|part| part.rows.is_multiple_of(SIZE_CHECK_ROWS)) {
                self.write_run(batch, pending..row)?;
                pending = row;
            }
            if self.part.as_ref().is_some_and(|part| self.must_rotate(part, window_end)) {
                self.write_run(batch, pending..row)?;
                pending = row;
                // What is noted ends before this row.
                self.complete_part(window_end - 1)?;
            }
            self.count = after;
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

    /// Syncs and notes what is written: all rows of text, and of the other formats the parts that are complete.
    fn commit(&mut self, note: CommitNote) -> Result<(), ExportError> {
        self.check_settled()?;
        if self.books.is_none() {
            return Ok(());
        }
        let through = note.through.0;
        self.count.pass(through).map_err(|reason| self.discontinuous(reason))?;
        let Some(books) = &mut self.books else { return Ok(()) };
        books.set_ledger(note.ledger);
        match &mut self.part {
            Some(part) if self.format.is_text() => {
                part.exporter.sink().sync()?;
                books.through = books.through.max(through);
                let note = part.note(FileState::Open)?;
                books.note(&note, &self.count)
            }
            Some(_) => Ok(()),
            None => {
                books.through = books.through.max(through);
                books.note_through()
            }
        }
    }

    fn committed_through(&self) -> EventTime {
        self.books.as_ref().map_or(EventTime::MAX, |books| EventTime(books.committed_through()))
    }

    fn suspend(&mut self) -> Result<bool, ExportError> {
        self.check_settled()?;
        let Some(books) = &mut self.books else { return Ok(false) };
        if let Some(part) = self.part.as_mut().filter(|_| self.format.is_text()) {
            part.exporter.sink().sync()?;
            let note = part.note(FileState::Open)?;
            books.note(&note, &self.count)?;
        }
        self.suspended = true;
        Ok(true)
    }

    /// Parts are outputs of their own: those that are full have their names already.
    fn prepare(&mut self) -> Result<(), ExportError> {
        self.check_settled()?;
        self.count.pass(i64::MAX).map_err(|reason| self.discontinuous(reason))?;
        let is_due = self.books.as_ref().is_some_and(|books| !books.is_complete());
        if self.part.is_none() && is_due && matches!(self.names, Names::File(_)) {
            // No row came: the file has a header and no more.
            self.part = Some(self.open_part(i64::MIN)?);
        }
        self.part.as_mut().map_or(Ok(()), |part| part.exporter.prepare())
    }

    fn finish(mut self: Box<Self>) -> Result<ExportSummary, ExportError> {
        if !self.suspended {
            self.prepare()?;
            self.complete_part(i64::MAX)?;
            if let Some(books) = &mut self.books {
                books.through = i64::MAX;
                books.note_through()?;
            }
        }
        let Some(books) = &self.books else { return Ok(self.summary) };
        let total = books.totals();
        Ok(ExportSummary { rows: total.rows, files: total.files, bytes: total.bytes })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use corefold_aggregator::result::OutputField;
    use corefold_aggregator::spec::OutputType;
    use std::collections::BTreeMap;
    use std::fs;

    pub(in super::super) const HOUR: i64 = 3_600_000_000;

    pub(in super::super) fn schema() -> OutputSchema {
        let field = |name: &str, kind, nullable| OutputField { name: name.to_owned(), kind, nullable };
        let columns = vec![
            field("window_start", OutputType::Time, false),
            field("window_end", OutputType::Time, false),
            field("count", OutputType::I64, true),
        ];
        OutputSchema { columns, by: 2..2 }
    }

    /// One row per window end, counted from `first`.
    pub(in super::super) fn batch(window_ends: &[i64], first: usize) -> ResultBatch {
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

    pub(in super::super) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
    }

    pub(in super::super) fn hours(hours: i64) -> Option<Duration> {
        Duration::from_micros(hours * HOUR)
    }

    #[test]
    fn parts_end_with_their_span_of_window_ends() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("out");
        let rotation = Rotation { every: hours(24), bytes: None };
        let mut parts = PartsExporter::open(&target, Format::Csv, &schema(), rotation).unwrap();
        let ends = [1, 23, 24, 25, 48, 49].map(|end| end * HOUR);
        parts.write(&batch(&ends[..3], 0)).unwrap();
        parts.write(&batch(&ends[3..], 3)).unwrap();
        assert_eq!(parts.committed_through(), EventTime::MAX, "without a manifest nothing is waited for");
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
            let run = |directory: &Path, size: usize, until: usize| {
                let mut parts = PartsExporter::open(directory, format, &schema(), rotation).unwrap();
                for first in (0..until).step_by(size) {
                    parts.write(&batch(&ends[first..until.min(first + size)], first)).unwrap();
                }
                Box::new(parts)
            };
            let whole = tempfile::tempdir().unwrap();
            let summary = run(whole.path(), ends.len(), ends.len()).finish().unwrap();
            let expected = files(whole.path());
            assert_eq!((summary.rows, summary.files), (ends.len() as u64, expected.len() as u64));
            assert!(expected.keys().any(|name| name.contains("-0001.")), "{format:?}");
            for (size, until) in [(100, 11_111), (4999, 6_000), (14_999, 14_999)] {
                // A run that dies, and one that starts over.
                let directory = tempfile::tempdir().unwrap();
                drop(run(directory.path(), size, until));
                let complete = files(directory.path());
                assert!(!complete.is_empty());
                assert!(complete.iter().all(|(name, bytes)| expected.get(name) == Some(bytes)), "{format:?} {size}");
                run(directory.path(), size, ends.len()).finish().unwrap();
                assert!(files(directory.path()) == expected, "{format:?} {size}");
            }
        }
    }

    #[test]
    fn a_file_is_no_directory_and_what_died_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let open = |path: &Path| PartsExporter::open(path, Format::Csv, &schema(), Rotation::default());
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
}
