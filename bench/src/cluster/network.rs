//! Network namespaces, so that links between nodes can be cut while clients still reach each.
//!
//! Each node has one interface for clients and one for other nodes, on two bridges. All of it has names of its own, and is
//! removed at the end.

use std::{
    ffi::OsStr,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};

pub struct Network {
    /// The beginning of all names.
    prefix: String,
    count: usize,
}

impl Network {
    /// Two bridges and so many namespaces. Needs the right to make them.
    pub fn build(count: usize) -> Result<Network> {
        let network = Network { prefix: format!("as{}", std::process::id() % 100_000), count };
        network.make().context("namespaces can't be made: run it as root, with iproute2 installed")?;
        Ok(network)
    }

    fn make(&self) -> Result<()> {
        for (bridge, part) in [("c", CLIENTS), ("p", PEERS)] {
            let bridge = self.name(bridge);
            ip(&["link", "add", &bridge, "type", "bridge"])?;
            ip(&["addr", "add", &format!("{}/24", address(part, 254)), "dev", &bridge])?;
            ip(&["link", "set", &bridge, "up"])?;
        }
        for index in 0..self.count {
            let namespace = self.namespace(index);
            ip(&["netns", "add", &namespace])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
            for (kind, part) in [("c", CLIENTS), ("p", PEERS)] {
                let outside = self.name(&format!("{kind}{index}"));
                ip(&["link", "add", &outside, "type", "veth", "peer", "name", kind, "netns", &namespace])?;
                ip(&["link", "set", &outside, "master", &self.name(kind), "up"])?;
                ip(&["-n", &namespace, "addr", "add", &format!("{}/24", address(part, index)), "dev", kind])?;
                ip(&["-n", &namespace, "link", "set", kind, "up"])?;
            }
        }
        Ok(())
    }

    /// Where clients and where other nodes reach a node.
    pub fn addresses(&self, index: usize) -> (IpAddr, IpAddr) {
        (address(CLIENTS, index).into(), address(PEERS, index).into())
    }

    /// Runs a program at the node's place.
    pub fn within(&self, index: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(index)]).arg(program);
        command
    }

    /// Between this node and the others nothing passes any more; or again.
    pub fn cut(&self, index: usize, cut: bool) -> Result<()> {
        let interface = self.name(&format!("p{index}"));
        ip(&["link", "set", &interface, if cut { "down" } else { "up" }])
    }

    /// What this node sends to others gets lost, what they send arrives; or not any more. Its packets go to an address
    /// of the link layer that nobody has.
    pub fn mute(&self, index: usize, mute: bool) -> Result<()> {
        let namespace = self.namespace(index);
        for other in (0..self.count).filter(|other| *other != index) {
            let to = address(PEERS, other).to_string();
            if mute {
                let nobody = ["lladdr", "02:00:00:00:00:99", "nud", "permanent"];
                ip(&[&["-n", &namespace, "neigh", "replace", &to, "dev", "p"][..], &nobody].concat())?;
            } else {
                ip(&["-n", &namespace, "neigh", "del", &to, "dev", "p"])?;
            }
        }
        Ok(())
    }

    fn namespace(&self, index: usize) -> String {
        self.name(&format!("n{index}"))
    }

    fn name(&self, of: &str) -> String {
        format!("{}{of}", self.prefix)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What was not made can't be removed.
        for index in 0..self.count {
            _ = ip(&["netns", "del", &self.namespace(index)]);
            _ = ip(&["link", "del", &self.name(&format!("c{index}"))]);
            _ = ip(&["link", "del", &self.name(&format!("p{index}"))]);
        }
        for bridge in ["c", "p"] {
            _ = ip(&["link", "del", &self.name(bridge)]);
        }
    }
}

/// Parts of the range for benchmarks of networks (RFC 2544).
const CLIENTS: u8 = 18;
const PEERS: u8 = 19;

fn address(part: u8, index: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, part, 77, if index == 254 { 254 } else { index as u8 + 1 })
}

fn ip<S: AsRef<OsStr>>(arguments: &[S]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("`ip` is missing: install iproute2")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip: {}", said.trim());
    Ok(())
}
