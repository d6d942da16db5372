//! What `IN` looks for: sorted values, and whether null stands among them.
//!
//! Expressions are not members; a set holds literals only.

use super::number::{exact_float, exact_integer};

/// Numbers to look for; sorted and without NaN.
#[derive(Clone, PartialEq, Debug)]
pub struct NumberSet<T> {
    sorted: Vec<T>,
    with_null: bool,
}

/// Strings to look for, sorted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextSet {
    sorted: Vec<String>,
    with_null: bool,
}

/// The answer of `IN`: not found among values of which one is null is null.
fn found_or_null(found: bool, with_null: bool) -> Option<bool> {
    if found || !with_null { Some(found) } else { None }
}

impl TextSet {
    /// The strings, and whether null stands among them.
    pub fn new(mut texts: Vec<String>, with_null: bool) -> TextSet {
        texts.sort_unstable();
        texts.dedup();
        TextSet { sorted: texts, with_null }
    }

    /// Whether `text` is in it; null when it is not and null is.
    pub fn answer(&self, text: &str) -> Option<bool> {
        let found = self.sorted.binary_search_by(|entry| entry.as_str().cmp(text)).is_ok();
        found_or_null(found, self.with_null)
    }
}

impl NumberSet<i64> {
    /// Integers and doubles to look for among integers, and whether null stands among them.
    /// A double that no integer equals is dropped.
    pub fn of_integers(mut integers: Vec<i64>, floats: &[f64], with_null: bool) -> NumberSet<i64> {
        integers.extend(floats.iter().filter_map(|float| exact_integer(*float)));
        integers.sort_unstable();
        integers.dedup();
        NumberSet { sorted: integers, with_null }
    }

    /// Whether `value` is in it; null when it is not and null is.
    pub fn answer(&self, value: i64) -> Option<bool> {
        found_or_null(self.sorted.binary_search(&value).is_ok(), self.with_null)
    }
}

impl NumberSet<f64> {
    /// Doubles and integers to look for among doubles, and whether null stands among them.
    /// An integer that no double equals is dropped, and so is NaN.
    pub fn of_floats(mut floats: Vec<f64>, integers: &[i64], with_null: bool) -> NumberSet<f64> {
        floats.retain(|float| !float.is_nan());
        floats.extend(integers.iter().filter_map(|integer| exact_float(*integer)));
        // Adding zero turns -0.0 into 0.0.
        floats.iter_mut().for_each(|float| *float += 0.0);
        floats.sort_unstable_by(f64::total_cmp);
        floats.dedup();
        NumberSet { sorted: floats, with_null }
    }

    /// Whether `value`, not NaN, is in it; null when it is not and null is.
    pub fn answer(&self, value: f64) -> Option<bool> {
        let value = value + 0.0;
        found_or_null(self.sorted.binary_search_by(|entry| entry.total_cmp(&value)).is_ok(), self.with_null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_answer_like_sql() {
        let set = NumberSet::of_integers(vec![3, 1], &[2.0, 2.5, f64::INFINITY], true);
        assert_eq!([1, 2, 3].map(|x| set.answer(x)), [Some(true); 3]);
        assert_eq!(set.answer(4), None);
        let set = NumberSet::of_floats(vec![0.0, f64::NAN], &[(1 << 53) + 1, 7], false);
        assert_eq!(set.answer(-0.0), Some(true));
        assert_eq!(set.answer(7.0), Some(true));
        assert_eq!(set.answer(9_007_199_254_740_992.0), Some(false));
        let texts = TextSet::new(vec!["b".into(), "a".into()], true);
        assert_eq!(texts.answer("a"), Some(true));
        assert_eq!(texts.answer("c"), None);
    }
}
