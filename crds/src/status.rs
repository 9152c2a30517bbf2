//! What the operator says of a resource.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the operator says of a tenant's resource. It never holds what changes while nothing is wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The generation of the resource that this is about; -1: none yet.
    #[serde(default = "none_yet")]
    pub observed_generation: i64,
    /// `Ready`, and where they hold `Reconciling`, `Stalled` and `Paused`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

pub(crate) fn none_yet() -> i64 {
    -1
}
