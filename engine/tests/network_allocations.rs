//! A batch that comes over a socket costs its shard's core no heap allocation, with and without TLS, under load and where
//! each batch is waited for: an allocator that counts, under a whole engine that listens, while clients send.
//!
//! A binary of its own, since an allocator is the whole program's. The same below sockets is `shards/tests/allocations.rs`.

use corefold_aggregator::spec::{Field, FieldType, StreamSpec};
use corefold_client::{AlignedBytes, ClientConfig, Metrics, Producer, TlsConfig, TlsFiles};
use corefold_engine::cli::profile::ProfileArgs;
use corefold_engine::commands::{Console, run};
use corefold_engine::progress::ProgressStyleWanted;
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::wire::{Stamp, encode};
use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

#[path = "job/pki.rs"]
mod pki;

// ---- the allocator ------------------------------------------------------------------------------------------

/// The thread whose allocations are looked at; 0: none.
static WATCHED: AtomicI32 = AtomicI32::new(0);

/// Where they came from.
static TRACES: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

/// Traces that are kept: enough to see who asks.
const TRACES_MAX: usize = 100_000;

thread_local! {
    static TID: Cell<i32> = const { Cell::new(0) };
    /// Taking a trace allocates.
    static IS_TAKING: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

impl Counting {
    fn note() {
        let watched = WATCHED.load(Ordering::Relaxed);
        if watched == 0 || IS_TAKING.try_with(Cell::get).unwrap_or(true) {
            return;
        }
        // A thread that ends has no number any more, and nobody looks at it.
        let Ok(mut tid) = TID.try_with(Cell::get) else { return };
        if tid == 0 {
            tid = this_thread();
            TID.set(tid);
        }
        if tid == watched {
            IS_TAKING.set(true);
            if let Ok(mut traces) = TRACES.lock()
                && traces.len() < TRACES_MAX
            {
                traces.push(Backtrace::force_capture());
            }
            IS_TAKING.set(false);
        }
    }
}

fn this_thread() -> i32 {
    // SAFETY: the call takes nothing and touches no memory of ours.
    unsafe { libc::gettid() }
}

// SAFETY: every call goes to the system's allocator as it came; counting touches nothing of what it gives.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counting::note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The thread of this process whose name begins so.
fn thread_called(name: &str) -> Option<i32> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    tasks.flatten().find_map(|task| {
        let found = fs::read_to_string(task.path().join("comm")).ok()?;
        found.starts_with(name).then(|| task.file_name().to_str()?.parse().ok()).flatten()
    })
}

// ---- who asked ----------------------------------------------------------------------------------------------

/// Whom memory was for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Asker {
    /// Answers to pulls, whose number and size depend on how far behind the coordinator is; they go round too.
    Pull,
    /// A buffer for a batch.
    Buffer,
    /// Anything else.
    Other,
}

/// By the first function of the executor or of ours behind the allocator and the containers of the standard library.
fn asker(trace: &str) -> Asker {
    let names = trace.lines().filter_map(|line| line.trim().split_once(": ")).map(|(_, name)| name);
    let own = names.into_iter().find(|name| name.contains("glommio::") || name.contains("corefold_"));
    let is_of = |parts: &[&str]| own.is_some_and(|name| parts.iter().any(|part| name.contains(part)));
    if is_of(&["links::FromShard", "partial::Partial"]) {
        Asker::Pull
    } else if is_of(&["ServerSession>::space", "session::server::{impl#0}::space"]) {
        Asker::Buffer
    } else {
        Asker::Other
    }
}

// ---- the engine and its client ------------------------------------------------------------------------------

const CONFIG: &str = r#"
[engine]
data_dir = "store"
shards = 1
pull_interval = "10ms"
stop = "drain"
[wal]
segment_size = "1MiB"
[snapshot]
wal_bytes = "1TiB"
batches = 1000000000

[[streams]]
name = "events"
time = { column = "ts", max_delay = "1s" }
fields = { key = "i64", value = "f64" }

[[sources]]
stream = "events"
tcp = { listen = "PLAIN" }

[[sources]]
stream = "events"
tcp = { listen = "SEALED", tls = { cert = "server.pem", key = "server.key" } }

[[views]]
name = "by_key"
stream = "events"
by = ["key"]
window = { size = "10s", slide = "1s" }
aggregates = ["count()", "sum(value)", "min(value)", "max(value)"]
"#;

/// Batches of each client before anything is counted: all has been done several times, and memory goes round.
const WARM_UP: i64 = 400;

/// Batches that are counted: sent as fast as they are taken, and each when the one before it is durable.
const COUNTED: i64 = 2_000;
const WAITED_FOR: i64 = 1_000;

/// A queue or an answer that is larger than ever grows by doubling, a few times in a life, and when that is depends on what else
/// the machine does. What comes with batches, or with pulls, comes more often.
const GROWTH_MAX: usize = WAITED_FOR as usize / 20;

/// Batches that the client has under way: so many buffers may be made, each once, whenever it is that all are first used.
const INFLIGHT: usize = 64;

const ROWS: i64 = 1_000;
const GROUPS: i64 = 300;
const SECOND: i64 = 1_000_000;
const BATCHES_PER_SECOND: i64 = 20;

fn stream() -> StreamSpec {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    StreamSpec {
        name: "events".to_owned(),
        time: "ts".to_owned(),
        delay_max: corefold_aggregator::time::Duration::ZERO,
        fields: vec![field("key", FieldType::I64), field("value", FieldType::F64)],
    }
}

