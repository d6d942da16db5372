//! Bounds of the pure part, and how they relate.
//!
//! Limits of queues, frames and files are not here; they stand beside the code that owns those.

/// Most panes in one window: bounds the memory of sliding and the size/slide ratio.
pub const PANES_PER_WINDOW_MAX: i64 = 1_000_000;

/// Groups that a view keeps per pane unless told otherwise.
pub const GROUPS_MAX_DEFAULT: u32 = 1_000_000;

/// Most groups per view and pane that may be asked for: slots are `u32` and two are reserved.
pub const GROUPS_MAX_LIMIT: u32 = 1 << 30;

/// Most `by` columns of a view.
pub const BY_COLUMNS_MAX: usize = 16;

/// Most aggregates of a view.
pub const AGGREGATES_MAX: usize = 64;

/// Name of the group that takes what does not fit under `max_groups`.
pub const OTHER_GROUP: &str = "__other__";

const _: () = assert!(GROUPS_MAX_DEFAULT <= GROUPS_MAX_LIMIT);
