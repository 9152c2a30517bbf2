//! Bringing this node's part in its cluster up.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use appsockets_core::cluster::{
    view::NodeId,
    views::{self, Views},
};
use tokio::sync::{mpsc, watch};

use super::{
    driver::{Driver, Parts},
    gossip::{self, Gossip},
    handle::{CONTROLS_MAX, Cluster, Control, Status},
    link::{self, Counters, LinkEvent, Local},
    mail::Workers,
};
use crate::{config::Config, edge::clock, engine::Shared, random};

/// Batches of frames that wait for the cluster's thread.
const EVENTS_MAX: usize = 256;
/// How long a node may be out of another's reach, while both live, before one of them is left out of the view.
const UNREACHABLE_MS: u64 = 1_000;
/// How long an attempt to decide a view may take before the next.
const RETRY_MS: u64 = 100;
/// Views that wait for being settled.
const OPEN_MAX: usize = 8;

/// Who this node is in its cluster, with the sockets at which it is reached.
#[derive(Debug)]
pub struct Identity {
    pub me: NodeId,
    peers: TcpListener,
    gossip: UdpSocket,
    address: SocketAddr,
}

/// What [`Cluster::connect`] leaves for [`Options::start`].
#[derive(Debug)]
pub struct Options {
    identity: Identity,
    control: mpsc::Receiver<Control>,
    status: watch::Sender<Arc<Status>>,
    links: Arc<Counters>,
    gossip_counters: Arc<gossip::Counters>,
}

impl Cluster {
    /// Takes the sockets of a node that is configured to have others, and says who it is.
    ///
    /// # Errors
    /// The address can't be listened on, or nothing says which node this is.
    pub fn bind(config: &Config) -> anyhow::Result<Option<(Cluster, Options)>> {
        let Some(listen) = config.cluster.listen else { return Ok(None) };
        let (peers, gossip) = bind(listen).with_context(|| format!("{listen} can't be listened on"))?;
        let bound = peers.local_addr()?;
        let address = advertised(bound, config.cluster.advertise)?;
        let node = match config.cluster.node {
            0 => own_number(config.cluster.node_offset)?,
            node => node,
        };
        let me = NodeId { node, generation: clock::now().unix_ms };
        let (control, taken) = mpsc::channel(CONTROLS_MAX);
        let status = watch::Sender::new(Arc::new(Status { core: config.cluster.core, ..Status::default() }));
        let links = Arc::new(Counters::default());
        let counters = Arc::new(gossip::Counters::default());
        let (links_too, gossip_too) = (links.clone(), counters.clone());
        let cluster =
            Cluster { me, address, control, status: status.subscribe(), links: links_too, gossip: gossip_too };
        let options = Options {
            identity: Identity { me, peers, gossip, address },
            control: taken,
            status,
            links,
            gossip_counters: counters,
        };
        Ok(Some((cluster, options)))
    }
}

impl Options {
    /// Begins to take part. The workers must run.
    pub fn start(self, config: &Config, shared: &Arc<Shared>) -> anyhow::Result<()> {
        let Options { identity: Identity { me, peers, gossip, address }, control, status, links, gossip_counters } =
            self;
        let (events_in, events) = mpsc::channel::<LinkEvent>(EVENTS_MAX);
        let local = Arc::new(Local {
            me,
            cluster: config.cluster.name.clone(),
            address,
            shards: shared.workers() as u32,
            rpc: config.cluster.rpc.secret_key.clone(),
            core: AtomicBool::new(config.cluster.core),
            leaving: AtomicBool::new(false),
            settings: shared.settings.clone(),
            events: events_in,
            counters: links,
        });
        let gossip = Gossip::start(
            gossip::Options {
                me,
                cluster: config.cluster.name.clone(),
                socket: gossip,
                advertise: address,
                secret: config.cluster.membership.secret_key.clone(),
                seeds: config.discovery.seeds.clone(),
                broadcast: config.discovery.broadcast,
                facts: gossip::Facts {
                    peer: Some(address),
                    core: local.core.load(Ordering::Relaxed),
                    ..Default::default()
                },
            },
            gossip_counters,
        )?;
        let views = Views::new(clock::now(), views_config(config, me));
        let parts = Parts {
            local: local.clone(),
            views,
            workers: Workers::new(shared.clone()),
            gossip,
            seeds: config.discovery.seeds.clone(),
            beacons: config.discovery.broadcast.is_some(),
            control,
            events,
            status,
            runtime: shared.runtime.clone(),
            settings_interval_ms: config.engine.settings_interval_ms,
        };
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(local, peers, parts))
        };
        let run = move || {
            if let Err(error) = run() {
                tracing::error!(%error, "this node's part in the cluster has ended");
            }
        };
        thread::Builder::new().name("cluster".into()).spawn(run)?;
        Ok(())
    }
}

