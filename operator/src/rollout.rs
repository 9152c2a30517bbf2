//! Which pods a cluster has, one step after the other (`docs/decisions/0016-rollout.md`).
//!
//! The pods of a StatefulSet are a window of ordinals. A rollout moves it up: one more pod of the new revision, then the
//! lowest goes, which hands its channels over and sends its sessions elsewhere by itself. Everything follows from what is
//! seen, so an operator that begins again goes on where another one has stopped.

use std::{collections::BTreeSet, time::Duration};

/// What changes of services take to reach every machine.
pub const STEERED: Duration = Duration::from_secs(5);
/// How long sessions that were sent elsewhere are waited for.
const SESSIONS_PATIENCE: Duration = Duration::from_secs(60);
/// Of a hundred sessions, as many are back at least when the next pod goes.
const SESSIONS_BACK: u64 = 95;
/// Of a hundred sessions of its part, a pod that has as many almost has it.
const ALMOST: u64 = 90;
/// A pod has too many sessions above so many for a hundred of the mean.
const UNEVEN: u64 = 110;
/// The fullest pod has as many sessions at least where they are spread anew.
const SPREAD_MIN: u64 = 100;

/// The ordinals that pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: i32,
    pub replicas: i32,
}

impl Window {
    /// For a set that is made anew while pods of the last one are there: none of them goes by that.
    pub fn covering(pods: impl Iterator<Item = i32>, wanted: i32) -> Window {
        let (start, end) =
            pods.fold((i32::MAX, 0), |(start, end), pod| (start.min(pod), end.max(pod.saturating_add(1))));
        match end {
            0 => Window { start: 0, replicas: wanted },
            _ => Window { start, replicas: wanted.max(end - start) },
        }
    }
}

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does not take clients yet.
    Starting,
    Serving,
    /// It served, and is not ready at the moment.
    Unready,
    /// It is being deleted.
    Leaving,
}

/// A pod of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    pub ordinal: i32,
    /// Whether it is as the cluster's resource says now.
    pub current: bool,
    pub phase: Phase,
    /// Why it does not run, where that is known.
    pub trouble: Option<String>,
    /// Whether that does not pass by itself.
    pub stuck: bool,
    /// None: nobody knows.
    pub load: Option<Load>,
    /// Whether the node has said that after the last change of pods.
    pub fresh: bool,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub sessions: u64,
    pub view: u64,
    pub settled: bool,
}

/// What is seen of a cluster.
#[derive(Clone, Debug)]
pub struct Look {
    pub name: String,
    /// How many pods there ought to be.
    pub replicas: i32,
    /// Whether clients are meant to come to these pods, and not to those of another set.
    pub takes_clients: bool,
    /// Whether the whole cluster is to stop, so that there is nobody to give clients to.
    pub stops: bool,
    /// Sessions at pods of another set.
    pub elsewhere: u64,
    /// Whether another set is to become new before this one.
    pub is_later: bool,
    pub window: Window,
    /// Whether pods are as the last write demands: those of the window are there, and others are leaving.
    pub caught_up: bool,
    pub pods: Vec<Seen>,
    /// What nodes do not serve that they ought to.
    pub lagging: Option<String>,
    /// Since when nothing of pods and of who takes clients has changed.
    pub quiet: Duration,
    /// The sessions that there were before the last pod went.
    pub sessions_before: Option<u64>,
    /// After so many pods of the new revision somebody has to say that it goes on; None: it goes on.
    pub pause_after: Option<i32>,
    /// What is not waited for.
    pub skip: BTreeSet<Gate>,
}

/// What a step waits for. Each can be skipped by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// The core nodes are as they ought to be, before edge nodes are replaced.
    CoreNodes,
    /// The pod beyond the wanted number, or another of the new revision, serves.
    AdditionalPod,
    /// No other pod is away.
    PodsReady,
    /// Somebody says that it goes on.
    Canary,
    /// Every node serves what it ought to.
    Served,
    /// All nodes are in the same view, and who takes clients is known everywhere.
    Settled,
    /// The sessions of the pod before are back.
    SessionsBack,
}

