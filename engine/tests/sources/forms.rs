//! One table in every form: same rows, same batches after a resume, clear words for cut and damaged files.

use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use corefold_aggregator::spec::FieldType;
use corefold_engine::source::error::{Road, SourceError};
use corefold_engine::source::input::{Compression, Format, Input, resolve};
use corefold_engine::source::open;
use corefold_engine::source::plan::ReadPlan;

use crate::kit::*;

#[test]
fn the_same_rows_come_from_every_form_in_every_batch_size_and_after_every_batch() {
    let dir = tempfile::tempdir().unwrap();
    let rows = table(300);
    for path in every_form(dir.path(), &rows) {
        let input = file(&path);
        let name = path.display();
        for batch_rows in [1, 7, 64, 65_536] {
            let plan = ReadPlan { batch_rows, ..plan(&KINDS) };
            let whole = read(&input, &plan).unwrap();
            assert_eq!(whole.rows(), rows, "{name} by {batch_rows}");
            assert_eq!(whole.bytes.1, Some(fs::metadata(&path).unwrap().len()));
            if input.format != Format::Arrow {
                assert_eq!(Some(whole.bytes.0), whole.bytes.1, "{name}");
            }
            let every = if batch_rows == 1 { 29 } else { 1 };
            for (index, (_, position)) in whole.batches.iter().enumerate().step_by(every) {
                let rest = read_from(&input, &plan, *position).unwrap();
                assert_eq!(rest.batches, whole.batches[index + 1..], "{name} by {batch_rows} from {position}");
            }
        }
    }
}

#[test]
fn tabs_delimit_tsv_files_and_others_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tsv");
    fs::write(&path, "ts\tx\n2020-01-01\t\"1,\t2\"\n").unwrap();
    let tsv = plan(&[("x", FieldType::String)]);
    assert_eq!(read(&file(&path), &tsv).unwrap().rows()[0].1, [Some("1,\t2".to_owned())]);
    let semicolon = ReadPlan { delimiter: Some(b';'), ..tsv };
    let text = "ts;x\n2020-01-01;1,2\n";
    assert_eq!(read(&pipe(Format::Csv, text), &semicolon).unwrap().rows()[0].1, [Some("1,2".to_owned())]);
    for bad in [b'"', b'\n', b'\r', 0xff] {
        let plan = ReadPlan { delimiter: Some(bad), ..semicolon.clone() };
        assert!(matches!(read(&pipe(Format::Csv, text), &plan), Err(SourceError::Delimiter { .. })));
    }
}

#[test]
fn a_cut_or_damaged_compressed_file_is_named_so() {
    let dir = tempfile::tempdir().unwrap();
    let text = csv_of(&table(2_000));
    for (name, packed, kind) in
        [("a.csv.gz", gzip(text.as_bytes()), "gzip"), ("a.csv.zst", zstd(text.as_bytes()), "zstd")]
    {
        let path = dir.path().join(name);
        for cut in [5, packed.len() / 2 + 100, packed.len() - 3] {
            fs::write(&path, &packed[..cut]).unwrap();
            let error = read(&file(&path), &plan(&KINDS)).err().unwrap();
            assert!(matches!(error, SourceError::Torn { .. }), "{name} {cut}: {error}");
            assert!(error.to_string().contains(&format!("ends in the middle of a {kind} stream")), "{error}");
        }
        let mut damaged = packed.clone();
        damaged[packed.len() / 4] ^= 0x55;
        damaged[packed.len() / 4 + 1] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        // A zstd frame may lack a checksum; then other text comes out, and the rows differ.
        match read(&file(&path), &plan(&KINDS)) {
            Ok(reading) => assert_ne!(reading.rows(), table(2_000)),
            Err(error) => assert_eq!(error.road(), Road::Data, "{error}"),
        }
        fs::write(&path, text.as_bytes()).unwrap();
        assert!(matches!(read(&file(&path), &plan(&KINDS)), Err(SourceError::Corrupt { .. })));
    }
}

