//! Who may do what in a channel: an explicit authorization, else the rules in force.

use crate::{
    channel,
    identity::Identity,
    pattern,
    settings::hub::{Hub, Rules},
};

/// What a session may do in one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    pub publish: bool,
    pub subscribe: bool,
}

/// The decision for one channel: the authorizations whose pattern matches it, taken together; where there are none, the
/// rules in force. So an explicit permission to publish overrides `clientPublish: false`, and an authorization that
/// gives only `subscribe` makes a public channel read-only for its holder.
pub fn decide(hub: &Hub, channel: &str, identity: Option<&Identity>) -> Access {
    let explicit = identity.and_then(|identity| explicit(identity, channel));
    match user_of(hub, channel) {
        // A user's channel is the user's own, whatever the rules make of other channels.
        Some(user) if identity.is_some_and(|identity| &*identity.user_id == user) => {
            Access { publish: true, subscribe: true }
        }
        Some(_) => explicit.unwrap_or_default(),
        None => explicit.unwrap_or_else(|| by_rules(hub.rules(channel), identity.is_none())),
    }
}

fn explicit(identity: &Identity, channel: &str) -> Option<Access> {
    identity
        .channels
        .iter()
        .filter(|granted| pattern::matches(&granted.channel, channel))
        .map(|granted| Access { publish: granted.publish, subscribe: granted.subscribe })
        .reduce(|a, b| Access { publish: a.publish || b.publish, subscribe: a.subscribe || b.subscribe })
}

fn by_rules(rules: &Rules, anonymous: bool) -> Access {
    let open = rules.public && (!anonymous || rules.allow_anonymous);
    Access { publish: open && rules.client_publish, subscribe: open }
}

/// The user whose channel this is, where the hub has user channels.
fn user_of<'a>(hub: &Hub, channel: &'a str) -> Option<&'a str> {
    if hub.user_channel && channel::namespace(channel) == Some("u") { channel.strip_prefix("u:") } else { None }
}
