//! Several nodes, each a process of its own, that share their channels.

use std::net::SocketAddr;

use hyper::Method;
use serde_json::{Value, json};

use super::{
    client::{Client, names, text},
    eventually,
    process::{Process, free_addresses},
    restoring::restore,
    sse::Sse,
    web::Call,
};

pub const TOKEN: &str = "a token for administrators";
pub const SECRET: &str = "what nodes show each other";
pub const HUBS: &str = "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true, defaultRules: open}}
---
{kind: ChannelRules, hub: shop, name: open, spec: {allowAnonymous: true, presence: true, occupancy: true}}
---
{kind: ChannelRules, hub: shop, name: plain, spec: {allowAnonymous: true, redundancy: 0}}
---
{kind: Namespace, hub: shop, name: plain, spec: {rules: plain}}
";

/// Nodes of one cluster. Those that were stopped are none.
pub struct Nodes {
    pub folder: tempfile::TempDir,
    peers: Vec<SocketAddr>,
    pub admins: Vec<SocketAddr>,
    /// Whom each node knows from its configuration.
    seeds: Vec<Vec<SocketAddr>>,
    expected: usize,
    pub running: Vec<Option<Process>>,
}

impl Nodes {
    /// So many nodes that have all met.
    pub async fn start(count: usize) -> Nodes {
        let mut nodes = Nodes::plan(count);
        for index in 0..count {
            let process = nodes.run(index, SECRET).await;
            nodes.running.push(Some(process));
        }
        nodes.all_serve().await;
        nodes
    }

    fn plan(count: usize) -> Nodes {
        let (peers, admins) = (free_addresses(count), free_addresses(count));
        let seeds = vec![peers.clone(); count];
        Nodes { folder: tempfile::tempdir().unwrap(), peers, admins, seeds, expected: count, running: Vec::new() }
    }

    pub async fn run(&self, index: usize, secret: &str) -> Process {
        let folder = self.folder.path().join(format!("node{index}"));
        std::fs::create_dir_all(&folder).unwrap();
        let hubs = self.folder.path().join("hubs.yaml");
        std::fs::write(&hubs, HUBS).unwrap();
        let config = json!({
            "engine": {"drainMs": 100},
            "admin": {"listen": self.admins[index], "token": TOKEN},
            "cluster": {
                "listen": self.peers[index],
                "node": index + 1,
                "expectedCoreNodes": self.expected,
                "membership": {"secretKey": "who may be a member"},
                "rpc": {"secretKey": secret},
            },
            "discovery": {"seeds": self.seeds[index]},
        });
        let config: String =
            config.as_object().unwrap().iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        Process::start_with(&folder, &config, Some(&hubs)).await
    }

    async fn status(&self, index: usize) -> Value {
        let call = Call::new(self.admins[index], Method::GET, "/v1/cluster").token(TOKEN);
        call.answer().await.body
    }

    /// What a node counts, by its name in the metrics.
    async fn figure(&self, index: usize, name: &str) -> u64 {
        let metrics = text(&Call::new(self.admins[index], Method::GET, "/metrics").answer().await.body);
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("appsockets_{name} ")));
        line.unwrap_or_else(|| panic!("no {name}: {metrics}")).parse().unwrap()
    }

    /// Waits until all that run are full members of one settled view.
    async fn all_serve(&self) {
        let running: Vec<_> = (0..self.running.len()).filter(|index| self.running[*index].is_some()).collect();
        eventually(async || {
            let mut views = Vec::new();
            for index in &running {
                let status = self.status(*index).await;
                let members = status["view"]["members"].as_array().cloned().unwrap_or_default();
                let full = members.iter().filter(|member| member["points"] == 128).count();
                if status["settled"] != true || full != running.len() || members.len() != running.len() {
                    return false;
                }
                views.push(status["view"]["number"].clone());
            }
            views.dedup();
            views.len() == 1
        })
        .await;
    }

    async fn connect(&self, index: usize) -> Client {
        self.running[index].as_ref().expect("it runs").connect("shop").await
    }

    /// Asks a node to stop, and waits until it has.
    pub async fn stop(&mut self, index: usize) {
        let process = self.running[index].take().expect("it runs");
        process.terminate();
        assert_eq!(process.ended().await.code(), Some(0));
    }

    /// A node of which the channel is.
    async fn owner_of(&self, channel: &str) -> usize {
        let mut client = self.connect(0).await;
        let serial = text(&client.publish(channel, "whose?").await["channelSerial"]);
        // The second part of an epoch is the node's number.
        serial.split('-').nth(1).unwrap().parse::<usize>().unwrap() - 1
    }

    /// Channels of which each node owns one.
    async fn one_of_each(&self, prefix: &str) -> Vec<String> {
        let mut channels = vec![None; self.running.len()];
        for number in 0.. {
            let channel = format!("{prefix}channel {number}");
            let owner = self.owner_of(&channel).await;
            channels[owner].get_or_insert(channel);
            if channels.iter().all(Option::is_some) {
                break;
            }
        }
        channels.into_iter().flatten().collect()
    }
}

