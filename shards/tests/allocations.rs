//! The steady state allocates nothing: an allocator that counts, under a shard that folds, logs, answers pulls and lets
//! panes go. Panes that are opened use memory of those that went.
//!
//! A binary of its own, since an allocator is the whole program's. It counts per thread, so tests do not disturb each other.

use corefold_aggregator::spec::{AggregateSpec, Field, FieldType, Function, Overflow, StreamSpec, ViewSpec};
use corefold_aggregator::time::{Duration, EventTime, WindowSpec};
use corefold_aggregator::view::ViewPlan;
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::wire::{Stamp, encode};
use corefold_shards::batch::{AlignedBytes, VerifiedBatch, patch_stamp};
use corefold_shards::fold::view_fold::ShardView;
use corefold_shards::live_lanes::{LaneFrontier, LaneId, LiveLanes, LivePlan};
use corefold_shards::session::frame::write;
use corefold_shards::session::{
    Admission, FrameKind, Hello, Level, Now, Place, ServerEvent, ServerSession, SessionLimits, producer_of,
};
use corefold_shards::shard::{Arrival, Inbox, Outbox, PARTIALS_MAX, Shard, ShardPlan, ShardStream};
use corefold_shards::wal::{
    Appender, AppenderConfig, DiskCompletion, DiskRequest, Durability, LogIdentity, ResumePoint,
};
use rkyv::util::AlignedVec;
use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};

// ---- the allocator ------------------------------------------------------------------------------------------

thread_local! {
    /// Allocations of this thread; `None` while nobody counts.
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
    /// Where the first of them came from.
    static FIRST: RefCell<Option<Backtrace>> = const { RefCell::new(None) };
}

struct Counting;

