//! The node's figures in the text format of Prometheus.

use std::{
    fmt::{Display, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use appsockets_core::{channel::HubId, code::ErrorCode};
use axum::{extract::State, http::header, response::IntoResponse};

use super::Admin;
use crate::{
    cluster::{Cluster, gossip::Refusal},
    engine::meters::{Figure, Meters},
    settings::Settings,
    tls::Tls,
};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let mut text = Text::default();
    connections(&admin, &mut text);
    tls(&admin.0.tls, &mut text);
    workers(&admin.shared().meters, &mut text);
    moves(&admin.shared().meters, &mut text);
    outcomes(&admin.shared().meters, &mut text);
    if let Some(nats) = admin.shared().auth.nats() {
        text.gauge("nats_connected", "Whether there is a connection to NATS.", nats.is_connected().await.into());
    }
    settings(&admin.shared().settings, &mut text);
    if let Some(cluster) = &admin.shared().cluster {
        self::cluster(cluster, &mut text);
    }
    hubs(admin.shared().hubs.connected(), admin.0.metric_hubs_max, &mut text);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text.0)
}

fn connections(admin: &Admin, text: &mut Text) {
    let connections = &admin.0.connections;
    text.gauge("connections", "Connections that are open.", connections.open() as u64);
    text.counter("connections_refused_total", "Connections refused because of the bound.", connections.refused());
    text.counter("connections_stalled_total", "Connections dropped because they took nothing.", connections.stalled());
    text.counter("connections_violated_total", "Connections that broke the protocol.", connections.violated());
    text.counter("connections_late_total", "Connections dropped because no request came in time.", connections.late());
}

fn tls(listeners: &[Arc<Tls>], text: &mut Text) {
    let sum = |figure: fn(&Tls) -> u64| listeners.iter().map(|tls| figure(tls)).sum();
    text.gauge("tls_handshakes", "TLS handshakes that are under way.", sum(Tls::handshakes));
    text.counter("tls_handshakes_failed_total", "TLS handshakes that failed.", sum(Tls::handshakes_failed));
    text.counter("tls_certificates_refused_total", "New certificates that can't be used.", sum(Tls::refused));
}

fn workers(meters: &Meters, text: &mut Text) {
    text.gauge("sessions", "Sessions, parked ones among them.", meters.sum(Figure::Sessions));
    text.gauge("sessions_parked", "Sessions without a connection.", meters.sum(Figure::Parked));
    text.gauge("channels", "Channels that are open.", meters.sum(Figure::Channels));
    text.counter("received_messages_total", "Messages of clients.", meters.sum(Figure::Received));
    text.counter("received_bytes_total", "Bytes of messages of clients.", meters.sum(Figure::ReceivedBytes));
    text.counter("publishes_accepted_total", "Messages that got a number.", meters.sum(Figure::Accepted));
    let help = "Messages accepted with fewer copies than the rules ask for, because there are too few nodes.";
    text.counter("publishes_uncopied_total", help, meters.sum(Figure::Uncopied));
    text.counter("deliveries_total", "Messages queued for subscribers.", meters.sum(Figure::Deliveries));
    text.counter("delivered_bytes_total", "Bytes queued for subscribers.", meters.sum(Figure::DeliveredBytes));
}

/// How channels change their owners: a planned change shows itself in the first two, a crash in the third.
fn moves(meters: &Meters, text: &mut Text) {
    let mut counter = |name: &str, help: &str, figure| text.counter(name, help, meters.sum(figure));
    counter("channels_handed_over_total", "Channels sealed here for their next owner.", Figure::HandedOver);
    counter(
        "channels_taken_over_total",
        "Channels that go on here in the epoch of the owner before.",
        Figure::TakenOver,
    );
    counter("channels_taken_up_total", "Channels that go on here in a child epoch, from a copy.", Figure::TakenUp);
    counter("epochs_begun_total", "Epochs that began here, child epochs among them.", Figure::Epochs);
    text.gauge("channels_waiting", "Channels whose state is being looked for.", meters.sum(Figure::Waiting));
}

fn outcomes(meters: &Meters, text: &mut Text) {
    text.head("publishes_refused_total", "counter", "Publishes refused, by code.");
    text.by_code("publishes_refused_total", meters.refused());
    let (stored, failed) = meters.stored();
    text.counter("stored_messages_total", "Messages made durable.", stored);
    text.counter("store_failures_total", "Messages that the store did not take.", failed);
    text.counter("authentications_total", "Authentications that succeeded.", meters.authenticated());
    text.head("authentications_refused_total", "counter", "Authentications that failed, by code.");
    text.by_code("authentications_refused_total", meters.not_authenticated());
}

