//! A state that is sealed from owner to owner without a message, while the last of them is lost: who kept it first has to
//! see that the channel went on elsewhere, since no message says so.

use appsockets_core::{
    channel::ChannelKey,
    cluster::view::{Member, NodeId, View},
};

use crate::world::World;

/// As long as a round, in milliseconds: who is taken for dead stays so until the next step.
const ROUND_MS: u64 = 2_500;

/// The points of a node that has just been admitted, and of a full member.
const ADMITTED: u16 = 4;
const FULL: u16 = 8;

/// A channel that goes from `first` to `heir`, then to `last`, and back to `first`.
#[derive(Clone, Debug)]
pub struct Heirs {
    key: ChannelKey,
    first: NodeId,
    heir: NodeId,
    last: NodeId,
    /// These two don't reach each other, so no view is settled, and what was sealed is kept.
    apart: [NodeId; 2],
    stage: Stage,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    BothOut,
    BothIn,
    HeirServes,
    LastServes,
    Over,
}

impl World {
    /// The heirs of some channel are taken for dead, and so are to come back together.
    pub fn begin_heirs(&mut self) {
        self.net.slow.clear();
        self.suspected.clear();
        self.round.heirs = if self.is_settled() { self.find_heirs() } else { None };
        if let Some(heirs) = self.round.heirs.clone() {
            self.suspect(heirs.heir, ROUND_MS);
            self.suspect(heirs.last, ROUND_MS);
        }
    }

    /// Ten milliseconds of it.
    pub fn heirs_go_on(&mut self) {
        let Some(Heirs { key, first, heir, last, apart, stage }) = self.round.heirs.clone() else { return };
        let newest = self.processes.values().max_by_key(|process| process.view_number());
        let Some(view) = newest.and_then(|process| process.views.view().cloned()) else { return };
        let points = |node| view.member(node).map(|member| member.points);
        let next = match stage {
            Stage::BothOut if !view.contains(heir) && !view.contains(last) => {
                self.suspected.clear();
                Stage::BothIn
            }
            Stage::BothIn if [points(heir), points(last)] == [Some(ADMITTED); 2] => {
                let [a, b] = apart.map(|node| node.node);
                self.net.cuts.extend([(a, b), (b, a)]);
                // So the last hears what the heir has before it has heard all members, and goes on in the same epoch.
                self.net.slow.insert(a, 60);
                Stage::HeirServes
            }
            Stage::HeirServes if self.serves(heir.node, &key) => {
                self.suspect(heir, ROUND_MS);
                Stage::LastServes
            }
            Stage::LastServes if self.serves(last.node, &key) => {
                self.suspected.clear();
                self.cut_off(&[last], false);
                [last, apart[1]].into_iter().for_each(|node| self.suspect(node, ROUND_MS));
                Stage::Over
            }
            Stage::Over if self.serves(first.node, &key) => {
                self.count("channels that came back past their heirs");
                // An owner without copies can't know that it was replaced, and would set back whoever comes to it.
                self.crash(last.node);
                return self.round.heirs = None;
            }
            _ => return,
        };
        self.round.heirs = Some(Heirs { key, first, heir, last, apart, stage: next });
    }

    /// A channel and nodes for which the views give it from one to the other like that.
    fn find_heirs(&mut self) -> Option<Heirs> {
        let newest = self.processes.values().max_by_key(|process| process.view_number())?;
        let view = newest.views.view().cloned()?;
        let ids: Vec<_> = view.members.iter().map(|member| member.id).collect();
        let of = |points: &dyn Fn(NodeId) -> Option<u16>| {
            let member = |id: &NodeId| points(*id).map(|points| Member { id: *id, points });
            View::new(view.cluster, 1, ids.iter().filter_map(member).collect())
        };
        let mut found = Vec::new();
        for key in self.keys() {
            for heir in &ids {
                for last in ids.iter().filter(|last| *last != heir) {
                    let both = |id: NodeId| if [*heir, *last].contains(&id) { ADMITTED } else { FULL };
                    let admitted = of(&|id| Some(both(id)));
                    let without_heir = of(&|id| (id != *heir).then(|| both(id)));
                    let without_both = of(&|id| (![*heir, *last].contains(&id)).then_some(FULL));
                    let owners = [&admitted, &without_heir].map(|view| view.owner(key.point()));
                    let first = without_both.owner(key.point())?;
                    let others: Vec<_> = ids.iter().copied().filter(|id| ![*heir, *last, first].contains(id)).collect();
                    if owners == [Some(*heir), Some(*last)]
                        && let [a, b] = others[..]
                    {
                        let (key, heir, last) = (key.clone(), *heir, *last);
                        let stage = Stage::BothOut;
                        found.push(Heirs { key, first, heir, last, apart: [a, b], stage });
                    }
                }
            }
        }
        let places: Vec<_> = (0..found.len()).collect();
        self.chance.pick(&places).map(|place| found.swap_remove(place))
    }
}
