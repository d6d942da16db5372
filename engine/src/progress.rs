//! The progress display: a bar on a terminal, plain lines every few seconds elsewhere.
//!
//! The numbers come from the engine; the summary at the end is in [`crate::summary`].

use crate::export::text::push_time;
use crate::links::Progress;
use crate::units;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Time between plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Time between looks at the numbers for the bar.
const BAR_EVERY: Duration = Duration::from_millis(100);

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgressStyleWanted {
    /// A bar that is drawn over and over.
    Bar,
    /// A line every few seconds.
    Lines,
    /// Nothing.
    Nothing,
}

/// The display.
pub struct ProgressDisplay {
    style: ProgressStyleWanted,
    bar: ProgressBar,
    started: Instant,
    shown: Instant,
    out: Box<dyn Write>,
}

impl ProgressDisplay {
    /// A display on standard error.
    pub fn new(style: ProgressStyleWanted) -> ProgressDisplay {
        let bar = if style == ProgressStyleWanted::Bar {
            let target = if std::io::stderr().is_terminal() {
                ProgressDrawTarget::stderr()
            } else {
                ProgressDrawTarget::term_like(Box::new(Pretended))
            };
            ProgressBar::with_draw_target(None, target)
        } else {
            ProgressBar::hidden()
        };
        let started = Instant::now();
        ProgressDisplay { style, bar, started, shown: started, out: Box::new(std::io::stderr()) }
    }

    /// Shows the numbers if it is time to.
    pub fn show(&mut self, progress: &Progress) {
        let every = match self.style {
            ProgressStyleWanted::Bar => BAR_EVERY,
            ProgressStyleWanted::Lines => LINE_EVERY,
            ProgressStyleWanted::Nothing => return,
        };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let numbers = Numbers::read(progress, self.started.elapsed());
        if self.style == ProgressStyleWanted::Lines {
            // Progress that cannot be shown must not end the job.
            let _ = writeln!(self.out, "{}", numbers.line());
            return;
        }
        if numbers.bytes_total > 0 && self.bar.length() != Some(numbers.bytes_total) {
            self.bar.set_length(numbers.bytes_total);
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}") {
                self.bar.set_style(style.progress_chars("=> "));
            }
        } else if numbers.bytes_total == 0
            && let Ok(style) = ProgressStyle::with_template("{spinner} {msg}")
        {
            self.bar.set_style(style);
        }
        self.bar.set_position(numbers.bytes);
        self.bar.set_message(numbers.line());
        self.bar.tick();
    }

    /// Does something that writes lines of its own, with the bar out of the way.
    pub fn aside(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    /// Takes the bar away, so that what follows starts on a clean line.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Standard error as if it were a terminal: for a bar that is asked for where none can be seen to be one.
#[derive(Debug)]
struct Pretended;

/// Columns of a terminal that cannot be asked.
const PRETENDED_WIDTH: u16 = 120;

impl Pretended {
    fn write(&self, text: &str) -> std::io::Result<()> {
        std::io::stderr().write_all(text.as_bytes())
    }

    fn move_cursor(&self, cells: usize, way: char) -> std::io::Result<()> {
        if cells == 0 { Ok(()) } else { self.write(&format!("\x1b[{cells}{way}")) }
    }
}

impl TermLike for Pretended {
    fn width(&self) -> u16 {
        PRETENDED_WIDTH
    }

    fn move_cursor_up(&self, lines: usize) -> std::io::Result<()> {
        self.move_cursor(lines, 'A')
    }

    fn move_cursor_down(&self, lines: usize) -> std::io::Result<()> {
        self.move_cursor(lines, 'B')
    }

    fn move_cursor_right(&self, columns: usize) -> std::io::Result<()> {
        self.move_cursor(columns, 'C')
    }

    fn move_cursor_left(&self, columns: usize) -> std::io::Result<()> {
        self.move_cursor(columns, 'D')
    }

    fn write_line(&self, text: &str) -> std::io::Result<()> {
        self.write(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> std::io::Result<()> {
        self.write(text)
    }

    fn clear_line(&self) -> std::io::Result<()> {
        self.write("\r\x1b[2K")
    }

    fn flush(&self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// The numbers of one moment.
struct Numbers {
    rows: u64,
    bytes: u64,
    bytes_total: u64,
    watermark: i64,
    elapsed: Duration,
}

impl Numbers {
    fn read(progress: &Progress, elapsed: Duration) -> Numbers {
        Numbers {
            rows: progress.rows.load(Ordering::Relaxed),
            bytes: progress.bytes.load(Ordering::Relaxed),
            bytes_total: progress.bytes_total.load(Ordering::Relaxed),
            watermark: progress.watermark.load(Ordering::Relaxed),
            elapsed,
        }
    }

    fn line(&self) -> String {
        let seconds = self.elapsed.as_secs_f64().max(1e-9);
        let mut line = format!(
            "{} rows, {} rows/s, {}",
            thousands(self.rows),
            thousands((self.rows as f64 / seconds) as u64),
            units::format_size_rounded(self.bytes)
        );
        if self.bytes_total > 0 {
            line += &format!(" of {}", units::format_size_rounded(self.bytes_total));
        }
        if self.watermark != i64::MIN && self.watermark != i64::MAX && self.watermark != 0 {
            let mut time = Vec::new();
            push_time(&mut time, self.watermark);
            line += &format!(", watermark {}", String::from_utf8_lossy(&time));
        }
        if self.bytes > 0 && self.bytes_total > self.bytes {
            let left = seconds * (self.bytes_total - self.bytes) as f64 / self.bytes as f64;
            line += &format!(", {} left", short_time(left));
        }
        line
    }
}

/// `1234567` as `1,234,567`.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as `42s`, `3m 5s` or `2h 7m`.
fn short_time(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_easily() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.2, 59.0, 61.0, 7500.0].map(short_time), ["1s", "59s", "1m 1s", "2h 5m"]);
    }

    #[test]
    fn a_line_tells_rate_share_and_time_left() {
        let numbers = Numbers {
            rows: 20_000,
            bytes: 1 << 20,
            bytes_total: 4 << 20,
            watermark: 1_000_000,
            elapsed: Duration::from_secs(2),
        };
        let line = numbers.line();
        assert!(line.starts_with("20,000 rows, 10,000 rows/s, 1.0 MiB of 4.0 MiB"), "{line}");
        assert!(line.ends_with("watermark 1970-01-01T00:00:01Z, 6s left"), "{line}");
    }
}
