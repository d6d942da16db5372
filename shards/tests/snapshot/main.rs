//! Snapshots of shards and the coordinator's pane log against the engine that never stopped.

mod kit;
mod pane_log;
mod round_trip;