/// A part of a second of events; without rows, the end of a lane.
fn batch(number: i64, rows: i64) -> AlignedBytes {
    let mut columns = ColumnSet::new(&[FieldType::I64, FieldType::F64]);
    let step = SECOND / BATCHES_PER_SECOND;
    for row in 0..rows {
        columns.times.push(1_000_000_000 * SECOND + number * step + row * step / ROWS);
        columns.columns[0].push_i64(Some((row * 31 + number * 17) % GROUPS));
        columns.columns[1].push_f64(Some(row as f64));
    }
    let mut bytes = AlignedBytes::new();
    encode(&columns, stream().fingerprint(), &Stamp::of_lane(0, 0, 0), &mut bytes).expect("a batch");
    bytes
}

fn send(producer: &mut Producer, numbers: std::ops::Range<i64>) {
    for number in numbers {
        producer.send(batch(number, ROWS), ROWS as u64, 0).expect("a server that takes it");
    }
    producer.flush().expect("a server that makes it durable");
}

/// An address that was free a moment ago.
fn free_address() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").to_string()
}

/// Where each memory of the watched thread was asked for while `work` went on.
fn watch(thread: i32, work: impl FnOnce()) -> Vec<Backtrace> {
    WATCHED.store(thread, Ordering::SeqCst);
    work();
    WATCHED.store(0, Ordering::SeqCst);
    std::mem::take(&mut *TRACES.lock().expect("no panic"))
}

/// Fails if more was asked for than queues grow by.
fn check(what: &str, traces: &[Backtrace]) {
    let mut asked: BTreeMap<Asker, (usize, String)> = BTreeMap::new();
    for trace in traces {
        let text = trace.to_string();
        asked.entry(asker(&text)).or_insert((0, text)).0 += 1;
    }
    let count = |asker| asked.get(&asker).map_or(0, |(count, _)| *count);
    let first = |asker| asked.get(&asker).map_or("", |(_, text)| text);
    let (others, pulls, buffers) = (count(Asker::Other), count(Asker::Pull), count(Asker::Buffer));
    assert!(others < GROWTH_MAX, "{what}: one of {others}:\n{}", first(Asker::Other));
    assert!(pulls < GROWTH_MAX, "{what}: {pulls} for pulls:\n{}", first(Asker::Pull));
    assert!(buffers <= INFLIGHT, "{what}: {buffers} buffers");
}

/// Starts an engine that listens at both addresses.
fn start(directory: &Path, plain: &str, sealed: &str) -> std::thread::JoinHandle<Result<(), String>> {
    let config = directory.join("engine.toml");
    let store = format!("data_dir = \"{}\"", directory.join("store").display());
    let text = CONFIG.replace("PLAIN", plain).replace("SEALED", sealed).replace("data_dir = \"store\"", &store);
    fs::write(&config, text).expect("a new file");
    std::thread::spawn(move || {
        let profile_for = corefold_aggregator::time::Duration::from_micros(SECOND).expect("a second");
        let profile = ProfileArgs { profile: false, profile_for, profile_dir: "none".into() };
        let console = Console { quiet: true, progress: ProgressStyleWanted::Nothing };
        run::run(&config, &profile, &console).map_err(|error| error.to_string())
    })
}

#[test]
fn a_batch_over_a_socket_allocates_nothing_on_its_shard() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = pki::Authority::new("test");
    authority.publish(directory.path(), "ca").sign(directory.path(), "server", "server", &pki::HERE);
    let trusted = TlsFiles { ca: directory.path().join("ca.pem"), ..TlsFiles::default() };
    let trusted = TlsConfig::load(&trusted).expect("an authority");
    let (plain, sealed) = (free_address(), free_address());
    let engine = start(directory.path(), &plain, &sealed);
    let mut numbers = 0..;
    for (name, address, tls) in [("plain", &plain, None), ("tls", &sealed, Some(trusted))] {
        let mut config = ClientConfig::new(address, name, stream().fingerprint());
        config.give_up_after = Some(Duration::from_secs(60));
        config.limits.batches_max = INFLIGHT;
        config.tls = tls;
        let mut producer = match Producer::connect(config) {
            Ok(producer) => producer,
            Err(error) => panic!("{error}; the engine: {:?}", engine.is_finished().then(|| engine.join())),
        };
        let shard = thread_called("shard").expect("the shard's thread");
        let mut next = |count: i64| {
            let first = numbers.next().expect("there are enough");
            let last = (1..count).map_while(|_| numbers.next()).last().unwrap_or(first);
            first..last + 1
        };
        send(&mut producer, next(WARM_UP));
        let busy = watch(shard, || send(&mut producer, next(COUNTED)));
        let waited_for = watch(shard, || (0..WAITED_FOR).for_each(|_| send(&mut producer, next(1))));
        // The next one's windows do not wait for this lane.
        producer.end(batch(0, 0)).expect("a server that makes it durable");
        let Metrics { batches_durable, connections, .. } = producer.close().expect("a goodbye");
        assert_eq!((batches_durable, connections), ((WARM_UP + COUNTED + WAITED_FOR) as u64, 1));
        check(&format!("{name}, {COUNTED} batches"), &busy);
        check(&format!("{name}, {WAITED_FOR} batches, each waited for"), &waited_for);
    }
    // SAFETY: a signal to this process, which the engine above listens to.
    assert_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGTERM) }, 0);
    assert_eq!(engine.join().expect("no panic"), Ok(()));
}
