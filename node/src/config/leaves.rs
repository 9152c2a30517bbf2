//! All keys that may be written, each by its whole path.

use appsockets_core::settings::resource::{HubSpec, LimitsSpec};

use super::{
    Config,
    section::{Described, Key, Kind, Shape, Value},
};

/// Spellings that are taken as well, and what they mean.
const SPELLINGS: [(&str, &str); 9] = [
    ("auth.admin.secret", "admin.token"),
    ("auth.session.secret", "auth.sessionSecret"),
    ("channel.closeTimeout", "channel.closeTimeoutMs"),
    ("channel.retainMsgDuration", "channel.retainMsgDurationMs"),
    ("connection.ws.pingInterval", "connection.ws.pingIntervalMs"),
    ("connection.ws.pongInterval", "connection.ws.pongIntervalMs"),
    ("engine.maxLiveHistorySize", "channel.maxLiveHistorySize"),
    ("hub.authenticateRequestTimeout", "hub.authenticateRequestTimeoutMs"),
    ("hub.closeTimeout", "hub.closeTimeoutMs"),
];

/// A key with a value.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Such as `session.rateLimit`.
    pub path: String,
    pub value: Value,
    pub meaning: String,
    /// The path of the value that it sets; its own unless it is another way to write it.
    pub sets: String,
    /// Whether it names a file that holds the value.
    pub from_file: bool,
}

/// Every key, in the order in which they are described.
pub fn leaves() -> Vec<Leaf> {
    let mut leaves = Vec::new();
    collect("", Config::shape(), "", &mut leaves);
    let spelled = SPELLINGS.iter().flat_map(|(path, sets)| other_spelling(path, sets, &leaves)).collect::<Vec<_>>();
    leaves.extend(spelled);
    leaves
}

fn collect(path: &str, shape: Shape, meaning: &str, leaves: &mut Vec<Leaf>) {
    match shape {
        Shape::Section(keys) => {
            for Key { name, meaning, shape } in keys {
                let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                collect(&path, shape, &meaning, leaves);
            }
        }
        Shape::Value(value) => {
            let secret = matches!(value.kind, Kind::Secret(_));
            let leaf = Leaf { path: path.into(), value, meaning: meaning.into(), sets: path.into(), from_file: false };
            leaves.push(leaf);
            if secret {
                leaves.push(file_of(path, path));
            }
        }
    }
}

/// Secrets may come from files, so that the configuration can be shown to everybody.
fn file_of(path: &str, sets: &str) -> Leaf {
    Leaf {
        path: format!("{path}File"),
        value: Value { kind: Kind::Path, nullable: false },
        meaning: format!(
            "A file with the value of `{sets}`, a key in each line: the first is used, and the others are accepted as well. \
             It is read again when it changes."
        ),
        sets: sets.into(),
        from_file: true,
    }
}

fn other_spelling(path: &str, sets: &str, leaves: &[Leaf]) -> Vec<Leaf> {
    let Some(own) = leaves.iter().find(|leaf| leaf.path == sets) else { return Vec::new() };
    let meaning = format!("The same as `{sets}`.");
    let mut spelled = vec![Leaf { path: path.into(), meaning, ..own.clone() }];
    if matches!(own.value.kind, Kind::Secret(_)) {
        spelled.push(file_of(path, sets));
    }
    spelled
}

impl Described for HubSpec {
    fn shape() -> Shape {
        Shape::Section(vec![
            Key::new("default_public", "As a hub's `defaultPublic`.", bool::shape()),
            Key::new("allow_anonymous", "As a hub's `allowAnonymous`.", bool::shape()),
            Key::new("user_channel", "As a hub's `userChannel`.", bool::shape()),
            Key::new("default_rules", "As a hub's `defaultRules`.", Option::<String>::shape()),
            Key::new("allowed_origins", "As a hub's `allowedOrigins`.", Vec::<String>::shape()),
            Key::new("limits", "As a hub's `limits`.", LimitsSpec::shape()),
        ])
    }
}

impl Described for LimitsSpec {
    fn shape() -> Shape {
        let limit = |field, name| Key::new(field, &format!("As `{name}` of a hub's `limits`."), Option::<u32>::shape());
        Shape::Section(vec![
            limit("connections", "connections"),
            limit("messages_per_second", "messagesPerSecond"),
            limit("session_messages_per_second", "sessionMessagesPerSecond"),
            limit("channels_per_session", "channelsPerSession"),
        ])
    }
}
