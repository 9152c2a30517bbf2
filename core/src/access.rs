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

fn by_rules(rules: Rules, anonymous: bool) -> Access {
    let open = rules.public && (!anonymous || rules.allow_anonymous);
    Access { publish: open && rules.client_publish, subscribe: open }
}

/// The user whose channel this is, where the hub has user channels.
fn user_of<'a>(hub: &Hub, channel: &'a str) -> Option<&'a str> {
    if hub.user_channel && channel::namespace(channel) == Some("u") { channel.strip_prefix("u:") } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Access, decide};
    use crate::{
        identity::{ChannelAuthorization, Identity},
        settings::{
            hub::{Hub, Rules},
            resource::{ChannelRulesSpec, HubSpec},
        },
    };

    /// An explicit authorization for the channel in question: (publish, subscribe).
    type Explicit = Option<(bool, bool)>;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum UserChannel {
        /// The hub has user channels, and the channel is an ordinary one.
        Elsewhere,
        Own,
        Other,
        /// The name is that of the user's own channel, but the hub has no user channels.
        Off,
    }

    const RIGHTS: [Explicit; 5] =
        [None, Some((false, false)), Some((true, false)), Some((false, true)), Some((true, true))];
    const USER_CHANNELS: [UserChannel; 4] =
        [UserChannel::Elsewhere, UserChannel::Own, UserChannel::Other, UserChannel::Off];
    const BOTH: [bool; 2] = [false, true];

    /// What the rules alone give, one line for each combination:
    /// (public, allowAnonymous, clientPublish), what users may, what anonymous sessions may.
    const BY_RULES: [((bool, bool, bool), &str, &str); 8] = [
        ((false, false, false), "--", "--"),
        ((false, false, true), "--", "--"),
        ((false, true, false), "--", "--"),
        ((false, true, true), "--", "--"),
        ((true, false, false), "-s", "--"),
        ((true, false, true), "ps", "--"),
        ((true, true, false), "-s", "-s"),
        ((true, true, true), "ps", "ps"),
    ];

    #[test]
    fn every_combination() {
        let mut checked = 0;
        for (rules, for_users, for_anonymous) in BY_RULES {
            for user_channel in USER_CHANNELS {
                for (identified, explicit) in RIGHTS.map(|explicit| (true, explicit)).into_iter().chain([(false, None)])
                {
                    let by_rules = if identified { for_users } else { for_anonymous };
                    let expected = expected(identified, user_channel, explicit, by_rules);
                    let found = ask(rules, user_channel, identified.then_some(explicit));
                    assert_eq!(found, expected, "{rules:?} {user_channel:?} {identified} {explicit:?}");
                    checked += 1;
                }
            }
        }
        assert_eq!(checked, 8 * 4 * 6);
    }

    /// The decision as the documentation words it.
    fn expected(identified: bool, user_channel: UserChannel, explicit: Explicit, by_rules: &str) -> Access {
        let own = user_channel == UserChannel::Own && identified;
        let closed = matches!(user_channel, UserChannel::Own | UserChannel::Other);
        match explicit {
            _ if own => access("ps"),
            Some((publish, subscribe)) => Access { publish, subscribe },
            None if closed => access("--"),
            None => access(by_rules),
        }
    }

    fn access(text: &str) -> Access {
        Access { publish: text.contains('p'), subscribe: text.contains('s') }
    }

    fn ask(rules: (bool, bool, bool), user_channel: UserChannel, identified: Option<Explicit>) -> Access {
        let channel = match user_channel {
            UserChannel::Elsewhere => "room:1",
            UserChannel::Own | UserChannel::Off => "u:ann",
            UserChannel::Other => "u:bob",
        };
        let identity = identified.map(|explicit| {
            let grants = explicit.map(|(publish, subscribe)| grant(channel, publish, subscribe));
            user("ann", grants.into_iter().collect())
        });
        decide(&hub(rules, user_channel != UserChannel::Off), channel, identity.as_ref())
    }

    fn hub((public, allow_anonymous, client_publish): (bool, bool, bool), user_channel: bool) -> Hub {
        let spec = HubSpec { user_channel, ..HubSpec::default() };
        let rules =
            ChannelRulesSpec { public: Some(public), allow_anonymous, client_publish, ..ChannelRulesSpec::default() };
        Hub { default_rules: Rules::new(&rules, &spec), ..Hub::with_spec("demo", &spec) }
    }

    fn user(id: &str, channels: Vec<ChannelAuthorization>) -> Identity {
        Identity { user_id: id.into(), channels, ..Identity::default() }
    }

    fn grant(channel: &str, publish: bool, subscribe: bool) -> ChannelAuthorization {
        ChannelAuthorization { channel: channel.into(), publish, subscribe }
    }

    fn grants() -> impl Strategy<Value = Vec<ChannelAuthorization>> {
        let pattern = prop_oneof!["[ab]:\\*", "#:[ab]", "[ab]:[ab]", "u:\\*", Just("*".to_string())];
        let grant = (pattern, any::<bool>(), any::<bool>())
            .prop_map(|(channel, publish, subscribe)| grant(&channel, publish, subscribe));
        prop::collection::vec(grant, 0..5)
    }

    fn any_hub() -> impl Strategy<Value = Hub> {
        any::<((bool, bool, bool), bool)>().prop_map(|(rules, user_channel)| hub(rules, user_channel))
    }

    proptest! {
        #[test]
        fn a_further_authorization_takes_nothing_from_one_who_has_some(
            hub in any_hub(), channel in "[abu]:[ab]", held in grants(), more in grants(),
        ) {
            let matching = held.iter().any(|granted| crate::pattern::matches(&granted.channel, &channel));
            prop_assume!(matching);
            let before = decide(&hub, &channel, Some(&user("a", held.clone())));
            let after = decide(&hub, &channel, Some(&user("a", [held, more].concat())));
            prop_assert!(after.publish >= before.publish && after.subscribe >= before.subscribe);
        }

        #[test]
        fn the_order_of_authorizations_does_not_matter(
            hub in any_hub(), channel in "[abu]:[ab]", held in grants(),
        ) {
            let reversed: Vec<_> = held.iter().rev().cloned().collect();
            prop_assert_eq!(
                decide(&hub, &channel, Some(&user("a", held))),
                decide(&hub, &channel, Some(&user("a", reversed)))
            );
        }

        #[test]
        fn authorizations_for_other_channels_change_nothing(hub in any_hub(), held in grants()) {
            let channel = "elsewhere";
            let held: Vec<_> = held.into_iter().filter(|granted| &*granted.channel != "*").collect();
            prop_assert_eq!(
                decide(&hub, channel, Some(&user("a", held))),
                decide(&hub, channel, Some(&user("a", Vec::new())))
            );
        }

        #[test]
        fn without_authorizations_an_anonymous_session_may_nothing_that_a_user_may_not(
            hub in any_hub(), channel in "[abu]:[ab]",
        ) {
            let anonymous = decide(&hub, &channel, None);
            let user = decide(&hub, &channel, Some(&user("a", Vec::new())));
            prop_assert!(user.publish >= anonymous.publish && user.subscribe >= anonymous.subscribe);
        }
    }

    #[test]
    fn a_rule_opened_for_all_users_is_not_their_user_channels() {
        for public in BOTH {
            let hub = hub((public, true, true), true);
            assert_eq!(decide(&hub, "u:bob", Some(&user("ann", Vec::new()))), access("--"));
            assert_eq!(decide(&hub, "u:bob", None), access("--"));
            // Only the first `:` separates, so this is the channel of a user named `bob:1`.
            assert_eq!(decide(&hub, "u:bob:1", Some(&user("bob", Vec::new()))), access("--"));
            assert_eq!(decide(&hub, "u:bob:1", Some(&user("bob:1", Vec::new()))), access("ps"));
        }
    }
}
