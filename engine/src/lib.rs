//! This machine: command line, config, pinned cores, sources, disks, exports.
//!
//! The only crate that names `glommio`, `io-uring` or `core_affinity`. What a result is and how a shard works
//! is not here.

pub mod assemble;
pub mod background;
pub mod cli;
pub mod commands;
pub mod config;
pub mod coordinator_core;
pub mod disk;
pub mod doctor;
pub mod error;
pub mod exit;
pub mod export;
pub mod export_core;
pub mod feed;
pub mod guard;
pub mod ingest;
pub mod inspect;
pub mod launch;
pub mod launch_store;
pub mod lifecycle;
pub mod links;
pub mod manifest;
pub mod net;
pub mod pane_core;
pub mod poller;
pub mod profile;
pub mod progress;
pub mod recover;
pub mod salvage;
pub mod shard_core;
pub mod slice;
pub mod source;
pub mod sql;
pub mod stall;
pub mod store_job;
pub mod summary;
pub mod topology;
pub mod units;
pub mod verify;
