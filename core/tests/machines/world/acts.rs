//! What clients do, in one line each, for the examples.

use std::sync::Arc;

use appsockets_core::{
    code::{CloseCode, ErrorCode},
    message::{Form, Payload},
    serial::Serial,
    session::{
        event::{Event, Member, Position, Published},
        request::{Credentials, PublishInfo, Recover, Request, SubscribeInfo},
    },
};

use super::World;

impl World {
    /// Lets everything arrive; nothing may have gone wrong so far.
    pub fn rest(&mut self) {
        self.settle();
        assert_eq!(self.mistakes, Vec::<String>::new());
    }

    pub fn wait(&mut self, ms: u64) {
        self.rest();
        self.pass(ms);
        self.rest();
    }

    pub fn subscribe(&mut self, client: usize, channel: &str) {
        self.recover(client, channel, None);
    }

    pub fn recover(&mut self, client: usize, channel: &str, recover: Option<Recover>) {
        let req_id = Some(self.clients[client].next_req_id());
        let channels = vec![SubscribeInfo { channel: channel.into(), recover }];
        self.request(client, Request::Subscribe { req_id, channels });
    }

    pub fn unsubscribe(&mut self, client: usize, channel: &str) {
        let req_id = Some(self.clients[client].next_req_id());
        self.request(client, Request::Unsubscribe { req_id, channels: vec![channel.into()] });
    }

    /// Publishes, and asks for an answer.
    pub fn publish(&mut self, client: usize, channel: &str, text: &str) {
        self.send(client, info(channel, text));
    }

    pub fn send(&mut self, client: usize, mut info: PublishInfo) {
        info.req_id = Some(self.clients[client].next_req_id());
        self.request(client, Request::Publish(vec![info]));
    }

    pub fn authenticate(&mut self, client: usize, token: &str) {
        let req_id = Some(self.clients[client].next_req_id());
        self.request(client, Request::Auth { req_id, credentials: Credentials::Token(token.into()) });
    }

    /// Connects again, and asks for the session that the client had.
    pub fn restore(&mut self, client: usize, worker: usize) {
        let positions = self.clients[client].views.iter().map(|(channel, view)| SubscribeInfo {
            channel: channel.clone(),
            recover: Some(Recover::Serial(view.position)),
        });
        let positions = positions.collect();
        let key = self.clients[client].restore_key.clone().expect("a session has a restore key");
        self.connect(client, worker, None);
        self.request(client, Request::Restore { key, positions });
    }

    /// The texts of the messages that a client heard, retained ones apart.
    pub fn heard(&self, client: usize) -> Vec<String> {
        let text = |payload: &Payload| String::from_utf8_lossy(&payload.bytes).into_owned();
        self.clients[client].heard.iter().map(|message| text(&message.payload)).collect()
    }

    /// The last position that a client was told in a channel.
    pub fn position(&self, client: usize, channel: &str) -> Position {
        let positions = self.clients[client].log.iter().rev();
        let mut positions = positions.filter_map(|event| match event {
            Event::Position(position) if &*position.channel == channel => Some(position.clone()),
            _ => None,
        });
        positions.next().expect("a subscriber is told its position")
    }

    /// The outcomes of a client's publishes, in the order in which it was told.
    pub fn outcomes(&self, client: usize) -> Vec<Result<Serial, ErrorCode>> {
        let acks = self.clients[client].log.iter().filter_map(|event| match event {
            Event::Ack(acks) => Some(acks),
            _ => None,
        });
        acks.flatten().map(|Published { outcome, .. }| *outcome).collect()
    }

    /// The refusals in the answers to a client's Subscribe requests.
    pub fn refusals(&self, client: usize) -> Vec<ErrorCode> {
        let answers = self.clients[client].log.iter().filter_map(|event| match event {
            Event::Subscribed { errors, .. } => Some(errors),
            _ => None,
        });
        answers.flatten().map(|failure| failure.code).collect()
    }

    /// What a client was told outside of the answers to its requests.
    pub fn errors(&self, client: usize) -> Vec<ErrorCode> {
        let errors = self.clients[client].log.iter().filter_map(|event| match event {
            Event::Error(failure) => Some(failure.code),
            _ => None,
        });
        errors.collect()
    }

    /// Which subscriptions the node ended, and why.
    pub fn ended(&self, client: usize) -> Vec<(Vec<Arc<str>>, Option<ErrorCode>)> {
        let ended = self.clients[client].log.iter().filter_map(|event| match event {
            Event::Unsubscribed { req_id: None, channels, error } => Some((channels.clone(), *error)),
            _ => None,
        });
        ended.collect()
    }

    /// With what code the node ended the connection.
    pub fn closed(&self, client: usize) -> Option<CloseCode> {
        self.clients[client].log.iter().find_map(|event| match event {
            Event::Close(code) => Some(*code),
            _ => None,
        })
    }

    /// How often a client was told something.
    pub fn count(&self, client: usize, which: impl Fn(&Event) -> bool) -> usize {
        self.clients[client].log.iter().filter(|event| which(event)).count()
    }

    /// The users whom a client sees in a channel; the nameless are anonymous.
    pub fn present(&self, client: usize, channel: &str) -> Vec<String> {
        let name = |member: &Member| member.identity.as_ref().map_or("", |identity| &identity.user_id).to_owned();
        let mut names: Vec<_> = self.clients[client].views[channel].present.values().map(name).collect();
        names.sort();
        names
    }
}

/// A publish without anything special.
pub fn info(channel: &str, text: &str) -> PublishInfo {
    PublishInfo {
        req_id: None,
        channel: channel.into(),
        event: "e".into(),
        payload: Payload { bytes: text.to_owned().into(), form: Form::Text },
        store: false,
        push: false,
        retain: false,
        key: None,
    }
}
