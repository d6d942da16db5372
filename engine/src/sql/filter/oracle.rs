//! Random expressions, printed as SQL, planned and evaluated over batches, against a plain evaluation of each row.
//!
//! Only for tests. The oracle knows values and three-valued logic, and nothing of the planner or its trees.

use super::super::{StreamColumns, columns_of, plan_filter};
use corefold_aggregator::spec::{Field, FieldType};
use corefold_shards::batch::{AlignedBytes, ColumnSet, Stamp, UnverifiedBatch, encode};
use corefold_shards::fold::filter::{Filter, FilterScratch};
use proptest::prelude::*;
use std::cmp::Ordering;

pub const TIME: &str = "ts";
const DAY: i64 = 86_400_000_000;
const YEAR_2013: i64 = 15_706 * DAY;
const KINDS: [FieldType; 6] =
    [FieldType::I64, FieldType::F64, FieldType::Bool, FieldType::String, FieldType::String, FieldType::I64];

/// Fields of the tests' stream, besides its time column.
pub fn fields() -> Vec<Field> {
    let names = ["i", "f", "b", "s", "t", "a column"];
    names.iter().zip(KINDS).map(|(name, kind)| Field { name: (*name).to_owned(), kind }).collect()
}

/// Reads days of January 2013, at midnight.
pub fn parse_time(text: &str) -> Option<i64> {
    let day: i64 = text.strip_suffix("T00:00:00Z").unwrap_or(text).strip_prefix("2013-01-")?.parse().ok()?;
    Some(YEAR_2013 + (day - 1) * DAY)
}

/// A value of one row; `None` is null.
#[derive(Clone, PartialEq, Debug)]
enum Cell {
    Null,
    Truth(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Time(i64),
}

/// Rows of cells: time, then fields.
pub struct Batch {
    rows: Vec<Vec<Cell>>,
}

impl Batch {
    /// The rows shown beside the table of what passes.
    pub fn sample() -> Batch {
        let text = |text: &str| Cell::Text(text.to_owned());
        let big = 1i64 << 53;
        let rows = [
            [Cell::Integer(1), Cell::Float(1.0), Cell::Truth(true), text("JFK"), text("JFK")],
            [Cell::Integer(2), Cell::Float(-2.5), Cell::Truth(false), text("LGA"), text("jfk")],
            [Cell::Null, Cell::Null, Cell::Null, Cell::Null, Cell::Null],
            [Cell::Integer(big + 1), Cell::Float(big as f64), Cell::Truth(true), text(""), text("a%b")],
            [Cell::Integer(i64::MAX), Cell::Float(f64::INFINITY), Cell::Truth(false), text("größe"), Cell::Null],
        ];
        let complete = |(day, row): (usize, [Cell; 5])| {
            let time = Cell::Time(YEAR_2013 + day as i64 * DAY);
            std::iter::once(time).chain(row).chain([Cell::Integer(5)]).collect()
        };
        Batch { rows: rows.into_iter().enumerate().map(complete).collect() }
    }

