//! Clients that do not read: they slow nobody down, and hear of every gap.

use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use super::{
    client::Client,
    in_time,
    presence::members,
    raw::{Raw, TEXT},
    server::{Server, channel_at},
    sse::Sse,
};

const HUBS: &str = "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true, defaultRules: open}}
---
{kind: ChannelRules, hub: shop, name: open, spec: {allowAnonymous: true, presence: true}}
";
const COUNT: usize = 3_000;
/// So many of them are more than the kernel keeps for one connection.
const BYTES: usize = 4_000;

/// A node that keeps so many messages of each channel.
async fn server(kept: usize) -> Server {
    Server::start_with(HUBS, |config| {
        config.connection.ws.msg_send_buffer_size = 16 << 10;
        config.connection.sse.msg_buffer_size = 16 << 10;
        config.connection.write_timeout_ms = 1_000_000;
        config.connection.ws.ping_interval_ms = 1_000_000;
        config.channel.max_live_history_size = kept;
        config.channel.live_history_bytes_max = 1 << 30;
    })
    .await
}

/// Publishes many messages, all of which the reader hears although others do not read.
async fn flood(publisher: &mut Client, reader: &mut Client, channel: &str) {
    let padding = "x".repeat(BYTES);
    for number in 0..COUNT {
        let publish = json!({"channel": channel, "event": number.to_string(), "text": padding});
        publisher.send("Publish", json!({"publishes": [publish]})).await;
        // No more at a time than a connection that is read can take.
        if number % 20 == 19 {
            for number in number - 19..=number {
                assert_eq!(reader.until("Publish").await["event"], number.to_string());
            }
        }
    }
}

/// What a client knows of a channel that it heard of from the beginning.
#[derive(Default)]
struct Follower {
    serial: Option<(String, u64)>,
    heard: usize,
    gaps: usize,
    recovered: usize,
    last: Value,
}

impl Follower {
    /// Checks that nothing is left out without a word.
    fn follow(&mut self, event: &str, payload: &Value) {
        let serial = || {
            let (epoch, sequence) = payload["channelSerial"].as_str().unwrap().split_once(':').unwrap();
            Some((epoch.to_owned(), sequence.parse::<u64>().unwrap()))
        };
        match event {
            "Position" => match payload["recovered"].as_bool() {
                None => self.serial = serial(),
                Some(true) => {
                    assert_eq!(serial(), self.serial);
                    self.recovered += 1;
                }
                Some(false) => {
                    assert!(serial() > self.serial, "{payload} after {:?}", self.serial);
                    self.serial = serial();
                    self.gaps += 1;
                }
            },
            "Publish" => {
                let (epoch, sequence) = self.serial.take().unwrap();
                self.serial = serial();
                assert_eq!(self.serial, Some((epoch, sequence + 1)), "a silent hole");
                self.last = payload["event"].clone();
                self.heard += usize::from(self.last != "end");
            }
            _ => {}
        }
    }

    /// Whether it ends as one must of whom so much is kept.
    fn check(&self, kept: usize) {
        assert!(self.recovered + self.gaps > 0, "it was never behind");
        match kept {
            0 => assert!(self.gaps > 0 && self.heard < COUNT),
            _ => assert!(self.gaps == 0 && self.heard == COUNT, "{} gaps, {} heard", self.gaps, self.heard),
        }
    }
}

#[tokio::test]
async fn a_websocket_client_that_does_not_read_hears_of_its_gap() {
    for (kept, worker) in [(0, 0), (1_000_000, 1)] {
        let server = server(kept).await;
        let channel = channel_at("shop", worker);
        let mut publisher = server.connect("shop").await;
        let mut reader = server.connect("shop").await;
        reader.subscribe(&[&channel]).await;
        let mut slow = Raw::open_on(deaf(&server).await, server.address, "shop").await;
        let subscribe = json!({"event": "Subscribe", "payload": {"reqID": 1, "channels": [{"channel": channel}]}});
        slow.send(TEXT, subscribe.to_string().as_bytes()).await;
        reader.until("Join").await;
        flood(&mut publisher, &mut reader, &channel).await;
        // Who came meanwhile could not be told either.
        let mut late = server.connect("shop").await;
        late.subscribe(&[&channel]).await;

        let (mut follower, mut present) = (Follower::default(), Vec::new());
        while follower.last != "end" || !present.contains(&late.id()) {
            let frame = slow.next().await.expect("it stays connected");
            let envelope: Value = serde_json::from_str(frame.text()).unwrap();
            let (event, payload) = (envelope["event"].as_str().unwrap(), &envelope["payload"]);
            follower.follow(event, payload);
            match event {
                "Presence" => present = members(payload),
                "Join" => present.extend(members(payload)),
                _ => {}
            }
            if event == "Position" && !payload["recovered"].is_null() {
                // It may be left out as well, if the client is still behind.
                publisher.send("Publish", json!({"publishes": [{"channel": channel, "event": "end"}]})).await;
            }
        }
        follower.check(kept);
    }
}

#[tokio::test]
async fn a_stream_that_is_not_read_hears_of_its_gap() {
    for (kept, worker) in [(0, 1), (1_000_000, 0)] {
        let server = server(kept).await;
        let channel = channel_at("shop", worker);
        let mut publisher = server.connect("shop").await;
        let mut reader = server.connect("shop").await;
        reader.subscribe(&[&channel]).await;
        let call = server.get(&format!("/hubs/shop/sse?channel={channel}"));
        let mut slow = Sse::new(call.begin_on(deaf(&server).await, String::new()).await);
        reader.until("Join").await;
        flood(&mut publisher, &mut reader, &channel).await;
        let mut follower = Follower::default();
        while follower.last != "end" {
            let (event, payload) = slow.next().await.expect("it stays connected");
            follower.follow(&event, &payload);
            if event == "Position" && !payload["recovered"].is_null() {
                // It may be left out as well, if the client is still behind.
                publisher.send("Publish", json!({"publishes": [{"channel": channel, "event": "end"}]})).await;
            }
        }
        follower.check(kept);
    }
}

/// A connection for which the client's side keeps next to nothing.
async fn deaf(server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    in_time(socket.connect(server.address)).await.unwrap()
}
