//! The status of the record, which the agent writes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The condition that says whether rounds kill.
pub const ACTIVE: &str = "Active";
/// The state of a namespace in which rounds kill.
pub const STATE_ACTIVE: &str = "active";
/// The state of a namespace in which rounds are dry runs.
pub const STATE_DRY_RUN: &str = "dry run";

/// What the agent did and will do. Only the agent writes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OptInStatus {
    /// `active`, or why rounds kill nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// When the next round is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_slot: Option<String>,
    /// The last slot that was served. The agent serves no slot at or before it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_slot: Option<String>,
    /// The number of kills since the record was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kills: Option<i64>,
    /// How many recoveries ended with each outcome since the record was created.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outcomes: BTreeMap<String, i64>,
    /// For each check of the steady state that was sampled during recoveries, how often it held
    /// until the recovery ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hypotheses: Vec<HypothesisCounts>,
    /// Kills that the agent decided and whose result is not known yet. At most one per workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intents: Vec<Intent>,
    /// When Pods were killed here in the last minute, in RFC 3339. The next process counts these
    /// kills towards the platform's `killsPerMinute`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_kills: Vec<String>,
    /// The kills whose recovery has not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Pending>,
    /// The number of kills whose recovery has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_count: Option<i64>,
    /// Workloads that the agent leaves alone because their recoveries timed out or a check of the
    /// steady state broke.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backing_off: Vec<BackOff>,
    /// Workloads that the agent leaves alone because a Pod changed during its kill, or because a
    /// kill had no clear answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resting: Vec<Rest>,
    /// What refused kills when a round last looked, for the first 20 workloads and for the namespace.
    /// A round that the namespace refuses as a whole does not look at workloads. One Event tells each
    /// refusal for as long as it lasts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<ToldRefusal>,
    /// The conditions `Active`, which says whether rounds kill, and `ClockSuspect`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A kill that the agent decided. A process that finds it without a result looks up the Pod by its
/// UID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// The slot in which the agent decided the kill.
    pub slot: String,
    /// How the Pod is killed: `evict`, `delete` or `force`.
    pub mode: String,
    /// The recovery that is pending if the kill took place.
    pub kill: Pending,
}

/// A kill whose recovery has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// The name of the killed Pod.
    pub pod: String,
    /// The UID of the killed Pod.
    pub uid: String,
    /// The workload of the killed Pod.
    pub workload: WorkloadReference,
    /// When the Pod was killed, in RFC 3339.
    pub time: String,
    /// The number of Ready Pods just before the kill, at most the desired number.
    pub steady_state: i64,
    /// UIDs of the workload's other Pods at the time of the kill. Set only if the steady state was
    /// reached even without the killed Pod: then the number of Ready Pods alone doesn't show a
    /// replacement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// The node of the killed Pod, if it belongs to a DaemonSet. The replacement comes to this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How long the recovery may take, for example `5m`, if the Pod template narrows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// The checks of the steady state that are sampled until the recovery ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<SampledCheck>,
}

/// A check of the steady state that is sampled during a recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SampledCheck {
    /// The name of the check.
    pub check: String,
    /// The first sample that did not hold. Absent as long as none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<BrokenSample>,
}

/// A sample of a check that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokenSample {
    /// When the answer came, in RFC 3339.
    pub time: String,
    /// What was seen instead.
    pub saw: String,
}

/// How often a check held from a kill until the recovery ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HypothesisCounts {
    /// The name of the check.
    pub check: String,
    /// The number of recoveries during which each sample held.
    pub held: i64,
    /// The number of recoveries during which a sample did not hold.
    pub broken: i64,
    /// The number of recoveries during which no sample is known to have failed, but some are
    /// missing.
    pub unknown: i64,
    /// What last broke the check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_broken: Option<LastBroken>,
}

/// What last broke a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastBroken {
    /// The workload that was recovering.
    pub workload: WorkloadReference,
    /// The first sample that did not hold.
    pub sample: BrokenSample,
}

/// A workload whose recoveries timed out, or during whose recoveries a check broke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackOff {
    /// The workload.
    pub workload: WorkloadReference,
    /// How many of its recoveries timed out, or broke a check, in a row.
    pub timed_out: u32,
    /// Why it rests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Until when the agent leaves it alone, in RFC 3339. Absent if the agent leaves it alone until
    /// it has been healthy for long enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Since when each look has found it healthy, in RFC 3339. Absent if `until` is set or the last
    /// look found it unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_since: Option<String>,
}

/// A workload that the agent leaves alone for a while, because a kill that failed may have been
/// charged to its PodDisruptionBudget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rest {
    /// The UID of the workload.
    pub workload: String,
    /// Until when the agent leaves it alone, in RFC 3339.
    pub until: String,
}

/// A refusal that an Event has told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToldRefusal {
    /// The workload. Absent if the refusal is about the whole namespace, or sums up further
    /// workloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadReference>,
    /// The reason, as a label and a sentence.
    pub reason: String,
}

/// A reference to a workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReference {
    /// Its kind, for example `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}
