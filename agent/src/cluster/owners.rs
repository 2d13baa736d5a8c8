//! Finds the workload of a watched Pod. The controller of a ReplicaSet never changes, so the agent
//! reads it only once.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::{Api, Client, Resource};
use policy::record::WorkloadReference;
use runtime::client::call;

use crate::cluster::list::list;
use crate::cluster::pods::controller;
use crate::cluster::snapshot::{Controller, PodView, ReplicaSetView};
use crate::cluster::workloads::{Slim, replica_set};

/// The workloads above ReplicaSets, by the UID of the ReplicaSet.
#[derive(Debug)]
pub struct OwnerCache {
    replica_sets: Api<Slim<ReplicaSet>>,
    above: BTreeMap<String, WorkloadReference>,
}

impl OwnerCache {
    /// An empty cache for this namespace.
    #[must_use]
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self { replica_sets: Api::namespaced(client.clone(), namespace), above: BTreeMap::new() }
    }

    /// Takes over listed ReplicaSets. Forgets all others, except those that control one of these
    /// Pods.
    pub fn learn<'a>(
        &mut self,
        replica_sets: impl IntoIterator<Item = &'a ReplicaSetView>,
        pods: impl Iterator<Item = &'a PodView>,
    ) {
        let kept: BTreeSet<&str> = pods.filter_map(replica_set_of).map(|owner| owner.uid.as_str()).collect();
        self.above.retain(|uid, _| kept.contains(uid.as_str()));
        self.above.extend(replica_sets.into_iter().map(|set| {
            let itself = &set.workload.reference;
            let above = set.controller.clone().map_or_else(|| itself.clone(), Into::into);
            (itself.uid.clone(), above)
        }));
    }

    /// Lists the ReplicaSets of the namespace. If many Pods are new, this takes only one call.
    pub async fn list<'a>(
        &mut self,
        client: &Client,
        namespace: &str,
        pods: impl Iterator<Item = &'a PodView>,
    ) {
        match list::<Slim<ReplicaSet>>(client, namespace).await {
            Ok(sets) => {
                let pods: Vec<&PodView> = pods.collect();
                self.learn(&sets.iter().map(replica_set).collect::<Vec<_>>(), pods.iter().copied());
                // A ReplicaSet that is not in the list is gone, so its controller can't be found
                // any more. The ReplicaSet itself counts as the workload.
                for owner in pods.into_iter().filter_map(replica_set_of) {
                    self.above.entry(owner.uid.clone()).or_insert_with(|| owner.clone().into());
                }
            }
            Err(error) => {
                tracing::warn!(namespace, error = %error, "failed to list the ReplicaSets of the Pods")
            }
        }
    }

    /// Whether the agent has to read the Pod's ReplicaSet to find its workload.
    #[must_use]
    pub fn is_unknown(&self, pod: &PodView) -> bool {
        replica_set_of(pod).is_some_and(|owner| !self.above.contains_key(&owner.uid))
    }

    /// The workload of the Pod, if it is known without a read.
    #[must_use]
    pub fn known(&self, pod: &PodView) -> Option<WorkloadReference> {
        let owner = pod.controller.clone()?;
        if owner.kind == "ReplicaSet" { self.above.get(&owner.uid).cloned() } else { Some(owner.into()) }
    }

    /// The workload of the Pod. `None` if the Pod has no controller or a read failed.
    pub async fn workload_of(&mut self, pod: &PodView) -> Option<WorkloadReference> {
        if let Some(known) = self.known(pod) {
            return Some(known);
        }
        let owner = pod.controller.clone()?;
        match call(self.replica_sets.get_opt(&owner.name)).await {
            Ok(Some(set)) if set.meta().uid.as_deref() == Some(&owner.uid) => {
                let workload: WorkloadReference =
                    controller(set.meta()).map_or_else(|| owner.clone().into(), Into::into);
                self.above.insert(owner.uid, workload.clone());
                Some(workload)
            }
            Ok(_) => {
                // The ReplicaSet is gone, so its controller can't be found any more. The ReplicaSet
                // itself counts as the workload.
                let itself: WorkloadReference = owner.clone().into();
                self.above.insert(owner.uid, itself.clone());
                Some(itself)
            }
            Err(error) => {
                tracing::debug!(pod = pod.name, error = %error, "failed to read the ReplicaSet of a Pod");
                None
            }
        }
    }
}

fn replica_set_of(pod: &PodView) -> Option<&Controller> {
    pod.controller.as_ref().filter(|owner| owner.kind == "ReplicaSet")
}
