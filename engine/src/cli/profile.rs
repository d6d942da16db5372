//! Arguments of profiles.

use crate::config;
use crate::units;
use clap::Args;
use corefold_aggregator::time::Duration;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Shorter ones have few samples; longer ones fill memory and are hard to read.
const LENGTH: RangeInclusive<Duration> = config::micros(100_000)..=config::micros(600_000_000);

/// What is profiled, and where that goes.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub struct ProfileArgs {
    /// Profile from the start: flame graphs per thread (SVG) and a timeline (Perfetto JSON) of the same seconds. At any
    /// time the signal SIGUSR2 takes another one
    #[arg(long, help_heading = "Profile")]
    pub profile: bool,

    /// How long a profile takes
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_length, help_heading = "Profile")]
    pub profile_for: Duration,

    /// Where profiles go: each into a directory `profile-N` of its own
    #[arg(long, value_name = "DIR", default_value = "corefold-profile", help_heading = "Profile")]
    pub profile_dir: PathBuf,
}

fn parse_length(text: &str) -> Result<Duration, String> {
    units::parse_duration_within(text, LENGTH)
}
