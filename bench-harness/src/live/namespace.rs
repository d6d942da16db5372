//! A network of one's own: a namespace behind a pair of virtual interfaces, whose cable can be pulled and slowed down.
//!
//! Guards take it down again. What runs in it is not here.

use super::disk::tool;
use super::{Checked, skip, system};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// See the module.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    here: String,
    there: String,
    network: u8,
}

impl Namespace {
    /// Makes one; needs root and iproute2.
    pub fn new() -> Checked<Namespace> {
        if !system::is_root() {
            return skip("needs root, for a network namespace");
        }
        let process = std::process::id();
        let name = format!("corefold-{process}");
        // Names of interfaces have at most 15 characters.
        let (here, there) = (format!("cfh{process}"), format!("cft{process}"));
        let namespace = Namespace { name, here, there, network: (process % 200) as u8 + 20 };
        let Namespace { name, here, there, .. } = &namespace;
        if let Err(error) = tool("ip", &["netns", "add", name]) {
            return skip(format!("no network namespace: {error}"));
        }
        let made = tool("ip", &["link", "add", here, "type", "veth", "peer", "name", there, "netns", name]);
        if let Err(error) = made {
            return skip(format!("no virtual interfaces: {error}"));
        }
        let (outside, inside) = (format!("{}/30", namespace.ip(1)), format!("{}/30", namespace.ip(2)));
        tool("ip", &["address", "add", &outside, "dev", here])?;
        tool("ip", &["link", "set", here, "up"])?;
        for arguments in [
            &["address", "add", &inside, "dev", there][..],
            &["link", "set", there, "up"],
            &["link", "set", "lo", "up"],
        ] {
            tool("ip", &[&["-n", name][..], arguments].concat())?;
        }
        Ok(namespace)
    }

    fn ip(&self, host: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 213, self.network, host))
    }

    /// An address within, as seen from outside.
    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(2), port)
    }

    /// The words before a command that is to run within.
    pub fn wrapper(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).to_vec()
    }

    /// Pulls the cable: packets are lost, and nobody is told.
    pub fn pull(&self) -> Checked {
        // Down at the far end only, so that addresses and routes of this end stay.
        tool("ip", &["-n", &self.name, "link", "set", &self.there, "down"])?;
        Ok(())
    }

    /// Plugs it in again.
    pub fn plug(&self) -> Checked {
        tool("ip", &["-n", &self.name, "link", "set", &self.there, "up"])?;
        Ok(())
    }

    /// Lets so few bits a second to the server.
    pub fn narrow(&self, rate: &str) -> Checked {
        let shape = ["qdisc", "replace", "dev", &self.here, "root", "tbf", "rate", rate];
        let rest = ["burst", "32kbit", "latency", "100ms"];
        match tool("tc", &[&shape[..], &rest].concat()) {
            Ok(_) => Ok(()),
            Err(error) => skip(format!("no traffic control: {error}")),
        }
    }

    /// As much as goes again.
    pub fn widen(&self) -> Checked {
        tool("tc", &["qdisc", "del", "dev", &self.here, "root"])?;
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The interfaces go with it; each step is tried whatever came of the one before.
        let _ = tool("ip", &["link", "del", &self.here]);
        let _ = tool("ip", &["netns", "del", &self.name]);
    }
}
