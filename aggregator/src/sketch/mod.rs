//! Sketches and exact sums: mergeable, order-insensitive. Which aggregate uses which is not here.

mod buckets;
pub mod distinct;
pub mod exact_sum;
pub mod quantile;
pub mod super_sum;
pub mod top;
pub mod variance;
mod wide;
