//! Tables of lists, names and sentences.

use super::*;
use corefold_aggregator::spec::Field;

fn parse(text: &str) -> Result<Vec<ParsedAggregate>, SqlError> {
    parse_aggregates(&[text.to_owned()])
}

fn fields() -> Vec<Field> {
    [("origin", FieldType::String), ("dep_delay", FieldType::F64), ("n", FieldType::I64), ("ok", FieldType::Bool)]
        .map(|(name, kind)| Field { name: name.to_owned(), kind })
        .to_vec()
}

/// Parses and resolves over the fields above, with the time column `ts`.
fn plan(text: &str) -> Result<Vec<AggregateSpec>, SqlError> {
    resolve(&parse(text)?, &StreamColumns { time: "ts", fields: &fields() })
}

fn message(text: &str) -> String {
    plan(text).expect_err(text).to_string()
}

#[test]
fn lists_are_read() {
    let text = "count(), Mean(dep_delay), p99 = quantile(dep_delay, 0.99),\n TOP(origin, 5) as \"best ones\", count(*), count(\"n\")";
    let mut parsed = parse(text).unwrap();
    parsed.iter_mut().for_each(|aggregate| (aggregate.at, aggregate.column_at) = Default::default());
    let row = |name: &str, function, column: Option<&str>, hint| ParsedAggregate {
        name: name.to_owned(),
        function,
        column: column.map(str::to_owned),
        hint,
        at: Position::default(),
        column_at: Position::default(),
    };
    let number = Some(FieldType::F64);
    assert_eq!(
        parsed,
        [
            row("count", Function::Count, None, None),
            row("mean_dep_delay", Function::Mean, Some("dep_delay"), number),
            row("p99", Function::Quantile(0.99), Some("dep_delay"), number),
            row("best ones", Function::Top(5), Some("origin"), None),
            row("count", Function::Count, None, None),
            row("count_n", Function::Count, Some("n"), None),
        ]
    );
}

#[test]
fn every_function_resolves_on_every_type_it_takes() {
    for signature in SIGNATURES {
        let name = signature.split('(').next().unwrap();
        for (index, field) in fields().iter().enumerate() {
            let call = match name {
                "quantile" => format!("quantile({}, 0.5)", field.name),
                "top" => format!("top({}, 3)", field.name),
                _ => format!("{name}({})", field.name),
            };
            let numbers_only = ["sum", "mean", "stddev", "variance", "quantile"].contains(&name);
            let expected = !numbers_only || matches!(field.kind, FieldType::F64 | FieldType::I64);
            match plan(&call) {
                Ok(specs) => {
                    assert!(expected, "{call}");
                    assert_eq!(specs[0].field, Some(index));
                    assert_eq!(specs[0].function.name(), name);
                }
                Err(error) => assert!(!expected, "{call}: {error}"),
            }
        }
    }
}

#[test]
fn default_names() {
    for (text, expected) in [
        ("count()", "count"),
        ("count(*)", "count"),
        ("count(n)", "count_n"),
        ("sum(n)", "sum_n"),
        ("distinct(origin)", "distinct_origin"),
        ("top(origin, 3)", "top_origin"),
        ("quantile(n, 0.99)", "p99_n"),
        ("quantile(n, 0.999)", "p99_9_n"),
        ("quantile(n, 0.5)", "p50_n"),
        ("quantile(n, .5)", "p50_n"),
        ("quantile(n, 0)", "p0_n"),
        ("quantile(n, -0.0)", "p0_n"),
        ("quantile(n, 1.0)", "p100_n"),
        ("quantile(n, 0.29)", "p29_n"),
        ("quantile(n, 0.05)", "p5_n"),
        ("quantile(n, 0.075)", "p7_5_n"),
        ("quantile(n, 0.00001)", "p0_001_n"),
        ("quantile(n, 1e-3)", "p0_1_n"),
    ] {
        assert_eq!(plan(text).unwrap()[0].name, expected, "{text}");
    }
}

