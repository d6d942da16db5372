//! Results as a table for people: the first and the last rows, fitted to the width of a terminal.
//!
//! Numbers are rounded for reading. Files, which hold every row and digit, are not written here.

use super::text::{push_f64, push_i64, push_time};
use corefold_aggregator::limits::OTHER_GROUP;
use corefold_aggregator::result::{OutputColumn, OutputSchema, ResultBatch};
use corefold_aggregator::spec::OutputType;
use std::collections::VecDeque;

/// Text columns are not cut below this many characters.
const TEXT_WIDTH_MIN: usize = 8;

/// Spaces between columns.
const GAP: usize = 2;

/// Collects what a table shows from all batches of a result.
pub struct Table {
    schema: OutputSchema,
    head_max: usize,
    tail_max: usize,
    head: Vec<Vec<Cell>>,
    tail: VecDeque<Vec<Cell>>,
    rows: u64,
}

#[derive(Clone, PartialEq, Debug)]
enum Cell {
    Null,
    Text(String),
    Number(f64),
}

impl Table {
    /// A table that shows the first and the last `rows_each` rows.
    pub fn new(schema: &OutputSchema, rows_each: usize) -> Table {
        Table {
            schema: schema.clone(),
            head_max: rows_each,
            tail_max: rows_each,
            head: Vec::new(),
            tail: VecDeque::new(),
            rows: 0,
        }
    }

    /// Rows added so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes what is shown of `batch`, which has the schema's columns.
    pub fn add(&mut self, batch: &ResultBatch) {
        self.rows += batch.rows as u64;
        let into_head = batch.rows.min(self.head_max - self.head.len());
        for row in 0..into_head {
            self.head.push(self.cells(batch, row));
        }
        for row in into_head.max(batch.rows.saturating_sub(self.tail_max))..batch.rows {
            if self.tail.len() == self.tail_max {
                self.tail.pop_front();
            }
            self.tail.push_back(self.cells(batch, row));
        }
    }

    fn cells(&self, batch: &ResultBatch, row: usize) -> Vec<Cell> {
        let other = batch.other_rows.contains(&row);
        let cell = |(index, column): (usize, &OutputColumn)| {
            if other && self.schema.by.contains(&index) {
                Cell::Text(OTHER_GROUP.to_owned())
            } else {
                cell(column, row)
            }
        };
        batch.columns.iter().enumerate().map(cell).collect()
    }

    /// The table in at most `width` characters per line, with a line about what is not shown.
    pub fn render(&self, width: usize) -> String {
        let shown: Vec<&Vec<Cell>> = self.head.iter().chain(&self.tail).collect();
        let mut columns: Vec<Column> = (0..self.schema.columns.len()).map(|index| self.column(&shown, index)).collect();
        let hidden = fit(&mut columns, width);
        let gap = self.rows > shown.len() as u64;
        let mut out = String::new();
        push_line(&mut out, &columns, |column| fit_text(&column.name, column.width));
        push_line(&mut out, &columns, |column| "─".repeat(column.width));
        for row in 0..shown.len() {
            if gap && row == self.head.len() {
                push_line(&mut out, &columns, |_| String::from("…"));
            }
            push_line(&mut out, &columns, |column| fit_text(&column.cells[row], column.width));
        }
        out.push_str(&self.note(gap, &hidden));
        out
    }

    fn column(&self, shown: &[&Vec<Cell>], index: usize) -> Column {
        let field = &self.schema.columns[index];
        let cells = shown.iter().map(|row| &row[index]);
        let decimals = decimals(cells.clone());
        let cells: Vec<String> = cells.map(|cell| cell_text(cell, decimals)).collect();
        let values_width = cells.iter().map(|cell| text_width(cell)).max().unwrap_or(0);
        let right = matches!(field.kind, OutputType::I64 | OutputType::F64);
        let name = visible(&field.name);
        // Cutting a number or a time would make it another one, so only text and names are cut.
        let width_min = if field.kind == OutputType::String { values_width.min(TEXT_WIDTH_MIN) } else { values_width };
        let width_min = width_min.max(text_width(&name).min(TEXT_WIDTH_MIN));
        Column { width: values_width.max(text_width(&name)), name, cells, right, width_min }
    }

