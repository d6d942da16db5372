//! The config file from the outside: what is accepted, how faults read, and that docs/config.md tells the truth.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use corefold_aggregator::spec::{FieldType, Overflow};
use corefold_engine::config::{
    self, AtStop, AutoOr, Durability, EngineConfig, ExportTarget, InputPath, OnError, OutputFormat, Routing, TimeUnit,
};
use corefold_engine::exit::ExitCode;

const DOCS: &str = include_str!("../../docs/config.md");

/// A whole config with every key.
const FULL: &str = r#"[engine]
data_dir = "state"
shards = 4
coordinator_core = 0
pull_interval = "50ms"
routing = "hash"
batch_rows = 1000
[wal]
durability = "os"
segment_size = 1048576
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
"#;

fn parse(text: &str) -> Result<EngineConfig, String> {
    config::parse(Path::new("/etc/c.toml"), text).map_err(|errors| {
        assert_eq!(errors.exit_code(), ExitCode::BadConfig);
        errors.to_string()
    })
}

/// [`FULL`] with one text replaced, which must occur exactly once.
fn full_with(from: &str, to: &str) -> String {
    assert_eq!(FULL.matches(from).count(), 1, "`{from}`");
    FULL.replace(from, to)
}

#[test]
fn every_key_arrives() {
    let config = parse(FULL).expect("valid");
    assert_eq!(config.data_dir, Some(PathBuf::from("/etc/state")));
    assert_eq!((config.shards, config.coordinator_core), (AutoOr::Fixed(4), AutoOr::Fixed(0)));
    assert_eq!(config.pull_interval, std::time::Duration::from_millis(50));
    assert_eq!((config.routing, config.batch_rows), (Routing::Hash, 1000));
    assert_eq!((config.durability, config.segment_size), (Durability::Os, 1 << 20));
    assert_eq!((config.snapshot.wal_bytes, config.snapshot.batches), (64 << 20, 10_000));

    let stream = &config.streams[0];
    assert_eq!((stream.time.column.as_str(), stream.time.unit), ("time", Some(TimeUnit::Millis)));
    assert_eq!((stream.time.max_delay.micros(), stream.time.max_future.micros()), (86_400_000_000, 300_000_000));
    assert_eq!(stream.time.idle_timeout, std::time::Duration::from_secs(30));
    let fields: Vec<(&str, FieldType)> = stream.fields.iter().map(|field| (field.name.as_str(), field.kind)).collect();
    assert_eq!(
        fields,
        [("origin", FieldType::String), ("dep_delay", FieldType::F64), ("air_time", FieldType::I64)],
        "in the order of the file"
    );

    let source = &config.sources[0];
    let inputs: Vec<String> = source.inputs.iter().map(|input| input.value.to_string()).collect();
    assert_eq!(inputs, ["/etc/a.csv", "/etc/b/*.csv", "-"]);
    assert_eq!((source.read.on_error, source.read.delimiter), (OnError::Skip, Some(b'\t')));
    assert_eq!(source.read.nulls, ["NA"]);

    let view = &config.views[0];
    assert_eq!((view.stream, view.by.as_slice(), view.groups_max), (0, [0].as_slice(), 500));
    assert_eq!((view.window.size(), view.window.slide(), view.window.offset()), (6 * HOUR, HOUR, HOUR / 4));
    assert_eq!((view.overflow, view.group_ttl.map(|ttl| ttl.micros())), (Overflow::Reject, Some(24 * HOUR)));
    let second = &view.aggregates[1];
    assert_eq!((second.value.as_str(), second.key.as_str()), ("mean(dep_delay)", "views[0].aggregates[1]"));
    assert_eq!((second.place.line, second.place.column), (26, 26));
    assert_eq!(view.filter.as_ref().map(|filter| filter.value.as_str()), Some("dep_delay > 0"));
    let ExportTarget::Directory { path, rotate } = &view.exports[0].target else { panic!("a directory") };
    assert_eq!((path.as_path(), rotate.bytes), (Path::new("/etc/out/"), Some(128 << 20)));
    assert_eq!(rotate.every.map(|every| every.micros()), Some(HOUR));
    assert_eq!(view.exports[1].target, ExportTarget::File("/etc/out.csv".into()));
    assert_eq!(view.exports[1].format, OutputFormat::Csv);
}

