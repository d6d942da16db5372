//! The targets of `--where` and `--agg`: any text is parsed and planned; what can be planned is computed.

use super::stage;
use crate::entropy::Entropy;
use corefold_aggregator::spec::{Field, FieldType, Overflow, ViewSpec};
use corefold_aggregator::time::Duration;
use corefold_engine::assemble::{ViewRequest, shard_plan};
use corefold_engine::sql::{columns_of, parse_aggregates, plan_filter, resolve};
use corefold_shards::batch::UnverifiedBatch;
use corefold_shards::fold::filter::FilterScratch;
use xxhash_rust::xxh3::xxh3_64;

/// Names, literals and operators of filters.
pub const FILTER_WORDS: &[&[u8]] = &[
    b"s",
    b"i",
    b"f",
    b"b",
    b"ts",
    b" and ",
    b" or ",
    b"not ",
    b" is null",
    b" is not null",
    b" in (",
    b" between ",
    b" like ",
    b" ilike ",
    b" escape '\\'",
    b"'",
    b"''",
    b"'a%'",
    b"'_'",
    b"null",
    b"true",
    b"false",
    b"(",
    b")",
    b", ",
    b" = ",
    b" <> ",
    b" <= ",
    b" + ",
    b" - ",
    b" * ",
    b" / ",
    b" % ",
    b"-",
    b"0",
    b"1e999",
    b"1e-400",
    b"9007199254740993",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"99999999999999999999999",
    b"0.1",
    b"timestamp '2013-01-01'",
    b"\"s\"",
    b"--",
    b"/*",
    b"*/",
    b"x'00'",
    b" is true",
    b" is unknown",
    b"\\",
];

/// Names and literals of aggregates.
pub const AGGREGATE_WORDS: &[&[u8]] = &[
    b"count()",
    b"count(i)",
    b"sum(",
    b"min(",
    b"max(",
    b"mean(",
    b"stddev(",
    b"variance(",
    b"first(",
    b"last(",
    b"quantile(",
    b"distinct(",
    b"top(",
    b"s",
    b"i",
    b"f",
    b"b",
    b"ts",
    b")",
    b"(",
    b", ",
    b" = ",
    b"p99 = ",
    b" as ",
    b"0.5",
    b"1",
    b"0",
    b"1000",
    b"1001",
    b"-1",
    b"1e400",
    b"99999999999999999999",
    b"nan",
    b"\"",
    b"\"x y\"",
    b"'",
    b"\n",
    b"window_start",
    b"p50(f)",
    b"avg(",
    b"*",
    b"--",
];

/// Parses, plans and evaluates a filter; what the fold keeps is what the filter says.
pub fn filter_body(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let stream = stage::stream();
    let named = columns_of(&text);
    let filter = match plan_filter(&text, &stage::columns(&stream), stage::parse_time) {
        Ok(filter) => filter,
        Err(error) => return xxh3_64(error.to_string().as_bytes()),
    };
    let named = named.expect("what is planned has columns that can be told before");
    for column in filter.columns() {
        let name = &stream.fields[*column].name;
        assert!(named.iter().any(|named| named.name == *name), "`{name}` is used but was not announced");
    }
    let batch = stage::encode(&stage::rows(&mut Entropy::new(5)), 0);
    let view = UnverifiedBatch::new(batch.as_slice()).verify(stream.fingerprint(), &stream.fields).expect("sound");
    let mut selection = Vec::new();
    filter.evaluate(&view, &mut FilterScratch::default(), &mut selection);
    assert_eq!(selection.len(), view.rows());
    assert!(selection.iter().all(|kept| *kept <= 1));
    xxh3_64(&selection)
}

/// Parses a list of aggregates, one text a line, and computes it.
pub fn aggregates_body(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let texts: Vec<String> = text.split('\n').take(8).map(str::to_owned).collect();
    let stream = stage::stream();
    let resolved = parse_aggregates(&texts).and_then(|parsed| resolve(&parsed, &stage::columns(&stream)));
    let aggregates = match resolved {
        Ok(aggregates) => aggregates,
        Err(error) => return xxh3_64(error.to_string().as_bytes()),
    };
    let spec = ViewSpec {
        name: "fuzz".to_owned(),
        by: vec![3],
        window: stage::window(2_000_000, 1_000_000),
        aggregates,
        groups_max: 100,
        overflow: Overflow::Fold,
    };
    let view = ViewRequest { stream: 0, spec, filter: None, group_ttl: Duration::ZERO };
    match shard_plan(std::slice::from_ref(&stream), vec![view], true) {
        Ok(plan) => stage::run(&plan, [stage::encode(&stage::rows(&mut Entropy::new(5)), 0)]),
        Err(error) => xxh3_64(error.to_string().as_bytes()),
    }
}

/// A condition over the stage's columns.
pub fn sound_filter(entropy: &mut Entropy) -> Vec<u8> {
    condition(4, entropy).into_bytes()
}

/// A few aggregates over the stage's columns.
pub fn sound_aggregates(entropy: &mut Entropy) -> Vec<u8> {
    let mut text = String::new();
    for index in 0..1 + entropy.index(6) {
        if index > 0 {
            let separator: &&str = entropy.pick(&[", ", ",", "\n"]);
            text.push_str(separator);
        }
        if entropy.chance(0.3) {
            text.push_str(&format!("name_{index} = "));
        }
        let number = *entropy.pick(&["i", "f"]);
        let any = *entropy.pick(&["s", "i", "f", "b"]);
        let call = match entropy.index(8) {
            0 => "count()".to_owned(),
            1 => format!("{}({number})", entropy.pick(&["sum", "mean", "stddev", "variance"])),
            2 => format!("quantile({number}, {})", entropy.pick(&["0", "0.5", "1", "1e-3"])),
            3 => format!("top({any}, {})", entropy.pick(&["1", "3", "1000"])),
            4 => format!("distinct({any})"),
            _ => format!("{}({any})", entropy.pick(&["count", "min", "max", "first", "last"])),
        };
        text.push_str(&call);
    }
    text.into_bytes()
}

fn condition(depth: u32, entropy: &mut Entropy) -> String {
    if depth == 0 {
        return (*entropy.pick(&["b", "true", "null", "i = 1", "s = 'a'"])).to_owned();
    }
    let Field { name, kind } = entropy.pick(&stage::stream().fields).clone();
    let literal = |entropy: &mut Entropy| {
        let choices: &[&str] = match kind {
            FieldType::String => &["'a'", "''", "'é'", "null", "'__other__'"],
            FieldType::I64 | FieldType::F64 => {
                &["1", "-2.5", "0", "1e300", "9007199254740993", "null", "7 % 4", "i + 1"]
            }
            FieldType::Bool => &["true", "false", "null"],
        };
        (*entropy.pick(choices)).to_owned()
    };
    match entropy.index(8) {
        0 => format!("({}) and ({})", condition(depth - 1, entropy), condition(depth - 1, entropy)),
        1 => format!("{} or {}", condition(depth - 1, entropy), condition(depth - 1, entropy)),
        2 => format!("not ({})", condition(depth - 1, entropy)),
        3 => format!("{name} is {}null", entropy.pick(&["", "not "])),
        4 => format!("{name} in ({}, {})", literal(entropy), literal(entropy)),
        5 => format!("{name} between {} and {}", literal(entropy), literal(entropy)),
        6 => format!("s {}like '{}'", entropy.pick(&["", "not "]), entropy.pick(&["a%", "%", "_b%", "é", ""])),
        _ => format!("{name} {} {}", entropy.pick(&["=", "<>", "<", "<=", ">", ">="]), literal(entropy)),
    }
}