#[test]
fn sentences() {
    let list = "count(), sum(x), min(x), max(x), mean(x), stddev(x), variance(x), first(x), last(x), quantile(x, q), \
                distinct(x), top(x, k)";
    let table = [
        ("", "the --agg expression is empty"),
        ("count(),", "column 9: expected an aggregate, such as count(), found the end"),
        ("count() sum(n)", "column 9: expected a comma between aggregates, found `sum`"),
        ("dep_delay", "column 1: `dep_delay` is no aggregate; write a function of a column, such as mean(dep_delay)"),
        ("count(), maen(n)", &format!("column 10: unknown aggregate `maen`, did you mean `mean`?; there are {list}")),
        ("AVG(n)", &format!("column 1: unknown aggregate `AVG`, did you mean `mean`?; there are {list}")),
        ("frobnicate(n)", &format!("column 1: unknown aggregate `frobnicate`; there are {list}")),
        ("sum()", "column 1: sum: expected sum(x), but 0 arguments were given"),
        ("count(), sum(n, 2)", "column 10: sum: expected sum(x), but 2 arguments were given"),
        ("quantile(n)", "column 1: quantile: expected quantile(x, q), but 1 argument was given"),
        ("count(n, n)", "column 1: count: expected count(), count(*) or count(x), but 2 arguments were given"),
        ("sum(*)", "column 5: sum(*): only count takes `*`; name a column"),
        ("sum(1)", "column 5: sum: expected a column, found the number 1"),
        ("quantile(n, 99)", "column 13: quantile: expected a number from 0 to 1, such as 0.99, found 99"),
        ("quantile(n, -0.1)", "column 13: quantile: expected a number from 0 to 1, such as 0.99, found -0.1"),
        ("quantile(n, ok)", "column 13: quantile: expected a number from 0 to 1, such as 0.99, found `ok`"),
        ("top(n, 0)", "column 8: top: expected a whole number from 1 to 1000, found 0"),
        ("top(n, 1001)", "column 8: top: expected a whole number from 1 to 1000, found 1001"),
        ("top(n, 1.5)", "column 8: top: expected a whole number from 1 to 1000, found 1.5"),
        (
            "sum(n + 1)",
            "column 7: expressions in aggregates are not supported in --agg; name a column, and quote it if it holds more \
             than letters, digits and _",
        ),
        ("count(distinct n)", "column 7: count(DISTINCT …): use distinct(x), which counts distinct values"),
        ("sum(n) over ()", "column 8: OVER is not supported in --agg; a view has one window and one filter"),
        ("a = sum(n) as b", "column 12: the aggregate is named twice, by = and by AS"),
        ("\"\" = sum(n)", "column 6: the name of an aggregate is empty"),
        ("sum(n", "column 6: expected `)`, found the end"),
        (
            "mean(dep_dely)",
            "column 6: unknown column `dep_dely`, did you mean `dep_delay`?; the stream has ts, origin, dep_delay, n, ok",
        ),
        ("max(ts)", "column 5: max(ts): the time column cannot be aggregated"),
        (
            "count(),\nsum(origin)",
            "line 2, column 5: sum(origin): sum does not take string values; count, min, max, first, last, distinct and \
             top do",
        ),
        ("sum(n), sum(n)", "column 9: two output columns are called `sum_n`; rename one with `name = …`"),
        ("window_end = sum(n)", "column 14: two output columns are called `window_end`; rename one with `name = …`"),
    ];
    for (text, expected) in table {
        assert_eq!(message(text), expected, "{text}");
    }
}

#[test]
fn several_texts_make_one_list_and_errors_say_which() {
    let texts = ["count()".to_owned(), "sum(n), min(n)".to_owned()];
    assert_eq!(parse_aggregates(&texts).unwrap().len(), 3);
    let texts = ["count()".to_owned(), "sum(n), mn(n)".to_owned()];
    assert!(parse_aggregates(&texts).unwrap_err().to_string().starts_with("expression 2, column 9: unknown aggregate"));
    assert_eq!(
        parse_aggregates(&[]).unwrap_err().to_string(),
        "the view has no aggregates; ask for at least one, such as count()"
    );
    let many = vec!["count()".to_owned(); AGGREGATES_MAX + 1];
    assert_eq!(parse_aggregates(&many).unwrap_err().to_string(), "aggregates: 65 exceed the limit of 64");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "([a-z_]{1,9}|count|quantile|top|\\(|\\)|,|=|\\*| as |\"|'|[0-9.]{1,4}|-|\\PC){0,24}") {
        if let Ok(parsed) = parse(&text) {
            let _ = resolve(&parsed, &StreamColumns { time: "ts", fields: &fields() });
        }
    }
}
