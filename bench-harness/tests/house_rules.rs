//! The house rules that a plain look at the files can hold: dependencies, forbidden words, sizes, links.
//!
//! Every rule is a function from text to complaints, with a good and a bad example, and is then put to the whole
//! workspace. What the compiler and clippy check is not here.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file.
const LINES_MAX: usize = 500;

/// Files that may be longer, each with its reason. An entry that is no longer needed fails.
const LONG_FILES: &[(&str, &str)] = &[];

/// Files that may contain `unsafe`, each with its reason. An entry that is no longer needed fails.
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("shards/src/wal/block.rs", "aligned buffers that the kernel reads from"),
    ("shards/src/fold/block.rs", "rows by pointer, from finding them to folding into them"),
    ("shards/src/fold/kernels.rs", "rows by pointer in the hot loops"),
    ("shards/src/fold/four_rows.rs", "rows by pointer, four of them side by side"),
    ("shards/src/fold/view_fold.rs", "prefetch of rows"),
    ("engine/src/disk/uring.rs", "the ring"),
    ("engine/src/disk/probe.rs", "system calls without a safe wrapper"),
    ("engine/src/disk/writeback.rs", "a system call without a safe wrapper"),
    ("engine/src/doctor/facts.rs", "statvfs"),
    ("engine/src/slice.rs", "a system call without a safe wrapper"),
    ("shards/src/batch/batch_generated.rs", "code that flatc makes"),
    ("shards/tests/allocations.rs", "an allocator that counts and hands every call on as it came"),
    ("bench-harness/src/allocations.rs", "an allocator that counts and hands every call on as it came"),
    ("bench-harness/src/live/system.rs", "signals, limits of child processes, an ioctl"),
    ("bench-harness/src/live/calls.rs", "system calls of a child, held up by a filter"),
    ("engine/tests/children/mod.rs", "signals to child processes"),
    (
        "engine/tests/network_allocations.rs",
        "an allocator that counts and hands every call on as it came; a signal to itself",
    ),
    ("engine/tests/kill.rs", "signals to child processes"),
    ("engine/tests/support/confine.rs", "limits of child processes"),
];

/// The crates in order; each may depend on those before it.
const ORDER: [&str; 4] = ["aggregator", "shards", "engine", "bench-harness"];

/// Names of the crates, in the same order.
const NAMES: [&str; 4] = ["corefold-aggregator", "corefold-shards", "corefold-engine", "corefold-bench"];

/// What only the engine may name.
const MACHINE: [&str; 5] = ["glommio", "io-uring", "io_uring", "core_affinity", "core-affinity"];

/// What the pure crates may not touch.
const AGGREGATOR_FORBIDDEN: [&str; 7] =
    ["unsafe", "std::fs", "std::net", "std::thread", "std::time::Instant", "Instant::now", "SystemTime"];
const SHARDS_FORBIDDEN: [&str; 6] = ["std::fs", "std::net", "std::thread", "std::time", "Instant::now", "SystemTime"];

/// Marks of unfinished work, split so that this file does not contain them.
const UNFINISHED: [&str; 5] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), "todo!", "unimplemented!"];

// ---- reading text -------------------------------------------------------------------------------------------

