//! The cluster's thread: takes what links, gossip and shards say to the core's views, and carries out what those want.

mod counted;
mod exchange;
mod nodes;

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use appsockets_core::settings::compile::Compiled;
use appsockets_core::{
    cluster::{
        view::NodeId,
        views::{
            Views,
            message::{Effect, Known},
        },
    },
    time::Now,
};
use appsockets_proto::cluster::{Frame, Goodbye, frame};
use counted::Counted;
use exchange::Pulls;
use futures_util::{StreamExt, stream::FuturesUnordered};
use nodes::{Link, Nodes, Try};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    codec,
    gossip::{Facts, Gossip, Heard, resolve},
    handle::{Control, Moments, Status},
    link::{self, Failure, LinkEvent, Local, Outgoing, Peer, Pulled},
    mail::{ClusterMail, Workers},
};
use crate::edge::clock;

/// How often what follows from time alone is looked at.
const PULSE_MS: u64 = 50;
/// How soon workers without room for mail are tried again.
const MAIL_RETRY_MS: u64 = 2;
/// How often the first others are looked for, right after the start and later.
const SEEK_MS: u64 = 50;
const SEEK_LATER_MS: u64 = 1_000;
/// How long others are looked for before this node goes on alone, and later.
const FIRST_LOOK: Duration = Duration::from_millis(1_500);
const FIRST_BEACONS: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_secs(5);
const FURTHER_ANSWERS: Duration = Duration::from_millis(50);
/// How long the last words may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// What a driver is made of.
pub struct Parts {
    pub local: Arc<Local>,
    pub views: Views,
    pub workers: Workers,
    pub gossip: Gossip,
    pub seeds: Vec<String>,
    /// Whether beacons are sent.
    pub beacons: bool,
    pub control: mpsc::Receiver<Control>,
    pub events: mpsc::Receiver<LinkEvent>,
    pub status: watch::Sender<Arc<Status>>,
    /// Where work is done that takes long.
    pub runtime: Handle,
    /// How often settings of others that differ are read.
    pub settings_interval_ms: u64,
}

pub struct Driver {
    local: Arc<Local>,
    me: NodeId,
    views: Views,
    nodes: Nodes,
    workers: Workers,
    gossip: Gossip,
    heard: watch::Receiver<Arc<[Heard]>>,
    seeds: Vec<String>,
    beacons: bool,
    control: mpsc::Receiver<Control>,
    events: mpsc::Receiver<LinkEvent>,
    status: watch::Sender<Arc<Status>>,
    settings: watch::Receiver<Arc<Compiled>>,
    metadata: watch::Receiver<u64>,
    settings_interval_ms: u64,
    pulls: Pulls,
    runtime: Handle,
    tasks: JoinSet<Done>,
    /// What the views want done, in order.
    wanted: VecDeque<Effect>,
    /// Shards that serve a view, and those for which all goes on in it.
    served: Counted,
    resumed: Counted,
    alive: Arc<BTreeSet<NodeId>>,
    /// Those that the shards know to be gone.
    gone: BTreeSet<NodeId>,
    told: Facts,
    known: Vec<Known>,
    views_installed: u64,
    moments: Moments,
    leaving: Vec<oneshot::Sender<()>>,
    /// The first view without this node.
    left_in: Option<u64>,
    seeking: bool,
    started: Now,
    next_seek_ms: u64,
    mail_waits: bool,
    dissolved: bool,
}

/// What an attempt to reach others has come to.
enum Done {
    Tried { id: NodeId, outcome: Result<Option<Peer>, Failure> },
    Sought(Vec<Peer>),
    Pulled { id: NodeId, outcome: Result<Pulled, Failure> },
}