impl Counting {
    fn note() {
        // A thread that ends has no counter any more, and nobody looks at it.
        let Ok(Some(count)) = COUNT.try_with(Cell::get) else { return };
        if count == 0 {
            // Taking the trace allocates.
            COUNT.set(None);
            FIRST.set(Some(Backtrace::force_capture()));
        }
        COUNT.set(Some(count + 1));
    }
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

/// Allocations of this thread during `work`, and where the first came from.
fn allocations(work: impl FnOnce()) -> (u64, String) {
    COUNT.set(Some(0));
    work();
    let count = COUNT.replace(None).expect("it was set above");
    let first = FIRST.take().map_or_else(String::new, |trace| trace.to_string());
    (count, first)
}

// ---- the shard ----------------------------------------------------------------------------------------------

const SECOND: i64 = 1_000_000;

/// Batches before anything is counted: all that the shard does has been done several times.
const WARM_UP: u64 = 300;

/// Batches that are counted.
const COUNTED: u64 = 300;

/// Batches in a second of event time.
const BATCHES_PER_SECOND: i64 = 10;

const ROWS: i64 = 600;
const GROUPS: i64 = 200;

fn micros(value: i64) -> Duration {
    Duration::from_micros(value).expect("a length of time")
}

fn stream() -> StreamSpec {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    let fields = vec![field("key", FieldType::I64), field("text", FieldType::String), field("value", FieldType::F64)];
    StreamSpec { name: "s".to_owned(), time: "t".to_owned(), delay_max: micros(SECOND / 2), fields }
}

fn view(by: usize) -> ShardView {
    let aggregate = |function, field| AggregateSpec { name: format!("{function:?}"), function, field };
    let spec = ViewSpec {
        name: format!("by {by}"),
        by: vec![by],
        window: WindowSpec::new(micros(10 * SECOND), micros(SECOND), micros(0)).expect("a window"),
        aggregates: vec![
            aggregate(Function::Count, None),
            aggregate(Function::Sum, Some(2)),
            aggregate(Function::Min, Some(2)),
            aggregate(Function::Max, Some(2)),
        ],
        groups_max: 100_000,
        overflow: Overflow::Fold,
    };
    let plan = ViewPlan::new(&stream(), spec).expect("a view");
    ShardView { plan, filter: None, delay_max: stream().delay_max, group_ttl: micros(3_600 * SECOND) }
}

/// A batch of a tenth of a second, out of order, with some events of two seconds before: too late.
fn batch(sequence: u64) -> AlignedBytes {
    let stream = stream();
    let kinds: Vec<FieldType> = stream.fields.iter().map(|field| field.kind).collect();
    let mut columns = ColumnSet::new(&kinds);
    let step = SECOND / BATCHES_PER_SECOND;
    let end = (sequence as i64 + 100) * step;
    for row in 0..ROWS {
        let is_late = row % 100 == 99;
        let behind = if is_late { 2 * SECOND } else { (row * 7_919) % (SECOND / 2) };
        let key = (row * 31 + sequence as i64 * 17) % GROUPS;
        columns.times.push(end - behind);
        columns.columns[0].push_i64(Some(key));
        columns.columns[1].push_str(Some(format!("a text of some length {key}").as_bytes())).expect("a short text");
        columns.columns[2].push_f64(Some(key as f64 / 64.0));
    }
    let frontier = EventTime(end - SECOND / 2);
    let stamp = Stamp { frontier, ..Stamp::of_lane(0, 0, sequence) };
    let mut bytes = AlignedBytes::new();
    encode(&columns, stream.fingerprint(), &stamp, &mut bytes).expect("a batch");
    bytes
}

/// A shard with the two sides that it talks to: a disk that is done at once, and a coordinator that pulls every second.
struct Scene {
    shard: Shard,
    inbox: Inbox,
    outbox: Outbox,
    batches: Vec<AlignedBytes>,
    spent: Vec<AlignedBytes>,
    /// Of batches that came through a session.
    memory: Vec<AlignedBytes>,
    pulled: EventTime,
    acknowledged: usize,
    late: usize,
    partials: usize,
    panes: usize,
    segments: usize,
    now_ns: u64,
    fields: Vec<Field>,
    fingerprint: u64,
    frames: Vec<Vec<u8>>,
    /// What the log has written, where somebody wants to see it.
    logged: Option<Vec<u8>>,
}

impl Scene {
    fn new(is_logged: bool) -> Scene {
        let stream = stream();
        let plan = ShardPlan {
            streams: vec![ShardStream {
                fingerprint: stream.fingerprint(),
                fields: stream.fields.clone(),
                views: vec![0, 1],
            }],
            views: vec![view(0), view(1)],
            late_wanted: false,
        };
        let identity = LogIdentity { store: [7; 16], shard: 0 };
        let mut config = AppenderConfig::new(identity, Durability::Sync);
        // Small, so that segments are used again while it counts.
        (config.block_size, config.supply.segment_size) = (32 << 10, 256 << 10);
        config.supply.segment_size_first = config.supply.segment_size;
        let log = is_logged.then(|| Appender::start(config, ResumePoint::fresh()));
        let mut batches: Vec<AlignedBytes> = (0..WARM_UP + COUNTED).map(batch).collect();
        batches.reverse();
        Scene {
            shard: Shard::new(plan, log),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            spent: Vec::with_capacity(batches.len()),
            batches,
            memory: Vec::with_capacity(4),
            pulled: EventTime::MIN,
            acknowledged: 0,
            late: 0,
            partials: 0,
            panes: 0,
            segments: 0,
            now_ns: 0,
            fields: stream.fields.clone(),
            fingerprint: stream.fingerprint(),
            frames: Vec::new(),
            logged: None,
        }
    }

    /// Folds one batch more, until it is durable.
    fn take_one(&mut self) {
        let bytes = self.batches.pop().expect("as many batches as are counted");
        self.inbox.arrivals.push_back(Arrival::Batch(bytes));
        while !self.inbox.arrivals.is_empty() || !self.inbox.completions.is_empty() {
            self.step();
        }
    }

    /// Pulls the panes that are closed now, if there are any, and lets them go.
    fn pull(&mut self) {
        if self.shard.frontier() == EventTime::MIN {
            return;
        }
        let second = EventTime(self.shard.frontier().0.div_euclid(SECOND) * SECOND);
        if second > self.pulled {
            self.pulled = second;
            self.inbox.pull = Some(second);
            self.step();
            assert_eq!(self.outbox.pulled.take(), Some(second), "a pull of few panes is answered at once");
            self.inbox.release = Some(second);
            self.step();
            self.panes += 1;
        }
    }

