//! Cuts that leave no majority for seconds: each group has to go on by itself with the channels that need no agreement.

use std::{collections::BTreeMap, sync::Arc};

use appsockets_core::{channel::ChannelKey, cluster::view::NodeId};

use crate::{aimed::Round, client::At, counting::is_side, world::World};

/// Until when after a cut every group has to serve, in milliseconds: links have been given up by then, the time has passed
/// after which nodes believe that they are alone, and what they say to each other has arrived.
pub const SERVED_MS: u64 = 1_500;

/// How long an answer may take then, in milliseconds.
pub const ANSWERED_MS: u64 = 600;

/// The groups of a round, and what was tried in them.
#[derive(Debug, Default)]
pub struct Split {
    groups: BTreeMap<u64, u64>,
    probes: Vec<Probe>,
    /// Something else goes wrong besides, so that nothing can be asked of the groups.
    rough: bool,
}

/// A publish that has to be answered, and heard in its group.
#[derive(Debug)]
struct Probe {
    client: usize,
    at: At,
    req_id: i64,
    id: u64,
    channel: Arc<str>,
    ms: u64,
}

impl World {
    pub fn step_of_split(&mut self, step: usize) {
        match step {
            1 => self.split(),
            2 => self.probe(),
            _ => {
                let outcome = self.judge_probes();
                self.note(outcome);
                self.round.split = Split::default();
                self.net.cuts.clear();
                self.cut_since.clear();
                if self.chance.per_mille(200) {
                    self.disturb();
                }
            }
        }
    }

    /// Ten milliseconds while it lasts.
    pub fn split_goes_on(&mut self) {
        let Round { began_ms, done, .. } = self.round;
        let lasts = done > 0 && !self.round.split.groups.is_empty();
        if lasts && self.now_ms < began_ms + 600 && self.chance.per_mille(40) {
            let living = self.living();
            let (Some(a), Some(b)) = (self.chance.pick(&living), self.chance.pick(&living)) else { return };
            self.count("links broken");
            self.net.break_link(self.now_ms, a, b, &mut self.chance);
        }
        if lasts && self.round.split.rough && self.chance.per_mille(12) {
            self.regroup();
        }
        for client in &self.clients {
            let copied = client.runs.iter().filter(|(channel, _)| self.plan.copies(channel) > 0);
            if let Some((channel, run)) = copied.into_iter().find(|(_, run)| is_side(run.position.epoch)) {
                let mistake = format!("{channel} has copies, and is at {} in a side view", run.position);
                return self.note(Err(mistake));
            }
        }
    }

    /// Divides the nodes so that no group has a majority. Each edge node is with one of them.
    fn split(&mut self) {
        let linked = |a: &NodeId, b: &NodeId| a == b || self.net.is_up(*a, *b);
        let living = self.living();
        let all_linked = living.iter().all(|a| living.iter().all(|b| linked(a, b)));
        if !all_linked || !self.restart_ms.is_empty() || !self.is_settled() {
            return;
        }
        let Some(groups) = self.divide() else { return };
        self.cut_between(&groups);
        self.count("cuts without a majority");
        self.round.began_ms = self.now_ms;
        self.round.split.groups = groups;
        self.round.split.rough = self.chance.per_mille(300);
        if self.round.split.rough {
            self.disturb();
            if self.chance.per_mille(400) {
                self.cut_within();
            }
        }
    }

    /// Groups without a majority; none if chance finds none.
    fn divide(&mut self) -> Option<BTreeMap<u64, u64>> {
        let core: Vec<u64> = (0..self.plan.nodes).collect();
        let count = self.chance.between(2, core.len().max(2) as u64);
        let mut groups: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in 0..32 {
            groups = core.iter().map(|node| (*node, self.chance.below(count))).collect();
            let size = |group: u64| groups.values().filter(|other| **other == group).count();
            if (0..count).all(|group| 2 * size(group) <= core.len()) {
                break;
            }
            groups.clear();
        }
        if groups.is_empty() {
            return None;
        }
        // Edge nodes own nothing, so one by itself serves nothing.
        let with: Vec<u64> = groups.values().copied().collect();
        for edge in self.plan.nodes..self.plan.nodes + self.plan.edges {
            groups.extend(self.chance.pick(&with).map(|group| (edge, group)));
        }
        Some(groups)
    }

