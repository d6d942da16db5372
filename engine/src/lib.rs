//! This machine: command line, config, pinned cores, sources, disks, exports.
//!
//! The only crate that names `glommio`, `io-uring` or `core_affinity`. What a result is and how a shard works
//! is not here.

pub mod cli;
pub mod config;
pub mod disk;
pub mod doctor;
pub mod exit;
pub mod export;
pub mod inspect;
pub mod source;
pub mod sql;
pub mod units;
