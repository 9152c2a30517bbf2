//! More than half of the members end at once, so that their view can have no successor.

use appsockets_core::cluster::view::{NodeId, View};

use crate::world::World;

impl World {
    /// Chooses them so that of each channel somebody is left who has it; else that would be lost, and rightly so. Nobody is
    /// out of reach or stuck: who is left has to take part in the founding, or else what it has does not count.
    pub fn lose_majority(&mut self) {
        let stuck = self.processes.values().any(|process| process.paused_until_ms.is_some());
        let calm = !stuck && self.net.cuts.is_empty() && self.suspected.is_empty() && self.restart_ms.is_empty();
        if !calm || !self.is_settled() {
            return;
        }
        let newest = self.processes.values().max_by_key(|process| process.view_number());
        let Some(view) = newest.and_then(|process| process.views.view().cloned()) else { return };
        let Some(victims) = self.victims(&view) else { return };
        self.count("majorities lost");
        self.founding_anew = true;
        victims.into_iter().for_each(|node| self.crash(node.node));
    }

    fn victims(&mut self, view: &View) -> Option<Vec<NodeId>> {
        let holders = 1 + usize::from(self.plan.redundancy);
        let kept: Vec<_> = self.keys().iter().map(|key| view.holders(key.point(), holders)).collect();
        for _ in 0..8 {
            let mut members: Vec<_> = view.members.iter().map(|member| member.id).collect();
            let left = (members.len() - 1) / 2;
            for at in 0..left {
                let other = at + self.chance.below((members.len() - at) as u64) as usize;
                members.swap(at, other);
            }
            let victims = members.split_off(left);
            if left > 0 && kept.iter().all(|holders| holders.iter().any(|node| members.contains(node))) {
                return Some(victims);
            }
        }
        None
    }

    /// Whether a majority was lost, and not everything is in its place yet: then nothing else goes wrong but links that
    /// break.
    pub fn is_founded_anew(&mut self) -> bool {
        self.founding_anew = self.founding_anew && !(self.restart_ms.is_empty() && self.is_settled());
        self.founding_anew
    }
}