impl Driver {
    pub fn new(parts: Parts) -> Driver {
        let Parts {
            local,
            views,
            workers,
            gossip,
            seeds,
            beacons,
            control,
            events,
            status,
            runtime,
            settings_interval_ms,
        } = parts;
        let now = clock::now();
        let me = local.me;
        Driver {
            heard: gossip.heard(),
            nodes: Nodes::new(me),
            me,
            settings: local.settings.subscribe(),
            metadata: local.settings.subscribe_metadata(),
            settings_interval_ms,
            pulls: Pulls::default(),
            runtime,
            local,
            views,
            workers,
            gossip,
            seeds,
            beacons,
            control,
            events,
            status,
            tasks: JoinSet::new(),
            wanted: VecDeque::new(),
            served: Counted::default(),
            resumed: Counted::default(),
            alive: Arc::default(),
            gone: BTreeSet::new(),
            told: Facts::default(),
            known: Vec::new(),
            views_installed: 0,
            moments: Moments::default(),
            leaving: Vec::new(),
            left_in: None,
            seeking: false,
            started: now,
            next_seek_ms: now.mono_ms,
            mail_waits: false,
            dissolved: false,
        }
    }

    /// Runs until the end is asked for, or this part has dissolved.
    pub async fn run(mut self) {
        self.look_around().await;
        self.pulse(clock::now());
        loop {
            if let Some(done) = self.turn().await {
                self.say_goodbye().await;
                let _ = done.send(());
                return;
            }
            let now = clock::now();
            self.reach(now);
            self.mail_waits = !self.workers.flush();
            if self.dissolved {
                return;
            }
        }
    }

    /// Before anything else: a node that knew nobody could found a cluster of its own beside one that is there.
    async fn look_around(&mut self) {
        let found = seek(&self.local, &self.seeds, Instant::now() + FIRST_LOOK).await;
        if found.is_empty() && self.beacons {
            // Whoever hears the beacon gossips at once.
            let _ = timeout(FIRST_BEACONS, self.heard.changed()).await;
        }
        let now = clock::now();
        for peer in &found {
            self.nodes.met(now, peer);
            self.gossip.contact(peer.address);
        }
        self.take_gossip(now);
    }

    /// Takes one input. Returns who waits for the end.
    async fn turn(&mut self) -> Option<oneshot::Sender<()>> {
        let due = self.due(clock::now());
        tokio::select! {
            biased;
            control = self.control.recv() => return self.take_control(control?),
            () = sleep_until(due) => self.pulse(clock::now()),
            Ok(()) = self.heard.changed() => self.take_gossip(clock::now()),
            Ok(()) = self.settings.changed() => self.settings_changed(clock::now()),
            Ok(()) = self.metadata.changed() => self.settings_changed(clock::now()),
            Some(done) = self.tasks.join_next() => {
                if let Ok(done) = done {
                    self.take_done(clock::now(), done);
                }
            }
            Some(event) = self.events.recv(), if !self.workers.is_crowded() => self.take_event(clock::now(), event),
        }
        None
    }

    fn due(&self, now: Now) -> Instant {
        let mail = self.mail_waits.then_some(now.mono_ms + MAIL_RETRY_MS);
        let next_try = self.nodes.next_try_ms(now.mono_ms, |id| self.views.is_gone(id));
        let times = [Some(now.mono_ms + PULSE_MS), self.views.next_tick_ms(), next_try, mail];
        // Never at once: what has come in the meantime is looked at in between.
        clock::instant(times.into_iter().flatten().min().unwrap_or_default().max(now.mono_ms + 1)).into()
    }

    /// Time has passed.
    fn pulse(&mut self, now: Now) {
        if self.views.next_tick_ms().is_some_and(|ms| ms <= now.mono_ms) {
            self.views(now, |views, effects| views.tick(now, effects));
        }
        self.nodes.tidy(now.mono_ms, self.views.view().map(|view| &**view), |id| self.views.is_gone(id));
        self.tell_views(now);
        self.pull(now);
        self.seek(now);
        self.show(now);
    }

    fn take_control(&mut self, control: Control) -> Option<oneshot::Sender<()>> {
        let now = clock::now();
        match control {
            Control::Resumed { view } => {
                if self.resumed.add(view) == self.workers.count() {
                    self.moments.resumed_unix_ms = now.unix_ms;
                }
            }
            Control::Served { view } => {
                if self.served.add(view) == self.workers.count() {
                    self.views(now, |views, effects| views.served(now, view, effects));
                }
            }
            Control::Leave { done } => {
                self.local.leaving.store(true, Ordering::Relaxed);
                self.leaving.push(done);
                self.say_hello();
                self.tell_views(now);
            }
            Control::SetCore(core) => {
                self.local.core.store(core, Ordering::Relaxed);
                self.say_hello();
                self.tell_views(now);
            }
            Control::Forget { node, done } => {
                let lost = self.nodes.newest(node).filter(|(_, node)| node.link.is_none()).map(|(id, _)| id);
                if let Some(id) = lost {
                    self.views(now, |views, effects| views.gone(now, id, effects));
                }
                let _ = done.send(lost.is_some());
            }
            Control::End { done } => return Some(done),
        }
        self.show(now);
        None
    }

