//! Which workload a watched Pod belongs to. A ReplicaSet's controller never changes, so it is asked for once.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::{Api, Client};
use policy::record::WorkloadReference;
use runtime::client::call;

use crate::observe;
use crate::pods::controller;
use crate::views::{PodView, ReplicaSetView};
use crate::workloads::replica_set;

/// The workloads above ReplicaSets, by the ReplicaSet's UID.
#[derive(Debug)]
pub struct Lineage {
    replica_sets: Api<ReplicaSet>,
    above: BTreeMap<String, WorkloadReference>,
}

impl Lineage {
    /// Knows nothing yet of this namespace.
    #[must_use]
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self { replica_sets: Api::namespaced(client.clone(), namespace), above: BTreeMap::new() }
    }

    /// Takes over what a round saw, and forgets ReplicaSets that are gone.
    pub fn learn<'a>(&mut self, replica_sets: impl Iterator<Item = &'a ReplicaSetView>) {
        self.above = replica_sets
            .map(|set| {
                let itself = &set.workload.reference;
                let above = set.controller.clone().map_or_else(|| itself.clone(), Into::into);
                (itself.uid.clone(), above)
            })
            .collect();
    }

    /// Lists the ReplicaSets anew: one call where many Pods are new.
    pub async fn list(&mut self, client: &Client, namespace: &str) {
        match observe::list::<ReplicaSet>(client, namespace).await {
            Ok(sets) => self.learn(sets.iter().map(replica_set).collect::<Vec<_>>().iter()),
            Err(error) => tracing::warn!(namespace, error = %error, "the Pods' workloads are not known yet"),
        }
    }

    /// The Pod's workload as far as it is known without asking.
    #[must_use]
    pub fn known(&self, pod: &PodView) -> Option<WorkloadReference> {
        let owner = pod.controller.clone()?;
        if owner.kind == "ReplicaSet" { self.above.get(&owner.uid).cloned() } else { Some(owner.into()) }
    }

    /// The Pod's workload; `None` if it has none, or it can't be found out.
    pub async fn workload_of(&mut self, pod: &PodView) -> Option<WorkloadReference> {
        if let Some(known) = self.known(pod) {
            return Some(known);
        }
        let owner = pod.controller.clone()?;
        match call(self.replica_sets.get_opt(&owner.name)).await {
            Ok(Some(set)) if set.metadata.uid.as_deref() == Some(&owner.uid) => {
                let workload: WorkloadReference =
                    controller(&set.metadata).map_or_else(|| owner.clone().into(), Into::into);
                self.above.insert(owner.uid, workload.clone());
                Some(workload)
            }
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(pod = pod.name, error = %error, "failed to read the ReplicaSet of a Pod");
                None
            }
        }
    }
}
