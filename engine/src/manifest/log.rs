//! The manifest as a file that grows: read once, compacted, and then appended to, a durable line per commit.
//!
//! What a line says is in [`super::line`], how a whole file is judged in [`super::scan`].

use super::error::ManifestError;
use super::line::{FileLine, FileState, Header, LINE_SIZE_MAX, Line, MANIFEST_FORMAT, encode};
use super::scan::{self, Verdict};
use super::steps::{Step, taken};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Name of the file in the data directory.
pub const MANIFEST_FILE: &str = "manifest.ndjson";

/// A running engine compacts when the file has grown by this much, and to several times its compacted size.
const COMPACT_SIZE_MIN: u64 = 8 << 20;

/// How much larger than its compacted size a file becomes before it is compacted again.
const COMPACT_GROWTH: u64 = 4;

/// A manifest that all exporters of an engine share.
pub type SharedManifest = Arc<Mutex<Manifest>>;

/// The manifest of a data directory that this process owns.
#[derive(Debug)]
pub struct Manifest {
    path: PathBuf,
    store: String,
    file: File,
    size: u64,
    /// Its size when it was compacted last.
    size_compacted: u64,
    compact_size_min: u64,
    next_seq: u64,
    /// The newest line of every file, by export and file.
    newest: BTreeMap<(String, Option<String>), FileLine>,
    /// What was cut off the end when it was opened.
    cut: Option<u64>,
    latched: bool,
}