    fn take_gossip(&mut self, now: Now) {
        let heard = self.heard.borrow_and_update().clone();
        self.nodes.heard(now, &heard);
        self.tell_views(now);
    }

    fn take_event(&mut self, now: Now, event: LinkEvent) {
        match event {
            LinkEvent::Met(peer) => {
                self.nodes.met(now, &peer);
                self.gossip.contact(peer.address);
            }
            LinkEvent::Up { peer, outgoing } => self.link_up(now, &peer, outgoing),
            LinkEvent::Down { from, link } => self.link_down(now, from, link),
            LinkEvent::Frames { from, link, frames } => {
                for frame in frames {
                    // What one frame brings may end the link.
                    let is_it = self.nodes.link(from).is_some_and(|known| known.outgoing.number == link);
                    if is_it {
                        self.take_frame(now, from, frame);
                    }
                }
            }
        }
    }

    fn link_up(&mut self, now: Now, peer: &Peer, outgoing: Arc<Outgoing>) {
        if self.views.is_gone(peer.id) || !outgoing.is_open() {
            return outgoing.close();
        }
        self.nodes.met(now, peer);
        let link = Link { outgoing, shards: peer.shards };
        let before = self.nodes.get_mut(peer.id).and_then(|node| node.linked(link));
        if let Some(before) = before {
            before.outgoing.close();
            self.views(now, |views, effects| views.link_down(now, peer.id, effects));
        }
        tracing::info!(node = peer.id.node, generation = peer.id.generation, "linked");
        // Who is known is heard before a cluster is founded.
        self.tell_views(now);
        self.views(now, |views, effects| views.link_up(now, peer.id, effects));
        self.say_hello_to(peer.id);
        self.tell_views(now);
        self.settings_told(now, peer.id);
    }

    fn link_down(&mut self, now: Now, from: NodeId, link: u64) {
        if self.nodes.get_mut(from).is_some_and(|node| node.unlinked(now.mono_ms, link)) {
            tracing::info!(node = from.node, generation = from.generation, "no longer linked");
            self.views(now, |views, effects| views.link_down(now, from, effects));
            self.tell_views(now);
        }
    }

    fn take_frame(&mut self, now: Now, from: NodeId, frame: Frame) {
        match frame.frame {
            Some(frame::Frame::Views(bytes)) => match codec::decode_view(&bytes) {
                Ok(message) => self.views(now, |views, effects| views.receive(now, from, message, effects)),
                Err(error) => {
                    tracing::error!(node = from.node, %error, "the link is closed");
                    self.nodes.link(from).iter().for_each(|link| link.outgoing.close());
                }
            },
            Some(frame::Frame::Shard(shard)) => {
                self.workers.post(shard.index as usize, ClusterMail::Peer { from, messages: shard.messages });
            }
            Some(frame::Frame::Goodbye(_)) => {
                tracing::info!(node = from.node, generation = from.generation, "has ended");
                self.views(now, |views, effects| views.gone(now, from, effects));
            }
            Some(frame::Frame::Hello(hello)) => {
                if let Ok(peer) = self.local.peer(&hello)
                    && peer.id == from
                {
                    self.nodes.met(now, &peer);
                    self.tell_views(now);
                    self.settings_told(now, from);
                }
            }
            None => {}
        }
    }