    fn note(&self, gap: bool, hidden: &[String]) -> String {
        let count = |count: u64| if count == 1 { String::from("1 row") } else { format!("{} rows", grouped(count)) };
        let mut note = count(self.rows);
        if gap {
            let (head, tail) = (self.head.len(), self.tail.len());
            note.push_str(&format!("; the first {head} and the last {tail} are shown"));
        }
        if !hidden.is_empty() {
            note.push_str(&format!("; no room for {}", hidden.join(", ")));
        }
        note.push('\n');
        note
    }
}

/// One shown column, formatted.
struct Column {
    name: String,
    cells: Vec<String>,
    right: bool,
    width: usize,
    width_min: usize,
}

/// Narrows the widest columns that may be narrowed, then leaves out columns from the right. Returns their names.
fn fit(columns: &mut Vec<Column>, width: usize) -> Vec<String> {
    let mut hidden = Vec::new();
    loop {
        let total: usize = columns.iter().map(|column| column.width + GAP).sum::<usize>().saturating_sub(GAP);
        if total <= width {
            break;
        }
        let narrowable = (0..columns.len()).filter(|&index| columns[index].width > columns[index].width_min);
        if let Some(widest) = narrowable.max_by_key(|&index| columns[index].width) {
            columns[widest].width -= 1;
        } else if columns.len() > 1 {
            hidden.extend(columns.pop().map(|column| column.name));
        } else {
            break;
        }
    }
    hidden.reverse();
    hidden
}

