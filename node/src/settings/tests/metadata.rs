//! Metadata of channels: with hubs of every source, and between databases that tell each other.

use std::collections::BTreeSet;

use appsockets_core::{
    code::ErrorCode,
    settings::{
        entry::{Entry, ResourceId, Source},
        push::{Push, PushStamp},
        resource::HubSpec,
    },
};

use super::{FILE, Folder, anonymous_hub, exchange::Node, hub};
use crate::settings::{
    Refusal, Settings,
    exchange::Item,
    file::Watched,
    handed::Kept,
    metadata::{Limits, VALUE_BYTES_MAX, check_value},
};

impl Node {
    async fn put(&self, channel: &str, value: &str) {
        self.settings.put_metadata("a", channel, value.as_bytes()).await.unwrap();
    }

    async fn hear_metadata(&self, other: &Node) {
        self.hear(other).await;
        assert_eq!(self.settings.merge_metadata(&other.metadata().await).await.unwrap(), None);
    }
}

/// None: there is none, in a hub that is there.
async fn shown(settings: &Settings, hub: &str, channel: &str) -> Option<String> {
    match settings.metadata(hub, channel).await {
        Ok(metadata) => Some(metadata.value),
        Err(refused) => {
            assert_eq!(refused.code(), ErrorCode::NotFound, "{refused}");
            None
        }
    }
}

async fn both_hear(a: &Node, b: &Node) {
    a.hear_metadata(b).await;
    b.hear_metadata(a).await;
    assert_eq!(a.settings.metadata_digest(), b.settings.metadata_digest());
}

#[test]
fn a_value_is_an_object_of_bounded_length_and_kept_as_it_was_written() {
    let longest = format!("{{\"a\":\"{}\"}}", "x".repeat(VALUE_BYTES_MAX - 8));
    assert_eq!(longest.len(), VALUE_BYTES_MAX);
    let deep = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    for good in ["{}", "{ \"b\": 1.50,\n\"a\": 123456789012345678901 }", &longest, &deep(126)] {
        assert_eq!(check_value(format!(" {good}\n").as_bytes()).unwrap(), good);
    }
    for bad in ["", "[]", "null", "1", "\"a\"", "{", "{} {}", "{'a': 1}", "{\"a\": 1e999}", &deep(200)] {
        assert_eq!(check_value(bad.as_bytes()).unwrap_err().code(), ErrorCode::ResourceInvalid, "{bad}");
    }
    assert_eq!(check_value(b"{\"a\": \"\xff\"}").unwrap_err().code(), ErrorCode::ResourceInvalid);
    assert_eq!(check_value(format!("{longest} ").as_bytes()).unwrap(), longest);
    let longer = longest.replace("\"a\"", "\"aa\"");
    assert_eq!(check_value(longer.as_bytes()).unwrap_err().code(), ErrorCode::MessageTooLarge);
}

#[tokio::test]
async fn what_was_written_is_there_until_it_is_removed_also_after_a_restart() {
    let folder = Folder::with_file(FILE);
    let settings = folder.open().await.unwrap();
    let code = |refused: Refusal| refused.code();
    assert_eq!(code(settings.put_metadata("none", "c", b"{}").await.unwrap_err()), ErrorCode::HubNotFound);
    assert_eq!(code(settings.metadata("none", "c").await.unwrap_err()), ErrorCode::HubNotFound);
    assert_eq!(code(settings.remove_metadata("none", "c").await.unwrap_err()), ErrorCode::HubNotFound);
    assert_eq!(code(settings.remove_metadata("shop", "c").await.unwrap_err()), ErrorCode::NotFound);
    assert_eq!(shown(&settings, "shop", "c").await, None);

    let revision = settings.current().revision;
    let first = settings.put_metadata("shop", "c", b"{ \"a\": 1.0 }").await.unwrap();
    let digest = settings.metadata_digest();
    assert_eq!(settings.put_metadata("shop", "c", b"{ \"a\": 1.0 }").await.unwrap(), first);
    assert_eq!(settings.metadata_digest(), digest);
    let second = settings.put_metadata("shop", "c", b"{}").await.unwrap();
    assert!(second.written_ms > first.written_ms);
    settings.put_metadata("shop", "d", b"{}").await.unwrap();
    settings.remove_metadata("shop", "d").await.unwrap();
    assert_eq!(settings.current().revision, revision, "it is no setting");

    let settings = folder.open().await.unwrap();
    assert_eq!(settings.metadata("shop", "c").await.unwrap(), second);
    assert_eq!(shown(&settings, "shop", "d").await, None);
    settings.remove_metadata("shop", "c").await.unwrap();
    assert_eq!((shown(&settings, "shop", "c").await, settings.metadata_digest()), (None, 0));
}

