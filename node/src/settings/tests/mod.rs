//! Settings over a real SQLite database and a real file.

mod exchange;
mod metadata;

use std::{fs, path::Path, sync::Arc, time::Duration};

use appsockets_core::{
    code::ErrorCode,
    settings::{
        compile::Compiled,
        entry::{ResourceId, ResourceKind, Source},
        hub::Rules,
        resource::{BindingSpec, ChannelRulesSpec, HubSpec, Resource},
    },
};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{OpenError, Options, Refusal, Settings, file::Watched};

/// A folder with a database, and nodes that use it, one after the other or together.
struct Folder {
    folder: TempDir,
    options: Options,
    watching: JoinSet<()>,
}

impl Folder {
    fn new() -> Folder {
        let often = Duration::from_millis(5);
        Folder {
            folder: TempDir::new().unwrap(),
            options: Options { file_interval: often, database_interval: often, ..Options::default() },
            watching: JoinSet::new(),
        }
    }

    fn with_file(text: &str) -> Folder {
        let mut folder = Folder::new();
        let path = folder.folder.path().join("hubs.yaml");
        fs::write(&path, text).unwrap();
        folder.options.file = Some(path);
        folder
    }

    fn rewrite(&self, text: &str) {
        fs::write(self.options.file.as_ref().unwrap(), text).unwrap();
    }

    async fn pool(&self) -> SqlitePool {
        pool(self.folder.path()).await
    }

    async fn open(&self) -> Result<Settings, OpenError> {
        Settings::open(self.options.clone(), self.pool().await).await
    }

    async fn watched(&mut self) -> Arc<Settings> {
        let settings = Arc::new(self.open().await.unwrap());
        self.watching.spawn({
            let settings = settings.clone();
            async move { settings.watch().await }
        });
        settings
    }
}

