//! How the keys that nodes share are exchanged while they serve: first every node accepts the new ones, then every node
//! uses them, and after an overlap the former ones are no longer accepted. No node stops for it. The authority, which
//! signs what nodes and operators show each other, goes the same way at the same time.

use std::{collections::BTreeMap, time::Duration};

use appsockets_proto::configuration::keys_fingerprint;
use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
use kube::ResourceExt;

use crate::children::secrets::{
    ADMIN, ADMIN_TOKENS, AUTHORITY, CERTIFICATE, CERTIFICATE_KEY, FORMER, NEXT, NEXT_KEY, SHARED, value,
};

/// On a cluster: another value asks for other keys.
pub const ROTATE: &str = "appsockets.io/rotate-keys";
/// On the Secret: for which value its keys were made.
const MADE_FOR: &str = "appsockets.io/keys-made-for";
/// What ends so soon is looked at all the time.
const SOON: Duration = Duration::from_secs(10);
/// On the Secret: since when nodes use the new keys, or that they only accept them.
const USED_SINCE: &str = "appsockets.io/new-keys-used-since";
const NOT_YET: &str = "not yet";

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing is asked for, or all is done.
    Stay,
    /// Nodes do not have the keys yet, or the overlap lasts.
    Wait(Waiting),
    /// The Secret becomes this.
    Write(Box<Secret>),
}

/// What an exchange waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub message: String,
    /// Whether it may go on within the next seconds.
    pub soon: bool,
}

/// How far an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is none.
    Steady,
    /// Nodes accept the new keys as well.
    Offered,
    /// Nodes use them, and accept the former ones as well.
    Used(Timestamp),
}

/// A node that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub name: String,
    /// Which keys it says that it has.
    pub keys: Option<String>,
}

/// How far the exchange of these keys is.
pub fn phase(keys: &Secret) -> Phase {
    match keys.annotations().get(USED_SINCE).map(|since| since.parse()) {
        None => Phase::Steady,
        Some(Err(_)) => Phase::Offered,
        Some(Ok(since)) => Phase::Used(since),
    }
}

/// The authority as it ought to be in a phase; None: it is so. `make` makes one.
///
/// # Errors
/// None can be made.
pub fn authority(
    authority: &Secret,
    phase: Phase,
    make: impl FnOnce() -> anyhow::Result<(String, String)>,
) -> anyhow::Result<Option<Secret>> {
    let mut next = authority.clone();
    let data = next.data.get_or_insert_with(BTreeMap::new);
    match phase {
        Phase::Steady => drop([FORMER, NEXT, NEXT_KEY].map(|name| data.remove(name))),
        Phase::Offered if data.contains_key(NEXT_KEY) || data.contains_key(FORMER) => {}
        Phase::Offered => {
            let (certificate, key) = make()?;
            data.insert(NEXT.to_owned(), ByteString(certificate.into_bytes()));
            data.insert(NEXT_KEY.to_owned(), ByteString(key.into_bytes()));
        }
        Phase::Used(_) => {
            if let (Some(certificate), Some(key)) = (data.remove(NEXT), data.remove(NEXT_KEY)) {
                data.insert(CERTIFICATE_KEY.to_owned(), key);
                let former = data.insert(CERTIFICATE.to_owned(), certificate);
                former.map(|former| data.insert(FORMER.to_owned(), former));
            }
        }
    }
    Ok((next.data != authority.data).then_some(next))
}

