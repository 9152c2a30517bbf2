//! What must hold of presence and occupancy as they are told, and of everything once all is quiet.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use appsockets_core::{
    access,
    channel::ChannelKey,
    identity::Identity,
    session::event::{Member, PresenceChange},
    shard::request::{Ask, Effect, Notice, Reply, Request, Subscribe},
    time::Now,
};

use crate::{
    client::Client,
    hubs::{HUB, OCCUPANCY_MS},
    world::World,
};

/// What the shard was asked and has told of who is where.
#[derive(Debug, Default)]
pub struct Notices {
    members: HashMap<(ChannelKey, Arc<str>), Asked>,
    counted_ms: HashMap<ChannelKey, u64>,
    /// The same notice goes to each listener; it is judged once.
    last: Option<Arc<[Member]>>,
}

/// What was asked of one session in one channel.
#[derive(Debug, Default)]
struct Asked {
    subscriptions: u32,
    identity: Option<Arc<Identity>>,
    /// A leave may be told.
    may_leave: bool,
    present: bool,
}

impl Notices {
    pub fn rules_changed(&mut self) {
        self.counted_ms.clear();
        self.members.values_mut().for_each(|asked| asked.may_leave = true);
    }

    pub fn asked(&mut self, request: &Request) {
        let id = match &request.ask {
            Ask::Subscribe(Subscribe { member, .. }) | Ask::Enter { member, .. } => member.session_id.clone(),
            Ask::Unsubscribe { session_id, .. } => session_id.clone(),
            Ask::Publish(_) | Ask::ReadPresence { .. } | Ask::Keep { .. } | Ask::Take { .. } => return,
        };
        let asked = self.members.entry((request.key.clone(), id)).or_default();
        match &request.ask {
            Ask::Subscribe(subscribe) => {
                asked.subscriptions += 1;
                asked.is_now(&subscribe.member);
            }
            Ask::Enter { member, .. } => asked.is_now(member),
            Ask::Unsubscribe { .. } => {
                asked.subscriptions = asked.subscriptions.saturating_sub(1);
                asked.may_leave |= asked.subscriptions == 0;
            }
            Ask::Publish(_) | Ask::ReadPresence { .. } | Ask::Keep { .. } | Ask::Take { .. } => {}
        }
    }

    pub fn told(&mut self, effect: &Effect, now: Now) -> Result<(), String> {
        match effect {
            Effect::Notify { key, notice: Notice::Presence { change, members }, .. } => {
                if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, members)) {
                    return Ok(());
                }
                self.last = Some(members.clone());
                members.iter().try_for_each(|member| self.changed(key, *change, member))
            }
            Effect::Notify { key, notice: Notice::Occupancy(_), .. } => {
                let before = self.counted_ms.insert(key.clone(), now.mono_ms);
                match before.filter(|ms| *ms != now.mono_ms && ms + OCCUPANCY_MS > now.mono_ms) {
                    Some(ms) => Err(format!("{key:?}: counted at {ms} and again at {}", now.mono_ms)),
                    None => Ok(()),
                }
            }
            Effect::Answer { key, reply: Reply::Subscribed(Ok(start)), .. } => {
                for member in start.members.iter().flat_map(|members| &**members) {
                    self.members.entry((key.clone(), member.session_id.clone())).or_default().present = true;
                }
                Ok(())
            }
            Effect::Notify { notice: Notice::Uncertain, .. }
            | Effect::Deliver { .. }
            | Effect::Answer { .. }
            | Effect::Reposition { .. }
            | Effect::LetGo { .. }
            | Effect::Confirm { .. }
            | Effect::Send { .. }
            | Effect::Resumed { .. }
            | Effect::Served { .. }
            | Effect::Store { .. } => Ok(()),
        }
    }

    fn changed(&mut self, key: &ChannelKey, change: PresenceChange, member: &Member) -> Result<(), String> {
        let asked = self.members.entry((key.clone(), member.session_id.clone())).or_default();
        let joins = change == PresenceChange::Join;
        // Who left when nobody listened any more was told to nobody.
        if asked.present == joins && !(joins && asked.may_leave) || !joins && !asked.may_leave {
            return Err(format!("{key:?}: {change:?} of {} without a reason", member.session_id));
        }
        asked.present = joins;
        asked.may_leave &= joins && asked.subscriptions == 0;
        Ok(())
    }
}

