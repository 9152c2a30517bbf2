//! Metadata of channels, which administrators set at any of several nodes.

use hyper::Method;
use serde_json::{Value, json};

use super::{
    cluster::{HUBS, Nodes, SECRET, TOKEN},
    eventually,
    web::{Answer, Call},
};

impl Nodes {
    async fn metadata(&self, index: usize, method: Method, hub: &str, channel: &str, value: Value) -> Answer {
        let path = format!("/v1/hubs/{hub}/channels/{channel}/metadata");
        Call::new(self.admins[index], method, &path).token(TOKEN).send(value).await
    }

    async fn put(&self, index: usize, hub: &str, channel: &str, value: Value) {
        let answer = self.metadata(index, Method::PUT, hub, channel, value).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    async fn delete(&self, index: usize, hub: &str, channel: &str) {
        assert_eq!(self.metadata(index, Method::DELETE, hub, channel, json!({})).await.status, 204);
    }

    /// What all that run say of a channel, once they say the same; None: that there is none.
    async fn agreed(&self, hub: &str, channel: &str) -> Option<Value> {
        let mut agreed = None;
        eventually(async || {
            let mut said = Vec::new();
            for index in (0..self.running.len()).filter(|index| self.running[*index].is_some()) {
                let answer = self.metadata(index, Method::GET, hub, channel, json!({})).await;
                said.push((answer.status, (answer.status == 200).then_some(answer.body)));
            }
            said.dedup();
            agreed = said.pop();
            said.is_empty()
        })
        .await;
        let (status, body) = agreed.expect("some run");
        assert!(matches!(status, 200 | 404), "{status}");
        body
    }

    async fn all_show(&self, hub: &str, channel: &str, value: Option<Value>) {
        eventually(async || self.agreed(hub, channel).await.map(|body| body["value"].clone()) == value).await;
    }
}

#[tokio::test]
async fn what_is_set_at_one_node_is_read_at_all() {
    let nodes = Nodes::start(3).await;
    nodes.put(0, "shop", "news", json!({"title": "News"})).await;
    nodes.all_show("shop", "news", Some(json!({"title": "News"}))).await;
    // What came from one node may be changed and removed at others.
    nodes.put(1, "shop", "news", json!({"title": "Late news"})).await;
    nodes.all_show("shop", "news", Some(json!({"title": "Late news"}))).await;
    nodes.delete(2, "shop", "news").await;
    nodes.all_show("shop", "news", None).await;
    // Many at once, at all nodes.
    let names: Vec<_> = (0..30).map(|number| format!("channel{number}")).collect();
    let puts = names.iter().enumerate().map(|(at, name)| nodes.put(at % 3, "shop", name, json!({"at": at})));
    futures_util::future::join_all(puts).await;
    for (at, name) in names.iter().enumerate() {
        nodes.all_show("shop", name, Some(json!({"at": at}))).await;
    }
}

#[tokio::test]
async fn of_writes_at_the_same_time_one_is_left_on_all_nodes() {
    let nodes = Nodes::start(3).await;
    for round in 0..5 {
        let puts = (0..3).map(|index| nodes.put(index, "shop", "news", json!({"round": round, "by": index})));
        futures_util::future::join_all(puts).await;
        eventually(async || {
            let left = nodes.agreed("shop", "news").await;
            left.is_some_and(|left| left["value"]["round"] == round && left["value"]["by"].is_u64())
        })
        .await;
    }
}

#[tokio::test]
async fn a_hub_that_is_removed_and_made_anew_has_none() {
    let nodes = Nodes::start(3).await;
    nodes.set_hub(0, "bank").await;
    nodes.all_have(&["bank"]).await;
    nodes.put(1, "bank", "news", json!({"old": true})).await;
    nodes.all_show("bank", "news", Some(json!({"old": true}))).await;
    nodes.remove_hub(2, "bank").await;
    nodes.all_have(&[]).await;
    nodes.set_hub(1, "bank").await;
    nodes.all_have(&["bank"]).await;
    assert_eq!(nodes.agreed("bank", "news").await, None);
    nodes.put(0, "bank", "news", json!({"old": false})).await;
    nodes.all_show("bank", "news", Some(json!({"old": false}))).await;

    // The same for one that comes from a file.
    nodes.put(0, "shop", "news", json!({"old": true})).await;
    nodes.all_show("shop", "news", Some(json!({"old": true}))).await;
    let file = nodes.folder.path().join("hubs.yaml");
    let hub_is_there = async |index: usize| {
        let call = Call::new(nodes.admins[index], Method::GET, "/v1/hubs/shop").token(TOKEN);
        call.answer().await.status == 200
    };
    for (hubs, there) in [(HUBS.replace("shop", "mall"), false), (HUBS.to_owned(), true)] {
        std::fs::write(&file, hubs).unwrap();
        for index in 0..3 {
            eventually(async || hub_is_there(index).await == there).await;
        }
    }
    assert_eq!(nodes.agreed("shop", "news").await, None);
}

#[tokio::test]
async fn it_is_kept_over_restarts_and_reaches_those_who_were_away() {
    let mut nodes = Nodes::start(3).await;
    nodes.put(0, "shop", "kept", json!({"a": 1})).await;
    nodes.put(0, "shop", "gone", json!({"a": 1})).await;
    nodes.all_show("shop", "kept", Some(json!({"a": 1}))).await;
    nodes.all_show("shop", "gone", Some(json!({"a": 1}))).await;
    nodes.stop(2).await;
    nodes.put(1, "shop", "later", json!({"a": 1})).await;
    nodes.delete(0, "shop", "gone").await;
    nodes.running[2] = Some(nodes.run(2, SECRET).await);
    let kept = async |nodes: &Nodes| {
        nodes.all_show("shop", "kept", Some(json!({"a": 1}))).await;
        nodes.all_show("shop", "later", Some(json!({"a": 1}))).await;
        nodes.all_show("shop", "gone", None).await;
    };
    kept(&nodes).await;
    // So it is with one that has lost its disk, and with all together.
    nodes.stop(2).await;
    std::fs::remove_dir_all(nodes.folder.path().join("node2")).unwrap();
    nodes.running[2] = Some(nodes.run(2, SECRET).await);
    kept(&nodes).await;
    for index in 0..3 {
        nodes.stop(index).await;
    }
    for index in 0..3 {
        nodes.running[index] = Some(nodes.run(index, SECRET).await);
    }
    kept(&nodes).await;
}
