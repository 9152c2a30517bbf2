//! The pods of nodes.

use std::collections::BTreeMap;

use appsockets_crds::{AppSocketsCluster, AppSocketsClusterSpec, ConnectionsSpec, reference::SecretKeyRef};
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetOrdinals, StatefulSetSpec, StatefulSetUpdateStrategy},
        core::v1::{
            Capabilities, ConfigMapKeySelector, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
            HTTPGetAction, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
            SecretKeySelector, SecretVolumeSource, SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kube::ResourceExt;

use super::{ACCEPTING, Names, Pods, Role, labels, metadata, port, role_selector, secrets};

/// How many nodes a new cluster is meant to have, among what changes without a restart.
pub const EXPECTED: &str = "expectedCoreNodes";

const KEYS: &str = "/etc/appsockets/keys";
const CERTIFICATE: &str = "/etc/appsockets/certificate";
const DATA: &str = "/var/lib/appsockets";
/// Tells machines apart.
const MACHINE: &str = "kubernetes.io/hostname";
/// Nobody on any machine.
const USER: i64 = 65_532;
/// Beyond the time that sessions are given: to hand over channels before, and for those that do not go by themselves.
const STOP_MARGIN_SECONDS: i64 = 40;

/// What the pods follow from, as the set remembers it.
const ASKED: &str = "appsockets.io/pods-asked";
/// The pods that followed from it.
const MADE: &str = "appsockets.io/pods-made";

pub fn stateful_set(
    cluster: &AppSocketsCluster,
    names: &Names,
    role: Role,
    Pods { window, before }: Pods<'_>,
) -> StatefulSet {
    let mut metadata = metadata(cluster, names.set(role));
    let asked = asked(&cluster.spec, role);
    let is_asked_for = role == Role::Core || cluster.spec.edges.is_some();
    let (template, kept) = match before.and_then(|before| made(before, is_asked_for.then_some(&asked))) {
        Some(made) => made,
        None => {
            let mut labels = labels(cluster);
            labels.extend(role_selector(cluster, role));
            labels.insert(ACCEPTING.to_owned(), "true".to_owned());
            let template = PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod(cluster, &asked, names, role)),
            };
            let kept = serde_json::to_string(&template).unwrap_or_default();
            (template, kept)
        }
    };
    let asked = serde_json::to_string(&asked).unwrap_or_default();
    metadata.annotations = Some([(ASKED.to_owned(), asked), (MADE.to_owned(), kept)].into());
    let spec = StatefulSetSpec {
        replicas: Some(window.replicas),
        ordinals: Some(StatefulSetOrdinals { start: Some(window.start) }),
        service_name: Some(names.nodes.clone()),
        // In order, one pod with a bad image would keep all later ones from being mended (kubernetes/kubernetes#67250).
        pod_management_policy: Some("Parallel".to_owned()),
        // Only the operator knows when the next node may go.
        update_strategy: Some(StatefulSetUpdateStrategy {
            type_: Some("OnDelete".to_owned()),
            ..StatefulSetUpdateStrategy::default()
        }),
        selector: LabelSelector { match_labels: Some(role_selector(cluster, role)), ..LabelSelector::default() },
        template,
        ..StatefulSetSpec::default()
    };
    StatefulSet { metadata, spec: Some(spec), ..StatefulSet::default() }
}

/// What of the resource the pods of a role follow from.
fn asked(spec: &AppSocketsClusterSpec, role: Role) -> AppSocketsClusterSpec {
    let own = spec.edges.as_ref().filter(|_| role == Role::Edge).and_then(|edges| edges.resources.clone());
    AppSocketsClusterSpec {
        replicas: 0,
        resources: own.or_else(|| spec.resources.clone()),
        edges: None,
        tenants: None,
        update: None,
        rebalance: None,
        key_overlap_seconds: 0,
        autoscale: None,
        network_policy: false,
        paused: false,
        ..spec.clone()
    }
}

/// Whether the pods of a role are replaced when a cluster's resource changes so.
pub fn asks_for_other_pods(old: &AppSocketsClusterSpec, new: &AppSocketsClusterSpec, role: Role) -> bool {
    asked(old, role) != asked(new, role)
}

/// The pods that a set was made with, if they were asked for in the same way, or nobody asks for any.
fn made(before: &StatefulSet, asked: Option<&AppSocketsClusterSpec>) -> Option<(PodTemplateSpec, String)> {
    let annotations = before.metadata.annotations.as_ref()?;
    let before: AppSocketsClusterSpec = serde_json::from_str(annotations.get(ASKED)?).ok()?;
    let made = annotations.get(MADE)?;
    let template = serde_json::from_str(made).ok()?;
    asked.is_none_or(|asked| before == *asked).then(|| (template, made.clone()))
}

fn pod(cluster: &AppSocketsCluster, spec: &AppSocketsClusterSpec, names: &Names, role: Role) -> PodSpec {
    let machines = [MACHINE.to_owned()];
    let over = if spec.spread_over.is_empty() { &machines[..] } else { &spec.spread_over };
    let secret = |name: &str, secret: &str| Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let data =
        Volume { name: "data".to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() };
    let spread = |topology_key: &String| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: topology_key.clone(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(role_selector(cluster, role)),
            ..LabelSelector::default()
        }),
        ..TopologySpreadConstraint::default()
    };
    PodSpec {
        service_account_name: Some(names.nodes.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(i64::from(spec.drain_seconds) + STOP_MARGIN_SECONDS),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        topology_spread_constraints: Some(over.iter().map(spread).collect()),
        node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
        tolerations: (!spec.tolerations.is_empty()).then(|| spec.tolerations.clone()),
        containers: vec![container(cluster, spec, names, role)],
        volumes: Some(vec![data, secret("keys", &names.keys), secret("certificate", &names.node_certificate)]),
        ..PodSpec::default()
    }
}