impl Manifest {
    /// Opens the manifest of the data directory `root` with the UUID `store`; makes it if there is none. A line that
    /// a crash has torn is cut; anything else that is damaged is refused.
    pub fn open(root: &Path, store: &str) -> Result<Manifest, ManifestError> {
        let path = root.join(MANIFEST_FILE);
        let mut found = Found::default();
        match File::open(&path) {
            Ok(file) => {
                // What a killed process wrote last may not be durable yet, and is about to be relied on.
                file.sync_data().map_err(ManifestError::io("sync", &path))?;
                // Nor its name, if it was killed behind the rename.
                File::open(root).and_then(|root| root.sync_all()).map_err(ManifestError::io("sync", root))?;
                found.read(&path, file, store)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ManifestError::io("open", &path)(error)),
        }
        let cut = found.cut;
        let (file, size) = match found.is_compact() {
            true => (open_for_appending(&path)?, found.size),
            false => rewrite(&path, store, found.next_seq, found.newest.values())?,
        };
        Ok(Manifest {
            path,
            store: store.to_owned(),
            file,
            size,
            size_compacted: size,
            compact_size_min: COMPACT_SIZE_MIN,
            next_seq: found.next_seq,
            newest: found.newest,
            cut,
            latched: false,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// UUID of the data directory.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Bytes of a torn line that were cut off when it was opened.
    pub fn cut(&self) -> Option<u64> {
        self.cut
    }

    /// The newest line of every file of an export, oldest first.
    pub fn files_of(&self, export: &str) -> Vec<&FileLine> {
        let from = (export.to_owned(), None);
        let mut files: Vec<&FileLine> =
            self.newest.range(from..).take_while(|((of, _), _)| of == export).map(|(_, line)| line).collect();
        files.sort_by_key(|line| line.seq);
        files
    }

    /// The newest line of every file, oldest first.
    pub fn files(&self) -> Vec<&FileLine> {
        let mut files: Vec<&FileLine> = self.newest.values().collect();
        files.sort_by_key(|line| line.seq);
        files
    }

    /// Appends a line, numbered, and makes it durable. After a failure nothing can be appended any more.
    pub fn append(&mut self, mut line: FileLine) -> Result<(), ManifestError> {
        if self.latched {
            return Err(ManifestError::Latched { path: self.path.clone() });
        }
        self.latched = true;
        line.seq = self.next_seq;
        let bytes = spell(&self.path, &line)?;
        self.file.write_all(&bytes).map_err(ManifestError::io("write", &self.path))?;
        taken(Step::Changed(&self.path));
        self.file.sync_data().map_err(ManifestError::io("sync", &self.path))?;
        taken(Step::Synced(&self.path));
        self.size += bytes.len() as u64;
        self.next_seq += 1;
        remember(&mut self.newest, line);
        if self.size > self.compact_size_min.max(COMPACT_GROWTH * self.size_compacted) {
            (self.file, self.size) = rewrite(&self.path, &self.store, self.next_seq, self.newest.values())?;
            self.size_compacted = self.size;
        }
        self.latched = false;
        Ok(())
    }
}

/// What stands in a manifest.
#[derive(Debug, Default)]
struct Found {
    newest: BTreeMap<(String, Option<String>), FileLine>,
    next_seq: u64,
    lines: u64,
    size: u64,
    cut: Option<u64>,
}

impl Found {
    fn read(&mut self, path: &Path, file: File, store: &str) -> Result<(), ManifestError> {
        let mut owner = None;
        let (mut sound_end, mut end) = (0, 0);
        let verdict = scan::walk(BufReader::new(file), |seen| {
            end = seen.end;
            match seen.line {
                Ok(Line::Header(header)) => {
                    owner = Some(header.store);
                    (self.next_seq, sound_end) = (header.next_seq, seen.end);
                }
                Ok(Line::File(line)) => {
                    self.next_seq = self.next_seq.max(line.seq + 1);
                    self.lines += 1;
                    sound_end = seen.end;
                    remember(&mut self.newest, *line);
                }
                Err(_) => {}
            }
            Ok::<(), io::Error>(())
        });
        match verdict.map_err(ManifestError::io("read", path))? {
            Verdict::Sound => {}
            Verdict::Torn(_) => self.cut = Some(end - sound_end),
            Verdict::Damaged(spot) => {
                let (line, offset, fault) = (spot.line, spot.offset, spot.fault);
                return Err(ManifestError::Damaged { path: path.to_path_buf(), line, offset, fault });
            }
        }
        self.size = sound_end;
        match owner {
            Some(owner) if owner != store => {
                let (path, expected) = (path.to_path_buf(), store.to_owned());
                Err(ManifestError::Foreign { path, expected, found: owner })
            }
            _ => Ok(()),
        }
    }

    /// Whether the file is there and holds nothing but what a compaction would write.
    fn is_compact(&self) -> bool {
        self.size > 0 && self.cut.is_none() && self.lines == self.newest.len() as u64
    }
}

/// The line takes the place of the one before about the same file; the first file takes that of having none.
fn remember(newest: &mut BTreeMap<(String, Option<String>), FileLine>, line: FileLine) {
    if line.state != FileState::Empty {
        newest.remove(&(line.export.clone(), None));
    }
    newest.insert((line.export.clone(), line.file.clone()), line);
}

fn spell(path: &Path, line: &FileLine) -> Result<Vec<u8>, ManifestError> {
    let bytes = encode(line).map_err(|error| ManifestError::io("write", path)(error.into()))?;
    if bytes.len() > LINE_SIZE_MAX {
        let error = io::Error::other("the names in a line are too long");
        return Err(ManifestError::io("write", path)(error));
    }
    Ok(bytes)
}

/// Writes a compacted manifest beside the old one and puts it in its place.
fn rewrite<'a>(
    path: &Path,
    store: &str,
    next_seq: u64,
    lines: impl Iterator<Item = &'a FileLine>,
) -> Result<(File, u64), ManifestError> {
    let mut lines: Vec<&FileLine> = lines.collect();
    lines.sort_by_key(|line| line.seq);
    let header = Header { manifest: MANIFEST_FORMAT, store: store.to_owned(), kept: lines.len() as u64, next_seq };
    let mut bytes = encode(&header).map_err(|error| ManifestError::io("write", path)(error.into()))?;
    for line in lines {
        bytes.extend_from_slice(&spell(path, line)?);
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    let aside = PathBuf::from(aside);
    let mut file = File::create(&aside).map_err(ManifestError::io("create", &aside))?;
    file.write_all(&bytes).map_err(ManifestError::io("write", &aside))?;
    taken(Step::Changed(&aside));
    file.sync_all().map_err(ManifestError::io("sync", &aside))?;
    taken(Step::Synced(&aside));
    fs::rename(&aside, path).map_err(ManifestError::io("rename", &aside))?;
    taken(Step::Changed(path));
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(ManifestError::io("sync", directory))?;
    taken(Step::NamesSynced(directory));
    Ok((open_for_appending(path)?, bytes.len() as u64))
}

fn open_for_appending(path: &Path) -> Result<File, ManifestError> {
    OpenOptions::new().append(true).open(path).map_err(ManifestError::io("open", path))
}

#[cfg(test)]
mod tests {
    use super::super::line::tests::sample;
    use super::*;

    fn line(export: &str, file: &str, state: FileState, rows: u64) -> FileLine {
        let file = (state != FileState::Empty).then(|| file.to_owned());
        FileLine { export: export.to_owned(), file, state, rows, ..sample(0) }
    }

    fn facts(manifest: &Manifest, export: &str) -> Vec<(u64, Option<String>, u64)> {
        manifest.files_of(export).iter().map(|line| (line.seq, line.file.clone(), line.rows)).collect()
    }

    #[test]
    fn the_newest_line_of_each_file_survives_compaction() {
        let root = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::open(root.path(), "s").unwrap();
        assert_eq!((manifest.files().len(), manifest.cut()), (0, None));
        manifest.append(line("/a/", "", FileState::Empty, 0)).unwrap();
        manifest.append(line("/a/", "1", FileState::Open, 1)).unwrap();
        manifest.append(line("/b", "/b", FileState::Open, 1)).unwrap();
        manifest.append(line("/a/", "1", FileState::Complete, 2)).unwrap();
        manifest.append(line("/a/", "2", FileState::Open, 3)).unwrap();
        manifest.append(line("/a/", "2", FileState::Open, 4)).unwrap();
        let a = [(3, Some(String::from("1")), 2), (5, Some(String::from("2")), 4)];
        assert_eq!(facts(&manifest, "/a/"), a);
        drop(manifest);
        let size = |root: &Path| fs::read(root.join(MANIFEST_FILE)).unwrap().len();
        let before = size(root.path());
        for _ in 0..2 {
            let manifest = Manifest::open(root.path(), "s").unwrap();
            assert_eq!(facts(&manifest, "/a/"), a);
            assert_eq!(facts(&manifest, "/b"), [(2, Some(String::from("/b")), 1)]);
            assert!(size(root.path()) < before);
        }
        let mut manifest = Manifest::open(root.path(), "s").unwrap();
        manifest.append(line("/b", "/b", FileState::Complete, 2)).unwrap();
        assert_eq!(facts(&Manifest::open(root.path(), "s").unwrap(), "/b"), [(6, Some(String::from("/b")), 2)]);
    }

    #[test]
    fn a_running_engine_compacts_too() {
        let root = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::open(root.path(), "s").unwrap();
        manifest.compact_size_min = 4000;
        let mut sizes = Vec::new();
        for rows in 0..100 {
            manifest.append(line("/a/", "1", FileState::Open, rows)).unwrap();
            let size = fs::metadata(manifest.path()).unwrap().len();
            assert_eq!(size, manifest.size);
            sizes.push(size);
        }
        assert!(sizes.iter().all(|&size| size < 5000), "{sizes:?}");
        assert_eq!(facts(&manifest, "/a/"), [(99, Some(String::from("1")), 99)]);
        assert_eq!(facts(&Manifest::open(root.path(), "s").unwrap(), "/a/"), facts(&manifest, "/a/"));
    }

    #[test]
    fn torn_is_cut_and_damaged_is_refused_with_the_place() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(MANIFEST_FILE);
        let mut manifest = Manifest::open(root.path(), "s").unwrap();
        for rows in 0..3 {
            manifest.append(line("/a/", &rows.to_string(), FileState::Complete, rows)).unwrap();
        }
        drop(manifest);
        let whole = fs::read(&path).unwrap();
        let starts: Vec<usize> = std::iter::once(0)
            .chain(whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1))
            .collect();
        // Torn: the file goes on as if the last line had never been begun.
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let mut manifest = Manifest::open(root.path(), "s").unwrap();
        assert_eq!(manifest.cut(), Some((starts[4] - starts[3] - 5) as u64));
        manifest.append(line("/a/", "2", FileState::Complete, 2)).unwrap();
        assert_eq!(facts(&manifest, "/a/").len(), 3);
        let again = Manifest::open(root.path(), "s").unwrap();
        assert_eq!((facts(&again, "/a/"), again.cut()), (facts(&manifest, "/a/"), None));
        // Damaged.
        let mut damaged = whole.clone();
        damaged[starts[2] + 30] ^= 4;
        fs::write(&path, &damaged).unwrap();
        let error = Manifest::open(root.path(), "s").unwrap_err().to_string();
        for word in [path.to_str().unwrap(), "line 3", &format!("byte {}", starts[2]), "was expected", "restore"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert_eq!(fs::read(&path).unwrap(), damaged, "a refused file is left as it is");
        fs::write(&path, b"").unwrap();
        assert!(matches!(Manifest::open(root.path(), "s"), Err(ManifestError::Damaged { line: 1, .. })));
        fs::write(&path, &whole).unwrap();
        assert!(matches!(Manifest::open(root.path(), "t"), Err(ManifestError::Foreign { .. })));
    }
}