impl Asked {
    fn is_now(&mut self, member: &Member) {
        let shown = |identity: &Option<Arc<Identity>>| identity.as_ref().map(|i| (i.user_id.clone(), i.extra.clone()));
        self.may_leave |= shown(&self.identity) != shown(&member.identity);
        self.identity = member.identity.clone();
    }
}

/// Everything has arrived, every inbox is empty, and the time of a count has passed.
pub fn quiet(world: &World) -> Result<(), String> {
    world.ledger.finish()?;
    for client in &world.clients {
        let Some(at) = client.at else { continue };
        let held = &world.workers[at.worker].held[&at.subscriber];
        let heard: BTreeSet<_> = held.session.channels().collect();
        if heard != client.views.keys().collect() {
            return Err(format!("{at:?} hears {heard:?} and its client believes {:?}", client.views.keys()));
        }
        if !client.waiting.is_empty() {
            return Err(format!("{at:?}: requests {:?} are never answered", client.waiting));
        }
        views_are_right(
            world,
            client,
            held.session.hub().rules("b").presence,
            held.session.hub().rules("b").occupancy,
        )?;
    }
    for (at, held) in world.sessions() {
        let may_hear = |channel: &str| {
            access::decide(held.session.hub(), channel, held.session.identity().map(Arc::as_ref)).subscribe
        };
        if let Some(channel) = held.session.channels().find(|channel| !may_hear(channel)) {
            return Err(format!("{at:?} hears {channel}, which it may not"));
        }
    }
    match world.sessions().find(|(_, held)| !format!("{:?}", held.session).contains("pending: []")) {
        Some((at, held)) => Err(format!("{at:?} still waits: {:?}", held.session)),
        None => Ok(()),
    }
}

fn views_are_right(world: &World, client: &Client, presence: bool, occupancy: bool) -> Result<(), String> {
    for (channel, view) in &client.views {
        let newest = world.ledger.newest(&ChannelKey::new(HUB, channel.clone()), view.position.epoch);
        if view.position.sequence != newest {
            return Err(format!("{channel}: a client stands at {} and the newest is {newest}", view.position));
        }
        let subscribers = world.sessions().map(|(_, held)| &held.session);
        let subscribers: Vec<_> = subscribers.filter(|session| session.channels().any(|c| c == channel)).collect();
        let there: BTreeSet<_> =
            subscribers.iter().filter(|_| presence).map(|s| (s.id(), user(s.identity()))).collect();
        let seen = view.present.values().map(|m| (&m.session_id, user(m.identity.as_ref()))).collect();
        if there != seen {
            return Err(format!("{channel}: present are {there:?} and a client sees {seen:?}"));
        }
        if occupancy && view.occupancy != Some(subscribers.len() as u64) {
            return Err(format!("{channel}: {} subscribe and a client knows {:?}", subscribers.len(), view.occupancy));
        }
    }
    Ok(())
}

fn user(identity: Option<&Arc<Identity>>) -> Option<&str> {
    identity.map(|identity| &*identity.user_id)
}

/// All sessions and all that they left behind are gone.
pub fn nothing_is_left(world: &mut World) -> Result<(), String> {
    if let Some((at, _)) = world.sessions().next() {
        return Err(format!("{at:?} is still there"));
    }
    if !world.shard.is_empty() || world.shard.next_tick_ms().is_some() {
        return Err(format!("the shard still holds {:?}", world.shard));
    }
    match world.workers.iter().find(|worker| !worker.fanout.is_empty()) {
        Some(worker) => Err(format!("a worker still hears {:?}", worker.fanout)),
        None => Ok(()),
    }
}