/// Prefixes of a typed file, and files with a byte changed: an error or rows, never a panic.
#[test]
fn damaged_typed_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let batch = batch_of(&table(20), true);
    let path = dir.path().join("x");
    for (format, bytes) in [
        (Format::Arrow, ipc_file(std::slice::from_ref(&batch))),
        (Format::Arrow, ipc_stream(std::slice::from_ref(&batch))),
        (Format::Parquet, parquet_file(std::slice::from_ref(&batch))),
    ] {
        let try_read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read(&Input::from_path(&path, Some(format)).unwrap(), &plan(&KINDS))
        };
        assert_eq!(try_read(&bytes).unwrap().rows().len(), 20);
        for cut in (0..bytes.len() - 9).step_by(37) {
            if let Ok(reading) = try_read(&bytes[..cut]) {
                // A stream may end at a message's border without an end mark.
                assert!(reading.rows().is_empty() || cut > bytes.len() - 64, "{format:?} cut at {cut}");
            }
        }
        for at in (0..bytes.len()).step_by(11) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            let _ = try_read(&damaged);
        }
    }
}

#[test]
fn inputs_are_found_by_path_and_glob() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    for name in ["b.csv", "a.csv.gz", "c[1].csv", "x.dat", "p.parquet.gz"] {
        fs::write(at(name), "").unwrap();
    }
    fs::create_dir(at("d.csv")).unwrap();
    let names = |arguments: &[String], forced| -> Result<Vec<(String, Format, Compression)>, SourceError> {
        let inputs = resolve(arguments, forced)?;
        Ok(inputs.into_iter().map(|input| (input.name, input.format, input.compression)).collect())
    };
    let csv = |name: &str, compression| (at(name), Format::Csv, compression);
    assert_eq!(
        names(&[at("*.csv*")], None).unwrap(),
        [csv("a.csv.gz", Compression::Gzip), csv("b.csv", Compression::None), csv("c[1].csv", Compression::None)]
    );
    assert_eq!(names(&[at("c[1].csv")], None).unwrap(), [csv("c[1].csv", Compression::None)]);
    assert_eq!(names(&[at("x.dat")], Some(Format::Ndjson)).unwrap()[0].1, Format::Ndjson);

    let refused = |arguments: &[String], road: Road, message: &str| {
        let error = names(arguments, None).unwrap_err();
        assert_eq!(error.road(), road, "{error}");
        assert!(error.to_string().contains(message), "{error}\nwanted: {message}");
    };
    refused(&[at("*.feather")], Road::Usage, &format!("no file matches `{}`", at("*.feather")));
    let advice = format!("is a directory; name the files in it with a glob, such as '{}/*.csv'", at("d.csv"));
    refused(&[at("d.csv")], Road::Usage, &advice);
    refused(&[at("none.csv")], Road::Io, "none.csv: cannot open");
    refused(&[at("x.dat")], Road::Usage, "known are .csv .tsv .ndjson");
    refused(&[at("b.csv"), at("*.csv")], Road::Usage, "b.csv is given twice");
    refused(&[at("a[*.csv")], Road::Usage, "is not a valid glob");
    refused(&["-".to_owned()], Road::Usage, "standard input: cannot tell the format");

    let error = read(&file(Path::new(&at("p.parquet.gz"))), &plan(&[])).err().unwrap();
    assert!(error.to_string().contains("decompress it first"), "{error}");
    let error = read(&pipe(Format::Parquet, ""), &plan(&[])).err().unwrap();
    assert!(error.to_string().contains("write it to a file first"), "{error}");
}

/// A pipe longer than what may be kept of it.
#[test]
fn a_long_pipe_is_read_in_bounded_memory() {
    struct Rows(u64);
    impl Read for Rows {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let row = b"2020-01-01T00:00:00Z,1\n";
            let count = (buffer.len() / row.len()).min(self.0 as usize);
            buffer[..count * row.len()].chunks_mut(row.len()).for_each(|chunk| chunk.copy_from_slice(row));
            self.0 -= count as u64;
            Ok(count * row.len())
        }
    }
    let reader = Cursor::new(b"ts,x\n".to_vec()).chain(Rows(3_000_000));
    let input = Input::from_reader("in", Format::Csv, Compression::None, Box::new(reader));
    let plan = Arc::new(plan(&[("x", FieldType::I64)]));
    let mut reader = open(&input, &plan, 0).unwrap();
    let mut spare = Vec::new();
    let mut chunks = 0;
    while let Some(chunk) = reader.next(spare).unwrap() {
        spare = chunk.into_spare();
        assert!(spare.capacity() <= 8 << 20);
        chunks += 1;
    }
    assert_eq!(chunks, 3_000_000u64.div_ceil(65_536));
}
