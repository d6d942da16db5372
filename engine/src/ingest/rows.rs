//! Rows of one stream on their way to its lane, in sets that each fit into a batch.
//!
//! How rows are made is in `metrics`, `points` and the readers of `source`; what becomes of sets is in `lane`.

use super::cells::{Cell, push_row};
use corefold_aggregator::spec::{Field, FieldType};
use corefold_shards::batch::ColumnSet;

/// Bytes that the numbers of one set may take, and its texts another so many: well below what the door takes.
pub const SET_BYTES_MAX: usize = 4 << 20;

/// Rows that a set of a stream with so many fields may have.
pub fn rows_max(batch_rows: u32, fields: usize) -> usize {
    (SET_BYTES_MAX / (8 * (fields + 1))).clamp(1, batch_rows as usize)
}

/// About how many bytes a batch of these columns takes.
pub fn bytes_of(columns: &ColumnSet) -> usize {
    let texts = columns.columns.iter().map(|column| match column {
        corefold_shards::batch::columns::ColumnData::Str { dictionary, .. } => dictionary.text().len(),
        _ => 0,
    });
    texts.sum::<usize>() + columns.rows() * 8 * (columns.columns.len() + 1)
}

/// See the module.
#[derive(Debug)]
pub struct Rows {
    kinds: Vec<FieldType>,
    rows_max: usize,
    full: Vec<ColumnSet>,
    open: ColumnSet,
    text_bytes: usize,
}

impl Rows {
    /// No rows of a stream with these fields.
    pub fn new(fields: &[Field], batch_rows: u32) -> Rows {
        let kinds: Vec<FieldType> = fields.iter().map(|field| field.kind).collect();
        let open = ColumnSet::new(&kinds);
        Rows { rows_max: rows_max(batch_rows, kinds.len()), kinds, full: Vec::new(), open, text_bytes: 0 }
    }

    /// Adds a row; false if it alone is more than a batch may hold, and it is left out.
    pub fn push(&mut self, time: i64, cells: &[Cell<'_>]) -> bool {
        let texts = cells.iter().map(|cell| if let Cell::Text(text) = cell { text.len() } else { 0 }).sum::<usize>();
        if self.open.rows() >= self.rows_max || self.text_bytes + texts > SET_BYTES_MAX {
            self.rotate();
        }
        self.text_bytes += texts;
        push_row(&mut self.open, time, cells).is_ok()
    }

    /// Counts a row that cannot be read.
    pub fn reject(&mut self) {
        self.open.rejected += 1;
    }

    /// Adds rows that are in columns already.
    pub fn add(&mut self, columns: ColumnSet) {
        self.rotate();
        self.full.push(columns);
    }

    /// Columns of the stream, empty.
    pub fn empty(&self) -> ColumnSet {
        ColumnSet::new(&self.kinds)
    }

    fn rotate(&mut self) {
        self.text_bytes = 0;
        if self.open.rows() > 0 || self.open.rejected > 0 {
            let fresh = ColumnSet::new(&self.kinds);
            self.full.push(std::mem::replace(&mut self.open, fresh));
        }
    }

    /// How many rows there are, and how many were left out.
    pub fn counts(&self) -> (u64, u64) {
        let all = self.full.iter().chain([&self.open]);
        all.fold((0, 0), |(rows, rejected), set| (rows + set.rows() as u64, rejected + u64::from(set.rejected)))
    }

    /// What there is, in order; nothing is left.
    pub fn take(&mut self) -> Vec<ColumnSet> {
        self.rotate();
        std::mem::take(&mut self.full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_bounded_by_rows_and_by_texts() {
        let fields = [Field { name: "s".to_owned(), kind: FieldType::String }];
        let mut rows = Rows::new(&fields, 100);
        for time in 0..250 {
            assert!(rows.push(time, &[Cell::Text("x")]));
        }
        rows.reject();
        assert_eq!(rows.counts(), (250, 1));
        let sets = rows.take();
        assert_eq!(sets.iter().map(ColumnSet::rows).collect::<Vec<_>>(), [100, 100, 50]);
        let long = "y".repeat(SET_BYTES_MAX / 2);
        for time in 0..4 {
            assert!(rows.push(time, &[Cell::Text(&format!("{time}{long}"))]));
        }
        assert!(rows.take().iter().all(|set| bytes_of(set) < 2 * SET_BYTES_MAX));
        assert!(rows.take().is_empty());
        assert_eq!(rows_max(65_536, 1023), 512);
    }
}