impl Gate {
    pub const ALL: [Gate; 7] = [
        Gate::CoreNodes,
        Gate::AdditionalPod,
        Gate::PodsReady,
        Gate::Canary,
        Gate::Served,
        Gate::Settled,
        Gate::SessionsBack,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Gate::CoreNodes => "CoreNodes",
            Gate::AdditionalPod => "AdditionalPod",
            Gate::PodsReady => "PodsReady",
            Gate::Canary => "Canary",
            Gate::Served => "Served",
            Gate::Settled => "Settled",
            Gate::SessionsBack => "SessionsBack",
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything is as it ought to be.
    Stay,
    /// The set has not acted on the last write.
    Follow,
    Wait {
        gate: Gate,
        message: String,
        /// Whether it does not come by itself.
        stalled: bool,
    },
    /// The StatefulSet gets these ordinals.
    Resize(Window),
    /// The pod is deleted, and comes back as the resource says now.
    Replace(String),
}

impl Look {
    fn ours(&self) -> impl Iterator<Item = &Seen> {
        let Window { start, replicas } = self.window;
        self.pods.iter().filter(move |pod| (start..start + replicas).contains(&pod.ordinal))
    }

    fn serving(&self) -> impl Iterator<Item = &Seen> {
        self.ours().filter(|pod| pod.phase == Phase::Serving)
    }

    /// Whether pods are not as the resource says now.
    pub fn outdated(&self) -> usize {
        self.ours().filter(|pod| !pod.current).count()
    }

    pub fn updated(&self) -> usize {
        self.serving().filter(|pod| pod.current).count()
    }

    /// On all pods that say how many they have.
    pub fn sessions(&self) -> u64 {
        self.pods.iter().filter_map(|pod| pod.load).map(|load| load.sessions).sum::<u64>() + self.elsewhere
    }

    /// The next step.
    pub fn step(&self) -> Step {
        if !self.caught_up {
            return Step::Follow;
        }
        let Window { start, replicas } = self.window;
        let resize = |start, replicas| Step::Resize(Window { start, replicas });
        if let Some(idle) = self.ours().filter(|pod| self.goes_idle(pod)).last() {
            return match idle.ordinal == start + replicas - 1 && replicas > self.replicas {
                true => resize(start, replicas - 1),
                false => Step::Replace(idle.name.clone()),
            };
        }
        let outdated = self.ours().find(|pod| !pod.current);
        // They may become more or fewer all the same.
        let held = outdated.filter(|_| self.is_held());
        let wanted = self.replicas + i32::from(outdated.is_some() && held.is_none() && self.replicas > 0);
        let all_at_once = self.replicas == 0 && self.stops;
        if replicas < wanted || all_at_once && replicas > 0 {
            // Two new pods at a time would share the sessions of one that leaves, and the last would get too few.
            let leaving = self.leaving().filter(|_| outdated.is_some() && !self.skips(Gate::PodsReady));
            return leaving.unwrap_or_else(|| resize(start, wanted));
        }
        let last = self.ours().last();
        let is_surplus =
            |last: &&Seen| self.is_surplus(last) || replicas > wanted && (outdated.is_none() || held.is_some());
        let goes = match (last.filter(is_surplus), held, outdated) {
            (Some(surplus), ..) => surplus,
            (None, Some(held), _) => {
                let message = format!("the core nodes become new before {}", held.name);
                return Step::Wait { gate: Gate::CoreNodes, message, stalled: false };
            }
            (None, None, Some(outdated)) => outdated,
            (None, None, None) => return self.leaving().unwrap_or(Step::Stay),
        };
        if goes.phase != Phase::Starting
            && let Some(wait) = self.gate(goes)
        {
            return wait;
        }
        match goes.ordinal {
            highest if highest == start + replicas - 1 && (goes.current || self.is_surplus(goes)) => {
                resize(start, replicas - 1)
            }
            lowest if lowest == start && !goes.current => resize(start + 1, replicas - 1),
            _ => Step::Replace(goes.name.clone()),
        }
    }

    /// Whether another set is to become new before this one.
    fn is_held(&self) -> bool {
        self.is_later && !self.skips(Gate::CoreNodes)
    }

    /// Whether it is one too many, and not as the resource says now: it is not to be replaced, but goes. So a revision that
    /// is taken back, or changed once more while its first pod serves, leaves those alone that served before.
    fn is_surplus(&self, pod: &Seen) -> bool {
        let Window { start, replicas } = self.window;
        !pod.current && replicas > self.replicas && pod.ordinal == start + replicas - 1
    }

