//! What the operator hands over to a node: the whole of what custom resources say, or what has changed of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::entry::{Entry, ResourceId, ResourceKind, Revision};
use crate::channel::HubId;

/// Which push it was. Of two, the greater is the later one, also where an operator that was followed by another does not
/// know it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct PushStamp {
    /// How often the lease among operators has changed hands.
    pub term: u64,
    /// Rises with each push of a term.
    pub sequence: u64,
}

/// What ought to be there from now on.
#[derive(Clone, Debug)]
pub struct Push {
    pub stamp: PushStamp,
    /// What `set` and `removed` change; None: `set` is all.
    pub base: Option<Revision>,
    pub set: Vec<Arc<Entry>>,
    pub removed: Vec<ResourceId>,
    /// Resources, by uid, that stay as they are held: they are there, but nobody can say what they ought to be.
    pub kept: BTreeSet<Arc<str>>,
    /// Hubs of which something can't be used here. They stay as they are: what lacks may be what protects them.
    pub withheld: BTreeSet<HubId>,
    /// Hubs that may go at once, beside those that may always: somebody has said so.
    pub removals_max: usize,
}

/// Hubs that may always go at once. More wait, if they are also more than a fifth of all: what was meant may have been
/// to delete one, and what happened that a definition was deleted.
pub const REMOVALS: usize = 10;

/// What follows from a push.
#[derive(Clone, Debug)]
pub struct Taken {
    pub handed: Handed,
    /// Hubs that stay although they are no longer there, because they are too many.
    pub removals_held: usize,
    /// Hubs of which something was not taken: an older resource of the same identity stays, which nobody can read.
    pub contested: BTreeSet<HubId>,
}

/// Why a push is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushRefused {
    #[error("a later push was taken already: of term {} and sequence {}", .0.term, .0.sequence)]
    Late(PushStamp),
    #[error("the push changes another state than the one held, which is {0}: send the whole")]
    AnotherBase(Revision),
}

/// What a node holds of it.
#[derive(Clone, Debug, Default)]
pub struct Handed {
    stamp: Option<PushStamp>,
    entries: BTreeMap<ResourceId, Arc<Entry>>,
}

impl Handed {
    pub fn new(stamp: PushStamp, entries: impl IntoIterator<Item = Arc<Entry>>) -> Handed {
        let entries = entries.into_iter().map(|entry| (entry.id.clone(), entry)).collect();
        Handed { stamp: Some(stamp), entries }
    }

    /// Of the last push that was taken; None: there was none.
    pub fn stamp(&self) -> Option<PushStamp> {
        self.stamp
    }

    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    pub fn revision(&self) -> Revision {
        Revision::of(self.entries.values().map(|entry| &**entry))
    }

    /// What is held after a push.
    ///
    /// # Errors
    /// A later one was taken, or it changes something else than what is held.
    pub fn after(&self, push: Push) -> Result<Taken, PushRefused> {
        let Push { stamp, base, set, removed, kept, withheld, removals_max } = push;
        match self.stamp {
            Some(held) if held >= stamp => return Err(PushRefused::Late(held)),
            _ => {}
        }
        let held = self.revision();
        if base.is_some_and(|base| base != held) {
            return Err(PushRefused::AnotherBase(held));
        }
        let is_held = |entry: &Entry| withheld.contains(&entry.id.hub) || kept.contains(&entry.uid);
        let removed: BTreeSet<_> = removed.into_iter().collect();
        let mut entries = self.entries.clone();
        entries.retain(|id, entry| is_held(entry) || (base.is_some() && !removed.contains(id)));
        // Of a hub that nobody can read, nothing more can be its owner's: who refers to it waits. What comes is of a younger
        // hub of the same name, also where that itself is not in this push.
        let is_kept = |id: &ResourceId| self.entries.get(id).is_some_and(|held| kept.contains(&held.uid));
        let mut contested = BTreeSet::new();
        for entry in set {
            // Of two resources with one identity the older wins, and the one that is held was there first.
            let others = is_kept(&entry.id) || is_kept(&ResourceId::hub(entry.id.hub.clone()));
            if !others && !withheld.contains(&entry.id.hub) {
                entries.insert(entry.id.clone(), entry);
            } else if others && entries.get(&entry.id).is_none_or(|held| held.uid != entry.uid) {
                contested.insert(entry.id.hub.clone());
            }
        }
        let hubs = || self.entries.keys().filter(|id| id.kind == ResourceKind::Hub);
        let gone: BTreeSet<_> = hubs().filter(|id| !entries.contains_key(id)).map(|id| id.hub.clone()).collect();
        let too_many = gone.len() > REMOVALS.max(removals_max) && gone.len() * 5 > hubs().count();
        if too_many {
            let held = self.entries.iter().filter(|(id, _)| gone.contains(&id.hub));
            entries.extend(held.map(|(id, entry)| (id.clone(), entry.clone())));
        }
        let removals_held = if too_many { gone.len() } else { 0 };
        Ok(Taken { handed: Handed { stamp: Some(stamp), entries }, removals_held, contested })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Handed, Push, PushRefused, PushStamp};
    use crate::settings::{
        entry::{Entry, ResourceId, Revision, Source},
        resource::{ChannelRulesSpec, HubSpec, Resource},
    };

    fn hub(name: &str, allow_anonymous: bool) -> Arc<Entry> {
        let spec = HubSpec { allow_anonymous, ..HubSpec::default() };
        let resource = Resource::Hub { name: name.to_owned(), spec };
        Arc::new(Entry::new(Source::Operator, "uid", 1, resource))
    }

    fn push(term: u64, sequence: u64, base: Option<Revision>, set: Vec<Arc<Entry>>) -> Push {
        let stamp = PushStamp { term, sequence };
        let (removed, kept, withheld) = Default::default();
        Push { stamp, base, set, removed, kept, withheld, removals_max: 0 }
    }