    fn step(&mut self) {
        self.now_ns += 1_000_000;
        self.shard.step(self.now_ns, &mut self.inbox, &mut self.outbox).expect("a healthy shard");
        self.acknowledged += self.outbox.acknowledged.drain(..).len();
        self.spent.append(&mut self.outbox.spent_batches);
        self.memory.append(&mut self.outbox.spent_verified);
        self.outbox.written.clear();
        self.partials += self.outbox.partials.len();
        self.inbox.spent_partials.append(&mut self.outbox.partials);
        for request in self.outbox.requests.drain(..) {
            let answer = match request {
                DiskRequest::Write { segment, offset, buffer, length, .. } => {
                    if let (Some(logged), Some(log)) = (&mut self.logged, self.shard.log_mut()) {
                        logged.extend_from_slice(&log.block(buffer)[..length as usize]);
                    }
                    DiskCompletion::Write { segment, offset, buffer, result: Ok(length) }
                }
                DiskRequest::Prepare { segment, size } | DiskRequest::Recycle { segment, size, .. } => {
                    self.segments += 1;
                    DiskCompletion::Prepared { segment, salt: segment.0, size }
                }
                DiskRequest::Remove { segment } => DiskCompletion::Removed { segment, result: Ok(()) },
                DiskRequest::Close { .. } => continue,
            };
            self.inbox.completions.push(answer);
        }
        if let Some(log) = self.shard.log_mut() {
            // As after a snapshot: what is durable may be overwritten.
            log.release(log.durable());
        }
        self.late = self.shard.counts().views.iter().map(|counts| counts.late as usize).sum();
    }
}

fn assert_nothing_is_allocated(is_logged: bool) {
    let mut scene = Scene::new(is_logged);
    // The coordinator's buffers go round; as many as there may be.
    scene.inbox.spent_partials.reserve(2 * PARTIALS_MAX);
    for _ in 0..WARM_UP {
        scene.take_one();
        scene.pull();
    }
    let (acknowledged, late, partials, panes, segments) =
        (scene.acknowledged, scene.late, scene.partials, scene.panes, scene.segments);
    for sequence in WARM_UP..WARM_UP + COUNTED {
        let (count, first) = allocations(|| scene.take_one());
        assert_eq!(count, 0, "batch {sequence} allocates; the first time:\n{first}");
        let (count, first) = allocations(|| scene.pull());
        assert_eq!(count, 0, "a pull or a release allocates; the first time:\n{first}");
    }
    // All of it has happened, or nothing is shown.
    assert!(scene.acknowledged > acknowledged + COUNTED as usize / 2, "batches become durable");
    assert!(scene.late > late && scene.partials >= partials + 50 && scene.panes >= panes + 25);
    assert!(!is_logged || scene.segments > segments + 5, "segments are used again");
}

/// A client that is let in, and what the server keeps of its lane.
struct Front {
    session: ServerSession,
    lanes: LiveLanes,
    frames: Vec<Vec<u8>>,
    now: Now,
    told: usize,
}

impl Front {
    fn new() -> Front {
        let now = Now { steady_ns: 0, wall: EventTime(1_000 * SECOND) };
        let size = 1 << 20;
        let session_limits = SessionLimits {
            batch_size_max: size,
            credit_max: 8 << 20,
            hello_max_ns: 1,
            idle_max_ns: 1,
            rate_min: 1,
            slow_grace_ns: 1,
        };
        let fingerprint = stream().fingerprint();
        let mut session = ServerSession::new(session_limits, now);
        let mut hello = Vec::new();
        let (producer, credentials, level) = ("p".to_owned(), Vec::new(), Level::Durable);
        Hello { version: 3, lane: 0, fingerprint, level, attempt: 1, producer, credentials }.write(&mut hello);
        assert!(matches!(read(&mut session, &hello, now, None), Some(ServerEvent::Hello(_))));
        let plan = LivePlan { delay_max: stream().delay_max, future_max: micros(SECOND), idle_max_ns: u64::MAX };
        let mut lanes = LiveLanes::new(vec![plan], [], 1, false, EventTime::MIN, 0);
        let producer = producer_of("p", fingerprint);
        lanes.open(LaneId { producer, lane: 0 }, 0, 0).expect("room for a lane");
        let place = Place { shards: 1, ..Place::default() };
        let (next, durable, watermark, room) = (0, 0, EventTime::MIN, size as u64);
        session.welcome(&Admission { next, durable, watermark, has_ended: false, room, place });
        let frame = |sequence| {
            let mut bytes = batch(sequence);
            let stamp = Stamp::of_lane(producer, 0, sequence);
            patch_stamp(bytes.as_mut_slice(), &stamp).expect("a batch");
            bytes.pad(8, 0);
            let mut frame = Vec::new();
            write(FrameKind::Batch, bytes.as_slice(), &mut frame);
            frame
        };
        let frames = (0..WARM_UP + COUNTED).map(frame).rev().collect();
        Front { session, lanes, frames, now, told: 0 }
    }

