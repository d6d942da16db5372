//! Rules of `[[views]]` and their exports.
//!
//! Aggregate and filter expressions are only looked at for being there; `sql` parses them.

use std::path::{Component, Path, PathBuf};

use corefold_aggregator::limits::{BY_COLUMNS_MAX, GROUPS_MAX_DEFAULT, GROUPS_MAX_LIMIT};
use corefold_aggregator::spec::Overflow;
use corefold_aggregator::time::{Duration, WindowSpec};
use toml::Spanned;

use super::Checker;
use super::streams::{Stream, stream_index};
use crate::config::choices::{OutputFormat, OverflowChoice};
use crate::config::error::{Located, not_among};
use crate::config::file::{ExportFileTable, FileConfig, RotateTable, ViewTable, WindowTable};
use crate::config::{ExportConfig, ExportTarget, Rotate, StreamConfig, ViewConfig, micros};

/// Smallest file that rotation by size may ask for.
const ROTATE_BYTES_MIN: u64 = 4096;
/// Largest file that rotation by size may ask for.
const ROTATE_BYTES_MAX: u64 = 1 << 40;

pub(super) fn views(checker: &mut Checker<'_>, typed: &FileConfig, streams: &[Stream]) -> Vec<ViewConfig> {
    if typed.views.is_empty() {
        let message = "there is no [[views]], so nothing would be computed; at least one is needed";
        checker.faults.add(checker.document.error(0, "views", message));
    }
    let is_durable = typed.engine.data_dir.is_some();
    let mut seen = Vec::new();
    let mut targets = Vec::new();
    let mut views = Vec::with_capacity(typed.views.len());
    for (index, table) in typed.views.iter().enumerate() {
        let key = format!("views[{index}]");
        let view = table.get_ref();
        checker.unique(&mut seen, &view.name, &format!("{key}.name"), "the view");
        if view.exports.is_empty() {
            let message = "the view has no [[views.exports]]: it is computed, but its results go nowhere";
            checker.note(&view.name, &key, message);
        }
        let exports = exports(checker, view, &key, is_durable, &mut targets);
        if let Some(view) = self::view(checker, view, &key, streams, exports) {
            views.push(view);
        }
    }
    views
}

/// One view; `None` after adding a fault that leaves nothing to build it from.
fn view(
    checker: &mut Checker<'_>,
    typed: &ViewTable,
    key: &str,
    streams: &[Stream],
    exports: Vec<ExportConfig>,
) -> Option<ViewConfig> {
    let name = checker.name(&typed.name, &format!("{key}.name"));
    let window = window(checker, &typed.window, &format!("{key}.window"));
    let aggregates = aggregates(checker, &typed.aggregates, &format!("{key}.aggregates"));
    let filter = typed.filter.as_ref().map(|filter| expression(checker, filter, &format!("{key}.where")));
    let groups_max = checker.number(
        typed.max_groups.as_ref(),
        &format!("{key}.max_groups"),
        GROUPS_MAX_DEFAULT,
        1..=GROUPS_MAX_LIMIT,
    );
    let overflow: Option<OverflowChoice> =
        checker.choice(typed.overflow.as_ref(), &format!("{key}.overflow"), "overflow policy");
    let group_ttl = typed.group_ttl.as_ref().map(|ttl| {
        let bounds = micros(1_000_000)..=Duration::MAX;
        checker.duration(Some(ttl), &format!("{key}.group_ttl"), Duration::MAX, bounds)
    });
    let stream = stream_index(checker, &typed.stream, &format!("{key}.stream"), streams)?;
    let by = by(checker, &typed.by, &format!("{key}.by"), &streams[stream].config);
    Some(ViewConfig {
        name,
        stream,
        by,
        window: window?,
        aggregates,
        filter,
        groups_max,
        overflow: overflow.map_or(Overflow::default(), Overflow::from),
        group_ttl,
        exports,
    })
}

fn window(checker: &mut Checker<'_>, typed: &Spanned<WindowTable>, key: &str) -> Option<WindowSpec> {
    let table = typed.get_ref();
    let faults_before = checker.faults.count();
    let (shortest, any) = (micros(1), Duration::ZERO..=Duration::MAX);
    let size = checker.duration(Some(&table.size), &format!("{key}.size"), shortest, shortest..=Duration::MAX);
    let slide = checker.duration(table.slide.as_ref(), &format!("{key}.slide"), size, shortest..=Duration::MAX);
    let offset = checker.duration(table.offset.as_ref(), &format!("{key}.offset"), Duration::ZERO, any);
    if checker.faults.count() > faults_before {
        // Stand-ins fit nothing; another fault about them would only confuse.
        return None;
    }
    match WindowSpec::new(size, slide, offset) {
        Ok(window) => Some(window),
        Err(error) => {
            checker.fault(table.slide.as_ref().unwrap_or(&table.size), key, error);
            None
        }
    }
}

fn by(checker: &mut Checker<'_>, typed: &[Spanned<String>], key: &str, stream: &StreamConfig) -> Vec<usize> {
    let mut by = Vec::with_capacity(typed.len());
    for (index, given) in typed.iter().enumerate() {
        let key = format!("{key}[{index}]");
        let name = given.get_ref();
        if index == BY_COLUMNS_MAX {
            checker.fault(given, &key, format!("too many group columns; at most {BY_COLUMNS_MAX} are allowed"));
        }
        match stream.fields.iter().position(|field| field.name == *name) {
            Some(field) if by.contains(&field) => {
                checker.fault(given, &key, format!("the group column `{name}` is given twice"));
            }
            Some(_) if matches!(name.as_str(), "window_start" | "window_end") => {
                let message = format!("the output has a column `{name}` of its own; rename the field to group by it");
                checker.fault(given, &key, message);
            }
            Some(field) => by.push(field),
            None if *name == stream.time.column => {
                let message = format!(
                    "`{name}` is the time column, which the window groups by; to group by single times add it to the fields"
                );
                checker.fault(given, &key, message);
            }
            None => {
                let known = stream.fields.iter().map(|field| field.name.as_str());
                let what = format!("field of stream `{}`:", stream.name);
                checker.fault(given, &key, not_among(&what, name, known));
            }
        }
    }
    by
}

