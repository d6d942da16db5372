//! `LIKE` and `ILIKE` patterns: `%` for any run of characters, `_` for one character.
//!
//! Other text predicates are not here. A match costs at most O(text * pattern), and never backtracks over `%`:
//! each part between two `%` is taken at its leftmost place.

/// Longest accepted pattern, in bytes.
pub const PATTERN_SIZE_MAX: usize = 64 * 1024;

/// A parsed pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LikePattern {
    /// The parts between the `%`s. One part: no `%`, so it must cover the whole text.
    parts: Vec<Part>,
    case_folded: bool,
}

/// What stands between two `%`: literal text and single-character gaps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Part {
    pieces: Vec<Piece>,
    characters: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Literal(String),
    /// This many arbitrary characters.
    Gap(usize),
}

/// Why a pattern is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LikeError {
    /// Nothing follows the escape character.
    #[error("the pattern ends with its escape character {0:?}; a character must follow it")]
    DanglingEscape(char),
    /// The pattern is too long.
    #[error("the pattern has {0} bytes; at most {PATTERN_SIZE_MAX} are accepted")]
    TooLong(usize),
}

impl LikePattern {
    /// Parses `pattern`. The character after `escape` stands for itself; without `escape` nothing does.
    /// `case_folded` is `ILIKE`: characters are equal when their Unicode lower case is.
    pub fn new(pattern: &str, escape: Option<char>, case_folded: bool) -> Result<LikePattern, LikeError> {
        if pattern.len() > PATTERN_SIZE_MAX {
            return Err(LikeError::TooLong(pattern.len()));
        }
        let mut parts = vec![Part::default()];
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            let last = parts.len() - 1;
            if Some(character) == escape {
                parts[last].literal(characters.next().ok_or(LikeError::DanglingEscape(character))?);
            } else if character == '%' {
                // An empty part in the middle matches anywhere: `%%` is `%`.
                if last == 0 || parts[last].characters > 0 {
                    parts.push(Part::default());
                }
            } else if character == '_' {
                parts[last].gap();
            } else {
                parts[last].literal(character);
            }
        }
        Ok(LikePattern { parts, case_folded })
    }

    /// Whether `text` as a whole matches.
    pub fn matches(&self, text: &str) -> bool {
        let (first, others) = self.parts.split_first().expect("a pattern has at least one part");
        let Some(mut rest) = self.strip(first, text) else { return false };
        let Some((last, middle)) = others.split_last() else { return rest.is_empty() };
        for part in middle {
            match self.find(part, rest) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        let Some(start) = suffix_start(rest, last.characters) else { return false };
        self.strip(last, &rest[start..]).is_some()
    }

    /// What follows `part` at the start of `text`.
    fn strip<'t>(&self, part: &Part, text: &'t str) -> Option<&'t str> {
        let mut rest = text;
        for piece in &part.pieces {
            rest = match piece {
                Piece::Gap(count) => &rest[prefix_end(rest, *count)?..],
                Piece::Literal(literal) if self.case_folded => strip_folded(rest, literal)?,
                Piece::Literal(literal) => rest.strip_prefix(literal.as_str())?,
            };
        }
        Some(rest)
    }

    /// What follows the leftmost place of `part` in `text`.
    fn find<'t>(&self, part: &Part, text: &'t str) -> Option<&'t str> {
        if let ([Piece::Literal(literal)], false) = (part.pieces.as_slice(), self.case_folded) {
            return text.find(literal.as_str()).map(|at| &text[at + literal.len()..]);
        }
        text.char_indices().find_map(|(at, _)| self.strip(part, &text[at..]))
    }
}

impl Part {
    fn literal(&mut self, character: char) {
        self.characters += 1;
        match self.pieces.last_mut() {
            Some(Piece::Literal(literal)) => literal.push(character),
            _ => self.pieces.push(Piece::Literal(character.to_string())),
        }
    }

