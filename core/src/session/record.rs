//! What the cluster keeps of a session, so that it can go on at another node, the first one killed or not.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    channel::{ChannelKey, ChannelName, HubId},
    identity::Identity,
    session::Session,
};

/// Everything of a session that outlives its connection and its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: Arc<str>,
    pub hub: HubId,
    pub identity: Option<Arc<Identity>>,
    pub subscriptions: Vec<Kept>,
    /// Of the last subscription.
    pub number: u32,
}

/// A channel that the session hears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub channel: ChannelName,
    /// The node subscribed the session, the client did not ask.
    pub automatic: bool,
}

/// A record may lack what the session did last, so its attachments go on well beyond what it tells.
pub const NUMBERS_UNTOLD: u32 = 10_000;

/// Where the record of a session lies on the ring. A client's channel can't have this name, for the control character.
pub fn place(hub: &HubId, restore_key: &str) -> ChannelKey {
    ChannelKey::new(hub.clone(), format!("{PREFIX}{restore_key}"))
}

/// The restore key whose record lies there, if it is one.
pub fn restore_key(place: &ChannelKey) -> Option<&str> {
    place.channel.strip_prefix(PREFIX)
}

const PREFIX: &str = "\u{1}session/";

impl Session {
    /// What is to be kept of the session now.
    pub fn record(&self) -> Record {
        let kept = |subscription: &super::subscriptions::Subscription| Kept {
            channel: subscription.channel.clone(),
            automatic: subscription.automatic,
        };
        Record {
            id: self.id.clone(),
            hub: self.hub.id.clone(),
            identity: self.identity.clone(),
            subscriptions: self.subscriptions.iter().map(kept).collect(),
            number: self.number,
        }
    }
}
