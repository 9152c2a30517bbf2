//! Databases that tell each other what they hold.

use appsockets_core::settings::{
    entry::{ResourceId, ResourceKind, Source},
    resource::{HubSpec, Resource},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};

use super::{anonymous_hub, hub, names, namespace, rules};
use crate::settings::{
    Options, Settings,
    exchange::{Content, HubState, Item, Page, Stamp},
};

/// A node with a database of its own.
pub(super) struct Node {
    pub(super) settings: Settings,
    pub(super) pool: SqlitePool,
}

impl Node {
    async fn new(number: u64) -> Node {
        let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let pool = pool.connect("sqlite::memory:").await.unwrap();
        sqlx::migrate!().run(&pool).await.unwrap();
        let options = Options { node: number, dynamic: Some(HubSpec::default()), ..Options::default() };
        Node { settings: Settings::open(options, pool.clone()).await.unwrap(), pool }
    }

    pub(super) async fn three() -> [Node; 3] {
        [Node::new(1).await, Node::new(2).await, Node::new(3).await]
    }

    pub(super) async fn apply(&self, resources: impl IntoIterator<Item = Resource>) {
        for resource in resources {
            self.settings.apply(resource).await.unwrap();
        }
    }

    async fn remove(&self, id: &ResourceId) {
        self.settings.remove(id).await.unwrap();
    }

    /// All that it tells of settings.
    async fn items(&self) -> Vec<Item> {
        Node::all(async |after| self.settings.page(after).await.unwrap()).await
    }

    /// All that it tells of metadata.
    pub(super) async fn metadata(&self) -> Vec<Item> {
        Node::all(async |after| self.settings.metadata_page(after).await.unwrap()).await
    }

    async fn all(page: impl AsyncFn(i64) -> Page) -> Vec<Item> {
        let (mut items, mut reached, mut more) = (Vec::new(), 0, true);
        while more {
            let page = page(reached).await;
            assert!(page.items.windows(2).all(|two| two[0].changed < two[1].changed));
            items.extend(page.items);
            (reached, more) = (page.reached, page.more);
        }
        items
    }

    pub(super) async fn hear(&self, other: &Node) {
        assert_eq!(self.settings.merge(other.items().await).await.unwrap(), None);
        self.is_whole().await;
    }

    /// What is in force is what the database holds.
    async fn is_whole(&self) {
        let fresh = Settings::open(Options::default(), self.pool.clone()).await.unwrap();
        assert_eq!(fresh.current().revision, self.settings.current().revision);
    }

    /// Its clock is ahead, by a thousand seconds for each.
    pub(super) async fn hurry(&self, by: i64) {
        let query = sqlx::query("UPDATE settings_revision SET clock = ?");
        let now = crate::edge::clock::now().unix_ms.cast_signed();
        query.bind(now + by * 1_000_000).execute(&self.pool).await.unwrap();
    }

    async fn revision(&self) -> i64 {
        sqlx::query_scalar("SELECT revision FROM settings_revision").fetch_one(&self.pool).await.unwrap()
    }

    /// How many channels have metadata, as the database counts it.
    async fn held(&self) -> i64 {
        sqlx::query_scalar("SELECT held FROM channel_metadata_state").fetch_one(&self.pool).await.unwrap()
    }

    fn is_anonymous(&self, name: &str) -> bool {
        self.settings.hub(name).unwrap().allow_anonymous
    }
}

async fn both_hear(a: &Node, b: &Node) {
    a.hear(b).await;
    b.hear(a).await;
    assert_eq!(a.settings.current().revision, b.settings.current().revision);
}

fn rules_id(hub: &str) -> ResourceId {
    ResourceId::new(ResourceKind::ChannelRules, hub, "r")
}

#[tokio::test]
async fn what_one_node_has_the_others_get_as_it_is() {
    let [a, b, c] = Node::three().await;
    a.apply([anonymous_hub("a"), rules("a", "r"), namespace("a", "n", "r"), hub("b"), hub("a")]).await;
    a.settings.create_dynamic("d").await.unwrap();
    b.hear(&a).await;
    c.hear(&b).await;
    assert_eq!(c.settings.snapshot().await, a.settings.snapshot().await);
    assert_eq!(names(&c.settings), ["a", "b", "d"]);
    a.remove(&rules_id("a")).await;
    a.remove(&ResourceId::hub("b")).await;
    b.hear(&a).await;
    c.hear(&b).await;
    assert_eq!(c.settings.snapshot().await, a.settings.snapshot().await);
    assert_eq!(names(&c.settings), ["a", "d"]);
}

