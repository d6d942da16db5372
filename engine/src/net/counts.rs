//! What became of connections, for the summary; and how many there are, for the limits.
//!
//! What became of events is counted by the shards.

use super::reasons::Reason;
use std::collections::HashMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Connections of an engine.
#[derive(Debug, Default)]
pub struct NetCounts {
    /// Accepted.
    pub accepted: AtomicU64,
    /// Sessions that were opened.
    pub opened: AtomicU64,
    refused: [Refused; Reason::ALL.len()],
}

/// Connections and sessions that were refused for one reason.
#[derive(Debug, Default)]
struct Refused {
    count: AtomicU64,
    /// The latest, for people.
    latest: Mutex<String>,
}

impl NetCounts {
    /// Counts a refusal of a client at `address`.
    pub fn refuse(&self, reason: Reason, address: IpAddr, text: &str) {
        let refused = &self.refused[reason as usize];
        // A shard's core waits for nobody: whoever finds another one writing leaves its text.
        if let Ok(mut latest) = refused.latest.try_lock() {
            latest.clear();
            // Writing to a string does not fail.
            let _ = write!(latest, "{address}: {text}");
        }
        refused.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a reason came.
    pub fn count(&self, reason: Reason) -> u64 {
        self.refused[reason as usize].count.load(Ordering::Relaxed)
    }

    /// Who was refused last for a reason, and what was said.
    pub fn latest(&self, reason: Reason) -> String {
        self.refused[reason as usize].latest.lock().map(|latest| latest.clone()).unwrap_or_default()
    }

    /// A sentence for the summary.
    pub fn text(&self) -> String {
        let (accepted, opened) = (self.accepted.load(Ordering::Relaxed), self.opened.load(Ordering::Relaxed));
        let counts = Reason::ALL.map(|reason| (reason, self.count(reason)));
        let refused: u64 = counts.iter().map(|(_, count)| count).sum();
        let mut text = format!("{accepted} connections, {opened} sessions, {refused} refused");
        let mut separator = ": ";
        for (reason, count) in counts.iter().filter(|(_, count)| *count > 0) {
            let _ = write!(text, "{separator}{} {count}", reason.name());
            separator = ", ";
        }
        text
    }
}

/// How many connections one address has.
#[derive(Debug)]
pub struct Gate {
    connections_max: usize,
    per_address_max: u32,
    open: Mutex<HashMap<IpAddr, u32>>,
}

/// Counts a connection until it is dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Gate {
    /// A gate for so many connections.
    pub fn new(connections_max: u32, per_address_max: u32) -> Arc<Gate> {
        Arc::new(Gate { connections_max: connections_max as usize, per_address_max, open: Mutex::default() })
    }

    /// Lets a connection in, or says why not.
    pub fn enter(self: &Arc<Gate>, address: IpAddr) -> Result<Permit, (Reason, &'static str)> {
        let Ok(mut open) = self.open.lock() else {
            return Err((Reason::System, "the count of connections is lost"));
        };
        if open.values().map(|count| *count as usize).sum::<usize>() >= self.connections_max {
            return Err((Reason::Connections, "there are as many connections as there may be"));
        }
        let count = open.entry(address).or_default();
        if *count >= self.per_address_max {
            let text = "there are as many connections from this address as there may be";
            return Err((Reason::AddressConnections, text));
        }
        *count += 1;
        Ok(Permit { gate: Arc::clone(self), address })
    }
}

impl Permit {
    /// Of the client.
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Ok(mut open) = self.gate.open.lock()
            && let Some(count) = open.get_mut(&self.address)
        {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_counts_by_address_and_in_all() {
        let gate = Gate::new(3, 2);
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 0, 0, 1]));
        let first = gate.enter(here).expect("room");
        let _second = gate.enter(here).expect("room");
        assert_eq!(gate.enter(here).map_err(|(reason, _)| reason).err(), Some(Reason::AddressConnections));
        let _third = gate.enter(there).expect("room");
        assert_eq!(gate.enter(there).map_err(|(reason, _)| reason).err(), Some(Reason::Connections));
        drop(first);
        assert!(gate.enter(here).is_ok());
    }

    #[test]
    fn refusals_are_counted_by_reason() {
        let (counts, here) = (NetCounts::default(), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(counts.text(), "0 connections, 0 sessions, 0 refused");
        for (reason, text) in [(Reason::Gap, "a"), (Reason::HelloTimeout, "b"), (Reason::Gap, "c")] {
            counts.refuse(reason, here, text);
        }
        assert_eq!(counts.text(), "0 connections, 0 sessions, 3 refused: hello timeout 1, gap 2");
        assert_eq!((counts.count(Reason::Gap), counts.latest(Reason::Gap)), (2, "127.0.0.1: c".to_owned()));
    }
}
