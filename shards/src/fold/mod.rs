//! From a verified batch to rows of open panes. The log is not here.

pub mod block;
pub mod field_states;
pub mod filter;
#[cfg(target_arch = "x86_64")]
mod four_rows;
pub mod frozen;
pub mod group_table;
pub mod image;
mod int_table;
pub(crate) mod kernels;
mod leaving;
pub mod local_keys;
pub mod page_pool;
pub mod pane;
pub mod pane_ring;
pub mod row_index;
pub mod sketches;
pub mod slot_source;
pub mod view_fold;
pub mod watermark;