fn aggregates(checker: &mut Checker<'_>, typed: &Spanned<Vec<Spanned<String>>>, key: &str) -> Vec<Located<String>> {
    if typed.get_ref().is_empty() {
        checker.fault(typed, key, "the view has no aggregates; ask for at least one, such as \"count()\"");
    }
    let texts = typed.get_ref().iter().enumerate();
    texts.map(|(index, text)| expression(checker, text, &format!("{key}[{index}]"))).collect()
}

fn expression(checker: &mut Checker<'_>, typed: &Spanned<String>, key: &str) -> Located<String> {
    if typed.get_ref().trim().is_empty() {
        checker.fault(typed, key, "the expression is empty");
    }
    checker.document.locate(typed.span(), key, typed.get_ref().clone())
}

/// `targets` collects every path of the file: two exports to one path would overwrite each other.
fn exports(
    checker: &mut Checker<'_>,
    view: &ViewTable,
    key: &str,
    is_durable: bool,
    targets: &mut Vec<(PathBuf, usize)>,
) -> Vec<ExportConfig> {
    let mut exports = Vec::with_capacity(view.exports.len());
    for (index, table) in view.exports.iter().enumerate() {
        let key = format!("{key}.exports[{index}].file");
        let file = table.get_ref().file.get_ref();
        let Some(export) = export(checker, file, &key) else { continue };
        if is_durable && is_committed_at_the_end(&export) {
            let message = "a file of this format is committed once it is complete, and without `rotate` that is when \
                           the input ends; until then all panes are kept in the data directory";
            checker.note(&file.path, &key, message);
        }
        let (ExportTarget::File(path) | ExportTarget::Directory { path, .. }) = &export.target;
        let place = place_of(path);
        match targets.iter().find(|(other, _)| *other == place) {
            Some((_, line)) => {
                let message = format!("another export writes there already, on line {line}");
                checker.fault(&file.path, &format!("{key}.path"), message);
            }
            None => targets.push((place, checker.document.place(file.path.span().start).line)),
        }
        exports.push(export);
    }
    exports
}

/// Whether the export has one file, in a format that can only be committed as a whole.
fn is_committed_at_the_end(export: &ExportConfig) -> bool {
    let is_one_file = match &export.target {
        ExportTarget::File(_) => true,
        ExportTarget::Directory { rotate, .. } => *rotate == Rotate::default(),
    };
    is_one_file && matches!(export.format, OutputFormat::Parquet | OutputFormat::Arrow)
}

/// The same for all ways to spell a path: links are followed as far as there are files, dots are taken out behind them.
fn place_of(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut place = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                place.pop();
            }
            Component::CurDir => {}
            part => {
                place.push(part);
                place = place.canonicalize().unwrap_or(place);
            }
        }
    }
    place
}

fn export(checker: &mut Checker<'_>, typed: &ExportFileTable, key: &str) -> Option<ExportConfig> {
    let text = typed.path.get_ref();
    let path = checker.base().join(text);
    let rotate = typed.rotate.as_ref().map(|rotate| self::rotate(checker, rotate, &format!("{key}.rotate")));
    let (path_key, is_directory) = (format!("{key}.path"), text.ends_with('/'));
    let given: Option<OutputFormat> = checker.choice(typed.format.as_ref(), &format!("{key}.format"), "format");
    let format = given.or_else(|| OutputFormat::of_path(&path).filter(|_| !is_directory));
    if format.is_none() && typed.format.is_none() {
        checker.fault(&typed.path, &path_key, format!("the path `{text}` does not tell the format; add `format`"));
    }
    let target = match (rotate, is_directory) {
        _ if text.is_empty() => {
            checker.fault(&typed.path, &path_key, "the path is empty");
            None
        }
        (Some(_), false) => {
            let message = "rotation makes many files and needs a directory; end the path with `/`";
            checker.fault(&typed.path, &path_key, message);
            None
        }
        (None, false) => Some(ExportTarget::File(path)),
        (rotate, true) => Some(ExportTarget::Directory { path, rotate: rotate.unwrap_or_default() }),
    };
    Some(ExportConfig { target: target?, format: format? })
}

fn rotate(checker: &mut Checker<'_>, typed: &Spanned<RotateTable>, key: &str) -> Rotate {
    let table = typed.get_ref();
    if table.every.is_none() && table.bytes.is_none() {
        checker.fault(typed, key, "expected `every`, `bytes` or both");
    }
    let every = table.every.as_ref().map(|every| {
        let second = micros(1_000_000);
        checker.duration(Some(every), &format!("{key}.every"), second, second..=Duration::MAX)
    });
    let bytes = table.bytes.as_ref().map(|bytes| {
        let bounds = ROTATE_BYTES_MIN..=ROTATE_BYTES_MAX;
        checker.size(Some(bytes), &format!("{key}.bytes"), ROTATE_BYTES_MIN, bounds)
    });
    Rotate { every, bytes }
}