fn container(cluster: &AppSocketsCluster, spec: &AppSocketsClusterSpec, names: &Names, role: Role) -> Container {
    let named = |name: &str, port: i32, protocol: &str| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some(protocol.to_owned()),
        ..ContainerPort::default()
    };
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    Container {
        name: "node".to_owned(),
        image: Some(spec.image.clone()),
        image_pull_policy: spec.image_pull_policy.clone(),
        env: Some(environment(cluster, names, role)),
        ports: Some(vec![
            named("clients", port::CLIENTS, "TCP"),
            named("admin", port::ADMIN, "TCP"),
            named("metrics", port::METRICS, "TCP"),
            named("nodes", port::NODES, "TCP"),
            named("gossip", port::NODES, "UDP"),
            named("operator", port::OPERATOR, "TCP"),
        ]),
        resources: resources(spec),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        liveness_probe: Some(probe("/healthz", 10, 6)),
        // What a node says before it goes stands in its pod's status.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            mount("data", DATA, false),
            mount("keys", KEYS, true),
            mount("certificate", CERTIFICATE, true),
        ]),
        ..Container::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(port::METRICS),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn resources(spec: &AppSocketsClusterSpec) -> Option<ResourceRequirements> {
    let resources = spec.resources.as_ref()?;
    let quantities = |of: &BTreeMap<String, String>| {
        let quantities = of.iter().map(|(name, quantity)| (name.clone(), Quantity(quantity.clone())));
        (!of.is_empty()).then(|| quantities.collect())
    };
    Some(ResourceRequirements {
        requests: quantities(&resources.requests),
        limits: quantities(&resources.limits),
        ..ResourceRequirements::default()
    })
}

/// The nodes' configuration. What the operator sets goes before what the cluster says.
fn environment(cluster: &AppSocketsCluster, names: &Names, role: Role) -> Vec<EnvVar> {
    let drain_ms = i64::from(cluster.spec.drain_seconds) * 1000;
    let everywhere = |port: i32| format!("0.0.0.0:{port}");
    let key = |name: &str| format!("{KEYS}/{name}");
    let certificate = |name: &str| format!("{CERTIFICATE}/{name}");
    let namespace = cluster.namespace().unwrap_or_default();
    let ours = [
        ("listen", everywhere(port::CLIENTS)),
        ("data", DATA.to_owned()),
        ("engine.drainMs", drain_ms.to_string()),
        ("auth.sessionSecretFile", key(secrets::SESSION)),
        ("admin.listen", everywhere(port::ADMIN)),
        ("admin.tokenFile", key(secrets::ADMIN_TOKENS)),
        ("metrics.listen", everywhere(port::METRICS)),
        ("cluster.name", format!("{namespace}/{}", names.cluster)),
        ("cluster.listen", everywhere(port::NODES)),
        ("cluster.core", (role == Role::Core).to_string()),
        ("cluster.nodeOffset", role.numbers_from().to_string()),
        ("cluster.membership.secretKeyFile", key(secrets::MEMBERSHIP)),
        ("cluster.rpc.secretKeyFile", key(secrets::RPC)),
        ("discovery.seeds", format!("{}.{namespace}.svc:{}", names.nodes, port::NODES)),
        ("operator.listen", everywhere(port::OPERATOR)),
        ("operator.certificate", certificate(secrets::CERTIFICATE)),
        ("operator.key", certificate(secrets::CERTIFICATE_KEY)),
        ("operator.authority", certificate(secrets::AUTHORITY)),
    ];
    let mut all: BTreeMap<_, _> =
        cluster.spec.config.iter().map(|(key, value)| (variable(key), value.clone())).collect();
    all.extend(ours.into_iter().map(|(key, value)| (variable(key), value)));
    let expected = EnvVarSource {
        config_map_key_ref: Some(ConfigMapKeySelector {
            name: names.nodes.clone(),
            key: EXPECTED.to_owned(),
            optional: None,
        }),
        ..EnvVarSource::default()
    };
    let expected_name = variable("cluster.expectedCoreNodes");
    all.remove(&expected_name);
    let all = all.into_iter().map(|(name, value)| EnvVar { name, value: Some(value), value_from: None });
    let expected = EnvVar { name: expected_name, value: None, value_from: Some(expected) };
    all.chain([expected]).chain(connections(cluster)).collect()
}

/// Where databases and brokers are, which only the pod's machine reads.
fn connections(cluster: &AppSocketsCluster) -> impl Iterator<Item = EnvVar> {
    let ConnectionsSpec { postgres, redis, nats } = cluster.spec.connections.clone().unwrap_or_default();
    let all = [("DATABASE_URL", postgres), ("REDIS_URL", redis), ("NATS_URL", nats)];
    all.into_iter().filter_map(|(name, secret)| {
        let SecretKeyRef { name: secret, key } = secret?;
        let selector = SecretKeySelector { name: secret, key, optional: None };
        let value_from = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
        Some(EnvVar { name: name.to_owned(), value: None, value_from: Some(value_from) })
    })
}

/// The environment variable of a key of the nodes' configuration.
fn variable(key: &str) -> String {
    let mut variable = "APPSOCKETS_".to_owned();
    for letter in key.chars() {
        match letter {
            '.' => variable.push_str("__"),
            upper if upper.is_ascii_uppercase() => variable.extend(['_', upper]),
            lower => variable.push(lower.to_ascii_uppercase()),
        }
    }
    variable
}
