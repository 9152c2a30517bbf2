//! `cargo xtask dev`: a node to try things with.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::Path,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{Consent, needs, process, root};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    consent: Consent,
    /// Build with optimisation
    #[arg(long)]
    release: bool,
    /// How many nodes share the channels
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: u64,
}

/// Builds the node and becomes it, so that Ctrl-C and signals reach the node itself and its end is this command's end.
pub fn run(options: &Options) -> Result<()> {
    needs::ensure(&[needs::C_COMPILER], &options.consent)?;
    build(options.release)?;
    let program = root::target().join(if options.release { "release" } else { "debug" }).join("appsockets-node");
    if options.nodes > 1 {
        return cluster(&program, options.nodes);
    }
    let address = address(8080)?;
    let data = root::target().join("dev");
    fs::create_dir_all(&data).with_context(|| format!("could not make {}", data.display()))?;

    print!("{}", guide(address));
    let mut node = process::program(program, ["--data"]);
    node.arg(&data).args([
        "--hubs",
        "node/demo/hubs.yaml",
        "--listen",
        &address.to_string(),
        "--admin",
        "127.0.0.1:0",
        "--page",
    ]);
    Err(node.exec()).with_context(|| format!("could not start {}", Path::new(node.get_program()).display()))
}

/// Nodes with neighbouring ports, until one of them ends or Ctrl-C ends all.
fn cluster(program: &Path, nodes: u64) -> Result<()> {
    let mut plan = Vec::new();
    for node in 1..=nodes {
        let port = |base: u16| address(base + node as u16);
        plan.push((node, port(8079)?, port(9079)?, port(7945)?));
    }
    let seeds = plan.iter().map(|(_, _, _, peers)| peers.to_string()).collect::<Vec<_>>().join(",");
    let secret = format!("{:032x}", rand_secret()?);
    let mut running = Vec::new();
    for (node, clients, admin, peers) in &plan {
        let data = root::target().join("dev").join(format!("node{node}"));
        fs::create_dir_all(&data).with_context(|| format!("could not make {}", data.display()))?;
        let mut command = process::program(program, ["--hubs", "node/demo/hubs.yaml", "--page", "--data"]);
        command.arg(&data).args(["--listen", &clients.to_string(), "--admin", &admin.to_string()]);
        command.envs([
            ("APPSOCKETS_CLUSTER__LISTEN", peers.to_string()),
            ("APPSOCKETS_CLUSTER__NODE", node.to_string()),
            ("APPSOCKETS_CLUSTER__EXPECTED_CORE_NODES", nodes.to_string()),
            ("APPSOCKETS_CLUSTER__MEMBERSHIP__SECRET_KEY", secret.clone()),
            ("APPSOCKETS_CLUSTER__RPC__SECRET_KEY", secret.clone()),
            ("APPSOCKETS_DISCOVERY__SEEDS", seeds.clone()),
        ]);
        running.push(command.spawn().with_context(|| format!("could not start {}", program.display()))?);
    }
    print!("{}", cluster_guide(&plan));
    // Ctrl-C reaches all processes of the terminal, so this only waits for them.
    let ended = running.iter_mut().map(|node| node.wait()).collect::<std::io::Result<Vec<_>>>()?;
    anyhow::ensure!(ended.iter().all(|status| status.success()), "a node has failed");
    Ok(())
}

/// Chance from the operating system: the nodes of one run know each other by it.
fn rand_secret() -> Result<u128> {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

fn cluster_guide(plan: &[(u64, SocketAddr, SocketAddr, SocketAddr)]) -> String {
    let nodes: String = plan
        .iter()
        .map(|(node, clients, admin, _)| {
            format!("    node {node}: http://{clients}/   administration: http://{admin}\n")
        })
        .collect();
    format!(
        r#"
{} nodes with the hub "demo" come up. Ctrl-C stops them.

{nodes}
Open two of the addresses in a browser: what is published at one is heard at the other. Stop one node
(`kill` its process) and see its clients go on at another when they connect there.

"#,
        plan.len()
    )
}

fn build(release: bool) -> Result<()> {
    let mut build = process::cargo(["build", "--package", "appsockets-node", "--bin", "appsockets-node"]);
    if release {
        build.arg("--release");
    }
    process::run(&mut build)
}

/// A loopback address of the wanted port, or of a free one where that is taken.
pub fn address(wanted: u16) -> Result<SocketAddr> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr());
    bind(wanted).or_else(|_| bind(0)).context("no port is free on 127.0.0.1")
}

fn guide(address: SocketAddr) -> String {
    format!(
        r#"
A node with the hub "demo" comes up at http://{address}. Ctrl-C stops it, a second one at once.

Open http://{address}/ in a browser: a page that hears the channel "news".

Or listen with curl, and publish from another terminal:

    curl -N 'http://{address}/hubs/demo/sse?channel=news'
    curl http://{address}/hubs/demo/publish -H 'content-type: application/json' \
      -d '{{"publishes": [{{"channel": "news", "event": "greeting", "text": "hello", "extra": {{"store": true}}}}]}}'
    curl 'http://{address}/hubs/demo/history?channel=news'

Or connect a WebSocket tool (pip install websockets) in one or several terminals:

    websockets ws://{address}/hubs/demo/ws

and type:

    {{"event": "Subscribe", "payload": {{"reqID": 1, "channels": [{{"channel": "news"}}]}}}}
    {{"event": "Publish", "payload": {{"publishes": [{{"reqID": 2, "channel": "news", "event": "greeting", "text": "hello"}}]}}}}
    {{"event": "History", "payload": {{"reqID": 3, "channel": "news"}}}}

What the hub allows is in node/demo/hubs.yaml: change it, and see it take effect while the node runs.

"#
    )
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::{address, guide};

    #[test]
    fn a_taken_port_is_avoided() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(address(port).unwrap().port(), port);
    }

    #[test]
    fn what_one_is_told_to_type_is_json() {
        let guide = guide("127.0.0.1:1".parse().unwrap());
        let typed: Vec<_> = guide.lines().map(str::trim).filter(|line| line.starts_with('{')).collect();
        assert_eq!(typed.len(), 3);
        for line in typed {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }
}