const HOUR: i64 = 3_600_000_000;

/// A config with a listener, with one text of it replaced.
fn listening(from: &str, to: &str) -> Result<EngineConfig, String> {
    let text = r#"
[engine]
data_dir = "state"
[[streams]]
name = "a"
time = { column = "t", idle_timeout = "9s" }
fields = { x = "f64" }
[[streams]]
name = "b"
time = { column = "t" }
fields = { x = "f64" }
[[sources]]
stream = "a"
tcp = { listen = "127.0.0.1:7600" }
[[sources]]
stream = "b"
tcp = { listen = "127.0.0.1:7600" }
[[views]]
name = "v"
stream = "a"
window = { size = "1h" }
aggregates = ["count()"]
"#;
    assert!(text.contains(from), "`{from}`");
    parse(&text.replacen(from, to, 1))
}

#[test]
fn listeners_arrive_and_their_faults_are_named() {
    let config = listening("", "").expect("valid");
    assert_eq!(config.stop, AtStop::Keep);
    // That the view has no exports; nothing about times of streams, which are live.
    assert_eq!(config.notes.len(), 1, "{:?}", config.notes);
    let [listener] = &config.listeners[..] else { panic!("one address is one listener") };
    assert_eq!((listener.address.to_string().as_str(), &listener.streams[..]), ("127.0.0.1:7600", &[0, 1][..]));
    assert_eq!(listener.limits, config::ListenLimits::default());
    let config = listening("data_dir = \"state\"", "").expect("valid");
    assert_eq!(config.stop, AtStop::Drain);
    for (from, to, says) in [
        ("\"127.0.0.1:7600\"", "\"nowhere\"", "is not an address with a port"),
        ("\"127.0.0.1:7600\"", "\"0.0.0.0:7600\"", "everyone who reaches this machine could send events"),
        ("\"127.0.0.1:7600\"", "\"127.0.0.1:7600\", lanes_max = 5", "was given before with other limits"),
        ("stream = \"b\"\ntcp", "stream = \"a\"\ntcp", "the stream is taken at"),
        ("tcp = { listen = \"127.0.0.1:7600\" }", "", "`file` or `tcp`"),
        ("\"127.0.0.1:7600\" }", "\"127.0.0.1:7600\" }\nfile = { path = \"x.csv\" }", "write two of them"),
        ("\"127.0.0.1:7600\"", "\"127.0.0.1:7600\", inbox_max = \"1MiB\"", "no room for one batch"),
        ("\"127.0.0.1:7600\"", "\"127.0.0.1:7600\", lanes = 5", "lanes_max"),
        ("data_dir = \"state\"", "stop = \"keep\"", "open windows are kept in a directory"),
    ] {
        let said = listening(from, to).expect_err(to);
        assert!(said.contains(says), "{to}: {said}");
    }
}