fn push_line(out: &mut String, columns: &[Column], text: impl Fn(&Column) -> String) {
    let mut line = String::new();
    for (index, column) in columns.iter().enumerate() {
        let text = text(column);
        let padding = " ".repeat(column.width.saturating_sub(text_width(&text)));
        if index > 0 {
            line.push_str(&" ".repeat(GAP));
        }
        if column.right {
            line.push_str(&padding);
        }
        line.push_str(&text);
        if !column.right {
            line.push_str(&padding);
        }
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

fn cell(column: &OutputColumn, row: usize) -> Cell {
    let mut text = Vec::new();
    match column {
        OutputColumn::Time(values) => push_time(&mut text, values[row]),
        OutputColumn::I64 { values, valid } if valid[row] => push_i64(&mut text, values[row]),
        OutputColumn::F64 { values, valid } if valid[row] && !values[row].is_nan() => return Cell::Number(values[row]),
        OutputColumn::Bool { values, valid } if valid[row] => return Cell::Text(values[row].to_string()),
        OutputColumn::String { .. } => {
            return column.text(row).map_or(Cell::Null, |text| Cell::Text(visible(text)));
        }
        _ => return Cell::Null,
    }
    Cell::Text(String::from_utf8_lossy(&text).into_owned())
}

/// Digits after the point for a column of doubles: as many as its values need, but at most three where one of
/// them is 1 or more, and at most six otherwise.
fn decimals<'a>(cells: impl Iterator<Item = &'a Cell> + Clone) -> usize {
    let numbers = || cells.clone().filter_map(|cell| if let Cell::Number(x) = cell { Some(*x) } else { None });
    let most = if numbers().any(|x| x.abs() >= 1.0) { 3 } else { 6 };
    let needed = |x: f64| {
        let text = format!("{x:.most$}");
        let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
        fraction.trim_end_matches('0').len()
    };
    numbers().filter(|x| plain(*x, most)).map(needed).max().unwrap_or(0)
}

/// Whether a double prints well with `decimals` digits after the point: neither huge nor lost in rounding.
fn plain(x: f64, decimals: usize) -> bool {
    x == 0.0 || (x.abs() < 1e15 && x.abs() >= 0.5 * 0.1f64.powi(decimals as i32))
}

fn cell_text(cell: &Cell, decimals: usize) -> String {
    match cell {
        Cell::Null => String::from("null"),
        Cell::Text(text) => text.clone(),
        Cell::Number(x) if plain(*x, decimals) => format!("{:.decimals$}", x + 0.0),
        Cell::Number(x) if x.is_finite() => format!("{x:.3e}"),
        Cell::Number(x) => {
            let mut text = Vec::new();
            push_f64(&mut text, *x);
            String::from_utf8_lossy(&text).into_owned()
        }
    }
}

/// `text` with control characters spelled out, so that data cannot steer the terminal.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let steers =
            c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steers { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// `text` cut to `width` columns, with an ellipsis where something is missing.
fn fit_text(text: &str, width: usize) -> String {
    if text_width(text) <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += char_width(c);
        if used >= width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

fn text_width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Terminal columns of a character: combining marks take none, East Asian and emoji ones two. A short table of the
/// common blocks; a character outside them shifts one line of a table, no more.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// `1234567` as `1,234,567`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use corefold_aggregator::result::OutputField;

    fn schema() -> OutputSchema {
        let field = |name: &str, kind| OutputField { name: name.to_owned(), kind, nullable: true };
        let columns = vec![
            field("window_end", OutputType::Time),
            field("origin", OutputType::String),
            field("count", OutputType::I64),
            field("mean_dep_delay", OutputType::F64),
        ];
        OutputSchema { columns, by: 1..2 }
    }

    fn batch(rows: &[(i64, &str, i64, f64)]) -> ResultBatch {
        let mut texts = OutputColumn::new(OutputType::String);
        if let OutputColumn::String { offsets, bytes, valid } = &mut texts {
            for row in rows {
                bytes.extend_from_slice(row.1.as_bytes());
                offsets.push(bytes.len() as u32);
                valid.push(row.1 != "-");
            }
        }
        let columns = vec![
            OutputColumn::Time(rows.iter().map(|row| row.0 * 1_000_000).collect()),
            texts,
            OutputColumn::I64 { values: rows.iter().map(|row| row.2).collect(), valid: vec![true; rows.len()] },
            OutputColumn::F64 { values: rows.iter().map(|row| row.3).collect(), valid: vec![true; rows.len()] },
        ];
        ResultBatch { rows: rows.len(), columns, other_rows: Vec::new() }
    }

    #[test]
    fn numbers_align_right_and_the_middle_is_left_out() {
        let mut table = Table::new(&schema(), 2);
        table.add(&batch(&[(0, "EWR", 12, 3.25), (3600, "JFK", 9, -12.0), (7200, "x", 1, 1.0)]));
        table.add(&batch(&[(10_800, "y", 1, 1.0), (14_400, "-", 1000, f64::NAN), (18_000, "LGA", 7, 0.00001)]));
        let expected = "\
window_end            origin  count  mean_dep_delay
────────────────────  ──────  ─────  ──────────────
1970-01-01T00:00:00Z  EWR        12            3.25
1970-01-01T01:00:00Z  JFK         9          -12.00
…                     …           …               …
1970-01-01T04:00:00Z  null     1000            null
1970-01-01T05:00:00Z  LGA         7        1.000e-5
6 rows; the first 2 and the last 2 are shown
";
        assert_eq!(table.render(80), expected);
    }

    #[test]
    fn batches_do_not_change_the_table() {
        let rows: Vec<(i64, &str, i64, f64)> = (0..23).map(|i| (i, "a", i * i, i as f64 / 4.0)).collect();
        for rows_each in 0..14 {
            let mut whole = Table::new(&schema(), rows_each);
            whole.add(&batch(&rows));
            for size in 1..24 {
                let mut cut = Table::new(&schema(), rows_each);
                rows.chunks(size).for_each(|rows| cut.add(&batch(rows)));
                assert_eq!(cut.render(70), whole.render(70));
            }
        }
    }

    #[test]
    fn narrow_terminals_cut_text_and_names_but_never_numbers() {
        let mut table = Table::new(&schema(), 5);
        table.add(&batch(&[(0, "a very long airport name", 1_234_567_890_123, 1.5)]));
        for width in 0..100 {
            let text = table.render(width);
            for line in text.lines().take(3) {
                assert!(text_width(line) <= width.max(20), "{width}: {line}");
            }
            let shown = text.contains("1234567890123");
            assert!(shown || text.contains("no room for"), "{text}");
        }
        assert!(table.render(55).contains("a very …"));
    }

    #[test]
    fn an_empty_result_has_a_header_and_text_cannot_steer_the_terminal() {
        let table = Table::new(&schema(), 5);
        assert!(table.render(80).starts_with("window_end  origin  count  mean_dep_delay\n"));
        assert!(table.render(80).ends_with("\n0 rows\n"));
        assert_eq!(visible("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(fit_text("日本語テキスト", 8), "日本語…");
    }
}
