//! Event time, panes and windows: where an event belongs.
//!
//! Pure arithmetic on integers. Parsing and printing of times is not here; that is the engine's.

use std::fmt;

/// Microseconds since the Unix epoch, UTC.
///
/// Ordinary event times lie in [`EventTime::EARLIEST`]..=[`EventTime::LATEST`] (years 1 to 9999), so sums of
/// a time and a duration of at most [`Duration::MAX`] never overflow. [`EventTime::MIN`] and
/// [`EventTime::MAX`] stand for "before all" and "after all".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EventTime(pub i64);

impl EventTime {
    /// Before every event: a watermark that promises nothing.
    pub const MIN: EventTime = EventTime(i64::MIN);
    /// After every event: the frontier of finished input.
    pub const MAX: EventTime = EventTime(i64::MAX);
    /// 0001-01-01T00:00:00Z, the earliest time an event may have.
    pub const EARLIEST: EventTime = EventTime(-62_135_596_800_000_000);
    /// 9999-12-31T23:59:59.999999Z, the latest time an event may have.
    pub const LATEST: EventTime = EventTime(253_402_300_799_999_999);

    /// Whether an event may carry this time.
    pub const fn is_valid(self) -> bool {
        self.0 >= Self::EARLIEST.0 && self.0 <= Self::LATEST.0
    }

    /// This time moved back by `delay`; [`EventTime::MIN`] and [`EventTime::MAX`] stay themselves.
    pub const fn minus(self, delay: Duration) -> EventTime {
        if self.0 == i64::MIN || self.0 == i64::MAX {
            return self;
        }
        EventTime(self.0.saturating_sub(delay.0))
    }
}

/// A length of event time in microseconds, never negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Duration(i64);

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration(0);
    /// The longest accepted duration: 10,000 years of 366 days.
    pub const MAX: Duration = Duration(10_000 * 366 * 86_400_000_000);

    /// `micros` microseconds; `None` when negative or longer than [`Duration::MAX`].
    pub const fn from_micros(micros: i64) -> Option<Duration> {
        if micros < 0 || micros > Self::MAX.0 { None } else { Some(Duration(micros)) }
    }

    /// The length in microseconds.
    pub const fn micros(self) -> i64 {
        self.0
    }
}

/// Number of a pane of one view: pane `p` covers `[offset + p * length, offset + (p + 1) * length)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PaneId(pub i64);

/// Size, slide and offset of a view's windows, with the pane length that divides both.
///
/// Window `k` covers panes `k * panes_per_slide .. k * panes_per_slide + panes_per_size`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowSpec {
    size: i64,
    slide: i64,
    offset: i64,
    pane: i64,
}

/// Why a window specification is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WindowError {
    /// Size is zero.
    #[error("the window size is zero; it must be at least 1us")]
    SizeZero,
    /// Slide is zero.
    #[error("the window slide is zero; it must be at least 1us")]
    SlideZero,
    /// Slide is longer than size, so some events would be in no window.
    #[error("the window slide is longer than its size, so events between windows would be lost; make slide <= size")]
    SlideLongerThanSize,
    /// One window would consist of too many panes.
    #[error("a window of {panes} panes (size / gcd(size, slide)) exceeds the limit of {max}")]
    TooManyPanes {
        /// Panes that one window would have.
        panes: i64,
        /// The limit, [`crate::limits::PANES_PER_WINDOW_MAX`].
        max: i64,
    },
}

impl WindowSpec {
    /// Windows of `size` every `slide`, aligned to the Unix epoch plus `offset`.
    pub fn new(size: Duration, slide: Duration, offset: Duration) -> Result<WindowSpec, WindowError> {
        if size.0 == 0 {
            return Err(WindowError::SizeZero);
        }
        if slide.0 == 0 {
            return Err(WindowError::SlideZero);
        }
        if slide.0 > size.0 {
            return Err(WindowError::SlideLongerThanSize);
        }
        let pane = gcd(size.0, slide.0);
        let panes = size.0 / pane;
        if panes > crate::limits::PANES_PER_WINDOW_MAX {
            return Err(WindowError::TooManyPanes { panes, max: crate::limits::PANES_PER_WINDOW_MAX });
        }
        // Only the remainder by the slide moves window borders; it also keeps the arithmetic small.
        Ok(WindowSpec { size: size.0, slide: slide.0, offset: offset.0 % slide.0, pane })
    }

    /// Window length in microseconds.
    pub const fn size(&self) -> i64 {
        self.size
    }

    /// Distance between window starts in microseconds.
    pub const fn slide(&self) -> i64 {
        self.slide
    }

    /// Pane length in microseconds: gcd of size and slide.
    pub const fn pane_length(&self) -> i64 {
        self.pane
    }

