//! What an export notes in the manifest, and what it finds there when it is opened again.
//!
//! Cutting rows into files is [`super::parts`]'; the manifest itself is [`crate::manifest`].

use super::Format;
use super::aside::{self, Aside, Extent, aside_of, begins_with, output_of_aside};
use super::error::ExportError;
use super::names::{Names, text_of};
use super::reach::{Reach, RowCount};
use super::target::open_error;
use crate::manifest::steps::{Step, taken};
use crate::manifest::{FileLine, FileState, ManifestError, PartStart, SharedManifest, Totals};
use crate::summary::Ledger;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// Under which name an export of a view keeps its books, and where.
#[derive(Clone, Debug)]
pub struct Booking {
    /// The manifest of the data directory.
    pub manifest: SharedManifest,
    /// Name of the view.
    pub view: String,
}

/// The books of one export.
pub(super) struct Books {
    manifest: SharedManifest,
    store: String,
    /// What is true of every line; `seq` is the manifest's.
    newest: FileLine,
    /// Of files before the one that is open.
    before: Totals,
    ledger: Option<Ledger>,
    /// Every window that ends here or before has been written as a whole.
    pub(super) through: i64,
}

/// A file that an earlier run has begun.
pub(super) struct Begun {
    pub(super) file: Aside,
    pub(super) extent: Extent,
    pub(super) part: PartStart,
    pub(super) rows: u64,
}

/// What a note says of a file.
pub(super) struct FileNote {
    pub(super) state: FileState,
    pub(super) path: PathBuf,
    pub(super) aside: PathBuf,
    pub(super) part: PartStart,
    pub(super) rows: u64,
    pub(super) extent: Extent,
}

/// Up to which window end the export to `path` is committed in every file, by its books alone: no file is looked at.
/// `None` if nothing of it is.
pub fn committed(manifest: &SharedManifest, path: &Path, is_directory: bool) -> Result<Option<i64>, ExportError> {
    let names = if is_directory { Names::of_directory(path)? } else { Names::of_file(path)? };
    let export = names.export()?;
    let manifest = manifest.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(manifest.files_of(&export).last().map(|line| line.through_us))
}

impl Books {
    /// Opens the books: settles what a crash has left half done, and returns the file to go on with, if one is open,
    /// and what is committed.
    pub(super) fn open(
        booking: &Booking,
        names: &Names,
        format: Format,
    ) -> Result<(Books, Option<Begun>, RowCount), ExportError> {
        let export = names.export()?;
        let (store, newest) = look(booking, &export, format)?;
        let mut books = Books {
            manifest: booking.manifest.clone(),
            store,
            newest: newest.unwrap_or_else(|| empty_line(&booking.view, &export, format)),
            before: Totals::default(),
            ledger: None,
            through: i64::MIN,
        };
        books.through = books.newest.through_us;
        books.before = books.newest.total;
        if books.newest.state == FileState::Open {
            books.before.files = books.before.files.saturating_sub(1);
            books.before.bytes = books.before.bytes.saturating_sub(books.newest.bytes);
        }
        books.sweep(names)?;
        let begun = match books.newest.state {
            FileState::Empty | FileState::Complete => None,
            FileState::Closing => {
                books.settle()?;
                None
            }
            FileState::Open => Some(books.reopen()?),
        };
        let FileLine { window_end_us, window_rows, through_us, total, .. } = books.newest;
        let count = match (window_end_us, through_us) {
            (None, i64::MIN) => RowCount::default(),
            (window_end, through) => {
                RowCount::resume(Reach { window_end, window_rows, through }, total.rows, total.windows)
            }
        };
        Ok((books, begun, count))
    }

    /// Every window that ends here or before is committed.
    pub(super) fn committed_through(&self) -> i64 {
        self.newest.through_us
    }

    /// What is committed of the whole export.
    pub(super) fn totals(&self) -> Totals {
        self.newest.total
    }

    /// Whether the last file has its name; no row has come behind it.
    pub(super) fn is_complete(&self) -> bool {
        self.newest.state == FileState::Complete
    }

    /// The part that was noted last and the window of its last row.
    pub(super) fn last_part(&self) -> Option<(PartStart, Option<i64>)> {
        self.newest.part.map(|part| (part, self.newest.window_end_us))
    }