#[test]
fn defaults_are_the_documented_ones() {
    let text = r#"
        [[streams]]
        name = "s"
        time = { column = "t" }
        fields = {}
        [[sources]]
        stream = "s"
        file = { path = "a.csv" }
        [[views]]
        name = "v"
        stream = "s"
        window = { size = "1h" }
        aggregates = ["count()"]
    "#;
    let config = config::parse(Path::new("c.toml"), text).expect("valid");
    assert_eq!((config.data_dir.as_ref(), config.durability), (None, Durability::None));
    assert_eq!((config.shards, config.coordinator_core, config.routing), (AutoOr::Auto, AutoOr::Auto, Routing::Load));
    assert_eq!((config.pull_interval.as_millis(), config.batch_rows), (100, 8192));
    assert_eq!((config.segment_size, config.snapshot.wal_bytes, config.snapshot.batches), (64 << 20, 64 << 20, 10_000));
    let time = &config.streams[0].time;
    assert_eq!((time.unit, time.max_delay.micros(), time.max_future.micros()), (None, 0, 300_000_000));
    assert_eq!(time.idle_timeout.as_secs(), 30);
    let source = &config.sources[0];
    assert_eq!(source.inputs[0].value, InputPath::File("a.csv".into()));
    assert_eq!(source.read, config::ReadOptions::default());
    let view = &config.views[0];
    assert_eq!((view.window.slide(), view.window.offset()), (HOUR, 0));
    assert_eq!((view.groups_max, view.overflow, view.group_ttl), (1_000_000, Overflow::Fold, None));
    let notes: Vec<String> = config.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("no `data_dir`"), "{notes:?}");
    assert!(notes[1].contains("c.toml:10:16: views[0]: the view has no [[views.exports]]"), "{notes:?}");
    let durable = config::parse(Path::new("c.toml"), &format!("engine.data_dir = 'd'\n{text}")).expect("valid");
    assert_eq!(durable.durability, Durability::Sync);
}

#[test]
fn keys_without_effect_are_noted() {
    let notes: Vec<String> = parse(FULL).expect("valid").notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("streams[0].time.max_future: `max_future` applies to live sources only"), "{notes:?}");
    assert!(notes[1].contains("streams[0].time.idle_timeout"), "{notes:?}");
    let unfed = format!("{FULL}[[streams]]\nname = \"lonely\"\ntime.column = \"t\"\nfields = {{}}\n");
    let notes = parse(&unfed).expect("valid").notes;
    assert!(notes.iter().any(|note| note.to_string().contains("no source feeds the stream `lonely`")));
}