    /// Shift of window borders against the epoch, in `0..slide` microseconds.
    pub const fn offset(&self) -> i64 {
        self.offset
    }

    /// Panes in one window.
    pub const fn panes_per_size(&self) -> i64 {
        self.size / self.pane
    }

    /// Panes between the starts of neighbouring windows.
    pub const fn panes_per_slide(&self) -> i64 {
        self.slide / self.pane
    }

    /// The pane that holds `time`.
    pub const fn pane_of(&self, time: EventTime) -> PaneId {
        PaneId(time.0.saturating_sub(self.offset).div_euclid(self.pane))
    }

    /// First instant of `pane`.
    pub const fn pane_start(&self, pane: PaneId) -> EventTime {
        EventTime(pane.0.saturating_mul(self.pane).saturating_add(self.offset))
    }

    /// First instant after `pane`.
    pub const fn pane_end(&self, pane: PaneId) -> EventTime {
        self.pane_start(PaneId(pane.0.saturating_add(1)))
    }

    /// The first pane that is *not* closed by a watermark or frontier `time`: every pane below it ends at or before it.
    pub const fn open_from(&self, time: EventTime) -> PaneId {
        if time.0 == i64::MAX {
            return PaneId(i64::MAX);
        }
        if time.0 == i64::MIN {
            return PaneId(i64::MIN);
        }
        self.pane_of(time)
    }

    /// The smallest window number whose window holds `pane`.
    pub const fn first_window_of(&self, pane: PaneId) -> i64 {
        // k * s + n > p  <=>  k > (p - n) / s
        (pane.0 - self.panes_per_size()).div_euclid(self.panes_per_slide()) + 1
    }

    /// The largest window number whose window holds `pane`.
    pub const fn last_window_of(&self, pane: PaneId) -> i64 {
        pane.0.div_euclid(self.panes_per_slide())
    }

    /// First pane of window `k`.
    pub const fn window_first_pane(&self, window: i64) -> PaneId {
        PaneId(window * self.panes_per_slide())
    }

    /// First pane after window `k`.
    pub const fn window_end_pane(&self, window: i64) -> PaneId {
        PaneId(window * self.panes_per_slide() + self.panes_per_size())
    }
}

/// RFC 3339, for messages; result files have their own, faster writer.
impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EventTime::MIN => return f.write_str("the beginning of time"),
            EventTime::MAX => return f.write_str("the end of time"),
            _ => {}
        }
        let (seconds, micros) = (self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000));
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)?;
        if micros != 0 {
            write!(f, ".{micros:06}")?;
        }
        f.write_str("Z")
    }
}

/// Year, month and day of a day counted from the epoch (Hinnant, "chrono-compatible low-level date algorithms").
const fn civil(days: i64) -> (i64, i64, i64) {
    // Years begin in March, so that leap days come last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + (month <= 2) as i64, month, day)
}

const fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(size: i64, slide: i64, offset: i64) -> WindowSpec {
        let d = |x| Duration::from_micros(x).unwrap();
        WindowSpec::new(d(size), d(slide), d(offset)).unwrap()
    }

    /// Every small shape, every small time: the windows found by arithmetic are those found by looking.
    #[test]
    fn windows_of_a_pane_are_those_that_hold_it() {
        for size in 1..=12 {
            for slide in 1..=size {
                for offset in 0..slide {
                    let w = spec(size, slide, offset);
                    for t in -30..30 {
                        let pane = w.pane_of(EventTime(t));
                        assert!(w.pane_start(pane).0 <= t);
                        assert!(t < w.pane_end(pane).0);
                        let by_looking: Vec<i64> =
                            (-60..60).filter(|k| k * slide + offset <= t && t < k * slide + offset + size).collect();
                        let by_arithmetic: Vec<i64> = (w.first_window_of(pane)..=w.last_window_of(pane)).collect();
                        assert_eq!(by_looking, by_arithmetic, "{w:?} t={t}");
                    }
                }
            }
        }
    }

    #[test]
    fn times_read_as_dates() {
        assert_eq!(EventTime(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(EventTime(951_782_400_000_001).to_string(), "2000-02-29T00:00:00.000001Z");
        assert_eq!(EventTime::EARLIEST.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(EventTime::LATEST.to_string(), "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn shapes_that_lose_events_are_refused() {
        let d = |x| Duration::from_micros(x).unwrap();
        assert_eq!(WindowSpec::new(d(0), d(1), d(0)), Err(WindowError::SizeZero));
        assert_eq!(WindowSpec::new(d(1), d(0), d(0)), Err(WindowError::SlideZero));
        assert_eq!(WindowSpec::new(d(1), d(2), d(0)), Err(WindowError::SlideLongerThanSize));
        assert!(matches!(WindowSpec::new(Duration::MAX, d(1), d(0)), Err(WindowError::TooManyPanes { .. })));
    }
}