#[tokio::test]
async fn only_so_many_channels_have_metadata() {
    let mut folder = Folder::new();
    folder.options.metadata = Limits { of_hub: 2, in_all: 3 };
    let settings = folder.open().await.unwrap();
    for name in ["a", "b"] {
        settings.apply(hub(name)).await.unwrap();
    }
    let put = async |hub, channel| settings.put_metadata(hub, channel, b"{}").await;
    put("a", "1").await.unwrap();
    put("a", "2").await.unwrap();
    let refused = put("a", "3").await.unwrap_err();
    assert!(matches!(refused, Refusal::TooMuchMetadataOfHub { channels: 2, .. }), "{refused}");
    assert_eq!(refused.code(), ErrorCode::ResourceInvalid);
    put("b", "1").await.unwrap();
    let refused = put("b", "2").await.unwrap_err();
    assert!(matches!(refused, Refusal::TooMuchMetadata(3)), "{refused}");
    assert_eq!(refused.code(), ErrorCode::ResourceInvalid);
    // What is there may still change, and what was removed makes room.
    settings.put_metadata("a", "1", b"{\"a\": 1}").await.unwrap();
    settings.remove_metadata("a", "2").await.unwrap();
    put("b", "2").await.unwrap();
    settings.remove(&ResourceId::hub("b")).await.unwrap();
    put("a", "3").await.unwrap();
}

#[tokio::test]
async fn a_hub_of_the_database_that_is_made_anew_has_none() {
    let mut folder = Folder::new();
    folder.options.dynamic = Some(HubSpec::default());
    let settings = folder.open().await.unwrap();
    settings.apply(hub("a")).await.unwrap();
    settings.create_dynamic("b").await.unwrap();
    for name in ["a", "b"] {
        settings.put_metadata(name, "c", b"{}").await.unwrap();
        settings.remove(&ResourceId::hub(name)).await.unwrap();
        assert_eq!(settings.metadata(name, "c").await.unwrap_err().code(), ErrorCode::HubNotFound);
    }
    settings.create_dynamic("a").await.unwrap();
    settings.apply(hub("b")).await.unwrap();
    assert_eq!((shown(&settings, "a", "c").await, shown(&settings, "b", "c").await), (None, None));
    // A hub that only changes keeps what it has.
    settings.put_metadata("a", "c", b"{}").await.unwrap();
    settings.apply(anonymous_hub("a")).await.unwrap();
    assert_eq!(shown(&settings, "a", "c").await.as_deref(), Some("{}"));
}

/// Two looks: the second finds the file the same, and so takes it.
async fn look(settings: &Settings, watched: &mut Watched) {
    settings.check_file(watched).await;
    settings.check_file(watched).await;
}

