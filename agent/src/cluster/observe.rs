//! Reads the objects of a namespace live for a round. Nothing here comes from a cache.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Node, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::core::{PartialObjectMeta, Selector};
use kube::{Api, Client, ResourceExt};
use policy::custom_workloads::CustomWorkloads;

use crate::cluster::custom_workloads;
use crate::cluster::list::{LOOK_DEADLINE, ListError, list, list_all};
use crate::cluster::pods::SlimPod;
use crate::cluster::snapshot::{BudgetView, NamespaceSnapshot, PodView, WorkloadView, ZONE};
use crate::cluster::workloads::{Kind, Slim, replica_sets};

/// What to read of the cluster's nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nodes {
    /// Which nodes are cordoned.
    pub cordoned: bool,
    /// In which zone each node is.
    pub zones: bool,
}

/// Lists the Pods, workloads and PodDisruptionBudgets of a namespace, and what `nodes` asks for. Also
/// reads the owners of its Pods that are of a listed `custom` kind.
///
/// # Errors
/// When any of the lists can't be completed in time. Then nothing may be decided. A custom workload
/// that can't be read only has no known size.
pub async fn observe(
    client: &Client,
    namespace: &str,
    nodes: Nodes,
    custom: &CustomWorkloads,
) -> Result<NamespaceSnapshot, ListError> {
    let lists = tokio::time::timeout(LOOK_DEADLINE, list_each(client, namespace, nodes));
    let mut snapshot = lists.await.unwrap_or(Err(ListError::TooSlow))?;
    let owners = custom_workloads::read_owners(client, namespace, custom, snapshot.unread()).await;
    snapshot.workloads.extend(owners);
    Ok(snapshot)
}

async fn list_each(client: &Client, namespace: &str, nodes: Nodes) -> Result<NamespaceSnapshot, ListError> {
    let (pods, deployments, stateful_sets, daemon_sets, controllers, replica_sets, budgets, cordoned, zones) =
        tokio::try_join!(
            list::<SlimPod>(client, namespace),
            workloads::<Deployment>(client, namespace),
            workloads::<StatefulSet>(client, namespace),
            workloads::<DaemonSet>(client, namespace),
            workloads::<ReplicationController>(client, namespace),
            replica_sets(client, namespace),
            list::<PodDisruptionBudget>(client, namespace),
            cordoned(client, nodes.cordoned),
            zones(client, nodes.zones),
        )?;
    let workloads = [deployments, stateful_sets, daemon_sets, controllers].into_iter().flatten();
    Ok(NamespaceSnapshot {
        pods: pods.into_iter().map(PodView::from).collect(),
        workloads: workloads.map(|workload| (workload.reference.uid.clone(), workload)).collect(),
        replica_sets: replica_sets.into_iter().map(|set| (set.workload.reference.uid.clone(), set)).collect(),
        budgets: budgets.iter().filter_map(budget).collect(),
        cordoned,
        zones,
    })
}

async fn workloads<K: Kind>(client: &Client, namespace: &str) -> Result<Vec<WorkloadView>, ListError> {
    Ok(list::<Slim<K>>(client, namespace).await?.iter().map(Slim::view).collect())
}

async fn cordoned(client: &Client, may_read: bool) -> Result<BTreeSet<String>, ListError> {
    if !may_read {
        return Ok(BTreeSet::new());
    }
    let only = ListParams::default().fields("spec.unschedulable=true");
    let nodes = list_all::<PartialObjectMeta<Node>>(&Api::all(client.clone()), only).await?;
    Ok(nodes.iter().map(ResourceExt::name_any).collect())
}

async fn zones(client: &Client, is_asked: bool) -> Result<BTreeMap<String, String>, ListError> {
    if !is_asked {
        return Ok(BTreeMap::new());
    }
    let only = ListParams::default().labels(ZONE);
    let nodes = list_all::<PartialObjectMeta<Node>>(&Api::all(client.clone()), only).await?;
    let zone = |node: &PartialObjectMeta<Node>| Some((node.name_any(), node.labels().get(ZONE)?.clone()));
    Ok(nodes.iter().filter_map(zone).collect())
}

/// The view of a PodDisruptionBudget. `None` if it has no selector, because it then covers no Pod.
/// If its status is out of date, the API server decides about the eviction.
fn budget(budget: &PodDisruptionBudget) -> Option<BudgetView> {
    let selector = budget.spec.as_ref()?.selector.clone()?;
    let status = budget.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation) >= budget.metadata.generation;
    Some(BudgetView {
        selector: Selector::try_from(selector).ok(),
        exhausted: observed && status.is_some_and(|status| status.disruptions_allowed.unwrap_or(0) <= 0),
    })
}
