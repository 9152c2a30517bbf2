//! The snapshot and its compiled form against simple models.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::{prelude::*, sample::select};

use super::{
    compile::Compiled,
    entry::{Entry, ResourceId, Source},
    hub::Rules,
    resource::{AuthProviderSpec, BindingSpec, ChannelRulesSpec, HubSpec, Resource},
    snapshot::Snapshot,
};

const HUBS: [&str; 2] = ["a", "b"];
const RULES: [&str; 3] = ["open", "shut", "missing"];
const CHANNELS: [&str; 6] = ["m:x", "m:y", "n:x", "n:x:m:x", "plain", "m"];

fn hub_spec() -> impl Strategy<Value = HubSpec> {
    let rules = prop::option::of(select(&RULES[..]));
    (any::<bool>(), any::<bool>(), rules).prop_map(|(default_public, allow_anonymous, rules)| HubSpec {
        default_public,
        allow_anonymous,
        default_rules: rules.map(str::to_string),
        ..HubSpec::default()
    })
}

fn rules_spec() -> impl Strategy<Value = ChannelRulesSpec> {
    (any::<Option<bool>>(), any::<bool>(), 0..4_u8).prop_map(|(public, presence, redundancy)| ChannelRulesSpec {
        public,
        presence,
        redundancy,
        ..ChannelRulesSpec::default()
    })
}

fn binding() -> impl Strategy<Value = BindingSpec> {
    select(&RULES[..]).prop_map(|rules| BindingSpec { rules: rules.to_string() })
}