fn texts(events: &[(String, Value)]) -> Vec<String> {
    events.iter().filter(|(event, _)| event == "Publish").map(|(_, payload)| text(&payload["text"])).collect()
}

#[tokio::test]
async fn what_is_published_at_one_node_is_heard_at_all() {
    let nodes = Nodes::start(3).await;
    let channels = nodes.one_of_each("").await;
    let names: Vec<&str> = channels.iter().map(String::as_str).collect();
    let mut clients = [nodes.connect(0).await, nodes.connect(1).await, nodes.connect(2).await];
    for client in &mut clients {
        client.subscribe(&names).await;
    }
    for (publisher, channel) in (0..3).flat_map(|publisher| names.iter().map(move |channel| (publisher, *channel))) {
        let message = format!("from {publisher} in {channel}");
        let result = clients[publisher].publish(channel, &message).await;
        for client in &mut clients {
            let heard = client.until_one(|event, payload| event == "Publish" && payload["text"] == *message).await;
            assert_eq!(heard["channelSerial"], result["channelSerial"]);
        }
    }
}

#[tokio::test]
async fn everybody_sees_who_is_present_at_all_nodes() {
    let nodes = Nodes::start(3).await;
    let mut watcher = nodes.connect(0).await;
    watcher.subscribe(&["a"]).await;
    let mut others = Vec::new();
    for index in 1..3 {
        let mut client = nodes.connect(index).await;
        client.subscribe(&["a"]).await;
        let id = client.id();
        watcher.until_one(|event, payload| event == "Join" && names_session(payload, &id)).await;
        others.push(client);
    }
    let call = Call::new(nodes.admins[2], Method::GET, "/v1/hubs/shop/presence?channel=a").token(TOKEN);
    assert_eq!(call.answer().await.body["members"].as_array().map(Vec::len), Some(3));
    let gone = others.pop().unwrap();
    let id = gone.id();
    let mut gone = gone;
    gone.send("Close", json!({})).await;
    watcher.until_one(|event, payload| event == "Leave" && names_session(payload, &id)).await;
}

fn names_session(payload: &Value, id: &str) -> bool {
    payload.to_string().contains(id)
}

#[tokio::test]
async fn a_session_goes_on_at_another_node_when_its_own_is_killed() {
    let mut nodes = Nodes::start(3).await;
    let channels = nodes.one_of_each("").await;
    let names_of: Vec<&str> = channels.iter().map(String::as_str).collect();
    let mut watcher = nodes.connect(0).await;
    let mut lost = nodes.connect(2).await;
    watcher.subscribe(&names_of).await;
    lost.subscribe(&names_of).await;
    let (id, key) = (lost.id(), lost.key.clone());
    let mut known = json!([]);
    for channel in &channels {
        let serial = watcher.publish(channel, "before").await["channelSerial"].clone();
        lost.until_one(|event, payload| event == "Publish" && payload["channelSerial"] == serial).await;
        known.as_array_mut().unwrap().push(json!({"channel": channel, "channelSerial": serial}));
    }
    // Killed, and not asked.
    nodes.running[2] = None;
    for channel in &channels {
        assert_eq!(watcher.publish(channel, "meanwhile").await["success"], true);
    }
    let mut client = nodes.connect(1).await;
    restore(&mut client, &key, known).await;
    let restored = client.until("SessionRestored").await;
    assert_eq!(restored["sessionID"], *id);
    for channel in &channels {
        let position = client.until_one(|event, payload| event == "Position" && payload["channel"] == **channel).await;
        assert_eq!(position["recovered"], true, "{position}");
        client.until_one(|_, payload| payload["channel"] == **channel && payload["text"] == "meanwhile").await;
    }
    assert!(nodes.figure(0, "channels_taken_up_total").await + nodes.figure(1, "channels_taken_up_total").await > 0);
    let heard = watcher.settled().await;
    let left = heard.iter().any(|(event, payload)| event == "Leave" && names_session(payload, &id));
    assert!(!left, "{:?}", names(&heard));
}

