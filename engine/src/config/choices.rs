//! Small closed choices that the command line and the config file share, with their names and defaults.
//!
//! Numbers with units are not here; see `units`.

use clap::ValueEnum;
use corefold_aggregator::spec;

/// Shape of input files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, ValueEnum)]
pub enum InputFormat {
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object per line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow IPC, file or stream.
    Arrow,
}

/// Shape of output files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, ValueEnum)]
pub enum OutputFormat {
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object per line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow IPC file.
    Arrow,
}

impl OutputFormat {
    /// The format that the extension of `path` stands for; CSV for paths without one, such as pipes.
    pub fn of_path(path: &std::path::Path) -> Option<OutputFormat> {
        let Some(extension) = path.extension() else { return Some(OutputFormat::Csv) };
        match extension.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(OutputFormat::Csv),
            "ndjson" | "jsonl" | "json" => Some(OutputFormat::Ndjson),
            "parquet" | "pq" => Some(OutputFormat::Parquet),
            "arrow" | "ipc" | "feather" => Some(OutputFormat::Arrow),
            _ => None,
        }
    }
}

/// What a stop does with windows that are not final, where producers may still come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, ValueEnum)]
pub enum AtStop {
    /// They stay in the data directory, and go on after a restart.
    Keep,
    /// They are given out as they are, and the job is finished.
    Drain,
}

/// What a bad row does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, ValueEnum)]
pub enum OnError {
    /// End the run with exit code 65 and name file, line, column and value.
    #[default]
    Fail,
    /// Leave the row out and count it as rejected.
    Skip,
}

/// How batches of an in-process source are spread over the shards. Never changes results.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, ValueEnum)]
pub enum Routing {
    /// To the shard with the least waiting work.
    #[default]
    Load,
    /// To each shard in turn.
    RoundRobin,
    /// Each row to the shard of its group's hash, so no two shards keep the same group.
    Hash,
}

/// When an event counts as safe.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, ValueEnum)]
pub enum Durability {
    /// Once its log block is on stable storage: survives a power cut.
    #[default]
    Sync,
    /// Once its log block is written to the operating system: survives a killed process, not a power cut.
    Os,
    /// At once; no log is kept.
    None,
}

/// Unit of integer time columns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, ValueEnum)]
pub enum TimeUnit {
    /// Seconds.
    #[value(name = "s")]
    Seconds,
    /// Milliseconds.
    #[value(name = "ms")]
    Millis,
    /// Microseconds.
    #[value(name = "us")]
    Micros,
    /// Nanoseconds.
    #[value(name = "ns")]
    Nanos,
}

/// What happens to groups past `max_groups`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, ValueEnum)]
pub enum OverflowChoice {
    /// Merge what does not fit into one group `__other__`; totals stay exact.
    #[default]
    Fold,
    /// End the run with an error.
    Reject,
}

impl From<OverflowChoice> for spec::Overflow {
    fn from(choice: OverflowChoice) -> spec::Overflow {
        match choice {
            OverflowChoice::Fold => spec::Overflow::Fold,
            OverflowChoice::Reject => spec::Overflow::Reject,
        }
    }
}

/// Type of a declared field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, ValueEnum)]
pub enum TypeChoice {
    /// UTF-8 text.
    String,
    /// Signed 64-bit integer.
    I64,
    /// 64-bit floating point number.
    F64,
    /// `true` or `false`.
    Bool,
}

impl From<TypeChoice> for spec::FieldType {
    fn from(choice: TypeChoice) -> spec::FieldType {
        match choice {
            TypeChoice::String => spec::FieldType::String,
            TypeChoice::I64 => spec::FieldType::I64,
            TypeChoice::F64 => spec::FieldType::F64,
            TypeChoice::Bool => spec::FieldType::Bool,
        }
    }
}

/// A number, or the engine's own choice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum AutoOr {
    /// Every allowed core but the coordinator's; or the first allowed core for the coordinator.
    #[default]
    Auto,
    /// This many, or this one.
    Fixed(u32),
}

/// The names of a choice, in the order in which they are documented.
pub fn names<T: ValueEnum>() -> Vec<String> {
    T::value_variants().iter().map(|choice| name(choice)).collect()
}

/// The name of one choice.
pub fn name<T: ValueEnum>(choice: &T) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The choice called `name`, exactly so.
pub fn by_name<T: ValueEnum>(name: &str) -> Option<T> {
    T::from_str(name, false).ok()
}

/// The known name nearest to `found`, if one is near enough to be meant.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    let scored = known.into_iter().map(|name| {
        let distance = strsim::damerau_levenshtein(&found, &name.to_lowercase());
        (distance, name)
    });
    // A third of the letters may differ, and at least one.
    scored.min().filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_promised_ones() {
        assert_eq!(names::<InputFormat>(), ["csv", "ndjson", "parquet", "arrow"]);
        assert_eq!(names::<OutputFormat>(), ["csv", "ndjson", "parquet", "arrow"]);
        assert_eq!(names::<OnError>(), ["fail", "skip"]);
        assert_eq!(names::<Routing>(), ["load", "round-robin", "hash"]);
        assert_eq!(names::<Durability>(), ["sync", "os", "none"]);
        assert_eq!(names::<TimeUnit>(), ["s", "ms", "us", "ns"]);
        assert_eq!(names::<OverflowChoice>(), ["fold", "reject"]);
        assert_eq!(names::<TypeChoice>(), ["string", "i64", "f64", "bool"]);
        assert_eq!(by_name::<Routing>("round-robin"), Some(Routing::RoundRobin));
        assert_eq!(by_name::<Routing>("Load"), None);
    }

    #[test]
    fn type_names_are_those_of_the_specification() {
        for choice in TypeChoice::value_variants() {
            assert_eq!(name(choice), spec::FieldType::from(*choice).name());
        }
    }

    #[test]
    fn extensions_tell_formats() {
        for (path, expected) in [
            ("a.csv", Some(OutputFormat::Csv)),
            ("dir.x/a.JSONL", Some(OutputFormat::Ndjson)),
            ("a.b.parquet", Some(OutputFormat::Parquet)),
            ("a.arrow", Some(OutputFormat::Arrow)),
            ("a.csv.gz", None),
            ("/dev/null", Some(OutputFormat::Csv)),
        ] {
            assert_eq!(OutputFormat::of_path(path.as_ref()), expected, "{path}");
        }
    }

    #[test]
    fn nearest_finds_slips_and_nothing_else() {
        let known = ["null", "path", "format", "on_error", "delimiter"];
        for (found, expected) in [
            ("nul", Some("null")),
            ("nulls", Some("null")),
            ("Path", Some("path")),
            ("fromat", Some("format")),
            ("on-error", Some("on_error")),
            ("delim", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(found, known), expected, "{found}");
        }
    }
}
