//! Where an export's files lie and what they are called, parts of a directory or a single file.
//!
//! How they are written is in [`super::parts`]; where they grow before they have their names is [`super::aside`]'s.

use super::Format;
use super::error::ExportError;
use super::target::{follow_links, open_error, parent_of, sync_directory};
use super::text::{civil, push_time};
use std::fs;
use std::path::{Path, PathBuf};

/// What an export writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Names {
    /// Parts into this directory.
    Directory(PathBuf),
    /// This file.
    File(PathBuf),
}

impl Names {
    /// The directory, which is made if it is missing, as it is spelled whatever the working directory.
    pub(super) fn of_directory(directory: &Path) -> Result<Names, ExportError> {
        if fs::metadata(directory).is_ok_and(|metadata| !metadata.is_dir()) {
            return Err(ExportError::NotDirectory { path: directory.to_path_buf() });
        }
        make_durably(directory)?;
        Ok(Names::Directory(canonical(directory)?))
    }

    /// The file behind `path`, in a directory that is made if it is missing.
    pub(super) fn of_file(path: &Path) -> Result<Names, ExportError> {
        let resolved = follow_links(path).map_err(|cause| open_error(path, cause))?;
        let is_directory = fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
        let Some(name) = resolved.file_name().filter(|_| !is_directory) else {
            return Err(ExportError::IsDirectory { path: path.to_path_buf() });
        };
        let directory = parent_of(&resolved);
        make_durably(&directory)?;
        Ok(Names::File(canonical(&directory)?.join(name)))
    }

    /// The export's name in a manifest: directories end in a slash.
    pub(super) fn export(&self) -> Result<String, ExportError> {
        match self {
            Names::Directory(path) => text_of(path).map(|text| format!("{}/", text.trim_end_matches('/'))),
            Names::File(path) => text_of(path),
        }
    }

    /// Where the part lies whose first row is of the window that ends at `first_window_end`.
    pub(super) fn part(&self, first_window_end: i64, number: u32, format: Format) -> PathBuf {
        match self {
            Names::Directory(directory) => directory.join(part_name(first_window_end, number, format)),
            Names::File(path) => path.clone(),
        }
    }

    /// The directory that the files lie in.
    pub(super) fn directory(&self) -> PathBuf {
        match self {
            Names::Directory(directory) => directory.clone(),
            Names::File(path) => parent_of(path),
        }
    }

    /// A file whose temporary is made and dropped, to see whether the directory can be written; swept like the others if
    /// a kill leaves it.
    pub(super) fn probe(&self) -> PathBuf {
        match self {
            Names::Directory(directory) => directory.join("part-probe"),
            Names::File(path) => path.clone(),
        }
    }

    /// Whether a file called `name` is one of the export's.
    pub(super) fn is_ours(&self, name: &str) -> bool {
        match self {
            Names::Directory(_) => name.starts_with("part-"),
            Names::File(path) => path.file_name().is_some_and(|own| own == name),
        }
    }
}

/// A path as a manifest names it.
pub(super) fn text_of(path: &Path) -> Result<String, ExportError> {
    path.to_str().map(str::to_owned).ok_or_else(|| ExportError::NotText { path: path.to_path_buf() })
}

fn canonical(directory: &Path) -> Result<PathBuf, ExportError> {
    fs::canonicalize(directory).map_err(|cause| open_error(directory, cause))
}

/// Makes a directory and those above it that are missing, so that they outlive a power cut.
fn make_durably(directory: &Path) -> Result<(), ExportError> {
    let mut missing = Vec::new();
    let mut place = directory.to_path_buf();
    while !place.exists() && !missing.contains(&place) {
        let parent = parent_of(&place);
        missing.push(std::mem::replace(&mut place, parent));
    }
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |cause| ExportError::CreateDirectory { path, cause }
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    for made in missing.iter().rev() {
        sync_directory(&parent_of(made)).map_err(failed(made))?;
    }
    Ok(())
}

/// `part-20130101T050000Z-0000.csv`; windows that end within a second add its digits.
pub(super) fn part_name(window_end: i64, number: u32, format: Format) -> String {
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

    /// What a kill leaves of it is swept by the next run.
    #[test]
    fn a_probe_is_one_of_the_exports_files() {
        for names in [Names::Directory("/out/parts".into()), Names::File("/out/all.ndjson".into())] {
            let probe = names.probe();
            let name = probe.file_name().and_then(|name| name.to_str());
            assert!(name.is_some_and(|name| names.is_ours(name)), "{probe:?}");
            assert_eq!(parent_of(&probe), names.directory());
        }
    }
}
