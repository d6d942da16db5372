//! One line of statsd or DogStatsD, `name:value|type|@rate|#tag:v,…`, taken apart.
//!
//! Which field of a stream a part goes to is not here, nor how lines come.

use crate::source::read_f64;

/// A metric; more than one value may be packed into it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Metric<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub kind: Kind,
    /// The share of events that were sent at all; 1 if nothing is said of it.
    pub rate: f64,
    /// When it was, in seconds since 1970, if it says so.
    pub time: Option<i64>,
    values: &'a str,
    tags: &'a str,
}

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `c`: to be added up.
    Counter,
    /// `g`: holds from now on.
    Gauge,
    /// `ms`: a time in milliseconds.
    Timer,
    /// `h`
    Histogram,
    /// `d`
    Distribution,
    /// `s`: a text of which the different ones are counted.
    Set,
}

/// One value of a metric.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Sample<'a> {
    /// Of a gauge, a number with a sign: it changes the gauge by so much.
    Change(f64),
    /// A number; of a counter already divided by the rate.
    Number(f64),
    /// Of a set.
    Text(&'a str),
}

/// Why a line is no metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StatsdFault {
    /// An event of DogStatsD.
    #[error("an event; only metrics are taken")]
    Event,
    /// A service check of DogStatsD.
    #[error("a service check; only metrics are taken")]
    ServiceCheck,
    /// Not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// No `name:value|type`.
    #[error("expected `name:value|type`")]
    Form,
    /// An unknown type.
    #[error("an unknown type; known are c, g, ms, h, d, s")]
    Kind,
    /// No number.
    #[error("the value is no number")]
    Number,
    /// No rate.
    #[error("the sample rate is no number above 0")]
    Rate,
    /// No time.
    #[error("the time is no whole number of seconds")]
    Time,
}

impl Kind {
    /// As it is sent.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "c",
            Kind::Gauge => "g",
            Kind::Timer => "ms",
            Kind::Histogram => "h",
            Kind::Distribution => "d",
            Kind::Set => "s",
        }
    }

    fn by_name(name: &str) -> Option<Kind> {
        let all = [Kind::Counter, Kind::Gauge, Kind::Timer, Kind::Histogram, Kind::Distribution, Kind::Set];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

impl<'a> Metric<'a> {
    /// Its values; what [`parse`] lets through has at least one, and all are sound.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'a>> + use<'a> {
        let Metric { kind, rate, values, .. } = *self;
        // A set's text may hold anything but `|`.
        let (whole, packed) = if kind == Kind::Set { (Some(values), "") } else { (None, values) };
        let numbers = packed.split(':').filter(move |_| kind != Kind::Set).filter_map(move |text| {
            let number = number(text)?;
            Some(match kind {
                Kind::Gauge if text.starts_with(['+', '-']) => Sample::Change(number),
                Kind::Counter => Sample::Number(number / rate),
                _ => Sample::Number(number),
            })
        });
        whole.map(Sample::Text).into_iter().chain(numbers)
    }

    /// Its tags, in their order; one without a value has an empty one.
    pub fn tags(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let tags = self.tags.split(',').filter(|tag| !tag.is_empty());
        tags.map(|tag| tag.split_once(':').unwrap_or((tag, "")))
    }
}

fn number(text: &str) -> Option<f64> {
    read_f64(text.as_bytes()).filter(|number| number.is_finite())
}

