//! The unit of wire, log and fold: columns of many events of one lane. What is done with them is not here.

pub mod columns;
pub mod wire;
