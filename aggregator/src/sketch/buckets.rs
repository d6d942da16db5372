//! `Buckets`: counts by ordered `u32` key, small for few keys and fast for many.
//!
//! What a key means is not here: see `quantile`.

use rkyv::{Archive, Deserialize, Serialize};

/// Fewest keys for which an array is worth its gaps.
const DENSE_FILLED_MIN: usize = 64;
/// A list becomes an array when at least one in this many keys of its range is used…
const DENSE_GAP_MAX: usize = 4;
/// …and the array a list again when a new key would leave fewer than one in this many.
const SPARSE_GAP_MIN: usize = 8;
/// Past so many keys it is an array whatever the gaps, since inserting into the list would be slow.
const SPARSE_LEN_MAX: usize = 16_384;
/// Room made below a new lowest key.
const SLACK: u32 = 32;

const _: () = assert!(DENSE_GAP_MAX < SPARSE_GAP_MIN);

/// One counted key of the list form.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug)]
struct Bucket {
    key: u32,
    /// A count past `u32::MAX` moves the whole store into the array form.
    count: u32,
}

/// Counts by key. Equal if the counts are, whatever the form.
#[derive(Archive, Serialize, Deserialize, Clone, Debug)]
pub(super) struct Buckets {
    form: Form,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug)]
enum Form {
    /// Sorted by key, no count is zero.
    Sparse(Vec<Bucket>),
    /// `counts[i]` belongs to the key `first + i`; `filled` of them are not zero.
    Dense { first: u32, filled: u32, counts: Vec<u64> },
}

impl Default for Buckets {
    fn default() -> Buckets {
        Buckets { form: Form::Sparse(Vec::new()) }
    }
}

impl PartialEq for Buckets {
    fn eq(&self, other: &Buckets) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Buckets {
    /// Adds `n`, which is not zero, to the count of `key`.
    #[inline]
    pub(super) fn add(&mut self, key: u32, n: u64) {
        if let Form::Dense { first, filled, counts } = &mut self.form
            && let Some(count) = counts.get_mut(key.wrapping_sub(*first) as usize)
        {
            *filled += u32::from(*count == 0);
            *count = count.saturating_add(n);
            return;
        }
        self.add_slow(key, n);
    }

    fn add_slow(&mut self, key: u32, n: u64) {
        match &mut self.form {
            Form::Dense { .. } => {
                self.widen(key);
                self.add(key, n);
            }
            Form::Sparse(list) => match list.binary_search_by_key(&key, |bucket| bucket.key) {
                Ok(index) => match u32::try_from(u64::from(list[index].count).saturating_add(n)) {
                    Ok(count) => list[index].count = count,
                    Err(_) => self.spread_and_add(key, n),
                },
                Err(index) => match u32::try_from(n) {
                    Ok(count) => {
                        list.insert(index, Bucket { key, count });
                        if is_dense(list) {
                            self.spread();
                        }
                    }
                    Err(_) => self.spread_and_add(key, n),
                },
            },
        }
    }

    /// Adds all counts of `other`.
    pub(super) fn merge(&mut self, other: &Buckets) {
        match (&mut self.form, &other.form) {
            (Form::Sparse(own), Form::Sparse(others)) => {
                if let Some(list) = merge_lists(own, others) {
                    *own = list;
                    if is_dense(own) {
                        self.spread();
                    }
                    return;
                }
            }
            (Form::Sparse(_), Form::Dense { .. }) => {
                let own = std::mem::replace(self, other.clone());
                own.iter().for_each(|(key, count)| self.add(key, count));
                return;
            }
            (Form::Dense { .. }, _) => {}
        }
        other.iter().for_each(|(key, count)| self.add(key, count));
    }

    /// Keys that were counted and their counts, by key.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, u64)> {
        let (list, first, counts): (&[Bucket], u32, &[u64]) = match &self.form {
            Form::Sparse(list) => (list, 0, &[]),
            Form::Dense { first, counts, .. } => (&[], *first, counts),
        };
        let listed = list.iter().map(|bucket| (bucket.key, u64::from(bucket.count)));
        let counted = counts.iter().enumerate().filter(|(_, count)| **count != 0);
        listed.chain(counted.map(move |(index, &count)| (first + index as u32, count)))
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Sparse(list) => list.capacity() * size_of::<Bucket>(),
            Form::Dense { counts, .. } => counts.capacity() * size_of::<u64>(),
        }
    }

    /// The sum of all counts, if the form is as it should be and no key is past `key_max`; `None` for a damaged image.
    pub(super) fn checked_total(&self, key_max: u32) -> Option<u64> {
        let is_consistent = match &self.form {
            Form::Sparse(list) => {
                list.is_sorted_by(|a, b| a.key < b.key)
                    && list.iter().all(|bucket| bucket.count != 0)
                    && list.last().is_none_or(|bucket| bucket.key <= key_max)
            }
            Form::Dense { first, filled, counts } => {
                let end = u64::from(*first) + counts.len() as u64;
                !counts.is_empty()
                    && end <= u64::from(key_max) + 1
                    && counts.iter().filter(|&&count| count != 0).count() == *filled as usize
            }
        };
        if !is_consistent {
            return None;
        }
        self.iter().try_fold(0_u64, |sum, (_, count)| sum.checked_add(count))
    }

    /// From list to array.
    #[cold]
    fn spread(&mut self) {
        let Form::Sparse(list) = &self.form else { return };
        let (Some(low), Some(high)) = (list.first(), list.last()) else { return };
        let first = low.key;
        let mut counts = vec![0; (high.key - first) as usize + 1];
        for bucket in list {
            counts[(bucket.key - first) as usize] = u64::from(bucket.count);
        }
        self.form = Form::Dense { first, filled: list.len() as u32, counts };
    }

    /// From list to array because of one large count.
    #[cold]
    fn spread_and_add(&mut self, key: u32, n: u64) {
        self.spread();
        if matches!(self.form, Form::Sparse(_)) {
            self.form = Form::Dense { first: key, filled: 0, counts: vec![0] };
        }
        self.extend(key);
        self.add(key, n);
    }

    /// Makes an array reach `key`, or a list of it if that would be mostly gaps.
    #[cold]
    fn widen(&mut self, key: u32) {
        let Form::Dense { first, filled, counts } = &self.form else { return };
        let filled = *filled as usize;
        let span = (*first + counts.len() as u32).max(key + 1) - key.min(*first);
        let is_thin = span as usize > SPARSE_GAP_MIN * (filled + 1) && filled <= SPARSE_LEN_MAX;
        if is_thin && counts.iter().all(|&count| u32::try_from(count).is_ok()) {
            let list = self.iter().map(|(key, count)| Bucket { key, count: count as u32 }).collect();
            self.form = Form::Sparse(list);
        } else {
            self.extend(key);
        }
    }

    /// Makes an array reach `key`.
    fn extend(&mut self, key: u32) {
        let Form::Dense { first, counts, .. } = &mut self.form else { return };
        if key < *first {
            let low = key.saturating_sub(SLACK);
            counts.splice(0..0, std::iter::repeat_n(0, (*first - low) as usize));
            *first = low;
        } else if (key - *first) as usize >= counts.len() {
            counts.resize((key - *first) as usize + 1, 0);
        }
    }
}

