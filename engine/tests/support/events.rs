//! Streams in heavy disorder, from a seed: late rows, nulls, NaN, equal times, sums that cancel.
//!
//! What the engine makes of them is not here.

use std::fmt::Write;

/// Header of every stream made here.
pub const HEADER: &str = "time,key,flag,number,value";

/// A time in the middle of a window of any usual size.
const START: i64 = 1_700_000_123_456_789;

const SECOND: i64 = 1_000_000;

/// SplitMix64, by Steele, Lea and Flood: one word of state, good enough to shuffle.
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next word.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// `rows` rows in CSV. Time moves on by a second or so; one row in three is up to ten minutes behind, one in fifty
/// up to two hours, and now and then a row is a few minutes ahead, which makes all after it later.
pub fn disordered(seed: u64, rows: usize) -> String {
    let mut random = Random::new(seed);
    let mut now = START;
    let mut text = format!("{HEADER}\n");
    for _ in 0..rows {
        now += random.below(2 * SECOND as u64) as i64;
        let behind = match random.below(150) {
            0..50 => random.below(600) as i64,
            50..53 => random.below(7_200) as i64,
            53 => -(random.below(300) as i64),
            _ => 0,
        };
        // Some times are whole seconds, so that equal ones meet.
        let exact = now - behind * SECOND;
        let time = if random.once_in(2) { exact - exact.rem_euclid(SECOND) } else { exact };
        let time = jiff::Timestamp::from_microsecond(time).expect("a time of this century");
        let _ = write!(text, "{time},");
        match random.below(12) {
            0 => text.push(','),
            1 => text.push_str("\"comma, quote \"\" and ü\","),
            key => {
                let _ = write!(text, "key-{},", key * key % 23 + random.below(3));
            }
        }
        text.push_str(["true,", "false,", ","][random.below(3) as usize]);
        if random.once_in(9) {
            text.push(',');
        } else {
            let _ = write!(text, "{},", random.next() as i64 >> (12 + random.below(50)));
        }
        push_value(&mut random, &mut text);
        text.push('\n');
    }
    text
}

/// Values over many magnitudes whose sums depend on the order unless they are exact.
fn push_value(random: &mut Random, text: &mut String) {
    match random.below(20) {
        0 => {}
        1 => text.push_str("NaN"),
        2 => text.push_str("-0.0"),
        3 => text.push_str("1e17"),
        4 => text.push_str("-1e17"),
        kind => {
            let sign = if random.once_in(2) { -1.0 } else { 1.0 };
            let value = sign * random.next() as f64 * 10f64.powi(kind as i32 - 28);
            let _ = write!(text, "{value}");
        }
    }
}
