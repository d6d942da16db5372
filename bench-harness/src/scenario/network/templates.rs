//! Batches that are made before the clock starts: sent over and over, each time with its times moved on.
//!
//! So a sender copies a batch and writes two numbers into it, however many events a run takes. When batches are sent is in
//! [`super::client`].

use crate::entropy::{Entropy, Zipf};
use crate::scenario::BenchError;
use crate::scenario::events::{START_US, ValueKind};
use crate::scenario::params::Params;
use crate::scenario::reference::Reference;
use corefold_aggregator::spec::{Field, FieldType, StreamSpec};
use corefold_aggregator::time::Duration;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::{Encoder, Stamp};

/// Events of all templates together, at the least one template of them.
const EVENTS: usize = 2 << 20;

/// Events in a second of event time within one batch: no load that can be asked for is higher, so that a batch ends before
/// the next one begins.
const DENSITY: f64 = 200e6;

/// Grid of values.
const KIND: ValueKind = ValueKind::F64 { bits: 6 };

/// See the module.
pub struct Templates {
    batches: Vec<Template>,
    /// Events of a batch.
    pub rows: usize,
    /// Distinct keys that there may be.
    pub cardinality: usize,
    /// Whether events have a value besides time and key.
    pub has_values: bool,
    /// How far each event of a batch lies behind the first, in microseconds.
    offsets: Vec<i64>,
}

struct Template {
    bytes: AlignedBytes,
    /// Where the earliest and the latest time stand.
    times: [usize; 2],
    keys: Vec<u32>,
    /// Values in steps of their grid.
    units: Vec<i64>,
}

impl Templates {
    /// The batches that `params` ask for.
    pub fn make(params: &Params) -> Result<Templates, BenchError> {
        let (rows, cardinality) = (params.size("batch")?, params.size("cardinality")?);
        let exponent = if params.text("keys")? == "zipf" { params.decimal("exponent")? } else { 0.0 };
        let (zipf, mut entropy) = (Zipf::new(cardinality as u64, exponent), Entropy::new(params.count("seed")?));
        let has_values = params.text("event")? == "24";
        let stream = stream(has_values);
        let kinds: Vec<FieldType> = stream.fields.iter().map(|field| field.kind).collect();
        let (mut columns, mut encoder) = (ColumnSet::new(&kinds), Encoder::new());
        let mut templates = Templates {
            batches: Vec::new(),
            rows,
            cardinality,
            has_values,
            offsets: (0..rows).map(|row| (row as f64 * 1e6 / DENSITY) as i64).collect(),
        };
        for _ in 0..(EVENTS / rows).clamp(1, 256) {
            columns.clear();
            let (mut keys, mut units) = (Vec::with_capacity(rows), Vec::new());
            for &offset in &templates.offsets {
                let key = zipf.draw(&mut entropy) - 1;
                columns.times.push(START_US + offset);
                columns.columns[0].push_i64(Some(key as i64));
                keys.push(key as u32);
                if has_values {
                    let value = entropy.below(100 << 6) as i64;
                    columns.columns[1].push_f64(Some(f64::from_bits(KIND.bits_of(value))));
                    units.push(value);
                }
            }
            let mut bytes = AlignedBytes::new();
            let encoded = encoder.encode(&columns, stream.fingerprint(), &Stamp::of_lane(0, 0, 0), &mut bytes);
            encoded.map_err(BenchError::failed("a batch cannot be encoded"))?;
            let span = templates.offsets.last().copied().unwrap_or(0);
            let times = find_times(bytes.as_slice(), [START_US, START_US + span]);
            let times = times.ok_or_else(|| BenchError::Failed("a batch is not built as it should be".to_owned()))?;
            templates.batches.push(Template { bytes, times, keys, units });
        }
        Ok(templates)
    }

    /// Kind of the values; of events without any it does not matter.
    pub fn kind(&self) -> ValueKind {
        if self.has_values { KIND } else { ValueKind::I64 }
    }

    /// Bytes of a batch.
    pub fn batch_size(&self) -> usize {
        self.of(0).bytes.len()
    }

    /// Writes batch `number` into `memory`, its first event at `start`.
    pub fn copy(&self, number: u64, start: i64, memory: &mut AlignedBytes) {
        let template = self.of(number);
        memory.resize(template.bytes.len());
        let bytes = memory.as_mut_slice();
        bytes.copy_from_slice(template.bytes.as_slice());
        let span = self.offsets.last().copied().unwrap_or(0);
        for (at, time) in template.times.into_iter().zip([start, start + span]) {
            bytes[at..at + 8].copy_from_slice(&time.to_le_bytes());
        }
    }

    /// Tells the reference what was in batch `number`.
    pub fn tell(&self, number: u64, start: i64, reference: &mut Reference) -> Result<(), BenchError> {
        let template = self.of(number);
        for (row, (&key, &offset)) in template.keys.iter().zip(&self.offsets).enumerate() {
            reference.add(start + offset, i64::from(key), template.units.get(row).copied().unwrap_or(0))?;
        }
        Ok(())
    }

    fn of(&self, number: u64) -> &Template {
        &self.batches[(number % self.batches.len() as u64) as usize]
    }
}

/// The stream that is sent: 16 bytes an event, a time and a key; or 24, with a value.
pub fn stream(has_values: bool) -> StreamSpec {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    let mut fields = vec![field("key", FieldType::I64)];
    if has_values {
        fields.push(field("value", FieldType::F64));
    }
    StreamSpec { name: "events".to_owned(), time: "ts".to_owned(), delay_max: Duration::ZERO, fields }
}

/// Where a batch has its earliest and latest time, by the FlatBuffer's table of fields; `None` unless they are `expected`.
fn find_times(bytes: &[u8], expected: [i64; 2]) -> Option<[usize; 2]> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let i64_at = |at: usize| Some(i64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let table = u32_at(0)? as usize;
    let fields = table.checked_add_signed(-(u32_at(table)?.cast_signed() as isize))?;
    // Fields 3 and 4 of the table, as `shards/schema/batch.fbs` counts them.
    let places = [3, 4].map(|field| Some(table + usize::from(u16_at(fields + 4 + 2 * field)?)));
    let [Some(first), Some(last)] = places else { return None };
    (Some(expected) == Some([i64_at(first)?, i64_at(last)?])).then_some([first, last])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;
    use crate::scenario::network::Network;
    use crate::scenario::params;
    use corefold_aggregator::time::EventTime;
    use corefold_shards::batch::UnverifiedBatch;

    #[test]
    fn a_copy_is_a_sound_batch_of_its_time() {
        for event in ["event=16", "event=24"] {
            let asked = [event.to_owned(), "batch=300".to_owned()];
            let points = params::points(&Network.params(), &asked, true).unwrap();
            let templates = Templates::make(&points[0]).unwrap();
            let stream = stream(templates.has_values);
            let mut memory = AlignedBytes::new();
            for number in [0, 1, 700] {
                let start = START_US + 123_456_789;
                templates.copy(number, start, &mut memory);
                let unverified = UnverifiedBatch::new(memory.as_slice());
                let batch = unverified.verify(stream.fingerprint(), &stream.fields).unwrap();
                assert_eq!((batch.rows(), batch.time_max()), (300, EventTime(start + 1)));
            }
        }
    }
}