fn is_dense(list: &[Bucket]) -> bool {
    match (list.first(), list.last()) {
        (Some(first), Some(last)) if list.len() >= DENSE_FILLED_MIN => {
            (last.key - first.key) as usize <= DENSE_GAP_MAX * list.len() || list.len() > SPARSE_LEN_MAX
        }
        _ => false,
    }
}

/// Both lists as one; `None` if a count grows too large for a list.
fn merge_lists(a: &[Bucket], b: &[Bucket]) -> Option<Vec<Bucket>> {
    let mut merged: Vec<Bucket> = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(left), Some(right)) if left.key > right.key => b.next(),
            (None, _) => b.next(),
            _ => a.next(),
        };
        let Some(&Bucket { key, count }) = next else { return Some(merged) };
        match merged.last_mut() {
            Some(last) if last.key == key => last.count = last.count.checked_add(count)?,
            _ => merged.push(Bucket { key, count }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn is_dense_form(buckets: &Buckets) -> bool {
        matches!(buckets.form, Form::Dense { .. })
    }

    /// Runs of neighbours and far outliers, so that the form changes both ways.
    fn keys() -> impl Strategy<Value = Vec<(u32, u64)>> {
        let run = (0_u32..3_000, 1_u32..400, 1_u64..3)
            .prop_map(|(start, len, n)| (start..start + len).map(|key| (key, n)).collect::<Vec<_>>());
        let outlier =
            (0_u32..200_000, prop_oneof![1_u64..5, 4_294_967_290_u64..4_294_967_300]).prop_map(|one| vec![one]);
        prop::collection::vec(prop_oneof![run, outlier], 0..8).prop_map(|lists| lists.concat())
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_map(left in keys(), right in keys()) {
            let mut map = BTreeMap::new();
            let fill = |pairs: &[(u32, u64)], map: &mut BTreeMap<u32, u64>| {
                let mut buckets = Buckets::default();
                for &(key, n) in pairs {
                    *map.entry(key).or_insert(0) += n;
                    buckets.add(key, n);
                    }
                buckets
            };
            let mut merged = fill(&left, &mut map);
            prop_assert!(merged.iter().eq(map.clone()));
            let right = fill(&right, &mut map);
            let mut turned = right.clone();
            turned.merge(&merged);
            merged.merge(&right);
            prop_assert!(merged.iter().eq(map.clone()));
            prop_assert!(merged.iter().rev().eq(map.clone().into_iter().rev()));
            prop_assert_eq!(&turned, &merged);
            prop_assert_eq!(merged.checked_total(250_000), Some(map.values().sum()));
        }
    }

    #[test]
    fn the_form_follows_the_keys() {
        let mut buckets = Buckets::default();
        assert_eq!(buckets.heap_bytes(), 0);
        for key in (1000..1000 + 4 * 62).step_by(4) {
            buckets.add(key, 1);
        }
        assert!(!is_dense_form(&buckets));
        assert!(buckets.heap_bytes() <= 64 * 8);
        buckets.add(1001, 1);
        buckets.add(1002, 1);
        assert!(is_dense_form(&buckets));
        buckets.add(900, 1);
        assert!(is_dense_form(&buckets));
        buckets.add(9_000, 1);
        assert!(!is_dense_form(&buckets));
        for key in (0..4 * SPARSE_LEN_MAX as u32 + 60).step_by(3) {
            buckets.add(10 * key, 1);
        }
        assert!(is_dense_form(&buckets), "many keys are an array whatever the gaps");
    }

    #[test]
    fn a_large_count_survives_a_far_key() {
        let mut buckets = Buckets::default();
        buckets.add(100_000, u64::from(u32::MAX));
        assert!(!is_dense_form(&buckets));
        buckets.add(100_000, 1);
        buckets.add(5, u64::from(u32::MAX) + 7);
        buckets.add(200_000, 1);
        let counts: Vec<_> = buckets.iter().collect();
        assert_eq!(counts, [(5, (1 << 32) + 6), (100_000, 1 << 32), (200_000, 1)]);
    }
}
