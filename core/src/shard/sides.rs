//! A shard and, while this node stands at a side view, another one beside it for the channels that it can't reach.
//!
//! The main shard stays in the agreed view, whatever happens: what has copies, and what has its owner here, goes on in it.
//! Beside it a *side shard* knows only the side view. It begins with nothing, numbers in epochs of its own, and is thrown away
//! with the side view, so that nothing of it ever meets what is agreed. What goes from one to the other are relays alone:
//! all that this node's workers want of a channel. An owner that a relay comes to is told everything, as any new owner is.

use std::sync::Arc;

use super::{Config, Inspection, Moves, Shard};
use crate::{
    channel::ChannelKey,
    cluster::view::{NodeId, View},
    settings::hub::Hub,
    shard::{
        peer::PeerMessage,
        relay::Relay,
        request::{Effect, Request},
        slots::At,
        takeup::Progress,
    },
    time::Now,
};

/// Names of epochs of side views begin here: no main shard begins so many.
const SIDE_EPOCHS: u64 = 1 << 40;

/// One slice of a node's channels, in the agreed view and in the side view.
#[derive(Debug)]
pub struct Sides {
    main: Shard,
    side: Option<Box<Shard>>,
    /// Epochs that side shards before this one have begun, and messages that they have numbered.
    side_epochs: u64,
    side_accepted: u64,
    /// Requests that the shards have numbered. A channel's numbers go on rising when its relay goes to the other shard.
    requests: u64,
}

impl Sides {
    /// A shard that knows no view yet: what is asked waits for one.
    pub fn new(config: Config) -> Sides {
        Sides::of(Shard::new(config))
    }

    /// A shard of a node that has no others.
    pub fn alone(now: Now, config: Config) -> Sides {
        Sides::of(Shard::alone(now, config))
    }

    fn of(main: Shard) -> Sides {
        Sides { main, side: None, side_epochs: 0, side_accepted: 0, requests: 0 }
    }

    /// What a worker of this node asks.
    pub fn handle(&mut self, now: Now, request: Request, effects: &mut Vec<Effect>) {
        if self.is_aside(&request.key) {
            self.aside(effects, |side, effects| side.handle(now, request, effects));
        } else {
            self.main.handle(now, request, effects);
        }
    }

    /// Takes one message of another node's shard, or side shard.
    pub fn receive(&mut self, now: Now, from: NodeId, message: PeerMessage, effects: &mut Vec<Effect>) {
        if message.side {
            self.aside(effects, |side, effects| side.receive(now, from, message, effects));
        } else {
            self.main.receive(now, from, message, effects);
        }
    }

    /// The answer to [`Effect::Store`]. Nothing is stored in a side view.
    pub fn stored(&mut self, now: Now, key: &ChannelKey, ticket: u64, ok: bool, effects: &mut Vec<Effect>) {
        self.main.stored(now, key, ticket, ok, effects);
    }

    /// Takes over an agreed view, which ends a side view of the one before. As [`Shard::install`].
    pub fn install(&mut self, now: Now, view: Arc<View>, open: Vec<Arc<View>>, effects: &mut Vec<Effect>) {
        self.end_side(now, effects);
        self.main.install(now, view, open, effects);
    }

    /// A session with another node begins, which has so many shards, or it ends.
    pub fn session(&mut self, now: Now, peer: NodeId, shards: Option<u64>, effects: &mut Vec<Effect>) {
        self.main.session(now, peer, shards, effects);
    }

    /// Takes over a side view of the view in force, or ends it. Each begins with nothing: what was numbered in one before is
    /// known to whoever heard it, and to nobody else.
    pub fn set_side(&mut self, now: Now, view: Option<Arc<View>>, effects: &mut Vec<Effect>) {
        self.end_side(now, effects);
        if let Some(view) = view {
            self.side = Some(Box::new(self.main.beside(now, view, SIDE_EPOCHS + self.side_epochs)));
            self.sort(now, effects);
        }
    }

    /// The same as [`Sides::session`] in the side view.
    pub fn side_session(&mut self, now: Now, peer: NodeId, shards: Option<u64>, effects: &mut Vec<Effect>) {
        self.aside(effects, |side, effects| side.session(now, peer, shards, effects));
    }

