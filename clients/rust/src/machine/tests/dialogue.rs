//! A machine, and a node that says just what a test lets it say.

use appsockets_proto::client::{
    ChannelPublish, Envelope, EventType, Position, SessionInfo, SessionRestore, SubscribeRequest, UnsubscribeRequest,
    UnsubscribeResponse,
};
use prost::Message;

use crate::{
    event::{End, Error, Event},
    machine::{Answer, Input, Machine, Output, Step},
    options::Options,
};

pub struct Dialogue {
    machine: Machine,
    message_bytes_max: u32,
    pub now_ms: u64,
    /// What was sent and not taken.
    pub sent: Vec<Envelope>,
    /// What was told of subscriptions and not taken.
    pub events: Vec<(u64, Event)>,
    pub answers: Vec<(u64, Result<Answer, Error>)>,
    pub end: Option<End>,
}

impl Dialogue {
    /// It has not connected yet.
    pub fn new(options: &Options, message_bytes_max: u32) -> Dialogue {
        let (machine, sent) = (Machine::new(options), Vec::new());
        let (events, answers, end) = (Vec::new(), Vec::new(), None);
        let mut dialogue = Dialogue { machine, message_bytes_max, now_ms: 1_000, sent, events, answers, end };
        dialogue.input(Input::Start);
        dialogue
    }

    /// The node takes messages of the usual size.
    pub fn connected() -> Dialogue {
        let mut dialogue = Dialogue::new(&Options::new("ws://127.0.0.1:1", "shop"), 64 * 1024);
        dialogue.connect();
        dialogue
    }

    pub fn connect(&mut self) {
        self.input(Input::Connected);
        let max_message_size = self.message_bytes_max;
        self.hear(
            EventType::SessionInfo,
            &SessionInfo { max_message_size, ping_interval_ms: 1_000_000, ..SessionInfo::default() },
        );
        self.hear(EventType::SessionRestore, &SessionRestore { restore_key: "key".into(), channels: vec![] });
    }

    pub fn input(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.machine.step(input, &mut Step { now_ms: self.now_ms, random: 0, outputs: &mut outputs });
        for output in outputs {
            match output {
                Output::Connect | Output::Disconnect => {}
                Output::Send(bytes) => {
                    assert!(bytes.len() <= self.message_bytes_max as usize, "{} bytes", bytes.len());
                    self.sent.push(Envelope::decode(bytes).unwrap());
                }
                Output::Event { id, event } => self.events.push((id, event)),
                Output::Answer { token, outcome } => self.answers.push((token, outcome)),
                Output::End(end) => self.end = Some(end),
            }
        }
    }

    pub fn hear(&mut self, event: EventType, message: &impl Message) {
        let envelope = Envelope { event: event.into(), payload: message.encode_to_vec().into() };
        self.input(Input::Received(envelope.encode_to_vec().into()));
    }

    /// The messages with this event that were sent since they were last asked for.
    pub fn take<M: Message + Default>(&mut self, event: EventType) -> Vec<M> {
        let taken = self.sent.extract_if(.., |envelope| envelope.event() == event);
        taken.map(|envelope| M::decode(envelope.payload).unwrap()).collect()
    }

    pub fn due_ms(&self) -> u64 {
        self.machine.due_ms().expect("something is due")
    }

    /// Time passes until something is due.
    pub fn wait(&mut self) {
        self.now_ms = self.due_ms().max(self.now_ms);
        self.input(Input::Tick);
    }

    pub fn subscribe(&mut self, id: u64, channel: &str, since: Option<&str>) {
        self.input(Input::Subscribe { id, channel: channel.to_owned(), since: since.map(str::to_owned) });
    }

    /// A subscription that the node has opened at this serial.
    pub fn open(&mut self, id: u64, channel: &str, serial: &str) {
        self.subscribe(id, channel, None);
        self.position(channel, serial, None);
        assert_eq!(self.events.pop().map(|(id, _)| id), Some(id));
        self.take::<SubscribeRequest>(EventType::Subscribe);
    }

    pub fn position(&mut self, channel: &str, serial: &str, recovered: Option<bool>) {
        let (channel, channel_serial) = (channel.to_owned(), serial.to_owned());
        self.hear(EventType::Position, &Position { channel, channel_serial, recovered, known_serial: None });
    }

    pub fn message(&mut self, channel: &str, serial: &str) {
        let (channel, msg_id) = (channel.to_owned(), serial.to_owned());
        let channel_serial = Some(serial.to_owned());
        self.hear(EventType::Publish, &ChannelPublish { channel, msg_id, channel_serial, ..ChannelPublish::default() });
    }

    /// The one request to leave that was sent.
    pub fn leaves(&mut self) -> UnsubscribeRequest {
        let mut requests = self.take(EventType::Unsubscribe);
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    /// The node does what it was asked for.
    pub fn left(&mut self, request: UnsubscribeRequest) {
        let UnsubscribeRequest { req_id, channels: unsubscribed_channels } = request;
        self.hear(EventType::Unsubscribe, &UnsubscribeResponse { req_id, unsubscribed_channels, error: None });
    }

    /// The channels that were asked for, with their serials.
    pub fn asked(&mut self) -> Vec<(String, Option<String>)> {
        let requests = self.take::<SubscribeRequest>(EventType::Subscribe);
        let infos = requests.into_iter().flat_map(|request| request.channels);
        infos.map(|info| (info.channel, info.channel_serial)).collect()
    }

    /// The serials of the Positions and messages that were told, with the subscription.
    pub fn told(&mut self) -> Vec<(u64, String)> {
        let serial = |event| match event {
            Event::Position(position) => position.channel_serial,
            Event::Message(message) => message.msg_id,
            other => panic!("{other:?}"),
        };
        self.events.drain(..).map(|(id, event)| (id, serial(event))).collect()
    }
}
