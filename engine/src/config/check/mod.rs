//! From what was typed to what is true: every rule about single values, and the order of the parts.
//!
//! Rules about streams and sources are in `streams` and `listeners`, those about views in `views`, the form of the file in `file`.

mod engine;
mod listeners;
mod producers;
mod streams;
mod views;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;

use clap::ValueEnum;
use corefold_aggregator::time::Duration;
use toml::Spanned;

use super::choices;
use super::error::{ConfigErrors, Document, Faults, Place, not_among};
use super::file::{DurationText, FileConfig, SizeText};
use super::{ConfigError, EngineConfig, NAME_LENGTH_MAX};
use crate::units;

/// Checks the meaning of a whole file. Reports every fault, not only the first.
pub fn check(document: Document<'_>, typed: &FileConfig) -> Result<EngineConfig, ConfigErrors> {
    let mut checker = Checker { document, faults: Faults::default(), notes: Vec::new() };
    let engine = engine::check(&mut checker, typed);
    let streams = streams::streams(&mut checker, typed);
    let sources = streams::sources(&mut checker, typed, &streams);
    let listeners = listeners::listeners(&mut checker, typed, &streams);
    let producers = producers::producers(&mut checker, typed, &streams, &listeners);
    streams::sources_fit(&mut checker, typed, &streams, &sources, &listeners);
    let stop = engine::stop(&mut checker, typed, !listeners.is_empty());
    let views = views::views(&mut checker, typed, &streams);
    let Checker { faults, mut notes, .. } = checker;
    notes.sort_by_key(|note| note.place);
    let config = EngineConfig {
        file: document.file.to_owned(),
        data_dir: engine.data_dir,
        shards: engine.shards,
        coordinator_core: engine.coordinator_core,
        pull_interval: engine.pull_interval,
        pane_retention: engine.pane_retention,
        routing: engine.routing,
        batch_rows: engine.batch_rows,
        durability: engine.durability,
        segment_size: engine.segment_size,
        snapshot: engine.snapshot,
        streams: streams.into_iter().map(|stream| stream.config).collect(),
        sources,
        listeners,
        producers,
        stop,
        views,
        notes,
    };
    faults.finish(Some(config))
}

/// What all checks share: the document, and the faults and notes found so far.
///
/// Every method that finds a fault adds it and returns a stand-in, so that checking goes on.
struct Checker<'a> {
    document: Document<'a>,
    faults: Faults,
    notes: Vec<ConfigError>,
}

impl Checker<'_> {
    /// Directory at which relative paths start.
    fn base(&self) -> &Path {
        self.document.file.parent().unwrap_or(Path::new(""))
    }

    /// Adds a fault about a value.
    fn fault<T>(&mut self, at: &Spanned<T>, key: &str, message: impl Display) {
        self.faults.add(self.document.error(at.span().start, key, message));
    }

    /// Adds a note about a value.
    fn note<T>(&mut self, at: &Spanned<T>, key: &str, message: impl Display) {
        self.notes.push(self.document.error(at.span().start, key, message));
    }

    /// A duration between the bounds, or the default.
    fn duration(
        &mut self,
        given: Option<&Spanned<DurationText>>,
        key: &str,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(given) = given else { return default };
        units::parse_duration_within(&given.get_ref().0, bounds).unwrap_or_else(|message| {
            self.fault(given, key, message);
            default
        })
    }

    /// A size between the bounds, or the default.
    fn size(&mut self, given: Option<&Spanned<SizeText>>, key: &str, default: u64, bounds: RangeInclusive<u64>) -> u64 {
        let Some(given) = given else { return default };
        units::parse_size_within(&given.get_ref().0, bounds).unwrap_or_else(|message| {
            self.fault(given, key, message);
            default
        })
    }

    /// A whole number between the bounds, or the default.
    fn number<T>(&mut self, given: Option<&Spanned<i64>>, key: &str, default: T, bounds: RangeInclusive<T>) -> T
    where
        T: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        let Some(given) = given else { return default };
        match T::try_from(*given.get_ref()).ok().filter(|number| bounds.contains(number)) {
            Some(number) => number,
            None => {
                let (found, from, to) = (given.get_ref(), bounds.start(), bounds.end());
                self.fault(given, key, format!("`{found}` is out of range; expected {from} to {to}"));
                default
            }
        }
    }

    /// One of a closed set of names, or `None` when absent or unknown.
    fn choice<T: ValueEnum>(&mut self, given: Option<&Spanned<String>>, key: &str, what: &str) -> Option<T> {
        let given = given?;
        let choice = choices::by_name(given.get_ref());
        if choice.is_none() {
            let known = choices::names::<T>();
            let message = not_among(what, given.get_ref(), known.iter().map(String::as_str));
            self.fault(given, key, message);
        }
        choice
    }

    /// A name of a stream or view: it becomes part of file names, so only plain characters are allowed.
    fn name(&mut self, given: &Spanned<String>, key: &str) -> String {
        let name = given.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > NAME_LENGTH_MAX || name.starts_with('.') || !name.chars().all(plain) {
            let message = format!(
                "`{name}` is not a name; expected 1 to {NAME_LENGTH_MAX} letters, digits, `_`, `-` or `.`, \
                 and no `.` at the start"
            );
            self.fault(given, key, message);
        }
        name.clone()
    }

    /// Adds a fault if this name was seen before; remembers it otherwise.
    fn unique<'n>(&mut self, seen: &mut Vec<(&'n str, Place)>, given: &'n Spanned<String>, key: &str, what: &str) {
        let name = given.get_ref().as_str();
        match seen.iter().find(|(other, _)| *other == name).map(|(_, place)| place.line) {
            Some(line) => self.fault(given, key, format!("{what} `{name}` was given before, on line {line}")),
            None => seen.push((name, self.document.place(given.span().start))),
        }
    }
}
