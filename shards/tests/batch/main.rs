//! Batches from the outside: what goes in comes out, and damage never goes unnoticed into a panic.

mod damage;
mod model;
mod round_trip;
mod split;
