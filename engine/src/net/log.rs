//! Lines about refusals for the log: for each reason the latest one now and then, and how many more there were.
//!
//! Whoever prints them is not here; how often each reason came in all is in [`super::counts`].

use super::counts::NetCounts;
use super::reasons::Reason;
use std::time::Duration;

/// Least time between two lines of one reason.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What has been told.
#[derive(Clone, Debug, Default)]
pub struct NetLog {
    told: [Told; Reason::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// Refusals up to the last line.
    count: u64,
    /// When that line was.
    at: Option<Duration>,
}

impl NetLog {
    /// Says what there is to say at `now`, the time since any fixed moment. However many refusals there are, at most one
    /// line of each reason comes every few seconds; what is left at [`Duration::MAX`].
    pub fn turn(&mut self, now: Duration, counts: &NetCounts, mut say: impl FnMut(&str)) {
        for (reason, told) in Reason::ALL.into_iter().zip(&mut self.told) {
            let count = counts.count(reason);
            if count == told.count || told.at.is_some_and(|at| now < at + LINE_EVERY) {
                continue;
            }
            let more = count - told.count - 1;
            *told = Told { count, at: Some(now) };
            let latest = counts.latest(reason);
            match more {
                0 => say(&format!("refused   {latest}")),
                more => say(&format!("refused   {latest}; and {more} more for the same reason ({})", reason.name())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn lines(log: &mut NetLog, counts: &NetCounts, now_ms: u64) -> Vec<String> {
        let mut lines = Vec::new();
        log.turn(Duration::from_millis(now_ms), counts, |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn a_flood_of_refusals_is_a_line_now_and_then() {
        let (mut log, counts) = (NetLog::default(), NetCounts::default());
        assert!(lines(&mut log, &counts, 0).is_empty());
        counts.refuse(Reason::Protocol, HERE, "no hello");
        assert_eq!(lines(&mut log, &counts, 0), ["refused   127.0.0.1: no hello"]);
        let mut said = 0;
        for now_ms in 1..=12_000 {
            (0..5).for_each(|_| counts.refuse(Reason::Protocol, HERE, "garbage"));
            let lines = lines(&mut log, &counts, now_ms);
            said += lines.len();
            if now_ms == 5_000 {
                assert_eq!(lines, ["refused   127.0.0.1: garbage; and 24999 more for the same reason (protocol)"]);
            }
        }
        assert_eq!(said, 2);
        log.turn(Duration::MAX, &counts, |line| assert!(line.contains("; and 9999 more "), "{line}"));
        assert_eq!(counts.count(Reason::Protocol), 60_001);
    }

    #[test]
    fn each_reason_has_its_own_line() {
        let (mut log, counts) = (NetLog::default(), NetCounts::default());
        for reason in Reason::ALL {
            counts.refuse(reason, HERE, reason.name());
        }
        assert_eq!(lines(&mut log, &counts, 0).len(), Reason::ALL.len());
        counts.refuse(Reason::Gap, HERE, "a gap");
        counts.refuse(Reason::Lanes, HERE, "a lane");
        assert!(lines(&mut log, &counts, 4_999).is_empty());
        assert_eq!(lines(&mut log, &counts, 5_000), ["refused   127.0.0.1: a lane", "refused   127.0.0.1: a gap"]);
    }
}
