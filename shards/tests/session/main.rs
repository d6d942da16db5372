//! The front door's protocol: frames however they are cut, every lie by its name, and both ends over a bad network.

mod format;
mod frames;
mod kit;
mod lies;
mod network;
