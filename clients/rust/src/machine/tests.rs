//! The machine with a simple model of a node: one channel, whose connection breaks at any time.

mod dialogue;
mod leaving;
mod sizes;

use std::collections::{BTreeMap, VecDeque};

use appsockets_proto::client::{
    self as proto, ChannelPubRequest, ChannelPubResponse, ChannelPublish, ChannelSubscribeInfo, Envelope, EventType,
    Position, Reconnect, Response, SessionInfo, SessionRestore, SessionRestored, SubscribeRequest, SubscribeResponse,
    UnsubscribeRequest, UnsubscribeResponse,
};
use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use prost::Message;

use super::{Answer, Break, Input, Machine, Output, Phase, Step};
use crate::{
    event::{End, Error, Event, Failure, Publish, Refusal},
    options::Options,
};

#[derive(Clone, Copy, Debug)]
enum Act {
    Publish,
    /// The node takes what the client has sent.
    Take,
    /// The client takes one message of the node.
    Hear,
    Break,
    Wait,
    /// The application leaves the channel, and comes back for what follows what it has heard.
    Again,
    /// The node says where the client stands, without need.
    Tell,
    /// The node refuses the next request to leave, or no longer.
    Refuse,
    /// The node restores sessions from now on, or no longer.
    Restore,
}

/// Accepts a key once.
#[derive(Default)]
struct World {
    /// Of the subscription that the application has.
    id: u64,
    refuses: bool,
    restores: bool,
    /// Whether the session of the last connection was subscribed.
    kept: bool,
    now_ms: u64,
    log: Vec<Bytes>,
    keys: BTreeMap<String, usize>,
    up: VecDeque<Bytes>,
    down: VecDeque<Bytes>,
    subscribed: bool,
    connected: bool,
    published: u64,
    acks: BTreeMap<u64, String>,
    heard: Vec<Bytes>,
    ended: Option<End>,
}

impl World {
    fn input(&mut self, machine: &mut Machine, input: Input) {
        let mut outputs = Vec::new();
        machine.step(input, &mut Step { now_ms: self.now_ms, random: 3, outputs: &mut outputs });
        for output in outputs {
            match output {
                Output::Connect => self.connected = true,
                Output::Disconnect => self.lose(),
                Output::Send(bytes) => self.up.push_back(bytes),
                Output::Event { id, event: Event::Message(message) } => {
                    assert_eq!(id, self.id);
                    self.heard.push(message.payload);
                }
                Output::Event { id, event: Event::Position(position) } => {
                    assert_eq!((id, position.channel_serial), (self.id, format!("e:{}", self.heard.len())));
                    assert_ne!(position.recovered, Some(false));
                }
                Output::Answer { token, outcome: Ok(Answer::Ack(ack)) } => {
                    assert_eq!(self.acks.insert(token, ack.serial), None);
                }
                Output::Event { event: Event::Ended(_), .. } => {}
                Output::End(end) => self.ended = Some(end),
                other => panic!("{other:?}"),
            }
        }
        if self.connected && machine.phase == Phase::Connecting {
            self.say(
                EventType::SessionInfo,
                &SessionInfo { ping_interval_ms: 25_000, max_message_size: 1_000, ..SessionInfo::default() },
            );
            self.say(EventType::SessionRestore, &SessionRestore { restore_key: "key".into(), channels: vec![] });
            self.input(machine, Input::Connected);
        }
    }

    fn lose(&mut self) {
        self.up.clear();
        self.down.clear();
        self.kept = self.subscribed;
        (self.subscribed, self.connected) = (false, false);
    }

    fn act(&mut self, machine: &mut Machine, act: Act) {
        match act {
            Act::Publish => {
                let (token, key) = (self.published, format!("{:016}", self.published));
                let publish = Publish { channel: "a".into(), payload: token.to_string().into(), ..Publish::default() };
                self.published += 1;
                self.input(machine, Input::Publish { token, publish, key });
            }
            Act::Take => {
                if let Some(bytes) = self.up.pop_front() {
                    self.take(&Envelope::decode(bytes).unwrap());
                }
            }
            Act::Hear => {
                if let Some(bytes) = self.down.pop_front() {
                    self.input(machine, Input::Received(bytes));
                }
            }
            Act::Break if self.connected => {
                self.lose();
                self.input(machine, Input::Broken(Break::Lost));
            }
            Act::Break => {}
            // While connected it would pass the time for which a publish may be repeated, unless it is for a refusal.
            Act::Wait if self.connected && machine.due_ms().is_none_or(|due_ms| due_ms > self.now_ms + 30_000) => {}
            Act::Wait => {
                self.now_ms = machine.due_ms().unwrap_or(self.now_ms).max(self.now_ms);
                self.input(machine, Input::Tick);
            }
            Act::Again => {
                self.input(machine, Input::Leave { id: self.id });
                self.id += 1;
                let since = Some(format!("e:{}", self.heard.len()));
                self.input(machine, Input::Subscribe { id: self.id, channel: "a".into(), since });
            }
            Act::Tell if self.subscribed => self.position(self.log.len(), Some(true)),
            Act::Tell => {}
            Act::Refuse => self.refuses = !self.refuses,
            Act::Restore => self.restores = !self.restores,
        }
    }

