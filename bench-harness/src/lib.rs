//! The outside world: load, oracle, simulator, faults, benchmarks.
