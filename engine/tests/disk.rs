//! The data directory and the ring on a real disk: what was acknowledged is read back, whatever the machine lacks.
//!
//! Where io_uring or a suitable file system is missing, a test says SKIP and why. Formats and recovery rules are tested
//! in `corefold-shards`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corefold_engine::background::Background;
use corefold_engine::disk::probe::{Filesystem, io_uring};
use corefold_engine::disk::{DiskError, DiskOptions, SegmentKeeper, ShardDisk, Store};
use corefold_engine::poller::Poller;
use corefold_shards::wal::{
    Appender, AppenderConfig, BufferIndex, DiskCompletion, DiskRequest, Durability, LogEnd, Lsn, RecordKind, Recovered,
    RecoveryError, ScanOptions, SegmentId, scan,
};

const BATCH: RecordKind = RecordKind::BATCH;
const NO_PATIENCE: Duration = Duration::ZERO;

/// A log on a real disk, driven by hand.
struct Rig {
    disk: ShardDisk,
    appender: Appender,
    store: Store,
    keeper: SegmentKeeper,
    started: Instant,
    requests: Vec<DiskRequest>,
    completions: Vec<DiskCompletion>,
}

/// `None`, and a line that says why, where the machine cannot do what is to be tested.
fn directory() -> Option<tempfile::TempDir> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for tests");
    let suits = Filesystem::of(directory.path()).expect("statfs").suits_sync(directory.path());
    match io_uring().and(suits) {
        Ok(()) => Some(directory),
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "SKIP: {reason}");
            None
        }
    }
}

fn config(store: &Store, durability: Durability) -> AppenderConfig {
    let identity = store.log_directory(0).unwrap().identity();
    let mut config = AppenderConfig::new(identity, durability);
    config.block_size = 32 << 10;
    config.supply.segment_size = 256 << 10;
    config.supply.segment_size_first = 128 << 10;
    config
}

fn recover(store: &Store) -> (Recovered, Vec<Vec<u8>>) {
    let log = store.log_directory(0).unwrap();
    let mut records = Vec::new();
    let recovered = scan(&mut log.files().unwrap(), &ScanOptions::new(log.identity()), |record| {
        records.push(record.payload.to_vec());
        Ok::<(), RecoveryError>(())
    })
    .expect("a readable log");
    log.discard(&recovered.discard).unwrap();
    (recovered, records)
}

impl Rig {
    fn open(root: &Path, options: DiskOptions) -> (Rig, Vec<Vec<u8>>) {
        let store = Store::open(root).unwrap();
        let keeper = SegmentKeeper::new(Background::default());
        let (recovered, records) = recover(&store);
        let appender = Appender::start(config(&store, options.durability), recovered.resume.clone());
        let log = store.log_directory(0).unwrap();
        let disk = ShardDisk::open(log, &recovered.resume, appender.share(), &keeper, store.lock(), options).unwrap();
        let started = Instant::now();
        let (requests, completions) = (Vec::new(), Vec::new());
        (Rig { disk, appender, store, keeper, started, requests, completions }, records)
    }

    /// One step of a core; tells whether something had finished, so that the next one should follow at once.
    fn turn(&mut self) -> bool {
        let now_ns = self.started.elapsed().as_nanos() as u64;
        self.requests.clear();
        self.appender.poll(now_ns, &mut self.requests);
        self.disk.submit(&self.requests).unwrap();
        self.disk.reap(&mut self.completions).unwrap();
        let has_finished = !self.completions.is_empty();
        for completion in self.completions.drain(..) {
            self.appender.complete(completion, now_ns);
        }
        has_finished
    }

    fn until(&mut self, what: &str, done: impl Fn(&Appender) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            self.turn();
            if done(&self.appender) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {:?} {:?}", self.appender.latched(), self.appender.stalled());
            self.disk.wait(Duration::from_millis(5), &mut self.completions).unwrap();
        }
    }

    fn append(&mut self, payload: &[u8]) -> Lsn {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(lsn) = self.appender.try_append(BATCH, payload) {
                return lsn;
            }
            assert!(Instant::now() < deadline, "no room: {:?}", self.appender.stalled());
            self.turn();
            self.disk.wait(Duration::from_millis(5), &mut self.completions).unwrap();
        }
    }
}

fn payload(index: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (index * 31 + at * 7) as u8).collect()
}