#[tokio::test]
async fn a_hub_that_a_file_has_anew_has_none() {
    let folder = Folder::with_file(FILE);
    let settings = folder.open().await.unwrap();
    settings.put_metadata("shop", "c", b"{}").await.unwrap();
    let mut watched = Watched::new(folder.options.file.clone().unwrap());
    folder.rewrite("kind: Hub\nname: shop\nspec: {defaultPublic: true}\n");
    look(&settings, &mut watched).await;
    assert_eq!(shown(&settings, "shop", "c").await.as_deref(), Some("{}"), "the hub has only changed");
    folder.rewrite("kind: Hub\nname: other\n");
    look(&settings, &mut watched).await;
    assert_eq!(settings.metadata_digest(), 0);
    folder.rewrite(FILE);
    look(&settings, &mut watched).await;
    assert_eq!(shown(&settings, "shop", "c").await, None);
    settings.put_metadata("shop", "c", b"{\"new\": 1}").await.unwrap();

    // One that moves into the database and back stays the same hub.
    folder.rewrite("kind: Hub\nname: other\n");
    let other = Settings::open(Default::default(), folder.pool().await).await.unwrap();
    other.apply(hub("shop")).await.unwrap();
    assert_eq!(shown(&other, "shop", "c").await, None, "what nobody has written here is begun anew");
    other.put_metadata("shop", "c", b"{\"moved\": 1}").await.unwrap();
    look(&settings, &mut watched).await;
    settings.check_database().await.unwrap();
    assert_eq!(shown(&settings, "shop", "c").await.as_deref(), Some("{\"moved\": 1}"));
}

#[tokio::test]
async fn a_hub_that_left_the_file_while_no_node_ran_leaves_none() {
    let mut folder = Folder::with_file(FILE);
    let settings = folder.open().await.unwrap();
    settings.put_metadata("shop", "c", b"{}").await.unwrap();
    drop(settings);
    // Who only looks into the database does not know the hubs of the file.
    let visitor = Settings::open(Default::default(), folder.pool().await).await.unwrap();
    assert_ne!(visitor.metadata_digest(), 0);
    folder.rewrite("kind: Hub\nname: other\n");
    let settings = folder.watched().await;
    let mut digests = settings.subscribe_metadata();
    super::timeout(std::time::Duration::from_secs(20), digests.wait_for(|digest| *digest == 0)).await.unwrap().unwrap();
}

/// A node that an operator tells what to serve.
struct Managed {
    folder: Folder,
    settings: Settings,
}

impl Managed {
    async fn new() -> Managed {
        let mut folder = Folder::new();
        let membership = "who may be a member".to_owned().into();
        folder.options.operator = Some(Kept::new(folder.folder.path(), &membership));
        let settings = folder.open().await.unwrap();
        Managed { folder, settings }
    }

    /// All that the operator has: a hub of this uid, or none.
    async fn push(&self, sequence: u64, uid: Option<&str>) {
        let set = uid.into_iter().map(|uid| Entry::new(Source::Operator, uid, 1, hub("a")).into());
        let push = Push {
            stamp: PushStamp { term: 1, sequence },
            base: None,
            set: set.collect(),
            removed: Vec::new(),
            kept: BTreeSet::new(),
            withheld: BTreeSet::new(),
            removals_max: 0,
        };
        self.settings.push(push).await.unwrap();
    }
}

#[tokio::test]
async fn a_hub_that_the_operator_has_anew_has_none() {
    let node = Managed::new().await;
    let settings = &node.settings;
    node.push(1, Some("one")).await;
    settings.put_metadata("a", "c", b"{}").await.unwrap();
    node.push(2, Some("one")).await;
    assert_eq!(shown(settings, "a", "c").await.as_deref(), Some("{}"));
    // A restart keeps it, as what the operator said is kept.
    let again = node.folder.open().await.unwrap();
    assert_eq!(shown(&again, "a", "c").await.as_deref(), Some("{}"));
    // Removed and made again before the operator has told of the first.
    node.push(3, Some("two")).await;
    assert_eq!(shown(settings, "a", "c").await, None);
    settings.put_metadata("a", "c", b"{}").await.unwrap();
    node.push(4, None).await;
    node.push(5, Some("two")).await;
    assert_eq!(shown(settings, "a", "c").await, None);
}