    fn take(&mut self, envelope: &Envelope) {
        let bytes = envelope.payload.clone();
        match envelope.event() {
            EventType::SessionRestore if self.restores => self.restore(&SessionRestore::decode(bytes).unwrap()),
            EventType::SessionRestore => {
                self.say(EventType::Error, &proto::Error { code: 143, ..Default::default() });
            }
            EventType::Subscribe => self.subscribe(SubscribeRequest::decode(bytes).unwrap()),
            EventType::Unsubscribe => self.unsubscribe(UnsubscribeRequest::decode(bytes).unwrap()),
            EventType::Publish => self.publish(ChannelPubRequest::decode(bytes).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn subscribe(&mut self, request: SubscribeRequest) {
        assert!(!self.subscribed, "subscribed twice");
        self.begin(&request.channels);
        let subscribed_channels = vec!["a".into()];
        self.say(
            EventType::Subscribe,
            &SubscribeResponse { req_id: request.req_id, subscribed_channels, errors: vec![] },
        );
    }

    fn begin(&mut self, channels: &[ChannelSubscribeInfo]) {
        let serial = channels.first().and_then(|info| info.channel_serial.as_deref());
        let from = serial.map_or(self.log.len(), |serial| serial[2..].parse().unwrap());
        self.position(from, serial.map(|_| true));
        (from..self.log.len()).for_each(|at| self.deliver(at));
        self.subscribed = true;
    }

    fn position(&mut self, at: usize, recovered: Option<bool>) {
        let (channel, channel_serial) = ("a".into(), format!("e:{at}"));
        self.say(EventType::Position, &Position { channel, channel_serial, recovered, known_serial: None });
    }

    fn unsubscribe(&mut self, request: UnsubscribeRequest) {
        let UnsubscribeRequest { req_id, channels: unsubscribed_channels } = request;
        if std::mem::take(&mut self.refuses) {
            let refusal = proto::Error { code: 103, retry: true, req_id: Some(req_id), ..Default::default() };
            return self.say(EventType::Error, &refusal);
        }
        self.subscribed = false;
        self.say(EventType::Unsubscribe, &UnsubscribeResponse { req_id, unsubscribed_channels, error: None });
    }

    /// A channel that is left out goes on from wherever the node stopped sending, so what was lost is passed over.
    fn restore(&mut self, request: &SessionRestore) {
        let subscribed_channels = if self.kept { vec!["a".into()] } else { vec![] };
        self.say(EventType::SessionRestored, &SessionRestored { subscribed_channels, ..SessionRestored::default() });
        if self.kept {
            self.begin(&request.channels);
        }
    }

    fn publish(&mut self, request: ChannelPubRequest) {
        let item = request.publishes.into_iter().next().unwrap();
        let at = *self.keys.entry(item.key.unwrap()).or_insert(self.log.len());
        if at == self.log.len() {
            self.log.push(item.payload);
            if self.subscribed {
                self.deliver(at);
            }
        }
        let channel_serial = Some(format!("e:{}", at + 1));
        let response = Response { req_id: item.req_id.unwrap(), success: true, channel_serial, ..Response::default() };
        self.say(EventType::Ack, &ChannelPubResponse { published: vec![response] });
    }

    fn deliver(&mut self, at: usize) {
        let serial = format!("e:{}", at + 1);
        let (payload, msg_id) = (self.log[at].clone(), serial.clone());
        let channel_serial = Some(serial);
        self.say(
            EventType::Publish,
            &ChannelPublish { channel: "a".into(), payload, msg_id, channel_serial, ..ChannelPublish::default() },
        );
    }

    fn say(&mut self, event: EventType, message: &impl Message) {
        let envelope = Envelope { event: event.into(), payload: message.encode_to_vec().into() };
        self.down.push_back(envelope.encode_to_vec().into());
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => Just(Act::Publish),
        6 => Just(Act::Take),
        8 => Just(Act::Hear),
        1 => Just(Act::Break),
        1 => Just(Act::Wait),
        1 => Just(Act::Again),
        1 => Just(Act::Tell),
        1 => Just(Act::Refuse),
        1 => Just(Act::Restore),
    ];
    vec(act, 0..300)
}

fn start() -> (World, Machine) {
    let mut options = Options::new("ws://127.0.0.1:1", "shop");
    options.in_flight = 4;
    let (mut world, mut machine) = (World::default(), Machine::new(&options));
    world.input(&mut machine, Input::Start);
    world.id = 1;
    world.input(&mut machine, Input::Subscribe { id: 1, channel: "a".into(), since: None });
    // Open before the first publish, so that everything is to be heard.
    while !world.subscribed || !world.down.is_empty() {
        world.act(&mut machine, Act::Take);
        world.act(&mut machine, Act::Hear);
    }
    (world, machine)
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_out_of_order(acts in acts()) {
        let (mut world, mut machine) = start();
        for act in acts {
            // All in all it must stay within the time for which a publish may be repeated.
            if matches!(act, Act::Wait) && world.now_ms > 30_000 {
                continue;
            }
            world.act(&mut machine, act);
        }
        // Then the connection holds.
        for _ in 0..100 {
            if !world.connected {
                world.act(&mut machine, Act::Wait);
            }
            while !world.up.is_empty() || !world.down.is_empty() {
                world.act(&mut machine, Act::Take);
                world.act(&mut machine, Act::Hear);
            }
            // What was refused is asked for again.
            world.act(&mut machine, Act::Wait);
        }
        let sent: Vec<_> = (0..world.published).map(|number| Bytes::from(number.to_string())).collect();
        prop_assert_eq!(&world.log, &sent);
        prop_assert_eq!(&world.heard, &sent);
        for (token, serial) in &world.acks {
            prop_assert_eq!(serial, &format!("e:{}", token + 1));
        }
        prop_assert_eq!(world.acks.len(), sent.len());
    }
}

#[test]
fn close_codes_decide_whether_it_connects_again() {
    for (code, ends) in [(1006, false), (4000, false), (4099, false), (4100, true), (4106, true)] {
        let (mut world, mut machine) = start();
        world.input(&mut machine, Input::Broken(Break::Closed(code)));
        assert_eq!(world.ended.is_some(), ends, "{code}");
        assert_eq!(machine.due_ms().is_none(), ends, "{code}");
    }
}

#[test]
fn what_a_full_queue_does_not_take_is_refused() {
    let mut options = Options::new("ws://127.0.0.1:1", "shop");
    options.queue = 2;
    let mut machine = Machine::new(&options);
    let mut outputs = Vec::new();
    for token in 0..3 {
        let input = Input::Publish { token, publish: Publish::default(), key: "0123456789abcdef".into() };
        machine.step(input, &mut Step { now_ms: 0, random: 0, outputs: &mut outputs });
    }
    assert_eq!(outputs, [Output::Answer { token: 2, outcome: Err(Error::QueueFull) }]);
}

#[test]
fn who_never_came_in_gives_up_and_who_did_goes_on() {
    let mut options = Options::new("ws://127.0.0.1:1", "shop");
    options.first_attempts = Some(2);
    let unreachable = || Input::Broken(Break::Unreachable("refused".into()));
    for connected in [false, true] {
        let mut machine = Machine::new(&options);
        let mut outputs = Vec::new();
        let mut input = |input| machine.step(input, &mut Step { now_ms: 0, random: 0, outputs: &mut outputs });
        if connected {
            input(Input::Connected);
        }
        input(unreachable());
        input(unreachable());
        let ends = matches!(&outputs[..], [Output::End(End::Unreachable(why))] if why == "refused");
        assert_eq!(ends, !connected, "{outputs:?}");
    }
}

#[test]
fn whoever_was_connected_ends_only_at_a_nodes_word() {
    let says = |retry| Some(Failure { code: 140, name: "hub_not_found".into(), message: String::new(), retry });
    // Whether it ends without ever having been connected, and after.
    let cases = [
        (404, None, true, false),
        (401, None, true, false),
        (502, None, false, false),
        (404, says(false), true, true),
        (404, says(true), true, false),
        (503, says(true), false, false),
    ];
    for (status, failure, ends_at_first, ends_later) in cases {
        for (connected, ends) in [(false, ends_at_first), (true, ends_later)] {
            let mut machine = Machine::new(&Options::new("ws://127.0.0.1:1", "shop"));
            let mut outputs = Vec::new();
            let mut input = |input| machine.step(input, &mut Step { now_ms: 0, random: 0, outputs: &mut outputs });
            if connected {
                input(Input::Connected);
                input(Input::Broken(Break::Lost));
            }
            input(Input::Broken(Break::Refused(Refusal { status, failure: failure.clone() })));
            assert_eq!(!outputs.is_empty(), ends, "{status} {failure:?} {connected}");
        }
    }
}

#[test]
fn silence_ends_a_connection() {
    let (mut world, mut machine) = start();
    assert_eq!(machine.due_ms(), Some(2 * 25_000));
    world.now_ms = 50_000;
    world.input(&mut machine, Input::Tick);
    assert!(matches!(machine.phase, Phase::Waiting { until_ms: 50_000 }));
}

#[test]
fn who_was_told_to_go_goes_however_much_is_heard() {
    let (mut world, mut machine) = start();
    world.say(EventType::Reconnect, &Reconnect { delay_ms: 100 });
    let bytes = world.down.pop_back().unwrap();
    world.input(&mut machine, Input::Received(bytes));
    assert_eq!(machine.due_ms(), Some(100));
    // Something is heard after the moment and before the client looks at the clock.
    world.now_ms = 101;
    world.input(&mut machine, Input::Heard);
    assert!(machine.due_ms().is_some_and(|due_ms| due_ms <= 101));
    world.input(&mut machine, Input::Tick);
    assert!(matches!(machine.phase, Phase::Waiting { until_ms: 100 }));
}
