//! What copies have confirmed, and whether owners acknowledge only what every copy of their view has.

use std::collections::BTreeMap;

use appsockets_core::{
    channel::ChannelKey,
    cluster::view::NodeId,
    code::ErrorCode,
    serial::{Epoch, Serial},
    session::record,
    shard::{
        peer::{Body, Confirm, Move, PeerMessage, Say, ToRelay},
        request::{Effect, Reply},
    },
};

use crate::world::World;

#[derive(Debug, Default)]
pub struct Copied {
    /// The most that each node has ever confirmed of each channel, by epoch: a later one may come to nothing.
    most: BTreeMap<(ChannelKey, NodeId), BTreeMap<Epoch, u64>>,
    /// There were too few nodes in some view. An outcome is remembered, and told again when it is asked for again.
    were_few: bool,
}

impl Copied {
    fn confirm(&mut self, key: &ChannelKey, node: NodeId, serial: Serial) {
        let most = self.most.entry((key.clone(), node)).or_default().entry(serial.epoch).or_default();
        *most = serial.sequence.max(*most);
    }

    /// Numbers go on in a child, so whoever has so many of it has what the parent had.
    fn has(&self, key: &ChannelKey, node: NodeId, serial: Serial) -> bool {
        let most = self.most.get(&(key.clone(), node));
        most.is_some_and(|most| most.range(serial.epoch..).any(|(_, sequence)| *sequence >= serial.sequence))
    }
}

impl World {
    /// What a shard wants done: a copy confirms, or an owner answers a publish.
    pub fn watch_copies(&mut self, node: u64, effect: &Effect) {
        let Some(me) = self.processes.get(&node).map(|process| process.id) else { return };
        match effect {
            Effect::Send { message: PeerMessage { side: false, body: Body::Channel { key, say }, .. }, .. } => {
                match say {
                    Say::Confirm(Confirm::Copied { serial, .. }) => self.copied.confirm(key, me, *serial),
                    // Who gives a channel away keeps what it gave, as a copy if it is to have one.
                    Say::Move(Move::Seal(state)) => self.copied.confirm(key, me, state.current()),
                    Say::Relay(ToRelay::Published { outcome, .. }) => self.judge_outcome(me, key, *outcome),
                    _ => {}
                }
            }
            Effect::Answer { key, reply: Reply::Published(outcome), .. } if self.serves(node, key) => {
                self.judge_outcome(me, key, *outcome);
            }
            _ => {}
        }
    }

    fn judge_outcome(&mut self, me: NodeId, key: &ChannelKey, outcome: Result<Serial, ErrorCode>) {
        let Some(process) = self.processes.get(&me.node) else { return };
        let shard = &process.shards[(key.point() % process.shards.len() as u64) as usize];
        // The views may be a step ahead of the shards.
        let Some(view) = process.views.view().filter(|view| view.number == shard.view_number()) else { return };
        let redundancy =
            if record::restore_key(key).is_some() { 1 } else { usize::from(self.plan.copies(&key.channel)) };
        let mut copies = view.holders(key.point(), 1 + redundancy);
        copies.retain(|node| *node != me);
        let required = self.plan.required && record::restore_key(key).is_none();
        let few = required && copies.len() < redundancy;
        self.copied.were_few |= few;
        let mistake = match outcome {
            Ok(serial) if few => Some(format!("{serial} is acknowledged without the copies that are required")),
            Ok(serial) => {
                let lacking = copies.into_iter().find(|copy| !self.copied.has(key, *copy, serial));
                lacking.map(|copy| format!("{serial} is acknowledged, and {copy:?} has not confirmed it in {view:?}"))
            }
            Err(ErrorCode::TooFewNodes) if !self.copied.were_few => Some(format!("too few nodes are told in {view:?}")),
            Err(_) => None,
        };
        if outcome == Err(ErrorCode::TooFewNodes) {
            self.count("publishes refused for want of nodes");
        }
        self.note(mistake.map_or(Ok(()), |mistake| Err(format!("{key:?}: {mistake}"))));
    }
}