#[tokio::test]
async fn what_is_known_already_changes_nothing() {
    let [a, b, _] = Node::three().await;
    a.apply([hub("a"), rules("a", "r"), rules("a", "s")]).await;
    a.remove(&rules_id("a")).await;
    both_hear(&a, &b).await;
    let (at_a, at_b) = (a.revision().await, b.revision().await);
    both_hear(&a, &b).await;
    assert_eq!((a.revision().await, b.revision().await), (at_a, at_b));
    // Only what is new is told to one who has heard the rest.
    b.apply([anonymous_hub("a")]).await;
    let page = b.settings.page(at_b).await.unwrap();
    assert_eq!(page.items.iter().map(|item| &*item.kind).collect::<Vec<_>>(), ["Hub"]);
    assert!(!page.more && page.reached == b.revision().await);
}

#[tokio::test]
async fn the_later_write_wins_wherever_it_was_made() {
    for first in [0, 1] {
        let nodes = Node::three().await;
        let (a, b) = (&nodes[first], &nodes[1 - first]);
        a.apply([hub("a")]).await;
        b.hear(a).await;
        // At b it is written later by the clock on the wall, but not by theirs.
        a.hurry(1).await;
        a.apply([anonymous_hub("a")]).await;
        b.apply([anonymous_hub("a"), hub("a")]).await;
        both_hear(a, b).await;
        assert!(a.is_anonymous("a") && b.is_anonymous("a"));
        // Who has heard of a write is later, also with a clock that is behind.
        b.apply([hub("a")]).await;
        both_hear(a, b).await;
        assert!(!a.is_anonymous("a") && !b.is_anonymous("a"));
        let entry = a.settings.entry(&ResourceId::hub("a")).await.unwrap();
        assert_eq!(entry.generation, 3);
    }
}

#[tokio::test]
async fn a_removal_beats_an_earlier_write_and_loses_to_a_later_one() {
    let [a, b, _] = Node::three().await;
    a.apply([hub("a"), rules("a", "r")]).await;
    b.hear(&a).await;
    b.apply([Resource::ChannelRules { hub: "a".into(), name: "r".into(), spec: Default::default() }]).await;
    a.hurry(1).await;
    a.remove(&rules_id("a")).await;
    both_hear(&a, &b).await;
    assert!(a.settings.entry(&rules_id("a")).await.is_none());

    b.apply([rules("a", "r")]).await;
    both_hear(&a, &b).await;
    a.remove(&rules_id("a")).await;
    b.hurry(3).await;
    b.apply([Resource::ChannelRules { hub: "a".into(), name: "r".into(), spec: Default::default() }]).await;
    both_hear(&a, &b).await;
    assert!(a.settings.entry(&rules_id("a")).await.is_some());
}

#[tokio::test]
async fn a_removed_hub_takes_what_was_written_before_with_it() {
    let [a, b, c] = Node::three().await;
    a.apply([hub("a"), rules("a", "r")]).await;
    b.hear(&a).await;
    c.hear(&a).await;
    b.apply([namespace("a", "n", "r")]).await;
    a.hurry(1).await;
    a.remove(&ResourceId::hub("a")).await;
    // It is made anew before anybody hears that it was removed, and who hears both at once keeps nothing of the old one.
    a.apply([hub("a"), rules("a", "s")]).await;
    both_hear(&a, &b).await;
    c.hear(&b).await;
    for node in [&a, &b, &c] {
        let snapshot = node.settings.snapshot().await;
        let of_hub: Vec<_> = snapshot.of_hub("a").map(|entry| entry.id.to_string()).collect();
        assert_eq!(of_hub, ["Hub a", "ChannelRules a/s"]);
    }
}