#[tokio::test]
async fn what_another_node_passes_on_of_the_operator_removes_only_what_was_made_anew() {
    let (node, other) = (Managed::new().await, Managed::new().await);
    let hear = async || assert!(node.settings.take_handed(&other.settings.handed_since(None).await).await);
    node.push(1, Some("one")).await;
    node.settings.put_metadata("a", "c", b"{}").await.unwrap();
    // The other one may be too old to use the hub.
    other.push(2, None).await;
    hear().await;
    assert!(node.settings.hub("a").is_none());
    node.push(3, Some("one")).await;
    assert_eq!(shown(&node.settings, "a", "c").await.as_deref(), Some("{}"));
    other.push(4, Some("two")).await;
    hear().await;
    assert_eq!(shown(&node.settings, "a", "c").await, None);
}

#[tokio::test]
async fn databases_tell_each_other_and_the_later_write_wins() {
    let [a, b, c] = Node::three().await;
    a.apply([hub("a")]).await;
    a.put("c", "{\"a\": 1}").await;
    b.hear_metadata(&a).await;
    c.hear_metadata(&b).await;
    assert_eq!(c.settings.metadata("a", "c").await.unwrap(), a.settings.metadata("a", "c").await.unwrap());
    // Written later by the clock on the wall, but not by theirs.
    a.hurry(1).await;
    a.put("c", "{\"a\": 2}").await;
    b.put("c", "{\"b\": 3}").await;
    both_hear(&a, &b).await;
    assert_eq!(shown(&b.settings, "a", "c").await.as_deref(), Some("{\"a\": 2}"));
    // Who has heard of a write is later, also with a clock that is behind.
    b.settings.remove_metadata("a", "c").await.unwrap();
    both_hear(&a, &b).await;
    assert_eq!(shown(&a.settings, "a", "c").await, None);
    // One who has not heard of the removal does not bring it back.
    both_hear(&b, &c).await;
    assert_eq!(shown(&c.settings, "a", "c").await, None);
}

#[tokio::test]
async fn what_is_known_already_changes_nothing() {
    let [a, b, _] = Node::three().await;
    a.apply([hub("a")]).await;
    a.put("c", "{}").await;
    both_hear(&a, &b).await;
    let reached = b.settings.metadata_page(0).await.unwrap().reached;
    both_hear(&a, &b).await;
    let page = b.settings.metadata_page(reached).await.unwrap();
    assert!(page.items.is_empty() && !page.more);
}

#[tokio::test]
async fn a_hub_that_is_removed_elsewhere_takes_its_metadata_with_it() {
    let [a, b, c] = Node::three().await;
    a.apply([hub("a")]).await;
    a.put("c", "{}").await;
    both_hear(&a, &b).await;
    c.hear_metadata(&a).await;
    // Written to the hub by one who does not know yet that it is gone, after it went.
    a.settings.remove(&ResourceId::hub("a")).await.unwrap();
    b.hurry(1).await;
    b.put("late", "{}").await;
    both_hear(&a, &b).await;
    c.hear_metadata(&b).await;
    // Neither an administrator's nor a client's hub inherits it.
    a.apply([hub("a")]).await;
    c.settings.create_dynamic("a").await.unwrap();
    both_hear(&a, &b).await;
    both_hear(&b, &c).await;
    for node in [&a, &b, &c] {
        for channel in ["c", "late"] {
            assert_eq!(shown(&node.settings, "a", channel).await, None);
        }
    }
}

#[tokio::test]
async fn a_node_that_is_new_loses_nothing_of_a_hub_that_it_knows_only_by_its_metadata() {
    let [a, b, _] = Node::three().await;
    a.apply([hub("a")]).await;
    a.put("c", "{}").await;
    b.settings.merge_metadata(&a.metadata().await).await.unwrap();
    b.settings.create_dynamic("a").await.unwrap();
    both_hear(&a, &b).await;
    assert_eq!(shown(&b.settings, "a", "c").await.as_deref(), Some("{}"));
}

