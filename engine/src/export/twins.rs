//! Two exports of one view whose parts have the same names, in directories of their own, killed after every step that
//! they take in the file system.
//!
//! Crashes of one export, by kills and power cuts, are in [`super::crashes`].

use super::parts::tests::{HOUR, batch, files, hours, schema};
use super::{Booking, CommitNote, ExportError, Exporter, Format, PartsExporter, Rotation};
use crate::manifest::Manifest;
use crate::manifest::steps::listen;
use crate::summary::Ledger;
use corefold_aggregator::time::EventTime;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

const STORE: &str = "0011aabb-0000-4000-8000-000000000000";
const DIRECTORIES: [&str; 3] = ["a", "b", "data"];
const WINDOWS: i64 = 9;
const ROWS: usize = 5;

/// Files by directory and name.
type Image = Vec<BTreeMap<String, Vec<u8>>>;

/// All windows from the first on, to both exports, committed after every second one.
fn live(root: &Path, format: Format) -> Result<(), ExportError> {
    let manifest = Arc::new(Mutex::new(Manifest::open(&root.join("data"), STORE)?));
    let booking = Booking { manifest, view: String::from("v") };
    // The first part of each begins with the same window; those of the second are complete sooner.
    let open = |name: &str, every| {
        let rotation = Rotation { every: hours(every), bytes: None };
        PartsExporter::open_booked(&root.join(name), format, &schema(), rotation, &booking)
    };
    let mut exporters = [open("a", 6)?, open("b", 2)?];
    for window in 1..=WINDOWS {
        let ends = [window * HOUR; ROWS];
        for exporter in &mut exporters {
            exporter.write(&batch(&ends, window as usize * ROWS))?;
        }
        if window % 2 == 0 {
            let note = CommitNote { ledger: Ledger::default(), through: EventTime(window * HOUR) };
            exporters.iter_mut().try_for_each(|exporter| exporter.commit(note))?;
        }
    }
    for exporter in &mut exporters {
        exporter.prepare()?;
    }
    for exporter in exporters {
        Box::new(exporter).finish()?;
    }
    Ok(())
}

fn image(root: &Path) -> Image {
    DIRECTORIES.iter().map(|name| files(&root.join(name))).collect()
}

#[test]
fn a_file_of_the_same_name_elsewhere_is_not_taken_for_one_that_was_moved() {
    for format in Format::ALL {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let root = directory.path().canonicalize().unwrap();
        DIRECTORIES.iter().for_each(|name| fs::create_dir(root.join(name)).unwrap());
        let images: Rc<RefCell<Vec<Image>>> = Rc::default();
        let (seen, place) = (Rc::clone(&images), root.clone());
        listen(Some(Box::new(move |_| seen.borrow_mut().push(image(&place)))));
        live(&root, format).unwrap();
        listen(None);
        let expected = image(&root);
        assert!(expected[1].len() > expected[0].len() && images.borrow().len() > 20);
        for (step, left) in images.borrow().iter().enumerate() {
            for (name, files) in DIRECTORIES.iter().zip(left) {
                fs::remove_dir_all(root.join(name)).unwrap();
                fs::create_dir(root.join(name)).unwrap();
                files.iter().for_each(|(file, bytes)| fs::write(root.join(name).join(file), bytes).unwrap());
            }
            live(&root, format).unwrap_or_else(|error| panic!("{format:?}, killed after step {step}: {error}"));
            assert!(image(&root)[..2] == expected[..2], "{format:?}, killed after step {step}");
        }
    }
}
