//! Row 21: inputs that are no rows. A job says where, and goes on when the input is as it should be; or it skips and
//! counts what it cannot read.
//!
//! Each message for each kind of fault is held in the engine's tests of bad input; here faults come in numbers.

use super::confined::refused;
use crate::entropy::Entropy;
use crate::generate::{DataSet, Order, generate};
use crate::live::child::Running;
use crate::live::job::PATIENCE;
use crate::live::{Checked, Setting, Stop, ensure, fail};
use crate::workload::Format;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Rows of a sound input.
const ROWS: u64 = 3_000;

/// What a run under one policy came to.
#[derive(Default)]
struct Tally {
    tried: u64,
    refused: u64,
    answered: u64,
    skipped_rows: u64,
}

/// Row 21.
pub fn garbage(setting: &Setting) -> Checked<String> {
    let base = setting.scratch.join("row-21");
    fs::create_dir_all(&base)?;
    let times = setting.times(60, 3_000);
    let mut entropy = Entropy::new(setting.seed ^ 21);
    let mut sound = Vec::new();
    for format in Format::ALL {
        let path = base.join(format!("sound.{}", format.name()));
        generate(&order(format, setting.seed), &path)?;
        sound.push((format, fs::read(&path)?));
    }
    let mut tally = Tally::default();
    for round in 0..times {
        let (format, bytes) = &sound[round as usize % sound.len()];
        let damaged = damage(bytes, &mut entropy);
        let input = base.join(format!("damaged.{}", format.name()));
        fs::write(&input, &damaged)?;
        for policy in ["fail", "skip"] {
            try_input(setting, &base, &input, policy, &mut tally).or_else(|stop| {
                // Kept, so that it can be seen again.
                let kept = base.join(format!("found-{round}.{}", format.name()));
                fs::write(&kept, &damaged)?;
                fail(format!("{} with {policy}: {stop}", kept.display()))
            })?;
        }
    }
    let Tally { tried, refused, answered, skipped_rows } = tally;
    fs::remove_dir_all(base)?;
    Ok(format!(
        "{tried} runs over {times} damaged CSV, NDJSON, Parquet and Arrow files: {refused} refused with code 65 and the \
         file, {answered} answered with a balanced ledger ({skipped_rows} rows skipped and counted); no panic, no crash"
    ))
}

fn order(format: Format, seed: u64) -> Order {
    let (keys, span_ms) = (100, 86_400_000);
    Order { data_set: DataSet::FlightsLike, rows: ROWS, keys, zipf: 1.0, span_ms, disorder_ms: 600_000, seed, format }
}

/// A few of: flipped bits, bytes of another kind, a piece missing, doubled or moved, an end that is cut, a huge field.
fn damage(sound: &[u8], entropy: &mut Entropy) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    for _ in 0..1 + entropy.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = entropy.index(bytes.len());
        let length = (1 + entropy.index(200)).min(bytes.len() - at);
        match entropy.below(8) {
            0 | 1 => bytes[at] ^= 1 << entropy.below(8),
            2 => bytes[at] = *entropy.pick(b"\0\xff\"',\n\r{}[]:\\-+eN"),
            3 => bytes[at..at + length].iter_mut().for_each(|byte| *byte = entropy.bits() as u8),
            4 => drop(bytes.drain(at..at + length)),
            5 => {
                let piece = bytes[at..at + length].to_vec();
                let to = entropy.index(bytes.len());
                bytes.splice(to..to, piece);
            }
            6 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, std::iter::repeat_n(b'9', 20_000))),
        }
    }
    bytes
}

fn try_input(setting: &Setting, base: &Path, input: &Path, policy: &str, tally: &mut Tally) -> Checked {
    let output = base.join("out.csv");
    let mut command = Command::new(&setting.corefold);
    command.arg("aggregate").arg(input).args(["--time", "time", "--time-unit", "ms", "--window", "1h"]);
    command.args(["--field", "dep_delay:f64", "--field", "distance:f64", "--null", "NA", "--max-delay", "20m"]);
    command.args(["--by", "carrier", "--agg", "count(), sum(distance), mean(dep_delay)", "--shards", "2"]);
    command.args(["--progress", "never", "--on-error", policy]).arg("--output").arg(&output);
    let ended = Running::start(&mut command, &base.join("stderr"))?.end(PATIENCE)?;
    tally.tried += 1;
    if ended.code != Some(0) {
        let name = input.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // A damaged header may leave columns of other names or types, which is a wrong question as well.
        refused(&ended, &[65, 1], &[&name])?;
        ensure(!output.exists(), || "a refused run left an output".to_owned())?;
        tally.refused += 1;
        return Ok(());
    }
    fs::remove_file(&output)?;
    let ledger = ended.lines_of("ledger").first().cloned().unwrap_or_default();
    let count = |word: &str| -> Result<u64, Stop> {
        let rest = ledger.split_once(word).map(|(_, rest)| rest.trim_start());
        let digits: String = rest.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().or_else(|_| fail(format!("no `{word}` in `{ledger}`")))
    };
    let parts = ["aggregated", "late", "duplicate", "rejected", "shed"];
    let mut sum = 0;
    for part in parts {
        sum += count(part)?;
    }
    ensure(sum == count("received")?, || format!("it does not add up: {ledger}"))?;
    let rejected = count("rejected")?;
    ensure(policy == "skip" || rejected == 0, || format!("skipped unasked: {ledger}"))?;
    tally.skipped_rows += rejected;
    tally.answered += 1;
    Ok(())
}