#[tokio::test]
async fn what_is_written_to_a_hub_that_was_removed_elsewhere_is_not_inherited() {
    let [a, b, c] = Node::three().await;
    a.apply([hub("a")]).await;
    b.hear(&a).await;
    a.remove(&ResourceId::hub("a")).await;
    b.hurry(1).await;
    b.apply([rules("a", "r")]).await;
    both_hear(&a, &b).await;
    assert!(names(&a.settings).is_empty() && names(&b.settings).is_empty());
    c.hear(&a).await;
    // An administrator and a client find it free.
    a.apply([hub("a")]).await;
    b.settings.create_dynamic("a").await.unwrap();
    for node in [&a, &b] {
        node.is_whole().await;
        assert_eq!(node.settings.snapshot().await.of_hub("a").count(), 1);
    }
    both_hear(&a, &b).await;
    c.hear(&b).await;
    assert_eq!(c.settings.snapshot().await, a.settings.snapshot().await);
    assert_eq!(c.settings.snapshot().await.of_hub("a").count(), 1);
}

#[tokio::test]
async fn a_hub_made_for_a_client_gives_way_to_an_administrator() {
    let [a, b, _] = Node::three().await;
    a.apply([anonymous_hub("a")]).await;
    b.hurry(1).await;
    b.settings.create_dynamic("a").await.unwrap();
    both_hear(&a, &b).await;
    assert_eq!(b.settings.entry(&ResourceId::hub("a")).await.unwrap().source, Source::Api);
    assert!(b.is_anonymous("a"));
    // After a removal that both know, it is there again.
    a.remove(&ResourceId::hub("a")).await;
    both_hear(&a, &b).await;
    b.settings.create_dynamic("a").await.unwrap();
    a.settings.create_dynamic("a").await.unwrap();
    both_hear(&a, &b).await;
    assert_eq!(names(&a.settings), ["a"]);
}

#[tokio::test]
async fn what_can_not_be_used_leaves_its_hub_as_it_was() {
    let [a, b, _] = Node::three().await;
    a.apply([hub("a"), rules("a", "r"), hub("b")]).await;
    b.hear(&a).await;
    let before = b.settings.current();
    a.apply([anonymous_hub("a"), rules("a", "s"), anonymous_hub("b")]).await;
    let spoils: [fn(&mut Item); 8] = [
        |item| item.kind = "New".into(),
        |item| item.stamp.ms = -1,
        |item| item.stamp.ms = i64::MAX,
        |item| item.content.as_mut().unwrap().source = "file".into(),
        |item| item.content.as_mut().unwrap().uid = String::new(),
        |item| item.content.as_mut().unwrap().generation = 0,
        |item| item.content.as_mut().unwrap().resource = "{}".into(),
        |item| item.name = "another".into(),
    ];
    for (count, spoil) in spoils.into_iter().enumerate() {
        let mut items = a.items().await;
        let first = items.iter().filter(|item| item.hub == "a").map(|item| item.changed).min();
        items.iter_mut().filter(|item| item.name == "s").for_each(spoil);
        assert_eq!(b.settings.merge(items).await.unwrap(), first);
        assert_eq!(b.settings.refused(), count as u64 + 1);
        assert_eq!(b.settings.hub("a"), before.hubs.get("a").cloned());
        assert!(b.is_anonymous("b"));
        b.is_whole().await;
    }
    both_hear(&a, &b).await;
    assert!(b.is_anonymous("a"));
}

#[tokio::test]
async fn a_merge_beside_another_process_brings_both() {
    let [a, b, _] = Node::three().await;
    a.apply([hub("a")]).await;
    let other = Settings::open(Options::default(), b.pool.clone()).await.unwrap();
    other.apply(hub("b")).await.unwrap();
    b.hear(&a).await;
    assert_eq!(names(&b.settings), ["a", "b"]);
}