#[tokio::test]
async fn what_can_not_be_used_is_left_and_read_again() {
    let [a, b, _] = Node::three().await;
    a.apply([hub("a")]).await;
    for channel in ["c", "d", "e"] {
        a.put(channel, "{}").await;
    }
    b.hear(&a).await;
    let spoils: [fn(&mut Item); 6] = [
        |item| item.kind = "Hub".into(),
        |item| item.stamp.ms = -1,
        |item| item.stamp.ms = i64::MAX,
        |item| item.name = "\n".into(),
        |item| item.content.as_mut().unwrap().resource = "[]".into(),
        |item| item.content.as_mut().unwrap().resource = format!("{{\"a\":\"{}\"}}", "x".repeat(VALUE_BYTES_MAX)),
    ];
    for (count, spoil) in spoils.into_iter().enumerate() {
        let mut items = a.metadata().await;
        let spoiled = items.iter_mut().find(|item| item.name == "d").unwrap();
        spoil(spoiled);
        let changed = spoiled.changed;
        assert_eq!(b.settings.merge_metadata(&items).await.unwrap(), Some(changed));
        assert_eq!(b.settings.refused(), count as u64 + 1);
        assert_eq!(shown(&b.settings, "a", "d").await, None);
        assert_eq!(shown(&b.settings, "a", "e").await.as_deref(), Some("{}"));
    }
    both_hear(&a, &b).await;
    assert_eq!(shown(&b.settings, "a", "d").await.as_deref(), Some("{}"));
    // Nor is it taken for a resource.
    assert!(b.settings.merge(a.metadata().await).await.unwrap().is_some());
}

#[tokio::test]
async fn much_comes_in_pages() {
    let [a, b, _] = Node::three().await;
    a.apply([hub("a")]).await;
    let value = format!("{{\"a\":\"{}\"}}", "x".repeat(VALUE_BYTES_MAX - 8));
    for number in 0..80 {
        a.put(&format!("channel {number}"), &value).await;
    }
    let first = a.settings.metadata_page(0).await.unwrap();
    assert!(first.more && first.items.len() < 80);
    both_hear(&a, &b).await;
}

#[tokio::test]
async fn removals_are_forgotten_when_they_are_old() {
    let [a, b, _] = Node::three().await;
    a.apply([hub("a")]).await;
    for channel in ["c", "d"] {
        a.put(channel, "{}").await;
        a.settings.remove_metadata("a", channel).await.unwrap();
    }
    let mut items = a.metadata().await;
    items[0].stamp.ms -= 31 * 24 * 3600 * 1000;
    b.settings.merge_metadata(&items).await.unwrap();
    assert_eq!(b.metadata().await.len(), 1);
    let age = "UPDATE channel_metadata SET stamp = stamp - 31 * 24 * 3600 * 1000 WHERE channel = 'c'";
    sqlx::query(age).execute(&a.pool).await.unwrap();
    a.put("e", "{}").await;
    a.settings.remove_metadata("a", "e").await.unwrap();
    let left: Vec<_> = a.metadata().await.into_iter().map(|item| item.name).collect();
    assert_eq!(left, ["d", "e"]);
}

#[tokio::test]
async fn what_an_earlier_run_has_kept_counts_when_somebody_knows_nothing_later() {
    let node = Managed::new().await;
    assert!(!node.settings.are_complete());
    node.push(1, Some("one")).await;
    assert!(node.settings.are_complete() && node.settings.is_told());
    let again = node.folder.open().await.unwrap();
    assert!(again.hub("a").is_some() && !again.are_complete() && !again.is_told(), "it may be out of date");
    // What another node passes on may be out of date as well, until that says that it was told.
    assert!(again.take_handed(&node.settings.handed_since(None).await).await && !again.are_complete());
    again.note_told();
    assert!(again.are_complete());
}
