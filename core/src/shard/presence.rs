//! Who is present in a channel.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{cluster::view::NodeId, session::event::Member};

/// The present sessions, and what has changed since listeners were told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Members {
    present: BTreeMap<Arc<str>, Attached>,
    joined: BTreeMap<Arc<str>, Member>,
    left: BTreeMap<Arc<str>, Member>,
    /// What copies have not been told.
    unsaid: BTreeSet<Arc<str>>,
}

/// A session that is present by a subscription at a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    pub member: Member,
    pub attachment: u32,
    /// None: it has moved, and nobody has said where to.
    pub node: Option<NodeId>,
    /// When it leaves unless it is heard of again, because its node is lost or not known.
    pub leaves_ms: Option<u64>,
}

/// Joins and leaves that listeners have not been told of.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    pub left: Vec<Member>,
    pub joined: Vec<Member>,
}

/// By their session ids, who is attached, or none for who is no longer.
pub type MemberChanges = Vec<(Arc<str>, Option<Attached>)>;

impl Attached {
    /// A time counts by the clock of this node alone; who goes on from a copy doubts anew.
    fn said(&self) -> Attached {
        Attached { leaves_ms: None, ..self.clone() }
    }
}

impl Members {
    /// A session is present. One that was present already stays so, without a join, unless others see it differ.
    /// What a lower attachment says is ignored.
    pub fn enter(&mut self, member: Member, attachment: u32, node: NodeId) {
        let id = member.session_id.clone();
        let new = Attached { member, attachment, node: Some(node), leaves_ms: None };
        match self.present.get_mut(&id) {
            Some(old) if old.attachment > attachment => return,
            Some(old) if shows_same(&old.member, &new.member) => {
                let since_ms = old.member.since_ms;
                if (old.attachment, old.node, old.leaves_ms) == (attachment, Some(node), None) {
                    return;
                }
                *old = new;
                // Who was there all along is not new because its session was restored.
                old.member.since_ms = since_ms;
            }
            Some(_) => {
                self.remove(&id);
                self.add(new);
            }
            None => self.add(new),
        }
        self.unsaid.insert(id);
    }

    /// A session is no longer present. Ignored if it has been attached again since.
    pub fn leave(&mut self, session_id: &str, attachment: u32) {
        if self.present.get(session_id).is_some_and(|attached| attached.attachment <= attachment) {
            self.remove(session_id);
        }
    }

    /// A session that goes on at another node is no longer present by way of its last one, and leaves at this time if nobody says
    /// where it is. Ignored if it has been attached again since.
    pub fn move_on(&mut self, session_id: &str, attachment: u32, leaves_ms: u64) {
        let Some(attached) = self.present.get_mut(session_id).filter(|attached| attached.attachment <= attachment)
        else {
            return;
        };
        attached.node = None;
        attached.leaves_ms.get_or_insert(leaves_ms);
        self.unsaid.insert(attached.member.session_id.clone());
    }

    /// What a node says of all its sessions: those of its own that it no longer names are gone.
    pub fn replace(&mut self, node: NodeId, members: Vec<(Member, u32)>) {
        let named: BTreeSet<_> = members.iter().map(|(member, _)| member.session_id.clone()).collect();
        let gone = self.present.iter().filter(|(id, attached)| attached.node == Some(node) && !named.contains(*id));
        let gone: Vec<_> = gone.map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|id| self.remove(id));
        members.into_iter().for_each(|(member, attachment)| self.enter(member, attachment, node));
    }

    /// Sessions of lost nodes, and those that have moved, leave at this time if they are not attached elsewhere by then. Others stay.
    pub fn doubt(&mut self, lost: impl Fn(NodeId) -> bool, leaves_ms: u64) {
        for attached in self.present.values_mut() {
            if attached.node.is_none_or(&lost) {
                attached.leaves_ms.get_or_insert(leaves_ms);
            } else {
                attached.leaves_ms = None;
            }
        }
    }

    /// Whether [`Members::doubt`] would change anything.
    pub fn mind(&self, lost: impl Fn(NodeId) -> bool) -> bool {
        self.present.values().any(|attached| attached.node.is_none_or(&lost) != attached.leaves_ms.is_some())
    }

    /// Ends those whose time has come, and says when the next one's comes.
    pub fn expire(&mut self, now_ms: u64) -> Option<u64> {
        let due = self.present.iter().filter(|(_, attached)| attached.leaves_ms.is_some_and(|ms| ms <= now_ms));
        let due: Vec<_> = due.map(|(id, _)| id.clone()).collect();
        due.iter().for_each(|id| self.remove(id));
        self.present.values().filter_map(|attached| attached.leaves_ms).min()
    }

    /// Nobody is present any more.
    pub fn leave_all(&mut self) {
        let ids: Vec<_> = self.present.keys().cloned().collect();
        ids.iter().for_each(|id| self.remove(id));
    }

    /// Whether a session is present by way of that node.
    pub fn any_at(&self, node: NodeId) -> bool {
        self.present.values().any(|attached| attached.node == Some(node))
    }

    /// Whether all sessions of which that is known are present by way of such nodes.
    pub fn all_at(&self, such: impl Fn(NodeId) -> bool) -> bool {
        self.present.values().filter_map(|attached| attached.node).all(such)
    }

    pub fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// What listeners have not been told yet.
    pub fn changes(&mut self) -> Changes {
        Changes {
            left: std::mem::take(&mut self.left).into_values().collect(),
            joined: std::mem::take(&mut self.joined).into_values().collect(),
        }
    }

    /// What copies have not been told yet.
    pub fn unsaid(&mut self) -> MemberChanges {
        let ids = std::mem::take(&mut self.unsaid).into_iter();
        ids.map(|id| (id.clone(), self.present.get(&id).map(Attached::said))).collect()
    }

    /// Everybody, as copies are told.
    pub fn said(&self) -> MemberChanges {
        self.present.iter().map(|(id, attached)| (id.clone(), Some(attached.said()))).collect()
    }

    /// What an owner says to its copies. `whole`: those who are not named are gone.
    pub fn follow(&mut self, whole: bool, changes: MemberChanges) {
        if whole {
            self.present.clear();
        }
        for (id, attached) in changes {
            match attached {
                Some(attached) => drop(self.present.insert(id, attached)),
                None => drop(self.present.remove(&id)),
            }
        }
    }

    pub fn list(&self) -> Arc<[Member]> {
        self.present.values().map(|attached| attached.member.clone()).collect()
    }

    pub fn deadlines(&mut self) -> impl Iterator<Item = &mut u64> {
        self.present.values_mut().filter_map(|attached| attached.leaves_ms.as_mut())
    }

    fn add(&mut self, attached: Attached) {
        let id = attached.member.session_id.clone();
        self.joined.insert(id.clone(), attached.member.clone());
        self.present.insert(id, attached);
    }

    fn remove(&mut self, session_id: &str) {
        let Some((id, attached)) = self.present.remove_entry(session_id) else { return };
        self.unsaid.insert(id.clone());
        // Nobody was told of the join, so nobody needs to hear of the leave.
        if self.joined.remove(session_id).is_none() {
            self.left.insert(id, attached.member);
        }
    }
}

/// Rights and the end of a token are not shown, so a new token of the same user is no reason to leave and join.
fn shows_same(a: &Member, b: &Member) -> bool {
    match (&a.identity, &b.identity) {
        (Some(a), Some(b)) => a.user_id == b.user_id && a.extra == b.extra,
        (a, b) => a.is_none() && b.is_none(),
    }
}