/// Takes a line apart, without its line end. Sections that are not known are passed over, as DogStatsD asks for.
pub fn parse(line: &[u8]) -> Result<Metric<'_>, StatsdFault> {
    if line.starts_with(b"_e{") {
        return Err(StatsdFault::Event);
    }
    if line.starts_with(b"_sc|") {
        return Err(StatsdFault::ServiceCheck);
    }
    let line = std::str::from_utf8(line).map_err(|_| StatsdFault::Utf8)?;
    let (name, rest) = line.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or(StatsdFault::Form)?;
    let mut sections = rest.split('|');
    let values = sections.next().unwrap_or_default();
    let kind = sections.next().ok_or(StatsdFault::Form)?;
    let kind = Kind::by_name(kind).ok_or(StatsdFault::Kind)?;
    let mut metric = Metric { name, kind, rate: 1.0, time: None, values, tags: "" };
    for section in sections {
        if let Some(rate) = section.strip_prefix('@') {
            metric.rate = number(rate).filter(|rate| *rate > 0.0).ok_or(StatsdFault::Rate)?;
        } else if let Some(tags) = section.strip_prefix('#') {
            metric.tags = tags;
        } else if let Some(time) = section.strip_prefix('T') {
            metric.time = Some(time.parse().map_err(|_| StatsdFault::Time)?);
        }
    }
    let is_sound = kind == Kind::Set || values.split(':').all(|value| number(value).is_some());
    // A count over a tiny rate may be more than a double holds.
    let holds = |sample: Sample<'_>| !matches!(sample, Sample::Number(number) if !number.is_finite());
    if is_sound && metric.samples().all(holds) { Ok(metric) } else { Err(StatsdFault::Number) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples(line: &str) -> Result<Vec<Sample<'_>>, StatsdFault> {
        parse(line.as_bytes()).map(|metric| metric.samples().collect())
    }

    #[test]
    fn each_type_has_its_values() {
        use Sample::{Change, Number, Text};
        for (line, wanted) in [
            ("a.b:1|c", Ok(vec![Number(1.0)])),
            ("a:3|c|@0.5", Ok(vec![Number(6.0)])),
            ("a:-2|c", Ok(vec![Number(-2.0)])),
            ("a:320|ms|@0.1", Ok(vec![Number(320.0)])),
            ("a:4.5|g", Ok(vec![Number(4.5)])),
            ("a:+4|g", Ok(vec![Change(4.0)])),
            ("a:-4|g", Ok(vec![Change(-4.0)])),
            ("a:1:2.5:3|d", Ok(vec![Number(1.0), Number(2.5), Number(3.0)])),
            ("a:1e3|h", Ok(vec![Number(1000.0)])),
            ("a:x:y z|s", Ok(vec![Text("x:y z")])),
            ("a:|s", Ok(vec![Text("")])),
            ("a:1|c|#x:y|c:abc|e:it|unknown", Ok(vec![Number(1.0)])),
            ("_e{1,2}:a|bc", Err(StatsdFault::Event)),
            ("_sc|a|0", Err(StatsdFault::ServiceCheck)),
            ("", Err(StatsdFault::Form)),
            ("a", Err(StatsdFault::Form)),
            ("a:1", Err(StatsdFault::Form)),
            (":1|c", Err(StatsdFault::Form)),
            ("a:1|x", Err(StatsdFault::Kind)),
            ("a:|c", Err(StatsdFault::Number)),
            ("a:1:|c", Err(StatsdFault::Number)),
            ("a:nan|g", Err(StatsdFault::Number)),
            ("a:inf|g", Err(StatsdFault::Number)),
            ("a:1e300|c|@1e-300", Err(StatsdFault::Number)),
            ("a:1|c|@0", Err(StatsdFault::Rate)),
            ("a:1|c|@x", Err(StatsdFault::Rate)),
            ("a:1|c|Tnow", Err(StatsdFault::Time)),
        ] {
            assert_eq!(samples(line), wanted, "{line}");
        }
        assert_eq!(parse(b"a\xff:1|c"), Err(StatsdFault::Utf8));
    }

    #[test]
    fn tags_rate_and_time_are_found_in_any_order() {
        let metric = parse(b"page.views:1|c|#env:prod,up,url:http://x:80,|T1656581400|@0.25").expect("a metric");
        assert_eq!((metric.name, metric.kind, metric.rate), ("page.views", Kind::Counter, 0.25));
        assert_eq!(metric.time, Some(1_656_581_400));
        let tags: Vec<_> = metric.tags().collect();
        assert_eq!(tags, [("env", "prod"), ("up", ""), ("url", "http://x:80")]);
        assert_eq!(parse(b"a:1|c").expect("a metric").tags().count(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(metric) = parse(&bytes) {
                let _ = metric.samples().count() + metric.tags().count();
            }
        }

        #[test]
        fn what_looks_like_a_metric_has_values(line in "[a-z.]{1,4}:[-+0-9.:e]{1,6}\\|(c|g|ms|h|d|s)(\\|@0\\.[1-9])?(\\|#[a-z:,]{0,6})?") {
            if let Ok(metric) = parse(line.as_bytes()) {
                prop_assert!(metric.samples().count() >= 1);
            }
        }
    }
}
