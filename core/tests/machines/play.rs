//! Plays a script, and then lets everything come to rest and go.

use std::{collections::HashMap, sync::Arc};

use appsockets_core::{
    message::{Form, Payload},
    serial::Serial,
    session::{
        event::Event,
        request::{Credentials, PublishInfo, Recover, Request, SubscribeInfo},
    },
};

use crate::{
    broken::Fault,
    hubs::{self, OCCUPANCY_MS, Switches},
    script::{CHANNELS, CLIENTS, Claim, Op, Publishing, USERS},
    verdict,
    world::World,
};

/// A world in which a script is played.
#[derive(Debug)]
struct Play {
    world: World,
    /// What was last sent under each key, by channel.
    sent: HashMap<(usize, u8), Publishing>,
    payloads: HashMap<(usize, u8), Payload>,
    messages: u32,
    set_back_ms: u64,
}

/// Whether clients get what they may rely on, whatever the script does.
pub fn play(ops: &[Op], workers: usize, fault: Fault) -> Result<(), String> {
    let mut play = Play {
        world: World::new(workers, CLIENTS, Switches::ALL.hub()),
        sent: HashMap::new(),
        payloads: HashMap::new(),
        messages: 0,
        set_back_ms: 0,
    };
    play.world.fault = fault;
    for (step, op) in ops.iter().enumerate() {
        play.step(op);
        play.check(&format!("step {step}, {op:?}"))?;
    }
    play.come_to_rest();
    play.check("coming to rest")?;
    verdict::quiet(&play.world)?;
    play.let_go();
    play.check("letting go")?;
    verdict::nothing_is_left(&mut play.world)
}

impl Play {
    fn check(&self, when: &str) -> Result<(), String> {
        match self.world.mistakes.first() {
            Some(mistake) => Err(format!("{when}: {mistake}")),
            None => Ok(()),
        }
    }

    fn come_to_rest(&mut self) {
        (0..CLIENTS).for_each(|client| self.world.drain(client));
        self.settle_all();
        loop {
            let sessions = self.world.sessions().count();
            self.world.pass(OCCUPANCY_MS);
            self.settle_all();
            // What leaves meanwhile is counted in the next interval.
            if self.world.sessions().count() == sessions {
                return;
            }
        }
    }

    fn settle_all(&mut self) {
        self.world.settle();
        while !self.world.stores.is_empty() {
            self.world.answer_store(true);
            self.world.settle();
        }
    }

    /// Every client leaves, and every time passes.
    fn let_go(&mut self) {
        (0..CLIENTS).for_each(|client| self.world.request(client, Request::Close));
        self.settle_all();
        // Sessions whose connection nobody noticed to be gone miss their heartbeat, and then are not restored.
        self.world.pass(60_000);
        self.settle_all();
        self.world.pass(130_000);
        self.settle_all();
    }

    fn step(&mut self, op: &Op) {
        let world = &mut self.world;
        match *op {
            Op::Connect { client, worker, user } => self.connect(client, worker, user),
            Op::Auth { client, token, ack } => {
                let token = USERS.get(token).copied().unwrap_or(if token == USERS.len() { "bad" } else { "away" });
                let req_id = self.req_id(client, ack);
                self.world.request(client, Request::Auth { req_id, credentials: Credentials::Token(token.into()) });
            }
            Op::AnswerAuth => world.answer_auth(),
            Op::Subscribe { client, ref channels, ack } => {
                let req_id = self.req_id(client, ack);
                let infos = channels.iter().map(|(channel, claim)| self.info(client, *channel, *claim)).collect();
                self.world.request(client, Request::Subscribe { req_id, channels: infos });
            }
            Op::Unsubscribe { client, channel, ack } => self.unsubscribe(client, channel, ack),
            Op::Publish { client, ref publishes } => {
                let infos = publishes.iter().map(|publishing| self.publish(client, *publishing)).collect();
                self.world.request(client, Request::Publish(infos));
            }
            Op::Break { client, noticed } => world.break_connection(client, noticed),
            Op::Restore { client, worker, user, tell } => self.restore(client, worker, user, tell),
            Op::Close { client } => world.request(client, Request::Close),
            Op::Fill { client } => world.fill(client),
            Op::Drain { client } => world.drain(client),
            Op::Rules { presence, occupancy, store, retain, anonymous, user_channel, a_closed } => {
                let switches = Switches { presence, occupancy, store, retain, anonymous, user_channel, a_closed };
                world.set_hub(Some(switches.hub()));
            }
            Op::RemoveHub => {
                // A request that is under way could not be told from one to the hub of the same name that comes next.
                world.settle();
                world.set_hub(None);
                world.learn_all();
                // A time is no epoch: it can't tell the channels before from those after within one millisecond.
                world.pass(100);
                world.set_hub(Some(Switches::ALL.hub()));
                world.learn_all();
            }
            Op::Learn { worker } => world.learn(worker % world.workers.len()),
            Op::Pass { ms } => world.pass(ms),
            Op::SetBack if self.set_back_ms < 60 => {
                self.set_back_ms += 20;
                world.set_back(20);
            }
            Op::SetBack => {}
            Op::Store { ok } => world.answer_store(ok),
            Op::Arrive { link, letters } => world.arrive(link, letters),
            Op::Turn => world.turn(),
            Op::Settle => world.settle(),
        }
    }

