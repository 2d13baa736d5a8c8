//! Plain values with only those parts of Kubernetes objects that the rules need.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::core::{Selector, SelectorExt};
use policy::exclusion::Exclusion;
use policy::record::WorkloadReference;
use policy::settings::Kinds;

/// The label that says in which zone a Pod or a node is. From Kubernetes 1.35 on, the API server
/// copies it from the node to each new Pod.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// The controller of an object, from its ownerReferences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// The kind, such as `ReplicaSet`.
    pub kind: String,
    /// The name of the controller.
    pub name: String,
    /// The UID of the controller.
    pub uid: String,
}

impl From<Controller> for WorkloadReference {
    fn from(controller: Controller) -> Self {
        let Controller { kind, name, uid } = controller;
        Self { kind, name, uid }
    }
}

/// The view of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    /// The name of the Pod.
    pub name: String,
    /// The UID of the Pod.
    pub uid: String,
    /// The resourceVersion as a number. A greater number is newer, even between different Pods. 0
    /// if there is no version.
    pub version: u64,
    /// The labels, for `targets` and for the selectors of PodDisruptionBudgets.
    pub labels: BTreeMap<String, String>,
    /// Why the Pod itself asks to be left alone, or that it is critical. `None` if neither applies.
    pub exclusion: Option<Exclusion>,
    /// The annotations by which the Pod template narrows settings. `None` if there are none. They
    /// are in a box, because hardly any Pod has some.
    pub narrows: Option<Box<BTreeMap<String, String>>>,
    /// The controller of the Pod.
    pub controller: Option<Controller>,
    /// The node on which the Pod runs.
    pub node: Option<String>,
    /// Whether the condition Ready is True.
    pub ready: bool,
    /// Whether the Pod has a deletionTimestamp.
    pub terminating: bool,
    /// Whether the phase is Succeeded or Failed. Such a Pod never runs again.
    pub finished: bool,
    /// When the Pod was created.
    pub created: Timestamp,
    /// The restarts of all containers, including init containers.
    pub restarts: u64,
}

impl PodView {
    /// Whether the Pod is Ready and is not being deleted. Recoveries and guards count Pods in this
    /// way.
    #[must_use]
    pub fn counts_as_ready(&self) -> bool {
        self.ready && !self.terminating
    }

    /// Whether the Pod is being deleted or has finished.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.terminating || self.finished
    }
}

/// The version of the Pod that changed last. 0 if there are no Pods.
#[must_use]
pub fn newest(pods: &[PodView]) -> u64 {
    pods.iter().map(|pod| pod.version).max().unwrap_or(0)
}

/// Why the size of a workload is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownSize {
    /// A sentence that says why, and what to do.
    pub because: String,
    /// The resource that the account may not get, such as `clonesets.apps.kruise.io`. `None` if no
    /// right is missing.
    pub forbidden: Option<String>,
}

impl UnknownSize {
    /// A size that is unknown for another reason than a missing right.
    #[must_use]
    pub fn because(because: String) -> Self {
        Self { because, forbidden: None }
    }

    /// The size of a workload whose controller no list and no read showed.
    #[must_use]
    pub fn of_unseen(controller: &Controller) -> Self {
        let Controller { kind, name, .. } = controller;
        Self::because(if Kinds::are_built_in(kind) {
            format!("{kind} {name} is gone or is being deleted")
        } else {
            format!(
                "kind {kind} is not in `workloads` of the platform's policy, and {kind} {name} has no ReplicaSets"
            )
        })
    }
}

/// The view of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadView {
    /// The kind, the name and the UID of the workload.
    pub reference: WorkloadReference,
    /// How many Pods the workload should have. `None` if the agent can't tell.
    pub desired: Option<u32>,
    /// Why the agent can't tell how many Pods the workload should have, if there is more to say.
    pub unknown_size: Option<UnknownSize>,
    /// A fingerprint of the Pod template. `None` if the workload has no template of its own.
    pub template: Option<String>,
    /// Whether some Pods still have an older template, or the controller has not seen the newest
    /// one yet.
    pub rolling_out: bool,
    /// Why its Pods have to be left alone, each with what asks: the workload itself, or the ReplicaSet
    /// between it and the Pod.
    pub exclusions: Vec<(&'static str, Exclusion)>,
}

