//! Whether somebody who was restored in time was seen to leave.

use std::sync::Arc;

use appsockets_core::{
    channel::ChannelKey,
    session::event::PresenceChange,
    shard::{
        peer::{Body, PeerMessage, Say, ToRelay},
        request::{Effect, Notice},
    },
};

use crate::{client::Restore, process::RESTORE_MS, world::World};

/// A session that left a channel, and when that was said or heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    pub key: ChannelKey,
    pub id: Arc<str>,
    pub at_ms: u64,
}

impl World {
    /// What an owner says of those who have left.
    pub fn watch_leaves(&mut self, node: u64, effect: &Effect) {
        let (key, notice) = match effect {
            Effect::Send {
                message:
                    PeerMessage { body: Body::Channel { key, say: Say::Relay(ToRelay::Notice { notice, .. }) }, .. },
                ..
            } => (key, notice),
            Effect::Notify { key, notice, .. } if self.serves(node, key) => (key, notice),
            _ => return,
        };
        if let Notice::Presence { change: PresenceChange::Leave, members } = notice {
            let at_ms = self.now_ms;
            let left = |id: &Arc<str>| Leave { key: key.clone(), id: id.clone(), at_ms };
            self.said_leaves.extend(members.iter().map(|member| left(&member.session_id)));
        }
    }

    /// Who was restored in time has not left.
    pub fn judge_restores(&self) -> Result<(), String> {
        for client in &self.clients {
            let heard = || self.clients.iter().filter(|other| other.hub == client.hub).flat_map(|other| &other.leaves);
            for restore in &client.restores {
                let own =
                    heard().filter(|leave| leave.id == restore.id && restore.channels.contains(&leave.key.channel));
                let said: Vec<_> = self.said_leaves.iter().filter(|leave| leave.id == restore.id).collect();
                if let Some(leave) = own.into_iter().find(|leave| is_false(restore, leave, &said)) {
                    return Err(format!("{leave:?}, and was restored: {restore:?}"));
                }
            }
        }
        Ok(())
    }
}

/// Whether the leave that was heard is of the time in which the session waited to be restored. What was said before is of an
/// earlier absence, and may be as late as the way to the client is long.
fn is_false(restore: &Restore, heard: &Leave, said: &[&Leave]) -> bool {
    let in_time = restore.at_ms < restore.broke_ms + RESTORE_MS - 300;
    let meanwhile = (restore.broke_ms..restore.at_ms).contains(&heard.at_ms);
    let fits = |said: &&&Leave| said.key == heard.key && (restore.broke_ms..=heard.at_ms).contains(&said.at_ms);
    in_time && meanwhile && said.iter().any(|said| fits(&said))
}

/// Seed 5014807 at first: the node of a session was out of reach for as long as a session is kept, and the owner said so. It
/// came back, the session lost its connection, and only then the owner's word arrived over a slow link.
#[test]
fn a_leave_that_was_said_before_the_connection_broke_is_no_false_one() {
    let id: Arc<str> = "4.1.3".into();
    let restore = Restore { id: id.clone(), broke_ms: 14_030, at_ms: 14_377, channels: vec!["c1".into()] };
    let leave = |at_ms| Leave { key: ChannelKey::new("one", "c1"), id: id.clone(), at_ms };
    assert!(!is_false(&restore, &leave(14_033), &[&leave(13_940)]));
    assert!(is_false(&restore, &leave(14_033), &[&leave(13_940), &leave(14_031)]));
    let late = Restore { at_ms: 15_000, ..restore };
    assert!(!is_false(&late, &leave(14_033), &[&leave(14_031)]));
}
