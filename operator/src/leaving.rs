//! Hubs that are gone, for as long as it is not clear how many go together.
//!
//! A node keeps hubs of which too many would go at once. Whoever deletes many does that one by one, so what goes within
//! moments of each other has to reach the node as one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use appsockets_core::settings::entry::{ResourceId, ResourceKind};
use tokio::time::Instant;

use crate::{
    resolve::{Resolved, Wanted},
    world::ClusterKey,
};

/// Silence after which no more are expected.
const QUIET: Duration = Duration::from_secs(1);
/// The longest that any waits for others.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of each cluster that hubs leave.
#[derive(Default)]
pub struct Leaving(BTreeMap<ClusterKey, Wave>);

struct Wave {
    began: Instant,
    grew: Instant,
    hubs: usize,
}

impl Leaving {
    /// Has what is wanted next hold the hubs that are gone since before, while others may follow. Gives when to look again.
    pub fn hold(&mut self, before: &Resolved, next: &mut Resolved, now: Instant) -> Option<Instant> {
        self.0.retain(|cluster, _| next.wanted.contains_key(cluster));
        let mut again: Option<Instant> = None;
        for (cluster, wanted) in &mut next.wanted {
            let Some(before) = before.wanted.get(cluster) else { continue };
            let is_gone = |id: &ResourceId| {
                let hub = ResourceId::hub(id.hub.clone());
                before.entries.contains_key(&hub) && !wanted.entries.contains_key(&hub)
            };
            let hubs = before.entries.keys().filter(|id| id.kind == ResourceKind::Hub && is_gone(id)).count();
            if hubs == 0 {
                self.0.remove(cluster);
                continue;
            }
            let wave = self.0.entry(cluster.clone()).or_insert(Wave { began: now, grew: now, hubs });
            if hubs > wave.hubs {
                wave.grew = now;
            }
            wave.hubs = hubs;
            let until = (wave.grew + QUIET).min(wave.began + PATIENCE);
            if until <= now {
                self.0.remove(cluster);
                continue;
            }
            let held = before.entries.iter().filter(|(id, _)| is_gone(id));
            let held: Vec<_> = held.map(|(id, entry)| (id.clone(), entry.clone())).collect();
            let entries = wanted.entries.clone().into_iter().chain(held).collect();
            *wanted = Arc::new(Wanted::new(entries, wanted.kept.clone()));
            again = Some(again.map_or(until, |again| again.min(until)));
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use appsockets_core::settings::{
        entry::{Entry, Source},
        resource::{HubSpec, Resource},
    };
    use tokio::time::Instant;

    use super::{Leaving, PATIENCE, QUIET};
    use crate::resolve::{Resolved, Wanted};

    fn wanted(hubs: &[&str]) -> Resolved {
        let entry = |name: &&str| {
            let resource = Resource::Hub { name: (*name).to_owned(), spec: HubSpec::default() };
            let entry = Arc::new(Entry::new(Source::Operator, "uid", 1, resource));
            (entry.id.clone(), entry)
        };
        let wanted = Wanted::new(hubs.iter().map(entry).collect(), Default::default());
        Resolved { wanted: [(("shop".into(), "main".into()), Arc::new(wanted))].into(), ..Resolved::default() }
    }

    fn hubs(resolved: &Resolved) -> Vec<String> {
        resolved.wanted.values().flat_map(|wanted| wanted.entries.keys()).map(|id| id.hub.to_string()).collect()
    }

    #[test]
    fn hubs_that_go_one_by_one_go_together() {
        let (mut leaving, now) = (Leaving::default(), Instant::now());
        let mut first = wanted(&["b", "c", "new"]);
        assert_eq!(leaving.hold(&wanted(&["a", "b", "c"]), &mut first, now), Some(now + QUIET));
        assert_eq!(hubs(&first), ["a", "b", "c", "new"], "what is new does not wait");
        let later = now + QUIET / 2;
        let mut second = wanted(&["c", "new"]);
        assert_eq!(leaving.hold(&first, &mut second, later), Some(later + QUIET));
        assert_eq!(hubs(&second), ["a", "b", "c", "new"]);
        let mut third = wanted(&["c", "new"]);
        assert_eq!(leaving.hold(&second, &mut third, later + QUIET), None);
        assert_eq!(hubs(&third), ["c", "new"]);
    }

    #[test]
    fn nobody_waits_for_ever_and_who_comes_back_was_never_away() {
        let (mut leaving, began) = (Leaving::default(), Instant::now());
        let names: Vec<_> = (0..40).map(|number| format!("{number:02}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut before = wanted(&names);
        for gone in 1..=25 {
            let mut next = wanted(&names[gone..]);
            let now = began + Duration::from_millis(500) * u32::try_from(gone - 1).unwrap();
            leaving.hold(&before, &mut next, now);
            let all_wait = now < began + PATIENCE;
            assert_eq!(hubs(&next).len() == 40, all_wait, "{gone} are gone");
            if !all_wait {
                break;
            }
            before = next;
        }
        let mut back = wanted(&names);
        assert_eq!(leaving.hold(&wanted(&names), &mut back, began + PATIENCE * 2), None);
    }
}