    /// One batch from its first byte to the news that it is durable.
    fn take_one(&mut self, scene: &mut Scene) {
        let frame = self.frames.pop().expect("as many batches as are counted");
        let event = read(&mut self.session, &frame, self.now, scene.memory.pop());
        let Some(ServerEvent::Batch(received)) = event else { panic!("a batch") };
        let fields = &scene.fields;
        let verified = VerifiedBatch::verify(received.bytes, scene.fingerprint, fields);
        let mut batch = verified.map_err(|(error, _)| error).expect("a sound batch");
        self.lanes.promise(LaneFrontier::default(), 0);
        let time_max = Some(batch.view().time_max());
        let stamp = self.lanes.take(&received.stamp, time_max, false, 0);
        batch.restamp(&stamp);
        scene.inbox.arrivals.push_back(Arrival::Verified(batch));
        while !scene.inbox.arrivals.is_empty() || !scene.inbox.completions.is_empty() {
            scene.step();
        }
        self.session.free(received.cost);
        self.session.grant(1 << 20);
        self.lanes.settle(&stamp);
        let durable = self.lanes.get(LaneId::of(&stamp)).map_or(0, |lane| lane.durable);
        self.session.advance(durable, durable);
        let said = self.session.output().len();
        self.session.sent(said);
        self.told += said;
        // Kept, so that giving them back is not counted either.
        scene.frames.push(frame);
    }
}

/// Gives a whole frame to a session.
fn read(session: &mut ServerSession, mut frame: &[u8], now: Now, memory: Option<AlignedBytes>) -> Option<ServerEvent> {
    let mut memory = memory;
    let mut event = None;
    while !frame.is_empty() {
        if session.batch_ahead().is_some() {
            session.lend(memory.take().unwrap_or_default());
        }
        let space = session.space().expect("an open session");
        let count = space.len().min(frame.len());
        space[..count].copy_from_slice(&frame[..count]);
        frame = &frame[count..];
        event = session.filled(count, now).expect("a sound frame").or(event);
    }
    event
}

#[test]
fn a_batch_from_elsewhere_allocates_nothing() {
    let (mut front, mut scene) = (Front::new(), Scene::new(true));
    scene.inbox.spent_partials.reserve(2 * PARTIALS_MAX);
    scene.frames.reserve((WARM_UP + COUNTED) as usize);
    for _ in 0..WARM_UP {
        front.take_one(&mut scene);
        scene.pull();
    }
    let (acknowledged, partials, told) = (scene.acknowledged, scene.partials, front.told);
    for sequence in WARM_UP..WARM_UP + COUNTED {
        let (count, first) = allocations(|| front.take_one(&mut scene));
        assert_eq!(count, 0, "batch {sequence} allocates; the first time:\n{first}");
        let (count, first) = allocations(|| scene.pull());
        assert_eq!(count, 0, "a pull or a release allocates; the first time:\n{first}");
    }
    assert!(scene.acknowledged > acknowledged + COUNTED as usize / 2, "batches become durable");
    assert!(scene.partials > partials && front.told > told, "panes are pulled, and the client is told");
}

/// From the socket to the disk a byte is copied twice: by the kernel to the place that [`ServerSession::space`] names, and from
/// that very place into the block of the log that the disk reads from.
#[test]
fn a_batch_is_logged_from_the_memory_that_it_is_read_to() {
    let (mut front, mut scene) = (Front::new(), Scene::new(true));
    scene.logged = Some(Vec::new());
    let mut places = Vec::new();
    for _ in 0..50 {
        front.take_one(&mut scene);
        // Once read to, verified, stamped, logged and folded; it comes back and is read to again.
        let spent = scene.memory.last().expect("the memory of the batch");
        places.push(spent.as_slice().as_ptr());
        let (payload, logged) = (spent.as_slice(), scene.logged.as_mut().expect("somebody wants it"));
        let copies = logged.windows(payload.len()).filter(|window| *window == payload).count();
        assert_eq!(copies, 1, "the batch is in the log once, as it was stamped in its place");
        logged.clear();
    }
    // The first one may have grown.
    assert!(places[1..].iter().all(|place| *place == places[1]), "a batch has changed its memory on the way");
}

#[test]
fn fold_and_pulls_allocate_nothing() {
    assert_nothing_is_allocated(false);
}

#[test]
fn fold_log_and_pulls_allocate_nothing() {
    assert_nothing_is_allocated(true);
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| ()).0, 0);
    let (count, first) = allocations(|| drop(std::hint::black_box(vec![1_u8; 100])));
    assert_eq!(count, 1);
    assert!(first.contains("the_allocator_counts"), "{first}");
    let mut buffer = AlignedVec::<16>::with_capacity(16);
    assert_eq!(allocations(|| buffer.extend_from_slice(&[0; 100])).0, 1, "growing counts");
}
