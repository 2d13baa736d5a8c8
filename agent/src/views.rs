//! Plain values that hold only what the rules need of Kubernetes objects.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::core::{Selector, SelectorExt};
use policy::record::WorkloadReference;

/// The ownerReference of an object's controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl From<Controller> for WorkloadReference {
    fn from(controller: Controller) -> Self {
        let Controller { kind, name, uid } = controller;
        Self { kind, name, uid }
    }
}

/// A Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its labels, for `targets` and budgets' selectors.
    pub labels: BTreeMap<String, String>,
    /// Its annotations ask to be left alone.
    pub excluded: bool,
    /// Its controller.
    pub controller: Option<Controller>,
    /// The node it runs on.
    pub node: Option<String>,
    /// Condition Ready is True.
    pub ready: bool,
    /// It has a deletionTimestamp.
    pub terminating: bool,
    /// Its phase is Succeeded or Failed: it will never run again.
    pub finished: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Restarts of all its containers, init containers included.
    pub restarts: u64,
}

impl PodView {
    /// Ready as recovery counts it: a Pod that is being deleted isn't.
    #[must_use]
    pub fn counts_as_ready(&self) -> bool {
        self.ready && !self.terminating
    }

    /// It is being deleted or will never run again.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.terminating || self.finished
    }
}

/// A workload as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadView {
    /// Which one.
    pub reference: WorkloadReference,
    /// How many Pods it should have; `None` where that can't be told.
    pub desired: Option<u32>,
    /// A fingerprint of its Pod template; `None` where it has none of its own.
    pub template: Option<String>,
    /// Some of its Pods are still made from an older template, or its controller has not seen the newest yet.
    pub rolling_out: bool,
}

/// A ReplicaSet: a workload itself, or the step between a Pod and its workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSetView {
    /// As a workload of its own.
    pub workload: WorkloadView,
    /// What controls it.
    pub controller: Option<Controller>,
}

/// A PodDisruptionBudget.
#[derive(Debug, Clone)]
pub struct BudgetView {
    /// The Pods it covers; `None` for a selector that isn't understood, which then covers all.
    pub selector: Option<Selector>,
    /// Whether its status says that nothing may be disrupted.
    pub exhausted: bool,
}

impl BudgetView {
    /// Whether an eviction of this Pod would be refused by this budget.
    #[must_use]
    pub fn blocks(&self, pod: &PodView) -> bool {
        self.exhausted && self.selector.as_ref().is_none_or(|selector| selector.matches(&pod.labels))
    }
}

/// A namespace's Pods and what they belong to, listed live.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// All its Pods.
    pub pods: Vec<PodView>,
    /// Its Deployments, StatefulSets and DaemonSets by UID.
    pub workloads: BTreeMap<String, WorkloadView>,
    /// Its ReplicaSets by UID.
    pub replica_sets: BTreeMap<String, ReplicaSetView>,
    /// Its PodDisruptionBudgets.
    pub budgets: Vec<BudgetView>,
    /// The cluster's cordoned nodes; none where nodes may not be read.
    pub cordoned: BTreeSet<String>,
}

impl Observation {
    /// The workload of a Pod: its controller or, if that is a ReplicaSet with a controller, that one; no higher.
    #[must_use]
    pub fn workload_of(&self, pod: &PodView) -> Option<WorkloadView> {
        let controller = pod.controller.clone()?;
        let Some(replica_set) = self.replica_sets.get(&controller.uid) else {
            return Some(self.workload(controller));
        };
        Some(match &replica_set.controller {
            Some(above) => self.workload(above.clone()),
            None => replica_set.workload.clone(),
        })
    }

    /// Whether a workload has as many Ready Pods as it wants, all of the newest template; `None` if it has no Pods here and isn't known.
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

    /// A kind that isn't known is as large as its ReplicaSets together, and rolls out while more than one of them has Pods to have;
    /// without any, its size is unknown.
    fn workload(&self, controller: Controller) -> WorkloadView {
        if let Some(known) = self.workloads.get(&controller.uid) {
            return known.clone();
        }
        let below = self
            .replica_sets
            .values()
            .filter(|set| set.controller.as_ref().is_some_and(|above| above.uid == controller.uid));
        let sizes: Vec<Option<u32>> = below.map(|set| set.workload.desired).collect();
        let rolling_out = sizes.iter().filter(|size| **size != Some(0)).count() > 1;
        let desired = sizes.into_iter().reduce(|sum, next| sum?.checked_add(next?)).flatten();
        WorkloadView { reference: controller.into(), desired, template: None, rolling_out }
    }
}

