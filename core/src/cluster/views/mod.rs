//! Which view this node stands at, and how the cluster comes to the next one.
//!
//! View k+1 is decided by the members of view k in one round of Paxos of its own, so no two views share a number. The
//! members keep no state on disk: a restarted process is another node, and no member of k. What gossip and links say
//! only gives reasons to propose (`wanted.rs`); what is wrong there costs a view and never two of them.
//!
//! The first message on every link, and on each link after every install, says where a node stands. That passes views
//! on to whoever lacks them, and it lets every other message be judged by its sender's place: votes count only between
//! nodes that stand at the same view of the same cluster.
//!
//! The first view is decided in the same way among core nodes that know none. They may be more than were expected, so
//! two clusters can come to be; where they meet, the younger begins again. A cluster that has lost a majority for ever is
//! founded anew by the nodes that are left together with others, and takes over what they have (`past.rs`).
//!
//! Nodes that reach no majority go on in side views, which nothing here depends on (`side.rs`).

mod acceptor;
mod deciding;
mod gone;
mod links;
pub mod message;
mod past;
mod proposer;
pub mod side;
mod standing;
mod surroundings;
mod wanted;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    cluster::{
        view::{NodeId, View},
        views::{
            acceptor::Acceptor,
            links::{Links, Place},
            message::{Config, Effect, Known, Message, Told},
            past::no_view,
            proposer::Proposer,
            side::Side,
            standing::{Standing, is_sound},
            surroundings::Surroundings,
        },
    },
    time::Now,
};

/// The state machine of one node.
#[derive(Debug)]
pub struct Views {
    config: Config,
    standing: Option<Standing>,
    /// Where it stood in a cluster that has lost a majority for ever, until another is founded.
    past: Option<Standing>,
    /// The same of peers that were linked and may come again.
    pasts: BTreeMap<NodeId, Told>,
    links: Links,
    surroundings: Surroundings,
    acceptor: Acceptor,
    proposer: Proposer,
    side: Side,
    dissolved: bool,
    /// Since when there are enough nodes without a view for a founding.
    enough_since_ms: Option<u64>,
    next_ms: Option<u64>,
}

impl Views {
    /// A node that knows no view. Nothing happens before the first input, so [`Views::tick`] is due at once. What gossip
    /// knows already is better told before: a node that expects no other founds a cluster as soon as it can.
    pub fn new(now: Now, config: Config) -> Views {
        Views {
            config,
            standing: None,
            past: None,
            pasts: BTreeMap::new(),
            links: Links::default(),
            surroundings: Surroundings::new(config.me),
            acceptor: Acceptor::default(),
            proposer: Proposer::default(),
            side: Side::default(),
            dissolved: false,
            enough_since_ms: None,
            next_ms: Some(now.mono_ms),
        }
    }

    /// A link has come up; what the peer sent on an earlier one comes no more. One to a node that is certainly gone is
    /// passed over.
    pub fn link_up(&mut self, now: Now, peer: NodeId, effects: &mut Vec<Effect>) {
        if self.dissolved || peer == self.config.me || self.is_gone(peer) {
            return;
        }
        self.surroundings.gone.met(peer);
        self.links.down(peer, effects);
        self.links.up(peer);
        effects.push(Effect::Send { to: peer, message: self.announcement() });
        self.stir(now, effects);
    }

    pub fn link_down(&mut self, now: Now, peer: NodeId, effects: &mut Vec<Effect>) {
        self.links.down(peer, effects);
        self.stir(now, effects);
    }

    /// Takes a message from a link that is up. One that makes no sense changes nothing.
    pub fn receive(&mut self, now: Now, from: NodeId, message: Message, effects: &mut Vec<Effect>) {
        if self.dissolved || !self.links.is_up(from) {
            return;
        }
        match message {
            Message::NoView(past) => self.viewless(from, past, effects),
            Message::Is(told) => self.told(from, told, effects),
            Message::Served { number } => self.peer_served(from, number, effects),
            Message::Settled { number } if self.is_with(from, number) => self.settle(number, effects),
            Message::Settled { .. } => {}
            Message::Side(said) => self.side_said(from, said),
            Message::Aside { number, view } => self.called_aside(from, number, view, effects),
            vote => self.vote(from, vote, effects),
        }
        self.stir(now, effects);
    }

