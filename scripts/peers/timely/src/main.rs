//! The hopping aggregation on Timely Dataflow, one worker: events in, one operator with the state, rows out.
//!
//!   corefold-peers-timely --data FILE.arrow --window hop|tumble [--check]
//!
//! Time in the dataflow is the number of the pane. The input advances to the pane of each batch's first event; a pane is
//! closed when the frontier has passed it. The state is in `windows.rs`.

mod windows;

use corefold_peers::events::Events;
use corefold_peers::report::{self, Stopwatch};
use corefold_peers::rows::Row;
use corefold_peers::slide::Shape;
use corefold_peers::summary::{ResultRow, Summary};
use serde_json::json;
use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::{Capability, Operator, Probe};
use timely::dataflow::{InputHandle, ProbeHandle};
use windows::Windows;

/// Events per message: small enough to stay in the cache between input and operator.
const BATCH_EVENTS: usize = 4_096;

/// Time in milliseconds, key, value.
type Event = (i64, u64, f64);

struct Arguments {
    data: PathBuf,
    shape: Shape,
    check: bool,
}

fn main() -> ExitCode {
    report::finish("timely", arguments().and_then(run))
}

fn run(arguments: Arguments) -> Result<(), String> {
    let mut report = json!({ "version": "0.32.0" });
    let watch = Stopwatch::start();
    let events = Events::map(&arguments.data)?;
    watch.put(&mut report, "load");
    let watch = Stopwatch::start();
    let (shape, check) = (arguments.shape, arguments.check);
    let summary = timely::execute_directly(move |worker| {
        let mut input = InputHandle::<i64, CapacityContainerBuilder<Vec<Event>>>::new_with_builder();
        let probe = ProbeHandle::new();
        let summary = Rc::new(RefCell::new(Summary::default()));
        let sink = Rc::clone(&summary);
        worker.dataflow::<i64, _, _>(|scope| {
            input
                .to_stream(scope)
                .unary_frontier(Pipeline, "Windows", move |capability, _info| {
                    let mut windows = Windows::new(shape);
                    let mut capability = Some(capability);
                    move |(input, frontier), output| {
                        input.for_each_stamp(|_, messages: std::slice::IterMut<'_, Vec<Event>>| {
                            for message in messages {
                                windows.fold(message);
                                message.clear();
                            }
                        });
                        close(
                            &mut windows,
                            &mut capability,
                            |pane| frontier.less_equal(&pane),
                            |capability, windows| {
                                let mut session = output.session(&*capability);
                                windows.close(|window_ms, key, row| session.give((window_ms, key, row)));
                            },
                        );
                        if frontier.is_empty() && windows.is_done() {
                            capability = None;
                        }
                    }
                })
                .container::<Vec<(i64, u64, Row)>>()
                .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "Sink", move |_, _| {
                    move |input, _output| {
                        input.for_each(|_, rows| take(&mut sink.borrow_mut(), rows, check));
                    }
                })
                .probe_with(&probe);
        });
        for columns in events.iter() {
            let mut rows = columns.times_ms.iter().zip(columns.keys).zip(columns.values).peekable();
            while let Some(((time_ms, _), _)) = rows.peek() {
                input.advance_to(time_ms.div_euclid(shape.slide_ms));
                let batch = rows.by_ref().take(BATCH_EVENTS);
                batch.for_each(|((&time_ms, &key), &value)| input.send((time_ms, key, value)));
                input.flush();
                worker.step();
            }
        }
        input.close();
        while !probe.done() {
            worker.step();
        }
        summary.take()
    });
    watch.put(&mut report, "query");
    report::put_summary(&mut report, &summary, check);
    report::print(&report)
}

/// Closes panes as long as the frontier has passed the next one; windows go out at the time of their last pane.
fn close(
    windows: &mut Windows,
    capability: &mut Option<Capability<i64>>,
    is_open: impl Fn(i64) -> bool,
    mut put: impl FnMut(&mut Capability<i64>, &mut Windows),
) {
    let Some(capability) = capability else { return };
    while let Some(pane) = windows.next() {
        if windows.is_done() || is_open(pane) {
            break;
        }
        capability.downgrade(&pane);
        put(capability, windows);
    }
}

/// What arrives at the end is looked at once, as any consumer would.
fn take(summary: &mut Summary, rows: &mut Vec<(i64, u64, Row)>, check: bool) {
    if check {
        for (window_ms, key, Row { count, sum, min, max }) in rows.drain(..) {
            summary.add(&ResultRow { window_ms, key, count, sum, min, max });
        }
    } else {
        summary.rows += rows.len() as u64;
        summary.events += rows.drain(..).map(|(_, _, row)| row.count).sum::<u64>();
    }
}

fn arguments() -> Result<Arguments, String> {
    let (mut data, mut shape, mut check) = (None, None, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--data" => data = words.next().map(PathBuf::from),
            "--window" => shape = words.next().and_then(|name| Shape::parse(&name)),
            "--check" => check = true,
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    let data = data.ok_or("--data FILE is missing")?;
    let shape = shape.ok_or("--window hop|tumble is missing")?;
    Ok(Arguments { data, shape, check })
}