    /// Numbers of the rows that `filter` takes.
    pub fn passing(&self, filter: &Filter) -> Vec<usize> {
        let mut set = ColumnSet::new(&KINDS);
        for row in &self.rows {
            let Cell::Time(time) = row[0] else { panic!("the first cell is the time") };
            set.times.push(time);
            for (column, cell) in set.columns.iter_mut().zip(&row[1..]) {
                match (cell, column.kind()) {
                    (Cell::Null, FieldType::I64) => column.push_i64(None),
                    (Cell::Null, FieldType::F64) => column.push_f64(None),
                    (Cell::Null, FieldType::Bool) => column.push_bool(None),
                    (Cell::Null, FieldType::String) => column.push_str(None).unwrap(),
                    (Cell::Integer(value), _) => column.push_i64(Some(*value)),
                    (Cell::Float(value), _) => column.push_f64(Some(*value)),
                    (Cell::Truth(value), _) => column.push_bool(Some(*value)),
                    (Cell::Text(value), _) => column.push_str(Some(value.as_bytes())).unwrap(),
                    (Cell::Time(_), _) => panic!("only the first cell is a time"),
                }
            }
        }
        let mut bytes = AlignedBytes::new();
        encode(&set, 1, &Stamp::of_lane(1, 0, 0), &mut bytes).unwrap();
        let view = UnverifiedBatch::new(bytes.as_slice()).verify(1, &fields()).unwrap();
        let mut selection = Vec::new();
        filter.evaluate(&view, &mut FilterScratch::default(), &mut selection);
        assert_eq!(selection.len(), self.rows.len());
        (0..selection.len()).filter(|row| selection[*row] == 1).collect()
    }
}

/// An expression as a user thinks of it.
#[derive(Clone, Debug)]
enum Node {
    Column(usize),
    Literal(Cell),
    Not(Box<Node>),
    Negative(Box<Node>),
    Infix(Box<Node>, &'static str, Box<Node>),
    Is(Box<Node>, bool, &'static str),
    In(Box<Node>, bool, Vec<Cell>),
    Between(Box<Node>, bool, Box<Node>, Box<Node>),
    Like(Box<Node>, bool, String),
}

impl Node {
    fn sql(&self) -> String {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match self {
            Node::Column(0) => TIME.to_owned(),
            Node::Column(column) => format!("\"{}\"", fields()[column - 1].name),
            Node::Literal(cell) => literal(cell),
            Node::Not(of) => format!("(NOT {})", of.sql()),
            Node::Negative(of) => format!("(- {})", of.sql()),
            Node::Infix(left, op, right) => format!("({} {op} {})", left.sql(), right.sql()),
            Node::Is(of, negated, what) => format!("({} IS {}{what})", of.sql(), not(negated)),
            Node::In(of, negated, list) => {
                let list: Vec<String> = list.iter().map(literal).collect();
                format!("({} {}IN ({}))", of.sql(), not(negated), list.join(", "))
            }
            Node::Between(of, negated, low, high) => {
                format!("({} {}BETWEEN {} AND {})", of.sql(), not(negated), low.sql(), high.sql())
            }
            Node::Like(of, negated, pattern) => format!("({} {}LIKE '{pattern}')", of.sql(), not(negated)),
        }
    }

    fn value(&self, row: &[Cell]) -> Cell {
        let truth = |value: Option<bool>| value.map_or(Cell::Null, Cell::Truth);
        let negate_if = |negated: bool, value: Option<bool>| truth(value.map(|value| value != negated));
        match self {
            Node::Column(column) => row[*column].clone(),
            Node::Literal(cell) => cell.clone(),
            Node::Not(of) => negate_if(true, as_truth(&of.value(row))),
            Node::Negative(of) => match of.value(row) {
                Cell::Integer(value) => value.checked_neg().map_or(Cell::Null, Cell::Integer),
                Cell::Float(value) => Cell::Float(-value),
                _ => Cell::Null,
            },
            Node::Infix(left, op, right) => infix(&left.value(row), op, &right.value(row)),
            Node::Is(of, negated, what) => {
                let value = of.value(row);
                let is = match *what {
                    "NULL" | "UNKNOWN" => value == Cell::Null,
                    "TRUE" => value == Cell::Truth(true),
                    _ => value == Cell::Truth(false),
                };
                Cell::Truth(is != *negated)
            }
            // x IN (a, b) is x = a OR x = b.
            Node::In(of, negated, list) => {
                let of = of.value(row);
                let mut found = Some(false);
                for item in list {
                    found = or(found, as_truth(&infix(&of, "=", item)));
                }
                negate_if(*negated, found)
            }
            Node::Between(of, negated, low, high) => {
                let of = of.value(row);
                let above = as_truth(&infix(&of, ">=", &low.value(row)));
                let below = as_truth(&infix(&of, "<=", &high.value(row)));
                negate_if(*negated, and(above, below))
            }
            Node::Like(of, negated, pattern) => match of.value(row) {
                Cell::Text(text) => {
                    let characters = |text: &str| text.chars().collect::<Vec<_>>();
                    negate_if(*negated, Some(like(&characters(&text), &characters(pattern))))
                }
                _ => Cell::Null,
            },
        }
    }
}

fn literal(cell: &Cell) -> String {
    match cell {
        Cell::Null => "NULL".to_owned(),
        Cell::Truth(value) => value.to_string(),
        Cell::Integer(value) => value.to_string(),
        Cell::Float(value) => format!("{value:?}"),
        Cell::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Cell::Time(time) => format!("'2013-01-{:02}'", (time - YEAR_2013) / DAY + 1),
    }
}

fn as_truth(cell: &Cell) -> Option<bool> {
    if let Cell::Truth(value) = cell { Some(*value) } else { None }
}

fn and(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn or(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    and(left.map(|left| !left), right.map(|right| !right)).map(|both| !both)
}

fn infix(left: &Cell, op: &str, right: &Cell) -> Cell {
    match op {
        "AND" => and(as_truth(left), as_truth(right)).map_or(Cell::Null, Cell::Truth),
        "OR" => or(as_truth(left), as_truth(right)).map_or(Cell::Null, Cell::Truth),
        "+" | "-" | "*" | "/" | "%" => arithmetic(left, op, right),
        _ => order(left, right).map_or(Cell::Null, |order| {
            Cell::Truth(match op {
                "=" => order == Ordering::Equal,
                "<>" => order != Ordering::Equal,
                "<" => order == Ordering::Less,
                "<=" => order != Ordering::Greater,
                ">" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }),
    }
}

fn order(left: &Cell, right: &Cell) -> Option<Ordering> {
    match (left, right) {
        (Cell::Truth(left), Cell::Truth(right)) => Some(left.cmp(right)),
        (Cell::Integer(left), Cell::Integer(right)) | (Cell::Time(left), Cell::Time(right)) => Some(left.cmp(right)),
        (Cell::Float(left), Cell::Float(right)) => left.partial_cmp(right),
        (Cell::Text(left), Cell::Text(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
        (Cell::Integer(left), Cell::Float(right)) => Some(mixed(*left, *right)),
        (Cell::Float(left), Cell::Integer(right)) => Some(mixed(*right, *left).reverse()),
        _ => None,
    }
}

/// By whole part in i128, which saturates beyond every i64, then by fraction.
fn mixed(integer: i64, float: f64) -> Ordering {
    let floor = float.floor();
    let fraction = if float > floor { Ordering::Less } else { Ordering::Equal };
    i128::from(integer).cmp(&(floor as i128)).then(fraction)
}

fn arithmetic(left: &Cell, op: &str, right: &Cell) -> Cell {
    if let (Cell::Integer(left), Cell::Integer(right), true) = (left, right, op != "/") {
        let (left, right) = (i128::from(*left), i128::from(*right));
        let wide = match op {
            "+" => left + right,
            "-" => left - right,
            "*" => left * right,
            _ if right == 0 => return Cell::Null,
            _ => left % right,
        };
        return i64::try_from(wide).map_or(Cell::Null, Cell::Integer);
    }
    let float = |cell: &Cell| match cell {
        Cell::Integer(value) => Some(*value as f64),
        Cell::Float(value) => Some(*value),
        _ => None,
    };
    let (Some(left), Some(right)) = (float(left), float(right)) else { return Cell::Null };
    let result = match op {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        "/" if right == 0.0 => return Cell::Null,
        "/" => left / right,
        _ => left % right,
    };
    if result.is_nan() { Cell::Null } else { Cell::Float(result) }
}

fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|skip| like(&text[skip..], rest)),
        Some((wanted, rest)) => {
            text.split_first().is_some_and(|(found, others)| (*wanted == '_' || wanted == found) && like(others, rest))
        }
    }
}

fn integer_cell() -> BoxedStrategy<Cell> {
    prop_oneof![-3i64..4, Just(i64::MIN), Just(i64::MAX), Just((1 << 53) + 1), any::<i64>()]
        .prop_map(Cell::Integer)
        .boxed()
}

fn float_cell() -> BoxedStrategy<Cell> {
    prop_oneof![
        (-6i32..7).prop_map(|half| f64::from(half) / 2.0),
        Just(-0.0),
        Just(9_007_199_254_740_992.0),
        Just(1e300),
        any::<f64>().prop_map(|value| if value.is_finite() { value } else { 0.5 }),
    ]
    .prop_map(Cell::Float)
    .boxed()
}

fn text_cell() -> BoxedStrategy<Cell> {
    prop::sample::select(vec!["", "a", "A", "ab", "it's", "é"]).prop_map(|text| Cell::Text(text.to_owned())).boxed()
}

fn time_cell() -> BoxedStrategy<Cell> {
    (0i64..9).prop_map(|day| Cell::Time(YEAR_2013 + day * DAY)).boxed()
}

fn or_null(cell: BoxedStrategy<Cell>) -> BoxedStrategy<Cell> {
    prop_oneof![1 => Just(Cell::Null), 4 => cell].boxed()
}

fn row() -> impl Strategy<Value = Vec<Cell>> {
    (
        time_cell(),
        or_null(integer_cell()),
        or_null(float_cell()),
        or_null(any::<bool>().prop_map(Cell::Truth).boxed()),
        or_null(text_cell()),
        or_null(text_cell()),
        integer_cell(),
    )
        .prop_map(|(time, i, f, b, s, t, full)| vec![time, i, f, b, s, t, full])
}

fn number() -> BoxedStrategy<Node> {
    let leaf = prop_oneof![
        prop::sample::select(vec![1, 2, 6]).prop_map(Node::Column),
        or_null(integer_cell()).prop_map(Node::Literal),
        float_cell().prop_map(Node::Literal),
    ];
    leaf.prop_recursive(3, 10, 2, |inner| {
        let op = prop::sample::select(vec!["+", "-", "*", "/", "%"]);
        prop_oneof![
            1 => inner.clone().prop_map(|of| Node::Negative(of.into())),
            3 => (inner.clone(), op, inner).prop_map(|(left, op, right)| Node::Infix(left.into(), op, right.into())),
        ]
    })
    .boxed()
}

fn text() -> BoxedStrategy<Node> {
    prop_oneof![
        3 => (4usize..6).prop_map(Node::Column),
        1 => or_null(text_cell()).prop_map(Node::Literal),
    ]
    .boxed()
}

/// Every form over operands and list items of one type.
fn tests_of(operand: BoxedStrategy<Node>, item: BoxedStrategy<Cell>) -> BoxedStrategy<Node> {
    let op = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let list = prop::collection::vec(or_null(item), 1..4);
    prop_oneof![
        (operand.clone(), op, operand.clone()).prop_map(|(left, op, right)| Node::Infix(left.into(), op, right.into())),
        (operand.clone(), any::<bool>()).prop_map(|(of, negated)| Node::Is(of.into(), negated, "NULL")),
        (operand.clone(), any::<bool>(), list).prop_map(|(of, negated, list)| Node::In(of.into(), negated, list)),
        (operand.clone(), any::<bool>(), operand.clone(), operand).prop_map(|(of, negated, low, high)| Node::Between(
            of.into(),
            negated,
            low.into(),
            high.into()
        )),
    ]
    .boxed()
}

/// A time is compared with the column only: between literals alone nothing says that they are times.
fn time_test() -> BoxedStrategy<Node> {
    let op = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let time = || time_cell().prop_map(|cell| Box::new(Node::Literal(cell)));
    let column = || Box::new(Node::Column(0));
    let list = prop::collection::vec(or_null(time_cell()), 1..4);
    prop_oneof![
        (op.clone(), time()).prop_map(move |(op, time)| Node::Infix(column(), op, time)),
        (op, time()).prop_map(move |(op, time)| Node::Infix(time, op, column())),
        (any::<bool>(), time(), time()).prop_map(move |(negated, low, high)| Node::Between(
            column(),
            negated,
            low,
            high
        )),
        (any::<bool>(), list).prop_map(move |(negated, list)| Node::In(column(), negated, list)),
    ]
    .boxed()
}

fn condition() -> BoxedStrategy<Node> {
    let leaf = prop_oneof![
        Just(Node::Column(3)),
        or_null(any::<bool>().prop_map(Cell::Truth).boxed()).prop_map(Node::Literal),
        tests_of(number(), prop_oneof![integer_cell(), float_cell()].boxed()),
        tests_of(text(), text_cell()),
        time_test(),
        (text(), any::<bool>(), "[aAé%_]{0,4}").prop_map(|(of, negated, pattern)| Node::Like(
            of.into(),
            negated,
            pattern
        )),
    ];
    leaf.prop_recursive(4, 20, 2, |inner| {
        let op = prop::sample::select(vec!["AND", "OR", "AND", "OR", "=", "<>", "<", ">="]);
        let what = prop::sample::select(vec!["TRUE", "FALSE", "UNKNOWN", "NULL"]);
        let truths = prop::collection::vec(or_null(any::<bool>().prop_map(Cell::Truth).boxed()), 1..3);
        prop_oneof![
            inner.clone().prop_map(|of| Node::Not(of.into())),
            (inner.clone(), any::<bool>(), what).prop_map(|(of, negated, what)| Node::Is(of.into(), negated, what)),
            (inner.clone(), any::<bool>(), truths).prop_map(|(of, negated, list)| Node::In(of.into(), negated, list)),
            (inner.clone(), op, inner).prop_map(|(left, op, right)| Node::Infix(left.into(), op, right.into())),
        ]
    })
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn planned_filters_agree_with_the_rows(node in condition(), rows in prop::collection::vec(row(), 0..20)) {
        let text = node.sql();
        let filter = plan_filter(&text, &StreamColumns { time: TIME, fields: &fields() }, parse_time)
            .map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let expected: Vec<usize> =
            (0..rows.len()).filter(|row| node.value(&rows[*row]) == Cell::Truth(true)).collect();
        prop_assert_eq!(Batch { rows }.passing(&filter), expected, "{}", text);
        // Folding may drop a column, but a filter never reads one that readers were not told of.
        let told: Vec<String> = columns_of(&text).unwrap().into_iter().map(|column| column.name).collect();
        for index in filter.columns() {
            prop_assert!(told.contains(&fields()[*index].name), "{}", text);
        }
    }
}
