//! What became of connections, for the summary; and how many there are, for the limits.
//!
//! What became of events is counted by the shards.

use std::collections::HashMap;
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
    /// Connections and sessions that were refused for any reason.
    pub refused: AtomicU64,
    /// The last reason, for people.
    last: Mutex<Option<String>>,
}

impl NetCounts {
    /// Counts a refusal.
    pub fn refuse(&self, reason: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut last) = self.last.lock() {
            *last = Some(reason.to_owned());
        }
    }

    /// A sentence for the summary.
    pub fn text(&self) -> String {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (accepted, opened, refused) = (count(&self.accepted), count(&self.opened), count(&self.refused));
        let mut text = format!("{accepted} connections, {opened} sessions, {refused} refused");
        if let Some(last) = self.last.lock().ok().and_then(|mut last| last.take()) {
            text.push_str(&format!("; the last: {last}"));
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
    pub fn enter(self: &Arc<Gate>, address: IpAddr) -> Result<Permit, &'static str> {
        let Ok(mut open) = self.open.lock() else { return Err("the count of connections is lost") };
        if open.values().map(|count| *count as usize).sum::<usize>() >= self.connections_max {
            return Err("there are as many connections as there may be");
        }
        let count = open.entry(address).or_default();
        if *count >= self.per_address_max {
            return Err("there are as many connections from this address as there may be");
        }
        *count += 1;
        Ok(Permit { gate: Arc::clone(self), address })
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
        assert!(gate.enter(here).is_err());
        let _third = gate.enter(there).expect("room");
        assert!(gate.enter(there).is_err());
        drop(first);
        assert!(gate.enter(here).is_ok());
    }
}
