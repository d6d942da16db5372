//! The numbers of a column that is being filled: in memory of its own, or where whoever read them has them already.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Numbers that somebody else holds, as a reader of files holds a block of one.
pub type SharedValues<T> = Arc<dyn AsRef<[T]> + Send + Sync>;

/// Numbers of a column, read as a slice. What changes them makes them the column's own first.
#[derive(Clone)]
pub struct Values<T> {
    own: Vec<T>,
    /// If there are any, these are the values, and `own` has none.
    shared: Option<SharedValues<T>>,
}

impl<T> Values<T> {
    /// No values, and no memory.
    pub const fn new() -> Values<T> {
        Values { own: Vec::new(), shared: None }
    }

    /// Takes these instead of what was there, without a copy.
    pub fn share(&mut self, values: SharedValues<T>) {
        self.own.clear();
        self.shared = Some(values);
    }

    /// Forgets all and keeps the memory, its own.
    pub fn clear(&mut self) {
        self.own.clear();
        self.shared = None;
    }
}

impl<T: Copy> Values<T> {
    /// The values to be changed; shared ones are copied first.
    #[inline]
    pub fn own(&mut self) -> &mut Vec<T> {
        if let Some(shared) = self.shared.take() {
            self.own.extend_from_slice((*shared).as_ref());
        }
        &mut self.own
    }

    /// Appends what somebody holds: without a copy where nothing is before it.
    pub fn append(&mut self, values: SharedValues<T>) {
        if self.is_empty() {
            self.share(values);
        } else {
            self.own().extend_from_slice((*values).as_ref());
        }
    }

    /// Appends a value.
    #[inline]
    pub fn push(&mut self, value: T) {
        self.own().push(value);
    }

    /// Forgets the values from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.own().truncate(len);
    }
}

impl<T> Deref for Values<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.shared {
            None => &self.own,
            Some(shared) => (**shared).as_ref(),
        }
    }
}

impl<'a, T> IntoIterator for &'a Values<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Copy> Extend<T> for Values<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        self.own().extend(values);
    }
}

impl<T> From<Vec<T>> for Values<T> {
    fn from(own: Vec<T>) -> Values<T> {
        Values { own, shared: None }
    }
}

impl<T> Default for Values<T> {
    fn default() -> Values<T> {
        Values::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Values<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_values_are_copied_only_when_they_change() {
        let theirs = Arc::new(vec![1_i64, 2, 3]);
        let mut values = Values::from(vec![9]);
        values.share(Arc::clone(&theirs) as SharedValues<i64>);
        assert_eq!(*values, [1, 2, 3]);
        assert_eq!(values.as_ptr(), theirs.as_ptr(), "no copy");
        values.push(4);
        assert_eq!(*values, [1, 2, 3, 4]);
        assert_eq!(*theirs, [1, 2, 3]);
        assert_eq!(Arc::strong_count(&theirs), 1, "and they are let go");
    }

    #[test]
    fn what_is_cleared_or_cut_holds_nothing_of_others() {
        let theirs = Arc::new(vec![1_i64, 2, 3]);
        let mut values: Values<i64> = Values::new();
        values.share(Arc::clone(&theirs) as SharedValues<i64>);
        values.truncate(2);
        assert_eq!((&*values, Arc::strong_count(&theirs)), (&[1, 2][..], 1));
        values.share(Arc::clone(&theirs) as SharedValues<i64>);
        assert_eq!(*values, [1, 2, 3], "instead of the two");
        values.clear();
        assert!(values.is_empty());
        assert_eq!(Arc::strong_count(&theirs), 1);
        values.extend([5, 6]);
        assert_eq!((&values).into_iter().sum::<i64>(), 11);
    }
}