#[tokio::test]
async fn a_node_that_reaches_no_majority_goes_on_with_channels_that_have_no_copies() {
    let mut nodes = Nodes::start(3).await;
    let channels = nodes.one_of_each("plain:").await;
    let names_of: Vec<&str> = channels.iter().map(String::as_str).collect();
    let mut client = nodes.connect(0).await;
    client.subscribe(&names_of).await;
    // Killed, and not asked.
    (nodes.running[1], nodes.running[2]) = (None, None);
    for channel in &channels {
        assert_eq!(client.publish(channel, "alone").await["success"], true, "{channel}");
    }
    let position = |event: &str, payload: &Value| event == "Position" && payload["channel"] == *channels[1];
    assert_eq!(client.until_one(position).await["recovered"], false);
    client.until_one(|_, payload| payload["channel"] == *channels[1] && payload["text"] == "alone").await;
    let members = nodes.status(0).await["sideView"]["members"].clone();
    assert_eq!((members[0]["node"].clone(), members.as_array().map(Vec::len)), (json!(1), Some(1)));
    assert_eq!(nodes.figure(0, "cluster_side_members").await, 1);
    for index in 1..3 {
        nodes.running[index] = Some(nodes.run(index, SECRET).await);
    }
    nodes.all_serve().await;
    eventually(async || nodes.status(0).await["sideView"] == Value::Null).await;
    let mut other = nodes.connect(1).await;
    for channel in &channels {
        assert_eq!(other.publish(channel, "together").await["success"], true, "{channel}");
        client.until_one(|_, payload| payload["channel"] == **channel && payload["text"] == "together").await;
    }
}

#[tokio::test]
async fn a_node_that_stops_gives_its_channels_and_sessions_away() {
    let mut nodes = Nodes::start(3).await;
    let channels = nodes.one_of_each("").await;
    let names_of: Vec<&str> = channels.iter().map(String::as_str).collect();
    let mut watcher = nodes.connect(0).await;
    watcher.subscribe(&names_of).await;
    let mut moved = nodes.connect(2).await;
    moved.subscribe(&names_of).await;
    let (id, key) = (moved.id(), moved.key.clone());
    let mut serials = Vec::new();
    for channel in &channels {
        serials.push(text(&watcher.publish(channel, "before").await["channelSerial"]));
    }
    let process = nodes.running[2].take().unwrap();
    process.terminate();
    moved.until("Reconnect").await;
    let mut client = nodes.connect(1).await;
    restore(&mut client, &key, json!([])).await;
    let restored = client.until("SessionRestored").await;
    assert_eq!(restored["sessionID"], *id);
    assert_eq!(process.ended().await.code(), Some(0));
    for (channel, serial) in channels.iter().zip(&serials) {
        let after = text(&watcher.publish(channel, "after").await["channelSerial"]);
        assert_eq!(after.split(':').next(), serial.split(':').next(), "the epoch goes on");
        client.until_one(|_, payload| payload["channel"] == **channel && payload["text"] == "after").await;
    }
    let heard = watcher.settled().await;
    assert!(!heard.iter().any(|(event, payload)| event == "Leave" && names_session(payload, &id)));
    assert!(!texts(&heard).is_empty());
    for node in [0, 1] {
        assert_eq!(nodes.figure(node, "channels_taken_up_total").await, 0);
        assert_eq!(nodes.figure(node, "channels_waiting").await, 0);
    }
    let taken_over = async |nodes: &Nodes, node| nodes.figure(node, "channels_taken_over_total").await;
    assert!(taken_over(&nodes, 0).await + taken_over(&nodes, 1).await > 0);
    // It comes back, and takes its share again.
    nodes.running[2] = Some(nodes.run(2, SECRET).await);
    nodes.all_serve().await;
    assert!(taken_over(&nodes, 2).await > 0);
    assert!(
        nodes.figure(0, "channels_handed_over_total").await + nodes.figure(1, "channels_handed_over_total").await > 0
    );
}

#[tokio::test]
async fn a_node_becomes_an_edge_node_and_a_core_node_again() {
    let nodes = Nodes::start(2).await;
    let set = async |core: bool| {
        let call = Call::new(nodes.admins[1], Method::PUT, "/v1/cluster/role").token(TOKEN);
        assert_eq!(call.send(json!({"core": core})).await.status, 204);
    };
    let members = async |count: usize| {
        eventually(async || {
            let status = nodes.status(0).await;
            status["settled"] == true && status["view"]["members"].as_array().map(Vec::len) == Some(count)
        })
        .await;
    };
    set(false).await;
    members(1).await;
    let mut client = nodes.connect(1).await;
    client.subscribe(&["a"]).await;
    assert_eq!(client.publish("a", "at the edge").await["success"], true);
    set(true).await;
    members(2).await;
}