fn settings(settings: &Settings, text: &mut Text) {
    let current = settings.current();
    text.gauge("hubs", "Hubs that there are.", current.hubs.len() as u64);
    // As many bits as the numbers of those who collect them keep.
    let revision = current.revision.0 as u64 & ((1 << 52) - 1);
    text.gauge("settings_revision", "A number for all that the node serves, to compare nodes by.", revision);
    text.counter("hubs_not_made_total", "Hubs not made for a client because of the bound.", settings.not_made());
    text.counter("settings_refused_total", "Resources of other nodes that can't be used.", settings.refused());
}

/// Peers are named by their numbers; of nodes that come and go, only those that are known now have figures.
fn cluster(cluster: &Cluster, text: &mut Text) {
    let status = cluster.status();
    let view = status.view.as_ref();
    text.gauge("cluster_view", "The number of the view; 0 if there is none.", view.map_or(0, |view| view.number));
    text.gauge("cluster_settled_view", "The last view that all members have served.", status.settled);
    text.gauge("cluster_members", "Members of the view.", view.map_or(0, |view| view.members.len() as u64));
    let side = status.side.as_ref().map_or(0, |side| side.members.len() as u64);
    text.gauge("cluster_side_members", "Members of the side view, where no majority is in reach; else 0.", side);
    let points = view.and_then(|view| view.member(cluster.me)).map_or(0, |member| member.points);
    text.gauge("cluster_points", "This node's share of the ring.", u64::from(points));
    text.counter("cluster_views_total", "Views that this node has installed.", status.views_installed);
    let links = &cluster.links;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    text.counter("links_opened_total", "Links that came up.", read(&links.opened));
    text.counter("links_denied_total", "Calls to the peer port without the secret.", read(&links.denied));
    text.counter("links_refused_total", "Calls of nodes that can't be peers.", read(&links.refused));
    text.counter("links_received_frames_total", "Frames that links have brought.", read(&links.received_frames));
    text.counter("links_received_bytes_total", "Bytes that links have brought.", read(&links.received_bytes));
    let gossip = &cluster.gossip;
    text.counter("gossip_sent_total", "Datagrams of gossip that were sent.", read(&gossip.sent));
    text.counter("gossip_sent_bytes_total", "Their bytes.", read(&gossip.sent_bytes));
    text.counter("gossip_not_sent_total", "Datagrams that the system did not send.", read(&gossip.not_sent));
    text.counter("gossip_received_total", "Datagrams that came to the gossip port.", read(&gossip.received));
    text.counter("gossip_received_bytes_total", "Their bytes.", read(&gossip.received_bytes));
    text.head("gossip_refused_total", "counter", "Datagrams that were dropped, by reason.");
    for (refusal, count) in Refusal::ALL.into_iter().zip(&gossip.refused) {
        text.sample("gossip_refused_total", &format!("{{reason=\"{}\"}}", refusal.name()), read(count));
    }
    text.head("link_up", "gauge", "Whether there is a link to the node.");
    text.head("link_waiting_bytes", "gauge", "What waits to be sent to the node.");
    for node in status.nodes.iter().filter(|node| node.linked || node.alive).take(PEERS_MAX) {
        let label = format!("{{node=\"{}\"}}", node.id.node);
        text.sample("link_up", &label, u8::from(node.linked));
        text.sample("link_waiting_bytes", &label, node.waiting);
    }
}

/// Nodes that have figures of their own.
const PEERS_MAX: usize = 100;

/// The hubs with the most connections have a figure each, the rest one together: tenants may be many.
fn hubs(mut connected: Vec<(HubId, u32)>, max: usize, text: &mut Text) {
    connected.sort_unstable_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    let rest = connected.split_off(max.min(connected.len()));
    let rest: u64 = rest.iter().map(|(_, connections)| u64::from(*connections)).sum();
    text.head("hub_connections", "gauge", "Connections of the hubs that have most.");
    for (hub, connections) in &connected {
        text.sample("hub_connections", &format!("{{hub=\"{}\"}}", escape(hub)), connections);
    }
    text.gauge("other_hubs_connections", "Connections of all other hubs.", rest);
}

/// As the format wants it in the value of a label.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.sample(name, "", value);
    }

    fn by_code(&mut self, name: &str, counts: impl Iterator<Item = (ErrorCode, u64)>) {
        for (code, count) in counts.filter(|(_, count)| *count > 0) {
            self.sample(name, &format!("{{code=\"{}\"}}", code.name()), count);
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP appsockets_{name} {help}\n# TYPE appsockets_{name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        self.line(format_args!("appsockets_{name}{labels} {value}"));
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::{Text, hubs};

    #[test]
    fn hubs_beyond_the_budget_are_summed() {
        let mut text = Text::default();
        hubs(vec![("a".into(), 1), ("b\"".into(), 3), ("c".into(), 2)], 1, &mut text);
        assert!(text.0.contains("appsockets_hub_connections{hub=\"b\\\"\"} 3\n"), "{}", text.0);
        assert!(text.0.contains("appsockets_other_hubs_connections 3\n"), "{}", text.0);
        assert_eq!(text.0.matches("{hub=").count(), 1);
    }
}