    /// Where a file with this name grows.
    pub(super) fn aside_of(&self, path: &Path) -> PathBuf {
        aside_of(path, &self.store)
    }

    /// Takes over what became of the events so far.
    pub(super) fn set_ledger(&mut self, ledger: Ledger) {
        self.ledger = Some(ledger);
    }

    /// Notes how far a file has come; whatever `count` has counted is in it or in files before it.
    pub(super) fn note(&mut self, file: &FileNote, count: &RowCount) -> Result<(), ExportError> {
        let (window_end_us, window_rows) = count.place();
        let line = FileLine {
            state: file.state,
            file: Some(text_of(&file.path)?),
            aside: match file.state {
                FileState::Open | FileState::Closing => Some(text_of(&file.aside)?),
                FileState::Empty | FileState::Complete => None,
            },
            part: Some(file.part),
            bytes: file.extent.bytes,
            rows: file.rows,
            crc32c: file.extent.crc,
            window_end_us,
            window_rows,
            through_us: self.through,
            total: Totals {
                rows: count.rows(),
                windows: count.windows(),
                files: self.before.files + 1,
                bytes: self.before.bytes + file.extent.bytes,
            },
            ledger: self.ledger.or(self.newest.ledger),
            ..self.newest.clone()
        };
        self.append(line)?;
        if file.state == FileState::Complete {
            self.before = self.newest.total;
        }
        Ok(())
    }

    /// Notes that more windows are written as a whole, though no file has grown.
    pub(super) fn note_through(&mut self) -> Result<(), ExportError> {
        if self.newest.through_us == self.through {
            return Ok(());
        }
        let line =
            FileLine { through_us: self.through, ledger: self.ledger.or(self.newest.ledger), ..self.newest.clone() };
        self.append(line)
    }

    fn append(&mut self, line: FileLine) -> Result<(), ExportError> {
        // A line that is there already would only say what is known.
        if line == self.newest {
            return Ok(());
        }
        // A thread that panicked over it has failed the run; the manifest is latched if it was being written.
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner).append(line.clone())?;
        self.newest = line;
        Ok(())
    }

    /// The paths that the newest line names: the file's, and where it grew.
    fn places(&self) -> (PathBuf, PathBuf) {
        let path = PathBuf::from(self.newest.file.as_deref().unwrap_or_default());
        let aside = self.newest.aside.as_ref().map_or_else(|| self.aside_of(&path), PathBuf::from);
        (path, aside)
    }

    fn extent(&self) -> Extent {
        Extent { bytes: self.newest.bytes, crc: self.newest.crc32c }
    }

    /// Gives a file its name of which all bytes were durable when the last run ended. It may have its name, and
    /// somebody may have taken it away already.
    fn settle(&mut self) -> Result<(), ExportError> {
        let (path, aside) = self.places();
        if self.is_whole(&aside)? {
            aside::install(&aside, &path)?;
        } else if self.is_whole(&path)? {
            aside::sync_names(&path).map_err(|cause| ExportError::from_commit(&path, "made durable", cause))?;
        }
        let line = FileLine { state: FileState::Complete, aside: None, ..self.newest.clone() };
        self.append(line)
    }

    /// Whether there is a file with the committed bytes and no others; one that differs is refused.
    fn is_whole(&self, path: &Path) -> Result<bool, ExportError> {
        let changed = |reason| Err(ExportError::Changed { path: path.to_path_buf(), reason });
        match begins_with(path, self.extent()).map_err(|cause| open_error(path, cause))? {
            None => Ok(false),
            Some(Err(reason)) => changed(reason),
            Some(Ok(())) => {
                let length = fs::metadata(path).map_err(|cause| open_error(path, cause))?.len();
                if length == self.newest.bytes {
                    return Ok(true);
                }
                changed(format!("it has {length} bytes, and {} are committed", self.newest.bytes))
            }
        }
    }

    fn reopen(&mut self) -> Result<Begun, ExportError> {
        let (path, aside) = self.places();
        if !aside.exists() && matches!(begins_with(&path, self.extent()), Ok(Some(Ok(())))) {
            // It got its name, but the lines that say so are lost: it is taken back, and gets it again.
            fs::rename(&path, &aside).map_err(|cause| ExportError::from_commit(&path, "taken back", cause))?;
            taken(Step::Changed(&aside));
            aside::sync_names(&aside).map_err(|cause| ExportError::from_commit(&path, "taken back", cause))?;
        }
        let part = self.newest.part.unwrap_or(PartStart { first_window_end_us: i64::MIN, number: 0 });
        let file = Aside::reopen(path, aside, self.extent())?;
        Ok(Begun { file, extent: self.extent(), part, rows: self.newest.rows })
    }

    /// Removes unfinished files of which nothing is committed: their rows come again. One that is committed under
    /// another path has been moved, with rows that do not come again.
    fn sweep(&self, names: &Names) -> Result<(), ExportError> {
        let directory = names.directory();
        let entries = fs::read_dir(&directory).map_err(|cause| open_error(&directory, cause))?;
        for entry in entries {
            let entry = entry.map_err(|cause| open_error(&directory, cause))?;
            let name = entry.file_name();
            let output = name.to_str().and_then(|name| output_of_aside(name, &self.store));
            if !output.is_some_and(|output| names.is_ours(output)) {
                continue;
            }
            let found = directory.join(&name);
            if self.newest.aside.as_ref().is_some_and(|known| *known == *found.to_string_lossy()) {
                continue;
            }
            let manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
            let moved = manifest.files().into_iter().find_map(|line| {
                let known = line.aside.clone();
                known.filter(|known| Path::new(known).file_name() == Some(name.as_os_str())).map(|known| (known, line))
            });
            match moved {
                // Exports to several directories have files of one name. Where the other one has its name already, it
                // is not missing, and this is not it.
                Some((known, line)) if !Path::new(&known).exists() && !has_its_name(line)? => {
                    return Err(ExportError::Moved { found, known });
                }
                _ => fs::remove_file(&found).map_err(|cause| open_error(&found, cause))?,
            }
            taken(Step::Changed(&found));
        }
        Ok(())
    }
}