/// What is replaced in [`FULL`], by what, and how the fault reads (after the file's name).
#[test]
fn faults_name_place_key_and_way_out() {
    let table = [
        // Form.
        ("null = [", "nul = [", "20:60: sources[0].file.nul: unknown key `nul`; did you mean `null`?"),
        ("[wal]", "[wall]", "8:2: wall: unknown key `wall`; did you mean `wal`?"),
        ("slide = ", "slid = ", "25:25: views[0].window.slid: unknown key `slid`; did you mean"),
        ("rotate = { every", "rotate = { evry", "32:56: views[0].exports[0].file.rotate.evry: unknown key"),
        ("batch_rows = 1000", "batch_rows = \"1000\"", "7:14: engine.batch_rows: expected i64, found string \"1000\""),
        ("by = [\"origin\"]", "by = \"origin\"", "24:6: views[0].by: expected a list, found string \"origin\""),
        ("wal_bytes = \"64MiB\"", "wal_bytes = true", "12:13: snapshot.wal_bytes: expected a number of bytes, or"),
        ("max_delay = \"24h\"", "max_delay = 24", "16:52: streams[0].time.max_delay: expected a duration in quotes"),
        ("shards = 4", "shards = \"all\"", "3:10: engine.shards: expected \"auto\" or a whole number, found string"),
        ("shards = 4", "shards = -1", "3:10: engine.shards: expected \"auto\" or a whole number, found integer `-1`"),
        ("stream = \"flights\"\nfile", "file", "18:1: sources[0]: the key `stream` is missing"),
        ("size = \"6h\", ", "", "25:10: views[0].window: the key `size` is missing"),
        ("shards = 4\n", "shards = 4\nshards = 5\n", "4:1: this key was given before"),
        ("fields = {", "fields = [", "17:"),
        ("[engine]", "[engine", "1:8:"),
        // Values.
        ("shards = 4", "shards = 0", "3:10: engine.shards: `0` is out of range; expected \"auto\" or 1 to 1024"),
        ("\"50ms\"", "\"50 ms\"", "5:17: engine.pull_interval: `50 ms` is not a duration"),
        ("\"50ms\"", "\"2h\"", "5:17: engine.pull_interval: `2h` is out of range; expected 1ms to 1h"),
        ("\"hash\"", "\"hsh\"", "6:11: engine.routing: unknown routing `hsh`; did you mean `hash`? (known: `load`,"),
        (
            "batch_rows = 1000",
            "batch_rows = 65537",
            "7:14: engine.batch_rows: `65537` is out of range; expected 1 to 65536",
        ),
        ("batch_rows = 1000", "batch_rows = -1", "7:14: engine.batch_rows: `-1` is out of range"),
        ("\"os\"", "\"disk\"", "9:14: wal.durability: unknown durability `disk` (known: `sync`, `os`, `none`)"),
        ("data_dir = \"state\"", "", "9:14: wal.durability: durability \"os\" needs a directory for the log"),
        ("= 1048576", "= 1048577", "10:16: wal.segment_size: `1048577` is not a multiple of 4KiB"),
        ("= 1048576", "= \"1MB\"", "10:16: wal.segment_size: `1000000` is out of range; expected 1MiB to 1GiB"),
        ("batches = 10000", "batches = 0", "13:11: snapshot.batches: `0` is out of range"),
        (
            "name = \"by_origin\"",
            "name = \"by origin\"",
            "22:8: views[0].name: `by origin` is not a name; expected 1 to 128 letters",
        ),
        ("\"ms\"", "\"min\"", "16:34: streams[0].time.unit: unknown unit `min`"),
        (
            "\"i64\"",
            "\"int64\"",
            "17:61: streams[0].fields.air_time: unknown type `int64` (known: `string`, `i64`, `f64`, `bool`)",
        ),
        (
            "stream = \"flights\"\nfile",
            "stream = \"flight\"\nfile",
            "19:10: sources[0].stream: unknown stream `flight`; did you mean `flights`?",
        ),
        ("\"b/*.csv\"", "\"b/[.csv\"", "20:27: sources[0].file.path[1]: `b/[.csv` is not a pattern"),
        ("\"b/*.csv\"", "\"a.csv\"", "20:27: sources[0].file.path[1]: the stream reads this input already, on line 20"),
        ("\"b/*.csv\"", "\"-\"", "20:32: sources[0].file.path[2]: standard input can be read only once"),
        ("[\"a.csv\", \"b/*.csv\", \"-\"]", "[]", "20:17: sources[0].file.path: the list is empty"),
        ("format = \"csv\"", "format = \"cvs\"", "sources[0].file.format: unknown format `cvs`; did you mean `csv`?"),
        ("format = \"csv\"", "format = \"arrow\"", "sources[0].file.delimiter: a delimiter is for CSV files only"),
        ("\"\\t\"", "\"ab\"", "sources[0].file.delimiter: `ab` is not a delimiter"),
        (
            "[\"origin\"]",
            "[\"orgin\"]",
            "24:7: views[0].by[0]: unknown field of stream `flights`: `orgin`; did you mean `origin`?",
        ),
        ("[\"origin\"]", "[\"origin\", \"origin\"]", "24:17: views[0].by[1]: the group column `origin` is given twice"),
        ("[\"origin\"]", "[\"time\"]", "24:7: views[0].by[0]: `time` is the time column"),
        ("slide = \"1h\"", "slide = \"7h\"", "25:33: views[0].window: the window slide is longer than its size"),
        ("size = \"6h\"", "size = \"0\"", "25:19: views[0].window.size: `0s` is too short; expected 1us or longer"),
        ("[\"count()\", \"mean(dep_delay)\"]", "[]", "26:14: views[0].aggregates: the view has no aggregates"),
        ("\"count()\"", "\" \"", "26:15: views[0].aggregates[0]: the expression is empty"),
        ("\"dep_delay > 0\"", "\"\"", "27:9: views[0].where: the expression is empty"),
        (
            "max_groups = 500",
            "max_groups = 0",
            "28:14: views[0].max_groups: `0` is out of range; expected 1 to 1073741824",
        ),
        ("\"reject\"", "\"drop\"", "29:12: views[0].overflow: unknown overflow policy `drop`"),
        (
            "path = \"out/\"",
            "path = \"out\"",
            "32:17: views[0].exports[0].file.path: rotation makes many files and needs a directory",
        ),
        (
            "\"out.csv\"",
            "\"out/\", format = \"csv\"",
            "34:17: views[0].exports[1].file.path: another export writes there already, on line 32",
        ),
        (
            "\"out.csv\"",
            "\"out.txt\"",
            "34:17: views[0].exports[1].file.path: the path `out.txt` does not tell the format",
        ),
        (
            "rotate = { every = \"1h\", bytes = \"128MiB\" }",
            "rotate = {}",
            "views[0].exports[0].file.rotate: expected `every`, `bytes` or both",
        ),
        (
            "\"128MiB\"",
            "\"128M\"",
            "views[0].exports[0].file.rotate.bytes: `128M` is not a size: there is no unit `M` (did you mean `MiB`?)",
        ),
    ];
    let mut wrong = Vec::new();
    for (from, to, expected) in table {
        let error = parse(&full_with(from, to)).expect_err(expected);
        let first = error.lines().next().unwrap_or_default();
        if !first.starts_with("/etc/c.toml:") || !first.contains(expected) || error.lines().count() != 1 {
            wrong.push(format!("expected {expected}\nfound {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_fault_of_meaning_is_reported_in_order() {
    let text = full_with("\"hash\"", "\"x\"").replace("\"6h\"", "\"6 h\"").replace("\"os\"", "\"y\"");
    let error = parse(&text).expect_err("three faults");
    let lines: Vec<&str> = error.lines().filter_map(|line| line.split(':').nth(1)).collect();
    assert_eq!(lines, ["6", "9", "25"], "{error}");
}

#[test]
fn names_are_given_once() {
    let view = FULL.split("[[views]]").nth(1).and_then(|rest| rest.split("[[views.exports]]").next()).expect("a view");
    let error = parse(&format!("{FULL}[[views]]{view}")).expect_err("twice");
    assert!(error.contains("36:8: views[1].name: the view `by_origin` was given before, on line 22"), "{error}");
    let stream = "[[streams]]\nname = \"flights\"\ntime.column = \"t\"\nfields = {}\n";
    let error = parse(&format!("{FULL}{stream}")).expect_err("twice");
    assert!(error.contains("streams[1].name: the stream `flights` was given before, on line 15"), "{error}");
}

#[test]
fn an_empty_file_says_what_is_needed() {
    let error = parse("").expect_err("empty");
    assert_eq!(error.lines().count(), 3, "{error}");
    for part in ["[[streams]]", "[[sources]]", "[[views]]"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn unreadable_files_are_an_io_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let missing = directory.path().join("none.toml");
    let errors = config::load(&missing).expect_err("missing");
    assert_eq!(errors.exit_code(), ExitCode::Io);
    assert!(errors.to_string().starts_with(&format!("{}: cannot read", missing.display())), "{errors}");
    let binary = directory.path().join("b.toml");
    std::fs::write(&binary, [0xff, 0xfe]).expect("writable");
    assert_eq!(config::load(&binary).expect_err("no text").exit_code(), ExitCode::BadConfig);
    let present = directory.path().join("c.toml");
    std::fs::write(&present, FULL).expect("writable");
    let config = config::load(&present).expect("valid");
    assert_eq!(config.data_dir, Some(directory.path().join("state")));
}

proptest::proptest! {
    /// Whatever is damaged, the answer is a config or faults with places, never a panic.
    #[test]
    fn damaged_files_are_answered(from in 0..FULL.len(), length in 0..40_usize, patch in "[\\PC\n\"]{0,6}") {
        let to = (from + length).min(FULL.len());
        let text = format!("{}{patch}{}", &FULL[..from], &FULL[to..]);
        if let Err(errors) = config::parse(Path::new("c.toml"), &text) {
            proptest::prop_assert!(errors.errors().iter().all(|error| error.place.is_some()));
        }
    }
}

/// The keys of a table, from the fault that an unknown key in it provokes.
fn known_keys(text: &str) -> BTreeSet<String> {
    let error = parse(text).expect_err("the probe is unknown");
    assert_eq!(error.lines().count(), 1, "{error}");
    let (_, known) = error.rsplit_once("(known: ").unwrap_or_else(|| panic!("{error}"));
    let (known, _) = known.split_once(')').expect("a closed list");
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_documentation_has_every_key_and_no_other() {
    // Every table, and a text of it that holds the probe.
    let tables = [
        ("", "zzzz = 1"),
        ("engine", "engine.zzzz = 1"),
        ("wal", "wal.zzzz = 1"),
        ("snapshot", "snapshot.zzzz = 1"),
        ("streams", "[[streams]]\nzzzz = 1"),
        ("streams.time", "[[streams]]\ntime.zzzz = 1"),
        ("sources", "[[sources]]\nzzzz = 1"),
        ("sources.file", "[[sources]]\nfile.zzzz = 1"),
        ("sources.tcp", "[[sources]]\ntcp.zzzz = 1"),
        ("sources.tcp.tls", "[[sources]]\ntcp.tls.zzzz = 1"),
        ("producers", "[[producers]]\nzzzz = 1"),
        ("views", "[[views]]\nzzzz = 1"),
        ("views.window", "[[views]]\nwindow.zzzz = 1"),
        ("views.exports", "[[views]]\n[[views.exports]]\nzzzz = 1"),
        ("views.exports.file", "[[views]]\n[[views.exports]]\nfile.zzzz = 1"),
        ("views.exports.file.rotate", "[[views]]\n[[views.exports]]\nfile.rotate.zzzz = 1"),
    ];
    let names: BTreeSet<&str> = tables.iter().map(|(name, _)| *name).collect();
    let mut known = BTreeSet::new();
    for (table, text) in tables {
        for key in known_keys(text) {
            known.insert(if table.is_empty() { key } else { format!("{table}.{key}") });
        }
    }
    let heads = ["engine", "wal", "snapshot", "streams", "sources", "producers", "views"];
    for head in heads {
        assert!(known.remove(head), "{head}");
        assert!(names.contains(head), "{head} is probed");
        assert!(DOCS.contains(&format!("[{head}]")), "{head} has a section");
    }
    let section = DOCS.split("## The configuration file").nth(1).and_then(|rest| rest.split("\n## ").next());
    let documented: BTreeSet<String> = first_cells(section.expect("a section")).collect();
    assert_eq!(documented, known);
}

#[test]
fn the_documentation_has_every_flag_and_no_other() {
    let section = DOCS.split("## The command line").nth(1).and_then(|rest| rest.split("\n## ").next());
    let mut documented = BTreeSet::new();
    for part in section.expect("a section").split("\n### `corefold ").skip(1) {
        let command: String = part.chars().take_while(|c| c.is_ascii_lowercase() || *c == ' ').collect();
        documented.insert(command.trim().to_owned());
        documented.extend(first_cells(part).map(|flag| format!("{} {flag}", command.trim())));
    }
    let mut root = corefold_engine::cli::manual::command().disable_help_subcommand(true);
    root.build();
    let mut known = BTreeSet::new();
    collect_flags(&root, "", &mut known);
    assert_eq!(documented, known);
}

/// Commands that do something, and their long flags but the two that all have.
fn collect_flags(command: &clap::Command, path: &str, known: &mut BTreeSet<String>) {
    for inner in command.get_subcommands() {
        let path = format!("{path} {}", inner.get_name()).trim().to_owned();
        if inner.has_subcommands() {
            collect_flags(inner, &path, known);
            continue;
        }
        for flag in inner.get_arguments().filter_map(clap::Arg::get_long) {
            if !matches!(flag, "help" | "version") {
                known.insert(format!("{path} --{flag}"));
            }
        }
        known.insert(path);
    }
}

/// The first code span of the first cell of every table row that begins with one.
fn first_cells(section: &str) -> impl Iterator<Item = String> + '_ {
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned)
}

/// The example on the page is a valid config.
#[test]
fn the_documented_example_is_valid() {
    let example = DOCS.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let config = parse(example).expect("valid");
    assert_eq!(config.notes, [], "nothing in it is without effect");
}