/// The source with comments and the insides of string and character literals blanked; lines stay where they are.
fn code_only(source: &str) -> String {
    let characters: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < characters.len() {
        let rest = &characters[at..];
        let length = match rest[0] {
            '/' if rest.get(1) == Some(&'/') => rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
            '/' if rest.get(1) == Some(&'*') => block_comment_length(rest),
            '"' => string_length(rest, 1),
            'r' | 'b' | 'c' if !follows_word(&characters, at) => literal_prefix_length(rest).unwrap_or(0),
            '\'' => character_length(rest),
            _ => 0,
        };
        if length == 0 {
            code.push(rest[0]);
            at += 1;
        } else {
            code.extend(rest[..length].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at += length;
        }
    }
    code
}

fn follows_word(characters: &[char], at: usize) -> bool {
    at > 0 && is_word(characters[at - 1])
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn block_comment_length(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Length of a string literal whose first quote is just before `from`.
fn string_length(rest: &[char], from: usize) -> usize {
    let mut at = from;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of a literal that starts with `r`, `b` or `c`, such as `r#"…"#` or `b"…"`; `None` when it is a name.
fn literal_prefix_length(rest: &[char]) -> Option<usize> {
    let letters = rest.iter().take(2).take_while(|c| matches!(c, 'r' | 'b' | 'c')).count();
    let hashes = rest[letters..].iter().take_while(|&&c| c == '#').count();
    if rest.get(letters + hashes) != Some(&'"') {
        return None;
    }
    if !rest[..letters].contains(&'r') {
        return (hashes == 0).then(|| string_length(rest, letters + 1));
    }
    let body = letters + hashes + 1;
    let closes =
        |at: usize| rest[at] == '"' && rest[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
    Some((body..rest.len()).find(|&at| closes(at)).map_or(rest.len(), |at| at + 1 + hashes))
}

/// Length of a character literal; 0 when the quote begins a lifetime.
fn character_length(rest: &[char]) -> usize {
    match rest.get(1) {
        Some('\\') => rest[2..].iter().skip(1).position(|&c| c == '\'').map_or(0, |at| at + 4),
        Some(_) if rest.get(2) == Some(&'\'') => 3,
        _ => 0,
    }
}

/// Line numbers where `word` stands by itself.
fn lines_with(text: &str, word: &str) -> Vec<usize> {
    let stands_alone = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            !before.is_some_and(is_word) && (!after.is_some_and(is_word) || word.ends_with('!'))
        })
    };
    text.lines().enumerate().filter(|(_, line)| stands_alone(line)).map(|(index, _)| index + 1).collect()
}

// ---- the rules ----------------------------------------------------------------------------------------------

/// Lines of `source`'s code that name any of `words`.
fn forbidden_words(source: &str, words: &[&str]) -> Vec<String> {
    let code = code_only(source);
    let found = words.iter().flat_map(|word| lines_with(&code, word).into_iter().map(move |line| (line, word)));
    found.map(|(line, word)| format!("line {line}: `{word}` does not belong here")).collect()
}

/// Marks of unfinished work, comments included.
fn unfinished(source: &str) -> Vec<String> {
    let found = UNFINISHED.iter().flat_map(|mark| lines_with(source, mark).into_iter().map(move |line| (line, mark)));
    found.map(|(line, mark)| format!("line {line}: `{mark}`; finish it or leave it out")).collect()
}

/// Dependencies of the crate in `folder` that point the wrong way, or name what only the engine may.
fn wrong_dependencies(folder: &str, manifest: &str) -> Vec<String> {
    let own = ORDER.iter().position(|name| *name == folder).expect("a crate of the workspace");
    let mut section = "";
    let mut complaints = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies") {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            if NAMES.iter().position(|other| *other == name).is_some_and(|other| other >= own) {
                complaints.push(format!("`{name}` may use `{}`, not the other way round", NAMES[own]));
            }
            if folder != "engine" && MACHINE.contains(&name) {
                complaints.push(format!("only the engine may depend on `{name}`"));
            }
        }
    }
    complaints
}

/// A complaint when `source` is too long; generated files are exempt by name.
fn too_long(path: &str, source: &str) -> Option<String> {
    let lines = source.lines().count();
    let generated = path.ends_with("_generated.rs");
    (lines > LINES_MAX && !generated).then(|| format!("{lines} lines; at most {LINES_MAX}"))
}

/// A complaint when a module does not say what belongs in it.
fn no_header(source: &str) -> Option<String> {
    let first = source.lines().next().unwrap_or_default();
    (!first.starts_with("//! ")).then(|| "the first line is no `//!` header".to_owned())
}

/// Crates of others in the `[workspace.dependencies]` of a manifest that stand in the first column of no table of `document`.
fn unexplained(manifest: &str, document: &str) -> Vec<String> {
    let cells = document.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let explained: Vec<&str> = cells.flat_map(|cell| cell.split([' ', ','])).collect();
    let section = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let names = section.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(" = "));
    let others = names.map(|(name, _)| name).filter(|name| !name.starts_with("corefold-") && !name.starts_with('#'));
    others.filter(|name| !explained.contains(name)).map(|name| format!("no table has a line for {name}")).collect()
}

/// Link targets of a Markdown text that are meant to be files, without their `#part`.
fn file_links(markdown: &str) -> Vec<String> {
    let targets = markdown.match_indices("](").map(|(at, _)| &markdown[at + 2..]);
    let targets = targets.filter_map(|rest| rest.split([')', ' ']).next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with(['#', '<']) && !target.starts_with("mailto:"))
        .filter_map(|target| target.split('#').next().map(str::to_owned))
        .collect()
}