impl WorkloadView {
    /// The view of a workload of which only its Pods and the reason for that are known.
    #[must_use]
    pub fn of_unknown_size(controller: Controller, unknown: UnknownSize) -> Self {
        Self {
            reference: controller.into(),
            desired: None,
            unknown_size: Some(unknown),
            template: None,
            rolling_out: false,
            exclusions: Vec::new(),
        }
    }
}

/// The view of a ReplicaSet. A ReplicaSet is either a workload itself, or stands between a Pod and
/// its workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSetView {
    /// The ReplicaSet as a workload.
    pub workload: WorkloadView,
    /// The controller of the ReplicaSet, if it has one.
    pub controller: Option<Controller>,
}

/// The view of a PodDisruptionBudget.
#[derive(Debug, Clone)]
pub struct BudgetView {
    /// Selects the Pods that the budget covers. `None` if the selector is not understood; the
    /// budget then counts as covering all Pods.
    pub selector: Option<Selector>,
    /// Whether the status says that no Pod may be disrupted.
    pub exhausted: bool,
}

impl BudgetView {
    /// Whether this budget would refuse an eviction of the Pod.
    #[must_use]
    pub fn blocks(&self, pod: &PodView) -> bool {
        self.exhausted && self.selector.as_ref().is_none_or(|selector| selector.matches(&pod.labels))
    }
}

/// The Pods of a namespace and what they belong to, as live lists showed them.
#[derive(Debug, Clone, Default)]
pub struct NamespaceSnapshot {
    /// All Pods of the namespace.
    pub pods: Vec<PodView>,
    /// The Deployments, StatefulSets, DaemonSets, ReplicationControllers and custom workloads, by UID.
    pub workloads: BTreeMap<String, WorkloadView>,
    /// The ReplicaSets, by UID.
    pub replica_sets: BTreeMap<String, ReplicaSetView>,
    /// The PodDisruptionBudgets.
    pub budgets: Vec<BudgetView>,
    /// The names of the cordoned nodes in the cluster. Empty if the agent may not list nodes.
    pub cordoned: BTreeSet<String>,
    /// The zones of nodes, by the name of the node. Empty if nobody asked for them or the agent may
    /// not list nodes.
    pub zones: BTreeMap<String, String>,
}

impl NamespaceSnapshot {
    /// The workload of a Pod. This is the Pod's controller, or the controller of that ReplicaSet if
    /// there is one. The agent looks no higher.
    #[must_use]
    pub fn workload_of(&self, pod: &PodView) -> Option<WorkloadView> {
        let controller = pod.controller.clone()?;
        let Some(replica_set) = self.replica_sets.get(&controller.uid) else {
            return Some(self.workload(controller));
        };
        Some(match &replica_set.controller {
            Some(above) => {
                let mut workload = self.workload(above.clone());
                let of_set = replica_set.workload.exclusions.iter();
                workload
                    .exclusions
                    .extend(of_set.map(|(_, exclusion)| ("its ReplicaSet", exclusion.clone())));
                workload
            }
            None => replica_set.workload.clone(),
        })
    }

    /// The zone in which a Pod is. `None` if nobody can tell.
    #[must_use]
    pub fn zone_of<'a>(&'a self, pod: &'a PodView) -> Option<&'a str> {
        let of_node = || self.zones.get(pod.node.as_ref()?);
        pod.labels.get(ZONE).or_else(of_node).map(String::as_str)
    }

    /// Whether a workload has as many Ready Pods as it wants and is not rolling out. `None` if the
    /// snapshot contains neither the workload nor a Pod of it.
    #[must_use]
    pub fn is_healthy(&self, workload_uid: &str) -> Option<bool> {
        let of_workload = |pod: &&PodView| {
            self.workload_of(pod).is_some_and(|workload| workload.reference.uid == workload_uid)
        };
        let pods: Vec<&PodView> = self.pods.iter().filter(of_workload).collect();
        let workload = match self.workloads.get(workload_uid) {
            Some(workload) => workload.clone(),
            None => self.workload_of(pods.first()?)?,
        };
        let ready = pods.iter().filter(|pod| pod.counts_as_ready()).count();
        let enough =
            workload.desired.is_some_and(|desired| u32::try_from(ready).is_ok_and(|ready| ready >= desired));
        Some(enough && !workload.rolling_out)
    }