#[tokio::test]
async fn who_has_another_secret_is_no_member() {
    let mut nodes = Nodes::start(2).await;
    nodes.stop(1).await;
    let denied = || Call::new(nodes.admins[0], Method::GET, "/metrics");
    let stranger = nodes.run(1, "another secret than theirs").await;
    eventually(async || {
        let metrics = text(&denied().answer().await.body);
        let count = metrics.lines().find_map(|line| line.strip_prefix("appsockets_links_denied_total "));
        count.is_some_and(|count| count != "0")
    })
    .await;
    assert_eq!(nodes.status(0).await["view"]["members"].as_array().map(Vec::len), Some(1));
    drop(stranger);
}

impl Nodes {
    /// What an administrator asks of a node. Returns the status.
    async fn ask(&self, index: usize, method: Method, path: &str, body: Value) -> u16 {
        Call::new(self.admins[index], method, path).token(TOKEN).send(body).await.status
    }

    pub async fn set_hub(&self, index: usize, hub: &str) {
        let spec = json!({"defaultPublic": true, "allowAnonymous": true});
        assert_eq!(self.ask(index, Method::PUT, &format!("/v1/hubs/{hub}"), spec).await, 200);
    }

    pub async fn remove_hub(&self, index: usize, hub: &str) {
        assert_eq!(self.ask(index, Method::DELETE, &format!("/v1/hubs/{hub}"), json!({})).await, 204);
    }

    /// Waits until all that run serve the same settings, and these hubs besides the one of the file. Each also knows it
    /// of the others.
    pub async fn all_have(&self, hubs: &[&str]) {
        let hubs: Vec<_> = hubs.iter().copied().chain(["shop"]).collect();
        eventually(async || {
            let mut revisions = Vec::new();
            for index in (0..self.running.len()).filter(|index| self.running[*index].is_some()) {
                let call = Call::new(self.admins[index], Method::GET, "/v1/hubs").token(TOKEN);
                let page = call.answer().await.body;
                let served = page["items"].as_array().unwrap();
                if served.iter().map(|hub| text(&hub["name"])).ne(hubs.iter().map(ToString::to_string)) {
                    return false;
                }
                let status = self.status(index).await;
                revisions.push(status["revision"].clone());
                let others = status["nodes"].as_array().unwrap().iter().filter(|node| node["linked"] == true);
                revisions.extend(others.map(|node| node["revision"].clone()));
            }
            let count = self.running.iter().flatten().count();
            revisions.len() == count * count && revisions.windows(2).all(|two| two[0] == two[1])
        })
        .await;
    }
}