/// Appends, is dropped without warning, comes back, and goes on: three sessions, several segments.
fn sessions(options: DiskOptions) {
    let Some(directory) = directory() else { return };
    let lengths = [10, 5_000, 70_000, 0, 31_000, 200_000, 1, 8_192];
    let mut model: Vec<Vec<u8>> = Vec::new();
    for session in 0..3 {
        let (mut rig, records) = Rig::open(directory.path(), options);
        assert!(records == model, "session {session}: {} records, not {}", records.len(), model.len());
        let report = rig.disk.report();
        assert!(options.dsync || !report.dsync, "{report:?}");
        assert!(options.fixed_buffers || !report.fixed_buffers, "{report:?}");
        assert!(options.direct || !report.direct, "{report:?}");
        for index in 0..40 {
            let bytes = payload(index + session, lengths[(index * 5 + session) % lengths.len()]);
            let lsn = rig.append(&bytes);
            model.push(bytes);
            if index % 7 == 0 {
                rig.until("durable", |appender| appender.durable() > lsn);
            }
        }
        let last = rig.appender.appended();
        rig.until("durable", |appender| appender.durable() >= last);
        if session == 1 {
            rig.appender.seal();
            rig.until("sealed", Appender::is_drained);
        }
        let Rig { store, disk, keeper, .. } = rig;
        drop(disk);
        // It may be about to delete what it was making.
        drop(keeper);
        let (recovered, records) = recover(&store);
        assert!(records == model, "after session {session}: {} records, not {}", records.len(), model.len());
        assert_eq!(recovered.end == LogEnd::Sealed, session == 1);
        assert!(recovered.resume.spans.len() > 3, "several segments");
    }
}

#[test]
fn acknowledged_records_are_read_back() {
    sessions(DiskOptions::new(Durability::Sync));
}

#[test]
fn every_fallback_keeps_the_promise() {
    let all = DiskOptions::new(Durability::Sync);
    sessions(DiskOptions { direct: false, ..all });
    sessions(DiskOptions { fixed_buffers: false, fixed_files: false, ..all });
    sessions(DiskOptions { dsync: false, ..all });
    sessions(DiskOptions { dsync: false, fixed_files: false, ..all });
    sessions(DiskOptions { direct: false, ..DiskOptions::new(Durability::Os) });
}

#[test]
fn released_segments_are_recycled_on_disk() {
    let Some(directory) = directory() else { return };
    let (mut rig, _) = Rig::open(directory.path(), DiskOptions::new(Durability::Sync));
    let mut last = Lsn::ZERO;
    for index in 0..200 {
        last = rig.append(&payload(index, 20_000));
        rig.until("durable", |appender| appender.durable() > last);
        rig.appender.release(last);
    }
    let names = fs::read_dir(rig.store.log_directory(0).unwrap().path()).unwrap().count();
    assert!(names <= 8, "{names} files for 4 MB through segments of 256 KiB");
    let Rig { store, disk, keeper, .. } = rig;
    drop(disk);
    drop(keeper);
    let log = store.log_directory(0).unwrap();
    let options = ScanOptions { from: last, ..ScanOptions::new(log.identity()) };
    let mut records = Vec::new();
    scan(&mut log.files().unwrap(), &options, |record| {
        records.push(record.payload.to_vec());
        Ok::<(), RecoveryError>(())
    })
    .unwrap();
    assert!(records == [payload(199, 20_000)], "{} records", records.len());
}

/// Waits as a parked core does, with the bell armed. The bell ends a wait; the kernel interrupts it too, for the ring's own
/// work on this thread. No wait takes its time to the end.
fn wait_parked(rig: &mut Rig, poller: &mut Poller) {
    let (begun, patience) = (Instant::now(), Duration::from_secs(20));
    loop {
        let rung = poller.wait(patience).expect("a wait").map(|ready| ready.token).next();
        if rung == Some(7) || !rig.disk.arm() {
            break;
        }
        assert!(begun.elapsed() < patience, "no bell");
    }
    rig.disk.disarm();
}

#[test]
fn the_doorbell_wakes_a_parked_core() {
    let Some(directory) = directory() else { return };
    let (mut rig, _) = Rig::open(directory.path(), DiskOptions::new(Durability::Sync));
    let mut poller = Poller::new().expect("an epoll");
    poller.watch(rig.disk.bell(), 7).expect("a watch");
    let mut parked = 0;
    for index in 0..50 {
        let mut taken = None;
        loop {
            taken = taken.or_else(|| rig.appender.try_append(BATCH, &payload(index, 3_000)));
            let has_finished = rig.turn();
            if taken.is_some_and(|lsn| rig.appender.durable() > lsn) {
                break;
            }
            if !has_finished && rig.disk.is_busy() && rig.disk.arm() {
                parked += 1;
                wait_parked(&mut rig, &mut poller);
            }
        }
    }
    assert!(parked >= 20, "parked {parked} times");
}

#[test]
fn a_bell_rings_for_what_finishes_before_and_after_it_was_armed() {
    let Some(directory) = directory() else { return };
    let (mut rig, _) = Rig::open(directory.path(), DiskOptions::new(Durability::Sync));
    let mut poller = Poller::new().expect("an epoll");
    poller.watch(rig.disk.bell(), 7).expect("a watch");
    let (mut rings, mut refused) = (0, 0);
    for index in 0..200 {
        rig.append(&payload(index, 500));
        rig.turn();
        if index % 3 == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        while rig.disk.is_busy() {
            if rig.disk.arm() {
                wait_parked(&mut rig, &mut poller);
                rings += 1;
            } else {
                refused += 1;
            }
            rig.turn();
        }
    }
    assert!(rings > 20, "{rings}, and {refused} times there was no need to wait");
}