/// The next step of the keys. `asked` is what the cluster says of [`ROTATE`], `held` what a node says that has all that it
/// is to have, and `make` makes a key.
///
/// # Errors
/// No key can be made.
pub fn step(
    secret: &Secret,
    asked: Option<&str>,
    (held, nodes): (&str, &[Holder]),
    overlap: Duration,
    now: Timestamp,
    make: impl Fn() -> anyhow::Result<String>,
) -> anyhow::Result<Step> {
    let annotation = |name: &str| secret.annotations().get(name).map(String::as_str);
    let (mut next, phase) = (secret.clone(), phase(secret));
    if phase == Phase::Steady {
        let Some(asked) = asked.filter(|asked| annotation(MADE_FOR) != Some(asked)) else { return Ok(Step::Stay) };
        for name in SHARED {
            let mut keys = lines(secret, name);
            keys.truncate(1);
            keys.push(make()?);
            set(&mut next, name, &keys);
        }
        next.annotations_mut().insert(MADE_FOR.to_owned(), asked.to_owned());
        next.annotations_mut().insert(USED_SINCE.to_owned(), NOT_YET.to_owned());
        return Ok(Step::Write(Box::new(next)));
    }
    if let Some(node) = nodes.iter().find(|node| node.keys.as_deref() != Some(held)) {
        let message = format!("Nodes get other keys, and {} does not have them yet.", node.name);
        return Ok(Step::Wait(Waiting { message, soon: true }));
    }
    let Phase::Used(since) = phase else {
        for name in SHARED {
            let mut keys = lines(secret, name);
            keys.reverse();
            set(&mut next, name, &keys);
        }
        next.annotations_mut().insert(USED_SINCE.to_owned(), now.to_string());
        return Ok(Step::Write(Box::new(next)));
    };
    let until = since.saturating_add(overlap).unwrap_or(now);
    if now < until {
        let message = format!("Nodes have other keys, and accept the former ones until {until}.");
        return Ok(Step::Wait(Waiting { message, soon: until <= now.saturating_add(SOON).unwrap_or(now) }));
    }
    for name in SHARED {
        let mut keys = lines(secret, name);
        keys.truncate(1);
        set(&mut next, name, &keys);
    }
    next.annotations_mut().remove(USED_SINCE);
    Ok(Step::Write(Box::new(next)))
}

/// What a node says that has these keys and this certificate.
pub fn fingerprint(keys: &Secret, certificate: &Secret) -> String {
    let shared = SHARED.map(|name| lines(keys, name).into_iter().map(String::into_bytes).collect());
    let shown = [CERTIFICATE, AUTHORITY].map(|name| value(certificate, name).unwrap_or_default().into_bytes());
    keys_fingerprint(shared, &shown)
}

