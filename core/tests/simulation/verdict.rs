//! What must hold once all is quiet.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};

use appsockets_core::{channel::ChannelKey, shard::Inspection};

use crate::{ledger::id_of, plan::Mode, world::World};

impl World {
    pub fn keys(&self) -> Vec<ChannelKey> {
        let names = (0..self.plan.channels).map(|channel| format!("c{channel}"));
        names.flat_map(|name| self.hubs.iter().map(move |hub| ChannelKey::new(hub.id.clone(), name.clone()))).collect()
    }

    /// The channel at the one node that owns it.
    fn owned(&self, key: &ChannelKey) -> Result<Option<Inspection>, String> {
        let shards = self.processes.values().flat_map(|process| &process.shards);
        let mut found: Vec<_> = shards.filter_map(|shard| shard.inspect(key)).collect();
        match found.len() {
            0 | 1 => Ok(found.pop()),
            count => Err(format!("{key:?} has {count} owners")),
        }
    }

    /// All nodes stand at one view, in which everything is in its place.
    pub fn is_quiet(&self) -> bool {
        let newest = self.processes.values().map(|process| process.view_number()).max().unwrap_or(0);
        self.processes.len() as u64 == self.plan.nodes + self.plan.edges
            && self.processes.values().all(|process| {
                let full = process.views.view().is_some_and(|view| {
                    view.members.len() as u64 == self.plan.nodes && view.members.iter().all(|member| member.points == 8)
                });
                // Two that have just begun again may know a view in which those that they were are members.
                let there = !process.core || process.views.view().is_some_and(|view| view.contains(process.id));
                full && there && process.view_number() == newest && process.views.settled() == newest
            })
    }

    pub fn what_is_left(&self) -> String {
        let mut text = String::new();
        for process in self.processes.values() {
            let progress: Vec<_> = process.shards.iter().map(|shard| shard.progress()).collect();
            let (view, settled) = (process.views.view(), process.views.settled());
            let _ = writeln!(text, "{:?} settled {settled} {view:?} {progress:?}", process.id);
        }
        text
    }

    pub fn judge(&self) -> Result<(), String> {
        if let Some(process) = self.processes.values().find(|process| process.stands_aside()) {
            return Err(format!("node {:?} still stands at a side view", process.id));
        }
        for key in self.keys() {
            self.judge_channel(&key)?;
        }
        for (at, client) in self.clients.iter().enumerate() {
            if let Some((req_id, publish)) = client.publishes.iter().next() {
                return Err(format!("client {at}: request {req_id}, {publish:?}, is never answered"));
            }
            if let Some(channel) = client.wanted.iter().find(|channel| !client.is_live(channel)) {
                return Err(format!("client {at}: its subscription to {channel} is never answered"));
            }
        }
        if self.plan.mode != Mode::Wild {
            self.judge_restores()?;
        }
        self.judge_promises()
    }

    /// What the mode of the run promises.
    fn judge_promises(&self) -> Result<(), String> {
        let gaps = self.clients.iter().flat_map(|client| &client.gaps);
        let (of_copied, others): (Vec<_>, Vec<_>) = gaps.partition(|(channel, _)| self.plan.copies(channel) > 0);
        let sum = |gaps: Vec<(&Arc<str>, &u64)>| gaps.into_iter().map(|(_, count)| count).sum::<u64>();
        let (of_copied, others) = (sum(of_copied), sum(others));
        let gaps = of_copied + others;
        let epochs: u64 = self.clients.iter().map(|client| client.new_epochs).sum();
        let refused: u64 = self.clients.iter().map(|client| client.refused).sum();
        match self.plan.mode {
            _ if self.plan.close_ms < self.plan.active_ms => Ok(()),
            Mode::Planned if gaps + epochs + refused > 0 => {
                Err(format!("a planned change made {gaps} gaps, {epochs} new epochs and {refused} refusals"))
            }
            Mode::OneAtATime if of_copied > 0 => {
                Err(format!("{of_copied} gaps were told although there was a copy of everything"))
            }
            Mode::Planned | Mode::OneAtATime | Mode::Wild => Ok(()),
        }
    }

    fn judge_channel(&self, key: &ChannelKey) -> Result<(), String> {
        let owned = self.owned(key)?;
        let hears: Vec<_> = self
            .clients
            .iter()
            .enumerate()
            .filter(|(_, client)| client.hub == key.hub && client.is_live(&key.channel))
            .collect();
        let Some(owned) = owned else {
            return if hears.is_empty() { Ok(()) } else { Err(format!("{key:?} is heard, and nobody owns it")) };
        };
        let there = self.subscribed(key);
        for (at, client) in hears {
            let run = &client.runs[&key.channel];
            // A new epoch is told with the next message.
            let epochs = [&owned.ancestors[..], &[owned.current.epoch]].concat();
            if run.position.sequence != owned.current.sequence || !epochs.contains(&run.position.epoch) {
                return Err(format!(
                    "{key:?}: client {at} stands at {} and the channel at {}",
                    run.position, owned.current
                ));
            }
            let present: BTreeSet<_> = run.present.keys().cloned().collect();
            if run.has_list && present != there {
                return Err(format!("{key:?}: present are {there:?} and client {at} sees {present:?}"));
            }
            if run.occupancy.is_some_and(|count| count != there.len() as u64) {
                return Err(format!("{key:?}: {} subscribe and client {at} knows {:?}", there.len(), run.occupancy));
            }
        }
        let members: BTreeSet<_> = owned.members.iter().map(|member| member.session_id.clone()).collect();
        if members != there {
            return Err(format!("{key:?}: present are {there:?} and its owner believes {members:?}"));
        }
        self.judge_acknowledged(key, &owned)
    }

    fn judge_acknowledged(&self, key: &ChannelKey, owned: &Inspection) -> Result<(), String> {
        let safe = self.plan.keeps_all(&key.channel);
        let mut kept = BTreeMap::new();
        for message in &owned.messages {
            let id = id_of(message).0;
            if let Some(before) = kept.insert(id, message.serial) {
                return Err(format!("{key:?}: {id} is there twice, as {before} and {}", message.serial));
            }
        }
        let acked = self.ledger.acked.iter().filter(|acked| acked.key == *key);
        match acked.into_iter().find(|acked| safe && !kept.contains_key(&acked.id)) {
            Some(lost) => Err(format!("{key:?}: {} was acknowledged as {} and is lost", lost.id, lost.serial)),
            None => Ok(()),
        }
    }

    /// The sessions that are subscribed, wherever they are.
    fn subscribed(&self, key: &ChannelKey) -> BTreeSet<Arc<str>> {
        let workers = self.processes.values().flat_map(|process| &process.workers);
        let sessions = workers.flat_map(|worker| worker.held.values()).map(|held| &held.session);
        let subscribed = sessions
            .filter(|session| session.hub().id == key.hub && session.channels().any(|channel| *channel == key.channel));
        subscribed.map(|session| session.id().clone()).collect()
    }

    /// Everybody has left, and every time has passed.
    pub fn judge_emptiness(&self) -> Result<(), String> {
        for process in self.processes.values() {
            if let Some(shard) = process.shards.iter().find(|shard| !shard.is_empty()) {
                return Err(format!("node {:?} still holds {shard:?}", process.id));
            }
            if let Some(worker) = process.workers.iter().find(|worker| !worker.fanout.is_empty()) {
                return Err(format!("node {:?} still hears {:?}", process.id, worker.fanout));
            }
        }
        Ok(())
    }
}