    /// Whether a pod that serves nobody goes at once: so what never ran is healed by writing what does. One that ran, and
    /// may be back in a moment, is not given to a revision that has not shown that it runs, or that waits for somebody.
    fn goes_idle(&self, pod: &Seen) -> bool {
        let serves = || self.ours().any(|pod| matches!(pod.phase, Phase::Serving | Phase::Unready));
        let unproven = || self.ours().any(|pod| pod.current && pod.phase == Phase::Starting);
        let waits = || {
            unproven() && !self.skip.contains(&Gate::AdditionalPod)
                || self.awaits_somebody() && !self.skip.contains(&Gate::Canary)
                || self.is_held()
        };
        let is_idle = !pod.current && pod.phase == Phase::Starting;
        is_idle && (pod.stuck || self.is_surplus(pod) || !serves() || !waits())
    }

    /// Whether as many pods are new as somebody is to look at.
    fn awaits_somebody(&self) -> bool {
        let pause_after = self.pause_after.map(|pods| usize::try_from(pods).unwrap_or(0));
        pause_after.is_some_and(|pause_after| self.updated() >= pause_after.max(1))
    }

    /// It is over when the last one is gone.
    fn leaving(&self) -> Option<Step> {
        let leaving = self.pods.iter().find(|pod| pod.phase == Phase::Leaving)?;
        Some(Step::Wait { gate: Gate::PodsReady, message: leaves(leaving), stalled: false })
    }

    /// What the pod that goes next waits for.
    fn gate(&self, goes: &Seen) -> Option<Step> {
        let shut = |gate: &Gate| self.shut(*gate, goes);
        let (gate, (message, stalled)) =
            Gate::ALL.into_iter().filter_map(|gate| Some((gate, shut(&gate)?))).find(|(gate, _)| !self.skips(*gate))?;
        Some(Step::Wait { gate, message, stalled })
    }

    /// Whether it is skipped. Of pods that do not come up, no more than one is gone past.
    fn skips(&self, gate: Gate) -> bool {
        let starting = self.ours().filter(|pod| pod.current && pod.phase == Phase::Starting).count();
        self.skip.contains(&gate) && (gate != Gate::AdditionalPod || starting <= 1)
    }

    /// Why a gate is shut, and whether it stays so without somebody's help.
    fn shut(&self, gate: Gate, goes: &Seen) -> Option<(String, bool)> {
        let others = || self.ours().filter(|pod| pod.ordinal != goes.ordinal);
        let comes = |message: String| Some((message, false));
        match gate {
            // Looked at before all others, and not only by the pod that goes next.
            Gate::CoreNodes => None,
            Gate::AdditionalPod => {
                let new = others().find(|pod| pod.current && pod.phase == Phase::Starting)?;
                Some((new.trouble.clone().unwrap_or_else(|| format!("{} starts", new.name)), new.stuck))
            }
            Gate::PodsReady => {
                let away = self.pods.iter().filter(|pod| pod.ordinal != goes.ordinal || pod.phase == Phase::Leaving);
                let away = away.into_iter().find(|pod| match pod.phase {
                    Phase::Serving | Phase::Starting => false,
                    Phase::Unready | Phase::Leaving => true,
                })?;
                comes(match away.phase {
                    Phase::Leaving => leaves(away),
                    _ => format!("{} is not ready", away.name),
                })
            }
            Gate::Canary => (!goes.current && !self.is_surplus(goes) && self.awaits_somebody()).then(|| {
                let say = format!("kubectl appsockets promote {}", self.name);
                (format!("somebody is to look at the new pods, and then to say: {say}"), false)
            }),
            Gate::Served => self.lagging.clone().and_then(comes),
            Gate::Settled => {
                if self.quiet < STEERED {
                    return comes("services have to hear which pods take clients".to_owned());
                }
                if let Some(silent) = self.serving().find(|pod| !pod.fresh || pod.load.is_none()) {
                    return comes(format!("{} does not say how far it is", silent.name));
                }
                let views: BTreeSet<_> = self.serving().filter_map(|pod| pod.load).map(|load| load.view).collect();
                if views.len() <= 1 && self.serving().all(|pod| pod.load.is_some_and(|load| load.settled)) {
                    return None;
                }
                comes("the nodes take over each other's channels".to_owned())
            }
            Gate::SessionsBack => {
                let before = self.sessions_before?;
                let back = self.sessions() * 100 >= before * SESSIONS_BACK || self.quiet >= SESSIONS_PATIENCE;
                if back { None } else { comes("sessions that were sent elsewhere are not back yet".to_owned()) }
            }
        }
    }

