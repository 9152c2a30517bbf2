//! What must hold whatever happens. It sees everything that every node does, which no node can.

use std::collections::{BTreeMap, BTreeSet};

use appsockets_core::cluster::{
    view::{ClusterId, NodeId, View},
    views::message::{Ballot, Effect, Message, Told},
};

pub type Place = Option<(ClusterId, u64)>;

/// What one node has done so far.
#[derive(Debug, Default)]
struct Record {
    place: Place,
    settled: u64,
    /// The clusters of the views that it knows, by number.
    chain: BTreeMap<u64, ClusterId>,
    on: BTreeSet<NodeId>,
    /// The number of its last side view.
    aside: u64,
    /// Peers that were told the current place on the current link.
    announced: BTreeSet<NodeId>,
    /// What peers said last on the current link.
    heard: BTreeMap<NodeId, Place>,
}

#[derive(Debug, Default)]
pub struct Judge {
    pub expected: usize,
    views: BTreeMap<(ClusterId, u64), View>,
    votes: BTreeMap<(Option<ClusterId>, u64, Ballot), BTreeSet<NodeId>>,
    served: BTreeSet<(ClusterId, u64, NodeId)>,
    records: BTreeMap<NodeId, Record>,
    pub dead: BTreeSet<NodeId>,
    pub installs: u64,
}

pub type Verdict = Result<(), String>;

impl Judge {
    pub fn new(expected: usize) -> Judge {
        Judge { expected, ..Judge::default() }
    }

    pub fn link(&mut self, id: NodeId, peer: NodeId) {
        let record = self.records.entry(id).or_default();
        record.announced.remove(&peer);
        record.heard.remove(&peer);
    }

    pub fn hears(&mut self, id: NodeId, from: NodeId, message: &Message) {
        let record = self.records.entry(id).or_default();
        match message {
            Message::NoView(_) => drop(record.heard.insert(from, None)),
            Message::Is(told) => drop(record.heard.insert(from, Some((told.view.cluster, told.view.number)))),
            _ => {}
        }
    }

    pub fn serves(&mut self, id: NodeId, view: &View) {
        self.served.insert((view.cluster, view.number, id));
    }

    pub fn place(&self, id: NodeId) -> Place {
        self.records.get(&id).and_then(|record| record.place)
    }

    pub fn is_on(&self, id: NodeId, peer: NodeId) -> bool {
        self.records.get(&id).is_some_and(|record| record.on.contains(&peer))
    }

    /// A message as it goes on the wire, which a broken node may have changed.
    pub fn sent(&mut self, from: NodeId, message: &Message) {
        if let Message::Accepted { number, ballot } = message {
            let cluster = self.place(from).map(|(cluster, _)| cluster);
            self.votes.entry((cluster, *number, *ballot)).or_default().insert(from);
        }
    }

    pub fn does(&mut self, id: NodeId, effect: &Effect) -> Verdict {
        match effect {
            Effect::Send { to, message } => self.sends(id, *to, message),
            Effect::Install { view, open } => {
                let open: Vec<&View> = open.iter().map(|view| &**view).collect();
                self.installs(id, view, &open)
            }
            Effect::Settled { number } => self.settles(id, *number),
            Effect::Session { peer, on } => self.switches(id, *peer, *on),
            Effect::Side(view) => self.stands_aside(id, view.as_deref()),
            Effect::SideSession { peer, on } => {
                let in_session = self.is_on(id, *peer);
                check(!on || in_session, || format!("{id:?} has a side session with {peer:?} and no other"))
            }
            Effect::Dissolve => Ok(()),
        }
    }

    /// After each input: sessions are on just where both stand at the same view.
    pub fn rests(&mut self, id: NodeId, knows_gone: impl Fn(NodeId) -> bool) -> Verdict {
        let Some(record) = self.records.get(&id) else { return Ok(()) };
        for (peer, heard) in &record.heard {
            let together = record.place.is_some() && *heard == record.place;
            let on = record.on.contains(peer);
            check(on == together || (!on && knows_gone(*peer)), || format!("{id:?} with {peer:?}: session {on}"))?;
        }
        let stray = record.on.iter().find(|peer| !record.heard.contains_key(peer));
        check(stray.is_none(), || format!("{id:?} has a session without a link: {stray:?}"))
    }

    /// Numbers of side views rise, and only members are in them.
    fn stands_aside(&mut self, id: NodeId, view: Option<&View>) -> Verdict {
        let record = self.records.entry(id).or_default();
        let (Some(view), Some(place)) = (view, record.place) else { return Ok(()) };
        let before = std::mem::replace(&mut record.aside, view.number);
        let agreed = self.views.get(&place);
        let inside = |agreed: &View| view.members.iter().all(|member| agreed.contains(member.id));
        check(before < view.number && agreed.is_some_and(inside), || format!("{id:?} at {place:?} goes to {view:?}"))
    }

    /// A node may leave its view only if more than half of the members are dead.
    fn retires(&mut self, id: NodeId, from: Place) -> Verdict {
        let view = from.and_then(|place| self.views.get(&place));
        let dead = |view: &View| view.members.iter().filter(|member| self.dead.contains(&member.id)).count();
        let lost = view.is_some_and(|view| 2 * dead(view) > view.members.len());
        let record = self.records.entry(id).or_default();
        check(lost && record.place == from && record.on.is_empty(), || format!("{id:?} leaves {from:?}"))?;
        record.place = None;
        record.announced.clear();
        Ok(())
    }