#[tokio::test]
async fn many_come_in_pages_and_in_one_merge() {
    let [a, b, _] = Node::three().await;
    for number in 0..700 {
        let name = format!("hub {number}");
        sqlx::query(
            "INSERT INTO settings (hub, kind, name, source, uid, generation, resource)
             VALUES (?, 'Hub', ?, 'api', 'u', 1, ?), (?, 'ChannelRules', 'r', 'api', 'v', 1, ?)",
        )
        .bind(&name)
        .bind(&name)
        .bind(serde_json::to_string(&hub(&name)).unwrap())
        .bind(&name)
        .bind(serde_json::to_string(&rules(&name, "r")).unwrap())
        .execute(&a.pool)
        .await
        .unwrap();
    }
    assert!(a.settings.page(0).await.unwrap().more);
    b.hear(&a).await;
    assert_eq!(b.settings.current().hubs.len(), 700);
    assert_eq!(b.settings.snapshot().await.entries().count(), 1_400);
}

#[tokio::test]
async fn removals_are_forgotten_when_they_are_old() {
    let [a, b, _] = Node::three().await;
    a.apply([hub("a"), hub("b")]).await;
    a.remove(&ResourceId::hub("a")).await;
    let old = |item: &mut Item| item.stamp.ms -= 31 * 24 * 3600 * 1000;
    let mut items = a.items().await;
    items.iter_mut().filter(|item| item.content.is_none()).for_each(old);
    assert_eq!(items.len(), 2);
    b.settings.merge(items).await.unwrap();
    assert_eq!(b.items().await.len(), 1);
    let age = "UPDATE settings_removed SET stamp = stamp - 31 * 24 * 3600 * 1000";
    sqlx::query(age).execute(&a.pool).await.unwrap();
    a.remove(&ResourceId::hub("b")).await;
    let left: Vec<_> = a.items().await.into_iter().map(|item| item.hub).collect();
    assert_eq!(left, ["b"]);
}

#[tokio::test]
async fn rows_from_before_the_exchange_are_told_too() {
    let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let pool = pool.connect("sqlite::memory:").await.unwrap();
    let mut migrator = sqlx::migrate!();
    migrator.migrations.to_mut().retain(|migration| migration.version < 3);
    migrator.run(&pool).await.unwrap();
    for name in ["a", "b"] {
        let insert = "INSERT INTO settings (hub, kind, name, source, uid, generation, resource)
             VALUES (?, 'Hub', ?, 'api', 'u', 1, ?)";
        let json = serde_json::to_string(&anonymous_hub(name)).unwrap();
        sqlx::query(insert).bind(name).bind(name).bind(json).execute(&pool).await.unwrap();
    }
    sqlx::migrate!().run(&pool).await.unwrap();
    let a = Node { settings: Settings::open(Options::default(), pool.clone()).await.unwrap(), pool };
    let b = Node::new(2).await;
    b.settings.create_dynamic("a").await.unwrap();
    b.apply([hub("b")]).await;
    both_hear(&a, &b).await;
    assert!(a.is_anonymous("a") && !a.is_anonymous("b"));
}

/// What may be said of one hub, in stamps so few that they meet.
fn any_item() -> impl Strategy<Value = Item> {
    let content = (any::<bool>(), 1..3_u8).prop_map(|(api, number)| Content {
        source: if api { "api" } else { "dynamic" }.into(),
        uid: format!("uid {number}"),
        generation: 1,
        resource: String::new(),
    });
    let name = prop_oneof![Just(("Hub", "h")), Just(("ChannelRules", "r")), Just(("ChannelRules", "s"))];
    (name, 0..6_i64, 0..3_i64, prop::option::of(content)).prop_map(|((kind, name), ms, node, content)| Item {
        hub: "h".into(),
        kind: kind.into(),
        name: name.into(),
        stamp: Stamp { ms, node },
        changed: 0,
        content,
    })
}

