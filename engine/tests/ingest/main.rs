//! Ways in for programs that do not speak our own protocol: what is sent gives the bytes that reading the same rows from a
//! file gives.
//!
//! `kit` runs engines and speaks HTTP by hand; the others are tests. Clients that are not ours are `scripts/clients`'s.

#[path = "../children/mod.rs"]
mod children;
#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod config;
mod durable;
mod influx;
mod kit;
mod limits;
mod statsd;
