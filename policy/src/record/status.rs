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

/// What the agent did and will do; written by the agent only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OptInStatus {
    /// In one string: `active`, or why nothing is being killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// When the next round is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_slot: Option<String>,
    /// The last slot that was served; none at or before it ever is again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_slot: Option<String>,
    /// Kills since the record was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kills: Option<i64>,
    /// Ended recoveries since the record was made, by outcome.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outcomes: BTreeMap<String, i64>,
    /// Kills that were decided and whose result is not known yet, at most one per workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intents: Vec<Intent>,
    /// When Pods were killed here in the last minute, RFC 3339: what the platform's
    /// `killsPerMinute` counts, whichever process kills next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_kills: Vec<String>,
    /// Kills whose recovery has not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Pending>,
    /// How many those are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_count: Option<i64>,
    /// Workloads that are left alone because recoveries timed out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backing_off: Vec<BackOff>,
    /// Workloads that are left alone because a Pod changed while it was being killed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resting: Vec<Rest>,
    /// What refuses kills as of the last round, each told by one Event for as long as it stays: of
    /// the first 20 workloads, and of the namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<ToldRefusal>,
    /// What else to know, in Kubernetes' form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A kill that was decided. Whoever finds it without a result looks the Pod up by its UID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// The slot it was decided in.
    pub slot: String,
    /// `evict`, `delete` or `force`.
    pub mode: String,
    /// What is pending if it was done.
    pub kill: Pending,
}

/// A kill whose recovery has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// The victim's name.
    pub pod: String,
    /// The victim's UID.
    pub uid: String,
    /// The victim's workload.
    pub workload: WorkloadReference,
    /// When it was killed.
    pub time: String,
    /// Ready Pods, at most the desired ones, just before the kill.
    pub steady_state: i64,
    /// UIDs of the workload's other Pods at the kill, where without the victim there were as many
    /// as the steady state or more. Else as many Ready Pods as before tell of a replacement by
    /// themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// The node of a DaemonSet's Pod: its replacement's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// A workload whose recoveries timed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackOff {
    /// Which one.
    pub workload: WorkloadReference,
    /// How many of its recoveries in a row timed out.
    pub timed_out: u32,
    /// Until when it is left alone; none where it is until it has been healthy for long enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Since when each look has found it healthy, where it is left alone for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_since: Option<String>,
}

/// A workload that is left alone for a while, because a kill that failed may have been charged to
/// its disruption budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rest {
    /// Its UID.
    pub workload: String,
    /// Until when.
    pub until: String,
}

/// A refusal that an Event told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToldRefusal {
    /// Of which workload. None where it is the namespace as a whole, or a summary of further
    /// workloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadReference>,
    /// Why, as a label and in words.
    pub reason: String,
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReference {
    /// Such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}
