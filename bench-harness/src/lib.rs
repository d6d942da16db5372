//! The outside world: load, oracle, simulator, faults, benchmarks.
//!
//! The oracle and the random jobs share no code with the engine they judge; only [`local`], [`sim`], [`scenario`] and
//! [`mod@fuzz`] run the engine's own code.
//! How the engine works is not here.

pub mod agree;
pub mod allocations;
pub mod compare;
pub mod entropy;
pub mod fuzz;
pub mod generate;
pub mod latency;
pub mod live;
pub mod local;
pub mod oracle;
pub mod scenario;
pub mod sim;
pub mod text;
pub mod workload;
