//! Fuzzing: everything that reads bytes from outside, under bytes that nobody sane would write.
//!
//! A target is a body, which takes any bytes and must come back with a value, and a generator, which makes inputs from
//! seeds on stable Rust. A fuzzer with feedback (`bench-harness/fuzz`) calls the same bodies. The promise: no panic, no
//! hang, no memory beyond bounds; faults are errors. Whether answers are right is not asked here but in
//! [`crate::oracle`].

mod batches;
mod configs;
pub mod drive;
mod expressions;
mod inputs;
mod log;
mod manifests;
mod mutate;
mod packed;
mod panes;
mod partials;
mod snapshots;
mod stage;
mod ways;
mod wire;

use crate::entropy::Entropy;

pub use mutate::{INPUT_SIZE_MAX, mutate};

/// Something that reads bytes from outside.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on command lines and of its corpus.
    pub name: &'static str,
    /// What it reads.
    pub about: &'static str,
    /// Reads any bytes to the end. The digest of what came out is the same for the same bytes.
    pub body: fn(&[u8]) -> u64,
    /// A sound input of a seed.
    pub sound: fn(&mut Entropy) -> Vec<u8>,
    /// What inputs are made of, to be sprinkled over them.
    pub words: &'static [&'static [u8]],
}

/// All targets.
pub static TARGETS: [Target; 14] = [
    Target {
        name: "batch",
        about: "batch verifier, reader, fold, partial aggregates, windows",
        body: batches::body,
        sound: batches::sound,
        words: &[],
    },
    Target {
        name: "wal",
        about: "scan, replay and survey of log segments, checksums put right on demand",
        body: log::body,
        sound: log::sound,
        words: &[],
    },
    Target {
        name: "partial",
        about: "archived partial aggregates, merged and finalized",
        body: partials::body,
        sound: partials::sound,
        words: &[],
    },
    Target {
        name: "snapshot",
        about: "a shard's snapshot, adopted, checksums put right on demand",
        body: snapshots::body,
        sound: snapshots::sound,
        words: &[],
    },
    Target {
        name: "panes",
        about: "records of the pane log, put back into windows",
        body: panes::body,
        sound: panes::sound,
        words: &[],
    },
    Target {
        name: "manifest",
        about: "the manifest of outputs, line by line",
        body: manifests::body,
        sound: manifests::sound,
        words: manifests::WORDS,
    },
    Target {
        name: "config",
        about: "the TOML config file",
        body: configs::body,
        sound: configs::sound,
        words: configs::WORDS,
    },
    Target {
        name: "where",
        about: "--where: parsed, planned, put to a batch",
        body: expressions::filter_body,
        sound: expressions::sound_filter,
        words: expressions::FILTER_WORDS,
    },
    Target {
        name: "agg",
        about: "--agg: parsed, planned, folded over a batch",
        body: expressions::aggregates_body,
        sound: expressions::sound_aggregates,
        words: expressions::AGGREGATE_WORDS,
    },
    Target {
        name: "csv",
        about: "CSV files: types, chunks, values",
        body: inputs::csv_body,
        sound: inputs::sound_csv,
        words: inputs::CSV_WORDS,
    },
    Target {
        name: "ndjson",
        about: "NDJSON files: types, chunks, values",
        body: inputs::ndjson_body,
        sound: inputs::sound_ndjson,
        words: inputs::NDJSON_WORDS,
    },
    Target {
        name: "packed",
        about: "gzip and zstd framing of text files",
        body: packed::body,
        sound: packed::sound,
        words: packed::WORDS,
    },
    Target {
        name: "wire",
        about: "both ends of the front door's protocol, checksums put right on demand",
        body: wire::body,
        sound: wire::sound,
        words: &[],
    },
    Target {
        name: "ways",
        about: "metrics of statsd, lines of InfluxDB and of JSON, to rows and batches",
        body: ways::body,
        sound: ways::sound,
        words: ways::WORDS,
    },
];

impl Target {
    /// The target called `name`.
    pub fn named(name: &str) -> Option<&'static Target> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// The input of a seed: one in sixteen is sound, the others are damaged.
    pub fn input(&self, seed: u64) -> Vec<u8> {
        let entropy = &mut Entropy::new(seed);
        let mut input = (self.sound)(entropy);
        if entropy.below(16) > 0 {
            mutate(&mut input, self.words, entropy);
        }
        input
    }
}