    /// The nodes that live, as far as is known. Sessions of the others are no longer there.
    pub fn set_alive(&mut self, now: Now, alive: impl IntoIterator<Item = NodeId>, effects: &mut Vec<Effect>) {
        self.main.set_alive(now, alive, effects);
        let alive = self.main.alive.clone();
        self.aside(effects, |side, effects| side.set_alive(now, alive, effects));
    }

    /// A node will never be heard of again: what only it had is gone.
    pub fn gone(&mut self, now: Now, node: NodeId, effects: &mut Vec<Effect>) {
        self.main.gone(now, node, effects);
        self.aside(effects, |side, effects| side.gone(now, node, effects));
    }

    /// Every channel is in its place by this view: what is kept beyond that is kept for nothing.
    pub fn settled(&mut self, number: u64) {
        self.main.settled(number);
    }

    /// Takes over a hub's new settings, and holds every channel of it to them.
    pub fn set_hub(&mut self, now: Now, hub: Arc<Hub>, effects: &mut Vec<Effect>) {
        self.main.set_hub(now, hub.clone(), effects);
        self.aside(effects, |side, effects| side.set_hub(now, hub, effects));
        self.sort(now, effects);
    }

    /// Forgets a hub and all its channels. Whoever waits for an answer of one of them gets it.
    pub fn remove_hub(&mut self, now: Now, hub: &str, effects: &mut Vec<Effect>) {
        self.main.remove_hub(now, hub, effects);
        self.aside(effects, |side, effects| side.remove_hub(now, hub, effects));
    }

    /// Sends out what the turn brought.
    pub fn end_turn(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.main.end_turn(now, effects);
        self.aside(effects, |side, effects| side.end_turn(now, effects));
    }

    /// When [`Sides::tick`] is due, in `Now::mono_ms`.
    pub fn next_tick_ms(&mut self) -> Option<u64> {
        let side_ms = self.side.as_mut().and_then(|side| side.next_tick_ms());
        [self.main.next_tick_ms(), side_ms].into_iter().flatten().min()
    }

