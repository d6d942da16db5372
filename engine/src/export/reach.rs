//! Counting rows: which row of which window comes next, and whether it is committed already when it comes again.
//!
//! Nothing is read or written here.

use super::text::push_time;

/// How far an export is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reach {
    /// End of the window of the last committed row; none without rows.
    pub(super) window_end: Option<i64>,
    /// How many rows of that window are committed.
    pub(super) window_rows: u64,
    /// Every window that ends here or before is committed as a whole.
    pub(super) through: i64,
}

/// Counts the rows of an export in the order in which they come.
#[derive(Clone, Debug, Default)]
pub(super) struct RowCount {
    /// Window of the last row that came, committed earlier or not.
    window_end: Option<i64>,
    /// How many rows of it have come.
    window_rows: u64,
    /// Rows of all runs, each once.
    rows: u64,
    /// Windows that have such a row.
    windows: u64,
    committed: Option<Reach>,
    /// Whether the committed rows are behind.
    is_past: bool,
}

impl RowCount {
    /// Goes on where an earlier run has committed, after `rows` rows of `windows` windows.
    pub(super) fn resume(committed: Reach, rows: u64, windows: u64) -> RowCount {
        RowCount { rows, windows, committed: Some(committed), ..RowCount::default() }
    }

    /// Rows of all runs, each once.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Windows that have such a row.
    pub(super) fn windows(&self) -> u64 {
        self.windows
    }

    /// The window of the last row, and how many rows of it there were; what is committed while nothing else came.
    pub(super) fn place(&self) -> (Option<i64>, u64) {
        match self.committed {
            Some(committed) if !self.is_past => (committed.window_end, committed.window_rows),
            _ => (self.window_end, self.window_rows),
        }
    }

    /// Counts a row of the window that ends at `window_end`; false if it is committed already. An error says why it
    /// cannot be the next row.
    pub(super) fn count(&mut self, window_end: i64) -> Result<bool, String> {
        match self.window_end {
            Some(current) if window_end == current => self.window_rows += 1,
            Some(current) if window_end < current => {
                return Err(format!("a row of {} came after one of {}", window(window_end), window(current)));
            }
            _ => {
                self.leave(Some(window_end))?;
                self.window_end = Some(window_end);
                self.window_rows = 1;
            }
        }
        if let Some(committed) = self.committed {
            let is_committed = committed.window_end.is_some_and(|end| {
                window_end < end || (window_end == end && self.window_rows <= committed.window_rows)
            });
            if is_committed {
                return Ok(false);
            }
            if window_end <= committed.through {
                let known = if committed.window_end == Some(window_end) { committed.window_rows } else { 0 };
                return Err(format!(
                    "{} was committed as a whole with {known} rows, and now it has more",
                    window(window_end)
                ));
            }
            self.is_past = true;
        }
        self.rows += 1;
        self.windows += u64::from(self.window_rows == 1);
        Ok(true)
    }

    /// Notes that every row of windows that end at `through` or before has come.
    pub(super) fn pass(&mut self, through: i64) -> Result<(), String> {
        let is_passed = |committed: &Reach| committed.window_end.is_none_or(|end| end <= through);
        if self.committed.as_ref().is_some_and(is_passed) { self.leave(None) } else { Ok(()) }
    }

    /// Checks, when the window of the last committed row is left behind, that its rows have come again or need not.
    fn leave(&mut self, next: Option<i64>) -> Result<(), String> {
        let Some(Reach { window_end: Some(end), window_rows, through }) = self.committed else { return Ok(()) };
        if self.is_past || next.is_some_and(|next| next <= end) {
            return Ok(());
        }
        let seen = if self.window_end == Some(end) { self.window_rows } else { 0 };
        let starts_behind = self.window_end.is_none() && through >= end;
        if seen < window_rows && !starts_behind {
            return Err(format!(
                "{window_rows} rows of {} are committed, and {seen} of them came again before the next window",
                window(end)
            ));
        }
        Ok(())
    }
}

fn window(end: i64) -> String {
    let mut text = b"the window that ends at ".to_vec();
    push_time(&mut text, end);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(window_end: i64, window_rows: u64, through: i64) -> RowCount {
        RowCount::resume(Reach { window_end: Some(window_end), window_rows, through }, 100, 10)
    }

    /// What becomes of rows of these windows: `+` new, `-` committed, `!` refused.
    fn fate(mut count: RowCount, windows: &[i64]) -> String {
        let fate = |result: Result<bool, String>| result.map_or('!', |is_new| if is_new { '+' } else { '-' });
        windows.iter().map(|&window_end| fate(count.count(window_end))).collect()
    }

    #[test]
    fn committed_rows_are_told_from_new_ones() {
        let table: &[(RowCount, &[i64], &str)] = &[
            (RowCount::default(), &[1, 1, 2, 5], "++++"),
            // From an earlier window, and from the window itself.
            (committed(5, 2, 4), &[3, 3, 5, 5, 5, 6], "----++"),
            (committed(5, 2, 4), &[5, 5, 6], "--+"),
            // Behind a window that is committed as a whole.
            (committed(5, 2, 5), &[6], "+"),
            (committed(5, 2, 9), &[3, 5, 5, 12], "---+"),
            // Behind one that may have had more rows.
            (committed(5, 2, 4), &[6], "!"),
            // Rows that came again are fewer than before.
            (committed(5, 2, 4), &[4, 6], "-!"),
            (committed(5, 2, 5), &[4, 6], "-!"),
            (committed(5, 2, 5), &[5, 6], "-!"),
            // A whole window has grown, or came up.
            (committed(5, 2, 5), &[5, 5, 5], "--!"),
            (committed(5, 2, 7), &[5, 5, 7], "--!"),
            // Never backwards.
            (RowCount::default(), &[2, 1], "+!"),
            (committed(5, 2, 5), &[4, 3], "-!"),
        ];
        for (count, windows, expected) in table {
            assert_eq!(fate(count.clone(), windows), *expected, "{count:?} {windows:?}");
        }
    }

    #[test]
    fn rows_and_windows_count_once_over_all_runs() {
        let mut count = committed(5, 2, 4);
        assert_eq!(count.place(), (Some(5), 2));
        for window_end in [4, 5, 5] {
            assert_eq!(count.count(window_end), Ok(false));
            assert_eq!((count.rows(), count.windows(), count.place()), (100, 10, (Some(5), 2)));
        }
        for (window_end, rows, windows, place) in [(5, 101, 10, 3), (6, 102, 11, 1), (6, 103, 11, 2), (8, 104, 12, 1)] {
            assert_eq!(count.count(window_end), Ok(true));
            assert_eq!((count.rows(), count.windows(), count.place()), (rows, windows, (Some(window_end), place)));
        }
    }

    #[test]
    fn an_end_before_the_committed_rows_have_come_is_refused() {
        assert!(committed(5, 2, 4).pass(4).is_ok());
        assert!(committed(5, 2, 4).pass(5).is_err());
        assert!(committed(5, 2, 5).pass(i64::MAX).is_ok());
        let mut count = committed(5, 2, 4);
        assert_eq!(count.count(5), Ok(false));
        assert!(count.clone().pass(5).is_err());
        assert_eq!(count.count(5), Ok(false));
        assert!(count.pass(i64::MAX).is_ok());
        let empty = Reach { window_end: None, window_rows: 0, through: 7 };
        assert!(RowCount::resume(empty, 0, 0).pass(9).is_ok());
        assert_eq!(fate(RowCount::resume(empty, 0, 0), &[8, 8]), "++");
        assert_eq!(fate(RowCount::resume(empty, 0, 0), &[7]), "!");
    }
}
