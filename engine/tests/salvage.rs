//! `corefold salvage` on the directory of a real job: what it tells, that it changes nothing without an order, and that
//! the job goes on afterwards with the same result, since its inputs deal again what was lost.
//!
//! Which damage recovery refuses is the log's own tests' business.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::events::disordered;
use support::process::{Finished, bytes_of, corefold, run};
use support::scene::{DONE, FAILURE, IO};
use support::{listing, text};

/// A finished durable job.
struct Scene {
    directory: tempfile::TempDir,
    result: Vec<u8>,
}

impl Scene {
    fn new() -> Scene {
        Scene::of(3_000)
    }

    fn of(rows: usize) -> Scene {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("in.csv"), disordered(7, rows)).expect("a new file");
        let mut scene = Scene { directory, result: Vec::new() };
        scene.job().succeeded();
        scene.result = bytes_of(&scene.path("out.csv"));
        assert!(scene.result.len() > 500);
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// The job, from where its directory is.
    fn job(&self) -> Finished {
        let (input, output, store) = (self.path("in.csv"), self.path("out.csv"), self.store());
        let query =
            "--time time --by key --window 1h --max-delay 5m --agg count(),sum(number),last(value) --batch-rows 100";
        let mut line = vec!["aggregate", text(&input), "--output", text(&output), "--data-dir", text(&store)];
        line.extend(query.split(' '));
        line.extend(["--shards", "2", "--routing", "round-robin", "--progress", "never"]);
        run(&mut corefold(&line))
    }

    fn salvage(&self, options: &[&str]) -> (Option<i32>, String) {
        let store = self.store();
        let line: Vec<&str> = ["salvage", text(&store)].iter().chain(options).copied().collect();
        let finished = run(&mut corefold(&line));
        (finished.code, String::from_utf8_lossy(&finished.stdout).into_owned() + &finished.stderr)
    }

    /// A segment of a shard's log.
    fn segment(&self, shard: u32, segment: u64) -> PathBuf {
        self.store().join(format!("shard-{shard:04}/wal/{segment:020}.wal"))
    }

    /// Every file of the data directory.
    fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let store = self.store();
        let files = listing(&store).into_iter().filter(|path| store.join(path).is_file());
        files.map(|path| (path.clone(), bytes_of(&store.join(path)))).collect()
    }

    /// That the job goes on and comes to the same result.
    #[track_caller]
    fn goes_on(&self) {
        fs::remove_file(self.path("out.csv")).expect("an output");
        self.job().succeeded();
        assert!(bytes_of(&self.path("out.csv")) == self.result, "another result than before");
    }
}

fn damage(path: &Path, at: usize) {
    let mut bytes = bytes_of(path);
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("a file");
}