/// The listener of the peers closes last, and with it everything that is under way.
async fn run(local: Arc<Local>, peers: TcpListener, parts: Parts) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(peers)?;
    let (stop, stopped) = watch::channel(false);
    let mut serving = tokio::spawn(link::serve(local, listener, stopped));
    tokio::select! {
        outcome = &mut serving => outcome??,
        () = Driver::new(parts).run() => {}
    }
    stop.send_replace(true);
    serving.abort();
    Ok(())
}

fn views_config(config: &Config, me: NodeId) -> views::message::Config {
    views::message::Config {
        me,
        expected: config.cluster.expected_core_nodes,
        points: config.cluster.points,
        steps: config.cluster.steps,
        chance: random::number(),
        core: config.cluster.core,
        retry_ms: RETRY_MS,
        unreachable_ms: UNREACHABLE_MS,
        open_max: OPEN_MAX,
    }
}

/// TCP and UDP on the same port; port 0 becomes one that is free for both.
fn bind(listen: SocketAddr) -> std::io::Result<(TcpListener, UdpSocket)> {
    const ATTEMPTS: usize = 50;
    const PAUSE: Duration = Duration::from_millis(20);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let bound = TcpListener::bind(listen).and_then(|peers| {
            let gossip = UdpSocket::bind(peers.local_addr()?)?;
            Ok((peers, gossip))
        });
        match bound {
            // A part in the cluster that has just ended may not have let go of its sockets yet.
            Err(error) if error.kind() == ErrorKind::AddrInUse && attempts < ATTEMPTS => thread::sleep(PAUSE),
            bound => {
                let (peers, gossip) = bound?;
                peers.set_nonblocking(true)?;
                gossip.set_nonblocking(true)?;
                return Ok((peers, gossip));
            }
        }
    }
}

/// The address under which others reach this node.
fn advertised(bound: SocketAddr, configured: Option<SocketAddr>) -> anyhow::Result<SocketAddr> {
    let mut address = configured.unwrap_or(bound);
    if address.port() == 0 {
        address.set_port(bound.port());
    }
    if address.ip().is_unspecified() {
        address.set_ip(own_address(bound)?);
    }
    Ok(address)
}

/// The address from which this machine speaks to others. Nothing is sent to find it out.
fn own_address(bound: SocketAddr) -> anyhow::Result<IpAddr> {
    let elsewhere: SocketAddr = if bound.is_ipv4() { ([192, 0, 2, 1], 9).into() } else { "[2001:db8::1]:9".parse()? };
    let any = SocketAddr::new(bound.ip(), 0);
    let address = UdpSocket::bind(any).and_then(|socket| {
        socket.connect(elsewhere)?;
        socket.local_addr()
    });
    Ok(address.context("set `cluster.advertise`: this machine has no address of its own")?.ip())
}

/// A pod of a StatefulSet is called after its number.
fn own_number(offset: u64) -> anyhow::Result<u64> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("the host's name can't be read")?;
    number_of(name.trim(), offset)
}

fn number_of(host: &str, offset: u64) -> anyhow::Result<u64> {
    let Some((_, digits)) = host.rsplit_once('-') else { bail!("set `cluster.node`: {host} ends with no number") };
    let number: u64 = digits.parse().with_context(|| format!("set `cluster.node`: {host} ends with no number"))?;
    let own = number.checked_add(1).and_then(|number| number.checked_add(offset));
    own.with_context(|| format!("set `cluster.node`: {host} ends with too large a number"))
}

#[cfg(test)]
mod tests {
    use super::{advertised, bind, number_of};

    #[test]
    fn a_pod_has_the_number_of_its_name() {
        assert_eq!(number_of("appsockets-0", 0).ok(), Some(1));
        assert_eq!(number_of("shop-hub-12", 0).ok(), Some(13));
        assert_eq!(number_of("shop-edge-0", 1 << 32).ok(), Some((1 << 32) + 1));
        for host in ["laptop", "node-", "node-x", "node-18446744073709551615"] {
            assert!(number_of(host, 0).is_err_and(|error| error.to_string().contains("cluster.node")), "{host}");
        }
    }

    #[test]
    fn both_sockets_have_one_port() {
        let (peers, gossip) = bind(([127, 0, 0, 1], 0).into()).expect("ports are free");
        assert_eq!(peers.local_addr().ok(), gossip.local_addr().ok());
    }

    #[test]
    fn what_others_are_told_can_be_reached() {
        let bound = ([0, 0, 0, 0], 7946).into();
        let told = advertised(bound, Some(([10, 0, 0, 7], 0).into())).expect("it is configured");
        assert_eq!(told, ([10, 0, 0, 7], 7946).into());
        assert_eq!(advertised(([127, 0, 0, 1], 80).into(), None).ok(), Some(([127, 0, 0, 1], 80).into()));
    }
}