fn resource() -> impl Strategy<Value = Resource> {
    let hub = || select(&HUBS[..]).prop_map(str::to_string);
    let name = |names: &'static [&'static str]| select(names).prop_map(str::to_string);
    prop_oneof![
        (hub(), hub_spec()).prop_map(|(name, spec)| Resource::Hub { name, spec }),
        // `missing` stays without rules.
        (hub(), name(&RULES[..2]), rules_spec()).prop_map(|(hub, name, spec)| Resource::ChannelRules {
            hub,
            name,
            spec
        }),
        (hub(), name(&["m", "n"]), binding()).prop_map(|(hub, name, spec)| Resource::Namespace { hub, name, spec }),
        (hub(), name(&CHANNELS), binding()).prop_map(|(hub, name, spec)| Resource::Channel { hub, name, spec }),
        hub().prop_map(|hub| Resource::AuthProvider { hub, spec: AuthProviderSpec::default() }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (select(&Source::ALL[..]), "[xy]", 1..3_u64, resource())
        .prop_map(|(source, uid, generation, resource)| Entry::new(source, uid, generation, resource))
}

/// As sources give them: no source names an identity twice.
fn entries() -> impl Strategy<Value = Vec<Arc<Entry>>> {
    prop::collection::vec(entry(), 0..24).prop_map(|entries| {
        let unique: BTreeMap<_, _> =
            entries.into_iter().map(|entry| ((entry.source, entry.id.clone()), Arc::new(entry))).collect();
        unique.into_values().collect()
    })
}

/// The entries that count, found the slow way.
fn model_of_entries(entries: &[Arc<Entry>]) -> BTreeMap<ResourceId, Arc<Entry>> {
    let first = |id: &ResourceId| entries.iter().filter(|entry| entry.id == *id).map(|entry| entry.source).min();
    let counts = |entry: &&Arc<Entry>| {
        let hub = first(&ResourceId::hub(entry.id.hub.clone()));
        let overruled = match hub {
            Some(Source::Operator) => entry.source != Source::Operator,
            Some(Source::File) => matches!(entry.source, Source::Api | Source::Dynamic),
            _ => false,
        };
        !overruled && first(&entry.id) == Some(entry.source)
    };
    entries.iter().filter(counts).map(|entry| (entry.id.clone(), entry.clone())).collect()
}

/// The rules in force for a channel, read off the resources: the channel's, else its namespace's, else the hub's.
fn model_of_rules(entries: &BTreeMap<ResourceId, Arc<Entry>>, hub: &str, channel: &str) -> Option<Rules> {
    let resources: Vec<_> =
        entries.values().filter(|entry| &*entry.id.hub == hub).map(|entry| &entry.resource).collect();
    let spec = resources.iter().find_map(|resource| match resource {
        Resource::Hub { spec, .. } => Some(spec),
        _ => None,
    })?;
    let of_channel = resources.iter().find_map(|resource| match resource {
        Resource::Channel { name, spec, .. } if name == channel => Some(&spec.rules),
        _ => None,
    });
    let of_namespace = resources.iter().find_map(|resource| match resource {
        Resource::Namespace { name, spec, .. } if channel.starts_with(&format!("{name}:")) => Some(&spec.rules),
        _ => None,
    });
    let Some(wanted) = of_channel.or(of_namespace).or(spec.default_rules.as_ref()) else {
        let unset = ChannelRulesSpec { allow_anonymous: spec.allow_anonymous, ..ChannelRulesSpec::default() };
        return Some(Rules::new(&unset, spec));
    };
    let found = resources.iter().find_map(|resource| match resource {
        Resource::ChannelRules { name, spec, .. } if name == wanted => Some(spec),
        _ => None,
    });
    Some(found.map_or(Rules::CLOSED, |rules| Rules::new(rules, spec)))
}

fn same(a: &Compiled, b: &Compiled) -> bool {
    a.revision == b.revision && a.hubs == b.hubs && a.problems == b.problems
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_order_of_entries_does_not_matter((entries, shuffled) in entries().prop_flat_map(|entries| {
        (Just(entries.clone()), Just(entries).prop_shuffle())
    })) {
        let (snapshot, other) = (Snapshot::from_sources(entries), Snapshot::from_sources(shuffled));
        prop_assert_eq!(&snapshot, &other);
        prop_assert!(same(&snapshot.compile(None), &other.compile(None)));
    }

    #[test]
    fn even_a_source_that_names_an_identity_twice_gives_one_outcome(
        (entries, shuffled) in prop::collection::vec(entry().prop_map(Arc::new), 0..24)
            .prop_flat_map(|entries| (Just(entries.clone()), Just(entries).prop_shuffle())),
    ) {
        prop_assert_eq!(Snapshot::from_sources(entries), Snapshot::from_sources(shuffled));
    }

    #[test]
    fn the_entries_that_count_are_those_of_the_model(entries in entries()) {
        let found = Snapshot::from_sources(entries.clone());
        let found: BTreeMap<_, _> = found.entries().map(|entry| (entry.id.clone(), entry.clone())).collect();
        prop_assert_eq!(found, model_of_entries(&entries));
    }

    #[test]
    fn a_hubs_entries_are_found_by_its_name(entries in entries()) {
        let snapshot = Snapshot::from_sources(entries);
        for hub in HUBS {
            let expected: Vec<_> = snapshot.entries().filter(|entry| &*entry.id.hub == hub).collect();
            prop_assert_eq!(snapshot.of_hub(hub).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn rules_are_resolved_as_in_the_model(entries in entries()) {
        let compiled = Snapshot::from_sources(entries.clone()).compile(None);
        let model = model_of_entries(&entries);
        for hub in HUBS {
            for channel in CHANNELS.iter().chain(&["n:other", "m:x:deeper", "", ":"]) {
                let found = compiled.hubs.get(hub).map(|hub| hub.rules(channel));
                prop_assert_eq!(found, model_of_rules(&model, hub, channel), "{} {}", hub, channel);
            }
        }
    }

    #[test]
    fn the_revision_changes_if_and_only_if_an_entry_that_counts_does(one in entries(), other in entries(), cut in 0..24_usize) {
        // Half of the second is taken from the first, so that equal ones come up as well.
        let other: Vec<_> = one.iter().take(cut).cloned().chain(other.into_iter().skip(cut)).collect();
        let (one, other) = (Snapshot::from_sources(one), Snapshot::from_sources(other));
        prop_assert_eq!(one.revision() == other.revision(), one == other);
    }

    #[test]
    fn the_previous_one_only_saves_work(before in entries(), after in entries(), keep in any::<bool>()) {
        // Either two unrelated snapshots, or one that differs in few entries.
        let after = if keep { [after.into_iter().take(1).collect(), before.clone()].concat() } else { after };
        let (before, after) = (Snapshot::from_sources(before), Snapshot::from_sources(after));
        let previous = before.compile(None);
        let compiled = after.compile(Some(&previous));
        prop_assert!(same(&compiled, &after.compile(None)));

        let contents = |snapshot: &Snapshot, hub: &str| {
            snapshot.of_hub(hub).map(|entry| entry.resource.clone()).collect::<Vec<_>>()
        };
        let mut changed = BTreeSet::new();
        for name in HUBS {
            match (previous.hubs.get(name), compiled.hubs.get(name)) {
                (Some(old), Some(new)) => {
                    let equal = contents(&before, name) == contents(&after, name);
                    prop_assert_eq!(Arc::ptr_eq(old, new), equal);
                    if !equal { changed.insert(name); }
                }
                (None, None) => {}
                _ => { changed.insert(name); }
            }
        }
        let told = compiled.changed(&previous);
        prop_assert_eq!(told.iter().map(|hub| &**hub).collect::<Vec<_>>(), changed.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn who_may_change_what(entries in entries(), one in entry()) {
        let snapshot = Snapshot::from_sources(entries);
        let source_of = |id: &ResourceId| snapshot.get(id).map(|entry| entry.source);
        let hub = source_of(&ResourceId::hub(one.id.hub.clone()));
        let held = source_of(&one.id);
        let refused = match one.source {
            Source::Operator => false,
            Source::File => hub == Some(Source::Operator) || held == Some(Source::Operator),
            Source::Api | Source::Dynamic => {
                let managed = [Some(Source::Operator), Some(Source::File)];
                managed.contains(&hub) || managed.contains(&held)
            }
        };
        prop_assert_eq!(snapshot.may_change(&one.id, one.source).is_err(), refused);
    }
}

fn snapshot(resources: Vec<Resource>) -> Snapshot {
    let entries = resources.into_iter().map(|resource| Arc::new(Entry::new(Source::File, "", 0, resource)));
    Snapshot::from_sources(entries)
}

fn hub(name: &str, spec: HubSpec) -> Resource {
    Resource::Hub { name: name.into(), spec }
}

#[test]
fn missing_rules_are_named_and_close_the_channels() {
    let open = HubSpec { default_public: true, allow_anonymous: true, ..HubSpec::default() };
    let namespace =
        Resource::Namespace { hub: "demo".into(), name: "orders".into(), spec: BindingSpec { rules: "gone".into() } };
    let compiled = snapshot(vec![hub("demo", open), namespace]).compile(None);
    let problems = &compiled.problems["demo"];
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].place, "Namespace demo/orders, spec.rules");
    assert!(problems[0].sentence.contains("no channel rules gone"), "{}", problems[0]);
    let demo = &compiled.hubs["demo"];
    assert_eq!(demo.rules("orders:1"), Rules::CLOSED);
    assert!(demo.rules("elsewhere").public);
}

#[test]
fn a_resource_without_its_hub_is_named_and_makes_none() {
    let rules = Resource::ChannelRules { hub: "demo".into(), name: "r".into(), spec: ChannelRulesSpec::default() };
    let compiled = snapshot(vec![rules]).compile(None);
    assert!(compiled.hubs.is_empty());
    assert_eq!(compiled.problems["demo"][0].place, "ChannelRules demo/r");
    assert!(compiled.changed(&Compiled::default()).is_empty());
}

#[test]
fn a_hub_that_a_file_manages_says_so() {
    let snapshot = snapshot(vec![hub("demo", HubSpec::default())]);
    let refused = snapshot.may_change(&ResourceId::hub("demo"), Source::Api).unwrap_err();
    assert_eq!(refused.to_string(), "Hub demo is managed by the file: change it there");
    assert_eq!(snapshot.may_change(&ResourceId::hub("other"), Source::Api), Ok(()));
}

#[test]
fn hubs_are_gone_that_a_manager_no_longer_has_or_has_anew() {
    let of = |source, uid: &str| Some(Arc::new(Entry::new(source, uid, 1, hub("demo", HubSpec::default()))));
    let (operator, file, api) = (Source::Operator, Source::File, Source::Api);
    for (before, now, gone) in [
        (of(file, ""), None, true),
        (of(operator, "1"), None, true),
        (of(operator, "1"), of(operator, "2"), true),
        (of(operator, "1"), of(operator, "1"), false),
        (of(file, ""), of(file, ""), false),
        // A hub that moves to another source stays the same.
        (of(api, "1"), of(operator, "2"), false),
        (of(operator, "1"), of(api, "2"), false),
        (of(file, ""), of(operator, "1"), false),
        // What the database says of its own hubs goes with them there.
        (of(api, "1"), None, false),
        (None, of(file, ""), false),
    ] {
        let what = format!("{before:?} {now:?}");
        let [before, now] = [before, now].map(Snapshot::from_sources);
        assert_eq!(now.hubs_gone(&before).map(|hub| &**hub).collect::<Vec<_>>(), vec!["demo"; gone.into()], "{what}");
    }
}