    /// Lets the views take an input, and does what follows.
    fn views(&mut self, now: Now, input: impl FnOnce(&mut Views, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        input(&mut self.views, &mut effects);
        let gone: Vec<_> = self.nodes.ids().filter(|id| self.views.is_gone(*id) && !self.gone.contains(id)).collect();
        for id in gone {
            self.gone.insert(id);
            self.workers.post_all(&ClusterMail::Gone(id));
        }
        self.wanted.extend(effects);
        while let Some(effect) = self.wanted.pop_front() {
            self.carry_out(now, effect);
        }
    }

    fn carry_out(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Send { to, message } => {
                if let Some(link) = self.nodes.link(to) {
                    link.outgoing.send(frame::Frame::Views(codec::encode_view(&message)));
                }
            }
            Effect::Install { view, open } => {
                tracing::info!(?view, "a view");
                self.views_installed += 1;
                self.moments.installed_unix_ms = now.unix_ms;
                self.nodes.installed(now, &view);
                self.left_in = match view.contains(self.me) {
                    true => None,
                    false => self.left_in.or(Some(view.number)),
                };
                self.workers.post_all(&ClusterMail::Install { view, open });
            }
            Effect::Settled { number } => {
                tracing::debug!(number, "a view is settled");
                self.moments.settled_unix_ms = now.unix_ms;
                self.workers.post_all(&ClusterMail::Settled(number));
            }
            Effect::Session { peer, on } => {
                let link = self.nodes.link(peer).filter(|_| on);
                let link = link.map(|link| (link.outgoing.clone(), link.shards));
                self.workers.post_all(&ClusterMail::Session { peer, link });
            }
            Effect::Side(view) => {
                tracing::info!(?view, "a side view");
                self.workers.post_all(&ClusterMail::Side(view));
            }
            Effect::SideSession { peer, on } => {
                let shards = self.nodes.link(peer).filter(|_| on).map(|link| link.shards);
                self.workers.post_all(&ClusterMail::SideSession { peer, shards });
            }
            Effect::Dissolve => {
                tracing::warn!("this node has met an older cluster, and joins that one as a new node");
                self.dissolved = true;
            }
        }
        self.show(now);
    }