/// What happens at one of three nodes.
#[derive(Clone, Debug)]
enum Step {
    Apply(Box<Resource>),
    Remove(ResourceId),
    Dynamic(&'static str),
    Put(&'static str, &'static str, u8),
    Clear(&'static str, &'static str),
    Hurry(i64),
    Hear(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let name = || prop_oneof![Just("a"), Just("b")];
    let channel = || prop_oneof![Just("c"), Just("d")];
    prop_oneof![
        2 => name().prop_map(|name| Step::Apply(hub(name).into())),
        2 => name().prop_map(|name| Step::Apply(anonymous_hub(name).into())),
        3 => name().prop_map(|name| Step::Apply(rules(name, "r").into())),
        2 => name().prop_map(|name| Step::Apply(namespace(name, "n", "r").into())),
        2 => name().prop_map(|name| Step::Remove(ResourceId::hub(name))),
        2 => name().prop_map(|name| Step::Remove(rules_id(name))),
        1 => name().prop_map(Step::Dynamic),
        3 => (name(), channel(), 0..3_u8).prop_map(|(hub, channel, value)| Step::Put(hub, channel, value)),
        2 => (name(), channel()).prop_map(|(hub, channel)| Step::Clear(hub, channel)),
        1 => (0..3_i64).prop_map(Step::Hurry),
        4 => (0..3_usize).prop_map(Step::Hear),
    ]
}

async fn converge(steps: Vec<(usize, Step)>, rounds: Vec<Index>) {
    let nodes = Node::three().await;
    // How far each has read each of the others, as a node remembers it.
    let mut reached = [[(0, 0); 3]; 3];
    let mut hear = async |to: usize, from: usize| {
        let (settings, metadata) = reached[to][from];
        let page = nodes[from].settings.page(settings).await.unwrap();
        assert_eq!(nodes[to].settings.merge(page.items).await.unwrap(), None);
        let more = nodes[from].settings.metadata_page(metadata).await.unwrap();
        assert_eq!(nodes[to].settings.merge_metadata(&more.items).await.unwrap(), None);
        reached[to][from] = (page.reached, more.reached);
        nodes[to].is_whole().await;
    };
    for (at, step) in steps {
        let settings = &nodes[at].settings;
        // Whatever is refused has done nothing.
        match step {
            Step::Apply(resource) => drop(settings.apply(*resource).await),
            Step::Remove(id) => drop(settings.remove(&id).await),
            Step::Dynamic(name) => drop(settings.create_dynamic(name).await.unwrap()),
            Step::Put(hub, channel, value) => {
                drop(settings.put_metadata(hub, channel, format!("{{\"a\":{value}}}").as_bytes()).await);
            }
            Step::Clear(hub, channel) => drop(settings.remove_metadata(hub, channel).await),
            Step::Hurry(by) => nodes[at].hurry(by).await,
            Step::Hear(from) => hear(at, from).await,
        }
    }
    // Everybody hears everybody, in some order, until all was heard of all: twice, by way of each other.
    let mut pairs: Vec<_> = (0..3).flat_map(|to| (0..3).map(move |from| (to, from))).collect();
    for (place, index) in rounds.iter().enumerate() {
        let place = place % pairs.len();
        let other = index.index(pairs.len());
        pairs.swap(place, other);
    }
    for (to, from) in pairs.iter().chain(&pairs) {
        hear(*to, *from).await;
    }
    let mut held = Vec::new();
    for node in &nodes {
        let metadata = node.metadata().await;
        let count = metadata.iter().filter(|item| item.content.is_some()).count();
        assert_eq!(node.held().await, count as i64);
        let mut items = [node.items().await, metadata].concat();
        items.iter_mut().for_each(|item| item.changed = 0);
        items.sort_by(|a, b| (&a.hub, &a.kind, &a.name, a.stamp).cmp(&(&b.hub, &b.kind, &b.name, b.stamp)));
        held.push((items, node.settings.current().revision, node.settings.metadata_digest()));
    }
    assert_eq!(held[0], held[1]);
    assert_eq!(held[0], held[2]);
}

proptest! {
    #[test]
    fn the_order_does_not_matter(items in vec(any_item(), 0..8), orders in vec(any::<Index>(), 8)) {
        let take = |items: &[Item]| {
            let mut state = HubState::default();
            items.iter().cloned().for_each(|item| state.take(item));
            state
        };
        let mut shuffled = items.clone();
        for (place, other) in orders.iter().enumerate().take(items.len()) {
            shuffled.swap(place, other.index(items.len()));
        }
        let state = take(&items);
        prop_assert_eq!(&take(&shuffled), &state);
        // Nor does hearing everything again.
        shuffled.extend(items);
        prop_assert_eq!(&take(&shuffled), &state);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn three_databases_end_equal(
        steps in vec((0..3_usize, any_step()), 0..30),
        rounds in vec(any::<Index>(), 9),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(converge(steps, rounds));
    }
}
