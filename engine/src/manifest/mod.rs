//! The manifest: which bytes of which output files are committed, one line per commit.
//!
//! Writing the files themselves is [`crate::export`]'s. The format is in `docs/manifest-format.md`.

pub mod error;
pub mod line;
pub mod log;
pub mod scan;
pub(crate) mod steps;
pub mod verify;

pub use error::ManifestError;
pub use line::{FileLine, FileState, Header, PartStart, Totals};
pub use log::{MANIFEST_FILE, Manifest, SharedManifest};
