//! Over the network: a producer sends batches over loopback to the program `corefold run`, one shard, until they are durable.
//!
//! First as much as is taken, then by a clock at a share of that. Latency counts from the moment at which a batch was due,
//! whether or not anybody was ready for it, to the moment at which the client has heard that it is durable.

pub mod client;
pub mod server;
pub mod templates;

use super::digest::Digest;
use super::files;
use super::params::{ParamSpec, Params};
use super::program::Place;
use super::question;
use super::record::median;
use super::reference::{Reference, Windows};
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use client::{Pace, Sent};
use server::{Job, Server, TlsPair};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use templates::Templates;

/// See the module.
pub struct Network;

/// Runs whose median is the maximum, where no point of this run has found it before.
const MAXIMUM_RUNS: usize = 3;

/// Maxima that points of this process have found, events per second, by everything that they depend on.
static MAXIMA: Mutex<BTreeMap<String, Vec<f64>>> = Mutex::new(BTreeMap::new());

impl Scenario for Network {
    fn name(&self) -> &'static str {
        "network"
    }

    fn about(&self) -> &'static str {
        "batches over loopback to `corefold run`, one shard, until durable: the maximum, and latency at shares of it"
    }

    fn params(&self) -> Vec<ParamSpec> {
        let own = [
            ParamSpec::choice("transport", "tcp", &["tcp", "tls"], "what carries the protocol"),
            ParamSpec::choice("event", "16", &["16", "24"], "bytes of an event: time and key; 24: and a value"),
            question::BATCH,
            ParamSpec::choice("durability", "sync", &["sync", "os", "none"], "what durable means"),
            ParamSpec::count("load", ["100", "100"], [1, 100], "percent of the maximum; 100: closed loop"),
            ParamSpec::count("rate", ["0", "0"], [0, 100_000_000], "events due per second; 0: as `load` says"),
            ParamSpec::span("length", ["5s", "300ms"], "how long is sent in a round"),
            ParamSpec::count("inflight", ["64", "16"], [1, 4_096], "batches that are sent and not durable, at most"),
        ];
        let taken = ["keys", "cardinality", "exponent", "seed", "window", "slide"];
        let asked = question::params().into_iter().filter(|spec| taken.contains(&spec.name));
        own.into_iter().chain(asked.map(|spec| if spec.name == "keys" { KEYS } else { spec })).collect()
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let place = Place::new(setting.scratch.join("network"))?;
        let tls = if params.text("transport")? == "tls" { Some(TlsPair::make(&place.0)?) } else { None };
        let mut prepared = PreparedNetwork {
            templates: Templates::make(params)?,
            windows: question::windows(params)?,
            durability: params.text("durability")?.to_owned(),
            pace: Pace {
                rate: None,
                length: Duration::from_micros(params.micros("length")?.max(1).cast_unsigned()),
                inflight: params.size("inflight")?,
            },
            point: params
                .iter()
                .filter(|(name, _)| !["load", "rate"].contains(name))
                .map(|(_, value)| format!("{value} "))
                .collect(),
            place,
            tls,
            setting: setting.clone(),
            expected: Digest::default(),
        };
        prepared.pace.rate = match (params.count("rate")?, params.count("load")?) {
            (0, 100) => None,
            (0, load) => Some((prepared.maximum()? * load as f64 / 100.0).max(1.0)),
            (rate, _) => Some(rate as f64),
        };
        Ok(Box::new(prepared))
    }
}

/// All at one key would only be another number of keys here.
const KEYS: ParamSpec = ParamSpec::choice("keys", "zipf", &["zipf", "uniform"], "distribution");

struct PreparedNetwork {
    templates: Templates,
    windows: Windows,
    durability: String,
    pace: Pace,
    /// What the maximum depends on.
    point: String,
    place: Place,
    tls: Option<TlsPair>,
    setting: Setting,
    /// Of the last round: how much is sent is known when it is over.
    expected: Digest,
}

/// What a round came to.
struct Outcome {
    sent: Sent,
    memory_peak: u64,
    digest: Digest,
}

