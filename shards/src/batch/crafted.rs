//! Batches of any content, true or not, made for tests with FlatBuffers' own builder.
//!
//! It shares no code with `encode`, so it stands for producers written by others. What is said of them is not here.

use corefold_aggregator::spec::{Field, FieldType};
use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::AlignedBytes;
use super::batch_generated::corefold::batch as fb;
use super::wire::Stamp;

/// Fingerprint of the tests' stream.
pub const FINGERPRINT: u64 = 0xC0FE;

/// The parts of a batch, each of which may lie.
pub struct Parts {
    pub fingerprint: u64,
    pub stamp: Stamp,
    pub rows: u32,
    pub time_min: i64,
    pub time_max: i64,
    pub time_offsets: Option<Vec<u32>>,
    pub time_offsets16: Option<Vec<u16>>,
    pub times: Option<Vec<i64>>,
    pub columns: Vec<Data>,
    pub row_numbers: Option<Vec<u32>>,
    pub high_waters: Option<Vec<i64>>,
}

/// A column, or something like it.
pub enum Data {
    I64 { values: Vec<i64>, validity: Option<Vec<u8>> },
    Offsets { base: i64, offsets16: Option<Vec<u16>>, offsets32: Option<Vec<u32>>, validity: Option<Vec<u8>> },
    F64 { values: Vec<f64> },
    Bool { values: Vec<u8> },
    Str(Text),
    Unknown,
}

/// A string column, or something like it.
pub struct Text {
    pub offsets: Vec<u32>,
    pub text: Vec<u8>,
    pub indices16: Option<Vec<u16>>,
    pub indices32: Option<Vec<u32>>,
}

/// One field of each type.
pub fn fields() -> Vec<Field> {
    [("n", FieldType::I64), ("x", FieldType::F64), ("b", FieldType::Bool), ("s", FieldType::String)]
        .map(|(name, kind)| Field { name: name.to_owned(), kind })
        .to_vec()
}

/// Three rows, the last of them null in every column.
pub fn honest() -> Parts {
    Parts {
        fingerprint: FINGERPRINT,
        stamp: Stamp::of_lane(7, 1, 3),
        rows: 3,
        time_min: 1_000,
        time_max: 1_500,
        time_offsets: Some(vec![500, 0, 20]),
        time_offsets16: None,
        times: None,
        columns: vec![
            Data::I64 { values: vec![-1, 2, 0], validity: Some(vec![0b011]) },
            Data::F64 { values: vec![0.5, -0.25, f64::NAN] },
            Data::Bool { values: vec![0, 1, 2] },
            Data::Str(Text {
                offsets: vec![0, 4, 6],
                text: "ab\u{e9}cd".into(),
                indices16: Some(vec![1, 0, 2]),
                indices32: None,
            }),
        ],
        row_numbers: None,
        high_waters: None,
    }
}

/// The bytes that FlatBuffers' own builder makes of them.
pub fn build(parts: &Parts) -> AlignedBytes {
    let mut builder = FlatBufferBuilder::new();
    let columns: Vec<_> = parts.columns.iter().map(|data| build_column(&mut builder, data)).collect();
    let args = fb::BatchArgs {
        fingerprint: parts.fingerprint,
        stamp: Some(&parts.stamp.to_wire()),
        rows: parts.rows,
        time_min: parts.time_min,
        time_max: parts.time_max,
        time_offsets: parts.time_offsets.as_ref().map(|values| builder.create_vector(values)),
        time_offsets16: parts.time_offsets16.as_ref().map(|values| builder.create_vector(values)),
        times: parts.times.as_ref().map(|values| builder.create_vector(values)),
        columns: Some(builder.create_vector(&columns)),
        row_numbers: parts.row_numbers.as_ref().map(|values| builder.create_vector(values)),
        high_waters: parts.high_waters.as_ref().map(|values| builder.create_vector(values)),
    };
    let root = fb::Batch::create(&mut builder, &args);
    fb::finish_batch_buffer(&mut builder, root);
    AlignedBytes::from(builder.finished_data())
}

fn build_column<'a>(builder: &mut FlatBufferBuilder<'a>, data: &Data) -> WIPOffset<fb::Column<'a>> {
    let (data_type, data) = match data {
        Data::I64 { values, validity } => {
            let args = fb::I64ColumnArgs {
                values: Some(builder.create_vector(values)),
                validity: validity.as_ref().map(|bits| builder.create_vector(bits)),
            };
            (fb::ColumnData::I64Column, fb::I64Column::create(builder, &args).as_union_value())
        }
        Data::Offsets { base, offsets16, offsets32, validity } => {
            let args = fb::I64OffsetsColumnArgs {
                base: *base,
                offsets16: offsets16.as_ref().map(|offsets| builder.create_vector(offsets)),
                offsets32: offsets32.as_ref().map(|offsets| builder.create_vector(offsets)),
                validity: validity.as_ref().map(|bits| builder.create_vector(bits)),
            };
            (fb::ColumnData::I64OffsetsColumn, fb::I64OffsetsColumn::create(builder, &args).as_union_value())
        }
        Data::F64 { values } => {
            let args = fb::F64ColumnArgs { values: Some(builder.create_vector(values)) };
            (fb::ColumnData::F64Column, fb::F64Column::create(builder, &args).as_union_value())
        }
        Data::Bool { values } => {
            let args = fb::BoolColumnArgs { values: Some(builder.create_vector(values)) };
            (fb::ColumnData::BoolColumn, fb::BoolColumn::create(builder, &args).as_union_value())
        }
        Data::Str(Text { offsets, text, indices16, indices32 }) => {
            let text = WIPOffset::new(builder.create_byte_string(text).value());
            let args = fb::StringColumnArgs {
                offsets: Some(builder.create_vector(offsets)),
                text: Some(text),
                indices16: indices16.as_ref().map(|indices| builder.create_vector(indices)),
                indices32: indices32.as_ref().map(|indices| builder.create_vector(indices)),
            };
            (fb::ColumnData::StringColumn, fb::StringColumn::create(builder, &args).as_union_value())
        }
        Data::Unknown => {
            let args = fb::F64ColumnArgs { values: Some(builder.create_vector(&[0.0; 3])) };
            (fb::ColumnData(99), fb::F64Column::create(builder, &args).as_union_value())
        }
    };
    fb::Column::create(builder, &fb::ColumnArgs { data_type, data: Some(data) })
}