#[test]
fn damage_is_told_then_given_up_on_order_and_the_job_goes_on() {
    let scene = Scene::new();
    assert_eq!(scene.salvage(&[]), (Some(DONE), sound_report(&scene)));
    let path = scene.segment(0, 1);
    damage(&path, 3 * 4096 + 100);
    let refused = scene.job();
    assert_eq!(refused.code, Some(IO), "{}", refused.stderr);
    assert!(refused.stderr.contains("corefold salvage"), "{}", refused.stderr);

    let before = scene.content();
    let (code, told) = scene.salvage(&[]);
    assert_eq!(code, Some(FAILURE), "{told}");
    for part in
        ["shard 0: refused", text(&path), "lost: LSN ", "kept: ", "shard 1: sound", "Nothing was changed", "--yes"]
    {
        assert!(told.contains(part), "`{part}` is missing in:\n{told}");
    }
    assert!(scene.content() == before, "a look has changed something");
    assert_eq!(scene.job().code, Some(IO));

    let (code, told) = scene.salvage(&["--yes"]);
    assert_eq!(code, Some(DONE), "{told}");
    let evidence = PathBuf::from(format!("{}.damaged", path.display()));
    assert_eq!(bytes_of(&evidence), before[path.strip_prefix(scene.store()).expect("below")]);
    let record = fs::read_to_string(scene.store().join("salvaged.ndjson")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(record.trim()).expect("one line");
    assert_eq!((&record["log"], &record["all"]), (&"shard 0".into(), &false.into()));
    assert!(record["lost_to_lsn"].as_u64() > record["lost_from_lsn"].as_u64(), "{record}");
    let seen = run(&mut corefold(&["inspect", "wal", text(&scene.store()), "--detail", "segments"])).succeeded();
    assert!(String::from_utf8_lossy(&seen.stdout).contains("salvage"), "{}", String::from_utf8_lossy(&seen.stdout));
    assert_eq!(scene.salvage(&[]).0, Some(DONE));
    scene.goes_on();
    scene.goes_on();
}

fn sound_report(scene: &Scene) -> String {
    let (_, told) = scene.salvage(&[]);
    assert!(told.starts_with("shard 0: sound, ") && told.ends_with("\nnothing to salvage\n"), "{told}");
    told
}

/// Wherever the damage is, what is left after a salvage is a directory with which the job ends as it should.
#[test]
fn every_page_may_be_damaged() {
    let scene = Scene::of(1_000);
    let whole = scene.content();
    let restore = || {
        fs::remove_dir_all(scene.store()).expect("a directory");
        for (path, bytes) in &whole {
            let path = scene.store().join(path);
            fs::create_dir_all(path.parent().expect("below")).expect("a directory");
            fs::write(path, bytes).expect("a file");
        }
    };
    let used = |path: &Path| {
        let bytes = bytes_of(path);
        bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count()
    };
    let (mut refused, mut borne) = (0, 0);
    for shard in 0..2 {
        let path = scene.segment(shard, 1);
        for page in 0..used(&path).div_ceil(4096) {
            restore();
            damage(&path, page * 4096 + 5);
            match scene.salvage(&["--yes"]) {
                (Some(DONE), told) if told.contains("nothing to salvage") => borne += 1,
                (Some(DONE), _) => refused += 1,
                (code, told) => panic!("shard {shard}, page {page}: {code:?}\n{told}"),
            }
            scene.goes_on();
        }
    }
    // Most damage is refused; a page without a block's header, or the last block, may be a torn tail.
    assert!(refused > 5, "{refused} refused, {borne} borne");
}

#[test]
fn a_log_without_its_beginning_is_set_aside_as_a_whole() {
    // A run that is short for its machine ends before it has made a spare segment.
    let scene = (0..10).map(|doublings| Scene::of(3_000 << doublings)).find(|scene| scene.segment(1, 2).exists());
    let scene = scene.expect("a run that lasts until there is a spare segment");
    fs::rename(scene.segment(1, 1), scene.path("lost")).expect("a segment");
    assert_eq!(scene.job().code, Some(IO));
    let (code, told) = scene.salvage(&[]);
    assert_eq!(code, Some(FAILURE), "{told}");
    assert!(told.contains("shard 1: refused"), "{told}");
    assert_eq!(scene.salvage(&["--yes"]).0, Some(DONE));
    scene.goes_on();
}

#[test]
fn an_interrupted_salvage_must_be_ended_first() {
    let scene = Scene::new();
    fs::write(scene.store().join("salvage.pending"), "shard 1\n").expect("a file");
    let refused = scene.job();
    assert_eq!(refused.code, Some(IO), "{}", refused.stderr);
    assert!(refused.stderr.contains("a salvage of it was interrupted"), "{}", refused.stderr);
    let (code, told) = scene.salvage(&[]);
    assert_eq!(code, Some(FAILURE), "{told}");
    assert!(told.contains("shard 1: an interrupted salvage"), "{told}");
    assert_eq!(scene.salvage(&["--yes"]).0, Some(DONE));
    let seen = run(&mut corefold(&["inspect", "wal", text(&scene.store()), "--shard", "1"])).succeeded();
    assert!(String::from_utf8_lossy(&seen.stdout).contains("salvage"));
    scene.goes_on();
}

#[test]
fn what_belongs_elsewhere_is_left_alone() {
    let scene = Scene::new();
    let other = Scene::new();
    fs::copy(other.segment(0, 1), scene.segment(0, 1)).expect("a segment");
    damage(&scene.segment(1, 1), 2 * 4096 + 9);
    let before = scene.content();
    for options in [&[][..], &["--yes"]] {
        let (code, told) = scene.salvage(options);
        assert_eq!(code, Some(FAILURE), "{told}");
        assert!(told.contains("another store UUID") && told.contains("Nothing was changed"), "{told}");
        assert!(scene.content() == before);
    }
    let (code, told) = {
        let finished = run(&mut corefold(&["salvage", text(&scene.path("nowhere"))]));
        (finished.code, finished.stderr)
    };
    assert_eq!(code, Some(IO), "{told}");
    assert!(told.contains("no `store.json`"), "{told}");
}
