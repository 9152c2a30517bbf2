//! Settings in a file: YAML, one resource for each document.
//!
//! Everything that is wrong is told at once, with its line, and a file with anything wrong is not used at all.

use std::{
    collections::HashMap,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use appsockets_core::settings::{
    entry::{Entry, Source},
    problem::Problem,
    resource::Resource,
    snapshot::Snapshot,
};
use xxhash_rust::xxh3::xxh3_128;

use super::document;

/// The largest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// All resources of a file, or all that is wrong with it.
///
/// # Errors
/// A document can't be read or is not valid, two documents are about the same resource, or a resource names another
/// one that is not in the file.
pub fn parse(text: &str) -> Result<Vec<Resource>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut resources = Vec::new();
    let mut lines = HashMap::new();
    for document in document::split(text) {
        match document.parse() {
            Ok(resource) => {
                let found = resource.problems().into_iter().map(|problem| problem.within(&document));
                problems.extend(found);
                if let Some(first) = lines.insert(resource.id(), document.line) {
                    let sentence = format!("{} is in line {first} already: leave one of them out.", resource.id());
                    problems.push(Problem::new(document.to_string(), sentence));
                }
                resources.push(resource);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        problems = missing(&resources);
    }
    if problems.is_empty() { Ok(resources) } else { Err(problems) }
}

/// As the snapshot takes them.
pub fn entries(resources: Vec<Resource>) -> Vec<Arc<Entry>> {
    resources.into_iter().map(|resource| Arc::new(Entry::new(Source::File, "", 0, resource))).collect()
}

/// What the resources name and the file does not have.
fn missing(resources: &[Resource]) -> Vec<Problem> {
    let compiled = Snapshot::from_sources(entries(resources.to_vec())).compile(None);
    compiled.problems.into_values().flatten().collect()
}

/// A file that is looked at again and again.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    /// What was last acted upon.
    taken: Option<Stamp>,
    /// What was found when it was last looked at.
    seen: Option<Stamp>,
}

/// Tells one state of the file from another. Not by its time, which stays the same for two writes in one tick.
type Stamp = Result<u128, io::ErrorKind>;

impl Watched {
    pub fn new(path: impl Into<PathBuf>) -> Watched {
        Watched { path: path.into(), taken: None, seen: None }
    }

    /// Reads the file, whatever it was before.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub async fn read(&mut self) -> Result<Vec<Arc<Entry>>, Vec<Problem>> {
        let (stamp, bytes) = stamped(&self.path).await;
        (self.seen, self.taken) = (Some(stamp), Some(stamp));
        self.outcome(bytes)
    }

    /// Reads the file if it has changed and is no longer being written: found the same twice. None: nothing new.
    pub async fn poll(&mut self) -> Option<Result<Vec<Arc<Entry>>, Vec<Problem>>> {
        let (stamp, bytes) = stamped(&self.path).await;
        let settled = self.seen.replace(stamp) == Some(stamp);
        if !settled || self.taken == Some(stamp) {
            return None;
        }
        self.taken = Some(stamp);
        Some(self.outcome(bytes))
    }

    fn outcome(&self, bytes: io::Result<Vec<u8>>) -> Result<Vec<Arc<Entry>>, Vec<Problem>> {
        let place = self.path.display().to_string();
        let refuse = |sentence: String| vec![Problem::new(&place, sentence)];
        let bytes = bytes.map_err(|error| refuse(format!("The file can't be read: {error}.")))?;
        let text = String::from_utf8(bytes).map_err(|_| refuse("Write the file in UTF-8.".to_string()))?;
        let resources = parse(&text)
            .map_err(|problems| problems.into_iter().map(|problem| problem.within(&place)).collect::<Vec<_>>())?;
        Ok(entries(resources))
    }
}