    fn names(handed: &Handed) -> Vec<&str> {
        handed.entries().map(|entry| &*entry.id.name).collect()
    }

    #[test]
    fn a_whole_replaces_and_a_difference_changes() {
        let first = Handed::default().after(push(1, 1, None, vec![hub("a", false), hub("b", false)])).unwrap().handed;
        assert_eq!(names(&first), ["a", "b"]);
        let mut difference = push(1, 2, Some(first.revision()), vec![hub("c", false)]);
        difference.removed = vec![ResourceId::hub("a")];
        let second = first.after(difference).unwrap().handed;
        assert_eq!(names(&second), ["b", "c"]);
        assert_eq!(
            second.revision(),
            Handed::new(PushStamp { term: 9, sequence: 9 }, second.entries().cloned()).revision()
        );
        assert_eq!(names(&second.after(push(1, 3, None, vec![])).unwrap().handed), [""; 0]);
    }

    #[test]
    fn what_is_not_later_is_refused() {
        let held = Handed::default().after(push(2, 5, None, vec![])).unwrap().handed;
        let stamp = PushStamp { term: 2, sequence: 5 };
        for (term, sequence) in [(2, 5), (2, 4), (1, 900)] {
            let refused = held.after(push(term, sequence, None, vec![hub("a", false)])).unwrap_err();
            assert_eq!(refused, PushRefused::Late(stamp));
        }
        assert!(held.after(push(2, 6, None, vec![])).is_ok());
        assert!(held.after(push(3, 0, None, vec![])).is_ok());
    }

    #[test]
    fn a_difference_to_something_else_is_refused() {
        let held = Handed::default().after(push(1, 1, None, vec![hub("a", false)])).unwrap().handed;
        let other = Handed::default().after(push(1, 1, None, vec![hub("a", true)])).unwrap().handed;
        let refused = held.after(push(1, 2, Some(other.revision()), vec![])).unwrap_err();
        assert_eq!(refused, PushRefused::AnotherBase(held.revision()));
    }

    #[test]
    fn a_resource_that_nobody_can_read_stays_as_it_was() {
        let held = Handed::default().after(push(1, 1, None, vec![hub("a", false), hub("b", false)])).unwrap().handed;
        let other = |name: &str| {
            let resource = Resource::Hub { name: name.to_owned(), spec: HubSpec::default() };
            Arc::new(Entry::new(Source::Operator, "another uid", 1, resource))
        };
        let mut whole = push(1, 2, None, vec![other("a"), other("c")]);
        whole.kept = ["uid".into()].into();
        let taken = held.after(whole).unwrap();
        assert_eq!(taken.contested.iter().map(|hub| &**hub).collect::<Vec<_>>(), ["a"], "it is said who is not served");
        let after = taken.handed;
        assert_eq!(names(&after), ["a", "b", "c"]);
        assert_eq!(after.entries().next(), held.entries().next());
        assert_eq!(names(&after.after(push(1, 3, None, vec![other("c")])).unwrap().handed), ["c"]);
    }

    #[test]
    fn nothing_of_another_hub_comes_into_one_that_nobody_can_read() {
        let held = Handed::default().after(push(1, 1, None, vec![hub("a", false)])).unwrap().handed;
        let rules = |uid: &str| {
            let spec = ChannelRulesSpec::default();
            let resource = Resource::ChannelRules { hub: "a".to_owned(), name: "open".to_owned(), spec };
            Arc::new(Entry::new(Source::Operator, uid, 1, resource))
        };
        let mut whole = push(1, 2, None, vec![rules("of the younger")]);
        whole.kept = ["uid".into()].into();
        let taken = held.after(whole.clone()).unwrap();
        assert_eq!(taken.handed.revision(), held.revision());
        assert_eq!(taken.contested.iter().map(|hub| &**hub).collect::<Vec<_>>(), ["a"]);
        whole.kept.clear();
        whole.set.push(hub("a", false));
        assert_eq!(held.after(whole).unwrap().handed.entries().count(), 2, "once it can be read");
    }

    #[test]
    fn a_hub_of_which_something_is_unusable_stays_as_it_was() {
        let held = Handed::default().after(push(1, 1, None, vec![hub("a", false)])).unwrap().handed;
        let mut whole = push(1, 2, None, vec![hub("a", true), hub("b", true)]);
        whole.withheld = ["a".into(), "new".into()].into();
        let after = held.after(whole).unwrap().handed;
        assert_eq!(after.entries().next(), held.entries().next());
        assert_eq!(names(&after), ["a", "b"]);
    }

    #[test]
    fn many_hubs_go_only_when_somebody_has_said_so() {
        let hubs =
            |numbers: std::ops::Range<usize>| numbers.map(|number| hub(&format!("{number:02}"), false)).collect();
        let after = |held: usize, left: usize, removals_max: usize| {
            let before = Handed::default().after(push(1, 1, None, hubs(0..held))).unwrap().handed;
            let mut whole = push(1, 2, None, hubs(0..left));
            whole.removals_max = removals_max;
            let taken = before.after(whole).unwrap();
            (taken.handed.entries().count(), taken.removals_held)
        };
        assert_eq!(after(20, 10, 0), (10, 0), "ten may always go");
        assert_eq!(after(20, 9, 0), (20, 11));
        assert_eq!(after(20, 9, 11), (9, 0));
        assert_eq!(after(20, 8, 11), (20, 12), "what was said was about eleven");
        assert_eq!(after(60, 48, 0), (48, 0), "twelve are not more than a fifth");
        assert_eq!(after(12, 0, 0), (12, 12));
    }
}