    /// The pods that clients ought to come to: those that stay, and of them those that have fewer than their part, so
    /// that each client moves once and the end is even.
    pub fn accepting(&self) -> BTreeSet<&str> {
        fn names(pods: Vec<&Seen>) -> BTreeSet<&str> {
            pods.into_iter().map(|pod| &*pod.name).collect()
        }
        if !self.takes_clients {
            return BTreeSet::new();
        }
        let serving: Vec<_> = self.serving().collect();
        // Also while the last old pod still gives its sessions away.
        let rolls = self.pods.iter().any(|pod| !pod.current);
        let stay: Vec<_> = match rolls {
            true => serving.iter().copied().filter(|pod| pod.current).collect(),
            false => {
                let first_to_go = self.window.start + self.replicas.max(1);
                serving.iter().copied().filter(|pod| pod.ordinal < first_to_go).collect()
            }
        };
        if stay.is_empty() {
            return names(serving);
        }
        if !rolls {
            return names(stay);
        }
        // What is known of sessions is a second old, so one that almost has its part gets no more while others lack much.
        for percent in [ALMOST, 100] {
            let enough = self.mean() * percent / 100;
            let lacks = |pod: &&Seen| pod.load.is_some_and(|load| load.sessions < enough);
            let lacking: Vec<_> = stay.iter().copied().filter(lacks).collect();
            if !lacking.is_empty() {
                return names(lacking);
            }
        }
        // One that nobody has heard of may have too many already.
        let unknown: Vec<_> = stay.iter().copied().filter(|pod| pod.load.is_none()).collect();
        if !unknown.is_empty() {
            return names(unknown);
        }
        if self.pods.iter().any(|pod| pod.phase == Phase::Leaving) {
            return names(stay);
        }
        // Nothing moves, and that may last: the new pods do not get all who come meanwhile.
        let most = self.mean() * UNEVEN / 100;
        let spare: Vec<_> =
            serving.iter().copied().filter(|pod| pod.load.is_some_and(|load| load.sessions < most)).collect();
        names(if spare.is_empty() { serving } else { spare })
    }

    /// Sessions that each pod would have, at least one.
    fn mean(&self) -> u64 {
        let all = self.sessions().max(self.sessions_before.unwrap_or(0));
        (all / u64::try_from(self.replicas.max(1)).unwrap_or(1)).max(1)
    }

    /// The pods that ought to get sessions of others, where they are uneven while nothing else happens, and how many
    /// sessions each of the others gives away. Where clients are meant to be elsewhere, each gives all.
    pub fn uneven(&self) -> Option<Uneven> {
        let pods: Vec<_> = self.serving().collect();
        let loads: Option<Vec<_>> = pods.iter().map(|pod| pod.load).collect();
        let loads = loads.filter(|loads| loads.len() == usize::try_from(self.replicas).unwrap_or(0))?;
        if !self.takes_clients {
            let all = pods.iter().zip(loads).map(|(pod, load)| (pod.name.clone(), load.sessions));
            let gives: Vec<_> = all.filter(|(_, sessions)| *sessions > 0).collect();
            let moves = !gives.is_empty() && self.step() == Step::Stay;
            return moves.then(|| Uneven { gives, ..Uneven::default() });
        }
        let (mean, most) = (self.mean(), loads.iter().map(|load| load.sessions).max()?);
        if most < SPREAD_MIN || most * 100 <= mean * UNEVEN || self.step() != Step::Stay {
            return None;
        }
        let mut uneven = Uneven::default();
        for (pod, load) in pods.iter().zip(loads) {
            if load.sessions < mean {
                uneven.gets.insert(pod.name.clone());
            } else if load.sessions > mean {
                uneven.gives.push((pod.name.clone(), load.sessions - mean));
            }
        }
        // Where all others have their part, to spare a session, nobody would take what is given.
        (!uneven.gets.is_empty()).then_some(uneven)
    }

    /// Whether what is being spread is still to be: no pod came or went meanwhile, those that get sessions serve, and
    /// clients are still meant to be here, or elsewhere.
    pub fn still_spreads(&self, uneven: &Uneven) -> bool {
        let serves = |name: &String| self.serving().any(|pod| pod.name == *name);
        self.step() == Step::Stay && self.takes_clients != uneven.gets.is_empty() && uneven.gets.iter().all(serves)
    }
}

fn leaves(pod: &Seen) -> String {
    format!("{} hands over its channels and sessions", pod.name)
}

/// How sessions are to be spread anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uneven {
    pub gets: BTreeSet<String>,
    pub gives: Vec<(String, u64)>,
}

#[cfg(test)]
mod tests;