#[test]
fn segments_that_cannot_be_made_show_as_a_stall() {
    let Some(directory) = directory() else { return };
    let (mut rig, _) = Rig::open(directory.path(), DiskOptions::new(Durability::Sync));
    fs::remove_dir_all(rig.store.shard_path(0)).unwrap();
    rig.until("a stall", |appender| appender.stalled().is_some());
    assert_eq!(rig.appender.stalled().unwrap().errno, libc::ENOENT);
    assert_eq!(rig.appender.try_append(BATCH, &[1]), None);
    assert!(rig.appender.latched().is_none(), "a missing spare is no failed write");
}

#[test]
fn a_write_to_an_unknown_segment_is_a_failed_write() {
    let Some(directory) = directory() else { return };
    let (mut rig, _) = Rig::open(directory.path(), DiskOptions::new(Durability::Sync));
    let (segment, buffer) = (SegmentId(99), BufferIndex(0));
    rig.disk.submit(&[DiskRequest::Write { segment, offset: 4096, buffer, length: 4096, sync: true }]).unwrap();
    rig.disk.reap(&mut rig.completions).unwrap();
    let failed = DiskCompletion::Write { segment, offset: 4096, buffer, result: Err(libc::EBADF) };
    assert_eq!(rig.completions, [failed]);
}

#[test]
fn one_process_owns_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let second = Store::open_patiently(directory.path(), NO_PATIENCE);
    assert!(matches!(second, Err(DiskError::InUse { .. })), "{second:?}");
    let lock = Arc::clone(store.lock());
    let uuid = store.uuid();
    drop(store);
    assert!(matches!(Store::open_patiently(directory.path(), NO_PATIENCE), Err(DiskError::InUse { .. })));
    let waiting = std::thread::spawn({
        let root = directory.path().to_owned();
        move || Store::open(&root).map(|store| store.uuid())
    });
    std::thread::sleep(Duration::from_millis(50));
    drop(lock);
    assert_eq!(waiting.join().unwrap().unwrap(), uuid, "the store stays the same");
}

#[test]
fn a_store_keeps_its_text_and_knows_its_shards() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("new/store");
    let mut store = Store::open(&root).unwrap();
    assert_eq!((store.meta(), store.shards().unwrap()), (None, vec![]));
    store.set_meta("{\"query\": \"größer\"}").unwrap();
    for shard in [0, 11, 3] {
        store.log_directory(shard).unwrap();
    }
    drop(store);
    fs::write(root.join("shard-0001.tmp"), "half made").unwrap();
    let store = Store::open(&root).unwrap();
    assert_eq!(store.meta(), Some("{\"query\": \"größer\"}"));
    assert_eq!(store.shards().unwrap(), [0, 3, 11]);
    store.retire_shard(3).unwrap();
    assert_eq!(store.shards().unwrap(), [0, 11]);
    assert!(!root.join("shard-0001.tmp").exists());
}

/// The text decides how inputs are cut and routed: another one would give other results, and nobody would notice.
#[test]
fn every_flipped_bit_of_the_identity_is_refused_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path()).unwrap();
    store.set_meta("{\"parts\":2,\"größer\":true}").unwrap();
    let (uuid, meta) = (store.uuid(), store.meta().map(str::to_owned));
    drop(store);
    let path = directory.path().join("store.json");
    let sound = fs::read(&path).unwrap();
    for bit in 0..sound.len() * 8 {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        if let Ok(store) = Store::open_patiently(directory.path(), NO_PATIENCE) {
            assert_eq!((store.uuid(), store.meta()), (uuid, meta.as_deref()), "bit {bit}");
        }
    }
}

#[test]
fn what_is_no_store_is_refused() {
    let refused = |root: &Path, word: &str| {
        let error = Store::open_patiently(root, NO_PATIENCE).expect_err("a refusal").to_string();
        assert!(error.contains(word), "{error}");
    };
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("photo.jpg"), "x").unwrap();
    refused(directory.path(), "photo.jpg");

    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    let identity = directory.path().join("store.json");
    let text = fs::read_to_string(&identity).unwrap();
    fs::write(&identity, "{").unwrap();
    refused(directory.path(), "cannot be read");
    fs::write(&identity, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    refused(directory.path(), "format 2");
    fs::write(&identity, text.replace('-', "")).unwrap();
    refused(directory.path(), "UUID");
    fs::remove_file(&identity).unwrap();
    fs::create_dir(directory.path().join("shard-0000")).unwrap();
    refused(directory.path(), "restore it");
}
