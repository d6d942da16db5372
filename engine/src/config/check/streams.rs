//! Rules of `[[streams]]` and `[[sources]]`.
//!
//! Whether input files exist and hold the columns is found when they are opened, not here.

use corefold_aggregator::spec::{Field, FieldType};
use corefold_aggregator::time::Duration;
use toml::Spanned;

use super::{Checker, ways};
use crate::config::choices::{InputFormat, TypeChoice};
use crate::config::error::{Place, not_among};
use crate::config::file::{FileConfig, OneOrMany, SourceFileTable, TimeTable};
use crate::config::{
    IDLE_TIMEOUT_DEFAULT, InputPath, MAX_FUTURE_DEFAULT, ReadOptions, SourceConfig, StreamConfig, TimeConfig, micros,
};
use crate::units;

/// A stream, and what the checks of its users need to know.
pub(super) struct Stream {
    pub config: StreamConfig,
    place: Place,
}

pub(super) fn streams(checker: &mut Checker<'_>, typed: &FileConfig) -> Vec<Stream> {
    if typed.streams.is_empty() {
        checker.faults.add(checker.document.error(0, "streams", "there is no [[streams]]; at least one is needed"));
    }
    let mut seen = Vec::new();
    let mut streams = Vec::with_capacity(typed.streams.len());
    for (index, table) in typed.streams.iter().enumerate() {
        let key = format!("streams[{index}]");
        let stream = table.get_ref();
        checker.unique(&mut seen, &stream.name, &format!("{key}.name"), "the stream");
        let config = StreamConfig {
            name: checker.name(&stream.name, &format!("{key}.name")),
            time: time(checker, stream.time.get_ref(), &format!("{key}.time")),
            fields: fields(checker, &stream.fields.get_ref().0, &key),
        };
        streams.push(Stream { config, place: checker.document.place(stream.name.span().start) });
    }
    streams
}

fn time(checker: &mut Checker<'_>, typed: &TimeTable, key: &str) -> TimeConfig {
    if typed.column.get_ref().is_empty() {
        checker.fault(&typed.column, &format!("{key}.column"), "the column name is empty");
    }
    let any = Duration::ZERO..=Duration::MAX;
    TimeConfig {
        column: typed.column.get_ref().clone(),
        unit: checker.choice(typed.unit.as_ref(), &format!("{key}.unit"), "unit"),
        max_delay: checker.duration(typed.max_delay.as_ref(), &format!("{key}.max_delay"), Duration::ZERO, any.clone()),
        max_future: checker.duration(typed.max_future.as_ref(), &format!("{key}.max_future"), MAX_FUTURE_DEFAULT, any),
        idle_timeout: units::wait(checker.duration(
            typed.idle_timeout.as_ref(),
            &format!("{key}.idle_timeout"),
            IDLE_TIMEOUT_DEFAULT,
            micros(1_000)..=Duration::MAX,
        )),
    }
}

/// Fields in the order of the file; the reader hands them out sorted by name.
fn fields(checker: &mut Checker<'_>, typed: &[(String, Spanned<String>)], key: &str) -> Vec<Field> {
    let mut in_order: Vec<&(String, Spanned<String>)> = typed.iter().collect();
    in_order.sort_by_key(|(_, kind)| kind.span().start);
    let mut fields = Vec::with_capacity(in_order.len());
    for (name, kind) in in_order {
        let key = format!("{key}.fields.{name}");
        if name.is_empty() {
            checker.fault(kind, &key, "the field name is empty");
        }
        let choice: Option<TypeChoice> = checker.choice(Some(kind), &key, "type");
        fields.push(Field { name: name.clone(), kind: choice.map_or(FieldType::String, FieldType::from) });
    }
    fields
}

pub(super) fn sources(checker: &mut Checker<'_>, typed: &FileConfig, streams: &[Stream]) -> Vec<SourceConfig> {
    if typed.sources.is_empty() {
        let message = "there is no [[sources]], so no event would ever arrive; at least one is needed";
        checker.faults.add(checker.document.error(0, "sources", message));
    }
    let mut sources: Vec<SourceConfig> = Vec::with_capacity(typed.sources.len());
    for (index, table) in typed.sources.iter().enumerate() {
        let source = table.get_ref();
        let key = format!("sources[{index}]");
        match ways::tables(source)[..] {
            [_] => {}
            [] => {
                let names = ways::NAMES.map(|name| format!("`{name}`")).join(", ");
                checker.fault(table, &key, format!("where its events come from is missing: one of {names}"));
            }
            [(one, _), (other, start), ..] => {
                let message = format!("a source is either `{one}` or `{other}`; write two of them");
                checker.faults.add(checker.document.error(start, &format!("{key}.{other}"), message));
            }
        }
        let Some(file) = &source.file else { continue };
        let file = file.get_ref();
        let stream = stream_index(checker, &source.stream, &format!("{key}.stream"), streams);
        let inputs = inputs(checker, &file.path, &format!("{key}.file.path"));
        let read = read_options(checker, file, &format!("{key}.file"));
        // The stand-in for an unknown stream is never used: the fault keeps the config from being returned.
        sources.push(SourceConfig { stream: stream.unwrap_or(0), inputs, read });
    }
    refuse_shared_inputs(checker, &sources);
    sources
}