    /// The controllers of Pods that neither are in this snapshot nor control its ReplicaSets, each
    /// once.
    #[must_use]
    pub fn unread(&self) -> Vec<Controller> {
        let above: BTreeSet<&str> = self
            .replica_sets
            .values()
            .filter_map(|set| set.controller.as_ref())
            .map(|controller| controller.uid.as_str())
            .collect();
        let is_unread = |controller: &&Controller| {
            let uid = controller.uid.as_str();
            !self.workloads.contains_key(uid) && !self.replica_sets.contains_key(uid) && !above.contains(uid)
        };
        let unread = self.pods.iter().filter_map(|pod| pod.controller.as_ref()).filter(is_unread);
        let by_uid: BTreeMap<&str, &Controller> =
            unread.map(|controller| (controller.uid.as_str(), controller)).collect();
        by_uid.into_values().cloned().collect()
    }

    fn workload(&self, controller: Controller) -> WorkloadView {
        self.workloads.get(&controller.uid).cloned().unwrap_or_else(|| {
            above(&controller, self.replica_sets.values()).unwrap_or_else(|| {
                let unknown = UnknownSize::of_unseen(&controller);
                WorkloadView::of_unknown_size(controller, unknown)
            })
        })
    }
}

/// A workload of a kind that the agent does not read, as its ReplicaSets show it. Its size is the
/// sum of their sizes. Its template is made of the templates of those ReplicaSets that want Pods.
/// It is rolling out if more than one of them wants Pods. `None` if it controls no ReplicaSet.
pub fn above<'a>(
    controller: &Controller,
    replica_sets: impl IntoIterator<Item = &'a ReplicaSetView>,
) -> Option<WorkloadView> {
    let is_below =
        |set: &&ReplicaSetView| set.controller.as_ref().is_some_and(|above| above.uid == controller.uid);
    let below: Vec<&WorkloadView> =
        replica_sets.into_iter().filter(is_below).map(|set| &set.workload).collect();
    let desired = below.iter().map(|set| set.desired).reduce(|sum, next| sum?.checked_add(next?))?;
    let mut templates: Vec<&str> =
        below.iter().filter(|set| set.desired != Some(0)).filter_map(|set| set.template.as_deref()).collect();
    templates.sort_unstable();
    Some(WorkloadView {
        reference: controller.clone().into(),
        desired,
        unknown_size: None,
        template: (!templates.is_empty()).then(|| templates.join(" ")),
        rolling_out: templates.len() > 1,
        // The agent does not read the workload's own annotations. The workload's controller copies
        // them to its ReplicaSets.
        exclusions: below.iter().flat_map(|set| set.exclusions.clone()).collect(),
    })
}

#[cfg(test)]
pub(crate) mod examples {
    use super::*;

    /// 2026-11-23 12:00 UTC, the current time in these examples.
    pub(crate) fn noon() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    pub(crate) fn controller(kind: &str, name: &str) -> Controller {
        Controller { kind: kind.to_owned(), name: name.to_owned(), uid: format!("{name}-uid") }
    }

    /// A Ready Pod of ReplicaSet `web-1` that is one hour old.
    pub(crate) fn pod(name: &str) -> PodView {
        PodView {
            name: name.to_owned(),
            uid: format!("{name}-uid"),
            version: 0,
            labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
            exclusion: None,
            narrows: None,
            controller: Some(controller("ReplicaSet", "web-1")),
            node: Some("node".to_owned()),
            ready: true,
            terminating: false,
            finished: false,
            created: "2026-11-23T11:00:00Z".parse().unwrap(),
            restarts: 0,
        }
    }

    pub(crate) fn workload(kind: &str, name: &str, desired: u32) -> WorkloadView {
        WorkloadView {
            reference: controller(kind, name).into(),
            desired: Some(desired),
            unknown_size: None,
            template: Some("template".to_owned()),
            rolling_out: false,
            exclusions: Vec::new(),
        }
    }

    /// Deployment `web` with ReplicaSet `web-1` and these Pods.
    pub(crate) fn deployment(pods: Vec<PodView>, desired: u32) -> NamespaceSnapshot {
        let web = workload("Deployment", "web", desired);
        let web_1 = ReplicaSetView {
            workload: workload("ReplicaSet", "web-1", desired),
            controller: Some(controller("Deployment", "web")),
        };
        NamespaceSnapshot {
            pods,
            workloads: BTreeMap::from([("web-uid".to_owned(), web)]),
            replica_sets: BTreeMap::from([("web-1-uid".to_owned(), web_1)]),
            budgets: Vec::new(),
            cordoned: BTreeSet::new(),
            zones: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests;