impl PreparedNetwork {
    /// Median of what other points have found, or of some runs that are made now.
    fn maximum(&mut self) -> Result<f64, BenchError> {
        let known = |point: &str| MAXIMA.lock().unwrap_or_else(PoisonError::into_inner).get(point).cloned();
        while known(&self.point).is_none_or(|found| found.len() < MAXIMUM_RUNS) {
            let Outcome { sent, digest, .. } = self.run()?;
            self.check(&sent)?;
            if digest != self.expected {
                return Err(BenchError::WrongAnswer {
                    scenario: Network.name().to_owned(),
                    point: "finding the maximum".to_owned(),
                    expected: self.expected,
                    found: digest,
                });
            }
            self.keep_maximum(&sent);
        }
        Ok(median(&known(&self.point).unwrap_or_default()))
    }

    fn keep_maximum(&self, sent: &Sent) {
        let mut maxima = MAXIMA.lock().unwrap_or_else(PoisonError::into_inner);
        maxima.entry(self.point.clone()).or_default().push(sent.rate);
    }

    /// A server with nothing in it, from its start to its end.
    fn run(&self) -> Result<Outcome, BenchError> {
        let place = Place::new(self.place.0.join("run"))?;
        let job = Job {
            durability: &self.durability,
            windows: self.windows,
            has_values: self.templates.has_values,
            cardinality: self.templates.cardinality,
            tls: self.tls.as_ref(),
        };
        let server = Server::start(&job, &self.setting, &place.0)?;
        // The third core where there is one; otherwise that of the coordinator, which has less to do than the shard.
        let _pin = self.setting.cores.pin(if self.setting.cores.order.len() > 2 { 2 } else { 1 })?;
        let sent = client::drive(&server, &self.templates, self.pace, self.tls.as_ref())?;
        let memory_peak = server.memory_peak();
        let results = server.stop()?;
        Ok(Outcome { sent, memory_peak, digest: files::digest("arrow", &results, self.templates.kind())? })
    }

    /// Works out the right answer over what was sent.
    fn check(&mut self, sent: &Sent) -> Result<(), BenchError> {
        let (templates, pace) = (&self.templates, self.pace);
        let mut reference = Reference::new(self.windows, templates.kind(), templates.cardinality, 0);
        for number in 0..sent.batches {
            templates.tell(number, pace.start_of(number, templates.rows), &mut reference)?;
        }
        self.expected = reference.finish()?;
        Ok(())
    }
}

impl Prepared for PreparedNetwork {
    fn expected(&self) -> Digest {
        self.expected
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let Outcome { sent, memory_peak, digest } = self.run()?;
        self.check(&sent)?;
        if self.pace.rate.is_none() && digest == self.expected {
            self.keep_maximum(&sent);
        }
        let us = |quantile| sent.latency.value_at_quantile(quantile) as f64 / 1e3;
        let wire = sent.rate / self.templates.rows as f64 * self.templates.batch_size() as f64;
        let per_million = |seconds: f64| seconds / (sent.events / 1e6).max(1e-9);
        let metrics = vec![
            Metric::rate("durable", "M events/s", sent.rate / 1e6),
            Metric::cost("p50", "us", us(0.5)),
            Metric::cost("p99", "us", us(0.99)),
            Metric::cost("p99.9", "us", us(0.999)),
            Metric::cost("most", "us", sent.latency.max() as f64 / 1e3),
            Metric::rate("on the wire", "MB/s", wire / 1e6),
            Metric::cost("server processor time", "s per M events", per_million(sent.server_cpu_s)),
            Metric::cost("client processor time", "s per M events", per_million(sent.client_cpu_s)),
            Metric::cost("server peak memory", "MB", memory_peak as f64 / 1e6),
        ];
        Ok(Round { metrics, digest, latency: Some(sent.latency) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::params;

    #[test]
    fn there_is_every_parameter_that_is_read() {
        let points = params::points(&Network.params(), &[], true).unwrap();
        let shared = ["keys", "cardinality", "exponent", "seed", "window", "slide", "batch"];
        assert!(shared.iter().all(|name| points[0].text(name).is_ok()));
    }

    #[test]
    fn event_time_is_the_clock_of_an_open_loop() {
        let pace = Pace { rate: Some(1e6), length: Duration::from_secs(1), inflight: 1 };
        assert_eq!(pace.start_of(1_000, 1_000) - pace.start_of(0, 1_000), 1_000_000);
    }
}
