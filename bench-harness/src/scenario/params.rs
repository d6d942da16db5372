//! Parameters of scenarios: what there is, what was asked for, and the points of a sweep.
//!
//! Every value is checked when it is set, so that nothing is measured before a mistake shows. What parameters mean is
//! the scenarios'.

use super::BenchError;
use corefold_engine::units;

/// A parameter that a scenario takes.
#[derive(Clone, Copy, Debug)]
pub struct ParamSpec {
    /// Name on the command line.
    pub name: &'static str,
    /// Value unless told otherwise.
    pub default: &'static str,
    /// Value of `--smoke`.
    pub smoke: &'static str,
    /// What values may be.
    pub kind: ParamKind,
    /// What it means.
    pub about: &'static str,
}

/// What values of a parameter may be.
#[derive(Clone, Copy, Debug)]
pub enum ParamKind {
    /// A whole number in a range; `20M`, `50k` and `1_000` are read.
    Count {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A decimal number that is not negative.
    Decimal,
    /// A length of time, such as `10s`.
    Span,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl ParamSpec {
    /// A whole number.
    pub const fn count(
        name: &'static str,
        [default, smoke]: [&'static str; 2],
        [min, max]: [u64; 2],
        about: &'static str,
    ) -> ParamSpec {
        ParamSpec { name, default, smoke, kind: ParamKind::Count { min, max }, about }
    }

    /// A word; the same at smoke size.
    pub const fn choice(
        name: &'static str,
        default: &'static str,
        choices: &'static [&'static str],
        about: &'static str,
    ) -> ParamSpec {
        ParamSpec { name, default, smoke: default, kind: ParamKind::Choice(choices), about }
    }

    /// A length of time.
    pub const fn span(name: &'static str, [default, smoke]: [&'static str; 2], about: &'static str) -> ParamSpec {
        ParamSpec { name, default, smoke, kind: ParamKind::Span, about }
    }

    fn check(&self, value: &str) -> Result<(), BenchError> {
        let wrong = |what: String| Err(BenchError::Param { name: self.name.to_owned(), what });
        match self.kind {
            ParamKind::Count { min, max } => match parse_count(value) {
                Some(count) if (min..=max).contains(&count) => Ok(()),
                _ => wrong(format!("`{value}` is no number from {min} to {max}")),
            },
            ParamKind::Decimal => match value.parse::<f64>() {
                Ok(number) if number.is_finite() && number >= 0.0 => Ok(()),
                _ => wrong(format!("`{value}` is no number from 0 upwards")),
            },
            ParamKind::Span => match units::parse_duration(value) {
                Ok(_) => Ok(()),
                Err(error) => wrong(error.to_string()),
            },
            ParamKind::Choice(choices) if choices.contains(&value) => Ok(()),
            ParamKind::Choice(choices) => wrong(format!("`{value}` is none of {}", choices.join(", "))),
        }
    }
}

/// A whole number with an optional `k`, `M` or `G` for powers of a thousand.
pub fn parse_count(text: &str) -> Option<u64> {
    let plain: String = text.chars().filter(|&c| c != '_').collect();
    let factor = match plain.chars().last()? {
        'k' => 1_000,
        'M' => 1_000_000,
        'G' => 1_000_000_000,
        _ => 1,
    };
    let digits = if factor == 1 { &plain[..] } else { &plain[..plain.len() - 1] };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// The values of one point, one per parameter of the scenario and in their order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Params(Vec<(&'static str, String)>);

impl Params {
    /// The whole number called `name`.
    pub fn count(&self, name: &str) -> Result<u64, BenchError> {
        parse_count(self.text(name)?).ok_or_else(|| self.wrong(name))
    }

    /// The whole number called `name`, for sizes of memory.
    pub fn size(&self, name: &str) -> Result<usize, BenchError> {
        usize::try_from(self.count(name)?).map_err(|_| self.wrong(name))
    }

    /// The decimal number called `name`.
    pub fn decimal(&self, name: &str) -> Result<f64, BenchError> {
        self.text(name)?.parse().map_err(|_| self.wrong(name))
    }

    /// The length of time called `name`, in microseconds.
    pub fn micros(&self, name: &str) -> Result<i64, BenchError> {
        units::parse_duration(self.text(name)?).map(|span| span.micros()).map_err(|_| self.wrong(name))
    }

    /// The text called `name`.
    pub fn text(&self, name: &str) -> Result<&str, BenchError> {
        let found = self.0.iter().find(|(other, _)| *other == name);
        found.map(|(_, value)| value.as_str()).ok_or_else(|| self.wrong(name))
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Sets the value of a parameter that is there.
    pub fn set(&mut self, name: &str, value: &str) {
        if let Some((_, old)) = self.0.iter_mut().find(|(other, _)| *other == name) {
            value.clone_into(old);
        }
    }

    fn wrong(&self, name: &str) -> BenchError {
        let what = "is missing or no such value; this is a bug of the scenario";
        BenchError::Param { name: name.to_owned(), what: what.to_owned() }
    }
}

/// The points that `asked` makes of a scenario's parameters: each is `name=value`, and a list `name=a,b,c` is swept; two
/// lists give every pair.
pub fn points(specs: &[ParamSpec], asked: &[String], smoke: bool) -> Result<Vec<Params>, BenchError> {
    let first = specs.iter().map(|spec| (spec.name, if smoke { spec.smoke } else { spec.default }.to_owned()));
    let mut points = vec![Params(first.collect())];
    for text in asked {
        let (name, values) = text.split_once('=').ok_or_else(|| BenchError::Param {
            name: text.clone(),
            what: "expected name=value, or name=value,value,… to sweep".to_owned(),
        })?;
        let spec = specs.iter().find(|spec| spec.name == name).ok_or_else(|| BenchError::Param {
            name: name.to_owned(),
            what: format!("is not known; known: {}", specs.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ")),
        })?;
        let mut next = Vec::new();
        for value in values.split(',') {
            spec.check(value)?;
            next.extend(points.iter().map(|point| {
                let mut point = point.clone();
                point.set(spec.name, value);
                point
            }));
        }
        points = next;
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: [ParamSpec; 3] = [
        ParamSpec::count("events", ["20M", "5k"], [1, 1_000_000_000], "how many"),
        ParamSpec::choice("keys", "zipf", &["zipf", "hot"], "which"),
        ParamSpec::span("window", ["10s", "2s"], "how long"),
    ];

    fn of(asked: &[&str]) -> Result<Vec<Params>, BenchError> {
        points(&SPECS, &asked.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), false)
    }

    #[test]
    fn lists_are_swept() {
        let plain = of(&[]).unwrap();
        assert_eq!((plain.len(), plain[0].count("events").unwrap()), (1, 20_000_000));
        assert_eq!(plain[0].micros("window").unwrap(), 10_000_000);
        let swept = of(&["events=1,2k,3_000", "keys=zipf,hot"]).unwrap();
        let found: Vec<_> = swept.iter().map(|p| (p.count("events").unwrap(), p.text("keys").unwrap())).collect();
        assert_eq!(found, [(1, "zipf"), (2_000, "zipf"), (3_000, "zipf"), (1, "hot"), (2_000, "hot"), (3_000, "hot")]);
        assert_eq!(points(&SPECS, &[], true).unwrap()[0].count("events").unwrap(), 5_000);
    }

    #[test]
    fn mistakes_are_named() {
        for (asked, says) in [
            ("events=0", "no number from 1"),
            ("keys=some", "none of zipf, hot"),
            ("window=long", "window"),
            ("nonsense=1", "known: events, keys, window"),
            ("events", "name=value"),
            ("events=1,x", "`x`"),
        ] {
            let error = of(&[asked]).unwrap_err().to_string();
            assert!(error.contains(says), "{asked}: {error}");
        }
    }
}