    fn connect(&mut self, client: usize, worker: usize, user: Option<usize>) {
        if self.world.clients[client].at.is_none() {
            self.world.clients[client].forget();
            self.open(client, worker, user);
        }
    }

    fn open(&mut self, client: usize, worker: usize, user: Option<usize>) {
        let worker = worker % self.world.workers.len();
        self.world.connect(client, worker, user.map(|user| hubs::user(USERS[user])));
    }

    fn restore(&mut self, client: usize, worker: usize, user: Option<usize>, tell: bool) {
        let this = &mut self.world.clients[client];
        let (None, Some(key)) = (this.at, this.restore_key.clone()) else { return };
        let known = this.views.iter().filter(|_| tell);
        let positions = known.map(|(channel, view)| SubscribeInfo {
            channel: channel.clone(),
            recover: Some(Recover::Serial(view.position)),
        });
        let positions = positions.collect();
        self.open(client, worker, user);
        self.world.request(client, Request::Restore { key, positions });
    }

    fn unsubscribe(&mut self, client: usize, channel: usize, ack: bool) {
        let req_id = self.req_id(client, ack);
        let channel: Arc<str> = CHANNELS[channel].into();
        let before = self.world.clients[client].log.len();
        self.world.request(client, Request::Unsubscribe { req_id, channels: vec![channel.clone()] });
        let this = &mut self.world.clients[client];
        // Success without a request id is silent; a refusal of the whole request names no channel.
        let refused = |event: &Event| matches!(event, Event::Error(failure) if failure.channel.is_none());
        if this.at.is_some() && req_id.is_none() && !this.log[before..].iter().any(refused) {
            this.left(&channel);
        }
    }

    fn req_id(&mut self, client: usize, ack: bool) -> Option<i64> {
        ack.then(|| self.world.clients[client].next_req_id())
    }

    fn info(&self, client: usize, channel: usize, claim: Claim) -> SubscribeInfo {
        let channel: Arc<str> = CHANNELS[channel].into();
        let known = self.world.clients[client].memory.get(&channel);
        let recover = known.and_then(|(serial, ts_ms)| match claim {
            Claim::Nothing => None,
            Claim::Last => Some(Recover::Serial(*serial)),
            Claim::LastTime => Some(Recover::Timestamp(*ts_ms)),
            Claim::Ahead => Some(Recover::Serial(Serial { sequence: serial.sequence + 50, ..*serial })),
            Claim::Beginning => Some(Recover::Serial(Serial { sequence: 0, ..*serial })),
            Claim::Bad => Some(Recover::BadSerial),
        });
        SubscribeInfo { channel, recover }
    }

    fn publish(&mut self, client: usize, publishing: Publishing) -> PublishInfo {
        let slot = publishing.key.map(|key| (publishing.channel, key));
        let again = slot.filter(|_| !publishing.fresh).and_then(|slot| self.sent.get(&slot).copied());
        let payload = slot.filter(|_| again.is_some()).and_then(|slot| self.payloads.get(&slot).cloned());
        let payload = payload.unwrap_or_else(|| self.payload());
        let publishing = Publishing { ack: publishing.ack, ..again.unwrap_or(publishing) };
        if let Some(slot) = slot {
            self.sent.insert(slot, publishing);
            self.payloads.insert(slot, payload.clone());
        }
        PublishInfo {
            req_id: self.req_id(client, publishing.ack),
            channel: CHANNELS[publishing.channel].into(),
            event: "e".into(),
            payload,
            store: publishing.store,
            push: false,
            retain: publishing.retain,
            key: publishing.key.map(|key| format!("key-of-16-bytes-{key}").into()),
        }
    }

    fn payload(&mut self) -> Payload {
        self.messages += 1;
        Payload { bytes: format!("message {}", self.messages).into(), form: Form::Text }
    }
}