    fn sends(&mut self, id: NodeId, to: NodeId, message: &Message) -> Verdict {
        if let Message::NoView(Some(past)) = message
            && self.place(id).is_some()
        {
            self.retires(id, Some((past.view.cluster, past.view.number)))?;
        }
        let record = self.records.entry(id).or_default();
        let place = match message {
            Message::NoView(_) => None,
            Message::Is(Told { view, gone, .. }) => {
                let lives = gone.iter().find(|gone| !self.dead.contains(gone));
                check(lives.is_none(), || format!("{id:?} says that {lives:?} is gone"))?;
                Some((view.cluster, view.number))
            }
            _ => return check(record.announced.contains(&to), || format!("{id:?} says {message:?} first to {to:?}")),
        };
        record.announced.insert(to);
        check(place == record.place, || format!("{id:?} says that it is at {place:?}"))
    }

    fn installs(&mut self, id: NodeId, view: &View, open: &[&View]) -> Verdict {
        self.installs += 1;
        for known in open.iter().copied().chain([view]) {
            self.is_decided(id, known)?;
        }
        let record = self.records.entry(id).or_default();
        check(record.on.is_empty(), || format!("{id:?} installs with sessions on"))?;
        // Whoever has no link tells nobody that it leaves a lost view.
        let follows = |(cluster, number): (ClusterId, u64)| {
            open.iter().any(|before| before.cluster == cluster && before.number >= number)
        };
        let goes_up = record.place.is_none_or(|(cluster, number)| {
            cluster == view.cluster && number < view.number || cluster != view.cluster && follows((cluster, number))
        });
        check(goes_up, || format!("{id:?} goes from {:?} to {view:?}", record.place))?;
        record.place = Some((view.cluster, view.number));
        record.announced.clear();
        record.chain.extend(open.iter().chain(&[view]).map(|view| (view.number, view.cluster)));
        check(self.is_chain(view, open), || format!("{id:?} installs {view:?} after {open:?}"))
    }

    /// The views before this one are all there, from a settled one to the last.
    fn is_chain(&self, view: &View, open: &[&View]) -> bool {
        let Some(first) = open.first() else { return view.number == 1 };
        let served = |view: &View| self.is_served(view.cluster, view.number);
        let begins = first.number == 1 || served(first) || served(view);
        begins && open.iter().map(|open| open.number).eq(first.number..view.number)
    }

    /// A view is the only one of its number, and had its votes when it was first seen.
    fn is_decided(&mut self, by: NodeId, view: &View) -> Verdict {
        if let Some(known) = self.views.get(&(view.cluster, view.number)) {
            // Within another's origin a view is told without its own.
            return check(known.members == view.members, || format!("two views of one number: {known:?} and {view:?}"));
        }
        check(self.has_votes(by, view), || format!("{by:?} installs {view:?} without votes"))?;
        self.views.insert((view.cluster, view.number), view.clone());
        Ok(())
    }

    fn has_votes(&self, by: NodeId, view: &View) -> bool {
        let before = self.views.get(&(view.cluster, view.number - 1));
        // All foundings are one decision, whatever number the view goes on with.
        let begins = view.origin.last().map_or(1, |last| last.number + 1);
        let decides = if before.is_none() && begins == view.number { 1 } else { view.number };
        let none = BTreeSet::new();
        let ballots = self.votes.iter().filter(|((cluster, number, ballot), _)| {
            *number == decides && ballot.by == by && *cluster == before.map(|view| view.cluster)
        });
        ballots.map(|(_, votes)| votes).chain([&none]).any(|votes| match before {
            None => votes.iter().chain([&by]).map(|id| id.node).collect::<BTreeSet<_>>().len() > self.expected / 2,
            Some(before) => self.is_quorum(before, by, votes),
        })
    }

    fn is_quorum(&self, before: &View, by: NodeId, votes: &BTreeSet<NodeId>) -> bool {
        let ids = before.members.iter().map(|member| member.id);
        let (voters, others): (Vec<_>, Vec<_>) = ids.partition(|id| *id == by || votes.contains(id));
        let half = voters.len() == others.len() && others.iter().all(|id| self.dead.contains(id));
        before.contains(by) && (half || voters.len() > others.len())
    }

    fn is_served(&self, cluster: ClusterId, number: u64) -> bool {
        let view = self.views.get(&(cluster, number));
        view.is_some_and(|view| view.members.iter().all(|member| self.served.contains(&(cluster, number, member.id))))
    }

    fn settles(&mut self, id: NodeId, number: u64) -> Verdict {
        let record = self.records.entry(id).or_default();
        check(number > record.settled, || format!("{id:?} settles {number} after {}", record.settled))?;
        record.settled = number;
        let Some((cluster, at)) = record.place else { return Err(format!("{id:?} settles {number} without a view")) };
        let cluster = record.chain.get(&number).copied().unwrap_or(cluster);
        check(number <= at && self.is_served(cluster, number), || {
            format!("{id:?} at {at} settles {number}, not served")
        })
    }

    fn switches(&mut self, id: NodeId, peer: NodeId, on: bool) -> Verdict {
        let record = self.records.entry(id).or_default();
        let changes = if on { record.on.insert(peer) } else { record.on.remove(&peer) };
        check(changes, || format!("{id:?} has its session with {peer:?} {on} already"))?;
        check(!on || record.announced.contains(&peer), || format!("{id:?} begins a session unannounced with {peer:?}"))
    }
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}
