//! The events of a workload as columns, from a seed. What is done with them is not here.

/// One second of event time, in microseconds: the length of a pane.
pub const PANE: i64 = 1_000_000;

/// How long the events go on.
const SECONDS: i64 = 60;

/// How keys are drawn.
#[derive(Clone, Copy)]
pub enum Keys {
    /// Each of so many with the same chance.
    Uniform(usize),
    /// The chance of the n-th is in proportion to 1/n.
    Zipf(usize),
}

/// Events in order of time.
pub struct Columns {
    pub times: Vec<i64>,
    pub keys: Vec<i64>,
    pub values: Vec<f64>,
}

impl Columns {
    /// `events` events over a minute.
    pub fn new(events: usize, keys: Keys) -> Columns {
        let mut dice = Dice(0x2545_f491_4f6c_dd1d);
        let count = match keys {
            Keys::Uniform(count) | Keys::Zipf(count) => count,
        };
        let mut names: Vec<i64> = (0..count as i64).collect();
        for at in (1..count).rev() {
            names.swap(at, dice.below(at as u64 + 1) as usize);
        }
        let mut sums: Vec<f64> = (1..=count).map(|rank| 1.0 / rank as f64).collect();
        for at in 1..count {
            sums[at] += sums[at - 1];
        }
        let draw = |dice: &mut Dice| match keys {
            Keys::Uniform(count) => names[dice.below(count as u64) as usize],
            Keys::Zipf(_) => {
                let drawn = dice.unit() * sums[count - 1];
                names[sums.partition_point(|&sum| sum < drawn).min(count - 1)]
            }
        };
        Columns {
            times: (0..events as i64).map(|event| event * SECONDS * PANE / events as i64).collect(),
            keys: (0..events).map(|_| draw(&mut dice)).collect(),
            values: (0..events).map(|_| (dice.unit() * 1e5).floor() / 100.0).collect(),
        }
    }
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
