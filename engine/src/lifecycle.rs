//! The lifecycle word: one atomic shared by all cores, moved only by compare-and-swap along a table.
//!
//! What a core does in a state is the core's business and not here.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// Where the engine stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Lifecycle {
    /// Cores are starting, logs are read back.
    Init = 0,
    /// Input is taken.
    Running = 1,
    /// Input waits; all else goes on.
    Paused = 2,
    /// No more input: drain and end.
    Stopped = 3,
}

impl Lifecycle {
    /// Every state.
    pub const ALL: [Lifecycle; 4] = [Lifecycle::Init, Lifecycle::Running, Lifecycle::Paused, Lifecycle::Stopped];

    /// Whether the table allows the move.
    pub const fn may_become(self, next: Lifecycle) -> bool {
        use Lifecycle::{Init, Paused, Running, Stopped};
        matches!((self, next), (Init, Running | Stopped) | (Running, Paused | Stopped) | (Paused, Running | Stopped))
    }

    fn from_word(word: u8) -> Lifecycle {
        Lifecycle::ALL[usize::from(word)]
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lifecycle::Init => "init",
            Lifecycle::Running => "running",
            Lifecycle::Paused => "paused",
            Lifecycle::Stopped => "stopped",
        })
    }
}

/// A move that the table does not allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the engine is {from} and cannot become {to}")]
pub struct LifecycleRefusal {
    /// Where the engine stands.
    pub from: Lifecycle,
    /// Where it was to go.
    pub to: Lifecycle,
}

/// The word itself.
#[derive(Debug)]
pub struct LifecycleWord(AtomicU8);

impl Default for LifecycleWord {
    fn default() -> LifecycleWord {
        LifecycleWord(AtomicU8::new(Lifecycle::Init as u8))
    }
}

impl LifecycleWord {
    /// Where the engine stands now.
    pub fn get(&self) -> Lifecycle {
        // Pairs with the move's release: who sees a state sees all that was done before it.
        Lifecycle::from_word(self.0.load(Ordering::Acquire))
    }

    /// Moves to `next` if the table allows it from wherever the engine stands; returns where it stood.
    pub fn advance(&self, next: Lifecycle) -> Result<Lifecycle, LifecycleRefusal> {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let from = Lifecycle::from_word(word);
            if !from.may_become(next) {
                return Err(LifecycleRefusal { from, to: next });
            }
            match self.0.compare_exchange_weak(word, next as u8, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(from),
                Err(current) => word = current,
            }
        }
    }

    /// Whether no more input is taken.
    pub fn is_stopped(&self) -> bool {
        self.get() == Lifecycle::Stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table, written out: from each state the states that may follow.
    #[test]
    fn the_table_is_exhaustive() {
        use Lifecycle::{Init, Paused, Running, Stopped};
        let allowed = [
            (Init, vec![Running, Stopped]),
            (Running, vec![Paused, Stopped]),
            (Paused, vec![Running, Stopped]),
            (Stopped, vec![]),
        ];
        for (from, nexts) in allowed {
            for to in Lifecycle::ALL {
                let word = LifecycleWord(AtomicU8::new(from as u8));
                let moved = word.advance(to);
                assert_eq!(moved.is_ok(), nexts.contains(&to), "{from} -> {to}");
                assert_eq!(word.get(), if moved.is_ok() { to } else { from });
            }
        }
    }

    #[test]
    fn of_many_cores_one_makes_the_move() {
        let word = LifecycleWord::default();
        let winners: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| word.advance(Lifecycle::Running).is_ok())).collect();
            tries.into_iter().map(|t| usize::from(t.join().unwrap_or(false))).sum()
        });
        assert_eq!(winners, 1);
    }
}