    fn gap(&mut self) {
        self.characters += 1;
        match self.pieces.last_mut() {
            Some(Piece::Gap(count)) => *count += 1,
            _ => self.pieces.push(Piece::Gap(1)),
        }
    }
}

/// Byte offset after the first `count` characters.
fn prefix_end(text: &str, count: usize) -> Option<usize> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(count)
}

/// Byte offset of the last `count` characters.
fn suffix_start(text: &str, count: usize) -> Option<usize> {
    if count == 0 { Some(text.len()) } else { text.char_indices().rev().nth(count - 1).map(|(at, _)| at) }
}

fn strip_folded<'t>(text: &'t str, literal: &str) -> Option<&'t str> {
    let mut characters = text.chars();
    for wanted in literal.chars() {
        let found = characters.next()?;
        if found != wanted && !found.to_lowercase().eq(wanted.to_lowercase()) {
            return None;
        }
    }
    Some(characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn like(text: &str, pattern: &str) -> bool {
        LikePattern::new(pattern, None, false).unwrap().matches(text)
    }

    /// The definition, tried every way.
    fn by_definition(text: &[char], pattern: &[char], folded: bool) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|skip| by_definition(&text[skip..], rest, folded)),
            Some((wanted, rest)) => text.split_first().is_some_and(|(found, others)| {
                let same =
                    *wanted == '_' || wanted == found || folded && wanted.to_lowercase().eq(found.to_lowercase());
                same && by_definition(others, rest, folded)
            }),
        }
    }

    #[test]
    fn table() {
        let rows = [
            ("", "", true),
            ("", "%", true),
            ("", "_", false),
            ("JFK", "J%", true),
            ("JFK", "%K", true),
            ("JFK", "%F%", true),
            ("JFK", "J_K", true),
            ("JFK", "j_k", false),
            ("JFK", "JF", false),
            ("ab", "ab%b", false),
            ("abab", "ab%ab", true),
            ("aab", "%ab", true),
            ("größe", "gr_ße", true),
            ("größe", "%_e", true),
            ("é", "_", true),
            ("a%b", "a%b", true),
            ("mississippi", "%iss%ip%", true),
            ("mississippi", "m%iss_ss%i", true),
            ("mississippi", "m%iss_st%i", false),
        ];
        for (text, pattern, expected) in rows {
            assert_eq!(like(text, pattern), expected, "{text:?} like {pattern:?}");
        }
    }

    #[test]
    fn escapes_and_case() {
        let escaped = LikePattern::new("5!%!_!!", Some('!'), false).unwrap();
        assert!(escaped.matches("5%_!"));
        assert!(!escaped.matches("50_!"));
        assert_eq!(LikePattern::new("a!", Some('!'), false), Err(LikeError::DanglingEscape('!')));
        assert!(LikePattern::new(r"a\%", None, false).unwrap().matches(r"a\bc"), "no escape unless asked for");
        assert!(LikePattern::new("%ÖSS%", None, true).unwrap().matches("größse österreichÖss"));
        assert!(LikePattern::new("j_k", None, true).unwrap().matches("JFK"));
        let long = "a".repeat(PATTERN_SIZE_MAX + 1);
        assert_eq!(LikePattern::new(&long, None, false), Err(LikeError::TooLong(long.len())));
    }

    #[test]
    fn many_percent_signs_stay_cheap() {
        let pattern = "%a".repeat(1000) + "b";
        assert!(!like(&"a".repeat(20_000), &pattern));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn agrees_with_the_definition(text in "[abAé]{0,10}", pattern in "[abAé%_]{0,8}", folded: bool) {
            let expected = by_definition(
                &text.chars().collect::<Vec<_>>(), &pattern.chars().collect::<Vec<_>>(), folded);
            prop_assert_eq!(LikePattern::new(&pattern, None, folded).unwrap().matches(&text), expected);
        }
    }
}