    /// What this node knows of itself and others has changed, or may have.
    fn tell_views(&mut self, now: Now) {
        let unreachable = self.nodes.unreachable(now.mono_ms);
        let (core, leaving) = (self.local.core.load(Ordering::Relaxed), self.local.leaving.load(Ordering::Relaxed));
        let mut known = self.nodes.known(now.mono_ms);
        known.push(Known { id: self.me, core, leaving, alive: true, unreachable: unreachable.clone() });
        let alive: BTreeSet<_> = known.iter().filter(|known| known.alive).map(|known| known.id).collect();
        if known != self.known {
            self.known.clone_from(&known);
            self.views(now, |views, effects| views.gossip(now, known, effects));
        }
        if alive != *self.alive {
            self.alive = Arc::new(alive);
            self.workers.post_all(&ClusterMail::Alive(self.alive.clone()));
        }
        let facts = Facts {
            peer: Some(self.local.address),
            core,
            leaving,
            unreachable,
            view: self.views.view().map_or(0, |view| view.number),
            revision: self.local.settings.current().revision.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        if facts != self.told {
            self.told = facts.clone();
            self.gossip.tell(facts);
        }
        self.tell_leavers(now);
    }

    /// This node is no longer what it told its peers; gossip would tell them later.
    fn say_hello(&self) {
        for link in self.nodes.links() {
            link.outgoing.send(frame::Frame::Hello(self.local.hello()));
        }
    }

    /// Says to those who wait that this node has given up its channels, if it has.
    fn tell_leavers(&mut self, now: Now) {
        let given = self.left_in.is_some_and(|number| self.views.settled() >= number);
        let heirs = |known: &Known| known.core && known.alive && !known.leaving && known.id != self.me;
        let nobody = !self.nodes.known(now.mono_ms).iter().any(heirs);
        // One whose cluster is founded anew has still something to give.
        let nothing = self.views.view().is_none() && !self.views.is_between();
        if self.local.leaving.load(Ordering::Relaxed) && (given || nobody || nothing) {
            for done in self.leaving.drain(..) {
                // Who no longer waits needs no answer.
                let _ = done.send(());
            }
        }
    }

    /// Tries to reach those that are to be reached.
    fn reach(&mut self, now: Now) {
        for (id, address, how) in self.nodes.due(now.mono_ms, |id| self.views.is_gone(id)) {
            let local = self.local.clone();
            self.tasks.spawn(async move {
                let outcome = match how {
                    Try::Dial => link::dial(&local, address).await.map(|()| None),
                    Try::Announce => link::announce(&local, address).await.map(Some),
                };
                Done::Tried { id, outcome }
            });
        }
    }

    fn take_done(&mut self, now: Now, done: Done) {
        match done {
            Done::Sought(peers) => {
                self.seeking = false;
                for peer in peers {
                    self.nodes.met(now, &peer);
                    self.gossip.contact(peer.address);
                }
                self.tell_views(now);
            }
            Done::Pulled { id, outcome } => self.pulled(now, id, &outcome),
            Done::Tried { id, outcome } => {
                let Some(node) = self.nodes.get_mut(id) else { return };
                node.tried(now.mono_ms, outcome.is_ok());
                let ended = node.was_linked && matches!(outcome, Err(Failure::Refused));
                match outcome {
                    // Somebody else is at that address now. If it is the node's next run, the views know what that means.
                    Ok(Some(peer)) if peer.id != id => self.nodes.met(now, &peer),
                    Ok(_) => {}
                    Err(failure) => tracing::debug!(node = id.node, %failure, "not reached"),
                }
                if ended {
                    tracing::info!(node = id.node, generation = id.generation, "its process has ended");
                    self.views(now, |views, effects| views.gone(now, id, effects));
                    self.tell_views(now);
                }
            }
        }
    }

    /// Makes this node known at the addresses where others may be, which is faster than gossip.
    fn seek(&mut self, now: Now) {
        if self.seeking || self.seeds.is_empty() || now.mono_ms < self.next_seek_ms {
            return;
        }
        let early = now.mono_ms < self.started.mono_ms + 3_000;
        self.next_seek_ms = now.mono_ms + if early { SEEK_MS } else { SEEK_LATER_MS };
        if self.nodes.links().next().is_some() {
            return;
        }
        self.seeking = true;
        let (local, seeds) = (self.local.clone(), self.seeds.clone());
        self.tasks.spawn(async move { Done::Sought(seek(&local, &seeds, Instant::now() + LOOK).await) });
    }

    fn show(&self, now: Now) {
        self.status.send_replace(Arc::new(Status {
            view: self.views.view().cloned(),
            side: self.views.side().cloned(),
            settled: self.views.settled(),
            started_unix_ms: self.started.unix_ms,
            moments: self.moments,
            views_installed: self.views_installed,
            nodes: self.nodes.status(now.mono_ms, |id| self.views.is_gone(id)),
            core: self.local.core.load(Ordering::Relaxed),
            leaving: self.local.leaving.load(Ordering::Relaxed),
            dissolved: self.dissolved,
        }));
    }

    /// Everybody learns that nothing of this node runs any more.
    async fn say_goodbye(&mut self) {
        let links: Vec<_> = self.nodes.links().map(|link| link.outgoing.clone()).collect();
        for outgoing in &links {
            outgoing.send(frame::Frame::Goodbye(Goodbye {}));
            outgoing.finish();
        }
        // The others close the links when they have read it.
        let until_read = async {
            while self.nodes.links().next().is_some() {
                match self.events.recv().await {
                    Some(LinkEvent::Down { from, link }) => {
                        self.nodes.get_mut(from).map(|node| node.unlinked(0, link));
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        };
        let _ = timeout(GOODBYE, until_read).await;
    }
}

/// Who answers at the seeds until then. When one has answered, the others are given little time more.
async fn seek(local: &Local, seeds: &[String], until: Instant) -> Vec<Peer> {
    let addresses: Vec<SocketAddr> =
        timeout_at(until, resolve(seeds.to_vec())).await.unwrap_or_default().into_iter().collect();
    let others = addresses.into_iter().filter(|address| *address != local.address);
    let mut answers: FuturesUnordered<_> = others.map(|address| link::announce(local, address)).collect();
    let (mut found, mut until) = (Vec::new(), until);
    while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
        if let Ok(peer) = answer {
            found.push(peer);
            until = until.min(Instant::now() + FURTHER_ANSWERS);
        }
    }
    found
}
