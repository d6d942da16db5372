//! Sketches and exact sums: mergeable, order-insensitive. Which aggregate uses which is not here.

pub mod distinct;
pub mod exact_sum;
pub mod quantile;
pub mod top;