// ---- the workspace ------------------------------------------------------------------------------------------

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Paths below the root of all files with one of the `extensions`, in order; build products left out.
fn files(folder: &str, extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.expect("a readable folder").path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if extensions.iter().any(|extension| path.extension().is_some_and(|found| found == *extension)) {
                let path = path.strip_prefix(root()).expect("a path below the root").display().to_string();
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

fn sources() -> Vec<String> {
    ORDER.iter().flat_map(|folder| files(folder, &["rs"])).collect()
}

/// Fails with all complaints at once.
fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Puts a rule to each file and names the file in what it says.
fn complaints(paths: Vec<String>, rule: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    let about =
        |path: &String| rule(path, &read(path)).into_iter().map(|what| format!("{path}: {what}")).collect::<Vec<_>>();
    paths.iter().flat_map(about).collect()
}

#[test]
fn dependencies_point_one_way() {
    let good = "[dependencies]\ncorefold-aggregator.workspace = true\ncrc32c = \"0.6\"\n";
    assert!(wrong_dependencies("shards", good).is_empty());
    assert_eq!(wrong_dependencies("aggregator", good).len(), 1);
    let bad =
        "[package]\nname = \"x\"\n[dev-dependencies]\ncorefold-engine = { path = \"../engine\" }\nglommio = \"0.9\"\n";
    assert_eq!(wrong_dependencies("shards", bad).len(), 2);
    assert_eq!(wrong_dependencies("bench-harness", bad).len(), 1);

    // The client library is for other programs: it brings none of the engine along.
    let client = read("engine/client/Cargo.toml");
    assert!(!client.contains("corefold-engine"), "the client does not use the engine");
    assert!(MACHINE.iter().all(|name| !client.contains(name)), "the client is for any machine");

    let manifests = ORDER.map(|folder| (folder, read(&format!("{folder}/Cargo.toml"))));
    let said = manifests.iter().flat_map(|(folder, manifest)| {
        wrong_dependencies(folder, manifest).into_iter().map(move |what| format!("{folder}/Cargo.toml: {what}"))
    });
    assert_none(said.collect());
}

#[test]
fn only_the_engine_knows_the_machine() {
    assert!(forbidden_words("// glommio is the engine's\nlet x = \"io_uring\";", &MACHINE).is_empty());
    assert_eq!(forbidden_words("use glommio::Task;", &MACHINE).len(), 1);
    assert_eq!(forbidden_words("let ring = io_uring::IoUring::new(8);", &MACHINE).len(), 1);

    let paths: Vec<String> = sources()
        .into_iter()
        .filter(|path| !path.starts_with("engine/") || path.starts_with("engine/client/"))
        .collect();
    assert!(paths.len() > 5);
    assert_none(complaints(paths, |_, source| forbidden_words(source, &MACHINE)));
}

#[test]
fn aggregator_and_shards_are_pure() {
    assert!(forbidden_words("#![forbid(unsafe_code)]\n/// unsafe\nfn f() {}", &AGGREGATOR_FORBIDDEN).is_empty());
    assert_eq!(forbidden_words("fn f() { unsafe { g() } }", &AGGREGATOR_FORBIDDEN).len(), 1);
    assert_eq!(forbidden_words("let now = std::time::Instant::now();", &AGGREGATOR_FORBIDDEN).len(), 2);
    assert_eq!(forbidden_words("use std::fs::File;", &SHARDS_FORBIDDEN).len(), 1);
    assert!(forbidden_words("let duration = time::Duration::ZERO;", &SHARDS_FORBIDDEN).is_empty());

    assert_none(complaints(files("aggregator/src", &["rs"]), |_, source| {
        forbidden_words(source, &AGGREGATOR_FORBIDDEN)
    }));
    assert_none(complaints(files("shards/src", &["rs"]), |_, source| forbidden_words(source, &SHARDS_FORBIDDEN)));
}

#[test]
fn unsafe_only_where_listed() {
    let bad = "let a = 'u';\nunsafe impl Send for X {}";
    assert_eq!(lines_with(&code_only(bad), "unsafe"), [2]);
    let good =
        "/* unsafe */ let s = r#\"unsafe \" \"#; // unsafe\nlet b = b\"unsafe\"; #![deny(unsafe_op_in_unsafe_fn)]";
    assert_eq!(lines_with(&code_only(good), "unsafe"), [0usize; 0]);

    let uses = |source: &str| !lines_with(&code_only(source), "unsafe").is_empty();
    let listed = |path: &str| UNSAFE_FILES.iter().any(|(listed, _)| *listed == path);
    let mut said = complaints(sources(), |path, source| {
        if uses(source) && !listed(path) { vec!["`unsafe` outside the listed files".to_owned()] } else { Vec::new() }
    });
    said.extend(
        UNSAFE_FILES
            .iter()
            .filter(|(path, _)| !uses(&read(path)))
            .map(|(path, _)| format!("{path}: listed for nothing")),
    );
    assert_none(said);
}

#[test]
fn nothing_is_left_unfinished() {
    assert!(unfinished("// the method todos() is fine\nlet todo = 1;").is_empty());
    assert_eq!(unfinished(concat!("// TO", "DO: later\nfn f() { to", "do!() }")).len(), 2);
    assert_eq!(unfinished(concat!("unimple", "mented!(\"x\")")).len(), 1);

    // This file holds the marks and is looked at by people.
    let paths: Vec<String> = sources().into_iter().filter(|path| !path.ends_with("tests/house_rules.rs")).collect();
    assert_none(complaints(paths, |_, source| unfinished(source)));
    let texts = [files("docs", &["md"]), files("scripts", &["sh"]), vec!["Cargo.toml".to_owned()]].concat();
    assert_none(complaints(texts, |_, text| unfinished(text)));
}

#[test]
fn files_stay_small() {
    let long = "x\n".repeat(LINES_MAX + 1);
    assert_eq!(too_long("a.rs", &"x\n".repeat(LINES_MAX)), None);
    assert!(too_long("a.rs", &long).is_some());
    assert_eq!(too_long("batch_generated.rs", &long), None);

    let listed = |path: &str| LONG_FILES.iter().any(|(listed, _)| *listed == path);
    let mut said =
        complaints(sources(), |path, source| too_long(path, source).into_iter().filter(|_| !listed(path)).collect());
    let stale = LONG_FILES.iter().filter(|(path, _)| too_long(path, &read(path)).is_none());
    said.extend(stale.map(|(path, _)| format!("{path}: listed for nothing")));
    assert_none(said);
}

#[test]
fn modules_say_what_belongs_in_them() {
    assert_eq!(no_header("//! What a result is.\n"), None);
    assert!(no_header("use std::fs;\n//! Too late.").is_some());

    let generated = |path: &String| path.ends_with("_generated.rs");
    let paths: Vec<String> = sources().into_iter().filter(|path| !generated(path)).collect();
    assert_none(complaints(paths, |_, source| no_header(source).into_iter().collect()));
}

/// The oracle may not lean on what it judges: not even the harness's other modules may be used through the engine's.
#[test]
fn the_oracle_stands_alone() {
    let rule = |source: &str| {
        let code = code_only(source);
        let uses = code
            .lines()
            .any(|line| line.match_indices("corefold_").any(|(at, _)| !line[at..].starts_with("corefold_bench")));
        if uses { vec!["the oracle shares no code with the engine".to_owned()] } else { Vec::new() }
    };
    assert!(rule("// unlike corefold_aggregator\nuse crate::text;").is_empty());
    assert_eq!(rule("use corefold_aggregator::time::EventTime;").len(), 1);

    let paths: Vec<String> = ["oracle", "workload"]
        .iter()
        .flat_map(|folder| files(&format!("bench-harness/src/{folder}"), &["rs"]))
        .chain(["text", "entropy", "compare"].map(|file| format!("bench-harness/src/{file}.rs")))
        .collect();
    assert!(paths.len() >= 8);
    assert_none(complaints(paths, |_, source| rule(source)));
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest =
        "[x]\nz = 1\n[workspace.dependencies]\ncorefold-a = 1\n# c\nb = \"1\"\nb-d = { version = \"1\" }\n[y]\ne = 1";
    assert!(unexplained(manifest, "| b 1.0, b-d 1.1, `f` | MIT |").is_empty());
    assert_eq!(
        unexplained(manifest, "| c 1.0 | b |\nb-d"),
        ["no table has a line for b", "no table has a line for b-d"]
    );

    assert_none(unexplained(&read("Cargo.toml"), &read("docs/DEPENDENCIES.md")));
}

#[test]
fn links_lead_to_files() {
    let text = "[a](docs/a.md) [b](https://x.org/y) [c](#part) ![d](e.svg \"title\") [f](g.md#part) f(x)[0](";
    assert_eq!(file_links(text), ["docs/a.md", "e.svg", "g.md", ""]);

    let mut said = Vec::new();
    let top: Vec<String> = fs::read_dir(root())
        .expect("a readable root")
        .filter_map(|entry| entry.expect("a readable entry").file_name().into_string().ok())
        .filter(|name| name.ends_with(".md"))
        .collect();
    for path in [top, files("docs", &["md"]), files("results", &["md"])].concat() {
        let folder = Path::new(&path).parent().unwrap_or(Path::new("")).to_owned();
        for target in file_links(&read(&path)) {
            if !target.is_empty() && !root().join(&folder).join(&target).exists() {
                said.push(format!("{path}: the link to {target} leads nowhere"));
            }
        }
    }
    assert_none(said);
}