/// What should be known of streams once all their sources are.
pub(super) fn sources_fit(
    checker: &mut Checker<'_>,
    typed: &FileConfig,
    streams: &[Stream],
    sources: &[SourceConfig],
    live: &[usize],
) {
    for (index, stream) in streams.iter().enumerate() {
        let is_live = live.contains(&index);
        let is_fed = is_live || sources.iter().any(|source| source.stream == index);
        if !typed.sources.is_empty() && !is_fed {
            checker.notes.push(crate::config::ConfigError {
                file: checker.document.file.to_owned(),
                place: Some(stream.place),
                key: format!("streams[{index}]"),
                message: format!("no source feeds the stream `{}`", stream.config.name),
            });
        }
        let time = typed.streams[index].get_ref().time.get_ref();
        for (given, name) in [(&time.max_future, "max_future"), (&time.idle_timeout, "idle_timeout")] {
            if let Some(given) = given.as_ref().filter(|_| !is_live) {
                let message =
                    format!("`{name}` applies to live sources only, and all sources here are files: no effect");
                checker.note(given, &format!("streams[{index}].time.{name}"), message);
            }
        }
    }
}

/// The index of the stream that is named; `None` after adding a fault.
pub(super) fn stream_index(
    checker: &mut Checker<'_>,
    given: &Spanned<String>,
    key: &str,
    streams: &[Stream],
) -> Option<usize> {
    let index = streams.iter().position(|stream| stream.config.name == *given.get_ref());
    if index.is_none() {
        let known = streams.iter().map(|stream| stream.config.name.as_str());
        checker.fault(given, key, not_among("stream", given.get_ref(), known));
    }
    index
}

fn inputs(checker: &mut Checker<'_>, typed: &Spanned<OneOrMany>, key: &str) -> Vec<crate::config::Located<InputPath>> {
    let named: Vec<(usize, String, &str)> = match typed.get_ref() {
        OneOrMany::One(text) => vec![(typed.span().start, key.to_owned(), text.as_str())],
        OneOrMany::Many(texts) => texts
            .iter()
            .enumerate()
            .map(|(index, text)| (text.span().start, format!("{key}[{index}]"), text.get_ref().as_str()))
            .collect(),
    };
    if named.is_empty() {
        checker.fault(typed, key, "the list is empty; expected at least one path");
    }
    let mut inputs = Vec::with_capacity(named.len());
    for (start, key, text) in named {
        if text.is_empty() {
            checker.faults.add(checker.document.error(start, &key, "the path is empty"));
        }
        let input = InputPath::new(checker.base(), text);
        if let InputPath::Glob { pattern, .. } = &input
            && let Err(error) = glob::Pattern::new(pattern)
        {
            let message = format!("`{text}` is not a pattern: {}", error.msg);
            checker.faults.add(checker.document.error(start, &key, message));
        }
        inputs.push(checker.document.locate(start..start, &key, input));
    }
    inputs
}

/// A file read twice into one stream would count twice, and standard input can be read only once at all.
fn refuse_shared_inputs(checker: &mut Checker<'_>, sources: &[SourceConfig]) {
    let mut seen: Vec<(usize, &InputPath, usize)> = Vec::new();
    for source in sources {
        for input in &source.inputs {
            let clashes = |(stream, other, _): &&(usize, &InputPath, usize)| {
                **other == input.value && (*stream == source.stream || input.value == InputPath::Stdin)
            };
            let Some((_, _, line)) = seen.iter().find(clashes) else {
                seen.push((source.stream, &input.value, input.place.line));
                continue;
            };
            let message = if input.value == InputPath::Stdin {
                format!("standard input can be read only once; it is taken on line {line} already")
            } else {
                format!("the stream reads this input already, on line {line}; its events would count twice")
            };
            checker.faults.add(crate::config::ConfigError::about(checker.document.file, input, message));
        }
    }
}

fn read_options(checker: &mut Checker<'_>, typed: &SourceFileTable, key: &str) -> ReadOptions {
    let format: Option<InputFormat> = checker.choice(typed.format.as_ref(), &format!("{key}.format"), "format");
    let delimiter = typed.delimiter.as_ref().and_then(|given| {
        let key = format!("{key}.delimiter");
        let delimiter = crate::config::parse_delimiter(given.get_ref());
        match (&delimiter, format) {
            (Err(message), _) => checker.fault(given, &key, message),
            (Ok(_), Some(InputFormat::Ndjson | InputFormat::Parquet | InputFormat::Arrow)) => {
                checker.fault(given, &key, "a delimiter is for CSV files only");
            }
            (Ok(_), _) => {}
        }
        delimiter.ok()
    });
    ReadOptions {
        format,
        nulls: typed.null.clone().unwrap_or_default(),
        on_error: checker.choice(typed.on_error.as_ref(), &format!("{key}.on_error"), "policy").unwrap_or_default(),
        delimiter,
    }
}
