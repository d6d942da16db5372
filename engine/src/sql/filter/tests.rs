//! Tables: what passes which filter, the sentence of every error, and texts that must not bring the planner down.

use super::super::text::{OPERATORS_MAX, TEXT_SIZE_MAX};
use super::super::{SqlError, StreamColumns, columns_of, plan_filter};
use super::oracle::{Batch, TIME, fields, parse_time};
use corefold_shards::fold::filter::Filter;

fn plan(text: &str) -> Result<Filter, SqlError> {
    plan_filter(text, &StreamColumns { time: TIME, fields: &fields() }, parse_time)
}

fn message(text: &str) -> String {
    plan(text).expect_err(text).to_string()
}

/// Numbers of the rows that pass.
fn passing(text: &str) -> Vec<usize> {
    Batch::sample().passing(&plan(text).unwrap_or_else(|error| panic!("{text}: {error}")))
}

/// The sample's rows:
///
/// | row | ts         | i         | f    | b     | s    | t    |
/// |-----|------------|-----------|------|-------|------|------|
/// | 0   | 2013-01-01 | 1         | 1.0  | true  | JFK  | JFK  |
/// | 1   | 2013-01-02 | 2         | -2.5 | false | LGA  | jfk  |
/// | 2   | 2013-01-03 | null      | null | null  | null | null |
/// | 3   | 2013-01-04 | 2^53 + 1  | 2^53 | true  |      | a%b  |
/// | 4   | 2013-01-05 | i64::MAX  | inf  | false | größe| null |
#[test]
fn what_passes() {
    let table: &[(&str, &[usize])] = &[
        ("i = 1", &[0]),
        ("i == 1", &[0]),
        ("i <> 1", &[1, 3, 4]),
        ("i != 1 and not i > 2", &[1]),
        ("i >= 2 or f < 0", &[1, 3, 4]),
        ("i = f", &[0]),
        ("i > f", &[1, 3]),
        ("f < i", &[1, 3]),
        ("i = 9007199254740992.0", &[]),
        ("f = 9007199254740993", &[]),
        ("f < 9007199254740993", &[0, 1, 3]),
        ("i + 1 = 2", &[0]),
        ("i + 1 is null", &[2, 4]),
        ("i / 2 = 0.5", &[0]),
        ("i / 0 is null", &[0, 1, 2, 3, 4]),
        ("i % 2 = 0", &[1]),
        ("-i = -1", &[0]),
        ("-f > 2", &[1]),
        ("f - f is null", &[2, 4]),
        ("i = -9223372036854775808", &[]),
        ("i > -9223372036854775808", &[0, 1, 3, 4]),
        ("i = 9223372036854775807", &[4]),
        ("i < 9223372036854775808", &[0, 1, 3, 4]),
        ("1 < 2", &[0, 1, 2, 3, 4]),
        ("null", &[]),
        ("i = null", &[]),
        ("not (i = null)", &[]),
        ("null is null", &[0, 1, 2, 3, 4]),
        ("b", &[0, 3]),
        ("not b", &[1, 4]),
        ("b = false", &[1, 4]),
        ("b is null", &[2]),
        ("b is not true", &[1, 2, 4]),
        ("b is not false", &[0, 2, 3]),
        ("b is unknown", &[2]),
        ("(i > 1) is true", &[1, 3, 4]),
        ("b in (true, null)", &[0, 3]),
        ("b not in (true)", &[1, 4]),
        ("b not in (true, null)", &[]),
        ("b < true", &[1, 4]),
        ("i in (1, 2.0, 7)", &[0, 1]),
        ("i in (-1, 60 * 60, 1)", &[0]),
        ("i not in (1, 2)", &[3, 4]),
        ("i not in (1, null)", &[]),
        ("f in (1, -2.5)", &[0, 1]),
        ("f in (9007199254740993)", &[]),
        ("i between 1 and 2", &[0, 1]),
        ("i not between 2 and 3", &[0, 3, 4]),
        ("i between null and 1", &[]),
        ("i not between null and 1", &[1, 3, 4]),
        ("f between -3 and i", &[0, 1, 3]),
        ("s = 'JFK'", &[0]),
        ("s <> 'JFK'", &[1, 3, 4]),
        ("'JFK' < s", &[1, 4]),
        ("s = ''", &[3]),
        ("s is null", &[2]),
        ("s is not null and t is null", &[4]),
        ("s in ('LGA', 'JFK')", &[0, 1]),
        ("s not in ('LGA', 'JFK')", &[3, 4]),
        ("s between 'A' and 'K'", &[0]),
        ("s = t", &[0]),
        ("s < t", &[1, 3]),
        ("s like 'J%'", &[0]),
        ("s not like 'J%'", &[1, 3, 4]),
        ("s like '___'", &[0, 1]),
        ("s like 'gr_ße'", &[4]),
        ("t ilike 'JFK'", &[0, 1]),
        ("t not ilike 'j%'", &[3]),
        ("t like '%!%%' escape '!'", &[3]),
        ("t like 'a\\%b'", &[]),
        ("s like null", &[]),
        ("'it''s' = 'it''s' and 'b' > 'a'", &[0, 1, 2, 3, 4]),
        ("'abc' like 'a%'", &[0, 1, 2, 3, 4]),
        ("ts < '2013-01-02'", &[0]),
        ("ts >= '2013-01-04T00:00:00Z'", &[3, 4]),
        ("'2013-01-04' <= ts", &[3, 4]),
        ("ts between timestamp '2013-01-02' and date '2013-01-03'", &[1, 2]),
        ("ts in ('2013-01-05', null)", &[4]),
        ("ts is not null", &[0, 1, 2, 3, 4]),
        ("ts = null", &[]),
        ("\"a column\" = 5", &[0, 1, 2, 3, 4]),
        ("`a column` % 2 = 1 -- a comment", &[0, 1, 2, 3, 4]),
        ("i = 1 or s = 'LGA' and b", &[0]),
        ("not i = 1 and s = 'LGA'", &[1]),
        ("1 + 2 * 3 = 7", &[0, 1, 2, 3, 4]),
        ("(1 + 2) * 3 = 9", &[0, 1, 2, 3, 4]),
    ];
    for (text, expected) in table {
        assert_eq!(&passing(text), expected, "{text}");
    }
}