async fn stamped(path: &Path) -> (Stamp, io::Result<Vec<u8>>) {
    let path = path.to_owned();
    let bytes =
        tokio::task::spawn_blocking(move || read_bounded(&path)).await.unwrap_or_else(|error| Err(error.into()));
    let stamp = bytes.as_ref().map(|bytes| xxh3_128(bytes)).map_err(io::Error::kind);
    (stamp, bytes)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use appsockets_core::settings::resource::Resource;
    use proptest::prelude::*;

    use super::{Watched, parse};

    const GOOD: &str = r#"# All kinds.
kind: Hub
name: shop
spec:
  allowAnonymous: true
  defaultRules: quiet
  allowedOrigins: ["https://shop.example", "https://*.shop.example"]
  limits: {connections: 1000}
---
kind: ChannelRules
hub: shop
name: quiet
spec: {public: true, clientPublish: false}
---
kind: Namespace
hub: shop
name: orders
spec: {rules: quiet}
---
kind: Channel
hub: shop
name: orders:all
spec: {rules: quiet}
---
kind: AuthProvider
hub: shop
spec:
  http:
    url: https://shop.example/auth
    headers: {X-Api-Key: hush}
  jwt:
    publicKey: |
      -----BEGIN PUBLIC KEY-----
      MCowBQYDK2VwAyEA
      -----END PUBLIC KEY-----
"#;

    fn problems(text: &str) -> Vec<String> {
        let problems = parse(text).expect_err(text);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_kind_is_read() {
        let resources = parse(GOOD).unwrap();
        let ids: Vec<_> = resources.iter().map(|resource| resource.id().to_string()).collect();
        let expected = [
            "Hub shop",
            "ChannelRules shop/quiet",
            "Namespace shop/orders",
            "Channel shop/orders:all",
            "AuthProvider shop",
        ];
        assert_eq!(ids, expected);
        let Resource::AuthProvider { spec, .. } = &resources[4] else { panic!("another kind") };
        assert!(spec.jwt.as_ref().unwrap().public_key.as_ref().unwrap().ends_with("-----END PUBLIC KEY-----\n"));
    }

    /// The types for files and the one for everything else agree on what a resource is.
    #[test]
    fn what_is_read_is_what_json_says() {
        for resource in parse(GOOD).unwrap() {
            let json = serde_json::to_string(&resource).unwrap();
            assert_eq!(serde_json::from_str::<Resource>(&json).unwrap(), resource);
            // JSON is YAML. What belongs to the hub lacks its hub here, and nothing else.
            let alone = format!(
                "{json}\n---\n{{kind: Hub, name: shop}}\n---\n{{kind: ChannelRules, hub: shop, name: quiet}}\n"
            );
            match parse(&alone) {
                Ok(resources) => assert_eq!(resources[0], resource),
                Err(problems) => {
                    assert!(problems.iter().all(|problem| problem.sentence.contains("already")), "{problems:?}")
                }
            }
        }
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let hub = |spec: &str| format!("# c\n---\nkind: Hub\nname: shop\nspec:\n{spec}");
        for (text, expected) in [
            (
                hub("  allowAnonymus: true"),
                "document 1, line 6: There is no field `allowAnonymus`. Write `allowAnonymous`.",
            ),
            (hub("  limits:\n    connections: many"), "document 1, line 7: Write a whole number from 0 to 4294967295."),
            (hub("  limits: {connections: 0}"), "document 1, line 3, spec.limits.connections: Write 1 or more"),
            (hub("  allowAnonymous: maybe"), "document 1, line 6: Write true or false."),
            (hub("  userChannel: true\n  userChannel: true"), "document 1, line 7: This key is there twice"),
            (hub("  defaultRules: [a]"), "document 1, line 6: The text can't be read"),
            (hub("  bad: [a"), "document 1, line 6: The text can't be read: unclosed bracket '['."),
            (hub("  defaultRules: gone"), "Hub shop, spec.defaultRules: The hub shop has no channel rules gone"),
            ("kind: hub\nname: shop\n".into(), "document 1, line 1, kind: Write `Hub`."),
            ("kind: Pod\n".into(), "document 1, line 1, kind: Write one of `Hub`, `ChannelRules`,"),
            ("name: shop\n".into(), "document 1, line 1, kind: Write one of `Hub`,"),
            ("kind: Hub\n".into(), "document 1, line 1: The field `name` is missing: add it."),
            ("kind: Hub\nname: shop\nhub: shop\n".into(), "document 1, line 3: There is no field `hub`."),
            (
                "kind: Namespace\nhub: shop\nname: n\n".into(),
                "document 1, line 3: The field `spec` is missing: add it.",
            ),
            ("kind: ChannelRules\nhub: shop\nname: n\n".into(), "ChannelRules shop/n: There is no hub shop"),
            ("just words\n".into(), "document 1, line 1: The text can't be read"),
            ("kind: Hub\nname: a\n---\nkind: Hub\nname: a\n".into(), "document 2, line 4: Hub a is in line 1 already"),
        ] {
            let found = problems(&text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].starts_with(expected), "{text}: {found:?}");
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let text =
            "kind: Hub\nname: ''\n---\nkind: Hub\nnam: a\n---\nkind: Hub\nname: b\nspec: {allowedOrigins: [x, y]}\n";
        let found = problems(text);
        assert_eq!(found.len(), 4, "{found:?}");
    }

    #[test]
    fn a_mistake_shows_no_secret() {
        for spec in ["{jwt: {secret: hush}}", "{jwt: {secret: [hush]}}", "{jwt: hush}", "hush", "{jwt: {secret: hush}"]
        {
            let found = problems(&format!("kind: AuthProvider\nhub: shop\nspec: {spec}\n")).concat();
            assert!(!found.contains("hush"), "{found}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "(\\PC|\n|---|kind: Hub\n|name: |spec:|[\\[{&*|>\t]){0,40}") {
            let _ = parse(&text);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hubs.yaml");
        std::fs::write(&path, GOOD).unwrap();
        let mut watched = Watched::new(&path);
        assert_eq!(watched.read().await.unwrap().len(), 5);
        assert!(watched.poll().await.is_none());

        for text in ["", "kind: Hub\nname: a\n", "kind: Hub\nname: a\n---\nkind: Hub\nname: b\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(watched.poll().await.is_none(), "{text}");
        }
        assert_eq!(watched.poll().await.unwrap().unwrap().len(), 2);
        assert!(watched.poll().await.is_none());

        std::fs::remove_file(&path).unwrap();
        assert!(watched.poll().await.is_none());
        assert!(watched.poll().await.unwrap().is_err());
        assert!(watched.poll().await.is_none());
    }

    #[tokio::test]
    async fn a_file_without_an_end_is_not_read_to_it() {
        let refused = Watched::new("/dev/zero").read().await.unwrap_err();
        assert!(refused[0].sentence.contains("larger than 16777216 bytes"), "{}", refused[0]);
    }
}