#[tokio::test]
async fn what_an_administrator_sets_at_one_node_is_served_by_all() {
    let nodes = Nodes::start(3).await;
    nodes.set_hub(0, "bank").await;
    nodes.all_have(&["bank"]).await;
    // What came from one node may be changed at another.
    let rules = "/v1/hubs/bank/channel-rules/open";
    assert_eq!(nodes.ask(1, Method::PUT, rules, json!({"presence": true})).await, 200);
    eventually(async || nodes.ask(2, Method::GET, rules, json!({})).await == 200).await;
    nodes.all_have(&["bank"]).await;
    assert_eq!(nodes.ask(2, Method::DELETE, rules, json!({})).await, 204);
    eventually(async || nodes.ask(0, Method::GET, rules, json!({})).await == 404).await;
    // Clients find it everywhere.
    for process in nodes.running.iter().flatten() {
        let mut client = process.connect("bank").await;
        assert_eq!(client.publish("a", "x").await["success"], true);
    }
    nodes.remove_hub(1, "bank").await;
    nodes.all_have(&[]).await;
    // Many at once, at all nodes.
    let names: Vec<_> = (10..40).map(|number| format!("hub{number}")).collect();
    futures_util::future::join_all(names.iter().enumerate().map(|(at, hub)| nodes.set_hub(at % 3, hub))).await;
    nodes.all_have(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn settings_that_change_while_a_node_is_away_reach_it_when_it_is_back() {
    let mut nodes = Nodes::start(3).await;
    nodes.set_hub(0, "bank").await;
    nodes.set_hub(0, "club").await;
    nodes.all_have(&["bank", "club"]).await;
    nodes.stop(2).await;
    nodes.set_hub(0, "later").await;
    nodes.remove_hub(1, "bank").await;
    nodes.all_have(&["club", "later"]).await;
    nodes.running[2] = Some(nodes.run(2, SECRET).await);
    nodes.all_have(&["club", "later"]).await;
    // So it is with one that has lost its disk.
    nodes.stop(2).await;
    nodes.set_hub(1, "more").await;
    std::fs::remove_dir_all(nodes.folder.path().join("node2")).unwrap();
    nodes.running[2] = Some(nodes.run(2, SECRET).await);
    nodes.all_have(&["club", "later", "more"]).await;
}

#[tokio::test]
async fn a_node_that_could_begin_alone_joins_those_who_are_there() {
    let mut nodes = Nodes::plan(3);
    nodes.expected = 1;
    for index in 0..3 {
        let process = nodes.run(index, SECRET).await;
        nodes.running.push(Some(process));
    }
    nodes.all_serve().await;
    assert_eq!(nodes.status(2).await["view"]["members"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn two_clusters_that_meet_become_one() {
    let mut nodes = Nodes::plan(3);
    nodes.expected = 1;
    let [one, two, three] = nodes.peers[..] else { panic!("three were planned") };
    // The first two do not know of each other before the third brings them together.
    nodes.seeds = vec![vec![], vec![three], vec![one, two]];
    for index in 0..2 {
        let process = nodes.run(index, SECRET).await;
        nodes.running.push(Some(process));
        eventually(async || nodes.status(index).await["settled"] == true).await;
    }
    let mut client = nodes.connect(1).await;
    client.subscribe(&["a"]).await;
    let process = nodes.run(2, SECRET).await;
    nodes.running.push(Some(process));
    nodes.all_serve().await;
    // Those who were at the younger one are told to connect again.
    let (close, _) = client.closed().await;
    assert_eq!(close.unwrap()["reconnect"], true);
    assert_eq!(nodes.connect(1).await.publish("a", "again").await["success"], true);
}

#[tokio::test]
async fn a_client_that_only_listens_goes_on_at_another_node() {
    let mut nodes = Nodes::start(3).await;
    let channels = nodes.one_of_each("").await;
    let names_of: Vec<&str> = channels.iter().map(String::as_str).collect();
    let query = super::sse::channels(&names_of);
    let listen = async |address: SocketAddr, last_id: Option<&str>| {
        let call = Call::new(address, Method::GET, &format!("/hubs/shop/sse?{query}"));
        let call = last_id.into_iter().fold(call, |call, id| call.header("last-event-id", id));
        Sse::new(call.begin(String::new()).await)
    };
    let mut stream = listen(nodes.running[2].as_ref().unwrap().address, None).await;
    let mut publisher = nodes.connect(0).await;
    for _ in &channels {
        stream.until("Position").await;
    }
    for channel in &channels {
        publisher.publish(channel, "before").await;
        stream.until("Publish").await;
    }
    let last_id = stream.next_id().await;
    nodes.running[2] = None;
    for channel in &channels {
        assert_eq!(publisher.publish(channel, "meanwhile").await["success"], true);
    }
    let mut stream = listen(nodes.running[1].as_ref().unwrap().address, Some(&last_id)).await;
    let mut missing: std::collections::BTreeSet<_> = channels.iter().cloned().collect();
    while !missing.is_empty() {
        let (event, payload) = stream.next().await.expect("the stream goes on");
        let channel = payload["channel"].as_str().unwrap_or_default();
        match event.as_str() {
            "Position" => assert_ne!(payload["recovered"], false, "{payload}"),
            "Publish" if payload["text"] == "meanwhile" => drop(missing.remove(channel)),
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_administrator_stops_a_node_and_sees_it_go() {
    let mut nodes = Nodes::start(3).await;
    let mut client = nodes.connect(2).await;
    client.subscribe(&["a"]).await;
    let call = |index: usize, method, path: &str| Call::new(nodes.admins[index], method, path).token(TOKEN);
    assert_eq!(call(2, Method::POST, "/v1/stop").answer().await.status, 400, "nothing is stopped by chance");
    let before = call(2, Method::GET, "/v1/stop").answer().await.body;
    assert_eq!((&before["stopping"], &before["points"], &before["sessions"]), (&json!(false), &json!(128), &json!(1)));
    // Nobody forgets a node that is in reach, or that never was.
    for node in ["2", "77", "none"] {
        assert_eq!(call(0, Method::DELETE, &format!("/v1/cluster/nodes/{node}")).answer().await.status, 404);
    }
    assert_eq!(call(2, Method::POST, "/v1/stop").send("{}").await.status, 202);
    client.until("Reconnect").await;
    let during = call(2, Method::GET, "/v1/stop").answer().await.body;
    assert_eq!((&during["stopping"], &during["points"]), (&json!(true), &json!(0)));
    let process = nodes.running[2].take().unwrap();
    drop(client);
    assert_eq!(process.ended().await.code(), Some(0));
    nodes.all_serve().await;
}