fn lines(secret: &Secret, name: &str) -> Vec<String> {
    value(secret, name).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The keys of a name, and of the administrators' the one that people take.
fn set(secret: &mut Secret, name: &str, keys: &[String]) {
    let data = secret.data.get_or_insert_with(BTreeMap::new);
    data.insert(name.to_owned(), ByteString(keys.join("\n").into_bytes()));
    if let Some(first) = keys.first().filter(|_| name == ADMIN_TOKENS) {
        data.insert(ADMIN.to_owned(), ByteString(first.clone().into_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        time::{Duration, SystemTime},
    };

    use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
    use serde_json::json;

    use super::{Holder, Phase, Step, authority, fingerprint, lines, phase, step};
    use crate::children::secrets::{ADMIN, ADMIN_TOKENS, CERTIFICATE, CERTIFICATE_KEY, RPC, SHARED, trusted, value};

    const OVERLAP: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::try_from(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap()
    }

    fn secret(data: &[(&str, &str)]) -> Secret {
        let data: serde_json::Map<_, _> = data
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(k8s_openapi::ByteString(value.as_bytes().to_vec()))))
            .collect();
        serde_json::from_value(json!({"metadata": {"name": "main-keys"}, "data": data})).unwrap()
    }

    fn fresh() -> Secret {
        let mut secret = secret(&[]);
        for name in SHARED {
            super::set(&mut secret, name, &[format!("old {name}")]);
        }
        secret
    }

    fn print(keys: &Secret) -> String {
        fingerprint(keys, &secret(&[]))
    }

    fn holders(secrets: &[&Secret]) -> Vec<Holder> {
        let secrets = secrets.iter().enumerate();
        let holder =
            |(number, keys): (usize, &&Secret)| Holder { name: format!("main-{number}"), keys: Some(print(keys)) };
        secrets.map(holder).collect()
    }

    fn next(keys: &Secret, asked: &str, nodes: &[Holder], seconds: u64) -> Step {
        let made = Cell::new(0);
        let make = || {
            made.set(made.get() + 1);
            Ok(format!("new {}", made.get()))
        };
        step(keys, Some(asked), (&print(keys), nodes), OVERLAP, at(seconds), make).unwrap()
    }

    fn written(keys: &Secret, asked: &str, nodes: &[Holder], seconds: u64) -> Secret {
        match next(keys, asked, nodes, seconds) {
            Step::Write(keys) => *keys,
            other => panic!("{other:?}"),
        }
    }

    fn waits(keys: &Secret, nodes: &[Holder], seconds: u64) -> String {
        match next(keys, "today", nodes, seconds) {
            Step::Wait(waiting) => waiting.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_are_accepted_before_they_are_used_and_used_before_others_go() {
        let old = fresh();
        let offered = written(&old, "today", &holders(&[&old, &old]), 0);
        assert_eq!(
            (lines(&offered, RPC), phase(&offered)),
            (vec!["old rpc".to_owned(), "new 3".to_owned()], Phase::Offered)
        );
        assert_eq!(value(&offered, ADMIN).unwrap(), "old admin-tokens", "people take what every node accepts");
        assert!(waits(&offered, &holders(&[&offered, &old]), 1).contains("main-1 does not"));
        let silent = [Holder { name: "main-0".to_owned(), keys: None }];
        assert!(waits(&offered, &silent, 1).contains("main-0 does not"));

        let used = written(&offered, "today", &holders(&[&offered, &offered]), 10);
        assert_eq!(
            (lines(&used, RPC), phase(&used)),
            (vec!["new 3".to_owned(), "old rpc".to_owned()], Phase::Used(at(10)))
        );
        assert_eq!(value(&used, ADMIN).unwrap(), lines(&used, ADMIN_TOKENS)[0]);
        assert!(waits(&used, &holders(&[&used, &offered]), 1_000).contains("main-1 does not"));
        assert!(waits(&used, &holders(&[&used, &used]), 69).contains("until 1970-01-01T00:01:10Z"));

        let done = written(&used, "today", &holders(&[&used, &used]), 70);
        assert_eq!((lines(&done, RPC), phase(&done)), (vec!["new 3".to_owned()], Phase::Steady));
        assert_eq!(next(&done, "today", &holders(&[&done, &used]), 71), Step::Stay);
        assert_eq!(phase(&written(&done, "tomorrow", &[], 72)), Phase::Offered);
    }

    #[test]
    fn an_authority_is_trusted_before_it_signs_and_after_it_does_not() {
        let make = || Ok(("new ".to_owned(), "new key".to_owned()));
        let become_of = |secret: &Secret, phase| authority(secret, phase, make).unwrap().unwrap();
        let signs = |secret: &Secret| (value(secret, CERTIFICATE).unwrap(), value(secret, CERTIFICATE_KEY).unwrap());
        let pair = |name: &str| (format!("{name} "), format!("{name} key"));
        let old = secret(&[(CERTIFICATE, "old "), (CERTIFICATE_KEY, "old key")]);
        assert_eq!(authority(&old, Phase::Steady, make).unwrap(), None);
        let offered = become_of(&old, Phase::Offered);
        assert_eq!((signs(&offered), trusted(&offered)), (pair("old"), "old new ".to_owned()));
        assert_eq!(authority(&offered, Phase::Offered, make).unwrap(), None, "one is enough");
        let used = become_of(&offered, Phase::Used(at(1)));
        assert_eq!((signs(&used), trusted(&used)), (pair("new"), "new old ".to_owned()));
        for phase in [Phase::Offered, Phase::Used(at(1))] {
            assert_eq!(authority(&used, phase, make).unwrap(), None, "it is ahead of the keys for a moment");
        }
        let done = become_of(&used, Phase::Steady);
        assert_eq!((signs(&done), trusted(&done)), (pair("new"), "new ".to_owned()));
    }
}
