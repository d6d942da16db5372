//! One thread per lane that others hand rows to; and the handle by which they do, with room counted in bytes.
//!
//! What a lane does with rows is in `lane`.

use super::lane::{Lane, LaneError, LanePlan, Receipt};
use crate::guard::PanicGuard;
use corefold_shards::batch::ColumnSet;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room is counted in steps of so many bytes.
const STEP: usize = 1024;

/// Parcels that are taken before the lane looks after its connection.
const TAKEN_PER_TURN: u32 = 32;

/// How many times a lane that was refused is opened again before its way in is closed.
const REOPENS_MAX: u32 = 3;

/// Rows on their way to a lane.
pub struct Parcel {
    /// The rows.
    pub columns: ColumnSet,
    /// Room that they take until they are in a batch; shared by parcels of one text.
    pub room: Option<Arc<OwnedSemaphorePermit>>,
    /// Told once they have come far enough.
    pub receipt: Option<Receipt>,
}

/// A lane, to those who hand rows to it.
#[derive(Clone)]
pub struct LaneHandle {
    plan: Arc<LanePlan>,
    parcels: Sender<Parcel>,
    room: Arc<Semaphore>,
    steps: u32,
    is_open: Arc<AtomicBool>,
}

/// The lane takes nothing any more.
#[derive(Clone, Copy, Debug)]
pub struct Closed;

impl LaneHandle {
    /// What the lane is.
    pub fn plan(&self) -> &Arc<LanePlan> {
        &self.plan
    }

    /// Whether the engine has taken the lane in.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Room for `bytes`, as soon as there is. What is more than all of it gets all of it.
    pub async fn room(&self, bytes: usize) -> Result<Arc<OwnedSemaphorePermit>, Closed> {
        let steps = u32::try_from(bytes.div_ceil(STEP)).unwrap_or(u32::MAX).clamp(1, self.steps);
        Arc::clone(&self.room).acquire_many_owned(steps).await.map(Arc::new).map_err(|_| Closed)
    }

    /// Hands rows over. The queue is bounded by the room that its parcels hold.
    pub fn put(&self, parcel: Parcel) -> Result<(), Closed> {
        self.parcels.send(parcel).map_err(|_| Closed)
    }
}

/// Starts the thread of a lane. It ends when all handles are gone and all rows are safe, or the engine has stopped.
pub fn start(plan: LanePlan, inbox_max: u64) -> std::io::Result<(LaneHandle, std::thread::JoinHandle<()>)> {
    let (parcels, arrivals) = crossbeam_channel::unbounded();
    let steps = u32::try_from((inbox_max as usize).div_ceil(STEP)).unwrap_or(u32::MAX).max(1);
    let handle = LaneHandle {
        plan: Arc::new(plan),
        parcels,
        room: Arc::new(Semaphore::new((steps as usize).min(Semaphore::MAX_PERMITS))),
        steps,
        is_open: Arc::default(),
    };
    let (plan, room, is_open) = (Arc::clone(&handle.plan), Arc::clone(&handle.room), Arc::clone(&handle.is_open));
    let thread = std::thread::Builder::new().name("ingest-lane".to_owned()).spawn(move || {
        let _guard = PanicGuard::new(&plan.shared);
        let mut reopens = 0;
        while let Err(error) = run(&plan, &arrivals, &is_open) {
            is_open.store(false, Ordering::Relaxed);
            reopens += 1;
            if matches!(error, LaneError::Over) || reopens > REOPENS_MAX {
                break;
            }
            plan.counts.refuse(&error.to_string());
        }
        // Who waits for room waits for nothing from here on.
        room.close();
    })?;
    Ok((handle, thread))
}

fn run(plan: &Arc<LanePlan>, arrivals: &Receiver<Parcel>, is_open: &AtomicBool) -> Result<(), LaneError> {
    let mut lane = Lane::open(plan)?;
    is_open.store(true, Ordering::Relaxed);
    let mut taken = 0_u32;
    loop {
        match arrivals.recv_timeout(lane.patience()) {
            Ok(Parcel { columns, room, receipt }) => {
                lane.take(columns, receipt)?;
                drop(room);
                taken += 1;
                if arrivals.is_empty() || taken.is_multiple_of(TAKEN_PER_TURN) {
                    lane.turn()?;
                }
            }
            Err(RecvTimeoutError::Timeout) => lane.turn()?,
            Err(RecvTimeoutError::Disconnected) => return lane.close(),
        }
        if plan.is_over() {
            return Err(LaneError::Over);
        }
    }
}