    /// Does what is due. As [`Shard::tick`].
    pub fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.main.tick(now, effects);
        self.aside(effects, |side, effects| side.tick(now, effects));
    }

    /// How many messages were numbered since the shard began.
    pub fn accepted(&self) -> u64 {
        self.main.accepted() + self.side_accepted + self.side.as_ref().map_or(0, |side| side.accepted())
    }

    /// How its channels changed their owners.
    pub fn moves(&self) -> Moves {
        let main = self.main.moves();
        Moves { epochs: main.epochs + self.side_epochs_begun(), ..main }
    }

    /// How many channels this shard has a part in.
    pub fn len(&self) -> usize {
        self.main.len() + self.side_len()
    }

    /// How many of them it has in a side view.
    pub fn side_len(&self) -> usize {
        self.side.as_ref().map_or(0, |side| side.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this node stands at a side view.
    pub fn has_side(&self) -> bool {
        self.side.is_some()
    }

    /// The agreed view in force; 0 before the first.
    pub fn view_number(&self) -> u64 {
        self.main.view_number()
    }

    /// What this shard has of a channel that it owns in the agreed view and is certain of.
    pub fn inspect(&self, key: &ChannelKey) -> Option<Inspection> {
        self.main.inspect(key)
    }

    /// The same in the side view.
    pub fn inspect_side(&self, key: &ChannelKey) -> Option<Inspection> {
        self.side.as_ref()?.inspect(key)
    }

    /// What is left to do before everything that the agreed view gives to this node is served.
    pub fn progress(&self) -> Progress {
        self.main.progress()
    }

    /// Whether a channel is served in the side view: nothing of it is ever copied, and its owner by the agreed view is not in
    /// the group. Those who are come to the same, because all know the two views.
    fn is_aside(&self, key: &ChannelKey) -> bool {
        let Some(view) = self.side.as_ref().and_then(|side| side.view.as_ref()) else { return false };
        let owner = self.main.view.as_ref().and_then(|view| view.owner(key.point()));
        let out_of_reach = owner.is_some_and(|owner| !view.contains(owner));
        out_of_reach && self.main.rules(key).redundancy == 0
    }

    /// What a side shard says is for side shards.
    fn aside(&mut self, effects: &mut Vec<Effect>, step: impl FnOnce(&mut Shard, &mut Vec<Effect>)) {
        let Some(side) = &mut self.side else { return };
        let first = effects.len();
        step(side, effects);
        for effect in &mut effects[first..] {
            if let Effect::Send { message, .. } = effect {
                message.side = true;
            }
        }
    }

    /// Has each relay where its channel is served.
    fn sort(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(side) = &self.side else { return };
        let astray = self.main.places(|key, slot| slot.relay.is_some() && self.is_aside(key));
        let back = side.places(|key, slot| slot.relay.is_some() && !self.is_aside(key));
        let requests = self.count_requests();
        self.main.counters.requests = requests;
        self.aside(effects, |side, _| side.counters.requests = requests);
        for at in astray {
            if let Some((key, relay)) = self.main.release(now, at, effects) {
                self.aside(effects, |side, effects| side.adopt(now, &key, relay, effects));
            }
        }
        for at in back {
            let mut released = None;
            self.aside(effects, |side, effects| released = side.release(now, at, effects));
            if let Some((key, relay)) = released {
                self.main.adopt(now, &key, relay, effects);
            }
        }
        self.main.hear_own(now, effects);
        self.aside(effects, |side, effects| side.hear_own(now, effects));
    }

    /// Throws the side shard away. Its relays go back, and what they have not been answered is asked again.
    fn end_side(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // What the turn has brought so far was acknowledged.
        self.aside(effects, |side, effects| side.end_turn(now, effects));
        (self.requests, self.side_epochs) = (self.count_requests(), self.side_epochs_begun());
        let Some(side) = self.side.take() else { return };
        self.side_accepted += side.accepted();
        self.main.counters.requests = self.requests;
        for (key, slot) in side.slots.into_iter() {
            if let Some(relay) = slot.relay.filter(|relay| !relay.is_empty()) {
                self.main.adopt(now, &key, relay, effects);
            }
        }
        self.main.hear_own(now, effects);
    }

    fn count_requests(&self) -> u64 {
        let side = self.side.as_ref().map_or(0, |side| side.counters.requests);
        self.requests.max(self.main.counters.requests).max(side)
    }

    fn side_epochs_begun(&self) -> u64 {
        self.side.as_ref().map_or(self.side_epochs, |side| side.counters.epochs - SIDE_EPOCHS)
    }
}

impl Shard {
    /// A shard for a side view of the view in force, with nothing in it.
    fn beside(&self, now: Now, view: Arc<View>, epochs: u64) -> Shard {
        let mut side = Shard::new(self.config);
        side.aside_of = Some(self.view_number());
        (side.alive, side.gone, side.hubs) = (self.alive.clone(), self.gone.clone(), self.hubs.clone());
        side.counters.epochs = epochs;
        side.counters.requests = self.counters.requests;
        let number = view.number;
        // Nothing is kept yet, so nothing follows from it.
        side.install(now, view, Vec::new(), &mut Vec::new());
        // Nothing is known of what was sent before; and nobody is to take it for served that it serves this.
        (side.takeup.since, side.takeup.told_served) = (number, true);
        side
    }

    /// Gives away all that this node's workers want of a channel. The owner may still believe that they hear it by way of this
    /// shard. It is told that they don't, unless the relay is back by then and tells it more.
    fn release(&mut self, now: Now, at: At, effects: &mut Vec<Effect>) -> Option<(ChannelKey, Box<Relay>)> {
        let released = self.with(now, at, effects, |key, slot, cx| {
            let relay = slot.relay.take();
            if let Some(owner) = cx.owner_to_tell(key) {
                Relay::default().say_anew(key, owner, cx);
            }
            relay.filter(|relay| !relay.is_empty()).map(|relay| (key.clone(), relay))
        });
        released.flatten()
    }

    /// Takes over what was released elsewhere, and tells the owner all of it.
    fn adopt(&mut self, now: Now, key: &ChannelKey, mut relay: Box<Relay>, effects: &mut Vec<Effect>) {
        let at = self.enter(key);
        self.with(now, at, effects, |key, slot, cx| {
            relay.stray(cx);
            debug_assert!(slot.relay.is_none(), "a relay is in one of the two shards");
            if let Some(owner) = cx.owner_to_tell(key) {
                relay.say_anew(key, owner, cx);
            }
            slot.relay = Some(relay);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Sides;
    use crate::{
        channel::ChannelKey,
        cluster::view::{ClusterId, Member, NodeId, View},
        code::ErrorCode,
        fanout::Subscriber,
        message::{Form, Payload},
        serial::{Epoch, Serial},
        session::event,
        settings::{
            hub::{Hub, Rules},
            resource::HubSpec,
        },
        shard::{
            Config,
            history::HistoryBounds,
            peer::{Body, Opening, Part, PeerMessage, Resume, Say, SayAll, ToOwner, ToRelay},
            request::{Ask, Effect, Listener, Publish, Reply, Request, Start, Subscribe, Token},
        },
        time::Now,
    };

    const NOW: Now = Now { mono_ms: 5, unix_ms: 5 };
    const ME: NodeId = NodeId { node: 1, generation: 1 };
    const OTHER: NodeId = NodeId { node: 2, generation: 1 };
    const THIRD: NodeId = NodeId { node: 3, generation: 1 };
    const CONFIG: Config = Config {
        node: ME.node,
        generation: ME.generation,
        index: 0,
        count: 1,
        seed: 1,
        history: HistoryBounds { messages_max: 9, bytes_max: 1_000, unseen_max: 9 },
        retain_ms: 1,
        close_ms: 1_000,
        occupancy_ms: 1_000,
        hold_ms: 1_000,
        restore_ms: 1_000,
        waiting_max: 10,
        held_max: 10,
        channels_max: 10,
        copying_max: 10,
    };

    fn view(number: u64, members: &[NodeId]) -> Arc<View> {
        let members = members.iter().map(|id| Member { id: *id, points: 64 }).collect();
        Arc::new(View::new(ClusterId { founded_ms: 1, chance: 1 }, number, members))
    }

    fn hub(redundancy: u8) -> Arc<Hub> {
        let mut hub =
            Hub::with_spec("shop", &HubSpec { default_public: true, allow_anonymous: true, ..HubSpec::default() });
        hub.default_rules = Rules { redundancy, store: true, ..hub.default_rules };
        Arc::new(hub)
    }

    /// A node of two that does not reach the other, and a channel of the other.
    fn alone() -> (Sides, ChannelKey) {
        let mut sides = Sides::new(CONFIG);
        let both = view(3, &[ME, OTHER]);
        let keys = (0..).map(|number: u32| ChannelKey::new("shop", number.to_string()));
        let key = keys.into_iter().find(|key| both.owner(key.point()) == Some(OTHER)).expect("it owns half of all");
        sides.set_hub(NOW, hub(0), &mut Vec::new());
        sides.install(NOW, both, Vec::new(), &mut Vec::new());
        (sides, key)
    }

    /// What is answered to a publish, and to those that waited, in this turn.
    fn publish(sides: &mut Sides, key: &ChannelKey, number: i64, store: bool) -> Vec<(i64, Result<u64, ErrorCode>)> {
        let token = Token { subscriber: Subscriber { slot: 0, generation: 0 }, number };
        let payload = Payload { bytes: "x".into(), form: Form::Text };
        let (event, ack) = ("e".into(), true);
        let publish = Publish { token, ack, event, payload, store, push: false, retain: false, key: None };
        let from = Listener { node: ME.node, worker: 0 };
        let mut effects = Vec::new();
        sides.handle(NOW, Request { from, key: key.clone(), ask: Ask::Publish(publish) }, &mut effects);
        answers(sides, effects)
    }

    fn answers(sides: &mut Sides, mut effects: Vec<Effect>) -> Vec<(i64, Result<u64, ErrorCode>)> {
        sides.end_turn(NOW, &mut effects);
        let answer = |effect| match effect {
            Effect::Answer { token, reply: Reply::Published(outcome), .. } => {
                Some((token.number, outcome.map(|serial| serial.sequence)))
            }
            _ => None,
        };
        effects.into_iter().filter_map(answer).collect()
    }

    #[test]
    fn what_waits_for_an_owner_out_of_reach_is_answered_in_the_side_view() {
        let (mut sides, key) = alone();
        assert_eq!(publish(&mut sides, &key, 1, false), []);
        let mut effects = Vec::new();
        sides.set_side(NOW, Some(view(1, &[ME])), &mut effects);
        assert_eq!(answers(&mut sides, effects), [(1, Ok(1))]);
        assert_eq!(publish(&mut sides, &key, 2, false), [(2, Ok(2))]);
        assert!(sides.inspect(&key).is_none() && sides.inspect_side(&key).is_some());
        // One node's store is no place for what others are to find.
        assert_eq!(publish(&mut sides, &key, 3, true), [(3, Err(ErrorCode::StoreUnavailable))]);
        sides.install(NOW, view(4, &[ME, OTHER]), vec![view(3, &[ME, OTHER])], &mut Vec::new());
        assert!(sides.inspect_side(&key).is_none() && sides.side_len() == 0);
        assert_eq!(publish(&mut sides, &key, 4, false), []);
        assert_eq!(sides.accepted(), 2);
    }

    #[test]
    fn rules_that_ask_for_copies_bring_a_channel_back() {
        let (mut sides, key) = alone();
        sides.set_side(NOW, Some(view(1, &[ME])), &mut Vec::new());
        sides.set_hub(NOW, hub(1), &mut Vec::new());
        assert_eq!(publish(&mut sides, &key, 1, false), []);
        let mut effects = Vec::new();
        sides.set_hub(NOW, hub(0), &mut effects);
        assert_eq!(answers(&mut sides, effects), [(1, Ok(1))]);
    }

    /// What the owner of the agreed view says.
    fn hear(sides: &mut Sides, body: Body) -> Vec<Effect> {
        let mut effects = Vec::new();
        sides.receive(NOW, OTHER, PeerMessage { view: 3, side: false, body }, &mut effects);
        sides.end_turn(NOW, &mut effects);
        effects
    }

    /// What the owner of the agreed view is told of where the subscribers stand, and how often they went astray.
    fn listens(effects: &[Effect]) -> Option<(Serial, u64)> {
        let listen = |effect: &Effect| {
            let Effect::Send { message: PeerMessage { side: false, body, .. }, .. } = effect else { return None };
            let Body::Channel { say: Say::Owner(ToOwner::Listen { position, astray, .. }), .. } = body else {
                return None;
            };
            Some(((*position)?, *astray))
        };
        effects.iter().find_map(listen)
    }

    #[test]
    fn an_answer_to_what_was_said_before_another_side_view_is_none() {
        let (mut sides, key) = alone();
        sides.session(NOW, OTHER, Some(1), &mut Vec::new());
        let begin = SayAll::Begin { with: vec![Opening { number: 1, ..Opening::default() }] };
        hear(&mut sides, Body::All { from: Part { index: 0, count: 1 }, say: begin });
        let token = Token { subscriber: Subscriber { slot: 0, generation: 0 }, number: 1 };
        let member = event::Member { session_id: "s".into(), identity: None, since_ms: 1 };
        let ask = Ask::Subscribe(Subscribe { token, member, attachment: 1, recover: None });
        let from = Listener { node: ME.node, worker: 0 };
        sides.handle(NOW, Request { from, key: key.clone(), ask }, &mut Vec::new());
        let epoch = Epoch { view: 3, node: OTHER.node, generation: 1, counter: 0 };
        let current = Serial { epoch, sequence: 4 };
        let start = Start {
            position: current,
            recovered: None,
            known: None,
            missed: Vec::new(),
            current,
            retained: None,
            members: None,
            occupancy: None,
        };
        let say = |say| Body::Channel { key: key.clone(), say: Say::Relay(say) };
        let subscribed = ToRelay::Subscribed { number: 1, outcome: Ok(Box::new(start)), presence: 0 };
        hear(&mut sides, say(subscribed));
        // It comes back from two side views; nobody answers in the second, so it stands where it stood.
        let goes_and_comes = |sides: &mut Sides, number, member| {
            let mut effects = Vec::new();
            sides.set_side(NOW, Some(view(number, &[member])), &mut effects);
            sides.end_turn(NOW, &mut effects);
            effects.clear();
            sides.set_side(NOW, None, &mut effects);
            listens(&effects).expect("the owner is told")
        };
        let (first, second) = (goes_and_comes(&mut sides, 1, ME), goes_and_comes(&mut sides, 2, THIRD));
        assert!(first.0 == second.0 && 0 < first.1 && first.1 < second.1);
        let resume = |(from, astray)| {
            let (missed, known, members, occupancy) = (None, None, None, None);
            ToRelay::Resume(Box::new(Resume {
                from,
                copied: true,
                astray,
                missed,
                current,
                forks: 0,
                known,
                members,
                presence: 0,
                occupancy,
            }))
        };
        let moved = |effect: &Effect| matches!(effect, Effect::Reposition { position, .. } if *position == current);
        assert!(!hear(&mut sides, say(resume(first))).iter().any(moved));
        assert!(hear(&mut sides, say(resume(second))).iter().any(moved));
    }
}
