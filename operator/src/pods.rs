//! What a node's pod says of it.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt;

use crate::children::Role;

/// Whether its node counts: it runs, was ready since it began, and its pod is not being deleted. One that only starts
/// does not count, because it takes no clients before it serves what it ought to.
pub fn is_live(pod: &Pod) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let Some(running) = container(pod).and_then(|container| container.state.as_ref()?.running.as_ref()) else {
        return false;
    };
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let Some(ready) = conditions.into_iter().find(|condition| condition.type_ == "Ready") else { return false };
    let began = running.started_at.as_ref().map(|time| time.0);
    let turned = ready.last_transition_time.as_ref().map(|time| time.0);
    // A pod begins as not ready, so one that turned to that after its node began was ready before.
    ready.status == "True" || turned > began
}

/// Its place in its set.
pub fn ordinal(pod: &Pod) -> Option<i32> {
    pod.metadata.name.as_ref()?.rsplit_once('-')?.1.parse().ok()
}

/// Its node's number in the cluster.
pub fn number(pod: &Pod) -> Option<u64> {
    Some(Role::of(pod).numbers_from() + u64::try_from(ordinal(pod)?).ok()? + 1)
}

/// Whether its node runs, with the keys that it was given.
pub fn holds_keys(pod: &Pod) -> bool {
    let running =
        container(pod).is_some_and(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
    running && pod.metadata.deletion_timestamp.is_none()
}

/// Whether it takes clients.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Why its node does not run, where that is known.
pub fn trouble(pod: &Pod) -> Option<String> {
    let name = pod.name_any();
    if let Some(container) = container(pod) {
        let ended = |state: &Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
        let waiting = container.state.as_ref().and_then(|state| state.waiting.clone());
        let reason = waiting.as_ref().and_then(|waiting| waiting.reason.clone());
        let said = match ended(&container.state).or_else(|| ended(&container.last_state)) {
            Some(ended) if container.state.as_ref().is_some_and(|state| state.running.is_none()) => {
                ended.message.or(ended.reason)
            }
            _ => waiting.and_then(|waiting| waiting.message),
        };
        let starting = matches!(reason.as_deref(), Some("ContainerCreating" | "PodInitializing"));
        return match (reason, said) {
            _ if starting => None,
            (None, None) => None,
            (Some(reason), None) => Some(format!("{name}: {reason}")),
            (Some(reason), Some(said)) => Some(format!("{name}: {reason}: {}", said.trim())),
            (None, Some(said)) => Some(format!("{name}: {}", said.trim())),
        };
    }
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let scheduled = conditions.into_iter().find(|condition| condition.type_ == "PodScheduled")?;
    (scheduled.status == "False")
        .then(|| format!("{name} has no place: {}", scheduled.message.as_deref().unwrap_or("nobody says why")))
}

/// Whether its node does not run for a reason that hardly passes by itself.
pub fn is_stuck(pod: &Pod) -> bool {
    const STUCK: [&str; 7] = [
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
    ];
    let waiting = container(pod).and_then(|container| container.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    waiting.is_some_and(|reason| STUCK.contains(&reason))
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    // Others may have put theirs beside it.
    all.iter().find(|container| container.name == "node")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Pod, is_live, trouble};

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "main-0"}, "status": status})).unwrap()
    }

    fn running(ready: &str, turned: &str) -> Pod {
        pod(json!({
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": turned}],
            "containerStatuses": [{
                "name": "node", "image": "", "imageID": "", "ready": ready == "True", "restartCount": 1,
                "state": {"running": {"startedAt": "2026-01-01T00:00:10Z"}},
            }],
        }))
    }

    #[test]
    fn a_node_counts_once_it_was_ready() {
        assert!(!is_live(&running("False", "2026-01-01T00:00:09Z")), "it starts");
        assert!(is_live(&running("True", "2026-01-01T00:00:12Z")));
        assert!(is_live(&running("False", "2026-01-01T00:00:20Z")), "it was ready, and may hold clients still");
        let mut deleted = running("True", "2026-01-01T00:00:12Z");
        deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:30Z")).unwrap();
        assert!(!is_live(&deleted));
    }

    #[test]
    fn a_node_that_does_not_run_does_not_count_and_says_why() {
        let crashed = pod(json!({
            "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:20Z"}],
            "containerStatuses": [{
                "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 1,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                "lastState": {"terminated": {"exitCode": 1, "message": "There is no key `sesion`.\n"}},
            }],
        }));
        assert!(!is_live(&crashed));
        assert_eq!(trouble(&crashed).as_deref(), Some("main-0: CrashLoopBackOff: There is no key `sesion`."));
        let homeless = pod(json!({
            "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}],
        }));
        assert_eq!(trouble(&homeless).as_deref(), Some("main-0 has no place: 0/3 nodes are available"));
        assert_eq!(trouble(&running("True", "2026-01-01T00:00:12Z")), None);
    }
}