/// Whether a file that was to get its name has it, with the committed bytes.
fn has_its_name(line: &FileLine) -> Result<bool, ExportError> {
    let path = Path::new(line.file.as_deref().unwrap_or_default());
    let extent = Extent { bytes: line.bytes, crc: line.crc32c };
    let found = begins_with(path, extent).map_err(|cause| open_error(path, cause))?;
    Ok(extent.bytes > 0 && matches!(found, Some(Ok(()))))
}

/// The store's UUID, and the newest line of the export, if it is one of the same view in the same format.
fn look(booking: &Booking, export: &str, format: Format) -> Result<(String, Option<FileLine>), ExportError> {
    let manifest = booking.manifest.lock().unwrap_or_else(PoisonError::into_inner);
    let files = manifest.files_of(export);
    let describe = |view: &str, format: &str| format!("for the view `{view}` as {format}");
    for line in &files {
        if line.view != booking.view || line.format != format.name() {
            let (was, now) = (describe(&line.view, &line.format), describe(&booking.view, format.name()));
            return Err(ExportError::OtherUse { export: export.to_owned(), was, now });
        }
    }
    let newest = files.last().map(|line| (*line).clone());
    if let Some(unfinished) = files.iter().rev().skip(1).find(|line| line.state != FileState::Complete) {
        // Lines are written in an order in which this cannot be.
        let fault = format!("{} is unfinished, but files behind it are not", unfinished.file.as_deref().unwrap_or("-"));
        return Err(ManifestError::Damaged { path: manifest.path().to_path_buf(), line: 0, offset: 0, fault }.into());
    }
    Ok((manifest.store().to_owned(), newest))
}

fn empty_line(view: &str, export: &str, format: Format) -> FileLine {
    FileLine {
        seq: 0,
        view: view.to_owned(),
        export: export.to_owned(),
        format: format.name().to_owned(),
        state: FileState::Empty,
        file: None,
        aside: None,
        part: None,
        bytes: 0,
        rows: 0,
        crc32c: 0,
        window_end_us: None,
        window_rows: 0,
        through_us: i64::MIN,
        total: Totals::default(),
        ledger: None,
    }
}
