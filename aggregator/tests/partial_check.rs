//! Partial aggregates that a disk might give: one lie each, and that honest ones pass.
//!
//! Random lies are the fuzzer's.

use corefold_aggregator::partial::{Partial, PartialError};
use corefold_aggregator::partial_ref::PartialRef;
use corefold_aggregator::rows::Side;
use corefold_aggregator::sketch::exact_sum::SuperSum;
use corefold_aggregator::sketch::quantile::QuantileSketch;
use corefold_aggregator::spec::{AggregateSpec, Field, FieldType, Function, Overflow, StreamSpec, ViewSpec};
use corefold_aggregator::time::{Duration, WindowSpec};
use corefold_aggregator::view::ViewPlan;
use rkyv::util::AlignedVec;

fn plan() -> ViewPlan {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    let stream = StreamSpec {
        name: "s".to_owned(),
        time: "ts".to_owned(),
        delay_max: Duration::ZERO,
        fields: vec![field("k", FieldType::String), field("f", FieldType::F64), field("b", FieldType::Bool)],
    };
    let aggregate = |name: &str, function, field| AggregateSpec { name: name.to_owned(), function, field: Some(field) };
    let second = Duration::from_micros(1_000_000).expect("a duration");
    let spec = ViewSpec {
        name: "v".to_owned(),
        by: vec![0, 2],
        window: WindowSpec::new(second, second, Duration::ZERO).expect("a window"),
        aggregates: vec![
            aggregate("sum", Function::Sum, 1),
            aggregate("min", Function::Min, 0),
            aggregate("median", Function::Quantile(0.5), 1),
        ],
        groups_max: 100,
        overflow: Overflow::Fold,
    };
    ViewPlan::new(&stream, spec).expect("a view")
}

/// Two rows with every kind of side.
fn honest(plan: &ViewPlan) -> Partial {
    let mut partial = Partial { pane: 1_357_000_000, ..Partial::default() };
    for (slot, text) in [(3, "a"), (7, "bc")] {
        let mut key = Vec::new();
        corefold_aggregator::key::push_text(&mut key, text.as_bytes());
        corefold_aggregator::key::push_bool(&mut key, true);
        partial.announce(slot, &key);
        let mut sketch = QuantileSketch::new();
        sketch.add(1.5);
        let handles =
            [partial.sides.add(Side::Text(text.as_bytes().to_vec())), partial.sides.add(Side::Quantile(sketch))];
        let mut row = plan.layout.template.clone();
        row[0] = 1;
        for (&word, handle) in plan.layout.handles.iter().zip(handles) {
            row[word] = handle;
        }
        partial.slots.push(slot);
        partial.words.extend_from_slice(&row);
    }
    let sum = plan.layout.outputs[0].state;
    partial.sides.spills.insert((0, sum as u16), SuperSum::of(&[1e300, 1e-300], None));
    partial
}

#[test]
fn honest_partials_pass() {
    let plan = plan();
    assert_eq!(honest(&plan).verify(&plan), Ok(()));
    assert_eq!(Partial::default().verify(&plan), Ok(()));
}

#[test]
fn what_is_sent_says_what_its_archive_says() {
    let plan = plan();
    let stride = |_| Some(plan.layout.stride);
    let partial = honest(&plan);
    let archived = partial.archive(AlignedVec::new()).unwrap();
    let mut spare = AlignedVec::new();
    spare.extend_from_slice(&[0xee; 4096]);
    let (memory, mut sender) = (spare.as_ptr(), partial.clone());
    let sent = sender.send(spare).unwrap();
    assert_eq!(PartialRef::open(&archived, stride).unwrap(), partial.by_ref());
    assert_eq!(PartialRef::open_sent(&sent, stride).unwrap(), partial.by_ref());
    let first: Vec<u8> = partial.words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert!(sent.starts_with(&first), "rows are ahead");
    // The next rows are written where the spare memory is.
    assert!(sender.words.is_empty());
    sender.words.extend_from_slice(&[7]);
    assert_eq!(sender.words.as_ptr().cast(), memory);
    assert_eq!(sender.words[..], [7]);
    // A disk has archives alone, and rows that are missing are missed.
    let rows_missing = Err(PartialError::Shape("one row per slot"));
    assert_eq!(PartialRef::open(&sent, stride).map(drop), rows_missing);
    let without_rows = Partial { slots: (0..100).collect(), ..Partial::default() };
    let archived = without_rows.archive(AlignedVec::new()).unwrap();
    assert_eq!(PartialRef::open_sent(&archived, stride).map(drop), rows_missing);
}

#[test]
fn each_lie_is_refused() {
    type Lie = fn(&mut Partial, &ViewPlan);
    let lies: &[(&str, Lie)] = &[
        ("a pane of the years", |p, _| p.pane = i64::MAX),
        ("a pane of the years", |p, _| p.pane = i64::MIN),
        ("each slot once", |p, _| p.slots[1] = p.slots[0]),
        ("each slot once", |p, _| p.announced[1] = p.announced[0]),
        ("the slot of all others", |p, _| p.announced[0] = 0),
        ("the slot of all others", |p, _| p.retired.push(0)),
        ("slots with a number", |p, _| p.slots[1] = u32::MAX),
        ("keys of the view's groups", |p, _| p.keys[0] = 9),
        ("keys of the view's groups", |p, _| p.keys[1] = 0xff),
        ("keys of the view's groups", |p, _| p.key_ends[0] -= 1),
        ("each key once", |p, _| {
            let end = p.key_ends[0] as usize;
            p.keys = [&p.keys[..end], &p.keys[..end]].concat();
            p.key_ends[1] = p.keys.len() as u32;
        }),
        ("sketches and texts", |p, _| p.sides.items[0] = Side::Text(vec![0xff])),
        ("states that events", |p, _| p.words[0] = u64::MAX),
        ("states that events", |p, plan| p.words[plan.layout.handles[0]] = 99),
        ("states that events", |p, plan| p.words[plan.layout.handles[0]] = 2),
        ("states that events", |p, plan| p.words[plan.layout.handles[1]] = 1),
        ("spills of sums", |p, _| {
            p.sides.spills.insert((0, 0), SuperSum::new());
        }),
        ("spills of sums", |p, plan| {
            p.sides.spills.insert((2, plan.layout.outputs[0].state as u16), SuperSum::new());
        }),
    ];
    let plan = plan();
    for (number, (expected, lie)) in lies.iter().enumerate() {
        let mut partial = honest(&plan);
        lie(&mut partial, &plan);
        let refusal = partial.verify(&plan).expect_err(&format!("lie {number}")).to_string();
        assert!(refusal.contains(expected), "lie {number}: {refusal}");
    }
}
