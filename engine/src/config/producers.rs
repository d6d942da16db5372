//! Who may send: names, what proves them, and how much they may send.
//!
//! Rules about the file are in `check/producers`; what becomes of a hello is decided in [`crate::net::access`].

use std::path::PathBuf;

/// Certificate and key of a listener, and who signs those of its clients. All in PEM form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Whose signature clients must show; `None`: they need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// An entry of `[[producers]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct ProducerConfig {
    /// Which names it is about.
    pub name: NamePattern,
    /// What proves that someone may use them.
    pub proof: ProofConfig,
    /// Indices of the streams that they may send.
    pub streams: Vec<usize>,
    /// Most bytes a second of all of them together.
    pub bytes_per_second: Option<u64>,
    /// Most rows a second of all of them together.
    pub rows_per_second: Option<u64>,
    /// Most lanes of all of them together.
    pub lanes_max: Option<u32>,
}

/// What proves that someone may use a name.
#[derive(Clone, PartialEq, Debug)]
pub enum ProofConfig {
    /// A token, which is in this file.
    TokenFile(PathBuf),
    /// A token, of which this is the SHA-256.
    TokenHash([u8; 32]),
    /// A certificate with this common name or DNS name. A star stands for the same as in the producer's name.
    Certificate(NamePattern),
}

/// A name, or all that begin and end alike.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamePattern {
    /// Before the star, or the whole name.
    start: String,
    /// Behind the star, if there is one.
    end: Option<String>,
}

impl NamePattern {
    /// Reads a name with at most one star.
    pub fn parse(text: &str) -> Option<NamePattern> {
        let mut pieces = text.split('*').map(str::to_owned);
        let (start, end) = (pieces.next()?, pieces.next());
        (!text.is_empty() && pieces.next().is_none()).then_some(NamePattern { start, end })
    }

    /// Whether it has a star.
    pub fn has_star(&self) -> bool {
        self.end.is_some()
    }

    /// Whether a star is its last character, if it has one.
    pub fn ends_in_star(&self) -> bool {
        self.end.as_ref().is_none_or(String::is_empty)
    }

    /// What the star stands for in `name`, nothing without one; `None` if this is another name.
    pub fn star_in<'a>(&self, name: &'a str) -> Option<&'a str> {
        match &self.end {
            None => (name == self.start).then_some(""),
            Some(end) => name.strip_prefix(&self.start)?.strip_suffix(end.as_str()),
        }
    }

    /// The name in which the star stands for `star`.
    pub fn with_star(&self, star: &str) -> String {
        match &self.end {
            None => self.start.clone(),
            Some(end) => format!("{}{star}{end}", self.start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_the_same_in_both_names() {
        let pattern = |text| NamePattern::parse(text).expect("a pattern");
        assert_eq!(pattern("edge-*").star_in("edge-7"), Some("7"));
        assert_eq!(pattern("edge-*").star_in("edge"), None);
        assert_eq!(pattern("edge-*.x").star_in("edge-7.x"), Some("7"));
        // The beginning and the end do not share characters.
        assert_eq!(pattern("aba*aba").star_in("aba"), None);
        assert_eq!(pattern("edge").star_in("edge"), Some(""));
        assert_eq!(pattern("edge").star_in("edge-7"), None);
        assert_eq!(pattern("*.plant").with_star("edge-7"), "edge-7.plant");
        assert_eq!(pattern("plant").with_star("edge-7"), "plant");
        assert!(pattern("edge-*").ends_in_star());
        assert!(!pattern("*-edge").ends_in_star());
        assert_eq!(NamePattern::parse("a*b*"), None);
        assert_eq!(NamePattern::parse(""), None);
    }
}
