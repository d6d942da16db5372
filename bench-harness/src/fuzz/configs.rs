//! The config target: any text as `corefold.toml`.

use crate::entropy::Entropy;
use corefold_engine::config;
use std::path::Path;

/// Keys, values and marks of TOML.
pub const WORDS: &[&[u8]] = &[
    b"[engine]\n",
    b"[wal]\n",
    b"[snapshot]\n",
    b"[[streams]]\n",
    b"[[sources]]\n",
    b"[[views]]\n",
    b"[[views.exports]]\n",
    b"shards = ",
    b"\"auto\"",
    b"data_dir = ",
    b"coordinator_core = ",
    b"pull_interval = ",
    b"routing = ",
    b"batch_rows = ",
    b"durability = ",
    b"segment_size = ",
    b"wal_bytes = ",
    b"name = ",
    b"time = ",
    b"column = ",
    b"unit = ",
    b"max_delay = ",
    b"idle_timeout = ",
    b"fields = ",
    b"stream = ",
    b"file = ",
    b"path = ",
    b"format = ",
    b"null = ",
    b"on_error = ",
    b"delimiter = ",
    b"by = ",
    b"window = ",
    b"size = ",
    b"slide = ",
    b"offset = ",
    b"aggregates = ",
    b"where = ",
    b"max_groups = ",
    b"overflow = ",
    b"rotate = ",
    b"{ ",
    b" }",
    b"[",
    b"]",
    b"\"",
    b"\"\"\"",
    b"'''",
    b"\\u0000",
    b"1e400",
    b"-9223372036854775808",
    b"0xffffffffffffffff",
    b"1979-05-27T07:32:00Z",
    b"\"10s\"",
    b"\"-1s\"",
    b"\"99999999999d\"",
    b"\"1EiB\"",
    b"\"\"",
    b"\n",
    b"= ",
    b", ",
];

const CONFIGS: [&str; 3] = [
    include_str!("../../../examples/flights.toml"),
    r#"[engine]
data_dir = "state"
shards = 4
coordinator_core = 0
pull_interval = "50ms"
routing = "hash"
batch_rows = 1000
[wal]
durability = "os"
segment_size = "16MiB"
[snapshot]
wal_bytes = "64MiB"
batches = 10000
[[streams]]
name = "flights"
time = { column = "time", unit = "ms", max_delay = "24h", max_future = "5m", idle_timeout = "30s" }
fields = { origin = "string", dep_delay = "f64", air_time = "i64" }
[[sources]]
stream = "flights"
file = { path = ["a.csv", "b/*.csv", "-"], format = "csv", null = ["NA"], on_error = "skip", delimiter = "\t" }
[[views]]
name = "by_origin"
stream = "flights"
by = ["origin"]
window = { size = "6h", slide = "1h", offset = "15m" }
aggregates = ["count()", "mean(dep_delay)"]
where = "dep_delay > 0"
max_groups = 500
overflow = "reject"
group_ttl = "1d"
[[views.exports]]
file = { path = "out/", format = "parquet", rotate = { every = "1h", bytes = "128MiB" } }
[[views.exports]]
file = { path = "out.csv" }
"#,
    "[[streams]]\nname = \"s\"\ntime = { column = \"t\" }\nfields = {}\n[[sources]]\nstream = \"s\"\nfile = { path = \
     \"a.csv\" }\n[[views]]\nname = \"v\"\nstream = \"s\"\nwindow = { size = \"1s\" }\naggregates = [\"count()\"]\n",
];

/// Checks the text; refusals must be sentences with a place.
pub fn body(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let told = match config::parse(Path::new("/nowhere/corefold.toml"), &text) {
        Ok(config) => format!("{config:?}"),
        Err(errors) => {
            assert!(!errors.errors().is_empty(), "a refusal without a reason");
            errors.to_string()
        }
    };
    xxhash_rust::xxh3::xxh3_64(told.as_bytes())
}

/// One of a few configs.
pub fn sound(entropy: &mut Entropy) -> Vec<u8> {
    entropy.pick(&CONFIGS).as_bytes().to_vec()
}