#[test]
fn sentences() {
    let columns = "the stream has ts, i, f, b, s, t, a column";
    let table: &[(&str, &str)] = &[
        ("", "the --where expression is empty"),
        (" -- nothing", "the --where expression is empty"),
        ("ii = 1", &format!("column 1: unknown column `ii`, did you mean `i`?; {columns}")),
        (
            "i = 1\n and A_column = 2",
            &format!("line 2, column 6: unknown column `A_column`, did you mean `a column`?; {columns}"),
        ),
        ("frobnicate = 1", &format!("column 1: unknown column `frobnicate`; {columns}")),
        (
            "i = 1 and s > 5",
            "column 11: cannot compare `s` (string) with 5 (i64); write the number in quotes, or declare the column as a number",
        ),
        ("i = '5'", "column 1: cannot compare `i` (i64) with '5' (string); write the number without quotes"),
        (
            "-5 = s",
            "column 2: cannot compare -5 (i64) with `s` (string); write the number in quotes, or declare the column as a number",
        ),
        (
            "s in ('a', 5)",
            "column 1: cannot compare `s` (string) with 5 (i64); write the number in quotes, or declare the column as a number",
        ),
        ("b = 1", "column 1: cannot compare `b` (bool) with 1 (i64); a bool compares with true and false"),
        (
            "ts > 5",
            "column 1: cannot compare `ts` (time) with 5 (i64); write the time in quotes, such as '2013-01-01T00:00:00Z'",
        ),
        (
            "ts > 'tomorrow'",
            "column 6: 'tomorrow' is not a time; expected RFC 3339, such as '2013-01-01T00:00:00Z', or a date",
        ),
        ("s + 1 = 2", "column 1: cannot apply + to `s` (string) and 1 (i64); it takes numbers"),
        (
            "ts - 1 > ts",
            "column 1: cannot apply - to `ts` (time) and 1 (i64); compare the time column with a time instead",
        ),
        ("-s = 'x'", "column 2: a sign needs a number, but `s` (string) is none"),
        ("i", "column 1: expected a condition, but `i` (i64) is neither true nor false"),
        ("b and 'x'", "column 7: expected a condition, but 'x' (string) is neither true nor false"),
        ("i + 1", "column 1: expected a condition, but the expression at column 1 (i64) is neither true nor false"),
        ("i like 'x'", "column 1: LIKE takes a string on its left, but `i` (i64) is not one"),
        ("s like t", "column 8: the pattern of LIKE must be a string literal, but `t` (string) is not one"),
        ("s like 'x' escape 'ab'", "column 19: ESCAPE takes a single character in quotes"),
        (
            "s like 'x!' escape '!'",
            "column 8: the pattern ends with its escape character '!'; a character must follow it",
        ),
        ("b between true and false", "column 1: BETWEEN compares numbers, strings and times, not `b` (bool)"),
        ("i > 1e999", "column 5: 1e999 is not a number that fits f64"),
        ("i in (1, f)", "column 10: columns in an IN list are not supported in --where; write x = a OR x = b"),
        ("i in (select 1)", "column 7: sub-queries are not supported in --where"),
        ("exists (select 1)", "column 9: sub-queries are not supported in --where"),
        ("i = (select 1)", "column 6: sub-queries are not supported in --where"),
        ("lower(s) = 'x'", "column 1: functions such as lower() are not supported in --where"),
        (
            "case when b then i else 2 end = 1",
            "column 1: CASE is not supported in --where; combine conditions with AND and OR",
        ),
        ("cast(s as int) = 1", "column 6: CAST is not supported in --where; declare the column's type instead"),
        ("s || t = 'x'", "column 1: the operator || is not supported in --where"),
        ("s similar to 'x'", "column 1: SIMILAR TO is not supported in --where; use LIKE"),
        ("(i, f) = (1, 2)", "column 2: rows such as (a, b) are not supported in --where"),
        (
            "a.b = 1",
            "column 1: dotted names and subscripts are not supported in --where; quote a column name that holds them, as in \"a.b\"",
        ),
        ("i = X'00'", "column 5: literals of this kind are not supported in --where; write strings in single quotes"),
        ("i = ", "column 5: expected: an expression, found: the end of the expression"),
        ("i = 1 i = 2", "column 7: unexpected `i` after the end of the expression"),
        ("i = 1;", "column 6: unexpected `;` after the end of the expression"),
        ("(i = 1", "column 7: expected: ), found: the end of the expression"),
        ("s = 'x", "column 5: unterminated string literal"),
        (
            "interval > 5",
            "column 10: expected: an expression, found: >; if interval is a column, write it in double quotes",
        ),
        ("i in ()", "column 7: expected: an expression, found: )"),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in table {
        let found = message(text);
        if found != *expected {
            wrong.push(format!("{text}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Names from real data that SQL also uses for something else.
#[test]
fn common_column_names_need_no_quotes() {
    let names = [
        "year",
        "month",
        "day",
        "hour",
        "minute",
        "second",
        "date",
        "time",
        "timestamp",
        "value",
        "key",
        "name",
        "type",
        "count",
        "user",
        "level",
        "status",
        "method",
        "path",
        "host",
        "position",
        "start",
        "end",
        "origin",
        "dest",
        "first",
        "last",
        "text",
        "number",
        "order",
        "group",
        "position",
        "left",
        "right",
        "float",
        "string",
    ];
    for name in names {
        let fields = vec![corefold_aggregator::spec::Field {
            name: name.to_owned(),
            kind: corefold_aggregator::spec::FieldType::I64,
        }];
        let columns = StreamColumns { time: "ts", fields: &fields };
        for text in [format!("{name} > 5"), format!("5 < {name} and {name} - 1 > 2"), format!("{name} is null")] {
            assert_eq!(
                plan_filter(&text, &columns, parse_time).map(|filter| filter.columns().to_vec()),
                Ok(vec![0]),
                "{text}"
            );
        }
    }
}

#[test]
fn deep_and_long_texts_are_refused_or_planned_on_a_small_stack() {
    let texts = [
        "(".repeat(10_000),
        format!("{}b{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("{}b{}", "(".repeat(2_000), ")".repeat(2_000)),
        format!("{}b", "not ".repeat(4_000)),
        format!("{}i > 0", "- ".repeat(4_000)),
        format!("i{} > 0", " + i".repeat(OPERATORS_MAX / 2 - 2)),
        format!("b{}", " = b".repeat(OPERATORS_MAX / 2 - 2)),
        format!("b{}", " is true".repeat(OPERATORS_MAX / 2 - 2)),
        format!("{}b{}", "lower(".repeat(1_000), ")".repeat(1_000)),
        format!("{}1{}", "case when b then ".repeat(800), " end".repeat(800)),
        format!("{}b", "b between b and ".repeat(1_000)),
        format!("b{}", " in (b".repeat(1_300)),
        "[".repeat(4_000),
        "{".repeat(4_000),
        "a<".repeat(2_000),
        "array<".repeat(1_300),
        format!("i = {}", "'".repeat(9_999)),
        "x".repeat(TEXT_SIZE_MAX + 1),
    ];
    let plan_all = move || {
        for text in texts {
            let start: String = text.chars().take(30).collect();
            assert!(plan(&text).is_err(), "{start}");
            assert!(columns_of(&text).is_err(), "{start}");
        }
        // A long chain of conditions is not deep, and a long list of literals is neither.
        let chain = format!("b{}", " or b".repeat(OPERATORS_MAX / 2 - 2));
        assert_eq!(Batch::sample().passing(&plan(&chain).unwrap()), [0, 3]);
        let list: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
        assert_eq!(Batch::sample().passing(&plan(&format!("i in ({})", list.join(","))).unwrap()), [0, 1]);
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(plan_all).unwrap().join().unwrap();
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = (plan(&text), columns_of(&text));
    }

    #[test]
    fn no_sequence_of_words_panics(words in proptest::collection::vec(proptest::sample::select(WORDS.to_vec()), 0..24)) {
        let text = words.join(" ");
        // The two walks over the syntax accept the same expressions, but for names and types.
        if plan(&text).is_ok() {
            proptest::prop_assert!(columns_of(&text).is_ok(), "{}", text);
        }
    }
}

const WORDS: [&str; 48] = [
    "i",
    "f",
    "b",
    "s",
    "t",
    "ts",
    "1",
    "2.5",
    "'x'",
    "'2013-01-01'",
    "null",
    "true",
    "false",
    "and",
    "or",
    "not",
    "in",
    "between",
    "is",
    "like",
    "ilike",
    "escape",
    "(",
    ")",
    ",",
    "=",
    "<>",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "select",
    "case",
    "when",
    "then",
    "end",
    "cast",
    "as",
    "timestamp",
    "date",
    "exists",
    "::",
    "[",
    "any",
    "interval",
];