#[cfg(test)]
pub(crate) mod examples {
    use super::*;

    /// 2026-11-23 12:00 UTC, the "now" of these examples.
    pub(crate) fn noon() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    pub(crate) fn controller(kind: &str, name: &str) -> Controller {
        Controller { kind: kind.to_owned(), name: name.to_owned(), uid: format!("{name}-uid") }
    }

    /// A Ready Pod of ReplicaSet `web-1`, an hour old.
    pub(crate) fn pod(name: &str) -> PodView {
        PodView {
            name: name.to_owned(),
            uid: format!("{name}-uid"),
            labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
            excluded: false,
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
            template: Some("template".to_owned()),
            rolling_out: false,
        }
    }

    /// Deployment `web` with ReplicaSet `web-1` and these Pods.
    pub(crate) fn deployment(pods: Vec<PodView>, desired: u32) -> Observation {
        let web = workload("Deployment", "web", desired);
        let web_1 = ReplicaSetView {
            workload: workload("ReplicaSet", "web-1", desired),
            controller: Some(controller("Deployment", "web")),
        };
        Observation {
            pods,
            workloads: BTreeMap::from([("web-uid".to_owned(), web)]),
            replica_sets: BTreeMap::from([("web-1-uid".to_owned(), web_1)]),
            budgets: Vec::new(),
            cordoned: BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::examples::*;
    use super::*;

    #[test]
    fn a_pod_belongs_to_what_controls_its_replica_set() {
        let observation = deployment(vec![pod("a")], 3);
        let workload = observation.workload_of(&observation.pods[0]).unwrap();
        assert_eq!((workload.reference.kind.as_str(), workload.desired), ("Deployment", Some(3)));
    }

    #[test]
    fn a_bare_replica_set_is_a_workload_and_a_bare_pod_has_none() {
        let mut observation = deployment(vec![pod("a")], 3);
        observation.replica_sets.get_mut("web-1-uid").unwrap().controller = None;
        assert_eq!(observation.workload_of(&pod("a")).unwrap().reference.kind, "ReplicaSet");
        assert_eq!(observation.workload_of(&PodView { controller: None, ..pod("a") }), None);
    }

    #[test]
    fn health_is_what_is_wanted_and_ready() {
        let ill = PodView { ready: false, ..pod("b") };
        for (pods, expected) in
            [(vec![pod("a"), pod("b")], true), (vec![pod("a"), ill], false), (vec![], false)]
        {
            assert_eq!(deployment(pods, 2).is_healthy("web-uid"), Some(expected));
        }
        let mut rolling = deployment(vec![pod("a"), pod("b")], 2);
        rolling.workloads.get_mut("web-uid").unwrap().rolling_out = true;
        assert_eq!(rolling.is_healthy("web-uid"), Some(false));
        assert_eq!(rolling.is_healthy("another-uid"), None);
    }

    #[test]
    fn an_unknown_kind_is_as_large_as_its_replica_sets() {
        let mut observation = deployment(vec![], 3);
        for (name, desired) in [("r-1", 2), ("r-2", 1)] {
            let set = ReplicaSetView {
                workload: workload("ReplicaSet", name, desired),
                controller: Some(controller("Rollout", "r")),
            };
            observation.replica_sets.insert(format!("{name}-uid"), set);
        }
        let of = |kind, name| {
            observation.workload_of(&PodView { controller: Some(controller(kind, name)), ..pod("a") })
        };
        let rollout = of("ReplicaSet", "r-1").unwrap();
        assert_eq!((rollout.desired, rollout.rolling_out), (Some(3), true));
        observation.replica_sets.get_mut("r-2-uid").unwrap().workload.desired = Some(0);
        let of = |kind, name| {
            observation.workload_of(&PodView { controller: Some(controller(kind, name)), ..pod("a") })
        };
        assert!(!of("ReplicaSet", "r-1").unwrap().rolling_out, "the other one has no Pods any more");
        assert_eq!(of("CloneSet", "c").unwrap().desired, None);
    }
}
