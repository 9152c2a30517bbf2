//! An SSE client that does what a browser's EventSource does with what it reads.

use std::collections::VecDeque;

use http_body_util::BodyExt;
use hyper::{Response, body::Incoming};
use serde_json::Value;

use super::{client::text, in_time, server::Server, web::Answer};

/// A stream of events.
pub struct Sse {
    body: Incoming,
    pub headers: hyper::HeaderMap,
    unread: String,
    blocks: VecDeque<String>,
    /// The last event id, which a browser sends back when it connects again.
    pub last_id: Option<String>,
}

/// Percent-encoded as a query needs it.
pub fn channels(names: &[&str]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(names.iter().map(|name| ("channel", name)))
        .finish()
}

impl Server {
    /// Listens to the channels of a query.
    pub async fn listen(&self, hub: &str, query: &str, last_id: Option<&str>) -> Sse {
        let mut call = self.get(&format!("/hubs/{hub}/sse?{query}"));
        if let Some(id) = last_id {
            call = call.header("last-event-id", id);
        }
        Sse::new(call.begin(String::new()).await)
    }

    pub async fn listen_refused(&self, hub: &str, query: &str) -> Answer {
        self.get(&format!("/hubs/{hub}/sse?{query}")).answer().await
    }
}

impl Sse {
    pub fn new(response: Response<Incoming>) -> Sse {
        assert_eq!(response.status(), 200);
        let (parts, body) = response.into_parts();
        Sse { body, headers: parts.headers, unread: String::new(), blocks: VecDeque::new(), last_id: None }
    }

    /// The next event, other than Ping; none at the end.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            let block = self.block().await?;
            let mut data = Vec::new();
            for line in block.lines() {
                match line.split_once(": ") {
                    Some(("data", value)) => data.push(value),
                    Some(("id", value)) => self.last_id = Some(value.to_owned()),
                    _ => panic!("no line of an event stream: {line:?}"),
                }
            }
            if data.is_empty() {
                continue;
            }
            let envelope: Value = serde_json::from_str(&data.join("\n")).unwrap();
            if envelope["event"] != "Ping" {
                return Some((text(&envelope["event"]), envelope["payload"].clone()));
            }
        }
    }

    pub async fn expect(&mut self, event: &str) -> Value {
        let (found, payload) = self.next().await.expect("not the end");
        assert_eq!(found, event, "{payload}");
        payload
    }

    pub async fn until(&mut self, event: &str) -> Value {
        loop {
            let (found, payload) = self.next().await.expect("not the end");
            if found == event {
                return payload;
            }
        }
    }

    /// Reads until an id has come that was not there before.
    pub async fn next_id(&mut self) -> String {
        loop {
            let block = self.block().await.expect("not the end");
            if let Some(id) = block.strip_prefix("id: ") {
                self.last_id = Some(id.to_owned());
                return id.to_owned();
            }
        }
    }

    async fn block(&mut self) -> Option<String> {
        while self.blocks.is_empty() {
            let frame = in_time(self.body.frame()).await?.ok()?;
            self.unread.push_str(std::str::from_utf8(frame.data_ref()?).unwrap());
            while let Some((block, rest)) = self.unread.split_once("\n\n") {
                self.blocks.push_back(block.to_owned());
                self.unread = rest.to_owned();
            }
        }
        self.blocks.pop_front()
    }
}
