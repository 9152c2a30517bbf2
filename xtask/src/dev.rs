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
}

/// Builds the node and becomes it, so that Ctrl-C and signals reach the node itself and its end is this command's end.
pub fn run(options: &Options) -> Result<()> {
    needs::ensure(&[needs::C_COMPILER], &options.consent)?;
    build(options.release)?;
    let address = address(8080)?;
    let data = root::target().join("dev");
    fs::create_dir_all(&data).with_context(|| format!("could not make {}", data.display()))?;

    print!("{}", guide(address));
    let profile = if options.release { "release" } else { "debug" };
    let mut node = process::program(root::target().join(profile).join("appsockets-node"), ["--data"]);
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
