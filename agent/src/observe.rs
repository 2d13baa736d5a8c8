//! The live look at a namespace that a round decides on: nothing here comes from a cache.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::core::{PartialObjectMeta, Selector};
use kube::{Api, Client, ResourceExt};
use policy::eligibility::NamespaceView;
use policy::keys::SYSTEM_NAMESPACE;
use policy::lock::halt;
use policy::platform::PlatformPolicy;
use policy::record::{OptInSpec, Verdict};
use policy::settings::Settings;
use runtime::client::{CallError, call};
use serde::de::DeserializeOwned;

use crate::permission::{Forbidden, not_admitted, permitted};
use crate::pods::{PAGE, SlimPod};
use crate::refusal::Refusal;
use crate::views::{BudgetView, Observation, PodView};
use crate::workloads::{Workload, replica_set};

/// More pages than this means that the list does not end: 100,000 objects in one namespace.
const MOST_PAGES: usize = 1_000;

/// A list that couldn't be completed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The API server gave no usable answer.
    #[error("failed to list {what}: {cause}")]
    Call {
        /// The plural of what was listed.
        what: String,
        /// The client's error.
        cause: CallError,
    },
    /// The list did not end.
    #[error("failed to list {0}: more than {MOST_PAGES} pages")]
    Endless(String),
}

impl ObserveError {
    /// Whether a right is missing.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Call { cause, .. } if cause.code() == Some(403))
    }
}

/// The two Namespaces that decide: the one in question, and `pure-chaos` for its halt. Either can be unreadable.
#[derive(Debug)]
pub struct Authority {
    name: String,
    namespace: Result<NamespaceView, CallError>,
    system: Option<NamespaceView>,
}

/// Why nothing may be killed in a namespace.
#[derive(Debug)]
pub enum NotPermitted {
    /// A guard refuses.
    Refused(Forbidden),
    /// The Namespace couldn't be read, so nobody knows.
    Unreadable(String),
}

impl Authority {
    /// Whether the live Namespaces permit a kill under this record at `now`.
    ///
    /// # Errors
    /// [`NotPermitted`].
    pub fn permits(
        self,
        record: &OptInSpec,
        policy: &PlatformPolicy,
        now: Timestamp,
    ) -> Result<Settings, NotPermitted> {
        let Self { name, namespace, system } = self;
        let namespace = namespace.map_err(|error| {
            let sentence = format!("failed to read namespace {name}: {error}");
            let refused = |refusal| NotPermitted::Refused(Forbidden { refusal, sentence: sentence.clone() });
            match error.code() {
                // The halt comes first, whatever else is wrong.
                _ if system.as_ref().is_none_or(|system| halt(system).is_some()) => refused(Refusal::Halted),
                // Without an admission there are no rights either.
                Some(403) if record.verdict != Verdict::Admitted => {
                    NotPermitted::Refused(not_admitted(&name))
                }
                Some(403) => refused(Refusal::NoRights),
                Some(404) => refused(Refusal::NamespaceTerminating),
                _ => NotPermitted::Unreadable(sentence),
            }
        })?;
        permitted(record, &namespace, system.as_ref(), policy, now).map_err(NotPermitted::Refused)
    }
}

/// Reads both Namespaces live.
pub async fn authority(client: &Client, namespace: &str) -> Authority {
    let (live, system) =
        tokio::join!(read_namespace(client, namespace), read_namespace(client, SYSTEM_NAMESPACE));
    Authority { name: namespace.to_owned(), namespace: live, system: system.ok() }
}

/// Reads one Namespace live.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn read_namespace(client: &Client, name: &str) -> Result<NamespaceView, CallError> {
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace = call(api.get(name)).await?;
    Ok(NamespaceView {
        name: namespace.name_any(),
        uid: namespace.uid().unwrap_or_default(),
        terminating: namespace.metadata.deletion_timestamp.is_some(),
        annotations: namespace.metadata.annotations.unwrap_or_default(),
    })
}

/// Lists a namespace's Pods, workloads and budgets, and if `nodes` may be read those that are cordoned.
///
/// # Errors
/// When any of the lists can't be completed: then nothing may be decided.
pub async fn observe(client: &Client, namespace: &str, nodes: bool) -> Result<Observation, ObserveError> {
    let (pods, deployments, stateful_sets, daemon_sets, replica_sets, budgets, cordoned) = tokio::try_join!(
        list::<SlimPod>(client, namespace),
        list::<Deployment>(client, namespace),
        list::<StatefulSet>(client, namespace),
        list::<DaemonSet>(client, namespace),
        list::<ReplicaSet>(client, namespace),
        list::<PodDisruptionBudget>(client, namespace),
        cordoned(client, nodes),
    )?;
    let workloads = deployments
        .iter()
        .map(Workload::view)
        .chain(stateful_sets.iter().map(Workload::view))
        .chain(daemon_sets.iter().map(Workload::view));
    Ok(Observation {
        pods: pods.iter().map(PodView::from).collect(),
        workloads: workloads.map(|workload| (workload.reference.uid.clone(), workload)).collect(),
        replica_sets: replica_sets
            .iter()
            .map(replica_set)
            .map(|set| (set.workload.reference.uid.clone(), set))
            .collect(),
        budgets: budgets.iter().filter_map(budget).collect(),
        cordoned,
    })
}

async fn cordoned(client: &Client, may_read: bool) -> Result<BTreeSet<String>, ObserveError> {
    if !may_read {
        return Ok(BTreeSet::new());
    }
    let only = ListParams::default().fields("spec.unschedulable=true");
    let nodes = list_all::<PartialObjectMeta<Node>>(&Api::all(client.clone()), only).await?;
    Ok(nodes.iter().map(ResourceExt::name_any).collect())
}

/// A budget that selects nothing covers nothing; one whose status lags leaves the answer to the API server.
fn budget(budget: &PodDisruptionBudget) -> Option<BudgetView> {
    let selector = budget.spec.as_ref()?.selector.clone()?;
    let status = budget.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation) >= budget.metadata.generation;
    Some(BudgetView {
        selector: Selector::try_from(selector).ok(),
        exhausted: observed && status.is_some_and(|status| status.disruptions_allowed.unwrap_or(0) <= 0),
    })
}

/// Lists all objects of a kind in a namespace, page by page.
///
/// # Errors
/// When the list can't be completed.
pub async fn list<K>(client: &Client, namespace: &str) -> Result<Vec<K>, ObserveError>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    list_all(&Api::namespaced(client.clone(), namespace), ListParams::default()).await
}

/// Lists all objects that an [`Api`] and these parameters are about, page by page.
///
/// # Errors
/// When the list can't be completed.
pub async fn list_all<K>(api: &Api<K>, parameters: ListParams) -> Result<Vec<K>, ObserveError>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let what = || K::plural(&()).into_owned();
    let mut parameters = parameters.limit(PAGE);
    let mut all = Vec::new();
    for _ in 0..MOST_PAGES {
        let page =
            call(api.list(&parameters)).await.map_err(|cause| ObserveError::Call { what: what(), cause })?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(all),
        }
    }
    Err(ObserveError::Endless(what()))
}
