//! Batches that no honest encoder makes, and what is said of each.
//!
//! Random damage to honest batches is not here; `tests/batch/damage.rs` does that.

use corefold_aggregator::spec::{Field, FieldType};
use corefold_aggregator::time::EventTime;
use flatbuffers::FlatBufferBuilder;

use super::batch_generated::corefold::batch as fb;
use super::crafted::{Data, FINGERPRINT, Parts, Text, build, fields, honest};
use super::wire::{Stamp, field_position, root_position};
use super::{AlignedBytes, BATCH_COLUMNS_MAX, BATCH_ROWS_MAX, BatchError, ColumnSet, UnverifiedBatch, encode, fuzz};

fn check(bytes: &[u8]) -> Result<u64, BatchError> {
    fuzz::verify_and_read(bytes, FINGERPRINT, &fields())
}

/// The sentence that refuses a batch after `lie` changed it.
fn refusal(lie: impl FnOnce(&mut Parts)) -> String {
    let mut parts = honest();
    lie(&mut parts);
    match check(build(&parts).as_slice()) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn string(parts: &mut Parts) -> &mut Text {
    match &mut parts.columns[3] {
        Data::Str(text) => text,
        _ => unreachable!(),
    }
}

#[test]
fn the_honest_batch_passes_and_reads_like_the_encoders() {
    let ordinary = check(build(&honest()).as_slice()).unwrap();

    let mut columns = ColumnSet::new(&fields().iter().map(|field| field.kind).collect::<Vec<_>>());
    columns.times.extend([1_500, 1_000, 1_020]);
    for value in [Some(-1), Some(2), None] {
        columns.columns[0].push_i64(value);
    }
    for value in [Some(0.5), Some(-0.25), None] {
        columns.columns[1].push_f64(value);
    }
    for value in [Some(false), Some(true), None] {
        columns.columns[2].push_bool(value);
    }
    for value in [Some("cd"), Some("ab\u{e9}"), None] {
        columns.columns[3].push_str(value.map(str::as_bytes)).unwrap();
    }
    let mut bytes = AlignedBytes::new();
    encode(&columns, FINGERPRINT, &Stamp::of_lane(7, 1, 3), &mut bytes).unwrap();
    assert_eq!(check(bytes.as_slice()), Ok(ordinary));
}

/// A column of so many offsets in either form, all of them as large as they can be.
fn offsets(base: i64, short: Option<usize>, long: Option<usize>) -> Data {
    let (offsets16, offsets32) = (short.map(|rows| vec![u16::MAX; rows]), long.map(|rows| vec![u32::MAX; rows]));
    Data::Offsets { base, offsets16, offsets32, validity: None }
}

/// One lie each, and the sentence it meets.
#[test]
fn each_lie_is_named() {
    type Lie = fn(&mut Parts);
    let cases: &[(Lie, &str)] = &[
        (
            |p| p.fingerprint = 1,
            "the batch carries fingerprint 0x0000000000000001, but the stream's is 0x000000000000c0fe; \
             producer and engine must use the same stream name, time column and fields",
        ),
        (|p| p.rows = 65_537, "the batch has 65537 rows; the limit is 65536"),
        (|p| p.rows = 2, "times of the batch: 3 elements instead of the expected 2"),
        (|p| p.stamp.parts = 0, "the batch's stamp is wrong: it counts no parts; a whole batch is part 0 of 1"),
        (|p| p.stamp.part = 1, "the batch's stamp is wrong: its part is not below its number of parts"),
        (
            |p| p.stamp.parts = 2,
            "the batch's stamp is wrong: it says that the batch is a part, but there are no row numbers",
        ),
        (
            |p| p.stamp.sequence = u64::MAX,
            "the batch's stamp is wrong: its sequence leaves no number for the next batch",
        ),
        (
            |p| p.stamp.first_row = u64::MAX - 65_535,
            "the batch's stamp is wrong: its first row leaves no ordinals for the rows after it",
        ),
        // Times.
        (
            |p| p.times = Some(vec![0; 3]),
            "the batch must carry its times in one form, as offsets of 16 or 32 bits or in full, and carries several",
        ),
        (
            |p| p.time_offsets16 = Some(vec![500, 0, 20]),
            "the batch must carry its times in one form, as offsets of 16 or 32 bits or in full, and carries several",
        ),
        (
            |p| p.time_offsets = None,
            "the batch must carry its times in one form, as offsets of 16 or 32 bits or in full, and carries none",
        ),
        (
            |p| {
                p.time_offsets = None;
                p.time_offsets16 = Some(vec![500, 0, 501]);
            },
            "the batch announces times from 1000us to 1500us, but its rows lie between 1000us and 1501us",
        ),
        (
            |p| {
                p.time_offsets = None;
                p.time_offsets16 = Some(vec![500, 0]);
            },
            "times of the batch: 2 elements instead of the expected 3",
        ),
        (
            |p| p.time_max = 1_499,
            "the batch announces times from 1000us to 1499us, but its rows lie between 1000us and 1500us",
        ),
        (
            |p| p.time_offsets = Some(vec![500, 1, 20]),
            "the batch announces times from 1000us to 1500us, but its rows lie between 1001us and 1500us",
        ),
        (
            |p| p.time_min = i64::MAX,
            "the batch announces times from 9223372036854775807us to 1500us, but its rows lie between \
             9223372036854775807us and 9223372036854776307us",
        ),
        (
            |p| {
                p.time_offsets = None;
                p.times = Some(vec![1_000, 1_500, 999]);
            },
            "the batch announces times from 1000us to 1500us, but its rows lie between 999us and 1500us",
        ),
        (
            |p| {
                p.time_min = EventTime::EARLIEST.0 - 1;
                p.time_max = p.time_min + 500;
            },
            "the batch has an event time of -62135596800000001us since the epoch, outside the years 1 to 9999",
        ),
        (
            |p| {
                p.time_max = EventTime::LATEST.0 + 1;
                p.time_min = p.time_max - 500;
            },
            "the batch has an event time of 253402300800000000us since the epoch, outside the years 1 to 9999",
        ),
        // Columns.
        (|p| p.columns.truncate(3), "the batch has 3 columns, but the stream has 4 fields"),
        (|p| p.columns.push(Data::Unknown), "the batch has 5 columns, but the stream has 4 fields"),
        (|p| p.columns.swap(0, 1), "column `n` of the batch is of type f64; the stream's field is of type i64"),
        (
            |p| p.columns[0] = Data::Unknown,
            "column `n` of the batch is of type that this engine does not know; the stream's field is of type i64",
        ),
        (
            |p| p.columns[0] = Data::I64 { values: vec![1; 4], validity: None },
            "values of column `n` of the batch: 4 elements instead of the expected 3",
        ),
        (
            |p| p.columns[0] = Data::I64 { values: vec![1; 3], validity: Some(vec![7, 0]) },
            "validity bytes of column `n` of the batch: 2 elements instead of the expected 1",
        ),
        (
            |p| p.columns[0] = Data::I64 { values: vec![1; 3], validity: Some(vec![0b1111]) },
            "column `n` of the batch: its validity has bits behind the last row",
        ),
        (
            |p| p.columns[0] = offsets(0, Some(3), Some(3)),
            "column `n` of the batch: it has both 16-bit and 32-bit offsets",
        ),
        (|p| p.columns[0] = offsets(0, None, None), "column `n` of the batch: it has no offsets"),
        (
            |p| p.columns[0] = offsets(0, Some(2), None),
            "offsets of column `n` of the batch: 2 elements instead of the expected 3",
        ),
        (
            |p| p.columns[0] = offsets(0, None, Some(4)),
            "offsets of column `n` of the batch: 4 elements instead of the expected 3",
        ),
        (
            |p| p.columns[0] = offsets(i64::MAX - 65_534, Some(3), None),
            "column `n` of the batch: the sum of its base and the greatest offset is no 64-bit integer",
        ),
        (
            |p| p.columns[0] = offsets(i64::MAX - 4_294_967_294, None, Some(3)),
            "column `n` of the batch: the sum of its base and the greatest offset is no 64-bit integer",
        ),
        (
            |p| {
                let (offsets16, validity) = (Some(vec![0; 3]), Some(vec![7, 0]));
                p.columns[0] = Data::Offsets { base: 0, offsets16, offsets32: None, validity };
            },
            "validity bytes of column `n` of the batch: 2 elements instead of the expected 1",
        ),
        (
            |p| p.columns[1] = offsets(0, Some(3), None),
            "column `x` of the batch is of type i64; the stream's field is of type f64",
        ),
        (
            |p| p.columns[1] = Data::F64 { values: vec![] },
            "values of column `x` of the batch: 0 elements instead of the expected 3",
        ),
        (
            |p| p.columns[2] = Data::Bool { values: vec![0; 2] },
            "values of column `b` of the batch: 2 elements instead of the expected 3",
        ),
        (
            |p| p.columns[2] = Data::Bool { values: vec![2, 3, 255] },
            "column `b` of the batch, row 1: the value 3 is none of 0 (false), 1 (true) and 2 (null)",
        ),
        // Dictionaries and indices.
        (
            |p| string(p).indices16 = Some(vec![2, 3, 0]),
            "column `s` of the batch, row 1: index 3 is beyond the dictionary, which has 2 entries",
        ),
        (
            |p| {
                string(p).indices16 = None;
                string(p).indices32 = Some(vec![2, 1, u32::MAX]);
            },
            "column `s` of the batch, row 2: index 4294967295 is beyond the dictionary, which has 2 entries",
        ),
        (
            |p| string(p).indices16 = Some(vec![0]),
            "indices of column `s` of the batch: 1 elements instead of the expected 3",
        ),
        (|p| string(p).indices32 = Some(vec![0; 3]), "column `s` of the batch: it has both 16-bit and 32-bit indices"),
        (|p| string(p).indices16 = None, "column `s` of the batch: it has no indices"),
        (
            |p| string(p).offsets = vec![0, 6, 4, 6],
            "the dictionary of column `s` of the batch, entry 1: it ends before it starts",
        ),
        (
            |p| string(p).offsets = vec![0, 3, 6],
            "the dictionary of column `s` of the batch, entry 1: it starts within a character",
        ),
        (
            |p| string(p).offsets = vec![1, 4, 6],
            "the dictionary of column `s` of the batch, entry 0: the first entry does not start at byte 0 of the text",
        ),
        (
            |p| string(p).offsets = vec![0, 4, 7],
            "the dictionary of column `s` of the batch, entry 2: the last entry does not end where the text ends",
        ),
        (
            |p| string(p).offsets = vec![],
            "the dictionary of column `s` of the batch, entry 0: there are no offsets; a dictionary without entries \
             has one",
        ),
        (
            |p| {
                let zeros = vec![0; BATCH_ROWS_MAX + 2];
                string(p).offsets = zeros;
                string(p).text.clear();
            },
            "the dictionary of column `s` of the batch, entry 65536: the dictionary has more entries than a batch may \
             have rows",
        ),
        (
            |p| {
                string(p).offsets = vec![0; BATCH_ROWS_MAX + 1];
                string(p).text.clear();
            },
            "column `s` of the batch: it has 16-bit indices into a dictionary of more than 65,535 entries",
        ),
        // Parts.
        (
            |p| p.high_waters = Some(vec![0; 3]),
            "the batch is part of another, but it has high waters without row numbers",
        ),
        (|p| p.row_numbers = Some(vec![1, 2]), "row numbers of the batch: 2 elements instead of the expected 3"),
        (|p| p.row_numbers = Some(vec![1, 2, 2]), "the batch is part of another, but its row numbers do not increase"),
        (
            |p| p.row_numbers = Some(vec![1, 2, 65_536]),
            "the batch is part of another, but its last row number is beyond the rows that a batch may have",
        ),
        (
            |p| {
                p.row_numbers = Some(vec![1, 2, 3]);
                p.high_waters = Some(vec![0; 2]);
            },
            "high waters of the batch: 2 elements instead of the expected 3",
        ),
        (
            |p| {
                p.row_numbers = Some(vec![1, 2, 3]);
                p.high_waters = Some(vec![1, 0, 2]);
            },
            "the batch is part of another, but its high waters fall",
        ),
        (
            |p| {
                p.row_numbers = Some(vec![1, 2, 3]);
                p.high_waters = Some(vec![i64::MIN, i64::MIN + 1, 2]);
            },
            "the batch is part of another, but it has a high water outside the years 1 to 9999",
        ),
        (
            |p| {
                p.row_numbers = Some(vec![1, 2, 3]);
                p.high_waters = Some(vec![i64::MIN, 0, i64::MAX]);
            },
            "the batch is part of another, but it has a high water outside the years 1 to 9999",
        ),
    ];
    for (number, (lie, sentence)) in cases.iter().enumerate() {
        assert_eq!(&refusal(lie), sentence, "case {number}");
    }
}

/// Odd, but every number is in range.
#[test]
fn what_is_only_unusual_is_accepted() {
    type Change = fn(&mut Parts);
    let cases: &[Change] = &[
        |p| {
            p.time_offsets = None;
            p.times = Some(vec![1_500, 1_000, 1_020]);
        },
        |p| p.columns[0] = Data::I64 { values: vec![i64::MIN; 3], validity: None },
        |p| p.columns[0] = offsets(i64::MIN, Some(3), None),
        |p| p.columns[0] = offsets(i64::MAX - 65_535, Some(3), None),
        |p| p.columns[0] = offsets(i64::MAX - 4_294_967_295, None, Some(3)),
        |p| {
            p.time_offsets = None;
            p.time_offsets16 = Some(vec![500, 0, 20]);
        },
        |p| {
            string(p).indices16 = None;
            string(p).indices32 = Some(vec![0, 1, 2]);
        },
        // Equal texts twice, an unused one, and an empty one.
        |p| {
            string(p).offsets = vec![0, 2, 4, 4];
            string(p).text = b"aaaa".to_vec();
        },
        |p| {
            string(p).offsets = vec![0];
            string(p).text.clear();
            string(p).indices16 = Some(vec![0; 3]);
        },
        |p| p.row_numbers = Some(vec![0, 9, 65_535]),
        |p| {
            p.stamp.parts = u16::MAX;
            p.stamp.part = u16::MAX - 1;
            p.row_numbers = Some(vec![0, 1, 2]);
            p.high_waters = Some(vec![i64::MIN; 3]);
        },
        |p| p.stamp.first_row = u64::MAX - 65_536,
    ];
    for (number, change) in cases.iter().enumerate() {
        assert_eq!(refusal(change), "accepted", "case {number}");
    }
}

#[test]
fn text_that_is_not_utf8_is_placed_and_refused() {
    let sentence = refusal(|parts| string(parts).text[2] = 0xFF);
    assert!(sentence.starts_with("the batch has a dictionary whose text, bytes "), "{sentence}");
    assert!(sentence.ends_with(" is not valid UTF-8: invalid utf-8 sequence of 1 bytes from index 2"), "{sentence}");
}

#[test]
fn bytes_that_are_no_batch_are_called_that() {
    let bytes = build(&honest());
    let sentence = |bytes: &[u8]| check(bytes).unwrap_err().to_string();
    assert_eq!(sentence(&[]), "these 0 bytes are not a batch: the identifier `CFB1` is missing at byte 4");
    assert_eq!(sentence(&[0; 64]), "these 64 bytes are not a batch: the identifier `CFB1` is missing at byte 4");
    assert_eq!(
        sentence(&bytes.as_slice()[..7]),
        "these 7 bytes are not a batch: the identifier `CFB1` is missing at byte 4"
    );
    assert!(sentence(&bytes.as_slice()[..8]).starts_with("the batch is malformed: "));

    let mut shifted = AlignedBytes::from(&[0; 4][..]);
    shifted.extend(bytes.as_slice());
    let refused = UnverifiedBatch::new(&shifted.as_slice()[4..]).verify(FINGERPRINT, &fields()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the batch does not start at a multiple of 8 bytes in memory; copy it into aligned bytes first"
    );
}

/// A count of elements that no batch holds, in each vector of the root and in the number of columns.
#[test]
fn vectors_longer_than_the_batch_are_refused() {
    let mut parts = honest();
    parts.row_numbers = Some(vec![0, 1, 2]);
    parts.high_waters = Some(vec![0, 0, 0]);
    let honest = build(&parts);
    let root = root_position(honest.as_slice()).unwrap();
    let entries =
        [fb::Batch::VT_TIME_OFFSETS, fb::Batch::VT_COLUMNS, fb::Batch::VT_ROW_NUMBERS, fb::Batch::VT_HIGH_WATERS];
    for entry in entries {
        for count in [1_u32 << 16, 1 << 29, 1 << 30, 1 << 31, u32::MAX] {
            let mut bytes = honest.clone();
            let field = field_position(bytes.as_slice(), root, entry).unwrap();
            let reference = u32::from_le_bytes(*bytes.as_slice()[field..].first_chunk().unwrap());
            let vector = field + reference as usize;
            bytes.as_mut_slice()[vector..vector + 4].copy_from_slice(&count.to_le_bytes());
            let sentence = check(bytes.as_slice()).unwrap_err().to_string();
            assert!(sentence.starts_with("the batch is malformed: "), "{sentence}");
            assert!(sentence.contains("is out of bounds"), "{sentence}");
            assert_eq!(sentence.lines().count(), 1, "{sentence}");
        }
    }
}

/// References to one vector from many columns would make a small batch look big.
#[test]
fn many_references_to_the_same_bytes_are_refused() {
    let rows = 10_000;
    let mut builder = FlatBufferBuilder::new();
    let values = builder.create_vector(&vec![0_i64; rows]);
    let columns: Vec<_> = (0..100)
        .map(|_| {
            let data = fb::I64Column::create(&mut builder, &fb::I64ColumnArgs { values: Some(values), validity: None });
            let args = fb::ColumnArgs { data_type: fb::ColumnData::I64Column, data: Some(data.as_union_value()) };
            fb::Column::create(&mut builder, &args)
        })
        .collect();
    let columns = builder.create_vector(&columns);
    let stamp = Stamp::of_lane(0, 0, 0).to_wire();
    let args = fb::BatchArgs { stamp: Some(&stamp), columns: Some(columns), ..Default::default() };
    let root = fb::Batch::create(&mut builder, &args);
    fb::finish_batch_buffer(&mut builder, root);
    let refused = check(builder.finished_data()).unwrap_err();
    assert_eq!(refused.to_string(), "the batch is malformed: Apparent size too large.");
}

#[test]
fn the_limit_of_columns_can_be_reached_and_not_passed() {
    let kinds = [FieldType::I64, FieldType::F64, FieldType::Bool, FieldType::String];
    let field = |number: usize| Field { name: number.to_string(), kind: kinds[number % kinds.len()] };
    for columns in [BATCH_COLUMNS_MAX, BATCH_COLUMNS_MAX + 1] {
        let fields: Vec<Field> = (0..columns).map(field).collect();
        let data = fields.iter().map(|field| match field.kind {
            FieldType::I64 => Data::I64 { values: vec![], validity: Some(vec![]) },
            FieldType::F64 => Data::F64 { values: vec![] },
            FieldType::Bool => Data::Bool { values: vec![] },
            FieldType::String => {
                Data::Str(Text { offsets: vec![0], text: vec![], indices16: Some(vec![]), indices32: None })
            }
        });
        let parts = Parts {
            rows: 0,
            time_min: i64::MAX,
            time_max: i64::MIN,
            time_offsets: Some(vec![]),
            columns: data.collect(),
            ..honest()
        };
        let ordinary = fuzz::verify_and_read(build(&parts).as_slice(), FINGERPRINT, &fields);

        let set = ColumnSet::new(&fields.iter().map(|field| field.kind).collect::<Vec<_>>());
        let mut bytes = AlignedBytes::new();
        let encoded = encode(&set, FINGERPRINT, &Stamp::of_lane(7, 1, 3), &mut bytes);
        if columns <= BATCH_COLUMNS_MAX {
            assert_eq!(encoded, Ok(()));
            assert!(ordinary.is_ok(), "{ordinary:?}");
            assert_eq!(fuzz::verify_and_read(bytes.as_slice(), FINGERPRINT, &fields), ordinary);
        } else {
            assert_eq!(encoded.unwrap_err().to_string(), "a batch of 1025 columns exceeds the limit of 1024");
            assert_eq!(ordinary.unwrap_err().to_string(), "the batch is malformed: it has more than 1024 columns");
        }
    }
}