    /// What gossip knows now, this node included.
    pub fn gossip(&mut self, now: Now, known: Vec<Known>, effects: &mut Vec<Effect>) {
        self.surroundings.hear(known);
        self.stir(now, effects);
    }

    /// That node, and every earlier run of it, is certainly gone.
    pub fn gone(&mut self, now: Now, id: NodeId, effects: &mut Vec<Effect>) {
        self.surroundings.gone.add(id);
        let gone = &self.surroundings.gone;
        self.pasts.retain(|peer, _| !gone.is_gone(*peer));
        self.stir(now, effects);
    }

    /// This node serves all that it owns in that view, and so do its copies.
    pub fn served(&mut self, now: Now, number: u64, effects: &mut Vec<Effect>) {
        let Some(standing) = self.standing.as_ref().filter(|standing| standing.view.number == number) else { return };
        if self.dissolved || !standing.view.contains(self.config.me) || standing.has_served(self.config.me) {
            return;
        }
        self.say_in_sessions(&Message::Served { number }, effects);
        self.count_served(self.config.me, effects);
        self.stir(now, effects);
    }

    pub fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.stir(now, effects);
    }

    /// When [`Views::tick`] is due, in `Now::mono_ms`.
    pub fn next_tick_ms(&self) -> Option<u64> {
        self.next_ms
    }

    pub fn view(&self) -> Option<&Arc<View>> {
        self.standing.as_ref().map(|standing| &standing.view)
    }

    /// The last view that all its members have served; 0 if none is known.
    pub fn settled(&self) -> u64 {
        self.standing.as_ref().map_or(0, |standing| standing.settled)
    }

    /// Whether that process has certainly ended.
    pub fn is_gone(&self, id: NodeId) -> bool {
        self.surroundings.gone.is_gone(id)
    }

    /// Whether so many members are certainly gone that this node's view can have no successor.
    pub fn is_lost(&self) -> bool {
        self.view().is_some_and(|view| self.has_no_future(view))
    }

    /// A majority is out of reach forever.
    fn has_no_future(&self, view: &View) -> bool {
        let living = view.members.iter().filter(|member| !self.is_gone(member.id)).count();
        2 * living < view.members.len()
    }

    fn place(&self) -> Place {
        self.standing.as_ref().and_then(Standing::place)
    }

    fn is_with(&self, peer: NodeId, number: u64) -> bool {
        let place = self.place();
        place.is_some_and(|(_, ours)| ours == number) && self.links.is_at(peer, place)
    }

    fn announcement(&self) -> Message {
        match &self.standing {
            Some(standing) => Message::Is(standing.told(|id| self.is_gone(id))),
            None => no_view(self.past.as_ref(), |id| self.is_gone(id)),
        }
    }

    /// A peer says where it stands.
    fn told(&mut self, from: NodeId, told: Told, effects: &mut Vec<Effect>) {
        if !is_sound(&told) {
            return;
        }
        let (cluster, number) = (told.view.cluster, told.view.number);
        self.note_gone(&told);
        self.pasts.remove(&from);
        self.links.says(from, Some((cluster, number)), self.place(), effects);
        let has_future = !self.has_no_future(&told.view);
        match &mut self.standing {
            None if has_future && self.past.is_some() => self.told_between(told, effects),
            None if has_future => self.install(told, effects),
            // Nodes that know no view can found a cluster; one that can decide nothing any more stops them only until it
            // has had the time to take part.
            None => self.links.note_lost(from),
            Some(standing) if standing.view.cluster != cluster => self.meet(told, effects),
            Some(standing) if standing.view.number < number => self.install(told, effects),
            Some(standing) => {
                standing.learn(&told.open);
                self.begin_session(from, effects);
                self.settle(told.settled, effects);
            }
        }
    }

    fn note_gone(&mut self, told: &Told) {
        for id in told.gone.iter().filter(|id| told.view.contains(**id)) {
            self.surroundings.gone.add(*id);
        }
    }

    /// Of two clusters the younger begins again, unless the older can decide nothing any more; but one that follows from
    /// the other is joined as it is.
    fn meet(&mut self, told: Told, effects: &mut Vec<Effect>) {
        let Some(standing) = &self.standing else { return };
        let (ours, theirs) = (&standing.view, &told.view);
        let follows = Standing::new(told.clone()).is_continued_by(&standing.told(|_| false));
        if follows || self.has_no_future(theirs) {
            return;
        }
        if standing.is_continued_by(&told) {
            self.install(told, effects);
        } else if theirs.cluster < ours.cluster || self.is_lost() {
            self.dissolve(effects);
        }
    }

    fn dissolve(&mut self, effects: &mut Vec<Effect>) {
        self.links.end_sessions(effects);
        effects.push(Effect::Dissolve);
        self.dissolved = true;
        (self.links, self.past, self.pasts) = (Links::default(), None, BTreeMap::new());
        self.next_ms = None;
    }

    /// Goes to that view and says so on all links, before anything else is said on them.
    fn install(&mut self, told: Told, effects: &mut Vec<Effect>) {
        self.links.end_sessions(effects);
        let before = self.standing.take().or(self.past.take());
        let settled = before.as_ref().map_or(0, |standing| standing.settled);
        let standing = match before {
            Some(mut standing) => {
                standing.advance(&told);
                standing
            }
            None => Standing::new(told),
        };
        let standing = self.standing.insert(standing);
        (self.acceptor, self.proposer) = (Acceptor::default(), Proposer::default());
        effects.push(Effect::Install { view: standing.view.clone(), open: standing.open() });
        if standing.settled > settled {
            effects.push(Effect::Settled { number: standing.settled });
        }
        let announcement = self.announcement();
        effects.extend(self.links.peers().map(|to| Effect::Send { to, message: announcement.clone() }));
        for peer in self.links.at(self.place()).collect::<Vec<_>>() {
            self.begin_session(peer, effects);
        }
    }

    /// The peer may have come here after this node served the view or heard that it is settled.
    fn begin_session(&mut self, peer: NodeId, effects: &mut Vec<Effect>) {
        if !self.links.begin_session(peer, self.place()) {
            return;
        }
        effects.push(Effect::Session { peer, on: true });
        let Some(standing) = &self.standing else { return };
        let number = standing.view.number;
        if standing.is_settled() {
            effects.push(Effect::Send { to: peer, message: Message::Settled { number } });
        } else if standing.has_served(self.config.me) {
            effects.push(Effect::Send { to: peer, message: Message::Served { number } });
        }
    }

    fn peer_served(&mut self, from: NodeId, number: u64, effects: &mut Vec<Effect>) {
        if self.is_with(from, number) {
            self.count_served(from, effects);
        }
    }

    fn count_served(&mut self, id: NodeId, effects: &mut Vec<Effect>) {
        let Some(standing) = &mut self.standing else { return };
        if standing.serves(id) {
            let number = standing.view.number;
            self.settle(number, effects);
        }
    }

    /// Passes it on when it concerns the view that the peers stand at: not every member reaches every other.
    fn settle(&mut self, number: u64, effects: &mut Vec<Effect>) {
        let Some(standing) = &mut self.standing else { return };
        if !standing.settle(number) {
            return;
        }
        effects.push(Effect::Settled { number });
        if number == standing.view.number {
            self.say_in_sessions(&Message::Settled { number }, effects);
        }
    }

    fn say_in_sessions(&self, message: &Message, effects: &mut Vec<Effect>) {
        effects.extend(self.links.sessions().map(|to| Effect::Send { to, message: message.clone() }));
    }
}
