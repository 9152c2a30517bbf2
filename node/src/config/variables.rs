//! Environment variables, which go before the file: `APPSOCKETS_SESSION__RATE_LIMIT` sets `session.rateLimit`.

use std::ffi::OsString;

use super::{
    leaves::Leaf,
    reading::Reading,
    yaml::{Content, Node, Place, Style},
};
use crate::nearest::nearest;

const PREFIX: &str = "APPSOCKETS_";

/// What the tool `appsockets` reads, which may be used where a node runs: none of them is a key's.
pub const VARIABLES_OF_THE_TOOL: [&str; 5] =
    ["APPSOCKETS_URL", "APPSOCKETS_HUB", "APPSOCKETS_TOKEN", "APPSOCKETS_ADMIN_URL", "APPSOCKETS_ADMIN_TOKEN"];

/// What is called so wherever NATS is used, and what it sets; the operator hands over a Secret under this name.
const OF_NATS: (&str, &str) = ("NATS_URL", "nats.url");

/// The variable of a key.
pub fn variable(path: &str) -> String {
    let levels: Vec<_> = path.split('.').map(upper_snake_case).collect();
    format!("{PREFIX}{}", levels.join("__"))
}

fn upper_snake_case(name: &str) -> String {
    name.chars().fold(String::new(), |mut upper, letter| {
        if letter.is_ascii_uppercase() {
            upper.push('_');
        }
        upper.push(letter.to_ascii_uppercase());
        upper
    })
}

/// What all variables set. One that begins like ours and is none is a mistake.
pub fn read<'a>(leaves: &'a [Leaf], environment: impl IntoIterator<Item = (OsString, OsString)>) -> Reading<'a> {
    let mut reading = Reading::new(leaves);
    let mut ours: Vec<_> = environment.into_iter().filter_map(ours).collect();
    ours.sort();
    for (name, value) in ours {
        // It sorts behind those that begin like ours, which were written for this program.
        if name == OF_NATS.0 && (value.is_empty() || reading.given.contains_key(OF_NATS.1)) {
            continue;
        }
        let place = Place::Variable(name.clone());
        let is_its = |leaf: &&Leaf| variable(&leaf.path) == name || (OF_NATS.0, OF_NATS.1) == (&*name, &*leaf.path);
        let Some(leaf) = leaves.iter().find(is_its) else {
            reading.problem(&place, "", unknown(leaves, &name));
            continue;
        };
        match value.into_string() {
            Ok(text) => {
                let node = Node { place: place.clone(), content: Content::Scalar(text, Style::Variable) };
                reading.value(leaf, &place, &node);
            }
            Err(_) => reading.problem(&place, "", "Write the value in UTF-8.".to_owned()),
        }
    }
    reading
}

fn ours((name, value): (OsString, OsString)) -> Option<(String, OsString)> {
    let name = name.to_str().filter(|name| name.starts_with(PREFIX) || *name == OF_NATS.0)?;
    let others = VARIABLES_OF_THE_TOOL.contains(&name) || is_service_link(name, &value.to_string_lossy());
    (!others).then(|| (name.to_owned(), value))
}

/// Whether Kubernetes makes such a variable: for every service of a namespace, so also for one that is called
/// appsockets, in every container.
fn is_service_link(name: &str, value: &str) -> bool {
    let words: Vec<_> = name.split('_').collect();
    let number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    (words.last() == Some(&"PORT") && value.contains("://"))
        || words.windows(2).any(|pair| matches!(pair, ["SERVICE", "HOST" | "PORT"]))
        || words.windows(2).any(|pair| pair[0] == "PORT" && number(pair[1]))
}

fn unknown(leaves: &[Leaf], name: &str) -> String {
    let known: Vec<_> = leaves.iter().map(|leaf| variable(&leaf.path)).collect();
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("There is no such variable: did you mean `{near}`?"),
        None => "There is no such variable: `appsockets-node config reference` lists all keys.".to_owned(),
    }
}
