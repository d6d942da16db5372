//! Checks of what the coordinator gives out, and of the end of a run. Checks of a shard's steps are in
//! [`super::site`], those of a log in [`super::history`].

use super::Failure;
use crate::compare::compare;
use crate::local::plan::LocalPlan;
use crate::oracle::{Answer, Ledger};
use corefold_aggregator::result::{OutputColumn, OutputSchema, ResultBatch};
use corefold_aggregator::time::EventTime;
use corefold_engine::export::{self, ExportError, Format, Target};
use corefold_shards::counters::ShardCounts;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// The exported bytes of one life: a header line, then rows. Nothing waits in a buffer, so that all that was given out
/// can be held against the answer.
pub struct ViewOutput {
    schema: OutputSchema,
    header: usize,
    text: String,
}

impl ViewOutput {
    /// An output without rows.
    pub fn new(plan: &LocalPlan) -> Result<ViewOutput, Failure> {
        let mut output = ViewOutput { schema: plan.schema().clone(), header: 0, text: String::new() };
        output.text = output.export(None)?;
        output.header = output.text.len();
        Ok(output)
    }

    /// The engine's own CSV exporter over memory.
    fn export(&self, batch: Option<&ResultBatch>) -> Result<String, Failure> {
        let bytes = Bytes::default();
        let target = Target::Writer(Box::new(bytes.clone()));
        let mut exporter = export::open(target, Format::Csv, &self.schema).map_err(|error| failed(&error))?;
        if let Some(batch) = batch {
            exporter.write(batch).map_err(|error| failed(&error))?;
        }
        exporter.finish().map_err(|error| failed(&error))?;
        let bytes = bytes.0.lock().map(|mut bytes| std::mem::take(&mut *bytes)).unwrap_or_default();
        String::from_utf8(bytes).map_err(|error| Failure::Broken(format!("exporter: {error}")))
    }

    /// Writes rows.
    pub fn write(&mut self, batch: &ResultBatch) -> Result<(), Failure> {
        let text = self.export(Some(batch))?;
        self.text.push_str(&text[self.header..]);
        Ok(())
    }

    /// Header and rows.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Rows without the header.
    pub fn rows(&self) -> &str {
        &self.text[self.header..]
    }
}

fn failed(error: &ExportError) -> Failure {
    Failure::Broken(format!("exporter: {error}"))
}

/// Windows go out once, in order, and not before everything below their end has been promised.
#[derive(Default)]
pub struct EmissionCheck {
    frontier: Option<EventTime>,
    /// End of the last window of the emissions before this one.
    before: Option<i64>,
    /// End of the last window.
    last: Option<i64>,
}

impl EmissionCheck {
    /// An emission may begin, with this promise of all shards.
    pub fn begin(&mut self, frontier: EventTime) {
        self.frontier = Some(frontier);
        self.before = self.last;
    }

    /// Rows go out.
    pub fn check(&mut self, batch: &ResultBatch) -> Result<(), String> {
        let Some(OutputColumn::Time(ends)) = batch.columns.get(1) else {
            return Err("rows without the end of their window".to_owned());
        };
        for &end in ends {
            if self.before.is_some_and(|before| end <= before) || self.last.is_some_and(|last| end < last) {
                return Err(format!("the window that ends at {end} goes out again or out of order"));
            }
            if self.frontier.is_none_or(|frontier| frontier.0 < end) {
                return Err(format!("the window that ends at {end} goes out before it is final"));
            }
            self.last = Some(end);
        }
        Ok(())
    }
}

/// The end of a run against the oracle: rows, ledger, late rows, skipped rows.
pub fn check_answer(
    csv: &str,
    counts: &ShardCounts,
    late_rows: Option<u64>,
    rejected: u64,
    answer: &Answer,
) -> Result<(), String> {
    compare(csv, answer)?;
    let (Some(stream), Some(view)) = (counts.streams.first(), counts.views.first()) else {
        return Err("a run without counts".to_owned());
    };
    if !stream.balances() {
        return Err(format!("the ledger does not add up: {stream:?}"));
    }
    if let Some(late_rows) = late_rows.filter(|&late_rows| late_rows != view.late) {
        return Err(format!("{late_rows} late rows were given out, {} were counted", view.late));
    }
    if stream.rejected != rejected {
        return Err(format!("{} rows were skipped, {rejected} expected", stream.rejected));
    }
    let ledger = Ledger {
        received: stream.received - stream.duplicate - stream.rejected,
        aggregated: view.aggregated,
        late: view.late,
        filtered: view.filtered,
    };
    if ledger == answer.ledger {
        Ok(())
    } else {
        Err(format!("the ledger is {ledger:?}, expected {:?}", answer.ledger))
    }
}

/// What a life has given out before its end must be the beginning of the answer: nothing is taken back.
pub fn check_beginning(beginning: &str, answer: &str) -> Result<(), String> {
    if answer.starts_with(beginning) {
        return Ok(());
    }
    let line = beginning.lines().zip(answer.lines()).position(|(early, late)| early != late);
    let shown = |text: &str| line.and_then(|line| text.lines().nth(line)).unwrap_or("(nothing)").to_owned();
    Err(format!(
        "rows were given out and later taken back, line {}:\n  given out {}\n  answer    {}",
        line.map_or(0, |line| line + 1),
        shown(beginning),
        shown(answer)
    ))
}

/// Bytes that are written in one place and looked at in another.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().map_err(|_| io::Error::other("a writer panicked"))?;
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ends: &[i64]) -> ResultBatch {
        let columns = vec![OutputColumn::Time(ends.to_vec()), OutputColumn::Time(ends.to_vec())];
        ResultBatch { rows: ends.len(), columns, other_rows: Vec::new() }
    }

    #[test]
    fn windows_again_early_or_out_of_order_are_noticed() {
        let mut check = EmissionCheck::default();
        check.begin(EventTime(20));
        assert_eq!(check.check(&rows(&[10, 10])), Ok(()));
        assert_eq!(check.check(&rows(&[10, 20])), Ok(()));
        check.begin(EventTime(30));
        assert!(check.check(&rows(&[20])).unwrap_err().contains("again"));
        assert!(check.check(&rows(&[40])).unwrap_err().contains("before it is final"));
        assert_eq!(check.check(&rows(&[30])), Ok(()));
        assert!(check.check(&rows(&[25])).unwrap_err().contains("out of order"));
    }

    #[test]
    fn what_is_taken_back_is_noticed() {
        assert_eq!(check_beginning("a\nb\n", "a\nb\nc\n"), Ok(()));
        assert!(check_beginning("a\nx\n", "a\nb\nc\n").unwrap_err().contains("line 2"));
        assert!(check_beginning("a\nb\nc\n", "a\nb\n").is_err());
    }
}