    /// The nodes are divided in another way, and who comes together does so one link after the other.
    fn regroup(&mut self) {
        let Some(groups) = self.divide() else { return };
        self.net.cuts.clear();
        self.cut_since.clear();
        self.cut_between(&groups);
        self.count("groups divided anew");
        self.round.split.groups = groups;
    }

    /// Some don't reach each other, though both reach a third.
    fn cut_within(&mut self) {
        let living = self.living();
        for _ in 0..2 {
            let (Some(a), Some(b)) = (self.chance.pick(&living), self.chance.pick(&living)) else { return };
            self.net.cuts.insert((a.node, b.node));
        }
    }

    /// One node ends, or is stuck for a while.
    fn disturb(&mut self) {
        let living = self.living();
        let Some(node) = self.chance.pick(&living) else { return };
        if self.chance.per_mille(500) && self.may_crash() {
            self.count("crashes");
            return self.crash(node.node);
        }
        let until_ms = self.now_ms + self.chance.between(20, 2_500);
        if let Some(process) = self.processes.get_mut(&node.node) {
            process.paused_until_ms.get_or_insert(until_ms);
            self.count("pauses");
        }
    }

    /// In both directions or in one, and gossip may know of it.
    fn cut_between(&mut self, groups: &BTreeMap<u64, u64>) {
        let (one_way, told) = (self.chance.per_mille(300), self.chance.per_mille(700));
        let pairs = groups.iter().flat_map(|a| groups.iter().map(move |b| (a, b)));
        for ((a, in_a), (b, in_b)) in pairs.filter(|((a, in_a), (b, in_b))| a < b && in_a != in_b) {
            debug_assert_ne!(in_a, in_b);
            let both = [(*a, *b), (*b, *a)];
            let cut = match one_way {
                true => &both[self.chance.below(2) as usize..][..1],
                false => &both[..],
            };
            for pair in cut {
                self.net.cuts.insert(*pair);
                if told {
                    self.cut_since.entry(*pair).or_insert(self.now_ms);
                }
            }
        }
    }

    /// Every client publishes to every channel that has no copies.
    fn probe(&mut self) {
        if self.round.split.groups.is_empty() || self.round.split.rough {
            return;
        }
        let channels = (0..self.plan.channels).map(|channel| format!("c{channel}"));
        let channels: Vec<Arc<str>> =
            channels.filter(|channel| self.plan.copies(channel) == 0).map(Into::into).collect();
        for client in 0..self.clients.len() {
            let Some(at) = self.clients[client].at.filter(|_| !self.clients[client].restoring) else { continue };
            for channel in &channels {
                self.publish_to(client, channel.clone());
                let (req_id, id) = (self.clients[client].req_id, self.ids);
                let probe = Probe { client, at, req_id, id, channel: channel.clone(), ms: self.now_ms };
                self.round.split.probes.push(probe);
                self.count("publishes tried without a majority");
            }
        }
    }

    /// All of them are answered, and whoever hears the channel in the group has heard them.
    fn judge_probes(&self) -> Result<(), String> {
        let Split { groups, probes, .. } = &self.round.split;
        for Probe { client, at, req_id, id, channel, ms } in probes {
            let publisher = &self.clients[*client];
            if publisher.at != Some(*at) || publisher.began_ms > *ms {
                continue;
            }
            if let Some(outcome) = publisher.refusals.get(req_id) {
                return Err(format!(
                    "client {client} at {at:?}: {channel} refuses {id} without a majority: {outcome:?}"
                ));
            }
            if publisher.publishes.contains_key(req_id) {
                return Err(format!("client {client} at {at:?}: {channel} does not answer {id} without a majority"));
            }
            let key = ChannelKey::new(publisher.hub.clone(), channel.clone());
            let in_group = |other: &At| groups.get(&other.node.node) == groups.get(&at.node.node);
            let hearers =
                self.clients.iter().filter(|other| other.hub == key.hub && other.at.as_ref().is_some_and(in_group));
            for hearer in hearers {
                let steady = hearer.runs.get(channel).filter(|run| run.live && run.began_ms < *ms);
                if steady.is_some_and(|run| !run.heard.contains_key(id)) {
                    return Err(format!("{:?} does not hear {id} of {channel} without a majority", hearer.at));
                }
            }
        }
        Ok(())
    }
}
