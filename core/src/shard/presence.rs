//! Who is present in a channel.

use std::{collections::BTreeMap, sync::Arc};

use crate::session::event::Member;

/// The present sessions, and what has changed since listeners were told.
#[derive(Debug, Default)]
pub struct Members {
    present: BTreeMap<Arc<str>, Attached>,
    joined: BTreeMap<Arc<str>, Member>,
    left: BTreeMap<Arc<str>, Member>,
}

#[derive(Debug)]
struct Attached {
    member: Member,
    attachment: u32,
}

/// Joins and leaves that listeners have not been told of.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    pub left: Vec<Member>,
    pub joined: Vec<Member>,
}

impl Members {
    /// A session is present. One that was present already stays so, without a join, unless others see it differ.
    /// What a lower attachment says is ignored.
    pub fn enter(&mut self, member: Member, attachment: u32) {
        let id = member.session_id.clone();
        match self.present.get_mut(&id) {
            Some(attached) if attached.attachment > attachment => {}
            Some(attached) if shows_same(&attached.member, &member) => attached.attachment = attachment,
            Some(_) => {
                self.remove(&id);
                self.add(member, attachment);
            }
            None => self.add(member, attachment),
        }
    }

    /// A session is no longer present. Ignored if it has been attached again since.
    pub fn leave(&mut self, session_id: &str, attachment: u32) {
        if self.present.get(session_id).is_some_and(|attached| attached.attachment <= attachment) {
            self.remove(session_id);
        }
    }

    /// Nobody is present any more.
    pub fn leave_all(&mut self) {
        let ids: Vec<_> = self.present.keys().cloned().collect();
        ids.iter().for_each(|id| self.remove(id));
    }

    /// What listeners have not been told yet.
    pub fn changes(&mut self) -> Changes {
        Changes {
            left: std::mem::take(&mut self.left).into_values().collect(),
            joined: std::mem::take(&mut self.joined).into_values().collect(),
        }
    }

    pub fn list(&self) -> Arc<[Member]> {
        self.present.values().map(|attached| attached.member.clone()).collect()
    }

    fn add(&mut self, member: Member, attachment: u32) {
        let id = member.session_id.clone();
        self.joined.insert(id.clone(), member.clone());
        self.present.insert(id, Attached { member, attachment });
    }

    fn remove(&mut self, session_id: &str) {
        let Some((id, attached)) = self.present.remove_entry(session_id) else { return };
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