/// One connection, so that whatever needs two of them at a time is found out.
async fn pool(folder: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(folder.join("node.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(20));
    let pool = pool.connect_with(options).await.unwrap();
    sqlx::migrate!().run(&pool).await.unwrap();
    pool
}

async fn wait_until(
    changes: &mut watch::Receiver<Arc<Compiled>>,
    holds: impl FnMut(&Arc<Compiled>) -> bool,
) -> Arc<Compiled> {
    timeout(Duration::from_secs(20), changes.wait_for(holds)).await.expect("the change never came").unwrap().clone()
}

fn hub(name: &str) -> Resource {
    Resource::Hub { name: name.into(), spec: HubSpec::default() }
}

fn anonymous_hub(name: &str) -> Resource {
    Resource::Hub { name: name.into(), spec: HubSpec { allow_anonymous: true, ..HubSpec::default() } }
}

fn rules(hub: &str, name: &str) -> Resource {
    let spec = ChannelRulesSpec { presence: true, public: Some(true), ..ChannelRulesSpec::default() };
    Resource::ChannelRules { hub: hub.into(), name: name.into(), spec }
}

fn namespace(hub: &str, name: &str, rules: &str) -> Resource {
    Resource::Namespace { hub: hub.into(), name: name.into(), spec: BindingSpec { rules: rules.into() } }
}

fn names(settings: &Settings) -> Vec<String> {
    let mut names: Vec<_> = settings.current().hubs.keys().map(|hub| hub.to_string()).collect();
    names.sort_unstable();
    names
}

const FILE: &str = "kind: Hub\nname: shop\nspec: {allowAnonymous: true}\n";

#[tokio::test]
async fn a_restart_keeps_settings() {
    let mut folder = Folder::new();
    folder.options.dynamic = Some(HubSpec::default());
    let settings = folder.open().await.unwrap();
    for resource in [anonymous_hub("a"), rules("a", "r"), namespace("a", "n", "r")] {
        settings.apply(resource).await.unwrap();
    }
    settings.create_dynamic("b").await.unwrap();
    let before = settings.current();
    drop(settings);

    let after = folder.open().await.unwrap().current();
    assert_eq!(after.revision, before.revision);
    assert_eq!(after.hubs, before.hubs);
    assert!(after.hubs["a"].allow_anonymous && after.hubs["a"].rules("n:x").presence);
}

#[tokio::test]
async fn a_change_is_told_and_leaves_other_hubs_alone() {
    let folder = Folder::new();
    let settings = folder.open().await.unwrap();
    settings.apply(hub("a")).await.unwrap();
    settings.apply(hub("b")).await.unwrap();
    let mut changes = settings.subscribe();
    let before = settings.current();

    settings.apply(anonymous_hub("a")).await.unwrap();
    let after = wait_until(&mut changes, |now| now.hubs["a"].allow_anonymous).await;
    assert!(Arc::ptr_eq(&after, &settings.current()));
    assert_eq!(after.changed(&before), ["a".into()]);
    assert!(Arc::ptr_eq(&after.hubs["b"], &before.hubs["b"]));
    assert!(settings.hub("a").unwrap().allow_anonymous);
}

#[tokio::test]
async fn the_same_again_changes_nothing() {
    let folder = Folder::new();
    let settings = folder.open().await.unwrap();
    let first = settings.apply(hub("a")).await.unwrap();
    let mut changes = settings.subscribe();
    let again = settings.apply(hub("a")).await.unwrap();
    assert_eq!(again, first);
    assert!(!changes.has_changed().unwrap());

    let changed = settings.apply(anonymous_hub("a")).await.unwrap();
    assert_eq!((changed.generation, &changed.uid), (first.generation + 1, &first.uid));
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();

    settings.remove(&ResourceId::hub("a")).await.unwrap();
    let other = settings.apply(hub("a")).await.unwrap();
    assert_eq!(other.generation, 1);
    assert_ne!(other.uid, first.uid);
}

#[tokio::test]
async fn a_removed_hub_takes_everything_with_it() {
    let folder = Folder::new();
    let settings = folder.open().await.unwrap();
    for resource in [hub("a"), rules("a", "r"), namespace("a", "n", "r"), hub("b"), rules("b", "r")] {
        settings.apply(resource).await.unwrap();
    }
    let before = settings.current();
    settings.remove(&ResourceId::hub("a")).await.unwrap();
    assert_eq!(names(&settings), ["b"]);
    assert_eq!(settings.current().changed(&before), ["a".into()]);
    assert!(settings.hub("a").is_none());

    settings.apply(hub("a")).await.unwrap();
    assert!(settings.hub("a").unwrap().by_namespace.is_empty());
    assert_eq!(settings.snapshot().await.of_hub("b").count(), 2);
}

#[tokio::test]
async fn one_resource_is_removed_alone() {
    let folder = Folder::new();
    let settings = folder.open().await.unwrap();
    for resource in [hub("a"), rules("a", "r"), namespace("a", "n", "r"), namespace("a", "m", "r")] {
        settings.apply(resource).await.unwrap();
    }
    settings.remove(&ResourceId::new(ResourceKind::Namespace, "a", "n")).await.unwrap();
    let left: Vec<_> = settings.hub("a").unwrap().by_namespace.keys().cloned().collect();
    assert_eq!(left, ["m".into()]);

    // Rules that are still named go as well, and leave their channels closed.
    settings.remove(&ResourceId::new(ResourceKind::ChannelRules, "a", "r")).await.unwrap();
    assert_eq!(settings.hub("a").unwrap().rules("m:x"), Rules::CLOSED);
    assert_eq!(settings.current().problems["a"].len(), 1);
}

#[tokio::test]
async fn what_is_refused() {
    let mut folder = Folder::new();
    folder.options.resources_max = 2;
    let settings = folder.open().await.unwrap();
    let code = |refused: Refusal| refused.code();

    let refused = settings.apply(hub("")).await.unwrap_err();
    assert!(matches!(&refused, Refusal::Invalid(problems) if problems[0].place == "name"), "{refused}");
    assert_eq!(code(refused), ErrorCode::ResourceInvalid);
    assert_eq!(code(settings.apply(rules("a", "r")).await.unwrap_err()), ErrorCode::HubNotFound);
    assert_eq!(code(settings.remove(&ResourceId::hub("a")).await.unwrap_err()), ErrorCode::HubNotFound);
    settings.apply(hub("a")).await.unwrap();
    let missing = ResourceId::new(ResourceKind::Channel, "a", "x");
    assert_eq!(code(settings.remove(&missing).await.unwrap_err()), ErrorCode::NotFound);

    settings.apply(rules("a", "r")).await.unwrap();
    let refused = settings.apply(namespace("a", "n", "r")).await.unwrap_err();
    assert!(matches!(refused, Refusal::TooManyResources(2)), "{refused}");
    settings.apply(anonymous_hub("a")).await.unwrap();
}

#[tokio::test]
async fn what_a_file_manages_refuses_the_api() {
    let mut folder = Folder::with_file(FILE);
    let settings = folder.open().await.unwrap();
    for resource in [hub("shop"), rules("shop", "r")] {
        let refused = settings.apply(resource).await.unwrap_err();
        assert!(matches!(&refused, Refusal::Managed(by) if by.by == Source::File), "{refused}");
        assert_eq!(refused.code(), ErrorCode::ManagedElsewhere);
    }
    let refused = settings.remove(&ResourceId::hub("shop")).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::ManagedElsewhere);
    settings.apply(hub("other")).await.unwrap();

    // Without the file the hub is nobody's; with it again, the file wins over what was written meanwhile.
    let file = folder.options.file.take();
    let settings = folder.open().await.unwrap();
    assert_eq!(names(&settings), ["other"]);
    for resource in [hub("shop"), rules("shop", "r"), namespace("shop", "n", "r")] {
        settings.apply(resource).await.unwrap();
    }
    folder.options.file = file;
    let settings = folder.open().await.unwrap();
    assert_eq!(names(&settings), ["other", "shop"]);
    let shop = settings.hub("shop").unwrap();
    assert!(shop.allow_anonymous && shop.by_namespace.is_empty());
}

#[tokio::test]
async fn a_changed_file_is_found_by_the_timer() {
    let mut folder = Folder::with_file(FILE);
    let settings = folder.watched().await;
    let mut changes = settings.subscribe();
    folder.rewrite(&format!("{FILE}---\nkind: Hub\nname: second\n"));
    wait_until(&mut changes, |now| now.hubs.len() == 2).await;
    folder.rewrite("kind: Hub\nname: second\n");
    wait_until(&mut changes, |now| now.hubs.len() == 1).await;
    assert_eq!(names(&settings), ["second"]);
}

#[tokio::test]
async fn a_broken_file_leaves_the_last_good_one_in_force() {
    let folder = Folder::with_file(FILE);
    let settings = folder.open().await.unwrap();
    let before = settings.current();
    let mut watched = Watched::new(folder.options.file.clone().unwrap());
    for broken in ["kind: Hub\nname: new\n---\nkind: Hub\nname: shop\nspec: {allowAnonymus: true}\n", "kind: ["] {
        folder.rewrite(broken);
        // The second look finds it the same, and so takes it.
        settings.check_file(&mut watched).await;
        settings.check_file(&mut watched).await;
        assert!(Arc::ptr_eq(&settings.current(), &before), "{broken}");
    }
    // It stays in force too when something else changes.
    settings.apply(hub("other")).await.unwrap();
    assert_eq!(names(&settings), ["other", "shop"]);

    folder.rewrite("kind: Hub\nname: third\n");
    settings.check_file(&mut watched).await;
    settings.check_file(&mut watched).await;
    assert_eq!(names(&settings), ["other", "third"]);
}

#[tokio::test]
async fn a_node_does_not_begin_with_a_broken_file() {
    let folder = Folder::with_file("kind: Hub\nname: a\n---\nkind: Hub\nname: ''\n");
    let Err(OpenError::File(problems)) = folder.open().await else { panic!("it began") };
    assert_eq!(problems.len(), 1);
    assert!(problems[0].place.ends_with("hubs.yaml, document 2, line 4, name"), "{}", problems[0]);

    fs::remove_file(folder.options.file.as_ref().unwrap()).unwrap();
    let Err(OpenError::File(problems)) = folder.open().await else { panic!("it began") };
    assert!(problems[0].sentence.starts_with("The file can't be read"), "{}", problems[0]);
}

#[tokio::test]
async fn hubs_are_made_for_clients_only_where_that_is_switched_on() {
    let mut folder = Folder::new();
    let settings = folder.open().await.unwrap();
    assert_eq!(settings.create_dynamic("a").await.unwrap_err().code(), ErrorCode::HubNotFound);
    settings.apply(hub("b")).await.unwrap();
    assert_eq!(&*settings.create_dynamic("b").await.unwrap().id, "b");

    folder.options.dynamic = Some(HubSpec { allow_anonymous: true, ..HubSpec::default() });
    let settings = folder.open().await.unwrap();
    assert!(settings.create_dynamic("a").await.unwrap().allow_anonymous);
    assert!(!settings.create_dynamic("b").await.unwrap().allow_anonymous);
    for name in ["", "a\nb", &"x".repeat(256)] {
        assert_eq!(settings.create_dynamic(name).await.unwrap_err().code(), ErrorCode::HubNotFound);
    }
    assert_eq!(names(&settings), ["a", "b"]);

    // An administrator may take it over.
    let entry = settings.apply(hub("a")).await.unwrap();
    assert_eq!((entry.source, entry.generation), (Source::Api, 2));
    assert!(!settings.hub("a").unwrap().allow_anonymous);
}

/// The subject at which the hub's auth provider is asked.
fn asked_at(settings: &Settings, hub: &str) -> Option<String> {
    let auth = settings.hub(hub).unwrap().auth.clone()?;
    Some(auth.nats.as_ref().unwrap().subject.clone())
}

#[tokio::test]
async fn hubs_made_for_clients_may_have_an_auth_provider_each() {
    let mut folder = Folder::new();
    folder.options.dynamic = Some(HubSpec::default());
    folder.options.dynamic_hubs_max = 3;
    let settings = folder.open().await.unwrap();
    settings.create_dynamic("before").await.unwrap();
    folder.options.dynamic_auth_subject = Some("auth.{hub}.who".to_owned());
    let settings = folder.open().await.unwrap();
    let hub = settings.create_dynamic("shop").await.unwrap();
    assert_eq!(hub.auth, settings.hub("shop").unwrap().auth, "whoever asked has it, too");
    settings.create_dynamic("a.b > ä").await.unwrap();
    // Each counts once.
    assert!(matches!(settings.create_dynamic("one-more").await, Err(Refusal::TooManyDynamicHubs(3))));
    for settings in [&settings, &folder.open().await.unwrap()] {
        assert_eq!(asked_at(settings, "shop").as_deref(), Some("auth.shop.who"));
        assert_eq!(asked_at(settings, "a.b > ä").as_deref(), Some("auth.a%2Eb%20%3E%20%C3%A4.who"));
        assert_eq!(asked_at(settings, "before"), None);
    }
    settings.remove(&ResourceId::hub("shop")).await.unwrap();
    assert!(settings.current().problems.is_empty(), "nothing stays behind");
}

#[tokio::test]
async fn only_so_many_hubs_are_made_for_clients() {
    let mut folder = Folder::new();
    folder.options.dynamic = Some(HubSpec::default());
    folder.options.dynamic_hubs_max = 3;
    let settings = Arc::new(folder.open().await.unwrap());
    settings.apply(hub("by-hand")).await.unwrap();
    let mut calls = JoinSet::new();
    for n in 0..20 {
        let settings = settings.clone();
        calls.spawn(async move { settings.create_dynamic(&format!("hub-{}", n % 10)).await.is_ok() });
    }
    let made = calls.join_all().await.into_iter().filter(|made| *made).count();
    assert_eq!(settings.current().hubs.len(), 4);
    // Each of the three was asked for twice.
    assert_eq!(made, 6);
    assert!(matches!(settings.create_dynamic("one-more").await, Err(Refusal::TooManyDynamicHubs(3))));

    let settings = folder.open().await.unwrap();
    assert!(matches!(settings.create_dynamic("one-more").await, Err(Refusal::TooManyDynamicHubs(3))));
    let made = names(&settings).into_iter().find(|name| name != "by-hand").unwrap();
    settings.remove(&ResourceId::hub(made)).await.unwrap();
    settings.create_dynamic("one-more").await.unwrap();
}

#[tokio::test]
async fn bad_settings_for_such_hubs_are_told_at_the_start() {
    let mut folder = Folder::new();
    folder.options.dynamic = Some(HubSpec { allowed_origins: vec!["x".into()], ..HubSpec::default() });
    assert!(matches!(folder.open().await, Err(OpenError::Dynamic(_))));
}

#[tokio::test]
async fn a_change_by_another_process_is_found_by_the_timer() {
    let mut folder = Folder::new();
    let settings = folder.watched().await;
    let mut changes = settings.subscribe();
    let other = folder.open().await.unwrap();
    for resource in [hub("a"), rules("a", "r"), namespace("a", "n", "r")] {
        other.apply(resource).await.unwrap();
    }
    wait_until(&mut changes, |now| now.hubs.get("a").is_some_and(|a| a.rules("n:x").presence)).await;
    assert_eq!(settings.current().revision, other.current().revision);

    sqlx::query("DELETE FROM settings WHERE hub = 'a'").execute(&folder.pool().await).await.unwrap();
    wait_until(&mut changes, |now| now.hubs.is_empty()).await;
}

#[tokio::test]
async fn a_write_after_another_process_wrote_brings_both() {
    let folder = Folder::new();
    let (one, other) = (folder.open().await.unwrap(), folder.open().await.unwrap());
    one.apply(hub("a")).await.unwrap();
    other.apply(hub("b")).await.unwrap();
    assert_eq!(names(&other), ["a", "b"]);
    one.apply(rules("b", "r")).await.unwrap();
    assert_eq!(names(&one), ["a", "b"]);
}

#[tokio::test]
async fn a_hub_with_a_row_that_cannot_be_used_stays_as_it_was() {
    let mut folder = Folder::new();
    let settings = folder.watched().await;
    for resource in [anonymous_hub("a"), rules("a", "r"), namespace("a", "n", "r"), hub("b")] {
        settings.apply(resource).await.unwrap();
    }
    let mut changes = settings.subscribe();
    let before = settings.current();
    let rows = folder.pool().await;
    let spoil = "UPDATE settings SET resource = '{\"kind\":\"New\"}' WHERE hub = 'a' AND kind = 'ChannelRules'";
    sqlx::query(spoil).execute(&rows).await.unwrap();
    sqlx::query("DELETE FROM settings WHERE hub = 'b'").execute(&rows).await.unwrap();
    let now = wait_until(&mut changes, |now| !now.hubs.contains_key("b")).await;
    assert!(Arc::ptr_eq(&now.hubs["a"], &before.hubs["a"]));

    // A node that never knew it leaves the hub out, and makes no other in its place.
    folder.options.dynamic = Some(HubSpec::default());
    let fresh = folder.open().await.unwrap();
    assert!(names(&fresh).is_empty());
    assert_eq!(fresh.create_dynamic("a").await.unwrap_err().code(), ErrorCode::HubNotFound);

    // Written again, it heals, and the whole of the hub comes back.
    fresh.apply(rules("a", "r")).await.unwrap();
    assert_eq!(fresh.current().hubs["a"], before.hubs["a"]);
}
